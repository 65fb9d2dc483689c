//! Ctrl-C and its like: the first one ends the work at the next piece, the second one the process.
//!
//! Only verbs that would leave something half done ask for this; any other simply dies of the signal. A signal that was
//! ignored when the program started, as under nohup, stays ignored.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Exit, Failure};

static SIGNALS: [(i32, Exit, &str); 3] = [
    (SIGINT, Exit::Interrupted, "SIGINT"),
    (SIGTERM, Exit::Terminated, "SIGTERM"),
    (SIGHUP, Exit::HungUp, "SIGHUP"),
];

/// The signal that came first; zero as long as none has come.
static CAUGHT: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on a first signal is only taken down, for [`is_caught`] to tell.
pub(crate) fn defer() {
    take_down(&SIGNALS);
}

/// The same for what ends a server: SIGHUP means something else to it. For its first call.
pub(crate) fn defer_but_hangup() {
    let (stops, _) = SIGNALS.split_at(2);
    take_down(stops);
}

/// Tells by a flag that SIGHUP has come; one that is ignored stays ignored.
pub(crate) fn on_hangup() -> Arc<AtomicBool> {
    let came = Arc::new(AtomicBool::new(false));
    if ignored() >> (SIGHUP - 1) & 1 == 0 {
        // Where a handler cannot be had, the signal ends the process as it always did.
        let _ = flag::register(SIGHUP, Arc::clone(&came));
    }
    came
}

fn take_down(signals: &'static [(i32, Exit, &'static str)]) {
    CAUGHT.get_or_init(|| {
        let caught = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let ignored = ignored();
        for &(signal, exit, _) in signals {
            if ignored >> (signal - 1) & 1 == 1 {
                continue;
            }
            // In this order: the first signal arms what the second one runs into. Where a handler cannot be had, the
            // signal ends the process as it always did.
            let _ = flag::register_conditional_shutdown(signal, i32::from(exit as u8), Arc::clone(&again))
                .and_then(|_| {
                    flag::register_usize(signal, Arc::clone(&caught), usize::try_from(signal).unwrap_or(1))
                })
                .and_then(|_| flag::register(signal, Arc::clone(&again)));
        }
        caught
    });
}

/// Whether a signal asks to stop.
pub(crate) fn is_caught() -> bool {
    CAUGHT.get().is_some_and(|caught| caught.load(Ordering::Relaxed) != 0)
}

/// Stops here if a signal has come; `done` says what became of the work, to be read behind a semicolon.
pub(crate) fn check(done: &str) -> Result<(), Failure> {
    if is_caught() { Err(failure(done)) } else { Ok(()) }
}

/// The end of a command that a signal stopped.
pub(crate) fn failure(done: &str) -> Failure {
    let number = CAUGHT.get().map_or(0, |caught| caught.load(Ordering::Relaxed));
    let known = SIGNALS.iter().find(|(signal, ..)| usize::try_from(*signal) == Ok(number));
    let (exit, name) = known.map_or((Exit::Interrupted, "none"), |(_, exit, name)| (*exit, *name));
    Failure::new(exit, format!("interrupted; {done}, signal={name}"))
}

/// The signals that are ignored, as a mask.
#[expect(clippy::disallowed_methods, reason = "what the system says of this process, no part of a store")]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
