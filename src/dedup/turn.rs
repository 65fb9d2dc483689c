//! Units of many threads in one order: each blob writes when all before it have ended.

use parking_lot::{Condvar, Mutex};

use super::corpus::Corpus;
use super::unit::{Found, UnitHash, UnitRecord, UnitSink};
use crate::{Error, ErrorKind, Result};

/// The order in which blobs give their units to a sink. Blobs are begun in the order of their numbers, so that the one whose turn it is is
/// always under way.
pub(super) struct Turns<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
    /// By blob: the first image that has it, and its digest.
    blobs: Vec<(&'a str, String)>,
}

struct State<'a> {
    turn: usize,
    stopped: bool,
    sink: &'a mut dyn UnitSink,
}

impl<'a> Turns<'a> {
    pub(super) fn new(sink: &'a mut dyn UnitSink, corpus: &'a Corpus) -> Self {
        let digest = |blob: &super::corpus::Blob| ("", blob.descriptor.digest.to_string());
        let mut blobs: Vec<(&str, String)> = corpus.blobs.iter().map(digest).collect();
        for image in corpus.images.iter().rev() {
            for at in &image.blobs {
                if let Some((name, _)) = blobs.get_mut(*at) {
                    *name = &image.name;
                }
            }
        }
        Self { state: Mutex::new(State { turn: 0, stopped: false, sink }), changed: Condvar::new(), blobs }
    }

    /// Gives units away when it is the turn of their blob.
    pub(super) fn take(&self, blob: usize, granularity: &str, found: &[Found]) -> Result<()> {
        let Some((image, digest)) = self.blobs.get(blob) else { return Ok(()) };
        let mut state = self.wait(blob)?;
        for one in found {
            let hash =
                if granularity == "blob" { UnitHash::Digest(digest) } else { UnitHash::Blake3(one.hash) };
            let record = UnitRecord {
                granularity,
                hash,
                image,
                layer: digest,
                length: one.length,
                offset: one.offset,
                path: one.path.as_deref(),
            };
            state.sink.take(&record)?;
        }
        Ok(())
    }

    /// A blob has ended: it is the turn of the next.
    pub(super) fn end(&self, blob: usize) -> Result<()> {
        self.wait(blob)?.turn += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// Nobody waits any longer.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn wait(&self, blob: usize) -> Result<parking_lot::MutexGuard<'_, State<'a>>> {
        let mut state = self.state.lock();
        while state.turn != blob && !state.stopped {
            self.changed.wait(&mut state);
        }
        if state.stopped {
            return Err(Error::new(ErrorKind::Interrupted, "the measurement was stopped"));
        }
        Ok(state)
    }
}
