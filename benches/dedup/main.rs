//! The rate of `orlop::dedup` beside the bare work that it cannot do without, over the same bytes in memory, in the same run.
//!
//! ```text
//! cargo bench --features dedup --bench dedup [-- [--quick] [--rounds N] [--only CASE]]
//! ```
//!
//! One JSON line for each case on stdout, and a table on stderr at the end; `docs/benchmarks.md` says what the cases are. A report and never a test.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports on its output")]
#![expect(clippy::disallowed_methods, reason = "memory and time are what the system says of this process")]

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orlop::Digest;
use orlop::dedup::{Chunker, Contents, Corpus, FastCdc, Granularity, Measure, MinCdc};
use orlop::oci::{Descriptor, media_type};
use serde::Serialize;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;
/// What a measurement may take beside its tables, for each thread: windows, what is read ahead, units that are under way.
const RSS_A_THREAD: usize = 32 * MIB;

struct Memory {
    bytes: Bytes,
    /// Whether it is measured where it is, and not read from there.
    lends: bool,
}

impl Contents for Memory {
    fn open(&self, _: &Descriptor) -> io::Result<Option<Box<dyn Read + Send + '_>>> {
        Ok(Some(Box::new(Cursor::new(&self.bytes))))
    }

    fn bytes(&self, _: &Descriptor) -> io::Result<Option<Bytes>> {
        Ok(self.lends.then(|| self.bytes.clone()))
    }
}

#[derive(Serialize)]
struct Line {
    case: &'static str,
    threads: usize,
    layers: usize,
    plain_bytes: u64,
    /// GB/s of plain bytes: the fastest round, the middle one, and all rounds by the time of the processor.
    ours: f64,
    ours_median: f64,
    ours_a_core: f64,
    /// The same of the least work that gives the same, and what it is.
    bare: f64,
    bare_median: f64,
    bare_a_core: f64,
    bare_is: &'static str,
    /// The parts of it alone, in GB/s of the fastest round.
    parts: Vec<(&'static str, f64)>,
    /// The middle of the ratios of each round.
    ratio: f64,
    goal: f64,
    goal_of: &'static str,
    met: bool,
    /// Anonymous memory beyond the content, at most, as seen ten times a second; and what it may be.
    rss_anon_kb: u64,
    rss_anon_bound_kb: usize,
}

struct Args {
    quick: bool,
    rounds: usize,
    only: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let mut args = Args { quick: false, rounds: 5, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("option needs a value, option={word}"));
        match word.as_str() {
            "--quick" => args.quick = true,
            "--rounds" => args.rounds = value()?.parse::<usize>()?.max(1),
            "--only" => args.only = Some(value()?),
            "--bench" => {} // cargo's own
            other => return Err(format!("unknown option, option={other}").into()),
        }
    }
    let cores = std::thread::available_parallelism()?.get();
    let plain = Bytes::from(tar(if args.quick { 32 * MIB } else { 512 * MIB })?);
    let part = plain.len().div_ceil(4);
    let gzips: Vec<Bytes> = plain.chunks(part).map(gzip).collect::<Outcome<_>>()?;
    let mut lines = Vec::new();
    for case in cases(&plain, &gzips, cores)? {
        if args.only.as_deref().is_none_or(|only| only == case.name) {
            let line = case.run(args.rounds)?;
            println!("{}", serde_json::to_string(&line)?);
            lines.push(line);
        }
    }
    eprintln!(
        "{:<16} {:>7} {:>6} {:>7} {:>7} {:>7} {:>7} {:>6} {:>9} {:>8}",
        "case", "threads", "layers", "GB/s", "a core", "bare", "a core", "ratio", "goal", "RSS MiB"
    );
    for line in &lines {
        let goal = format!("{} {}", line.goal, if line.met { "met" } else { "no" });
        eprintln!(
            "{:<16} {:>7} {:>6} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>9} {:>8.1}",
            line.case,
            line.threads,
            line.layers,
            line.ours,
            line.ours_a_core,
            line.bare,
            line.bare_a_core,
            line.ratio,
            goal,
            line.rss_anon_kb as f64 / 1024.0
        );
    }
    Ok(())
}

/// Work that is done alone.
struct Bare<'a> {
    name: &'static str,
    work: Box<dyn Fn() -> Outcome<()> + 'a>,
}

#[derive(Clone, Copy)]
enum Goal {
    /// GB/s of a core.
    Rate(f64),
    /// Ours over bare.
    Ratio(f64),
}

struct Case<'a> {
    name: &'static str,
    threads: usize,
    layers: &'a [Bytes],
    /// Whether layers are measured where they are, or read from there.
    lends: bool,
    granularity: Granularity,
    goal: Goal,
    /// What the tables may take.
    tables: usize,
    bare: Bare<'a>,
    parts: Vec<Bare<'a>>,
}

