//! Filing: journalled content gets its file, then its row goes.
//!
//! Readers look at the journal first and at the file after it, so the file is there, durably, before the row goes. A
//! file takes its name over whatever is there: the same bytes, or damage that is healed.

use bytes::Bytes;

use super::locks::Need;
use super::observe::{self, Work};
use super::{Core, until};
use crate::blobs::Staged;
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Result};
use crate::sys::fault::{self, Call};

/// Rows filed with one sync.
const GROUP_ROWS: usize = 4096;
const GROUP_BYTES: usize = 8 << 20;

/// One journal row on its way.
struct Filed {
    digest: Digest,
    id: u64,
    content: Bytes,
}

impl Core {
    /// Files what is journalled now. What is journalled meanwhile may stay.
    pub(super) fn file_journal(&self) -> Result<()> {
        self.check_writable()?;
        let _filing = self.filing.lock();
        if self.journal.is_empty() {
            return Ok(());
        }
        let _span = observe::enter(Work::File, &self.root);
        let snapshot = self.metadata.snapshot();
        let mut group = Vec::new();
        let mut bytes = 0;
        snapshot.journal_rows(|digest, id, content| {
            group.push(Filed { digest, id, content: Bytes::copy_from_slice(content) });
            bytes += content.len();
            if group.len() >= GROUP_ROWS || bytes >= GROUP_BYTES {
                self.file_group(std::mem::take(&mut group))?;
                bytes = 0;
            }
            Ok(until(false))
        })?;
        self.file_group(group)?;
        if self.journal.is_empty() {
            // The markers of what was removed would cost every later look-up.
            self.metadata.compact_journal();
        }
        Ok(())
    }

    fn file_group(&self, group: Vec<Filed>) -> Result<()> {
        let staged = self.blobs.stage_all(group.iter().map(|filed| (filed.digest, filed.content.clone())))?;
        let early = fault::left_out(Call::KeepJournal, &self.root);
        if early {
            self.drop_rows(&group)?;
        }
        let references: Vec<&Staged> = staged.iter().collect();
        if self.durable() {
            self.blobs.sync_staged(&references).map_err(|error| self.poison(error))?;
        }
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for (filed, staged) in group.iter().zip(staged) {
            let _held = self.locks.content([(&filed.digest, Need::Exclusive)].into_iter());
            // Removed since: the file would be an orphan.
            if !early && self.metadata.view().journal_id(&filed.digest)?.is_none() {
                continue;
            }
            self.name(staged)?;
            if !algorithms.contains(&filed.digest.algorithm()) {
                algorithms.push(filed.digest.algorithm());
            }
        }
        if self.durable() {
            self.blobs.sync_dirs(&algorithms).map_err(|error| self.poison(error))?;
        }
        self.drop_rows(&group)
    }

    /// Gives content its name. The name of the directory may have to be made durable for that.
    pub(super) fn name(&self, staged: Staged) -> Result<()> {
        match self.blobs.name(staged) {
            Err(error) if error.kind() == ErrorKind::Indeterminate => Err(self.poison(error)),
            other => other,
        }
    }

    /// A row that was removed and journalled again meanwhile has another id and stays: its file may be gone.
    ///
    /// Not synced: rows that come back after a crash are filed again.
    fn drop_rows(&self, group: &[Filed]) -> Result<()> {
        for part in group.chunks(256) {
            let _held = self.locks.content(part.iter().map(|filed| (&filed.digest, Need::Exclusive)));
            let mut rows = self.metadata.rows();
            let view = self.metadata.view();
            let (mut count, mut bytes) = (0, 0);
            for filed in part {
                if view.journal_id(&filed.digest)? == Some(filed.id) {
                    rows.delete_journal(&filed.digest, filed.content.len() as u64);
                    count += 1;
                    bytes += filed.content.len() as u64;
                }
            }
            self.write_unsynced(rows)?;
            self.journal.release(count, bytes);
            self.meters.filed.add(count);
            self.meters.journal(self.journal.used());
        }
        Ok(())
    }
}
