//! Connections of HTTP/2 on which nothing happens: without a request, or with an answer that its client does not take.
//!
//! HTTP/1 needs none of this: between two heads it has a time-out, and a client that takes nothing of its one answer makes the
//! writing stand still. Here a client that takes nothing of an answer only stops asking for more of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use parking_lot::Mutex;

/// What happens on one connection. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// When bytes came or went last.
    last: Instant,
    /// Requests that are not over.
    running: usize,
    /// Those of them that wait for the server, not for the client.
    ours: usize,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { last: Instant::now(), running: 0, ours: 0 })))
    }

    /// Bytes came or went.
    pub(super) fn moved(&self) {
        self.0.lock().last = Instant::now();
    }

    /// Comes back when there was no request for so long, nor a byte.
    pub(super) async fn idle(&self, limit: Duration) {
        self.still(limit, |state| state.running == 0).await;
    }

    /// Comes back when no byte came or went for so long although the client could have brought or taken some.
    pub(super) async fn stalled(&self, limit: Duration) {
        self.still(limit, |state| state.ours == 0).await;
    }

    async fn still(&self, limit: Duration, counts: impl Fn(&State) -> bool) {
        loop {
            let left = {
                let state = self.0.lock();
                if counts(&state) { limit.saturating_sub(state.last.elapsed()) } else { limit }
            };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// One request; over when this is gone.
struct Turn {
    traffic: Traffic,
    ours: bool,
}

impl Turn {
    fn begin(traffic: &Traffic) -> Self {
        let mut state = traffic.0.lock();
        state.running += 1;
        state.ours += 1;
        drop(state);
        Self { traffic: traffic.clone(), ours: true }
    }

    /// Says who is waited for. Time that the server took is not held against the client.
    fn set_ours(&mut self, ours: bool) {
        if ours == self.ours {
            return;
        }
        self.ours = ours;
        let mut state = self.traffic.0.lock();
        if ours {
            state.ours += 1;
        } else {
            state.ours = state.ours.saturating_sub(1);
            state.last = Instant::now();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.set_ours(false);
        let mut state = self.traffic.0.lock();
        state.running = state.running.saturating_sub(1);
    }
}

/// A service whose requests are counted.
pub(super) struct Watched<S> {
    pub(super) service: S,
    pub(super) traffic: Traffic,
}

impl<S, B> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Offered<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut turn = Turn::begin(&self.traffic);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            turn.set_ours(false);
            Ok(response.map(|body| Offered { body, turn }))
        })
    }
}

/// The body of an answer, whose client is waited for unless the next piece is still to be had.
pub(super) struct Offered<B> {
    body: B,
    turn: Turn,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Offered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.turn.set_ours(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
