//! Every fault point of every operation: the call fails there, once or from there on for ever, or the process is killed.
//!
//! Whatever happens, nothing panics, success means success, an error leaves the old state (`Indeterminate`: the old or the
//! new one), the store opens again, every file is what it is called, nothing dangles, and the operation can be repeated.
//!
//! Every point is tried with `EIO`, once and for ever, and with one further error in turn; `ORLOP_SWEEP=full` tries all of
//! them both ways.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::{Value, json};

use super::artifact::{Artifact, noise};
use super::plain::{Plain, names_are_hashes};
use super::state::{State, check_files, difference, events_agree, state};
use crate::blobs::Expected;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    EventLimits, Expect, OnDamage, Options, Publish, Quota, Repository, Store, Upload, UploadOptions,
};
use crate::sys::fault::{Fault, arm};

/// What the directory is before the operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    /// There is none.
    Nothing,
    /// A layout that another tool wrote.
    Layout,
    /// A store that was closed.
    Closed,
    /// A store whose process was killed: with a journal, and an older `index.json`.
    Crashed,
    /// The same with metadata that cannot be read.
    Damaged,
    /// The same with a hole in the last record of the log, which nobody was promised.
    Torn,
    /// A store that was closed after it met damage of its metadata.
    Met,
    /// A store that was closed, and then another tool changed its `index.json`.
    Edited,
    /// A store whose process was killed between the two phases of a collection.
    Condemned,
}

/// One operation and what may become of it.
struct Operation {
    name: &'static str,
    start: Start,
    /// Whether the store is open before the faults come.
    open: bool,
    /// What is done in the open store before the faults come.
    prepare: fn(&mut Session) -> Result<()>,
    act: fn(&mut Session) -> Result<()>,
    /// It finishes what somebody else did, and may have done so when it fails.
    either: bool,
}

struct Session {
    root: PathBuf,
    store: Option<Store>,
}

impl Session {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn repository(&self) -> Repository {
        self.store().repository(&"r".parse().unwrap())
    }
}

fn options() -> Options {
    Options::new().publish(Publish::Manual).events(EventLimits::default())
}

fn closing() -> Options {
    Options::new().publish(Publish::OnClose).events(EventLimits::default())
}

const fn on_open(name: &'static str, act: fn(&mut Session) -> Result<()>) -> Operation {
    Operation { name, start: Start::Closed, open: true, prepare: |_| Ok(()), act, either: false }
}

const fn on_closed(name: &'static str, start: Start, act: fn(&mut Session) -> Result<()>) -> Operation {
    Operation { name, start, open: false, prepare: |_| Ok(()), act, either: true }
}

fn first() -> Artifact {
    Artifact::image("first", &[100, 40_000])
}

fn second() -> Artifact {
    Artifact::image("second", &[50])
}

fn foreign() -> Artifact {
    Artifact::image("foreign", &[70, 40_000])
}

fn push(session: &Session, sizes: &[usize], submit: bool) -> Result<()> {
    let here = session.repository();
    let mut batch = session.store().batch();
    let digest = Artifact::image("pushed", sizes).add(&mut batch, &here)?;
    batch.tag(&here, &"pushed".parse()?, digest, Expect::Any);
    batch.tag(&here, &"second".parse()?, digest, Expect::Any);
    if submit { batch.submit().wait().map(|_| ()) } else { batch.commit().map(|_| ()) }
}

/// Content of the session that is there from the beginning.
const SAVED: usize = 40_000;

fn start_upload(repository: &Repository, size: usize) -> Result<()> {
    let mut upload = repository.start_upload(&UploadOptions::new())?;
    upload.append(0, noise("upload", size))?;
    upload.save()?;
    upload.append(size as u64, "not saved").map(|_| ())
}

/// The session that has so many bytes.
fn upload(session: &Session, size: usize) -> Result<Upload> {
    session.store().core().check_writable()?;
    let found = session.store().uploads(None, 10)?.items;
    let id = found.iter().find(|upload| upload.offset == size as u64).unwrap().id;
    Ok(session.repository().upload(&id)?.unwrap())
}

