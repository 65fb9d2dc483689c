//! Tags: set one by one, set at once, listed.

use orlop::Expect;
use orlop::oci::Tag;

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data;

const PAGE: usize = 100;
const PASSES: usize = 20;

fn tags(ours: &Ours<'_>) -> Outcome<Vec<Tag>> {
    (0..ours.cell.count(10_000)).map(|number| Ok(data::tag(number + 1).parse()?)).collect()
}

pub(super) fn one_by_one(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        return fixture::build(ours, 1, true, 0).map(|()| None);
    }
    let (tags, target) = (tags(ours)?, fixture::image_digest(0));
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let mut done = 0;
    let clock = Clock::start(ours.cell)?;
    for tag in &tags {
        repository.tag(tag, &target, Expect::Any)?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    let measured = clock.stop_at(done, tags.len(), 0, ours.durable());
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn at_once(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        return fixture::build(ours, 1, true, 0).map(|()| None);
    }
    let (tags, target) = (tags(ours)?, fixture::image_digest(0));
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let clock = Clock::start(ours.cell)?;
    let mut batch = store.batch();
    for tag in &tags {
        batch.tag(&repository, tag, target, Expect::Any);
    }
    batch.commit()?;
    let measured = clock.stop(tags.len(), 0, ours.durable());
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn pages(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let (tags, target) = (tags(ours)?, fixture::image_digest(0));
    if ours.prepares() {
        fixture::build(ours, 1, true, 0)?;
        let store = ours.options().open(ours.path())?;
        let repository = store.default_repository();
        let mut batch = store.batch();
        for tag in &tags {
            batch.tag(&repository, tag, target, Expect::Any);
        }
        batch.commit()?;
        return fixture::finish(store).map(|()| None);
    }
    let store = ours.options().open_read_only(ours.path())?;
    let repository = store.default_repository();
    let (mut pages, mut found) = (0, 0);
    let clock = Clock::start(ours.cell)?;
    for _ in 0..PASSES {
        let mut after: Option<String> = None;
        loop {
            let page = repository.tags(after.as_deref(), PAGE)?;
            pages += 1;
            found += page.items.len();
            match page.items.last().filter(|_| page.more) {
                Some(last) => after = Some(last.tag.to_string()),
                None => break,
            }
        }
    }
    let measured = clock.stop(pages, 0, None);
    if found != PASSES * (tags.len() + 1) {
        return Err(format!("wrong number of tags, found={found}").into());
    }
    store.close()?;
    Ok(Some(measured))
}
