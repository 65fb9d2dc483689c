//! Archives of layouts as places that artifacts are copied from.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::catalog::{ArchiveName, Catalog, Documents, Unusable};
use super::contents::{Contents, Stored, Where};
use super::docker;
use super::entries::{Entries, Place};
use super::input::Input;
use super::volume;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::layout::INDEX_FILE;
use crate::oci::names::Meaning;
use crate::oci::{Descriptor, IndexEntry, Manifest, RepositoryName, Tag, read_index};
use crate::store::Page;
use crate::transfer::{Fetched, FoundBy, FoundReferrers, Source};

/// The most entries of an index.
const MAX_NAMES: usize = 1 << 20;

/// The most bytes of all of them: a full index of names and annotations as tools write them has a quarter of it.
const MAX_INDEX: usize = 512 << 20;

/// How many bytes of content that entries carry themselves are taken.
const MAX_CARRIED: usize = 64 << 20;

/// An OCI layout, or what `docker save` wrote, in a tar archive or in a set of volumes, read where it lies.
///
/// Nothing is unpacked. One pass over the headers finds everything, in whatever order it stands, also below one directory or behind links
/// within the archive; manifests are read and checked, other content is not touched. Compression is told by the first bytes. What is
/// compressed with gzip or zstd has no places: its documents are kept from the one pass (up to 64 MiB), and content is read by
/// decompressing again, without a temporary copy. Reading in the order of the archive, as [`Importer`](super::Importer) does, costs one more pass; any other
/// order costs up to one for each content, and ends with an error beyond 32 passes.
///
/// Memory grows with the number of files (about 150 bytes each, at most 2,097,152 of them) and with that of manifests and names, never with their content.
///
/// `docker save` wrote no manifests of a registry before version 25: one is made for each image, the same at every opening, of its
/// config as it is and its layers as they lie in the archive, uncompressed. Names are those of docker.
///
/// ```no_run
/// # fn main() -> orlop::Result<()> {
/// use orlop::transfer::Source;
/// use orlop::transfer::archive::Archive;
///
/// let archive = Archive::open("images.tar")?;
/// for name in archive.names() {
///     println!("{} is {}", name.name, name.descriptor.digest);
/// }
/// let app = archive.repository(&"team/app".parse()?);
/// let found = app.resolve(&"v1".parse()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    place: String,
    contents: Contents,
    catalog: Catalog,
    /// Images of docker that the archive has no manifest of its own for.
    images: Vec<(String, Descriptor)>,
    /// What every volume of the set says, if it is one.
    set: Option<volume::Set>,
}

