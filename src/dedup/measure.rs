//! Measuring a corpus: on all cores, in bounded memory, with the same result whatever the schedule.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::corpus::{Blob, Corpus};
use super::granularity::Granularity;
use super::measurement::{Measured, Measurement, Took};
use super::packer;
use super::plain::Bounds;
use super::report::Parameters;
use super::table::Table;
use super::turn::Turns;
use super::unit::UnitSink;
use super::walk::Rules;
use super::worker::{self, Outcome, Shared};
use crate::Result;

/// How often the observer is asked.
const TICK: Duration = Duration::from_millis(100);
/// The most that tables may take: beyond it their positions do not fit 32 bits.
const MAX_MEMORY: u64 = 200 << 30;
const MAX_THREADS: usize = 1024;

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

    /// How many threads work, at most 1,024; all cores by default. Decides no figure. Where there are more than blobs, several work on one,
    /// unless units are written.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, MAX_THREADS);
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
        let (order, workers) = order(corpus, self.threads, sink.is_some());
        let shares = settings.rules.granularities.len() as u64;
        let tables = settings.rules.granularities.iter().map(|granularity| {
            let limit = if granularity.is_blob() { u64::MAX } else { settings.memory / shares };
            Table::new(limit, granularity.is_file())
        });
        let threads = self.threads;
        let shared = Shared::new(
            corpus,
            &settings,
            tables.collect(),
            order,
            sink.map(|sink| Turns::new(sink, corpus, settings.kinds())),
        );
        // Units have to come in one order, which a blob's own thread keeps.
        if shared.turns.is_none() {
            shared.spare.give(threads.saturating_sub(workers));
        }
        std::thread::scope(|scope| {
            let (finished, all_finished) = crossbeam::channel::bounded::<()>(0);
            for _ in 0..workers {
                let (shared, finished) = (&shared, finished.clone());
                scope.spawn(move || {
                    worker::run(shared);
                    drop(finished);
                });
            }
            drop(finished);
            // Ends when the last thread drops its side.
            while let Err(crossbeam::channel::RecvTimeoutError::Timeout) = all_finished.recv_timeout(TICK) {
                if observer(&shared.progress()).is_break() {
                    shared.stop();
                }
            }
        });
        let (mut tables, outcome) = shared.finish()?;
        let Outcome { blobs, stages, .. } = outcome;
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

/// In which order blobs are begun, and by how many threads.
fn order(corpus: &Corpus, threads: usize, in_turn: bool) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..corpus.blobs.len()).collect();
    let workers = threads.min(order.len()).max(1);
    // Units come out in the order of blobs.
    if in_turn {
        return (order, workers);
    }
    // Large blobs first, so that the last to end are small, but as they stand where a place has an order.
    let position = |blob: &Blob| blob.places.first().and_then(|place| place.position(&blob.descriptor));
    order.sort_by_cached_key(|at| {
        corpus.blobs.get(*at).map(|blob| (position(blob), std::cmp::Reverse(blob.descriptor.size)))
    });
    let is_ordered = corpus.blobs.iter().any(|blob| position(blob).is_some());
    (order, if is_ordered { 1 } else { workers })
}
