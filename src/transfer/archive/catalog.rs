//! What an archive calls its contents, and what they are to each other: names, repositories, and the graph of manifests.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
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

/// What an archive names or refers to as a manifest, and that cannot be used.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unusable {
    /// The name as it stands in the archive, or the digest of what has none.
    pub name: String,
    /// Why.
    pub reason: String,
    /// `NotFound` for what is not there; `Invalid` or `Mismatch` for what is no manifest, or another one than its digest says.
    pub kind: ErrorKind,
}

/// What can be told of an archive without reading its large contents.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    /// In the order of the archive.
    pub(super) names: Vec<ArchiveName>,
    named: Vec<Named>,
    pub(super) unusable: Vec<Unusable>,
    /// Every entry says who holds it and what of it is not there: [`Exporter`](super::Exporter) wrote it.
    pub(super) is_ours: bool,
    /// What manifests of a repository lack, as entries say.
    lacking: HashMap<(RepositoryName, Digest), HashSet<Digest>>,
    /// Manifests that are unusable and that several may list.
    told: HashSet<Digest>,
    edges: HashMap<Digest, Edges>,
}

/// What a manifest refers to of other manifests.
#[derive(Debug)]
struct Edges {
    /// As what it was read, whatever other entries say that it is.
    media_type: String,
    /// None where it could not be read.
    size: Option<u64>,
    manifests: Vec<Step>,
    subject: Option<Step>,
}

/// A manifest to be looked at.
#[derive(Clone, Debug)]
struct Step {
    digest: Digest,
    media_type: String,
    /// What it is to have.
    size: u64,
    /// The index that lists it.
    index: Option<Digest>,
}

impl Step {
    fn to(descriptor: &Descriptor) -> Self {
        let Descriptor { digest, media_type, size, .. } = descriptor;
        Self { digest: *digest, media_type: media_type.clone(), size: *size, index: None }
    }
}

impl Catalog {
    /// Takes the entries of an `index.json`: first those with a name.
    pub(super) fn entries(&mut self, entries: &[IndexEntry], contents: &dyn Documents) -> Result<()> {
        self.is_ours = !entries.is_empty()
            && entries.iter().all(|entry| entry.annotations.contains_key(crate::oci::layout::MEMBERSHIP));
        for (entry, membership) in entries.iter().filter_map(|entry| Some((entry, entry.membership()?))) {
            let Ok(digest) = entry.digest.parse::<Digest>() else { continue };
            for (repository, lacking) in membership.sparse {
                self.lacking.entry((repository, digest)).or_default().extend(lacking);
            }
        }
        let is_named = |entry: &&IndexEntry| entry.name().is_some();
        entries.iter().filter(is_named).try_for_each(|entry| self.entry(entry, contents))?;
        entries.iter().filter(|entry| !is_named(entry)).try_for_each(|entry| self.entry(entry, contents))
    }

    fn entry(&mut self, entry: &IndexEntry, contents: &dyn Documents) -> Result<()> {
        let shown = entry.annotations.get(crate::oci::layout::REF_NAME).cloned().unwrap_or_default();
        let mut descriptor = match entry.descriptor() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let name = if shown.is_empty() { entry.digest.clone() } else { shown };
                self.cannot_use(name, &error);
                return Ok(());
            }
        };
        if descriptor.media_type.is_empty()
            && let Ok(Some(bytes)) = contents.document(&descriptor.digest)
            && let Some(found) = Manifest::sniff(&bytes)
        {
            found.clone_into(&mut descriptor.media_type);
        }
        let mut repositories = entry.membership().unwrap_or_default().repositories;
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
            let digest = descriptor.digest;
            let name = if shown.is_empty() { digest.to_string() } else { shown };
            let error = Error::not_found(format!("content is not in the archive, digest={digest}"));
            self.cannot_use(name, &error);
            return Ok(());
        }
        for repository in &repositories {
            self.walk(repository, &descriptor, contents)?;
        }
        let shown = if is_beside { String::new() } else { shown };
        self.name(shown, tag, &repositories, descriptor, is_beside);
        Ok(())
    }

    fn cannot_use(&mut self, name: String, error: &Error) {
        self.unusable.push(Unusable { name, reason: error.to_string(), kind: error.kind() });
    }

    /// The same of a manifest, once.
    fn cannot_use_manifest(&mut self, digest: Digest, error: &Error) {
        if self.told.insert(digest) {
            self.cannot_use(digest.to_string(), error);
        }
    }

    /// Whether a manifest that an index lists and that is not there was there when the archive was written.
    fn is_lost(&self, repository: &RepositoryName, index: &Digest, manifest: &Digest) -> bool {
        self.is_ours && !self.may_lack(repository, index, manifest)
    }

    /// Whether the archive says that a manifest of a repository lacks this.
    pub(super) fn may_lack(&self, repository: &RepositoryName, manifest: &Digest, lacking: &Digest) -> bool {
        let said = self.lacking.get(&(repository.clone(), *manifest));
        said.is_some_and(|said| said.contains(lacking))
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
        let mut steps = vec![Step::to(root)];
        while let Some(Step { digest, media_type, size, index }) = steps.pop() {
            let held = self.repositories.entry(repository.clone()).or_default();
            if held.manifests.contains_key(&digest) {
                continue;
            }
            if !contents.has(&digest)? {
                if let Some(index) = index.filter(|index| self.is_lost(repository, index, &digest)) {
                    let error = Error::not_found(format!(
                        "content is not in the archive, digest={digest}, manifest={index}"
                    ));
                    self.cannot_use_manifest(digest, &error);
                }
                continue;
            }
            if let Entry::Vacant(vacant) = self.edges.entry(digest) {
                match edges(&digest, &media_type, contents) {
                    Ok(edges) => {
                        vacant.insert(edges);
                    }
                    // One manifest that cannot be used is none; everything else is there all the same.
                    Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Mismatch) => {
                        self.cannot_use_manifest(digest, &error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(edges) = self.edges.get(&digest) else { continue };
            if let Some(found) = edges.size.filter(|found| *found != size) {
                let error = Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "manifest has another size than its descriptor says, digest={digest}, expected={size}, found={found}"
                    ),
                );
                self.cannot_use_manifest(digest, &error);
                continue;
            }
            let held = self.repositories.entry(repository.clone()).or_default();
            held.manifests.insert(digest, edges.media_type.clone());
            if let Some(subject) = &edges.subject {
                held.referrers.entry(subject.digest).or_default().push(digest);
                steps.push(subject.clone());
            }
            steps.extend(edges.manifests.iter().map(|child| Step { index: Some(digest), ..child.clone() }));
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
        return Ok(Edges { media_type, size: None, manifests: Vec::new(), subject: None });
    };
    let manifest = Manifest::read(&media_type, &bytes)?;
    let known = |descriptor: &Descriptor| ManifestKind::of(&descriptor.media_type).is_some();
    let manifests = manifest
        .successors()
        .iter()
        .filter(|child| child.role == Role::Manifest && known(&child.descriptor))
        .map(|child| Step::to(&child.descriptor))
        .collect();
    let (size, subject) = (Some(bytes.len() as u64), manifest.subject().map(Step::to));
    Ok(Edges { media_type, size, manifests, subject })
}
