//! What is damaged, and how.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orlop::Digest;

use super::stock::{Random, Stock};
use crate::support::*;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Class {
    Index,
    Layout,
    Table,
    Log,
    Manifest,
    Current,
    Format,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Target {
    Content(Digest),
    File(Class),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(_) => f.write_str("Content"),
            Self::File(class) => write!(f, "{class:?}"),
        }
    }
}

impl Target {
    pub(super) fn is_content(self) -> bool {
        matches!(self, Self::Content(_))
    }

    /// Whether it is a file of the engine, or what says what the directory is.
    pub(super) fn is_metadata(self) -> bool {
        matches!(
            self,
            Self::File(Class::Table | Class::Log | Class::Manifest | Class::Current | Class::Format)
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Flip { at: usize, bit: u8 },
    Zero { at: usize, length: usize },
    Truncate { at: usize },
}

#[derive(Debug)]
pub(super) struct Damage {
    pub(super) target: Target,
    path: PathBuf,
    kind: Kind,
}

impl Damage {
    /// A file by its class, so that classes with few files are met as often as others, and a place in it.
    pub(super) fn choose(stock: &Stock, random: &mut Random) -> Self {
        loop {
            let root = stock.dir.root();
            let (target, path) = match random.below(12) {
                0..4 => {
                    let files = stock.files();
                    let digest = files[random.below(files.len())];
                    (Target::Content(digest), blob_path(&root, &digest))
                }
                class => {
                    let class = [
                        Class::Index,
                        Class::Layout,
                        Class::Table,
                        Class::Table,
                        Class::Log,
                        Class::Manifest,
                        Class::Current,
                        Class::Format,
                    ][class - 4];
                    let files = files_of(&root, class);
                    if files.is_empty() {
                        continue;
                    }
                    (Target::File(class), files[random.below(files.len())].clone())
                }
            };
            let bytes = fs::read(&path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let at = random.below(bytes.len());
            let kind = match random.below(4) {
                0 | 1 => Kind::Flip { at, bit: 1 << random.below(8) },
                2 => Kind::Zero { at, length: (1 + random.below(4096)).min(bytes.len() - at) },
                _ => Kind::Truncate { at },
            };
            let damage = Self { target, path, kind };
            if damage.on(&bytes) != bytes {
                return damage;
            }
        }
    }

    fn on(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self.kind {
            Kind::Flip { at, bit } => bytes[at] ^= bit,
            Kind::Zero { at, length } => bytes[at..at + length].fill(0),
            Kind::Truncate { at } => bytes.truncate(at),
        }
        bytes
    }

    /// In place, as a disk does it: name and inode stay.
    pub(super) fn apply(&self) {
        let bytes = fs::read(&self.path).unwrap();
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&self.path, self.on(&bytes)).unwrap();
    }

    /// Where the damage begins.
    pub(super) fn at(&self) -> usize {
        match self.kind {
            Kind::Flip { at, .. } | Kind::Zero { at, .. } | Kind::Truncate { at } => at,
        }
    }
}

fn files_of(root: &Path, class: Class) -> Vec<PathBuf> {
    let named = |name: &str| vec![root.join(name)];
    let engine = |fits: &dyn Fn(&str) -> bool| {
        let mut found: Vec<PathBuf> = fs::read_dir(root.join(".orlop/metadata"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| fits(path.file_name().unwrap().to_str().unwrap()))
            .collect();
        found.sort();
        found
    };
    match class {
        Class::Index => named("index.json"),
        Class::Layout => named("oci-layout"),
        Class::Format => named(".orlop/FORMAT"),
        Class::Current => engine(&|name| name == "CURRENT"),
        Class::Manifest => engine(&|name| name.starts_with("MANIFEST-")),
        Class::Table => engine(&|name| name.ends_with(".sst")),
        Class::Log => engine(&|name| name.ends_with(".log")),
    }
}
