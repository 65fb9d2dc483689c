//! Other tools change `index.json`: what they did is merged, never overwritten, and a crash of ours is not mistaken for it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use orlop::oci::names::Meaning;
use orlop::{Digest, Expect, Options, Publish, Report, Store};
use serde_json::{Value, json};

use crate::support::*;

/// How our store is brought together with a foreign edit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Meeting {
    /// The store was closed properly, the edit came, the store is opened.
    AfterClose,
    /// The store crashed, the edit came, the store is opened.
    AfterCrash,
    /// The edit comes while the store is open; the next flush meets it.
    Live,
}

const MEETINGS: [Meeting; 3] = [Meeting::AfterClose, Meeting::AfterCrash, Meeting::Live];

/// A store with `v1`, `v2` and `lib/app:v3` published, and an untagged root.
struct Base {
    dir: Scratch,
    images: [Artifact; 4],
}

fn base() -> (Base, Store) {
    let (dir, store) = fresh();
    let images = ["one", "two", "three", "root"].map(|seed| image(seed, 1));
    images[0].push(&store.default_repository(), &["v1"]);
    images[1].push(&store.default_repository(), &["v2"]);
    images[2].push(&repo(&store, "lib/app"), &["v3"]);
    images[3].push(&store.default_repository(), &[]);
    store.flush().unwrap();
    (Base { dir, images }, store)
}

impl Base {
    /// Lets `ours` happen in the store and `theirs` in `index.json`, neither knowing of the other.
    fn meet(
        &self,
        store: Store,
        meeting: Meeting,
        ours: impl FnOnce(&Store),
        theirs: impl FnOnce(&mut Vec<Value>),
    ) -> Store {
        let root = self.dir.root();
        match meeting {
            Meeting::Live => {
                ours(&store);
                edit_index(&root, theirs);
                store.flush().unwrap();
                store
            }
            Meeting::AfterCrash => {
                ours(&store);
                crash(&self.dir, store);
                edit_index(&root, theirs);
                let store = options().open(root).unwrap();
                store.flush().unwrap();
                store
            }
            Meeting::AfterClose => {
                // What is ours is published by the close: only a foreign edit is left to see.
                ours(&store);
                store.close().unwrap();
                edit_index(&root, theirs);
                let store = options().open(root).unwrap();
                store.flush().unwrap();
                store
            }
        }
    }
}

fn target(store: &Store, repository: &str, name: &str) -> Option<Digest> {
    repo(store, repository).resolve(&tag(name)).unwrap().map(|found| found.digest)
}

#[test]
fn what_they_add_is_taken() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let root = base.dir.root();
        let (theirs, child, loose) = (image("theirs", 2), image("child", 1), image("loose", 1));
        let list = index(&[&child]);
        let sig = referrer(&base.images[0], "application/sig", "theirs");
        for artifact in [&theirs, &child, &list, &loose, &sig] {
            put_blobs(&root, artifact);
        }
        let store = base.meet(
            store,
            meeting,
            |_| (),
            |entries| {
                entries.insert(0, entry(Some("new"), &theirs));
                entries.push(entry(Some("lib/app:new"), &theirs));
                entries.push(entry(Some("list"), &list));
                entries.push(entry(None, &loose));
                entries.push(entry(None, &sig));
            },
        );
        assert_eq!(target(&store, "", "new"), Some(theirs.digest()), "{meeting:?}");
        assert_eq!(target(&store, "lib/app", "new"), Some(theirs.digest()));
        assert_eq!(target(&store, "", "list"), Some(list.digest()));
        assert_eq!(target(&store, "", "v1"), Some(base.images[0].digest()));
        let here = store.default_repository();
        for artifact in [&theirs, &child, &list, &loose, &sig] {
            assert!(here.manifest(&artifact.digest()).unwrap().is_some(), "{meeting:?}");
            for part in &artifact.parts {
                assert_eq!(
                    &here.get(&digest_of(part)).unwrap().expect("taken with its manifest")[..],
                    &part[..]
                );
            }
        }
        let referrers = here.referrers(&base.images[0].digest()).page().unwrap().descriptors;
        assert_eq!(referrers.iter().map(|found| found.digest).collect::<Vec<_>>(), [sig.digest()]);
        let taken = store.reports().iter().filter(|report| matches!(report, Report::Taken { .. })).count();
        assert!(taken >= 3, "{:?}", store.reports());
        let layout = Layout::sound(&root);
        assert_eq!(layout.names().len(), 6);
        assert!(layout.untagged().contains(&loose.digest().to_string()));
        let before = describe(&store);
        drop(here);
        store.close().unwrap();
        assert_eq!(describe(&options().open(&root).unwrap()), before);
    }
}

