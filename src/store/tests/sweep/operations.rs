//! What is swept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::start::{SOURCE, edit};
use crate::blobs::{Expected, Sharing};
use crate::digest::Algorithm;
use crate::error::{Error, ErrorKind, Result};
use crate::store::tests::artifact::{Artifact, noise};
use crate::store::tests::state::{KEPT, state};
use crate::store::{
    EventLimits, Expect, Flaw, Options, Publish, Quota, Repository, Retention, Store, Upload, UploadOptions,
    VerifyReport,
};

/// What the directory is before the operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
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
    /// The same with a hole in the last record of the engine's list of files.
    TornList,
    /// A store that was closed after it met damage of its metadata.
    Met,
    /// A store that was closed, and then bits of its metadata changed that only reading meets.
    Rotten,
    /// A store that was closed, and then another tool changed its `index.json`.
    Edited,
    /// A store that was closed, and then the bytes of a content changed. Beside it is a layout that has them.
    Hurt,
    /// A store that was closed, with a manifest one of whose layers it does not have. Beside it is a layout that has it.
    Sparse,
    /// A store whose process was killed between the two phases of a collection.
    Condemned,
}

/// One operation and what may become of it.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) start: Start,
    /// Whether the store is open before the faults come.
    pub(super) open: bool,
    /// What is done in the open store before the faults come.
    pub(super) prepare: fn(&mut Session) -> Result<()>,
    pub(super) act: fn(&mut Session) -> Result<()>,
    /// It finishes what somebody else did, and may have done so when it fails.
    pub(super) either: bool,
    /// It answers when writes are refused, too.
    pub(super) reads: bool,
}

pub(super) struct Session {
    pub(super) root: PathBuf,
    pub(super) store: Option<Store>,
}

impl Session {
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn repository(&self) -> Repository {
        self.store().repository(&"r".parse().unwrap())
    }
}

pub(super) fn options() -> Options {
    Options::new().publish(Publish::Manual).events(EventLimits::default())
}

pub(super) fn closing() -> Options {
    Options::new().publish(Publish::OnClose).events(EventLimits::default())
}

const fn on_open(name: &'static str, act: fn(&mut Session) -> Result<()>) -> Operation {
    Operation {
        name,
        start: Start::Closed,
        open: true,
        prepare: |_| Ok(()),
        act,
        either: false,
        reads: false,
    }
}

const fn on_closed(name: &'static str, start: Start, act: fn(&mut Session) -> Result<()>) -> Operation {
    Operation { name, start, open: false, prepare: |_| Ok(()), act, either: true, reads: false }
}

pub(super) fn first() -> Artifact {
    Artifact::image("first", &[100, 40_000])
}

pub(super) fn second() -> Artifact {
    Artifact::image("second", &[50])
}

pub(super) fn foreign() -> Artifact {
    Artifact::image("foreign", &[70, 40_000])
}

/// Lacks its large layer where it is sparse.
pub(super) fn sparse() -> Artifact {
    Artifact::image("sparse", &[35_000, 130])
}

/// The content that is changed where a store is hurt.
pub(super) fn hurt() -> Vec<u8> {
    first().parts.swap_remove(1)
}

pub(super) fn push(session: &Session, sizes: &[usize], submit: bool) -> Result<()> {
    let here = session.repository();
    let mut batch = session.store().batch();
    let digest = Artifact::image("pushed", sizes).add(&mut batch, &here)?;
    batch.tag(&here, &"pushed".parse()?, digest, Expect::Any);
    batch.tag(&here, &"second".parse()?, digest, Expect::Any);
    if submit { batch.submit().wait().map(|_| ()) } else { batch.commit().map(|_| ()) }
}

const HOUR: Duration = Duration::from_secs(3600);

const QUOTA: Quota = Quota { objects: None, bytes: Some(1 << 20) };

/// Content of the session that is there from the beginning.
const SAVED: usize = 40_000;

/// A session with so many bytes saved, and some more.
pub(super) fn start_upload(repository: &Repository, size: usize) -> Result<()> {
    let mut upload = repository.start_upload(&UploadOptions::new())?;
    upload.append(0, noise("upload", size))?;
    upload.save()?;
    upload.append(size as u64, "not saved").map(|_| ())
}

