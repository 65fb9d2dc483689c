//! The first phase: a group of candidates is looked at under its stripes, and what nothing needs loses its rows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::work::{Candidate, Gone, Read, Task, What, Why};
use super::{Collection, KEPT, Unreadable};
use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::{
    Class, EventChange, GraphCursor, Kind, ManifestRecord, Queued, RepositoryId, Rows, View,
};
use crate::oci::{Manifest, Role};
use crate::store::locks::Need;
use crate::store::lost::keeps;
use crate::store::repositories::{stored_name, untagged};
use crate::store::{Core, until};
use crate::sys::fault::{self, Call};

/// What holds for all groups of one run.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) grace: Duration,
    /// What is queued again is due after this moment.
    pub(super) cutoff: u64,
    pub(super) foreign: &'a HashSet<Digest>,
    pub(super) dry_run: bool,
}

/// What becomes of a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// It is needed, or not there: the queue can forget it.
    Settled,
    /// It is protected for now.
    Kept,
    Removed,
}

/// What was done with a group.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) manifests: u64,
    pub(super) kept: u64,
    /// What a dry run has to look at next.
    pub(super) next: Vec<Task>,
}

struct Judge<'a, 'b> {
    core: &'a Core,
    view: View<'a>,
    /// The graph as it is since the stripes were taken, which keep what is looked at as it is.
    graph: GraphCursor<'a>,
    /// Repositories of the group, and whether they are there: nobody deletes them meanwhile.
    repositories: HashMap<RepositoryId, bool>,
    /// Without any lease nothing is leased, and nothing of the group can be before its stripes are given back.
    leases: bool,
    rows: Rows<'a>,
    terms: Terms<'b>,
    gone: &'b mut Gone,
    report: &'b mut Collection,
    outcome: Outcome,
    /// Rows and bytes of the journal that go.
    journal: (u64, u64),
    /// What readers of events are told, if the store has them.
    changes: Vec<EventChange>,
}

impl Core {
    /// Removes what can go of a group, in rows that are not synced yet.
    pub(super) fn judge(
        &self,
        group: &[Candidate],
        terms: Terms<'_>,
        gone: &mut Gone,
        report: &mut Collection,
    ) -> Result<Outcome> {
        let mut reads = Vec::with_capacity(group.len());
        for candidate in group {
            reads.push(match candidate.what {
                What::Manifest(_) => Read::of(self, &self.metadata.view(), candidate)?,
                What::Blob | What::Content => Read::Absent,
            });
        }
        let names = self.names_of(group)?;
        // A publisher that has taken its snapshot must find what that has in the journal; it waits for no stripe of ours.
        let publishing = (!terms.dry_run).then(|| self.publishing.lock());
        let take = || {
            if terms.dry_run {
                return None;
            }
            let repositories =
                self.locks.repositories(names.iter().map(|name| (name.as_str(), Need::Shared)));
            let settling = self.settling.lock();
            let subjects = reads.iter().filter_map(Read::subject).map(|subject| (subject, Need::Shared));
            let own = group.iter().map(|candidate| (&candidate.digest, Need::Exclusive));
            Some((repositories, settling, self.locks.content(own.chain(subjects))))
        };
        let early = fault::left_out(Call::LookUnderStripe, &self.root);
        let mut held = if early { None } else { take() };
        let mut judge = Judge {
            core: self,
            view: self.metadata.view(),
            graph: self.metadata.graph_cursor(),
            repositories: HashMap::new(),
            leases: self.metadata.view().is_any_lease()?,
            rows: self.metadata.rows(),
            terms,
            gone,
            report,
            outcome: Outcome::default(),
            journal: (0, 0),
            changes: Vec::new(),
        };
        for (candidate, read) in group.iter().zip(&reads) {
            judge.one(candidate, read)?;
        }
        let Judge { rows, outcome, journal, changes, .. } = judge;
        if terms.dry_run {
            return Ok(outcome);
        }
        if early {
            held = take();
        }
        self.condemned.store(true, Ordering::Release);
        // What somebody may be told of must not be undone.
        let told = !changes.is_empty();
        let mut rows = rows.count()?;
        let ticket = self.record(&mut rows, changes);
        let (unsynced, ticket) = self.with_ticket(self.put_anyway(rows, told && self.durable()), ticket)?;
        self.journal.release(journal.0, journal.1);
        // What a sparse manifest lacks is published with it.
        if outcome.manifests > 0 || self.sparse.load(Ordering::Relaxed) {
            self.signals.view_changed();
        }
        drop((held, publishing));
        self.sync_and_show(unsynced, ticket)?;
        Ok(outcome)
    }

