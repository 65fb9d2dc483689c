//! What each step must answer, and what the model shows after it.

use std::collections::BTreeSet;

use super::super::support::*;
use super::world::{REPOSITORIES, Shown, TAGS, World};
use super::{Step, Want};
use crate::digest::Digest;
use crate::error::ErrorKind;

/// What a step answers when it succeeds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    Done,
    Pushed(Digest),
    /// The target of the tag before.
    Previous(Option<Digest>),
    Mounted(bool),
    Deleted(bool),
}

/// An answer, or the errors one of which must come.
pub(super) type Prediction = Result<Answer, &'static [ErrorKind]>;

impl World {
    /// Predicts a step and applies it to the model; an error leaves the model as it is.
    pub(super) fn predict(&mut self, step: &Step) -> Prediction {
        match *step {
            Step::PushBlob { repository, blob } => {
                let digest = digest_of(&self.blobs[blob]);
                self.check_quota(repository, [digest])?;
                self.existing(repository).contents.insert(digest);
                Ok(Answer::Pushed(digest))
            }
            Step::PushBatch { repository, images, tag, want, submit: _ } => {
                let families = [images.0, images.1].into_iter().flat_map(|image| self.family(image));
                let brought: Vec<Vec<u8>> =
                    families.flat_map(|artifact| artifact.blobs().cloned().collect::<Vec<_>>()).collect();
                self.check_quota(repository, brought.iter().map(|bytes| digest_of(bytes)))?;
                let current = self.current(repository, tag);
                if !self.agrees(want, current) {
                    return Err(&[ErrorKind::Conflict]);
                }
                self.hold_family(repository, images.0);
                self.hold_family(repository, images.1);
                self.set_tag(repository, tag, Some(images.1));
                Ok(Answer::Previous(current))
            }
            Step::Tag { repository, tag, image, want } => {
                let current = self.current(repository, tag);
                match (self.holds(repository, image), self.agrees(want, current)) {
                    (true, true) => {
                        self.set_tag(repository, tag, Some(image));
                        Ok(Answer::Previous(current))
                    }
                    (true, false) => Err(&[ErrorKind::Conflict]),
                    (false, true) => Err(&[ErrorKind::NotFound]),
                    (false, false) => Err(&[ErrorKind::Conflict, ErrorKind::NotFound]),
                }
            }
            Step::Untag { repository, tag, want } => {
                let current = self.current(repository, tag);
                if !self.agrees(want, current) {
                    return Err(&[ErrorKind::Conflict]);
                }
                self.set_tag(repository, tag, None);
                Ok(Answer::Previous(current))
            }
            Step::Mount { from, to, image } => {
                let digest = self.images[image].parts.first().map(|part| digest_of(part));
                let there = digest.filter(|digest| self.has(from, digest));
                if let Some(digest) = there {
                    self.check_quota(to, [digest])?;
                    self.existing(to).contents.insert(digest);
                }
                Ok(Answer::Mounted(there.is_some()))
            }
            Step::DeleteRepository { repository } => {
                Ok(Answer::Deleted(self.model.remove(REPOSITORIES[repository]).is_some()))
            }
            Step::DeleteManifest { repository, image } => self.predict_manifest(repository, image),
            Step::DeleteBlob { repository, blob } => self.predict_blob(repository, blob),
            Step::SetQuota { repository, more } => {
                let limit = more.map(|more| self.held(repository) + more);
                if limit.is_some() || self.model.contains_key(REPOSITORIES[repository]) {
                    self.existing(repository).limit = limit;
                }
                Ok(Answer::Done)
            }
            Step::SetRetention { repository, keep } => {
                let shown = self.model.get_mut(REPOSITORIES[repository]);
                shown.ok_or(&[ErrorKind::NotFound][..])?.keep = keep;
                Ok(Answer::Done)
            }
            Step::RemoveUnknown | Step::Flush | Step::Verify => Ok(Answer::Done),
        }
    }

    /// How many objects a repository has.
    pub(super) fn held(&self, repository: usize) -> u64 {
        self.model.get(REPOSITORIES[repository]).map_or(0, |shown| shown.contents.len() as u64)
    }

