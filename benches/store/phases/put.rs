//! 4 KiB content, durable one at a time, beside one synced RocksDB put of 16 bytes.

use std::time::Instant;

use orlop::Options;

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Run, content};
use crate::report::{Goal, Line, median, quantile};

const SIZE: usize = 4096;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let n = run.count(3000, 300);
    let (mut middles, mut worst, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    let ours = |round: usize| -> Outcome<f64> {
        let path = run.fresh("put-ours")?;
        let store = Options::new().create(&path)?;
        let repository = store.default_repository();
        let mut times = Vec::with_capacity(n);
        for number in 0..n {
            let bytes = content((round * n + number) as u64, SIZE);
            let start = Instant::now();
            repository.push_bytes(bytes)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let start = Instant::now();
        store.flush()?;
        flushes.push(start.elapsed().as_secs_f64() * 1e6 / n as f64);
        store.close()?;
        run.retire(&path)?;
        let mean = times.iter().sum::<f64>() / n as f64;
        middles.push(quantile(&mut times, 0.5));
        worst.push(quantile(&mut times, 0.99));
        Ok(mean)
    };
    let mut floor_middles = Vec::new();
    let floor = |_: usize| -> Outcome<f64> {
        let path = run.fresh("put-floor")?;
        let db = floor::open_rocksdb(&path)?;
        let options = floor::synced();
        let mut times = Vec::with_capacity(n);
        for number in 0..n {
            let start = Instant::now();
            db.put_opt((number as u64).to_be_bytes(), [7; 8], &options)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        drop(db);
        run.retire(&path)?;
        let mean = times.iter().sum::<f64>() / n as f64;
        floor_middles.push(quantile(&mut times, 0.5));
        Ok(mean)
    };
    let samples = run.compare(5, ours, floor)?;
    let line = Line::new("put", n, "us per content", &samples, Goal::Ratio(1.6))
        .detail("ours_p50", median(&middles))
        .detail("ours_p99", median(&worst))
        .detail("floor_p50", median(&floor_middles))
        .detail("flush_after_us_per_content", median(&flushes));
    reporter.print(line)
}