fn bare<'a>(name: &'static str, work: impl Fn() -> Outcome<()> + 'a) -> Bare<'a> {
    Bare { name, work: Box::new(work) }
}

fn cases<'a>(plain: &'a Bytes, gzips: &'a [Bytes], cores: usize) -> Outcome<Vec<Case<'a>>> {
    let one = std::slice::from_ref(plain);
    let fast = FastCdc::of(16 << 10)?;
    let least = MinCdc::of(16 << 10)?;
    let tables = 64 * MIB;
    let mut cases = Vec::new();
    let mut chunks = |name, threads, chunker: Chunks, goal| {
        let (granularity, cuts): (_, &'static dyn Chunker) = match chunker {
            Chunks::Fast => (Granularity::chunks(fast), Box::leak(Box::new(fast))),
            Chunks::Least => (Granularity::chunks(least), Box::leak(Box::new(least))),
        };
        cases.push(Case {
            name,
            threads,
            layers: one,
            lends: !name.ends_with("read"),
            granularity,
            goal,
            tables,
            bare: bare("chunker and blake3", move || {
                on_threads(plain, threads, |part| cut(cuts, part, true))
            }),
            parts: vec![
                bare("chunker", move || on_threads(plain, threads, |part| cut(cuts, part, false))),
                bare("blake3", move || on_threads(plain, threads, |part| hash(part, 16 << 10))),
            ],
        });
    };
    chunks("fastcdc-16KiB", 1, Chunks::Fast, Goal::Rate(1.2));
    chunks("mincdc-16KiB", 1, Chunks::Least, Goal::Rate(2.4));
    // One layer, and all cores on it.
    chunks("fastcdc-16KiB", cores, Chunks::Fast, Goal::Ratio(0.8));
    chunks("mincdc-16KiB", cores, Chunks::Least, Goal::Ratio(0.8));
    // What reading from a file costs beside: a copy.
    chunks("mincdc-read", 1, Chunks::Least, Goal::Ratio(0.7));
    for (name, threads, goal) in [("file", 1, 0.8), ("file", cores, 0.8), ("file-read", 1, 0.7)] {
        cases.push(Case {
            name,
            threads,
            layers: one,
            lends: !name.ends_with("read"),
            granularity: Granularity::file(),
            goal: Goal::Ratio(goal),
            tables,
            bare: bare("blake3", move || on_threads(plain, threads, |part| hash(part, FILE))),
            parts: vec![bare("copy and blake3", move || on_threads(plain, threads, copy_and_hash))],
        });
    }
    let inflates = |name, threads, layers: &'a [Bytes]| {
        let inflate_all = move || {
            std::thread::scope(|scope| {
                let worker = |number: usize| {
                    layers.iter().skip(number).step_by(threads).try_for_each(|layer| inflate(layer))
                };
                let workers: Vec<_> =
                    (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
                workers
                    .into_iter()
                    .try_for_each(|worker| Ok(worker.join().map_err(|_| "a thread panicked")??))
            })
        };
        Case {
            name,
            threads,
            layers,
            lends: false,
            granularity: Granularity::file(),
            goal: Goal::Ratio(0.8),
            tables,
            bare: bare("inflate", inflate_all),
            parts: Vec::new(),
        }
    };
    cases.push(inflates("gzip-file", 1, gzips));
    cases.push(inflates("gzip-file", cores, gzips));
    // Nothing inflates a stream on two cores; all else of it should cost nothing.
    cases.push(inflates("gzip-file", cores, gzips.get(..1).unwrap_or_default()));
    // More units than may be kept.
    cases.push(Case {
        name: "sampled-512B",
        threads: 1,
        layers: one,
        lends: true,
        granularity: "fixed:512".parse()?,
        goal: Goal::Ratio(0.5),
        tables: 16 * MIB,
        bare: bare("blake3", move || on_threads(plain, 1, |part| hash(part, 512))),
        parts: Vec::new(),
    });
    Ok(cases)
}

#[derive(Clone, Copy)]
enum Chunks {
    Fast,
    Least,
}

