//! Collections under clocks that jump and disks that fail, and with a step left out.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::artifact::{Artifact, noise};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::metadata::Kind;
use crate::store::{Answers, Collection, Expect, Options, Publish, Repository, Store};
use crate::sys::fault::{Call, Fault, arm};

const HOUR: Duration = Duration::from_secs(3600);
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

struct Place {
    store: Store,
    here: Repository,
    dir: tempfile::TempDir,
}

impl Place {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = options.create(dir.path().join("store")).unwrap();
        let here = store.repository(&"r".parse().unwrap());
        Self { store, here, dir }
    }

    fn root(&self) -> &Path {
        self.store.root()
    }

    fn collect(&self) -> Collection {
        self.store.collector().run().unwrap()
    }

    fn has(&self, digest: &Digest) -> bool {
        self.here.get(digest).unwrap().is_some()
    }

    fn has_file(&self, digest: &Digest) -> bool {
        self.store.core().blobs.path(digest).exists()
    }

    fn large(&self, seed: &str) -> Digest {
        self.here.push_bytes(noise(seed, 40_000)).unwrap().digest
    }
}

fn options() -> Options {
    Options::new().publish(Publish::Manual).grace(HOUR)
}

#[test]
fn a_clock_that_is_set_forward_takes_nothing_that_was_just_pushed() {
    let at = Place::new(options());
    let digest = at.large("pushed");
    at.store.core().clock.jump(10 * DAY_MILLIS);
    let report = at.collect();
    assert_eq!((report.contents, report.kept.touched), (0, 1), "{report:?}");
    at.store.core().clock.pass(HOUR * 2);
    assert_eq!(at.collect().contents, 1);
    assert!(!at.has(&digest));
}

#[test]
fn a_clock_that_is_set_back_delays_and_loses_nothing() {
    let at = Place::new(options());
    at.store.core().clock.jump(100 * DAY_MILLIS);
    let digest = at.large("pushed");
    at.store.core().clock.jump(-100 * DAY_MILLIS);
    let clock = &at.store.core().clock;
    clock.pass(HOUR * 2);
    assert_eq!(at.collect().contents, 0, "its row is from the future, and is corrected");
    assert!(at.has(&digest));
    clock.pass(HOUR * 2);
    assert_eq!(at.collect().contents, 1);
}

#[test]
fn a_lease_ends_by_both_clocks() {
    let at = Place::new(options());
    let digest = at.large("leased");
    let lease = at.store.lease(HOUR * 5, "").unwrap();
    lease.add(&[digest]).unwrap();
    let clock = &at.store.core().clock;
    clock.jump(10 * DAY_MILLIS);
    clock.pass(HOUR * 2);
    let report = at.collect();
    assert_eq!((report.leases, report.kept.leased), (0, 1), "{report:?}");
    clock.pass(HOUR * 2);
    assert_eq!(at.collect().contents, 0);
    clock.pass(HOUR * 2);
    let report = at.collect();
    assert_eq!((report.leases, report.contents), (1, 1), "{report:?}");
}

#[test]
fn what_another_process_may_have_answered_is_waited_for() {
    let at = Place::new(options().publish(Publish::OnClose));
    at.large("garbage");
    let Place { store, here, dir } = at;
    drop(here);
    let root = store.root().to_path_buf();
    store.core().clock.pass(HOUR * 3);
    store.close().unwrap();
    for answers in [Answers::Local, Answers::Shared] {
        let store = options().answers(answers).open(&root).unwrap();
        // By the time of day the other process ends three hours from now: nobody can tell when it did.
        let wait = store.collector().run().unwrap().wait.unwrap();
        assert!(wait <= HOUR && wait > HOUR / 2, "{answers:?} {wait:?}");
        assert_eq!(store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap().contents, 1);
        store.core().clock.pass(HOUR * 4);
        if answers == Answers::Shared {
            let report = store.collector().run().unwrap();
            assert_eq!((report.wait, report.contents), (None, 1), "{report:?}");
        }
    }
    drop(dir);
}

#[test]
fn without_touches_an_existence_answer_is_broken() {
    for kept in [true, false] {
        let at = Place::new(options());
        let digest = at.large("asked for");
        at.store.core().clock.pass(HOUR * 2);
        let left_out = (!kept).then(|| arm(Fault::skip(Call::Touch, at.root()).forever()));
        assert!(at.here.stat(&digest).unwrap().is_some());
        at.collect();
        assert_eq!(at.has(&digest), kept);
        drop(left_out);
    }
}

