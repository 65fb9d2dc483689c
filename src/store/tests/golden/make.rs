//! How the stores of the fixtures were made. Run by `tests/fixtures/format-1/make` only, which says where.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use orlop::oci::TagPattern;
use orlop::{
    Algorithm, Answers, EventLimits, Expect, Expected, OnDamage, Options, Publish, Quota, Retention, Store,
    Untagged, UploadOptions,
};
use serde_json::json;

use super::super::support::*;
use super::interrupted::{self, INTERRUPTED};
use super::{CLOSED, CONTRADICTED, KILLED, findings, told};
use crate::digest::Digest;
use crate::metadata::{ContentRecord, Kind, TagRecord};
use crate::store::until;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const UNKNOWN: &str = "sha3-256:0000000000000000000000000000000000000000000000000000000000000000";

pub(super) fn options() -> Options {
    Options::new()
        .lock_timeout(Duration::from_secs(2))
        .on_damage(OnDamage::Refuse)
        .publish(Publish::Manual)
        .answers(Answers::Local)
        .events(EventLimits { age: None, ..EventLimits::default() })
}

pub(super) fn reopen(dir: &Scratch) -> Store {
    options().open(dir.root()).unwrap()
}

/// Content that takes little room in the history of the repository.
pub(super) fn text(seed: usize, length: usize) -> Vec<u8> {
    (seed..).flat_map(|n| format!("{n}\n").into_bytes()).take(length).collect()
}

/// Names of other tools with what they name, in every published view.
pub(super) fn foreign() -> [(String, String); 2] {
    let theirs = image("theirs", 1).digest().to_string();
    [("taken-over".to_owned(), theirs.clone()), ("Not A Name".to_owned(), theirs)]
}

/// Sessions live as long as the leases.
pub(super) fn lasting_upload() -> UploadOptions {
    UploadOptions::new().time_to_live(100 * YEAR)
}

/// The upload session of the fixtures gets the rest of its bytes.
pub(super) fn continue_upload(store: &Store) {
    let sessions = store.uploads(None, 10).unwrap().items;
    let status = sessions.iter().find(|status| status.offset == 40_000).unwrap();
    let mut upload = store.repository(&status.repository).upload(&status.id).unwrap().unwrap();
    let bytes = text(5, 60_000);
    upload.append(40_000, &bytes[40_000..]).unwrap();
    upload.finish(&Expected::from(Algorithm::Sha512.digest(&bytes))).unwrap();
}

/// Everything that a store can hold, published.
fn fill(store: &Store) {
    let (app, other, unnamed) = (repo(store, "team/app"), repo(store, "other"), store.default_repository());
    let (first, second) = (image("first", 2), image("second", 3));
    first.push(&app, &["v1", "stable"]);
    second.push(&app, &["v2"]);
    first.push(&unnamed, &["latest"]);
    image("untagged", 1).push(&unnamed, &[]);
    let both = index(&[&first, &second]);
    both.push(&app, &["all"]);
    // Sparse: it lacks one of the two.
    first.push(&other, &[]);
    let mut batch = store.batch();
    let half =
        batch.push_sparse_manifest(&other, both.media_type, both.bytes.clone(), Algorithm::Sha256).unwrap();
    batch.tag(&other, &tag("half"), half, Expect::Absent);
    batch.commit().unwrap();
    let notes =
        json!({ "org.opencontainers.image.created": "2026-11-22T10:00:00Z", "long": "x".repeat(2000) });
    for (seed, kind) in [("a", "application/vnd.example.sbom"), ("b", "application/vnd.example.signature")] {
        referrer(&first, kind, seed).push(&app, &[]);
    }
    referrer_to(&first.descriptor(), "application/vnd.example.sbom", "dated", &notes).push(&app, &[]);
    referrer_to(&image("not here", 1).descriptor(), "application/vnd.example.sbom", "early", &json!({}))
        .push(&app, &[]);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3] {
        let bytes = text(algorithm as usize, INLINE + 5000);
        let expected = Expected::from(algorithm.digest(&bytes));
        unnamed.push_reader(&bytes[..], &expected).unwrap();
    }
    let lease = store.lease(YEAR, "a mirror").unwrap();
    lease.add(&[first.digest(), digest_of(&second.parts[0])]).unwrap();
    lasting(store);
    let pattern = |text: &str| vec![text.parse::<TagPattern>().unwrap()];
    let policy = Retention {
        untagged: Untagged::ExpireAfter(100 * YEAR),
        keep_last: Some(30),
        last_of: pattern("v*"),
        keep_tags: pattern("stable"),
    };
    app.set_retention(Some(&policy)).unwrap();
    app.set_quota(&Quota { objects: Some(10_000), bytes: None }).unwrap();
    store.set_quota(&Quota { objects: None, bytes: Some(1 << 40) }).unwrap();
    // A repository that came and went, and a tag that moved.
    image("gone", 1).push(&repo(store, "gone"), &["v1"]);
    store.delete_repository(&name("gone")).unwrap();
    app.tag(&tag("stable"), &second.digest(), Expect::Is(first.digest())).unwrap();
    let all = lasting_upload().algorithm(Algorithm::Sha512);
    let mut upload = app.start_upload(&all.size(60_000)).unwrap();
    upload.append(0, &text(5, 60_000)[..40_000]).unwrap();
    upload.save().unwrap();
}

