//! What goes into an archive: manifests with everything that they reach, walked without recursion.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::inventory::Inventory;
use super::places::Places;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::layout::{MEMBERSHIP, REF_NAME};
use crate::oci::{
    Annotations, Descriptor, IndexWriter, LayoutName, Manifest, ManifestKind, Membership, RepositoryName,
    Role, Tag, media_type,
};
use crate::transfer::Source;

/// A manifest that is carried.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) descriptor: Descriptor,
    pub(super) kind: Option<ManifestKind>,
    /// The config and the layers of an image, or what an index lists, as far as it is carried or the receiver has it.
    pub(super) children: Vec<Descriptor>,
    /// The repositories that hold it, with what of it they lack.
    repositories: BTreeMap<RepositoryName, Vec<Digest>>,
    /// The repositories in which a manifest that is carried lists it.
    listed: BTreeSet<RepositoryName>,
}

/// Everything that is carried.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) manifests: BTreeMap<Digest, Carried>,
    /// Content with its size, without manifests and without what the receiver has.
    pub(super) contents: BTreeMap<Digest, u64>,
    /// Contents and manifests, what is referred to first: what belongs together is together.
    pub(super) order: Vec<Digest>,
    /// What the receiver has, and how much that is.
    pub(super) known: BTreeMap<Digest, u64>,
    /// The repository that each content is taken from.
    owners: BTreeMap<Digest, RepositoryName>,
    tags: BTreeMap<(RepositoryName, Tag), Digest>,
}

/// Content up to this size is in every volume that needs it.
const SMALL: u64 = 64 << 10;

enum Step {
    Enter(Digest, Cause),
    Leave(Digest),
}

/// Why a manifest is looked for.
#[derive(Clone, Copy)]
enum Cause {
    /// It was asked for, or something that is carried is attached to it.
    Itself,
    /// An index lists it.
    ListedBy(Digest),
    /// It is attached to that, says the place.
    AttachedTo(Digest),
}

/// Walks from manifests.
pub(super) struct Select<'a> {
    places: &'a Places<'a>,
    have: &'a Inventory,
    referrers: bool,
    pub(super) selection: Selection,
    seen: HashSet<(RepositoryName, Digest)>,
}

impl<'a> Select<'a> {
    pub(super) fn new(places: &'a Places<'a>, have: &'a Inventory, referrers: bool) -> Self {
        Self { places, have, referrers, selection: Selection::default(), seen: HashSet::new() }
    }

