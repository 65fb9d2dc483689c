//! What an upload session keeps beside its bytes: room in quotas as long as it lives, and a lease for what it becomes.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use orlop::{ErrorKind, Expected, Lease, Limits, Quota, Repository, Store, Upload, UploadId, UploadOptions};

use crate::collecting::collect;
use crate::support::*;
use crate::usage::assert_counted;

const HOUR: Duration = Duration::from_secs(3600);

/// The quota of most tests here, in bytes.
const LIMIT: u64 = 200_000;

fn bytes(limit: u64) -> Quota {
    Quota { bytes: Some(limit), ..Quota::default() }
}

fn limited() -> (Scratch, Store) {
    let (dir, store) = fresh();
    repo(&store, "r").set_quota(&bytes(LIMIT)).unwrap();
    (dir, store)
}

fn start(repository: &Repository) -> Upload {
    repository.start_upload(&UploadOptions::new()).unwrap()
}

fn resume(store: &Store, id: UploadId) -> Upload {
    repo(store, "r").upload(&id).unwrap().unwrap()
}

/// A session that has so many bytes, saved.
fn saved(store: &Store, size: usize) -> UploadId {
    let mut upload = start(&repo(store, "r"));
    upload.append(0, noise(size as u64, size)).unwrap();
    upload.save().unwrap();
    upload.id()
}

/// So many bytes are free, and not one more.
#[track_caller]
fn free(store: &Store, bytes: u64) {
    let here = repo(store, "r");
    drop(here.reserve(bytes).unwrap());
    fails(here.reserve(bytes + 1), ErrorKind::QuotaExceeded, &[]);
}

#[test]
fn bytes_have_their_room_before_they_are_stored_and_keep_it() {
    let (dir, store) = limited();
    let here = repo(&store, "r");
    let content = noise(1, 200_000);
    let mut upload = start(&here);
    free(&store, LIMIT);
    upload.append(0, &content[..120_000]).unwrap();
    free(&store, 80_000);
    fails(here.push_bytes(noise(2, 80_001)), ErrorKind::QuotaExceeded, &["repository=r", "reserved=120000"]);
    // Refused before it is stored, and the session goes on.
    for more in [80_001, 150_000] {
        let refused = upload.append(120_000, noise(3, more));
        fails(refused, ErrorKind::QuotaExceeded, &["repository=r", &format!("needed={more}")]);
    }
    assert_eq!(upload.offset(), 120_000);
    let file = dir.root().join(format!(".orlop/ingest/upload-{}", upload.id()));
    assert_eq!(fs::metadata(file).unwrap().len(), 120_000);
    upload.append(120_000, &content[120_000..]).unwrap();
    fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &["used=0", "reserved=200000"]);
    upload.finish(&Expected::from(digest_of(&content))).unwrap();
    fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &["used=200000", "reserved=0"]);
    here.set_quota(&bytes(LIMIT + 7)).unwrap();
    free(&store, 7);
    assert_counted(&store);
}

#[test]
fn an_announced_size_has_its_room_from_the_beginning() {
    let (_dir, store) = limited();
    let here = repo(&store, "r");
    let sized = |size| here.start_upload(&UploadOptions::new().size(size));
    fails(sized(LIMIT + 1), ErrorKind::QuotaExceeded, &["needed=200001"]);
    assert_eq!(store.uploads(None, 10).unwrap().items, []);
    let mut upload = sized(LIMIT - 10).unwrap();
    fails(sized(11), ErrorKind::QuotaExceeded, &["reserved=199990", "needed=11"]);
    free(&store, 10);
    upload.append(0, noise(1, 100)).unwrap();
    upload.save().unwrap();
    free(&store, 10);
    upload.cancel().unwrap();
    free(&store, LIMIT);
}

