//! Content: four ways in, what is refused on the way, three ways out, and files that went bad.

use std::fs;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;

use bytes::Bytes;
use orlop::{Algorithm, Digest, ErrorKind, Expected, Limits, ReadMode, Store, Verify};

use crate::support::*;

const SIZES: [usize; 8] = [0, 1, 4096, INLINE - 1, INLINE, INLINE + 1, 100_000, 20_000_000];

fn expecting(digest: Option<Digest>, size: Option<u64>) -> Expected {
    let mut expected = Expected::default();
    expected.digest = digest;
    expected.size = size;
    expected
}

/// The digest by a route that is not the crate's.
fn independent(algorithm: Algorithm, bytes: &[u8]) -> String {
    use sha2::Digest as _;
    match algorithm {
        Algorithm::Sha512 => {
            let hash = sha2::Sha512::digest(bytes);
            format!("sha512:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Algorithm::Blake3 => format!("blake3:{}", blake3::hash(bytes).to_hex()),
        _ => sha256(bytes),
    }
}

/// Pushes nothing but `bytes` under the algorithm, by a push-style writer fed in odd pieces.
fn write_in_pieces(store: &Store, algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut ingest = store.ingest(algorithm).unwrap();
    for piece in bytes.chunks(99_991) {
        ingest.write_all(piece).unwrap();
    }
    ingest.flush().unwrap();
    let content = ingest.finish(&Expected::default()).unwrap();
    store.default_repository().push(content).unwrap().digest
}

#[test]
fn every_size_under_every_algorithm_comes_back_and_is_named_by_its_hash() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for algorithm in Algorithm::ALL {
        for size in SIZES {
            let bytes = noise(size as u64 + 1, size);
            let digest = write_in_pieces(&store, algorithm, &bytes);
            assert_eq!(digest.to_string(), independent(algorithm, &bytes));
            let before = here.get(&digest).unwrap().unwrap();
            assert_eq!(before.len(), size);
            assert!(before[..] == bytes[..], "{digest} reads otherwise before the flush");
            store.flush().unwrap();
            assert!(fs::read(blob_path(&dir.root(), &digest)).unwrap() == bytes, "{digest} is another file");
            let after = here.get(&digest).unwrap().unwrap();
            assert!(after[..] == bytes[..] && before[..] == bytes[..]);
            assert_eq!((after.digest(), after.is_empty()), (digest, size == 0));
            after.verify().unwrap();
        }
    }
    drop(here);
    store.close().unwrap();
    let store = options().verify(Verify::Always).open(dir.root()).unwrap();
    assert_eq!(contents(&store.default_repository()).len(), SIZES.len() * Algorithm::ALL.len());
    for digest in contents(&store.default_repository()) {
        store.default_repository().get(&digest).unwrap().unwrap();
    }
}

#[test]
fn bytes_readers_writers_and_files_are_the_same_content() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for size in SIZES {
        let bytes = noise(size as u64 + 77, size);
        let digest = digest_of(&bytes);
        let exact = expecting(Some(digest), Some(size as u64));
        let path = dir.file("source", &bytes);
        let contents = [
            store.ingest_bytes(bytes.clone(), &exact).unwrap(),
            store.ingest_reader(Cursor::new(&bytes), &exact).unwrap(),
            store.ingest_file(&path, &exact).unwrap(),
        ];
        // The file is a private copy by now.
        fs::write(&path, b"changed meanwhile").unwrap();
        for (n, content) in contents.into_iter().enumerate() {
            let pushed = here.push(content).unwrap();
            assert_eq!(
                (pushed.digest, pushed.size, pushed.existed),
                (digest, size as u64, n > 0),
                "size {size}"
            );
        }
        assert!(here.push_reader(Cursor::new(&bytes), &Expected::from(digest)).unwrap().existed);
        assert!(here.push_bytes(bytes.clone()).unwrap().existed);
        fs::write(&path, &bytes).unwrap();
        assert!(here.push_file(&path, &Expected::default()).unwrap().existed);
        assert!(here.get(&digest).unwrap().unwrap()[..] == bytes[..]);
        assert_eq!(here.stat(&digest).unwrap().unwrap().size, size as u64);
    }
    assert_eq!(contents(&here).len(), SIZES.len());
}

