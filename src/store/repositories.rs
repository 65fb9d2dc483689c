//! Repositories: listing and deletion. They come into being with what is pushed into them.

use std::sync::atomic::Ordering;

use super::locks::Need;
use super::{Core, Page, Store, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Class, EventChange, Kind, ManifestRecord, Queued, RepositoryId, Rows, View};
use crate::oci::{LayoutName, Manifest, RepositoryName};

/// Rows of one deletion that are written as one.
const CHUNK: usize = 10_000;

/// Members of a deleted repository that go under one set of stripes, of which there are many more.
const GROUP: usize = 128;

impl Store {
    /// Repositories by pages in byte order of their names, so the unnamed one first: those after `after`, which need not
    /// exist.
    ///
    /// A repository exists from what is first pushed or mounted into it until [`Store::delete_repository`]: one that removals
    /// have emptied is still listed. A rebuild knows only repositories that hold something, and forgets the others.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn repositories(&self, after: Option<&RepositoryName>, limit: usize) -> Result<Page<RepositoryName>> {
        let core = self.core();
        let view = core.metadata.view();
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(Page::cut(found, 0));
        }
        view.repositories(after.map(RepositoryName::as_str), |name, _| {
            found.push(stored_name(name)?);
            Ok(until(found.len() > limit))
        })?;
        Ok(Page::cut(found, limit))
    }

    /// Deletes a repository with its tags, its membership and its upload sessions; answers whether there was one. Content that no other
    /// repository holds is no longer visible; its bytes stay until a collection takes them.
    ///
    /// It is gone for everybody with one commit; pushes into it wait for that. The work behind it is proportional to what
    /// the repository held. What is left of it when a disk is full goes with the next deletion or collection that finds room, and
    /// the next open finishes what a crash interrupts.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn delete_repository(&self, name: &RepositoryName) -> Result<bool> {
        let core = self.core();
        core.check_writable()?;
        let held = core.locks.repositories([(name.as_str(), Need::Exclusive)].into_iter());
        let Some(id) = core.metadata.view().repository(name.as_str())? else {
            let (unsynced, _, ends) = core.put_end_of_uploads(name, core.metadata.rows(), None)?;
            drop(held);
            core.sync(unsynced)?;
            core.remove_uploads(&ends);
            return Ok(false);
        };
        // Until the repository is gone nothing may settle what is remembered for that.
        let settling = core.settling.lock();
        core.remember_published(id, name)?;
        let mut rows = core.metadata.rows();
        rows.delete_repository(id, name.as_str());
        let gone = EventChange::RepositoryDeleted { repository: name.as_str().to_owned() };
        let (unsynced, ticket, ends) = core.put_end_of_uploads(name, rows, Some(gone))?;
        core.repository_epoch.fetch_add(1, Ordering::Release);
        core.quotas.forget(id);
        core.signals.committed(true, false);
        drop((held, settling));
        core.sync_and_show(unsynced, ticket)?;
        core.remove_uploads(&ends);
        // It is gone, whatever becomes of its rows: what stays of them goes later.
        if core.clear_deleted(id).is_err() {
            core.uncleared.lock().push(id);
        }
        let _ = core.clear_uncleared();
        Ok(true)
    }
}

impl Core {
    /// What the published view says of a repository that is about to go, so that an older `index.json` of another tool does
    /// not bring it back. Harmless if the repository stays after all: it is what the view says. Synced with the rows that
    /// take the repository away.
    fn remember_published(&self, id: RepositoryId, name: &RepositoryName) -> Result<()> {
        let view = self.metadata.snapshot();
        let mut rows = self.metadata.rows();
        view.tags(id, None, |tag, target| {
            let layout_name = LayoutName::of(name, &super::tags::stored_tag(tag)?);
            if view.base(&layout_name)?.is_none() {
                rows.put_base(&layout_name, Some(&target));
            }
            self.write_when_full(&mut rows)?;
            Ok(until(false))
        })?;
        view.manifests(id, None, |digest, _| {
            rows.put_base(&untagged(&digest), Some(&digest));
            self.write_when_full(&mut rows)?;
            Ok(until(false))
        })?;
        self.write_unsynced(rows)
    }

    /// Finishes deletions that a crash interrupted.
    pub(super) fn clear_all_deleted(&self) -> Result<()> {
        let mut deleted = Vec::new();
        self.metadata.view().deleted(|id| {
            deleted.push(id);
            Ok(until(false))
        })?;
        deleted.into_iter().try_for_each(|id| self.clear_deleted(id))
    }

