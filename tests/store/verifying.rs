//! Verification: every kind of damage is found, told, put down and out of the way; and what is sound is left alone.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::Path;

use orlop::{Flaw, Options, Store, VerifyReport};

use crate::support::*;

fn deep(store: &Store) -> VerifyReport {
    store.verify().read_data(true).index(true).threads(2).run().unwrap()
}

fn flaws(report: &VerifyReport) -> Vec<(Flaw, Option<String>)> {
    let mut flaws: Vec<_> = report
        .findings
        .iter()
        .map(|found| (found.flaw, found.digest.map(|digest| digest.to_string())))
        .collect();
    flaws.sort();
    flaws
}

/// A store with files: an image with large layers, a referrer, an index, in two repositories.
fn stocked() -> (Scratch, Store, Vec<Vec<u8>>) {
    let (dir, store) = fresh();
    let a = repo(&store, "a");
    let (one, two) = (image("one", 2), image("two", 1));
    one.push(&a, &["one"]);
    two.push(&repo(&store, "b"), &["two"]);
    two.push(&a, &[]);
    index(&[&one, &two]).push(&a, &["multi"]);
    referrer(&one, "application/sbom", "s").push(&a, &[]);
    let large: Vec<Vec<u8>> = (0..6).map(|n| noise(n, 100_000 + usize::try_from(n).unwrap())).collect();
    for bytes in &large {
        a.push_bytes(bytes.clone()).unwrap();
    }
    store.flush().unwrap();
    (dir, store, large)
}

