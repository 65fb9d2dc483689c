//! Small files of the user beside any store: settings, credentials and certificates.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::dir::open_source;
use super::random::random;

/// Reads a file of at most `limit` bytes; None where there is none.
pub(crate) fn read_small(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_source(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// The names in a directory, sorted, at most `limit`; none where there is no directory.
#[expect(clippy::disallowed_methods, reason = "a directory of the user, no part of a store")]
pub(crate) fn names_in(path: &Path, limit: usize) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names =
        entries.take(limit).map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    names.sort();
    Ok(names)
}

/// Puts `bytes` under `path`, readable by its owner alone: the old content or the new one, whole, at any moment. Directories
/// that are missing are made, for the owner alone; a symbolic link stays and what it names is replaced.
#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let name: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let temporary = parent.join(format!(".tmp-{name}"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&temporary, flags, Mode::from_raw_mode(0o600))?);
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| {
            Ok(rustix::fs::fsync(rustix::fs::open(
                parent,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)?)
        });
    if written.is_err() {
        // Gone already if only the last step failed.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "tests make files")]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn replaced_for_the_owner_alone_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("a/b/real"), dir.path().join("link"));
        replace_private(&real, b"1").unwrap();
        assert_eq!(fs::metadata(real.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&real, &link).unwrap();
        replace_private(&link, b"2").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_small(&link, 1).unwrap().unwrap(), b"2");
        assert_eq!(names_in(real.parent().unwrap(), 9).unwrap(), std::slice::from_ref(&real));
        assert_eq!(read_small(&real, 0).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_small(&dir.path().join("none"), 9).unwrap().is_none());
        assert!(names_in(&dir.path().join("none"), 9).unwrap().is_empty());
        // A directory where the file belongs: nothing is left behind.
        assert!(replace_private(&dir.path().join("a"), b"3").is_err());
        assert_eq!(names_in(dir.path(), 9).unwrap().len(), 2);
    }
}
