//! The registry on disks that fail and stall.
//!
//! They live inside the crate because the fault points exist in its test binary only.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod failing;
mod stalled;
