//! A typed set of rows, written as one.

use rocksdb::WriteBatch;

use super::key::{self, Kind, ReferrerOrder, RepositoryId};
use super::lifecycle::usage::{Change, Changes};
use super::log_sync::UnderWay;
use super::record::{ContentRecord, Fingerprint, ManifestRecord, ReferrerRecord, TagRecord, encode_target};
use super::schema::Family;
use super::{Metadata, log_tail};
use crate::digest::Digest;
use crate::error::Result;
use crate::sys::fault::{self, Call};

/// Rows that become visible and durable together.
pub(crate) struct Rows<'a> {
    pub(super) metadata: &'a Metadata,
    batch: WriteBatch,
    /// What has to be counted before they are written.
    pub(super) changes: Changes,
}

/// Rows that everybody sees and the disk may not have yet.
#[must_use = "what is not synced is not durable"]
#[derive(Debug)]
pub(crate) struct Written<'a> {
    metadata: &'a Metadata,
    /// The last of them, or a later one.
    row: u64,
    _under_way: UnderWay<'a>,
}

impl Written<'_> {
    /// Returns when the disk has them.
    pub(crate) fn sync(self) -> Result<()> {
        self.metadata.sync_up_to(self.row)
    }
}

impl<'a> Rows<'a> {
    /// Growing by doubling would cost a batch with content as much as the log does, so the caller says how much comes.
    pub(super) fn with_capacity(metadata: &'a Metadata, bytes: usize) -> Self {
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        batch.put_log_data(log_tail::witness(metadata.log.synced()));
        Self { metadata, batch, changes: Changes::default() }
    }

    /// Bytes that these rows take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.batch.size_in_bytes() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// For rows that are counted, and that somebody may sync.
    pub(super) fn write(self) -> Result<()> {
        self.metadata.write(self.batch)
    }