    /// Whether there is room for what comes, before anything else is asked.
    fn check_quota(
        &self,
        repository: usize,
        brought: impl IntoIterator<Item = Digest>,
    ) -> Result<(), &'static [ErrorKind]> {
        let limit = self.model.get(REPOSITORIES[repository]).and_then(|shown| shown.limit);
        let new: BTreeSet<Digest> =
            brought.into_iter().filter(|digest| !self.has(repository, digest)).collect();
        let all = self.held(repository) + new.len() as u64;
        if new.is_empty() || limit.is_none_or(|limit| all <= limit) {
            return Ok(());
        }
        Err(&[ErrorKind::QuotaExceeded])
    }

    fn predict_manifest(&mut self, repository: usize, image: usize) -> Prediction {
        let digest = self.images[image].digest();
        if !self.holds(repository, image) {
            return Err(&[ErrorKind::NotFound]);
        }
        if image < 2 && self.holds(repository, 2) {
            return Err(&[ErrorKind::Conflict]);
        }
        let shown = self.existing(repository);
        shown.manifests.remove(&digest);
        shown.contents.remove(&digest);
        shown.tags.retain(|_, target| *target != digest);
        Ok(Answer::Done)
    }

    fn predict_blob(&mut self, repository: usize, blob: usize) -> Prediction {
        let loose = self.loose();
        let digest = digest_of(&loose[blob % loose.len()]);
        if !self.has(repository, &digest) {
            return Err(&[ErrorKind::NotFound]);
        }
        let needed = (0..self.images.len()).any(|image| {
            let parts = &self.images[image].parts;
            self.holds(repository, image) && parts.iter().any(|part| digest_of(part) == digest)
        });
        if needed {
            return Err(&[ErrorKind::Conflict]);
        }
        self.existing(repository).contents.remove(&digest);
        Ok(Answer::Done)
    }

    /// The repository, which exists from now on.
    fn existing(&mut self, repository: usize) -> &mut Shown {
        self.model.entry(REPOSITORIES[repository]).or_default()
    }

    fn has(&self, repository: usize, digest: &Digest) -> bool {
        self.model.get(REPOSITORIES[repository]).is_some_and(|shown| shown.contents.contains(digest))
    }

    pub(super) fn holds(&self, repository: usize, image: usize) -> bool {
        let digest = self.images[image].digest();
        self.model.get(REPOSITORIES[repository]).is_some_and(|shown| shown.manifests.contains(&digest))
    }

    pub(super) fn hold_family(&mut self, repository: usize, image: usize) {
        for artifact in self.family(image) {
            let shown = self.existing(repository);
            shown.contents.extend(artifact.blobs().map(|bytes| digest_of(bytes)));
            shown.manifests.insert(artifact.digest());
        }
    }

    fn current(&self, repository: usize, tag: usize) -> Option<Digest> {
        self.model.get(REPOSITORIES[repository])?.tags.get(TAGS[tag]).copied()
    }

    fn agrees(&self, want: Want, current: Option<Digest>) -> bool {
        match want {
            Want::Any => true,
            Want::Absent => current.is_none(),
            Want::Is(image) => current == Some(self.images[image].digest()),
        }
    }

    pub(super) fn set_tag(&mut self, repository: usize, tag: usize, image: Option<usize>) {
        let target = image.map(|image| self.images[image].digest());
        let Some(shown) = self.model.get_mut(REPOSITORIES[repository]) else { return };
        match target {
            Some(digest) => drop(shown.tags.insert(TAGS[tag].to_owned(), digest)),
            None => drop(shown.tags.remove(TAGS[tag])),
        }
    }

    /// What a rebuild without the old metadata cannot know: content that no manifest of its repository refers to.
    pub(super) fn forget_unreferenced(&mut self) {
        for shown in self.model.values_mut() {
            let held = self.images.iter().filter(|artifact| shown.manifests.contains(&artifact.digest()));
            shown.contents = held.flat_map(Artifact::blobs).map(|bytes| digest_of(bytes)).collect();
            shown.limit = None;
        }
    }

    /// What no rebuild knows: repositories that hold nothing, and policies.
    pub(super) fn forget_empty(&mut self) {
        self.model.retain(|_, shown| !shown.contents.is_empty());
        self.model.values_mut().for_each(|shown| shown.keep = None);
    }
}
