//! A witness of the engine's list of its files: how long it was, and what it said.
//!
//! The list (MANIFEST) is written only at its end, and the engine believes whatever it can read of it. One that lost whole
//! entries at its end is a sound list of an older moment: the tables that it does not name are deleted as obsolete, with rows
//! that no log has any more. So the length of the list and the digest of what it holds are put down beside it, and
//! compared before the engine is opened: a list that is shorter now, or says something else up to there, is damage.
//!
//! No crash makes it a false alarm: only bytes of the list that are on the disk are put down. The witness itself is never
//! synced: one from before is true as well, since the list only grows and a new one has a greater number, and one that is
//! torn or gone is none.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys::{self, Dir, Stat};

/// The name of the witness. The engine lets alone what it does not know.
const FILE: &str = "WITNESS";
/// Names the list that counts.
const CURRENT: &str = "CURRENT";
const LIST: &str = "MANIFEST-";

/// The most that is read of the small files.
const MOST: u64 = 512;

/// Which list, and how much of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    pub(super) number: u64,
    pub(super) length: u64,
}

/// Refuses a list that is less than it was. Costs reading the list, which the engine reads as well.
pub(super) fn check(path: &Path) -> Result<()> {
    let fail = |error| Error::io("compare the metadata with their witness", path, error);
    let Some(dir) = open(path).map_err(fail)? else { return Ok(()) };
    // Before CURRENT: a writer may go on to a new list meanwhile, but never back.
    let Some((extent, digest)) = read(&dir).map_err(fail)? else { return Ok(()) };
    let what = match current(&dir).map_err(fail)? {
        None => "the engine's CURRENT is gone",
        // One whose witness did not come to its end, or the smaller number that a repair begins with.
        Some(number) if number != extent.number => return Ok(()),
        Some(number) => {
            let Some(mut list) = dir.open_file(name(number)).map_err(fail)? else { return Ok(()) };
            let stat = Stat::of(&list).map_err(fail)?;
            if stat.size < extent.length {
                "the engine's list of files is shorter than it was"
            } else if digest_of(&mut list, extent.length).map_err(fail)? != digest {
                "the engine's list of files is not what it was"
            } else {
                return Ok(());
            }
        }
    };
    Err(Error::corrupt(format!("{what}, rebuild the store, path={}", path.display())))
}

/// Puts down the list as it is, unless `known` says that it is put down already. `settled` answers whether the engine wrote
/// nothing since it last synced the list; asked after the length was, so that every byte up to there is synced. Otherwise
/// it is synced here.
pub(super) fn note(
    path: &Path,
    known: Option<Extent>,
    settled: impl FnOnce() -> bool,
) -> Result<Option<Extent>> {
    let fail = |error| Error::io("put down the extent of the metadata", path, error);
    let Some(dir) = open(path).map_err(fail)? else { return Ok(known) };
    // The engine may go on to a new list at any time and remove this one; the next note has that.
    let Some(number) = current(&dir).map_err(fail)? else { return Ok(known) };
    let Some(mut list) = dir.open_file(name(number)).map_err(fail)? else { return Ok(known) };
    let extent = Extent { number, length: Stat::of(&list).map_err(fail)?.size };
    if known == Some(extent) {
        return Ok(known);
    }
    if !settled() {
        sys::sync_document(&list, &dir, &name(number)).map_err(fail)?;
    }
    let digest = digest_of(&mut list, extent.length).map_err(fail)?;
    sys::overwrite(&dir, FILE, text(extent, &digest).as_bytes()).map_err(fail)?;
    Ok(Some(extent))
}

/// The list that counts, and its number.
pub(super) fn list(dir: &Dir) -> io::Result<Option<(u64, File)>> {
    let Some(number) = current(dir)? else { return Ok(None) };
    Ok(dir.open_file(name(number))?.map(|list| (number, list)))
}

/// Takes the witness away from metadata that are about to be changed by a repair.
pub(super) fn remove(dir: &Dir) -> io::Result<()> {
    dir.unlink(FILE).map(drop)
}

