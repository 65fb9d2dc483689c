//! Positioned reads into memory that nobody zeroed first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::buffer::spare_capacity;

use super::fault::{self, Call};

/// Appends what the file has at `offset`, up to the spare capacity of `content`; answers how many bytes. Nothing is read
/// at the end of the file. `path` is for fault points.
pub(crate) fn read_at(file: &File, content: &mut Vec<u8>, offset: u64, path: &Path) -> io::Result<usize> {
    fault::point(Call::Read, path)?;
    loop {
        match rustix::io::pread(file, spare_capacity(content), offset) {
            Err(rustix::io::Errno::INTR) => {}
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
