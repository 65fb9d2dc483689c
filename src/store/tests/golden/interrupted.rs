//! A store of format 1 whose process ended in the middle: of a publish, whose file has its name already, and of the deletion of a
//! repository; with upload sessions behind which the states of all hashes stand.

use std::collections::BTreeSet;
use std::fs;

use orlop::{Algorithm, Digest, ErrorKind, Expect, Expected, OnDamage, Store};
use rustix::io::Errno;
use serde_json::Value;

use super::super::support::*;
use super::make::{self, text};
use super::{findings, lines, moved, options, placed, reports, told};
use crate::metadata::fact;
use crate::sys::fault::{Call, Fault, arm};

/// Its name among the fixtures.
pub(super) const INTERRUPTED: &str = "interrupted";

/// The sessions: what they hash with, what they have, and what it will be.
const SESSIONS: [(&[Algorithm], usize, usize); 3] = [
    (&[Algorithm::Sha256], 37_001, 60_000),
    (&[Algorithm::Sha256, Algorithm::Sha512], 41_063, 50_000),
    (&[Algorithm::Blake3, Algorithm::Sha512], 40_127, 45_000),
];

/// Makes it, and ends with a store that is not closed.
pub(super) fn store(dir: &Scratch) -> Store {
    let store = make::options().create(dir.root()).unwrap();
    let (app, doomed) = (repo(&store, "team/app"), repo(&store, "doomed"));
    let (first, second) = (image("first", 2), image("second", 3));
    first.push(&app, &["v1"]);
    second.push(&app, &[]);
    first.push(&doomed, &["shared"]);
    for seed in ["one", "two"] {
        image(seed, 2).push(&doomed, &[seed]);
    }
    referrer(&first, "application/vnd.example.sbom", "doomed").push(&doomed, &[]);
    store.flush().unwrap();
    for (n, (algorithms, saved, size)) in SESSIONS.into_iter().enumerate() {
        let options = algorithms.iter().fold(make::lasting_upload(), |options, one| options.algorithm(*one));
        let mut upload = app.start_upload(&options.size(size as u64)).unwrap();
        upload.append(0, &text(n, size)[..saved]).unwrap();
        upload.save().unwrap();
    }
    // The deletion is durable, and finds no room for more.
    let full = arm(Fault::new(Call::Space, &dir.root(), Errno::NOSPC).nth(3).forever());
    assert!(store.delete_repository(doomed.name()).unwrap());
    assert!(full.fired() > 0);
    drop(full);
    assert_eq!(half_deleted(&store), 1);
    app.tag(&tag("v2"), &second.digest(), Expect::Absent).unwrap();
    app.untag(&tag("v1"), Expect::Any).unwrap();
    // The new file has its name, and nobody learns whether that is durable.
    let failing = arm(Fault::new(Call::SyncDir, &dir.root(), Errno::IO).forever());
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Indeterminate);
    assert!(failing.fired() > 0);
    assert_eq!(Layout::read(&dir.root()).names().keys().collect::<Vec<_>>(), ["team/app:v2"]);
    store
}

fn is_publishing(store: &Store) -> bool {
    store.core().metadata.view().fingerprint(fact::PENDING).unwrap().is_some()
}

fn half_deleted(store: &Store) -> usize {
    let mut found = 0;
    store
        .core()
        .metadata
        .view()
        .deleted(|_| {
            found += 1;
            Ok(crate::store::until(false))
        })
        .unwrap();
    found
}

/// The rows of the deleted repository still count until they are gone.
fn but_usage(lines: BTreeSet<String>) -> BTreeSet<String> {
    lines.into_iter().filter(|line| !line.contains("usage [")).collect()
}

#[test]
fn an_interrupted_store_of_format_1_is_finished() {
    let dir = placed(INTERRUPTED);
    let before = tree(&dir.root());
    let view = options().open_read_only(dir.root()).unwrap();
    assert_eq!(told(&view), lines(INTERRUPTED), "to read");
    assert_eq!((half_deleted(&view), is_publishing(&view)), (1, true));
    drop(view);
    assert_eq!(tree(&dir.root()), before);

    let store = make::reopen(&dir);
    assert_eq!(but_usage(told(&store)), but_usage(lines(INTERRUPTED)), "to write");
    assert_eq!((half_deleted(&store), is_publishing(&store)), (0, false));
    assert_eq!(store.recount().unwrap().store, store.usage().unwrap());
    assert_eq!((reports(&store), findings(&store)), (Vec::new(), Vec::new()));
}

