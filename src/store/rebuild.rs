//! Rebuilding the metadata from the files, after salvaging what the old metadata still tell.
//!
//! The old metadata are moved aside, never deleted. What they tell counts where the files prove it: journalled content
//! by its hash, tags and membership by the content that they name.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::batch::{Changed, Expect, Item, Parts};
use super::format::Format;
use super::merge::Absence;
use super::observe::{self, Work};
use super::open::{Place, look, make_private, refuse_network};
use super::options::{Durability, Options};
use super::preflight::Unknown;
use super::report::{Report, add};
use super::repositories::stored_name;
use super::tags::stored_tag;
use super::take_in::{TakeIn, Taken};
use super::{Core, INGEST, METADATA, PRIVATE, QUARANTINE, REBUILDING, preflight, until};
use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Metadata, RepositoryId, TagRecord, View, fact};
use crate::oci::{LayoutName, RepositoryName};
use crate::sys::{self, Dir, StoreLock};

/// Contents, manifests or tags of the old metadata that are taken over with one commit.
const GROUP: usize = 256;

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
    /// Tags that the old metadata told.
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
    /// What does not come back without the old metadata: membership of content that no manifest refers to. What never comes
    /// back: repositories that hold nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` when the directory is neither a store nor a layout; `Locked`; `NoSpace`, `Io`. The old metadata are
    /// kept in `.orlop/quarantine` in any case; until a rebuild has come to its end the store opens for nobody, and the next one
    /// salvages the same old metadata.
    pub fn rebuild(&self, path: impl AsRef<Path>) -> Result<RebuildReport> {
        let path = path.as_ref();
        let _span = observe::enter(Work::Rebuild, path);
        self.check(path)?;
        if !matches!(look(path)?, Place::Store | Place::Layout) {
            return Err(Error::not_found(format!("no store or layout to rebuild, path={}", path.display())));
        }
        refuse_network(path)?;
        let root = Dir::open_following(path).map_err(|error| Error::io("open the directory", path, error))?;
        if !root.exists(PRIVATE).map_err(|error| Error::io("look for the metadata", path, error))? {
            // There is nothing but the files to make it from.
            preflight::check(&root, path)?;
        }
        let _plain = StoreLock::acquire_plain(&root, Some(self.lock_timeout))?;
        let private = make_private(path)?;
        let lock = StoreLock::acquire(&private, Some(self.lock_timeout))?;
        // Damage of the record is no reason not to rebuild; what a newer version wrote is.
        let is_store = match Format::read(&private) {
            Ok(Some(format)) => format.refuse_newer(false).map(|()| true)?,
            _ => false,
        };
        if !is_store {
            // Nobody knows what wrote it, so nothing is moved for a layout that would be refused in the end.
            preflight::layout_file_damage(&root, path, Unknown::Refused)?;
        }
        let mut report = RebuildReport::default();
        let old = salvage(path, &private, &mut report)?;
        let blobs = Blobs::open(&path.join("blobs"), &private.path().join(INGEST), true)?;
        let core = self.clone().durability(Durability::Power).assemble(path, root, Some(lock))?;
        core.recover()?;
        core.write_layout_file(if is_store { Unknown::Damaged } else { Unknown::Refused })?;
        core.rebuild_from(old, &blobs, &mut report)?;
        let place = core.root_place()?;
        let format = Format::read(&private).ok().flatten();
        let format = format.map_or_else(|| Format::new(place), |format| format.rebuilt_at(place));
        format.write(&private, core.blobs.ingest_dir()?)?;
        let fail = |error| Error::io("finish the rebuild", private.path(), error);
        private.unlink(REBUILDING).and_then(|_| private.sync()).map_err(fail)?;
        core.count(&mut report)?;
        report.reports.append(&mut core.reports.lock());
        core.close()?;
        Ok(report)
    }
}

impl Core {
    /// The old metadata first, with what they know of the published view, then `index.json` merged into that: so what was
    /// acknowledged and not yet published stays, and so does what another tool changed.
    fn rebuild_from(&self, old: Option<Old>, blobs: &Blobs, report: &mut RebuildReport) -> Result<()> {
        let mut merged = self.publishing.lock();
        if let Some(Old { metadata, aside, repaired }) = old {
            let damage = self.take_old(&metadata, blobs, report)?;
            let interrupted = metadata.view().fingerprint(fact::PENDING).unwrap_or_default();
            drop(metadata);
            // Damage that shows only when it is read: first everything up to it, then, without the tables that have it,
            // everything else.
            if let Some(error) = damage {
                report.lost.get_or_insert_with(|| chain(&error));
                if !repaired && let Ok(metadata) = Metadata::repair(&aside) {
                    self.take_old(&metadata, blobs, report)?;
                }
            }
            // With the base rows taken over, as the next open of the old metadata would.
            if let Some(pending) = interrupted
                && !self.settle_interrupted(&pending)?
            {
                let mut rows = self.metadata.rows();
                rows.put_fingerprint(fact::PENDING, &pending);
                self.write(rows)?;
            }
        }
        self.merge_foreign(Absence::Adopt, &mut merged)?;
        self.signals.view_changed();
        self.publish_locked(&mut merged)
    }

