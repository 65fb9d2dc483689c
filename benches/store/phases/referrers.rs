//! The referrers of one subject: five among 60,000 manifests, and 10,000 of one subject, with descriptors; beside a
//! RocksDB iterator over as many rows.

use std::time::Instant;

use orlop::{Digest, Options, Repository};
use rocksdb::{DB, WriteBatch};

use super::Reporter;
use crate::fixture::{self, Make};
use crate::floor;
use crate::harness::{Outcome, Random, Run, per_op};
use crate::report::{Goal, Line};

const TURN: usize = 1000;
/// Bytes of a row's value: a descriptor with two annotations.
const VALUE: usize = 150;
const PAGE_BYTES: usize = 64 << 20;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let images = run.count(10_000, 500);
    let make = Make { images, untagged: 0, one_subject: run.count(10_000, 500) };
    let path = fixture::store(run, make)?;
    let subjects: Vec<Digest> = (0..images).map(fixture::image_digest).collect();
    let subject = fixture::image_digest(fixture::subject_image(make));
    reporter.peak.reset();
    let store = Options::new().open(&path)?;
    let repository = store.default_repository();
    let floor_path = run.fresh("referrers-floor")?;
    let db = if run.memory() { None } else { Some(raw_rows(&floor_path, make)?) };
    let raw = |subject: usize, want: usize| match &db {
        Some(db) if floor::scan(db, &floor::key(subject as u64))?.0 == want => Ok(()),
        Some(_) => Err("the floor lost a row".into()),
        None => Outcome::Ok(()),
    };

    let (mut random, mut floor_random) = (Random::new(2), Random::new(2));
    let samples = run.compare(
        31,
        |_| few(&repository, &subjects, &mut random),
        |_| {
            let start = Instant::now();
            for _ in 0..TURN {
                raw(floor_random.below(images), 5)?;
            }
            Ok(per_op(start, TURN))
        },
    )?;
    reporter.print(Line::new("referrers/five", TURN, "us per look-up", &samples, Goal::Ours(6.0)))?;

    let samples = run.compare(
        15,
        |_| many(&repository, &subject, make.one_subject),
        |_| {
            let start = Instant::now();
            raw(images, make.one_subject)?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        },
    )?;
    let name = format!("referrers/{}", make.one_subject);
    reporter.print(Line::new(&name, make.one_subject, "ms for all", &samples, Goal::Ours(5.0)))?;
    drop(repository);
    store.close()?;
    drop(db);
    run.retire(&floor_path)?;
    fixture::discard(run, &path)
}

/// Microseconds per look-up of five referrers.
fn few(repository: &Repository, subjects: &[Digest], random: &mut Random) -> Outcome<f64> {
    let start = Instant::now();
    for _ in 0..TURN {
        let subject = subjects.get(random.below(subjects.len())).ok_or("no subject")?;
        let page = repository.referrers(subject).page()?;
        if std::hint::black_box(page.descriptors).len() != 5 {
            return Err(format!("wrong number of referrers, subject={subject}").into());
        }
    }
    Ok(per_op(start, TURN))
}

/// Milliseconds for all referrers of one subject, by pages. Freeing the pages is not counted.
fn many(repository: &Repository, subject: &Digest, expected: usize) -> Outcome<f64> {
    let start = Instant::now();
    let mut pages = Vec::new();
    let mut next = None;
    loop {
        let mut query = repository.referrers(subject).limit(expected).max_bytes(PAGE_BYTES);
        if let Some(token) = &next {
            query = query.after(token);
        }
        let page = query.page()?;
        pages.push(page.descriptors);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    let found: usize = pages.iter().map(Vec::len).sum();
    if found == expected {
        Ok(elapsed)
    } else {
        Err(format!("wrong number of referrers, found={found}").into())
    }
}

/// As many rows under as many prefixes.
fn raw_rows(path: &std::path::Path, make: Make) -> Outcome<DB> {
    let db = floor::open_rocksdb(path)?;
    let subjects =
        (0..5).flat_map(|_| 0..make.images).chain(std::iter::repeat_n(make.images, make.one_subject));
    let mut batch = WriteBatch::default();
    for (number, subject) in subjects.enumerate() {
        let mut key = floor::key(subject as u64).to_vec();
        key.extend_from_slice(&(number as u64).to_be_bytes());
        key.extend_from_slice(&floor::key((number + 1_000_000) as u64));
        batch.put(key, [b'x'; VALUE]);
        if batch.len() == 1000 {
            db.write(std::mem::take(&mut batch))?;
        }
    }
    db.write(batch)?;
    db.flush()?;
    db.compact_range::<&[u8], &[u8]>(None, None);
    Ok(db)
}
