//! Publishing: what `index.json` says, when, and what other tools find while it changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orlop::{Algorithm, Expect, Options, Publish};
use serde_json::Value;

use crate::support::*;

#[test]
fn index_json_lists_every_tag_and_every_root_and_nothing_else() {
    let (dir, store) = fresh();
    let (here, app) = (store.default_repository(), repo(&store, "lib/app"));
    let (tagged, untagged, child, parted) =
        (image("tagged", 1), image("untagged", 1), image("child", 1), image("parted", 1));
    tagged.push(&here, &["v1", "latest"]);
    tagged.push(&app, &["v1"]);
    untagged.push(&here, &[]);
    untagged.push(&app, &[]);
    child.push(&app, &[]);
    parted.push(&app, &["also-tagged"]);
    let list = index(&[&child, &parted]);
    list.push(&app, &[]);
    let (sig, stray) =
        (referrer(&tagged, "application/sig", "s"), referrer(&image("never", 1), "application/sig", "t"));
    sig.push(&here, &[]);
    stray.push(&app, &[]);
    let of_sig = referrer(&sig, "application/sig", "u");
    of_sig.push(&here, &[]);
    here.push_bytes(&b"content that nothing names"[..]).unwrap();
    store.flush().unwrap();

    let layout = Layout::sound(&dir.root());
    let expected =
        [("latest", &tagged), ("lib/app:also-tagged", &parted), ("lib/app:v1", &tagged), ("v1", &tagged)];
    let names: Vec<(String, String)> = layout.names().into_iter().collect();
    assert_eq!(names, expected.map(|(name, artifact)| (name.to_owned(), artifact.digest().to_string())));
    let roots = [&untagged, &list, &sig, &stray, &of_sig].map(|artifact| artifact.digest().to_string());
    assert_eq!(layout.untagged(), BTreeSet::from(roots));
    for entry in &layout.entries {
        let digest: orlop::Digest = entry.digest.parse().unwrap();
        let length = fs::metadata(blob_path(&dir.root(), &digest)).unwrap().len();
        assert_eq!(entry.value["size"].as_u64(), Some(length));
        assert_eq!(entry.value["mediaType"], if digest == list.digest() { INDEX } else { IMAGE });
    }

    // What loses its last name becomes a root, what gets a parent is none any more.
    here.untag(&tag("v1"), Expect::Any).unwrap();
    app.untag(&tag("also-tagged"), Expect::Any).unwrap();
    index(&[&untagged]).push(&here, &["list"]);
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names().len(), 3);
    assert!(!layout.untagged().contains(&parted.digest().to_string()), "its list still names it");
    // It is a root of the other repository, where no list names it, and one entry stands for both.
    assert!(
        layout.untagged().contains(&untagged.digest().to_string())
            || layout.reached.contains(&untagged.digest().to_string())
    );
    here.untag(&tag("latest"), Expect::Any).unwrap();
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names()["lib/app:v1"], tagged.digest().to_string());
}

#[test]
fn the_same_state_is_the_same_document() {
    let (one, first) = fresh();
    let (two, second) = fresh();
    let artifacts: Vec<Artifact> = (0..12).map(|n| image(&format!("{n}"), 1)).collect();
    for (n, artifact) in artifacts.iter().enumerate() {
        artifact.push(&repo(&first, &format!("r{}", n % 3)), if n % 2 == 0 { &["a", "b"] } else { &[] });
    }
    first.flush().unwrap();
    for (n, artifact) in artifacts.iter().enumerate().rev() {
        artifact.push(&repo(&second, &format!("r{}", n % 3)), &[]);
        second.flush().unwrap();
    }
    for (n, artifact) in artifacts.iter().enumerate() {
        artifact.push(&repo(&second, &format!("r{}", n % 3)), if n % 2 == 0 { &["a", "b"] } else { &[] });
    }
    second.flush().unwrap();
    let text = |dir: &Scratch| fs::read_to_string(dir.root().join("index.json")).unwrap();
    assert_eq!(text(&one), text(&two));
    assert_eq!(Layout::sound(&one.root()).names().len(), 6);
}

