//! The chunks of one granularity.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunker::{Chunker, MAX_CHUNK};
use super::class::Class;
use super::files::{Segment, is_zeros};
use super::granularity::{Granularity, Kind};
use super::spare::spread;
use super::unit::{Found, Packing};
use super::window::Window;
use crate::{Error, Result};

/// Less than so much is not divided between threads.
const LEAST_PART: usize = 512 << 10;

/// Cuts one stream.
pub(super) struct Lane {
    pub(super) granularity: usize,
    chunker: Arc<dyn Chunker>,
    at: u64,
    /// What is to be cut, where that is contents alone.
    segments: Option<VecDeque<Segment>>,
    with_paths: bool,
    pub(super) found: Vec<Found>,
}

/// Bytes that are cut from their beginning on.
struct Piece<'a> {
    chunker: &'a dyn Chunker,
    bytes: &'a [u8],
    /// Where they are in the stream, and in the window.
    at: u64,
    place: usize,
    /// Whether what is cut ends with them.
    ends: bool,
    path: Option<&'a str>,
}

impl Lane {
    /// The chunks of a granularity that has some.
    pub(super) fn of(granularity: usize, one: &Granularity, with_paths: bool) -> Option<Self> {
        let Kind::Chunks { chunker, in_files } = &one.0 else { return None };
        Some(Self {
            granularity,
            chunker: Arc::clone(chunker),
            at: 0,
            segments: in_files.then(VecDeque::new),
            with_paths,
            found: Vec::new(),
        })
    }

    pub(super) fn is_in_files(&self) -> bool {
        self.segments.is_some()
    }

    /// Hears of more contents.
    pub(super) fn told(&mut self, new: &[Segment]) {
        let Some(segments) = &mut self.segments else { return };
        let with_paths = self.with_paths;
        let segment = |new: &Segment| Segment {
            path: if with_paths { new.path.clone() } else { None },
            start: new.start,
            end: new.end,
        };
        segments.extend(new.iter().map(segment));
    }

    /// What the window must keep from.
    pub(super) fn keep(&self) -> u64 {
        match &self.segments {
            None => self.at,
            Some(segments) => segments.front().map_or(u64::MAX, |segment| self.at.max(segment.start)),
        }
    }

    /// Cuts what can be cut of what the window has. So many threads help, and the cuts are the same without them.
    pub(super) fn advance(&mut self, window: &Window, helpers: usize) -> Result<()> {
        let chunker = &*self.chunker;
        let Some(segments) = &mut self.segments else {
            let whole = Piece {
                chunker,
                bytes: window.from(self.at),
                at: self.at,
                place: window.place(self.at),
                ends: window.ended(),
                path: None,
            };
            self.at += whole.cut(helpers, &mut self.found)? as u64;
            return Ok(());
        };
        let mut pieces: Vec<(Piece<'_>, Vec<Found>, Result<usize>)> = Vec::new();
        for segment in segments.iter() {
            let at = self.at.max(segment.start);
            let bytes = window.from(at);
            let left = usize::try_from(segment.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let bytes = bytes.get(..left).unwrap_or(bytes);
            let ends = bytes.len() == left || window.ended();
            let path = segment.path.as_deref();
            let piece = Piece { chunker, bytes, at, place: window.place(at), ends, path };
            pieces.push((piece, Vec::new(), Ok(0)));
            if !ends {
                break;
            }
        }
        match pieces.as_mut_slice() {
            [(piece, found, cut)] => *cut = piece.cut(helpers, found),
            several => {
                spread(several, helpers, || (), |(), (piece, found, cut)| *cut = piece.cut_alone(found))
            }
        }
        let mut done = 0;
        for (piece, found, cut) in pieces {
            self.found.extend(found);
            self.at = piece.at + cut? as u64;
            done += usize::from(piece.ends);
        }
        segments.drain(..done);
        Ok(())
    }
}

impl Piece<'_> {
    /// How much was cut: as far as nothing that follows can change a chunk.
    ///
    /// The ends of chunks depend on the bytes from their beginning on alone. So others may begin anywhere, and from the first end that they share with the
    /// chunks before them on theirs are the right ones.
    fn cut(&self, helpers: usize, found: &mut Vec<Found>) -> Result<usize> {
        let most = self.chunker.max_size().clamp(1, MAX_CHUNK);
        let parts = (helpers + 1).min(self.bytes.len() / LEAST_PART.max(most)).max(1);
        // Blocks of one size end at multiples of it.
        let length = self.bytes.len() / parts / most * most;
        if parts == 1 || length == 0 {
            return self.cut_alone(found);
        }
        let (first, others) = std::thread::scope(|scope| {
            let other = |part: usize| {
                let until = if part + 1 == parts { usize::MAX } else { (part + 1) * length };
                scope.spawn(move || {
                    let mut found = Vec::new();
                    // An error counts only if the chunks before it lead there: then it is met again.
                    drop(self.cut_from(part * length, until, &mut found));
                    found
                })
            };
            let threads: Vec<_> = (1..parts).map(other).collect();
            let first = self.cut_from(0, length, found);
            let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<Found>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            (first, threads.into_iter().map(join).collect::<Vec<_>>())
        });
        let mut at = first?;
        for mut other in others {
            loop {
                let start = self.at + at as u64;
                if let Ok(met) = other.binary_search_by_key(&start, |chunk| chunk.offset) {
                    at = other.last().map_or(at, |last| self.end_of(last));
                    found.extend(other.drain(met..));
                    break;
                }
                if other.last().is_none_or(|last| last.offset < start) {
                    break;
                }
                at = self.cut_from(at, at + 1, found)?;
            }
        }
        self.cut_from(at, usize::MAX, found)
    }

    /// Where a chunk ends in what is cut.
    fn end_of(&self, chunk: &Found) -> usize {
        usize::try_from(chunk.offset + chunk.length - self.at).unwrap_or(usize::MAX)
    }

    fn cut_alone(&self, found: &mut Vec<Found>) -> Result<usize> {
        self.cut_from(0, usize::MAX, found)
    }

    /// Chunks from `at` on, until one ends at `until` or behind it; where the last one ends.
    fn cut_from(&self, mut at: usize, until: usize, found: &mut Vec<Found>) -> Result<usize> {
        let most = self.chunker.max_size().min(MAX_CHUNK);
        while at < until {
            let bytes = self.bytes.get(at..).unwrap_or_default();
            if bytes.is_empty() || (bytes.len() < most && !self.ends) {
                break;
            }
            let length = self.chunker.cut(bytes);
            let Some(chunk) = bytes.get(..length).filter(|_| (1..=most).contains(&length)) else {
                return Err(Error::invalid(format!(
                    "a chunker cut where it must not, chunker={}, length={length}, of={}",
                    self.chunker.name(),
                    bytes.len()
                )));
            };
            let start = self.place + at;
            found.push(Found {
                hash: blake3::hash(chunk).into(),
                length: length as u64,
                offset: self.at + at as u64,
                zeros: is_zeros(chunk),
                class: Class::Other,
                path: self.path.map(Into::into),
                packing: Packing::Window(start..start + length),
            });
            at += length;
        }
        Ok(at)
    }
}
