//! The contents of an archive or of a set of volumes, by their digests.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use super::catalog::Documents;
use super::entries::{Entries, Place};
use super::volume::Listed;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::MAX_MANIFEST_SIZE;

/// Where a content is.
#[derive(Clone, Debug)]
pub(super) enum Where {
    /// In one piece, in this of the archives.
    Whole(u32, Place),
    /// In pieces, in order and without gaps, each in one of the archives.
    Parts(Box<[(u32, Place)]>),
    /// Nowhere: it was made of what is there.
    Made(Bytes),
}

/// A content, and how large it is.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) size: u64,
    pub(super) place: Where,
}

/// All contents, and the archives that they are in.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) archives: Vec<Entries>,
    by_digest: BTreeMap<Digest, Stored>,
    /// Parts of contents of which others are elsewhere.
    pub(super) loose: Vec<(Listed, u32, Place)>,
}

impl Contents {
    /// What is below `blobs/` of one archive.
    pub(super) fn add(&mut self, entries: Entries) -> Result<()> {
        let number = u32::try_from(self.archives.len()).map_err(|_| Error::invalid("too many archives"))?;
        let mut refused = None;
        for (digest, path) in entries.blobs() {
            match entries.find(path) {
                Ok(Some(place)) => {
                    let stored = Stored { size: place.size, place: Where::Whole(number, place) };
                    self.by_digest.entry(digest).or_insert(stored);
                }
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        self.archives.push(entries);
        refused.map_or(Ok(()), Err)
    }

    pub(super) fn insert(&mut self, digest: Digest, stored: Stored) {
        self.by_digest.entry(digest).or_insert(stored);
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Stored> {
        self.by_digest.get(digest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, &Stored)> {
        self.by_digest.iter()
    }

    pub(super) fn archive(&self, number: u32) -> Result<&Entries> {
        self.archives.get(number as usize).ok_or_else(|| Error::corrupt("no such archive"))
    }

    /// Where a content comes when the archives are read in their order.
    pub(super) fn order(&self, digest: &Digest) -> (u32, u64) {
        match self.get(digest).map(|stored| &stored.place) {
            Some(Where::Whole(number, place)) => (*number, place.offset),
            Some(Where::Parts(parts)) => {
                parts.first().map_or((0, 0), |(number, place)| (*number, place.offset))
            }
            _ => (0, 0),
        }
    }

    /// A reader of a content from `offset` on. Not verified.
    pub(super) fn read(&self, digest: &Digest, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        let Some(stored) = self.get(digest) else { return Ok(None) };
        Ok(Some(match &stored.place {
            Where::Whole(number, place) => self.archive(*number)?.read(*place, offset)?,
            Where::Made(bytes) => {
                let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
                Box::new(rest)
            }
            Where::Parts(parts) => Box::new(Pieces { contents: self, parts, skip: offset, now: None }),
        }))
    }
}

impl Documents for Contents {
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.get(digest).is_some())
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let Some(stored) = self.get(digest) else { return Ok(None) };
        if stored.size > MAX_MANIFEST_SIZE as u64 {
            let size = stored.size;
            return Err(Error::invalid(format!(
                "manifest is too large, digest={digest}, size={size}, limit={MAX_MANIFEST_SIZE}"
            )));
        }
        let bytes = match &stored.place {
            Where::Whole(number, place) => self.archive(*number)?.bytes(*place, MAX_MANIFEST_SIZE as u64)?,
            Where::Made(bytes) => bytes.clone(),
            Where::Parts(_) => {
                let mut bytes = Vec::new();
                if let Some(mut reader) = self.read(digest, 0)? {
                    reader
                        .read_to_end(&mut bytes)
                        .map_err(|error| super::tar::failed("a set of volumes", error))?;
                }
                bytes.into()
            }
        };
        let found = digest.algorithm().digest(&bytes);
        if found == *digest {
            return Ok(Some(bytes));
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("manifest in the archive is not what its digest says, expected={digest}, found={found}"),
        ))
    }
}

/// A content of several pieces.
struct Pieces<'a> {
    contents: &'a Contents,
    parts: &'a [(u32, Place)],
    /// Bytes of the parts that are left to be passed over.
    skip: u64,
    now: Option<Box<dyn Read + Send + 'a>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(reader) = &mut self.now {
                let read = reader.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.now = None;
            }
            let Some(((number, place), rest)) = self.parts.split_first() else { return Ok(0) };
            self.parts = rest;
            if self.skip >= place.size {
                self.skip -= place.size;
                continue;
            }
            let archive = self.contents.archive(*number).map_err(io::Error::other)?;
            self.now = Some(archive.read(*place, self.skip).map_err(io::Error::other)?);
            self.skip = 0;
        }
    }
}
