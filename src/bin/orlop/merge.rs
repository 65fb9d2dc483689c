//! Moves the content of a directory into another one, file by file.
//!
//! Everything that can be refused is refused before anything is moved. Directories that are there keep their modes;
//! nothing is written through a link.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Exit, Failure};
use crate::place::{DIRECTORY, Folder, blocked};

/// Moves what is in `from` into the directory `name` of `parent`, which is there. Without `replace`, a file that is there
/// with other content is refused.
pub(crate) fn merge(
    from: &OwnedFd,
    parent: &OwnedFd,
    name: &str,
    place: &Path,
    replace: bool,
    folder: &Folder,
) -> Result<(), Failure> {
    let to = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(to) => to,
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(blocked(parent, name.as_ref(), place)),
        Err(errno) => return Err(Failure::io("open the directory", place, &errno.into())),
    };
    check(from, &to, place, replace, folder)?;
    walk(from, &to, place)
}

fn failed(place: &Path, errno: Errno) -> Failure {
    Failure::io("put the directory into its place", place, &errno.into())
}

/// What a directory holds, by name.
fn entries(directory: &OwnedFd, place: &Path) -> Result<Vec<(OsString, FileType)>, Failure> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory).map_err(|errno| failed(place, errno))? {
        let entry = entry.map_err(|errno| failed(place, errno))?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            let kind = kind(directory, name).map_err(|errno| failed(place, errno))?;
            entries.push((name.to_owned(), kind.unwrap_or(FileType::Unknown)));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

/// What is under a name; None if nothing is.
fn kind(directory: &OwnedFd, name: &std::ffi::OsStr) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn open(directory: &OwnedFd, name: &std::ffi::OsStr, place: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()).map_err(|errno| failed(place, errno))
}

fn check(from: &OwnedFd, to: &OwnedFd, place: &Path, replace: bool, folder: &Folder) -> Result<(), Failure> {
    for (name, new) in entries(from, place)? {
        let path = place.join(&name);
        let Some(old) = kind(to, &name).map_err(|errno| failed(&path, errno))? else { continue };
        match (new, old) {
            (FileType::Directory, FileType::Directory) => {
                check(&open(from, &name, &path)?, &open(to, &name, &path)?, &path, replace, folder)?;
            }
            (FileType::Directory, _) => return Err(blocked(to, &name, &path)),
            (_, FileType::Directory) => return Err(occupied(&path)),
            _ if replace || is_same(from, to, &name, new, old) => {}
            _ => return Err(folder.exists_at(&path)),
        }
    }
    Ok(())
}

fn occupied(path: &Path) -> Failure {
    Failure::new(Exit::Other, format!("a directory has the name of a file, path={}", path.display()))
        .with_hint("remove it, or choose another place with --output")
}

/// Whether both are files of the same content, or links with the same text.
fn is_same(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::OsStr, new: FileType, old: FileType) -> bool {
    if new != old {
        return false;
    }
    if new == FileType::Symlink {
        let link = |directory| rustix::fs::readlinkat(directory, name, Vec::new());
        return matches!((link(from), link(to)), (Ok(one), Ok(other)) if one == other);
    }
    if new != FileType::RegularFile {
        return false;
    }
    let file = |directory: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from)
    };
    matches!((file(from), file(to)), (Ok(one), Ok(other)) if equal(&one, &other).unwrap_or(false))
}

fn equal(mut one: &File, mut other: &File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        Read::by_ref(&mut one).take(1 << 18).read_to_end(&mut left)?;
        Read::by_ref(&mut other).take(1 << 18).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

fn walk(from: &OwnedFd, to: &OwnedFd, place: &Path) -> Result<(), Failure> {
    for (name, new) in entries(from, place)? {
        let path: PathBuf = place.join(&name);
        let moved = rustix::fs::renameat_with(from, &name, to, &name, RenameFlags::NOREPLACE);
        match moved {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::INVAL) if new == FileType::Directory => {
                match rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(&path, errno)),
                }
                walk(&open(from, &name, &path)?, &open(to, &name, &path)?, &path)?;
            }
            Err(Errno::EXIST | Errno::INVAL) => {
                rustix::fs::renameat(from, &name, to, &name).map_err(|errno| failed(&path, errno))?;
            }
            Err(errno) => return Err(failed(&path, errno)),
        }
    }
    Ok(())
}
