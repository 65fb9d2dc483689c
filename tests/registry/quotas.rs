//! What a repository may hold is what the policy says, and the store keeps it.

use http::Method;
use http::request::Parts;
use orlop::server::{Action, Denial, Grant, Policy};
use orlop::{Digest, Options, Quota};
use parking_lot::Mutex;

use std::sync::Arc;

use crate::support::{MANIFEST, Pieces, Server, Whole, image};

/// So much for everybody.
#[derive(Clone)]
struct Limited(Arc<Mutex<Quota>>);

impl Policy for Limited {
    async fn decide(&self, _request: &Parts, _action: &Action) -> Result<Grant, Denial> {
        Ok(Grant::to("somebody").with_quota(*self.0.lock()))
    }
}

#[test]
fn a_quota_is_kept_by_every_way_in() {
    let granted = Arc::new(Mutex::new(Quota { objects: Some(2), bytes: Some(100_000) }));
    let server = Server::with(Limited(Arc::clone(&granted)), Options::new());
    let here = server.store.repository(&"a".parse().unwrap());
    let large = vec![b'l'; 100_001];
    let post = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&large));
    let refused = |answer: crate::support::Answer| {
        let answer = answer.refused(403, "DENIED");
        assert_eq!(answer.principal.as_deref(), Some("somebody"), "for the log, refused or not");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains("limit=100000") || text.contains("limit=2"), "{text}");
    };
    // The first request is limited already, with a length and without.
    refused(server.answer(server.begin(Method::POST, &post, &[], Whole(Some(large.clone().into())))));
    refused(server.send(Method::POST, &post, &[], large.clone()));
    let start = || {
        let answer = server.send(Method::POST, "/v2/a/blobs/uploads/", &[], "").expect(202);
        answer.header("location").to_owned()
    };
    let location = start();
    refused(server.send(Method::PATCH, &location, &[], large.clone()));
    refused(server.send(
        Method::PUT,
        &format!("{location}?digest={}", Digest::of(&large)),
        &[],
        large.clone(),
    ));
    let pieces = large.chunks(1000).map(|piece| Ok(piece.to_vec().into())).collect();
    refused(server.send_pieces(Method::PATCH, &location, &[], Pieces(pieces)));
    server.delete(&location).expect(204);
    assert_eq!(here.usage().unwrap().objects, 0);

    let config = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"{}"));
    server.send(Method::POST, &config, &[], "{}").expect(201);
    let manifest = image(b"{}", &[]);
    let headers = [("content-type", MANIFEST)];
    server.send(Method::PUT, "/v2/a/manifests/v1", &headers, manifest.clone()).expect(201);
    // What is there already needs no room; a third object has none, nor a session, which keeps room for one.
    server.send(Method::PUT, "/v2/a/manifests/again", &headers, manifest.clone()).expect(201);
    let other = manifest.replace("schemaVersion\":2", "schemaVersion\": 2");
    refused(server.send(Method::PUT, "/v2/a/manifests/v2", &headers, other.clone()));
    refused(server.send(Method::POST, "/v2/a/blobs/uploads/", &[], ""));
    let there = server.store.repository(&"b".parse().unwrap());
    there.push_bytes("mounted").unwrap();
    let mount = format!("/v2/a/blobs/uploads/?mount={}&from=b", Digest::of(b"mounted"));
    refused(server.send(Method::POST, &mount, &[], ""));
    // The policy changes its mind.
    granted.lock().objects = Some(4);
    server.send(Method::PUT, "/v2/a/manifests/v2", &headers, other).expect(201);
    server.send(Method::POST, &mount, &[], "").expect(201);
    assert_eq!(here.quota().unwrap(), *granted.lock());
    assert_eq!(here.usage().unwrap().objects, 4);
}
