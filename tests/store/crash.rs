//! A process that is killed at any moment, while four threads push, upload, tag, remove, delete and limit: what it acknowledged
//! is there, and what it did not is there whole or not at all.
//!
//! `ORLOP_KILLS` says how many times (60 by default), `ORLOP_KILL_SEED` where the chances begin, `ORLOP_KILL_STEPS` how many steps
//! each thread does where nobody is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use orlop::oci::RepositoryName;
use orlop::{
    Digest, ErrorKind, EventLimits, Expect, Expected, Options, Publish, Quota, Repository, Retention, Store,
    UploadOptions,
};

use crate::events::replayed;
use crate::support::*;

const WORKERS: usize = 4;

/// Artifacts of one worker: few, so that content comes and goes and comes again, and the directory stays small.
const POOL: usize = 24;

/// What a worker does in one step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Pushes an artifact under a tag and under `latest`, with what is attached to it; and, beside collections that keep one
    /// of those only, under a tag of this step.
    Push(usize, Option<(usize, usize)>),
    Untag(usize),
    Remove(usize),
    Delete,
    Flush,
    /// Makes a checkpoint beside the store, in place of the last but one. It may be gone then, or there and whole.
    Checkpoint(usize),
    /// Goes on with the upload session of the worker, or starts one: one step of it.
    Upload(usize),
    /// Sets the quota of the repository, which nothing here reaches, or takes it away.
    Limit(usize),
    /// Gives the repository a policy, which lets nothing go, or takes it away.
    Retain(usize),
    /// Removes the files that nobody knows, as those are that an earlier round left.
    RemoveUnknown,
}

/// One worker's repository as it should be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Model {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    /// The size that the upload session announced, and what it has.
    upload: Option<(usize, usize)>,
    /// The repository is listed.
    exists: bool,
    quota: Option<u64>,
    keep_last: Option<u32>,
    /// The last tag of a step, if its manifest was not removed: no collection takes that one.
    newest: Option<String>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Reproducible chances.
fn chance(seed: u64, round: usize, worker: usize, step: usize) -> usize {
    let place = (round as u64) << 40 | (worker as u64) << 32 | step as u64;
    let bytes = noise(seed ^ (place + 1), 64);
    u32::from_be_bytes(bytes[56..60].try_into().unwrap()) as usize
}

/// Rounds in which the first worker makes checkpoints among other things, the first one before the process is killed.
fn makes_checkpoints(round: usize) -> bool {
    round % 6 == 5
}

fn step_of(seed: u64, round: usize, worker: usize, step: usize, collect: bool) -> Step {
    let chance = chance(seed, round, worker, step);
    let which = chance / 32 % POOL;
    if worker == 0 && makes_checkpoints(round) && step.is_multiple_of(4) {
        return Step::Checkpoint(step / 4 % 2);
    }
    match chance % 32 {
        0..14 => Step::Push(which, (collect && tags_steps(worker)).then_some((round, step))),
        14..18 => Step::Upload(which),
        18..22 => Step::Untag(which),
        22..26 => Step::Remove(which),
        26 => Step::Delete,
        27 => Step::Flush,
        28 | 29 => Step::Limit(which),
        30 => Step::Retain(which),
        _ => Step::RemoveUnknown,
    }
}

fn name_of(worker: usize) -> String {
    format!("worker-{worker}")
}

fn checkpoint_of(root: &Path, which: usize) -> PathBuf {
    root.with_file_name(format!("checkpoint-{which}"))
}

fn tag_of(which: usize) -> String {
    format!("t{}", which % 10)
}

/// The tag of one step: later ones are greater.
fn tag_of_step((round, step): (usize, usize)) -> String {
    format!("old-{round:06}-{step:06}")
}

/// Workers whose manifests go with such a tag if nothing else names them.
fn tags_steps(worker: usize) -> bool {
    !worker.is_multiple_of(2)
}

fn is_of_step(tag: &str) -> bool {
    tag.starts_with("old-")
}

/// What a repository is limited to, above all that is pushed here.
fn limit_of(which: usize) -> Option<u64> {
    (!which.is_multiple_of(4)).then_some((1 << 40) + which as u64)
}

fn kept_of(which: usize) -> Option<u32> {
    (!which.is_multiple_of(4)).then_some(100_000 + which as u32)
}

