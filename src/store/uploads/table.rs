//! Which sessions there are, who has them, and how much they may take: in memory, as much as the limits allow.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{UploadId, now};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::UploadRecord;
use crate::oci::RepositoryName;
use crate::store::observe::Meters;
use crate::store::reservation::Reservation;
use crate::store::{Core, Repository, Store};

/// The sessions of one store.
#[derive(Debug)]
pub(in crate::store) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    sessions: HashMap<UploadId, Entry>,
    /// What tells the next session from an earlier one of the same id.
    next: u64,
    bytes: u128,
    /// What an operator sees of it.
    meters: Arc<Meters>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    repository: RepositoryName,
    /// Milliseconds since 1970.
    expires: u64,
    /// Bytes that it has or will have, as far as the limits go.
    counted: u64,
    /// As many bytes of the quotas, and one object.
    reservation: Reservation,
    /// Somebody has it.
    taken: bool,
    /// Somebody is removing it, and nobody else does: for others it is not there, but there is no other of its id before that is done.
    ending: bool,
    /// A sync of its file failed, whether its row says so or not.
    suspect: bool,
    /// This process wrote its row, so what the row says of the file is true here.
    saved_here: bool,
    /// It has no row yet: what will be in it, and how long it lives from then on.
    unsaved: Option<Box<(UploadRecord, u64)>>,
}

impl Table {
    fn insert(&mut self, id: UploadId, record: &UploadRecord, mut entry: Entry) -> u64 {
        let number = self.next;
        entry.number = number;
        self.next += 1;
        self.sessions.insert(id, entry);
        self.count(&id, counted(record));
        number
    }

    fn count(&mut self, id: &UploadId, bytes: u64) {
        if let Some(entry) = self.sessions.get_mut(id) {
            self.bytes = self.bytes - u128::from(entry.counted) + u128::from(bytes);
            entry.counted = bytes;
            entry.reservation.shrink(bytes);
        }
        self.meters.uploads(self.sessions.len(), self.bytes);
    }

    fn remove(&mut self, id: &UploadId) {
        self.count(id, 0);
        self.sessions.remove(id);
        self.meters.uploads(self.sessions.len(), self.bytes);
    }
}

impl Entry {
    fn new(repository: RepositoryName, record: &UploadRecord, reservation: Reservation, here: bool) -> Self {
        Self {
            number: 0,
            repository,
            expires: record.expires(),
            counted: 0,
            reservation,
            taken: here,
            ending: false,
            suspect: false,
            saved_here: here,
            unsaved: None,
        }
    }
}

fn counted(record: &UploadRecord) -> u64 {
    record.offset.max(record.expected.unwrap_or_default())
}

impl Sessions {
    pub(in crate::store) fn new(meters: Arc<Meters>) -> Self {
        Self { table: Mutex::new(Table { sessions: HashMap::new(), next: 0, bytes: 0, meters }) }
    }

    /// A session of an earlier process.
    pub(super) fn found(
        &self,
        id: UploadId,
        repository: RepositoryName,
        record: &UploadRecord,
        reservation: Reservation,
    ) {
        self.table.lock().insert(id, record, Entry::new(repository, record, reservation, false));
    }

    /// What is known of a session that has no row yet.
    pub(super) fn unsaved(&self, id: &UploadId) -> Option<(UploadRecord, u64)> {
        let table = self.table.lock();
        table.sessions.get(id).filter(|entry| !entry.ending)?.unsaved.as_deref().cloned()
    }

