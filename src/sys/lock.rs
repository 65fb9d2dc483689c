//! The lock of a store: one writing process.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::clock;
use super::dir::{Dir, Stat};
use super::fault::{self, Call};
use crate::error::{Error, ErrorKind, Result};

const NAME: &str = "lock";
/// Nobody writes more about himself; a longer file is none of ours.
const MAX_HOLDER: usize = 1024;

/// The right to write to a store. Given back on drop, and by the system when the process dies.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
    /// Whether the file is ours and says who holds it.
    named: bool,
}

impl StoreLock {
    /// Takes the lock in `dir`, waiting for at most `timeout` (not at all when None).
    ///
    /// Held by another process, or by another handle of this one: `Locked`, with the holder in the message.
    pub(crate) fn acquire(dir: &Dir, timeout: Option<Duration>) -> Result<Self> {
        let path = dir.path().join(NAME);
        let fail = |error| Error::io("lock the store", &path, error);
        let file = dir.open_or_create(NAME, 0o644).map_err(fail)?;
        // Where files cannot be locked, a store cannot live.
        wait_for(&file, dir.path(), timeout, || read_holder(&file), &path)?;
        // The text of the last holder goes only now: before, it was somebody's.
        write_holder(&file).map_err(fail)?;
        Ok(Self { file, named: true })
    }

    /// Takes a lock on the directory itself, for places where no file of ours may be. None where directories cannot be
    /// locked: then nobody is kept out.
    pub(crate) fn acquire_plain(dir: &Dir, timeout: Option<Duration>) -> Result<Option<Self>> {
        let fail = |error| Error::io("lock the directory", dir.path(), error);
        let file = dir.file().try_clone().map_err(fail)?;
        match wait_for(&file, dir.path(), timeout, || holder_by_kernel(&file), dir.path()) {
            Ok(()) => Ok(Some(Self { file, named: false })),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who holds the lock in `dir` by what he wrote; None when nobody is known to.
    #[cfg(test)]
    pub(crate) fn holder(dir: &Dir) -> io::Result<Option<String>> {
        let Some(file) = dir.open_file(NAME)? else { return Ok(None) };
        Ok(read_holder(&file))
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        if self.named {
            // Only for people's eyes: a stale text would name a process that is gone.
            let _ = self.file.set_len(0);
        }
        // Closing is not enough: other handles may share the open file and with it the lock, such as those that a child has
        // between its fork and its exec.
        let _ = self.file.unlock();
    }
}

/// Waits until `file` is locked. `Unsupported` where files like this cannot be.
fn wait_for(
    file: &File,
    dir: &Path,
    timeout: Option<Duration>,
    holder: impl Fn() -> Option<String>,
    shown: &Path,
) -> Result<()> {
    let fail = |error: io::Error| {
        let unsupported = matches!(
            error.raw_os_error().map(Errno::from_raw_os_error),
            Some(Errno::BADF | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)
        );
        let error = Error::io("lock the store", shown, error);
        if unsupported { error.with_kind(ErrorKind::Unsupported) } else { error }
    };
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        fault::point(Call::Lock, dir).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let left = timeout.unwrap_or_default().saturating_sub(start.elapsed());
        if left.is_zero() {
            let holder = holder().unwrap_or_else(|| "unknown".to_owned());
            let message =
                format!("another process holds the store, holder={holder}, path={}", shown.display());
            return Err(Error::new(ErrorKind::Locked, message));
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Who holds a lock on the file as the system tells it, where it does.
fn holder_by_kernel(file: &File) -> Option<String> {
    let inode = Stat::of(file).ok()?.ino;
    let mut text = String::new();
    Dir::open(Path::new("/proc")).ok()?.open_unchecked("locks").ok()??.read_to_string(&mut text).ok()?;
    // `1: FLOCK  ADVISORY  WRITE <pid> <major>:<minor>:<inode> 0 EOF`
    let pid = text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (kind, _, _, pid, place) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let same = kind == "FLOCK" && place.rsplit(':').next()?.parse() == Ok(inode);
        same.then(|| pid.to_owned())
    })?;
    let mut name = String::new();
    let process =
        Dir::open(&Path::new("/proc").join(&pid)).ok().and_then(|dir| dir.open_unchecked("comm").ok()?);
    if let Some(mut file) = process {
        let _ = file.read_to_string(&mut name);
    }
    Some(format!("pid {pid} ({})", harmless(name.trim())))
}

fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn write_holder(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(describe().as_bytes(), 0)
}

fn read_holder(file: &File) -> Option<String> {
    let mut buffer = [0; MAX_HOLDER];
    let read = file.read_at(&mut buffer, 0).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..read)?);
    let text = harmless(text.trim());
    (!text.is_empty()).then_some(text)
}

