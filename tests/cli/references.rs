//! What a reference may look like, and what it stands for.

use crate::support::*;

#[test]
fn the_beginning_of_a_digest_is_enough() {
    let place = Place::with_files();
    let one = place.push(&["oci:s:v1", "a.txt"]);
    let two = place.push(&["oci:s:team/app:v1", "sub/b.txt"]);
    let short = |digest: &str| digest[..7 + 12].to_owned();
    for (reference, digest) in
        [(format!("oci:s@{}", short(&one)), &one), (format!("oci:s:team/app@{}", short(&two)), &two)]
    {
        assert_eq!(place.ok(&["resolve", &reference]).trim(), digest);
        assert_eq!(
            place.ok(&["manifest", "fetch", "--descriptor", &reference]).matches(digest.as_str()).count(),
            1
        );
        place.ok(&["tag", &reference, "again"]);
        place.ok(&["attach", &reference, "--artifact-type", "a/b", "a.txt"]);
        assert!(place.ok(&["tree", &reference]).contains(digest.as_str()));
        place.ok(&["cp", &reference, "oci:copy"]);
        place.ok(&["pull", &reference, "-o", "out"]);
    }
    let hello = orlop::Digest::of(b"hello\n").to_string();
    assert_eq!(place.ok(&["blob", "fetch", &format!("oci:s@{}", short(&hello)), "-o", "-"]), "hello\n");

    // Of another repository, of nothing, too short, or not a digest at all.
    place.fails(3, &["resolve", &format!("oci:s@{}", short(&two))]);
    place.fails(3, &["resolve", "oci:s@sha256:0123456789ab"]);
    let error = place.fails(2, &["resolve", "oci:s@sha256:012"]);
    assert!(error.contains("sha256:012"), "{error}");
    place
        .fails(2, &["resolve", &format!("oci:s@{}", short(&one).to_uppercase().replace("SHA256", "sha256"))]);
    // What is to be written is named in full.
    place.fails(2, &["push", &format!("oci:s@{}", short(&one)), "a.txt"]);
    place.fails(2, &["blob", "push", &format!("oci:s@{}", short(&hello)), "a.txt"]);
    place.fails(2, &["blob", "delete", "-f", &format!("oci:s@{}", short(&hello))]);
}

#[test]
fn a_layout_path_with_a_colon_is_refused() {
    let place = Place::with_files();
    for args in [
        &["push", "--oci-layout-path", "x:y", "v1", "a.txt"][..],
        &["cp", "--from-oci-layout-path", "x:y", "v1", "oci:z"],
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("x:y"), "{}", text(&output.stderr));
    }
    assert!(!place.path("x").exists());
}

#[test]
fn a_verb_that_finds_nothing_makes_no_store() {
    let place = Place::with_files();
    Layout::new(place.path("l")).artifact("v1", &[(Some("x"), b"1")]);
    let before = listing(&place.path("l"));
    place.fails(3, &["tag", "oci:l:none", "v2"]);
    place.fails(3, &["attach", "oci:l:none", "--artifact-type", "a/b", "a.txt"]);
    assert_eq!(listing(&place.path("l")), before);
    place.ok(&["tag", "oci:l:v1", "v2"]);
    assert!(place.path("l/.orlop").exists());
}
