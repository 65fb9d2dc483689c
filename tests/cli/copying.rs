//! `cp` of several things, by lists and under other names; what it leaves to prove that nothing was lost; `backup` and `restore`.

use std::fs;

use orlop::Digest;
use serde_json::{Value, json};

use crate::serve_support::Server;
use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout `a` with two repositories and an SBOM; the digests of the artifacts and of the SBOM.
fn source(place: &Place) -> [String; 3] {
    let app = place.push(&["oci:a:team/app:v1", "a.txt"]);
    place.ok(&["tag", "oci:a:team/app:v1", "latest"]);
    let lib = place.push(&["oci:a:lib:v1.2.0", "sub/b.txt"]);
    let sbom =
        place.ok(&["attach", "-q", "oci:a:team/app:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    [app, lib, sbom.trim().to_owned()]
}

fn names(place: &Place, layout: &str) -> Vec<String> {
    let listed = place.json(&["ls", layout]);
    let rows = listed["tags"].as_array().unwrap();
    rows.iter().map(|row| row["reference"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn several_sources_keep_their_names_or_get_others() {
    let place = Place::with_files();
    let [app, lib, _] = source(&place);
    place.ok(&["cp", "oci:a:team/app", "oci:a:lib:v1.2.0", "oci:b"]);
    assert_eq!(names(&place, "oci:b"), ["oci:b:lib:v1.2.0", "oci:b:team/app:latest", "oci:b:team/app:v1"]);
    place.ok(&["cp", "oci:a:team/app:v1,latest", "oci:c", "--map", "team=mirror/x", "--prefix", "top"]);
    assert_eq!(names(&place, "oci:c"), ["oci:c:top/mirror/x/app:latest", "oci:c:top/mirror/x/app:v1"]);
    place.ok(&["cp", "oci:a:team/app:v1", "oci:a:lib:v1.2.0", "oci:d", "--tag-only"]);
    assert_eq!(place.ok(&["resolve", "oci:d:v1"]).trim(), app);
    assert_eq!(place.ok(&["resolve", "oci:d:v1.2.0"]).trim(), lib);
    // One name for two things is refused before anything is there.
    place.ok(&["tag", "oci:a:lib:v1.2.0", "v1"]);
    let error = place.fails(2, &["cp", "oci:a:team/app:v1", "oci:a:lib:v1", "oci:e", "--tag-only"]);
    assert!(error.contains("name=v1, one=oci:a:team/app:v1, other=oci:a:lib:v1"), "{error}");
    assert!(!place.path("e").exists());
    for args in [
        &["cp", "oci:a:team/app", "oci:e:one"][..],
        &["cp", "oci:a:team/app:v1", "oci:a:lib:v1", "oci:e:one"],
        &["cp", "oci:a:lib:v1", "oci:e:one", "--prefix", "x"],
        &["cp", "oci:a:lib:v1", "oci:e", "--map", "x"],
        &["cp", "oci:a:lib:v1", "oci:e", "--map", "X=y"],
    ] {
        place.fails(2, args);
    }
}

#[test]
fn lists_say_what_to_copy() {
    let place = Place::with_files();
    source(&place);
    place.write("list.txt", "# what we carry\n\noci:a:team/app:v1\noci:a:lib\n");
    place.ok(&["cp", "--from-file", "list.txt", "oci:b"]);
    assert_eq!(names(&place, "oci:b"), ["oci:b:lib:v1.2.0", "oci:b:team/app:v1"]);
    place
        .write("bad.yaml", "registry.example:\n  images:\n    app: [v1]\n  credentials:\n    username: me\n");
    let error = place.fails(2, &["cp", "--from-file", "bad.yaml", "oci:c"]);
    assert!(error.contains("line=4"), "{error}");
    place.fails(1, &["cp", "--from-file", "none.txt", "oci:c"]);
    assert!(!place.path("c").exists());
}

#[test]
fn what_fails_is_named_and_the_rest_is_there() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("a"));
    layout.artifact("good", &[(Some("x"), b"good content")]);
    layout.artifact("bad", &[(Some("x"), b"bad content")]);
    let lost = Digest::of(b"bad content");
    fs::remove_file(place.path("a/blobs/sha256").join(lost.encoded().to_string())).unwrap();
    place.fails(4, &["cp", "oci:a:bad", "oci:a:good", "oci:b"]);
    assert_eq!(place.ok(&["ls", "-q", "oci:b"]), "");
    let args = ["cp", "oci:a:bad", "oci:a:none", "oci:a:good", "oci:b", "--keep-going", "--format", "json"];
    let output = place.run(&args);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed: Vec<_> =
        report["failed"].as_array().unwrap().iter().map(|one| one["reference"].as_str().unwrap()).collect();
    assert_eq!(failed, ["oci:a:none", "oci:a:bad"]);
    assert!(report["failed"][1]["error"].as_str().unwrap().contains(&lost.to_string()), "{report}");
    assert_eq!(names(&place, "oci:b"), ["oci:b:good"]);
}

#[test]
fn a_dry_run_says_how_much_and_makes_nothing() {
    let place = Place::with_files();
    let [app, ..] = source(&place);
    let would = place.json(&["cp", "-r", "oci:a:team/app:v1", "oci:b", "--dry-run"]);
    assert_eq!((would["dryRun"].as_bool(), would["manifests"].as_u64()), (Some(true), Some(2)), "{would}");
    assert!(would["bytes"].as_u64().unwrap() > 0, "{would}");
    assert!(!place.path("b").exists());
    let did = place.json(&["cp", "-r", "oci:a:team/app:v1", "oci:b", "--no-record"]);
    assert_eq!((&did["bytes"], &did["copied"]), (&would["bytes"], &would["copied"]));
    let would = place.json(&["cp", "-r", "oci:a:team/app:v1", "oci:b:team/app:v2", "--dry-run"]);
    assert_eq!((would["bytes"].as_u64(), would["digests"][0].as_str()), (Some(0), Some(app.as_str())));
    assert_eq!(names(&place, "oci:b"), ["oci:b:team/app:v1"]);
}

#[test]
fn a_copy_proves_that_nothing_was_lost() {
    let place = Place::with_files();
    let [app, _, sbom] = source(&place);
    place.ok(&["cp", "oci:a:team/app:v1", "oci:b"]);
    let error = place.fails(9, &["verify", "--closure", "oci:b"]);
    assert!(error.contains("there is no record"), "{error}");
    place.ok(&["cp", "-r", "oci:a:team/app:v1", "oci:b"]);
    let again = place.json(&["cp", "-r", "oci:a:team/app:v1", "oci:b"]);
    assert_eq!((again["copied"].as_u64(), again["bytes"].as_u64()), (Some(0), Some(0)), "{again}");
    // As a plain layout, through another copy, and by another way of asking.
    place.ok(&["cp", "-r", "oci:b:team/app:v1", "oci:stick", "--plain"]);
    for layout in ["oci:b", "oci:stick", "oci:stick:team/app:v1"] {
        let checked =
            place.json(&["verify", "--closure", layout, "--read-data", "--require", "application/spdx+json"]);
        let records = checked["records"].as_array().unwrap();
        assert_eq!(records.len(), 1, "{checked}");
        for record in records {
            assert_eq!((record["root"].as_str(), record["attached"].as_u64()), (Some(app.as_str()), Some(1)));
            assert_eq!(record["findings"], json!([]));
        }
    }
    let lacking = place.run(&["verify", "--closure", "oci:b", "--require", "application/signature"]);
    assert_eq!(lacking.status.code(), Some(9), "{}", text(&lacking.stderr));
    assert_eq!(place.ok(&["discover", "-q", "oci:b:team/app:v1"]).trim(), sbom);
    // The SBOM goes: missing. Its content is changed: damaged.
    place.ok(&["manifest", "delete", "--force", &format!("oci:b:team/app@{sbom}")]);
    let lost = place.run(&["verify", "--closure", "oci:b"]);
    assert_eq!(lost.status.code(), Some(4), "{}", text(&lost.stderr));
    assert!(
        text(&lost.stdout).contains(&format!("missing {sbom} application/spdx+json of {app}")),
        "{}",
        text(&lost.stdout)
    );
    let file = place.path("stick/blobs/sha256").join(Digest::of(b"hello\n").encoded().to_string());
    fs::remove_file(&file).unwrap();
    fs::write(&file, "hellO\n").unwrap();
    let damaged = place.run(&["verify", "--closure", "oci:stick", "--read-data"]);
    assert_eq!(damaged.status.code(), Some(5), "{}", text(&damaged.stderr));
}

/// A name that nobody recorded is not proved by the records of others.
#[test]
fn a_name_without_a_record_is_told_of() {
    let place = Place::with_files();
    let [app, ..] = source(&place);
    place.ok(&["cp", "-r", "oci:a:team/app:v1", "oci:b"]);
    place.ok(&["verify", "--closure", "oci:b"]);
    // By another name it is the same artifact.
    place.ok(&["tag", &format!("oci:b:team/app@{app}"), "again"]);
    place.ok(&["verify", "--closure", "oci:b"]);
    place.push(&["oci:b:team/app:v2", "sub/b.txt"]);
    place.push(&["oci:b:other:v1", "a.txt"]);
    let output = place.run(&["verify", "--closure", "oci:b"]);
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("other:v1: no record\nteam/app:v2: no record\n"),
        "{}",
        text(&output.stdout)
    );
    assert!(
        text(&output.stderr).contains("no record of what belongs to some names"),
        "{}",
        text(&output.stderr)
    );
    let output = place.run(&["verify", "--closure", "oci:b", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["unrecorded"], json!(["other:v1", "team/app:v2"]), "{report}");
    place.ok(&["verify", "--closure", "oci:b:team/app:v1"]);
}

/// What is required of an index may be attached to it, or to each of its images.
#[test]
fn what_is_required_is_attached_to_an_index_or_to_all_of_its_images() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("a"));
    let images: Vec<Value> = ["amd64", "arm64"]
        .iter()
        .map(|name| {
            let digest = layout.artifact(name, &[(Some("x"), name.as_bytes())]);
            let path = place.path("a/blobs/sha256").join(digest.encoded().to_string());
            json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": fs::metadata(path).unwrap().len(),
                "platform": {"os": "linux", "architecture": name}})
        })
        .collect();
    let attestation = layout.artifact("attestation", &[(Some("x"), b"attestation")]);
    let path = place.path("a/blobs/sha256").join(attestation.encoded().to_string());
    let attestation = json!({"mediaType": MANIFEST, "digest": attestation.to_string(), "size": fs::metadata(path).unwrap().len(),
        "platform": {"os": "unknown", "architecture": "unknown"}});
    let images: Vec<Value> = images.into_iter().chain([attestation]).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    layout.document("v1", INDEX, &index);
    let attach = |name: &str| {
        place.ok(&[
            "attach",
            "-q",
            &format!("oci:a:{name}"),
            "--artifact-type",
            "application/spdx+json",
            "a.txt",
        ])
    };
    let required = |to: &str| {
        place.ok(&["cp", "-r", "oci:a:v1", &format!("oci:{to}")]);
        let verify = ["verify", "--closure", &format!("oci:{to}:v1"), "--require", "application/spdx+json"];
        place.run(&verify).status.code()
    };
    assert_eq!(required("none"), Some(9));
    attach("amd64");
    assert_eq!(required("one"), Some(9));
    attach("arm64");
    assert_eq!(required("both"), Some(0));
}

