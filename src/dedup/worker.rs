//! One thread of a measurement: blobs, one after the other, and what all threads have in common.

use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::corpus::{Blob, Corpus, Part};
use super::finding::{FindingKind, Findings};
use super::measure::{Progress, Settings};
use super::measurement::Measured;
use super::packer::Packer;
use super::spare::{Spare, spread};
use super::stages::Stages;
use super::table::Table;
use super::turn::{Held, Turns};
use super::unit::{Found, Key, Packing};
use super::walk::{Taker, Walk, Walked};
use crate::{Error, ErrorKind, Result};

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "the measurement was stopped")
}

#[derive(Default)]
struct Done {
    blobs: AtomicU64,
    stored: AtomicU64,
    plain: AtomicU64,
}

/// What came out, beside the tables.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) blobs: Vec<Option<Measured>>,
    pub(super) stages: Stages,
    error: Option<Error>,
}

/// What the threads have in common.
pub(super) struct Shared<'a> {
    corpus: &'a Corpus,
    settings: &'a Settings,
    tables: Vec<Mutex<Table>>,
    /// Blobs in the order in which they are begun.
    order: Vec<usize>,
    next: AtomicUsize,
    pub(super) spare: Spare,
    done: Done,
    stopped: AtomicBool,
    outcome: Mutex<Outcome>,
    pub(super) turns: Option<Turns<'a>>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        corpus: &'a Corpus,
        settings: &'a Settings,
        tables: Vec<Table>,
        order: Vec<usize>,
        turns: Option<Turns<'a>>,
    ) -> Self {
        let blobs = corpus.blobs.iter().map(|_| None).collect();
        Self {
            corpus,
            settings,
            tables: tables.into_iter().map(Mutex::new).collect(),
            order,
            next: AtomicUsize::new(0),
            spare: Spare::default(),
            done: Done::default(),
            stopped: AtomicBool::new(false),
            outcome: Mutex::new(Outcome { blobs, ..Outcome::default() }),
            turns,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let total = self.corpus.blobs.iter().map(|blob| blob.descriptor.size);
        Progress {
            blobs: self.done.blobs.load(Ordering::Relaxed),
            bytes: self.done.stored.load(Ordering::Relaxed),
            plain_bytes: self.done.plain.load(Ordering::Relaxed),
            total_bytes: total.fold(0, u64::saturating_add),
        }
    }

    /// What was found, once no thread works any longer.
    pub(super) fn finish(self) -> Result<(Vec<Table>, Outcome)> {
        let mut outcome = self.outcome.into_inner();
        if let Some(error) = outcome.error.take() {
            return Err(error);
        }
        if self.stopped.into_inner() {
            return Err(interrupted());
        }
        Ok((self.tables.into_iter().map(Mutex::into_inner).collect(), outcome))
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(turns) = &self.turns {
            turns.stop();
        }
    }
}

