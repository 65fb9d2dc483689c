//! Units of many threads in one order: each blob writes when all before it have ended.

use std::io;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::corpus::{Blob, Corpus};
use super::unit::{Found, UnitHash, UnitRecord, UnitSink};
use crate::{Error, ErrorKind, Result};

/// Units that a blob may have waiting before its thread waits itself.
const MOST_HELD: usize = 50_000;

/// The order in which blobs give their units to a sink. Blobs are begun in the order of their numbers, so that the one whose turn it is is
/// always under way.
pub(super) struct Turns<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
    /// By blob: the first image that has it, and its digest.
    blobs: Vec<(&'a str, String)>,
    /// By granularity: its name, and whether its units are whole blobs.
    granularities: Vec<(String, bool)>,
}

struct State<'a> {
    turn: usize,
    stopped: bool,
    sink: &'a mut dyn UnitSink,
}

/// A unit that waits for the turn of its blob.
pub(super) struct Held {
    granularity: usize,
    hash: [u8; 32],
    length: u64,
    offset: u64,
    path: Option<Box<str>>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(
        sink: &'a mut dyn UnitSink,
        corpus: &'a Corpus,
        granularities: Vec<(String, bool)>,
    ) -> Self {
        let digest = |blob: &Blob| ("", blob.descriptor.digest.to_string());
        let mut blobs: Vec<(&str, String)> = corpus.blobs.iter().map(digest).collect();
        for image in corpus.images.iter().rev() {
            for at in &image.blobs {
                if let Some((name, _)) = blobs.get_mut(*at) {
                    *name = &image.name;
                }
            }
        }
        let state = Mutex::new(State { turn: 0, stopped: false, sink });
        Self { state, changed: Condvar::new(), blobs, granularities }
    }

    /// Gives units away if it is the turn of their blob, and holds them if it is not; waits when many are held.
    pub(super) fn take(
        &self,
        blob: usize,
        granularity: usize,
        found: &[Found],
        held: &mut Vec<Held>,
    ) -> Result<()> {
        held.extend(found.iter().map(|one| Held {
            granularity,
            hash: one.hash,
            length: one.length,
            offset: one.offset,
            path: one.path.clone(),
        }));
        let mut state = self.state.lock();
        if state.turn == blob || held.len() > MOST_HELD {
            state = self.wait(blob, state)?;
            self.give(blob, state.sink, held)?;
        }
        Ok(())
    }

    /// A blob has ended: it is the turn of the next.
    pub(super) fn end(&self, blob: usize, held: &mut Vec<Held>) -> Result<()> {
        let mut state = self.wait(blob, self.state.lock())?;
        self.give(blob, state.sink, held)?;
        state.turn += 1;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Nobody waits any longer.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn give(&self, blob: usize, sink: &mut dyn UnitSink, held: &mut Vec<Held>) -> Result<()> {
        let Some((image, digest)) = self.blobs.get(blob) else { return Ok(()) };
        for one in held.drain(..) {
            let Some((granularity, is_blob)) = self.granularities.get(one.granularity) else { continue };
            let hash = if *is_blob { UnitHash::Digest(digest) } else { UnitHash::Blake3(one.hash) };
            let record = UnitRecord {
                granularity,
                hash,
                image,
                layer: digest,
                length: one.length,
                offset: one.offset,
                path: one.path.as_deref(),
            };
            sink.take(&record).map_err(refused)?;
        }
        Ok(())
    }

    fn wait<'s>(
        &self,
        blob: usize,
        mut state: MutexGuard<'s, State<'a>>,
    ) -> Result<MutexGuard<'s, State<'a>>> {
        while state.turn != blob && !state.stopped {
            self.changed.wait(&mut state);
        }
        if state.stopped {
            return Err(Error::new(ErrorKind::Interrupted, "the measurement was stopped"));
        }
        Ok(state)
    }
}

#[cold]
fn refused(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    Error::new(kind, "units cannot be written").with_source(error)
}
