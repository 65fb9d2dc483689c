//! The rate of `orlop::dedup` beside the bare work that it cannot do without, over the same bytes in memory, in the same run.
//!
//! ```text
//! cargo bench --features dedup --bench dedup [-- [--quick] [--rounds N] [--only CASE]]
//! ```
//!
//! One JSON line for each case: gigabytes of plain bytes for each second, ours and bare, and ours over bare. `rss_anon_kb` is what the measurement
//! took at most of anonymous memory beyond the content, asked for about ten times a second. A report and never a test.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports on its output")]
#![expect(clippy::disallowed_methods, reason = "memory is what the system says of this process")]

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use orlop::Digest;
use orlop::dedup::{Chunker, Contents, Corpus, FastCdc, Granularity, Measure, MinCdc};
use orlop::oci::{Descriptor, media_type};
use serde::Serialize;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;

struct Bytes(Vec<u8>);

impl Contents for Bytes {
    fn open(&self, _: &Descriptor) -> io::Result<Option<Box<dyn Read + Send + '_>>> {
        Ok(Some(Box::new(Cursor::new(&self.0))))
    }
}

#[derive(Serialize)]
struct Line {
    case: &'static str,
    threads: usize,
    plain_bytes: u64,
    /// GB/s of the fastest and of the middle round.
    ours: f64,
    ours_median: f64,
    bare: f64,
    bare_median: f64,
    /// The middle of the ratios of each round.
    ratio: f64,
    goal: f64,
    goal_of: &'static str,
    met: bool,
    rss_anon_kb: u64,
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
    let plain = tar(if args.quick { 32 * MIB } else { 512 * MIB })?;
    let parts: Vec<&[u8]> = plain.chunks(plain.len().div_ceil(4)).collect();
    let compressed = parts.iter().map(|part| gzip(part)).collect::<Outcome<Vec<_>>>()?;
    let cores = std::thread::available_parallelism()?.get();

    let fast = FastCdc::of(16 << 10)?;
    let least = MinCdc::of(16 << 10)?;
    case(&args, "fastcdc-16KiB", 1, &[&plain], Granularity::chunks(fast), Goal::Rate(1.2), &|| {
        cut(&fast, &plain)
    })?;
    case(&args, "mincdc-16KiB", 1, &[&plain], Granularity::chunks(least), Goal::Rate(2.4), &|| {
        cut(&least, &plain)
    })?;
    // Contents of the size that the tar has, hashed and nothing else.
    case(&args, "file", 1, &[&plain], Granularity::file(), Goal::Ratio(0.8), &|| {
        plain.chunks(FILE).for_each(|part| {
            black_box(blake3::hash(part));
        });
        Ok(())
    })?;
    let layers: Vec<&[u8]> = compressed.iter().map(Vec::as_slice).collect();
    for threads in [1, cores] {
        case(&args, "gzip-file", threads, &layers, Granularity::file(), Goal::Ratio(0.8), &|| {
            std::thread::scope(|scope| {
                let worker = |number: usize| {
                    let layers = layers.iter().skip(number).step_by(threads);
                    layers.map(|layer| inflate(layer)).collect::<io::Result<Vec<()>>>()
                };
                let workers: Vec<_> =
                    (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
                for worker in workers {
                    worker.join().map_err(|_| "a thread panicked")??;
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Goal {
    /// GB/s.
    Rate(f64),
    /// Ours over bare.
    Ratio(f64),
}

fn case(
    args: &Args,
    name: &'static str,
    threads: usize,
    layers: &[&[u8]],
    granularity: Granularity,
    goal: Goal,
    bare: &dyn Fn() -> Outcome<()>,
) -> Outcome<()> {
    if args.only.as_deref().is_some_and(|only| only != name) {
        return Ok(());
    }
    let mut corpus = Corpus::new();
    for (at, layer) in layers.iter().enumerate() {
        let descriptor = Descriptor::new(media_type::LAYER_TAR, Digest::of(layer), layer.len() as u64);
        corpus.add_blob(format!("layer {at}"), &descriptor, Arc::new(Bytes(layer.to_vec())));
    }
    let measure = Measure::new().granularities([granularity]).pack_one_in(0).threads(threads);
    let before = rss_anon_kb();
    let (mut ours, mut floors, mut peak, mut plain) = (Vec::new(), Vec::new(), before, 0);
    for _ in 0..args.rounds {
        let start = Instant::now();
        let measurement = measure.run(&corpus, &mut |_| {
            peak = peak.max(rss_anon_kb());
            ControlFlow::Continue(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        plain = measurement.report().corpus.plain_stored_bytes;
        ours.push(plain as f64 / seconds / 1e9);
        let start = Instant::now();
        bare()?;
        floors.push(plain as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    let ratio = median(&ours.iter().zip(&floors).map(|(ours, bare)| ours / bare).collect::<Vec<_>>());
    let (bound, of, met) = match goal {
        Goal::Rate(bound) => (bound, "ours", greatest(&ours) >= bound),
        Goal::Ratio(bound) => (bound, "ratio", ratio >= bound),
    };
    let line = Line {
        case: name,
        threads,
        plain_bytes: plain,
        ours: round(greatest(&ours)),
        ours_median: round(median(&ours)),
        bare: round(greatest(&floors)),
        bare_median: round(median(&floors)),
        ratio: round(ratio),
        goal: bound,
        goal_of: of,
        met,
        rss_anon_kb: peak.saturating_sub(before),
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
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

fn gzip(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn inflate(bytes: &[u8]) -> io::Result<()> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut buffer = vec![0; MIB];
    while decoder.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(())
}

fn cut(chunker: &dyn Chunker, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(chunker.cut(bytes));
        black_box(blake3::hash(chunk));
        bytes = rest;
    }
    Ok(())
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
