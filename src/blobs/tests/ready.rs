//! Content that is in memory, and content that is not.

use std::os::unix::fs::FileExt;

use super::*;

/// Hole pages of a file, which nothing ever read, in front of as many bytes that were just written.
fn half_cold(blobs: &Arc<Blobs>, half: usize) -> (Digest, Vec<u8>) {
    let content = pattern(half);
    let digest = Digest::of(&content);
    blobs.dir_for_writing(SHA).unwrap();
    let file = File::create(blobs.path(&digest)).unwrap();
    file.write_all_at(&content, half as u64).unwrap();
    (digest, content)
}

#[test]
fn only_what_is_in_memory_is_ready() {
    let (_root, blobs) = open();
    let half: usize = 1 << 20;
    for lends in [true, false] {
        let half = half + 65_536 * usize::from(lends);
        let (digest, content) = half_cold(&blobs, half);
        let (at, half, end) = (half, half as u64, 2 * half as u64);
        let reader = BlobReader::open_ready(&blobs, digest, end, lends).unwrap().unwrap();
        assert!(reader.ready(0..half).unwrap().is_none(), "a page was touched");
        assert!(reader.ready(half - 1..end).unwrap().is_none(), "a page before them is not there");
        let ready = |range| reader.ready(range).unwrap().unwrap();
        let lent = ready(half + 5..end);
        assert!(lent == content[5..]);
        // Pages of the mapping are the same ones each time; copies are not.
        assert_eq!(lent.as_ptr() == ready(half + 5..end).as_ptr(), lends);
        assert_eq!(ready(half + 4000..half + 4200), content[4000..4200]);
        assert_eq!((ready(end..end), ready(0..0)), (Bytes::new(), Bytes::new()));
        // Whoever may wait gets the rest too.
        assert!(reader.range(0..end).unwrap()[at..] == content);
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        for range in [5..4, 0..end + 1, end + 1..end + 1, 0..u64::MAX] {
            for error in [reader.ready(range.clone()).unwrap_err(), reader.range(range.clone()).unwrap_err()]
            {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                assert!(
                    error.to_string().contains(&format!("size={end}, range={}..", range.start)),
                    "{error}"
                );
            }
        }
    }
    let (digest, content) = half_cold(&blobs, 2 * half);
    let (at, half, end) = (2 * half, 2 * half as u64, 4 * half as u64);
    let whole = Blob::map(&blobs, digest, end).unwrap().unwrap();
    let slice = BlobReader::from(whole.slice(at..).unwrap());
    assert!(slice.ready(0..half).unwrap().unwrap() == content);
    assert!(BlobReader::from(whole.slice(..at).unwrap()).ready(0..half).unwrap().is_none());
}

#[test]
fn whole_contents_are_ready_up_to_a_bound() {
    let (_root, blobs) = open();
    for (size, is_ready) in [(0, true), (1, true), (100_000, true), (8 << 20, true), ((8 << 20) + 1, false)] {
        let content = pattern(size);
        let digest = put(&blobs, &content);
        let reader = BlobReader::open_ready(&blobs, digest, size as u64, true).unwrap().unwrap();
        match Blob::ready(&reader) {
            Ok(blob) => {
                assert!(is_ready && *blob == *content && blob.digest() == digest && blob.verify().is_ok())
            }
            Err(error) => assert!(!is_ready && error.kind() == ErrorKind::WouldBlock, "{error}"),
        }
    }
    let (digest, _) = half_cold(&blobs, 4096);
    let reader = BlobReader::open_ready(&blobs, digest, 8192, true).unwrap().unwrap();
    assert_eq!(Blob::ready(&reader).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_cannot_be_told_counts_as_not_in_memory() {
    let (root, blobs) = open();
    let digest = put(&blobs, &pattern(20_000));
    for call in [Call::Map, Call::Resident] {
        let armed = arm(Fault::new(call, root.path(), Errno::NOMEM));
        let reader = BlobReader::open_ready(&blobs, digest, 20_000, true).unwrap().unwrap();
        assert!(reader.ready(0..20_000).unwrap().is_none());
        assert_eq!((armed.fired(), reader.lend(0..20_000).unwrap()), (1, pattern(20_000).into()));
    }
    let reader = BlobReader::open_ready(&blobs, digest, 20_000, true).unwrap().unwrap();
    for errno in [Errno::AGAIN, Errno::OPNOTSUPP, Errno::NOSYS] {
        let armed = arm(Fault::new(Call::ReadReady, root.path(), errno));
        assert!(reader.ready(5..10).unwrap().is_none());
        assert_eq!((armed.fired(), &reader.ready(5..10).unwrap().unwrap()[..]), (1, &pattern(10)[5..]));
    }
    let armed = arm(Fault::new(Call::ReadReady, root.path(), Errno::IO));
    assert_eq!(reader.ready(5..10).unwrap_err().kind(), ErrorKind::Io);
    drop(armed);
    let armed = arm(Fault::new(Call::OpenReady, root.path(), Errno::NOSYS));
    let error = BlobReader::open_ready(&blobs, digest, 20_000, true).unwrap_err();
    assert_eq!((error.kind(), armed.fired()), (ErrorKind::WouldBlock, 1));
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
}

#[test]
fn names_are_looked_up_in_memory() {
    let (root, blobs) = open();
    let digest = put(&blobs, b"content");
    let absent = Digest::of(b"nothing");
    let fresh = Arc::new(reopen(&root, false).unwrap());
    let kind = |digest| BlobReader::open_ready(&fresh, digest, 7, true).map(|found| found.is_some());
    // Nobody has opened the directory yet.
    assert_eq!(kind(digest).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(BlobReader::open(&fresh, digest, 7, true).unwrap().is_some());
    assert!(kind(digest).unwrap());
    assert!(BlobReader::open(&fresh, absent, 7, true).unwrap().is_none());
    assert!(!kind(absent).unwrap(), "that there is no such name was just found");
    assert_eq!(BlobReader::open_ready(&fresh, digest, 8, true).unwrap_err().kind(), ErrorKind::Corrupt);
}
