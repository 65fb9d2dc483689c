//! The unit of commit: content, manifests and tags that become visible and durable together or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::commit::Source;
use super::lease::LeaseId;
use super::repository::Repository;
use super::reservation::{Asked, Reservation};
use super::submit::{Commit, Job};
use super::uploads::UploadId;
use crate::blobs::{Body, Content, Expected};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::metadata::Kind;
use crate::oci::{Manifest, RepositoryName, Tag, media_type};

/// What a tag must name for a change of it to go through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a tag names nothing or something; there is no fourth case")]
pub enum Expect {
    /// Whatever it names.
    Any,
    /// Nothing: the tag must be new.
    Absent,
    /// This digest.
    Is(Digest),
}

/// What becomes of the removal of something that a manifest of the repository refers to.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Listed {
    /// It is refused with `Conflict`, naming that manifest.
    #[default]
    Refuse,
    /// It goes. What refers to it becomes sparse in the repository: it is known to lack something.
    Allow,
}

/// What became of one content or manifest.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the store had it already, from whatever repository. Not for telling a client who may see only some.
    pub existed: bool,
}

/// What became of one tag.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagChange {
    /// The repository of the tag.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it named before.
    pub previous: Option<Digest>,
    /// What it names now.
    pub current: Option<Digest>,
}

/// What a batch did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Committed {
    /// Contents and manifests, in the order in which they were added.
    pub pushed: Vec<Pushed>,
    /// Tags, in the order in which they were changed.
    pub tags: Vec<TagChange>,
}

/// A set of changes that is committed as one.
///
/// Nothing of it is visible before [`Batch::commit`]; dropping it leaves nothing behind. Its memory is bounded: what
/// does not fit the journal waits in private files.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("s"))?;
/// use orlop::Expect;
///
/// let images = store.default_repository();
/// let mut batch = store.batch();
/// let config = batch.push_bytes(&images, "{}")?;
/// let manifest = format!(
///     r#"{{"schemaVersion":2,"config":{{"mediaType":"application/x","digest":"{config}","size":2}},"layers":[]}}"#
/// );
/// let digest = batch.push_manifest(&images, "application/vnd.oci.image.manifest.v1+json", manifest)?;
/// batch.tag(&images, &"v1".parse()?, digest, Expect::Absent);
/// batch.commit()?;
/// assert_eq!(images.resolve(&"v1".parse()?)?.map(|found| found.digest), Some(digest));
/// # store.close()
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing before it is committed"]
pub struct Batch {
    store: Store,
    parts: Parts,
    /// Bytes of small content kept in memory.
    inline: u64,
    /// Contents that wait in private files.
    staged: usize,
    /// What quotas were asked for.
    asked: Asked,
}

/// Private files of one batch that stay open, for a sync of their own; the number of open files must not grow with
/// the batch.
const OPEN_FILES: usize = 4;

/// What a batch consists of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) items: Vec<Item>,
    /// Every content once, however many items name it.
    pub(super) sources: BTreeMap<Digest, Source>,
    /// Why the batch cannot be committed, known before it is.
    pub(super) refused: Option<Error>,
    /// Room in quotas that is kept for it.
    pub(super) reservations: Vec<Reservation>,
    /// Not a caller's: neither the bound on rows nor quotas count.
    pub(super) unlimited: bool,
}

