//! What came of a set of volumes while others are still to come: in a repository of its own, named, so that it stays.
//!
//! Each visit leaves manifests under the tags `content-<i>`, whose layers are the contents that came, and the parts of contents
//! that are divided, each with what it is a part of; and then one without layers under `volume-<k>` for each volume that was there.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Watch;
use super::import::{Imported, ingest};
use super::open::Archive;
use super::proof::is_present;
use super::volume::Listed;
use crate::blobs::{Content, Expected};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Manifest, RepositoryName, Tag, media_type};
use crate::store::{Batch, Expect, Repository, Store};

/// Of a part: the content, its size, and where in it the part begins.
const PART_OF: &str = "dev.orlop.part.of";
const PART_SIZE: &str = "dev.orlop.part.size";
const PART_OFFSET: &str = "dev.orlop.part.offset";

/// What such a manifest says it is.
const ARTIFACT_TYPE: &str = "application/vnd.orlop.volume";
/// The type of contents of which only their volume knows what they are.
const CONTENT: &str = "application/octet-stream";
/// Layers of one of them, and bytes of new content, after which it is committed.
const LAYERS: usize = 5000;
const COMMIT_EVERY: u64 = 256 << 20;

/// A part of a content.
#[derive(Clone, Copy, Debug)]
struct Part {
    length: u64,
    place: PartPlace,
}

#[derive(Clone, Copy, Debug)]
enum PartPlace {
    /// In the store, under its own digest.
    Stored(Digest),
    /// In the volumes of this visit: the number of the part there.
    Here(usize),
}

/// What came before, and what parts come now.
#[derive(Debug, Default)]
pub(super) struct Staging {
    name: Option<RepositoryName>,
    /// By content and offset.
    parts: BTreeMap<(Digest, u64), Part>,
    /// Content that a descriptor carries itself.
    pub(super) carried: BTreeMap<Digest, Bytes>,
    /// Volumes that were never there, from one.
    pub(super) missing: Vec<u32>,
}

impl Staging {
    /// Finds what visits before have brought of the set that an archive is.
    pub(super) fn find(archive: &Archive, store: &Store) -> Result<Self> {
        let Some(set) = archive.set() else { return Ok(Self::default()) };
        let name: RepositoryName = format!("orlop-import/{}", set.id).parse()?;
        let mut staging = Self { name: Some(name.clone()), missing: set.missing.clone(), ..Self::default() };
        for (at, (listed, ..)) in archive.loose().iter().enumerate() {
            let part = Part { length: listed.length, place: PartPlace::Here(at) };
            staging.parts.insert((listed.digest, listed.offset), part);
        }
        let repository = store.repository(&name);
        let mut after: Option<Tag> = None;
        loop {
            let page = repository.tags(after.as_ref().map(Tag::as_str), 1000)?;
            for found in &page.items {
                let volume =
                    found.tag.as_str().strip_prefix("volume-").and_then(|number| number.parse().ok());
                staging.missing.retain(|number| Some(*number) != volume);
                if let Some(stored) = repository.manifest(&found.digest)? {
                    staging.read(&stored.parse()?);
                }
            }
            after = page.items.last().map(|found| found.tag.clone());
            if !page.more {
                return Ok(staging);
            }
        }
    }

    fn read(&mut self, manifest: &Manifest) {
        for child in manifest.successors() {
            let Descriptor { digest, size, annotations, .. } = &child.descriptor;
            let of = annotations.get(PART_OF).and_then(|text| text.parse().ok());
            let offset = annotations.get(PART_OFFSET).and_then(|text| text.parse().ok());
            if let Some(key) = of.zip(offset) {
                self.parts.insert(key, Part { length: *size, place: PartPlace::Stored(*digest) });
            }
        }
    }

    /// The parts of a content in order, if together they are so many bytes.
    fn whole(&self, digest: &Digest, size: u64) -> Option<Vec<Part>> {
        let mut end: u64 = 0;
        let mut parts = Vec::new();
        for ((_, offset), part) in self.parts.range((*digest, 0)..=(*digest, u64::MAX)) {
            if *offset != end {
                return None;
            }
            parts.push(*part);
            end = end.checked_add(part.length)?;
        }
        (end == size && !parts.is_empty()).then_some(parts)
    }

    /// Whether content is all there in parts.
    pub(super) fn has(&self, digest: &Digest, size: u64) -> bool {
        self.whole(digest, size).is_some()
    }

