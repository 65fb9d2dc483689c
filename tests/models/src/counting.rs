//! Counting: who comes to hold a content counts who else does, beside others who do the same; the log is synced when the stripes
//! are given back, and nobody is told anything that it does not have.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::Digest;
use crate::error::{Error, ErrorKind};
use crate::locks::{Locks, Need};
use crate::log_sync::LogSync;
use crate::store::Without;

/// The rows of one content: who holds it, and of whom that is alone.
#[derive(Clone, Debug, Default)]
struct Rows {
    holders: BTreeSet<u8>,
    unique: BTreeMap<u8, i64>,
}

impl Rows {
    fn counted(&self) -> BTreeMap<u8, i64> {
        let only = self.holders.first().filter(|_| self.holders.len() == 1);
        only.map(|id| (*id, 1)).into_iter().collect()
    }

    /// What `Changes::counted` makes of a change: how much the counters change by.
    fn change(&self, id: u8, joins: bool) -> BTreeMap<u8, i64> {
        let mut after = self.clone();
        if joins { after.holders.insert(id) } else { after.holders.remove(&id) };
        let mut change = after.counted();
        for (id, count) in self.counted() {
            *change.entry(id).or_default() -= count;
        }
        change
    }

    fn apply(&mut self, id: u8, joins: bool, change: &BTreeMap<u8, i64>) {
        if joins { self.holders.insert(id) } else { self.holders.remove(&id) };
        for (id, count) in change {
            *self.unique.entry(*id).or_default() += count;
        }
        self.unique.retain(|_, count| *count != 0);
    }
}

/// What was written, in one order, and how much of it the disk has.
#[derive(Debug, Default)]
struct Log {
    rows: Rows,
    /// The number of the write with which each came to hold it.
    joined: BTreeMap<u8, u64>,
    written: u64,
    durable: u64,
}

/// One content in a few repositories.
pub struct Counting {
    without: Without,
    locks: Locks,
    log: Mutex<Log>,
    sync: LogSync,
    /// The disk fails with the sync of this number.
    fails: Option<u64>,
    syncs: Mutex<u64>,
}

const CONTENT: Digest = Digest(1);

impl Counting {
    /// Held by nobody.
    pub fn new(without: Without, fails: Option<u64>) -> Self {
        let (locks, log, sync, syncs) = (Locks::new(), Mutex::default(), LogSync::default(), Mutex::new(0));
        Self { without, locks, log, sync, fails, syncs }
    }

    fn without(&self, what: Without) -> bool {
        self.without == what
    }

    /// `Metadata::sync_up_to`: false when a sync failed.
    fn sync_up_to(&self, row: u64) -> bool {
        let sync = || {
            let before = self.log.lock().written;
            let number = {
                let mut syncs = self.syncs.lock();
                *syncs += 1;
                *syncs
            };
            if self.fails == Some(number) {
                return Err(Error::new(ErrorKind::Io, "the disk failed"));
            }
            // What comes meanwhile may be on the disk or not: it is not.
            let mut log = self.log.lock();
            log.durable = log.durable.max(before);
            Ok(if self.without(Without::RowBeforeSync) { log.written } else { before })
        };
        self.sync.up_to(row, sync).is_ok()
    }

    /// What an acknowledgement stands for is on the disk.
    fn acknowledge(&self, row: u64) {
        assert!(self.log.lock().durable >= row, "acknowledged, and the disk does not have it");
    }

    /// `Core::commit` of a mount, or of a push of what is there.
    pub fn join(&self, id: u8) {
        self.change(id, true);
    }

    /// `Core::commit` of a removal. The repository is there for it alone.
    pub fn leave(&self, id: u8) {
        self.change(id, false);
    }

    fn change(&self, id: u8, joins: bool) {
        let held = self.locks.content([(&CONTENT, Need::Shared)].into_iter());
        if joins && self.log.lock().rows.holders.contains(&id) {
            drop(held);
            return self.nothing_to_write(id);
        }
        let counting = (!self.without(Without::StripeOfCount))
            .then(|| self.locks.counting([&CONTENT].into_iter()));
        let change = self.log.lock().rows.change(id, joins);
        let under_way = (!self.without(Without::BeginFirst)).then(|| self.sync.begin());
        let row = {
            let mut log = self.log.lock();
            log.rows.apply(id, joins, &change);
            // So it is at every end that a crash may give the log.
            assert_eq!(log.rows.unique, log.rows.counted(), "the counters are not what is there");
            log.written += 1;
            let written = log.written;
            log.joined.insert(id, written);
            written
        };
        let _late = self.without(Without::BeginFirst).then(|| {
            shuttle::thread::yield_now();
            self.sync.begin()
        });
        drop((counting, held));
        if self.sync_up_to(row) {
            self.acknowledge(row);
        }
        drop(under_way);
    }

    /// `Unsynced::Others`: it is there already, as others may just have written.
    fn nothing_to_write(&self, id: u8) {
        let (row, written) = {
            let log = self.log.lock();
            (log.joined.get(&id).copied().unwrap_or_default(), log.written)
        };
        if self.without(Without::SyncOfOthers) || !self.sync.is_behind() || self.sync_up_to(written) {
            self.acknowledge(row);
        }
    }
}
