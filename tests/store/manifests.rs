//! Manifests: every kind with its edges, bytes kept as they came, and documents that are refused.

use orlop::oci::{ManifestKind, Role};
use orlop::{Digest, ErrorKind, Limits, Repository};
use serde_json::{Value, json};

use crate::support::*;

/// Pushes `bytes` and gives their descriptor.
fn pushed(here: &Repository, media_type: &str, bytes: &[u8]) -> Value {
    here.push_bytes(bytes.to_vec()).unwrap();
    descriptor(media_type, bytes)
}

fn roles(here: &Repository, digest: &Digest) -> Vec<(Role, String)> {
    let successors = here.successors(digest).unwrap().unwrap();
    successors
        .into_iter()
        .map(|successor| (successor.role, successor.descriptor.digest.to_string()))
        .collect()
}

#[test]
fn six_kinds_of_node_have_their_edges_and_their_bytes() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let config = pushed(&here, CONFIG, b"{\"a\":1}");
    let (one, two) = (pushed(&here, LAYER, b"one"), pushed(&here, LAYER, b"two"));
    let child = image("child", 1);
    child.push(&here, &[]);
    let subject = image("subject", 1);
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    let image_edges = vec![
        (Role::Config, text(&config)),
        (Role::Layer, text(&one)),
        (Role::Layer, text(&two)),
        (Role::Layer, text(&one)),
    ];
    let index_edges = vec![(Role::Manifest, child.digest().to_string())];
    let blob_edges = vec![(Role::Blob, text(&one)), (Role::Blob, text(&two))];
    let images = json!({ "config": config, "layers": [one, two, one] });
    let lists = json!({ "manifests": [child.descriptor()] });
    let blobs = json!({ "blobs": [one, two], "artifactType": "application/vnd.example" });
    let cases = [
        (IMAGE, ManifestKind::ImageManifest, &images, image_edges.clone()),
        (DOCKER, ManifestKind::DockerManifest, &images, image_edges),
        (INDEX, ManifestKind::ImageIndex, &lists, index_edges.clone()),
        (DOCKER_LIST, ManifestKind::DockerList, &lists, index_edges),
        (ORAS, ManifestKind::OrasArtifact, &blobs, blob_edges.clone()),
        (ARTIFACT, ManifestKind::OciArtifact, &blobs, blob_edges),
    ];
    for (media_type, kind, body, mut edges) in cases {
        for with_subject in [false, true] {
            let mut body = body.clone();
            body["mediaType"] = media_type.into();
            if ![ORAS, ARTIFACT].contains(&media_type) {
                body["schemaVersion"] = 2.into();
            }
            // Docker's documents know no subject.
            if with_subject && ![DOCKER, DOCKER_LIST].contains(&media_type) {
                body["subject"] = subject.descriptor();
                edges.push((Role::Subject, subject.digest().to_string()));
            }
            // Not as any serialiser writes it: the digest is over these bytes.
            let bytes = format!("\n \t{}\r\n", serde_json::to_string_pretty(&body).unwrap()).into_bytes();
            let digest = here.push_manifest(media_type, bytes.clone(), &[]).unwrap().digest;
            assert_eq!(digest, digest_of(&bytes));
            let stored = here.manifest(&digest).unwrap().unwrap();
            assert_eq!(&stored.content[..], &bytes[..]);
            assert_eq!(stored.descriptor.media_type, media_type);
            assert_eq!((stored.descriptor.digest, stored.descriptor.size), (digest, bytes.len() as u64));
            assert_eq!(stored.parse().unwrap().kind(), Some(kind));
            assert_eq!(roles(&here, &digest), edges, "{media_type}");
            let stat = here.stat(&digest).unwrap().unwrap();
            assert_eq!((stat.media_type.as_deref(), stat.blob), (Some(media_type), false));
        }
    }
    assert_eq!(here.stat(&digest_of(b"one")).unwrap().unwrap().media_type, None);
    assert!(here.stat(&digest_of(b"one")).unwrap().unwrap().blob);
    // Held as a blob as well it is both.
    let both = image("both", 1);
    both.push(&here, &[]);
    here.push_bytes(both.bytes.clone()).unwrap();
    let stat = here.stat(&both.digest()).unwrap().unwrap();
    assert_eq!((stat.media_type.as_deref(), stat.blob), (Some(IMAGE), true));
}

