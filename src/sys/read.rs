//! Positioned reads into memory that nobody zeroed first.

use std::fs::File;
use std::io;
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
