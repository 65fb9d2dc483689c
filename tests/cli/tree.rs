//! The tree: sizes, the manifests of an index, and what is missing, left out on purpose or drawn elsewhere.

use std::fs;

use orlop::Digest;
use serde_json::json;

use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout of another tool with an index of two platforms, one of which has a referrer.
fn multi(place: &Place) -> (Layout, [Digest; 3], Digest) {
    let mut layout = Layout::new(place.path("l"));
    let one = layout.artifact("one", &[(Some("x"), &[1; 5000])]);
    let two = layout.artifact("two", &[(Some("x"), &[2; 7000])]);
    let entry = |layout: &Layout, digest: Digest, architecture: &str| {
        let path = layout.root.join("blobs/sha256").join(digest.encoded().to_string());
        json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": fs::metadata(path).unwrap().len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let entries = [entry(&layout, one, "amd64"), entry(&layout, two, "arm64"), entry(&layout, one, "s390x")];
    let list = layout.document(
        "multi",
        INDEX,
        &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
    );
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
    let signature = layout.document(
        "signature",
        MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature", "config": config,
            "layers": [], "subject": entries[0]}),
    );
    (layout, [list, one, two], signature)
}

#[test]
fn the_manifests_of_an_index_are_drawn_with_what_is_attached_to_them() {
    let place = Place::new();
    let (_, [list, one, two], signature) = multi(&place);
    let drawn = place.ok(&["tree", "oci:l:multi"]);
    let expected = [
        format!("oci:l@{list} ("),
        format!("\u{251c}\u{2500}\u{2500} [linux/amd64] {one} (5."),
        "\u{2502}   \u{2514}\u{2500}\u{2500} application/x-signature".to_owned(),
        format!("\u{2502}       \u{2514}\u{2500}\u{2500} {signature} ("),
        format!("\u{251c}\u{2500}\u{2500} [linux/arm64] {two} (7."),
        format!("\u{2514}\u{2500}\u{2500} [linux/s390x] {one} [shared]"),
    ];
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{drawn}");
    for (line, expected) in lines.iter().zip(&expected) {
        assert!(line.starts_with(expected.as_str()), "{expected}: {drawn}");
    }
    assert_eq!(place.ok(&["tree", "-q", "oci:l:multi"]).trim(), signature.to_string());
    let json = place.json(&["tree", "oci:l:multi"]);
    assert_eq!(json["manifests"][0]["platform"]["architecture"], "amd64");
    assert_eq!(json["manifests"][0]["referrers"][0]["digest"], signature.to_string());
    assert_eq!(json["manifests"][2]["status"], "shared");
    assert_eq!(json["referrers"], json!([]));
    let filter = ["tree", "oci:l:multi", "--artifact-type", "application/x-signature"];
    assert_eq!(place.ok(&filter).lines().count(), 1, "a type asks for referrers of the root");
}

#[test]
fn what_is_missing_is_told_from_what_was_left_out() {
    let place = Place::new();
    let (layout, [list, one, two], _) = multi(&place);
    let path = |digest: &Digest| layout.root.join("blobs/sha256").join(digest.encoded().to_string());
    fs::remove_file(path(&Digest::of(&[1; 5000]))).unwrap();
    fs::remove_file(path(&two)).unwrap();
    let mut entries = layout.entries.clone();
    entries.retain(|entry| entry["digest"] != two.to_string());
    Layout { root: layout.root.clone(), entries }.publish();
    for taken_in in [false, true] {
        if taken_in {
            place.ok(&["init", "oci:l"]);
        }
        let drawn = place.ok(&["tree", "oci:l:multi"]);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[0].starts_with(&format!("oci:l@{list} (")), "{drawn}");
        assert!(lines[0].ends_with("[missing: 1 content] [sparse: 1 of 2 manifests absent]"), "{drawn}");
        assert!(lines[1].contains(&one.to_string()) && lines[1].ends_with("[missing: 1 content]"), "{drawn}");
        assert!(lines[4].contains(&two.to_string()) && lines[4].ends_with("[absent]"), "{drawn}");
        let json = place.json(&["tree", "oci:l:multi"]);
        assert_eq!(json["missing"], json!([Digest::of(&[1; 5000]).to_string()]));
        assert_eq!(json["manifests"][1]["status"], "absent");
    }
    // A subject that is not there is shown all the same, with what refers to it.
    let mut orphaned = Layout::new(place.path("o"));
    let subject = Digest::of(b"nowhere");
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
    let orphan = orphaned.document(
        "orphan",
        MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "config": config, "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 9}}),
    );
    let drawn = place.ok(&["tree", &format!("oci:o@{subject}")]);
    assert!(drawn.starts_with(&format!("oci:o@{subject} [missing]\n")), "{drawn}");
    assert!(drawn.contains(&orphan.to_string()), "{drawn}");
    place.fails(3, &["tree", &format!("oci:o@{}", Digest::of(b"unknown"))]);
}
