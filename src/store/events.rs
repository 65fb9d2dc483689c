//! Events: what happened to manifests, tags and repositories, in an order that every reader sees.
//!
//! The rows of an event are written in the batch of what it tells, so neither is there without the other. Sequences are given
//! out before the write, and writes end in any order, so readers are shown only what comes before the first sequence that is
//! not settled: nobody who has seen one event can miss an earlier one. Sequences are given out under the locks of the names
//! that change, so that the events of one tag are its history. A crash leaves numbers out, and never takes one twice.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::batch::NewManifest;
use super::plan::Plan;
use super::repositories::stored_name;
use super::tags::stored_tag;
use super::{Core, Store, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{CountedRows, EventChange, EventRecord, FeedRecord, fact};
use crate::oci::{RepositoryName, Tag};
use crate::sys;

/// How many events a store keeps, and for how long. A reader who comes later is told that he missed some.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventLimits {
    /// So many of the last ones: 100,000 by default, at least 1. A few more may be kept for a while.
    pub count: u64,
    /// Those that are no older than this: seven days by default. The last one is kept at any age.
    pub age: Option<Duration>,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { count: 100_000, age: Some(Duration::from_secs(7 * 24 * 60 * 60)) }
    }
}

/// Whether a store has events, as its options say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Wanted {
    /// As the last one who said so wanted it; at first not.
    #[default]
    AsItIs,
    On(EventLimits),
    Off,
}

/// A place in a feed, behind one event. Positions of other feeds are told from those of this one; each store has its own, and
/// a new one after a rebuild, as a checkpoint and as a copy.
///
/// `Display` and `FromStr` are for keeping it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EventPosition {
    feed: u64,
    sequence: u64,
}

impl EventPosition {
    /// The number of the event, which grows along the feed and may leave numbers out.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.feed, self.sequence)
    }
}

impl FromStr for EventPosition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (feed, sequence) = text.split_once('-')?;
            let hex = feed.len() == 16 && feed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let digits = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
            if !hex || !digits {
                return None;
            }
            Some(Self { feed: u64::from_str_radix(feed, 16).ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| {
            Error::invalid(format!("not a position in a feed of events, position={}", text.escape_debug()))
        })
    }
}

/// What happened.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A manifest came into a repository, or came again as another media type. Content that it refers to has no events of its own.
    ManifestPushed {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its media type as pushed.
        media_type: String,
        /// What it says that it is.
        artifact_type: Option<String>,
        /// What it refers to as its subject.
        subject: Option<Digest>,
    },
    /// A tag was set, moved or removed, also by another tool.
    TagChanged {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it named before; none if it is new.
        previous: Option<Digest>,
        /// What it names now; none if it is gone.
        current: Option<Digest>,
    },
    /// A manifest left a repository; its tags changed before it.
    ManifestDeleted {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A repository went with its tags and all that it held, which have no events of their own.
    RepositoryDeleted {
        /// The repository.
        repository: RepositoryName,
    },
}

/// One event.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Where to go on behind it.
    pub position: EventPosition,
    /// When, by the clock of the writer. The order is that of the positions, not of the times.
    pub time: SystemTime,
    /// What.
    pub change: Change,
}

/// What a reader of events is answered.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Events {
    /// The events behind his position, none left out; empty when nothing has happened since.
    Next(Vec<Event>),
    /// What he has not seen is gone, or his position is of another feed. He has to look at the whole store, and then goes on
    /// behind `position`.
    Gap {
        /// Behind it comes the first event that is left.
        position: EventPosition,
    },
}

/// Sequences that a process leaves out where the one before did not end well: more than it can have given out without a sync.
const LEAP: u64 = 1 << 32;
/// Events between two looks at what may go.
const PRUNE_EVERY: u64 = 256;
/// Rows that go with one write.
const PRUNED: usize = 1000;

/// The feed of an open store.
#[derive(Debug)]
pub(super) struct Feed {
    id: u64,
    state: Mutex<State>,
    settled: Condvar,
    /// What is kept and what is gone; whoever prunes holds it.
    record: Mutex<FeedRecord>,
}

#[derive(Debug)]
struct State {
    /// The next sequence.
    next: u64,
    ordinal: u64,
    /// First sequences of batches that are being written.
    in_flight: BTreeSet<u64>,
    unpruned: u64,
}

impl State {
    /// Up to here every sequence is settled.
    fn bound(&self) -> u64 {
        self.in_flight.first().copied().unwrap_or(self.next).saturating_sub(1)
    }
}

