//! Manifests as the verbs show them: JSON with the names that oras uses, and sizes.

use std::collections::BTreeSet;

use orlop::oci::media_type::is_non_distributable;
use orlop::oci::{Annotations, Descriptor, RepositoryName, Role};
use orlop::{Digest, Repository, Store};
use serde::Serialize;

use crate::error::Failure;
use crate::output;

/// How many rows are asked for at once.
const PAGE: usize = 1000;

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

/// What a manifest and everything below it comes to.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    /// Bytes, each content once, as the descriptors announce them.
    pub(crate) bytes: u64,
    /// Content that belongs there and is not in the repository.
    pub(crate) missing: Vec<Digest>,
    /// Manifests that an index lists and that are not in the repository, as in a copy of some platforms only.
    pub(crate) absent: Vec<Digest>,
    /// Manifests that are listed, whether they are there or not.
    pub(crate) listed: usize,
}

impl Extent {
    /// Walks from a manifest down; subjects do not count.
    pub(crate) fn of(repository: &Repository, descriptor: &Descriptor) -> Result<Self, Failure> {
        let mut extent = Self { bytes: descriptor.size, ..Self::default() };
        let mut seen = BTreeSet::from([descriptor.digest]);
        let mut manifests = vec![descriptor.digest];
        while let Some(digest) = manifests.pop() {
            for successor in repository.successors(&digest)?.unwrap_or_default() {
                let child = &successor.descriptor;
                if successor.role == Role::Subject || !seen.insert(child.digest) {
                    continue;
                }
                let is_there = repository.stat(&child.digest)?.is_some();
                if successor.role == Role::Manifest {
                    extent.listed += 1;
                    if is_there { manifests.push(child.digest) } else { extent.absent.push(child.digest) }
                } else if !is_there && child.urls.is_empty() && !is_non_distributable(&child.media_type) {
                    extent.missing.push(child.digest);
                }
                if is_there {
                    // Announced by a document of unknown origin, so the sum may be absurd.
                    extent.bytes = extent.bytes.saturating_add(child.size);
                }
            }
        }
        Ok(extent)
    }

    /// The size, and what is not there.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("({})", output::size(self.bytes));
        if !self.missing.is_empty() {
            text.push_str(&format!(
                " [missing: {} {}]",
                self.missing.len(),
                plural(self.missing.len(), "content")
            ));
        }
        if !self.absent.is_empty() {
            text.push_str(&format!(" [sparse: {} of {} manifests absent]", self.absent.len(), self.listed));
        }
        text
    }
}

pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// The bytes of a manifest and of everything below it that is there, each content once.
pub(crate) fn total_size(repository: &Repository, descriptor: &Descriptor) -> Result<u64, Failure> {
    Extent::of(repository, descriptor).map(|extent| extent.bytes)
}

/// Whether some manifest that contains this one, and is not only about it, is one that is asked for.
pub(crate) fn containers(
    repository: &Repository,
    digest: &Digest,
    is_wanted: impl Fn(&Digest) -> bool,
) -> Result<bool, Failure> {
    let mut after = None;
    loop {
        let page = repository.predecessors(digest, after.as_ref(), PAGE)?;
        for predecessor in page.items.iter().filter(|found| is_wanted(&found.digest)) {
            // A referrer does not keep its subject, but a list keeps what it lists.
            let edges = repository.successors(&predecessor.digest)?.unwrap_or_default();
            if edges.iter().any(|edge| edge.role != Role::Subject && edge.descriptor.digest == *digest) {
                return Ok(true);
            }
        }
        after = page.items.last().map(|predecessor| predecessor.digest);
        if !page.more {
            return Ok(false);
        }
    }
}

/// Every repository of a layout, the unnamed one first.
pub(crate) fn all_repositories(store: &Store) -> Result<Vec<RepositoryName>, Failure> {
    let mut names: Vec<RepositoryName> = Vec::new();
    loop {
        let page = store.repositories(names.last(), PAGE)?;
        names.extend(page.items);
        if !page.more {
            return Ok(names);
        }
    }
}
