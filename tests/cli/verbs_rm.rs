//! `rm`: tags with what only they name, manifests with their tags, repositories.

use serde_json::Value;

use crate::support::*;

fn names(place: &Place) -> Vec<String> {
    let listed = place.json(&["ls", "oci:s", "--all"]);
    let rows = listed["tags"].as_array().unwrap().iter().chain(listed["untagged"].as_array().unwrap());
    rows.map(|row| row["reference"].as_str().unwrap().to_owned()).collect()
}

fn references(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|view| view["reference"].as_str().unwrap()).collect()
}

#[test]
fn a_tag_goes_with_the_manifest_that_only_it_names() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:v1", "a.txt"]);
    let two = place.push(&["oci:s:v2", "sub/b.txt"]);
    place.ok(&["tag", "oci:s:v1", "stable"]);
    // Another tag keeps it.
    assert_eq!(place.ok(&["rm", "--force", "oci:s:v1"]), "Untagged oci:s:v1\n");
    assert_eq!(names(&place), ["oci:s:stable", "oci:s:v2"]);
    let (first, second) = if one < two { (&one, &two) } else { (&two, &one) };
    assert_eq!(
        place.ok(&["rm", "-f", "oci:s:stable", "oci:s:v2"]),
        format!("Untagged oci:s:stable\nUntagged oci:s:v2\nDeleted oci:s@{first}\nDeleted oci:s@{second}\n")
    );
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn a_digest_goes_with_all_its_tags() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:team/app:v1,v2", "a.txt"]);
    let reference = format!("oci:s:team/app@{one}");
    let removed = place.json(&["rm", "-f", &reference]);
    assert_eq!(references(&removed["untagged"]), ["oci:s:team/app:v1", "oci:s:team/app:v2"]);
    assert_eq!(references(&removed["deleted"]), [&*reference]);
    assert_eq!(removed["missing"].as_array().unwrap().len(), 0);
    place.fails(3, &["resolve", "oci:s:team/app:v1"]);
    place.fails(3, &["resolve", &reference]);
}

#[test]
fn an_index_goes_with_what_only_it_lists() {
    let place = Place::with_files();
    let [one, two, three] = [("v1", "a.txt"), ("v2", "sub/b.txt"), ("v3", "a.txt")].map(|(tag, file)| {
        let note = format!("note={tag}");
        place.push(&[&format!("oci:s:{tag}"), file, "--annotation", &note])
    });
    let index = |tag: &str, members: &[&str]| {
        let name = format!("oci:s:{tag}");
        place.ok(&[&["manifest", "index", "create", "-q", &name], members].concat()).trim().to_owned()
    };
    let first = index("first", &["v1", "v2"]);
    let second = index("second", &["v2", "v3"]);
    place.ok(&["untag", "oci:s:v1", "v2"]);
    // What an index lists is not to be had alone.
    let refused = place.fails(1, &["rm", "-f", &format!("oci:s@{one}")]);
    assert!(refused.contains("hint: nothing was deleted") && refused.contains(&first), "{refused}");
    let gone = |removed: &Value| {
        let mut gone: Vec<String> = references(&removed["deleted"]).into_iter().map(str::to_owned).collect();
        gone.sort();
        gone
    };
    let expected = |digests: &[&str]| {
        let mut expected: Vec<String> = digests.iter().map(|digest| format!("oci:s@{digest}")).collect();
        expected.sort();
        expected
    };
    // The second image is in the other index too, the third has a tag of its own.
    assert_eq!(gone(&place.json(&["rm", "-f", "oci:s:first"])), expected(&[&first, &one]));
    assert_eq!(gone(&place.json(&["rm", "-f", "oci:s:second"])), expected(&[&second, &two]));
    assert_eq!(names(&place), ["oci:s:v3"]);
    assert_eq!(place.ok(&["resolve", "oci:s:v3"]).trim(), three);
}

#[test]
fn what_is_not_there_stops_all_of_it_unless_forced() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:v1", "a.txt"]);
    // Nobody can be asked here.
    let refused = place.fails(9, &["rm", "oci:s:v1"]);
    assert!(refused.contains("hint: --force"), "{refused}");
    let missing = place.run(&["rm", "oci:s:v1", "oci:s:v11"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("references=oci:s:v11"), "{}", text(&missing.stderr));
    assert_eq!(names(&place), ["oci:s:v1"], "something went");
    let absent = format!("oci:s@sha256:{}", "0".repeat(64));
    let removed = place.json(&["rm", "-f", "oci:s:v1", "oci:s:v11", &absent]);
    assert_eq!(removed["missing"], serde_json::json!(["oci:s:v11", absent]));
    assert_eq!(references(&removed["deleted"]), [format!("oci:s@{one}")]);
    assert_eq!(place.ok(&["rm", "-f", "oci:s:v1"]), "Missing oci:s:v1\n");
}

#[test]
fn only_what_is_named_in_full_and_in_one_layout() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["oci:t:v1", "a.txt"]);
    for args in [
        &["rm", "-f", "oci:s"][..],
        &["rm", "-f", &format!("oci:s@{}", &one[..20])],
        &["rm", "-f", "oci:s:v1", "oci:t:v1"],
        &["rm", "-f", "--repository", &format!("oci:s@{one}")],
    ] {
        place.fails(2, args);
    }
    assert_eq!(names(&place), ["oci:s:v1"]);
    place.fails(3, &["rm", "-f", "oci:nowhere:v1"]);
}

#[test]
fn a_repository_goes_with_all_that_it_holds() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["oci:s:team/app:v1", "a.txt"]);
    place.push(&["oci:s:team:v1", "a.txt"]);
    place.fails(3, &["rm", "--repository", "oci:s:team/apq"]);
    assert_eq!(
        place.ok(&["rm", "-f", "--repository", "oci:s:team/app", "oci:s:nobody"]),
        "Deleted repository oci:s:team/app\nMissing oci:s:nobody\n"
    );
    assert_eq!(names(&place), ["oci:s:v1", "oci:s:team:v1"]);
}

#[test]
fn a_plain_layout_stays_one() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let one = layout.artifact("v1", &[(None, b"one")]);
    layout.artifact("v2", &[(None, b"two")]);
    assert_eq!(
        place.ok(&["rm", "-f", "--plain", "oci:s:v1"]),
        format!("Untagged oci:s:v1\nDeleted oci:s@{one}\n")
    );
    assert!(!place.path("s/.orlop").exists());
    assert_eq!(names(&place), ["oci:s:v2"]);
}
