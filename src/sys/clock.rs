//! The time of day.

/// The one place that asks for the time of day.
#[expect(clippy::disallowed_methods, reason = "this is the one function that tells the time")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
