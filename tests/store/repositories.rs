//! Repositories: what each shows, mounting, listing, deletion.

use std::fs;

use orlop::oci::RepositoryName;
use orlop::{ErrorKind, Expect, Store};

use crate::support::*;

fn names(store: &Store) -> Vec<String> {
    all(|after: Option<&RepositoryName>| {
        let page = store.repositories(after, 2).unwrap();
        (page.items, page.more)
    })
    .iter()
    .map(ToString::to_string)
    .collect()
}

#[test]
fn a_repository_shows_only_what_was_pushed_into_it() {
    let (dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let image = image("a", 2);
    let digest = image.push(&a, &["v1"]);
    let check = |store: &Store| {
        let b = repo(store, "b");
        assert!(b.manifest(&digest).unwrap().is_none());
        assert!(b.resolve(&tag("v1")).unwrap().is_none());
        assert!(b.successors(&digest).unwrap().is_none());
        for blob in image.blobs() {
            let digest = digest_of(blob);
            assert!(b.get(&digest).unwrap().is_none() && b.stat(&digest).unwrap().is_none());
            assert!(b.reader(&digest).unwrap().is_none() && b.range(&digest, 0..1).unwrap().is_none());
            assert!(repo(store, "a").get(&digest).unwrap().is_some());
            assert!(store.unscoped().get(&digest).unwrap().is_some());
            assert_eq!(store.unscoped().holders(&digest).unwrap(), [name("a")]);
        }
        assert_eq!(contents(&b).len(), 0);
    };
    check(&store);
    store.flush().unwrap();
    check(&store);
    drop((a, b));
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    check(&store);
    let reader = options().open_read_only(dir.root()).unwrap();
    check(&reader);
}

#[test]
fn pushing_what_another_repository_holds_stores_it_once_and_shows_it_in_both() {
    let (dir, store) = fresh();
    let bytes = noise(1, 100_000);
    let digest = repo(&store, "a").push_bytes(bytes.clone()).unwrap().digest;
    let before = tree(&dir.root().join("blobs"));
    repo(&store, "b").push_bytes(bytes.clone()).unwrap();
    assert_eq!(tree(&dir.root().join("blobs")), before);
    assert!(repo(&store, "b").get(&digest).unwrap().unwrap()[..] == bytes[..]);
    assert_eq!(store.unscoped().holders(&digest).unwrap(), [name("a"), name("b")]);
}

#[test]
fn mounting_needs_a_source_that_holds_it() {
    let (dir, store) = fresh();
    let (a, b, c) = (repo(&store, "a"), repo(&store, "b"), repo(&store, "c"));
    for size in [100, 100_000] {
        let bytes = noise(size as u64, size);
        let digest = a.push_bytes(bytes.clone()).unwrap().digest;
        assert!(b.mount(&c, &digest).unwrap().is_none());
        assert!(b.get(&digest).unwrap().is_none());
        let mounted = b.mount(&a, &digest).unwrap().unwrap();
        assert_eq!((mounted.digest, mounted.size), (digest, size as u64));
        assert!(b.get(&digest).unwrap().unwrap()[..] == bytes[..]);
        assert!(c.get(&digest).unwrap().is_none());
        // Again, to itself, and on from where it was mounted.
        assert!(b.mount(&a, &digest).unwrap().unwrap().existed);
        assert!(a.mount(&a, &digest).unwrap().unwrap().existed);
        assert!(c.mount(&b, &digest).unwrap().is_some());
        assert!(b.mount(&a, &absent()).unwrap().is_none());
    }
    drop((a, b, c));
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(contents(&repo(&store, "c")).len(), 2);
}

#[test]
fn mounting_between_stores_is_refused() {
    let (_one, store) = fresh();
    let (_two, other) = fresh();
    let digest = repo(&other, "a").push_bytes(&b"elsewhere"[..]).unwrap().digest;
    let result = repo(&store, "a").mount(&repo(&other, "a"), &digest);
    assert!(result.is_err(), "content of another store was mounted");
    assert!(repo(&store, "a").get(&digest).unwrap().is_none());
}

#[test]
fn repositories_are_listed_in_byte_order_with_the_unnamed_one_first() {
    let (_dir, store) = fresh();
    assert_eq!(names(&store), [""; 0]);
    let mut expected = vec!["a", "a/b", "a-b", "a.b", "a__b", "b", "a/b/c", "zz/0", "0"];
    for repository in &expected {
        repo(&store, repository).push_bytes(&b"x"[..]).unwrap();
    }
    expected.sort_unstable();
    assert_eq!(names(&store), expected);
    store.default_repository().push_bytes(&b"x"[..]).unwrap();
    expected.insert(0, "");
    assert_eq!(names(&store), expected);
    for limit in 1..12 {
        let page = store.repositories(None, limit).unwrap();
        assert_eq!(page.items.len(), limit.min(expected.len()));
        assert_eq!(page.more, limit < expected.len());
    }
    let page = store.repositories(None, 0).unwrap();
    assert!(page.items.is_empty() && !page.more);
    let after = store.repositories(Some(&name("a-a")), 100).unwrap();
    assert_eq!(after.items.iter().map(|found| found.as_str()).collect::<Vec<_>>(), &expected[3..]);
}

#[test]
fn asking_a_repository_that_is_not_there_makes_none() {
    let (_dir, store) = fresh();
    let here = repo(&store, "nobody");
    assert!(here.get(&absent()).unwrap().is_none());
    assert!(here.tags(None, 10).unwrap().items.is_empty());
    assert!(here.manifests(None, 10).unwrap().items.is_empty());
    assert!(here.contents(None, 10).unwrap().items.is_empty());
    assert!(here.referrers(&absent()).page().unwrap().descriptors.is_empty());
    assert!(here.predecessors(&absent(), None, 10).unwrap().items.is_empty());
    assert_eq!(here.untag(&tag("v1"), Expect::Any).unwrap(), None);
    assert!(!here.exists().unwrap() && !store.default_repository().exists().unwrap());
    assert!(!store.delete_repository(&name("nobody")).unwrap());
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(here.name(), &name("nobody"));
    // It is there from the first push until it is deleted, whatever it holds then.
    let digest = here.push_bytes("x").unwrap().digest;
    assert!(here.exists().unwrap() && !store.default_repository().exists().unwrap());
    let mut batch = store.batch();
    batch.delete_blob(&here, &digest);
    batch.commit().unwrap();
    assert!(here.exists().unwrap());
    store.delete_repository(&name("nobody")).unwrap();
    assert!(!here.exists().unwrap());
}

#[test]
fn deleting_a_repository_takes_nothing_from_the_others() {
    let (dir, store) = fresh();
    let shared = image("shared", 2);
    let all_names = ["a", "a/b", "a-b", "b", ""];
    for repository in all_names {
        let here = repo(&store, repository);
        shared.push(&here, &["v1"]);
        referrer(&shared, "application/sig", repository).push(&here, &[]);
        here.push_bytes(format!("only in {repository}")).unwrap();
    }
    store.flush().unwrap();
    let before: Vec<String> = describe(&store).into_iter().filter(|line| !line.starts_with("a/ ")).collect();

    assert!(store.delete_repository(&name("a")).unwrap());
    assert!(!store.delete_repository(&name("a")).unwrap());
    assert_eq!(describe(&store).into_iter().collect::<Vec<_>>(), before);
    let gone = repo(&store, "a");
    assert!(
        gone.resolve(&tag("v1")).unwrap().is_none() && gone.manifest(&shared.digest()).unwrap().is_none()
    );
    assert!(gone.referrers(&shared.digest()).page().unwrap().descriptors.is_empty());
    assert_eq!(store.unscoped().holders(&shared.digest()).unwrap().len(), 4);
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    assert!(!layout.names().contains_key("a:v1"));
    assert_eq!(layout.names().len(), 4);

    // A new repository of that name is empty, before and after the store was open again.
    gone.push_bytes(&b"new life"[..]).unwrap();
    assert_eq!(contents(&gone).len(), 1);
    assert!(gone.get(&digest_of(b"only in a")).unwrap().is_none());
    drop(gone);
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(contents(&repo(&store, "a")).len(), 1);
    assert!(repo(&store, "a").resolve(&tag("v1")).unwrap().is_none());
    assert!(store.delete_repository(&name("")).unwrap());
    assert_eq!(names(&store), ["a", "a-b", "a/b", "b"]);
    store.flush().unwrap();
    assert_eq!(Layout::sound(&dir.root()).names().len(), 3);
}

#[test]
fn a_deleted_repository_does_not_come_back_from_index_json() {
    let (dir, store) = fresh();
    image("a", 1).push(&repo(&store, "a"), &["v1"]);
    image("b", 1).push(&repo(&store, "a"), &[]);
    image("c", 1).push(&repo(&store, "c"), &["v1"]);
    store.flush().unwrap();
    assert!(store.delete_repository(&name("a")).unwrap());
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert_eq!(names(&store), ["c"]);
    store.flush().unwrap();
    assert_eq!(names(&store), ["c"]);
    let layout = Layout::sound(&dir.root());
    assert_eq!((layout.names().len(), layout.untagged().len()), (1, 0), "{:?}", layout.entries);
}

#[test]
fn unscoped_reads_see_all_and_name_the_holders() {
    let (_dir, store) = fresh();
    let image = image("a", 1);
    image.push(&repo(&store, "b"), &["v1"]);
    image.push(&repo(&store, "a"), &[]);
    let unscoped = store.unscoped();
    assert_eq!(unscoped.holders(&image.digest()).unwrap(), [name("a"), name("b")]);
    assert_eq!(unscoped.stat(&image.digest()).unwrap().unwrap().size, image.bytes.len() as u64);
    assert_eq!(&unscoped.get(&image.digest()).unwrap().unwrap()[..], &image.bytes[..]);
    assert!(unscoped.reader(&image.digest()).unwrap().is_some());
    assert!(unscoped.get(&absent()).unwrap().is_none());
    assert!(unscoped.stat(&absent()).unwrap().is_none());
    assert!(unscoped.holders(&absent()).unwrap().is_empty());
    assert_eq!(unscoped.resolve_name("b:v1").unwrap().unwrap().digest, image.digest());
    assert!(unscoped.resolve_name("a:v1").unwrap().is_none());
    assert!(unscoped.resolve_name("v1").unwrap().is_none());
    assert!(unscoped.foreign_names().unwrap().is_empty());
}

#[test]
fn names_that_break_the_grammar_are_refused_with_the_value() {
    let long = "a".repeat(256);
    for bad in ["", "A", "a//b", "/a", "a/", "a b", "a..b", "../a", "-a", "a_-b", &long] {
        let error = bad.parse::<RepositoryName>().expect_err("a bad name was accepted");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&bad[..bad.len().min(40)]), "{error}");
    }
    for bad in ["", ".a", "-a", "a:b", "a/b", "a b", &"a".repeat(129)] {
        let error = bad.parse::<orlop::oci::Tag>().expect_err("a bad tag was accepted");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn damage_in_a_repository_does_not_keep_it_from_being_deleted() {
    for lost in [false, true] {
        let (dir, store) = fresh();
        let (here, other) = (repo(&store, "a"), repo(&store, "b"));
        let image = image("a", 1);
        let sig = referrer(&image, "application/sig", "s");
        image.push(&here, &["v1"]);
        sig.push(&here, &["sig"]);
        image.push(&other, &["v1"]);
        drop((here, other));
        store.close().unwrap();
        let path = blob_path(&dir.root(), &sig.digest());
        if lost {
            fs::remove_file(path).unwrap()
        } else {
            damage(&path)
        }
        let store = options().verify(orlop::Verify::Always).open(dir.root()).unwrap();
        let before = describe_names(&store);
        match store.delete_repository(&name("a")) {
            Ok(deleted) => {
                assert!(deleted);
                assert_eq!(names(&store), ["b"]);
                let gone = repo(&store, "a");
                assert!(gone.referrers(&image.digest()).page().unwrap().descriptors.is_empty());
                assert!(gone.predecessors(&digest_of(&image.parts[0]), None, 10).unwrap().items.is_empty());
            }
            // An error leaves the previous state.
            Err(error) => {
                assert_eq!(describe_names(&store), before, "half deleted: {error}");
                panic!("a damaged repository cannot be deleted: {error}");
            }
        }
        assert_eq!(repo(&store, "b").resolve(&tag("v1")).unwrap().unwrap().digest, image.digest());
        store.flush().unwrap();
        assert_eq!(Layout::read(&dir.root()).names().into_keys().collect::<Vec<_>>(), ["b:v1"]);
    }
}

/// What can be told without reading content.
fn describe_names(store: &Store) -> Vec<String> {
    names(store)
        .into_iter()
        .flat_map(|name| {
            tags(&repo(store, &name)).into_iter().map(move |(tag, digest)| format!("{name}:{tag} {digest}"))
        })
        .collect()
}

#[test]
fn pushing_tagging_mounting_and_deleting_at_once_leave_nothing_half_there() {
    let (dir, store) = fresh();
    let images: Vec<Artifact> = (0..4).map(|n| image(&format!("{n}"), 2)).collect();
    let all_names = ["a", "b", "a/b"];
    std::thread::scope(|scope| {
        for worker in 0..6_usize {
            let (store, images) = (&store, &images);
            scope.spawn(move || {
                for round in 0..60_usize {
                    let here = repo(store, all_names[(worker + round) % 3]);
                    let image = &images[(worker * 7 + round) % images.len()];
                    match (worker + round) % 6 {
                        0 => {
                            store.delete_repository(here.name()).unwrap();
                        }
                        1 => {
                            let from = repo(store, all_names[round % 3]);
                            // Deleted between the look and the commit: not found; otherwise done, or nothing to mount.
                            if let Err(error) = here.mount(&from, &digest_of(&image.parts[0])) {
                                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                            }
                        }
                        2 => match here.tag(&tag("moved"), &image.digest(), Expect::Any) {
                            Ok(_) => {}
                            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                        },
                        3 if round % 10 == 3 => store.flush().unwrap(),
                        _ => {
                            let mut batch = store.batch();
                            for part in &image.parts {
                                batch.push_bytes(&here, part.clone()).unwrap();
                            }
                            let digest = batch.push_manifest(&here, IMAGE, image.bytes.clone()).unwrap();
                            batch.tag(&here, &tag(&format!("t{worker}")), digest, Expect::Any);
                            batch.commit().unwrap();
                        }
                    }
                }
            });
        }
    });
    let check = |store: &Store| {
        for name in names(store) {
            let here = repo(store, &name);
            for (tag, digest) in tags(&here) {
                let manifest =
                    here.manifest(&digest).unwrap().unwrap_or_else(|| panic!("{name}:{tag} names nothing"));
                for successor in manifest.parse().unwrap().successors() {
                    assert!(
                        here.get(&successor.descriptor.digest).unwrap().is_some(),
                        "{name}:{tag} is not whole"
                    );
                    let parents = here.predecessors(&successor.descriptor.digest, None, 100).unwrap().items;
                    assert!(
                        parents.iter().any(|parent| parent.digest == digest),
                        "{name}:{tag} has lost an edge"
                    );
                }
                assert!(here.tags_of(&digest).unwrap().iter().any(|found| found.as_str() == tag));
            }
        }
    };
    check(&store);
    let before = describe(&store);
    store.close().unwrap();
    Layout::sound(&dir.root());
    let store = options().open(dir.root()).unwrap();
    check(&store);
    assert_eq!(describe(&store), before);
}

#[test]
fn a_new_repository_inherits_nothing_from_a_deleted_one() {
    let (dir, store) = fresh();
    let subject = image("subject", 1);
    subject.push(&repo(&store, "old"), &["v1"]);
    let sig = referrer(&subject, "application/sig", "a");
    sig.push(&repo(&store, "old"), &[]);
    store.flush().unwrap();
    // Its edges cannot be told any more, so they stay behind under its id.
    fs::remove_file(blob_path(&dir.root(), &sig.digest())).unwrap();
    assert!(store.delete_repository(&name("old")).unwrap());
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    let new = repo(&store, "new");
    subject.push(&new, &[]);
    assert!(new.referrers(&subject.digest()).page().unwrap().descriptors.is_empty());
    assert!(new.predecessors(&subject.digest(), None, 10).unwrap().items.is_empty());
    store.flush().unwrap();
    let index = fs::read_to_string(dir.root().join("index.json")).unwrap();
    assert!(index.contains(&subject.digest().to_string()), "hidden by an edge of the deleted repository");
}
