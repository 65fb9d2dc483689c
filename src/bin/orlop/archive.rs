//! The tar format, as far as packed directories need it.
//!
//! Headers are written as Go's `archive/tar` writes them, so that orlop and oras make the same archive of the same
//! directory: ustar where it can hold everything, and pax records in front of it where it cannot. What is read may come
//! from anyone, so the blocks in front of an entry are bounded and nothing is taken for granted.

use std::collections::BTreeMap;
use std::io::{self, Read};

use orlop::transfer::archive::{PaxRecords, gnu_name};
use tar::Header;

pub(crate) const BLOCK: usize = 512;
/// Names and other records in front of an entry.
const MAX_EXTENSION: u64 = 1 << 20;

pub(crate) const FILE: u8 = b'0';
pub(crate) const SYMLINK: u8 = b'2';
pub(crate) const DIRECTORY: u8 = b'5';

/// An entry of an archive without its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    /// What a link points to; empty otherwise.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) modified: i64,
    pub(crate) size: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device, a FIFO, or what no directory holds.
    Other,
}

impl Member {
    /// The blocks in front of the content.
    pub(crate) fn header(&self) -> io::Result<Vec<u8>> {
        let mut blocks = Vec::with_capacity(BLOCK);
        let mut records = BTreeMap::new();
        let (prefix, name) = match split_path(&self.path) {
            Some(parts) => parts,
            None => (&b""[..], self.path.as_slice()),
        };
        if !self.link.is_ascii() || self.link.len() > 100 {
            records.insert("linkpath", self.link.clone());
        }
        let fits = |number: u64| number < 1 << 33;
        if !fits(self.size) {
            records.insert("size", self.size.to_string().into_bytes());
        }
        let modified = u64::try_from(self.modified).ok().filter(|&seconds| fits(seconds));
        if modified.is_none() {
            records.insert("mtime", self.modified.to_string().into_bytes());
        }
        let is_long = !self.path.is_ascii() || self.path.len() > 100;
        // Where there are records anyway, the path is one of them.
        if is_long && (prefix.is_empty() || !records.is_empty()) {
            records.insert("path", self.path.clone());
        }
        if !records.is_empty() {
            extension(&mut blocks, &self.path, &records)?;
        }
        let kind = match self.kind {
            Kind::Directory => DIRECTORY,
            Kind::Symlink => SYMLINK,
            _ => FILE,
        };
        let size = if fits(self.size) { self.size } else { 0 };
        let (name, link) = if records.is_empty() {
            (name.to_vec(), self.link.clone())
        } else {
            (ascii(&self.path), ascii(&self.link))
        };
        let prefix = if records.is_empty() { prefix } else { b"" };
        push_header(&mut blocks, kind, &name, prefix, &link, self.mode, modified.unwrap_or(0), size)?;
        Ok(blocks)
    }

    /// The zeros behind the content, up to a whole block.
    pub(crate) fn padding(&self) -> usize {
        usize::try_from(padding(self.size)).unwrap_or(0)
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// A long path in the two fields that ustar has for it.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 || !path.is_ascii() {
        return None;
    }
    let slash = path.get(..path.len().min(156))?.iter().rposition(|&byte| byte == b'/')?;
    let (prefix, name) = (path.get(..slash)?, path.get(slash + 1..)?);
    (!prefix.is_empty() && prefix.len() <= 155 && !name.is_empty() && name.len() <= 100)
        .then_some((prefix, name))
}

fn ascii(bytes: &[u8]) -> Vec<u8> {
    // Go keeps the characters that are ASCII, and drops each other character.
    bytes.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).collect()
}

