//! Unpacks a directory that oras or orlop packed, whole or not at all, and never outside of where it belongs.
//!
//! The archive may come from anyone. So it is unpacked into a private directory beside the real one, name by name and
//! without following a link; how much comes out of it is bounded; and only what has been checked against its digests is
//! moved to its place. There, too, nothing is written through a link.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use orlop::Digest;
use orlop::digest::Digester;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::archive::{Kind, Member, Reader};
use crate::entry_path::{below, beside, goes_up_again, leads_out};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::merge::{self, Modes};
use crate::place::{DIRECTORY, Folder, Relative, rename_new, temporary_name};
use crate::unpack_source::{Allowance, Counted, Inside, Over};

/// Each entry takes memory here and an inode there, however little of the archive it is.
const MAX_ENTRIES: u64 = 1_000_000;

/// A packed directory and what is known of it.
pub(crate) struct Packed<'a> {
    pub(crate) name: &'a Relative,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    /// The digest of the archive inside the compression, if somebody wrote it down.
    pub(crate) content: Option<Digest>,
    pub(crate) limit: Limit,
}

/// How much may come out of a packed directory. What its descriptor says that it is counts for nothing: it is whoever sent it who says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Bytes, however few came.
    pub(crate) bytes: u64,
    /// Bytes for each packed byte that came, if that is more.
    pub(crate) factor: u64,
}

impl Limit {
    /// When so many packed bytes have come.
    pub(crate) fn of(self, packed: u64) -> u64 {
        self.bytes.max(packed.saturating_mul(self.factor))
    }
}

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Entries that are no files, directories or links.
    pub(crate) left_out: usize,
}

impl Folder {
    /// Unpacks a directory to its place; a directory that is there is merged, file by file. `from` gives the packed bytes.
    pub(crate) fn unpack(
        &self,
        packed: &Packed<'_>,
        from: &mut dyn Read,
        replace: bool,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Unpacked, Failure> {
        let failed =
            |error: io::Error| Failure::io("unpack the directory", &self.absolute(packed.name), &error);
        let Some(parent) = self.parent(packed.name, true)? else { return Err(failed(Errno::NOENT.into())) };
        let allowance = Allowance::new(packed.limit.bytes, MAX_ENTRIES);
        let mut stage = Stage::create(&parent, self.absolute(packed.name), allowance).map_err(failed)?;
        let result = stage.fill(packed, from, observer).and_then(|()| stage.settle());
        match result {
            Ok(()) => {}
            Err(Stop::Refused(failure)) => return Err(failure),
            Err(Stop::Stopped) => return Err(interrupt::failure(INTERRUPTED)),
            Err(Stop::Failed(error)) => return Err(stage.broken(packed, error)),
        }
        let unpacked = Unpacked { left_out: stage.left_out };
        stage.publish(packed.name, replace, self)?;
        Ok(unpacked)
    }
}

/// What an interrupted pull says.
pub(crate) const INTERRUPTED: &str = "what was being written is not there, files that were complete stay";

/// Why unpacking ended.
#[derive(Debug)]
pub(crate) enum Stop {
    Stopped,
    Failed(io::Error),
    Refused(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

/// The private directory that is unpacked into. Dropped, it is gone.
struct Stage<'a> {
    parent: &'a OwnedFd,
    /// Its name in the parent; empty once it has its final one.
    temporary: String,
    root: OwnedFd,
    /// The mode that the umask leaves of all rights, and what else a new directory has from the one it is in.
    mode: u32,
    /// Where it is going to be, for messages.
    place: PathBuf,
    /// Modes and times of directories; set when everything is in them. An archive may name one as often as it likes, the
    /// last time counts.
    directories: BTreeMap<PathBuf, (u32, i64)>,
    allowance: Rc<Allowance>,
    left_out: usize,
}

impl<'a> Stage<'a> {
    fn create(parent: &'a OwnedFd, place: PathBuf, allowance: Allowance) -> io::Result<Self> {
        let temporary = temporary_name();
        rustix::fs::mkdirat(parent, temporary.as_str(), Mode::from_raw_mode(0o777))?;
        let root = rustix::fs::openat(parent, temporary.as_str(), DIRECTORY, Mode::empty())?;
        let mode = rustix::fs::fstat(&root)?.st_mode & 0o7777;
        // Directories have their modes last, so until then nobody else may look in. Where modes cannot be set, they are
        // the same for everything anyway.
        let _ = merge::change_mode(&root, |_| mode & 0o7000 | 0o700);
        let (directories, allowance) = (BTreeMap::new(), Rc::new(allowance));
        Ok(Self { parent, temporary, root, mode, place, directories, allowance, left_out: 0 })
    }

