#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use media_type::{
    DOCKER_LIST, DOCKER_MANIFEST, EMPTY, IMAGE_INDEX, IMAGE_MANIFEST, OCI_ARTIFACT, ORAS_ARTIFACT,
};

/// A descriptor in JSON; the digest is that of `name`.
fn to(media_type: &str, name: &str) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
        Digest::of(name.as_bytes()),
        name.len()
    )
}

fn foreign() -> String {
    r#"{"mediaType":"a/b","digest":"md5:00","size":1}"#.into()
}

fn parse(media_type: &str, body: &str) -> Result<Manifest> {
    Manifest::parse(media_type, body.as_bytes())
}

fn edges(manifest: &Manifest) -> Vec<(Role, Digest)> {
    manifest.successors().iter().map(|to| (to.role, to.descriptor.digest)).collect()
}

fn of(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

#[test]
fn image() {
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_MANIFEST}","artifactType":"a/type","layers":[{},{},{}],
        "config":{},"subject":{},"annotations":{{"K":"v","k":"w"}},"unknown":[1,{{"x":null}}]}}"#,
        to("l/1", "one"),
        to("l/2", "two"),
        to("l/1", "one"),
        to("c/d", "config"),
        to("s/t", "subject"),
    );
    let manifest = parse(&format!("{IMAGE_MANIFEST}; charset=utf-8"), &body).unwrap();
    assert_eq!(manifest.kind(), Some(ManifestKind::ImageManifest));
    assert_eq!(manifest.media_type(), IMAGE_MANIFEST);
    assert_eq!(manifest.artifact_type(), Some("a/type"));
    assert_eq!(manifest.subject(), Some(&Descriptor::new("s/t", of("subject"), 7)));
    assert_eq!(manifest.config(), Some(&Descriptor::new("c/d", of("config"), 6)));
    assert_eq!(manifest.annotations().len(), 2);
    assert_eq!(manifest.annotations().get("K").map(String::as_str), Some("v"));
    assert!(manifest.foreign().is_empty());
    let expected = [
        (Role::Config, of("config")),
        (Role::Layer, of("one")),
        (Role::Layer, of("two")),
        (Role::Layer, of("one")),
    ];
    assert_eq!(edges(&manifest), expected);
    assert_eq!(manifest.successors()[2].descriptor, Descriptor::new("l/2", of("two"), 3));
}

