//! Where the time goes.

use std::time::{Duration, Instant};

/// Bytes and time of each stage: `read`, `table`, `pack`, then the granularities.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages {
    pub(super) read: Stage,
    pub(super) table: Stage,
    pub(super) pack: Stage,
    pub(super) granularities: Vec<Stage>,
}

/// Of one stage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stage {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Stage {
    pub(super) fn add(&mut self, bytes: u64, since: Instant) {
        self.bytes += bytes;
        self.time += since.elapsed();
    }

    pub(super) fn sum(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.time += other.time;
    }
}

impl Stages {
    /// The stage of a granularity.
    pub(super) fn of(&mut self, granularity: usize) -> &mut Stage {
        if self.granularities.len() <= granularity {
            self.granularities.resize_with(granularity + 1, Stage::default);
        }
        // Just made if it was not there.
        self.granularities.get_mut(granularity).unwrap_or(&mut self.read)
    }

    pub(super) fn sum(&mut self, other: &Self) {
        self.read.sum(other.read);
        self.table.sum(other.table);
        self.pack.sum(other.pack);
        for (at, stage) in other.granularities.iter().enumerate() {
            self.of(at).sum(*stage);
        }
    }
}
