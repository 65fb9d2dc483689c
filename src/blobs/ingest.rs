//! Content on its way in: hashed while it is written, checked before anybody can see it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::filing::Staged;
use super::pipe::{BUFFER, Pipe};
use super::{BlobReader, Blobs};
use crate::digest::{Algorithm, Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Descriptor;
use crate::sys::fault::{self, Call};
use crate::sys::{self, How, TempFile};

/// Beyond so many bytes a thread of its own writes.
const PIPE_FROM: u64 = 8 * 1024 * 1024;

/// Watches content on its way in: told how many bytes are done, it says whether to go on.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// The observer of content that nobody watches.
pub(crate) fn unobserved(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What content must turn out to be. What is None is not checked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// The digest; its algorithm is the one the content is stored under.
    pub digest: Option<Digest>,
    /// The size in bytes.
    pub size: Option<u64>,
}

impl Expected {
    /// The algorithm to hash with: that of the expected digest, else sha256.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.digest.map_or_else(Algorithm::default, |digest| digest.algorithm())
    }

    /// The same with a size in bytes.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Size first: it is the cheaper and the plainer thing to be told of.
    pub(crate) fn check(&self, digest: Digest, size: u64) -> Result<()> {
        if let Some(expected) = self.size.filter(|&expected| expected != size) {
            let name = self.digest.unwrap_or(digest);
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "content has another size than announced, digest={name}, expected={expected}, found={size}"
                ),
            ));
        }
        if let Some(expected) = self.digest.filter(|&expected| expected != digest) {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("content has another digest than announced, expected={expected}, found={digest}"),
            ));
        }
        Ok(())
    }
}

impl From<Digest> for Expected {
    fn from(digest: Digest) -> Self {
        Self { digest: Some(digest), size: None }
    }
}

impl From<&Descriptor> for Expected {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: Some(descriptor.digest), size: Some(descriptor.size) }
    }
}

/// Whether content that another store or layout on the same filesystem has may share its blocks with it.
///
/// Whatever is chosen, the content is hashed, and a file that anybody may write is never shared by name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sharing {
    /// By reflink, else as a hard link of a read-only file of the same user, else copied.
    #[default]
    Link,
    /// By reflink, else copied: damage to one file is no damage to the other, unless it is of the disk.
    Reflink,
    /// Always copied.
    Never,
}

/// Content that is complete, verified and still private. Dropped, it is gone.
#[derive(Debug)]
#[must_use = "content that is not pushed is gone"]
pub struct Content {
    /// What it is.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Where it is.
    pub(crate) body: Body,
}

/// Where verified content is.
#[derive(Debug)]
pub(crate) enum Body {
    /// In memory: at most the inline limit.
    Inline(Bytes),
    /// In a file of the ingest directory.
    File(TempFile),
}

impl Content {
    /// Hashes bytes that are in memory and checks them.
    pub(crate) fn from_bytes(algorithm: Algorithm, bytes: Bytes, expected: &Expected) -> Result<Self> {
        check_algorithm(algorithm, expected)?;
        let (digest, size) = (algorithm.digest(&bytes), bytes.len() as u64);
        expected.check(digest, size)?;
        Ok(Self { digest, size, body: Body::Inline(bytes) })
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The content as a file that waits for its name; an inline body is written into one, not synced.
    pub(crate) fn into_staged(self, blobs: &Blobs) -> Result<Staged> {
        match self.body {
            Body::Inline(bytes) => blobs.stage(self.digest, &bytes),
            Body::File(temp) => Ok(Staged::new(self.digest, temp)),
        }
    }
}

/// Takes in one content in pieces. Dropped before it is finished, nothing stays.
pub struct Ingest {
    blobs: Arc<Blobs>,
    algorithm: Algorithm,
    digester: Digester,
    inline_limit: usize,
    max_size: Option<u64>,
    size: u64,
    sink: Sink,
    around: bool,
}

enum Sink {
    Memory(Vec<u8>),
    File(TempFile, Vec<u8>),
    Pipe(Pipe),
    /// A write failed or the content was refused; it says what nothing more can be added to.
    Failed,
}

impl Ingest {
    /// Begins. Content of at most `inline_limit` bytes stays in memory; more than `max_size` is refused.
    pub(crate) fn new(
        blobs: Arc<Blobs>,
        algorithm: Algorithm,
        inline_limit: usize,
        max_size: Option<u64>,
    ) -> Self {
        Self {
            blobs,
            algorithm,
            digester: Digester::new(algorithm),
            inline_limit,
            max_size,
            size: 0,
            sink: Sink::Memory(Vec::new()),
            around: false,
        }
    }

