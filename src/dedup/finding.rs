//! What was odd about content, or could not be measured at all.

use serde::Serialize;

/// What was found in one blob.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Finding {
    /// The digest of the blob; of what an archive names and does not have, the name.
    pub digest: String,
    /// Some of its bytes are in no figure beyond `logical` and `stored`: the others are too small by them.
    pub incomplete: bool,
    /// What it is.
    pub kind: FindingKind,
    /// The same for people, with numbers.
    pub message: String,
}

/// A class of [`Finding`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The place has no such content. Incomplete.
    Missing,
    /// A manifest that an index lists is not here, as in a copy of some platforms; it is in no figure.
    Absent,
    /// Reading it failed. Incomplete.
    Unreadable,
    /// It has another size than its descriptor says. Incomplete.
    SizeDiffers,
    /// The compressed stream ends in its middle. Incomplete.
    Truncated,
    /// The compressed stream is damaged. Incomplete.
    BrokenCompression,
    /// More plain bytes, or more for each compressed byte, than the limits allow; measured up to there. Incomplete.
    Bomb,
    /// Something follows the compressed stream that is part of none. Incomplete unless it is zeros.
    TrailingGarbage,
    /// A manifest that cannot be read; what it refers to is not measured. Incomplete.
    BrokenManifest,
    /// No tar from some point on; the rest is measured as one piece.
    BrokenTar,
    /// The tar ends in the middle of an entry; what is there is measured.
    TruncatedTar,
    /// Something follows the end of the tar; it is measured with the headers.
    TrailingData,
    /// Compressed with something else than gzip or zstd, or a zip; measured as it is stored.
    OtherCompression,
    /// Sparse files in the tar; measured as they are stored there, without their holes.
    SparseFiles,
    /// Archives among the files that were not opened; each is measured as one file.
    NestedArchives,
}

/// Findings of one blob while it is read.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(FindingKind, bool, String)>);

impl Findings {
    /// Something is not measured.
    pub(super) fn incomplete(&mut self, kind: FindingKind, message: String) {
        self.0.push((kind, true, message));
    }

    /// Everything is measured, and yet somebody may want to know.
    pub(super) fn note(&mut self, kind: FindingKind, message: String) {
        self.0.push((kind, false, message));
    }

    /// Whether something is not measured.
    pub(super) fn is_incomplete(&self) -> bool {
        self.0.iter().any(|(_, incomplete, _)| *incomplete)
    }

    pub(super) fn of(self, digest: &str) -> Vec<Finding> {
        let finding =
            |(kind, incomplete, message)| Finding { digest: digest.into(), incomplete, kind, message };
        self.0.into_iter().map(finding).collect()
    }
}
