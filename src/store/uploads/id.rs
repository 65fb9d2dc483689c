//! The names of sessions.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::RepositoryName;
pub(super) use crate::store::id::draw;
use crate::store::id::{self, Id};

pub(super) const WHAT: &str = "an upload session";

/// The id of an upload session: 128 random bits, printed and parsed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UploadId(pub(super) Id);

impl UploadId {
    /// The id of the session that brings a certain content into a repository.
    pub(super) fn of(repository: &RepositoryName, digest: &Digest) -> Self {
        // A digest has no line break in it.
        let name = format!("upload of\n{digest}\n{repository}");
        let hash = *blake3::hash(name.as_bytes()).as_bytes();
        Self(hash.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        id::show(&self.0, f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({self})")
    }
}

impl FromStr for UploadId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        id::parse(text, WHAT).map(Self)
    }
}
