//! Reading: large and small content, whole and in parts.

use std::hint::black_box;
use std::io::Read;

use orlop::{Digest, Expected, Verify};

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data::{self, BLOCK, Random, SMALL, Stream};

const LARGE: usize = 4;
const PAGE: usize = 4096;

/// A store of large contents, and their digests.
fn fill(ours: &Ours<'_>) -> Outcome<()> {
    let store = fixture::loading(ours)?;
    let repository = store.default_repository();
    let block = Stream::block();
    let mut digests = String::new();
    for number in 0..LARGE {
        let stream = Stream::new(&block, number as u64, ours.cell.large());
        let pushed = repository.push_reader(stream, &Expected::default())?;
        digests.push_str(&format!("{}\n", pushed.digest));
    }
    drop(repository);
    #[expect(clippy::disallowed_methods, reason = "beside the store, no part of it")]
    std::fs::write(ours.cell.dir.join("digests"), digests)?;
    fixture::finish(store)
}

fn digests(ours: &Ours<'_>) -> Outcome<Vec<Digest>> {
    #[expect(clippy::disallowed_methods, reason = "beside the store, no part of it")]
    let text = std::fs::read_to_string(ours.cell.dir.join("digests"))?;
    text.lines().map(|line| Ok(line.parse()?)).collect()
}

pub(super) fn sequential(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        return fill(ours).map(|()| None);
    }
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let digests = digests(ours)?;
    let mut buffer = vec![0; BLOCK];
    let mut bytes = 0;
    let clock = Clock::start(ours.cell)?;
    for digest in &digests {
        let mut reader = repository.reader(digest)?.ok_or("a content is gone")?;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            black_box(buffer.first());
        }
    }
    let measured = clock.stop(digests.len(), bytes, None);
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn mapped(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    whole(ours, Verify::Never)
}

pub(super) fn verified(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    whole(ours, Verify::Always)
}

fn whole(ours: &Ours<'_>, verify: Verify) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        return fill(ours).map(|()| None);
    }
    let store = ours.options().verify(verify).open_read_only(ours.path())?;
    let repository = store.default_repository();
    let digests = digests(ours)?;
    let mut bytes = 0;
    let clock = Clock::start(ours.cell)?;
    for digest in &digests {
        let blob = repository.get(digest)?.ok_or("a content is gone")?;
        bytes += blob.len() as u64;
        black_box(blob.iter().step_by(PAGE).fold(0_u64, |sum, byte| sum + u64::from(*byte)));
    }
    let measured = clock.stop(digests.len(), bytes, None);
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn small(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let count = ours.cell.count(20_000);
    if ours.prepares() {
        let store = fixture::loading(ours)?;
        let repository = store.default_repository();
        let numbers: Vec<usize> = (0..count).collect();
        for part in numbers.chunks(1000) {
            let mut batch = store.batch();
            for &seed in part {
                batch.push_bytes(&repository, data::content(seed as u64, SMALL))?;
            }
            batch.commit()?;
        }
        drop(repository);
        return fixture::finish(store).map(|()| None);
    }
    let digests: Vec<Digest> =
        (0..count).map(|seed| Digest::of(&data::content(seed as u64, SMALL))).collect();
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let (mut random, mut bytes) = (Random::new(1), 0);
    let clock = Clock::start(ours.cell)?;
    for _ in 0..count {
        let digest = digests.get(random.below(count)).ok_or("no digest")?;
        bytes += repository.get(digest)?.ok_or("a content is gone")?.len();
    }
    let measured = clock.stop(count, bytes as u64, None);
    if bytes != count * SMALL {
        return Err(format!("wrong number of bytes, found={bytes}").into());
    }
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn ranges(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        return fill(ours).map(|()| None);
    }
    let count = ours.cell.count(20_000);
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let digest = digests(ours)?.first().copied().ok_or("no digest")?;
    let pages = usize::try_from(ours.cell.large())? / PAGE;
    let mut random = Random::new(1);
    let mut bytes = 0;
    let clock = Clock::start(ours.cell)?;
    for _ in 0..count {
        let start = (random.below(pages) * PAGE) as u64;
        bytes += repository.range(&digest, start..start + PAGE as u64)?.ok_or("the content is gone")?.len();
    }
    let measured = clock.stop(count, bytes as u64, None);
    store.close()?;
    Ok(Some(measured))
}
