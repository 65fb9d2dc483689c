//! What of an archive a request may see: one of its repositories, or what names of other tools reach.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::{Descriptor, Manifest, Reference, RepositoryName, Role, Tag};
use crate::server::names::Entries;
use crate::server::stream::Readable;
use crate::transfer::archive::{Archive, ArchiveRepository};
use crate::transfer::{Fetched, Source};
use crate::{Digest, Error, Page, Result};

/// Content that is no manifest, by the manifests that refer to it.
pub(super) type Users = HashMap<Digest, Vec<Digest>>;

/// An archive that is served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) archive: Archive,
    users: Arc<Users>,
}

impl Served {
    /// Reads every manifest, to know what belongs to which.
    pub(super) fn new(archive: Archive) -> Result<Self> {
        let mut users = Users::new();
        let mut seen = HashSet::new();
        for name in archive.repositories() {
            let repository = archive.repository(&name);
            for descriptor in repository.manifests()? {
                if !seen.insert(descriptor.digest) {
                    continue;
                }
                let Some(manifest) = read(&repository, &descriptor.digest)? else { continue };
                let contents = manifest.successors().iter().filter(|child| child.role != Role::Manifest);
                for Descriptor { digest, .. } in contents.map(|child| &child.descriptor) {
                    let users = users.entry(*digest).or_default();
                    if users.last() != Some(&descriptor.digest) {
                        users.push(descriptor.digest);
                    }
                }
            }
        }
        Ok(Self { archive, users: Arc::new(users) })
    }

    pub(super) fn view(&self, name: &RepositoryName) -> View {
        let repository = self.archive.repository(name);
        View { served: self.clone(), repository, entries: None }
    }

    /// A repository that holds a manifest.
    fn holder(&self, manifest: &Digest) -> Option<ArchiveRepository> {
        let unnamed = self.archive.repository(&RepositoryName::unnamed());
        if unnamed.media_type(manifest).is_some() {
            return Some(unnamed);
        }
        let names = self.archive.repositories();
        let mut all = names.iter().map(|name| self.archive.repository(name));
        all.find(|repository| repository.media_type(manifest).is_some())
    }
}

fn read(repository: &ArchiveRepository, digest: &Digest) -> Result<Option<Manifest>> {
    let Some(found) = repository.manifest(digest)? else { return Ok(None) };
    Manifest::read(&found.descriptor.media_type, &found.bytes).map(Some)
}

/// What one request may see.
#[derive(Clone, Debug)]
pub(super) struct View {
    served: Served,
    repository: ArchiveRepository,
    /// Names of other tools, which then are all that there is to see.
    entries: Option<Arc<Entries>>,
}

impl View {
    /// The same archive, as far as names of other tools reach.
    pub(super) fn of_entries(self, entries: Arc<Entries>) -> Self {
        Self { entries: Some(entries), ..self }
    }

    /// Whether there is anything.
    pub(super) fn exists(&self) -> bool {
        self.entries.is_some() || self.repository.exists()
    }

    /// The repository in which a manifest can be seen.
    fn holder(&self, manifest: &Digest) -> Result<Option<ArchiveRepository>> {
        let Some(entries) = &self.entries else {
            let held = self.repository.media_type(manifest).is_some();
            return Ok(held.then(|| self.repository.clone()));
        };
        let Some(holder) = self.served.holder(manifest) else { return Ok(None) };
        let successors = |digest: &Digest| {
            let manifest = self.served.holder(digest).map(|holder| read(&holder, digest)).transpose()?;
            Ok(manifest.flatten().map(|manifest| manifest.successors().to_vec()))
        };
        Ok(entries.reach_by(manifest, successors)?.then_some(holder))
    }

    /// A manifest by what it is called.
    pub(super) fn manifest(&self, reference: &Reference) -> Result<Option<Fetched>> {
        let digest = match (reference, &self.entries) {
            (Reference::Digest(digest), _) => Some(*digest),
            (Reference::Tag(tag), Some(entries)) => entries.tags.get(tag).copied(),
            (Reference::Tag(tag), None) => self.repository.resolve(tag)?.map(|found| found.digest),
        };
        let Some(digest) = digest else { return Ok(None) };
        self.holder(&digest)?.map_or(Ok(None), |holder| holder.manifest(&digest))
    }

    /// Content that a manifest which can be seen refers to.
    pub(super) fn content(&self, digest: &Digest) -> Result<Option<Stored>> {
        for user in self.served.users.get(digest).into_iter().flatten() {
            let Some(holder) = self.holder(user)? else { continue };
            if let Some(size) = self.served.archive.size(digest) {
                return Ok(Some(Stored::Placed(Placed {
                    archive: self.served.archive.clone(),
                    digest: *digest,
                    size,
                })));
            }
            // It may stand in the descriptor itself.
            let Some(manifest) = read(&holder, user)? else { continue };
            let mut named = manifest.successors().iter().filter(|child| child.descriptor.digest == *digest);
            if let Some(bytes) = named.find_map(|child| child.descriptor.inlined()) {
                return Ok(Some(Stored::Inlined(bytes.into())));
            }
        }
        Ok(None)
    }

    /// Tags in byte order behind a text, which need not be one.
    pub(super) fn tags(&self, last: &str, limit: usize) -> Result<Page<Tag>> {
        let mut tags: Vec<Tag> = match &self.entries {
            Some(entries) => entries.tags.keys().cloned().collect(),
            None => self.repository.tags(None, usize::MAX)?.items,
        };
        tags.retain(|tag| tag.as_str() > last);
        let more = tags.len() > limit && limit > 0;
        tags.truncate(limit);
        Ok(Page::new(tags, more))
    }

    /// Everything that can be seen and refers to a manifest, with when it was made.
    pub(super) fn referrers(&self, subject: &Digest) -> Result<Vec<(Descriptor, Option<i64>)>> {
        let repositories = match &self.entries {
            None => vec![self.repository.clone()],
            Some(_) => {
                let archive = &self.served.archive;
                archive.repositories().iter().map(|name| archive.repository(name)).collect()
            }
        };
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for repository in repositories {
            for descriptor in repository.referrers(subject)?.referrers {
                if seen.insert(descriptor.digest) && self.holder(&descriptor.digest)?.is_some() {
                    let created =
                        read(&repository, &descriptor.digest)?.and_then(|manifest| manifest.created());
                    found.push((descriptor, created));
                }
            }
        }
        found.sort_by_key(|(descriptor, _)| descriptor.digest);
        Ok(found)
    }
}

/// Where content is.
pub(super) enum Stored {
    Placed(Placed),
    Inlined(Bytes),
}

impl Stored {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Placed(placed) => placed.size,
            Self::Inlined(bytes) => bytes.len() as u64,
        }
    }
}

/// A content at its place in an archive.
#[derive(Debug)]
pub(super) struct Placed {
    archive: Archive,
    digest: Digest,
    size: u64,
}

impl Readable for Placed {
    /// What the kernel has of it nobody knows.
    fn ready(&self, _range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(None)
    }

    fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let cut = || Error::corrupt(format!("content ends early in the archive, digest={}", self.digest));
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| cut())?;
        let mut reader = self.archive.content(&self.digest, range.start)?.ok_or_else(cut)?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).map_err(|error| cut().with_source(error))?;
        Ok(bytes.into())
    }
}
