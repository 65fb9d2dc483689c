//! Checkpoints: another store with what this one held at one moment, and nothing of either changes the other.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use orlop::{Algorithm, Durability, ErrorKind, Expect, Expected, Options, Publish, Store};

use crate::support::*;

fn id_of(root: &Path) -> String {
    let text = fs::read_to_string(root.join(".orlop/FORMAT")).unwrap();
    let record: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    record["id"].as_str().unwrap().to_owned()
}

/// Opens a store, and has everything in it checked.
fn sound(root: &Path) -> Store {
    Layout::sound(root);
    let store = options().open(root).unwrap();
    assert_eq!(store.reports(), []);
    let report = store.open_report();
    assert!(report.clean && !report.copied, "it needs no mending: {report:?}");
    let report = store.verify().index(true).read_data(true).run().unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.further, 0);
    store
}

/// Nothing but the store and what is named stays beside it.
fn beside(dir: &Scratch, names: &[&str]) {
    let mut found: Vec<String> = fs::read_dir(dir.root().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);
}

fn fill(store: &Store) {
    let here = repo(store, "team/app");
    let artifact = image("one", 3);
    artifact.push(&here, &["v1", "latest"]);
    referrer(&artifact, "application/sbom", "sbom").push(&here, &[]);
    image("other", 1).push(&store.default_repository(), &["plain"]);
    here.push_bytes(noise(7, 3 * INLINE)).unwrap();
    let expected = Expected::from(Algorithm::Sha512.digest(b"in another algorithm"));
    here.push(store.ingest_reader(&b"in another algorithm"[..], &expected).unwrap()).unwrap();
}

#[test]
fn everything_is_there_with_an_identity_of_its_own() {
    for publish in [Publish::OnClose, Publish::Manual] {
        let dir = scratch();
        let store = options().publish(publish).create(dir.root()).unwrap();
        fill(&store);
        let before = describe(&store);
        let report = store.checkpoint(dir.path("copy")).unwrap();
        assert_eq!((report.damaged, report.copied, report.journalled), (0, 0, 0));
        assert!(report.contents > 8 && report.linked == report.contents, "{report:?}");
        assert!(report.bytes > 3 * INLINE as u64);
        beside(&dir, &["copy", "store"]);
        assert_eq!(describe(&store), before, "nothing has changed here");
        let copy = sound(&dir.path("copy"));
        assert_eq!(describe(&copy), before);
        assert_ne!(id_of(&dir.root()), id_of(&dir.path("copy")));
        for entry in [".orlop", ".orlop/metadata", "blobs", "blobs/sha256"] {
            let mode = |root: &Path| fs::metadata(root.join(entry)).unwrap().permissions().mode();
            assert_eq!(mode(&dir.path("copy")), mode(&dir.root()), "{entry}");
        }
        // The original goes on, and another one can be made.
        image("later", 1).push(&store.default_repository(), &["later"]);
        store.checkpoint(dir.path("again")).unwrap();
        assert_eq!(describe(&sound(&dir.path("again"))), describe(&store));
        assert_eq!(describe(&copy), before);
    }
}

#[test]
fn neither_store_changes_the_other() {
    let (dir, store) = fresh();
    fill(&store);
    let copy_root = dir.path("copy");
    store.checkpoint(&copy_root).unwrap();
    let before = describe(&store);
    let copy = options().open(&copy_root).unwrap();
    let large = digest_of(&noise(7, 3 * INLINE));
    let inode = |root: &Path| fs::metadata(blob_path(root, &large)).unwrap().ino();
    assert_eq!(inode(&dir.root()), inode(&copy_root), "the file is shared");

    // Writing and removing in the one shows nothing in the other.
    image("only there", 2).push(&repo(&copy, "team/app"), &["v1", "new"]);
    assert!(copy.delete_repository(&name("")).unwrap());
    assert_eq!(describe(&store), before);
    let there = describe(&copy);
    image("only here", 2).push(&repo(&store, "here"), &["v1"]);
    repo(&store, "team/app").untag(&tag("v1"), Expect::Any).unwrap();
    assert_eq!(describe(&copy), there);

    // A file that is replaced by damage is damaged in one of them; healing it there leaves the other alone.
    let good = noise(7, 3 * INLINE);
    let mut bad = good.clone();
    bad[5] ^= 1;
    fs::remove_file(blob_path(&dir.root(), &large)).unwrap();
    fs::write(blob_path(&dir.root(), &large), &bad).unwrap();
    let damaged = |store: &Store| store.verify().read_data(true).run().unwrap().findings.len();
    assert_eq!((damaged(&store), damaged(&copy)), (1, 0));
    repo(&store, "here").push_bytes(good.clone()).unwrap();
    assert_eq!((damaged(&store), damaged(&copy)), (0, 0));
    assert_ne!(inode(&dir.root()), inode(&copy_root));

    // A disk that changes a shared file does so for both; whoever heals it does so for himself.
    store.checkpoint(dir.path("third")).unwrap();
    let third = options().open(dir.path("third")).unwrap();
    damage(&blob_path(&dir.root(), &large));
    assert_eq!((damaged(&store), damaged(&third), damaged(&copy)), (1, 1, 0));
    repo(&third, "here").push_bytes(good).unwrap();
    assert_eq!((damaged(&third), fs::read(blob_path(&dir.root(), &large)).is_err()), (0, true));
    store.close().unwrap();
    copy.close().unwrap();
    third.close().unwrap();
    sound(&copy_root);
    sound(&dir.path("third"));
}