#[test]
fn any_other_document_is_kept_without_edges() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for (media_type, bytes) in [
        ("application/vnd.example.thing+json", &b"{\"layers\": \"not even a list\", \"layers\": 2}"[..]),
        ("application/vnd.example.binary", b"\x00\xff\xfe not JSON at all"),
        ("text/plain", b""),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{\"schemaVersion\": 1}"),
    ] {
        let digest = here.push_manifest(media_type, bytes, &[tag("odd")]).unwrap().digest;
        let stored = here.manifest(&digest).unwrap().unwrap();
        assert_eq!((&stored.content[..], stored.descriptor.media_type.as_str()), (bytes, media_type));
        assert_eq!(here.successors(&digest).unwrap().unwrap().len(), 0);
        store.flush().unwrap();
        let layout = Layout::sound(&dir.root());
        assert_eq!(layout.names()["odd"], digest.to_string());
        assert!(layout.entries.iter().any(|entry| entry.value["mediaType"] == media_type));
    }
}

#[test]
fn unknown_fields_and_media_types_of_layers_are_accepted() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let body = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "x-vendor": { "Layers": 1, "layers": 2, "deep": [[[{}]]] },
        "config": pushed(&here, "application/vnd.example.config+unknown", b"cfg"),
        "layers": [pushed(&here, "application/vnd.example.layer+zstd+encrypted", b"lay"), ],
        "annotations": { "Config": "a", "config": "b", "MEDIATYPE": "c" },
    });
    here.push_manifest(IMAGE, serde_json::to_vec(&body).unwrap(), &[]).unwrap();
}

#[test]
fn parameters_of_a_media_type_are_stripped_and_case_does_not_matter() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let bytes = image("a", 1);
    let digest = bytes.push(&here, &[]);
    let other = image("b", 1);
    for part in &other.parts {
        here.push_bytes(part.clone()).unwrap();
    }
    let pushed = here.push_manifest(&format!("{IMAGE}; charset=utf-8"), other.bytes.clone(), &[]).unwrap();
    assert_eq!(here.manifest(&pushed.digest).unwrap().unwrap().descriptor.media_type, IMAGE);
    assert_eq!(here.successors(&pushed.digest).unwrap().unwrap().len(), 2);
    assert_eq!(here.successors(&digest).unwrap().unwrap().len(), 2);
}

#[test]
fn the_media_type_belongs_to_the_repository() {
    let (dir, store) = fresh();
    let bytes = serde_json::to_vec(&json!({
        "schemaVersion": 2, "config": descriptor(CONFIG, b"cfg"), "layers": [descriptor(LAYER, b"lay")],
    }))
    .unwrap();
    let types = [("a", IMAGE), ("b", DOCKER), ("c", "application/vnd.example.opaque+json")];
    let digest = digest_of(&bytes);
    for (repository, media_type) in types {
        let here = repo(&store, repository);
        here.push_bytes(&b"cfg"[..]).unwrap();
        here.push_bytes(&b"lay"[..]).unwrap();
        here.push_manifest(media_type, bytes.clone(), &[tag("v1")]).unwrap();
    }
    let check = |store: &orlop::Store| {
        for (repository, media_type) in types {
            let here = repo(store, repository);
            assert_eq!(
                here.manifest(&digest).unwrap().unwrap().descriptor.media_type,
                media_type,
                "{repository}"
            );
            assert_eq!(here.resolve(&tag("v1")).unwrap().unwrap().media_type, media_type);
            assert_eq!(here.stat(&digest).unwrap().unwrap().media_type.as_deref(), Some(media_type));
            let edges = if media_type.contains("example") { 0 } else { 2 };
            assert_eq!(here.successors(&digest).unwrap().unwrap().len(), edges, "{repository}");
        }
    };
    check(&store);
    store.close().unwrap();
    let listed = Layout::sound(&dir.root());
    for (repository, media_type) in types {
        let entry =
            listed.entries.iter().find(|entry| entry.name.as_deref() == Some(&format!("{repository}:v1")));
        assert_eq!(entry.unwrap().value["mediaType"], media_type);
    }
    check(&options().open(dir.root()).unwrap());
}

#[test]
fn what_a_manifest_needs_must_be_there_and_what_it_need_not_need_not() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let other = repo(&store, "other");
    let complete = image("a", 2);
    for part in &complete.parts[1..] {
        here.push_bytes(part.clone()).unwrap();
    }
    // The first layer is in the store, but not in this repository.
    other.push_bytes(complete.parts[0].clone()).unwrap();
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    let missing = sha256(&complete.parts[0]);
    let refused = here.push_manifest(IMAGE, complete.bytes.clone(), &[tag("v1")]);
    fails(refused, ErrorKind::NotFound, &[&missing]);
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
    assert!(here.manifest(&complete.digest()).unwrap().is_none());
    here.push_bytes(complete.parts[0].clone()).unwrap();
    here.push_manifest(IMAGE, complete.bytes.clone(), &[tag("v1")]).unwrap();

    // A missing subject, a foreign layer, a layer with addresses of its own, an algorithm that cannot be stored.
    let mut addressed = descriptor(LAYER, b"somewhere else");
    addressed["urls"] = json!(["https://example.com/layer"]);
    let foreign = [
        descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"not distributable"),
        descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"foreign"),
        addressed,
        json!({ "mediaType": LAYER, "digest": "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", "size": 3 }),
    ];
    for layer in foreign {
        let body = json!({
            "schemaVersion": 2, "config": pushed(&here, CONFIG, b"cfg"), "layers": [layer],
            "subject": descriptor(IMAGE, b"never came"),
        });
        let pushed = here.push_manifest(IMAGE, serde_json::to_vec(&body).unwrap(), &[]);
        assert!(pushed.is_ok(), "{layer}: {pushed:?}");
    }
}

