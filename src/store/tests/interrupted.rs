//! A publish that is interrupted leaves a file that is ours, whatever the next one does: it is never merged as an edit.

use std::path::Path;

use rustix::io::Errno;

use super::artifact::Artifact;
use crate::error::ErrorKind;
use crate::store::{Expect, Options, Publish, Repository, Store};
use crate::sys::fault::{Call, Fault, arm};

fn open(root: &Path) -> (Store, Repository) {
    let store = Options::new().publish(Publish::Manual).open_or_create(root).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    (store, here)
}

/// A tag that the interrupted publish was the first to show is removed after it, and must not come back.
fn removed_after(further: impl FnOnce(&Path)) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let mut batch = store.batch();
    let digest = Artifact::image("image", &[100]).add(&mut batch, &here).unwrap();
    batch.commit().unwrap();
    store.flush().unwrap();
    here.tag(&"t".parse().unwrap(), &digest, Expect::Absent).unwrap();
    // The new file has its name, and nobody learns whether that is durable.
    let armed = arm(Fault::new(Call::SyncDir, &root, Errno::IO));
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(armed.fired(), 1);
    drop((armed, here, store));

    let (store, here) = open(&root);
    here.untag(&"t".parse().unwrap(), Expect::Is(digest)).unwrap();
    drop((here, store));
    further(&root);

    let (store, here) = open(&root);
    store.flush().unwrap();
    assert_eq!(here.resolve(&"t".parse().unwrap()).unwrap(), None, "the tag came back");
    assert_eq!(store.reports(), []);
}

#[test]
fn the_file_of_an_interrupted_publish_is_not_merged_when_it_is_displaced() {
    removed_after(|_| {});
}

#[test]
fn the_file_of_an_interrupted_publish_is_ours_after_another_interruption() {
    removed_after(|root| {
        let (store, _) = open(root);
        let armed = arm(Fault::new(Call::Exchange, root, Errno::IO));
        assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(armed.fired(), 1);
    });
}

#[test]
fn an_edit_after_an_interrupted_publish_does_not_bring_a_tag_back() {
    removed_after(|root| {
        let index = root.join("index.json");
        let mut text = std::fs::read(&index).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("r:t"));
        text.push(b'\n');
        std::fs::write(&index, text).unwrap();
    });
}
