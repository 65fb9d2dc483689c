//! The two programs of the power cuts: a workload that says what it was promised, and a check of what is left.
//!
//! `tests/powercut/powercut.py` starts them by their names and environment; by themselves they have nothing to do. A line
//! of the workload is `ACK ` and a JSON object: the operation, the whole state after it, and the files that it put into
//! `blobs/` as another tool, which promises nothing before the store has taken them in.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::artifact::{Artifact, noise};
use super::plain::{Plain, names_are_hashes};
use super::state::{State, check_files, difference, events_agree, state};
use crate::blobs::Expected;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::store::{
    EventLimits, Expect, Limits, OnDamage, Options, Publish, Repository, Store, Upload, UploadOptions,
};
use crate::sys::fault::{Call, Fault, arm};

/// Steps of the protocol that a run may leave out.
const STEPS: [(&str, Call); 8] = [
    ("file-sync", Call::SyncFile),
    ("document-sync", Call::SyncDocument),
    ("filesystem-sync", Call::SyncFs),
    ("directory-sync", Call::SyncDir),
    ("log-sync", Call::SyncRows),
    ("journal-order", Call::KeepJournal),
    ("pending", Call::PutPending),
    ("base", Call::PutBase),
];

/// What the names of checkpoints begin with, beside the store.
const CHECKPOINT: &str = "checkpoint-";

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("ORLOP_POWERCUT_{name}")).ok()
}

/// Publishes soon, so that the publisher works beside the commits; a small journal, so that it fills up.
fn options() -> Options {
    let limits = Limits { journal_size: 256 << 10, ..Limits::default() };
    let publish = Publish::Interval(Duration::from_millis(15));
    // After a power cut nothing may have to be rebuilt.
    let options = Options::new().publish(publish).limits(limits).on_damage(OnDamage::Refuse);
    options.events(EventLimits::default())
}

#[test]
#[ignore = "started by tests/powercut/powercut.py"]
fn workload() {
    let Some(root) = variable("ROOT") else { return };
    let root = PathBuf::from(root).join("store");
    let number = |name: &str, default: u64| variable(name).map_or(default, |text| text.parse().unwrap());
    let left_out = variable("WITHOUT").filter(|step| !step.is_empty()).map(|step| {
        let (_, call) = STEPS.iter().find(|(name, _)| *name == step).unwrap();
        arm(Fault::skip(*call, &root).forever())
    });
    let mut work = Workload {
        root: root.clone(),
        seed: number("SEED", 1),
        step: 0,
        store: None,
        images: Vec::new(),
        last: State::new(),
        checkpoints: Vec::new(),
        rebuilt: false,
    };
    writeln!(io::stdout()).unwrap();
    work.store = Some(options().create(&root).unwrap());
    work.acknowledge("create", &[]);
    for step in 1..=usize::try_from(number("STEPS", 120)).unwrap() {
        work.step = step;
        work.one();
    }
    work.store.take().unwrap().close().unwrap();
    work.store = Some(options().open(&root).unwrap());
    work.acknowledge("close", &[]);
    drop(left_out);
}

struct Workload {
    root: PathBuf,
    seed: u64,
    step: usize,
    store: Option<Store>,
    /// What is there: the repository, the tag, the image.
    images: Vec<(String, String, Artifact)>,
    /// What was acknowledged last.
    last: State,
    /// The checkpoints that there must be.
    checkpoints: Vec<String>,
    /// Whether the feed of events began later than the store.
    rebuilt: bool,
}

impl Workload {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn repository(&self, name: &str) -> Repository {
        self.store().repository(&name.parse().unwrap())
    }

    /// Says what is promised now, and waits until that is noted.
    fn acknowledge(&mut self, kind: &str, foreign: &[String]) {
        let state = state(self.store()).unwrap();
        if ["flush", "reopen", "rebuild", "checkpoint", "close"].contains(&kind) {
            assert!(state == self.last, "{kind} changed the state: {}", difference(&self.last, &state));
        }
        let line = json!({
            "step": self.step, "kind": kind, "state": state, "foreign": foreign, "checkpoints": self.checkpoints,
            "rebuilt": self.rebuilt,
        });
        let mut out = io::stdout().lock();
        writeln!(out, "ACK {line}").unwrap();
        out.flush().unwrap();
        drop(out);
        io::stdin().read_line(&mut String::new()).unwrap();
        self.last = state;
    }