    /// Takes what can be read; answers the damage that was met.
    fn take_old(&self, old: &Metadata, blobs: &Blobs, report: &mut RebuildReport) -> Result<Option<Error>> {
        let view = old.view();
        let mut damage = None;
        file_salvaged(blobs, &view, report, &mut damage)?;
        let mut taking = TakeOld { core: self, old: &view, group: Parts::default(), failed: false };
        taking.all(report, &mut damage)?;
        Ok(damage)
    }

    fn count(&self, report: &mut RebuildReport) -> Result<()> {
        let view = self.metadata.snapshot();
        view.contents(|_, _| {
            report.contents += 1;
            Ok(until(false))
        })?;
        let mut ids = Vec::new();
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

/// Takes over what the old metadata grant, as far as the files prove it.
struct TakeOld<'a> {
    core: &'a Core,
    old: &'a View<'a>,
    group: Parts,
    /// Something failed beside the reading of the old metadata.
    failed: bool,
}

impl TakeOld<'_> {
    /// Takes note when what is done here fails, other than by damage of content.
    fn own<T>(&mut self, result: Result<T>) -> Result<T> {
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Corrupt);
        result
    }

    /// Damage ends one scan of the old metadata, not the rebuild. The next rebuild begins with the same old metadata, which a
    /// failure of this one must not cut short.
    fn pass_over(&self, outcome: Result<()>, damage: &mut Option<Error>) -> Result<()> {
        match outcome {
            Err(error) if !self.failed => {
                damage.get_or_insert(error);
                Ok(())
            }
            other => other,
        }
    }

    fn all(&mut self, report: &mut RebuildReport, damage: &mut Option<Error>) -> Result<()> {
        let old = self.old;
        let mut repositories = Vec::new();
        let found = old.repositories(None, |name, id| {
            repositories.push((stored_name(name)?, id));
            Ok(until(false))
        });
        self.pass_over(found, damage)?;
        for (repository, id) in &repositories {
            let manifests = old.manifests(*id, None, |digest, record| {
                // Nothing is granted that the old metadata do not grant: successors have rows of their own.
                self.take(repository, &digest, |taking| {
                    match taking.manifest_alone(&record.media_type, &digest)? {
                        Taken::Yes => Ok(None),
                        Taken::Absent(reason) | Taken::Refused(reason) => Ok(Some(reason)),
                    }
                })
            });
            self.pass_over(manifests, damage)?;
            let contents = old.blobs(*id, None, |digest| {
                self.take(repository, &digest, |taking| Ok(taking.blob(&digest)?.err()))
            });
            self.pass_over(contents, damage)?;
        }
        let done = self.commit();
        self.pass_over(done, damage)?;
        let mut salvaged = 0;
        for (repository, id) in &repositories {
            let tags = old.tag_records(*id, None, |tag, record| {
                salvaged += u64::from(self.tag(repository, tag, record)?);
                Ok(until(false))
            });
            self.pass_over(tags, damage)?;
        }
        report.salvaged_tags = report.salvaged_tags.max(salvaged);
        let done = self.commit();
        self.pass_over(done, damage)?;
        let bases = self.bases(&repositories);
        self.pass_over(bases, damage)?;
        let quotas = self.quotas(&repositories);
        self.pass_over(quotas, damage)
    }

    fn take(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        take: impl FnOnce(&mut TakeIn<'_>) -> Result<Option<String>>,
    ) -> Result<ControlFlow<()>> {
        let view = self.core.metadata.view();
        let mut reports = Vec::new();
        let refusal =
            take(&mut TakeIn::new(self.core, &view, &mut self.group, repository, &[], &mut reports));
        let refusal = self.own(refusal)?;
        if let Some(reason) = refusal {
            self.core.report(Report::Missing { digest: *digest, reason });
        }
        if self.group.items.len() >= GROUP {
            self.commit()?
        }
        Ok(until(false))
    }

    fn tag(&mut self, repository: &RepositoryName, tag: &str, record: TagRecord) -> Result<bool> {
        let TagRecord { target: digest, changed } = record;
        let view = self.core.metadata.view();
        let held = match view.repository(repository.as_str())? {
            Some(id) => view.manifest(id, &digest)?.is_some(),
            None => false,
        };
        if held {
            let (repository, tag) = (repository.clone(), stored_tag(tag)?);
            let (target, expect, changed) = (Some(digest), Expect::Any, Changed::Earlier(changed));
            self.group.items.push(Item::Tag { repository, tag, target, expect, changed });
        }
        if self.group.items.len() >= GROUP {
            self.commit()?
        }
        Ok(held)
    }

    /// The base rows as they were: for tags that are as published none, although they are new to these metadata.
    fn bases(&mut self, repositories: &[(RepositoryName, RepositoryId)]) -> Result<()> {
        let mut rows = self.core.metadata.rows();
        for (repository, id) in repositories {
            self.old.tags(*id, None, |tag, _| {
                rows.delete_base(&LayoutName::of(repository, &stored_tag(tag)?));
                Ok(until(false))
            })?;
        }
        self.old.bases(|name, target| {
            rows.put_base(name, target.as_ref());
            Ok(until(false))
        })?;
        let written = self.core.write(rows);
        self.own(written)
    }

    /// The limits as they were: of the store, and of repositories that came back.
    fn quotas(&mut self, repositories: &[(RepositoryName, RepositoryId)]) -> Result<()> {
        let mut rows = self.core.metadata.rows();
        let view = self.core.metadata.view();
        // Metadata that were repaired may lack a limit that the damaged ones still had.
        let quota = self.old.quota(None)?;
        if !quota.is_unlimited() {
            rows.put_quota(None, &quota);
        }
        for (repository, id) in repositories {
            if let Some(now) = view.repository(repository.as_str())? {
                let quota = self.old.quota(Some(*id))?;
                if !quota.is_unlimited() {
                    rows.put_quota(Some(now), &quota);
                }
            }
        }
        let written = self.core.write(rows);
        self.own(written)
    }

    fn commit(&mut self) -> Result<()> {
        let committed = self.core.commit_taken(std::mem::take(&mut self.group), true);
        self.own(committed)
    }
}