#[test]
fn without_the_second_look_a_file_that_is_back_is_lost() {
    for kept in [true, false] {
        let at = Place::new(options().grace(Duration::ZERO));
        let digest = at.large("back");
        let mut batch = at.store.batch();
        let image = Artifact::image("image", &[10]).add(&mut batch, &at.here).unwrap();
        batch.tag(&at.here, &"t".parse().unwrap(), image, Expect::Any);
        batch.commit().unwrap();
        assert_eq!((at.collect().waiting, at.has_file(&digest)), (1, true), "index.json is not published");
        assert_eq!(at.large("back"), digest);
        let left_out = (!kept).then(|| arm(Fault::skip(Call::LookAgain, at.root()).forever()));
        at.store.flush().unwrap();
        assert_eq!(at.has_file(&digest), kept);
        drop(left_out);
    }
}

#[test]
fn a_file_that_the_disk_keeps_is_told_and_tried_again() {
    let at = Place::new(options().grace(Duration::ZERO));
    let digests = [at.large("one"), at.large("two"), at.large("three")];
    at.store.flush().unwrap();
    let armed = arm(Fault::new(Call::Unlink, &at.root().join("blobs"), Errno::IO).nth(2));
    let report = at.collect();
    assert_eq!((report.contents, report.files, report.waiting), (3, 2, 1), "{report:?}");
    assert_eq!((armed.fired(), report.failed.len()), (1, 1));
    assert!(digests.contains(&report.failed[0].digest) && at.has_file(&report.failed[0].digest));
    drop(armed);
    assert_eq!(at.collect().files, 1);
    assert!(!digests.iter().any(|digest| at.has_file(digest)));
}

#[test]
fn a_sync_that_fails_while_files_go_stops_all_writing() {
    let at = Place::new(options().grace(Duration::ZERO));
    let digest = at.large("one");
    at.store.flush().unwrap();
    let armed = arm(Fault::new(Call::SyncRows, at.root(), Errno::IO));
    let error = at.store.collector().run().unwrap_err();
    assert_eq!((error.kind(), armed.fired()), (ErrorKind::Indeterminate, 1));
    assert!(at.has_file(&digest), "nothing goes before the log knows");
    drop(armed);
    assert_eq!(at.store.collector().run().unwrap_err().kind(), ErrorKind::Poisoned);
    let Place { store, here, dir } = at;
    let root = store.root().to_path_buf();
    drop((store, here));
    let store = options().grace(Duration::ZERO).open(&root).unwrap();
    store.flush().unwrap();
    let here = store.repository(&"r".parse().unwrap());
    store.collector().run().unwrap();
    assert!(here.get(&digest).unwrap().is_none() && !store.core().blobs.path(&digest).exists());
    drop(dir);
}

#[test]
fn a_row_too_many_in_the_queue_does_no_harm() {
    use crate::metadata::{Class, Queued, RepositoryId};
    let at = Place::new(options().grace(Duration::ZERO));
    let mut batch = at.store.batch();
    let image = Artifact::image("kept", &[10, 40_000]);
    let digest = image.add(&mut batch, &at.here).unwrap();
    batch.tag(&at.here, &"t".parse().unwrap(), digest, Expect::Any);
    batch.commit().unwrap();
    let gone = at.large("gone");
    at.store.flush().unwrap();
    let core = at.store.core();
    let id = core.metadata.view().repository("r").unwrap().unwrap();
    let mut rows = core.metadata.rows();
    let parts = image.parts.iter().map(|part| crate::digest::Algorithm::Sha256.digest(part));
    for digest in parts.chain([digest, gone, Digest::of(b"nobody")]) {
        for class in [Class::Manifest, Class::Subject, Class::Blob, Class::Content] {
            for (id, since) in [(id, 0), (id, 5), (RepositoryId(99), 7)] {
                rows.put_queued(&Queued::new(class, since, id, digest));
            }
        }
        rows.put_untagged(id, &digest, 3, None);
    }
    core.write(rows).unwrap();
    let before = super::state::state(&at.store).unwrap();
    let report = at.collect();
    assert_eq!((report.manifests, report.blobs, report.contents), (0, 1, 1), "{report:?}");
    let after = super::state::state(&at.store).unwrap();
    assert_eq!(before.difference(&after).count(), 1);
    let would = at.store.collector().dry_run(true).run().unwrap();
    assert_eq!((would.contents, would.kept.not_due), (0, 0), "the queue is empty");
}