/// The lease lasts longer than any that can be made: these stores are opened for many years.
fn lasting(store: &Store) {
    let core = store.core();
    let mut rows = core.metadata.rows();
    core.metadata
        .view()
        .leases(None, |id, mut record| {
            record.expires = record.created + 200 * YEAR.as_secs() * 1000;
            rows.put_lease(&id, &record);
            Ok(until(false))
        })
        .unwrap();
    rows.commit(true).unwrap();
}

/// What another tool does to the published file.
fn edit(dir: &Scratch) {
    let theirs = image("theirs", 1);
    put_blobs(&dir.root(), &theirs);
    edit_index(&dir.root(), |entries| {
        let mut taken = entry(Some("taken-over"), &theirs);
        taken["annotations"]["com.example.note"] = "theirs".into();
        taken["platform"] = json!({ "architecture": "arm64", "os": "linux" });
        entries.push(taken);
        entries.push(entry(Some("Not A Name"), &theirs));
        entries.push(json!({
            "mediaType": IMAGE, "digest": UNKNOWN, "size": 3, "annotations": { REF_NAME: "future" }
        }));
    });
}

fn filled_and_edited() -> Scratch {
    let dir = scratch();
    let store = options().create(dir.root()).unwrap();
    fill(&store);
    store.flush().unwrap();
    store.close().unwrap();
    edit(&dir);
    dir
}

/// What a process did before it ended: removed, condemned, added and not published.
fn leave_undone(store: &Store) {
    let app = repo(store, "team/app");
    let late = image("late", 2);
    late.push(&app, &["late"]);
    app.untag(&tag("v2"), Expect::Any).unwrap();
    let doomed = image("doomed", 2);
    doomed.push(&app, &["doomed"]);
    let mut batch = store.batch();
    batch.delete_manifest(&app, &doomed.digest());
    batch.commit().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let collection = store.collector().grace(Duration::ZERO).run().unwrap();
    assert!(collection.waiting > 0, "{collection:?}");
    let waits = image("waits", 1);
    waits.push(&app, &[]);
    let mut batch = store.batch();
    batch.delete_manifest(&app, &waits.digest());
    // Long enough for the last commit to have a witness.
    std::thread::sleep(Duration::from_millis(200));
    batch.commit().unwrap();
}

fn contradict(store: &Store) {
    let core = store.core();
    let view = core.metadata.view();
    let id = view.repository("team/app").unwrap().unwrap();
    let first = image("first", 2);
    let mut rows = core.metadata.rows();
    rows.delete_edge(id, &digest_of(&first.parts[0]), &first.digest());
    rows.put_edge(id, &digest_of(&first.parts[1]), &Digest::of(b"nobody"), 2);
    let ghost = TagRecord { target: Digest::of(b"ghost"), changed: None };
    rows.move_tag(id, "ghost", None, Some(&ghost));
    rows.delete_member(id, Kind::Blob, &digest_of(&first.parts[2]));
    rows.put_content(&Digest::of(b"no file"), &ContentRecord::new(4));
    rows.commit(false).unwrap();
}

/// What is there is never made again.
fn is_kept(name: &str) -> bool {
    PathBuf::from(std::env::var_os("ORLOP_GOLDEN").unwrap()).join(name).exists()
}

fn keep(name: &str, dir: &Scratch, lines: impl IntoIterator<Item = String>) {
    let out = PathBuf::from(std::env::var_os("ORLOP_GOLDEN").unwrap());
    assert!(!is_kept(name), "{name}");
    copy_at_one_moment(&dir.root(), &out.join(name));
    // It says who had the store open.
    let _ = fs::remove_file(out.join(name).join(".orlop/lock"));
    let lines: Vec<String> = lines.into_iter().collect();
    fs::write(out.join(format!("{name}.txt")), lines.join("\n") + "\n").unwrap();
}

#[test]
#[ignore = "started by tests/fixtures/format-1/make"]
fn stores() {
    if !is_kept(INTERRUPTED) {
        let dir = scratch();
        let store = interrupted::store(&dir);
        keep(INTERRUPTED, &dir, told(&store));
    }
    if is_kept(CLOSED) {
        return;
    }
    let dir = filled_and_edited();
    // Closed as a store that is published when it is.
    let store = options().publish(Publish::OnClose).open(dir.root()).unwrap();
    store.flush().unwrap();
    let lines = told(&store);
    store.close().unwrap();
    keep(CLOSED, &dir, lines);

    let store = reopen(&dir);
    contradict(&store);
    let found = findings(&store);
    store.close().unwrap();
    keep(CONTRADICTED, &dir, found);

    let dir = filled_and_edited();
    let store = reopen(&dir);
    leave_undone(&store);
    let lines = told(&store);
    keep(KILLED, &dir, lines);
}
