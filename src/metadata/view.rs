//! Reading: single rows, and scans that stop when their reader has enough.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, DBRawIteratorWithThreadMode, ReadOptions, ReadTier, Snapshot};

use super::Metadata;
use super::key::{self, Kind, ReferrerOrder, RepositoryId, tag_byte};
use super::record::{ContentRecord, ManifestRecord, ReferrerRecord, TagRecord, split_journal};
use super::schema::{Family, MARK};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fault::{self, Call};

/// Committed rows, live or of one moment.
pub(crate) struct View<'a> {
    metadata: &'a Metadata,
    snapshot: Option<Snapshot<'a>>,
    /// Rows that are not in memory are waited for.
    waits: bool,
}

/// Which referrers of a subject to visit, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferrerScan<'a> {
    pub(crate) repository: RepositoryId,
    pub(crate) subject: &'a Digest,
    pub(crate) order: ReferrerOrder,
    pub(crate) artifact_type: Option<&'a str>,
    /// Visit only what comes after this position, as a visit gave it.
    pub(crate) after: Option<&'a [u8]>,
}

/// A row of the graph.
#[derive(Debug)]
pub(crate) enum GraphRow {
    Holder {
        digest: Digest,
        id: RepositoryId,
        kind: Kind,
    },
    Edge {
        child: Digest,
        id: RepositoryId,
        parent: Digest,
        roles: u8,
    },
    Referrer {
        subject: Digest,
        id: RepositoryId,
        record: Box<ReferrerRecord>,
    },
    /// One of the rows that only order a referrer.
    ReferrerOrder {
        subject: Digest,
        id: RepositoryId,
        sequence: u64,
    },
}

/// What a visitor answers: go on, or stop with this.
pub(super) type Visit<T = ()> = Result<ControlFlow<T>>;

impl<'a> View<'a> {
    pub(super) fn live(metadata: &'a Metadata) -> Self {
        Self { metadata, snapshot: None, waits: true }
    }

    pub(super) fn of_snapshot(metadata: &'a Metadata) -> Self {
        Self { metadata, snapshot: Some(metadata.db.snapshot()), waits: true }
    }

    /// The same view, which fails with `WouldBlock` where a disk would be waited for.
    pub(crate) fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// Whether whoever reads by this view may wait for a disk.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    // Content.

    pub(crate) fn content(&self, digest: &Digest) -> Result<Option<ContentRecord>> {
        self.get(Family::Content, &key::digest(digest))?.map(|row| ContentRecord::decode(&row)).transpose()
    }

    /// Every content row, in key order.
    pub(crate) fn contents(&self, visit: impl FnMut(Digest, ContentRecord) -> Visit) -> Result<()> {
        self.contents_after(None, visit)
    }

    /// The content rows behind one, in key order.
    pub(crate) fn contents_after(
        &self,
        after: Option<&Digest>,
        mut visit: impl FnMut(Digest, ContentRecord) -> Visit,
    ) -> Result<()> {
        let after = after.map_or_else(|| MARK.to_vec(), key::digest);
        self.scan(Family::Content, &[], Some(&after), |key, value| {
            visit(digest_in(key, 0)?, ContentRecord::decode(value)?)
        })
    }

    /// The journalled bytes of a content, and the id of their row.
    pub(crate) fn journal(&self, digest: &Digest) -> Result<Option<(u64, Bytes)>> {
        let Some(row) = self.get(Family::Journal, &key::digest(digest))? else { return Ok(None) };
        let (id, content) = split_journal(&row)?;
        Ok(Some((id, Bytes::copy_from_slice(content))))
    }

    /// The id of a journal row alone.
    pub(crate) fn journal_id(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(row) = self.get(Family::Journal, &key::digest(digest))? else { return Ok(None) };
        Ok(Some(split_journal(&row)?.0))
    }

    /// The size of a content that is journalled.
    pub(super) fn journalled(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(row) = self.get(Family::Journal, &key::digest(digest))? else { return Ok(None) };
        Ok(Some(split_journal(&row)?.1.len() as u64))
    }

    pub(crate) fn journal_rows(&self, mut visit: impl FnMut(Digest, u64, &[u8]) -> Visit) -> Result<()> {
        self.scan(Family::Journal, &[], Some(MARK), |key, value| {
            let (id, content) = split_journal(value)?;
            visit(digest_in(key, 0)?, id, content)
        })
    }

    // Repositories and membership.

    pub(crate) fn repository(&self, name: &str) -> Result<Option<RepositoryId>> {
        self.get(Family::Default, &key::repository_by_name(name))?.map(|row| id_in(&row, 0)).transpose()
    }

    pub(crate) fn repository_name(&self, id: RepositoryId) -> Result<Option<String>> {
        self.get(Family::Default, &key::repository_by_id(id))?
            .map(|row| text(&row).map(str::to_owned))
            .transpose()
    }

