//! One unit, as it is found.

use std::io;
use std::ops::Range;

use serde::{Serialize, Serializer};

use super::class::Class;
use super::files::is_zeros;

/// What tells units apart: the first 128 bits of their BLAKE3.
pub(super) type Key = [u8; 16];

/// A unit in the window of a walk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) hash: [u8; 32],
    pub(super) length: u64,
    /// From the beginning of the plain bytes of the blob.
    pub(super) offset: u64,
    pub(super) zeros: bool,
    pub(super) class: Class,
    pub(super) path: Option<Box<str>>,
    pub(super) packing: Packing,
}

/// Where the packed size of a unit comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Packing {
    /// Its bytes stand in the window.
    Window(Range<usize>),
    /// It was packed as it came.
    Done(u64),
    /// Nobody wants to know.
    None,
}

impl Found {
    pub(super) fn key(&self) -> Key {
        key(&self.hash)
    }

    /// Hashes what stands in the window. Everything else was hashed as it came.
    pub(super) fn hash_in(&mut self, window: &[u8]) {
        let Packing::Window(range) = &self.packing else { return };
        let bytes = window.get(range.clone()).unwrap_or_default();
        self.hash = blake3::hash(bytes).into();
        self.zeros = is_zeros(bytes);
        if self.zeros {
            self.class = Class::Zeros;
        }
    }

    /// The same once more, for another granularity.
    pub(super) fn again(&self) -> Self {
        Self { path: self.path.clone(), packing: self.packing.clone(), ..*self }
    }
}

pub(super) fn key(hash: &[u8; 32]) -> Key {
    hash.first_chunk().copied().unwrap_or_default()
}

/// One unit of one blob, for whoever wants all of them: see [`Measure::units`](super::Measure::units).
///
/// A blob that several images have is written once, under the first of them.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct UnitRecord<'a> {
    /// The granularity, by the name that the report has for it.
    pub granularity: &'a str,
    /// BLAKE3 of its bytes; of a whole blob the digest that names it.
    #[serde(serialize_with = "as_text")]
    pub hash: UnitHash<'a>,
    /// The first image that has the blob.
    pub image: &'a str,
    /// The digest of the blob.
    pub layer: &'a str,
    /// Bytes.
    pub length: u64,
    /// Where it begins in the plain bytes of the blob. What is structure begins at 0.
    pub offset: u64,
    /// The file that it is, or is part of, where the granularity knows.
    pub path: Option<&'a str>,
}

/// What a unit is known by.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub enum UnitHash<'a> {
    /// BLAKE3 of its bytes.
    Blake3([u8; 32]),
    /// A digest.
    Digest(&'a str),
}

impl std::fmt::Display for UnitHash<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blake3(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Digest(digest) => f.write_str(digest),
        }
    }
}

fn as_text<S: Serializer>(hash: &UnitHash<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}

/// Takes units as they are found: blob by blob in the order of the corpus, granularity by granularity within a blob's part.
pub trait UnitSink: Send {
    /// One unit.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from taking more; the measurement ends with it.
    fn take(&mut self, unit: &UnitRecord<'_>) -> io::Result<()>;
}

impl<F: FnMut(&UnitRecord<'_>) -> io::Result<()> + Send> UnitSink for F {
    fn take(&mut self, unit: &UnitRecord<'_>) -> io::Result<()> {
        self(unit)
    }
}
