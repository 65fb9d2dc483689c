//! Writing archives: the same entries give the same bytes, whoever writes them and when.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use crate::digest::{Algorithm, Digest, Digester};

const BLOCK: usize = 512;

/// The largest size that a header holds in octal digits.
const MAX_OCTAL: u64 = (1 << 33) - 1;

/// How many bytes an entry takes.
pub(super) fn entry_len(path: &str, size: u64) -> u64 {
    let records = if split(path).is_some() { 0 } else { 2 * BLOCK as u64 };
    records + BLOCK as u64 + size.next_multiple_of(BLOCK as u64)
}

/// The name, and what stands before it in a field of its own; None if the path fits no header.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let (at, _) = path.match_indices('/').find(|(at, _)| path.len() - at - 1 <= 100)?;
    let (prefix, name) = (path.get(..at)?, path.get(at + 1..)?);
    (prefix.len() <= 155 && !name.is_empty()).then_some((prefix, name))
}

/// Writes a field of a header; it is as long as what is put there.
fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    if let Some(field) = block.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

fn header(path: &str, kind: u8, size: u64, time: u64) -> Vec<u8> {
    let mut block = [0; BLOCK];
    let (prefix, name) = split(path).unwrap_or_else(|| ("", path.get(..100).unwrap_or_default()));
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 100, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
    put(&mut block, 108, b"0000000\0");
    put(&mut block, 116, b"0000000\0");
    if size <= MAX_OCTAL {
        put(&mut block, 124, format!("{size:011o}\0").as_bytes());
    } else {
        // In base 256, as GNU tar, Go and libarchive write and read it.
        put(&mut block, 124, &[0x80, 0, 0, 0]);
        put(&mut block, 128, &size.to_be_bytes());
    }
    put(&mut block, 136, format!("{:011o}\0", time.min(MAX_OCTAL)).as_bytes());
    put(&mut block, 148, b"        ");
    put(&mut block, 156, &[kind]);
    put(&mut block, 257, b"ustar\x0000");
    put(&mut block, 345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

/// Writes the entries of an archive one after the other, and hashes all of it.
pub(super) struct ArchiveWriter<W> {
    to: W,
    time: u64,
    /// Bytes that were written.
    pub(super) position: u64,
    digester: Digester,
    /// Algorithms whose directories have an entry.
    directories: BTreeSet<Algorithm>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(to: W, time: u64) -> Self {
        let digester = Digester::new(Algorithm::Sha256);
        Self { to, time, position: 0, digester, directories: BTreeSet::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.digester.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Begins a file; its content is written next, and then [`ArchiveWriter::pad`].
    fn begin(&mut self, path: &str, size: u64) -> io::Result<()> {
        if split(path).is_none() {
            let rest = path.len() + " path=\n".len();
            let length = (1..).map(|digits| rest + digits).find(|sum| rest + sum.to_string().len() == *sum);
            let mut records = format!("{} path={path}\n", length.unwrap_or(rest)).into_bytes();
            self.write(&header("pax", b'x', records.len() as u64, self.time))?;
            records.resize(BLOCK, 0);
            self.write(&records)?;
        }
        self.write(&header(path, b'0', size, self.time))
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        self.write([0; BLOCK].get(..rest).unwrap_or_default())
    }

    /// An entry of a directory.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.write(&header(path, b'5', 0, self.time))
    }

    /// The directory of content of an algorithm, once.
    pub(super) fn blob_directory(&mut self, algorithm: Algorithm) -> io::Result<()> {
        if self.directories.is_empty() {
            self.directory("blobs/")?;
        }
        if self.directories.insert(algorithm) {
            self.directory(&format!("blobs/{algorithm}/"))
        } else {
            Ok(())
        }
    }

    /// A file that is in memory.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin(path, bytes.len() as u64)?;
        self.write(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// A file that a reader gives, which must be of that size; `each` is given its bytes on their way.
    pub(super) fn stream(
        &mut self,
        path: &str,
        size: u64,
        mut from: impl Read,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.begin(path, size)?;
        let mut buffer = vec![0; 128 << 10];
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = match from.read(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let part = buffer.get(..read).unwrap_or_default();
            each(part)?;
            self.write(part)?;
            left -= read as u64;
        }
        self.pad(size)
    }

    /// The hash of everything so far.
    pub(super) fn checksum(&self) -> Digest {
        self.digester.clone().finish()
    }

    /// Ends the archive and gives the writer beneath back. It is not flushed.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write(&[0; BLOCK])?;
        self.write(&[0; BLOCK])?;
        Ok(self.to)
    }
}
