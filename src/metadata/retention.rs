//! Rows of retention policies: what a collection may take of a repository.

use super::batch::Rows;
use super::key::{self, RepositoryId};
use super::record::{Input, VERSION, put_number, put_text};
use super::schema::Family;
use super::view::View;
use crate::error::Result;

/// A repository's policy, in the words of the metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RetentionRecord {
    /// Milliseconds after which an untagged manifest may go; none: it stays.
    pub(crate) untagged: Option<u64>,
    /// So many tags stay, those that changed last; none: all.
    pub(crate) keep_last: Option<u64>,
    /// Patterns of tags that always stay.
    pub(crate) keep_tags: Vec<String>,
    /// Patterns of the tags of which the last stay; all when there is none.
    pub(crate) last_of: Vec<String>,
}

impl RetentionRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { untagged, keep_last, keep_tags, last_of } = self;
        let mut out = vec![VERSION, u8::from(untagged.is_some()) | u8::from(keep_last.is_some()) << 1];
        for number in [untagged, keep_last].into_iter().flatten() {
            put_number(&mut out, *number);
        }
        for patterns in [keep_tags, last_of] {
            put_number(&mut out, patterns.len() as u64);
            for pattern in patterns {
                put_text(&mut out, pattern);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "retention")?;
        let flags = input.byte()?;
        let untagged = if flags & 1 != 0 { Some(input.number()?) } else { None };
        let keep_last = if flags & 2 != 0 { Some(input.number()?) } else { None };
        let mut patterns = || -> Result<Vec<String>> {
            let count = input.number()?;
            let mut patterns = Vec::with_capacity(usize::try_from(count).unwrap_or_default().min(16));
            for _ in 0..count {
                patterns.push(input.text()?.to_owned());
            }
            Ok(patterns)
        };
        let (keep_tags, last_of) = (patterns()?, patterns()?);
        input.close()?;
        Ok(Self { untagged, keep_last, keep_tags, last_of })
    }
}

impl Rows<'_> {
    pub(crate) fn put_retention(&mut self, repository: RepositoryId, record: &RetentionRecord) {
        self.put(Family::Default, &key::retention(repository), &record.encode());
    }

    pub(crate) fn delete_retention(&mut self, repository: RepositoryId) {
        self.delete(Family::Default, &key::retention(repository));
    }
}

impl View<'_> {
    pub(crate) fn retention(&self, repository: RepositoryId) -> Result<Option<RetentionRecord>> {
        let row = self.get(Family::Default, &key::retention(repository))?;
        row.map(|row| RetentionRecord::decode(&row)).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip(untagged in option::of(any::<u64>()), keep_last in option::of(any::<u64>()),
                keep_tags in vec(".{0,9}", 0..4), last_of in vec(".{0,9}", 0..4)) {
            let record = RetentionRecord { untagged, keep_last, keep_tags, last_of };
            prop_assert_eq!(RetentionRecord::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in vec(any::<u8>(), 0..40)) {
            let _ = RetentionRecord::decode(&bytes);
        }
    }
}
