//! What a batch leaves without an edge: put into the collection queue with the batch itself, so that garbage is found
//! without looking for it.
//!
//! A row too many costs a look. A row too few costs space for ever, so every blob that no manifest of its repository
//! refers to, every manifest without a name, and every content that nobody holds has its row.

use std::collections::{HashMap, HashSet};

use super::batch::Changed;
use super::plan::Plan;
use super::until;
use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::{Class, Kind, Queued, RepositoryId};
use crate::oci::{Manifest, Role};

/// What the rows of a batch may have left alone, in the order in which it came up.
#[derive(Default)]
pub(super) struct Lost {
    /// Came into a repository.
    joined: Vec<(RepositoryId, Kind, Digest)>,
    /// Is referred to by a manifest of the batch, not as its subject.
    referred: HashSet<(RepositoryId, Digest)>,
    /// Got a tag.
    tagged: HashSet<(RepositoryId, Digest)>,
    /// Came with the subject.
    attached: HashMap<(RepositoryId, Digest), Digest>,
    /// Lost a tag.
    untagged: Vec<(RepositoryId, Digest)>,
    /// Of those, what a policy took the tag from: it goes with its last name.
    dropped: Vec<(RepositoryId, Digest)>,
    /// Lost a manifest that referred to it.
    orphaned: Vec<(RepositoryId, Digest)>,
    /// Left a repository.
    left: Vec<(RepositoryId, Kind, Digest)>,
    /// Left a repository in which it has referrers.
    subjects: Vec<(RepositoryId, Digest)>,
}

/// Whether an edge keeps what it leads to. A subject does not live by its referrers.
pub(super) fn keeps(roles: u8) -> bool {
    roles & !(1 << Role::Subject.code()) != 0
}

impl Lost {
    pub(super) fn joined(&mut self, id: RepositoryId, kind: Kind, digest: &Digest) {
        self.joined.push((id, kind, *digest));
    }

    /// A manifest of the batch refers to a content in these roles.
    pub(super) fn refers(&mut self, id: RepositoryId, parent: &Digest, child: &Digest, roles: u8) {
        if keeps(roles) {
            self.referred.insert((id, *child));
        }
        if roles & (1 << Role::Subject.code()) != 0 {
            self.attached.insert((id, *parent), *child);
        }
    }

    pub(super) fn moved_tag(
        &mut self,
        id: RepositoryId,
        previous: Option<Digest>,
        target: Option<Digest>,
        changed: Changed,
    ) {
        let lost = previous.map(|previous| (id, previous));
        self.untagged.extend(lost);
        self.dropped.extend(lost.filter(|_| changed == Changed::ByPolicy));
        self.tagged.extend(target.map(|target| (id, target)));
    }

    /// A manifest no longer refers to what it did.
    pub(super) fn orphans(&mut self, id: RepositoryId, manifest: &Manifest) {
        let children = manifest.successors().iter().map(|child| (id, child.descriptor.digest));
        self.orphaned.extend(children);
    }

    pub(super) fn left(&mut self, id: RepositoryId, kind: Kind, digest: &Digest) {
        self.left.push((id, kind, *digest));
    }

    pub(super) fn left_referrers(&mut self, id: RepositoryId, subject: &Digest) {
        self.subjects.push((id, *subject));
    }

    fn is_empty(&self) -> bool {
        // What was dropped is untagged, too.
        let Self {
            joined,
            referred: _,
            tagged: _,
            attached: _,
            untagged,
            dropped: _,
            orphaned,
            left,
            subjects,
        } = self;
        joined.is_empty()
            && untagged.is_empty()
            && orphaned.is_empty()
            && left.is_empty()
            && subjects.is_empty()
    }
}

