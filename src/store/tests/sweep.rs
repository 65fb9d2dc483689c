//! Every fault point of every operation: the call fails there, once or from there on for ever, or the process is killed.
//!
//! Whatever happens, nothing panics, success means success, an error leaves the old state (`Indeterminate`: the old or the
//! new one), the store opens again, every file is what it is called, nothing dangles, and the operation can be repeated.
//!
//! Every point is tried with `EIO`, once and for ever, and with one further error in turn; `ORLOP_SWEEP=full` tries all of
//! them both ways.

mod operations;
mod start;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;

use self::operations::{
    OPERATIONS, Operation, Session, Start, closing, copy_of, damage_of, hurt, meet, options, sparse,
    unknown_of,
};
use self::start::{SOURCE, Template};
use super::plain::{Plain, names_are_hashes};
use super::state::{State, check_files, difference, events_agree, state, state_and_hurt};
use crate::digest::Algorithm;
use crate::error::{Error, ErrorKind, Result};
use crate::store::OnDamage;
use crate::sys::fault::{Fault, arm};

/// One operation with the place that it happens in.
struct Sweep {
    operation: &'static Operation,
    root: PathBuf,
    template: Template,
    before: Option<State>,
    after: Option<State>,
    _place: tempfile::TempDir,
}

impl Sweep {
    fn new(operation: &'static Operation) -> Self {
        // Memory where there is some: what the disk makes of it is the matter of the power cuts.
        let in_memory = tempfile::Builder::new().prefix("orlop-sweep-").tempdir_in("/dev/shm");
        let place = in_memory.unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let root = place.path().join("store");
        let template = Template::of(operation.start, &root);
        let mut sweep = Self { operation, root, template, before: None, after: None, _place: place };
        let session = sweep.begin();
        drop(session);
        sweep.before = sweep.look().unwrap();
        let mut session = sweep.begin();
        (operation.act)(&mut session).unwrap();
        drop(session);
        sweep.after = sweep.look().unwrap();
        sweep
    }

    fn begin(&self) -> Session {
        self.template.put(&self.root);
        self.clear_beside();
        let mut session = Session { root: self.root.clone(), store: None };
        if self.operation.open {
            session.store = Some(options().open(&self.root).unwrap());
            (self.operation.prepare)(&mut session).unwrap();
        }
        session
    }

