//! What is where in one archive: one pass over its headers, in whatever order they stand.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use bytes::Bytes;

use super::codec::Compression;
use super::input::{Forward, Input, Stream};
use super::tar::{Kind, Walker, failed};
use crate::digest::{Algorithm, Digest, Digester, excerpt};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::layout::{INDEX_FILE, LAYOUT_FILE, MAX_INDEX_ENTRY, check_layout};

/// The most files, and bytes of their names, that one archive may have: what bounds the memory.
pub(super) const MAX_ENTRIES: usize = 1 << 21;
const MAX_NAMES: usize = 256 << 20;

/// Links from link to link.
const MAX_LINKS: usize = 16;

/// Of a compressed archive: documents up to this size are kept from the one pass over it, so many bytes in all.
const KEPT_DOCUMENT: u64 = 256 << 10;
const KEPT_BYTES: u64 = 64 << 20;

/// The largest document beside `index.json` that is read as a whole.
const MAX_DOCUMENT: u64 = MAX_INDEX_ENTRY;

/// The documents of `docker save`.
pub(super) const DOCKER_MANIFEST: &str = "manifest.json";

/// The content of one path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug)]
enum Entry {
    File(Place),
    /// To another path of the archive; None out of it.
    Link(Option<Box<str>>),
    Refused(&'static str),
}

/// Takes a content of a stream, with its size.
pub(super) type Take<'a> = dyn FnMut(Digest, u64, &mut dyn Read) -> Result<()> + 'a;

/// What of the content is kept while an archive is gone through.
enum Keep<'a, 'b> {
    /// Nothing: it can be read in place.
    Nothing,
    /// Documents.
    Documents,
    /// Documents; everything else is given away.
    Give(&'a mut Take<'b>),
}

/// One archive and what is where in it.
#[derive(Debug)]
pub(super) struct Entries {
    input: Input,
    paths: HashMap<Box<str>, Entry>,
    /// Documents of a compressed archive, by their places.
    kept: HashMap<u64, Bytes>,
    /// The directory that the layout is in, with its last slash; empty at the root of the archive.
    directory: String,
}

impl Entries {
    /// Goes through an archive once.
    pub(super) fn scan(input: Input) -> Result<Self> {
        let mut scan = Scan::default();
        let name = input.name().to_owned();
        if input.compression() == Compression::None {
            scan.all(Walker::new(input.raw(), &name), &mut Keep::Nothing)?;
        } else {
            let stream = input.stream().map_err(|error| failed(&name, error))?;
            let whole = scan.all(Walker::new(stream, &name), &mut Keep::Documents)?;
            input.set_whole(whole);
        }
        Self::of_scan(input, scan)
    }

    /// Goes through an archive that is read once: documents are kept, and `take` is given every other content with its size.
    pub(super) fn scan_stream(from: impl Read, name: &str, take: &mut Take<'_>) -> Result<Self> {
        let mut scan = Scan::default();
        scan.all(Walker::new(Stream::new(from), name), &mut Keep::Give(take))?;
        Self::of_scan(Input::nothing(name)?, scan)
    }

    fn of_scan(input: Input, scan: Scan) -> Result<Self> {
        let Scan { paths, kept, .. } = scan;
        let name = input.name().to_owned();
        let directory = find_layout(&paths, &name)?;
        let entries = Self { input, paths, kept, directory };
        if let Some(bytes) = entries.document(LAYOUT_FILE)? {
            check_layout(&bytes)?;
        }
        Ok(entries)
    }

    pub(super) fn name(&self) -> &str {
        self.input.name()
    }

    /// Whether the archive is compressed, so that it is best read in its order.
    pub(super) fn is_compressed(&self) -> bool {
        self.input.compression() != Compression::None
    }

    /// Where the content of a path of the layout is; None where there is none.
    pub(super) fn find(&self, path: &str) -> Result<Option<Place>> {
        let mut path = format!("{}{path}", self.directory);
        for _ in 0..MAX_LINKS {
            match self.paths.get(path.as_str()) {
                None => return Ok(None),
                Some(Entry::File(place)) => return Ok(Some(*place)),
                Some(Entry::Link(Some(to))) => path = to.to_string(),
                Some(Entry::Link(None)) => return Err(self.refused(&path, "a link out of the archive")),
                Some(Entry::Refused(what)) => return Err(self.refused(&path, what)),
            }
        }
        Err(self.refused(&path, "a link to itself"))
    }

