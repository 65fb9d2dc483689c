//! One repository of a store: the ordinary way to read and write.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::batch::Pushed;
use super::content::Stat;
use super::reservation::Asked;
use super::{Page, Store};
use crate::blobs::{Blob, BlobReader, Content, Expected};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::{Kind, RepositoryId, View};
use crate::oci::RepositoryName;

/// A repository: it shows only what was pushed or mounted into it.
///
/// Content of other repositories is answered as if it were absent, and so is a repository that does not exist.
#[derive(Debug)]
pub struct Repository {
    store: Store,
    name: RepositoryName,
    /// The id and the epoch in which it was found, so that most reads need no look-up; [`UNKNOWN`] before.
    cached: AtomicU64,
    /// Reads may wait for a disk.
    waits: bool,
}

const UNKNOWN: u64 = u64::MAX;

impl Clone for Repository {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            name: self.name.clone(),
            cached: AtomicU64::new(self.cached.load(Ordering::Relaxed)),
            waits: self.waits,
        }
    }
}

impl Repository {
    pub(super) fn new(store: Store, name: RepositoryName) -> Self {
        Self { store, name, cached: AtomicU64::new(UNKNOWN), waits: true }
    }

    /// A handle of the same repository whose reads never wait for a disk: they answer from memory or fail with
    /// [`ErrorKind::WouldBlock`](crate::ErrorKind::WouldBlock). For threads that serve many, such as those of an async
    /// runtime; whoever is told so asks an ordinary handle on a thread that may wait.
    ///
    /// Reads are `stat`, `get`, `reader`, `range`, `resolve`, `resolve_reference`, `manifest`, `manifests`, `tags`, `tags_of`,
    /// `contents`, `referrers`, `successors`, `predecessors` and `upload_status`. Everything else does as with any handle. A
    /// reader that `reader` gives waits in all but [`BlobReader::ready`]. `get` and `range` give nothing of more than 8 MiB that
    /// has a file, and nothing that would have to be hashed first and has more than 64 KiB.
    ///
    /// What is in memory is up to the kernel and the engine of the metadata. Where the kernel does not tell, such as of files
    /// that belong to another user, before Linux 5.12, and on some stacked filesystems, content in files counts as not in
    /// memory.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// use orlop::ErrorKind;
    ///
    /// let images = store.default_repository();
    /// let digest = images.push_bytes("hello")?.digest;
    /// let found = match images.without_waiting().get(&digest) {
    ///     Err(error) if error.kind() == ErrorKind::WouldBlock => images.get(&digest)?, // on another thread
    ///     answer => answer?,
    /// };
    /// assert_eq!(&found.expect("it was pushed")[..], b"hello");
    /// # store.close()
    /// # }
    /// ```
    #[must_use]
    pub fn without_waiting(&self) -> Self {
        Self { waits: false, ..self.clone() }
    }

