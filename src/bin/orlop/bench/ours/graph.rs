//! Referrers, and the first answer of a store.

use orlop::Digest;
use orlop::oci::media_type;

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data::{self, Random};

/// Of each of many subjects.
const FIVE: usize = 5;
const LISTS: usize = 20;
const OPENS: usize = 5;

pub(super) fn one_subject(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let count = ours.cell.count(10_000);
    let (_, _, subject) = fixture::image(0);
    if ours.prepares() {
        fixture::build(ours, 1, true, 0)?;
        let store = ours.options().open(ours.path())?;
        let repository = store.default_repository();
        let numbers: Vec<usize> = (0..count).collect();
        for part in numbers.chunks(1000) {
            let mut batch = store.batch();
            for &number in part {
                let bytes = fixture::referrer(&subject, number);
                batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, bytes)?;
            }
            batch.commit()?;
        }
        return fixture::finish(store).map(|()| None);
    }
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let digest = Digest::of(subject.as_bytes());
    let mut found = 0;
    let clock = Clock::start(ours.cell)?;
    for _ in 0..LISTS {
        found += repository.referrers(&digest).all()?.len();
    }
    let measured = clock.stop(LISTS, 0, None);
    expect(found, LISTS * count)?;
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn many_subjects(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let count = ours.cell.count(10_000);
    if ours.prepares() {
        return fixture::build(ours, count, true, FIVE).map(|()| None);
    }
    let subjects: Vec<Digest> = (0..count).map(fixture::image_digest).collect();
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let (mut random, mut found) = (Random::new(1), 0);
    let clock = Clock::start(ours.cell)?;
    for _ in 0..count {
        let subject = subjects.get(random.below(count)).ok_or("no subject")?;
        found += repository.referrers(subject).page()?.descriptors.len();
    }
    let measured = clock.stop(count, 0, None);
    expect(found, count * FIVE)?;
    store.close()?;
    Ok(Some(measured))
}

/// From nothing to an answer, as a command line has to.
pub(super) fn open(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let count = ours.cell.count(10_000);
    if ours.prepares() {
        return fixture::build(ours, count, true, FIVE).map(|()| None);
    }
    let tag = data::tag(count / 2).parse()?;
    let mut found = 0;
    let clock = Clock::start(ours.cell)?;
    for _ in 0..OPENS {
        let store = ours.options().open(ours.path())?;
        let repository = store.default_repository();
        let digest = repository.resolve(&tag)?.ok_or("the tag is gone")?.digest;
        found += repository.referrers(&digest).page()?.descriptors.len();
        store.close()?;
    }
    let measured = clock.stop(OPENS, 0, None);
    expect(found, OPENS * FIVE)?;
    Ok(Some(measured))
}

fn expect(found: usize, expected: usize) -> Outcome<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("wrong number of referrers, expected={expected}, found={found}").into())
}
