//! Content files: `blobs/<algorithm>/<encoded>`, and how content gets there.
//!
//! A file under its final name is whole and was verified before it got that name; it is never written again.
//! Content on its way is a `TempFile` of the ingest directory and goes away with its handle.

mod blob;
mod filing;
mod giving;
mod ingest;
mod pipe;
mod reader;
mod upload;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

pub use self::blob::Blob;
pub(crate) use self::filing::Staged;
pub(crate) use self::giving::Given;
pub(crate) use self::ingest::Body;
pub(crate) use self::ingest::unobserved;
pub use self::ingest::{Content, Expected, Ingest, Sharing};
pub use self::reader::BlobReader;
pub(crate) use self::upload::{Hashes, UploadFile};

use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// The content files of one store.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: sys::Dir,
    /// None: opened for reading only.
    ingest: Option<sys::Dir>,
    sha256: Slot,
    sha512: Slot,
    blake3: Slot,
}

/// The directory of one algorithm.
#[derive(Debug, Default)]
struct Slot {
    open: OnceLock<sys::Dir>,
    /// Whether its name in `blobs/` is known to be durable. One that is merely found may have been made by a
    /// process that was killed before it synced.
    durable: Mutex<bool>,
}

/// A name found under `blobs/<algorithm>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Listed {
    /// A name that a digest has.
    Digest(Digest),
    /// Any other.
    Foreign(OsString),
}

