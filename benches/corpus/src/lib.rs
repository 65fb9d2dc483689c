//! Images and artifacts to measure deduplication on.
//!
//! Real ones are made of packages of Debian and of files of other registries that a lock file names, synthetic ones of
//! pseudo-random bytes whose duplicates are known. Both come out as OCI image layouts, and the same input gives the same
//! digests. `README.md` says how to use the program.
#![cfg_attr(test, expect(clippy::indexing_slicing, reason = "a test may panic"))]

pub mod apt;
pub mod artifact;
pub mod cache;
pub mod control;
pub mod deb;
pub mod gather;
pub mod image;
pub mod layout;
pub mod lock;
pub mod parallel;
pub mod random;
pub mod recipe;
pub mod registries;
pub mod report;
pub mod resolve;
pub mod synthetic;
pub mod tree;
pub mod version;
