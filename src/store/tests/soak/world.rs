//! What everybody works on, and what is known of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};

use super::super::artifact::{IMAGE, descriptor, noise};
use super::super::plain::{Plain, names_are_hashes};
use super::policies::Nightlies;
use super::uploads::Left;
use crate::digest::{Algorithm, Digest};
use crate::store::{Limits, OnDamage, Options, Publish, Repository, Store};

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a collection waits for, and what an existence answer is good for.
pub(super) const GRACE: Duration = Duration::from_secs(1);

pub(super) const REPOSITORIES: [&str; 3] = ["", "a", "a/b"];
/// So many that most of them are left alone for longer than a grace now and then.
pub(super) const PARTS: usize = 2400;
const ARTIFACTS: usize = 480;
/// Neighbours have parts in common.
pub(super) const WINDOW: usize = 30;

/// A manifest and what it refers to, by their places.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) parts: Vec<usize>,
    /// Of an index: the manifests that it lists.
    pub(super) children: Vec<Self>,
}

/// A root with what is attached to it.
#[derive(Debug)]
pub(super) struct Artifact {
    pub(super) root: Node,
    pub(super) attached: Node,
}

/// What is known of an artifact in a repository; whoever deletes it has the lock alone.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) lock: RwLock<()>,
    /// It was acknowledged, under its tag, and nobody deleted it.
    pub(super) tagged: AtomicBool,
    pub(super) attached: AtomicBool,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) operations: AtomicU64,
    pub(super) cycles: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) pulls: AtomicU64,
    pub(super) deletions: AtomicU64,
    /// Uploads that an existence answer made needless.
    pub(super) skipped: AtomicU64,
    pub(super) mounted: AtomicU64,
    /// Pushes that came too late for their existence answers, and were refused.
    pub(super) late: AtomicU64,
    /// Pushes that waited for longer than the grace, under a lease.
    pub(super) leased: AtomicU64,
    /// Contents that went through an upload session.
    pub(super) uploads: AtomicU64,
    /// Upload sessions that somebody else went on with, later.
    pub(super) resumed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    /// Upload sessions that were found to be over.
    pub(super) expired: AtomicU64,
    pub(super) nightlies: AtomicU64,
    /// Tags removed by a policy.
    pub(super) tags: AtomicU64,
    /// Manifests that a collection removed.
    pub(super) manifests: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) programs: AtomicU64,
}

pub(super) struct World {
    pub(super) root: PathBuf,
    store: Option<Store>,
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) digests: Vec<Digest>,
    pub(super) artifacts: Vec<Artifact>,
    slots: Vec<Slot>,
    /// How often the test itself has taken a part from a repository.
    taken: Vec<AtomicU64>,
    /// When the test itself began and ended to delete each repository last.
    deletions: Mutex<[Option<Instant>; REPOSITORIES.len()]>,
    /// Upload sessions that wait for somebody to go on.
    pub(super) left: Mutex<Vec<Left>>,
    pub(super) nightlies: Nightlies,
    pub(super) figures: Figures,
    pub(super) stop: AtomicBool,
    failure: Mutex<Option<String>>,
    _place: tempfile::TempDir,
}

pub(super) fn image(
    name: &str,
    parts: &[usize],
    digests: &[Digest],
    sizes: &[Vec<u8>],
    subject: Option<&Node>,
) -> Node {
    let part = |at: usize, media_type: &str| json!({ "mediaType": media_type, "digest": digests[at].to_string(), "size": sizes[at].len() });
    let layers: Vec<Value> =
        parts[1..].iter().map(|at| part(*at, "application/vnd.oci.image.layer.v1.tar")).collect();
    let mut body = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": part(parts[0], "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
        "annotations": { "name": name },
    });
    if let Some(subject) = subject {
        body["artifactType"] = "application/vnd.example.statement".into();
        body["subject"] = descriptor(subject.media_type, &subject.bytes);
    }
    let bytes = serde_json::to_vec(&body).unwrap();
    let digest = Algorithm::Sha256.digest(&bytes);
    Node { media_type: IMAGE, bytes, digest, parts: parts.to_vec(), children: Vec::new() }
}