#[test]
fn an_expected_digest_chooses_the_algorithm() {
    let (_dir, store) = fresh();
    let bytes = b"under three names".to_vec();
    for algorithm in Algorithm::ALL {
        let digest: Digest = independent(algorithm, &bytes).parse().unwrap();
        let content = store.ingest_bytes(bytes.clone(), &Expected::from(digest)).unwrap();
        assert_eq!(store.default_repository().push(content).unwrap().digest, digest);
    }
    assert_eq!(contents(&store.default_repository()).len(), 3);
}

#[test]
fn what_is_not_what_was_announced_leaves_nothing() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    here.push_bytes(&b"was there before"[..]).unwrap();
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    for size in SIZES {
        let bytes = noise(size as u64 + 5, size);
        let found = sha256(&bytes);
        let wrong_digest = expecting(Some(absent()), None);
        let wrong_size = expecting(None, Some(size as u64 + 1));
        let cut = expecting(Some(digest_of(&bytes)), Some(size as u64 + 1));
        let path = dir.file("source", &bytes);
        for expected in [&wrong_digest, &wrong_size, &cut] {
            let (size_text, wanted) = (size.to_string(), (size + 1).to_string());
            let values: Vec<&str> = match expected.size {
                Some(_) => vec![&size_text, &wanted],
                None => vec![&found, "sha256:"],
            };
            fails(store.ingest_bytes(bytes.clone(), expected), ErrorKind::Mismatch, &values);
            fails(store.ingest_file(&path, expected), ErrorKind::Mismatch, &values);
            // A stream may be told wrong before its end is seen: the exact number found is not always known.
            fails(store.ingest_reader(Cursor::new(&bytes), expected), ErrorKind::Mismatch, &[]);
            fails(here.push_reader(Cursor::new(&bytes), expected), ErrorKind::Mismatch, &[]);
            fails(here.push_file(&path, expected), ErrorKind::Mismatch, &[]);
            let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
            let written = ingest.write_all(&bytes);
            if written.is_ok() {
                fails(ingest.finish(expected), ErrorKind::Mismatch, &[]);
            }
        }
        let too_long = expecting(None, Some(size as u64 / 2));
        if size > 1 {
            fails(store.ingest_reader(Cursor::new(&bytes), &too_long), ErrorKind::Mismatch, &[]);
        }
        assert_eq!((content_tree(&dir.root()), describe(&store)), before, "size {size}");
    }
    store.flush().unwrap();
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
}

#[test]
fn what_is_dropped_on_the_way_leaves_nothing() {
    let (dir, store) = fresh();
    let before = content_tree(&dir.root());
    for size in SIZES {
        let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
        ingest.write_all(&noise(1, size)).unwrap();
        drop(ingest);
        drop(store.ingest_bytes(noise(2, size), &Expected::default()).unwrap());
    }
    assert_eq!(content_tree(&dir.root()), before);
    store.flush().unwrap();
    assert_eq!(content_tree(&dir.root()), before);
}

#[test]
fn a_reader_that_fails_is_an_error_and_leaves_nothing() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the line broke"));
            }
            let count = self.0.min(buffer.len());
            self.0 -= count;
            buffer[..count].fill(7);
            Ok(count)
        }
    }
    let (dir, store) = fresh();
    let before = content_tree(&dir.root());
    for size in [0, 10, INLINE + 1, 12_000_000] {
        let error = store
            .default_repository()
            .push_reader(Failing(size), &Expected::default())
            .expect_err("it should have failed");
        let source = std::error::Error::source(&error).expect("the cause is there").to_string();
        assert!(source.contains("the line broke"), "{error:?}");
    }
    assert_eq!(content_tree(&dir.root()), before);
    assert_eq!(describe(&store).len(), 0);
}

#[test]
fn a_file_that_is_none_is_refused_by_name() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for (name, kind) in [("missing", ErrorKind::NotFound), (".", ErrorKind::Invalid)] {
        let error = here.push_file(dir.path(name), &Expected::default()).expect_err("it should have failed");
        assert!(error.kind() == kind || error.kind() == ErrorKind::Io, "{error:?}");
        assert!(error.to_string().contains(dir.path(name).to_str().unwrap()), "{error:?}");
    }
    let path = dir.file("real", b"real");
    symlink(&path, dir.path("link")).unwrap();
    assert_eq!(here.push_file(dir.path("link"), &Expected::default()).unwrap().size, 4);
}

