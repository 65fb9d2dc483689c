//! Content on its way in.

use std::io::{Seek, SeekFrom, Write};

use super::*;

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
    // later. Both ways there are 44 writes at least.
    let (root, blobs) = open();
    let armed = arm(Fault::new(Call::Write, root.path(), Errno::IO).nth(44));
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
fn expectations_come_from_digests_and_descriptors() {
    let digest = Algorithm::Sha512.digest(b"x");
    let descriptor = crate::oci::Descriptor::new("text/plain", digest, 1);
    assert_eq!(Expected::from(&descriptor), Expected::from(digest).with_size(1));
    assert_eq!(Expected::from(digest).algorithm(), Algorithm::Sha512);
    assert_eq!(Expected::default().algorithm(), Algorithm::Sha256);
}
