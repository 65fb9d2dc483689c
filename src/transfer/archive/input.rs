//! One file of an archive, read at any place. What is compressed has no places: it is decompressed again, up to a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{Compression, MAGIC};
use crate::error::{Error, Result};
use crate::sys;

/// What a compressed archive may be decompressed to in all, as a multiple of its whole length, and beyond that.
const AGAIN: u64 = 32;
const AGAIN_BYTES: u64 = 1 << 30;

/// Where the bytes are.
enum Backing {
    File(File, Box<Path>),
    Memory(Bytes),
}

impl Backing {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file, path) => loop {
                match sys::read_some_at(file, buffer, offset, path) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            },
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
                    to.copy_from_slice(from);
                }
                Ok(length)
            }
        }
    }
}

/// The stored bytes from some place on.
pub(super) struct Raw {
    backing: Arc<Backing>,
    position: u64,
    length: u64,
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.backing.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// What a reader of an archive goes through: forward only, and over what it does not want.
pub(super) trait Forward: Read {
    /// Passes over so many bytes; answers how many there were.
    fn pass(&mut self, bytes: u64) -> io::Result<u64>;
}

impl Forward for Raw {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        let passed = bytes.min(self.length.saturating_sub(self.position));
        self.position += passed;
        Ok(passed)
    }
}

/// A stream that can only be read to be passed over.
pub(super) struct Stream<R> {
    from: R,
    /// Bytes that were read.
    pub(super) position: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, position: 0 }
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read> Forward for Stream<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink())
    }
}

impl Compression {
    /// How a file is compressed, by its first bytes.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Unsupported` for a compression that is not read, naming it; `Io`.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self> {
        Input::open(path.as_ref()).map(|input| input.compression())
    }
}

type Decoded = Stream<Box<dyn Read + Send>>;

/// One file of an archive.
pub(super) struct Input {
    /// What messages call it.
    name: String,
    backing: Arc<Backing>,
    /// As it is stored.
    length: u64,
    compression: Compression,
    /// A stream that nobody uses, for who wants something behind where it is: reading in the order of the archive takes one pass.
    parked: Mutex<Option<Decoded>>,
    /// The length when it is not compressed; zero before it is known.
    whole: AtomicU64,
    /// What was decompressed in all.
    worked: AtomicU64,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| {
            let kind = error.kind();
            let error = Error::io("open the archive", path, error);
            match kind {
                io::ErrorKind::NotFound => error.with_kind(crate::error::ErrorKind::NotFound),
                io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => {
                    error.with_kind(crate::error::ErrorKind::Invalid)
                }
                _ => error,
            }
        };
        let file = sys::open_source(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        Self::new(path.display().to_string(), Backing::File(file, path.into()), length)
    }

    pub(super) fn of_bytes(bytes: Bytes) -> Result<Self> {
        let length = bytes.len() as u64;
        Self::new("memory".into(), Backing::Memory(bytes), length)
    }

    /// What nothing can be read of any more.
    pub(super) fn nothing(name: &str) -> Result<Self> {
        Self::new(name.into(), Backing::Memory(Bytes::new()), 0)
    }

    fn new(name: String, backing: Backing, length: u64) -> Result<Self> {
        let mut head = [0; MAGIC];
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match backing.read_at(rest, filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(Error::io("read the archive", Path::new(&name), error)),
            }
        }
        let compression = Compression::sniff(head.get(..filled).unwrap_or_default())?;
        Ok(Self {
            name,
            backing: Arc::new(backing),
            length,
            compression,
            parked: Mutex::new(None),
            whole: AtomicU64::new(0),
            worked: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// The stored bytes from the beginning.
    pub(super) fn raw(&self) -> Raw {
        Raw { backing: Arc::clone(&self.backing), position: 0, length: self.length }
    }

    /// The archive from its beginning, as a stream.
    pub(super) fn stream(&self) -> io::Result<Decoded> {
        Ok(Stream::new(self.compression.decode(self.raw())?))
    }

    /// How long the archive is when it is not compressed, once a pass over it has told.
    pub(super) fn set_whole(&self, length: u64) {
        self.whole.store(length, Ordering::Relaxed);
    }

    /// So many bytes at a place of the archive. What is missing shows as an early end.
    pub(super) fn range(&self, offset: u64, length: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        if self.compression == Compression::None {
            let mut raw = self.raw();
            raw.position = offset;
            return Ok(Box::new(raw.take(length)));
        }
        let parked = self.parked.lock().take_if(|stream| stream.position <= offset);
        let mut stream = match parked {
            Some(stream) => stream,
            None => self.stream()?,
        };
        self.work(offset - stream.position)?;
        let missing = offset - stream.position;
        if stream.pass(missing)? < missing {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Box::new(Lent { input: self, stream: Some(stream), left: length }))
    }

    /// Counts what has to be decompressed only to get somewhere.
    fn work(&self, bytes: u64) -> io::Result<()> {
        let whole = self.whole.load(Ordering::Relaxed);
        let bound = whole.saturating_mul(AGAIN).saturating_add(AGAIN_BYTES);
        if self.worked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > bound {
            return Err(io::Error::other(
                "a compressed archive would have to be decompressed too often: decompress it first",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let compression = self.compression;
        f.debug_struct("Input").field("name", &self.name).field("compression", &compression).finish()
    }
}

/// A stream that goes back when it is not needed any more.
struct Lent<'a> {
    input: &'a Input,
    stream: Option<Decoded>,
    left: u64,
}

impl Read for Lent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match stream.read(buffer.get_mut(..want).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) => {
                // A decoder that failed is in no state to go on from.
                self.stream = None;
                return Err(error);
            }
        };
        self.left -= read as u64;
        Ok(read)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let mut parked = self.input.parked.lock();
            if parked.as_ref().is_none_or(|other| other.position < stream.position) {
                *parked = Some(stream);
            }
        }
    }
}
