//! Whether logs that are not whole are only torn at their end: a look at their bytes alone.
//!
//! A log is a row of blocks of 32 KiB. A record is one fragment (full) or several (first, middle, last), none of which
//! crosses a block; each has a checksum, its length and its kind in front. The engine writes further kinds for logs that are
//! used again, compressed or tracked, which the settings here never ask for; they count as damage. A record of a log begins
//! with the number of its first row and how many rows it has, so a record that is missing shows in the numbers, in the middle
//! of a log and from one log to the next.
//!
//! Many write while one sync is under way, and the pages of their records reach the disk in any order; of several logs a later
//! one may be there and the end of an earlier one not. So a power cut leaves records that are whole behind others that are not.
//! What tells that from damage of the disk is what was synced, since that is whole after a cut:
//!
//! - The first row that is lost was synced if the witness beside the logs says so (`synced.rs`), or any record behind it:
//!   every record says up to which row the log was on the disk when it was made ([`witness`]). Then it is damage.
//! - Otherwise nobody was promised the first row that is lost, nor, the log having one order, any behind it. The logs are torn
//!   there, and everything from there on is dropped, whole or not: it may build on what is lost.
//! - What is not whole is a hole: a sector, or all from some byte on to the end of a sector, since a page can be on its way to
//!   the disk while it is written into. A record whose bytes changed on the disk has no such zeros where it had none before;
//!   that is damage.
//!
//! The first record may begin with any row up to the one behind those in tables (`list.rs`); if it begins later, or is not whole, the first
//! row that is lost is one of those or the next.
//!
//! What was synced last and then lost by the disk, with nothing written behind it, and since the witness was last put down, looks the
//! same as a torn end: it is dropped, and that is reported.
//!
//! The engine's list of files is made of the same records, without numbers. Each is synced before anything counts on it, so it
//! is damage if anything whole begins behind a hole.

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
    /// Every record is whole, or the last one lacks its end, which the engine knows for what it is.
    Sound,
    Torn(Cut),
    Damaged,
}

/// Where torn logs end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut {
    /// Which log it is, counted from 0. Nothing of later ones counts.
    pub(super) log: usize,
    /// What is left of it.
    pub(super) at: u64,
    /// Bytes that go, of this log and later ones.
    pub(super) dropped: u64,
}

/// Reads the blocks of logs, oldest first, or those of the engine's list of files.
#[derive(Debug)]
pub(super) struct Tail {
    /// None for a list of files.
    rows: Option<Rows>,
    /// The log that is read, and where its next block begins.
    log: usize,
    base: u64,
    /// Where the record begins that is not at its end yet.
    open: Option<u64>,
    torn: Option<Cut>,
    /// Nothing comes behind the bytes that the last log lacks at its end.
    short: bool,
    damaged: bool,
}

/// The numbers of the rows of a log.
#[derive(Debug, Default)]
struct Rows {
    /// The row that the next record begins with, once it is known.
    next: Option<u64>,
    /// Every row up to this one was synced.
    synced: u64,
    /// Rows up to this one are in tables, or in logs that begin no later than behind it.
    tables: Option<u64>,
    /// The least row of a record that is whole behind a hole.
    behind: Option<u64>,
    /// How the record that is being read begins.
    head: Vec<u8>,
}

/// What a record says of itself.
struct Head {
    row: u64,
    count: u64,
    synced: u64,
}

impl Head {
    const LEN: usize = 22;

    fn read(bytes: &[u8]) -> Option<Self> {
        /// A blob of the log, with its length.
        const SAID: [u8; 2] = [3, 8];
        let (row, rest) = bytes.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let said = rest.strip_prefix(&SAID).and_then(|rest| rest.first_chunk::<8>());
        let (row, count) = (u64::from_le_bytes(*row), u64::from(u32::from_le_bytes(*count)));
        let synced = said.map_or(0, |said| u64::from_le_bytes(*said));
        // Nobody knows of what comes later.
        Some(Self { row, count, synced: if synced < row { synced } else { 0 } })
    }
}

/// What a record says to whoever reads the logs: every row up to this one was on the disk when it was made. To be put in front
/// of its rows, as a blob for the log alone.
pub(super) fn witness(synced: u64) -> [u8; 8] {
    synced.to_le_bytes()
}

impl Rows {
    /// Takes what a whole record behind the hole tells.
    fn tell(&mut self, payload: &[u8]) {
        let Some(head) = Head::read(payload).filter(|_| payload.len() >= Head::LEN) else { return };
        // What only looks like a record is none of the rows behind.
        if self.next.is_none_or(|next| head.row > next) {
            self.behind = Some(self.behind.map_or(head.row, |least| least.min(head.row)));
            self.synced = self.synced.max(head.synced);
        }
    }

    /// Whether the first row that is lost was synced. Where nothing is left before the hole, the row before the first one
    /// behind it is lost for certain, and so is the one behind those in tables unless that comes later; if neither is known,
    /// nothing is known here.
    fn lost_what_was_synced(&self) -> bool {
        let before_the_rest = self.behind.map(|row| row.saturating_sub(1));
        let lost = self.next.or_else(|| self.latest_begin().into_iter().chain(before_the_rest).min());
        lost.is_some_and(|lost| self.synced >= lost)
    }

