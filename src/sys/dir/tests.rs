#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic and spoil files")]

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::sys::clone::clone_or_copy;
use crate::sys::fault::{Fault, arm};
use crate::sys::{TempFile, replace};

fn names(dir: &Dir) -> Vec<String> {
    let mut names: Vec<_> = dir.list().unwrap().map(|name| name.unwrap().into_string().unwrap()).collect();
    names.sort();
    names
}

fn put(dir: &Dir, name: &str, bytes: &[u8]) {
    let mut temp = TempFile::create(dir).unwrap();
    temp.write_all(bytes).unwrap();
    assert!(temp.name_as(dir, name, true).unwrap());
}

fn get(dir: &Dir, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    dir.open_file(name).unwrap()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn creates_missing_parents_and_opens_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b/c");
    assert_eq!(Dir::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    let made = Dir::create(&path).unwrap();
    let again = Dir::create(&path).unwrap();
    let (made, again) = (Stat::of(made.file()).unwrap(), Stat::of(again.file()).unwrap());
    assert!(made.is_dir && made.ino == again.ino);
    std::fs::write(root.path().join("file"), "x").unwrap();
    assert_eq!(Dir::create(&root.path().join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_parent_that_cannot_be_synced_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let armed = arm(Fault::new(Call::SyncDir, root.path(), Errno::IO));
    assert_eq!(Dir::create(&root.path().join("new")).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(armed.fired(), 1);
    drop(armed);
    let armed = arm(Fault::new(Call::MakeDir, root.path(), Errno::NOSPC));
    let error = Dir::create(&root.path().join("other")).unwrap_err();
    assert_eq!((error.kind(), armed.fired()), (io::ErrorKind::StorageFull, 1));
}

#[test]
fn links_are_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    put(&dir, "real", b"content");
    std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(".", root.path().join("here")).unwrap();
    let error = dir.open_file("link").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    assert!(!dir.stat("link").unwrap().unwrap().is_file);
    assert!(dir.open_dir("here").is_err());
    assert!(Dir::open(&root.path().join("here")).is_err());
    assert!(Dir::open_following(&root.path().join("here")).is_ok());
    assert_eq!(get(&dir, "real").unwrap(), b"content");
}

#[test]
fn only_regular_files_are_opened() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    assert!(dir.make_dir("sub").unwrap());
    assert!(!dir.make_dir("sub").unwrap());
    assert_eq!(dir.open_file("sub").unwrap_err().kind(), io::ErrorKind::IsADirectory);
    let fifo = root.path().join("fifo");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(dir.file(), "fifo", FileType::Fifo, mode, 0).unwrap();
    assert_eq!(dir.open_file("fifo").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(open_source(&fifo).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(open_source(root.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert!(dir.open_file("absent").unwrap().is_none());
    assert!(dir.open_dir("absent").unwrap().is_none());
    assert!(dir.stat("absent").unwrap().is_none());
    assert!(!dir.exists("absent").unwrap() && dir.exists("sub").unwrap());
    assert!(!dir.unlink("absent").unwrap());
}

#[test]
fn names_are_given_moved_exchanged_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    put(&dir, "a", b"1");
    put(&dir, "b", b"22");
    assert_eq!(Dir::exchange(&dir, "a", &dir, "b").unwrap(), Exchanged::Done);
    assert_eq!((get(&dir, "a").unwrap(), get(&dir, "b").unwrap()), (b"22".to_vec(), b"1".to_vec()));
    assert!(!dir.rename_new("a", &dir, "b").unwrap());
    assert_eq!(names(&dir), ["a", "b"]);
    assert!(dir.rename_new("a", &dir, "c").unwrap());
    dir.rename("b", &dir, "c").unwrap();
    assert_eq!(names(&dir), ["c"]);
    assert_eq!(get(&dir, "c").unwrap(), b"1");
    let stat = dir.stat("c").unwrap().unwrap();
    assert!(stat.is_file && stat.size == 1 && stat.mtime_ns > 1_600_000_000_000_000_000);
    assert!(dir.unlink("c").unwrap());
    assert_eq!(names(&dir), [""; 0]);
    assert_eq!(Dir::exchange(&dir, "c", &dir, "d").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_exchange_that_is_not_supported_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    put(&dir, "a", b"1");
    put(&dir, "b", b"2");
    let armed = arm(Fault::new(Call::Exchange, root.path(), Errno::NOSYS));
    assert_eq!(Dir::exchange(&dir, "a", &dir, "b").unwrap(), Exchanged::Unsupported);
    assert_eq!((armed.fired(), get(&dir, "a").unwrap()), (1, b"1".to_vec()));
    drop(armed);
    let armed = arm(Fault::new(Call::Exchange, root.path(), Errno::IO));
    assert_eq!(Dir::exchange(&dir, "a", &dir, "b").unwrap_err().raw_os_error(), Some(5));
    assert_eq!((armed.fired(), get(&dir, "a").unwrap()), (1, b"1".to_vec()));
}

#[test]
fn a_temporary_file_leaves_nothing_unless_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    let mut temp = TempFile::create(&dir).unwrap();
    temp.write_all(b"x").unwrap();
    let [name] = names(&dir).try_into().unwrap();
    assert!(TempFile::is_name(OsStr::new(&name)) && !TempFile::is_name(OsStr::new("a")));
    assert_eq!(rustix::fs::fstat(temp.file().unwrap()).unwrap().st_mode & 0o222, 0);
    drop(temp);
    assert_eq!(names(&dir), [""; 0]);

    put(&dir, "a", b"old");
    let mut temp = TempFile::create(&dir).unwrap();
    temp.write_all(b"new").unwrap();
    temp.close();
    assert!(temp.write_all(b"more").is_err() && temp.sync().is_err());
    assert!(!temp.name_as(&dir, "a", false).unwrap());
    assert_eq!((names(&dir), get(&dir, "a").unwrap()), (vec!["a".to_owned()], b"old".to_vec()));

    for call in [Call::Rename, Call::CreateTemp] {
        let armed = arm(Fault::new(call, root.path(), Errno::ACCESS));
        let result = TempFile::create(&dir).and_then(|temp| temp.name_as(&dir, "b", true));
        assert_eq!((result.unwrap_err().kind(), armed.fired()), (io::ErrorKind::PermissionDenied, 1));
        assert_eq!(names(&dir), ["a"]);
    }
}

#[test]
fn a_failed_sync_of_a_file_is_final() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    let temp = TempFile::create(&dir).unwrap();
    let armed = arm(Fault::new(Call::SyncFile, root.path(), Errno::IO));
    temp.sync().unwrap_err();
    temp.sync().unwrap_err();
    assert_eq!((armed.seen(), armed.fired()), (1, 1));
    drop(temp);
    let temp = TempFile::create(&dir).unwrap();
    temp.sync().unwrap();
    temp.sync().unwrap();
    assert_eq!(armed.seen(), 2);
}

#[test]
fn replace_keeps_the_old_content_on_every_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    let staging = Dir::create(&root.path().join("staging")).unwrap();
    replace(&dir, &staging, "state", b"old").unwrap();
    for (call, nth) in [
        (Call::CreateTemp, 1),
        (Call::Write, 1),
        (Call::Write, 2),
        (Call::SyncDocument, 1),
        (Call::Rename, 1),
    ] {
        let armed = arm(Fault::new(call, root.path(), Errno::NOSPC).nth(nth).short_writes());
        let error = replace(&dir, &staging, "state", b"newer").unwrap_err();
        assert_eq!((error.kind(), armed.fired()), (io::ErrorKind::StorageFull, 1), "{call:?}");
        assert_eq!(get(&dir, "state").unwrap(), b"old", "{call:?}");
        assert_eq!(names(&staging), [""; 0], "{call:?}");
    }
    replace(&dir, &staging, "state", b"newer").unwrap();
    assert_eq!(get(&dir, "state").unwrap(), b"newer");
    let armed = arm(Fault::new(Call::SyncDir, root.path(), Errno::IO));
    assert_eq!(replace(&dir, &staging, "state", b"newest").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(armed.fired(), 1);
}

#[test]
fn a_failed_sync_of_a_directory_is_final_for_its_clones_too() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    let clone = dir.clone();
    dir.sync().unwrap();
    let armed = arm(Fault::new(Call::SyncDir, root.path(), Errno::IO));
    dir.sync().unwrap_err();
    assert_eq!(clone.sync().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(armed.seen(), 1);
    Dir::open(root.path()).unwrap().sync().unwrap();
}

/// Whoever asks while a sync runs must not be content with it: it may have begun before his change.
#[test]
fn a_caller_waits_for_a_sync_that_started_after_his_call() {
    let syncs = Syncs::default();
    let runs = AtomicUsize::new(0);
    let slow = || {
        runs.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(200));
        Ok(())
    };
    thread::scope(|scope| {
        scope.spawn(|| syncs.run(slow).unwrap());
        while runs.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        for _ in 0..8 {
            scope.spawn(|| {
                syncs.run(slow).unwrap();
                assert!(runs.load(Ordering::SeqCst) >= 2);
            });
        }
    });
    // All eight came while the first ran, or the machine was slow and they made groups of their own.
    assert!((2..=9).contains(&runs.load(Ordering::SeqCst)));
    assert_eq!(syncs.state.lock().done, runs.load(Ordering::SeqCst) as u64);
}

#[test]
fn waiters_get_the_error_of_the_sync_they_waited_for() {
    let syncs = Syncs::default();
    let began = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            syncs.run(|| {
                began.store(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(100));
                Err(Errno::IO.into())
            })
        });
        while began.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        assert_eq!(syncs.run(|| Ok(())).unwrap_err().raw_os_error(), Some(5));
    });
}

#[test]
fn copies_whole_files_and_stops_at_the_limit() {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    let content: Vec<u8> = (0..700_001_u32).map(|i| i.to_le_bytes().iter().fold(0, |a, b| a ^ b)).collect();
    put(&dir, "source", &content);
    let source = dir.open_file("source").unwrap().unwrap();
    put(&dir, "empty", b"");
    for (name, expected) in [("source", content.as_slice()), ("empty", b"")] {
        let temp = TempFile::create(&dir).unwrap();
        let source = dir.open_file(name).unwrap().unwrap();
        let filled = temp.fill_from(&source, u64::MAX, &mut |_| ControlFlow::Continue(())).unwrap();
        // Where the system cannot, nothing is done.
        let expected = if filled.is_some() { expected } else { b"" };
        assert_eq!(filled.map_or(0, |(size, _)| size), expected.len() as u64);
        temp.name_as(&dir, "copy", true).unwrap();
        assert_eq!(get(&dir, "copy").unwrap(), expected);
    }
    let target = dir.create_new("target", 0o644).unwrap();
    let error = clone_or_copy(&source, &target, 700_000, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}