/// An artifact of the pool and what is attached to it: every third with large content, and parts that all workers have.
fn artifacts(worker: usize, which: usize) -> (Artifact, Artifact, Vec<Vec<u8>>) {
    let artifact = image(&format!("worker {worker} artifact {which}"), 2);
    let statement = referrer(&artifact, "application/vnd.example.statement", &format!("{worker} {which}"));
    let mut loose = vec![format!("shared {}", which % 5).into_bytes()];
    if which.is_multiple_of(3) {
        loose.push(noise((worker * POOL + which) as u64 + 1, 40_000 + which * 700));
    }
    (artifact, statement, loose)
}

/// Bytes that an upload session gets at once.
const PIECE: usize = 25_000;

/// The content of an upload session, by its size.
fn uploaded(size: usize) -> Vec<u8> {
    noise(size as u64, size)
}

fn size_of(worker: usize, which: usize) -> usize {
    500 + worker * 10_000 + which * 4_001
}

/// One step of the upload session of a repository.
fn upload(store: &Store, here: &Repository, size: usize) {
    let found =
        store.uploads(None, 100).unwrap().items.into_iter().find(|upload| upload.repository == *here.name());
    let Some(found) = found else {
        return drop(here.start_upload(&UploadOptions::new().size(size as u64)).unwrap());
    };
    let content = uploaded(found.size.unwrap() as usize);
    let mut upload = here.upload(&found.id).unwrap().unwrap();
    let at = upload.offset() as usize;
    if at == content.len() {
        upload.finish(&Expected::from(digest_of(&content))).unwrap();
    } else {
        upload.append(at as u64, &content[at..content.len().min(at + PIECE)]).unwrap();
        upload.save().unwrap();
    }
}

fn perform(store: &Store, worker: usize, step: Step) {
    let here = repo(store, &name_of(worker));
    match step {
        Step::Push(which, step) => {
            let (artifact, statement, loose) = artifacts(worker, which);
            let mut batch = store.batch();
            for part in artifact.parts.iter().chain(&statement.parts).chain(&loose) {
                batch.push_bytes(&here, part.clone()).unwrap();
            }
            let digest = batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
            batch.push_manifest(&here, statement.media_type, statement.bytes.clone()).unwrap();
            batch.tag(&here, &tag(&tag_of(which)), digest, Expect::Any);
            batch.tag(&here, &tag("latest"), digest, Expect::Any);
            if let Some(step) = step {
                batch.tag(&here, &tag(&tag_of_step(step)), digest, Expect::Any);
            }
            batch.commit().unwrap();
        }
        Step::Untag(which) => drop(here.untag(&tag(&tag_of(which)), Expect::Any).unwrap()),
        Step::Remove(which) => {
            let mut batch = store.batch();
            batch.delete_manifest(&here, &artifacts(worker, which).0.digest());
            match batch.commit() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => drop(other.unwrap()),
            }
        }
        Step::Delete => drop(store.delete_repository(&name(&name_of(worker))).unwrap()),
        Step::Flush => store.flush().unwrap(),
        Step::Checkpoint(which) => {
            let place = checkpoint_of(store.root(), which);
            if place.exists() {
                // By one step, so that a kill leaves none in parts under this name.
                fs::rename(&place, place.with_file_name("old")).unwrap();
                fs::remove_dir_all(place.with_file_name("old")).unwrap();
            }
            store.checkpoint(place).unwrap();
        }
        Step::Upload(which) => upload(store, &here, size_of(worker, which)),
        Step::Limit(which) => {
            here.set_quota(&Quota { bytes: limit_of(which), ..Quota::default() }).unwrap();
        }
        Step::Retain(which) => {
            let mut policy = Retention::default();
            policy.keep_last = kept_of(which);
            match here.set_retention(policy.keep_last.map(|_| &policy)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.unwrap(),
            }
        }
        Step::RemoveUnknown => drop(store.remove_unknown(Duration::ZERO, false).unwrap()),
    }
}

