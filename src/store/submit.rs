//! Commits that nobody waits for in a thread of their own.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam::channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use super::Store;
use super::batch::{Committed, Parts};
use crate::error::{Error, ErrorKind, Result};

/// Threads that commit. One sync of the log serves all who wait for it, so a few serve many pushes.
const THREADS: usize = 4;

/// The result of [`Batch::submit`](super::Batch::submit): a future that needs no runtime.
///
/// Dropping it neither undoes nor half-applies the commit.
#[must_use = "a submitted batch is committed in any case, but only this tells whether it worked"]
pub struct Commit {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    slot: Mutex<Slot>,
    done: Condvar,
}

#[derive(Default)]
struct Slot {
    result: Option<Result<Committed>>,
    waker: Option<Waker>,
}

/// One submitted batch.
pub(super) struct Job {
    store: Store,
    parts: Parts,
    state: Arc<State>,
}

/// The threads of one store, started with its first submitted batch. They end when the store goes.
#[derive(Default)]
pub(super) struct Committers {
    sender: Mutex<Option<Sender<Job>>>,
}

impl Commit {
    /// Blocks until the batch is committed.
    ///
    /// # Errors
    ///
    /// As [`Batch::commit`](super::Batch::commit).
    pub fn wait(self) -> Result<Committed> {
        let mut slot = self.state.slot.lock();
        loop {
            if let Some(result) = slot.result.take() {
                return result;
            }
            self.state.done.wait(&mut slot);
        }
    }
}

impl Future for Commit {
    type Output = Result<Committed>;

    /// # Panics
    ///
    /// When polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.state.slot.lock();
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit").field("done", &self.state.slot.lock().result.is_some()).finish()
    }
}

impl Job {
    pub(super) fn new(store: Store, parts: Parts) -> Self {
        Self { store, parts, state: Arc::default() }
    }

    fn run(self) {
        let Self { store, parts, state } = self;
        let answer = Answer(state);
        let result = store.core().commit(parts);
        // Before the answer: who has it may close the store and open it again.
        drop(store);
        answer.give(result);
    }
}

impl Committers {
    pub(super) fn submit(&self, job: Job) -> Commit {
        let commit = Commit { state: Arc::clone(&job.state) };
        let mut sender = self.sender.lock();
        let sender = sender.get_or_insert_with(start);
        if let Err(unsent) = sender.send(job) {
            // No thread could be started: the caller's own does it.
            unsent.into_inner().run();
        }
        commit
    }
}

impl std::fmt::Debug for Committers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committers").field("started", &self.sender.lock().is_some()).finish()
    }
}

fn start() -> Sender<Job> {
    let (sender, receiver) = unbounded::<Job>();
    for number in 0..THREADS {
        let receiver: Receiver<Job> = receiver.clone();
        // One thread that cannot be started leaves the others; with none the channel is closed.
        let _ = std::thread::Builder::new()
            .name(format!("orlop-commit-{number}"))
            .spawn(move || serve(&receiver, Job::run));
    }
    sender
}

/// Does one after the other. One that panics has answered, and those that wait behind it have nobody else.
fn serve<T>(receiver: &Receiver<T>, run: impl Fn(T)) {
    for job in receiver {
        // What a commit leaves half done is under no lock: those are released, and rows are written as one.
        let _ = catch_unwind(AssertUnwindSafe(|| run(job)));
    }
}

/// Answers a commit whatever happens to its thread, so that nobody waits for ever.
struct Answer(Arc<State>);

impl Answer {
    fn give(&self, result: Result<Committed>) {
        let mut slot = self.0.slot.lock();
        slot.result = Some(result);
        let waker = slot.waker.take();
        self.0.done.notify_all();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give(Err(Error::new(ErrorKind::Indeterminate, "the commit's thread panicked")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_and_costs_those_behind_it_nothing() {
        let (sender, receiver) = unbounded();
        let states: Vec<Arc<State>> = (0..3).map(|_| Arc::default()).collect();
        for (n, state) in states.iter().enumerate() {
            assert!(sender.send((n, Arc::clone(state))).is_ok());
        }
        drop(sender);
        serve(&receiver, |(n, state)| {
            let answer = Answer(state);
            assert!(n > 0, "the first one panics");
            answer.give(Ok(Committed::default()));
        });
        let answers = states.into_iter().map(|state| Commit { state }.wait().map_err(|error| error.kind()));
        let kinds: Vec<_> = answers.map(|answer| answer.err()).collect();
        assert_eq!(kinds, [Some(ErrorKind::Indeterminate), None, None]);
    }
}
