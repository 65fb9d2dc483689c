//! Small content: one by one, in batches, by many, for long, and again.

use bytes::Bytes;

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data::{self, SMALL};
use crate::bench::side_by_side;

const THREADS: usize = 8;

pub(super) fn single(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        ours.options().create(ours.path())?.close()?;
        return Ok(None);
    }
    let contents = contents(ours.cell.count(2000));
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let (mut done, of) = (0, contents.len());
    let clock = Clock::start(ours.cell)?;
    for bytes in contents {
        repository.push_bytes(bytes)?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    let measured = clock.stop_at(done, of, 0, ours.durable());
    store.close()?;
    Ok(Some(measured))
}

/// Contents in batches; `complete`: until the layout has them all.
pub(super) fn batches(ours: &Ours<'_>, count: usize, complete: bool) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        ours.options().create(ours.path())?.close()?;
        return Ok(None);
    }
    let each = ours.cell.count(1000);
    let contents = contents(count * each);
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let clock = Clock::start(ours.cell)?;
    for part in contents.chunks(each) {
        let mut batch = store.batch();
        for bytes in part {
            batch.push_bytes(&repository, bytes.clone())?;
        }
        batch.commit()?;
    }
    if complete {
        store.flush()?;
    }
    // A flush syncs what commits did not.
    let durable = if complete { Some(true) } else { ours.durable() };
    let measured = clock.stop(contents.len(), 0, durable);
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn concurrent(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        ours.options().create(ours.path())?.close()?;
        return Ok(None);
    }
    let contents = contents(THREADS * ours.cell.count(500));
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let clock = Clock::start(ours.cell)?;
    side_by_side(THREADS, contents.len(), |number| {
        repository.push_bytes(contents.get(number).cloned().unwrap_or_default())?;
        Ok(())
    })?;
    let measured = clock.stop(contents.len(), 0, ours.durable());
    drop(repository);
    store.close()?;
    Ok(Some(measured))
}

/// So many contents that are there, pushed again in so many passes.
pub(super) fn again(ours: &Ours<'_>, size: usize, count: usize, passes: usize) -> Outcome<Option<Measured>> {
    let count = ours.cell.count(count);
    let contents: Vec<Bytes> = (0..count).map(|seed| Bytes::from(data::content(seed as u64, size))).collect();
    if ours.prepares() {
        let store = fixture::loading(ours)?;
        let repository = store.default_repository();
        for part in contents.chunks(1000) {
            let mut batch = store.batch();
            for bytes in part {
                batch.push_bytes(&repository, bytes.clone())?;
            }
            batch.commit()?;
        }
        drop(repository);
        return fixture::finish(store).map(|()| None);
    }
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let clock = Clock::start(ours.cell)?;
    for _ in 0..passes {
        for bytes in &contents {
            repository.push_bytes(bytes.clone())?;
        }
    }
    let n = count * passes;
    let measured = clock.stop(n, (n * size) as u64, ours.durable());
    store.close()?;
    Ok(Some(measured))
}

fn contents(count: usize) -> Vec<Bytes> {
    (0..count).map(|seed| Bytes::from(data::content(seed as u64, SMALL))).collect()
}
