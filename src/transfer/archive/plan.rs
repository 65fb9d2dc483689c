//! Writing archives straight from a store: planned first, then streamed, without a temporary copy.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use parking_lot::Mutex;

use super::Watch;
use super::codec::Compression;
use super::entries::{DOCKER_MANIFEST, blob_path};
use super::places::Places;
use super::selection::Selection;
use super::volume::{FORMAT, HEADER, Header, Listed, MAX_VOLUMES, SET_INDEX, TRAILER, Trailer};
use super::writer::{ArchiveWriter, entry_len};
use crate::digest::{Algorithm, Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Descriptor;
use crate::oci::layout::{INDEX_FILE, LAYOUT_DOCUMENT, LAYOUT_FILE};

/// The most bytes that a line of a header takes.
const LINE: u64 = 320;
/// The first line, the trailer, and the entries of directories.
const FIXED: u64 = 8192;
/// The least of a content that is worth a part of its own.
const PART: u64 = 1 << 20;

/// What there is to be written.
pub(super) struct Content<'a> {
    pub(super) places: Places<'a>,
    pub(super) selection: Selection,
    /// The `index.json` of everything.
    pub(super) index: Vec<u8>,
    /// The `manifest.json`, if there is to be one.
    pub(super) docker: Option<Vec<u8>>,
    pub(super) time: u64,
    pub(super) compression: Compression,
}

/// What is written into one archive, or into each of some volumes.
pub struct Plan<'a> {
    content: Content<'a>,
    volumes: Vec<Volume>,
    set: String,
    is_set: bool,
    watch: Option<Watch<'a>>,
    /// Contents that are hashed over several volumes: how far, and the hash so far.
    spread: Mutex<HashMap<Digest, (u64, Digester)>>,
}

/// What is in one archive.
#[derive(Debug, Default)]
struct Volume {
    pieces: Vec<Piece>,
    used: u64,
}

/// A content, or a part of one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    digest: Digest,
    size: u64,
    offset: u64,
    length: u64,
}

