//! Collecting: manifests that were deleted, with what only they referred to, out of stores of several sizes; beside unlinking
//! as many files of the same store.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use orlop::{Answers, Digest, Durability, Options, Publish};

use super::Reporter;
use crate::fixture::{self, Make};
use crate::harness::{Outcome, Run};
use crate::report::{Goal, Line, median};

/// Config, layer and manifest.
const FILES: usize = 3;
const GOAL: f64 = 2.0;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let some = run.count(1000, 100);
    // The largest last: building it takes long.
    for (live, gone, rounds) in [
        (run.count(10_000, 1000), some, 5),
        (run.count(70_000, 700), run.count(30_000, 300), 1),
        (run.count(100_000, 1500), some, 5),
        (run.count(1_000_000, 2000), some, 5),
    ] {
        if !run.wants(live) {
            continue;
        }
        let rounds = run.rounds(rounds);
        // Each round has one share that the store collects, and one that the floor unlinks.
        let make = Make { images: 0, untagged: live + gone * 2 * (rounds - 1), one_subject: 0 };
        let path = fixture::store(run, make)?;
        reporter.peak.reset();
        let mut deleting = Vec::new();
        let samples = run.compare(
            rounds,
            |round| {
                let (before, collecting) = collect(&path, 2 * round * gone, gone)?;
                deleting.push(before);
                Ok(collecting)
            },
            |round| unlink(&path.join("blobs/sha256"), (2 * round + 1) * gone, gone),
        )?;
        let name = format!("collect/{gone} of {live}");
        let line = Line::new(&name, gone, "ms", &samples, Goal::Ratio(GOAL))
            .detail("deleting_and_publishing_ms", median(&deleting))
            .detail("files", (gone * FILES) as f64);
        reporter.print(line)?;
        // What was taken from it is not there for a later run.
        run.retire(&path.with_extension("complete"))?;
        run.retire(&path)?;
    }
    Ok(())
}

/// Milliseconds for deleting so many manifests and publishing that, and for the collection of what they leave.
fn collect(path: &Path, first: usize, count: usize) -> Outcome<(f64, f64)> {
    let options = Options::new().durability(Durability::Power).publish(Publish::OnClose);
    let store = options.answers(Answers::Local).open(path)?;
    let repository = store.default_repository();
    let start = Instant::now();
    let all: Vec<usize> = (first..first + count).collect();
    for part in all.chunks(1000) {
        let mut batch = store.batch();
        for image in part {
            batch.delete_manifest(&repository, &fixture::image_digest(*image));
        }
        batch.commit()?;
    }
    store.flush()?;
    let before = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let report = store.collector().grace(Duration::ZERO).run()?;
    let collecting = start.elapsed().as_secs_f64() * 1e3;
    // Nothing refers to the empty content of the fixture; the first collection takes it as well.
    let expected = count * FILES;
    if !(expected..=expected + 1).contains(&(report.contents as usize)) {
        return Err(format!("wrong number of contents, expected={expected}, report={report:?}").into());
    }
    drop(repository);
    store.close()?;
    Ok((before, collecting))
}

/// Milliseconds for unlinking the files of so many images behind the store's back, in the order in which a collection does it,
/// and syncing their directory. They are as old as those that are collected: what was written a moment ago has its inodes and
/// names in the caches, and goes several times faster. The store is not used for anything else afterwards.
fn unlink(path: &Path, first: usize, count: usize) -> Outcome<f64> {
    let mut digests: Vec<Digest> = (first..first + count)
        .map(fixture::image_manifest)
        .flat_map(|(config, layer, manifest)| [config, layer, manifest].map(|content| Digest::of(&content)))
        .collect();
    digests.sort_unstable();
    let names: Vec<_> = digests.iter().map(|digest| path.join(digest.encoded().to_string())).collect();
    let dir = File::open(path)?;
    let start = Instant::now();
    for name in &names {
        fs::remove_file(name)?;
    }
    dir.sync_all()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
