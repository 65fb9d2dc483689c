//! The tar format as layouts come in it: ustar, pax and GNU. Everything may have been written by anyone, so what stands in
//! front of an entry is bounded, and what is not a plain file is said to be what it is.

use std::io::{self, Read};

use tar::Header;

use super::input::Forward;
use super::pax::{PaxRecords, gnu_name};
use crate::error::{Error, Result};

pub(super) const BLOCK: u64 = 512;
/// Names and other records in front of an entry.
const MAX_EXTENSION: u64 = 1 << 20;
/// Blocks of such records in front of one entry.
const MAX_EXTENSIONS: usize = 16;

/// An entry of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Where its content begins in the archive.
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    /// Of a path in the archive.
    HardLink(Vec<u8>),
    /// Of a path from where the link is.
    Symlink(Vec<u8>),
    /// A directory, a device, a FIFO.
    Other,
    /// A file that cannot be read as one.
    Refused(&'static str),
}

/// Goes through an archive.
pub(super) struct Walker<R> {
    from: R,
    /// What messages call the archive.
    name: String,
    offset: u64,
    /// Of the present entry: content that was not read, and what fills its last block.
    left: u64,
    padding: u64,
    path: Vec<u8>,
}

impl<R: Forward> Walker<R> {
    pub(super) fn new(from: R, name: &str) -> Self {
        Self { from, name: name.to_owned(), offset: 0, left: 0, padding: 0, path: Vec::new() }
    }