#[test]
fn a_limit_on_content_holds_for_every_way_in() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_content_size = Some(50_000);
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = store.default_repository();
    here.push_bytes(noise(1, 50_000)).unwrap();
    let before = content_tree(&dir.root());
    let bytes = noise(2, 50_001);
    let path = dir.file("source", &bytes);
    let values = ["50000"];
    fails(here.push_bytes(bytes.clone()), ErrorKind::Invalid, &values);
    fails(here.push_reader(Cursor::new(&bytes), &Expected::default()), ErrorKind::Invalid, &values);
    fails(here.push_file(&path, &Expected::default()), ErrorKind::Invalid, &values);
    let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
    if ingest.write_all(&bytes).is_ok() {
        fails(ingest.finish(&Expected::default()), ErrorKind::Invalid, &values);
    }
    assert_eq!(content_tree(&dir.root()), before);
}

#[test]
fn slices_and_bytes_are_the_same_memory() {
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        let dir = scratch();
        let store = options().read_mode(read_mode).create(dir.root()).unwrap();
        let here = store.default_repository();
        for size in [4096, INLINE + 1, 3_000_000] {
            let bytes = noise(size as u64, size);
            let digest = here.push_bytes(bytes.clone()).unwrap().digest;
            for flushed in [false, true] {
                if flushed {
                    store.flush().unwrap();
                }
                let blob = here.get(&digest).unwrap().unwrap();
                let start = blob.as_ptr();
                let copy = blob.clone();
                assert_eq!(copy.as_ptr(), start, "a clone copied");
                let slice = blob.slice(100..size - 100).unwrap();
                assert_eq!(slice.as_ptr(), start.wrapping_add(100), "a slice copied");
                assert!(slice[..] == bytes[100..size - 100]);
                assert_eq!(slice.slice(0..0).unwrap().len(), 0);
                let whole: Bytes = blob.into();
                assert_eq!(whole.as_ptr(), start, "Bytes copied");
                let part = slice.into_bytes();
                assert_eq!(part.as_ptr(), start.wrapping_add(100), "Bytes of a slice copied");
                drop((copy, store.clone()));
                assert!(whole[..] == bytes[..] && part[..] == bytes[100..size - 100]);
            }
        }
    }
}

#[test]
fn ranges_end_where_the_content_does() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    for size in [0_usize, 1, 1000, 100_000] {
        let bytes = noise(size as u64, size);
        let digest = here.push_bytes(bytes.clone()).unwrap().digest;
        let end = size as u64;
        for range in [0..end, 0..0, end..end, end / 2..end, 0..end / 2, end / 3..end / 2] {
            let found = here.range(&digest, range.clone()).unwrap().unwrap();
            assert!(found[..] == bytes[range.start as usize..range.end as usize], "{size} {range:?}");
        }
        for range in [0..end + 1, end..end + 1, end + 1..end + 1, end + 1..u64::MAX] {
            let values = [range.end.to_string(), size.to_string()];
            fails(here.range(&digest, range), ErrorKind::Invalid, &[&values[0], &values[1]]);
        }
        #[expect(clippy::reversed_empty_ranges, reason = "a caller may send one")]
        let reversed = 1..0;
        fails(here.range(&digest, reversed), ErrorKind::Invalid, &[]);
        let blob = here.get(&digest).unwrap().unwrap();
        fails(blob.slice(0..size + 1), ErrorKind::Invalid, &[&(size + 1).to_string(), &size.to_string()]);
        fails(blob.slice(size + 1..), ErrorKind::Invalid, &[]);
        assert_eq!(blob.slice(..).unwrap().len(), size);
    }
    assert!(here.range(&absent(), 0..1).unwrap().is_none());
}