impl Piece {
    fn listed(&self, at: u64) -> Listed {
        let Self { digest, size, offset, length } = *self;
        Listed { digest, size, offset, length, at }
    }
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("volumes", &self.volumes.len())
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        content: Content<'a>,
        volume_size: Option<u64>,
        watch: Option<Watch<'a>>,
    ) -> Result<Self> {
        let (volumes, set, spread) = (Vec::new(), String::new(), Mutex::new(HashMap::new()));
        let mut plan = Self { content, volumes, set, is_set: volume_size.is_some(), watch, spread };
        match volume_size {
            None => plan.one(),
            Some(size) => plan.several(size)?,
        }
        Ok(plan)
    }

    /// How many archives are written.
    #[must_use]
    pub fn volumes(&self) -> u32 {
        u32::try_from(self.volumes.len()).unwrap_or(u32::MAX)
    }

    /// The set that they are, which is written into each; empty for one archive that is no set.
    #[must_use]
    pub fn set(&self) -> &str {
        &self.set
    }

    /// The manifests that are carried.
    pub fn manifests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.content.selection.manifests.keys().copied()
    }

    /// Everything that is carried, manifests too, with its size.
    pub fn contents(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.content.selection.order.iter().map(|digest| (*digest, self.content.selection.size(digest)))
    }

    /// What is left out because the receiver has it, with its size.
    pub fn known(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.content.selection.known.iter().map(|(digest, size)| (*digest, *size))
    }

    /// Has `watch` told of each content and of how many bytes of it are written, instead of what the exporter was given.
    pub fn set_watch(&mut self, watch: impl FnMut(&Digest, u64) -> ControlFlow<()> + 'a) {
        self.watch = Some(Box::new(watch));
    }

    fn one(&mut self) {
        let piece = |digest: &Digest| {
            let size = self.content.selection.size(digest);
            Piece { digest: *digest, size, offset: 0, length: size }
        };
        // Manifests first: who reads a stream knows then what comes.
        let manifests = self.content.selection.manifests.keys();
        let pieces = manifests.chain(self.content.selection.contents.keys()).map(piece).collect();
        self.volumes = vec![Volume { pieces, used: 0 }];
    }

    /// Lays contents out one after the other; a new volume begins where the next does not fit, and only what fits none is divided. Small content
    /// that a manifest needs is in its volume, although another has it too.
    fn several(&mut self, size: u64) -> Result<()> {
        let documents = [SET_INDEX, INDEX_FILE].map(|path| entry_len(path, self.content.index.len() as u64));
        let docker =
            self.content.docker.as_ref().map_or(0, |bytes| entry_len(DOCKER_MANIFEST, bytes.len() as u64));
        let fixed = documents.iter().sum::<u64>() + docker + FIXED;
        let room = size.saturating_sub(fixed);
        if room < 2 * PART {
            let least = fixed + 2 * PART;
            return Err(Error::invalid(format!("volumes are too small, size={size}, least={least}")));
        }
        let cost =
            |digest: &Digest| entry_len(&blob_path(digest), self.content.selection.size(digest)) + LINE;
        let mut volumes = vec![Volume::default()];
        // What is whole in the last of them.
        let mut inside: HashSet<Digest> = HashSet::new();
        for digest in &self.content.selection.order {
            let whole = self.content.selection.size(digest);
            let needed = cost(digest);
            let mut offset = 0;
            while let Some(volume) = volumes.last_mut() {
                let left = room - volume.used;
                let rest = whole - offset;
                if needed <= left && offset == 0 {
                    let again = self.content.selection.small_children(digest, &inside);
                    let fits = again.iter().map(cost).sum::<u64>() <= left - needed;
                    for digest in again.iter().filter(|_| fits).chain([digest]) {
                        let size = self.content.selection.size(digest);
                        volume.pieces.push(Piece { digest: *digest, size, offset: 0, length: size });
                        volume.used += cost(digest);
                        inside.insert(*digest);
                    }
                    break;
                }
                // The part of one that fits no volume: what is left here, if that is worth it.
                let overhead =
                    entry_len(&Piece { digest: *digest, size: whole, offset, length: 0 }.listed(0).path(), 0)
                        + LINE;
                let usable = left.saturating_sub(overhead) / 512 * 512;
                if needed > room && usable >= PART.min(rest) {
                    let length = usable.min(rest);
                    volume.pieces.push(Piece { digest: *digest, size: whole, offset, length });
                    volume.used += overhead + length.next_multiple_of(512);
                    offset += length;
                    if offset == whole {
                        break;
                    }
                }
                volumes.push(Volume::default());
                inside.clear();
            }
        }
        if volumes.len() > MAX_VOLUMES as usize {
            let needed = volumes.len();
            return Err(Error::invalid(format!("too many volumes, needed={needed}, limit={MAX_VOLUMES}")));
        }
        self.volumes = volumes;
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.content.index);
        digester.update(format!("{size} {}", self.content.time).as_bytes());
        for piece in self.volumes.iter().flat_map(|volume| &volume.pieces) {
            digester.update(format!("{} {} {}\n", piece.digest, piece.offset, piece.length).as_bytes());
        }
        self.set = digester.finish().encoded().to_string().chars().take(32).collect();
        Ok(())
    }

    /// Writes the archive, and gives the writer back, flushed.
    ///
    /// # Errors
    ///
    /// `Invalid` when it is to be several volumes; `Corrupt` when content of the store is damaged; `Interrupted`; `Io`, `NoSpace` of the writer.
    pub fn write<W: Write>(&mut self, to: W) -> Result<W> {
        if self.is_set {
            return Err(Error::invalid("this is written as volumes"));
        }
        self.write_archive(0, to)
    }

    /// Writes one of the volumes, counted from one, and gives the writer back, flushed.
    ///
    /// # Errors
    ///
    /// As [`Plan::write`]; `Invalid` when there is no such volume.
    pub fn write_volume<W: Write>(&mut self, number: u32, to: W) -> Result<W> {
        if !self.is_set || number == 0 || number > self.volumes() {
            return Err(Error::invalid(format!("there is no such volume, volume={number}")));
        }
        self.write_archive(number as usize - 1, to)
    }

    fn write_archive<W: Write>(&mut self, at: usize, to: W) -> Result<W> {
        let fail = |error| Error::io("write the archive", Path::new("archive"), error);
        let encoder = self.content.compression.encode(to).map_err(fail)?;
        let mut writer = ArchiveWriter::new(encoder, self.content.time);
        let pieces = self.volumes.get(at).map(|volume| volume.pieces.clone()).unwrap_or_default();
        let index = if self.is_set {
            self.content.selection.index(&self.complete(&pieces))?
        } else {
            self.content.index.clone()
        };
        if self.is_set {
            let header = self.header(at, &pieces, &index)?;
            writer.file(HEADER, &header).map_err(fail)?;
            writer.file(SET_INDEX, &self.content.index).map_err(fail)?;
        }
        writer.file(LAYOUT_FILE, LAYOUT_DOCUMENT).map_err(fail)?;
        writer.file(INDEX_FILE, &index).map_err(fail)?;
        if let Some(docker) = &self.content.docker {
            writer.file(DOCKER_MANIFEST, docker).map_err(fail)?;
        }
        for piece in &pieces {
            self.piece(piece, &mut writer)?;
        }
        if self.is_set {
            let trailer = Trailer {
                set: self.set.clone(),
                volume: u32::try_from(at + 1).unwrap_or(u32::MAX),
                length: writer.position,
                checksum: writer.checksum(),
            };
            let mut bytes = serde_json::to_vec(&trailer).map_err(|error| fail(error.into()))?;
            bytes.push(b'\n');
            writer.file(TRAILER, &bytes).map_err(fail)?;
        }
        let mut to = writer.finish().and_then(super::codec::Encoder::finish).map_err(fail)?;
        to.flush().map_err(fail)?;
        Ok(to)
    }

    /// What a volume says of itself. Places are counted from behind this entry, whose length they would change.
    fn header(&self, at: usize, pieces: &[Piece], index: &[u8]) -> Result<Vec<u8>> {
        let mut position = entry_len(SET_INDEX, self.content.index.len() as u64)
            + entry_len(LAYOUT_FILE, LAYOUT_DOCUMENT.len() as u64)
            + entry_len(INDEX_FILE, index.len() as u64)
            + self.content.docker.as_ref().map_or(0, |bytes| entry_len(DOCKER_MANIFEST, bytes.len() as u64));
        let fail = |error| Error::corrupt("a header cannot be written").with_source(error);
        let header = Header {
            format: FORMAT.into(),
            set: self.set.clone(),
            volume: u32::try_from(at + 1).unwrap_or(u32::MAX),
            volumes: self.volumes(),
            contents: pieces.len() as u64,
        };
        let mut bytes = serde_json::to_vec(&header).map_err(fail)?;
        bytes.push(b'\n');
        let mut algorithms = BTreeSet::new();
        for piece in pieces {
            let path = piece.listed(0).path();
            if piece.length == piece.size && algorithms.insert(piece.digest.algorithm()) {
                position += if algorithms.len() == 1 { 1024 } else { 512 };
            }
            let length = entry_len(&path, piece.length);
            let data = position + length - piece.length.next_multiple_of(512);
            serde_json::to_writer(&mut bytes, &piece.listed(data)).map_err(fail)?;
            bytes.push(b'\n');
            position += length;
        }
        Ok(bytes)
    }

    /// Which manifests are whole in one volume, with everything that they refer to.
    fn complete(&self, pieces: &[Piece]) -> impl Fn(&Digest) -> bool + use<'a> {
        let is_whole = |piece: &&Piece| piece.length == piece.size;
        let whole: HashSet<Digest> = pieces.iter().filter(is_whole).map(|piece| piece.digest).collect();
        let mut complete = HashSet::new();
        // In this order what is referred to comes first.
        for digest in &self.content.selection.order {
            let Some(carried) = self.content.selection.manifests.get(digest) else { continue };
            let has = |child: &Digest| match self.content.selection.manifests.contains_key(child) {
                true => complete.contains(child),
                false => whole.contains(child),
            };
            if whole.contains(digest) && carried.children.iter().all(|child| has(&child.digest)) {
                complete.insert(*digest);
            }
        }
        move |digest| complete.contains(digest)
    }

    fn piece<W: Write>(&mut self, piece: &Piece, writer: &mut ArchiveWriter<W>) -> Result<()> {
        let Piece { digest, size, offset, length } = *piece;
        let (owner, is_manifest) = self.content.selection.owner(&digest)?;
        let place = self.content.places.get(owner)?;
        let reader = place.open(&Descriptor::new("", digest, size), is_manifest, offset)?;
        if length == size {
            writer.blob_directory(digest.algorithm()).map_err(|error| written(error, &digest))?;
        }
        let begun = self.spread.lock().remove(&digest).filter(|(end, _)| *end == offset);
        let mut digester = match begun {
            Some((_, digester)) => Some(digester),
            None if offset == 0 => Some(Digester::new(digest.algorithm())),
            // Volumes that are written in another order: who reads them will tell.
            None => None,
        };
        let (watch, mut done) = (&mut self.watch, offset);
        let mut each = |part: &[u8]| -> io::Result<()> {
            if let Some(digester) = &mut digester {
                digester.update(part);
            }
            done += part.len() as u64;
            match watch.as_mut().map(|watch| watch(&digest, done)) {
                Some(ControlFlow::Break(())) => Err(io::ErrorKind::Interrupted.into()),
                _ => Ok(()),
            }
        };
        writer
            .stream(&piece.listed(0).path(), length, reader, &mut each)
            .map_err(|error| written(error, &digest))?;
        let Some(digester) = digester else { return Ok(()) };
        if offset + length < size {
            self.spread.lock().insert(digest, (offset + length, digester));
            return Ok(());
        }
        let found = digester.finish();
        if found == digest {
            return Ok(());
        }
        Err(place.damaged(&digest, &found))
    }
}

/// Why content could not be written: by what was told to stop, by the store, or by the writer.
fn written(error: io::Error, digest: &Digest) -> Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return Error::new(ErrorKind::Interrupted, "the export was stopped by its caller");
    }
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            let kind = Error::io("write", Path::new("archive"), error.kind().into()).kind();
            Error::new(kind, format!("cannot write the archive, digest={digest}")).with_source(error)
        }
    }
}
