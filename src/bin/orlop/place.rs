//! Puts files into a directory, whole or not at all, and never outside of it.
//!
//! What is written and under which name comes from a manifest that anyone may have made. So a name is taken apart here
//! and followed one directory at a time, without following symbolic links; a file gets its name only when all of it
//! has been written and checked. Links on the way to the directory itself are the user's own and are followed.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use orlop::Digest;
use orlop::digest::Digester;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::unpack::INTERRUPTED;

/// What a directory is opened with on the way down.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const COPY: usize = 256 * 1024;

/// A path that stays below the directory it is applied to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Relative {
    parents: Vec<String>,
    name: String,
}

impl Relative {
    /// Takes a name apart; says what is wrong with it otherwise, to be read behind its noun.
    pub(crate) fn parse(name: &str) -> Result<Self, &'static str> {
        if name.starts_with('/') {
            return Err("is an absolute path");
        }
        if name.contains('\0') {
            return Err("has a NUL in it");
        }
        if name.ends_with('/') {
            return Err("is that of a directory");
        }
        let mut parents: Vec<String> = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err("leads out of its directory"),
                part => parents.push(part.into()),
            }
        }
        match parents.pop() {
            Some(name) if name.len() <= 255 => Ok(Self { parents, name }),
            Some(_) => Err("is too long"),
            None => Err("is empty"),
        }
    }

    /// As [`Relative::parse`], of a directory: `.` is the one that it is applied to.
    pub(crate) fn parse_directory(name: &str) -> Result<Self, &'static str> {
        if !name.is_empty() && name.split('/').all(|part| part == ".") {
            return Ok(Self { parents: Vec::new(), name: String::new() });
        }
        Self::parse(name.trim_end_matches('/'))
    }

    /// Whether it is the directory itself.
    pub(crate) fn is_here(&self) -> bool {
        self.name.is_empty()
    }

    /// The directories above it, as paths of their own.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (1..=self.parents.len()).filter_map(|len| {
            let (name, parents) = self.parents.get(..len)?.split_last()?;
            Some(Self { parents: parents.to_vec(), name: name.clone() })
        })
    }

    /// The path as text.
    pub(crate) fn shown(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    /// Its last name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// All its names, outermost first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parents.iter().chain([&self.name]).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn path(&self) -> PathBuf {
        self.parents.iter().chain([&self.name]).collect()
    }
}

/// What is under a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Present {
    Nothing,
    /// A file with the content that is wanted.
    Same,
    /// Anything else that a file may replace.
    Other,
}

/// The directory that files are put into.
#[derive(Debug)]
pub(crate) struct Folder {
    root: OwnedFd,
    path: PathBuf,
    /// Whether files without a name can be made and named: an interrupted run then leaves nothing behind.
    unnamed: bool,
}

