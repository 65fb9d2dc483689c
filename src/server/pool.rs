//! Work that may wait for a disk: on blocking threads, bounded in number, so that what needs no disk goes on beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Code, Refusal};
use http::StatusCode;

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
        run_on(thread, work).await
    }

    /// Goes on with something that was begun: waits for a thread however many wait.
    pub(super) async fn go_on<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| busy())?;
        run_on(thread, work).await
    }
}

async fn run_on<T: Send + 'static>(
    thread: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let work = move || {
        let done = work();
        drop(thread);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| gone())
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
