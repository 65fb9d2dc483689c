//! What a program is told and what it answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::data;

/// One step of one workload.
pub(crate) struct Cell {
    pub(crate) prepares: bool,
    pub(crate) workload: String,
    pub(crate) dir: PathBuf,
    scale: u64,
    budget: Duration,
}

impl Cell {
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let [step, workload, dir, scale, _round, seconds] = words else {
            anyhow::bail!("the arguments are: step, workload, directory, scale, round, seconds");
        };
        Ok(Self {
            prepares: step == "prepare",
            workload: workload.clone(),
            dir: dir.into(),
            scale: scale.parse().context("the scale")?,
            budget: Duration::try_from_secs_f64(seconds.parse().context("the seconds")?)?,
        })
    }

    pub(crate) fn count(&self, full: usize) -> usize {
        data::scaled(full, self.scale)
    }

    pub(crate) fn large(&self) -> u64 {
        data::large_size(self.scale)
    }
}

#[derive(Serialize)]
struct Measured {
    n: usize,
    of: usize,
    bytes: u64,
    seconds: f64,
    durable: Option<bool>,
    rss_anon_kb: u64,
}

/// The clock of a run. Starting it says so, which starts the watch on the memory.
pub(crate) struct Clock {
    budget: Duration,
    start: Option<Instant>,
    measured: Option<Measured>,
}

impl Clock {
    pub(crate) fn new(cell: &Cell) -> Self {
        Self { budget: cell.budget, start: None, measured: None }
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        println!("begin");
        std::io::stdout().flush()?;
        self.start = Some(Instant::now());
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() > self.budget
    }

    /// `n` of so many operations were done; nothing of it is durable by then, unless it says so.
    pub(crate) fn stop(&mut self, n: usize, of: usize, bytes: u64, durable: Option<bool>) {
        let seconds = self.elapsed().as_secs_f64().max(1e-9);
        self.measured = Some(Measured { n, of, bytes, seconds, durable, rss_anon_kb: rss_anon_kb() });
    }

    pub(crate) fn say(&self) -> anyhow::Result<()> {
        if let Some(measured) = &self.measured {
            println!("{}", serde_json::to_string(measured)?);
        }
        Ok(())
    }
}

/// Anonymous memory of this process.
fn rss_anon_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a store says of itself.
#[derive(Serialize)]
pub(crate) struct Described {
    store: &'static str,
    version: &'static str,
    limit: bool,
    workloads: &'static [&'static str],
    cannot: BTreeMap<&'static str, &'static str>,
}

impl Described {
    /// Of no store, but of what the machine can do.
    pub(crate) fn limit(name: &'static str, workloads: &'static [&'static str]) -> Self {
        Self { limit: true, ..Self::new(name, "", workloads, &[]) }
    }

    pub(crate) fn new(
        store: &'static str,
        version: &'static str,
        workloads: &'static [&'static str],
        cannot: &[(&'static str, &'static str)],
    ) -> Self {
        Self { store, version, limit: false, workloads, cannot: cannot.iter().copied().collect() }
    }
}

/// Does the work of all numbers below `count` on so many threads.
pub(crate) fn side_by_side(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let one = || -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                work(number)?;
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

/// Makes the files that `large-file` takes in.
pub(crate) fn sources(cell: &Cell) -> anyhow::Result<()> {
    let block = data::Stream::block();
    for number in 0..data::LARGE_COUNT {
        let mut file = std::fs::File::create(source(cell, number))?;
        std::io::copy(&mut data::Stream::new(&block, number as u64, cell.large()), &mut file)?;
        file.sync_all()?;
    }
    Ok(())
}

pub(crate) fn source(cell: &Cell, number: usize) -> PathBuf {
    cell.dir.join(format!("source-{number}"))
}
