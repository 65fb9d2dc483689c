//! Files that are written beside the report: whole under their name, or not at all.

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Failure;

/// A file in the making. Dropped, nothing of it is left.
pub(super) struct OutFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl OutFile {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let made = tempfile::Builder::new()
            .prefix(".orlop-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent)
            .map_err(|error| Failure::io("create the file", path, &error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(made) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| Failure::io("write the file", &self.path, &error))
    }

    /// Gives it its name, over what has it.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let failed = |error: &std::io::Error| Failure::io("write the file", &self.path, error);
        let file = self.file.into_inner().map_err(|error| failed(error.error()))?;
        file.persist(&self.path).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

/// Writes a whole file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = OutFile::create(path)?;
    file.write(bytes)?;
    file.finish()
}

/// A row of CSV (RFC 4180, with the ends of lines of Unix).
pub(super) fn row<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) -> String {
    let mut line = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        let cell = cell.as_ref();
        if at > 0 {
            line.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            line.push('"');
            line.push_str(&cell.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(cell);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(row(["a", "b c", ""]), "a,b c,\n");
        assert_eq!(row(["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\n");
    }
}