    fn fill(
        &mut self,
        packed: &Packed<'_>,
        from: &mut dyn Read,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let allowance = Rc::clone(&self.allowance);
        let mut source = Counted::new(from, packed, &allowance, observer);
        let mut inside = Inside {
            from: MultiGzDecoder::new(&mut source),
            digester: packed.content.map(|digest| Digester::new(digest.algorithm())),
            allowance: &allowance,
            is_over: false,
        };
        let result = self.members(&mut inside, packed);
        let (is_over, found) = (inside.is_over, inside.digester.map(Digester::finish));
        let is_stopped = source.is_stopped;
        if is_stopped {
            return Err(Stop::Stopped);
        }
        if is_over {
            return Err(Stop::Refused(too_large(packed)));
        }
        // Damage of the packed bytes explains whatever came out of them.
        source.check(packed)?;
        result?;
        match (packed.content, found) {
            (Some(expected), Some(found)) if expected != found => Err(Stop::Refused(
                Failure::new(
                    Exit::Integrity,
                    format!(
                        "the unpacked directory has another digest than announced, name={}, expected={expected}, found={found}",
                        packed.name.shown()
                    ),
                )
                .with_hint("nothing of it was written; the artifact contradicts itself"),
            )),
            _ => Ok(()),
        }
    }

    fn members(&mut self, inside: &mut Inside<'_, impl Read>, packed: &Packed<'_>) -> Result<(), Stop> {
        let mut reader = Reader::new(&mut *inside);
        let mut buffer = vec![0; 256 * 1024];
        while let Some(member) = reader.next()? {
            // Many entries can come out of the few bytes between two looks of the observer.
            if interrupt::is_caught() {
                return Err(Stop::Stopped);
            }
            self.charge(member.path.len(), packed)?;
            let names = self.names(&member, packed)?;
            match member.kind {
                Kind::Directory => self.directory(&names, &member, packed)?,
                Kind::File => self.file(&names, &member, &mut reader, &mut buffer, packed)?,
                Kind::Symlink => self.symlink(&names, &member, packed)?,
                Kind::HardLink => self.hard_link(&names, &member, packed)?,
                Kind::Other => self.left_out += 1,
            }
        }
        // What is behind the end counts for the digest.
        let rest = reader.into_inner();
        io::copy(rest, &mut io::sink())?;
        Ok(())
    }

    /// Counts an entry, or a directory that one needs.
    fn charge(&self, length: usize, packed: &Packed<'_>) -> Result<(), Stop> {
        self.allowance.entry(length).map_err(|over| {
            Stop::Refused(match over {
                Over::Bytes => too_large(packed),
                Over::Entries => too_many(packed),
            })
        })
    }

    /// The names of an entry below the directory.
    fn names(&self, member: &Member, packed: &Packed<'_>) -> Result<Vec<Vec<u8>>, Stop> {
        below(&member.path, packed.name)
            .and_then(|names| {
                let is_root = names.is_empty() && !matches!(member.kind, Kind::Directory | Kind::Other);
                if is_root { Err("stands in place of its directory") } else { Ok(names) }
            })
            .map_err(|what| refused(packed, &member.path, what))
    }

