//! Putting the log on the disk once for all who wait for it.
//!
//! Rows are written, and visible, before they are on the disk. Whoever answers for them waits here, without any lock of the
//! store. The log is one file in one order, so a sync covers every row that was written before it, whoever wrote it; one
//! sync runs at a time, and those who come meanwhile share the next.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};

/// How far the log is on the disk.
#[derive(Debug, Default)]
pub(super) struct LogSync {
    state: Mutex<State>,
    done: Condvar,
    /// Those who have written, or are about to, and whose rows are not known to be on the disk.
    under_way: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Every row up to this one is on the disk.
    synced: u64,
    running: bool,
    /// The kernel may have dropped what it could not write and would answer the next sync with success, so none follows.
    failed: bool,
}

/// Somebody's rows are being written, and he answers for them only when they are on the disk.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a LogSync);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LogSync {
    /// To be begun before the rows are written, so that nobody who sees them takes them for durable.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    /// Every row up to this one is on the disk, as far as this process knows.
    pub(super) fn synced(&self) -> u64 {
        self.state.lock().synced
    }

    /// Whether somebody may see rows that are promised to nobody yet, but will be.
    pub(super) fn is_behind(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0 || self.state.lock().failed
    }

    /// Returns when every row up to `row` is on the disk. `sync` does it, and answers up to which row.
    pub(super) fn up_to(&self, row: u64, sync: impl Fn() -> Result<u64>) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if state.synced >= row {
                return Ok(());
            }
            if state.failed {
                return Err(Error::new(ErrorKind::Io, "an earlier sync of the metadata log failed"));
            }
            if !state.running {
                break;
            }
            self.done.wait(&mut state);
        }
        state.running = true;
        drop(state);
        let outcome = sync();
        let mut state = self.state.lock();
        state.running = false;
        match &outcome {
            Ok(synced) => state.synced = state.synced.max(*synced),
            Err(_) => state.failed = true,
        }
        drop(state);
        self.done.notify_all();
        outcome.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn those_who_come_during_a_sync_share_the_next() {
        let (log, syncs, written) = (LogSync::default(), AtomicUsize::new(0), AtomicU64::new(1));
        std::thread::scope(|scope| {
            let first = || {
                log.up_to(1, || {
                    let covered = written.load(Ordering::SeqCst);
                    syncs.fetch_add(1, Ordering::SeqCst);
                    // The others write while this one is under way.
                    while written.load(Ordering::SeqCst) < 9 {
                        std::thread::yield_now();
                    }
                    Ok(covered)
                })
            };
            let first = scope.spawn(first);
            while syncs.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let later: Vec<_> = (2..10)
                .map(|row| {
                    let (log, syncs, written) = (&log, &syncs, &written);
                    scope.spawn(move || {
                        written.fetch_add(1, Ordering::SeqCst);
                        let sync = || {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            Ok(written.load(Ordering::SeqCst))
                        };
                        log.up_to(row, sync)
                    })
                })
                .collect();
            first.join().unwrap().unwrap();
            later.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
        assert_eq!(syncs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn after_a_sync_that_failed_none_is_tried() {
        let log = LogSync::default();
        log.up_to(3, || Ok(5)).unwrap();
        log.up_to(5, || panic!("it is there")).unwrap();
        let fail = || Err(Error::new(ErrorKind::NoSpace, "full"));
        assert_eq!(log.up_to(6, fail).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(log.up_to(6, || panic!("tried again")).unwrap_err().kind(), ErrorKind::Io);
        log.up_to(5, || panic!("it was there before")).unwrap();
        assert!(log.is_behind());
    }

    #[test]
    fn what_is_written_and_not_synced_is_known() {
        let log = LogSync::default();
        assert!(!log.is_behind());
        let (one, other) = (log.begin(), log.begin());
        drop(one);
        assert!(log.is_behind());
        drop(other);
        assert!(!log.is_behind());
    }
}
