//! How a store behaves: every choice, its default and the reason for it.

use std::path::Path;
use std::time::Duration;

use super::collect::Collect;
use super::events::{EventLimits, Wanted};
use super::retention::{Retention, Untagged};
use crate::error::{Error, Result};
use crate::oci::MAX_MANIFEST_SIZE;

/// What survives when a call has returned.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// What a call stored survives `kill -9`, a kernel crash and power loss, on a disk that honours flushes.
    #[default]
    Power,
    /// It survives the end of the process, but not of the machine: nothing is synced before
    /// [`Store::flush`](super::Store::flush) or close. For bulk loads that can be repeated.
    Process,
}

/// How large content reaches its reader.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReadMode {
    /// Mapped into memory without a copy. A disk that fails under a mapped read raises SIGBUS.
    #[default]
    Map,
    /// Copied into memory, where a failing disk is an error. For network or foreign directories. The memory needed is
    /// the size of the content; use a reader for what is larger than that.
    Copy,
}

/// Whether content is hashed again when it is read.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verify {
    /// It was hashed when it came; its size is checked.
    #[default]
    Never,
    /// At the first read of each content in this process, remembered in bounded memory.
    First,
    /// At every read.
    Always,
}

/// When `index.json` is brought up to date.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Publish {
    /// At most this long after a change, and at flush and close; stretched so that publishing takes at most a
    /// twentieth of the time. The default is one second.
    Interval(Duration),
    /// At flush and close.
    OnClose,
    /// At [`Store::flush`](super::Store::flush) alone.
    Manual,
}

impl Default for Publish {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}

/// What opening does about metadata that cannot be read.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnDamage {
    /// Rebuilds them, as [`Options::rebuild`] does, and says so in the [`OpenReport`](super::OpenReport): the old ones are moved
    /// aside, what they still tell is salvaged, and all content that is reached is hashed. A view that only reads shows what
    /// is published.
    #[default]
    Rebuild,
    /// Answers [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), for whoever wants to look first.
    Refuse,
}

/// Whom a process tells what the store has.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answers {
    /// Others, who may rely on it after this process has ended: a registry. Later processes collect nothing for a grace.
    #[default]
    Shared,
    /// Nobody but itself, as a command that runs once: what it was told ends with it.
    Local,
}

/// Bounds on what one caller can make the store do.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of one content. No limit by default.
    pub max_content_size: Option<u64>,
    /// Bytes of one manifest. 4 MiB, which the distribution-spec asks registries to accept, and at most that.
    pub max_manifest_size: usize,
    /// Rows of metadata in one batch; a small content makes four, a manifest about six and two for each thing that it
    /// refers to. 1,000,000 by default.
    pub max_batch_rows: usize,
    /// Bytes of journalled content that wait for their files. 32 MiB by default. Beyond it commits write files
    /// themselves.
    pub journal_size: u64,
    /// Bytes of small content in one batch that may go through the journal; a batch with more writes files and syncs
    /// them as one. 4 MiB by default.
    pub journalled_batch_size: u64,
    /// Upload sessions at one time. 10,000 by default; each costs about a hundred bytes of memory.
    pub max_uploads: usize,
    /// Bytes of all upload sessions together: what they have, or what they said that they will have. No limit by default.
    pub max_upload_bytes: Option<u64>,
    /// Leases that may be there at one time. 10,000 by default.
    pub max_leases: u64,
    /// Contents that one lease may hold. 100,000 by default.
    pub max_leased: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_content_size: None,
            max_manifest_size: MAX_MANIFEST_SIZE,
            max_batch_rows: 1_000_000,
            journal_size: 32 << 20,
            journalled_batch_size: 4 << 20,
            max_uploads: 10_000,
            max_upload_bytes: None,
            max_leases: 10_000,
            max_leased: 100_000,
        }
    }
}

/// How to open a store; the same value can open many.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let store = orlop::Options::new().verify(orlop::Verify::First).create(dir.path().join("images"))?;
/// # store.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) durability: Durability,
    pub(super) read_mode: ReadMode,
    pub(super) verify: Verify,
    pub(super) publish: Publish,
    pub(super) inline_limit: usize,
    pub(super) retention: Retention,
    pub(super) limits: Limits,
    pub(super) lock_timeout: Duration,
    pub(super) on_damage: OnDamage,
    pub(super) events: Wanted,
    pub(super) answers: Answers,
    pub(super) grace: Duration,
    pub(super) collect: Collect,
    pub(super) ballast: u64,
}

/// Content up to this many bytes goes through the journal.
const DEFAULT_INLINE_LIMIT: usize = 32 << 10;
const MAX_INLINE_LIMIT: usize = 1 << 20;

/// Garbage that is younger than this stays.
const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than this nobody waits with the rest of a push.
const MAX_GRACE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            read_mode: ReadMode::default(),
            verify: Verify::default(),
            publish: Publish::default(),
            inline_limit: DEFAULT_INLINE_LIMIT,
            retention: Retention::default(),
            limits: Limits::default(),
            lock_timeout: Duration::ZERO,
            on_damage: OnDamage::default(),
            events: Wanted::default(),
            answers: Answers::default(),
            grace: DEFAULT_GRACE,
            collect: Collect::default(),
            ballast: 0,
        }
    }
}

