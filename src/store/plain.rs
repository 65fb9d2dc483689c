//! Writing into a layout without making it a store: for media that other tools read, on filesystems that offer little.
//!
//! The metadata live in a temporary directory and are made from `index.json` at each open, so nothing of ours stays. All
//! that is asked of the filesystem is to make, rename and sync files: no links, no modes, no exchange of names.

use std::path::Path;

use super::merge::Absence;
use super::open::{Place, look};
use super::options::Options;
use super::preflight::Unknown;
use super::{Core, Store, preflight};
use crate::blobs::Blobs;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Metadata;
use crate::oci::layout::INDEX_FILE;
use crate::sys::{Dir, ScratchDir, StoreLock};

/// Where content waits for its name; there only while somebody writes.
pub(super) const PLAIN_INGEST: &str = ".orlop-ingest";

impl Options {
    /// Opens an OCI layout for writing, or makes one, without making it a store: after [`Store::close`] the directory holds
    /// `oci-layout`, `index.json` and `blobs/` and nothing else of ours. It may be on any filesystem, such as exFAT.
    ///
    /// What is committed is there for other tools, and durable, after [`Store::flush`] or close, not before: a crash leaves
    /// the layout as it was at the last of them. What only a store keeps is lost at close, such as content that no manifest refers to.
    /// One process writes at a time, where directories can be locked; opening costs the entries of `index.json`.
    ///
    /// # Errors
    ///
    /// `Conflict` when the directory is a store; `Invalid` for one that holds something else; `Locked`, naming the holder;
    /// `Corrupt` when `index.json` cannot be read; `NoSpace`, `Io`.
    pub fn open_plain(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.check(path)?;
        let root = Dir::create(path).map_err(|error| Error::io("make the directory", path, error))?;
        let lock = StoreLock::acquire_plain(&root, Some(self.lock_timeout))?;
        // Not before the lock is held: another writer may just be making it.
        match look(path)? {
            Place::Store => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("directory is a store and no plain layout, path={}", path.display()),
                ));
            }
            Place::Other => {
                return Err(Error::invalid(format!(
                    "directory is not empty and not an OCI layout, path={}",
                    path.display()
                )));
            }
            Place::Layout | Place::Empty | Place::Absent => {}
        }
        // Nothing has been made yet, so a refusal leaves it as it was.
        preflight::check(&root, path)?;
        let temporary = ScratchDir::create()
            .map_err(|error| Error::io("make a temporary directory", &std::env::temp_dir(), error))?;
        let metadata = Metadata::open(temporary.path())?;
        let blobs = Blobs::open(&path.join(super::BLOBS), &path.join(PLAIN_INGEST), true)?;
        let mut core = Core::new(self, path, root, blobs, metadata);
        core.plain_lock = lock;
        core.ephemeral = Some(temporary);
        core.recover()?;
        if let Some(damage) = core.index_damage()? {
            core.remove_plain_ingest();
            return Err(Error::corrupt(damage.to_string()));
        }
        core.write_layout_file(Unknown::Refused)?;
        core.take_over()?;
        Ok(core.start())
    }
}

impl Core {
    /// Reads what is there. A file that is there stays as it is until something changes.
    fn take_over(&self) -> Result<()> {
        let fail = |error| Error::io("look for index.json", &self.root, error);
        if !self.root_dir.exists(INDEX_FILE).map_err(fail)? {
            return self.adopt();
        }
        let mut merged = self.publishing.lock();
        self.merge_foreign(Absence::Adopt, &mut merged)?;
        self.signals.take_view();
        Ok(())
    }

    /// Removes the place where content waited. What a crash left in it is cleared by the next writer.
    pub(super) fn remove_plain_ingest(&self) {
        // Left behind, it is an empty directory that no reader minds.
        let _ = self.root_dir.remove_dir(PLAIN_INGEST);
    }
}
