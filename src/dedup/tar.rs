//! Where the contents of files stand in a tar, found in a stream in bounded memory.
//!
//! Everything that is no content of a file is structure: headers, long names, padding, what follows the end. So the pieces that come out
//! are all of the stream, each byte once, however broken it is.

use crate::transfer::archive::PaxRecords;

const BLOCK: usize = 512;
/// The longest name or extended header that is looked at; a longer one is structure all the same.
const LONGEST: u64 = 1 << 20;
/// The longest path that is kept, in bytes; of a longer one its end is.
const LONGEST_PATH: usize = 255;

/// What comes next in a stream.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// So many bytes of structure, at least one.
    Structure(usize),
    /// A file begins: so many bytes of content follow, at least one, which the caller takes.
    File { size: u64, path: Box<str> },
    /// More bytes are needed to tell.
    More,
    /// The stream has ended.
    End,
}

/// How the tar is, as far as it was read.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Oddities {
    /// Where something stands that is no header, from the beginning of the tar.
    pub(super) broken: Option<u64>,
    /// Where the stream ended in the middle of something.
    pub(super) truncated: Option<u64>,
    /// Bytes behind the end that are not zero.
    pub(super) trailing: u64,
    /// Sparse files.
    pub(super) sparse: u64,
}

/// A tar that is being read.
#[derive(Debug, Default)]
pub(super) struct Tar {
    state: State,
    at: u64,
    /// The file whose header was read last.
    pending: Option<(u64, Box<str>)>,
    long_name: Option<Vec<u8>>,
    extended: Extended,
    odd: Oddities,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    /// Behind a block of zeros.
    Zeros,
    /// Blocks with the rest of the map of a sparse file, whose content follows.
    Map { size: u64, path: Box<str> },
    /// Content of an entry that describes the next one: how much is left, and what is kept of it.
    Described { left: u64, padding: usize, kind: u8, kept: Option<Vec<u8>> },
    /// So much padding is left.
    Padding(usize),
    /// No header is looked for any more.
    Rest,
}

/// What an extended header says of the next entry.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

/// Whether a stream begins with a header.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(has_checksum)
}

impl Tar {
    /// What is odd about it so far.
    pub(super) fn oddities(&self) -> &Oddities {
        &self.odd
    }

    /// What comes next, given all bytes from where the last step ended that there are; `ends` when no more will come.
    pub(super) fn next(&mut self, bytes: &[u8], ends: bool) -> Step {
        if let Some((size, path)) = self.pending.take() {
            self.state = after(size);
            return Step::File { size, path };
        }
        if bytes.is_empty() {
            if !ends {
                return Step::More;
            }
            if !matches!(self.state, State::Header | State::Zeros | State::Rest) {
                self.odd.truncated.get_or_insert(self.at);
            }
            return Step::End;
        }
        let count = match &mut self.state {
            State::Header | State::Zeros | State::Map { .. } => match bytes.first_chunk() {
                Some(block) if self.block(block) => BLOCK,
                None if !ends => return Step::More,
                Some(_) => bytes.len(),
                None => {
                    self.odd.truncated.get_or_insert(self.at);
                    self.state = State::Rest;
                    bytes.len()
                }
            },
            State::Padding(left) => {
                let count = bytes.len().min(*left);
                *left -= count;
                if *left == 0 {
                    self.state = State::Header;
                }
                count
            }
            State::Described { .. } => self.described(bytes),
            State::Rest => bytes.len(),
        };
        let count = count.min(bytes.len());
        if matches!(self.state, State::Rest) && self.odd.broken.is_none() && self.odd.truncated.is_none() {
            let odd = bytes.iter().take(count).filter(|byte| **byte != 0).count();
            self.odd.trailing += odd as u64;
        }
        self.at = self.at.saturating_add(count as u64);
        Step::Structure(count)
    }

    /// Told of content that the caller took, and whether that is all of it.
    pub(super) fn took(&mut self, count: u64, whole: bool) {
        self.at = self.at.saturating_add(count);
        if !whole {
            self.state = State::Rest;
            self.odd.truncated.get_or_insert(self.at);
        }
    }

