//! The FORMAT record: what wrote this store and who may open it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{Dir, Stat, filesystem_id, replace};

/// The name of the record in the private folder. A store is complete once it has one.
pub(super) const FILE: &str = "FORMAT";

const VERSION: u32 = 1;

/// The most that is read of the file.
const MOST: u64 = 1 << 16;

#[expect(clippy::disallowed_types, reason = "the file is small, and ours")]
type Rest = BTreeMap<String, serde_json::Value>;

/// Flags as file systems have them: unknown `compat` is ignored, unknown `ro_compat` allows reading, unknown `incompat`
/// allows nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Format {
    version: u32,
    #[serde(default)]
    compat: Vec<String>,
    #[serde(default)]
    ro_compat: Vec<String>,
    #[serde(default)]
    incompat: Vec<String>,
    /// 128 random bits in hexadecimal.
    id: String,
    root: Root,
    /// What a newer version put there under a flag that may be ignored: it stays.
    #[serde(flatten)]
    rest: Rest,
}

/// Where the store was when the record was written; a copy is somewhere else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Root {
    device: u64,
    inode: u64,
    /// The filesystem's own id, where it has one. A device has another number after each mount of a btrfs, and after a
    /// restart of the machine; and two media that are mounted in turn have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filesystem: Option<u64>,
}

impl Root {
    pub(super) fn of(root: &Dir) -> io::Result<Self> {
        let stat = Stat::of(root.file())?;
        Ok(Self { device: stat.dev, inode: stat.ino, filesystem: filesystem_id(root) })
    }

    fn is(&self, other: &Self) -> bool {
        let same = match (self.filesystem, other.filesystem) {
            (Some(one), Some(other)) => one == other,
            _ => self.device == other.device,
        };
        same && self.inode == other.inode
    }
}

/// The line behind the record, which tells damage from a newer version.
fn check_of(record: &str) -> String {
    Digest::of(record.as_bytes()).to_string()
}

impl Format {
    /// A new store in this directory.
    pub(super) fn new(root: Root) -> Self {
        let (high, low) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        Self {
            version: VERSION,
            compat: Vec::new(),
            ro_compat: Vec::new(),
            incompat: Vec::new(),
            id: format!("{high:016x}{low:016x}"),
            root,
            rest: Rest::new(),
        }
    }

