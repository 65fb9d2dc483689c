//! One pass over the plain bytes of a blob, for all granularities.

use std::io::Read;
use std::time::Instant;

use bytes::Bytes;

use super::class::Class;
use super::files::{Files, Hashes, is_zeros};
use super::finding::Findings;
use super::granularity::Granularity;
use super::lane::Lane;
use super::packer::StreamPacker;
use super::plain::{Bounds, Plain};
use super::spare::{Spare, spread};
use super::stages::Stages;
use super::unit::{Found, Packing};
use super::window::{FILL, LARGE_FILL, Source, Window};
use crate::Result;

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
    /// Units of one granularity in their order; they may be changed and are forgotten afterwards. So many threads may help.
    fn take(
        &mut self,
        granularity: usize,
        found: &mut [Found],
        window: &[u8],
        helpers: usize,
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

/// Goes over blobs, one after the other, with buffers that are used again.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    spare: &'a Spare,
    window: Window,
    pub(super) stages: Stages,
}

/// What is under way of one blob.
struct Pass {
    whole: Whole,
    files: Files,
    /// Which granularity is that of files.
    place: Option<usize>,
    lanes: Vec<Lane>,
    /// What the window must keep from.
    keep: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(rules: &'a Rules, spare: &'a Spare) -> Self {
        Self { rules, spare, window: Window::default(), stages: Stages::default() }
    }

    /// Goes over one blob, whose bytes may be in memory as a `whole`. `opens` when it may be compressed or a tar; `digest` is the hash of the whole as a unit.
    pub(super) fn go(
        &mut self,
        reader: Box<dyn Read + Send + '_>,
        whole: Option<Bytes>,
        opens: bool,
        digest: [u8; 32],
        findings: &mut Findings,
        taker: &mut dyn Taker,
    ) -> Result<Walked> {
        let rules = self.rules;
        let mut source = Source::new(Plain::open(reader, opens, rules.bounds, findings), findings);
        let mut pass = Pass::new(rules, opens, digest)?;
        let fits = |whole: &Bytes| whole.len() as u64 <= rules.bounds.bytes;
        self.window.restart(whole.filter(fits).filter(|_| !source.is_compressed()));
        while !self.window.ended() {
            let helpers = self.spare.take();
            let fill = if helpers.count > 0 { LARGE_FILL } else { FILL };
            let read = self.window.advance(pass.keep, fill, &mut source);
            taker.go_on(self.window.end(), source.consumed())?;
            let (window, stages) = (&self.window, &mut self.stages);
            let is_work = helpers.count > 2 || (helpers.count > 0 && source.is_compressed());
            if is_work && !window.is_lent() && !window.ended() {
                // One of them reads what comes next.
                std::thread::scope(|scope| {
                    scope.spawn(|| source.read_ahead(fill));
                    pass.over(window, read, helpers.count - 1, stages, taker)
                })?;
            } else {
                pass.over(window, read, helpers.count, stages, taker)?;
            }
        }
        let length = self.window.end();
        let whole = pass.whole.finish(length)?;
        let all = rules.granularities.iter().enumerate();
        for (at, _) in all.filter(|(_, granularity)| granularity.is_blob()) {
            taker.take(at, &mut [whole.again()], &[], 0, &mut self.stages)?;
        }
        self.stages.read.sum(source.stage);
        let (encoding, stored) = (source.encoding(), source.consumed());
        pass.files.tell(findings);
        let files = pass.files;
        Ok(Walked {
            encoding,
            plain: length,
            stored,
            files: files.is_tar().then_some(files.count),
            structure: files.structure_bytes,
        })
    }
}

impl Pass {
    fn new(rules: &Rules, opens: bool, digest: [u8; 32]) -> Result<Self> {
        let place = rules.granularities.iter().position(Granularity::is_file);
        let lanes: Vec<Lane> = rules
            .granularities
            .iter()
            .enumerate()
            .filter_map(|(at, one)| Lane::of(at, one, rules.with_paths))
            .collect();
        let in_files = lanes.iter().any(Lane::is_in_files);
        let hashes = Hashes { contents: place.is_some(), structure: place.is_some() || in_files };
        Ok(Self {
            whole: Whole::new(digest, rules.packs)?,
            files: Files::new(hashes, rules.packs, rules.nested, opens),
            place,
            lanes,
            keep: 0,
        })
    }

    /// Goes over what the window has, `read` bytes of it for the first time.
    fn over(
        &mut self,
        window: &Window,
        read: usize,
        helpers: usize,
        stages: &mut Stages,
        taker: &mut dyn Taker,
    ) -> Result<()> {
        self.whole.take(window.from(window.end() - read as u64))?;
        let start = Instant::now();
        let files = &mut self.files;
        files.advance(window)?;
        if window.ended() {
            files.end()?;
        }
        if let Some(place) = self.place {
            spread(&mut files.found, helpers, || (), |(), found| found.hash_in(window.bytes()));
            stages.of(place).add(read as u64, start);
            taker.take(place, &mut files.found, window.bytes(), helpers, stages)?;
        }
        let structure = files.found.iter().position(|found| found.class == Class::Structure);
        let structure = structure.map(|at| files.found.swap_remove(at));
        files.found.clear();
        self.keep = files.keep();
        for lane in &mut self.lanes {
            let start = Instant::now();
            lane.told(&files.segments);
            lane.advance(window, helpers)?;
            if let Some(structure) = structure.as_ref().filter(|_| lane.is_in_files()) {
                lane.found.push(structure.again());
            }
            stages.of(lane.granularity).add(read as u64, start);
            taker.take(lane.granularity, &mut lane.found, window.bytes(), helpers, stages)?;
            lane.found.clear();
            self.keep = self.keep.min(lane.keep());
        }
        files.segments.clear();
        Ok(())
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
