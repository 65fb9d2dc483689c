//! Key encodings. Pure; byte order is the order that scans rely on.
//!
//! Repository ids and sequence numbers are fixed-width big-endian, digests are the algorithm's code followed by the
//! bytes. In the graph family the digest comes first, so that one fixed prefix serves every scan there.

use crate::digest::Digest;

/// A repository inside one store. Ids are never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct RepositoryId(pub(crate) u32);

/// How a repository holds a digest. A digest may be held as both.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Manifest => b'm',
            Self::Blob => b'b',
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            b'm' => Some(Self::Manifest),
            b'b' => Some(Self::Blob),
            _ => None,
        }
    }
}

/// Which of the four orders of one subject's referrers a row belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReferrerOrder {
    Insertion,
    Created,
}

/// Keys start with one byte that tells what they are.
pub(crate) mod tag_byte {
    pub(crate) const FACT: u8 = b'F';
    pub(crate) const DELETED: u8 = b'D';
    pub(crate) const REPOSITORY_BY_NAME: u8 = b'N';
    pub(crate) const REPOSITORY_BY_ID: u8 = b'I';
    pub(crate) const UPLOAD: u8 = b'U';
    pub(crate) const TAG: u8 = b't';
    pub(crate) const TAG_BY_TARGET: u8 = b'u';
    pub(crate) const BASE: u8 = b'b';
    pub(crate) const FOREIGN: u8 = b'f';
    pub(crate) const EXTRA: u8 = b'x';
    pub(crate) const EVENT: u8 = b'E';
    pub(crate) const QUEUE: u8 = b'q';
    pub(crate) const TOMBSTONE: u8 = b'T';
    pub(crate) const LEASE: u8 = b'L';
    pub(crate) const LEASE_ITEM: u8 = b'k';
    pub(crate) const LEASED: u8 = b'l';
    pub(crate) const USAGE: u8 = b'Z';
    pub(crate) const QUOTA: u8 = b'z';
    pub(crate) const MEMBER: u8 = b'm';
    pub(crate) const HOLDER: u8 = b'h';
    pub(crate) const EDGE: u8 = b'e';
    pub(crate) const REFERRER: u8 = b'r';
    pub(crate) const REFERRER_BY_TYPE: u8 = b's';
    pub(crate) const REFERRER_BY_CREATED: u8 = b'c';
    pub(crate) const REFERRER_BY_TYPE_AND_CREATED: u8 = b'd';
    pub(crate) const RETENTION: u8 = b'P';
}

/// Bytes of every graph key that identify what it is about: tag byte, algorithm, 32 bytes of the digest.
pub(crate) const GRAPH_PREFIX: usize = 34;

pub(crate) fn fact(name: &str) -> Vec<u8> {
    tagged(tag_byte::FACT, name.as_bytes())
}

pub(crate) fn repository_by_name(name: &str) -> Vec<u8> {
    tagged(tag_byte::REPOSITORY_BY_NAME, name.as_bytes())
}

pub(crate) fn repository_by_id(id: RepositoryId) -> Vec<u8> {
    tagged(tag_byte::REPOSITORY_BY_ID, &id.0.to_be_bytes())
}

/// A repository that is deleted and whose rows are not all gone yet.
pub(crate) fn deleted(id: RepositoryId) -> Vec<u8> {
    tagged(tag_byte::DELETED, &id.0.to_be_bytes())
}

pub(crate) fn tag(repository: RepositoryId, tag: &str) -> Vec<u8> {
    let mut key = tagged(tag_byte::TAG, &repository.0.to_be_bytes());
    key.extend_from_slice(tag.as_bytes());
    key
}

pub(crate) fn tag_by_target(repository: RepositoryId, target: &Digest, tag: &str) -> Vec<u8> {
    let mut key = tagged(tag_byte::TAG_BY_TARGET, &repository.0.to_be_bytes());
    target.to_key(&mut key);
    key.extend_from_slice(tag.as_bytes());
    key
}

/// The retention policy of a repository.
pub(crate) fn retention(repository: RepositoryId) -> Vec<u8> {
    tagged(tag_byte::RETENTION, &repository.0.to_be_bytes())
}

pub(crate) fn base(layout_name: &str) -> Vec<u8> {
    tagged(tag_byte::BASE, layout_name.as_bytes())
}

/// An entry of `index.json` that is not ours to understand: its name and its digest as written.
pub(crate) fn foreign(name: &str, digest: &str) -> Vec<u8> {
    let mut key = tagged(tag_byte::FOREIGN, name.as_bytes());
    key.push(0);
    key.extend_from_slice(digest.as_bytes());
    key
}

/// What another tool said of an entry: by its name, or by its digest when it has none.
pub(crate) fn extra(name: Option<&str>, digest: &Digest) -> Vec<u8> {
    match name {
        Some(name) => tagged(tag_byte::EXTRA, name.as_bytes()),
        None => tagged(tag_byte::EXTRA, format!("\0{digest}").as_bytes()),
    }
}

pub(crate) fn event(sequence: u64) -> Vec<u8> {
    tagged(tag_byte::EVENT, &sequence.to_be_bytes())
}

/// The counters of a repository, or of the store.
pub(crate) fn usage(of: Option<RepositoryId>) -> Vec<u8> {
    of.map_or_else(|| vec![tag_byte::USAGE], |id| tagged(tag_byte::USAGE, &id.0.to_be_bytes()))
}

/// The quota of a repository, or of the store.
pub(crate) fn quota(of: Option<RepositoryId>) -> Vec<u8> {
    of.map_or_else(|| vec![tag_byte::QUOTA], |id| tagged(tag_byte::QUOTA, &id.0.to_be_bytes()))
}

