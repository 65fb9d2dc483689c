//! One pass over the plain bytes of a blob, for all granularities.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use super::chunker::{Chunker, MAX_CHUNK};
use super::class::Class;
use super::files::{Files, Hashes, Segment, is_zeros};
use super::finding::Findings;
use super::granularity::{Granularity, Kind};
use super::packer::StreamPacker;
use super::plain::{Bounds, Plain};
use super::stages::Stages;
use super::unit::{Found, Packing};
use super::window::Window;
use crate::{Error, Result};

/// How blobs are gone over.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) granularities: Vec<Granularity>,
    pub(super) bounds: Bounds,
    pub(super) nested: u32,
    pub(super) packs: bool,
    /// Whether somebody wants the paths of chunks in files.
    pub(super) with_paths: bool,
}

/// Takes units while their bytes are in the window.
pub(super) trait Taker {
    /// Units of one granularity in their order; they may be changed and are forgotten afterwards.
    fn take(
        &mut self,
        granularity: usize,
        found: &mut [Found],
        window: &[u8],
        stages: &mut Stages,
    ) -> Result<()>;

    /// Told of plain and stored bytes so far; an error ends the walk.
    fn go_on(&mut self, plain: u64, stored: u64) -> Result<()>;
}

/// What is known of a blob after the walk.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) encoding: &'static str,
    pub(super) plain: u64,
    pub(super) stored: u64,
    /// Entries of a tar that have content; None if it is no tar.
    pub(super) files: Option<u64>,
    pub(super) structure: u64,
}

/// The chunks of one granularity.
struct Lane {
    granularity: usize,
    chunker: Arc<dyn Chunker>,
    at: u64,
    /// What is to be cut, where that is contents alone.
    segments: Option<VecDeque<Segment>>,
    found: Vec<Found>,
}

/// Goes over blobs, one after the other, with buffers that are used again.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    window: Window,
    pub(super) stages: Stages,
}

impl<'a> Walk<'a> {
    pub(super) fn new(rules: &'a Rules) -> Self {
        Self { rules, window: Window::default(), stages: Stages::default() }
    }

    /// Goes over one blob. `opens` when it may be compressed or a tar; `digest` is the hash of the whole as a unit.
    pub(super) fn go(
        &mut self,
        reader: Box<dyn Read + Send + '_>,
        opens: bool,
        digest: [u8; 32],
        findings: &mut Findings,
        taker: &mut dyn Taker,
    ) -> Result<Walked> {
        let rules = self.rules;
        let mut plain = Plain::open(reader, opens, rules.bounds, findings);
        let mut blob = Whole::new(digest, rules.packs)?;
        let place = rules.granularities.iter().position(Granularity::is_file);
        let mut lanes = self.lanes();
        let in_files = lanes.iter().any(|lane| lane.segments.is_some());
        let hashes = Hashes { contents: place.is_some(), structure: place.is_some() || in_files };
        let mut files = Files::new(hashes, rules.packs, rules.nested, opens);
        self.window.restart();
        let mut keep = 0;
        loop {
            let start = Instant::now();
            let read = self.window.advance(keep, &mut plain, findings);
            self.stages.read.add(read as u64, start);
            taker.go_on(self.window.end(), plain.consumed())?;
            let new = self.window.from(self.window.end() - read as u64);
            blob.take(new)?;

            let start = Instant::now();
            files.advance(&self.window)?;
            if self.window.ended() {
                files.finish(findings)?;
            }
            if let Some(place) = place {
                self.stages.of(place).add(read as u64, start);
                taker.take(place, &mut files.found, self.window.bytes(), &mut self.stages)?;
            }
            let structure = files.found.iter().position(|found| found.class == Class::Structure);
            let structure = structure.map(|at| files.found.swap_remove(at));
            files.found.clear();
            keep = files.keep();
            for lane in &mut lanes {
                let start = Instant::now();
                lane.told(&files.segments, rules.with_paths);
                lane.advance(&self.window)?;
                if let (Some(_), Some(structure)) = (&lane.segments, &structure) {
                    lane.found.push(structure.again());
                }
                self.stages.of(lane.granularity).add(read as u64, start);
                taker.take(lane.granularity, &mut lane.found, self.window.bytes(), &mut self.stages)?;
                lane.found.clear();
                keep = keep.min(lane.keep());
            }
            files.segments.clear();
            if self.window.ended() {
                break;
            }
        }
        let whole = blob.finish(self.window.end())?;
        for (at, _) in rules.granularities.iter().enumerate().filter(|(_, granularity)| granularity.is_blob())
        {
            taker.take(at, &mut [whole.again()], &[], &mut self.stages)?;
        }
        Ok(Walked {
            encoding: plain.encoding(),
            plain: self.window.end(),
            stored: plain.consumed(),
            files: files.is_tar().then_some(files.count),
            structure: files.structure_bytes,
        })
    }

