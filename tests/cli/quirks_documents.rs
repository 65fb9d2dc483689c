//! Quirks of documents: what stands beside and in index.json and oci-layout, media types, artifacts, and archives.

use std::fs;

use serde_json::json;

use crate::quirks::{Case, Form, Row, copy, row};
use crate::support::*;

const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) const ROWS: &[Row] = &[
    row("Q1 manifest.json and repositories beside index.json", "docker-save", |case| {
        case.names(&["1", "2"]);
        case.resolves(":1", &case.entry("1"));
        case.resolves(":app:2", &case.entry("2"));
        let beside = fs::read(case.place.path("l/repositories")).unwrap();
        assert_eq!(beside, br#"{"app":{"1":"none"}}"#);
        assert!(case.place.path("l/manifest.json").exists());
    }),
    // An exception: such archives are read by a later version.
    row("Q2 manifest.json without index.json", "docker-archive", |case| {
        for args in [&["ls", "oci:l"][..], &["resolve", "oci:l:1"], &["push", "oci:l:v1", "note.txt"], &["tag", "oci:l:1", "2"]] {
            let run = case.place.run(args);
            let said = text(&run.stderr);
            assert!(!run.status.success(), "{args:?}");
            assert!(said.contains("docker-archive:") && said.contains("before version 25"), "{args:?}: {said}");
        }
    })
    .only_viewed(),
    row("Q3 manifests are null", "docker-null", |case| {
        case.names(&[]);
        case.refuses(3, "resolve", ":1", &["no such reference"]);
    }),
    row("Q3 no manifests", "docker-null", |case| {
        case.names(&[]);
        case.refuses(3, "resolve", ":1", &["no such reference"]);
    })
    .with(|root| fs::write(root.join("index.json"), r#"{"schemaVersion":2}"#).unwrap()),
    row("Q3 an image without layers", "docker-no-layers", |case| {
        for name in ["null", "absent"] {
            case.resolves(&format!(":{name}"), &case.entry(name));
            assert!(case.pulled(&format!(":{name}")).is_empty());
        }
    }),
    row("Q4 an index in an index", "docker-save", |case| {
        let (inner, image) = (case.entry("1"), case.of("docker"));
        case.resolves(":2", &case.entry("2"));
        case.resolves(&format!("@{inner}"), &inner);
        let said = case.place.fails(1, &["pull", "oci:l:2"]);
        assert!(said.contains(&inner), "{said}");
        let said = case.place.fails(1, &["pull", "oci:l:1"]);
        assert!(said.contains(&image), "{said}");
        case.pulls(&format!("@{image}"), "docker.txt", "layer of docker\n");
    }),
    row("Q14 docker schema 2 list in a layout", "regctl-docker", |case| {
        let list = case.entry("list");
        let shown = case.place.json(&["resolve", "oci:l:list"]);
        assert_eq!((&shown["digest"], &shown["mediaType"]), (&json!(list), &json!(LIST)));
        let child = case.json(&list)["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let shown = case.place.json(&["resolve", &format!("oci:l@{child}")]);
        assert_eq!(shown["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    }),
    row("Q14 media types that are missing or disagree", "media-types", |case| {
        for (name, media_type) in [
            ("body-without", MANIFEST),
            ("entry-without", MANIFEST),
            // The descriptor counts, as long as the document has the members for it.
            ("docker-body", MANIFEST),
            ("oci-body", LIST),
        ] {
            let shown = case.place.json(&["resolve", &format!("oci:l:{name}")]);
            assert_eq!((&shown["digest"], &shown["mediaType"]), (&json!(case.entry(name)), &json!(media_type)), "{name}");
            case.attached(&format!(":{name}"), &[], &[]);
        }
        let listed = case.json(&case.entry("oci-body"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
        case.resolves(&format!("@{listed}"), &listed);
    }),
    row("Q14 members of two kinds of manifest", "media-types", |case| {
        for (name, key) in [("both-as-image", "key=manifests"), ("both-as-index", "key=config"), ("index-as-image", "key=manifests")] {
            for verb in ["resolve", "pull", "discover"] {
                case.refuses(1, verb, &format!(":{name}"), &["another kind of manifest", key]);
            }
            case.notes(&[&format!("not taken from index.json: {name}"), key]);
        }
    }),
    row("Q14 docker schema 1 is opaque", "media-types", |case| {
        case.resolves(":schema1", &case.entry("schema1"));
        case.refuses(1, "pull", ":schema1", &["not a manifest that lists files"]);
    }),
    row("Q15 artifacts of all times", "artifacts", |case| {
        for (name, kind) in [
            ("modern", "application/vnd.test.modern"),
            ("config-type", "application/vnd.cncf.helm.config.v1+json"),
            ("oci", "application/vnd.test.oci"),
            ("oras", "application/vnd.test.oras"),
        ] {
            let shown = case.place.json(&["resolve", &format!("oci:l:{name}")]);
            assert_eq!((&shown["digest"], &shown["artifactType"]), (&json!(case.entry(name)), &json!(kind)), "{name}");
        }
        case.attached(":v1", &[&case.entry("oci"), &case.entry("oras")], &[]);
        for name in [":config-type", ":oci", ":oras"] {
            case.pulls(name, "blob.txt", "blob\n");
        }
        case.pulls(":modern", "modern.txt", "attached: modern\n");
    }),
    row("Q16 entries of unknown media types", "unknown", |case| {
        case.names(&["v1", "here", "absent", "odd"]);
        case.resolves(":v1", &case.entry("v1"));
        case.resolves(":here", &case.entry("here"));
        case.refuses(1, "pull", ":here", &["not a manifest that lists files"]);
        case.refuses(4, "resolve", ":absent", &["not in the layout", &case.entry("absent")]);
        case.refuses(1, "resolve", ":odd", &["media type"]);
        case.notes(&["not taken from index.json: absent"]);
    }),
    row("Q19 documents as editors leave them", "syntax", |case| {
        case.resolves(":v1", &case.entry("v1"));
        let layout = text(&fs::read(case.place.path("l/oci-layout")).unwrap());
        assert!(layout.contains("1.1.0") && layout.contains("com.example.more"), "{layout}");
    }),
    row("Q19 byte order marks", "syntax", |case| case.resolves(":v1", &case.entry("v1"))).with(|root| {
        for name in ["oci-layout", "index.json"] {
            let bytes = fs::read(root.join(name)).unwrap();
            fs::write(root.join(name), [b"\xef\xbb\xbf", &bytes[..]].concat()).unwrap();
        }
    }),
    row("Q19 no oci-layout", "syntax", |case| {
        case.resolves(":v1", &case.entry("v1"));
        if case.form != Form::View {
            let layout = fs::read(case.place.path("l/oci-layout")).unwrap();
            assert_eq!(layout, br#"{"imageLayoutVersion":"1.0.0"}"#);
        }
    })
    .with(|root| fs::remove_file(root.join("oci-layout")).unwrap()),
    row("Q19 a layout of version 2", "syntax", |case| {
        // What a newer version means nobody knows, so nothing is read or written.
        case.refuses(1, "resolve", ":v1", &["version=2.0.0"]);
        copy(&case.place.path("l"), &case.place.path("m"));
        for verb in [&["push", "oci:m:v2", "note.txt"][..], &["push", "--plain", "oci:m:v2", "note.txt"]] {
            assert!(case.place.fails(1, verb).contains("version=2.0.0"));
            for name in ["oci-layout", "index.json"] {
                assert_eq!(fs::read(case.place.path("m").join(name)).unwrap(), fs::read(case.place.path("l").join(name)).unwrap());
            }
        }
    })
    .with(|root| fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap())
    .only_viewed(),
    row("Q19 a key twice in index.json", "syntax", |case| {
        case.refuses(5, "resolve", ":v1", &["index.json", "twice"]);
        case.refuses(5, "ls", "", &["index.json"]);
        unwritten(case);
    })
    .with(|root| {
        let index = r#"{"manifests":[],"manifests":[]}"#;
        fs::write(root.join("index.json"), index).unwrap();
    })
    .only_viewed(),
    row("Q19 a key twice in an entry", "syntax", |case| {
        case.refuses(5, "resolve", ":v1", &["index.json", "duplicate"]);
        unwritten(case);
    })
    .with(|root| {
        let index = text(&fs::read(root.join("index.json")).unwrap());
        let doubled = index.replacen("\"size\":", "\"size\": 1, \"size\":", 1);
        assert_ne!(doubled, index);
        fs::write(root.join("index.json"), doubled).unwrap();
    })
    .only_viewed(),
    row("Q19 an empty index.json", "syntax", |case| {
        case.refuses(5, "ls", "", &["index.json"]);
        unwritten(case);
    })
    .with(|root| fs::write(root.join("index.json"), "").unwrap())
    .only_viewed(),
    row("Q19 a key twice in a manifest", "syntax", |case| {
        case.refuses(1, "resolve", ":twice", &["cannot be used", "duplicate key"]);
        case.resolves(":v1", &case.entry("v1"));
    })
    .with(|root| {
        let mut layout = Layout { root: root.to_owned(), entries: Vec::new() };
        layout.artifact("v1", &[]);
        let twice = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{EMPTY}","size":2}},"layers":[],"layers":[]}}"#
        );
        let digest = layout.blob(twice.as_bytes());
        layout.blob(b"{}");
        layout.entries.push(json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": twice.len(),
            "annotations": {crate::quirks::NAME: "twice"}}));
        layout.publish();
    }),
    row("Q20 a tar of a layout", "podman", |case| {
        read_as_an_archive(case, packed);
        refused_as_an_archive(case);
    }),
    row("Q21 a compressed tar", "podman", |case| {
        read_as_an_archive(case, |bytes| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            encoder.finish().unwrap()
        });
        refused_as_an_archive(case);
    }),
    row("Q22 a layout below a directory", "podman", |case| {
        // The directory above is none; the one that is a layout is read.
        let place = case.place.0.path();
        fs::create_dir(place.join("above")).unwrap();
        fs::rename(place.join("l"), place.join("above/below")).unwrap();
        let said = case.place.fails(3, &["ls", "oci:above"]);
        assert!(said.contains("neither a store nor an OCI layout"), "{said}");
        let digest = case.place.ok(&["resolve", "oci:above/below:localhost/app:1"]);
        assert_eq!(digest.trim(), case.entry("localhost/app:1"));
        fs::rename(place.join("above/below"), place.join("l")).unwrap();
    }),
];

/// A writer does not replace an index.json that it cannot read: what it names would be lost.
fn unwritten(case: &Case) {
    copy(&case.place.path("l"), &case.place.path("m"));
    let before = listing(&case.place.path("m"));
    for args in [
        &["push", "oci:m:v2", "note.txt"][..],
        &["init", "oci:m"],
        &["rebuild", "oci:m"],
        &["push", "--plain", "oci:m:v2", "note.txt"],
    ] {
        assert!(case.place.fails(5, args).contains("index.json"), "{args:?}");
        let after: Vec<String> = listing(&case.place.path("m"));
        let files =
            |lines: &[String]| lines.iter().filter(|line| line.contains("/m/")).cloned().collect::<Vec<_>>();
        assert_eq!(files(&after), files(&before), "{args:?}");
    }
}

fn packed(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// The layout as an archive names what the layout does.
fn read_as_an_archive(case: &Case, pack: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut builder = tar::Builder::new(Vec::new());
    let layout = case.place.path("l");
    for name in ["index.json", "oci-layout"] {
        builder.append_path_with_name(layout.join(name), format!("./{name}")).unwrap();
    }
    builder.append_dir_all("blobs", layout.join("blobs")).unwrap();
    fs::write(case.place.path("a.tar"), pack(builder.into_inner().unwrap())).unwrap();
    let digest = case.place.ok(&["resolve", "tar:a.tar:localhost/app:1"]);
    assert_eq!(digest.trim(), case.entry("localhost/app:1"));
}

/// A verb that takes no archive says what it is and what to do, however it is named.
fn refused_as_an_archive(case: &Case) {
    for (reference, code) in [
        ("oci:a.tar", 1),
        ("oci:a.tar:v1", 1),
        ("a.tar", 2),
        ("a.tar:v1", 2),
        ("tar:a.tar:v1", 2),
        ("oci-archive:a.tar", 2),
        ("docker-archive:a.tar:v1", 2),
    ] {
        let said = case.place.fails(code, &["inspect", reference]);
        assert!(said.contains("a.tar") && said.contains("orlop import FILE"), "{reference}: {said}");
    }
    let said = case.place.fails(1, &["push", "oci:a.tar:v1", "note.txt"]);
    assert!(said.contains("orlop import FILE"), "{said}");
}
