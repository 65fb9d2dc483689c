//! Whole directories: further names for the files of one in another, and removal with everything in them.

use std::ffi::{OsStr, OsString};
use std::io;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::dir::{Dir, Stat};
use super::fault::{self, Call};

/// What came of giving a file a further name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Linked {
    /// It has it.
    Done,
    /// There is no such file.
    Absent,
    /// The name is taken.
    Taken,
    /// Between these two there are no links: another filesystem, or one without.
    Elsewhere,
    /// This file cannot have one more: it has too many, or is somebody else's, or no file.
    Refused,
}

/// Gives what is called `name` in `from` the same name in `to`, where nothing may have it. Links are not followed. Not
/// durable before `to` is synced.
pub(crate) fn link(from: &Dir, name: impl AsRef<OsStr>, to: &Dir) -> io::Result<Linked> {
    let name = name.as_ref();
    let made = fault::point_at(Call::Link, to.path(), name)
        .and_then(|()| Ok(rustix::fs::linkat(from.file(), name, to.file(), name, AtFlags::empty())?));
    let Err(error) = made else { return Ok(Linked::Done) };
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Ok(Linked::Absent),
        Some(Errno::EXIST) => Ok(Linked::Taken),
        Some(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Linked::Elsewhere),
        Some(Errno::MLINK | Errno::PERM) => Ok(Linked::Refused),
        _ => Err(error),
    }
}

/// Removes the directory `name` with everything in it; false when there is none. Links in it are removed, not followed.
pub(crate) fn remove_tree(parent: &Dir, name: impl AsRef<OsStr>) -> io::Result<bool> {
    let name = name.as_ref();
    let Some(dir) = parent.open_dir(name)? else { return Ok(false) };
    clear(&dir)?;
    parent.remove_dir(name)?;
    Ok(true)
}

/// Removes everything in a directory.
pub(crate) fn clear(dir: &Dir) -> io::Result<()> {
    // Read before anything is removed: what a listing shows of a directory that changes is not defined.
    let names: Vec<OsString> = dir.list()?.collect::<io::Result<_>>()?;
    for name in names {
        match dir.stat(&name)? {
            Some(stat) if stat.is_dir => drop(remove_tree(dir, &name)?),
            _ => drop(dir.unlink(&name)?),
        }
    }
    Ok(())
}

/// Lets the same people into `to` as into `from`, as far as the mode says.
pub(crate) fn copy_mode(from: &Dir, to: &Dir) -> io::Result<()> {
    let mode = rustix::fs::fstat(from.file())?.st_mode & 0o7777;
    Ok(rustix::fs::fchmod(to.file(), Mode::from_raw_mode(mode))?)
}

/// Whether `dir` is `ancestor` or below it, whatever the paths say.
pub(crate) fn is_within(dir: &Dir, ancestor: &Dir) -> io::Result<bool> {
    let identity = |dir: &Dir| Stat::of(dir.file()).map(|stat| (stat.dev, stat.ino));
    let wanted = identity(ancestor)?;
    let mut dir = dir.clone();
    loop {
        let here = identity(&dir)?;
        if here == wanted {
            return Ok(true);
        }
        let Some(parent) = dir.open_dir("..")? else { return Ok(false) };
        if identity(&parent)? == here {
            return Ok(false);
        }
        dir = parent;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may panic and make files")]

    use std::fs;

    use super::*;
    use crate::sys::fault::{Fault, arm};

    #[test]
    fn files_get_further_names_and_everything_else_is_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            fs::create_dir(root.path().join(name)).unwrap();
            Dir::open(&root.path().join(name)).unwrap()
        };
        let (from, to) = (dir("from"), dir("to"));
        fs::write(root.path().join("from/a"), "content").unwrap();
        fs::create_dir(root.path().join("from/d")).unwrap();
        assert_eq!(link(&from, "a", &to).unwrap(), Linked::Done);
        assert_eq!(from.stat("a").unwrap(), to.stat("a").unwrap());
        assert_eq!(link(&from, "a", &to).unwrap(), Linked::Taken);
        assert_eq!(link(&from, "none", &to).unwrap(), Linked::Absent);
        assert_eq!(link(&from, "d", &to).unwrap(), Linked::Refused);
        for (errno, told) in [(Errno::XDEV, Linked::Elsewhere), (Errno::MLINK, Linked::Refused)] {
            let armed = arm(Fault::new(Call::Link, root.path(), errno));
            assert_eq!(link(&from, "b", &to).unwrap(), told);
            drop(armed);
        }
        let armed = arm(Fault::new(Call::Link, root.path(), Errno::NOSPC));
        assert_eq!(link(&from, "a", &to).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(armed);
    }

    #[test]
    fn a_tree_goes_and_what_its_links_name_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("gone/a/b")).unwrap();
        fs::create_dir(root.path().join("kept")).unwrap();
        fs::write(root.path().join("kept/file"), "x").unwrap();
        fs::write(root.path().join("gone/a/file"), "x").unwrap();
        std::os::unix::fs::symlink(root.path().join("kept"), root.path().join("gone/a/link")).unwrap();
        let dir = Dir::open(root.path()).unwrap();
        assert!(remove_tree(&dir, "gone").unwrap());
        assert!(!remove_tree(&dir, "gone").unwrap());
        assert_eq!(fs::read_to_string(root.path().join("kept/file")).unwrap(), "x");
        std::os::unix::fs::symlink(root.path().join("kept"), root.path().join("link")).unwrap();
        assert!(remove_tree(&dir, "link").is_err(), "a link is no tree of ours");
        assert!(root.path().join("kept/file").exists());
    }

    #[test]
    fn a_directory_is_found_above_its_own_whatever_the_path() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        fs::create_dir(root.path().join("x")).unwrap();
        std::os::unix::fs::symlink(root.path().join("a/b"), root.path().join("x/link")).unwrap();
        let open = |name: &str| Dir::open_following(&root.path().join(name)).unwrap();
        assert!(is_within(&open("a"), &open("a")).unwrap());
        assert!(is_within(&open("a/b/c"), &open("a")).unwrap());
        assert!(is_within(&open("x/link"), &open("a")).unwrap());
        assert!(!is_within(&open("x"), &open("a")).unwrap());
        assert!(!is_within(&open("a"), &open("a/b")).unwrap());
    }
}
