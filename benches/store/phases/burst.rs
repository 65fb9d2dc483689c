//! Durable bursts: batches of 1,000 contents of 4 KiB into a fresh store.

use std::time::Instant;

use bytes::Bytes;
use orlop::Options;
use rocksdb::WriteBatch;

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Run, content, per_op};
use crate::report::{Goal, Line, median};

const SIZE: usize = 4096;
const BATCHES: usize = 8;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let each = run.count(1000, 1000);
    let mut flushes = Vec::new();
    let ours = |round: usize| -> Outcome<f64> {
        let path = run.fresh("burst-ours")?;
        let store = Options::new().create(&path)?;
        let repository = store.default_repository();
        let mut total = 0.0;
        for number in 0..BATCHES {
            let contents = contents(round, number, each);
            let start = Instant::now();
            let mut batch = store.batch();
            for bytes in contents {
                batch.push_bytes(&repository, bytes)?;
            }
            batch.commit()?;
            total += per_op(start, each);
        }
        let start = Instant::now();
        store.flush()?;
        flushes.push(per_op(start, each * BATCHES));
        store.close()?;
        run.retire(&path)?;
        Ok(total / BATCHES as f64)
    };
    let floor = |round: usize| -> Outcome<f64> {
        let path = run.fresh("burst-floor")?;
        let db = floor::open_rocksdb(&path)?;
        let options = floor::synced();
        let mut total = 0.0;
        for number in 0..BATCHES {
            let contents = contents(round, number, each);
            let start = Instant::now();
            let mut batch = WriteBatch::with_capacity_bytes(each * (SIZE + 48));
            for (seed, bytes) in contents.iter().enumerate() {
                batch.put(floor::key((number * each + seed) as u64), bytes);
            }
            db.write_opt(batch, &options)?;
            total += per_op(start, each);
        }
        drop(db);
        run.retire(&path)?;
        Ok(total / BATCHES as f64)
    };
    let samples = run.compare(9, ours, floor)?;
    let line = Line::new("burst", each * BATCHES, "us per content", &samples, Goal::Ours(20.0))
        .detail("flush_after_us_per_content", median(&flushes));
    reporter.print(line)
}

fn contents(round: usize, batch: usize, each: usize) -> Vec<Bytes> {
    let first = (round * BATCHES + batch) * each;
    (first..first + each).map(|seed| content(seed as u64, SIZE)).collect()
}
