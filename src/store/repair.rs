//! Repairing: what is damaged or missing is brought again from another store or layout that has it.

use std::io::Read;
use std::ops::ControlFlow;

use super::repositories::stored_name;
use super::{Store, until};
use crate::blobs::{Expected, Sharing};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{ContentRecord, RepositoryId};
use crate::oci::{RepositoryName, Role, media_type};

/// Contents looked at between two looks at the metadata.
const PAGE: usize = 1000;

/// What a repair did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RepairReport {
    /// Contents that were damaged and are whole again.
    pub healed: Vec<Digest>,
    /// Contents that a manifest refers to, that its repository lacked and holds now.
    pub brought: Vec<Digest>,
    /// Bytes that were brought for both.
    pub bytes: u64,
    /// Contents that are still damaged or lacking: the source does not have them whole.
    pub lacking: Vec<Digest>,
}

type Watch<'a> = Box<dyn FnMut(&Digest) -> ControlFlow<()> + 'a>;

/// Gives the bytes of a content, if it has them.
type Fetch<'a> = Box<dyn FnMut(&Digest) -> Result<Option<Box<dyn Read + Send + 'a>>> + 'a>;

/// Where content is taken from.
enum Origin<'a> {
    Store(&'a Store),
    Other(Fetch<'a>),
}

/// A repair, made by [`Store::repair_from`] or [`Store::repair_with`].
#[must_use = "a repair is run by `run`"]
pub struct Repair<'a> {
    store: &'a Store,
    source: Origin<'a>,
    sharing: Sharing,
    watch: Option<Watch<'a>>,
}

impl Store {
    /// Brings again what is damaged or missing here and whole in another store or layout, such as a read-only view of one.
    ///
    /// Content counts as damaged when a verification or a read found it so, when its file is missing, and when that has
    /// another size: run [`Store::verify`] with `read_data` before to find what only its hash tells. Content that a
    /// manifest refers to and its repository lacks is brought too; manifests that an index lists are not, since a copy
    /// may leave them out on purpose.
    pub fn repair_from<'a>(&'a self, source: &'a Self) -> Repair<'a> {
        Repair { store: self, source: Origin::Store(source), sharing: Sharing::default(), watch: None }
    }

    /// [`Store::repair_from`], from anything that can give the bytes of content: an archive, a registry. `fetch` is asked for
    /// what is damaged or missing, and answers None where it has none; what it gives is hashed.
    pub fn repair_with<'a>(
        &'a self,
        fetch: impl FnMut(&Digest) -> Result<Option<Box<dyn Read + Send + 'a>>> + 'a,
    ) -> Repair<'a> {
        let source = Origin::Other(Box::new(fetch));
        Repair { store: self, source, sharing: Sharing::default(), watch: None }
    }
}

