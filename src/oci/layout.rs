//! The documents of an image layout (image-spec, `image-layout.md`): `oci-layout` and `index.json`.
//!
//! An index is read and written as a stream, since it may list every tag of every repository.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read, Write};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::descriptor::{Fields, Object, Platform};
use super::json::{self, BOM};
use super::{Annotations, Descriptor, RepositoryName, Tag};
use crate::digest::{Digest, excerpt};
use crate::error::{Error, ErrorKind, Result};

/// The name of the file that marks a layout.
pub const LAYOUT_FILE: &str = "oci-layout";

/// What [`LAYOUT_FILE`] holds.
pub const LAYOUT_DOCUMENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name of the file that lists what a layout holds.
pub const INDEX_FILE: &str = "index.json";

/// The annotation of an index entry that names it (image-spec, `annotations.md`). See [`LayoutName`].
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Our annotation of an index entry: the repositories that hold it, as [`Membership`].
pub const MEMBERSHIP: &str = "dev.orlop.membership";

/// The most bytes that one entry of an index may take, and everything between two entries: what bounds the memory.
pub const MAX_INDEX_ENTRY: u64 = 16 * 1024 * 1024;

/// Checks the content of an `oci-layout` file: any version 1, whatever else it says.
///
/// # Errors
///
/// `Unsupported` for another version, naming it; `Corrupt` if there is none to be read.
pub fn check_layout(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        image_layout_version: String,
    }

    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let Object(Document { image_layout_version: version }) = serde_json::from_slice(bytes)
        .map_err(|error| json::unparsable("oci-layout", &error).with_kind(ErrorKind::Corrupt))?;
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if version.strip_prefix("1.").is_some_and(|rest| rest.split('.').all(number)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("image layout version is not 1.x, version={}", excerpt(&version)),
    ))
}

/// One entry of an `index.json`, as lenient as its reader must be: any media type, any digest.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexEntry {
    /// What the content is said to be; empty if nothing is said.
    pub media_type: String,
    /// The digest as it is written; not checked.
    pub digest: String,
    /// The size of the content in bytes.
    pub size: u64,
    /// What the artifact is.
    pub artifact_type: Option<String>,
    /// Facts about the content, by name.
    pub annotations: Annotations,
    /// What the content, an image, runs on.
    pub platform: Option<Platform>,
    /// Whether it carries its content itself: see [`Descriptor::inlined`].
    pub has_data: bool,
    /// The whole entry in JSON, exactly as it is written.
    pub raw: String,
}

impl IndexEntry {
    fn read(raw: Box<RawValue>) -> serde_json::Result<Self> {
        let Object(fields) = serde_json::from_str::<Object<Fields<String>>>(raw.get())?;
        Ok(Self {
            media_type: fields.media_type,
            digest: fields.digest,
            size: fields.size,
            artifact_type: fields.artifact_type,
            annotations: fields.annotations,
            platform: fields.platform.map(|Object(platform)| platform),
            has_data: fields.data.is_some(),
            raw: Box::<str>::from(raw).into_string(),
        })
    }

    /// The entry as a descriptor, with `urls` and `data`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the digest cannot be one of stored content, naming it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        let _: Digest = self.digest.parse()?;
        serde_json::from_str(&self.raw).map_err(|error| json::unparsable("index entry", &error))
    }

    /// What the entry is named, if it is.
    #[must_use]
    pub fn name(&self) -> Option<LayoutName> {
        self.annotations.get(REF_NAME).map(|name| LayoutName::parse(name))
    }

    /// The repositories that hold it, if it says so in a way that can be read.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.annotations.get(MEMBERSHIP).and_then(|text| Membership::parse(text))
    }
}

/// Reads an `index.json`, giving each entry to `each` as it comes. Memory does not grow with their number.
///
/// Whatever else the document says is ignored, and so is a byte order mark; a list that is null or absent is empty.
///
/// # Errors
///
/// `Corrupt` if it is no index: empty, not a JSON object, an entry without digest or size, or one above
/// [`MAX_INDEX_ENTRY`]. `Io` if it could not be read. Otherwise what `each` returned, as it is. Entries before the error
/// have been given away by then: a caller that must not act on half a document collects first.
pub fn read_index<R: Read>(mut reader: R, each: &mut dyn FnMut(IndexEntry) -> Result<()>) -> Result<()> {
    let mut head = Vec::with_capacity(BOM.len());
    let unreadable = |error| Error::new(ErrorKind::Io, "cannot read index.json").with_source(error);
    (&mut reader).take(BOM.len() as u64).read_to_end(&mut head).map_err(unreadable)?;
    if head == BOM {
        head.clear();
    }

    let budget = Cell::new(MAX_INDEX_ENTRY);
    let mut failure = None;
    // Buffered below the budget, which must not be charged for bytes read ahead.
    let inner = BufReader::new(io::Cursor::new(head).chain(reader));
    let bounded = Bounded { inner, budget: &budget };
    let mut deserializer = serde_json::Deserializer::from_reader(bounded);
    let seed = Document { each, budget: &budget, failure: &mut failure };
    let outcome = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (failure, outcome) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) if budget.get() == 0 => {
            Err(Error::corrupt(format!("one part of index.json is too large, limit={MAX_INDEX_ENTRY}")))
        }
        (None, Err(error)) if error.is_io() => Err(unreadable(io::Error::from(error))),
        (None, Err(error)) => Err(json::unparsable("index.json", &error).with_kind(ErrorKind::Corrupt)),
    }
}

