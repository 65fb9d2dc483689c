//! The life of a store: collecting, taking in, rebuilding.

use std::fs;
use std::time::Duration;

use orlop::{Answers, Digest};

use super::{Ours, fixture};
use crate::bench::Outcome;
use crate::bench::cell::{Clock, Measured};
use crate::bench::data;

/// Config, layer and manifest.
const FILES: usize = 3;

pub(super) fn collect(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let gone = ours.cell.count(1000);
    let options = ours.options().answers(Answers::Local);
    if ours.prepares() {
        fixture::build(ours, ours.cell.count(10_000), false, 0)?;
        let store = options.open(ours.path())?;
        let repository = store.default_repository();
        let mut batch = store.batch();
        for number in 0..gone {
            batch.delete_manifest(&repository, &fixture::image_digest(number));
        }
        batch.commit()?;
        store.flush()?;
        store.close()?;
        return Ok(None);
    }
    let store = options.open(ours.path())?;
    let clock = Clock::start(ours.cell)?;
    let report = store.collector().grace(Duration::ZERO).run()?;
    let measured = clock.stop(gone, 0, ours.durable());
    // Nothing refers to the empty content, which goes as well.
    let expected = (gone * FILES) as u64;
    if !(expected..=expected + 1).contains(&report.contents) {
        return Err(format!("wrong number of contents, expected={expected}, report={report:?}").into());
    }
    store.close()?;
    Ok(Some(measured))
}

/// A layout as another tool writes it.
#[expect(clippy::disallowed_methods, reason = "what another tool would write, beside any store")]
pub(super) fn import(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let images = ours.cell.count(10_000);
    if ours.prepares() {
        let blobs = ours.path().join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        fs::write(ours.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut entries = Vec::new();
        for number in 0..images {
            let (config, layer, manifest) = fixture::image(number);
            for bytes in [config.as_bytes(), layer.as_slice(), manifest.as_bytes()] {
                fs::write(blobs.join(Digest::of(bytes).encoded().to_string()), bytes)?;
            }
            let entry = fixture::described(data::MANIFEST_TYPE, manifest.as_bytes());
            let tag = data::tag(number);
            let entry = entry.trim_end_matches('}');
            entries
                .push(format!(r#"{entry},"annotations":{{"org.opencontainers.image.ref.name":"{tag}"}}}}"#));
        }
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        fs::write(ours.path().join("index.json"), index)?;
        return Ok(None);
    }
    let clock = Clock::start(ours.cell)?;
    let store = ours.options().open_or_create(ours.path())?;
    store.flush()?;
    let measured = clock.stop(images, 0, ours.durable());
    let last = store.default_repository().resolve(&data::tag(images - 1).parse()?)?;
    last.ok_or("the last image was not taken in")?;
    store.close()?;
    Ok(Some(measured))
}

pub(super) fn rebuild(ours: &Ours<'_>) -> Outcome<Option<Measured>> {
    let images = ours.cell.count(10_000);
    if ours.prepares() {
        return fixture::build(ours, images, true, 0).map(|()| None);
    }
    let clock = Clock::start(ours.cell)?;
    ours.options().rebuild(ours.path())?;
    let measured = clock.stop(images, 0, ours.durable());
    let store = ours.options().open(ours.path())?;
    let last = store.default_repository().resolve(&data::tag(images - 1).parse()?)?;
    last.ok_or("the last image did not come back")?;
    store.close()?;
    Ok(Some(measured))
}
