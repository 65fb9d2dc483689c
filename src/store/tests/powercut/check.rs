//! What is left by a cut is checked, and recovered from under further cuts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::crowd::{CROWD, is_of_crowd};
use super::limits::{finish_uploads, leases_hold, limits_hold, release};
use super::{CHECKPOINT, JUDGING, SOURCE, mend, options, say, variable};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::store::rebuild::chain;
use crate::store::tests::artifact::Artifact;
use crate::store::tests::plain::{Plain, names_are_hashes};
use crate::store::tests::state::{State, check_files, difference, events_agree, state, state_and_hurt};
use crate::store::{Expect, OnDamage, Report, Store};
use crate::sys::fault::{Call, Fault, arm};

type Outcome<T = ()> = Result<T, String>;

/// What the workload said, as far as the cut let it come, and the one operation that may be half done.
struct Promises {
    before: Option<Value>,
    under_way: Option<Value>,
}

#[test]
#[ignore = "started by tests/powercut/powercut.py"]
fn check() {
    run(|promises, root| promises.check(root, variable("REBUILD").is_some()));
}

/// Recovers, in the way of somebody who is cut off again: every promise is said.
#[test]
#[ignore = "started by tests/powercut/powercut.py"]
fn recovery() {
    run(Promises::recover);
}