impl Archive {
    /// Opens an archive. A volume of a set opens as what it has whole.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Invalid` when it is neither a layout nor of docker, or beyond a limit; `Unsupported` for another compression, several layouts in one
    /// archive, and entries that cannot be read as files, naming them; `Corrupt` when it is cut or damaged, saying where; `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::of_input(Input::open(path.as_ref())?)
    }

    /// Opens an archive that is in memory.
    ///
    /// # Errors
    ///
    /// As [`Archive::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::of_input(Input::of_bytes(bytes.into())?)
    }

    /// Opens several files, in any order, as one: the volumes of one set, or an archive alone.
    ///
    /// # Errors
    ///
    /// As [`Archive::open`]; `Invalid` when a file is no volume of the same set, or is one that is there already; `NotFound` when volumes are
    /// missing, unless `partial`: then what they have is absent. Each names the files and the volumes.
    pub fn open_all<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, partial: bool) -> Result<Self> {
        let inputs: Result<Vec<Input>> = paths.into_iter().map(|path| Input::open(path.as_ref())).collect();
        Self::of_inputs(inputs?, partial)
    }

    /// The same of archives in memory.
    ///
    /// # Errors
    ///
    /// As [`Archive::open_all`].
    pub fn from_all_bytes(volumes: impl IntoIterator<Item = Bytes>, partial: bool) -> Result<Self> {
        let inputs: Result<Vec<Input>> = volumes.into_iter().map(Input::of_bytes).collect();
        Self::of_inputs(inputs?, partial)
    }

    fn of_inputs(inputs: Vec<Input>, partial: bool) -> Result<Self> {
        let mut all: Vec<Entries> = inputs.into_iter().map(Entries::scan).collect::<Result<_>>()?;
        match all.pop() {
            None => Err(Error::invalid("no archive was given")),
            Some(one) if all.is_empty() && !volume::is_one(&one)? => Self::of_entries(one),
            Some(one) => {
                all.push(one);
                Self::of_set(all, partial)
            }
        }
    }

    fn of_input(input: Input) -> Result<Self> {
        Self::of_entries(Entries::scan(input)?)
    }

    pub(super) fn of_entries(entries: Entries) -> Result<Self> {
        let place = format!("tar:{}", entries.name());
        let mut contents = Contents::default();
        contents.add(entries)?;
        let mut catalog = Catalog::default();
        let entries = index_entries(contents.archive(0)?, INDEX_FILE)?;
        carried(&entries, &mut contents);
        catalog.entries(&entries, &contents)?;
        let images = docker_images(&mut contents, &mut catalog)?;
        catalog.sort();
        Ok(Self(Arc::new(Inner { place, contents, catalog, images, set: None })))
    }

    fn of_set(all: Vec<Entries>, partial: bool) -> Result<Self> {
        let mut contents = Contents::default();
        let set = volume::join(all, partial, &mut contents)?;
        let mut catalog = Catalog::default();
        catalog.entries(&index_entries(contents.archive(0)?, volume::SET_INDEX)?, &contents)?;
        catalog.sort();
        let place = format!("tar:{}", contents.archive(0)?.name());
        Ok(Self(Arc::new(Inner { place, contents, catalog, images: Vec::new(), set: Some(set) })))
    }

    /// What messages call it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// The set of volumes that it is, if it was opened as one.
    #[must_use]
    pub fn set(&self) -> Option<&volume::Set> {
        self.0.set.as_ref()
    }

    /// Everything that has a name, in the order of the archive.
    #[must_use]
    pub fn names(&self) -> &[ArchiveName] {
        &self.0.catalog.names
    }

    /// The manifest that a text names, as [`Unscoped::find_name`](crate::Unscoped::find_name) does in a layout.
    #[must_use]
    pub fn find_name(&self, text: &str) -> Meaning<ArchiveName> {
        self.0.catalog.find(text)
    }

    /// What the archive names, or refers to as a manifest, and does not have or cannot be used.
    #[must_use]
    pub fn unusable(&self) -> &[Unusable] {
        &self.0.catalog.unusable
    }

    /// The repositories in it, in byte order; names that are no tags belong to the unnamed one.
    #[must_use]
    pub fn repositories(&self) -> Vec<RepositoryName> {
        self.0.catalog.repositories.keys().cloned().collect()
    }

    /// One of its repositories; empty if there is no such one.
    #[must_use]
    pub fn repository(&self, name: &RepositoryName) -> ArchiveRepository {
        ArchiveRepository { archive: self.clone(), name: name.clone() }
    }

    /// Every content and manifest with its size, in order of digests.
    pub fn contents(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.0.contents.iter().map(|(digest, stored)| (*digest, stored.size))
    }

    /// The size of a content or manifest.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.0.contents.get(digest).map(|stored| stored.size)
    }

    /// The bytes of a content from `offset` on, whichever repository has it. Not verified.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`; errors in between come from the reader.
    pub fn content(&self, digest: &Digest, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        self.0.contents.read(digest, offset)
    }

    /// Whether it is compressed, so that it is best read in its order.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.0.contents.archives.iter().any(Entries::is_compressed)
    }

    /// Where a content comes when the archive is read in its order: something to sort by.
    #[must_use]
    pub fn order(&self, digest: &Digest) -> (u32, u64) {
        self.0.contents.order(digest)
    }

    /// Reads the volumes of a set, and checks that each is as it was written.
    ///
    /// # Errors
    ///
    /// `Corrupt`, naming the volume; `Io`. An archive that is no set has no checksum, and is not read.
    pub fn verify_volumes(&self) -> Result<()> {
        let Some(set) = self.set() else { return Ok(()) };
        for (archive, (number, name)) in self.0.contents.archives.iter().zip(&set.present) {
            let trailer = volume::read_trailer(archive)?;
            let found = archive.checksum(trailer.length)?;
            if found != trailer.checksum {
                return Err(Error::corrupt(format!(
                    "volume is not as it was written, volume={number}, archive={name}, expected={}, found={found}",
                    trailer.checksum
                )));
            }
        }
        Ok(())
    }

    /// Reads the names and the graph once more, with documents that are not in the archive alone.
    pub(super) fn read_catalog(&self, documents: &dyn Documents, catalog: &mut Catalog) -> Result<()> {
        let index = if self.0.set.is_some() { volume::SET_INDEX } else { INDEX_FILE };
        catalog.entries(&index_entries(self.0.contents.archive(0)?, index)?, documents)?;
        for (name, descriptor) in &self.0.images {
            catalog.docker_name(name, descriptor, documents)?;
        }
        catalog.sort();
        Ok(())
    }

    /// The parts of contents of which others are in volumes that are not there.
    pub(super) fn loose(&self) -> &[(volume::Listed, u32, Place)] {
        &self.0.contents.loose
    }

    /// The bytes of one of these parts.
    pub(super) fn read_loose(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        let (_, number, place) = self.loose().get(at).ok_or_else(|| Error::corrupt("no such part"))?;
        self.0.contents.archive(*number)?.read(*place, 0)
    }

    pub(super) fn inner_contents(&self) -> &Contents {
        &self.0.contents
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("place", &self.0.place).finish_non_exhaustive()
    }
}

