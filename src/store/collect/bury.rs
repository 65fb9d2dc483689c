//! The second phase: files of condemned content go, once no published `index.json` reaches them.

use std::sync::atomic::Ordering;

use super::{Collection, KEPT, LeftFile};
use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::store::locks::Need;
use crate::store::merge::IndexFile;
use crate::store::options::Publish;
use crate::store::{Core, until};
use crate::sys::fault::{self, Call};

/// Files taken away under one set of stripes.
const GROUP: usize = 64;
/// Files taken away before their directories are synced.
const SYNCED: usize = 64 * GROUP;
/// Tombstones that are looked at with one publish.
const MOST: usize = 1 << 16;

/// What became of condemned content.
#[derive(Default)]
pub(in crate::store) struct Buried {
    pub(super) files: u64,
    pub(super) failed: Vec<LeftFile>,
}

impl Core {
    /// Whether an earlier process left condemned content, whose files go with the next publish.
    pub(in crate::store) fn find_condemned(&self) -> Result<()> {
        if self.is_any_condemned()? {
            self.condemned.store(true, Ordering::Release);
            self.signals.committed(false, false);
        }
        Ok(())
    }

    /// What is condemned by now, in order of digests. An `index.json` that is written from a later snapshot does not reach it.
    pub(in crate::store) fn list_condemned(&self) -> Result<Vec<Digest>> {
        if !self.condemned.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let condemned = self.condemned()?;
        // Who removed what held it may just be about to say that `index.json` has changed.
        drop(self.settling.lock());
        Ok(condemned)
    }

    fn is_any_condemned(&self) -> Result<bool> {
        let mut any = false;
        self.metadata.view().tombstones(None, |_| {
            any = true;
            Ok(until(any))
        })?;
        Ok(any)
    }

    fn condemned(&self) -> Result<Vec<Digest>> {
        let mut condemned = Vec::new();
        self.metadata.view().tombstones(None, |digest| {
            condemned.push(digest);
            Ok(until(condemned.len() >= MOST))
        })?;
        Ok(condemned)
    }

    /// Takes the files of condemned content away, unless it is back. The caller publishes nothing and takes nothing in meanwhile,
    /// and what is published reaches none of it.
    pub(in crate::store) fn bury(&self, condemned: &[Digest]) -> Result<Buried> {
        let mut buried = Buried::default();
        if condemned.is_empty() {
            return Ok(buried);
        }
        // The log has what was condemned before anything is lost by it.
        if self.durable() && !fault::left_out(Call::SyncCondemned, &self.root) {
            self.metadata.sync().map_err(|error| self.poison(error))?;
        }
        for part in condemned.chunks(SYNCED) {
            let mut gone = Vec::with_capacity(part.len());
            let mut stopped = false;
            for group in part.chunks(GROUP) {
                // A checkpoint gives files further names, and may take its time.
                let Some(_unlinking) = self.locks.unlinking() else {
                    stopped = true;
                    break;
                };
                self.bury_group(group, &mut gone, &mut buried)?;
            }
            self.forget(&gone)?;
            if stopped {
                break;
            }
        }
        if !self.is_any_condemned()? {
            self.condemned.store(false, Ordering::Release);
            // Content that was condemned since then says so after it.
            if self.is_any_condemned()? {
                self.condemned.store(true, Ordering::Release);
            }
        }
        Ok(buried)
    }

    fn bury_group(&self, group: &[Digest], gone: &mut Vec<Digest>, buried: &mut Buried) -> Result<()> {
        let _held = self.locks.content(group.iter().map(|digest| (digest, Need::Exclusive)));
        let view = self.metadata.view();
        for digest in group {
            if !view.is_tombstone(digest)? {
                continue;
            }
            let back = view.content(digest)?.is_some() && !fault::left_out(Call::LookAgain, &self.root);
            match if back { Ok(false) } else { self.blobs.remove(digest) } {
                Ok(removed) => {
                    gone.push(*digest);
                    buried.files += u64::from(removed);
                }
                Err(error) if buried.failed.len() < KEPT => {
                    let reason = crate::store::rebuild::chain(&error);
                    buried.failed.push(LeftFile { digest: *digest, reason });
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The tombstones of files that are gone have done their duty once that is on the disk. Nothing is condemned meanwhile:
    /// whoever does that waits for the publisher.
    fn forget(&self, gone: &[Digest]) -> Result<()> {
        if self.durable() {
            let mut algorithms: Vec<Algorithm> = gone.iter().map(Digest::algorithm).collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            self.blobs.sync_dirs(&algorithms).map_err(|error| self.poison(error))?;
        }
        let mut rows = self.metadata.rows();
        for digest in gone {
            rows.delete_tombstone(digest);
        }
        // Not synced: a tombstone that comes back finds its file gone, or its content back.
        self.write_unsynced(rows)
    }

    /// Publishes what has to be, and takes the files away. Where publishing is manual, they wait for it.
    pub(super) fn bury_condemned(&self, report: &mut Collection) -> Result<()> {
        if !self.condemned.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut merged = self.publishing.lock();
        loop {
            let condemned = self.list_condemned()?;
            if condemned.is_empty() {
                break;
            }
            // Nothing that `index.json` shows has changed since it was written, so it reaches nothing that nobody holds.
            let current = !self.signals.is_view_changed() && self.inspect_index()? == IndexFile::Ours;
            let buried = if current {
                self.bury(&condemned)?
            } else if self.options.publish == Publish::Manual {
                break;
            } else {
                let buried = self.publish_and_bury(&mut merged, condemned);
                if buried.is_err() {
                    self.signals.view_changed();
                }
                buried?
            };
            report.files += buried.files;
            report.failed.extend(buried.failed);
            report.failed.truncate(KEPT);
            if !report.failed.is_empty() || self.locks.unlinking().is_none() {
                break;
            }
        }
        report.waiting = self.condemned()?.len() as u64;
        Ok(())
    }
}
