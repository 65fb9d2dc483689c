//! Which repository of which store a name in a request stands for.

use crate::oci::RepositoryName;
use crate::{Repository, Store};

/// A store that a registry serves, and the name under which its unnamed repository is served.
#[derive(Clone, Debug)]
pub struct Layout {
    store: Store,
    unnamed: Option<RepositoryName>,
}

impl Layout {
    /// A store whose named repositories are served under their names.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, unnamed: None }
    }

    /// The same, with the unnamed repository served under this name.
    #[must_use]
    pub fn unnamed_as(mut self, name: RepositoryName) -> Self {
        self.unnamed = Some(name);
        self
    }
}

/// Every name of a registry.
#[derive(Debug)]
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
            return Some(layout.store.default_repository());
        }
        Some(layout.store.repository(name))
    }

    /// The name under which a repository of a store is served. None if it is not, or a named one has the name of the unnamed.
    pub(super) fn served(&self, store: &Store, name: &RepositoryName) -> Option<RepositoryName> {
        let layout = self.layouts.iter().find(|layout| layout.store.root() == store.root())?;
        match &layout.unnamed {
            unnamed if name.is_unnamed() => unnamed.clone(),
            Some(unnamed) if unnamed == name => None,
            _ => Some(name.clone()),
        }
    }
}