#[test]
fn what_they_move_alone_is_moved() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let theirs = image("theirs", 1);
        put_blobs(&base.dir.root(), &theirs);
        let ours = image("ours", 1);
        let store = base.meet(
            store,
            meeting,
            |store| assert_eq!(ours.push(&store.default_repository(), &["unrelated"]), ours.digest()),
            |entries| {
                let at = entries.iter().position(|value| is_named(value, "v1")).unwrap();
                entries[at] = entry(Some("v1"), &theirs);
            },
        );
        assert_eq!(target(&store, "", "v1"), Some(theirs.digest()), "{meeting:?}");
        assert_eq!(target(&store, "", "unrelated"), Some(ours.digest()), "{meeting:?}");
        assert!(store.default_repository().manifest(&base.images[0].digest()).unwrap().is_some());
        let layout = Layout::sound(&base.dir.root());
        assert_eq!(layout.names()["v1"], theirs.digest().to_string());
        assert_eq!(layout.names()["unrelated"], ours.digest().to_string());
        assert!(
            layout.untagged().contains(&base.images[0].digest().to_string()),
            "what lost its name is a root"
        );
    }
}

#[test]
fn what_both_moved_stays_ours_and_theirs_is_kept_and_reported() {
    for meeting in [Meeting::AfterCrash, Meeting::Live] {
        for removed in [false, true] {
            let (base, store) = base();
            let (ours, theirs) = (image("ours", 1), image("theirs", 1));
            put_blobs(&base.dir.root(), &theirs);
            let store = base.meet(
                store,
                meeting,
                |store| {
                    let here = store.default_repository();
                    if removed {
                        here.untag(&tag("v1"), Expect::Any).unwrap();
                    } else {
                        ours.push(&here, &["v1"]);
                    }
                },
                |entries| {
                    let at = entries.iter().position(|value| is_named(value, "v1")).unwrap();
                    entries[at] = entry(Some("v1"), &theirs);
                },
            );
            let expected = (!removed).then(|| ours.digest());
            assert_eq!(target(&store, "", "v1"), expected, "{meeting:?} {removed}");
            assert!(
                store.default_repository().manifest(&theirs.digest()).unwrap().is_some(),
                "theirs was dropped"
            );
            let layout = Layout::sound(&base.dir.root());
            assert!(layout.untagged().contains(&theirs.digest().to_string()));
            let wanted = Report::Conflict { name: "v1".to_owned(), ours: expected, theirs: theirs.digest() };
            let reports = store.reports();
            let found = reports.contains(&wanted);
            assert!(found, "{meeting:?} {removed}: {reports:?}");
        }
    }
}

#[test]
fn what_both_made_the_same_is_no_conflict() {
    for meeting in [Meeting::AfterCrash, Meeting::Live] {
        let (base, store) = base();
        let same = image("same", 1);
        put_blobs(&base.dir.root(), &same);
        let store = base.meet(
            store,
            meeting,
            |store| assert_eq!(same.push(&store.default_repository(), &["v1", "new"]), same.digest()),
            |entries| {
                let at = entries.iter().position(|value| is_named(value, "v1")).unwrap();
                entries[at] = entry(Some("v1"), &same);
                entries.push(entry(Some("new"), &same));
            },
        );
        assert_eq!(target(&store, "", "v1"), Some(same.digest()));
        assert!(
            !store.reports().iter().any(|report| matches!(report, Report::Conflict { .. })),
            "{:?}",
            store.reports()
        );
    }
}

