//! The graph: what a manifest points to, what points to it, and the referrers of a subject.

use std::fmt;
use std::str::FromStr;

use super::repository::Repository;
use super::{Page, until};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::{ReferrerOrder, ReferrerRecord, ReferrerScan, View};
use crate::oci::{Descriptor, Role, Successor};

/// The order of a referrers listing.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// As they came into the repository.
    #[default]
    Insertion,
    /// Newest first by the annotation `org.opencontainers.image.created` or `io.cncf.oras.artifact.created`; those
    /// without a readable date last, as they came.
    CreatedDescending,
}

/// One page of the referrers of a subject.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReferrersPage {
    /// Descriptors with artifact type and annotations, as the distribution-spec says.
    pub descriptors: Vec<Descriptor>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<PageToken>,
}

/// A position in a listing, opaque to everybody but the store that gave it. Survives restarts; refused in another
/// listing than its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PageToken {
    /// Which listing it belongs to.
    listing: [u8; 4],
    position: Vec<u8>,
}

/// Default bounds of a page: what fits into the 4 MiB that clients of the distribution-spec accept.
const MAX_BYTES: usize = 4 << 20;
const MAX_COUNT: usize = 1000;
/// What a descriptor takes in JSON beside its texts.
const DESCRIPTOR_BYTES: usize = 160;

/// A listing of referrers, made by [`Repository::referrers`].
#[derive(Debug)]
#[must_use = "a listing is read by `page`"]
pub struct Referrers<'a> {
    repository: &'a Repository,
    subject: Digest,
    artifact_type: Option<String>,
    order: Order,
    limit: usize,
    max_bytes: usize,
    after: Option<PageToken>,
}

impl Repository {
    /// What a manifest refers to, in document order, its subject last. None when the repository does not hold it.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn successors(&self, digest: &Digest) -> Result<Option<Vec<Successor>>> {
        let Some(manifest) = self.manifest(digest)? else { return Ok(None) };
        let manifest = manifest.parse()?;
        let mut successors = manifest.successors().to_vec();
        if let Some(subject) = manifest.subject() {
            successors.push(Successor::new(Role::Subject, subject.clone()));
        }
        Ok(Some(successors))
    }

    /// The manifests of this repository that refer to a digest in any way, its referrers among them, by pages in order
    /// of digests.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn predecessors(
        &self,
        digest: &Digest,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<Descriptor>> {
        let view = self.view();
        let mut parents = Vec::new();
        if limit > 0
            && let Some(id) = self.id(&view)?
        {
            view.parents(id, digest, after, |parent, _| {
                parents.push(parent);
                Ok(until(parents.len() > limit))
            })?;
        }
        let Page { items, more } = Page::cut(parents, limit);
        let mut page = Page { items: Vec::with_capacity(items.len()), more };
        for parent in items {
            page.items.extend(self.describe(&view, &parent)?);
        }
        Ok(page)
    }

    /// The manifests of this repository whose subject has this digest, whether or not the subject is here.
    pub fn referrers(&self, subject: &Digest) -> Referrers<'_> {
        Referrers {
            repository: self,
            subject: *subject,
            artifact_type: None,
            order: Order::default(),
            limit: MAX_COUNT,
            max_bytes: MAX_BYTES,
            after: None,
        }
    }
}

