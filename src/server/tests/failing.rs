//! What a client is told when the disk is full or fails, and that pulls go on.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use crate::server::{Body, Cause, Registry};
use crate::sys::fault::{Call, Fault, arm};
use crate::{Digest, ErrorKind, Options, Store};

struct Place {
    registry: Registry,
    store: Store,
    runtime: Runtime,
    _dir: TempDir,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().create(dir.path().join("store")).unwrap();
    let registry = Registry::open(store.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Place { registry, store, runtime, _dir: dir }
}

fn content(seed: u8) -> Vec<u8> {
    vec![seed; 40_000]
}

impl Place {
    fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.into())).unwrap();
        self.runtime.block_on(self.registry.clone().call(request)).unwrap()
    }

    fn push(&self, seed: u8) -> Response<Body> {
        let digest = Digest::of(&content(seed));
        self.send(Method::POST, &format!("/v2/a/blobs/uploads/?digest={digest}"), content(seed))
    }

    fn has(&self, seed: u8) -> StatusCode {
        self.send(Method::GET, &format!("/v2/a/blobs/{}", Digest::of(&content(seed))), "").status()
    }

    /// What the store said, which the client is not told.
    fn cause(&self, response: &Response<Body>) -> ErrorKind {
        let cause = response.extensions().get::<Cause>().unwrap();
        assert!(
            cause.error().to_string().contains(self.store.root().to_str().unwrap())
                || response.status() == 503
        );
        cause.error().kind()
    }
}

#[test]
fn a_full_disk_is_told_and_pulls_go_on() {
    let place = place();
    assert_eq!(place.push(1).status(), StatusCode::CREATED);
    let full = arm(Fault::new(Call::Space, place.store.root(), Errno::NOSPC).forever());
    for _ in 0..2 {
        let refused = place.push(2);
        assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(place.cause(&refused), ErrorKind::NoSpace);
        assert_eq!((place.has(1), place.has(2)), (StatusCode::OK, StatusCode::NOT_FOUND));
    }
    drop(full);
    assert_eq!((place.push(2).status(), place.has(2)), (StatusCode::CREATED, StatusCode::OK));
}

#[test]
fn a_failed_sync_ends_pushes_and_pulls_go_on() {
    let place = place();
    assert_eq!(place.push(1).status(), StatusCode::CREATED);
    let failing = arm(Fault::new(Call::SyncRows, place.store.root(), Errno::IO));
    let refused = place.push(2);
    assert_eq!((refused.status(), failing.fired()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    assert_eq!(place.cause(&refused), ErrorKind::Indeterminate);
    drop(failing);
    // The disk is well again, but nobody knows what it has: only opening the store tells.
    let refused = place.push(3);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(place.cause(&refused), ErrorKind::Poisoned);
    assert_eq!((place.has(1), place.has(3)), (StatusCode::OK, StatusCode::NOT_FOUND));
}
