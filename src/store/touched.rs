//! Touches: what was pushed, mounted or said to be here stays for a grace, so that who was told so can rely on it.
//!
//! They are remembered in memory only, in filters of a fixed size that take turns: a touch may count for longer than the
//! grace, and now and then something counts that was not touched. Both only delay a collection.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLockReadGuard};

use super::Core;
use super::batch::Item;
use super::options::Answers;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{View, fact};
use crate::sys::fault::{self, Call};

/// Filters; each takes the touches of a third of the grace, and the oldest is emptied for the next.
const FILTERS: usize = 4;
/// Parts of a filter, which come into being with the first touch in them.
const PARTS: usize = 64;
/// Words of a part; all of a filter are half a mebibyte.
const WORDS: usize = 1024;
/// The shortest turn, in nanoseconds: a touch must be done within one.
const SHORTEST: u64 = 10_000_000;
/// Bits of a digest in a filter.
const BITS: usize = 4;

struct Filter {
    parts: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| OnceLock::new()).collect() }
    }
}

/// The touches of one store.
pub(super) struct Touched {
    filters: [Filter; FILTERS],
    /// The turn that the filters are prepared for.
    turn: AtomicU64,
    turning: Mutex<()>,
    /// How long a turn lasts, in nanoseconds.
    length: u64,
}

