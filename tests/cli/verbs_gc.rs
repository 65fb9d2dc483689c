//! `gc` and `lease`: what nothing needs goes, when it is time, and what it was.

use std::fs;
use std::time::Duration;

use orlop::{Answers, Digest, Options};
use serde_json::Value;

use crate::support::*;

/// The files of contents.
fn files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("s/blobs/sha256")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn at_once(place: &Place, more: &[&str]) -> Value {
    place.json(&[&["gc", "oci:s", "--grace", "0s"], more].concat())
}

#[test]
fn what_was_removed_is_collected_when_its_grace_is_over() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let kept = files(&place);
    place.push(&["oci:s:v2", "sub/b.txt"]);
    let all = files(&place);
    place.ok(&["rm", "-f", "oci:s:v2"]);
    let output = place.run(&["gc", "oci:s"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--grace 0s takes it at once"), "{}", text(&output.stderr));
    assert_eq!(files(&place), all);
    // The layer and the manifest; both artifacts have the same config.
    let expected = at_once(&place, &["--dry-run"]);
    assert_eq!((&expected["dryRun"], &expected["contents"]), (&true.into(), &2.into()), "{expected}");
    assert_eq!(files(&place), all, "a dry run removed something");
    let done = at_once(&place, &[]);
    assert_eq!((&done["dryRun"], &done["contents"]), (&false.into(), &2.into()), "{done}");
    assert_eq!(done["bytes"], expected["bytes"]);
    assert_eq!(files(&place), kept);
    place.ok(&["pull", "oci:s:v1", "-o", "out"]);
    place.ok(&["verify", "oci:s", "--index", "--read-data"]);
    assert_eq!(
        place.ok(&["gc", "oci:s", "--grace", "0s"]),
        "Removed 0 tags, 0 manifests, 0 contents from oci:s\nFreed 0 B\n"
    );
}

#[test]
fn untagged_manifests_stay_unless_told_otherwise() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:v1", "a.txt"]);
    place.ok(&["untag", "oci:s:v1"]);
    let reference = format!("oci:s@{one}");
    assert_eq!(at_once(&place, &[])["manifests"], 0);
    assert_eq!(at_once(&place, &["--untagged-older-than", "1d"])["manifests"], 0);
    place.ok(&["resolve", &reference]);
    assert_eq!(at_once(&place, &["--untagged-older-than", "0s", "--dry-run"])["manifests"], 1);
    assert_eq!(at_once(&place, &["--untagged-older-than", "0s"])["manifests"], 1);
    place.fails(3, &["resolve", &reference]);
    assert_eq!(files(&place), [""; 0]);
}

#[test]
fn the_last_tags_stay_and_those_that_match() {
    let place = Place::with_files();
    for name in ["v1", "n1", "n2", "n3", "n4"] {
        place.push(&[&format!("oci:s:{name}"), "a.txt", "--annotation", &format!("name={name}")]);
        place.push(&[&format!("oci:s:other:{name}"), "a.txt", "--annotation", &format!("name={name}")]);
        std::thread::sleep(Duration::from_millis(2));
    }
    let tags = |repository: &str| {
        let listed = place.json(&["repo", "tags", repository]);
        let tags = listed["tags"].as_array().unwrap();
        tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let policy = ["--keep-last", "2", "--keep-tags", "v*", "--repository", "other"];
    assert_eq!(at_once(&place, &[&policy[..], &["--dry-run"]].concat())["tags"], 2);
    assert_eq!(tags("oci:s:other").len(), 5);
    let done = at_once(&place, &policy);
    assert_eq!(done["tags"], 2, "{done}");
    assert_eq!(tags("oci:s:other"), ["n3", "n4", "v1"]);
    assert_eq!(tags("oci:s").len(), 5, "another repository lost tags");
    // What only those tags named goes with them, but for what the other repository holds.
    assert_eq!((&done["manifests"], &done["contents"]), (&2.into(), &0.into()), "{done}");
    place.ok(&["verify", "oci:s", "--index"]);
}

#[test]
fn arguments_that_make_no_sense_change_nothing() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    for args in [
        &["gc", "oci:s", "--keep-last", "0"][..],
        &["gc", "oci:s", "--keep-tags", "a b"],
        &["gc", "oci:s", "--repository", "A"],
        &["gc", "oci:s:v1"],
        &["gc", "oci:s", "--grace", "soon"],
    ] {
        place.fails(2, args);
    }
    let error = place.fails(3, &["gc", "oci:s", "--repository", "team/app"]);
    assert!(error.contains("repository=team/app"), "{error}");
    place.fails(3, &["gc", "oci:nowhere"]);
}

#[test]
fn a_layout_of_another_tool_is_only_touched_when_that_is_asked_for() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("v1", &[(None, b"one")]);
    layout.blob(b"loose");
    let before = listing(&place.path("s"));
    let refused = place.fails(9, &["gc", "oci:s"]);
    assert!(refused.contains("--unknown"), "{refused}");
    assert_eq!(listing(&place.path("s")), before);
    // Somebody may be about to name it.
    assert_eq!(place.json(&["gc", "oci:s", "--unknown", "--plain"])["unknown"], 0);
    assert_eq!(
        place.json(&["gc", "oci:s", "--unknown", "--plain", "--grace", "0s", "--dry-run"])["unknown"],
        1
    );
    assert_eq!(files(&place).len(), 4);
    assert_eq!(place.json(&["gc", "oci:s", "--unknown", "--plain", "--grace", "0s"])["unknown"], 1);
    assert_eq!(files(&place).len(), 3);
    assert!(!place.path("s/.orlop").exists());
    place.ok(&["verify", "oci:s", "--read-data"]);
}

#[test]
fn leases_are_listed_and_removed_and_keep_what_they_hold() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let held = {
        let store = Options::new().answers(Answers::Local).open(place.path("s")).unwrap();
        let lease = store.lease(Duration::from_secs(3600), "a copy \u{1b}[2J").unwrap();
        let held: Digest = store.default_repository().push_bytes("held").unwrap().digest;
        lease.add(&[held]).unwrap();
        store.close().unwrap();
        place.path("s/blobs/sha256").join(held.encoded().to_string())
    };
    assert_eq!(at_once(&place, &[])["contents"], 0);
    assert!(held.exists());
    let listed = place.json(&["lease", "ls", "oci:s"]);
    let row = &listed["leases"][0];
    assert_eq!((&row["contents"], row["label"].as_str()), (&1.into(), Some("a copy \u{1b}[2J")), "{listed}");
    let shown = place.ok(&["lease", "ls", "oci:s"]);
    assert!(shown.contains("a copy \\u{1b}[2J"), "{shown}");
    let id = row["id"].as_str().unwrap();
    let absent = "0".repeat(32);
    place.fails(3, &["lease", "rm", "oci:s", id, &absent]);
    place.fails(2, &["lease", "rm", "oci:s", "x"]);
    assert_eq!(place.ok(&["lease", "ls", "-q", "oci:s"]).trim(), id, "something was removed");
    assert_eq!(
        place.ok(&["lease", "rm", "-f", "oci:s", id, &absent]),
        format!("Removed lease {id}\nMissing lease {absent}\n")
    );
    assert_eq!(place.ok(&["lease", "ls", "-q", "oci:s"]), "");
    assert_eq!(at_once(&place, &[])["contents"], 1);
    assert!(!held.exists());
}
