//! `verify` and `repair`.

use std::fs;
use std::path::PathBuf;

use orlop::Digest;

use crate::support::*;

fn blob(place: &Place, layout: &str, content: &[u8]) -> PathBuf {
    place.path(&format!("{layout}/blobs/sha256")).join(Digest::of(content).encoded().to_string())
}

/// Writes other bytes under a name, as a bad disk would.
fn spoil(path: &PathBuf, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn damage_is_found_moved_away_and_repaired() {
    let place = Place::with_files();
    place.write("large.bin", vec![7; 200_000]);
    let large = vec![7; 200_000];
    place.push(&["oci:a:v1", "large.bin", "a.txt"]);
    place.ok(&["cp", "-r", "oci:a", "oci:b", "--no-link"]);
    let sound = place.ok(&["verify", "oci:a", "--read-data", "--index"]);
    assert!(sound.contains("nothing is damaged or missing"), "{sound}");
    assert_eq!(place.json(&["verify", "oci:a"])["findings"], serde_json::json!([]));

    let mut other = large.clone();
    other[9] = 8;
    spoil(&blob(&place, "a", &large), &other);
    // Its size is right, so only hashing tells; and a reader changes nothing.
    place.ok(&["verify", "oci:a"]);
    let before = listing(&place.path("a"));
    let output = place.run(&["verify", "oci:a", "--read-data", "-q"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(text(&output.stdout).trim(), Digest::of(&large).to_string());
    assert!(text(&output.stderr).contains("hint: `orlop repair oci:a --from"), "{}", text(&output.stderr));
    assert_eq!(listing(&place.path("a")), before);
    let output = place.run(&["verify", "oci:a", "--read-data", "--quarantine"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout).contains("(moved to quarantine)"), "{}", text(&output.stdout));
    assert!(!blob(&place, "a", &large).exists());
    assert_eq!(fs::read_dir(place.path("a/.orlop/quarantine")).unwrap().count(), 1);
    // By now it is only missing.
    assert_eq!(place.run(&["verify", "oci:a"]).status.code(), Some(4));

    let repaired = place.json(&["repair", "oci:a", "--from", "oci:b"]);
    assert_eq!(repaired["healed"], serde_json::json!([Digest::of(&large).to_string()]));
    place.ok(&["verify", "oci:a", "--read-data", "--index"]);
    assert_eq!(fs::read(blob(&place, "a", &large)).unwrap(), large);
    assert!(place.ok(&["repair", "oci:a", "--from", "oci:b"]).contains("0 healed"));
}

#[test]
fn a_layout_of_another_tool_is_verified_and_repaired_as_it_is() {
    let place = Place::new();
    for name in ["l", "good"] {
        let mut layout = Layout::new(place.path(name));
        layout.artifact("v1", &[(Some("x"), b"some content"), (Some("y"), b"other content")]);
    }
    place.ok(&["verify", "oci:l", "--read-data"]);
    spoil(&blob(&place, "l", b"some content"), b"some c0ntent");
    assert_eq!(place.run(&["verify", "oci:l", "--read-data"]).status.code(), Some(5));
    spoil(&blob(&place, "l", b"other content"), b"short");
    let output = place.run(&["verify", "oci:l"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    fs::remove_file(blob(&place, "l", b"other content")).unwrap();
    spoil(&blob(&place, "l", b"some content"), b"some content");
    let output = place.run(&["verify", "oci:l"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains(&Digest::of(b"other content").to_string()),
        "{}",
        text(&output.stdout)
    );
    spoil(&blob(&place, "l", b"some content"), b"some c0ntent");
    place.ok(&["repair", "oci:l", "--from", "oci:good", "--plain"]);
    place.ok(&["verify", "oci:l", "--read-data"]);
    assert!(!place.path("l/.orlop").exists());
}

#[test]
fn what_the_other_layout_lacks_is_told() {
    let place = Place::with_files();
    place.push(&["oci:a:v1", "a.txt"]);
    place.push(&["oci:b:v1", "sub/b.txt"]);
    fs::remove_file(blob(&place, "a", b"hello\n")).unwrap();
    let output = place.run(&["repair", "oci:a", "--from", "oci:b"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains(&format!("first={}", Digest::of(b"hello\n"))),
        "{}",
        text(&output.stderr)
    );
    place.fails(2, &["repair", "oci:a"]);
    place.fails(3, &["repair", "oci:a", "--from", "oci:none"]);
    place.fails(3, &["verify", "oci:none"]);
    place.fails(2, &["verify", "oci:a:v1"]);
}

#[test]
fn a_verification_goes_on_where_it_was() {
    let place = Place::with_files();
    place.push(&["oci:a:v1", "a.txt"]);
    let middle = Digest::of(b"hello\n");
    place.write("state", format!("oci:a\n{middle}\n"));
    let all = place.json(&["verify", "oci:a"])["contents"].as_u64().unwrap();
    let rest = place.json(&["verify", "oci:a", "--state", "state"])["contents"].as_u64().unwrap();
    assert!(rest < all, "{rest} {all}");
    assert!(!place.path("state").exists(), "it is done");
    place.write("state", format!("oci:other\n{middle}\n"));
    let error = place.fails(2, &["verify", "oci:a", "--state", "state"]);
    assert!(error.contains("path=state"), "{error}");
    place.write("state", "oci:a\nnonsense\n");
    place.fails(2, &["verify", "oci:a", "--state", "state"]);
    place.fails(1, &["verify", "oci:a", "--state", "none/state"]);
}

#[test]
fn a_checkpoint_is_another_store() {
    let place = Place::with_files();
    place.write("large.bin", vec![7; 200_000]);
    let digest = place.push(&["oci:a:v1", "large.bin", "a.txt"]);
    let made = place.ok(&["checkpoint", "oci:a", "copy"]);
    assert!(
        made.starts_with("Made oci:copy\n4 contents, ") && made.contains(": 4 linked, 0 copied"),
        "{made}"
    );
    assert_eq!(place.ok(&["resolve", "oci:copy:v1"]).trim(), digest);
    place.ok(&["verify", "oci:copy", "--read-data", "--index"]);
    let made = place.json(&["checkpoint", "a", "oci:second", "--copy"]);
    assert_eq!(keys(&made), ["bytes", "contents", "copied", "damaged", "journalled", "linked", "reference"]);
    assert_eq!((&made["copied"], &made["linked"]), (&4.into(), &0.into()));
    place.ok(&["untag", "oci:copy:v1"]);
    place.ok(&["resolve", "oci:a:v1"]);

    let error = place.fails(1, &["checkpoint", "oci:a", "copy"]);
    assert!(error.contains("not empty") && error.contains("hint: name a directory that is empty"), "{error}");
    place.fails(2, &["checkpoint", "oci:a"]);
    place.fails(2, &["checkpoint", "oci:a:v1", "third"]);
    place.fails(2, &["checkpoint", "oci:a", "third:v1"]);
    place.fails(3, &["checkpoint", "oci:none", "third"]);
    place.push(&["--plain", "oci:p:v1", "a.txt"]);
    let error = place.fails(3, &["checkpoint", "oci:p", "third"]);
    assert!(error.contains("hint: `orlop cp -r oci:p"), "{error}");
    assert!(!place.path("p/.orlop").exists());
    fs::remove_file(blob(&place, "a", &vec![7; 200_000])).unwrap();
    let output = place.run(&["checkpoint", "oci:a", "third"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("hint: `orlop verify oci:a`"), "{}", text(&output.stderr));
    assert_eq!(place.run(&["verify", "oci:third"]).status.code(), Some(4));
}

#[test]
fn a_damaged_oci_layout_of_a_store_is_written_anew_by_a_rebuild() {
    let place = Place::with_files();
    place.push(&["oci:a:v1", "a.txt"]);
    let file = place.path("a/oci-layout");
    fs::write(&file, r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    let output = place.run(&["tag", "oci:a:v1", "v2"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("9.0.0") && told.contains("hint: ") && told.contains("`orlop rebuild oci:a`"),
        "{told}"
    );
    place.ok(&["rebuild", "oci:a"]);
    place.ok(&["tag", "oci:a:v1", "v2"]);
    assert!(fs::read_to_string(&file).unwrap().contains("1.0.0"));
}
