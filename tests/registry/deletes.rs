//! What is removed is gone at once, in its repository and nowhere else, and can come again.

use http::Method;
use orlop::Digest;

use crate::support::{INDEX, MANIFEST, Server, image};

fn push_blob(server: &Server, repository: &str, content: &[u8]) -> String {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::of(content));
    server.send(Method::POST, &path, &[], content.to_vec()).expect(201).header("location").to_owned()
}

fn push_manifest(server: &Server, path: &str, media_type: &str, manifest: &str) {
    server.send(Method::PUT, path, &[("content-type", media_type)], manifest.to_owned()).expect(201);
}

#[track_caller]
fn is_gone(server: &Server, path: &str, code: &str) {
    server.head(path).expect(404);
    server.get(path).refused(404, code);
    server.delete(path).refused(404, code);
}

#[test]
fn a_blob_goes_from_its_repository_alone() {
    let server = Server::new();
    for round in 0..2 {
        let (here, there) = (push_blob(&server, "a", b"content"), push_blob(&server, "b", b"content"));
        server.delete(&here).expect(202);
        is_gone(&server, &here, "BLOB_UNKNOWN");
        assert_eq!(server.get(&there).expect(200).body, "content", "round {round}");
        // It comes again, as if nothing had been.
        push_blob(&server, "a", b"content");
        assert_eq!(server.get(&here).expect(200).body, "content");
        server.delete(&here).expect(202);
        server.delete(&there).expect(202);
        is_gone(&server, &there, "BLOB_UNKNOWN");
    }
    server.delete("/v2/a/blobs/sha256:short").refused(400, "DIGEST_INVALID");
}

#[test]
fn a_tag_goes_alone_and_a_manifest_with_its_tags() {
    let server = Server::new();
    push_blob(&server, "a", b"{}");
    let manifest = image(b"{}", &[]);
    let digest = Digest::of(manifest.as_bytes());
    for _ in 0..2 {
        push_manifest(
            &server,
            &format!("/v2/a/manifests/{digest}?tag=v1&tag=v2&tag=v3"),
            MANIFEST,
            &manifest,
        );
        server.delete("/v2/a/manifests/v1").expect(202);
        is_gone(&server, "/v2/a/manifests/v1", "MANIFEST_UNKNOWN");
        server.head("/v2/a/manifests/v2").expect(200);
        server.head(&format!("/v2/a/manifests/{digest}")).expect(200);
        server.delete(&format!("/v2/a/manifests/{digest}")).expect(202);
        for reference in ["v2".to_owned(), "v3".to_owned(), digest.to_string()] {
            is_gone(&server, &format!("/v2/a/manifests/{reference}"), "MANIFEST_UNKNOWN");
        }
        // What it refers to stays.
        server.head(&format!("/v2/a/blobs/{}", Digest::of(b"{}"))).expect(200);
    }
}

#[test]
fn what_an_index_lists_goes_as_well() {
    let server = Server::new();
    let config = push_blob(&server, "a", b"{}");
    let manifest = image(b"{}", &[]);
    let digest = Digest::of(manifest.as_bytes());
    push_manifest(&server, &format!("/v2/a/manifests/{digest}"), MANIFEST, &manifest);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{}}}]}}"#,
        manifest.len()
    );
    push_manifest(&server, "/v2/a/manifests/all", INDEX, &index);
    for path in [config, format!("/v2/a/manifests/{digest}")] {
        server.delete(&path).expect(202);
        server.head(&path).expect(404);
    }
    assert_eq!(server.get("/v2/a/manifests/all").expect(200).body, index);
    // Pushed again without the child, it is refused as any index that lacks one.
    let again = server.send(
        Method::PUT,
        "/v2/a/manifests/again",
        &[("content-type", INDEX)],
        index.replace("schemaVersion\":2", "schemaVersion\": 2"),
    );
    again.refused(404, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn removing_what_is_nowhere_makes_nothing() {
    let server = Server::new();
    let digest = Digest::of(b"x");
    for path in ["manifests/v1".to_owned(), format!("manifests/{digest}"), format!("blobs/{digest}")] {
        server.delete(&format!("/v2/new/{path}")).expect(404);
    }
    assert!(server.store.repositories(None, 10).unwrap().items.is_empty());
}
