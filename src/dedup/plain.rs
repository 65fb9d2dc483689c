//! Content without its compression, in bounded memory, whatever the stream is.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder;

use super::finding::{FindingKind, Findings};

/// What is read at once.
const BUFFER: usize = 128 << 10;
/// Windows of zstd up to 128 MiB are taken, as its own tools do; who asks for more gets an error.
const WINDOW_LOG: u32 = 27;
/// No ratio is looked at before so much came out.
const RATIO_FROM: u64 = 64 << 20;
/// Members of gzip without content that may follow each other: nothing that is meant has so many.
const EMPTY_MEMBERS: u32 = 10_000;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The first of the magic numbers of frames that zstd skips; the lowest four bits count.
const ZSTD_SKIPPED: u32 = 0x184d_2a50;
/// What else is often met, with its name.
const OTHERS: [(&[u8], &str); 5] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"LZIP", "lzip"),
    (b"PK\x03\x04", "zip"),
];

/// How far content may unfold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    /// The most plain bytes of one blob.
    pub(super) bytes: u64,
    /// The most plain bytes for each stored byte, once there are more than 64 MiB.
    pub(super) ratio: u64,
}

/// A stream of plain bytes.
pub(super) struct Plain<'a> {
    state: State<'a>,
    bounds: Bounds,
    given: u64,
    encoding: &'static str,
}

enum State<'a> {
    Raw(Input<'a>),
    Gzip(Box<GzDecoder<Input<'a>>>),
    Zstd(Box<Decoder<'static, Input<'a>>>),
    /// Nothing more comes; so many stored bytes were read.
    Ended(u64),
}

impl<'a> Plain<'a> {
    /// Looks at the first bytes for what they are compressed with, if that is wanted.
    pub(super) fn open(
        reader: Box<dyn Read + Send + 'a>,
        sniff: bool,
        bounds: Bounds,
        findings: &mut Findings,
    ) -> Self {
        let mut input = Input::new(reader);
        let head = if sniff { input.peek(6).unwrap_or_default() } else { &[] };
        let mut encoding = "none";
        let mut kind = compression(head);
        if kind == Compression::Other {
            let name = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)).map_or("", |(_, name)| name);
            findings.note(
                FindingKind::OtherCompression,
                format!("compressed in a way that is not read, as={name}"),
            );
            kind = Compression::None;
        }
        let state = match kind {
            Compression::Gzip => {
                encoding = "gzip";
                State::Gzip(Box::new(GzDecoder::new(input)))
            }
            Compression::Zstd => {
                encoding = "zstd";
                match zstd_decoder(input) {
                    Ok(decoder) => State::Zstd(Box::new(decoder)),
                    Err(error) => {
                        findings
                            .incomplete(FindingKind::Unreadable, format!("cannot be decompressed: {error}"));
                        State::Ended(0)
                    }
                }
            }
            Compression::None | Compression::Other => State::Raw(input),
        };
        Self { state, bounds, given: 0, encoding }
    }

    /// `none`, `gzip` or `zstd`.
    pub(super) fn encoding(&self) -> &'static str {
        self.encoding
    }

    /// Stored bytes that were read.
    pub(super) fn consumed(&self) -> u64 {
        match &self.state {
            State::Raw(input) => input.consumed,
            State::Gzip(decoder) => decoder.get_ref().consumed,
            State::Zstd(decoder) => decoder.get_ref().consumed,
            State::Ended(consumed) => *consumed,
        }
    }

    /// More plain bytes; none at the end, which is also where something is wrong: then there is a finding that says so.
    pub(super) fn read(&mut self, buffer: &mut [u8], findings: &mut Findings) -> usize {
        let mut empty = 0;
        while !buffer.is_empty() {
            let result = match &mut self.state {
                State::Raw(input) => input.read(buffer),
                State::Gzip(decoder) => decoder.read(buffer),
                State::Zstd(decoder) => decoder.read(buffer),
                State::Ended(_) => return 0,
            };
            match result {
                Ok(0) => {
                    if !self.finish(findings) {
                        return 0;
                    }
                    empty += 1;
                    if empty > EMPTY_MEMBERS {
                        let error = io::Error::other("too many empty members");
                        self.fail(&error, findings);
                    }
                }
                Ok(count) => return self.give(count, findings),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.fail(&error, findings),
            }
        }
        0
    }

    /// Counts plain bytes, and ends what has too many of them.
    fn give(&mut self, count: usize, findings: &mut Findings) -> usize {
        self.given = self.given.saturating_add(count as u64);
        let (given, consumed) = (self.given, self.consumed());
        let bounds = self.bounds;
        let too_many = given > bounds.bytes;
        if too_many || (given > RATIO_FROM && given / consumed.max(1) > bounds.ratio) {
            let (name, limit) = if too_many { ("bytes", bounds.bytes) } else { ("ratio", bounds.ratio) };
            findings.incomplete(
                FindingKind::Bomb,
                format!("unfolds too far, measured up to there, plain={given}, stored={consumed}, limit_of_{name}={limit}"),
            );
            self.state = State::Ended(consumed);
        }
        count
    }

    /// At the end of a member of gzip: goes on with the next one if there is one. Answers whether there is.
    fn finish(&mut self, findings: &mut Findings) -> bool {
        let consumed = self.consumed();
        let ended = State::Ended(consumed);
        let mut input = match std::mem::replace(&mut self.state, ended) {
            State::Gzip(decoder) => decoder.into_inner(),
            // Its decoder goes on by itself, and gives an error for what is no frame.
            State::Raw(_) | State::Zstd(_) | State::Ended(_) => return false,
        };
        match input.peek(GZIP.len()) {
            Ok(GZIP) => {
                self.state = State::Gzip(Box::new(GzDecoder::new(input)));
                return true;
            }
            Ok([]) => return false,
            Ok(_) => {}
            Err(error) => {
                self.fail(&error, findings);
                return false;
            }
        }
        match input.drain() {
            Ok((bytes, true)) => findings.note(
                FindingKind::TrailingGarbage,
                format!("zeros follow the compressed stream, bytes={bytes}"),
            ),
            Ok((bytes, false)) => findings.incomplete(
                FindingKind::TrailingGarbage,
                format!("something follows the compressed stream, bytes={bytes}"),
            ),
            Err(error) => self.fail(&error, findings),
        }
        self.state = State::Ended(input.consumed);
        false
    }

    fn fail(&mut self, error: &io::Error, findings: &mut Findings) {
        let consumed = self.consumed();
        let failed = match &self.state {
            State::Raw(input) => input.failed,
            State::Gzip(decoder) => decoder.get_ref().failed,
            State::Zstd(decoder) => decoder.get_ref().failed,
            State::Ended(_) => true,
        };
        let (kind, what) = match error.kind() {
            _ if failed => (FindingKind::Unreadable, "cannot be read further"),
            io::ErrorKind::UnexpectedEof => (FindingKind::Truncated, "the compressed stream ends early"),
            _ => (FindingKind::BrokenCompression, "the compressed stream is damaged"),
        };
        findings.incomplete(kind, format!("{what}, plain={}, stored={consumed}: {error}", self.given));
        self.state = State::Ended(consumed);
    }
}

