//! `blob fetch|push|delete`.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use orlop::Digest;
use serde_json::{Value, json};

use crate::support::*;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn digest(content: &[u8]) -> String {
    Digest::of(content).to_string()
}

#[test]
fn content_comes_back_as_it_was() {
    let place = Place::with_files();
    let large: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    place.write("large", &large);
    place.write("empty", "");
    for (file, content) in [("a.txt", b"hello\n".to_vec()), ("large", large), ("empty", Vec::new())] {
        let digest = digest(&content);
        for directory in
            ["oci:s", "oci:s:team/app", &format!("oci:t@{digest}"), &format!("oci:t:a/b@{digest}")]
        {
            let pushed = place.ok(&["blob", "push", directory, file]);
            assert_eq!(pushed, format!("Pushed {directory}\nDigest: {digest}\n"));
            let reference = format!("{}@{digest}", directory.split('@').next().unwrap());
            assert_eq!(place.run(&["blob", "fetch", &reference, "-o", "-"]).stdout, content, "{reference}");
            place.ok(&["blob", "get", &reference, "--output", "out"]);
            assert_eq!(fs::read(place.path("out")).unwrap(), content);
        }
    }
}

#[test]
fn descriptors_and_json() {
    let place = Place::with_files();
    let hello = digest(b"hello\n");
    let described = |args: &[&str]| serde_json::from_str::<Value>(&place.ok(args)).unwrap();
    assert_eq!(
        described(&["blob", "push", "oci:s", "a.txt", "--descriptor"]),
        json!({"mediaType": LAYER, "digest": hello, "size": 6})
    );
    assert_eq!(
        described(&["blob", "push", "oci:s", "a.txt", "--descriptor", "--pretty", "--media-type", "x/y"]),
        json!({"mediaType": "x/y", "digest": hello, "size": 6})
    );
    let reference = format!("oci:s@{hello}");
    let unknown = json!({"mediaType": "application/octet-stream", "digest": hello, "size": 6});
    assert_eq!(described(&["blob", "fetch", &reference, "--descriptor"]), unknown);
    assert_eq!(described(&["blob", "fetch", &reference, "--descriptor", "-o", "out"]), unknown);
    assert_eq!(fs::read(place.path("out")).unwrap(), b"hello\n");
    assert_eq!(place.json(&["blob", "push", "oci:s", "a.txt"])["reference"], reference);
    assert_eq!(place.json(&["blob", "fetch", &reference, "-o", "out"])["digest"], hello);
    assert_eq!(place.ok(&["blob", "push", "-q", "oci:s", "a.txt"]).trim(), hello);
    // A manifest is content too.
    let manifest = place.push(&["oci:s:v1", "a.txt"]);
    assert_eq!(
        place.run(&["blob", "fetch", "oci:s:v1", "-o", "-"]).stdout,
        place.run(&["manifest", "fetch", &format!("oci:s@{manifest}")]).stdout
    );
}

