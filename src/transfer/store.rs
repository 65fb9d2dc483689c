//! A repository of a store as a place: content comes by shared blocks where it can, and goes on where an earlier run broke off.

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use parking_lot::Mutex;

use super::seam::{Arrival, Fetched, FoundBy, FoundReferrers, Incoming, Ready, Sink, Source};
use crate::blobs::{BlobReader, Expected, Sharing};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, RepositoryName, Tag};
use crate::store::{Batch, Expect, Page, Pushed, Repository, Store, Upload, UploadOptions};
use crate::sys::Aligned;

/// Bytes of new content after which what came so far is committed, so that an interrupted copy need not begin again.
const COMMIT_EVERY: u64 = 256 << 20;
/// The same in contents, of which a batch can hold so many.
const COMMIT_EVERY_CONTENTS: usize = 20_000;
/// Content that comes from elsewhere and is at least so large goes through an upload session, which the next run finds.
const RESUMABLE: u64 = 4 << 20;
/// After so many bytes what a session has is made durable.
const SAVE_EVERY: u64 = 32 << 20;
/// How long half a content waits for the next run.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a session may go without being saved, where bytes come slowly.
const UNSAVED: Duration = Duration::from_secs(24 * 60 * 60);
/// What is put down at once: large enough to go past the page cache.
const PART: u64 = 1 << 20;

impl Source for Repository {
    fn place(&self) -> String {
        place(self)
    }

    fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>> {
        Self::resolve(self, tag)
    }

    fn tags(&self, last: Option<&Tag>, limit: usize) -> Result<Page<Tag>> {
        let page = Self::tags(self, last.map(Tag::as_str), limit)?;
        Ok(Page::new(page.items.into_iter().map(|entry| entry.tag).collect(), page.more))
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Fetched>> {
        let Some(stored) = Self::manifest(self, digest)? else { return Ok(None) };
        Ok(Some(Fetched::new(stored.descriptor, stored.content.into_bytes())))
    }

    fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        let Some(mut reader) = self.reader(&descriptor.digest)? else { return Ok(None) };
        reader
            .seek(SeekFrom::Start(offset))
            .map_err(|error| from_io("read the content", &descriptor.digest, error))?;
        Ok(Some(Box::new(reader)))
    }

    fn size(&self, descriptor: &Descriptor) -> Result<Option<u64>> {
        Ok(self.stat(&descriptor.digest)?.map(|stat| stat.size))
    }

    fn referrers(&self, subject: &Digest) -> Result<FoundReferrers> {
        Ok(FoundReferrers::new(Self::referrers(self, subject).all()?, FoundBy::Layout, 1))
    }

    fn manifests(&self, last: Option<&Digest>, limit: usize) -> Result<Option<Page<Descriptor>>> {
        Self::manifests(self, last, limit).map(Some)
    }

    fn local(&self, digest: &Digest) -> Result<Option<BlobReader>> {
        self.reader(digest)
    }
}

fn place(repository: &Repository) -> String {
    if repository.name().is_unnamed() {
        "the layout".into()
    } else {
        format!("the repository {} of the layout", repository.name())
    }
}

/// A failure of a reader, which may carry one of ours.
pub(super) fn from_io(action: &str, digest: &Digest, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            Error::new(ErrorKind::Io, format!("cannot {action}, digest={digest}")).with_source(error)
        }
    }
}

/// A repository of a store, to copy into.
///
/// Manifests and tags become visible together (beyond 20,000 manifests in several steps, the tags with the last). Content becomes so in
/// commits of 256 MiB, and with [`Sink::keep`]: unnamed, for the next run to find. Large content that is no file of this machine goes
/// through an upload session, so that the next run goes on in the middle of it within a week; not in a plain layout, which keeps no
/// sessions.
pub struct RepositorySink {
    repository: Repository,
    sharing: Sharing,
    pending: Mutex<Pending>,
}

/// What waits to be committed.
struct Pending {
    batch: Batch,
    bytes: u64,
    contents: usize,
}

impl Pending {
    fn new(store: &Store) -> Self {
        Self { batch: store.batch(), bytes: 0, contents: 0 }
    }
}

impl std::fmt::Debug for RepositorySink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepositorySink")
            .field("repository", self.repository.name())
            .field("sharing", &self.sharing)
            .finish_non_exhaustive()
    }
}

impl RepositorySink {
    /// Copies into this repository, which need not exist yet.
    #[must_use]
    pub fn new(repository: &Repository) -> Self {
        let pending = Mutex::new(Pending::new(repository.store()));
        Self { repository: repository.clone(), sharing: Sharing::default(), pending }
    }

