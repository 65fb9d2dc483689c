//! Content on its way in can be watched, and stopped without a trace.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;

use orlop::{Content, Digest, ErrorKind, Expected, Result, Store};

use crate::support::*;

/// Small enough to stay in memory, large enough for a file, and for a thread of its own.
const SIZES: [usize; 4] = [1_000, 100_000, 3_000_000, 20_000_000];

type Observer<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;
/// Takes content in from a file or from a reader.
type Way = fn(&Store, &std::path::Path, Observer<'_>) -> Result<Content>;

fn by_file(store: &Store, path: &std::path::Path, observer: Observer<'_>) -> Result<Content> {
    store.ingest_file_observed(path, &Expected::default(), observer)
}

fn by_reader(store: &Store, path: &std::path::Path, observer: Observer<'_>) -> Result<Content> {
    store.ingest_reader_observed(fs::File::open(path).unwrap(), &Expected::default(), observer)
}

const WAYS: [Way; 2] = [by_file, by_reader];

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

/// What waits in the store without being anybody's.
fn staged(dir: &std::path::Path) -> usize {
    let mut todo = vec![dir.join(".orlop")];
    let mut found = 0;
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            found += usize::from(entry.file_name().to_string_lossy().starts_with("tmp-"));
        }
    }
    found
}

#[test]
fn the_observer_is_told_all_of_it_and_never_less_than_before() {
    let (dir, store) = fresh();
    for size in SIZES {
        let bytes = content(size);
        let source = dir.path("source");
        fs::write(&source, &bytes).unwrap();
        for way in WAYS {
            let mut told = Vec::new();
            let taken = way(&store, &source, &mut |done| {
                told.push(done);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!((taken.digest(), taken.size()), (Digest::of(&bytes), size as u64));
            assert!(told.is_sorted(), "{told:?}");
            assert_eq!(told.last(), Some(&(size as u64)));
            // Often enough to stop soon.
            assert!(told.len() >= size / (16 << 20), "{told:?}");
        }
    }
}

#[test]
fn what_was_stopped_leaves_nothing_and_the_store_goes_on() {
    let (dir, store) = fresh();
    let path = dir.root().to_owned();
    let before = staged(&path);
    for size in SIZES {
        let source = dir.path("source");
        fs::write(&source, content(size)).unwrap();
        for way in WAYS {
            for stop_at in [0, size as u64 / 2, size as u64] {
                let mut observer =
                    |done| if done >= stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
                let error = way(&store, &source, &mut observer).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                assert_eq!(error.to_string(), "stopped by the caller; nothing changed");
                assert_eq!(staged(&path), before, "size={size}, stop_at={stop_at}");
            }
        }
    }
    let repository = store.default_repository();
    let digest = repository.push_bytes(b"afterwards".as_slice()).unwrap().digest;
    assert!(repository.stat(&digest).unwrap().is_some());
    assert!(repository.stat(&Digest::of(&content(1_000))).unwrap().is_none());
}

/// An observer that stops ends the reading of a source that never ends.
#[test]
fn a_source_without_end_is_stopped() {
    let (_dir, store) = fresh();
    let mut observer =
        |done| if done > 10_000_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let error = store
        .ingest_reader_observed(std::io::repeat(7).by_ref(), &Expected::default(), &mut observer)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}
