//! Quirks of content: absent, elsewhere, inline, damaged, in other codings, under other digests, and what is no content.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use orlop::Digest;
use serde_json::Value;

use crate::quirks::{Case, Form, Row, copy, row};
use crate::support::*;

pub(crate) const ROWS: &[Row] = &[
    row("Q9 an index with a part of its children, of containerd", "containerd", |case| {
        let index = case.entry("1");
        let [here, absent] =
            [0, 1].map(|n| case.json(&index)["manifests"][n]["digest"].as_str().unwrap().to_owned());
        case.notes(&[&format!("{index} refers to {absent}, which is not here")]);
        case.pulls(&format!("@{here}"), "containerd.txt", "layer of containerd\n");
        case.refuses(3, "resolve", &format!("@{absent}"), &["no such reference"]);
        case.attached(":1", &[], &[]);
    }),
    row("Q9 an index with a part of its children, of regctl", "regctl-sparse", |case| {
        case.resolves(":v1", &case.entry("v1"));
        let children = case.json(&case.entry("v1"))["manifests"].clone();
        let is_here = |child: &Value| {
            case.place.run(&["resolve", &format!("oci:l@{}", child["digest"].as_str().unwrap())])
        };
        let codes: Vec<_> =
            children.as_array().unwrap().iter().map(|child| is_here(child).status.code().unwrap()).collect();
        assert_eq!(codes, [0, 3]);
    }),
    // An exception: a second place for content cannot be given yet.
    row("Q10 content in a shared directory", "skopeo-shared/layout", |case| {
        let digest = case.entry("v1");
        assert!(case.listed(&[]).contains(&("v1".to_owned(), digest.clone())));
        for verb in ["resolve", "pull", "discover"] {
            case.refuses(4, verb, ":v1", &["not in the layout", &digest, "hint: "]);
        }
        case.notes(&["not taken from index.json: v1", "content is missing"]);
    }),
    row("Q11 content in its descriptor", "inline", |case| {
        for name in [":children", ":manifest"] {
            case.pulls(name, "carried.txt", "{\"carried\":true}");
        }
        case.resolves(":manifest", &case.entry("manifest"));
        if case.form != Form::View {
            // It has a file now, for other tools.
            case.blob(EMPTY);
            case.blob(&case.entry("manifest"));
        }
    }),
    row("Q11 data that is not the content", "inline", |case| {
        let layer = case.json(&case.entry("liar"))["layers"][0]["digest"].as_str().unwrap().to_owned();
        case.refuses(4, "pull", ":liar", &["not in the layout", &layer]);
        assert!(!case.place.path("out").exists());
        assert!(!case.place.path("l/blobs").join(layer.replace(':', "/")).exists());
    }),
    row("Q11 data instead of a file that was cut", "oras", |case| {
        case.pulls(":carrying", "a.txt", "a file\n");
    })
    .with(|root| {
        let mut index = read_index(root);
        let entry = index["manifests"][0].clone();
        let mut manifest: Value =
            serde_json::from_slice(&fs::read(blob_path(root, &entry)).unwrap()).unwrap();
        manifest["layers"][0]["data"] = "YSBmaWxlCg==".into();
        fs::write(blob_path(root, &manifest["layers"][0]), "a").unwrap();
        add(root, &mut index, &manifest, "carrying");
    }),
    row("Q12 layers that are not for distribution", "foreign-layers", |case| {
        case.pulls(":v1", "here.txt", "here\n");
        case.resolves(":v1", &case.entry("v1"));
        if case.form == Form::View {
            let said = text(&case.place.run(&["ls", "oci:l"]).stderr);
            assert_eq!(said, "", "nobody expects them");
        }
    }),
    row("Q13 codings of layers", "skopeo-codings", |case| {
        for (name, media_type) in [
            ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
            ("plain", "application/vnd.oci.image.layer.v1.tar"),
            ("encrypted", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        ] {
            let digest = case.entry(name);
            case.resolves(&format!(":{name}"), &digest);
            let layer = case.json(&digest)["layers"][0].clone();
            assert_eq!(layer["mediaType"], media_type);
            case.blob(layer["digest"].as_str().unwrap());
        }
    }),
    row("Q17 digests of sha512", "digests", |case| {
        let digest = case.entry("long");
        assert!(digest.starts_with("sha512:"));
        case.resolves(":long", &digest);
        case.resolves(&format!("@{digest}"), &digest);
        case.pulls(":long", "long.txt", "long\n");
    }),
    row("Q17 unknown algorithms and what is no digest", "digests", |case| {
        case.resolves(":v1", &case.entry("v1"));
        for name in ["md5", "multi", "upper", "up", "slash", "short", "empty"] {
            case.refuses(1, "resolve", &format!(":{name}"), &["cannot be used", "digest"]);
            case.refuses(1, "pull", &format!(":{name}"), &["cannot be used", "digest"]);
        }
        case.notes(&["digest=sha256:../../../escape", "digest=../escape:", "ABABAB"]);
        case.refuses(2, "resolve", &format!("@sha256:{}", "AB".repeat(32)), &["lower-case"]);
        case.refuses(2, "resolve", "@sha256:../../escape", &["sha256:../../escape"]);
        // The one that points out of the layout is read by nobody.
        assert_eq!(fs::read(case.place.path("l/escape")).unwrap(), b"secret\n");
        case.refuses(1, "resolve", ":inside", &["cannot be used", "layers[0]"]);
    }),
    row("Q18 an entry of another size", "skopeo", |case| {
        case.resolves(":v1", &case.entry("v1"));
        let size = case.blob(&case.entry("v1")).len();
        assert_eq!(case.place.json(&["resolve", "oci:l:v1"])["size"], size);
        case.notes(&["wrong size for v1", "expected=7", &format!("found={size}")]);
        if case.form == Form::View {
            return;
        }
        let index = read_index(&case.place.path("l"));
        let entry =
            index["manifests"].as_array().unwrap().iter().find(|entry| entry["digest"] == case.entry("v1"));
        // A plain layout is written anew as well, since something was pushed.
        assert_eq!(entry.unwrap()["size"], size);
    })
    .with(|root| {
        let mut index = read_index(root);
        index["manifests"][0]["size"] = 7.into();
        write_index(root, &index);
    }),
    row("Q18 a layer of another size", "oras", |case| {
        case.refuses(4, "pull", ":v1", &["not in the layout"]);
        case.notes(&["another size than announced", "found=1"]);
        assert!(!case.place.path("out").exists());
    })
    .with(|root| fs::write(layer_of(root), "a").unwrap()),
    row("Q18 an empty file after a loss of power", "oras", |case| {
        case.refuses(4, "pull", ":v1", &["not in the layout"]);
        case.notes(&["another size than announced", "found=0"]);
    })
    .with(|root| fs::write(layer_of(root), "").unwrap()),
    row("Q18 an empty manifest", "oras", |case| {
        case.refuses(5, "resolve", ":v1", &["cannot be used", &case.entry("v1")]);
        case.refuses(5, "pull", ":v1", &["cannot be used"]);
        case.notes(&["not taken from index.json: v1"]);
    })
    .with(|root| fs::write(blob_path(root, &read_index(root)["manifests"][0]), "").unwrap()),
    row("Q18 bytes that do not match, in a layer", "oras", |case| {
        match case.form {
            // Hashed when they are read first.
            Form::View | Form::Plain => case.refuses(5, "pull", ":v1", &["hint: "]),
            Form::Pushed | Form::Rebuilt => case.refuses(4, "pull", ":v1", &["not in the layout"]),
        }
        assert!(!case.place.path("out/a.txt").exists());
    })
    .with(|root| fs::write(layer_of(root), "b file\n").unwrap()),
    row("Q18 bytes that do not match, in a manifest", "oras", |case| {
        for verb in ["resolve", "pull", "discover"] {
            case.refuses(5, verb, ":v1", &["cannot be used", &case.entry("v1")]);
        }
    })
    .with(|root| {
        let path = blob_path(root, &read_index(root)["manifests"][0]);
        let other = text(&fs::read(&path).unwrap()).replace("test.app", "test.bad");
        fs::write(path, other).unwrap();
    }),
    row("Q18 a directory in place of a layer", "oras", |case| {
        let code = if matches!(case.form, Form::View | Form::Plain) { 5 } else { 4 };
        let said = case.place.run(&["pull", "oci:l:v1", "-o", "out"]);
        assert!([Some(code), Some(4)].contains(&said.status.code()), "{}", text(&said.stderr));
        assert!(!case.place.path("out/a.txt").exists());
        case.resolves(":v1", &case.entry("v1"));
        case.notes(&["not a regular file"]);
    })
    .with(|root| {
        let path = layer_of(root);
        fs::remove_file(&path).unwrap();
        fs::create_dir(path).unwrap();
    })
    .only_viewed(),
    row("Q18 a directory in place of a manifest", "oras", |case| {
        case.refuses(5, "resolve", ":v1", &["cannot be used", "regular file"]);
    })
    .with(|root| {
        let path = blob_path(root, &read_index(root)["manifests"][0]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(path).unwrap();
    })
    .only_viewed(),
    row("Q18 a link in place of a layer", "oras", |case| {
        let run = case.place.run(&["pull", "oci:l:v1", "-o", "out"]);
        assert!([Some(4), Some(5)].contains(&run.status.code()), "{}", text(&run.stderr));
        assert!(!case.place.path("out/a.txt").exists());
        case.notes(&["not a regular file"]);
    })
    .with(|root| linked(&layer_of(root)))
    .only_viewed(),
    row("Q18 a link in place of a manifest", "oras", |case| {
        case.refuses(5, "resolve", ":v1", &["cannot be used", "regular file"]);
    })
    .with(|root| linked(&blob_path(root, &read_index(root)["manifests"][0])))
    .only_viewed(),
    row("Q18 a link in place of index.json", "oras", refused_as_a_link)
        .with(|root| linked(&root.join("index.json")))
        .only_viewed(),
    row("Q18 a link in place of oci-layout", "oras", refused_as_a_link)
        .with(|root| linked(&root.join("oci-layout")))
        .only_viewed(),
    row("Q18 a link in place of blobs", "oras", refused_as_a_link)
        .with(|root| linked(&root.join("blobs")))
        .only_viewed(),
    row("Q18 a link in place of an algorithm", "oras", refused_as_a_link)
        .with(|root| linked(&root.join("blobs/sha256")))
        .only_viewed(),
    row("Q18 files that nobody may write", "skopeo", |case| {
        case.resolves(":v1", &case.entry("v1"));
        case.pulled(":v1");
    })
    .with(|root| {
        for (path, _) in tree(&root.join("blobs")) {
            fs::set_permissions(root.join("blobs").join(path), fs::Permissions::from_mode(0o444)).unwrap();
        }
    }),
    row("Q18 files of other tools among the content", "skopeo", |case| {
        case.resolves(":v1", &case.entry("v1"));
        assert_eq!(case.listed(&["-a"]).len(), 4);
        for name in LITTER {
            assert!(case.place.path("l").join(name).exists(), "{name} is not ours to remove");
        }
    })
    .with(|root| {
        for name in LITTER {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "half of somethi").unwrap();
        }
    }),
    row("Q25 bytes as they came", "bytes", |case| {
        let digest = case.entry("v1");
        case.resolves(":v1", &digest);
        let bytes = case.blob(&digest);
        assert!(bytes.starts_with(b"{\n\t\"annotations\"") && bytes.ends_with(b"}\n\n"));
        let shown = case.place.json(&["resolve", "oci:l:v1"]);
        assert_eq!(shown["annotations"], serde_json::json!({"a": "2", "m": "\u{e9}", "z": "1"}));
        assert_eq!(shown["size"], bytes.len());
        // What else the entry says stays.
        let index = read_index(&case.place.path("l"));
        let entry =
            index["manifests"].as_array().unwrap().iter().find(|entry| entry["digest"] == digest.as_str());
        assert_eq!(entry.unwrap()["annotations"]["zebra"], "1");
    }),
    row("Q26 names for media that know no case and no colon", "skopeo", |case| {
        // Tags are in index.json only, so none of their signs is in the name of a file.
        let files = tree(&case.place.path("l"));
        let ours = files.keys().filter(|path| !path.starts_with(".orlop"));
        let mut lower = std::collections::BTreeSet::new();
        for path in ours {
            let path = path.to_str().unwrap();
            assert!(!path.contains(['\\', ':', '*', '?', '"', '<', '>', '|']), "{path}");
            assert!(lower.insert(path.to_lowercase()), "{path} differs in case only");
        }
        if case.form == Form::View {
            return;
        }
        let plain: &[&str] = if case.form == Form::Plain { &["--plain"] } else { &[] };
        let upper = case.place.push(&[plain, &["oci:l:V1", "note.txt"]].concat());
        case.resolves(":V1", &upper);
        case.resolves(":v1", &case.entry("v1"));
    }),
];

/// What crane, regctl, oras and others leave behind when they are interrupted.
const LITTER: [&str; 6] = [
    "blobs/sha256/9852af0411f829a0d5d4ad5f746050784c71c3b2879e0981c174fcb86abcae30123456",
    "blobs/sha256/12345.tmp",
    "blobs/sha256/.DS_Store",
    "blobs/md5/00000000000000000000000000000000",
    "blobs/Thumbs.db",
    "ingest/sha256_9852_1234",
];

fn read_index(root: &Path) -> Value {
    serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap()
}

fn write_index(root: &Path, index: &Value) {
    fs::write(root.join("index.json"), serde_json::to_vec(index).unwrap()).unwrap();
}

fn blob_path(root: &Path, descriptor: &Value) -> std::path::PathBuf {
    root.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// The file of the only layer of the first entry.
fn layer_of(root: &Path) -> std::path::PathBuf {
    let manifest = fs::read(blob_path(root, &read_index(root)["manifests"][0])).unwrap();
    blob_path(root, &serde_json::from_slice::<Value>(&manifest).unwrap()["layers"][0])
}

fn add(root: &Path, index: &mut Value, manifest: &Value, name: &str) {
    let bytes = serde_json::to_vec(manifest).unwrap();
    let digest = Digest::of(&bytes);
    let entry = serde_json::json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": bytes.len(),
        "annotations": {crate::quirks::NAME: name}});
    fs::write(blob_path(root, &entry), bytes).unwrap();
    // The first stays: its layer is told apart by it.
    index["manifests"].as_array_mut().unwrap().insert(1, entry);
    write_index(root, index);
}

