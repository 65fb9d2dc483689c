//! The end of a server: no more connections, what is under way is finished, and the stores are closed.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;

use crate::interrupt;

/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Comes back when a signal asks to stop.
pub(super) async fn asked() {
    while !interrupt::is_caught() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets connections finish what they are at; how many had not by then.
pub(super) async fn finish(connections: GracefulShutdown, patience: Duration) -> usize {
    let count = connections.count();
    if count == 0 {
        return 0;
    }
    let ended = tokio::time::timeout(patience, connections.shutdown()).await;
    if ended.is_ok() { 0 } else { count }
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
