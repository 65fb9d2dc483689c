//! Repair: what is hurt comes back from another layout, hashed, and nothing else changes.

use std::fs;
use std::ops::ControlFlow;

use orlop::{Algorithm, Digest, ErrorKind, Options, Sharing, Store};

use crate::support::*;

/// A store with an image and some large blobs, and a copy of its layout without `.orlop`.
fn pair() -> (Scratch, Store, Scratch, Vec<Vec<u8>>) {
    let (dir, store) = fresh();
    let a = repo(&store, "a");
    image("one", 2).push(&a, &["v1"]);
    let large: Vec<Vec<u8>> = (0..4).map(|n| noise(n, 90_000)).collect();
    for bytes in &large {
        a.push_bytes(bytes.clone()).unwrap();
    }
    let mut batch = store.batch();
    for bytes in &large {
        let content = store.ingest_bytes(bytes.clone(), &orlop::Expected::default()).unwrap();
        batch.push(&a, content).unwrap();
    }
    batch.commit().unwrap();
    store.flush().unwrap();
    let copy = scratch();
    copy_tree(&dir.root(), &copy.root());
    fs::remove_dir_all(copy.root().join(".orlop")).unwrap();
    (dir, store, copy, large)
}

/// The copy, with every blob named by an index entry of its own kind, so that a view of it knows them.
fn source(copy: &Scratch, large: &[Vec<u8>]) -> Store {
    let body = serde_json::json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(EMPTY, b"{}"),
        "layers": large.iter().map(|bytes| descriptor(LAYER, bytes)).collect::<Vec<_>>()});
    let bytes = serde_json::to_vec(&body).unwrap();
    let all = Artifact { media_type: IMAGE, bytes, parts: vec![b"{}".to_vec()] };
    put_blobs(&copy.root(), &all);
    edit_index(&copy.root(), |entries| entries.push(entry(Some("all"), &all)));
    Options::new().open_read_only(copy.root()).unwrap()
}

#[test]
fn damaged_and_missing_content_comes_back() {
    let (dir, store, copy, large) = pair();
    let source = source(&copy, &large);
    let path = |n: usize| blob_path(&dir.root(), &digest_of(&large[n]));
    assert_eq!(store.repair_from(&source).run().unwrap(), orlop::RepairReport::default());
    fs::remove_file(path(0)).unwrap();
    damage(&path(1));
    let manifest = image("one", 2).digest();
    fs::remove_file(blob_path(&dir.root(), &manifest)).unwrap();
    assert!(!store.verify().read_data(true).run().unwrap().is_sound());
    let before = describe_names(&store);
    let mut report = store.repair_from(&source).sharing(Sharing::Never).run().unwrap();
    report.healed.sort();
    let mut expected = [digest_of(&large[0]), digest_of(&large[1]), manifest];
    expected.sort();
    assert_eq!(report.healed, expected);
    assert_eq!((report.brought.len(), report.lacking.len()), (0, 0));
    assert!(report.bytes > 180_000);
    assert_eq!(store.verify().read_data(true).index(true).run().unwrap().findings, []);
    assert_eq!(describe_names(&store), before, "membership and tags stay as they were");
    store.flush().unwrap();
    Layout::sound(&dir.root());
}

fn describe_names(store: &Store) -> Vec<(String, Digest)> {
    tags(&repo(store, "a"))
}

#[test]
fn what_the_source_lacks_or_has_damaged_stays_lacking() {
    let (dir, store, copy, large) = pair();
    let source = source(&copy, &large);
    let path = |n: usize| blob_path(&dir.root(), &digest_of(&large[n]));
    fs::remove_file(path(0)).unwrap();
    fs::remove_file(path(1)).unwrap();
    damage(&blob_path(&copy.root(), &digest_of(&large[0])));
    fs::remove_file(blob_path(&copy.root(), &digest_of(&large[1]))).unwrap();
    let mut report = store.repair_from(&source).run().unwrap();
    report.lacking.sort();
    let mut expected = [digest_of(&large[0]), digest_of(&large[1])];
    expected.sort();
    assert_eq!(report.lacking, expected);
    assert_eq!(report.healed, []);
    assert!(!path(0).exists() && !path(1).exists());
    let reader = Options::new().open_read_only(dir.root()).unwrap();
    fails(reader.repair_from(&source).run(), ErrorKind::ReadOnly, &[]);
    let stopped = store.repair_from(&source).watch(|_| ControlFlow::Break(())).run();
    fails(stopped, ErrorKind::Interrupted, &[]);
}

#[test]
fn layers_that_a_copy_lost_are_brought_and_platforms_that_it_left_out_are_not() {
    let (_dir, source) = fresh();
    let from = source.default_repository();
    let (one, two) = (image("one", 2), image("two", 1));
    one.push(&from, &[]);
    two.push(&from, &[]);
    let list = index(&[&one, &two]);
    list.push(&from, &["multi"]);
    let (dir, store) = fresh();
    let to = store.default_repository();
    let mut batch = store.batch();
    // The second layer did not come, and the second platform was not wanted.
    for part in one.parts.iter().filter(|part| **part != one.parts[1]) {
        batch.push_bytes(&to, part.clone()).unwrap();
    }
    batch.push_sparse_manifest(&to, IMAGE, one.bytes.clone(), Algorithm::Sha256).unwrap();
    let digest = batch.push_sparse_manifest(&to, INDEX, list.bytes.clone(), Algorithm::Sha256).unwrap();
    batch.tag(&to, &tag("multi"), digest, orlop::Expect::Absent);
    batch.commit().unwrap();
    let report = store.repair_from(&source).run().unwrap();
    assert_eq!(report.brought, [digest_of(&one.parts[1])]);
    assert_eq!((report.healed.len(), report.lacking.len()), (0, 0));
    assert!(to.stat(&two.digest()).unwrap().is_none());
    assert!(store.verify().index(true).run().unwrap().is_sound());
    store.flush().unwrap();
    assert_eq!(Layout::read(&dir.root()).wrong, [format!("missing {}", two.digest())]);
}