    /// The sessions of a repository.
    pub(super) fn of(&self, repository: &RepositoryName) -> Vec<UploadId> {
        let table = self.table.lock();
        table
            .sessions
            .iter()
            .filter(|(_, entry)| entry.repository == *repository)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes the sessions that have expired and that nobody has.
    pub(in crate::store) fn take_expired(&self) -> Vec<UploadId> {
        let (mut table, now) = (self.table.lock(), now());
        let is_over = |entry: &Entry| entry.expires <= now && !entry.taken && !entry.ending;
        let over = table.sessions.iter_mut().filter(|(_, entry)| is_over(entry));
        over.map(|(id, entry)| {
            (entry.taken, entry.ending) = (true, true);
            *id
        })
        .collect()
    }

    /// They are over; answers those that were not before, which the caller has to remove. Their rows are gone.
    pub(super) fn end(&self, ids: &[UploadId]) -> Vec<UploadId> {
        let mut table = self.table.lock();
        let mut ends = Vec::new();
        for id in ids {
            if let Some(entry) = table.sessions.get_mut(id).filter(|entry| !entry.ending) {
                entry.ending = true;
                table.count(id, 0);
                ends.push(*id);
            }
        }
        ends
    }

    /// Those that were taken because they have expired are there again.
    pub(in crate::store) fn give_back(&self, ids: &[UploadId]) {
        let mut table = self.table.lock();
        for id in ids {
            if let Some(entry) = table.sessions.get_mut(id) {
                (entry.taken, entry.ending) = (false, false);
            }
        }
    }

    pub(super) fn forget(&self, ids: &[UploadId]) {
        let mut table = self.table.lock();
        ids.iter().for_each(|id| table.remove(id));
    }
}

impl Core {
    /// Lets a new session in, if limits and quotas allow it. What it said that it will have is reserved.
    pub(super) fn admit(
        &self,
        repository: &Repository,
        id: UploadId,
        record: &UploadRecord,
    ) -> Result<Taken> {
        let number = self.or_expire(|| self.let_in(repository, id, record))?;
        Ok(Taken { repository: repository.clone(), id, number })
    }

    /// Once more where there was no room and sessions have expired: what nobody will finish has no claim to it.
    pub(in crate::store) fn or_expire<T>(&self, take: impl Fn() -> Result<T>) -> Result<T> {
        match take() {
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::QuotaExceeded) => {
                if self.expire_uploads()? > 0 { take() } else { Err(error) }
            }
            taken => taken,
        }
    }

    fn let_in(&self, repository: &Repository, id: UploadId, record: &UploadRecord) -> Result<u64> {
        let limit = self.options.limits.max_uploads;
        let mut table = self.uploads.table.lock();
        if table.sessions.contains_key(&id) {
            return Err(taken_already(repository.name(), id));
        }
        if table.sessions.len() >= limit {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("too many upload sessions are under way, limit={limit}"),
            ));
        }
        if !self.has_room(&table, counted(record)) {
            return Err(self.too_many_bytes());
        }
        let reservation = Reservation::nothing(&self.quotas);
        let entry = Entry::new(repository.name().clone(), record, reservation, true);
        self.reserve_for_upload(repository.name(), &entry.reservation, counted(record), false)?;
        Ok(table.insert(id, record, entry))
    }

    /// A limit is new: what the sessions of a repository have, or all of them where there is none, is theirs already.
    pub(in crate::store) fn reserve_for_uploads(&self, repository: Option<&RepositoryName>) -> Result<()> {
        let table = self.uploads.table.lock();
        let concerned = |entry: &&Entry| repository.is_none_or(|name| entry.repository == *name);
        for entry in table.sessions.values().filter(concerned) {
            self.reserve_for_upload(&entry.repository, &entry.reservation, entry.counted, true)?;
        }
        Ok(())
    }

    fn has_room(&self, table: &Table, more: u64) -> bool {
        let limit = self.options.limits.max_upload_bytes;
        limit.is_none_or(|limit| table.bytes + u128::from(more) <= u128::from(limit))
    }

    #[cold]
    fn too_many_bytes(&self) -> Error {
        let limit = self.options.limits.max_upload_bytes.unwrap_or(u64::MAX);
        Error::new(
            ErrorKind::Busy,
            format!("upload sessions would hold more bytes than the store allows, limit={limit}"),
        )
    }
}

