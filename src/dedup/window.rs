//! The part of a stream that is in memory.

use super::finding::Findings;
use super::plain::Plain;

/// How much is read at once: small enough for the caches, since every granularity goes over it.
const FILL: usize = 1 << 20;

/// Bytes of a stream, from `base` on.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    end: usize,
    base: u64,
    ended: bool,
}

impl Window {
    /// Begins with another stream.
    pub(super) fn restart(&mut self) {
        (self.end, self.base, self.ended) = (0, 0, false);
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
        self.buffer.get(..self.end).unwrap_or_default()
    }

    /// All that is here from a position in the stream on.
    pub(super) fn from(&self, at: u64) -> &[u8] {
        self.bytes().get(self.place(at)..).unwrap_or_default()
    }

    /// Where a position in the stream is in [`bytes`](Self::bytes).
    pub(super) fn place(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// Forgets what stands before a position, and reads on; how many bytes that were.
    pub(super) fn advance(&mut self, keep: u64, plain: &mut Plain<'_>, findings: &mut Findings) -> usize {
        let drop = self.place(keep).min(self.end);
        self.buffer.copy_within(drop..self.end, 0);
        self.base += drop as u64;
        self.end -= drop;
        let wanted = self.end + FILL;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let before = self.end;
        while self.end < wanted {
            let read = plain.read(self.buffer.get_mut(self.end..wanted).unwrap_or_default(), findings);
            if read == 0 {
                self.ended = true;
                break;
            }
            self.end += read;
        }
        self.end - before
    }
}