    fn seed(&self) -> String {
        format!("{} {}", self.seed, self.step)
    }

    fn one(&mut self) {
        match self.step % 20 {
            0 => self.flush(),
            1 => self.start_upload(),
            4 | 9 => self.save_upload(),
            3 => self.push("large", &[50_000, 120_000, 400]),
            5 => self.push("many", &[33_000; 7]),
            6 | 16 => self.attach(),
            7 => self.move_tag(),
            8 => self.edit_while_open(),
            10 => self.push("full", &[30_000; 12]),
            11 => self.loose(),
            12 => self.remove_tag(),
            13 => {
                self.remove_manifest();
                self.collect();
            }
            14 => self.reopen(),
            15 => {
                self.end_upload();
                self.push("single", &[60_000]);
            }
            17 => self.edit_while_closed(),
            18 if self.step % 40 == 18 => self.rebuild(),
            19 if self.step % 40 == 19 => self.checkpoint(),
            18 => self.delete_repository(),
            _ => self.push("small", &[200, 5_000]),
        }
    }

    fn push(&mut self, kind: &str, layers: &[usize]) {
        let image = Artifact::image(&self.seed(), layers);
        let name = format!("r{}", self.step % 3);
        let tag = format!("t{}", self.step);
        let here = self.repository(&name);
        let mut batch = self.store().batch();
        let digest = image.add(&mut batch, &here).unwrap();
        batch.tag(&here, &tag.parse().unwrap(), digest, Expect::Absent);
        batch.tag(&here, &"latest".parse().unwrap(), digest, Expect::Any);
        batch.commit().unwrap();
        self.images.push((name, tag, image));
        self.acknowledge(kind, &[]);
    }

    fn attach(&mut self) {
        let (name, _, image) = self.images.last().unwrap().clone();
        let here = self.repository(&name);
        let mut batch = self.store().batch();
        Artifact::attached(&self.seed(), &image).add(&mut batch, &here).unwrap();
        batch.commit().unwrap();
        self.acknowledge("attach", &[]);
    }

    fn move_tag(&mut self) {
        let (name, tag, _) = self.images.last().unwrap().clone();
        let (_, _, image) =
            self.images.iter().find(|(found, other, _)| *found == name && *other != tag).unwrap();
        self.repository(&name).tag(&tag.parse().unwrap(), &image.digest(), Expect::Any).unwrap();
        self.images.retain(|(_, other, _)| *other != tag);
        self.acknowledge("move", &[]);
    }

    fn remove_tag(&mut self) {
        let (name, tag, _) = self.images.pop().unwrap();
        self.repository(&name).untag(&tag.parse().unwrap(), Expect::Any).unwrap();
        self.acknowledge("untag", &[]);
    }

    fn remove_manifest(&mut self) {
        let (name, _, image) = self.images.pop().unwrap();
        let mut batch = self.store().batch();
        batch.delete_manifest(&self.repository(&name), &image.digest());
        batch.commit().unwrap();
        self.acknowledge("remove", &[]);
    }

    /// Content that nothing refers to comes, and what came so before goes.
    fn loose(&mut self) {
        let here = self.repository("loose");
        let mut batch = self.store().batch();
        for size in [100, 40_000] {
            batch.push_bytes(&here, noise(&format!("{} {size}", self.seed()), size)).unwrap();
        }
        for old in here.contents(None, 100).unwrap().items {
            batch.delete_blob(&here, &old.digest);
        }
        batch.commit().unwrap();
        self.acknowledge("loose", &[]);
    }

    /// The session that is under way.
    fn upload(&self) -> Upload {
        let found = self.store().uploads(None, 2).unwrap().items;
        assert_eq!(found.len(), 1);
        self.repository("uploads").upload(&found[0].id).unwrap().unwrap()
    }