#[expect(clippy::too_many_arguments, reason = "these are the fields of the format")]
fn push_header(
    blocks: &mut Vec<u8>,
    kind: u8,
    name: &[u8],
    prefix: &[u8],
    link: &[u8],
    mode: u32,
    modified: u64,
    size: u64,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(modified);
    if kind != b'x' {
        header.set_device_major(0)?;
        header.set_device_minor(0)?;
    }
    if let Some(fields) = header.as_ustar_mut() {
        put(&mut fields.name, name);
        put(&mut fields.prefix, prefix);
        put(&mut fields.linkname, link);
        fields.typeflag = [kind];
    }
    let sum: u32 = sum(&header);
    put(&mut header.as_old_mut().cksum, format!("{sum:06o}\0 ").as_bytes());
    blocks.extend_from_slice(header.as_bytes());
    Ok(())
}

/// Fills a field; what is too long for it stands in a record.
fn put(field: &mut [u8], bytes: &[u8]) {
    for (slot, byte) in field.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    // As Go has it: a name that is cut behind a slash would be taken for a directory.
    if bytes.len() > field.len() && field.last() == Some(&b'/') {
        for slot in field.iter_mut().rev() {
            if *slot != b'/' {
                break;
            }
            *slot = 0;
        }
    }
}

/// The sum of a header's bytes, with spaces for the sum itself.
fn sum(header: &Header) -> u32 {
    let byte =
        |(at, byte): (usize, &u8)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    header.as_bytes().iter().enumerate().map(byte).sum()
}

/// Records for an entry, in a file of their own in front of it.
fn extension(blocks: &mut Vec<u8>, path: &[u8], records: &BTreeMap<&str, Vec<u8>>) -> io::Result<()> {
    let mut data = Vec::new();
    for (key, value) in records {
        // The length counts itself.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + rest.to_string().len();
        length = rest + length.to_string().len();
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    let (directory, file) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path.get(..=slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&b""[..], path),
    };
    let mut name = ascii(&[directory, b"PaxHeaders.0/", file].concat());
    name.truncate(100);
    while name.last() == Some(&b'/') {
        name.pop();
    }
    push_header(blocks, b'x', &name, b"", b"", 0, 0, data.len() as u64)?;
    let padding = padding(data.len() as u64);
    blocks.append(&mut data);
    blocks.resize(blocks.len() + usize::try_from(padding).unwrap_or(0), 0);
    Ok(())
}

