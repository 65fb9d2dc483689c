//! Ranges of contents that are empty, small, journalled, in a file or mapped, against slices of the same bytes.
#![no_main]

use std::io::{Read, Seek, SeekFrom};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orlop::{Digest, Durability, Options, Publish, Repository, Verify};

struct World {
    repository: Repository,
    contents: Vec<(Digest, Vec<u8>)>,
    _dir: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Process).publish(Publish::Manual).verify(Verify::First);
    let store = options.create(dir.path().join("store")).unwrap();
    let repository = store.default_repository();
    let mut contents = Vec::new();
    // Files up to here, from here on the journal; above the inline limit there are files only.
    for round in 0..2_u8 {
        for length in [0, 1, 5, 4096, 32 << 10, (32 << 10) + 1, 256 << 10, 300 << 10] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 251 + at % 251) as u8 ^ round).collect();
            contents.push((repository.push_bytes(bytes.clone()).unwrap().digest, bytes));
        }
        if round == 0 {
            store.flush().unwrap();
        }
    }
    World { repository, contents, _dir: dir }
});

fn number(bytes: &mut &[u8]) -> u64 {
    let mut out = [0; 8];
    let Some((width, rest)) = bytes.split_first() else { return 0 };
    let (taken, rest) = rest.split_at(rest.len().min(usize::from(width % 9)));
    out[..taken.len()].copy_from_slice(taken);
    *bytes = rest;
    u64::from_le_bytes(out)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let World { repository, contents, .. } = &*WORLD;
    let (digest, expected) = &contents[number(&mut input) as usize % contents.len()];
    let (mut start, mut end) = (number(&mut input), number(&mut input));
    if number(&mut input) % 4 != 0 {
        // Mostly near the content.
        start %= expected.len() as u64 + 2;
        end = start.saturating_add(end % (expected.len() as u64 + 2));
    }
    let slice = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| expected.get(start..end));
    match repository.range(digest, start..end) {
        Ok(found) => assert_eq!(&found.expect("it is held")[..], slice.expect("the range is inside")),
        Err(error) => {
            assert_eq!(error.kind(), orlop::ErrorKind::Invalid);
            assert!(slice.is_none(), "{error}");
        }
    }
    let blob = repository.get(digest).unwrap().expect("it is held");
    assert_eq!(&blob[..], &expected[..]);
    if let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) {
        match blob.slice(start..end) {
            Ok(part) => {
                assert_eq!(&part[..], slice.expect("the range is inside"));
                assert_eq!(part.offset(), start as u64);
                assert_eq!(&part.into_bytes()[..], slice.unwrap());
            }
            Err(_) => assert!(slice.is_none()),
        }
        let _ = blob.slice(start..=end).map(|part| assert_eq!(part.len(), end + 1 - start));
        let _ = blob.slice(..end).map(|part| assert_eq!(&part[..], &expected[..end]));
    }
    let mut reader = repository.reader(digest).unwrap().expect("it is held");
    assert_eq!(reader.len(), expected.len() as u64);
    match reader.seek(SeekFrom::Start(start)) {
        Ok(at) => {
            assert_eq!(at, start);
            let mut out = vec![0; (end.saturating_sub(start)).min(1 << 20) as usize];
            let mut got = 0;
            while got < out.len() {
                match reader.read(&mut out[got..]).unwrap() {
                    0 => break,
                    read => got += read,
                }
            }
            let from = usize::try_from(start).unwrap_or(usize::MAX).min(expected.len());
            let to = (from + out.len()).min(expected.len());
            assert_eq!(&out[..got], &expected[from..to]);
        }
        Err(error) => panic!("{error}"),
    }
    let delta = end as i64;
    if let Ok(at) = reader.seek(SeekFrom::End(delta)) {
        assert_eq!(Some(at), (expected.len() as u64).checked_add_signed(delta));
    }
});
