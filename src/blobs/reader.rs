//! Content as a stream, in bounded memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::blob::{Pages, wrong_size};
use super::{Blob, Blobs};
use crate::digest::{Algorithm, Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Stat};

/// Up to this size memory is set aside by what the metadata say, without asking the file.
const TRUSTED: u64 = 1024 * 1024;

/// Pieces of at least this many bytes are lent from a mapping; fewer are copied, which costs less than the faults of pages.
const LENT: usize = 16 << 10;

/// Reads one content from any position, whatever its size, in bounded memory.
///
/// Valid whatever happens to the store meanwhile. The bytes are not verified. A file that ends early makes a read
/// fail with `UnexpectedEof`. Reading waits for a disk if need be; [`BlobReader::ready`] does not.
pub struct BlobReader {
    digest: Digest,
    source: Source,
    len: u64,
    position: u64,
}

enum Source {
    File(Opened),
    Bytes(Bytes, Pages),
}

/// An open content file.
struct Opened {
    file: File,
    blobs: Arc<Blobs>,
    /// For fault points: files of one algorithm.
    algorithm: Algorithm,
    /// Whether bytes may be lent from a mapping.
    lends: bool,
    /// The file mapped, once somebody has asked for that, and whether the kernel tells which of its pages are in memory.
    /// None where it cannot be mapped.
    mapped: OnceLock<Option<(Bytes, bool)>>,
}

impl Opened {
    fn place(&self) -> &Path {
        self.blobs.place(self.algorithm)
    }

    /// The file mapped, if it has `size` bytes and can be.
    fn mapped(&self, size: u64) -> Option<&(Bytes, bool)> {
        let map = || match sys::Mapping::map(&self.file, self.place(), size) {
            Ok(sys::Mapped::Done(map)) => {
                let told = map.is_told();
                Some((Bytes::from_owner(map), told))
            }
            _ => None,
        };
        self.mapped.get_or_init(map).as_ref()
    }

    /// A part of the file, of `size` bytes in all, if it is in memory.
    fn ready(&self, size: u64, range: Range<usize>) -> io::Result<Option<Bytes>> {
        let (start, len) = (range.start as u64, range.len());
        let Some((mapped, true)) = self.mapped(size) else { return Ok(None) };
        let Some(part) = mapped.get(range.clone()) else { return Ok(None) };
        if !sys::are_resident(part, self.place()) {
            return Ok(None);
        }
        if self.lends && len >= LENT {
            return Ok(Some(mapped.slice(range)));
        }
        let mut content = vec![0; len];
        let read = sys::read_ready_at(&self.file, &mut content, start, self.place())?;
        Ok(read.then(|| content.into()))
    }
}

impl BlobReader {
    /// Reads from the content's file; None when there is no file. Another size than `size` is `Corrupt`.
    pub(crate) fn open(blobs: &Arc<Blobs>, digest: Digest, size: u64, lends: bool) -> Result<Option<Self>> {
        let Some(file) = blobs.open_file(&digest)? else { return Ok(None) };
        Self::of(blobs, file, digest, size, lends).map(Some)
    }

    /// The same without waiting for a disk: `WouldBlock` where that would be.
    pub(crate) fn open_ready(
        blobs: &Arc<Blobs>,
        digest: Digest,
        size: u64,
        lends: bool,
    ) -> Result<Option<Self>> {
        let Some(file) = blobs.open_ready(&digest)? else { return Ok(None) };
        Self::of(blobs, file, digest, size, lends).map(Some)
    }

    fn of(blobs: &Arc<Blobs>, file: File, digest: Digest, size: u64, lends: bool) -> Result<Self> {
        let fail = |error| Error::io("stat the content", &blobs.path(&digest), error);
        let found = Stat::of(&file).map_err(fail)?.size;
        if found != size {
            return Err(wrong_size(&digest, size, &found.to_string()));
        }
        let (blobs, algorithm) = (Arc::clone(blobs), digest.algorithm());
        let opened = Opened { file, blobs, algorithm, lends, mapped: OnceLock::new() };
        Ok(Self { digest, source: Source::File(opened), len: size, position: 0 })
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

    /// A part of it, read into memory; the position stays. Waits for a disk if need be.
    ///
    /// # Errors
    ///
    /// `Invalid` when the range does not lie within the content; `Io`, also when the file ends early.
    pub fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let within = self.within(&range)?;
        match &self.source {
            Source::Bytes(bytes, _) => Ok(bytes.slice(within)),
            Source::File(opened) => {
                let mut content = vec![0; within.len()];
                sys::read_exact_at(&opened.file, &mut content, range.start, opened.place())
                    .map_err(|error| self.fail(error))?;
                Ok(content.into())
            }
        }
    }

