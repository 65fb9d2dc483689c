//! An open directory, and everything done to names in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::fault::{self, Call};

const OPEN_DIR: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const OPEN_FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// An open directory. Cheap to clone; clones share their syncs.
///
/// Names given to its methods are single components; they come from digests or constants, never from a user.
#[derive(Clone, Debug)]
pub(crate) struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Box<Path>,
    fd: File,
    syncs: Syncs,
    /// Of the whole filesystem: the kernel tells a failure to one caller only, so all must share the answer.
    filesystem: Syncs,
}

/// Whether two names were exchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exchanged {
    /// They were.
    Done,
    /// This filesystem or kernel cannot; nothing changed.
    Unsupported,
}

/// An answer that does not wait for a disk.
#[derive(Debug)]
pub(crate) enum Ready<T> {
    /// It was in memory.
    Now(T),
    /// It is not, or nobody can tell.
    Waits,
}

/// Size and identity of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Who owns it.
    pub(crate) uid: u32,
    /// Inode number.
    pub(crate) ino: u64,
    /// It has more than one name.
    pub(crate) is_linked: bool,
    /// Device number.
    pub(crate) dev: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
    /// A regular file.
    pub(crate) is_file: bool,
    /// A directory.
    pub(crate) is_dir: bool,
}

impl Stat {
    /// Of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from_raw(&rustix::fs::fstat(file)?))
    }

    fn from_raw(raw: &rustix::fs::Stat) -> Self {
        let kind = FileType::from_raw_mode(raw.st_mode);
        let nanos = i64::try_from(raw.st_mtime_nsec).unwrap_or(0);
        Self {
            size: u64::try_from(raw.st_size).unwrap_or(0),
            uid: raw.st_uid,
            ino: raw.st_ino,
            is_linked: raw.st_nlink > 1,
            dev: raw.st_dev,
            mtime_ns: raw.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos),
            is_file: kind == FileType::RegularFile,
            is_dir: kind == FileType::Directory,
        }
    }
}

/// Opens a file that a user named, for reading: symbolic links are followed, but only a regular file is accepted.
pub(crate) fn open_source(path: &Path) -> io::Result<File> {
    fault::point(Call::Open, path)?;
    // Without NONBLOCK the open of a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    regular(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn regular(file: File) -> io::Result<File> {
    let stat = Stat::of(&file)?;
    if stat.is_file {
        return Ok(file);
    }
    if stat.is_dir {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory, not a regular file"));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"))
}

