//! Flags of verbs that are tested elsewhere: what is exported, for which platform, in which format.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn manifest(place: &Place, digest: &str) -> Vec<u8> {
    fs::read(place.path(&format!("s/blobs/{}", digest.replace(':', "/")))).unwrap()
}

/// A layout `s` with an index `v1` as a build writes it: an image for each of two processors, and before each of them its
/// attestation, for an unknown platform. The digests of the images.
fn built() -> (Place, String, String) {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("s"));
    let mut entries = Vec::new();
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64"] {
        for (name, os, of) in [("attestation", "unknown", "unknown"), ("program", "linux", architecture)] {
            let content = format!("{name} {architecture}");
            let config = json!({"os": os, "architecture": of}).to_string();
            let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": layout.blob(config.as_bytes()).to_string(), "size": config.len()});
            let layer = json!({"mediaType": "a/b", "digest": layout.blob(content.as_bytes()).to_string(),
                "size": content.len(), "annotations": {TITLE: name}});
            let image =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
            let digest = layout.document(&content.replace(' ', "-"), MANIFEST, &image);
            let size = image.to_string().len();
            entries.push(json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size,
                "platform": {"os": os, "architecture": of}}));
            images.push(digest.to_string());
        }
    }
    layout.document("v1", INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}));
    (place, images[1].clone(), images[3].clone())
}

#[test]
fn the_manifest_is_exported_as_it_is() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:v1", "a.txt", "--export-manifest", "pushed.json"]);
    assert_eq!(fs::read(place.path("pushed.json")).unwrap(), manifest(&place, &digest));
    let args =
        ["attach", "-q", "oci:s:v1", "--artifact-type", "a/b", "a.txt", "--export-manifest", "pushed.json"];
    let digest = place.ok(&args);
    assert_eq!(fs::read(place.path("pushed.json")).unwrap(), manifest(&place, digest.trim()));
    // The push is done all the same, and the hint says how to get at the manifest.
    let stderr = place.fails(1, &["push", "oci:s:v2", "a.txt", "--export-manifest", "no/such/file"]);
    let digest = place.ok(&["resolve", "oci:s:v2"]);
    assert!(stderr.contains("path=no/such/file") && stderr.contains(digest.trim()), "{stderr}");
}

/// The digests are what `oras push --oci-layout --image-spec` of oras 1.3.3 gave for the same files and the same time.
#[test]
fn both_versions_of_the_specification_are_those_of_oras() {
    let place = Place::with_files();
    let typed = ["--artifact-type", "application/t"];
    let config = ["--config", "sub/b.txt:application/x-conf"];
    let cases: [(&str, &[&str], &str); 8] = [
        ("v1.0", &["a.txt"], "7dbafed2c6c78b9cc553272e392e34f899e3196dddf6d022924cda70038b92c6"),
        ("v1.1", &["a.txt"], "b0a42b390ae75cd08fe03736480a1e9b6d2f96e3689c38990ed39e88b00e0a07"),
        (
            "v1.0",
            &[typed[0], typed[1], "a.txt"],
            "8f892186c759ad75441508412fbd9f599ddcd0e00b75e5fa5de0a64078e65adb",
        ),
        (
            "v1.1",
            &[typed[0], typed[1], "a.txt"],
            "c6a89b4b6b81f73766c04ff89d56cc964b8b9b853117969acc4f9fea5eb1ab83",
        ),
        (
            "v1.0",
            &[config[0], config[1], "a.txt"],
            "f4d5c8a2ba941cd7506c2c480979ce8231f760c6c5ae38add9a8fc8554af3c0b",
        ),
        (
            "v1.1",
            &[config[0], config[1], typed[0], typed[1], "a.txt"],
            "72038d25d5bf6188e7c9d7dfd94e56d1e93a891862b9bc1ffaff488bd7e9b4bf",
        ),
        ("v1.0", &typed, "a2a41ce26007683e0ff2b3916ada16a8256050cbc41bcc5e0da9264799f4c318"),
        ("v1.1", &typed, "c2d8f84a967770a27c68253d51a0bb325dc8f8e51ca768a9eef3725a95ed9719"),
    ];
    for (spec, args, digest) in cases {
        let args = [&["oci:s", "--image-spec", spec], args].concat();
        assert_eq!(place.push(&args), format!("sha256:{digest}"), "{args:?}");
    }
    let refused: [(&[&str], &str); 5] = [
        (&["a.txt", "--image-spec", "v1.2"], "'v1.2'"),
        (&["a.txt", "--image-spec", "1.1"], "'1.1'"),
        (&["a.txt", "--image-spec", ""], "use v1.0 or v1.1"),
        (&[config[0], config[1], typed[0], typed[1], "--image-spec", "v1.0"], "artifact_type=application/t"),
        (&[config[0], config[1], "--image-spec", "v1.1"], "image_spec=v1.1"),
    ];
    for (args, value) in refused {
        let stderr = place.fails(2, &[&["push", "oci:new:v1"], args].concat());
        assert!(stderr.contains(value), "{stderr}");
    }
    assert!(!place.path("new").exists());
}