impl Case<'_> {
    fn run(&self, rounds: usize) -> Outcome<Line> {
        let mut corpus = Corpus::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let descriptor = Descriptor::new(media_type::LAYER_TAR, Digest::of(layer), layer.len() as u64);
            corpus.add_blob(
                format!("layer {at}"),
                &descriptor,
                Arc::new(Memory { bytes: layer.clone(), lends: self.lends }),
            );
        }
        // Whole blobs have a share of the memory too, and need little of it.
        let measure = Measure::new()
            .granularities([self.granularity.clone()])
            .pack_one_in(0)
            .memory(2 * self.tables as u64)
            .threads(self.threads);
        let before = rss_anon_kb();
        let (mut peak, mut plain) = (before, 0);
        let (mut ours, mut floor) = (Rates::default(), Rates::default());
        let mut parts: Vec<Rates> = self.parts.iter().map(|_| Rates::default()).collect();
        for _ in 0..rounds {
            ours.time(|| {
                let measurement = measure.run(&corpus, &mut |_| {
                    peak = peak.max(rss_anon_kb());
                    ControlFlow::Continue(())
                })?;
                peak = peak.max(rss_anon_kb());
                plain = measurement.report().corpus.plain_stored_bytes;
                Ok(plain)
            })?;
            floor.time(|| (self.bare.work)().map(|()| plain))?;
            for (part, rates) in self.parts.iter().zip(&mut parts) {
                rates.time(|| (part.work)().map(|()| plain))?;
            }
        }
        let ratios: Vec<f64> =
            ours.rounds.iter().zip(&floor.rounds).map(|(ours, bare)| ours / bare).collect();
        let ratio = median(&ratios);
        let (bound, of, met) = match self.goal {
            Goal::Rate(bound) => (bound, "ours_a_core", ours.a_core() >= bound),
            Goal::Ratio(bound) => (bound, "ratio", ratio >= bound),
        };
        Ok(Line {
            case: self.name,
            threads: self.threads,
            layers: self.layers.len(),
            plain_bytes: plain,
            ours: round(greatest(&ours.rounds)),
            ours_median: round(median(&ours.rounds)),
            ours_a_core: round(ours.a_core()),
            bare: round(greatest(&floor.rounds)),
            bare_median: round(median(&floor.rounds)),
            bare_a_core: round(floor.a_core()),
            bare_is: self.bare.name,
            parts: self
                .parts
                .iter()
                .zip(&parts)
                .map(|(part, rates)| (part.name, round(greatest(&rates.rounds))))
                .collect(),
            ratio: round(ratio),
            goal: bound,
            goal_of: of,
            met,
            rss_anon_kb: peak.saturating_sub(before),
            rss_anon_bound_kb: (self.tables + self.threads * RSS_A_THREAD) / 1024,
        })
    }
}

/// GB/s of each round, and all bytes by the time of the processor.
#[derive(Default)]
struct Rates {
    rounds: Vec<f64>,
    bytes: u64,
    processor: f64,
}

impl Rates {
    fn time(&mut self, work: impl FnOnce() -> Outcome<u64>) -> Outcome<()> {
        let (start, processor) = (Instant::now(), processor_seconds());
        let bytes = work()?;
        self.rounds.push(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
        self.processor += processor_seconds() - processor;
        self.bytes += bytes;
        Ok(())
    }

    fn a_core(&self) -> f64 {
        self.bytes as f64 / self.processor.max(0.01) / 1e9
    }
}

/// The size of the files in the tar.
const FILE: usize = 64 << 10;

/// A tar of files that are half noise and half text, so that gzip has as much to do as with programs.
fn tar(bytes: usize) -> Outcome<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::with_capacity(bytes + bytes / 64));
    let mut state = 1_u64;
    let mut content = vec![0; FILE];
    for number in 0..bytes / FILE {
        for (at, word) in content.chunks_mut(8).enumerate() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let value = if at / 4 % 2 == 0 { state >> 20 } else { 0x2065_6874_2064_6e61 };
            word.copy_from_slice(&value.to_be_bytes());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("dir/{number}"), content.as_slice())?;
    }
    Ok(builder.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Outcome<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

fn inflate(bytes: &[u8]) -> io::Result<()> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut buffer = vec![0; MIB];
    while decoder.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(())
}

/// Does something with equal parts at the same time.
fn on_threads(bytes: &[u8], threads: usize, work: impl Fn(&[u8]) + Sync) -> Outcome<()> {
    std::thread::scope(|scope| {
        let work = &work;
        for part in bytes.chunks(bytes.len().div_ceil(threads)) {
            scope.spawn(move || work(part));
        }
    });
    Ok(())
}

fn cut(chunker: &dyn Chunker, mut bytes: &[u8], hashes: bool) {
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(chunker.cut(bytes));
        if hashes {
            black_box(blake3::hash(chunk));
        }
        black_box(chunk);
        bytes = rest;
    }
}

fn hash(bytes: &[u8], each: usize) {
    for part in bytes.chunks(each) {
        black_box(blake3::hash(part));
    }
}

/// What reading into a buffer, as from a file, leaves of the rate.
fn copy_and_hash(bytes: &[u8]) {
    let mut buffer = vec![0; MIB];
    for part in bytes.chunks(MIB) {
        if let Some(buffer) = buffer.get_mut(..part.len()) {
            buffer.copy_from_slice(part);
            hash(buffer, FILE);
        }
    }
}

/// Of all threads, in steps of a hundredth.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn rss_anon_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
