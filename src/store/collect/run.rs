//! One collection from its beginning to its end, in steps: the classes of the queue in turn, until nothing that is due is left.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::judge::Terms;
use super::policy::Change;
use super::work::{Candidate, Gone, Task, What, Why};
use super::{Budget, Collection};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::metadata::{Class, Kind, Queued, RepositoryId};
use crate::oci::Role;
use crate::store::observe::{self, Start, Work};
use crate::store::retention::Untagged;
use crate::store::{Core, until};

/// Candidates that are looked at under one set of stripes, of which there are several times as many.
const GROUP: usize = 256;
/// Rows that are not due are counted up to here.
const COUNTED: u64 = 10_000;
/// Rows from further in the future than this were written while the clock was wrong.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a pass over the queue has come.
#[derive(Clone, Copy, Debug)]
enum At {
    Tags,
    Queue(Class, Option<Queued>),
    Untagged(Option<RepositoryId>, Option<(u64, Digest)>),
    End,
}

/// A collection under way.
#[derive(Debug)]
pub(super) struct Run {
    cutoff: u64,
    grace: Duration,
    dry_run: bool,
    /// What entries of other tools reach; read with the first candidate.
    foreign: Option<HashSet<Digest>>,
    at: At,
    /// Manifests removed in this pass, which may have queued what the pass has gone by.
    removed: u64,
    gone: Gone,
    /// Content that was removed since files were taken away.
    waiting: u64,
    leases: u64,
}

