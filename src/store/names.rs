//! Looking up what a person calls a manifest: names of other tools as well as our own.

use super::repositories::stored_name;
use super::{Store, Unscoped, until};
use crate::blobs::Blob;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::View;
use crate::oci::attached::{Attached, Subject};
use crate::oci::names::{
    BASE_NAME, IMAGE_NAME, Meaning, Named, ORIGINAL_REF, fits, meaning, other_names, spellings,
};
use crate::oci::{Descriptor, LayoutName, MAX_MANIFEST_SIZE, Manifest, RepositoryName, Tag};

/// A manifest with a name that it goes by.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedManifest {
    /// The name as it stands in `index.json`; empty if only an annotation gives it one.
    pub name: String,
    /// A repository that holds it: the one of the name, if it is one of ours.
    pub repository: RepositoryName,
    /// The manifest.
    pub descriptor: Descriptor,
}

impl Unscoped {
    /// The manifest that a text names: exactly, by an annotation, in another spelling, or by its tag alone where only one
    /// repository has it. See [`names::meaning`](crate::oci::names::meaning) for the order.
    ///
    /// A name that is found as it stands costs a look-up. Any other costs the names that other tools have given and one
    /// look-up in each repository, never a listing of tags.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn find_name(&self, text: &str) -> Result<Meaning<NamedManifest>> {
        let mut search = Search { view: self.store().core().metadata.view(), entries: Vec::new() };
        search.exact(text)?;
        if search.entries.is_empty() {
            search.wide(text)?;
        }
        let several = match meaning(text, &search.entries) {
            Meaning::None => return Ok(Meaning::None),
            Meaning::One(one) => vec![one.clone()],
            Meaning::Ambiguous(several) => several.into_iter().cloned().collect(),
        };
        let mut found = Vec::with_capacity(several.len());
        for entry in &several {
            found.extend(self.named_manifest(entry)?);
        }
        Ok(match (found.pop(), found.is_empty()) {
            (None, _) => Meaning::None,
            (Some(one), true) => Meaning::One(one),
            (Some(last), false) => {
                found.push(last);
                Meaning::Ambiguous(found)
            }
        })
    }

    /// Why an entry of `index.json` of this name names nothing here, if there is one: its content is missing or damaged, or
    /// breaks a rule.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn unusable(&self, name: &str) -> Result<Option<Error>> {
        let core = self.store().core();
        let mut entries = Vec::new();
        core.metadata.view().foreign_of(name, |digest, json| {
            entries.push((digest.to_owned(), json.to_owned()));
            Ok(until(false))
        })?;
        for (digest, json) in entries {
            let digest = match digest.parse::<Digest>() {
                Ok(digest) => digest,
                Err(error) => return Ok(Some(error.into())),
            };
            let why = match core.blobs.stat_size(&digest) {
                Ok(None) => Err(Error::not_found(format!("content is not in the layout, digest={digest}"))),
                Ok(Some(size)) if size > MAX_MANIFEST_SIZE as u64 => Err(Error::invalid(format!(
                    "manifest is too large, size={size}, limit={MAX_MANIFEST_SIZE}"
                ))),
                Ok(Some(size)) => Blob::read(&core.blobs, digest, size).and_then(|content| {
                    let Some(content) = content else { return Ok(()) };
                    content.verify()?;
                    let entry: Descriptor = serde_json::from_str(&json)
                        .map_err(|error| Error::invalid("index entry cannot be parsed").with_source(error))?;
                    Manifest::read(&entry.media_type, &content).map(drop)
                }),
                Err(error) => Err(error),
            };
            if let Err(error) = why {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// Manifests that have a name only in an annotation of their entry in `index.json`, as containerd and hauler give it.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn annotated_names(&self) -> Result<Vec<(String, Descriptor)>> {
        let view = self.store().core().metadata.view();
        let mut found = Vec::new();
        view.extras(|name, json| {
            if name.is_none()
                && let Some(descriptor) = named_by_annotation(json)
                && super::merge::is_held(&view, &descriptor.digest)?
            {
                let names: Vec<String> =
                    other_names("", &descriptor.annotations).map(str::to_owned).collect();
                found.extend(names.into_iter().next().map(|name| (name, descriptor)));
            }
            Ok(until(false))
        })?;
        Ok(found)
    }

    /// The entries of `index.json` of which other tools said more than we would, as far as they mention one of some texts:
    /// with their names, and as those tools wrote them. Only what is here.
    ///
    /// Costs a look at all such entries.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn entries_mentioning(&self, texts: &[&str]) -> Result<Vec<(String, Descriptor)>> {
        let view = self.store().core().metadata.view();
        let mut found = Vec::new();
        let mut consider = |name: &str, json: &str| -> Result<()> {
            if texts.iter().any(|text| json.contains(text))
                && let Ok(descriptor) = serde_json::from_str::<Descriptor>(json)
                && super::merge::is_held(&view, &descriptor.digest)?
            {
                found.push((name.to_owned(), descriptor));
            }
            Ok(())
        };
        view.extras(|name, json| consider(name.unwrap_or_default(), json).map(|()| until(false)))?;
        view.foreign(|name, _, json| consider(name, json).map(|()| until(false)))?;
        Ok(found)
    }

    fn named_manifest(&self, entry: &Named) -> Result<Option<NamedManifest>> {
        let store: &Store = self.store();
        let view = store.core().metadata.view();
        let mut holders = self.holders(&entry.digest)?;
        if let LayoutName::Tag(repository, _) = LayoutName::parse(&entry.name) {
            holders.insert(0, repository);
        }
        for repository in holders {
            if let Some(descriptor) = store.repository(&repository).describe(&view, &entry.digest)? {
                return Ok(Some(NamedManifest { name: entry.name.clone(), repository, descriptor }));
            }
        }
        Ok(None)
    }
}

