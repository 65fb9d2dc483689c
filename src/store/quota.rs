//! Quotas: limits on what a repository, or the store, may come to hold, kept when many commit at once.
//!
//! What is limited has its usage in memory too, with what commits under way add to it, so that two of them never both take
//! the last room. A commit asks before it names or journals a byte; content that is added to a batch, and uploads that
//! announce their size, ask before that. Upload sessions hold room for what they have as long as they live. What makes
//! nothing grow is never refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::locks::Need;
use super::repository::Repository;
use super::reservation::{Reservation, reserved_for};
use super::{Core, Store, until};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Count, QuotaRecord, RepositoryId, Usages};
use crate::oci::RepositoryName;

/// Limits on what a repository may hold, or the store; no limit where there is no number, as by default.
///
/// Of a repository they limit [`Usage::objects`](super::Usage::objects) and [`Usage::bytes`](super::Usage::bytes), of a
/// store [`StoreUsage::stored_objects`](super::StoreUsage::stored_objects) and
/// [`StoreUsage::stored_bytes`](super::StoreUsage::stored_bytes).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "callers make it; usage has these two dimensions")]
pub struct Quota {
    /// Contents and manifests.
    pub objects: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
}

/// Under which name in no repository the quota of the store is locked.
const NAME: &str = "\0quota";

/// Whose limits: those of a repository, or of the store.
pub(super) type Owner = Option<RepositoryId>;

/// What a commit brings along for the quotas.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// What was reserved for it, and goes back as it grows.
    pub(super) reservations: Vec<Reservation>,
    /// Not a caller's, so no bound counts: what other tools wrote is there already.
    pub(super) unlimited: bool,
}

/// All quotas of an open store.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// Held for reading while rows are written, never while anything is synced, so that a limit begins with the whole usage
    /// and nobody waits for it.
    pub(super) limited: RwLock<BTreeMap<Owner, Arc<Limited>>>,
    /// Tells those of one store from those of another.
    pub(super) own: Arc<()>,
}

/// One repository, or the store, that has limits.
#[derive(Debug)]
pub(super) struct Limited {
    /// None for the store.
    repository: Option<RepositoryName>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    quota: Quota,
    /// What is held.
    used: Count,
    /// What commits under way add.
    coming: Count,
    pub(super) reserved: Count,
}

/// A commit that may go on; unless it says that it was written, what it takes goes back.
#[derive(Debug)]
pub(super) struct Admitted {
    parts: Vec<Part>,
    /// What was reserved for it, and is so again if it is not written.
    reservations: Vec<Reservation>,
    written: bool,
}

/// What a commit adds to one limit.
#[derive(Debug)]
struct Part {
    owner: Owner,
    limited: Arc<Limited>,
    amount: Count,
}

