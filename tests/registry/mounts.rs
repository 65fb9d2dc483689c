//! Content that another repository holds: taken over by who may read it there, and not even hinted at to anybody else.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use orlop::server::{Action, Denial, Grant, Policy, Verb};
use orlop::{Algorithm, Digest, Options};
use parking_lot::Mutex;

use crate::support::{Answer, Server};

/// Nobody reads below `secret/`. Remembers what it was asked.
#[derive(Clone, Default)]
struct Secrets(Arc<Mutex<Vec<Action>>>);

impl Policy for Secrets {
    async fn decide(&self, _request: &Parts, action: &Action) -> Result<Grant, Denial> {
        self.0.lock().push(action.clone());
        let is_secret = |name: &orlop::oci::RepositoryName| name.as_str().starts_with("secret/");
        match (&action.repository, &action.mount) {
            (_, Some(source)) if is_secret(source) => Err(Denial::hidden()),
            (Some(name), None) if is_secret(name) && action.verb == Verb::Pull => Err(Denial::forbidden()),
            _ => Ok(Grant::default()),
        }
    }
}

fn push<P: Policy>(server: &Server<P>, repository: &str, content: &[u8], algorithm: Algorithm) -> Digest {
    let digest = algorithm.digest(content);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    server.send(Method::POST, &path, &[], content.to_vec()).expect(201);
    digest
}

fn mount<P: Policy>(server: &Server<P>, digest: Digest, from: &str) -> Answer {
    server.send(Method::POST, &format!("/v2/here/blobs/uploads/?mount={digest}{from}"), &[], "")
}

/// A session instead, which is as good as any; the content is not there.
#[track_caller]
fn none<P: Policy>(server: &Server<P>, answer: Answer, content: &[u8], digest: Digest) {
    let answer = answer.expect(202);
    assert_eq!((answer.header("range"), answer.body.len()), ("0-0", 0));
    assert!(!answer.headers.contains_key("docker-content-digest"));
    let blob = format!("/v2/here/blobs/{digest}");
    server.head(&blob).expect(404);
    let location = format!("{}?digest={digest}", answer.header("location"));
    server.send(Method::PUT, &location, &[], content.to_vec()).expect(201);
    server.delete(&blob).expect(202);
}

#[test]
fn what_may_be_read_is_mounted_and_stays() {
    let server = Server::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for from in ["&from=some%2Fwhere", ""] {
            let digest = push(&server, "some/where", b"content", algorithm);
            let answer = mount(&server, digest, from).expect(201);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(answer.header("location"), format!("/v2/here/blobs/{digest}"));
            // Gone there at once, and here still there.
            server.delete(&format!("/v2/some/where/blobs/{digest}")).expect(202);
            server.head(&format!("/v2/some/where/blobs/{digest}")).expect(404);
            assert_eq!(server.get(answer.header("location")).expect(200).body, "content");
            server.delete(answer.header("location")).expect(202);
            // What nobody holds any more is not mounted, although its bytes may be there.
            none(&server, mount(&server, digest, from), b"content", digest);
        }
    }
    // The unnamed repository goes by the name under which it is served.
    let digest = push(&server, "unnamed", b"unnamed", Algorithm::Sha256);
    for from in ["&from=unnamed", ""] {
        let answer = mount(&server, digest, from).expect(201);
        server.delete(answer.header("location")).expect(202);
    }
}

#[test]
fn what_cannot_be_mounted_is_asked_for() {
    let server = Server::new();
    let digest = push(&server, "there", b"content", Algorithm::Sha256);
    for from in ["&from=elsewhere", "&from=Not%20A%20Name", "&from=", "&from=..%2Fthere"] {
        none(&server, mount(&server, digest, from), b"content", digest);
    }
    let path = "/v2/here/blobs/uploads/?mount=sha256:short&from=there";
    server.send(Method::POST, path, &[], "").refused(400, "DIGEST_INVALID");
}

#[test]
fn what_may_not_be_read_is_as_if_it_were_not_there() {
    let policy = Secrets::default();
    let server = Server::with(policy.clone(), Options::new());
    let digest = push(&server, "secret/a", b"content", Algorithm::Sha256);
    push(&server, "secret/b", b"content", Algorithm::Sha256);
    let unknown = Digest::of(b"nobody has this");
    for from in ["&from=secret/a", ""] {
        let (known, other) = (mount(&server, digest, from), mount(&server, unknown, from));
        let names = |answer: &Answer| answer.headers.keys().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&known), names(&other));
        none(&server, known, b"content", digest);
        none(&server, other, b"nobody has this", unknown);
    }
    // One that may be read among those that may not.
    policy.0.lock().clear();
    push(&server, "public", b"content", Algorithm::Sha256);
    mount(&server, digest, "").expect(201);
    let asked = policy.0.lock();
    let sources: Vec<_> = asked.iter().filter_map(|action| action.mount.as_ref()).collect();
    assert!(sources.contains(&&"public".parse().unwrap()), "{sources:?}");
    assert!(asked.iter().all(|action| action.mount.is_none() || action.verb == Verb::Push));
}

#[test]
fn no_more_than_some_holders_are_asked_about() {
    let policy = Secrets::default();
    let server = Server::with(policy.clone(), Options::new());
    let digest = Digest::of(b"content");
    for n in 0..40 {
        push(&server, &format!("secret/{n}"), b"content", Algorithm::Sha256);
    }
    policy.0.lock().clear();
    mount(&server, digest, "").expect(202);
    assert_eq!(policy.0.lock().len(), 1 + 16);
}
