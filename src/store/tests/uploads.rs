//! Upload sessions whose disk fails: a failed sync is never tried again on the same file, and what was saved before stands.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::artifact::noise;
use super::plain::names_are_hashes;
use crate::blobs::Expected;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::store::{Options, Publish, Quota, Repository, Store, UploadId, UploadOptions};
use crate::sys::fault::{Call, Fault, arm};

fn open(root: &Path) -> (Store, Repository) {
    let store = Options::new().publish(Publish::Manual).open_or_create(root).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    (store, here)
}

/// A session of 50,000 bytes.
fn saved(here: &Repository) -> UploadId {
    let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
    upload.append(0, noise("saved", 50_000)).unwrap();
    upload.save().unwrap();
    upload.id()
}

fn file_of(root: &Path, id: UploadId) -> PathBuf {
    root.join(format!(".orlop/ingest/upload-{id}"))
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Lets a sync fail while saving or finishing, and perhaps ends the process.
fn after_a_failed_sync(root: &Path, finish: bool, restart: bool) -> (Store, Repository, UploadId, u64) {
    let (mut store, mut here) = open(root);
    let id = saved(&here);
    let first = inode(&file_of(root, id));
    let armed = arm(Fault::new(Call::SyncFile, root, Errno::IO));
    let mut upload = here.upload(&id).unwrap().unwrap();
    upload.append(50_000, noise("more", 50_000)).unwrap();
    let error =
        if finish { upload.finish(&Expected::default()).unwrap_err() } else { upload.save().unwrap_err() };
    assert_eq!((error.kind(), armed.fired()), (ErrorKind::Io, 1), "{error}");
    // This handle is of no more use, and asks the system for nothing.
    assert_eq!(upload.save().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(upload.append(100_000, "x").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(upload.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(armed.seen(), 1);
    drop((upload, armed));
    // Nothing else is hurt.
    here.push_bytes(noise("other", 60_000)).unwrap();
    if restart {
        drop((here, store));
        (store, here) = open(root);
    }
    (store, here, id, first)
}

#[test]
fn a_file_whose_sync_failed_is_copied_and_goes_on_behind_what_was_saved() {
    for (finish, restart) in [(false, false), (false, true), (true, false), (true, true)] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("store");
        let (store, here, id, first) = after_a_failed_sync(&root, finish, restart);
        let mut upload = here.upload(&id).unwrap().unwrap();
        assert_eq!(upload.offset(), 50_000);
        let second = inode(&file_of(&root, id));
        assert_ne!(first, second, "the file whose sync failed must not be synced again");
        upload.append(50_000, "the rest").unwrap();
        upload.save().unwrap();
        drop(upload);
        // The copy is as good as any.
        let mut upload = here.upload(&id).unwrap().unwrap();
        assert_eq!(inode(&file_of(&root, id)), second);
        let content = [&noise("saved", 50_000)[..], b"the rest"].concat();
        upload.finish(&Expected::from(Digest::of(&content))).unwrap();
        assert!(*here.get(&Digest::of(&content)).unwrap().unwrap() == *content);
        store.flush().unwrap();
        names_are_hashes(&root, &std::collections::BTreeSet::new()).unwrap();
    }
}

#[test]
fn a_copy_whose_bytes_are_others_is_not_offered() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here, id, _) = after_a_failed_sync(&root, false, false);
    // The page that could not be written is read from the disk as it was before.
    let path = file_of(&root, id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[49_999] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert!(here.upload(&id).unwrap().is_none());
    assert!(store.uploads(None, 10).unwrap().items.is_empty() && !path.exists());
}

#[test]
fn a_first_sync_that_fails_leaves_a_session_without_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
    let id = upload.id();
    upload.append(0, noise("lost", 50_000)).unwrap();
    let first = inode(&file_of(&root, id));
    let held = fs::File::open(file_of(&root, id)).unwrap();
    let armed = arm(Fault::new(Call::SyncFile, &root, Errno::IO));
    assert_eq!(upload.save().unwrap_err().kind(), ErrorKind::Io);
    drop((upload, armed));
    let mut upload = here.upload(&id).unwrap().unwrap();
    assert_eq!(upload.offset(), 0);
    upload.append(0, noise("sent again", 50_000)).unwrap();
    assert_ne!(inode(&file_of(&root, id)), first);
    upload.save().unwrap();
    drop(held);
    upload.finish(&Expected::from(Digest::of(&noise("sent again", 50_000)))).unwrap();
}

/// The file got the name of the content, and nobody learns that it is content.
#[test]
fn bytes_that_come_after_an_interrupted_finish_do_not_reach_the_named_file() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let id = saved(&here);
    let mut upload = here.upload(&id).unwrap().unwrap();
    let armed = arm(Fault::new(Call::WriteRows, &root, Errno::IO));
    assert_eq!(upload.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(armed.fired(), 1);
    assert_eq!(upload.append(50_000, "x").unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(store.check_writable().unwrap_err().kind(), ErrorKind::Poisoned);
    drop((upload, armed, here, store));
    let named = root.join("blobs").join(Digest::of(&noise("saved", 50_000)).to_string().replace(':', "/"));
    assert_eq!(inode(&named), inode(&file_of(&root, id)), "it had its name before the rows failed");

    let (store, here) = open(&root);
    let mut upload = here.upload(&id).unwrap().unwrap();
    assert_ne!(inode(&named), inode(&file_of(&root, id)));
    upload.append(50_000, "more").unwrap();
    upload.save().unwrap();
    names_are_hashes(&root, &std::collections::BTreeSet::new()).unwrap();
    let content = [&noise("saved", 50_000)[..], b"more"].concat();
    upload.finish(&Expected::from(Digest::of(&content))).unwrap();
    drop(upload);
    assert!(*here.get(&Digest::of(&content)).unwrap().unwrap() == *content);
    drop((here, store));
}

/// A full disk is no failed sync: the same bytes come again.
#[test]
fn bytes_that_found_no_room_come_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
    let content = noise("content", 90_000);
    upload.append(0, &content[..10]).unwrap();
    for _ in 0..2 {
        let armed = arm(Fault::new(Call::Write, &root, Errno::NOSPC).nth(2).short_writes());
        assert_eq!(upload.append(10, &content[10..]).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(upload.offset(), 10);
        drop(armed);
    }
    // Half of it is in the file, and does not count.
    upload.save().unwrap();
    assert_eq!(fs::metadata(file_of(&root, upload.id())).unwrap().len(), 10);
    upload.append(10, &content[10..]).unwrap();
    upload.finish(&Expected::from(Digest::of(&content))).unwrap();
}

/// The commit has taken the room in the quota already when the disk fails.
#[test]
fn a_finish_whose_disk_fails_has_its_room_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    here.set_quota(&Quota { bytes: Some(100_000), ..Quota::default() }).unwrap();
    let id = saved(&here);
    let mut upload = here.upload(&id).unwrap().unwrap();
    let free = |bytes: u64| {
        drop(here.reserve(bytes).unwrap());
        assert_eq!(here.reserve(bytes + 1).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    };
    for _ in 0..2 {
        let armed = arm(Fault::new(Call::Rename, &root, Errno::NOSPC));
        assert_eq!(upload.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(armed.fired(), 1);
        drop(armed);
        free(50_000);
    }
    // So it is with what was reserved for a batch, which ends with it.
    let mut batch = store.batch();
    batch.settle(here.reserve(45_000).unwrap()).unwrap();
    batch.push_bytes(&here, noise("batch", 45_000)).unwrap();
    free(5000);
    let armed = arm(Fault::new(Call::Rename, &root, Errno::NOSPC));
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::NoSpace);
    drop(armed);
    free(50_000);
    upload.finish(&Expected::default()).unwrap();
    free(50_000);
}

/// A limit that begins while a session is being finished counts its content once, whether that works or not.
#[test]
fn a_limit_that_begins_beside_a_finish_counts_the_content_once() {
    for (fails, of_store) in [(true, false), (true, true), (false, false), (false, true)] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("store");
        let (store, here) = open(&root);
        let quota = Quota { bytes: Some(100_000), ..Quota::default() };
        let id = saved(&here);
        let free = |bytes: u64| {
            drop(here.reserve(bytes).unwrap());
            assert_eq!(here.reserve(bytes + 1).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        };
        if of_store {
            // What the session has of this one the commit takes before the other begins.
            here.set_quota(&quota).unwrap();
        } else {
            here.push_bytes("there").unwrap();
        }
        let core = store.core();
        let owner = core.metadata.view().repository("r").unwrap().filter(|_| !of_store);
        let name = (!of_store).then(|| here.name().clone());
        let used = if of_store { 0 } else { 5 };
        // The two halves of a limit, and the finish between them.
        assert!(core.limit(owner, name.as_ref(), quota).unwrap());
        let mut upload = here.upload(&id).unwrap().unwrap();
        let errno = fails.then_some(Errno::NOSPC);
        std::thread::scope(|scope| {
            let armed = arm(Fault::hold(Call::Rename, &root, errno));
            let finishing = scope.spawn(|| upload.finish(&Expected::default()));
            armed.wait();
            core.reserve_for_uploads(name.as_ref()).unwrap();
            free(50_000 - used);
            armed.let_go();
            assert_eq!(finishing.join().unwrap().is_err(), fails);
        });
        free(50_000 - used);
        if fails {
            upload.finish(&Expected::default()).unwrap();
            free(50_000 - used);
        }
    }
}

/// The rows are there and the session is not gone yet.
#[test]
fn a_limit_that_begins_when_the_content_is_there_counts_no_session() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let id = saved(&here);
    here.push_bytes("there").unwrap();
    let mut upload = here.upload(&id).unwrap().unwrap();
    std::thread::scope(|scope| {
        let armed = arm(Fault::hold(Call::SyncRows, &root, None));
        let finishing = scope.spawn(|| upload.finish(&Expected::default()));
        armed.wait();
        let owner = store.core().metadata.view().repository("r").unwrap();
        let quota = Quota { bytes: Some(50_005), ..Quota::default() };
        store.core().begin_limit(owner, Some(here.name()), quota).unwrap();
        assert!(here.reserve(1).unwrap_err().to_string().contains("used=50005, reserved=0"));
        armed.let_go();
        finishing.join().unwrap().unwrap();
    });
}

#[test]
fn a_session_that_is_being_removed_because_it_expired_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, here) = open(dir.path());
    let options = UploadOptions::new().time_to_live(Duration::ZERO);
    let id = here.start_upload(&options).unwrap().id();
    // Between being chosen and losing its row.
    let over = store.core().uploads.take_expired();
    assert_eq!(over, [id]);
    assert!(here.upload(&id).unwrap().is_none());
    // Removing it failed.
    store.core().uploads.give_back(&over);
    assert!(here.upload(&id).unwrap().is_none());
    assert_eq!(store.expire_uploads().unwrap(), 1);
    assert_eq!(store.expire_uploads().unwrap(), 0);
}