fn describe() -> String {
    let pid = std::process::id();
    let since = clock::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let mut program = Path::new(&program)
        .file_name()
        .map_or_else(|| "?".to_owned(), |name| name.to_string_lossy().chars().take(64).collect());
    // The verb helps; anything else of the command line is nobody's business.
    if let Some(verb) = arguments.next().and_then(|verb| verb.into_string().ok())
        && (1..=16).contains(&verb.len())
        && verb.bytes().all(|b| b.is_ascii_lowercase())
    {
        program = format!("{program} {verb}");
    }
    let host = host().unwrap_or_else(|| "?".to_owned());
    format!("pid {pid} ({program}) on {host} since {since}")
}

fn host() -> Option<String> {
    let kernel = Dir::open(Path::new("/proc/sys/kernel")).ok()?;
    let file = kernel.open_file("hostname").ok()??;
    let mut buffer = [0; 256];
    let read = file.read_at(&mut buffer, 0).ok()?;
    let name = std::str::from_utf8(buffer.get(..read)?).ok()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic and spoil files")]

    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_of_the_first() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        assert_eq!(StoreLock::holder(&dir).unwrap(), None);
        let lock = StoreLock::acquire(&dir, None).unwrap();
        let holder = StoreLock::holder(&dir).unwrap().unwrap();
        assert!(holder.starts_with(&format!("pid {} (", std::process::id())), "{holder}");
        let since = holder.rsplit(' ').next().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(clock::now().as_second() - since.as_second() < 60);

        let start = Instant::now();
        let error = StoreLock::acquire(&dir, Some(Duration::from_millis(50))).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&format!("holder={holder}, path=")), "{error}");
        // The refused one must not have spoilt the text.
        assert_eq!(StoreLock::holder(&dir).unwrap(), Some(holder));

        drop(lock);
        assert_eq!(StoreLock::holder(&dir).unwrap(), None);
        StoreLock::acquire(&dir, None).unwrap();
    }

    #[test]
    fn a_directory_is_locked_without_a_file() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let lock = StoreLock::acquire_plain(&dir, None).unwrap().unwrap();
        let other = Dir::open(root.path()).unwrap();
        let error = StoreLock::acquire_plain(&other, Some(Duration::from_millis(20))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        let pid = std::process::id();
        assert!(error.to_string().contains(&format!("holder=pid {pid} (")), "{error}");
        assert_eq!(dir.list().unwrap().count(), 0, "nothing is written");
        drop(lock);
        assert!(StoreLock::acquire_plain(&other, None).unwrap().is_some());
        let armed = fault::arm(fault::Fault::new(Call::Lock, root.path(), Errno::BADF));
        assert!(
            StoreLock::acquire_plain(&dir, None).unwrap().is_none(),
            "where directories cannot be locked"
        );
        drop(armed);
        let _armed = fault::arm(fault::Fault::new(Call::Lock, root.path(), Errno::IO));
        assert_eq!(StoreLock::acquire_plain(&dir, None).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn waits_for_the_holder_to_go() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let lock = StoreLock::acquire(&dir, None).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| StoreLock::acquire(&dir, Some(Duration::from_secs(60))));
            thread::sleep(Duration::from_millis(30));
            assert!(!waiter.is_finished());
            drop(lock);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_stands_in_a_foreign_file_is_shown_harmlessly() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        std::fs::write(root.path().join(NAME), b"evil\x1b[2J\n\xff").unwrap();
        assert_eq!(StoreLock::holder(&dir).unwrap().unwrap(), "evil[2J\u{fffd}");
        let armed = fault::arm(fault::Fault::new(Call::Lock, root.path(), Errno::NOLCK));
        let error = StoreLock::acquire(&dir, None).unwrap_err();
        assert_eq!((error.kind(), armed.fired()), (ErrorKind::Unsupported, 1));
        assert!(StoreLock::holder(&dir).unwrap().is_some());
    }
}
