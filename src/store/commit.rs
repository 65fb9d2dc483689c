//! From a batch to rows and names: the order that makes it durable and atomic.
//!
//! 1. Content that looks new is written to private files or gets room in the journal, and the files are synced.
//! 2. Locks are taken and everything is looked at again; the whole batch is checked and turned into rows. Up to here an
//!    error has changed nothing.
//! 3. Files get their names and their directories are synced: names that no row knows are harmless.
//! 4. The rows are written with one sync of the log, the last call before the acknowledgement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::Core;
use super::batch::{Committed, Item, Parts};
use super::journal::Reservation;
use super::locks::{Held, Need};
use super::observe::{self, Start, Work};
use super::plan::{Plan, Planned};
use super::quota::Terms;
use crate::blobs::Staged;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, RepositoryId, View};
use crate::oci::RepositoryName;

/// Where a verified content of a batch waits.
#[derive(Debug)]
pub(super) enum Source {
    /// In memory; the journal takes it if it has room.
    Inline(Bytes),
    /// In a private file.
    Staged { staged: Staged, size: u64 },
    /// Under its name already, put there by another tool and synced.
    InPlace { size: u64, unverified: bool },
}

impl Source {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Staged { size, .. } | Self::InPlace { size, .. } => *size,
        }
    }
}

/// What one commit holds while it is applied.
type AllHeld<'a> = (Option<MutexGuard<'a, ()>>, [Held<'a>; 3]);

type Sources = BTreeMap<Digest, Source>;

/// Contents of a batch that the store does not have whole.
pub(super) type New = BTreeMap<Digest, Row>;

/// What the metadata have of a content that has to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Row {
    None,
    /// It is damaged, not verified yet, or its file is not what the row says.
    Unlike,
}

/// What a batch finds: a guess before its locks are held, the truth under them.
#[derive(Clone, Debug, Default)]
struct Survey {
    new: New,
    /// Digests that are there and come to be held by one repository more, or fewer: what else holds them is counted, so nobody
    /// else may change that meanwhile.
    moving: BTreeSet<Digest>,
}

impl Item {
    /// The repository that comes to hold something, and how.
    pub(super) fn joins(&self) -> Option<(&RepositoryName, Kind, &Digest)> {
        match self {
            Self::Hold { repository, digest } | Self::Mount { repository, digest, .. } => {
                Some((repository, Kind::Blob, digest))
            }
            Self::Manifest(new) => Some((&new.repository, Kind::Manifest, &new.digest)),
            Self::Tag { .. }
            | Self::Remove { .. }
            | Self::Foreign { .. }
            | Self::Extra { .. }
            | Self::Lease { .. }
            | Self::EndUpload { .. } => None,
        }
    }

    /// What a repository no longer holds.
    pub(super) fn leaves(&self) -> Option<Digest> {
        match self {
            Self::Remove { digest, .. } => Some(*digest),
            _ => None,
        }
    }
}

impl Survey {
    /// Whether this has all that another one found.
    fn covers(&self, other: &Self) -> bool {
        other.new.keys().all(|digest| self.new.contains_key(digest))
            && other.moving.iter().all(|digest| self.is_exclusive(digest))
    }

    fn extend(&mut self, other: Self) {
        self.new.extend(other.new);
        self.moving.extend(other.moving);
    }

    fn is_exclusive(&self, digest: &Digest) -> bool {
        self.new.contains_key(digest) || self.moving.contains(digest)
    }
}

impl Core {
    pub(super) fn commit(&self, parts: Parts) -> Result<Committed> {
        let (_span, start) = (observe::enter(Work::Commit, &self.root), Start::now());
        let outcome = self.commit_parts(parts);
        self.meters.committed(start, outcome.is_ok());
        outcome
    }

