//! Which repository of which store a name in a request stands for.
//!
//! The first of these that is there: the repository of that very name, in the first layout that has it; what a full reference
//! names whose path it is, in the first layout, hosts in byte order (`table.rs`); else it is a repository to come, in the first
//! layout that can be written. A request that says by `ns` of which host the name is gets what is of that host, before the
//! repository of that very name, and never what is of another.

mod clash;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

pub use self::clash::Clash;
pub(super) use self::table::{Alias, Entries, Table, Target, canonical_host, holders};
use crate::oci::RepositoryName;
use crate::{Page, Repository, Result, Store};

/// Names are listed anew at most so often, and only when some have come or gone.
const INTERVAL: Duration = Duration::from_secs(1);
/// Listing them takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// A store that a registry serves, and the name under which its unnamed repository is served. Clones are one layout.
#[derive(Clone, Debug)]
pub struct Layout {
    served: Arc<Served>,
    unnamed: Option<RepositoryName>,
}

#[derive(Debug)]
struct Served {
    store: RwLock<Store>,
    /// Moves on with each store that takes the place of another.
    generation: AtomicU64,
}

impl Layout {
    /// A store whose named repositories are served under their names.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let served = Served { store: RwLock::new(store), generation: AtomicU64::new(0) };
        Self { served: Arc::new(served), unnamed: None }
    }

    /// The same, with the unnamed repository served under this name.
    #[must_use]
    pub fn unnamed_as(mut self, name: RepositoryName) -> Self {
        self.unnamed = Some(name);
        self
    }

    /// The store that is served now.
    #[must_use]
    pub fn store(&self) -> Store {
        self.served.store.read().clone()
    }

    /// Serves another store from now on, in every registry that has this layout: a frozen view that was opened anew. Requests
    /// that are under way keep theirs.
    pub fn replace(&self, store: Store) {
        let mut served = self.served.store.write();
        let former = std::mem::replace(&mut *served, store);
        self.served.generation.fetch_add(1, Ordering::Relaxed);
        drop(served);
        // Closing a store takes its time, and requests need not wait for it.
        drop(former);
    }

    /// Differs when other names may be there.
    fn version(&self) -> (u64, u64) {
        let store = self.served.store.read();
        (self.served.generation.load(Ordering::Relaxed), store.unscoped().names_version())
    }

    /// The repository of this name, there already or to come.
    fn repository(&self, name: &RepositoryName) -> Repository {
        let store = self.store();
        if self.unnamed.as_ref() == Some(name) { store.default_repository() } else { store.repository(name) }
    }

    /// The name under which a repository is served. None if it is not, or a named one has the name of the unnamed.
    fn name_of(&self, name: &RepositoryName) -> Option<RepositoryName> {
        match &self.unnamed {
            unnamed if name.is_unnamed() => unnamed.clone(),
            Some(unnamed) if unnamed == name => None,
            _ => Some(name.clone()),
        }
    }

    /// As [`Names::list`], of this layout alone.
    fn list(&self, after: Option<&RepositoryName>, limit: usize) -> Result<Page<RepositoryName>> {
        let (store, unnamed) = (self.store(), &self.unnamed);
        let served = match unnamed.as_ref().filter(|&name| after.is_none_or(|after| name > after)) {
            Some(name) if store.default_repository().exists()? => Some(name),
            _ => None,
        };
        // The unnamed one is the first of a store, and here goes by another name; a named one of that name is not to be had.
        let from = after.cloned().unwrap_or_else(RepositoryName::unnamed);
        let Page { mut items, more } = store.repositories(Some(&from), limit.saturating_add(1))?;
        items.retain(|name| Some(name) != unnamed.as_ref());
        if let Some(served) = served
            && (!more || items.last().is_some_and(|last| served < last))
        {
            items.insert(items.partition_point(|name| name < served), served.clone());
        }
        let more = more || items.len() > limit;
        items.truncate(limit);
        Ok(Page { items, more })
    }
}

/// Every name of a registry. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Names {
    layouts: Arc<[Layout]>,
    current: Arc<RwLock<Arc<Current>>>,
    building: Arc<Mutex<()>>,
    /// Somebody is about to list them anew.
    renewing: Arc<AtomicBool>,
}

/// Whoever has this lists the names anew.
#[derive(Debug)]
pub(super) struct Renewal(Names);

impl Renewal {
    /// Lists them. If that fails, those of before go on to count, and the next request tries again.
    pub(super) fn run(self) {
        let _ = self.0.current();
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.renewing.store(false, Ordering::SeqCst);
    }
}

/// The full references, as they were listed last.
#[derive(Debug, Default)]
struct Current {
    table: Table,
    versions: Vec<(u64, u64)>,
    /// Whether nothing came or went since some time before it was listed. A version moves on a moment before what it is for.
    settled: bool,
    built: Option<Instant>,
    took: Duration,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) alias: Option<Origin>,
}

/// Where what is served under a path comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The host of the reference.
    pub(super) host: String,
    /// A repository that is served under its own name too: who may not read it there may not here.
    pub(super) name: Option<RepositoryName>,
    /// Names of other tools, which is all that there is to see.
    pub(super) entries: Option<Arc<Entries>>,
}

impl Names {
    /// Lists the names for the first time; what cannot be listed is tried again by the first request.
    pub(super) fn new(layouts: Vec<Layout>) -> Self {
        let names = Self {
            layouts: layouts.into(),
            current: Arc::default(),
            building: Arc::default(),
            renewing: Arc::default(),
        };
        let _ = names.current();
        names
    }

