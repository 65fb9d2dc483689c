//! The same work on many things, by a bounded number of threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Does `work` on every item, by at most `threads`; the results are in the order of the items.
///
/// Items are begun in their order. When one fails in a way that `ends` says ends it all, no further ones are begun, and the failure of
/// the first such item is what this returns, whatever the threads did when.
pub(super) fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    ends: impl Fn(&Error) -> bool + Sync,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<Result<R>>> {
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        while !ended.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = work(item);
            if result.as_ref().is_err_and(&ends) {
                ended.store(true, Ordering::Relaxed);
            }
            done.lock().push((index, result));
        }
    };
    let threads = threads.min(items.len());
    if threads <= 1 {
        worker();
    } else {
        // A panic of a worker goes on here when the scope ends.
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(worker);
            }
            worker();
        });
    }
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(index, _)| *index);
    // Items before the one that ended it were begun before it, and are done.
    let mut results = Vec::with_capacity(done.len());
    for (_, result) in done {
        match result {
            Err(error) if ends(&error) => return Err(error),
            result => results.push(result),
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn results_come_in_order_and_the_first_failure_counts() {
        let items: Vec<u64> = (0..200).collect();
        for threads in [0, 1, 7] {
            let doubled = in_parallel(threads, &items, |_| true, |item| Ok(item * 2)).unwrap();
            let doubled: Vec<u64> = doubled.into_iter().map(Result::unwrap).collect();
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
            // The later failure is there first.
            let fail = |item: &u64| match item {
                20 => {
                    thread::sleep(std::time::Duration::from_millis(20));
                    Err(Error::invalid("twenty"))
                }
                22 => Err(Error::invalid("twenty-two")),
                item => Ok(*item),
            };
            let error = in_parallel(threads, &items, |_| true, fail).unwrap_err();
            assert_eq!(error.to_string(), "twenty");
            let kept = in_parallel(threads, &items, |error| error.kind() == ErrorKind::Io, fail).unwrap();
            assert_eq!(kept.iter().filter(|result| result.is_err()).count(), 2);
            assert_eq!(kept.len(), items.len());
        }
    }
}
