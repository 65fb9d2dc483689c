//! Files that nobody knows: removed when that is asked for, and never what anything may reach.

use std::fs;
use std::time::{Duration, SystemTime};

use orlop::{Algorithm, Digest, ErrorKind, Options};

use crate::support::*;

/// Puts a content into the directory as another tool does, so long ago.
fn put(dir: &Scratch, content: &[u8], age: Duration) -> Digest {
    let digest = digest_of(content);
    let path = blob_path(&dir.root(), &digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    digest
}

fn exists(dir: &Scratch, digest: &Digest) -> bool {
    blob_path(&dir.root(), digest).exists()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn only_old_files_that_nothing_reaches_go() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let known = image("known", 2).push(&here, &["v1"]);
    let held = here.push_bytes(noise(1, 50_000)).unwrap().digest;
    let old = put(&dir, b"old", 2 * HOUR);
    let young = put(&dir, b"young", HOUR / 2);
    fs::write(dir.root().join("blobs/sha256/README"), "not a content").unwrap();
    let directory = blob_path(&dir.root(), &digest_of(b"a directory"));
    fs::create_dir(&directory).unwrap();
    let before = content_tree(&dir.root());
    let counted = store.remove_unknown(HOUR, true).unwrap();
    assert_eq!((counted.removed, counted.bytes, counted.kept), (1, 3, 1));
    assert!(exists(&dir, &old), "a dry run removed it");
    assert_eq!(store.remove_unknown(HOUR, false).unwrap(), counted);
    assert!(!exists(&dir, &old) && exists(&dir, &young) && directory.exists());
    let mut expected: Vec<String> = before.into_keys().collect();
    expected.retain(|path| !path.ends_with(&old.encoded().to_string()));
    let mut left: Vec<String> = content_tree(&dir.root()).into_keys().collect();
    // What was journalled has its files by now.
    left.retain(|path| expected.contains(path));
    assert_eq!(left, expected);
    assert_eq!(store.remove_unknown(Duration::ZERO, false).unwrap().removed, 1);
    for digest in [&known, &held] {
        assert!(here.get(digest).unwrap().is_some());
    }
    assert!(store.verify().index(true).run().unwrap().is_sound());
    let view = Options::new().open_read_only(dir.root()).unwrap();
    fails(view.remove_unknown(HOUR, true), ErrorKind::ReadOnly, &[]);
}

#[test]
fn what_an_index_reaches_in_whatever_way_stays() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    // A sparse index: its second image came by another way, and no repository holds it.
    let (one, two) = (image("one", 1), image("two", 1));
    one.push(&here, &[]);
    let list = index(&[&one, &two]);
    let mut batch = store.batch();
    batch.push_sparse_manifest(&here, list.media_type, list.bytes.clone(), Algorithm::Sha256).unwrap();
    batch.commit().unwrap();
    let sparse = put(&dir, &two.bytes, 2 * HOUR);
    // An entry of another tool, whose artifact is taken in as far as it is there.
    let foreign = image("foreign", 2);
    let manifest = put(&dir, &foreign.bytes, 2 * HOUR);
    let layer = put(&dir, &foreign.parts[0], 2 * HOUR);
    store.flush().unwrap();
    edit(&dir.root(), &foreign.descriptor(), "docker.io/Library/Foreign:v1");
    let left = store.remove_unknown(Duration::ZERO, false).unwrap();
    assert_eq!((left.removed, left.kept), (0, 1), "{left:?}");
    for digest in [&sparse, &manifest, &layer] {
        assert!(exists(&dir, digest));
    }
    // What another one reaches cannot be told, so nothing goes at all.
    let loose = put(&dir, b"loose", 2 * HOUR);
    let garbled = put(&dir, b"{", 2 * HOUR);
    edit(&dir.root(), &descriptor(IMAGE, b"{"), "garbled");
    fails(store.remove_unknown(Duration::ZERO, false), ErrorKind::Corrupt, &[&garbled.to_string()]);
    assert!(exists(&dir, &loose) && exists(&dir, &garbled));
}

/// Another tool adds an entry.
fn edit(root: &std::path::Path, descriptor: &serde_json::Value, name: &str) {
    let path = root.join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut entry = descriptor.clone();
    entry["annotations"] = serde_json::json!({ REF_NAME: name });
    document["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, document.to_string()).unwrap();
}

#[test]
fn a_plain_layout_is_rid_of_what_its_index_does_not_reach() {
    let dir = scratch();
    let store = options().open_plain(dir.root()).unwrap();
    let here = store.default_repository();
    let kept = image("kept", 1).push(&here, &["v1"]);
    store.flush().unwrap();
    let loose = put(&dir, b"loose", 2 * HOUR);
    assert_eq!(store.remove_unknown(HOUR, false).unwrap().removed, 1);
    assert!(!exists(&dir, &loose) && exists(&dir, &kept));
    drop(here);
    store.close().unwrap();
    assert!(!dir.root().join(".orlop").exists());
    Layout::sound(&dir.root());
}