impl Referrers<'_> {
    /// Only those of this artifact type.
    pub fn artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }

    /// In this order; as they came by default.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// At most so many on a page, 1,000 by default; at least one.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// At most about so many bytes of JSON on a page, 4 MiB by default. A page holds one descriptor however large.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The page that begins here.
    pub fn after(mut self, token: &PageToken) -> Self {
        self.after = Some(token.clone());
        self
    }

    /// Reads the page.
    ///
    /// # Errors
    ///
    /// `Invalid` for a token of another listing; `Io`, `Corrupt`.
    pub fn page(&self) -> Result<ReferrersPage> {
        let mut page = ReferrersPage { descriptors: Vec::with_capacity(self.limit.min(8)), next: None };
        let view = self.repository.view();
        let Some(repository) = self.repository.id(&view)? else { return Ok(page) };
        if let Some(token) = self.after.as_ref().filter(|token| token.listing != self.listing()) {
            return Err(Error::invalid(format!("page token belongs to another listing, token={token}")));
        }
        let scan = ReferrerScan {
            repository,
            subject: &self.subject,
            order: match self.order {
                Order::Insertion => ReferrerOrder::Insertion,
                Order::CreatedDescending => ReferrerOrder::Created,
            },
            artifact_type: self.artifact_type.as_deref(),
            after: self.after.as_ref().map(|token| token.position.as_slice()),
        };
        let mut bytes = 0;
        let mut last = Vec::new();
        view.referrers(&scan, |position, record| {
            let descriptor = self.describe(&view, record)?;
            bytes += json_size(&descriptor);
            let full = page.descriptors.len() >= self.limit || bytes > self.max_bytes;
            if full && !page.descriptors.is_empty() {
                page.next = Some(PageToken { listing: self.listing(), position: std::mem::take(&mut last) });
                return Ok(until(true));
            }
            page.descriptors.push(descriptor);
            last.clear();
            last.extend_from_slice(position);
            Ok(until(false))
        })?;
        Ok(page)
    }

    /// Reads the page that begins here and every one behind it. Memory grows with what there is.
    ///
    /// # Errors
    ///
    /// As [`Referrers::page`].
    pub fn all(mut self) -> Result<Vec<Descriptor>> {
        let mut descriptors = Vec::new();
        loop {
            let page = self.page()?;
            descriptors.extend(page.descriptors);
            self.after = page.next;
            if self.after.is_none() {
                return Ok(descriptors);
            }
        }
    }

    /// Annotations that were too many for the row are read from the manifest.
    fn describe(&self, view: &View<'_>, record: ReferrerRecord) -> Result<Descriptor> {
        let mut descriptor = record.descriptor;
        if record.annotations_elsewhere {
            let core = self.repository.store().core();
            if let Some(manifest) = core.parse_stored(view, &descriptor.media_type, &descriptor.digest)? {
                descriptor.annotations.clone_from(manifest.annotations());
            }
        }
        Ok(descriptor)
    }

    /// What tells this listing from others, so that a token is not taken for a position in a wrong one.
    fn listing(&self) -> [u8; 4] {
        let mut hasher = blake3::Hasher::new();
        let name = self.repository.name().as_str();
        for part in [name.as_bytes(), self.subject.to_string().as_bytes(), &[self.order as u8]] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        if let Some(artifact_type) = &self.artifact_type {
            hasher.update(artifact_type.as_bytes());
        }
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

fn json_size(descriptor: &Descriptor) -> usize {
    let text = |text: &str| {
        let escapes = text.bytes().map(|byte| match byte {
            b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 1,
            0..0x20 => 5,
            _ => 0,
        });
        text.len() + escapes.sum::<usize>()
    };
    let annotations: usize =
        descriptor.annotations.iter().map(|(key, value)| text(key) + text(value) + 6).sum();
    let artifact_type = descriptor.artifact_type.as_ref().map_or(0, |artifact_type| text(artifact_type) + 18);
    DESCRIPTOR_BYTES + text(&descriptor.media_type) + artifact_type + annotations
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.listing.iter().chain(&self.position) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for PageToken {
    type Err = Error;

    /// Reads a token back. `Invalid` for what cannot be one.
    fn from_str(text: &str) -> Result<Self> {
        let invalid =
            || Error::invalid(format!("page token is garbled, token={}", crate::digest::excerpt(text)));
        // A listing, and at most type hash, date and sequence behind it.
        if !text.len().is_multiple_of(2)
            || text.len() < 24
            || text.len() > 64
            || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(invalid());
        }
        let mut bytes = Vec::with_capacity(text.len() / 2);
        for pair in text.as_bytes().chunks(2) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            bytes.push(u8::from_str_radix(pair, 16).map_err(|_| invalid())?);
        }
        let (listing, position) = bytes.split_first_chunk().ok_or_else(invalid)?;
        Ok(Self { listing: *listing, position: position.to_vec() })
    }
}
