//! Places and failures of checkpoints that no real filesystem here gives.

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use crate::error::ErrorKind;
use crate::store::{Options, Publish, Store};
use crate::sys::fault::{Call, Fault, arm};

fn filled(root: &Path) -> Store {
    let store = Options::new().publish(Publish::Manual).create(root).unwrap();
    for size in [10, 40_000, 50_000] {
        store.default_repository().push_bytes(super::artifact::noise("x", size)).unwrap();
    }
    store
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn another_filesystem_takes_copies_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let copy = dir.path().join("copy");
    for errno in [Errno::XDEV, Errno::OPNOTSUPP, Errno::PERM] {
        let armed = arm(Fault::new(Call::Link, dir.path(), errno).forever());
        let error = store.checkpoint(&copy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{errno:?}");
        assert!(error.to_string().contains("copy it"), "{error}");
        assert_eq!(names(dir.path()), ["store"], "nothing is left");
        drop(armed);
    }
    let armed = arm(Fault::new(Call::Link, dir.path(), Errno::XDEV).forever());
    let report = store.checkpointer().copy(true).run(&copy).unwrap();
    drop(armed);
    assert_eq!((report.contents, report.copied, report.linked), (3, 3, 0));
    assert!(Options::new().open(&copy).unwrap().verify().read_data(true).run().unwrap().is_sound());
}

#[test]
fn a_file_with_too_many_names_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    // The first link is the probe.
    let armed = arm(Fault::new(Call::Link, dir.path(), Errno::MLINK).nth(2));
    let report = store.checkpoint(dir.path().join("copy")).unwrap();
    assert_eq!(armed.fired(), 1);
    assert_eq!((report.contents, report.copied, report.linked, report.damaged), (3, 1, 2, 0));
}

#[test]
fn a_failed_sync_of_the_copy_does_not_stop_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    for call in [Call::SyncRows, Call::SyncDir, Call::SyncDocument, Call::SyncFs] {
        store.flush().unwrap();
        let armed = arm(Fault::new(call, dir.path(), Errno::IO).forever());
        let error = store.checkpointer().copy(true).run(dir.path().join("copy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{call:?}: {error}");
        drop(armed);
        assert_eq!(names(dir.path()), ["store"], "{call:?}");
        store.default_repository().push_bytes(format!("{call:?}")).unwrap();
    }
    store.checkpoint(dir.path().join("copy")).unwrap();
}

#[test]
fn one_place_is_for_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let copy = dir.path().join("copy");
    let mut second = None;
    let made = store
        .checkpointer()
        .watch(|_| {
            // Of another store, since one store makes one at a time.
            if second.is_none() {
                let other = filled(&dir.path().join("other"));
                second = Some(other.checkpoint(&copy).unwrap_err());
            }
            std::ops::ControlFlow::Continue(())
        })
        .run(&copy);
    assert_eq!(made.unwrap().contents, 3);
    assert_eq!(second.unwrap().kind(), ErrorKind::Locked);
    assert_eq!(names(dir.path()), ["copy", "other", "store"]);
}

#[test]
fn files_keep_their_names_until_the_last_link_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("store"));
    let mut watched = 0;
    let report = store
        .checkpointer()
        .watch(|progress| {
            watched += 1;
            assert!(!store.core().locks.may_unlink());
            let bytes = super::artifact::noise(&format!("while {}", progress.contents), 50_000);
            store.default_repository().push_bytes(bytes).unwrap();
            store.flush().unwrap();
            std::ops::ControlFlow::Continue(())
        })
        .run(dir.path().join("copy"))
        .unwrap();
    assert_eq!((watched, report.contents), (3, 3), "what comes meanwhile is not in it");
    assert!(store.core().locks.may_unlink());
    assert_eq!(store.default_repository().contents(None, 100).unwrap().items.len(), 6);
}