/// What a session takes is not the last that the disk has: others go on, and it can be ended.
#[test]
fn bytes_that_would_take_the_last_room_are_refused_before_they_are_stored() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
    upload.append(0, noise("content", 50_000)).unwrap();
    let little = arm(Fault::new(Call::Space, &root, Errno::DQUOT).forever());
    assert_eq!(upload.append(50_000, noise("more", 50_000)).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(fs::metadata(file_of(&root, upload.id())).unwrap().len(), 50_000);
    let announced = UploadOptions::new().size(100_000);
    assert_eq!(here.start_upload(&announced).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(upload.save().unwrap(), 50_000);
    upload.cancel().unwrap();
    drop(little);
}

/// What a failed write left is cut off at once, and not when the session goes on.
#[test]
fn a_write_that_found_no_room_gives_back_what_it_took() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
    upload.append(0, noise("content", 50_000)).unwrap();
    let armed = arm(Fault::new(Call::Write, &root, Errno::NOSPC).nth(2).short_writes());
    assert_eq!(upload.append(50_000, noise("more", 50_000)).unwrap_err().kind(), ErrorKind::NoSpace);
    drop(armed);
    assert_eq!(fs::metadata(file_of(&root, upload.id())).unwrap().len(), 50_000);
}

/// The log needs room to say that a session is over, and the session has some.
#[test]
fn a_session_that_ends_on_a_full_disk_makes_room_for_that() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let cancelled = here.upload(&saved(&here)).unwrap().unwrap();
    let id = cancelled.id();
    let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC));
    cancelled.cancel().unwrap();
    assert_eq!(full.fired(), 1);
    assert!(here.upload_status(&id).unwrap().is_none() && !file_of(&root, id).exists());

    let mut expiring = here.start_upload(&UploadOptions::new().time_to_live(Duration::ZERO)).unwrap();
    let id = expiring.id();
    expiring.append(0, noise("saved", 50_000)).unwrap();
    expiring.save().unwrap();
    drop((expiring, full));
    let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC));
    assert_eq!(store.expire_uploads().unwrap(), 1);
    assert_eq!(full.fired(), 1);
    assert!(store.uploads(None, 10).unwrap().items.is_empty() && !file_of(&root, id).exists());
    drop(full);

    // Nothing comes of it: it is over all the same, and others keep what they have.
    let (kept, lost) = (saved(&here), here.upload(&saved(&here)).unwrap().unwrap());
    let id = lost.id();
    let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC).forever());
    assert_eq!(lost.cancel().unwrap_err().kind(), ErrorKind::NoSpace);
    drop(full);
    assert!(here.upload(&id).unwrap().is_none());
    assert_eq!(here.upload(&kept).unwrap().unwrap().offset(), 50_000);
}

