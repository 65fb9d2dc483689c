//! Content as a stream, in bounded memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blob::wrong_size;
use super::{Blob, Blobs};
use crate::digest::{Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Stat};

/// Up to this size memory is set aside by what the metadata say, without asking the file.
const TRUSTED: u64 = 1024 * 1024;

/// Reads one content from any position, whatever its size, in bounded memory.
///
/// Valid whatever happens to the store meanwhile. The bytes are not verified. A file that ends early makes a read
/// fail with `UnexpectedEof`.
pub struct BlobReader {
    digest: Digest,
    source: Source,
    len: u64,
    position: u64,
}

enum Source {
    File(File, Arc<Blobs>),
    Bytes(Bytes),
}

impl BlobReader {
    /// Reads from the content's file; None when there is no file. Another size than `size` is `Corrupt`.
    pub(crate) fn open(blobs: &Arc<Blobs>, digest: Digest, size: u64) -> Result<Option<Self>> {
        let Some(file) = blobs.open_file(&digest)? else { return Ok(None) };
        let fail = |error| Error::io("stat the content", &blobs.path(&digest), error);
        let found = Stat::of(&file).map_err(fail)?.size;
        if found != size {
            return Err(wrong_size(&digest, size, &found.to_string()));
        }
        Ok(Some(Self { digest, source: Source::File(file, Arc::clone(blobs)), len: size, position: 0 }))
    }

    /// The digest of the whole content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes there are in all, from the beginning, wherever the reader stands.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it, read into memory; the position stays. The caller has checked the range.
    pub(crate) fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let fail = |error| {
            Error::new(ErrorKind::Io, format!("cannot read a range of the content, digest={}", self.digest))
                .with_source(error)
        };
        let too_long = || fail(io::ErrorKind::OutOfMemory.into());
        let start = usize::try_from(range.start).map_err(|_| too_long())?;
        let end = usize::try_from(range.end).map_err(|_| too_long())?;
        match &self.source {
            Source::Bytes(bytes) => Ok(bytes.slice(start..end)),
            Source::File(file, blobs) => {
                let mut content = vec![0; end - start];
                sys::read_exact_at(file, &mut content, range.start, blobs.root().path()).map_err(fail)?;
                Ok(content.into())
            }
        }
    }

    /// The open file that has the content, unless it is in memory.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.source {
            Source::File(file, _) => Some(file),
            Source::Bytes(_) => None,
        }
    }

    /// Reads from the beginning; the position of this one stays.
    pub(crate) fn start(&self) -> impl Read + '_ {
        FromStart { of: self, position: 0 }
    }

    /// Hashes the whole content, in bounded memory; the position stays.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is not what its digest says; `Io`.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut digester = Digester::new(self.digest.algorithm());
        let mut buffer = vec![0; 256 << 10];
        let mut position = 0;
        while position < self.len {
            let part = buffer.len().min(usize::try_from(self.len - position).unwrap_or(usize::MAX));
            let part = buffer.get_mut(..part).unwrap_or_default();
            match &self.source {
                Source::File(file, blobs) => {
                    sys::read_exact_at(file, part, position, blobs.root().path()).map_err(|error| {
                        Error::new(ErrorKind::Io, format!("cannot read the content, digest={}", self.digest))
                            .with_source(error)
                    })?;
                }
                Source::Bytes(bytes) => {
                    let start = usize::try_from(position).unwrap_or(usize::MAX);
                    part.copy_from_slice(bytes.get(start..start + part.len()).unwrap_or_default());
                }
            }
            digester.update(part);
            position += part.len() as u64;
        }
        let found = digester.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "content is not what its digest says, expected={}, found={found}",
            self.digest
        )))
    }
}

impl From<Blob> for BlobReader {
    /// Reads what the blob derefs to: of a slice, the slice.
    fn from(blob: Blob) -> Self {
        let digest = blob.digest();
        let bytes = blob.into_bytes();
        Self { digest, len: bytes.len() as u64, source: Source::Bytes(bytes), position: 0 }
    }
}

impl BlobReader {
    fn read_from(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        match &self.source {
            Source::File(file, blobs) => {
                match sys::read_some_at(file, buffer, position, blobs.root().path())? {
                    0 => {
                        let message = format!(
                            "content ends early, digest={}, expected={}, found={position}",
                            self.digest, self.len
                        );
                        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
                    }
                    read => Ok(read),
                }
            }
            Source::Bytes(bytes) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                let part = bytes.get(start..).and_then(|rest| rest.get(..want)).unwrap_or_default();
                buffer.copy_from_slice(part);
                Ok(want)
            }
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_from(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// A reader with a position of its own.
struct FromStart<'a> {
    of: &'a BlobReader,
    position: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.of.read_from(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for BlobReader {
    /// A position beyond the end is allowed; reading there gives nothing.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("seek before the beginning, to={to:?}"))
        })?;
        Ok(self.position)
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &format_args!("{}", self.digest))
            .field("len", &self.len)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Reads a file of `size` bytes whole. One `pread` of one byte more tells in most cases that nothing follows.
pub(super) fn read_exactly(blobs: &Blobs, file: &File, digest: &Digest, size: u64) -> Result<Bytes> {
    let fail = |error| blobs.access_error("read the content", digest, error);
    if size > TRUSTED {
        let found = Stat::of(file).map_err(fail)?.size;
        if found != size {
            return Err(wrong_size(digest, size, &found.to_string()));
        }
    }
    let Some(len) = usize::try_from(size).ok().filter(|&len| len < isize::MAX as usize) else {
        return Err(Error::invalid(format!(
            "content does not fit into memory, digest={digest}, size={size}"
        )));
    };
    let mut content = Vec::with_capacity(len + 1);
    loop {
        let at = content.len();
        match sys::read_at(file, &mut content, at as u64, blobs.root().path()).map_err(fail)? {
            0 => break,
            // A regular file gives less than asked for only at its end.
            _ if content.len() >= len => break,
            _ => {}
        }
    }
    match content.len() {
        found if found == len => Ok(Bytes::from(content)),
        found if found < len => Err(wrong_size(digest, size, &found.to_string())),
        _ => Err(wrong_size(digest, size, "more")),
    }
}
