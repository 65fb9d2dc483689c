//! The programs of the power cuts: a workload that says what it was promised, and (in `check`) a check of what is left
//! and a recovery that is cut itself.
//!
//! `tests/powercut/powercut.py` starts them by their names and environment; by themselves they have nothing to do. A line
//! of the workload is `ACK ` and a JSON object: the operation, the whole state after it, and the files under `blobs/` of
//! which nothing is promised before that: another tool wrote them, or damaged them.

mod check;
mod crowd;
mod limits;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::artifact::{Artifact, noise};
use super::state::{State, difference, state};
use crate::blobs::Sharing;
use crate::digest::{Algorithm, Digest};
use crate::store::{EventLimits, Expect, Flaw, Limits, OnDamage, Options, Publish, Repository, Store};
use crate::sys::fault::{Call, Fault, arm};

/// Steps of the protocol that a run may leave out.
const STEPS: [(&str, Call); 11] = [
    ("file-sync", Call::SyncFile),
    ("document-sync", Call::SyncDocument),
    ("filesystem-sync", Call::SyncFs),
    ("directory-sync", Call::SyncDir),
    ("log-sync", Call::SyncRows),
    ("journal-order", Call::KeepJournal),
    ("pending", Call::PutPending),
    ("base", Call::PutBase),
    ("condemned", Call::SyncCondemned),
    ("publish-first", Call::PublishFirst),
    (JUDGING, Call::JudgeLogs),
];

/// The step that belongs to opening, and is left out when it is checked what is there.
const JUDGING: &str = "judging";

/// The name of the layout beside the store that has what it was damaged in.
const SOURCE: &str = "source";

/// Operations that change nothing of what the store shows.
const UNCHANGED: [&str; 7] = ["flush", "reopen", "rebuild", "close", "repair", "checkpoint", "refused"];

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
        patient: left_out.is_some(),
        store: None,
        images: Vec::new(),
        last: State::new(),
        checkpoints: Vec::new(),
        leased: Vec::new(),
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
    /// Reads that fail are tried again: with a step left out, content may be nowhere for a moment, and it is a cut in that
    /// moment that should tell.
    patient: bool,
    store: Option<Store>,
    /// What is there: the repository, the tag, the image.
    images: Vec<(String, String, Artifact)>,
    /// What was acknowledged last.
    last: State,
    /// The checkpoints that there must be.
    checkpoints: Vec<String>,
    /// What nothing but a lease keeps.
    leased: Vec<Digest>,
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
        let mut found = state(self.store());
        for _ in 0..200 {
            if !self.patient || found.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            found = state(self.store());
        }
        let state = found.unwrap();
        if UNCHANGED.contains(&kind) {
            assert!(state == self.last, "{kind} changed the state: {}", difference(&self.last, &state));
        }
        say(&json!({
            "step": self.step, "kind": kind, "state": state, "foreign": foreign, "checkpoints": self.checkpoints,
            "leased": self.leased.iter().map(ToString::to_string).collect::<Vec<_>>(), "rebuilt": self.rebuilt,
        }));
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
            2 if self.step % 40 == 2 => {
                self.crowd();
                self.push("small", &[200, 5_000]);
            }
            2 if self.step % 40 == 22 => {
                self.push("small", &[200, 5_000]);
                self.repair();
            }
            3 => self.push("large", &[50_000, 120_000, 400]),
            5 => self.push("many", &[33_000; 7]),
            16 if self.step % 40 == 16 => self.release(),
            6 | 16 => self.attach(),
            7 => self.move_tag(),
            8 => self.edit_while_open(),
            10 => self.push("full", &[30_000; 12]),
            11 => self.loose(),
            12 => {
                self.limit();
                self.remove_tag();
            }
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
            18 => self.delete_repository(),
            19 if self.step % 40 == 19 => self.checkpoint(),
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

    /// The bytes of a content change; they are found, moved to quarantine, and brought again from a plain layout that was
    /// written just before.
    fn repair(&mut self) {
        self.store().flush().unwrap();
        let (_, _, image) = self.images.last().unwrap().clone();
        let source = self.root.with_file_name(SOURCE);
        let plain = options().open_plain(&source).unwrap();
        let mut batch = plain.batch();
        let digest = image.add(&mut batch, &plain.default_repository()).unwrap();
        batch.tag(&plain.default_repository(), &"kept".parse().unwrap(), digest, Expect::Any);
        batch.commit().unwrap();
        plain.close().unwrap();
        let part = image.parts.iter().max_by_key(|part| part.len()).unwrap();
        let digest = Algorithm::Sha256.digest(part);
        let (blobs, name) = (self.root.join("blobs/sha256"), digest.encoded().to_string());
        let mut wrong = part.clone();
        wrong[part.len() / 2] ^= 1;
        fs::write(blobs.join("wrong"), wrong).unwrap();
        fs::rename(blobs.join("wrong"), blobs.join(&name)).unwrap();
        let found = self.store().verify().read_data(true).run().unwrap().findings;
        let found: Vec<_> = found.iter().map(|one| (one.digest, one.flaw, one.quarantined)).collect();
        assert_eq!(found, [(Some(digest), Flaw::Bytes, true)]);
        assert_eq!(mend(self.store(), &source).unwrap(), [digest]);
        // Small content comes again through the journal, and what is published lacks its file until it is filed.
        self.store().flush().unwrap();
        self.acknowledge("repair", &[name, "wrong".into()]);
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
            let digest = Algorithm::Sha256.digest(part).to_string();
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

/// Says a promise, and waits until it is noted.
fn say(promise: &Value) {
    let mut out = io::stdout().lock();
    writeln!(out, "ACK {promise}").unwrap();
    out.flush().unwrap();
    drop(out);
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// Brings what is damaged from `source`; answers what was.
fn mend(store: &Store, source: &Path) -> crate::error::Result<Vec<Digest>> {
    let source = options().open_read_only(source)?;
    let report = store.repair_from(&source).sharing(Sharing::Never).run()?;
    assert_eq!(report.lacking, []);
    Ok(report.healed)
}