impl<'a> Repair<'a> {
    /// Whether content shares its blocks with the source where it can. [`Sharing::Link`] by default.
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Has `watch` told of each content before it is brought, and again while it comes. If it breaks, the repair ends with `Interrupted`; what was brought
    /// stays.
    pub fn watch(mut self, watch: impl FnMut(&Digest) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// `Interrupted`; `ReadOnly`, `Poisoned`, `NoSpace`, `Io`, `Corrupt` as of every write and read. That the source lacks
    /// something is no error.
    pub fn run(mut self) -> Result<RepairReport> {
        self.store.core().check_writable()?;
        let mut report = RepairReport::default();
        self.heal_all(&mut report)?;
        self.bring_all(&mut report)?;
        Ok(report)
    }

    fn heal_all(&mut self, report: &mut RepairReport) -> Result<()> {
        let core = self.store.core();
        let mut after: Option<Digest> = None;
        loop {
            let mut rows: Vec<(Digest, ContentRecord)> = Vec::with_capacity(PAGE);
            core.metadata.view().contents_after(after.as_ref(), |digest, record| {
                rows.push((digest, record));
                Ok(until(rows.len() == PAGE))
            })?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(*last);
            for (digest, record) in rows {
                if self.is_hurt(&digest, &record)? {
                    self.heal(&digest, report)?;
                }
            }
        }
    }

    fn is_hurt(&self, digest: &Digest, record: &ContentRecord) -> Result<bool> {
        let core = self.store.core();
        if record.damaged {
            return Ok(true);
        }
        if !core.journal.is_empty() && core.metadata.view().journal_id(digest)?.is_some() {
            return Ok(false);
        }
        match core.blobs.stat_size(digest) {
            Ok(size) => Ok(size != Some(record.size)),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn heal(&mut self, digest: &Digest, report: &mut RepairReport) -> Result<()> {
        let Some(content) = self.fetch(digest)? else {
            report.lacking.push(*digest);
            return Ok(());
        };
        report.bytes += content.size;
        let mut batch = self.store.batch();
        // Nobody comes to hold what he did not hold before.
        batch.add_content(content)?;
        batch.commit()?;
        report.healed.push(*digest);
        Ok(())
    }

    /// The content of the source, hashed; None when it has none or a damaged one.
    fn fetch(&mut self, digest: &Digest) -> Result<Option<crate::blobs::Content>> {
        if let Some(watch) = &mut self.watch
            && watch(digest).is_break()
        {
            return Err(Error::new(ErrorKind::Interrupted, "the repair was stopped by its caller"));
        }
        let (store, sharing, watch) = (self.store, self.sharing, &mut self.watch);
        let mut observe = |_| match watch {
            Some(watch) => watch(digest),
            None => ControlFlow::Continue(()),
        };
        let content = match &mut self.source {
            Origin::Store(source) => match source.unscoped().reader(digest) {
                Ok(None) => return Ok(None),
                Ok(Some(reader)) => store.ingest_from_observed(&reader, sharing, &mut observe),
                Err(error) => Err(error),
            },
            Origin::Other(fetch) => match fetch(digest)? {
                None => return Ok(None),
                Some(reader) => store.ingest_reader_observed(reader, &Expected::from(*digest), &mut observe),
            },
        };
        match content {
            Ok(content) => Ok(Some(content)),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Mismatch) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Completes manifests that refer to what their repository does not hold.
    fn bring_all(&mut self, report: &mut RepairReport) -> Result<()> {
        for (name, id) in self.repositories()? {
            for digest in self.sparse_manifests(id)? {
                self.complete(&name, &digest, report)?;
            }
        }
        Ok(())
    }

    fn repositories(&self) -> Result<Vec<(RepositoryName, RepositoryId)>> {
        let mut found = Vec::new();
        self.store.core().metadata.view().repositories(None, |name, id| {
            found.push((stored_name(name)?, id));
            Ok(until(false))
        })?;
        Ok(found)
    }

    fn sparse_manifests(&self, id: RepositoryId) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        self.store.core().metadata.view().manifests(id, None, |digest, record| {
            if record.sparse {
                found.push(digest);
            }
            Ok(until(false))
        })?;
        Ok(found)
    }

    fn complete(&mut self, name: &RepositoryName, digest: &Digest, report: &mut RepairReport) -> Result<()> {
        let repository = self.store.repository(name);
        let stored = match repository.manifest(digest) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut batch = self.store.batch();
        let mut brought = Vec::new();
        for child in stored.parse()?.successors() {
            let child_digest = child.descriptor.digest;
            let is_free = media_type::is_non_distributable(&child.descriptor.media_type)
                || !child.descriptor.urls.is_empty();
            if child.role == Role::Manifest || is_free || repository.stat(&child_digest)?.is_some() {
                continue;
            }
            match self.fetch(&child_digest)? {
                Some(content) => {
                    report.bytes += content.size;
                    batch.push(&repository, content)?;
                    brought.push(child_digest);
                }
                None => report.lacking.push(child_digest),
            }
        }
        if brought.is_empty() {
            return Ok(());
        }
        // Pushed again, it is looked at again: it may refer to nothing any more that is not there.
        let media_type = stored.descriptor.media_type.clone();
        batch.push_sparse_manifest(
            &repository,
            &media_type,
            stored.content.into_bytes(),
            digest.algorithm(),
        )?;
        batch.commit()?;
        report.brought.append(&mut brought);
        Ok(())
    }
}

impl std::fmt::Debug for Repair<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair").field("sharing", &self.sharing).finish_non_exhaustive()
    }
}
