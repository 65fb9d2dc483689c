//! Reading content and manifests: what is found where, under which name, and what a HEAD costs.

use http::Method;
use orlop::{Algorithm, Digest, Expect, Options};

use crate::support::{INDEX, MANIFEST, Server, image};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[test]
fn blobs_and_manifests_are_two_name_spaces() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let manifest = image(b"{}", &[]);
    let digest = here.push_manifest(MANIFEST, manifest.clone(), &[]).unwrap().digest;
    let (as_blob, as_manifest) = (format!("/v2/app/blobs/{digest}"), format!("/v2/app/manifests/{digest}"));
    for method in [Method::GET, Method::HEAD] {
        server.send(method.clone(), &as_blob, &[], "").expect(404);
        server.send(method, &format!("/v2/app/manifests/{}", Digest::of(b"{}")), &[], "").expect(404);
    }
    server.get(&as_blob).refused(404, "BLOB_UNKNOWN");
    server.get(&format!("/v2/app/manifests/{}", Digest::of(b"{}"))).refused(404, "MANIFEST_UNKNOWN");
    // One that is both is in both, and goes from each by itself.
    here.push_bytes(manifest.clone()).unwrap();
    assert_eq!(server.get(&as_blob).expect(200).body, manifest);
    assert_eq!(server.get(&as_blob).header("content-type"), "application/octet-stream");
    assert_eq!(server.get(&as_manifest).expect(200).header("content-type"), MANIFEST);
    let mut batch = server.store.batch();
    batch.delete_manifest(&here, &digest);
    batch.commit().unwrap();
    server.get(&as_manifest).refused(404, "MANIFEST_UNKNOWN");
    server.get(&as_blob).expect(200);
}

#[test]
fn manifests_come_as_they_were_pushed_whatever_is_accepted() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    // Other bytes than anybody would write, and a field that nobody knows.
    let text = format!(
        "{{ \"schemaVersion\" : 2,\n \"x-unknown\": [1,2],\"mediaType\":\"{DOCKER}\", \"config\":{{\"size\":2, \
         \"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"digest\":\"{}\"}},\"layers\":[] }}\n",
        Digest::of(b"{}")
    );
    let digest = here.push_manifest(DOCKER, text.clone(), &["v2".parse().unwrap()]).unwrap().digest;
    for reference in ["v2", &digest.to_string()] {
        let path = format!("/v2/app/manifests/{reference}");
        for accept in ["", INDEX, "text/html", "application/vnd.docker.distribution.manifest.v1+json"] {
            let headers = [("accept", accept), ("accept-encoding", "gzip")];
            let headers = if accept.is_empty() { &headers[1..] } else { &headers[..] };
            let answer = server.send(Method::GET, &path, headers, "").expect(200);
            assert_eq!(answer.body, text);
            assert_eq!(answer.header("content-type"), DOCKER);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(answer.header("content-length"), text.len().to_string());
            assert_eq!(answer.header("content-encoding"), "");
        }
        let head = server.head(&path).expect(200);
        assert_eq!(head.header("content-type"), DOCKER);
        assert_eq!(head.header("content-length"), text.len().to_string());
        assert!(head.body.is_empty());
    }
}

#[test]
fn a_media_type_is_that_of_the_repository() {
    let server = Server::new();
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{}","size":2}},"layers":[]}}"#,
        Digest::of(b"{}")
    );
    for (name, media_type) in [("one", MANIFEST), ("two", DOCKER)] {
        let here = server.store.repository(&name.parse().unwrap());
        here.push_bytes("{}").unwrap();
        here.push_manifest(media_type, text.clone(), &[]).unwrap();
    }
    let path = |name: &str| format!("/v2/{name}/manifests/{}", Digest::of(text.as_bytes()));
    assert_eq!(server.get(&path("one")).expect(200).header("content-type"), MANIFEST);
    assert_eq!(server.get(&path("two")).expect(200).header("content-type"), DOCKER);
}

