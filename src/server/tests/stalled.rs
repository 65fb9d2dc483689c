//! A disk that stops answering stalls nobody who does not need it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use crate::server::{Body, Layout, Limits, Open, Registry, Settings};
use crate::sys::fault::{Armed, Call, Fault, arm};
use crate::{Algorithm, Digest, Expected, Options, Publish, Store};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const READERS: usize = 2;
const WAITING: usize = 2;
/// Above the size up to which content is one piece of an answer.
const LARGE: usize = 900_000;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>>;

/// A registry whose contents by sha512 are on a disk of their own, for all that it can see.
struct Place {
    registry: Registry,
    store: Store,
    runtime: Runtime,
    cold: PathBuf,
    _not_in_memory: Armed,
    _dir: TempDir,
}

fn noise(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n + seed) * 31 % 251).unwrap()).collect()
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().publish(Publish::Manual).create(dir.path().join("store")).unwrap();
    let limits = Limits { readers: READERS, waiting: WAITING, ..Limits::default() };
    let registry =
        Registry::with_settings([Layout::new(store.clone())], Open, Settings::new().limits(limits));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cold = store.root().join("blobs").join("sha512");
    let not_in_memory = arm(Fault::new(Call::Resident, &cold, Errno::IO).forever());
    Place { registry, store, runtime, cold, _not_in_memory: not_in_memory, _dir: dir }
}

impl Place {
    /// Adds a content by sha512, which is in its file and not in memory; answers the path of a request for it.
    fn cold(&self, content: &[u8]) -> String {
        let digest = Algorithm::Sha512.digest(content);
        let here = self.store.repository(&"a".parse().unwrap());
        here.push_reader(content, &Expected::from(digest)).unwrap();
        self.store.flush().unwrap();
        format!("/v2/a/blobs/{digest}")
    }

    fn send(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::default()).unwrap();
        self.registry.clone().call(request)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path)
    }

    /// An answer that may wait for nothing.
    fn at_once(&self, mut answer: Answer) -> (http::response::Parts, Vec<u8>) {
        let Poll::Ready(response) = self.poll(answer.as_mut()) else { panic!("it waits") };
        let (parts, mut body) = response.unwrap().into_parts();
        let mut bytes = Vec::new();
        loop {
            match self.poll(pin!(piece(&mut body))) {
                Poll::Ready(Some(piece)) => bytes.extend_from_slice(&piece.unwrap()),
                Poll::Ready(None) => return (parts, bytes),
                Poll::Pending => panic!("the body waits"),
            }
        }
    }

    fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        let _runtime = self.runtime.enter();
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits for the whole of an answer.
    fn finish(&self, answer: Answer) -> (StatusCode, io::Result<Vec<u8>>) {
        self.runtime.block_on(async {
            let (parts, mut body) = answer.await.unwrap().into_parts();
            let mut bytes = Vec::new();
            while let Some(piece) = piece(&mut body).await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece),
                    Err(error) => return (parts.status, Err(error)),
                }
            }
            (parts.status, Ok(bytes))
        })
    }
}

async fn piece(body: &mut Body) -> Option<io::Result<Bytes>> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

fn stalled(cold: &Path) -> Armed {
    arm(Fault::hold(Call::Read, cold, None).forever())
}

/// Waits for what other threads do, and not for ever.
fn come(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it does not come");
}

