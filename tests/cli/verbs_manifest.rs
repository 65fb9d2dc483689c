//! `manifest fetch|push|delete|fetch-config` and `manifest index create|update`.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use orlop::Digest;
use serde_json::{Value, json};

use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const AMD: &str = r#"{"architecture":"amd64","os":"linux"}"#;
const ARM: &str = r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#;

/// Two images, `amd` and `arm`, that a layout `s` has; their digests.
fn images() -> (Place, String, String) {
    let place = Place::with_files();
    place.write("amd.json", AMD);
    place.write("arm.json", ARM);
    let amd = place.push(&["oci:s:amd", "--config", &format!("amd.json:{CONFIG}"), "a.txt"]);
    let arm = place.push(&["oci:s:arm", "--config", &format!("arm.json:{CONFIG}"), "a.txt"]);
    (place, amd, arm)
}

fn content(place: &Place, layout: &str, digest: &str) -> Vec<u8> {
    fs::read(place.path(&format!("{layout}/blobs/{}", digest.replace(':', "/")))).unwrap()
}

fn with_input(place: &Place, args: &[&str], input: &[u8]) -> Output {
    let mut child = place
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_manifest_is_fetched_as_it_is() {
    let (place, amd, arm) = images();
    let bytes = content(&place, "s", &amd);
    for args in [
        &["manifest", "fetch", "oci:s:amd"][..],
        &["manifest", "get", "oci:s:amd", "-o", "-"],
        &["manifest", "fetch", "--oci-layout", "s:amd"],
        &["manifest", "fetch", "oci:s:amd", "--platform", "linux/amd64"],
        &["manifest", "fetch", "oci:s:amd", "--media-type", &format!("x/y,{MANIFEST}")],
    ] {
        assert_eq!(place.run(args).stdout, bytes, "{args:?}");
    }
    assert_eq!(place.ok(&["manifest", "fetch", "-q", "oci:s:amd"]).trim(), amd);

    let pretty = place.ok(&["manifest", "fetch", "oci:s:amd", "--pretty"]);
    assert!(pretty.starts_with("{\n  \"schemaVersion\": 2,\n  \"mediaType\": "), "{pretty}");
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), document);

    assert_eq!(place.ok(&["manifest", "fetch", "oci:s:amd", "--output", "m.json"]), "");
    assert_eq!(fs::read(place.path("m.json")).unwrap(), bytes);

    let described = place.ok(&["manifest", "fetch", "oci:s:amd", "--descriptor"]);
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(keys(&described), ["annotations", "artifactType", "digest", "mediaType", "size"]);
    assert_eq!((&described["digest"], &described["size"]), (&json!(amd), &json!(bytes.len())));
    let both = place.ok(&["manifest", "fetch", "oci:s:arm", "--descriptor", "-o", "n.json"]);
    assert!(both.contains(&arm), "{both}");
    assert_eq!(fs::read(place.path("n.json")).unwrap(), content(&place, "s", &arm));

    let fetched = place.json(&["manifest", "fetch", "oci:s:amd"]);
    assert_eq!(
        keys(&fetched),
        ["annotations", "artifactType", "content", "digest", "mediaType", "reference", "size"]
    );
    assert_eq!(fetched["content"], document);
    assert_eq!(fetched["reference"], format!("oci:s@{amd}"));
}

#[test]
fn an_index_gives_the_manifest_of_a_platform() {
    let (place, amd, arm) = images();
    place.ok(&["manifest", "index", "create", "oci:s:v1", "amd", "arm"]);
    let fetch = |platform: &str| {
        place.ok(&["manifest", "fetch", "-q", "oci:s:v1", "--platform", platform]).trim().to_owned()
    };
    assert_eq!(fetch("linux/amd64"), amd);
    assert_eq!(place.ok(&["resolve", "oci:s:v1", "--platform", "linux/amd64"]).trim(), amd);
    assert_eq!(fetch("linux/arm64"), arm);
    assert_eq!(fetch("linux/arm64/v8"), arm);
    let described = place.ok(&["manifest", "fetch", "oci:s:v1", "--platform", "linux/arm64", "--descriptor"]);
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["platform"], json!({"architecture": "arm64", "os": "linux", "variant": "v8"}));
    let config = ["manifest", "fetch-config", "oci:s:v1", "--platform", "linux/arm64"];
    assert_eq!(place.ok(&config), ARM);

    for platform in ["linux/arm64/v9", "windows/amd64", "linux/amd64:10"] {
        let stderr = place.fails(3, &["manifest", "fetch", "oci:s:v1", "--platform", platform]);
        assert!(stderr.contains(&format!("platform={platform}")), "{stderr}");
        assert!(stderr.contains("linux/amd64, linux/arm64/v8"), "{stderr}");
    }
    let stderr = place.fails(3, &["manifest", "fetch", "oci:s:amd", "--platform", "linux/arm64"]);
    assert!(stderr.contains("it is for linux/amd64"), "{stderr}");
    place.fails(2, &["manifest", "fetch", "oci:s:v1", "--platform", "linux/"]);
    // An artifact has no platform.
    place.push(&["oci:s:files", "a.txt"]);
    let stderr = place.fails(3, &["manifest", "fetch", "oci:s:files", "--platform", "linux/amd64"]);
    assert!(stderr.contains("for no platform"), "{stderr}");
}

