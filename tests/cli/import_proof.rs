//! What `import` proves before it writes: everything that an archive names is there, and is what it is called.

use std::fs;
use std::process::{Output, Stdio};

use orlop::Digest;
use serde_json::{Value, json};

use crate::support::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The archive without the files for which `change` answers nothing, and with what it answers in place of the others.
fn edited(place: &Place, from: &str, to: &str, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
    let bytes = fs::read(place.path(from)).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut builder = tar::Builder::new(Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut header = entry.header().clone();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        let Some(content) = change(&path, content) else { continue };
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, &path, &content[..]).unwrap();
    }
    place.write(to, builder.into_inner().unwrap());
}

fn without(place: &Place, from: &str, to: &str, digests: &[&Digest]) {
    edited(place, from, to, |path, content| {
        let is_left = digests.iter().all(|digest| !path.ends_with(&digest.encoded().to_string()));
        is_left.then_some(content)
    });
}

fn damaged(place: &Place, from: &str, to: &str, digest: &Digest) {
    edited(place, from, to, |path, mut content| {
        if path.ends_with(&digest.encoded().to_string()) {
            *content.last_mut().unwrap() ^= 1;
        }
        Some(content)
    });
}

fn from_stdin(place: &Place, file: &str, to: &str, options: &[&str]) -> Output {
    let input = fs::File::open(place.path(file)).unwrap();
    place.command(&[&["import", "-", to], options].concat()).stdin(Stdio::from(input)).output().unwrap()
}

/// Refused by each way of importing, with nothing named.
fn refused(place: &Place, file: &str, exit: i32, needle: &str) {
    for options in [&["--check"][..], &[]] {
        let error = place.fails(exit, &[&["import", file, "oci:refused"], options].concat());
        assert!(error.contains(needle), "{error}");
        assert!(!place.path("refused").exists());
    }
    let output = from_stdin(place, file, "oci:refused", &[]);
    assert_eq!(output.status.code(), Some(exit), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(needle), "{}", text(&output.stderr));
    let listed = place.ok(&["repo", "ls", "oci:refused"]);
    assert!(listed.lines().all(|line| line.contains("orlop-import/")), "{listed}");
    fs::remove_dir_all(place.path("refused")).unwrap();
}

/// What is whole is taken from a file and from a stream, and the rest is named.
fn left(place: &Place, file: &str, names: &[&str]) -> Value {
    let output = place.run(&["import", file, "oci:left", "--keep-going", "--format", "json"]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (n, name) in names.iter().enumerate() {
        assert!(report["left"][n].as_str().unwrap().contains(name), "{report}");
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    assert_eq!(report["left"].as_array().unwrap().len(), names.len(), "{report}");
    place.ok(&["verify", "oci:left", "--read-data"]);
    report
}

/// An archive of ours with `v1`, `v2` and an index of both under `all`.
fn exported(place: &Place) -> [Digest; 3] {
    let [one, two, index] = indexed(place, 0);
    place.ok(&["export", "oci:layout", "-o", "ours.tar"]);
    [one, two, index]
}

/// A layout with `v1`, `v2` and an index of both under `all`, which says of the second that it is `wrong` bytes larger.
fn indexed(place: &Place, wrong: usize) -> [Digest; 3] {
    let mut layout = Layout::new(place.path("layout"));
    let one = layout.artifact("v1", &[(None, b"one")]);
    let two = layout.artifact("v2", &[(None, b"two")]);
    let size = |digest: &Digest| {
        let path = place.path(&format!("layout/blobs/sha256/{}", digest.encoded()));
        fs::metadata(path).unwrap().len()
    };
    let listed = [(&one, 0), (&two, wrong)].map(|(digest, wrong)| {
        json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size(digest) + wrong as u64})
    });
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    let index = layout.document("all", INDEX, &document);
    // Only the index has a name.
    layout.entries.retain(|entry| entry["digest"] == index.to_string());
    layout.publish();
    [one, two, index]
}