impl Blobs {
    /// Opens the content below `root` (the directory `blobs` itself). For writing, `root` and `ingest` are made
    /// where they are missing, `root`'s own name is made durable, and both must be on one filesystem.
    pub(crate) fn open(root: &Path, ingest: &Path, writable: bool) -> Result<Self> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |error: io::Error| {
                let missing = error.kind() == io::ErrorKind::NotFound;
                let error = Error::io("open the directory", &path, error);
                if missing { error.with_kind(ErrorKind::NotFound) } else { error }
            }
        };
        let (root, ingest) = if writable {
            // Made by a path that may have links in it; opened without following one in its own place.
            let blobs = sys::Dir::create(root).and_then(|_| sys::Dir::open(root)).map_err(fail(root))?;
            let ingest = sys::Dir::create(ingest).map_err(fail(ingest))?;
            if let Some(parent) = root.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let sync = |error| Error::io("sync the directory", parent, error);
                sys::Dir::open_following(parent).and_then(|parent| parent.sync()).map_err(sync)?;
            }
            (blobs, Some(ingest))
        } else {
            (sys::Dir::open(root).map_err(fail(root))?, None)
        };
        let blobs =
            Self { root, ingest, sha256: Slot::default(), sha512: Slot::default(), blake3: Slot::default() };
        blobs.refuse_two_filesystems()?;
        Ok(blobs)
    }

    fn refuse_two_filesystems(&self) -> Result<()> {
        let Some(ingest) = &self.ingest else { return Ok(()) };
        let device = |dir: &sys::Dir| {
            sys::Stat::of(dir.file()).map_err(|error| Error::io("stat the directory", dir.path(), error))
        };
        if device(&self.root)?.dev == device(ingest)?.dev {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "content and ingest directory are on different filesystems, blobs={}, ingest={}",
                self.root.path().display(),
                ingest.path().display()
            ),
        ))
    }

    fn slot(&self, algorithm: Algorithm) -> &Slot {
        match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha512 => &self.sha512,
            Algorithm::Blake3 => &self.blake3,
        }
    }

    /// The directory of an algorithm for looking things up; None when there is none yet.
    pub(crate) fn dir(&self, algorithm: Algorithm) -> Result<Option<&sys::Dir>> {
        let slot = self.slot(algorithm);
        if let Some(dir) = slot.open.get() {
            return Ok(Some(dir));
        }
        match self.root.open_dir(algorithm.as_str()) {
            Ok(None) => Ok(None),
            Ok(Some(dir)) => Ok(Some(slot.open.get_or_init(|| dir))),
            Err(error) => Err(Error::io("open the directory", &self.dir_path(algorithm), error)),
        }
    }

    /// The directory of an algorithm for naming things in it: it exists, durably. `Indeterminate` when that cannot be
    /// synced, which is final.
    pub(crate) fn dir_for_writing(&self, algorithm: Algorithm) -> Result<&sys::Dir> {
        self.ingest_dir()?;
        let slot = self.slot(algorithm);
        let mut durable = slot.durable.lock();
        if !*durable {
            let fail = |error| Error::io("make the directory", &self.dir_path(algorithm), error);
            self.root.make_dir(algorithm.as_str()).map_err(fail)?;
            let unsynced = |error| fail(error).with_kind(ErrorKind::Indeterminate);
            self.root.sync().map_err(unsynced)?;
            *durable = true;
        }
        drop(durable);
        self.dir(algorithm)?.ok_or_else(|| {
            Error::corrupt(format!("directory has vanished, path={}", self.dir_path(algorithm).display()))
        })
    }

    fn dir_path(&self, algorithm: Algorithm) -> PathBuf {
        self.root.path().join(algorithm.as_str())
    }

    /// Where content on its way is put; `ReadOnly` when the store is open for reading.
    pub(crate) fn ingest_dir(&self) -> Result<&sys::Dir> {
        self.ingest.as_ref().ok_or_else(|| {
            let path = self.root.path().display();
            Error::new(ErrorKind::ReadOnly, format!("the store is open for reading only, path={path}"))
        })
    }

    /// The directory `blobs` itself.
    pub(crate) fn root(&self) -> &sys::Dir {
        &self.root
    }

    /// The path of the file that the digest names, whether or not it exists. For messages and other programs.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir_path(digest.algorithm()).join(file_name(digest))
    }

    /// The size of the content file in bytes; None when there is none. Anything but a regular file is `Corrupt`.
    pub(crate) fn stat_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(None) };
        match dir.stat(file_name(digest)) {
            Ok(None) => Ok(None),
            Ok(Some(stat)) if stat.is_file => Ok(Some(stat.size)),
            Ok(Some(_)) => Err(self.not_regular(digest)),
            Err(error) => Err(Error::io("stat the content", &self.path(digest), error)),
        }
    }

    /// What has the name of the content, whatever it is.
    pub(crate) fn stat(&self, digest: &Digest) -> Result<Option<sys::Stat>> {
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(None) };
        dir.stat(file_name(digest)).map_err(|error| Error::io("stat the content", &self.path(digest), error))
    }

    /// Opens the content file; None when there is none. Anything but a regular file is `Corrupt`.
    pub(crate) fn open_file(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(None) };
        dir.open_file(file_name(digest)).map_err(|error| self.access_error("open the content", digest, error))
    }

    /// As [`Blobs::open_file`], without waiting for a disk: `WouldBlock` where that would be.
    fn open_ready(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(dir) = self.slot(digest.algorithm()).open.get() else { return Err(not_in_memory(digest)) };
        match dir.open_ready(file_name(digest)) {
            sys::Ready::Now(file) => Ok(file),
            sys::Ready::Waits => Err(not_in_memory(digest)),
        }
    }

    /// The directory of an algorithm, for fault points.
    fn place(&self, algorithm: Algorithm) -> &Path {
        self.slot(algorithm).open.get().unwrap_or(&self.root).path()
    }

    fn open_unchecked(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(None) };
        dir.open_unchecked(file_name(digest))
            .map_err(|error| self.access_error("open the content", digest, error))
    }

    /// A link (`ELOOP`, as links are not followed), a directory and a device are damage; the rest is the system's.
    fn access_error(&self, action: &str, digest: &Digest, error: io::Error) -> Error {
        match self.stat_size(digest) {
            Err(damage) if damage.kind() == ErrorKind::Corrupt => damage,
            _ => Error::io(action, &self.path(digest), error),
        }
    }

    fn not_regular(&self, digest: &Digest) -> Error {
        let path = self.path(digest);
        Error::corrupt(format!("content is not a regular file, digest={digest}, path={}", path.display()))
    }

    /// Takes the name away; false when there was none. Not durable before [`Blobs::sync_dirs`]. Open handles and
    /// mappings stay valid.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<bool> {
        self.ingest_dir()?;
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(false) };
        dir.unlink(file_name(digest))
            .map_err(|error| Error::io("remove the content", &self.path(digest), error))
    }

    /// Moves whatever has the content's name to another directory of the same filesystem; false when nothing has it. Not
    /// durable before both directories are synced.
    pub(crate) fn move_away(&self, digest: &Digest, to: &sys::Dir, name: &str) -> Result<bool> {
        self.ingest_dir()?;
        let Some(dir) = self.dir(digest.algorithm())? else { return Ok(false) };
        match dir.rename(file_name(digest), to, name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("move the content away", &self.path(digest), error)),
        }
    }

    /// Makes the names given and taken so far under these algorithms durable. Concurrent calls share their syncs.
    /// After a failure every later call fails until the store is reopened.
    pub(crate) fn sync_dirs(&self, algorithms: &[Algorithm]) -> Result<()> {
        for &algorithm in algorithms {
            let Some(dir) = self.dir(algorithm)? else { continue };
            dir.sync().map_err(|error| Error::io("sync the directory", dir.path(), error))?;
        }
        Ok(())
    }

    /// Makes everything written to the filesystem so far durable.
    pub(crate) fn sync_filesystem(&self) -> Result<()> {
        sys::sync_filesystem(&self.root)
            .map_err(|error| Error::io("sync the filesystem", self.root.path(), error))
    }

    /// Everything under one algorithm, in no order.
    pub(crate) fn list(&self, algorithm: Algorithm) -> Result<impl Iterator<Item = Result<Listed>> + use<>> {
        let path = self.dir_path(algorithm);
        let fail = move |error| Error::io("list the directory", &path, error);
        let entries = match self.dir(algorithm)? {
            None => None,
            Some(dir) => Some(dir.list().map_err(&fail)?),
        };
        Ok(entries.into_iter().flatten().map(move |name| Ok(listed(algorithm, name.map_err(&fail)?))))
    }

    /// Removes what earlier processes left in the ingest directory, but for the upload sessions given; answers how many
    /// files, and which of those sessions have theirs. Only for the holder of the store's lock, and before anything is
    /// ingested.
    pub(crate) fn clear_ingest(&self, uploads: &BTreeSet<[u8; 16]>) -> Result<(u64, BTreeSet<[u8; 16]>)> {
        let dir = self.ingest_dir()?;
        let fail = |error| Error::io("clear the directory", dir.path(), error);
        let (mut removed, mut found) = (0, BTreeSet::new());
        for name in dir.list().map_err(fail)? {
            let name = name.map_err(fail)?;
            let upload = upload::id_of(&name);
            if let Some(id) = upload.filter(|id| uploads.contains(id)) {
                found.insert(id);
            } else if (upload.is_some() || sys::TempFile::is_name(&name))
                && dir.unlink(&name).map_err(fail)?
            {
                removed += 1;
            }
        }
        Ok((removed, found))
    }
}

/// Content that would have to be read from a disk.
#[cold]
pub(crate) fn not_in_memory(digest: &Digest) -> Error {
    Error::new(ErrorKind::WouldBlock, format!("content is not in memory, digest={digest}"))
}

/// The only way from a digest to a name.
fn file_name(digest: &Digest) -> String {
    let mut name = String::with_capacity(2 * digest.as_bytes().len());
    digest.encode_into(&mut name);
    name
}

fn listed(algorithm: Algorithm, name: OsString) -> Listed {
    let digest = name.to_str().and_then(|name| format!("{algorithm}:{name}").parse::<Digest>().ok());
    digest.map_or(Listed::Foreign(name), Listed::Digest)
}

#[cfg(test)]
mod tests;
