//! Archives of `docker save`: the images that `manifest.json` lists. Where the archive has no manifest of a registry for one, an
//! OCI manifest is made of it, always the same: the config as it is, and the layers as they lie in the archive, which is
//! uncompressed unless their first bytes say otherwise.

use std::collections::HashSet;
use std::io::Read;

use serde::Deserialize;

use super::codec::{Compression, MAGIC};
use super::contents::{Contents, Stored, Where};
use super::entries::{DOCKER_MANIFEST, Place, blob_digest};
use super::tar::failed;
use crate::digest::{Algorithm, Digest, Digester, excerpt};
use crate::error::{Error, Result};
use crate::oci::descriptor::Object;
use crate::oci::layout::INDEX_FILE;
use crate::oci::{Descriptor, MAX_SUCCESSORS, media_type};

/// The most images of one archive.
const MAX_IMAGES: usize = 100_000;

/// The largest config of an image.
const MAX_CONFIG: u64 = 16 << 20;

/// An image that `manifest.json` lists.
#[derive(Debug, Deserialize)]
pub(super) struct Image {
    #[serde(rename = "Config", default, deserialize_with = "crate::oci::descriptor::or_default")]
    config: String,
    #[serde(rename = "RepoTags", default, deserialize_with = "crate::oci::descriptor::or_default")]
    pub(super) names: Vec<String>,
    #[serde(rename = "Layers", default, deserialize_with = "crate::oci::descriptor::or_default")]
    layers: Vec<String>,
}

/// What a config says of the layers.
#[derive(Deserialize)]
struct Config {
    #[serde(default, deserialize_with = "crate::oci::descriptor::or_default")]
    rootfs: Option<Object<RootFs>>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "crate::oci::descriptor::or_default")]
    diff_ids: Vec<String>,
}

/// The images that an archive lists; none if it is not of docker.
pub(super) fn images(contents: &Contents, number: u32) -> Result<Vec<Image>> {
    let archive = contents.archive(number)?;
    let Some(bytes) = archive.document(DOCKER_MANIFEST)? else { return Ok(Vec::new()) };
    let images = match serde_json::from_slice::<Option<Vec<Object<Image>>>>(&bytes) {
        Ok(images) => images.unwrap_or_default(),
        // Beside an index it may be anything.
        Err(_) if archive.find(INDEX_FILE)?.is_some() => return Ok(Vec::new()),
        Err(error) => {
            let message = format!("cannot parse {DOCKER_MANIFEST}, archive={}", archive.name());
            return Err(Error::corrupt(message).with_source(error));
        }
    };
    if images.len() > MAX_IMAGES {
        return Err(Error::invalid(format!("archive has too many images, found={}", images.len())));
    }
    Ok(images.into_iter().map(|Object(image)| image).collect())
}

/// The digests of the configs that the archive's own manifests have.
pub(super) type Configs = HashSet<Digest>;

impl Image {
    /// Whether one of the manifests in the archive is of this image.
    pub(super) fn is_of(&self, configs: &Configs) -> bool {
        config_digest(&self.config).is_some_and(|digest| configs.contains(&digest))
    }

    /// Makes its manifest. None where the archive lacks the config, as docker lists images that it did not save.
    pub(super) fn manifest(&self, contents: &mut Contents, number: u32) -> Result<Option<Descriptor>> {
        let archive = contents.archive(number)?;
        let Some(place) = archive.find(&self.config)? else { return Ok(None) };
        let bytes = archive.bytes(place, MAX_CONFIG)?;
        let digest = Digest::of(&bytes);
        let config = Descriptor::new(media_type::IMAGE_CONFIG, digest, bytes.len() as u64);
        let Object(Config { rootfs }) = serde_json::from_slice(&bytes).map_err(|error| {
            let (config, archive) = (excerpt(&self.config), archive.name());
            Error::corrupt(format!("cannot parse the config of an image, config={config}, archive={archive}"))
                .with_source(error)
        })?;
        let diff_ids = rootfs.map(|Object(rootfs)| rootfs.diff_ids).unwrap_or_default();
        if self.layers.len() > MAX_SUCCESSORS {
            return Err(Error::invalid(format!("image has too many layers, found={}", self.layers.len())));
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        let mut stored = vec![(digest, Stored { size: place.size, place: Where::Whole(number, place) })];
        for (at, path) in self.layers.iter().enumerate() {
            let (descriptor, place) = layer(contents, number, path, diff_ids.get(at))?;
            stored.push((descriptor.digest, Stored { size: place.size, place: Where::Whole(number, place) }));
            layers.push(descriptor);
        }
        let manifest = manifest(&config, &layers)?;
        let digest = Digest::of(&manifest);
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, digest, manifest.len() as u64);
        stored.push((digest, Stored { size: descriptor.size, place: Where::Made(manifest.into()) }));
        for (digest, stored) in stored {
            contents.insert(digest, stored);
        }
        Ok(Some(descriptor))
    }
}

/// The manifest of an image, in one order of its members.
fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: &'a Descriptor,
        layers: &'a [Descriptor],
    }

    let media_type = media_type::IMAGE_MANIFEST;
    serde_json::to_vec(&Document { schema_version: 2, media_type, config, layers })
        .map_err(|error| Error::corrupt("a manifest cannot be written").with_source(error))
}

/// Finds a layer. What is not compressed is what the config says of it, which whoever takes it checks; what is has to be hashed.
fn layer(
    contents: &Contents,
    number: u32,
    path: &str,
    diff_id: Option<&String>,
) -> Result<(Descriptor, Place)> {
    let archive = contents.archive(number)?;
    let Some(place) = archive.find(path)? else {
        let (path, archive) = (excerpt(path), archive.name());
        return Err(Error::not_found(format!(
            "archive lacks the layer of an image, layer={path}, archive={archive}"
        )));
    };
    let fail = |error| failed(archive.name(), error);
    let mut head = Vec::new();
    archive.read(place, 0)?.take(MAGIC as u64).read_to_end(&mut head).map_err(fail)?;
    let media_type = match Compression::sniff(&head)? {
        Compression::Gzip => media_type::LAYER_TAR_GZIP,
        Compression::Zstd => media_type::LAYER_TAR_ZSTD,
        Compression::None => media_type::LAYER_TAR,
    };
    let known =
        if media_type == media_type::LAYER_TAR { diff_id.and_then(|id| id.parse().ok()) } else { None };
    let digest = match known.or_else(|| blob_digest(path)) {
        Some(digest) => digest,
        None => {
            let mut digester = Digester::new(Algorithm::Sha256);
            std::io::copy(&mut archive.read(place, 0)?, &mut digester).map_err(fail)?;
            digester.finish()
        }
    };
    Ok((Descriptor::new(media_type, digest, place.size), place))
}

/// The digest in the name of a config: `<hex>.json`, or a path below `blobs/`.
fn config_digest(path: &str) -> Option<Digest> {
    let hex = path.rsplit('/').next()?.trim_end_matches(".json");
    blob_digest(path).or_else(|| format!("sha256:{hex}").parse().ok())
}
