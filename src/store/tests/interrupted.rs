//! A publish that is interrupted leaves a file that is ours, whatever the next one does: it is never merged as an edit.

use std::path::Path;

use rustix::io::Errno;

use super::artifact::Artifact;
use crate::error::ErrorKind;
use crate::store::{Expect, Options, Publish, Repository, Store};
use crate::sys::fault::{Call, Fault, arm};

fn open(root: &Path) -> (Store, Repository) {
    let store = Options::new().publish(Publish::Manual).open_or_create(root).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    (store, here)
}

/// A tag that the interrupted publish was the first to show is removed after it, and must not come back.
fn removed_after(further: impl FnOnce(&Path)) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let mut batch = store.batch();
    let digest = Artifact::image("image", &[100]).add(&mut batch, &here).unwrap();
    batch.commit().unwrap();
    store.flush().unwrap();
    here.tag(&"t".parse().unwrap(), &digest, Expect::Absent).unwrap();
    // The new file has its name, and nobody learns whether that is durable.
    let armed = arm(Fault::new(Call::SyncDir, &root, Errno::IO));
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(armed.fired(), 1);
    drop((armed, here, store));

    let (store, here) = open(&root);
    here.untag(&"t".parse().unwrap(), Expect::Is(digest)).unwrap();
    drop((here, store));
    further(&root);

    let (store, here) = open(&root);
    store.flush().unwrap();
    assert_eq!(here.resolve(&"t".parse().unwrap()).unwrap(), None, "the tag came back");
    assert_eq!(store.reports(), []);
}

#[test]
fn the_file_of_an_interrupted_publish_is_not_merged_when_it_is_displaced() {
    removed_after(|_| {});
}

#[test]
fn the_file_of_an_interrupted_publish_is_ours_after_another_interruption() {
    removed_after(|root| {
        let (store, _) = open(root);
        let armed = arm(Fault::new(Call::Exchange, root, Errno::IO));
        assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(armed.fired(), 1);
    });
}

#[test]
fn an_edit_after_an_interrupted_publish_does_not_bring_a_tag_back() {
    removed_after(|root| {
        let index = root.join("index.json");
        let mut text = std::fs::read(&index).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("r:t"));
        text.push(b'\n');
        std::fs::write(&index, text).unwrap();
    });
}

/// A store whose publish wrote `name` as the first one and was interrupted, with `index.json` as another tool left it that read
/// what that publish was about to write. Answers what the store holds now.
struct Cut {
    _temp: tempfile::TempDir,
    root: std::path::PathBuf,
    first: crate::digest::Digest,
    second: crate::digest::Digest,
    foreign: crate::digest::Digest,
}

/// `since` happens between the snapshot of the publish and the end of the process.
fn cut(
    since: impl FnOnce(&Store, &Repository),
    edit: impl FnOnce(&mut Vec<serde_json::Value>, &Artifact),
) -> Cut {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let image = |name: &str| {
        let mut batch = store.batch();
        let digest = Artifact::image(name, &[100]).add(&mut batch, &here).unwrap();
        batch.commit().unwrap();
        digest
    };
    let (first, second) = (image("first"), image("second"));
    for name in ["moved", "still"] {
        here.tag(&name.parse().unwrap(), &first, Expect::Absent).unwrap();
    }
    store.flush().unwrap();
    // What the interrupted publish is about to show: `moved` is the second, and `new` is there.
    here.tag(&"moved".parse().unwrap(), &second, Expect::Any).unwrap();
    here.tag(&"new".parse().unwrap(), &second, Expect::Absent).unwrap();
    let armed = arm(Fault::new(Call::Exchange, &root, Errno::IO));
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(armed.fired(), 1);
    drop(armed);
    since(&store, &here);
    drop((here, store));

    // As the exchange and the other tool leave it.
    let foreign = Artifact::image("foreign", &[70]);
    put_blobs(&root, &foreign);
    let size = Artifact::image("second", &[100]).bytes.len();
    let listed = |name: &str| {
        let mut entry = foreign.entry(name);
        entry["digest"] = second.to_string().into();
        entry["size"] = size.into();
        entry
    };
    edit_index(&root, |entries| {
        entries.retain(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == "r:still");
        entries.extend([listed("r:moved"), listed("r:new")]);
        edit(entries, &foreign);
    });
    Cut { _temp: temp, root, first, second, foreign: foreign.digest() }
}

