//! The time of day, and a time that only goes forward.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The one place that asks for the time of day.
#[expect(clippy::disallowed_methods, reason = "this is the one function that tells the time")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// What one store takes for the time. Tests move it, and nobody else.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Milliseconds that the time since the start is ahead.
    ahead: AtomicU64,
    /// Milliseconds that the time of day is ahead.
    wall: AtomicI64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), ahead: AtomicU64::new(0), wall: AtomicI64::new(0) }
    }

    /// Since the store was opened; nobody sets this back.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }

    /// Milliseconds since 1970 by the time of day, which may jump.
    pub(crate) fn wall(&self) -> u64 {
        let now = now().as_millisecond().saturating_add(self.wall.load(Ordering::Relaxed));
        u64::try_from(now).unwrap_or_default()
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or_default();
        self.ahead.fetch_add(millis, Ordering::Relaxed);
        self.jump(i64::try_from(millis).unwrap_or_default());
    }

    /// Sets the time of day, by so many milliseconds.
    #[cfg(test)]
    pub(crate) fn jump(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::Relaxed);
    }
}
