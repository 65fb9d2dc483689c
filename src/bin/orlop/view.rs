//! Manifests as the verbs show them: JSON with the names that oras uses, and sizes.

use std::collections::BTreeSet;

use orlop::oci::{Annotations, Descriptor, Role};
use orlop::{Digest, Repository};
use serde::Serialize;

use crate::error::Failure;

/// A manifest or a file. `reference` can be given to any verb that reads.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    pub(crate) reference: String,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub(crate) annotations: Annotations,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
}

impl View {
    pub(crate) fn new(reference: String, descriptor: &Descriptor) -> Self {
        Self {
            reference,
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            annotations: descriptor.annotations.clone(),
            artifact_type: descriptor.artifact_type.clone(),
        }
    }

    /// What people look for first: the artifact type, and the media type where there is none.
    pub(crate) fn kind(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.media_type)
    }
}

/// The descriptor with what only the manifest itself says: its artifact type and its annotations.
pub(crate) fn complete(repository: &Repository, descriptor: &Descriptor) -> Result<Descriptor, Failure> {
    let mut descriptor = descriptor.clone();
    if let Some(stored) = repository.manifest(&descriptor.digest)? {
        let manifest = stored.parse()?;
        descriptor.artifact_type = manifest.artifact_type().map(ToOwned::to_owned);
        descriptor.annotations = manifest.annotations().clone();
    }
    Ok(descriptor)
}

/// The bytes of a manifest and of everything below it, each content once, as their descriptors announce them.
pub(crate) fn total_size(repository: &Repository, descriptor: &Descriptor) -> Result<u64, Failure> {
    let mut seen = BTreeSet::from([descriptor.digest]);
    let mut total = descriptor.size;
    let mut manifests = vec![descriptor.digest];
    while let Some(digest) = manifests.pop() {
        for successor in repository.successors(&digest)?.unwrap_or_default() {
            let child = &successor.descriptor;
            if successor.role == Role::Subject || !seen.insert(child.digest) {
                continue;
            }
            // Announced by a document of unknown origin, so the sum may be absurd.
            total = total.saturating_add(child.size);
            if successor.role == Role::Manifest {
                manifests.push(child.digest);
            }
        }
    }
    Ok(total)
}
