//! Leases: what a client keeps for a while although nothing names it, on the disk and for so long only.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::batch::{Batch, Item};
use super::locks::Need;
use super::plan::Plan;
use super::retention::time_of;
use super::{Core, Page, Store, id, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{LeaseKey, LeaseRecord, Rows, View};

/// Rows of one release that are written as one.
const CHUNK: usize = 10_000;

/// Bytes of a label.
const MAX_LABEL: usize = 1024;

/// Longer than this is for a tag.
const MAX_TIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// As errors call it.
const WHAT: &str = "a lease";

/// Under which name in no repository a lease is locked.
const NAME: &str = "\0lease";

/// The id of a lease: 128 random bits, printed and parsed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId(LeaseKey);

/// A lease as a listing shows it.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseEntry {
    /// Its id.
    pub id: LeaseId,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends unless it is renewed.
    pub expires: SystemTime,
    /// How many contents it holds.
    pub contents: u64,
    /// What its maker said it is for.
    pub label: String,
}

/// What keeps content for a while: no collection takes what a lease holds, nor a manifest or blob of a repository that it
/// holds, until it expires or is released. It says nothing about who may see what.
///
/// Leases are on the disk and outlive the process. Dropping this releases nothing.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("s"))?;
/// use std::time::Duration;
/// let images = store.default_repository();
/// let lease = store.lease(Duration::from_secs(3600), "copy of app")?;
/// let mut batch = store.batch();
/// batch.lease(&lease)?;
/// let layer = batch.push_bytes(&images, "layer")?;
/// batch.commit()?; // held by the lease with the same commit
/// lease.renew(Duration::from_secs(3600))?;
/// lease.release()?;
/// # assert!(images.stat(&layer)?.is_some());
/// # drop(images);
/// # store.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lease {
    store: Store,
    id: LeaseId,
}

/// What this process knows of leases beside their rows.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Counted at the first need.
    count: Mutex<Option<u64>>,
    /// When those of this process end, by a clock that nobody sets.
    ends: Mutex<HashMap<LeaseKey, Duration>>,
}

impl LeaseId {
    pub(super) fn of(key: LeaseKey) -> Self {
        Self(key)
    }

    pub(super) fn key(&self) -> &LeaseKey {
        &self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        id::show(&self.0, f)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = Error;

    /// Reads an id back. `Invalid` for what cannot be one.
    fn from_str(text: &str) -> Result<Self> {
        id::parse(text, WHAT).map(Self)
    }
}

impl Store {
    /// Makes a lease that ends after a time unless it is renewed. The label is for people.
    ///
    /// # Errors
    ///
    /// `Conflict` when there are as many leases as [`Limits::max_leases`](super::Limits::max_leases) allows; `Invalid` for a
    /// label above 1 KiB and for a time of zero or above ten years; `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn lease(&self, time_to_live: Duration, label: &str) -> Result<Lease> {
        let core = self.core();
        core.check_writable()?;
        if label.len() > MAX_LABEL {
            let length = label.len();
            return Err(Error::invalid(format!(
                "label of a lease is too long, length={length}, limit={MAX_LABEL}"
            )));
        }
        let created = core.clock.wall();
        let expires = created.saturating_add(millis(time_to_live)?);
        let mut count = core.leases.count.lock();
        let known = match *count {
            Some(known) => known,
            None => core.count_leases()?,
        };
        let limit = core.options.limits.max_leases;
        if known >= limit {
            *count = Some(known);
            return Err(Error::new(ErrorKind::Conflict, format!("there are too many leases, limit={limit}")));
        }
        let id = LeaseId(id::draw(WHAT)?);
        let mut rows = core.metadata.rows();
        rows.put_lease(id.key(), &LeaseRecord { created, expires, contents: 0, label: label.to_owned() });
        let unsynced = core.put(rows)?;
        *count = Some(known + 1);
        drop(count);
        core.leases.remember(id.0, core.clock.elapsed().saturating_add(time_to_live));
        core.sync(unsynced)?;
        Ok(Lease { store: self.clone(), id })
    }