    /// Content of which the parts, or a descriptor, have the bytes.
    pub(super) fn open<'a>(
        &self,
        digest: &Digest,
        size: u64,
        archive: &'a Archive,
        store: &Store,
    ) -> Result<Option<Box<dyn Read + Send + 'a>>> {
        if let Some(bytes) = self.carried.get(digest) {
            return Ok(Some(Box::new(io::Cursor::new(bytes.clone()))));
        }
        let Some(parts) = self.whole(digest, size) else { return Ok(None) };
        let mut reader: Box<dyn Read + Send> = Box::new(io::empty());
        for part in parts {
            let next = match part.place {
                PartPlace::Here(at) => archive.read_loose(at)?,
                PartPlace::Stored(part) => match store.unscoped().reader(&part)? {
                    Some(stored) => Box::new(stored),
                    None => {
                        return Err(Error::corrupt(format!(
                            "a part of content is gone, digest={digest}, part={part}"
                        )));
                    }
                },
            };
            reader = Box::new(reader.chain(next));
        }
        Ok(Some(reader))
    }

    /// Keeps everything that the volumes have and the store has not. Volumes with parts are read once more, to be compared with their checksums.
    pub(super) fn take(
        &mut self,
        archive: &Archive,
        store: &Store,
        watch: &mut Option<Watch<'_>>,
        imported: &mut Imported,
    ) -> Result<()> {
        let (Some(name), Some(set)) = (self.name.clone(), archive.set()) else { return Ok(()) };
        // Nothing else tells whether a part is what it was, and the content that it is of is whole only with the last volume.
        if !archive.loose().is_empty() {
            archive.verify_volumes()?;
        }
        let mut visit = Visit::new(store, &name)?;
        let mut order: Vec<(Digest, u64)> = archive.contents().collect();
        order.sort_by_key(|(digest, _)| archive.order(digest));
        for (digest, size) in order {
            if is_present(store, &digest, size)? {
                continue;
            }
            let Some(reader) = archive.content(&digest, 0)? else { continue };
            visit.push(ingest(store, &digest, size, reader, watch)?)?;
        }
        for (at, (listed, ..)) in archive.loose().iter().enumerate() {
            let Listed { digest, size, offset, length, .. } = *listed;
            let key = (digest, offset);
            let is_here = self.parts.get(&key).is_some_and(|part| matches!(part.place, PartPlace::Here(_)));
            if !is_here || is_present(store, &digest, size)? {
                continue;
            }
            let reader = archive.read_loose(at)?;
            let expected = Expected::default().with_size(length);
            let content = store.ingest_reader_observed(reader, &expected, &mut |done| {
                watch.as_mut().map_or(ControlFlow::Continue(()), |watch| watch(&digest, offset + done))
            })?;
            let part = content.digest;
            let descriptor = Descriptor::new(CONTENT, part, length)
                .with_annotation(PART_OF, digest.to_string())
                .with_annotation(PART_SIZE, size.to_string())
                .with_annotation(PART_OFFSET, offset.to_string());
            visit.add(content, descriptor)?;
            self.parts.insert(key, Part { length, place: PartPlace::Stored(part) });
        }
        visit.seen(set.present.iter().map(|(number, _)| *number))?;
        let (copied, bytes) = visit.finish()?;
        imported.copied += copied;
        imported.bytes += bytes;
        Ok(())
    }

    /// Lets go of it all.
    pub(super) fn remove(&self, store: &Store) -> Result<()> {
        if let Some(name) = &self.name {
            store.delete_repository(name)?;
        }
        Ok(())
    }
}

/// What one visit brings.
pub(super) struct Visit<'a> {
    store: &'a Store,
    repository: Repository,
    batch: Batch,
    layers: Vec<Descriptor>,
    /// Bytes since the last commit.
    pending: u64,
    count: u32,
    copied: u64,
    bytes: u64,
}

impl<'a> Visit<'a> {
    pub(super) fn new(store: &'a Store, repository: &RepositoryName) -> Result<Self> {
        let (repository, batch) = (store.repository(repository), store.batch());
        let layers = Vec::new();
        Ok(Self { store, repository, batch, layers, pending: 0, count: 0, copied: 0, bytes: 0 })
    }

    /// Keeps content.
    pub(super) fn push(&mut self, content: Content) -> Result<()> {
        let descriptor = Descriptor::new(CONTENT, content.digest, content.size);
        self.copied += 1;
        self.add(content, descriptor)
    }

    fn add(&mut self, content: Content, descriptor: Descriptor) -> Result<()> {
        self.batch.push(&self.repository, content)?;
        self.pending += descriptor.size;
        self.bytes += descriptor.size;
        self.layers.push(descriptor);
        if self.layers.len() >= LAYERS || self.pending >= COMMIT_EVERY { self.commit() } else { Ok(()) }
    }

    /// Commits the rest; answers how many contents and bytes came.
    pub(super) fn finish(mut self) -> Result<(u64, u64)> {
        self.commit()?;
        Ok((self.copied, self.bytes))
    }

    /// Commits what came, under a tag of its own.
    fn commit(&mut self) -> Result<()> {
        let layers = std::mem::take(&mut self.layers);
        self.pending = 0;
        if layers.is_empty() {
            return Ok(());
        }
        let tag = loop {
            let tag: Tag = format!("content-{}", self.count).parse()?;
            self.count += 1;
            // Visits before have left some.
            if self.repository.resolve(&tag)?.is_none() {
                break tag;
            }
        };
        self.push_manifest(&layers, &[tag])
    }

    /// Takes down that everything of these volumes has come.
    fn seen(&mut self, volumes: impl Iterator<Item = u32>) -> Result<()> {
        self.commit()?;
        let tags: Vec<Tag> =
            volumes.map(|number| format!("volume-{number}").parse()).collect::<Result<_>>()?;
        self.push_manifest(&[], &tags)
    }

    fn push_manifest(&mut self, layers: &[Descriptor], tags: &[Tag]) -> Result<()> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            schema_version: u8,
            media_type: &'a str,
            artifact_type: &'a str,
            config: Descriptor,
            layers: &'a [Descriptor],
        }

        let mut batch = std::mem::replace(&mut self.batch, self.store.batch());
        let config = batch.push_bytes(&self.repository, "{}")?;
        let document = Document {
            schema_version: 2,
            media_type: media_type::IMAGE_MANIFEST,
            artifact_type: ARTIFACT_TYPE,
            config: Descriptor::new(media_type::EMPTY, config, 2),
            layers,
        };
        let bytes = serde_json::to_vec(&document)
            .map_err(|error| Error::corrupt("a manifest cannot be written").with_source(error))?;
        let digest = batch.push_manifest(&self.repository, media_type::IMAGE_MANIFEST, bytes)?;
        for tag in tags {
            batch.tag(&self.repository, tag, digest, Expect::Any);
        }
        batch.commit()?;
        Ok(())
    }
}