#[test]
fn documents_that_mean_two_things_are_refused() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let config = pushed(&here, CONFIG, b"cfg").to_string();
    let layer = pushed(&here, LAYER, b"lay").to_string();
    let child = image("child", 1);
    child.push(&here, &[]);
    let manifest = child.descriptor().to_string();
    let sized = |size: &str| {
        format!("{{\"mediaType\":\"{LAYER}\",\"digest\":\"{}\",\"size\":{size}}}", sha256(b"lay"))
    };
    let named = |digest: &str| format!("{{\"mediaType\":\"{LAYER}\",\"digest\":\"{digest}\",\"size\":3}}");
    let with_layer =
        |layer: &str| format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]}}");
    let upper = sha256(b"lay").to_uppercase().replace("SHA256", "sha256");
    let cases: Vec<(&str, String, &str)> = vec![
        (
            IMAGE,
            format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[],\"layers\":[{layer}]}}"),
            "layers",
        ),
        (
            IMAGE,
            format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[],\"Layers\":[{layer}]}}"),
            "Layers",
        ),
        (IMAGE, format!("{{\"schemaVersion\":2,\"Config\":{config},\"layers\":[]}}"), "Config"),
        (
            IMAGE,
            format!(
                "{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}],\"manifests\":[{manifest}]}}"
            ),
            "manifests",
        ),
        (INDEX, format!("{{\"schemaVersion\":2,\"manifests\":[{manifest}],\"layers\":[{layer}]}}"), "layers"),
        (INDEX, format!("{{\"schemaVersion\":2,\"manifests\":[{manifest}],\"config\":{config}}}"), "config"),
        (
            IMAGE,
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"config\":{config},\"layers\":[]}}"),
            INDEX,
        ),
        (IMAGE, format!("{{\"schemaVersion\":1,\"config\":{config},\"layers\":[]}}"), "schemaVersion"),
        (IMAGE, "{\"schemaVersion\":2,\"layers\":[]}".to_owned(), "config"),
        (IMAGE, with_layer(&sized("-1")), "-1"),
        (IMAGE, with_layer(&sized("1e3")), "1000"),
        (IMAGE, with_layer(&sized("\"3\"")), "\"3\""),
        (IMAGE, with_layer(&named("sha256:../../../etc/passwd")), "../../../etc/passwd"),
        (IMAGE, with_layer(&named("sha256:abcd")), "sha256:abcd"),
        (IMAGE, with_layer(&named(&upper)), &upper),
        (IMAGE, with_layer(&named("no digest")), "no digest"),
        (IMAGE, with_layer("7"), ""),
        (IMAGE, format!("\u{feff}{}", with_layer(&layer)), ""),
        (IMAGE, format!("{} trailing", with_layer(&layer)), ""),
        (IMAGE, with_layer(&layer).replace('}', ""), ""),
        (IMAGE, "[".repeat(100_000), ""),
        (IMAGE, String::new(), ""),
        (IMAGE, "null".to_owned(), ""),
        (IMAGE, "[]".to_owned(), ""),
        (INDEX, "{\"schemaVersion\":2,\"manifests\":{}}".to_owned(), "map"),
        ("not a media type", with_layer(&layer), "not a media type"),
        ("", with_layer(&layer), ""),
    ];
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    for (media_type, body, value) in cases {
        let shown: String = body.chars().take(200).collect();
        let refused = here.push_manifest(media_type, body.clone(), &[tag("hostile")]);
        let Err(error) = refused else { panic!("accepted: {media_type} {shown}") };
        assert_eq!(error.kind(), ErrorKind::Invalid, "{shown}: {error:?}");
        assert!(error.to_string().contains(value), "{value:?} is not in {error}: {shown}");
        assert!(error.to_string().len() < 1000, "{error}");
        assert_eq!((content_tree(&dir.root()), describe(&store)), before, "{shown}");
    }
    let not_utf8 = [b"{\"schemaVersion\":2,\"x\":\"".as_slice(), b"\xff", b"\"}"].concat();
    fails(here.push_manifest(IMAGE, not_utf8, &[]), ErrorKind::Invalid, &[]);
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
}