    fn names_of(&self, group: &[Candidate]) -> Result<Vec<String>> {
        let mut ids: Vec<RepositoryId> = group
            .iter()
            .filter(|candidate| candidate.what != What::Content)
            .map(|candidate| candidate.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let view = self.metadata.view();
        let mut names = Vec::with_capacity(ids.len());
        for id in ids {
            names.extend(view.repository_name(id)?);
        }
        Ok(names)
    }
}

impl Judge<'_, '_> {
    fn one(&mut self, candidate: &Candidate, read: &Read) -> Result<()> {
        let verdict = match candidate.what {
            What::Content => self.content(&candidate.digest)?,
            _ if !self.is_repository(candidate.id)? => Verdict::Settled,
            What::Blob => self.blob(candidate)?,
            What::Manifest(why) => self.manifest(candidate, why, read)?,
        };
        self.outcome.kept += u64::from(verdict == Verdict::Kept);
        if !self.terms.dry_run {
            self.settle(candidate, verdict)?;
        }
        Ok(())
    }

    fn is_repository(&mut self, id: RepositoryId) -> Result<bool> {
        if let Some(known) = self.repositories.get(&id) {
            return Ok(*known);
        }
        let found = self.view.repository_name(id)?.is_some();
        self.repositories.insert(id, found);
        Ok(found)
    }

    /// The row that brought the candidate here has done its duty, or waits for another turn.
    fn settle(&mut self, candidate: &Candidate, verdict: Verdict) -> Result<()> {
        let Candidate { what, id, digest, since } = *candidate;
        let class = match what {
            What::Manifest(Why::Referrer) => None,
            What::Manifest(Why::Named) => Some(Class::Manifest),
            What::Manifest(Why::Untagged) => {
                // One that is protected goes on waiting where it is.
                if verdict == Verdict::Settled {
                    self.rows.delete_untagged(id, &digest, since);
                }
                None
            }
            What::Blob => Some(Class::Blob),
            What::Content => Some(Class::Content),
        };
        let Some(class) = class else { return Ok(()) };
        let row = Queued::new(class, since, id, digest);
        self.rows.delete_queued(&row);
        if verdict == Verdict::Kept {
            self.rows.put_queued(&Queued { since: self.again(), ..row });
        }
        Ok(())
    }

    fn again(&self) -> u64 {
        self.core.clock.wall().max(self.terms.cutoff.saturating_add(1))
    }

    fn is_member(&self, id: RepositoryId, kind: Kind, digest: &Digest) -> Result<bool> {
        Ok(!self.gone.members.contains(&(id, kind, *digest)) && self.view.is_member(id, kind, digest)?)
    }

    /// Whether a manifest of the repository refers to it, not as its subject.
    fn is_referred(&mut self, id: RepositoryId, digest: &Digest) -> Result<bool> {
        let (mut found, gone) = (false, &self.gone);
        self.graph.parents(id, digest, |parent, roles| {
            found = keeps(roles) && !gone.members.contains(&(id, Kind::Manifest, parent));
            Ok(until(found))
        })?;
        Ok(found)
    }