/// Puts what is there aside, outside of the layout, and a link to it in its place.
fn linked(path: &Path) {
    let aside = path.ancestors().find(|up| up.ends_with("l")).unwrap().with_file_name("aside");
    fs::rename(path, &aside).unwrap();
    symlink(&aside, path).unwrap();
}

/// Neither reading nor writing follows the link, and a writer leaves what it points to alone.
fn refused_as_a_link(case: &Case) {
    let aside = listing(&case.place.path("aside"));
    for args in [&["ls", "oci:l"][..], &["resolve", "oci:l:v1"], &["pull", "oci:l:v1", "-o", "out"]] {
        let run = case.place.run(args);
        assert!(!run.status.success(), "{args:?}: {}", text(&run.stdout));
        let said = text(&run.stderr);
        assert!(said.contains("error: ") && said.contains("path="), "{args:?}: {said}");
    }
    assert!(!case.place.path("out").exists());
    // A writer makes nothing beside it either. On a copy, since the first must stay for the next row.
    copy(&case.place.path("l"), &case.place.path("m"));
    let before = listing(&case.place.path("m"));
    for args in [&["push", "oci:m:v2", "note.txt"][..], &["tag", "oci:m:v1", "v2"], &["rebuild", "oci:m"]] {
        assert!(case.place.fails(1, args).contains("path="), "{args:?}");
        assert_eq!(listing(&case.place.path("m")), before, "{args:?}");
    }
    assert_eq!(listing(&case.place.path("aside")), aside);
}