/// Reads an index of the layout, if it has one.
fn index_entries(archive: &Entries, path: &str) -> Result<Vec<IndexEntry>> {
    let mut entries: Vec<IndexEntry> = Vec::new();
    let Some(place) = archive.find(path)? else { return Ok(entries) };
    let reader = archive.read(place, 0)?;
    let mut left = MAX_INDEX;
    read_index(reader, &mut |entry| {
        left = left
            .checked_sub(entry.raw.len())
            .ok_or_else(|| Error::invalid(format!("index.json has too long entries, limit={MAX_INDEX}")))?;
        entries.push(entry);
        if entries.len() > MAX_NAMES {
            return Err(Error::invalid(format!("index.json has too many entries, limit={MAX_NAMES}")));
        }
        Ok(())
    })
    .map_err(|error| Error::new(error.kind(), format!("{error}, archive={}", archive.name())))?;
    Ok(entries)
}

/// Takes the content that entries carry themselves and that has no file.
fn carried(entries: &[IndexEntry], contents: &mut Contents) {
    let mut left = MAX_CARRIED;
    for descriptor in
        entries.iter().filter(|entry| entry.has_data).filter_map(|entry| entry.descriptor().ok())
    {
        let Some(bytes) = descriptor.inlined().filter(|bytes| bytes.len() <= left) else { continue };
        left -= bytes.len();
        contents
            .insert(descriptor.digest, Stored { size: descriptor.size, place: Where::Made(bytes.into()) });
    }
}

/// Takes images that `manifest.json` lists and the layout does not, if there is one at all; answers their names.
fn docker_images(contents: &mut Contents, catalog: &mut Catalog) -> Result<Vec<(String, Descriptor)>> {
    let mut made = Vec::new();
    let images = docker::images(contents, 0)?;
    if images.is_empty() {
        return Ok(made);
    }
    let configs = configs(contents, catalog)?;
    for image in &images {
        if image.is_of(&configs) {
            continue;
        }
        let Some(descriptor) = image.manifest(contents, 0)? else { continue };
        made.extend(image.names.iter().map(|name| (name.clone(), descriptor.clone())));
        if image.names.is_empty() {
            made.push((String::new(), descriptor));
        }
    }
    for (name, descriptor) in &made {
        catalog.docker_name(name, descriptor, contents)?;
    }
    Ok(made)
}

fn configs(contents: &Contents, catalog: &Catalog) -> Result<docker::Configs> {
    let mut configs = docker::Configs::new();
    let mut seen = HashSet::new();
    for repository in catalog.repositories.values() {
        for (digest, media_type) in &repository.manifests {
            if seen.insert(*digest)
                && let Some(bytes) = contents.document(digest)?
                && let Ok(manifest) = Manifest::read(media_type, &bytes)
            {
                configs.extend(manifest.config().map(|config| config.digest));
            }
        }
    }
    Ok(configs)
}

/// A repository of an [`Archive`].
#[derive(Clone, Debug)]
pub struct ArchiveRepository {
    archive: Archive,
    name: RepositoryName,
}