#[test]
fn what_they_remove_is_removed_only_when_nothing_of_ours_can_be_the_reason() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let store = base.meet(
            store,
            meeting,
            |_| (),
            |entries| {
                entries.retain(|value| !is_named(value, "v1") && !is_named(value, "lib/app:v3"));
            },
        );
        let applied = meeting == Meeting::AfterClose;
        assert_eq!(target(&store, "", "v1").is_none(), applied, "{meeting:?}: {:?}", store.reports());
        assert_eq!(target(&store, "lib/app", "v3").is_none(), applied);
        assert!(target(&store, "", "v2").is_some());
        let names = Layout::sound(&base.dir.root()).names();
        assert_eq!(names.len(), if applied { 1 } else { 3 }, "{meeting:?}");
        let reports = store.reports();
        let removed = reports.iter().filter(|report| matches!(report, Report::Removed { .. })).count();
        let kept = reports.iter().filter(|report| matches!(report, Report::Kept { .. })).count();
        assert_eq!((removed, kept), if applied { (2, 0) } else { (0, 2) }, "{meeting:?}: {reports:?}");
        // The manifest itself is a member still.
        assert!(store.default_repository().manifest(&base.images[0].digest()).unwrap().is_some());
    }
}

#[test]
fn a_missing_untagged_entry_removes_nothing() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let before = describe(&store);
        let store = base.meet(
            store,
            meeting,
            |_| (),
            |entries| entries.retain(|value| value["annotations"][REF_NAME].is_string()),
        );
        assert_eq!(describe(&store), before, "{meeting:?}");
        assert!(Layout::sound(&base.dir.root()).untagged().contains(&base.images[3].digest().to_string()));
    }
}

#[test]
fn another_way_of_writing_the_same_is_no_edit() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let before = describe(&store);
        // As a tool does that reads the whole, drops annotations it does not know, and writes in its own order.
        let store = base.meet(
            store,
            meeting,
            |_| (),
            |entries| {
                entries.reverse();
                for value in entries {
                    if let Some(annotations) = value["annotations"].as_object_mut() {
                        annotations.retain(|key, _| key == REF_NAME);
                    }
                }
            },
        );
        assert_eq!(describe(&store), before, "{meeting:?}");
        let real = store
            .reports()
            .into_iter()
            .filter(|report| !matches!(report, Report::Unmerged))
            .collect::<Vec<_>>();
        assert_eq!(real, [], "{meeting:?}");
        assert_eq!(Layout::sound(&base.dir.root()).names().len(), 3);
    }
}

#[test]
fn an_empty_or_garbled_index_is_damage_and_healed() {
    for garbage in [&b""[..], b"\0\0\0\0", b"{\"schemaVersion\":2,\"manifests\":[{\"mediaTy", b"[]", b"null"]
    {
        for meeting in MEETINGS {
            let (base, store) = base();
            let path = base.dir.root().join("index.json");
            let before = describe(&store);
            let good = Layout::sound(&base.dir.root()).names();
            let store = match meeting {
                Meeting::Live => {
                    fs::write(&path, garbage).unwrap();
                    store.flush().unwrap();
                    store
                }
                _ => {
                    if meeting == Meeting::AfterCrash {
                        crash(&base.dir, store)
                    } else {
                        store.close().unwrap()
                    }
                    fs::write(&path, garbage).unwrap();
                    let store = options().open(base.dir.root()).unwrap();
                    store.flush().unwrap();
                    store
                }
            };
            assert_eq!(describe(&store), before, "{meeting:?}");
            assert_eq!(Layout::sound(&base.dir.root()).names(), good);
            let damaged = store
                .reports()
                .iter()
                .any(|report| matches!(report, Report::Damaged { file, .. } if file == "index.json"));
            assert!(damaged, "{meeting:?} {garbage:?}: {:?}", store.reports());
        }
    }
}

