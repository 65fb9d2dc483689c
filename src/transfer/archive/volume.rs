//! Volumes: a layout in several archives, each of which is a layout itself and says what it is part of.
//!
//! `docs/archives.md` has the format byte by byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};

use super::contents::{Contents, Stored, Where};
use super::entries::{Entries, MAX_ENTRIES, Place, blob_path};
use super::tar::{BLOCK, failed};
use crate::digest::{Digest, excerpt};
use crate::error::{Error, ErrorKind, Result};

/// The first entry: what this volume is and what it holds.
pub(super) const HEADER: &str = ".orlop/volume";

/// The last entry: the checksum of everything before it.
pub(super) const TRAILER: &str = ".orlop/volume.sum";

/// The index of the whole set.
pub(super) const SET_INDEX: &str = ".orlop/index.json";

/// The format that is written.
pub(super) const FORMAT: &str = "orlop volume 1";

/// The longest line of a header, and the largest trailer.
const MAX_LINE: u64 = 4096;
const MAX_TRAILER: u64 = 1 << 20;

/// The most volumes of a set.
pub(super) const MAX_VOLUMES: u32 = 10_000;

/// The first line of a header.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Header {
    pub(super) format: String,
    /// The same in every volume of a set, and in no other.
    pub(super) set: String,
    /// From one.
    pub(super) volume: u32,
    pub(super) volumes: u32,
    /// Lines that follow.
    pub(super) contents: u64,
}

/// A content, or a part of one, in a volume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Listed {
    pub(super) digest: Digest,
    /// Of the whole content.
    pub(super) size: u64,
    /// Where in the content this part begins.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Where in the volume the bytes begin, counted from the end of the entry of the header.
    pub(super) at: u64,
}

impl Listed {
    /// The path of its entry.
    pub(super) fn path(&self) -> String {
        if self.length == self.size {
            blob_path(&self.digest)
        } else {
            format!(".orlop/parts/{}/{}.{}", self.digest.algorithm(), self.digest.encoded(), self.offset)
        }
    }
}

/// The last entry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Trailer {
    pub(super) set: String,
    pub(super) volume: u32,
    /// Bytes in front of this entry.
    pub(super) length: u64,
    /// Of these bytes.
    pub(super) checksum: Digest,
}

/// The volumes of one set, as far as they are there.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    /// The same in every volume, and in no other set.
    pub id: String,
    /// How many volumes the set has.
    pub volumes: u32,
    /// Those that are not there, from one.
    pub missing: Vec<u32>,
    /// Those that are, from one, with what messages call them.
    pub present: Vec<(u32, String)>,
}

/// Whether an archive is a volume.
pub(super) fn is_one(archive: &Entries) -> Result<bool> {
    Ok(archive.find(HEADER)?.is_some())
}

fn unreadable(archive: &Entries, what: &str) -> Error {
    Error::corrupt(format!("{what} of the volume cannot be read, archive={}", archive.name()))
}

/// Reads what a volume says of itself; `each` is given what it lists.
fn read_header(archive: &Entries, each: &mut dyn FnMut(Listed, Place) -> Result<()>) -> Result<Header> {
    let Some(place) = archive.find(HEADER)? else {
        return Err(Error::invalid(format!("archive is no volume of a set, archive={}", archive.name())));
    };
    let mut lines = BufReader::new(archive.read(place, 0)?);
    let mut line = |what: &str| -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let fail = |error| failed(archive.name(), error);
        lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(fail)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(unreadable(archive, what)),
        }
    };
    let first = line("the header")?.ok_or_else(|| unreadable(archive, "the header"))?;
    let header: Header = serde_json::from_slice(&first)
        .map_err(|error| unreadable(archive, "the header").with_source(error))?;
    if header.format != FORMAT {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "volume is of another format, archive={}, format={}",
                archive.name(),
                excerpt(&header.format)
            ),
        ));
    }
    if header.volume == 0 || header.volume > header.volumes || header.volumes > MAX_VOLUMES {
        return Err(unreadable(archive, "the number"));
    }
    // It becomes the name of a repository.
    let is_id =
        header.set.len() == 32 && header.set.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return Err(unreadable(archive, "the set"));
    }
    if header.contents > MAX_ENTRIES as u64 {
        return Err(unreadable(archive, "the length of the list"));
    }
    let data = place.offset + place.size.next_multiple_of(BLOCK);
    let mut count = 0;
    while let Some(line) = line("the list")? {
        let listed: Listed = serde_json::from_slice(&line)
            .map_err(|error| unreadable(archive, "the list").with_source(error))?;
        let end = listed.offset.checked_add(listed.length);
        if end.is_none_or(|end| end > listed.size) {
            return Err(unreadable(archive, "the list"));
        }
        let found = archive.find(&listed.path())?;
        let expected = data.checked_add(listed.at).map(|offset| Place { offset, size: listed.length });
        match found {
            Some(found) if Some(found) == expected => each(listed, found)?,
            _ => {
                return Err(Error::corrupt(format!(
                    "volume lacks what it lists, archive={}, volume={}, digest={}",
                    archive.name(),
                    header.volume,
                    listed.digest
                )));
            }
        }
        count += 1;
        if count > header.contents {
            break;
        }
    }
    if count != header.contents {
        return Err(unreadable(archive, "the whole list"));
    }
    Ok(header)
}

