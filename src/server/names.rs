//! Which repository of which store a name in a request stands for.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::oci::RepositoryName;
use crate::{Page, Repository, Result, Store};

/// A store that a registry serves, and the name under which its unnamed repository is served. Clones are one layout.
#[derive(Clone, Debug)]
pub struct Layout {
    store: Arc<RwLock<Store>>,
    unnamed: Option<RepositoryName>,
}

impl Layout {
    /// A store whose named repositories are served under their names.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store: Arc::new(RwLock::new(store)), unnamed: None }
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
        self.store.read().clone()
    }

    /// Serves another store from now on, in every registry that has this layout: a frozen view that was opened anew. Requests
    /// that are under way keep theirs.
    pub fn replace(&self, store: Store) {
        *self.store.write() = store;
    }
}

/// Every name of a registry.
#[derive(Clone, Debug)]
pub(super) struct Names {
    layouts: Vec<Layout>,
}

impl Names {
    pub(super) fn new(layouts: Vec<Layout>) -> Self {
        Self { layouts }
    }

    /// The repository that a name stands for, there already or to come. None in a registry without stores.
    pub(super) fn find(&self, name: &RepositoryName) -> Option<Repository> {
        let layout = self.layouts.first()?;
        if layout.unnamed.as_ref() == Some(name) {
            return Some(layout.store().default_repository());
        }
        Some(layout.store().repository(name))
    }

    /// The name under which a repository of a store is served. None if it is not, or a named one has the name of the unnamed.
    pub(super) fn served(&self, store: &Store, name: &RepositoryName) -> Option<RepositoryName> {
        let layout = self.layouts.iter().find(|layout| layout.store().root() == store.root())?;
        match &layout.unnamed {
            unnamed if name.is_unnamed() => unnamed.clone(),
            Some(unnamed) if unnamed == name => None,
            _ => Some(name.clone()),
        }
    }

    /// Repositories that are there by their names, in byte order: those behind `after`, which need not be one.
    ///
    /// # Errors
    ///
    /// As [`Store::repositories`].
    pub(super) fn list(&self, after: Option<&RepositoryName>, limit: usize) -> Result<Page<RepositoryName>> {
        let Some(layout) = self.layouts.first() else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let (store, unnamed) = (layout.store(), &layout.unnamed);
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