fn index(children: Vec<Node>) -> Node {
    let listed: Vec<Value> =
        children.iter().map(|child| descriptor(child.media_type, &child.bytes)).collect();
    let bytes =
        serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed })).unwrap();
    let digest = Algorithm::Sha256.digest(&bytes);
    Node { media_type: INDEX, bytes, digest, parts: Vec::new(), children }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let in_memory = tempfile::Builder::new().prefix("orlop-soak-").tempdir_in("/dev/shm");
        let place = in_memory.unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let root = place.path().join("store");
        // Every sixth has a file of its own; the others pass through the journal.
        let parts: Vec<Vec<u8>> = (0..PARTS)
            .map(|at| {
                noise(&format!("{seed} {at}"), if at % 6 == 0 { 4_200 + at } else { 60 + at % 97 * 20 })
            })
            .collect();
        let digests: Vec<Digest> = parts.iter().map(|part| Algorithm::Sha256.digest(part)).collect();
        let mut chance = Chance::new(seed);
        let mut some = |at: usize, name: String, subject: Option<&Node>| {
            let first = at * (PARTS / ARTIFACTS);
            let chosen: BTreeSet<usize> =
                (0..2 + chance.below(4)).map(|_| (first + chance.below(WINDOW)) % PARTS).collect();
            image(&name, &chosen.into_iter().collect::<Vec<_>>(), &digests, &parts, subject)
        };
        let artifacts = (0..ARTIFACTS)
            .map(|at| {
                let root = if at % 4 == 3 {
                    index((0..2).map(|child| some(at, format!("{at} {child}"), None)).collect())
                } else {
                    some(at, at.to_string(), None)
                };
                let attached = some(at, format!("{at} attached"), Some(&root));
                Artifact { root, attached }
            })
            .collect();
        let store = options().create(&root).unwrap();
        Self {
            root,
            store: Some(store),
            parts,
            digests,
            artifacts,
            slots: (0..REPOSITORIES.len() * ARTIFACTS).map(|_| Slot::default()).collect(),
            taken: (0..REPOSITORIES.len() * PARTS).map(|_| AtomicU64::new(0)).collect(),
            deletions: Mutex::default(),
            left: Mutex::default(),
            nightlies: Nightlies::default(),
            figures: Figures::default(),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            _place: place,
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(super) fn repository(&self, at: usize) -> Repository {
        let name = REPOSITORIES[at];
        self.store().repository(&if name.is_empty() { Default::default() } else { name.parse().unwrap() })
    }

    pub(super) fn slot(&self, repository: usize, artifact: usize) -> &Slot {
        &self.slots[repository * ARTIFACTS + artifact]
    }

    pub(super) fn slots_of(&self, repository: usize) -> &[Slot] {
        &self.slots[repository * ARTIFACTS..(repository + 1) * ARTIFACTS]
    }

    pub(super) fn taken(&self, repository: usize, part: usize) -> &AtomicU64 {
        &self.taken[repository * PARTS + part]
    }

    /// The test has deleted a repository.
    pub(super) fn deleted(&self, repository: usize) {
        self.deletions.lock()[repository] = Some(Instant::now());
    }

    /// Whether it may have gone since then.
    pub(super) fn is_deleted(&self, repository: usize, since: Instant) -> bool {
        self.slots_of(repository)[0].lock.is_locked_exclusive()
            || self.deletions.lock()[repository].is_some_and(|at| at >= since)
    }

    /// Counts one operation.
    pub(super) fn count(&self) {
        self.figures.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self, why: String) {
        self.failure.lock().get_or_insert(why);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Runs something; its error, or its panic, ends the soak.
    pub(super) fn guard(&self, run: impl FnOnce(&Self) -> Result<(), String>) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(self)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.fail(why),
            Err(_) => self.fail("a thread panicked".into()),
        }
    }

    pub(super) fn outcome(&self) -> Result<(), String> {
        self.failure.lock().take().map_or(Ok(()), Err)
    }

    /// With nobody at work: what is published is whole, and the metadata contradict nothing.
    pub(super) fn look(&self) -> Result<(), String> {
        self.store().flush().map_err(|error| format!("cannot be flushed: {error}"))?;
        Plain::read(&self.root)?;
        let report = self.store().verify().index(true).run().map_err(|error| error.to_string())?;
        if let Some(finding) = report.findings.first() {
            return Err(format!("{} findings, the first: {finding}", report.findings.len()));
        }
        Ok(())
    }

    pub(super) fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(options().open(&self.root).unwrap());
    }

    /// Ends all uploads, collects everything that nobody needs, and compares what is left with what `index.json` reaches.
    pub(super) fn finish(mut self) -> Result<Figures, String> {
        super::uploads::end_all(&self)?;
        self.figures.removed.fetch_add(super::people::collect_all(self.store())?, Ordering::Relaxed);
        self.store().flush().map_err(|error| format!("cannot be flushed: {error}"))?;
        self.look()?;
        super::policies::check(&self)?;
        super::uploads::nothing_is_left(&self.root)?;
        self.store.take().unwrap().close().map_err(|error| format!("cannot be closed: {error}"))?;
        let reached = Plain::read(&self.root)?.reached;
        let count = names_are_hashes(&self.root, &BTreeSet::new())?;
        let files = std::fs::read_dir(self.root.join("blobs/sha256")).map_err(|error| error.to_string())?;
        let files: BTreeSet<String> =
            files.map(|file| format!("sha256:{}", file.unwrap().file_name().to_string_lossy())).collect();
        if files != reached {
            let more: Vec<&String> = files.difference(&reached).collect();
            return Err(format!("of {count} files {} are reached by nothing: {more:?}", more.len()));
        }
        Ok(self.figures)
    }
}