impl Dir {
    /// Opens a directory that exists. The last component may not be a symbolic link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fault::point(Call::Open, path)?;
        let fd = rustix::fs::open(path, OPEN_DIR, Mode::empty())?;
        Ok(Self::new(path, File::from(fd)))
    }

    /// Opens a directory that a user named: a symbolic link to it is followed.
    pub(crate) fn open_following(path: &Path) -> io::Result<Self> {
        fault::point(Call::Open, path)?;
        let fd = rustix::fs::open(path, OPEN_DIR.difference(OFlags::NOFOLLOW), Mode::empty())?;
        Ok(Self::new(path, File::from(fd)))
    }

    /// Opens a directory, making it and its parents where they are missing.
    ///
    /// The parent of each one made is synced, so that what is made here survives a power cut. What was there
    /// already is taken to be durable.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        match Self::open_following(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Self::open(path),
        };
        let Some(name) = path.file_name() else { return Self::open_following(path) };
        let parent = Self::create(parent)?;
        parent.make_dir(name)?;
        parent.sync()?;
        Self::open(path)
    }

    /// Makes everything durable that was written to the filesystem so far, shared and latched as [`Dir::sync`].
    pub(super) fn sync_filesystem(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        self.0.filesystem.run(|| sync(&self.0.fd))
    }

    /// Opens the directory `name` in this one; None when there is none.
    pub(crate) fn open_dir(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Self>> {
        let name = name.as_ref();
        fault::point(Call::Open, &self.0.path)?;
        match rustix::fs::openat(&self.0.fd, name, OPEN_DIR, Mode::empty()) {
            Ok(fd) => Ok(Some(Self::new(&self.0.path.join(name), File::from(fd)))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the directory `name` in this one; false when the name is taken. Not durable before [`Dir::sync`].
    pub(crate) fn make_dir(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        fault::point_at(Call::MakeDir, &self.0.path, name.as_ref())?;
        match rustix::fs::mkdirat(&self.0.fd, name.as_ref(), Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn new(path: &Path, fd: File) -> Self {
        Self(Arc::new(Inner { path: path.into(), fd, syncs: Syncs::default(), filesystem: Syncs::default() }))
    }

    /// The path it was opened by, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The open directory itself.
    pub(crate) fn file(&self) -> &File {
        &self.0.fd
    }

    /// Makes every change of names that was made before this call durable.
    ///
    /// Concurrent callers share an `fsync`, but only one that started after their call. A failure is final:
    /// every later call on this handle and its clones fails, because the kernel may forget what it could not
    /// write and answer the next `fsync` with success.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.syncs.run(|| {
            if fault::step(Call::SyncDir, &self.0.path, OsStr::new(""))? {
                rustix::fs::fsync(&self.0.fd)?;
            }
            Ok(())
        })
    }

    /// Opens a regular file for reading; None when there is none. Anything else under the name is an error.
    pub(crate) fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<Option<File>> {
        let Some(file) = self.open_unchecked(name.as_ref())? else { return Ok(None) };
        regular(file).map(Some)
    }

    /// As [`Dir::open_file`], for a caller that reads at once and finds by reading that it is no file: the
    /// `fstat` is saved. Never waits, not even on a FIFO.
    pub(crate) fn open_unchecked(&self, name: impl AsRef<OsStr>) -> io::Result<Option<File>> {
        fault::point(Call::Open, &self.0.path)?;
        match rustix::fs::openat(&self.0.fd, name.as_ref(), OPEN_FILE | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// As [`Dir::open_file`], if the kernel can tell from memory. Whatever else goes wrong is for somebody to find who may
    /// wait, and so is everything where the kernel is older than 5.12 or a filter forbids to ask.
    pub(crate) fn open_ready(&self, name: impl AsRef<OsStr>) -> Ready<Option<File>> {
        if fault::point(Call::OpenReady, &self.0.path).is_err() {
            return Ready::Waits;
        }
        let flags = OPEN_FILE | OFlags::NONBLOCK;
        match rustix::fs::openat2(&self.0.fd, name.as_ref(), flags, Mode::empty(), ResolveFlags::CACHED) {
            Ok(fd) => regular(File::from(fd)).map_or(Ready::Waits, |file| Ready::Now(Some(file))),
            Err(Errno::NOENT) => Ready::Now(None),
            Err(_) => Ready::Waits,
        }
    }

    /// Creates a file that must not exist, for writing and reading.
    pub(crate) fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(&self.0.fd, name.as_ref(), flags, Mode::from_raw_mode(mode))?))
    }

    /// Opens a regular file of ours for writing and reading, although its mode lets nobody write it; None when there is
    /// none. The mode stays.
    pub(crate) fn open_to_write(&self, name: impl AsRef<OsStr>) -> io::Result<Option<File>> {
        let name = name.as_ref();
        fault::point(Call::Open, &self.0.path)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let open = || rustix::fs::openat(&self.0.fd, name, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::ACCESS) => {
                // Its owner may lend himself the right. It is no link, or the answer had been another.
                let raw = rustix::fs::statat(&self.0.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let lent = Mode::from_raw_mode(raw.st_mode) | Mode::WUSR;
                rustix::fs::chmodat(&self.0.fd, name, lent, AtFlags::empty())?;
                open()
            }
            other => other,
        };
        let file = match opened {
            Ok(fd) => regular(File::from(fd))?,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mode = rustix::fs::fstat(&file)?.st_mode;
        if mode & 0o222 != 0 {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & !0o222))?;
        }
        Ok(Some(file))
    }

    /// Opens a file for writing and reading, created empty where it is missing.
    pub(crate) fn open_or_create(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        fault::point(Call::Open, &self.0.path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.0.fd, name.as_ref(), flags, Mode::from_raw_mode(mode))?;
        regular(File::from(fd))
    }

    /// Size and identity of a name, links not followed; None when there is none.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        fault::point(Call::Stat, &self.0.path)?;
        match rustix::fs::statat(&self.0.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(raw) => Ok(Some(Stat::from_raw(&raw))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the name exists, as whatever.
    pub(crate) fn exists(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        Ok(self.stat(name)?.is_some())
    }

    /// Removes the name of a file; false when there was none.
    pub(crate) fn unlink(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        fault::point_at(Call::Unlink, &self.0.path, name.as_ref())?;
        match rustix::fs::unlinkat(&self.0.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the open file `of`, which nobody may write any more, the further name `name`; false where that cannot be.
    pub(crate) fn link(&self, of: &File, name: impl AsRef<OsStr>) -> io::Result<bool> {
        let path = format!("/proc/self/fd/{}", of.as_raw_fd());
        let linked = fault::point(Call::Link, &self.0.path).and_then(|()| {
            Ok(rustix::fs::linkat(CWD, path, &self.0.fd, name.as_ref(), AtFlags::SYMLINK_FOLLOW)?)
        });
        let Err(error) = linked else { return Ok(true) };
        match Errno::from_io_error(&error) {
            // Another filesystem, one without links, a file of somebody else, too many names.
            Some(
                Errno::XDEV
                | Errno::PERM
                | Errno::ACCESS
                | Errno::MLINK
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::NOENT
                | Errno::INVAL,
            ) => Ok(false),
            _ => Err(error),
        }
    }

    /// Removes the empty directory `name`; an error when something is in it.
    pub(crate) fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        fault::point(Call::Unlink, &self.0.path)?;
        Ok(rustix::fs::unlinkat(&self.0.fd, name.as_ref(), AtFlags::REMOVEDIR)?)
    }

    /// Moves `from` to `name` in the directory `to`, over what is there.
    pub(crate) fn rename(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let (from, name) = (from.as_ref(), name.as_ref());
        fault::moving(Call::Rename, (&self.0.path, from), (&to.0.path, name))?;
        Ok(rustix::fs::renameat(&self.0.fd, from, &to.0.fd, name)?)
    }

    /// As [`Dir::rename`], but false, and nothing changed, when `name` is taken.
    pub(crate) fn rename_new(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> io::Result<bool> {
        let (from, name) = (from.as_ref(), name.as_ref());
        fault::moving(Call::Rename, (&self.0.path, from), (&to.0.path, name))?;
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.0.fd, from, &to.0.fd, name, flags) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(errno.into()),
        }
        // No such flag here: a second name and the removal of the first come to the same.
        match rustix::fs::linkat(&self.0.fd, from, &to.0.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(self.unlink(from).map(|_| true)?),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Exchanges two names in one step. Both must exist.
    pub(crate) fn exchange(
        a_dir: &Self,
        a: impl AsRef<OsStr>,
        b_dir: &Self,
        b: impl AsRef<OsStr>,
    ) -> io::Result<Exchanged> {
        let (a, b) = (a.as_ref(), b.as_ref());
        match fault::moving(Call::Exchange, (&a_dir.0.path, a), (&b_dir.0.path, b)) {
            Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {
                return Ok(Exchanged::Unsupported);
            }
            other => other?,
        }
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(&a_dir.0.fd, a, &b_dir.0.fd, b, flags) {
            Ok(()) => Ok(Exchanged::Done),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(Exchanged::Unsupported),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The names in it, in no order, without `.` and `..`. Each call starts anew.
    pub(crate) fn list(&self) -> io::Result<Entries> {
        fault::point(Call::List, &self.0.path)?;
        Ok(Entries(rustix::fs::Dir::read_from(&self.0.fd)?))
    }
}

/// The names in a directory.
#[derive(Debug)]
pub(crate) struct Entries(rustix::fs::Dir);

impl Iterator for Entries {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(errno.into())),
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                return Some(Ok(OsString::from_vec(OsStr::from_bytes(name).as_bytes().to_vec())));
            }
        }
    }
}

/// Syncs of one directory, numbered, one at a time.
#[derive(Debug, Default)]
struct Syncs {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last sync that started.
    started: u64,
    /// The number of the last sync that succeeded.
    done: u64,
    running: bool,
    failed: Option<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Failure(Option<i32>);

impl Failure {
    fn error(self) -> io::Error {
        self.0.map_or_else(|| io::Error::other("an earlier sync failed"), io::Error::from_raw_os_error)
    }
}

impl Syncs {
    fn run(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock();
        // One that is running may have begun before the caller's change: only the next will do.
        let ticket = state.started + 1;
        loop {
            if state.done >= ticket {
                return Ok(());
            }
            if let Some(failure) = state.failed {
                return Err(failure.error());
            }
            if !state.running {
                break;
            }
            self.changed.wait(&mut state);
        }
        state.started += 1;
        state.running = true;
        let number = state.started;
        drop(state);
        let result = sync();
        let mut state = self.state.lock();
        state.running = false;
        match &result {
            Ok(()) => state.done = number,
            Err(error) => state.failed = Some(Failure(error.raw_os_error())),
        }
        drop(state);
        self.changed.notify_all();
        result
    }
}

#[cfg(test)]
mod tests;
