//! Taking in files that another tool put into `blobs/`: hashed before they are trusted, with everything that a manifest
//! reaches.

use std::collections::HashSet;

use super::Core;
use super::batch::{Item, NewManifest, Parts};
use super::commit::Source;
use super::report::Report;
use crate::blobs::{Blob, BlobReader};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::View;
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, ManifestKind, RepositoryName, Role, media_type};

/// How many bytes of content that its descriptors carry a view that only reads takes: they have nowhere else to be.
const MAX_CARRIED: u64 = 8 << 20;

/// What became of one manifest.
pub(super) enum Taken {
    /// It will be in the repository with the commit of the parts.
    Yes,
    /// Its file is not there, or not what its name says.
    Absent(String),
    /// It is there and breaks a rule.
    Refused(String),
}

/// A manifest whose successors are taken in before it is: so many of them were.
struct Open {
    digest: Digest,
    size: u64,
    manifest: Manifest,
    next: usize,
}

/// Takes in manifests for one repository.
pub(super) struct TakeIn<'a> {
    core: &'a Core,
    view: &'a View<'a>,
    parts: &'a mut Parts,
    repository: &'a RepositoryName,
    /// What this repository is known not to hold, although it is there for others.
    lacking: &'a [Digest],
    reports: &'a mut Vec<Report>,
    visited: HashSet<Digest>,
    unsynced: bool,
}

impl<'a> TakeIn<'a> {
    pub(super) fn new(
        core: &'a Core,
        view: &'a View<'a>,
        parts: &'a mut Parts,
        repository: &'a RepositoryName,
        lacking: &'a [Digest],
        reports: &'a mut Vec<Report>,
    ) -> Self {
        Self { core, view, parts, repository, lacking, reports, visited: HashSet::new(), unsynced: false }
    }

    /// Whether files were taken in that nobody synced yet.
    pub(super) fn unsynced(&self) -> bool {
        self.unsynced
    }

    /// A manifest with everything that it reaches, what it refers to first. Indexes in indexes take memory and no stack, however
    /// many a hostile layout has.
    pub(super) fn manifest(&mut self, media_type: &str, digest: &Digest) -> Result<Taken> {
        let mut open = Vec::new();
        let taken = self.open(&mut open, media_type, digest, None)?;
        while let Some(mut top) = open.pop() {
            let Some(child) = top.manifest.successors().get(top.next) else {
                self.take(top);
                continue;
            };
            let descriptor = child.descriptor.clone();
            let is_nested = child.role == Role::Manifest && is_manifest(&descriptor.media_type);
            let parent = top.digest;
            top.next += 1;
            open.push(top);
            if self.lacking.contains(&descriptor.digest) {
                continue;
            }
            self.carried(&descriptor)?;
            if !is_nested {
                self.leaf(&parent, &descriptor)?;
                continue;
            }
            match self.open(&mut open, &descriptor.media_type, &descriptor.digest, Some(descriptor.size))? {
                Taken::Yes => {}
                Taken::Refused(reason) => self.refuse(&descriptor.digest, reason),
                Taken::Absent(reason) => self.absent(&parent, &descriptor, reason),
            }
        }
        Ok(taken)
    }

    /// A manifest without what it refers to.
    pub(super) fn manifest_alone(&mut self, media_type: &str, digest: &Digest) -> Result<Taken> {
        let mut open = Vec::new();
        let taken = self.open(&mut open, media_type, digest, None)?;
        open.into_iter().for_each(|manifest| self.take(manifest));
        Ok(taken)
    }