#[derive(Debug)]
pub(super) enum Item {
    /// The repository holds the content as a blob.
    Hold {
        repository: RepositoryName,
        digest: Digest,
    },
    /// The repository holds a content that another one holds.
    Mount {
        repository: RepositoryName,
        from: RepositoryName,
        digest: Digest,
    },
    Manifest(Box<NewManifest>),
    Tag {
        repository: RepositoryName,
        tag: Tag,
        target: Option<Digest>,
        expect: Expect,
        changed: Changed,
    },
    /// The repository no longer holds the content, as a blob or as a manifest.
    Remove {
        repository: RepositoryName,
        kind: Kind,
        digest: Digest,
        listed: Listed,
    },
    /// A lease holds what the batch brings or names.
    Lease {
        id: LeaseId,
    },
    /// What an upload session brought is held by the repository, and the session goes.
    EndUpload {
        repository: RepositoryName,
        id: UploadId,
    },
    /// An `index.json` entry that is kept as it is.
    Foreign {
        name: String,
        digest: String,
        json: Option<String>,
    },
    /// What another tool says of an entry that has become ours.
    Extra {
        name: Option<String>,
        digest: Digest,
        json: String,
    },
}

/// When a tag came to name what it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Changed {
    /// With this batch.
    Now,
    /// With this batch, by another tool: `index.json` has it already.
    Merged,
    /// With this batch, which takes the tag away because a policy lets it go.
    ByPolicy,
    /// Earlier, in milliseconds since the epoch; nobody knows when, if none.
    Earlier(Option<u64>),
}

#[derive(Debug)]
pub(super) struct NewManifest {
    pub(super) repository: RepositoryName,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) manifest: Manifest,
    /// Whether the repository may lack what it refers to.
    pub(super) sparse: bool,
}

impl Batch {
    pub(super) fn new(store: Store) -> Self {
        Self { store, parts: Parts::default(), inline: 0, staged: 0, asked: Asked::default() }
    }

    /// Adds verified content to a repository.
    ///
    /// # Errors
    ///
    /// `NoSpace` and `Io` when it has to be written to a private file; `Invalid` for a repository of another store;
    /// `QuotaExceeded` when the commit would find no room for it. What a batch removes to make room, it removes first.
    pub fn push(&mut self, repository: &Repository, content: Content) -> Result<Digest> {
        self.check_store(repository)?;
        let digest = content.digest;
        self.asked.add(repository, &digest, content.size, &self.parts.reservations)?;
        self.add_content(content)?;
        self.parts.items.push(Item::Hold { repository: repository.name().clone(), digest });
        Ok(digest)
    }

    /// Adds bytes to a repository, named by their sha256.
    ///
    /// # Errors
    ///
    /// As [`Batch::push`]; `Invalid` for content above the limit of the store.
    pub fn push_bytes(&mut self, repository: &Repository, bytes: impl Into<Bytes>) -> Result<Digest> {
        let content = self.store.ingest_bytes(bytes, &Expected::default())?;
        self.push(repository, content)
    }

    /// Adds content that another repository of this store holds, without sending it again.
    ///
    /// The commit fails with `NotFound` when `from` does not hold it then.
    ///
    /// # Errors
    ///
    /// `Invalid` for a repository of another store.
    pub fn mount(&mut self, repository: &Repository, from: &Repository, digest: &Digest) -> Result<()> {
        self.check_store(repository)?;
        self.check_store(from)?;
        self.parts.items.push(Item::Mount {
            repository: repository.name().clone(),
            from: from.name().clone(),
            digest: *digest,
        });
        Ok(())
    }

