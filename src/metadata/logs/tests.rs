//! Many write while one sync is under way, and a power cut takes any of their pages: what was synced is there, of the rest what
//! comes before the first loss, and nothing that builds on it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and sizes are small"
)]
#![expect(clippy::disallowed_methods, reason = "a test damages files")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ErrorKind;
use crate::metadata::schema::Family;
use crate::metadata::synced::Synced;
use crate::metadata::{Metadata, key};
use crate::sys::fault::{Call, Fault, arm};

/// Rows of this many commits.
const COMMITS: u64 = 12;

fn put(metadata: &Metadata, commit: u64, sync: bool) {
    let mut rows = metadata.rows();
    rows.put_foreign(&commit.to_string(), "digest", &"x".repeat(1_500));
    rows.put_foreign(&commit.to_string(), "second", "{}");
    rows.count().unwrap().commit(sync).unwrap();
}

/// The commits that are there; each is there as a whole.
fn found(metadata: &Metadata) -> Vec<u64> {
    let has = |commit: &u64, digest| {
        let key = key::foreign(&commit.to_string(), digest);
        metadata.db.get_cf(metadata.family(Family::Default), key).unwrap().is_some()
    };
    let commits = (1..=COMMITS + 1).filter(|commit| has(commit, "digest"));
    commits.inspect(|commit| assert!(has(commit, "second"), "commit {commit} is there in part")).collect()
}

/// Metadata that ended without being closed, of which the first two commits were synced when they were made, and the one that
/// `sync` names, with all before it.
struct Killed {
    temp: tempfile::TempDir,
    path: PathBuf,
    /// Where in the log each commit begins.
    begins: Vec<usize>,
    /// The last row of the second commit.
    synced: u64,
}