    /// Takes the content that a descriptor carries itself, if it has no file.
    pub(super) fn carried(&mut self, descriptor: &Descriptor) -> Result<()> {
        let digest = &descriptor.digest;
        if descriptor.data.is_none() || self.parts.sources.contains_key(digest) {
            return Ok(());
        }
        let has_file = match self.core.blobs.stat_size(digest) {
            Ok(size) => size == Some(descriptor.size),
            // Something else has its name, which nobody may replace: it is told as what it is.
            Err(error) => damage(error).map(|_| true)?,
        };
        let no_room =
            self.core.ephemeral.is_some() && self.core.journal.bytes() + descriptor.size > MAX_CARRIED;
        if has_file || no_room || self.core.is_hit(self.view, digest)? {
            return Ok(());
        }
        if let Some(bytes) = descriptor.inlined() {
            self.parts.sources.insert(*digest, Source::Inline(bytes.into()));
        }
        Ok(())
    }

    /// A blob; otherwise why not.
    pub(super) fn blob(&mut self, digest: &Digest) -> Result<Result<(), String>> {
        let found = self.content(digest, None)?;
        if found.is_ok() {
            self.parts.items.push(Item::Hold { repository: self.repository.clone(), digest: *digest });
        }
        Ok(found.map(|_| ()))
    }

    /// Reads a manifest that was not met before; otherwise why it cannot be taken in.
    fn open(
        &mut self,
        open: &mut Vec<Open>,
        media_type: &str,
        digest: &Digest,
        announced: Option<u64>,
    ) -> Result<Taken> {
        if !self.visited.insert(*digest) {
            return Ok(Taken::Yes);
        }
        let (manifest, size) = if is_manifest(media_type) {
            let content = match self.manifest_bytes(digest)? {
                Ok(content) => content,
                Err(taken) => return Ok(taken),
            };
            let found = content.len() as u64;
            if let Some(expected) = announced.filter(|expected| *expected != found) {
                return Ok(Taken::Refused(wrong_size(expected, found)));
            }
            let media_type = if media_type.is_empty() {
                Manifest::sniff(&content).unwrap_or_default()
            } else {
                media_type
            };
            match Manifest::read(media_type, &content) {
                Ok(manifest) => (manifest, content.len() as u64),
                Err(error) => return Ok(Taken::Refused(error.to_string())),
            }
        } else {
            match (self.content(digest, None)?, Manifest::parse(media_type, &[])) {
                (Err(reason), _) => return Ok(Taken::Absent(reason)),
                (_, Err(error)) => return Ok(Taken::Refused(error.to_string())),
                (Ok(size), Ok(manifest)) => (manifest, size),
            }
        };
        open.push(Open { digest: *digest, size, manifest, next: 0 });
        Ok(Taken::Yes)
    }

    fn take(&mut self, Open { digest, size, manifest, .. }: Open) {
        let repository = self.repository.clone();
        let new = NewManifest { repository, digest, size, manifest, sparse: true };
        self.parts.items.push(Item::Manifest(Box::new(new)));
    }

    /// Content that is no manifest.
    fn leaf(&mut self, parent: &Digest, descriptor: &Descriptor) -> Result<()> {
        if !self.visited.insert(descriptor.digest) {
            return Ok(());
        }
        match self.content(&descriptor.digest, Some(descriptor.size))? {
            Ok(_) => {
                let (repository, digest) = (self.repository.clone(), descriptor.digest);
                self.parts.items.push(Item::Hold { repository, digest });
            }
            Err(reason) => self.absent(parent, descriptor, reason),
        }
        Ok(())
    }