    /// Whether content shares its blocks with the source where it can. [`Sharing::Link`] by default.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    fn store(&self) -> &Store {
        self.repository.store()
    }

    /// Whether the store has the content, whoever holds it, and it is what its digest says.
    fn is_present(&self, descriptor: &Descriptor, verify: bool) -> Result<bool> {
        let (digest, unscoped) = (&descriptor.digest, self.store().unscoped());
        if unscoped.stat(digest)?.is_none_or(|stat| stat.size != descriptor.size) {
            return Ok(false);
        }
        let found = if verify {
            unscoped.verify(digest)
        } else {
            unscoped.reader(digest).map(|found| found.is_some())
        };
        match found {
            // Damaged: it is copied anew.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            other => other,
        }
    }

    /// Adds to what waits, and commits that once it is much.
    fn add(&self, bytes: u64, add: impl FnOnce(&mut Batch) -> Result<()>) -> Result<()> {
        let full = {
            let mut pending = self.pending.lock();
            add(&mut pending.batch)?;
            pending.bytes += bytes;
            pending.contents += 1;
            let is_full = pending.bytes >= COMMIT_EVERY || pending.contents >= COMMIT_EVERY_CONTENTS;
            is_full.then(|| std::mem::replace(&mut *pending, Pending::new(self.store())))
        };
        // Others go on meanwhile.
        full.map_or(Ok(()), |full| full.batch.commit().map(drop))
    }

    fn take(&self) -> Pending {
        std::mem::replace(&mut *self.pending.lock(), Pending::new(self.store()))
    }

    fn push_local(&self, from: &BlobReader, descriptor: &Descriptor, content: &dyn Incoming) -> Result<()> {
        if from.len() != descriptor.size {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "content has another size than its descriptor says, digest={}, expected={}, found={}",
                    descriptor.digest,
                    descriptor.size,
                    from.len()
                ),
            ));
        }
        let taken =
            self.store().ingest_from_observed(from, self.sharing, &mut |done| content.advance(done))?;
        self.add(descriptor.size, |batch| batch.push(&self.repository, taken).map(drop))
    }

    fn push_whole(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<()> {
        let mut ingest = self.store().ingest(descriptor.digest.algorithm())?;
        pump(descriptor, content, 0, |_, bytes| ingest.append(bytes))?;
        let taken = ingest.finish(&Expected::from(descriptor))?;
        self.add(descriptor.size, |batch| batch.push(&self.repository, taken).map(drop))
    }

    /// The session for a content; none where such cannot be had.
    fn session(&self, descriptor: &Descriptor) -> Result<Option<Upload>> {
        let options = UploadOptions::new()
            .algorithm(descriptor.digest.algorithm())
            .size(descriptor.size)
            .time_to_live(KEPT)
            .deferred(UNSAVED);
        match self.repository.upload_of(&descriptor.digest, &options) {
            Ok(upload) => Ok(Some(upload)),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Busy) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn push_session(
        &self,
        mut upload: Upload,
        descriptor: &Descriptor,
        content: &dyn Incoming,
    ) -> Result<Arrival> {
        let start = upload.offset();
        match fill(&mut upload, descriptor, content) {
            Ok(()) => {}
            // What came is wrong or too much: nothing of it is of use.
            Err(error) if error.kind() == ErrorKind::Mismatch => {
                upload.cancel()?;
                return self.again(start, error, descriptor, content);
            }
            Err(error) => {
                // The next run goes on from here; why this one failed is what matters now.
                let _ = upload.save();
                return Err(error);
            }
        }
        if upload.offset() < descriptor.size {
            // A line that was cut looks like an end, and what came before may be right.
            let _ = upload.save();
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "content has another size than announced, digest={}, expected={}, found={}",
                    descriptor.digest,
                    descriptor.size,
                    upload.offset()
                ),
            ));
        }
        match upload.finish(&Expected::from(descriptor)) {
            Ok(Pushed { .. }) if start > 0 => Ok(Arrival::Resumed(start)),
            Ok(Pushed { .. }) => Ok(Arrival::Copied),
            Err(error) if error.kind() == ErrorKind::Mismatch => {
                upload.cancel()?;
                self.again(start, error, descriptor, content)
            }
            Err(error) => {
                let _ = upload.save();
                Err(error)
            }
        }
    }

    /// Bytes of an earlier run may have been what was wrong.
    fn again(
        &self,
        start: u64,
        error: Error,
        descriptor: &Descriptor,
        content: &dyn Incoming,
    ) -> Result<Arrival> {
        if start == 0 {
            return Err(error);
        }
        self.push_whole(descriptor, content).map(|()| Arrival::Copied)
    }
}

fn fill(upload: &mut Upload, descriptor: &Descriptor, content: &dyn Incoming) -> Result<()> {
    let start = upload.offset();
    if start >= descriptor.size {
        return Ok(());
    }
    let mut saved = start;
    pump(descriptor, content, start, |at, bytes| {
        let end = upload.append(at, bytes)?;
        if end - saved >= SAVE_EVERY {
            saved = upload.save()?;
        }
        Ok(())
    })
}