    fn commit_parts(&self, parts: Parts) -> Result<Committed> {
        self.check_writable()?;
        let Parts { items, mut sources, refused, reservations, unlimited } = parts;
        if let Some(refused) = refused {
            return Err(refused);
        }
        // A guess without locks: what is new has to be prepared before they are taken.
        let mut seen = self.metadata.next_sequence();
        let mut truth = self.survey(&items, &sources)?;
        let mut prepared = truth.clone();
        loop {
            let reservation = self.prepare(&mut sources, &prepared.new)?;
            let waiting = Start::now();
            let held = self.lock_for(&items, &sources, &prepared)?;
            self.meters.lock_time.since(waiting);
            let now = self.metadata.next_sequence();
            // If nothing was written since the guess, it is the truth under the locks.
            if now != seen {
                truth = self.survey(&items, &sources)?;
                if !prepared.covers(&truth) {
                    // What is new was not prepared, or its stripe is held shared only. The sets grow in each round.
                    seen = now;
                    prepared.extend(truth.clone());
                    continue;
                }
            }
            let terms = Terms { reservations, unlimited };
            return self.apply(items, sources, &truth.new, reservation, held, terms);
        }
    }

    /// Whether the store has this content, whole: the row is there, not damaged, and the bytes are journalled or the
    /// file has the right size. Anything else is written anew.
    pub(super) fn is_hit(&self, view: &View<'_>, digest: &Digest) -> Result<bool> {
        Ok(self.row_to_write(view, digest)?.is_none())
    }

    /// Nothing for a hit; otherwise what the metadata have.
    fn row_to_write(&self, view: &View<'_>, digest: &Digest) -> Result<Option<Row>> {
        let Some(record) = view.content(digest)? else { return Ok(Some(Row::None)) };
        if record.damaged || record.unverified {
            return Ok(Some(Row::Unlike));
        }
        if !self.journal.is_empty() && view.journal_id(digest)?.is_some() {
            return Ok(None);
        }
        match self.blobs.stat_size(digest) {
            Ok(size) => Ok((size != Some(record.size)).then_some(Row::Unlike)),
            // Something else than a file has its name: naming the pushed content will tell, or heal it.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(Row::Unlike)),
            Err(error) => Err(error),
        }
    }

    fn survey(&self, items: &[Item], sources: &Sources) -> Result<Survey> {
        let view = self.metadata.view();
        let mut found = Survey::default();
        for digest in sources.keys() {
            if let Some(row) = self.row_to_write(&view, digest)? {
                found.new.insert(*digest, row);
            }
        }
        let mut ids: HashMap<&RepositoryName, Option<RepositoryId>> = HashMap::new();
        for (repository, kind, digest) in items.iter().filter_map(Item::joins) {
            if found.is_exclusive(digest) {
                continue;
            }
            let id = match ids.get(repository) {
                Some(id) => *id,
                None => *ids.entry(repository).or_insert(view.repository(repository.as_str())?),
            };
            let is_member = match id {
                Some(id) => view.is_member(id, kind, digest)?,
                None => false,
            };
            if !is_member {
                found.moving.insert(*digest);
            }
        }
        found.moving.extend(items.iter().filter_map(Item::leaves));
        Ok(found)
    }

