//! The registry by its protocol, in process: requests go into the service as a server would hand them over.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod base;
mod deletes;
mod manifests;
mod mounts;
mod quotas;
mod support;
mod uploads;
