//! Writing rows: under the locks that they need, and onto the disk when these are given back, once for all who wait.
//!
//! Rows are visible as soon as they are written, and others go on from them: the log has one order, so whoever syncs what he
//! wrote has everything that he saw on the disk as well. Only an acknowledgement waits.

use super::events::Ticket;
use super::{Core, observe, quota};
use crate::error::Result;
use crate::metadata::{CountedRows, Rows, Written};

/// What an acknowledgement still has to wait for. To be synced without locks.
#[must_use = "what is not synced is not durable"]
#[derive(Debug)]
pub(super) enum Unsynced<'a> {
    /// Nothing: the store does not promise that, or nobody does.
    Nothing,
    /// Nothing was to be written, because of what others may just have written.
    Others,
    Rows(Written<'a>),
}

impl Core {
    /// Writes rows as durably as the store promises.
    pub(super) fn write(&self, rows: Rows<'_>) -> Result<()> {
        self.write_with(rows, self.durable())
    }

    /// Writes rows whose loss in a crash does no harm. The log keeps them ahead of everything that is synced later.
    pub(super) fn write_unsynced(&self, rows: Rows<'_>) -> Result<()> {
        self.write_with(rows, false)
    }

    pub(super) fn write_with(&self, rows: Rows<'_>, sync: bool) -> Result<()> {
        self.sync(self.put_with(rows, sync)?)
    }

    /// Writes rows that become as durable as the store promises by [`Core::sync`].
    pub(super) fn put<'a>(&'a self, rows: Rows<'a>) -> Result<Unsynced<'a>> {
        self.put_with(rows, self.durable())
    }

    pub(super) fn put_with<'a>(&'a self, rows: Rows<'a>, sync: bool) -> Result<Unsynced<'a>> {
        if rows.is_empty() {
            return Ok(self.nothing_to_write(sync));
        }
        self.put_anyway(rows.count()?, sync)
    }

    /// Writes rows that no quota refuses.
    pub(super) fn put_anyway<'a>(&'a self, rows: CountedRows<'a>, sync: bool) -> Result<Unsynced<'a>> {
        self.check_log_room(rows.len(), rows.bytes())?;
        let terms = quota::Terms { unlimited: true, ..quota::Terms::default() };
        let admitted = self.quotas.admit(rows.changes(), &terms)?;
        self.put_counted(rows, sync, admitted)
    }

    /// Writes rows that quotas let pass and the log has room for.
    pub(super) fn put_counted<'a>(
        &'a self,
        rows: CountedRows<'a>,
        sync: bool,
        mut admitted: quota::Admitted,
    ) -> Result<Unsynced<'a>> {
        if rows.is_empty() {
            return Ok(self.nothing_to_write(sync));
        }
        // No limit begins before the rows are there.
        let all = self.quotas.limited.read();
        admitted.begin(&all, rows.changes());
        let written = if self.must_sync(sync) {
            rows.write_to_sync().map(Unsynced::Rows)
        } else {
            rows.write().map(|()| Unsynced::Nothing)
        };
        let unsynced = written.map_err(|error| self.poison(error))?;
        admitted.written();
        Ok(unsynced)
    }

    fn nothing_to_write(&self, sync: bool) -> Unsynced<'_> {
        if self.must_sync(sync) { Unsynced::Others } else { Unsynced::Nothing }
    }

    /// A temporary directory does not outlive the process.
    fn must_sync(&self, sync: bool) -> bool {
        sync && self.ephemeral.is_none()
    }

    /// Returns when the disk has what was written. The caller holds nothing that others want.
    pub(super) fn sync(&self, unsynced: Unsynced<'_>) -> Result<()> {
        let start = observe::Start::now();
        let synced = match unsynced {
            Unsynced::Nothing => return Ok(()),
            Unsynced::Others => self.metadata.sync_others(),
            Unsynced::Rows(written) => {
                let synced = written.sync();
                self.meters.sync_time.since(start);
                synced
            }
        };
        synced.map_err(|error| self.poison(error))
    }

    /// The same for rows with events: their readers are told when the disk has them, and never if it may not.
    pub(super) fn sync_and_show(&self, unsynced: Unsynced<'_>, ticket: Option<Ticket<'_>>) -> Result<()> {
        let synced = self.sync(unsynced);
        if let Some(ticket) = ticket.filter(|_| synced.is_err()) {
            ticket.withhold();
        }
        synced
    }
}