pub(super) fn start_saved_upload(repository: &Repository) -> Result<()> {
    start_upload(repository, SAVED)
}

/// The session that has so many bytes.
fn upload(session: &Session, size: usize) -> Result<Upload> {
    session.store().core().check_writable()?;
    let found = session.store().uploads(None, 10)?.items;
    let id = found.iter().find(|upload| upload.offset == size as u64).unwrap().id;
    Ok(session.repository().upload(&id)?.unwrap())
}

/// Where a checkpoint of the store goes.
pub(super) fn copy_of(root: &Path) -> PathBuf {
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
pub(super) fn remove_second(session: &Session) -> Result<()> {
    let here = session.repository();
    here.push_bytes(noise("loose", 40_000))?;
    let mut batch = session.store().batch();
    batch.delete_manifest(&here, &second().digest());
    batch.commit().map(|_| ())
}

fn collect(session: &mut Session) -> Result<()> {
    loop {
        let report = session.store().collector().grace(Duration::ZERO).run()?;
        if let Some(found) = report.unreadable.first() {
            // It is kept, with all below it, until it can be read.
            return Err(Error::new(ErrorKind::Io, format!("a manifest cannot be read, {found:?}")));
        }
        if report.kept.not_due == 0 {
            return Ok(());
        }
        // What could not be read before is due in the next millisecond.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads everything, and answers an error when something could not be looked at.
fn verify(session: &Session, expected: fn(&VerifyReport) -> bool) -> Result<()> {
    let deep = session.store().verify().read_data(true).index(true).run()?;
    let quick = session.store().verify().run()?;
    let mut findings = deep.findings.iter().chain(&quick.findings);
    if let Some(finding) = findings.find(|finding| finding.flaw == Flaw::Unreadable) {
        return Err(Error::new(ErrorKind::Io, finding.to_string()));
    }
    assert!(expected(&deep) && deep.complete, "{deep:?}");
    // What is sound when it is read is not called damaged by a look at sizes.
    assert!(quick.is_sound() || !deep.is_sound(), "{quick:?}");
    Ok(())
}

/// What has its name already when the private one cannot be removed stays.
fn repair(session: &mut Session, sharing: Sharing) -> Result<()> {
    let source = closing().open_read_only(session.root.with_file_name(SOURCE))?;
    let report = session.store().repair_from(&source).sharing(sharing).run()?;
    assert_eq!(report.lacking, []);
    Ok(())
}

/// A policy that lets the older of two tags go.
fn last_tag() -> Retention {
    Retention { keep_last: Some(1), ..Retention::default() }
}

/// A file under the name of its content, which nobody knows.
pub(super) fn unknown_of(root: &Path) -> PathBuf {
    let digest = Algorithm::Sha256.digest(&noise("unknown", 3000)).to_string();
    root.join("blobs").join(digest.replace(':', "/"))
}

/// Where damage of the metadata that was met is put down.
pub(super) fn damage_of(root: &Path) -> PathBuf {
    root.join(".orlop/metadata/DAMAGE")
}

/// Meets damage of the metadata, and answers an error when that is not put down.
pub(super) fn meet(session: &mut Session) -> Result<()> {
    match session.repository().contents(None, 1000) {
        Err(error) if error.kind() == ErrorKind::Corrupt && !damage_of(&session.root).exists() => {
            Err(Error::new(ErrorKind::Io, "damage is not put down").with_source(error))
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
        Err(error) => Err(error),
        Ok(found) => panic!("{} rows were read from damage", found.items.len()),
    }
}

fn plain(session: &mut Session) -> Result<()> {
    let store = closing().open_plain(&session.root)?;
    session.store = Some(store.clone());
    push(session, &[60, 40_000], false)?;
    store.flush()?;
    session.store = None;
    store.close()
}

pub(super) const OPERATIONS: &[Operation] = &[
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
    on_open("quota", |session| session.repository().set_quota(&QUOTA)),
    Operation {
        prepare: |session| session.repository().set_quota(&QUOTA),
        ..on_open("no quota", |session| session.repository().set_quota(&Quota::default()))
    },
    on_open("quota of the store", |session| session.store().set_quota(&QUOTA)),
    on_open("retain", |session| session.repository().set_retention(Some(&last_tag()))),
    Operation {
        prepare: |session| session.repository().set_retention(Some(&last_tag())),
        ..on_open("retain all", |session| session.repository().set_retention(None))
    },
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
    Operation {
        prepare: |session| {
            let lease = session.store().lease(HOUR, KEPT)?;
            let options = UploadOptions::new().lease(lease.id());
            let mut upload = session.repository().start_upload(&options)?;
            upload.append(0, noise("leased", 35_000))?;
            upload.save().map(|_| ())
        },
        ..on_open("finish leased upload", |session| {
            upload(session, 35_000)?.finish(&Expected::default()).map(|_| ())
        })
    },
    on_open("cancel upload", |session| upload(session, SAVED)?.cancel()),
    Operation {
        // One that is journalled, and one that has a file.
        prepare: |session| {
            let mut batch = session.store().batch();
            for size in [90, 70_000] {
                batch.push_bytes(&session.repository(), noise("loose", size))?;
            }
            batch.commit().map(|_| ())
        },
        ..on_open("erase", |session| {
            let mut batch = session.store().batch();
            for size in [90, 70_000] {
                batch.delete_blob(&session.repository(), &Algorithm::Sha256.digest(&noise("loose", size)));
            }
            batch.commit().map(|_| ())
        })
    },
    Operation {
        reads: true,
        ..on_open("read", |session| {
            let found = state(session.store())?;
            assert!(found.len() > 8, "a reader was told less than there is: {found:?}");
            Ok(())
        })
    },
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
    Operation {
        prepare: |session| {
            session.repository().set_retention(Some(&last_tag()))?;
            session.store().flush()
        },
        either: true,
        ..on_open("collect tags", collect)
    },
    Operation {
        prepare: |session| {
            fs::write(unknown_of(&session.root), noise("unknown", 3000)).unwrap();
            Ok(())
        },
        either: true,
        ..on_open("remove unknown", |session| {
            session.store().remove_unknown(Duration::ZERO, false).map(|_| ())
        })
    },
    on_open("lease", |session| {
        let lease = session.store().lease(HOUR, "swept")?;
        lease.add(&[first().digest(), second().digest()])?;
        lease.renew(Duration::from_secs(7200))?;
        lease.release()
    }),
    Operation {
        prepare: |session| push(session, &[60, 40_000], false),
        reads: true,
        ..on_open("verify", |session| verify(session, |report| report.is_sound()))
    },
    Operation {
        start: Start::Hurt,
        either: true,
        reads: true,
        ..on_open("quarantine", |session| {
            verify(session, |report| {
                let found = report.findings.first().and_then(|finding| finding.digest);
                report.findings.len() == 1 && found == Some(Algorithm::Sha256.digest(&hurt()))
            })
        })
    },
    Operation {
        start: Start::Hurt,
        prepare: |session| session.store().verify().read_data(true).run().map(|_| ()),
        either: true,
        ..on_open("repair", |session| repair(session, Sharing::Link))
    },
    Operation { start: Start::Sparse, ..on_open("complete", |session| repair(session, Sharing::Never)) },
    Operation { start: Start::Rotten, either: true, reads: true, ..on_open("meet", meet) },
    on_closed("create", Start::Nothing, |session| closing().create(&session.root).and_then(Store::close)),
    on_closed("adopt", Start::Layout, |session| closing().create(&session.root).and_then(Store::close)),
    on_closed("open", Start::Closed, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("recover", Start::Crashed, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("bury", Start::Condemned, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("take in", Start::Edited, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("rebuild", Start::Crashed, |session| closing().rebuild(&session.root).map(|_| ())),
    on_closed("heal", Start::Damaged, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("rebuild damaged", Start::Damaged, |session| closing().rebuild(&session.root).map(|_| ())),
    on_closed("torn list", Start::TornList, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("torn", Start::Torn, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("met", Start::Met, |session| closing().open(&session.root).and_then(Store::close)),
    on_closed("read only", Start::Crashed, |session| {
        let found = state(&closing().open_read_only(&session.root)?)?;
        assert!(found.len() > 8, "a reader was told less than there is: {found:?}");
        Ok(())
    }),
    on_closed("plain", Start::Layout, plain),
    on_closed("plain new", Start::Nothing, plain),
];
