//! Events: what happened, in the order in which readers may see it, written in the batch that did it.

use super::super::batch::Rows;
use super::super::key::{self, tag_byte};
use super::super::record::{Input, VERSION, put_number, put_optional, put_text};
use super::super::schema::Family;
use super::super::view::{View, Visit};
use super::usage::CountedRows;
use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::fact;

/// One change, as its row has it: with names, because a repository may be gone when somebody reads of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum EventChange {
    Pushed {
        repository: String,
        digest: Digest,
        size: u64,
        media_type: String,
        artifact_type: Option<String>,
        subject: Option<Digest>,
    },
    Tagged {
        repository: String,
        tag: String,
        previous: Option<Digest>,
        current: Option<Digest>,
    },
    Deleted {
        repository: String,
        digest: Digest,
    },
    RepositoryDeleted {
        repository: String,
    },
}

/// A row of the feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EventRecord {
    /// Milliseconds since 1970.
    pub(crate) time: u64,
    /// How many events of this feed came before. Sequences may leave numbers out, this does not.
    pub(crate) ordinal: u64,
    pub(crate) change: EventChange,
}

/// The feed of a store that has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FeedRecord {
    /// Tells it from every other feed, so that nobody goes on in one with a position of another.
    pub(crate) id: u64,
    /// Sequences up to this one are gone.
    pub(crate) floor: u64,
    /// How many events are kept.
    pub(crate) count: u64,
    /// For how many milliseconds.
    pub(crate) age: Option<u64>,
}

const PUSHED: u8 = 1;
const TAGGED: u8 = 2;
const DELETED: u8 = 3;
const REPOSITORY_DELETED: u8 = 4;

impl EventRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_number(&mut out, self.time);
        put_number(&mut out, self.ordinal);
        match &self.change {
            EventChange::Pushed { repository, digest, size, media_type, artifact_type, subject } => {
                out.push(PUSHED);
                put_text(&mut out, repository);
                digest.to_key(&mut out);
                put_number(&mut out, *size);
                put_text(&mut out, media_type);
                put_optional(&mut out, artifact_type.as_deref());
                put_digest(&mut out, subject.as_ref());
            }
            EventChange::Tagged { repository, tag, previous, current } => {
                out.push(TAGGED);
                put_text(&mut out, repository);
                put_text(&mut out, tag);
                put_digest(&mut out, previous.as_ref());
                put_digest(&mut out, current.as_ref());
            }
            EventChange::Deleted { repository, digest } => {
                out.push(DELETED);
                put_text(&mut out, repository);
                digest.to_key(&mut out);
            }
            EventChange::RepositoryDeleted { repository } => {
                out.push(REPOSITORY_DELETED);
                put_text(&mut out, repository);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "event")?;
        let time = input.number()?;
        let ordinal = input.number()?;
        let kind = input.byte()?;
        let repository = input.text()?.to_owned();
        let change = match kind {
            PUSHED => EventChange::Pushed {
                repository,
                digest: input.digest()?,
                size: input.number()?,
                media_type: input.text()?.to_owned(),
                artifact_type: input.optional()?.map(str::to_owned),
                subject: optional_digest(&mut input)?,
            },
            TAGGED => EventChange::Tagged {
                repository,
                tag: input.text()?.to_owned(),
                previous: optional_digest(&mut input)?,
                current: optional_digest(&mut input)?,
            },
            DELETED => EventChange::Deleted { repository, digest: input.digest()? },
            REPOSITORY_DELETED => EventChange::RepositoryDeleted { repository },
            _ => return Err(input.malformed()),
        };
        input.close()?;
        Ok(Self { time, ordinal, change })
    }
}

impl FeedRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.id.to_be_bytes());
        put_number(&mut out, self.floor);
        put_number(&mut out, self.count);
        out.push(u8::from(self.age.is_some()));
        if let Some(age) = self.age {
            put_number(&mut out, age);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "feed")?;
        let id = u64::from_be_bytes(input.array()?);
        let floor = input.number()?;
        let count = input.number()?;
        let age = if input.byte()? == 0 { None } else { Some(input.number()?) };
        input.close()?;
        Ok(Self { id, floor, count, age })
    }
}

fn put_digest(out: &mut Vec<u8>, digest: Option<&Digest>) {
    out.push(u8::from(digest.is_some()));
    if let Some(digest) = digest {
        digest.to_key(out);
    }
}

fn optional_digest(input: &mut Input<'_>) -> Result<Option<Digest>> {
    if input.byte()? == 0 { Ok(None) } else { input.digest().map(Some) }
}

impl CountedRows<'_> {
    pub(crate) fn put_event(&mut self, sequence: u64, record: &EventRecord) {
        self.uncounted().put(Family::Default, &key::event(sequence), &record.encode());
    }
}

impl Rows<'_> {
    pub(crate) fn delete_event(&mut self, sequence: u64) {
        self.delete(Family::Default, &key::event(sequence));
    }

    pub(crate) fn put_feed(&mut self, record: &FeedRecord) {
        self.put(Family::Default, &key::fact(fact::EVENTS), &record.encode());
    }
}

impl View<'_> {
    /// The feed, if this store has one.
    pub(crate) fn feed(&self) -> Result<Option<FeedRecord>> {
        self.get(Family::Default, &key::fact(fact::EVENTS))?.map(|row| FeedRecord::decode(&row)).transpose()
    }

    /// The events behind a sequence, in their order. Begun at the floor of the feed, the rows that went before are not walked
    /// over.
    pub(crate) fn events(&self, after: u64, mut visit: impl FnMut(u64, EventRecord) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::EVENT], Some(&key::event(after)), |key, value| {
            visit(key::sequence_of(key).unwrap_or_default(), EventRecord::decode(value)?)
        })
    }

    /// The last event.
    pub(crate) fn last_event(&self) -> Result<Option<(u64, EventRecord)>> {
        self.last_row(tag_byte::EVENT, |key, value| {
            Ok((key::sequence_of(key).unwrap_or_default(), EventRecord::decode(value)?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_round_trip(time: u64, ordinal: u64, text in ".{0,40}", other in proptest::option::of(".{0,40}"), some: bool, age in proptest::option::of(any::<u64>())) {
            let digest = Digest::of(text.as_bytes());
            let optional = some.then_some(digest);
            let repository = text.clone();
            for change in [
                EventChange::Pushed { repository: text.clone(), digest, size: time, media_type: text.clone(), artifact_type: other.clone(), subject: optional },
                EventChange::Tagged { repository: text.clone(), tag: text.clone(), previous: optional, current: None },
                EventChange::Deleted { repository: text.clone(), digest },
                EventChange::RepositoryDeleted { repository },
            ] {
                let record = EventRecord { time, ordinal, change };
                let row = record.encode();
                prop_assert_eq!(EventRecord::decode(&row).unwrap(), record);
                prop_assert!(EventRecord::decode(&[&row[..], &[0]].concat()).is_err());
                prop_assert!(EventRecord::decode(row.get(..row.len() - 1).unwrap()).is_err());
            }
            let feed = FeedRecord { id: time, floor: ordinal, count: time, age };
            prop_assert_eq!(FeedRecord::decode(&feed.encode()).unwrap(), feed);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = EventRecord::decode(&bytes);
            let _ = FeedRecord::decode(&bytes);
        }
    }
}