    /// A lease that was made before, by whatever process. None when it was released or has expired.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn open_lease(&self, id: &LeaseId) -> Result<Option<Lease>> {
        let core = self.core();
        let live = core.live_lease(&core.metadata.view(), id.key())?.is_some();
        Ok(live.then(|| Lease { store: self.clone(), id: *id }))
    }

    /// The leases by pages in order of their ids, those behind `after`; expired ones are left out.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn leases(&self, after: Option<&LeaseId>, limit: usize) -> Result<Page<LeaseEntry>> {
        let core = self.core();
        let view = core.metadata.view();
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(Page::cut(found, 0));
        }
        view.leases(after.map(LeaseId::key), |id, record| {
            if !core.has_expired(&id, &record) {
                let time = |at| time_of(at).unwrap_or(SystemTime::UNIX_EPOCH);
                let LeaseRecord { created, expires, contents, label } = record;
                let (created, expires) = (time(created), time(expires));
                found.push(LeaseEntry { id: LeaseId(id), created, expires, contents, label });
            }
            Ok(until(found.len() > limit))
        })?;
        Ok(Page::cut(found, limit))
    }
}

impl Lease {
    /// Its id, by which another process can open it.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Holds contents or manifests that are there, whoever holds them beside. All or none.
    ///
    /// # Errors
    ///
    /// `NotFound` for content that is not there, naming it, and when the lease has ended; `Conflict` above
    /// [`Limits::max_leased`](super::Limits::max_leased); `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn add(&self, digests: &[Digest]) -> Result<()> {
        let core = self.store.core();
        core.check_writable()?;
        let names = core.locks.names([Core::lease_name(&self.id)].into_iter());
        let content = core.locks.content(digests.iter().map(|digest| (digest, Need::Shared)));
        let view = core.metadata.view();
        for digest in digests {
            if view.content(digest)?.is_none() {
                return Err(Error::not_found(format!("there is no such content to hold, digest={digest}")));
            }
        }
        let mut rows = core.metadata.rows();
        core.add_leased(&mut rows, &view, &self.id, digests.iter().copied())?;
        let unsynced = core.put(rows)?;
        drop((names, content));
        core.sync(unsynced)
    }

    /// Lets it end so much later than now, or sooner.
    ///
    /// # Errors
    ///
    /// `NotFound` when it has ended; `Invalid` as for [`Store::lease`]; `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn renew(&self, time_to_live: Duration) -> Result<()> {
        let core = self.store.core();
        core.check_writable()?;
        let time = millis(time_to_live)?;
        let names = core.locks.names([Core::lease_name(&self.id)].into_iter());
        let view = core.metadata.view();
        let record = core.live_lease(&view, self.id.key())?.ok_or_else(|| ended(&self.id))?;
        let expires = core.clock.wall().saturating_add(time);
        let mut rows = core.metadata.rows();
        rows.put_lease(self.id.key(), &LeaseRecord { expires, ..record });
        // Before the row: a lease that ends too late does no harm.
        core.leases.remember(self.id.0, core.clock.elapsed().saturating_add(time_to_live));
        let unsynced = core.put(rows)?;
        drop(names);
        core.sync(unsynced)
    }

    /// Ends it: what it held is looked at by a collection to come. Releasing one that has ended is no failure.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn release(self) -> Result<()> {
        let core = self.store.core();
        core.check_writable()?;
        core.end_lease(&self.id)
    }
}

impl Leases {
    fn remember(&self, id: LeaseKey, end: Duration) {
        self.ends.lock().insert(id, end);
    }
}

impl Core {
    fn count_leases(&self) -> Result<u64> {
        let mut count = 0;
        self.metadata.view().leases(None, |_, _| {
            count += 1;
            Ok(until(false))
        })?;
        Ok(count)
    }

    /// Both clocks must say so, where both can: one that was set forward must not end a lease.
    fn has_expired(&self, id: &LeaseKey, record: &LeaseRecord) -> bool {
        let passed = |end: &Duration| self.clock.elapsed() >= *end;
        record.expires <= self.clock.wall() && self.leases.ends.lock().get(id).is_none_or(passed)
    }

    pub(super) fn live_lease(&self, view: &View<'_>, id: &LeaseKey) -> Result<Option<LeaseRecord>> {
        Ok(view.lease(id)?.filter(|record| !self.has_expired(id, record)))
    }

    /// Whether a lease that has not expired holds a content.
    pub(super) fn is_leased(&self, view: &View<'_>, digest: &Digest) -> Result<bool> {
        let mut found = false;
        view.leases_of(digest, |id| {
            found = self.live_lease(view, &id)?.is_some();
            Ok(until(found))
        })?;
        Ok(found)
    }

    /// What locks the lease of a batch.
    pub(super) fn lease_name(id: &LeaseId) -> (&'static str, String) {
        (NAME, id.to_string())
    }

