//! Metadata: tags, repositories, membership, the graph and the journal, in one RocksDB.
//!
//! This folder is the only place that names the engine. It knows no files but its own: what a row says of a content
//! file is `store`'s to keep true.

mod batch;
mod key;
mod record;
mod schema;
mod view;

use std::path::Path;

use rocksdb::{ColumnFamily, DB, Options, ReadOptions, WriteBatch, WriteOptions};

pub(crate) use batch::Rows;
pub(crate) use key::{Kind, ReferrerOrder, RepositoryId};
pub(crate) use record::{ContentRecord, Fingerprint, ManifestRecord, ReferrerRecord};
pub(crate) use view::{ReferrerScan, View};

use crate::error::{Error, ErrorKind, Result};
use schema::Family;

/// Names of facts.
pub(crate) mod fact {
    pub(crate) const PUBLISHED: &str = "published";
    pub(crate) const PENDING: &str = "pending";
    pub(crate) const CLEAN: &str = "clean";
    pub(crate) const SPARSE: &str = "sparse";
}

/// The metadata of one store.
pub(crate) struct Metadata {
    db: DB,
    cache: rocksdb::Cache,
}

impl Metadata {
    /// Opens for writing; creates what is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let cache = schema::cache();
        let db = DB::open_cf_descriptors(&schema::engine(&cache, false), path, schema::families(&cache))
            .map_err(|error| engine("open the metadata", error))?;
        Ok(Self { db, cache })
    }

    /// Opens a frozen view, beside a live writer too. Writes nothing.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self> {
        let cache = schema::cache();
        let options = schema::engine(&cache, true);
        let db = DB::open_cf_descriptors_read_only(&options, path, schema::families(&cache), false)
            .map_err(|error| engine("open the metadata for reading", error))?;
        Ok(Self { db, cache })
    }

    /// Makes a damaged engine directory openable with what can be read of it. Loses what cannot.
    pub(crate) fn salvage(path: &Path) -> Result<Self> {
        let cache = schema::cache();
        let options: Options = schema::engine(&cache, false);
        DB::repair(&options, path).map_err(|error| engine("salvage the metadata", error))?;
        Self::open(path)
    }

    /// A view of what is committed, each read of its own moment.
    pub(crate) fn view(&self) -> View<'_> {
        View::live(self)
    }

    /// A view of one moment.
    pub(crate) fn snapshot(&self) -> View<'_> {
        View::of_snapshot(self)
    }

    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows::new(self)
    }

    /// A number greater than every sequence number that a row of this store carries.
    ///
    /// The engine counts every row that it ever took, and each of our sequence numbers is written with rows of its own,
    /// so its counter never falls behind ours.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.db.latest_sequence_number().saturating_add(1)
    }

    /// Writes what is only in the log and in memory into tables, so that the next open replays nothing.
    pub(crate) fn flush(&self) -> Result<()> {
        let families: Vec<&ColumnFamily> = Family::ALL.iter().map(|family| self.family(*family)).collect();
        self.db
            .flush_cfs_opt(&families, &rocksdb::FlushOptions::default())
            .map_err(|error| engine("flush the metadata", error))
    }

    /// Merges the tables into as few as there can be.
    pub(crate) fn compact(&self) {
        for family in Family::ALL {
            self.db.compact_range_cf(self.family(family), None::<&[u8]>, None::<&[u8]>);
        }
    }

    /// Clears the journal's family of the markers that removed rows leave.
    pub(crate) fn compact_journal(&self) {
        self.db.compact_range_cf(self.family(Family::Journal), None::<&[u8]>, None::<&[u8]>);
    }

    /// Puts the log on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| engine("sync the metadata log", error))
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|error| engine("write the metadata", error))
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        // All families are opened or created at open, or the open fails.
        match self.db.cf_handle(family.name()) {
            Some(handle) => handle,
            None => unreachable!("column family {} was opened", family.name()),
        }
    }

    fn read_options() -> ReadOptions {
        ReadOptions::default()
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("cached", &self.cache.get_usage()).finish_non_exhaustive()
    }
}

/// The engine's errors carry their kind; its message must not be parsed by anybody above.
#[cold]
fn engine(action: &str, error: rocksdb::Error) -> Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => ErrorKind::Corrupt,
        rocksdb::ErrorKind::IOError if error.as_ref().contains("No space left") => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot {action}")).with_source(error)
}
