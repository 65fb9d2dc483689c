//! Moves the content of a directory into another one, file by file.
//!
//! Everything that can be refused is refused before anything is moved. Directories that are there keep their modes;
//! nothing is written through a link.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Exit, Failure};
use crate::place::{DIRECTORY, Folder, blocked, rename_new};

/// Directories whose owner is to have less than all rights, by their paths, and the rights.
pub(crate) type Modes = BTreeMap<PathBuf, u32>;

/// Moves what is in `from` into the directory `name` of `parent`, which is there. Without `replace`, a file that is there
/// with other content is refused. The directories of `from` can be written into; what is moved gets its rights when it is
/// in its place.
pub(crate) fn merge(
    from: &OwnedFd,
    parent: &OwnedFd,
    name: &str,
    place: &Path,
    replace: bool,
    folder: &Folder,
    modes: &Modes,
) -> Result<(), Failure> {
    let to = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(to) => to,
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(blocked(parent, name.as_ref(), place)),
        Err(errno) => return Err(Failure::io("open the directory", place, &errno.into())),
    };
    check(from, &to, place, replace, folder)?;
    Walk { replace, folder, modes }.walk(from, &to, Path::new(""), place)
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

/// Takes the rights that the owner is not to have off a directory and those below it, the deepest first.
pub(crate) fn narrow(directory: &OwnedFd, below: &Path, place: &Path, modes: &Modes) -> Result<(), Failure> {
    // All that are below one stand behind it without a gap.
    if !modes.range(below.to_owned()..).next().is_some_and(|(path, _)| path.starts_with(below)) {
        return Ok(());
    }
    for (name, kind) in entries(directory, place)? {
        if kind == FileType::Directory {
            let path = place.join(&name);
            narrow(&open(directory, &name, &path)?, &below.join(&name), &path, modes)?;
        }
    }
    if let Some(mode) = modes.get(below) {
        change_mode(directory, |found| found & (mode | 0o7000)).map_err(|errno| failed(place, errno))?;
    }
    Ok(())
}

/// Gives a directory another mode, if it is another one: not every filesystem lets it be set.
pub(crate) fn change_mode(directory: &OwnedFd, change: impl FnOnce(u32) -> u32) -> Result<(), Errno> {
    let found = rustix::fs::fstat(directory)?.st_mode & 0o7777;
    let wanted = change(found);
    if wanted == found { Ok(()) } else { rustix::fs::fchmod(directory, Mode::from_raw_mode(wanted)) }
}

/// How everything is moved.
struct Walk<'a> {
    replace: bool,
    folder: &'a Folder,
    modes: &'a Modes,
}

impl Walk<'_> {
    /// `below` is the path in the directory that is moved.
    fn walk(&self, from: &OwnedFd, to: &OwnedFd, below: &Path, place: &Path) -> Result<(), Failure> {
        for (name, new) in entries(from, place)? {
            let (path, below) = (place.join(&name), below.join(&name));
            if new == FileType::Directory {
                // What is moved stays in hand, whatever comes to stand in its place.
                let directory = open(from, &name, &path)?;
                match rename_new(from, &name, to, &name) {
                    Ok(()) => narrow(&directory, &below, &path, self.modes)?,
                    Err(Errno::EXIST) => self.walk(&directory, &open(to, &name, &path)?, &below, &path)?,
                    Err(errno) => return Err(failed(&path, errno)),
                }
                continue;
            }
            match rename_new(from, &name, to, &name) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.file(from, to, &name, new, &path)?,
                Err(errno) => return Err(failed(&path, errno)),
            }
        }
        Ok(())
    }

    /// Puts a file where one is, which may have come there after everything was checked.
    fn file(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &std::ffi::OsStr,
        new: FileType,
        path: &Path,
    ) -> Result<(), Failure> {
        let old = kind(to, name).map_err(|errno| failed(path, errno))?;
        if old.is_some_and(|old| is_same(from, to, name, new, old)) {
            return Ok(());
        }
        if !self.replace {
            return Err(self.folder.exists_at(path));
        }
        rustix::fs::renameat(from, name, to, name).map_err(|errno| failed(path, errno))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "tests look at the directory")]

    use std::fs;

    use super::*;

    /// What is checked first may be there only afterwards.
    #[test]
    fn a_file_that_came_after_the_check_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for (name, content) in [("from/a", "one"), ("from/b", "same"), ("to/a", "two"), ("to/b", "same")] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), content).unwrap();
        }
        let directory = |name| rustix::fs::open(path(name), DIRECTORY, Mode::empty()).unwrap();
        let (from, to) = (directory("from"), directory("to"));
        let folder = Folder::open(&path("to")).unwrap();
        let modes = Modes::new();
        let walk = |replace| {
            Walk { replace, folder: &folder, modes: &modes }.walk(&from, &to, Path::new(""), &path("to"))
        };
        let failure = walk(false).unwrap_err();
        assert!(failure.chain().contains("a file is there already"), "{}", failure.chain());
        assert_eq!(fs::read(path("to/a")).unwrap(), b"two");
        walk(true).unwrap();
        assert_eq!(fs::read(path("to/a")).unwrap(), b"one");
        assert!(path("from/b").exists(), "the same is not moved");
        walk(false).unwrap();
    }
}