    /// The last row that the first record may begin with.
    fn latest_begin(&self) -> Option<u64> {
        self.tables.map(|row| row.saturating_add(1))
    }

    /// Whether a record that begins with this row is the one that follows, or may be the first.
    fn follows(&self, row: u64) -> bool {
        match self.next {
            Some(next) => row == next,
            None => self.latest_begin().is_none_or(|latest| row <= latest),
        }
    }
}

impl Tail {
    /// Of logs, of which every row up to `synced` is known to have been on the disk, and of which rows up to `tables`, if that is
    /// known, are in tables.
    pub(super) fn of_logs(synced: u64, tables: Option<u64>) -> Self {
        let synced = synced.max(tables.unwrap_or_default());
        Self { rows: Some(Rows { synced, tables, ..Rows::default() }), ..Self::of_list() }
    }

    pub(super) fn of_list() -> Self {
        Self { rows: None, log: 0, base: 0, open: None, torn: None, short: false, damaged: false }
    }

    /// The log is at its end, and another one begins.
    pub(super) fn next_log(&mut self) {
        self.end_log();
        self.log += 1;
        self.base = 0;
    }

    fn end_log(&mut self) {
        if let Some(begin) = self.open.take()
            && self.torn.is_none()
        {
            self.short = true;
            self.tear(begin);
        }
    }

    /// The next block of a log; only the last one of it is shorter.
    pub(super) fn block(&mut self, block: &[u8]) {
        if let Some(torn) = &mut self.torn {
            torn.dropped += block.len() as u64;
            self.behind(block);
        } else {
            self.read(block);
        }
    }

    fn read(&mut self, block: &[u8]) {
        let start = self.base;
        self.base += block.len() as u64;
        let mut at = 0;
        loop {
            let (rest, place) = (block.get(at..).unwrap_or_default(), start + at as u64);
            let is_last = block.len() < BLOCK;
            if rest.len() < HEADER {
                // The end of a block is too short for a header, unless the log ends in the middle of one.
                if is_last && !rest.is_empty() {
                    self.open.get_or_insert(place);
                }
                return;
            }
            match fragment(rest) {
                Some((kind, payload)) if self.follows(kind) => {
                    let begin = *self.open.get_or_insert(place);
                    at += HEADER + payload.len();
                    if !self.take(kind, payload) {
                        self.tear(begin);
                        self.behind(block.get(at..).unwrap_or_default());
                        return;
                    }
                }
                whole => {
                    let begin = self.open.take().unwrap_or(place);
                    let size = announced(rest);
                    // The engine takes it for the end of the log, whatever comes behind.
                    self.short = self.rows.is_some() && is_last && size.is_some_and(|size| size > rest.len());
                    // A whole fragment out of its place is no hole.
                    self.damaged |= whole.is_some() || (!self.short && !is_hole(block, at));
                    self.tear(begin);
                    self.search(rest, size.filter(|size| *size <= rest.len()));
                    return;
                }
            }
        }
    }

    /// Takes a fragment in its place; false where its record is at its end and is not the one that follows.
    fn take(&mut self, kind: u8, payload: &[u8]) -> bool {
        let is_whole = matches!(kind, FULL | LAST);
        let Some(rows) = &mut self.rows else {
            self.open = self.open.filter(|_| !is_whole);
            return true;
        };
        if matches!(kind, FULL | FIRST) {
            rows.head.clear();
        }
        let lacks = Head::LEN.saturating_sub(rows.head.len()).min(payload.len());
        rows.head.extend_from_slice(payload.get(..lacks).unwrap_or_default());
        if !is_whole {
            return true;
        }
        self.open = None;
        let Some(head) = Head::read(&rows.head) else {
            self.damaged = true;
            return false;
        };
        if !rows.follows(head.row) {
            // A row comes once only.
            self.damaged |= rows.next > Some(head.row);
            let head = std::mem::take(&mut rows.head);
            rows.tell(&head);
            return false;
        }
        rows.next = Some(head.row.saturating_add(head.count));
        true
    }

    /// Reads a block behind the hole: a fragment begins with it, and one behind the other.
    fn behind(&mut self, block: &[u8]) {
        self.short &= block.is_empty();
        let Some(rows) = &mut self.rows else {
            self.damaged |= begins_within(block);
            return;
        };
        let mut rest = block;
        while let Some((kind, payload)) = fragment(rest) {
            if matches!(kind, FULL | FIRST) {
                rows.tell(payload);
            }
            rest = rest.get(HEADER + payload.len()..).unwrap_or_default();
        }
    }

