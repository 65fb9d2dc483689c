//! Upload sessions, with quotas that have room for them alone and leases that keep what they become: steps of the workload,
//! and what must hold of them after a cut.

use std::time::Duration;

use super::super::artifact::{Artifact, noise};
use super::super::state::KEPT;
use super::Workload;
use crate::blobs::Expected;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::oci::RepositoryName;
use crate::store::rebuild::chain;
use crate::store::{Quota, Repository, Store, Upload, UploadOptions};

/// Where the sessions are.
const UPLOADS: &str = "uploads";

/// Longer than any test.
const LONG: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn bytes(limit: u64) -> Quota {
    Quota { bytes: Some(limit), ..Quota::default() }
}

impl Workload {
    /// One session at a time, with room in the quota for what it announces and for nothing more. Every other one has a lease.
    pub(super) fn start_upload(&mut self) {
        let here = self.repository(UPLOADS);
        // A repository that holds nothing would not come back from a rebuild, and its quota would not either.
        let mut batch = self.store().batch();
        Artifact::image("the first", &[10]).add(&mut batch, &here).unwrap();
        batch.commit().unwrap();
        self.acknowledge("mark", &[]);
        let leased = self.step % 40 == 1;
        self.store().set_quota(&if leased { Quota::default() } else { bytes(1 << 40) }).unwrap();
        self.acknowledge("limit-store", &[]);
        let size = self.pieces().iter().sum::<usize>() as u64;
        here.set_quota(&bytes(here.usage().unwrap().bytes + size)).unwrap();
        self.acknowledge("limit", &[]);
        let mut options = UploadOptions::new().size(size);
        if leased {
            options = options.lease(self.store().lease(LONG, KEPT).unwrap().id());
            self.acknowledge("lease", &[]);
        }
        drop(here.start_upload(&options).unwrap());
        self.acknowledge("upload-start", &[]);
        self.refused(&here, 1);
    }

    /// What the session gets: odd sizes, so that blocks are shared by what comes before and after a save.
    fn pieces(&self) -> [usize; 3] {
        let first = self.step - self.step % 20;
        [30_000 + first + 4, 30_000 + first + 9, 4_321]
    }

    /// The session that is under way.
    fn upload(&self) -> Upload {
        let found = self.store().uploads(None, 2).unwrap().items;
        assert_eq!(found.len(), 1);
        self.repository(UPLOADS).upload(&found[0].id).unwrap().unwrap()
    }

    pub(super) fn save_upload(&mut self) {
        let size = self.pieces()[usize::from(self.step % 20 == 9)];
        let mut upload = self.upload();
        let offset = upload.offset();
        upload.append(offset, noise(&self.seed(), size)).unwrap();
        upload.save().unwrap();
        upload.append(upload.offset(), "not saved").unwrap();
        drop(upload);
        self.acknowledge("upload-save", &[]);
    }

    /// Finished or cancelled in turn. What is finished is then held by the lease alone.
    pub(super) fn end_upload(&mut self) {
        let mut upload = self.upload();
        if self.step % 40 != 15 {
            upload.cancel().unwrap();
            return self.acknowledge("upload-end", &[]);
        }
        upload.append(upload.offset(), noise(&self.seed(), self.pieces()[2])).unwrap();
        let digest = upload.finish(&Expected::default()).unwrap().digest;
        self.leased.push(digest);
        self.acknowledge("upload-end", &[]);
        let here = self.repository(UPLOADS);
        self.refused(&here, 40_000);
        let mut batch = self.store().batch();
        batch.delete_blob(&here, &digest);
        batch.commit().unwrap();
        self.acknowledge("unhold", &[]);
        self.collect();
    }

    /// Before a rebuild, which leases do not survive.
    pub(super) fn release(&mut self) {
        self.leased.clear();
        release(self.store()).unwrap();
        self.acknowledge("release", &[]);
    }

    /// A repository is full for a moment.
    pub(super) fn limit(&mut self) {
        let here = self.repository(&self.images.last().unwrap().0);
        let used = here.usage().unwrap().bytes;
        here.set_quota(&bytes(used)).unwrap();
        self.acknowledge("limit", &[]);
        self.refused(&here, if self.step % 40 == 12 { 50 } else { 50_000 });
        let wider = if self.step % 40 == 12 { bytes(used + (64 << 20)) } else { Quota::default() };
        here.set_quota(&wider).unwrap();
        self.acknowledge("limit", &[]);
    }

