//! 4 KiB contents read at random over 80 MB, after flush and compaction, beside open, read, close and one RocksDB get
//! (two through a repository).

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use orlop::{Digest, Options, Store};
use rocksdb::{DB, ReadOptions};

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Random, Run, content, per_op};
use crate::report::{Goal, Line};

const SIZE: usize = 4096;
/// Small enough that both sides of a round see the same disturbances.
const TURN: usize = 1000;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let n = run.count(20_000, 2000);
    let path = run.fresh("read-ours")?;
    let digests = fill(&path, n)?;
    reporter.peak.reset();
    let store = Options::new().open(&path)?;
    let floor = if run.memory() { None } else { Some(Floor::new(run, n)?) };
    for through in [false, true] {
        let gets = 1 + usize::from(through);
        let mut random = Random::new(1);
        let mut floor_random = Random::new(1);
        let samples = run.compare(
            n.div_ceil(TURN) * 3,
            |_| ours(&store, &digests, &mut random, through),
            |_| floor.as_ref().map_or(Ok(f64::NAN), |floor| floor.read(&mut floor_random, gets)),
        )?;
        let name = if through { "read/repository" } else { "read/unscoped" };
        reporter.print(Line::new(name, TURN, "us per read", &samples, Goal::Ratio(1.15)))?;
    }
    store.close()?;
    if let Some(floor) = floor {
        floor.discard(run)?;
    }
    run.retire(&path)
}

/// A store of `n` contents, all filed, closed and compacted.
fn fill(path: &PathBuf, n: usize) -> Outcome<Vec<Digest>> {
    let store = Options::new().create(path)?;
    let repository = store.default_repository();
    let mut digests = Vec::with_capacity(n);
    for first in (0..n).step_by(1000) {
        let mut batch = store.batch();
        for seed in first..(first + 1000).min(n) {
            digests.push(batch.push_bytes(&repository, content(seed as u64, SIZE))?);
        }
        batch.commit()?;
    }
    store.flush()?;
    store.compact();
    store.close()?;
    Ok(digests)
}

fn ours(store: &Store, digests: &[Digest], random: &mut Random, through: bool) -> Outcome<f64> {
    let repository = store.default_repository();
    let unscoped = store.unscoped();
    let start = Instant::now();
    for _ in 0..TURN {
        let digest = digests.get(random.below(digests.len())).ok_or("no digest")?;
        let blob = if through { repository.get(digest)? } else { unscoped.get(digest)? };
        let blob = blob.ok_or("the store lost a content")?;
        if std::hint::black_box(blob.len()) != SIZE {
            return Err(format!("wrong size, digest={digest}, size={}", blob.len()).into());
        }
    }
    Ok(per_op(start, TURN))
}

/// The same files under their final names and as many rows in a RocksDB.
struct Floor {
    path: PathBuf,
    files: Vec<PathBuf>,
    db: DB,
}

impl Floor {
    fn new(run: &Run, n: usize) -> Outcome<Self> {
        let path = run.fresh("read-floor")?;
        let blobs = path.join("blobs");
        fs::create_dir_all(&blobs)?;
        let mut files = Vec::with_capacity(n);
        for seed in 0..n as u64 {
            let file = blobs.join(floor::name(seed));
            floor::write_file(&file, &content(seed, SIZE))?;
            files.push(file);
        }
        let db = floor::open_rocksdb(&path.join("rows"))?;
        floor::fill(&db, n, 16)?;
        Ok(Self { path, files, db })
    }

    fn read(&self, random: &mut Random, gets: usize) -> Outcome<f64> {
        let options = ReadOptions::default();
        let start = Instant::now();
        for _ in 0..TURN {
            let number = random.below(self.files.len());
            for _ in 0..gets {
                floor::get(&self.db, &options, &floor::key(number as u64))?;
            }
            floor::read_file(self.files.get(number).ok_or("no file")?, SIZE)?;
        }
        Ok(per_op(start, TURN))
    }

    fn discard(self, run: &Run) -> Outcome<()> {
        drop(self.db);
        run.retire(&self.path)
    }
}