    /// Looks for what is whole behind a bad fragment, in its block: nothing says where that begins, unless `size`, its length,
    /// is as it was.
    fn search(&mut self, bad: &[u8], size: Option<usize>) {
        let Some(rows) = &mut self.rows else {
            self.damaged |= begins_within(bad);
            return;
        };
        let mut at = size.unwrap_or(1);
        while let Some(rest) = bad.get(at..).filter(|rest| !rest.is_empty()) {
            match fragment(rest) {
                Some((kind, payload)) => {
                    if matches!(kind, FULL | FIRST) {
                        rows.tell(payload);
                    }
                    at += HEADER + payload.len();
                }
                None => at += 1,
            }
        }
    }

    /// The logs are at their end.
    pub(super) fn verdict(mut self) -> Verdict {
        self.end_log();
        let Some(torn) = self.torn else { return Verdict::Sound };
        if self.damaged || self.rows.as_ref().is_some_and(Rows::lost_what_was_synced) {
            return Verdict::Damaged;
        }
        if self.short && self.rows.is_some() { Verdict::Sound } else { Verdict::Torn(torn) }
    }

    fn follows(&self, kind: u8) -> bool {
        match kind {
            FULL | FIRST => self.open.is_none(),
            MIDDLE | LAST => self.open.is_some(),
            _ => false,
        }
    }

    /// What was read of the log from `at` on does not count.
    fn tear(&mut self, at: u64) {
        self.torn = Some(Cut { log: self.log, at, dropped: self.base.saturating_sub(at) });
    }
}

/// The kind and the payload of the whole fragment that these bytes begin with.
fn fragment(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    let known = matches!(kind, FULL | FIRST | MIDDLE | LAST);
    let fits = || checksum(kind, payload) == u32::from_le_bytes([c0, c1, c2, c3]);
    (known && fits()).then_some((kind, payload))
}

/// What the records of a list of files hold, as far as they are whole.
pub(super) fn records(list: &[u8]) -> Vec<Vec<u8>> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    for mut rest in list.chunks(BLOCK) {
        while let Some((kind, payload)) = fragment(rest) {
            match records.last_mut().filter(|_| matches!(kind, MIDDLE | LAST)) {
                Some(record) => record.extend_from_slice(payload),
                None => records.push(payload.to_vec()),
            }
            rest = rest.get(HEADER + payload.len()..).unwrap_or_default();
        }
    }
    records
}

/// How long the fragment that these bytes begin with says that it is.
fn announced(bytes: &[u8]) -> Option<usize> {
    let [.., l0, l1, kind] = *bytes.first_chunk::<HEADER>()?;
    (FULL..=LAST).contains(&kind).then(|| HEADER + usize::from(u16::from_le_bytes([l0, l1])))
}

/// Whether a record begins anywhere in these bytes, at whatever place: nothing says where, behind a fragment that is bad.
fn begins_within(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        matches!(rest.get(HEADER - 1), Some(&(FULL | FIRST))) && fragment(rest).is_some()
    })
}

/// Whether the bad fragment at a place of a block lacks a sector or the end of one, or all that comes behind the end of the log.
fn is_hole(block: &[u8], at: usize) -> bool {
    let Some(rest) = block.get(at..).filter(|rest| rest.len() >= HEADER) else { return true };
    let mut end = block.len();
    if let Some(size) = announced(rest) {
        if at + size > end && end < BLOCK {
            return true;
        }
        end = end.min(at + size);
    }
    let mut start = at;
    while start < end {
        // A page that is written into while it is on its way to the disk arrives with a part of that, from whatever byte on.
        let stop = block.len().min((start / SECTOR + 1) * SECTOR);
        let sector = block.get(start..stop).unwrap_or_default();
        let zeros = sector.iter().rev().take_while(|byte| **byte == 0).count();
        // No fragment begins with zeros, which would be its sum.
        let is_begin = start == at && zeros == sector.len();
        if is_begin || (zeros >= FEW && stop - zeros < end) {
            return true;
        }
        start = stop;
    }
    false
}

/// CRC-32C of the kind and the payload, stored as the engine does, so that a log within a log does not pass.
fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let (words, rest) = payload.as_chunks::<8>();
    let crc = words.iter().fold(step(u32::MAX, kind), |crc, word| step_word(crc, *word));
    let crc = rest.iter().fold(crc, |crc, byte| step(crc, *byte)) ^ u32::MAX;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn step(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    entry(0, low ^ byte) ^ (crc >> 8)
}

/// Eight bytes at once, since every open reads its logs.
fn step_word(crc: u32, word: [u8; 8]) -> u32 {
    let [a, b, c, d, e, f, g, h] = word;
    let [i, j, k, l] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
    let far = entry(7, i) ^ entry(6, j) ^ entry(5, k) ^ entry(4, l);
    far ^ entry(3, e) ^ entry(2, f) ^ entry(1, g) ^ entry(0, h)
}

fn entry(behind: usize, byte: u8) -> u32 {
    TABLES.get(behind).and_then(|table| table.get(usize::from(byte))).copied().unwrap_or_default()
}

/// What a byte does to the sum, with so many bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::indexing_slicing, reason = "at compile time")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut behind = 0;
        while behind < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { 0x82f6_3b78 ^ (crc >> 1) } else { crc >> 1 };
                bit += 1;
            }
            tables[behind][byte as usize] = crc;
            behind += 1;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests;