#[test]
fn nothing_that_is_left_alone_is_forgotten_by_the_queue() {
    let at = Place::new(options());
    let mut batch = at.store.batch();
    at.large("loose");
    Artifact::image("untagged", &[10]).add(&mut batch, &at.here).unwrap();
    batch.commit().unwrap();
    let verify = || at.store.verify().index(true).run().unwrap().findings;
    assert_eq!(verify(), []);
    let core = at.store.core();
    let mut rows = core.metadata.rows();
    core.metadata
        .view()
        .queued(crate::metadata::Class::Blob, None, u64::MAX, |row| {
            rows.delete_queued(&row);
            Ok(crate::store::until(false))
        })
        .unwrap();
    core.write(rows).unwrap();
    let found = verify();
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("no collection will look at it"), "{found:?}");
}

/// Somebody removes unknown files between the two phases of a collection: `index.json` may reach what is condemned, and after a
/// power cut its rows may be back.
#[test]
fn what_is_condemned_is_not_unknown() {
    let at = Place::new(options());
    let digest = at.large("condemned");
    let core = at.store.core();
    let id = core.metadata.view().repository("r").unwrap().unwrap();
    let mut rows = core.metadata.rows();
    rows.delete_member(id, Kind::Blob, &digest);
    rows.delete_condemned(&digest, 40_000);
    rows.put_tombstone(&digest, core.metadata.next_sequence());
    core.write(rows).unwrap();
    assert!(!core.remove_unknown_file(&digest).unwrap() && at.has_file(&digest));
    let mut rows = core.metadata.rows();
    rows.delete_tombstone(&digest);
    core.write(rows).unwrap();
    assert!(core.remove_unknown_file(&digest).unwrap() && !at.has_file(&digest));
}

/// What it held is gone when the deletion answers, and not with the next one or a collection.
#[test]
fn a_deletion_clears_its_own_rows() {
    let at = Place::new(options().publish(Publish::OnClose));
    at.large("deleted");
    assert!(at.store.delete_repository(&"r".parse().unwrap()).unwrap());
    let mut left = 0;
    let view = at.store.core().metadata.view();
    view.deleted(|_| {
        left += 1;
        Ok(crate::store::until(false))
    })
    .unwrap();
    assert_eq!(left, 0);
    assert!(at.store.core().uncleared.lock().is_empty());
}

/// The disk is full when the rows of a deleted repository are to go: they go with the next collection or deletion that finds
/// room, and not with the next open alone.
#[test]
fn what_a_deletion_left_for_want_of_room_goes_when_there_is_some() {
    for by_collection in [true, false] {
        let at =
            Place::new(options().publish(Publish::OnClose).grace(Duration::ZERO).answers(Answers::Local));
        let digest = at.large("deleted");
        let left = || {
            let mut left = Vec::new();
            let view = at.store.core().metadata.view();
            view.deleted(|id| {
                left.push(id);
                Ok(crate::store::until(false))
            })
            .unwrap();
            left.len()
        };
        let full = arm(Fault::new(Call::Space, at.root(), Errno::NOSPC).nth(2).forever());
        assert!(at.store.delete_repository(&"r".parse().unwrap()).unwrap());
        assert_eq!(left(), 1);
        // Without room a collection does what it can.
        let waiting = at.store.collector().run();
        assert!(waiting.is_ok() || waiting.unwrap_err().kind() == ErrorKind::NoSpace);
        assert!(!at.store.delete_repository(&"other".parse().unwrap()).unwrap());
        assert_eq!((left(), at.has_file(&digest)), (1, true));
        drop(full);
        if !by_collection {
            at.store.repository(&"other".parse().unwrap()).push_bytes("x").unwrap();
            assert!(at.store.delete_repository(&"other".parse().unwrap()).unwrap());
            assert_eq!(left(), 0);
        }
        at.collect();
        assert_eq!(left(), 0);
        at.collect();
        assert!(!at.has_file(&digest));
        assert_eq!(at.store.usage().unwrap(), crate::store::StoreUsage::default());
        assert!(at.store.verify().index(true).run().unwrap().is_sound());
    }
}

#[test]
fn what_cannot_be_read_of_a_deleted_repository_stops_no_collection() {
    let at = Place::new(options());
    let digest = at.large("garbage");
    let mut batch = at.store.batch();
    batch.delete_blob(&at.here, &digest);
    batch.commit().unwrap();
    let core = at.store.core();
    let gone = crate::metadata::RepositoryId(77);
    let mut rows = core.metadata.rows();
    rows.spoil_tag(gone, "v1");
    core.write(rows).unwrap();
    core.uncleared.lock().push(gone);
    assert_eq!(core.clear_uncleared().unwrap_err().kind(), ErrorKind::Corrupt);
    core.clock.pass(2 * HOUR);
    // Its file waits: no view can be published that has such a row, and none is unlinked before.
    assert_eq!(at.collect().contents, 1);
    assert!(at.has_file(&digest));
    // It is tried again.
    assert_eq!(*core.uncleared.lock(), [gone]);
}
