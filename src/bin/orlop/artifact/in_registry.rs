//! Pushing an artifact to a registry: what it lists first, the manifest then, the tags last.

use orlop::oci::{Descriptor, Tag};
use orlop::transfer::{Fetched, RemoteRepository};

use super::compose::Parts;
use super::{EMPTY, Entry, Plan, Stored, UNPACK, UNPACKED_DIGEST};
use crate::error::Failure;
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::remote::outgoing::{Outgoing, Prepared};
use crate::source::NOTHING;

impl Plan {
    /// Pushes everything. After a failure content may be there, which nothing refers to; no manifest and no tag is.
    pub(crate) fn push(
        self,
        to: &RemoteRepository,
        subject: Option<&Descriptor>,
        tags: &[Tag],
        output: &Output,
    ) -> Result<Stored, Failure> {
        interrupt::defer();
        let total = self.files.iter().chain(&self.config).map(|entry| entry.source.size()).sum();
        let mut progress = Progress::new(output.progress(), "Pushing", total);
        let (files, mut existed, mut bytes) = (self.files.len(), 0, 0);
        let directories = self.files.iter().filter(|entry| entry.source.is_directory()).count();
        let mut layers = Vec::with_capacity(files);
        for entry in self.files {
            let (layer, is_old, watched) = entry.send(to, progress)?;
            progress = watched;
            existed += usize::from(is_old);
            bytes += layer.size;
            layers.push(layer);
        }
        let config = match self.config {
            None => None,
            Some(entry) => {
                let (config, _, watched) = entry.send(to, progress)?;
                progress = watched;
                Some(config)
            }
        };
        let parts = Parts {
            artifact_type: self.artifact_type,
            is_v1_0: self.is_v1_0,
            annotations: self.annotations,
            layers,
            config,
        };
        let composed = parts.compose(subject)?;
        if composed.has_empty {
            let empty = Prepared::memory(EMPTY);
            let descriptor = Descriptor::new("", empty.digest, empty.size);
            progress = Outgoing::new(&empty, progress).push(to, &descriptor)?.0;
        }
        drop(progress);
        interrupt::check(NOTHING)?;
        let mut plain = composed.descriptor.clone();
        (plain.artifact_type, plain.annotations) = (None, Default::default());
        to.push_manifest(&Fetched::new(plain, composed.document.clone().into()), tags)?;
        Ok(Stored {
            descriptor: composed.descriptor,
            files,
            directories,
            existed,
            bytes,
            document: composed.document,
            export_manifest: self.export_manifest,
        })
    }
}

impl Entry {
    /// Pushes the content and describes it; whether it was there already, and who watches.
    fn send(
        self,
        to: &RemoteRepository,
        mut progress: Progress,
    ) -> Result<(Descriptor, bool, Progress), Failure> {
        progress.begin(&self.path.to_string_lossy());
        let prepared = Prepared::of(self.source, None)?;
        let mut descriptor = Descriptor::new(self.media_type, prepared.digest, prepared.size);
        let (progress, existed) = Outgoing::new(&prepared, progress).push(to, &descriptor)?;
        if let Some(digest) = prepared.unpacked {
            descriptor.annotations =
                [(UNPACK.into(), "true".into()), (UNPACKED_DIGEST.into(), digest.to_string())].into();
        }
        descriptor.annotations.extend(self.annotations);
        Ok((descriptor, existed, progress))
    }
}
