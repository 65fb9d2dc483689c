//! The referrers API of ORAS and its discovery, and the artifact manifest.

use orlop::{Digest, Repository};

use crate::support::{Answer, MANIFEST, Server, image};

const ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Referrers {
    referrers: Vec<orlop::oci::Descriptor>,
}

fn referrers(answer: &Answer) -> Vec<orlop::oci::Descriptor> {
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("oras-api-version"), "oras/1.0");
    let Referrers { referrers } = serde_json::from_slice(&answer.body).unwrap();
    referrers
}

fn digests(answer: &Answer) -> Vec<Digest> {
    referrers(answer).into_iter().map(|found| found.digest).collect()
}

/// An artifact manifest attached to a subject, created at a time if it says so.
fn artifact(here: &Repository, subject: &str, kind: &str, blob: &str, created: &str) -> (Digest, String) {
    let blob_digest = here.push_bytes(blob.to_owned()).unwrap().digest;
    let annotations = if created.is_empty() {
        String::new()
    } else {
        format!(r#","annotations":{{"io.cncf.oras.artifact.created":"{created}"}}"#)
    };
    let text = format!(
        r#"{{"mediaType":"{ARTIFACT}","artifactType":"{kind}","blobs":[{{"mediaType":"text/plain","digest":"{blob_digest}","size":{}}}],"subject":{{"mediaType":"{MANIFEST}","digest":"{}","size":{}}}{annotations}}}"#,
        blob.len(),
        Digest::of(subject.as_bytes()),
        subject.len()
    );
    (here.push_manifest(ARTIFACT, text.clone(), &[]).unwrap().digest, text)
}

#[test]
fn extensions_can_be_discovered() {
    let server = Server::new();
    for path in ["/v2/_oci/ext/discover", "/v2/any/name/_oci/ext/discover"] {
        let answer = server.get(path).expect(200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.body,
            concat!(
                r#"{"extensions":[{"name":"_oras","#,
                r#""url":"https://github.com/oras-project/artifacts-spec/blob/main/manifest-referrers-api.md","#,
                r#""description":"Referrers of a manifest, newest first","#,
                r#""endpoints":["_oras/artifacts/referrers"]}]}"#
            )
        );
    }
}

#[test]
fn an_artifact_manifest_comes_back_and_refers_to_its_subject() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    let subject = image(b"{}", &[]);
    let (digest, text) = artifact(&here, &subject, "sbom/example", "packages", "");
    let answer = server.get(&format!("/v2/app/manifests/{digest}")).expect(200);
    assert_eq!((answer.header("content-type"), &answer.body[..]), (ARTIFACT, text.as_bytes()));
    assert_eq!(
        server.get(&format!("/v2/app/blobs/{}", Digest::of(b"packages"))).expect(200).body,
        "packages"
    );
    // By both ways, before the subject is there.
    let subject = Digest::of(subject.as_bytes());
    let listed = server.get(&format!("/v2/app/_oras/artifacts/referrers?digest={subject}")).expect(200);
    assert_eq!(
        listed.body,
        format!(
            r#"{{"referrers":[{{"mediaType":"{ARTIFACT}","digest":"{digest}","size":{},"artifactType":"sbom/example"}}]}}"#,
            text.len()
        )
    );
    let index = server.get(&format!("/v2/app/referrers/{subject}")).expect(200);
    assert!(String::from_utf8_lossy(&index.body).contains(&digest.to_string()));
}

#[test]
fn artifacts_come_newest_first_and_by_pages() {
    let server = Server::new();
    let here = server.store.repository(&"app".parse().unwrap());
    let subject = image(b"{}", &[]);
    let attach = |kind: &str, blob: &str, created: &str| artifact(&here, &subject, kind, blob, created).0;
    let undated = attach("sbom", "a", "");
    let old = attach("signature", "b", "2021-03-01T00:00:00Z");
    // Later although it sorts before as text.
    let new = attach("signature", "c", "2022-02-01T01:00:00+05:00");
    let newest = attach("sbom", "d", "2022-01-31T23:00:00Z");
    let odd = attach("sbom", "e", "yesterday");
    let path = format!("/v2/app/_oras/artifacts/referrers?digest={}", Digest::of(subject.as_bytes()));
    let all = server.get(&path).expect(200);
    assert_eq!(digests(&all), [newest, new, old, undated, odd]);
    assert_eq!((all.header("link"), all.header("oci-filters-applied")), ("", ""));
    let first = server.get(&format!("{path}&n=2")).expect(200);
    assert_eq!(digests(&first), [newest, new]);
    assert!(first.next().contains("&n=2&nextToken="), "{}", first.next());
    let second = server.get(first.next()).expect(200);
    assert_eq!(digests(&second), [old, undated]);
    let third = server.get(second.next()).expect(200);
    assert_eq!((digests(&third), third.header("link")), (vec![odd], ""));
    // The filter stays with the pages.
    let filtered = server.get(&format!("{path}&n=1&artifactType=signature")).expect(200);
    assert_eq!((digests(&filtered), filtered.header("oci-filters-applied")), (vec![new], "artifactType"));
    let rest = server.get(filtered.next()).expect(200);
    assert_eq!((digests(&rest), rest.header("link")), (vec![old], ""));
    assert_eq!(referrers(&server.get(&format!("{path}&n=0")).expect(200)), []);
}

#[test]
fn artifacts_of_what_is_not_there_are_none_and_bad_requests_are_told() {
    let server = Server::new();
    let digest = Digest::of(b"nothing");
    for path in [
        format!("/v2/none/_oras/artifacts/referrers?digest={digest}"),
        "/v2/none/_oras/artifacts/referrers?digest=sha384:00".to_owned(),
    ] {
        assert_eq!(server.get(&path).expect(200).body, r#"{"referrers":[]}"#);
    }
    let path = "/v2/none/_oras/artifacts/referrers";
    server.get(path).refused(400, "DIGEST_INVALID");
    server.get(&format!("{path}?digest=")).refused(400, "DIGEST_INVALID");
    server.get(&format!("{path}?digest=sha256:1")).refused(400, "DIGEST_INVALID");
    server.get(&format!("{path}?digest={digest}&n=x")).refused(400, "UNSUPPORTED");
    server.get(&format!("{path}?digest={digest}&nextToken=zz")).refused(400, "UNSUPPORTED");
}