/// Sequences that were given out for one batch. Dropped, they are settled: written, or never to be.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    feed: &'a Feed,
    first: u64,
}

impl Ticket<'_> {
    /// Nobody is told of these events, nor of later ones: whether the disk has them is known when the store is opened again.
    pub(super) fn withhold(self) {
        std::mem::forget(self);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.feed.state.lock();
        let before = state.bound();
        state.in_flight.remove(&self.first);
        let moved = state.bound() > before;
        drop(state);
        if moved {
            self.feed.settled.notify_all();
        }
    }
}

impl Feed {
    fn new(record: FeedRecord, last: Option<(u64, u64)>, is_clean: bool) -> Self {
        let (sequence, ordinal) =
            last.map_or((record.floor, 0), |(sequence, ordinal)| (sequence, ordinal + 1));
        let leap = if is_clean { 0 } else { LEAP };
        let next = sequence.max(record.floor).saturating_add(1).saturating_add(leap);
        let state = State { next, ordinal, in_flight: BTreeSet::new(), unpruned: 0 };
        Self { id: record.id, state: Mutex::new(state), settled: Condvar::new(), record: Mutex::new(record) }
    }

    /// Puts the events of a batch into its rows. The caller holds the locks of what changes until the rows are written, and
    /// the ticket as long.
    fn enter(&self, rows: &mut CountedRows<'_>, mut changes: Vec<EventChange>) -> Option<Ticket<'_>> {
        if changes.is_empty() {
            return None;
        }
        // Within a batch, what is tagged is there before and goes after.
        changes.sort_by_key(|change| match change {
            EventChange::Pushed { .. } => 0,
            EventChange::Tagged { .. } => 1,
            EventChange::Deleted { .. } | EventChange::RepositoryDeleted { .. } => 2,
        });
        let count = changes.len() as u64;
        let mut state = self.state.lock();
        let (first, ordinal) = (state.next, state.ordinal);
        state.next += count;
        state.ordinal += count;
        state.unpruned += count;
        state.in_flight.insert(first);
        drop(state);
        let time = millis(SystemTime::from(sys::now()));
        for ((sequence, ordinal), change) in (first..).zip(ordinal..).zip(changes) {
            rows.put_event(sequence, &EventRecord { time, ordinal, change });
        }
        Some(Ticket { feed: self, first })
    }

    /// Whether it is time to look at what may go.
    fn is_due(&self) -> bool {
        let mut state = self.state.lock();
        let due = state.unpruned >= PRUNE_EVERY;
        if due {
            state.unpruned = 0;
        }
        due
    }

    fn position(&self, sequence: u64) -> EventPosition {
        EventPosition { feed: self.id, sequence }
    }
}

impl Store {
    /// The events behind `after`, or from the first that is left; at most `limit`.
    ///
    /// Nothing is left out and nothing comes twice: an event is shown once every earlier one is.
    ///
    /// ```
    /// # use orlop::{EventLimits, Events, Options};
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// let store = Options::new().events(EventLimits::default()).create(dir.path().join("s"))?;
    /// let mut position = None;
    /// match store.events(position, 100)? {
    ///     Events::Next(events) => position = events.last().map(|event| event.position),
    ///     Events::Gap { position: first } => position = Some(first),
    ///     _ => {}
    /// }
    /// # assert!(position.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Unsupported` when the store has no events; `Io`, `Corrupt`.
    pub fn events(&self, after: Option<EventPosition>, limit: usize) -> Result<Events> {
        let core = self.core();
        let feed = core.feed()?;
        // In this order: what is settled by now is in every later view.
        let bound = feed.state.lock().bound();
        let view = core.metadata.snapshot();
        let floor = view.feed()?.map_or(0, |record| record.floor);
        let from = match after {
            Some(after)
                if after.feed != feed.id
                    || after.sequence < floor
                    // A frozen view may be older than the position; nobody else can have seen what is not there.
                    || (after.sequence > bound && !core.read_only) =>
            {
                return Ok(Events::Gap { position: feed.position(floor) });
            }
            Some(after) => after.sequence,
            None => floor,
        };
        let mut events = Vec::new();
        if limit > 0 {
            view.events(from, |sequence, record| {
                if sequence > bound {
                    return Ok(until(true));
                }
                events.push(event(feed.position(sequence), record)?);
                Ok(until(events.len() >= limit))
            })?;
        }
        Ok(Events::Next(events))
    }