impl Run {
    pub(super) fn begin(core: &Core, grace: Duration, dry_run: bool) -> Result<Self> {
        let now = core.clock.wall();
        let mut leases = 0;
        if !dry_run {
            match core.clear_uncleared() {
                // It is there to make room, with what is queued already; and what cannot be read of a repository that is gone is
                // met again by the next open, which heals it.
                Err(error) if !matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Corrupt) => {
                    return Err(error);
                }
                _ => {}
            }
            leases = core.end_leases(false)?;
            core.expire_uploads()?;
            core.correct_times(now)?;
        }
        let at = At::Tags;
        Ok(Self {
            cutoff: before(now, grace),
            grace,
            dry_run,
            foreign: None,
            at,
            removed: 0,
            gone: Gone::default(),
            waiting: 0,
            leases,
        })
    }

    pub(super) fn step(
        &mut self,
        core: &Core,
        budget: Budget,
        change: Option<&Change<'_>>,
    ) -> Result<Collection> {
        let _span = observe::enter(Work::Collect, &core.root);
        let start = Start::now();
        let report = self.one_step(core, budget, change);
        if !self.dry_run {
            core.meters.collected(start, report.as_ref());
        }
        report
    }

    fn one_step(&mut self, core: &Core, budget: Budget, change: Option<&Change<'_>>) -> Result<Collection> {
        let mut report = Collection { leases: std::mem::take(&mut self.leases), ..Collection::default() };
        if self.dry_run {
            self.try_all(core, change, &mut report)?;
        } else {
            self.work(core, budget, change, &mut report)?;
            self.waiting += report.contents;
            if report.complete || self.waiting > budget.waiting {
                core.bury_condemned(&mut report)?;
                self.waiting = 0;
            } else {
                report.waiting = self.waiting;
            }
        }
        if report.complete {
            report.kept.not_due = core.count_not_due(self.cutoff)?;
        }
        Ok(report)
    }

    fn work(
        &mut self,
        core: &Core,
        budget: Budget,
        change: Option<&Change<'_>>,
        report: &mut Collection,
    ) -> Result<()> {
        if matches!(self.at, At::Tags) {
            core.drop_tags(change, report)?;
            // What they named may be due at once.
            self.cutoff = self.cutoff.max(before(core.clock.wall(), self.grace));
            self.at = At::Queue(Class::Manifest, None);
        }
        let end = core.clock.elapsed().saturating_add(budget.time);
        let mut left = budget.items;
        loop {
            let group = self.next_group(core, left, change)?;
            left = left.saturating_sub(group.len() as u64);
            self.group(core, group, report)?;
            if matches!(self.at, At::End) {
                if self.removed == 0 {
                    report.complete = true;
                    return Ok(());
                }
                self.removed = 0;
                self.at = At::Queue(Class::Manifest, None);
            }
            if left == 0 || core.clock.elapsed() >= end {
                return Ok(());
            }
        }
    }

    /// The next tasks, and where to go on behind them.
    fn next_group(&mut self, core: &Core, left: u64, change: Option<&Change<'_>>) -> Result<Vec<Task>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).clamp(1, GROUP);
        let view = core.metadata.view();
        let mut tasks = Vec::new();
        self.at = match self.at {
            At::Queue(class, after) => {
                let mut last = None;
                view.queued(class, after.as_ref(), self.cutoff, |row| {
                    last = Some(row);
                    tasks.push(task_of(row));
                    Ok(until(tasks.len() >= most))
                })?;
                match last {
                    Some(row) => At::Queue(class, Some(row)),
                    None => match class {
                        Class::Manifest => At::Queue(Class::Subject, None),
                        Class::Subject => At::Untagged(None, None),
                        Class::Blob => At::Queue(Class::Content, None),
                        Class::Content => At::End,
                    },
                }
            }
            At::Untagged(id, after) => {
                let mut last = None;
                if let Some(id) = id
                    && let Some(until_then) = self.untagged_until(core, id, change)?
                {
                    view.untagged(id, after, until_then, |since, digest| {
                        last = Some((since, digest));
                        let what = What::Manifest(Why::Untagged);
                        tasks.push(Task::Candidate(Candidate { what, id, digest, since }));
                        Ok(until(tasks.len() >= most))
                    })?;
                }
                match last {
                    Some(_) => At::Untagged(id, last),
                    None => match view.next_untagged(id)? {
                        Some(next) => At::Untagged(Some(next), None),
                        None => At::Queue(Class::Blob, None),
                    },
                }
            }
            At::Tags | At::End => At::End,
        };
        Ok(tasks)
    }

    /// Up to when an untagged manifest must have been so to go. None where all stay.
    fn untagged_until(
        &self,
        core: &Core,
        id: RepositoryId,
        change: Option<&Change<'_>>,
    ) -> Result<Option<u64>> {
        match core.retention_now(&core.metadata.view(), id, change)?.untagged {
            Untagged::Keep => Ok(None),
            Untagged::ExpireAfter(after) => {
                let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                let now = self.cutoff.saturating_add(u64::try_from(self.grace.as_millis()).unwrap_or(0));
                Ok(Some(now.saturating_sub(after).min(self.cutoff)))
            }
        }
    }

    fn group(&mut self, core: &Core, tasks: Vec<Task>, report: &mut Collection) -> Result<Vec<Task>> {
        let mut candidates = Vec::with_capacity(tasks.len());
        let mut next = Vec::new();
        for task in tasks {
            match task {
                Task::Candidate(candidate) => candidates.push(candidate),
                Task::Subject(row) => next.append(&mut self.subject(core, row, report)?),
            }
        }
        next.append(&mut self.judge(core, &candidates, report)?.1);
        Ok(next)
    }

    /// Answers how many were kept, and what a dry run has to look at next.
    fn judge(
        &mut self,
        core: &Core,
        group: &[Candidate],
        report: &mut Collection,
    ) -> Result<(u64, Vec<Task>)> {
        if group.is_empty() {
            return Ok((0, Vec::new()));
        }
        let foreign = match self.foreign.take() {
            Some(foreign) => foreign,
            None => core.reached_by_foreign(&core.metadata.snapshot())?,
        };
        let foreign = self.foreign.insert(foreign);
        let terms = Terms { grace: self.grace, cutoff: self.cutoff, foreign, dry_run: self.dry_run };
        let outcome = core.judge(group, terms, &mut self.gone, report)?;
        self.removed += outcome.manifests;
        if !self.dry_run {
            self.gone.forget();
        }
        Ok((outcome.kept, outcome.next))
    }

    /// The referrers of a subject that went. Those that came after that never had it.
    fn subject(&mut self, core: &Core, row: Queued, report: &mut Collection) -> Result<Vec<Task>> {
        let (mut after, mut kept, mut next) = (None, 0, Vec::new());
        let is_back = {
            let view = core.metadata.view();
            view.repository_name(row.id)?.is_none()
                || (view.is_member(row.id, Kind::Manifest, &row.digest)?
                    && !self.gone.members.contains(&(row.id, Kind::Manifest, row.digest)))
        };
        loop {
            if is_back {
                break;
            }
            let view = core.metadata.view();
            let mut referrers = Vec::new();
            view.parents(row.id, &row.digest, after.as_ref(), |parent, roles| {
                if roles & (1 << Role::Subject.code()) != 0 {
                    referrers.push(parent);
                }
                Ok(until(referrers.len() >= GROUP))
            })?;
            let Some(last) = referrers.last().copied() else { break };
            after = Some(last);
            let mut group = Vec::with_capacity(referrers.len());
            for digest in referrers {
                let record = view.manifest(row.id, &digest)?;
                if record.is_some_and(|record| record.sequence <= row.sequence) {
                    let what = What::Manifest(Why::Referrer);
                    group.push(Candidate { what, id: row.id, digest, since: row.since });
                }
            }
            let (some, mut more) = self.judge(core, &group, report)?;
            kept += some;
            next.append(&mut more);
        }
        if !self.dry_run {
            let mut rows = core.metadata.rows();
            rows.delete_queued(&row);
            if kept > 0 {
                let since = core.clock.wall().max(self.cutoff.saturating_add(1));
                rows.put_queued(&Queued { since, ..row });
            }
            core.write_unsynced(rows)?;
        }
        Ok(next)
    }

    /// All of it without a change: what would follow is kept in memory.
    fn try_all(&mut self, core: &Core, change: Option<&Change<'_>>, report: &mut Collection) -> Result<()> {
        if matches!(self.at, At::Tags) {
            let tasks = core.try_tags(change, &mut self.gone, report)?;
            self.at = At::Queue(Class::Manifest, None);
            // With a grace they would wait for its end.
            if self.grace.is_zero() {
                self.try_these(core, tasks, report)?;
            }
        }
        while !matches!(self.at, At::End) {
            let tasks = self.next_group(core, u64::MAX, change)?;
            self.try_these(core, tasks, report)?;
        }
        report.complete = true;
        Ok(())
    }

    fn try_these(&mut self, core: &Core, tasks: Vec<Task>, report: &mut Collection) -> Result<()> {
        let mut waiting: VecDeque<Task> = tasks.into();
        while !waiting.is_empty() {
            let group = waiting.drain(..waiting.len().min(GROUP)).collect();
            waiting.extend(self.group(core, group, report)?);
        }
        Ok(())
    }
}

