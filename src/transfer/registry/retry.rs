//! When something is tried again, and how long it is waited before.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::fmt::rfc2822;

use super::options::RegistryOptions;
use super::ranges::number;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// The attempts of one operation.
#[derive(Debug)]
pub(super) struct Attempts {
    options: Arc<RegistryOptions>,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(options: &Arc<RegistryOptions>) -> Self {
        Self { options: Arc::clone(options), failed: 0 }
    }

    /// Forgets what failed, since something went on.
    pub(super) fn went_on(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, for as long as the registry said if it did; gives back the failure when it was the last.
    pub(super) fn again(&mut self, failure: Error, after: Option<Duration>) -> Result<()> {
        self.failed += 1;
        if self.failed >= self.options.attempts {
            return Err(failure);
        }
        let wait = match after {
            Some(after) if after > self.options.longest_wait => {
                let seconds = after.as_secs();
                return Err(Error::new(failure.kind(), format!("{failure}, again_after={seconds}s")));
            }
            // Without a bit of chance all who were told the same come at once.
            Some(after) => after + jitter(self.options.first_wait) / 2,
            None => {
                let doubled = self.options.first_wait.saturating_mul(1 << (self.failed - 1).min(16));
                let most = doubled.min(self.options.longest_wait);
                most / 2 + jitter(most) / 2
            }
        };
        match (self.options.sleep)(wait.min(self.options.longest_wait)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(Error::new(ErrorKind::Interrupted, "interrupted while a registry was waited for")
                    .with_source(failure))
            }
        }
    }
}

/// A part of a time, by chance.
fn jitter(most: Duration) -> Duration {
    let Ok(bytes) = sys::random() else { return Duration::ZERO };
    let [first, second, ..] = bytes;
    most.mul_f64(f64::from(u16::from_be_bytes([first, second])) / 65536.0)
}

/// Whether the same request may be answered otherwise soon.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Reads `Retry-After`: seconds, or a date; nothing of what has passed, and None for what is neither.
pub(super) fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim_ascii();
    if value.len() > 64 {
        return None;
    }
    if let Some(seconds) = number(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;

    fn failure() -> Error {
        Error::new(ErrorKind::Unavailable, "busy")
    }

    #[test]
    fn waits_grow_and_end() {
        let waits = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&waits);
        let options = RegistryOptions::new().retry(4, Duration::from_secs(1), Duration::from_secs(3)).sleep(
            move |wait| {
                seen.lock().push(wait);
                ControlFlow::Continue(())
            },
        );
        let options = Arc::new(options);
        let mut attempts = Attempts::new(&options);
        for _ in 0..3 {
            attempts.again(failure(), None).unwrap();
        }
        assert_eq!(attempts.again(failure(), None).unwrap_err().to_string(), "busy");
        for (wait, most) in waits.lock().iter().zip([1.0, 2.0, 3.0]) {
            assert!((most / 2.0..=most).contains(&wait.as_secs_f64()), "{wait:?} of {most}");
        }
        // What the registry says counts, within what the caller would wait.
        let mut attempts = Attempts::new(&options);
        attempts.again(failure(), Some(Duration::from_secs(2))).unwrap();
        assert!(*waits.lock().last().unwrap() >= Duration::from_secs(2));
        let error = attempts.again(failure(), Some(Duration::from_secs(4))).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Unavailable, "busy, again_after=4s"));
        // Who waits can be woken.
        let options = Arc::new(RegistryOptions::clone(&options).sleep(|_| ControlFlow::Break(())));
        let error = Attempts::new(&options).again(failure(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn times_as_servers_write_them() {
        let now: jiff::Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}|[A-Z][a-z]{2}, [0-9]{1,9} [A-Z][a-z]{2} [0-9]{1,9} [0-9:]{0,9} GMT") {
            retry_after(&text, jiff::Timestamp::UNIX_EPOCH);
        }
    }
}
