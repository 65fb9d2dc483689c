//! Rows of collection: what is to be looked at and since when, and content whose file is still to go.
//!
//! Times order the queue and delay the look; they never decide whether something may go.

use std::ops::ControlFlow;

use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::batch::Rows;
use crate::metadata::key::{RepositoryId, tag_byte};
use crate::metadata::schema::Family;
use crate::metadata::view::{View, malformed};

/// What a row of the queue asks to be looked at.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Class {
    /// A manifest of a repository that goes unless something names it, whatever the policy says of untagged ones.
    Manifest,
    /// A subject that a repository no longer holds: its referrers.
    Subject,
    /// A blob of a repository that no manifest may refer to.
    Blob,
    /// Content that nobody may hold.
    Content,
}

/// Untagged manifests wait by repository, since policies differ.
const UNTAGGED: u8 = b'u';
/// Since when a manifest waits as untagged.
const UNTAGGED_SINCE: u8 = b'n';

/// The bytes of a repository's id in a key.
const ID: usize = 4;

impl Class {
    fn code(self) -> u8 {
        match self {
            Self::Manifest => b'm',
            Self::Subject => b's',
            Self::Blob => b'b',
            Self::Content => b'c',
        }
    }
}

/// A row of the queue. Content is of no repository, and has the id 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Queued {
    pub(crate) class: Class,
    /// Milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) id: RepositoryId,
    pub(crate) digest: Digest,
    /// For a subject: its referrers up to this sequence.
    pub(crate) sequence: u64,
}

impl Queued {
    pub(crate) fn new(class: Class, since: u64, id: RepositoryId, digest: Digest) -> Self {
        Self { class, since, id, digest, sequence: 0 }
    }

    fn key(&self) -> Vec<u8> {
        let mut key = vec![tag_byte::QUEUE, self.class.code()];
        key.extend_from_slice(&self.since.to_be_bytes());
        if self.class != Class::Content {
            key.extend_from_slice(&self.id.0.to_be_bytes());
        }
        self.digest.to_key(&mut key);
        key
    }

    fn of_row(class: Class, key: &[u8], value: &[u8]) -> Option<Self> {
        let (since, rest) = key.get(2..)?.split_first_chunk::<8>()?;
        let (id, rest) = match class {
            Class::Content => (0, rest),
            _ => {
                let (id, rest) = rest.split_first_chunk::<ID>()?;
                (u32::from_be_bytes(*id), rest)
            }
        };
        let (digest, length) = Digest::from_key(rest)?;
        let sequence = match value {
            [] => 0,
            value => u64::from_be_bytes(value.try_into().ok()?),
        };
        let since = u64::from_be_bytes(*since);
        (length == rest.len()).then_some(Self { class, since, id: RepositoryId(id), digest, sequence })
    }
}

fn untagged_of(id: RepositoryId) -> Vec<u8> {
    let mut key = vec![tag_byte::QUEUE, UNTAGGED];
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

fn untagged(id: RepositoryId, since: u64, digest: &Digest) -> Vec<u8> {
    let mut key = untagged_of(id);
    key.extend_from_slice(&since.to_be_bytes());
    digest.to_key(&mut key);
    key
}

fn untagged_since(id: RepositoryId, digest: &Digest) -> Vec<u8> {
    let mut key = vec![tag_byte::QUEUE, UNTAGGED_SINCE];
    key.extend_from_slice(&id.0.to_be_bytes());
    digest.to_key(&mut key);
    key
}

fn tombstone(digest: &Digest) -> Vec<u8> {
    let mut key = vec![tag_byte::TOMBSTONE];
    digest.to_key(&mut key);
    key
}

impl Rows<'_> {
    pub(crate) fn put_queued(&mut self, row: &Queued) {
        let value = row.sequence.to_be_bytes();
        let value: &[u8] = if row.class == Class::Subject { &value } else { &[] };
        self.put(Family::Default, &row.key(), value);
    }

    pub(crate) fn delete_queued(&mut self, row: &Queued) {
        self.delete(Family::Default, &row.key());
    }

    /// A manifest without a name waits for its repository's policy. It waits once: `before` is since when it does already.
    pub(crate) fn put_untagged(
        &mut self,
        id: RepositoryId,
        digest: &Digest,
        since: u64,
        before: Option<u64>,
    ) {
        if let Some(before) = before {
            self.delete(Family::Default, &untagged(id, before, digest));
        }
        self.put(Family::Default, &untagged(id, since, digest), &[]);
        self.put(Family::Default, &untagged_since(id, digest), &since.to_be_bytes());
    }

    pub(crate) fn delete_untagged(&mut self, id: RepositoryId, digest: &Digest, since: u64) {
        self.delete(Family::Default, &untagged(id, since, digest));
        self.delete(Family::Default, &untagged_since(id, digest));
    }

    /// Content that is no longer known and whose file is still to go; `sequence` is the engine's when that was decided.
    pub(crate) fn put_tombstone(&mut self, digest: &Digest, sequence: u64) {
        self.put(Family::Default, &tombstone(digest), &sequence.to_be_bytes());
    }

    pub(crate) fn delete_tombstone(&mut self, digest: &Digest) {
        self.delete(Family::Default, &tombstone(digest));
    }
}

