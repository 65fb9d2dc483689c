//! Room on the disk: a commit is refused while its refusal still changes nothing.
//!
//! Journalled content needs room twice: in the log now, and in a file later, when nobody is left who could be told. So a
//! commit that adds content asks first whether the filesystem has enough for filing all that is journalled, with
//! a margin for the log, the tables and `index.json`. Other programs may take the room meanwhile; then filing waits
//! until there is some.

use super::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// What the engine may need for its tables and its log before it can free anything; on small filesystems a hundredth of
/// them.
const MARGIN: u64 = 16 << 20;
/// What every commit finds free beside its rows before it writes them, whatever it adds or removes: a log that cannot be written is
/// known only once the store is opened again, and it cannot be opened on a full disk.
const LOG: u64 = 256 << 10;
/// Files that the engine and publishing may need.
const MARGIN_FILES: u64 = 32;

impl Core {
    /// `NoSpace` unless there is room for so much more content.
    pub(super) fn check_room(&self, rows: u64, bytes: u64) -> Result<()> {
        self.check_room_of(rows, bytes, bytes)
    }

    /// The same of so much more in the journal, and so many bytes beside it.
    fn check_room_of(&self, rows: u64, journalled: u64, bytes: u64) -> Result<()> {
        let Some(free) = sys::free_space(&self.root_dir) else { return Ok(()) };
        let (needed, files) = self.journal.needs(rows, journalled, free.block);
        let needed = needed.saturating_add(bytes).saturating_add(MARGIN.min(free.total / 100));
        let needed = needed.saturating_add(self.ballast_owed(&free));
        if needed > free.bytes {
            return Err(self.no_room(&format!("needed={needed}, free={}", free.bytes)));
        }
        match free.files {
            Some(left) if files.saturating_add(MARGIN_FILES) > left => {
                Err(self.no_room(&format!("files needed={}, files free={left}", files + MARGIN_FILES)))
            }
            _ => Ok(()),
        }
    }

    /// `NoSpace` unless there is room for a file of so many bytes now, beside what is journalled and what a commit needs.
    pub(super) fn check_room_for_file(&self, size: u64) -> Result<()> {
        self.check_room_of(0, 0, size)
    }

    /// `NoSpace` unless there is room in the log for so many rows and their bytes, for which the ballast is given up.
    pub(super) fn check_log_room(&self, rows: usize, bytes: u64) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let needed = LOG.saturating_add(bytes);
        let lacks = || sys::free_space(&self.root_dir).filter(|free| free.bytes < needed);
        // The log of a plain layout is elsewhere.
        if self.ephemeral.is_some() || lacks().is_none() {
            return Ok(());
        }
        if self.give_up_ballast() && lacks().is_none() {
            return Ok(());
        }
        Err(self.no_room(&format!("needed={needed}")))
    }

    #[cold]
    fn no_room(&self, what: &str) -> Error {
        let path = self.root.display();
        Error::new(ErrorKind::NoSpace, format!("filesystem has no room for it, path={path}, {what}"))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use rustix::io::Errno;

    use crate::error::ErrorKind;
    use crate::oci::Tag;
    use crate::store::{Expect, Options, Publish};
    use crate::sys::fault::{self, Call, Fault};

    #[test]
    fn a_disk_with_little_left_refuses_what_adds_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().publish(Publish::Manual).create(dir.path().join("s")).unwrap();
        let repository = store.default_repository();
        let old = repository.push_bytes("old").unwrap().digest;
        let config = repository.push_bytes("{}").unwrap().digest;
        let document = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[]}}"#
        );
        let image = crate::oci::media_type::IMAGE_MANIFEST;
        let manifest = repository.push_manifest(image, document, &[]).unwrap().digest;
        let full = fault::arm(Fault::new(Call::Space, dir.path(), Errno::DQUOT).forever());
        for large in [false, true] {
            let content = if large { vec![1; 100_000] } else { b"new".to_vec() };
            let error = repository.push_bytes(content).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert!(error.to_string().contains("needed="), "{error}");
        }
        // What is there already, tags, reads and removals need nothing.
        assert!(repository.push_bytes("old").unwrap().existed);
        let tag: Tag = "v1".parse().unwrap();
        repository.tag(&tag, &manifest, Expect::Absent).unwrap();
        assert!(repository.get(&old).unwrap().is_some());
        let mut batch = store.batch();
        batch.delete_blob(&repository, &old);
        batch.commit().unwrap();
        drop(full);
        // With nothing left not even that, and it can be tried again.
        let full = fault::arm(Fault::new(Call::Space, dir.path(), Errno::NOSPC).forever());
        let error = repository.untag(&tag, Expect::Any).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::NoSpace);
        assert!(repository.resolve(&tag).unwrap().is_some());
        drop(full);
        repository.untag(&tag, Expect::Any).unwrap();
        repository.push_bytes("new").unwrap();
        store.flush().unwrap();
        store.close().unwrap();
    }
}