/// A session that nobody else has until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    repository: Repository,
    pub(super) id: UploadId,
    /// Which of its id: this one may be over, and another one there.
    number: u64,
}

impl Taken {
    /// Takes a session of the repository; nothing when there is none, or it has expired.
    pub(super) fn open(repository: &Repository, id: UploadId) -> Result<Option<Self>> {
        let mut table = repository.store().core().uploads.table.lock();
        let Some(entry) = table.sessions.get_mut(&id).filter(|entry| entry.repository == *repository.name())
        else {
            return Ok(None);
        };
        if entry.ending {
            return Ok(None);
        }
        if entry.taken {
            return Err(taken_already(&entry.repository, id));
        }
        if entry.expires <= now() {
            return Ok(None);
        }
        entry.taken = true;
        let number = entry.number;
        drop(table);
        Ok(Some(Self { repository: repository.clone(), id, number }))
    }

    /// Looks at what is known of it while it is there.
    fn with<T>(&self, look: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut table = self.core().uploads.table.lock();
        self.entry(&mut table).map(look)
    }

    fn entry<'a>(&self, table: &'a mut Table) -> Option<&'a mut Entry> {
        table.sessions.get_mut(&self.id).filter(|entry| entry.number == self.number && !entry.ending)
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn store(&self) -> &Store {
        self.repository.store()
    }

    pub(super) fn core(&self) -> &Core {
        self.store().core()
    }

    /// It gets its row with the first save, and lives so long from then on.
    pub(super) fn defer(&self, record: &UploadRecord, time_to_live: u64) {
        self.with(|entry| entry.unsaved = Some(Box::new((record.clone(), time_to_live))));
    }

    /// What is known of it if it has no row yet.
    pub(super) fn unsaved(&self) -> Option<(UploadRecord, u64)> {
        self.core().uploads.unsaved(&self.id)
    }

    /// Whether this process wrote the row as it is.
    pub(super) fn saved_here(&self) -> bool {
        self.with(|entry| entry.saved_here).unwrap_or_default()
    }

    /// A sync of its file failed.
    pub(super) fn suspect(&self) {
        self.with(|entry| entry.suspect = true);
    }

    /// Whether a sync of its file failed in this process.
    pub(super) fn is_suspect(&self) -> bool {
        self.with(|entry| entry.suspect).unwrap_or_default()
    }

    /// The session is still there: nobody deleted its repository.
    pub(super) fn check(&self) -> Result<()> {
        self.with(|_| ()).ok_or_else(|| self.gone())
    }

    /// Makes room for `bytes` in all, in limits and quotas, before they come.
    pub(super) fn grow(&self, bytes: u64) -> Result<()> {
        self.core().or_expire(|| self.grow_now(bytes))
    }

    fn grow_now(&self, bytes: u64) -> Result<()> {
        let core = self.core();
        let mut table = core.uploads.table.lock();
        let Some(counted) = self.entry(&mut table).map(|entry| entry.counted) else {
            return Err(self.gone());
        };
        if bytes > counted {
            if !core.has_room(&table, bytes - counted) {
                return Err(core.too_many_bytes());
            }
            let Some(entry) = self.entry(&mut table) else { return Err(self.gone()) };
            core.reserve_for_upload(&entry.repository, &entry.reservation, bytes, false)?;
            table.count(&self.id, bytes);
        }
        Ok(())
    }

    /// What is reserved in quotas for the content that it becomes; still so if that fails.
    pub(super) fn reservation(&self) -> Result<Reservation> {
        self.with(|entry| entry.reservation.share()).ok_or_else(|| self.gone())
    }

    /// The row was written.
    pub(super) fn saved(&self, record: &UploadRecord) {
        let mut table = self.core().uploads.table.lock();
        if let Some(entry) = self.entry(&mut table) {
            (entry.expires, entry.saved_here, entry.unsaved) = (record.expires(), true, None);
            entry.suspect = record.suspect;
            // What was appended and is not in the row is in the file, and keeps its room.
            let bytes = counted(record).max(entry.counted);
            table.count(&self.id, bytes);
        }
    }

    /// The session is over, and its row is gone. False if somebody else removes it.
    pub(super) fn end(&self) -> bool {
        let mut table = self.core().uploads.table.lock();
        let Some(entry) = self.entry(&mut table) else { return false };
        entry.ending = true;
        table.count(&self.id, 0);
        true
    }

    /// The session and what it has are gone.
    pub(super) fn remove(&self) {
        if self.end() {
            self.core().remove_uploads(&[self.id]);
        }
    }

    /// Only what is durable counts once nobody has it.
    pub(super) fn settle(&self, record: &UploadRecord) {
        let mut table = self.core().uploads.table.lock();
        if self.entry(&mut table).is_some() {
            table.count(&self.id, counted(record));
        }
    }

    #[cold]
    pub(super) fn gone(&self) -> Error {
        Error::not_found(format!(
            "the upload session is finished, cancelled or removed with its repository, repository={}, id={}",
            self.repository.name(),
            self.id
        ))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.with(|entry| entry.taken = false);
    }
}

