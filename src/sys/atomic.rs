//! Replacing small files in one step, writing over those that may be lost, and cutting off what does not count.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::dir::Dir;
use super::fault::{self, Call};
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

/// Writes `bytes` over the beginning of `name` in `dir`, made where it is missing. Nothing is synced, and after a crash any
/// part of it may be there: for what says itself whether it is whole, and is no loss.
pub(crate) fn overwrite(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = dir.open_or_create(name, 0o644)?;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        fault::point(Call::Write, dir.path())?;
        let part = rest.get(..fault::write_len(dir.path(), rest.len())).unwrap_or(rest);
        match file.write_at(part, at as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same for a file that is open, and for what nobody waits for: no fault point, since nothing changes when it fails.
pub(crate) fn write_over(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)
}

/// Cuts off everything of `name` in `dir` from `size` on, durably.
pub(crate) fn cut_off(dir: &Dir, name: &OsStr, size: u64) -> io::Result<()> {
    let file = dir.open_or_create(name, 0o644)?;
    fault::point_at(Call::Truncate, dir.path(), name)?;
    file.set_len(size)?;
    if fault::step(Call::SyncDocument, dir.path(), name)? {
        file.sync_all()?;
    }
    Ok(())
}

/// Makes durable what somebody else wrote into the open file `name` of `dir`.
pub(crate) fn sync_document(file: &File, dir: &Dir, name: &str) -> io::Result<()> {
    if fault::step(Call::SyncDocument, dir.path(), OsStr::new(name))? {
        rustix::fs::fdatasync(file)?;
    }
    Ok(())
}
