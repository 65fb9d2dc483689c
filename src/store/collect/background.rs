//! The thread that collects by itself, if a store is told to.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::run::Run;
use super::{Budget, WAITING};
use crate::error::{Error, Result};
use crate::store::Core;

/// Whether a store collects garbage by itself.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Collect {
    /// Only when [`Store::collector`](crate::Store::collector) is asked to.
    #[default]
    OnRequest,
    /// A thread looks every so often, with the grace of the store's options, in small steps.
    Background {
        /// The time between two collections.
        every: Duration,
    },
}

/// Between two looks there is at least this long.
const SHORTEST: Duration = Duration::from_millis(10);
/// One step, and the share of the time that steps may take.
const STEP: Budget = Budget { items: 512, time: Duration::from_millis(50), waiting: WAITING };
const SHARE: u32 = 5;

impl Collect {
    /// Refuses values that no store can work with, naming them.
    pub(in crate::store) fn check(self) -> Result<()> {
        match self {
            Self::Background { every } if every < SHORTEST => Err(Error::invalid(format!(
                "collections are too close together, every={every:?}, minimum={SHORTEST:?}"
            ))),
            Self::OnRequest | Self::Background { .. } => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Stop {
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// Sleeps; true when it is time to end.
    fn sleep(&self, time: Duration) -> bool {
        let mut stop = self.stop.lock();
        if !*stop {
            self.wake.wait_for(&mut stop, time);
        }
        *stop
    }
}

/// The running thread.
#[derive(Debug)]
pub(in crate::store) struct Background {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

impl Background {
    /// None where the store was not told to collect, or cannot.
    pub(in crate::store) fn start(core: &Arc<Core>) -> Option<Self> {
        let Collect::Background { every } = core.options.collect else { return None };
        if core.read_only || core.ephemeral.is_some() {
            return None;
        }
        let stop = Arc::new(Stop::default());
        let (core, shared) = (Arc::clone(core), Arc::clone(&stop));
        let name = std::thread::Builder::new().name("orlop-collect".into());
        // Without a thread garbage stays until somebody asks.
        let thread = name.spawn(move || work(&core, &shared, every)).ok()?;
        Some(Self { stop, thread })
    }

    pub(in crate::store) fn stop(self) {
        *self.stop.stop.lock() = true;
        self.stop.wake.notify_all();
        let _ = self.thread.join();
    }
}

/// A failure loses nothing: the queue has what is left, and the next collection meets it again.
fn work(core: &Core, stop: &Stop, every: Duration) {
    while !stop.sleep(every) {
        let mut run = None;
        loop {
            let start = core.clock.elapsed();
            let Ok(false) = step(core, &mut run) else { break };
            let spent = core.clock.elapsed().saturating_sub(start);
            if stop.sleep(spent.saturating_mul(SHARE)) {
                return;
            }
        }
    }
}

/// Answers whether it is done.
fn step(core: &Core, run: &mut Option<Run>) -> Result<bool> {
    let grace = core.options.grace;
    core.check_writable()?;
    let _collecting = core.collecting.lock();
    if core.must_wait(grace).is_some() {
        return Ok(true);
    }
    let mut now = match run.take() {
        Some(run) => run,
        None => Run::begin(core, grace, false)?,
    };
    let report = now.step(core, STEP, None)?;
    *run = Some(now);
    Ok(report.complete)
}