fn put_blobs(root: &Path, artifact: &Artifact) {
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    for part in artifact.parts.iter().chain([&artifact.bytes]) {
        let digest = crate::digest::Algorithm::Sha256.digest(part).to_string();
        std::fs::write(root.join("blobs").join(digest.replace(':', "/")), part).unwrap();
    }
}

/// In place, as an editor does.
fn edit_index(root: &Path, edit: impl FnOnce(&mut Vec<serde_json::Value>)) {
    let index = root.join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    edit(document["manifests"].as_array_mut().unwrap());
    std::fs::write(&index, document.to_string()).unwrap();
}

fn point(entries: &mut [serde_json::Value], name: &str, foreign: &Artifact) {
    let entry =
        entries.iter_mut().find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name);
    *entry.unwrap() = foreign.entry(name);
}

impl Cut {
    /// What the names stand for after the next open, and again after what that publishes; and what is reported.
    fn found(&self, rebuild: bool) -> (Vec<Option<crate::digest::Digest>>, Vec<crate::store::Report>) {
        let mut reports = Vec::new();
        let mut first = None;
        if rebuild {
            reports.extend(Options::new().rebuild(&self.root).unwrap().reports);
        }
        for _ in 0..2 {
            let (store, here) = open(&self.root);
            let name = |name: &str| here.resolve(&name.parse().unwrap()).unwrap().map(|found| found.digest);
            let names: Vec<_> = ["still", "moved", "new", "theirs"].map(name).to_vec();
            assert_eq!(*first.get_or_insert_with(|| names.clone()), names);
            store.flush().unwrap();
            reports.extend(store.reports());
        }
        (first.unwrap(), reports)
    }
}

#[test]
fn an_edit_of_an_interrupted_publish_is_taken_where_nothing_changed_here() {
    for rebuild in [false, true] {
        let cut = cut(
            |_, _| {},
            |entries, foreign| {
                point(entries, "r:still", foreign);
                entries.push(foreign.entry("r:theirs"));
            },
        );
        let (names, reports) = cut.found(rebuild);
        assert_eq!(
            names,
            [Some(cut.foreign), Some(cut.second), Some(cut.second), Some(cut.foreign)],
            "{reports:?}"
        );
        let taken = |report: &crate::store::Report| matches!(report, crate::store::Report::Taken { .. });
        assert!(rebuild || reports.iter().all(taken), "{reports:?}");
    }
}

#[test]
fn an_edit_of_an_interrupted_publish_undoes_nothing_that_was_acknowledged() {
    for rebuild in [false, true] {
        // Its own changes come back to it as if somebody else had made them.
        let cut = cut(
            |_, here| {
                here.untag(&"new".parse().unwrap(), Expect::Any).unwrap();
                let first = here.resolve(&"still".parse().unwrap()).unwrap().unwrap().digest;
                here.tag(&"moved".parse().unwrap(), &first, Expect::Any).unwrap();
            },
            |entries, foreign| entries.push(foreign.entry("r:theirs")),
        );
        let (names, reports) = cut.found(rebuild);
        assert_eq!(names, [Some(cut.first), Some(cut.first), None, Some(cut.foreign)], "{reports:?}");
    }
}