    /// What is committed, as this handle reads it.
    pub(super) fn view(&self) -> View<'_> {
        let view = self.store.core().metadata.view();
        if self.waits { view } else { view.without_waiting() }
    }

    /// Its name; empty for the unnamed repository.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// The store that it is part of.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether it exists: from what is first pushed or mounted into it until it is deleted, also while it is empty.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.id(&self.view())?.is_some())
    }

    /// The id, when the repository exists.
    pub(super) fn id(&self, view: &View<'_>) -> Result<Option<RepositoryId>> {
        let epoch = self.store.core().repository_epoch.load(Ordering::Acquire);
        let cached = self.cached.load(Ordering::Relaxed);
        let (cached_epoch, id) = (cached >> 32, cached & u64::from(u32::MAX));
        if cached != UNKNOWN
            && cached_epoch == u64::from(epoch)
            && let Ok(id) = u32::try_from(id)
        {
            return Ok(Some(RepositoryId(id)));
        }
        let found = view.repository(self.name.as_str())?;
        if let Some(id) = found {
            self.cached.store(u64::from(epoch) << 32 | u64::from(id.0), Ordering::Relaxed);
        }
        Ok(found)
    }

    fn holds(&self, view: &View<'_>, digest: &Digest) -> Result<bool> {
        match self.id(view)? {
            Some(id) => view.holds(id, digest),
            None => Ok(false),
        }
    }

    /// Adds verified content.
    ///
    /// # Errors
    ///
    /// As [`Batch::commit`](super::Batch::commit).
    pub fn push(&self, content: Content) -> Result<Pushed> {
        let mut batch = self.store.batch();
        batch.push(self, content)?;
        first(batch.commit()?.pushed)
    }

    /// Adds bytes, named by their sha256.
    ///
    /// # Errors
    ///
    /// As [`Batch::commit`](super::Batch::commit); `Invalid` above the limit of the store.
    pub fn push_bytes(&self, bytes: impl Into<Bytes>) -> Result<Pushed> {
        self.push(self.store.ingest_bytes(bytes, &Expected::default())?)
    }

    /// Adds what a reader gives, named by the expected digest or else its sha256. Memory is bounded whatever comes.
    ///
    /// # Errors
    ///
    /// `Mismatch` when it is not what was expected; `Io` when the reader fails; as
    /// [`Batch::commit`](super::Batch::commit).
    pub fn push_reader(&self, reader: impl Read, expected: &Expected) -> Result<Pushed> {
        self.check_announced(expected)?;
        self.push(self.store.ingest_reader(reader, expected)?)
    }

    /// Adds a copy of a local file, by reflink where the filesystem can.
    ///
    /// # Errors
    ///
    /// As [`Repository::push_reader`]; `NotFound`, `Invalid` for what is not a readable regular file.
    pub fn push_file(&self, path: impl AsRef<Path>, expected: &Expected) -> Result<Pushed> {
        self.check_announced(expected)?;
        self.push(self.store.ingest_file(path, expected)?)
    }

    /// Refuses what is known to have no room in a quota, before it is taken in.
    fn check_announced(&self, expected: &Expected) -> Result<()> {
        match (&expected.digest, expected.size) {
            (Some(digest), Some(size)) => Asked::default().add(self, digest, size, &[]),
            _ => Ok(()),
        }
    }

    /// Adds content that `from` holds, without sending it again. None when `from` does not hold it.
    ///
    /// # Errors
    ///
    /// `Invalid` for a repository of another store; as [`Batch::commit`](super::Batch::commit).
    pub fn mount(&self, from: &Self, digest: &Digest) -> Result<Option<Pushed>> {
        if !Arc::ptr_eq(&self.store.shared, &from.store.shared) {
            return Err(Error::invalid(format!(
                "repository belongs to another store, repository={}",
                from.name
            )));
        }
        if !from.holds(&self.store.core().metadata.view(), digest)? {
            return Ok(None);
        }
        let mut batch = self.store.batch();
        batch.mount(self, from, digest)?;
        first(batch.commit()?.pushed).map(Some)
    }

    /// What is known of a content or manifest, without touching its bytes. What is found stays for the grace of the store's
    /// options, whatever is deleted meanwhile, so that who asked can rely on it.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`; as every read `WouldBlock`, if the handle is one that does not wait.
    pub fn stat(&self, digest: &Digest) -> Result<Option<Stat>> {
        let core = self.store.core();
        let view = self.view();
        let _held = core.answering(&view, digest)?;
        let Some(id) = self.id(&view)? else { return Ok(None) };
        let manifest = view.manifest(id, digest)?;
        let blob = view.is_member(id, Kind::Blob, digest)?;
        if manifest.is_none() && !blob {
            return Ok(None);
        }
        let Some(record) = view.content(digest)? else { return Ok(None) };
        Ok(Some(Stat {
            digest: *digest,
            size: record.size,
            media_type: manifest.map(|manifest| manifest.media_type),
            blob,
        }))
    }

    /// The bytes of a content or manifest.
    ///
    /// # Errors
    ///
    /// `Io`; `Corrupt` when the file is missing, has another size, or fails verification.
    pub fn get(&self, digest: &Digest) -> Result<Option<Blob>> {
        let core = self.store.core();
        let view = self.view();
        if !self.holds(&view, digest)? {
            return Ok(None);
        }
        core.load(&view, digest)
    }

    /// A reader of a content of any size in bounded memory.
    ///
    /// # Errors
    ///
    /// As [`Repository::get`].
    pub fn reader(&self, digest: &Digest) -> Result<Option<BlobReader>> {
        let core = self.store.core();
        let view = self.view();
        if !self.holds(&view, digest)? {
            return Ok(None);
        }
        core.open_reader(&view, digest)
    }

    /// A part of a content, in bytes from its beginning. Never reads the rest of it.
    ///
    /// # Errors
    ///
    /// `Invalid` when the range does not lie within the content; as [`Repository::get`].
    pub fn range(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        let core = self.store.core();
        let view = self.view();
        if !self.holds(&view, digest)? {
            return Ok(None);
        }
        core.load_range(&view, digest, range)
    }

    /// What the repository holds as blobs, by pages in order of digests.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn contents(&self, after: Option<&Digest>, limit: usize) -> Result<Page<Stat>> {
        let view = self.view();
        let mut digests = Vec::new();
        if limit > 0
            && let Some(id) = self.id(&view)?
        {
            view.blobs(id, after, |digest| {
                digests.push(digest);
                Ok(super::until(digests.len() > limit))
            })?;
        }
        let Page { items, more } = Page::cut(digests, limit);
        let mut page = Page { items: Vec::with_capacity(items.len()), more };
        for digest in items {
            if let Some(record) = view.content(&digest)? {
                page.items.push(Stat { digest, size: record.size, media_type: None, blob: true });
            }
        }
        Ok(page)
    }
}

fn first(pushed: Vec<Pushed>) -> Result<Pushed> {
    pushed.into_iter().next().ok_or_else(|| Error::corrupt("commit of one content answered nothing"))
}