impl Options {
    /// The defaults: nothing acknowledged is lost, reads copy nothing, the layout is complete within a second.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What survives when a call has returned. [`Durability::Power`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How large content reaches its reader. [`ReadMode::Map`] by default.
    #[must_use]
    pub fn read_mode(mut self, read_mode: ReadMode) -> Self {
        self.read_mode = read_mode;
        self
    }

    /// Whether content is hashed again when it is read. [`Verify::Never`] by default.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// When `index.json` is brought up to date. Within a second by default.
    #[must_use]
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publish = publish;
        self
    }

    /// Content up to this many bytes is made durable in the journal, with one sync for a whole batch, and gets its file
    /// later. 32 KiB by default, at most 1 MiB.
    #[must_use]
    pub fn inline_limit(mut self, bytes: usize) -> Self {
        self.inline_limit = bytes;
        self
    }

    /// What becomes of manifests that nothing names. [`Untagged::Keep`] by default. A part of [`Options::retention`].
    #[must_use]
    pub fn untagged(mut self, untagged: Untagged) -> Self {
        self.retention.untagged = untagged;
        self
    }

    /// What a collection may take of repositories that have no policy of their own. Nothing that has a name or had one, by
    /// default.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Bounds on sizes and counts.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What opening does about metadata that cannot be read. [`OnDamage::Rebuild`] by default.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// Keeps events, which [`Store::events`](super::Store::events) reads. Off until somebody says this; from then on
    /// everybody who writes the store writes them, with or without it, so that none is missing. Not of plain layouts.
    #[must_use]
    pub fn events(mut self, limits: EventLimits) -> Self {
        self.events = Wanted::On(limits);
        self
    }

    /// Ends the keeping of events and drops those that there are.
    #[must_use]
    pub fn without_events(mut self) -> Self {
        self.events = Wanted::Off;
        self
    }

    /// Keeps a file of so many bytes, at most a hundredth of the filesystem, that is given up when the disk is full, so that
    /// the store can still be opened for writing and content removed from it. Content never gets that room, and the file
    /// is made anew when there is room for it twice. None by default; for servers, which have nobody at hand who makes room: 64
    /// MiB hold what an open may need.
    #[must_use]
    pub fn ballast(mut self, bytes: u64) -> Self {
        self.ballast = bytes;
        self
    }

    /// How long to wait for another writer before [`ErrorKind::Locked`](crate::ErrorKind::Locked). Not at all by
    /// default.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Whom this process tells what the store has. [`Answers::Shared`] by default, which is right for all that serves others.
    #[must_use]
    pub fn answers(mut self, answers: Answers) -> Self {
        self.answers = answers;
        self
    }

    /// How long content stays after it was pushed, mounted or said to be here, and after nothing names it any more. A day by
    /// default, at most a year: as long as a client may take from its first question to its manifest. Zero protects
    /// nothing but what is named or leased.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether the store collects garbage by itself. Only on request by default.
    #[must_use]
    pub fn collect(mut self, collect: Collect) -> Self {
        self.collect = collect;
        self
    }

    /// Refuses values that no store can work with, naming them.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let Limits {
            max_content_size,
            max_manifest_size,
            max_batch_rows,
            journal_size: _,
            journalled_batch_size: _,
            max_uploads: _,
            max_upload_bytes: _,
            max_leases: _,
            max_leased: _,
        } = &self.limits;
        if self.inline_limit > MAX_INLINE_LIMIT {
            return Err(Error::invalid(format!(
                "inline limit is too large, inline_limit={}, maximum={MAX_INLINE_LIMIT}",
                self.inline_limit
            )));
        }
        if *max_manifest_size == 0 || *max_manifest_size > MAX_MANIFEST_SIZE {
            return Err(Error::invalid(format!(
                "manifest limit is out of range, max_manifest_size={max_manifest_size}, maximum={MAX_MANIFEST_SIZE}"
            )));
        }
        if *max_batch_rows < 64 {
            return Err(Error::invalid(format!(
                "a batch needs room for one artifact, max_batch_rows={max_batch_rows}, minimum=64"
            )));
        }
        self.retention.check()?;
        if self.grace > MAX_GRACE {
            return Err(Error::invalid(format!("grace is over a year, grace={:?}", self.grace)));
        }
        self.collect.check()?;
        if *max_content_size == Some(0) {
            return Err(Error::invalid("content limit is zero, max_content_size=0"));
        }
        if let Wanted::On(EventLimits { count, age }) = self.events
            && (count == 0 || age.is_some_and(|age| age.is_zero()))
        {
            return Err(Error::invalid(format!(
                "limits of events would keep none, count={count}, age={age:?}"
            )));
        }
        if let Publish::Interval(interval) = self.publish
            && interval > Duration::from_secs(24 * 60 * 60)
        {
            return Err(Error::invalid(format!("publish interval is over a day, interval={interval:?}")));
        }
        if path.as_os_str().is_empty() {
            return Err(Error::invalid("path of the store is empty"));
        }
        Ok(())
    }
}
