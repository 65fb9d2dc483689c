//! Metadata: tags, repositories, membership, the graph and the journal, in one RocksDB.
//!
//! This folder is the only place that names the engine. It knows no files but its own: what a row says of a content
//! file is `store`'s to keep true.

mod batch;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod key;
mod lifecycle;
mod list;
mod log_sync;
mod log_tail;
mod logs;
mod published;
mod record;
#[cfg(test)]
mod recorded;
mod recovery;
mod retention;
mod schema;
mod synced;
mod upload;
mod view;
mod witness;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions, properties};

pub(crate) use batch::{Rows, Written};
pub(crate) use key::{Kind, ReferrerOrder, RepositoryId};
pub(crate) use lifecycle::cursor::GraphCursor;
pub(crate) use lifecycle::event::{EventChange, EventRecord, FeedRecord};
pub(crate) use lifecycle::lease::{LeaseKey, LeaseRecord};
pub(crate) use lifecycle::queue::{Class, Queued};
pub(crate) use lifecycle::quota::QuotaRecord;
pub(crate) use lifecycle::usage::{Count, CountedRows, HeldUsage, TotalUsage, Usages};
pub(crate) use record::{ContentRecord, Fingerprint, ManifestRecord, ReferrerRecord, TagRecord};
pub(crate) use retention::RetentionRecord;
pub(crate) use upload::UploadRecord;
pub(crate) use view::{GraphRow, ReferrerScan, View};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fault::{self, Call};
use crate::sys::{Dir, ScratchDir};
use list::List;
use log_sync::LogSync;
use log_tail::{Cut, Verdict};
use logs::Logs;
use schema::Family;
use synced::Synced;

/// Names of facts.
pub(crate) mod fact {
    pub(crate) const PUBLISHED: &str = "published";
    pub(crate) const PENDING: &str = "pending";
    /// The file of another tool that was merged and still stands.
    pub(crate) const MERGED: &str = "merged";
    pub(crate) const CLEAN: &str = "clean";
    pub(crate) const SPARSE: &str = "sparse";
    pub(crate) const EVENTS: &str = "events";
    /// When a process that answers others had the store open.
    pub(crate) const SERVED: &str = "served";
    pub(crate) const COUNTED: &str = "counted";
}

/// The metadata of one store.
pub(crate) struct Metadata {
    db: DB,
    cache: rocksdb::Cache,
    path: PathBuf,
    writable: bool,
    /// Bytes at the end of the log that nobody was promised and that were dropped.
    torn: Option<u64>,
    /// What was put down last of the engine's list of files.
    noted: Mutex<Option<witness::Extent>>,
    /// None of a view that only reads.
    synced: Option<Synced>,
    log: LogSync,
    /// Damage was met, and that is put down.
    met: AtomicBool,
}

/// How far metadata must come to be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extent {
    /// To the row that is known to have been synced.
    Synced,
    /// They are damaged, and what is left is read.
    Any,
}

/// What the engine reads of the logs.
enum Read<'a> {
    /// Whatever there is.
    All,
    /// Those in another directory.
    From(&'a ScratchDir),
}

