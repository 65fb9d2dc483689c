//! The format on disk, held by stores that format 1 was written with: they open for ever, with all that they hold, and damaged
//! copies of them give the finding that `damage.json` says.
//!
//! `tests/fixtures/format-1/make` made them, once. They are never made again for format 1: a store that the next version
//! cannot read is a store that somebody has.

mod interrupted;
mod make;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use orlop::oci::RepositoryName;
use orlop::{
    Change, Error, ErrorKind, Events, LeaseEntry, OnDamage, Quota, Repository, Store, Untagged, UploadStatus,
    VerifyReport,
};
use serde::Deserialize;
use serde_json::Value;

use super::support::*;

/// Closed, and everything published.
const CLOSED: &str = "closed";
/// As the end of a process leaves it: journalled content, condemned content, an upload, a merged edit, nothing published since.
const KILLED: &str = "killed";
/// Closed, with rows that contradict each other.
const CONTRADICTED: &str = "contradicted";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// A store of the fixtures in a place of its own, which its FORMAT says is where it always was.
fn placed(name: &str) -> Scratch {
    let dir = moved(name);
    let path = dir.root().join(".orlop/FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let stat = fs::metadata(dir.root()).unwrap();
    record["root"] = serde_json::json!({ "device": stat.dev(), "inode": stat.ino() });
    let record = record.to_string();
    fs::write(&path, format!("{record}\n{}\n", sha256(record.as_bytes()))).unwrap();
    witnessed_here(&dir.root());
    dir
}

/// The same as a copy, which it is.
fn moved(name: &str) -> Scratch {
    let dir = scratch();
    copy_tree(&fixtures().join(name), &dir.root());
    dir
}

fn lines(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(fixtures().join(format!("{name}.txt"))).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

/// Everything that a store shows, one fact a line.
fn told(store: &Store) -> BTreeSet<String> {
    let mut out = describe(store);
    for lease in all(|after: Option<&LeaseEntry>| {
        let page = store.leases(after.map(|lease| &lease.id), 2).unwrap();
        (page.items, page.more)
    }) {
        let (created, expires) = (millis(lease.created), millis(lease.expires));
        out.insert(format!("lease {} {created} {expires} {} {:?}", lease.id, lease.contents, lease.label));
    }
    for upload in all(|after: Option<&UploadStatus>| {
        let page = store.uploads(after.map(|upload| &upload.id), 2).unwrap();
        (page.items, page.more)
    }) {
        let algorithms: Vec<String> = upload.algorithms.iter().map(ToString::to_string).collect();
        out.insert(format!(
            "upload {} {}/ {} {:?} {} {} {}",
            upload.id,
            upload.repository,
            upload.offset,
            upload.size,
            algorithms.join(" "),
            millis(upload.created),
            millis(upload.expires),
        ));
    }
    let usage = store.usage().unwrap();
    let numbers =
        [usage.objects, usage.bytes, usage.stored_objects, usage.stored_bytes, usage.garbage_objects];
    out.insert(format!("usage {numbers:?} {}", quota(store.quota().unwrap())));
    for name in all(|after: Option<&RepositoryName>| {
        let page = store.repositories(after, 2).unwrap();
        (page.items, page.more)
    }) {
        tell_repository(&store.repository(&name), &mut out);
    }
    if let Events::Next(events) = store.events(None, 1000).unwrap() {
        for event in events {
            let (position, time) = (event.position, millis(event.time));
            out.insert(format!("event {position} {time} {}", change(&event.change)));
        }
    }
    out
}

fn tell_repository(here: &Repository, out: &mut BTreeSet<String>) {
    let (name, usage) = (here.name(), here.usage().unwrap());
    let numbers = [usage.objects, usage.bytes, usage.unique_objects, usage.unique_bytes];
    out.insert(format!("{name}/ usage {numbers:?} {}", quota(here.quota().unwrap())));
    for entry in here.tags(None, 1000).unwrap().items {
        out.insert(format!("{name}/ tag {} changed {:?}", entry.tag, entry.changed.map(millis)));
    }
    if let Some(policy) = here.retention().unwrap() {
        let untagged = match policy.untagged {
            Untagged::ExpireAfter(after) => format!("{}", after.as_millis()),
            Untagged::Keep => "keep".to_owned(),
        };
        let texts = |patterns: &[orlop::oci::TagPattern]| {
            patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let (last, keep) = (texts(&policy.last_of), texts(&policy.keep_tags));
        out.insert(format!(
            "{name}/ policy untagged {untagged} keep-last {:?} of {last} keep {keep}",
            policy.keep_last
        ));
    }
}

fn quota(quota: Quota) -> String {
    format!("limits {:?} {:?}", quota.objects, quota.bytes)
}

fn change(change: &Change) -> String {
    match change {
        Change::ManifestPushed { repository, digest, size, media_type, artifact_type, subject } => {
            format!(
                "pushed {repository}/ {digest} {size} {media_type} {artifact_type:?} {}",
                optional(subject.as_ref())
            )
        }
        Change::TagChanged { repository, tag, previous, current } => {
            format!("tag {repository}/ {tag} {} {}", optional(previous.as_ref()), optional(current.as_ref()))
        }
        Change::ManifestDeleted { repository, digest } => format!("deleted {repository}/ {digest}"),
        Change::RepositoryDeleted { repository } => format!("deleted {repository}/"),
    }
}

fn optional(digest: Option<&orlop::Digest>) -> String {
    digest.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn verified(store: &Store) -> Result<VerifyReport, Error> {
    store.verify().read_data(true).index(true).run()
}

/// Findings without their words, which may become better; or what verify itself fails with.
fn findings(store: &Store) -> Vec<String> {
    let found = match verified(store) {
        Ok(report) => report.findings,
        Err(error) => return vec![format!("{:?}", error.kind())],
    };
    let mut found: Vec<String> =
        found.iter().map(|found| format!("{:?} {}", found.flaw, optional(found.digest.as_ref()))).collect();
    found.sort();
    found.dedup();
    found
}

/// Content that nothing refers to is in no published view: after a rebuild nobody knows it, and a push takes it in again.
fn faults(store: &Store) -> Vec<String> {
    findings(store).into_iter().filter(|finding| !finding.starts_with("Unknown ")).collect()
}

fn reports(store: &Store) -> Vec<String> {
    let name = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_owned();
    store.open_report().reports.iter().map(|report| name(format!("{report:?}"))).collect()
}

#[test]
fn a_store_of_format_1_opens_with_all_that_it_holds() {
    for name in [CLOSED, KILLED] {
        let dir = placed(name);
        let before = tree(&dir.root());
        let view = options().open_read_only(dir.root()).unwrap();
        assert_eq!(told(&view), lines(name), "{name}, to read");
        assert_eq!(reports(&view), [""; 0], "{name}");
        drop(view);
        assert_eq!(tree(&dir.root()), before, "{name}");

        let store = make::reopen(&dir);
        assert_eq!(told(&store), lines(name), "{name}, to write");
        assert_eq!(reports(&store), [""; 0], "{name}");
        assert_eq!(findings(&store), [""; 0], "{name}");
    }
}

#[test]
fn a_store_of_format_1_is_written_on() {
    for name in [CLOSED, KILLED] {
        let dir = placed(name);
        let store = make::reopen(&dir);
        let here = repo(&store, "team/app");
        let new = image("of today", 2);
        new.push(&here, &["today"]);
        make::continue_upload(&store);
        store.collector().grace(Duration::ZERO).run().unwrap();
        store.flush().unwrap();
        let layout = Layout::read(&dir.root());
        assert_eq!(layout.names()["team/app:today"], new.digest().to_string());
        for (foreign, digest) in make::foreign() {
            assert_eq!(layout.names().get(&foreign), Some(&digest), "{name}: {foreign}");
        }
        let now = told(&store);
        drop(here);
        store.close().unwrap();
        let store = make::reopen(&dir);
        assert_eq!(told(&store), now, "{name}");
        assert_eq!(findings(&store), [""; 0], "{name}");
    }
}

/// Copied, it is checked against its files and begins another feed; all else is the same.
#[test]
fn a_copy_of_a_store_of_format_1_has_all_but_its_events() {
    for name in [CLOSED, KILLED] {
        let dir = moved(name);
        let store = make::reopen(&dir);
        assert!(store.open_report().copied, "{name}");
        let but_events = |lines: BTreeSet<String>| -> BTreeSet<String> {
            lines.into_iter().filter(|line| !line.starts_with("event ")).collect()
        };
        assert_eq!(but_events(told(&store)), but_events(lines(name)), "{name}");
        assert_eq!(findings(&store), [""; 0], "{name}");
    }
}

/// What is published comes back without the metadata.
#[test]
fn a_store_of_format_1_is_rebuilt() {
    for (name, salvage) in [(CLOSED, true), (CLOSED, false), (KILLED, true)] {
        let dir = placed(name);
        if !salvage {
            fs::remove_dir_all(dir.root().join(".orlop/metadata")).unwrap();
        }
        options().rebuild(dir.root()).unwrap();
        let store = make::reopen(&dir);
        assert_eq!(faults(&store), [""; 0], "{name}");
        let now = told(&store);
        let wanted = lines(name);
        let tags = wanted.iter().filter(|line| line.contains("/ tag ") && !line.contains(" changed "));
        for line in tags.chain(wanted.iter().filter(|line| line.contains(" referrer of "))) {
            assert!(now.contains(line), "{name}: {line}");
        }
    }
}

#[test]
fn rows_of_format_1_that_contradict_each_other_are_found() {
    let dir = placed(CONTRADICTED);
    let store = make::reopen(&dir);
    let expected: Vec<String> = lines(CONTRADICTED).into_iter().collect();
    assert_eq!(findings(&store), expected);
}

/// One damage of a store of the fixtures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Damage {
    store: String,
    /// Relative to the store.
    file: String,
    change: Spoil,
    /// What refuses to open it where it may not be rebuilt, as an `ErrorKind`; else it opens.
    #[serde(default)]
    refused: Option<String>,
    /// What the open reports.
    #[serde(default)]
    reports: Vec<String>,
    /// What `verify` finds.
    #[serde(default)]
    findings: Vec<String>,
    /// Tags that are lost with it where it is rebuilt.
    #[serde(default)]
    lost: Vec<String>,
    /// So are so many contents of repositories, which are in no published view.
    #[serde(default)]
    lost_contents: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Spoil {
    /// One byte of these offsets is another; from the end if it is negative.
    Flip(i64),
    /// So many bytes are left; so many fewer if it is negative.
    Truncate(i64),
    /// It is gone.
    Remove,
    /// It has this text.
    Write(String),
}

impl Spoil {
    fn apply(&self, path: &Path) {
        if path.exists() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mut bytes = fs::read(path).unwrap();
        let at = |place: i64, length: usize| {
            let place = isize::try_from(place).unwrap();
            if place < 0 { length.checked_add_signed(place).unwrap() } else { place.unsigned_abs() }
        };
        match self {
            Self::Flip(offset) => {
                let offset = at(*offset, bytes.len());
                bytes[offset] ^= 0x40;
            }
            Self::Truncate(length) => bytes.truncate(at(*length, bytes.len())),
            Self::Remove => return fs::remove_file(path).unwrap(),
            Self::Write(text) => bytes = text.clone().into_bytes(),
        }
        fs::write(path, bytes).unwrap();
    }
}

fn damages() -> Vec<Damage> {
    serde_json::from_slice(&fs::read(fixtures().join("damage.json")).unwrap()).unwrap()
}

#[test]
fn damaged_stores_of_format_1_give_their_findings() {
    let damages = damages();
    assert!(damages.len() >= 20);
    let mut others = Vec::new();
    for damage in &damages {
        let about = format!("{} {} {:?}", damage.store, damage.file, damage.change);
        let dir = placed(&damage.store);
        damage.change.apply(&dir.root().join(&damage.file));
        let found = match make::options().on_damage(OnDamage::Refuse).open(dir.root()) {
            Ok(store) => (None, reports(&store), findings(&store)),
            Err(error) => (Some(format!("{:?}", error.kind())), Vec::new(), Vec::new()),
        };
        if found != (damage.refused.clone(), damage.reports.clone(), damage.findings.clone()) {
            others.push(format!("{about}: {found:?}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Metadata that cannot be read are rebuilt by the next open, those that show it later by the one after; no name is lost but
/// those that must be.
#[test]
fn damaged_metadata_of_format_1_heal() {
    let (mut rebuilt, mut others) = (0, Vec::new());
    for damage in damages() {
        let about = format!("{} {} {:?}", damage.store, damage.file, damage.change);
        if damage.refused.is_none() && damage.findings != ["Corrupt"] {
            continue;
        }
        rebuilt += 1;
        let dir = placed(&damage.store);
        damage.change.apply(&dir.root().join(&damage.file));
        // The record of the format says what may be done at all; only a rebuild that was asked for passes it over.
        if matches!(damage.file.as_str(), ".orlop/FORMAT" | "oci-layout") {
            options().rebuild(dir.root()).unwrap();
        }
        let open = || make::options().on_damage(OnDamage::Rebuild).open(dir.root());
        let met = verified(&open().unwrap()).is_err();
        assert!(!met || damage.findings == ["Corrupt"], "{about}");
        let store = open().unwrap();
        assert_eq!(faults(&store), [""; 0], "{about}");
        let now = told(&store);
        let tags = lines(&damage.store)
            .into_iter()
            .filter(|line| line.contains("/ tag ") && !line.contains(" changed "));
        let lost: Vec<String> = tags.filter(|line| !now.contains(line)).collect();
        let lost: Vec<&str> = lost.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        let contents = lines(&damage.store).into_iter().filter(|line| line.contains("/ content "));
        let contents = contents.filter(|line| !now.contains(line)).count();
        if (&lost, contents) != (&damage.lost.iter().map(String::as_str).collect(), damage.lost_contents) {
            others.push(format!("{about}: {lost:?} {contents}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
    assert!(rebuilt >= 8, "{rebuilt}");
}

/// Version 0 was never released, and its rows are not those of version 1.
#[test]
fn a_store_of_no_format_is_refused_and_can_be_rebuilt() {
    let dir = placed(CLOSED);
    let path = dir.root().join(".orlop/FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    let record = text.lines().next().unwrap().replace("\"version\":1", "\"version\":0");
    fs::write(&path, format!("{record}\n{}\n", sha256(record.as_bytes()))).unwrap();
    fails(options().open(dir.root()), ErrorKind::Unsupported, &["version=0", "rebuild"]);
    fails(options().open_read_only(dir.root()), ErrorKind::Unsupported, &["version=0"]);
    options().rebuild(dir.root()).unwrap();
    let store = make::reopen(&dir);
    assert_eq!(faults(&store), [""; 0]);
    assert!(told(&store).iter().any(|line| line.starts_with("team/app/ tag v1 ")));
}

/// They were made in a directory of somebody's machine.
#[test]
fn the_fixtures_name_no_machine() {
    for name in [CLOSED, KILLED, CONTRADICTED, interrupted::INTERRUPTED] {
        for (path, _) in tree(&fixtures().join(name)) {
            let bytes = fs::read(fixtures().join(name).join(&path)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("orlop-test-"), "{name}/{path}");
        }
    }
}
