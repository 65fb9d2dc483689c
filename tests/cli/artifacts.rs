//! The verbs that store, attach, show and restore artifacts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orlop::{Digest, Options};
use serde_json::{Value, json};

use crate::support::*;

#[test]
fn files_come_back_as_they_were() {
    let place = Place::new();
    let names = [
        "plain",
        "with space",
        "tab\tand\nline",
        "caf\u{e9} \u{1f980}",
        "$HOME `x` 'y' \"z\" \\n",
        "-dash",
        "#",
        "a/b/c/deep",
        ".hidden",
        "..almost",
        "percent%2e%2e",
        "empty",
        "also/empty",
    ];
    for (index, name) in names.iter().enumerate() {
        let content =
            if name.ends_with("empty") { Vec::new() } else { format!("{index} {name}").into_bytes() };
        place.write(&format!("in/{name}"), content);
    }
    place.write("in/with:colon", "colon");
    place.write("in/large", (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    place.write("in/twin", "0 plain");

    let mut push = vec!["push", "oci:../store:v1", "--artifact-type", "a/b", "--"];
    push.extend(names);
    push.extend(["with:colon:", "large:application/octet-stream", "twin"]);
    let run = place.command(&push).current_dir(place.path("in")).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));

    place.ok(&["pull", "oci:store:v1", "-o", "out"]);
    assert_eq!(tree(&place.path("out")), tree(&place.path("in")));
    // A second time over the same files nothing is written.
    let before = listing(&place.path("out"));
    place.ok(&["pull", "oci:store:v1", "-o", "out", "--keep-old-files"]);
    assert_eq!(listing(&place.path("out")), before);
}

/// The digests are what `oras push --oci-layout` and `oras attach` gave for the same files and the same time.
#[test]
fn manifests_are_those_of_oras() {
    let place = Place::with_files();
    place.write("empty", "");
    place.write("a&b<c>.txt", "hello\n");
    let cases: [(&[&str], &str); 7] = [
        (&["a&b<c>.txt"], "60101c5b3b74a77425c8a61ba0c48d540215fb46ebd003a90da35d75962c6637"),
        (
            &["a.txt", "sub/b.txt:text/plain"],
            "e0766ab7979f26caa825782484ce71dd1c20933cb24eef6359775a63492b9f5a",
        ),
        (
            &["--config", "sub/b.txt", "a.txt"],
            "c511f7f7ad060b9595b7588782dabad59ac78ff30b7f3659d0bbc3b643df44f8",
        ),
        (
            &["--config", "sub/b.txt:application/x-conf"],
            "2d65a44bf6cbe9fbec847585af47e80fa7bcca4f260663e9cab1c5334c81d788",
        ),
        (&["./a.txt", "sub/../empty"], "5a4c882ff1485080e403b30192fdd3b0d959224c7c5f7339989f727a779297ca"),
        (
            &["--config", "sub/b.txt:application/x-conf", "--artifact-type", "application/t", "a.txt"],
            "72038d25d5bf6188e7c9d7dfd94e56d1e93a891862b9bc1ffaff488bd7e9b4bf",
        ),
        (
            &["--artifact-type", "application/vnd.test.app", "a.txt"],
            "d3533b4b4b52fdc6b6afe745c685ee725f2fac771da9859b2fb880fbd415792c",
        ),
    ];
    for (args, digest) in cases {
        assert_eq!(place.push(&[&["oci:s"], args].concat()), format!("sha256:{digest}"), "{args:?}");
    }
}

