//! Verifying: what is stored is what its names say, and the metadata say what is stored.
//!
//! Contents are walked in the order of their digests by pages, so that memory is bounded, a stopped run can go on where it
//! was, and commits go on meanwhile. Damage is looked at once more under the content's stripe before anything is done
//! about it.

mod content;
mod index;

use std::fmt;
use std::ops::ControlFlow;

use super::Store;
use super::observe::{self, Work};
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::RepositoryName;

/// Findings kept; a damaged layout may have millions.
const KEPT: usize = 10_000;

/// What is wrong with a content, or with what is said of it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Flaw {
    /// There is no file.
    Missing,
    /// The file has another size.
    Size,
    /// The bytes are not what the digest says.
    Bytes,
    /// Something else than a regular file has its name.
    Kind,
    /// It cannot be read.
    Unreadable,
    /// The metadata contradict each other or the files.
    Metadata,
    /// `index.json` names something that is not there.
    Published,
    /// A file under `blobs/` that the metadata do not know. Harmless: a push of the content takes it in.
    Unknown,
}

impl Flaw {
    /// Whether content that is stored is lost or wrong; the others are faults of what is said about it.
    #[must_use]
    pub fn is_damage(self) -> bool {
        matches!(self, Self::Missing | Self::Size | Self::Bytes | Self::Kind | Self::Unreadable)
    }
}

/// One thing that is wrong.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The content that it is about; none for a file whose name is no digest.
    pub digest: Option<Digest>,
    /// What is wrong.
    pub flaw: Flaw,
    /// More of it, for people.
    pub detail: String,
    /// The repositories that hold the content.
    pub repositories: Vec<RepositoryName>,
    /// Whether its file was moved to `.orlop/quarantine`.
    pub quarantined: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.flaw {
            Flaw::Missing => "missing",
            Flaw::Size => "wrong size",
            Flaw::Bytes => "wrong bytes",
            Flaw::Kind => "not a file",
            Flaw::Unreadable => "unreadable",
            Flaw::Metadata => "metadata",
            Flaw::Published => "index.json",
            Flaw::Unknown => "unknown",
        };
        f.write_str(what)?;
        if let Some(digest) = self.digest {
            write!(f, " {digest}")?;
        }
        write!(f, ": {}", self.detail)?;
        if self.quarantined {
            f.write_str(" (moved to quarantine)")?;
        }
        Ok(())
    }
}

/// What a verification looked at and found.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VerifyReport {
    /// Contents that were looked at.
    pub contents: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Rows of metadata that were compared.
    pub rows: u64,
    /// Contents that no repository holds and no collection has taken yet.
    pub unheld: u64,
    /// What is wrong, in the order in which it was found, up to 10,000.
    pub findings: Vec<Finding>,
    /// Findings that were not kept.
    pub further: u64,
    /// The last content of those that were looked at without a gap: where a run that was stopped can go on.
    pub last: Option<Digest>,
    /// Whether it came to its end.
    pub complete: bool,
}

impl VerifyReport {
    /// Whether nothing is wrong, unknown files aside.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.further == 0 && self.findings.iter().all(|finding| finding.flaw == Flaw::Unknown)
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        } else {
            self.further += 1;
        }
    }
}

/// How far a verification has come.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifyProgress {
    /// Contents looked at.
    pub contents: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// The last content of those that were looked at without a gap.
    pub last: Option<Digest>,
}

type Watch<'a> = Box<dyn FnMut(VerifyProgress) -> ControlFlow<()> + 'a>;

/// A verification, made by [`Store::verify`].
#[must_use = "a verification is run by `run`"]
pub struct Verifier<'a> {
    store: &'a Store,
    read_data: bool,
    index: bool,
    quarantine: bool,
    threads: usize,
    bytes_per_second: Option<u64>,
    after: Option<Digest>,
    watch: Option<Watch<'a>>,
}

impl Store {
    /// Compares what is stored with what is said of it: every content has its file, of its size.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// let report = store.verify().read_data(true).index(true).run()?;
    /// assert!(report.is_sound());
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(&self) -> Verifier<'_> {
        Verifier {
            store: self,
            read_data: false,
            index: false,
            quarantine: true,
            threads: 1,
            bytes_per_second: None,
            after: None,
            watch: None,
        }
    }
}

impl<'a> Verifier<'a> {
    /// Also reads every content and hashes it.
    pub fn read_data(mut self, read_data: bool) -> Self {
        self.read_data = read_data;
        self
    }

    /// Also compares the metadata with themselves, with the manifests and with the files, both ways, and follows what
    /// `index.json` names.
    pub fn index(mut self, index: bool) -> Self {
        self.index = index;
        self
    }

    /// Whether damaged files are moved to `.orlop/quarantine`, so that nobody takes them for what their names say; their bytes are
    /// kept. They are, unless the store is open for reading only or a plain layout. Damage is remembered in any case that can be
    /// written, and the next push of the content heals it.
    pub fn quarantine(mut self, quarantine: bool) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// How many threads read. One by default.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, 64);
        self
    }

    /// Reads at most so many bytes a second, over all threads, as an average. No limit by default.
    pub fn bytes_per_second(mut self, limit: Option<u64>) -> Self {
        self.bytes_per_second = limit.filter(|limit| *limit > 0);
        self
    }

    /// Goes on behind this content, where an earlier run was stopped.
    pub fn after(mut self, digest: Option<Digest>) -> Self {
        self.after = digest;
        self
    }

    /// Has `watch` told of the progress some times a second. If it breaks, the run ends early and its report says so.
    pub fn watch(mut self, watch: impl FnMut(VerifyProgress) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the metadata cannot be read; `Io`; as of a write when damage is put down. Damage of content is no
    /// error but a finding.
    pub fn run(mut self) -> Result<VerifyReport> {
        let _span = observe::enter(Work::Verify, self.store.root());
        let mut report = VerifyReport { last: self.after, ..VerifyReport::default() };
        if self.contents(&mut report)? && self.index {
            self.compare_index(&mut report)?;
        }
        Ok(report)
    }

    fn tell(&mut self, report: &VerifyReport) -> ControlFlow<()> {
        let progress = VerifyProgress { contents: report.contents, bytes: report.bytes, last: report.last };
        self.watch.as_mut().map_or(ControlFlow::Continue(()), |watch| watch(progress))
    }
}

impl fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("read_data", &self.read_data)
            .field("index", &self.index)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
