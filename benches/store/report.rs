//! What a phase prints: one JSON object per line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::harness::{Outcome, Samples};
use crate::memory::Peak;

/// One measurement. Times are in `unit`; `ours` and `floor` are medians over the rounds, `ratio` is the median of the
/// ratios of each round to its neighbour, which shared machines disturb less than the ratio of the medians.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Line {
    pub(crate) phase: String,
    /// Operations in a round.
    pub(crate) n: usize,
    pub(crate) unit: String,
    pub(crate) ours: f64,
    pub(crate) ours_min: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// The goal and what it bounds, `ours` or `ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
    pub(crate) rounds: usize,
    /// Further figures of the phase, medians where there are several rounds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) details: BTreeMap<String, f64>,
    /// Anonymous memory of the process at the end and at its highest, floors included unless the run is for memory.
    pub(crate) rss_anon_kb: u64,
    pub(crate) rss_anon_peak_kb: u64,
    pub(crate) filesystem: String,
    pub(crate) cores: usize,
}

/// What a goal bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The store's own figure.
    Ours(f64),
    /// The store's figure over its floor's.
    Ratio(f64),
    /// No goal is set.
    None,
}

impl Line {
    pub(crate) fn new(phase: &str, n: usize, unit: &str, samples: &Samples, goal: Goal) -> Self {
        let ours = median(&samples.ours);
        let floor = (!samples.floor.is_empty()).then(|| median(&samples.floor));
        let ratios: Vec<f64> =
            samples.ours.iter().zip(&samples.floor).map(|(ours, floor)| ours / floor).collect();
        let ratio = (!ratios.is_empty()).then(|| median(&ratios));
        let (goal, goal_of, met) = match goal {
            Goal::Ours(goal) => (Some(goal), Some("ours".to_owned()), Some(ours <= goal)),
            Goal::Ratio(goal) => (Some(goal), Some("ratio".to_owned()), ratio.map(|ratio| ratio <= goal)),
            Goal::None => (None, None, None),
        };
        Self {
            phase: phase.to_owned(),
            n,
            unit: unit.to_owned(),
            ours,
            ours_min: least(&samples.ours),
            floor,
            floor_min: (!samples.floor.is_empty()).then(|| least(&samples.floor)),
            ratio,
            goal,
            goal_of,
            met,
            rounds: samples.ours.len(),
            details: BTreeMap::new(),
            rss_anon_kb: 0,
            rss_anon_peak_kb: 0,
            filesystem: String::new(),
            cores: 0,
        }
    }

    /// Adds a figure, if there is one: a run for memory leaves the floor out.
    pub(crate) fn detail(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.details.insert(name.to_owned(), round(value));
        }
        self
    }

    /// Fills in the machine and prints the line.
    pub(crate) fn print(mut self, dir: &Path, peak: &Peak) -> Outcome<()> {
        self.filesystem = filesystem(dir)?;
        self.cores = std::thread::available_parallelism()?.get();
        self.rss_anon_kb = crate::memory::rss_anon_kb();
        self.rss_anon_peak_kb = peak.kb();
        for value in [Some(&mut self.ours), Some(&mut self.ours_min)] {
            value.into_iter().for_each(|value| *value = round(*value));
        }
        for value in [&mut self.floor, &mut self.floor_min, &mut self.ratio] {
            *value = value.map(round);
        }
        println!("{}", serde_json::to_string(&self)?);
        Ok(())
    }
}

/// The middle of the values; the upper one of two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which this share of them lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The type of the file system below `dir`: the longest mount point that is a prefix of it.
fn filesystem(dir: &Path) -> Outcome<String> {
    let dir = fs::canonicalize(dir)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or("unknown", |(_, kind)| kind);
    Ok(kind.to_owned())
}
