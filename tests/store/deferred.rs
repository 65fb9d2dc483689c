//! Upload sessions that become durable with their first save: before it they are there in this process alone, cost the disk
//! nothing, and are sessions in everything else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use orlop::{ErrorKind, Expected, Limits, Quota, Repository, Upload, UploadOptions};

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn start(here: &Repository) -> Upload {
    here.start_upload(&UploadOptions::new().deferred(HOUR)).unwrap()
}

/// What waits in the ingest directory.
fn waiting(root: &Path) -> usize {
    fs::read_dir(root.join(".orlop/ingest")).unwrap().count()
}

#[test]
fn it_leaves_nothing_on_the_disk_before_it_is_saved() {
    let (dir, store) = fresh();
    let (here, there) = (repo(&store, "a"), repo(&store, "b"));
    let upload = start(&here);
    let id = upload.id();
    fails(here.upload(&id), ErrorKind::Busy, &[]);
    drop(upload);
    assert!(there.upload(&id).unwrap().is_none() && there.upload_status(&id).unwrap().is_none());
    let status = here.upload_status(&id).unwrap().unwrap();
    assert_eq!((status.id, status.offset, status.repository), (id, 0, name("a")));
    assert_eq!(status.expires.duration_since(status.created).unwrap(), HOUR);
    // What was appended and not saved is gone with the handle, as of any session; what fits the journal needs no file.
    let mut upload = here.upload(&id).unwrap().unwrap();
    upload.append(0, noise(1, 1000)).unwrap();
    assert_eq!(waiting(&dir.root()), 0);
    assert_eq!(store.uploads(None, 10).unwrap().items, []);
    drop(upload);
    let mut upload = here.upload(&id).unwrap().unwrap();
    assert_eq!(upload.offset(), 0);
    upload.append(0, noise(2, 1000)).unwrap();
    upload.save().unwrap();
    drop(upload);
    let saved = here.upload_status(&id).unwrap().unwrap();
    assert_eq!(saved.offset, 1000);
    assert_eq!(saved.expires.duration_since(saved.saved).unwrap(), 24 * HOUR);
    let lost = start(&here).id();
    drop((here, there));
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    let here = repo(&store, "a");
    assert!(here.upload(&lost).unwrap().is_none() && here.upload_status(&lost).unwrap().is_none());
    let mut upload = here.upload(&id).unwrap().unwrap();
    assert_eq!(upload.offset(), 1000);
    // From memory into a file, and on in the file.
    let content = [noise(2, 1000), noise(3, 20_000), noise(4, 100_000), noise(5, 10)].concat();
    for piece in [1000..21_000, 21_000..121_000, 121_000..121_010] {
        upload.append(piece.start as u64, &content[piece]).unwrap();
    }
    upload.finish(&Expected::from(digest_of(&content))).unwrap();
    assert!(*here.get(&digest_of(&content)).unwrap().unwrap() == content);
}

#[test]
fn it_is_finished_without_a_row_of_its_own() {
    let (dir, store) = fresh();
    let here = repo(&store, "a");
    // In memory to the end; into a file behind what was in memory; into a file at once; and as nothing.
    for sizes in [&[][..], &[500, 500], &[INLINE - 1, 1], &[INLINE, 1], &[30_000, 30_000, 30_000], &[90_000]]
    {
        let mut upload = start(&here);
        let id = upload.id();
        let mut content = Vec::new();
        for size in sizes {
            let piece = noise(content.len() as u64, *size);
            upload.append(content.len() as u64, &piece).unwrap();
            content.extend(piece);
        }
        let wrong = fails(upload.finish(&Expected::from(absent())), ErrorKind::Mismatch, &[]);
        assert!(wrong.to_string().contains(&digest_of(&content).to_string()), "{sizes:?}");
        upload.finish(&Expected::from(digest_of(&content))).unwrap();
        assert!(*here.get(&digest_of(&content)).unwrap().unwrap() == content, "{sizes:?}");
        assert!(here.upload(&id).unwrap().is_none() && here.upload_status(&id).unwrap().is_none());
    }
    assert_eq!(waiting(&dir.root()), 0);
    drop(here);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert_eq!(contents(&repo(&store, "a")).len(), 6);
}

#[test]
fn it_counts_ends_and_expires_as_any_other() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_uploads = 2;
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = repo(&store, "a");
    let (first, second) = (start(&here), start(&here).id());
    fails(here.start_upload(&UploadOptions::new().deferred(HOUR)), ErrorKind::Busy, &["limit=2"]);
    // Cancelled, or removed with its repository, which need not exist.
    first.cancel().unwrap();
    let mut third = start(&here);
    store.delete_repository(&name("a")).unwrap();
    assert!(here.upload(&second).unwrap().is_none());
    fails(third.append(0, "x"), ErrorKind::NotFound, &[]);
    fails(third.save(), ErrorKind::NotFound, &[]);
    drop(third);
    // One object is kept for it.
    here.set_quota(&Quota { objects: Some(1), bytes: None }).unwrap();
    let fourth = start(&here);
    fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &[]);
    fourth.cancel().unwrap();
    // Its own time to live is that before the first save.
    let over = here.start_upload(&UploadOptions::new().deferred(Duration::ZERO)).unwrap();
    let id = over.id();
    assert_eq!(store.expire_uploads().unwrap(), 0, "somebody has it");
    drop(over);
    assert!(here.upload(&id).unwrap().is_none() && here.upload_status(&id).unwrap().is_none());
    assert_eq!(store.expire_uploads().unwrap(), 1);
    // Saved without bytes it is an ordinary session.
    let mut empty = start(&here);
    empty.save().unwrap();
    assert_eq!(store.uploads(None, 10).unwrap().items.len(), 1);
}