    /// For rows that are counted, and that their writer answers for.
    pub(super) fn write_to_sync(self) -> Result<Written<'a>> {
        let metadata = self.metadata;
        let _under_way = metadata.log.begin();
        metadata.write(self.batch)?;
        Ok(Written { metadata, row: metadata.db.latest_sequence_number(), _under_way })
    }

    pub(crate) fn put_content(&mut self, digest: &Digest, record: &ContentRecord) {
        self.changes.note(digest, Change::Put { size: record.size });
        self.put(Family::Content, &key::digest(digest), &record.encode());
    }

    /// The first row of a content, whose stripe the caller has for himself: that there is none saves looking for holders.
    pub(crate) fn put_new_content(&mut self, digest: &Digest, record: &ContentRecord) {
        self.changes.note(digest, Change::New { size: record.size });
        self.put(Family::Content, &key::digest(digest), &record.encode());
    }

    pub(crate) fn put_journal(&mut self, digest: &Digest, id: u64, content: &[u8]) {
        self.changes.note(digest, Change::Journalled { size: content.len() as u64 });
        let mut value = Vec::with_capacity(8 + content.len());
        value.extend_from_slice(&id.to_be_bytes());
        value.extend_from_slice(content);
        self.put(Family::Journal, &key::digest(digest), &value);
    }

    /// Removes a row of the journal, which has so many bytes of content.
    pub(crate) fn delete_journal(&mut self, digest: &Digest, size: u64) {
        self.changes.note(digest, Change::Filed { size });
        self.delete(Family::Journal, &key::digest(digest));
    }

    /// Removes the row of a content, which has so many bytes and whose stripe the caller has for himself: that nobody holds it
    /// but whom these rows take it from saves looking for holders. Its journal row, if it has one, goes by itself.
    pub(crate) fn delete_condemned(&mut self, digest: &Digest, size: u64) {
        self.changes.note(digest, Change::Condemned { size });
        self.delete(Family::Content, &key::digest(digest));
    }

    pub(crate) fn put_repository(&mut self, id: RepositoryId, name: &str) {
        self.put(Family::Default, &key::repository_by_name(name), &id.0.to_be_bytes());
        self.put(Family::Default, &key::repository_by_id(id), name.as_bytes());
    }

    /// Takes the name from a repository, whose other rows go later: nobody finds them any more.
    pub(crate) fn delete_repository(&mut self, id: RepositoryId, name: &str) {
        self.delete(Family::Default, &key::repository_by_name(name));
        self.delete(Family::Default, &key::repository_by_id(id));
        self.delete(Family::Default, &key::quota(Some(id)));
        self.put(Family::Default, &key::deleted(id), &[]);
    }

    /// All rows of a deleted repository are gone, and this is none of the batch that removes them: its counters are zero by
    /// now. Its id stays taken.
    pub(crate) fn finish_deleted(&mut self, id: RepositoryId) {
        self.delete_usage(id);
        self.put(Family::Default, &key::deleted(id), &[1]);
    }

    /// `manifest` is the record of a manifest, nothing for a blob.
    pub(crate) fn put_member(
        &mut self,
        repository: RepositoryId,
        digest: &Digest,
        manifest: Option<&ManifestRecord>,
    ) {
        let kind = if manifest.is_some() { Kind::Manifest } else { Kind::Blob };
        let value = manifest.map(ManifestRecord::encode).unwrap_or_default();
        self.changes.note(digest, Change::Joined(repository, kind));
        self.put(Family::Members, &key::member(repository, kind, digest), &value);
        self.put(Family::Graph, &key::holder(digest, repository, kind), &[]);
    }

    pub(crate) fn delete_member(&mut self, repository: RepositoryId, kind: Kind, digest: &Digest) {
        self.changes.note(digest, Change::Left(repository, kind));
        self.delete(Family::Members, &key::member(repository, kind, digest));
        self.delete(Family::Graph, &key::holder(digest, repository, kind));
    }

    /// `roles` has one bit for each role that the child has in this parent.
    pub(crate) fn put_edge(&mut self, repository: RepositoryId, child: &Digest, parent: &Digest, roles: u8) {
        self.put(Family::Graph, &key::edge(child, repository, parent), &[roles]);
    }

    pub(crate) fn delete_edge(&mut self, repository: RepositoryId, child: &Digest, parent: &Digest) {
        self.delete(Family::Graph, &key::edge(child, repository, parent));
    }

    pub(crate) fn put_referrer(
        &mut self,
        repository: RepositoryId,
        subject: &Digest,
        sequence: u64,
        record: &ReferrerRecord,
    ) {
        let [first, rest @ ..] = referrer_keys(repository, subject, sequence, record);
        if let Some(first) = first {
            self.put(Family::Graph, &first, &record.encode());
        }
        for key in rest.into_iter().flatten() {
            self.put(Family::Graph, &key, &[]);
        }
    }

    pub(crate) fn delete_referrer(
        &mut self,
        repository: RepositoryId,
        subject: &Digest,
        sequence: u64,
        record: &ReferrerRecord,
    ) {
        for key in referrer_keys(repository, subject, sequence, record).into_iter().flatten() {
            self.delete(Family::Graph, &key);
        }
    }

    /// Moves a tag from `previous` to `current`; `None` is absence.
    pub(crate) fn move_tag(
        &mut self,
        repository: RepositoryId,
        tag: &str,
        previous: Option<&Digest>,
        current: Option<&TagRecord>,
    ) {
        if let Some(previous) = previous {
            self.delete(Family::Default, &key::tag_by_target(repository, previous, tag));
        }
        let key = key::tag(repository, tag);
        match current {
            Some(current) => {
                self.put(Family::Default, &key, &current.encode());
                self.put(Family::Default, &key::tag_by_target(repository, &current.target, tag), &[]);
            }
            None => self.delete(Family::Default, &key),
        }
    }

    /// A tag that cannot be read.
    #[cfg(test)]
    pub(crate) fn spoil_tag(&mut self, repository: RepositoryId, tag: &str) {
        self.put(Family::Default, &key::tag(repository, tag), b"spoilt");
    }

    pub(crate) fn put_base(&mut self, layout_name: &str, target: Option<&Digest>) {
        if fault::left_out(Call::PutBase, &self.metadata.path) {
            return;
        }
        self.put(Family::Default, &key::base(layout_name), &encode_target(target));
    }

    pub(crate) fn delete_base(&mut self, layout_name: &str) {
        self.delete(Family::Default, &key::base(layout_name));
    }

    pub(crate) fn put_foreign(&mut self, name: &str, digest: &str, json: &str) {
        self.put(Family::Default, &key::foreign(name, digest), json.as_bytes());
    }

    pub(crate) fn delete_foreign(&mut self, name: &str, digest: &str) {
        self.delete(Family::Default, &key::foreign(name, digest));
    }

    pub(crate) fn put_extra(&mut self, name: Option<&str>, digest: &Digest, json: &str) {
        self.put(Family::Default, &key::extra(name, digest), json.as_bytes());
    }

    pub(crate) fn put_fingerprint(&mut self, fact: &str, fingerprint: &Fingerprint) {
        if fact == super::fact::PENDING && fault::left_out(Call::PutPending, &self.metadata.path) {
            return;
        }
        self.put(Family::Default, &key::fact(fact), &fingerprint.encode());
    }

    pub(crate) fn put_flag(&mut self, fact: &str) {
        self.put(Family::Default, &key::fact(fact), &[]);
    }

    /// A fact that is a time, in milliseconds since 1970, and a flag.
    pub(crate) fn put_moment(&mut self, fact: &str, at: u64, flag: bool) {
        let mut value = at.to_be_bytes().to_vec();
        value.push(u8::from(flag));
        self.put(Family::Default, &key::fact(fact), &value);
    }

    pub(crate) fn delete_fact(&mut self, fact: &str) {
        self.delete(Family::Default, &key::fact(fact));
    }

    pub(super) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.metadata.family(family), key, value);
    }

    /// Adds to a counter.
    pub(super) fn merge(&mut self, key: &[u8], value: &[u8]) {
        self.batch.merge_cf(self.metadata.family(Family::Default), key, value);
    }

    pub(super) fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.metadata.family(family), key);
    }
}

/// The rows of one referrer: the one that holds it first, then those that only order it.
fn referrer_keys(
    repository: RepositoryId,
    subject: &Digest,
    sequence: u64,
    record: &ReferrerRecord,
) -> [Option<Vec<u8>>; 4] {
    let artifact_type = record.descriptor.artifact_type.as_deref();
    let key = |order, artifact_type| {
        key::referrer(subject, repository, order, artifact_type, record.created, sequence)
    };
    let by_type = |order| artifact_type.map(|artifact_type| key(order, Some(artifact_type)));
    [
        Some(key(ReferrerOrder::Insertion, None)),
        by_type(ReferrerOrder::Insertion),
        Some(key(ReferrerOrder::Created, None)),
        by_type(ReferrerOrder::Created),
    ]
}