    /// Adds a manifest, named by its sha256. Its bytes are kept as they are.
    ///
    /// The commit fails with `NotFound` when the repository lacks something that the manifest refers to. Its subject may
    /// be absent, and so may content that is not for distribution or has `urls`.
    ///
    /// # Errors
    ///
    /// `Invalid` for what [`Manifest::parse`] refuses and for a manifest above the limit of the store.
    pub fn push_manifest(
        &mut self,
        repository: &Repository,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<Digest> {
        self.add_manifest(repository, media_type, bytes.into(), Algorithm::default(), false)
    }

    /// [`Batch::push_manifest`] for a manifest that may refer to what the repository does not hold, as a filtered copy
    /// of an index does; named by the algorithm given.
    ///
    /// # Errors
    ///
    /// As [`Batch::push_manifest`].
    pub fn push_sparse_manifest(
        &mut self,
        repository: &Repository,
        media_type: &str,
        bytes: impl Into<Bytes>,
        algorithm: Algorithm,
    ) -> Result<Digest> {
        self.add_manifest(repository, media_type, bytes.into(), algorithm, true)
    }

    /// [`Batch::push_manifest`], named by another algorithm than sha256.
    ///
    /// # Errors
    ///
    /// As [`Batch::push_manifest`].
    pub fn push_manifest_as(
        &mut self,
        repository: &Repository,
        media_type: &str,
        bytes: impl Into<Bytes>,
        algorithm: Algorithm,
    ) -> Result<Digest> {
        self.add_manifest(repository, media_type, bytes.into(), algorithm, false)
    }

    /// Lets a tag name a manifest that the repository holds, or holds with this batch.
    ///
    /// The commit fails with `Conflict` when the tag is not what was expected, and with `NotFound` when the repository
    /// does not hold the manifest.
    pub fn tag(&mut self, repository: &Repository, tag: &Tag, target: Digest, expect: Expect) {
        self.change_tag(repository, tag, Some(target), expect);
    }

    /// Removes a tag. What it named stays. Removing a tag that is not there is no failure.
    ///
    /// The commit fails with `Conflict` when the tag is not what was expected.
    pub fn untag(&mut self, repository: &Repository, tag: &Tag, expect: Expect) {
        self.change_tag(repository, tag, None, expect);
    }

    /// Removes a manifest from a repository, with every tag of it there. What it refers to stays, and so do its referrers;
    /// other repositories that hold it are not touched. Its bytes stay until a collection takes them.
    ///
    /// The commit fails with `NotFound` when the repository does not hold it as a manifest, with `Conflict` while an index
    /// of the repository lists it, naming that one (an index that goes with the same batch does not count), and with
    /// `Corrupt` when it cannot be read: what it refers to could not be told.
    pub fn delete_manifest(&mut self, repository: &Repository, digest: &Digest) {
        self.remove(repository, Kind::Manifest, digest, Listed::Refuse);
    }

    /// Removes a content that a repository holds as a blob. Other repositories that hold it are not touched. Its bytes
    /// stay until a collection takes them.
    ///
    /// The commit fails with `NotFound` when the repository does not hold it as a blob, and with `Conflict` while a manifest
    /// of the repository refers to it, naming that one (a manifest that goes with the same batch does not count).
    pub fn delete_blob(&mut self, repository: &Repository, digest: &Digest) {
        self.remove(repository, Kind::Blob, digest, Listed::Refuse);
    }

    /// [`Batch::delete_manifest`], with the choice what becomes of it while an index of the repository lists it.
    pub fn delete_listed_manifest(&mut self, repository: &Repository, digest: &Digest, listed: Listed) {
        self.remove(repository, Kind::Manifest, digest, listed);
    }

    /// [`Batch::delete_blob`], with the choice what becomes of it while a manifest of the repository refers to it.
    pub fn delete_listed_blob(&mut self, repository: &Repository, digest: &Digest, listed: Listed) {
        self.remove(repository, Kind::Blob, digest, listed);
    }

    /// Lets what the batch adds take the room that was reserved. Whatever becomes of the commit, the rest goes back with it.
    ///
    /// # Errors
    ///
    /// `Invalid` for a reservation of another store, which is given back.
    pub fn settle(&mut self, reservation: Reservation) -> Result<()> {
        if !reservation.is_of(&self.store.core().quotas) {
            return Err(Error::invalid("reservation belongs to another store"));
        }
        self.parts.reservations.push(reservation);
        Ok(())
    }

    /// Commits: when this returns Ok, everything is visible and as durable as the store's [`Durability`](super::Durability)
    /// says. Blocks for at least one sync of the disk.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Conflict`, `BatchTooLarge`, `QuotaExceeded`, `ReadOnly`, `Poisoned`, `NoSpace`, `Io`: nothing of it happened.
    /// `Indeterminate`: a sync failed; all of it happened or nothing, which the next open tells.
    pub fn commit(self) -> Result<Committed> {
        self.store.core().commit(self.parts)
    }

    /// Hands the batch to a few threads of the store and returns at once. The result is a future that needs no runtime;
    /// dropping it neither undoes nor half-applies the commit.
    pub fn submit(self) -> Commit {
        let Self { store, parts, .. } = self;
        let shared = Arc::clone(&store.shared);
        shared.committers.submit(Job::new(store, parts))
    }

    fn add_manifest(
        &mut self,
        repository: &Repository,
        media_type: &str,
        bytes: Bytes,
        algorithm: Algorithm,
        sparse: bool,
    ) -> Result<Digest> {
        self.check_store(repository)?;
        let limit = self.store.core().options.limits.max_manifest_size;
        if bytes.len() > limit {
            return Err(Error::invalid(format!(
                "manifest is too large, size={}, limit={limit}",
                bytes.len()
            )));
        }
        let media_type = media_type::essence(media_type);
        let manifest = Manifest::parse(media_type, &bytes)?;
        let content = Content::from_bytes(algorithm, bytes, &Expected::default())?;
        let (digest, size) = (content.digest, content.size);
        self.asked.add(repository, &digest, size, &self.parts.reservations)?;
        self.add_content(content)?;
        self.parts.items.push(Item::Manifest(Box::new(NewManifest {
            repository: repository.name().clone(),
            digest,
            size,
            manifest,
            sparse,
        })));
        Ok(digest)
    }

    /// Adds content that nobody comes to hold by it.
    pub(super) fn add_content(&mut self, content: Content) -> Result<()> {
        let core = self.store.core();
        core.check_writable()?;
        if self.parts.sources.contains_key(&content.digest) {
            return Ok(());
        }
        let (digest, size) = (content.digest, content.size);
        let inline_limit = core.options.inline_limit as u64;
        let source = match content.body {
            // What the journal cannot take waits in a file, so that a batch of any size fits into memory.
            Body::Inline(bytes)
                if size <= inline_limit
                    && self.inline + size <= core.options.limits.journalled_batch_size =>
            {
                self.inline += size;
                Source::Inline(bytes)
            }
            body => {
                let mut staged = Content { digest, size, body }.into_staged(&core.blobs)?;
                self.staged += 1;
                if self.staged > OPEN_FILES {
                    staged.close();
                }
                Source::Staged { staged, size }
            }
        };
        self.parts.sources.insert(digest, source);
        Ok(())
    }

    fn remove(&mut self, repository: &Repository, kind: Kind, digest: &Digest, listed: Listed) {
        if let Err(error) = self.check_store(repository) {
            self.parts.refused.get_or_insert(error);
        }
        self.asked.makes_room = true;
        let repository = repository.name().clone();
        self.parts.items.push(Item::Remove { repository, kind, digest: *digest, listed });
    }

    fn change_tag(&mut self, repository: &Repository, tag: &Tag, target: Option<Digest>, expect: Expect) {
        if let Err(error) = self.check_store(repository) {
            self.parts.refused.get_or_insert(error);
        }
        self.parts.items.push(Item::Tag {
            repository: repository.name().clone(),
            tag: tag.clone(),
            target,
            expect,
            changed: Changed::Now,
        });
    }

    fn check_store(&self, repository: &Repository) -> Result<()> {
        self.check_same(repository.store(), || {
            format!("repository belongs to another store, repository={}", repository.name())
        })
    }

    pub(super) fn check_same(&self, other: &Store, what: impl FnOnce() -> String) -> Result<()> {
        if Arc::ptr_eq(&other.shared, &self.store.shared) { Ok(()) } else { Err(Error::invalid(what())) }
    }

    pub(super) fn add_item(&mut self, item: Item) {
        self.parts.items.push(item);
    }
}