/// What gives back the room of a session does not touch content that its file has become.
#[test]
fn the_room_of_content_is_not_given_back_with_a_session() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let upload = here.upload(&saved(&here)).unwrap().unwrap();
    let named = temp.path().join("named");
    fs::hard_link(file_of(&root, upload.id()), &named).unwrap();
    let _full = arm(Fault::new(Call::Space, &root, Errno::NOSPC));
    upload.cancel().unwrap();
    assert_eq!(fs::read(&named).unwrap(), noise("saved", 50_000));
}

/// Finishing failed behind the moment at which the content got its name.
#[test]
fn bytes_that_come_after_a_failed_finish_do_not_reach_a_named_file() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let lease = store.lease(Duration::from_secs(600), "push").unwrap();
    let mut upload = here.start_upload(&UploadOptions::new().lease(lease.id())).unwrap();
    upload.append(0, noise("saved", 50_000)).unwrap();
    upload.save().unwrap();
    lease.release().unwrap();
    assert_eq!(upload.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::Conflict);
    // Still its own.
    upload.append(50_000, "x").unwrap();
    assert_eq!(upload.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::Conflict);
    let named = temp.path().join("named");
    fs::hard_link(file_of(&root, upload.id()), &named).unwrap();
    let error = upload.append(50_001, "y").unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("saved=50000"), "{error}");
    assert_eq!(fs::metadata(&named).unwrap().len(), 50_001);
    let id = upload.id();
    drop(upload);
    let mut upload = here.upload(&id).unwrap().unwrap();
    upload.append(50_000, "z").unwrap();
    assert_eq!(fs::metadata(&named).unwrap().len(), 50_001);
}

/// A full disk takes no mark, and the process remembers.
#[test]
fn a_failed_sync_is_remembered_where_it_cannot_be_put_down() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (_store, here) = open(&root);
    let id = saved(&here);
    let first = inode(&file_of(&root, id));
    let mut upload = here.upload(&id).unwrap().unwrap();
    upload.append(50_000, noise("more", 50_000)).unwrap();
    let failing = arm(Fault::new(Call::SyncFile, &root, Errno::IO));
    let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC).forever());
    assert_eq!(upload.save().unwrap_err().kind(), ErrorKind::NoSpace);
    drop((upload, failing, full));
    let mut upload = here.upload(&id).unwrap().unwrap();
    assert_ne!(inode(&file_of(&root, id)), first);
    upload.append(50_000, "x").unwrap();
    upload.save().unwrap();
    let second = inode(&file_of(&root, id));
    drop(upload);
    drop(here.upload(&id).unwrap().unwrap());
    assert_eq!(inode(&file_of(&root, id)), second, "the copy is as good as any");
}
