//! The run: every cell in a process of its own, the stores in another order in each round, nothing deleted before the end
//! but large files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Outcome;
use super::cell::{BEGIN, Cell, Described, Measured, Step, rss_anon_kb};
use super::workloads::{Prepared, WORKLOADS, Workload};
use crate::interrupt;

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(5);
/// Beyond its budget a step is ended after so much more: preparing, and work that cannot stop in between.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a store is to the reader of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Ours,
    Peer,
    Limit,
}

/// A store, or a limit, and how a process of it is started.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) version: String,
    program: PathBuf,
    /// In front of those of a cell.
    arguments: Vec<String>,
    /// Of a peer.
    described: Option<Described>,
}

/// One run of one workload on one store.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) measured: Measured,
    /// The highest while the clock ran, in kB.
    pub(super) rss_anon_peak_kb: u64,
}

/// What a contender made of a workload.
#[derive(Clone, Debug)]
pub(super) enum Result {
    Runs(Vec<Run>),
    /// Why it did not.
    Cannot(String),
}

/// How it is run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) rounds: u64,
    pub(super) scale: u64,
    pub(super) budget: Duration,
}

impl Contender {
    /// A store of ours, or a limit.
    pub(super) fn own(kind: Kind, name: &str) -> Outcome<Self> {
        Ok(Self {
            kind,
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: std::env::current_exe()?,
            arguments: vec![super::CELL.to_owned(), name.to_owned()],
            described: None,
        })
    }

    /// The store behind a program that speaks the protocol; its words are parted by spaces.
    pub(super) fn peer(command: &str) -> Outcome<Self> {
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = PathBuf::from(words.next().ok_or("a peer is named by its program")?);
        let arguments: Vec<String> = words.collect();
        let answer = Command::new(&program)
            .args(&arguments)
            .arg("describe")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot start the peer, program={}: {error}", program.display()))?;
        if !answer.status.success() {
            return Err(
                format!("the peer failed, program={}, status={}", program.display(), answer.status).into()
            );
        }
        let described: Described = serde_json::from_slice(&answer.stdout).map_err(|error| {
            format!("the peer does not describe itself as it should, program={}: {error}", program.display())
        })?;
        Ok(Self {
            kind: if described.limit { Kind::Limit } else { Kind::Peer },
            name: described.store.clone(),
            version: described.version.clone(),
            program,
            arguments,
            described: Some(described),
        })
    }

    /// Why it has nothing to say to a workload.
    fn cannot(&self, workload: &Workload) -> Option<String> {
        let described = self.described.as_ref()?;
        if described.workloads.iter().any(|name| name == workload.name) {
            return None;
        }
        let why = described.cannot.get(workload.name).or_else(|| described.cannot.get("*"));
        Some(why.map_or_else(|| "not written".to_owned(), Clone::clone))
    }

    /// Whether it has a part in a workload at all.
    fn takes_part(&self, workload: &Workload) -> bool {
        let has = |described: &Described| described.workloads.iter().any(|name| name == workload.name);
        match self.kind {
            Kind::Limit if self.described.is_some() => self.described.as_ref().is_some_and(has),
            Kind::Ours => workload.ours.contains(&self.name.as_str()),
            Kind::Limit => workload.limits.contains(&self.name.as_str()),
            Kind::Peer => true,
        }
    }
}

/// Everybody that has a part in one of the workloads.
pub(super) fn contenders(peers: &[String]) -> Outcome<Vec<Contender>> {
    let mut all = Vec::new();
    let mut add = |kind, names: &[&str]| -> Outcome<()> {
        for name in names {
            if !all.iter().any(|known: &Contender| known.name == *name) {
                all.push(Contender::own(kind, name)?);
            }
        }
        Ok(())
    };
    for workload in WORKLOADS {
        add(Kind::Ours, workload.ours)?;
    }
    for workload in WORKLOADS {
        add(Kind::Limit, workload.limits)?;
    }
    for command in peers {
        let peer = Contender::peer(command)?;
        if all.iter().any(|known: &Contender| known.name == peer.name) {
            return Err(format!("a store is there twice, store={}", peer.name).into());
        }
        all.push(peer);
    }
    Ok(all)
}