impl Quotas {
    /// Takes room for what a commit adds, all of it or none.
    pub(super) fn admit(&self, changes: &Usages, terms: &Terms) -> Result<Admitted> {
        let reservations = terms.reservations.iter().map(Reservation::share).collect();
        let mut admitted = Admitted { parts: Vec::new(), reservations, written: false };
        let all = self.limited.read();
        // In the order of the map, and no more of it than the commit touches.
        for (owner, amount) in amounts(changes) {
            if let Some(limited) = all.get(&owner) {
                admitted.parts.push(Part { owner, limited: Arc::clone(limited), amount });
            }
        }
        drop(all);
        let mut states: Vec<(&Part, MutexGuard<'_, State>)> = Vec::with_capacity(admitted.parts.len());
        for part in &admitted.parts {
            // Everybody takes them in the order of the map.
            let state = part.limited.state.lock();
            if !terms.unlimited {
                let own = reserved_for(&terms.reservations, &part.limited);
                if let Err(refusal) = part.limited.check(&state, part.amount, own) {
                    drop((state, states));
                    // Nothing was taken.
                    admitted.parts.clear();
                    return Err(refusal);
                }
            }
            states.push((part, state));
        }
        for (part, state) in &mut states {
            for reservation in &admitted.reservations {
                add(&mut state.reserved, reservation.spend(&part.limited), -1);
            }
            add(&mut state.coming, growth(part.amount), 1);
        }
        drop(states);
        Ok(admitted)
    }

    /// Refuses what has no room, and takes none.
    pub(super) fn check(&self, owner: Owner, amount: Count, own: &[Reservation]) -> Result<()> {
        let limited = self.limited.read().get(&owner).map(Arc::clone);
        limited.map_or(Ok(()), |limited| {
            let state = limited.state.lock();
            limited.check(&state, amount, reserved_for(own, &limited))
        })
    }

    pub(super) fn has(&self, owner: Owner) -> bool {
        self.limited.read().contains_key(&owner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.limited.read().is_empty()
    }

    /// Forgets a repository that was deleted.
    pub(super) fn forget(&self, id: RepositoryId) {
        if !self.is_empty() {
            self.limited.write().remove(&Some(id));
        }
    }
}

impl Limited {
    /// `own` is reserved for whoever asks.
    pub(super) fn check(&self, state: &State, amount: Count, own: Count) -> Result<()> {
        let State { quota, used, coming, reserved } = state;
        let mut used = *used;
        used += *coming;
        let dimensions = [
            ("objects", quota.objects, used.objects, reserved.objects - own.objects, amount.objects),
            ("bytes", quota.bytes, used.bytes, reserved.bytes - own.bytes, amount.bytes),
        ];
        for (what, limit, used, reserved, needed) in dimensions {
            // Without a limit too, what is counted must be a number.
            let limit = limit.unwrap_or(i64::MAX.unsigned_abs());
            let total = used.checked_add(reserved).and_then(|sum| sum.checked_add(needed));
            if needed > 0 && total.is_none_or(|total| u64::try_from(total).is_ok_and(|total| total > limit)) {
                let of = match &self.repository {
                    Some(name) => format!("the repository has no room left in its quota, repository={name}"),
                    None => "the store has no room left in its quota".to_owned(),
                };
                return Err(Error::new(
                    ErrorKind::QuotaExceeded,
                    format!(
                        "{of}, of={what}, limit={limit}, used={used}, reserved={reserved}, needed={needed}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Admitted {
    /// It is about to be written, and adds so much: as much as it was let pass with, or less. Limits that began since then count
    /// it too. None begins while the caller holds all of them for reading, which he does until it is written.
    pub(super) fn begin(&mut self, all: &BTreeMap<Owner, Arc<Limited>>, changes: &Usages) {
        for part in &mut self.parts {
            let amount = amount_of(changes, part.owner);
            let mut state = part.limited.state.lock();
            add(&mut state.coming, growth(part.amount), -1);
            add(&mut state.coming, growth(amount), 1);
            part.amount = amount;
        }
        for (owner, amount) in amounts(changes) {
            let Some(limited) = all.get(&owner) else { continue };
            if self.parts.iter().any(|part| Arc::ptr_eq(&part.limited, limited)) {
                continue;
            }
            let mut state = limited.state.lock();
            for reservation in &self.reservations {
                add(&mut state.reserved, reservation.spend(limited), -1);
            }
            add(&mut state.coming, growth(amount), 1);
            drop(state);
            self.parts.push(Part { owner, limited: Arc::clone(limited), amount });
        }
    }

    /// The rows are written: what they add is held, and what they free is free.
    pub(super) fn written(mut self) {
        self.written = true;
        for part in &self.parts {
            let mut state = part.limited.state.lock();
            add(&mut state.coming, growth(part.amount), -1);
            add(&mut state.used, part.amount, 1);
        }
        // Limits that begin from here on find the rows.
        self.reservations.iter().for_each(Reservation::end);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        for Part { limited, amount, .. } in &self.parts {
            // At one moment, so that nobody takes what an upload session has reserved.
            let mut state = limited.state.lock();
            add(&mut state.coming, growth(*amount), -1);
            for reservation in &self.reservations {
                add(&mut state.reserved, reservation.take_back(limited), 1);
            }
        }
    }
}

/// What is added to whom, the store first, as limits are ordered.
fn amounts(changes: &Usages) -> impl Iterator<Item = (Owner, Count)> {
    let repositories = changes.repositories.keys().copied().map(Some);
    let all = [None].into_iter().chain(repositories).map(|owner| (owner, amount_of(changes, owner)));
    all.filter(|(_, amount)| !amount.is_zero())
}

fn amount_of(changes: &Usages, owner: Owner) -> Count {
    match owner {
        None => changes.total.stored,
        Some(id) => changes.repositories.get(&id).map(|usage| usage.all).unwrap_or_default(),
    }
}

pub(super) fn add(to: &mut Count, amount: Count, sign: i64) {
    *to += Count { objects: amount.objects.wrapping_mul(sign), bytes: amount.bytes.wrapping_mul(sign) };
}

fn growth(amount: Count) -> Count {
    Count { objects: amount.objects.max(0), bytes: amount.bytes.max(0) }
}

impl Repository {
    /// Limits what the repository may hold, from now on; `Quota::default()` takes the limits away. A limit below what is
    /// held removes nothing and lets nothing be added. Kept until the repository is deleted; a repository that does not
    /// exist comes into being, so that its first push is limited.
    ///
    /// What other tools wrote into the layout is taken in whatever the limit. A rebuild keeps the limits that the old metadata
    /// tell, of repositories that hold something.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// use orlop::{ErrorKind, Quota};
    ///
    /// let app = store.repository(&"app".parse()?);
    /// app.set_quota(&Quota { bytes: Some(10), ..Quota::default() })?;
    /// app.push_bytes("0123456789")?;
    /// assert_eq!(app.push_bytes("more").unwrap_err().kind(), ErrorKind::QuotaExceeded);
    /// // What it holds already needs no room.
    /// app.push_bytes("0123456789")?;
    /// # store.close()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Unsupported` for a plain layout, which could not keep it; `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn set_quota(&self, quota: &Quota) -> Result<()> {
        let core = self.store().core();
        core.check_writable()?;
        core.refuse_plain()?;
        // Nobody deletes it meanwhile, nor creates it or sets another limit.
        let repository = core.locks.repositories([(self.name().as_str(), Need::Shared)].into_iter());
        let held = (repository, core.locks.names([(self.name().as_str(), String::new())].into_iter()));
        let mut rows = core.metadata.rows();
        let id = match core.metadata.view().repository(self.name().as_str())? {
            Some(id) => id,
            None if *quota == Quota::default() => {
                // Whoever deleted it may wait for the log yet.
                let unsynced = core.put(rows)?;
                drop(held);
                return core.sync(unsynced);
            }
            None => {
                let id = core.new_repository_id()?;
                rows.put_repository(id, self.name().as_str());
                id
            }
        };
        rows.put_quota(Some(id), &(*quota).into());
        let unsynced = core.put(rows)?;
        let begun = core.begin_limit(Some(id), Some(self.name()), *quota);
        drop(held);
        core.sync(unsynced)?;
        begun
    }

    /// Its limits.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn quota(&self) -> Result<Quota> {
        let view = self.store().core().metadata.view();
        match self.id(&view)? {
            Some(id) => Ok(view.quota(Some(id))?.into()),
            None => Ok(Quota::default()),
        }
    }
}

impl Store {
    /// Limits what the store may hold, each content counted once and garbage too, from now on; `Quota::default()` takes the
    /// limits away. As [`Repository::set_quota`].
    ///
    /// # Errors
    ///
    /// As [`Repository::set_quota`].
    pub fn set_quota(&self, quota: &Quota) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        core.refuse_plain()?;
        // Two that set it must not leave one limit on the disk and the other in force.
        let held = core.locks.names([(NAME, String::new())].into_iter());
        let mut rows = core.metadata.rows();
        rows.put_quota(None, &(*quota).into());
        let unsynced = core.put(rows)?;
        let begun = core.begin_limit(None, None, *quota);
        drop(held);
        core.sync(unsynced)?;
        begun
    }

    /// The limits of the store.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn quota(&self) -> Result<Quota> {
        Ok(self.core().metadata.view().quota(None)?.into())
    }
}

impl Core {
    /// Puts a quota into force, or out of it.
    pub(super) fn begin_limit(
        &self,
        owner: Owner,
        repository: Option<&RepositoryName>,
        quota: Quota,
    ) -> Result<()> {
        // What sessions have already is theirs.
        if self.limit(owner, repository, quota)? { self.reserve_for_uploads(repository) } else { Ok(()) }
    }

    /// The same without the upload sessions; answers whether there was no limit before.
    pub(super) fn limit(
        &self,
        owner: Owner,
        repository: Option<&RepositoryName>,
        quota: Quota,
    ) -> Result<bool> {
        // Nobody writes rows now.
        let mut limited = self.quotas.limited.write();
        if quota == Quota::default() {
            limited.remove(&owner);
            return Ok(false);
        }
        if let Some(known) = limited.get(&owner) {
            known.state.lock().quota = quota;
            return Ok(false);
        }
        let used = self.used_of(owner)?;
        let state = Mutex::new(State { quota, used, coming: Count::default(), reserved: Count::default() });
        limited.insert(owner, Arc::new(Limited { repository: repository.cloned(), state }));
        Ok(true)
    }

    /// Takes what limits count as used from the counters, which were set right.
    pub(super) fn quotas_as_counted(&self) -> Result<()> {
        // Nobody writes rows now.
        let limited = self.quotas.limited.write();
        for (owner, limited) in limited.iter() {
            limited.state.lock().used = self.used_of(*owner)?;
        }
        Ok(())
    }

    fn used_of(&self, owner: Owner) -> Result<Count> {
        let view = self.metadata.view();
        match owner {
            Some(id) => Ok(view.usage_of(id)?.all),
            None => Ok(view.usage()?.stored),
        }
    }

    /// Puts the quotas into force that an earlier process set.
    pub(super) fn load_quotas(&self) -> Result<()> {
        let mut found = Vec::new();
        let view = self.metadata.view();
        view.quotas(|owner, quota| {
            found.push((owner, quota));
            Ok(until(false))
        })?;
        for (owner, quota) in found {
            let name = match owner {
                Some(id) => view.repository_name(id)?,
                None => None,
            };
            let name = name.as_deref().map(super::repositories::stored_name).transpose()?;
            self.limit(owner, name.as_ref(), quota.into())?;
        }
        if self.quotas.is_empty() { Ok(()) } else { self.reserve_for_uploads(None) }
    }

    fn refuse_plain(&self) -> Result<()> {
        if self.ephemeral.is_none() {
            return Ok(());
        }
        let path = self.root.display();
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("a plain layout keeps no quota, which only a store does, path={path}"),
        ))
    }
}

impl From<Quota> for QuotaRecord {
    fn from(Quota { objects, bytes }: Quota) -> Self {
        Self { objects, bytes }
    }
}

impl From<QuotaRecord> for Quota {
    fn from(QuotaRecord { objects, bytes }: QuotaRecord) -> Self {
        Self { objects, bytes }
    }
}