    /// Takes a manifest of a repository, with the tags that it has in the archive.
    pub(super) fn add(&mut self, name: &RepositoryName, root: &Digest, tags: &[Tag]) -> Result<()> {
        let place = self.places.get(name)?;
        let mut steps = vec![Step::Enter(*root, Cause::Itself)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(digest, cause) => self.enter(name, &*place, digest, cause, &mut steps)?,
                Step::Leave(digest) => self.leave(&*place, &digest, &mut steps)?,
            }
        }
        if !self.selection.manifests.contains_key(root) {
            return Err(Error::not_found(format!("no such manifest, repository={name}, digest={root}")));
        }
        for tag in tags {
            self.selection.tags.insert((name.clone(), tag.clone()), *root);
        }
        Ok(())
    }

    fn enter(
        &mut self,
        name: &RepositoryName,
        place: &dyn Source,
        digest: Digest,
        cause: Cause,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        if self.seen.contains(&(name.clone(), digest)) {
            self.list(name, digest, cause);
            return Ok(());
        }
        let Some(found) = place.manifest(&digest)? else {
            // The subject of what is attached may be elsewhere; what an index lists may be left out, or be no manifest.
            return self.absent(name, place, digest, cause);
        };
        self.seen.insert((name.clone(), digest));
        let manifest = Manifest::read(&found.descriptor.media_type, &found.bytes)?;
        let mut descriptor = found.descriptor;
        descriptor.artifact_type = manifest.artifact_type().map(str::to_owned);
        steps.push(Step::Leave(digest));
        for child in manifest.successors().iter().filter(|child| child.role == Role::Manifest).rev() {
            steps.push(Step::Enter(child.descriptor.digest, Cause::ListedBy(digest)));
        }
        if let Some(subject) = manifest.subject() {
            steps.push(Step::Enter(subject.digest, Cause::Itself));
        }
        self.carry(name, place, &manifest, descriptor)?;
        self.list(name, digest, cause);
        Ok(())
    }

    fn list(&mut self, name: &RepositoryName, digest: Digest, cause: Cause) {
        if matches!(cause, Cause::ListedBy(_))
            && let Some(carried) = self.selection.manifests.get_mut(&digest)
        {
            carried.listed.insert(name.clone());
        }
    }

    fn absent(
        &mut self,
        name: &RepositoryName,
        place: &dyn Source,
        digest: Digest,
        cause: Cause,
    ) -> Result<()> {
        let parent = match cause {
            Cause::Itself => return Ok(()),
            Cause::ListedBy(parent) => parent,
            Cause::AttachedTo(subject) => {
                return Err(Error::not_found(format!(
                    "a manifest that is listed as attached is missing, digest={digest}, subject={subject}, place={}",
                    place.place()
                )));
            }
        };
        if let Some(size) = place.size(&Descriptor::new("", digest, 0))? {
            self.content(name, digest, size);
            return Ok(());
        }
        if let Some(carried) = self.selection.manifests.get_mut(&parent) {
            carried.repositories.entry(name.clone()).or_default().push(digest);
            carried.children.retain(|child| child.digest != digest);
        }
        Ok(())
    }

    /// Takes a manifest, and what is no manifest of what it refers to.
    fn carry(
        &mut self,
        name: &RepositoryName,
        place: &dyn Source,
        manifest: &Manifest,
        descriptor: Descriptor,
    ) -> Result<()> {
        let digest = descriptor.digest;
        let mut lacking = Vec::new();
        let mut children = Vec::new();
        for child in manifest.successors() {
            let Descriptor { digest: found, size, .. } = child.descriptor;
            if child.role != Role::Manifest {
                match self.has(place, &child.descriptor)? {
                    Some(has) if has != size => {
                        return Err(Error::new(
                            ErrorKind::Mismatch,
                            format!(
                                "content has another size than its descriptor says, digest={found}, expected={size}, found={has}, manifest={digest}"
                            ),
                        ));
                    }
                    Some(_) => self.content(name, found, size),
                    None if self.have.has(&found) => {
                        self.selection.known.insert(found, size);
                    }
                    None if may_lack(&child.descriptor) => {
                        lacking.push(found);
                        continue;
                    }
                    // Whoever has the manifest has it.
                    None if child.descriptor.inlined().is_some() => continue,
                    None => {
                        return Err(Error::not_found(format!(
                            "content that a manifest refers to is missing, digest={found}, manifest={digest}, repository={name}"
                        )));
                    }
                }
            }
            children.push(child.descriptor.clone());
        }
        let carried = self.selection.manifests.entry(digest).or_insert_with(|| Carried {
            descriptor,
            kind: manifest.kind(),
            children,
            repositories: BTreeMap::new(),
            listed: BTreeSet::new(),
        });
        carried.repositories.entry(name.clone()).or_insert(lacking);
        Ok(())
    }

    /// How large content is that the place has. What is carried already is not asked for again.
    fn has(&self, place: &dyn Source, descriptor: &Descriptor) -> Result<Option<u64>> {
        let known = self.selection.contents.get(&descriptor.digest);
        let is_same_store = matches!(self.places, Places::Store(_));
        match known.filter(|_| !is_same_store) {
            Some(size) => Ok(Some(*size)),
            None => place.size(descriptor),
        }
    }

    fn content(&mut self, name: &RepositoryName, digest: Digest, size: u64) {
        if self.have.has(&digest) {
            self.selection.known.insert(digest, size);
        } else if self.selection.contents.insert(digest, size).is_none() {
            self.selection.owners.insert(digest, name.clone());
            self.selection.order.push(digest);
        }
    }

    /// Everything that a manifest refers to is taken; what refers to it comes now.
    fn leave(&mut self, place: &dyn Source, digest: &Digest, steps: &mut Vec<Step>) -> Result<()> {
        self.selection.order.push(*digest);
        if self.referrers {
            for descriptor in place.referrers(digest)?.referrers {
                steps.push(Step::Enter(descriptor.digest, Cause::AttachedTo(*digest)));
            }
        }
        Ok(())
    }
}

/// Whether a manifest is whole without that content.
pub(super) fn may_lack(descriptor: &Descriptor) -> bool {
    media_type::is_non_distributable(&descriptor.media_type) || !descriptor.urls.is_empty()
}

impl Selection {
    /// One order for all: content that is a manifest as well is carried as one, and nothing twice.
    pub(super) fn settle(&mut self) {
        let manifests = &self.manifests;
        self.contents.retain(|digest, _| !manifests.contains_key(digest));
        self.known.retain(|digest, _| !manifests.contains_key(digest));
        let mut seen = HashSet::new();
        self.order.retain(|digest| seen.insert(*digest));
    }

    /// The repository that a content or manifest is taken from, and whether it is a manifest.
    pub(super) fn owner(&self, digest: &Digest) -> Result<(&RepositoryName, bool)> {
        if let Some(name) = self.manifests.get(digest).and_then(|carried| carried.repositories.keys().next())
        {
            return Ok((name, true));
        }
        let owner = self.owners.get(digest).map(|name| (name, false));
        owner.ok_or_else(|| Error::corrupt(format!("nothing has the content, digest={digest}")))
    }

    /// The size of what is carried.
    pub(super) fn size(&self, digest: &Digest) -> u64 {
        let manifest = || self.manifests.get(digest).map(|carried| carried.descriptor.size);
        self.contents.get(digest).copied().or_else(manifest).unwrap_or(0)
    }

