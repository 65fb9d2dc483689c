//! One layer mounted into 32 repositories at once, beside as many synced puts, while somebody asks whether it is there.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use orlop::{Digest, Options, Repository, Store};

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Run, content, per_op};
use crate::report::{Goal, Line, median, quantile};

const SIZE: usize = 40_000;
/// Who mounts at one moment.
const CLIENTS: usize = 32;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let layers = run.count(40, 10);
    let (mut middles, mut worst, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    let ours = |round: usize| -> Outcome<f64> {
        let path = run.fresh("mount-ours")?;
        let store = Options::new().create(&path)?;
        let base = store.repository(&"base".parse()?);
        let (mut total, mut heads) = (0.0, Vec::new());
        for layer in 0..layers {
            let digest = base.push_bytes(content((round * layers + layer) as u64, SIZE))?.digest;
            let (time, mut times) = mount(&store, &base, digest)?;
            total += time;
            heads.append(&mut times);
        }
        store.close()?;
        run.retire(&path)?;
        middles.push(quantile(&mut heads, 0.5));
        worst.push(quantile(&mut heads, 0.99));
        longest.push(quantile(&mut heads, 1.0));
        Ok(total / layers as f64)
    };
    let floor = |_: usize| -> Outcome<f64> {
        let path = run.fresh("mount-floor")?;
        let db = floor::open_rocksdb(&path)?;
        let mut total = 0.0;
        for layer in 0..layers {
            let barrier = Barrier::new(CLIENTS + 1);
            let start = std::thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (db, barrier) = (&db, &barrier);
                    scope.spawn(move || {
                        let key = ((layer * CLIENTS + client) as u64).to_be_bytes();
                        barrier.wait();
                        db.put_opt(key, [7; 8], &floor::synced())
                    });
                }
                barrier.wait();
                Instant::now()
            });
            total += per_op(start, CLIENTS);
        }
        drop(db);
        run.retire(&path)?;
        Ok(total / layers as f64)
    };
    let samples = run.compare(5, ours, floor)?;
    let line = Line::new("mount", layers * CLIENTS, "us per mount", &samples, Goal::None)
        .detail("head_p50_us", median(&middles))
        .detail("head_p99_us", median(&worst))
        .detail("head_longest_us", median(&longest));
    reporter.print(line)
}

/// Mounts a content into a repository for each client; answers how long one took on average and how long each look at it took
/// meanwhile, in microseconds.
fn mount(store: &Store, base: &Repository, digest: Digest) -> Outcome<(f64, Vec<f64>)> {
    let (barrier, over) = (Barrier::new(CLIENTS + 2), AtomicBool::new(false));
    let names: Vec<_> =
        (0..CLIENTS).map(|client| format!("client/{client}").parse()).collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        let clients: Vec<_> = names
            .iter()
            .map(|name| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let here = store.repository(name);
                    barrier.wait();
                    here.mount(base, &digest)
                })
            })
            .collect();
        let asking = scope.spawn(|| {
            let mut times = Vec::new();
            barrier.wait();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                let found = base.stat(&digest);
                times.push(start.elapsed().as_secs_f64() * 1e6);
                if !matches!(found, Ok(Some(_))) {
                    break;
                }
                // A client that asks now and then, and does not take the processors from those who mount.
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
            times
        });
        barrier.wait();
        let start = Instant::now();
        for client in clients {
            match client.join() {
                Ok(mounted) => drop(mounted?.ok_or("the content is not there")?),
                Err(_) => return Err("a client panicked".into()),
            }
        }
        let time = per_op(start, CLIENTS);
        over.store(true, Ordering::Relaxed);
        let times = asking.join().map_err(|_| "the one who asks panicked")?;
        Ok((time, times))
    })
}