#[test]
fn nothing_new_is_nothing_written() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    image("a", 1).push(&here, &["v1"]);
    store.flush().unwrap();
    let before = fs::metadata(dir.root().join("index.json")).unwrap();
    store.flush().unwrap();
    image("a", 1).push(&here, &["v1"]);
    store.flush().unwrap();
    drop(here);
    store.close().unwrap();
    options().open(dir.root()).unwrap().close().unwrap();
    let after = fs::metadata(dir.root().join("index.json")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

#[test]
fn nothing_of_ours_lies_about_in_the_layout() {
    let (dir, store) = fresh();
    image("a", 1).push(&store.default_repository(), &["v1"]);
    store.flush().unwrap();
    let names = || -> BTreeSet<String> {
        fs::read_dir(dir.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let expected: BTreeSet<String> =
        [".orlop", "blobs", "index.json", "oci-layout"].map(str::to_owned).into();
    assert_eq!(names(), expected);
    store.close().unwrap();
    assert_eq!(names(), expected);
    // Other tools read as other users, and some write both documents in place.
    let mode = |name: &str| fs::metadata(dir.root().join(name)).unwrap().mode() & 0o777;
    assert_eq!(format!("{:o}", mode("index.json")), "644");
    assert_eq!(format!("{:o}", mode("oci-layout")), "644");
}

#[test]
fn publishing_happens_when_the_options_say() {
    for (publish, by_itself) in [
        (Publish::Interval(Duration::from_millis(30)), true),
        (Publish::OnClose, false),
        (Publish::Manual, false),
    ] {
        let dir = scratch();
        let store = Options::new().publish(publish).create(dir.root()).unwrap();
        let image = image("a", 1);
        image.push(&store.default_repository(), &["v1"]);
        let start = Instant::now();
        let seen = loop {
            if Layout::sound(&dir.root()).names().contains_key("v1") {
                break true;
            }
            if start.elapsed() > Duration::from_secs(if by_itself { 20 } else { 1 }) {
                break false;
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(seen, by_itself, "{publish:?}");
        // Then again, after it has been idle.
        let next = referrer(&image, "application/sig", "s");
        next.push(&store.default_repository(), &["v2"]);
        store.flush().unwrap();
        assert_eq!(Layout::sound(&dir.root()).names()["v2"], next.digest().to_string());
    }
}

#[test]
fn readers_of_the_layout_never_find_anything_torn_or_missing() {
    let dir = scratch();
    let store =
        Options::new().publish(Publish::Interval(Duration::from_millis(1))).create(dir.root()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut looks, mut most) = (0, 0);
                    while !done.load(Ordering::Acquire) {
                        let layout = Layout::sound(&dir.root());
                        let names = layout.names().len();
                        assert!(names >= most, "names went away: {names} after {most}");
                        most = names;
                        looks += 1;
                    }
                    looks
                })
            })
            .collect();
        for worker in 0..2 {
            let (store, done) = (store.clone(), &done);
            scope.spawn(move || {
                let here = repo(&store, &format!("worker-{worker}"));
                for n in 0..60 {
                    let artifact = image(&format!("{worker} {n}"), 2);
                    artifact.push(&here, &[&format!("t{n}"), "latest"]);
                    referrer(&artifact, "application/sig", "s").push(&here, &[]);
                    if n % 7 == 0 {
                        here.push_bytes(noise(n, 80_000)).unwrap();
                        store.flush().unwrap();
                    }
                }
                if worker == 0 {
                    store.flush().unwrap();
                    thread::sleep(Duration::from_millis(50));
                    done.store(true, Ordering::Release);
                }
            });
        }
        for reader in readers {
            assert!(reader.join().unwrap() > 1);
        }
    });
    store.close().unwrap();
    assert_eq!(Layout::sound(&dir.root()).names().len(), 2 * 61);
}