    fn is_protected(&mut self, id: RepositoryId, digest: &Digest) -> Result<bool> {
        let core = self.core;
        let kept = &mut self.report.kept;
        let count = if self.terms.foreign.contains(digest) {
            &mut kept.foreign
        } else if self.leases && core.is_leased(&self.view, digest)? {
            &mut kept.leased
        } else if core.touched.is_touched(digest, self.terms.grace, core.clock.elapsed()) {
            &mut kept.touched
        } else {
            return Ok(false);
        };
        *count += u64::from(self.gone.counts(id, digest));
        Ok(true)
    }

    fn blob(&mut self, candidate: &Candidate) -> Result<Verdict> {
        let Candidate { id, digest, .. } = *candidate;
        if !self.is_member(id, Kind::Blob, &digest)? || self.is_referred(id, &digest)? {
            return Ok(Verdict::Settled);
        }
        if self.is_protected(id, &digest)? {
            return Ok(Verdict::Kept);
        }
        self.rows.delete_member(id, Kind::Blob, &digest);
        self.gone.members.insert((id, Kind::Blob, digest));
        self.report.blobs += 1;
        self.condemn(&digest)?;
        Ok(Verdict::Removed)
    }

    fn manifest(&mut self, candidate: &Candidate, why: Why, read: &Read) -> Result<Verdict> {
        let Candidate { id, digest, .. } = *candidate;
        let record = self.view.manifest(id, &digest)?;
        let Some(record) = record.filter(|_| !self.gone.members.contains(&(id, Kind::Manifest, digest)))
        else {
            return Ok(Verdict::Settled);
        };
        let mut tagged = false;
        self.view.tags_of(id, &digest, |tag| {
            tagged = self.gone.tags.is_empty() || !self.gone.tags.contains(&(id, tag.to_owned()));
            Ok(until(tagged))
        })?;
        if tagged || self.is_referred(id, &digest)? {
            return Ok(Verdict::Settled);
        }
        let manifest = match read {
            Read::Parsed(known, manifest) if *known == record => manifest,
            // It came or changed just now.
            Read::Absent | Read::Parsed(..) => return Ok(Verdict::Kept),
            Read::Unreadable(reason) => {
                self.unreadable(id, &digest, reason)?;
                return Ok(Verdict::Kept);
            }
        };
        if let Some(subject) = manifest.subject()
            && self.is_member(id, Kind::Manifest, &subject.digest)?
        {
            return Ok(Verdict::Settled);
        }
        if self.is_protected(id, &digest)? {
            return Ok(Verdict::Kept);
        }
        self.remove_manifest(candidate, why, &record, manifest)?;
        Ok(Verdict::Removed)
    }

    fn unreadable(&mut self, id: RepositoryId, digest: &Digest, reason: &str) -> Result<()> {
        if !self.gone.counts(id, digest) {
            return Ok(());
        }
        self.report.kept.unreadable += 1;
        if self.report.unreadable.len() < KEPT
            && let Some(name) = self.view.repository_name(id)?
        {
            let (repository, reason) = (stored_name(&name)?, reason.to_owned());
            self.report.unreadable.push(Unreadable { repository, digest: *digest, reason });
        }
        Ok(())
    }

