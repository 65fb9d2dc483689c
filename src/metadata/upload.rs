//! Rows of upload sessions.

use std::ops::ControlFlow;

use super::batch::Rows;
use super::key::tag_byte;
use super::record::{Input, put_number, put_text};
use super::schema::Family;
use super::view::View;
use crate::digest::Algorithm;
use crate::error::{Error, Result};

const VERSION: u8 = 0;

const UNSYNCED: u8 = 1;
const SUSPECT: u8 = 2;
const EXPECTED: u8 = 4;
const LEASED: u8 = 8;

/// What the store knows of one upload session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UploadRecord {
    /// The repository that it is of; empty for the unnamed one.
    pub(crate) repository: String,
    /// Milliseconds since 1970.
    pub(crate) created: u64,
    /// When it was saved last, in milliseconds since 1970.
    pub(crate) saved: u64,
    /// Milliseconds after which it expires unless it is saved again.
    pub(crate) time_to_live: u64,
    /// Bytes that it has.
    pub(crate) offset: u64,
    /// Bytes that it will have, if that was said.
    pub(crate) expected: Option<u64>,
    /// What is hashed while it comes, and what each hash needs to go on behind the offset.
    pub(crate) hashes: Vec<(Algorithm, Option<Vec<u8>>)>,
    /// The file was not synced before this row was written.
    pub(crate) unsynced: bool,
    /// A sync of the file failed: it must not be synced again.
    pub(crate) suspect: bool,
    /// The lease that takes what is finished.
    pub(crate) lease: Option<[u8; 16]>,
}

impl UploadRecord {
    /// When it expires, in milliseconds since 1970.
    pub(crate) fn expires(&self) -> u64 {
        self.saved.saturating_add(self.time_to_live)
    }

    /// Forgets what its bytes were when they were hashed.
    pub(crate) fn distrust(&mut self) {
        self.hashes.iter_mut().for_each(|(_, midstate)| *midstate = None);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.unsynced, UNSYNCED)
            | flag(self.suspect, SUSPECT)
            | flag(self.expected.is_some(), EXPECTED)
            | flag(self.lease.is_some(), LEASED);
        let mut out = vec![VERSION, flags];
        put_text(&mut out, &self.repository);
        for number in [self.created, self.saved, self.time_to_live, self.offset] {
            put_number(&mut out, number);
        }
        if let Some(expected) = self.expected {
            put_number(&mut out, expected);
        }
        out.extend(self.lease.iter().flatten());
        put_number(&mut out, self.hashes.len() as u64);
        for (algorithm, midstate) in &self.hashes {
            out.push(algorithm.code());
            let midstate = midstate.as_deref().unwrap_or_default();
            put_number(&mut out, midstate.len() as u64);
            out.extend_from_slice(midstate);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "upload")?;
        let flags = input.byte()?;
        let repository = input.text()?.to_owned();
        let (created, saved) = (input.number()?, input.number()?);
        let (time_to_live, offset) = (input.number()?, input.number()?);
        let expected = if flags & EXPECTED != 0 { Some(input.number()?) } else { None };
        let lease = if flags & LEASED != 0 { Some(input.array()?) } else { None };
        let mut hashes = Vec::new();
        for _ in 0..input.number()? {
            let algorithm = Algorithm::from_code(input.byte()?).ok_or_else(|| input.malformed())?;
            let length = usize::try_from(input.number()?).map_err(|_| input.malformed())?;
            let midstate = input.take(length)?;
            hashes.push((algorithm, (!midstate.is_empty()).then(|| midstate.to_vec())));
        }
        input.close()?;
        let (unsynced, suspect) = (flags & UNSYNCED != 0, flags & SUSPECT != 0);
        Ok(Self {
            repository,
            created,
            saved,
            time_to_live,
            offset,
            expected,
            hashes,
            unsynced,
            suspect,
            lease,
        })
    }
}

fn key_of(id: &[u8; 16]) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(tag_byte::UPLOAD);
    key.extend_from_slice(id);
    key
}

impl View<'_> {
    pub(crate) fn upload(&self, id: &[u8; 16]) -> Result<Option<UploadRecord>> {
        self.get(Family::Default, &key_of(id))?.map(|row| UploadRecord::decode(&row)).transpose()
    }

    /// Upload sessions in order of their ids.
    pub(crate) fn uploads(
        &self,
        after: Option<&[u8; 16]>,
        mut visit: impl FnMut([u8; 16], UploadRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let after = after.map(key_of);
        self.scan(Family::Default, &[tag_byte::UPLOAD], after.as_deref(), |key, value| {
            let id = key.get(1..).and_then(|id| id.try_into().ok()).ok_or_else(|| {
                Error::corrupt(format!("metadata holds a malformed key, key={}", key.escape_ascii()))
            })?;
            visit(id, UploadRecord::decode(value)?)
        })
    }
}

impl Rows<'_> {
    pub(crate) fn put_upload(&mut self, id: &[u8; 16], record: &UploadRecord) {
        self.put(Family::Default, &key_of(id), &record.encode());
    }

    pub(crate) fn delete_upload(&mut self, id: &[u8; 16]) {
        self.delete(Family::Default, &key_of(id));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_round_trip(
            repository in ".{0,20}", numbers: [u64; 4], expected: Option<u64>, lease: Option<[u8; 16]>, flags: [bool; 2],
            midstates in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 1..210)), 0..4),
        ) {
            let [created, saved, time_to_live, offset] = numbers;
            let hashes = midstates.into_iter().zip(Algorithm::ALL).map(|(state, algorithm)| (algorithm, state)).collect();
            let [unsynced, suspect] = flags;
            let record = UploadRecord {
                repository, created, saved, time_to_live, offset, expected, hashes, unsynced, suspect, lease
            };
            prop_assert_eq!(UploadRecord::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = UploadRecord::decode(&bytes);
        }
    }
}
