//! What one request does with a session, on threads that may wait for a disk.

use super::super::error::{Outcome, Refusal};
use super::super::quota;
use super::chunk::Chunk;
use super::{Done, refuse, unknown};
use crate::oci::RepositoryName;
use crate::{Digest, Expected, Quota, Repository, Upload, UploadId, UploadOptions};

/// What one request does with a session.
pub(super) struct Work {
    pub(super) repository: Repository,
    /// By which the client knows it.
    pub(super) name: RepositoryName,
    pub(super) quota: Option<Quota>,
    pub(super) target: Target,
    /// What the bytes were said to be.
    pub(super) chunk: Option<Chunk>,
    pub(super) then: Then,
}

/// Which session the bytes are for.
pub(super) enum Target {
    /// One that is there.
    Session(UploadId),
    /// One of which nobody else ever learns.
    New(UploadOptions),
}

/// What becomes of the session when all bytes are there.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Save,
    Finish(Digest),
}

/// A session in the hands of a request, and where its bytes began.
pub(super) struct Held {
    upload: Upload,
    start: u64,
}

impl Work {
    /// Whether what came of a body that broke off is kept. A `PUT` is all or nothing: who repeats it sends everything again.
    pub(super) fn keeps_parts(&self) -> bool {
        matches!(self.then, Then::Save)
    }

    /// Adds a part; opens the session with the first. Where it cannot be added, what came before it is kept if parts are.
    pub(super) fn write(&self, held: Option<Held>, part: &[u8]) -> Outcome<Held> {
        let mut held = self.hold(held)?;
        let brought = held.upload.offset() - held.start + part.len() as u64;
        if let Some(chunk) = self.chunk.filter(|chunk| chunk.length < brought) {
            // Nobody knows which of these bytes belong there: the session goes back to where it was.
            return Err(chunk.differs(brought));
        }
        match self.append(&mut held, part) {
            Ok(()) => Ok(held),
            Err(refusal) => Err(self.give_up(held, refusal)),
        }
    }

    /// Adds the last part, and ends with the session what the request is about.
    pub(super) fn complete(&self, held: Option<Held>, part: &[u8]) -> Outcome<Done> {
        let mut held = self.write(held, part)?;
        let brought = held.upload.offset() - held.start;
        if let Some(chunk) = self.chunk.filter(|chunk| chunk.length != brought) {
            return Err(chunk.differs(brought));
        }
        let id = held.upload.id();
        let done = match self.then {
            Then::Save => held.upload.save().map(|offset| Done::Saved(id, offset)),
            Then::Finish(digest) => held.upload.finish(&Expected::from(digest)).map(Done::Pushed),
        };
        done.map_err(|error| {
            let refusal = refuse(error, &self.name, Some(&id));
            self.give_up(held, refusal)
        })
    }

    /// The body broke off: keeps what came.
    pub(super) fn keep(&self, held: Option<Held>, part: &[u8]) -> Outcome<()> {
        let mut held = self.write(held, part)?;
        held.upload.save().map(drop).map_err(|error| refuse(error, &self.name, None))
    }

    /// Nothing comes of it.
    pub(super) fn abandon(&self, held: Held) {
        if matches!(self.target, Target::New(_)) {
            // Nobody knows it, so nobody would end it; if that fails it expires.
            drop(held.upload.cancel());
        }
    }

    fn give_up(&self, mut held: Held, refusal: Refusal) -> Refusal {
        if self.keeps_parts() && held.upload.offset() > held.start {
            // What is refused is told, whatever becomes of what came before it.
            drop(held.upload.save());
        } else {
            self.abandon(held);
        }
        refusal
    }

    fn hold(&self, held: Option<Held>) -> Outcome<Held> {
        if let Some(held) = held {
            return Ok(held);
        }
        let fail = |error| refuse(error, &self.name, None);
        quota::apply(&self.repository, self.quota).map_err(fail)?;
        let upload = match &self.target {
            Target::New(options) => self.repository.start_upload(options).map_err(fail)?,
            Target::Session(id) => {
                let found = self.repository.upload(id).map_err(fail)?;
                found.ok_or_else(|| unknown(&id.to_string()))?
            }
        };
        Ok(Held { start: upload.offset(), upload })
    }

    fn append(&self, held: &mut Held, part: &[u8]) -> Outcome<()> {
        let Held { upload, start } = held;
        let offset = upload.offset();
        // Where the chunk says that it begins, as long as nothing of it is there.
        let at = match self.chunk {
            Some(chunk) if offset == *start => chunk.start,
            _ => offset,
        };
        let id = upload.id();
        upload.append(at, part).map(drop).map_err(|error| refuse(error, &self.name, Some(&id)))
    }
}
