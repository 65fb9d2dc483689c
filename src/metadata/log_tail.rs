//! Whether a log that the engine calls damaged is only torn at its end: a look at its bytes alone.
//!
//! A log is a row of blocks of 32 KiB. A record is one fragment (full) or several (first, middle, last), none of which
//! crosses a block; each has a checksum, its length and its kind in front. The engine writes further kinds for logs that are
//! used again, compressed or tracked, which the settings here never ask for; they count as damage.
//!
//! The pages of one write reach the disk in any order, so a power cut can leave a hole of zeros in the middle of the write
//! that was under way. What makes a hole a torn end and no damage:
//!
//! - Nothing whole begins behind it. Writes go to the log in their order, and a synced one is acknowledged after all bytes up
//!   to its end are on the disk. So a cut leaves everything up to the last acknowledged record whole, and what is dropped from
//!   the first hole on was acknowledged to nobody: the write that was under way, and rows that were written unsynced
//!   before it, which promise nothing.
//! - It is a hole: a sector, or all from some byte on to the end of the log, since a page can be on its way to the disk while
//!   it is written into. A record whose bytes changed on the disk has no such zeros where it had none before; that is damage
//!   even if it is the last one, since it may be acknowledged.
//! - Nothing is in a later log. A sync of a later log syncs the earlier ones with it.
//!
//! An unsynced record with a hole and a whole record behind it look the same as an acknowledged record that lost a sector, so
//! they count as damage, which loses nothing. The last record, acknowledged and later overwritten with zeros by the disk, looks
//! the same as a torn one: it is dropped, and that is reported.

/// The size of a block.
pub(super) const BLOCK: usize = 1 << 15;

const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// The least that a disk writes.
const SECTOR: usize = 512;
/// Zeros at the end of a record that count as a sector that was not written; fewer may be its own.
const FEW: usize = 16;

/// What the logs turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Every record is whole.
    Sound,
    /// The end was not written to its end; so many bytes are dropped, counted from the begin of the first torn record.
    Torn(u64),
    Damaged,
}

/// Reads the blocks of logs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Bytes of the record that is not at its end yet.
    open: u64,
    torn: bool,
    damaged: bool,
    dropped: u64,
}

impl Tail {
    /// The next log begins.
    pub(super) fn next_log(&mut self) {
        // The record that the log before ended in the middle of.
        if self.open > 0 {
            self.tear(0);
        }
    }

    /// The next block of a log; only the last one of it is shorter.
    pub(super) fn block(&mut self, block: &[u8]) {
        if self.torn {
            self.dropped = self.dropped.saturating_add(block.len() as u64);
            self.damaged |= begins_within(block);
            return;
        }
        let mut at = 0;
        loop {
            let rest = block.get(at..).unwrap_or_default();
            if rest.len() < HEADER {
                // The end of a block is too short for a header, unless the log ends in the middle of one.
                if block.len() < BLOCK && !rest.is_empty() {
                    self.tear(rest.len());
                }
                return;
            }
            match fragment(rest) {
                Some((kind, size)) if self.follows(kind) => {
                    self.open = if matches!(kind, FULL | LAST) { 0 } else { self.open + size as u64 };
                    at += size;
                }
                whole => {
                    // A whole fragment out of its place is no hole.
                    self.damaged |= whole.is_some() || !is_hole(block, at) || begins_within(rest);
                    self.tear(rest.len());
                    return;
                }
            }
        }
    }

    /// The logs are at their end.
    pub(super) fn verdict(mut self) -> Verdict {
        self.next_log();
        match (self.torn, self.damaged) {
            (_, true) => Verdict::Damaged,
            (true, false) => Verdict::Torn(self.dropped),
            (false, false) => Verdict::Sound,
        }
    }

    fn follows(&self, kind: u8) -> bool {
        match kind {
            FULL | FIRST => self.open == 0,
            MIDDLE | LAST => self.open > 0,
            _ => false,
        }
    }

    fn tear(&mut self, rest: usize) {
        self.torn = true;
        self.dropped = self.dropped.saturating_add(self.open).saturating_add(rest as u64);
        self.open = 0;
    }
}

/// The kind and the size of the whole fragment that these bytes begin with.
fn fragment(bytes: &[u8]) -> Option<(u8, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    let known = matches!(kind, FULL | FIRST | MIDDLE | LAST);
    let fits = || checksum(kind, payload) == u32::from_le_bytes([c0, c1, c2, c3]);
    (known && fits()).then_some((kind, HEADER + payload.len()))
}

/// Whether a record begins anywhere in these bytes, at whatever place: nothing says where, behind a fragment that is bad.
fn begins_within(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        matches!(rest.get(HEADER - 1), Some(&(FULL | FIRST))) && fragment(rest).is_some()
    })
}

/// Whether the bad fragment at a place of a block lacks a sector, or all that comes behind the end of the log.
fn is_hole(block: &[u8], at: usize) -> bool {
    let header = block.get(at..).and_then(|rest| rest.first_chunk::<HEADER>());
    let Some([.., l0, l1, kind]) = header else { return true };
    let size = HEADER + usize::from(u16::from_le_bytes([*l0, *l1]));
    let mut end = block.len();
    if (FULL..=LAST).contains(kind) {
        if at + size > end && end < BLOCK {
            return true;
        }
        end = end.min(at + size);
    }
    // What is missing reaches to the end of the log: a page that is written into while it is on its way to the disk arrives
    // with a part of that, from whatever byte on.
    let zeros = block.iter().rev().take_while(|byte| **byte == 0).count();
    if block.len() < BLOCK && zeros >= FEW && (at..end).contains(&(block.len() - zeros)) {
        return true;
    }
    let mut start = at;
    while start < end {
        let stop = end.min((start / SECTOR + 1) * SECTOR);
        let sector = block.get(start..stop).unwrap_or_default();
        let least = if start == at { HEADER } else { FEW };
        if sector.len() >= least && sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        start = stop;
    }
    false
}

/// CRC-32C of the kind and the payload, stored as the engine does, so that a log within a log does not pass.
fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let crc = payload.iter().fold(step(u32::MAX, kind), |crc, byte| step(crc, *byte)) ^ u32::MAX;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn step(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    TABLE.get(usize::from(low ^ byte)).map_or(0, |entry| entry ^ (crc >> 8))
}

const TABLE: [u32; 256] = table();

#[expect(clippy::indexing_slicing, reason = "at compile time")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0x82f6_3b78 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests;