/// Stops all threads when its own one panics.
struct StopOnPanic<'a, 's>(&'a Shared<'s>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// One thread: blobs as long as there are some. From then on it is spare.
pub(super) fn run(shared: &Shared<'_>) {
    // A chunker of somebody else may panic: nobody must wait for the turn of its blob.
    let _stopping = StopOnPanic(shared);
    if let Err(error) = work(shared) {
        shared.outcome.lock().error.get_or_insert(error);
        shared.stop();
    }
    if shared.turns.is_none() {
        shared.spare.give(1);
    }
}

fn work(shared: &Shared<'_>) -> Result<()> {
    let mut walk = Walk::new(&shared.settings.rules, &shared.spare);
    let mut packer = Packer::new()?;
    loop {
        let at = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(at) = shared.order.get(at).copied() else { break };
        let Some(blob) = shared.corpus.blobs.get(at) else { break };
        let mut worker =
            Worker { shared, blob: at, packer: &mut packer, held: Vec::new(), plain: 0, stored: 0 };
        let measured = measure_blob(&mut walk, blob, &mut worker)?;
        if let Some(turns) = &shared.turns {
            turns.end(at, &mut worker.held)?;
        }
        shared.done.blobs.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = shared.outcome.lock().blobs.get_mut(at) {
            *place = Some(measured);
        }
    }
    shared.outcome.lock().stages.sum(&walk.stages);
    Ok(())
}

fn measure_blob(walk: &mut Walk<'_>, blob: &Blob, worker: &mut Worker<'_, '_>) -> Result<Measured> {
    let mut findings = Findings::default();
    let digest = blob.descriptor.digest.to_string();
    let walked = walk_blob(walk, blob, &digest, &mut findings, worker)?;
    if let Some(walked) = &walked
        && !findings.is_incomplete()
        && walked.stored != blob.descriptor.size
    {
        let (said, found) = (blob.descriptor.size, walked.stored);
        findings.incomplete(
            FindingKind::SizeDiffers,
            format!("another size than its descriptor says, expected={said}, found={found}"),
        );
    }
    Ok(Measured {
        descriptor: blob.descriptor.clone(),
        part: blob.part,
        walked,
        incomplete: findings.is_incomplete(),
        findings: findings.of(&digest),
    })
}

/// Goes over a blob where it may be had; None if that is nowhere.
fn walk_blob(
    walk: &mut Walk<'_>,
    blob: &Blob,
    digest: &str,
    findings: &mut Findings,
    worker: &mut Worker<'_, '_>,
) -> Result<Option<Walked>> {
    let opens = blob.part == Part::Layer;
    let hash = blake3::hash(digest.as_bytes()).into();
    let mut failed = None;
    for place in &blob.places {
        let opened = place.bytes(&blob.descriptor).and_then(|whole| match whole {
            None => Ok(place.open(&blob.descriptor)?.map(|reader| (reader, None))),
            Some(bytes) => {
                Ok(Some((Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>, Some(bytes))))
            }
        });
        match opened {
            Ok(Some((reader, whole))) => {
                return walk.go(reader, whole, opens, hash, findings, worker).map(Some);
            }
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    if let Some(inlined) = blob.descriptor.inlined() {
        return walk.go(Box::new(Cursor::new(inlined)), None, opens, hash, findings, worker).map(Some);
    }
    match failed {
        Some(error) => findings.incomplete(FindingKind::Unreadable, format!("cannot be opened: {error}")),
        None => findings.incomplete(FindingKind::Missing, "there is no such content".into()),
    }
    Ok(None)
}

/// A unit that is to be packed.
struct Job<'a> {
    key: Key,
    bytes: &'a [u8],
    size: Result<u64>,
}

/// Takes the units of one blob.
struct Worker<'a, 's> {
    shared: &'a Shared<'s>,
    blob: usize,
    packer: &'a mut Packer,
    held: Vec<Held>,
    plain: u64,
    stored: u64,
}

impl Taker for Worker<'_, '_> {
    fn take(
        &mut self,
        granularity: usize,
        found: &mut [Found],
        window: &[u8],
        helpers: usize,
        stages: &mut Stages,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let shared = self.shared;
        if let Some(turns) = &shared.turns {
            turns.take(self.blob, granularity, found, &mut self.held)?;
        }
        let Some(table) = shared.tables.get(granularity) else { return Ok(()) };
        if !shared.settings.rules.packs {
            found.iter_mut().for_each(|found| found.packing = Packing::None);
        }
        let start = Instant::now();
        let wanted = table.lock().add(self.blob, found, shared.settings.pack_one_in);
        stages.table.add(found.iter().map(|found| found.length).sum(), start);
        if !wanted.contains(&true) {
            return Ok(());
        }
        let start = Instant::now();
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for (found, _) in found.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            if let Packing::Window(range) = &found.packing {
                let bytes = window.get(range.clone()).unwrap_or_default();
                jobs.push(Job { key: found.key(), bytes, size: Ok(0) });
            }
        }
        let bytes = jobs.iter().map(|job| job.bytes.len() as u64).sum();
        if helpers == 0 {
            jobs.iter_mut().for_each(|job| job.size = self.packer.size(job.bytes));
        } else {
            spread(&mut jobs, helpers, Packer::new, |packer, job| match packer {
                Ok(packer) => job.size = packer.size(job.bytes),
                Err(_) => job.size = Packer::new().and_then(|mut packer| packer.size(job.bytes)),
            });
        }
        let sizes = jobs.into_iter().map(|job| Ok((job.key, job.size?))).collect::<Result<Vec<_>>>()?;
        table.lock().set_packed(&sizes);
        stages.pack.add(bytes, start);
        Ok(())
    }

    fn go_on(&mut self, plain: u64, stored: u64) -> Result<()> {
        let done = &self.shared.done;
        done.plain.fetch_add(plain.saturating_sub(self.plain), Ordering::Relaxed);
        done.stored.fetch_add(stored.saturating_sub(self.stored), Ordering::Relaxed);
        (self.plain, self.stored) = (plain, stored);
        if self.shared.stopped.load(Ordering::Relaxed) { Err(interrupted()) } else { Ok(()) }
    }
}
