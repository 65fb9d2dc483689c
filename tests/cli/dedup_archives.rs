//! `orlop dedup tar:FILE`: archives are measured where they lie, with the figures of the layout that they are of.

use std::fs;

use serde_json::Value;

use crate::dedup::{code, gzip, noise, tar};
use crate::support::{Layout, Place, text, tree};

/// What differs on purpose: names, which begin with the source, and times.
fn figures(mut report: Value, source: &str) -> Value {
    let members = report.as_object_mut().unwrap();
    members.remove("times").unwrap();
    for image in members["images"].as_array_mut().unwrap() {
        let name = image["name"].as_str().unwrap().strip_prefix(source).unwrap().to_owned();
        image["name"] = name.into();
    }
    report
}

/// A layout with two repositories, a manifest without a name, and layers in common.
fn place() -> Place {
    let place = Place::new();
    let (shared, own) = (noise(1, 400_000), noise(2, 90_000));
    place.write("one.tar", tar(&[("usr/shared", &shared), ("one", &own)]));
    place.write("two.tar.gz", gzip(&tar(&[("opt/shared", &shared)])));
    for (name, files) in
        [("v1", &["one.tar"][..]), ("app:v1", &["one.tar", "two.tar.gz"]), ("app:v2", &["two.tar.gz"])]
    {
        place.ok(&[&["push", "--plain", &format!("oci:mirror:{name}")], files].concat());
    }
    place.ok(&["attach", "--plain", "oci:mirror:app:v2", "--artifact-type", "a/b", "two.tar.gz"]);
    place.ok(&["untag", "--plain", "oci:mirror:v1"]);
    place
}

#[test]
fn archives_have_the_figures_of_their_layout() {
    let place = place();
    let args = ["--by", "file", "--by", "fixed:4Ki", "--by", "mincdc:16Ki"];
    let of = |source: &str| figures(place.json(&[&["dedup", source], &args[..]].concat()), source);
    let layout = of("oci:mirror");
    assert_eq!(layout["corpus"]["images"], 4, "{layout}");
    // By orlop, and by anything that packs a directory; as they are and compressed, which are read in their order.
    place.ok(&["export", "oci:mirror", "-o", "exported.tar"]);
    place.ok(&["export", "oci:mirror", "-o", "exported.tar.zst", "--compress", "zstd"]);
    let members = tree(&place.path("mirror"));
    // Contents before index.json, as one does who packs a directory.
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(path, bytes)| (path.to_str().unwrap(), bytes.as_slice())).collect();
    place.write("packed.tar", tar(&members));
    place.write("packed.tgz", gzip(&tar(&members)));
    for archive in ["packed.tar", "packed.tgz", "exported.tar", "exported.tar.zst"] {
        assert_eq!(of(&format!("tar:{archive}")), layout, "{archive}");
    }
    // A repository, and an image of it.
    for name in ["app", "app:v1"] {
        let (layout, archive) = (of(&format!("oci:mirror:{name}")), of(&format!("tar:packed.tar:{name}")));
        assert_eq!(archive, layout, "{name}");
    }
    let error = place.fails(3, &["dedup", "tar:packed.tar:other"]);
    assert!(error.contains("reference=tar:packed.tar:other"), "{error}");
    // Units too, in the same order.
    for source in ["oci:mirror", "tar:packed.tgz"] {
        place.ok(&["dedup", source, "--by", "fixed:4Ki", "--units", &format!("{}.csv", &source[..3])]);
    }
    let units = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(units("oci.csv").replace("oci:mirror", "tar:packed.tgz"), units("tar.csv"));
}

/// What `docker save` writes: layers without compression, and no manifest of a registry.
#[test]
fn what_docker_saved_is_measured() {
    let place = Place::new();
    let (shared, own) = (noise(1, 40_000), noise(2, 9000));
    let (base, top) = (tar(&[("shared", &shared)]), tar(&[("copy", &shared), ("own", &own)]));
    let id = |bytes: &[u8]| orlop::Digest::of(bytes).encoded().to_string();
    let config = format!(
        r#"{{"created":"2024-05-06T07:08:09Z","os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{}","sha256:{}"]}}}}"#,
        id(&base),
        id(&top)
    );
    let manifest = format!(
        r#"[{{"Config":"{0}.json","RepoTags":["app:v1"],"Layers":["{1}/layer.tar","{2}/layer.tar"]}}]"#,
        id(config.as_bytes()),
        id(&base),
        id(&top)
    );
    let (config_name, one, two) = (
        format!("{}.json", id(config.as_bytes())),
        format!("{}/layer.tar", id(&base)),
        format!("{}/layer.tar", id(&top)),
    );
    let members: [(&str, &[u8]); 4] = [
        (&one, &base),
        (&two, &top),
        (&config_name, config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ];
    place.write("saved.tar", tar(&members));
    let report = place.json(&["dedup", "tar:saved.tar", "--by", "file"]);
    assert_eq!(report["images"][0]["name"], "tar:saved.tar:app:v1");
    assert_eq!(report["images"][0]["created"], "2024-05-06T07:08:09Z");
    let file = &report["granularities"][1];
    assert_eq!(file["intraImageBytes"], 40_000);
    // Manifest and config, both structures, the shared file and the other one.
    assert_eq!((&file["units"], &file["uniqueUnits"]), (&7.into(), &6.into()));
    let plain = report["corpus"]["plainStoredBytes"].as_u64().unwrap();
    let manifest =
        report["inputs"].as_array().unwrap().iter().find(|input| input["role"] == "manifest").unwrap();
    assert_eq!(plain, (base.len() + top.len() + config.len()) as u64 + manifest["size"].as_u64().unwrap());
}

/// A name of an archive that nobody can use makes the figures too small, and is told.
#[test]
fn what_an_archive_lacks_is_told() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("mirror"));
    layout.artifact("v1", &[(None, &noise(1, 5000))]);
    let gone = layout.artifact("gone", &[(None, b"x")]);
    let blob = layout.root.join("blobs/sha256").join(gone.encoded().to_string());
    fs::remove_file(blob).unwrap();
    let members = tree(&layout.root);
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(path, bytes)| (path.to_str().unwrap(), bytes.as_slice())).collect();
    place.write("lacking.tar", tar(&members));
    let output = place.run(&["dedup", "tar:lacking.tar", "--by", "file", "--format", "json"]);
    assert_eq!(code(&output), 8, "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(report["findings"][0]["digest"], "gone");
    assert_eq!(report["images"][0]["name"], "tar:lacking.tar:v1");
    assert_eq!(code(&place.run(&["dedup", "tar:lacking.tar:v1", "--by", "file"])), 0);
}