#[test]
fn a_config_is_fetched_as_it_is() {
    let (place, amd, _) = images();
    let fetch = ["manifest", "fetch-config", "oci:s:amd"];
    assert_eq!(place.ok(&fetch), AMD);
    assert_eq!(place.ok(&[&fetch[..], &["-o", "-"]].concat()), AMD);
    assert_eq!(place.ok(&[&fetch[..], &["--output", "c.json"]].concat()), "");
    assert_eq!(fs::read_to_string(place.path("c.json")).unwrap(), AMD);
    let pretty = place.ok(&[&fetch[..], &["--pretty"]].concat());
    assert_eq!(pretty, "{\n  \"architecture\": \"amd64\",\n  \"os\": \"linux\"\n}\n");
    let digest = Digest::of(AMD.as_bytes()).to_string();
    let described = place.ok(&[&fetch[..], &["--descriptor"]].concat());
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described, json!({"mediaType": CONFIG, "digest": digest, "size": AMD.len()}));
    assert_eq!(place.ok(&[&fetch[..], &["-q"]].concat()).trim(), digest);
    let fetched = place.json(&fetch);
    assert_eq!(fetched["content"], serde_json::from_str::<Value>(AMD).unwrap());

    place.ok(&["manifest", "index", "create", "oci:s:v1", &amd]);
    let stderr = place.fails(1, &["manifest", "fetch-config", "oci:s:v1"]);
    assert!(stderr.contains("--platform"), "{stderr}");
    // Content that is no document is handed over all the same, and nothing else is made of it.
    place.write("raw", [0, 1, 0xff, b'\n']);
    place.push(&["oci:s:raw", "--config", "raw:x/y", "a.txt"]);
    assert_eq!(place.run(&["manifest", "fetch-config", "oci:s:raw"]).stdout, [0, 1, 0xff, b'\n']);
    let stderr = place.fails(1, &["manifest", "fetch-config", "oci:s:raw", "--pretty"]);
    assert!(stderr.contains("content is not JSON"), "{stderr}");
    assert_eq!(place.json(&["manifest", "fetch-config", "oci:s:raw"])["content"], Value::Null);
}

