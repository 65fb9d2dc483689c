//! Value encodings. Pure; every record starts with a byte of its own version, and decoding never panics.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{Annotations, Descriptor};

pub(super) const VERSION: u8 = 0;

/// Annotations of a referrer up to this many encoded bytes stay in its row; larger ones are read from the manifest.
const INLINE_ANNOTATIONS: usize = 1024;

/// What the store knows of one content, whoever holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ContentRecord {
    pub(crate) size: u64,
    /// Found to be unlike its digest; a push must bring it again.
    pub(crate) damaged: bool,
    /// Named by a layout that nobody hashed yet (read-only views of foreign layouts).
    pub(crate) unverified: bool,
}

impl ContentRecord {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, damaged: false, unverified: false }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.damaged) | u8::from(self.unverified) << 1];
        put_number(&mut out, self.size);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "content")?;
        let flags = input.byte()?;
        let size = input.number()?;
        input.close()?;
        Ok(Self { size, damaged: flags & 1 != 0, unverified: flags & 2 != 0 })
    }
}

/// How one repository holds one manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ManifestRecord {
    /// As pushed into this repository.
    pub(crate) media_type: String,
    pub(crate) artifact_type: Option<String>,
    /// Position in the order of insertion; also the key of its referrer rows.
    pub(crate) sequence: u64,
    /// Something that it refers to was not held by this repository when it came.
    pub(crate) sparse: bool,
}

impl ManifestRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.sparse)];
        put_number(&mut out, self.sequence);
        put_text(&mut out, &self.media_type);
        put_optional(&mut out, self.artifact_type.as_deref());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "manifest")?;
        let sparse = input.byte()? != 0;
        let sequence = input.number()?;
        let media_type = input.text()?.to_owned();
        let artifact_type = input.optional()?.map(str::to_owned);
        input.close()?;
        Ok(Self { media_type, artifact_type, sequence, sparse })
    }
}

/// One referrer as its subject's list shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ReferrerRecord {
    pub(crate) descriptor: Descriptor,
    pub(crate) created: Option<i64>,
    /// The annotations were too many for the row; the manifest has them.
    pub(crate) annotations_elsewhere: bool,
}

impl ReferrerRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Descriptor { media_type, digest, size, artifact_type, annotations, .. } = &self.descriptor;
        let mut inline = Vec::new();
        put_number(&mut inline, annotations.len() as u64);
        for (key, value) in annotations.iter() {
            put_text(&mut inline, key);
            put_text(&mut inline, value);
        }
        let elsewhere = self.annotations_elsewhere || inline.len() > INLINE_ANNOTATIONS;
        let mut out = vec![VERSION, u8::from(elsewhere) | u8::from(self.created.is_some()) << 1];
        put_number(&mut out, *size);
        if let Some(created) = self.created {
            out.extend_from_slice(&created.to_be_bytes());
        }
        digest.to_key(&mut out);
        put_text(&mut out, media_type);
        put_optional(&mut out, artifact_type.as_deref());
        if !elsewhere {
            out.extend_from_slice(&inline);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "referrer")?;
        let flags = input.byte()?;
        let size = input.number()?;
        let created = if flags & 2 != 0 { Some(input.signed()?) } else { None };
        let digest = input.digest()?;
        let mut descriptor = Descriptor::new(input.text()?, digest, size);
        descriptor.artifact_type = input.optional()?.map(str::to_owned);
        if flags & 1 == 0 {
            descriptor.annotations = input.annotations()?;
        }
        input.close()?;
        Ok(Self { descriptor, created, annotations_elsewhere: flags & 1 != 0 })
    }
}

/// What tells our `index.json` from one that somebody else wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fingerprint {
    /// SHA-256 of the file.
    pub(crate) hash: [u8; 32],
    pub(crate) size: u64,
    pub(crate) inode: u64,
    /// Nanoseconds since the epoch.
    pub(crate) modified: i64,
}

impl Fingerprint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.hash);
        put_number(&mut out, self.size);
        put_number(&mut out, self.inode);
        out.extend_from_slice(&self.modified.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "fingerprint")?;
        let hash = input.array()?;
        let (size, inode, modified) = (input.number()?, input.number()?, input.signed()?);
        input.close()?;
        Ok(Self { hash, size, inode, modified })
    }
}

/// What a tag names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TagRecord {
    pub(crate) target: Digest,
    /// When it last came to name another manifest, in milliseconds since the epoch; unknown after a rebuild.
    pub(crate) changed: Option<u64>,
}

impl TagRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = encode_target(Some(&self.target));
        if let Some(changed) = self.changed {
            put_number(&mut out, changed);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::open(bytes, "tag")?;
        let target = input.digest()?;
        let changed = if input.rest.is_empty() { None } else { Some(input.number()?) };
        input.close()?;
        Ok(Self { target, changed })
    }
}

/// The target of a base row: `None` says that there was none.
pub(crate) fn encode_target(target: Option<&Digest>) -> Vec<u8> {
    let mut out = vec![VERSION];
    if let Some(digest) = target {
        digest.to_key(&mut out);
    }
    out
}