/// The old metadata, aside.
struct Old {
    metadata: Metadata,
    aside: PathBuf,
    repaired: bool,
}

/// Moves the old metadata aside and opens what can be read of them. After an interrupted rebuild those are in quarantine
/// already, and what it left half-made follows them.
fn salvage(path: &Path, private: &Dir, report: &mut RebuildReport) -> Result<Option<Old>> {
    let fail = |error| Error::io("move the old metadata aside", private.path(), error);
    let missing = || fail(std::io::ErrorKind::NotFound.into());
    let quarantine = private.open_dir(QUARANTINE).map_err(fail)?.ok_or_else(missing)?;
    let staging = Dir::create(&private.path().join(INGEST)).map_err(fail)?;
    let now = format!("{METADATA}-{}", sys::now().as_nanosecond());
    let earlier = match private.open_file(REBUILDING).map_err(fail)? {
        Some(file) => {
            let mut name = String::new();
            std::io::Read::read_to_string(&mut std::io::Read::take(file, 256), &mut name).map_err(fail)?;
            Some(name).filter(|name| quarantine.open_dir(name).is_ok_and(|found| found.is_some()))
        }
        None => None,
    };
    let present = private.exists(METADATA).map_err(fail)?;
    let name = earlier.clone().unwrap_or_else(|| now.clone());
    sys::replace(private, &staging, REBUILDING, name.as_bytes()).map_err(fail)?;
    if present {
        private.rename(METADATA, &quarantine, &now).map_err(fail)?;
        quarantine.sync().and_then(|()| private.sync()).map_err(fail)?;
    } else if earlier.is_none() {
        return Ok(None);
    }
    let aside = path.join(PRIVATE).join(QUARANTINE).join(&name);
    let error = match Metadata::open_read_only(&aside) {
        Ok(metadata) => {
            let torn = metadata.torn().map(|bytes| Report::Torn { bytes });
            torn.into_iter().for_each(|torn| add(&mut report.reports, torn));
            return Ok(Some(Old { metadata, aside, repaired: false }));
        }
        Err(error) => error,
    };
    report.lost = Some(chain(&error));
    // A log that lost its end is sound up to there.
    if let Ok(metadata) = Metadata::open_what_is_left(&aside) {
        return Ok(Some(Old { metadata, aside, repaired: false }));
    }
    match Metadata::salvage(&aside) {
        Ok(metadata) => Ok(Some(Old { metadata, aside, repaired: true })),
        // A call that failed is no loss: the rebuild can be tried again.
        Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
        Err(error) => {
            report.lost = Some(chain(&error));
            Ok(None)
        }
    }
}

/// The message of an error and of what caused it.
pub(super) fn chain(error: &Error) -> String {
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
fn file_salvaged(
    blobs: &Blobs,
    old: &View<'_>,
    report: &mut RebuildReport,
    damage: &mut Option<Error>,
) -> Result<()> {
    let mut bytes = 0;
    let mut group: Vec<(Digest, Bytes)> = Vec::new();
    let read = old.journal_rows(|digest, _, content| {
        if digest.algorithm().digest(content) != digest {
            let reason = "its journalled bytes are damaged".into();
            add(&mut report.reports, Report::Missing { digest, reason });
            return Ok(until(false));
        }
        if blobs.stat_size(&digest)? != Some(content.len() as u64) {
            bytes += content.len();
            group.push((digest, Bytes::copy_from_slice(content)));
        }
        if bytes >= GROUP_BYTES {
            bytes = 0;
            report.salvaged_contents += blobs.file_many(std::mem::take(&mut group))? as u64;
        }
        Ok(until(false))
    });
    report.salvaged_contents += blobs.file_many(group)? as u64;
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            damage.get_or_insert(error);
            Ok(())
        }
        other => other,
    }
}
