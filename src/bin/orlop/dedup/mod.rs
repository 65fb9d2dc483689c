//! `orlop dedup`

mod csv;
mod html;
mod inputs;
mod out;
mod text;
mod units;

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use orlop::dedup::{Corpus, Granularity, Measure, Measurement};

use crate::args::{bytes, option, rest, value, values, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;

/// What is compared if nothing else is said, beside whole blobs.
const DEFAULT: [&str; 4] = ["file", "fixed:4Ki", "fastcdc:16Ki", "mincdc:16Ki"];

const NOTHING: &str = "nothing was measured";

const MORE: &str = "\
Nothing that is measured is written to. A SOURCE is a store or layout (oci:DIR, or an existing directory), a repository or an \
image of one (oci:DIR:NAME, oci:DIR@DIGEST), an archive of a layout or of docker (tar:FILE, tar:FILE:NAME), a file, or a directory of \
files. A file is an image of one layer; layers and files are looked into through gzip and zstd, and as tars.

What is compared (--by, repeatable; whole blobs always are):
  file               the content of each file in a layer; headers and padding of a layer are one unit more
  fixed:SIZE         blocks of one size over the plain bytes of a layer
  fastcdc:AVERAGE    chunks whose ends depend on the content (FastCDC); or MIN-AVERAGE-MAX
  mincdc:AVERAGE     the same by MinCDC, several times as fast; or MIN-MAX
  ...@file           blocks or chunks of the content of each file, as fixed:4Ki@file

Figures (all in bytes; docs/deduplication.md has more words for them):
  logical            sizes of all blobs, counted for each image that refers to them
  stored             sizes of distinct blobs: what an image layout holds now
  plain              the same after layers are decompressed
  unique             distinct units; ratio = plain logical / unique, beyond = plain stored / unique, saved = 100 (1 - 1 / ratio)
  packed             each unique unit compressed by itself with zstd -3, or as it is where that is smaller
  index              56 for each unique unit and 36 for each entry of a recipe
  effective          stored / (packed + index): the only factor that compares with what the disk holds today
  intra, inter       copies within an image, and copies of what another image has

Everything is exact as long as the tables fit --memory; beyond, units are sampled by their hashes and the error is stated. What could not be \
measured is listed, and the exit code is 8.";

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    sources: Vec<String>,
    measure: Measure,
    units: Option<PathBuf>,
    csv: Option<PathBuf>,
    html: Option<PathBuf>,
}

pub(crate) fn command() -> Command {
    verb(
        "dedup",
        "Measure what sharing of blobs, files and chunks saves",
        MORE,
        "orlop dedup oci:mirror --by file --by fastcdc:16Ki --csv tables",
    )
    .arg(rest("sources", "SOURCE", "What is measured, in this order").required(true))
    .arg(
        rest("by", "GRANULARITY", "Compare these, instead of file, fixed:4Ki, fastcdc:16Ki and mincdc:16Ki")
            .long("by"),
    )
    .arg(size("memory", "BYTES", "Memory for the tables of units").default_value("1GiB"))
    .arg(
        number("pack-one-in", "N", "Pack one of N unique units, chosen by hash; 0 packs none")
            .default_value("1"),
    )
    .arg(number("nested", "DEPTH", "Open uncompressed archives among the files, so deep").default_value("0"))
    .arg(size("max-layer", "BYTES", "The most plain bytes of one layer").default_value("256GiB"))
    .arg(
        number("max-ratio", "N", "The most plain bytes for each stored byte of a layer")
            .default_value("1100"),
    )
    .arg(number("shuffles", "N", "Shuffled orders for the growth curve").default_value("20"))
    .arg(number("seed", "N", "Seed of the first of them").default_value("0"))
    .arg(number("top", "N", "How many wasted files are listed").default_value("20"))
    .arg(number("matrix", "N", "Up to how many images there is a matrix of them").default_value("64"))
    .arg(number("threads", "N", "How many threads work; decides no figure. All cores if not given"))
    .arg(option("units", "FILE", "Write a record for each unit, as CSV if FILE ends so, else as JSON lines"))
    .arg(option("csv", "DIR", "Write each view as a table of CSV into this directory"))
    .arg(option(
        "html",
        "FILE",
        "Write a page with all tables and with plots, which needs nothing else to be shown",
    ))
}

fn size(name: &'static str, form: &'static str, help: &'static str) -> clap::Arg {
    option(name, form, help).value_parser(bytes)
}

fn number(name: &'static str, form: &'static str, help: &'static str) -> clap::Arg {
    option(name, form, help).value_parser(clap::value_parser!(u64))
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let number = |name: &str| value::<u64>(matches, name).unwrap_or_default();
        let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let count = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let mut names = values(matches, "by");
        if names.is_empty() {
            names.extend(DEFAULT.map(str::to_owned));
        }
        let granularities =
            names.iter().map(|name| name.parse::<Granularity>()).collect::<Result<Vec<_>, _>>().map_err(
                |error| Failure::usage(error.to_string()).with_hint("`orlop dedup --help` explains them"),
            )?;
        let mut measure = Measure::new()
            .granularities(granularities)
            .memory(number("memory"))
            .pack_one_in(small("pack-one-in"))
            .nested(small("nested"))
            .max_plain_bytes(number("max-layer"))
            .max_ratio(number("max-ratio"))
            .shuffles(small("shuffles"), number("seed"))
            .wasted_files(count("top"))
            .matrix_limit(count("matrix"));
        if let Some(threads) = value::<u64>(matches, "threads") {
            measure = measure.threads(usize::try_from(threads).unwrap_or(usize::MAX));
        }
        let path = |name: &str| value::<String>(matches, name).map(PathBuf::from);
        let sources = values(matches, "sources");
        Ok(Self { sources, measure, units: path("units"), csv: path("csv"), html: path("html") })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    interrupt::defer();
    let corpus = inputs::read(&args.sources, output)?;
    if corpus.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there is nothing to measure in the sources")
            .with_hint("`orlop ls oci:DIR` lists what is in a layout"));
    }
    let measurement = measure(args, &corpus, output)?;
    let report = measurement.report();
    if let Some(directory) = &args.csv {
        csv::write(directory, &report)?;
    }
    if let Some(path) = &args.html {
        out::write(path, html::page(&report).as_bytes())?;
    }
    output.result(report.inputs.iter().map(|input| &input.digest), &report, || text::report(&report))?;
    if measurement.is_incomplete() {
        return Err(incomplete(&report));
    }
    Ok(())
}

fn measure(args: &Args, corpus: &Corpus, output: &Output) -> Result<Measurement, Failure> {
    let mut progress = Progress::new(output.progress(), "Measuring", None);
    let mut observer = |done: &orlop::dedup::Progress| -> ControlFlow<()> {
        progress.advance_of(done.bytes, done.total_bytes)
    };
    let result = match &args.units {
        None => args.measure.run(corpus, &mut observer).map_err(Failure::from),
        Some(path) => units::write(path, |sink| args.measure.units(corpus, sink, &mut observer)),
    };
    match result {
        Err(_) if interrupt::is_caught() => Err(interrupt::failure(NOTHING)),
        result => result,
    }
}

fn incomplete(report: &orlop::dedup::Report) -> Failure {
    let findings = report.findings.iter().filter(|finding| finding.incomplete).count();
    let blobs = report.corpus.incomplete_blobs;
    Failure::new(
        Exit::Partial,
        format!("not everything could be measured, so that figures are too small, blobs={blobs}, findings={findings}"),
    )
    .with_hint("the findings in the report name each one; `orlop verify oci:DIR` tells whether content is damaged")
}