    fn lanes(&self) -> Vec<Lane> {
        let lane = |(granularity, one): (usize, &Granularity)| match &one.0 {
            Kind::Chunks { chunker, in_files } => Some(Lane {
                granularity,
                chunker: Arc::clone(chunker),
                at: 0,
                segments: in_files.then(VecDeque::new),
                found: Vec::new(),
            }),
            Kind::Blob | Kind::File => None,
        };
        self.rules.granularities.iter().enumerate().filter_map(lane).collect()
    }
}

impl Lane {
    /// Hears of more contents.
    fn told(&mut self, new: &[Segment], with_paths: bool) {
        let Some(segments) = &mut self.segments else { return };
        let segment = |new: &Segment| Segment {
            path: if with_paths { new.path.clone() } else { None },
            start: new.start,
            end: new.end,
        };
        segments.extend(new.iter().map(segment));
    }

    /// What the window must keep from.
    fn keep(&self) -> u64 {
        match &self.segments {
            None => self.at,
            Some(segments) => segments.front().map_or(u64::MAX, |segment| self.at.max(segment.start)),
        }
    }

    /// Cuts what can be cut of what the window has.
    fn advance(&mut self, window: &Window) -> Result<()> {
        loop {
            let (end, path) = match &self.segments {
                None => (u64::MAX, None),
                Some(segments) => match segments.front() {
                    None => return Ok(()),
                    Some(segment) => {
                        self.at = self.at.max(segment.start);
                        (segment.end, segment.path.clone())
                    }
                },
            };
            let bytes = window.from(self.at);
            let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let bytes = bytes.get(..left).unwrap_or(bytes);
            let ends = bytes.len() == left || window.ended();
            if bytes.is_empty() {
                match &mut self.segments {
                    Some(segments) if ends => {
                        segments.pop_front();
                        continue;
                    }
                    _ => return Ok(()),
                }
            }
            let most = self.chunker.max_size().min(MAX_CHUNK);
            if bytes.len() < most && !ends {
                return Ok(());
            }
            let length = self.chunker.cut(bytes);
            let Some(chunk) = bytes.get(..length).filter(|_| (1..=most).contains(&length)) else {
                return Err(Error::invalid(format!(
                    "a chunker cut where it must not, chunker={}, length={length}, of={}",
                    self.chunker.name(),
                    bytes.len()
                )));
            };
            let start = window.place(self.at);
            self.found.push(Found {
                hash: blake3::hash(chunk).into(),
                length: length as u64,
                offset: self.at,
                zeros: is_zeros(chunk),
                class: Class::Other,
                path,
                packing: Packing::Window(start..start + length),
            });
            self.at += length as u64;
        }
    }
}

/// The blob as one unit.
struct Whole {
    digest: [u8; 32],
    packer: Option<StreamPacker>,
    zeros: bool,
}

impl Whole {
    fn new(digest: [u8; 32], packs: bool) -> Result<Self> {
        Ok(Self { digest, packer: if packs { Some(StreamPacker::new()?) } else { None }, zeros: true })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.zeros = self.zeros && is_zeros(bytes);
        match &mut self.packer {
            Some(packer) => packer.take(bytes),
            None => Ok(()),
        }
    }

    fn finish(self, length: u64) -> Result<Found> {
        let packing = match self.packer {
            Some(packer) => Packing::Done(packer.finish()?),
            None => Packing::None,
        };
        Ok(Found {
            hash: self.digest,
            length,
            offset: 0,
            zeros: self.zeros,
            class: Class::Other,
            path: None,
            packing,
        })
    }
}
