//! What the tests push: content that is computed anew from a seed.

use serde_json::{Value, json};

use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::store::{Batch, Repository};

pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A manifest with everything that it needs.
#[derive(Clone, Debug)]
pub(super) struct Artifact {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Vec<u8>>,
}

impl Artifact {
    /// An image with layers of these sizes, all different by `seed`.
    pub(super) fn image(seed: &str, layers: &[usize]) -> Self {
        let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"seed\":\"{seed}\"}}");
        let mut parts: Vec<Vec<u8>> =
            layers.iter().enumerate().map(|(n, size)| noise(&format!("{seed} {n}"), *size)).collect();
        let layers: Vec<Value> = parts.iter().map(|part| descriptor(LAYER, part)).collect();
        let body = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": descriptor(CONFIG, config.as_bytes()),
            "layers": layers,
        });
        parts.push(config.into_bytes());
        Self { bytes: serde_json::to_vec(&body).unwrap(), parts }
    }

    /// Something attached to `subject`.
    pub(super) fn attached(seed: &str, subject: &Self) -> Self {
        let statement = noise(seed, 300);
        let body = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "artifactType": "application/vnd.example.statement",
            "config": descriptor(EMPTY, b"{}"),
            "layers": [descriptor("text/plain", &statement)],
            "subject": descriptor(IMAGE, &subject.bytes),
        });
        Self { bytes: serde_json::to_vec(&body).unwrap(), parts: vec![b"{}".to_vec(), statement] }
    }

    pub(super) fn digest(&self) -> Digest {
        Algorithm::Sha256.digest(&self.bytes)
    }

    /// Its entry in an `index.json`.
    pub(super) fn entry(&self, name: &str) -> Value {
        let mut entry = descriptor(IMAGE, &self.bytes);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        entry
    }

    /// Adds all of it to a batch.
    pub(super) fn add(&self, batch: &mut Batch, repository: &Repository) -> Result<Digest> {
        for part in &self.parts {
            batch.push_bytes(repository, part.clone())?;
        }
        batch.push_manifest(repository, IMAGE, self.bytes.clone())
    }
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Algorithm::Sha256.digest(bytes).to_string(), "size": bytes.len() })
}

/// Reproducible bytes that do not compress and differ by seed.
pub(super) fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut block = Algorithm::Sha256.digest(seed.as_bytes());
    while bytes.len() < size {
        bytes.extend_from_slice(block.as_bytes());
        block = Algorithm::Sha256.digest(block.as_bytes());
    }
    bytes.truncate(size);
    bytes
}