impl Filter {
    fn insert(&self, digest: &Digest) {
        for (part, word, bit) in places(digest) {
            if let Some(part) = self.parts.get(part) {
                let words = part.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
                if let Some(word) = words.get(word) {
                    word.fetch_or(bit, Ordering::SeqCst);
                }
            }
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        places(digest).all(|(part, word, bit)| {
            let words = self.parts.get(part).and_then(OnceLock::get);
            words.and_then(|words| words.get(word)).is_some_and(|word| word.load(Ordering::SeqCst) & bit != 0)
        })
    }

    fn clear(&self) {
        for word in self.parts.iter().filter_map(OnceLock::get).flat_map(|words| words.iter()) {
            word.store(0, Ordering::SeqCst);
        }
    }
}

/// Digests are even by nature, so pieces of one choose places well enough. Part, word and bit.
fn places(digest: &Digest) -> impl Iterator<Item = (usize, usize, u64)> {
    let bytes = digest.as_bytes().first_chunk::<{ 4 * BITS }>().copied().unwrap_or_default();
    (0..BITS).map(move |at| {
        let piece = bytes.get(4 * at..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
        let piece = u32::from_be_bytes(piece) as usize;
        (piece % PARTS, piece / PARTS % WORDS, 1 << (piece / PARTS / WORDS % 64))
    })
}

impl Touched {
    pub(super) fn new(grace: Duration) -> Self {
        let length = u64::try_from(grace.as_nanos() / 3).unwrap_or(u64::MAX).max(SHORTEST);
        Self { filters: Default::default(), turn: AtomicU64::new(0), turning: Mutex::new(()), length }
    }

    fn filter(&self, turn: u64) -> Option<&Filter> {
        self.filters.get(usize::try_from(turn % FILTERS as u64).unwrap_or_default())
    }

    /// The turn of a moment; its filter is empty of what was touched long before.
    fn advance(&self, now: Duration) -> u64 {
        let turn = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) / self.length;
        if turn <= self.turn.load(Ordering::SeqCst) {
            return self.turn.load(Ordering::SeqCst);
        }
        let _turning = self.turning.lock();
        let prepared = self.turn.load(Ordering::SeqCst);
        // Of a long time without touches only the last turns count.
        for next in (prepared + 1).max((turn + 1).saturating_sub(FILTERS as u64))..=turn {
            if let Some(filter) = self.filter(next) {
                filter.clear();
            }
        }
        self.turn.fetch_max(turn, Ordering::SeqCst);
        turn.max(prepared)
    }

    /// `now` tells the time since the store was opened.
    pub(super) fn touch(&self, digest: &Digest, now: impl Fn() -> Duration) {
        let mut turn = self.advance(now());
        loop {
            if let Some(filter) = self.filter(turn) {
                filter.insert(digest);
            }
            // Who is held up for long may have written into a filter that was just emptied.
            let later = self.advance(now());
            if later == turn {
                return;
            }
            turn = later;
        }
    }

    /// Whether it was touched within `grace`, which is at most that of the store.
    pub(super) fn is_touched(&self, digest: &Digest, grace: Duration, now: Duration) -> bool {
        if grace.is_zero() {
            return false;
        }
        let turn = self.advance(now);
        let nanos = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let turns = nanos.div_ceil(self.length).min(FILTERS as u64 - 1);
        (turn.saturating_sub(turns)..=turn)
            .any(|turn| self.filter(turn).is_some_and(|filter| filter.has(digest)))
    }
}

impl std::fmt::Debug for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Touched").field("turn", &self.turn).finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn touch(&self, digest: &Digest) {
        if fault::left_out(Call::Touch, &self.root) {
            return;
        }
        self.touched.touch(digest, || self.clock.elapsed());
    }

    /// For an answer whether something exists: it stays for a grace from now on, so whoever looks while he holds this, and
    /// finds it, may say so. None where nothing is collected. Whoever has a content's stripe exclusively may be waiting for a
    /// disk, so a view that does not wait is refused with `WouldBlock` then.
    pub(super) fn answering(
        &self,
        view: &View<'_>,
        digest: &Digest,
    ) -> Result<Option<RwLockReadGuard<'_, ()>>> {
        if self.read_only {
            return Ok(None);
        }
        let held = if view.waits() {
            self.locks.content_shared(digest)
        } else {
            self.locks.try_content_shared(digest).ok_or_else(|| {
                Error::new(ErrorKind::WouldBlock, format!("content is being changed, digest={digest}"))
            })?
        };
        self.touch(digest);
        Ok(held)
    }

    /// What a commit brings, holds or names. The caller holds the stripes.
    pub(super) fn touch_all<'a>(&self, sources: impl Iterator<Item = &'a Digest>, items: &[Item]) {
        sources.for_each(|digest| self.touch(digest));
        for item in items {
            match item {
                Item::Hold { digest, .. } | Item::Mount { digest, .. } => self.touch(digest),
                Item::Manifest(new) => self.touch(&new.digest),
                Item::Tag { target: Some(target), .. } => self.touch(target),
                _ => {}
            }
        }
    }

    /// Puts down that this process answers others, or that it does so no longer.
    pub(super) fn note_served(&self, answers: bool) -> Result<()> {
        if self.options.answers == Answers::Local || self.ephemeral.is_some() {
            return Ok(());
        }
        let mut rows = self.metadata.rows();
        rows.put_moment(fact::SERVED, self.clock.wall(), answers);
        self.write_unsynced(rows)
    }

    /// Looks how long ago another process answered others; whatever it said may still be relied on. Called at open, before
    /// this process puts itself down.
    pub(super) fn find_served(&self) -> Result<()> {
        let Some((at, running)) = self.metadata.view().moment(fact::SERVED)? else { return Ok(()) };
        let now = self.clock.wall();
        // One that was killed may have answered until now, and so may one whose time is not to be trusted.
        let since = if running || at > now { 0 } else { now - at };
        let _ = self.served.set(Duration::from_millis(since));
        if running || at > now {
            let mut rows = self.metadata.rows();
            rows.put_moment(fact::SERVED, now, false);
            self.write_unsynced(rows)?;
        }
        Ok(())
    }

    /// How long a collection has still to wait for those whom another process may have told something.
    pub(super) fn must_wait(&self, grace: Duration) -> Option<Duration> {
        let since = self.served.get()?.saturating_add(self.clock.elapsed());
        grace.checked_sub(since).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_counts_for_a_grace_and_not_for_ever() {
        let grace = Duration::from_secs(30);
        let digest = Digest::of(b"d");
        for start in [0, 1, 9, 10, 11, 29, 1000] {
            let touched = Touched::new(grace);
            let at = |seconds: u64| Duration::from_secs(start + seconds);
            assert!(!touched.is_touched(&digest, grace, at(0)));
            touched.touch(&digest, || at(0));
            for seconds in [0, 1, 10, 20, 29, 30] {
                assert!(touched.is_touched(&digest, grace, at(seconds)), "{start} {seconds}");
            }
            assert!(!touched.is_touched(&digest, grace, at(41)), "{start}");
            assert!(!touched.is_touched(&digest, Duration::ZERO, at(41)));
        }
    }

    #[test]
    fn a_shorter_grace_looks_back_less_far() {
        let (grace, digest) = (Duration::from_secs(30), Digest::of(b"d"));
        let touched = Touched::new(grace);
        touched.touch(&digest, || Duration::from_secs(5));
        let second = Duration::from_secs(1);
        assert!(touched.is_touched(&digest, second, Duration::from_secs(6)));
        assert!(!touched.is_touched(&digest, second, Duration::from_secs(21)));
        assert!(touched.is_touched(&digest, grace, Duration::from_secs(21)));
        assert!(!touched.is_touched(&digest, Duration::ZERO, Duration::from_secs(21)));
    }

    #[test]
    fn few_count_that_were_not_touched() {
        let grace = Duration::from_secs(30);
        let touched = Touched::new(grace);
        let digests = |range: std::ops::Range<u32>| range.map(|n| Digest::of(&n.to_be_bytes()));
        digests(0..100_000).for_each(|digest| touched.touch(&digest, || Duration::ZERO));
        assert!(digests(0..100_000).all(|digest| touched.is_touched(&digest, grace, grace)));
        let wrong =
            digests(200_000..300_000).filter(|digest| touched.is_touched(digest, grace, grace)).count();
        assert!(wrong < 500, "{wrong}");
    }

    #[test]
    fn a_touch_that_is_held_up_over_turns_is_not_lost() {
        let (grace, digest) = (Duration::from_secs(3), Digest::of(b"d"));
        let touched = Touched::new(grace);
        let calls = AtomicU64::new(0);
        // Between two looks at the clock four turns pass, and somebody else empties the filter.
        touched.touch(&digest, || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            if call == 1 {
                touched.advance(Duration::from_secs(4));
            }
            Duration::from_secs(if call == 0 { 0 } else { 4 })
        });
        assert!(touched.is_touched(&digest, grace, Duration::from_secs(6)));
    }
}
