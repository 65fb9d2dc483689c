//! From a batch to rows and names: the order that makes it durable and atomic.
//!
//! 1. Content that looks new is written to private files or gets room in the journal, and the files are synced.
//! 2. Locks are taken and everything is looked at again; the whole batch is checked and turned into rows. Up to here an
//!    error has changed nothing.
//! 3. Files get their names and their directories are synced: names that no row knows are harmless.
//! 4. The rows are written, and the locks given back.
//! 5. The log is synced, once for all who wait for it: the last call before the acknowledgement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::Core;
use super::batch::{Committed, Item, Parts};
use super::events::Ticket;
use super::journal::Reservation;
use super::locks::{Held, Need};
use super::observe::{self, Start, Work};
use super::plan::{Plan, Planned};
use super::quota::{Admitted, Terms};
use super::write::Unsynced;
use crate::blobs::Staged;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, RepositoryId, Rows, Usages, View};
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
    /// else may change that from there to the write.
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
    /// Whether what is new to another one is so to this.
    fn covers(&self, other: &Self) -> bool {
        other.new.keys().all(|digest| self.new.contains_key(digest))
    }
}

/// A batch that may be written.
struct Passed<'a> {
    /// None while it is not known for good what it changes of the counters.
    counting: Option<Held<'a>>,
    usage: Usages,
    admitted: Admitted,
}

/// What a batch stores, for the journal and the meters.
struct Stored {
    journal_rows: u64,
    journal_bytes: u64,
    bytes: u64,
    hits: u64,
}

impl Stored {
    fn of(sources: &Sources, new: &New) -> Self {
        let mut stored = Self { journal_rows: 0, journal_bytes: 0, bytes: 0, hits: 0 };
        for (digest, source) in sources {
            if !new.contains_key(digest) {
                stored.hits += 1;
                continue;
            }
            stored.bytes += source.size();
            if matches!(source, Source::Inline(_)) {
                stored.journal_rows += 1;
                stored.journal_bytes += source.size();
            }
        }
        stored
    }
}

/// Whether files get their names with a batch.
fn names_files(sources: &Sources, new: &New) -> bool {
    new.keys().any(|digest| matches!(sources.get(digest), Some(Source::Staged { .. })))
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
                    prepared.new.extend(truth.new.clone());
                    continue;
                }
            }
            let terms = Terms { reservations, unlimited };
            let (committed, unsynced, ticket) =
                self.apply(items, sources, &truth, reservation, held, terms)?;
            self.sync_and_show(unsynced, ticket)?;
            // Filing and publishing want the disk too, so they begin when nobody waits for it here.
            self.signals.committed(false, self.journal.is_pressing());
            self.prune_if_due();
            return Ok(committed);
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
            if found.new.contains_key(digest) || found.moving.contains(digest) {
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
        let need =
            |digest: &Digest| if found.new.contains_key(digest) { Need::Exclusive } else { Need::Shared };
        let leaving: Vec<Digest> = items.iter().filter_map(Item::leaves).collect();
        let content = sources
            .keys()
            .chain(items.iter().flat_map(Item::needs))
            .chain(&leaving)
            .map(|digest| (digest, need(digest)));
        Ok((settling, [repositories, names, self.locks.content(content)]))
    }

    /// Everything that is done under the locks, which are given back with the rows written.
    fn apply(
        &self,
        items: Vec<Item>,
        sources: Sources,
        found: &Survey,
        reservation: Option<Reservation<'_>>,
        _held: AllHeld<'_>,
        terms: Terms,
    ) -> Result<(Committed, Unsynced<'_>, Option<Ticket<'_>>)> {
        let new = &found.new;
        self.touch_all(sources.keys(), &items);
        let mut plan = Plan::new(self, &sources, new);
        plan.add_all(items)?;
        let Planned { mut rows, committed, view_changed, sparse, changes } = plan.finish();
        let mut passed = self.let_pass(&mut rows, found, names_files(&sources, new), &terms)?;
        let stored = Stored::of(&sources, new);
        self.name_content(sources, new)?;
        if passed.counting.is_none() {
            passed.counting = Some(self.locks.counting(found.moving.iter()));
            passed.usage = rows.changes()?;
        }
        let Passed { counting, usage, admitted } = passed;
        let mut rows = rows.count_as(usage);
        let ticket = self.record(&mut rows, changes);
        let (unsynced, ticket) =
            self.with_ticket(self.put_counted(rows, self.durable(), admitted), ticket)?;
        drop(counting);
        if let Some(reservation) = reservation {
            reservation.keep(stored.journal_rows, stored.journal_bytes);
        }
        self.meters.stored(new.len() as u64, stored.bytes, stored.hits);
        self.meters.journal(self.journal.used());
        if sparse {
            self.sparse.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        if view_changed {
            // With the locks still held: a collection waits for them to know whether `index.json` is to be written.
            self.signals.mark_view();
        }
        Ok((committed, unsynced, ticket))
    }

    /// Counts what the rows change and asks whether they may be written, before anything has its name or is in the journal. With
    /// files to be named it is counted again: others who come to hold the same must not wait for directories to be synced.
    fn let_pass(
        &self,
        rows: &mut Rows<'_>,
        found: &Survey,
        names_files: bool,
        terms: &Terms,
    ) -> Result<Passed<'_>> {
        if names_files && !found.moving.is_empty() {
            let usage = rows.changes()?;
            match self.admit_rows(rows, &usage, terms) {
                // Somebody may just be bringing the same, which then adds nothing here.
                Err(error) if error.kind() == ErrorKind::QuotaExceeded => {}
                admitted => return Ok(Passed { counting: None, usage, admitted: admitted? }),
            }
        }
        let counting = self.locks.counting(found.moving.iter());
        let usage = rows.changes()?;
        let admitted = self.admit_rows(rows, &usage, terms)?;
        // What is there by now stays while this commit has its stripe, so the second count is no greater.
        let counting = (!names_files).then_some(counting);
        Ok(Passed { counting, usage, admitted })
    }

    fn admit_rows(&self, rows: &Rows<'_>, usage: &Usages, terms: &Terms) -> Result<Admitted> {
        let count = rows.len().saturating_add(usage.rows());
        let limit = self.options.limits.max_batch_rows;
        if count > limit && !terms.unlimited {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("batch makes too many rows of metadata, rows={count}, limit={limit}"),
            ));
        }
        self.check_log_room(rows.len(), rows.bytes())?;
        self.quotas.admit(usage, terms)
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
