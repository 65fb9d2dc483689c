//! The floors of the crate that call neither the operating system nor the metadata engine, compiled here with their own
//! tests, so that an interpreter which looks for undefined behaviour can run them: `scripts/sanitize miri`.
//!
//! Nothing is copied: each module is the file of the crate.

#![allow(dead_code, reason = "who uses these is not compiled here")]

#[path = "../../../src"]
mod floors {
    pub mod digest;
    pub mod error;
    pub mod oci;

    /// The codecs of the metadata, without those that are in one file with their rows.
    mod metadata {
        mod key;
        mod record;
    }

    /// The stripes of content and of names.
    mod store {
        mod locks;
    }
}

pub use floors::{digest, error, oci};