    /// The caller holds the lease's name and the stripes.
    pub(super) fn add_leased(
        &self,
        rows: &mut Rows<'_>,
        view: &View<'_>,
        id: &LeaseId,
        digests: impl Iterator<Item = Digest>,
    ) -> Result<()> {
        let mut record = self.live_lease(view, id.key())?.ok_or_else(|| ended(id))?;
        let mut new = std::collections::BTreeSet::new();
        for digest in digests {
            if !view.is_leased_by(&digest, id.key())? {
                new.insert(digest);
            }
        }
        record.contents = record.contents.saturating_add(new.len() as u64);
        let limit = self.options.limits.max_leased;
        if record.contents > limit {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the lease would hold too much, lease={id}, contents={}, limit={limit}",
                    record.contents
                ),
            ));
        }
        for digest in &new {
            rows.put_leased(id.key(), digest);
        }
        rows.put_lease(id.key(), &record);
        Ok(())
    }

    /// What a lease holds is in the queue already, which never lets go of what is only leased, so nothing has to be added.
    fn end_lease(&self, id: &LeaseId) -> Result<()> {
        let names = self.locks.names([Self::lease_name(id)].into_iter());
        let view = self.metadata.view();
        let mut rows = self.metadata.rows();
        if view.lease(id.key())?.is_none() {
            // Whoever released it may wait for the log yet.
            let unsynced = self.put(rows)?;
            drop(names);
            return self.sync(unsynced);
        }
        // Rows of what it holds go first: those that a crash leaves are found by the lease.
        view.lease_items(id.key(), |digest| {
            rows.delete_leased(id.key(), &digest);
            if rows.len() >= CHUNK {
                self.write_unsynced(std::mem::replace(&mut rows, self.metadata.rows()))?;
            }
            Ok(until(false))
        })?;
        rows.delete_lease(id.key());
        let unsynced = self.put(rows)?;
        self.leases.ends.lock().remove(id.key());
        if let Some(count) = self.leases.count.lock().as_mut() {
            *count = count.saturating_sub(1);
        }
        drop(names);
        self.sync(unsynced)
    }

    /// Ends what has expired, or all; answers how many.
    pub(super) fn end_leases(&self, all: bool) -> Result<u64> {
        let mut expired = Vec::new();
        self.metadata.view().leases(None, |id, record| {
            if all || self.has_expired(&id, &record) {
                expired.push(LeaseId(id));
            }
            Ok(until(false))
        })?;
        for id in &expired {
            self.end_lease(id)?;
        }
        Ok(expired.len() as u64)
    }

    /// Ends every lease, as a copy of a store has to that nobody made leases in.
    pub(super) fn drop_all_leases(&self) -> Result<()> {
        self.end_leases(true).map(|_| ())
    }
}

impl Batch {
    /// Lets a lease hold what the batch adds, mounts or tags, with the same commit.
    ///
    /// The commit fails with `NotFound` when the lease has ended by then, and with `Conflict` when it would hold too much.
    ///
    /// # Errors
    ///
    /// `Invalid` for a lease of another store.
    pub fn lease(&mut self, lease: &Lease) -> Result<()> {
        self.check_same(&lease.store, || format!("lease belongs to another store, lease={}", lease.id))?;
        self.add_item(Item::Lease { id: lease.id });
        Ok(())
    }
}

impl Plan<'_, '_> {
    /// Lets the leases of a batch hold what it brings or names.
    pub(super) fn lease(&mut self, items: &[Item]) -> Result<()> {
        for item in items {
            let Item::Lease { id } = item else { continue };
            let held = items.iter().filter_map(|item| match item {
                Item::Hold { digest, .. } | Item::Mount { digest, .. } => Some(*digest),
                Item::Manifest(new) => Some(new.digest),
                Item::Tag { target, .. } => *target,
                _ => None,
            });
            // Of an upload session, what is not found is the session.
            let of_upload = items.iter().any(|item| matches!(item, Item::EndUpload { .. }));
            if of_upload && self.core.live_lease(&self.view, id.key())?.is_none() {
                return Err(ended(id).with_kind(ErrorKind::Conflict));
            }
            self.core.add_leased(&mut self.planned.rows, &self.view, id, held)?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> Result<u64> {
    if time.is_zero() || time > MAX_TIME {
        return Err(Error::invalid(format!(
            "time of a lease is out of range, time={time:?}, maximum={MAX_TIME:?}"
        )));
    }
    Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1))
}

pub(super) fn ended(id: &LeaseId) -> Error {
    Error::not_found(format!("the lease has ended, lease={id}"))
}
