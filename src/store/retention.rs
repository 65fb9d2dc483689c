//! Retention: what a collection may take of a repository, by the choice of whoever runs it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::batch::Changed;
use super::locks::Need;
use super::repository::Repository;
use super::tags::stored_tag;
use super::{Core, until};
use crate::error::{Error, Result};
use crate::metadata::{RepositoryId, RetentionRecord, TagRecord, View};
use crate::oci::{Tag, TagPattern};
use crate::sys;

/// What becomes of manifests that no tag and no other manifest names.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Untagged {
    /// They stay until somebody deletes them: a digest that was handed out stays valid.
    #[default]
    Keep,
    /// A collection may take them this long after they lost their last name.
    ExpireAfter(Duration),
}

/// What a collection may take of a repository. By default nothing that has a name or had one.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("s"))?;
/// # let app = store.default_repository();
/// # app.push_bytes("{}")?;
/// let mut nightly = orlop::Retention::default();
/// nightly.keep_last = Some(7); // of the tags,
/// nightly.last_of = vec!["nightly-*".parse()?]; // but only of these,
/// nightly.keep_tags = vec!["nightly-*-rc".parse()?]; // and never these
/// app.set_retention(Some(&nightly))?;
/// assert_eq!(app.retention()?, Some(nightly));
/// # store.close()
/// # }
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retention {
    /// What becomes of untagged manifests.
    pub untagged: Untagged,
    /// So many tags stay, those that changed last; of equal times that with the greater name in byte order, and those of
    /// unknown time are the oldest. A collection removes the others, and takes what only they named. None keeps all tags;
    /// 0 is refused.
    pub keep_last: Option<u32>,
    /// Only tags that match one of these count for `keep_last` and are removed by it; all, when there is none.
    pub last_of: Vec<TagPattern>,
    /// Tags that match one of these stay, and do not count for `keep_last`.
    pub keep_tags: Vec<TagPattern>,
}

/// Patterns of one kind in one policy.
const MAX_PATTERNS: usize = 100;

impl Retention {
    /// Refuses what makes no sense, naming it.
    pub(super) fn check(&self) -> Result<()> {
        let Self { untagged: _, keep_last, last_of, keep_tags } = self;
        if *keep_last == Some(0) {
            return Err(Error::invalid("at least one tag is kept, keep_last=0"));
        }
        for (name, patterns) in [("last_of", last_of), ("keep_tags", keep_tags)] {
            if patterns.len() > MAX_PATTERNS {
                let count = patterns.len();
                return Err(Error::invalid(format!(
                    "too many patterns, {name}={count}, limit={MAX_PATTERNS}"
                )));
            }
        }
        Ok(())
    }

    /// Whether `keep_last` counts a tag, and may remove it.
    fn counts(&self, tag: &str) -> bool {
        let any = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.matches(tag));
        !any(&self.keep_tags) && (self.last_of.is_empty() || any(&self.last_of))
    }

    fn to_record(&self) -> RetentionRecord {
        let text = |patterns: &[TagPattern]| patterns.iter().map(TagPattern::to_string).collect();
        RetentionRecord {
            untagged: match self.untagged {
                Untagged::Keep => None,
                Untagged::ExpireAfter(after) => Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            },
            keep_last: self.keep_last.map(u64::from),
            keep_tags: text(&self.keep_tags),
            last_of: text(&self.last_of),
        }
    }

    fn of_record(record: RetentionRecord) -> Result<Self> {
        let patterns = |texts: Vec<String>| texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>();
        Ok(Self {
            untagged: record
                .untagged
                .map_or(Untagged::Keep, |after| Untagged::ExpireAfter(Duration::from_millis(after))),
            keep_last: record.keep_last.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            last_of: patterns(record.last_of)?,
            keep_tags: patterns(record.keep_tags)?,
        })
    }
}

impl Changed {
    /// What is put down of it.
    pub(super) fn time(self) -> Option<u64> {
        match self {
            Self::Now | Self::Merged | Self::ByPolicy => {
                Some(u64::try_from(sys::now().as_millisecond()).unwrap_or_default())
            }
            Self::Earlier(at) => at,
        }
    }
}

