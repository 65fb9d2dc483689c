//! Making, opening and closing: what becomes a store, what is refused, and who holds it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use orlop::{Durability, ErrorKind, Expect, Options, Publish, ReadMode, Store, Untagged, Verify};

use crate::support::*;

#[test]
fn a_new_store_is_an_oci_layout_at_once() {
    let dir = scratch();
    let store = Options::new().create(dir.root()).unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.entries.len(), 0);
    assert!(dir.root().join("blobs").is_dir());
    assert!(dir.root().join(".orlop/FORMAT").is_file());
    assert_eq!(store.root(), dir.root());
    assert!(!store.is_read_only());
    assert_eq!(describe(&store).len(), 0);
    store.close().unwrap();
    Layout::sound(&dir.root());
}

#[test]
fn an_empty_directory_becomes_a_store_and_a_store_is_not_made_twice() {
    let dir = scratch();
    fs::create_dir(dir.root()).unwrap();
    options().create(dir.root()).unwrap().close().unwrap();
    let before = content_tree(&dir.root());
    fails(options().create(dir.root()), ErrorKind::Conflict, &[dir.root().to_str().unwrap()]);
    assert_eq!(content_tree(&dir.root()), before);
    options().open(dir.root()).unwrap();
}

#[test]
fn what_is_no_store_is_not_opened_and_not_touched() {
    let dir = scratch();
    let missing = dir.path("missing");
    fails(options().open(&missing), ErrorKind::NotFound, &[missing.to_str().unwrap()]);
    assert!(!missing.exists());

    let empty = dir.path("empty");
    fs::create_dir(&empty).unwrap();
    fails(options().open(&empty), ErrorKind::NotFound, &[empty.to_str().unwrap()]);
    assert_eq!(tree(&empty).len(), 0);

    let plain = dir.path("plain");
    plain_layout(&plain, &[(Some("v1"), &image("a", 1))], &[]);
    let before = tree(&plain);
    let error = fails(options().open(&plain), ErrorKind::NotFound, &[plain.to_str().unwrap()]);
    assert!(error.to_string().contains("layout"), "does not say that it is a plain layout: {error}");
    assert_eq!(tree(&plain), before);

    let file = dir.file("file", b"not a directory");
    assert!(options().open(&file).is_err());
    assert!(options().create(&file).is_err());
    assert!(options().open_or_create(&file).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn a_directory_of_other_things_is_refused_and_left_alone() {
    let dir = scratch();
    let other = dir.path("photos");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("holiday.jpg"), b"picture").unwrap();
    let before = tree(&other);
    for result in [options().create(&other), options().open_or_create(&other), options().open(&other)] {
        let error = result.expect_err("a directory of photos became a store");
        assert!(error.to_string().contains("photos"), "{error}");
    }
    assert!(options().open_read_only(&other).is_err());
    assert_eq!(tree(&other), before);
}

#[test]
fn open_or_create_does_both() {
    let dir = scratch();
    let store = options().open_or_create(dir.root()).unwrap();
    let pushed = store.default_repository().push_bytes(&b"kept"[..]).unwrap();
    store.close().unwrap();
    let store = options().open_or_create(dir.root()).unwrap();
    assert_eq!(&store.default_repository().get(&pushed.digest).unwrap().unwrap()[..], b"kept");
}

#[test]
fn a_store_may_be_reached_through_a_symbolic_link() {
    let dir = scratch();
    options().create(dir.root()).unwrap().close().unwrap();
    symlink(dir.root(), dir.path("link")).unwrap();
    let store = options().open(dir.path("link")).unwrap();
    store.default_repository().push_bytes(&b"through a link"[..]).unwrap();
    fails(options().open(dir.root()), ErrorKind::Locked, &[]);
}

#[test]
fn a_plain_layout_is_taken_in_as_it_is() {
    let dir = scratch();
    let (tagged, untagged, child) = (image("tagged", 2), image("untagged", 1), image("child", 1));
    let (sbom, list) = (referrer(&tagged, "application/spdx+json", "s"), index(&[&child]));
    let entries = [
        (Some("v1"), &tagged),
        (Some("lib/app:v2"), &tagged),
        (None, &untagged),
        (None, &sbom),
        (Some("multi"), &list),
    ];
    plain_layout(&dir.root(), &entries, &[&child]);
    fs::write(dir.root().join("NOTES.txt"), b"somebody's notes").unwrap();
    let before = tree(&dir.root());

    let store = options().create(dir.root()).unwrap();
    let here = store.default_repository();
    assert_eq!(tags(&here), [("multi".to_owned(), list.digest()), ("v1".to_owned(), tagged.digest())]);
    assert_eq!(tags(&repo(&store, "lib/app")), [("v2".to_owned(), tagged.digest())]);
    assert!(here.manifest(&untagged.digest()).unwrap().is_some());
    assert!(here.manifest(&child.digest()).unwrap().is_some());
    let referrers = here.referrers(&tagged.digest()).page().unwrap().descriptors;
    assert_eq!(referrers.iter().map(|found| found.digest).collect::<Vec<_>>(), [sbom.digest()]);
    for part in &tagged.parts {
        assert_eq!(&here.get(&digest_of(part)).unwrap().unwrap()[..], &part[..]);
    }
    store.close().unwrap();

    // Every file that was there is there, with its bytes; `index.json` alone may have been written anew.
    let after = tree(&dir.root());
    for (path, node) in before.iter().filter(|(path, _)| *path != "index.json") {
        assert_eq!(node.hash, after[path].hash, "{path}");
    }
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names().len(), 3);
    assert!(layout.untagged().contains(&untagged.digest().to_string()));
    assert!(layout.untagged().contains(&sbom.digest().to_string()));
}