/// A reader that fails when its budget is used up before somebody fills it again.
struct Bounded<'a, R> {
    inner: R,
    budget: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.budget.get().saturating_sub(read as u64);
        self.budget.set(left);
        if left == 0 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
}

/// The document as a whole.
struct Document<'a> {
    each: &'a mut dyn FnMut(IndexEntry) -> Result<()>,
    budget: &'a Cell<u64>,
    failure: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { each, budget, failure } = self;
        let mut listed = false;
        while let Some(name) = members.next_key::<String>()? {
            if name != "manifests" {
                members.next_value::<IgnoredAny>()?;
            } else if listed {
                // The entries of the first are given away already.
                return Err(de::Error::custom("manifests are listed twice"));
            } else {
                listed = true;
                members.next_value_seed(Entries { each: &mut *each, budget, failure: &mut *failure })?;
            }
            budget.set(MAX_INDEX_ENTRY);
        }
        Ok(())
    }
}

/// The list of entries, or null.
struct Entries<'a> {
    each: &'a mut dyn FnMut(IndexEntry) -> Result<()>,
    budget: &'a Cell<u64>,
    failure: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(raw) = entries.next_element::<Box<RawValue>>()? {
            let entry = IndexEntry::read(raw).map_err(de::Error::custom)?;
            if let Err(error) = (self.each)(entry) {
                *self.failure = Some(error);
                return Err(de::Error::custom("stopped by the caller"));
            }
            self.budget.set(MAX_INDEX_ENTRY);
        }
        Ok(())
    }
}

/// Writes an `index.json`, entry by entry, in compact JSON.
///
/// Errors are those of the writer beneath, which knows its path.
#[derive(Debug)]
pub struct IndexWriter<W> {
    inner: W,
    empty: bool,
}

impl<W: Write> IndexWriter<W> {
    /// Starts the document.
    ///
    /// # Errors
    ///
    /// What `inner` returned.
    pub fn new(mut inner: W) -> io::Result<Self> {
        inner.write_all(
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
        )?;
        Ok(Self { inner, empty: true })
    }

    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// What the inner writer returned.
    pub fn entry(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        self.separate()?;
        Ok(serde_json::to_writer(&mut self.inner, descriptor)?)
    }

    /// Writes an entry of another program exactly as it was: [`IndexEntry::raw`].
    ///
    /// # Errors
    ///
    /// `InvalidData`, with nothing written, if it is not one JSON value; otherwise what the inner writer returned.
    pub fn raw(&mut self, entry: &str) -> io::Result<()> {
        if !json::is_json(entry) {
            let message = format!("index entry is not json, entry={}", excerpt(entry));
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.separate()?;
        self.inner.write_all(entry.as_bytes())
    }

    /// Ends the document and gives the writer back. It is not flushed.
    ///
    /// # Errors
    ///
    /// What the inner writer returned.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(b"]}")?;
        Ok(self.inner)
    }

    fn separate(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.empty) { Ok(()) } else { self.inner.write_all(b",") }
    }
}

/// What an index entry is named: a tag of one of our repositories, or something that is kept as it is.
#[expect(clippy::exhaustive_enums, reason = "a name is ours or it is not")]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LayoutName {
    /// `<tag>` in the unnamed repository, `<repository>:<tag>` in a named one.
    Tag(RepositoryName, Tag),
    /// Anything else.
    Foreign(String),
}

impl LayoutName {
    /// Reads a name. The last colon ends the repository, since no tag has one; there is always a result.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let ours = match name.rsplit_once(':') {
            None => name.parse().ok().map(|tag| (RepositoryName::unnamed(), tag)),
            Some((repository, tag)) => repository.parse().ok().zip(tag.parse().ok()),
        };
        match ours {
            Some((repository, tag)) => Self::Tag(repository, tag),
            None => Self::Foreign(name.into()),
        }
    }

    /// Writes the name of a tag, such that [`parse`](Self::parse) gives it back.
    #[must_use]
    pub fn of(repository: &RepositoryName, tag: &Tag) -> String {
        if repository.is_unnamed() { tag.to_string() } else { format!("{repository}:{tag}") }
    }
}

/// Which repositories hold an index entry: the value of [`MEMBERSHIP`], in JSON.
///
/// Displayed with the repositories in order and each once, and without empty lists, so that equal membership gives equal text.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Membership {
    /// The repositories that hold the manifest; the empty name is the unnamed one.
    #[serde(default)]
    pub repositories: Vec<RepositoryName>,
    /// The content that a repository does not hold, although the manifest that it holds refers to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sparse: BTreeMap<RepositoryName, Vec<Digest>>,
}

impl Membership {
    /// Reads the value of the annotation; None if it cannot be understood, since anybody may have written it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(|Object(membership)| membership)
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.clone();
        sorted.repositories.sort();
        sorted.repositories.dedup();
        for digests in sorted.sparse.values_mut() {
            digests.sort();
            digests.dedup();
        }
        sorted.sparse.retain(|_, digests| !digests.is_empty());
        f.write_str(&serde_json::to_string(&sorted).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests;