#[test]
fn a_reader_reads_and_seeks_in_content_of_any_kind() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    for size in [0_usize, 1000, 300_000] {
        let bytes = noise(size as u64 + 9, size);
        let digest = here.push_bytes(bytes.clone()).unwrap().digest;
        for flushed in [false, true] {
            if flushed {
                store.flush().unwrap();
            }
            let mut reader = here.reader(&digest).unwrap().unwrap();
            assert_eq!(reader.len(), size as u64);
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == bytes);
            if size > 0 {
                let mut one = [0; 10];
                reader.seek(SeekFrom::Start(17)).unwrap();
                reader.read_exact(&mut one).unwrap();
                assert_eq!(one, bytes[17..27]);
                assert_eq!(reader.seek(SeekFrom::Current(3)).unwrap(), 30);
                assert_eq!(reader.seek(SeekFrom::End(-10)).unwrap(), size as u64 - 10);
                reader.read_exact(&mut one).unwrap();
                assert_eq!(one, bytes[size - 10..]);
                assert_eq!(reader.read(&mut one).unwrap(), 0);
            }
            assert!(reader.seek(SeekFrom::Current(-(size as i64) - 100)).is_err());
            assert_eq!(reader.seek(SeekFrom::End(5)).unwrap(), size as u64 + 5);
            assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        }
    }
    assert!(here.reader(&absent()).unwrap().is_none());
}

#[test]
fn a_file_handle_is_there_once_there_is_a_file() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let small = here.push_bytes(&b"journalled"[..]).unwrap().digest;
    let large = here.push_bytes(noise(1, 500_000)).unwrap().digest;
    assert!(here.get(&small).unwrap().unwrap().file().unwrap().is_none());
    let mut found = Vec::new();
    here.get(&large).unwrap().unwrap().file().unwrap().expect("a file").read_to_end(&mut found).unwrap();
    assert!(found == noise(1, 500_000));
    store.flush().unwrap();
    found.clear();
    here.get(&small)
        .unwrap()
        .unwrap()
        .file()
        .unwrap()
        .expect("filed by now")
        .read_to_end(&mut found)
        .unwrap();
    assert_eq!(found, b"journalled");
}

#[test]
fn content_files_are_read_only_and_named_by_their_digest_alone() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for size in [10, INLINE + 1] {
        let digest = here.push_bytes(noise(3, size)).unwrap().digest;
        store.flush().unwrap();
        let node = tree(&dir.root())[&format!("blobs/sha256/{}", digest.encoded())].clone();
        assert_eq!(node.mode & 0o777, 0o444);
    }
    let names = tree(&dir.root()).into_keys().filter(|path| path.starts_with("blobs/")).count();
    assert_eq!(names, 3, "one directory and two files");
}

#[test]
fn a_blob_outlives_its_file() {
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        let dir = scratch();
        let store = options().read_mode(read_mode).create(dir.root()).unwrap();
        let here = store.default_repository();
        for size in [1000, INLINE + 1, 2_000_000] {
            let bytes = noise(size as u64, size);
            let digest = here.push_bytes(bytes.clone()).unwrap().digest;
            store.flush().unwrap();
            let blob = here.get(&digest).unwrap().unwrap();
            let mut reader = here.reader(&digest).unwrap().unwrap();
            fs::remove_file(blob_path(&dir.root(), &digest)).unwrap();
            assert!(blob[..] == bytes[..]);
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == bytes);
        }
    }
}

#[test]
fn damage_is_found_as_the_verify_mode_promises() {
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        for size in [1000, INLINE + 1, 2_000_000] {
            let dir = scratch();
            let store = options().create(dir.root()).unwrap();
            let bytes = noise(size as u64, size);
            let digest = store.default_repository().push_bytes(bytes.clone()).unwrap().digest;
            store.close().unwrap();
            damage(&blob_path(&dir.root(), &digest));
            let value = digest.to_string();

            let open = |verify| options().read_mode(read_mode).verify(verify).open(dir.root()).unwrap();
            let store = open(Verify::Never);
            let blob = store.default_repository().get(&digest).unwrap().unwrap();
            assert!(blob[..] != bytes[..]);
            fails(blob.verify(), ErrorKind::Corrupt, &[&value]);
            drop((blob, store));

            for verify in [Verify::First, Verify::Always] {
                let store = open(verify);
                for _ in 0..2 {
                    fails(store.default_repository().get(&digest), ErrorKind::Corrupt, &[&value]);
                    fails(store.unscoped().get(&digest), ErrorKind::Corrupt, &[&value]);
                }
                drop(store);
            }
        }
    }
}