/// Reads the trailer, without which the volume is cut.
pub(super) fn read_trailer(archive: &Entries) -> Result<Trailer> {
    let Some(place) = archive.find(TRAILER)? else {
        return Err(Error::corrupt(format!("volume is cut, archive={}", archive.name())));
    };
    let bytes = archive.bytes(place, MAX_TRAILER)?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(archive, "the checksum").with_source(error))
}

/// Joins the volumes of one set, given in any order.
pub(super) fn join(all: Vec<Entries>, partial: bool, contents: &mut Contents) -> Result<Set> {
    let mut volumes: BTreeMap<u32, (Entries, Vec<(Listed, Place)>)> = BTreeMap::new();
    let mut set: Option<(Header, String)> = None;
    for archive in all {
        let mut parts = Vec::new();
        let header = read_header(&archive, &mut |listed, place| {
            if listed.length < listed.size {
                parts.push((listed, place));
            }
            Ok(())
        })?;
        let (first, name) = set.get_or_insert_with(|| (header.clone(), archive.name().to_owned()));
        if (&first.set, first.volumes) != (&header.set, header.volumes) {
            return Err(Error::invalid(format!(
                "volume is of another set, archive={}, set={}, other={name}, set_of_other={}",
                archive.name(),
                excerpt(&header.set),
                excerpt(&first.set)
            )));
        }
        let trailer = read_trailer(&archive)?;
        if (&trailer.set, trailer.volume) != (&header.set, header.volume) {
            return Err(unreadable(&archive, "the checksum"));
        }
        if let Some((other, _)) = volumes.get(&header.volume) {
            return Err(Error::invalid(format!(
                "volume is there twice, volume={}, archive={}, other={}",
                header.volume,
                archive.name(),
                other.name()
            )));
        }
        volumes.insert(header.volume, (archive, parts));
    }
    let Some((header, _)) = set else { return Err(Error::invalid("no volume was given")) };
    let missing: Vec<u32> = (1..=header.volumes).filter(|number| !volumes.contains_key(number)).collect();
    if !missing.is_empty() && !partial {
        let shown: Vec<String> = missing.iter().take(20).map(ToString::to_string).collect();
        return Err(Error::not_found(format!(
            "volumes of the set are missing, missing={}, volumes={}, set={}",
            shown.join(","),
            header.volumes,
            excerpt(&header.set)
        )));
    }
    let present = volumes.iter().map(|(number, (archive, _))| (*number, archive.name().to_owned())).collect();
    let mut spread: BTreeMap<Digest, Vec<(Listed, u32, Place)>> = BTreeMap::new();
    for (archive, parts) in volumes.into_values() {
        let number = u32::try_from(contents.archives.len()).unwrap_or(u32::MAX);
        contents.add(archive)?;
        for (listed, place) in parts {
            spread.entry(listed.digest).or_default().push((listed, number, place));
        }
    }
    for (digest, mut parts) in spread {
        parts.sort_by_key(|(listed, ..)| listed.offset);
        match whole(&parts) {
            Some(size) => {
                let parts = parts.iter().map(|(_, number, place)| (*number, *place)).collect();
                contents.insert(digest, Stored { size, place: Where::Parts(parts) });
            }
            None => contents.loose.extend(parts),
        }
    }
    Ok(Set { id: header.set, volumes: header.volumes, missing, present })
}

/// The size of a content, if parts in this order are all of it.
fn whole(parts: &[(Listed, u32, Place)]) -> Option<u64> {
    let size = parts.first()?.0.size;
    let mut end = 0;
    for (listed, ..) in parts {
        if listed.offset != end || listed.size != size {
            return None;
        }
        end += listed.length;
    }
    (end == size).then_some(size)
}