impl ArchiveRepository {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Whether the archive has anything of it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.archive.catalog().repositories.contains_key(&self.name)
    }

    /// The media type of a manifest that it holds, by which it is one.
    #[must_use]
    pub fn media_type(&self, manifest: &Digest) -> Option<&str> {
        let found = self.archive.catalog().repositories.get(&self.name)?;
        found.manifests.get(manifest).map(String::as_str)
    }

    /// Its manifests, tagged or not, in order of digests.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn manifests(&self) -> Result<Vec<Descriptor>> {
        let Some(found) = self.archive.catalog().repositories.get(&self.name) else { return Ok(Vec::new()) };
        found.manifests.keys().map(|digest| self.describe(digest)).filter_map(Result::transpose).collect()
    }

    /// The manifests that are listed without a tag.
    #[must_use]
    pub fn untagged(&self) -> &[Descriptor] {
        self.archive.catalog().repositories.get(&self.name).map_or(&[], |found| &found.roots)
    }

    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let Some(found) = self.manifest(digest)? else { return Ok(None) };
        let manifest = Manifest::read(&found.descriptor.media_type, &found.bytes)?;
        let mut descriptor = found.descriptor;
        descriptor.artifact_type = manifest.artifact_type().map(str::to_owned);
        descriptor.annotations = manifest.annotations().clone();
        Ok(Some(descriptor))
    }
}

impl Source for ArchiveRepository {
    fn place(&self) -> String {
        if self.name.is_unnamed() {
            self.archive.place().to_owned()
        } else {
            format!("{}:{}", self.archive.place(), self.name)
        }
    }

    fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>> {
        let found = self.archive.catalog().repositories.get(&self.name);
        Ok(found.and_then(|found| found.tags.get(tag)).cloned())
    }

    fn tags(&self, last: Option<&Tag>, limit: usize) -> Result<Page<Tag>> {
        let mut page = Page { items: Vec::new(), more: false };
        let Some(found) = self.archive.catalog().repositories.get(&self.name) else { return Ok(page) };
        let mut tags = found.tags.keys().filter(|tag| last.is_none_or(|last| *tag > last));
        page.items = tags.by_ref().take(limit).cloned().collect();
        page.more = tags.next().is_some();
        Ok(page)
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Fetched>> {
        let found = self.archive.catalog().repositories.get(&self.name);
        let Some(media_type) = found.and_then(|found| found.manifests.get(digest)) else { return Ok(None) };
        let Some(bytes) = self.archive.inner_contents().document(digest)? else { return Ok(None) };
        Ok(Some(Fetched::new(Descriptor::new(media_type, *digest, bytes.len() as u64), bytes)))
    }

    fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        if let Some(reader) = self.archive.content(&descriptor.digest, offset)? {
            return Ok(Some(reader));
        }
        let Some(bytes) = descriptor.inlined() else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut bytes = std::io::Cursor::new(bytes);
        bytes.set_position(start as u64);
        Ok(Some(Box::new(bytes)))
    }

    fn size(&self, descriptor: &Descriptor) -> Result<Option<u64>> {
        Ok(self.archive.size(&descriptor.digest))
    }

    fn manifests(&self, last: Option<&Digest>, limit: usize) -> Result<Option<Page<Descriptor>>> {
        let found = self.archive.catalog().repositories.get(&self.name);
        let all = found.into_iter().flat_map(|found| found.manifests.keys());
        let mut digests = all.filter(|digest| last.is_none_or(|last| *digest > last));
        let mut page = Page { items: Vec::new(), more: false };
        for digest in digests.by_ref().take(limit) {
            page.items.extend(self.describe(digest)?);
        }
        page.more = digests.next().is_some();
        Ok(Some(page))
    }

    fn position(&self, digest: &Digest) -> Option<(u32, u64)> {
        self.archive.is_compressed().then(|| self.archive.order(digest))
    }

    fn referrers(&self, subject: &Digest) -> Result<FoundReferrers> {
        let found = self.archive.catalog().repositories.get(&self.name);
        let digests = found.and_then(|found| found.referrers.get(subject)).map_or(&[][..], Vec::as_slice);
        let referrers: Result<Vec<Descriptor>> =
            digests.iter().map(|digest| self.describe(digest)).filter_map(Result::transpose).collect();
        Ok(FoundReferrers::new(referrers?, FoundBy::Layout, 1))
    }
}
