//! One cell of the table: one workload on one store, in a process of its own. What such a process is told and what it
//! answers, which is the same for the stores in this program and for programs of others.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::output;

/// What is to be done in the directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Make what the workload finds there. Not measured.
    Prepare,
    /// The workload itself.
    Run,
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Run => "run",
        }
    }
}

/// What a cell is told, in this order: step, workload, directory, scale, round, seconds.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) step: Step,
    pub(crate) workload: String,
    /// Its own, and empty before it is prepared.
    pub(crate) dir: PathBuf,
    /// In millionths.
    pub(crate) scale: u64,
    /// Seeds what has to be new in a store that is used again.
    pub(crate) round: u64,
    /// After so long a workload of many operations stops and says how many it did.
    pub(crate) budget: Duration,
}

impl Cell {
    /// As arguments have it.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut word = |name: &str| words.next().ok_or_else(|| format!("no {name} was given"));
        let step = match word("step")?.as_str() {
            "prepare" => Step::Prepare,
            "run" => Step::Run,
            other => return Err(format!("unknown step, step={other}").into()),
        };
        Ok(Self {
            step,
            workload: word("workload")?,
            dir: word("directory")?.into(),
            scale: word("scale")?.parse()?,
            round: word("round")?.parse()?,
            budget: Duration::try_from_secs_f64(word("number of seconds")?.parse()?)?,
        })
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            self.step.name().to_owned(),
            self.workload.clone(),
            self.dir.display().to_string(),
            self.scale.to_string(),
            self.round.to_string(),
            self.budget.as_secs_f64().to_string(),
        ]
    }

    /// The count of operations at this scale.
    pub(crate) fn count(&self, full: usize) -> usize {
        super::data::scaled(full, self.scale)
    }

    pub(crate) fn large(&self) -> u64 {
        super::data::large_size(self.scale)
    }
}

/// What a run answers, as the last line of its output.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Measured {
    /// Operations that were done, and how many there were to do.
    pub(crate) n: u64,
    pub(crate) of: u64,
    /// Of content, where that is what counts; else 0.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Whether what was written survives the loss of power when the clock stops; nothing where nothing is written.
    #[serde(default)]
    pub(crate) durable: Option<bool>,
    /// Of the process when the clock stops, for runs that are over before anybody looks.
    #[serde(default)]
    pub(crate) rss_anon_kb: u64,
}

/// The clock of a cell. Starting it says so on the output: from there on memory is watched.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    budget: Duration,
}

/// The line that starts the watch.
pub(crate) const BEGIN: &str = "begin";

impl Clock {
    pub(crate) fn start(cell: &Cell) -> Outcome<Self> {
        output::stdout(&format!("{BEGIN}\n")).map_err(|failure| failure.chain())?;
        io::stdout().flush()?;
        Ok(Self { start: Instant::now(), budget: cell.budget })
    }

    /// Whether the time for it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.start.elapsed() > self.budget
    }

    /// All of `n` operations were done.
    pub(crate) fn stop(&self, n: usize, bytes: u64, durable: Option<bool>) -> Measured {
        self.stop_at(n, n, bytes, durable)
    }

    /// `n` of so many operations were done.
    pub(crate) fn stop_at(&self, n: usize, of: usize, bytes: u64, durable: Option<bool>) -> Measured {
        // No clock is finer than this.
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        Measured { n: n as u64, of: of as u64, bytes, seconds, durable, rss_anon_kb: rss_anon_kb("self") }
    }
}

/// `RssAnon` of a process, 0 where it cannot be read.
pub(crate) fn rss_anon_kb(process: &str) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a program says about itself when its only argument is `describe`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Described {
    pub(crate) store: String,
    pub(crate) version: String,
    /// Whether it is no store but a limit of the machine, which says nothing of what it has not.
    #[serde(default)]
    pub(crate) limit: bool,
    /// The workloads that it has.
    pub(crate) workloads: Vec<String>,
    /// Why it has not the others, by name of the workload.
    #[serde(default)]
    pub(crate) cannot: std::collections::BTreeMap<String, String>,
}
