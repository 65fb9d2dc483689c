//! Content: pushing, filing, reading, removing.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};

use crate::Digest;
use crate::locks::{Locks, Need};

/// A step that a control leaves out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Without {
    /// Nothing: the store as it is.
    Nothing,
    /// `drop_rows` drops the row whatever its id.
    RowId,
    /// `file_group` gives the name without a look at the row.
    LookBeforeName,
    /// `file_group` gives the name without the stripe.
    StripeOfName,
    /// `commit` does not look again under the locks.
    SecondLook,
    /// `commit` takes no stripe.
    StripeOfPush,
    /// The row goes before the file has its name.
    NameFirst,
    /// The reader asks the file, then the journal, and that once.
    JournalFirst,
    /// The row is there before it is counted.
    CountFirst,
    /// The reader answers after the first round.
    Rounds,
    /// `publish_locked` takes its snapshot after the filing.
    SnapshotFirst,
    /// `publish_locked` exchanges before it files.
    FileFirst,
    /// The sweep does not wait for the publisher.
    SweepWaits,
    /// `settle` deletes the base row without a look at the tag.
    SettleLooks,
    /// `settle` takes no lock of the name.
    StripeOfSettle,
    /// A change of a tag writes no base row.
    Base,
    /// An existence answer is not remembered.
    Touch,
    /// An existence answer is remembered after its look, when the stripe was given back.
    TouchFirst,
    /// An existence answer takes no stripe.
    StripeOfAnswer,
    /// A collection looks at what is needed before it takes the stripe, and not again.
    LookUnderStripe,
    /// A collection unlinks before it publishes.
    PublishFirst,
    /// A collection unlinks without a look whether the content came back.
    LookBeforeUnlink,
    /// `commit` counts without the stripe for that.
    StripeOfCount,
    /// A sync is taken to cover what was written while it ran.
    RowBeforeSync,
    /// Rows are written before it is known that somebody will answer for them.
    BeginFirst,
    /// A commit that has nothing to write does not wait for what others have written.
    SyncOfOthers,
}

/// What the metadata say of a content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Row {
    /// There is a content row.
    pub known: bool,
    /// The id of the journal row, if there is one.
    pub journal: Option<u64>,
}

/// A store of a few contents.
pub struct Store {
    pub(crate) without: Without,
    pub(crate) locks: Locks,
    /// One write of rows is one critical section, as one batch of the engine is.
    pub(crate) rows: Mutex<BTreeMap<Digest, Row>>,
    pub(crate) files: Mutex<BTreeSet<Digest>>,
    filing: Mutex<()>,
    /// `journal::Gauge`.
    journalled: AtomicU64,
    ids: AtomicU64,
    /// `Metadata::next_sequence`.
    sequence: AtomicU64,
}

impl Store {
    /// An empty store.
    pub fn new(without: Without) -> Self {
        Self {
            without,
            locks: Locks::new(),
            rows: Mutex::new(BTreeMap::new()),
            files: Mutex::new(BTreeSet::new()),
            filing: Mutex::new(()),
            journalled: AtomicU64::new(0),
            ids: AtomicU64::new(1),
            sequence: AtomicU64::new(0),
        }
    }

    /// What the rows say of a content now.
    pub fn row(&self, digest: Digest) -> Row {
        self.rows.lock().get(&digest).copied().unwrap_or_default()
    }

    /// Whether a file has the name.
    pub fn has_file(&self, digest: Digest) -> bool {
        self.files.lock().contains(&digest)
    }

    fn write(&self, change: impl FnOnce(&mut BTreeMap<Digest, Row>)) {
        let mut rows = self.rows.lock();
        change(&mut rows);
        self.sequence.fetch_add(1, Ordering::SeqCst);
    }

    /// `Core::is_hit`.
    fn is_hit(&self, digest: Digest) -> bool {
        if !self.row(digest).known {
            return false;
        }
        if self.journalled.load(Ordering::SeqCst) > 0 && self.row(digest).journal.is_some() {
            return true;
        }
        self.has_file(digest)
    }

    /// `Core::commit` of one small content.
    pub fn push(&self, digest: Digest) {
        let mut seen = self.sequence.load(Ordering::SeqCst);
        let mut new = !self.is_hit(digest);
        loop {
            if new && self.without != Without::CountFirst {
                // `Gauge::reserve`, in `Core::prepare`.
                self.journalled.fetch_add(1, Ordering::SeqCst);
            }
            let need = if new { Need::Exclusive } else { Need::Shared };
            let held = (self.without != Without::StripeOfPush)
                .then(|| self.locks.content([(&digest, need)].into_iter()));
            let now = self.sequence.load(Ordering::SeqCst);
            if now == seen || self.without == Without::SecondLook {
                return self.apply(digest, new, new);
            }
            let again = !self.is_hit(digest);
            if !again || new {
                return self.apply(digest, again, new);
            }
            // It was taken for a hit, so nothing was prepared; the next round prepares it.
            drop(held);
            seen = now;
            new = true;
        }
    }

