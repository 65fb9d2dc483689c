//! Writes that go to the disk without a copy in the page cache.
//!
//! Who makes content durable waits for the disk in any case, and the copy costs more of the processor than hashing does, above all in
//! a virtual machine, which gives the kernel pages that it never had.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::fault::{self, Call};

/// What positions, lengths and addresses are multiples of: no disk or filesystem asks for more.
const BLOCK: usize = 4096;
/// Bytes in whole blocks that are worth it. In tests few, so that fault sweeps and power cuts, which write little, come here.
const LEAST: usize = if cfg!(test) { 16 << 10 } else { 256 << 10 };

/// Whether a file is written past the page cache.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The filesystem does not do it.
    refused: AtomicBool,
}

impl Around {
    /// Writes some of `bytes` at a position, as the call for that does; if `past` what it can of them past the page cache. The file is as
    /// it was afterwards: reads and writes of any length may follow.
    pub(super) fn write(
        &self,
        file: &File,
        bytes: &[u8],
        at: u64,
        past: bool,
        path: &Path,
    ) -> io::Result<usize> {
        if !past || self.refused.load(Ordering::Relaxed) {
            return file.write_at(bytes, at);
        }
        let before = before_blocks(at);
        if before > 0 {
            return file.write_at(bytes.get(..before).unwrap_or(bytes), at);
        }
        let whole = bytes.len() - bytes.len() % BLOCK;
        let Some(blocks) = bytes.get(..whole).filter(|blocks| blocks.len() >= LEAST) else {
            return file.write_at(bytes, at);
        };
        match fault::point(Call::WriteAround, path).and_then(|()| write(file, blocks, at)) {
            Err(error) if is_refusal(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                file.write_at(bytes, at)
            }
            written => written,
        }
    }
}

/// What is between the position and the next that blocks begin at.
fn before_blocks(at: u64) -> usize {
    let over = at % BLOCK as u64;
    usize::try_from(over).map_or(0, |over| (BLOCK - over) % BLOCK)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

fn write(file: &File, blocks: &[u8], at: u64) -> io::Result<usize> {
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::DIRECT)?;
    let written = if misplaced(blocks) == 0 { file.write_at(blocks, at) } else { copied(file, blocks, at) };
    // With the flag left, every read of another length would fail.
    fcntl_setfl(file, flags)?;
    written
}

/// How far behind the last possible address something is.
fn misplaced(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr() % BLOCK
}

/// Memory that is written is where memory of blocks may begin.
fn copied(file: &File, blocks: &[u8], at: u64) -> io::Result<usize> {
    let mut room = Aligned::with_capacity(blocks.len());
    room.extend(blocks);
    file.write_at(&room, at)
}

/// Bytes that begin where memory of blocks may begin, so that they are written past the cache without a copy.
#[derive(Debug)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    /// What is in front of them.
    start: usize,
}

impl Aligned {
    /// Room for so many bytes, and no more.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(capacity + BLOCK);
        let start = (BLOCK - misplaced(bytes.as_slice())) % BLOCK;
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// So many zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let mut aligned = Self::with_capacity(length);
        aligned.bytes.resize(aligned.start + length, 0);
        aligned
    }

    /// Adds bytes, for which there must be room: memory that moves would begin elsewhere.
    pub(crate) fn extend(&mut self, more: &[u8]) {
        debug_assert!(more.len() <= self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(more);
    }

    /// Empties it, and keeps its room.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        reason = "tests may panic and look at files"
    )]

    use std::fs;

    use super::super::fault::{Fault, arm};
    use super::super::{Dir, GrowingFile};
    use super::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
    }

    /// Pieces of all lengths, one behind the other, from memory that begins anywhere.
    #[test]
    fn what_is_written_around_the_cache_is_what_was_given() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let bytes = content(3 << 20);
        for piece in [LEAST - 1, LEAST, LEAST + 1, LEAST + BLOCK, 1 << 20, (1 << 20) + 513, 3 << 20] {
            for around in [true, false] {
                let file = GrowingFile::create(&dir, "g").unwrap();
                let mut at = 0;
                for piece in bytes.chunks(piece) {
                    file.write_at(piece, at, around).unwrap();
                    at += piece.len() as u64;
                }
                assert!(fs::read(root.path().join("g")).unwrap() == bytes, "{piece} {around}");
            }
        }
    }

    /// How often a write past the cache was tried, and whether one was done.
    fn tried(dir: &Dir, errno: Option<Errno>) -> (usize, io::Result<()>) {
        // Never fires without an error to fire.
        let fault = Fault::new(Call::WriteAround, dir.path(), errno.unwrap_or(Errno::IO));
        let armed = arm(if errno.is_some() { fault } else { fault.nth(1000) });
        let file = GrowingFile::create(dir, "g").unwrap();
        let bytes = content(2 << 20);
        let written = file
            .write_at(&bytes[..1 << 20], 0, true)
            .and_then(|()| file.write_at(&bytes[1 << 20..], 1 << 20, true));
        if written.is_ok() {
            assert!(fs::read(dir.path().join("g")).unwrap() == bytes);
        }
        (armed.seen(), written)
    }

    #[test]
    fn a_filesystem_that_refuses_is_asked_once_and_a_failure_is_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        assert!(matches!(tried(&dir, None), (2, Ok(()))));
        for refusal in [Errno::INVAL, Errno::OPNOTSUPP] {
            assert!(matches!(tried(&dir, Some(refusal)), (1, Ok(()))), "{refusal}");
        }
        for failure in [Errno::IO, Errno::NOSPC] {
            let (seen, written) = tried(&dir, Some(failure));
            assert_eq!((seen, Errno::from_io_error(&written.unwrap_err())), (1, Some(failure)));
        }
    }
}
