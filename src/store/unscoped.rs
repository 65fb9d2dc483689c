//! Reads of the whole store, for tools that own it.

use std::sync::atomic::Ordering;

use super::content::Stat;
use super::repository::Repository;
use super::{Store, until};
use crate::blobs::{Blob, BlobReader};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{Descriptor, LayoutName, RepositoryName};

/// Reads that ask no repository.
///
/// Whoever answers clients that may see only some repositories must not use it.
#[derive(Clone, Debug)]
pub struct Unscoped {
    store: Store,
}

impl Unscoped {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of a content, whoever holds it.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn stat(&self, digest: &Digest) -> Result<Option<Stat>> {
        let record = self.store.core().metadata.view().content(digest)?;
        Ok(record.map(|record| Stat { digest: *digest, size: record.size, media_type: None, blob: true }))
    }

    /// The bytes of a content.
    ///
    /// # Errors
    ///
    /// As [`Repository::get`].
    pub fn get(&self, digest: &Digest) -> Result<Option<Blob>> {
        let core = self.store.core();
        core.load(&core.metadata.view(), digest)
    }

    /// A reader of a content of any size in bounded memory.
    ///
    /// # Errors
    ///
    /// As [`Repository::get`].
    pub fn reader(&self, digest: &Digest) -> Result<Option<BlobReader>> {
        let core = self.store.core();
        core.open_reader(&core.metadata.view(), digest)
    }

    /// Hashes a content, whatever the options say of verifying; answers whether there is one. Damage is remembered, unless the
    /// store is open for reading only: the next push of the content brings it again.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is not what its digest says or its file is missing, naming it; `Io`.
    pub fn verify(&self, digest: &Digest) -> Result<bool> {
        let core = self.store.core();
        core.verify_content(&core.metadata.view(), digest)
    }

    /// The repositories that hold a content or manifest, in byte order of their names.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn holders(&self, digest: &Digest) -> Result<Vec<RepositoryName>> {
        let core = self.store.core();
        core.repositories_of(&core.metadata.view(), digest)
    }

    /// The entries of `index.json` whose names are neither a tag nor `repository:tag`, with what they name. They were
    /// written by other tools and are kept as they are. Entries whose digest cannot be one of stored content are left
    /// out.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn foreign_names(&self) -> Result<Vec<(String, Descriptor)>> {
        let mut found = Vec::new();
        self.store.core().metadata.view().foreign(|name, digest, json| {
            if !name.is_empty() && digest.parse::<Digest>().is_ok() {
                let descriptor = serde_json::from_str(json).map_err(|error| {
                    Error::corrupt(format!("metadata holds an unreadable entry, name={name}"))
                        .with_source(error)
                })?;
                found.push((name.to_owned(), descriptor));
            }
            Ok(until(false))
        })?;
        Ok(found)
    }

    /// A number that is another one after repositories, or entries of other tools, have come or gone: whoever keeps a list
    /// of [`Store::repositories`] or [`Unscoped::foreign_names`] makes it anew then. It may be so a moment before the change can be
    /// seen, and says nothing about tags.
    #[must_use]
    pub fn names_version(&self) -> u64 {
        let core = self.store.core();
        let (new, gone) = (&core.next_repository, &core.repository_epoch);
        let repositories = [new, gone].map(|count| u64::from(count.load(Ordering::Acquire)));
        repositories
            .iter()
            .fold(core.foreign_epoch.load(Ordering::Acquire), |sum, count| sum.wrapping_add(*count))
    }

    /// What a name of `index.json` stands for: `tag`, `repository:tag`, or a foreign name as it is.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn resolve_name(&self, name: &str) -> Result<Option<Descriptor>> {
        match LayoutName::parse(name) {
            LayoutName::Tag(repository, tag) => Repository::new(self.store.clone(), repository).resolve(&tag),
            LayoutName::Foreign(_) => {
                let found = self.foreign_names()?.into_iter().find(|(found, _)| found == name);
                Ok(found.map(|(_, descriptor)| descriptor))
            }
        }
    }
}