const OPERATIONS: &[Operation] = &[
    on_open("one", |session| session.repository().push_bytes(noise("one", 900)).map(|_| ())),
    on_open("large", |session| session.repository().push_bytes(noise("large", 90_000)).map(|_| ())),
    on_open("batch", |session| push(session, &[80, 33_000, 60_000], false)),
    on_open("many", |session| push(session, &[33_000; 6], false)),
    on_open("submit", |session| push(session, &[500, 34_000], true)),
    on_open("attach", |session| {
        let mut batch = session.store().batch();
        Artifact::attached("statement", &first()).add(&mut batch, &session.repository())?;
        batch.commit().map(|_| ())
    }),
    on_open("tag", |session| {
        session.repository().tag(&"second".parse()?, &first().digest(), Expect::Any).map(|_| ())
    }),
    on_open("untag", |session| session.repository().untag(&"second".parse()?, Expect::Any).map(|_| ())),
    on_open("remove", |session| {
        let mut batch = session.store().batch();
        batch.delete_manifest(&session.repository(), &second().digest());
        batch.commit().map(|_| ())
    }),
    on_open("quota", |session| {
        session.repository().set_quota(&Quota { objects: None, bytes: Some(1 << 20) })
    }),
    on_open("delete", |session| session.store().delete_repository(&"r".parse()?).map(|_| ())),
    on_open("start upload", |session| {
        session.repository().start_upload(&UploadOptions::new().size(9)).map(|_| ())
    }),
    on_open("save upload", |session| {
        let mut upload = upload(session, SAVED)?;
        upload.append(SAVED as u64, noise("more", 30_000))?;
        upload.save().map(|_| ())
    }),
    on_open("finish upload", |session| {
        let mut upload = upload(session, SAVED)?;
        upload.append(SAVED as u64, noise("more", 30_000))?;
        upload.finish(&Expected::default()).map(|_| ())
    }),
    Operation {
        prepare: |session| start_upload(&session.repository(), 700),
        ..on_open("finish small upload", |session| {
            upload(session, 700)?.finish(&Expected::default()).map(|_| ())
        })
    },
    on_open("cancel upload", |session| upload(session, SAVED)?.cancel()),
    on_open("read", |session| {
        let found = state(session.store())?;
        assert!(found.len() > 8, "a reader was told less than there is: {found:?}");
        Ok(())
    }),
    Operation {
        prepare: |session| push(session, &[60; 7], false),
        ..on_open("file", |session| session.store().core().file_journal())
    },
    Operation {
        prepare: |session| push(session, &[60, 40_000], false),
        ..on_open("publish", |session| session.store().flush())
    },
    Operation {
        prepare: |session| {
            push(session, &[60, 40_000], false)?;
            edit(&session.root);
            Ok(())
        },
        either: true,
        ..on_open("merge", |session| session.store().flush())
    },
    Operation {
        prepare: |session| push(session, &[60, 40_000], false),
        ..on_open("checkpoint", |session| checkpoint(session, false))
    },
    on_open("checkpoint by copies", |session| checkpoint(session, true)),
    Operation {
        prepare: |session| {
            session.store = None;
            session.store = Some(closing().open(&session.root)?);
            push(session, &[60, 40_000], false)
        },
        ..on_open("close", |session| session.store.take().map_or(Ok(()), Store::close))
    },
    Operation {
        prepare: |session| {
            remove_second(session)?;
            session.store().flush()
        },
        either: true,
        ..on_open("collect", collect)
    },
    Operation {
        prepare: |session| {
            session.store = None;
            session.store = Some(closing().open(&session.root)?);
            remove_second(session)
        },
        either: true,
        ..on_open("collect and publish", collect)
    },
    on_open("lease", |session| {
        let lease = session.store().lease(Duration::from_secs(3600), "swept")?;
        lease.add(&[first().digest(), second().digest()])?;
        lease.renew(Duration::from_secs(7200))?;
        lease.release()
    }),
    on_closed("create", Start::Nothing, |session| closing().create(&session.root).and_then(Store::close)),
    on_closed("adopt", Start::Layout, |session| closing().create(&session.root).and_then(Store::close)),
    on_closed("open", Start::Closed, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("recover", Start::Crashed, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("bury", Start::Condemned, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("take in", Start::Edited, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("rebuild", Start::Crashed, |session| closing().rebuild(&session.root).map(|_| ())),
    on_closed("heal", Start::Damaged, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("torn", Start::Torn, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("met", Start::Met, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("read only", Start::Crashed, |session| {
        let found = state(&closing().open_read_only(&session.root)?)?;
        assert!(found.len() > 8, "a reader was told less than there is: {found:?}");
        Ok(())
    }),
    on_closed("plain", Start::Layout, |session| {
        let store = closing().open_plain(&session.root)?;
        session.store = Some(store.clone());
        push(session, &[60, 40_000], false)?;
        store.flush()?;
        session.store = None;
        store.close()
    }),
];

/// Where a checkpoint of the store goes.
fn copy_of(root: &Path) -> PathBuf {
    root.with_file_name("copy")
}

fn checkpoint(session: &Session, copy: bool) -> Result<()> {
    let place = copy_of(&session.root);
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    session.store().checkpointer().copy(copy).run(place).map(|_| ())
}

/// Leaves a manifest's content to a collection, and a blob that nothing refers to.
fn remove_second(session: &Session) -> Result<()> {
    let here = session.repository();
    here.push_bytes(noise("loose", 40_000))?;
    let mut batch = session.store().batch();
    batch.delete_manifest(&here, &second().digest());
    batch.commit().map(|_| ())
}

fn collect(session: &mut Session) -> Result<()> {
    session.store().collector().grace(Duration::ZERO).run().map(|_| ())
}

/// What another tool does to `index.json`.
fn edit(root: &Path) {
    put_foreign(root);
    let index = root.join("index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    document["manifests"].as_array_mut().unwrap().push(foreign().entry("foreign"));
    fs::write(&index, document.to_string()).unwrap();
}

fn put_foreign(root: &Path) {
    let image = foreign();
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    for part in image.parts.iter().chain([&image.bytes]) {
        let digest = crate::digest::Algorithm::Sha256.digest(part).to_string();
        fs::write(root.join("blobs").join(digest.replace(':', "/")), part).unwrap();
    }
}

/// The files of a directory, kept in memory, so that each case begins with the same ones.
struct Template(Vec<(PathBuf, u32, Option<Vec<u8>>)>);

impl Template {
    /// Of a store that is open, the engine may remove a file between the look at a directory and the reading.
    fn take(root: &Path) -> Self {
        for _ in 0..100 {
            match Self::try_take(root) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                taken => return taken.unwrap(),
            }
        }
        panic!("files vanish all the time, path={}", root.display());
    }

    fn try_take(root: &Path) -> std::io::Result<Self> {
        let mut entries = Vec::new();
        let mut waiting = vec![root.to_path_buf()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let meta = fs::symlink_metadata(&path)?;
                let content = if meta.is_file() { Some(fs::read(&path)?) } else { None };
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                entries.push((name, meta.permissions().mode(), content));
                if meta.is_dir() {
                    waiting.push(path);
                }
            }
        }
        Ok(Self(entries))
    }

    /// The directory itself stays the same one, or the store would count as a copy.
    fn put(&self, root: &Path) {
        if root.exists() {
            for entry in fs::read_dir(root).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
        }
        for (path, mode, content) in &self.0 {
            let path = root.join(path);
            match content {
                None => fs::create_dir(&path).unwrap(),
                Some(content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
    }

    /// The newest log of the metadata.
    fn log(&mut self) -> &mut Vec<u8> {
        let logs = self.0.iter_mut().filter(|(path, ..)| path.extension().is_some_and(|end| end == "log"));
        logs.max_by(|one, other| one.0.cmp(&other.0)).unwrap().2.as_mut().unwrap()
    }

    fn of(start: Start, root: &Path) -> Self {
        if start == Start::Nothing {
            return Self(Vec::new());
        }
        fs::create_dir(root).unwrap();
        if start == Start::Layout {
            put_foreign(root);
            let index = json!({ "schemaVersion": 2, "manifests": [foreign().entry("foreign")] });
            fs::write(root.join("index.json"), index.to_string()).unwrap();
            fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
            return Self::take(root);
        }
        let store = closing().create(root).unwrap();
        let here = store.repository(&"r".parse().unwrap());
        for (tag, image) in [("first", first()), ("second", second())] {
            let mut batch = store.batch();
            let digest = image.add(&mut batch, &here).unwrap();
            batch.tag(&here, &tag.parse().unwrap(), digest, Expect::Any);
            batch.commit().unwrap();
        }
        start_upload(&here, SAVED).unwrap();
        if matches!(start, Start::Crashed | Start::Damaged | Start::Torn) {
            store.flush().unwrap();
            let session = Session { root: root.to_path_buf(), store: Some(store) };
            push(&session, &[60, 40_000], false).unwrap();
            if start == Start::Damaged {
                fs::write(root.join(".orlop/metadata/CURRENT"), "garbage").unwrap();
            }
            if start == Start::Torn {
                let begin = Self::take(root).log().len();
                push(&session, &[30_000; 5], false).unwrap();
                let mut template = Self::take(root);
                let hole = begin.next_multiple_of(4096) + 40_960;
                assert!(hole + 8192 < template.log().len());
                template.log()[hole..hole + 4096].fill(0);
                return template;
            }
            return Self::take(root);
        }
        if start == Start::Condemned {
            drop((here, store));
            let session = Session { root: root.to_path_buf(), store: Some(options().open(root).unwrap()) };
            remove_second(&session).unwrap();
            let report = session.store().collector().grace(Duration::ZERO).run().unwrap();
            assert!(report.waiting > 3, "{report:?}");
            return Self::take(root);
        }
        store.close().unwrap();
        if start == Start::Met {
            fs::write(root.join(".orlop/metadata/DAMAGE"), "a table").unwrap();
        }
        if start == Start::Edited {
            edit(root);
        }
        Self::take(root)
    }
}

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
            if path != self.root {
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
        check_files(&place, Some(&found)).map_err(|why| format!("the checkpoint: {why}"))?;
        let Some(after) = &self.after else { return Ok(()) };
        // Nobody uploads into a copy.
        let after: State = after.iter().filter(|fact| !fact.contains(" upload ")).cloned().collect();
        if found == after { Ok(()) } else { Err(format!("the checkpoint: {}", difference(&after, &found))) }
    }

    fn is_plain(&self) -> bool {
        self.operation.name == "plain"
    }

    /// Checks the files and answers what a store shows that is opened now; nothing when there is none yet.
    fn look(&self) -> std::result::Result<Option<State>, String> {
        let root = &self.root;
        if !root.exists() {
            return Ok(None);
        }
        names_are_hashes(root, &std::collections::BTreeSet::new())?;
        if root.join("index.json").exists() {
            let plain = Plain::read(root)?;
            if self.is_plain() {
                return Ok(Some(
                    plain.names.iter().map(|(name, digest)| format!("{name} {digest}")).collect(),
                ));
            }
        }
        let heals = matches!(self.operation.start, Start::Damaged | Start::Met);
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
        let found = state(&store).map_err(|error| format!("cannot be read: {error}"))?;
        // Metadata that were made anew begin a new feed.
        events_agree(&store, !["rebuild", "heal", "met"].contains(&self.operation.name))?;
        if ["collect", "bury", "lease"].iter().any(|name| self.operation.name.starts_with(name)) {
            store.flush().map_err(|error| format!("cannot be flushed: {error}"))?;
            let report = store.verify().index(true).run().map_err(|error| error.to_string())?;
            if !report.findings.is_empty() {
                return Err(format!("garbage is forgotten: {:?}", report.findings));
            }
        }
        store.close().map_err(|error| format!("cannot be closed: {error}"))?;
        check_files(root, Some(&found))?;
        Ok(Some(found))
    }

    /// What is found after the operation ended with `result`, or never came to its end.
    fn judge(&self, result: Option<&Result<()>>) -> std::result::Result<(), String> {
        let found = self.look()?;
        self.look_at_copy(result)?;
        let (old, new) = (found == self.before, found == self.after);
        let fits = match result {
            Some(Ok(())) => new,
            Some(Err(error)) if error.kind() != ErrorKind::Indeterminate && !self.operation.either => old,
            _ => old || new,
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
            Ok(()) if !refused || self.operation.name == "read" => Ok(()),
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
    delete "delete"
    begin_upload "start upload"
    save_upload "save upload"
    finish_upload "finish upload"
    finish_small_upload "finish small upload"
    cancel_upload "cancel upload"
    read "read"
    file "file"
    publish "publish"
    merge "merge"
    checkpoint_by_links "checkpoint"
    checkpoint_by_copies "checkpoint by copies"
    close "close"
    collect_alone "collect"
    collect_and_publish "collect and publish"
    lease "lease"
    create "create"
    adopt "adopt"
    open "open"
    recover "recover"
    bury "bury"
    take_in "take in"
    rebuild "rebuild"
    heal "heal"
    torn "torn"
    met "met"
    read_only "read only"
    plain "plain"
}