#[test]
fn a_missing_index_is_healed() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let path = base.dir.root().join("index.json");
        let before = describe(&store);
        let store = if meeting == Meeting::Live {
            fs::remove_file(&path).unwrap();
            store.flush().unwrap();
            store
        } else {
            if meeting == Meeting::AfterCrash {
                crash(&base.dir, store)
            } else {
                store.close().unwrap()
            }
            fs::remove_file(&path).unwrap();
            let store = options().open(base.dir.root()).unwrap();
            store.flush().unwrap();
            store
        };
        assert_eq!(describe(&store), before, "{meeting:?}");
        assert_eq!(Layout::sound(&base.dir.root()).names().len(), 3);
    }
}

#[test]
fn names_that_fit_no_grammar_are_kept_as_they_are() {
    let (base, store) = base();
    let root = base.dir.root();
    let (foreign, other) = (image("foreign", 1), image("other", 1));
    put_blobs(&root, &foreign);
    let odd = [
        "Docker.io/Library/App:v1",
        "a//b:v1",
        "\u{e9}t\u{e9}",
        "v1@sha256:abc",
        "with space",
        "http://x:5000/y:z",
    ];
    let mut written: Vec<Value> = odd
        .iter()
        .map(|name| {
            let mut value = entry(Some(name), &foreign);
            value["annotations"]["org.example.note"] = "kept \u{2764}".into();
            value["platform"] = json!({ "architecture": "arm64", "os": "linux", "variant": "v8", "future": [1, 2, { "a": null }] });
            value["x-unknown"] = json!({ "nested": [true, 1.5e300, "s"] });
            value
        })
        .collect();
    store.close().unwrap();
    edit_index(&root, |entries| entries.extend(written.clone()));
    let mut store = options().open(&root).unwrap();
    for round in 0..3 {
        other.push(&store.default_repository(), &[&format!("round-{round}")]);
        store.flush().unwrap();
        let layout = Layout::sound(&root);
        for value in &written {
            let name = value["annotations"][REF_NAME].as_str();
            let found = layout.entries.iter().find(|entry| entry.name.as_deref() == name);
            let mut found =
                found.unwrap_or_else(|| panic!("{name:?} is gone after round {round}")).value.clone();
            if let Some(annotations) = found["annotations"].as_object_mut() {
                annotations.remove("dev.orlop.membership");
            }
            assert_eq!(found, *value, "round {round}");
        }
        let mut names: Vec<String> =
            store.unscoped().foreign_names().unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        let mut expected: Vec<&str> =
            written.iter().map(|value| value["annotations"][REF_NAME].as_str().unwrap()).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        for name in expected {
            assert_eq!(store.unscoped().resolve_name(name).unwrap().unwrap().digest, foreign.digest());
        }
        if round == 0 {
            // They take one of them away again.
            store.close().unwrap();
            written.pop();
            edit_index(&root, |entries| entries.retain(|value| !is_named(value, odd[5])));
            store = options().open(&root).unwrap();
        }
    }
    let kept = store.default_repository().get(&digest_of(&foreign.parts[0]));
    assert!(kept.is_ok());
}

#[test]
fn the_text_of_a_foreign_entry_is_kept_byte_for_byte() {
    let (base, store) = base();
    let root = base.dir.root();
    let foreign = image("foreign", 1);
    put_blobs(&root, &foreign);
    store.close().unwrap();
    let raw = format!(
        "{{ \"size\": {},\"digest\" :\"{}\", \"annotations\":{{\"{REF_NAME}\":\"UPPER/Case:v1\", \"z\":\"1\", \"a\":\"\\u00e9\"}},  \"mediaType\":\"{IMAGE}\", \"n\": 1.50 }}",
        foreign.bytes.len(),
        foreign.digest()
    );
    let path = root.join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    let at = text.rfind(']').unwrap();
    fs::write(&path, format!("{},{raw}{}", &text[..at], &text[at..])).unwrap();
    let store = options().open(&root).unwrap();
    image("more", 1).push(&store.default_repository(), &["more"]);
    store.close().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&raw), "{raw}\n is not in\n{text}");
}

