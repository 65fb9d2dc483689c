//! The contents of files in a stream, and everything else of it.

use blake3::Hasher;

use super::class::{Class, HEAD};
use super::finding::{FindingKind, Findings};
use super::packer::StreamPacker;
use super::tar::{Step, Tar, is_tar};
use super::unit::{Found, Packing};
use super::window::Window;
use crate::Result;

/// Contents up to this size wait until they are in memory as a whole: then they are packed only where they are new.
const WHOLE: u64 = 4 << 20;

/// Structure never has the key of a content.
const STRUCTURE: &str = "orlop dedup 2026-12-01 structure of a tar";

/// Where a content stands, for who cuts it further.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    pub(super) start: u64,
    /// Beyond the end of the stream if the size is not known, or the stream is broken off.
    pub(super) end: u64,
    pub(super) path: Option<Box<str>>,
}

/// What becomes units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    /// Each content, when its end is here.
    pub(super) contents: bool,
    /// All structure together, at the end.
    pub(super) structure: bool,
}

/// The files of one stream.
pub(super) struct Files {
    form: Form,
    /// How far the stream was read.
    at: u64,
    content: Option<Content>,
    structure: Option<Structure>,
    hashes: Hashes,
    packs: bool,
    nested: u32,
    /// What was found since somebody took it; what stands in the window is not hashed yet.
    pub(super) found: Vec<Found>,
    pub(super) segments: Vec<Segment>,
    pub(super) count: u64,
    pub(super) structure_bytes: u64,
    closed: (u64, u64),
}

enum Form {
    Unknown {
        /// Whether it may be a tar.
        opens: bool,
    },
    /// Archives within each other, the outermost first, and where each ends.
    Tars(Vec<Level>),
    /// One file.
    Whole,
}

/// An archive that is open.
struct Level {
    tar: Tar,
    start: u64,
    end: u64,
}

struct Content {
    start: u64,
    end: u64,
    path: Option<Box<str>>,
    /// Whether it was looked at for being an archive that is to be opened.
    sniffed: bool,
    /// Whether its segment was told.
    told: bool,
    stream: Option<Stream>,
}

/// A content that is hashed as it comes.
struct Stream {
    hasher: Hasher,
    packer: Option<StreamPacker>,
    zeros: bool,
    class: Class,
}

struct Structure {
    hasher: Hasher,
    packer: Option<StreamPacker>,
}

impl Files {
    /// What is hashed becomes units; segments are told in any case.
    /// Unless it `opens`, everything is one file.
    pub(super) fn new(hashes: Hashes, packs: bool, nested: u32, opens: bool) -> Self {
        Self {
            form: Form::Unknown { opens },
            at: 0,
            content: None,
            structure: None,
            hashes,
            packs,
            nested,
            found: Vec::new(),
            segments: Vec::new(),
            count: 0,
            structure_bytes: 0,
            closed: (0, 0),
        }
    }

    /// Whether the stream is a tar.
    pub(super) fn is_tar(&self) -> bool {
        matches!(self.form, Form::Tars(_))
    }

    /// What the window must keep from.
    pub(super) fn keep(&self) -> u64 {
        self.at
    }