#[test]
fn a_layout_with_what_other_tools_leave_is_taken_in() {
    // A byte order mark, a null array, an unknown media type whose blob is not there, temporary files among the blobs.
    let dir = scratch();
    plain_layout(&dir.root(), &[], &[]);
    fs::write(dir.root().join("oci-layout"), "\u{feff}{\"imageLayoutVersion\":\"1.1.0\",\"tool\":\"other\"}")
        .unwrap();
    fs::write(dir.root().join("index.json"), b"{\"schemaVersion\":2,\"manifests\":null}\n").unwrap();
    fs::write(dir.root().join("blobs/sha256/abc123.tmp"), b"half").unwrap();
    fs::create_dir_all(dir.root().join("blobs/md5")).unwrap();
    let store = options().create(dir.root()).unwrap();
    assert_eq!(describe(&store).len(), 0);
    image("new", 1).push(&store.default_repository(), &["v1"]);
    store.close().unwrap();
    assert_eq!(Layout::sound(&dir.root()).names().len(), 1);
    assert!(dir.root().join("blobs/sha256/abc123.tmp").exists(), "a file that is not ours was removed");

    let other = dir.path("other");
    let known = image("known", 1);
    plain_layout(&other, &[(Some("v1"), &known)], &[]);
    let stranger = serde_json::json!({
        "mediaType": "application/vnd.example.unknown", "digest": absent().to_string(), "size": 5,
        "annotations": { REF_NAME: "stranger" },
    });
    edit_index(&other, |entries| entries.push(stranger.clone()));
    let store = options().create(&other).unwrap();
    assert_eq!(store.default_repository().resolve(&tag("v1")).unwrap().unwrap().digest, known.digest());
    store.close().unwrap();
    let kept = Layout::read(&other).entries.into_iter().any(|entry| entry.digest == absent().to_string());
    assert!(kept, "an entry that we cannot follow was dropped from index.json");
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_store() {
    let (dir, store) = fresh();
    let pid = std::process::id().to_string();
    fails(options().open(dir.root()), ErrorKind::Locked, &[&pid]);
    fails(options().open_or_create(dir.root()), ErrorKind::Locked, &[&pid]);
    fails(options().rebuild(dir.root()), ErrorKind::Locked, &[&pid]);
    let clone = store.clone();
    drop(store);
    fails(options().open(dir.root()), ErrorKind::Locked, &[&pid]);
    drop(clone);
    options().open(dir.root()).unwrap();
}

#[test]
fn a_repository_handle_keeps_its_store_open() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    drop(store);
    let pushed = here.push_bytes(&b"late"[..]).unwrap();
    drop(here);
    let store = options().open(dir.root()).unwrap();
    assert!(store.default_repository().get(&pushed.digest).unwrap().is_some());
}

#[test]
fn waiting_for_the_lock_ends_when_it_is_free_or_the_time_is_over() {
    let (dir, store) = fresh();
    let start = Instant::now();
    fails(options().lock_timeout(Duration::from_millis(300)).open(dir.root()), ErrorKind::Locked, &[]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(store);
    });
    options().lock_timeout(Duration::from_secs(20)).open(dir.root()).unwrap();
    holder.join().unwrap();
}

