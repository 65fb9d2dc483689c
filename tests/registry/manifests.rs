//! Manifests on their way in: byte for byte, with everything that names them in one commit.

use bytes::Bytes;
use http::Method;
use orlop::server::{Open, Settings};
use orlop::{Algorithm, Digest, Options};

use crate::support::{Answer, INDEX, MANIFEST, Pieces, Server, Whole, image};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const ORAS: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

fn put(server: &Server, path: &str, media_type: &str, bytes: &str) -> Answer {
    server.send(Method::PUT, path, &[("content-type", media_type)], bytes.to_owned())
}

/// An index that lists one manifest, which nobody needs to have.
fn index(child: &Digest) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{child}","size":2}}]}}"#
    )
}

fn pushed(server: &Server, content: &[u8]) {
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(content));
    server.send(Method::POST, &path, &[], content.to_vec()).expect(201);
}

#[test]
fn by_tag_and_by_digest() {
    let server = Server::new();
    pushed(&server, b"{}");
    let manifest = image(b"{}", &[]);
    let digest = Digest::of(manifest.as_bytes());
    let answer = put(&server, "/v2/a/manifests/v1", &format!("{MANIFEST}; charset=utf-8"), &manifest);
    let answer = answer.expect(201);
    assert_eq!(answer.header("location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert!(!answer.headers.contains_key("oci-subject") && !answer.headers.contains_key("oci-tag"));
    let sha512 = Algorithm::Sha512.digest(manifest.as_bytes());
    put(&server, &format!("/v2/a/manifests/{sha512}?tag=v2"), MANIFEST, &manifest).expect(201);
    for (reference, expected) in
        [("v1", digest), ("v2", sha512), (&*digest.to_string(), digest), (&*sha512.to_string(), sha512)]
    {
        let answer = server.get(&format!("/v2/a/manifests/{reference}")).expect(200);
        assert_eq!(answer.header("docker-content-digest"), expected.to_string());
        assert_eq!((answer.header("content-type"), &*answer.body), (MANIFEST, manifest.as_bytes()));
    }
}

#[test]
fn a_subject_is_named_whether_or_not_it_is_there() {
    let server = Server::new();
    pushed(&server, b"{}");
    let absent = Algorithm::Sha512.digest(b"a subject that never comes");
    let subject = format!(r#"{{"mediaType":"{MANIFEST}","digest":"{absent}","size":26}}"#);
    let image = image(b"{}", &[]).replacen('{', &format!(r#"{{"subject":{subject},"#), 1);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","subject":{subject},"manifests":[]}}"#);
    let artifact = |media_type: &str| {
        format!(r#"{{"mediaType":"{media_type}","artifactType":"a/b","blobs":[],"subject":{subject}}}"#)
    };
    // The artifacts-spec would refuse the third; that it comes before its subject harms nobody.
    for (media_type, manifest) in
        [(MANIFEST, image), (INDEX, index), (ORAS, artifact(ORAS)), (ARTIFACT, artifact(ARTIFACT))]
    {
        let digest = Digest::of(manifest.as_bytes());
        for reference in ["tag".to_owned(), digest.to_string()] {
            let answer = put(&server, &format!("/v2/a/manifests/{reference}"), media_type, &manifest);
            assert_eq!(answer.expect(201).header("oci-subject"), absent.to_string());
        }
        let found = server.store.repository(&"a".parse().unwrap()).referrers(&absent).all().unwrap();
        assert!(found.iter().any(|found| found.digest == digest), "{media_type}");
    }
}

#[test]
fn many_tags_in_one_commit() {
    let server = Server::new();
    let manifest = index(&Digest::of(b"x")).replace("manifests\":[", "manifests\":[],\"x\":[");
    let digest = Digest::of(manifest.as_bytes());
    let path = |tags: usize| {
        let tags: Vec<_> = (0..tags).map(|n| format!("tag=v{n}")).collect();
        format!("/v2/a/manifests/{digest}?{}&tag=v0", tags.join("&"))
    };
    put(&server, &path(65), INDEX, &manifest).refused(414, "UNSUPPORTED");
    put(&server, &format!("{}&tag=not%20one", path(3)), INDEX, &manifest).refused(400, "MANIFEST_INVALID");
    server.head(&format!("/v2/a/manifests/{digest}")).expect(404);
    let answer = put(&server, &path(64), INDEX, &manifest).expect(201);
    let told: Vec<_> = answer.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(told, (0..64).map(|n| format!("v{n}")).collect::<Vec<_>>());
    for tag in told {
        let head = server.head(&format!("/v2/a/manifests/{tag}")).expect(200);
        assert_eq!(head.header("docker-content-digest"), digest.to_string());
    }
    // What is refused names nothing.
    let other = index(&Digest::of(b"x"));
    put(&server, "/v2/a/manifests/v0", INDEX, &other).refused(404, "MANIFEST_BLOB_UNKNOWN");
    let head = server.head("/v2/a/manifests/v0").expect(200);
    assert_eq!(head.header("docker-content-digest"), digest.to_string());
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let server = Server::new();
    pushed(&server, b"{}");
    let manifest = image(b"{}", &[]);
    let digest = Digest::of(manifest.as_bytes());
    let path = format!("/v2/a/manifests/{digest}");
    put(&server, &path, MANIFEST, &format!("{manifest}  ")).refused(400, "DIGEST_INVALID");
    for (reference, code) in [
        ("sha256:baddigeststring", "DIGEST_INVALID"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
        ("-not-a-tag", "MANIFEST_INVALID"),
    ] {
        put(&server, &format!("/v2/a/manifests/{reference}"), MANIFEST, &manifest).refused(400, code);
    }
    for bytes in ["", "no json", "{}", "[]", r#"{"schemaVersion":2}"#] {
        put(&server, "/v2/a/manifests/v1", MANIFEST, bytes).refused(400, "MANIFEST_INVALID");
    }
    put(&server, "/v2/a/manifests/v1", INDEX, &manifest).refused(400, "MANIFEST_INVALID");
    put(&server, "/v2/a/manifests/v1", "no media type", &manifest).refused(400, "MANIFEST_INVALID");
    let torn = Pieces(vec![Ok(manifest.clone().into()), Err(std::io::Error::other("reset"))]);
    let headers = [("content-type", MANIFEST)];
    server.send_pieces(Method::PUT, "/v2/a/manifests/v1", &headers, torn).refused(400, "MANIFEST_INVALID");
    server.get("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    // Without a media type in the request that of the manifest counts.
    let answer = server.send(Method::PUT, "/v2/a/manifests/v1", &[], manifest.clone()).expect(201);
    assert_eq!(server.head(answer.header("location")).expect(200).header("content-type"), MANIFEST);
    let own = r#"{"mediaType":"application/vnd.example+json"}"#;
    server.send(Method::PUT, "/v2/a/manifests/v2", &[], own).expect(201);
    assert_eq!(server.head("/v2/a/manifests/v2").header("content-type"), "application/vnd.example+json");
    server.send(Method::PUT, "/v2/a/manifests/v3", &[], "{}").refused(400, "MANIFEST_INVALID");
}

#[test]
fn four_mebibytes_and_no_more() {
    let server = Server::new();
    pushed(&server, b"{}");
    let limit = 4 << 20;
    let annotated = |size: usize| {
        let start = image(b"{}", &[]).replacen('{', r#"{"annotations":{"a":""#, 1);
        let (head, tail) = start.split_at(r#"{"annotations":{"a":""#.len());
        let tail = tail.replacen('"', r#""},""#, 1);
        format!("{head}{}{tail}", "x".repeat(size - head.len() - tail.len()))
    };
    let headers = [("content-type", MANIFEST)];
    for (size, fits) in [(3_900_000, true), (limit, true), (limit + 1, false)] {
        let manifest = annotated(size);
        assert_eq!(manifest.len(), size);
        let path = format!("/v2/a/manifests/{}", Digest::of(manifest.as_bytes()));
        let pieces: Vec<_> =
            manifest.as_bytes().chunks(65_521).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let chunked = server.send_pieces(Method::PUT, &path, &headers, Pieces(pieces));
        let whole = server.begin(Method::PUT, &path, &headers, Whole(Some(manifest.clone().into())));
        for answer in [chunked, server.answer(whole)] {
            if fits {
                answer.expect(201)
            } else {
                answer.refused(413, "SIZE_INVALID")
            };
        }
        if fits {
            assert!(server.get(&path).expect(200).body == manifest);
        }
    }
}

#[test]
fn what_a_manifest_refers_to_has_to_be_there_unless_the_registry_is_sparse() {
    let server = Server::new();
    pushed(&server, b"{}");
    let (layers, list) = (image(b"{}", &[b"never pushed"]), index(&Digest::of(b"never pushed")));
    let foreign = layers.replace(
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    );
    for (media_type, manifest) in [(MANIFEST, &layers), (INDEX, &list)] {
        let answer = put(&server, "/v2/a/manifests/v1", media_type, manifest);
        let answer = answer.refused(404, "MANIFEST_BLOB_UNKNOWN");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(&Digest::of(b"never pushed").to_string()), "{text}");
    }
    put(&server, "/v2/a/manifests/foreign", MANIFEST, &foreign).expect(201);
    // What another repository has is not there.
    server.store.repository(&"b".parse().unwrap()).push_bytes("never pushed").unwrap();
    put(&server, "/v2/a/manifests/v1", MANIFEST, &layers).refused(404, "MANIFEST_BLOB_UNKNOWN");

    let server = Server::set(Open, Options::new(), Settings::new().sparse(true));
    for (media_type, manifest) in [(MANIFEST, &layers), (INDEX, &list)] {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = algorithm.digest(manifest.as_bytes());
            let path = format!("/v2/a/manifests/{digest}?tag=v1");
            assert_eq!(put(&server, &path, media_type, manifest).expect(201).header("oci-tag"), "v1");
            assert_eq!(server.get("/v2/a/manifests/v1").expect(200).body, manifest.as_bytes());
        }
    }
}

#[test]
fn manifests_of_docker_are_manifests() {
    let server = Server::new();
    let config = r#"{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"#;
    let digest = Digest::of(b"{}");
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER}","config":{config}"{digest}"}},"layers":[]}}"#);
    put(&server, "/v2/a/manifests/v1", DOCKER, &manifest).refused(404, "MANIFEST_BLOB_UNKNOWN");
    pushed(&server, b"{}");
    put(&server, "/v2/a/manifests/v1", DOCKER, &manifest).expect(201);
    assert_eq!(server.head("/v2/a/manifests/v1").expect(200).header("content-type"), DOCKER);
    // The same bytes under another type in another repository are what was said there.
    let bytes = r#"{"mediaType":"x/y"}"#;
    put(&server, "/v2/a/manifests/v2", "x/y", bytes).expect(201);
    put(&server, "/v2/b/manifests/v2", "x/z", bytes).expect(201);
    assert_eq!(server.head("/v2/a/manifests/v2").header("content-type"), "x/y");
    assert_eq!(server.head("/v2/b/manifests/v2").header("content-type"), "x/z");
}