#[test]
fn a_session_is_one_object_to_come_in_both_quotas() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    for (of_store, limit) in [(false, 1), (true, 2)] {
        let quota = Quota { objects: Some(limit), bytes: None };
        if of_store {
            store.set_quota(&quota).unwrap();
        } else {
            here.set_quota(&quota).unwrap();
        }
        let mut upload = start(&here);
        let refused = here.start_upload(&UploadOptions::new());
        let whose = if of_store { "the store has no room" } else { "repository=r" };
        fails(refused, ErrorKind::QuotaExceeded, &[whose, "of=objects", "reserved=1"]);
        fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &["of=objects"]);
        upload.append(0, limit.to_string()).unwrap();
        upload.finish(&Expected::default()).unwrap();
        let used = format!("used={limit}, reserved=0");
        fails(here.start_upload(&UploadOptions::new()), ErrorKind::QuotaExceeded, &[&used]);
        here.set_quota(&Quota::default()).unwrap();
    }
}

#[test]
fn every_end_of_a_session_gives_its_room_back() {
    let (dir, mut store) = limited();
    saved(&store, 50_000);
    let id = saved(&store, 60_000);
    free(&store, LIMIT - 110_000);
    resume(&store, id).cancel().unwrap();
    free(&store, LIMIT - 50_000);
    // What was not saved counts as long as somebody has it.
    let mut upload = start(&repo(&store, "r"));
    upload.append(0, noise(1, 30_000)).unwrap();
    upload.save().unwrap();
    upload.append(30_000, noise(1, 40_000)).unwrap();
    free(&store, LIMIT - 120_000);
    let id = upload.id();
    drop(upload);
    free(&store, LIMIT - 80_000);
    // Content that the repository has already needs no room.
    let content = noise(30_000, 30_000);
    repo(&store, "r").push_bytes(content.clone()).unwrap();
    let mut upload = start(&repo(&store, "r"));
    upload.append(0, &content).unwrap();
    free(&store, LIMIT - 140_000);
    assert!(upload.finish(&Expected::default()).unwrap().existed);
    free(&store, LIMIT - 110_000);
    drop(upload);
    // Expired, found by whoever needs its room.
    let over = UploadOptions::new().time_to_live(Duration::ZERO);
    drop(repo(&store, "r").start_upload(&over.clone().size(90_000)).unwrap());
    let upload = repo(&store, "r").start_upload(&UploadOptions::new().size(90_000)).unwrap();
    upload.cancel().unwrap();
    drop(repo(&store, "r").start_upload(&over.clone().size(90_000)).unwrap());
    free(&store, 90_000);
    assert_eq!(store.expire_uploads().unwrap(), 0);
    drop(repo(&store, "r").start_upload(&over.clone().size(90_000)).unwrap());
    let mut upload = start(&repo(&store, "r"));
    assert_eq!(upload.append(0, noise(1, 90_000)).unwrap(), 90_000);
    // What is in the file has its room, whatever is said of the rest.
    upload.set_lease(None).unwrap();
    free(&store, 0);
    upload.cancel().unwrap();
    drop(repo(&store, "r").start_upload(&over.size(90_000)).unwrap());
    store.collector().run().unwrap();
    assert_eq!(store.expire_uploads().unwrap(), 0, "a collection ends them");
    free(&store, 90_000);
    // A session whose bytes are gone is no more.
    store.close().unwrap();
    fs::remove_file(dir.root().join(format!(".orlop/ingest/upload-{id}"))).unwrap();
    store = options().open(dir.root()).unwrap();
    free(&store, LIMIT - 80_000);
    // With its repository go its sessions, and its quota.
    store.set_quota(&bytes(LIMIT)).unwrap();
    let used = store.usage().unwrap().stored_bytes;
    free(&store, LIMIT - used - 50_000);
    store.delete_repository(&name("r")).unwrap();
    free(&store, LIMIT - used);
}

