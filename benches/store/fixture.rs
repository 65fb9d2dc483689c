//! Stores of realistic make: tagged images with five referrers each, and untagged ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use orlop::oci::{Tag, media_type};
use orlop::{Algorithm, Digest, Durability, Expect, Options, Publish, Store};

use crate::harness::{Outcome, Run, content};

/// The empty descriptor's content.
const EMPTY: &[u8] = b"{}";
const REFERRERS: usize = 5;

/// How many of each a store holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Make {
    /// Tagged images; each brings a config, a layer and five referrers.
    pub(crate) images: usize,
    /// Images without a tag.
    pub(crate) untagged: usize,
    /// Referrers of one further subject.
    pub(crate) one_subject: usize,
}

impl Make {
    pub(crate) fn manifests(self) -> usize {
        self.images * (1 + REFERRERS) + self.untagged + self.one_subject + usize::from(self.one_subject > 0)
    }
}

/// The tag of an image.
pub(crate) fn tag(image: usize) -> Outcome<Tag> {
    Ok(format!("v{image:07}").parse()?)
}

/// The digest of an image, tagged or (from `Make::images` on) not.
pub(crate) fn image_digest(image: usize) -> Digest {
    Digest::of(&image_manifest(image).2)
}

/// The path of a store of this make: one that an earlier run with `--keep` left, or a new one. It is built by a process of
/// its own, so that building leaves nothing in the memory of the phase.
pub(crate) fn store(run: &Run, make: Make) -> Outcome<PathBuf> {
    let path = run.path(&name(make));
    if run.keep() && path.with_extension("complete").exists() {
        return Ok(path);
    }
    eprintln!("building a store of {} manifests", make.manifests());
    let counts = format!("{},{},{}", make.images, make.untagged, make.one_subject);
    let program = std::env::current_exe()?;
    let status = Command::new(program)
        .args(["--build", &counts, "--dir"])
        .arg(run.path(""))
        .stdin(Stdio::null())
        .status()?;
    if status.success() { Ok(path) } else { Err(format!("building failed, status={status}").into()) }
}

/// Builds the store that `counts` describe, in this process.
pub(crate) fn build(run: &Run, counts: &str) -> Outcome<()> {
    let counts: Vec<usize> = counts.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let &[images, untagged, one_subject] = counts.as_slice() else {
        return Err("a store is described by three counts".into());
    };
    let make = Make { images, untagged, one_subject };
    let path = run.fresh(&name(make))?;
    let marker = path.with_extension("complete");
    run.retire(&marker)?;
    let store = Options::new().durability(Durability::Process).publish(Publish::OnClose).create(&path)?;
    fill(&store, make)?;
    store.flush()?;
    store.compact();
    store.close()?;
    fs::write(&marker, b"")?;
    Ok(())
}

fn name(make: Make) -> String {
    format!("store-{}-{}-{}", make.images, make.untagged, make.one_subject)
}

/// Removes what [`store`] built, unless it is to be kept.
pub(crate) fn discard(run: &Run, path: &Path) -> Outcome<()> {
    if run.keep() {
        return Ok(());
    }
    run.retire(&path.with_extension("complete"))?;
    run.retire(path)
}

fn fill(store: &Store, make: Make) -> Outcome<()> {
    let repository = store.default_repository();
    repository.push_bytes(EMPTY)?;
    let all: Vec<usize> = (0..make.images + make.untagged).collect();
    for part in all.chunks(100) {
        let mut batch = store.batch();
        for &image in part {
            let (config, layer, manifest) = image_manifest(image);
            batch.push_bytes(&repository, config)?;
            batch.push_bytes(&repository, layer)?;
            let size = manifest.len();
            let digest = batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, manifest)?;
            if image < make.images {
                batch.tag(&repository, &tag(image)?, digest, Expect::Any);
                for number in 0..REFERRERS {
                    let referrer = referrer_manifest(&digest, size, number);
                    batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, referrer)?;
                }
            }
        }
        batch.commit()?;
    }
    one_subject(store, make)
}

/// One image with as many referrers as are asked for.
fn one_subject(store: &Store, make: Make) -> Outcome<()> {
    if make.one_subject == 0 {
        return Ok(());
    }
    let repository = store.default_repository();
    let image = subject_image(make);
    let (config, layer, manifest) = image_manifest(image);
    let size = manifest.len();
    let mut batch = store.batch();
    batch.push_bytes(&repository, config)?;
    batch.push_bytes(&repository, layer)?;
    let digest = batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, manifest)?;
    batch.tag(&repository, &tag(image)?, digest, Expect::Any);
    batch.commit()?;
    let numbers: Vec<usize> = (0..make.one_subject).collect();
    for part in numbers.chunks(1000) {
        let mut batch = store.batch();
        for &number in part {
            let referrer = referrer_manifest(&digest, size, number);
            batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, referrer)?;
        }
        batch.commit()?;
    }
    Ok(())
}

/// The number of the image that has [`Make::one_subject`] referrers.
pub(crate) fn subject_image(make: Make) -> usize {
    make.images + make.untagged
}

/// Config, layer and manifest of an image.
pub(crate) fn image_manifest(image: usize) -> (Bytes, Bytes, Bytes) {
    let config = Bytes::from(format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"n":"{image}"}}}},"rootfs":{{"type":"layers"}}}}"#
    ));
    let layer = content(image as u64, 300);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        media_type::IMAGE_MANIFEST,
        media_type::IMAGE_CONFIG,
        Algorithm::Sha256.digest(&config),
        config.len(),
        media_type::LAYER_TAR_GZIP,
        Algorithm::Sha256.digest(&layer),
        layer.len(),
    );
    (config, layer, Bytes::from(manifest))
}

/// A referrer as attaching a signature or an SBOM makes, its payload in annotations.
fn referrer_manifest(subject: &Digest, size: usize, number: usize) -> Bytes {
    let kinds = ["application/spdx+json", "application/vnd.dev.cosign.signature.v1+json"];
    let kind = kinds.iter().cycle().nth(number % 2).copied().unwrap_or_default();
    let empty = Algorithm::Sha256.digest(EMPTY);
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{kind}","config":{{"mediaType":"{}","digest":"{empty}","size":2}},"layers":[{{"mediaType":"{}","digest":"{empty}","size":2}}],"subject":{{"mediaType":"{}","digest":"{subject}","size":{size}}},"annotations":{{"org.opencontainers.image.created":"2026-01-01T00:00:00Z","example.number":"{number}"}}}}"#,
        media_type::IMAGE_MANIFEST,
        media_type::EMPTY,
        media_type::EMPTY,
        media_type::IMAGE_MANIFEST,
    ))
}
