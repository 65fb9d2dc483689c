//! `orlop bench`: this store, the bare machine and other stores, side by side on the disk of whoever runs it.

mod cell;
mod data;
mod driver;
mod engine;
mod growth;
mod limits;
mod machine;
mod ours;
mod plot;
mod report;
mod table;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use orlop::Durability;
use serde::Serialize;

use self::cell::Cell;
use self::driver::{Contender, Plan};
use self::machine::Machine;
use self::report::Row;
use self::workloads::{ORLOP, UNSYNCED, WORKLOADS, Workload};
use crate::args::{option, value, values, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::progress::Progress;

/// What may fail in many ways and is reported as it is.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The hidden verb of the processes in which cells run.
pub(crate) const CELL: &str = "bench-cell";
/// A scale of 1, in the millionths that cells are told.
const MILLION: f64 = 1e6;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    dir: PathBuf,
    only: Vec<String>,
    rounds: u64,
    scale: f64,
    seconds: u64,
    with: Vec<String>,
    markdown: Option<PathBuf>,
    growth: Option<(u32, u32)>,
    plot: Option<PathBuf>,
}

pub(crate) fn command() -> Command {
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    let only = Arg::new("only")
        .long("only")
        .value_name("WORKLOAD")
        .help("These workloads only, parted by commas")
        .value_delimiter(',')
        .value_parser(names)
        .hide_possible_values(true)
        .action(ArgAction::Append);
    let with = Arg::new("with")
        .long("with")
        .value_name("PROGRAM")
        .help("Another store beside it: a program that speaks the protocol of docs/benchmarks.md, and its arguments")
        .action(ArgAction::Append);
    let listed: String =
        WORKLOADS.iter().map(|workload| format!("\n  {:<18}{}", workload.name, workload.about)).collect();
    verb(
        "bench",
        "Measure this store beside the bare machine, on your own disk",
        "Every workload runs on the store, on what the machine can do at best, and on the stores that --with names, each in a \
         process of its own, in another order in every round. Shown are medians and the best of the rounds, the anonymous \
         memory at its highest, and ratios, which say more than figures. Everything is written below a new directory, \
         which is deleted at the end.",
        "orlop bench --dir DISK --scale 0.1",
    )
    .after_help(format!("Workloads:{listed}\n\nExample:\n  orlop bench --dir DISK --scale 0.1"))
    .arg(option("dir", "DIR", "The disk to measure; never one in memory").default_value("."))
    .arg(only)
    .arg(
        option("rounds", "N", "How often everything is run")
            .default_value("5")
            .value_parser(clap::value_parser!(u64).range(1..=1000)),
    )
    .arg(
        option("scale", "FACTOR", "Multiplies the counts and sizes, from 0.000001 to 100")
            .default_value("1")
            .value_parser(scale),
    )
    .arg(
        option("seconds", "N", "After so long a run of many operations stops where it is")
            .default_value("20")
            .value_parser(clap::value_parser!(u64).range(1..=86_400)),
    )
    .arg(with)
    .arg(option("markdown", "FILE", "Also write the rows as a table of Markdown"))
    .arg(
        option("growth", "FROM..TO", "Instead grow one store from 10^FROM to 10^TO manifests, as 3..6, and show each step")
            .value_parser(powers)
            .conflicts_with_all(["only", "rounds", "scale", "seconds", "with"]),
    )
    .arg(option("plot", "FILE", "With --growth: also write a picture, as SVG").requires("growth"))
}

/// Powers of ten.
fn powers(text: &str) -> Result<(u32, u32), String> {
    let range = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match range {
        Some((from, to)) if 1 <= from && from <= to && to <= 8 => Ok((from, to)),
        _ => Err("not a range of powers of ten from 1 to 8, as 3..6".to_owned()),
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1e-6..=100.0).contains(&factor) { Ok(factor) } else { Err("not from 0.000001 to 100".to_owned()) }
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            dir: value::<String>(matches, "dir").unwrap_or_default().into(),
            only: values(matches, "only"),
            rounds: value(matches, "rounds").unwrap_or(1),
            scale: value(matches, "scale").unwrap_or(1.0),
            seconds: value(matches, "seconds").unwrap_or(1),
            with: values(matches, "with"),
            markdown: value::<String>(matches, "markdown").map(PathBuf::from),
            growth: value(matches, "growth"),
            plot: value::<String>(matches, "plot").map(PathBuf::from),
        }
    }

    /// Whether a workload is wanted.
    fn wants(&self, workload: &Workload) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
    }
}

/// All of a run, as JSON.
#[derive(Serialize)]
struct Document<'d> {
    machine: &'d Machine,
    scale: f64,
    rows: &'d [Row],
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    interrupt::defer();
    let contenders = driver::contenders(&args.with).map_err(failed)?;
    let dir = new_directory(&args.dir)?;
    let result = match args.growth {
        Some(powers) => grow(args, powers, &dir, output),
        None => measure(args, &contenders, &dir, output),
    };
    let removed = driver::remove(&dir).map_err(failed);
    result?;
    removed
}

