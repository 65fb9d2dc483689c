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
    /// Whose quotas it is part of.
    quotas: Arc<()>,
}

/// Shared by an upload session and the commit that finishes it, which may fail.
#[derive(Debug, Default)]
struct Room {
    /// Locked after the state of a limit.
    has: Mutex<Has>,
}

#[derive(Debug, Default)]
struct Has {
    parts: Vec<Part>,
    /// The commit is written, so nothing is reserved any more.
    ended: bool,
}

/// So much of one limit.
#[derive(Clone, Debug)]
struct Part {
    limited: Arc<Limited>,
    amount: Count,
    /// A commit under way has it instead, and counts it as used.
    spent: bool,
}

impl Has {
    fn part(&mut self, limited: &Arc<Limited>) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| Arc::ptr_eq(&part.limited, limited))
    }
}

impl Reservation {
    /// Of nothing yet.
    pub(super) fn nothing(quotas: &Quotas) -> Self {
        Self { room: Arc::default(), quotas: Arc::clone(&quotas.own) }
    }

    pub(super) fn is_of(&self, quotas: &Quotas) -> bool {
        Arc::ptr_eq(&self.quotas, &quotas.own)
    }

    /// The same room, which is given back when nobody has it any more.
    pub(super) fn share(&self) -> Self {
        Self { room: Arc::clone(&self.room), quotas: Arc::clone(&self.quotas) }
    }

    /// What it keeps of one limit.
    fn of(&self, limited: &Arc<Limited>) -> Count {
        let mut has = self.room.has.lock();
        has.part(limited).filter(|part| !part.spent).map(|part| part.amount).unwrap_or_default()
    }

    /// Lets it have so much of one limit from now on; answers by how much more it keeps of it, which whoever has the state of
    /// the limit locked counts.
    fn put(&self, limited: &Arc<Limited>, amount: Count) -> Count {
        let mut has = self.room.has.lock();
        if has.ended {
            return Count::default();
        }
        match has.part(limited) {
            Some(part) => {
                let before = std::mem::replace(&mut part.amount, amount);
                if part.spent { Count::default() } else { difference(amount, before) }
            }
            None => {
                has.parts.push(Part { limited: Arc::clone(limited), amount, spent: false });
                amount
            }
        }
    }

    /// Lets a commit have what it keeps of one limit, and what it would from now on; answers how much that is.
    pub(super) fn spend(&self, limited: &Arc<Limited>) -> Count {
        let mut has = self.room.has.lock();
        match has.part(limited) {
            Some(part) if part.spent => Count::default(),
            Some(part) => {
                part.spent = true;
                part.amount
            }
            None => {
                let part = Part { limited: Arc::clone(limited), amount: Count::default(), spent: true };
                has.parts.push(part);
                Count::default()
            }
        }
    }

    /// The commit failed: it keeps again what it has of one limit. Answers how much that is.
    pub(super) fn take_back(&self, limited: &Arc<Limited>) -> Count {
        let mut has = self.room.has.lock();
        match has.part(limited) {
            Some(part) if part.spent => {
                part.spent = false;
                part.amount
            }
            _ => Count::default(),
        }
    }

    /// The commit is written: limits that begin now find its content.
    pub(super) fn end(&self) {
        self.room.has.lock().ended = true;
    }

    /// Gives back what is more than so many bytes.
    pub(super) fn shrink(&self, bytes: u64) {
        let parts = self.room.has.lock().parts.clone();
        for Part { limited, .. } in parts {
            let mut state = limited.state.lock();
            let mut has = self.room.has.lock();
            let Some(part) = has.part(&limited) else { continue };
            let less = part.amount.bytes.min(i64::try_from(bytes).unwrap_or(i64::MAX));
            if !part.spent {
                state.reserved.bytes -= part.amount.bytes - less;
            }
            part.amount.bytes = less;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for Part { limited, amount, spent } in &self.has.get_mut().parts {
            if !spent {
                add(&mut limited.state.lock().reserved, *amount, -1);
            }
        }
    }
}

fn difference(one: Count, other: Count) -> Count {
    Count { objects: one.objects - other.objects, bytes: one.bytes - other.bytes }
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
        let reservation = Reservation::nothing(&core.quotas);
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
            let state = limited.state.lock();
            if !anyway {
                limited.check(&state, difference(amount, reservation.of(limited)), Count::default())?;
            }
            states.push((limited, state));
        }
        for (limited, mut state) in states {
            add(&mut state.reserved, reservation.put(limited, amount), 1);
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
