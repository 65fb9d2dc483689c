//! Files, directories and pipes on their way to a registry. A registry wants to know the digest of what comes, so files and
//! directories are read twice, and nothing of them is written anywhere; what comes from a pipe is kept in memory, as far as that goes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use orlop::digest::Digester;
use orlop::oci::Descriptor;
use orlop::transfer::{Incoming, RemoteRepository};
use orlop::{Algorithm, BlobReader, Digest};
use parking_lot::Mutex;

use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::pack::{Stop, Tree};
use crate::progress::Progress;
use crate::source::{NOTHING, Source, patient};

/// How much of a pipe is kept in memory.
const MAX_PIPED: u64 = 256 << 20;

/// Content of which the digest is known.
pub(crate) struct Prepared {
    what: What,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// The digest of the archive in a packed directory.
    pub(crate) unpacked: Option<Digest>,
}

enum What {
    File(PathBuf),
    Memory(Bytes),
    Directory(Arc<Tree>),
}

impl Prepared {
    /// Reads what is to be pushed.
    pub(crate) fn of(source: Source, algorithm: Option<Algorithm>) -> Result<Self, Failure> {
        let mut hashed = Hashed { digester: Digester::new(algorithm.unwrap_or_default()), size: 0 };
        let mut unpacked = None;
        let what = match source {
            Source::File { path, .. } => {
                hashed.read(&mut open(&path)?, &path)?;
                What::File(path)
            }
            Source::Directory(tree) => {
                unpacked = Some(packed(tree.pack(&mut hashed, &mut watched))?);
                What::Directory(Arc::new(tree))
            }
            Source::Pipe(path) => piped(&mut open(&path)?, &path, &mut hashed)?,
            Source::Stdin => piped(&mut patient(&io::stdin()), Path::new("-"), &mut hashed)?,
        };
        interrupt::check(NOTHING)?;
        Ok(Self { what, digest: hashed.digester.finish(), size: hashed.size, unpacked })
    }

    /// Content that is in memory.
    pub(crate) fn memory(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self { what: What::Memory(bytes), digest, size, unpacked: None }
    }
}

fn watched(_: u64) -> ControlFlow<()> {
    if interrupt::is_caught() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn packed(outcome: Result<Digest, Stop>) -> Result<Digest, Failure> {
    outcome.map_err(|stop| match stop {
        Stop::Stopped => interrupt::failure(NOTHING),
        Stop::Failed(failure) => failure,
        Stop::Write(error) => Failure::io("pack the directory", Path::new("."), &error),
    })
}

/// Takes all of a pipe into memory.
fn piped(from: &mut dyn Read, path: &Path, hashed: &mut Hashed) -> Result<What, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_PIPED + 1).read_to_end(&mut bytes);
    read.map_err(|error| match interrupt::is_caught() {
        true => interrupt::failure(NOTHING),
        false => Failure::io("read the pipe", path, &error),
    })?;
    if bytes.len() as u64 > MAX_PIPED {
        return Err(Failure::new(
            Exit::Other,
            format!(
                "more comes from the pipe than is kept in memory, path={}, limit={MAX_PIPED}",
                path.display()
            ),
        )
        .with_hint("push it into a layout, and from there by `orlop cp`, or write it into a file first"));
    }
    hashed.digester.update(&bytes);
    hashed.size = bytes.len() as u64;
    Ok(What::Memory(bytes.into()))
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::io("read the file", path, &error))
}

/// Bytes that are only hashed and counted.
struct Hashed {
    digester: Digester,
    size: u64,
}

impl Hashed {
    fn read(&mut self, from: &mut dyn Read, path: &Path) -> Result<(), Failure> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            interrupt::check(NOTHING)?;
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::io("read the file", path, &error)),
            };
            self.write_all(buffer.get(..read).unwrap_or_default())
                .map_err(|error| Failure::io("read the file", path, &error))?;
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digester.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Content on its way, with whoever watches it.
pub(crate) struct Outgoing<'a> {
    prepared: &'a Prepared,
    progress: Mutex<Progress>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(prepared: &'a Prepared, progress: Progress) -> Self {
        Self { prepared, progress: Mutex::new(progress) }
    }

    /// Pushes it, unless it is there; gives back who watches it.
    pub(crate) fn push(
        self,
        repository: &RemoteRepository,
        descriptor: &Descriptor,
    ) -> Result<(Progress, bool), Failure> {
        let existed = repository.content_size(&descriptor.digest)? == Some(descriptor.size);
        if !existed {
            let pushed = repository.push_content(descriptor, &self);
            if pushed.is_err() && interrupt::is_caught() {
                return Err(interrupt::failure(NOTHING));
            }
            pushed?;
        }
        Ok((self.progress.into_inner(), existed))
    }
}

impl Incoming for Outgoing<'_> {
    fn open(&self, offset: u64) -> orlop::Result<Box<dyn Read + Send + '_>> {
        let opened = match &self.prepared.what {
            What::Memory(bytes) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(offset..).unwrap_or_default();
                return Ok(Box::new(rest));
            }
            What::File(path) => opened(path, offset).map(|file| Box::new(file) as Box<dyn Read + Send>),
            What::Directory(tree) => packing(tree, offset),
        };
        // What fails here fails as the first read of it would.
        Ok(opened.unwrap_or_else(|error| Box::new(Failing(Some(error)))))
    }

    fn local(&self) -> orlop::Result<Option<BlobReader>> {
        Ok(None)
    }

    fn advance(&self, done: u64) -> ControlFlow<()> {
        self.progress.lock().advance(done)
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn opened(path: &Path, offset: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

/// Packs a directory while it is read. Whoever packs ends when nobody reads any more.
fn packing(tree: &Arc<Tree>, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let (mut reader, writer) = io::pipe()?;
    let tree = Arc::clone(tree);
    thread::spawn(move || {
        // A directory that changed in between has another digest, and whoever reads sees that.
        let _ = tree.pack(writer, &mut watched);
    });
    io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
    Ok(Box::new(reader))
}

/// A reader that could not be had.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
