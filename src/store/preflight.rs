//! A look at a layout of another tool before anything is written into it, so that a refusal leaves it as it was.

use std::path::Path;

use super::BLOBS;
use super::merge::damage_of;
use super::report::Report;
use crate::digest::Algorithm;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::layout::{INDEX_FILE, LAYOUT_FILE, check_layout};
use crate::sys::Dir;

/// The most that is read of an `oci-layout`.
const MAX_LAYOUT_FILE: u64 = 1 << 16;

/// Refuses a layout that cannot be taken over: whose `index.json` cannot be read, since what it names would be lost with
/// the next one; of another version; with links in place of what it consists of.
pub(super) fn check(root: &Dir, path: &Path) -> Result<()> {
    let blobs = path.join(BLOBS);
    let open = |path: &Path, error| Error::io("open the directory", path, error);
    if let Some(dir) = root.open_dir(BLOBS).map_err(|error| open(&blobs, error))? {
        for algorithm in Algorithm::ALL {
            let name = algorithm.as_str();
            dir.open_dir(name).map_err(|error| open(&blobs.join(name), error))?;
        }
    }
    layout_file_damage(root, path, Unknown::Refused)?;
    let index = path.join(INDEX_FILE);
    let Some(file) = root.open_file(INDEX_FILE).map_err(|error| Error::io("open the file", &index, error))?
    else {
        return Ok(());
    };
    match damage_of(&file)? {
        Some(Report::Damaged { file, reason }) => {
            Err(Error::corrupt(format!("{file} cannot be read, path={}: {reason}", path.display())))
        }
        _ => Ok(()),
    }
}

/// What to make of an `oci-layout` of another version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unknown {
    /// Nobody knows what it means.
    Refused,
    /// The same in a store, which wrote 1.0.0 or found 1.x, but may have been taken over by another tool since: who knows better
    /// rebuilds it.
    RefusedInStore,
    /// A store that is being rebuilt knows what it wrote.
    Damaged,
}

/// Why `oci-layout` cannot be read, if it is there and cannot.
pub(super) fn layout_file_damage(root: &Dir, path: &Path, unknown: Unknown) -> Result<Option<Report>> {
    let path = path.join(LAYOUT_FILE);
    let fail = |error| Error::io("read the layout file", &path, error);
    let Some(file) = root.open_file(LAYOUT_FILE).map_err(fail)? else { return Ok(None) };
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_LAYOUT_FILE), &mut text).map_err(fail)?;
    let damaged =
        |error: &Error| Ok(Some(Report::Damaged { file: LAYOUT_FILE.into(), reason: error.to_string() }));
    match (check_layout(&text), unknown) {
        (Err(error), _) if error.kind() == ErrorKind::Corrupt => damaged(&error),
        (Err(error), Unknown::Damaged) => damaged(&error),
        (Err(error), Unknown::RefusedInStore) => Err(Error::new(
            error.kind(),
            format!(
                "{LAYOUT_FILE} has another version than this store wrote; if no other tool meant that, rebuild the store: \
                 {error}"
            ),
        )),
        (other, _) => other.map(|()| None),
    }
}
