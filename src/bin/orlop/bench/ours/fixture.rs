//! Images with referrers, pushed in batches.

use orlop::oci::media_type;
use orlop::{Batch, Digest, Durability, Expect, Options, Publish, Repository, Store};

use super::Ours;
use crate::bench::Outcome;
use crate::bench::data;

/// Images to a batch.
const PART: usize = 100;

/// Config, layer and manifest of an image.
pub(super) fn image(number: usize) -> (String, Vec<u8>, String) {
    let (config, layer) = (data::config(number), data::layer(number));
    let manifest = data::manifest(
        &described(data::CONFIG_TYPE, config.as_bytes()),
        &described(data::LAYER_TYPE, &layer),
    );
    (config, layer, manifest)
}

/// The digest of an image's manifest.
pub(super) fn image_digest(number: usize) -> Digest {
    Digest::of(image(number).2.as_bytes())
}

pub(super) fn described(media_type: &str, bytes: &[u8]) -> String {
    data::descriptor(media_type, &Digest::of(bytes).to_string(), bytes.len())
}

/// The referrer of this number to a manifest.
pub(super) fn referrer(subject: &str, number: usize) -> String {
    let empty = Digest::of(data::EMPTY.as_bytes()).to_string();
    data::referrer(&empty, &described(data::MANIFEST_TYPE, subject.as_bytes()), number)
}

/// Adds an image to a batch; answers its manifest and the digest of that.
pub(super) fn push(batch: &mut Batch, repository: &Repository, number: usize) -> Outcome<(String, Digest)> {
    let (config, layer, manifest) = image(number);
    batch.push_bytes(repository, config)?;
    batch.push_bytes(repository, layer)?;
    let digest = batch.push_manifest(repository, media_type::IMAGE_MANIFEST, manifest.clone())?;
    Ok((manifest, digest))
}

/// A new store of so many images, with a tag each if that is wanted, and so many referrers each; filed, published and closed.
pub(super) fn build(ours: &Ours<'_>, images: usize, tagged: bool, referrers: usize) -> Outcome<()> {
    let store = loading(ours)?;
    let repository = store.default_repository();
    repository.push_bytes(data::EMPTY)?;
    let numbers: Vec<usize> = (0..images).collect();
    for part in numbers.chunks(PART) {
        let mut batch = store.batch();
        for &number in part {
            let (manifest, digest) = push(&mut batch, &repository, number)?;
            if tagged {
                batch.tag(&repository, &data::tag(number).parse()?, digest, Expect::Any);
            }
            for referring in 0..referrers {
                let bytes = referrer(&manifest, referring);
                batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, bytes)?;
            }
        }
        batch.commit()?;
    }
    finish(store)
}

/// A new store that syncs at its close.
pub(super) fn loading(ours: &Ours<'_>) -> Outcome<Store> {
    let options = Options::new().durability(Durability::Process).publish(Publish::OnClose);
    Ok(options.create(ours.path())?)
}

pub(super) fn finish(store: Store) -> Outcome<()> {
    store.flush()?;
    store.compact();
    store.close()?;
    Ok(())
}
