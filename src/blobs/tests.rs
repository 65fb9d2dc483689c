#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may panic, and spoil files behind the store's back"
)]

use std::io::{Read, Seek, SeekFrom, Write};
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
            BlobReader::open(&blobs, digest, 1).unwrap_err(),
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
    assert_eq!(blobs.clear_ingest().unwrap_err().kind(), ErrorKind::ReadOnly);
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
    assert_eq!(reopen(&root, true).unwrap().clear_ingest().unwrap(), 2);
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

fn take(blobs: &Arc<Blobs>, content: &[u8], piece: usize, expected: &Expected) -> Result<Content> {
    let mut ingest = ingest(blobs);
    for piece in content.chunks(piece) {
        ingest.append(piece)?;
    }
    ingest.finish(expected)
}

fn body(content: &Content) -> Vec<u8> {
    match &content.body {
        Body::Inline(bytes) => bytes.to_vec(),
        Body::File(temp) => {
            let mut bytes = vec![0; usize::try_from(content.size).unwrap()];
            let file = temp.file().unwrap();
            std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
            assert_eq!(file.metadata().unwrap().len(), content.size);
            bytes
        }
    }
}

#[test]
fn ingest_keeps_every_size_in_any_pieces() {
    let (root, blobs) = open();
    let large = pattern(LARGE);
    for size in [0, 1, INLINE, INLINE + 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 600_000, LARGE] {
        for piece in [37, 4096, 256 * 1024, 1_000_000, LARGE] {
            if size / piece > 30_000 {
                continue;
            }
            let content = &large[..size];
            let expected = Expected::from(Digest::of(content)).with_size(size as u64);
            let taken = take(&blobs, content, piece, &expected).unwrap();
            assert_eq!((taken.digest, taken.size), (Digest::of(content), size as u64));
            assert_eq!(matches!(taken.body, Body::Inline(_)), size <= INLINE);
            assert!(body(&taken) == content, "size {size} in pieces of {piece}");
            let staged = taken.into_staged(&blobs).unwrap();
            blobs.sync_staged(&[&staged]).unwrap();
            blobs.name(staged).unwrap();
            assert!(file_content(&blobs, &Digest::of(content)) == content);
        }
        assert_eq!(files(&root).len(), 1);
        blobs.remove(&Digest::of(&large[..size])).unwrap();
    }
}

#[test]
fn ingest_refuses_what_was_not_announced_and_leaves_nothing() {
    let (root, blobs) = open();
    for size in [0, 50, 1000, LARGE] {
        let content = pattern(size);
        let digest = Digest::of(&content);
        let other = Digest::of(b"other");
        let wrong = [
            (Expected::from(other), ErrorKind::Mismatch, [other.to_string(), digest.to_string()]),
            (
                Expected::from(digest).with_size(size as u64 + 1),
                ErrorKind::Mismatch,
                [format!("expected={}", size + 1), format!("found={size}")],
            ),
            (
                Algorithm::Blake3.digest(&content).into(),
                ErrorKind::Invalid,
                ["algorithm=sha256".to_owned(), "expected=blake3:".to_owned()],
            ),
        ];
        for (expected, kind, texts) in wrong {
            let by_bytes = Content::from_bytes(SHA, content.clone().into(), &expected).unwrap_err();
            let source = root.path().join("source");
            std::fs::write(&source, &content).unwrap();
            let by_path = ingest(&blobs).take_path(&source, &expected, &mut unobserved).unwrap_err();
            std::fs::remove_file(source).unwrap();
            let by_pieces = take(&blobs, &content, 64 * 1024, &expected).unwrap_err();
            for error in [by_bytes, by_path, by_pieces] {
                assert_eq!(error.kind(), kind);
                for text in &texts {
                    assert!(error.to_string().contains(text), "{error}");
                }
            }
            assert_eq!(files(&root), [""; 0]);
        }
    }
}