    fn start_upload(&mut self) {
        drop(self.repository("uploads").start_upload(&UploadOptions::new()).unwrap());
        self.acknowledge("upload-start", &[]);
    }

    fn save_upload(&mut self) {
        let mut upload = self.upload();
        let offset = upload.offset();
        upload.append(offset, noise(&self.seed(), 30_000 + self.step)).unwrap();
        upload.save().unwrap();
        upload.append(upload.offset(), "not saved").unwrap();
        drop(upload);
        self.acknowledge("upload-save", &[]);
    }

    /// Finished or cancelled in turn; an odd size, so that blocks are shared by what comes before and after a save.
    fn end_upload(&mut self) {
        let mut upload = self.upload();
        if self.step % 40 == 15 {
            upload.append(upload.offset(), noise(&self.seed(), 4_321)).unwrap();
            upload.finish(&Expected::default()).unwrap();
        } else {
            upload.cancel().unwrap();
        }
        self.acknowledge("upload-end", &[]);
    }

    fn delete_repository(&mut self) {
        let name = self.images.first().unwrap().0.clone();
        assert!(self.store().delete_repository(&name.parse().unwrap()).unwrap());
        self.images.retain(|(found, _, _)| *found != name);
        self.acknowledge("delete", &[]);
    }

    fn collect(&mut self) {
        let report = self.store().collector().grace(Duration::ZERO).run().unwrap();
        assert!(report.complete && report.waiting == 0 && report.failed.is_empty(), "{report:?}");
        self.acknowledge("collect", &[]);
    }

    fn flush(&mut self) {
        self.store().flush().unwrap();
        self.acknowledge("flush", &[]);
    }

    fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(options().open(&self.root).unwrap());
        self.acknowledge("reopen", &[]);
    }

    fn rebuild(&mut self) {
        self.store.take().unwrap().close().unwrap();
        options().rebuild(&self.root).unwrap();
        self.rebuilt = true;
        self.store = Some(options().open(&self.root).unwrap());
        self.acknowledge("rebuild", &[]);
    }

    /// Each has a place of its own: what was removed without a sync may come back in parts.
    fn checkpoint(&mut self) {
        let name = format!("{CHECKPOINT}{}", self.step);
        self.store().checkpoint(self.root.with_file_name(&name)).unwrap();
        self.checkpoints.push(name);
        self.acknowledge("checkpoint", &[]);
    }

    /// Another tool adds an image of its own by writing into `index.json` in place, from a view that is older than a move
    /// of a tag, which must stand.
    fn edit_while_open(&mut self) {
        self.store().flush().unwrap();
        let index = self.root.join("index.json");
        let old = fs::read(&index).unwrap();
        let (name, tag, _) = self.images.last().unwrap().clone();
        let moved = Artifact::image(&format!("{} moved", self.seed()), &[10]);
        let here = self.repository(&name);
        let mut batch = self.store().batch();
        moved.add(&mut batch, &here).unwrap();
        batch.tag(&here, &tag.parse().unwrap(), moved.digest(), Expect::Any);
        batch.commit().unwrap();
        self.images.retain(|(_, other, _)| *other != tag);
        self.images.push((name.clone(), tag.clone(), moved.clone()));
        self.acknowledge("moved", &[]);
        let foreign = self.edit(&old, None, false);
        self.store().flush().unwrap();
        let found = here.resolve(&tag.parse().unwrap()).unwrap().unwrap();
        assert_eq!(
            found.digest,
            moved.digest(),
            "the move of {name}:{tag} was undone by an older index.json"
        );
        self.acknowledge("edit", &foreign);
    }

    /// Another tool adds an image and removes a name while the store is closed.
    fn edit_while_closed(&mut self) {
        self.store.take().unwrap().close().unwrap();
        let (name, tag, _) = self.images.pop().unwrap();
        let old = fs::read(self.root.join("index.json")).unwrap();
        let foreign = self.edit(&old, Some(&format!("{name}:{tag}")), true);
        self.store = Some(options().open(&self.root).unwrap());
        self.store().flush().unwrap();
        assert_eq!(self.repository(&name).resolve(&tag.parse().unwrap()).unwrap(), None);
        self.acknowledge("edit-closed", &foreign);
    }

    /// Syncs nothing, as other tools do. Answers the names of the files that it put into `blobs/`.
    fn edit(&mut self, old: &[u8], remove: Option<&str>, rename: bool) -> Vec<String> {
        let image = Artifact::image(&format!("{} foreign", self.seed()), &[700, 45_000]);
        let mut names = Vec::new();
        for part in image.parts.iter().chain([&image.bytes]) {
            let digest = crate::digest::Algorithm::Sha256.digest(part).to_string();
            let name = digest.trim_start_matches("sha256:").to_owned();
            fs::write(self.root.join("blobs/sha256").join(&name), part).unwrap();
            names.push(name);
        }
        let tag = format!("f{}", self.step);
        let mut document: Value = serde_json::from_slice(old).unwrap();
        let entries = document["manifests"].as_array_mut().unwrap();
        entries.retain(|entry| {
            remove.is_none_or(|name| entry["annotations"]["org.opencontainers.image.ref.name"] != name)
        });
        entries.push(image.entry(&tag));
        let text = serde_json::to_vec(&document).unwrap();
        let index = self.root.join("index.json");
        if rename {
            fs::write(self.root.join("index.json.new"), text).unwrap();
            fs::rename(self.root.join("index.json.new"), index).unwrap();
        } else {
            fs::write(index, text).unwrap();
        }
        names
    }
}