#[test]
fn the_digest_printed_is_that_of_the_file() {
    let place = Place::with_files();
    let printed = place.ok(&["push", "oci:s:v1", "a.txt"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "Pushed oci:s:v1");
    assert_eq!(lines[1], "ArtifactType: application/vnd.unknown.artifact.v1");
    let digest = lines[2].strip_prefix("Digest: ").unwrap();
    let manifest = fs::read(place.path(&format!("s/blobs/{}", digest.replace(':', "/")))).unwrap();
    assert_eq!(Digest::of(&manifest).to_string(), digest);
    assert_eq!(place.ok(&["resolve", "oci:s:v1"]), format!("{digest}\n"));
    assert_eq!(place.ok(&["resolve", "-l", "oci:s:v1"]), format!("oci:s@{digest}\n"));
    assert_eq!(place.ok(&["resolve", &format!("oci:s@{digest}")]), format!("{digest}\n"));
    assert_eq!(place.ok(&["resolve", "-q", "s:v1"]), format!("{digest}\n"));
    let index: Value = serde_json::from_slice(&fs::read(place.path("s/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["digest"], digest);
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "v1");
}

#[test]
fn json_has_the_names_of_oras() {
    let place = Place::with_files();
    let described = ["annotations", "artifactType", "digest", "mediaType", "reference", "size"];
    let pushed = place.json(&["push", "oci:s:v1,v2", "a.txt", "sub/b.txt:text/plain"]);
    let mut names = described.to_vec();
    names.push("referenceAsTags");
    names.sort_unstable();
    assert_eq!(keys(&pushed), names);
    assert_eq!(pushed["referenceAsTags"], json!(["oci:s:v1", "oci:s:v2"]));
    let digest = pushed["digest"].as_str().unwrap();
    assert_eq!(pushed["reference"], format!("oci:s@{digest}"));
    assert_eq!(pushed["mediaType"], MANIFEST);
    assert_eq!(keys(&pushed["annotations"]), ["org.opencontainers.image.created"]);
    let size = fs::metadata(place.path(&format!("s/blobs/{}", digest.replace(':', "/")))).unwrap().len();
    assert_eq!(pushed["size"], size);
    assert_eq!(place.json(&["push", "oci:s", "a.txt"])["referenceAsTags"], json!([]));

    let attached = place.json(&["attach", "oci:s:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    assert_eq!(keys(&attached), described);
    assert_eq!(attached["artifactType"], "application/spdx+json");

    let resolved = place.json(&["resolve", "oci:s:v1"]);
    assert_eq!(keys(&resolved), described);
    assert_eq!(resolved["digest"], digest);

    let tree = place.json(&["discover", "oci:s:v1"]);
    let mut names = described.to_vec();
    names.push("referrers");
    names.sort_unstable();
    assert_eq!(keys(&tree), names);
    assert_eq!(keys(&tree["referrers"][0]), names);
    assert_eq!(tree["referrers"][0]["reference"], attached["reference"]);
    assert_eq!(tree["referrers"][0]["annotations"], attached["annotations"]);
    assert_eq!(tree["referrers"][0]["referrers"], json!([]));

    let pulled = place.json(&["pull", "oci:s:v1", "-o", "out"]);
    assert_eq!(keys(&pulled), ["files", "reference"]);
    assert_eq!(pulled["reference"], format!("oci:s@{digest}"));
    let file = &pulled["files"][1];
    assert_eq!(keys(file), ["annotations", "digest", "mediaType", "path", "reference", "size"]);
    assert_eq!(file["mediaType"], "text/plain");
    assert_eq!(file["annotations"], json!({TITLE: "sub/b.txt"}));
    assert_eq!(fs::read(file["path"].as_str().unwrap()).unwrap(), b"world\n");
    assert!(Path::new(file["path"].as_str().unwrap()).is_absolute());

    let tagged = place.json(&["tag", "oci:s:v1", "v3"]);
    assert_eq!(tagged["referenceAsTags"], json!(["oci:s:v3"]));
    assert_eq!(tagged["digest"], digest);
    let listed = place.json(&["ls", "oci:s"]);
    assert_eq!(keys(&listed), ["reference", "tags"]);
    let rows = listed["tags"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert_eq!(rows[0]["digest"], digest);
    assert_eq!(rows[0]["reference"], "oci:s:v1");
}

#[test]
fn the_flags_of_oras_name_a_layout() {
    let place = Place::with_files();
    let digest = place.push(&["--oci-layout", "s:v1", "a.txt"]);
    assert_eq!(place.ok(&["resolve", "--oci-layout", "s:v1"]).trim(), digest);
    assert_eq!(place.ok(&["resolve", "v1", "--oci-layout-path", "s"]).trim(), digest);
    assert_eq!(place.ok(&["resolve", "ocidir://s:v1"]).trim(), digest);
}

#[test]
fn the_tree_of_referrers() {
    let place = Place::with_files();
    let image = place.push(&["oci:s:v1", "a.txt"]);
    let attach = |to: &str, kind: &str| {
        place
            .ok(&["attach", "-q", to, "--artifact-type", kind, "a.txt", "--annotation", CREATED])
            .trim()
            .to_owned()
    };
    let sbom = attach("oci:s:v1", "application/spdx+json");
    let signature = attach("oci:s:v1", "application/x-signature");
    let below = attach(&format!("oci:s@{sbom}"), "application/x-signature");

    let drawn = place.ok(&["discover", "oci:s:v1"]);
    assert_eq!(drawn, place.ok(&["tree", "--format", "tree", "oci:s:v1"]));
    let lines: Vec<&str> = drawn.lines().collect();
    assert!(lines[0].starts_with(&format!("oci:s@{image} (")), "{drawn}");
    assert_eq!(lines[1], "\u{251c}\u{2500}\u{2500} application/spdx+json");
    assert!(lines[2].starts_with(&format!("\u{2502}   \u{2514}\u{2500}\u{2500} {sbom} (")), "{drawn}");
    assert_eq!(lines[3], "\u{2502}       \u{2514}\u{2500}\u{2500} application/x-signature");
    assert!(lines[4].contains(&below), "{drawn}");
    assert_eq!(lines[5], "\u{2514}\u{2500}\u{2500} application/x-signature");
    assert!(lines[6].contains(&signature), "{drawn}");
    assert_eq!(lines.len(), 7);
    assert!(
        place
            .ok(&["discover", "-v", "oci:s:v1"])
            .contains("org.opencontainers.image.created: 2026-01-02T03:04:05Z")
    );

    assert_eq!(place.ok(&["discover", "-q", "oci:s:v1"]), format!("{sbom}\n{below}\n{signature}\n"));
    assert_eq!(place.ok(&["discover", "-q", "--depth", "1", "oci:s:v1"]), format!("{sbom}\n{signature}\n"));
    let filter = ["discover", "-q", "oci:s:v1", "--artifact-type", "application/x-signature"];
    assert_eq!(place.ok(&filter), format!("{signature}\n"));
    assert_eq!(place.ok(&["discover", "-q", &format!("oci:s@{signature}")]), "");
    // The referrer has a subject, so it is found without a tag; and no subject names a tag that may move.
    let document = fs::read_to_string(place.path(&format!("s/blobs/{}", sbom.replace(':', "/")))).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(keys(&document["subject"]), ["digest", "mediaType", "size"]);
    assert_eq!(document["subject"]["digest"], image);
}

/// Referrers of referrers, deeper than is shown: every reader of JSON can take what is printed, and the rest is mentioned.
#[test]
fn a_deep_tree_is_cut() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let mut last = layout.artifact("v1", &[]);
    for level in 0..70 {
        let size = fs::metadata(place.path(&format!("s/blobs/sha256/{}", last.encoded()))).unwrap().len();
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
        let subject = json!({"mediaType": MANIFEST, "digest": last.to_string(), "size": size});
        let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b", "config": config, "layers": [],
            "subject": subject});
        last = layout.document(&format!("level{level}"), MANIFEST, &document);
    }
    let output = place.run(&["discover", "oci:s:v1", "--format", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("levels=60"), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap();
    assert_eq!(place.ok(&["discover", "-q", "oci:s:v1"]).lines().count(), 60);
    let output = place.run(&["discover", "-q", "oci:s:v1", "--depth", "3"]);
    assert_eq!((text(&output.stdout).lines().count(), text(&output.stderr)), (3, String::new()));
}

#[test]
fn nothing_is_ever_written_outside() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let titles =
        ["../x", "/tmp/orlop-never", "a/../../x", "..", ".", "a/", "a/..", "./../x", "a\0b", "/", "../out/x"];
    for (index, title) in titles.iter().enumerate() {
        layout.artifact(&format!("v{index}"), &[(Some("good"), b"good"), (Some(title), b"evil")]);
    }
    layout.artifact("twice", &[(Some("a"), b"one"), (Some("./a"), b"two")]);
    layout.artifact("both", &[(Some("a"), b"one"), (Some("a/b"), b"two")]);
    let before = tree(place.0.path());
    for (index, title) in titles.iter().enumerate() {
        let stderr = place.fails(9, &["pull", &format!("oci:s:v{index}"), "-o", "out"]);
        let shown = if title.contains('\0') { "name=a\\u{0}b".to_owned() } else { format!("name={title}") };
        assert!(stderr.contains(&shown), "{stderr}");
        assert_eq!(tree(place.0.path()), before, "{title:?}");
    }
    assert!(place.fails(9, &["pull", "oci:s:twice", "-o", "out"]).contains("name=./a"));
    assert!(place.fails(9, &["pull", "oci:s:both", "-o", "out"]).contains("name=a"));
    assert_eq!(tree(place.0.path()), before);
    assert!(!Path::new("/tmp/orlop-never").exists());
}

#[test]
fn links_below_the_directory_are_not_followed() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt", "sub/b.txt"]);
    fs::create_dir_all(place.path("out")).unwrap();
    fs::create_dir_all(place.path("elsewhere")).unwrap();
    symlink(place.path("elsewhere"), place.path("out/sub")).unwrap();
    let stderr = place.fails(9, &["pull", "oci:s:v1", "-o", "out"]);
    assert!(stderr.contains("out/sub"), "{stderr}");
    assert_eq!(tree(&place.path("elsewhere")), BTreeMap::new());
    // Nothing was written before the refusal, and the directory itself may be reached through a link.
    assert!(!place.path("out/a.txt").exists());
    symlink(place.path("elsewhere"), place.path("through")).unwrap();
    place.ok(&["pull", "oci:s:v1", "-o", "through"]);
    assert_eq!(fs::read(place.path("elsewhere/sub/b.txt")).unwrap(), b"world\n");
}

#[test]
fn old_files_are_kept_or_replaced() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt", "sub/b.txt"]);
    place.write("out/sub/b.txt", "mine");
    let stderr = place.fails(1, &["pull", "oci:s:v1", "-o", "out", "-k"]);
    assert!(stderr.contains("out/sub/b.txt"), "{stderr}");
    assert_eq!(tree(&place.path("out")), BTreeMap::from([(PathBuf::from("sub/b.txt"), b"mine".to_vec())]));
    place.ok(&["pull", "oci:s:v1", "-o", "out", "--overwrite"]);
    assert_eq!(fs::read(place.path("out/sub/b.txt")).unwrap(), b"world\n");
    place.fails(2, &["pull", "oci:s:v1", "-o", "out", "--overwrite", "-k"]);
}

#[test]
fn failures_have_codes_and_name_the_value() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:v1", "a.txt"]);
    let absent = Digest::of(b"absent").to_string();
    let by_absent = format!("oci:s@{absent}");
    let upper = digest.to_uppercase().replace("SHA256", "sha256");
    let by_upper = format!("oci:s@{upper}");
    let around = format!("../{}/a.txt", place.0.path().file_name().unwrap().to_str().unwrap());
    // What others can see of the layout; opening a store for writing moves things in its metadata.
    let visible = || {
        let mut files = tree(&place.path("s"));
        files.retain(|path, _| !path.starts_with(".orlop"));
        files
    };
    let before = visible();
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &["push", "oci:s:v1"], "oci:s:v1"),
        (2, &["push", "nowhere:v1", "a.txt"], "nowhere:v1"),
        (2, &["push", "oci:s:-bad", "a.txt"], "tag=-bad"),
        (2, &["push", "oci:s:Bad/repo:v1", "a.txt"], "repository=Bad/repo"),
        (2, &["push", &by_absent, "a.txt"], &absent),
        (2, &["push", "oci:s:v2", "a.txt:notype"], "media_type=notype"),
        (2, &["push", "oci:s:v2", "a.txt", "--artifact-type", "notype"], "media_type=notype"),
        (2, &["push", "oci:s:v2", "a.txt", "./a.txt"], "name=a.txt"),
        (2, &["push", "oci:s:v2", &around], &around),
        (2, &["push", "oci:s:v2", "a.txt", "--config", "sub"], "path=sub"),
        (2, &["push", "oci:s:v2", "/dev/null"], "path=/dev/null"),
        (2, &["push", "oci:s:v2", "a.txt", "-a", "novalue"], "annotation=novalue"),
        (2, &["push", "oci:s:v2", "a.txt", "-a", "k=1", "-a", "k=2"], "key=k"),
        (1, &["push", "oci:s:v2", "a.txt", "absent.txt"], "path=absent.txt"),
        (1, &["push", "oci:a.txt:v1", "a.txt"], "a.txt"),
        (2, &["attach", "oci:s:v1", "a.txt"], "oci:s:v1"),
        (2, &["attach", "oci:s:v1", "--artifact-type", "a/b"], "oci:s:v1"),
        (3, &["attach", "oci:s:v9", "--artifact-type", "a/b", "a.txt"], "oci:s:v9"),
        (3, &["attach", "oci:none:v1", "--artifact-type", "a/b", "a.txt"], "path=none"),
        (3, &["tag", "oci:none:v1", "v2"], "path=none"),
        (3, &["tag", "oci:s:v9", "v2"], "oci:s:v9"),
        (2, &["tag", "oci:s:v1", "b@d"], "tag=b@d"),
        (3, &["pull", "oci:none:v1"], "none"),
        (3, &["pull", "oci:s:v9"], "oci:s:v9"),
        (3, &["pull", &by_absent], &absent),
        (2, &["pull", &by_upper], &upper),
        (2, &["pull", "oci:s"], "oci:s"),
        (3, &["discover", "oci:s:v9"], "oci:s:v9"),
        (3, &["discover", "oci:none:v9"], "none"),
        (2, &["discover", "oci:s:v1", "--depth", "0"], "'0'"),
        (3, &["resolve", "oci:s:v9"], "oci:s:v9"),
        (3, &["resolve", "oci:s:no/such:v1"], "oci:s:no/such:v1"),
        (3, &["ls", "oci:none"], "none"),
        (3, &["ls", "oci:s:no/such"], "no/such"),
        (2, &["ls", "tar:x.tar"], "tar:x.tar"),
        (2, &["ls", "oci:s", "--format", "tree"], "tree"),
        (1, &["init", "oci:s"], "s"),
        (2, &["init", "oci:s:v1"], "oci:s:v1"),
        (3, &["rebuild", "oci:none"], "none"),
        (2, &["frobnicate"], "frobnicate"),
    ];
    for (code, args, value) in cases {
        let stderr = place.fails(*code, args);
        let line = stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(line.contains(value), "{args:?}: {line}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    assert!(visible() == before, "a failure changed the layout");
    assert!(!place.path("none").exists());
}

#[test]
fn missing_and_damaged_content() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("v1", &[(Some("kept"), b"kept"), (Some("lost"), b"lost")]);
    let lost = Digest::of(b"lost");
    let file = place.path(&format!("s/blobs/sha256/{}", lost.encoded()));
    fs::write(&file, b"evil").unwrap();
    let stderr = place.fails(5, &["pull", "oci:s:v1", "-o", "out"]);
    assert!(stderr.contains(&lost.to_string()), "{stderr}");
    assert!(!place.path("out/lost").exists());
    fs::remove_file(&file).unwrap();
    let stderr = place.fails(4, &["pull", "oci:s:v1", "-o", "out2"]);
    assert!(stderr.contains(&lost.to_string()), "{stderr}");
    assert!(!place.path("out2").exists());
}

