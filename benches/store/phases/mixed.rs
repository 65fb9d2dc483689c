//! A mixed load over a large store, for its memory: look-ups, reads, single pushes, bursts, large content, tags that move, and
//! the publishing of all of it.

use std::io::Write;
use std::time::{Duration, Instant};

use orlop::{Algorithm, Expect, Expected, Options, Store};

use super::Reporter;
use crate::fixture::{self, Make};
use crate::harness::{Outcome, Random, Run, Samples, content};
use crate::report::{Goal, Line};

const PAGE: usize = 1000;
/// Bytes of the large content, pushed in pieces.
const LARGE: usize = 64 << 20;
const PIECE: usize = 1 << 20;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let make = Make { images: run.count(100_000, 5000), untagged: run.count(100_000, 5000), one_subject: 0 };
    let path = fixture::store(run, make)?;
    reporter.peak.reset();
    let store = Options::new().open(&path)?;
    // Content of this run alone, also when the store is kept between runs.
    let fresh = u64::from(std::process::id()) << 32;
    let mut random = Random::new(fresh);
    let end = Instant::now() + Duration::from_secs(run.count(30, 3) as u64);
    let (mut cycles, start) = (0, Instant::now());
    while Instant::now() < end {
        look(&store, make, &mut random)?;
        write(&store, make, &mut random)?;
        cycles += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    store.flush()?;
    let flush = start.elapsed().as_secs_f64();
    store.close()?;
    let samples = Samples { ours: vec![seconds * 1e3 / f64::from(cycles)], floor: Vec::new() };
    let name = format!("mixed/{}", make.manifests());
    let line = Line::new(&name, cycles as usize, "ms per cycle", &samples, Goal::None);
    reporter.print(line.detail("final_flush_seconds", flush))?;
    fixture::discard(run, &path)
}

/// Reads all over the store.
fn look(store: &Store, make: Make, random: &mut Random) -> Outcome<()> {
    let repository = store.default_repository();
    for _ in 0..PAGE {
        let image = random.below(make.images);
        let descriptor = repository.resolve(&fixture::tag(image)?)?.ok_or("a tag is gone")?;
        repository.referrers(&descriptor.digest).page()?;
        let manifest = repository.manifest(&descriptor.digest)?.ok_or("a manifest is gone")?;
        for successor in repository.successors(&descriptor.digest)?.unwrap_or_default() {
            repository.get(&successor.descriptor.digest)?.ok_or("content is gone")?;
        }
        std::hint::black_box(manifest.content.len());
    }
    let after = fixture::tag(random.below(make.images))?;
    repository.tags(Some(after.as_str()), PAGE)?;
    let digest = fixture::image_digest(random.below(make.images));
    repository.manifests(Some(&digest), PAGE)?;
    repository.contents(Some(&digest), PAGE)?;
    Ok(())
}

/// Single pushes, a burst, a large content, a tag that moves.
fn write(store: &Store, make: Make, random: &mut Random) -> Outcome<()> {
    let repository = store.default_repository();
    for _ in 0..20 {
        repository.push_bytes(content(random.next(), 4096))?;
    }
    let mut batch = store.batch();
    for _ in 0..PAGE {
        batch.push_bytes(&repository, content(random.next(), 4096))?;
    }
    batch.commit()?;
    let mut ingest = store.ingest(Algorithm::Sha256)?;
    for _ in 0..LARGE / PIECE {
        ingest.write_all(&content(random.next(), PIECE))?;
    }
    let large = ingest.finish(&Expected::default())?;
    repository.push(large)?;
    let image = random.below(make.images);
    repository.tag(&fixture::tag(image)?, &fixture::image_digest(image), Expect::Any)?;
    Ok(())
}