    /// What an earlier case left beside the store.
    fn clear_beside(&self) {
        for entry in fs::read_dir(self.root.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path != self.root && !path.ends_with(SOURCE) {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }

    /// Below which faults come.
    fn scope(&self) -> &Path {
        scope(self.operation, &self.root)
    }

    /// A checkpoint is there whole or not at all, and is there after success.
    fn look_at_copy(&self, result: Option<&Result<()>>) -> std::result::Result<(), String> {
        let place = copy_of(&self.root);
        if !place.exists() {
            return if matches!(result, Some(Ok(()))) && self.operation.name.starts_with("checkpoint") {
                Err("there is no checkpoint".into())
            } else {
                Ok(())
            };
        }
        let wrong = |error: Error| format!("the checkpoint: {error}");
        let store = closing().on_damage(OnDamage::Refuse).open(&place).map_err(wrong)?;
        let report = store.verify().index(true).read_data(true).run().map_err(wrong)?;
        if !report.is_sound() || store.open_report().copied || !store.open_report().clean {
            return Err(format!("the checkpoint is not sound: {report:?} {:?}", store.open_report()));
        }
        let found = state(&store).map_err(wrong)?;
        store.close().map_err(wrong)?;
        check_files(&place, Some(&found), &BTreeSet::new())
            .map_err(|why| format!("the checkpoint: {why}"))?;
        let Some(after) = &self.after else { return Ok(()) };
        // Nobody uploads into a copy.
        let after: State = after.iter().filter(|fact| !fact.contains(" upload ")).cloned().collect();
        if found == after { Ok(()) } else { Err(format!("the checkpoint: {}", difference(&after, &found))) }
    }

    fn is_plain(&self) -> bool {
        self.operation.name.starts_with("plain")
    }

    /// Checks the files and answers what a store shows that is opened now; nothing when there is none yet.
    fn look(&self) -> std::result::Result<Option<State>, String> {
        let root = &self.root;
        if !root.exists() {
            return Ok(None);
        }
        let hurt = self.hurt();
        names_are_hashes(root, &hurt)?;
        if root.join("index.json").exists() {
            let plain = Plain::read_except(root, &hurt)?;
            if self.is_plain() {
                let names: State =
                    plain.names.iter().map(|(name, digest)| format!("{name} {digest}")).collect();
                // One that was made and has nothing in it is as good as none.
                return Ok(Some(names).filter(|names| !names.is_empty()));
            }
        }
        self.meet()?;
        let heals = matches!(self.operation.start, Start::Damaged | Start::Met | Start::Rotten);
        let on_damage = if heals { OnDamage::Rebuild } else { OnDamage::Refuse };
        let opened = match closing().on_damage(on_damage).open(root) {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.operation.name == "rebuild" => {
                closing().rebuild(root).map_err(|error| format!("cannot be rebuilt: {error}"))?;
                closing().open(root)
            }
            other => other,
        };
        let store = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| format!("cannot be opened: {error}"))?,
        };
        let (mut found, damage) =
            state_and_hurt(&store).map_err(|error| format!("cannot be read: {error}"))?;
        if let Some(error) = damage.iter().find(|(digest, _)| !hurt.contains(&digest.encoded().to_string())) {
            return Err(format!("cannot be read: {error:?}"));
        }
        // Metadata that were made anew begin a new feed.
        let anew = ["rebuild", "heal", "meet", "met", "rebuild damaged"].contains(&self.operation.name);
        events_agree(&store, !anew)?;
        if ["collect", "bury", "lease"].iter().any(|name| self.operation.name.starts_with(name)) {
            store.flush().map_err(|error| format!("cannot be flushed: {error}"))?;
            let report = store.verify().index(true).run().map_err(|error| error.to_string())?;
            if !report.findings.is_empty() {
                return Err(format!("garbage is forgotten: {:?}", report.findings));
            }
        }
        store.close().map_err(|error| format!("cannot be closed: {error}"))?;
        check_files(root, Some(&found), &hurt)?;
        found.extend(damage.keys().map(|digest| format!("- hurt {digest}")));
        if unknown_of(root).exists() {
            found.insert("- unknown".to_owned());
        }
        for entry in fs::read_dir(root.join(".orlop/quarantine")).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if let Some((digest, _)) = name.rsplit_once('-').filter(|(name, _)| name.starts_with("sha256")) {
                found.insert(format!("- quarantined {digest}"));
            }
        }
        Ok(Some(found))
    }

    /// Damage that waits in the metadata is met, and put down for the next open to heal, even if that failed before.
    fn meet(&self) -> std::result::Result<(), String> {
        if self.operation.start != Start::Rotten || damage_of(&self.root).exists() {
            return Ok(());
        }
        let store = options().open(&self.root).map_err(|error| format!("cannot be opened: {error}"))?;
        let mut session = Session { root: self.root.clone(), store: Some(store) };
        meet(&mut session).map_err(|error| format!("cannot be met: {error}"))
    }

    /// Names of content that may be missing, or of other bytes.
    fn hurt(&self) -> BTreeSet<String> {
        let bytes = match self.operation.start {
            Start::Hurt => hurt(),
            Start::Sparse => sparse().parts.swap_remove(0),
            _ => return BTreeSet::new(),
        };
        BTreeSet::from([Algorithm::Sha256.digest(&bytes).encoded().to_string()])
    }

    /// A collection takes one thing after the other, and nothing that its end has.
    fn is_between(&self, found: Option<&State>) -> bool {
        let (Some(before), Some(after), Some(found)) = (&self.before, &self.after, found) else {
            return false;
        };
        self.operation.name.starts_with("collect") && after.is_subset(found) && found.is_subset(before)
    }

    /// What is found after the operation ended with `result`, or never came to its end.
    fn judge(&self, result: Option<&Result<()>>) -> std::result::Result<(), String> {
        let found = self.look()?;
        self.look_at_copy(result)?;
        let (old, new) = (found == self.before, found == self.after);
        let fits = match result {
            Some(Ok(())) => new,
            Some(Err(error)) if error.kind() != ErrorKind::Indeterminate && !self.operation.either => old,
            _ => old || new || self.is_between(found.as_ref()),
        };
        if !fits {
            let empty = State::new();
            let expected = if old { &self.after } else { &self.before };
            let differs = difference(expected.as_ref().unwrap_or(&empty), found.as_ref().unwrap_or(&empty));
            return Err(format!("the state does not fit the answer: {differs}"));
        }
        if new {
            return Ok(());
        }
        let mut session = Session { root: self.root.clone(), store: None };
        if self.operation.open {
            session.store = Some(options().open(&self.root).map_err(|error| error.to_string())?);
        }
        (self.operation.act)(&mut session).map_err(|error| format!("cannot be repeated: {error}"))?;
        drop(session);
        if self.look()? == self.after { Ok(()) } else { Err("the repetition has another result".into()) }
    }

    /// In the same process, when the error was no failed sync: nothing has changed, and it can be tried again.
    fn try_again(&self, session: &mut Session, error: &Error) -> std::result::Result<(), String> {
        let refused = error.kind() == ErrorKind::Indeterminate;
        let again = (self.operation.act)(session);
        match again {
            Ok(()) if !refused || self.operation.reads => Ok(()),
            Err(error) if refused && error.kind() == ErrorKind::Poisoned => Ok(()),
            other => Err(format!("after {error:?} the second try answers {other:?}")),
        }
    }

    fn fail(&self, nth: usize, errno: Errno, forever: bool) -> usize {
        let mut session = self.begin();
        let mut fault = Fault::any(self.scope(), errno).nth(nth);
        if forever {
            fault = fault.forever();
        }
        if errno == Errno::NOSPC {
            fault = fault.short_writes();
        }
        let armed = arm(fault);
        let result = (self.operation.act)(&mut session);
        let fired = armed.fired();
        let mut outcome = Ok(());
        let mut last = result;
        if forever {
            drop(session);
            drop(armed);
        } else {
            drop(armed);
            if let (Err(error), true, 1) = (&last, session.store.is_some() && self.operation.open, nth % 2) {
                outcome = self.try_again(&mut session, error);
                if error.kind() != ErrorKind::Indeterminate {
                    last = Ok(());
                }
            }
            drop(session);
        }
        let outcome = outcome.and_then(|()| self.judge(Some(&last)));
        if let Err(why) = outcome {
            let how = if forever { "for ever" } else { "once" };
            panic!("{}: point {nth}, {errno:?} {how}, answer {last:?}: {why}", self.operation.name);
        }
        fired
    }

    /// A process of its own is killed at a point.
    fn die(&self, nth: usize) {
        self.template.put(&self.root);
        self.clear_beside();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "store::tests::sweep::a_process_that_is_killed_at_a_point"])
            .env("ORLOP_SWEEP_ROOT", &self.root)
            .env("ORLOP_SWEEP_OPERATION", self.operation.name)
            .env("ORLOP_SWEEP_POINT", nth.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{}: point {nth} was not reached", self.operation.name);
        if let Err(why) = self.judge(None) {
            panic!("{}: killed at point {nth}: {why}", self.operation.name);
        }
    }
}

