//! The entries of `index.json`: every tag, every untagged root and referrer, of every repository.
//!
//! The annotation on an entry restores membership after a rebuild; it is left out where the name says as much.

use std::io::Write;

use super::publish::vanished;
use super::report::Report;
use super::repositories::stored_name;
use super::tags::stored_tag;
use super::{Core, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, ManifestRecord, RepositoryId, View, fact};
use crate::oci::layout::{MEMBERSHIP, REF_NAME};
use crate::oci::{Descriptor, IndexWriter, LayoutName, Manifest, Membership, RepositoryName, Role};

/// Writes all entries of a view, in order: tags by repository and name, untagged manifests, entries of other tools.
pub(super) fn write_entries<W: Write>(
    view: &View<'_>,
    core: &Core,
    writer: &mut IndexWriter<W>,
) -> Result<()> {
    let mut entries = Entries {
        view,
        core,
        writer,
        extras: view.has_extras()?,
        sparse: view.has_fact(fact::SPARSE)?,
        visited: 0,
    };
    entries.each_repository(Entries::tags)?;
    entries.each_repository(Entries::untagged)?;
    entries.foreign()
}

struct Entries<'a, W: Write> {
    view: &'a View<'a>,
    core: &'a Core,
    writer: &'a mut IndexWriter<W>,
    /// Whether other tools said more of any entry than we would.
    extras: bool,
    /// Whether any manifest ever came without all that it refers to.
    sparse: bool,
    visited: u64,
}

/// Manifests between two looks at the journal: a view with many entries takes long, and commits go on.
const BREATH: u64 = 1024;