    /// Clears what deletions of this process have left, and may leave again where there is no room.
    pub(super) fn clear_uncleared(&self) -> Result<()> {
        // Nobody else clears these meanwhile.
        let ids = std::mem::take(&mut *self.uncleared.lock());
        let mut outcome = Ok(());
        for id in ids {
            if let Err(error) = self.clear_deleted(id) {
                self.uncleared.lock().push(id);
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Removes the rows of a repository that nobody can find any more, group by group: other repositories may hold the same
    /// content, so each group has its stripes to itself while it is counted and written.
    ///
    /// Not synced before the last row: what comes back after a crash is removed again.
    fn clear_deleted(&self, id: RepositoryId) -> Result<()> {
        let view = self.metadata.snapshot();
        let mut rows = self.metadata.rows();
        view.tags(id, None, |tag, target| {
            rows.move_tag(id, tag, Some(&target), None);
            self.write_when_full(&mut rows)?;
            Ok(until(false))
        })?;
        let mut group = Vec::with_capacity(GROUP);
        view.manifests(id, None, |digest, record| {
            match self.parse_stored(&view, &record.media_type, &digest) {
                Ok(Some(manifest)) => Self::delete_edges(&mut rows, &view, id, &digest, &record, &manifest)?,
                Ok(None) => {}
                // Edges of a repository that is gone are never looked at; only their bytes stay.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
            if let Some(since) = view.untagged_since(id, &digest)? {
                rows.delete_untagged(id, &digest, since);
            }
            self.write_when_full(&mut rows)?;
            self.remove_when_full(id, Kind::Manifest, &mut group, digest)?;
            Ok(until(false))
        })?;
        self.write_unsynced(rows)?;
        self.remove_members(id, Kind::Manifest, &mut group)?;
        view.blobs(id, None, |digest| {
            self.remove_when_full(id, Kind::Blob, &mut group, digest)?;
            Ok(until(false))
        })?;
        self.remove_members(id, Kind::Blob, &mut group)?;
        let mut rows = self.metadata.rows();
        rows.delete_retention(id);
        rows.finish_deleted(id);
        self.write(rows)
    }

    fn remove_when_full(
        &self,
        id: RepositoryId,
        kind: Kind,
        group: &mut Vec<Digest>,
        digest: Digest,
    ) -> Result<()> {
        group.push(digest);
        if group.len() < GROUP { Ok(()) } else { self.remove_members(id, kind, group) }
    }

    fn remove_members(&self, id: RepositoryId, kind: Kind, group: &mut Vec<Digest>) -> Result<()> {
        let _held = self.locks.content(group.iter().map(|digest| (digest, Need::Exclusive)));
        let now = self.clock.wall();
        let mut rows = self.metadata.rows();
        for digest in group.drain(..) {
            rows.delete_member(id, kind, &digest);
            // Other repositories may hold it, which a collection finds out.
            rows.put_queued(&Queued::new(Class::Content, now, RepositoryId(0), digest));
        }
        self.write_unsynced(rows)
    }

    /// Takes away what a manifest's membership brought into the graph.
    pub(super) fn delete_edges(
        rows: &mut Rows<'_>,
        view: &View<'_>,
        id: RepositoryId,
        digest: &Digest,
        record: &ManifestRecord,
        manifest: &Manifest,
    ) -> Result<()> {
        for child in manifest.successors() {
            rows.delete_edge(id, &child.descriptor.digest, digest);
        }
        if let Some(subject) = manifest.subject() {
            rows.delete_edge(id, &subject.digest, digest);
            if let Some(row) = view.referrer(id, &subject.digest, record.sequence)? {
                rows.delete_referrer(id, &subject.digest, record.sequence, &row);
            }
        }
        Ok(())
    }

    fn write_when_full<'a>(&'a self, rows: &mut Rows<'a>) -> Result<()> {
        if rows.len() < CHUNK {
            return Ok(());
        }
        self.write_unsynced(std::mem::replace(rows, self.metadata.rows()))
    }

    /// The repositories that hold a content or manifest, in byte order of their names; not one that is being deleted.
    pub(super) fn repositories_of(&self, view: &View<'_>, digest: &Digest) -> Result<Vec<RepositoryName>> {
        let mut ids = Vec::new();
        view.holders(digest, |id, _| {
            ids.push(id);
            Ok(until(false))
        })?;
        ids.dedup();
        let mut names = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(name) = view.repository_name(id)? {
                names.push(stored_name(&name)?);
            }
        }
        names.sort();
        Ok(names)
    }

    /// An id that no repository of this store ever had.
    pub(super) fn new_repository_id(&self) -> Result<RepositoryId> {
        let id = self.next_repository.fetch_add(1, Ordering::Relaxed);
        if id == u32::MAX {
            return Err(Error::new(ErrorKind::Unsupported, format!("repository ids are used up, id={id}")));
        }
        Ok(RepositoryId(id))
    }
}

/// Under which an untagged manifest has its base row. No entry can be named so.
pub(super) fn untagged(digest: &Digest) -> String {
    format!("\0{digest}")
}

/// A name out of the metadata, which only ever took valid ones.
pub(super) fn stored_name(name: &str) -> Result<RepositoryName> {
    if name.is_empty() {
        return Ok(RepositoryName::unnamed());
    }
    let invalid = |_| {
        Error::corrupt(format!("metadata holds an invalid repository name, name={}", name.escape_debug()))
    };
    name.parse().map_err(invalid)
}
