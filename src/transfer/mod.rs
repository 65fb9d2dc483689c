//! Moving artifacts with everything that belongs to them from one place to another.

#[cfg(feature = "archive")]
pub mod archive;
mod copy;
mod seam;

pub use self::copy::{Absent, Copied, Copier};
pub use self::seam::{Arrival, Fetched, FoundBy, FoundReferrers, Incoming, Ready, Sink, Source};
