//! Usage: how much each repository and the store hold. The counters are read, never made, here: they change in the batch
//! that changes what they count, so they are equal to a recount at any moment.

use std::collections::BTreeMap;

use super::repositories::stored_name;
use super::repository::Repository;
use super::{Core, Store, until};
use crate::error::Result;
use crate::metadata::{Count, HeldUsage, RepositoryId, TotalUsage, Usages, View, fact};
use crate::oci::RepositoryName;

/// What one repository holds. Every content and manifest counts once, however it is held there.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Contents and manifests that it holds.
    pub objects: u64,
    /// Their bytes: what a copy of the repository alone would take.
    pub bytes: u64,
    /// Of those, the ones that no other repository holds.
    pub unique_objects: u64,
    /// Their bytes: what a collection could free if the repository went.
    pub unique_bytes: u64,
}

/// What a store holds.
///
/// A repository that is deleted counts among the others until its last row is gone, which is so when its deletion returns.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreUsage {
    /// The sum of the objects of all repositories.
    pub objects: u64,
    /// The sum of the bytes of all repositories: what they would take if they shared nothing.
    pub bytes: u64,
    /// Contents and manifests that are stored, each once.
    pub stored_objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Of those stored, the ones in the journal, which wait for their files.
    pub journalled_objects: u64,
    /// Their bytes.
    pub journalled_bytes: u64,
    /// Of those stored, the ones that no repository holds, until a collection takes them.
    pub garbage_objects: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
}

/// The usage as it was counted, row by row.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recount {
    /// Of the whole store.
    pub store: StoreUsage,
    /// Of each repository, in byte order of their names.
    pub repositories: Vec<(RepositoryName, Usage)>,
}

impl Repository {
    /// What it holds; nothing when it does not exist. Takes the same time whatever that is.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn usage(&self) -> Result<Usage> {
        let core = self.store().core();
        let view = core.metadata.view();
        let Some(id) = self.id(&view)? else { return Ok(Usage::default()) };
        Ok(core.usage_of(&view, id)?.into())
    }
}

impl Store {
    /// What the store holds. Takes the same time whatever that is.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// store.repository(&"app".parse()?).push_bytes("content")?;
    /// store.repository(&"copy".parse()?).push_bytes("content")?;
    /// let usage = store.usage()?;
    /// assert_eq!((usage.bytes, usage.stored_bytes), (14, 7));
    /// # store.close()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn usage(&self) -> Result<StoreUsage> {
        let view = self.core().metadata.snapshot();
        if !view.has_fact(fact::COUNTED)? {
            return Ok(view.recount()?.total.into());
        }
        Ok(view.usage()?.into())
    }

    /// Counts anew, at one moment of the store, what [`Store::usage`] and [`Repository::usage`] answer; changes nothing. Costs
    /// a walk over all metadata. [`Verifier::index`](super::Verifier::index) compares the two, and [`Store::correct_usage`]
    /// sets right what differs.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn recount(&self) -> Result<Recount> {
        let view = self.core().metadata.snapshot();
        let counted = view.recount()?;
        let mut repositories = Vec::new();
        view.repositories(None, |name, id| {
            let usage = counted.repositories.get(&id).copied().unwrap_or_default();
            repositories.push((stored_name(name)?, usage.into()));
            Ok(until(false))
        })?;
        Ok(Recount { store: counted.total.into(), repositories })
    }

    /// Counts anew, and sets right what [`Store::usage`] and [`Repository::usage`] answer where that differs; answers for how
    /// many repositories, the store among them, it did. Only damaged metadata or a defect make them differ, which
    /// [`Verifier::index`](super::Verifier::index) tells. Costs a walk over all metadata; nobody waits for it.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`; `Corrupt` for a counter that cannot be read, which a rebuild
    /// makes anew.
    pub fn correct_usage(&self) -> Result<u64> {
        let core = self.core();
        core.check_writable()?;
        let mut rows = core.metadata.rows();
        let corrected = rows.correct_usage(&core.metadata.snapshot())?;
        core.write(rows)?;
        core.quotas_as_counted()?;
        Ok(corrected)
    }
}

impl Core {
    fn usage_of(&self, view: &View<'_>, id: RepositoryId) -> Result<HeldUsage> {
        if !view.has_fact(fact::COUNTED)? {
            return Ok(view.recount()?.repositories.get(&id).copied().unwrap_or_default());
        }
        view.usage_of(id)
    }

    /// Begins the counters of metadata that have none: those that are new.
    ///
    /// Nobody else writes yet. Not synced: what a crash takes is counted again.
    pub(super) fn count_usage(&self) -> Result<()> {
        let view = self.metadata.snapshot();
        if view.has_fact(fact::COUNTED)? {
            return Ok(());
        }
        let mut rows = self.metadata.rows();
        rows.put_usage(&view, &view.recount()?)?;
        self.write_unsynced(rows)
    }
}

/// The counters that are not what was counted: of which repository, or of the store; what they are and should be.
pub(super) fn differences(view: &View<'_>) -> Result<Vec<(Option<RepositoryId>, String)>> {
    let mut found = Vec::new();
    if !view.has_fact(fact::COUNTED)? {
        return Ok(found);
    }
    let counted = view.recount()?;
    let mut kept = Usages { total: view.usage()?, repositories: BTreeMap::new() };
    view.usages(|id, held| {
        kept.repositories.insert(id, held);
        Ok(until(false))
    })?;
    if kept.total != counted.total {
        let (kept, counted) = (StoreUsage::from(kept.total), StoreUsage::from(counted.total));
        found.push((None, format!("kept={kept:?}, counted={counted:?}")));
    }
    let ids = kept.repositories.keys().chain(counted.repositories.keys());
    for id in ids.collect::<std::collections::BTreeSet<_>>() {
        let of = |usages: &Usages| usages.repositories.get(id).copied().unwrap_or_default();
        let (kept, counted) = (of(&kept), of(&counted));
        if kept != counted {
            let (kept, counted) = (Usage::from(kept), Usage::from(counted));
            found.push((Some(*id), format!("kept={kept:?}, counted={counted:?}")));
        }
    }
    Ok(found)
}

impl From<HeldUsage> for Usage {
    fn from(HeldUsage { all, unique }: HeldUsage) -> Self {
        let (objects, bytes) = numbers(all);
        let (unique_objects, unique_bytes) = numbers(unique);
        Self { objects, bytes, unique_objects, unique_bytes }
    }
}

impl From<TotalUsage> for StoreUsage {
    fn from(TotalUsage { held, stored, unheld, journalled }: TotalUsage) -> Self {
        let (objects, bytes) = numbers(held);
        let (stored_objects, stored_bytes) = numbers(stored);
        let (garbage_objects, garbage_bytes) = numbers(unheld);
        let (journalled_objects, journalled_bytes) = numbers(journalled);
        Self {
            objects,
            bytes,
            stored_objects,
            stored_bytes,
            journalled_objects,
            journalled_bytes,
            garbage_objects,
            garbage_bytes,
        }
    }
}

/// Counters below zero are a fault of the metadata, which a verification tells.
fn numbers(Count { objects, bytes }: Count) -> (u64, u64) {
    (u64::try_from(objects).unwrap_or(0), u64::try_from(bytes).unwrap_or(0))
}
