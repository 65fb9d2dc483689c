//! Metadata: tags, repositories, membership, the graph and the journal, in one RocksDB.
//!
//! This folder is the only place that names the engine. It knows no files but its own: what a row says of a content
//! file is `store`'s to keep true.

mod batch;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod key;
mod lifecycle;
mod record;
#[cfg(test)]
mod recorded;
mod retention;
mod schema;
mod upload;
mod view;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, Options, WriteBatch, WriteOptions};

pub(crate) use batch::Rows;
pub(crate) use key::{Kind, ReferrerOrder, RepositoryId};
pub(crate) use lifecycle::event::{EventChange, EventRecord, FeedRecord};
pub(crate) use record::{ContentRecord, Fingerprint, ManifestRecord, ReferrerRecord, TagRecord};
pub(crate) use retention::RetentionRecord;
pub(crate) use upload::UploadRecord;
pub(crate) use view::{GraphRow, ReferrerScan, View};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fault::{self, Call};
use crate::sys::{self, Dir};
use schema::Family;

/// Names of facts.
pub(crate) mod fact {
    pub(crate) const PUBLISHED: &str = "published";
    pub(crate) const PENDING: &str = "pending";
    pub(crate) const CLEAN: &str = "clean";
    pub(crate) const SPARSE: &str = "sparse";
    pub(crate) const EVENTS: &str = "events";
}

/// The metadata of one store.
pub(crate) struct Metadata {
    db: DB,
    cache: rocksdb::Cache,
    path: PathBuf,
}

impl Metadata {
    /// Opens for writing; creates what is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fault::point(Call::OpenRows, path).map_err(|error| Error::io("open the metadata", path, error))?;
        // The engine would make the directory for everybody to write into, as far as the umask lets it.
        Dir::create(path).map_err(|error| Error::io("make the directory", path, error))?;
        let cache = schema::cache();
        let db = DB::open_cf_descriptors(&schema::engine(&cache, false), path, schema::families(&cache))
            .map_err(|error| unopened("open the metadata", path, error))?;
        let metadata = Self { db, cache, path: path.to_path_buf() };
        metadata.mark_families()?;
        Ok(metadata)
    }

    /// Opens a frozen view, beside a live writer too. Writes nothing.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("open the metadata for reading", path, error);
        fault::point(Call::OpenRows, path).map_err(fail)?;
        let cache = schema::cache();
        let options = schema::engine(&cache, true);
        let db = DB::open_cf_descriptors_read_only(&options, path, schema::families(&cache), false)
            .map_err(|error| unopened("open the metadata for reading", path, error))?;
        Ok(Self { db, cache, path: path.to_path_buf() })
    }

    /// Every family keeps one row in a table of its own: the engine's repair finds families by their tables, and would
    /// drop the rows that the log has of a family without any.
    fn mark_families(&self) -> Result<()> {
        let journal = self.family(Family::Journal);
        let found = self
            .db
            .get_pinned_cf(journal, schema::MARK)
            .map_err(|error| engine("read the metadata", error))?;
        if found.is_some() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for family in Family::ALL {
            batch.put_cf(self.family(family), schema::MARK, []);
        }
        self.write(batch, false)?;
        self.flush()
    }

    /// Makes a damaged engine directory openable with what can be read of it. Loses what cannot.
    pub(crate) fn salvage(path: &Path) -> Result<Self> {
        // A bad pointer to a good manifest is the lesser damage: with the newest manifest nothing is lost.
        if let Ok(metadata) = repoint(path).and_then(|()| Self::open(path)) {
            return Ok(metadata);
        }
        lend_families(path)?;
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
        self.rows_of(0)
    }

    /// Room for about so many bytes of keys and values.
    pub(crate) fn rows_of(&self, bytes: usize) -> Rows<'_> {
        Rows::with_capacity(self, bytes)
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
        fault::point(Call::FlushRows, &self.path).map_err(|error| self.fail("flush the metadata", error))?;
        let families: Vec<&ColumnFamily> = Family::ALL.iter().map(|family| self.family(*family)).collect();
        self.db
            .flush_cfs_opt(&families, &rocksdb::FlushOptions::default())
            .map_err(|error| engine("flush the metadata", error))
    }

    /// Makes other metadata with the rows of this moment in a directory that must not exist and whose parent must: tables get
    /// further names, or are copied where they cannot. Durable when it returns. Writing goes on meanwhile.
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<()> {
        const ACTION: &str = "copy the metadata";
        fault::point(Call::CopyRows, to).map_err(|error| Error::io(ACTION, to, error))?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|error| engine(ACTION, error))
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
        if self.step(Call::SyncRows, "sync the metadata log")? {
            self.db.flush_wal(true).map_err(|error| engine("sync the metadata log", error))?;
        }
        Ok(())
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<()> {
        const ACTION: &str = "write the metadata";
        fault::point(Call::WriteRows, &self.path).map_err(|error| self.fail(ACTION, error))?;
        #[cfg(test)]
        fault::wrote_rows(&self.path, || recorded::in_words(&batch));
        // A sync that fails in a test fails after the rows were written, as it may in earnest.
        let step = if sync { self.step(Call::SyncRows, ACTION) } else { Ok(false) };
        let mut options = WriteOptions::default();
        options.set_sync(step.as_ref().is_ok_and(|wanted| *wanted));
        self.db.write_opt(batch, &options).map_err(|error| engine(ACTION, error))?;
        step.map(|_| ())
    }

    fn step(&self, call: Call, action: &str) -> Result<bool> {
        fault::step(call, &self.path, OsStr::new("")).map_err(|error| self.fail(action, error))
    }

    #[cold]
    fn fail(&self, action: &str, error: io::Error) -> Error {
        Error::io(action, &self.path, error)
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        // All families are opened or created at open, or the open fails.
        match self.db.cf_handle(family.name()) {
            Some(handle) => handle,
            None => unreachable!("column family {} was opened", family.name()),
        }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("cached", &self.cache.get_usage()).finish_non_exhaustive()
    }
}

