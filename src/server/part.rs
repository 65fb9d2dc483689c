//! Bytes of a body that are in memory together.

use std::ops::Deref;

use bytes::Bytes;

/// Where large parts begin in memory: at addresses from which a store writes without copying them, see
/// [`Upload::append`](crate::Upload::append).
const ALIGNMENT: usize = 4096;
/// Room from which on that is worth the memory.
const LARGE: usize = 256 << 10;

/// Bytes that grow at the end, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    /// What is in front of the bytes, so that they begin where they should.
    start: usize,
}

impl Part {
    /// Adds bytes. Room grows by doubling, but never beyond the limit.
    pub(super) fn extend(&mut self, more: &[u8], limit: usize) {
        let needed = self.len() + more.len();
        let room = self.bytes.capacity() - self.start;
        if needed > room {
            self.grow((2 * room).clamp(needed, limit.max(needed)));
        }
        self.bytes.extend_from_slice(more);
    }

    fn grow(&mut self, room: usize) {
        if room < LARGE {
            self.bytes.reserve_exact(room - self.len());
            return;
        }
        let mut bytes = Vec::<u8>::with_capacity(room + ALIGNMENT);
        let start = bytes.as_ptr().addr().next_multiple_of(ALIGNMENT) - bytes.as_ptr().addr();
        bytes.resize(start, 0);
        bytes.extend_from_slice(self);
        *self = Self { bytes, start };
    }

    /// Empties it, and keeps its room.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    /// The bytes, without a copy.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.start..)
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_parts_begin_at_whole_blocks_and_no_part_grows_beyond_its_limit() {
        for (limit, piece) in [(1 << 20, 10_007), (1 << 20, 1 << 20), (4097, 1), (300_000, 299_999)] {
            let mut part = Part::default();
            for round in 0..2 {
                let mut expected = Vec::new();
                while expected.len() < limit {
                    let more = vec![u8::try_from(expected.len() % 251).unwrap_or_default(); piece];
                    let more = more.get(..piece.min(limit - expected.len())).unwrap_or_default();
                    part.extend(more, limit);
                    expected.extend_from_slice(more);
                    assert!(part.bytes.capacity() <= limit + ALIGNMENT, "{limit} {piece} {round}");
                }
                assert!(*part == *expected, "{limit} {piece} {round}");
                assert_eq!(
                    limit >= LARGE,
                    part.as_ptr().addr().is_multiple_of(ALIGNMENT) && part.bytes.capacity() > LARGE
                );
                if round == 0 {
                    part.clear();
                    assert!(part.is_empty());
                }
            }
            assert_eq!(part.into_bytes().len(), limit);
        }
    }
}