#[test]
fn a_manifest_that_is_named_and_not_there_is_missing() {
    let place = Place::with_files();
    let first: Digest = place.push(&["oci:a:one", "a.txt"]).parse().unwrap();
    let other = place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    without(&place, "out.tar", "lost.tar", &[&first]);
    refused(
        &place,
        "lost.tar",
        4,
        "the archive names what cannot be used, names=1, first=one: content is not in",
    );
    left(&place, "lost.tar", &["one"]);
    assert_eq!(place.ok(&["resolve", "oci:left:lib/other:v1"]).trim(), other);
    place.fails(3, &["resolve", "oci:left:one"]);
    let streamed = from_stdin(&place, "lost.tar", "oci:streamed", &["--keep-going"]);
    assert_eq!(streamed.status.code(), Some(8), "{}", text(&streamed.stderr));
    assert_eq!(place.ok(&["repo", "ls", "oci:streamed"]), place.ok(&["repo", "ls", "oci:left"]));
    // What the layout has already need not be in the archive.
    place.ok(&["import", "out.tar", "oci:b"]);
    place.ok(&["import", "lost.tar", "oci:b"]);
    place.fails(2, &["import", "lost.tar", "oci:b", "--check", "--keep-going"]);
}

#[test]
fn a_manifest_that_is_another_one_is_damage() {
    let place = Place::with_files();
    let first: Digest = place.push(&["oci:a:one", "a.txt"]).parse().unwrap();
    let other = place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    damaged(&place, "out.tar", "wrong.tar", &first);
    for options in [&["--check"][..], &[]] {
        let error = place.fails(5, &[&["import", "wrong.tar", "oci:b"], options].concat());
        assert!(error.contains(&first.to_string()) && !place.path("b").exists(), "{error}");
    }
    assert_eq!(from_stdin(&place, "wrong.tar", "oci:b", &[]).status.code(), Some(5));
    left(&place, "wrong.tar", &[&first.to_string()]);
    assert_eq!(place.ok(&["resolve", "oci:left:lib/other:v1"]).trim(), other);
    place.fails(3, &["resolve", "oci:left:one"]);
}

#[test]
fn content_that_is_damaged_costs_what_refers_to_it_and_nothing_else() {
    let place = Place::new();
    let [one, two, _] = exported(&place);
    damaged(&place, "ours.tar", "wrong.tar", &Digest::of(b"two"));
    place.fails(5, &["import", "wrong.tar", "oci:b"]);
    assert!(!place.ok(&["repo", "ls", "oci:b"]).contains("all"));
    // Its manifest, and the index that lists that.
    left(&place, "wrong.tar", &[&Digest::of(b"two").to_string()]);
    assert!(!place.ok(&["repo", "tags", "oci:left"]).contains("all"));
    place.ok(&["resolve", &format!("oci:left@{one}")]);
    place.fails(3, &["resolve", &format!("oci:left@{two}")]);
}

#[test]
fn an_index_of_ours_lacks_nothing_that_it_does_not_tell() {
    let place = Place::new();
    let [one, two, index] = exported(&place);
    place.ok(&["import", "ours.tar", "oci:whole"]);
    without(&place, "ours.tar", "lost.tar", &[&two]);
    refused(&place, "lost.tar", 4, &format!("names=1, first={two}: content is not in the archive"));
    left(&place, "lost.tar", &[&two.to_string()]);
    place.ok(&["resolve", &format!("oci:left@{one}")]);
    assert!(!place.ok(&["repo", "tags", "oci:left"]).contains("all"));
    // What was not there when it was written is told of.
    fs::remove_file(place.path(&format!("layout/blobs/sha256/{}", two.encoded()))).unwrap();
    place.ok(&["export", "oci:layout", "-o", "sparse.tar"]);
    let report = place.json(&["import", "sparse.tar", "oci:sparse"]);
    assert!(report.get("absent").is_none() && report.get("left").is_none(), "{report}");
    assert_eq!(place.ok(&["resolve", "oci:sparse:all"]).trim(), index.to_string());
    without(&place, "sparse.tar", "lost.tar", &[&one]);
    refused(&place, "lost.tar", 4, &format!("names=1, first={one}: content is not in the archive"));
}

/// Content has one size, whichever of the manifests that refer to it comes first.
#[test]
fn content_of_two_sizes_is_not_whole() {
    for first in ["a", "b"] {
        let place = Place::new();
        let mut layout = Layout::new(place.path("layout"));
        let layer = layout.blob(b"layer");
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}").to_string(), "size": 2});
        for (name, size) in [("a", 5), ("b", 6)] {
            // Their digests come in either order.
            let layers = [json!({"mediaType": "a/b", "digest": layer.to_string(), "size": size})];
            let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, "annotations": {"first": first}});
            layout.document(name, MANIFEST, &document);
        }
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", place.path("layout")).unwrap();
        place.write("theirs.tar", builder.into_inner().unwrap());
        let error = place.fails(4, &["import", "theirs.tar", "oci:b"]);
        assert!(error.contains(&format!("missing=1, first={layer}")), "{error}");
        assert!(!place.path("b").exists());
    }
}

