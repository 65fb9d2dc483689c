//! Positioned reads into memory that nobody zeroed first.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags};

use super::fault::{self, Call};

/// Appends what the file has at `offset`, up to the spare capacity of `content`; answers how many bytes. Nothing is read
/// at the end of the file. `path` is for fault points.
pub(crate) fn read_at(file: &File, content: &mut Vec<u8>, offset: u64, path: &Path) -> io::Result<usize> {
    fault::point(Call::Read, path)?;
    loop {
        match rustix::io::pread(file, spare_capacity(content), offset) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Fills `buffer` from what the file has at `offset`, or fails.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64, path: &Path) -> io::Result<()> {
    fault::point(Call::Read, path)?;
    file.read_exact_at(buffer, offset)
}

/// Reads some of what the file has at `offset`; nothing is read at its end.
pub(crate) fn read_some_at(file: &File, buffer: &mut [u8], offset: u64, path: &Path) -> io::Result<usize> {
    fault::point(Call::Read, path)?;
    file.read_at(buffer, offset)
}

/// Fills `buffer` from what the kernel has in memory of the file at `offset`; false when it has not all of it, or cannot tell.
/// Never waits for a disk, but the kernel may begin to read what is missing: ask for pages that are known to be there.
pub(crate) fn read_ready_at(file: &File, buffer: &mut [u8], offset: u64, path: &Path) -> io::Result<bool> {
    let mut at = 0;
    while let Some(rest) = buffer.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let read = match fault::point(Call::ReadReady, path) {
            Ok(()) => {
                let mut parts = [IoSliceMut::new(rest)];
                rustix::io::preadv2(file, &mut parts, offset + at as u64, ReadWriteFlags::NOWAIT)
            }
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        };
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read,
            Err(Errno::INTR) => {}
            // Not there, a filesystem that has no such reads, a kernel before 4.14.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}