pub(crate) fn digest(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    digest.to_key(&mut key);
    key
}

pub(crate) fn members(repository: RepositoryId, kind: Kind) -> Vec<u8> {
    let mut key = Vec::with_capacity(71);
    key.push(tag_byte::MEMBER);
    key.extend_from_slice(&repository.0.to_be_bytes());
    key.push(kind.code());
    key
}

pub(crate) fn member(repository: RepositoryId, kind: Kind, digest: &Digest) -> Vec<u8> {
    let mut key = members(repository, kind);
    digest.to_key(&mut key);
    key
}

pub(crate) fn holders(digest: &Digest) -> Vec<u8> {
    about(tag_byte::HOLDER, digest)
}

pub(crate) fn holder(digest: &Digest, repository: RepositoryId, kind: Kind) -> Vec<u8> {
    let mut key = holders(digest);
    key.extend_from_slice(&repository.0.to_be_bytes());
    key.push(kind.code());
    key
}

/// The edges to one child in all repositories.
pub(crate) fn edges_anywhere(child: &Digest) -> Vec<u8> {
    about(tag_byte::EDGE, child)
}

pub(crate) fn edges(child: &Digest, repository: RepositoryId) -> Vec<u8> {
    about_in(tag_byte::EDGE, child, repository)
}

pub(crate) fn edge(child: &Digest, repository: RepositoryId, parent: &Digest) -> Vec<u8> {
    let mut key = edges(child, repository);
    parent.to_key(&mut key);
    key
}

/// The rows of one subject in one order, all types or one.
pub(crate) fn referrers(
    subject: &Digest,
    repository: RepositoryId,
    order: ReferrerOrder,
    artifact_type: Option<&str>,
) -> Vec<u8> {
    let tag = match (order, artifact_type) {
        (ReferrerOrder::Insertion, None) => tag_byte::REFERRER,
        (ReferrerOrder::Insertion, Some(_)) => tag_byte::REFERRER_BY_TYPE,
        (ReferrerOrder::Created, None) => tag_byte::REFERRER_BY_CREATED,
        (ReferrerOrder::Created, Some(_)) => tag_byte::REFERRER_BY_TYPE_AND_CREATED,
    };
    let mut key = about_in(tag, subject, repository);
    if let Some(artifact_type) = artifact_type {
        key.extend_from_slice(&type_hash(artifact_type));
    }
    key
}

/// One row of [`referrers`]. `created` counts only in the created order.
pub(crate) fn referrer(
    subject: &Digest,
    repository: RepositoryId,
    order: ReferrerOrder,
    artifact_type: Option<&str>,
    created: Option<i64>,
    sequence: u64,
) -> Vec<u8> {
    let mut key = referrers(subject, repository, order, artifact_type);
    if order == ReferrerOrder::Created {
        key.extend_from_slice(&created_descending(created));
    }
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// What a graph key is about, and in which repository.
pub(crate) fn about_of(key: &[u8]) -> Option<(Digest, RepositoryId)> {
    let about = key.get(1..)?;
    let (digest, len) = Digest::from_key(about)?;
    let id = about.get(len..)?.first_chunk::<4>()?;
    Some((digest, RepositoryId(u32::from_be_bytes(*id))))
}

/// The sequence number at the end of the key of a referrer or an event.
pub(crate) fn sequence_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Newest first, undated last.
fn created_descending(created: Option<i64>) -> [u8; 8] {
    match created {
        // Flipping the sign bit makes signed order unsigned; the complement turns it round.
        Some(at) => (!(at.cast_unsigned() ^ (1 << 63))).min(u64::MAX - 1).to_be_bytes(),
        None => [0xff; 8],
    }
}

/// Artifact types are free text of any length; eight bytes of their hash keep keys short. Rows found by it are compared
/// with the whole type.
fn type_hash(artifact_type: &str) -> [u8; 8] {
    let hash = blake3::hash(artifact_type.as_bytes());
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    short
}

/// The first key behind all that begin with `prefix`. None where there is no end.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len() + 64);
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn about(tag: u8, digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(144);
    key.push(tag);
    digest.to_key(&mut key);
    key
}

fn about_in(tag: u8, digest: &Digest, repository: RepositoryId) -> Vec<u8> {
    let mut key = about(tag, digest);
    key.extend_from_slice(&repository.0.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_prefix_ends_before_the_next_one() {
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(behind(&[255, 255]), None);
        assert_eq!(behind(&[]), None);
    }

    #[test]
    fn undated_referrers_come_last_and_newest_first() {
        let at =
            |created| referrer(&Digest::of(b"s"), RepositoryId(1), ReferrerOrder::Created, None, created, 7);
        let mut keys =
            [at(None), at(Some(-5)), at(Some(i64::MIN)), at(Some(i64::MAX)), at(Some(5)), at(Some(0))];
        keys.sort();
        assert_eq!(
            keys,
            [at(Some(i64::MAX)), at(Some(5)), at(Some(0)), at(Some(-5)), at(Some(i64::MIN)), at(None)]
        );
    }

    #[test]
    fn every_graph_key_is_longer_than_the_prefix_that_groups_it() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        for key in [
            holder(&a, RepositoryId(0), Kind::Blob),
            edge(&a, RepositoryId(0), &b),
            referrer(&a, RepositoryId(0), ReferrerOrder::Insertion, Some("t"), None, 1),
        ] {
            assert!(key.len() > GRAPH_PREFIX);
        }
        assert_eq!(holders(&a).len(), GRAPH_PREFIX);
    }
}
