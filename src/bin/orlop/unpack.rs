//! Unpacks a directory that oras or orlop packed, whole or not at all, and never outside of where it belongs.
//!
//! The archive may come from anyone. So it is unpacked into a private directory beside the real one, name by name and
//! without following a link; how much comes out of it is bounded; and only what has been checked against its digests is
//! moved to its place. There, too, nothing is written through a link.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use orlop::Digest;
use orlop::digest::Digester;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::archive::{Kind, Member, Reader};
use crate::error::{Exit, Failure};
use crate::merge;
use crate::place::{DIRECTORY, Folder, Relative, temporary_name};
use crate::unpack_source::{Counted, Inside};

/// Deeper than that nothing is packed that is meant well.
const MAX_DEPTH: usize = 256;

/// A packed directory and what is known of it.
pub(crate) struct Packed<'a> {
    pub(crate) name: &'a Relative,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    /// The digest of the archive inside the compression, if somebody wrote it down.
    pub(crate) content: Option<Digest>,
    /// So many bytes may come out of it.
    pub(crate) limit: u64,
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
        let mut stage = Stage::create(&parent, self.absolute(packed.name)).map_err(failed)?;
        let result = stage.fill(packed, from, observer).and_then(|()| stage.settle(packed));
        match result {
            Ok(()) => {}
            Err(Stop::Refused(failure)) => return Err(failure),
            Err(Stop::Stopped) => return Err(crate::interrupt::failure(INTERRUPTED)),
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
    /// Where it is going to be, for messages.
    place: PathBuf,
    /// Directories and what they are to be like; set when everything is in them.
    directories: Vec<(Vec<Vec<u8>>, u32, i64)>,
    /// Symbolic links and their texts.
    links: Vec<(Vec<Vec<u8>>, Vec<u8>)>,
    left_out: usize,
}

impl<'a> Stage<'a> {
    fn create(parent: &'a OwnedFd, place: PathBuf) -> io::Result<Self> {
        let temporary = temporary_name();
        rustix::fs::mkdirat(parent, temporary.as_str(), Mode::from_raw_mode(0o777))?;
        let root = rustix::fs::openat(parent, temporary.as_str(), DIRECTORY, Mode::empty())?;
        Ok(Self { parent, temporary, root, place, directories: Vec::new(), links: Vec::new(), left_out: 0 })
    }

