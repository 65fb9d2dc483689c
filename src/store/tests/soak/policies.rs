//! Nightlies: tags that a policy lets go when newer ones come, and tags of the same kind that it must never touch.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::WORKERS;
use super::people::{Job, Outcome, words};
use super::world::{Chance, GRACE, Node, PARTS, REPOSITORIES, WINDOW, World, image};
use crate::error::Result;
use crate::oci::{RepositoryName, Tag};
use crate::store::{Retention, Untagged};

/// Every policy keeps at least so many nightlies of a repository.
const KEEP: u32 = 12;
/// Different releases of a repository.
const RELEASES: usize = 6;
/// What was pushed so lately may be as old as something that was pushed before it.
const UNCERTAIN: u64 = WORKERS + 2;

/// What was pushed into each repository.
#[derive(Debug, Default)]
pub(super) struct Nightlies {
    begun: [AtomicU64; REPOSITORIES.len()],
    /// Releases that were acknowledged since the repository was deleted last.
    released: [[AtomicBool; RELEASES]; REPOSITORIES.len()],
}

impl Nightlies {
    /// A repository goes with all its tags.
    pub(super) fn deleted(&self, repository: usize) {
        for released in &self.released[repository] {
            released.store(false, Ordering::SeqCst);
        }
    }
}

fn release_of(number: usize) -> Tag {
    format!("n-{number}-rc").parse().unwrap()
}

fn policy(chance: &mut Chance) -> Retention {
    Retention {
        untagged: match chance.below(3) {
            0 => Untagged::Keep,
            times => Untagged::ExpireAfter(Duration::from_millis(times as u64 * 700)),
        },
        keep_last: Some(KEEP + u32::try_from(chance.below(5)).unwrap()),
        last_of: vec!["n-*".parse().unwrap()],
        keep_tags: vec!["n-*-rc".parse().unwrap()],
    }
}

/// What some collections do otherwise than the policies say.
pub(super) fn tighten(_: &RepositoryName, retention: &mut Retention) {
    if retention.keep_last.is_some() {
        retention.keep_last = Some(KEEP);
        retention.untagged = Untagged::ExpireAfter(GRACE);
    }
}

impl<'a> Job<'a> {
    /// A manifest under a tag of its own, in a repository that keeps the newest of these.
    pub(super) fn push_nightly(&mut self) -> Outcome {
        // Not everywhere, so that each of the others has many.
        self.repository &= 1;
        self.here = self.world.repository(self.repository);
        let _shared = self.slot().lock.read();
        let nightlies = &self.world.nightlies;
        let release = self.chance.one_in(4).then(|| self.chance.below(RELEASES));
        let begun = &nightlies.begun[self.repository];
        let number = if release.is_none() { begun.fetch_add(1, Ordering::SeqCst) } else { 0 };
        let tag = match release {
            Some(release) => release_of(release),
            // Of two that came at the same time the greater name is the newer.
            None => format!("n-{number:08}").parse().unwrap(),
        };
        let node = self.nightly(&tag);
        self.bring_and(&node, |job| job.put(&node, std::slice::from_ref(&tag)))?;
        if let Some(release) = release {
            nightlies.released[self.repository][release].store(true, Ordering::SeqCst);
        }
        self.world.figures.nightlies.fetch_add(1, Ordering::Relaxed);
        self.choose_policy().map_err(|error| words(&error))?;
        self.dawdle();
        let start = Instant::now();
        self.world.count();
        let found = self.here.resolve(&tag).map_err(|error| words(&error))?;
        let newer = begun.load(Ordering::SeqCst) - number + UNCERTAIN;
        match found {
            Some(found) if found.digest != node.digest => Err(format!("somebody moved it, tag={tag}")),
            Some(found) => {
                let whole = self.whole(&found.digest);
                // Its tag may go meanwhile; what it names stays for a grace.
                if start.elapsed() >= GRACE { Ok(()) } else { whole }
            }
            None if release.is_none() && newer >= u64::from(KEEP) => Ok(()),
            None => Err(format!("the tag is gone with {newer} newer ones, tag={tag}")),
        }
    }

    fn nightly(&self, tag: &Tag) -> Node {
        // The same name has the same content, so that it comes back after it went.
        let seed =
            tag.as_str().bytes().fold(self.repository as u64 + 1, |sum, byte| sum * 31 + u64::from(byte));
        let mut chance = Chance::new(seed);
        let first = chance.below(PARTS);
        let parts: BTreeSet<usize> =
            (0..2 + chance.below(3)).map(|_| (first + chance.below(WINDOW)) % PARTS).collect();
        let parts: Vec<usize> = parts.into_iter().collect();
        image(&format!("{tag} of {}", self.repository), &parts, &self.world.digests, &self.world.parts, None)
    }

    /// A repository that came anew has no policy.
    fn choose_policy(&mut self) -> Result<()> {
        self.world.count();
        if self.here.retention()?.is_some() && !self.chance.one_in(8) {
            return Ok(());
        }
        self.world.count();
        self.here.set_retention(Some(&policy(self.chance)))
    }
}

/// After a last collection there are no more nightlies than the policy says, and all the releases.
pub(super) fn check(world: &World) -> Outcome {
    for (at, name) in REPOSITORIES.into_iter().enumerate() {
        let here = world.repository(at);
        for (number, released) in world.nightlies.released[at].iter().enumerate() {
            let tag = release_of(number);
            let found = here.resolve(&tag).map_err(|error| words(&error))?;
            if released.load(Ordering::SeqCst) && found.is_none() {
                return Err(format!("a tag that the policy keeps is gone, repository={name}, tag={tag}"));
            }
        }
        let Some(policy) = here.retention().map_err(|error| words(&error))? else { continue };
        let tags = here.tags(None, usize::MAX - 1).map_err(|error| words(&error))?.items;
        let counts = |tag: &str| tag.starts_with("n-") && !tag.ends_with("-rc");
        let counted = tags.iter().filter(|entry| counts(entry.tag.as_str())).count();
        if counted > policy.keep_last.unwrap_or(u32::MAX) as usize {
            return Err(format!("{counted} tags are left, repository={name}, policy={policy:?}"));
        }
    }
    Ok(())
}
