#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may panic, and spoil files behind the store's back"
)]

mod ingest;
mod reading;
mod ready;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

use super::*;
use crate::sys::fault::{Call, Fault, arm};

const INLINE: usize = 100;
const SHA: Algorithm = Algorithm::Sha256;
/// Large enough for a thread of its own to write it.
const LARGE: usize = 9 * 1024 * 1024 + 7;

fn open() -> (TempDir, Arc<Blobs>) {
    let root = tempfile::tempdir().unwrap();
    let blobs = reopen(&root, true).unwrap();
    (root, Arc::new(blobs))
}

fn reopen(root: &TempDir, writable: bool) -> Result<Blobs> {
    Blobs::open(&root.path().join("blobs"), &root.path().join("ingest"), writable)
}

/// Every file below the store, as paths.
fn files(root: &TempDir) -> Vec<String> {
    let mut files = Vec::new();
    let mut dirs = vec![root.path().to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

fn ingest(blobs: &Arc<Blobs>) -> Ingest {
    Ingest::new(Arc::clone(blobs), SHA, INLINE, None)
}

fn put(blobs: &Blobs, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    assert_eq!(blobs.file_many([(digest, Bytes::copy_from_slice(content))]).unwrap(), 1);
    digest
}

fn file_content(blobs: &Blobs, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    blobs.open_file(digest).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn content_is_filed_under_its_digest_and_removed() {
    let (root, blobs) = open();
    for algorithm in Algorithm::ALL {
        let digest = algorithm.digest(b"content");
        assert_eq!(blobs.stat_size(&digest).unwrap(), None);
        assert!(blobs.open_file(&digest).unwrap().is_none());
        assert!(!blobs.remove(&digest).unwrap());
        assert_eq!(blobs.list(algorithm).unwrap().count(), 0);
        blobs.name(blobs.stage(digest, b"content").unwrap()).unwrap();
        blobs.sync_dirs(&[algorithm]).unwrap();
        let name = format!("blobs/{algorithm}/{}", digest.encoded());
        assert_eq!(files(&root), [name.as_str()]);
        assert_eq!(blobs.path(&digest), root.path().join(name));
        assert_eq!(blobs.stat_size(&digest).unwrap(), Some(7));
        let listed: Vec<_> = blobs.list(algorithm).unwrap().map(Result::unwrap).collect();
        assert_eq!(listed, [Listed::Digest(digest)]);
        assert!(blobs.remove(&digest).unwrap());
        assert!(!blobs.remove(&digest).unwrap());
    }
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn foreign_names_are_told_apart() {
    let (root, blobs) = open();
    let digest = put(&blobs, b"x");
    let upper = digest.encoded().to_string().to_uppercase();
    for name in ["notes.txt", &upper] {
        std::fs::write(root.path().join("blobs/sha256").join(name), "").unwrap();
    }
    let mut listed: Vec<_> = blobs.list(SHA).unwrap().map(Result::unwrap).collect();
    listed.sort_by_key(|one| format!("{one:?}"));
    let foreign = |name: &str| Listed::Foreign(name.into());
    assert_eq!(listed.len(), 3);
    for one in [Listed::Digest(digest), foreign("notes.txt"), foreign(&upper)] {
        assert!(listed.contains(&one), "{one:?}");
    }
}

#[test]
fn what_is_no_file_is_damage() {
    let (root, blobs) = open();
    put(&blobs, b"any");
    let blob = |digest| Blob::read(&blobs, digest, 1).map(|_| ());
    for kind in ["directory", "link", "fifo"] {
        let digest = Digest::of(kind.as_bytes());
        let path = blobs.path(&digest);
        match kind {
            "directory" => std::fs::create_dir(&path).unwrap(),
            "link" => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
            _ => {
                let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
                rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
            }
        }
        let errors = [
            blobs.stat_size(&digest).unwrap_err(),
            blobs.open_file(&digest).unwrap_err(),
            blob(digest).unwrap_err(),
            Blob::map(&blobs, digest, 1).unwrap_err(),
            BlobReader::open(&blobs, digest, 1, true).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{kind}: {error}");
            assert!(error.to_string().contains(&digest.to_string()), "{error}");
        }
    }
    assert!(root.path().join("blobs/sha256").is_dir());
}

#[test]
fn read_only_creates_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(reopen(&root, false).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!root.path().join("blobs").exists());
    std::fs::create_dir(root.path().join("blobs")).unwrap();
    let blobs = Arc::new(reopen(&root, false).unwrap());
    let digest = Digest::of(b"x");
    assert_eq!(blobs.stat_size(&digest).unwrap(), None);
    assert_eq!(blobs.stage(digest, b"x").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(blobs.remove(&digest).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(blobs.clear_ingest(&BTreeSet::new()).unwrap_err().kind(), ErrorKind::ReadOnly);
    let error = ingest(&blobs).append(&[0; INLINE + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn leftovers_of_ingests_are_cleared_and_nothing_else() {
    let (root, blobs) = open();
    std::mem::forget(blobs.stage(Digest::of(b"x"), b"x").unwrap());
    std::mem::forget(blobs.stage(Digest::of(b"x"), b"x").unwrap());
    std::fs::write(root.path().join("ingest/session"), "").unwrap();
    assert_eq!(files(&root).len(), 3);
    assert_eq!(reopen(&root, true).unwrap().clear_ingest(&BTreeSet::new()).unwrap().0, 2);
    assert_eq!(files(&root), ["ingest/session"]);
}

/// A directory that is merely found may have been made by a process that was killed before it synced.
#[test]
fn the_directory_of_an_algorithm_is_synced_by_each_process_that_writes() {
    let (root, blobs) = open();
    let armed = arm(Fault::new(Call::SyncDir, &root.path().join("blobs"), Errno::IO));
    let digest = Digest::of(b"x");
    assert_eq!(blobs.name(blobs.stage(digest, b"x").unwrap()).unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(armed.fired(), 1);
    drop(armed);
    assert_eq!(files(&root), [""; 0]);
    let blobs = reopen(&root, true).unwrap();
    assert!(blobs.dir(SHA).unwrap().is_some());
    let armed = arm(Fault::new(Call::SyncDir, &root.path().join("blobs"), Errno::IO).nth(usize::MAX));
    put(&blobs, b"x");
    put(&blobs, b"y");
    // Once for its own name, and once for each name in it.
    assert_eq!(armed.seen(), 3);
}

#[test]
fn filing_syncs_before_it_names_and_leaves_nothing_on_errors() {
    for count in [1, 4, 5, 40, 200] {
        let items = |seed: u8| {
            (0..count).map(move |i| {
                let content = Bytes::from(vec![seed, u8::try_from(i).unwrap()]);
                (Digest::of(&content), content)
            })
        };
        let sync = if count > 4 { Call::SyncFs } else { Call::SyncFile };
        for (call, nth) in [(Call::CreateTemp, count), (Call::Write, count), (sync, 1), (Call::Rename, 1)] {
            let (root, blobs) = open();
            let armed = arm(Fault::new(call, root.path(), Errno::NOSPC).nth(nth));
            let error = blobs.file_many(items(1)).unwrap_err();
            assert_eq!((error.kind(), armed.fired()), (ErrorKind::NoSpace, 1), "{call:?} {count}: {error}");
            assert_eq!(files(&root), [""; 0], "{call:?} {count}");
            drop(armed);
            // A failed sync of the filesystem is final for those that share it.
            let blobs = if call == Call::SyncFs {
                blobs.file_many(items(1)).unwrap_err();
                Arc::new(reopen(&root, true).unwrap())
            } else {
                blobs
            };
            assert_eq!(blobs.file_many(items(1)).unwrap(), count);
            assert_eq!(files(&root).len(), count);
            for (digest, content) in items(1) {
                assert_eq!(file_content(&blobs, &digest), content);
            }
        }
    }
}

#[test]
fn a_failed_sync_of_names_is_told_every_later_time() {
    let (root, blobs) = open();
    put(&blobs, b"x");
    let armed = arm(Fault::new(Call::SyncDir, root.path(), Errno::IO));
    let content = Bytes::from_static(b"y");
    assert_eq!(blobs.file_many([(Digest::of(&content), content)]).unwrap_err().kind(), ErrorKind::Io);
    blobs.sync_dirs(&Algorithm::ALL).unwrap_err();
    assert_eq!(armed.fired(), 1);
    reopen(&root, true).unwrap().sync_dirs(&Algorithm::ALL).unwrap();
    assert_eq!(blobs.file_many([]).unwrap(), 0);
}

#[test]
fn filing_heals_a_damaged_file() {
    let (_root, blobs) = open();
    let digest = put(&blobs, b"content");
    std::fs::remove_file(blobs.path(&digest)).unwrap();
    std::fs::write(blobs.path(&digest), "c0ntent").unwrap();
    let before = Blob::map(&blobs, digest, 7).unwrap().unwrap();
    assert_eq!(before.verify().unwrap_err().kind(), ErrorKind::Corrupt);
    put(&blobs, b"content");
    assert_eq!(file_content(&blobs, &digest), b"content");
    // Who had the old file keeps it.
    assert_eq!(&before[..], b"c0ntent");
}

#[test]
fn public_types_go_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Blob>();
    shared::<BlobReader>();
    shared::<Blobs>();
    shared::<Ingest>();
    shared::<Content>();
}
