//! Upload sessions: content that comes in pieces, over many calls, restarts and power cuts.
//!
//! A session is a row, and a file in the ingest directory once it has bytes. The row says how many bytes of the file are
//! durable, and carries the state of the hashes there, so that nothing is read again. One caller at a time has a session
//! ([`Upload`]). Finishing takes the ordinary way of a commit; the row goes with the same batch.

mod ends;
mod id;
mod session;
mod table;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::id::UploadId;
pub use self::session::Upload;
pub(super) use self::table::Sessions;

use self::table::Taken;
use super::lease::{LeaseId, ended};
use super::locks::Need;
use super::repositories::stored_name;
use super::{Core, Page, Repository, Store, until};
use crate::blobs::Hashes;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::UploadRecord;
use crate::oci::RepositoryName;
use crate::sys;

/// How long a session lives without being saved, unless its options say otherwise.
const TIME_TO_LIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of an upload before its bytes come.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UploadOptions {
    /// What to hash with while the bytes come: nothing is read again if the upload is finished with one of these. sha256
    /// if there is none; any other algorithm at the end costs reading the content once.
    pub algorithms: Vec<Algorithm>,
    /// How many bytes will come. They count as there, against the limits of the store, from the beginning.
    pub size: Option<u64>,
    /// How long the session lives after it was started or saved last. A day by default.
    pub time_to_live: Option<Duration>,
    /// The session becomes durable with its first save, which has to come within this time, and not when it is started: that
    /// costs no sync then, and finishing it without a save only that of the content. Until then it is there in this process
    /// alone; the end of it forgets the session, and [`Store::uploads`] does not list it.
    pub deferred: Option<Duration>,
    /// A lease that holds the finished content from the commit on that finishes it. It must not have ended by then.
    pub lease: Option<LeaseId>,
}

impl UploadOptions {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, hashed with one more algorithm while the bytes come.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        if !self.algorithms.contains(&algorithm) {
            self.algorithms.push(algorithm);
        }
        self
    }

    /// The same with a size in bytes, which the content must turn out to have.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// The same with another time to live.
    #[must_use]
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = Some(time);
        self
    }

    /// The same, durable from the first save on, which has to come within this time.
    #[must_use]
    pub fn deferred(mut self, within: Duration) -> Self {
        self.deferred = Some(within);
        self
    }

    /// The same with a lease for the finished content.
    #[must_use]
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }
}

/// An upload session as its row has it.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UploadStatus {
    /// The session.
    pub id: UploadId,
    /// The repository that it is of.
    pub repository: RepositoryName,
    /// How many bytes it has, durably: where the next append begins when the session is opened anew.
    pub offset: u64,
    /// How many bytes it will have, if that was said.
    pub size: Option<u64>,
    /// What is hashed while the bytes come.
    pub algorithms: Vec<Algorithm>,
    /// The lease that will hold the finished content.
    pub lease: Option<LeaseId>,
    /// When it was started.
    pub created: SystemTime,
    /// When it was saved last.
    pub saved: SystemTime,
    /// When it expires unless it is saved again.
    pub expires: SystemTime,
}

impl UploadStatus {
    fn new(id: UploadId, record: &UploadRecord) -> Result<Self> {
        Ok(Self {
            id,
            repository: stored_name(&record.repository)?,
            offset: record.offset,
            size: record.expected,
            algorithms: record.hashes.iter().map(|(algorithm, _)| *algorithm).collect(),
            lease: record.lease.map(LeaseId::of),
            created: time_of(record.created),
            saved: time_of(record.saved),
            expires: time_of(record.expires()),
        })
    }
}

impl Repository {
    /// Starts an upload session; it is durable when this returns, unless that is [deferred](UploadOptions::deferred). It is bound to this repository, which need not exist yet,
    /// and has a random id of 128 bits that nobody can guess.
    ///
    /// As long as it lives, also through restarts, it keeps room in the quotas of the repository and the store, for one object
    /// and the bytes that it has or announced, so that finishing it finds that room. Bytes for which there is none are refused
    /// before they are stored.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// use orlop::{Digest, Expected, UploadOptions};
    ///
    /// let images = store.default_repository();
    /// let mut upload = images.start_upload(&UploadOptions::new())?;
    /// upload.append(0, "hello, ")?;
    /// upload.save()?;
    /// let id = upload.id();
    /// drop(upload);
    /// // Later, and in another process if need be.
    /// let mut upload = images.upload(&id)?.expect("it was saved");
    /// upload.append(7, "world")?;
    /// upload.finish(&Expected::from(Digest::of(b"hello, world")))?;
    /// # store.close()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Busy` when as many sessions or bytes are under way as [`Limits`](crate::Limits) allows; `Invalid` for a size above
    /// the limit of the store; `NotFound` for a lease that is not there; `Unsupported` in a plain layout, which keeps nothing of ours; `NoSpace` when there is no room
    /// for the size, `QuotaExceeded` when a quota has none; `ReadOnly`, `Poisoned`, `Indeterminate`, `Io`.
    pub fn start_upload(&self, options: &UploadOptions) -> Result<Upload> {
        self.store().core().check_uploads()?;
        self.start(UploadId(id::draw(id::WHAT)?), options)
    }

    /// Goes on with the session that an earlier call of this began for the same content, whichever process that was, or starts one
    /// as [`Repository::start_upload`] does.
    ///
    /// Its id follows from the repository and the digest: whoever knows both knows it too. What comes of it is checked when it is
    /// finished, like any other: if that fails, cancel it and begin again.
    ///
    /// # Errors
    ///
    /// As [`Repository::start_upload`] and [`Repository::upload`].
    pub fn upload_of(&self, digest: &Digest, options: &UploadOptions) -> Result<Upload> {
        let id = UploadId::of(self.name(), digest);
        if let Some(upload) = self.upload(&id)? {
            return Ok(upload);
        }
        // One that has expired would be in the way.
        self.store().core().expire_uploads()?;
        match self.start(id, options) {
            // Somebody began it meanwhile, and may have let go of it.
            Err(error) if error.kind() == ErrorKind::Busy => self.upload(&id)?.ok_or(error),
            started => started,
        }
    }

