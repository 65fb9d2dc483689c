//! The store: content files and metadata joined into the promises of this crate, one file per promise.

mod ballast;
mod batch;
mod checkpoint;
mod collect;
mod commit;
mod content;
mod events;
mod filing;
mod format;
mod graph;
mod id;
mod ingest;
mod journal;
mod lease;
mod locks;
mod lost;
mod manifests;
mod merge;
mod merge_once;
mod names;
mod observe;
mod open;
mod options;
mod plain;
mod plan;
mod preflight;
mod publish;
mod publisher;
mod quarantine;
mod quota;
mod rebuild;
mod remove;
mod repair;
mod report;
mod repositories;
mod repository;
mod reservation;
mod retention;
mod room;
mod small;
mod submit;
mod tags;
mod take_in;
#[cfg(test)]
mod tests;
mod touched;
mod unknown;
mod unscoped;
mod uploads;
mod usage;
mod verify;
mod view_entries;
mod write;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

pub use self::batch::{Batch, Committed, Expect, Listed, Pushed, TagChange};
pub use self::checkpoint::{CheckpointProgress, CheckpointReport, Checkpointer};
pub use self::collect::{Collect, Collection, Collector, Kept, LeftFile, Unreadable};
pub use self::content::Stat;
pub use self::events::{Change, Event, EventLimits, EventPosition, Events};
pub use self::graph::{Order, PageToken, Referrers, ReferrersPage};
pub use self::lease::{Lease, LeaseEntry, LeaseId};
pub use self::manifests::StoredManifest;
pub use self::names::NamedManifest;
pub use self::options::{Answers, Durability, Limits, OnDamage, Options, Publish, ReadMode, Verify};
pub use self::quota::Quota;
pub use self::rebuild::RebuildReport;
pub use self::repair::{Repair, RepairReport};
pub use self::report::{OpenReport, Report};
pub use self::repository::Repository;
pub use self::reservation::Reservation;
pub use self::retention::{Retention, Untagged};
pub use self::submit::Commit;
pub use self::tags::TagEntry;
pub use self::unknown::UnknownFiles;
pub use self::unscoped::Unscoped;
pub use self::uploads::{Upload, UploadId, UploadOptions, UploadStatus};
pub use self::usage::{Recount, StoreUsage, Usage};
pub use self::verify::{Finding, Flaw, Verifier, VerifyProgress, VerifyReport};

use crate::blobs::Blobs;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Metadata, RepositoryId, fact};
use crate::oci::RepositoryName;
use crate::sys::{self, Dir, ScratchDir, Stat as FileStat, StoreLock};

/// The folder of a layout that is ours.
const PRIVATE: &str = ".orlop";
const BLOBS: &str = "blobs";
const METADATA: &str = "metadata";
const INGEST: &str = "ingest";
const QUARANTINE: &str = "quarantine";
/// Names the old metadata in quarantine while a rebuild is under way.
const REBUILDING: &str = "rebuilding";

/// A page of a listing.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    /// What this page holds, in order.
    pub items: Vec<T>,
    /// Whether there is more behind the last item.
    pub more: bool,
}

impl<T> Page<T> {
    /// A page of a listing that was made elsewhere.
    #[must_use]
    pub fn new(items: Vec<T>, more: bool) -> Self {
        Self { items, more }
    }

    /// Cuts what a scan collected, which went at most one item over the limit.
    fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}

/// What a visitor answers: stop, or go on.
fn until(done: bool) -> ControlFlow<()> {
    if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// A store: an OCI image layout with an index of its tags, repositories and graph.
///
/// Cheap to clone; clones are one store. The last of its handles (clones, [`Repository`], [`Batch`]) closes it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the handles of one store share; dropped with the last of them.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    collector: Mutex<Option<collect::Background>>,
    publisher: Mutex<Option<publisher::Publisher>>,
    committers: submit::Committers,
}

/// The parts of an open store.
#[derive(Debug)]
struct Core {
    // Dropped in this order: the metadata goes before the lock and before a temporary directory that holds it.
    metadata: Metadata,
    blobs: Arc<Blobs>,
    root: PathBuf,
    root_dir: Dir,
    options: Options,
    read_only: bool,
    locks: locks::Locks,
    journal: journal::Gauge,
    quotas: quota::Quotas,
    signals: publisher::Signals,
    /// Serialises publishing, merging and flushing; knows the foreign `index.json` that was merged and not replaced yet.
    publishing: Mutex<Option<FileStat>>,
    /// Keeps base rows from being settled while a repository goes.
    settling: Mutex<()>,
    /// Repositories that are deleted and whose rows could not be cleared, for want of room.
    uncleared: Mutex<Vec<RepositoryId>>,
    /// Serialises filing, which flush and the publisher both do.
    filing: Mutex<()>,
    uploads: uploads::Sessions,
    /// Serialises the steps of collections.
    collecting: Mutex<()>,
    clock: sys::Clock,
    touched: touched::Touched,
    /// How long before the open another process ended that answered others, if there was one.
    served: OnceLock<Duration>,
    /// Whether content was condemned whose file may be there.
    condemned: AtomicBool,
    leases: lease::Leases,
    /// Moves on with each entry of another tool that comes or goes.
    foreign_epoch: AtomicU64,
    sequence: AtomicU64,
    journal_ids: AtomicU64,
    next_repository: AtomicU32,
    /// Moves on when a repository is deleted, so that handles look its id up again.
    repository_epoch: AtomicU32,
    /// Whether any manifest was ever pushed here without all that it refers to.
    sparse: AtomicBool,
    poison: OnceLock<String>,
    verified: content::Verified,
    small: small::Small,
    reports: Mutex<Vec<Report>>,
    lock: Option<StoreLock>,
    /// Of the directory itself, which keeps writers of plain layouts out.
    plain_lock: Option<StoreLock>,
    ephemeral: Option<ScratchDir>,
    /// None: the store keeps no events.
    feed: Option<events::Feed>,
    opened: OpenReport,
    meters: Arc<observe::Meters>,
    ballast: ballast::Ballast,
}

