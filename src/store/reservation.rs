//! Reservations: room in quotas that waits for somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Core;
use super::quota::{Limited, Owner, Quotas, add};
use super::repository::Repository;
use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::Count;
use crate::oci::RepositoryName;

/// Room that nobody else can take: in the quotas of a repository and of the store. Dropped, it is given back.
///
/// Made by [`Repository::reserve`]; [`Batch::settle`](super::Batch::settle) takes it for what the batch adds.
#[derive(Debug)]
#[must_use = "dropped, a reservation is given back"]
pub struct Reservation {
    room: Arc<Room>,
}

/// Shared by an upload session and the commit that finishes it, which may fail.
#[derive(Debug, Default)]
struct Room {
    /// Locked after the state of a limit.
    parts: Mutex<Vec<Part>>,
}

/// So much of one limit.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) limited: Arc<Limited>,
    pub(super) amount: Count,
}

impl Part {
    pub(super) fn is_of(&self, limited: &Arc<Limited>) -> bool {
        Arc::ptr_eq(&self.limited, limited)
    }
}

impl Reservation {
    /// Of nothing yet.
    pub(super) fn nothing() -> Self {
        Self { room: Arc::default() }
    }

    /// The same room, which is given back when nobody has it any more.
    pub(super) fn share(&self) -> Self {
        Self { room: Arc::clone(&self.room) }
    }

    /// What it has of one limit.
    fn of(&self, limited: &Arc<Limited>) -> Count {
        let parts = self.room.parts.lock();
        parts.iter().find(|part| part.is_of(limited)).map(|part| part.amount).unwrap_or_default()
    }

    /// Says how much of one limit it has from now on; whoever has the state of the limit locked counts that.
    pub(super) fn put(&self, limited: &Arc<Limited>, amount: Count) {
        let mut parts = self.room.parts.lock();
        match parts.iter_mut().find(|part| part.is_of(limited)) {
            Some(part) => part.amount = amount,
            None => parts.push(Part { limited: Arc::clone(limited), amount }),
        }
    }

    /// What it has of one limit, which its holder takes for good.
    pub(super) fn take(&self, limited: &Arc<Limited>) -> Count {
        let amount = self.of(limited);
        if !amount.is_zero() {
            self.put(limited, Count::default());
        }
        amount
    }

    /// Gives back what is more than so many bytes.
    pub(super) fn shrink(&self, bytes: u64) {
        let parts = self.room.parts.lock().clone();
        for Part { limited, .. } in parts {
            let mut state = limited.state.lock();
            let has = self.of(&limited);
            let bytes = has.bytes.min(i64::try_from(bytes).unwrap_or(i64::MAX));
            state.reserved.bytes -= has.bytes - bytes;
            self.put(&limited, Count { bytes, ..has });
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for Part { limited, amount } in self.parts.get_mut() {
            add(&mut limited.state.lock().reserved, *amount, -1);
        }
    }
}

pub(super) fn reserved_for(reservations: &[Reservation], limited: &Arc<Limited>) -> Count {
    let mut own = Count::default();
    reservations.iter().for_each(|reservation| own += reservation.of(limited));
    own
}

impl Repository {
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
        let reservation = Reservation::nothing();
        core.or_expire(|| core.quotas.reserve(&reservation, &owners, bytes, false))?;
        Ok(reservation)
    }
}

impl Quotas {
    /// Lets a reservation be of one content of so many bytes, in every limit of the owners or in none, where it stays as it
    /// was. `anyway` reserves where there is no room too, for an upload that was let in before.
    ///
    /// The owners are in order, and the store is before repositories.
    fn reserve(&self, reservation: &Reservation, owners: &[Owner], bytes: u64, anyway: bool) -> Result<()> {
        let amount = Count { objects: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) };
        let limited = self.limited.read();
        let mut states = Vec::with_capacity(owners.len());
        for limited in owners.iter().filter_map(|owner| limited.get(owner)) {
            let (state, has) = (limited.state.lock(), reservation.of(limited));
            let more = Count { objects: amount.objects - has.objects, bytes: amount.bytes - has.bytes };
            if !anyway {
                limited.check(&state, more, Count::default())?;
            }
            states.push((limited, state, more));
        }
        for (limited, mut state, more) in states {
            add(&mut state.reserved, more, 1);
            reservation.put(limited, amount);
        }
        Ok(())
    }
}

impl Core {
    /// Lets the reservation of an upload session be of so many bytes. `anyway` is for one that was let in before.
    pub(super) fn reserve_for_upload(
        &self,
        repository: &RepositoryName,
        reservation: &Reservation,
        bytes: u64,
        anyway: bool,
    ) -> Result<()> {
        if self.quotas.is_empty() {
            return Ok(());
        }
        let id = self.metadata.view().repository(repository.as_str())?;
        let owners: Vec<Owner> = [None].into_iter().chain(id.map(Some)).collect();
        self.quotas.reserve(reservation, &owners, bytes, anyway)
    }
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
