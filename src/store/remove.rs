//! Removals of a batch: what a repository no longer holds goes with its tags and its part of the graph.
//!
//! A removal has its repository for itself, so nothing that it looks at can change before its rows are written.

use super::batch::{Changed, Expect, Listed};
use super::lost::keeps;
use super::plan::Plan;
use super::repositories::untagged;
use super::{Core, tags::stored_tag, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, ManifestRecord, RepositoryId, fact};
use crate::oci::RepositoryName;

impl Plan<'_, '_> {
    pub(super) fn remove(
        &mut self,
        repository: &RepositoryName,
        kind: Kind,
        digest: &Digest,
        listed: Listed,
    ) -> Result<()> {
        if self.added.contains(&(repository.clone(), *digest)) {
            return Err(Error::invalid(format!(
                "a batch adds and removes the same content, repository={repository}, digest={digest}"
            )));
        }
        let Some(id) = self.id(repository)? else { return Err(absent(repository, kind, digest)) };
        if !self.view.is_member(id, kind, digest)? {
            return Err(absent(repository, kind, digest));
        }
        let other = if kind == Kind::Blob { Kind::Manifest } else { Kind::Blob };
        if !self.is_still(repository, id, other, digest)? {
            match listed {
                Listed::Refuse => self.check_unlisted(repository, id, digest)?,
                Listed::Allow => self.make_sparse(repository, id, digest)?,
            }
        }
        if kind == Kind::Manifest {
            self.remove_manifest(repository, id, digest)?;
            self.tell_deleted(repository, digest);
        }
        self.planned.rows.delete_member(id, kind, digest);
        self.lost.left(id, kind, digest);
        // What a sparse manifest lacks is published with it.
        self.planned.view_changed = true;
        Ok(())
    }

    /// Refuses to remove what a manifest that stays refers to. Its referrers do not hold a subject.
    fn check_unlisted(&self, repository: &RepositoryName, id: RepositoryId, digest: &Digest) -> Result<()> {
        let mut by = None;
        self.view.parents(id, digest, None, |parent, roles| {
            if keeps(roles) && self.is_still(repository, id, Kind::Manifest, &parent)? {
                by = Some(parent);
            }
            Ok(until(by.is_some()))
        })?;
        match by {
            None => Ok(()),
            Some(parent) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "a manifest of the repository refers to it, repository={repository}, digest={digest}, manifest={parent}"
                ),
            )),
        }
    }

    /// What refers to something that goes is from now on known to lack it. One that goes itself, or comes with the batch, says
    /// so by itself.
    fn make_sparse(&mut self, repository: &RepositoryName, id: RepositoryId, digest: &Digest) -> Result<()> {
        let mut parents = Vec::new();
        self.view.parents(id, digest, None, |parent, roles| {
            if keeps(roles) && self.is_still(repository, id, Kind::Manifest, &parent)? {
                parents.push(parent);
            }
            Ok(until(false))
        })?;
        for parent in parents {
            let Some(record) = self.view.manifest(id, &parent)? else { continue };
            if !record.sparse {
                let record = ManifestRecord { sparse: true, ..record };
                self.planned.rows.put_member(id, &parent, Some(&record));
            }
            if !self.planned.sparse {
                self.planned.rows.put_flag(fact::SPARSE);
                self.planned.sparse = true;
            }
        }
        Ok(())
    }

    fn remove_manifest(
        &mut self,
        repository: &RepositoryName,
        id: RepositoryId,
        digest: &Digest,
    ) -> Result<()> {
        let mut tags = Vec::new();
        self.view.tags_of(id, digest, |tag| {
            tags.push(stored_tag(tag)?);
            Ok(until(false))
        })?;
        for tag in tags {
            // The batch may have moved it away.
            if self.current_tag(id, &tag)? == Some(*digest) {
                self.tag(repository.clone(), tag, None, Expect::Any, Changed::Now)?;
            }
        }
        // An older index.json of another tool must not bring it back.
        self.planned.rows.put_base(&untagged(digest), Some(digest));
        let Some(record) = self.view.manifest(id, digest)? else { return Ok(()) };
        if self.has_referrers(id, digest)? {
            self.lost.left_referrers(id, digest);
        }
        if let Some(manifest) = self.core.parse_stored(&self.view, &record.media_type, digest)? {
            self.lost.orphans(id, &manifest);
            Core::delete_edges(&mut self.planned.rows, &self.view, id, digest, &record, &manifest)?;
        }
        Ok(())
    }
}

fn absent(repository: &RepositoryName, kind: Kind, digest: &Digest) -> Error {
    let what = if kind == Kind::Manifest { "manifest" } else { "blob" };
    Error::not_found(format!(
        "the repository does not hold the {what} to be removed, repository={repository}, digest={digest}"
    ))
}