/// A moment out of the metadata. None for one that the system cannot tell.
pub(super) fn time_of(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

impl Repository {
    /// The policy of this repository. None when it has none of its own: then that of the store's options counts.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn retention(&self) -> Result<Option<Retention>> {
        let view = self.store().core().metadata.view();
        let Some(id) = self.id(&view)? else { return Ok(None) };
        view.retention(id)?.map(Retention::of_record).transpose()
    }

    /// Gives this repository a policy, wholly in place of what counted before; none takes it away again. It goes with the
    /// repository, and a rebuild of the metadata forgets it. Collections that begin later follow it.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such repository yet; `Invalid` for a policy that makes no sense; `ReadOnly`, `Poisoned`,
    /// `Indeterminate`, `NoSpace`, `Io`.
    pub fn set_retention(&self, retention: Option<&Retention>) -> Result<()> {
        let core = self.store().core();
        core.check_writable()?;
        if let Some(retention) = retention {
            retention.check()?;
        }
        let held = core.locks.repositories([(self.name().as_str(), Need::Shared)].into_iter());
        let Some(id) = core.metadata.view().repository(self.name().as_str())? else {
            return Err(Error::not_found(format!("no such repository, repository={}", self.name())));
        };
        let mut rows = core.metadata.rows();
        match retention {
            Some(retention) => rows.put_retention(id, &retention.to_record()),
            None => rows.delete_retention(id),
        }
        let unsynced = core.put(rows)?;
        drop(held);
        core.sync(unsynced)
    }
}

/// Finds the tags that a policy lets go, in two passes over all of them and with memory for those that stay.
struct Newest {
    most: usize,
    /// The oldest of them on top.
    kept: BinaryHeap<Reverse<Age>>,
}

/// When a tag changed, and its name: what is greater is newer. Unknown times are the oldest.
type Age = (Option<u64>, String);

impl Newest {
    fn new(most: u32) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), kept: BinaryHeap::new() }
    }

    fn see(&mut self, changed: Option<u64>, tag: &str) {
        if self.kept.len() == self.most {
            let is_newer = |Reverse((at, name)): &Reverse<Age>| (changed, tag) > (*at, name.as_str());
            if !self.kept.peek().is_some_and(is_newer) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(Reverse((changed, tag.to_owned())));
    }

    /// Whether one of those seen is older than every one that stays.
    fn is_surplus(&self, changed: Option<u64>, tag: &str) -> bool {
        let is_older = |Reverse((at, name)): &Reverse<Age>| (changed, tag) < (*at, name.as_str());
        self.kept.len() == self.most && self.kept.peek().is_some_and(is_older)
    }
}