impl Plan<'_, '_> {
    /// Queues what the batch leaves without an edge, once everything else of it is planned.
    pub(super) fn queue_lost(&mut self) -> Result<()> {
        // A temporary directory has nothing to collect.
        if (self.lost.is_empty() && self.new.is_empty()) || self.core.ephemeral.is_some() {
            return Ok(());
        }
        let lost = std::mem::take(&mut self.lost);
        let now = self.core.clock.wall();
        let leaves: HashSet<(RepositoryId, Kind, Digest)> = lost.left.iter().copied().collect();
        let comes: HashSet<(RepositoryId, Kind, Digest)> = lost.joined.iter().copied().collect();
        for (id, kind, digest) in &lost.joined {
            if lost.referred.contains(&(*id, *digest)) {
                continue;
            }
            match kind {
                Kind::Blob => {
                    self.planned.rows.put_queued(&Queued::new(Class::Blob, now, *id, *digest));
                }
                Kind::Manifest if lost.tagged.contains(&(*id, *digest)) => {}
                Kind::Manifest if self.has_subject(&lost, &comes, *id, digest)? => {}
                Kind::Manifest => self.wait_untagged(*id, digest, now)?,
            }
        }
        // Another tool's content may come without anybody who holds it.
        let held: HashSet<Digest> = lost.joined.iter().map(|(_, _, digest)| *digest).collect();
        for digest in self.new.keys().filter(|digest| !held.contains(*digest)) {
            self.planned.rows.put_queued(&Queued::new(Class::Content, now, RepositoryId(0), *digest));
        }
        for (id, digest) in &lost.untagged {
            let again = lost.tagged.contains(&(*id, *digest));
            if !again && !leaves.contains(&(*id, Kind::Manifest, *digest)) {
                self.wait_untagged(*id, digest, now)?;
            }
        }
        for (id, digest) in &lost.dropped {
            self.planned.rows.put_queued(&Queued::new(Class::Manifest, now, *id, *digest));
        }
        for (id, digest) in &lost.orphaned {
            if lost.referred.contains(&(*id, *digest)) {
                continue;
            }
            if !leaves.contains(&(*id, Kind::Manifest, *digest))
                && self.view.is_member(*id, Kind::Manifest, digest)?
            {
                self.wait_untagged(*id, digest, now)?;
            }
            if !leaves.contains(&(*id, Kind::Blob, *digest)) {
                self.planned.rows.put_queued(&Queued::new(Class::Blob, now, *id, *digest));
            }
        }
        for (id, kind, digest) in &lost.left {
            self.planned.rows.put_queued(&Queued::new(Class::Content, now, RepositoryId(0), *digest));
            if *kind == Kind::Manifest
                && let Some(since) = self.view.untagged_since(*id, digest)?
            {
                self.planned.rows.delete_untagged(*id, digest, since);
            }
        }
        for (id, subject) in &lost.subjects {
            let sequence = self.core.last_sequence();
            let row = Queued { sequence, ..Queued::new(Class::Subject, now, *id, *subject) };
            self.planned.rows.put_queued(&row);
        }
        Ok(())
    }

    /// A referrer lives as long as its subject.
    fn has_subject(
        &self,
        lost: &Lost,
        comes: &HashSet<(RepositoryId, Kind, Digest)>,
        id: RepositoryId,
        digest: &Digest,
    ) -> Result<bool> {
        let Some(subject) = lost.attached.get(&(id, *digest)) else { return Ok(false) };
        Ok(comes.contains(&(id, Kind::Manifest, *subject))
            || self.view.is_member(id, Kind::Manifest, subject)?)
    }

    fn wait_untagged(&mut self, id: RepositoryId, digest: &Digest, now: u64) -> Result<()> {
        let before = self.view.untagged_since(id, digest)?;
        self.planned.rows.put_untagged(id, digest, now, before);
        Ok(())
    }

    /// Whether a manifest has referrers here.
    pub(super) fn has_referrers(&self, id: RepositoryId, subject: &Digest) -> Result<bool> {
        let mut found = false;
        self.view.parents(id, subject, None, |_, roles| {
            found = roles & (1 << Role::Subject.code()) != 0;
            Ok(until(found))
        })?;
        Ok(found)
    }
}