pub(crate) fn decode_target(bytes: &[u8]) -> Result<Option<Digest>> {
    let mut input = Input::open(bytes, "target")?;
    if input.rest.is_empty() {
        return Ok(None);
    }
    let digest = input.digest()?;
    input.close()?;
    Ok(Some(digest))
}

/// A journal row: an id that tells this row from a later one of the same content, then the content.
pub(crate) fn split_journal(row: &[u8]) -> Result<(u64, &[u8])> {
    row.split_first_chunk::<8>()
        .map(|(id, content)| (u64::from_be_bytes(*id), content))
        .ok_or_else(|| malformed("journal"))
}

pub(super) fn malformed(record: &str) -> Error {
    Error::corrupt(format!("metadata holds a malformed record, record={record}"))
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// An absent text is told from an empty one.
pub(super) fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            put_text(out, text);
        }
    }
}

pub(super) struct Input<'a> {
    rest: &'a [u8],
    record: &'static str,
}

impl<'a> Input<'a> {
    pub(super) fn open(bytes: &'a [u8], record: &'static str) -> Result<Self> {
        let mut input = Self { rest: bytes, record };
        if input.byte()? == VERSION { Ok(input) } else { Err(malformed(record)) }
    }

    pub(super) fn malformed(&self) -> Error {
        malformed(self.record)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| malformed(self.record))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().ok_or_else(|| malformed(self.record))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed(self.record))
    }

    fn signed(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(malformed(self.record))
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        let length = usize::try_from(self.number()?).map_err(|_| malformed(self.record))?;
        std::str::from_utf8(self.take(length)?).map_err(|_| malformed(self.record))
    }

    pub(super) fn optional(&mut self) -> Result<Option<&'a str>> {
        if self.byte()? == 0 { Ok(None) } else { self.text().map(Some) }
    }

    pub(super) fn digest(&mut self) -> Result<Digest> {
        let (digest, length) = Digest::from_key(self.rest).ok_or_else(|| malformed(self.record))?;
        self.take(length)?;
        Ok(digest)
    }

    fn annotations(&mut self) -> Result<Annotations> {
        let count = self.number()?;
        let mut annotations = Annotations::with_capacity(usize::try_from(count).unwrap_or_default().min(16));
        for _ in 0..count {
            let key = self.text()?.to_owned();
            annotations.insert(key, self.text()?.to_owned());
        }
        Ok(annotations)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn close(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed(self.record)) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use proptest::prelude::*;

    fn referrer(annotations: Annotations) -> ReferrerRecord {
        let mut descriptor = Descriptor::new("application/x", Digest::of(b"d"), 300);
        descriptor.artifact_type = Some(String::new());
        descriptor.annotations = annotations;
        ReferrerRecord { descriptor, created: Some(-3), annotations_elsewhere: false }
    }

    #[test]
    fn large_annotations_leave_the_row() {
        let record = referrer(Annotations::from([("k".into(), "v".repeat(INLINE_ANNOTATIONS))]));
        let row = record.encode();
        assert!(row.len() < 200, "{}", row.len());
        let read = ReferrerRecord::decode(&row).unwrap();
        assert!(read.annotations_elsewhere);
        assert!(read.descriptor.annotations.is_empty());
    }

    #[test]
    fn a_newer_version_or_trailing_bytes_are_refused() {
        let mut row = ContentRecord::new(5).encode();
        row.push(0);
        assert!(ContentRecord::decode(&row).is_err());
        assert!(ContentRecord::decode(&[VERSION + 1, 0, 5]).is_err());
        assert!(ContentRecord::decode(&[VERSION, 0, 5]).is_ok());
    }

    proptest! {
        #[test]
        fn records_round_trip(size: u64, damaged: bool, text in ".{0,40}", other in proptest::option::of(".{0,40}"), sequence: u64, sparse: bool) {
            let content = ContentRecord { size, damaged, unverified: sparse };
            prop_assert_eq!(ContentRecord::decode(&content.encode()).unwrap(), content);
            let manifest = ManifestRecord { media_type: text.clone(), artifact_type: other.clone(), sequence, sparse };
            prop_assert_eq!(ManifestRecord::decode(&manifest.encode()).unwrap(), manifest);
            let record = referrer(other.into_iter().map(|value| (text.clone(), value)).collect());
            prop_assert_eq!(ReferrerRecord::decode(&record.encode()).unwrap(), record);
            let tag = TagRecord { target: Digest::of(text.as_bytes()), changed: damaged.then_some(sequence) };
            prop_assert_eq!(TagRecord::decode(&tag.encode()).unwrap(), tag);
            let print = Fingerprint { hash: [7; 32], size, inode: sequence, modified: -1 };
            prop_assert_eq!(Fingerprint::decode(&print.encode()).unwrap(), print);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ContentRecord::decode(&bytes);
            let _ = ManifestRecord::decode(&bytes);
            let _ = ReferrerRecord::decode(&bytes);
            let _ = Fingerprint::decode(&bytes);
            let _ = decode_target(&bytes);
            let _ = TagRecord::decode(&bytes);
            let _ = split_journal(&bytes);
        }
    }
}