#[test]
fn ingest_stops_at_the_largest_size() {
    let (root, blobs) = open();
    for limit in [10, 1000] {
        let content = pattern(limit + 1);
        let begin = || Ingest::new(Arc::clone(&blobs), SHA, INLINE, Some(limit as u64));
        let mut ingest = begin();
        ingest.append(&content[..limit]).unwrap();
        let error = ingest.append(&content[limit..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("limit={limit}")), "{error}");
        assert_eq!(ingest.finish(&Expected::default()).unwrap_err().kind(), ErrorKind::Io);
        let source = root.path().join("source");
        std::fs::write(&source, &content).unwrap();
        assert_eq!(
            begin().take_path(&source, &Expected::default(), &mut unobserved).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        std::fs::write(&source, &content[..limit]).unwrap();
        assert_eq!(
            begin().take_path(&source, &Expected::default(), &mut unobserved).unwrap().size,
            limit as u64
        );
        std::fs::remove_file(source).unwrap();
        assert_eq!(files(&root), [""; 0]);
    }
}

#[test]
fn ingest_tells_every_failed_write_and_leaves_nothing() {
    let content = pattern(LARGE);
    for size in [1000, 600_000, LARGE] {
        for (call, nth) in [(Call::CreateTemp, 1), (Call::Write, 1), (Call::Write, 2)] {
            let (root, blobs) = open();
            let fault = Fault::new(call, root.path(), Errno::NOSPC).nth(nth).short_writes();
            let armed = arm(fault);
            let error = take(&blobs, &content[..size], 100_000, &Expected::default()).unwrap_err();
            assert_eq!((error.kind(), armed.fired()), (ErrorKind::NoSpace, 1), "{call:?} {nth} {size}");
            assert_eq!(files(&root), [""; 0]);
        }
    }
    // Beyond 8 MiB, which takes 43 writes, a thread writes when there are not enough already; it tells of an error
    // later. Both ways there are 46 writes at least.
    let (root, blobs) = open();
    let armed = arm(Fault::new(Call::Write, root.path(), Errno::IO).nth(45));
    let error = take(&blobs, &content, 100_000, &Expected::default()).unwrap_err();
    assert_eq!((error.kind(), armed.fired()), (ErrorKind::Io, 1));
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn content_whose_sync_failed_is_given_up() {
    let (root, blobs) = open();
    let taken = take(&blobs, &pattern(1000), 1000, &Expected::default()).unwrap();
    let taken = taken.into_staged(&blobs).unwrap();
    let armed = arm(Fault::new(Call::SyncFile, root.path(), Errno::IO));
    assert_eq!(blobs.sync_staged(&[&taken]).unwrap_err().kind(), ErrorKind::Io);
    blobs.sync_staged(&[&taken]).unwrap_err();
    assert_eq!((armed.seen(), armed.fired()), (1, 1));
    drop(taken);
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn an_ingest_that_is_dropped_leaves_nothing() {
    let (root, blobs) = open();
    for size in [10, 1000, LARGE] {
        let mut ingest = ingest(&blobs);
        ingest.append(&pattern(size)).unwrap();
        ingest.append(&pattern(300_000)).unwrap();
        assert_eq!(files(&root).len(), 1);
        drop(ingest);
        assert_eq!(files(&root), [""; 0]);
    }
}

#[test]
fn ingest_reads_and_writes_streams() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let now = buffer.len().min(self.0);
            if now == 0 {
                return Err(io::Error::other("the cable was pulled"));
            }
            self.0 -= now;
            Ok(now)
        }
    }
    let (root, blobs) = open();
    let content = pattern(1_000_000);
    let mut by_reading = ingest(&blobs);
    assert_eq!(by_reading.append_from(content.as_slice()).unwrap(), 1_000_000);
    assert_eq!(by_reading.size(), 1_000_000);
    let mut by_writing = ingest(&blobs);
    by_writing.write_all(&content).unwrap();
    by_writing.flush().unwrap();
    for ingest in [by_reading, by_writing] {
        let taken = ingest.finish(&Digest::of(&content).into()).unwrap();
        assert!(body(&taken) == content);
    }
    let mut broken = ingest(&blobs);
    let error = broken.append_from(Failing(1000)).unwrap_err();
    assert!(error.to_string().contains("offset=1000"), "{error}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the cable was pulled");
    assert!(broken.finish(&Expected::default()).is_err());
    let mut refusing = Ingest::new(Arc::clone(&blobs), SHA, INLINE, Some(1));
    let error = refusing.write(b"xx").unwrap_err();
    assert_eq!(error.get_ref().unwrap().downcast_ref::<Error>().unwrap().kind(), ErrorKind::Invalid);
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn ingest_takes_files_whole_whatever_their_size() {
    let (root, blobs) = open();
    let outside = tempfile::tempdir().unwrap();
    let source = outside.path().join("source");
    for size in [0, INLINE, INLINE + 1, 3_000_000] {
        let content = pattern(size);
        std::fs::write(&source, &content).unwrap();
        // The position of an open handle does not matter.
        let mut file = File::open(&source).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        let by_file =
            ingest(&blobs).take_file(&file, &source, &Digest::of(&content).into(), &mut unobserved).unwrap();
        let by_path = ingest(&blobs).take_path(&source, &Expected::default(), &mut unobserved).unwrap();
        // The private copy counts.
        std::fs::write(&source, "changed").unwrap();
        for taken in [by_file, by_path] {
            assert_eq!(taken.digest, Digest::of(&content));
            assert_eq!(matches!(taken.body, Body::Inline(_)), size <= INLINE);
            assert!(body(&taken) == content);
        }
    }
    std::fs::write(&source, pattern(5000)).unwrap();
    for call in [Call::CreateTemp, Call::Clone, Call::Read] {
        let armed = arm(Fault::new(call, &root.path().join("ingest"), Errno::DQUOT));
        let error = ingest(&blobs).take_path(&source, &Expected::default(), &mut unobserved).unwrap_err();
        assert_eq!((error.kind(), armed.fired()), (ErrorKind::NoSpace, 1));
    }
    assert_eq!(files(&root), [""; 0]);
}

#[test]
fn ingest_refuses_sources_that_are_no_files() {
    let (root, blobs) = open();
    let source = root.path().join("none");
    for (path, kind) in [
        (root.path(), ErrorKind::Invalid),
        (Path::new("/dev/zero"), ErrorKind::Invalid),
        (source.as_path(), ErrorKind::NotFound),
    ] {
        let error = ingest(&blobs).take_path(path, &Expected::default(), &mut unobserved).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("path={}", path.display())), "{error}");
    }
    let dir = File::open(root.path()).unwrap();
    let error =
        ingest(&blobs).take_file(&dir, root.path(), &Expected::default(), &mut unobserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn blobs_are_read_mapped_and_journalled_alike() {
    let (_root, blobs) = open();
    for size in [0, 1, 4096, 100_000, 2_000_000] {
        let content = pattern(size);
        let digest = put(&blobs, &content);
        let size = size as u64;
        let read = Blob::read(&blobs, digest, size).unwrap().unwrap();
        let mapped = Blob::map(&blobs, digest, size).unwrap().unwrap();
        let journalled = Blob::journalled(digest, content.clone().into());
        assert!(journalled.file().unwrap().is_none());
        for blob in [&read, &mapped] {
            let mut again = Vec::new();
            blob.file().unwrap().unwrap().read_to_end(&mut again).unwrap();
            assert!(again == content);
        }
        assert!(blobs.remove(&digest).unwrap());
        for blob in [read, mapped, journalled] {
            assert!(blob.file().unwrap().is_none());
            blob.verify().unwrap();
            assert!(*blob == *content && blob.as_ref() == content && blob.len() == content.len());
            assert_eq!(blob.digest(), digest);
            let at = blob.as_ptr();
            let bytes = Bytes::from(blob.clone());
            assert!(bytes.as_ptr() == at && blob.into_bytes().as_ptr() == at);
            assert!(bytes == content);
        }
        assert!(Blob::read(&blobs, digest, size).unwrap().is_none());
        assert!(Blob::map(&blobs, digest, size).unwrap().is_none());
        assert!(BlobReader::open(&blobs, digest, size).unwrap().is_none());
    }
}

#[test]
fn a_file_of_another_size_is_damage() {
    let (_root, blobs) = open();
    for (len, size) in [(10, 9), (10, 11), (0, 1), (1, 0), (2_000_000, 1_999_999), (10, u64::MAX)] {
        let digest = put(&blobs, &pattern(len));
        let results = [
            Blob::read(&blobs, digest, size).map(|_| ()),
            Blob::map(&blobs, digest, size).map(|_| ()),
            BlobReader::open(&blobs, digest, size).map(|_| ()),
        ];
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let text = error.to_string();
            let parts = [format!("digest={digest}"), format!("expected={size}"), "found=".to_owned()];
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}

#[test]
fn reads_that_fail_are_told() {
    let (root, blobs) = open();
    let digest = put(&blobs, b"content");
    for (call, nth) in [(Call::Open, 1), (Call::Read, 1)] {
        let armed = arm(Fault::new(call, root.path(), Errno::IO).nth(nth));
        assert_eq!(Blob::read(&blobs, digest, 7).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(armed.fired(), 1);
    }
    let armed = arm(Fault::new(Call::Map, root.path(), Errno::NOMEM));
    assert_eq!(Blob::map(&blobs, digest, 7).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(armed.fired(), 1);
    drop(armed);
    let armed = arm(Fault::new(Call::Stat, root.path(), Errno::IO));
    assert_eq!(blobs.stat_size(&digest).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(armed.fired(), 1);
    drop(armed);
    let armed = arm(Fault::new(Call::Unlink, root.path(), Errno::PERM));
    assert_eq!(blobs.remove(&digest).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!((armed.fired(), blobs.stat_size(&digest).unwrap()), (1, Some(7)));
    drop(armed);
    let armed = arm(Fault::new(Call::List, root.path(), Errno::IO));
    assert!(blobs.list(SHA).is_err());
    assert_eq!(armed.fired(), 1);
}

#[test]
fn slices_share_bytes_and_know_where_they_are() {
    let content = pattern(100);
    let blob = Blob::journalled(Digest::of(&content), content.clone().into());
    let part = blob.slice(10..=59).unwrap();
    assert_eq!((part.len(), part.offset(), &part[..]), (50, 10, &content[10..60]));
    let inner = part.slice(5..).unwrap().slice(..10).unwrap();
    assert_eq!((inner.offset(), &inner[..]), (15, &content[15..25]));
    assert_eq!(inner.as_ptr(), blob[15..].as_ptr());
    inner.verify().unwrap();
    assert!(blob.slice(100..).unwrap().is_empty() && blob.slice(..).unwrap().len() == 100);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let reversed = blob.slice(3..2);
    for result in
        [reversed, blob.slice(..101), blob.slice(101..), part.slice(..=50), blob.slice(..=usize::MAX)]
    {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("size=") && error.to_string().contains("range="), "{error}");
    }
    assert!(format!("{inner:?}").contains(&blob.digest().to_string()));
    let wrong = Blob::journalled(Digest::of(b"other"), content.into());
    let error = wrong.verify().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&Digest::of(b"other").to_string()));
}

#[test]
fn readers_read_from_any_position() {
    let (_root, blobs) = open();
    let content = pattern(10_000);
    let digest = put(&blobs, &content);
    let by_file = BlobReader::open(&blobs, digest, 10_000).unwrap().unwrap();
    let by_blob = BlobReader::from(Blob::journalled(digest, content.clone().into()));
    blobs.remove(&digest).unwrap();
    for mut reader in [by_file, by_blob] {
        assert_eq!((reader.len(), reader.is_empty(), reader.digest()), (10_000, false, digest));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == content);
        for (to, start) in [
            (SeekFrom::Start(17), 17),
            (SeekFrom::End(-3), 9_997),
            (SeekFrom::Current(-103), 9_897),
            (SeekFrom::Start(20_000), 10_000),
        ] {
            reader.seek(to).unwrap();
            let mut part = [0; 100];
            let read = reader.read(&mut part).unwrap();
            let expected = &content[start..content.len().min(start + 100)];
            assert_eq!(&part[..read], expected, "{to:?}");
            reader.seek(SeekFrom::Start(10_000)).unwrap();
        }
        assert_eq!(reader.seek(SeekFrom::End(-10_001)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        reader.seek(SeekFrom::Current(i64::MAX)).unwrap();
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    }
    let part = Blob::journalled(digest, content.clone().into()).slice(5..25).unwrap();
    let mut bytes = Vec::new();
    BlobReader::from(part).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, content[5..25]);
}

/// Somebody truncates the file while it is read: an error, never silence.
#[test]
fn a_reader_whose_file_ends_early_fails() {
    let (_root, blobs) = open();
    let digest = put(&blobs, &pattern(1000));
    let mut reader = BlobReader::open(&blobs, digest, 1000).unwrap().unwrap();
    // As root the mode of the file does not stop this; for others it is made writable first.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(blobs.path(&digest), mode).unwrap();
    File::options().write(true).open(blobs.path(&digest)).unwrap().set_len(500).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("found=500"), "{error}");
}

#[test]
fn expectations_come_from_digests_and_descriptors() {
    let digest = Algorithm::Sha512.digest(b"x");
    let descriptor = crate::oci::Descriptor::new("text/plain", digest, 1);
    assert_eq!(Expected::from(&descriptor), Expected::from(digest).with_size(1));
    assert_eq!(Expected::from(digest).algorithm(), Algorithm::Sha512);
    assert_eq!(Expected::default().algorithm(), Algorithm::Sha256);
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