    /// Opens the directory of an entry, and makes it if it is not there.
    fn parent_of(&self, names: &[Vec<u8>], packed: &Packed<'_>, whole: &[u8]) -> Result<OwnedFd, Stop> {
        let mut directory = self.root.try_clone()?;
        let above = names.split_last().map_or(&[][..], |(_, above)| above);
        for name in above {
            let made = || self.charge(name.len(), packed);
            directory = match descend(&directory, name, made)? {
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(refused(packed, whole, "leads through something that is no directory"));
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    fn directory(&mut self, names: &[Vec<u8>], member: &Member, packed: &Packed<'_>) -> Result<(), Stop> {
        let directory = self.parent_of(names, packed, &member.path)?;
        if let Some(name) = names.last() {
            // It has been counted as an entry.
            descend(&directory, name, || Ok(()))??;
        }
        self.directories.insert(joined(names), (member.mode & 0o777, member.modified));
        Ok(())
    }

    fn file(
        &self,
        names: &[Vec<u8>],
        member: &Member,
        from: &mut impl Read,
        buffer: &mut [u8],
        packed: &Packed<'_>,
    ) -> Result<(), Stop> {
        let directory = self.parent_of(names, packed, &member.path)?;
        let name = OsStr::from_bytes(names.last().map_or(&[][..], Vec::as_slice));
        make_room(&directory, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(member.mode & 0o777))?;
        let mut file = File::from(file);
        let mut left = member.size;
        while left > 0 {
            let read = from.read(buffer)?;
            file.write_all(buffer.get(..read).unwrap_or_default())?;
            left = left.saturating_sub(read as u64);
        }
        rustix::fs::futimens(&file, &times(member.modified))?;
        Ok(())
    }

    fn symlink(&self, names: &[Vec<u8>], member: &Member, packed: &Packed<'_>) -> Result<(), Stop> {
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(refused(packed, &member.path, "is a link to nothing"));
        }
        if leads_out(&member.link, names.len() - 1) {
            return Err(refused(packed, &member.path, "is a link that leads out of its directory"));
        }
        // The name could be that of another link, in this archive or in one that is unpacked into the same place. Without
        // this, a link goes up from where it really is, and then only down: whatever others there are, it stays inside.
        if goes_up_again(&member.link) {
            return Err(refused(packed, &member.path, "is a link that goes up again behind a name"));
        }
        let directory = self.parent_of(names, packed, &member.path)?;
        let name = OsStr::from_bytes(names.last().map_or(&[][..], Vec::as_slice));
        make_room(&directory, name)?;
        rustix::fs::symlinkat(OsStr::from_bytes(&member.link), &directory, name)?;
        rustix::fs::utimensat(&directory, name, &times(member.modified), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Links are named from the beginning of the archive, or, as oras reads them, from where they are.
    fn hard_link(&self, names: &[Vec<u8>], member: &Member, packed: &Packed<'_>) -> Result<(), Stop> {
        let target = below(&member.link, packed.name).or_else(|_| {
            let above = names.split_last().map_or(&[][..], |(_, above)| above);
            beside(above, &member.link)
        });
        let target = target
            .map_err(|_| refused(packed, &member.path, "is a hard link that leads out of its directory"))?;
        let from = self.parent_of(&target, packed, &member.link)?;
        let found = target.last().map(|name| OsStr::from_bytes(name));
        let is_file = found.is_some_and(|name| {
            rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
        });
        let Some(found) = found.filter(|_| is_file) else {
            return Err(refused(packed, &member.path, "is a hard link to no file of its directory"));
        };
        let directory = self.parent_of(names, packed, &member.path)?;
        let name = OsStr::from_bytes(names.last().map_or(&[][..], Vec::as_slice));
        if target.as_slice() != names {
            make_room(&directory, name)?;
            rustix::fs::linkat(&from, found, &directory, name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Gives the directories their modes and times, the deepest first. Their owner keeps all rights: as long as they are
    /// not in their place, they may have to be taken apart.
    fn settle(&self) -> Result<(), Stop> {
        // The umask has had its say when they were made, so rights are only taken off.
        let settled = |found: u32, mode: u32| found & (mode | 0o7000) | 0o700;
        for (path, (mode, modified)) in self.directories.iter().rev() {
            if interrupt::is_caught() {
                return Err(Stop::Stopped);
            }
            if path.as_os_str().is_empty() {
                merge::change_mode(&self.root, |_| settled(self.mode, *mode))?;
                rustix::fs::futimens(&self.root, &times(*modified))?;
                continue;
            }
            // In one step: nobody else gets in here, and no directory here is ever replaced by a link.
            let directory = rustix::fs::openat(&self.root, path, DIRECTORY, Mode::empty())?;
            merge::change_mode(&directory, |found| settled(found, *mode))?;
            rustix::fs::futimens(&directory, &times(*modified))?;
        }
        if !self.directories.contains_key(Path::new("")) {
            merge::change_mode(&self.root, |_| settled(self.mode, 0o777))?;
        }
        Ok(())
    }

    /// Moves everything to its place.
    fn publish(mut self, name: &Relative, replace: bool, folder: &Folder) -> Result<(), Failure> {
        let modes: Modes = self
            .directories
            .iter()
            .filter(|(_, (mode, _))| mode & 0o700 != 0o700)
            .map(|(path, (mode, _))| (path.clone(), *mode))
            .collect();
        let into = |name| merge::merge(&self.root, self.parent, name, &self.place, replace, folder, &modes);
        if name.is_here() {
            return into(".");
        }
        match rename_new(self.parent, self.temporary.as_ref(), self.parent, name.name().as_ref()) {
            Ok(()) => {
                self.temporary.clear();
                merge::narrow(&self.root, Path::new(""), &self.place, &modes)
            }
            Err(Errno::EXIST) => into(name.name()),
            Err(errno) => Err(Failure::io("put the directory into its place", &self.place, &errno.into())),
        }
    }

    fn broken(&self, packed: &Packed<'_>, error: io::Error) -> Failure {
        let is_archive = matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
        );
        if !is_archive {
            return Failure::io("unpack the directory", &self.place, &error);
        }
        let (name, digest) = (packed.name.shown(), packed.digest);
        Failure::new(
            Exit::Integrity,
            format!("a packed directory cannot be unpacked, name={name}, digest={digest}: {error}"),
        )
        .with_hint("nothing of it was written; `orlop blob fetch` gives the packed file as it is")
    }
}

impl Drop for Stage<'_> {
    #[expect(clippy::disallowed_methods, reason = "the directory of the user, no part of a store")]
    fn drop(&mut self) {
        if self.temporary.is_empty() {
            return;
        }
        // Through the handle, so that nobody can put another directory in its way. What is left is under a name that
        // tells where it comes from.
        let through = PathBuf::from(format!("/proc/self/fd/{}", self.parent.as_fd().as_raw_fd()));
        let path = if through.is_dir() {
            through.join(&self.temporary)
        } else {
            self.place.with_file_name(&self.temporary)
        };
        let _ = fs::remove_dir_all(&path);
    }
}

/// Opens a directory in another one, without following a link, and makes it if it is not there; `made` may refuse that.
fn descend(
    directory: &OwnedFd,
    name: &[u8],
    made: impl FnOnce() -> Result<(), Stop>,
) -> Result<Result<OwnedFd, Errno>, Stop> {
    let name = OsStr::from_bytes(name);
    let open = || rustix::fs::openat(directory, name, DIRECTORY, Mode::empty());
    Ok(match open() {
        Err(Errno::NOENT) => {
            made()?;
            rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o777)).and_then(|()| open())
        }
        other => other,
    })
}

fn joined(names: &[Vec<u8>]) -> PathBuf {
    names.iter().map(|name| OsStr::from_bytes(name)).collect()
}

/// Removes an earlier entry of the same name; a directory stays and is an error.
fn make_room(directory: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn times(modified: i64) -> Timestamps {
    let time = Timespec { tv_sec: modified, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn refused(packed: &Packed<'_>, entry: &[u8], what: &str) -> Stop {
    let (name, digest) = (packed.name.shown(), packed.digest);
    let entry = String::from_utf8_lossy(entry);
    Stop::Refused(
        Failure::new(
            Exit::Policy,
            format!("entry of a packed directory {what}, entry={entry}, name={name}, digest={digest}"),
        )
        .with_hint("nothing of it was written; `orlop blob fetch` gives the packed file as it is"),
    )
}

fn too_large(packed: &Packed<'_>) -> Failure {
    let (name, digest, limit) = (packed.name.shown(), packed.digest, packed.limit.bytes);
    Failure::new(
        Exit::Policy,
        format!(
            "packed directory is larger than allowed, name={name}, digest={digest}, unpack_limit={limit}"
        ),
    )
    .with_hint("nothing of it was written; if you trust where it comes from, allow more with --unpack-limit")
}

fn too_many(packed: &Packed<'_>) -> Failure {
    let (name, digest) = (packed.name.shown(), packed.digest);
    Failure::new(
        Exit::Policy,
        format!(
            "packed directory has more entries than allowed, name={name}, digest={digest}, max_entries={MAX_ENTRIES}"
        ),
    )
    .with_hint("nothing of it was written; `orlop blob fetch` gives the packed file as it is")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::io::Write as _;

    use super::*;

    fn stage_with(entries: u64, test: impl FnOnce(&mut Stage<'_>, &Packed<'_>)) {
        let place = tempfile::tempdir().unwrap();
        let parent = rustix::fs::open(place.path(), DIRECTORY, Mode::empty()).unwrap();
        let allowance = Allowance::new(1_000_000, entries);
        let mut stage = Stage::create(&parent, place.path().join("d"), allowance).unwrap();
        let (name, digest) = (Relative::parse("d").unwrap(), Digest::of(b""));
        let limit = Limit { bytes: 1_000_000, factor: 0 };
        test(&mut stage, &Packed { name: &name, digest: &digest, size: 0, content: None, limit });
    }

    fn directory(path: &str, mode: u32) -> Member {
        let (path, link) = (path.as_bytes().to_vec(), Vec::new());
        Member { kind: Kind::Directory, path, link, mode, modified: 1, size: 0 }
    }

    #[test]
    fn a_directory_is_kept_once_however_often_it_is_named() {
        stage_with(10, |stage, packed| {
            let names = [b"a".to_vec()];
            for mode in [0o700, 0o711, 0o500] {
                stage.directory(&names, &directory("d/a", mode), packed).unwrap();
            }
            assert_eq!(stage.directories.len(), 1);
            let mode =
                |stage: &Stage<'_>| rustix::fs::statat(&stage.root, "a", AtFlags::empty()).unwrap().st_mode;
            stage.settle().unwrap();
            assert_eq!(mode(stage) & 0o777, 0o700, "the last one, but for what its owner needs to move it");
        });
    }

    /// A descriptor may announce any size, and little may come.
    #[test]
    fn what_comes_out_is_bounded_by_what_came() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2_000_000);
        header.set_mode(0o644);
        builder.append_data(&mut header, "d/zeros", &vec![0; 2_000_000][..]).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&builder.into_inner().unwrap()).unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 5_000, "{}", packed.len());
        let digest = Digest::of(&packed);
        for (factor, is_refused) in [(100, true), (2_000, false)] {
            stage_with(10, |stage, lent| {
                stage.allowance = Rc::new(Allowance::new(1_000, 10));
                let limit = Limit { bytes: 1_000, factor };
                let size = if is_refused { 1 << 50 } else { packed.len() as u64 };
                let described = Packed { name: lent.name, digest: &digest, size, content: None, limit };
                match stage.fill(&described, &mut &packed[..], &mut |_| ControlFlow::Continue(())) {
                    Err(Stop::Refused(failure)) if is_refused => assert_eq!(failure.exit(), Exit::Policy),
                    result => assert!(result.is_ok() && !is_refused, "{result:?}"),
                }
            });
        }
    }

    #[test]
    fn entries_are_counted_and_the_directories_they_need() {
        stage_with(3, |stage, packed| {
            stage.charge(1, packed).unwrap();
            let names = ["a", "b", "c", "d"].map(|name| name.as_bytes().to_vec());
            let Err(Stop::Refused(failure)) = stage.directory(&names, &directory("d/a/b/c/d", 0o755), packed)
            else {
                panic!("three more are one too many")
            };
            assert!(failure.chain().contains("max_entries=1000000"), "{}", failure.chain());
            assert_eq!(failure.exit(), Exit::Policy);
        });
    }
}
