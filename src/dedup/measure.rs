//! Measuring a corpus: on all cores, in bounded memory, with the same result whatever the schedule.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::corpus::{Blob, Corpus, Part};
use super::finding::{FindingKind, Findings};
use super::granularity::Granularity;
use super::measurement::{Measured, Measurement, Took};
use super::packer::{self, Packer};
use super::plain::Bounds;
use super::report::Parameters;
use super::stages::Stages;
use super::table::Table;
use super::turn::{Held, Turns};
use super::unit::{Found, Key, Packing, UnitSink};
use super::walk::{Rules, Taker, Walk, Walked};
use crate::{Error, ErrorKind, Result};

/// How often the observer is asked.
const TICK: Duration = Duration::from_millis(100);
/// The most that tables may take: beyond it their positions do not fit 32 bits.
const MAX_MEMORY: u64 = 200 << 30;

/// How far a measurement is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Distinct blobs that are done.
    pub blobs: u64,
    /// Stored bytes that were read.
    pub bytes: u64,
    /// Plain bytes that came out of them.
    pub plain_bytes: u64,
    /// The sizes of all distinct blobs, as their descriptors say.
    pub total_bytes: u64,
}

/// What is measured and how. A measurement is a report in the making: [`Measurement::report`].
#[derive(Clone, Debug)]
#[must_use = "nothing is measured before `run`"]
pub struct Measure {
    settings: Settings,
    threads: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) rules: Rules,
    pub(super) memory: u64,
    pub(super) pack_one_in: u32,
    pub(super) seed: u64,
    pub(super) shuffles: u32,
    pub(super) wasted_files: usize,
    pub(super) matrix_limit: usize,
}

impl Settings {
    pub(super) fn names(&self) -> Vec<String> {
        self.rules.granularities.iter().map(Granularity::name).collect()
    }

    /// The names, and whether units are whole blobs.
    fn kinds(&self) -> Vec<(String, bool)> {
        self.rules.granularities.iter().map(|one| (one.name(), one.is_blob())).collect()
    }

    pub(super) fn parameters(&self) -> Parameters {
        Parameters {
            hash: "blake3, first 128 bits",
            matrix_limit: self.matrix_limit as u64,
            max_plain_bytes: self.rules.bounds.bytes,
            max_ratio: self.rules.bounds.ratio,
            memory: self.memory,
            nested: self.rules.nested,
            pack_one_in: self.pack_one_in,
            packer: packer::NAME,
            seed: self.seed,
            shuffles: self.shuffles,
            wasted_files: self.wasted_files as u64,
        }
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self::new()
    }
}

impl Measure {
    /// Blobs and files, everything exact up to 1 GiB of tables, every unique unit packed, on all cores.
    pub fn new() -> Self {
        let rules = Rules {
            granularities: vec![Granularity::blob(), Granularity::file()],
            bounds: Bounds { bytes: 256 << 30, ratio: 1100 },
            nested: 0,
            packs: true,
            with_paths: false,
        };
        let settings = Settings {
            rules,
            memory: 1 << 30,
            pack_one_in: 1,
            seed: 0,
            shuffles: 20,
            wasted_files: 20,
            matrix_limit: 64,
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { settings, threads }
    }

    /// What is compared, each granularity once, in this order; whole blobs come first in any case.
    pub fn granularities(mut self, granularities: impl IntoIterator<Item = Granularity>) -> Self {
        let list = &mut self.settings.rules.granularities;
        *list = vec![Granularity::blob()];
        for granularity in granularities {
            if !list.iter().any(|one| one.name() == granularity.name()) {
                list.push(granularity);
            }
        }
        self
    }

    /// The names of the granularities, as the report has them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.settings.names()
    }