    /// Waits until something can be read behind `after`, for at most `timeout`; answers whether something can. Of a frozen
    /// view it answers at once.
    ///
    /// # Errors
    ///
    /// As [`Store::events`].
    pub fn wait_for_events(&self, after: Option<EventPosition>, timeout: Duration) -> Result<bool> {
        let core = self.core();
        let feed = core.feed()?;
        let end = Instant::now().checked_add(timeout);
        loop {
            let bound = feed.state.lock().bound();
            // Sequences may be left out, so that only the rows tell.
            match self.events(after, 1)? {
                Events::Next(events) if events.is_empty() => {}
                _ => return Ok(true),
            }
            if core.read_only {
                return Ok(false);
            }
            let mut state = feed.state.lock();
            while state.bound() <= bound {
                let Some(end) = end else {
                    feed.settled.wait(&mut state);
                    continue;
                };
                if feed.settled.wait_until(&mut state, end).timed_out() {
                    if state.bound() > bound {
                        break;
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// The position behind the last event: where a reader goes on who has just looked at the whole store. Taken before he looks.
    ///
    /// # Errors
    ///
    /// `Unsupported` when the store has no events.
    pub fn event_position(&self) -> Result<EventPosition> {
        let feed = self.core().feed()?;
        let bound = feed.state.lock().bound();
        Ok(feed.position(bound))
    }
}

impl Core {
    fn feed(&self) -> Result<&Feed> {
        self.feed.as_ref().ok_or_else(|| {
            let path = self.root.display();
            let message = format!("store keeps no events; open it with Options::events, path={path}");
            Error::new(ErrorKind::Unsupported, message)
        })
    }

    /// Loads the feed, if there is one or one is wanted. `is_new`: what there is goes on in another store, so that this one needs a feed of
    /// its own.
    pub(super) fn open_feed(&mut self, is_new: bool) -> Result<()> {
        let view = self.metadata.view();
        let stored = view.feed()?;
        if self.read_only {
            let last = view.last_event()?.map(|(sequence, record)| (sequence, record.ordinal));
            self.feed = stored.map(|record| Feed::new(record, last, true));
            return Ok(());
        }
        let mut kept = stored;
        if stored.is_some() && (is_new || self.options.events == Wanted::Off) {
            self.drop_events()?;
            kept = None;
        }
        let limits = match self.options.events {
            Wanted::Off => None,
            Wanted::On(limits) => Some((limits.count, limits.age.map(whole_millis))),
            Wanted::AsItIs => stored.map(|record| (record.count, record.age)),
        };
        let Some((count, age)) = limits else { return Ok(()) };
        let record = kept.map_or_else(
            || FeedRecord { id: new_id(), floor: 0, count, age },
            |record| FeedRecord { count, age, ..record },
        );
        if kept != Some(record) {
            let mut rows = self.metadata.rows();
            rows.put_feed(&record);
            self.write(rows)?;
        }
        let is_clean = kept.is_none() || self.metadata.view().has_fact(fact::CLEAN)?;
        let last = self.metadata.view().last_event()?.map(|(sequence, record)| (sequence, record.ordinal));
        self.feed = Some(Feed::new(record, last, is_clean));
        self.prune_events()
    }

    /// Ends the feed. The mark of it goes last.
    fn drop_events(&self) -> Result<()> {
        let view = self.metadata.snapshot();
        let mut rows = self.metadata.rows();
        view.events(0, |sequence, _| {
            rows.delete_event(sequence);
            if rows.len() >= PRUNED {
                self.write_unsynced(std::mem::replace(&mut rows, self.metadata.rows()))?;
            }
            Ok(until(false))
        })?;
        rows.delete_fact(fact::EVENTS);
        self.write(rows)
    }

    /// In the copy of a store: its events are those of the original, whose readers must not go on here.
    pub(super) fn renew_feed(&self) -> Result<()> {
        let Some(record) = self.metadata.view().feed()? else { return Ok(()) };
        self.drop_events()?;
        let mut rows = self.metadata.rows();
        rows.put_feed(&FeedRecord { id: new_id(), floor: 0, ..record });
        self.write(rows)
    }

    /// Puts events into rows that are about to be written. The answer is kept until they are.
    pub(super) fn record(&self, rows: &mut CountedRows<'_>, changes: Vec<EventChange>) -> Option<Ticket<'_>> {
        self.feed.as_ref().and_then(|feed| feed.enter(rows, changes))
    }

    /// What became of writing rows, with the ticket of their events: readers never get past those that the log may have or not.
    pub(super) fn with_ticket<'a, T>(
        &self,
        written: Result<T>,
        ticket: Option<Ticket<'a>>,
    ) -> Result<(T, Option<Ticket<'a>>)> {
        match written {
            Ok(written) => Ok((written, ticket)),
            Err(error) => {
                if self.check_writable().is_err() {
                    ticket.into_iter().for_each(Ticket::withhold);
                }
                Err(error)
            }
        }
    }

    /// Lets old events go, now and then.
    pub(super) fn prune_if_due(&self) {
        if self.feed.as_ref().is_some_and(Feed::is_due) {
            // What fails here is tried again later, and nobody waits for it.
            let _ = self.prune_events();
        }
    }

    /// Removes what is too many or too old, oldest first, never the last. Costs what goes.
    pub(super) fn prune_events(&self) -> Result<()> {
        let Some(feed) = &self.feed else { return Ok(()) };
        let Some(mut kept) = feed.record.try_lock() else { return Ok(()) };
        let (bound, ordinal) = {
            let state = feed.state.lock();
            (state.bound(), state.ordinal)
        };
        let first = ordinal.saturating_sub(kept.count);
        let oldest = kept.age.map_or(0, |age| millis(SystemTime::from(sys::now())).saturating_sub(age));
        loop {
            let mut gone: Vec<u64> = Vec::new();
            let mut ended = true;
            let view = self.metadata.view();
            let mut previous = None;
            view.events(kept.floor, |sequence, record| {
                // One behind: the last one stays.
                gone.extend(previous.take());
                let goes = record.ordinal < first || record.time < oldest;
                if !goes || sequence >= bound || gone.len() >= PRUNED {
                    ended = gone.len() < PRUNED;
                    return Ok(until(true));
                }
                previous = Some(sequence);
                Ok(until(false))
            })?;
            let Some(last) = gone.last() else { return Ok(()) };
            let mut rows = self.metadata.rows();
            let record = FeedRecord { floor: *last, ..*kept };
            gone.iter().for_each(|sequence| rows.delete_event(*sequence));
            rows.put_feed(&record);
            self.write_unsynced(rows)?;
            *kept = record;
            if ended {
                return Ok(());
            }
        }
    }
}

impl Plan<'_, '_> {
    pub(super) fn tell_pushed(&mut self, new: &NewManifest) {
        self.tell(|| EventChange::Pushed {
            repository: new.repository.as_str().to_owned(),
            digest: new.digest,
            size: new.size,
            media_type: new.manifest.media_type().to_owned(),
            artifact_type: new.manifest.artifact_type().map(str::to_owned),
            subject: new.manifest.subject().map(|subject| subject.digest),
        });
    }

    pub(super) fn tell_tagged(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        previous: Option<Digest>,
        current: Option<Digest>,
    ) {
        self.tell(|| {
            let (repository, tag) = (repository.as_str().to_owned(), tag.to_string());
            EventChange::Tagged { repository, tag, previous, current }
        });
    }

    pub(super) fn tell_deleted(&mut self, repository: &RepositoryName, digest: &Digest) {
        self.tell(|| EventChange::Deleted { repository: repository.as_str().to_owned(), digest: *digest });
    }

    fn tell(&mut self, change: impl FnOnce() -> EventChange) {
        if self.core.feed.is_some() {
            self.planned.changes.push(change());
        }
    }
}

fn new_id() -> u64 {
    RandomState::new().hash_one(1)
}

fn event(position: EventPosition, record: EventRecord) -> Result<Event> {
    let change = match record.change {
        EventChange::Pushed { repository, digest, size, media_type, artifact_type, subject } => {
            let repository = stored_name(&repository)?;
            Change::ManifestPushed { repository, digest, size, media_type, artifact_type, subject }
        }
        EventChange::Tagged { repository, tag, previous, current } => {
            let (repository, tag) = (stored_name(&repository)?, stored_tag(&tag)?);
            Change::TagChanged { repository, tag, previous, current }
        }
        EventChange::Deleted { repository, digest } => {
            Change::ManifestDeleted { repository: stored_name(&repository)?, digest }
        }
        EventChange::RepositoryDeleted { repository } => {
            Change::RepositoryDeleted { repository: stored_name(&repository)? }
        }
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(record.time);
    Ok(Event { position, time, change })
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, whole_millis)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