fn quarantine(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root.join(".orlop/quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_sound_is_found_sound_and_left_alone() {
    let (dir, store, _) = stocked();
    repo(&store, "a").push_bytes("journalled").unwrap();
    let before = tree(&dir.root().join("blobs"));
    let report = deep(&store);
    assert!(report.is_sound() && report.complete, "{report:?}");
    assert_eq!(report.findings, []);
    assert!(report.bytes > 600_000 && report.contents > 12 && report.rows > 40, "{report:?}");
    assert_eq!(tree(&dir.root().join("blobs")), before);
    let quick = store.verify().run().unwrap();
    assert_eq!((quick.contents, quick.bytes, quick.rows), (report.contents, 0, 0));
    store.close().unwrap();
    let reader = Options::new().open_read_only(dir.root()).unwrap();
    assert!(deep(&reader).is_sound());
}

#[test]
fn every_kind_of_damage_is_told_moved_away_and_healed_by_a_push() {
    let (dir, store, large) = stocked();
    let path = |n: usize| blob_path(&dir.root(), &digest_of(&large[n]));
    let name = |n: usize| Some(digest_of(&large[n]).to_string());
    fs::remove_file(path(0)).unwrap();
    fs::write(path(1).with_extension("new"), &large[1][1..]).unwrap();
    fs::rename(path(1).with_extension("new"), path(1)).unwrap();
    damage(&path(2));
    fs::remove_file(path(3)).unwrap();
    symlink(path(4), path(3)).unwrap();
    let shallow = [(Flaw::Missing, name(0)), (Flaw::Size, name(1)), (Flaw::Kind, name(3))];
    let deeper =
        [(Flaw::Missing, name(0)), (Flaw::Size, name(1)), (Flaw::Bytes, name(2)), (Flaw::Kind, name(3))];

    // A reader tells and touches nothing.
    let reader = Options::new().open_read_only(dir.root()).unwrap();
    let before = tree(&dir.root().join("blobs"));
    assert_eq!(flaws(&reader.verify().run().unwrap()), shallow);
    let report = reader.verify().read_data(true).run().unwrap();
    assert_eq!(flaws(&report), deeper);
    assert!(!report.is_sound() && report.complete);
    assert!(report.findings.iter().all(|found| !found.quarantined && found.repositories == [name_of("a")]));
    assert_eq!(tree(&dir.root().join("blobs")), before);
    drop(reader);

    // Nor does a writer that is told to leave the files.
    assert_eq!(flaws(&store.verify().read_data(true).quarantine(false).run().unwrap()), deeper);
    assert_eq!(tree(&dir.root().join("blobs")), before);
    let report = store.verify().read_data(true).run().unwrap();
    assert_eq!(flaws(&report), deeper);
    let moved: Vec<bool> = deeper
        .iter()
        .map(|(flaw, _)| report.findings.iter().find(|found| found.flaw == *flaw).unwrap().quarantined)
        .collect();
    assert_eq!(moved, [false, true, true, true]);
    assert_eq!(quarantine(&dir.root()).len(), 3);
    assert!(
        (0..4).all(|n| fs::symlink_metadata(path(n)).is_err()),
        "nothing stands under a name that it is not"
    );
    assert!(path(4).exists());
    // It is told again until it is healed, by any push of the content.
    let again = store.verify().run().unwrap();
    assert_eq!(flaws(&again).iter().map(|(_, digest)| digest.clone()).collect::<Vec<_>>().len(), 4);
    for bytes in &large {
        repo(&store, "b").push_bytes(bytes.clone()).unwrap();
    }
    assert!(deep(&store).is_sound());
    assert_eq!(quarantine(&dir.root()).len(), 3, "what was damaged is kept");
}

fn name_of(text: &str) -> orlop::oci::RepositoryName {
    name(text)
}

#[test]
fn a_journalled_content_needs_no_file() {
    let (_dir, store) = fresh();
    let digest = repo(&store, "a").push_bytes("small").unwrap().digest;
    let report = deep(&store);
    assert!(report.is_sound() && report.contents == 1, "{report:?}");
    assert!(repo(&store, "a").get(&digest).unwrap().is_some());
}

#[test]
fn a_run_can_be_stopped_and_goes_on_where_it_was() {
    let (_dir, store) = fresh();
    let a = repo(&store, "a");
    for n in 0..700_u32 {
        a.push_bytes(n.to_be_bytes().to_vec()).unwrap();
    }
    let mut told = Vec::new();
    let report = store
        .verify()
        .watch(|progress| {
            told.push(progress.contents);
            ControlFlow::Break(())
        })
        .run()
        .unwrap();
    assert!(!report.complete && report.contents > 0 && report.contents < 700, "{report:?}");
    assert_eq!(told, [report.contents]);
    let rest = store.verify().after(report.last).run().unwrap();
    assert!(rest.complete);
    assert_eq!(rest.contents + report.contents, 700);
    let limited = store.verify().read_data(true).bytes_per_second(Some(1)).threads(3);
    let report = limited.watch(|_| ControlFlow::Break(())).run().unwrap();
    assert!(!report.complete, "a limit of one byte a second would take ten minutes");
}

#[test]
fn files_that_nobody_knows_are_told_and_stay() {
    let (dir, store, _) = stocked();
    let stranger = noise(99, 1000);
    let blobs = dir.root().join("blobs");
    fs::write(blob_path(&dir.root(), &digest_of(&stranger)), &stranger).unwrap();
    fs::write(blobs.join("sha256/12345.tmp"), "x").unwrap();
    let report = deep(&store);
    assert_eq!(
        flaws(&report),
        [(Flaw::Unknown, None), (Flaw::Unknown, Some(digest_of(&stranger).to_string()))]
    );
    assert!(report.is_sound(), "they do no harm");
    assert!(blobs.join("sha256/12345.tmp").exists());
}

#[test]
fn an_index_that_names_what_is_gone_is_told() {
    let (dir, store, _) = stocked();
    edit_index(&dir.root(), |entries| entries.push(entry(Some("ghost"), &image("ghost", 1))));
    let report = deep(&store);
    assert_eq!(flaws(&report), [(Flaw::Published, Some(image("ghost", 1).digest().to_string()))]);
    store.flush().unwrap();
    fs::write(dir.root().join("index.json"), "{").unwrap();
    assert_eq!(flaws(&deep(&store)), [(Flaw::Published, None)]);
}

#[test]
fn it_goes_on_beside_pushes_and_removals() {
    let (_dir, store) = fresh();
    let a = repo(&store, "a");
    std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            for n in 0..150 {
                let image = image(&n.to_string(), 2);
                image.push(&a, &[&format!("t{n}")]);
                if n % 3 == 0 {
                    let mut batch = store.batch();
                    batch.delete_manifest(&a, &image.digest());
                    batch.commit().unwrap();
                }
                if n % 20 == 0 {
                    store.flush().unwrap();
                }
            }
        });
        let mut runs = 0;
        while !pusher.is_finished() || runs == 0 {
            let report = deep(&store);
            assert!(report.is_sound(), "{:?}", report.findings);
            runs += 1;
        }
        pusher.join().unwrap();
    });
    assert!(deep(&store).is_sound());
}
