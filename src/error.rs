//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about a failure.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// No such content, tag, repository or store. Nothing changed.
    NotFound,
    /// The bytes are not what the digest or the size announced. Nothing was stored; send them again.
    Mismatch,
    /// Breaks the OCI grammar, a specification or a limit of this store. It will never be accepted as it is.
    Invalid,
    /// A compare-and-set found another value. Nothing changed; look again and decide.
    Conflict,
    /// An append to an upload session began elsewhere than where its bytes end. Nothing changed; go on from `current`.
    OffsetMismatch {
        /// How many bytes the session has.
        current: u64,
    },
    /// Somebody else is writing the upload session, or as many sessions or bytes are under way as the store allows.
    /// Nothing changed; try again later.
    Busy,
    /// More rows than one batch may hold. Nothing changed; split the batch.
    BatchTooLarge,
    /// Another process holds the store; the message names it. Wait or stop it.
    Locked,
    /// Stored state contradicts itself. Rebuild, or restore the named content.
    Corrupt,
    /// Written by a newer format, a place that a store cannot live on, or something that a registry does not do.
    Unsupported,
    /// The store was opened for reading only.
    ReadOnly,
    /// No space, inodes or quota left on the device. The previous state stands; free some and try again.
    NoSpace,
    /// A quota of the repository or of the store has no room for it. Nothing changed; remove something or raise the quota.
    QuotaExceeded,
    /// A sync failed: the operation is wholly there or wholly absent, the next open tells which.
    /// Writes are refused until the store is reopened.
    Indeterminate,
    /// A sync failed earlier. This operation changed nothing; reads still work; reopen the store to write.
    Poisoned,
    /// The caller stopped it, by what its observer answered. Nothing changed.
    Interrupted,
    /// The answer is not in memory, and the handle was told not to wait for a disk. Nothing changed; ask again on a thread
    /// that may wait.
    WouldBlock,
    /// A registry wants to know who asks, and the credentials are missing, or it does not take them.
    Unauthorized,
    /// A registry knows who asks, and does not allow it.
    Denied,
    /// A registry could not be reached, had no time, or answered what the protocol does not know. Nothing is known of what was
    /// asked; the same again may help.
    Unavailable,
    /// The operating system or the metadata engine failed; see the source.
    Io,
}

/// A failure: a kind for programs, a message for people, and the cause.
///
/// `Display` prints the message alone; [`StdError::source`] has the cause.
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of the given kind. Message: lower case, no final stop, values last as `key=value`.
    #[cold]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Repr { kind, message: message.into(), source: None }))
    }

    /// An input that will never be accepted.
    #[cold]
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Something that was asked for is not there.
    #[cold]
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Stored state contradicts itself.
    #[cold]
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A failed call to the operating system, on a path. Running out of space has a kind of its own.
    #[cold]
    pub(crate) fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {action}, path={}", path.display())).with_source(source)
    }

    /// The same error with a cause.
    #[cold]
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure under another kind, for the caller that knows what it means.
    #[cold]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The source is not repeated here; reporters walk the chain.
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
