//! The list of referrers under a tag, where a registry keeps none itself (distribution-spec, "Referrers Tag Schema").

use serde::Serialize;

use super::referrers::{Gathered, List, WHAT, too_large};
use super::repository::RemoteRepository;
use super::retry::Attempts;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, ManifestKind, Tag, media_type};
use crate::transfer::{Fetched, FoundBy, FoundReferrers};

/// How much of an encoded digest a tag has.
const MAX_ENCODED: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: &'a [Descriptor],
}

/// What is under a fallback tag.
enum Listed {
    Nothing,
    /// A list, with the digest that it had.
    List(Vec<Descriptor>),
    /// A manifest that is no list: an image of cosign, or the subject itself.
    Other,
}

impl RemoteRepository {
    /// The referrers under the fallback tag.
    pub(super) fn by_fallback(&self, subject: &Digest) -> Result<FoundReferrers> {
        let mut gathered = Gathered::new(subject);
        if let Listed::List(list) = self.fallback(subject)? {
            let about = self.inner.session.about(WHAT);
            gathered.take(list).ok_or_else(|| about.broken("too many referrers"))?;
        }
        let mut referrers = gathered.referrers;
        if is_cut(subject) {
            // Two digests may begin alike, so the tag alone does not say of which the list is.
            let mut own = Vec::new();
            for referrer in referrers {
                // One that is not there belongs to either, and whoever reads it learns that it is missing.
                let is_own = match self.manifest(&referrer.digest.into())? {
                    None => true,
                    Some(manifest) => Manifest::read(&manifest.descriptor.media_type, &manifest.bytes)
                        .is_ok_and(|parsed| parsed.subject().is_some_and(|of| of.digest == *subject)),
                };
                if is_own {
                    own.push(referrer);
                }
            }
            referrers = own;
        }
        Ok(FoundReferrers::new(referrers, FoundBy::FallbackTag, 1))
    }

    /// Has the list under the fallback tag of `subject` name a manifest, unless the registry keeps referrers itself.
    pub(super) fn list_in_fallback(
        &self,
        manifest: &Fetched,
        parsed: &Manifest,
        subject: &Digest,
    ) -> Result<()> {
        // Some keep them and do not say so.
        if self.inner.has_api(subject)? {
            return Ok(());
        }
        let mut descriptor = manifest.descriptor.clone();
        descriptor.artifact_type = parsed.artifact_type().map(str::to_owned);
        descriptor.annotations = parsed.annotations().clone();
        self.change(subject, &|list| {
            let is_there = list.iter().any(|listed| listed.digest == descriptor.digest);
            if !is_there {
                list.push(descriptor.clone());
            }
            !is_there
        })
    }

    /// Has the list under the fallback tag of `subject` forget a manifest.
    pub(super) fn forget_in_fallback(&self, digest: &Digest, subject: &Digest) -> Result<()> {
        if self.inner.has_api(subject)? {
            return Ok(());
        }
        self.change(subject, &|list| {
            let before = list.len();
            list.retain(|listed| listed.digest != *digest);
            list.len() != before
        })
    }

    /// Changes the list until it is found as it was changed: others may write it at the same time, and a registry knows no
    /// compare-and-set.
    fn change(&self, subject: &Digest, edit: &dyn Fn(&mut Vec<Descriptor>) -> bool) -> Result<()> {
        let inner = &self.inner;
        let tag = tag_of(subject)?;
        let mut attempts = Attempts::new(&inner.session.host.options);
        let mut wrote = false;
        loop {
            let mut list = match self.fallback(subject)? {
                Listed::Nothing => Vec::new(),
                Listed::List(list) => list,
                Listed::Other => {
                    let place = &inner.session.place;
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!(
                            "something else has the tag that lists the referrers, registry={place}, tag={tag}"
                        ),
                    ));
                }
            };
            if !edit(&mut list) {
                return Ok(());
            }
            if wrote {
                let failure = inner.session.about("cannot list the manifest among the referrers");
                attempts.again(failure.broken("others change the list all the time"), None)?;
            }
            let document = Index { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests: &list };
            let bytes = serde_json::to_vec(&document)
                .map_err(|error| Error::invalid("cannot write an index").with_source(error))?;
            if bytes.len() > MAX_MANIFEST_SIZE {
                return Err(too_large(&inner.session.place));
            }
            let digest = Digest::of(&bytes);
            let descriptor = Descriptor::new(media_type::IMAGE_INDEX, digest, bytes.len() as u64);
            self.put(&Fetched::new(descriptor, bytes.into()), &tag.clone().into(), &[])?;
            wrote = true;
        }
    }

    fn fallback(&self, subject: &Digest) -> Result<Listed> {
        let Some(manifest) = self.manifest(&tag_of(subject)?.into())? else { return Ok(Listed::Nothing) };
        let kind = ManifestKind::of(&manifest.descriptor.media_type);
        if manifest.descriptor.digest == *subject || kind != Some(ManifestKind::ImageIndex) {
            return Ok(Listed::Other);
        }
        let about = self.inner.session.about(WHAT);
        let list = List::read(&manifest.bytes).ok_or_else(|| about.broken("the list cannot be read"))?;
        Ok(Listed::List(list))
    }
}

/// Whether the tag has only the beginning of the digest.
fn is_cut(subject: &Digest) -> bool {
    2 * subject.algorithm().digest_len() > MAX_ENCODED
}

/// The tag under which the referrers of a manifest are listed.
fn tag_of(subject: &Digest) -> Result<Tag> {
    let encoded = subject.encoded().to_string();
    let cut = encoded.get(..MAX_ENCODED).unwrap_or(&encoded);
    format!("{}-{cut}", subject.algorithm()).parse()
}