#[test]
fn every_kind() {
    let (x, y) = (to("x/x", "x"), to("y/y", "y"));
    for (media_type, body, expected) in [
        (IMAGE_MANIFEST, format!(r#"{{"config":{x}}}"#), vec![(Role::Config, of("x"))]),
        (
            IMAGE_MANIFEST,
            format!(r#"{{"config":{x},"layers":null,"subject":null}}"#),
            vec![(Role::Config, of("x"))],
        ),
        (
            DOCKER_MANIFEST,
            format!(r#"{{"schemaVersion":2,"config":{x},"layers":[{y}]}}"#),
            vec![(Role::Config, of("x")), (Role::Layer, of("y"))],
        ),
        (
            IMAGE_INDEX,
            format!(r#"{{"manifests":[{x},{y}]}}"#),
            vec![(Role::Manifest, of("x")), (Role::Manifest, of("y"))],
        ),
        (IMAGE_INDEX, r#"{"manifests":null,"annotations":null}"#.into(), vec![]),
        (IMAGE_INDEX, r#"{"schemaVersion":2,"mediaType":""}"#.into(), vec![]),
        (DOCKER_LIST, format!(r#"{{"schemaVersion":2,"manifests":[{y}]}}"#), vec![(Role::Manifest, of("y"))]),
        (ORAS_ARTIFACT, format!(r#"{{"blobs":[{x}],"subject":{y}}}"#), vec![(Role::Blob, of("x"))]),
        (
            OCI_ARTIFACT,
            format!(r#"{{"blobs":[{x},{y}],"schemaVersion":3}}"#),
            vec![(Role::Blob, of("x")), (Role::Blob, of("y"))],
        ),
    ] {
        let manifest = parse(&media_type.to_uppercase(), &body).unwrap();
        assert_eq!(manifest.kind(), ManifestKind::of(media_type), "{body}");
        assert_eq!(edges(&manifest), expected, "{body}");
        let subject = body.contains("\"subject\":{").then(|| of("y"));
        assert_eq!(manifest.subject().map(|subject| subject.digest), subject, "{body}");
    }
}

#[test]
fn artifact_types() {
    let config = |media_type: &str| to(media_type, "x");
    let limit = format!("a/{}", "b".repeat(253));
    for (media_type, body, expected) in [
        (IMAGE_MANIFEST, format!(r#"{{"artifactType":"t/t","config":{}}}"#, config("c/c")), Some("t/t")),
        (IMAGE_MANIFEST, format!(r#"{{"artifactType":"","config":{}}}"#, config("c/c")), Some("c/c")),
        (IMAGE_MANIFEST, format!(r#"{{"artifactType":null,"config":{}}}"#, config(EMPTY)), Some(EMPTY)),
        (IMAGE_MANIFEST, format!(r#"{{"config":{}}}"#, config("")), None),
        (IMAGE_MANIFEST, r#"{"config":{"mediaType":"c/c","digest":"md5:00","size":0}}"#.into(), Some("c/c")),
        (DOCKER_MANIFEST, format!(r#"{{"schemaVersion":2,"config":{}}}"#, config("c/c")), Some("c/c")),
        (IMAGE_INDEX, r#"{"artifactType":"t/t","manifests":[]}"#.into(), Some("t/t")),
        (IMAGE_INDEX, format!(r#"{{"manifests":[{}]}}"#, config("c/c")), None),
        (ORAS_ARTIFACT, r#"{"artifactType":"t/t"}"#.into(), Some("t/t")),
        (OCI_ARTIFACT, format!(r#"{{"blobs":[{}]}}"#, config("c/c")), None),
        (IMAGE_INDEX, format!(r#"{{"artifactType":"{limit}"}}"#), Some(&*limit)),
    ] {
        assert_eq!(parse(media_type, &body).unwrap().artifact_type(), expected, "{body}");
    }
}

#[test]
fn opaque() {
    for bytes in [&b""[..], b"\xff\x00", br#"{"layers":1,"layers":2}"#] {
        let manifest = Manifest::parse("text/plain; charset=utf-8", bytes).unwrap();
        assert_eq!(manifest.kind(), None);
        assert_eq!(manifest.media_type(), "text/plain");
        assert!(manifest.successors().is_empty() && manifest.foreign().is_empty());
        assert_eq!((manifest.subject(), manifest.artifact_type(), manifest.config()), (None, None, None));
    }
}

#[test]
fn foreign_digests_are_kept_as_text() {
    let multihash = "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8";
    let body = format!(
        r#"{{"config":{},"layers":[{},{{"digest":"{multihash}","size":1}}],"subject":{}}}"#,
        to("c/c", "c"),
        to("l/l", "l"),
        foreign(),
    );
    let manifest = parse(IMAGE_MANIFEST, &body).unwrap();
    assert_eq!(manifest.foreign(), [multihash, "md5:00"]);
    assert_eq!(edges(&manifest), [(Role::Config, of("c")), (Role::Layer, of("l"))]);
    assert_eq!(manifest.subject(), None);
}

#[test]
fn refused() {
    let (c, d) = (to("c/c", "c"), of("d"));
    let config = format!(r#""config":{c}"#);
    let long = "a".repeat(256);
    let cases = [
        // The media type.
        ("", "{}".into(), "media_type=\"\""),
        ("nonsense", "{}".into(), "media_type=nonsense"),
        (IMAGE_INDEX, format!(r#"{{"mediaType":"{IMAGE_MANIFEST}"}}"#), IMAGE_MANIFEST),
        (IMAGE_MANIFEST, format!(r#"{{"mediaType":"{DOCKER_MANIFEST}",{config}}}"#), DOCKER_MANIFEST),
        (IMAGE_INDEX, format!(r#"{{"artifactType":"{long}"}}"#), "length=256, limit=255"),
        // The document.
        (IMAGE_INDEX, "".into(), "EOF"),
        (IMAGE_INDEX, "[]".into(), "an object"),
        (IMAGE_INDEX, "[2,null,null,null,null,null,[],null,null,null]".into(), "an object"),
        (IMAGE_INDEX, "null".into(), "null"),
        (IMAGE_INDEX, "\u{feff}{}".into(), "byte order mark"),
        (IMAGE_INDEX, "{} {}".into(), "trailing"),
        (IMAGE_INDEX, r#"{"manifests":[],"manifests":[]}"#.into(), "key=manifests"),
        (IMAGE_INDEX, r#"{"Manifests":[]}"#.into(), "key=Manifests"),
        (IMAGE_INDEX, r#"{"manifests":{}}"#.into(), "map"),
        (IMAGE_INDEX, r#"{"annotations":{"a":1}}"#.into(), "`1`"),
        // The version.
        (IMAGE_INDEX, r#"{"schemaVersion":1}"#.into(), "found=1"),
        (IMAGE_MANIFEST, format!(r#"{{"schemaVersion":3,{config}}}"#), "found=3"),
        (IMAGE_INDEX, r#"{"schemaVersion":"2"}"#.into(), "\"2\""),
        (DOCKER_MANIFEST, format!("{{{config}}}"), "schemaVersion is missing"),
        (DOCKER_LIST, "{}".into(), "schemaVersion is missing"),
        // Members of two kinds (CVE-2021-41190), empty or not.
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[],"manifests":[]}}"#), "key=manifests"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"manifests":null}}"#), "key=manifests"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[],"blobs":[]}}"#), "key=blobs"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"fsLayers":[]}}"#), "key=fsLayers"),
        (IMAGE_INDEX, r#"{"manifests":[],"layers":[]}"#.into(), "key=layers"),
        (IMAGE_INDEX, r#"{"manifests":[],"layers":null}"#.into(), "key=layers"),
        (IMAGE_INDEX, format!(r#"{{"manifests":[],{config}}}"#), "key=config"),
        (IMAGE_INDEX, r#"{"manifests":[],"blobs":[]}"#.into(), "key=blobs"),
        (DOCKER_LIST, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.into(), "key=layers"),
        (OCI_ARTIFACT, r#"{"blobs":[],"layers":[]}"#.into(), "key=layers"),
        (ORAS_ARTIFACT, r#"{"blobs":[],"manifests":[]}"#.into(), "key=manifests"),
        // The descriptors.
        (IMAGE_INDEX, format!(r#"{{"manifests":[["a/b","{d}",1,null,null,null,null,null]]}}"#), "an object"),
        (IMAGE_MANIFEST, "{}".into(), "no config"),
        (IMAGE_MANIFEST, r#"{"config":null}"#.into(), "no config"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[{{"digest":"{d}"}}]}}"#), "`size`"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[{{"size":1}}]}}"#), "`digest`"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[null]}}"#), "null"),
        (IMAGE_MANIFEST, format!(r#"{{{config},"layers":[{{"digest":"{d}","size":-5}}]}}"#), "-5"),
        (
            IMAGE_MANIFEST,
            format!(r#"{{{config},"layers":[{c},{{"digest":"a","size":1}}]}}"#),
            "path=layers[1]: digest has no colon, digest=a",
        ),
        (IMAGE_INDEX, r#"{"manifests":[{"digest":"sha256:AB","size":1}]}"#.into(), "digest=sha256:AB"),
        (OCI_ARTIFACT, r#"{"blobs":[{"digest":"sha256:../..","size":1}]}"#.into(), "digest=sha256:../.."),
        (OCI_ARTIFACT, r#"{"subject":{"digest":"sha512:00","size":1}}"#.into(), "path=subject"),
        (
            IMAGE_MANIFEST,
            r#"{"config":{"digest":"","size":1}}"#.into(),
            "path=config: digest has no colon, digest=\"\"",
        ),
    ];
    for (media_type, body, needle) in cases {
        let error = parse(media_type, &body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{body}");
        assert!(error.to_string().contains(needle), "{body}: {error} lacks {needle}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
}

#[test]
fn limits() {
    let layers = |count: usize| {
        let layer = to("l/l", "l");
        format!(r#"{{"config":{},"layers":[{}]}}"#, to("c/c", "c"), vec![layer; count].join(","))
    };
    assert_eq!(
        parse(IMAGE_MANIFEST, &layers(MAX_SUCCESSORS)).unwrap().successors().len(),
        MAX_SUCCESSORS + 1
    );
    let error = parse(IMAGE_MANIFEST, &layers(MAX_SUCCESSORS + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("found=10001, limit=10000"), "{error}");

    assert!(Manifest::parse("a/b", &vec![0; MAX_MANIFEST_SIZE]).is_ok());
    let error = Manifest::parse("a/b", &vec![0; MAX_MANIFEST_SIZE + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("size=4194305, limit=4194304"), "{error}");
}

#[test]
fn created() {
    let at = |annotations: &str| {
        parse(IMAGE_INDEX, &format!(r#"{{"annotations":{{{annotations}}}}}"#)).unwrap().created()
    };
    let oci = |time: &str| at(&format!(r#""org.opencontainers.image.created":"{time}""#));
    assert_eq!(at(""), None);
    assert_eq!(oci("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(oci("1970-01-01T01:00:01.5+01:00"), Some(1_500_000_000));
    assert_eq!(oci("1969-12-31T23:59:59Z"), Some(-1_000_000_000));
    assert_eq!(oci("9999-12-30T00:00:00Z"), Some(i64::MAX));
    assert_eq!(oci("0001-01-01T00:00:00Z"), Some(i64::MIN));
    for bad in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00"] {
        assert_eq!(oci(bad), None, "{bad}");
    }
    let oras = r#""io.cncf.oras.artifact.created":"1970-01-01T00:00:01Z""#;
    assert_eq!(at(oras), Some(1_000_000_000));
    assert_eq!(
        at(&format!(r#"{oras},"org.opencontainers.image.created":"1970-01-01T00:00:02Z""#)),
        Some(2_000_000_000)
    );
}

#[test]
fn what_is_listed_under_another_name_of_the_same_shape_is_read_as_that() {
    let image = format!(r#""schemaVersion":2,"config":{},"layers":[]"#, to("c/c", "c"));
    let list = format!(r#""schemaVersion":2,"manifests":[{}]"#, to(IMAGE_MANIFEST, "m"));
    let body = |members: &str, named: &str| format!(r#"{{{members},"mediaType":"{named}"}}"#);
    for (listed, body) in [
        (IMAGE_MANIFEST, body(&image, DOCKER_MANIFEST)),
        (DOCKER_MANIFEST, body(&image, IMAGE_MANIFEST)),
        (IMAGE_INDEX, body(&list, DOCKER_LIST)),
        (DOCKER_LIST, body(&list, IMAGE_INDEX)),
    ] {
        assert_eq!(Manifest::read(listed, body.as_bytes()).unwrap().media_type(), listed);
        assert!(Manifest::parse(listed, body.as_bytes()).is_err(), "{listed}");
    }
    for (listed, body) in [
        (IMAGE_MANIFEST, body(&image, IMAGE_INDEX)),
        (IMAGE_MANIFEST, body(&image, "a/b")),
        (IMAGE_MANIFEST, body(&list, IMAGE_MANIFEST)),
        (IMAGE_INDEX, body(&image, DOCKER_LIST)),
        (IMAGE_MANIFEST, body(&format!("{image},\"manifests\":[]"), IMAGE_MANIFEST)),
    ] {
        assert!(Manifest::read(listed, body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn what_is_listed_without_a_media_type_tells_it_by_itself() {
    for (body, expected) in [
        (r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#, Some(DOCKER_LIST)),
        (r#"{"config":{},"layers":[]}"#, None),
        (r#"{"config":null,"layers":[]}"#, Some(IMAGE_MANIFEST)),
        (r#"{"manifests":[]}"#, Some(IMAGE_INDEX)),
        (r#"{"mediaType":"","manifests":null}"#, Some(IMAGE_INDEX)),
        (r#"{"mediaType":"a/b","manifests":[]}"#, None),
        (r#"{"config":null,"manifests":[]}"#, None),
        ("{}", None),
        ("[]", None),
        ("", None),
    ] {
        assert_eq!(Manifest::sniff(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn role_codes() {
    let roles = [Role::Config, Role::Layer, Role::Blob, Role::Manifest, Role::Subject];
    for (at, role) in roles.into_iter().enumerate() {
        assert_eq!(usize::from(role.code()), at + 1);
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(media_type in "\\PC{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&media_type, &bytes);
        for kind in ManifestKind::ALL {
            let _ = Manifest::parse(kind.media_type(), &bytes);
        }
    }

    // A valid manifest with a piece cut out and another put in its place: near misses, where parsers break.
    #[test]
    fn damaged_manifests_do_not_panic(at in 0..400_usize, len in 0..40_usize, with in "[\\[\\]{}\":,a-zA-Z0-9]{0,4}") {
        let whole = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}],"annotations":{{"a":"b"}}}}"#,
            to("c/c", "c"),
            to("l/l", "l")
        );
        let at = at.min(whole.len());
        let mut body = whole.clone();
        body.replace_range(at..(at + len).min(whole.len()), &with);
        if let Ok(manifest) = parse(IMAGE_MANIFEST, &body) {
            prop_assert!(manifest.config().is_some() || !manifest.foreign().is_empty());
        }
    }
}
