//! Usage where only the inside of the store can bring it about: stores without counters, and contents that go.

use crate::digest::Digest;
use crate::metadata::{Count, Kind, fact};
use crate::store::{Options, Publish, Store, StoreUsage, Usage, usage};

fn options() -> Options {
    Options::new().publish(Publish::Manual)
}

/// A store as a version wrote it that did not count.
fn uncounted(store: Store) {
    let core = store.core();
    let mut rows = core.metadata.rows();
    rows.delete_fact(fact::COUNTED);
    let id = core.metadata.view().repository("r").unwrap().unwrap();
    rows.delete_usage(id);
    // As if something had been removed meanwhile.
    rows.add_usage(None, -7);
    core.write(rows).unwrap();
    store.close().unwrap();
}

#[test]
fn a_store_without_counters_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = options().create(&root).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    here.push_bytes("one").unwrap();
    here.push_bytes(vec![1; 50_000]).unwrap();
    let (expected, repository) = (store.usage().unwrap(), here.usage().unwrap());
    assert_eq!((expected.stored_objects, expected.stored_bytes), (2, 50_003));
    drop(here);
    uncounted(store);
    // A view counts for itself, and writes nothing.
    for _ in 0..2 {
        let view = options().open_read_only(&root).unwrap();
        assert_eq!(view.usage().unwrap(), expected);
        assert_eq!(view.repository(&"r".parse().unwrap()).usage().unwrap(), repository);
        assert!(view.verify().index(true).run().unwrap().is_sound());
    }
    for _ in 0..2 {
        let store = options().open(&root).unwrap();
        assert_eq!(store.usage().unwrap(), expected);
        assert_eq!(store.repository(&"r".parse().unwrap()).usage().unwrap(), repository);
        store.close().unwrap();
    }
}

#[test]
fn content_that_goes_takes_its_counts_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().create(dir.path().join("s")).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    let digest = here.push_bytes("content").unwrap().digest;
    let core = store.core();
    let id = core.metadata.view().repository("r").unwrap().unwrap();
    let mut rows = core.metadata.rows();
    rows.delete_member(id, Kind::Blob, &digest);
    let rows = rows.count().unwrap();
    assert_eq!(rows.changes().total.unheld, Count { objects: 1, bytes: 7 });
    rows.commit(false).unwrap();
    assert_eq!(store.usage().unwrap().garbage_bytes, 7);
    assert_eq!(here.usage().unwrap(), Usage::default());
    // As a collection does it: content, journal and all.
    let mut rows = core.metadata.rows();
    rows.delete_condemned(&digest, 7);
    rows.delete_journal(&digest, 7);
    rows.commit(false).unwrap();
    assert_eq!(store.usage().unwrap(), StoreUsage::default());
    assert_eq!(usage::differences(&core.metadata.snapshot()).unwrap(), []);
    core.journal.release(1, 7);
}

/// Counters that drifted are told, and set right while pushes go on and limits count with them.
#[test]
fn counters_that_drifted_are_set_right() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s");
    let store = options().create(&root).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    here.push_bytes("content").unwrap();
    let id = store.core().metadata.view().repository("r").unwrap().unwrap();
    let quota = crate::store::Quota { objects: Some(4), bytes: None };
    assert_eq!(store.correct_usage().unwrap(), 0);
    let mut rows = store.core().metadata.rows();
    rows.add_usage(Some(id), 3);
    // One whose repository holds nothing, or is gone.
    rows.add_usage(Some(crate::metadata::RepositoryId(77)), 2);
    rows.add_usage(None, -1);
    store.core().write(rows).unwrap();
    here.set_quota(&quota).unwrap();
    assert!(here.push_bytes("no room").is_err());
    assert_eq!(store.verify().index(true).run().unwrap().findings.len(), 3);
    assert_eq!(store.correct_usage().unwrap(), 3);
    assert_eq!(usage::differences(&store.core().metadata.snapshot()).unwrap(), []);
    assert!(store.verify().index(true).run().unwrap().is_sound());
    for content in ["two", "three", "four"] {
        here.push_bytes(content).unwrap();
    }
    assert!(here.push_bytes("five").is_err());
    assert_eq!(store.correct_usage().unwrap(), 0);
    let view = options().open_read_only(&root).unwrap();
    assert_eq!(view.correct_usage().unwrap_err().kind(), crate::error::ErrorKind::ReadOnly);
}

/// The engine's repair meets operands in its log and in tables.
#[test]
fn counters_survive_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata");
    let metadata = crate::metadata::Metadata::open(&path).unwrap();
    let join = |n: u32| {
        let mut rows = metadata.rows();
        let digest = Digest::of(&n.to_be_bytes());
        rows.put_new_content(&digest, &crate::metadata::ContentRecord::new(10));
        rows.put_member(crate::metadata::RepositoryId(1 + n % 2), &digest, None);
        rows.commit(true).unwrap();
    };
    for n in 0..100 {
        join(n);
        if n % 30 == 0 {
            metadata.flush().unwrap();
        }
    }
    let expected = metadata.view().recount().unwrap();
    assert_eq!(expected.total.stored, Count { objects: 100, bytes: 1000 });
    let same = |metadata: &crate::metadata::Metadata| {
        let view = metadata.view();
        assert_eq!(view.usage().unwrap(), expected.total);
        for (id, held) in &expected.repositories {
            assert_eq!(view.usage_of(*id).unwrap(), *held);
        }
    };
    same(&metadata);
    drop(metadata);
    same(&crate::metadata::Metadata::open_read_only(&path).unwrap());
    std::fs::write(path.join("CURRENT"), "garbage").unwrap();
    for name in std::fs::read_dir(&path).unwrap() {
        let name = name.unwrap().path();
        if name.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
            std::fs::remove_file(name).unwrap();
        }
    }
    let metadata = crate::metadata::Metadata::salvage(&path).unwrap();
    same(&metadata);
    metadata.compact();
    same(&metadata);
}