#[test]
fn the_config_is_written_below_the_directory() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt", "--config", "sub/b.txt:application/x-conf"]);
    let files = place.json(&["pull", "oci:s:v1", "-o", "out", "--config", "deep/conf"])["files"].clone();
    assert_eq!((&files[0]["mediaType"], files.as_array().unwrap().len()), (&json!("application/x-conf"), 2));
    let out = tree(&place.path("out"));
    assert_eq!(out.len(), 2);
    assert_eq!(out[std::path::Path::new("deep/conf")], b"world\n");
    place.ok(&["pull", "oci:s:v1", "-o", "typed", "--config", "conf:application/x-conf"]);
    assert_eq!(fs::read(place.path("typed/conf")).unwrap(), b"world\n");
    // One of another type is not written, and that is said.
    let run = place.run(&["pull", "oci:s:v1", "-o", "other", "--config", "conf:a/b"]);
    assert!(run.status.success() && text(&run.stderr).contains("media_type=application/x-conf"));
    assert_eq!(tree(&place.path("other")).len(), 1);

    let before = tree(place.0.path());
    let absolute = place.path("conf");
    for path in ["../conf", "a/../../conf", "..", ".", "", "a/", absolute.to_str().unwrap()] {
        place.fails(2, &["pull", "oci:s:v1", "-o", "out", "--config", path]);
    }
    // The name of a layer, a file in place of a directory, and a way out through a link.
    assert!(place.fails(9, &["pull", "oci:s:v1", "-o", "out", "--config", "a.txt"]).contains("name=a.txt"));
    place.fails(9, &["pull", "oci:s:v1", "-o", "out", "--config", "a.txt/conf"]);
    assert_eq!(tree(place.0.path()), before);
    symlink(place.0.path(), place.path("typed/up")).unwrap();
    place.fails(9, &["pull", "oci:s:v1", "-o", "typed", "--config", "up/conf"]);
    assert!(!absolute.exists());
}

#[test]
fn what_an_artifact_refers_to_is_pulled_as_well() {
    let (place, _, arm) = built();
    place.write("sbom", "sbom");
    place.write("signature", "signature");
    let attach = |to: &str, file: &str| {
        place.ok(&["attach", "-q", to, "--artifact-type", "a/b", file]).trim().to_owned()
    };
    let sbom = attach(&format!("oci:s@{arm}"), "sbom");
    let signature = format!("oci:s@{}", attach(&format!("oci:s@{sbom}"), "signature"));
    let names = |args: &[&str]| {
        let files = place.json(&[&["pull", "-o", "out"], args].concat())["files"].as_array().unwrap().clone();
        files.iter().map(|file| file["annotations"][TITLE].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[&signature]), ["signature"]);
    assert_eq!(names(&[&signature, "--include-subject"]), ["signature", "sbom", "program"]);
    assert_eq!(fs::read(place.path("out/program")).unwrap(), b"program arm64");
    assert_eq!(names(&[&format!("oci:s@{arm}"), "--include-subject"]), ["program"]);

    // A subject that is an index has no files of its own: one of its manifests is to be chosen.
    let about_index = format!("oci:s@{}", attach("oci:s:v1", "sbom"));
    let stderr = place.fails(1, &["pull", "-o", "no", &about_index, "--include-subject"]);
    assert!(stderr.contains("--platform") && stderr.contains(&arm), "{stderr}");
    assert!(!place.path("no").exists());
    let chosen = [about_index.as_str(), "--include-subject", "--platform", "linux/arm64"];
    assert_eq!(names(&chosen), ["sbom", "program"]);
    assert_eq!(fs::read(place.path("out/program")).unwrap(), b"program arm64");
    // What is about what is about the image is for its platform and no other, and alone for none.
    assert_eq!(
        names(&[&signature, "--include-subject", "--platform", "linux/arm64"]),
        ["signature", "sbom", "program"]
    );
    for (artifact, platform) in [(&about_index, "linux/s390x"), (&signature, "linux/amd64")] {
        let args = ["pull", "-o", "no", artifact.as_str(), "--include-subject", "--platform", platform];
        let stderr = place.fails(3, &args);
        assert!(stderr.contains(&format!("platform={platform}")), "{stderr}");
    }
    place.fails(3, &["pull", "-o", "no", &about_index, "--platform", "linux/arm64"]);
}

