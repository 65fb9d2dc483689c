//! The registry by its protocol, in process: requests go into the service as a server would hand them over.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "tests make and move files")]

mod artifacts;
mod base;
#[cfg(feature = "client")]
mod client;
mod deletes;
mod lists;
mod manifests;
mod mounts;
mod pull;
mod quotas;
mod ranges;
mod referrers;
mod support;
mod uploads;
