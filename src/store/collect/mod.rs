//! Collection: garbage goes, and nothing that anybody uses or was told of.
//!
//! What loses its last edge is queued with the commit that takes it (`lost.rs`). A collection looks at what was queued a
//! grace ago, under the stripes of a group of contents, and removes what still has no edge: first the rows, which puts down a
//! tombstone for the file; then, once an `index.json` is published that does not reach it, the file, under its stripe again
//! and only if nobody brought the content back. What a touch or a lease protects is queued again.

mod background;
mod bury;
mod foreign;
mod judge;
mod policy;
mod run;
mod work;

use std::fmt;
use std::time::Duration;

pub(super) use self::background::Background;
pub use self::background::Collect;
pub(super) use self::bury::Buried;
use self::run::Run;
use super::Store;
use super::retention::Retention;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::RepositoryName;

/// Findings of one kind that are kept.
const KEPT: usize = 1000;

/// Why something that was due stayed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Kept {
    /// Pushed, mounted or said to be here within the grace.
    pub touched: u64,
    /// A lease holds it.
    pub leased: u64,
    /// An entry of `index.json` that another tool wrote reaches it.
    pub foreign: u64,
    /// Manifests that cannot be read, so that nobody knows what they refer to.
    pub unreadable: u64,
    /// Not due yet: queued less than a grace ago. Counted up to 10,000.
    pub not_due: u64,
}

/// A manifest that would go, and that cannot be read.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// The repository that holds it.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// Why it cannot be read.
    pub reason: String,
}

/// A file of removed content that could not be taken away.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftFile {
    /// The content.
    pub digest: Digest,
    /// What the system said.
    pub reason: String,
}

/// What a collection found and did; of a dry run, what it would do.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Collection {
    /// Tags removed, because the policy of their repository keeps so many only.
    pub tags: u64,
    /// Manifests removed, counted in each repository that held them.
    pub manifests: u64,
    /// Blobs removed, counted in each repository that held them.
    pub blobs: u64,
    /// Contents that nobody holds any more and that were removed.
    pub contents: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Files taken away. Content that never got a file has none, and files that an earlier collection left count.
    pub files: u64,
    /// Leases that had expired.
    pub leases: u64,
    /// What was due and stayed, or was not due.
    pub kept: Kept,
    /// Manifests that cannot be read, up to 1,000.
    pub unreadable: Vec<Unreadable>,
    /// Removed content whose files are still there: for the next publish of `index.json` if publishing is manual, for the
    /// end of a checkpoint, or because of what is in `failed`. The next flush, collection or open takes them.
    pub waiting: u64,
    /// Files that could not be taken away, up to 1,000.
    pub failed: Vec<LeftFile>,
    /// Nothing was looked at: another process answered others until lately, and they may rely on that for so long.
    pub wait: Option<Duration>,
    /// Whether nothing that is due is left.
    pub complete: bool,
}

impl Collection {
    /// Adds what a later step of the same collection did.
    pub fn add(&mut self, step: Self) {
        let Self {
            tags,
            manifests,
            blobs,
            contents,
            bytes,
            files,
            leases,
            kept,
            unreadable,
            waiting,
            failed,
            wait,
            complete,
        } = step;
        self.tags += tags;
        self.manifests += manifests;
        self.blobs += blobs;
        self.contents += contents;
        self.bytes += bytes;
        self.files += files;
        self.leases += leases;
        self.kept.touched += kept.touched;
        self.kept.leased += kept.leased;
        self.kept.foreign += kept.foreign;
        self.kept.unreadable += kept.unreadable;
        self.kept.not_due = kept.not_due;
        for found in unreadable {
            if self.unreadable.len() < KEPT && !self.unreadable.contains(&found) {
                self.unreadable.push(found);
            }
        }
        self.waiting = waiting;
        self.failed = failed;
        self.wait = wait;
        self.complete = complete;
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tags, {} manifests, {} blobs, {} contents with {} bytes",
            self.tags, self.manifests, self.blobs, self.contents, self.bytes
        )
    }
}

/// How much one step may do.
#[derive(Clone, Copy, Debug)]
struct Budget {
    items: u64,
    time: Duration,
    /// Removed content whose files may wait for a later step: each time that files go may cost publishing `index.json`.
    waiting: u64,
}

