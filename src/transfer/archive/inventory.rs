//! Inventories: what a place has, as a text that travels back to where the next delta is made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use super::codec::{Compression, MAGIC};
use super::open::Archive;
use super::tar::failed;
use crate::digest::{Digest, excerpt};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Repository, Store};
use crate::sys;

/// The first line.
const FIRST: &str = "orlop inventory 1";
/// What the last line begins with.
const LAST: &str = "sum ";

/// The longest line: the longest digest, a size, and what is between.
const MAX_LINE: u64 = 256;
/// The most contents of one inventory, which bounds the memory.
const MAX_CONTENTS: usize = 1 << 24;

/// Rows that are asked for at once.
const PAGE: usize = 1000;

/// Every content that a place has whole, with its size.
///
/// Written as text, sorted, so that the same contents give the same bytes; it ends with a sum, so that one that is cut is no inventory:
///
/// ```text
/// orlop inventory 1
/// sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a 2
/// sum sha256:...
/// ```
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("a"))?;
/// use orlop::transfer::archive::Inventory;
///
/// store.default_repository().push_bytes("{}")?;
/// let have = Inventory::of_store(&store)?;
/// assert_eq!(Inventory::parse(have.to_text().as_bytes())?, have);
/// assert_eq!(have.words().split('-').count(), 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inventory {
    contents: BTreeMap<Digest, u64>,
}