/// Collects the entries that a text may mean.
struct Search<'a> {
    view: View<'a>,
    entries: Vec<Named>,
}

impl Search<'_> {
    /// Entries of this very name: a tag, and what is kept beside it or instead of it.
    fn exact(&mut self, name: &str) -> Result<()> {
        if let LayoutName::Tag(repository, tag) = LayoutName::parse(name) {
            self.tag(&repository, &tag)?;
        }
        let Self { view, entries } = self;
        view.foreign_of(name, |digest, json| {
            if let Some(descriptor) = usable(view, digest, json)? {
                entries.push(Named::new(name, descriptor.digest).with_annotations(&descriptor.annotations));
            }
            Ok(until(false))
        })
    }

    fn wide(&mut self, text: &str) -> Result<()> {
        for spelling in spellings(text) {
            if spelling != text {
                self.exact(&spelling)?;
            }
        }
        if let Ok(tag) = text.parse::<Tag>() {
            let mut repositories = Vec::new();
            self.view.repositories(None, |name, _| {
                repositories.push(stored_name(name)?);
                Ok(until(false))
            })?;
            for repository in &repositories {
                self.tag(repository, &tag)?;
            }
        }
        let Self { view, entries } = self;
        view.foreign(|name, digest, json| {
            let guess = || serde_json::from_str::<Descriptor>(json).ok();
            if let Some(descriptor) = guess()
                && fits(text, &Named::new(name, descriptor.digest).with_annotations(&descriptor.annotations))
                && let Some(descriptor) = usable(view, digest, json)?
            {
                entries.push(Named::new(name, descriptor.digest).with_annotations(&descriptor.annotations));
            }
            Ok(until(false))
        })?;
        view.extras(|name, json| {
            if let Some(descriptor) = named_by_annotation(json) {
                let name = name.unwrap_or_default();
                let entry = Named::new(name, descriptor.digest).with_annotations(&descriptor.annotations);
                if fits(text, &entry) && is_current(view, name, &entry.digest)? {
                    entries.push(entry);
                }
            }
            Ok(until(false))
        })
    }

    fn tag(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        if let Some(digest) = self.view.tag_in(repository.as_str(), tag.as_str())? {
            self.entries.push(Named::new(LayoutName::of(repository, tag), digest));
        }
        Ok(())
    }
}

/// An entry that is kept as it is, if it can be followed and is not something attached to what has its name.
fn usable(view: &View<'_>, digest: &str, json: &str) -> Result<Option<Descriptor>> {
    let Ok(digest) = digest.parse::<Digest>() else { return Ok(None) };
    let Ok(descriptor) = serde_json::from_str::<Descriptor>(json) else { return Ok(None) };
    let attached =
        Attached::of_annotations(&descriptor.annotations).is_some_and(|at| at.subject == Subject::SameName);
    Ok((!attached && super::merge::is_held(view, &digest)?).then_some(descriptor))
}

/// What another tool said of an entry, if any of it is a name.
fn named_by_annotation(json: &str) -> Option<Descriptor> {
    // Most say other things, and parsing is what costs.
    let names = [IMAGE_NAME, ORIGINAL_REF, BASE_NAME];
    let descriptor: Descriptor =
        names.iter().any(|name| json.contains(name)).then(|| serde_json::from_str(json))?.ok()?;
    names.iter().any(|name| descriptor.annotations.contains_key(name)).then_some(descriptor)
}

/// Whether an entry of which another tool said more is still there.
fn is_current(view: &View<'_>, name: &str, digest: &Digest) -> Result<bool> {
    match LayoutName::parse(name) {
        LayoutName::Tag(repository, tag) => {
            Ok(view.tag_in(repository.as_str(), tag.as_str())? == Some(*digest))
        }
        LayoutName::Foreign(_) => super::merge::is_held(view, digest),
    }
}