#[cold]
fn taken_already(repository: &RepositoryName, id: UploadId) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("somebody else has the upload session open, repository={repository}, id={id}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;
    use crate::blobs::Expected;
    use crate::digest::Digest;
    use crate::store::{Options, Publish, UploadOptions};

    /// Both have looked for the session of a content and found none.
    #[test]
    fn of_two_who_begin_one_session_at_once_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().publish(Publish::Manual).create(dir.path().join("s")).unwrap();
        let (here, core) = (store.default_repository(), store.core());
        let digest = Digest::of(b"hello");
        let mut upload = here.upload_of(&digest, &UploadOptions::new()).unwrap();
        let id = upload.id();
        let record = core.metadata.view().upload(&id.0).unwrap().unwrap();
        assert_eq!(core.admit(&here, id, &record).unwrap_err().kind(), ErrorKind::Busy);
        upload.append(0, "hello").unwrap();
        // On its way out, the next one of its id has to wait: their files have one name.
        assert_eq!(core.uploads.end(&[id]), [id]);
        assert_eq!(core.uploads.end(&[id]), []);
        assert_eq!(core.admit(&here, id, &record).unwrap_err().kind(), ErrorKind::Busy);
        assert!(Taken::open(&here, id).unwrap().is_none());
        // Whoever ended it removes it, and nobody else does.
        core.uploads.table.lock().sessions.get_mut(&id).unwrap().expires = 0;
        core.uploads.table.lock().sessions.get_mut(&id).unwrap().taken = false;
        assert_eq!(core.uploads.take_expired(), []);
        assert_eq!(upload.append(5, "x").unwrap_err().kind(), ErrorKind::NotFound);
        core.remove_uploads(&[id]);
        assert_eq!(core.uploads.table.lock().bytes, 0);
        drop(core.admit(&here, id, &record).unwrap());
    }

    #[test]
    fn a_handle_that_is_over_has_no_hand_in_the_next_session_of_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().publish(Publish::Manual).create(dir.path().join("s")).unwrap();
        let (here, core) = (store.default_repository(), store.core());
        let digest = Digest::of(b"hello");
        let mut first = here.upload_of(&digest, &UploadOptions::new()).unwrap();
        first.append(0, "hello").unwrap();
        first.finish(&Expected::from(digest)).unwrap();
        let mut second = here.upload_of(&digest, &UploadOptions::new()).unwrap();
        assert_eq!(second.id(), first.id());
        second.append(0, "hell").unwrap();
        assert_eq!(first.status().unwrap_err().kind(), ErrorKind::NotFound);
        drop(first);
        assert_eq!(here.upload(&second.id()).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(core.uploads.table.lock().bytes, 4);
        second.append(4, "o").unwrap();
        second.finish(&Expected::from(digest)).unwrap();
    }
}
