//! Tags: compare-and-set, what was there before, and pages in byte order.

use orlop::oci::Reference;
use orlop::{Digest, ErrorKind, Expect, Repository};

use crate::support::*;

fn three(here: &Repository) -> [Digest; 3] {
    ["a", "b", "c"].map(|seed| image(seed, 1).push(here, &[]))
}

#[test]
fn compare_and_set_decides_by_what_is_there() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let [a, b, c] = three(&here);
    let name = tag("v1");
    // (what is there, what is expected, whether it goes through)
    let table = [
        (None, Expect::Any, true),
        (None, Expect::Absent, true),
        (None, Expect::Is(a), false),
        (Some(a), Expect::Any, true),
        (Some(a), Expect::Absent, false),
        (Some(a), Expect::Is(a), true),
        (Some(a), Expect::Is(b), false),
        (Some(a), Expect::Is(c), false),
    ];
    for (before, expect, goes) in table {
        for target in [Some(a), Some(b), None] {
            here.untag(&name, Expect::Any).unwrap();
            if let Some(before) = before {
                here.tag(&name, &before, Expect::Any).unwrap();
            }
            let result = match target {
                Some(target) => here.tag(&name, &target, expect),
                None => here.untag(&name, expect),
            };
            let now = here.resolve(&name).unwrap().map(|found| found.digest);
            if goes {
                assert_eq!(result.unwrap(), before, "{before:?} {expect:?}");
                assert_eq!(now, target);
            } else {
                let current = before.map(|digest| digest.to_string());
                let values: Vec<&str> = current.iter().map(String::as_str).chain(["v1"]).collect();
                fails(result, ErrorKind::Conflict, &values);
                assert_eq!(now, before);
            }
        }
    }
}

#[test]
fn a_tag_needs_a_manifest_of_its_repository() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let content = here.push_bytes(&b"content and no manifest"[..]).unwrap().digest;
    let elsewhere = image("elsewhere", 1).push(&repo(&store, "other"), &[]);
    let before = describe(&store);
    for digest in [absent(), content, elsewhere] {
        fails(here.tag(&tag("v1"), &digest, Expect::Any), ErrorKind::NotFound, &[&digest.to_string()]);
        assert!(here.resolve(&tag("v1")).unwrap().is_none());
    }
    assert_eq!(describe(&store), before);
}

#[test]
fn moving_a_tag_moves_what_names_a_manifest() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let [a, b, _] = three(&here);
    for name in ["v1", "v2", "latest"] {
        assert_eq!(here.tag(&tag(name), &a, Expect::Absent).unwrap(), None);
    }
    assert_eq!(here.tag(&tag("latest"), &b, Expect::Is(a)).unwrap(), Some(a));
    let names = |digest| here.tags_of(digest).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names(&a), names(&b)), (vec!["v1".to_owned(), "v2".to_owned()], vec!["latest".to_owned()]));
    assert_eq!(here.untag(&tag("v1"), Expect::Any).unwrap(), Some(a));
    assert_eq!(here.untag(&tag("v1"), Expect::Any).unwrap(), None);
    assert_eq!(names(&a), ["v2"]);
    assert!(here.manifest(&a).unwrap().is_some(), "untagging removed the manifest");
    assert_eq!(names(&absent()), [""; 0]);
}

#[test]
fn references_resolve_by_tag_and_by_digest() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let [a, b, _] = three(&here);
    here.tag(&tag("v1"), &a, Expect::Any).unwrap();
    let resolve = |text: &str| {
        let found = here.resolve_reference(&text.parse::<Reference>().unwrap()).unwrap();
        found.map(|found| (found.digest, found.media_type))
    };
    assert_eq!(resolve("v1"), Some((a, IMAGE.to_owned())));
    assert_eq!(resolve(&b.to_string()), Some((b, IMAGE.to_owned())));
    assert_eq!(resolve("v2"), None);
    assert_eq!(resolve(&absent().to_string()), None);
    let described = here.resolve(&tag("v1")).unwrap().unwrap();
    assert_eq!(described.size, image("a", 1).bytes.len() as u64);
}

#[test]
fn pages_follow_byte_order_from_any_cursor() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let [a, ..] = three(&here);
    let longest = "z".repeat(128);
    let mut names = vec![
        "a", "B", "_x", "a.b", "a-b", "ab", "Z1", "0", "10", "9", "A", "b", "zz", "Zz", "_", "a_b", &longest,
    ];
    for name in &names {
        here.tag(&tag(name), &a, Expect::Absent).unwrap();
    }
    // Neighbours in other repositories do not show.
    let other = repo(&store, "a");
    image("a", 1).push(&other, &["aa", "zzz"]);
    names.sort_unstable();
    for limit in 1..=names.len() + 1 {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let page = here.tags(listed.last().map(String::as_str), limit).unwrap();
            assert!(page.items.len() <= limit);
            listed.extend(page.items.iter().map(|entry| entry.tag.to_string()));
            assert_eq!(page.more, listed.len() < names.len(), "limit {limit}");
            assert!(page.items.iter().all(|entry| entry.digest == a));
            if !page.more {
                break;
            }
        }
        assert_eq!(listed, names, "limit {limit}");
    }
    // A cursor that is there, one deleted since, ones that never were, one that is no tag at all.
    here.untag(&tag("a.b"), Expect::Any).unwrap();
    names.retain(|name| *name != "a.b");
    for cursor in ["a.b", "a", "", "0", "zzz", "a0", "Zz", "~", "\u{e9}", "a/b", "  ", &"z".repeat(500)] {
        let page = here.tags(Some(cursor), 100).unwrap();
        let expected: Vec<&str> =
            names.iter().copied().filter(|name| name.as_bytes() > cursor.as_bytes()).collect();
        let found: Vec<&str> = page.items.iter().map(|entry| entry.tag.as_str()).collect();
        assert_eq!(found, expected, "after {cursor:?}");
        assert!(!page.more);
    }
    for after in [None, Some("a")] {
        let page = here.tags(after, 0).unwrap();
        assert!(page.items.is_empty() && !page.more);
    }
    // A limit is no reservation.
    assert_eq!(here.tags(None, usize::MAX).unwrap().items.len(), names.len());
}

#[test]
fn one_of_many_threads_wins_a_compare_and_set() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let digests: Vec<Digest> = (0..8).map(|n| image(&format!("{n}"), 1).push(&here, &[])).collect();
    for round in 0..20 {
        let name = tag(&format!("round-{round}"));
        let won: Vec<Digest> = std::thread::scope(|scope| {
            let (here, name) = (&here, &name);
            let threads: Vec<_> = digests
                .iter()
                .map(|digest| {
                    scope.spawn(move || here.tag(name, digest, Expect::Absent).ok().map(|_| *digest))
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(here.resolve(&name).unwrap().unwrap().digest, won[0]);
    }
}

#[test]
fn a_counter_of_compare_and_sets_loses_no_step() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let digests: Vec<Digest> = (0..41).map(|n| image(&format!("{n}"), 1).push(&here, &[])).collect();
    let name = tag("counter");
    here.tag(&name, &digests[0], Expect::Absent).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut steps = 0;
                while steps < 10 {
                    let now = here.resolve(&name).unwrap().unwrap().digest;
                    let at = digests.iter().position(|digest| *digest == now).unwrap();
                    if here.tag(&name, &digests[at + 1], Expect::Is(now)).is_ok() {
                        steps += 1;
                    }
                }
            });
        }
    });
    assert_eq!(here.resolve(&name).unwrap().unwrap().digest, digests[40]);
}
