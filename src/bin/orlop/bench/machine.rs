//! Where it ran: a figure without its machine says nothing.

#![expect(clippy::disallowed_methods, reason = "files of the kernel")]

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Outcome;

/// What a reader has to know of the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_kb: u64,
    pub(super) kernel: String,
    /// Of the directory that was used.
    pub(super) filesystem: String,
}

impl Machine {
    pub(super) fn of(dir: &Path) -> Outcome<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        Ok(Self {
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_kb: memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(dir)?,
        })
    }

    /// Whether files can share blocks there.
    pub(super) fn shares_blocks(&self) -> bool {
        ["btrfs", "xfs"].contains(&self.filesystem.as_str())
    }
}

/// The type of the filesystem below `dir`: that of the longest mount point which is a prefix of it.
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
