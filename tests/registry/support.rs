//! A registry on a store in a directory of its own, and what a client says and hears.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use orlop::oci::RepositoryName;
use orlop::server::{Layout, Open, Policy, Registry, Settings};
use orlop::{Digest, Options, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
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
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What is wrong with the body, which then is a part.
    pub(crate) broken: Option<String>,
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
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let store = options.open_or_create(dir.path().join("store")).unwrap();
        let unnamed: RepositoryName = "unnamed".parse().unwrap();
        let layout = Layout::new(store.clone()).unnamed_as(unnamed);
        let registry = Registry::with_settings([layout], policy, settings);
        let runtime =
            Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap());
        Self { registry, store, runtime, _dir: dir }
    }

    /// Sends a request whose body comes in pieces, without a length.
    pub(crate) fn send_pieces(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Pieces,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let mut registry = self.registry.clone();
        self.runtime.block_on(async move {
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
            Answer { status: parts.status, headers: parts.headers, body: bytes.into(), broken }
        })
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

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
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
