//! Manifests: kept byte for byte, under the media type with which each repository got them.

use bytes::Bytes;

use super::batch::{Expect, Pushed};
use super::repository::Repository;
use super::{Core, Page, until};
use crate::blobs::Blob;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::{ManifestRecord, View};
use crate::oci::{Descriptor, Manifest, Tag};

/// A manifest as a repository holds it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Media type as pushed into this repository, digest, size and artifact type; no annotations.
    pub descriptor: Descriptor,
    /// The bytes as pushed.
    pub content: Blob,
}

impl StoredManifest {
    /// Its edges.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the bytes are not what was accepted.
    pub fn parse(&self) -> Result<Manifest> {
        parse(&self.descriptor.media_type, &self.descriptor.digest, &self.content)
    }
}

impl Repository {
    /// Adds a manifest and lets tags name it, as one. Its bytes are kept as they are; it is named by their sha256.
    ///
    /// # Errors
    ///
    /// `NotFound` when the repository lacks something that it refers to (not its subject); `Invalid` for what
    /// [`Manifest::parse`] refuses; as [`Batch::commit`](super::Batch::commit).
    pub fn push_manifest(&self, media_type: &str, bytes: impl Into<Bytes>, tags: &[Tag]) -> Result<Pushed> {
        let mut batch = self.store().batch();
        let digest = batch.push_manifest(self, media_type, bytes)?;
        for tag in tags {
            batch.tag(self, tag, digest, Expect::Any);
        }
        let pushed = batch.commit()?.pushed;
        pushed.first().copied().ok_or_else(|| Error::corrupt("commit of one manifest answered nothing"))
    }

    /// A manifest by its digest.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<StoredManifest>> {
        let core = self.store().core();
        let view = self.view();
        // Given back before the bytes are read, which may find damage and mark it.
        let held = core.answering(&view, digest)?;
        let Some(id) = self.id(&view)? else { return Ok(None) };
        let Some(record) = view.manifest(id, digest)? else { return Ok(None) };
        drop(held);
        let Some(content) = core.load(&view, digest)? else { return Ok(None) };
        let descriptor = describe(digest, content.len() as u64, record);
        Ok(Some(StoredManifest { descriptor, content }))
    }

    /// The manifests of the repository, tagged or not, by pages in order of digests.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn manifests(&self, after: Option<&Digest>, limit: usize) -> Result<Page<Descriptor>> {
        let view = self.view();
        let mut found = Vec::new();
        if limit > 0
            && let Some(id) = self.id(&view)?
        {
            view.manifests(id, after, |digest, record| {
                found.push((digest, record));
                Ok(until(found.len() > limit))
            })?;
        }
        let Page { items, more } = Page::cut(found, limit);
        let mut page = Page { items: Vec::with_capacity(items.len()), more };
        for (digest, record) in items {
            if let Some(content) = view.content(&digest)? {
                page.items.push(describe(&digest, content.size, record));
            }
        }
        Ok(page)
    }

    /// The descriptor of a manifest that the repository holds.
    pub(super) fn describe(&self, view: &View<'_>, digest: &Digest) -> Result<Option<Descriptor>> {
        let Some(id) = self.id(view)? else { return Ok(None) };
        let Some(record) = view.manifest(id, digest)? else { return Ok(None) };
        Ok(view.content(digest)?.map(|content| describe(digest, content.size, record)))
    }
}

impl Core {
    /// A stored manifest's edges, under a media type. Not verified: who asks may hold the locks that marking damage needs.
    pub(super) fn parse_stored(
        &self,
        view: &View<'_>,
        media_type: &str,
        digest: &Digest,
    ) -> Result<Option<Manifest>> {
        let Some(content) = self.load_unverified(view, digest)? else { return Ok(None) };
        parse(media_type, digest, &content).map(Some)
    }
}

pub(super) fn describe(digest: &Digest, size: u64, record: ManifestRecord) -> Descriptor {
    let mut descriptor = Descriptor::new(record.media_type, *digest, size);
    descriptor.artifact_type = record.artifact_type;
    descriptor
}

fn parse(media_type: &str, digest: &Digest, content: &[u8]) -> Result<Manifest> {
    Manifest::read(media_type, content).map_err(|error| {
        Error::corrupt(format!("stored manifest cannot be parsed, digest={digest}, media_type={media_type}"))
            .with_source(error)
    })
}
