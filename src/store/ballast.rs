//! Ballast: room that is kept for the moment when the disk is full.
//!
//! A store on a full disk cannot be opened for writing, since its lock names its holder and the engine replays its log into
//! tables; and nothing could be removed from it to make room. The ballast is a file that is given up then. Content
//! never gets its room: until the ballast is made anew, a commit that adds content needs so much more.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Core, PRIVATE};
use crate::sys::{self, Dir, Free, TempFile};

const FILE: &str = "ballast";

/// The part of the filesystem that it takes at most.
const SHARE: u64 = 100;

/// Whether there is one.
#[derive(Debug, Default)]
pub(super) struct Ballast(AtomicBool);

impl Core {
    fn wants_ballast(&self) -> bool {
        self.options.ballast > 0 && !self.read_only && self.ephemeral.is_none()
    }

    /// What content has to leave free because the ballast was given up.
    pub(super) fn ballast_owed(&self, free: &Free) -> u64 {
        if self.wants_ballast() && !self.ballast.0.load(Ordering::Relaxed) { size(self, free) } else { 0 }
    }

    /// Makes the ballast where it is missing and there is room for it and as much again. A filesystem that cannot reserve room
    /// does without.
    pub(super) fn take_ballast(&self) {
        if !self.wants_ballast() || self.ballast.0.load(Ordering::Relaxed) {
            return;
        }
        let Some(free) = sys::free_space(&self.root_dir) else { return };
        // Not synced: what a crash undoes is made again.
        let made = self.make_ballast(size(self, &free), free.bytes);
        self.ballast.0.store(made.unwrap_or(false), Ordering::Relaxed);
    }

    fn make_ballast(&self, size: u64, free: u64) -> io::Result<bool> {
        let private = Dir::open(&self.root.join(PRIVATE))?;
        let there = private.stat(FILE)?.map(|stat| stat.size);
        if size == 0 || there == Some(size) || free / 2 < size {
            return Ok(there.is_some());
        }
        let Ok(ingest) = self.blobs.ingest_dir() else { return Ok(false) };
        let temp = TempFile::create(ingest)?;
        temp.reserve(size)?;
        temp.name_as(&private, FILE, true)
    }

    /// Whether there was one; its room is free now.
    pub(super) fn give_up_ballast(&self) -> bool {
        self.ballast.0.store(false, Ordering::Relaxed);
        self.ephemeral.is_none() && Dir::open(&self.root.join(PRIVATE)).is_ok_and(|private| give_up(&private))
    }
}

fn size(core: &Core, free: &Free) -> u64 {
    core.options.ballast.min(free.total / SHARE)
}

/// Gives up the ballast of a store that cannot be opened, whoever made it. Answers whether there was one; its room is free
/// then, and seen to be.
pub(super) fn give_up(private: &Dir) -> bool {
    let file = private.open_to_write(FILE).ok().flatten();
    let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
    // XFS frees what was unlinked when it comes to it, and what is cut off at once.
    let cut = file.is_some_and(|file| file.set_len(0).is_ok());
    let gone = private.unlink(FILE).unwrap_or(false);
    if cut && gone && sys::free_space(private).is_some_and(|free| free.bytes < size) {
        // btrfs frees nothing before it commits. Whoever waits for something to be durable learns of a failure by a handle
        // of his own.
        let _ = sys::sync_filesystem(private);
    }
    gone
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use rustix::io::Errno;

    use crate::error::ErrorKind;
    use crate::store::{Expect, Options, Publish};
    use crate::sys::fault::{Call, Fault, arm};

    const SIZE: u64 = 3 << 20;

    #[test]
    fn it_is_given_up_when_nothing_is_left_and_made_anew_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s");
        let options = Options::new().publish(Publish::Manual).ballast(SIZE);
        let store = options.create(&root).unwrap();
        let (here, ballast) = (store.default_repository(), root.join(".orlop/ballast"));
        let size = std::fs::metadata(&ballast).unwrap().len();
        assert!(size > 0 && size <= SIZE, "{size}");
        let digest = here.push_bytes("old").unwrap().digest;
        let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC).forever());
        let mut batch = store.batch();
        batch.delete_blob(&here, &digest);
        assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::NoSpace);
        assert!(!ballast.exists());
        drop(full);
        store.flush().unwrap();
        assert_eq!(std::fs::metadata(&ballast).unwrap().len(), size);
        let mut batch = store.batch();
        batch.delete_blob(&here, &digest);
        batch.commit().unwrap();
        store.close().unwrap();
    }

    #[test]
    fn an_open_that_meets_a_full_disk_gives_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s");
        let ballast = root.join(".orlop/ballast");
        Options::new().ballast(SIZE).create(&root).unwrap().close().unwrap();
        // Once: there is room when it is tried again.
        let full = arm(Fault::new(Call::OpenRows, &root, Errno::NOSPC));
        let store = Options::new().open(&root).unwrap();
        assert_eq!(full.fired(), 1);
        assert!(!ballast.exists(), "it is not asked for any more");
        store.close().unwrap();
        drop(full);
        let _full = arm(Fault::new(Call::OpenRows, &root, Errno::NOSPC).forever());
        assert_eq!(Options::new().open(&root).unwrap_err().kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn there_is_none_unless_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().create(dir.path().join("s")).unwrap();
        let here = store.default_repository();
        here.push_bytes("x").unwrap();
        assert!(here.untag(&"no".parse().unwrap(), Expect::Any).is_ok());
        store.flush().unwrap();
        assert!(!dir.path().join("s/.orlop/ballast").exists());
    }
}
