//! A registry on a store in a directory of its own, and what a client says and hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use orlop::oci::RepositoryName;
use orlop::server::{Layout, Open, Policy, Principal, Registry, Settings};
use orlop::{Digest, Options, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tower_service::Service as _;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry under test. Its unnamed repository is served as `unnamed`.
pub(crate) struct Server<P = Open> {
    pub(crate) registry: Registry<P>,
    pub(crate) store: Store,
    runtime: Arc<Runtime>,
    _dir: Arc<TempDir>,
}

/// What a client heard.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What is wrong with the body, which then is a part.
    pub(crate) broken: Option<String>,
    /// Whom the policy granted the request to.
    pub(crate) principal: Option<String>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, headers, body, broken, principal: _ } = self;
        let begin = String::from_utf8_lossy(&body[..body.len().min(500)]);
        write!(f, "{status} {headers:?} {} bytes: {begin:?} {broken:?}", body.len())
    }
}

/// A request body whose pieces come one by one.
pub(crate) struct Pieces(pub(crate) Vec<Result<Bytes, std::io::Error>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        let next = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
        std::task::Poll::Ready(next.map(|piece| piece.map(http_body::Frame::data)))
    }
}

/// A request body whose pieces come when a test says so.
pub(crate) struct Feed {
    pieces: UnboundedReceiver<std::io::Result<Bytes>>,
    waits: Arc<AtomicUsize>,
}

/// Where its pieces come from; it ends when this is dropped.
pub(crate) struct Feeder {
    pieces: UnboundedSender<std::io::Result<Bytes>>,
    waits: Arc<AtomicUsize>,
}

pub(crate) fn feed() -> (Feeder, Feed) {
    let (sender, receiver) = unbounded_channel();
    let waits = Arc::<AtomicUsize>::default();
    (Feeder { pieces: sender, waits: Arc::clone(&waits) }, Feed { pieces: receiver, waits })
}

impl Feeder {
    /// Gives a piece; comes back when it was taken and another is asked for.
    pub(crate) fn give(&self, piece: impl Into<Bytes>) {
        let before = self.waits.load(Ordering::SeqCst);
        self.pieces.send(Ok(piece.into())).unwrap();
        until(|| self.waits.load(Ordering::SeqCst) > before);
    }
}

/// Waits for something that another thread does.
#[track_caller]
pub(crate) fn until(done: impl Fn() -> bool) {
    for _ in 0..200_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    panic!("it never came");
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<http_body::Frame<Bytes>>>> {
        let next = self.pieces.poll_recv(context);
        if next.is_pending() {
            self.waits.fetch_add(1, Ordering::SeqCst);
        }
        next.map(|next| next.map(|piece| piece.map(http_body::Frame::data)))
    }
}

/// What an upload of a body of a known length sends.
pub(crate) struct Whole(pub(crate) Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<http_body::Frame<Bytes>>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Open, Options::new())
    }
}

impl<P: Policy> Server<P> {
    pub(crate) fn with(policy: P, options: Options) -> Self {
        Self::set(policy, options, Settings::new())
    }

    pub(crate) fn set(policy: P, options: Options, settings: Settings) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), policy, options, settings)
    }

    /// On the layout that is in `store` of a directory, or a new one there.
    pub(crate) fn in_dir(dir: TempDir, policy: P, options: Options, settings: Settings) -> Self {
        let dir = Arc::new(dir);
        let store = options.open_or_create(dir.path().join("store")).unwrap();
        let unnamed: RepositoryName = "unnamed".parse().unwrap();
        let layout = Layout::new(store.clone()).unnamed_as(unnamed);
        let registry = Registry::with_settings([layout], policy, settings);
        Self { registry, store, runtime: Arc::new(runtime_of_two()), _dir: dir }
    }

    /// The registry in a new process: what is not on the disk is gone.
    pub(crate) fn restart(self, policy: P, options: Options) -> Self {
        let Self { registry, store, runtime, _dir } = self;
        drop((registry, runtime));
        store.close().unwrap();
        let store = options.open(_dir.path().join("store")).unwrap();
        let registry = Registry::new([Layout::new(store.clone())], policy);
        Self { registry, store, runtime: Arc::new(runtime_of_two()), _dir }
    }

    /// Where the store is.
    pub(crate) fn root(&self) -> std::path::PathBuf {
        self._dir.path().join("store")
    }

    /// Begins a request, whose body may still be coming.
    pub(crate) fn begin<B>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> JoinHandle<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let mut registry = self.registry.clone();
        self.runtime.spawn(async move {
            let response = registry.call(request).await.unwrap();
            let (parts, mut body) = response.into_parts();
            let (mut bytes, mut broken) = (Vec::new(), None);
            while let Some(frame) =
                std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
            {
                match frame {
                    Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => {
                        broken = Some(error.to_string());
                        break;
                    }
                }
            }
            let principal = parts.extensions.get::<Principal>().map(|principal| principal.name().to_owned());
            Answer { principal, status: parts.status, headers: parts.headers, body: bytes.into(), broken }
        })
    }

    /// Waits for the answer to a request.
    pub(crate) fn answer(&self, begun: JoinHandle<Answer>) -> Answer {
        self.runtime.block_on(begun).unwrap()
    }

    /// Sends a request whose body comes in pieces, without a length.
    pub(crate) fn send_pieces(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Pieces,
    ) -> Answer {
        self.answer(self.begin(method, path, headers, body))
    }

    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let body: Bytes = body.into();
        let pieces = if body.is_empty() { Vec::new() } else { vec![Ok(body)] };
        self.send_pieces(method, path, headers, Pieces(pieces))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "")
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[], "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "")
    }
}

fn runtime_of_two() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Where the next page is, which a header must say.
    #[track_caller]
    pub(crate) fn next(&self) -> &str {
        let link = self.header("link");
        let url = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        url.unwrap_or_else(|| panic!("no next page: {self:?}"))
    }

    /// The code of the error that the body names.
    pub(crate) fn code(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Document {
            errors: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            code: String,
            message: String,
        }
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let document: Document = serde_json::from_slice(&self.body).unwrap();
        assert!(!document.errors[0].message.is_empty());
        document.errors[0].code.clone()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// An error of this status and code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{answer:?}");
        answer
    }
}

/// An image manifest with a config and layers that need be pushed before it.
pub(crate) fn image(config: &[u8], layers: &[&[u8]]) -> String {
    let descriptor = |media_type: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
    };
    let layers: Vec<String> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", config),
        layers.join(",")
    )
}