/// The body of the child process of the next test; by itself it has nothing to do.
#[test]
fn child_that_holds_a_store() {
    let Some(root) = std::env::var_os("ORLOP_TEST_CHILD") else { return };
    let store = options().open(&root).unwrap();
    image("acknowledged", 2).push(&store.default_repository(), &["acknowledged"]);
    let large = store.default_repository().push_bytes(noise(7, 200_000)).unwrap();
    assert!(!large.existed);
    fs::write(std::path::Path::new(&root).parent().unwrap().join("ready"), b"ready").unwrap();
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn another_process_is_named_and_what_it_acknowledged_survives_its_death() {
    let (dir, store) = fresh();
    store.close().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "options::child_that_holds_a_store", "--nocapture"])
        .env("ORLOP_TEST_CHILD", dir.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !dir.path("ready").exists() {
        assert!(start.elapsed() < Duration::from_secs(50), "the child did not get ready");
        thread::sleep(Duration::from_millis(10));
    }
    fails(options().open(dir.root()), ErrorKind::Locked, &[&format!("pid {}", child.id())]);
    child.kill().unwrap();
    child.wait().unwrap();

    let store = options().open(dir.root()).unwrap();
    let here = store.default_repository();
    let image = image("acknowledged", 2);
    assert_eq!(here.resolve(&tag("acknowledged")).unwrap().unwrap().digest, image.digest());
    for blob in image.blobs() {
        assert_eq!(&here.get(&digest_of(blob)).unwrap().unwrap()[..], &blob[..]);
    }
    assert!(here.get(&digest_of(&noise(7, 200_000))).unwrap().is_some());
    store.flush().unwrap();
    assert_eq!(Layout::sound(&dir.root()).names()["acknowledged"], image.digest().to_string());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (dir, store) = fresh();
    store.close().unwrap();
    let path = dir.root().join(".orlop/FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    // The line behind the record is its check; a record without one is taken as it is.
    let text = text.lines().next().unwrap();
    let newer: String = {
        let mut document: serde_json::Value = serde_json::from_str(text).expect("FORMAT is a JSON document");
        document["version"] = 4711.into();
        document.to_string()
    };
    fs::write(&path, newer).unwrap();
    let before = tree(&dir.root());
    fails(options().open(dir.root()), ErrorKind::Unsupported, &["4711"]);
    fails(options().open_or_create(dir.root()), ErrorKind::Unsupported, &["4711"]);
    assert_eq!(tree(&dir.root()), before);

    // Features: an unknown one that concerns writers leaves reading possible, an incompatible one nothing.
    let with = |key: &str| {
        let mut document: serde_json::Value = serde_json::from_str(text).unwrap();
        let spelled =
            document.as_object().unwrap().keys().find(|known| known.replace('-', "_") == key).cloned();
        document[spelled.unwrap_or_else(|| panic!("FORMAT has no {key}"))] =
            serde_json::json!(["from-the-future"]);
        fs::write(&path, document.to_string()).unwrap();
    };
    with("incompat");
    fails(options().open(dir.root()), ErrorKind::Unsupported, &["from-the-future"]);
    fails(options().open_read_only(dir.root()), ErrorKind::Unsupported, &["from-the-future"]);
    with("ro_compat");
    fails(options().open(dir.root()), ErrorKind::Unsupported, &["from-the-future"]);
    options().open_read_only(dir.root()).unwrap();
    with("compat");
    options().open(dir.root()).unwrap();
}

#[test]
fn a_garbled_format_is_damage_and_not_a_new_store() {
    let (dir, store) = fresh();
    image("a", 1).push(&store.default_repository(), &["v1"]);
    store.close().unwrap();
    for garbage in [&b""[..], b"garbage", b"{}"] {
        fs::write(dir.root().join(".orlop/FORMAT"), garbage).unwrap();
        fails(options().open(dir.root()), ErrorKind::Corrupt, &["FORMAT"]);
        fails(options().open_or_create(dir.root()), ErrorKind::Corrupt, &["FORMAT"]);
    }
}

#[test]
fn limits_are_checked_when_a_store_is_opened() {
    let dir = scratch();
    fails(options().inline_limit(1024 * 1024 + 1).create(dir.root()), ErrorKind::Invalid, &["1048577"]);
    assert!(!dir.root().exists());
    options().inline_limit(1024 * 1024).create(dir.root()).unwrap();
}

#[test]
fn every_mode_keeps_what_was_pushed() {
    for durability in [Durability::Power, Durability::Process] {
        for read_mode in [ReadMode::Map, ReadMode::Copy] {
            for publish in [Publish::Interval(Duration::from_millis(50)), Publish::OnClose, Publish::Manual] {
                let dir = scratch();
                let options = Options::new()
                    .durability(durability)
                    .read_mode(read_mode)
                    .publish(publish)
                    .verify(Verify::Always)
                    .untagged(Untagged::Keep);
                let store = options.create(dir.root()).unwrap();
                let image = image("a", 2);
                image.push(&store.default_repository(), &["v1"]);
                let large = store.default_repository().push_bytes(noise(1, 100_000)).unwrap();
                if publish == Publish::Manual {
                    store.flush().unwrap();
                }
                store.close().unwrap();
                assert_eq!(Layout::sound(&dir.root()).names()["v1"], image.digest().to_string());
                let store = options.open(dir.root()).unwrap();
                let here = store.default_repository();
                assert_eq!(here.resolve(&tag("v1")).unwrap().unwrap().digest, image.digest());
                assert_eq!(&here.get(&large.digest).unwrap().unwrap()[..], &noise(1, 100_000)[..]);
            }
        }
    }
}

#[test]
fn process_durability_survives_the_death_of_the_process() {
    let dir = scratch();
    let store = options().durability(Durability::Process).create(dir.root()).unwrap();
    let image = image("a", 2);
    image.push(&store.default_repository(), &["v1"]);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert_eq!(store.default_repository().resolve(&tag("v1")).unwrap().unwrap().digest, image.digest());
}

#[test]
fn handles_cross_threads() {
    fn crosses<T: Send + Sync + Clone + 'static>() {}
    crosses::<Store>();
    crosses::<orlop::Repository>();
    crosses::<orlop::Blob>();
    fn moves<T: Send + 'static>() {}
    moves::<orlop::Commit>();
    moves::<orlop::Batch>();
    moves::<orlop::Error>();
}

#[test]
fn a_closed_store_reopens_with_all_of_it() {
    let (dir, mut store) = fresh();
    for round in 0..4 {
        let here = store.default_repository();
        image(&format!("round {round}"), 1).push(&here, &[&format!("r{round}")]);
        if round % 2 == 1 {
            here.untag(&tag(&format!("r{}", round - 1)), Expect::Any).unwrap();
        }
        let before = describe(&store);
        drop(here);
        store.close().unwrap();
        store = options().open(dir.root()).unwrap();
        assert_eq!(describe(&store), before);
        assert_eq!(store.reports().len(), 0, "{:?}", store.reports());
    }
}

#[test]
fn leftovers_of_an_interrupted_ingest_are_cleared() {
    let (dir, store) = fresh();
    let mut ingest = store.ingest(orlop::Algorithm::Sha256).unwrap();
    ingest.write_all(&noise(3, 3_000_000)).unwrap();
    let ingest_dir = dir.root().join(".orlop/ingest");
    let aside = dir.path("aside");
    copy_tree(&ingest_dir, &aside);
    drop(ingest);
    store.close().unwrap();
    // As a crash would leave it; with unnamed temporary files there may be nothing to leave.
    fs::write(aside.join("tmp-leftover"), noise(4, 1000)).unwrap();
    for entry in fs::read_dir(&aside).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, ingest_dir.join(path.file_name().unwrap())).unwrap();
    }
    let store = options().open(dir.root()).unwrap();
    store.flush().unwrap();
    assert_eq!(fs::read_dir(&ingest_dir).unwrap().count(), 0);
}