    /// The verified bytes of a manifest, taken in if they are new.
    fn manifest_bytes(&mut self, digest: &Digest) -> Result<Result<Blob, Taken>> {
        if let Some(Source::Inline(bytes)) = self.parts.sources.get(digest) {
            return Ok(Ok(Blob::journalled(*digest, bytes.clone())));
        }
        if self.core.is_hit(self.view, digest)? {
            return match self.core.load(self.view, digest) {
                Ok(Some(content)) => Ok(Ok(content)),
                Ok(None) => Ok(Err(Taken::Absent("its content is missing".into()))),
                Err(error) => damage(error).map(|reason| Err(Taken::Absent(reason))),
            };
        }
        let size = match self.core.blobs.stat_size(digest) {
            Ok(Some(size)) => size,
            Ok(None) => return Ok(Err(Taken::Absent("its content is missing".into()))),
            Err(error) => return damage(error).map(|reason| Err(Taken::Absent(reason))),
        };
        if size > MAX_MANIFEST_SIZE as u64 {
            return Ok(Err(Taken::Refused(format!(
                "manifest is too large, size={size}, limit={MAX_MANIFEST_SIZE}"
            ))));
        }
        let verified = Blob::read(&self.core.blobs, *digest, size).and_then(|content| {
            content.as_ref().map(Blob::verify).transpose()?;
            Ok(content)
        });
        match verified {
            Ok(Some(content)) => {
                self.in_place(digest, size, false);
                Ok(Ok(content))
            }
            Ok(None) => Ok(Err(Taken::Absent("its content is missing".into()))),
            Err(error) => damage(error).map(|reason| Err(Taken::Absent(reason))),
        }
    }

    /// The size of a content that is there and what its name says; otherwise why not.
    fn content(&mut self, digest: &Digest, expected: Option<u64>) -> Result<Result<u64, String>> {
        if let Some(source) = self.parts.sources.get(digest) {
            return Ok(Ok(source.size()));
        }
        if self.core.is_hit(self.view, digest)?
            && let Some(record) = self.view.content(digest)?
        {
            return Ok(Ok(record.size));
        }
        let size = match self.core.blobs.stat_size(digest) {
            Ok(Some(size)) => size,
            Ok(None) => return Ok(Err("its content is missing".into())),
            Err(error) => return damage(error).map(Err),
        };
        if let Some(expected) = expected.filter(|expected| *expected != size) {
            return Ok(Err(wrong_size(expected, size)));
        }
        // A view that only reads hashes at the first read instead.
        let unverified = self.core.ephemeral.is_some();
        if !unverified {
            let verified = BlobReader::open(&self.core.blobs, *digest, size, false)
                .and_then(|reader| reader.as_ref().map(BlobReader::verify).transpose());
            match verified {
                Ok(Some(())) => {}
                Ok(None) => return Ok(Err("its content is missing".into())),
                Err(error) => return damage(error).map(Err),
            }
        }
        self.in_place(digest, size, unverified);
        Ok(Ok(size))
    }

    fn in_place(&mut self, digest: &Digest, size: u64, unverified: bool) {
        self.parts.sources.insert(*digest, Source::InPlace { size, unverified });
        self.unsynced = true;
    }

    /// Sparse layouts are legal, and what is not for distribution is rarely there; damage is told as what it is.
    fn absent(&mut self, parent: &Digest, descriptor: &Descriptor, reason: String) {
        let damaged = !matches!(self.core.blobs.stat_size(&descriptor.digest), Ok(None));
        if damaged {
            self.refuse(&descriptor.digest, reason);
        } else if !media_type::is_non_distributable(&descriptor.media_type) && descriptor.urls.is_empty() {
            self.reports.push(Report::Absent { digest: descriptor.digest, manifest: *parent });
        }
    }

    fn refuse(&mut self, digest: &Digest, reason: String) {
        self.reports.push(Report::Refused { name: String::new(), digest: digest.to_string(), reason });
    }
}

/// Whether content of a media type is read as a manifest. What is listed without any tells by itself what it is.
fn is_manifest(media_type: &str) -> bool {
    media_type.is_empty() || ManifestKind::of(media_type).is_some()
}

fn wrong_size(expected: u64, found: u64) -> String {
    format!("its file has another size than announced, expected={expected}, found={found}")
}

/// Damage is a reason not to take something in; any other error ends the merge.
fn damage(error: Error) -> Result<String> {
    if error.kind() == ErrorKind::Corrupt { Ok(error.to_string()) } else { Err(error) }
}
