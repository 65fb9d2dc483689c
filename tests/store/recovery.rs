//! Metadata that a power cut or a disk left damaged: what only looks so opens as it is, everything else is noticed before
//! the engine throws anything away, and heals.

use std::fs;
use std::path::{Path, PathBuf};

use orlop::{ErrorKind, Options, Publish, Report, Repository, Store};

use crate::support::*;

fn metadata(root: &Path) -> PathBuf {
    root.join(".orlop/metadata")
}

fn newest(root: &Path, fits: impl Fn(&str) -> bool) -> PathBuf {
    let names = fs::read_dir(metadata(root)).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| fits(path.file_name().unwrap().to_str().unwrap())).max().unwrap()
}

fn log(root: &Path) -> PathBuf {
    newest(root, |name| name.ends_with(".log"))
}

fn length(path: &Path) -> usize {
    fs::metadata(path).unwrap().len() as usize
}

/// Contents that are journalled together: one record of the log of about 300 KB.
fn push_record(store: &Store, repository: &Repository, seed: u64) {
    let mut batch = store.batch();
    for n in 0..10 {
        batch.push_bytes(repository, noise(seed + n, 30_000)).unwrap();
    }
    batch.commit().unwrap();
}

fn has_record(repository: &Repository, seed: u64) -> bool {
    let has = |n| repository.get(&digest_of(&noise(seed + n, 30_000))).unwrap();
    let found: Vec<bool> =
        (0..10).map(|n| has(n).is_some_and(|found| found[..] == noise(seed + n, 30_000)[..])).collect();
    assert!(found.iter().all(|has| *has == found[0]), "a batch is there in part: {found:?}");
    found[0]
}

fn zero(path: &Path, at: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + length].fill(0);
    fs::write(path, bytes).unwrap();
}

/// A store that was never closed: published content, an acknowledged record and one more, and where that one is in the log.
fn crashed() -> (Scratch, std::ops::Range<usize>) {
    let (dir, store) = fresh();
    let here = store.default_repository();
    image("published", 2).push(&here, &["v1"]);
    store.flush().unwrap();
    push_record(&store, &here, 100);
    image("acknowledged", 2).push(&here, &["v2"]);
    let log = log(&dir.root());
    let begin = length(&log);
    push_record(&store, &here, 200);
    let end = length(&log);
    assert!(end - begin > 290_000, "{begin}..{end}");
    drop(here);
    crash(&dir, store);
    (dir, begin..end)
}

fn is_torn(reports: &[Report]) -> bool {
    reports.iter().any(|report| matches!(report, Report::Torn { bytes } if *bytes > 290_000))
}

fn heal(dir: &Scratch) -> Store {
    Options::new().publish(Publish::OnClose).open(dir.root()).unwrap()
}

#[test]
fn a_log_torn_in_its_last_record_costs_no_rebuild() {
    for part in [2, 5, 50] {
        let (dir, last) = crashed();
        let hole = (last.start + last.len() / 50 * part).next_multiple_of(4096).min(last.end / 4096 * 4096);
        zero(&log(&dir.root()), hole, 4096.min(last.end - hole));
        let before = tree(&dir.root());
        // Whoever only reads has what was acknowledged, and writes nothing.
        let view = options().open_read_only(dir.root()).unwrap();
        let here = view.default_repository();
        assert!(is_torn(&view.reports()), "{:?}", view.reports());
        assert!(has_record(&here, 100) && !has_record(&here, 200));
        assert_eq!(tags(&here).len(), 2);
        drop((here, view));
        assert_eq!(tree(&dir.root()), before);

        let store = options().open(dir.root()).unwrap();
        let report = store.open_report();
        assert!(report.rebuilt.is_none() && is_torn(&report.reports), "{report:?}");
        assert!(report.reports[0].to_string().contains("acknowledged to nobody"));
        let here = store.default_repository();
        assert!(has_record(&here, 100) && !has_record(&here, 200));
        assert_eq!(tags(&here).len(), 2);
        // It can be done again, and the next open finds nothing.
        push_record(&store, &here, 200);
        drop(here);
        store.close().unwrap();
        let store = options().open(dir.root()).unwrap();
        assert!(store.open_report().clean && store.reports().is_empty());
        assert!(has_record(&store.default_repository(), 200));
        Layout::sound(&dir.root());
    }
}