impl Core {
    /// Visits the tags that a policy lets go, with what they name; in byte order.
    pub(super) fn surplus_tags(
        &self,
        view: &View<'_>,
        id: RepositoryId,
        retention: &Retention,
        mut visit: impl FnMut(Tag, TagRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some(most) = retention.keep_last else { return Ok(()) };
        let mut newest = Newest::new(most);
        view.tag_records(id, None, |tag, record| {
            if retention.counts(tag) {
                newest.see(record.changed, tag);
            }
            Ok(until(false))
        })?;
        view.tag_records(id, None, |tag, record| {
            if retention.counts(tag) && newest.is_surplus(record.changed, tag) {
                return visit(stored_tag(tag)?, record);
            }
            Ok(until(false))
        })
    }

    /// What counts for a repository.
    pub(super) fn retention_of(&self, view: &View<'_>, id: RepositoryId) -> Result<Retention> {
        match view.retention(id)? {
            Some(record) => Retention::of_record(record),
            None => Ok(self.options.retention.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    fn retention(keep_last: u32, last_of: &[&str], keep_tags: &[&str]) -> Retention {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Retention {
            keep_last: Some(keep_last),
            last_of: patterns(last_of),
            keep_tags: patterns(keep_tags),
            untagged: Untagged::Keep,
        }
    }

    #[test]
    fn patterns_decide_which_tags_count() {
        let some = retention(1, &["nightly-*", "pr-?"], &["*-keep", "latest"]);
        let table = [
            ("nightly-1", true),
            ("pr-1", true),
            ("pr-12", false),
            ("v1", false),
            ("latest", false),
            ("nightly-keep", false),
        ];
        for (tag, counts) in table {
            assert_eq!(some.counts(tag), counts, "{tag}");
        }
        let all = retention(1, &[], &["latest"]);
        assert!(all.counts("v1") && !all.counts("latest"));
    }

    #[test]
    fn the_last_are_those_that_changed_last_then_those_with_the_greater_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Options::new().create(dir.path().join("s")).unwrap();
        let core = store.core();
        let id = RepositoryId(7);
        let target = crate::digest::Digest::of(b"t");
        let mut rows = core.metadata.rows();
        let tags = [
            ("old", Some(1)),
            ("same-a", Some(5)),
            ("same-b", Some(5)),
            ("unknown-a", None),
            ("unknown-b", None),
            ("new", Some(9)),
            ("latest", Some(0)),
        ];
        for (tag, changed) in tags {
            rows.move_tag(id, tag, None, Some(&TagRecord { target, changed }));
        }
        core.write(rows).unwrap();
        let gone = |policy: &Retention| {
            let mut gone = Vec::new();
            let visit = |tag: Tag, record: TagRecord| {
                assert_eq!(record.target, target);
                gone.push(tag.to_string());
                Ok(until(false))
            };
            core.surplus_tags(&core.metadata.view(), id, policy, visit).unwrap();
            gone
        };
        let all = ["latest", "old", "same-a", "same-b", "unknown-a", "unknown-b"];
        assert_eq!(gone(&retention(1, &[], &[])), all);
        assert_eq!(gone(&retention(2, &[], &["latest"])), ["old", "same-a", "unknown-a", "unknown-b"]);
        assert_eq!(gone(&retention(3, &[], &["latest"])), ["old", "unknown-a", "unknown-b"]);
        assert_eq!(gone(&retention(5, &[], &["latest"])), ["unknown-a"]);
        assert_eq!(gone(&retention(6, &[], &["latest"])), [""; 0]);
        assert_eq!(gone(&retention(7, &[], &[])), [""; 0]);
        assert_eq!(gone(&retention(1, &["same-*", "old"], &[])), ["old", "same-a"]);
        assert_eq!(gone(&Retention::default()), [""; 0]);
        assert_eq!(core.retention_of(&core.metadata.view(), id).unwrap(), Retention::default());
    }

    proptest! {
        #[test]
        fn records_mean_the_same_policy(days in proptest::option::of(0_u64..999), keep_last in proptest::option::of(1_u32..), patterns in proptest::collection::vec("[a-z*?]{1,9}", 0..4)) {
            let patterns: Vec<TagPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let policy = Retention {
                untagged: days.map_or(Untagged::Keep, |days| Untagged::ExpireAfter(Duration::from_secs(days * 86_400))),
                keep_last,
                last_of: patterns.iter().skip(1).cloned().collect(),
                keep_tags: patterns,
            };
            prop_assert_eq!(Retention::of_record(policy.to_record()).unwrap(), policy);
        }

        #[test]
        fn as_many_stay_as_there_are_to_keep(ages in proptest::collection::vec((proptest::option::of(0_u64..4), "[a-d]{1,3}"), 0..20), most in 1_u32..9) {
            let mut newest = Newest::new(most);
            let ages: std::collections::BTreeSet<Age> = ages.into_iter().collect();
            ages.iter().for_each(|(at, name)| newest.see(*at, name));
            let surplus: Vec<&Age> = ages.iter().filter(|(at, name)| newest.is_surplus(*at, name)).collect();
            let expected: Vec<&Age> = ages.iter().take(ages.len().saturating_sub(most as usize)).collect();
            prop_assert_eq!(surplus, expected);
        }
    }
}
