//! How sessions end other than by being finished: expired, removed with their repository, lost with their files.

use std::collections::BTreeSet;

use super::{UploadId, is_over};
use crate::error::{ErrorKind, Result};
use crate::metadata::{EventChange, Rows, UploadRecord};
use crate::oci::RepositoryName;
use crate::store::events::Ticket;
use crate::store::plan::Plan;
use crate::store::repositories::stored_name;
use crate::store::reservation::Reservation;
use crate::store::write::Unsynced;
use crate::store::{Core, until};

impl Core {
    /// Finds the sessions of earlier processes, removes those that have expired or whose bytes are not there, and clears what
    /// else is in the ingest directory; answers how many files. Costs the rows of the sessions.
    pub(in crate::store) fn recover_uploads(&self) -> Result<u64> {
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        self.metadata.view().uploads(None, |id, record| {
            if is_over(&record) {
                ends.push(id)
            } else {
                found.push((id, record))
            }
            Ok(until(false))
        })?;
        // One that has no byte yet needs no file, and whatever was written into it does not count.
        let has_bytes = |(id, record): &([u8; 16], UploadRecord)| (record.offset > 0).then_some(*id);
        let expected: BTreeSet<[u8; 16]> = found.iter().filter_map(has_bytes).collect();
        let (cleared, there) = self.blobs.clear_ingest(&expected)?;
        found.retain(|(id, record)| {
            let whole = record.offset == 0 || there.contains(id);
            if !whole {
                ends.push(*id);
            }
            whole
        });
        for (id, record) in &found {
            let reservation = Reservation::nothing(&self.quotas);
            self.uploads.found(UploadId(*id), stored_name(&record.repository)?, record, reservation);
        }
        let mut rows = self.metadata.rows();
        ends.iter().for_each(|id| rows.delete_upload(id));
        // Rows that come back have no file, and go the same way.
        self.write_unsynced(rows)?;
        Ok(cleared)
    }

    /// In a copy the file of a session may be older or newer than its row: what it holds is read again.
    pub(in crate::store) fn distrust_uploads(&self) -> Result<()> {
        let mut rows = self.metadata.rows();
        self.metadata.view().uploads(None, |id, mut record| {
            record.distrust();
            rows.put_upload(&id, &record);
            Ok(until(false))
        })?;
        self.write(rows)
    }

    /// The rows of all sessions go, for a store that has no files of them.
    pub(in crate::store) fn forget_uploads(&self, rows: &mut Rows<'_>) -> Result<()> {
        self.metadata.view().uploads(None, |id, _| {
            rows.delete_upload(&id);
            Ok(until(false))
        })
    }

    /// Removes what has expired and nobody has; answers how many.
    pub(in crate::store) fn expire_uploads(&self) -> Result<u64> {
        let over = self.uploads.take_expired();
        // One that comes back after a power cut has expired all the same.
        if let Err(error) = self.delete_uploads(&over, false) {
            self.uploads.give_back(&over);
            return Err(error);
        }
        self.remove_uploads(&over);
        Ok(over.len() as u64)
    }

    /// Writes `rows`, and with them the end of every session of a repository, whose stripe is held exclusively. Their files
    /// are to be removed when that is synced, and readers of events to be told.
    pub(in crate::store) fn put_end_of_uploads<'a>(
        &'a self,
        repository: &RepositoryName,
        mut rows: Rows<'a>,
        gone: Option<EventChange>,
    ) -> Result<(Unsynced<'a>, Option<Ticket<'a>>, Vec<UploadId>)> {
        let ends = self.uploads.of(repository);
        ends.iter().for_each(|id| rows.delete_upload(&id.0));
        let mut rows = rows.count()?;
        let ticket = self.record(&mut rows, gone.into_iter().collect());
        let (unsynced, ticket) = self.with_ticket(self.put_anyway(rows, self.durable()), ticket)?;
        let ends = self.uploads.end(&ends);
        Ok((unsynced, ticket, ends))
    }

    /// Deletes the rows of sessions that nobody will go on with. If there is no room for that, what they hold makes room.
    pub(super) fn delete_uploads(&self, ids: &[UploadId], sync: bool) -> Result<()> {
        let delete = || {
            let mut rows = self.metadata.rows();
            ids.iter().for_each(|id| rows.delete_upload(&id.0));
            self.write_with(rows, sync)
        };
        match delete() {
            Err(error) if error.kind() == ErrorKind::NoSpace && self.check_writable().is_ok() => {
                // A session without its file is over for whoever opens it.
                if !self.blobs.give_up_uploads(ids.iter().map(|id| &id.0)) {
                    return Err(error);
                }
                delete()
            }
            done => done,
        }
    }

    /// The files of sessions whose rows are gone, and what is known of them: in this order, since another one of the same id has
    /// a file of the same name.
    pub(in crate::store) fn remove_uploads(&self, ids: &[UploadId]) {
        for id in ids {
            // What stays is cleared by the next open.
            let _ = self.blobs.remove_upload(&id.0);
        }
        self.uploads.forget(ids);
    }
}

impl Plan<'_, '_> {
    /// The repository's stripe is held, so nobody removes the session meanwhile.
    pub(in crate::store) fn end_upload(&mut self, repository: &RepositoryName, id: &UploadId) -> Result<()> {
        if self.view.upload(&id.0)?.is_none() {
            return Err(crate::error::Error::not_found(format!(
                "the upload session is no longer there, repository={repository}, id={id}"
            )));
        }
        self.planned.rows.delete_upload(&id.0);
        Ok(())
    }
}
