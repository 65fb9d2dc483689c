//! Failures: what went wrong, what to do next, and the exit code.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use orlop::{Error, ErrorKind};

/// The exit codes of this program. They are part of its interface: never renumber one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Failed for a reason that has no code of its own.
    Other = 1,
    /// The command line makes no sense; nothing was tried.
    Usage = 2,
    /// No such reference or layout.
    NotFound = 3,
    /// The reference is there, but content that it needs is not.
    Incomplete = 4,
    /// Content is not what its digest or its size says.
    Integrity = 5,
    /// A registry does not know who asks, or does not allow it.
    Auth = 6,
    /// A registry was not reached, or had no answer; the same again may help.
    Network = 7,
    /// Done in part: the rest is named.
    Partial = 8,
    /// Refused because it would be unsafe.
    Policy = 9,
    /// They are not the same, where that was asked.
    Differs = 10,
    /// No space, inodes or quota left.
    NoSpace = 11,
    /// Stopped by SIGHUP; as a shell shows the end by a signal.
    HungUp = 129,
    /// Stopped by SIGINT, mostly Ctrl-C.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failed call to the operating system, on a path.
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoSpace,
            _ => Exit::Other,
        };
        let mut failure = Self::new(exit, format!("cannot {action}, path={}", path.display()));
        failure.causes.push(error.to_string());
        failure
    }

    /// The same failure with advice on what to do next. The more particular advice stands, so it is given first.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The same failure with other advice, where what fits its kind does not fit the case.
    pub(crate) fn with_hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and its causes, outermost first.
    pub(crate) fn chain(&self) -> String {
        let mut chain = self.message.clone();
        for cause in &self.causes {
            chain.push_str(": ");
            chain.push_str(cause);
        }
        chain
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(exit_of(error.kind()), error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            failure.causes.push(cause.to_string());
            source = cause.source();
        }
        match hint_of(error.kind()) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Mismatch | ErrorKind::Corrupt => Exit::Integrity,
        ErrorKind::NoSpace | ErrorKind::QuotaExceeded => Exit::NoSpace,
        ErrorKind::Unauthorized | ErrorKind::Denied => Exit::Auth,
        ErrorKind::Unavailable => Exit::Network,
        ErrorKind::Interrupted => Exit::Interrupted,
        _ => Exit::Other,
    }
}

fn hint_of(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Mismatch => "the source changed or is damaged; nothing was stored, try again",
        ErrorKind::Unauthorized => "`orlop login HOST` keeps a credential that the registry takes",
        ErrorKind::Denied => "ask whoever runs the registry for the right to do that",
        ErrorKind::Unavailable => {
            "try again later; --plain-http and --insecure are for registries without HTTPS or a known certificate"
        }
        ErrorKind::BatchTooLarge => "push fewer files at a time; nothing was stored",
        ErrorKind::Locked => "wait until that process ends, or wait longer with --lock-timeout",
        ErrorKind::Corrupt => {
            "`orlop rebuild oci:DIR` makes the metadata anew and reports what cannot be restored"
        }
        ErrorKind::Unsupported => {
            "use the version of orlop that wrote it; a layout can live on a local filesystem only"
        }
        ErrorKind::ReadOnly => "copy the directory to a place that can be written",
        ErrorKind::NoSpace => "free some space and run the same command again; the previous state stands",
        ErrorKind::QuotaExceeded => {
            "remove something, or raise the quota with `orlop usage oci:DIR --set-quota`; nothing was stored"
        }
        ErrorKind::Indeterminate | ErrorKind::Poisoned => "check the disk, then run the same command again",
        _ => return None,
    })
}
