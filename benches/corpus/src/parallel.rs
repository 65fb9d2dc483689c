//! Work on several threads, with results in the order of the items.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// Calls `work` for every item on up to `threads` threads. After an error no further item is begun.
pub fn map<I: Sync, O: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done: Mutex<Vec<(usize, Result<O>)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().ok().context("a thread has panicked")?;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_an_error_is_kept() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            map(4, &items, |&item| Ok(item * 2)).expect("all"),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        map(4, &items, |&item| if item == 57 { anyhow::bail!("no") } else { Ok(item) })
            .expect_err("one fails");
        assert!(map(4, &[] as &[u32], |&item| Ok(item)).expect("none").is_empty());
    }
}
