//! Content in memory.

use std::fmt;
use std::fs::File;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use super::{BlobReader, Blobs};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys;

/// Content of more bytes is not asked after page by page.
const ASKED: u64 = 8 << 20;

/// The bytes of one content, or a slice of them.
///
/// Cheap to clone and to slice. The bytes are mapped, read, or come from the journal, and stay valid whatever
/// happens to the store: removal, collection and closing do not reach them. The disk space of removed content is
/// given back when the last handle of it is dropped.
///
/// A mapped blob is backed by the disk: when the disk fails under it, or a foreign program truncates the file, the
/// process gets SIGBUS. A store opened to copy content is free of that.
#[derive(Clone)]
pub struct Blob {
    inner: Arc<Inner>,
    /// A slice of `inner.whole`.
    view: Bytes,
    offset: usize,
}

struct Inner {
    digest: Digest,
    whole: Bytes,
    /// None: journalled.
    blobs: Option<Arc<Blobs>>,
    pages: Pages,
}

/// Where the bytes of a blob are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pages {
    /// In memory of the process.
    Own,
    /// In pages of a file, of which the kernel tells whether they are in memory, or does not.
    Mapped { told: bool },
}

impl Blob {
    fn new(digest: Digest, whole: Bytes, blobs: Option<Arc<Blobs>>) -> Self {
        Self::of(Inner { digest, whole, blobs, pages: Pages::Own })
    }

    fn of(inner: Inner) -> Self {
        Self { view: inner.whole.clone(), inner: Arc::new(inner), offset: 0 }
    }

    /// Content that has no file yet, or whose file nobody shall ask for.
    pub(crate) fn journalled(digest: Digest, content: Bytes) -> Self {
        Self::new(digest, content, None)
    }

    /// Content that has a file, and whose bytes are in memory already.
    pub(crate) fn kept(blobs: &Arc<Blobs>, digest: Digest, content: Bytes) -> Self {
        Self::new(digest, content, Some(Arc::clone(blobs)))
    }

    /// Content read whole from its file; None when there is no file. Another size than `size` is `Corrupt`.
    pub(crate) fn read(blobs: &Arc<Blobs>, digest: Digest, size: u64) -> Result<Option<Self>> {
        let Some(file) = blobs.open_unchecked(&digest)? else { return Ok(None) };
        let content = super::reader::read_exactly(blobs, &file, &digest, size)?;
        Ok(Some(Self::new(digest, content, Some(Arc::clone(blobs)))))
    }

    /// Content mapped from its file; None when there is no file. Another size than `size` is `Corrupt`. Empty
    /// content is not mapped.
    pub(crate) fn map(blobs: &Arc<Blobs>, digest: Digest, size: u64) -> Result<Option<Self>> {
        if size == 0 {
            return Self::read(blobs, digest, size);
        }
        let Some(file) = blobs.open_file(&digest)? else { return Ok(None) };
        let fail = |error| Error::io("map the content", &blobs.path(&digest), error);
        match sys::Mapping::map(&file, blobs.root().path(), size).map_err(fail)? {
            sys::Mapped::Done(map) => {
                let pages = Pages::Mapped { told: map.is_told() };
                let whole = Bytes::from_owner(map);
                Ok(Some(Self::of(Inner { digest, whole, blobs: Some(Arc::clone(blobs)), pages })))
            }
            sys::Mapped::Size(found) => Err(wrong_size(&digest, size, &found.to_string())),
        }
    }

    /// Content of `reader`, without waiting for a disk: `WouldBlock` where that would be, and for content of more than
    /// 8 MiB, of which asking the kernel takes long.
    pub(crate) fn ready(reader: &BlobReader) -> Result<Self> {
        let digest = reader.digest();
        let ready = if reader.len() <= ASKED { reader.ready(0..reader.len())? } else { None };
        let whole = ready.ok_or_else(|| super::not_in_memory(&digest))?;
        Ok(Self::of(Inner { digest, whole, blobs: reader.blobs().cloned(), pages: reader.pages() }))
    }

    /// Where the bytes are.
    pub(super) fn pages(&self) -> Pages {
        self.inner.pages
    }

    /// The digest of the whole content, also for a slice.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Where this slice begins in the content, in bytes; 0 unless it was sliced.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// A part of it, without copying. Positions are bytes from the beginning of this slice.
    ///
    /// # Errors
    ///
    /// `Invalid` when the range ends before it begins or beyond the end.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Self> {
        let len = self.view.len();
        let start = match range.start_bound() {
            Bound::Included(&start) => Some(start),
            Bound::Excluded(&start) => start.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.checked_add(1),
            Bound::Excluded(&end) => Some(end),
            Bound::Unbounded => Some(len),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end && end <= len => Ok(Self {
                inner: Arc::clone(&self.inner),
                view: self.view.slice(start..end),
                offset: self.offset + start,
            }),
            _ => {
                let range = (range.start_bound(), range.end_bound());
                Err(Error::invalid(format!(
                    "range is outside of the content, digest={}, size={len}, range={range:?}",
                    self.inner.digest
                )))
            }
        }
    }

    /// The bytes, without copying them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.view
    }

    /// A handle of the content's file, for sendfile and positioned reads: it is the whole file, so a slice begins
    /// at [`Blob::offset`]. None while the content is journalled and once it was removed.
    ///
    /// Each call opens the file anew, so handles share no position.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened; `Corrupt` when something else than a file has its name.
    pub fn file(&self) -> Result<Option<File>> {
        match &self.inner.blobs {
            None => Ok(None),
            Some(blobs) => blobs.open_file(&self.inner.digest),
        }
    }

    /// Hashes the whole content, also for a slice.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the bytes are not those of the digest.
    pub fn verify(&self) -> Result<()> {
        let expected = self.inner.digest;
        let found = expected.algorithm().digest(&self.inner.whole);
        if found == expected {
            return Ok(());
        }
        Err(Error::corrupt(format!("content differs from its digest, digest={expected}, found={found}")))
    }
}

/// A file that is not as long as the metadata has it.
#[cold]
pub(super) fn wrong_size(digest: &Digest, expected: u64, found: &str) -> Error {
    Error::corrupt(format!(
        "content has another size than when it was stored, digest={digest}, expected={expected}, found={found}"
    ))
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.view
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.view
    }
}

impl From<Blob> for Bytes {
    fn from(blob: Blob) -> Self {
        blob.view
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &format_args!("{}", self.inner.digest))
            .field("offset", &self.offset)
            .field("len", &self.view.len())
            .finish_non_exhaustive()
    }
}
