//! Reading content: journal, file, and the row again before the answer is that there is none.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::Core;
use super::locks::Need;
use super::options::{ReadMode, Verify};
use super::small::SMALL;
use crate::blobs::{Blob, BlobReader, not_in_memory};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{ContentRecord, View};

/// Content of at least this many bytes is mapped; below it, one read costs less than a mapping and its page faults.
const MAP_THRESHOLD: u64 = 256 << 10;

/// Filing may move content from the journal to its file between two looks, and a push may bring it back; a third
/// round that finds neither means that the file is not there.
const ROUNDS: usize = 3;

/// What has to be hashed before it is given, by somebody who may not wait, is at most so large.
const HASHED_READY: u64 = 64 << 10;

/// Contents verified by this process that are remembered.
const REMEMBERED: usize = 16_384;

/// What is known of a content without reading it.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stat {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The media type under which the repository holds it as a manifest.
    pub media_type: Option<String>,
    /// Whether the repository holds it as a blob; it may hold it as a manifest too. Of the whole store, everything is.
    pub blob: bool,
}

/// Where a content was found.
enum Found<T> {
    Journal(Bytes),
    File(T),
}

/// The digests that this process has hashed, in bounded memory: a later one takes the place of an earlier one.
pub(super) struct Verified {
    kept: Mutex<Vec<Option<Digest>>>,
    /// What is being hashed; few at one time.
    under_way: Mutex<Vec<Digest>>,
    done: Condvar,
}

/// What is being hashed, no longer when this is dropped.
struct UnderWay<'a>(&'a Verified, &'a Digest);

impl Core {
    pub(super) fn load(&self, view: &View<'_>, digest: &Digest) -> Result<Option<Blob>> {
        let Some((record, blob)) = self.find_blob(view, digest)? else { return Ok(None) };
        self.check(view, &record, digest, || blob.verify())?;
        Ok(Some(blob))
    }

    pub(super) fn load_unverified(&self, view: &View<'_>, digest: &Digest) -> Result<Option<Blob>> {
        Ok(self.find_blob(view, digest)?.map(|(_, blob)| blob))
    }

    /// Hashes a content whatever the options say; false when it is not known.
    pub(super) fn verify_content(&self, view: &View<'_>, digest: &Digest) -> Result<bool> {
        match self.find(view, digest, |record| self.open_file(view, record, digest))? {
            None => return Ok(false),
            Some((_, Found::Journal(bytes))) => {
                self.verified(digest, Blob::journalled(*digest, bytes).verify())?;
            }
            Some((_, Found::File(reader))) => self.verified(digest, reader.verify())?,
        }
        Ok(true)
    }

    fn find_blob(&self, view: &View<'_>, digest: &Digest) -> Result<Option<(ContentRecord, Blob)>> {
        let map = self.options.read_mode == ReadMode::Map;
        let found = self.find(view, digest, |record| {
            if !view.waits() {
                self.find_ready(view, record, digest)
            } else if map && record.size >= MAP_THRESHOLD {
                Blob::map(&self.blobs, *digest, record.size)
            } else {
                Blob::read(&self.blobs, *digest, record.size)
            }
        })?;
        Ok(found.map(|(record, found)| match found {
            Found::Journal(bytes) => (record, Blob::journalled(*digest, bytes)),
            Found::File(blob) => (record, blob),
        }))
    }

    /// A content that has a file, without waiting for a disk.
    fn find_ready(&self, view: &View<'_>, record: &ContentRecord, digest: &Digest) -> Result<Option<Blob>> {
        if let Some(content) = self.small.get(digest) {
            return Ok(Some(Blob::kept(&self.blobs, *digest, content)));
        }
        let Some(reader) = self.open_file(view, record, digest)? else { return Ok(None) };
        let blob = Blob::ready(&reader)?;
        if record.size > SMALL || blob.verify().is_err() {
            // Damage is told, or given, as the options say of verifying.
            return Ok(Some(blob));
        }
        // Of its own: pages of a file could be taken from memory.
        let content = Bytes::copy_from_slice(&blob);
        self.small.keep(digest, content.clone());
        Ok(Some(Blob::kept(&self.blobs, *digest, content)))
    }

