//! One content on its way.

use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::copy::{Copier, Outcome, Step};
use super::seam::{Arrival, Incoming};
use crate::blobs::BlobReader;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Role, media_type};

/// Content that a manifest refers to.
pub(super) struct Job {
    pub(super) descriptor: Descriptor,
    /// Who refers to it, and what it is to that manifest.
    pub(super) manifest: Digest,
    pub(super) role: Role,
}

impl Job {
    /// Whether a source without it is complete all the same.
    fn may_lack(&self) -> bool {
        self.role == Role::Manifest
            || media_type::is_non_distributable(&self.descriptor.media_type)
            || !self.descriptor.urls.is_empty()
    }
}

/// The content as the source has it.
struct Stream<'c, 'a> {
    copier: &'c Copier<'a>,
    descriptor: &'c Descriptor,
    /// The source said that it does not have it.
    lacks: AtomicBool,
}

impl Incoming for Stream<'_, '_> {
    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let digest = self.descriptor.digest;
        let _ = self.copier.moved(Step::Moved(self.descriptor, offset));
        if let Some(reader) = self.copier.from.content(self.descriptor, offset)? {
            return Ok(reader);
        }
        // What the descriptor carries itself needs no file.
        if let Some(bytes) = self.descriptor.inlined() {
            let mut reader = Cursor::new(bytes);
            reader.set_position(offset);
            return Ok(Box::new(reader));
        }
        self.lacks.store(true, Ordering::Relaxed);
        Err(Error::not_found(format!("the source lacks the content, digest={digest}")))
    }

    fn local(&self) -> Result<Option<BlobReader>> {
        self.copier.from.local(&self.descriptor.digest)
    }

    fn advance(&self, done: u64) -> ControlFlow<()> {
        self.copier.moved(Step::Moved(self.descriptor, done))
    }
}

impl Copier<'_> {
    /// Brings one content to the destination, if it is not there.
    pub(super) fn transfer(&self, job: &Job) -> Result<Outcome> {
        self.tell(Step::Begin(&job.descriptor))?;
        let outcome = self.bring(job)?;
        self.tell(Step::End(&job.descriptor, outcome))?;
        Ok(outcome)
    }

    fn bring(&self, job: &Job) -> Result<Outcome> {
        let (descriptor, sink) = (&job.descriptor, self.sink());
        if sink.has(descriptor, self.choice.verify && !self.choice.dry_run)? {
            return Ok(Outcome::Present);
        }
        if self.choice.dry_run {
            let is_absent = job.may_lack() && self.from.content(descriptor, 0)?.is_none();
            return Ok(if is_absent { Outcome::Absent } else { Outcome::Copied });
        }
        if let Some(from) = &self.choice.mount_from
            && sink.mount(descriptor, from)?
        {
            return Ok(Outcome::Mounted);
        }
        let stream = Stream { copier: self, descriptor, lacks: AtomicBool::new(false) };
        match sink.push(descriptor, &stream) {
            Ok(Arrival::Copied) => Ok(Outcome::Copied),
            Ok(Arrival::Resumed(before)) => Ok(Outcome::Resumed(before)),
            Err(error) if error.kind() == ErrorKind::NotFound && stream.lacks.load(Ordering::Relaxed) => {
                if job.may_lack() {
                    return Ok(Outcome::Absent);
                }
                Err(Error::not_found(format!(
                    "the source lacks content that a manifest refers to, source={}, digest={}, manifest={}",
                    self.from.place(),
                    descriptor.digest,
                    job.manifest
                )))
            }
            Err(error) => Err(error),
        }
    }
}

/// Bytes that the copy itself made.
pub(super) struct Made<'b>(pub(super) &'b [u8]);

impl Incoming for Made<'_> {
    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let mut reader = Cursor::new(self.0);
        reader.set_position(offset);
        Ok(Box::new(reader))
    }

    fn local(&self) -> Result<Option<BlobReader>> {
        Ok(None)
    }

    fn advance(&self, _done: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