    fn fill(
        &mut self,
        packed: &Packed<'_>,
        from: &mut dyn Read,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let mut source = Counted::new(from, packed.digest, packed.size, observer);
        let mut inside = Inside {
            from: MultiGzDecoder::new(&mut source),
            digester: packed.content.map(|digest| Digester::new(digest.algorithm())),
            left: packed.limit,
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

    fn members(&mut self, inside: &mut Inside<impl Read>, packed: &Packed<'_>) -> Result<(), Stop> {
        let mut reader = Reader::new(&mut *inside);
        let mut buffer = vec![0; 256 * 1024];
        while let Some(member) = reader.next()? {
            let names = self.names(&member, packed)?;
            match member.kind {
                Kind::Directory => self.directory(names, &member)?,
                Kind::File => self.file(&names, &member, &mut reader, &mut buffer, packed)?,
                Kind::Symlink => self.symlink(names, &member, packed)?,
                Kind::HardLink => self.hard_link(&names, &member, packed)?,
                Kind::Other => self.left_out += 1,
            }
        }
        // What is behind the end counts for the digest.
        let rest = reader.into_inner();
        io::copy(rest, &mut io::sink())?;
        Ok(())
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
            directory = match descend(&directory, name, Mode::from_raw_mode(0o777)) {
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(refused(packed, whole, "leads through something that is no directory"));
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    fn directory(&mut self, names: Vec<Vec<u8>>, member: &Member) -> Result<(), Stop> {
        let mut directory = self.root.try_clone()?;
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            // As long as it is filled, it must be possible to write into it.
            let mode = if is_last { member.mode & 0o777 | 0o700 } else { 0o777 };
            directory = descend(&directory, name, Mode::from_raw_mode(mode))?;
        }
        self.directories.push((names, member.mode & 0o777, member.modified));
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

    fn symlink(&mut self, names: Vec<Vec<u8>>, member: &Member, packed: &Packed<'_>) -> Result<(), Stop> {
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(refused(packed, &member.path, "is a link to nothing"));
        }
        if leads_out(&member.link, names.len() - 1) {
            return Err(refused(packed, &member.path, "is a link that leads out of its directory"));
        }
        let directory = self.parent_of(&names, packed, &member.path)?;
        let name = OsStr::from_bytes(names.last().map_or(&[][..], Vec::as_slice));
        make_room(&directory, name)?;
        rustix::fs::symlinkat(OsStr::from_bytes(&member.link), &directory, name)?;
        rustix::fs::utimensat(&directory, name, &times(member.modified), AtFlags::SYMLINK_NOFOLLOW)?;
        self.links.push((names, member.link.clone()));
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

    /// Gives the directories their modes and times, the deepest first, and looks where links lead through other links.
    fn settle(&mut self, packed: &Packed<'_>) -> Result<(), Stop> {
        for (names, link) in &self.links {
            let path: PathBuf = names.iter().map(|name| OsStr::from_bytes(name)).collect();
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            // Every single link has been looked at; this is about what several of them make together.
            let leaves = match rustix::fs::openat2(&self.root, &path, flags, Mode::empty(), resolve) {
                Err(Errno::XDEV) => true,
                // An old kernel: then no link may go up again behind a name, which could be that of a link.
                Err(Errno::NOSYS | Errno::PERM) => goes_up_again(link),
                _ => false,
            };
            if leaves {
                let what = "is a link that leads out of its directory through another one";
                return Err(refused(packed, path.as_os_str().as_bytes(), what));
            }
        }
        self.directories.sort_by_key(|(names, ..)| std::cmp::Reverse(names.len()));
        for (names, mode, modified) in &self.directories {
            let mut directory = self.root.try_clone()?;
            for name in names {
                directory =
                    rustix::fs::openat(&directory, OsStr::from_bytes(name), DIRECTORY, Mode::empty())?;
            }
            // The umask has had its say when it was made.
            let now = rustix::fs::fstat(&directory)?.st_mode & 0o777;
            if now & mode != now {
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(now & mode))?;
            }
            rustix::fs::futimens(&directory, &times(*modified))?;
        }
        Ok(())
    }

    /// Moves everything to its place.
    fn publish(mut self, name: &Relative, replace: bool, folder: &Folder) -> Result<(), Failure> {
        if name.is_here() {
            return merge::merge(&self.root, self.parent, ".", &self.place, replace, folder);
        }
        let name = name.name();
        let failed =
            |errno: Errno| Failure::io("put the directory into its place", &self.place, &errno.into());
        let moved = rustix::fs::renameat_with(
            self.parent,
            self.temporary.as_str(),
            self.parent,
            name,
            RenameFlags::NOREPLACE,
        );
        match moved {
            Ok(()) => {
                self.temporary.clear();
                Ok(())
            }
            Err(Errno::EXIST) => merge::merge(&self.root, self.parent, name, &self.place, replace, folder),
            // Not on this filesystem: a plain rename does not replace a directory that has something in it.
            Err(Errno::INVAL)
                if rustix::fs::statat(self.parent, name, AtFlags::SYMLINK_NOFOLLOW).is_err() =>
            {
                rustix::fs::renameat(self.parent, self.temporary.as_str(), self.parent, name)
                    .map_err(failed)?;
                self.temporary.clear();
                Ok(())
            }
            Err(Errno::INVAL) => merge::merge(&self.root, self.parent, name, &self.place, replace, folder),
            Err(errno) => Err(failed(errno)),
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
        if fs::remove_dir_all(&path).is_err() {
            for (names, ..) in &self.directories {
                let below: PathBuf = names.iter().map(|name| OsStr::from_bytes(name)).collect();
                let mode = Mode::from_raw_mode(0o700);
                let _ = rustix::fs::openat(&self.root, &below, DIRECTORY, Mode::empty())
                    .and_then(|directory| rustix::fs::fchmod(&directory, mode));
            }
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Opens a directory in another one, without following a link, and makes it if it is not there.
fn descend(directory: &OwnedFd, name: &[u8], mode: Mode) -> Result<OwnedFd, Errno> {
    let name = OsStr::from_bytes(name);
    match rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(directory, name, mode)?;
            rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())
        }
        other => other,
    }
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

/// The names of a path below the directory that the archive is of.
fn below(path: &[u8], directory: &Relative) -> Result<Vec<Vec<u8>>, &'static str> {
    if path.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if path.contains(&0) {
        return Err("has a NUL in its name");
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("leads out of its directory"),
            name => names.push(name.to_vec()),
        }
    }
    let prefix: Vec<&[u8]> = directory.names().map(str::as_bytes).collect();
    if names.len() > prefix.len() + MAX_DEPTH {
        return Err("is too deep");
    }
    let rest = names.split_off(prefix.len().min(names.len()));
    if names == prefix { Ok(rest) } else { Err("is not in its directory") }
}

/// The names of a path from a directory inside.
fn beside(above: &[Vec<u8>], path: &[u8]) -> Result<Vec<Vec<u8>>, ()> {
    if path.starts_with(b"/") || path.contains(&0) {
        return Err(());
    }
    let mut names = above.to_vec();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop().ok_or(())?),
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

/// Whether a symbolic link so many directories below the root leads out of it, by its text alone.
pub(crate) fn leads_out(link: &[u8], depth: usize) -> bool {
    if link.starts_with(b"/") {
        return true;
    }
    let mut depth = depth;
    for name in link.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

fn goes_up_again(link: &[u8]) -> bool {
    let names = link.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.skip_while(|name| *name == b"..").any(|name| name == b"..")
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
    let (name, digest, limit) = (packed.name.shown(), packed.digest, packed.limit);
    Failure::new(
        Exit::Policy,
        format!(
            "packed directory is larger than allowed, name={name}, digest={digest}, unpack_limit={limit}"
        ),
    )
    .with_hint("nothing of it was written; if you trust where it comes from, allow more with --unpack-limit")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn entries_stay_below_their_directory() {
        let directory = Relative::parse("a/b").unwrap();
        for (path, names) in [
            ("a/b", &[][..]),
            ("a/b/", &[]),
            ("./a//b/c", &["c"]),
            ("a/b/c/./d/", &["c", "d"]),
            ("a/b/...", &["..."]),
        ] {
            let found = below(path.as_bytes(), &directory).unwrap();
            assert_eq!(
                found,
                names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>(),
                "{path}"
            );
        }
        for path in ["", "a", "a/c", "ab", "/a/b/c", "a/b/../c", "..", "a/b/c\0d", "a/bc"] {
            assert!(below(path.as_bytes(), &directory).is_err(), "{path:?}");
        }
        let deep = format!("a/b/{}", "d/".repeat(300));
        assert_eq!(below(deep.as_bytes(), &directory), Err("is too deep"));
    }

    #[test]
    fn links_by_their_text() {
        for (link, depth, out) in [
            ("a", 0, false),
            ("./a/../b", 0, false),
            ("..", 0, true),
            ("..", 1, false),
            ("../..", 1, true),
            ("a/../..", 0, true),
            ("a/../../b", 1, false),
            ("/etc", 5, true),
            ("/", 5, true),
        ] {
            assert_eq!(leads_out(link.as_bytes(), depth), out, "{link} {depth}");
        }
    }
}
