//! Content that is read: mapped, from memory, and as a stream.

use std::io::{Seek, SeekFrom};

use super::*;

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
        assert!(BlobReader::open(&blobs, digest, size, true).unwrap().is_none());
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
            BlobReader::open(&blobs, digest, size, true).map(|_| ()),
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
    let by_file = BlobReader::open(&blobs, digest, 10_000, true).unwrap().unwrap();
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
    let mut reader = BlobReader::open(&blobs, digest, 1000, true).unwrap().unwrap();
    // As root the mode of the file does not stop this; for others it is made writable first.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(blobs.path(&digest), mode).unwrap();
    File::options().write(true).open(blobs.path(&digest)).unwrap().set_len(500).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("found=500"), "{error}");
}
