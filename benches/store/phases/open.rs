//! Opening a store and its first answer: one tag resolved, one page of referrers. Independent of what the store holds.

use std::path::Path;
use std::time::Instant;

use orlop::Options;
use rocksdb::DB;

use super::Reporter;
use crate::fixture::{self, Make};
use crate::harness::{Outcome, Run};
use crate::report::{Goal, Line};

const GOAL_MS: f64 = 25.0;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let small = Make { images: run.count(10_000, 500), untagged: run.count(10_000, 500), one_subject: 0 };
    let large = Make { images: small.images * 10, untagged: small.untagged * 10, one_subject: 0 };
    for make in [small, large] {
        let path = fixture::store(run, make)?;
        reporter.peak.reset();
        for read_only in [false, true] {
            let samples = run.compare(
                15,
                |round| first_answer(&path, make, round, read_only),
                |_| raw_open(&path.join(".orlop/metadata")),
            )?;
            let mode = if read_only { "read-only" } else { "read-write" };
            let name = format!("open/{}/{mode}", make.manifests());
            let goal = Goal::Ours(GOAL_MS);
            reporter.print(Line::new(&name, 1, "ms to first answer", &samples, goal))?;
        }
        fixture::discard(run, &path)?;
    }
    Ok(())
}

/// Milliseconds from nothing to the answers.
fn first_answer(path: &Path, make: Make, round: usize, read_only: bool) -> Outcome<f64> {
    let image = (round * 7919 + 1) % make.images;
    let (tag, expected) = (fixture::tag(image)?, fixture::image_digest(image));
    let start = Instant::now();
    let options = Options::new();
    let store = if read_only { options.open_read_only(path)? } else { options.open(path)? };
    let repository = store.default_repository();
    let resolved = repository.resolve(&tag)?;
    let referrers = repository.referrers(&expected).page()?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    let found = (resolved.map(|descriptor| descriptor.digest), referrers.descriptors.len());
    if found != (Some(expected), 5) {
        return Err(format!("wrong answer, found={found:?}").into());
    }
    store.close()?;
    Ok(elapsed)
}

/// Opening the same metadata for reading with RocksDB alone and its default options.
fn raw_open(path: &Path) -> Outcome<f64> {
    let options = rocksdb::Options::default();
    let start = Instant::now();
    let families = DB::list_cf(&options, path)?;
    let db = DB::open_cf_for_read_only(&options, path, families, false)?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    drop(db);
    Ok(elapsed)
}
