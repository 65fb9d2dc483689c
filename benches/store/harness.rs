//! Rounds that alternate between the store and its floor, and the data that both are fed with.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;

use crate::args::Args;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

const TRASH: &str = "trash";

/// One phase's run: where, how much, how often.
#[derive(Debug)]
pub(crate) struct Run {
    args: Args,
    dir: PathBuf,
}

/// Figures of one phase, one per round, in the unit of the phase.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ours: Vec<f64>,
    pub(crate) floor: Vec<f64>,
}

impl Run {
    pub(crate) fn new(args: &Args) -> Outcome<Self> {
        fs::create_dir_all(&args.dir)?;
        Ok(Self { args: args.clone(), dir: args.dir.clone() })
    }

    /// A path of this name below the directory, with nothing there.
    pub(crate) fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.dir.join(name);
        self.retire(&path)?;
        Ok(path)
    }

    /// Puts a file or tree aside; absence is fine. Nothing is deleted before the harness ends: an ext4 without a journal
    /// searches past every inode that was deleted in the last minutes, which makes whoever creates files next ten times
    /// slower.
    pub(crate) fn retire(&self, path: &Path) -> Outcome<()> {
        if !path.exists() {
            return Ok(());
        }
        let trash = self.dir.join(TRASH);
        fs::create_dir_all(&trash)?;
        let number = fs::read_dir(&trash)?.count();
        Ok(fs::rename(path, trash.join(format!("{}-{number}", std::process::id())))?)
    }

    /// A path of this name below the directory, whatever is there.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn keep(&self) -> bool {
        self.args.keep
    }

    /// Whether a store of so many manifests is wanted.
    pub(crate) fn wants(&self, live: usize) -> bool {
        self.args.live.is_none_or(|only| only == live)
    }

    pub(crate) fn memory(&self) -> bool {
        self.args.memory
    }

    /// The count of operations, scaled: `full` as the goals are stated, `quick` for the smoke test.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        let base = if self.args.quick { quick } else { full };
        ((base as f64 * self.args.scale) as usize).max(1)
    }

    pub(crate) fn rounds(&self, usual: usize) -> usize {
        match self.args.rounds {
            _ if self.args.memory => 1,
            Some(rounds) => rounds.max(1),
            None if self.args.quick => usual.min(3),
            None => usual,
        }
    }

    /// Runs both sides in turns. A run for memory leaves the floor out.
    pub(crate) fn compare(
        &self,
        rounds: usize,
        mut ours: impl FnMut(usize) -> Outcome<f64>,
        mut floor: impl FnMut(usize) -> Outcome<f64>,
    ) -> Outcome<Samples> {
        let mut samples = Samples::default();
        for round in 0..self.rounds(rounds) {
            samples.ours.push(ours(round)?);
            if !self.args.memory {
                samples.floor.push(floor(round)?);
            }
        }
        Ok(samples)
    }
}

/// Deletes what was put aside under `dir`, and `dir` if nothing else is there; for the end of the harness.
pub(crate) fn empty_trash(dir: &Path) -> Outcome<()> {
    match fs::remove_dir_all(dir.join(TRASH)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Somebody's own directory may hold more.
    let _ = fs::remove_dir(dir);
    Ok(())
}

/// Microseconds per operation.
pub(crate) fn per_op(start: Instant, operations: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / operations as f64
}

/// xorshift64*: the same numbers in every run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Content that no other seed gives and that does not compress.
pub(crate) fn content(seed: u64, size: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_be_bytes());
    }
    bytes.truncate(size);
    Bytes::from(bytes)
}