/// Reads an archive entry by entry. Between two entries it reads as the content of the first of them.
pub(crate) struct Reader<R> {
    from: R,
    /// Of the present content.
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0 }
    }

    /// The next entry; None at the end of the archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type().as_byte();
            match kind {
                b'x' => extended.records(&self.extension(&header)?)?,
                b'L' => extended.path = Some(gnu_name(self.extension(&header)?)),
                b'K' => extended.link = Some(gnu_name(self.extension(&header)?)),
                // Records for all entries: nothing in them matters here.
                b'g' => self.begin(field(header.size())?),
                _ => {
                    let member = extended.apply(&header, kind)?;
                    self.begin(member.size);
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Gives the source back, for what is behind the archive.
    pub(crate) fn into_inner(self) -> R {
        self.from
    }

    fn begin(&mut self, size: u64) {
        (self.left, self.padding) = (size, padding(size));
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        if skipped < rest { Err(truncated()) } else { Ok(()) }
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.from).take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        if block.len() < BLOCK {
            return Err(truncated());
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        if header.cksum().ok() != Some(sum(&header)) {
            return Err(invalid("a header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = field(header.size())?;
        if size > MAX_EXTENSION {
            return Err(invalid("the name of an entry is too long"));
        }
        self.begin(size);
        let mut data = Vec::new();
        (&mut *self).take(size).read_to_end(&mut data)?;
        Ok(data)
    }
}

impl<R: Read> Read for Reader<R> {
    /// The content of the present entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(buffer.get_mut(..want).unwrap_or_default())?;
        if read == 0 && want > 0 {
            return Err(truncated());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What stands in front of an entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

impl Extended {
    fn records(&mut self, data: &[u8]) -> io::Result<()> {
        for record in PaxRecords::new(data) {
            let (key, value) = record.map_err(|_| invalid("a pax record is malformed"))?;
            let number = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = number().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| invalid("a pax record has no size"))?);
                }
                b"mtime" => {
                    let seconds = number().and_then(|time| time.split('.').next()?.parse().ok());
                    self.modified = Some(seconds.ok_or_else(|| invalid("a pax record has no time"))?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(invalid("sparse files are not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn apply(self, header: &Header, kind: u8) -> io::Result<Member> {
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let kind = match kind {
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            b'S' => return Err(invalid("sparse files are not supported")),
            _ => Kind::Other,
        };
        let has_content = matches!(kind, Kind::File | Kind::Other);
        let size = match self.size {
            _ if !has_content => 0,
            Some(size) => size,
            None => field(header.size())?,
        };
        // Go writes no time as nothing, and a time is not worth a refusal.
        let modified = self.modified.or_else(|| i64::try_from(header.mtime().ok()?).ok()).unwrap_or(0);
        Ok(Member { kind, path, link: link.unwrap_or_default(), mode: field(header.mode())?, modified, size })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A number of a header, which may be none.
fn field<T>(number: io::Result<T>) -> io::Result<T> {
    number.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn truncated() -> io::Error {
    invalid("the archive ends in the middle of an entry")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn member(path: &str, link: &str, size: u64, modified: i64) -> Member {
        let kind = if link.is_empty() { Kind::File } else { Kind::Symlink };
        Member { kind, path: path.into(), link: link.into(), mode: 0o4755, modified, size }
    }

    #[test]
    fn what_is_written_is_read() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let longer = format!("{}/x", "d".repeat(300));
        let members = [
            member("a", "", 0, 0),
            member("a/b", "", 513, 1_700_000_000),
            member(&long, "", 1, -5),
            member(&longer, "", 2, 1 << 40),
            member("caf\u{e9}", "", 3, 7),
            member("l", &longer, 0, 7),
            member("l", "\u{e9}", 0, 7),
        ];
        let mut bytes = Vec::new();
        for member in &members {
            bytes.extend(member.header().unwrap());
            let content = usize::try_from(member.size).unwrap();
            bytes.resize(bytes.len() + content + member.padding(), b'x');
        }
        bytes.resize(bytes.len() + 1024, 0);
        let mut reader = Reader::new(bytes.as_slice());
        for member in &members {
            assert_eq!(reader.next().unwrap().as_ref(), Some(member));
        }
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn sizes_beyond_ustar_are_kept() {
        let large = member("a", "", 20 << 30, 0);
        let header = large.header().unwrap();
        assert_eq!(Reader::new(header.as_slice()).next().unwrap(), Some(large));
    }

    #[test]
    fn nonsense_is_refused() {
        let good = member("a", "", 600, 0).header().unwrap();
        let refused = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            while reader.next()?.is_some() {}
            Ok::<_, io::Error>(())
        };
        assert!(refused(good.get(..100).unwrap()).is_err(), "half a header");
        assert!(refused(&good).is_err(), "no content");
        let mut wrong = good.clone();
        *wrong.first_mut().unwrap() ^= 1;
        assert!(refused(&wrong).unwrap_err().to_string().contains("checksum"));
        let mut blocks = Vec::new();
        push_header(&mut blocks, b'x', b"p", b"", b"", 0, 0, MAX_EXTENSION + 1).unwrap();
        assert!(refused(&blocks).unwrap_err().to_string().contains("too long"));
        for record in ["9 path", "x", "5 a=\n", "0 a=b\n", "99 a=b\n", "18 GNU.sparse.x=1\n"] {
            assert!(
                Extended::default().records(record.as_bytes()).is_err() || record.starts_with("5"),
                "{record}"
            );
        }
        assert!(refused(&[]).is_ok() && refused(&[0; 512]).is_ok());
    }
}