#[test]
fn a_full_disk_has_a_code_of_its_own() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = place.command(&["ls", "oci:s"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    assert!(text(&output.stderr).starts_with("error: cannot write the result, path=stdout: "));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let mut child =
        place.command(&["ls", "oci:s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_holder_of_the_lock_is_named() {
    let place = Place::with_files();
    let store = Options::new().create(place.path("s")).unwrap();
    let stderr = place.fails(1, &["push", "oci:s:v1", "a.txt", "--lock-timeout", "0"]);
    assert!(stderr.contains(&std::process::id().to_string()), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
    // Reading goes on beside it.
    assert_eq!(place.ok(&["ls", "-q", "oci:s"]), "");
    store.close().unwrap();
    place.ok(&["push", "oci:s:v1", "a.txt", "--lock-timeout", "0"]);
}

#[test]
fn repositories_and_names_of_other_tools() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("s"));
    let foreign = layout.artifact("registry.example:5000/Team/App:v1", &[(Some("f"), b"foreign")]);
    let named = place.push(&["oci:s:team/app:v1", "a.txt"]);
    let plain = place.push(&["oci:s:v1", "sub/b.txt"]);

    assert_eq!(place.ok(&["resolve", "oci:s:registry.example:5000/Team/App:v1"]).trim(), foreign.to_string());
    place.ok(&["pull", "oci:s:registry.example:5000/Team/App:v1", "-o", "out"]);
    assert_eq!(fs::read(place.path("out/f")).unwrap(), b"foreign");
    assert_eq!(place.ok(&["resolve", "oci:s:team/app:v1"]).trim(), named);
    assert_eq!(place.ok(&["resolve", "oci:s:v1"]).trim(), plain);

    // A repository shows its own content only; the hint says where the rest is.
    let stderr = place.fails(3, &["resolve", &format!("oci:s@{named}")]);
    assert!(stderr.contains(&format!("oci:s:team/app@{named}")), "{stderr}");
    assert_eq!(place.ok(&["resolve", &format!("oci:s:team/app@{named}")]).trim(), named);

    place.ok(&["tag", "oci:s:team/app:v1", "v2"]);
    let names = |args: &[&str]| {
        let rows = place.json(args)["tags"].as_array().unwrap().clone();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["ls", "oci:s:team/app"]), ["team/app:v1", "team/app:v2"]);
    assert_eq!(
        names(&["ls", "oci:s"]),
        ["v1", "team/app:v1", "team/app:v2", "registry.example:5000/Team/App:v1"]
    );
    let table = place.ok(&["ls", "oci:s"]);
    let heading: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "DIGEST", "SIZE", "TYPE"]);
    assert!(table.lines().nth(1).unwrap().starts_with("v1 "), "{table}");

    let attached = place.json(&["attach", "oci:s:team/app:v2", "--artifact-type", "a/b", "a.txt"]);
    assert_eq!(attached["reference"], format!("oci:s:team/app@{}", attached["digest"].as_str().unwrap()));
    let untagged = place.push(&["oci:s", "a.txt", "--artifact-type", "x/untagged"]);
    assert!(!place.ok(&["ls", "-q", "oci:s"]).contains(&untagged));
    let all = place.json(&["ls", "--all", "oci:s"]);
    let rows = all["untagged"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["digest"], untagged);
}

