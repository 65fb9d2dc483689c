//! What happens beside the requests: signals, and changes that other programs make to the layouts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use orlop::ErrorKind;

use super::guard::Guard;
use super::log::Log;
use super::open::{Opened, Opening};
use super::tls::Certificate;
use crate::error::Failure;
use crate::interrupt;
use crate::output::{self, Output};

/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How many looks there are from one look at the layouts to the next: half a second.
const LOOKS: u32 = 10;
/// The same after a change that could not be taken over: ten seconds.
const LATER: u32 = 200;

/// What SIGHUP reads anew.
pub(super) struct Reloaded {
    pub(super) came: Arc<AtomicBool>,
    pub(super) guard: Guard,
    pub(super) certificate: Option<Certificate>,
    pub(super) log: Log,
    pub(super) output: Output,
}

impl Reloaded {
    fn look(&self) {
        if !self.came.swap(false, Ordering::AcqRel) {
            return;
        }
        self.log.reopen();
        let outcomes =
            [self.guard.reload(&self.output), self.certificate.as_ref().map_or(Ok(()), Certificate::reload)];
        let failures: Vec<Failure> = outcomes.into_iter().filter_map(Result::err).collect();
        for failure in &failures {
            output::failure(failure);
            self.output.note("what was in force stays");
        }
        if failures.is_empty() {
            self.output.note("read again: passwords, rights, certificate");
        }
    }
}

/// A layout that other programs may change.
pub(super) struct Followed {
    opened: Opened,
    opening: Arc<Opening>,
    index: PathBuf,
    seen: Option<Print>,
    noted: usize,
}

/// Differs when a file was changed.
type Print = (u64, u64, Option<SystemTime>);

impl Followed {
    pub(super) fn new(opened: Opened, opening: Arc<Opening>) -> Self {
        let index = opened.target.path().join("index.json");
        let noted = opened.layout.store().reports().len();
        Self { seen: print(&index), index, noted, opened, opening }
    }

    /// Takes over what changed. Nothing of it costs anything as long as `index.json` is the same file.
    fn look(&mut self, output: &Output) -> Result<(), Failure> {
        let found = print(&self.index);
        if found == self.seen || found.is_none() {
            return Ok(());
        }
        let store = self.opened.layout.store();
        if store.is_read_only() {
            // The view that was served is of one moment.
            self.opened.layout.replace(self.opening.view(&self.opened.target)?);
            self.noted = 0;
        } else {
            match store.flush() {
                // It is told where writes are refused.
                Err(error) if matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Indeterminate) => {}
                flushed => flushed?,
            }
        }
        let reports = self.opened.layout.store().reports();
        crate::session::note(reports.get(self.noted..).unwrap_or_default().iter(), output);
        self.noted = reports.len();
        // What was published here is no change of others.
        self.seen = if store.is_read_only() { found } else { print(&self.index) };
        Ok(())
    }
}

fn print(path: &std::path::Path) -> Option<Print> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.modified().ok()))
}

/// Goes on until a signal asks to stop.
pub(super) async fn follow(reloaded: Reloaded, mut layouts: Vec<Followed>) {
    let mut looks = LOOKS;
    while !interrupt::is_caught() {
        tokio::time::sleep(LOOK).await;
        if reloaded.came.load(Ordering::Acquire) {
            reloaded.look();
        }
        looks -= 1;
        if looks > 0 {
            continue;
        }
        let output = reloaded.output;
        let looked = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<_> = layouts.iter_mut().map(|layout| layout.look(&output)).collect();
            (layouts, outcomes)
        });
        let looked = super::shutdown::either(async { Some(looked.await) }, async {
            while !interrupt::is_caught() {
                tokio::time::sleep(LOOK).await;
            }
            None
        });
        let Some(Ok((back, outcomes))) = looked.await else { return };
        layouts = back;
        looks = if outcomes.iter().all(Result::is_ok) { LOOKS } else { LATER };
        for failure in outcomes.into_iter().filter_map(Result::err) {
            output::failure(&failure);
        }
    }
}