/// A file appears whole or not at all, and nothing else is made on the way or replaced.
#[test]
fn files_that_are_written_are_whole() {
    let (place, amd, _) = images();
    let bytes = content(&place, "s", &amd);
    place.write("old", "old");
    std::os::unix::fs::symlink("old", place.path("link")).unwrap();
    place.ok(&["manifest", "fetch", "oci:s:amd", "-o", "link"]);
    assert_eq!(fs::read(place.path("old")).unwrap(), bytes);
    assert!(fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
    place.ok(&["manifest", "fetch", "oci:s:amd", "-o", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    for (code, to) in [(2, "sub"), (2, "new/"), (2, ""), (1, "none/new")] {
        let stderr = place.fails(code, &["manifest", "fetch", "oci:s:amd", "-o", to]);
        assert!(stderr.contains(to), "{stderr}");
    }
    assert!(!place.path("none").exists() && !place.path("new").exists());
    for mixed in [
        &["-o", "-", "--descriptor"][..],
        &["-o", "-", "--format", "json"],
        &["--descriptor", "--format", "json"],
    ] {
        place.fails(2, &[&["manifest", "fetch", "oci:s:amd"], mixed].concat());
    }
    for (code, args) in [
        (3, &["manifest", "fetch", "oci:s:none"][..]),
        (3, &["manifest", "fetch", "oci:none:v1"]),
        (2, &["manifest", "fetch", "oci:s"]),
        (3, &["manifest", "fetch", "oci:s:amd", "--media-type", INDEX]),
        (3, &["manifest", "fetch-config", "oci:s:none"]),
        (2, &["manifest"]),
        (2, &["manifest", "index", "frobnicate"]),
    ] {
        let output = place.run(args);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()), "{args:?}");
    }
}

#[test]
fn a_manifest_is_pushed_as_it_is() {
    let (place, amd, _) = images();
    // White space and all: what is not touched keeps its digest.
    let bytes = format!("\n {}\n", String::from_utf8(content(&place, "s", &amd)).unwrap());
    place.write("m.json", &bytes);
    let digest = Digest::of(bytes.as_bytes()).to_string();
    let pushed = place.ok(&["manifest", "push", "oci:s:p1,p2", "m.json"]);
    assert_eq!(pushed, format!("Pushed oci:s:p1,p2\nDigest: {digest}\n"));
    for tag in ["p1", "p2"] {
        assert_eq!(place.ok(&["manifest", "fetch", &format!("oci:s:{tag}")]), bytes);
    }
    let pushed = place.json(&["manifest", "push", &format!("oci:s@{digest}"), "m.json"]);
    assert_eq!(pushed["reference"], format!("oci:s@{digest}"));
    assert_eq!(pushed["referenceAsTags"], json!([]));
    let described = place.ok(&["manifest", "push", "oci:s", "m.json", "--descriptor"]);
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described, json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len()}));

    let output = with_input(&place, &["manifest", "push", "-q", "oci:s:in", "-"], bytes.as_bytes());
    assert_eq!(text(&output.stdout).trim(), digest, "{}", text(&output.stderr));
    // Anything is a manifest whose media type says so.
    let args = ["manifest", "push", "-q", "oci:s:opaque", "--media-type", "application/x-thing", "-"];
    let output = with_input(&place, &args, b"anything");
    assert_eq!(text(&output.stdout).trim(), Digest::of(b"anything").to_string());
    assert_eq!(place.ok(&["manifest", "fetch", "oci:s:opaque"]), "anything");
    // Another algorithm, by the digest that is asked for.
    let sha512 = orlop::Algorithm::Sha512.digest(bytes.as_bytes()).to_string();
    place.ok(&["manifest", "push", &format!("oci:s@{sha512}"), "m.json"]);
    assert_eq!(place.ok(&["manifest", "fetch", &format!("oci:s@{sha512}")]), bytes);
}