    fn refused(&self, path: &str, what: &str) -> Error {
        let (archive, path) = (self.name(), excerpt(path));
        Error::new(ErrorKind::Unsupported, format!("entry is {what}, archive={archive}, entry={path}"))
    }

    /// A reader of what is at a place, from `skip` bytes on.
    pub(super) fn read(&self, place: Place, skip: u64) -> Result<Box<dyn Read + Send + '_>> {
        if let Some(bytes) = self.kept.get(&place.offset).filter(|bytes| bytes.len() as u64 == place.size) {
            let rest = bytes.get(usize::try_from(skip).unwrap_or(usize::MAX)..).unwrap_or_default();
            return Ok(Box::new(rest));
        }
        let (offset, left) = (place.offset.saturating_add(skip), place.size.saturating_sub(skip));
        self.input.range(offset, left).map_err(|error| failed(self.name(), error))
    }

    /// The bytes of what is at a place, which must be small enough.
    pub(super) fn bytes(&self, place: Place, limit: u64) -> Result<Bytes> {
        let Place { size, .. } = place;
        if size > limit {
            let archive = self.name();
            return Err(Error::invalid(format!(
                "document is too large, archive={archive}, size={size}, limit={limit}"
            )));
        }
        if let Some(bytes) = self.kept.get(&place.offset).filter(|bytes| bytes.len() as u64 == size) {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        self.read(place, 0)?.read_to_end(&mut bytes).map_err(|error| failed(self.name(), error))?;
        if (bytes.len() as u64) < size {
            return Err(failed(self.name(), std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes.into())
    }

    /// A small document of the layout.
    pub(super) fn document(&self, path: &str) -> Result<Option<Bytes>> {
        match self.find(path)? {
            Some(place) => self.bytes(place, MAX_DOCUMENT).map(Some),
            None => Ok(None),
        }
    }

    /// The hash of the first so many bytes of an archive that is not compressed.
    pub(super) fn checksum(&self, length: u64) -> Result<Digest> {
        let mut digester = Digester::new(Algorithm::Sha256);
        let mut raw = self.input.raw().take(length);
        std::io::copy(&mut raw, &mut digester).map_err(|error| failed(self.name(), error))?;
        Ok(digester.finish())
    }

    /// The contents below `blobs/`, by their digests.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (Digest, &str)> + '_ {
        self.layout_paths().filter_map(|path| Some((blob_digest(path)?, path)))
    }

    /// Every path of the layout.
    pub(super) fn layout_paths(&self) -> impl Iterator<Item = &str> + '_ {
        self.paths.keys().filter_map(|path| path.strip_prefix(self.directory.as_str()))
    }
}

/// The digest that a path below a layout is the content of.
pub(super) fn blob_digest(path: &str) -> Option<Digest> {
    let (algorithm, encoded) = path.strip_prefix("blobs/")?.split_once('/')?;
    let _: Algorithm = algorithm.parse().ok()?;
    format!("{algorithm}:{encoded}").parse().ok()
}

/// The path of content in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.encoded())
}

#[derive(Default)]
struct Scan {
    paths: HashMap<Box<str>, Entry>,
    names: usize,
    kept: HashMap<u64, Bytes>,
    kept_bytes: u64,
}