#[test]
fn the_same_hole_in_an_acknowledged_record_is_damage_and_loses_nothing_else() {
    let (dir, last) = crashed();
    let hole = (last.start - 150_000) / 4096 * 4096;
    zero(&log(&dir.root()), hole, 4096);
    fails(options().open(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    let store = heal(&dir);
    let rebuilt = store.open_report().rebuilt.clone().unwrap();
    assert!(rebuilt.lost.is_some() && rebuilt.salvaged_contents > 0, "{rebuilt:?}");
    assert!(!is_torn(&rebuilt.reports));
    let here = store.default_repository();
    assert!(has_record(&here, 200), "what is behind the damage is read");
    assert_eq!(tags(&here).len(), 2);
}

#[test]
fn a_changed_byte_in_the_last_record_is_damage() {
    let (dir, last) = crashed();
    let log = log(&dir.root());
    let mut bytes = fs::read(&log).unwrap();
    bytes[last.start + 150_000] ^= 1;
    fs::write(&log, bytes).unwrap();
    fails(options().open(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    let store = heal(&dir);
    assert!(store.open_report().rebuilt.as_ref().unwrap().lost.is_some());
    assert!(has_record(&store.default_repository(), 100));
}

/// Where the records of an engine's list begin.
fn entries(list: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = 0;
    while at + 7 < list.len() {
        places.push(at);
        at += 7 + usize::from(u16::from_le_bytes([list[at + 4], list[at + 5]]));
    }
    assert_eq!(at, list.len());
    places
}

#[test]
fn a_list_of_files_that_lost_its_last_entries_is_noticed_before_their_tables_are_removed() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    image("one", 2).push(&here, &["v1"]);
    here.push_bytes(noise(1, 10_000)).unwrap();
    let expected = describe(&store);
    drop(here);
    store.close().unwrap();
    let template = dir.path("template");
    copy_tree(&dir.root(), &template);
    let list = newest(&dir.root(), |name| name.starts_with("MANIFEST-"));
    let whole = fs::read(&list).unwrap();
    for (n, at) in entries(&whole).into_iter().enumerate() {
        let zeros = n % 2 == 0;
        fs::remove_dir_all(metadata(&dir.root())).unwrap();
        copy_tree(&metadata(&template), &metadata(&dir.root()));
        let mut cut = whole[..at].to_vec();
        if zeros {
            cut.resize(whole.len(), 0);
        }
        fs::write(&list, cut).unwrap();
        let before = tree(&metadata(&dir.root()));
        fails(options().open(dir.root()), ErrorKind::Corrupt, &["list of files", "rebuild"]);
        assert!(tree(&metadata(&dir.root())) == before, "cut at {at}: something was removed");
        // Whoever only reads is not told less than is published.
        let view = Options::new().open_read_only(dir.root()).unwrap();
        assert_eq!(tags(&view.default_repository()).len(), 1, "cut at {at}");
        drop(view);
        let store = heal(&dir);
        assert!(store.open_report().rebuilt.as_ref().unwrap().lost.is_some());
        assert_eq!(describe(&store), expected, "cut at {at}");
        store.close().unwrap();
    }
}

#[test]
fn a_pointer_to_the_list_that_is_gone_is_damage_and_no_new_store() {
    let (dir, store) = fresh();
    image("one", 2).push(&store.default_repository(), &["v1"]);
    let expected = describe(&store);
    crash(&dir, store);
    fs::remove_file(metadata(&dir.root()).join("CURRENT")).unwrap();
    fails(options().open(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    let store = heal(&dir);
    assert_eq!(describe(&store), expected);
}

#[test]
fn damage_met_while_the_store_is_in_use_heals_at_the_next_open() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for n in 0..40 {
        image(&n.to_string(), 1).push(&here, &[&format!("v{n}")]);
    }
    let loose = digest_of(&noise(1, 100));
    here.push_bytes(noise(1, 100)).unwrap();
    drop(here);
    store.close().unwrap();
    // The largest table has the tags or the graph; its first block is read by nobody at open.
    let tables = fs::read_dir(metadata(&dir.root())).unwrap().map(|entry| entry.unwrap().path());
    let tables: Vec<PathBuf> =
        tables.filter(|path| path.extension().is_some_and(|end| end == "sst")).collect();
    let mut met = 0;
    let template = dir.path("template");
    copy_tree(&dir.root(), &template);
    for table in tables {
        fs::remove_dir_all(metadata(&dir.root())).unwrap();
        copy_tree(&metadata(&template), &metadata(&dir.root()));
        let mut bytes = fs::read(&table).unwrap();
        bytes[20] ^= 0x40;
        fs::write(&table, bytes).unwrap();
        let Ok(store) = options().open(dir.root()) else { continue };
        let here = store.default_repository();
        let read = (0..40).map(|n| here.resolve(&tag(&format!("v{n}"))).map(|_| ()));
        let read = read.chain([here.stat(&loose).map(|_| ())]).find_map(Result::err);
        drop(here);
        let Some(error) = read else { continue };
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        met += 1;
        let _ = store.close();
        let error =
            fails(options().open(dir.root()), ErrorKind::Corrupt, &["while they were in use", "rebuild"]);
        assert!(
            std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("checksum"))
        );
        let store = heal(&dir);
        assert!(store.open_report().rebuilt.as_ref().unwrap().lost.is_some());
        let here = store.default_repository();
        for n in 0..40 {
            let found = here.resolve(&tag(&format!("v{n}"))).unwrap().unwrap();
            assert_eq!(found.digest, image(&n.to_string(), 1).digest());
        }
        drop(here);
        store.close().unwrap();
        let store = options().open(dir.root()).unwrap();
        assert!(
            store.open_report().rebuilt.is_none() && store.verify().index(true).run().unwrap().is_sound()
        );
        drop(store);
    }
    assert!(met > 0, "no damage was met by a read");
}

#[test]
fn a_store_whose_oci_layout_says_another_version_is_put_right_by_a_rebuild_alone() {
    let (dir, store) = fresh();
    image("one", 2).push(&store.default_repository(), &["v1"]);
    let expected = describe(&store);
    store.close().unwrap();
    let file = dir.root().join("oci-layout");
    fs::write(&file, r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    fails(options().open(dir.root()), ErrorKind::Unsupported, &["9.0.0", "rebuild the store"]);
    assert!(fs::read_to_string(&file).unwrap().contains("9.0.0"));
    let report = options().rebuild(dir.root()).unwrap();
    let damaged = |report: &Report| matches!(report, Report::Damaged { file, .. } if file == "oci-layout");
    assert!(report.reports.iter().any(damaged), "{report:?}");
    let store = options().open(dir.root()).unwrap();
    assert_eq!(describe(&store), expected);
    drop(store);
    Layout::sound(&dir.root());

    // What is no store, or cannot say so, may be of whatever version it says.
    fs::write(&file, r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    damage(&dir.root().join(".orlop/FORMAT"));
    let before = content_tree(&dir.root());
    fails(options().rebuild(dir.root()), ErrorKind::Unsupported, &["9.0.0"]);
    assert!(content_tree(&dir.root()) == before, "a refused rebuild changed something");
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    fails(options().rebuild(dir.root()), ErrorKind::Unsupported, &["9.0.0"]);
    fails(options().create(dir.root()), ErrorKind::Unsupported, &["9.0.0"]);
    assert!(!dir.root().join(".orlop").exists());
}
