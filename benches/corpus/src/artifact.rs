//! Artifacts of other registries as artifacts of OCI: as they are shipped, or unpacked.

use std::io::{Cursor, Read};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::deb::{self, Package};
use crate::image::Built;
use crate::layout::{Compression, Layer, Layout};
use crate::lock::{Artifact, Lock, Registry};
use crate::parallel;
use crate::tree::Tree;

/// What an artifact may hold when it is unpacked.
const UNPACKED_LIMIT: u64 = 2 << 30;

/// How artifacts are stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Form {
    /// The file of the registry.
    Shipped,
    /// Its content as a layer, compressed like the layers of images.
    Unpacked,
}

/// Stores all artifacts of a lock.
pub fn build(
    lock: &Lock,
    cache: &Cache,
    layout: &Layout,
    form: Form,
    compression: Compression,
    jobs: usize,
) -> Result<Built> {
    let made = parallel::map(jobs, &lock.artifacts, |artifact| {
        store(artifact, cache, layout, form, compression).with_context(|| format!("file={}", artifact.file))
    })?;
    let (manifests, layers) = made.into_iter().unzip();
    Ok(Built { manifests, layers })
}

fn store(
    artifact: &Artifact,
    cache: &Cache,
    layout: &Layout,
    form: Form,
    compression: Compression,
) -> Result<(crate::layout::Descriptor, Layer)> {
    let bytes = cache.read(&artifact.file, artifact.size, &artifact.sha256)?;
    let (artifact_type, media_type) = match artifact.registry {
        Registry::Wheel => ("application/vnd.orlop.corpus.wheel", "application/zip"),
        Registry::Npm => ("application/vnd.orlop.corpus.npm", Compression::Gzip.media_type()),
        Registry::Crate => ("application/vnd.orlop.corpus.crate", Compression::Gzip.media_type()),
    };
    let mut layer = match form {
        Form::Shipped => {
            let descriptor = layout.put(media_type, &bytes)?;
            Layer { diff_id: descriptor.digest.clone(), plain: descriptor.size, descriptor }
        }
        Form::Unpacked => layout.layer(&unpack(artifact.registry, &bytes)?, compression, 0)?,
    };
    let title = ("org.opencontainers.image.title".to_owned(), artifact.file.clone());
    layer.descriptor.annotations = Some([title].into());
    let name = format!("{}:{}", artifact.name.trim_start_matches('@'), artifact.version);
    let layers = std::slice::from_ref(&layer.descriptor);
    let manifest = layout.manifest(&name, Some(artifact_type), None, layers, None)?;
    Ok((manifest, layer))
}

fn unpack(registry: Registry, bytes: &[u8]) -> Result<Tree> {
    let mut tree = Tree::default();
    if registry != Registry::Wheel {
        let mut data = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).take(UNPACKED_LIMIT + 1).read_to_end(&mut data)?;
        ensure!(data.len() as u64 <= UNPACKED_LIMIT, "too large when unpacked, limit={UNPACKED_LIMIT}");
        tree.install(&Arc::new(Package::of_archive(data)?))?;
        return Ok(tree);
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut room = UNPACKED_LIMIT;
    for at in 0..archive.len() {
        let file = archive.by_index(at)?;
        if file.is_dir() {
            continue;
        }
        let path = deb::clean(file.name()?.as_bytes())?;
        let path = String::from_utf8(path).context("a name is not text")?;
        let mut content = Vec::new();
        file.take(room + 1).read_to_end(&mut content)?;
        room = room
            .checked_sub(content.len() as u64)
            .with_context(|| format!("too large when unpacked, limit={UNPACKED_LIMIT}"))?;
        // Times of a zip have no zone, and its modes are of the machine that made it: neither is taken.
        tree.put(&path, content, 0o644, 0);
    }
    Ok(tree)
}
