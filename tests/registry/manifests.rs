//! Manifests on their way in: byte for byte, with everything that names them in one commit.

use http::Method;
use orlop::{Algorithm, Digest};

use crate::support::{MANIFEST, Server, image};

fn put(server: &Server, path: &str, media_type: &str, bytes: &str) -> crate::support::Answer {
    server.send(Method::PUT, path, &[("content-type", media_type)], bytes.to_owned())
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
