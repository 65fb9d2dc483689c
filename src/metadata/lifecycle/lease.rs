//! Rows of leases: what somebody keeps for a while although nothing names it.

use std::ops::ControlFlow;

use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::batch::Rows;
use crate::metadata::key::{GRAPH_PREFIX, tag_byte};
use crate::metadata::record::{Input, VERSION, put_number, put_text};
use crate::metadata::schema::Family;
use crate::metadata::view::{View, malformed};

/// The id of a lease.
pub(crate) type LeaseKey = [u8; 16];

/// What is known of a lease. Times are in milliseconds since 1970.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LeaseRecord {
    pub(crate) created: u64,
    pub(crate) expires: u64,
    /// How many contents it holds.
    pub(crate) contents: u64,
    pub(crate) label: String,
}

impl LeaseRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { created, expires, contents, label } = self;
        let mut out = vec![VERSION];
        for number in [created, expires, contents] {
            put_number(&mut out, *number);
        }
        put_text(&mut out, label);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "lease")?;
        let (created, expires, contents) = (input.number()?, input.number()?, input.number()?);
        let label = input.text()?.to_owned();
        input.close()?;
        Ok(Self { created, expires, contents, label })
    }
}

fn lease(id: &LeaseKey) -> Vec<u8> {
    [&[tag_byte::LEASE], id.as_slice()].concat()
}

fn items(id: &LeaseKey) -> Vec<u8> {
    [&[tag_byte::LEASE_ITEM], id.as_slice()].concat()
}

fn item(id: &LeaseKey, digest: &Digest) -> Vec<u8> {
    let mut key = items(id);
    digest.to_key(&mut key);
    key
}

fn leases_of(digest: &Digest) -> Vec<u8> {
    let mut key = vec![tag_byte::LEASED];
    digest.to_key(&mut key);
    key
}

fn leased(digest: &Digest, id: &LeaseKey) -> Vec<u8> {
    let mut key = leases_of(digest);
    key.extend_from_slice(id);
    key
}

impl Rows<'_> {
    pub(crate) fn put_lease(&mut self, id: &LeaseKey, record: &LeaseRecord) {
        self.put(Family::Default, &lease(id), &record.encode());
    }

    /// The lease itself; what it holds has rows of its own.
    pub(crate) fn delete_lease(&mut self, id: &LeaseKey) {
        self.delete(Family::Default, &lease(id));
    }

    pub(crate) fn put_leased(&mut self, id: &LeaseKey, digest: &Digest) {
        self.put(Family::Default, &item(id, digest), &[]);
        self.put(Family::Graph, &leased(digest, id), &[]);
    }

    pub(crate) fn delete_leased(&mut self, id: &LeaseKey, digest: &Digest) {
        self.delete(Family::Default, &item(id, digest));
        self.delete(Family::Graph, &leased(digest, id));
    }
}

impl View<'_> {
    pub(crate) fn lease(&self, id: &LeaseKey) -> Result<Option<LeaseRecord>> {
        let row = self.get(Family::Default, &lease(id))?;
        row.map(|row| LeaseRecord::decode(&row)).transpose()
    }

    /// Leases in order of their ids, those behind `after`.
    pub(crate) fn leases(
        &self,
        after: Option<&LeaseKey>,
        mut visit: impl FnMut(LeaseKey, LeaseRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let after = after.map(lease);
        self.scan(Family::Default, &[tag_byte::LEASE], after.as_deref(), |key, value| {
            let id = key.get(1..).and_then(|id| id.try_into().ok()).ok_or_else(|| malformed(key))?;
            visit(id, LeaseRecord::decode(value)?)
        })
    }

    pub(crate) fn is_any_lease(&self) -> Result<bool> {
        let mut any = false;
        self.leases(None, |_, _| {
            any = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(any)
    }

    /// What a lease holds, in order of digests.
    pub(crate) fn lease_items(
        &self,
        id: &LeaseKey,
        mut visit: impl FnMut(Digest) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let prefix = items(id);
        self.scan(Family::Default, &prefix, None, |key, _| {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let (digest, _) = Digest::from_key(rest).ok_or_else(|| malformed(key))?;
            visit(digest)
        })
    }

    pub(crate) fn is_leased_by(&self, digest: &Digest, id: &LeaseKey) -> Result<bool> {
        Ok(self.get(Family::Graph, &leased(digest, id))?.is_some())
    }

    /// The leases that hold a content.
    pub(crate) fn leases_of(
        &self,
        digest: &Digest,
        mut visit: impl FnMut(LeaseKey) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let prefix = leases_of(digest);
        debug_assert!(prefix.len() >= GRAPH_PREFIX, "one prefix serves every scan of the graph");
        self.scan(Family::Graph, &prefix, None, |key, _| {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            visit(rest.try_into().map_err(|_| malformed(key))?)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip(created: u64, expires: u64, contents: u64, label in ".{0,40}") {
            let record = LeaseRecord { created, expires, contents, label };
            prop_assert_eq!(LeaseRecord::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = LeaseRecord::decode(&bytes);
        }
    }
}