    /// A part of it, if that is in memory; None where a disk would be waited for, or nobody can tell. The position stays.
    ///
    /// Bytes of a mapped store are lent, not copied: they are pages of the file that were in memory when this looked. Under
    /// pressure the kernel may take them from memory again before they are used.
    ///
    /// # Errors
    ///
    /// As [`BlobReader::range`].
    pub fn ready(&self, range: Range<u64>) -> Result<Option<Bytes>> {
        let within = self.within(&range)?;
        match &self.source {
            _ if within.is_empty() => Ok(Some(Bytes::new())),
            Source::File(opened) => opened.ready(self.len, within).map_err(|error| self.fail(error)),
            Source::Bytes(bytes, pages) => {
                let part = bytes.slice(within);
                let ready = match pages {
                    Pages::Own => true,
                    Pages::Mapped { told } => *told && sys::are_resident(&part, Path::new("")),
                };
                Ok(ready.then_some(part))
            }
        }
    }

    /// All of it, if that is in memory and can be lent: pages of the mapped file of a store that [lends](crate::ReadMode::Map) them, however large.
    /// None where bytes would have to be copied or a disk waited for. The position stays.
    ///
    /// Under pressure the kernel may take pages from memory again before they are used, and then reads them once more.
    #[must_use]
    pub fn lent(&self) -> Option<Bytes> {
        match &self.source {
            Source::File(opened) if opened.lends => {
                let (mapped, told) = opened.mapped(self.len)?;
                (*told && sys::are_resident(mapped, opened.place())).then(|| mapped.clone())
            }
            Source::File(_) => None,
            Source::Bytes(bytes, _) => Some(bytes.clone()),
        }
    }

    /// A part of it, of the mapped file where bytes may be lent, else read.
    pub(crate) fn lend(&self, range: Range<u64>) -> Result<Bytes> {
        let within = self.within(&range)?;
        match &self.source {
            Source::File(opened) if opened.lends && !within.is_empty() => match opened.mapped(self.len) {
                Some((mapped, _)) => Ok(mapped.slice(within)),
                None => self.range(range),
            },
            _ => self.range(range),
        }
    }

    fn within(&self, range: &Range<u64>) -> Result<Range<usize>> {
        let place = |at: u64| usize::try_from(at).ok();
        match (place(range.start), place(range.end)) {
            (Some(start), Some(end)) if start <= end && range.end <= self.len => Ok(start..end),
            _ => Err(Error::invalid(format!(
                "range is outside of the content, digest={}, size={}, range={}..{}",
                self.digest, self.len, range.start, range.end
            ))),
        }
    }

    #[cold]
    fn fail(&self, error: io::Error) -> Error {
        Error::new(ErrorKind::Io, format!("cannot read the content, digest={}", self.digest))
            .with_source(error)
    }

    /// The files that it reads from, if it does.
    pub(super) fn blobs(&self) -> Option<&Arc<Blobs>> {
        match &self.source {
            Source::File(opened) => Some(&opened.blobs),
            Source::Bytes(..) => None,
        }
    }

    /// Where bytes are that [`BlobReader::ready`] gives.
    pub(super) fn pages(&self) -> Pages {
        match &self.source {
            Source::File(opened) if opened.lends => Pages::Mapped { told: true },
            Source::File(_) => Pages::Own,
            Source::Bytes(_, pages) => *pages,
        }
    }

    /// The open file that has the content, unless it is in memory.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.source {
            Source::File(opened) => Some(&opened.file),
            Source::Bytes(..) => None,
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
                Source::File(opened) => {
                    sys::read_exact_at(&opened.file, part, position, opened.place())
                        .map_err(|error| self.fail(error))?;
                }
                Source::Bytes(bytes, _) => {
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
        let pages = blob.pages();
        let bytes = blob.into_bytes();
        Self { digest, len: bytes.len() as u64, source: Source::Bytes(bytes, pages), position: 0 }
    }
}

impl BlobReader {
    fn read_from(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        match &self.source {
            Source::File(opened) => {
                match sys::read_some_at(&opened.file, buffer, position, opened.place())? {
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
            Source::Bytes(bytes, _) => {
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
        match sys::read_at(file, &mut content, at as u64, blobs.place(digest.algorithm())).map_err(fail)? {
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
