//! Images out of stores, layouts and whatever else artifacts can be copied from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::corpus::{Contents, Corpus};
use crate::oci::{Descriptor, Manifest, ManifestKind, RepositoryName, Role, Tag};
use crate::transfer::Source;
use crate::transfer::archive::Archive;
use crate::{Digest, Repository, Result, Store};

/// How many rows are asked for at once.
const PAGE: usize = 1000;
/// How deep indexes within each other are followed.
const MAX_DEPTH: usize = 8;

/// From how many bytes on a mapping costs less than reading.
const LENT: u64 = 256 << 10;

struct InSource(Arc<dyn Source>);

impl Contents for InSource {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Option<Box<dyn Read + Send + '_>>> {
        self.0.content(descriptor, 0).map_err(io::Error::other)
    }

    fn bytes(&self, descriptor: &Descriptor) -> io::Result<Option<Bytes>> {
        if descriptor.size < LENT {
            return Ok(None);
        }
        let reader = self.0.local(&descriptor.digest).map_err(io::Error::other)?;
        Ok(reader.and_then(|reader| reader.lent()))
    }

    fn position(&self, descriptor: &Descriptor) -> Option<(u32, u64)> {
        self.0.position(&descriptor.digest)
    }
}

/// A manifest that was found, by how.
struct Named {
    name: String,
    descriptor: Descriptor,
    indexes: Vec<Descriptor>,
}