impl Model {
    fn after(&self, worker: usize, step: Step) -> Self {
        let mut model = self.clone();
        match step {
            Step::Push(which, step) => {
                model.exists = true;
                let (artifact, statement, loose) = artifacts(worker, which);
                if let Some(name) = step.map(tag_of_step) {
                    model.tags.insert(name.clone(), artifact.digest());
                    model.newest = Some(name);
                }
                let parts = artifact.parts.iter().chain(&statement.parts).chain(&loose);
                model.blobs.extend(parts.map(|part| digest_of(part)));
                model.manifests.extend([artifact.digest(), statement.digest()]);
                model.tags.insert(tag_of(which), artifact.digest());
                model.tags.insert("latest".into(), artifact.digest());
            }
            Step::Untag(which) => drop(model.tags.remove(&tag_of(which))),
            Step::Remove(which) => {
                let digest = artifacts(worker, which).0.digest();
                model.manifests.remove(&digest);
                model.tags.retain(|_, target| *target != digest);
                model.newest = model.newest.filter(|name| model.tags.contains_key(name));
            }
            Step::Delete => model = Self::default(),
            Step::Limit(which) => {
                model.quota = limit_of(which);
                model.exists |= model.quota.is_some();
            }
            Step::Retain(which) => model.keep_last = kept_of(which).filter(|_| model.exists),
            Step::Flush | Step::Checkpoint(_) | Step::RemoveUnknown => {}
            Step::Upload(which) => match model.upload {
                None => model.upload = Some((size_of(worker, which), 0)),
                Some((size, at)) if at < size => model.upload = Some((size, size.min(at + PIECE))),
                Some((size, _)) => {
                    model.exists = true;
                    model.blobs.insert(digest_of(&uploaded(size)));
                    model.upload = None;
                }
            },
        }
        model
    }

    /// What the store has, read to the last byte.
    fn found(store: &Store, worker: usize) -> Self {
        let here = repo(store, &name_of(worker));
        let manifests = here.manifests(None, 10_000).unwrap().items;
        let manifests: BTreeSet<Digest> = manifests.into_iter().map(|found| found.digest).collect();
        let blobs = contents(&here);
        for digest in manifests.iter().chain(&blobs) {
            let blob = here.get(digest).unwrap().unwrap();
            assert_eq!(digest_of(&blob), *digest);
        }
        let mut uploads = store.uploads(None, 100).unwrap().items;
        uploads.retain(|upload| upload.repository == *here.name());
        assert!(uploads.len() < 2);
        let upload = uploads.first().map(|upload| {
            let (size, saved) = (upload.size.unwrap() as usize, upload.offset as usize);
            let path = store.root().join(format!(".orlop/ingest/upload-{}", upload.id));
            assert!(saved == 0 || fs::read(path).unwrap()[..saved] == uploaded(size)[..saved]);
            (size, saved)
        });
        let tags: BTreeMap<String, Digest> = tags(&here).into_iter().collect();
        let exists = store.repositories(None, 100).unwrap().items.contains(here.name());
        let keep_last = here.retention().unwrap().and_then(|policy| policy.keep_last);
        let newest = tags.keys().rfind(|name| is_of_step(name)).cloned();
        Self { tags, manifests, blobs, upload, exists, quota: here.quota().unwrap().bytes, keep_last, newest }
    }
}

/// The body of the child process; by itself it has nothing to do.
#[test]
fn child_that_is_killed() {
    let Some(root) = std::env::var_os("ORLOP_TEST_KILLED") else { return };
    let round = usize::try_from(number("ORLOP_TEST_ROUND", 0)).unwrap();
    let seed = number("ORLOP_KILL_SEED", 1);
    let options = Options::new().publish(Publish::Interval(Duration::from_millis(5))).grace(Duration::ZERO);
    let store = options.open(&root).unwrap();
    let collect = std::env::var_os("ORLOP_TEST_COLLECT").is_some();
    work(&store, round, seed, collect, usize::MAX);
}