    /// The next entry; None at the end of the archive. An archive without the blocks that end it ends with its file.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        for _ in 0..MAX_EXTENSIONS {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extended.any { Err(self.cut()) } else { Ok(None) };
            };
            let kind = header.entry_type().as_byte();
            if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
                return self.member(extended, &header, kind).map(Some);
            }
            let data = self.extension(&header)?;
            match kind {
                b'x' => extended.records(&data).map_err(|what| self.invalid(what))?,
                b'L' => extended.path = Some(gnu_name(data)),
                b'K' => extended.link = Some(gnu_name(data)),
                // Records for all entries: nothing in them matters here.
                _ => {}
            }
            extended.any |= kind != b'g';
        }
        Err(self.invalid("too many records stand before one entry"))
    }

    /// Where the archive was left.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn member(&mut self, extended: Extended, header: &Header, kind: u8) -> Result<Member> {
        let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let link = link.unwrap_or_default();
        let size = match extended.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| self.invalid("a header has no size"))?,
        };
        let (kind, has_content) = match kind {
            b'0' | 0 | b'7' if path.ends_with(b"/") => (Kind::Other, false),
            b'S' => (Kind::Refused("a sparse file"), true),
            b'0' | 0 | b'7' if extended.sparse => (Kind::Refused("a sparse file"), true),
            b'0' | 0 | b'7' => (Kind::File, true),
            b'1' => (Kind::HardLink(link), false),
            b'2' => (Kind::Symlink(link), false),
            b'3' | b'4' | b'5' | b'6' => (Kind::Other, false),
            b'M' => (Kind::Refused("a file of several volumes of tar"), true),
            _ => (Kind::Other, true),
        };
        let size = if has_content { size } else { 0 };
        self.path.clone_from(&path);
        self.begin(size)?;
        if kind == Kind::Refused("a sparse file") && !extended.sparse {
            self.sparse_blocks(header)?;
        }
        Ok(Member { path, kind, offset: self.offset, size: self.left })
    }

    /// The map of a sparse file goes on in blocks that its size does not count.
    fn sparse_blocks(&mut self, header: &Header) -> Result<()> {
        let mut is_extended = header.as_gnu().is_some_and(|gnu| gnu.isextended.first() == Some(&1));
        let mut blocks = 0;
        while is_extended {
            let mut block = Vec::new();
            self.fill(&mut block, BLOCK)?;
            blocks += 1;
            if (block.len() as u64) < BLOCK || blocks > MAX_EXTENSION / BLOCK {
                return Err(self.cut());
            }
            is_extended = block.get(504) == Some(&1);
        }
        Ok(())
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        let padding = size.wrapping_neg() % BLOCK;
        if size.checked_add(padding).and_then(|sum| sum.checked_add(self.offset)).is_none() {
            return Err(self.invalid("a header has an impossible size"));
        }
        (self.left, self.padding) = (size, padding);
        Ok(())
    }

    /// To the end of the present entry. What fills its last block may be missing at the end of the archive.
    fn skip(&mut self) -> Result<()> {
        let passed = self.from.pass(self.left).map_err(|error| self.failed(error))?;
        self.offset += passed;
        if passed < self.left {
            return Err(self.cut());
        }
        self.left = 0;
        let padding = std::mem::take(&mut self.padding);
        self.offset += self.from.pass(padding).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut zeros = 0;
        loop {
            let mut block = Vec::with_capacity(512);
            self.path.clear();
            self.fill(&mut block, BLOCK)?;
            if block.is_empty() {
                return Ok(None);
            }
            if (block.len() as u64) < BLOCK {
                return if block.iter().all(|&byte| byte == 0) { Ok(None) } else { Err(self.cut()) };
            }
            if block.iter().all(|&byte| byte == 0) {
                zeros += 1;
                if zeros == 2 {
                    return Ok(None);
                }
                continue;
            }
            let header = Header::from_byte_slice(&block).clone();
            if header.cksum().ok() != Some(sum(&block)) {
                return Err(self.invalid("this is no tar archive, or a header of it is damaged"));
            }
            return Ok(Some(header));
        }
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().map_err(|_| self.invalid("a header has no size"))?;
        if size > MAX_EXTENSION {
            return Err(self.invalid("the name of an entry is too long"));
        }
        self.begin(size)?;
        let mut data = Vec::new();
        self.fill(&mut data, size)?;
        self.left -= data.len() as u64;
        if self.left > 0 { Err(self.cut()) } else { Ok(data) }
    }

    fn fill(&mut self, data: &mut Vec<u8>, size: u64) -> Result<()> {
        let read = self.from.by_ref().take(size).read_to_end(data).map_err(|error| self.failed(error))?;
        self.offset += read as u64;
        Ok(())
    }

    #[cold]
    fn cut(&self) -> Error {
        let path = crate::digest::excerpt(&String::from_utf8_lossy(&self.path)).to_string();
        let (name, offset) = (&self.name, self.offset);
        Error::corrupt(format!("archive is cut, archive={name}, entry={path}, offset={offset}"))
    }

    #[cold]
    fn invalid(&self, what: &str) -> Error {
        let (name, offset) = (&self.name, self.offset);
        Error::corrupt(format!("{what}, archive={name}, offset={offset}"))
    }

    #[cold]
    fn failed(&self, error: io::Error) -> Error {
        failed(&self.name, error)
    }
}

/// An archive that cannot be read: damage where a decoder says so.
#[cold]
pub(super) fn failed(name: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            crate::error::ErrorKind::Corrupt
        }
        _ => crate::error::ErrorKind::Io,
    };
    let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
    let what = if is_cut { "archive is cut" } else { "archive cannot be read" };
    Error::new(kind, format!("{what}, archive={name}")).with_source(error)
}

impl<R: Forward> Read for Walker<R> {
    /// The content of the present entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(buffer.get_mut(..want).unwrap_or_default())?;
        if read == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.cut()));
        }
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }
}

/// What the checksum of a header must be: the sum of its bytes, with spaces where the checksum stands.
fn sum(block: &[u8]) -> u32 {
    block
        .iter()
        .enumerate()
        .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
        .sum()
}

/// What stands in front of an entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    any: bool,
}

impl Extended {
    fn records(&mut self, data: &[u8]) -> Result<(), &'static str> {
        for record in PaxRecords::new(data) {
            let (key, value) = record.map_err(|_| "a pax record is malformed")?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or("a pax record has no size")?);
                }
                key if key.starts_with(b"GNU.sparse") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}
