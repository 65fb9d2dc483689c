//! The thread that files the journal and publishes behind the commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Core;
use super::observe;
use super::options::Publish;
use crate::error::Result;

/// Publishing may take one part in so many of the time.
const SHARE: u32 = 20;
/// After a failure, the next try waits this long.
const PAUSE: Duration = Duration::from_secs(5);

/// What commits tell the publisher. They set flags; only the first change after a publish wakes it.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something was committed that a plain reader of the layout does not see yet.
    dirty: AtomicBool,
    /// `index.json` is not what the store holds.
    view: AtomicBool,
    /// The journal is filling up.
    pressing: AtomicBool,
    stop: Mutex<bool>,
    wake: Condvar,
}

/// Why the publisher woke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wake {
    Stop,
    Press,
    Dirty,
    Time,
}

impl Signals {
    /// `index.json` is not what the store holds. Nobody is woken for it yet.
    pub(super) fn mark_view(&self) {
        self.view.store(true, Ordering::Release);
    }

    pub(super) fn committed(&self, view_changed: bool, pressing: bool) {
        if view_changed {
            self.mark_view();
        }
        self.raise(&self.dirty);
        if pressing {
            self.press();
        }
    }

    /// The journal is filling up.
    pub(super) fn press(&self) {
        self.raise(&self.pressing);
    }

    /// Whether the journal is filling up, asked once: who asks files it.
    pub(super) fn take_press(&self) -> bool {
        self.pressing.swap(false, Ordering::AcqRel)
    }

    /// Whether `index.json` has to be written; the caller writes it from a snapshot taken after this.
    pub(super) fn take_view(&self) -> bool {
        self.dirty.store(false, Ordering::Release);
        self.view.swap(false, Ordering::AcqRel)
    }

    /// Whether `index.json` is not what the store holds, as far as whoever changed that has said so.
    pub(super) fn is_view_changed(&self) -> bool {
        self.view.load(Ordering::Acquire)
    }

    pub(super) fn view_changed(&self) {
        self.view.store(true, Ordering::Release);
        self.raise(&self.dirty);
    }

    fn raise(&self, flag: &AtomicBool) {
        if !flag.swap(true, Ordering::AcqRel) {
            // With the lock held, so that the publisher is either before its look at the flag or asleep.
            let _stop = self.stop.lock();
            self.wake.notify_all();
        }
    }

    /// Sleeps until something is to be done, at most until `end`. Changes alone wake only with `dirty`.
    fn sleep(&self, dirty: bool, end: Option<Instant>) -> Wake {
        let mut stop = self.stop.lock();
        loop {
            if *stop {
                return Wake::Stop;
            }
            if self.take_press() {
                return Wake::Press;
            }
            if dirty && self.dirty.load(Ordering::Acquire) {
                return Wake::Dirty;
            }
            match end {
                Some(end) if Instant::now() >= end => return Wake::Time,
                Some(end) => {
                    self.wake.wait_until(&mut stop, end);
                }
                None => self.wake.wait(&mut stop),
            }
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Publisher {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// A store that is open for reading needs none.
    pub(super) fn none(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), thread: None }
    }

    pub(super) fn start(core: &Arc<Core>) -> Self {
        let shared = Arc::clone(core);
        let thread = std::thread::Builder::new().name("orlop-publish".into()).spawn(move || run(&shared));
        // Without a thread commits write files themselves once the journal is full, and flush publishes.
        Self { core: Arc::clone(core), thread: thread.ok() }
    }

    pub(super) fn stop(mut self) {
        *self.core.signals.stop.lock() = true;
        self.core.signals.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(core: &Core) {
    let signals = &core.signals;
    let Publish::Interval(interval) = core.options.publish else {
        // Nothing is published before the close, but a full journal still has to go somewhere.
        while signals.sleep(false, None) != Wake::Stop {
            attempt(core, Core::file_journal);
        }
        return;
    };
    let mut earliest = Instant::now();
    loop {
        match signals.sleep(true, None) {
            Wake::Stop => return,
            Wake::Press => {
                attempt(core, Core::file_journal);
                continue;
            }
            Wake::Dirty | Wake::Time => {}
        }
        // The first change after a quiet time waits one interval, so that what comes with it is published with it.
        let end = earliest.max(Instant::now() + interval);
        loop {
            match signals.sleep(false, Some(end)) {
                Wake::Stop => return,
                Wake::Press => attempt(core, Core::file_journal),
                Wake::Dirty | Wake::Time => break,
            }
        }
        let start = Instant::now();
        attempt(core, Core::publish);
        earliest = Instant::now() + start.elapsed() * (SHARE - 1);
    }
}

/// A failure loses nothing: the journal has what has no file yet, and the next flush, close or open meets the same failure
/// and tells it. The next try waits.
fn attempt(core: &Core, action: impl Fn(&Core) -> Result<()>) {
    if let Err(error) = action(core) {
        observe::postponed(&error);
        let end = Instant::now() + PAUSE;
        // A request to stop stays; one to file comes again with the next commit.
        while matches!(core.signals.sleep(false, Some(end)), Wake::Press) {}
        core.signals.view_changed();
    }
}
