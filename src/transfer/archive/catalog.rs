//! What an archive calls its contents, and what they are to each other: names, repositories, and the graph of manifests.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::oci::attached::{Attached, Subject};
use crate::oci::names::{Meaning, Named, meaning};
use crate::oci::{Descriptor, IndexEntry, LayoutName, Manifest, ManifestKind, RepositoryName, Role, Tag};

/// Where the documents are that a catalog is made of.
pub(super) trait Documents {
    /// Whether there is such content.
    fn has(&self, digest: &Digest) -> Result<bool>;

    /// A manifest: small, and what its digest says.
    fn document(&self, digest: &Digest) -> Result<Option<Bytes>>;
}

/// What one repository of an archive has.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) tags: BTreeMap<Tag, Descriptor>,
    /// Manifests with their media types.
    pub(super) manifests: BTreeMap<Digest, String>,
    /// Manifests by what they are attached to.
    pub(super) referrers: BTreeMap<Digest, Vec<Digest>>,
    /// Entries without a name: manifests that are there for themselves.
    pub(super) roots: Vec<Descriptor>,
}

/// A manifest with a name that it goes by in an archive.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveName {
    /// The name as it stands in the archive; empty if only an annotation gives it one.
    pub name: String,
    /// The repository that holds it.
    pub repository: RepositoryName,
    /// The manifest.
    pub descriptor: Descriptor,
}

/// What can be told of an archive without reading its large contents.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    /// In the order of the archive.
    pub(super) names: Vec<ArchiveName>,
    named: Vec<Named>,
    /// What entries name and cannot be used, with the reason.
    pub(super) unusable: Vec<(String, String)>,
    edges: HashMap<Digest, Edges>,
}

/// What a manifest refers to of other manifests.
#[derive(Debug)]
struct Edges {
    /// As what it was read, whatever other entries say that it is.
    media_type: String,
    /// Digests and media types.
    manifests: Vec<(Digest, String)>,
    subject: Option<(Digest, String)>,
}

impl Catalog {
    /// Takes the entries of an `index.json`: first those with a name.
    pub(super) fn entries(&mut self, entries: &[IndexEntry], contents: &dyn Documents) -> Result<()> {
        let is_named = |entry: &&IndexEntry| entry.name().is_some();
        entries.iter().filter(is_named).try_for_each(|entry| self.entry(entry, contents))?;
        entries.iter().filter(|entry| !is_named(entry)).try_for_each(|entry| self.entry(entry, contents))
    }

