//! Verification on a disk that fails now and then: what cannot be looked at is not called missing, and is not damaged for
//! ever.

use rustix::io::Errno;

use super::artifact::{Artifact, noise};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::store::{Expect, Finding, Flaw, Options, Publish, Repository, Store};
use crate::sys::fault::{Call, Fault, arm};

/// A store of one tagged image, all of it in files and published; and a large content of the image.
fn place() -> (tempfile::TempDir, Store, Repository, Digest) {
    let temp = tempfile::tempdir().unwrap();
    let store = Options::new().publish(Publish::Manual).create(temp.path().join("store")).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    let image = Artifact::image("image", &[40_000]);
    let mut batch = store.batch();
    let digest = image.add(&mut batch, &here).unwrap();
    batch.tag(&here, &"v1".parse().unwrap(), digest, Expect::Absent);
    batch.commit().unwrap();
    store.flush().unwrap();
    let large = image.parts.iter().find(|part| part.len() == 40_000).unwrap();
    let large = Digest::of(large);
    (temp, store, here, large)
}

fn flaws(findings: &[Finding]) -> Vec<Flaw> {
    let mut flaws: Vec<Flaw> = findings.iter().map(|finding| finding.flaw).collect();
    flaws.dedup();
    flaws
}

#[test]
fn a_look_that_fails_is_not_taken_for_a_file_that_is_missing() {
    let (_temp, store, _here, _) = place();
    let blobs = store.root().join("blobs");
    let armed = arm(Fault::new(Call::Stat, &blobs, Errno::IO).forever());
    let report = store.verify().index(true).run().unwrap();
    assert!(armed.fired() > 1);
    drop(armed);
    assert_eq!(flaws(&report.findings), [Flaw::Unreadable], "{:?}", report.findings);
}

#[test]
fn content_that_could_not_be_read_for_a_while_is_whole_again_once_it_can_be() {
    for read_data in [false, true] {
        cannot_be_read_for_a_while(read_data);
    }
}

fn cannot_be_read_for_a_while(read_data: bool) {
    let (_temp, store, here, digest) = place();
    let blobs = store.root().join("blobs");
    let damaged = || store.core().metadata.view().content(&digest).unwrap().unwrap().damaged;
    let armed = arm(Fault::new(Call::Open, &blobs, Errno::IO).forever());
    let report = store.verify().read_data(true).run().unwrap();
    assert_eq!(flaws(&report.findings), [Flaw::Unreadable], "{:?}", report.findings);
    drop(armed);
    assert!(damaged(), "a push has to bring it again");
    let report = store.verify().read_data(read_data).run().unwrap();
    assert!(report.is_sound() && !damaged(), "{:?}", report.findings);
    assert!(here.push_bytes(noise("other", 100)).is_ok());
    store.close().unwrap();
}

#[test]
fn after_a_failed_sync_damage_is_told_and_nothing_is_written() {
    let (_temp, store, here, digest) = place();
    let armed = arm(Fault::new(Call::SyncRows, store.root(), Errno::IO));
    assert_eq!(here.push_bytes("more").unwrap_err().kind(), ErrorKind::Indeterminate);
    drop(armed);
    let path = store.core().blobs.path(&digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, noise("rot", 40_000)).unwrap();
    let report = store.verify().read_data(true).quarantine(true).run().unwrap();
    assert_eq!(flaws(&report.findings), [Flaw::Bytes], "{:?}", report.findings);
    assert!(report.findings.iter().all(|finding| !finding.quarantined) && path.exists());
    assert!(!store.core().metadata.view().content(&digest).unwrap().unwrap().damaged);
    // A read says what it found, not that it could not be put down.
    assert_eq!(store.unscoped().verify(&digest).unwrap_err().kind(), ErrorKind::Corrupt);
}