    /// `Core::apply`: rows of what is new; what is not must be there.
    fn apply(&self, digest: Digest, new: bool, reserved: bool) {
        if new {
            let id = self.ids.fetch_add(1, Ordering::SeqCst);
            self.write(|rows| {
                rows.insert(digest, Row { known: true, journal: Some(id) });
            });
            if self.without == Without::CountFirst {
                self.journalled.fetch_add(1, Ordering::SeqCst);
            }
        } else if reserved {
            self.journalled.fetch_sub(1, Ordering::SeqCst);
        }
        // The stripe is still held: what was acknowledged is there.
        let row = self.row(digest);
        assert!(row.known, "acknowledged, and no row knows it");
        assert!(row.journal.is_some() || self.has_file(digest), "acknowledged, and neither journalled nor filed");
    }

    /// `Core::file_journal` with `Core::file_group` and `Core::drop_rows`.
    pub fn file_journal(&self) {
        let _filing = self.filing.lock();
        if self.journalled.load(Ordering::SeqCst) == 0 {
            return;
        }
        let group: Vec<(Digest, u64)> = self
            .rows
            .lock()
            .iter()
            .filter_map(|(digest, row)| row.journal.map(|id| (*digest, id)))
            .collect();
        if self.without == Without::NameFirst {
            self.drop_rows(&group);
        }
        for (digest, _) in &group {
            let _held = (self.without != Without::StripeOfName)
                .then(|| self.locks.content([(digest, Need::Exclusive)].into_iter()));
            if self.without != Without::LookBeforeName && self.row(*digest).journal.is_none() {
                continue;
            }
            self.files.lock().insert(*digest);
        }
        self.drop_rows(&group);
    }

    fn drop_rows(&self, group: &[(Digest, u64)]) {
        let _held = self.locks.content(group.iter().map(|(digest, _)| (digest, Need::Exclusive)));
        let mut dropped = Vec::new();
        for (digest, id) in group {
            let found = self.row(*digest).journal;
            if found == Some(*id) || (self.without == Without::RowId && found.is_some()) {
                dropped.push(*digest);
            }
        }
        let count = dropped.len() as u64;
        self.write(|rows| {
            for digest in dropped {
                if let Some(row) = rows.get_mut(&digest) {
                    row.journal = None;
                }
            }
        });
        self.journalled.fetch_sub(count, Ordering::SeqCst);
    }

    /// A removal as the design has it: rows, then the file, with the content to itself. There is none in the store yet but
    /// `Core::move_to_quarantine`, which takes the same lock.
    pub fn remove(&self, digest: Digest) {
        let _held = self.locks.content([(&digest, Need::Exclusive)].into_iter());
        self.remove_rows(digest);
        self.files.lock().remove(&digest);
    }

    fn remove_rows(&self, digest: Digest) {
        let journalled = self.row(digest).journal.is_some();
        self.write(|rows| {
            rows.remove(&digest);
        });
        if journalled {
            self.journalled.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The rows of a removal.
    pub(crate) fn write_off(&self, digest: Digest) {
        let _held = self.locks.content([(&digest, Need::Exclusive)].into_iter());
        self.remove_rows(digest);
    }

    /// The file of a removal, unless the content was pushed again since.
    pub(crate) fn unlink(&self, digest: Digest) {
        let _held = self.locks.content([(&digest, Need::Exclusive)].into_iter());
        if !self.row(digest).known {
            self.files.lock().remove(&digest);
        }
    }

    /// `Core::find`: true when the bytes were found, false when there is no row. Panics where the store says `Corrupt`.
    pub fn find(&self, digest: Digest) -> bool {
        for round in 0..3 {
            if !self.row(digest).known {
                return false;
            }
            if self.without == Without::JournalFirst {
                if self.has_file(digest) || self.row(digest).journal.is_some() {
                    return true;
                }
                break;
            }
            if self.journalled.load(Ordering::SeqCst) > 0 && self.row(digest).journal.is_some() {
                return true;
            }
            if self.has_file(digest) {
                return true;
            }
            if self.without == Without::Rounds && round == 0 {
                break;
            }
        }
        panic!("content has no file");
    }

    /// At rest: what a row knows is journalled or filed, and no file is without a row.
    pub fn check(&self) {
        let (rows, files) = (self.rows.lock().clone(), self.files.lock().clone());
        for (digest, row) in &rows {
            assert!(!row.known || row.journal.is_some() || files.contains(digest), "a row without bytes: {row:?}");
        }
        for digest in &files {
            assert!(rows.get(digest).is_some_and(|row| row.known), "a file that no row knows");
        }
        let journalled = rows.values().filter(|row| row.journal.is_some()).count() as u64;
        assert_eq!(self.journalled.load(Ordering::SeqCst), journalled, "the journal is miscounted");
    }
}
