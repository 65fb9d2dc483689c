//! `/v2/`, errors, and reading what is there.

use http::Method;
use orlop::Digest;

use crate::support::{MANIFEST, Server, image};

#[test]
fn there_is_a_registry_and_nothing_beside_it() {
    let server = Server::new();
    let answer = server.get("/v2/").expect(200);
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    server.get("/v1/").expect(404);
    server.send(Method::POST, "/v2/", &[], "").refused(405, "UNSUPPORTED");
    server.get("/v2/Upper/tags/list").refused(400, "NAME_INVALID");
    server.get("/v2/a/blobs/sha256:short").refused(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/blobs/{}", Digest::of(b"x"))).refused(404, "BLOB_UNKNOWN");
    server.get("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn content_comes_as_it_was_pushed() {
    let server = Server::new();
    let images = server.store.repository(&"team/app".parse().unwrap());
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let config = b"{}".as_slice();
    images.push_bytes(config).unwrap();
    images.push_bytes(large.clone()).unwrap();
    let manifest = image(config, &[&large]);
    let pushed = images.push_manifest(MANIFEST, manifest.clone(), &["v1".parse().unwrap()]).unwrap();
    for content in [config, &large] {
        let path = format!("/v2/team/app/blobs/{}", Digest::of(content));
        let answer = server.get(&path).expect(200);
        assert_eq!((&answer.body[..], &answer.broken), (content, &None));
        let head = server.head(&path).expect(200);
        assert_eq!(head.header("content-length"), content.len().to_string());
        assert_eq!(head.header("docker-content-digest"), Digest::of(content).to_string());
        assert!(head.body.is_empty());
    }
    for reference in ["v1".to_owned(), pushed.digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let answer = server.get(&path).expect(200);
        assert_eq!(answer.body, manifest);
        assert_eq!(answer.header("content-type"), MANIFEST);
        assert_eq!(server.head(&path).expect(200).header("docker-content-digest"), pushed.digest.to_string());
    }
    server.get(&format!("/v2/team/other/blobs/{}", Digest::of(config))).refused(404, "BLOB_UNKNOWN");
}
