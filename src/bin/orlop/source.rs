//! What a push takes its content from: a file, a directory that is packed, a pipe, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use orlop::oci::media_type;
use orlop::{Algorithm, Content, Expected, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::error::Failure;
use crate::interrupt;
use crate::pack::{Stop, Tree};
use crate::progress::Progress;
use crate::session;

/// The arguments that stand for standard input.
const STDIN: [&str; 2] = ["-", "/dev/stdin"];

/// What an interrupted push says.
pub(crate) const NOTHING: &str = "nothing was stored";

/// How long a pipe that has nothing is waited for before signals are looked at.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Where content comes from.
#[derive(Debug)]
pub(crate) enum Source {
    File {
        path: PathBuf,
        size: u64,
    },
    Directory(Tree),
    /// A FIFO: read to its end, once.
    Pipe(PathBuf),
    Stdin,
}

/// Content that was taken in.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) content: Content,
    /// The digest of the archive in a packed directory.
    pub(crate) unpacked: Option<orlop::Digest>,
}

impl Source {
    /// Looks what is under a path. `name` is what the entries of a packed directory begin with, `time` their time.
    pub(crate) fn of(path: &Path, name: &str, time: Option<i64>) -> Result<Self, Failure> {
        if is_stdin(path) {
            return Ok(Self::Stdin);
        }
        let metadata = session::metadata(path)?;
        match metadata.file_type() {
            kind if kind.is_file() => Ok(Self::File { path: path.to_owned(), size: metadata.len() }),
            kind if kind.is_dir() => Ok(Self::Directory(Tree::of(path, name, time)?)),
            kind if kind.is_fifo() => Ok(Self::Pipe(path.to_owned())),
            _ => Err(Failure::usage(format!("not a file, directory or pipe, path={}", path.display()))
                .with_hint("write what comes from it into a file first, or push `-` and pipe it in")),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// The media type that oras gives to it.
    pub(crate) fn media_type(&self) -> &'static str {
        if self.is_directory() { media_type::LAYER_TAR_GZIP } else { media_type::LAYER_TAR }
    }

    /// Its bytes, as far as they are known.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::File { size, .. } => Some(*size),
            Self::Directory(tree) => Some(tree.size),
            Self::Pipe(_) | Self::Stdin => None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the files of the user, no part of a store")]
    /// Takes it in, whole, or stops where a signal says so.
    pub(crate) fn take(&self, store: &Store, progress: &mut Progress) -> Result<Taken, Failure> {
        let result = match self {
            Self::File { path, size } => {
                // The size is part of the descriptor, so a file that is being written to is refused.
                let expected = Expected::default().with_size(*size);
                store.ingest_file_observed(path, &expected, &mut |done| progress.advance(done))
            }
            Self::Directory(tree) => return pack(tree, store, progress),
            Self::Pipe(path) => {
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                let file = File::options().read(true).custom_flags(flags).open(path);
                read(&file.map_err(|error| Failure::io("read the pipe", path, &error))?, store, progress)
            }
            Self::Stdin => read(&io::stdin(), store, progress),
        };
        match result {
            Ok(content) => Ok(Taken { content, unpacked: None }),
            Err(_) if interrupt::is_caught() => Err(interrupt::failure(NOTHING)),
            Err(error) => Err(error.into()),
        }
    }
}

fn read(from: &impl AsFd, store: &Store, progress: &mut Progress) -> orlop::Result<Content> {
    let patient = Patient { from };
    store.ingest_reader_observed(patient, &Expected::default(), &mut |done| progress.advance(done))
}

fn pack(tree: &Tree, store: &Store, progress: &mut Progress) -> Result<Taken, Failure> {
    let mut ingest = store.ingest(Algorithm::default())?;
    let digest = match tree.pack(&mut ingest, &mut |done| progress.advance(done)) {
        Ok(digest) => digest,
        Err(Stop::Stopped) => return Err(interrupt::failure(NOTHING)),
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Write(error)) => return Err(write_failure(error)),
    };
    let content = ingest.finish(&Expected::default())?;
    Ok(Taken { content, unpacked: Some(digest) })
}

/// The error of the store is inside the error of the stream.
fn write_failure(error: io::Error) -> Failure {
    match error.downcast::<orlop::Error>() {
        Ok(error) => error.into(),
        Err(error) => Failure::io("store the packed directory", Path::new("."), &error),
    }
}

/// Reads from what may have nothing for a long time, and looks for signals meanwhile.
struct Patient<'a, F> {
    from: &'a F,
}

/// A reader of what may have nothing for a long time, which a signal ends.
pub(crate) fn patient<F: AsFd>(from: &F) -> impl Read + '_ {
    Patient { from }
}

impl<F: AsFd> Read for Patient<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if interrupt::is_caught() {
                return Err(io::Error::other("interrupted"));
            }
            let mut waiting = [PollFd::new(self.from, PollFlags::IN)];
            match poll(&mut waiting, Some(&SLICE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match rustix::io::read(self.from, &mut *buffer) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
}

/// Whether standard input is meant.
pub(crate) fn is_stdin(path: &Path) -> bool {
    STDIN.iter().any(|name| path.as_os_str() == *name)
}

/// `-:TYPE`, which the parser would take for a flag, in a form that it takes for a file.
pub(crate) fn argument(argument: std::ffi::OsString) -> std::ffi::OsString {
    match argument.to_str().and_then(|text| text.strip_prefix("-:")) {
        Some(media_type) => format!("/dev/stdin:{media_type}").into(),
        None => argument,
    }
}

/// Refuses to wait for a person to type an artifact.
pub(crate) fn check_stdin() -> Result<(), Failure> {
    if io::IsTerminal::is_terminal(&io::stdin()) {
        return Err(Failure::usage("standard input is a terminal, path=-").with_hint(
            "pipe something in, as in `tar -c DIR | orlop push oci:app:v1 -`; a file called - is `./-`",
        ));
    }
    Ok(())
}