#[test]
fn what_was_left_out_is_told_from_what_was_lost() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("a"));
    let images: Vec<Value> = ["amd64", "arm64"]
        .iter()
        .map(|name| {
            let digest = layout.artifact(name, &[(Some("x"), name.as_bytes())]);
            let size =
                fs::metadata(place.path("a/blobs/sha256").join(digest.encoded().to_string())).unwrap().len();
            json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size,
                "platform": {"os": "linux", "architecture": name}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    let digest = layout.document("v1", INDEX, &index);
    let copied = place.json(&["cp", "oci:a:v1", "oci:b", "--platform", "linux/amd64"]);
    assert_eq!(copied["leftOut"][0]["digest"], images[1]["digest"], "{copied}");
    assert_eq!(place.ok(&["resolve", "oci:b:v1"]).trim(), digest.to_string());
    let checked = place.json(&["verify", "--closure", "oci:b:v1"]);
    assert_eq!(
        (&checked["records"][0]["sparse"], &checked["records"][0]["findings"]),
        (&json!(1), &json!([]))
    );
    let error = place.fails(4, &["cp", "oci:a:v1", "oci:c", "--platform", "windows/amd64"]);
    assert!(error.contains("platforms=windows/amd64"), "{error}");
    // What was asked for and is lost is something else.
    place.ok(&["cp", "oci:a:v1", "oci:stick", "--platform", "linux/amd64", "--plain"]);
    place.ok(&["verify", "--closure", "oci:stick:v1"]);
    let layer = Digest::of(b"amd64").encoded().to_string();
    fs::remove_file(place.path("stick/blobs/sha256").join(layer)).unwrap();
    assert_eq!(place.run(&["verify", "--closure", "oci:stick:v1"]).status.code(), Some(4));
}

#[test]
fn repositories_are_backed_up_and_restored() {
    let place = Place::with_files();
    let [app, _, sbom] = source(&place);
    place.ok(&["backup", "-o", "saved", "oci:a:team/app:v1,latest", "oci:a:lib", "--include-referrers"]);
    assert_eq!(
        names(&place, "oci:saved"),
        ["oci:saved:lib:v1.2.0", "oci:saved:team/app:latest", "oci:saved:team/app:v1"]
    );
    place.ok(&["verify", "--closure", "oci:saved"]);
    place.ok(&["restore", "-i", "saved", "oci:b", "--prefix", "back"]);
    assert_eq!(place.ok(&["resolve", "oci:b:back/team/app:latest"]).trim(), app);
    assert_eq!(place.ok(&["discover", "-q", "oci:b:back/team/app:v1"]).trim(), sbom);
}

#[test]
fn progress_is_told_to_programs() {
    let place = Place::with_files();
    source(&place);
    let output = place.run(&["cp", "-r", "oci:a:team/app:v1", "oci:b", "--progress", "json"]);
    let lines: Vec<Value> = text(&output.stderr)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let copied = lines.iter().filter(|line| line["event"] == "content" && line["status"] == "copied");
    assert_eq!(
        copied.count() as u64,
        place.json(&["cp", "-r", "oci:a:team/app:v1", "oci:c", "--no-record"])["copied"]
    );
    assert!(
        text(&place.run(&["cp", "oci:a:lib:v1.2.0", "oci:b", "--progress", "none"]).stderr)
            .contains("; 1 reference, 1 manifest; ")
    );
    place.fails(2, &["cp", "oci:a", "oci:b", "--progress", "loud"]);
}

#[test]
fn a_registry_is_copied_to_and_from() {
    let place = Place::with_files();
    let [app, lib, sbom] = source(&place);
    place.write("large.bin", vec![3; 6_000_000]);
    let large = place.push(&["oci:a:team/large:v1", "large.bin"]);
    let server = Server::start(&place, &["oci:served"]);
    let at = |path: &str| format!("{}/{path}", server.address);
    place.ok(&["cp", "-r", "oci:a:team/app:v1", &at("app:one")]);
    place.ok(&["cp", "-r", "oci:a:team/app", "oci:a:lib:v1.2.0", "oci:a:team/large:v1", &at("mirror")]);
    assert_eq!(place.ok(&["resolve", &at("mirror/team/app:latest")]).trim(), app);
    assert_eq!(place.ok(&["resolve", &at("mirror/lib:v1.2.0")]).trim(), lib);
    // From one repository of it to another, by mounting.
    let mounted = place.json(&["cp", &at("mirror/team/large:v1"), &at("other:v1")]);
    assert_eq!((mounted["mounted"].as_u64(), mounted["copied"].as_u64()), (Some(2), Some(1)), "{mounted}");
    let again = place.json(&["cp", "-r", "oci:a:team/app:v1", &at("app:one")]);
    assert_eq!((again["copied"].as_u64(), again["bytes"].as_u64()), (Some(0), Some(0)), "{again}");
    // And back: all tags of a repository, and a list of patterns.
    place.ok(&["backup", "-o", "saved", &at("mirror/team/app"), &at("mirror/team/large:v1")]);
    assert_eq!(place.ok(&["resolve", "oci:saved:mirror/team/large:v1"]).trim(), large);
    assert_eq!(place.ok(&["discover", "-q", "oci:saved:mirror/team/app:v1"]).trim(), sbom);
    place.ok(&["verify", "--closure", "oci:saved", "--read-data"]);
    let list = format!(
        "{}:\n  images-by-tag-regex:\n    mirror/team/app: ^v\n  images-by-semver:\n    mirror/lib: \">=1.2\"\n",
        server.address
    );
    place.write("list.yaml", list);
    place.ok(&["cp", "--from-file", "list.yaml", "oci:listed", "--map", "mirror="]);
    assert_eq!(names(&place, "oci:listed"), ["oci:listed:lib:v1.2.0", "oci:listed:team/app:v1"]);
    place.fails(3, &["cp", &at("app:none"), "oci:listed"]);
    place.fails(2, &["cp", &at(""), "oci:listed"]);
    place.ok(&["restore", "-i", "saved", &at("back")]);
    assert_eq!(place.ok(&["resolve", &at("back/mirror/team/app:v1")]).trim(), app);
    server.stop();
}

#[test]
fn an_archive_is_copied_from() {
    let place = Place::with_files();
    let [app, lib, sbom] = source(&place);
    place.ok(&["export", "oci:a", "-o", "all.tar"]);
    place.ok(&["cp", "-r", "tar:all.tar", "oci:b"]);
    assert_eq!(names(&place, "oci:b"), ["oci:b:lib:v1.2.0", "oci:b:team/app:latest", "oci:b:team/app:v1"]);
    assert_eq!(place.ok(&["discover", "-q", "oci:b:team/app:v1"]).trim(), sbom);
    place.ok(&["cp", "tar:all.tar:team/app:v1", "oci:c:one"]);
    assert_eq!(place.ok(&["resolve", "oci:c:one"]).trim(), app);
    place.ok(&["cp", "tar:all.tar:lib", "oci:c"]);
    assert_eq!(place.ok(&["resolve", "oci:c:lib:v1.2.0"]).trim(), lib);
    place.fails(3, &["cp", "tar:all.tar:none", "oci:c"]);
    place.fails(2, &["cp", "oci:c:one", "tar:other.tar:one"]);
}
