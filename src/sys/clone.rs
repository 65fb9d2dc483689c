//! Private copies of files that others may change.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::dir::Stat;

/// How a copy came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// Blocks are shared with the source until one of them changes.
    Cloned,
    /// Bytes were copied.
    Copied,
}

/// So much at a time, so that whoever watches is told often enough.
const PIECE: usize = 16 << 20;

/// Makes the empty file `to` a copy of `from`; answers the number of bytes. None, and nothing done, where the system can
/// neither clone nor copy between these two, as between two filesystems.
///
/// What is copied while somebody writes into `from` may be a mixture of old and new: the caller hashes the copy.
/// Stops with `FileTooLarge` beyond `limit` bytes, so that a source that grows for ever does not fill the disk, and with
/// `Interrupted` when `observer`, which is told how many bytes were copied, says so.
pub(crate) fn clone_or_copy(
    from: &File,
    to: &File,
    limit: u64,
    observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Option<(u64, How)>> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        let size = Stat::of(to)?.size;
        return if size > limit { Err(too_large()) } else { Ok(Some((size, How::Cloned))) };
    }
    let size = copy_in_kernel(from, to, limit, observer)?;
    if size == 0 {
        return Ok(None);
    }
    // Some filesystems end early; reading goes on where the kernel stopped and finds the true end.
    let size = copy_by_hand(from, to, size, limit, observer)?;
    Ok(Some((size, How::Copied)))
}

/// Whether a file may be shared by a further name: it is ours, and nobody is meant to write it. Its content is hashed all
/// the same.
pub(crate) fn may_be_shared(file: &File) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    Ok(stat.st_mode & 0o222 == 0 && stat.st_uid == rustix::process::geteuid().as_raw())
}

fn copy_in_kernel(
    from: &File,
    to: &File,
    limit: u64,
    observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<u64> {
    let mut done = 0;
    loop {
        let (mut source, mut target) = (done, done);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), PIECE) {
            Ok(0) => return Ok(done),
            Ok(copied) => done += copied as u64,
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC) => return Err(Errno::NOSPC.into()),
            Err(Errno::DQUOT) => return Err(Errno::DQUOT.into()),
            Err(Errno::IO) => return Err(Errno::IO.into()),
            // Not between these two files: not an error of the copy.
            Err(_) => return Ok(done),
        }
        check(done, limit, observer)?;
    }
}

fn copy_by_hand(
    from: &File,
    to: &File,
    mut done: u64,
    limit: u64,
    observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<u64> {
    // Mostly it only has to find the end; a page is little to set aside for that.
    let mut buffer = vec![0; 4096];
    loop {
        match from.read_at(&mut buffer, done) {
            Ok(0) => return Ok(done),
            Ok(read) => {
                to.write_all_at(buffer.get(..read).unwrap_or_default(), done)?;
                done += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        check(done, limit, observer)?;
    }
}

fn check(done: u64, limit: u64, observer: &mut dyn FnMut(u64) -> ControlFlow<()>) -> io::Result<()> {
    if done > limit {
        return Err(too_large());
    }
    match observer(done) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn too_large() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}