impl Metadata {
    /// Opens for writing; creates what is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fault::point(Call::OpenRows, path).map_err(|error| Error::io("open the metadata", path, error))?;
        // The engine would make the directory for everybody to write into, as far as the umask lets it.
        Dir::create(path).map_err(|error| Error::io("make the directory", path, error))?;
        recovery::refuse_met(path)?;
        Self::open_writable(path, Extent::Synced)
    }

    /// The engine turns the logs into tables, and removes what its list of files does not name. So both are looked at before.
    fn open_writable(path: &Path, extent: Extent) -> Result<Self> {
        witness::check(path)?;
        let mut torn = None;
        if Logs::hold_anything(path)? {
            let (looked, cut) = Self::look(path, &List::read(path)?, extent, true)?;
            torn = looked.torn;
            drop(looked);
            if let Some((logs, cut)) = cut {
                logs.cut(&cut)?;
            }
        }
        let least = if extent == Extent::Synced { synced::least(path)? } else { 0 };
        let open = || engine_to_write(path);
        let mut opened = open();
        if is_damaged(&opened)
            && let Some(bytes) = recovery::cut_list(path)?
        {
            torn = Some(torn.unwrap_or_default().saturating_add(bytes));
            opened = open();
        }
        let (db, cache) = opened.map_err(|error| unopened("open the metadata", path, error))?;
        synced::check(path, least, db.latest_sequence_number())?;
        let metadata = Self::of(path, db, cache, torn, Some(Synced::open(path)?));
        metadata.note(true)?;
        metadata.mark_families()?;
        Ok(metadata)
    }

    /// Opens a frozen view, beside a live writer too. Writes nothing.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("open the metadata for reading", path, error);
        fault::point(Call::OpenRows, path).map_err(fail)?;
        Self::look_beside_a_writer(path, Extent::Synced)
    }

    /// The same of metadata that are known to have lost the end of their log.
    pub(crate) fn open_what_is_left(path: &Path) -> Result<Self> {
        Self::look_beside_a_writer(path, Extent::Any)
    }

    /// A live writer that puts rows into tables removes the log that they were in, which may be found missing, or not be missed
    /// although its rows are.
    fn look_beside_a_writer(path: &Path, extent: Extent) -> Result<Self> {
        let list = List::read(path)?;
        let looked = witness::check(path).and_then(|()| Self::look(path, &list, extent, false));
        if list.is_current(path)? { Ok(looked?.0) } else { Err(changed(path)) }
    }

    /// A view of tables and logs, of torn ones without what they lack; and what that is. With `mend` a torn list of files is
    /// cut, and nobody writes meanwhile.
    fn look(path: &Path, list: &List, extent: Extent, mend: bool) -> Result<(Self, Option<(Logs, Cut)>)> {
        const ACTION: &str = "open the metadata for reading";
        // Before the engine is asked: a writer beside it goes on meanwhile.
        let least = synced::least(path)?;
        let mut opened = engine_to_read(path, &Read::All);
        let mut dropped = None;
        if mend && is_damaged(&opened) {
            dropped = recovery::cut_list(path)?;
            if dropped.is_some() {
                opened = engine_to_read(path, &Read::All);
            }
        }
        let (mut db, mut cache) = opened.map_err(|error| unopened(ACTION, path, error))?;
        let from = db.property_int_value(properties::MIN_LOG_NUMBER_TO_KEEP);
        let from = from.map_err(|error| engine(ACTION, error))?.unwrap_or_default();
        let is_judged = fault::step(Call::JudgeLogs, path, OsStr::new(""));
        let is_judged = is_judged.map_err(|error| Error::io(ACTION, path, error))?;
        let logs = Logs::from(path, from)?;
        let mut verdict = if is_judged { logs.judge(least, list.rows)? } else { Some(Verdict::Sound) };
        // What lost its end, and nothing in the middle, is sound up to there.
        if extent == Extent::Any
            && verdict == Some(Verdict::Damaged)
            && logs.judge(0, None)? == Some(Verdict::Sound)
        {
            verdict = Some(Verdict::Sound);
        }
        let mut torn = None;
        let reopened = match verdict {
            Some(Verdict::Sound) => None,
            Some(Verdict::Damaged) => return Err(damaged_log(path)),
            Some(Verdict::Torn(cut)) => {
                dropped = Some(dropped.unwrap_or_default().saturating_add(cut.dropped));
                torn = Some(cut);
                Some(engine_to_read(path, &Read::From(&logs.lend(&cut)?)))
            }
            None => return Err(changed(path)),
        };
        if let Some(reopened) = reopened {
            (db, cache) = reopened.map_err(|error| unopened(ACTION, path, error))?;
        }
        if extent == Extent::Synced {
            synced::check(path, least, db.latest_sequence_number())?;
        }
        Ok((Self::of(path, db, cache, dropped, None), torn.map(|cut| (logs, cut))))
    }

    fn of(path: &Path, db: DB, cache: rocksdb::Cache, torn: Option<u64>, synced: Option<Synced>) -> Self {
        let (path, met, log) = (path.to_path_buf(), AtomicBool::new(false), LogSync::default());
        let writable = synced.is_some();
        Self { db, cache, path, writable, torn, noted: Mutex::new(None), synced, log, met }
    }

    /// Bytes at the end of the log and of the list of files that were not written to their end when the power failed. Nobody
    /// was promised them.
    pub(crate) fn torn(&self) -> Option<u64> {
        self.torn
    }

    /// Puts down how far the engine's list of files goes, so that the next open notices if it is less. `alone` says that
    /// nobody writes rows meanwhile, which is cheaper.
    pub(crate) fn note(&self, alone: bool) -> Result<()> {
        // The list is written when rows go into tables, and when a sync finds more than one log; and synced each time
        // before that is over.
        let none = |property| matches!(self.db.property_int_value(property), Ok(Some(0)));
        let settled =
            || alone && none(properties::NUM_RUNNING_FLUSHES) && none(properties::NUM_RUNNING_COMPACTIONS);
        let mut noted = self.noted.lock();
        *noted = witness::note(&self.path, *noted, settled)?;
        Ok(())
    }

    /// Every family keeps one row in a table of its own: the engine's repair finds families by their tables, and would
    /// drop the rows that the log has of a family without any.
    fn mark_families(&self) -> Result<()> {
        let journal = self.family(Family::Journal);
        let found = self
            .db
            .get_pinned_cf(journal, schema::MARK)
            .map_err(|error| self.met("read the metadata", error))?;
        if found.is_some() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for family in Family::ALL {
            batch.put_cf(self.family(family), schema::MARK, []);
        }
        self.write(batch)?;
        self.flush()
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
            .map_err(|error| self.met("flush the metadata", error))
    }

    /// Makes other metadata with the rows of this moment in a directory that must not exist and whose parent must: tables get
    /// further names, or are copied where they cannot. Durable when it returns. Writing goes on meanwhile.
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<()> {
        const ACTION: &str = "copy the metadata";
        fault::point(Call::CopyRows, to).map_err(|error| Error::io(ACTION, to, error))?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|error| self.met(ACTION, error))
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

    /// Puts everything that was written by now on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_up_to(self.db.latest_sequence_number())
    }

    /// Puts on the disk what others have written and wait for, if there is anything: who saw it may answer for it then.
    pub(crate) fn sync_others(&self) -> Result<()> {
        if self.log.is_behind() { self.sync() } else { Ok(()) }
    }

    fn sync_up_to(&self, row: u64) -> Result<()> {
        const ACTION: &str = "sync the metadata log";
        self.log.up_to(row, || {
            // Before the sync: what comes while it runs may be in it or not.
            let before = self.db.latest_sequence_number();
            if self.step(Call::SyncRows, ACTION)? {
                self.db.flush_wal(true).map_err(|error| self.met(ACTION, error))?;
                if let Some(synced) = &self.synced {
                    synced.note(before);
                }
            }
            Ok(before)
        })
    }

    /// Writes rows as one, into the log and into memory. Nothing is synced.
    fn write(&self, batch: WriteBatch) -> Result<()> {
        const ACTION: &str = "write the metadata";
        fault::point(Call::WriteRows, &self.path).map_err(|error| self.fail(ACTION, error))?;
        #[cfg(test)]
        fault::wrote_rows(&self.path, || recorded::in_words(&batch));
        self.db.write_opt(batch, &WriteOptions::default()).map_err(|error| self.met(ACTION, error))
    }

    fn step(&self, call: Call, action: &str) -> Result<bool> {
        fault::step(call, &self.path, OsStr::new("")).map_err(|error| self.fail(action, error))
    }

    #[cold]
    fn fail(&self, action: &str, error: io::Error) -> Error {
        Error::io(action, &self.path, error)
    }

    /// An error of the engine. Damage is put down, since the next open would not meet it and would heal nothing.
    #[cold]
    fn met(&self, action: &str, error: rocksdb::Error) -> Error {
        let error = engine(action, error);
        if error.kind() == ErrorKind::Corrupt && self.writable && !self.met.swap(true, Ordering::Relaxed) {
            // If that fails too, the next one that meets it tries again.
            let is_put_down = recovery::put_down_met(&self.path, &error).is_ok();
            self.met.store(is_put_down, Ordering::Relaxed);
        }
        error
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

type Opened = std::result::Result<(DB, rocksdb::Cache), rocksdb::Error>;

fn engine_to_write(path: &Path) -> Opened {
    let cache = schema::cache();
    let db = DB::open_cf_descriptors(&schema::engine(&cache, false), path, schema::families(&cache))?;
    Ok((db, cache))
}

fn engine_to_read(path: &Path, read: &Read<'_>) -> Opened {
    let cache = schema::cache();
    let mut options = schema::engine(&cache, true);
    match read {
        Read::All => schema::tolerate_all(&mut options),
        Read::From(dir) => options.set_wal_dir(dir.path()),
    }
    let db = DB::open_cf_descriptors_read_only(&options, path, schema::families(&cache), false)?;
    Ok((db, cache))
}

fn is_damaged(opened: &Opened) -> bool {
    opened.as_ref().is_err_and(|error| error.kind() == rocksdb::ErrorKind::Corruption)
}

#[cold]
fn changed(path: &Path) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("the metadata changed while they were opened for reading, path={}", path.display()),
    )
}

#[cold]
fn damaged_log(path: &Path) -> Error {
    let path = path.display();
    Error::corrupt(format!("the engine's log is not what was written, rebuild the store, path={path}"))
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
        // Asked of a view that does not wait.
        rocksdb::ErrorKind::Incomplete => ErrorKind::WouldBlock,
        rocksdb::ErrorKind::IOError if error.as_ref().contains("No space left") => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot {action}")).with_source(error)
}
