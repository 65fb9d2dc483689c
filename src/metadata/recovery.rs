//! Metadata that were damaged: what only looks so, what is put down of damage, and what can still be read.

use std::io::{self, Read};
use std::path::Path;

use rocksdb::{DB, Options};

use super::log_tail::{BLOCK, Tail, Verdict};
use super::{Extent, Metadata, engine, schema, witness};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Dir};

/// Says that damage was met while the metadata were in use.
const DAMAGE: &str = "DAMAGE";

/// The most that is kept of what was met.
const MOST: usize = 1000;

impl Metadata {
    /// Makes a damaged engine directory openable with what can be read of it. Loses what cannot.
    pub(crate) fn salvage(path: &Path) -> Result<Self> {
        // A bad pointer to a good manifest is the lesser damage: with the newest manifest nothing is lost.
        if let Ok(metadata) = repoint(path).and_then(|()| Self::open_writable(path, Extent::Any)) {
            return Ok(metadata);
        }
        Self::repair(path)
    }

    /// The same with the damage in the tables: those that have it go, and all that is left is read, listed or not.
    pub(crate) fn repair(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("salvage the metadata", path, error);
        lend_families(path)?;
        let cache = schema::cache();
        let options: Options = schema::engine(&cache, false);
        DB::repair(&options, path).map_err(|error| match engine("salvage the metadata", error) {
            // There is nothing to be had from them, however often it is tried.
            error if error.kind() == ErrorKind::Io => error.with_kind(ErrorKind::Corrupt),
            error => error,
        })?;
        // What they tell of is gone now, and not before: a repair that is interrupted is begun anew.
        let dir = Dir::open_following(path).map_err(fail)?;
        witness::remove(&dir).and_then(|()| dir.unlink(DAMAGE)).map_err(fail)?;
        Self::open_writable(path, Extent::Any)
    }
}

/// Cuts off what of the engine's list of files was not written to its end, if that is all that is wrong with it, and answers how
/// many bytes that was.
///
/// A list is made of records as a log is, and its last one is torn by a power cut in the same way. The engine does nothing
/// that counts on a record before it is synced. What was synced earlier has its witness, which was compared before this.
pub(super) fn cut_list(path: &Path) -> Result<Option<u64>> {
    let fail = |error| Error::io("mend the engine's list of files", path, error);
    let dir = Dir::open_following(path).map_err(fail)?;
    let Some((number, mut list)) = witness::list(&dir).map_err(fail)? else { return Ok(None) };
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes).map_err(fail)?;
    let mut tail = Tail::of_list();
    for block in bytes.chunks(BLOCK) {
        tail.block(block);
    }
    let Verdict::Torn(cut) = tail.verdict() else { return Ok(None) };
    let end = usize::try_from(cut.at).ok();
    let Some(whole) = end.and_then(|end| bytes.get(..end)).filter(|whole| !whole.is_empty()) else {
        return Ok(None);
    };
    sys::replace(&dir, &dir, &witness::name(number), whole).map_err(fail)?;
    Ok(Some(cut.dropped))
}

/// Refuses metadata in which damage was met.
pub(super) fn refuse_met(path: &Path) -> Result<()> {
    let fail = |error| Error::io("look for damage of the metadata", path, error);
    let dir = Dir::open_following(path).map_err(fail)?;
    let Some(file) = dir.open_file(DAMAGE).map_err(fail)? else { return Ok(()) };
    let mut what = Vec::new();
    file.take(MOST as u64).read_to_end(&mut what).map_err(fail)?;
    let what = String::from_utf8_lossy(&what).into_owned();
    Err(Error::corrupt(format!(
        "damage was met in the metadata while they were in use, rebuild the store, path={}",
        path.display()
    ))
    .with_source(what))
}

/// Puts down what was met, for the next open.
#[cold]
pub(super) fn put_down_met(path: &Path, error: &Error) -> io::Result<()> {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let text: String = format!("{error}: {cause}").chars().take(MOST / 4).collect();
    let dir = Dir::open_following(path)?;
    sys::replace(&dir, &dir, DAMAGE, text.as_bytes())
}

/// Lets the engine's `CURRENT` name the newest of its manifests.
fn repoint(path: &Path) -> Result<()> {
    const CURRENT: &str = "CURRENT";
    let fail = |error| Error::io("salvage the metadata", path, error);
    let dir = Dir::open(path).map_err(fail)?;
    let mut newest: Option<u64> = None;
    for name in dir.list().map_err(fail)? {
        newest = newest.max(name.map_err(fail)?.to_str().and_then(witness::number));
    }
    let newest = newest
        .ok_or_else(|| Error::corrupt(format!("metadata have no manifest, path={}", path.display())))?;
    sys::replace(&dir, &dir, CURRENT, format!("{}\n", witness::name(newest)).as_bytes()).map_err(fail)
}

/// Gives every family one more table, with nothing but its mark, from fresh metadata that make the same families in the same
/// order: the engine's repair drops what the log has of a family whose tables are all damaged.
fn lend_families(path: &Path) -> Result<()> {
    const LENT: &str = "lent";
    let fail = |error| Error::io("salvage the metadata", path, error);
    let dir = Dir::open(path).map_err(fail)?;
    let names = |dir: &Dir| -> Result<Vec<String>> {
        let names = dir.list().and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(fail)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    };
    let clear = || -> Result<()> {
        let Some(lent) = dir.open_dir(LENT).map_err(fail)? else { return Ok(()) };
        for name in names(&lent)? {
            lent.unlink(&name).map_err(fail)?;
        }
        dir.remove_dir(LENT).map_err(fail)
    };
    // What an interrupted salvage left.
    clear()?;
    let number = |name: &String| -> Option<u64> {
        let digits = name.strip_prefix("MANIFEST-").unwrap_or(name);
        digits.split('.').next()?.parse().ok()
    };
    let mut last = names(&dir)?.iter().filter_map(number).max().unwrap_or_default();
    drop(Metadata::open(&path.join(LENT))?);
    if let Some(lent) = dir.open_dir(LENT).map_err(fail)? {
        for name in names(&lent)?.iter().filter(|name| name.ends_with(".sst")) {
            last += 1;
            lent.rename(name, &dir, format!("{last:06}.sst")).map_err(fail)?;
        }
    }
    clear()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test writes files and may panic")]

    use super::*;

    #[test]
    fn the_newest_list_is_that_of_the_greatest_number() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(repoint(temp.path()).unwrap_err().kind(), ErrorKind::Corrupt);
        for name in ["MANIFEST-999999", "MANIFEST-1000000", "MANIFEST-000007", "MANIFEST-x", "LOG"] {
            std::fs::write(temp.path().join(name), b"").unwrap();
        }
        repoint(temp.path()).unwrap();
        assert_eq!(std::fs::read(temp.path().join("CURRENT")).unwrap(), b"MANIFEST-1000000\n");
    }
}