#[test]
fn an_index_is_refused_with_advice() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let child = layout.artifact("child", &[(Some("f"), b"f")]);
    let size = fs::metadata(place.path(&format!("s/blobs/sha256/{}", child.encoded()))).unwrap().len();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let entry = json!({"mediaType": MANIFEST, "digest": child.to_string(), "size": size,
        "platform": {"os": "linux", "architecture": "arm64"}});
    layout.document(
        "index",
        media_type,
        &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}),
    );
    let stderr = place.fails(1, &["pull", "oci:s:index"]);
    assert!(stderr.contains(&format!("oci:s@{child} (linux/arm64)")), "{stderr}");
    place.ok(&["pull", &format!("oci:s@{child}"), "-o", "out"]);
    assert_eq!(fs::read(place.path("out/f")).unwrap(), b"f");
}

#[test]
fn reading_leaves_no_trace() {
    let place = Place::with_files();
    let mut layout = Layout::new(place.path("plain"));
    layout.artifact("v1", &[(Some("f"), b"f"), (None, b"nameless")]);
    place.push(&["oci:store:v1", "a.txt"]);
    for directory in ["plain", "store"] {
        let before = listing(&place.path(directory));
        let reference = format!("oci:{directory}:v1");
        for verb in ["resolve", "discover", "pull"] {
            let output = place.run(&[verb, &reference]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            if verb == "pull" && directory == "plain" {
                assert!(text(&output.stderr).contains("note: "), "a layer without a name is mentioned");
            }
        }
        place.ok(&["ls", "--all", &format!("oci:{directory}")]);
        assert_eq!(listing(&place.path(directory)), before);
    }
}

#[test]
fn init_takes_in_what_is_there() {
    let place = Place::with_files();
    assert_eq!(place.ok(&["init", "new"]), "Created oci:new\n");
    assert!(place.path("new/index.json").exists());
    assert_eq!(place.ok(&["ls", "-q", "oci:new"]), "");
    let mut layout = Layout::new(place.path("plain"));
    let digest = layout.artifact("v1", &[(Some("f"), b"f")]);
    assert_eq!(place.json(&["init", "oci:plain"]), json!({"reference": "oci:plain"}));
    assert_eq!(place.ok(&["resolve", "oci:plain:v1"]).trim(), digest.to_string());
}

#[test]
fn a_rebuild_brings_everything_back() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["oci:s:team/app:v1", "sub/b.txt"]);
    place.ok(&["attach", "oci:s:v1", "--artifact-type", "a/b", "a.txt"]);
    let state = || (place.ok(&["ls", "--all", "oci:s", "--format", "json"]), place.ok(&["tree", "oci:s:v1"]));
    let before = state();
    fs::remove_dir_all(place.path("s/.orlop")).unwrap();
    assert!(place.ok(&["rebuild", "oci:s"]).starts_with("Rebuilt oci:s\n"));
    assert_eq!(state(), before);
}