#[test]
fn a_manifest_that_does_not_fit_is_refused() {
    let (place, amd, _) = images();
    let bytes = content(&place, "s", &amd);
    place.write("m.json", &bytes);
    place.write("untyped.json", r#"{"schemaVersion":2}"#);
    place.write("text", "text");
    let before = place.ok(&["ls", "--all", "oci:s"]);
    let wrong = format!("oci:s@{EMPTY}");
    let stderr = place.fails(5, &["manifest", "push", &wrong, "m.json"]);
    assert!(stderr.contains(EMPTY) && stderr.contains(&amd), "{stderr}");
    // Everything that it refers to is named, and nothing of it is stored.
    place.fails(3, &["manifest", "push", "oci:t:v1", "m.json"]);
    assert!(!place.path("t").exists());
    place.ok(&["init", "oci:t"]);
    let stderr = place.fails(4, &["manifest", "push", "oci:t:v1", "m.json"]);
    for missing in [AMD.as_bytes(), b"hello\n"] {
        assert!(stderr.contains(&Digest::of(missing).to_string()), "{stderr}");
    }
    assert!(stderr.contains("orlop blob push"), "{stderr}");
    place.fails(3, &["resolve", "oci:t:v1"]);
    // A repository does not see what another one has.
    place.fails(4, &["manifest", "push", "oci:s:team/app:v1", "m.json"]);
    for (code, args, value) in [
        (2, &["oci:s:v1", "untyped.json"][..], "untyped.json"),
        (2, &["oci:s:v1", "text"], "path=text"),
        (2, &["oci:s:v1", "m.json", "--media-type", INDEX], INDEX),
        (2, &["oci:s:v1", "m.json", "--media-type", "thing"], "thing"),
        (2, &["oci:s:-v", "m.json"], "tag=-v"),
        (1, &["oci:s:v1", "none.json"], "none.json"),
        (2, &["oci:s:v1"], "FILE"),
    ] {
        let stderr = place.fails(code, &[&["manifest", "push"], args].concat());
        assert!(stderr.contains(value), "{args:?}: {stderr}");
    }
    place.write("large", vec![b' '; orlop::oci::MAX_MANIFEST_SIZE + 1]);
    let stderr = place.fails(2, &["manifest", "push", "oci:s:v1", "large"]);
    assert!(stderr.contains("too large"), "{stderr}");
    assert_eq!(place.ok(&["ls", "--all", "oci:s"]), before);
}

#[test]
fn a_manifest_is_deleted_with_its_tags() {
    let (place, amd, arm) = images();
    place.ok(&["tag", "oci:s:amd", "also"]);
    // Nobody can be asked here.
    let stderr = place.fails(9, &["manifest", "delete", "oci:s:amd"]);
    assert!(stderr.contains("--force"), "{stderr}");
    place.fails(2, &["manifest", "delete", "oci:s:amd", "--descriptor"]);
    let stderr = place.fails(2, &["manifest", "delete", "-f", &format!("oci:s@{}", &amd[..19])]);
    assert!(stderr.contains("named in full"), "{stderr}");
    assert_eq!(place.ok(&["resolve", "oci:s:also"]).trim(), amd);

    place.ok(&["manifest", "index", "create", "oci:s:v1", "amd", "arm"]);
    let stderr = place.fails(1, &["manifest", "delete", "-f", "oci:s:amd"]);
    assert!(stderr.contains(&amd) && stderr.contains("hint: "), "{stderr}");
    assert_eq!(place.ok(&["manifest", "delete", "-f", "oci:s:v1"]), "Deleted oci:s:v1\n");
    let deleted = place.json(&["manifest", "delete", "--force", "oci:s:amd"]);
    assert_eq!(deleted["digest"], amd);
    for gone in ["oci:s:amd", "oci:s:also", &format!("oci:s@{amd}")] {
        place.fails(3, &["resolve", gone]);
        place.fails(3, &["manifest", "delete", gone]);
        place.fails(3, &["manifest", "delete", "--force", "--descriptor", gone]);
        assert_eq!(place.ok(&["manifest", "rm", "--force", gone]), format!("Missing {gone}\n"));
    }
    place.fails(3, &["manifest", "delete", "--force", "oci:none:v1"]);
    let described = place.ok(&["manifest", "delete", "--force", "--descriptor", "oci:s:arm"]);
    assert_eq!(serde_json::from_str::<Value>(&described).unwrap()["digest"], arm);
    assert_eq!(place.ok(&["ls", "-a", "-q", "oci:s"]), "");
}

/// The digest is that of `oras manifest index create` 1.3.3 for the same two manifests.
#[test]
fn an_index_is_that_of_oras() {
    let (place, amd, arm) = images();
    assert_eq!(amd, "sha256:a1781238e5b6faaabaf67186af5223b6e393fdfc9847e1c9867be76ef7187033");
    let args = ["manifest", "index", "create", "-q", "oci:s:v1,v2", "amd", &arm];
    let plain = place.ok(&args);
    assert_eq!(plain.trim(), "sha256:db1e25b5e3d687c9bef65d321840b538a236da293954ed6e99d97e547e033e13");
    let more = ["--artifact-type", "a/b", "-a", "k=<v>&\u{2028}", "-a", "b=1"];
    assert_eq!(
        place.ok(&[&args[..], &more].concat()).trim(),
        "sha256:2fe22fbbbe0249d732cc7ed2bd79f3474cbf6978106dfeb1f7beda0b1b7c59c2"
    );
    let digest = place.ok(&["resolve", "oci:s:v2"]);
    let document: Value = serde_json::from_slice(&content(&place, "s", digest.trim())).unwrap();
    assert_eq!(document["manifests"][1]["platform"], serde_json::from_str::<Value>(ARM).unwrap());
    assert_eq!(document["annotations"]["k"], "<v>&\u{2028}");

    let update = ["manifest", "index", "update", "-q", "oci:s:v2"];
    let changes = ["--remove", &amd, "--add", "amd", "--merge", plain.trim(), "--tag", "x"];
    assert_eq!(
        place.ok(&[&update[..], &changes].concat()).trim(),
        "sha256:ca93981aa65ed47cc792be5772f05d5594c0c0d5ed84c5a34a1a3d1fbb1c3bb3"
    );
    assert_eq!(place.ok(&["resolve", "oci:s:v2"]), place.ok(&["resolve", "oci:s:x"]));
    let none = place.ok(&[&update[..], &["--artifact-type", ""]].concat());
    assert_eq!(none.trim(), "sha256:8802287c33aabd29d6537e62626ddbfe3c93ae96c821ac0c4b115b8e67b9a308");
}

#[test]
fn an_index_is_made_and_changed() {
    let (place, amd, arm) = images();
    let created = place.ok(&["manifest", "index", "create", "oci:s:v1", "amd", "oci:s:arm"]);
    assert!(created.starts_with("Pushed oci:s:v1\nDigest: sha256:"), "{created}");
    let first = place.ok(&["resolve", "oci:s:v1"]).trim().to_owned();
    let json = place.json(&["manifest", "index", "create", "oci:s:v1,v2", "amd", "arm"]);
    assert_eq!(json["referenceAsTags"], json!(["oci:s:v1", "oci:s:v2"]));
    assert_eq!(json["digest"], first);

    // Written instead of stored.
    let before = place.ok(&["ls", "-a", "oci:s"]);
    let printed = place.run(&["manifest", "index", "create", "oci:s:v9", "amd", "arm", "-o", "-"]).stdout;
    assert_eq!(Digest::of(&printed).to_string(), first);
    let pretty = place.ok(&["manifest", "index", "create", "oci:s", "amd", "-o", "-", "--pretty"]);
    assert!(pretty.starts_with("{\n  \"schemaVersion\": 2,\n"), "{pretty}");
    let said = place.ok(&["manifest", "index", "create", "oci:s:v9", "amd", "arm", "-o", "i.json"]);
    assert_eq!(said, format!("Digest: {first}\n"));
    assert_eq!(fs::read(place.path("i.json")).unwrap(), printed);
    let removed = ["manifest", "index", "update", "oci:s:v1", "--remove", &amd, "-o", "-"];
    let document: Value = serde_json::from_str(&place.ok(&removed)).unwrap();
    assert_eq!(document["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(document["manifests"][0]["digest"], arm);
    assert_eq!(place.ok(&["ls", "-a", "oci:s"]), before);

    // The beginning of a digest stands for it.
    let short = |digest: &str| digest[..19].to_owned();
    let by_prefix = ["manifest", "index", "create", "-q", "oci:s:short", &short(&amd), &short(&arm)];
    assert_eq!(place.ok(&by_prefix).trim(), first);
    let remove = ["manifest", "index", "update", "oci:s:short", "--remove", &short(&amd), "-o", "-"];
    assert_eq!(serde_json::from_str::<Value>(&place.ok(&remove)).unwrap()["manifests"][0]["digest"], arm);

    // By digest no tag moves; the old index stays.
    place.ok(&["manifest", "index", "update", &format!("oci:s@{first}"), "--remove", &arm, "--tag", "one"]);
    assert_eq!(place.ok(&["resolve", "oci:s:v1"]).trim(), first);
    assert_ne!(place.ok(&["resolve", "oci:s:one"]).trim(), first);
    place.ok(&["manifest", "index", "update", "oci:s:v1", "--merge", "one"]);
    let merged: Value = serde_json::from_str(&place.ok(&["manifest", "fetch", "oci:s:v1"])).unwrap();
    assert_eq!(merged["manifests"].as_array().unwrap().len(), 3);
    place.ok(&["manifest", "index", "create", "oci:new:empty"]);
    assert_eq!(place.json(&["manifest", "fetch", "oci:new:empty"])["content"]["manifests"], json!([]));
    place.write("notes.json", r#"{"$manifest":{"m":"1"}}"#);
    place.ok(&["manifest", "index", "create", "oci:s:noted", "amd", "--annotation-file", "notes.json"]);
    assert_eq!(
        place.json(&["manifest", "fetch", "oci:s:noted"])["content"]["annotations"],
        json!({"m": "1"})
    );
}

#[test]
fn an_index_that_makes_no_sense_is_refused() {
    let (place, amd, _) = images();
    place.push(&["oci:s:team/app:v1", "a.txt"]);
    place.push(&["oci:t:v1", "a.txt"]);
    let index = place.ok(&["manifest", "index", "create", "-q", "oci:s:v1", "amd"]).trim().to_owned();
    let before = place.ok(&["ls", "--all", "oci:s"]);
    for (code, args, value) in [
        (3, &["create", "oci:s:v2", "none"][..], "oci:s:none"),
        (3, &["create", "oci:s:v2", EMPTY], EMPTY),
        (3, &["create", "oci:none:v2", "amd"], "none"),
        (2, &["create", "oci:s:v2", "oci:t:v1"], "oci:t:v1"),
        (2, &["create", "oci:s:v2", "oci:s:team/app:v1"], "oci:s:team/app:v1"),
        (2, &["create", "oci:s:v2", "amd", "--artifact-type", "thing"], "thing"),
        (2, &["create", "oci:s:v2", "amd", "-a", "novalue"], "novalue"),
        (2, &["create", &format!("oci:s@{EMPTY}"), "amd"], EMPTY),
        (2, &["update", "oci:s:v1"], "oci:s:v1"),
        (2, &["update", "oci:s:amd", "--add", "arm"], "oci:s:amd"),
        (2, &["update", "oci:s:v1", "--merge", "amd"], "amd"),
        (2, &["update", "oci:s:v1", "--remove", "amd"], "amd"),
        (2, &["update", "oci:s:v1", "--remove", "sha256:12"], "sha256:12"),
        (3, &["update", "oci:s:v1", "--remove", "sha256:12345678"], "sha256:12345678"),
        (3, &["update", "oci:s:v1", "--remove", EMPTY], EMPTY),
        (3, &["update", "oci:s:none", "--add", "amd"], "oci:s:none"),
        (3, &["update", "oci:s:v1", "--add", "none"], "oci:s:none"),
        (2, &["update", "oci:s:v1", "--add", "arm", "--tag=-x"], "tag=-x"),
        (2, &["update", "oci:s:v1", "--add", "arm", "--tag", "x", "-o", "-"], "--tag"),
    ] {
        let stderr = place.fails(code, &[&["manifest", "index"], args].concat());
        assert!(stderr.contains(value), "{args:?}: {stderr}");
    }
    assert_eq!(place.ok(&["ls", "--all", "oci:s"]), before);
    assert!(!place.path("none").exists());
    // What is not there cannot be listed.
    let mut layout = Layout::new(place.path("sparse"));
    let child = layout.artifact("child", &[]);
    let bytes = fs::read(place.path(&format!("sparse/blobs/sha256/{}", child.encoded()))).unwrap();
    let list = |digest: &str, size: usize| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": "amd64"}}]})
    };
    layout.document("whole", INDEX, &list(&child.to_string(), bytes.len()));
    layout.document("sparse", INDEX, &list(&amd, 3));
    let stderr = place.fails(4, &["manifest", "fetch", "oci:sparse:sparse", "--platform", "linux/amd64"]);
    assert!(stderr.contains(&amd), "{stderr}");
    // Its digest is known all the same.
    let resolve = ["resolve", "oci:sparse:sparse", "--platform", "linux/amd64"];
    assert_eq!(place.ok(&resolve).trim(), amd);
    let stderr = place.fails(4, &["manifest", "index", "update", "oci:sparse:whole", "--merge", "sparse"]);
    assert!(stderr.contains(&amd), "{stderr}");
    assert_eq!(place.ok(&["resolve", "oci:s:v1"]).trim(), index);
}

/// The question on a terminal, which `script` stands in for.
#[test]
fn a_terminal_is_asked() {
    let (place, amd, _) = images();
    let answer = |answer: &str, verb: &str| {
        let command = format!("'{}' {verb}", env!("CARGO_BIN_EXE_orlop"));
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .current_dir(place.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        text(&output.stdout)
    };
    for no in ["\n", "n\n", "yesterday\n"] {
        let shown = answer(no, "manifest delete oci:s:amd");
        assert!(shown.contains(&format!("delete the manifest {amd} and all tags")), "{shown}");
        assert!(shown.contains("Operation cancelled."), "{shown}");
        assert_eq!(place.ok(&["resolve", "oci:s:amd"]).trim(), amd);
    }
    let shown = answer("Y\n", "manifest delete oci:s:amd");
    assert!(shown.contains("Deleted oci:s:amd"), "{shown}");
    place.fails(3, &["resolve", "oci:s:amd"]);
    let config = Digest::of(AMD.as_bytes());
    assert!(answer("yes\n", &format!("blob delete oci:s@{config}")).contains("Deleted"));
    place.fails(3, &["blob", "fetch", &format!("oci:s@{config}"), "--descriptor"]);
}
