//! Threads without a blob of their own help those that have one.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// How many items a thread takes at once.
const BATCH: usize = 16;

/// How many threads have nothing to do.
#[derive(Debug, Default)]
pub(super) struct Spare(AtomicUsize);

/// Threads that help one other.
pub(super) struct Helpers<'a> {
    of: &'a Spare,
    pub(super) count: usize,
}

impl Spare {
    /// So many have nothing to do any longer.
    pub(super) fn give(&self, threads: usize) {
        self.0.fetch_add(threads, Ordering::Relaxed);
    }

    /// All that have nothing to do, until they are dropped.
    pub(super) fn take(&self) -> Helpers<'_> {
        Helpers { of: self, count: self.0.swap(0, Ordering::Relaxed) }
    }
}

impl Drop for Helpers<'_> {
    fn drop(&mut self) {
        self.of.give(self.count);
    }
}

/// Does something with each item, on this thread and so many more, each of which begins with a state of its own.
pub(super) fn spread<T: Send, S>(
    items: &mut [T],
    helpers: usize,
    begin: impl Fn() -> S + Sync,
    each: impl Fn(&mut S, &mut T) + Sync,
) {
    let helpers = helpers.min(items.len() / BATCH);
    let batches = Mutex::new(items.chunks_mut(BATCH));
    let work = || {
        let mut state = begin();
        loop {
            let Some(batch) = batches.lock().next() else { return };
            batch.iter_mut().for_each(|item| each(&mut state, item));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(work);
        }
        work();
    });
}
