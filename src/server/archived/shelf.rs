//! Which archive, and what of it, a name in a request stands for: by the same rules as with layouts (`names`).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::view::{Served, View};
use crate::oci::RepositoryName;
use crate::server::names::{Alias, Origin, Table, Target, canonical_host};
use crate::transfer::archive::Archive;
use crate::{Error, Page, Result};

/// All archives of a registry. Nothing of them changes, so that all names are known from the beginning.
#[derive(Debug)]
pub(in crate::server) struct Shelf {
    served: Vec<Served>,
    /// Names that are there, by the archive and what the repository is called in it.
    own: BTreeMap<RepositoryName, (usize, RepositoryName)>,
    table: Table,
    /// What is listed.
    listed: BTreeMap<RepositoryName, ()>,
}

impl Shelf {
    /// Archives, each with the name that its unnamed repository goes by.
    ///
    /// # Errors
    ///
    /// `Unsupported` for one that is compressed; `Corrupt`, `Io`.
    pub(in crate::server) fn new(archives: Vec<(Archive, RepositoryName)>) -> Result<Self> {
        let (mut served, mut own) = (Vec::new(), BTreeMap::new());
        for (archive, unnamed) in &archives {
            if archive.is_compressed() {
                let message = format!(
                    "an archive that is compressed has no places to serve from, archive={}",
                    archive.place()
                );
                return Err(Error::new(crate::ErrorKind::Unsupported, message));
            }
            for name in archive.repositories() {
                let called = if name.is_unnamed() { unnamed.clone() } else { name.clone() };
                // The unnamed one hides another of its name.
                if called == *unnamed && !name.is_unnamed() {
                    continue;
                }
                own.entry(called).or_insert((served.len(), name));
            }
            served.push(Served::new(archive.clone())?);
        }
        let archives: Vec<Archive> = archives.into_iter().map(|(archive, _)| archive).collect();
        let table = Table::of_archives(&archives);
        let entries = table.entries_behind("");
        let listed = own.keys().cloned().chain(entries).map(|name| (name, ())).collect();
        Ok(Self { served, own, table, listed })
    }

    /// What a name stands for, with `ns` if the request says of which host, and where that comes from. Of a name that nothing has the view is empty.
    pub(super) fn find(&self, name: &RepositoryName, ns: Option<&str>) -> Option<(View, Option<Origin>)> {
        let aliases = self.table.of_path(name.as_str());
        if let Some(ns) = ns.map(canonical_host)
            && let Some(alias) = aliases.iter().find(|alias| canonical_host(&alias.host) == ns)
        {
            return self.of_alias(alias);
        }
        if let Some((index, name)) = self.own.get(name) {
            return self.served.get(*index).map(|served| (served.view(name), None));
        }
        match aliases.first() {
            Some(alias) if ns.is_none() => self.of_alias(alias),
            _ => self.served.first().map(|served| (served.view(name), None)),
        }
    }

    fn of_alias(&self, alias: &Alias) -> Option<(View, Option<Origin>)> {
        let served = self.served.get(alias.layout)?;
        let host = alias.host.clone();
        Some(match &alias.target {
            Target::Repository(name) => {
                (served.view(name), Some(Origin { host, name: Some(name.clone()), entries: None }))
            }
            Target::Entries(entries) => {
                let view = served.view(&RepositoryName::unnamed()).of_entries(Arc::clone(entries));
                (view, Some(Origin { host, name: None, entries: None }))
            }
        })
    }

    /// Names behind another one, in byte order.
    pub(in crate::server) fn list(
        &self,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Page<RepositoryName> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut names =
            self.listed.range::<RepositoryName, _>((from, Bound::Unbounded)).map(|(name, ())| name);
        let items = names.by_ref().take(limit).cloned().collect();
        Page::new(items, names.next().is_some())
    }
}
