//! Quotas: limits on what a repository, or the store, may come to hold, kept when many commit at once.
//!
//! What is limited has its usage in memory too, with what commits under way add to it, so that two of them never both take
//! the last room. A commit asks before it names or journals a byte; content that is added to a batch, and uploads that
//! announce their size, ask before that. What makes nothing grow is never refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::locks::Need;
use super::repository::Repository;
use super::{Core, Store, until};
use crate::digest::Digest;
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

/// Whose limits: those of a repository, or of the store.
type Owner = Option<RepositoryId>;

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
    /// Held for reading while rows are written, so that a limit begins with the whole usage.
    limited: RwLock<BTreeMap<Owner, Arc<Limited>>>,
}

/// One repository, or the store, that has limits.
#[derive(Debug)]
struct Limited {
    /// None for the store.
    repository: Option<RepositoryName>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    quota: Quota,
    /// What is held, with what commits under way add.
    used: Count,
    reserved: Count,
}

/// Room that nobody else can take: in the quotas of a repository and of the store. Dropped, it is given back.
///
/// Made by [`Repository::reserve`]; [`Batch::settle`](super::Batch::settle) takes it for what the batch adds.
#[derive(Debug)]
#[must_use = "dropped, a reservation is given back"]
pub struct Reservation {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    limited: Arc<Limited>,
    amount: Count,
}

/// A commit that may go on; unless it says that it was written, what it takes goes back.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    _writing: RwLockReadGuard<'a, BTreeMap<Owner, Arc<Limited>>>,
    parts: Vec<Part>,
    written: bool,
}

