//! Files that are there whole or not at all, and never in place of others.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Exit, Failure};

/// Where a result is written.
pub(crate) enum OutFile {
    Stdout(io::Stdout),
    File { temporary: NamedTempFile, path: PathBuf, replace: bool },
}

impl OutFile {
    /// Begins a file, or takes standard output for `-`.
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(Failure::usage("standard output is a terminal, output=-")
                    .with_hint("name a file, or pipe it into something"));
            }
            return Ok(Self::Stdout(stdout));
        }
        refuse_existing(path, replace)?;
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".orlop-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent)
            .map_err(|error| Failure::io("create a file in", parent, &error))?;
        Ok(Self::File { temporary, path: path.into(), replace })
    }

    /// Gives the file its name, once all of it is on the disk.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(|error| Failure::io("write the result", Path::new("stdout"), &error))
            }
            Self::File { temporary, path, replace } => {
                let fail = |error: &io::Error| Failure::io("write the file", &path, error);
                temporary.as_file().sync_all().map_err(|error| fail(&error))?;
                let named: io::Result<File> = if replace {
                    temporary.persist(&path).map_err(|error| error.error)
                } else {
                    temporary.persist_noclobber(&path).map_err(|error| error.error)
                };
                match named {
                    Ok(_) => Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
                    Err(error) => Err(fail(&error)),
                }
            }
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File { temporary, .. } => temporary.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File { temporary, .. } => temporary.flush(),
        }
    }
}

/// Refuses a name that is taken, before anything is written.
pub(crate) fn refuse_existing(path: &Path, replace: bool) -> Result<(), Failure> {
    if !replace && path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Other, format!("a file is there already, path={}", path.display()))
        .with_hint("choose another name, or replace it with --overwrite")
}
