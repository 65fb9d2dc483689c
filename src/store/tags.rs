//! Tags: mutable names of manifests, changed by compare-and-set.

use std::time::SystemTime;

use super::batch::Expect;
use super::repository::Repository;
use super::retention::time_of;
use super::{Page, until};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::TagRecord;
use crate::oci::{Descriptor, Reference, Tag};

/// A tag and what it names.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagEntry {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// When it came to name that manifest, by the clock of whoever wrote it. Unknown after a rebuild, and for a tag that was
    /// in a layout before that became a store.
    pub changed: Option<SystemTime>,
}

impl Repository {
    /// Lets a tag name a manifest that the repository holds; answers what it named before.
    ///
    /// # Errors
    ///
    /// `Conflict` when the tag is not what was expected, naming what it is; `NotFound` when the repository does not hold
    /// the manifest; as [`Batch::commit`](super::Batch::commit).
    pub fn tag(&self, tag: &Tag, target: &Digest, expect: Expect) -> Result<Option<Digest>> {
        let mut batch = self.store().batch();
        batch.tag(self, tag, *target, expect);
        Ok(batch.commit()?.tags.first().and_then(|change| change.previous))
    }

    /// Removes a tag; answers what it named. What it named stays.
    ///
    /// # Errors
    ///
    /// `Conflict` when the tag is not what was expected; as [`Batch::commit`](super::Batch::commit).
    pub fn untag(&self, tag: &Tag, expect: Expect) -> Result<Option<Digest>> {
        let mut batch = self.store().batch();
        batch.untag(self, tag, expect);
        Ok(batch.commit()?.tags.first().and_then(|change| change.previous))
    }

    /// The manifest that a tag names.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>> {
        let view = self.view();
        let Some(id) = self.id(&view)? else { return Ok(None) };
        let Some(digest) = view.tag(id, tag.as_str())? else { return Ok(None) };
        self.describe(&view, &digest)
    }

    /// The manifest that a tag or a digest names.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn resolve_reference(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        match reference {
            Reference::Tag(tag) => self.resolve(tag),
            Reference::Digest(digest) => {
                let view = self.view();
                let _held = self.store().core().answering(&view, digest)?;
                self.describe(&view, digest)
            }
        }
    }

    /// Tags by pages in byte order: those after `after`, which need not exist. A limit of 0 gives nothing, and says that
    /// there is no more.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn tags(&self, after: Option<&str>, limit: usize) -> Result<Page<TagEntry>> {
        let view = self.view();
        let mut found = Vec::new();
        if limit > 0
            && let Some(id) = self.id(&view)?
        {
            view.tag_records(id, after, |tag, TagRecord { target: digest, changed }| {
                found.push(TagEntry { tag: stored_tag(tag)?, digest, changed: changed.and_then(time_of) });
                Ok(until(found.len() > limit))
            })?;
        }
        Ok(Page::cut(found, limit))
    }

    /// The tags that name a manifest, in byte order.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn tags_of(&self, digest: &Digest) -> Result<Vec<Tag>> {
        let view = self.view();
        let mut found = Vec::new();
        if let Some(id) = self.id(&view)? {
            view.tags_of(id, digest, |tag| {
                found.push(stored_tag(tag)?);
                Ok(until(false))
            })?;
        }
        Ok(found)
    }
}

/// A tag out of the metadata, which only ever took valid ones.
pub(super) fn stored_tag(tag: &str) -> Result<Tag> {
    tag.parse()
        .map_err(|_| Error::corrupt(format!("metadata holds an invalid tag, tag={}", tag.escape_debug())))
}
