//! Pushers, pullers and deleters, and the collection.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::world::{Chance, GRACE, Node, Slot, World};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Tag;
use crate::store::{Collection, Collector, Expect, Repository, Store};

pub(super) type Outcome = std::result::Result<(), String>;

/// Pushes, pulls and deletes until so many operations were done by all.
pub(super) fn work(world: &World, seed: u64, until: u64) {
    world.guard(|world| {
        let mut chance = Chance::new(seed);
        while !world.is_over() && world.figures.operations.load(Ordering::Relaxed) < until {
            let done = world.figures.operations.load(Ordering::Relaxed);
            // Half of the work wanders, so that what it leaves behind has time to become garbage.
            let place = usize::try_from(done / 100).unwrap() + chance.below(20);
            let place = if chance.one_in(2) { place } else { chance.below(usize::MAX >> 1) };
            let (repository, artifact) = (chance.below(3), place % world.artifacts.len());
            let mut job =
                Job { world, repository, artifact, here: world.repository(repository), chance: &mut chance };
            let what = job.chance.below(100);
            let (name, done) = match what {
                // It lasts longer than a grace.
                0 if job.chance.one_in(20) => ("push under a lease", job.push_leased()),
                0..40 => ("push", job.push()),
                40..46 => ("push a nightly", job.push_nightly()),
                46..60 => ("pull", job.pull_tag()),
                60..66 => ("pull by digest", job.pull_digest()),
                66..72 => ("untag", job.untag()),
                72..86 => ("delete", job.delete()),
                86..90 => ("delete a blob", job.delete_blob()),
                90..93 => ("loose content", job.loose()),
                93..96 => ("leave an upload", job.leave_upload()),
                96..99 => ("take up an upload", job.take_up_upload()),
                _ if job.chance.one_in(30) => ("delete a repository", job.delete_repository()),
                _ => ("push", job.push()),
            };
            done.map_err(|why| format!("{name}, repository={repository}, artifact={artifact}: {why}"))?;
        }
        Ok(())
    });
}

/// One piece of work: an artifact in a repository.
pub(super) struct Job<'a> {
    pub(super) world: &'a World,
    pub(super) repository: usize,
    pub(super) artifact: usize,
    pub(super) here: Repository,
    pub(super) chance: &'a mut Chance,
}

/// What a pusher was told to be there, and since when it may rely on that.
struct Told {
    since: Instant,
    /// How often the test itself had taken each part by then.
    parts: Vec<(usize, u64)>,
}

impl Told {
    /// Whether what it was told may be wrong by now.
    fn is_stale(&self, job: &Job<'_>) -> bool {
        let was_taken = |(part, count): &(usize, u64)| {
            job.world.taken(job.repository, *part).load(Ordering::SeqCst) != *count
        };
        self.since.elapsed() >= GRACE || self.parts.iter().any(was_taken)
    }
}

fn tag_of(artifact: usize) -> Tag {
    format!("t{artifact}").parse().unwrap()
}

pub(super) fn words(error: &Error) -> String {
    format!("{:?}: {error}", error.kind())
}