/// Reads content from `start` to its end, and puts it down in parts that begin where the disk likes it. What came before a failure is put
/// down too.
pub(super) fn pump(
    descriptor: &Descriptor,
    content: &dyn Incoming,
    start: u64,
    mut put: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    // One byte more than was announced is enough to know.
    let left = descriptor.size.saturating_sub(start).saturating_add(1);
    let mut from = content.open(start)?.take(left);
    let mut buffer = Aligned::zeroed(usize::try_from(left.min(PART)).unwrap_or_default());
    let mut at = start;
    loop {
        // The first part may be shorter, so that the others begin at multiples of their length.
        let length = usize::try_from(PART - at % PART).unwrap_or_default().min(buffer.len());
        let (filled, end) =
            fill_part(descriptor, content, &mut from, at, buffer.get_mut(..length).unwrap_or_default());
        if let Some(part) = buffer.get(..filled).filter(|part| !part.is_empty()) {
            put(at, part)?;
        }
        at += filled as u64;
        if let Some(end) = end {
            return end;
        }
    }
}

/// Reads until the part is full, or to the end, which may be a failure. Answers how much came.
fn fill_part(
    descriptor: &Descriptor,
    content: &dyn Incoming,
    from: &mut dyn Read,
    at: u64,
    part: &mut [u8],
) -> (usize, Option<Result<()>>) {
    let mut filled = 0;
    while let Some(room) = part.get_mut(filled..).filter(|room| !room.is_empty()) {
        let most = room.len();
        match from.read(room) {
            Ok(0) => return (filled, Some(Ok(()))),
            Ok(count) if count > most => return (filled, Some(Err(overrun(&descriptor.digest)))),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let error = from_io("read the content from its source", &descriptor.digest, error);
                return (filled, Some(Err(error)));
            }
        }
        if content.advance(at + filled as u64).is_break() {
            return (filled, Some(Err(interrupted())));
        }
    }
    (filled, None)
}

#[cold]
fn overrun(digest: &Digest) -> Error {
    Error::new(ErrorKind::Io, format!("the source says it read more than it was asked for, digest={digest}"))
}

#[cold]
pub(super) fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "the copy was stopped by its caller")
}

impl Sink for RepositorySink {
    fn place(&self) -> String {
        place(&self.repository)
    }

    fn has(&self, descriptor: &Descriptor, verify: bool) -> Result<bool> {
        if !self.is_present(descriptor, verify)? {
            return Ok(false);
        }
        if self.repository.stat(&descriptor.digest)?.is_some() {
            return Ok(true);
        }
        let holders = self.store().unscoped().holders(&descriptor.digest)?;
        // What no repository holds any more is about to go.
        let Some(holder) = holders.first() else { return Ok(false) };
        self.mount(descriptor, holder)
    }

    fn has_manifest(&self, descriptor: &Descriptor, verify: bool) -> Result<bool> {
        Ok(self.is_present(descriptor, verify)? && self.repository.manifest(&descriptor.digest)?.is_some())
    }

    fn mount(&self, descriptor: &Descriptor, from: &RepositoryName) -> Result<bool> {
        let from = self.store().repository(from);
        if from.stat(&descriptor.digest)?.is_none() {
            return Ok(false);
        }
        self.add(0, |batch| batch.mount(&self.repository, &from, &descriptor.digest))?;
        Ok(true)
    }

    fn push(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<Arrival> {
        if let Some(from) = content.local()? {
            return self.push_local(&from, descriptor, content).map(|()| Arrival::Copied);
        }
        if descriptor.size >= RESUMABLE
            && let Some(upload) = self.session(descriptor)?
        {
            return self.push_session(upload, descriptor, content);
        }
        self.push_whole(descriptor, content).map(|()| Arrival::Copied)
    }

    fn complete(&self, manifests: Vec<Ready>, tags: &[(Tag, Digest)]) -> Result<()> {
        let mut batch = self.take().batch;
        for (index, Ready { manifest, sparse, .. }) in manifests.into_iter().enumerate() {
            if index > 0 && index % COMMIT_EVERY_CONTENTS == 0 {
                std::mem::replace(&mut batch, self.store().batch()).commit()?;
            }
            let Fetched { descriptor, bytes } = manifest;
            let (media_type, algorithm) = (&descriptor.media_type, descriptor.digest.algorithm());
            let found = if sparse {
                batch.push_sparse_manifest(&self.repository, media_type, bytes, algorithm)?
            } else {
                batch.push_manifest_as(&self.repository, media_type, bytes, algorithm)?
            };
            if found != descriptor.digest {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "manifest is not what its digest says, expected={}, found={found}",
                        descriptor.digest
                    ),
                ));
            }
        }
        for (tag, digest) in tags {
            batch.tag(&self.repository, tag, *digest, Expect::Any);
        }
        batch.commit().map(drop)
    }

    fn keep(&self) -> Result<()> {
        let pending = self.take();
        if pending.contents == 0 { Ok(()) } else { pending.batch.commit().map(drop) }
    }
}