#[test]
#[ignore = "the child of the sweep"]
fn a_process_that_is_killed_at_a_point() {
    let Some(root) = std::env::var_os("ORLOP_SWEEP_ROOT") else { return };
    let variable = |name: &str| std::env::var(format!("ORLOP_SWEEP_{name}")).unwrap();
    let operation = OPERATIONS.iter().find(|known| known.name == variable("OPERATION")).unwrap();
    let mut session = Session { root: root.into(), store: None };
    if operation.open {
        session.store = Some(options().open(&session.root).unwrap());
        (operation.prepare)(&mut session).unwrap();
    }
    let _armed = arm(Fault::exit(scope(operation, &session.root)).nth(variable("POINT").parse().unwrap()));
    (operation.act)(&mut session).unwrap();
}

/// A checkpoint also works beside the store.
fn scope<'a>(operation: &Operation, root: &'a Path) -> &'a Path {
    if operation.name.starts_with("checkpoint") { root.parent().unwrap() } else { root }
}

/// Kills of a process for each operation.
const KILLS: usize = 4;

fn sweep(name: &str) {
    let full = std::env::var("ORLOP_SWEEP").is_ok_and(|value| value == "full");
    let operation = OPERATIONS.iter().find(|known| known.name == name).unwrap();
    let sweep = Sweep::new(operation);
    let mut session = sweep.begin();
    let armed = arm(Fault::any(sweep.scope(), Errno::IO).nth(usize::MAX));
    (operation.act)(&mut session).unwrap();
    let points = armed.seen();
    drop((session, armed));
    assert!(points > 0, "{name} passes no fault point");
    let others = [Errno::NOSPC, Errno::MFILE, Errno::ACCESS, Errno::INTR];
    let (mut cases, mut fired) = (0, 0);
    for nth in 1..=points {
        let turn = &others[nth % others.len()..=nth % others.len()];
        for errno in std::iter::once(&Errno::IO).chain(if full { &others[..] } else { turn }) {
            for forever in [false, true] {
                if forever && !full && *errno != Errno::IO {
                    continue;
                }
                cases += 1;
                fired += usize::from(sweep.fail(nth, *errno, forever) > 0);
            }
        }
    }
    assert!(fired * 20 >= cases * 19, "{name}: of {cases} faults only {fired} came to pass");
    let step = if full { 1 } else { points.div_ceil(KILLS) };
    for nth in (1..=points).step_by(step) {
        sweep.die(nth);
    }
}