    /// How many bytes the tables of all granularities may take together before units are sampled; each has an equal part.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory = bytes.min(MAX_MEMORY);
        self
    }

    /// Packs one of so many unique units, chosen by their hashes, and all of more than a mebibyte; 1 packs all and makes the packed size
    /// exact, 0 packs none.
    pub fn pack_one_in(mut self, units: u32) -> Self {
        self.settings.pack_one_in = units;
        self.settings.rules.packs = units > 0;
        self
    }

    /// The most plain bytes of one blob, 256 GiB by default; what unfolds further is measured up to there.
    pub fn max_plain_bytes(mut self, bytes: u64) -> Self {
        self.settings.rules.bounds.bytes = bytes;
        self
    }

    /// The most plain bytes for each stored byte, 1100 by default, which no gzip exceeds; looked at above 64 MiB of plain bytes.
    pub fn max_ratio(mut self, ratio: u64) -> Self {
        self.settings.rules.bounds.ratio = ratio;
        self
    }

    /// Opens uncompressed tar archives among the files, and those in them, so deep; 0 by default.
    pub fn nested(mut self, depth: u32) -> Self {
        self.settings.rules.nested = depth.min(16);
        self
    }

    /// Over how many shuffled orders of the images a growth curve is taken, 20 by default, and the seed of the first.
    pub fn shuffles(mut self, orders: u32, seed: u64) -> Self {
        self.settings.shuffles = orders;
        self.settings.seed = seed;
        self
    }

    /// How many of the files whose copies take the most are listed, 20 by default.
    pub fn wasted_files(mut self, files: usize) -> Self {
        self.settings.wasted_files = files;
        self
    }

    /// Up to how many images there is a matrix of them, 64 by default.
    pub fn matrix_limit(mut self, images: usize) -> Self {
        self.settings.matrix_limit = images;
        self
    }

    /// How many threads work; all cores by default. Decides no figure.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Measures. The observer is told about ten times a second how far it is, and says whether to go on.
    ///
    /// # Errors
    ///
    /// `Interrupted` when the observer breaks; `Invalid` for a chunker that does not keep its promise. Content that cannot be read, or not
    /// be understood, is no error: it is reported, and makes the measurement [incomplete](Measurement::is_incomplete).
    pub fn run(
        &self,
        corpus: &Corpus,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Measurement> {
        self.measure(corpus, None, observer)
    }

    /// Measures, and gives every unit of every distinct blob to a sink, in the same order in every run.
    ///
    /// # Errors
    ///
    /// As [`Measure::run`]; `Io` or `NoSpace` with what the sink returned as its source.
    pub fn units(
        &self,
        corpus: &Corpus,
        sink: &mut dyn UnitSink,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Measurement> {
        self.measure(corpus, Some(sink), observer)
    }

    fn measure(
        &self,
        corpus: &Corpus,
        sink: Option<&mut dyn UnitSink>,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Measurement> {
        let start = Instant::now();
        let mut settings = self.settings.clone();
        settings.rules.with_paths = sink.is_some();
        // Large blobs first, so that the last to end are small; units come out in the order of blobs.
        let mut order: Vec<usize> = (0..corpus.blobs.len()).collect();
        if sink.is_none() {
            order.sort_by_key(|at| {
                std::cmp::Reverse(corpus.blobs.get(*at).map_or(0, |blob| blob.descriptor.size))
            });
        }
        let shares = settings.rules.granularities.len() as u64;
        let tables = settings.rules.granularities.iter().map(|granularity| {
            let limit = if granularity.is_blob() { u64::MAX } else { settings.memory / shares };
            Mutex::new(Table::new(limit, granularity.is_file()))
        });
        let shared = Shared {
            corpus,
            tables: tables.collect(),
            order,
            next: AtomicUsize::new(0),
            done: Done::default(),
            stopped: AtomicBool::new(false),
            outcome: Mutex::new(Outcome {
                blobs: corpus.blobs.iter().map(|_| None).collect(),
                ..Outcome::default()
            }),
            turns: sink.map(|sink| Turns::new(sink, corpus, settings.kinds())),
            settings: &settings,
        };
        let threads = self.threads.min(corpus.blobs.len()).max(1);
        std::thread::scope(|scope| {
            let (finished, all_finished) = crossbeam::channel::bounded::<()>(0);
            for _ in 0..threads {
                let (shared, finished) = (&shared, finished.clone());
                scope.spawn(move || {
                    // A chunker of somebody else may panic: nobody must wait for the turn of its blob.
                    let _stopping = StopOnPanic(shared);
                    if let Err(error) = work(shared) {
                        shared.outcome.lock().error.get_or_insert(error);
                        shared.stop();
                    }
                    drop(finished);
                });
            }
            drop(finished);
            // Ends when the last thread drops its side.
            while let Err(crossbeam::channel::RecvTimeoutError::Timeout) = all_finished.recv_timeout(TICK) {
                if observer(&shared.done.progress(corpus)).is_break() {
                    shared.stop();
                }
            }
        });
        let stopped = shared.stopped.load(Ordering::Relaxed);
        let Shared { tables, outcome, .. } = shared;
        let Outcome { blobs, stages, error } = outcome.into_inner();
        if let Some(error) = error {
            return Err(error);
        }
        if stopped {
            return Err(interrupted());
        }
        let mut tables: Vec<Table> = tables.into_iter().map(Mutex::into_inner).collect();
        for table in &mut tables {
            table.finish(corpus.blobs.len());
        }
        settings.rules.with_paths = false;
        let blobs: Vec<Measured> = blobs.into_iter().flatten().collect();
        let took = Took { time: start.elapsed(), stages, threads };
        Ok(Measurement {
            settings,
            images: corpus.images.clone(),
            blobs,
            findings: corpus.findings.clone(),
            tables,
            took: Some(took),
        })
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "the measurement was stopped")
}

#[derive(Default)]
struct Done {
    blobs: AtomicU64,
    stored: AtomicU64,
    plain: AtomicU64,
}

impl Done {
    fn progress(&self, corpus: &Corpus) -> Progress {
        let total = corpus.blobs.iter().map(|blob| blob.descriptor.size);
        Progress {
            blobs: self.blobs.load(Ordering::Relaxed),
            bytes: self.stored.load(Ordering::Relaxed),
            plain_bytes: self.plain.load(Ordering::Relaxed),
            total_bytes: total.fold(0, u64::saturating_add),
        }
    }
}

#[derive(Default)]
struct Outcome {
    blobs: Vec<Option<Measured>>,
    stages: Stages,
    error: Option<Error>,
}

/// What the threads have in common.
struct Shared<'a> {
    corpus: &'a Corpus,
    settings: &'a Settings,
    tables: Vec<Mutex<Table>>,
    /// Blobs in the order in which they are begun.
    order: Vec<usize>,
    next: AtomicUsize,
    done: Done,
    stopped: AtomicBool,
    outcome: Mutex<Outcome>,
    turns: Option<Turns<'a>>,
}

impl Shared<'_> {
    fn stop(&self) {
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

/// One thread: blobs as long as there are some.
fn work(shared: &Shared<'_>) -> Result<()> {
    let mut walk = Walk::new(&shared.settings.rules);
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
        match place.open(&blob.descriptor) {
            Ok(Some(reader)) => return walk.go(reader, opens, hash, findings, worker).map(Some),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    if let Some(inlined) = blob.descriptor.inlined() {
        let reader = Box::new(std::io::Cursor::new(inlined));
        return walk.go(reader, opens, hash, findings, worker).map(Some);
    }
    match failed {
        Some(error) => findings.incomplete(FindingKind::Unreadable, format!("cannot be opened: {error}")),
        None => findings.incomplete(FindingKind::Missing, "there is no such content".into()),
    }
    Ok(None)
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
        let mut sizes: Vec<(Key, u64)> = Vec::new();
        let mut bytes = 0;
        for (found, _) in found.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            if let Packing::Window(range) = &found.packing {
                sizes.push((found.key(), self.packer.size(window.get(range.clone()).unwrap_or_default())?));
                bytes += found.length;
            }
        }
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