#[test]
fn a_platform_is_pulled_or_attached_to() {
    let (place, amd, arm) = built();
    for (platform, image, architecture) in [("linux/amd64", &amd, "amd64"), ("linux/arm64", &arm, "arm64")] {
        let out = format!("out-{architecture}");
        place.ok(&["pull", "oci:s:v1", "-o", &out, "--platform", platform]);
        let files = tree(&place.path(&out));
        assert_eq!(files.len(), 1);
        assert_eq!(text(files.values().next().unwrap()), format!("program {architecture}"));
        let attached =
            ["attach", "-q", "oci:s:v1", "--platform", platform, "--artifact-type", "a/b", "a.txt"];
        let document: Value = serde_json::from_slice(&manifest(&place, place.ok(&attached).trim())).unwrap();
        assert_eq!(document["subject"]["digest"], **image);
        assert_eq!(keys(&document["subject"]), ["digest", "mediaType", "size"]);
    }
    let before = place.ok(&["ls", "--all", "oci:s"]);
    // An attestation is nobody's platform, even by name.
    for platform in ["unknown/unknown", "windows/amd64", "linux/s390x", "linux/arm64/v9"] {
        let value = format!("platform={platform}");
        let stderr = place.fails(3, &["pull", "oci:s:v1", "-o", "no", "--platform", platform]);
        assert!(stderr.contains(&value) && stderr.contains("lists: linux/amd64, linux/arm64\n"), "{stderr}");
        let stderr = place
            .fails(3, &["attach", "oci:s:v1", "--platform", platform, "--artifact-type", "a/b", "a.txt"]);
        assert!(stderr.contains(&value), "{stderr}");
    }
    place.fails(2, &["pull", "oci:s:v1", "--platform", "linux/"]);
    assert!(!place.path("no").exists());
    assert_eq!(place.ok(&["ls", "--all", "oci:s"]), before);
}

#[test]
fn each_row_is_a_line_of_json() {
    let place = Place::with_files();
    let first = place.push(&["oci:s:v1", "a.txt", "-a", "note=two\nlines"]);
    let second = place.push(&["oci:s:team/app:v2", "a.txt"]);
    let untagged = place.push(&["oci:s", "sub/b.txt"]);
    let printed = place.ok(&["ls", "--all", "oci:s", "--format", "jsonl"]);
    let rows: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let whole = place.json(&["ls", "--all", "oci:s"]);
    let listed = [&whole["tags"], &whole["untagged"]].map(|rows| rows.as_array().unwrap().clone()).concat();
    assert_eq!(rows, listed);
    let digests: Vec<&str> = rows.iter().map(|row| row["digest"].as_str().unwrap()).collect();
    assert_eq!(digests, [first, second, untagged]);
    assert_eq!((&rows[0]["name"], &rows[2]["name"]), (&json!("v1"), &Value::Null));
    assert_eq!(rows[0]["annotations"]["note"], "two\nlines");
    assert!(printed.ends_with("}\n"));

    // Nothing to list is no line; and what is no list is one.
    place.ok(&["init", "empty"]);
    assert_eq!(place.ok(&["ls", "oci:empty", "--format", "jsonl"]), "");
    let line = place.ok(&["discover", "oci:s:v1", "--format", "jsonl"]);
    assert_eq!(line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), place.json(&["discover", "oci:s:v1"]));
}

#[test]
fn only_ls_prints_a_table() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let table = place.ok(&["ls", "oci:s", "--format", "table"]);
    assert_eq!(table, place.ok(&["ls", "oci:s"]));
    assert!(table.starts_with("NAME ") && table.lines().nth(1).unwrap().starts_with("v1 "), "{table}");
    let before = tree(place.0.path());
    let others: [&[&str]; 8] = [
        &["push", "oci:s:v2", "a.txt"],
        &["pull", "oci:s:v1", "-o", "out"],
        &["attach", "oci:s:v1", "--artifact-type", "a/b", "a.txt"],
        &["discover", "oci:s:v1"],
        &["resolve", "oci:s:v1"],
        &["tag", "oci:s:v1", "v2"],
        &["manifest", "fetch", "oci:s:v1"],
        &["repo", "ls", "oci:s"],
    ];
    for args in others {
        let stderr = place.fails(2, &[args, &["--format", "table"]].concat());
        assert!(stderr.contains("format=table"), "{stderr}");
    }
    place.fails(2, &["ls", "oci:s", "--format", "yaml"]);
    assert_eq!(tree(place.0.path()), before);
}