    /// What has no room changes nothing.
    fn refused(&mut self, here: &Repository, size: usize) {
        let error = here.push_bytes(noise(&format!("{} refused", self.seed()), size)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
        self.acknowledge("refused", &[]);
    }
}

/// Ends the leases that are shown.
pub(super) fn release(store: &Store) -> Result<()> {
    for lease in store.leases(None, 100)?.items.into_iter().filter(|lease| lease.label == KEPT) {
        if let Some(lease) = store.open_lease(&lease.id)? {
            lease.release()?;
        }
    }
    Ok(())
}

/// The sessions get what they announced, and become content.
pub(super) fn finish_uploads(store: &Store) -> Result<()> {
    for status in store.uploads(None, 10)?.items {
        let mut upload = store.repository(&status.repository).upload(&status.id)?.unwrap();
        let rest = status.size.map_or(8, |size| size - status.offset);
        upload.append(upload.offset(), vec![b'x'; usize::try_from(rest).unwrap()])?;
        upload.finish(&Expected::default())?;
    }
    Ok(())
}

/// The usage is what counting gives, by the rows and by what is listed, and every limit lets in what there is room for and
/// not a byte more.
pub(super) fn limits_hold(store: &Store) -> std::result::Result<(), String> {
    let read = |error| format!("usage cannot be read: {}", chain(&error));
    let recount = store.recount().map_err(read)?;
    let usage = store.usage().map_err(read)?;
    let mut counted = recount.store;
    // What is journalled is being filed meanwhile.
    (counted.journalled_objects, counted.journalled_bytes) =
        (usage.journalled_objects, usage.journalled_bytes);
    if usage != counted {
        return Err(format!("usage of the store is {usage:?}, counted {counted:?}"));
    }
    let quota = store.quota().map_err(read)?;
    let mut waits = 0;
    for (name, counted) in &recount.repositories {
        let here = store.repository(name);
        let usage = here.usage().map_err(read)?;
        let listed = listed(&here).map_err(read)?;
        if usage != *counted || (usage.objects, usage.bytes) != listed {
            return Err(format!("usage of {name} is {usage:?}, counted {counted:?}, listed {listed:?}"));
        }
        let reserved = reserved(store, name).map_err(read)?;
        waits += reserved;
        let limit = here.quota().map_err(read)?.bytes;
        has_room(&here, limit.map(|limit| limit.saturating_sub(usage.bytes + reserved)))?;
    }
    // By way of a repository without a limit of its own.
    let free = quota.bytes.map(|limit| limit.saturating_sub(recount.store.stored_bytes + waits));
    has_room(&store.repository(&"unlimited".parse().unwrap()), free)
}

/// Objects and bytes of what a repository lists.
fn listed(here: &Repository) -> Result<(u64, u64)> {
    let (blobs, manifests) = (here.contents(None, 100_000)?, here.manifests(None, 100_000)?);
    assert!(!blobs.more && !manifests.more);
    let sizes = blobs.items.iter().map(|found| found.size);
    let sizes: Vec<u64> = sizes.chain(manifests.items.iter().map(|found| found.size)).collect();
    Ok((sizes.len() as u64, sizes.iter().sum()))
}

/// What the sessions of a repository keep.
fn reserved(store: &Store, name: &RepositoryName) -> Result<u64> {
    let sessions = store.uploads(None, 100)?.items.into_iter().filter(|status| status.repository == *name);
    Ok(sessions.map(|status| status.size.unwrap_or_default().max(status.offset)).sum())
}

fn has_room(here: &Repository, free: Option<u64>) -> std::result::Result<(), String> {
    let Some(free) = free else { return Ok(()) };
    if let Err(error) = here.reserve(free) {
        return Err(format!("limits refuse {free} bytes: {}", chain(&error)));
    }
    match here.reserve(free + 1) {
        Err(error) if error.kind() == ErrorKind::QuotaExceeded => Ok(()),
        other => Err(format!("limits let {} bytes in: {other:?}", free + 1)),
    }
}

/// A collection leaves what leases hold.
pub(super) fn leases_hold(store: &Store, leased: &[Digest]) -> std::result::Result<(), String> {
    let report = store.collector().grace(Duration::ZERO).run();
    report.map_err(|error| format!("collection failed: {}", chain(&error)))?;
    for digest in leased {
        match store.unscoped().get(digest) {
            Ok(Some(content))
                if content.digest() == *digest && digest.algorithm().digest(&content) == *digest => {}
            other => return Err(format!("leases do not keep {digest}: {other:?}")),
        }
    }
    Ok(())
}
