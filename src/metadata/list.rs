//! What the engine's list of its files says of rows: up to which one they are in tables.
//!
//! Logs whose rows are all in tables are removed, so the first log that counts may begin at any row up to the one behind those.
//! One that begins later is not the first: a log before it is lost, or was removed by a live writer since the list was read.
//!
//! An entry of the list says of the tables that it adds up to which row they go, and says so in front of everything whose
//! length depends on its kind. Before the engine lists a table it syncs the logs that the table was made of.

use std::io::{self, Read};
use std::path::Path;

use super::log_tail::records;
use super::witness::{self, Extent};
use crate::error::{Error, Result};
use crate::sys::Dir;

/// The list at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct List {
    /// None where there is no list.
    extent: Option<Extent>,
    /// Every row up to this one was on the disk, and is in a table or in a log that begins no later.
    pub(super) rows: Option<u64>,
}

impl List {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("read the engine's list of files", path, error);
        let dir = match Dir::open_following(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(fail)?,
        };
        let Some((number, mut list)) = witness::list(&dir).map_err(fail)? else { return Ok(Self::default()) };
        let mut bytes = Vec::new();
        list.read_to_end(&mut bytes).map_err(fail)?;
        let rows = records(&bytes).iter().filter_map(|record| rows_of(record)).max();
        Ok(Self { extent: Some(Extent { number, length: bytes.len() as u64 }), rows })
    }

    /// Whether the list is still the same. If it is, no log that counts was removed since.
    pub(super) fn is_current(&self, path: &Path) -> Result<bool> {
        Ok(Self::read(path)?.extent == self.extent)
    }
}

/// The row that an entry names, if it names one.
fn rows_of(mut entry: &[u8]) -> Option<u64> {
    const COMPARATOR: u64 = 1;
    const LOG: u64 = 2;
    const NEXT_FILE: u64 = 3;
    const LAST_ROW: u64 = 4;
    const EARLIER_LOG: u64 = 9;
    const LEAST_LOG: u64 = 10;
    const LAST_FAMILY: u64 = 203;
    const NAME_OF_ALL: u64 = (1 << 13) + 1;
    loop {
        match number(&mut entry)? {
            LAST_ROW => return number(&mut entry),
            LOG | NEXT_FILE | EARLIER_LOG | LEAST_LOG | LAST_FAMILY => drop(number(&mut entry)?),
            COMPARATOR | NAME_OF_ALL => {
                let length = usize::try_from(number(&mut entry)?).ok()?;
                entry = entry.get(length..)?;
            }
            _ => return None,
        }
    }
}

/// Takes a number of seven bits to the byte, the lowest first, from the front.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;
    use crate::metadata::{Metadata, fact};

    #[test]
    fn it_says_up_to_which_row_the_tables_go() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("m");
        assert_eq!(List::read(&path).unwrap(), List::default());
        let metadata = Metadata::open(&path).unwrap();
        for _ in 0..3 {
            for _ in 0..200 {
                let mut rows = metadata.rows();
                rows.put_flag(fact::SPARSE);
                rows.commit(false).unwrap();
            }
            let last = metadata.next_sequence() - 1;
            let before = List::read(&path).unwrap();
            assert!(before.rows.unwrap() < last, "it is in the log only");
            assert!(before.is_current(&path).unwrap());
            metadata.flush().unwrap();
            let after = List::read(&path).unwrap();
            assert_eq!(after.rows, Some(last));
            assert!(!before.is_current(&path).unwrap() && after.is_current(&path).unwrap());
            // Older rows lose their numbers, and the list goes on.
            metadata.compact();
            assert_eq!(List::read(&path).unwrap().rows, Some(last));
        }
        drop(metadata);
        let last = List::read(&path).unwrap().rows;
        drop(Metadata::open(&path).unwrap());
        assert_eq!(List::read(&path).unwrap().rows, last, "a list that is begun anew has it");
    }

    proptest! {
        #[test]
        fn any_entry_is_read(entry in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = rows_of(&entry);
        }
    }
}