impl Scan {
    /// Takes down every entry; what comes later under a name counts. Answers how long the archive is.
    fn all<R: Forward>(&mut self, mut walker: Walker<R>, keep: &mut Keep<'_, '_>) -> Result<u64> {
        while let Some(member) = walker.next()? {
            let Some(path) = normal(&member.path, "") else { continue };
            let entry = match member.kind {
                Kind::File => match self.file(&path, member.offset, member.size, &mut walker, keep)? {
                    Some(entry) => entry,
                    None => continue,
                },
                Kind::HardLink(to) => Entry::Link(normal(&to, "")),
                Kind::Symlink(to) => Entry::Link(normal(&to, parent(&path))),
                Kind::Refused(what) => Entry::Refused(what),
                Kind::Other => continue,
            };
            self.names += path.len();
            self.paths.insert(path, entry);
            if self.paths.len() > MAX_ENTRIES || self.names > MAX_NAMES {
                return Err(Error::invalid(format!("archive has too many entries, limit={MAX_ENTRIES}")));
            }
        }
        Ok(walker.offset())
    }

    /// None of what was given away.
    fn file<R: Forward>(
        &mut self,
        path: &str,
        offset: u64,
        size: u64,
        walker: &mut Walker<R>,
        keep: &mut Keep<'_, '_>,
    ) -> Result<Option<Entry>> {
        let place = Place { offset, size };
        if matches!(keep, Keep::Nothing) {
            return Ok(Some(Entry::File(place)));
        }
        let mut bytes = Vec::new();
        let may_keep = self.may_keep(path, size);
        if may_keep {
            walker.read_to_end(&mut bytes).map_err(|error| match error.downcast::<Error>() {
                Ok(error) => error,
                Err(error) => failed("the archive", error),
            })?;
            if matches!(bytes.first(), None | Some(b'{' | b'[' | 0xef | b' ' | b'\n' | b'\t' | b'\r')) {
                self.kept_bytes += bytes.len() as u64;
                self.kept.insert(offset, bytes.into());
                return Ok(Some(Entry::File(place)));
            }
        }
        let Keep::Give(give) = keep else { return Ok(Some(Entry::File(place))) };
        let Some(digest) = path.find("blobs/").and_then(|at| blob_digest(path.get(at..)?)) else {
            return Ok(Some(Entry::Refused("not kept of a stream: write the archive into a file first")));
        };
        if may_keep {
            give(digest, size, &mut bytes.as_slice())?
        } else {
            give(digest, size, walker)?
        }
        Ok(None)
    }

    fn may_keep(&self, path: &str, size: u64) -> bool {
        let is_document = path.ends_with(".json") || path.ends_with(LAYOUT_FILE);
        let limit = if is_document { MAX_DOCUMENT } else { KEPT_DOCUMENT };
        size <= limit && self.kept_bytes.saturating_add(size) <= KEPT_BYTES
    }
}

/// A path without what says nothing; None where it leads out of the archive, or is no text.
fn normal(path: &[u8], from: &str) -> Option<Box<str>> {
    let path = std::str::from_utf8(path).ok()?;
    // What begins at the root of a machine cannot be told from what begins at that of the archive but by its user.
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    for part in path.split('/') {
        if part == ".." {
            parts.retain(|part| !part.is_empty());
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    parts.retain(|part| !matches!(*part, "" | "."));
    if parts.is_empty() { None } else { Some(parts.join("/").into()) }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The directory of the layout: the one that is in no other that has one.
fn find_layout(paths: &HashMap<Box<str>, Entry>, archive: &str) -> Result<String> {
    let mut directories: BTreeSet<&str> = paths
        .keys()
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name == INDEX_FILE || name == DOCKER_MANIFEST
        })
        .map(|path| parent(path))
        .collect();
    let has = |directory: &str, name: &str| {
        let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        paths.contains_key(path.as_str())
    };
    // A file of that name may be anything where nothing says that it is a layout.
    directories.retain(|directory| {
        directory.is_empty() || has(directory, LAYOUT_FILE) || has(directory, DOCKER_MANIFEST)
    });
    let Some(first) = directories.first().copied() else {
        return Err(Error::invalid(format!(
            "archive is neither an OCI layout nor one of docker save, archive={archive}"
        )));
    };
    if first.is_empty() {
        return Ok(String::new());
    }
    let prefix = format!("{first}/");
    match directories.iter().find(|other| **other != first && !other.starts_with(&prefix)) {
        None => Ok(prefix),
        Some(other) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "archive holds several layouts, archive={archive}, first={}, other={}",
                excerpt(first),
                excerpt(other)
            ),
        )),
    }
}