    /// The record of a store; nothing when there is none.
    pub(super) fn read(private: &Dir) -> Result<Option<Self>> {
        let path = private.path().join(FILE);
        let fail = |error| Error::io("read the format record", &path, error);
        let Some(file) = private.open_file(FILE).map_err(fail)? else { return Ok(None) };
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::corrupt(format!(
                "format record cannot be read, rebuild the store, path={}",
                path.display()
            ))
            .with_source(error)
        };
        let mut text = String::new();
        let size = io::Read::read_to_string(&mut io::Read::take(file, MOST), &mut text);
        match size {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(error.into())),
            other => other.map_err(fail)?,
        };
        // A record that nobody could have written is no newer version, whatever it says.
        let record = match text.split_once('\n') {
            Some((record, check)) if check.trim_end() == check_of(record) => record,
            Some(_) => return Err(damaged("its check does not fit".into())),
            None => &text,
        };
        serde_json::from_str(record).map(Some).map_err(|error| damaged(error.into()))
    }

    pub(super) fn write(&self, private: &Dir, staging: &Dir) -> Result<()> {
        let path = private.path().join(FILE);
        let text = serde_json::to_string(self)
            .map_err(|error| Error::invalid("format record cannot be written").with_source(error))?;
        let text = format!("{text}\n{}\n", check_of(&text));
        replace(private, staging, FILE, text.as_bytes())
            .map_err(|error| Error::io("write the format record", &path, error))
    }

    /// Refuses what a newer version wrote, and what one wrote before there was a format to rely on.
    pub(super) fn check(&self, read_only: bool) -> Result<()> {
        if self.version < VERSION {
            let version = self.version;
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("store has an unreleased format, rebuild it, version={version}, supported={VERSION}"),
            ));
        }
        self.refuse_newer(read_only)
    }

    /// Refuses what a newer version wrote: nobody knows what that means.
    pub(super) fn refuse_newer(&self, read_only: bool) -> Result<()> {
        let unsupported = |what: &str, value: &dyn std::fmt::Display| {
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("store was written by a newer orlop, {what}={value}, supported={VERSION}"),
            ))
        };
        if self.version > VERSION {
            return unsupported("version", &self.version);
        }
        if let Some(flag) = self.incompat.first() {
            return unsupported("incompat", flag);
        }
        match self.ro_compat.first() {
            Some(flag) if !read_only => unsupported("ro_compat", flag),
            _ => Ok(()),
        }
    }

    /// Whether the directory is the one that the record was written in.
    pub(super) fn is_at(&self, root: &Root) -> bool {
        self.root.is(root)
    }

    pub(super) fn moved_to(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// The same store, with metadata that were written anew.
    pub(super) fn rebuilt_at(mut self, root: Root) -> Self {
        self.version = VERSION;
        self.moved_to(root)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "a test looks at the file")]

    use super::*;

    #[test]
    fn flags_of_newer_versions_are_refused_as_the_rule_says() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Dir::open(dir.path()).unwrap();
        let plain = Format::new(Root::of(&dir).unwrap());
        assert!(plain.check(false).is_ok());
        let known = |change: fn(&mut Format)| {
            let mut format = plain.clone();
            change(&mut format);
            (format.check(true).is_ok(), format.check(false).is_ok())
        };
        assert_eq!(known(|format| format.compat.push("x".into())), (true, true));
        assert_eq!(known(|format| format.ro_compat.push("x".into())), (true, false));
        assert_eq!(known(|format| format.incompat.push("x".into())), (false, false));
        assert_eq!(known(|format| format.version += 1), (false, false));
        assert_eq!(known(|format| format.version = 0), (false, false));
        let with_more = r#""id":"x","later":{"a":[1]},"root""#;
        let text = serde_json::to_string(&plain).unwrap();
        let text = text.replace(&format!(r#""id":"{}","root""#, plain.id), with_more);
        let more: Format = serde_json::from_str(&text).unwrap();
        let kept = serde_json::to_string(&more.clone().rebuilt_at(more.root)).unwrap();
        assert!(kept.contains(r#""later":{"a":[1]}"#), "{kept}");
        let unreleased = Format { version: 0, ..plain.clone() };
        assert!(unreleased.refuse_newer(false).is_ok(), "it can be rebuilt");
        assert!(unreleased.rebuilt_at(plain.root).check(false).is_ok());
    }

    #[test]
    fn a_filesystem_is_known_by_its_id_and_without_one_by_its_device() {
        let root = |device, inode, filesystem| Root { device, inode, filesystem };
        let format = |written| {
            let dir = tempfile::tempdir().unwrap();
            Format::new(Root::of(&Dir::open(dir.path()).unwrap()).unwrap()).moved_to(written)
        };
        let with = format(root(1, 2, Some(3)));
        assert!(with.is_at(&root(1, 2, Some(3))));
        assert!(with.is_at(&root(9, 2, Some(3))), "mounted again");
        assert!(!with.is_at(&root(1, 2, Some(4))), "another medium in the same place");
        assert!(!with.is_at(&root(1, 7, Some(3))), "another directory");
        assert!(with.is_at(&root(1, 2, None)) && !with.is_at(&root(9, 2, None)));
        let without = format(root(1, 2, None));
        assert!(without.is_at(&root(1, 2, Some(3))) && !without.is_at(&root(9, 2, Some(3))));
        // As earlier builds wrote it.
        let early: Root = serde_json::from_str(r#"{"device":1,"inode":2}"#).unwrap();
        assert_eq!(early, root(1, 2, None));
    }

    #[test]
    fn a_record_is_found_as_it_was_written_and_garbage_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(Format::read(&dir).unwrap(), None);
        let format = Format::new(Root::of(&dir).unwrap());
        format.write(&dir, &dir).unwrap();
        assert_eq!(Format::read(&dir).unwrap(), Some(format));
        let written = std::fs::read_to_string(temp.path().join(FILE)).unwrap();
        let (record, _) = written.split_once('\n').unwrap();
        // A flag of a newer version with a check that fits is one; with one that does not it is damage.
        let newer = record.replace("\"version\":1", "\"version\":4");
        replace(&dir, &dir, FILE, newer.as_bytes()).unwrap();
        assert!(Format::read(&dir).unwrap().unwrap().check(true).is_err());
        replace(&dir, &dir, FILE, format!("{newer}\n{}", check_of(&newer)).as_bytes()).unwrap();
        assert!(Format::read(&dir).unwrap().unwrap().check(true).is_err());
        let rotten = written.replace("\"version\":1", "\"version\":4");
        for damaged in ["{", &rotten, &written[..written.len() - 9], &format!("{record}\n")] {
            replace(&dir, &dir, FILE, damaged.as_bytes()).unwrap();
            let error = Format::read(&dir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(FILE));
        }
        replace(&dir, &dir, FILE, &[0xff, 0xfe]).unwrap();
        assert_eq!(Format::read(&dir).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