impl Killed {
    fn new(sync: u64) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("live");
        let metadata = Metadata::open(&path).unwrap();
        let (mut begins, mut synced) = (vec![0], 0);
        for commit in 1..=COMMITS {
            begins.push(fs::metadata(log(&path)).unwrap().len() as usize);
            put(&metadata, commit, commit <= 2 || commit == sync);
            if commit == 2 {
                synced = metadata.log.synced();
            }
        }
        assert_eq!(synced, metadata.log.synced() - if sync > 2 { (sync - 2) * 2 } else { 0 });
        let template = temp.path().join("template");
        copy(&path, &template);
        drop(metadata);
        fs::remove_dir_all(&path).unwrap();
        Self { temp, path, begins, synced }
    }

    /// The same with another log; `synced` is what the witness beside it says, if there is one.
    fn with(&self, change: impl FnOnce(&Path, Vec<u8>), synced: Option<u64>) {
        let _ = fs::remove_dir_all(&self.path);
        copy(&self.temp.path().join("template"), &self.path);
        let log = log(&self.path);
        change(&log, fs::read(&log).unwrap());
        if let Some(synced) = synced {
            Synced::open(&self.path).unwrap().note(synced);
        }
    }

    fn assert_damaged(&self) {
        let before = bytes(&self.path);
        assert_eq!(Metadata::open_read_only(&self.path).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(Metadata::open(&self.path).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(bytes(&self.path), before, "what is damaged is salvaged from as it was");
    }

    /// Whoever reads and whoever writes has what comes before `lost`, and is told that something is dropped, if it is.
    fn assert_left(&self, lost: u64, dropped: bool) {
        let left: Vec<u64> = (1..lost).collect();
        let before = bytes(&self.path);
        let view = Metadata::open_read_only(&self.path).unwrap();
        assert_eq!((found(&view), view.torn().is_some()), (left.clone(), dropped));
        drop(view);
        assert_eq!(bytes(&self.path), before, "whoever reads writes nothing");
        let metadata = Metadata::open(&self.path).unwrap();
        assert_eq!((found(&metadata), metadata.torn().is_some()), (left.clone(), dropped));
        put(&metadata, COMMITS + 1, true);
        drop(metadata);
        let again = Metadata::open(&self.path).unwrap();
        assert_eq!((found(&again), again.torn()), ([left, vec![COMMITS + 1]].concat(), None));
    }
}

fn log(path: &Path) -> PathBuf {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// All that the logs and the list of files hold.
fn bytes(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn with_zeros(mut bytes: Vec<u8>, from: usize, to: usize) -> Vec<u8> {
    bytes[from..to].fill(0);
    bytes
}

#[test]
fn a_lost_page_of_what_was_not_synced_costs_what_comes_from_there_on_and_no_rebuild() {
    let killed = Killed::new(2);
    for lost in [3, 6, 11] {
        let begin = killed.begins[lost as usize];
        let holes = [
            // The engine would pass over this one without a word.
            (begin, begin.next_multiple_of(512)),
            ((begin + 512).next_multiple_of(512), (begin + 1_024).next_multiple_of(512)),
        ];
        for (from, to) in holes {
            let hole = |log: &Path, bytes| fs::write(log, with_zeros(bytes, from, to)).unwrap();
            killed.with(hole, Some(killed.synced));
            killed.assert_left(lost, true);
            // Without a witness, as a copy is.
            killed.with(hole, None);
            killed.assert_left(lost, true);
            killed.with(hole, Some(killed.synced + (lost - 2) * 2));
            killed.assert_damaged();
        }
    }
}

#[test]
fn a_lost_page_of_what_was_synced_is_damage_when_later_records_know_it() {
    let killed = Killed::new(8);
    for lost in 3..=COMMITS {
        let begin = killed.begins[lost as usize];
        killed.with(
            |log, bytes| fs::write(log, with_zeros(bytes, begin, begin.next_multiple_of(512))).unwrap(),
            None,
        );
        if lost <= 8 {
            killed.assert_damaged();
        } else {
            killed.assert_left(lost, true);
        }
    }
}

#[test]
fn a_later_log_counts_only_if_it_goes_on_where_the_one_before_ends() {
    let killed = Killed::new(2);
    // From the end of one commit, and from the begin of another on.
    for (end, begin) in [(6, 6), (6, 8), (5, 12)] {
        let split = |log: &Path, bytes: Vec<u8>| {
            let number: u64 = log.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let later = log.with_file_name(format!("{:06}.log", number + 50));
            fs::write(later, &bytes[killed.begins[begin]..]).unwrap();
            fs::write(log, &bytes[..killed.begins[end]]).unwrap();
        };
        let lost = if end == begin { COMMITS + 1 } else { end as u64 };
        killed.with(split, Some(killed.synced));
        killed.assert_left(lost, end != begin);
        if end != begin {
            killed.with(split, Some(killed.synced + (lost - 2) * 2));
            killed.assert_damaged();
        }
    }
}

/// Files that are copied one after the other while a writer goes on: the list is from before rows went into tables, and the
/// log is from after that.
#[test]
fn a_copy_of_metadata_in_use_that_lacks_a_log_is_noticed() {
    for sync in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let (path, kept) = (temp.path().join("live"), temp.path().join("copy"));
        let metadata = Metadata::open(&path).unwrap();
        put(&metadata, 1, sync);
        metadata.flush().unwrap();
        copy(&path, &kept);
        fs::remove_file(log(&kept)).unwrap();
        for commit in [2, 3] {
            put(&metadata, commit, sync);
        }
        metadata.flush().unwrap();
        put(&metadata, 4, sync);
        fs::copy(log(&path), kept.join(log(&path).file_name().unwrap())).unwrap();
        // Its records know that commit 3 was synced before it was removed, if it was.
        if sync {
            assert_eq!(Metadata::open_read_only(&kept).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(Metadata::open(&kept).unwrap_err().kind(), ErrorKind::Corrupt);
        } else {
            let view = Metadata::open_read_only(&kept).unwrap();
            assert!(found(&view) == [1] && view.torn().is_some());
            drop(view);
            let opened = Metadata::open(&kept).unwrap();
            assert!(found(&opened) == [1] && opened.torn().is_some());
        }
        assert_eq!(found(&metadata), [1, 2, 3, 4]);
    }
}

/// The engine reads its list, and then lists the logs, of which a live writer may have removed one meanwhile.
#[test]
fn who_opens_beside_a_writer_that_moves_rows_into_tables_tries_again() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("live");
    let metadata = Metadata::open(&path).unwrap();
    put(&metadata, 1, true);
    let held = arm(Fault::hold(Call::JudgeLogs, &path, None));
    let opened = std::thread::scope(|scope| {
        let reader = scope.spawn(|| Metadata::open_read_only(&path).map(|view| found(&view)));
        held.wait();
        put(&metadata, 2, true);
        metadata.flush().unwrap();
        put(&metadata, 3, true);
        held.let_go();
        reader.join().unwrap()
    });
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Busy);
    drop(held);
    assert_eq!(found(&Metadata::open_read_only(&path).unwrap()), [1, 2, 3]);
}