impl Folder {
    /// Opens the directory, and makes it if it is not there.
    #[expect(clippy::disallowed_methods, reason = "the directory of the user, no part of a store")]
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path).map_err(|error| Failure::io("create the directory", path, &error))?;
        let root =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Failure::io("open the directory", path, &error.into()))?;
        let path =
            std::path::absolute(path).map_err(|error| Failure::io("find the directory", path, &error))?;
        Ok(Self { root, path, unnamed: Path::new("/proc/self/fd").is_dir() })
    }

    /// The absolute path of a file in it.
    pub(crate) fn absolute(&self, file: &Relative) -> PathBuf {
        self.path.join(file.path())
    }

    /// Looks what is under a name. Content is compared by its digest.
    pub(crate) fn look(&self, file: &Relative, size: u64, digest: &Digest) -> Result<Present, Failure> {
        let Some(parent) = self.parent(file, false)? else { return Ok(Present::Nothing) };
        let failed = |errno: Errno| Failure::io("read the file", &self.absolute(file), &errno.into());
        let found = match rustix::fs::statat(&parent, &*file.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Present::Nothing),
            Err(errno) => return Err(failed(errno)),
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let path = self.absolute(file);
                return Err(Failure::new(
                    Exit::Other,
                    format!("a directory has the name of a file, path={}", path.display()),
                )
                .with_hint("remove it, or choose another place with --output"));
            }
            FileType::RegularFile if u64::try_from(found.st_size) == Ok(size) => {}
            _ => return Ok(Present::Other),
        }
        // Not blocking, in case something else has come there in the meantime.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::openat(&parent, &*file.name, flags, Mode::empty()) else {
            return Ok(Present::Other);
        };
        let mut digester = Digester::new(digest.algorithm());
        io::copy(&mut File::from(opened).take(size + 1), &mut digester)
            .map_err(|error| Failure::io("read the file", &self.absolute(file), &error))?;
        Ok(if digester.finish() == *digest { Present::Same } else { Present::Other })
    }

    /// Writes a file and then gives it its name, over what is there if that is allowed. The observer is told how many
    /// bytes are done, and says whether to go on.
    pub(crate) fn put(
        &self,
        file: &Relative,
        from: &mut dyn Read,
        size: u64,
        digest: &Digest,
        replace: bool,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io("write the file", &self.absolute(file), &error);
        let Some(parent) = self.parent(file, true)? else { return Err(failed(Errno::NOENT.into())) };
        let mut draft = Draft::create(&parent, self.unnamed).map_err(failed)?;
        copy_checked(from, &mut draft.file, size, digest, observer).map_err(|error| match error {
            Copy::Failed(error) => failed(error),
            Copy::Refused(failure) => failure,
        })?;
        match draft.name(&file.name, replace) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !replace => Err(self.exists(file)),
            result => result.map_err(failed),
        }
    }

    /// The refusal to replace a file.
    pub(crate) fn exists(&self, file: &Relative) -> Failure {
        self.exists_at(&self.absolute(file))
    }

    /// The same by its path.
    #[expect(clippy::unused_self, reason = "the path is one in this directory")]
    pub(crate) fn exists_at(&self, path: &Path) -> Failure {
        Failure::new(Exit::Other, format!("a file is there already, path={}", path.display()))
            .with_hint("leave out --keep-old-files to replace it, or choose another place with --output")
    }

    /// Opens the directory that a file belongs into. None: it is not there and was not to be made.
    pub(crate) fn parent(&self, file: &Relative, create: bool) -> Result<Option<OwnedFd>, Failure> {
        let mut path = self.path.clone();
        let failed = |path: &Path, errno: Errno| Failure::io("open the directory", path, &errno.into());
        let mut directory =
            self.root.try_clone().map_err(|error| Failure::io("open the directory", &path, &error))?;
        for name in &file.parents {
            path.push(name);
            let mut next = rustix::fs::openat(&directory, name.as_str(), DIRECTORY, Mode::empty());
            if next.as_ref().err() == Some(&Errno::NOENT) {
                if !create {
                    return Ok(None);
                }
                match rustix::fs::mkdirat(&directory, name.as_str(), Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(&path, errno)),
                }
                next = rustix::fs::openat(&directory, name.as_str(), DIRECTORY, Mode::empty());
            }
            directory = match next {
                Ok(next) => next,
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(blocked(&directory, name.as_ref(), &path)),
                Err(errno) => return Err(failed(&path, errno)),
            };
        }
        Ok(Some(directory))
    }
}

/// Why something that is no directory stands in the way.
pub(crate) fn blocked(directory: &OwnedFd, name: &OsStr, path: &Path) -> Failure {
    let path = path.display();
    let is_link = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
    if is_link {
        Failure::new(Exit::Policy, format!("a symbolic link stands where a directory belongs, path={path}"))
            .with_hint(
                "files are not written through links; remove it, or choose another place with --output",
            )
    } else {
        Failure::new(Exit::Other, format!("a file stands where a directory belongs, path={path}"))
            .with_hint("remove it, or choose another place with --output")
    }
}

/// A file that is being written.
struct Draft<'a> {
    parent: &'a OwnedFd,
    file: File,
    /// Its temporary name; none if it never had one, or has its final one.
    name: Option<String>,
}

