//! Rebuilding the metadata from the files, after salvaging what the old metadata still tell.
//!
//! The old metadata are moved aside, never deleted. What they tell counts where the files prove it: journalled content
//! by its hash, tags and membership by the content that they name.

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use super::batch::{Expect, Item, Parts};
use super::format::Format;
use super::merge::Absence;
use super::open::{Place, look, make_private, refuse_network};
use super::options::{Durability, Options};
use super::report::Report;
use super::repositories::stored_name;
use super::take_in::{TakeIn, Taken};
use super::{Core, INGEST, METADATA, PRIVATE, QUARANTINE, until};
use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::metadata::{Metadata, RepositoryId, View};
use crate::oci::{RepositoryName, Tag};
use crate::sys::{self, Dir, StoreLock};

/// Journalled content that is filed with one sync.
const GROUP_BYTES: usize = 8 << 20;

/// What a rebuild found and did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RebuildReport {
    /// Repositories with anything in them.
    pub repositories: u64,
    /// Tags in all of them.
    pub tags: u64,
    /// Manifests, counted in each repository that holds them.
    pub manifests: u64,
    /// Contents, manifests among them, counted once.
    pub contents: u64,
    /// Contents that only the old journal had.
    pub salvaged_contents: u64,
    /// Tags that only the old metadata had, or that they had newer.
    pub salvaged_tags: u64,
    /// Why nothing or not everything could be read from the old metadata.
    pub lost: Option<String>,
    /// Findings about single names and contents.
    pub reports: Vec<Report>,
}

impl fmt::Display for RebuildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repositories, tags, manifests, contents, salvaged_contents, salvaged_tags, lost, reports } =
            self;
        write!(
            f,
            "rebuilt: {repositories} repositories, {tags} tags, {manifests} manifests, {contents} contents"
        )?;
        if *salvaged_contents > 0 || *salvaged_tags > 0 {
            write!(
                f,
                "\nsalvaged from the old metadata: {salvaged_contents} contents, {salvaged_tags} tags"
            )?;
        }
        if let Some(lost) = lost {
            write!(f, "\nnot all of the old metadata could be read: {lost}")?;
        }
        for report in reports {
            write!(f, "\n{report}")?;
        }
        Ok(())
    }
}

impl Options {
    /// Makes the metadata of a store anew from its files: tags, membership and graph as last published, with what the old
    /// metadata still tell. All content that is reached is hashed.
    ///
    /// What does not come back without the old metadata: membership of content that no manifest refers to.
    ///
    /// # Errors
    ///
    /// `NotFound` when the directory is neither a store nor a layout; `Locked`; `NoSpace`, `Io`. The old metadata are
    /// kept in `.orlop/quarantine` in any case, and a second try starts from there being none.
    pub fn rebuild(&self, path: impl AsRef<Path>) -> Result<RebuildReport> {
        let path = path.as_ref();
        self.check(path)?;
        if !matches!(look(path)?, Place::Store | Place::Layout) {
            return Err(Error::not_found(format!("no store or layout to rebuild, path={}", path.display())));
        }
        refuse_network(path)?;
        let root = Dir::open_following(path).map_err(|error| Error::io("open the directory", path, error))?;
        let private = make_private(path)?;
        let lock = StoreLock::acquire(&private, Some(self.lock_timeout))?;
        let mut report = RebuildReport::default();
        let old = salvage(path, &private, &mut report)?;
        if let Some(old) = &old {
            let blobs = Blobs::open(&path.join("blobs"), &private.path().join(INGEST), true)?;
            report.salvaged_contents = file_salvaged(&blobs, &old.view(), &mut report.reports)?;
        }
        let core = self.clone().durability(Durability::Power).assemble(path, root, Some(lock))?;
        core.recover()?;
        core.write_layout_file()?;
        core.rebuild_from(old.as_ref(), &mut report)?;
        let stat = core.root_stat()?;
        let format = Format::read(&private).ok().flatten();
        let format = format.map_or_else(|| Format::new(&stat), |format| format.moved_to(&stat));
        format.write(&private, core.blobs.ingest_dir()?)?;
        core.count(&mut report)?;
        report.reports.append(&mut core.reports.lock());
        core.close()?;
        Ok(report)
    }
}

impl Core {
    fn rebuild_from(&self, old: Option<&Metadata>, report: &mut RebuildReport) -> Result<()> {
        let mut merged = self.publishing.lock();
        self.merge_foreign(Absence::Adopt, &mut merged)?;
        if let Some(old) = old {
            // Damage beneath a row ends the reading of the old metadata, not the rebuild.
            if let Err(error) = self.take_old(&old.view(), report) {
                report.lost.get_or_insert_with(|| error.to_string());
            }
        }
        self.signals.view_changed();
        self.publish_locked(&mut merged)
    }

    fn take_old(&self, old: &View<'_>, report: &mut RebuildReport) -> Result<()> {
        let mut repositories = vec![(RepositoryName::unnamed(), RepositoryId::UNNAMED)];
        old.repositories(None, |name, id| {
            repositories.push((stored_name(name)?, id));
            Ok(until(false))
        })?;
        for (repository, id) in &repositories {
            old.manifests(*id, None, |digest, record| {
                self.take_old_manifest(repository, &digest, &record.media_type)?;
                Ok(until(false))
            })?;
            old.blobs(*id, None, |digest| {
                self.take_old_blob(repository, &digest)?;
                Ok(until(false))
            })?;
            old.tags(*id, None, |tag, digest| {
                report.salvaged_tags += u64::from(self.take_old_tag(repository, tag, digest)?);
                Ok(until(false))
            })?;
        }
        Ok(())
    }

