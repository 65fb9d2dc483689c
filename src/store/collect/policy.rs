//! Policies: which tags go before anything is looked at, and what one collection does otherwise than they say.

use super::Collection;
use super::work::{Candidate, Gone, Task, What, Why};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::metadata::{RepositoryId, View};
use crate::oci::{RepositoryName, Tag};
use crate::store::batch::{Changed, Expect, Item, Parts};
use crate::store::repositories::stored_name;
use crate::store::retention::Retention;
use crate::store::{Core, until};

/// Changes the policy of a repository for one collection.
pub(super) type Change<'a> = Box<dyn Fn(&RepositoryName, &mut Retention) + 'a>;

/// Tags removed with one commit.
const GROUP: usize = 1000;

/// A repository whose policy removes tags, and the first of those.
struct Surplus {
    repository: RepositoryName,
    tags: Vec<(Tag, Digest)>,
}

impl Core {
    /// The policy of a repository, as one collection has it.
    pub(super) fn retention_now(
        &self,
        view: &View<'_>,
        id: RepositoryId,
        change: Option<&Change<'_>>,
    ) -> Result<Retention> {
        let mut retention = self.retention_of(view, id)?;
        if let Some(change) = change
            && let Some(name) = view.repository_name(id)?
        {
            change(&stored_name(&name)?, &mut retention);
        }
        Ok(retention)
    }

    /// Removes the tags that the policies let go. What only they named is queued with the same commit, to go whatever the policy
    /// says of untagged manifests. The work is that of reading all tags of the repositories whose policy counts them.
    pub(super) fn drop_tags(&self, change: Option<&Change<'_>>, report: &mut Collection) -> Result<()> {
        for (repository, id) in self.all_repositories()? {
            while let Some(surplus) = self.surplus(&repository, id, change, GROUP)? {
                let dropped = self.drop_some(&surplus)?;
                report.tags += dropped;
                // Whoever moves them all the time has his way.
                if dropped == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What [`Core::drop_tags`] would do: the tags count as gone, and what they name is to be looked at.
    pub(super) fn try_tags(
        &self,
        change: Option<&Change<'_>>,
        gone: &mut Gone,
        report: &mut Collection,
    ) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for (repository, id) in self.all_repositories()? {
            let Some(surplus) = self.surplus(&repository, id, change, usize::MAX)? else { continue };
            report.tags += surplus.tags.len() as u64;
            for (tag, digest) in surplus.tags {
                gone.tags.insert((id, tag.to_string()));
                let what = What::Manifest(Why::Named);
                tasks.push(Task::Candidate(Candidate { what, id, digest, since: self.clock.wall() }));
            }
        }
        Ok(tasks)
    }

    fn all_repositories(&self) -> Result<Vec<(RepositoryName, RepositoryId)>> {
        let mut all = Vec::new();
        self.metadata.view().repositories(None, |name, id| {
            all.push((stored_name(name)?, id));
            Ok(until(false))
        })?;
        Ok(all)
    }

    fn surplus(
        &self,
        repository: &RepositoryName,
        id: RepositoryId,
        change: Option<&Change<'_>>,
        most: usize,
    ) -> Result<Option<Surplus>> {
        let view = self.metadata.snapshot();
        let retention = self.retention_now(&view, id, change)?;
        let mut tags = Vec::new();
        self.surplus_tags(&view, id, &retention, |tag, record| {
            tags.push((tag, record.target));
            Ok(until(tags.len() >= most))
        })?;
        Ok((!tags.is_empty()).then(|| Surplus { repository: repository.clone(), tags }))
    }

    /// Answers how many went: one that was moved meanwhile stays.
    fn drop_some(&self, surplus: &Surplus) -> Result<u64> {
        let item = |(tag, target): &(Tag, Digest)| Item::Tag {
            repository: surplus.repository.clone(),
            tag: tag.clone(),
            target: None,
            expect: Expect::Is(*target),
            changed: Changed::ByPolicy,
        };
        let commit = |items: Vec<Item>| {
            self.commit(Parts { items, unlimited: true, ..Parts::default() })
                .map(|_| true)
                .or_else(|error| if error.kind() == ErrorKind::Conflict { Ok(false) } else { Err(error) })
        };
        if commit(surplus.tags.iter().map(item).collect())? {
            return Ok(surplus.tags.len() as u64);
        }
        let mut dropped = 0;
        for one in &surplus.tags {
            dropped += u64::from(commit(vec![item(one)])?);
        }
        Ok(dropped)
    }
}