/// What the workload said, as far as the cut let it come, and the one operation that may be half done.
struct Promises {
    before: Option<Value>,
    under_way: Option<Value>,
}

#[test]
#[ignore = "started by tests/powercut/powercut.py"]
fn check() {
    let Some(root) = variable("ROOT") else { return };
    let acknowledged: usize = variable("COUNT").unwrap().parse().unwrap();
    let lines = fs::read_to_string(variable("ACKED").unwrap()).unwrap();
    let line = |n: usize| lines.lines().nth(n).map(|line| serde_json::from_str(line).unwrap());
    let before = acknowledged.checked_sub(1).and_then(line);
    let promises = Promises { before, under_way: line(acknowledged) };
    let result = promises.check(&PathBuf::from(root).join("store"));
    if let Err(why) = &result {
        writeln!(io::stdout(), "\nBAD {}: {why}", promises.words()).unwrap();
    }
    assert!(result.is_ok());
}

impl Promises {
    fn words(&self) -> String {
        let kind = |line: &Option<Value>| line.as_ref().map_or(Value::Null, |line| line["kind"].clone());
        format!("after {} in {}", kind(&self.before), kind(&self.under_way))
    }

    fn state_of(line: Option<&Value>) -> State {
        let facts = line.and_then(|line| line["state"].as_array()).into_iter().flatten();
        facts.map(|fact| fact.as_str().unwrap().to_owned()).collect()
    }