impl Inventory {
    /// What a store or layout has. Content whose file is missing or has another size is left out; hashes are not computed.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn of_store(store: &Store) -> Result<Self> {
        let mut contents = BTreeMap::new();
        let mut after = None;
        loop {
            let page = store.repositories(after.as_ref(), PAGE)?;
            for name in &page.items {
                of_repository(&store.repository(name), &mut contents)?;
            }
            after = page.items.last().cloned();
            if !page.more {
                break;
            }
        }
        let unscoped = store.unscoped();
        let mut whole = BTreeMap::new();
        for (digest, size) in contents {
            match unscoped.reader(&digest) {
                Ok(Some(reader)) if reader.len() == size => {
                    whole.insert(digest, size);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { contents: whole })
    }

    /// What an archive has.
    #[must_use]
    pub fn of_archive(archive: &Archive) -> Self {
        Self { contents: archive.contents().collect() }
    }

    /// Reads one, compressed or not.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is no inventory, is cut, not in order, or its sum is another; `Unsupported` for another compression; `Invalid` beyond 16,777,216 contents.
    pub fn read(from: impl Read + Send + 'static) -> Result<Self> {
        let mut from = BufReader::new(from);
        let fail = |error| failed("inventory", error);
        let head = from.fill_buf().map_err(fail)?;
        let compression = Compression::sniff(head.get(..head.len().min(MAGIC)).unwrap_or_default())?;
        let mut lines = BufReader::new(compression.decode(from).map_err(fail)?);
        Self::lines(&mut lines)
    }

    /// Reads one from a file.
    ///
    /// # Errors
    ///
    /// As [`Inventory::read`]; `NotFound`, `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = sys::open_source(path).map_err(|error| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = Error::io("open the inventory", path, error);
            if is_missing { error.with_kind(ErrorKind::NotFound) } else { error }
        })?;
        Self::read(file)
            .map_err(|error| Error::new(error.kind(), format!("{error}, path={}", path.display())))
    }

    /// Reads the text of one.
    ///
    /// # Errors
    ///
    /// As [`Inventory::read`].
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::lines(&mut &*text)
    }

    fn lines(from: &mut dyn BufRead) -> Result<Self> {
        let mut next = || -> Result<Option<String>> {
            let mut line = String::new();
            (&mut *from)
                .take(MAX_LINE)
                .read_line(&mut line)
                .map_err(|error| Error::corrupt("inventory cannot be read").with_source(error))?;
            if line.is_empty() {
                return Ok(None);
            }
            match line.pop() {
                Some('\n') => Ok(Some(line)),
                _ => Err(Error::corrupt("inventory is cut")),
            }
        };
        // Whatever the first line is, if it can be read at all: anything may have been given for an inventory.
        match next().ok().flatten() {
            Some(line) if line == FIRST => {}
            Some(line) if line.starts_with("orlop inventory ") => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("inventory is of another format, line={}", excerpt(&line)),
                ));
            }
            _ => return Err(Error::corrupt("this is no inventory")),
        }
        let mut contents = BTreeMap::new();
        while let Some(line) = next()? {
            if let Some(sum) = line.strip_prefix(LAST) {
                let found = Self { contents };
                if sum != found.sum().to_string() {
                    return Err(Error::corrupt(format!("inventory is damaged, sum={}", excerpt(sum))));
                }
                return match next()? {
                    None => Ok(found),
                    Some(_) => Err(Error::corrupt("inventory has more behind its end")),
                };
            }
            let wrong = || {
                Error::corrupt(format!("inventory has a line that cannot be read, line={}", excerpt(&line)))
            };
            let (digest, size) = line.split_once(' ').ok_or_else(wrong)?;
            let (digest, size): (Digest, u64) =
                digest.parse().ok().zip(size.parse().ok()).ok_or_else(wrong)?;
            let in_order = contents.last_key_value().is_none_or(|(last, _)| *last < digest);
            if !in_order || line != format!("{digest} {size}") {
                return Err(wrong());
            }
            contents.insert(digest, size);
            if contents.len() > MAX_CONTENTS {
                return Err(Error::invalid(format!("inventory has too many contents, limit={MAX_CONTENTS}")));
            }
        }
        Err(Error::corrupt("inventory is cut"))
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.body();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{LAST}{}", Digest::of(text.as_bytes()));
        text
    }

    /// Writes the text, compressed or not. The writer is not flushed.
    ///
    /// # Errors
    ///
    /// What the writer returned.
    pub fn write(&self, to: impl Write, compression: Compression) -> std::io::Result<()> {
        let mut encoder = compression.encode(to)?;
        encoder.write_all(self.to_text().as_bytes())?;
        encoder.finish().map(drop)
    }

    fn body(&self) -> String {
        let mut text = format!("{FIRST}\n");
        for (digest, size) in &self.contents {
            let _ = writeln!(text, "{digest} {size}");
        }
        text
    }

    /// The hash of everything that it lists, which its last line has.
    #[must_use]
    pub fn sum(&self) -> Digest {
        Digest::of(self.body().as_bytes())
    }

    /// The first 128 bits of the hash in eight words that can be read aloud: each is of consonants and vowels in turn, four bits a
    /// consonant and two bits a vowel.
    #[must_use]
    pub fn words(&self) -> String {
        let hex = self.sum().encoded().to_string();
        let words: Vec<String> = hex
            .as_bytes()
            .chunks(4)
            .take(8)
            .map(|digits| {
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                word(u16::from_str_radix(digits, 16).unwrap_or_default())
            })
            .collect();
        words.join("-")
    }

    /// Whether it lists a content.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.contents.contains_key(digest)
    }

    /// Adds what another one lists.
    pub fn extend(&mut self, other: &Self) {
        self.contents.extend(&other.contents);
    }

    /// Every content with its size, in order of digests.
    pub fn contents(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.contents.iter().map(|(digest, size)| (*digest, *size))
    }

    /// How many contents it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Whether it lists nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The bytes of all that it lists.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.contents.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

impl FromIterator<(Digest, u64)> for Inventory {
    fn from_iter<I: IntoIterator<Item = (Digest, u64)>>(contents: I) -> Self {
        Self { contents: contents.into_iter().collect() }
    }
}

fn of_repository(repository: &Repository, contents: &mut BTreeMap<Digest, u64>) -> Result<()> {
    let mut after = None;
    loop {
        let page = repository.contents(after.as_ref(), PAGE)?;
        contents.extend(page.items.iter().map(|stat| (stat.digest, stat.size)));
        after = page.items.last().map(|stat| stat.digest);
        if !page.more {
            break;
        }
    }
    let mut after = None;
    loop {
        let page = repository.manifests(after.as_ref(), PAGE)?;
        contents.extend(page.items.iter().map(|found| (found.digest, found.size)));
        after = page.items.last().map(|found| found.digest);
        if !page.more {
            return Ok(());
        }
    }
}

/// Sixteen bits as three consonants with two vowels between them.
fn word(bits: u16) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aeiu";
    let consonant = |shift: u32| CONSONANTS.get(usize::from(bits >> shift & 15)).copied().unwrap_or(b'b');
    let vowel = |shift: u32| VOWELS.get(usize::from(bits >> shift & 3)).copied().unwrap_or(b'a');
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].map(char::from).iter().collect()
}