#[test]
fn the_time_can_be_given() {
    let place = Place::with_files();
    let push = |name: &str, epoch: &str| {
        place.command(&["push", "-q", name, "a.txt"]).env("SOURCE_DATE_EPOCH", epoch).output().unwrap()
    };
    let first = push("oci:one:v1", "1767323045");
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(push("oci:two:v1", "1767323045").stdout, first.stdout);
    assert_eq!(text(&first.stdout).trim(), place.push(&["oci:three", "a.txt"]));
    assert_ne!(push("oci:two:v1", "1767323046").stdout, first.stdout);
    let bad = push("oci:four:v1", "yesterday");
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("value=yesterday"));
    assert!(!place.path("four").exists());
}

#[test]
fn annotations_from_a_file() {
    let place = Place::with_files();
    place.write(
        "notes.json",
        r#"{"$manifest":{"m":"1"},"$config":{"c":"2"},"a.txt":{"f":"3"},"gone":{"x":"4"}}"#,
    );
    let args =
        ["push", "-q", "oci:s:v1", "a.txt", "--config", "sub/b.txt:x/y", "--annotation-file", "notes.json"];
    let output = place.run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("file=gone"));
    let digest = text(&output.stdout);
    let document = fs::read(place.path(&format!("s/blobs/{}", digest.trim().replace(':', "/")))).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["annotations"]["m"], "1");
    assert_eq!(document["config"]["annotations"], json!({"c": "2"}));
    assert_eq!(document["layers"][0]["annotations"], json!({"f": "3", TITLE: "a.txt"}));
    place.write("bad.json", "{");
    assert!(
        place.fails(2, &["push", "oci:s", "a.txt", "--annotation-file", "bad.json"]).contains("bad.json")
    );
}