impl<'a> Draft<'a> {
    fn create(parent: &'a OwnedFd, unnamed: bool) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(0o666);
        if unnamed {
            let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
            match rustix::fs::openat(parent, ".", flags, mode) {
                Ok(file) => return Ok(Self { parent, file: file.into(), name: None }),
                // Not on this filesystem, or not on this kernel.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let name = temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name.as_str(), flags, mode)?;
        Ok(Self { parent, file: file.into(), name: Some(name) })
    }

    /// Gives the file its name.
    fn name(mut self, name: &str, replace: bool) -> io::Result<()> {
        if self.name.is_none() {
            match self.link(name) {
                Err(Errno::EXIST) if replace => {}
                result => return Ok(result?),
            }
            // A link replaces nothing, a rename does.
            let temporary = temporary_name();
            self.link(&temporary)?;
            self.name = Some(temporary);
        }
        if let Some(temporary) = &self.name {
            if replace {
                rustix::fs::renameat(self.parent, temporary.as_str(), self.parent, name)?;
            } else {
                rename_new(self.parent, temporary.as_ref(), self.parent, name.as_ref())?;
            }
            self.name = None;
        }
        Ok(())
    }

    fn link(&self, name: &str) -> Result<(), Errno> {
        let file = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        rustix::fs::linkat(CWD, file, self.parent, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(self.parent, OsStr::new(name), AtFlags::empty());
        }
    }
}

/// Moves a file or a directory to where nothing is yet.
pub(crate) fn rename_new(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // Not on this filesystem, or not on this kernel.
        Err(Errno::INVAL | Errno::NOSYS) => rename_new_in_steps(from, name, to, new),
        result => result,
    }
}

fn rename_new_in_steps(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        match rustix::fs::linkat(from, name, to, new, AtFlags::empty()) {
            Ok(()) => return rustix::fs::unlinkat(from, name, AtFlags::empty()),
            // Where there are no hard links either, looking first is the best there is.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(errno),
        }
    }
    // A plain rename does not replace a directory that has something in it, so no content is lost between the two.
    match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn temporary_name() -> String {
    format!(".orlop-{:016x}", RandomState::new().hash_one(std::process::id()))
}

enum Copy {
    Failed(io::Error),
    Refused(Failure),
}

/// Copies content and checks it on the way.
fn copy_checked(
    from: &mut dyn Read,
    to: &mut File,
    size: u64,
    digest: &Digest,
    observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), Copy> {
    let mut digester = Digester::new(digest.algorithm());
    let mut buffer = vec![0; COPY];
    let mut found = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Copy::Failed(error)),
        };
        let part = buffer.get(..count).unwrap_or_default();
        found += part.len() as u64;
        if found > size {
            break;
        }
        digester.update(part);
        to.write_all(part).map_err(Copy::Failed)?;
        if observer(found).is_break() {
            return Err(Copy::Refused(interrupt::failure(INTERRUPTED)));
        }
    }
    let damaged = if found != size {
        let relation = if found < size { "shorter" } else { "longer" };
        format!("content is {relation} than its descriptor says, digest={digest}, expected={size}")
    } else {
        let actual = digester.finish();
        if actual == *digest {
            return Ok(());
        }
        format!("content is damaged, digest={digest}, found={actual}")
    };
    Err(Copy::Refused(
        Failure::new(Exit::Integrity, damaged)
            .with_hint("push the same content again to heal it, or take it from where the layout came from"),
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "tests look at the directory")]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn relative(name: &str) -> Relative {
        Relative::parse(name).unwrap()
    }

    #[test]
    fn names_stay_below() {
        for (name, path) in [
            ("a", "a"),
            ("./a//b", "a/b"),
            ("a/.b", "a/.b"),
            ("...", "..."),
            ("a b\n", "a b\n"),
            ("\\x", "\\x"),
        ] {
            assert_eq!(relative(name).path(), Path::new(path), "{name:?}");
        }
        for name in ["", ".", "/", "/a", "..", "../a", "a/..", "a/../b", "a/", "a\0b", &"x".repeat(256)] {
            assert!(Relative::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(relative("a/b/c").ancestors().collect::<Vec<_>>(), [relative("a"), relative("a/b")]);
    }

    /// Both ways of writing: with and without files that have no name.
    fn folders(test: impl Fn(&Folder, &Path)) {
        for unnamed in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let mut folder = Folder::open(&place.path().join("out")).unwrap();
            folder.unnamed &= unnamed;
            test(&folder, &place.path().join("out"));
        }
    }

    fn put(folder: &Folder, name: &str, content: &[u8], replace: bool) -> Result<(), Failure> {
        let go_on = &mut |_| ControlFlow::Continue(());
        folder.put(
            &relative(name),
            &mut &*content,
            content.len() as u64,
            &Digest::of(content),
            replace,
            go_on,
        )
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        folders(|folder, path| {
            put(folder, "a/b", b"one", true).unwrap();
            assert_eq!(fs::read(path.join("a/b")).unwrap(), b"one");
            put(folder, "a/b", b"two", true).unwrap();
            assert_eq!(fs::read(path.join("a/b")).unwrap(), b"two");
            let failure = put(folder, "a/b", b"three", false).unwrap_err();
            assert!(failure.chain().contains("a file is there already"), "{}", failure.chain());
            assert_eq!(fs::read(path.join("a/b")).unwrap(), b"two");

            let digest = Digest::of(b"good");
            for content in [&b"evil"[..], b"goo", b"goods"] {
                let go_on = &mut |_| ControlFlow::Continue(());
                let failure =
                    folder.put(&relative("a/c"), &mut &*content, 4, &digest, true, go_on).unwrap_err();
                assert_eq!(failure.exit(), Exit::Integrity);
                assert!(failure.chain().contains(&digest.to_string()), "{}", failure.chain());
            }
            assert_eq!(names(&path.join("a")), ["b"]);
        });
    }

    #[test]
    fn links_are_not_followed() {
        folders(|folder, path| {
            let outside = tempfile::tempdir().unwrap();
            fs::write(outside.path().join("kept"), b"kept").unwrap();
            symlink(outside.path(), path.join("link")).unwrap();
            let failure = put(folder, "link/new", b"x", true).unwrap_err();
            assert_eq!(failure.exit(), Exit::Policy);
            assert_eq!(names(outside.path()), ["kept"]);

            // A link in place of the file itself is replaced; what it points to stays.
            symlink(outside.path().join("kept"), path.join("file")).unwrap();
            put(folder, "file", b"x", true).unwrap();
            assert!(fs::symlink_metadata(path.join("file")).unwrap().is_file());
            assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept");

            let failure = put(folder, "file/below", b"x", true).unwrap_err();
            assert!(
                failure.chain().contains("a file stands where a directory belongs"),
                "{}",
                failure.chain()
            );
        });
    }

    #[test]
    fn looking() {
        folders(|folder, path| {
            let look = |name| folder.look(&relative(name), 3, &Digest::of(b"one"));
            assert_eq!(look("a/b").unwrap(), Present::Nothing);
            assert!(names(path).is_empty());
            for (content, present) in
                [(&b"one"[..], Present::Same), (b"two", Present::Other), (b"three", Present::Other)]
            {
                put(folder, "a/b", content, true).unwrap();
                assert_eq!(look("a/b").unwrap(), present);
            }
            symlink(path.join("a/b"), path.join("link")).unwrap();
            assert_eq!(look("link").unwrap(), Present::Other);
            assert!(look("a").unwrap_err().chain().contains("a directory has the name of a file"));
        });
    }

    /// As on a filesystem whose rename cannot be told to replace nothing.
    #[test]
    fn moving_in_steps_replaces_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("file"), b"file").unwrap();
        symlink("file", path("link")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("taken"), b"taken").unwrap();
        fs::create_dir(path("empty")).unwrap();
        let root = rustix::fs::open(place.path(), DIRECTORY, Mode::empty()).unwrap();
        let step = |name: &str, new: &str| rename_new_in_steps(&root, name.as_ref(), &root, new.as_ref());
        for name in ["file", "link", "directory"] {
            for taken in ["taken", "empty"] {
                assert_eq!(step(name, taken), Err(Errno::EXIST), "{name} {taken}");
            }
            step(name, &format!("new-{name}")).unwrap();
        }
        assert_eq!(names(place.path()), ["empty", "new-directory", "new-file", "new-link", "taken"]);
        assert_eq!(fs::read(path("taken")).unwrap(), b"taken");
        assert_eq!(fs::read_link(path("new-link")).unwrap(), Path::new("file"));
        assert_eq!(step("gone", "new"), Err(Errno::NOENT));
    }
}
