//! What somebody who means harm can hand to the command line; `tests/store/hostile.rs` has the table of threats.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

fn all(root: &Path, out: &mut Vec<(String, u32, bool)>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        out.push((path.display().to_string(), meta.permissions().mode() & 0o7777, meta.is_dir()));
        if meta.is_dir() {
            all(&path, out);
        }
    }
}

/// Whatever the umask is, nobody else may write into a store, and its contents nobody at all.
#[test]
fn nothing_of_a_store_can_be_written_by_others() {
    for umask in ["000", "022", "077"] {
        let place = Place::with_files();
        let script = format!("umask {umask}; exec {} push oci:store:v1 a.txt", env!("CARGO_BIN_EXE_orlop"));
        let status = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
        assert!(status.status.success(), "{}", text(&status.stderr));
        let mut found = Vec::new();
        all(&place.path("store"), &mut found);
        assert!(found.len() > 8, "{found:?}");
        for (path, mode, is_dir) in &found {
            assert_eq!(mode & 0o022, 0, "umask={umask}: others may write {path}, mode={mode:o}");
            assert_eq!(mode & 0o7000, 0, "umask={umask}: {path}, mode={mode:o}");
            if path.contains("/blobs/") && !is_dir {
                assert_eq!(mode & 0o222, 0, "umask={umask}: content can be written: {path}, mode={mode:o}");
            }
        }
        let owner = fs::metadata(place.path("store")).unwrap().uid();
        assert_eq!(owner, fs::metadata(place.path("")).unwrap().uid());
    }
}

/// Names and annotations of a layout reach the terminal as text, by every verb that prints them.
#[test]
fn text_of_a_layout_reaches_the_terminal_as_text() {
    let place = Place::with_files();
    place.push(&["--plain", "oci:layout:v1", "a.txt"]);
    let path = place.path("layout/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}";
    let mut entry = index["manifests"][0].clone();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("v2{evil}"), "note": evil });
    entry["artifactType"] = json!(format!("a/{evil}"));
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    let name = format!("oci:layout:v2{evil}");
    let verbs: [&[&str]; 8] = [
        &["ls", "oci:layout"],
        &["ls", "oci:layout", "--format", "json"],
        &["verify", "oci:layout"],
        &["inspect", "oci:layout:v1"],
        &["discover", "oci:layout:v1"],
        &["resolve", &name],
        &["tag", &name, "v3"],
        &["repo", "tags", "oci:layout"],
    ];
    for args in verbs {
        let output = place.run(args);
        for bytes in [&output.stdout, &output.stderr] {
            let printed = text(bytes);
            let odd =
                printed.chars().find(|c| (c.is_control() && *c != '\n' && *c != '\t') || *c == '\u{202e}');
            assert_eq!(odd, None, "{args:?}: {printed:?}");
        }
    }
}

/// A reference is a reference, and never a path beside the layout.
#[test]
fn a_reference_never_leads_out_of_the_layout() {
    let place = Place::with_files();
    place.push(&["oci:layout:v1", "a.txt"]);
    place.write("secret", "secret");
    let before = tree(&place.path(""));
    for reference in
        ["@sha256:../../../secret", "@sha256:..", ":../../secret", ":a/../../secret", "@../secret:aa", "@:"]
    {
        let whole = format!("oci:layout{reference}");
        for args in [
            vec!["pull", &whole],
            vec!["resolve", &whole],
            vec!["blob", "fetch", &whole, "--output", "out"],
            vec!["manifest", "fetch", &whole],
        ] {
            let output = place.run(&args);
            assert!(!output.status.success(), "{args:?}");
            assert!(!text(&output.stdout).contains("secret"), "{args:?}");
        }
    }
    assert_eq!(tree(&place.path("")), before);
}