/// Since when something must have waited to be due.
fn before(now: u64, grace: Duration) -> u64 {
    now.saturating_sub(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX))
}

fn task_of(row: Queued) -> Task {
    let Queued { class, since, id, digest, .. } = row;
    let what = match class {
        Class::Subject => return Task::Subject(row),
        Class::Manifest => What::Manifest(Why::Named),
        Class::Blob => What::Blob,
        Class::Content => What::Content,
    };
    Task::Candidate(Candidate { what, id, digest, since })
}

const CLASSES: [Class; 4] = [Class::Manifest, Class::Subject, Class::Blob, Class::Content];

impl Core {
    /// Rows from the future would wait until then.
    fn correct_times(&self, now: u64) -> Result<()> {
        let ahead = now.saturating_add(u64::try_from(AHEAD.as_millis()).unwrap_or(u64::MAX));
        let view = self.metadata.view();
        let mut rows = self.metadata.rows();
        for class in CLASSES {
            let from = Queued::new(class, ahead, RepositoryId(u32::MAX), Digest::of(b""));
            view.queued(class, Some(&from), u64::MAX, |row| {
                rows.delete_queued(&row);
                rows.put_queued(&Queued { since: now, ..row });
                Ok(until(rows.len() >= 2 * GROUP))
            })?;
        }
        self.write_unsynced(rows)
    }

    fn count_not_due(&self, cutoff: u64) -> Result<u64> {
        let mut count = 0;
        let view = self.metadata.view();
        for class in CLASSES {
            count += view.count_queued_after(class, cutoff, COUNTED - count)?;
            if count >= COUNTED {
                break;
            }
        }
        Ok(count)
    }
}