#[test]
fn what_is_copied_on_demand_shares_no_file() {
    let (dir, store) = fresh();
    fill(&store);
    let report = store.checkpointer().copy(true).run(dir.path("copy")).unwrap();
    assert_eq!((report.linked, report.copied), (0, report.contents));
    let large = digest_of(&noise(7, 3 * INLINE));
    damage(&blob_path(&dir.root(), &large));
    let copy = sound(&dir.path("copy"));
    assert_eq!(describe(&copy), {
        store.close().unwrap();
        describe(&copy)
    });
    // A damaged file is not copied as if it were sound.
    let store = options().open(dir.root()).unwrap();
    let report = store.checkpointer().copy(true).run(dir.path("second")).unwrap();
    let is_reflink = report.damaged == 0;
    let second = options().open(dir.path("second")).unwrap();
    let found = second.verify().read_data(is_reflink).run().unwrap();
    assert_eq!(found.findings.len(), 1, "{report:?}");
    assert_eq!(found.findings[0].digest, Some(large));
}

#[test]
fn places_that_cannot_be_are_refused_and_stay_as_they_are() {
    let (dir, store) = fresh();
    fill(&store);
    dir.file("file", b"x");
    fs::create_dir_all(dir.path("full/of")).unwrap();
    symlink(dir.path("full"), dir.path("link")).unwrap();
    let refused = |path: &Path, kind: ErrorKind, what: &str| {
        fails(store.checkpoint(path), kind, &[what]);
    };
    refused(&dir.path("full"), ErrorKind::Conflict, "not empty");
    refused(&dir.path("file"), ErrorKind::Invalid, "not a directory");
    refused(&dir.path("link"), ErrorKind::Invalid, "not a directory");
    refused(&dir.path("file/copy"), ErrorKind::Io, "file");
    refused(&dir.root(), ErrorKind::Conflict, "not empty");
    refused(&dir.root().join("copy"), ErrorKind::Invalid, "within");
    refused(&dir.root().join(".orlop/ingest/copy"), ErrorKind::Invalid, "within");
    refused(&dir.path("full/.."), ErrorKind::Invalid, "no name");
    beside(&dir, &["file", "full", "link", "store"]);
    let view = options().open_read_only(dir.root()).unwrap();
    fails(view.checkpoint(dir.path("copy")), ErrorKind::ReadOnly, &["reading"]);
    let plain = options().open_plain(dir.path("plain")).unwrap();
    fails(plain.checkpoint(dir.path("copy")), ErrorKind::Unsupported, &["plain"]);
    // An empty directory is taken, with the mode that it has; so are parents that are not there yet.
    fs::create_dir(dir.path("empty")).unwrap();
    fs::set_permissions(dir.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    store.checkpoint(dir.path("empty")).unwrap();
    assert_eq!(fs::metadata(dir.path("empty")).unwrap().permissions().mode() & 0o777, 0o700);
    sound(&dir.path("empty"));
    store.checkpoint(dir.path("a/b/c")).unwrap();
    sound(&dir.path("a/b/c"));
}

#[test]
fn a_checkpoint_that_is_stopped_leaves_nothing() {
    let (dir, store) = fresh();
    fill(&store);
    let mut seen = Vec::new();
    let stopped = store
        .checkpointer()
        .watch(|progress| {
            seen.push(progress);
            if progress.contents == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .run(dir.path("copy"));
    fails(stopped, ErrorKind::Interrupted, &["nothing is left"]);
    assert_eq!(seen.last().map(|last| last.contents), Some(3));
    assert!(seen.iter().all(|progress| progress.total > 8));
    beside(&dir, &["store"]);
    // What a process that was killed left under the private name is cleared by the next one.
    store.checkpoint(dir.path("copy")).unwrap();
    let private = fs::read_dir(dir.root().parent().unwrap()).unwrap().count();
    assert_eq!(private, 2);
}

#[test]
fn what_is_missing_is_marked_in_the_copy() {
    let (dir, store) = fresh();
    fill(&store);
    store.flush().unwrap();
    let large = digest_of(&noise(7, 3 * INLINE));
    fs::remove_file(blob_path(&dir.root(), &large)).unwrap();
    let report = store.checkpoint(dir.path("copy")).unwrap();
    assert_eq!((report.damaged, report.linked), (1, report.contents - 1));
    let copy = options().open(dir.path("copy")).unwrap();
    let found = copy.verify().run().unwrap().findings;
    assert_eq!(found.iter().map(|finding| finding.digest).collect::<Vec<_>>(), [Some(large)]);
    repo(&copy, "team/app").push_bytes(noise(7, 3 * INLINE)).unwrap();
    copy.close().unwrap();
    sound(&dir.path("copy"));
}

#[test]
fn what_others_wrote_comes_along() {
    let (dir, store) = fresh();
    fill(&store);
    store.flush().unwrap();
    // A name that is merged first, and one that nobody can take in: a manifest whose content is not there.
    let (taken, torn) = (image("taken", 1), image("torn", 2));
    put_blobs(&dir.root(), &taken);
    put_blobs(&dir.root(), &torn);
    fs::remove_file(blob_path(&dir.root(), &digest_of(&torn.parts[0]))).unwrap();
    fs::write(blob_path(&dir.root(), &torn.digest()), b"not what it is called").unwrap();
    edit_index(&dir.root(), |entries| {
        entries.push(entry(Some("taken"), &taken));
        entries.push(entry(Some("torn"), &torn));
    });
    store.checkpoint(dir.path("copy")).unwrap();
    let names = Layout::read(&dir.path("copy")).names();
    assert_eq!(names.get("taken"), Some(&taken.digest().to_string()));
    assert_eq!(names.get("torn"), Some(&torn.digest().to_string()), "kept as it is");
    assert!(blob_path(&dir.path("copy"), &torn.digest()).exists());
    assert_eq!(describe(&options().open(dir.path("copy")).unwrap()), describe(&store));
}

#[test]
fn without_syncs_at_commits_it_is_durable_all_the_same() {
    let dir = scratch();
    let store = options().durability(Durability::Process).create(dir.root()).unwrap();
    fill(&store);
    store.checkpoint(dir.path("copy")).unwrap();
    assert_eq!(describe(&sound(&dir.path("copy"))), describe(&store));
}

/// Writers push, move tags, remove and delete, the publisher files, and one checkpoint after the other is made: each is a whole
/// store of one moment.
#[test]
fn every_one_that_is_made_beside_writers_is_of_one_moment() {
    let dir = scratch();
    let store = Options::new()
        .publish(Publish::Interval(std::time::Duration::from_millis(3)))
        .create(dir.root())
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..3 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let here = repo(store, &format!("worker-{worker}"));
                for round in 0..400 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut batch = store.batch();
                    let mut old = None;
                    for part in 0..2 {
                        let artifact = image(&format!("{worker} {round} {part}"), 2);
                        for bytes in &artifact.parts {
                            batch.push_bytes(&here, bytes.clone()).unwrap();
                        }
                        let digest =
                            batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
                        // Both tags of a round move with one commit.
                        batch.tag(&here, &tag(&format!("part-{part}")), digest, Expect::Any);
                        old = Some(image(&format!("{worker} {} {part}", round - 3), 2).digest());
                    }
                    if round % 4 == 0 {
                        batch.push_bytes(&here, noise(round as u64 + 1, 2 * INLINE)).unwrap();
                    }
                    if round % 40 > 3 && round % 3 == 0 {
                        batch.delete_manifest(&here, &old.unwrap());
                    }
                    batch.commit().unwrap();
                    if round % 40 == 39 {
                        store.delete_repository(&name(&format!("worker-{worker}"))).unwrap();
                    }
                }
            });
        }
        for turn in 0..4 {
            let root = dir.path(&format!("copy-{turn}"));
            let report = store.checkpoint(&root).unwrap();
            assert_eq!(report.damaged, 0);
            let copy = sound(&root);
            for worker in 0..3 {
                let here = repo(&copy, &format!("worker-{worker}"));
                let found: BTreeMap<_, _> = tags(&here).into_iter().collect();
                let round_of = |part: &str| {
                    let manifest = here.get(found.get(part)?).unwrap().unwrap();
                    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
                    let layer = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
                    let text = String::from_utf8(here.get(&layer).unwrap().unwrap().to_vec()).unwrap();
                    text.split(' ').nth(4).map(str::to_owned)
                };
                assert_eq!(round_of("part-0"), round_of("part-1"), "both tags move with one commit");
            }
            copy.close().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.close().unwrap();
    sound(&dir.root());
}