/// All workers at once, for so many steps, and, beside them if asked for, collections.
fn work(store: &Store, round: usize, seed: u64, collect: bool, steps: usize) {
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let done = &done;
        if collect {
            scope.spawn(move || {
                for step in 0.. {
                    let newest_only = |_: &RepositoryName, policy: &mut Retention| {
                        policy.keep_last = Some(1);
                        policy.last_of = vec!["old-*".parse().unwrap()];
                    };
                    store.collector().items(1 + step % 40).retention(newest_only).run().unwrap();
                    if done.load(Ordering::Relaxed) == WORKERS {
                        return;
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        for worker in 0..WORKERS {
            scope.spawn(move || {
                for step in 0..steps {
                    perform(store, worker, step_of(seed, round, worker, step, collect));
                    let mut out = std::io::stdout();
                    writeln!(out, "\nacknowledged {worker} {step}").unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}

/// The same threads without a kill, so that something that watches them from within the process can.
#[test]
fn workers_side_by_side_leave_what_each_of_them_did() {
    let (steps, seed) = (number("ORLOP_KILL_STEPS", 40), number("ORLOP_KILL_SEED", 1));
    let steps = usize::try_from(steps).unwrap();
    // The second of the rounds makes checkpoints.
    for (round, collect) in [(0, false), (5, false), (0, true)] {
        let dir = scratch();
        let publish = Publish::Interval(Duration::from_millis(5));
        let store = options().publish(publish).grace(Duration::ZERO).create(dir.root()).unwrap();
        work(&store, round, seed, collect, steps);
        for worker in 0..WORKERS {
            let done = (0..steps).map(|step| step_of(seed, round, worker, step, collect));
            let model = done.fold(Model::default(), |model, step| model.after(worker, step));
            let found = Model::found(&store, worker);
            if collect {
                assert!(fits(&found, &model, worker), "worker {worker} had {model:?}, and has {found:?}");
            } else {
                assert_eq!(found, model, "worker {worker}");
            }
        }
        crate::usage::assert_counted(&store);
        store.close().unwrap();
        Layout::sound(&dir.root());
    }
}

/// Runs the child for a while; answers how many steps each worker was promised.
fn killed(root: &Path, round: usize, seed: u64, collect: bool) -> [usize; WORKERS] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if collect {
        command.env("ORLOP_TEST_COLLECT", "1");
    }
    let mut child = command
        .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
        .env("ORLOP_TEST_KILLED", root)
        .env("ORLOP_TEST_ROUND", round.to_string())
        .env("ORLOP_KILL_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (begin, begun) = mpsc::channel();
    let killer = thread::spawn(move || {
        if makes_checkpoints(round) {
            // A child that fails says nothing more.
            let _ = begun.recv();
        }
        thread::sleep(Duration::from_millis(10 + chance(seed, round, WORKERS, 0) as u64 % 250));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut done = [0; WORKERS];
    for line in output.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["acknowledged", worker, step] = words[..] {
            done[worker.parse::<usize>().unwrap()] = step.parse::<usize>().unwrap() + 1;
            if worker == "0" {
                let _ = begin.send(());
            }
        }
    }
    drop(begin);
    killer.join().unwrap();
    done
}

/// Every file under `blobs/` is what it is called.
fn names_are_hashes(root: &Path) {
    let Ok(files) = fs::read_dir(root.join("blobs/sha256")) else { return };
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(sha256(&fs::read(&path).unwrap()), format!("sha256:{name}"));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_at_any_moment() {
    let (kills, seed) = (number("ORLOP_KILLS", 60), number("ORLOP_KILL_SEED", 1));
    let dir = scratch();
    let mut limits = EventLimits::default();
    limits.count = 10_000_000;
    options().events(limits).create(dir.root()).unwrap().close().unwrap();
    let mut models: [Model; WORKERS] = Default::default();
    let (mut steps, mut checkpoints) = (0, 0);
    for round in 0..usize::try_from(kills).unwrap() {
        let done = killed(&dir.root(), round, seed, false);
        // Before anybody mends anything, another tool finds nothing missing in what is published.
        Layout::sound(&dir.root());
        names_are_hashes(&dir.root());
        for place in (0..2).map(|which| checkpoint_of(&dir.root(), which)).filter(|place| place.exists()) {
            Layout::sound(&place);
            let copy = options().open(&place).unwrap();
            let report = copy.verify().index(true).read_data(true).run().unwrap();
            assert!(report.is_sound(), "round {round}: {report:?}");
            checkpoints += 1;
        }
        let _ = fs::remove_dir_all(dir.path("old"));
        let store = options().open(dir.root()).unwrap();
        assert_eq!(store.reports(), [], "round {round}");
        crate::usage::assert_counted(&store);
        let events = replayed(&store);
        for (worker, model) in models.iter_mut().enumerate() {
            for step in 0..done[worker] {
                *model = model.after(worker, step_of(seed, round, worker, step, false));
            }
            steps += done[worker];
            let under_way = step_of(seed, round, worker, done[worker], false);
            let found = Model::found(&store, worker);
            let told = events.get(&name_of(worker)).cloned().unwrap_or_default();
            assert_eq!(
                told,
                (found.tags.clone(), found.manifests.clone()),
                "round {round}: events and state"
            );
            if found != *model {
                let next = model.after(worker, under_way);
                assert_eq!(
                    found, next,
                    "round {round}: worker {worker} had {model:?} and was at {under_way:?}"
                );
                *model = next;
            }
        }
        store.close().unwrap();
        let layout = Layout::sound(&dir.root());
        for (worker, model) in models.iter().enumerate() {
            for (tag, digest) in &model.tags {
                let name = format!("{}:{tag}", name_of(worker));
                assert_eq!(layout.names().get(&name), Some(&digest.to_string()), "round {round}");
            }
        }
    }
    assert!(checkpoints > 0, "no checkpoint was made");
    assert!(steps > usize::try_from(kills).unwrap() * 4, "the child did next to nothing: {steps} steps");
}

/// Whether a repository is as it should be, after somebody collected there: what hangs on something is there, and what does not
/// may be.
fn fits(found: &Model, model: &Model, worker: usize) -> bool {
    let mut needed = BTreeSet::new();
    for which in 0..POOL {
        let (artifact, statement, _) = artifacts(worker, which);
        let is_there = |manifest: &Artifact| found.manifests.contains(&manifest.digest());
        let lasts = |name: &String| !is_of_step(name) || model.newest.as_ref() == Some(name);
        let is_named = model.tags.iter().any(|(name, target)| *target == artifact.digest() && lasts(name));
        let is_needed = model.manifests.contains(&artifact.digest()) && (is_named || !tags_steps(worker));
        if is_needed && !(is_there(&artifact) && is_there(&statement)) {
            return false;
        }
        for manifest in [artifact, statement] {
            if found.manifests.contains(&manifest.digest()) {
                needed.extend(manifest.parts.iter().map(|part| digest_of(part)));
            }
        }
    }
    // Of the tags of steps only the newest has to be there.
    let lasting = |model: &Model| -> BTreeMap<String, Digest> {
        let tags = model.tags.iter().filter(|(name, _)| !is_of_step(name));
        tags.map(|(name, target)| (name.clone(), *target)).collect()
    };
    lasting(found) == lasting(model)
        && found.tags.iter().all(|(name, target)| model.tags.get(name) == Some(target))
        && model.newest.as_ref().is_none_or(|name| found.tags.contains_key(name))
        && (found.exists, found.quota, found.keep_last) == (model.exists, model.quota, model.keep_last)
        && found.manifests.is_subset(&model.manifests)
        && found.blobs.is_subset(&model.blobs)
        && needed.is_subset(&found.blobs)
}

#[test]
fn a_collection_beside_pushes_that_is_killed_at_any_moment_takes_garbage_only() {
    let (kills, seed) = (number("ORLOP_KILLS", 40), number("ORLOP_KILL_SEED", 7));
    let (dir, store) = fresh();
    store.close().unwrap();
    let mut models: [Model; WORKERS] = Default::default();
    for round in 0..usize::try_from(kills).unwrap() {
        let done = killed(&dir.root(), round, seed, true);
        // Another tool finds nothing missing in what is published.
        Layout::sound(&dir.root());
        names_are_hashes(&dir.root());
        for which in 0..2 {
            let _ = fs::remove_dir_all(checkpoint_of(&dir.root(), which));
        }
        let _ = fs::remove_dir_all(dir.path("old"));
        let store = options().open(dir.root()).unwrap();
        assert_eq!(store.reports(), [], "round {round}");
        for (worker, model) in models.iter_mut().enumerate() {
            for step in 0..done[worker] {
                *model = model.after(worker, step_of(seed, round, worker, step, true));
            }
            let under_way = step_of(seed, round, worker, done[worker], true);
            let found = Model::found(&store, worker);
            let next = model.after(worker, under_way);
            assert!(
                fits(&found, model, worker) || fits(&found, &next, worker),
                "round {round}: worker {worker} had {model:?}, was at {under_way:?}, and has {found:?}"
            );
            *model = found;
        }
        // Files of pushes that were killed before their rows came are harmless.
        let report = store.verify().index(true).run().unwrap();
        assert!(report.is_sound(), "round {round}: {:?}", report.findings);
        store.close().unwrap();
    }
    let store = options().open(dir.root()).unwrap();
    crate::collecting::collect(&store);
    store.flush().unwrap();
    let mut held = BTreeSet::new();
    for worker in 0..WORKERS {
        let found = Model::found(&store, worker);
        held.extend(found.manifests.into_iter().chain(found.blobs));
    }
    let files = crate::collecting::files(&dir.root());
    assert!(held.is_subset(&files), "what is held is on the disk");
    for digest in files.difference(&held) {
        assert_eq!(store.unscoped().stat(digest).unwrap(), None, "what nobody holds is not known");
    }
    let report = store.verify().index(true).run().unwrap();
    assert!(report.is_sound() && report.unheld == 0, "{:?}", report.findings);
    Layout::sound(&dir.root());
}