/// What stands in a layout may be written by anyone, and is printed where it could steer a terminal.
#[test]
fn control_characters_are_shown_not_sent() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    layout.artifact("evil\u{1b}[2J", &[(Some("a\u{1b}]0;x\u{7}"), b"f")]);
    for args in [
        &["ls", "oci:s"][..],
        &["pull", "oci:s:evil\u{1b}[2J", "-o", "out"],
        &["pull", "oci:s:none\u{1b}[2J"],
    ] {
        let output = place.run(args);
        for stream in [&output.stdout, &output.stderr] {
            assert!(!stream.contains(&0x1b), "{args:?}: {}", text(stream).escape_debug());
        }
    }
    assert_eq!(fs::read(place.path("out/a\u{1b}]0;x\u{7}")).unwrap(), b"f");
}

/// The files of one push are not all open at once.
#[test]
fn open_files_do_not_grow_with_the_push() {
    let place = Place::new();
    let mut script = format!("ulimit -n 200; exec '{}' push -q oci:../s:v1", env!("CARGO_BIN_EXE_orlop"));
    for index in 0..400_u32 {
        place.write(&format!("in/{index}"), index.to_le_bytes().repeat(9_000));
        script.push_str(&format!(" {index}"));
    }
    let output = Command::new("sh").args(["-c", &script]).current_dir(place.path("in")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    place.ok(&["pull", "oci:s:v1", "-o", "out"]);
    assert_eq!(tree(&place.path("out")), tree(&place.path("in")));
}

#[test]
fn every_verb_has_an_example() {
    let place = Place::new();
    for verb in [
        "init",
        "push",
        "pull",
        "attach",
        "discover",
        "resolve",
        "tag",
        "ls",
        "rebuild",
        "usage",
        "checkpoint",
    ] {
        let output = place.run(&[verb, "--help"]);
        assert!(output.status.success());
        assert_eq!(text(&output.stderr), "");
        let help = text(&output.stdout);
        assert!(help.contains(&format!("Example:\n  orlop {verb} oci:app")), "{help}");
    }
    assert_eq!(place.ok(&["--version"]), format!("orlop {}\n", env!("CARGO_PKG_VERSION")));
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
}