#[test]
fn the_room_of_a_session_is_there_again_after_every_end_of_the_process() {
    for crashes in [false, true] {
        let (dir, store) = limited();
        store.set_quota(&bytes(LIMIT + 1000)).unwrap();
        let id = saved(&store, 70_000);
        let mut upload = resume(&store, id);
        upload.append(70_000, noise(1, 50_000)).unwrap();
        drop(repo(&store, "r").start_upload(&UploadOptions::new().size(20_000)).unwrap());
        drop(repo(&store, "other").start_upload(&UploadOptions::new().size(500)).unwrap());
        free(&store, 60_000);
        drop(upload);
        if crashes {
            crash(&dir, store);
        } else {
            store.close().unwrap();
        }
        let store = options().open(dir.root()).unwrap();
        free(&store, 110_000);
        let other = repo(&store, "other");
        fails(other.reserve(110_501), ErrorKind::QuotaExceeded, &["the store", "reserved=90500"]);
        drop(other.reserve(110_500).unwrap());
        let mut upload = resume(&store, id);
        upload.append(70_000, noise(1, 110_000)).unwrap();
        fails(upload.append(180_000, "x"), ErrorKind::QuotaExceeded, &["repository=r"]);
        upload.finish(&Expected::default()).unwrap();
        assert_eq!(repo(&store, "r").usage().unwrap().bytes, 180_000);
        free(&store, 0);
        assert_counted(&store);
    }
}

#[test]
fn a_quota_that_comes_later_counts_what_sessions_have() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    let mut upload = start(&here);
    upload.append(0, noise(1, 60_000)).unwrap();
    let elsewhere = repo(&store, "s").start_upload(&UploadOptions::new().size(1000)).unwrap();
    here.set_quota(&bytes(LIMIT)).unwrap();
    free(&store, LIMIT - 60_000);
    store.set_quota(&bytes(70_000)).unwrap();
    free(&store, 9000);
    // Below what it has: it keeps that, and gets no more.
    here.set_quota(&bytes(100)).unwrap();
    fails(upload.append(60_000, "x"), ErrorKind::QuotaExceeded, &["limit=100", "reserved=60000"]);
    for _ in 0..2 {
        fails(upload.finish(&Expected::default()), ErrorKind::QuotaExceeded, &["limit=100", "reserved=0"]);
        fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &["used=0", "reserved=60000"]);
    }
    here.set_quota(&Quota::default()).unwrap();
    upload.append(60_000, noise(2, 9000)).unwrap();
    fails(upload.append(69_000, "x"), ErrorKind::QuotaExceeded, &["the store"]);
    upload.finish(&Expected::default()).unwrap();
    elsewhere.cancel().unwrap();
    free(&store, 1000);
}

#[test]
fn a_finish_that_fails_keeps_the_room() {
    let (_dir, store) = limited();
    let id = saved(&store, 60_000);
    let mut upload = resume(&store, id);
    fails(upload.finish(&Expected::from(absent())), ErrorKind::Mismatch, &[]);
    free(&store, LIMIT - 60_000);
    let lease = store.lease(HOUR, "").unwrap();
    upload.set_lease(Some(lease.id())).unwrap();
    lease.release().unwrap();
    fails(upload.finish(&Expected::default()), ErrorKind::Conflict, &["lease="]);
    free(&store, LIMIT - 60_000);
    drop(upload);
    free(&store, LIMIT - 60_000);
}

#[test]
fn of_sessions_that_grow_at_once_one_gets_the_last_room() {
    let (_dir, store) = limited();
    for round in 0..30_u64 {
        let mut uploads: Vec<Upload> = (0..3).map(|_| start(&repo(&store, "r"))).collect();
        let barrier = Barrier::new(3);
        let grown: usize = thread::scope(|scope| {
            let appends: Vec<_> = uploads
                .iter_mut()
                .enumerate()
                .map(|(number, upload)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        let appended = upload.append(0, noise(round * 3 + number as u64 + 1, 150_000));
                        appended.map_err(|error| assert_eq!(error.kind(), ErrorKind::QuotaExceeded)).is_ok()
                    })
                })
                .collect();
            appends.into_iter().map(|append| usize::from(append.join().unwrap())).sum()
        });
        assert_eq!(grown, 1, "round {round}");
        free(&store, 50_000);
        uploads.into_iter().for_each(|upload| upload.cancel().unwrap());
        free(&store, LIMIT);
    }
}

/// Nothing but the lease holds it from now on.
fn unhold(store: &Store, content: &[u8]) {
    let mut batch = store.batch();
    batch.delete_blob(&repo(store, "r"), &digest_of(content));
    batch.commit().unwrap();
}

fn leased(store: &Store, lease: &Lease) -> u64 {
    let entries = store.leases(None, 10).unwrap().items;
    entries.iter().find(|entry| entry.id == lease.id()).unwrap().contents
}