#[test]
fn a_manifest_removed_after_the_snapshot_of_an_interrupted_publish_stays_removed() {
    let cut = cut(
        |store, here| {
            let digest = here.resolve(&"new".parse().unwrap()).unwrap().unwrap().digest;
            let mut batch = store.batch();
            batch.delete_manifest(here, &digest);
            batch.commit().unwrap();
        },
        |entries, foreign| entries.push(foreign.entry("r:theirs")),
    );
    let (names, reports) = cut.found(false);
    assert_eq!(names, [Some(cut.first), None, None, Some(cut.foreign)], "{reports:?}");
    let (store, here) = open(&cut.root);
    assert!(here.manifest(&cut.second).unwrap().is_none(), "{reports:?}");
    drop(store);
}

#[test]
fn an_edit_of_a_name_that_an_interrupted_publish_changed_is_reported_and_kept() {
    let cut = cut(
        |_, _| {},
        |entries, foreign| {
            point(entries, "r:moved", foreign);
            entries.retain(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] != "r:new");
        },
    );
    let (names, reports) = cut.found(false);
    assert_eq!(names, [Some(cut.first), Some(cut.second), Some(cut.second), None], "{reports:?}");
    let conflict = crate::store::Report::Conflict {
        name: "r:moved".into(),
        ours: Some(cut.second),
        theirs: cut.foreign,
    };
    let kept = crate::store::Report::Kept { name: "r:new".into(), digest: cut.second };
    assert_eq!(reports, [conflict, kept]);
    let (store, here) = open(&cut.root);
    assert!(here.manifest(&cut.foreign).unwrap().is_some());
    drop(store);
}

/// The edit stands until a publish replaces it, and this one is interrupted before it does.
#[test]
fn an_edit_that_was_merged_is_not_merged_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let (store, here) = open(&root);
    let mut batch = store.batch();
    let first = Artifact::image("first", &[100]).add(&mut batch, &here).unwrap();
    batch.commit().unwrap();
    drop(here);
    store.close().unwrap();
    let foreign = Artifact::image("foreign", &[70]);
    put_blobs(&root, &foreign);
    edit_index(&root, |entries| {
        entries.push(foreign.entry("r:theirs"));
        entries.push(foreign.entry("r:removed"));
    });

    let (store, here) = open(&root);
    assert_eq!(store.reports().len(), 2);
    here.tag(&"new".parse().unwrap(), &first, Expect::Absent).unwrap();
    here.untag(&"removed".parse().unwrap(), Expect::Any).unwrap();
    let armed = arm(Fault::new(Call::Exchange, &root, Errno::IO));
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(armed.fired(), 1);
    drop((armed, here, store));

    let view = Options::new().open_read_only(&root).unwrap();
    assert_eq!(view.reports(), []);
    let here = view.repository(&"r".parse().unwrap());
    assert!(here.resolve(&"new".parse().unwrap()).unwrap().is_some());
    drop((view, here));
    for _ in 0..2 {
        let (store, here) = open(&root);
        assert_eq!(store.reports(), []);
        let name = |name: &str| here.resolve(&name.parse().unwrap()).unwrap().map(|found| found.digest);
        assert_eq!(["theirs", "removed", "new"].map(name), [Some(foreign.digest()), None, Some(first)]);
        store.flush().unwrap();
        assert_eq!(store.reports(), []);
    }
    assert!(std::fs::read_to_string(root.join("index.json")).unwrap().contains("r:new"));
}

/// Its size and times say nothing when it is written in place.
#[test]
fn a_file_that_was_merged_and_is_edited_again_is_merged_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    open(&root).0.close().unwrap();
    let foreign = Artifact::image("foreign", &[70]);
    put_blobs(&root, &foreign);
    edit_index(&root, |entries| entries.push(foreign.entry("r:one")));
    drop(open(&root));
    edit_index(&root, |entries| *entries = vec![foreign.entry("r:two")]);
    let (store, here) = open(&root);
    assert_eq!(
        here.resolve(&"two".parse().unwrap()).unwrap().map(|found| found.digest),
        Some(foreign.digest())
    );
    store.close().unwrap();
}
