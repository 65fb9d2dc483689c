//! Work that may wait for a disk: on blocking threads, bounded in number, so that what needs no disk goes on beside it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::error::{Code, Refusal};

/// Who may wait for a disk at one time, and how many wait for that.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    threads: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
}

/// Somebody who waits for a thread; no longer when this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(threads: usize, most_waiting: usize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: Arc::default(),
            most_waiting,
        }
    }

    /// Does something that may wait. Once begun it comes to its end, whoever still wants to know.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let thread = match Arc::clone(&self.threads).try_acquire_owned() {
            Ok(thread) => thread,
            Err(_) => {
                let before = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&self.waiting);
                if before >= self.most_waiting {
                    return Err(busy());
                }
                Arc::clone(&self.threads).acquire_owned().await.map_err(|_| busy())?
            }
        };
        blocking(thread, work).await.map_err(|_| gone())
    }

    /// Goes on with something that was begun: waits for a thread however many wait.
    pub(super) async fn go_on<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| busy())?;
        blocking(thread, work).await.map_err(|_| gone())
    }

    /// Does something that may wait, beside whoever asks for it: begun as soon as there is a thread, whether or not anybody
    /// looks. However many wait already, this waits too: who does one such thing at a time is bounded by something else.
    pub(super) fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Started<T> {
        let threads = Arc::clone(&self.threads);
        Started(tokio::spawn(async move {
            let thread = threads.acquire_owned().await.ok()?;
            blocking(thread, work).await.ok()
        }))
    }
}

fn blocking<T: Send + 'static>(
    thread: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    // Given back by the thread, not by who may have gone away: what waits for a disk goes on waiting.
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(thread);
        done
    })
}

/// Something that is being done. Given up when this is dropped, unless it has begun.
#[derive(Debug)]
pub(super) struct Started<T>(JoinHandle<Option<T>>);

impl<T> Started<T> {
    /// What came of it; none when it panicked or the runtime is going down.
    pub(super) fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(context).map(|done| done.ok().flatten())
    }
}

impl<T> Drop for Started<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cold]
fn busy() -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, "the disk has more to do than it can")
        .retry_after(std::time::Duration::from_secs(1))
}

/// The work panicked, or the runtime is going down.
#[cold]
fn gone() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, "the request was not finished")
}
