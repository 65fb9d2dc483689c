//! Large content: from streams, from files, out of another store.

use std::fs::File;
use std::io;

use orlop::oci::media_type;
use orlop::transfer::Copier;
use orlop::{Digest, Expected, Repository, Sharing};

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data::{self, LARGE_COUNT, Stream};
use crate::bench::side_by_side;

pub(super) fn streams(ours: &Ours<'_>, writers: usize) -> Outcome<Option<Measured>> {
    if ours.prepares() {
        ours.options().create(ours.path())?.close()?;
        return Ok(None);
    }
    let (block, size) = (Stream::block(), ours.cell.large());
    ingest(ours, writers, |repository, number| {
        repository.push_reader(Stream::new(&block, number as u64, size), &Expected::default())?;
        Ok(())
    })
}

pub(super) fn files(ours: &Ours<'_>, writers: usize) -> Outcome<Option<Measured>> {
    let source = |number: usize| ours.cell.dir.join(format!("source-{number}"));
    if ours.prepares() {
        ours.options().create(ours.path())?.close()?;
        let block = Stream::block();
        for number in 0..LARGE_COUNT {
            #[expect(clippy::disallowed_methods, reason = "a file to take in, no part of a store")]
            let mut file = File::create(source(number))?;
            io::copy(&mut Stream::new(&block, number as u64, ours.cell.large()), &mut file)?;
            file.sync_all()?;
        }
        return Ok(None);
    }
    ingest(ours, writers, |repository, number| {
        repository.push_file(source(number), &Expected::default())?;
        Ok(())
    })
}

/// All contents, side by side on so many threads.
fn ingest(
    ours: &Ours<'_>,
    writers: usize,
    push: impl Fn(&Repository, usize) -> Outcome<()> + Sync,
) -> Outcome<Option<Measured>> {
    let store = ours.options().open(ours.path())?;
    let repository = store.default_repository();
    let clock = Clock::start(ours.cell)?;
    side_by_side(writers, LARGE_COUNT, |number| push(&repository, number))?;
    let measured = clock.stop(LARGE_COUNT, LARGE_COUNT as u64 * ours.cell.large(), ours.durable());
    drop(repository);
    store.close()?;
    Ok(Some(measured))
}

/// One image of large layers into another store.
pub(super) fn copy(ours: &Ours<'_>, sharing: Sharing) -> Outcome<Option<Measured>> {
    let other = ours.cell.dir.join("other");
    let size = ours.cell.large();
    if ours.prepares() {
        let store = fixture::loading(ours)?;
        let repository = store.default_repository();
        let config = data::config(0);
        repository.push_bytes(config.clone())?;
        let block = Stream::block();
        let mut layers = Vec::new();
        for number in 0..LARGE_COUNT {
            let stream = Stream::new(&block, number as u64, size);
            let digest = repository.push_reader(stream, &Expected::default())?.digest;
            layers.push(data::descriptor(data::LAYER_TYPE, &digest.to_string(), usize::try_from(size)?));
        }
        let manifest =
            data::manifest(&fixture::described(data::CONFIG_TYPE, config.as_bytes()), &layers.join(","));
        repository.push_manifest(media_type::IMAGE_MANIFEST, manifest, &[data::tag(0).parse()?])?;
        drop(repository);
        ours.options().create(&other)?.close()?;
        return fixture::finish(store).map(|()| None);
    }
    let (from, to) = (ours.options().open(ours.path())?, ours.options().open(&other)?);
    let (source, sink) = (from.default_repository(), to.default_repository());
    let root: Digest = source.resolve(&data::tag(0).parse()?)?.ok_or("the image is gone")?.digest;
    let clock = Clock::start(ours.cell)?;
    Copier::new(&source, &sink).sharing(sharing).copy(&root, &[])?;
    let measured = clock.stop(LARGE_COUNT, LARGE_COUNT as u64 * size, ours.durable());
    drop((source, sink));
    from.close()?;
    to.close()?;
    Ok(Some(measured))
}
