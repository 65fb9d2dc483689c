//! The phases, each a file: what is measured, beside what, with which goal.

mod burst;
mod collect;
mod map;
mod mixed;
mod mount;
mod open;
mod put;
mod read;
mod referrers;
mod submit;
mod sustained;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::args::Args;
use crate::harness::{Outcome, Run, Samples, empty_trash};
use crate::memory::Peak;
use crate::report::{Goal, Line};

type Phase = fn(&Run, &Reporter) -> Outcome<()>;

/// Name, program, and whether its peak of anonymous memory counts for the goal.
const PHASES: [(&str, Phase, bool); 11] = [
    ("open", open::run, true),
    ("put", put::run, true),
    ("burst", burst::run, true),
    ("sustained", sustained::run, true),
    ("read", read::run, true),
    ("referrers", referrers::run, true),
    ("map", map::run, false),
    ("submit", submit::run, true),
    ("mount", mount::run, true),
    ("mixed", mixed::run, true),
    ("collect", collect::run, false),
];
/// The phase that runs the others once more for their memory.
const MEMORY: &str = "memory";
/// KiB of anonymous memory, whatever the store holds.
const MEMORY_GOAL_KB: f64 = 80.0 * 1024.0;

/// Prints the lines of a phase.
#[derive(Debug)]
pub(crate) struct Reporter {
    dir: std::path::PathBuf,
    pub(crate) peak: Peak,
}

impl Reporter {
    pub(crate) fn print(&self, line: Line) -> Outcome<()> {
        line.print(&self.dir, &self.peak)
    }
}

/// Runs the phases that were asked for, each in a process of its own.
pub(crate) fn run_children(args: &Args) -> Outcome<()> {
    let known = |name: &str| name == MEMORY || PHASES.iter().any(|phase| phase.0 == name);
    if let Some(name) = args.only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = PHASES.iter().map(|phase| phase.0).chain([MEMORY]).collect();
        return Err(format!("no such phase, phase={name}, known={}", names.join(" ")).into());
    }
    std::fs::create_dir_all(&args.dir)?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    for (name, _, _) in PHASES.iter().filter(|phase| wanted(phase.0)) {
        for line in child(args, name, false)? {
            println!("{line}");
        }
    }
    if wanted(MEMORY) {
        memory(args)?;
    }
    if args.keep { Ok(()) } else { empty_trash(&args.dir) }
}

/// Runs one phase in this process, which is a child of the harness.
pub(crate) fn run_here(args: &Args) -> Outcome<()> {
    let interval = Duration::from_millis(if args.memory { 2 } else { 50 });
    let reporter = Reporter { dir: args.dir.clone(), peak: Peak::start(interval) };
    let run = Run::new(args)?;
    for (_, phase, _) in PHASES.iter().filter(|phase| args.only.iter().any(|only| only == phase.0)) {
        phase(&run, &reporter)?;
    }
    Ok(())
}

/// The highest anonymous memory of all the phases, run without their floors.
fn memory(args: &Args) -> Outcome<()> {
    let mut samples = Samples::default();
    let mut peaks = Vec::new();
    for (name, _, _) in PHASES.iter().filter(|phase| phase.2) {
        for line in child(args, name, true)? {
            let line: Line = serde_json::from_str(&line)?;
            samples.ours.push(line.rss_anon_peak_kb as f64);
            peaks.push((line.phase, line.rss_anon_peak_kb, line.rss_anon_kb));
        }
    }
    samples.ours = vec![samples.ours.iter().copied().fold(0.0, f64::max)];
    let mut line =
        Line::new(MEMORY, peaks.len(), "KiB RssAnon at peak", &samples, Goal::Ours(MEMORY_GOAL_KB));
    for (phase, peak, end) in peaks {
        line = line.detail(&format!("{phase}.peak"), peak as f64).detail(&format!("{phase}.end"), end as f64);
    }
    line.print(&args.dir, &Peak::start(Duration::from_secs(3600)))
}

/// Runs one phase in a child and returns the lines it printed.
fn child(args: &Args, phase: &str, memory: bool) -> Outcome<Vec<String>> {
    eprintln!("phase {phase}{}", if memory { " for its memory" } else { "" });
    let mut child = Command::new(std::env::current_exe()?)
        .args(args.for_child(phase, memory))
        .arg("--dir")
        .arg(&args.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("child has no output")?;
    let lines: Vec<String> = BufReader::new(output).lines().collect::<Result<_, _>>()?;
    let status = child.wait()?;
    if status.success() {
        Ok(lines)
    } else {
        Err(format!("phase failed, phase={phase}, status={status}").into())
    }
}