    fn entry(&mut self, entry: &IndexEntry, contents: &dyn Documents) -> Result<()> {
        let shown = entry.annotations.get(crate::oci::layout::REF_NAME).cloned().unwrap_or_default();
        let mut descriptor = match entry.descriptor() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.unusable.push((shown, error.to_string()));
                return Ok(());
            }
        };
        if descriptor.media_type.is_empty()
            && let Ok(Some(bytes)) = contents.document(&descriptor.digest)
            && let Some(found) = Manifest::sniff(&bytes)
        {
            found.clone_into(&mut descriptor.media_type);
        }
        let mut repositories: Vec<RepositoryName> =
            entry.membership().map(|membership| membership.repositories).unwrap_or_default();
        // What is attached to the artifact of this name has that name as well, and is not what it stands for.
        let is_beside =
            Attached::of_annotations(&entry.annotations).is_some_and(|at| at.subject == Subject::SameName);
        let mut tag = None;
        // A digest in place of a name reads as a tag of a repository called `sha256`, which nobody means.
        if let Some(LayoutName::Tag(repository, name)) = entry.name().filter(|_| shown != entry.digest) {
            if !repositories.contains(&repository) {
                repositories.push(repository.clone());
            }
            tag = Some((repository, name)).filter(|_| !is_beside);
        }
        if repositories.is_empty() {
            // One that another entry has brought belongs where that one does.
            if shown.is_empty() && self.edges.contains_key(&descriptor.digest) {
                return Ok(());
            }
            repositories.push(RepositoryName::unnamed());
        }
        if !contents.has(&descriptor.digest)? {
            self.unusable
                .push((shown, format!("content is not in the archive, digest={}", descriptor.digest)));
            return Ok(());
        }
        for repository in &repositories {
            self.walk(repository, &descriptor, contents)?;
        }
        let shown = if is_beside { String::new() } else { shown };
        self.name(shown, tag, &repositories, descriptor, is_beside);
        Ok(())
    }

    /// Takes down what an entry is called.
    fn name(
        &mut self,
        shown: String,
        tag: Option<(RepositoryName, Tag)>,
        repositories: &[RepositoryName],
        descriptor: Descriptor,
        is_beside: bool,
    ) {
        let repository = match &tag {
            Some((repository, _)) => repository.clone(),
            None => repositories.first().cloned().unwrap_or_default(),
        };
        let named = Named::new(shown.clone(), descriptor.digest).with_annotations(&descriptor.annotations);
        match tag {
            Some((repository, tag)) => {
                let tags = &mut self.repositories.entry(repository).or_default().tags;
                // The first one counts where a name stands for several; asked by its name it is said to be ambiguous.
                tags.entry(tag).or_insert_with(|| descriptor.clone());
            }
            None => {
                for repository in repositories {
                    self.repositories.entry(repository.clone()).or_default().roots.push(descriptor.clone());
                }
            }
        }
        if !is_beside && (!named.name.is_empty() || !named.others.is_empty()) {
            self.named.push(named);
            self.names.push(ArchiveName { name: shown, repository, descriptor });
        }
    }

    /// Takes an image of docker under one of its names.
    pub(super) fn docker_name(
        &mut self,
        name: &str,
        descriptor: &Descriptor,
        contents: &dyn Documents,
    ) -> Result<()> {
        let tag = match LayoutName::parse(name) {
            LayoutName::Tag(repository, tag) => Some((repository, tag)),
            LayoutName::Foreign(_) => None,
        };
        let repository =
            tag.as_ref().map_or_else(RepositoryName::unnamed, |(repository, _)| repository.clone());
        self.walk(&repository, descriptor, contents)?;
        self.name(name.to_owned(), tag, &[repository], descriptor.clone(), false);
        Ok(())
    }

    /// Lets a repository hold a manifest and those that it refers to, as far as they are there.
    pub(super) fn walk(
        &mut self,
        repository: &RepositoryName,
        root: &Descriptor,
        contents: &dyn Documents,
    ) -> Result<()> {
        let mut steps = vec![(root.digest, root.media_type.clone())];
        while let Some((digest, media_type)) = steps.pop() {
            let held = self.repositories.entry(repository.clone()).or_default();
            if held.manifests.contains_key(&digest) || !contents.has(&digest)? {
                continue;
            }
            if let Entry::Vacant(vacant) = self.edges.entry(digest) {
                match edges(&digest, &media_type, contents) {
                    Ok(edges) => {
                        vacant.insert(edges);
                    }
                    // One manifest that cannot be used is none; everything else is there all the same.
                    Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Mismatch) => {
                        self.unusable.push((digest.to_string(), error.to_string()));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(edges) = self.edges.get(&digest) else { continue };
            let held = self.repositories.entry(repository.clone()).or_default();
            held.manifests.insert(digest, edges.media_type.clone());
            if let Some((subject, media_type)) = &edges.subject {
                held.referrers.entry(*subject).or_default().push(digest);
                steps.push((*subject, media_type.clone()));
            }
            steps.extend(edges.manifests.iter().cloned());
        }
        Ok(())
    }

    /// What a text names.
    pub(super) fn find(&self, text: &str) -> Meaning<ArchiveName> {
        let of = |found: &Named| {
            self.names
                .iter()
                .find(|name| name.descriptor.digest == found.digest && name.name == found.name)
                .cloned()
        };
        match meaning(text, &self.named) {
            Meaning::None => Meaning::None,
            Meaning::One(one) => of(one).map_or(Meaning::None, Meaning::One),
            Meaning::Ambiguous(several) => Meaning::Ambiguous(several.into_iter().filter_map(of).collect()),
        }
    }

    /// In one order, whatever the order of the archive was.
    pub(super) fn sort(&mut self) {
        for repository in self.repositories.values_mut() {
            for referrers in repository.referrers.values_mut() {
                referrers.sort();
                referrers.dedup();
            }
        }
    }
}

fn edges(digest: &Digest, media_type: &str, contents: &dyn Documents) -> Result<Edges> {
    let media_type = media_type.to_owned();
    let Some(bytes) = contents.document(digest)? else {
        return Ok(Edges { media_type, manifests: Vec::new(), subject: None });
    };
    let manifest = Manifest::read(&media_type, &bytes)?;
    let known = |descriptor: &Descriptor| ManifestKind::of(&descriptor.media_type).is_some();
    let pair = |descriptor: &Descriptor| (descriptor.digest, descriptor.media_type.clone());
    let manifests = manifest
        .successors()
        .iter()
        .filter(|child| child.role == Role::Manifest && known(&child.descriptor))
        .map(|child| pair(&child.descriptor))
        .collect();
    let subject = manifest.subject().map(pair);
    Ok(Edges { media_type, manifests, subject })
}
