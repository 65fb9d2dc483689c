//! What stands before the registry: bounds, health, the access log and the meters of requests.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use orlop::server::{Body, Cause, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tower_service::Service as _;

use super::guard::{Guard, Principal};
use super::health::Health;
use super::log::{self, Entry, Log};
use super::meters::{self, Meters};

/// A refusal as the distribution-spec has them.
const BUSY: &str =
    r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"the registry has more to do than it can"}]}"#;
const SLOW: &str = r#"{"errors":[{"code":"UNKNOWN","message":"the registry did not get to it in time"}]}"#;

/// Everything that requests pass on their way. Clones are one.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) registry: Registry<Guard>,
    pub(super) requests: Arc<Semaphore>,
    pub(super) log: Log,
    pub(super) health: Health,
    /// Whether anybody reads the meters.
    pub(super) metered: bool,
    /// How long a client may send nothing of a body.
    pub(super) idle: Duration,
    /// How long the head of an answer to a request without a body may take.
    pub(super) patience: Duration,
}

/// The same for one connection.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) front: Front,
    pub(super) remote: SocketAddr,
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { front, remote } = self.clone();
        Box::pin(async move { Ok(front.answer(request, remote).await) })
    }
}

/// What the log calls a request whose client went away before there was an answer.
fn gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Front {
    async fn answer(self, mut request: Request<Incoming>, remote: SocketAddr) -> Response<Counted> {
        let principal = Principal::default();
        let received = Arc::new(AtomicU64::new(0));
        let uri = request.uri().clone();
        let path = uri.path();
        let mut done = Done {
            log: self.log.clone(),
            metered: self.metered,
            start: Instant::now(),
            remote,
            principal: principal.clone(),
            method: request.method().clone(),
            route: meters::route(path),
            uri: uri.clone(),
            // As long as there is no answer: who goes away before it got none.
            status: gone(),
            received: Arc::clone(&received),
            sent: 0,
            complete: false,
            _permit: None,
        };
        if self.metered {
            meters::running(1.0);
        }
        let response = if let Some(answer) = self.health.answer(path).await {
            answer
        } else if let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() {
            done._permit = Some(permit);
            request.extensions_mut().insert(principal);
            let bodiless = [Method::GET, Method::HEAD].contains(request.method());
            let mut registry = self.registry.clone();
            let (idle, received) = (self.idle, Arc::clone(&received));
            let request = request.map(|body| Patient { body, idle, timer: None, waits: false, received });
            let answer = registry.call(request);
            let answer =
                if bodiless { tokio::time::timeout(self.patience, answer).await } else { Ok(answer.await) };
            match answer {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => refusal(StatusCode::SERVICE_UNAVAILABLE, SLOW),
            }
        } else {
            refusal(StatusCode::TOO_MANY_REQUESTS, BUSY)
        };
        done.status = response.status();
        if let Some(cause) = response.extensions().get::<Cause>() {
            self.log.complain(format!("{} {}", done.method, shown(&uri)), cause.error());
        }
        response.map(|body| Counted { body, done })
    }
}

/// The path and query of a request, as it came.
fn shown(uri: &http::Uri) -> String {
    uri.path_and_query().map_or_else(|| uri.to_string(), ToString::to_string)
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = answer(status, "application/json", text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A short answer.
pub(super) fn answer(status: StatusCode, media_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A request's body that fails when nothing of it comes for too long.
struct Patient {
    body: Incoming,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
    received: Arc<AtomicU64>,
}

impl http_body::Body for Patient {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waits = false;
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle;
        if !self.waits {
            self.waits = true;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(tokio::time::Instant::now() + idle),
                none => *none = Some(Box::pin(tokio::time::sleep(idle))),
            }
        }
        let over = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
        if !over {
            return Poll::Pending;
        }
        let error = io::Error::new(io::ErrorKind::TimedOut, format!("nothing of the body came for {idle:?}"));
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, counted; the request is over when it is gone.
pub(super) struct Counted {
    body: Body,
    done: Done,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.done.sent += frame.data_ref().map_or(0, Bytes::len) as u64,
            None => self.done.complete = true,
            // The client only sees that it broke off.
            Some(Err(error)) => {
                self.done.log.complain(format!("{} {}", self.done.method, shown(&self.done.uri)), error);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Nobody takes the body of an answer to HEAD, nor one that is known to be at its end.
        self.done.complete |= self.done.method == Method::HEAD || self.body.is_end_stream();
    }
}

/// What is written down once a request is over, whatever ended it.
struct Done {
    log: Log,
    metered: bool,
    start: Instant,
    remote: SocketAddr,
    principal: Principal,
    method: Method,
    route: &'static str,
    uri: http::Uri,
    status: StatusCode,
    received: Arc<AtomicU64>,
    sent: u64,
    complete: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Done {
    fn drop(&mut self) {
        let time = self.start.elapsed();
        if self.metered {
            meters::running(-1.0);
            let bytes = (self.received.load(Ordering::Relaxed), self.sent);
            let method = meters::method(&self.method);
            meters::answered(self.route, method, self.status.as_u16(), time, bytes);
        }
        if self.log.is_on() {
            self.log.write(Entry {
                time: log::now(),
                remote: self.remote,
                principal: self.principal.0.get().cloned(),
                method: self.method.to_string(),
                path: shown(&self.uri),
                status: self.status.as_u16(),
                bytes: self.sent,
                seconds: log::seconds(time),
                complete: self.complete,
            });
        }
    }
}

/// What the address for operators answers: the meters, and health.
#[derive(Clone)]
pub(super) struct Gauges {
    pub(super) meters: Meters,
    pub(super) health: Health,
}

impl hyper::service::Service<Request<Incoming>> for Gauges {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let path = request.uri().path();
            if path == "/metrics" {
                return Ok(answer(StatusCode::OK, meters::MEDIA_TYPE, this.meters.text()));
            }
            let health = this.health.answer(path).await;
            Ok(health.unwrap_or_else(|| {
                answer(StatusCode::NOT_FOUND, "text/plain", "see /metrics, /healthz and /readyz\n")
            }))
        })
    }
}
