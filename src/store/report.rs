//! What a person should know of what the store found.

use std::fmt;

use super::rebuild::RebuildReport;
use crate::digest::Digest;

/// One finding of opening, merging or publishing.
///
/// `Display` is for people.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Report {
    /// Another tool added or moved a name in `index.json`; it was taken.
    Taken {
        /// The name as it stands in `index.json`.
        name: String,
        /// What it names now.
        digest: Digest,
    },
    /// Another tool and this store moved the same name. Ours stays; theirs is kept as an untagged manifest.
    Conflict {
        /// The name as it stands in `index.json`.
        name: String,
        /// What it names in the store; nothing when it was removed here.
        ours: Option<Digest>,
        /// What the other tool made it name.
        theirs: Digest,
    },
    /// Another tool removed a name while the store was closed; it was removed here too.
    Removed {
        /// The name as it stood in `index.json`.
        name: String,
        /// What it named.
        digest: Digest,
    },
    /// A name is missing from an `index.json` that another tool wrote while the store was in use; it stays.
    Kept {
        /// The name as it stands in the store.
        name: String,
        /// What it names.
        digest: Digest,
    },
    /// An `index.json` entry that could not be taken in: its content is missing, damaged or not acceptable.
    Refused {
        /// The name, or nothing for an untagged entry.
        name: String,
        /// The digest as it was written.
        digest: String,
        /// Why.
        reason: String,
    },
    /// A name stands for more than one manifest in `index.json`. The first is tagged, the others are kept beside it.
    Ambiguous {
        /// The name as it stands in `index.json`.
        name: String,
        /// What else it stands for.
        digest: Digest,
    },
    /// An `index.json` entry announces another size than its content has. The content is what its digest says.
    Size {
        /// The name, or nothing for an untagged entry.
        name: String,
        /// The content.
        digest: Digest,
        /// The size that is announced.
        expected: u64,
        /// The size that it has.
        found: u64,
    },
    /// A file that should say what the layout holds is empty or unreadable; it is written anew.
    Damaged {
        /// The file, relative to the layout.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Content that the metadata knows has no file, or one of another size.
    Missing {
        /// The content.
        digest: Digest,
        /// What was found.
        reason: String,
    },
    /// A manifest that was taken in refers to content that is not in the layout: a sparse copy, or a loss.
    Absent {
        /// The content.
        digest: Digest,
        /// The manifest.
        manifest: Digest,
    },
    /// The store's directory is a copy of another; its content was checked against its files.
    Copied {
        /// Content that was checked.
        checked: u64,
    },
    /// The power failed in the middle of a write of the metadata; its part was dropped. Nobody was promised it.
    Torn {
        /// Bytes of the log and of the list of files that were dropped.
        bytes: u64,
    },
    /// A frozen view shows the store as it was before another tool changed `index.json`; the next writer merges it.
    Unmerged,
    /// Further findings were not kept.
    More {
        /// How many.
        count: u64,
    },
}

/// What opening a store for writing found and did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// Whether the last writer closed the store. Otherwise it ended in another way, and nothing that it acknowledged is lost.
    pub clean: bool,
    /// Whether the directory is a copy, whose contents were checked against their files.
    pub copied: bool,
    /// Contents in the journal that wait for their files.
    pub journalled: u64,
    /// Bytes that these take.
    pub journalled_bytes: u64,
    /// Private files of interrupted pushes that were removed.
    pub cleared: u64,
    /// What was done about metadata that could not be read. None when they could.
    pub rebuilt: Option<RebuildReport>,
    /// Findings about single names and contents.
    pub reports: Vec<Report>,
}

/// Findings kept; a damaged layout may have millions.
const KEPT: usize = 1000;

/// Adds a finding, or counts it when there are too many.
pub(super) fn add(reports: &mut Vec<Report>, report: Report) {
    if reports.len() < KEPT {
        reports.push(report);
    } else if let Some(Report::More { count }) = reports.last_mut() {
        *count += 1;
    } else {
        reports.push(Report::More { count: 1 });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { name, digest } => write!(f, "taken from index.json: {name} is {digest}"),
            Self::Conflict { name, ours: Some(ours), theirs } => {
                write!(f, "{name} was moved here and by another tool: {ours} stays, {theirs} is kept untagged")
            }
            Self::Conflict { name, ours: None, theirs } => {
                write!(f, "{name} was removed here and moved by another tool: {theirs} is kept untagged")
            }
            Self::Removed { name, digest } => write!(f, "removed by another tool: {name}, which was {digest}"),
            Self::Kept { name, digest } => {
                write!(f, "another tool's index.json lacks {name}, which is {digest}: it stays")
            }
            Self::Refused { name, digest, reason } if name.is_empty() => {
                write!(f, "not taken from index.json: untagged {digest}: {reason}")
            }
            Self::Refused { name, digest, reason } => {
                write!(f, "not taken from index.json: {name}, {digest}: {reason}")
            }
            Self::Ambiguous { name, digest } => {
                write!(f, "{name} stands for more than one manifest in index.json: also for {digest}")
            }
            Self::Size { name, digest, expected, found } => {
                let name = if name.is_empty() { "an untagged entry" } else { name };
                write!(
                    f,
                    "index.json announces a wrong size for {name}, {digest}: expected={expected}, found={found}"
                )
            }
            Self::Damaged { file, reason } => write!(f, "{file} is damaged; what it should say is known: {reason}"),
            Self::Missing { digest, reason } => write!(f, "content is damaged: {digest}: {reason}"),
            Self::Absent { digest, manifest } => write!(f, "{manifest} refers to {digest}, which is not here"),
            Self::Copied { checked } => {
                write!(f, "this directory is a copy: {checked} contents were checked against their files")
            }
            Self::Torn { bytes } => write!(
                f,
                "the power failed in the middle of a write, which was acknowledged to nobody and is dropped: {bytes} bytes"
            ),
            Self::Unmerged => f.write_str(
                "another tool changed index.json: this view is from before; the next writing command merges it",
            ),
            Self::More { count } => write!(f, "and {count} further findings"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_beyond_the_bound_are_counted() {
        let mut reports = Vec::new();
        for _ in 0..KEPT + 5 {
            add(&mut reports, Report::Unmerged);
        }
        assert_eq!(reports.len(), KEPT + 1);
        assert_eq!(reports.last(), Some(&Report::More { count: 5 }));
    }
}
