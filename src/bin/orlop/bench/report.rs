//! From runs to rows: medians, ratios of each round, goals, and what is durable.

use serde::Serialize;

use super::driver::{Contender, Kind, Result, Run};
use super::machine::Machine;
use super::workloads::{Goal, Unit, Workload};

/// One store in one workload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) workload: &'static str,
    /// What one operation is, at a scale of 1.
    pub(super) about: &'static str,
    pub(super) store: String,
    /// `store`, `peer` or `limit`.
    pub(super) kind: &'static str,
    pub(super) version: String,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cannot: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) figures: Option<Figures>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    /// Whether what was written is durable when the clock stops; nothing where nothing is written.
    pub(super) durable: Option<bool>,
    pub(super) rounds: usize,
    /// Operations that were done in a round, the least of all rounds, and how many there were to do.
    pub(super) n: u64,
    pub(super) of: u64,
    /// Medians and the least over the rounds.
    pub(super) seconds: f64,
    pub(super) seconds_min: f64,
    /// In bytes or operations a second.
    pub(super) rate: f64,
    pub(super) rate_max: f64,
    pub(super) unit: &'static str,
    /// Anonymous memory while the clock ran, the most of all rounds, in kB.
    pub(super) rss_anon_peak_kb: u64,
    /// Of a store of ours: how it compares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ratios: Vec<Ratio>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) goals: Vec<Met>,
}

/// A rate over another one, the median of those of each round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ratio {
    pub(super) to: String,
    pub(super) ratio: f64,
    /// Whether both are durable, or neither is, or nothing is written: else the ratio compares different promises.
    pub(super) same_durability: bool,
}

/// A goal, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Met {
    pub(super) of: &'static str,
    pub(super) share: f64,
    pub(super) found: f64,
    pub(super) met: bool,
}

/// The rows of one workload, in the order of the results.
pub(super) fn rows(
    workload: &'static Workload,
    results: &[(Contender, Result)],
    machine: &Machine,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (contender, result) in results {
        let (cannot, figures) = match result {
            Result::Cannot(why) => (Some(why.clone()), None),
            Result::Runs(runs) => (None, Some(figures(workload, contender, runs, results, machine))),
        };
        rows.push(Row {
            workload: workload.name,
            about: workload.about,
            store: contender.name.clone(),
            kind: match contender.kind {
                Kind::Ours => "store",
                Kind::Peer => "peer",
                Kind::Limit => "limit",
            },
            version: contender.version.clone(),
            cannot,
            figures,
        });
    }
    rows
}

fn figures(
    workload: &'static Workload,
    contender: &Contender,
    runs: &[Run],
    results: &[(Contender, Result)],
    machine: &Machine,
) -> Figures {
    let rates = rates(workload, runs);
    let seconds: Vec<f64> = runs.iter().map(|run| run.measured.seconds).collect();
    let mut ratios = Vec::new();
    if contender.kind == Kind::Ours {
        for (other, result) in results {
            if let Result::Runs(theirs) = result
                && other.name != contender.name
            {
                let each: Vec<f64> =
                    rates.iter().zip(self::rates(workload, theirs)).map(|(our, their)| our / their).collect();
                let same_durability = durable(runs) == durable(theirs) || durable(theirs).is_none();
                ratios.push(Ratio { to: other.name.clone(), ratio: round(median(&each)), same_durability });
            }
        }
    }
    let goals = workload.goals.iter().filter(|goal| goal.store == contender.name);
    let goals = goals.filter_map(|goal| met(goal, &ratios, machine)).collect();
    Figures {
        durable: durable(runs),
        rounds: runs.len(),
        n: runs.iter().map(|run| run.measured.n).min().unwrap_or(0),
        of: runs.iter().map(|run| run.measured.of).max().unwrap_or(0),
        seconds: median(&seconds),
        seconds_min: seconds.iter().copied().fold(f64::INFINITY, f64::min),
        rate: round(median(&rates)),
        rate_max: round(rates.iter().copied().fold(0.0, f64::max)),
        unit: match workload.unit {
            Unit::Bytes => "bytes/s",
            Unit::Operations => "1/s",
        },
        rss_anon_peak_kb: runs.iter().map(|run| run.rss_anon_peak_kb).max().unwrap_or(0),
        ratios,
        goals,
    }
}

fn met(goal: &Goal, ratios: &[Ratio], machine: &Machine) -> Option<Met> {
    if goal.sharing_blocks && !machine.shares_blocks() {
        return None;
    }
    let found = ratios.iter().find(|ratio| ratio.to == goal.of)?.ratio;
    Some(Met { of: goal.of, share: round(goal.share), found, met: found >= goal.share })
}

fn durable(runs: &[Run]) -> Option<bool> {
    runs.first().and_then(|run| run.measured.durable)
}

fn rates(workload: &Workload, runs: &[Run]) -> Vec<f64> {
    let amount = |run: &Run| match workload.unit {
        Unit::Bytes => run.measured.bytes,
        Unit::Operations => run.measured.n,
    };
    runs.iter().map(|run| amount(run) as f64 / run.measured.seconds).collect()
}

/// The middle of the values; the upper one of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
