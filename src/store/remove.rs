//! Removals of a batch: what a repository no longer holds goes with its tags and its part of the graph.
//!
//! A removal has its repository for itself, so nothing that it looks at can change before its rows are written.

use super::batch::{Changed, Expect};
use super::plan::Plan;
use super::repositories::untagged;
use super::{Core, tags::stored_tag, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, RepositoryId};
use crate::oci::{RepositoryName, Role};

impl Plan<'_, '_> {
    pub(super) fn remove(&mut self, repository: &RepositoryName, kind: Kind, digest: &Digest) -> Result<()> {
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
            self.check_unlisted(repository, id, digest)?;
        }
        if kind == Kind::Manifest {
            self.remove_manifest(repository, id, digest)?;
            self.tell_deleted(repository, digest);
        }
        self.planned.rows.delete_member(id, kind, digest);
        // What a sparse manifest lacks is published with it.
        self.planned.view_changed = true;
        Ok(())
    }

    /// Refuses to remove what a manifest that stays refers to. Its referrers do not hold a subject.
    fn check_unlisted(&self, repository: &RepositoryName, id: RepositoryId, digest: &Digest) -> Result<()> {
        let mut by = None;
        self.view.parents(id, digest, None, |parent, roles| {
            let lists = roles & !(1 << Role::Subject.code()) != 0;
            if lists && self.is_still(repository, id, Kind::Manifest, &parent)? {
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
        if let Some(manifest) = self.core.parse_stored(&self.view, &record.media_type, digest)? {
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