impl<'a> Job<'a> {
    pub(super) fn slot(&self) -> &'a Slot {
        self.world.slot(self.repository, self.artifact)
    }

    /// Lets time pass in which a collection may do harm: often none, sometimes most of what an answer is good for.
    pub(super) fn dawdle(&mut self) {
        let most = match self.chance.below(20) {
            0 => 700,
            1 | 2 => 200,
            3..8 => 10,
            _ => return,
        };
        std::thread::sleep(Duration::from_millis(self.chance.below(most) as u64));
    }

    fn push(&mut self) -> Outcome {
        let _shared = self.slot().lock.read();
        let artifact = &self.world.artifacts[self.artifact];
        self.bring_and(&artifact.root, Self::put_root)?;
        self.slot().tagged.store(true, Ordering::SeqCst);
        self.world.figures.pushes.fetch_add(1, Ordering::Relaxed);
        if self.chance.one_in(3) { self.attach(&artifact.attached) } else { Ok(()) }
    }

    fn attach(&mut self, node: &Node) -> Outcome {
        self.bring_and(node, |job| job.put(node, &[]))?;
        self.slot().attached.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Pushes as clients do: what is there already is not sent. Whoever comes too late for his answers begins anew.
    pub(super) fn bring_and(&mut self, node: &Node, put: impl Fn(&mut Self) -> Result<()>) -> Outcome {
        for _ in 0..20 {
            let told = Told { since: Instant::now(), parts: self.counts(node) };
            let pushed = self.bring(node).and_then(|()| {
                self.dawdle();
                put(self)
            });
            match pushed {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && told.is_stale(self) => {
                    self.world.figures.late.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    return Err(format!(
                        "lost {:?} after the answer: {}",
                        told.since.elapsed(),
                        words(&error)
                    ));
                }
            }
        }
        Err("never came to an end".into())
    }

    /// Under a lease there is all the time of the world.
    fn push_leased(&mut self) -> Outcome {
        let _shared = self.slot().lock.read();
        let world = self.world;
        let root = &world.artifacts[self.artifact].root;
        let told = Told { since: Instant::now(), parts: self.counts(root) };
        self.bring(root).map_err(|error| words(&error))?;
        world.count();
        let lease = world.store().lease(Duration::from_secs(30), "soak").map_err(|error| words(&error))?;
        let parts = root.parts.iter().map(|part| world.digests[*part]);
        let held: Vec<Digest> = parts.chain(root.children.iter().map(|child| child.digest)).collect();
        match lease.add(&held) {
            Ok(()) => {}
            // Too late, or the test itself has taken some of it from all repositories.
            Err(error) if error.kind() == ErrorKind::NotFound && told.is_stale(self) => return Ok(()),
            Err(error) => return Err(format!("cannot be leased: {}", words(&error))),
        }
        let taken = Told { since: Instant::now() + 10 * GRACE, parts: told.parts };
        std::thread::sleep(GRACE + GRACE / 2);
        match self.put_root() {
            Ok(()) => {
                self.slot().tagged.store(true, Ordering::SeqCst);
                world.figures.leased.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::NotFound && taken.is_stale(self) => {}
            Err(error) => return Err(format!("leased content is gone: {}", words(&error))),
        }
        world.count();
        lease.release().map_err(|error| words(&error))
    }

    fn counts(&self, node: &Node) -> Vec<(usize, u64)> {
        let own = node.parts.iter().chain(node.children.iter().flat_map(|child| &child.parts));
        own.map(|part| (*part, self.world.taken(self.repository, *part).load(Ordering::SeqCst))).collect()
    }

    /// What a manifest needs, unless it is there.
    fn bring(&mut self, node: &Node) -> Result<()> {
        for part in &node.parts {
            self.bring_part(*part)?;
        }
        for child in &node.children {
            self.world.count();
            if self.here.stat(&child.digest)?.is_some() {
                self.world.figures.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.bring(child)?;
            self.put(child, &[])?;
        }
        Ok(())
    }

    fn bring_part(&mut self, part: usize) -> Result<()> {
        let digest = self.world.digests[part];
        self.world.count();
        if self.here.stat(&digest)?.is_some() {
            self.world.figures.skipped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if self.chance.one_in(2) {
            let from = self.world.repository(self.chance.below(3));
            self.world.count();
            match self.here.mount(&from, &digest) {
                Ok(Some(_)) => {
                    self.world.figures.mounted.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(None) => {}
                // It went from there meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if self.chance.one_in(3) {
            return self.upload(part);
        }
        self.world.count();
        self.here.push_bytes(self.world.parts[part].clone()).map(|_| ())
    }

    pub(super) fn put(&self, node: &Node, tags: &[Tag]) -> Result<()> {
        self.world.count();
        self.here.push_manifest(node.media_type, node.bytes.clone(), tags).map(|_| ())
    }

    /// The manifest and its tag, as one or one after the other.
    fn put_root(&mut self) -> Result<()> {
        let node = &self.world.artifacts[self.artifact].root;
        let tag = tag_of(self.artifact);
        if self.chance.one_in(2) {
            return self.put(node, &[tag]);
        }
        self.put(node, &[])?;
        if self.chance.one_in(4) {
            self.dawdle();
        }
        self.world.count();
        self.here.tag(&tag, &node.digest, Expect::Any).map(|_| ())
    }

    /// All of an artifact that is there must be there.
    fn pull_tag(&mut self) -> Outcome {
        let _shared = self.slot().lock.read();
        if !self.slot().tagged.load(Ordering::SeqCst) {
            return Ok(());
        }
        let artifact = &self.world.artifacts[self.artifact];
        self.world.count();
        let found = self.here.resolve(&tag_of(self.artifact)).map_err(|error| words(&error))?;
        if found.map(|found| found.digest) != Some(artifact.root.digest) {
            return Err("the tag is not there".into());
        }
        self.whole(&artifact.root.digest)?;
        let page = self.here.referrers(&artifact.root.digest).page().map_err(|error| words(&error))?;
        for referrer in &page.descriptors {
            self.whole(&referrer.digest).map_err(|why| format!("attached: {why}"))?;
        }
        let is_listed = page.descriptors.iter().any(|found| found.digest == artifact.attached.digest);
        if self.slot().attached.load(Ordering::SeqCst) && !is_listed {
            return Err("what is attached is not listed".into());
        }
        self.world.figures.pulls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Without a tag it may be gone; but if it is there, all of it is, for as long as the answer is good.
    fn pull_digest(&mut self) -> Outcome {
        let _shared = self.slot().lock.read();
        let root = &self.world.artifacts[self.artifact].root;
        self.world.count();
        let start = Instant::now();
        match self.here.manifest(&root.digest) {
            Ok(None) if self.slot().tagged.load(Ordering::SeqCst) => {
                Err("it is tagged, and is not there".into())
            }
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let whole = self.whole(&root.digest);
                if start.elapsed() >= GRACE { Ok(()) } else { whole }
            }
            Err(error) => Err(words(&error)),
        }
    }

    /// A manifest with everything below it, to the last byte.
    pub(super) fn whole(&self, digest: &Digest) -> Outcome {
        self.world.count();
        let manifest = self.here.manifest(digest).map_err(|error| words(&error))?;
        let manifest = manifest.ok_or_else(|| format!("manifest unknown, digest={digest}"))?;
        if digest.algorithm().digest(&manifest.content) != *digest {
            return Err(format!("manifest is not what it is called, digest={digest}"));
        }
        let parsed = manifest.parse().map_err(|error| words(&error))?;
        for child in parsed.successors() {
            let child = &child.descriptor;
            if child.media_type.contains(".image.manifest") {
                self.whole(&child.digest)?;
                continue;
            }
            self.world.count();
            let found = self.here.get(&child.digest).map_err(|error| words(&error))?;
            let found = found.ok_or_else(|| format!("blob unknown, digest={}", child.digest))?;
            if child.digest.algorithm().digest(&found) != child.digest {
                return Err(format!("blob is not what it is called, digest={}", child.digest));
            }
        }
        Ok(())
    }

    fn untag(&mut self) -> Outcome {
        let _alone = self.slot().lock.write();
        self.slot().tagged.store(false, Ordering::SeqCst);
        self.slot().attached.store(false, Ordering::SeqCst);
        self.world.count();
        self.world.figures.deletions.fetch_add(1, Ordering::Relaxed);
        self.here.untag(&tag_of(self.artifact), Expect::Any).map(|_| ()).map_err(|error| words(&error))
    }

    /// A manifest with its tags, and what it listed with it or not.
    fn delete(&mut self) -> Outcome {
        let _alone = self.slot().lock.write();
        self.slot().tagged.store(false, Ordering::SeqCst);
        self.slot().attached.store(false, Ordering::SeqCst);
        let root = &self.world.artifacts[self.artifact].root;
        self.world.count();
        let mut batch = self.world.store().batch();
        batch.delete_manifest(&self.here, &root.digest);
        match batch.commit() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(words(&error)),
        }
        self.world.figures.deletions.fetch_add(1, Ordering::Relaxed);
        if self.chance.one_in(2) {
            return Ok(());
        }
        for child in &root.children {
            self.world.count();
            let mut batch = self.world.store().batch();
            batch.delete_manifest(&self.here, &child.digest);
            match batch.commit() {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(words(&error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A content that no manifest needs, whoever was told that it is there.
    fn delete_blob(&mut self) -> Outcome {
        let part = self.chance.below(self.world.parts.len());
        // Before: whoever asks in between must know.
        self.world.taken(self.repository, part).fetch_add(1, Ordering::SeqCst);
        self.world.count();
        let mut batch = self.world.store().batch();
        batch.delete_blob(&self.here, &self.world.digests[part]);
        let done = batch.commit();
        self.world.taken(self.repository, part).fetch_add(1, Ordering::SeqCst);
        match done {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                Err(words(&error))
            }
            _ => Ok(()),
        }
    }

    /// A content without any manifest stays for as long as its push is good for.
    fn loose(&mut self) -> Outcome {
        let bytes = format!("loose {}", self.chance.below(500));
        self.world.count();
        let pushed = self.here.push_bytes(bytes.clone().into_bytes()).map_err(|error| words(&error))?;
        let start = Instant::now();
        self.dawdle();
        self.world.count();
        let found = self.here.get(&pushed.digest).map_err(|error| words(&error))?;
        let is_there = found.is_some_and(|found| found[..] == *bytes.as_bytes());
        // Somebody may have deleted the repository meanwhile.
        if is_there || start.elapsed() >= GRACE || self.world.is_deleted(self.repository, start) {
            Ok(())
        } else {
            Err(format!("loose content is gone {:?} after its push", start.elapsed()))
        }
    }

    fn delete_repository(&mut self) -> Outcome {
        let slots = self.world.slots_of(self.repository);
        let _alone: Vec<_> = slots.iter().map(|slot| slot.lock.write()).collect();
        for slot in slots {
            slot.tagged.store(false, Ordering::SeqCst);
            slot.attached.store(false, Ordering::SeqCst);
        }
        self.world.nightlies.deleted(self.repository);
        self.world.count();
        self.world.figures.deletions.fetch_add(1, Ordering::Relaxed);
        let done = self.world.store().delete_repository(self.here.name());
        self.world.deleted(self.repository);
        done.map(|_| ()).map_err(|error| words(&error))
    }
}

/// The collection, one cycle after another, in whole runs and in small steps.
pub(super) fn collect(world: &World) -> Outcome {
    while !world.is_over() {
        let cycle = world.figures.cycles.fetch_add(1, Ordering::Relaxed);
        let collector = world.store().collector();
        // With other policies than those of the repositories now and then.
        let collector =
            if cycle.is_multiple_of(5) { collector.retention(super::policies::tighten) } else { collector };
        // Every step of these publishes, if it removed anything.
        let done = match cycle % 8 {
            0 => step_by_step(collector.items(50)),
            1 => collector.items(7).run(),
            _ => collector.run(),
        };
        let report = done.map_err(|error| words(&error))?;
        if !report.unreadable.is_empty() || !report.failed.is_empty() {
            return Err(format!("the collection failed in part: {report:?}"));
        }
        world.figures.removed.fetch_add(report.contents, Ordering::Relaxed);
        world.figures.tags.fetch_add(report.tags, Ordering::Relaxed);
        world.figures.manifests.fetch_add(report.manifests, Ordering::Relaxed);
        if cycle.is_multiple_of(4) {
            world.store().expire_uploads().map_err(|error| words(&error))?;
        }
        if report.wait.is_some() {
            // Whoever was told something by the process before may rely on it.
            world.figures.cycles.fetch_sub(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Files go at the end of each step.
fn step_by_step(mut collector: Collector<'_>) -> Result<Collection> {
    let mut all = Collection::default();
    while !all.complete && all.wait.is_none() {
        all.add(collector.step()?);
    }
    Ok(all)
}

/// Everything that may go at once; answers how many contents went.
pub(super) fn collect_all(store: &Store) -> std::result::Result<u64, String> {
    let report = store.collector().grace(Duration::ZERO).run().map_err(|error| words(&error))?;
    if !report.complete || report.waiting > 0 || !report.failed.is_empty() {
        return Err(format!("the last collection is not complete: {report:?}"));
    }
    Ok(report.contents)
}
