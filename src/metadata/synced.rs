//! A witness of the log: the number of a row that is known to be on the disk.
//!
//! A log that lost whole records at its end, or that is gone, is a sound log of an older moment; nothing else says what came
//! behind. So the number of the last row that a sync put on the disk is put down beside it, and the rows that an open
//! finds must come up to that.
//!
//! No crash makes it a false alarm: only rows behind a sync count, and the file is not synced itself, so that one from before
//! is true as well and a torn one is none. It names itself and its directory, since a copy of metadata in use may have it from a
//! later moment than the log. It is written at most ten times in a second, so that commits do not pay for it: the last commits of
//! a burst may have no witness until the next one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys::{self, Dir, Stat};

/// The name of the file. The engine lets alone what it does not know.
const FILE: &str = "SYNCED";

/// The most that is read of it.
const MOST: u64 = 512;

/// The least time between two writes of it.
const PAUSE: Duration = Duration::from_millis(100);

/// Puts down what is synced while the metadata are open for writing.
#[derive(Debug)]
pub(super) struct Synced {
    file: File,
    place: Place,
    last: Mutex<Last>,
}

/// The inodes of the file and of its directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place(u64, u64);

impl Place {
    fn of(file: &File, dir: &Dir) -> io::Result<Self> {
        Ok(Self(Stat::of(file)?.ino, Stat::of(dir.file())?.ino))
    }
}

#[derive(Debug, Default)]
struct Last {
    row: u64,
    when: Option<Instant>,
}

impl Synced {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("put down what is synced", path, error);
        let dir = Dir::open_following(path).map_err(fail)?;
        let file = dir.open_or_create(FILE, 0o644).map_err(fail)?;
        let place = Place::of(&file, &dir).map_err(fail)?;
        Ok(Self { file, place, last: Mutex::default() })
    }

    /// Every row up to this one is on the disk.
    ///
    /// Whether that can be put down changes nothing for the rows, so an error of it is nobody's.
    pub(super) fn note(&self, row: u64) {
        // Somebody else is at it, and his is as good.
        let Some(mut last) = self.last.try_lock() else { return };
        if row <= last.row || last.when.is_some_and(|when| when.elapsed() < PAUSE) {
            return;
        }
        if sys::write_over(&self.file, text(row, self.place).as_bytes()).is_ok() {
            last.row = row;
        }
        last.when = Some(Instant::now());
    }
}

/// The row that the metadata must come up to, 0 where nothing is known. To be asked before the engine is opened: a writer
/// beside it goes on meanwhile.
pub(super) fn least(path: &Path) -> Result<u64> {
    let fail = |error| Error::io("compare the metadata log with its witness", path, error);
    let dir = match Dir::open_following(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(fail)?,
    };
    let Some(file) = dir.open_file(FILE).map_err(fail)? else { return Ok(0) };
    let place = Place::of(&file, &dir).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(fail)?;
    Ok(parse(&String::from_utf8_lossy(&bytes), place).unwrap_or_default())
}

/// Refuses metadata that have fewer rows than there were.
pub(super) fn check(path: &Path, least: u64, found: u64) -> Result<()> {
    if found >= least {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the engine's log has less than was synced, rebuild the store, found={found}, expected={least}, path={}",
        path.display()
    )))
}

/// Of one length whatever it says, so that it is written over in place.
fn text(row: u64, Place(file, directory): Place) -> String {
    let record = format!("{row:020} {file:020} {directory:020}");
    format!("{record} {}\n", Digest::of(record.as_bytes()))
}

fn parse(text: &str, place: Place) -> Option<u64> {
    let row = text.split(' ').next()?.parse().ok()?;
    (text == self::text(row, place)).then_some(row)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "a test damages files")]

    use std::fs;

    use super::*;
    use crate::error::ErrorKind;
    use crate::metadata::{Metadata, fact};

    fn commit(metadata: &Metadata) {
        let mut rows = metadata.rows();
        rows.put_flag(fact::SPARSE);
        rows.commit(true).unwrap();
    }

    /// Metadata that ended without being closed after two commits, the second of them with a witness.
    fn killed() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&temp.path().join("live")).unwrap();
        commit(&metadata);
        std::thread::sleep(PAUSE);
        commit(&metadata);
        // Under the same number, as a store that is opened where it was.
        fs::create_dir(temp.path().join("killed")).unwrap();
        for entry in fs::read_dir(temp.path().join("live")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, temp.path().join("killed").join(path.file_name().unwrap())).unwrap();
        }
        let killed = temp.path().join("killed");
        let least = least(&temp.path().join("live")).unwrap();
        assert_eq!(least, metadata.next_sequence() - 1);
        assert_eq!(super::least(&killed).unwrap(), 0, "a copy has no witness");
        Synced::open(&killed).unwrap().note(least);
        assert_eq!(super::least(&killed).unwrap(), least);
        temp
    }

    fn bytes_of_logs(path: &Path) -> u64 {
        let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|log| fs::metadata(log).unwrap().len()).sum()
    }

    fn log(path: &Path) -> std::path::PathBuf {
        let logs = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
    }

    #[test]
    fn a_log_that_lost_what_was_synced_is_damage_until_it_is_salvaged() {
        let spoils: [fn(&Path); 4] = [
            |log| fs::remove_file(log).unwrap(),
            |log| fs::write(log, b"").unwrap(),
            |log| {
                let bytes = fs::read(log).unwrap();
                fs::write(log, &bytes[..bytes.len() - 3]).unwrap();
            },
            |_| {},
        ];
        for (n, spoil) in spoils.iter().enumerate() {
            let temp = killed();
            let path = temp.path().join("killed");
            spoil(&log(&path));
            if n == 3 {
                Metadata::open_read_only(&path).unwrap();
                Metadata::open(&path).unwrap();
                continue;
            }
            let logs = bytes_of_logs(&path);
            for _ in 0..2 {
                assert_eq!(Metadata::open_read_only(&path).unwrap_err().kind(), ErrorKind::Corrupt, "{n}");
                assert_eq!(Metadata::open(&path).unwrap_err().kind(), ErrorKind::Corrupt, "{n}");
            }
            assert_eq!(bytes_of_logs(&path), logs, "whoever looks first finds what there was");
            drop(Metadata::open_what_is_left(&path).unwrap());
            drop(Metadata::salvage(&path).unwrap());
        }
    }

    #[test]
    fn it_is_put_down_now_and_then_and_never_goes_back() {
        let temp = tempfile::tempdir().unwrap();
        let synced = Synced::open(temp.path()).unwrap();
        assert_eq!(least(temp.path()).unwrap(), 0);
        synced.note(7);
        synced.note(8);
        assert_eq!(least(temp.path()).unwrap(), 7, "too soon");
        std::thread::sleep(PAUSE);
        synced.note(6);
        assert_eq!(least(temp.path()).unwrap(), 7);
        synced.note(9);
        assert_eq!(least(temp.path()).unwrap(), 9);
        let whole = fs::read(temp.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            fs::write(temp.path().join(FILE), &whole[..at]).unwrap();
            assert_eq!(least(temp.path()).unwrap(), 0, "cut at {at}");
        }
    }
}