    pub(super) fn open_reader(&self, view: &View<'_>, digest: &Digest) -> Result<Option<BlobReader>> {
        let found = self.find(view, digest, |record| self.open_file(view, record, digest))?;
        let Some((record, found)) = found else { return Ok(None) };
        let reader = match found {
            Found::Journal(bytes) => BlobReader::from(Blob::journalled(*digest, bytes)),
            Found::File(reader) => reader,
        };
        self.check(view, &record, digest, || {
            if view.waits() { reader.verify() } else { Blob::ready(&reader)?.verify() }
        })?;
        Ok(Some(reader))
    }

    fn open_file(
        &self,
        view: &View<'_>,
        record: &ContentRecord,
        digest: &Digest,
    ) -> Result<Option<BlobReader>> {
        let lends = self.options.read_mode == ReadMode::Map;
        let open = if view.waits() { BlobReader::open } else { BlobReader::open_ready };
        open(&self.blobs, *digest, record.size, lends)
    }

    pub(super) fn load_range(
        &self,
        view: &View<'_>,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Option<Bytes>> {
        let Some(reader) = self.open_reader(view, digest)? else { return Ok(None) };
        if !view.waits() {
            return reader.ready(range)?.ok_or_else(|| not_in_memory(digest)).map(Some);
        }
        if range.end.saturating_sub(range.start) >= MAP_THRESHOLD {
            // Verified above where that was asked for, so the mapping need not be hashed again.
            return reader.lend(range).map(Some);
        }
        reader.range(range).map(Some)
    }

    fn find<T>(
        &self,
        view: &View<'_>,
        digest: &Digest,
        open: impl Fn(&ContentRecord) -> Result<Option<T>>,
    ) -> Result<Option<(ContentRecord, Found<T>)>> {
        for _ in 0..ROUNDS {
            let Some(record) = view.content(digest)? else { return Ok(None) };
            if !self.journal.is_empty()
                && let Some((_, bytes)) = view.journal(digest)?
            {
                return Ok(Some((record, Found::Journal(bytes))));
            }
            if let Some(file) = open(&record)? {
                return Ok(Some((record, Found::File(file))));
            }
        }
        Err(Error::corrupt(format!(
            "content has no file, digest={digest}, path={}",
            self.blobs.path(digest).display()
        )))
    }

    /// Verifies content that is about to be given, if it has to be.
    fn check(
        &self,
        view: &View<'_>,
        record: &ContentRecord,
        digest: &Digest,
        verify: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.must_verify(record, digest) {
            return Ok(());
        }
        if view.waits() {
            let outcome = match self.options.verify {
                Verify::Always => verify(),
                Verify::First | Verify::Never => self.verified.once(digest, verify),
            };
            return self.verified(digest, outcome);
        }
        // Damage is for somebody to find who may write that down.
        if record.size > HASHED_READY || verify().is_err() {
            return Err(not_in_memory(digest));
        }
        self.verified.remember(digest);
        Ok(())
    }