fn zstd_decoder(input: Input<'_>) -> io::Result<Decoder<'static, Input<'_>>> {
    let mut decoder = Decoder::with_buffer(input)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Other,
}

fn compression(head: &[u8]) -> Compression {
    let first = head.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if head.starts_with(GZIP) {
        Compression::Gzip
    } else if head.starts_with(ZSTD) || first & !0xf == ZSTD_SKIPPED {
        Compression::Zstd
    } else if OTHERS.iter().any(|(magic, _)| head.starts_with(magic)) {
        Compression::Other
    } else {
        Compression::None
    }
}

/// The stored bytes, buffered, and whether reading them failed.
struct Input<'a> {
    inner: Box<dyn Read + Send + 'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
    failed: bool,
}

impl<'a> Input<'a> {
    fn new(inner: Box<dyn Read + Send + 'a>) -> Self {
        Self { inner, buffer: vec![0; BUFFER].into(), start: 0, end: 0, consumed: 0, failed: false }
    }

    fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The next bytes, up to `count` of them, without taking them.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < count && self.refill()? > 0 {}
        }
        Ok(self.buffered().get(..count).unwrap_or_else(|| self.buffered()))
    }

    /// Reads behind what is buffered.
    fn refill(&mut self) -> io::Result<usize> {
        loop {
            match self.inner.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(count) => {
                    self.end = self.buffer.len().min(self.end + count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }

    /// Reads to the end; how much that was, and whether all of it is zero.
    fn drain(&mut self) -> io::Result<(u64, bool)> {
        let (mut bytes, mut zero) = (0_u64, true);
        loop {
            let part = self.fill_buf()?;
            let count = part.len();
            if count == 0 {
                return Ok((bytes, zero));
            }
            zero = zero && part.iter().all(|byte| *byte == 0);
            bytes = bytes.saturating_add(count as u64);
            self.consume(count);
        }
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.refill()?;
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.consumed = self.consumed.saturating_add(count as u64);
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buffer.len() >= BUFFER {
            // Large reads go by the buffer.
            let result = self.inner.read(buffer);
            match &result {
                Ok(count) => self.consumed = self.consumed.saturating_add(*count as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.failed = true,
            }
            return result.map(|count| count.min(buffer.len()));
        }
        let part = self.fill_buf()?;
        let count = part.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(part) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}
