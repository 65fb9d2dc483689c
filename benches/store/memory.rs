//! Anonymous memory of this process, sampled by a thread.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The highest `RssAnon` since the last reset.
#[derive(Debug)]
pub(crate) struct Peak(Arc<AtomicU64>);

impl Peak {
    /// Starts the sampling thread, which lives as long as the process.
    pub(crate) fn start(interval: Duration) -> Self {
        let highest = Arc::new(AtomicU64::new(rss_anon_kb()));
        let shared = Arc::clone(&highest);
        std::thread::spawn(move || {
            loop {
                shared.fetch_max(rss_anon_kb(), Ordering::Relaxed);
                std::thread::sleep(interval);
            }
        });
        Self(highest)
    }

    pub(crate) fn kb(&self) -> u64 {
        self.0.fetch_max(rss_anon_kb(), Ordering::Relaxed);
        self.0.load(Ordering::Relaxed)
    }

    /// Forgets what was; for a phase whose preparation is not what is measured.
    pub(crate) fn reset(&self) {
        self.0.store(rss_anon_kb(), Ordering::Relaxed);
    }
}

/// `RssAnon` of `/proc/self/status`, 0 where it cannot be read.
pub(crate) fn rss_anon_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
