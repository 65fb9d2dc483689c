//! `cp` between layouts.

use std::fs;

use crate::support::*;

/// A store `a` with an artifact of a large file and an SBOM attached to it; their digests.
fn source(place: &Place) -> (String, String) {
    place.write("large.bin", vec![7; 1_000_000]);
    let artifact = place.push(&["oci:a:v1", "large.bin", "a.txt"]);
    let sbom = place.ok(&["attach", "-q", "oci:a:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    (artifact, sbom.trim().to_owned())
}

#[test]
fn an_artifact_is_copied_under_its_name_or_another() {
    let place = Place::with_files();
    let (artifact, sbom) = source(&place);
    assert_eq!(
        place.ok(&["cp", "oci:a:v1", "oci:b"]),
        format!("Copied oci:a:v1 => oci:b\nDigest: {artifact}\n")
    );
    assert_eq!(place.ok(&["resolve", "oci:b:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["discover", "-q", "oci:b:v1"]), "", "what is attached stays without -r");
    place.ok(&["cp", "-r", "oci:a:v1", "oci:b:team/app:v2,latest"]);
    for tag in ["v2", "latest"] {
        assert_eq!(place.ok(&["resolve", &format!("oci:b:team/app:{tag}")]).trim(), artifact);
    }
    assert_eq!(place.ok(&["discover", "-q", "oci:b:team/app:v2"]).trim(), sbom);
    place.ok(&["pull", "oci:b:v1", "-o", "out"]);
    assert_eq!(fs::read(place.path("out/large.bin")).unwrap(), vec![7; 1_000_000]);
    // By digest nothing is named; the subject comes with what is attached to it.
    assert_eq!(place.ok(&["cp", "-q", &format!("oci:a@{sbom}"), "oci:c"]).trim(), sbom);
    assert_eq!(place.ok(&["resolve", &format!("oci:c@{artifact}")]).trim(), artifact);
    assert_eq!(place.ok(&["ls", "-q", "oci:c"]), "");
}

#[test]
fn a_layout_is_copied_whole() {
    let place = Place::with_files();
    let (artifact, sbom) = source(&place);
    let other = place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    place.ok(&["cp", "oci:a", "oci:b", "--plain"]);
    let mut names: Vec<_> =
        fs::read_dir(place.path("b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    assert_eq!(place.ok(&["resolve", "oci:b:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["resolve", "oci:b:lib/other:v1"]).trim(), other);
    assert_eq!(place.ok(&["discover", "-q", "oci:b:v1"]).trim(), sbom);
    let again = place.json(&["cp", "oci:a", "oci:b", "--plain"]);
    assert_eq!((again["copied"].as_u64(), again["bytes"].as_u64()), (Some(0), Some(0)), "{again}");
    let error = place.fails(2, &["cp", "oci:a", "oci:b:v1"]);
    assert!(error.contains("a whole layout cannot be copied to one name"), "{error}");
}

#[test]
fn the_flags_of_oras_name_both_sides() {
    let place = Place::with_files();
    let (artifact, _) = source(&place);
    place.ok(&["cp", "--from-oci-layout", "a:v1", "--to-oci-layout", "b:one"]);
    place.ok(&["copy", "--from-oci-layout-path", "a", "v1", "--to-oci-layout-path", "b", "two"]);
    for tag in ["one", "two"] {
        assert_eq!(place.ok(&["resolve", &format!("oci:b:{tag}")]).trim(), artifact);
    }
}

#[test]
fn damage_and_absence_are_told_apart() {
    let place = Place::with_files();
    let (artifact, _) = source(&place);
    let mut layout = Layout::new(place.path("foreign"));
    layout.artifact("v1", &[(Some("x"), b"some content"), (Some("y"), b"other content")]);
    let blob = |content: &[u8]| {
        place.path("foreign/blobs/sha256").join(orlop::Digest::of(content).encoded().to_string())
    };
    fs::write(blob(b"some content"), "some c0ntent").unwrap();
    let error = place.fails(5, &["cp", "oci:foreign:v1", "oci:b"]);
    assert!(error.contains(&orlop::Digest::of(b"some content").to_string()), "{error}");
    fs::remove_file(blob(b"some content")).unwrap();
    let error = place.fails(4, &["cp", "oci:foreign:v1", "oci:b"]);
    assert!(error.contains(&orlop::Digest::of(b"some content").to_string()), "{error}");
    assert_eq!(place.ok(&["ls", "-q", "oci:b"]), "", "no tag moved");
    place.fails(3, &["cp", "oci:a:none", "oci:b"]);
    place.fails(3, &["cp", "oci:none:v1", "oci:b"]);
    place.fails(2, &["cp", "oci:a:v1"]);
    // Damage at the destination is healed by the same copy; without hashing, it is not seen.
    place.ok(&["cp", "oci:a:v1", "oci:c", "--no-link"]);
    let copy =
        place.path("c/blobs/sha256").join(orlop::Digest::of(&vec![7; 1_000_000]).encoded().to_string());
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, vec![8; 1_000_000]).unwrap();
    assert_eq!(place.json(&["cp", "oci:a:v1", "oci:c", "--no-verify"])["copied"], 0);
    assert_eq!(place.json(&["cp", "oci:a:v1", "oci:c"])["bytes"], 1_000_000);
    assert_eq!(fs::read(&copy).unwrap(), vec![7; 1_000_000]);
    assert_eq!(place.ok(&["resolve", "oci:c:v1"]).trim(), artifact);
}

#[test]
fn names_that_cannot_be_carried_are_told() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("a"));
    layout.artifact("v1", &[(Some("x"), b"1")]);
    layout.artifact("My Name", &[(Some("x"), b"2")]);
    let output = place.run(&["cp", "oci:a", "oci:b"]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("first=My Name"), "{}", text(&output.stderr));
    assert_eq!(place.ok(&["ls", "oci:b"]).lines().count(), 2, "what can be carried is there");
    place.ok(&["cp", "oci:a:My Name", "oci:b:renamed"]);
    place.ok(&["resolve", "oci:b:renamed"]);
}