/// Runs one workload on everybody; `tell` is told of each step.
pub(super) fn run(
    plan: &Plan,
    workload: &'static Workload,
    all: &[Contender],
    tell: &mut dyn FnMut(&str),
) -> Outcome<Vec<(Contender, Result)>> {
    let mut results: Vec<(Contender, Result)> = all
        .iter()
        .filter(|contender| contender.takes_part(workload))
        .map(|contender| {
            let nothing = contender.cannot(workload).map_or_else(|| Result::Runs(Vec::new()), Result::Cannot);
            (contender.clone(), nothing)
        })
        .collect();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..results.len()).collect();
        // Each is once the first, and once behind every other.
        order.rotate_left(usize::try_from(round)? % results.len().max(1));
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let Some((contender, result)) = results.get_mut(at) else { continue };
            let Result::Runs(runs) = result else { continue };
            interrupt::check("the benchmark was stopped").map_err(|failure| failure.chain())?;
            tell(&format!("{} {} {}/{}", workload.name, contender.name, round + 1, plan.rounds));
            match cell(plan, workload, contender, round) {
                Ok(run) => runs.push(run),
                Err(error) if contender.described.is_some() => {
                    *result = Result::Cannot(format!("failed: {error}"))
                }
                Err(error) => {
                    return Err(
                        format!("{error}, workload={}, store={}", workload.name, contender.name).into()
                    );
                }
            }
        }
    }
    Ok(results)
}

/// One workload on one store, once.
fn cell(plan: &Plan, workload: &Workload, contender: &Contender, round: u64) -> Outcome<Run> {
    let once = workload.prepared == Prepared::Once;
    let name = format!("{}-{}", workload.name, contender.name);
    let dir = plan.dir.join(if once { name } else { format!("{name}-{round}") });
    let mut cell = Cell {
        step: Step::Prepare,
        workload: workload.name.to_owned(),
        dir: dir.clone(),
        scale: plan.scale,
        round,
        budget: plan.budget,
    };
    #[expect(clippy::disallowed_methods, reason = "a directory for a store, no part of one")]
    if !once || round == 0 {
        fs::create_dir_all(&dir)?;
        step(contender, &cell)?;
    }
    settle(&dir)?;
    cell.step = Step::Run;
    let run = step(contender, &cell)?.ok_or("the store said nothing about the run")?;
    if workload.large {
        // Few files and much space. What has many files stays: deleting those slows down who makes files next.
        remove(&dir)?;
    }
    Ok(run)
}

/// Waits until nothing of what was written before has yet to reach the disk.
#[expect(clippy::disallowed_methods, reason = "the whole filesystem is meant")]
fn settle(dir: &Path) -> Outcome<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Deletes a directory and all that is in it.
#[expect(clippy::disallowed_methods, reason = "a directory of this run")]
pub(super) fn remove(dir: &Path) -> Outcome<()> {
    Ok(fs::remove_dir_all(dir)?)
}

/// A process, ended when it is let go of too early.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process for a step, watches its memory from its word on, and takes what it says last.
fn step(contender: &Contender, cell: &Cell) -> Outcome<Option<Run>> {
    let child = Command::new(&contender.program)
        .args(&contender.arguments)
        .args(cell.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut process = Process(child);
    let output = process.0.stdout.take().ok_or("a process without output")?;
    let (begun, highest) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let (begins, id, mut last) = (Arc::clone(&begun), process.0.id().to_string(), None);
    let (highest, id) = (&highest, &id);
    let status = std::thread::scope(|scope| -> Outcome<_> {
        let reader = scope.spawn(move || {
            let mut said = None;
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if line == BEGIN {
                    highest.fetch_max(rss_anon_kb(id), Ordering::Relaxed);
                    begins.store(true, Ordering::Release);
                } else if !line.is_empty() {
                    said = Some(line);
                }
            }
            said
        });
        let deadline = Instant::now() + cell.budget + PATIENCE;
        let status = loop {
            if begun.load(Ordering::Acquire) {
                highest.fetch_max(rss_anon_kb(id), Ordering::Relaxed);
            }
            if let Some(status) = process.0.try_wait()? {
                break status;
            }
            if Instant::now() > deadline || interrupt::is_caught() {
                process.0.kill()?;
                break process.0.wait()?;
            }
            std::thread::sleep(SAMPLE);
        };
        last = reader.join().map_err(|_| "reading the output failed")?;
        Ok(status)
    })?;
    if !status.success() {
        return Err(format!("the process failed, step={}, status={status}", cell.step.name()).into());
    }
    if cell.step == Step::Prepare {
        return Ok(None);
    }
    let line = last.ok_or("the process said nothing")?;
    let measured: Measured =
        serde_json::from_str(&line).map_err(|error| format!("not what a cell says, line={line}: {error}"))?;
    if measured.n == 0 || measured.seconds.is_nan() || measured.seconds <= 0.0 {
        return Err(format!("nothing was measured, line={line}").into());
    }
    let rss_anon_peak_kb = highest.load(Ordering::Relaxed).max(measured.rss_anon_kb);
    Ok(Some(Run { measured, rss_anon_peak_kb }))
}