#[test]
fn content_from_stdin() {
    let place = Place::new();
    let push = |args: &[&str], input: &[u8]| {
        let mut child = place
            .command(&[&["blob", "push", "-q"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (hello, other) = (digest(b"hello"), digest(b"other"));
    assert_eq!(push(&["oci:s", "-"], b"hello").1.trim(), hello);
    assert_eq!(push(&["oci:s", "-", "--size", "5"], b"hello").1.trim(), hello);
    let (code, _, stderr) = push(&["oci:s", "-", "--size", "4"], b"other");
    assert!(code == Some(5) && stderr.contains("expected=4"), "{stderr}");
    let (code, _, stderr) = push(&[&format!("oci:s@{hello}"), "-"], b"other");
    assert!(code == Some(5) && stderr.contains(&hello) && stderr.contains(&other), "{stderr}");
    place.fails(3, &["blob", "fetch", &format!("oci:s@{other}"), "-o", "-"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::with_files();
    place.ok(&["blob", "push", "oci:s:team/app", "a.txt"]);
    let hello = digest(b"hello\n");
    let here = format!("oci:s@{hello}");
    for (code, args, value) in [
        (2, &["fetch", &here][..], "--output"),
        (2, &["fetch", &here, "-o", "-", "--descriptor"], "--descriptor"),
        (2, &["fetch", "oci:s", "-o", "-"], "oci:s"),
        (3, &["fetch", "oci:s:v1", "-o", "-"], "oci:s:v1"),
        (3, &["fetch", &format!("oci:none@{hello}"), "-o", "-"], "none"),
        // In another repository.
        (3, &["fetch", &here, "-o", "-"], &hello),
        (3, &["fetch", &here, "--descriptor"], &hello),
        (2, &["push", "oci:s", "sub"], "path=sub"),
        (1, &["push", "oci:s", "none.txt"], "none.txt"),
        (2, &["push", "oci:s:Bad/Name", "a.txt"], "repository=Bad/Name"),
        (2, &["push", "oci:s", "a.txt", "--media-type", "thing"], "thing"),
        (2, &["push", "oci:s", "a.txt", "--size", "-1"], "-1"),
        (5, &["push", "oci:s", "a.txt", "--size", "7"], "expected=7"),
        (5, &["push", &format!("oci:s@{EMPTY}"), "a.txt"], EMPTY),
        (2, &["delete", "oci:s:v1", "-f"], "oci:s:v1"),
        (2, &["delete", &here, "--descriptor"], "--descriptor"),
        (2, &["push", "oci:s@sha256:1234", "a.txt"], "sha256:1234"),
        (3, &["delete", &here], &hello),
        (3, &["delete", &here, "-f", "--descriptor"], &hello),
        (3, &["delete", &format!("oci:none@{hello}"), "-f"], "none"),
        (2, &["frobnicate"], "frobnicate"),
    ] {
        let stderr = place.fails(code, &[&["blob"], args].concat());
        assert!(stderr.contains(value), "{args:?}: {stderr}");
    }
    assert!(!place.path("none").exists());
}

#[test]
fn damaged_content_gets_no_name() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("v1", &[(Some("f"), b"good")]);
    let good = Digest::of(b"good");
    let file = place.path(&format!("s/blobs/sha256/{}", good.encoded()));
    let reference = format!("oci:s@{good}");
    place.write("out", "old");
    for content in [&b"evil"[..], b"goo", b"goods"] {
        fs::write(&file, content).unwrap();
        place.fails(5, &["blob", "fetch", &reference, "-o", "out"]);
        assert_eq!(fs::read(place.path("out")).unwrap(), b"old");
        place.fails(5, &["blob", "fetch", &reference, "-o", "-"]);
    }
    assert_eq!(listing(place.0.path()).iter().filter(|line| line.contains(".orlop")).count(), 0);
}

#[test]
fn content_is_deleted_when_nothing_needs_it() {
    let place = Place::with_files();
    let hello = digest(b"hello\n");
    place.ok(&["blob", "push", "oci:s", "a.txt"]);
    place.ok(&["blob", "push", "oci:s:team/app", "a.txt"]);
    let here = format!("oci:s@{hello}");
    let stderr = place.fails(9, &["blob", "delete", &here]);
    assert!(stderr.contains("--force"), "{stderr}");
    let manifest = place.push(&["oci:s:v1", "a.txt"]);
    let stderr = place.fails(1, &["blob", "delete", "-f", &here]);
    assert!(stderr.contains(&manifest) && stderr.contains("hint: "), "{stderr}");
    place.ok(&["manifest", "delete", "-f", "oci:s:v1"]);
    assert_eq!(place.ok(&["blob", "delete", "--force", &here]), format!("Deleted {here}\n"));
    place.fails(3, &["blob", "fetch", &here, "-o", "-"]);
    assert_eq!(place.ok(&["blob", "rm", "--force", &here]), format!("Missing {here}\n"));
    // The other repository keeps it.
    let there = format!("oci:s:team/app@{hello}");
    assert_eq!(place.ok(&["blob", "fetch", &there, "-o", "-"]), "hello\n");
    let described = place.ok(&["blob", "delete", "-f", "--descriptor", &there]);
    assert_eq!(serde_json::from_str::<Value>(&described).unwrap()["digest"], hello);
}

/// Content that another tool has put into a layout before the manifest that refers to it.
#[test]
fn content_that_nothing_names_yet() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let loose = layout.blob(b"loose");
    let reference = format!("oci:s@{loose}");
    let before = listing(&place.path("s"));
    assert_eq!(place.ok(&["blob", "fetch", &reference, "-o", "-"]), "loose");
    let described = place.ok(&["blob", "fetch", &reference, "--descriptor"]);
    assert_eq!(serde_json::from_str::<Value>(&described).unwrap()["size"], 5);
    assert_eq!(listing(&place.path("s")), before);
    // It belongs to no repository.
    place.fails(3, &["blob", "fetch", &format!("oci:s:team/app@{loose}"), "-o", "-"]);

    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2},
        "layers": [{"mediaType": "a/b", "digest": loose.to_string(), "size": 5}]});
    place.write("m.json", manifest.to_string());
    let file = place.path(&format!("s/blobs/sha256/{}", loose.encoded()));
    fs::write(&file, "evil!").unwrap();
    for args in [&["blob", "fetch", &reference, "-o", "out"][..], &["manifest", "push", "oci:s:v1", "m.json"]]
    {
        assert!(place.fails(5, args).contains(&loose.to_string()));
    }
    assert!(!place.path("out").exists());
    fs::rename(&file, place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere"), "loose").unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), &file).unwrap();
    for args in [&["blob", "fetch", &reference, "-o", "out"][..], &["manifest", "push", "oci:s:v1", "m.json"]]
    {
        assert!(place.fails(9, args).contains(&loose.encoded().to_string()));
    }
    fs::remove_file(&file).unwrap();
    place.fails(3, &["blob", "fetch", &reference, "-o", "out"]);
    place.fails(4, &["manifest", "push", "oci:s:v1", "m.json"]);
    fs::write(&file, "loose").unwrap();
    place.ok(&["manifest", "push", "oci:s:v1", "m.json"]);
    assert_eq!(place.json(&["inspect", "oci:s:v1"])["missing"], json!([]));
    // What a repository holds is not taken into another one.
    place.fails(4, &["manifest", "push", "oci:s:team/app:v1", "m.json"]);
}
