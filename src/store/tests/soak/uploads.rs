//! Content that comes in parts: sessions that are finished, left for later, taken up by others, cancelled, or that expire.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::people::{Job, Outcome, words};
use super::world::{GRACE, World};
use crate::blobs::Expected;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Upload, UploadId, UploadOptions};

/// An upload session in nobody's hands.
#[derive(Debug)]
pub(super) struct Left {
    id: UploadId,
    repository: usize,
    part: usize,
    /// What was saved of it.
    offset: u64,
    since: Instant,
    /// It was given only so long to live.
    time_to_live: Option<Duration>,
}

/// So many wait to be taken up.
const MOST: usize = 40;
/// What a session lives that is meant to expire.
const SHORT: Duration = Duration::from_millis(300);

impl<'a> Job<'a> {
    /// Sends a content through a session, which is let go of and opened anew on the way.
    pub(super) fn upload(&mut self, part: usize) -> Result<()> {
        self.world.count();
        let mut upload = self.here.start_upload(&UploadOptions::new())?;
        if self.chance.one_in(2) {
            self.append_some(&mut upload, part)?;
            self.world.count();
            upload.save()?;
            let id = upload.id();
            drop(upload);
            self.dawdle();
            self.world.count();
            let again = self.here.upload(&id)?;
            upload = again.ok_or_else(|| Error::corrupt(format!("a saved upload is gone, id={id}")))?;
        }
        self.finish_upload(upload, part)
    }

    /// Appends a piece of a content, at most up to one byte before its end.
    fn append_some(&mut self, upload: &mut Upload, part: usize) -> Result<()> {
        let bytes = &self.world.parts[part];
        let from = usize::try_from(upload.offset()).unwrap();
        let to = from + self.chance.below(bytes.len() - from);
        self.world.count();
        upload.append(from as u64, &bytes[from..to]).map(|_| ())
    }

    fn finish_upload(&mut self, mut upload: Upload, part: usize) -> Result<()> {
        let bytes = &self.world.parts[part];
        let from = usize::try_from(upload.offset()).unwrap();
        self.world.count();
        upload.append(from as u64, &bytes[from..])?;
        self.world.count();
        upload.finish(&Expected::from(self.world.digests[part]))?;
        self.world.figures.uploads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Begins an upload that somebody may go on with, even after the store was opened anew.
    pub(super) fn leave_upload(&mut self) -> Outcome {
        if self.world.left.lock().len() >= MOST {
            return self.take_up_upload();
        }
        let _shared = self.slot().lock.read();
        let part = self.chance.below(self.world.parts.len());
        let time_to_live = self.chance.one_in(2).then_some(SHORT);
        let since = Instant::now();
        let begin = |job: &mut Self| -> Result<Upload> {
            job.world.count();
            let mut options = UploadOptions::new().size(job.world.parts[part].len() as u64);
            options.time_to_live = time_to_live;
            let mut upload = job.here.start_upload(&options)?;
            job.append_some(&mut upload, part)?;
            job.world.count();
            upload.save()?;
            Ok(upload)
        };
        let upload = match begin(self) {
            Ok(upload) => upload,
            // It may be over before it was saved.
            Err(error) if error.kind() == ErrorKind::NotFound && time_to_live.is_some() => return Ok(()),
            Err(error) => return Err(words(&error)),
        };
        let (id, offset, repository) = (upload.id(), upload.offset(), self.repository);
        drop(upload);
        self.world.left.lock().push(Left { id, repository, part, offset, since, time_to_live });
        Ok(())
    }

    /// Goes on with what somebody left, or finds that it is over.
    pub(super) fn take_up_upload(&mut self) -> Outcome {
        let left = {
            let mut all = self.world.left.lock();
            if all.is_empty() {
                return Ok(());
            }
            let at = self.chance.below(all.len());
            all.swap_remove(at)
        };
        self.repository = left.repository;
        self.here = self.world.repository(left.repository);
        let _shared = self.slot().lock.read();
        let age = left.since.elapsed();
        self.world.count();
        let found = self.here.upload(&left.id).map_err(|error| words(&error))?;
        match (found, left.time_to_live) {
            // Its repository has taken it along.
            (None, _) if self.world.is_deleted(left.repository, left.since) => Ok(()),
            (None, Some(time)) if left.since.elapsed() >= time => {
                self.world.figures.expired.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            (None, _) => Err(format!("upload is unknown after {age:?}: {left:?}")),
            // It was saved a little after it began.
            (Some(_), Some(time)) if age > time + GRACE => {
                Err(format!("upload lives {age:?}, longer than it may: {left:?}"))
            }
            (Some(upload), _) if upload.offset() != left.offset => {
                Err(format!("upload has another offset than was saved, found={}: {left:?}", upload.offset()))
            }
            (Some(upload), time) => self.go_on(upload, &left, time.is_some()),
        }
    }

    fn go_on(&mut self, mut upload: Upload, left: &Left, may_end: bool) -> Outcome {
        let figures = &self.world.figures;
        if self.chance.one_in(4) {
            self.world.count();
            upload.cancel().map_err(|error| words(&error))?;
            self.world.count();
            if self.here.upload_status(&left.id).map_err(|error| words(&error))?.is_some() {
                return Err(format!("a cancelled upload is still there: {left:?}"));
            }
            figures.cancelled.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.world.count();
        let (size, wrong) = (self.world.parts[left.part].len() as u64, Digest::of(b"something else"));
        let bytes = &self.world.parts[left.part][usize::try_from(left.offset).unwrap()..];
        upload.append(left.offset, bytes).map_err(|error| words(&error))?;
        if self.chance.one_in(4) {
            self.world.count();
            match upload.finish(&Expected::from(wrong)) {
                Err(error) if error.kind() == ErrorKind::Mismatch => {}
                other => return Err(format!("content has a wrong name: {other:?}")),
            }
        }
        let taken = self.world.taken(self.repository, left.part);
        let (before, since) = (taken.load(Ordering::SeqCst), Instant::now());
        match self.finish_upload(upload, left.part) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && may_end => return Ok(()),
            Err(error) => return Err(format!("with {size} bytes: {}", words(&error))),
        }
        figures.resumed.fetch_add(1, Ordering::Relaxed);
        self.dawdle();
        self.world.count();
        let found = self.here.get(&self.world.digests[left.part]).map_err(|error| words(&error))?;
        let is_there = found.is_some_and(|found| found[..] == self.world.parts[left.part][..]);
        if is_there || since.elapsed() >= GRACE || taken.load(Ordering::SeqCst) != before {
            Ok(())
        } else {
            Err(format!("uploaded content is gone {:?} after its session", since.elapsed()))
        }
    }
}

/// Cancels whatever is there, so that nothing of it may be left.
pub(super) fn end_all(world: &World) -> Outcome {
    let end = || -> Result<()> {
        world.store().expire_uploads()?;
        for status in world.store().uploads(None, usize::MAX - 1)?.items {
            let repository = world.store().repository(&status.repository);
            if let Some(upload) = repository.upload(&status.id)? {
                upload.cancel()?;
            }
        }
        world.store().expire_uploads()?;
        Ok(())
    };
    end().map_err(|error| format!("uploads cannot be ended: {}", words(&error)))
}

/// No session has a file any more.
pub(super) fn nothing_is_left(root: &Path) -> Outcome {
    let files = fs::read_dir(root.join(".orlop/ingest")).map_err(|error| error.to_string())?;
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    if files.is_empty() { Ok(()) } else { Err(format!("of uploads are left: {files:?}")) }
}
