//! What every place that artifacts are copied from or to can do: a repository of a store, of a registry, of an archive.

use std::io::Read;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::blobs::BlobReader;
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::{Descriptor, RepositoryName, Tag};
use crate::store::Page;

/// A manifest with its bytes as they were pushed; they are what the digest of the descriptor says.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Bytes,
}

impl Fetched {
    /// A manifest of which the caller has checked that the bytes are what the descriptor says.
    #[must_use]
    pub fn new(descriptor: Descriptor, bytes: Bytes) -> Self {
        Self { descriptor, bytes }
    }
}

/// How the referrers of a manifest were found.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FoundBy {
    /// The metadata of a store or the entries of a layout, which are complete.
    Layout,
    /// The referrers API of a registry, all its pages.
    Api,
    /// The fallback tag, where a registry has no referrers API.
    FallbackTag,
}

/// Everything that refers to a manifest.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct FoundReferrers {
    /// Their descriptors.
    pub referrers: Vec<Descriptor>,
    /// How they were found.
    pub by: FoundBy,
    /// Pages that were read.
    pub pages: u64,
}

impl FoundReferrers {
    /// An answer that is complete.
    #[must_use]
    pub fn new(referrers: Vec<Descriptor>, by: FoundBy, pages: u64) -> Self {
        Self { referrers, by, pages }
    }
}

/// A repository that artifacts are copied from.
///
/// An answer that something is not there (`None`, no referrers) is given only when the place said so: one that could not be asked, or
/// refused to answer, is an error.
pub trait Source: Send + Sync {
    /// What messages call the place, as `registry.example/app` or `oci:mirror`.
    fn place(&self) -> String;

    /// What a tag names.
    ///
    /// # Errors
    ///
    /// As the place.
    fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>>;

    /// Tags in the order of their bytes, after `last`, at most `limit`.
    ///
    /// # Errors
    ///
    /// As the place.
    fn tags(&self, last: Option<&Tag>, limit: usize) -> Result<Page<Tag>>;

    /// A manifest; its bytes are what the digest says.
    ///
    /// # Errors
    ///
    /// `Mismatch` when the place has other bytes; as the place.
    fn manifest(&self, digest: &Digest) -> Result<Option<Fetched>>;

    /// The bytes of content from `offset` on, not verified: who takes them does that.
    ///
    /// # Errors
    ///
    /// As the place; errors in between come from the reader.
    fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>>;

    /// How large content is that the place has, without its bytes where the place can tell. A place that was given no other way begins to read it, and
    /// takes the size that the descriptor says.
    ///
    /// # Errors
    ///
    /// As the place.
    fn size(&self, descriptor: &Descriptor) -> Result<Option<u64>> {
        Ok(self.content(descriptor, 0)?.map(|_| descriptor.size))
    }

    /// Everything that refers to a manifest.
    ///
    /// # Errors
    ///
    /// As the place. A place that cannot say is an error and not an empty list.
    fn referrers(&self, subject: &Digest) -> Result<FoundReferrers>;

    /// Manifests in the order of their digests, tagged or not, after `last`, at most `limit`. None where the place cannot list what has no
    /// tag.
    ///
    /// # Errors
    ///
    /// As the place.
    fn manifests(&self, _last: Option<&Digest>, _limit: usize) -> Result<Option<Page<Descriptor>>> {
        Ok(None)
    }

    /// Where a content stands in a place that is best read in its order, from its beginning to its end; None where any order does.
    fn position(&self, _digest: &Digest) -> Option<(u32, u64)> {
        None
    }

    /// Content as a file of this machine, so that a sink can share its blocks. None where there is none.
    ///
    /// # Errors
    ///
    /// As the place.
    fn local(&self, _digest: &Digest) -> Result<Option<BlobReader>> {
        Ok(None)
    }
}

/// Content on its way into a [`Sink`], which may begin to read it in the middle, and again.
///
/// Nothing of it needs to be had alone, so that one can tell how far it is while it is read.
pub trait Incoming: Sync {
    /// The bytes from `offset` on; exactly those that are left of the content's size, or the read fails. What was done before counts
    /// as `offset` then.
    ///
    /// # Errors
    ///
    /// As the source; `NotFound` when it lacks the content.
    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// The content as a file of this machine, if it is one.
    ///
    /// # Errors
    ///
    /// As the source.
    fn local(&self) -> Result<Option<BlobReader>>;

    /// Told that so many bytes of the content are done in all; if it breaks, the sink keeps what it can resume and ends with
    /// `Interrupted`.
    fn advance(&self, done: u64) -> ControlFlow<()>;
}

/// A manifest of which everything that is not absent on purpose has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// The manifest.
    pub manifest: Fetched,
    /// Whether something that it refers to is left out, with the source or on purpose.
    pub sparse: bool,
    /// Whether [`Sink::has_manifest`] said that it is there: who never takes a manifest before what it refers to may pass it over then.
    pub present: bool,
}

impl Ready {
    /// A manifest that may be completed.
    #[must_use]
    pub fn new(manifest: Fetched, sparse: bool) -> Self {
        Self { manifest, sparse, present: false }
    }
}

/// How content came to be in a [`Sink`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// It came whole.
    Copied,
    /// It went on from bytes that an earlier run had brought: so many.
    Resumed(u64),
}

/// A repository that artifacts are copied to.
pub trait Sink: Send + Sync {
    /// What messages call the place.
    fn place(&self) -> String;

    /// Whether content is there and held by this repository, or is so from the next [`Sink::complete`] or [`Sink::keep`] on. With `verify` a place that can read what it has hashes it; damaged
    /// content is not there.
    ///
    /// # Errors
    ///
    /// As the place.
    fn has(&self, descriptor: &Descriptor, verify: bool) -> Result<bool>;

    /// Whether a manifest is there and held by this repository as one. It may lack what it refers to.
    ///
    /// # Errors
    ///
    /// As the place.
    fn has_manifest(&self, descriptor: &Descriptor, verify: bool) -> Result<bool>;

    /// Takes content from another repository of the same place without moving bytes; false where that cannot be.
    ///
    /// # Errors
    ///
    /// As the place.
    fn mount(&self, descriptor: &Descriptor, from: &RepositoryName) -> Result<bool>;

    /// Takes content in. Nothing is there under its digest before all of it is, and is what the digest says.
    ///
    /// # Errors
    ///
    /// `Mismatch`, `Interrupted`; as the place and as the source.
    fn push(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<Arrival>;

    /// Takes manifests in, in this order (what is referred to comes first), and then lets tags name manifests that are there, of this
    /// call or of one before; where the place can, all at once. No call of [`Sink::push`] is under way.
    ///
    /// # Errors
    ///
    /// As the place.
    fn complete(&self, manifests: Vec<Ready>, tags: &[(Tag, Digest)]) -> Result<()>;

    /// Keeps what came so far for the next run to find, when this one ends before its manifests are there. Nothing where that is so
    /// anyway.
    ///
    /// # Errors
    ///
    /// As the place.
    fn keep(&self) -> Result<()> {
        Ok(())
    }
}
