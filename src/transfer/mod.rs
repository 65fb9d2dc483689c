//! Moving artifacts with everything that belongs to them from one place to another.

mod copy;
mod seam;

pub use self::copy::{Absent, Copied, Copier};
pub use self::seam::{Arrival, Fetched, FoundBy, FoundReferrers, Incoming, Ready, Sink, Source};