/// Lets the engine's `CURRENT` name the newest of its manifests.
fn repoint(path: &Path) -> Result<()> {
    const CURRENT: &str = "CURRENT";
    let fail = |error| Error::io("salvage the metadata", path, error);
    let dir = Dir::open(path).map_err(fail)?;
    let mut newest: Option<String> = None;
    for name in dir.list().map_err(fail)? {
        // Their numbers have leading zeros, so the order of names is that of numbers.
        let name = name.map_err(fail)?.to_string_lossy().into_owned();
        if name.starts_with("MANIFEST-") && Some(&name) > newest.as_ref() {
            newest = Some(name);
        }
    }
    let newest = newest
        .ok_or_else(|| Error::corrupt(format!("metadata have no manifest, path={}", path.display())))?;
    sys::replace(&dir, &dir, CURRENT, format!("{newest}\n").as_bytes()).map_err(fail)
}

/// Gives every family one more table, with nothing but its mark, from fresh metadata that make the same families in the same
/// order: the engine's repair drops what the log has of a family whose tables are all damaged.
fn lend_families(path: &Path) -> Result<()> {
    const LENT: &str = "lent";
    let fail = |error| Error::io("salvage the metadata", path, error);
    let dir = Dir::open(path).map_err(fail)?;
    let names = |dir: &Dir| -> Result<Vec<String>> {
        let names = dir.list().and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(fail)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    };
    let clear = || -> Result<()> {
        let Some(lent) = dir.open_dir(LENT).map_err(fail)? else { return Ok(()) };
        for name in names(&lent)? {
            lent.unlink(&name).map_err(fail)?;
        }
        dir.remove_dir(LENT).map_err(fail)
    };
    // What an interrupted salvage left.
    clear()?;
    let number = |name: &String| -> Option<u64> {
        let digits = name.strip_prefix("MANIFEST-").unwrap_or(name);
        digits.split('.').next()?.parse().ok()
    };
    let mut last = names(&dir)?.iter().filter_map(number).max().unwrap_or_default();
    drop(Metadata::open(&path.join(LENT))?);
    if let Some(lent) = dir.open_dir(LENT).map_err(fail)? {
        for name in names(&lent)?.iter().filter(|name| name.ends_with(".sst")) {
            last += 1;
            lent.rename(name, &dir, format!("{last:06}.sst")).map_err(fail)?;
        }
    }
    clear()
}

/// Damage that shows at open has one way out.
#[cold]
fn unopened(action: &str, path: &Path, error: rocksdb::Error) -> Error {
    let damaged =
        matches!(error.kind(), rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument)
            || error.as_ref().contains("No such file");
    if !damaged {
        return engine(action, error);
    }
    Error::corrupt(format!("cannot {action}: they are damaged, rebuild the store, path={}", path.display()))
        .with_source(error)
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