    /// Gives new content a durable place without a name: room in the journal, or a synced private file.
    fn prepare(&self, sources: &mut Sources, new: &New) -> Result<Option<Reservation<'_>>> {
        let inline = |source: &Source| matches!(source, Source::Inline(_));
        let small = || new.keys().filter(|digest| sources.get(*digest).is_some_and(inline));
        let rows = small().count() as u64;
        let bytes = small().filter_map(|digest| sources.get(digest)).map(Source::size).sum();
        let in_place = |digest: &Digest| matches!(sources.get(digest), Some(Source::InPlace { .. }));
        // A view that only reads writes nothing there.
        if !new.keys().all(in_place) && self.blobs.ingest_dir().is_ok() {
            self.check_room(rows, bytes)?;
        }
        let reservation = if rows == 0 { None } else { self.journal.reserve(rows, bytes) };
        if rows > 0 && reservation.is_none() {
            self.signals.press();
            self.stage_inline(sources, new)?;
        }
        if self.durable() {
            let staged: Vec<&Staged> = new
                .keys()
                .filter_map(|digest| match sources.get(digest) {
                    Some(Source::Staged { staged, .. }) => Some(staged),
                    _ => None,
                })
                .collect();
            self.blobs.sync_staged(&staged).map_err(|error| self.poison(error))?;
        }
        Ok(reservation)
    }

    /// The journal is full: small content is written to private files like the large.
    fn stage_inline(&self, sources: &mut Sources, new: &New) -> Result<()> {
        let mut small = Vec::new();
        for (digest, source) in sources.iter().filter(|(digest, _)| new.contains_key(digest)) {
            if let Source::Inline(bytes) = source {
                small.push((*digest, bytes.clone()));
            }
        }
        for staged in self.blobs.stage_all(small)? {
            let digest = *staged.digest();
            if let Some(source) = sources.get_mut(&digest) {
                let size = source.size();
                *source = Source::Staged { staged, size };
            }
        }
        Ok(())
    }

    fn lock_for(&self, items: &[Item], sources: &Sources, found: &Survey) -> Result<AllHeld<'_>> {
        let involved: BTreeSet<&str> = items.iter().flat_map(Item::repositories).map(AsRef::as_ref).collect();
        // What is removed must not be tagged or listed meanwhile, by whatever name, so removals have a repository for
        // themselves.
        let emptied: BTreeSet<&str> = items.iter().filter_map(Item::removes_from).collect();
        let need = |name: &str| if emptied.contains(name) { Need::Exclusive } else { Need::Shared };
        let repositories = self.locks.repositories(involved.iter().map(|name| (*name, need(name))));
        // Until it is gone nothing may settle what is remembered for that.
        let settling = (!emptied.is_empty()).then(|| self.settling.lock());
        let mut names: Vec<(&str, String)> = items.iter().filter_map(Item::name).collect();
        let view = self.metadata.view();
        for name in involved {
            // Two batches that create one repository must agree on its id.
            if view.repository(name)?.is_none() {
                names.push((name, String::new()));
            }
        }
        let names = self.locks.names(names.into_iter());
        let need = |digest: &Digest| if found.is_exclusive(digest) { Need::Exclusive } else { Need::Shared };
        let content = sources
            .keys()
            .chain(items.iter().flat_map(Item::needs))
            .chain(&found.moving)
            .map(|digest| (digest, need(digest)));
        Ok((settling, [repositories, names, self.locks.content(content)]))
    }

    fn apply(
        &self,
        items: Vec<Item>,
        sources: Sources,
        new: &New,
        reservation: Option<Reservation<'_>>,
        _held: AllHeld<'_>,
        terms: Terms,
    ) -> Result<Committed> {
        self.touch_all(sources.keys(), &items);
        let mut plan = Plan::new(self, &sources, new);
        plan.add_all(items)?;
        let Planned { rows, committed, view_changed, sparse, changes } = plan.finish();
        let mut rows = rows.count()?;
        let limit = self.options.limits.max_batch_rows;
        if rows.len() > limit && !terms.unlimited {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("batch makes too many rows of metadata, rows={}, limit={limit}", rows.len()),
            ));
        }
        // Before anything has its name or is in the journal.
        self.check_log_room(&rows)?;
        let admitted = self.quotas.admit(rows.changes(), terms)?;
        let journalled = |digest: &&Digest| matches!(sources.get(*digest), Some(Source::Inline(_)));
        let journal_rows = new.keys().filter(journalled).count() as u64;
        let journal_bytes =
            new.keys().filter(journalled).filter_map(|digest| sources.get(digest)).map(Source::size).sum();
        let bytes = new.keys().filter_map(|digest| sources.get(digest)).map(Source::size).sum();
        let hits = sources.len().saturating_sub(new.len()) as u64;
        self.name_content(sources, new)?;
        let ticket = self.record(&mut rows, changes);
        self.write_counted(rows, self.durable(), admitted)?;
        drop(ticket);
        if let Some(reservation) = reservation {
            reservation.keep(journal_rows, journal_bytes);
        }
        self.meters.stored(new.len() as u64, bytes, hits);
        self.meters.journal(self.journal.used());
        if sparse {
            self.sparse.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        self.signals.committed(view_changed, self.journal.is_pressing());
        self.prune_if_due();
        Ok(committed)
    }

    fn name_content(&self, sources: Sources, new: &New) -> Result<()> {
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for (digest, source) in sources {
            if let Source::Staged { staged, .. } = source
                && new.contains_key(&digest)
            {
                if !algorithms.contains(&digest.algorithm()) {
                    algorithms.push(digest.algorithm());
                }
                self.name(staged)?;
            }
        }
        if self.durable() {
            self.blobs.sync_dirs(&algorithms).map_err(|error| self.poison(error))?;
        }
        Ok(())
    }
}
