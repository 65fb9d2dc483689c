//! One way through the graph for many questions, which would cost more to begin than to ask.

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use crate::digest::Digest;
use crate::error::Result;
use crate::metadata::Metadata;
use crate::metadata::key::{self, Kind, RepositoryId};
use crate::metadata::schema::Family;
use crate::metadata::view::{Visit, digest_in, id_in, malformed, pass, within_one_digest};

/// The graph as it is at the first question.
pub(crate) struct GraphCursor<'a> {
    metadata: &'a Metadata,
    iterator: Option<DBRawIteratorWithThreadMode<'a, DB>>,
}

impl Metadata {
    /// Answers many questions on the graph, all as of the first. The caller sees to it that what he asks for does not change
    /// meanwhile.
    pub(crate) fn graph_cursor(&self) -> GraphCursor<'_> {
        GraphCursor { metadata: self, iterator: None }
    }
}

impl GraphCursor<'_> {
    /// Who holds a content, as `View::holders` says it.
    pub(crate) fn holders(
        &mut self,
        digest: &Digest,
        mut visit: impl FnMut(RepositoryId, Kind) -> Visit,
    ) -> Result<()> {
        let prefix = key::holders(digest);
        self.scan(&prefix, |key, _| {
            let kind = key.last().copied().and_then(Kind::from_code).ok_or_else(|| malformed(key))?;
            visit(id_in(key, prefix.len())?, kind)
        })
    }

    /// The manifests of a repository that refer to a content, as `View::parents` says it.
    pub(crate) fn parents(
        &mut self,
        repository: RepositoryId,
        child: &Digest,
        mut visit: impl FnMut(Digest, u8) -> Visit,
    ) -> Result<()> {
        let prefix = key::edges(child, repository);
        self.scan(&prefix, |key, value| {
            visit(digest_in(key, prefix.len())?, value.first().copied().unwrap_or_default())
        })
    }

    fn scan(&mut self, prefix: &[u8], visit: impl FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        debug_assert!(prefix.len() >= key::GRAPH_PREFIX, "one prefix serves every scan of the graph");
        let metadata = self.metadata;
        let iterator = self.iterator.get_or_insert_with(|| {
            let mut options = ReadOptions::default();
            within_one_digest(&mut options);
            metadata.db.raw_iterator_cf_opt(metadata.family(Family::Graph), options)
        });
        pass(metadata, iterator, prefix, None, visit)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::ops::ControlFlow;

    use super::*;

    fn noted<T>(to: &mut Vec<T>, row: T) -> Visit {
        to.push(row);
        Ok(ControlFlow::Continue(()))
    }

    #[test]
    fn it_answers_as_a_view_does_until_it_was_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("m")).unwrap();
        let digests: Vec<Digest> = (0..50_u32).map(|n| Digest::of(&n.to_be_bytes())).collect();
        let mut rows = metadata.rows();
        for (n, digest) in (0..).zip(&digests).filter(|(n, _)| n % 3 != 0) {
            rows.put_member(RepositoryId(n % 5), digest, None);
            rows.put_edge(RepositoryId(n % 4), digest, &Digest::of(b"parent"), 1);
        }
        rows.count().unwrap().commit(false).unwrap();
        let mut cursor = metadata.graph_cursor();
        let view = metadata.view();
        let mut found = 0;
        // Forwards and backwards.
        for digest in digests.iter().chain(digests.iter().rev()) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            cursor.holders(digest, |id, kind| noted(&mut ours, (id, kind))).unwrap();
            view.holders(digest, |id, kind| noted(&mut theirs, (id, kind))).unwrap();
            assert_eq!(ours, theirs);
            found += ours.len();
            for id in (0..4).map(RepositoryId) {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                cursor.parents(id, digest, |by, roles| noted(&mut ours, (by, roles))).unwrap();
                view.parents(id, digest, None, |by, roles| noted(&mut theirs, (by, roles))).unwrap();
                assert_eq!(ours, theirs);
            }
        }
        assert_eq!(found, 66);
    }
}
