//! Quotas: how much a repository, or the store, may come to hold.

use super::super::batch::Rows;
use super::super::key::{self, RepositoryId, tag_byte};
use super::super::record::{Input, VERSION, put_number};
use super::super::schema::Family;
use super::super::view::{View, Visit, id_in};
use crate::error::Result;

/// Limits; none where there is no number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct QuotaRecord {
    pub(crate) objects: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl QuotaRecord {
    pub(crate) fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { objects, bytes } = self;
        let mut out = vec![VERSION, u8::from(objects.is_some()) | u8::from(bytes.is_some()) << 1];
        for number in [objects, bytes].into_iter().flatten() {
            put_number(&mut out, *number);
        }
        out
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self> {
        let mut input = Input::open(row, "quota")?;
        let flags = input.byte()?;
        let objects = if flags & 1 != 0 { Some(input.number()?) } else { None };
        let bytes = if flags & 2 != 0 { Some(input.number()?) } else { None };
        input.close()?;
        Ok(Self { objects, bytes })
    }
}

impl Rows<'_> {
    /// Sets the limits of a repository, or of the store where there is none; without any the row goes.
    pub(crate) fn put_quota(&mut self, id: Option<RepositoryId>, quota: &QuotaRecord) {
        if quota.is_unlimited() {
            self.delete(Family::Default, &key::quota(id));
        } else {
            self.put(Family::Default, &key::quota(id), &quota.encode());
        }
    }
}

impl View<'_> {
    pub(crate) fn quota(&self, id: Option<RepositoryId>) -> Result<QuotaRecord> {
        let row = self.get(Family::Default, &key::quota(id))?;
        row.map_or(Ok(QuotaRecord::default()), |row| QuotaRecord::decode(&row))
    }

    /// Every quota; that of the store first.
    pub(crate) fn quotas(
        &self,
        mut visit: impl FnMut(Option<RepositoryId>, QuotaRecord) -> Visit,
    ) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::QUOTA], None, |key, value| {
            let id = if key.len() > 1 { Some(id_in(key, 1)?) } else { None };
            visit(id, QuotaRecord::decode(value)?)
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
        fn quotas_round_trip_and_any_bytes_never_panic(objects: Option<u64>, bytes: Option<u64>, row: Vec<u8>) {
            let quota = QuotaRecord { objects, bytes };
            prop_assert_eq!(QuotaRecord::decode(&quota.encode()).unwrap(), quota);
            let _ = QuotaRecord::decode(&row);
        }
    }
}