    /// Goes over what the window has.
    pub(super) fn advance(&mut self, window: &Window) -> Result<()> {
        loop {
            if self.content.is_some() {
                if !self.content(window)? {
                    return Ok(());
                }
                continue;
            }
            let bytes = window.from(self.at);
            match &mut self.form {
                Form::Unknown { opens } => {
                    if bytes.len() < HEAD && !window.ended() {
                        return Ok(());
                    }
                    if *opens && is_tar(bytes) {
                        self.form = Form::Tars(vec![Level { tar: Tar::default(), start: 0, end: u64::MAX }]);
                    } else {
                        self.form = Form::Whole;
                        if !bytes.is_empty() {
                            self.begin(u64::MAX, None, true);
                        }
                    }
                }
                Form::Whole => return Ok(()),
                Form::Tars(tars) => {
                    let depth = tars.len();
                    let Some(level) = tars.last_mut() else { return Ok(()) };
                    let left = usize::try_from(level.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
                    let within = bytes.get(..left).unwrap_or(bytes);
                    match level.tar.next(within, window.ended() || left <= bytes.len()) {
                        Step::Structure(count) => {
                            let count = count.min(within.len());
                            self.structure(within.get(..count).unwrap_or_default())?;
                        }
                        Step::File { size, path } => {
                            let is_known = u32::try_from(depth - 1).unwrap_or(u32::MAX) >= self.nested;
                            // An inner archive may claim more than it has.
                            let end = self.at.saturating_add(size).min(level.end);
                            self.begin(end, Some(path), is_known);
                        }
                        Step::More => return Ok(()),
                        Step::End if depth > 1 => self.leave(),
                        Step::End => return Ok(()),
                    }
                }
            }
        }
    }

    fn begin(&mut self, end: u64, path: Option<Box<str>>, sniffed: bool) {
        self.content = Some(Content { start: self.at, end, path, sniffed, told: false, stream: None });
    }

    /// Leaves an inner archive.
    fn leave(&mut self) {
        let Form::Tars(tars) = &mut self.form else { return };
        let Some(inner) = tars.pop() else { return };
        if let Some(outer) = tars.last_mut() {
            outer.tar.took(self.at - inner.start, self.at >= inner.end);
        }
    }

    fn structure(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.structure_bytes += bytes.len() as u64;
        if !self.hashes.structure {
            return Ok(());
        }
        if self.structure.is_none() {
            let packer = if self.packs { Some(StreamPacker::new()?) } else { None };
            self.structure = Some(Structure { hasher: Hasher::new_derive_key(STRUCTURE), packer });
        }
        if let Some(structure) = &mut self.structure {
            structure.hasher.update(bytes);
            if let Some(packer) = &mut structure.packer {
                packer.take(bytes)?;
            }
        }
        Ok(())
    }

    /// Goes over a content; false if more of it must be in the window first.
    fn content(&mut self, window: &Window) -> Result<bool> {
        let Some(content) = &mut self.content else { return Ok(true) };
        let bytes = window.from(self.at);
        let left = usize::try_from(content.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        let complete = bytes.len() == left || window.ended();
        if !content.sniffed {
            if bytes.len() < HEAD && !complete {
                return Ok(false);
            }
            content.sniffed = true;
            if is_tar(bytes)
                && let Form::Tars(tars) = &mut self.form
            {
                tars.push(Level { tar: Tar::default(), start: self.at, end: content.end });
                self.content = None;
                return Ok(true);
            }
        }
        if content.stream.is_none() {
            if bytes.len() as u64 <= WHOLE {
                if !complete {
                    return Ok(false);
                }
                let class = Class::of(bytes, false);
                let start = window.place(self.at);
                let found = self.hashes.contents.then(|| Found {
                    // By `Found::hash_in`.
                    hash: [0; 32],
                    length: bytes.len() as u64,
                    offset: content.start,
                    zeros: false,
                    class,
                    path: content.path.clone(),
                    packing: Packing::Window(start..start + bytes.len()),
                });
                return Ok(self.end_content(bytes.len() as u64, left, class, found));
            }
            let packer = if self.packs && self.hashes.contents { Some(StreamPacker::new()?) } else { None };
            let class = Class::of(bytes, false);
            content.stream = Some(Stream { hasher: Hasher::new(), packer, zeros: true, class });
            // It may be cut further before its end is here.
            self.segments.push(Segment {
                start: content.start,
                end: content.end,
                path: content.path.clone(),
            });
            content.told = true;
        }
        if let Some(stream) = content.stream.as_mut().filter(|_| self.hashes.contents) {
            stream.hasher.update(bytes);
            stream.zeros = stream.zeros && is_zeros(bytes);
            if let Some(packer) = &mut stream.packer {
                packer.take(bytes)?;
            }
        }
        if !complete {
            self.at += bytes.len() as u64;
            return Ok(false);
        }
        let Some(Stream { hasher, packer, zeros, class }) = content.stream.take() else { return Ok(true) };
        let length = self.at + bytes.len() as u64 - content.start;
        let packing = match packer {
            Some(packer) => Packing::Done(packer.finish()?),
            None => Packing::None,
        };
        let class = if zeros && self.hashes.contents { Class::Zeros } else { class };
        let found = self.hashes.contents.then(|| Found {
            hash: hasher.finalize().into(),
            length,
            offset: content.start,
            zeros,
            class,
            path: content.path.take(),
            packing,
        });
        Ok(self.end_content(bytes.len() as u64, left, class, found))
    }

    /// At the end of a content, or of the stream in it; of the content so many bytes are here and so many belong to it.
    fn end_content(&mut self, here: u64, left: usize, class: Class, found: Option<Found>) -> bool {
        let Some(content) = self.content.take() else { return true };
        self.at += here;
        let length = self.at - content.start;
        if length > 0 {
            self.count += 1;
            self.found.extend(found);
            if !content.told {
                self.segments.push(Segment { start: content.start, end: self.at, path: content.path });
            }
            if matches!(class, Class::Archive | Class::Compressed) && self.is_tar() {
                self.closed.0 += 1;
                self.closed.1 += length;
            }
        }
        if let Form::Tars(tars) = &mut self.form
            && let Some(level) = tars.last_mut()
        {
            level.tar.took(length, here == left as u64);
        }
        true
    }

    /// At the end of the stream: structure becomes a unit.
    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(Structure { hasher, packer }) = self.structure.take() {
            let packing = match packer {
                Some(packer) => Packing::Done(packer.finish()?),
                None => Packing::None,
            };
            self.found.push(Found {
                hash: hasher.finalize().into(),
                length: self.structure_bytes,
                offset: 0,
                zeros: false,
                class: Class::Structure,
                path: None,
                packing,
            });
        }
        Ok(())
    }

    /// Tells what is odd, once all was read.
    pub(super) fn tell(&self, findings: &mut Findings) {
        let (count, bytes) = self.closed;
        if count > 0 {
            findings.note(
                FindingKind::NestedArchives,
                format!("archives among the files were not opened, count={count}, bytes={bytes}"),
            );
        }
        let Form::Tars(tars) = &self.form else { return };
        let Some(Level { tar, .. }) = tars.first() else { return };
        let odd = tar.oddities();
        if let Some(at) = odd.broken {
            findings.note(
                FindingKind::BrokenTar,
                format!("no header where one belongs, the rest is taken as one piece, offset={at}"),
            );
        }
        if let Some(at) = odd.truncated {
            findings.note(FindingKind::TruncatedTar, format!("the tar ends early, offset={at}"));
        }
        if odd.trailing > 0 {
            findings.note(
                FindingKind::TrailingData,
                format!("something follows the end of the tar, bytes_not_zero={}", odd.trailing),
            );
        }
        if odd.sparse > 0 {
            findings.note(
                FindingKind::SparseFiles,
                format!("sparse files are measured without their holes, count={}", odd.sparse),
            );
        }
    }
}

/// Whether all bytes are zero; tells of most contents by their first.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}