#[test]
fn content_of_every_algorithm_goes_by_its_own_digest() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3] {
        let blob = format!("a blob by {algorithm}");
        let expected = algorithm.digest(blob.as_bytes()).into();
        here.push_reader(blob.as_bytes(), &expected).unwrap();
        let path = format!("/v2/app/blobs/{}", algorithm.digest(blob.as_bytes()));
        let answer = server.get(&path).expect(200);
        assert_eq!(answer.body, blob);
        assert_eq!(answer.header("docker-content-digest"), algorithm.digest(blob.as_bytes()).to_string());
        let manifest = image(b"{}", &[blob.as_bytes()]).replace(
            &Digest::of(blob.as_bytes()).to_string(),
            &algorithm.digest(blob.as_bytes()).to_string(),
        );
        let digest = algorithm.digest(manifest.as_bytes());
        let mut batch = server.store.batch();
        batch.push_manifest_as(&here, MANIFEST, manifest.clone(), algorithm).unwrap();
        let tag = algorithm.to_string().parse().unwrap();
        batch.tag(&here, &tag, digest, Expect::Any);
        batch.commit().unwrap();
        for reference in [tag.to_string(), digest.to_string()] {
            let path = format!("/v2/app/manifests/{reference}");
            assert_eq!(server.get(&path).expect(200).body, manifest);
            assert_eq!(server.head(&path).expect(200).header("docker-content-digest"), digest.to_string());
        }
        server.head(&format!("/v2/app/blobs/{}", Digest::of(b"not there"))).expect(404);
    }
}

#[test]
fn digests_that_cannot_be_are_refused_and_unknown_ones_are_not_there() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let upper = Digest::of(b"{}").to_string().to_uppercase().replace("SHA256", "sha256");
    for bad in ["sha256:baddigeststring", "sha256:", &upper, "sha256%3A00"] {
        server.get(&format!("/v2/app/blobs/{bad}")).refused(400, "DIGEST_INVALID");
        server.get(&format!("/v2/app/manifests/{bad}")).refused(400, "DIGEST_INVALID");
        server.get(&format!("/v2/app/referrers/{bad}")).refused(400, "DIGEST_INVALID");
    }
    // Digests by the grammar of the image-spec, of algorithms that nothing is stored under.
    for other in ["multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", "sha384:00ff"] {
        server.get(&format!("/v2/app/blobs/{other}")).refused(404, "BLOB_UNKNOWN");
        server.get(&format!("/v2/app/manifests/{other}")).refused(404, "MANIFEST_UNKNOWN");
    }
    server.get("/v2/app/manifests/.hidden").refused(400, "MANIFEST_INVALID");
    // A digest may come percent-encoded.
    let encoded = Digest::of(b"{}").to_string().replace(':', "%3A");
    assert_eq!(server.get(&format!("/v2/app/blobs/{encoded}")).expect(200).body, "{}");
}

#[test]
fn a_head_answers_without_the_content() {
    let options = Options::new().inline_limit(0);
    let server = Server::with(orlop::server::Open, options);
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let layer: Vec<u8> = vec![7; 100_000];
    here.push_bytes(layer.clone()).unwrap();
    let digest =
        here.push_manifest(MANIFEST, image(b"{}", &[&layer]), &["v1".parse().unwrap()]).unwrap().digest;
    server.store.flush().unwrap();
    // With the files out of the way whatever reads one fails.
    let aside = server.root().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let blobs = server.root().join("blobs/sha256");
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    move_all(&blobs, &aside);
    let paths = [
        format!("/v2/app/blobs/{}", Digest::of(&layer)),
        "/v2/app/manifests/v1".into(),
        format!("/v2/app/manifests/{digest}"),
    ];
    for path in &paths {
        assert_ne!(server.head(path).expect(200).header("content-length"), "0");
        let answer = server.get(path).expect(500);
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("blobs/sha256"),
            "a path of the machine shows"
        );
    }
    move_all(&aside, &blobs);
    for path in &paths {
        server.get(path).expect(200);
    }
}

#[test]
fn every_head_has_the_headers_of_its_get() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    here.push_bytes("{}").unwrap();
    let digest = here.push_manifest(MANIFEST, image(b"{}", &[]), &["v1".parse().unwrap()]).unwrap().digest;
    for path in [
        "/v2/".to_owned(),
        "/v2/_catalog".into(),
        "/v2/_oci/ext/discover".into(),
        "/v2/app/_oci/ext/discover".into(),
        "/v2/app/tags/list".into(),
        "/v2/app/tags/list?n=0".into(),
        "/v2/none/tags/list".into(),
        format!("/v2/app/blobs/{}", Digest::of(b"{}")),
        format!("/v2/app/blobs/{digest}"),
        "/v2/app/manifests/v1".into(),
        "/v2/app/manifests/none".into(),
        format!("/v2/app/referrers/{digest}"),
        format!("/v2/app/referrers/{digest}?artifactType=a"),
        format!("/v2/app/_oras/artifacts/referrers?digest={digest}"),
    ] {
        let (get, head) = (server.get(&path), server.head(&path));
        assert_eq!((get.status, &get.headers), (head.status, &head.headers), "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}
