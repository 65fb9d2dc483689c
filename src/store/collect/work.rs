//! What a collection works on.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::{Kind, ManifestRecord, Queued, RepositoryId, View};
use crate::oci::Manifest;
use crate::store::Core;

/// Why a manifest is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// It lost its name, and goes whatever the policy says.
    Named,
    /// Its subject went.
    Referrer,
    /// The policy lets untagged manifests go.
    Untagged,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    Manifest(Why),
    Blob,
    Content,
}

/// One thing that goes unless something needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) what: What,
    pub(super) id: RepositoryId,
    pub(super) digest: Digest,
    pub(super) since: u64,
}

/// What a dry run has still to look at.
pub(super) enum Task {
    Candidate(Candidate),
    Subject(Queued),
}

/// What was removed and the rows may not say yet: by the group that is being planned, or by a dry run so far.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) tags: HashSet<(RepositoryId, String)>,
    pub(super) members: HashSet<(RepositoryId, Kind, Digest)>,
    pub(super) contents: HashSet<Digest>,
    /// What was counted as kept in this run; the queue may ask for it more than once.
    pub(super) kept: HashSet<(RepositoryId, Digest)>,
}

/// Things kept that are told from others.
const TOLD: usize = 1 << 16;

impl Gone {
    /// The rows say it now.
    pub(super) fn forget(&mut self) {
        self.members.clear();
        self.contents.clear();
    }

    /// Whether something that is kept counts.
    pub(super) fn counts(&mut self, id: RepositoryId, digest: &Digest) -> bool {
        self.kept.len() >= TOLD || self.kept.insert((id, *digest))
    }
}

/// A manifest as far as it can be read, before any lock is taken.
pub(super) enum Read {
    /// The repository does not hold it.
    Absent,
    Unreadable(String),
    Parsed(ManifestRecord, Box<Manifest>),
}

impl Read {
    pub(super) fn of(core: &Core, view: &View<'_>, candidate: &Candidate) -> Result<Self> {
        let Some(record) = view.manifest(candidate.id, &candidate.digest)? else { return Ok(Self::Absent) };
        match core.parse_stored(view, &record.media_type, &candidate.digest) {
            Ok(Some(manifest)) => Ok(Self::Parsed(record, Box::new(manifest))),
            Ok(None) => Ok(Self::Unreadable("its content is not known".to_owned())),
            // Whatever the reason is: what it refers to is not known, so nothing is touched.
            Err(error) => Ok(Self::Unreadable(crate::store::rebuild::chain(&error))),
        }
    }

    pub(super) fn subject(&self) -> Option<&Digest> {
        match self {
            Self::Parsed(_, manifest) => manifest.subject().map(|subject| &subject.digest),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}
