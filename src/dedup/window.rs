//! The part of a stream that is in memory.

use std::time::Instant;

use bytes::Bytes;

use super::finding::Findings;
use super::plain::Plain;
use super::stages::Stage;

/// How much is read at once: small enough for the caches, since every granularity goes over it.
pub(super) const FILL: usize = 256 << 10;
/// The same where several threads go over it: large enough that beginning them costs little.
pub(super) const LARGE_FILL: usize = 4 << 20;

/// A stream of plain bytes, of which some may have been read before they are asked for.
pub(super) struct Source<'a, 'f> {
    plain: Plain<'a>,
    findings: &'f mut Findings,
    ahead: Vec<u8>,
    /// What of `ahead` is still to be given.
    left: std::ops::Range<usize>,
    /// Bytes that were not read, since they are in memory.
    lent: u64,
    /// Bytes and time.
    pub(super) stage: Stage,
}

impl<'a, 'f> Source<'a, 'f> {
    pub(super) fn new(plain: Plain<'a>, findings: &'f mut Findings) -> Self {
        Self { plain, findings, ahead: Vec::new(), left: 0..0, lent: 0, stage: Stage::default() }
    }

    /// Whether reading it is work.
    pub(super) fn is_compressed(&self) -> bool {
        self.encoding() != "none"
    }

    pub(super) fn encoding(&self) -> &'static str {
        self.plain.encoding()
    }

    /// Stored bytes that were read.
    pub(super) fn consumed(&self) -> u64 {
        self.plain.consumed() + self.lent
    }

    /// Reads what will be asked for next. All that was read before must have been taken.
    pub(super) fn read_ahead(&mut self, bytes: usize) {
        debug_assert!(self.left.is_empty());
        let start = Instant::now();
        if self.ahead.len() < bytes {
            self.ahead.resize(bytes, 0);
        }
        let mut end = 0;
        while end < bytes {
            match self.plain.read(self.ahead.get_mut(end..bytes).unwrap_or_default(), self.findings) {
                0 => break,
                read => end += read,
            }
        }
        self.left = 0..end;
        self.stage.add(end as u64, start);
    }

    /// More bytes; none at the end.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(ahead) = self.ahead.get(self.left.clone()).filter(|ahead| !ahead.is_empty()) else {
            let start = Instant::now();
            let read = self.plain.read(buffer, self.findings);
            self.stage.add(read as u64, start);
            return read;
        };
        let count = ahead.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), ahead.get(..count)) {
            to.copy_from_slice(from);
        }
        self.left.start += count;
        count
    }
}

/// Bytes of a stream, from `base` on.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    /// The whole stream, where it is in memory: nothing is copied then, and nothing forgotten.
    whole: Option<Bytes>,
    end: usize,
    base: u64,
    ended: bool,
}

impl Window {
    /// Begins with another stream.
    pub(super) fn restart(&mut self, whole: Option<Bytes>) {
        (self.end, self.base, self.ended) = (0, 0, false);
        self.whole = whole;
    }

    /// Whether the stream is in memory, and nothing has to be read.
    pub(super) fn is_lent(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether the stream ends with what is here.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Where the stream goes on behind what is here.
    pub(super) fn end(&self) -> u64 {
        self.base + self.end as u64
    }

    /// All that is here.
    pub(super) fn bytes(&self) -> &[u8] {
        let all = self.whole.as_deref().unwrap_or(&self.buffer);
        all.get(..self.end).unwrap_or_default()
    }

    /// All that is here from a position in the stream on.
    pub(super) fn from(&self, at: u64) -> &[u8] {
        self.bytes().get(self.place(at)..).unwrap_or_default()
    }

    /// Where a position in the stream is in [`bytes`](Self::bytes).
    pub(super) fn place(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// Forgets what stands before a position, and reads up to `fill` bytes on; how many there were.
    pub(super) fn advance(&mut self, keep: u64, fill: usize, source: &mut Source<'_, '_>) -> usize {
        let before = self.end;
        if let Some(whole) = &self.whole {
            self.end = whole.len().min(before + fill);
            self.ended = self.end == whole.len();
            source.lent += (self.end - before) as u64;
            return self.end - before;
        }
        let drop = self.place(keep).min(self.end);
        self.buffer.copy_within(drop..self.end, 0);
        self.base += drop as u64;
        self.end -= drop;
        let wanted = self.end + fill.max(source.left.len());
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let before = self.end;
        while self.end < wanted {
            let read = source.read(self.buffer.get_mut(self.end..wanted).unwrap_or_default());
            if read == 0 {
                self.ended = true;
                break;
            }
            self.end += read;
        }
        self.end - before
    }
}
