//! What is attached to a manifest in other ways than by a subject: by a tag, by an annotation of its entry or within an
//! index. Nothing but a `subject` makes an edge of the graph, so all of this is marked as what it is.

use std::collections::BTreeSet;

use orlop::oci::attached::{
    Attached, BUILDKIT_SUBJECT, CONTAINERD_SUBJECT, Encoding, KIND, RESPONSE_SUBJECT, Subject, tags_for,
};
use orlop::oci::names::IMAGE_NAME;
use orlop::oci::{Descriptor, ManifestKind, Role, Tag};
use orlop::{Digest, Repository, Store};
use serde::{Serialize, Serializer};

use crate::error::Failure;
use crate::reference::Target;
use crate::view::{View, complete, total_size};

/// How many parents are asked for at once.
const PAGE: usize = 1000;

/// A manifest that something says is attached to another.
#[derive(Serialize)]
pub(crate) struct Hint {
    #[serde(flatten)]
    pub(crate) view: View,
    /// How that is said.
    #[serde(rename = "attachedBy", serialize_with = "as_text")]
    pub(crate) encoding: Encoding,
    /// Of everything below the manifest, for people.
    #[serde(skip)]
    pub(crate) total: u64,
}

fn as_text<S: Serializer>(encoding: &Encoding, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(encoding)
}

/// The entries of a layout that say what they are attached to, and those that they may be attached to by name.
pub(crate) struct Hints {
    entries: Vec<(String, Descriptor, Option<Attached>)>,
}

impl Hints {
    /// Collects what annotations say. Nothing is asked for where no other tool has written any.
    pub(crate) fn of(store: &Store) -> Result<Self, Failure> {
        let keys = [RESPONSE_SUBJECT[0], RESPONSE_SUBJECT[1], CONTAINERD_SUBJECT, KIND];
        let entries = store.unscoped().entries_mentioning(&keys)?;
        let with_hint = |(name, descriptor): (String, Descriptor)| {
            let attached = Attached::of_annotations(&descriptor.annotations);
            (name, descriptor, attached)
        };
        Ok(Self { entries: entries.into_iter().map(with_hint).collect() })
    }

    /// What is attached to a manifest without being one of its referrers.
    pub(crate) fn about(
        &self,
        subject: &Digest,
        target: &Target,
        repository: &Repository,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Hint>, Failure> {
        let mut found = Vec::new();
        by_tags(subject, repository, &mut found)?;
        self.by_annotations(subject, repository, &mut found)?;
        by_parents(subject, repository, &mut found)?;
        // An index also lists its own children, and some registries answer with the subject itself.
        let mut not: BTreeSet<Digest> = children(repository, subject)?.map(|child| child.digest).collect();
        not.insert(*subject);
        let mut hints = Vec::new();
        for (digest, encoding) in found {
            if !not.insert(digest) {
                continue;
            }
            let Some(stored) = repository.manifest(&digest)? else { continue };
            // What has a subject is attached to that, whatever else is said.
            if stored.parse()?.subject().is_some() {
                continue;
            }
            let descriptor = complete(repository, &stored.descriptor)?;
            if artifact_type.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            let view = View::new(target.by_digest(repository.name(), &digest), &descriptor);
            let total = total_size(repository, &descriptor)?;
            hints.push(Hint { view, encoding, total });
        }
        Ok(hints)
    }

    fn by_annotations(
        &self,
        subject: &Digest,
        repository: &Repository,
        found: &mut Vec<(Digest, Encoding)>,
    ) -> Result<(), Failure> {
        for (name, descriptor, attached) in &self.entries {
            let Some(Attached { subject: said, encoding, .. }) = attached else { continue };
            let is_meant = match said {
                Subject::Digest(digest) => digest == subject,
                Subject::SameName => self.are_of_one_name(subject, name, descriptor),
                _ => false,
            };
            if !is_meant {
                continue;
            }
            if *encoding == Encoding::ResponseAnnotation && is_index(descriptor) {
                found
                    .extend(children(repository, &descriptor.digest)?.map(|child| (child.digest, *encoding)));
            } else {
                found.push((descriptor.digest, *encoding));
            }
        }
        Ok(())
    }

    /// Whether an entry has the name of the subject's. In a layout for one image nothing needs a name.
    fn are_of_one_name(&self, subject: &Digest, name: &str, descriptor: &Descriptor) -> bool {
        let image_name = descriptor.annotations.get(IMAGE_NAME);
        let mut of_subject =
            self.entries.iter().filter(|(_, other, attached)| other.digest == *subject && attached.is_none());
        of_subject.any(|(other_name, other, _)| {
            let other_image_name = other.annotations.get(IMAGE_NAME);
            match (image_name, other_image_name) {
                (Some(name), Some(other)) => name == other,
                _ => name == other_name,
            }
        })
    }
}

/// Tags that stand for a digest.
fn by_tags(
    subject: &Digest,
    repository: &Repository,
    found: &mut Vec<(Digest, Encoding)>,
) -> Result<(), Failure> {
    for (tag, encoding) in tags_for(subject) {
        let Ok(tag) = tag.parse::<Tag>() else { continue };
        let Some(descriptor) = repository.resolve(&tag)? else { continue };
        if encoding != Encoding::FallbackTag {
            found.push((descriptor.digest, encoding));
        } else if is_index(&descriptor) && descriptor.digest != *subject {
            found.extend(children(repository, &descriptor.digest)?.map(|child| (child.digest, encoding)));
        }
    }
    Ok(())
}

/// Attestations that are in one index with what they are about.
fn by_parents(
    subject: &Digest,
    repository: &Repository,
    found: &mut Vec<(Digest, Encoding)>,
) -> Result<(), Failure> {
    let about = subject.to_string();
    let mut after = None;
    loop {
        let page = repository.predecessors(subject, after.as_ref(), PAGE)?;
        for parent in page.items.iter().filter(|parent| is_index(parent)) {
            let siblings = children(repository, &parent.digest)?
                .filter(|sibling| sibling.annotations.get(BUILDKIT_SUBJECT) == Some(&about));
            found.extend(siblings.map(|sibling| (sibling.digest, Encoding::BuildKit)));
        }
        after = page.items.last().map(|parent| parent.digest);
        if !page.more {
            return Ok(());
        }
    }
}

/// The manifests that an index lists.
fn children(repository: &Repository, index: &Digest) -> Result<impl Iterator<Item = Descriptor>, Failure> {
    let successors = repository.successors(index)?.unwrap_or_default();
    Ok(successors.into_iter().filter(|child| child.role == Role::Manifest).map(|child| child.descriptor))
}

fn is_index(descriptor: &Descriptor) -> bool {
    ManifestKind::of(&descriptor.media_type).is_some_and(ManifestKind::is_index)
}
