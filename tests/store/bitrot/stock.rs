//! The store that is damaged, and what must be found in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use orlop::{Digest, ErrorKind, Repository, Store};

use super::Told;
use super::damage::{Class, Damage, Target};
use crate::support::*;

const REPOSITORIES: [&str; 2] = ["", "team/app"];

/// Reproducible choices.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
        random.below(2);
        random
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Variant {
    /// The process died: half is published and filed, the other half is in the log and the journal.
    Journal,
    /// Closed, all of it published.
    Closed,
}

/// One thing that was acknowledged.
struct Held {
    repository: &'static str,
    digest: Digest,
    /// A manifest refers to it, or it is one: a rebuild from the files alone brings it back.
    reached: bool,
    /// It was published.
    published: bool,
    /// How long the log was when it was acknowledged.
    log: usize,
}

pub(super) struct Stock {
    pub(super) variant: Variant,
    pub(super) dir: Scratch,
    template: PathBuf,
    contents: BTreeMap<Digest, Vec<u8>>,
    held: Vec<Held>,
    /// Repository, tag, target, published, length of the log.
    tags: Vec<(&'static str, String, Digest, bool, usize)>,
    types: BTreeMap<Digest, &'static str>,
}

/// What reading everything met.
#[derive(Default)]
pub(super) struct Met {
    pub(super) errors: usize,
}

impl Stock {
    pub(super) fn new(variant: Variant) -> Self {
        // In memory where there is some: what is tested here is no disk.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { scratch_in(memory) } else { scratch() };
        let store = options().create(dir.root()).unwrap();
        let template = dir.path("template");
        let mut stock = Self {
            variant,
            dir,
            template,
            contents: BTreeMap::new(),
            held: Vec::new(),
            tags: Vec::new(),
            types: BTreeMap::new(),
        };
        for round in 0..3_u64 {
            for repository in REPOSITORIES {
                stock.push(&store, repository, round);
            }
            if round == 0 || variant == Variant::Closed {
                store.flush().unwrap();
                stock.held.iter_mut().for_each(|held| held.published = true);
                stock.tags.iter_mut().for_each(|tag| tag.3 = true);
            }
        }
        if variant == Variant::Closed {
            store.close().unwrap();
            copy_tree(&stock.dir.root(), &stock.template);
        } else {
            // Everything before the last commit has a witness.
            thread::sleep(Duration::from_millis(200));
            store.default_repository().push_bytes("the last").unwrap();
            copy_at_one_moment(&stock.dir.root(), &stock.template);
            drop(store);
        }
        stock
    }

    fn log_length(&self) -> usize {
        let logs = fs::read_dir(self.dir.root().join(".orlop/metadata")).unwrap();
        let newest = logs
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .max();
        newest.map_or(0, |path| fs::metadata(path).unwrap().len() as usize)
    }

    fn push(&mut self, store: &Store, repository: &'static str, round: u64) {
        let here = repo(store, repository);
        let seed = format!("{repository}{round}");
        let (one, two) = (image(&format!("{seed}a"), 3), image(&format!("{seed}b"), 1));
        let list = index(&[&one, &two]);
        let sbom = referrer(&one, "application/sbom", &seed);
        for (artifact, name) in [(&one, Some("one")), (&two, None), (&list, Some("list")), (&sbom, None)] {
            let name = name.map(|name| format!("{name}{round}"));
            artifact.push(&here, &name.as_deref().into_iter().collect::<Vec<_>>());
            let log = self.log_length();
            for bytes in artifact.blobs() {
                self.hold(repository, bytes, true, log);
            }
            self.types.insert(artifact.digest(), artifact.media_type);
            if let Some(name) = name {
                self.tags.push((repository, name, artifact.digest(), false, log));
            }
        }
        // Read, mapped, journalled; and a layer that is a file from the beginning.
        for (seed, length) in [(1, 20_000), (2, 80_000), (3, 300_000)] {
            let bytes = noise(round * 10 + seed + repository.len() as u64 * 100, length);
            here.push_bytes(bytes.clone()).unwrap();
            let log = self.log_length();
            self.hold(repository, &bytes, false, log);
        }
    }

    fn hold(&mut self, repository: &'static str, bytes: &[u8], reached: bool, log: usize) {
        let digest = digest_of(bytes);
        self.contents.insert(digest, bytes.to_vec());
        self.held.push(Held { repository, digest, reached, published: false, log });
    }

    /// The directory as it was; its inode stays, so that the store is the same one and no copy.
    pub(super) fn restore(&self) {
        let root = self.dir.root();
        for entry in fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
        }
        copy_tree(&self.template, &root);
        witnessed_here(&root);
    }

    /// Contents that have a file.
    pub(super) fn files(&self) -> Vec<Digest> {
        let root = self.dir.root();
        self.contents.keys().filter(|digest| blob_path(&root, digest).exists()).copied().collect()
    }