fn open(path: &Path) -> io::Result<Option<Dir>> {
    match Dir::open_following(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The name of a list.
pub(super) fn name(number: u64) -> String {
    format!("{LIST}{number:06}")
}

/// Of one length whatever it says, so that it is written over in place.
fn text(extent: Extent, digest: &Digest) -> String {
    let record = format!("{:020} {:020} {digest}", extent.number, extent.length);
    let check = Digest::of(record.as_bytes());
    format!("{record} {check}\n")
}

fn parse(text: &str) -> Option<(Extent, Digest)> {
    let mut words = text.lines().next()?.split(' ');
    let mut word = || words.next();
    let extent = Extent { number: word()?.parse().ok()?, length: word()?.parse().ok()? };
    let digest = word()?.parse().ok()?;
    (text == self::text(extent, &digest)).then_some((extent, digest))
}

fn read(dir: &Dir) -> io::Result<Option<(Extent, Digest)>> {
    Ok(small(dir, FILE)?.and_then(|text| parse(&text)))
}

/// The number of the list that counts; none where the file is gone, 0 where it cannot be read, which the engine tells.
fn current(dir: &Dir) -> io::Result<Option<u64>> {
    let text = small(dir, CURRENT)?;
    Ok(text.map(|text| number(text.trim_end()).unwrap_or_default()))
}

/// The number of a list by its name.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(LIST)?.parse().ok()
}

fn small(dir: &Dir, name: &str) -> io::Result<Option<String>> {
    let Some(file) = dir.open_file(name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn digest_of(list: &mut File, length: u64) -> io::Result<Digest> {
    let mut bytes = Vec::new();
    list.take(length).read_to_end(&mut bytes)?;
    Ok(Digest::of(&bytes))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "a test damages files")]

    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn listed(bytes: &[u8]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("CURRENT"), "MANIFEST-000007\n").unwrap();
        fs::write(temp.path().join("MANIFEST-000007"), bytes).unwrap();
        temp
    }

    fn is_refused(path: &Path) -> bool {
        match check(path) {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                true
            }
        }
    }

    #[test]
    fn a_list_may_grow_and_be_followed_but_not_shrink_or_change() {
        let temp = listed(b"one two");
        let (path, list) = (temp.path(), temp.path().join("MANIFEST-000007"));
        assert!(!is_refused(path), "nothing is known yet");
        let known = note(path, None, || true).unwrap();
        assert_eq!(known, Some(Extent { number: 7, length: 7 }));
        assert_eq!(note(path, known, || panic!("it is put down already")).unwrap(), known);
        assert!(!is_refused(path));
        fs::write(&list, b"one two three").unwrap();
        assert!(!is_refused(path));
        for less in [&b"one"[..], b"", b"one tw\0", b"one\0\0\0\0 three"] {
            fs::write(&list, less).unwrap();
            assert!(is_refused(path), "{less:?}");
        }
        fs::write(path.join("MANIFEST-000009"), b"x").unwrap();
        fs::write(path.join("CURRENT"), "MANIFEST-000009\n").unwrap();
        assert!(!is_refused(path), "a new list has no witness yet");
        assert_eq!(note(path, known, || true).unwrap(), Some(Extent { number: 9, length: 1 }));
        fs::remove_file(path.join("CURRENT")).unwrap();
        assert!(is_refused(path));
    }

    #[test]
    fn a_witness_that_is_torn_is_none() {
        let temp = listed(b"one two");
        note(temp.path(), None, || true).unwrap();
        fs::write(temp.path().join("MANIFEST-000007"), b"one").unwrap();
        let witness = temp.path().join(FILE);
        let whole = fs::read(&witness).unwrap();
        assert!(whole.len() < 512 && is_refused(temp.path()));
        for at in (0..whole.len()).step_by(7) {
            fs::write(&witness, &whole[..at]).unwrap();
            assert!(!is_refused(temp.path()), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&witness, changed).unwrap();
            assert!(!is_refused(temp.path()), "changed at {at}");
        }
        remove(&Dir::open(temp.path()).unwrap()).unwrap();
        assert!(!witness.exists());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,80}", number: u64, length: u64) {
            let _ = parse(&text);
            let (extent, digest) = (Extent { number, length }, Digest::of(text.as_bytes()));
            prop_assert_eq!(parse(&self::text(extent, &digest)), Some((extent, digest)));
        }
    }
}