impl Corpus {
    /// Adds every image of every repository of a store or layout, tagged ones first, in the order of names. `name` is what they are called
    /// in front of their repository and tag. Nothing is written.
    ///
    /// # Errors
    ///
    /// As reads of the store. Manifests that are missing or cannot be read are findings of the measurement.
    pub fn add_store(&mut self, name: &str, store: &Store) -> Result<()> {
        self.add_repository(name, &store.default_repository())?;
        let mut after: Option<RepositoryName> = None;
        loop {
            let page = store.repositories(after.as_ref(), PAGE)?;
            for repository in page.items.iter().filter(|repository| !repository.is_unnamed()) {
                self.add_repository(&format!("{name}:{repository}"), &store.repository(repository))?;
            }
            after = page.items.last().cloned();
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Adds every image of a repository, as [`Corpus::add_store`] does.
    ///
    /// # Errors
    ///
    /// As [`Corpus::add_store`].
    pub fn add_repository(&mut self, name: &str, repository: &Repository) -> Result<()> {
        self.add_source(name, Arc::new(repository.clone()))
    }

    /// Adds every image of every repository of an archive, as [`Corpus::add_store`] does of the layout that it would be unpacked to. What is compressed
    /// as a whole is read in its order, blob after blob, unless units are written. What the archive names and nobody can use is a finding.
    ///
    /// # Errors
    ///
    /// As reads of the archive.
    pub fn add_archive(&mut self, name: &str, archive: &Archive) -> Result<()> {
        for repository in archive.repositories() {
            let name = if repository.is_unnamed() { name.to_owned() } else { format!("{name}:{repository}") };
            self.add_source(&name, Arc::new(archive.repository(&repository)))?;
        }
        for unusable in archive.unusable() {
            self.note_unusable(&unusable.name, &unusable.reason);
        }
        Ok(())
    }

    /// Adds the image that a descriptor names, or those that it lists, as [`Corpus::add_store`] does.
    ///
    /// # Errors
    ///
    /// As the source, for its manifests.
    pub fn add_reference(
        &mut self,
        name: &str,
        source: Arc<dyn Source>,
        descriptor: &Descriptor,
    ) -> Result<()> {
        self.add_roots(name, vec![(Some(String::new()), descriptor.clone())], source)
    }

    /// Adds every image of a source, as [`Corpus::add_store`] does; those without a tag where the source can list them.
    ///
    /// # Errors
    ///
    /// As the source, for its tags and manifests.
    pub fn add_source(&mut self, name: &str, source: Arc<dyn Source>) -> Result<()> {
        let mut tags: BTreeMap<Digest, (Vec<String>, Descriptor)> = BTreeMap::new();
        let mut after: Option<Tag> = None;
        loop {
            let page = source.tags(after.as_ref(), PAGE)?;
            for tag in &page.items {
                if let Some(found) = source.resolve(tag)? {
                    let of_digest = tags.entry(found.digest).or_insert_with(|| (Vec::new(), found));
                    of_digest.0.push(tag.to_string());
                }
            }
            after = page.items.last().cloned();
            if !page.more {
                break;
            }
        }
        let mut roots = Vec::new();
        let mut after: Option<Digest> = None;
        while let Some(page) = source.manifests(after.as_ref(), PAGE)? {
            after = page.items.last().map(|manifest| manifest.digest);
            roots.extend(
                page.items
                    .into_iter()
                    .filter(|manifest| !tags.contains_key(&manifest.digest))
                    .map(|manifest| (None, manifest)),
            );
            if !page.more {
                break;
            }
        }
        roots.extend(tags.into_values().map(|(tags, descriptor)| (Some(tags.join(",")), descriptor)));
        self.add_roots(name, roots, source)
    }

    fn add_roots(
        &mut self,
        name: &str,
        roots: Vec<(Option<String>, Descriptor)>,
        source: Arc<dyn Source>,
    ) -> Result<()> {
        let of_manifests = Arc::clone(&source);
        let fetch = |descriptor: &Descriptor| {
            let fetched = of_manifests.manifest(&descriptor.digest)?;
            Ok(fetched.map(|fetched| fetched.bytes.to_vec()))
        };
        self.add_manifests(name, roots, &fetch, Arc::new(InSource(source)))
    }

    /// Adds the images that manifests are or list: those with names first, in the order of these.
    fn add_manifests(
        &mut self,
        place: &str,
        mut roots: Vec<(Option<String>, Descriptor)>,
        fetch: &dyn Fn(&Descriptor) -> Result<Option<Vec<u8>>>,
        contents: Arc<dyn Contents>,
    ) -> Result<()> {
        roots.sort_by(|(a, one), (b, other)| {
            (a.is_none(), a, one.digest).cmp(&(b.is_none(), b, other.digest))
        });
        // An index first tells of its images; what it lists is no root of its own, unless it has a name.
        let mut listed: HashMap<Digest, Vec<Named>> = HashMap::new();
        let mut is_listed = BTreeSet::new();
        for (name, root) in roots.iter().filter(|(_, root)| is_index(root)) {
            let name = name.clone().unwrap_or_else(|| format!("@{}", root.digest));
            let mut listing = Listing { fetch, seen: BTreeSet::new(), found: Vec::new() };
            listing.follow(&name, root, &mut Vec::new())?;
            is_listed.extend(listing.seen.into_iter().filter(|digest| *digest != root.digest));
            is_listed.extend(listing.found.iter().map(|named| named.descriptor.digest));
            listed.insert(root.digest, listing.found);
        }
        let mut added = BTreeSet::new();
        for (name, root) in roots {
            let is_below = name.is_none() && is_listed.contains(&root.digest);
            let found = match listed.remove(&root.digest) {
                Some(found)
                    if !is_below || found.iter().any(|named| named.descriptor.digest == root.digest) =>
                {
                    found
                }
                _ if is_below => continue,
                Some(found) => found,
                None => {
                    let name = name.unwrap_or_else(|| format!("@{}", root.digest));
                    vec![Named { name, descriptor: root, indexes: Vec::new() }]
                }
            };
            for named in found {
                if !added.insert(named.descriptor.digest) {
                    continue;
                }
                let separator =
                    if named.name.is_empty() || named.name.starts_with(['@', ' ']) { "" } else { ":" };
                let name = format!("{place}{separator}{}", named.name);
                match fetch(&named.descriptor)? {
                    Some(bytes) => {
                        self.add_image(
                            name,
                            &named.descriptor,
                            &bytes,
                            &named.indexes,
                            Arc::clone(&contents),
                        );
                    }
                    None if !named.indexes.is_empty() => self.note_absent(&named.descriptor),
                    None => self.add_missing(name, &named.descriptor, Arc::clone(&contents)),
                }
            }
        }
        Ok(())
    }
}

/// Follows indexes down to images.
struct Listing<'a> {
    fetch: &'a dyn Fn(&Descriptor) -> Result<Option<Vec<u8>>>,
    /// Indexes that were followed: each is, once.
    seen: BTreeSet<Digest>,
    found: Vec<Named>,
}

impl Listing<'_> {
    /// The images below an index; one that has none, or cannot be read, is itself an image.
    fn follow(&mut self, name: &str, index: &Descriptor, above: &mut Vec<Descriptor>) -> Result<()> {
        if !self.seen.insert(index.digest) {
            return Ok(());
        }
        let itself = || Named { name: name.to_owned(), descriptor: index.clone(), indexes: Vec::new() };
        let bytes = (self.fetch)(index)?;
        let parsed = bytes.as_deref().and_then(|bytes| Manifest::read(&index.media_type, bytes).ok());
        let Some(parsed) = parsed.filter(|_| above.len() < MAX_DEPTH) else {
            self.found.push(itself());
            return Ok(());
        };
        let before = self.found.len();
        above.push(index.clone());
        for to in parsed.successors().iter().filter(|to| to.role == Role::Manifest) {
            let child = &to.descriptor;
            let name = match &child.platform {
                Some(platform) => format!("{name} ({}/{})", platform.os, platform.architecture),
                None => format!("{name} ({})", child.digest.short()),
            };
            if is_index(child) {
                self.follow(&name, child, above)?;
            } else {
                self.found.push(Named { name, descriptor: child.clone(), indexes: above.clone() });
            }
        }
        above.pop();
        if self.found.len() == before {
            self.found.push(itself());
        }
        Ok(())
    }
}

fn is_index(descriptor: &Descriptor) -> bool {
    ManifestKind::of(&descriptor.media_type).is_some_and(ManifestKind::is_index)
}