    /// Large content is written past the page cache: it is synced soon, and waits for the disk then anyway.
    pub(crate) fn around(mut self, around: bool) -> Self {
        self.around = around;
        self
    }

    /// How many bytes came so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes. After an error the ingest is of no more use.
    ///
    /// # Errors
    ///
    /// `Invalid` beyond the largest size allowed, `NoSpace` and `Io` as the system has it; a failure to write may
    /// be told by a later call.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if let Some(limit) = self.max_size.filter(|&limit| size > limit) {
            self.sink = Sink::Failed;
            return Err(too_large(limit));
        }
        // The pipe gets its bytes first: its thread writes while this one hashes.
        let sink = std::mem::replace(&mut self.sink, Sink::Failed);
        self.sink = self.put(sink, bytes, size)?;
        self.digester.update(bytes);
        self.size = size;
        Ok(())
    }

    fn put(&self, sink: Sink, bytes: &[u8], size: u64) -> Result<Sink> {
        let fail = |error| self.write_error(error);
        match sink {
            Sink::Memory(mut memory) if size <= self.inline_limit as u64 => {
                memory.extend_from_slice(bytes);
                Ok(Sink::Memory(memory))
            }
            Sink::Memory(memory) => {
                let dir = self.blobs.ingest_dir()?;
                let temp = TempFile::create(dir)
                    .map_err(|error| Error::io("create a file in the ingest directory", dir.path(), error))?;
                self.put(Sink::File(temp, memory), bytes, size)
            }
            Sink::File(mut temp, mut buffer) => {
                if buffer.len() + bytes.len() >= BUFFER {
                    temp.write_all(&buffer).map_err(fail)?;
                    buffer.clear();
                }
                if bytes.len() >= BUFFER {
                    temp.write_all(bytes).map_err(fail)?;
                } else {
                    buffer.extend_from_slice(bytes);
                }
                if size < PIPE_FROM {
                    return Ok(Sink::File(temp, buffer));
                }
                temp.write_all(&buffer).map_err(fail)?;
                buffer.clear();
                Ok(Pipe::start(temp, self.around).map_or_else(|temp| Sink::File(temp, buffer), Sink::Pipe))
            }
            Sink::Pipe(mut pipe) => {
                pipe.write(bytes).map_err(fail)?;
                Ok(Sink::Pipe(pipe))
            }
            Sink::Failed => Err(failed()),
        }
    }

    /// Adds everything that `source` gives; answers how many bytes that were.
    ///
    /// # Errors
    ///
    /// As [`Ingest::append`]; `Io` when the source fails.
    pub fn append_from(&mut self, source: impl Read) -> Result<u64> {
        self.append_observed(source, &mut unobserved)
    }

    /// As [`Ingest::append_from`], watched: `Interrupted` when the observer says so.
    pub(crate) fn append_observed(&mut self, mut source: impl Read, observer: Observer<'_>) -> Result<u64> {
        let start = self.size;
        // Little content must not cost a large buffer; a reader that has more gets one.
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(self.size - start),
                Ok(read) => {
                    self.append(buffer.get(..read).unwrap_or_default())?;
                    if observer(self.size - start).is_break() {
                        self.sink = Sink::Failed;
                        return Err(stopped());
                    }
                    if read == buffer.len() && buffer.len() < BUFFER {
                        buffer = vec![0; BUFFER];
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.sink = Sink::Failed;
                    let message = format!("cannot read the source of the content, offset={}", self.size);
                    return Err(Error::new(ErrorKind::Io, message).with_source(error));
                }
            }
        }
    }

    /// Ends: everything is written, though not synced, and is what was expected.
    ///
    /// # Errors
    ///
    /// `Mismatch` when it is not, `Invalid` when the digest expected is of another algorithm; nothing is left
    /// behind then.
    pub fn finish(mut self, expected: &Expected) -> Result<Content> {
        check_algorithm(self.algorithm, expected)?;
        let sink = std::mem::replace(&mut self.sink, Sink::Failed);
        let body = match sink {
            Sink::Memory(memory) => Body::Inline(Bytes::from(memory)),
            Sink::File(mut temp, buffer) => {
                temp.write_all(&buffer).map_err(|error| self.write_error(error))?;
                Body::File(temp)
            }
            Sink::Pipe(pipe) => Body::File(pipe.finish().map_err(|error| self.write_error(error))?),
            Sink::Failed => return Err(failed()),
        };
        let digest = self.digester.finish();
        expected.check(digest, self.size)?;
        Ok(Content { digest, size: self.size, body })
    }

    fn write_error(&self, error: io::Error) -> Error {
        let path = self.blobs.ingest_dir().map_or_else(|_| self.blobs.root().path(), sys::Dir::path);
        Error::io("write content into the ingest directory", path, error)
    }

    /// Takes in a file by its path. Content above the inline limit is cloned, or copied inside the kernel, into a
    /// private file, and that is hashed: a source that changes meanwhile does no harm.
    ///
    /// `Invalid` when it is no regular file, `NotFound` when there is none.
    ///
    /// `Interrupted` when the observer says so. Where bytes are copied before they are hashed, each half of the work
    /// counts for half of them.
    pub(crate) fn take_path(
        self,
        path: &Path,
        expected: &Expected,
        observer: Observer<'_>,
    ) -> Result<Content> {
        let file = sys::open_source(path).map_err(|error| source_error(path, error))?;
        self.take_file(&file, path, expected, observer)
    }

    /// As [`Ingest::take_path`], of a file that is open for reading, from its beginning.
    pub(crate) fn take_file(
        mut self,
        file: &File,
        path: &Path,
        expected: &Expected,
        observer: Observer<'_>,
    ) -> Result<Content> {
        check_algorithm(self.algorithm, expected)?;
        let fail = |error| source_error(path, error);
        let stat = sys::Stat::of(file).map_err(fail)?;
        if !stat.is_file {
            return Err(Error::invalid(format!("source is not a regular file, path={}", path.display())));
        }
        let limit = self.max_size.unwrap_or(u64::MAX);
        if stat.size > limit {
            return Err(too_large(limit));
        }
        if stat.size <= self.inline_limit as u64 {
            self.append_observed(At { file, position: 0 }, observer)?;
            return self.finish(expected);
        }
        let dir = self.blobs.ingest_dir()?;
        let temp = TempFile::create(dir)
            .map_err(|error| Error::io("create a file in the ingest directory", dir.path(), error))?;
        let copy = |error: io::Error| match error.kind() {
            io::ErrorKind::FileTooLarge => too_large(limit),
            io::ErrorKind::Interrupted => stopped(),
            _ => Error::io("copy the source into the ingest directory", path, error),
        };
        let filled = temp.fill_from(file, limit, &mut |copied| observer(copied / 2)).map_err(copy)?;
        let size = match filled {
            // What is copied here is hashed as it is written: there are filesystems that show a writer other bytes than
            // they keep.
            None => {
                self.sink = Sink::File(temp, Vec::new());
                self.append_observed(At { file, position: 0 }, observer)?;
                return self.finish(expected);
            }
            Some((_, How::Cloned)) => self.hash_private(&temp, observer)?,
            Some((_, How::Copied)) => {
                let half = stat.size / 2;
                self.hash_private(&temp, &mut |hashed| observer(half.saturating_add(hashed.div_ceil(2))))?
            }
        };
        let digest = self.digester.finish();
        expected.check(digest, size)?;
        Ok(Content { digest, size, body: Body::File(temp) })
    }

    /// Takes in content of another store or layout: shared with it as far as allowed and possible, else copied; hashed in
    /// any case.
    pub(crate) fn take_reader(
        mut self,
        from: &BlobReader,
        sharing: Sharing,
        expected: &Expected,
        observer: Observer<'_>,
    ) -> Result<Content> {
        let Some(file) = from.file().filter(|_| from.len() > self.inline_limit as u64) else {
            self.append_observed(from.start(), observer)?;
            return self.finish(expected);
        };
        check_algorithm(self.algorithm, expected)?;
        let limit = self.max_size.unwrap_or(u64::MAX);
        if from.len() > limit {
            return Err(too_large(limit));
        }
        let dir = self.blobs.ingest_dir()?;
        let fail = |error| Error::io("copy content into the ingest directory", dir.path(), error);
        let mut temp = TempFile::create(dir).map_err(fail)?;
        let mut shared = sharing != Sharing::Never && temp.clone_from(file).map_err(fail)?;
        if !shared
            && sharing == Sharing::Link
            && sys::may_be_shared(file).map_err(fail)?
            && let Some(link) = TempFile::link(dir, file).map_err(fail)?
        {
            temp = link;
            shared = true;
        }
        let half = if shared { 0 } else { from.len() / 2 };
        if !shared {
            let copy = |error: io::Error| match error.kind() {
                io::ErrorKind::Interrupted => stopped(),
                _ => fail(error),
            };
            if temp.fill_from(file, from.len(), &mut |copied| observer(copied / 2)).map_err(copy)?.is_none() {
                self.sink = Sink::File(temp, Vec::new());
                self.append_observed(from.start(), observer)?;
                return self.finish(expected);
            }
        }
        let counted = |hashed: u64| if half == 0 { hashed } else { half.saturating_add(hashed.div_ceil(2)) };
        let size = self.hash_private(&temp, &mut |hashed| observer(counted(hashed)))?;
        let digest = self.digester.finish();
        expected.check(digest, size)?;
        Ok(Content { digest, size, body: Body::File(temp) })
    }

    /// Hashes what has been copied. Only this process has it open for writing.
    fn hash_private(&mut self, temp: &TempFile, observer: Observer<'_>) -> Result<u64> {
        let fail = |error| Error::io("read content in the ingest directory", temp.place().0.path(), error);
        let file = temp.file().ok_or_else(|| fail(io::Error::other("the temporary file is closed")))?;
        let mut buffer = vec![0; BUFFER];
        let mut position = 0;
        loop {
            fault::point(Call::Read, temp.place().0.path()).map_err(fail)?;
            match file.read_at(&mut buffer, position) {
                Ok(0) => return Ok(position),
                Ok(read) => {
                    self.digester.update(buffer.get(..read).unwrap_or_default());
                    position += read as u64;
                    if observer(position).is_break() {
                        return Err(stopped());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
    }
}

impl Write for Ingest {
    /// Takes all of it. The error's source is an [`Error`] that tells more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sink = match &self.sink {
            Sink::Memory(_) => "memory",
            Sink::File(..) => "file",
            Sink::Pipe(_) => "pipe",
            Sink::Failed => "failed",
        };
        f.debug_struct("Ingest")
            .field("algorithm", &self.algorithm)
            .field("size", &self.size)
            .field("sink", &sink)
            .finish_non_exhaustive()
    }
}

/// A file from a position of its own, whatever the position of the handle.
struct At<'a> {
    file: &'a File,
    position: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

fn check_algorithm(algorithm: Algorithm, expected: &Expected) -> Result<()> {
    match expected.digest {
        Some(digest) if digest.algorithm() != algorithm => Err(Error::invalid(format!(
            "content is hashed with another algorithm than expected, algorithm={algorithm}, expected={digest}"
        ))),
        _ => Ok(()),
    }
}

#[cold]
fn failed() -> Error {
    Error::new(ErrorKind::Io, "an earlier write of this content failed")
}

#[cold]
fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "stopped by the caller; nothing changed")
}

#[cold]
fn too_large(limit: u64) -> Error {
    Error::invalid(format!("content is larger than allowed, limit={limit}"))
}

#[cold]
fn source_error(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        _ => return Error::io("read the source", path, error),
    };
    Error::io("read the source", path, error).with_kind(kind)
}
