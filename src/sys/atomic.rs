//! Replacing small files in one step.

use std::io;

use super::dir::Dir;
use super::temp::TempFile;

/// Puts `bytes` under `name` in `dir`, durably: the old content or the new one, whole, whenever the power fails.
///
/// `staging` is on the same filesystem. After an error before the rename the old content stands; after a failed
/// sync of the directory either may be found after a crash.
pub(crate) fn replace(dir: &Dir, staging: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut temp = TempFile::create_writable(staging)?;
    temp.write_all(bytes)?;
    temp.sync()?;
    temp.name_as(dir, name, true)?;
    dir.sync()
}