    fn take_old_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        media_type: &str,
    ) -> Result<()> {
        let view = self.metadata.view();
        if let Some(id) = view.repository(repository.as_str())?
            && view.manifest(id, digest)?.is_some()
        {
            return Ok(());
        }
        let (mut parts, mut reports) = (Parts::default(), Vec::new());
        // Nothing is granted that the old metadata do not grant themselves: successors have rows of their own there.
        let mut taking = TakeIn::new(self, &view, &mut parts, repository, &[], &mut reports);
        let refusal = match taking.manifest_alone(media_type, digest)? {
            Taken::Yes => return self.commit_taken(parts, true),
            Taken::Absent(reason) | Taken::Refused(reason) => reason,
        };
        self.report(Report::Missing { digest: *digest, reason: refusal });
        Ok(())
    }

    fn take_old_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let view = self.metadata.view();
        if let Some(id) = view.repository(repository.as_str())?
            && view.holds(id, digest)?
        {
            return Ok(());
        }
        let (mut parts, mut reports) = (Parts::default(), Vec::new());
        let mut taking = TakeIn::new(self, &view, &mut parts, repository, &[], &mut reports);
        match taking.blob(digest)? {
            Ok(()) => self.commit_taken(parts, true),
            Err(reason) => {
                self.report(Report::Missing { digest: *digest, reason });
                Ok(())
            }
        }
    }

    fn take_old_tag(&self, repository: &RepositoryName, tag: &str, digest: Digest) -> Result<bool> {
        let view = self.metadata.view();
        let Some(id) = view.repository(repository.as_str())? else { return Ok(false) };
        if view.tag(id, tag)? == Some(digest) || view.manifest(id, &digest)?.is_none() {
            return Ok(false);
        }
        let tag: Tag = super::tags::stored_tag(tag)?;
        let item =
            Item::Tag { repository: repository.clone(), tag, target: Some(digest), expect: Expect::Any };
        self.commit(Parts { items: vec![item], ..Parts::default() })?;
        Ok(true)
    }

    fn count(&self, report: &mut RebuildReport) -> Result<()> {
        let view = self.metadata.snapshot();
        view.contents(|_, _| {
            report.contents += 1;
            Ok(until(false))
        })?;
        let mut ids = vec![RepositoryId::UNNAMED];
        view.repositories(None, |_, id| {
            ids.push(id);
            Ok(until(false))
        })?;
        for id in ids {
            let (mut manifests, mut any) = (0, false);
            view.manifests(id, None, |_, _| {
                manifests += 1;
                Ok(until(false))
            })?;
            view.blobs(id, None, |_| {
                any = true;
                Ok(until(true))
            })?;
            view.tags(id, None, |_, _| {
                report.tags += 1;
                Ok(until(false))
            })?;
            report.manifests += manifests;
            report.repositories += u64::from(any || manifests > 0);
        }
        Ok(())
    }
}

/// Moves the old metadata aside and opens what can be read of them.
fn salvage(path: &Path, private: &Dir, report: &mut RebuildReport) -> Result<Option<Metadata>> {
    let fail = |error| Error::io("move the old metadata aside", private.path(), error);
    if !private.exists(METADATA).map_err(fail)? {
        return Ok(None);
    }
    let name = format!("{METADATA}-{}", sys::now().as_nanosecond());
    let quarantine = private
        .open_dir(QUARANTINE)
        .map_err(fail)?
        .ok_or_else(|| fail(std::io::ErrorKind::NotFound.into()))?;
    private.rename(METADATA, &quarantine, &name).map_err(fail)?;
    quarantine.sync().and_then(|()| private.sync()).map_err(fail)?;
    let aside = path.join(PRIVATE).join(QUARANTINE).join(&name);
    let error = match Metadata::open_read_only(&aside) {
        Ok(old) => return Ok(Some(old)),
        Err(error) => error,
    };
    report.lost = Some(chain(&error));
    match Metadata::salvage(&aside) {
        Ok(old) => Ok(Some(old)),
        Err(error) => {
            report.lost = Some(chain(&error));
            Ok(None)
        }
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Gives journalled content its files, if it is what its key says.
fn file_salvaged(blobs: &Blobs, old: &View<'_>, reports: &mut Vec<Report>) -> Result<u64> {
    let mut count = 0;
    let mut bytes = 0;
    let mut group: Vec<(Digest, Bytes)> = Vec::new();
    let read = old.journal_rows(|digest, _, content| {
        if digest.algorithm().digest(content) != digest {
            reports.push(Report::Missing { digest, reason: "its journalled bytes are damaged".into() });
            return Ok(until(false));
        }
        if blobs.stat_size(&digest)? != Some(content.len() as u64) {
            bytes += content.len();
            group.push((digest, Bytes::copy_from_slice(content)));
        }
        if bytes >= GROUP_BYTES {
            bytes = 0;
            count += blobs.file_many(std::mem::take(&mut group))? as u64;
        }
        Ok(until(false))
    });
    count += blobs.file_many(group)? as u64;
    match read {
        Ok(()) => Ok(count),
        Err(error) if error.kind() == crate::error::ErrorKind::Corrupt => Ok(count),
        Err(error) => Err(error),
    }
}