fn measure(args: &Args, contenders: &[Contender], dir: &Path, output: &Output) -> Result<(), Failure> {
    let machine = Machine::of(dir).map_err(failed)?;
    if machine.filesystem == "tmpfs" {
        output.note("this directory is in memory: what is durable costs nothing here");
    }
    let plan = Plan {
        dir: dir.to_owned(),
        rounds: args.rounds,
        scale: millionths(args.scale),
        budget: Duration::from_secs(args.seconds),
    };
    let mut progress = Progress::counting(output.progress(), "Measuring");
    let mut all = Vec::new();
    for workload in WORKLOADS.iter().filter(|workload| args.wants(workload)) {
        let mut done = 0;
        let mut tell = |name: &str| {
            progress.begin(name);
            done += 1;
            // The driver asks for itself whether it was stopped.
            let _ = progress.advance(1);
        };
        let results = driver::run(&plan, workload, contenders, &mut tell).map_err(stopped_or)?;
        let rows = report::rows(workload, &results, &machine);
        if !output.is_json() {
            // A long run that is stopped has shown what it found by then.
            output.list(names(&rows), &rows, rows.iter(), || table::text(&rows))?;
        }
        all.extend(rows);
    }
    if output.is_json() {
        let document = Document { machine: &machine, scale: args.scale, rows: &all };
        output.result(names(&all), &document, String::new)?;
    }
    match &args.markdown {
        Some(path) => write(path, &table::markdown(&all, &machine, args.scale)),
        None => Ok(()),
    }
}

/// One store, ten times as large at every step.
fn grow(args: &Args, (from, to): (u32, u32), dir: &Path, output: &Output) -> Result<(), Failure> {
    let machine = Machine::of(dir).map_err(failed)?;
    let mut progress = Progress::counting(output.progress(), "Growing");
    let (mut rows, mut before) = (Vec::new(), 0);
    for power in from..=to {
        let manifests = 10_usize.pow(power);
        progress.begin(&format!("to {manifests} manifests"));
        // What a signal does to the process of a step is seen by its failure.
        let _ = progress.advance(1);
        rows.push(growth::step(dir, manifests, before).map_err(stopped_or)?);
        interrupt::check("the benchmark was stopped")?;
        before = manifests;
    }
    let counts = rows.iter().map(|row| row.manifests);
    output.list(counts, &Grown { machine: &machine, rows: &rows }, rows.iter(), || growth::table(&rows))?;
    if let Some(path) = &args.markdown {
        write(path, &growth::table(&rows))?;
    }
    match &args.plot {
        Some(path) => write(path, &plot::svg(&rows)),
        None => Ok(()),
    }
}

/// A growth, as JSON.
#[derive(Serialize)]
struct Grown<'d> {
    machine: &'d Machine,
    rows: &'d [growth::Row],
}

fn names(rows: &[Row]) -> impl Iterator<Item = &str> {
    rows.iter().map(|row| row.workload)
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::io("write the table", path, &error))
}

/// A directory that nobody has, below the one that is to be measured.
#[expect(clippy::disallowed_methods, reason = "a directory for stores, no part of one")]
fn new_directory(below: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(below).map_err(|error| Failure::io("make the directory", below, &error))?;
    let dir = below.join(format!("orlop-bench-{}", std::process::id()));
    fs::create_dir(&dir).map_err(|error| Failure::io("make the directory", &dir, &error))?;
    Ok(dir)
}

#[expect(clippy::cast_possible_truncation, reason = "the argument is at most 100")]
fn millionths(scale: f64) -> u64 {
    (scale * MILLION).round() as u64
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    Failure::new(Exit::Other, error.to_string())
}

/// A signal ends the processes of cells as well, whose failure is then no news.
fn stopped_or(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    if interrupt::is_caught() { interrupt::failure("the benchmark was stopped") } else { failed(error) }
}

/// A process of a cell: a store of ours or a limit, and what it is told.
pub(crate) fn run_cell(mut words: impl Iterator<Item = String>) -> ExitCode {
    let store = words.next().unwrap_or_default();
    let said = Cell::parse(words).and_then(|cell| match store.as_str() {
        ORLOP => say(ours::run(&cell, Durability::Power)?),
        UNSYNCED => say(ours::run(&cell, Durability::Process)?),
        growth::GROWTH => say(growth::run(&cell)?),
        limit => say(limits::run(limit, &cell)?),
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(&failed(error));
            ExitCode::FAILURE
        }
    }
}

/// The last line of a cell that has something to say.
fn say<T: Serialize>(measured: Option<T>) -> Outcome<()> {
    let Some(measured) = measured else { return Ok(()) };
    let line = serde_json::to_string(&measured)?;
    Ok(output::stdout(&format!("{line}\n")).map_err(|failure| failure.chain())?)
}

/// Does the work of all numbers below `count` on so many threads; the first failure is the one that counts.
fn side_by_side(threads: usize, count: usize, work: impl Fn(usize) -> Outcome<()> + Sync) -> Outcome<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let one = || -> Outcome<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                work(number)?;
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}
