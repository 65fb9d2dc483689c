//! Storage core for OCI content: content-addressed blobs and manifests whose on-disk format is the OCI image layout, an
//! index in RocksDB for tags, repositories and the referrers graph, and reads that copy nothing.
//!
//! Start with [`Options`], which opens a [`Store`]; a [`Repository`] of it is the ordinary way to read and write, a
//! [`Batch`] makes many changes one. `ARCHITECTURE.md` has the map of the code and `docs/format.md` what is on the disk.

// Some tests are compiled from outside as well.
#[cfg(test)]
extern crate self as orlop;

mod blobs;
pub mod digest;
mod error;
mod metadata;
pub mod oci;
#[cfg(feature = "server")]
pub mod server;
mod store;
mod sys;
pub mod transfer;

pub use blobs::{Blob, BlobReader, Content, Expected, Ingest, Sharing};
pub use digest::{Algorithm, Digest};
pub use error::{Error, ErrorKind, Result};
pub use store::{
    Answers, Batch, Change, CheckpointProgress, CheckpointReport, Checkpointer, Collect, Collection,
    Collector, Commit, Committed, Durability, Event, EventLimits, EventPosition, Events, Expect, Finding,
    Flaw, Kept, Lease, LeaseEntry, LeaseId, LeftFile, Limits, Listed, NamedManifest, OnDamage, OpenReport,
    Options, Order, Page, PageToken, Publish, Pushed, Quota, ReadMode, RebuildReport, Recount, Referrers,
    ReferrersPage, Repair, RepairReport, Report, Repository, Reservation, Retention, Stat, Store, StoreUsage,
    StoredManifest, TagChange, TagEntry, UnknownFiles, Unreadable, Unscoped, Untagged, Upload, UploadId,
    UploadOptions, UploadStatus, Usage, Verifier, Verify, VerifyProgress, VerifyReport,
};

/// What the fuzz targets need of the inside. In no build but theirs.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// See `metadata::fuzzing::records`.
    pub fn records(bytes: &[u8]) {
        crate::metadata::fuzzing::records(bytes);
    }

    /// See `metadata::fuzzing::keys`.
    pub fn keys(bytes: &[u8]) {
        crate::metadata::fuzzing::keys(bytes);
    }

    /// See `metadata::fuzzing::log`.
    pub fn log(bytes: &[u8]) {
        crate::metadata::fuzzing::log(bytes);
    }

    /// See `transfer::registry::fuzzing::client`.
    #[cfg(feature = "client")]
    pub fn client(bytes: &[u8]) {
        crate::transfer::registry::fuzzing::client(bytes);
    }

    /// See `server::fuzzing::request`.
    #[cfg(feature = "server")]
    pub fn request(text: &str) {
        crate::server::fuzzing::request(text);
    }
}

/// The format on disk, byte by byte.
#[cfg(doc)]
#[doc = include_str!("../docs/format.md")]
pub mod format {}

/// How a registry embeds it; its examples are compiled with the tests.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../docs/embedding.md")]
mod embedding {}

/// The README; its example is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
