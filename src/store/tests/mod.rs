//! The store under faults: the recorded order of its protocol, every fault point of every operation, and the two
//! programs of the power cuts (`tests/powercut/`).
//!
//! They live inside the crate because the fault points exist in its test binary only: nothing of a product can be told
//! to leave out a step.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests may panic, and look at files as other programs do"
)]

mod artifact;
mod checkpoint;
mod collecting;
mod events;
mod full;
mod golden;
mod interrupted;
mod model;
mod plain;
mod powercut;
mod protocol;
mod ready;
mod soak;
mod state;
#[expect(dead_code, reason = "the tests from outside use the rest")]
#[path = "../../../tests/store/support.rs"]
mod support;
mod sweep;
mod uploads;
mod usage;
mod verifying;
mod waiting;