    /// Small content that would make a manifest whole, where everything else that it refers to is `inside` already.
    pub(super) fn small_children(&self, digest: &Digest, inside: &HashSet<Digest>) -> BTreeSet<Digest> {
        let Some(carried) = self.manifests.get(digest) else { return BTreeSet::new() };
        let lacking: BTreeSet<Digest> = carried
            .children
            .iter()
            .map(|child| child.digest)
            .filter(|digest| !inside.contains(digest))
            .collect();
        let is_small = |digest: &Digest| self.contents.get(digest).is_some_and(|size| *size <= SMALL);
        if lacking.iter().all(is_small) { lacking } else { BTreeSet::new() }
    }

    /// The `index.json` of those manifests that are wanted: tags by repository and name, then what has no tag and no other lists.
    pub(super) fn index(&self, is_wanted: &dyn Fn(&Digest) -> bool) -> Result<Vec<u8>> {
        let fail = |error| Error::corrupt("an index cannot be written").with_source(error);
        let mut writer = IndexWriter::new(Vec::new()).map_err(fail)?;
        for ((repository, tag), digest) in self.tags.iter().filter(|(_, digest)| is_wanted(digest)) {
            let Some(carried) = self.manifests.get(digest) else { continue };
            let descriptor = carried.entry(Some(LayoutName::of(repository, tag)));
            writer.entry(&descriptor).map_err(fail)?;
        }
        let tagged: HashSet<&Digest> = self.tags.values().collect();
        for (digest, carried) in self.manifests.iter().filter(|(digest, _)| is_wanted(digest)) {
            let is_sparse = carried.repositories.values().any(|lacking| !lacking.is_empty());
            let is_listed = carried.repositories.keys().all(|name| carried.listed.contains(name));
            if !tagged.contains(digest) && (is_sparse || !is_listed) {
                writer.entry(&carried.entry(None)).map_err(fail)?;
            }
        }
        writer.finish().map_err(fail)
    }

    /// The `manifest.json` that `docker load` reads, of the tagged images.
    pub(super) fn docker(&self) -> Result<Vec<u8>> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            config: String,
            repo_tags: Vec<String>,
            layers: Vec<String>,
        }

        let path = |descriptor: &Descriptor| super::entries::blob_path(&descriptor.digest);
        let mut images: BTreeMap<Digest, Image> = BTreeMap::new();
        for ((repository, tag), digest) in &self.tags {
            let Some((digest, carried)) = self.image(digest) else { continue };
            let Some((config, layers)) = carried.children.split_first() else { continue };
            let image = images.entry(digest).or_insert_with(|| Image {
                config: path(config),
                repo_tags: Vec::new(),
                layers: layers.iter().map(path).collect(),
            });
            // Docker knows no tag without a name.
            if !repository.is_unnamed() {
                image.repo_tags.push(LayoutName::of(repository, tag));
            }
        }
        let images: Vec<Image> = images.into_values().collect();
        serde_json::to_vec(&images)
            .map_err(|error| Error::corrupt("manifest.json cannot be written").with_source(error))
    }

    /// The image that a tag stands for where only one can be: that for linux/amd64 of an index, else its first.
    fn image(&self, digest: &Digest) -> Option<(Digest, &Carried)> {
        let carried = self.manifests.get(digest)?;
        if !carried.kind?.is_index() {
            let config = carried.children.first()?;
            let is_image =
                matches!(carried.kind?, ManifestKind::ImageManifest | ManifestKind::DockerManifest)
                    && config.media_type != media_type::EMPTY;
            return is_image.then_some((*digest, carried));
        }
        let is_wanted = |child: &&Descriptor| {
            child
                .platform
                .as_ref()
                .is_some_and(|platform| (&*platform.os, &*platform.architecture) == ("linux", "amd64"))
        };
        let child = carried.children.iter().find(is_wanted).or_else(|| carried.children.first())?;
        let found = self.manifests.get(&child.digest)?;
        (!found.kind?.is_index()).then_some((child.digest, found))
    }
}

impl Carried {
    /// Its entry in an index, under a name of a repository or without one. Each says who holds it and what is not there, so that
    /// whatever else is not there was lost.
    fn entry(&self, name: Option<String>) -> Descriptor {
        let mut membership = Membership::default();
        for (repository, lacking) in &self.repositories {
            membership.repositories.push(repository.clone());
            if !lacking.is_empty() {
                membership.sparse.insert(repository.clone(), lacking.clone());
            }
        }
        let mut descriptor = self.descriptor.clone();
        descriptor.annotations = Annotations::new();
        descriptor = descriptor.with_annotation(MEMBERSHIP, membership.to_string());
        match name {
            Some(name) => descriptor.with_annotation(REF_NAME, name),
            None => descriptor,
        }
    }
}