impl View<'_> {
    /// Rows of one class since at most `until`, the oldest first, those behind `after`.
    pub(crate) fn queued(
        &self,
        class: Class,
        after: Option<&Queued>,
        until: u64,
        mut visit: impl FnMut(Queued) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let after = after.map(Queued::key);
        self.scan(Family::Default, &[tag_byte::QUEUE, class.code()], after.as_deref(), |key, value| {
            let row = Queued::of_row(class, key, value).ok_or_else(|| malformed(key))?;
            if row.since > until { Ok(ControlFlow::Break(())) } else { visit(row) }
        })
    }

    /// Counts the rows of one class since later than `since`, up to `most`.
    pub(crate) fn count_queued_after(&self, class: Class, since: u64, most: u64) -> Result<u64> {
        let mut count = 0;
        // No row of that time has so long a key.
        let last = Queued::new(class, since, RepositoryId(u32::MAX), Digest::of(b"")).key();
        let after = [last.get(..2 + 8).unwrap_or_default(), &[0xff; 80]].concat();
        self.scan(Family::Default, &[tag_byte::QUEUE, class.code()], Some(&after), |_, _| {
            count += 1;
            Ok(if count >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(count)
    }

    /// The untagged manifests of a repository since at most `until`, the oldest first, those behind `after`.
    pub(crate) fn untagged(
        &self,
        id: RepositoryId,
        after: Option<(u64, Digest)>,
        until: u64,
        mut visit: impl FnMut(u64, Digest) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let prefix = untagged_of(id);
        let after = after.map(|(since, digest)| untagged(id, since, &digest));
        self.scan(Family::Default, &prefix, after.as_deref(), |key, _| {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let (since, rest) = rest.split_first_chunk::<8>().ok_or_else(|| malformed(key))?;
            let (digest, _) = Digest::from_key(rest).ok_or_else(|| malformed(key))?;
            let since = u64::from_be_bytes(*since);
            if since > until { Ok(ControlFlow::Break(())) } else { visit(since, digest) }
        })
    }

    /// The next repository behind `after` in which an untagged manifest waits.
    pub(crate) fn next_untagged(&self, after: Option<RepositoryId>) -> Result<Option<RepositoryId>> {
        let mut found = None;
        // No key of a repository is as long as this one, so it is behind all of them.
        let after = after.map(|id| [untagged_of(id).as_slice(), &[0xff; 80]].concat());
        self.scan(Family::Default, &[tag_byte::QUEUE, UNTAGGED], after.as_deref(), |key, _| {
            let id = key.get(2..).and_then(<[u8]>::first_chunk::<ID>).ok_or_else(|| malformed(key))?;
            found = Some(RepositoryId(u32::from_be_bytes(*id)));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Since when a manifest waits as untagged, if it does.
    pub(crate) fn untagged_since(&self, id: RepositoryId, digest: &Digest) -> Result<Option<u64>> {
        let key = untagged_since(id, digest);
        let Some(row) = self.get(Family::Default, &key)? else { return Ok(None) };
        let since: &[u8; 8] = (*row).try_into().map_err(|_| malformed(&key))?;
        Ok(Some(u64::from_be_bytes(*since)))
    }

    /// Contents whose files are still to go, in order of their digests.
    pub(crate) fn tombstones(
        &self,
        after: Option<&Digest>,
        mut visit: impl FnMut(Digest) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let after = after.map(tombstone);
        self.scan(Family::Default, &[tag_byte::TOMBSTONE], after.as_deref(), |key, _| {
            let (digest, _) = key.get(1..).and_then(Digest::from_key).ok_or_else(|| malformed(key))?;
            visit(digest)
        })
    }

    pub(crate) fn is_tombstone(&self, digest: &Digest) -> Result<bool> {
        Ok(self.get(Family::Default, &tombstone(digest))?.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use crate::metadata::Metadata;
    fn until(done: bool) -> ControlFlow<()> {
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn stores() -> (tempfile::TempDir, Metadata) {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("m")).unwrap();
        (dir, metadata)
    }

    #[test]
    fn each_class_is_read_in_order_of_time_up_to_a_moment_and_from_where_it_ended() {
        let (_dir, metadata) = stores();
        let digest = Digest::of(b"d");
        let mut rows = metadata.rows();
        for class in [Class::Manifest, Class::Subject, Class::Blob, Class::Content] {
            for since in [3_u64, 1, 300] {
                let id = RepositoryId(if class == Class::Content { 0 } else { 9 });
                let sequence = if class == Class::Subject { since } else { 0 };
                rows.put_queued(&Queued { class, since, id, digest, sequence });
            }
        }
        rows.commit(false).unwrap();
        let view = metadata.view();
        for class in [Class::Manifest, Class::Subject, Class::Blob, Class::Content] {
            let read = |after: Option<&Queued>, last: u64| {
                let mut found = Vec::new();
                view.queued(class, after, last, |row| {
                    assert_eq!(row.digest, digest);
                    assert_eq!(row.sequence, if class == Class::Subject { row.since } else { 0 });
                    found.push(row);
                    Ok(until(false))
                })
                .unwrap();
                found
            };
            let count = |since, most| view.count_queued_after(class, since, most).unwrap();
            assert_eq!((count(0, 9), count(1, 9), count(2, 9), count(300, 9), count(0, 2)), (3, 2, 2, 0, 2));
            let all = read(None, u64::MAX);
            assert_eq!(all.iter().map(|row| row.since).collect::<Vec<_>>(), [1, 3, 300]);
            assert_eq!(read(None, 3).len(), 2);
            assert_eq!(read(all.first(), 3), all.get(1..2).unwrap());
            let mut rows = metadata.rows();
            rows.delete_queued(all.first().unwrap());
            rows.commit(false).unwrap();
            assert_eq!(read(None, 2), []);
        }
    }

    #[test]
    fn an_untagged_manifest_waits_once() {
        let (_dir, metadata) = stores();
        let digest = Digest::of(b"m");
        let put = |since| {
            let before = metadata.view().untagged_since(RepositoryId(7), &digest).unwrap();
            let mut rows = metadata.rows();
            rows.put_untagged(RepositoryId(7), &digest, since, before);
            rows.commit(false).unwrap();
        };
        let found = || {
            let mut found = Vec::new();
            metadata
                .view()
                .untagged(RepositoryId(7), None, u64::MAX, |since, _| {
                    found.push(since);
                    Ok(until(false))
                })
                .unwrap();
            found
        };
        put(5);
        put(2);
        assert_eq!(found(), [2]);
        put(9);
        assert_eq!(found(), [9]);
        let view = metadata.view();
        assert_eq!(view.next_untagged(None).unwrap(), Some(RepositoryId(7)));
        assert_eq!(view.next_untagged(Some(RepositoryId(6))).unwrap(), Some(RepositoryId(7)));
        assert_eq!(view.next_untagged(Some(RepositoryId(7))).unwrap(), None);
        let mut rows = metadata.rows();
        rows.delete_untagged(RepositoryId(7), &digest, 9);
        rows.commit(false).unwrap();
        assert_eq!(found(), [0; 0]);
        assert_eq!(view.next_untagged(None).unwrap(), None);
    }
}
