//! `inventory`, `export`, `import` and `diff`: across a gap and back.

use std::fs;
use std::process::Stdio;

use crate::serve_support::Server;
use crate::support::*;

/// A store `a` with an artifact of a large file, an SBOM attached to it, and another artifact; the digest of the first.
fn high(place: &Place) -> String {
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    place.write("large.bin", large);
    let artifact = place.push(&["oci:a:v1", "large.bin", "a.txt"]);
    place.ok(&["attach", "-q", "oci:a:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    artifact
}

#[test]
fn there_and_back() {
    let place = Place::with_files();
    let artifact = high(&place);
    let written = place.ok(&["export", "oci:a", "-o", "out.tar"]);
    assert_eq!(written, "Wrote out.tar\n");
    let first = fs::read(place.path("out.tar")).unwrap();
    // An archive is never replaced in silence, and is the same when it is asked for.
    let error = place.fails(1, &["export", "oci:a", "-o", "out.tar"]);
    assert!(
        error.contains("a file is there already, path=out.tar") && error.contains("--overwrite"),
        "{error}"
    );
    place.ok(&["export", "oci:a", "-o", "out.tar", "--overwrite"]);
    assert_eq!(fs::read(place.path("out.tar")).unwrap(), first);
    assert_eq!(place.ok(&["resolve", "tar:out.tar:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["import", "out.tar", "oci:b"]), "Imported 3 manifests, 2 tags => oci:b\n");
    assert_eq!(place.ok(&["resolve", "oci:b:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["diff", "oci:a", "oci:b", "--exit-code"]).lines().count(), 3);
    assert_eq!(place.ok(&["discover", "-q", "oci:b:v1"]), place.ok(&["discover", "-q", "oci:a:v1"]));
    assert!(place.ok(&["verify", "oci:b"]).contains("oci:b"));
    let names: Vec<_> =
        fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().starts_with(".orlop-")), "{names:?}");
}

#[test]
fn through_a_pipe() {
    let place = Place::with_files();
    let artifact = high(&place);
    for compress in [&[][..], &["--compress", "zstd"], &["--compress", "gzip"]] {
        let output = place.run(&[&["export", "oci:a", "-o", "-"], compress].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let to = format!("b{}", compress.len() + compress.last().map_or(0, |name| name.len()));
        place.write("pipe", output.stdout);
        let input = fs::File::open(place.path("pipe")).unwrap();
        let done =
            place.command(&["import", "-", &format!("oci:{to}")]).stdin(Stdio::from(input)).output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert_eq!(place.ok(&["resolve", &format!("oci:{to}:v1")]).trim(), artifact);
        assert_eq!(place.ok(&["repo", "ls", &format!("oci:{to}")]), place.ok(&["repo", "ls", "oci:a"]));
    }
    place.fails(2, &["import", "-", "oci:b", "--check"]);
}

#[test]
fn only_what_the_other_side_lacks() {
    let place = Place::with_files();
    high(&place);
    place.ok(&["export", "oci:a", "-o", "one.tar"]);
    place.ok(&["import", "one.tar", "oci:b", "--receipt", "have.inv"]);
    let receipt = fs::read_to_string(place.path("have.inv")).unwrap();
    assert_eq!(receipt, place.ok(&["inventory", "oci:b"]));
    place.ok(&["inventory", "oci:b", "-o", "have.zst", "--compress", "zstd"]);
    assert!(place.ok(&["diff", "have.inv", "have.zst"]).contains("Only in A: 0 contents"));
    place.write("new.txt", "new\n");
    let new = place.push(&["oci:a:v2", "large.bin", "new.txt"]);
    for have in ["have.inv", "have.zst", "tar:one.tar", "oci:b"] {
        place.ok(&["export", "oci:a", "-o", "two.tar", "--overwrite", "--have", have]);
        assert!(fs::metadata(place.path("two.tar")).unwrap().len() < 50_000, "{have}");
    }
    // What is not there is told before anything is written.
    for check in [&[][..], &["--check"]] {
        let error = place.fails(4, &[&["import", "two.tar", "oci:c"], check].concat());
        assert!(error.contains("neither the archive nor the layout has all content, missing="), "{error}");
        assert!(!place.path("c").exists());
    }
    place.ok(&["import", "two.tar", "oci:b", "--check"]);
    place.fails(3, &["resolve", "oci:b:v2"]);
    place.ok(&["import", "two.tar", "oci:b", "--receipt", "next.inv"]);
    assert_eq!(place.ok(&["resolve", "oci:b:v2"]).trim(), new);
    place.ok(&["diff", "oci:a", "next.inv", "--exit-code"]);
    let output = place.run(&["diff", "oci:a", "tar:one.tar", "--exit-code"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(text(&output.stdout).contains(&format!("~ v2 {new} => none")), "{}", text(&output.stdout));
    let sums = place.json(&["diff", "oci:a", "have.inv", "--bytes"]);
    assert_eq!(sums["onlyInB"]["contents"].as_u64(), Some(0), "{sums}");
    let all = place.json(&["diff", "oci:a", "have.inv"]);
    let sizes = all["onlyInA"]["digests"].as_array().unwrap().iter().map(|one| one["size"].as_u64().unwrap());
    assert_eq!(sums["onlyInA"]["bytes"].as_u64(), Some(sizes.sum()), "{sums}");
    assert!(sums["inBoth"]["bytes"].as_u64() > Some(3_000_000), "{sums}");
    assert!(sums["onlyInA"].get("digests").is_none());
    place.write("cut.inv", receipt.get(..receipt.len() - 5).unwrap());
    let error = place.fails(5, &["export", "oci:a", "-o", "three.tar", "--have", "cut.inv"]);
    assert!(error.contains("inventory is cut, path=cut.inv") && !place.path("three.tar").exists(), "{error}");
}

#[test]
fn volumes_one_by_one() {
    let place = Place::with_files();
    let artifact = high(&place);
    let report = place.json(&["export", "oci:a", "-o", "out.tar", "--volume-size", "2.2MB"]);
    let files: Vec<&str> =
        report["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(files, ["out.001.tar", "out.002.tar"]);
    for file in &files {
        assert!(fs::metadata(place.path(file)).unwrap().len() <= 2_200_000);
    }
    // The second one comes first; what came stays until the rest is there.
    let error = place.run(&["import", files[1], "oci:b"]);
    assert_eq!(error.status.code(), Some(4), "{}", text(&error.stderr));
    assert!(text(&error.stderr).contains("volumes of the set are still to come, missing=1, volumes=2"));
    let found = place.run(&["resolve", "oci:b:v1"]);
    assert_ne!(text(&found.stdout).trim(), artifact, "it is not whole yet");
    place.ok(&["import", files[0], "oci:b"]);
    assert_eq!(place.ok(&["resolve", "oci:b:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["repo", "ls", "oci:b"]), place.ok(&["repo", "ls", "oci:a"]));
    place.ok(&["diff", "oci:a", "oci:b", "--exit-code"]);
    // All at once, in any order, and in place.
    place.ok(&["import", files[1], files[0], "oci:c", "--check"]);
    place.ok(&["import", files[1], files[0], "oci:c"]);
    assert_eq!(place.ok(&["resolve", "oci:c:v1"]).trim(), artifact);
    assert_eq!(place.ok(&["resolve", "tar:out.002.tar,out.001.tar:v1"]).trim(), artifact);
    let error = place.fails(1, &["diff", "tar:out.001.tar,out.001.tar", "oci:a"]);
    assert!(error.contains("there twice"), "{error}");
    // Nothing is written where one of the files is there.
    fs::remove_file(place.path(files[0])).unwrap();
    let error = place.fails(1, &["export", "oci:a", "-o", "out.tar", "--volume-size", "2.2MB"]);
    assert!(error.contains("path=out.002.tar") && !place.path(files[0]).exists(), "{error}");
    place.ok(&["export", "oci:a", "-o", "out.tar", "--volume-size", "2.2MB", "--overwrite"]);
    // One that is damaged is named.
    let mut bytes = fs::read(place.path(files[0])).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(place.path(files[0]), bytes).unwrap();
    let error = place.fails(5, &["import", files[0], files[1], "oci:d", "--check"]);
    assert!(error.contains("not what its digest says") || error.contains("volume=1"), "{error}");
    assert!(!place.path("d").exists());
}

#[test]
fn archives_of_other_tools() {
    let place = Place::with_files();
    let layouts = format!("{}/tests/fixtures/layouts", env!("CARGO_MANIFEST_DIR"));
    for (name, reference) in
        [("skopeo", None), ("docker-archive", Some("docker.io/library/app:1")), ("podman", None)]
    {
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.append_dir_all("./", format!("{layouts}/{name}")).unwrap();
        place.write(&format!("{name}.bin"), builder.into_inner().unwrap());
        place.ok(&["import", &format!("{name}.bin"), &format!("oci:{name}")]);
        if let Some(reference) = reference {
            place.ok(&["resolve", &format!("oci:{name}:{reference}")]);
        }
        place.ok(&["verify", &format!("oci:{name}")]);
    }
    place.write("text.tar", "this is no archive at all, but a long enough text\n".repeat(20));
    let error = place.fails(5, &["import", "text.tar", "oci:x"]);
    assert!(error.contains("no tar archive") && !place.path("x").exists(), "{error}");
    place.fails(3, &["import", "none.tar", "oci:x"]);
}

#[test]
fn damage_is_repaired_from_an_archive() {
    let place = Place::with_files();
    high(&place);
    place.ok(&["export", "oci:a", "-o", "out.tar", "--compress", "zstd"]);
    let digest = orlop::Digest::of(&fs::read(place.path("large.bin")).unwrap());
    fs::remove_file(place.path(&format!("a/blobs/sha256/{}", digest.encoded()))).unwrap();
    assert!(!place.run(&["verify", "oci:a"]).status.success());
    let repaired = place.json(&["repair", "oci:a", "--from", "tar:out.tar"]);
    assert_eq!(repaired["healed"].as_array().unwrap().len(), 1, "{repaired}");
    place.ok(&["verify", "oci:a", "--read-data"]);
    // One that has it not says so.
    place.ok(&["export", "oci:a:lib/other:v1", "-o", "other.tar"]);
    fs::remove_file(place.path(&format!("a/blobs/sha256/{}", digest.encoded()))).unwrap();
    let output = place.run(&["repair", "oci:a", "--from", "tar:other.tar"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("reference=tar:other.tar"), "{}", text(&output.stderr));
}

#[test]
fn straight_from_a_registry() {
    let place = Place::with_files();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    place.write("large.bin", &large);
    place.push(&["oci:a:lib/app:v1", "large.bin", "a.txt"]);
    place.ok(&["attach", "-q", "oci:a:lib/app:v1", "--artifact-type", "application/spdx+json", "a.txt"]);
    place.push(&["oci:a:lib/app:v2", "sub/b.txt"]);
    place.push(&["oci:a:lib/other:v1", "sub/b.txt"]);
    let server = Server::start(&place, &["oci:a", "--read-only"]);
    let from = |reference: &str| format!("{}/{reference}", server.address);
    let read = |file: &str| fs::read(place.path(file)).unwrap();
    // Wherever the same artifacts are, under the same names, they give the same bytes.
    for (number, options) in
        [&[][..], &["--no-referrers"], &["--docker", "--compress", "zstd"]].iter().enumerate()
    {
        let [ours, theirs, again] = ["ours", "theirs", "again"].map(|name| format!("{name}{number}.tar"));
        place.ok(&[&["export", "oci:a:lib/app:v1", "oci:a:lib/other:v1", "-o", &ours], *options].concat());
        place
            .ok(&[&["export", &from("lib/app:v1"), &from("lib/other:v1"), "-o", &theirs], *options].concat());
        assert!(read(&ours) == read(&theirs), "{options:?}");
        if number == 0 {
            place.ok(&["export", &format!("tar:{ours}"), "-o", &again]);
            assert!(read(&ours) == read(&again), "from the archive itself");
        }
    }
    // Without a tag it is all tags, with what is attached.
    place.ok(&["export", &from("lib/app"), "-o", "all.tar", "--volume-size", "2.2MB"]);
    place.ok(&["import", "all.001.tar", "all.002.tar", "oci:b"]);
    for tag in ["v1", "v2"] {
        let [there, here] =
            ["a", "b"].map(|layout| place.ok(&["resolve", &format!("oci:{layout}:lib/app:{tag}")]));
        assert_eq!(there, here);
    }
    assert_eq!(
        place.ok(&["discover", "-q", "oci:b:lib/app:v1"]),
        place.ok(&["discover", "-q", "oci:a:lib/app:v1"])
    );
    place.ok(&["verify", "oci:b", "--read-data"]);
    place.ok(&["inventory", "oci:b", "-o", "have.inv"]);
    place.ok(&["export", &from("lib/app:v1"), "-o", "delta.tar", "--have", "have.inv"]);
    assert!(read("delta.tar").len() < 50_000);
    place.fails(3, &["export", &from("lib/app:none"), "-o", "x.tar"]);
    let error = place.fails(2, &["export", &from("lib/app:v1"), "oci:a", "-o", "x.tar"]);
    assert!(error.contains("only one layout or registry"), "{error}");
    server.stop();
    // What the registry lacks is told before there is a file, and what it has wrong leaves none.
    let mut layout = Layout::new(place.path("plain"));
    layout.artifact("lib/app:v1", &[(None, &large)]);
    let digest = orlop::Digest::of(&large);
    let blob = place.path(&format!("plain/blobs/sha256/{}", digest.encoded()));
    fs::remove_file(&blob).unwrap();
    let server = Server::start(&place, &["oci:plain", "--read-only"]);
    let error = place.fails(4, &["export", &format!("{}/lib/app:v1", server.address), "-o", "x.tar"]);
    assert!(error.contains("is missing") && error.contains(&digest.to_string()), "{error}");
    server.stop();
    let mut bytes = read("again0.tar");
    let at = bytes.windows(64).position(|window| *window == large[..64]).unwrap();
    bytes[at] ^= 1;
    place.write("wrong.tar", bytes);
    let server = Server::start(&place, &["tar:wrong.tar"]);
    let error = place.fails(5, &["export", &format!("{}/lib/app:v1", server.address), "-o", "x.tar"]);
    assert!(error.contains("not what its digest says") && error.contains(&digest.to_string()), "{error}");
    assert!(!place.path("x.tar").exists());
    server.stop();
}

#[test]
fn what_is_damaged_or_cut_is_found() {
    let place = Place::with_files();
    let artifact = high(&place);
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    let whole = fs::read(place.path("out.tar")).unwrap();
    let large = fs::read(place.path("large.bin")).unwrap();
    let at = whole.windows(64).position(|window| *window == large[..64]).unwrap();
    let mut wrong = whole.clone();
    wrong[at + 100] ^= 1;
    place.write("wrong.tar", wrong);
    let error = place.fails(5, &["import", "wrong.tar", "oci:b", "--check"]);
    assert!(error.contains("not what its digest says") && !place.path("b").exists(), "{error}");
    place.fails(5, &["import", "wrong.tar", "oci:b"]);
    place.fails(3, &["resolve", "oci:b:v1"]);
    // However it is compressed, in the middle and near the end.
    for compress in ["none", "gzip", "zstd"] {
        let options: &[&str] = if compress == "none" { &[] } else { &["--compress", compress] };
        place.ok(&[&["export", "oci:a", "-o", "packed.tar", "--overwrite"], options].concat());
        let packed = fs::read(place.path("packed.tar")).unwrap();
        for end in [packed.len() / 2, packed.len() - packed.len() / 50] {
            place.write("cut.tar", &packed[..end]);
            let error = place.fails(5, &["import", "cut.tar", "oci:c"]);
            assert!(error.contains("cut") && !place.path("c").exists(), "{compress} {end}: {error}");
        }
    }
    // What came of a stream before its end stays, and is not taken again.
    let behind = (at + large.len()).next_multiple_of(512);
    place.write("cut.tar", [&whole[..behind], b"half a header"].concat());
    let from = |file: &str, args: &[&str]| {
        let input = fs::File::open(place.path(file)).unwrap();
        place.command(&[&["import", "-", "oci:d"], args].concat()).stdin(Stdio::from(input)).output().unwrap()
    };
    assert_eq!(from("cut.tar", &[]).status.code(), Some(5));
    let done = from("out.tar", &["--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(report["bytes"].as_u64() < Some(1_000_000), "{report}");
    assert_eq!(place.ok(&["resolve", "oci:d:v1"]).trim(), artifact);
}

#[test]
fn what_a_layout_lost_is_in_no_inventory_and_comes_again() {
    let place = Place::with_files();
    high(&place);
    place.ok(&["export", "oci:a", "-o", "out.tar"]);
    place.ok(&["import", "out.tar", "oci:b"]);
    let digest = orlop::Digest::of(&fs::read(place.path("large.bin")).unwrap());
    assert!(place.ok(&["inventory", "oci:b"]).contains(&digest.to_string()));
    fs::remove_file(place.path(&format!("b/blobs/sha256/{}", digest.encoded()))).unwrap();
    assert!(!place.ok(&["inventory", "oci:b"]).contains(&digest.to_string()));
    place.ok(&["import", "out.tar", "oci:b"]);
    place.ok(&["verify", "oci:b", "--read-data"]);
}

#[test]
fn content_that_a_descriptor_has_need_not_be_there() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("a"));
    let empty = orlop::Digest::of(b"{}");
    let config = serde_json::json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.to_string(), "size": 2, "data": "e30="});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let document =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []});
    let digest = layout.document("v1", media_type, &document);
    layout.publish();
    let _ = fs::remove_file(place.path(&format!("a/blobs/sha256/{}", empty.encoded())));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", place.path("a")).unwrap();
    place.write("a.tar", builder.into_inner().unwrap());
    place.ok(&["export", "tar:a.tar", "-o", "b.tar"]);
    place.ok(&["import", "b.tar", "oci:c"]);
    assert_eq!(place.ok(&["resolve", "oci:c:v1"]).trim(), digest.to_string());
    place.ok(&["verify", "oci:c", "--read-data"]);
}
