//! A repository of a registry as a place that artifacts are copied from and to.

use std::collections::HashMap;
use std::io::Read;

use super::repository::RemoteRepository;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Reference, RepositoryName, Tag};
use crate::store::Page;
use crate::transfer::{Arrival, Fetched, FoundReferrers, Incoming, Ready, Sink, Source};

impl Source for RemoteRepository {
    fn place(&self) -> String {
        self.inner.session.place.clone()
    }

    fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>> {
        Self::resolve(self, &Reference::Tag(tag.clone()))
    }

    fn tags(&self, last: Option<&Tag>, limit: usize) -> Result<Page<Tag>> {
        let all = self.tags_from(last)?;
        let from = last.map_or(0, |last| all.partition_point(|tag| tag <= last));
        let rest = all.get(from..).unwrap_or_default();
        let items = rest.get(..limit.min(rest.len())).unwrap_or_default().to_vec();
        let more = items.len() < rest.len();
        Ok(Page::new(items, more))
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Fetched>> {
        Self::manifest(self, &Reference::Digest(*digest))
    }

    fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        let content = Self::content(self, descriptor, offset)?;
        Ok(content.map(|content| Box::new(content) as Box<dyn Read + Send>))
    }

    fn size(&self, descriptor: &Descriptor) -> Result<Option<u64>> {
        self.content_size(&descriptor.digest)
    }

    fn referrers(&self, subject: &Digest) -> Result<FoundReferrers> {
        Self::referrers(self, subject, None)
    }
}

impl Sink for RemoteRepository {
    fn place(&self) -> String {
        self.inner.session.place.clone()
    }

    /// Whether the registry has it, of the size that it is to have. What it has it hashed when it came.
    fn has(&self, descriptor: &Descriptor, _verify: bool) -> Result<bool> {
        Ok(self.content_size(&descriptor.digest)? == Some(descriptor.size))
    }

    fn has_manifest(&self, descriptor: &Descriptor, verify: bool) -> Result<bool> {
        let reference = Reference::Digest(descriptor.digest);
        if verify {
            return Ok(Self::manifest(self, &reference)?.is_some());
        }
        Ok(Self::resolve(self, &reference)?.is_some_and(|found| found.size == descriptor.size))
    }

    fn mount(&self, descriptor: &Descriptor, from: &RepositoryName) -> Result<bool> {
        Self::mount(self, &descriptor.digest, from)
    }

    fn push(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<Arrival> {
        self.push_content(descriptor, content)?;
        Ok(Arrival::Copied)
    }

    /// One after the other, since a registry takes no manifest before what it refers to; tags last of all.
    fn complete(&self, manifests: Vec<Ready>, tags: &[(Tag, Digest)]) -> Result<()> {
        let mut kept = HashMap::new();
        for ready in manifests {
            // A registry that has it checked then that it has everything that it refers to. Whoever pushed it may have been
            // interrupted before he listed it among the referrers of its subject.
            if ready.present {
                self.list_present(&ready.manifest)?;
            } else {
                self.push_manifest(&ready.manifest, &[])?;
            }
            let digest = ready.manifest.descriptor.digest;
            if tags.iter().any(|(_, named)| *named == digest) {
                kept.insert(digest, ready.manifest);
            }
        }
        for (tag, digest) in tags {
            let is_there = match kept.get(digest) {
                Some(manifest) => self.push_manifest(manifest, std::slice::from_ref(tag)).map(|()| true)?,
                None => self.tag(digest, tag)?,
            };
            if !is_there {
                let place = &self.inner.session.place;
                return Err(Error::not_found(format!(
                    "registry lacks the manifest that a tag is to name, registry={place}, tag={tag}, digest={digest}"
                )));
            }
        }
        Ok(())
    }
}