fn run(program: impl Fn(&Promises, &Path) -> Outcome) {
    let Some(root) = variable("ROOT") else { return };
    let acknowledged: usize = variable("COUNT").unwrap().parse().unwrap();
    let lines = fs::read_to_string(variable("ACKED").unwrap()).unwrap();
    let line = |n: usize| lines.lines().nth(n).map(|line| serde_json::from_str(line).unwrap());
    let before = acknowledged.checked_sub(1).and_then(line);
    let promises = Promises { before, under_way: line(acknowledged) };
    let root = PathBuf::from(root).join("store");
    let left_out = variable("WITHOUT").is_some_and(|step| step == JUDGING);
    let left_out = left_out.then(|| arm(Fault::skip(Call::JudgeLogs, &root).forever()));
    let result = program(&promises, &root);
    drop(left_out);
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
        names_of(line, "state").collect()
    }

    /// In the middle of what another tool does nothing is promised of the files that it writes.
    fn foreign(&self) -> BTreeSet<String> {
        names_of(self.under_way.as_ref(), "foreign").collect()
    }

    /// Files of which nothing is promised, of now and of an earlier cut.
    fn except(&self) -> BTreeSet<String> {
        let lines = [self.before.as_ref(), self.under_way.as_ref()];
        lines.into_iter().flat_map(|line| names_of(line, "kept")).chain(self.foreign()).collect()
    }

    /// What a lease keeps whatever became of the operation that was under way.
    fn leased(&self) -> Vec<Digest> {
        let kept: BTreeSet<String> = names_of(self.under_way.as_ref(), "leased").collect();
        let digests = names_of(self.before.as_ref(), "leased");
        let digests = digests.filter(|digest| self.under_way.is_none() || kept.contains(digest));
        digests.map(|digest| digest.parse().unwrap()).collect()
    }

    fn kind(&self) -> &str {
        self.under_way.as_ref().map_or("", |line| line["kind"].as_str().unwrap())
    }

    /// What is there before anybody mends anything.
    fn look(&self, root: &Path) -> Outcome {
        let except = self.except();
        if root.exists() {
            names_are_hashes(root, &except).map_err(|why| format!("before the open: {why}"))?;
        }
        if self.before.is_some() && except.is_empty() {
            Plain::read(root).map_err(|why| format!("before the open: {why}"))?;
        }
        Ok(())
    }

    /// The state is the one before or the one after; damage of what another tool damaged is mended.
    fn state(&self, store: &Store) -> Outcome<State> {
        let (foreign, except) = (self.foreign(), self.except());
        let (found, hurt) =
            state_and_hurt(store).map_err(|error| format!("cannot be read: {}", chain(&error)))?;
        let (old, new) = (Self::state_of(self.before.as_ref()), Self::state_of(self.under_way.as_ref()));
        // Of what another tool was doing any part may be there, but nothing else may be touched.
        let partly = || {
            old.intersection(&new).all(|fact| found.contains(fact))
                && found.iter().all(|fact| old.contains(fact) || new.contains(fact))
        };
        // A collection goes group by group.
        let in_parts = !foreign.is_empty() || self.kind() == "collect";
        let in_crowd = || {
            let line = self.under_way.as_ref().filter(|line| line["kind"] == CROWD);
            line.is_some_and(|line| is_of_crowd(&found, &old, line))
        };
        let allowed = found == old
            || (self.under_way.is_some() && found == new)
            || (in_parts && partly())
            || in_crowd();
        if !allowed {
            return Err(difference(&old, &found));
        }
        if let Some((_, error)) =
            hurt.iter().find(|(digest, _)| !except.contains(&digest.encoded().to_string()))
        {
            return Err(format!("cannot be read: {}", chain(error)));
        }
        if !hurt.is_empty() {
            // Reading the bytes is how damage is found that a cut made nobody remember.
            self.verify(store, false)?;
            let source = store.root().with_file_name(SOURCE);
            mend(store, &source).map_err(|error| format!("cannot be repaired: {}", chain(&error)))?;
            let mended = state(store).map_err(|error| format!("is not repaired: {}", chain(&error)))?;
            if mended != found {
                return Err(format!("the repair changed: {}", difference(&found, &mended)));
            }
        }
        Ok(found)
    }

    fn verify(&self, store: &Store, sound: bool) -> Outcome {
        let report = store.verify().read_data(true).index(true).run();
        let report = report.map_err(|error| format!("cannot be verified: {}", chain(&error)))?;
        if sound && self.except().is_empty() && !report.is_sound() {
            return Err(format!("is not sound: {:?}", report.findings));
        }
        Ok(())
    }

    fn check(&self, root: &Path, rebuild: bool) -> Outcome {
        self.look(root)?;
        self.checkpoints(root)?;
        let except = self.except();
        let mut store = self.open(root)?;
        let mut found = self.state(&store)?;
        // Our own file is never taken for an edit, and nothing is damaged.
        // The disk of the check is another device than that of the workload, so the store counts as a copy.
        let mut reports = store.reports();
        reports.retain(|report| !matches!(report, Report::Copied { .. } | Report::Torn { .. }));
        if except.is_empty() && !reports.is_empty() {
            return Err(format!("the open reports {reports:?}"));
        }
        let rebuilt_before = |line: &Option<Value>| line.as_ref().is_some_and(|line| line["rebuilt"] == true);
        // An XFS has no id of its own but the device, so the store counts as a copy there, which begins a new feed.
        let anew =
            rebuilt_before(&self.before) || rebuilt_before(&self.under_way) || store.open_report().copied;
        events_agree(&store, !anew)?;
        limits_hold(&store)?;
        self.verify(&store, true)?;
        if rebuild {
            store.close().map_err(|error| format!("cannot be closed: {}", chain(&error)))?;
            store = rebuilt(root)?;
            let again = state(&store).map_err(|error| format!("cannot be read: {}", chain(&error)))?;
            // Sessions and leases do not come back.
            found.retain(|fact| !fact.contains(" upload ") && !fact.starts_with("lease "));
            if again != found {
                return Err(format!("the rebuild changed: {}", difference(&found, &again)));
            }
            limits_hold(&store)?;
        } else {
            leases_hold(&store, &self.leased())?;
        }
        push_again(&store, &found).map_err(|error| format!("cannot be written: {}", chain(&error)))?;
        found = state(&store).map_err(|error| format!("cannot be read again: {}", chain(&error)))?;
        limits_hold(&store)?;
        store.close().map_err(|error| format!("cannot be closed: {}", chain(&error)))?;
        names_are_hashes(root, &except)?;
        if except.is_empty() {
            return check_files(root, Some(&found), &except);
        }
        // An entry whose content did not reach the disk is refused, and kept as the other tool wrote it.
        Plain::read_except(root, &except).map(|_| ())
    }

    /// Those that were acknowledged are there, and whatever is there by its name is whole.
    fn checkpoints(&self, root: &Path) -> Outcome {
        for name in names_of(self.before.as_ref(), "checkpoints") {
            if !root.with_file_name(&name).exists() {
                return Err(format!("{name} is gone"));
            }
        }
        for entry in fs::read_dir(root.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with(CHECKPOINT) {
                continue;
            }
            let wrong = |error| format!("{}: {}", path.display(), chain(&error));
            let store = options().open(&path).map_err(wrong)?;
            let report = store.verify().index(true).read_data(true).run().map_err(wrong)?;
            if !report.is_sound() {
                return Err(format!("{}: {:?}", path.display(), report.findings));
            }
            let found = state(&store).map_err(wrong)?;
            store.close().map_err(wrong)?;
            check_files(&path, Some(&found), &BTreeSet::new())?;
        }
        Ok(())
    }

    /// Opens for writing, and finishes what the cut interrupted where that is a person's to do.
    fn open(&self, root: &Path) -> Outcome<Store> {
        match options().open(root) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.before.is_none() => {
                options().create(root).map_err(|error| format!("cannot be created: {}", chain(&error)))
            }
            Err(error)
                if error.kind() == ErrorKind::Corrupt && ["rebuild", "heal"].contains(&self.kind()) =>
            {
                rebuilt(root)
            }
            other => other.map_err(|error| format!("cannot be opened: {}", chain(&error))),
        }
    }

    /// The open after a cut, a rebuild, and a rebuild of metadata that are damaged.
    fn recover(&self, root: &Path) -> Outcome {
        let kept = self.except();
        let promise = |kind: &str, state: &State| {
            say(&json!({ "kind": kind, "state": state, "kept": kept, "rebuilt": true }));
        };
        writeln!(io::stdout()).unwrap();
        let store = self.open(root)?;
        let mut found = self.state(&store)?;
        promise("recovered", &found);
        // One commit each: between two promises there is nothing but what was before and what is after.
        push_new(&store, &found).map_err(|error| format!("cannot be written: {}", chain(&error)))?;
        found = state(&store).map_err(|error| format!("cannot be read again: {}", chain(&error)))?;
        promise("pushed", &found);
        finish_uploads(&store).map_err(|error| format!("cannot be uploaded: {}", chain(&error)))?;
        found = state(&store).map_err(|error| format!("cannot be read again: {}", chain(&error)))?;
        promise("uploaded", &found);
        limits_hold(&store)?;
        release(&store).map_err(|error| format!("leases cannot be released: {}", chain(&error)))?;
        found = state(&store).map_err(|error| format!("cannot be read again: {}", chain(&error)))?;
        promise("released", &found);
        store.close().map_err(|error| format!("cannot be closed: {}", chain(&error)))?;
        for kind in ["rebuild", "heal"] {
            let store = if kind == "heal" {
                fs::write(root.join(".orlop/metadata/CURRENT"), "garbage").unwrap();
                let healed = options().on_damage(OnDamage::Rebuild).open(root);
                healed.map_err(|error| format!("cannot be healed: {}", chain(&error)))?
            } else {
                rebuilt(root)?
            };
            let again = state(&store).map_err(|error| format!("cannot be read: {}", chain(&error)))?;
            if again != found {
                return Err(format!("the rebuild changed: {}", difference(&found, &again)));
            }
            promise(kind, &again);
            store.close().map_err(|error| format!("cannot be closed: {}", chain(&error)))?;
        }
        Ok(())
    }
}

fn names_of<'a>(line: Option<&'a Value>, key: &str) -> impl Iterator<Item = String> + use<'a> {
    let facts = line.and_then(|line| line[key].as_array()).into_iter().flatten();
    facts.map(|fact| fact.as_str().unwrap().to_owned())
}

fn rebuilt(root: &Path) -> Outcome<Store> {
    options().rebuild(root).map_err(|error| format!("cannot be rebuilt: {}", chain(&error)))?;
    options().open(root).map_err(|error| format!("cannot be opened: {}", chain(&error)))
}

/// Something new, something that is there already, and the rest of what was being uploaded.
fn push_again(store: &Store, found: &State) -> crate::error::Result<()> {
    push_new(store, found)?;
    finish_uploads(store)
}

fn push_new(store: &Store, found: &State) -> crate::error::Result<()> {
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
    batch.commit().map(drop)
}