    fn remove_manifest(
        &mut self,
        candidate: &Candidate,
        why: Why,
        record: &ManifestRecord,
        manifest: &Manifest,
    ) -> Result<()> {
        let Candidate { id, digest, since, .. } = *candidate;
        // An older index.json of another tool must not bring it back.
        self.rows.put_base(&untagged(&digest), Some(&digest));
        Core::delete_edges(&mut self.rows, &self.view, id, &digest, record, manifest)?;
        self.rows.delete_member(id, Kind::Manifest, &digest);
        if let Some(since) = self.view.untagged_since(id, &digest)? {
            self.rows.delete_untagged(id, &digest, since);
        }
        self.gone.members.insert((id, Kind::Manifest, digest));
        self.report.manifests += 1;
        if self.core.feed.is_some()
            && let Some(repository) = self.view.repository_name(id)?
        {
            self.changes.push(EventChange::Deleted { repository, digest });
        }
        self.outcome.manifests += 1;
        let mut children: Vec<Digest> =
            manifest.successors().iter().map(|child| child.descriptor.digest).collect();
        children.sort_unstable();
        children.dedup();
        for child in children {
            if self.is_member(id, Kind::Manifest, &child)? {
                // What only an untagged index named is untagged as long as that was.
                let why = if why == Why::Untagged { why } else { Why::Named };
                self.follow(Candidate { what: What::Manifest(why), id, digest: child, since })?;
            }
            if self.is_member(id, Kind::Blob, &child)? {
                self.follow(Candidate { what: What::Blob, id, digest: child, since })?;
            }
        }
        self.follow_referrers(id, &digest, since)?;
        self.condemn(&digest)
    }

    /// What lost an edge is due as soon as what it hung on: touches and leases protect it by themselves.
    fn follow(&mut self, next: Candidate) -> Result<()> {
        if self.terms.dry_run {
            self.outcome.next.push(Task::Candidate(next));
            return Ok(());
        }
        let Candidate { what, id, digest, since } = next;
        let class = match what {
            What::Manifest(Why::Untagged) => {
                let before = self.view.untagged_since(id, &digest)?;
                self.rows.put_untagged(id, &digest, since, before);
                return Ok(());
            }
            What::Manifest(Why::Named | Why::Referrer) => Class::Manifest,
            What::Blob => Class::Blob,
            What::Content => Class::Content,
        };
        self.rows.put_queued(&Queued::new(class, since, id, digest));
        Ok(())
    }

    fn follow_referrers(&mut self, id: RepositoryId, subject: &Digest, since: u64) -> Result<()> {
        let mut any = false;
        self.graph.parents(id, subject, |_, roles| {
            any = roles & (1 << Role::Subject.code()) != 0;
            Ok(until(any))
        })?;
        if any {
            let sequence = self.core.last_sequence();
            let row = Queued { sequence, ..Queued::new(Class::Subject, since, id, *subject) };
            if self.terms.dry_run {
                self.outcome.next.push(Task::Subject(row));
            } else {
                self.rows.put_queued(&row);
            }
        }
        Ok(())
    }

    fn content(&mut self, digest: &Digest) -> Result<Verdict> {
        let known = !self.gone.contents.contains(digest) && self.view.content(digest)?.is_some();
        if !known || self.is_held(digest)? {
            return Ok(Verdict::Settled);
        }
        if self.is_protected(RepositoryId(0), digest)? {
            return Ok(Verdict::Kept);
        }
        self.condemn(digest)?;
        Ok(Verdict::Removed)
    }

    fn is_held(&mut self, digest: &Digest) -> Result<bool> {
        let (mut held, gone) = (false, &self.gone);
        self.graph.holders(digest, |id, kind| {
            held = !gone.members.contains(&(id, kind, *digest));
            Ok(until(held))
        })?;
        Ok(held)
    }

    /// Content that nobody holds and nothing protects is no longer known; its file goes later.
    fn condemn(&mut self, digest: &Digest) -> Result<()> {
        if self.is_held(digest)? {
            return Ok(());
        }
        let Some(record) = self.view.content(digest)? else { return Ok(()) };
        if !self.gone.contents.insert(*digest) {
            return Ok(());
        }
        self.report.contents += 1;
        self.report.bytes += record.size;
        if self.terms.dry_run {
            return Ok(());
        }
        self.rows.delete_condemned(digest, record.size);
        if !self.core.journal.is_empty()
            && let Some((_, content)) = self.view.journal(digest)?
        {
            let size = content.len() as u64;
            self.rows.delete_journal(digest, size);
            self.journal.0 += 1;
            self.journal.1 += size;
        }
        self.rows.put_tombstone(digest, self.core.metadata.next_sequence());
        Ok(())
    }
}