    /// Remembers the outcome of a verification: damage in the metadata, so that the next push brings the content again.
    fn verified(&self, digest: &Digest, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => self.verified.remember(digest),
            Err(error) => {
                if error.kind() == ErrorKind::Corrupt && self.check_writable().is_ok() {
                    // Damage that cannot be put down is damage all the same.
                    let _ = self.condemn(digest, true, false);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Looks at damage once more with the content to itself, unless that could not be read at all, and puts it down; what is
    /// still damaged goes to quarantine if it is to. None: it is whole, healed or gone by now, and no mark of damage stays.
    pub(super) fn condemn(&self, digest: &Digest, look: bool, quarantine: bool) -> Result<Option<bool>> {
        // While a checkpoint gives files further names, damage stays where it is.
        let unlinking = quarantine.then(|| self.locks.unlinking()).flatten();
        let quarantine = unlinking.is_some();
        let _held = self.locks.content([(digest, Need::Exclusive)].into_iter());
        let view = self.metadata.view();
        let Some(record) = view.content(digest)? else { return Ok(None) };
        if look && self.is_sound(&view, digest, &record)? {
            if record.damaged {
                // It could not be read for a while.
                let mut rows = self.metadata.rows();
                rows.put_content(digest, &ContentRecord { damaged: false, ..record });
                // Not synced: a mark that comes back is looked at again.
                self.write_unsynced(rows)?;
            }
            return Ok(None);
        }
        if !record.damaged {
            let mut rows = self.metadata.rows();
            rows.put_content(digest, &ContentRecord { damaged: true, ..record });
            // Not synced: a mark that is lost is found again.
            self.write_unsynced(rows)?;
        }
        if quarantine { self.move_to_quarantine(digest).map(Some) } else { Ok(Some(false)) }
    }

    fn is_sound(&self, view: &View<'_>, digest: &Digest, record: &ContentRecord) -> Result<bool> {
        if let Some((_, bytes)) = view.journal(digest)? {
            return Ok(digest.algorithm().digest(&bytes) == *digest);
        }
        let reader = BlobReader::open(&self.blobs, *digest, record.size, false);
        let verified = reader.and_then(|reader| reader.as_ref().map(BlobReader::verify).transpose());
        match verified {
            Ok(found) => Ok(found.is_some()),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn must_verify(&self, record: &ContentRecord, digest: &Digest) -> bool {
        match self.options.verify {
            Verify::Always => true,
            Verify::First => !self.verified.remembers(digest),
            Verify::Never => record.unverified && !self.verified.remembers(digest),
        }
    }
}

impl Verified {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::new(Vec::new()), under_way: Mutex::new(Vec::new()), done: Condvar::new() }
    }

    /// Hashes a content that was not found among those that were; who asks for it meanwhile waits for the outcome. One that was not good is
    /// everybody's own to find: it may have been healed.
    fn once(&self, digest: &Digest, verify: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut under_way = self.under_way.lock();
        while under_way.contains(digest) {
            self.done.wait(&mut under_way);
        }
        if self.remembers(digest) {
            return Ok(());
        }
        under_way.push(*digest);
        drop(under_way);
        let turn = UnderWay(self, digest);
        verify()?;
        self.remember(digest);
        drop(turn);
        Ok(())
    }

    fn remembers(&self, digest: &Digest) -> bool {
        self.kept.lock().get(place(digest)).is_some_and(|kept| kept.as_ref() == Some(digest))
    }

    fn remember(&self, digest: &Digest) {
        let mut kept = self.kept.lock();
        kept.resize(REMEMBERED, None);
        if let Some(slot) = kept.get_mut(place(digest)) {
            *slot = Some(*digest);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().retain(|digest| digest != self.1);
        self.0.done.notify_all();
    }
}

/// Digests are even by nature, so four bytes of one choose a slot well enough.
fn place(digest: &Digest) -> usize {
    let head = digest.as_bytes().first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    usize::try_from(head).unwrap_or_default() % REMEMBERED
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_never_mistaken() {
        let verified = Verified::new();
        let digests: Vec<Digest> = (0..3 * REMEMBERED).map(|n| Digest::of(&n.to_be_bytes())).collect();
        for digest in &digests {
            assert!(!verified.remembers(digest));
            verified.remember(digest);
            assert!(verified.remembers(digest));
        }
        let kept = digests.iter().filter(|digest| verified.remembers(digest)).count();
        assert!(kept <= REMEMBERED && kept > REMEMBERED / 2, "{kept}");
    }

    #[test]
    fn what_many_ask_for_at_once_is_hashed_once_unless_it_is_damaged() {
        const ASKING: usize = 8;
        let asked = |good: bool| {
            let (verified, digest) = (Verified::new(), Digest::of(b"asked for"));
            let hashed = AtomicUsize::new(0);
            let barrier = Barrier::new(ASKING);
            let answers: Vec<bool> = thread::scope(|scope| {
                let ask = || {
                    barrier.wait();
                    let hash = || {
                        hashed.fetch_add(1, Ordering::SeqCst);
                        // Long enough for the others to come.
                        thread::sleep(Duration::from_millis(10));
                        if good { Ok(()) } else { Err(Error::corrupt("damaged".to_owned())) }
                    };
                    verified.once(&digest, hash).is_ok()
                };
                let threads: Vec<_> = (0..ASKING).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().map(|thread| thread.join().is_ok_and(|answer| answer)).collect()
            });
            assert!(verified.under_way.lock().is_empty());
            assert!(answers.iter().all(|answer| *answer == good), "{answers:?}");
            hashed.into_inner()
        };
        assert_eq!((asked(true), asked(false)), (1, ASKING));
    }
}