    /// Repositories in byte order of their names.
    pub(crate) fn repositories(
        &self,
        after: Option<&str>,
        mut visit: impl FnMut(&str, RepositoryId) -> Visit,
    ) -> Result<()> {
        let after = after.map(key::repository_by_name);
        self.scan(Family::Default, &[tag_byte::REPOSITORY_BY_NAME], after.as_deref(), |key, value| {
            visit(text(rest(key, 1)?)?, id_in(value, 0)?)
        })
    }

    /// The highest id that a repository of this store has, deleted ones with rows left among them.
    pub(crate) fn last_repository(&self) -> Result<RepositoryId> {
        let mut last = RepositoryId(0);
        for tag in [tag_byte::REPOSITORY_BY_ID, tag_byte::DELETED] {
            if let Some(id) = self.last_row(tag, |key, _| id_in(key, 1))? {
                last = last.max(id);
            }
        }
        Ok(last)
    }

    /// Repositories that are deleted and whose rows are not all gone yet.
    pub(crate) fn deleted(&self, mut visit: impl FnMut(RepositoryId) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::DELETED], None, |key, value| {
            if value.is_empty() { visit(id_in(key, 1)?) } else { Ok(ControlFlow::Continue(())) }
        })
    }

    pub(crate) fn is_member(&self, repository: RepositoryId, kind: Kind, digest: &Digest) -> Result<bool> {
        Ok(self.get(Family::Members, &key::member(repository, kind, digest))?.is_some())
    }

    /// Whether the repository holds the digest at all.
    pub(crate) fn holds(&self, repository: RepositoryId, digest: &Digest) -> Result<bool> {
        Ok(self.is_member(repository, Kind::Blob, digest)?
            || self.is_member(repository, Kind::Manifest, digest)?)
    }

    pub(crate) fn manifest(
        &self,
        repository: RepositoryId,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>> {
        self.get(Family::Members, &key::member(repository, Kind::Manifest, digest))?
            .map(|row| ManifestRecord::decode(&row))
            .transpose()
    }

    pub(crate) fn manifests(
        &self,
        repository: RepositoryId,
        after: Option<&Digest>,
        mut visit: impl FnMut(Digest, ManifestRecord) -> Visit,
    ) -> Result<()> {
        let prefix = key::members(repository, Kind::Manifest);
        let after = after.map(|digest| key::member(repository, Kind::Manifest, digest));
        self.scan(Family::Members, &prefix, after.as_deref(), |key, value| {
            visit(digest_in(key, prefix.len())?, ManifestRecord::decode(value)?)
        })
    }

    /// What the repository holds as blobs.
    pub(crate) fn blobs(
        &self,
        repository: RepositoryId,
        after: Option<&Digest>,
        mut visit: impl FnMut(Digest) -> Visit,
    ) -> Result<()> {
        let prefix = key::members(repository, Kind::Blob);
        let after = after.map(|digest| key::member(repository, Kind::Blob, digest));
        self.scan(Family::Members, &prefix, after.as_deref(), |key, _| visit(digest_in(key, prefix.len())?))
    }

    pub(crate) fn holders(
        &self,
        digest: &Digest,
        mut visit: impl FnMut(RepositoryId, Kind) -> Visit,
    ) -> Result<()> {
        let prefix = key::holders(digest);
        self.scan(Family::Graph, &prefix, None, |key, _| visit(id_in(key, prefix.len())?, kind_of(key)?))
    }

    // Tags.

    pub(crate) fn tag(&self, repository: RepositoryId, tag: &str) -> Result<Option<Digest>> {
        let row = self.get(Family::Default, &key::tag(repository, tag))?;
        row.map(|row| TagRecord::decode(&row).map(|record| record.target)).transpose()
    }

    /// What a tag names, by the name of its repository.
    pub(crate) fn tag_in(&self, repository: &str, tag: &str) -> Result<Option<Digest>> {
        match self.repository(repository)? {
            Some(id) => self.tag(id, tag),
            None => Ok(None),
        }
    }

    /// Tags in byte order, those after `after`, which need not exist.
    pub(crate) fn tags(
        &self,
        repository: RepositoryId,
        after: Option<&str>,
        mut visit: impl FnMut(&str, Digest) -> Visit,
    ) -> Result<()> {
        self.tag_records(repository, after, |tag, record| visit(tag, record.target))
    }

    /// [`View::tags`] with the time of their last change.
    pub(crate) fn tag_records(
        &self,
        repository: RepositoryId,
        after: Option<&str>,
        mut visit: impl FnMut(&str, TagRecord) -> Visit,
    ) -> Result<()> {
        let prefix = key::tag(repository, "");
        let after = after.map(|after| key::tag(repository, after));
        self.scan(Family::Default, &prefix, after.as_deref(), |key, value| {
            visit(text(rest(key, prefix.len())?)?, TagRecord::decode(value)?)
        })
    }

    pub(crate) fn tags_of(
        &self,
        repository: RepositoryId,
        target: &Digest,
        mut visit: impl FnMut(&str) -> Visit,
    ) -> Result<()> {
        let prefix = key::tag_by_target(repository, target, "");
        self.scan(Family::Default, &prefix, None, |key, _| visit(text(rest(key, prefix.len())?)?))
    }

    // The graph.

    pub(crate) fn parents(
        &self,
        repository: RepositoryId,
        child: &Digest,
        after: Option<&Digest>,
        mut visit: impl FnMut(Digest, u8) -> Visit,
    ) -> Result<()> {
        let prefix = key::edges(child, repository);
        let after = after.map(|parent| key::edge(child, repository, parent));
        self.scan(Family::Graph, &prefix, after.as_deref(), |key, value| {
            visit(digest_in(key, prefix.len())?, value.first().copied().unwrap_or_default())
        })
    }

    /// The roles that one child has in one parent.
    pub(crate) fn edge(
        &self,
        repository: RepositoryId,
        child: &Digest,
        parent: &Digest,
    ) -> Result<Option<u8>> {
        let row = self.get(Family::Graph, &key::edge(child, repository, parent))?;
        Ok(row.map(|row| row.first().copied().unwrap_or_default()))
    }

    /// Whether a manifest of any repository refers to a digest, held or not.
    pub(crate) fn is_referred_to(&self, digest: &Digest) -> Result<bool> {
        let mut found = false;
        self.scan(Family::Graph, &key::edges_anywhere(digest), None, |_, _| {
            found = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Visits referrers with their positions. Orders other than insertion cost one more look-up each.
    pub(crate) fn referrers(
        &self,
        scan: &ReferrerScan<'_>,
        mut visit: impl FnMut(&[u8], ReferrerRecord) -> Visit,
    ) -> Result<()> {
        let ReferrerScan { repository, subject, order, artifact_type, after } = *scan;
        let prefix = key::referrers(subject, repository, order, artifact_type);
        let after = after.map(|position| [prefix.as_slice(), position].concat());
        let direct = order == ReferrerOrder::Insertion && artifact_type.is_none();
        self.scan(Family::Graph, &prefix, after.as_deref(), |key, value| {
            let record = if direct {
                ReferrerRecord::decode(value)?
            } else {
                let sequence = key::sequence_of(key).ok_or_else(|| malformed(key))?;
                match self.referrer(repository, subject, sequence)? {
                    Some(record) => record,
                    // Removed since this scan began.
                    None => return Ok(ControlFlow::Continue(())),
                }
            };
            if artifact_type.is_some() && record.descriptor.artifact_type.as_deref() != artifact_type {
                return Ok(ControlFlow::Continue(()));
            }
            visit(rest(key, prefix.len())?, record)
        })
    }

    pub(crate) fn referrer(
        &self,
        repository: RepositoryId,
        subject: &Digest,
        sequence: u64,
    ) -> Result<Option<ReferrerRecord>> {
        let key = key::referrer(subject, repository, ReferrerOrder::Insertion, None, None, sequence);
        self.get(Family::Graph, &key)?.map(|row| ReferrerRecord::decode(&row)).transpose()
    }

    /// Every row of the graph, in key order, as far as it can be understood; for comparing it with what it was made from.
    pub(crate) fn graph(&self, mut visit: impl FnMut(GraphRow) -> Visit) -> Result<()> {
        self.scan(Family::Graph, &[], Some(MARK), |key, value| {
            let tag = key.first().copied().unwrap_or_default();
            if tag == tag_byte::LEASED {
                return Ok(ControlFlow::Continue(()));
            }
            let (about, id) = key::about_of(key).ok_or_else(|| malformed(key))?;
            let row = match tag {
                tag_byte::HOLDER => GraphRow::Holder { digest: about, id, kind: kind_of(key)? },
                tag_byte::EDGE => {
                    let parent = digest_in(key, key::edges(&about, id).len())?;
                    GraphRow::Edge {
                        child: about,
                        id,
                        parent,
                        roles: value.first().copied().unwrap_or_default(),
                    }
                }
                tag_byte::REFERRER => {
                    let record = Box::new(ReferrerRecord::decode(value)?);
                    GraphRow::Referrer { subject: about, id, record }
                }
                _ => {
                    let sequence = key::sequence_of(key).ok_or_else(|| malformed(key))?;
                    GraphRow::ReferrerOrder { subject: about, id, sequence }
                }
            };
            visit(row)
        })
    }

    /// Every row of who holds what, in order of digests, of repositories and of kinds.
    pub(super) fn all_holders(
        &self,
        mut visit: impl FnMut(Digest, RepositoryId, Kind) -> Visit,
    ) -> Result<()> {
        self.scan(Family::Graph, &[tag_byte::HOLDER], None, |key, _| {
            let (digest, id) = key::about_of(key).ok_or_else(|| malformed(key))?;
            visit(digest, id, kind_of(key)?)
        })
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        let handle = self.metadata.family(family);
        let mut options = ReadOptions::default();
        self.limit(&mut options)?;
        let row = match &self.snapshot {
            None => self.metadata.db.get_pinned_cf_opt(handle, key, &options),
            Some(snapshot) => snapshot.get_pinned_cf_opt(handle, key, options),
        };
        row.map_err(|error| self.metadata.met("read the metadata", error))
    }

    /// Visits the rows that start with `prefix` and come after `after`, in key order.
    pub(super) fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: impl FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<()> {
        let mut options = ReadOptions::default();
        if family == Family::Graph && prefix.len() >= key::GRAPH_PREFIX {
            within_one_digest(&mut options);
        } else {
            options.set_total_order_seek(true);
            // Without it the engine passes over all removed rows behind the prefix before it says that there are no more.
            if let Some(end) = key::behind(prefix) {
                options.set_iterate_upper_bound(end);
            }
        }
        let mut iterator = self.iterator(family, options)?;
        pass(self.metadata, &mut iterator, prefix, after, visit)
    }

    /// The last row of the default family whose key begins with this byte.
    pub(super) fn last_row<T>(
        &self,
        tag: u8,
        read: impl FnOnce(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut iterator = self.iterator(Family::Default, ReadOptions::default())?;
        iterator.seek_for_prev([tag + 1]);
        let found = match iterator.item() {
            Some((key, value)) if key.first() == Some(&tag) => Some(read(key, value)?),
            _ => None,
        };
        iterator.status().map_err(|error| self.metadata.met("read the metadata", error))?;
        Ok(found)
    }

    fn iterator(
        &self,
        family: Family,
        mut options: ReadOptions,
    ) -> Result<DBRawIteratorWithThreadMode<'_, DB>> {
        let handle = self.metadata.family(family);
        self.limit(&mut options)?;
        Ok(match &self.snapshot {
            None => self.metadata.db.raw_iterator_cf_opt(handle, options),
            Some(snapshot) => snapshot.raw_iterator_cf_opt(handle, options),
        })
    }

    /// Keeps a read to what is in memory, if it may not wait.
    fn limit(&self, options: &mut ReadOptions) -> Result<()> {
        if self.waits {
            return Ok(());
        }
        options.set_read_tier(ReadTier::BlockCache);
        if fault::left_out(Call::ReadyRows, &self.metadata.path) {
            return Err(Error::new(ErrorKind::WouldBlock, "cannot read the metadata from memory"));
        }
        Ok(())
    }
}

/// The filters of tables and memory answer for the digest; where rows of it end, the keys tell.
pub(super) fn within_one_digest(options: &mut ReadOptions) {
    options.set_prefix_same_as_start(true);
    options.set_auto_readahead_size(false);
}

/// Visits what an iterator finds of the rows that start with `prefix` and come after `after`.
pub(super) fn pass(
    metadata: &Metadata,
    iterator: &mut DBRawIteratorWithThreadMode<'_, DB>,
    prefix: &[u8],
    after: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Visit,
) -> Result<()> {
    iterator.seek(after.unwrap_or(prefix));
    if let Some(after) = after
        && iterator.key() == Some(after)
    {
        iterator.next();
    }
    while let Some((key, value)) = iterator.item() {
        if !key.starts_with(prefix) || visit(key, value)?.is_break() {
            return Ok(());
        }
        iterator.next();
    }
    iterator.status().map_err(|error| metadata.met("read the metadata", error))
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("snapshot", &self.snapshot.is_some()).finish_non_exhaustive()
    }
}

pub(super) fn malformed(key: &[u8]) -> Error {
    Error::corrupt(format!("metadata holds a malformed key, key={}", key.escape_ascii()))
}

fn kind_of(key: &[u8]) -> Result<Kind> {
    key.last().copied().and_then(Kind::from_code).ok_or_else(|| malformed(key))
}

pub(super) fn rest(key: &[u8], at: usize) -> Result<&[u8]> {
    key.get(at..).ok_or_else(|| malformed(key))
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed(bytes))
}

pub(super) fn digest_in(key: &[u8], at: usize) -> Result<Digest> {
    Digest::from_key(rest(key, at)?).map(|(digest, _)| digest).ok_or_else(|| malformed(key))
}

pub(super) fn id_in(key: &[u8], at: usize) -> Result<RepositoryId> {
    rest(key, at)?
        .first_chunk::<4>()
        .map(|bytes| RepositoryId(u32::from_be_bytes(*bytes)))
        .ok_or_else(|| malformed(key))
}
