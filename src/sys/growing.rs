//! Files that grow over several opens, under a name that stays.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::around::Around;
use super::dir::{Dir, Stat};
use super::fault::{self, Call};
use super::temp::TempFile;

/// A private file that is written now and then, by one process after the other, until it gets another name or goes.
///
/// Its mode is 0444 (less the umask) from the beginning, as content has it: only this handle can write into it. Dropped, it
/// stays.
#[derive(Debug)]
pub(crate) struct GrowingFile {
    dir: Dir,
    name: String,
    file: File,
    /// A sync of it failed: the kernel may have dropped what it could not write, and would answer the next one with success.
    failed: bool,
    around: Around,
}

impl GrowingFile {
    /// Creates an empty one. Whatever has the name goes.
    pub(crate) fn create(dir: &Dir, name: &str) -> io::Result<Self> {
        dir.unlink(name)?;
        fault::point_at(Call::CreateTemp, dir.path(), OsStr::new(name))?;
        let file = dir.create_new(name, 0o444)?;
        Ok(Self { dir: dir.clone(), name: name.to_owned(), file, failed: false, around: Around::default() })
    }

    /// Opens one that is there.
    pub(crate) fn open(dir: &Dir, name: &str) -> io::Result<Option<Self>> {
        let Some(file) = dir.open_to_write(name)? else { return Ok(None) };
        Ok(Some(Self {
            dir: dir.clone(),
            name: name.to_owned(),
            file,
            failed: false,
            around: Around::default(),
        }))
    }

    /// The directory it is in.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Size and identity.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        fault::point_at(Call::Stat, self.dir.path(), OsStr::new(&self.name))?;
        Stat::of(&self.file)
    }

    /// Writes all of `bytes` from the position `at` on; with `around`, what it can of them past the page cache. After an error some of them may be there.
    pub(crate) fn write_at(&self, mut bytes: &[u8], mut at: u64, around: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            fault::point_at(Call::Write, self.dir.path(), OsStr::new(&self.name))?;
            let part = bytes.get(..fault::write_len(self.dir.path(), bytes.len())).unwrap_or(bytes);
            match self.around.write(&self.file, part, at, around, self.dir.path()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    at = at.saturating_add(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts off everything from `size` on.
    pub(crate) fn truncate(&self, size: u64) -> io::Result<()> {
        fault::point_at(Call::Truncate, self.dir.path(), OsStr::new(&self.name))?;
        self.file.set_len(size)
    }

    /// Makes the content durable. A failure is final: what is in the file must be written into another one.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        let step = fault::step(Call::SyncFile, self.dir.path(), OsStr::new(&self.name));
        let result = step.and_then(|wanted| if wanted { self.file.sync_all() } else { Ok(()) });
        self.failed = result.is_err();
        result
    }

    /// A further name for what is in it now; None where the filesystem has none for it.
    pub(crate) fn link(&self) -> io::Result<Option<TempFile>> {
        let linked = TempFile::link(&self.dir, &self.file)?;
        if let Some(linked) = &linked {
            let (dir, name) = linked.place();
            fault::moving(
                Call::Link,
                (self.dir.path(), OsStr::new(&self.name)),
                (dir.path(), OsStr::new(name)),
            )?;
        }
        Ok(linked)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic and look at files")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn it_grows_over_opens_and_nobody_else_may_write_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let path = root.path().join("g");
        fs::write(&path, "left over").unwrap();
        assert!(GrowingFile::open(&dir, "none").unwrap().is_none());
        GrowingFile::create(&dir, "g").unwrap().write_at(b"one two", 0, false).unwrap();
        for mode in [0o444, 0o644] {
            // A process that ended while it had lent itself the right to write.
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut file = GrowingFile::open(&dir, "g").unwrap().unwrap();
            file.write_at(b"three", 4, false).unwrap();
            file.sync().unwrap();
            file.truncate(9).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        }
        assert_eq!(fs::read(&path).unwrap(), b"one three");
    }

    #[test]
    fn a_failed_sync_is_final() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut file = GrowingFile::create(&dir, "g").unwrap();
        let armed = fault::arm(fault::Fault::new(Call::SyncFile, root.path(), Errno::IO));
        assert!(file.sync().is_err());
        assert!(file.sync().is_err(), "the second try must not ask the system");
        assert_eq!((armed.seen(), armed.fired()), (1, 1));
    }
}