    /// Takes what describes the next entry; how many bytes that are.
    fn described(&mut self, bytes: &[u8]) -> usize {
        let State::Described { left, padding, kind, kept } = &mut self.state else { return bytes.len() };
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(kept) = kept {
            kept.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
        *left -= count as u64;
        if *left > 0 {
            return count;
        }
        let (padding, kind, kept) = (*padding, *kind, kept.take());
        self.state = if padding > 0 { State::Padding(padding) } else { State::Header };
        match (kind, kept) {
            (b'L', Some(mut name)) => {
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                name.truncate(end);
                self.long_name = Some(name);
            }
            (b'x', Some(records)) => self.extended = Extended::read(&records),
            _ => {}
        }
        count
    }

    /// One block where a header, zeros, or a part of a map stands; false where it is none of these and no more are looked for.
    fn block(&mut self, block: &[u8; BLOCK]) -> bool {
        if let State::Map { size, path } = &mut self.state {
            let (size, path) = (*size, std::mem::take(path));
            self.map(block, 504, size, path);
            return true;
        }
        let behind_zeros = matches!(self.state, State::Zeros);
        if block.iter().all(|byte| *byte == 0) {
            self.state = if behind_zeros { State::Rest } else { State::Zeros };
            return true;
        }
        let size = self.extended.size.or_else(|| number(field(block, 124, 12)));
        let Some(size) = size.filter(|_| has_checksum(block)) else {
            self.state = State::Rest;
            if !behind_zeros {
                self.odd.broken.get_or_insert(self.at);
            }
            return false;
        };
        let kind = block.get(156).copied().unwrap_or_default();
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            let kept = (matches!(kind, b'x' | b'L') && size <= LONGEST).then(Vec::new);
            let padding = padding(size);
            self.state = match size {
                0 => State::Header,
                left => State::Described { left, padding, kind, kept },
            };
            return true;
        }
        let extended = std::mem::take(&mut self.extended);
        let long_name = self.long_name.take();
        self.state = State::Header;
        // Links, devices and directories have no content, whatever their size says.
        if size > 0 && !(b'1'..=b'6').contains(&kind) {
            let path = path(extended.path.or(long_name), block);
            self.odd.sparse += u64::from(extended.sparse || kind == b'S');
            if kind == b'S' { self.map(block, 482, size, path) } else { self.pending = Some((size, path)) }
        }
        true
    }

    /// Behind a block of the header of a sparse file, which says at `flag` whether one more follows.
    fn map(&mut self, block: &[u8; BLOCK], flag: usize, size: u64, path: Box<str>) {
        if block.get(flag).is_some_and(|more| *more != 0) {
            self.state = State::Map { size, path };
        } else {
            self.state = State::Header;
            self.pending = Some((size, path));
        }
    }
}

impl Extended {
    /// Reads records of the form `LENGTH KEY=VALUE\n`; what is no such record ends them.
    fn read(records: &[u8]) -> Self {
        let mut found = Self::default();
        for (key, value) in PaxRecords::new(records).map_while(crate::Result::ok) {
            match key {
                b"path" if found.path.is_none() => found.path = Some(value.to_vec()),
                b"GNU.sparse.name" => found.path = Some(value.to_vec()),
                b"size" => found.size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                _ => {}
            }
            found.sparse |= key.starts_with(b"GNU.sparse.");
        }
        found
    }
}

/// The state behind content of that size.
fn after(size: u64) -> State {
    match padding(size) {
        0 => State::Header,
        left => State::Padding(left),
    }
}

fn padding(size: u64) -> usize {
    const BLOCKS: u64 = BLOCK as u64;
    usize::try_from((BLOCKS - size % BLOCKS) % BLOCKS).unwrap_or_default()
}

fn field(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// The bytes of a field up to its NUL.
fn text(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    field(block, start, length).split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The path of an entry, without what says that it begins at the root.
fn path(longer: Option<Vec<u8>>, block: &[u8; BLOCK]) -> Box<str> {
    let whole = longer.unwrap_or_else(|| {
        let (name, prefix) = (text(block, 0, 100), text(block, 345, 155));
        // In the header of GNU other things stand where others have the prefix.
        if prefix.is_empty() || field(block, 257, 6) != b"ustar\0" {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    });
    let end = whole.get(whole.len().saturating_sub(LONGEST_PATH)..).unwrap_or_default();
    let shown = String::from_utf8_lossy(end);
    let mut path: &str = &shown;
    while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix('/')) {
        path = rest;
    }
    path.into()
}

/// A number in octal, or in base 256 where the first bit says so. Nothing that does not fit 63 bits.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    let in_range = |number: &u64| i64::try_from(*number).is_ok();
    if first & 0x80 != 0 {
        let start = u64::from(first & 0x7f);
        let value = rest.iter().try_fold(start, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)));
        return value.filter(in_range);
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let digits = std::str::from_utf8(digits.get(..end)?).ok()?;
    if digits.is_empty() {
        return Some(0);
    }
    if digits.bytes().any(|digit| !(b'0'..=b'7').contains(&digit)) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok().filter(in_range)
}

/// Whether a block has the checksum of a header, by signed or unsigned bytes, and is not all zeros.
fn has_checksum(block: &[u8; BLOCK]) -> bool {
    let Some(found) = number(field(block, 148, 8)) else { return false };
    let (mut plain, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    // What a block of zeros adds up to; zeros are an end and no header.
    let found = i64::try_from(found).unwrap_or_default();
    found == plain || found == signed
}
