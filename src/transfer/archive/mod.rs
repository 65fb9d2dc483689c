//! Archives of layouts, read where they lie and written as a stream: `docs/archives.md` has the formats byte by byte.
//!
//! [`Archive`] is a place to copy from, [`Exporter`] writes one or a set of volumes, [`Importer`] takes one in, and an [`Inventory`] says what a place has, so
//! that the next export carries only the rest.

use std::ops::ControlFlow;

use crate::digest::Digest;

mod catalog;
mod codec;
mod contents;
mod docker;
mod entries;
mod export;
mod import;
mod input;
mod inventory;
mod open;
mod pax;
mod places;
mod plan;
mod proof;
mod selection;
mod staging;
mod stream;
mod tar;
mod volume;
mod writer;

pub use self::catalog::{ArchiveName, Unusable};
pub use self::codec::Compression;
pub use self::export::Exporter;
pub use self::import::{Imported, Importer, Missing};
pub use self::inventory::Inventory;
pub use self::open::{Archive, ArchiveRepository};
pub use self::pax::{PaxRecords, gnu_name};
pub use self::plan::Plan;
pub use self::stream::StreamImport;
pub use self::volume::Set;

/// Told of each content and of how many of its bytes are done; may stop the work.
type Watch<'a> = Box<dyn FnMut(&Digest, u64) -> ControlFlow<()> + 'a>;

#[cfg(test)]
mod tests;