    fn start(&self, id: UploadId, options: &UploadOptions) -> Result<Upload> {
        let core = self.store().core();
        core.check_uploads()?;
        if let (Some(size), Some(limit)) = (options.size, core.options.limits.max_content_size)
            && size > limit
        {
            return Err(Error::invalid(format!(
                "content is larger than allowed, size={size}, limit={limit}"
            )));
        }
        if let Some(size) = options.size {
            core.check_room_for_file(size)?;
        }
        check_lease(core, options.lease)?;
        let algorithms =
            if options.algorithms.is_empty() { &[Algorithm::Sha256][..] } else { &options.algorithms };
        let hashes = Hashes::new(algorithms.iter().copied());
        let now = now();
        let time_to_live = milliseconds(options.time_to_live.unwrap_or(TIME_TO_LIVE));
        let record = UploadRecord {
            repository: self.name().to_string(),
            created: now,
            saved: now,
            time_to_live,
            offset: 0,
            expected: options.size,
            hashes: hashes.midstates(),
            unsynced: !core.durable(),
            suspect: false,
            lease: options.lease.map(|id| *id.key()),
        };
        if let Some(within) = options.deferred {
            let record = UploadRecord { time_to_live: milliseconds(within), ..record };
            let taken = core.admit(self, id, &record)?;
            taken.defer(&record, time_to_live);
            return Ok(Upload::new(taken, record, hashes, None).deferred(time_to_live));
        }
        // Until it has its row, the repository is not deleted: that takes the sessions that are there along.
        let held = core.locks.repositories([(self.name().as_str(), Need::Shared)].into_iter());
        let taken = core.admit(self, id, &record)?;
        let mut rows = core.metadata.rows();
        rows.put_upload(&id.0, &record);
        let written = core.put(rows);
        drop(held);
        match written.and_then(|unsynced| core.sync(unsynced)) {
            Ok(()) => Ok(Upload::new(taken, record, hashes, None)),
            Err(error) => {
                taken.remove();
                Err(error)
            }
        }
    }

    /// Opens an upload session of this repository to go on with it, behind what was saved last. None when there is none
    /// of this id, or it belongs to another repository, has expired, or has lost its bytes in a damaged directory.
    ///
    /// # Errors
    ///
    /// `Busy` while another handle of it lives; `ReadOnly`, `Poisoned`, `Unsupported`, `NoSpace`, `Io`.
    pub fn upload(&self, id: &UploadId) -> Result<Option<Upload>> {
        let core = self.store().core();
        core.check_uploads()?;
        let Some(taken) = Taken::open(self, *id)? else { return Ok(None) };
        if let Some((record, time_to_live)) = taken.unsaved() {
            let hashes = Hashes::resume(&record.hashes, 0);
            return Ok(Some(Upload::new(taken, record, hashes, None).deferred(time_to_live)));
        }
        let Some(record) = core.metadata.view().upload(&id.0)? else { return Ok(None) };
        Upload::resume(taken, record)
    }

    /// What is known of an upload session of this repository, beside a writer of it too.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn upload_status(&self, id: &UploadId) -> Result<Option<UploadStatus>> {
        let core = self.store().core();
        let record = match core.uploads.unsaved(id) {
            Some((record, _)) => Some(record),
            None => self.view().upload(&id.0)?,
        };
        let ours = |record: &UploadRecord| record.repository == self.name().as_str() && !is_over(record);
        record.filter(ours).map(|record| UploadStatus::new(*id, &record)).transpose()
    }
}

impl Store {
    /// Upload sessions of all repositories by pages in order of their ids: those after `after`, which need not exist.
    /// Expired ones are not among them.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn uploads(&self, after: Option<&UploadId>, limit: usize) -> Result<Page<UploadStatus>> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(Page::cut(found, 0));
        }
        self.core().metadata.view().uploads(after.map(|id| &id.0), |id, record| {
            if !is_over(&record) {
                found.push(UploadStatus::new(UploadId(id), &record)?);
            }
            Ok(until(found.len() > limit))
        })?;
        Ok(Page::cut(found, limit))
    }

    /// Removes the upload sessions that have expired and that nobody has open; answers how many. Opening a store, a
    /// collection, and whoever finds no room for another session or more bytes do the same.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Poisoned`, `Indeterminate`, `NoSpace`, `Io`.
    pub fn expire_uploads(&self) -> Result<u64> {
        let core = self.core();
        core.check_writable()?;
        core.expire_uploads()
    }
}

impl Core {
    fn check_uploads(&self) -> Result<()> {
        self.check_writable()?;
        if self.ephemeral.is_none() {
            return Ok(());
        }
        let path = self.root.display();
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("a plain layout keeps no upload sessions: make it a store, path={path}"),
        ))
    }
}

/// What nobody would hold is told before the bytes come.
fn check_lease(core: &Core, lease: Option<LeaseId>) -> Result<()> {
    lease.map_or(Ok(()), |id| {
        core.live_lease(&core.metadata.view(), id.key())?.map(drop).ok_or_else(|| ended(&id))
    })
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(sys::now().as_millisecond()).unwrap_or_default()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn time_of(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}

fn is_over(record: &UploadRecord) -> bool {
    record.expires() <= now()
}