/// A collection, made by [`Store::collector`].
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("s"))?;
/// use std::time::Duration;
/// let app = store.default_repository();
/// app.push_bytes("nobody refers to this")?;
/// let would = store.collector().grace(Duration::ZERO).dry_run(true).run()?;
/// assert_eq!((would.contents, would.bytes), (1, 21));
/// let did = store.collector().grace(Duration::ZERO).run()?;
/// assert_eq!(did.contents, 1);
/// # drop(app);
/// # store.close()
/// # }
/// ```
#[must_use = "a collection is run by `run` or `step`"]
pub struct Collector<'a> {
    store: &'a Store,
    grace: Duration,
    budget: Budget,
    dry_run: bool,
    change: Option<policy::Change<'a>>,
    run: Option<Run>,
}

/// What one step may do by default.
const ITEMS: u64 = 4096;
const TIME: Duration = Duration::from_secs(1);
/// Files that may wait for later steps where nobody is told of each.
const WAITING: u64 = 1 << 14;

impl Store {
    /// Removes what nobody needs any more: blobs that no manifest of their repository refers to, referrers whose subject was
    /// removed, tags and untagged manifests if the policy of their repository says so, and content that nobody holds. The work is proportional to what
    /// is removed, and everything else goes on meanwhile.
    pub fn collector(&self) -> Collector<'_> {
        let budget = Budget { items: ITEMS, time: TIME, waiting: 0 };
        Collector {
            store: self,
            grace: self.core().options.grace,
            budget,
            dry_run: false,
            change: None,
            run: None,
        }
    }
}

impl<'a> Collector<'a> {
    /// What came, was asked for, or lost its last name within this time stays. The grace of the store's options by
    /// default, and at most that, since nothing is remembered for longer. With zero, nothing protects what nobody names or leases:
    /// only for when nobody pushes.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// A step looks at about so many things; 4,096 by default, at least one.
    pub fn items(mut self, items: u64) -> Self {
        self.budget.items = items.max(1);
        self
    }

    /// A step takes about so long; a second by default.
    pub fn time(mut self, time: Duration) -> Self {
        self.budget.time = time;
        self
    }

    /// Only says what it would do, all of it, and changes nothing.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Has `change` say what this collection does otherwise than the policy of each repository, its own or that of the
    /// store's options.
    pub fn retention(mut self, change: impl Fn(&RepositoryName, &mut Retention) + 'a) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Collects everything that is due.
    ///
    /// # Errors
    ///
    /// `Invalid` for a grace above that of the store; `Unsupported` for a plain layout; `ReadOnly`, `Poisoned`, `Indeterminate`,
    /// `NoSpace`, `Io`, `Corrupt`. What was removed before an error stays removed; files that are left go with a later collection.
    pub fn run(mut self) -> Result<Collection> {
        self.budget.waiting = WAITING;
        let mut all = Collection::default();
        loop {
            all.add(self.step()?);
            if all.complete || all.wait.is_some() {
                return Ok(all);
            }
        }
    }

    /// Does a part of it, within the budget; the report says whether that was the rest. A dry run has only one step.
    ///
    /// # Errors
    ///
    /// As [`Collector::run`].
    pub fn step(&mut self) -> Result<Collection> {
        let core = self.store.core();
        core.check_writable()?;
        if core.ephemeral.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a plain layout has nothing to collect, path={}", core.root.display()),
            ));
        }
        if self.grace > core.options.grace {
            return Err(Error::invalid(format!(
                "what the store was asked for is not remembered for so long, grace={:?}, maximum={:?}",
                self.grace, core.options.grace
            )));
        }
        let _collecting = core.collecting.lock();
        if let Some(wait) = core.must_wait(self.grace) {
            return Ok(Collection { wait: Some(wait), ..Collection::default() });
        }
        let mut run = match self.run.take() {
            Some(run) => run,
            None => Run::begin(core, self.grace, self.dry_run)?,
        };
        let report = run.step(core, self.budget, self.change.as_ref())?;
        if !report.complete {
            self.run = Some(run);
        }
        Ok(report)
    }
}

impl fmt::Debug for Collector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("grace", &self.grace)
            .field("budget", &self.budget)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}