/// Publishes soon, so that files go while others look.
fn options() -> Options {
    let limits = Limits { journal_size: 256 << 10, ..Limits::default() };
    let publish = Publish::Interval(Duration::from_millis(20));
    Options::new()
        .publish(publish)
        .limits(limits)
        .on_damage(OnDamage::Refuse)
        .inline_limit(4 << 10)
        .grace(GRACE)
}

impl Figures {
    /// Whether it did what it is for.
    pub(super) fn check(&self) {
        let got = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        assert!(got(&self.operations) > 1000, "next to nothing was done: {self}");
        for (name, figure) in [
            ("cycles", &self.cycles),
            ("pushes", &self.pushes),
            ("pulls", &self.pulls),
            ("deletions", &self.deletions),
            ("skipped", &self.skipped),
            ("mounted", &self.mounted),
            ("uploads", &self.uploads),
            ("removed", &self.removed),
            ("reads", &self.reads),
        ] {
            assert!(got(figure) > 0, "nothing counted, figure={name}: {self}");
        }
        // On a slow machine the time may end before their turn comes.
        for (name, figure) in [
            ("resumed", &self.resumed),
            ("cancelled", &self.cancelled),
            ("expired", &self.expired),
            ("tags", &self.tags),
            ("manifests", &self.manifests),
        ] {
            let all = got(&self.operations) >= 10_000;
            assert!(!all || got(figure) > 0, "nothing counted, figure={name}: {self}");
        }
        assert!(got(&self.late) * 4 < got(&self.pushes), "too many came too late: {self}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operations,
            cycles,
            pushes,
            pulls,
            deletions,
            skipped,
            mounted,
            late,
            leased,
            uploads,
            resumed,
            cancelled,
            expired,
            nightlies,
            tags,
            manifests,
            removed,
            reads,
            programs,
        } = self;
        let mut separator = "";
        for (name, figure) in [
            ("operations", operations),
            ("cycles", cycles),
            ("pushes", pushes),
            ("pulls", pulls),
            ("deletions", deletions),
            ("uploads skipped", skipped),
            ("mounted", mounted),
            ("too late", late),
            ("under a lease", leased),
            ("uploads in parts", uploads),
            ("sessions taken up", resumed),
            ("sessions cancelled", cancelled),
            ("sessions expired", expired),
            ("nightlies", nightlies),
            ("tags removed by policy", tags),
            ("manifests collected", manifests),
            ("contents removed", removed),
            ("looks of a plain reader", reads),
            ("runs of another program", programs),
        ] {
            write!(f, "{separator}{} {name}", figure.load(Ordering::Relaxed))?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Reproducible chances.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }

    /// True once in so many times.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
