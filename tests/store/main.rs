//! The store from outside: what the public API promises, and what other tools find in the directory.
//!
//! What is on disk is judged by a reader of its own (`support::Layout`), which shares no code with the crate.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests play the other tools and the damage"
)]
#![expect(clippy::cast_possible_truncation, reason = "sizes here are small")]

mod batch;
mod bitrot;
mod checkpoint;
mod collecting;
mod content;
mod copying;
mod crash;
mod deferred;
mod errors;
mod events;
mod foreign;
mod graph;
mod hostile;
mod leases;
mod manifests;
mod observed;
mod options;
mod plain;
mod publish;
mod readonly;
mod rebuild;
mod recovery;
mod removals;
mod repairing;
mod repositories;
mod retention;
mod sessions;
mod support;
mod tags;
mod unknown;
mod uploads;
mod usage;
mod verifying;
#[cfg(all(feature = "metrics", feature = "tracing"))]
mod watching;