#[test]
fn a_disk_that_stalls_keeps_nobody_else_waiting() {
    let place = place();
    let here = place.store.repository(&"a".parse().unwrap());
    let (small, large) = (noise(1, 40_000), noise(2, LARGE));
    for content in [&small, &large] {
        here.push_bytes(content.clone()).unwrap();
    }
    let config = format!(r#"{{"mediaType":"text/plain","digest":"{}","size":40000}}"#, Digest::of(&small));
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[]}}"#);
    let pushed = here.push_manifest(MANIFEST, manifest.clone(), &["v1".parse().unwrap()]).unwrap();
    let contents: Vec<Vec<u8>> = (10..16).map(|seed| noise(seed, 20_000)).collect();
    let paths: Vec<String> = contents.iter().map(|content| place.cold(content)).collect();
    let streamed = noise(20, LARGE);
    let stream = place.cold(&streamed);

    let stall = stalled(&place.cold);
    // As many as may wait for the disk, and as many as may wait for that.
    let mut waiting: Vec<Answer> = paths[..READERS + WAITING].iter().map(|path| place.get(path)).collect();
    for answer in &mut waiting {
        assert!(place.poll(answer.as_mut()).is_pending());
    }
    come(|| stall.fired() == READERS);
    // What is not in memory has its headers all the same, and comes when the disk does.
    let mut response = place.get(&stream);
    let Poll::Ready(Ok(response)) = place.poll(response.as_mut()) else { panic!("headers wait") };
    let (parts, mut body) = response.into_parts();
    assert_eq!((parts.status, place.poll(pin!(piece(&mut body))).is_pending()), (StatusCode::OK, true));

    let refused = place.at_once(place.get(&paths[READERS + WAITING])).0;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], "1");
    // Of what is in memory everything is there, as often as somebody asks.
    for _ in 0..3 * (READERS + WAITING) {
        assert_eq!(place.at_once(place.get("/v2/")).0.status, StatusCode::OK);
        for reference in ["v1".to_owned(), pushed.digest.to_string()] {
            let path = format!("/v2/a/manifests/{reference}");
            let head = place.at_once(place.send(Method::HEAD, &path)).0;
            assert_eq!(head.headers["docker-content-digest"], pushed.digest.to_string().as_str());
            assert_eq!(place.at_once(place.get(&path)).1, manifest.as_bytes());
        }
        for content in [&small, &large] {
            assert!(place.at_once(place.get(&format!("/v2/a/blobs/{}", Digest::of(content)))).1 == *content);
        }
        assert_eq!(place.at_once(place.send(Method::HEAD, &paths[0])).0.status, StatusCode::OK);
    }
    assert_eq!(stall.fired(), READERS, "no more threads wait for a disk than may");

    drop(stall);
    for (answer, content) in waiting.into_iter().zip(&contents) {
        let (status, bytes) = place.finish(answer);
        assert!(status == StatusCode::OK && bytes.unwrap() == *content);
    }
    let mut bytes = Vec::new();
    place.runtime.block_on(async {
        while let Some(piece) = piece(&mut body).await {
            bytes.extend_from_slice(&piece.unwrap());
        }
    });
    assert!(bytes == streamed);
    assert!(place.finish(place.get(&paths[5])).1.unwrap() == contents[5]);
}

#[test]
fn one_piece_is_read_ahead_and_no_more() {
    let place = place();
    let content = noise(3, 2_000_000);
    let path = place.cold(&content);
    let reads = arm(Fault::new(Call::Read, &place.cold, Errno::IO).nth(usize::MAX));
    let mut body = place.runtime.block_on(place.get(&path)).unwrap().into_body();
    let mut bytes = Vec::new();
    for given in 1..=8 {
        let piece = place.runtime.block_on(piece(&mut body)).unwrap().unwrap();
        bytes.extend_from_slice(&piece);
        let expected = (given + 1).min(8);
        // The next is begun although nobody asks for it.
        come(|| {
            place.runtime.block_on(tokio::task::yield_now());
            reads.seen() >= expected
        });
        place.runtime.block_on(tokio::task::yield_now());
        assert_eq!(reads.seen(), expected);
    }
    assert!(body.is_end_stream() && bytes == content);
}

#[test]
fn content_that_fails_on_its_way_never_looks_whole() {
    let place = place();
    let path = place.cold(&noise(4, LARGE));
    for nth in 1..=4 {
        let failing = arm(Fault::new(Call::Read, &place.cold, Errno::IO).nth(nth));
        let mut body = place.runtime.block_on(place.get(&path)).unwrap().into_body();
        for _ in 1..nth {
            place.runtime.block_on(piece(&mut body)).unwrap().unwrap();
        }
        for _ in 0..2 {
            assert!(place.runtime.block_on(piece(&mut body)).unwrap().is_err());
            assert!(!body.is_end_stream() && body.size_hint().exact() > Some(0));
        }
        assert_eq!(failing.fired(), 1);
    }
}