/// What `docker save` wrote before version 25 has no manifest that could say what it lacks.
#[test]
fn an_image_of_docker_without_a_layer_is_not_whole() {
    let place = Place::new();
    let layouts = format!("{}/tests/fixtures/layouts", env!("CARGO_MANIFEST_DIR"));
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all("./", format!("{layouts}/docker-archive")).unwrap();
    place.write("docker.tar", builder.into_inner().unwrap());
    let listed = std::cell::RefCell::new(String::new());
    edited(&place, "docker.tar", "same.tar", |path, content| {
        if path.ends_with("manifest.json") {
            let images: Value = serde_json::from_slice(&content).unwrap();
            images[0]["Layers"][0].as_str().unwrap().clone_into(&mut listed.borrow_mut());
        }
        Some(content)
    });
    let layer = listed.into_inner();
    edited(&place, "docker.tar", "lost.tar", |path, content| (!path.ends_with(&layer)).then_some(content));
    let error = place.fails(4, &["import", "lost.tar", "oci:b"]);
    assert!(error.contains("archive lacks the layer of an image") && !place.path("b").exists(), "{error}");
}

/// Not by a copy or another archive either.
#[test]
fn what_an_archive_lost_is_not_left_in_silence_by_other_verbs() {
    let place = Place::with_files();
    let first: Digest = place.push(&["oci:a:team/app:one", "a.txt"]).parse().unwrap();
    let other: Digest = place.push(&["oci:a:lib/other:v1", "sub/b.txt"]).parse().unwrap();
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    without(&place, "out.tar", "lost.tar", &[&first]);
    damaged(&place, "out.tar", "wrong.tar", &first);
    for (file, exit) in [("lost.tar", 4), ("wrong.tar", 5)] {
        let from = format!("tar:{file}");
        let error = place.fails(exit, &["cp", &from, "oci:b"]);
        assert!(error.contains("the archive names what cannot be used, names=1, first="), "{error}");
        assert!(!place.path("b").exists());
        let error = place.fails(exit, &["export", &from, "-o", "again.tar"]);
        assert!(error.contains("the archive names what cannot be used"), "{error}");
        assert!(!place.path("again.tar").exists());
        let output = place.run(&["cp", &from, "oci:b", "--keep-going"]);
        assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("some of it was not copied, failed="),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(place.ok(&["resolve", "oci:b:lib/other:v1"]).trim(), other.to_string());
        fs::remove_dir_all(place.path("b")).unwrap();
        // What is not asked for is nobody's loss.
        place.ok(&["cp", &format!("{from}:lib/other:v1"), "oci:b"]);
        place.ok(&["export", &format!("{from}:lib/other:v1"), "-o", "again.tar"]);
        fs::remove_dir_all(place.path("b")).unwrap();
        fs::remove_file(place.path("again.tar")).unwrap();
    }
    let error = place.fails(4, &["cp", "tar:lost.tar:team/app", "oci:b"]);
    assert!(error.contains("first=team/app:one"), "{error}");
}

#[test]
fn an_index_of_another_tool_may_lack_some_of_what_it_lists() {
    let place = Place::new();
    let [one, two, index] = indexed(&place, 0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", place.path("layout")).unwrap();
    place.write("theirs.tar", builder.into_inner().unwrap());
    without(&place, "theirs.tar", "some.tar", &[&two]);
    for check in [&["--check"][..], &[]] {
        let output = place.run(&[&["import", "some.tar", "oci:b"], check].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let note =
            "an index lists manifests that the archive does not have, and is taken without them, manifests=1";
        assert!(text(&output.stderr).contains(note), "{}", text(&output.stderr));
    }
    assert_eq!(place.ok(&["resolve", "oci:b:all"]).trim(), index.to_string());
    assert_eq!(place.json(&["import", "some.tar", "oci:c"])["absent"], 1);
    without(&place, "theirs.tar", "none.tar", &[&one, &two]);
    refused(&place, "none.tar", 4, "has all content, missing=2");
}

#[test]
fn a_manifest_of_another_size_than_its_descriptor_says_is_damage() {
    let place = Place::new();
    let [_, two, _] = indexed(&place, 1);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", place.path("layout")).unwrap();
    place.write("theirs.tar", builder.into_inner().unwrap());
    let error = place.fails(5, &["import", "theirs.tar", "oci:b"]);
    assert!(error.contains(&format!("another size than its descriptor says, digest={two}")), "{error}");
    assert!(!place.path("b").exists());
}