#[test]
fn an_entry_that_cannot_be_followed_is_reported_and_harms_nothing() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let root = base.dir.root();
        let (absent_image, damaged, short, half) =
            (image("absent", 1), image("damaged", 1), image("short", 1), image("half", 2));
        for artifact in [&damaged, &short, &half] {
            put_blobs(&root, artifact);
        }
        damage(&blob_path(&root, &damaged.digest()));
        fs::write(blob_path(&root, &short.digest()), b"{}").unwrap();
        fs::remove_file(blob_path(&root, &digest_of(&half.parts[1]))).unwrap();
        let store = base.meet(store, meeting, |_| (), |entries| {
            for (name, artifact) in [("absent", &absent_image), ("damaged", &damaged), ("short", &short)] {
                entries.push(entry(Some(name), artifact));
            }
            entries.push(json!({ "mediaType": IMAGE, "digest": "sha256:../../../etc/passwd", "size": 3, "annotations": { REF_NAME: "evil" } }));
            entries.push(json!({ "mediaType": IMAGE, "digest": "md5:d41d8cd98f00b204e9800998ecf8427e", "size": 0, "annotations": { REF_NAME: "md5" } }));
        });
        for name in ["absent", "damaged", "short", "evil", "md5"] {
            assert_eq!(target(&store, "", name), None, "{meeting:?}: {name} was taken");
            let reported = store
                .reports()
                .iter()
                .any(|report| matches!(report, Report::Refused { name: found, .. } if found == name));
            assert!(reported, "{meeting:?}: {name}: {:?}", store.reports());
        }
        assert_eq!(target(&store, "", "v1"), Some(base.images[0].digest()));
        let names = Layout::read(&root).names();
        assert_eq!(names["v2"], base.images[1].digest().to_string());
        // What they wrote is theirs to correct: it is kept.
        for name in ["absent", "damaged", "short", "evil", "md5"] {
            assert!(names.contains_key(name), "{meeting:?}: {name} was dropped from index.json");
        }
        // Once the content is whole, the next look takes it.
        put_blobs(&root, &absent_image);
        drop(store);
        edit_index(&root, |entries| entries.reverse());
        let store = options().open(&root).unwrap();
        store.flush().unwrap();
        assert_eq!(target(&store, "", "absent"), Some(absent_image.digest()), "{meeting:?}");
    }
}

#[test]
fn a_sparse_image_of_theirs_is_taken_for_what_it_has() {
    let (base, store) = base();
    let root = base.dir.root();
    let (have, lack) = (image("have", 1), image("lack", 1));
    let list = index(&[&have, &lack]);
    put_blobs(&root, &have);
    put_blobs(&root, &list);
    let store =
        base.meet(store, Meeting::AfterClose, |_| (), |entries| entries.push(entry(Some("sparse"), &list)));
    assert_eq!(target(&store, "", "sparse"), Some(list.digest()), "{:?}", store.reports());
    assert!(store.default_repository().manifest(&have.digest()).unwrap().is_some());
    assert!(store.default_repository().manifest(&lack.digest()).unwrap().is_none());
}

#[test]
fn one_name_on_two_entries_stays_on_both_until_somebody_decides() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let (first, second) = (image("first", 1), image("second", 1));
        put_blobs(&base.dir.root(), &first);
        put_blobs(&base.dir.root(), &second);
        let store = base.meet(
            store,
            meeting,
            |_| (),
            |entries| {
                entries.push(entry(Some("twice"), &first));
                entries.push(entry(Some("twice"), &second));
            },
        );
        let here = store.default_repository();
        assert_eq!(target(&store, "", "twice"), Some(first.digest()), "{meeting:?}");
        for artifact in [&first, &second] {
            assert!(here.manifest(&artifact.digest()).unwrap().is_some(), "{meeting:?}");
        }
        let both = || {
            let entries = Layout::sound(&base.dir.root()).entries;
            let named = entries.into_iter().filter(|entry| entry.name.as_deref() == Some("twice"));
            named.map(|entry| entry.digest).collect::<Vec<_>>()
        };
        assert_eq!(both(), [first.digest().to_string(), second.digest().to_string()], "{meeting:?}");
        assert!(
            matches!(store.unscoped().find_name("twice").unwrap(), Meaning::Ambiguous(found) if found.len() == 2)
        );
        here.tag(&"twice".parse().unwrap(), &second.digest(), Expect::Any).unwrap();
        store.flush().unwrap();
        assert_eq!(both(), [second.digest().to_string()], "{meeting:?}");
    }
}