    pub(super) fn push_again(&self, store: &Store, digest: &Digest) {
        let held = self.held.iter().find(|held| held.digest == *digest).unwrap();
        repo(store, held.repository).push_bytes(self.contents[digest].clone()).unwrap();
    }

    /// Every way to read every content gives what was pushed, or an error, or nothing; never anything else.
    pub(super) fn reads_are_right(&self, store: &Store, random: &mut Random) -> Met {
        let mut met = Met::default();
        let mut order: Vec<usize> = (0..self.held.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        for at in order {
            let held = &self.held[at];
            let (here, bytes) = (repo(store, held.repository), &self.contents[&held.digest]);
            for way in 0..3 {
                // Each way is the first one sometimes, since the first read verifies.
                if let Err(error) = self.read(&here, &held.digest, bytes, (way + at) % 3, random) {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                    met.errors += 1;
                }
            }
        }
        for (repository, name, target, ..) in &self.tags {
            match repo(store, repository).resolve(&tag(name)) {
                Ok(found) => assert!(found.is_none_or(|found| self.may_be(&found.digest, target))),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                    met.errors += 1;
                }
            }
        }
        met
    }

    /// A bit of `index.json` may make a name stand for another manifest: that is an edit like any other.
    fn may_be(&self, found: &Digest, target: &Digest) -> bool {
        found == target || self.types.contains_key(found)
    }

    fn read(
        &self,
        here: &Repository,
        digest: &Digest,
        bytes: &[u8],
        way: usize,
        random: &mut Random,
    ) -> orlop::Result<()> {
        match way {
            0 => {
                let found = here.get(digest)?;
                assert!(found.is_none_or(|found| found[..] == bytes[..]), "wrong bytes of {digest}");
                if self.types.contains_key(digest) {
                    let found = here.manifest(digest)?;
                    assert!(
                        found.is_none_or(|found| found.content[..] == bytes[..]),
                        "wrong manifest {digest}"
                    );
                }
            }
            1 => {
                let start = random.below(bytes.len());
                let end = start + random.below(bytes.len() - start + 1);
                let found = here.range(digest, start as u64..end as u64)?;
                assert!(found.is_none_or(|found| found[..] == bytes[start..end]), "wrong range of {digest}");
            }
            _ => {
                let Some(mut reader) = here.reader(digest)? else { return Ok(()) };
                let mut found = Vec::new();
                reader.read_to_end(&mut found).unwrap();
                assert!(found == bytes, "the reader gave wrong bytes of {digest}");
            }
        }
        Ok(())
    }

    /// Everything that the damage cannot have taken is there.
    pub(super) fn is_there(&self, store: &Store, damage: &Damage, told: &Told, random: &mut Random) {
        self.reads_are_right(store, random);
        let mut lost: BTreeSet<String> = BTreeSet::new();
        for held in &self.held {
            let here = repo(store, held.repository);
            let found = here.get(&held.digest);
            let whole = matches!(&found, Ok(Some(_)));
            if whole {
                continue;
            }
            let what = format!("{}@{}: {:?}", held.repository, held.digest, found.err());
            assert!(
                self.may_be_lost(held, damage, told),
                "lost: {what}; reached={}, published={}, log={}, rebuilt={}",
                held.reached,
                held.published,
                held.log,
                told.rebuilt
            );
            lost.insert(what);
        }
        for (repository, name, target, published, log) in &self.tags {
            let found = repo(store, repository).resolve(&tag(name)).unwrap();
            if found.as_ref().is_some_and(|found| found.digest == *target) {
                continue;
            }
            let what = format!("tag {repository}:{name}, found={found:?}");
            match damage.target {
                // An edit, as far as anybody can tell; it is reported.
                Target::File(Class::Index) => assert!(told.said, "lost, and nobody says so: {what}"),
                _ => assert!(
                    !published && self.in_damaged_log(*log, damage),
                    "lost: {what}; published={published}, log={log}"
                ),
            }
            lost.insert(what);
        }
        assert!(lost.is_empty() || told.said, "lost, and nobody says so: {lost:?}");
    }

    fn may_be_lost(&self, held: &Held, damage: &Damage, told: &Told) -> bool {
        match damage.target {
            // Healed by now, whatever it was.
            Target::Content(_) | Target::File(Class::Layout | Class::Format) => false,
            Target::File(Class::Index) => false,
            Target::File(Class::Log) => {
                (!held.published && self.in_damaged_log(held.log, damage)) || (!held.reached && told.rebuilt)
            }
            // Membership of what no manifest refers to is nowhere else.
            Target::File(Class::Table | Class::Current | Class::Manifest) => !held.reached,
        }
    }

    fn in_damaged_log(&self, end: usize, damage: &Damage) -> bool {
        damage.target == Target::File(Class::Log) && self.variant == Variant::Journal && end > damage.at()
    }
}