#[test]
fn a_lease_holds_what_a_session_becomes() {
    for (size, restarts) in [(900, false), (900, true), (70_000, false), (70_000, true)] {
        let (dir, mut store) = fresh();
        let content = noise(size as u64, size);
        let mut lease = store.lease(HOUR, "a push").unwrap();
        let options = UploadOptions::new().lease(lease.id());
        let mut upload = repo(&store, "r").start_upload(&options).unwrap();
        let id = upload.id();
        upload.append(0, &content).unwrap();
        upload.save().unwrap();
        assert_eq!(upload.status().unwrap().lease, Some(lease.id()));
        if restarts {
            let lease_id = lease.id();
            drop((upload, lease));
            crash(&dir, store);
            store = crate::support::options().open(dir.root()).unwrap();
            lease = store.open_lease(&lease_id).unwrap().unwrap();
            upload = resume(&store, id);
        }
        assert_eq!(leased(&store, &lease), 0, "nothing is held before it is there");
        upload.finish(&Expected::from(digest_of(&content))).unwrap();
        drop(upload);
        assert_eq!(leased(&store, &lease), 1);
        unhold(&store, &content);
        assert_eq!(collect(&store).kept.leased, 1);
        assert!(*store.unscoped().get(&digest_of(&content)).unwrap().unwrap() == *content);
        lease.release().unwrap();
        assert_eq!(collect(&store).contents, 1);
        assert!(store.unscoped().stat(&digest_of(&content)).unwrap().is_none());
    }
}

#[test]
fn a_lease_that_is_not_there_is_told_before_the_bytes_and_at_the_end() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    let gone = store.lease(HOUR, "").unwrap();
    let gone_id = gone.id();
    gone.release().unwrap();
    let options = UploadOptions::new().lease(gone_id);
    fails(here.start_upload(&options), ErrorKind::NotFound, &[&format!("lease={gone_id}")]);
    assert_eq!(store.uploads(None, 10).unwrap().items, []);

    let content = noise(1, 50_000);
    let lease = store.lease(HOUR, "").unwrap();
    let mut upload = here.start_upload(&UploadOptions::new().lease(lease.id())).unwrap();
    upload.append(0, &content).unwrap();
    upload.save().unwrap();
    let before = upload.status().unwrap();
    lease.release().unwrap();
    for _ in 0..2 {
        fails(upload.finish(&Expected::default()), ErrorKind::Conflict, &["lease="]);
        assert!(here.stat(&digest_of(&content)).unwrap().is_none(), "nothing half done is visible");
    }
    fails(upload.set_lease(Some(gone_id)), ErrorKind::NotFound, &[&format!("lease={gone_id}")]);
    assert_eq!(upload.status().unwrap(), before);
    let other = store.lease(HOUR, "").unwrap();
    upload.set_lease(Some(other.id())).unwrap();
    let id = upload.id();
    drop(upload);
    assert_eq!(here.upload_status(&id).unwrap().unwrap().lease, Some(other.id()));
    let mut upload = resume(&store, id);
    upload.finish(&Expected::default()).unwrap();
    assert_eq!(leased(&store, &other), 1);
    fails(upload.set_lease(None), ErrorKind::NotFound, &[]);
    // Without any it is held by its repository alone.
    let mut upload = here.start_upload(&UploadOptions::new().lease(other.id())).unwrap();
    upload.append(0, "more").unwrap();
    upload.set_lease(None).unwrap();
    other.release().unwrap();
    upload.finish(&Expected::default()).unwrap();
}

#[test]
fn a_lease_that_is_full_refuses_what_a_session_becomes() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_leased = 1;
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let lease = store.lease(HOUR, "").unwrap();
    let first = here.push_bytes("first").unwrap().digest;
    lease.add(&[first]).unwrap();
    let mut upload = here.start_upload(&UploadOptions::new().lease(lease.id())).unwrap();
    upload.append(0, "second").unwrap();
    fails(upload.finish(&Expected::default()), ErrorKind::Conflict, &["limit=1"]);
    assert!(here.stat(&digest_of(b"second")).unwrap().is_none());
    upload.set_lease(None).unwrap();
    upload.finish(&Expected::default()).unwrap();
}
