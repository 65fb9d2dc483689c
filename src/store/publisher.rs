//! The thread that files the journal and publishes behind the commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Core;
use super::options::Publish;
use crate::error::ErrorKind;

/// Publishing may take one part in so many of the time.
const SHARE: u32 = 20;
/// The journal is looked at this often, whatever the publish mode.
const TICK: Duration = Duration::from_millis(20);
/// After a failure, the next try waits this long.
const PAUSE: Duration = Duration::from_secs(5);

/// What commits tell the publisher. Commits set flags and wake nobody; the publisher looks at them from time to time.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something was committed that a plain reader of the layout does not see yet.
    dirty: AtomicBool,
    /// `index.json` is not what the store holds.
    view: AtomicBool,
    pressing: AtomicBool,
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Signals {
    pub(super) fn committed(&self, view_changed: bool, pressing: bool) {
        if view_changed {
            self.view.store(true, Ordering::Release);
        }
        self.dirty.store(true, Ordering::Release);
        if pressing {
            self.press();
        }
    }

    /// The journal is filling up.
    pub(super) fn press(&self) {
        if !self.pressing.swap(true, Ordering::AcqRel) {
            self.wake.notify_all();
        }
    }

    /// Whether `index.json` has to be written; the caller writes it from a snapshot taken after this.
    pub(super) fn take_view(&self) -> bool {
        self.dirty.store(false, Ordering::Release);
        self.view.swap(false, Ordering::AcqRel)
    }

    pub(super) fn view_changed(&self) {
        self.view.store(true, Ordering::Release);
        self.dirty.store(true, Ordering::Release);
    }

    /// Sleeps, unless the store closes: then true.
    fn pause(&self, duration: Duration) -> bool {
        let mut stop = self.stop.lock();
        if !*stop {
            self.wake.wait_for(&mut stop, duration);
        }
        *stop
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
    let mut due = Instant::now();
    loop {
        if signals.pause(TICK) {
            return;
        }
        if signals.pressing.swap(false, Ordering::AcqRel) && !attempt(core, Core::file_journal) {
            continue;
        }
        let Publish::Interval(interval) = core.options.publish else { continue };
        if !signals.dirty.load(Ordering::Acquire) || Instant::now() < due {
            continue;
        }
        // The first change after a quiet time waits one interval, so that what comes with it is published with it.
        if signals.pause(interval) {
            return;
        }
        let start = Instant::now();
        if attempt(core, Core::publish) {
            let took = start.elapsed();
            due = Instant::now() + interval.max(took * (SHARE - 1)).saturating_sub(interval);
        }
    }
}

/// False when it failed, after a pause. A failure loses nothing: the journal has what has no file yet, and the next
/// flush, close or open meets the same failure and tells it.
fn attempt(core: &Core, action: impl Fn(&Core) -> crate::error::Result<()>) -> bool {
    match action(core) {
        Ok(()) => true,
        Err(error) => {
            core.signals.view_changed();
            if error.kind() != ErrorKind::Poisoned {
                core.signals.pause(PAUSE);
            }
            core.signals.pause(PAUSE);
            false
        }
    }
}