#[test]
fn what_a_flush_follows_is_in_the_layout_whichever_thread_flushes() {
    let (dir, store) = fresh();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (store, root) = (store.clone(), dir.root());
            scope.spawn(move || {
                let here = repo(&store, &format!("worker-{worker}"));
                for n in 0..15 {
                    let artifact = image(&format!("{worker} {n}"), 1);
                    artifact.push(&here, &[&format!("t{n}")]);
                    store.flush().unwrap();
                    let layout = Layout::sound(&root);
                    assert_eq!(
                        layout.names()[&format!("worker-{worker}:t{n}")],
                        artifact.digest().to_string()
                    );
                    // All content is filed, also what no manifest names.
                    for blob in artifact.blobs() {
                        assert!(blob_path(&root, &digest_of(blob)).exists());
                    }
                }
            });
        }
    });
}

#[test]
fn a_crash_before_publishing_is_made_good_by_the_next_open() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    image("published", 1).push(&here, &["v1"]);
    store.flush().unwrap();
    let late = image("late", 3);
    late.push(&here, &["v2"]);
    here.untag(&tag("v1"), Expect::Any).unwrap();
    drop(here);
    crash(&dir, store);
    let layout = Layout::sound(&dir.root());
    assert_eq!(
        layout.names().into_keys().collect::<Vec<_>>(),
        ["v1"],
        "the old view stands until the next open"
    );
    let store =
        Options::new().publish(Publish::Interval(Duration::from_millis(10))).open(dir.root()).unwrap();
    assert_eq!(store.reports(), [], "a crash of ours is no foreign edit");
    let start = Instant::now();
    // By itself, without a write or a flush.
    while Layout::sound(&dir.root()).names().into_keys().collect::<Vec<_>>() != ["v2"] {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", Layout::read(&dir.root()).names());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_digests_in_the_membership_annotation_are_of_that_entry() {
    let (dir, store) = fresh();
    let shared = image("shared", 1);
    for repository in ["", "a", "b/c"] {
        shared.push(&repo(&store, repository), &[]);
    }
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.entries.len(), 1, "one untagged entry a digest");
    let annotations = layout.entries[0].value["annotations"].as_object().unwrap();
    let membership: Value =
        serde_json::from_str(annotations["dev.orlop.membership"].as_str().unwrap()).unwrap();
    assert_eq!(membership["repositories"], serde_json::json!(["", "a", "b/c"]));
}

#[test]
fn thousands_of_tags_are_published_in_order() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 1);
    image.push(&here, &[]);
    let mut batch = store.batch();
    for n in 0..5000 {
        batch.tag(&here, &tag(&format!("t{n}")), image.digest(), Expect::Absent);
    }
    batch.commit().unwrap();
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    let listed: Vec<&String> = layout.entries.iter().filter_map(|entry| entry.name.as_ref()).collect();
    assert_eq!(listed.len(), 5000);
    assert!(listed.is_sorted(), "the order is not the byte order of the names");
}

#[test]
fn damage_of_one_manifest_does_not_stop_the_publishing_of_others() {
    for lost in [false, true] {
        let (dir, store) = fresh();
        let here = repo(&store, "a");
        let (have, lack) = (image("have", 1), image("lack", 1));
        have.push(&here, &["have"]);
        let mut batch = store.batch();
        let sparse = batch
            .push_sparse_manifest(&here, INDEX, index(&[&have, &lack]).bytes, Algorithm::Sha256)
            .unwrap();
        batch.tag(&here, &tag("sparse"), sparse, Expect::Absent);
        batch.commit().unwrap();
        drop(here);
        store.close().unwrap();
        let path = blob_path(&dir.root(), &sparse);
        if lost {
            fs::remove_file(path).unwrap()
        } else {
            damage(&path)
        }
        let store = options().verify(orlop::Verify::Always).open(dir.root()).unwrap();
        let new = image("new", 1);
        new.push(&store.default_repository(), &["new"]);
        store.flush().unwrap();
        let names = Layout::read(&dir.root()).names();
        assert_eq!(names["new"], new.digest().to_string());
        assert_eq!(names["a:have"], have.digest().to_string());
        store.close().unwrap();
    }
}