    /// The task to list the names anew, if some may have come or gone and nobody else has it. Requests go on with the former
    /// ones meanwhile, so that a disk that answers no more holds up nobody.
    pub(super) fn renewal(&self) -> Option<Renewal> {
        let is_due = self.is_due(&self.current.read());
        let begin = || self.renewing.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst);
        (is_due && begin().is_ok()).then(|| Renewal(self.clone()))
    }

    /// What a name stands for, with `ns` if the request says of which host. None in a registry without stores. One that does not
    /// wait for a disk fails with `WouldBlock` where it would have to.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub(super) fn find(&self, name: &RepositoryName, ns: Option<&str>, waits: bool) -> Result<Option<Place>> {
        let current = if waits { self.current()? } else { Arc::clone(&self.current.read()) };
        if let [layout] = &*self.layouts
            && !current.table.has(name.as_str())
        {
            return Ok(Some(Place { repository: layout.repository(name), alias: None }));
        }
        let aliases = current.table.of_path(name.as_str());
        let ns = ns.map(canonical_host);
        if let Some(ns) = ns
            && let Some(alias) = aliases.iter().find(|alias| canonical_host(&alias.host) == ns)
        {
            return Ok(self.place(alias));
        }
        for layout in &*self.layouts {
            let repository = layout.repository(name);
            let there = if waits { repository.exists() } else { repository.without_waiting().exists() };
            if there? {
                return Ok(Some(Place { repository, alias: None }));
            }
        }
        match aliases.first() {
            Some(alias) if ns.is_none() => Ok(self.place(alias)),
            _ => {
                let to_come = self.layouts.iter().find(|layout| !layout.store().is_read_only());
                let layout = to_come.or_else(|| self.layouts.first());
                Ok(layout.map(|layout| Place { repository: layout.repository(name), alias: None }))
            }
        }
    }

    fn place(&self, alias: &Alias) -> Option<Place> {
        let layout = self.layouts.get(alias.layout)?;
        let host = alias.host.clone();
        Some(match &alias.target {
            Target::Repository(name) => Place {
                repository: layout.store().repository(name),
                alias: Some(Origin { host, name: Some(name.clone()), entries: None }),
            },
            Target::Entries(entries) => Place {
                repository: layout.store().default_repository(),
                alias: Some(Origin { host, name: None, entries: Some(Arc::clone(entries)) }),
            },
        })
    }

    /// The repository of this very name, in the first layout that has it.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub(super) fn own(&self, name: &RepositoryName) -> Result<Option<Repository>> {
        for layout in &*self.layouts {
            let repository = layout.repository(name);
            if repository.exists()? {
                return Ok(Some(repository));
            }
        }
        Ok(None)
    }

    /// The name under which a repository of a store is served. None if it is not.
    pub(super) fn served(&self, store: &Store, name: &RepositoryName) -> Option<RepositoryName> {
        let layout = self.layouts.iter().find(|layout| layout.store().root() == store.root())?;
        layout.name_of(name)
    }

    /// Repositories that are there by their names, in byte order: those behind `after`, which need not be one. Of full
    /// references only those that no repository has; the others are listed under their own names.
    ///
    /// # Errors
    ///
    /// As [`Store::repositories`].
    pub(super) fn list(&self, after: Option<&RepositoryName>, limit: usize) -> Result<Page<RepositoryName>> {
        let mut names = BTreeSet::new();
        let mut more = false;
        // Behind the end of a page that is not the last one nothing is known.
        let mut known: Option<RepositoryName> = None;
        for layout in &*self.layouts {
            let page = layout.list(after, limit)?;
            if page.more {
                more = true;
                let last = page.items.last().cloned();
                known = match (known, last) {
                    (Some(known), Some(last)) => Some(known.min(last)),
                    (known, last) => known.or(last),
                };
            }
            names.extend(page.items);
        }
        let current = self.current()?;
        let entries = current.table.entries_behind(after.map_or("", RepositoryName::as_str));
        names.extend(entries.take(limit.saturating_add(1)));
        let mut items: Vec<RepositoryName> = names.into_iter().collect();
        if let Some(known) = known {
            items.retain(|name| *name <= known);
        }
        let more = more || items.len() > limit;
        items.truncate(limit);
        Ok(Page { items, more })
    }

    /// Names that stand for more than one thing.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub(super) fn clashes(&self) -> Result<Vec<Clash>> {
        clash::find(&self.layouts, &self.current()?.table)
    }

    fn is_due(&self, current: &Current) -> bool {
        let Some(built) = current.built else { return true };
        let same = current.versions.iter().copied().eq(self.layouts.iter().map(Layout::version));
        (!same || !current.settled) && built.elapsed() >= INTERVAL.max(current.took * SHARE)
    }

    /// The full references, listed anew if some may have come or gone; whoever comes while that is done has the former ones.
    fn current(&self) -> Result<Arc<Current>> {
        let current = Arc::clone(&self.current.read());
        if !self.is_due(&current) {
            return Ok(current);
        }
        let _building = match current.built {
            None => self.building.lock(),
            Some(_) => match self.building.try_lock() {
                Some(building) => building,
                None => return Ok(current),
            },
        };
        let current = Arc::clone(&self.current.read());
        if !self.is_due(&current) {
            return Ok(current);
        }
        let start = Instant::now();
        let versions: Vec<_> = self.layouts.iter().map(Layout::version).collect();
        let stores: Vec<Store> = self.layouts.iter().map(Layout::store).collect();
        let table = Table::of(&stores)?;
        let settled = current.built.is_some() && current.versions == versions;
        let built = Some(Instant::now());
        let current = Arc::new(Current { table, versions, settled, built, took: start.elapsed() });
        *self.current.write() = Arc::clone(&current);
        Ok(current)
    }
}