/// An image manifest of exactly `size` bytes.
fn padded(here: &Repository, size: usize) -> Vec<u8> {
    let config = pushed(here, CONFIG, b"cfg");
    let body = |padding: usize| {
        let padding = "x".repeat(padding);
        serde_json::to_vec(&json!({ "schemaVersion": 2, "config": config, "layers": [], "padding": padding }))
            .unwrap()
    };
    let bytes = body(size - body(0).len());
    assert_eq!(bytes.len(), size);
    bytes
}

#[test]
fn a_manifest_may_have_four_mebibytes_and_no_more() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let (dir, store) = fresh();
    let here = store.default_repository();
    let largest = padded(&here, LIMIT);
    let digest = here.push_manifest(IMAGE, largest.clone(), &[tag("largest")]).unwrap().digest;
    assert!(here.manifest(&digest).unwrap().unwrap().content[..] == largest[..]);
    store.flush().unwrap();
    let before = content_tree(&dir.root());
    let over = (LIMIT + 1).to_string();
    fails(here.push_manifest(IMAGE, padded(&here, LIMIT + 1), &[]), ErrorKind::Invalid, &[&over]);
    fails(here.push_manifest("text/plain", vec![b' '; LIMIT + 1], &[]), ErrorKind::Invalid, &[&over]);
    assert_eq!(content_tree(&dir.root()), before);
    Layout::sound(&dir.root());
}

#[test]
fn a_smaller_limit_of_the_options_holds() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_manifest_size = 1000;
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = store.default_repository();
    here.push_manifest(IMAGE, padded(&here, 1000), &[]).unwrap();
    fails(here.push_manifest(IMAGE, padded(&here, 1001), &[]), ErrorKind::Invalid, &["1001", "1000"]);
}

#[test]
fn a_manifest_may_name_ten_thousand_things_and_no_more() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let config = pushed(&here, CONFIG, b"cfg");
    let layer = pushed(&here, LAYER, b"lay");
    let body = |count: usize| {
        let layers = vec![layer.clone(); count];
        serde_json::to_vec(&json!({ "schemaVersion": 2, "config": config, "layers": layers })).unwrap()
    };
    let digest = here.push_manifest(IMAGE, body(9_999), &[]).unwrap().digest;
    assert_eq!(here.successors(&digest).unwrap().unwrap().len(), 10_000);
    fails(here.push_manifest(IMAGE, body(10_001), &[]), ErrorKind::Invalid, &["10000"]);
}

#[test]
fn the_same_manifest_again_is_success_and_tags_all_of_its_tags() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 1);
    image.push(&here, &[]);
    let again = here.push_manifest(IMAGE, image.bytes.clone(), &[tag("a"), tag("b"), tag("c")]).unwrap();
    assert!(again.existed);
    assert_eq!((again.digest, again.size), (image.digest(), image.bytes.len() as u64));
    let names: Vec<String> = here.tags_of(&image.digest()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(here.manifests(None, 10).unwrap().items.len(), 1);
}

#[test]
fn manifests_are_listed_by_digest_in_pages() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let mut digests: Vec<Digest> = (0..25)
        .map(|n| image(&format!("image {n}"), 1).push(&here, if n % 2 == 0 { &["even"] } else { &[] }))
        .collect();
    digests.sort();
    for limit in [1, 2, 7, 24, 25, 26, 1000] {
        let listed = all(|after: Option<&Digest>| {
            let page = here.manifests(after, limit).unwrap();
            assert!(page.items.len() <= limit);
            assert_eq!(
                page.more,
                page.items.last().is_some_and(|last| Some(&last.digest) != digests.last()),
                "limit {limit}"
            );
            (page.items.into_iter().map(|found| found.digest).collect(), page.more)
        });
        assert_eq!(listed, digests, "limit {limit}");
    }
    let nothing = here.manifests(None, 0).unwrap();
    assert!(nothing.items.is_empty() && !nothing.more);
    // A cursor need not be there.
    let after = here.manifests(Some(&absent()), 100).unwrap().items;
    assert!(after.iter().all(|found| found.digest > absent()));
    assert_eq!(after.len(), digests.iter().filter(|digest| **digest > absent()).count());
}

#[test]
fn a_digest_can_be_content_and_manifest() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 1);
    for part in &image.parts {
        here.push_bytes(part.clone()).unwrap();
    }
    here.push_bytes(image.bytes.clone()).unwrap();
    assert!(here.manifest(&image.digest()).unwrap().is_none(), "content became a manifest by itself");
    assert!(here.successors(&image.digest()).unwrap().is_none());
    image.push(&here, &["v1"]);
    assert!(here.manifest(&image.digest()).unwrap().is_some());
    assert_eq!(&here.get(&image.digest()).unwrap().unwrap()[..], &image.bytes[..]);
}
