//! Files without a lasting name.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use super::around::Around;
use super::clone::{How, clone_or_copy};
use super::dir::{Dir, Stat};
use super::fault::{self, Call};

/// What the names of temporary files begin with, so that leftovers are told from other things.
const PREFIX: &str = "tmp-";

const UNSYNCED: u8 = 0;
const SYNCED: u8 = 1;
const FAILED: u8 = 2;

/// A file under a random name in a staging directory. Dropped, it is gone; [`TempFile::name_as`] makes it stay.
///
/// It has a name from the beginning and is renamed. `O_TMPFILE` with `linkat` costs 10 to 20 percent less on ext4, but
/// needs as many open files as are staged, cannot replace, and is not to be had everywhere.
///
/// Its mode is 0444 (less the umask) from the beginning: only this handle can write into it.
#[derive(Debug)]
pub(crate) struct TempFile {
    dir: Dir,
    /// Empty once the file has been named.
    name: String,
    /// None once closed.
    file: Option<File>,
    sync: AtomicU8,
    /// A further name of a file that has another one elsewhere.
    linked: bool,
    /// What a failure of its sync is called in tests.
    synced_by: Call,
    /// How much was written.
    written: u64,
    around: Around,
}

impl TempFile {
    /// Whether a name found in a staging directory is one of these.
    pub(crate) fn is_name(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

    /// Creates an empty one. `dir` must be on the filesystem of the later name.
    pub(crate) fn create(dir: &Dir) -> io::Result<Self> {
        Self::create_with(dir, 0o444, Call::SyncFile)
    }

    /// As [`TempFile::create`], for a file that others may write in place once it has its name.
    pub(crate) fn create_writable(dir: &Dir) -> io::Result<Self> {
        Self::create_with(dir, 0o644, Call::SyncDocument)
    }

    fn create_with(dir: &Dir, mode: u32, synced_by: Call) -> io::Result<Self> {
        loop {
            let name = random_name();
            fault::point_at(Call::CreateTemp, dir.path(), OsStr::new(&name))?;
            match dir.create_new(&name, mode) {
                Ok(file) => {
                    return Ok(Self::new(dir, name, Some(file), false, synced_by));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn new(dir: &Dir, name: String, file: Option<File>, linked: bool, synced_by: Call) -> Self {
        let (dir, sync) = (dir.clone(), AtomicU8::new(UNSYNCED));
        Self { dir, name, file, sync, linked, synced_by, written: 0, around: Around::default() }
    }

    /// Gives the open file `of` a further name in `dir`; None where that cannot be, such as on another filesystem. It cannot
    /// be written through this handle.
    pub(crate) fn link(dir: &Dir, of: &File) -> io::Result<Option<Self>> {
        fault::point(Call::CreateTemp, dir.path())?;
        let name = random_name();
        if !dir.link(of, &name)? {
            return Ok(None);
        }
        let mut temp = Self::new(dir, name, None, true, Call::SyncFile);
        temp.file = dir.open_file(&temp.name)?;
        Ok(Some(temp))
    }

    /// Appends all of `bytes`.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes, false)
    }

    /// As [`TempFile::write_all`], for what is synced soon: whole blocks go past the page cache where that can be.
    pub(crate) fn write_around(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes, true)
    }

    fn append(&mut self, mut bytes: &[u8], around: bool) -> io::Result<()> {
        let Some(file) = self.file.as_ref() else { return Err(closed()) };
        while !bytes.is_empty() {
            fault::point(Call::Write, self.dir.path())?;
            let part = bytes.get(..fault::write_len(self.dir.path(), bytes.len())).unwrap_or(bytes);
            match self.around.write(file, part, self.written, around, self.dir.path()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    self.written += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes were appended.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Fills the file, which is empty, with a copy of `from`, as [`clone_or_copy`] does.
    pub(crate) fn fill_from(
        &self,
        from: &File,
        limit: u64,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<Option<(u64, How)>> {
        let Some(file) = self.file.as_ref() else { return Err(closed()) };
        fault::point(Call::Clone, self.dir.path())?;
        clone_or_copy(from, file, limit, observer)
    }

    /// Makes the file, which is empty, share the blocks of `from`; false where that cannot be.
    pub(crate) fn clone_from(&self, from: &File) -> io::Result<bool> {
        let Some(file) = self.file.as_ref() else { return Err(closed()) };
        fault::point(Call::Clone, self.dir.path())?;
        Ok(rustix::fs::ioctl_ficlone(file, from).is_ok())
    }

    /// Gives the file, which is empty, so many bytes of the filesystem, or fails where that cannot be.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        let Some(file) = self.file.as_ref() else { return Err(closed()) };
        fault::point(Call::Write, self.dir.path())?;
        Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
    }

    /// Makes the content durable, once: later calls answer as the first did.
    ///
    /// A failure is final. The kernel may drop the pages it could not write and answer the next `fsync` with
    /// success; the content must be written anew into another file.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self.sync.load(Ordering::Acquire) {
            SYNCED => return Ok(()),
            FAILED => return Err(io::Error::other("an earlier sync of this file failed")),
            _ => {}
        }
        let Some(file) = self.file.as_ref() else { return Err(closed()) };
        let step = fault::step(self.synced_by, self.dir.path(), OsStr::new(&self.name));
        let result = step.and_then(|wanted| if wanted { Ok(rustix::fs::fsync(file)?) } else { Ok(()) });
        self.sync.store(if result.is_ok() { SYNCED } else { FAILED }, Ordering::Release);
        result
    }

    /// Takes it for synced: it is a further name of a file that was synced by its other name.
    pub(crate) fn assume_synced(&self) {
        self.sync.store(SYNCED, Ordering::Release);
    }

    /// Sets the time of the last change.
    pub(crate) fn set_modified(&self, to: SystemTime) -> io::Result<()> {
        self.file.as_ref().ok_or_else(closed)?.set_modified(to)
    }

    /// Size and identity.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Stat::of(self.file.as_ref().ok_or_else(closed)?)
    }

    /// The open file, unless it was closed.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Gives the descriptor back and keeps the name: for staging more files than a process may have open.
    /// A closed file can no longer be written or synced by itself.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Moves the file to `name` in `dir`. With `replace` over what is there; else false when the name is
    /// taken, and the temporary file is gone. Not durable before the directory is synced.
    pub(crate) fn name_as(mut self, dir: &Dir, name: impl AsRef<OsStr>, replace: bool) -> io::Result<bool> {
        let named = if replace {
            self.dir.rename(&self.name, dir, name).map(|()| true)?
        } else {
            self.dir.rename_new(&self.name, dir, name)?
        };
        if named {
            if self.linked {
                // Moving one name of a file over another of the same file does nothing, and leaves both.
                self.dir.unlink(&self.name)?;
            }
            self.name.clear();
        }
        Ok(named)
    }

    /// The directory it is in and its name there, for exchanging it with another file. It is still removed on
    /// drop, with whatever has been put under that name.
    pub(crate) fn place(&self) -> (&Dir, &str) {
        (&self.dir, &self.name)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What stays behind is removed when the store is opened next.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

fn closed() -> io::Error {
    io::Error::other("the temporary file is closed")
}

/// Unique in this process by the counter, unlikely to meet a leftover by the random part; `O_EXCL` decides.
fn random_name() -> String {
    static RANDOM: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{PREFIX}{:016x}-{:x}", *RANDOM, COUNTER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic and make files")]

    use std::fs;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_further_name_of_a_file_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        fs::write(root.path().join("a"), "content").unwrap();
        let of = File::open(root.path().join("a")).unwrap();
        let mut link = TempFile::link(&dir, &of).unwrap().unwrap();
        assert_eq!(link.stat().unwrap(), Stat::of(&of).unwrap());
        assert!(link.write_all(b"x").is_err(), "it is not for writing");
        link.sync().unwrap();
        // Over a name of the same file a rename does nothing at all.
        assert!(link.name_as(&dir, "a", true).unwrap());
        assert!(TempFile::link(&dir, &of).unwrap().unwrap().name_as(&dir, "b", true).unwrap());
        drop(TempFile::link(&dir, &of).unwrap());
        let mut names: Vec<_> = dir.list().unwrap().map(|name| name.unwrap()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        for (errno, refused) in [(Errno::XDEV, true), (Errno::PERM, true), (Errno::IO, false)] {
            let armed = fault::arm(fault::Fault::new(Call::Link, root.path(), errno));
            let linked = TempFile::link(&dir, &of);
            assert_eq!(linked.is_ok_and(|linked| linked.is_none()), refused, "{errno:?}");
            drop(armed);
        }
    }
}
