//! What is exported from: the repositories of a store, or any places, each under the name of a repository.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Deref;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, RepositoryName};
use crate::store::{Repository, Store};
use crate::transfer::Source;

/// Where everything comes from.
pub(super) enum Places<'a> {
    Store(&'a Store),
    Sources(BTreeMap<RepositoryName, &'a dyn Source>),
}

/// One repository.
pub(super) enum Place<'a> {
    Own(Repository),
    Lent(&'a dyn Source),
}

impl<'a> Deref for Place<'a> {
    type Target = dyn Source + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(repository) => repository,
            Self::Lent(source) => *source,
        }
    }
}

impl<'a> Places<'a> {
    /// A repository, there or not.
    pub(super) fn get(&self, name: &RepositoryName) -> Result<Place<'a>> {
        match self {
            Self::Store(store) => Ok(Place::Own(store.repository(name))),
            Self::Sources(sources) => {
                let source = sources.get(name).copied().map(Place::Lent);
                source.ok_or_else(|| Error::invalid(format!("no such place was given, repository={name}")))
            }
        }
    }
}

impl Place<'_> {
    /// A content or manifest from `offset` on.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a store lacks what it had; `NotFound` when another place does; as the place.
    pub(super) fn open(
        &self,
        descriptor: &Descriptor,
        is_manifest: bool,
        offset: u64,
    ) -> Result<Box<dyn Read + Send + '_>> {
        let digest = &descriptor.digest;
        match self {
            Self::Own(repository) => {
                let lost = || Error::corrupt(format!("content is no longer in the store, digest={digest}"));
                let reader = repository.reader(digest)?.filter(|reader| reader.len() == descriptor.size);
                let mut reader = reader.ok_or_else(lost)?;
                reader.seek(SeekFrom::Start(offset)).map_err(|error| {
                    Error::corrupt(format!("content cannot be read, digest={digest}")).with_source(error)
                })?;
                Ok(Box::new(reader))
            }
            Self::Lent(source) => {
                let gone = || {
                    let place = source.place();
                    Error::not_found(format!("content is no longer there, digest={digest}, place={place}"))
                };
                if !is_manifest {
                    return source.content(descriptor, offset)?.ok_or_else(gone);
                }
                let mut bytes = Cursor::new(source.manifest(digest)?.ok_or_else(gone)?.bytes);
                bytes.set_position(offset);
                Ok(Box::new(bytes))
            }
        }
    }

    /// What is wrong when what was read is not what its digest says.
    #[cold]
    pub(super) fn damaged(&self, digest: &Digest, found: &Digest) -> Error {
        match self {
            Self::Own(_) => {
                Error::corrupt(format!("content of the store is damaged, digest={digest}, found={found}"))
            }
            Self::Lent(source) => Error::new(
                ErrorKind::Mismatch,
                format!(
                    "content is not what its digest says, expected={digest}, found={found}, place={}",
                    source.place()
                ),
            ),
        }
    }
}