/// The file of the interrupted publish is ours: what it was the first to show and is removed since does not come back, and
/// what it did not show any more does not either.
#[test]
fn the_pending_file_of_format_1_is_no_edit() {
    let dir = placed(INTERRUPTED);
    let store = make::reopen(&dir);
    repo(&store, "team/app").untag(&tag("v2"), Expect::Any).unwrap();
    crash(&dir, store);
    let store = make::reopen(&dir);
    store.flush().unwrap();
    assert_eq!(store.reports(), []);
    assert_eq!(Layout::read(&dir.root()).names(), Default::default());
    assert!(repo(&store, "team/app").tags(None, 10).unwrap().items.is_empty());
}

/// The states of the hashes go on where they were: nothing is read again for them, not even what has changed meanwhile.
#[test]
fn sessions_of_format_1_go_on_from_the_states_of_their_hashes() {
    for changed in [false, true] {
        let dir = placed(INTERRUPTED);
        let store = make::reopen(&dir);
        for (n, (algorithms, saved, size)) in SESSIONS.into_iter().enumerate() {
            let found = store.uploads(None, 10).unwrap().items;
            let status = found.iter().find(|status| status.offset == saved as u64).unwrap();
            assert_eq!((&*status.algorithms, status.size), (algorithms, Some(size as u64)));
            if changed {
                let file = dir.root().join(format!(".orlop/ingest/upload-{}", status.id));
                let mut bytes = fs::read(&file).unwrap();
                bytes[100] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
            let here = store.repository(&status.repository);
            let mut upload = here.upload(&status.id).unwrap().unwrap();
            let content = text(n, size);
            upload.append(saved as u64, &content[saved..]).unwrap();
            // There is none of blake3: it is made from what is read.
            let kept = algorithms.iter().rev().find(|one| **one != Algorithm::Blake3).unwrap();
            let pushed = upload.finish(&Expected::from(kept.digest(&content))).unwrap();
            let whole = store.unscoped().verify(&pushed.digest).is_ok_and(|whole| whole);
            assert_eq!(whole, !changed, "session {n}");
        }
    }
}

/// As a copy it trusts no state of a hash, and reads what it has.
#[test]
fn sessions_of_a_copy_of_format_1_are_read_again() {
    let dir = moved(INTERRUPTED);
    let store = make::reopen(&dir);
    assert!(store.open_report().copied);
    for (n, (algorithms, saved, size)) in SESSIONS.into_iter().enumerate() {
        let found = store.uploads(None, 10).unwrap().items;
        let status = found.iter().find(|status| status.offset == saved as u64).unwrap();
        let mut upload = store.repository(&status.repository).upload(&status.id).unwrap().unwrap();
        let content = text(n, size);
        upload.append(saved as u64, &content[saved..]).unwrap();
        let digest: Digest = algorithms[0].digest(&content);
        assert_eq!(upload.finish(&Expected::default()).unwrap().digest, digest);
    }
    assert_eq!(findings(&store), [""; 0]);
}

/// What the old metadata tell of a deleted repository is nothing, also for a rebuild.
#[test]
fn an_interrupted_store_of_format_1_is_rebuilt() {
    let dir = placed(INTERRUPTED);
    options().rebuild(dir.root()).unwrap();
    let store = make::options().on_damage(OnDamage::Refuse).open(dir.root()).unwrap();
    let tags = |lines: &BTreeSet<String>| -> Vec<String> {
        lines.iter().filter(|line| line.contains("/ tag ") && !line.contains(" changed ")).cloned().collect()
    };
    assert_eq!(tags(&told(&store)), tags(&lines(INTERRUPTED)));
    let names: Vec<String> =
        store.repositories(None, 10).unwrap().items.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["team/app"]);
}

/// The witness of the log stands for the place that it names, and for no other.
#[test]
fn the_witness_of_format_1_counts_where_it_was_written() {
    let last = |dir: &Scratch| -> std::path::PathBuf {
        let metadata = dir.root().join(".orlop/metadata");
        let logs = fs::read_dir(metadata).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
    };
    for (dir, counts) in [(placed(INTERRUPTED), true), (moved(INTERRUPTED), false)] {
        fs::write(last(&dir), "").unwrap();
        let opened = make::options().on_damage(OnDamage::Refuse).open(dir.root());
        assert_eq!(
            opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt),
            counts,
            "{opened:?}"
        );
    }
    let text = fs::read_to_string(placed(INTERRUPTED).root().join(".orlop/metadata/SYNCED")).unwrap();
    assert!(text[..20].parse::<u64>().unwrap() > 0);
    let format = fs::read_to_string(placed(INTERRUPTED).root().join(".orlop/FORMAT")).unwrap();
    let record: Value = serde_json::from_str(format.lines().next().unwrap()).unwrap();
    assert_eq!(record["version"], 1);
}