#[test]
fn verifying_first_looks_once_and_always_looks_again() {
    let dir = scratch();
    options().create(dir.root()).unwrap().close().unwrap();
    for (verify, looks_again) in [(Verify::First, false), (Verify::Always, true)] {
        let store = options().verify(verify).open(dir.root()).unwrap();
        let here = store.default_repository();
        let bytes = noise(40 + u64::from(looks_again), 600_000);
        let digest = here.push_bytes(bytes.clone()).unwrap().digest;
        assert!(here.get(&digest).unwrap().unwrap()[..] == bytes[..]);
        damage(&blob_path(&dir.root(), &digest));
        assert_eq!(here.get(&digest).is_err(), looks_again, "{verify:?}");
    }
}

#[test]
fn a_file_of_the_wrong_size_is_never_returned_and_a_push_heals_it() {
    for size in [1000_usize, INLINE + 1, 2_000_000] {
        for wrong in [Some(0), Some(size as u64 / 2), Some(size as u64 + 1), None] {
            let (dir, store) = fresh();
            let bytes = noise(size as u64, size);
            let digest = store.default_repository().push_bytes(bytes.clone()).unwrap().digest;
            store.close().unwrap();
            let path = blob_path(&dir.root(), &digest);
            match wrong {
                None => fs::remove_file(&path).unwrap(),
                Some(length) => {
                    damage(&path);
                    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
                }
            }
            let store = options().open(dir.root()).unwrap();
            let here = store.default_repository();
            let value = digest.to_string();
            fails(here.get(&digest), ErrorKind::Corrupt, &[&value]);
            let pushed = here.push_bytes(bytes.clone()).unwrap();
            assert_eq!((pushed.digest, pushed.size), (digest, size as u64));
            assert!(
                here.get(&digest).unwrap().unwrap()[..] == bytes[..],
                "{wrong:?} of {size} was not healed"
            );
            store.flush().unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "{wrong:?} of {size} was not healed on disk");
        }
    }
}

#[test]
fn damage_that_a_read_found_is_healed_by_the_next_push() {
    for size in [1000_usize, INLINE + 1] {
        let (dir, store) = fresh();
        let bytes = noise(size as u64, size);
        let digest = store.default_repository().push_bytes(bytes.clone()).unwrap().digest;
        store.close().unwrap();
        damage(&blob_path(&dir.root(), &digest));
        let store = options().verify(Verify::Always).open(dir.root()).unwrap();
        let here = store.default_repository();
        fails(here.get(&digest), ErrorKind::Corrupt, &[]);
        here.push_bytes(bytes.clone()).unwrap();
        store.flush().unwrap();
        assert!(here.get(&digest).unwrap().unwrap()[..] == bytes[..], "not healed, size {size}");
        assert!(fs::read(blob_path(&dir.root(), &digest)).unwrap() == bytes);
    }
}

#[test]
fn something_else_under_the_name_of_content_is_damage() {
    let (dir, store) = fresh();
    let bytes = noise(1, 100_000);
    let digest = store.default_repository().push_bytes(bytes.clone()).unwrap().digest;
    store.close().unwrap();
    let path = blob_path(&dir.root(), &digest);
    let elsewhere = dir.file("elsewhere", &bytes);
    fs::remove_file(&path).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let store = options().open(dir.root()).unwrap();
    fails(store.default_repository().get(&digest), ErrorKind::Corrupt, &[&digest.to_string()]);
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let store = options().open(dir.root()).unwrap();
    fails(store.default_repository().get(&digest), ErrorKind::Corrupt, &[&digest.to_string()]);
}

#[test]
fn pushing_the_same_from_many_threads_stores_it_once() {
    let (dir, store) = fresh();
    for size in [500_usize, INLINE + 1] {
        let bytes = noise(size as u64, size);
        let new: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let (here, bytes) = (store.default_repository(), bytes.clone());
                    scope.spawn(move || usize::from(!here.push_bytes(bytes).unwrap().existed))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(new, 1, "stored by {new} threads");
    }
    store.flush().unwrap();
    assert_eq!(fs::read_dir(dir.root().join("blobs/sha256")).unwrap().count(), 2);
}
