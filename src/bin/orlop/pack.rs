//! Packs a directory as oras does: a tar archive in gzip, whose entries begin with the name of the directory.
//!
//! The same directory gives the same bytes: entries are sorted by name and have no owners. Times are those of the files,
//! or that of SOURCE_DATE_EPOCH.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use orlop::digest::Digester;
use orlop::{Algorithm, Digest};
use rustix::fs::OFlags;

use crate::archive::{BLOCK, Kind, Member};
use crate::entry_path::{goes_up_again, leads_out};
use crate::error::{Exit, Failure};

/// What lies below a directory, in the order in which it is packed.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: Vec<(PathBuf, Member)>,
    /// Bytes of all files.
    pub(crate) size: u64,
}

/// How packing ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The observer said so.
    Stopped,
    /// The archive could not be written on.
    Write(io::Error),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Tree {
    /// Looks through the directory. `name` is what its entries begin with; `time` replaces the times of the files.
    pub(crate) fn of(root: &Path, name: &str, time: Option<i64>) -> Result<Self, Failure> {
        let mut tree = Self { entries: Vec::new(), size: 0 };
        // The directory itself may be reached through a link, as any file may.
        let metadata = fs::metadata(root).map_err(|error| Failure::io("read the directory", root, &error))?;
        tree.add(root.to_owned(), name.as_bytes().to_vec(), &metadata, time)?;
        Ok(tree)
    }

    fn add(
        &mut self,
        path: PathBuf,
        name: Vec<u8>,
        metadata: &Metadata,
        time: Option<i64>,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io("read the directory", &path, &error);
        // A path that deep is a file system that has gone round in a circle.
        if name.len() > 16 * 1024 {
            return Err(Failure::usage(format!("path is too long to be packed, path={}", path.display())));
        }
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File,
            kind if kind.is_symlink() => Kind::Symlink,
            _ => {
                return Err(Failure::usage(format!(
                    "only files, directories and symbolic links can be packed, path={}",
                    path.display()
                ))
                .with_hint("remove the device, FIFO or socket, or push the files beside it one by one"));
            }
        };
        let link = match kind {
            Kind::Symlink => fs::read_link(&path).map_err(failed)?.as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        // Go rounds to the second as well.
        let rounded = metadata.mtime() + i64::from(metadata.mtime_nsec() >= 500_000_000);
        let size = if kind == Kind::File { metadata.len() } else { 0 };
        self.size = self.size.saturating_add(size);
        let member = Member {
            kind,
            path: name.clone(),
            link,
            mode: metadata.mode() & 0o7777,
            modified: time.unwrap_or(rounded),
            size,
        };
        let names = if kind == Kind::Directory { Some(sorted(&path).map_err(failed)?) } else { None };
        self.entries.push((path.clone(), member));
        for below in names.into_iter().flatten() {
            let path = path.join(&below);
            let metadata = fs::symlink_metadata(&path)
                .map_err(|error| Failure::io("read the directory", &path, &error))?;
            self.add(path, [&name, &b"/"[..], below.as_bytes()].concat(), &metadata, time)?;
        }
        Ok(())
    }

    /// Links that a pull of this directory will refuse, because they lead out of it or could be made to.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Path> {
        let root = self.entries.first().map_or(0, |(_, member)| depth(&member.path));
        self.entries
            .iter()
            .filter(move |(_, member)| {
                member.kind == Kind::Symlink
                    && (leads_out(&member.link, depth(&member.path) - root - 1)
                        || goes_up_again(&member.link))
            })
            .map(|(path, _)| path.as_path())
    }

    /// Writes the packed directory; answers the digest of the archive inside. The observer is told the bytes of files
    /// that are done.
    pub(crate) fn pack(
        &self,
        to: impl Write,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Digest, Stop> {
        let mut out = Tee {
            to: GzEncoder::new(io::BufWriter::with_capacity(64 * 1024, to), Compression::default()),
            digester: Digester::new(Algorithm::Sha256),
        };
        let mut buffer = vec![0; 256 * 1024];
        let mut done = 0;
        for (path, member) in &self.entries {
            let header = member.header().map_err(|error| Failure::io("pack the file", path, &error))?;
            out.write_all(&header).map_err(Stop::Write)?;
            if member.kind == Kind::File {
                copy(path, member, &mut out, &mut buffer, &mut done, observer)?;
                out.write_all([0; BLOCK].get(..member.padding()).unwrap_or_default()).map_err(Stop::Write)?;
            }
            if observer(done).is_break() {
                return Err(Stop::Stopped);
            }
        }
        out.write_all(&[0; 2 * BLOCK]).map_err(Stop::Write)?;
        let digest = out.digester.finish();
        out.to.finish().and_then(|mut to| to.flush()).map_err(Stop::Write)?;
        Ok(digest)
    }
}

/// How many names a path has.
fn depth(path: &[u8]) -> usize {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).count()
}

#[expect(clippy::disallowed_methods, reason = "the directory of the user, no part of a store")]
fn sorted(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable_by(|a: &std::ffi::OsString, b| OsStr::as_bytes(a).cmp(OsStr::as_bytes(b)));
    Ok(names)
}

#[expect(clippy::disallowed_methods, reason = "the directory of the user, no part of a store")]
fn copy(
    path: &Path,
    member: &Member,
    out: &mut impl Write,
    buffer: &mut [u8],
    done: &mut u64,
    observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let failed = |error: io::Error| Failure::io("read the file", path, &error);
    // Something else may have come there since it was looked at.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(changed(path).into());
    }
    let mut left = member.size;
    let mut from = file.take(member.size.saturating_add(1));
    loop {
        let read = match from.read(buffer) {
            Ok(0) if left == 0 => return Ok(()),
            Ok(0) => return Err(changed(path).into()),
            Ok(read) => read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error).into()),
        };
        left = left.checked_sub(read).ok_or_else(|| changed(path))?;
        *done += read;
        let part = buffer.get(..usize::try_from(read).unwrap_or(0)).unwrap_or_default();
        out.write_all(part).map_err(Stop::Write)?;
        if observer(*done).is_break() {
            return Err(Stop::Stopped);
        }
    }
}

fn changed(path: &Path) -> Failure {
    Failure::new(Exit::Integrity, format!("file changed while it was packed, path={}", path.display()))
        .with_hint("nothing was stored; wait until nobody writes into the directory, and try again")
}

/// Writes and hashes.
struct Tee<W> {
    to: W,
    digester: Digester,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digester.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