impl Quotas {
    /// Takes room for what a commit adds, all of it or none.
    pub(super) fn admit(&self, changes: &Usages, mut terms: Terms) -> Result<Admitted<'_>> {
        let writing = self.limited.read();
        let mut admitted = Admitted { _writing: writing, parts: Vec::new(), written: false };
        for (owner, limited) in admitted._writing.iter() {
            let amount = match owner {
                None => changes.total.stored,
                Some(id) => changes.repositories.get(id).copied().unwrap_or_default().all,
            };
            if !amount.is_zero() {
                admitted.parts.push(Part { limited: Arc::clone(limited), amount });
            }
        }
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
            for reservation in &mut terms.reservations {
                reservation.settle(&part.limited, state);
            }
            add(&mut state.used, growth(part.amount), 1);
        }
        drop(states);
        Ok(admitted)
    }

    /// Refuses what has no room, and takes none.
    fn check(&self, owner: Owner, amount: Count, own: &[Reservation]) -> Result<()> {
        let limited = self.limited.read().get(&owner).map(Arc::clone);
        limited.map_or(Ok(()), |limited| {
            let state = limited.state.lock();
            limited.check(&state, amount, reserved_for(own, &limited))
        })
    }

    fn has(&self, owner: Owner) -> bool {
        self.limited.read().contains_key(&owner)
    }

    fn is_empty(&self) -> bool {
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
    fn check(&self, state: &State, amount: Count, own: Count) -> Result<()> {
        let State { quota, used, reserved } = state;
        let dimensions = [
            ("objects", quota.objects, used.objects, reserved.objects - own.objects, amount.objects),
            ("bytes", quota.bytes, used.bytes, reserved.bytes - own.bytes, amount.bytes),
        ];
        for (what, limit, used, reserved, needed) in dimensions {
            let Some(limit) = limit else { continue };
            let total = used.saturating_add(reserved).saturating_add(needed);
            if needed > 0 && u64::try_from(total).is_ok_and(|total| total > limit) {
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

impl Admitted<'_> {
    /// The rows are written: what they free is free.
    pub(super) fn written(mut self) {
        self.written = true;
        for Part { limited, amount } in &self.parts {
            add(&mut limited.state.lock().used, shrinkage(*amount), 1);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        for Part { limited, amount } in &self.parts {
            add(&mut limited.state.lock().used, growth(*amount), -1);
        }
    }
}

impl Reservation {
    /// Gives back what was reserved of one limit, which its holder takes for good.
    fn settle(&mut self, limited: &Arc<Limited>, state: &mut State) {
        for part in self.parts.iter_mut().filter(|part| Arc::ptr_eq(&part.limited, limited)) {
            add(&mut state.reserved, std::mem::take(&mut part.amount), -1);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for Part { limited, amount } in &self.parts {
            add(&mut limited.state.lock().reserved, *amount, -1);
        }
    }
}

fn reserved_for(reservations: &[Reservation], limited: &Arc<Limited>) -> Count {
    let mut own = Count::default();
    let parts = reservations.iter().flat_map(|reservation| &reservation.parts);
    parts.filter(|part| Arc::ptr_eq(&part.limited, limited)).for_each(|part| own += part.amount);
    own
}

fn add(to: &mut Count, amount: Count, sign: i64) {
    *to += Count { objects: amount.objects.wrapping_mul(sign), bytes: amount.bytes.wrapping_mul(sign) };
}

fn growth(amount: Count) -> Count {
    Count { objects: amount.objects.max(0), bytes: amount.bytes.max(0) }
}

fn shrinkage(amount: Count) -> Count {
    Count { objects: amount.objects.min(0), bytes: amount.bytes.min(0) }
}

/// What a batch asked for so far, each content once.
#[derive(Debug, Default)]
pub(super) struct Asked {
    contents: BTreeSet<(Owner, Digest)>,
    growth: BTreeMap<Owner, Count>,
    /// The batch removes something: whether there is room, its commit tells.
    pub(super) makes_room: bool,
}

impl Asked {
    /// Refuses content for which the batch will find no room, before it is written anywhere.
    pub(super) fn add(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        reservations: &[Reservation],
    ) -> Result<()> {
        let core = repository.store().core();
        if self.makes_room || core.quotas.is_empty() {
            return Ok(());
        }
        let view = core.metadata.view();
        let mut owners: Vec<Owner> = Vec::new();
        if view.content(digest)?.is_none() {
            owners.push(None);
        }
        if let Some(id) = repository.id(&view)?
            && !view.holds(id, digest)?
        {
            owners.push(Some(id));
        }
        owners.retain(|owner| core.quotas.has(*owner) && !self.contents.contains(&(*owner, *digest)));
        let one = Count { objects: 1, bytes: i64::try_from(size).unwrap_or(i64::MAX) };
        for owner in &owners {
            let mut amount = self.growth.get(owner).copied().unwrap_or_default();
            amount += one;
            core.quotas.check(*owner, amount, reservations)?;
        }
        for owner in owners {
            *self.growth.entry(owner).or_default() += one;
            self.contents.insert((owner, *digest));
        }
        Ok(())
    }
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
        // Nobody creates or deletes it meanwhile.
        let _held = core.locks.repositories([(self.name().as_str(), Need::Exclusive)].into_iter());
        let mut rows = core.metadata.rows();
        let id = match core.metadata.view().repository(self.name().as_str())? {
            Some(id) => id,
            None if *quota == Quota::default() => return Ok(()),
            None => {
                let id = core.new_repository_id()?;
                rows.put_repository(id, self.name().as_str());
                id
            }
        };
        rows.put_quota(Some(id), &(*quota).into());
        core.write(rows)?;
        core.limit(Some(id), Some(self.name()), *quota)
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

    /// Reserves room for one content of so many bytes that the repository does not hold yet, in its quota and that of the
    /// store. Where there is no limit, this costs nothing and holds nothing.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded`, `ReadOnly`, `Poisoned`, `Io`, `Corrupt`.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let core = self.store().core();
        core.check_writable()?;
        let mut owners: Vec<Owner> = vec![None];
        if !core.quotas.is_empty() {
            owners.extend(self.id(&core.metadata.view())?.map(Some));
        }
        core.quotas.reserve(&owners, bytes, false)
    }
}

impl Quotas {
    /// Reserves in every limit of the owners or in none. `anyway` reserves where there is no room too, for an upload that was
    /// let in before.
    pub(super) fn reserve(&self, owners: &[Owner], bytes: u64, anyway: bool) -> Result<Reservation> {
        let amount = Count { objects: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) };
        let mut reservation = Reservation { parts: Vec::new() };
        let limited = self.limited.read();
        for limited in owners.iter().filter_map(|owner| limited.get(owner)) {
            let mut state = limited.state.lock();
            if !anyway {
                limited.check(&state, amount, Count::default())?;
            }
            add(&mut state.reserved, amount, 1);
            drop(state);
            // What was reserved before a refusal goes back with this.
            reservation.parts.push(Part { limited: Arc::clone(limited), amount });
        }
        Ok(reservation)
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
        let mut rows = core.metadata.rows();
        rows.put_quota(None, &(*quota).into());
        core.write(rows)?;
        core.limit(None, None, *quota)
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
    fn limit(&self, owner: Owner, repository: Option<&RepositoryName>, quota: Quota) -> Result<()> {
        // Nobody writes rows now.
        let mut limited = self.quotas.limited.write();
        if quota == Quota::default() {
            limited.remove(&owner);
            return Ok(());
        }
        if let Some(known) = limited.get(&owner) {
            known.state.lock().quota = quota;
            return Ok(());
        }
        let view = self.metadata.view();
        let used = match owner {
            Some(id) => view.usage_of(id)?.all,
            None => view.usage()?.stored,
        };
        let state = Mutex::new(State { quota, used, reserved: Count::default() });
        limited.insert(owner, Arc::new(Limited { repository: repository.cloned(), state }));
        Ok(())
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
        Ok(())
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