#[test]
fn a_tool_that_adds_while_we_publish_loses_nothing_and_neither_do_we() {
    let dir = scratch();
    let store =
        Options::new().publish(Publish::Interval(Duration::from_millis(1))).create(dir.root()).unwrap();
    let root = dir.root();
    let stop = AtomicBool::new(false);
    const THEIRS: usize = 40;
    let artifacts: Vec<Artifact> = (0..THEIRS).map(|n| image(&format!("theirs {n}"), 1)).collect();
    let ours = thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let here = repo(&store, "ours");
            let mut count = 0;
            while !stop.load(Ordering::Acquire) {
                image(&format!("ours {count}"), 1).push(&here, &[&format!("t{count}")]);
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            count
        });
        for (n, artifact) in artifacts.iter().enumerate() {
            put_blobs(&root, artifact);
            edit_index(&root, |entries| entries.push(entry(Some(&format!("theirs-{n}")), artifact)));
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Release);
        pusher.join().unwrap()
    });
    store.flush().unwrap();
    let here = store.default_repository();
    let lost: Vec<usize> = (0..THEIRS)
        .filter(|n| {
            here.resolve(&tag(&format!("theirs-{n}"))).unwrap().map(|found| found.digest)
                != Some(artifacts[*n].digest())
        })
        .collect();
    assert_eq!(lost, [0; 0], "of {THEIRS} foreign tags");
    assert_eq!(tags(&repo(&store, "ours")).len(), ours);
    assert_eq!(Layout::sound(&root).names().len(), THEIRS + ours);
}

#[test]
fn a_file_of_theirs_is_used_by_a_push_that_meets_it() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for (n, size) in [1000, 100_000].into_iter().enumerate() {
        for bad in [false, true] {
            let bytes = noise(n as u64 * 2 + u64::from(bad), size);
            let digest = digest_of(&bytes);
            let path = blob_path(&dir.root(), &digest);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
            if bad {
                damage(&path);
            }
            assert!(here.get(&digest).unwrap().is_none(), "content that was not pushed is visible");
            here.push_bytes(bytes.clone()).unwrap();
            assert!(here.get(&digest).unwrap().unwrap()[..] == bytes[..], "bad: {bad}");
            store.flush().unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "bad: {bad}");
        }
    }
}

#[test]
fn a_name_of_theirs_that_could_not_be_followed_does_not_come_back_once_it_was_ours() {
    let (base, store) = base();
    let root = base.dir.root();
    let absent_image = image("absent", 1);
    let store =
        base.meet(store, Meeting::Live, |_| (), |entries| entries.push(entry(Some("new"), &absent_image)));
    assert_eq!(target(&store, "", "new"), None);
    let ours = image("ours", 1);
    ours.push(&store.default_repository(), &["new"]);
    store.flush().unwrap();
    assert_eq!(Layout::read(&root).names()["new"], ours.digest().to_string());
    store.default_repository().untag(&tag("new"), Expect::Any).unwrap();
    store.flush().unwrap();
    assert!(
        !Layout::read(&root).names().contains_key("new"),
        "a name that was removed here is published again"
    );
    store.close().unwrap();
    let store = options().open(&root).unwrap();
    assert_eq!(target(&store, "", "new"), None);
}