    /// In the middle of what another tool does nothing is promised of the files that it writes.
    fn foreign(&self) -> BTreeSet<String> {
        let names = self.under_way.as_ref().and_then(|line| line["foreign"].as_array());
        names.into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        let foreign = self.foreign();
        if root.exists() {
            names_are_hashes(root, &foreign).map_err(|why| format!("before the open: {why}"))?;
        }
        if self.before.is_some() && foreign.is_empty() {
            Plain::read(root).map_err(|why| format!("before the open: {why}"))?;
        }
        self.checkpoints(root)?;
        let store = self.open(root)?;
        let found = state(&store).map_err(|error| format!("cannot be read: {}", words(&error)))?;
        let (old, new) = (Self::state_of(self.before.as_ref()), Self::state_of(self.under_way.as_ref()));
        // Of what another tool was doing any part may be there, but nothing else may be touched.
        let partly = || {
            old.intersection(&new).all(|fact| found.contains(fact))
                && found.iter().all(|fact| old.contains(fact) || new.contains(fact))
        };
        // A collection goes group by group.
        let in_parts = !foreign.is_empty()
            || self.under_way.as_ref().is_some_and(|line| line["kind"].as_str() == Some("collect"));
        let allowed = found == old || (self.under_way.is_some() && found == new) || (in_parts && partly());
        if !allowed {
            return Err(difference(&old, &found));
        }
        let rebuilt = |line: &Option<Value>| line.as_ref().is_some_and(|line| line["rebuilt"] == true);
        // The disk of the check is another device than that of the workload. An XFS has no id of its own but that, so the
        // store counts as a copy there, which begins a new feed.
        let anew = rebuilt(&self.before) || rebuilt(&self.under_way) || store.open_report().copied;
        events_agree(&store, !anew)?;
        push_again(&store, &found).map_err(|error| format!("cannot be written: {}", words(&error)))?;
        let expected = state(&store).map_err(|error| format!("cannot be read again: {}", words(&error)))?;
        store.close().map_err(|error| format!("cannot be closed: {}", words(&error)))?;
        names_are_hashes(root, &foreign)?;
        if foreign.is_empty() {
            return check_files(root, Some(&expected));
        }
        // An entry whose content did not reach the disk is refused, and kept as the other tool wrote it.
        Plain::read_except(root, &foreign).map(|_| ())
    }

    /// Those that were acknowledged are there, and whatever is there by its name is whole.
    fn checkpoints(&self, root: &Path) -> Result<(), String> {
        let promised =
            self.before.as_ref().and_then(|line| line["checkpoints"].as_array()).into_iter().flatten();
        for name in promised.map(|name| name.as_str().unwrap()) {
            if !root.with_file_name(name).exists() {
                return Err(format!("{name} is gone"));
            }
        }
        for entry in fs::read_dir(root.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with(CHECKPOINT) {
                continue;
            }
            let wrong = |error| format!("{}: {}", path.display(), words(&error));
            let store = options().open(&path).map_err(wrong)?;
            let report = store.verify().index(true).read_data(true).run().map_err(wrong)?;
            if !report.is_sound() {
                return Err(format!("{}: {:?}", path.display(), report.findings));
            }
            let found = state(&store).map_err(wrong)?;
            store.close().map_err(wrong)?;
            check_files(&path, Some(&found))?;
        }
        Ok(())
    }

    /// Opens for writing, and finishes what the cut interrupted where that is a person's to do.
    fn open(&self, root: &Path) -> Result<Store, String> {
        let kind = self.under_way.as_ref().map_or("", |line| line["kind"].as_str().unwrap());
        match options().open(root) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.before.is_none() => {
                options().create(root).map_err(|error| format!("cannot be created: {}", words(&error)))
            }
            Err(error) if error.kind() == ErrorKind::Corrupt && kind == "rebuild" => {
                options().rebuild(root).map_err(|error| format!("cannot be rebuilt: {}", words(&error)))?;
                options().open(root).map_err(|error| format!("cannot be opened: {}", words(&error)))
            }
            other => other.map_err(|error| format!("cannot be opened: {}", words(&error))),
        }
    }
}

/// Something new, something that is there already, and the rest of what was being uploaded.
fn push_again(store: &Store, found: &State) -> crate::error::Result<()> {
    let here = store.repository(&"again".parse()?);
    let mut batch = store.batch();
    let digest = Artifact::image("again", &[300, 40_000]).add(&mut batch, &here)?;
    batch.tag(&here, &"again".parse()?, digest, Expect::Any);
    for fact in found.iter().take(3) {
        if let [name, "blob", digest] = fact.split(' ').collect::<Vec<_>>()[..] {
            let from = if name.is_empty() { RepositoryName::unnamed() } else { name.parse()? };
            batch.mount(&here, &store.repository(&from), &digest.parse::<Digest>()?)?;
        }
    }
    batch.commit()?;
    for upload in store.uploads(None, 10)?.items {
        let mut upload = store.repository(&upload.repository).upload(&upload.id)?.unwrap();
        upload.append(upload.offset(), "the rest")?;
        upload.finish(&Expected::default())?;
    }
    Ok(())
}

fn words(error: &crate::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
