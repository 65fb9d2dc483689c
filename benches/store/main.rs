//! The benchmark harness of the store: every phase beside its floor, in the same run, on the same disk.
//!
//! ```text
//! cargo bench --bench store [-- [--quick] [--only PHASE] [--dir DIR] [--scale FACTOR] [--rounds N] [--keep]]
//! ```
//!
//! Each phase runs in a process of its own, so that memory peaks are told apart, and prints JSON lines (see
//! [`report::Line`]) on stdout; progress goes to stderr. It is a report and never a test: a goal that is missed shows as
//! `"met":false` and the exit code stays 0. `docs/benchmarks.md` explains the phases.

#![expect(clippy::disallowed_methods, reason = "floors are plain calls to the operating system")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports on its output")]
#![expect(clippy::cast_possible_truncation, reason = "counts and sizes of the harness are small")]

mod args;
mod fixture;
mod floor;
mod harness;
mod memory;
mod phases;
mod report;

use std::process::ExitCode;

use crate::args::Args;
use crate::harness::Outcome;

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
    let args = Args::parse(std::env::args().skip(1))?;
    match &args.build {
        Some(make) => fixture::build(&harness::Run::new(&args)?, make),
        None if args.child => phases::run_here(&args),
        None => phases::run_children(&args),
    }
}
