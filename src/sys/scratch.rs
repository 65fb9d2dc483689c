//! Directories that go away with their handle.

use std::io;
use std::path::Path;

use super::fault::{self, Call};

/// A directory of this process in the system's place for temporary files.
#[derive(Debug)]
pub(crate) struct ScratchDir(tempfile::TempDir);

impl ScratchDir {
    pub(crate) fn create() -> io::Result<Self> {
        fault::point(Call::CreateTemp, &std::env::temp_dir())?;
        tempfile::Builder::new().prefix("orlop-").tempdir().map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