#[test]
fn a_name_that_could_not_be_followed_is_taken_when_its_content_is_pushed_and_the_file_is_looked_at() {
    // The other tool wrote the index first; its blobs come through us.
    let (base, store) = base();
    let root = base.dir.root();
    let late = image("late", 1);
    let store = base.meet(store, Meeting::Live, |_| (), |entries| entries.push(entry(Some("late"), &late)));
    late.push(&store.default_repository(), &[]);
    store.flush().unwrap();
    // Nothing that is published reaches what is missing.
    Layout::sound(&root);
    store.close().unwrap();
    let reader = options().open_read_only(&root).unwrap();
    let name = Layout::read(&root).names().get("late").cloned();
    assert_eq!(name, Some(late.digest().to_string()));
    drop(reader);
}

#[test]
fn a_deleted_repository_does_not_come_back_with_their_edit() {
    for meeting in MEETINGS {
        let (base, store) = base();
        let root = base.dir.root();
        let (tagged, untagged) = (image("private", 1), image("private and untagged", 1));
        tagged.push(&repo(&store, "private"), &["v1"]);
        untagged.push(&repo(&store, "private"), &[]);
        store.flush().unwrap();
        let theirs = image("theirs", 1);
        put_blobs(&root, &theirs);
        // They add to what they read before the deletion was published.
        let read = fs::read(root.join("index.json")).unwrap();
        let store = base.meet(
            store,
            meeting,
            |store| assert!(store.delete_repository(&name("private")).unwrap()),
            |entries| {
                if meeting != Meeting::AfterClose {
                    let old: Value = serde_json::from_slice(&read).unwrap();
                    assert_eq!(old["manifests"].as_array(), Some(&*entries));
                }
                entries.push(entry(Some("theirs"), &theirs));
            },
        );
        assert_eq!(target(&store, "", "theirs"), Some(theirs.digest()), "{meeting:?}");
        for artifact in [&tagged, &untagged] {
            let holders = store.unscoped().holders(&artifact.digest()).unwrap();
            assert!(holders.is_empty(), "{meeting:?}: back in {holders:?}");
        }
        assert!(!store.repositories(None, 100).unwrap().items.contains(&name("private")));
        let layout = Layout::sound(&root);
        assert!(!layout.untagged().contains(&untagged.digest().to_string()), "{meeting:?}");
    }
}

/// An edit that was merged stays the file until the next publish, and a crash before that has it merged once more.
#[test]
fn what_changed_after_a_merge_stays_changed_through_a_crash() {
    let (dir, store) = fresh();
    let (one, two) = (image("1", 1), image("2", 1));
    one.push(&store.default_repository(), &["keep", "gone", "back"]);
    two.push(&store.default_repository(), &[]);
    repo(&store, "a").push_bytes("x").unwrap();
    store.close().unwrap();
    edit_index(&dir.root(), |entries| {
        entries.retain(|value| !is_named(value, "back") && !is_named(value, "gone"));
        entries.extend(["untagged", "moved", "a:deleted", "same"].map(|name| entry(Some(name), &one)));
    });
    let store = options().open(dir.root()).unwrap();
    let here = store.default_repository();
    here.untag(&tag("untagged"), Expect::Any).unwrap();
    here.tag(&tag("moved"), &two.digest(), Expect::Is(one.digest())).unwrap();
    here.tag(&tag("back"), &one.digest(), Expect::Absent).unwrap();
    assert!(store.delete_repository(&name("a")).unwrap());
    let expected = describe(&store);
    assert_eq!(
        tags(&here),
        [("back", one.digest()), ("keep", one.digest()), ("moved", two.digest()), ("same", one.digest())]
            .map(|(name, digest)| (name.to_owned(), digest))
    );
    drop(here);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert_eq!(describe(&store), expected);
    assert_eq!(store.reports(), []);
    store.close().unwrap();
    let names: Vec<String> = Layout::sound(&dir.root()).names().into_keys().collect();
    assert_eq!(names, ["back", "keep", "moved", "same"]);
}