impl Store {
    /// The directory of the layout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.core().root
    }

    /// Whether this is a frozen view, which refuses every write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.core().read_only
    }

    /// The ordinary way to read and write: one repository, which sees only what was pushed or mounted into it.
    ///
    /// Nothing is looked up or created before it is needed; a repository exists once something was pushed into it.
    #[must_use]
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository::new(self.clone(), name.clone())
    }

    /// The unnamed repository, whose tags are plain names in `index.json`.
    #[must_use]
    pub fn default_repository(&self) -> Repository {
        self.repository(&RepositoryName::unnamed())
    }

    /// Reads that ask no repository. For tools that own the whole store; never for answering somebody who may see only
    /// some repositories.
    #[must_use]
    pub fn unscoped(&self) -> Unscoped {
        Unscoped::new(self.clone())
    }

    /// A new batch, the unit of commit.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Files everything that is journalled and publishes `index.json`: on return the directory is a complete layout for
    /// any other tool, with everything that was committed before the call.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; `Poisoned` or `Indeterminate` when a sync failed; `NoSpace`; `Io`.
    pub fn flush(&self) -> Result<()> {
        self.core().check_writable()?;
        self.core().flush()
    }

    /// Closes the store: flushes (unless publishing is manual) and marks it clean. Dropping the last handle does the
    /// same and ignores errors. While other handles live, this only flushes, and the last of them closes.
    ///
    /// # Errors
    ///
    /// As [`Store::flush`]. The store is closed all the same; what was acknowledged is durable, and the next open
    /// completes the layout.
    pub fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared.close(),
            Err(shared) if shared.core.read_only || shared.core.options.publish == Publish::Manual => Ok(()),
            Err(shared) => shared.core.flush(),
        }
    }

    /// What opening the store for writing found and did.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.core().opened
    }

    /// What opening and publishing found and did that a person should know: foreign edits taken or refused, damage.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.core().reports.lock().clone()
    }

    /// Whether the store takes writes: an error is why it does not.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; `Poisoned` after a sync that failed, until the store is opened anew.
    pub fn check_writable(&self) -> Result<()> {
        self.core().check_writable()
    }

    /// Merges the tables of the metadata into as few as there can be. Reads are quickest after it; it costs reading and
    /// writing all metadata.
    pub fn compact(&self) {
        if !self.is_read_only() {
            self.core().metadata.compact();
        }
    }

    fn core(&self) -> &Core {
        &self.shared.core
    }
}

impl Shared {
    fn close(&self) -> Result<()> {
        if let Some(collector) = self.collector.lock().take() {
            collector.stop();
        }
        let Some(publisher) = self.publisher.lock().take() else { return Ok(()) };
        publisher.stop();
        self.core.close()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // There is nobody left to tell; what was acknowledged is durable and the next open completes the layout.
        let _ = self.close();
    }
}

impl Core {
    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                format!("store is open for reading only, path={}", self.root.display()),
            ));
        }
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(Error::new(
                ErrorKind::Poisoned,
                format!(
                    "an earlier sync failed and writes are refused until the store is reopened, cause={cause}"
                ),
            )),
        }
    }

    /// Latches a failed sync or write of rows, whatever its cause: nobody knows what is on the disk, so nothing more is
    /// written. Even a full disk, which the kernel tells only once.
    #[cold]
    fn poison(&self, error: Error) -> Error {
        if self.poison.set(error.to_string()).is_ok() {
            observe::poisoned(&error);
        }
        error.with_kind(ErrorKind::Indeterminate)
    }

    fn durable(&self) -> bool {
        self.options.durability == Durability::Power
    }

    fn report(&self, report: Report) {
        observe::finding(&report);
        report::add(&mut self.reports.lock(), report);
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The highest sequence that anything may have by now.
    fn last_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed).saturating_sub(1)
    }

    fn next_journal_id(&self) -> u64 {
        self.journal_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Flushes as the options say and leaves a store whose next open has nothing to do.
    fn close(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.check_writable()?;
        if self.ephemeral.is_some() {
            let flushed = if self.options.publish == Publish::Manual { Ok(()) } else { self.flush() };
            self.remove_plain_ingest();
            return flushed;
        }
        self.note_served(false)?;
        if self.options.publish != Publish::Manual {
            self.flush()?;
            self.prune_events()?;
            let mut rows = self.metadata.rows();
            rows.put_flag(fact::CLEAN);
            self.write_with(rows, true)?;
        }
        self.metadata.flush()?;
        self.metadata.note(true)
    }

    /// Publishes, and makes durable what was not made so at each commit.
    fn flush(&self) -> Result<()> {
        self.publish()?;
        if !self.durable() {
            self.blobs
                .sync_filesystem()
                .and_then(|()| self.metadata.sync())
                .map_err(|error| self.poison(error))?;
        }
        Ok(())
    }
}
