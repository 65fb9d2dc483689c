//! 64 submitted commits in flight from one thread, beside commits one at a time. Both are the store's.

use std::collections::VecDeque;
use std::time::Instant;

use orlop::{Options, Store};

use super::Reporter;
use crate::harness::{Outcome, Run, content, per_op};
use crate::report::{Goal, Line};

const SIZE: usize = 4096;
const IN_FLIGHT: usize = 64;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let n = run.count(4000, 400);
    let samples = run.compare(
        5,
        |round| {
            with_store(run, "submit-ours", |store| {
                let repository = store.default_repository();
                let mut flying = VecDeque::with_capacity(IN_FLIGHT);
                let start = Instant::now();
                for number in 0..n {
                    if flying.len() == IN_FLIGHT {
                        flying.pop_front().map(orlop::Commit::wait).transpose()?;
                    }
                    let mut batch = store.batch();
                    batch.push_bytes(&repository, content((round * n + number) as u64, SIZE))?;
                    flying.push_back(batch.submit());
                }
                for commit in flying {
                    commit.wait()?;
                }
                Ok(per_op(start, n))
            })
        },
        |round| {
            with_store(run, "submit-floor", |store| {
                let repository = store.default_repository();
                let start = Instant::now();
                for number in 0..n {
                    let mut batch = store.batch();
                    batch.push_bytes(&repository, content((round * n + number) as u64, SIZE))?;
                    batch.commit()?;
                }
                Ok(per_op(start, n))
            })
        },
    )?;
    reporter.print(Line::new("submit", n, "us per commit, floor one at a time", &samples, Goal::None))
}

fn with_store(run: &Run, name: &str, work: impl FnOnce(&Store) -> Outcome<f64>) -> Outcome<f64> {
    let path = run.fresh(name)?;
    let store = Options::new().create(&path)?;
    let figure = work(&store)?;
    store.close()?;
    run.retire(&path)?;
    Ok(figure)
}
