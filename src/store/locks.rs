//! Lock stripes.
//!
//! Classes are taken in one order (repositories, names, content, counting) and each class in order of its stripes, so two
//! operations never wait for each other in a circle. A stripe is shared by unrelated names; that costs a wait, never
//! correctness.

use std::hash::{BuildHasher, Hash};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::digest::Digest;

const CONTENT_STRIPES: usize = 1024;
const NAME_STRIPES: usize = 256;

/// How an operation needs a content's stripe.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Need {
    /// The content exists and must go on existing, whoever comes to hold it.
    Shared,
    /// The content is new, or about to be filed, condemned or swept.
    Exclusive,
}

/// All stripes of one store.
pub(super) struct Locks {
    /// Shared by what adds to a repository, exclusive for its deletion and for removals from it.
    repositories: Vec<RwLock<()>>,
    /// Tags and manifest membership, by repository name and tag or digest.
    names: Vec<Mutex<()>>,
    content: Vec<RwLock<()>>,
    /// By digest: from counting who holds a content to the write of the rows that change it. Beside its stripe shared; who
    /// has that exclusively is alone anyway.
    counting: Vec<Mutex<()>>,
    /// Shared by what takes names from content files, exclusive for what needs all of them to stay. Taken before every
    /// stripe, because whoever waits for it may wait long.
    files: RwLock<()>,
    hasher: std::hash::RandomState,
}

/// Guards that are given back together.
#[derive(Default)]
pub(super) struct Held<'a> {
    _whole: Vec<MutexGuard<'a, ()>>,
    _shared: Vec<RwLockReadGuard<'a, ()>>,
    _exclusive: Vec<RwLockWriteGuard<'a, ()>>,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            repositories: (0..NAME_STRIPES).map(|_| RwLock::new(())).collect(),
            names: (0..NAME_STRIPES).map(|_| Mutex::new(())).collect(),
            content: (0..CONTENT_STRIPES).map(|_| RwLock::new(())).collect(),
            counting: (0..CONTENT_STRIPES).map(|_| Mutex::new(())).collect(),
            files: RwLock::new(()),
            hasher: std::hash::RandomState::new(),
        }
    }

    /// For taking names from content files, a few at a time. None while a checkpoint gives them further names.
    pub(super) fn unlinking(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.files.try_read()
    }

    #[cfg(test)]
    pub(super) fn may_unlink(&self) -> bool {
        self.files.try_read().is_some()
    }

    /// While it is held no content file loses its name; that files come and are replaced goes on.
    pub(super) fn keep_files(&self) -> RwLockWriteGuard<'_, ()> {
        self.files.write()
    }

    pub(super) fn repositories<'a>(&self, names: impl Iterator<Item = (&'a str, Need)>) -> Held<'_> {
        take(&self.repositories, names.map(|(name, need)| (self.stripe(name, NAME_STRIPES), need)))
    }

    /// The stripes of `(repository, tag or digest)` pairs.
    pub(super) fn names<K: Hash>(&self, keys: impl Iterator<Item = K>) -> Held<'_> {
        take_whole(&self.names, keys.map(|key| self.stripe(key, NAME_STRIPES)))
    }

    /// For counting who holds contents and writing what changes it. Never kept over a sync: many may come to hold one content
    /// at a moment.
    pub(super) fn counting<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Held<'_> {
        take_whole(&self.counting, digests.map(|digest| self.stripe(digest, CONTENT_STRIPES)))
    }

    pub(super) fn content<'a>(&self, digests: impl Iterator<Item = (&'a Digest, Need)>) -> Held<'_> {
        take(&self.content, digests.map(|(digest, need)| (self.stripe(digest, CONTENT_STRIPES), need)))
    }

    /// One content that must go on existing.
    pub(super) fn content_shared(&self, digest: &Digest) -> Option<RwLockReadGuard<'_, ()>> {
        self.content.get(self.stripe(digest, CONTENT_STRIPES)).map(RwLock::read)
    }

    /// The same without waiting for who holds it exclusively; the outer None then.
    pub(super) fn try_content_shared(&self, digest: &Digest) -> Option<Option<RwLockReadGuard<'_, ()>>> {
        match self.content.get(self.stripe(digest, CONTENT_STRIPES)) {
            None => Some(None),
            Some(lock) => lock.try_read().map(Some),
        }
    }

    fn stripe<K: Hash>(&self, key: K, stripes: usize) -> usize {
        usize::try_from(self.hasher.hash_one(key) % stripes as u64).unwrap_or_default()
    }
}

/// Takes every stripe once, in order.
fn take_whole(stripes: &[Mutex<()>], wanted: impl Iterator<Item = usize>) -> Held<'_> {
    let mut wanted: Vec<usize> = wanted.collect();
    wanted.sort_unstable();
    wanted.dedup();
    let _whole = wanted.iter().filter_map(|at| stripes.get(*at)).map(Mutex::lock).collect();
    Held { _whole, ..Held::default() }
}

/// Takes every stripe once, exclusively where any need is exclusive, in order.
fn take(stripes: &[RwLock<()>], needs: impl Iterator<Item = (usize, Need)>) -> Held<'_> {
    let mut needs: Vec<(usize, Need)> = needs.collect();
    // Of one stripe the exclusive need comes last, and the last one wins.
    needs.sort_unstable();
    needs.reverse();
    needs.dedup_by_key(|(stripe, _)| *stripe);
    needs.reverse();
    let mut held = Held::default();
    for (stripe, need) in needs {
        let Some(lock) = stripes.get(stripe) else { continue };
        match need {
            Need::Shared => held._shared.push(lock.read()),
            Need::Exclusive => held._exclusive.push(lock.write()),
        }
    }
    held
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;

    #[test]
    fn an_exclusive_need_wins_over_a_shared_one_of_the_same_stripe() {
        let stripes: Vec<RwLock<()>> = (0..4).map(|_| RwLock::new(())).collect();
        let held = take(&stripes, [(2, Need::Shared), (2, Need::Exclusive), (1, Need::Shared)].into_iter());
        assert!(stripes[2].try_read().is_none(), "held exclusively");
        assert!(stripes[1].try_read().is_some() && stripes[1].try_write().is_none(), "held shared");
        assert!(stripes[0].try_write().is_some() && stripes[3].try_write().is_some(), "not held");
        drop(held);
        assert!(stripes.iter().all(|stripe| stripe.try_write().is_some()));
    }

    #[test]
    fn two_batches_that_name_the_same_things_in_any_order_do_not_deadlock() {
        let locks = Locks::new();
        let digests: Vec<Digest> = (0..200_u32).map(|n| Digest::of(&n.to_be_bytes())).collect();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (locks, mut digests) = (&locks, digests.clone());
                scope.spawn(move || {
                    for round in 0..200 {
                        digests.rotate_left(turn * 7 + round % 5);
                        let _names = locks.names(digests.iter().take(20));
                        let _held = locks.content(digests.iter().map(|digest| (digest, Need::Exclusive)));
                    }
                });
            }
        });
    }
}