impl<W: Write> Entries<'_, W> {
    fn each_repository(
        &mut self,
        mut visit: impl FnMut(&mut Self, RepositoryId, &RepositoryName) -> Result<()>,
    ) -> Result<()> {
        let view = self.view;
        view.repositories(None, |name, id| {
            visit(self, id, &stored_name(name)?)?;
            Ok(until(false))
        })
    }

    fn tags(&mut self, id: RepositoryId, repository: &RepositoryName) -> Result<()> {
        let view = self.view;
        view.tags(id, None, |tag, digest| {
            let record = view.manifest(id, &digest)?.ok_or_else(|| vanished("a tagged manifest", &digest))?;
            let name = LayoutName::of(repository, &stored_tag(tag)?);
            let holders = self.holders(&digest)?;
            self.entry(Some(&name), repository, &digest, record, &holders)?;
            self.breathe()?;
            Ok(until(false))
        })
    }

    fn untagged(&mut self, id: RepositoryId, repository: &RepositoryName) -> Result<()> {
        let view = self.view;
        view.manifests(id, None, |digest, record| {
            if !self.is_tagged(id, &digest)? && self.needs_entry(id, &digest, &record)? {
                let holders = self.holders(&digest)?;
                if self.speaks_for(id, &digest, &holders)? {
                    self.entry(None, repository, &digest, record, &holders)?;
                }
            }
            self.breathe()?;
            Ok(until(false))
        })
    }

    /// Files the journal if it is filling up meanwhile.
    fn breathe(&mut self) -> Result<()> {
        self.visited += 1;
        if self.visited.is_multiple_of(BREATH) && self.core.signals.take_press() {
            self.core.file_journal()?;
        }
        Ok(())
    }

    /// The repositories that hold a manifest as one, in order of their ids. One that is being deleted holds nothing.
    fn holders(&self, digest: &Digest) -> Result<Vec<(RepositoryId, RepositoryName)>> {
        let mut holders = Vec::with_capacity(1);
        self.view.holders(digest, |id, kind| {
            if kind == Kind::Manifest
                && let Some(name) = self.view.repository_name(id)?
            {
                holders.push((id, stored_name(&name)?));
            }
            Ok(until(false))
        })?;
        Ok(holders)
    }

    /// Whether this repository is the one under which an untagged manifest is listed: no tag names it anywhere, and
    /// this is the first of the repositories that need it listed.
    fn speaks_for(
        &self,
        id: RepositoryId,
        digest: &Digest,
        holders: &[(RepositoryId, RepositoryName)],
    ) -> Result<bool> {
        for (other, _) in holders.iter().filter(|(other, _)| *other != id) {
            if self.is_said_by(*other, id, digest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether another repository lists a manifest: with a tag, or because it comes before this one.
    fn is_said_by(&self, other: RepositoryId, id: RepositoryId, digest: &Digest) -> Result<bool> {
        let Some(record) = self.view.manifest(other, digest)? else { return Ok(false) };
        Ok(self.is_tagged(other, digest)? || (other < id && self.needs_entry(other, digest, &record)?))
    }

    fn is_tagged(&self, id: RepositoryId, digest: &Digest) -> Result<bool> {
        let mut tagged = false;
        self.view.tags_of(id, digest, |_| {
            tagged = true;
            Ok(until(true))
        })?;
        Ok(tagged)
    }

    /// A manifest that another one of its repository lists as one is reached through that, unless it has something of its
    /// own to say.
    fn needs_entry(&self, id: RepositoryId, digest: &Digest, record: &ManifestRecord) -> Result<bool> {
        if record.sparse {
            return Ok(true);
        }
        let mut contained = false;
        self.view.parents(id, digest, None, |_, roles| {
            contained = roles & (1 << Role::Manifest.code()) != 0;
            Ok(until(contained))
        })?;
        Ok(!contained)
    }

    fn entry(
        &mut self,
        name: Option<&str>,
        repository: &RepositoryName,
        digest: &Digest,
        record: ManifestRecord,
        holders: &[(RepositoryId, RepositoryName)],
    ) -> Result<()> {
        let mut descriptor = self.describe(name, digest, record)?;
        if let Some(name) = name {
            descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        }
        let membership = self.membership(digest, holders)?;
        let implied = membership.sparse.is_empty() && membership.repositories == [repository.clone()];
        // An untagged entry without the annotation belongs to the unnamed repository.
        if !implied || (name.is_none() && !repository.is_unnamed()) {
            descriptor.annotations.insert(MEMBERSHIP.to_owned(), membership.to_string());
        }
        self.writer.entry(&descriptor).map_err(|error| Error::io("write index.json", &self.core.root, error))
    }

    /// What another tool said of the entry stays, as long as it is about the same content.
    fn describe(&self, name: Option<&str>, digest: &Digest, record: ManifestRecord) -> Result<Descriptor> {
        if self.extras
            && let Some(json) = self.view.extra(name, digest)?
            && let Ok(descriptor) = serde_json::from_str::<Descriptor>(&json)
            && descriptor.digest == *digest
        {
            return Ok(descriptor);
        }
        let content = self.view.content(digest)?.ok_or_else(|| vanished("a manifest", digest))?;
        Ok(super::manifests::describe(digest, content.size, record))
    }

    fn membership(&self, digest: &Digest, holders: &[(RepositoryId, RepositoryName)]) -> Result<Membership> {
        let mut membership = Membership::default();
        for (id, name) in holders {
            // Nothing is sparse in most stores, and then nobody needs the records.
            if self.sparse
                && let Some(record) = self.view.manifest(*id, digest)?
                && record.sparse
            {
                let lacking = self.lacking(*id, digest, &record)?;
                if !lacking.is_empty() {
                    membership.sparse.insert(name.clone(), lacking);
                }
            }
            membership.repositories.push(name.clone());
        }
        Ok(membership)
    }

    /// What a repository does not hold of what a manifest refers to.
    fn lacking(&self, id: RepositoryId, digest: &Digest, record: &ManifestRecord) -> Result<Vec<Digest>> {
        let mut lacking = Vec::new();
        let manifest = match self.core.parse_stored(self.view, &record.media_type, digest) {
            // What one damaged manifest refers to cannot be told; everything else must be published all the same.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.core.report(Report::Missing { digest: *digest, reason: error.to_string() });
                return Ok(lacking);
            }
            other => other?,
        };
        for child in manifest.iter().flat_map(Manifest::successors) {
            if !self.view.holds(id, &child.descriptor.digest)? {
                lacking.push(child.descriptor.digest);
            }
        }
        Ok(lacking)
    }

    /// Whether an entry that is kept beside a tag of the same name can be followed.
    fn is_also(&self, repository: &RepositoryName, digest: &str) -> Result<bool> {
        let Some(id) = self.view.repository(repository.as_str())? else { return Ok(false) };
        let Ok(digest) = digest.parse::<Digest>() else { return Ok(false) };
        self.view.is_member(id, Kind::Manifest, &digest)
    }

    fn foreign(&mut self) -> Result<()> {
        let view = self.view;
        view.foreign(|name, digest, json| {
            // A name that has become one of ours is written with our tags, unless it stood for something else as well.
            if let LayoutName::Tag(repository, tag) = LayoutName::parse(name)
                && view.tag_in(repository.as_str(), tag.as_str())?.is_some()
                && !self.is_also(&repository, digest)?
            {
                return Ok(until(false));
            }
            self.writer.raw(json).map_err(|error| Error::io("write index.json", &self.core.root, error))?;
            Ok(until(false))
        })
    }
}
