//! The end of a server: no more connections, what is under way is finished, and the stores are closed.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

/// Whoever holds it keeps the server from ending, and hears when that is wanted.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

/// Says that the server is to end.
pub(super) struct Stopper(watch::Sender<bool>);

impl Stopper {
    pub(super) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Lets everybody finish what he is at; how many had not by then. The [`Stop`] that came with this must be gone.
    pub(super) async fn stop(self, patience: Duration) -> usize {
        self.0.send_replace(true);
        let ended = tokio::time::timeout(patience, self.0.closed()).await;
        if ended.is_ok() { 0 } else { self.0.receiver_count() }
    }
}

impl Stop {
    /// Comes back when the server is to end.
    pub(super) async fn asked(&mut self) {
        // An error says that nobody is left to ask, which is the same.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

/// One of two, whichever comes first; the first of them if both are there.
pub(super) async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    std::future::poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Pending => second.as_mut().poll(context),
        ready => ready,
    })
    .await
}
