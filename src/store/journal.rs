//! How full the journal is.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one row costs beside its content.
const ROW: u64 = 64;

/// Counts the journalled content that waits for its files.
#[derive(Debug)]
pub(super) struct Gauge {
    limit: u64,
    bytes: AtomicU64,
    rows: AtomicU64,
}

/// Room in the journal; given back unless it was used.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    gauge: &'a Gauge,
    bytes: u64,
    rows: u64,
}

impl Gauge {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, bytes: AtomicU64::new(0), rows: AtomicU64::new(0) }
    }

    /// Room for contents of these sizes, or nothing when the journal would be over its bound.
    pub(super) fn reserve(&self, rows: u64, bytes: u64) -> Option<Reservation<'_>> {
        let bytes = bytes.saturating_add(rows.saturating_mul(ROW));
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.limit)
            })
            .ok()?;
        // Counted before the rows exist, so that a reader who finds nothing counted has nothing to look for.
        self.rows.fetch_add(rows, Ordering::SeqCst);
        Some(Reservation { gauge: self, bytes, rows })
    }

    /// Rows found at open.
    pub(super) fn found(&self, rows: u64, bytes: u64) {
        self.bytes.fetch_add(bytes.saturating_add(rows.saturating_mul(ROW)), Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::SeqCst);
    }

    /// What filing all of it takes of the filesystem, with so much more: bytes, and files.
    pub(super) fn needs(&self, rows: u64, bytes: u64, block: u64) -> (u64, u64) {
        let (rows, bytes) = {
            let (held, used) = self.used();
            (held.saturating_add(rows), used.saturating_add(bytes))
        };
        (bytes.saturating_add(rows.saturating_mul(block)), rows)
    }

    /// Rows and bytes, with what the rows cost.
    pub(super) fn used(&self) -> (u64, u64) {
        (self.rows.load(Ordering::SeqCst), self.bytes.load(Ordering::Relaxed))
    }

    /// Rows that have gone.
    pub(super) fn release(&self, rows: u64, bytes: u64) {
        self.bytes.fetch_sub(bytes.saturating_add(rows.saturating_mul(ROW)), Ordering::Relaxed);
        self.rows.fetch_sub(rows, Ordering::SeqCst);
    }

    /// The bytes that are in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.load(Ordering::SeqCst) == 0
    }

    /// Whether it is time to file without waiting for the next publish. Not early: filing takes the processors and the disk
    /// from the commits, and a burst that fits the journal should be over before it begins.
    pub(super) fn is_pressing(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit / 4 * 3
    }
}

impl Reservation<'_> {
    /// So much of it was used; the rest goes back.
    pub(super) fn keep(mut self, rows: u64, bytes: u64) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes.saturating_add(rows.saturating_mul(ROW)));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.gauge.rows.fetch_sub(self.rows, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn the_bound_holds_and_unused_room_comes_back() {
        let gauge = Gauge::new(1000);
        let first = gauge.reserve(2, 500).unwrap();
        assert!(gauge.reserve(1, 400).is_none(), "500 + 2 * 64 + 400 + 64 is over 1000");
        drop(first);
        assert!(gauge.is_empty());
        gauge.reserve(1, 936).unwrap().keep(1, 936);
        assert!(!gauge.is_empty() && gauge.is_pressing());
        assert!(gauge.reserve(1, 0).is_none());
        gauge.release(1, 936);
        assert!(gauge.is_empty() && !gauge.is_pressing());
    }
}
