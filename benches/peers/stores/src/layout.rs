//! OCI layouts as any tool would write them, made by plain writes: what is read has to be there before, and making it by the
//! calls of a store that rewrites its index for every manifest would take hours.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data;

/// An image or a referrer of a layout: its manifest.
pub(crate) struct Manifest {
    pub(crate) text: String,
    pub(crate) digest: String,
}

impl Manifest {
    fn new(text: String) -> Self {
        let digest = digest(text.as_bytes());
        Self { text, digest }
    }

    fn descriptor(&self) -> String {
        data::descriptor(data::MANIFEST_TYPE, &self.digest, self.text.len())
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    let text: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{text}")
}

/// The manifest of the image of this number.
pub(crate) fn image(number: usize) -> Manifest {
    let (config, layer) = (data::config(number), data::layer(number));
    Manifest::new(data::manifest(
        &data::descriptor(data::CONFIG_TYPE, &digest(config.as_bytes()), config.len()),
        &data::descriptor(data::LAYER_TYPE, &digest(&layer), layer.len()),
    ))
}

/// Writes tagged images with so many referrers each.
pub(crate) fn write(root: &Path, images: usize, referrers: usize) -> anyhow::Result<()> {
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let empty = digest(data::EMPTY.as_bytes());
    put(&blobs, data::EMPTY.as_bytes())?;
    let mut entries = Vec::new();
    for number in 0..images {
        put(&blobs, data::config(number).as_bytes())?;
        put(&blobs, &data::layer(number))?;
        let image = image(number);
        put(&blobs, image.text.as_bytes())?;
        let descriptor = image.descriptor();
        let tag = data::tag(number);
        entries.push(format!(
            r#"{},"annotations":{{"org.opencontainers.image.ref.name":"{tag}"}}}}"#,
            descriptor.trim_end_matches('}')
        ));
        for referring in 0..referrers {
            let referrer = Manifest::new(data::referrer(&empty, &descriptor, referring));
            put(&blobs, referrer.text.as_bytes())?;
            entries.push(referrer.descriptor());
        }
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    Ok(fs::write(root.join("index.json"), index)?)
}

fn put(blobs: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let path = blobs.join(digest(bytes).trim_start_matches("sha256:"));
    fs::write(&path, bytes)?;
    Ok(path)
}
