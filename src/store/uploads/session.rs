//! One session in the hands of its writer.

use std::fmt;

use bytes::Bytes;

use super::table::Taken;
use super::{UploadId, UploadStatus, check_lease, now};
use crate::blobs::{Expected, Hashes, UploadFile};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::UploadRecord;
use crate::store::Core;
use crate::store::batch::{Item, Parts, Pushed};
use crate::store::commit::Source;
use crate::store::lease::LeaseId;
use crate::store::locks::Need;

/// An upload session, which nobody else has while this lives.
///
/// Bytes are appended at the end; [`Upload::save`] makes them durable. What was appended and not saved is lost when this is
/// dropped, as in a crash, and the session goes on behind what was saved last.
#[must_use = "what is not saved or finished is lost"]
pub struct Upload {
    taken: Taken,
    /// As it was written last.
    record: UploadRecord,
    hashes: Hashes,
    /// It has no row yet, and lives so long from its first save on.
    deferred: Option<u64>,
    /// Bytes that are in no file yet, from the first on: no more than the journal takes as one content, which needs no file.
    memory: Vec<u8>,
    /// None while all bytes are in memory.
    file: Option<UploadFile>,
    /// Bytes that the session has here.
    offset: u64,
    /// A failed write may have left something behind the offset.
    untidy: bool,
    /// It was tried to finish it, so the file may have the name of content.
    staged: bool,
    /// Up to where the file was synced.
    synced: u64,
    /// Its name in the ingest directory is durable.
    named: bool,
    /// A sync of the file failed, or the session is over: nothing more is done with it here.
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stopped {
    /// A sync of its file failed.
    Unsynced,
    /// Its file has become content, although finishing it failed.
    Named,
    Finished,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.taken.id)
            .field("offset", &self.offset)
            .field("saved", &self.record.offset)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) fn new(taken: Taken, record: UploadRecord, hashes: Hashes, file: Option<UploadFile>) -> Self {
        let offset = record.offset;
        let named = offset > 0 && !record.unsynced;
        let synced = if named { offset } else { 0 };
        Self {
            taken,
            record,
            hashes,
            deferred: None,
            memory: Vec::new(),
            file,
            offset,
            untidy: false,
            staged: false,
            synced,
            named,
            stopped: None,
        }
    }

    pub(super) fn deferred(mut self, time_to_live: u64) -> Self {
        self.deferred = Some(time_to_live);
        self
    }

    /// Goes on with a session that was saved by whatever process.
    pub(super) fn resume(taken: Taken, mut record: UploadRecord) -> Result<Option<Self>> {
        let core = taken.core();
        if record.unsynced && !taken.saved_here() {
            // The file may hold something else than what was hashed: it is read again.
            record.distrust();
        }
        record.suspect |= taken.is_suspect();
        let hashes = Hashes::resume(&record.hashes, record.offset);
        if record.offset == 0 {
            return Ok(Some(Self::new(taken, record, hashes, None)));
        }
        let mut file = core.blobs.open_upload(&taken.id.0, record.offset)?;
        if let Some(old) = &file
            && (record.suspect || old.is_shared()?)
        {
            file = core.blobs.copy_upload(&taken.id.0, old, record.offset, &hashes, core.durable())?;
            if file.is_some() {
                core.sync_upload_name()?;
                (record.suspect, record.unsynced) = (false, !core.durable());
                put(&taken, &record)?;
            }
        }
        if file.is_some() {
            return Ok(Some(Self::new(taken, record, hashes, file)));
        }
        // Its bytes are not there any more, or are not what they were: there is nothing to go on with.
        core.delete_uploads(&[taken.id], core.durable())?;
        taken.remove();
        Ok(None)
    }

    /// The id, by which it is opened again.
    #[must_use]
    pub fn id(&self) -> UploadId {
        self.taken.id
    }

    /// How many bytes it has: where the next append begins. More than are durable, if not everything was saved.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is known of it, with what was saved last.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is no longer there; `Corrupt`.
    pub fn status(&self) -> Result<UploadStatus> {
        self.check()?;
        UploadStatus::new(self.taken.id, &self.record)
    }

    /// Adds bytes, which begin at `offset` and come behind those that are there; answers how many it has then. Does no more
    /// than to hash them and to write them, or to keep them in memory as long as all together fit the inline limit; they are durable after [`Upload::save`].
    ///
    /// In a durable store whole blocks of 4 KiB, if they are 256 KiB or more together and begin at a multiple of 4 KiB of the upload, go to the disk without
    /// a copy in the page cache; without any copy, if they begin at such a multiple in memory too.
    ///
    /// # Errors
    ///
    /// `OffsetMismatch`, which tells where the next bytes have to begin, when it is not there; `Mismatch` beyond the size that
    /// was announced, `Invalid` beyond the largest size allowed; `Busy` when all sessions together would have too many bytes,
    /// `QuotaExceeded` when a quota has no room for more; `NotFound` when it was removed with its repository; `NoSpace`, `ReadOnly`, `Poisoned`, `Io`. The session is as it was
    /// before, and the same bytes may be tried again.
    pub fn append(&mut self, offset: u64, bytes: impl AsRef<[u8]>) -> Result<u64> {
        self.check()?;
        let bytes = bytes.as_ref();
        if offset != self.offset {
            let kind = ErrorKind::OffsetMismatch { current: self.offset };
            return Err(Error::new(
                kind,
                format!(
                    "bytes do not begin where those of the upload end, offset={offset}, current={}",
                    self.offset
                ),
            ));
        }
        if bytes.is_empty() {
            return Ok(offset);
        }
        let end = self.check_end(bytes.len() as u64)?;
        self.taken.grow(end)?;
        if self.file.is_none() && end <= self.taken.core().options.inline_limit as u64 {
            self.memory.extend_from_slice(bytes);
        } else {
            self.write(bytes, offset)?;
        }
        self.hashes.update(bytes);
        self.offset = end;
        Ok(end)
    }

    /// Writes bytes into the file, behind those that were in memory. What a session takes may not be the last that others, and
    /// its own end, need to be written.
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let core = self.taken.core();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(core.blobs.create_upload(&self.taken.id.0)?),
        };
        if std::mem::take(&mut self.staged) && file.is_shared()? {
            self.stopped = Some(Stopped::Named);
        }
        self.check()?;
        self.taken.core().check_room_for_file((self.memory.len() + bytes.len()) as u64)?;
        self.untidy = true;
        let written = self.write_behind_memory(bytes, offset);
        if written.is_err() {
            // What cannot be cut off now is before anything else is done.
            let _ = self.tidy();
        }
        written
    }

    fn write_behind_memory(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let durable = self.taken.core().durable();
        let Some(file) = &mut self.file else { return Err(self.taken.gone()) };
        if !self.memory.is_empty() {
            file.write_at(&self.memory, 0, false)?;
            self.memory = Vec::new();
        }
        file.write_at(bytes, offset, durable)?;
        self.untidy = false;
        Ok(())
    }

    fn check_end(&self, more: u64) -> Result<u64> {
        let limit = self.taken.core().options.limits.max_content_size.unwrap_or(u64::MAX);
        let end = self.offset.checked_add(more).filter(|end| *end <= limit);
        let end =
            end.ok_or_else(|| Error::invalid(format!("content is larger than allowed, limit={limit}")))?;
        match self.record.expected {
            Some(expected) if end > expected => Err(Error::new(
                ErrorKind::Mismatch,
                format!("upload is longer than announced, expected={expected}, found={end}"),
            )),
            _ => Ok(end),
        }
    }

    /// Makes everything that was appended durable, and lets the session live on; answers the offset from which it goes on
    /// whatever happens. Blocks for a sync of the file and one of the metadata, if anything came since the last time.
    ///
    /// # Errors
    ///
    /// `Io` or `NoSpace` when the file cannot be synced: what was saved before stands, and this handle is of no more use;
    /// opened again, the session goes on behind that. `Indeterminate`, `Poisoned`, `NotFound`, `ReadOnly`.
    pub fn save(&mut self) -> Result<u64> {
        self.check()?;
        let durable = self.taken.core().durable();
        let is_saved = self.offset == self.record.offset && !(durable && self.record.unsynced);
        if is_saved && self.deferred.is_none() {
            return Ok(self.offset);
        }
        if !self.memory.is_empty() {
            self.write(&[], self.offset)?;
        }
        self.sync()?;
        if self.file.is_some() && !self.named {
            self.taken.core().sync_upload_name()?;
            self.named = durable;
        }
        let record = UploadRecord {
            saved: now(),
            offset: self.offset,
            hashes: self.hashes.midstates(),
            unsynced: !durable,
            ..self.lasting()
        };
        put(&self.taken, &record)?;
        (self.record, self.deferred) = (record, None);
        Ok(self.offset)
    }

    /// The record as it is with a row.
    fn lasting(&self) -> UploadRecord {
        let time_to_live = self.deferred.unwrap_or(self.record.time_to_live);
        UploadRecord { time_to_live, ..self.record.clone() }
    }

    /// Puts what will be finished under another lease, or under none. Durable when this returns; says nothing about what was
    /// appended and not saved.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such lease, or the session is no longer there; `ReadOnly`, `Poisoned`, `Indeterminate`,
    /// `NoSpace`, `Io`.
    pub fn set_lease(&mut self, lease: Option<LeaseId>) -> Result<()> {
        self.check()?;
        check_lease(self.taken.core(), lease)?;
        let record = UploadRecord { lease: lease.map(|id| *id.key()), ..self.lasting() };
        put(&self.taken, &record)?;
        (self.record, self.deferred) = (record, None);
        Ok(())
    }

    /// Cuts off what a failed write left.
    fn tidy(&mut self) -> Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.untidy) {
            file.trim(self.offset)?;
            self.untidy = false;
        }
        Ok(())
    }

    /// Puts the bytes on the disk as far as they have come.
    fn sync(&mut self) -> Result<()> {
        self.tidy()?;
        let durable = self.taken.core().durable();
        let Some(file) = self.file.as_mut().filter(|_| durable && self.synced != self.offset) else {
            return Ok(());
        };
        match file.sync() {
            Ok(()) => {
                self.synced = self.offset;
                Ok(())
            }
            Err(error) => Err(self.suspect(error)),
        }
    }

    /// A sync of the file failed. The kernel may have dropped the pages that it could not write, and would answer the next
    /// sync of the file with success, also to another process. The mark lives as long as what the kernel knows of the file:
    /// the log is not synced, so it outlives this process, and a power cut takes both.
    #[cold]
    fn suspect(&mut self, error: Error) -> Error {
        self.stopped = Some(Stopped::Unsynced);
        self.record.suspect = true;
        // A disk that is full takes no row.
        self.taken.suspect();
        if self.record.offset == 0 {
            // The next handle begins with a new file.
            return error;
        }
        match put_unsynced(&self.taken, &self.record) {
            Ok(()) => error,
            Err(worse) => worse,
        }
    }

    /// Ends the session: what it has becomes content of the repository if it is what was expected, visible and durable as
    /// any push, in one commit with the end of the session. Content that the store has already is success.
    ///
    /// Without an expected digest it is named by the first algorithm of its options. An algorithm that was not among them
    /// costs reading the content once, and so does blake3 if the session was opened again.
    ///
    /// # Errors
    ///
    /// `Mismatch` when size or digest are not what was expected: the session stays as it is, since the bytes may be right
    /// and the digest wrong; cancel it if they are not. `Conflict` when the lease of the session has ended, or would hold too
    /// much: [`Upload::set_lease`] gives it another. `NotFound` when the session is no longer there. As
    /// [`Batch::commit`](crate::Batch::commit); but for `NotFound` the session stays, and what it has of quotas, and finishing may
    /// be tried again.
    pub fn finish(&mut self, expected: &Expected) -> Result<Pushed> {
        self.check()?;
        self.tidy()?;
        let size = self.offset;
        for announced in [expected.size, self.record.expected].into_iter().flatten() {
            if announced != size {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("upload has another size than announced, expected={announced}, found={size}"),
                ));
            }
        }
        let algorithm = match expected.digest {
            Some(digest) => digest.algorithm(),
            None => self.hashes.first().unwrap_or_default(),
        };
        let small = size <= self.taken.core().options.inline_limit as u64;
        let (digest, source) =
            if small { self.small(algorithm, expected)? } else { self.large(algorithm, expected)? };
        let repository = self.taken.repository().name().clone();
        let mut items = vec![Item::Hold { repository: repository.clone(), digest }];
        // One without a row has none to remove. Removed with its repository at this very moment, it counts as a push after that.
        if self.deferred.is_none() {
            items.push(Item::EndUpload { repository, id: self.taken.id });
        }
        items.extend(self.record.lease.map(|id| Item::Lease { id: LeaseId::of(id) }));
        let mut parts = Parts { items, reservations: vec![self.taken.reservation()?], ..Parts::default() };
        parts.sources.insert(digest, source);
        let core = self.taken.core();
        let committed = core.commit(parts)?;
        self.stopped = Some(Stopped::Finished);
        self.taken.remove();
        let pushed = committed.pushed.into_iter().next();
        pushed.ok_or_else(|| Error::corrupt("commit of an upload answered nothing"))
    }

    /// Content for the journal is read, and hashed as it is read.
    fn small(&self, algorithm: Algorithm, expected: &Expected) -> Result<(Digest, Source)> {
        let size = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let bytes = match &self.file {
            Some(file) if self.memory.is_empty() => file.bytes(size)?,
            _ => Bytes::copy_from_slice(&self.memory),
        };
        let digest = algorithm.digest(&bytes);
        Expected { size: Some(self.offset), ..*expected }.check(digest, bytes.len() as u64)?;
        Ok((digest, Source::Inline(bytes)))
    }

    /// Everything else is given a further name, synced before if the store does not have it.
    fn large(&mut self, algorithm: Algorithm, expected: &Expected) -> Result<(Digest, Source)> {
        let size = self.offset;
        let digest = match (self.hashes.digest(algorithm), &self.file) {
            (Some(digest), _) => digest,
            (None, Some(file)) => file.hash(algorithm, size)?,
            (None, None) => return Err(self.taken.gone()),
        };
        expected.check(digest, size)?;
        let core = self.taken.core();
        if !core.is_hit(&core.metadata.view(), &digest)? {
            self.sync()?;
        }
        let core = self.taken.core();
        let Some(file) = &self.file else { return Err(self.taken.gone()) };
        self.staged = true;
        let staged = file.stage(&core.blobs, digest, size, self.synced == size)?;
        Ok((digest, Source::Staged { staged, size }))
    }

    /// Ends the session and removes what it has.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is over already; `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn cancel(mut self) -> Result<()> {
        let core = self.taken.core();
        core.check_writable()?;
        if self.stopped == Some(Stopped::Finished) {
            return Err(self.taken.gone());
        }
        self.taken.check()?;
        if self.deferred.is_none() {
            core.delete_uploads(&[self.taken.id], core.durable())?;
        }
        self.taken.remove();
        self.stopped = Some(Stopped::Finished);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.taken.core().check_writable()?;
        match self.stopped {
            Some(Stopped::Unsynced) => Err(self.open_again("a sync of the upload failed")),
            Some(Stopped::Named) => Err(self.open_again("the file of the upload has become content")),
            Some(Stopped::Finished) => Err(self.taken.gone()),
            None => self.taken.check(),
        }
    }

    #[cold]
    fn open_again(&self, why: &str) -> Error {
        let (id, saved) = (self.taken.id, self.record.offset);
        Error::new(ErrorKind::Io, format!("{why}, open it again, id={id}, saved={saved}"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.taken.settle(&self.record);
    }
}

/// Writes the row of a session that is still there.
fn put(taken: &Taken, record: &UploadRecord) -> Result<()> {
    put_with(taken, record, taken.core().durable())
}

fn put_unsynced(taken: &Taken, record: &UploadRecord) -> Result<()> {
    put_with(taken, record, false)
}

fn put_with(taken: &Taken, record: &UploadRecord, sync: bool) -> Result<()> {
    let core = taken.core();
    let name = taken.repository().name();
    // Its repository is not deleted meanwhile, or the row would outlive it.
    let held = core.locks.repositories([(name.as_str(), Need::Shared)].into_iter());
    taken.check()?;
    let mut rows = core.metadata.rows();
    rows.put_upload(&taken.id.0, record);
    let unsynced = core.put_with(rows, sync)?;
    drop(held);
    core.sync(unsynced)?;
    taken.saved(record);
    Ok(())
}

impl Core {
    /// The names of sessions' files are durable.
    fn sync_upload_name(&self) -> Result<()> {
        if !self.durable() {
            return Ok(());
        }
        self.blobs.sync_ingest().map_err(|error| self.poison(error))
    }
}
