//! Many contents of 4 KiB in batches of 1,000 until the layout is complete, beside creating the same files and one
//! `syncfs` per 4,096 of them.

use std::fs::{self, File};
use std::time::Instant;

use orlop::Options;

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Run, content};
use crate::report::{Goal, Line, median};

const SIZE: usize = 4096;
const BATCH: usize = 1000;
const SYNC_EVERY: usize = 4096;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let n = run.count(1_000_000, 20_000);
    let mut flushes = Vec::new();
    let ours = |_: usize| -> Outcome<f64> {
        let path = run.fresh("sustained-ours")?;
        let store = Options::new().create(&path)?;
        let repository = store.default_repository();
        let mut seconds = 0.0;
        for first in (0..n).step_by(BATCH) {
            let contents: Vec<_> =
                (first..(first + BATCH).min(n)).map(|seed| content(seed as u64, SIZE)).collect();
            let start = Instant::now();
            let mut batch = store.batch();
            for bytes in contents {
                batch.push_bytes(&repository, bytes)?;
            }
            batch.commit()?;
            seconds += start.elapsed().as_secs_f64();
        }
        let start = Instant::now();
        store.flush()?;
        flushes.push(start.elapsed().as_secs_f64());
        seconds += start.elapsed().as_secs_f64();
        store.close()?;
        run.retire(&path)?;
        Ok(seconds * 1e6 / n as f64)
    };
    let floor = |_: usize| -> Outcome<f64> {
        let path = run.fresh("sustained-floor")?;
        fs::create_dir(&path)?;
        let directory = File::open(&path)?;
        let mut seconds = 0.0;
        for first in (0..n).step_by(SYNC_EVERY) {
            let last = (first + SYNC_EVERY).min(n);
            let files: Vec<_> = (first..last)
                .map(|seed| (path.join(floor::name(seed as u64)), content(seed as u64, SIZE)))
                .collect();
            let start = Instant::now();
            for (path, bytes) in &files {
                floor::write_file(path, bytes)?;
            }
            rustix::fs::syncfs(&directory)?;
            seconds += start.elapsed().as_secs_f64();
        }
        run.retire(&path)?;
        Ok(seconds * 1e6 / n as f64)
    };
    let samples = run.compare(if n > 200_000 { 1 } else { 3 }, ours, floor)?;
    let line = Line::new("sustained", n, "us per content, layout complete", &samples, Goal::Ratio(1.5))
        .detail("final_flush_seconds", median(&flushes));
    reporter.print(line)
}