macro_rules! sweeps {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { sweep($name) })*

        #[test]
        fn every_operation_is_swept() {
            let swept = [$($name),*];
            assert_eq!(OPERATIONS.iter().map(|operation| operation.name).collect::<Vec<_>>(), swept);
        }
    };
}

sweeps! {
    one "one"
    large "large"
    batch "batch"
    many "many"
    submit "submit"
    attach "attach"
    tag "tag"
    untag "untag"
    remove "remove"
    quota "quota"
    no_quota "no quota"
    quota_of_the_store "quota of the store"
    retain "retain"
    retain_all "retain all"
    delete "delete"
    begin_upload "start upload"
    save_upload "save upload"
    finish_upload "finish upload"
    finish_small_upload "finish small upload"
    finish_leased_upload "finish leased upload"
    cancel_upload "cancel upload"
    erase "erase"
    read "read"
    file "file"
    publish "publish"
    merge "merge"
    checkpoint_by_links "checkpoint"
    checkpoint_by_copies "checkpoint by copies"
    close "close"
    collect_alone "collect"
    collect_and_publish "collect and publish"
    collect_tags "collect tags"
    remove_unknown "remove unknown"
    lease "lease"
    verify "verify"
    quarantine "quarantine"
    repair "repair"
    complete "complete"
    meet_damage "meet"
    create "create"
    adopt "adopt"
    open "open"
    recover "recover"
    bury "bury"
    take_in "take in"
    rebuild "rebuild"
    heal "heal"
    rebuild_damaged "rebuild damaged"
    torn_list "torn list"
    torn "torn"
    met "met"
    read_only "read only"
    plain "plain"
    plain_new "plain new"
}
