#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

mod broken;
mod exact;
mod merging;
mod places;
mod reference;
mod sampled;
mod support;
mod synthetic;
mod threads;
mod units;