#[test]
fn odd_files_in_the_place_of_documents_neither_hang_nor_mislead() {
    let image = image("a", 1);
    let digest = image.digest().to_string();
    let blob = format!("blobs/sha256/{}", digest.split_once(':').unwrap().1);
    for name in ["index.json", "oci-layout", &blob] {
        for kind in ["fifo", "directory", "link to itself", "link outside"] {
            let dir = scratch();
            plain_layout(&dir.root(), &[(Some("v1"), &image)], &[]);
            let path = dir.root().join(name);
            fs::rename(&path, dir.path("moved")).unwrap();
            match kind {
                "fifo" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "directory" => fs::create_dir(&path).unwrap(),
                "link to itself" => symlink(&path, &path).unwrap(),
                _ => symlink(dir.path("moved"), &path).unwrap(),
            }
            let (sender, receiver) = std::sync::mpsc::channel();
            let root = dir.root();
            thread::spawn(move || {
                let view = options().open_read_only(&root).map(|view| describe(&view));
                let store = options().create(&root).map(|store| describe(&store));
                let _ = sender.send((view, store));
            });
            let answer = receiver.recv_timeout(Duration::from_secs(20));
            let (view, store) = answer.unwrap_or_else(|_| panic!("{kind} as {name}: hangs"));
            for (what, result) in [("view", view), ("create", store)] {
                match result {
                    // What cannot be read shows nothing of itself.
                    Ok(shown) => assert!(
                        name == "oci-layout" || !shown.iter().any(|line| line.contains(" tag v1")),
                        "{kind} as {name}: {what} shows {shown:?}"
                    ),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        }
    }
}
