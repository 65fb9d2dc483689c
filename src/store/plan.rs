//! A batch, checked against the store under its locks, as rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::Core;
use super::batch::{Changed, Committed, Expect, Item, NewManifest, Pushed, TagChange};
use super::commit::{New, Row, Source};
use super::lost::Lost;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{
    ContentRecord, EventChange, Kind, ManifestRecord, ReferrerRecord, RepositoryId, Rows, TagRecord, View,
    fact,
};
use crate::oci::{Descriptor, LayoutName, RepositoryName, Role, Tag, media_type};

/// Bytes that the rows of a content take in a batch, beside the content.
const ROWS_OF_CONTENT: usize = 320;

/// Absent successors named in an error; the rest is counted.
const NAMED: usize = 5;

/// What a batch comes to.
pub(super) struct Planned<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) committed: Committed,
    /// Whether `index.json` changes.
    pub(super) view_changed: bool,
    /// Whether a manifest came without all that it refers to.
    pub(super) sparse: bool,
    /// What is told to readers of events, if the store has them.
    pub(super) changes: Vec<EventChange>,
}

/// The state of the store as the batch leaves it, as far as the batch asks.
pub(super) struct Plan<'a, 'b> {
    pub(super) core: &'a Core,
    pub(super) view: View<'a>,
    sources: &'b BTreeMap<Digest, Source>,
    pub(super) new: &'b New,
    ids: HashMap<RepositoryName, RepositoryId>,
    held: HashSet<(RepositoryId, Kind, Digest)>,
    /// What the batch adds to each repository, in whatever order; and what of it are manifests.
    pub(super) added: HashSet<(RepositoryName, Digest)>,
    added_manifests: HashSet<(RepositoryName, Digest)>,
    /// What the batch takes from each repository.
    pub(super) removed: HashSet<(RepositoryName, Kind, Digest)>,
    tags: HashMap<(RepositoryId, Tag), Option<Digest>>,
    bases: HashSet<String>,
    /// What the batch leaves without an edge.
    pub(super) lost: Lost,
    pub(super) planned: Planned<'a>,
}

impl Item {
    pub(super) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        let (first, second) = match self {
            Self::Hold { repository, .. }
            | Self::Tag { repository, .. }
            | Self::Remove { repository, .. }
            | Self::EndUpload { repository, .. } => (Some(repository), None),
            Self::Mount { repository, from, .. } => (Some(repository), Some(from)),
            Self::Manifest(new) => (Some(&new.repository), None),
            Self::Lease { .. } | Self::Foreign { .. } | Self::Extra { .. } => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// What is locked by name beside the repository: a tag, or a manifest's membership.
    pub(super) fn name(&self) -> Option<(&str, String)> {
        match self {
            // A removal has its repository for itself.
            Self::Hold { .. }
            | Self::Mount { .. }
            | Self::Remove { .. }
            | Self::EndUpload { .. }
            | Self::Extra { .. } => None,
            Self::Manifest(new) => Some((new.repository.as_str(), new.digest.to_string())),
            Self::Tag { repository, tag, .. } => Some((repository.as_str(), tag.to_string())),
            Self::Lease { id } => Some(Core::lease_name(id)),
            // No repository has this name.
            Self::Foreign { name, .. } => Some(("\0", name.clone())),
        }
    }

    /// The repository that loses something, other than a tag.
    pub(super) fn removes_from(&self) -> Option<&str> {
        match self {
            Self::Remove { repository, .. } => Some(repository.as_str()),
            _ => None,
        }
    }

    /// Content that must go on existing while the batch is committed.
    pub(super) fn needs(&self) -> Vec<&Digest> {
        match self {
            Self::Hold { digest, .. } | Self::Mount { digest, .. } => vec![digest],
            // A referrer is told whether its subject is here, which no collection may change meanwhile.
            Self::Manifest(new) => {
                let children = new.manifest.successors().iter().map(|child| &child.descriptor.digest);
                children.chain(new.manifest.subject().map(|subject| &subject.digest)).collect()
            }
            Self::Tag { target, .. } => target.iter().collect(),
            Self::Remove { .. }
            | Self::EndUpload { .. }
            | Self::Lease { .. }
            | Self::Foreign { .. }
            | Self::Extra { .. } => Vec::new(),
        }
    }
}

impl<'a, 'b> Plan<'a, 'b> {
    pub(super) fn new(core: &'a Core, sources: &'b BTreeMap<Digest, Source>, new: &'b New) -> Self {
        let size = |digest: &Digest| match sources.get(digest) {
            Some(Source::Inline(bytes)) => bytes.len() + ROWS_OF_CONTENT,
            _ => ROWS_OF_CONTENT,
        };
        let mut rows = core.metadata.rows_of(new.keys().map(size).sum());
        for (digest, row) in new {
            let Some(source) = sources.get(digest) else { continue };
            let unverified = matches!(source, Source::InPlace { unverified: true, .. });
            let record = ContentRecord { unverified, ..ContentRecord::new(source.size()) };
            match row {
                Row::None => rows.put_new_content(digest, &record),
                Row::Unlike => rows.put_content(digest, &record),
            }
            if let Source::Inline(bytes) = source {
                rows.put_journal(digest, core.next_journal_id(), bytes);
            }
        }
        Self {
            core,
            view: core.metadata.view(),
            sources,
            new,
            ids: HashMap::new(),
            held: HashSet::new(),
            added: HashSet::new(),
            added_manifests: HashSet::new(),
            removed: HashSet::new(),
            tags: HashMap::new(),
            bases: HashSet::new(),
            lost: Lost::default(),
            planned: Planned {
                rows,
                committed: Committed::default(),
                view_changed: false,
                sparse: false,
                changes: Vec::new(),
            },
        }
    }

    pub(super) fn finish(self) -> Planned<'a> {
        self.planned
    }

    /// Turns the items into rows. Tags change in the order of the calls; content and manifests have none.
    pub(super) fn add_all(&mut self, items: Vec<Item>) -> Result<()> {
        for item in &items {
            let (repository, digest) = match item {
                Item::Hold { repository, digest } | Item::Mount { repository, digest, .. } => {
                    (repository, *digest)
                }
                Item::Manifest(new) => {
                    self.added_manifests.insert((new.repository.clone(), new.digest));
                    (&new.repository, new.digest)
                }
                Item::Remove { repository, kind, digest, .. } => {
                    self.removed.insert((repository.clone(), *kind, *digest));
                    continue;
                }
                Item::Tag { .. }
                | Item::EndUpload { .. }
                | Item::Lease { .. }
                | Item::Foreign { .. }
                | Item::Extra { .. } => continue,
            };
            self.added.insert((repository.clone(), digest));
        }
        self.lease(&items)?;
        let (tags, others): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| matches!(item, Item::Tag { .. }));
        // What can be refused comes first: the rows of a manifest take a sequence number, and the engine's counter must not
        // fall behind ours.
        tags.into_iter().try_for_each(|item| self.add(item))?;
        let manifests =
            || others.iter().filter_map(|item| if let Item::Manifest(new) = item { Some(new) } else { None });
        if manifests().nth(1).is_some() {
            manifests().try_for_each(|new| self.check_successors(new))?;
        }
        others.into_iter().try_for_each(|item| self.add(item))?;
        self.queue_lost()
    }

    fn add(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Hold { repository, digest } => self.hold(&repository, &digest),
            Item::Mount { repository, from, digest } => self.mount(&repository, &from, &digest),
            Item::Manifest(new) => self.manifest(&new),
            Item::Tag { repository, tag, target, expect, changed } => {
                self.tag(repository, tag, target, expect, changed)
            }
            Item::EndUpload { repository, id } => self.end_upload(&repository, &id),
            Item::Remove { repository, kind, digest, listed } => {
                self.remove(&repository, kind, &digest, listed)
            }
            // All of them at the beginning.
            Item::Lease { .. } => Ok(()),
            Item::Foreign { name, digest, json } => {
                self.core.foreign_epoch.fetch_add(1, Ordering::Relaxed);
                match json {
                    Some(json) => self.planned.rows.put_foreign(&name, &digest, &json),
                    None => self.planned.rows.delete_foreign(&name, &digest),
                }
                self.planned.view_changed = true;
                Ok(())
            }
            Item::Extra { name, digest, json } => {
                self.core.foreign_epoch.fetch_add(1, Ordering::Relaxed);
                self.planned.rows.put_extra(name.as_deref(), &digest, &json);
                Ok(())
            }
        }
    }

    fn hold(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let id = self.id_or_create(repository)?;
        self.put_member(id, digest, None)?;
        self.pushed(digest)
    }

    fn mount(&mut self, repository: &RepositoryName, from: &RepositoryName, digest: &Digest) -> Result<()> {
        let held = match self.id(from)? {
            Some(id) => self.holds_still(from, id, digest)?,
            None => false,
        };
        if !held {
            return Err(Error::not_found(format!(
                "the repository to mount from does not hold the content, repository={from}, digest={digest}"
            )));
        }
        self.hold(repository, digest)
    }

    fn manifest(&mut self, new: &NewManifest) -> Result<()> {
        let NewManifest { repository, digest, manifest, sparse: may_lack, .. } = new;
        let id = self.id_or_create(repository)?;
        let known = self.view.manifest(id, digest)?;
        let same =
            known.as_ref().is_some_and(|known| known.media_type == manifest.media_type() && !known.sparse);
        if same || self.held.contains(&(id, Kind::Manifest, *digest)) {
            return self.pushed(digest);
        }
        let absent = self.absent_successors(id, new)?;
        if let Some(error) = absent.refusal(*may_lack, repository, digest) {
            return Err(error);
        }
        let record = ManifestRecord {
            media_type: manifest.media_type().to_owned(),
            artifact_type: manifest.artifact_type().map(str::to_owned),
            sequence: known.as_ref().map_or_else(|| self.core.next_sequence(), |known| known.sequence),
            sparse: absent.any,
        };
        if let Some(known) = known.filter(|known| known.media_type != record.media_type) {
            self.delete_edges(id, digest, &known)?;
        }
        self.put_edges(id, new);
        if let Some(subject) = manifest.subject() {
            self.put_referrer(id, &subject.digest, new, &record);
        }
        if record.sparse && !self.planned.sparse {
            self.planned.rows.put_flag(fact::SPARSE);
            self.planned.sparse = true;
        }
        self.put_member(id, digest, Some(&record))?;
        self.tell_pushed(new);
        self.planned.view_changed = true;
        self.pushed(digest)
    }

    fn check_successors(&mut self, new: &NewManifest) -> Result<()> {
        let id = self.id_or_create(&new.repository)?;
        let absent = self.absent_successors(id, new)?;
        absent.refusal(new.sparse, &new.repository, &new.digest).map_or(Ok(()), Err)
    }

    /// What the repository lacks of what the manifest refers to.
    fn absent_successors(&mut self, id: RepositoryId, new: &NewManifest) -> Result<Absent> {
        let mut absent = Absent::default();
        for child in new.manifest.successors() {
            let descriptor = &child.descriptor;
            if self.added.contains(&(new.repository.clone(), descriptor.digest))
                || self.holds_still(&new.repository, id, &descriptor.digest)?
            {
                continue;
            }
            absent.any = true;
            let exempt =
                media_type::is_non_distributable(&descriptor.media_type) || !descriptor.urls.is_empty();
            if !exempt {
                if absent.named.len() < NAMED {
                    absent.named.push(descriptor.digest);
                }
                absent.required += 1;
            }
        }
        Ok(absent)
    }

    fn put_edges(&mut self, id: RepositoryId, new: &NewManifest) {
        let mut roles: BTreeMap<Digest, u8> = BTreeMap::new();
        for child in new.manifest.successors() {
            *roles.entry(child.descriptor.digest).or_default() |= 1 << child.role.code();
        }
        if let Some(subject) = new.manifest.subject() {
            *roles.entry(subject.digest).or_default() |= 1 << Role::Subject.code();
        }
        for (child, roles) in roles {
            self.planned.rows.put_edge(id, &child, &new.digest, roles);
            self.lost.refers(id, &new.digest, &child, roles);
        }
    }

    fn put_referrer(
        &mut self,
        id: RepositoryId,
        subject: &Digest,
        new: &NewManifest,
        record: &ManifestRecord,
    ) {
        let mut descriptor = Descriptor::new(record.media_type.as_str(), new.digest, new.size);
        descriptor.artifact_type.clone_from(&record.artifact_type);
        descriptor.annotations.clone_from(new.manifest.annotations());
        let row =
            ReferrerRecord { descriptor, created: new.manifest.created(), annotations_elsewhere: false };
        self.planned.rows.put_referrer(id, subject, record.sequence, &row);
    }

    /// The same bytes under another media type have other edges.
    fn delete_edges(&mut self, id: RepositoryId, digest: &Digest, known: &ManifestRecord) -> Result<()> {
        match self.core.parse_stored(&self.view, &known.media_type, digest) {
            Ok(Some(old)) => {
                self.lost.orphans(id, &old);
                Core::delete_edges(&mut self.planned.rows, &self.view, id, digest, known, &old)
            }
            Ok(None) => Ok(()),
            // This push heals it; an edge too many keeps content, it does not lose any.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn tag(
        &mut self,
        repository: RepositoryName,
        tag: Tag,
        target: Option<Digest>,
        expect: Expect,
        changed: Changed,
    ) -> Result<()> {
        let id = match target {
            Some(_) => Some(self.id_or_create(&repository)?),
            None => self.id(&repository)?,
        };
        let previous = match id {
            Some(id) => self.current_tag(id, &tag)?,
            None => None,
        };
        check_expectation(&repository, &tag, previous, expect)?;
        if let (Some(id), Some(target)) = (id, target)
            && !self.added_manifests.contains(&(repository.clone(), target))
            && !self.is_still(&repository, id, Kind::Manifest, &target)?
        {
            return Err(Error::not_found(format!(
                "the repository does not hold the manifest to be tagged, repository={repository}, tag={tag}, digest={target}"
            )));
        }
        if let Some(id) = id
            && previous != target
        {
            if changed == Changed::Merged {
                let name = LayoutName::of(&repository, &tag);
                self.planned.rows.put_base(&name, target.as_ref());
                self.bases.insert(name);
            } else {
                self.put_base(&repository, &tag, previous)?;
            }
            self.replace_foreign(&repository, &tag)?;
            let record = target.map(|target| TagRecord { target, changed: changed.time() });
            self.planned.rows.move_tag(id, tag.as_str(), previous.as_ref(), record.as_ref());
            self.tell_tagged(&repository, &tag, previous, target);
            self.lost.moved_tag(id, previous, target, changed);
            self.tags.insert((id, tag.clone()), target);
            self.planned.view_changed = true;
        }
        self.planned.committed.tags.push(TagChange { repository, tag, previous, current: target });
        Ok(())
    }

    /// A name that was kept for another tool, because it could not be followed, is ours from now on.
    fn replace_foreign(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        let name = LayoutName::of(repository, tag);
        let Self { core, view, planned, .. } = self;
        view.foreign_of(&name, |digest, _| {
            core.foreign_epoch.fetch_add(1, Ordering::Relaxed);
            planned.rows.delete_foreign(&name, digest);
            Ok(super::until(false))
        })
    }

    /// Remembers what the published view has for this name, with the first change since it was published.
    fn put_base(&mut self, repository: &RepositoryName, tag: &Tag, previous: Option<Digest>) -> Result<()> {
        let name = LayoutName::of(repository, tag);
        if !self.bases.contains(&name) && self.view.base(&name)?.is_none() {
            self.planned.rows.put_base(&name, previous.as_ref());
        }
        self.bases.insert(name);
        Ok(())
    }

    fn put_member(
        &mut self,
        id: RepositoryId,
        digest: &Digest,
        manifest: Option<&ManifestRecord>,
    ) -> Result<()> {
        let kind = if manifest.is_some() { Kind::Manifest } else { Kind::Blob };
        // For new content the row is put without asking whether it is there: after damage it may be, and stays the same.
        let known =
            manifest.is_none() && !self.new.contains_key(digest) && self.view.is_member(id, kind, digest)?;
        if known || (manifest.is_none() && self.held.contains(&(id, kind, *digest))) {
            return Ok(());
        }
        self.planned.rows.put_member(id, digest, manifest);
        self.lost.joined(id, kind, digest);
        self.held.insert((id, kind, *digest));
        // What a sparse manifest lacks is published with it.
        if self.core.sparse.load(Ordering::Relaxed) {
            self.planned.view_changed = true;
        }
        Ok(())
    }

    fn pushed(&mut self, digest: &Digest) -> Result<()> {
        let size = match self.sources.get(digest) {
            Some(source) => source.size(),
            None => match self.view.content(digest)? {
                Some(record) => record.size,
                None => return Err(Error::corrupt(format!("content is held but unknown, digest={digest}"))),
            },
        };
        let existed = !self.new.contains_key(digest);
        self.planned.committed.pushed.push(Pushed { digest: *digest, size, existed });
        Ok(())
    }

    /// Whether the repository holds it, as far as the batch has come.
    fn holds_still(&self, repository: &RepositoryName, id: RepositoryId, digest: &Digest) -> Result<bool> {
        Ok(self.held.contains(&(id, Kind::Blob, *digest))
            || self.held.contains(&(id, Kind::Manifest, *digest))
            || self.is_still(repository, id, Kind::Blob, digest)?
            || self.is_still(repository, id, Kind::Manifest, digest)?)
    }

    /// Whether it was a member before the batch and remains one.
    pub(super) fn is_still(
        &self,
        repository: &RepositoryName,
        id: RepositoryId,
        kind: Kind,
        digest: &Digest,
    ) -> Result<bool> {
        let goes = !self.removed.is_empty() && self.removed.contains(&(repository.clone(), kind, *digest));
        Ok(!goes && self.view.is_member(id, kind, digest)?)
    }

    pub(super) fn current_tag(&self, id: RepositoryId, tag: &Tag) -> Result<Option<Digest>> {
        match self.tags.get(&(id, tag.clone())) {
            Some(target) => Ok(*target),
            None => self.view.tag(id, tag.as_str()),
        }
    }

    pub(super) fn id(&self, name: &RepositoryName) -> Result<Option<RepositoryId>> {
        match self.ids.get(name) {
            Some(id) => Ok(Some(*id)),
            None => self.view.repository(name.as_str()),
        }
    }

    fn id_or_create(&mut self, name: &RepositoryName) -> Result<RepositoryId> {
        let id = match self.id(name)? {
            Some(id) => id,
            None => {
                let id = self.core.new_repository_id()?;
                self.planned.rows.put_repository(id, name.as_str());
                id
            }
        };
        self.ids.insert(name.clone(), id);
        Ok(id)
    }
}

/// Successors that a repository does not hold.
#[derive(Default)]
struct Absent {
    any: bool,
    required: usize,
    named: Vec<Digest>,
}

impl Absent {
    fn refusal(&self, may_lack: bool, repository: &RepositoryName, manifest: &Digest) -> Option<Error> {
        if may_lack || self.required == 0 {
            return None;
        }
        let named: Vec<String> = self.named.iter().map(Digest::to_string).collect();
        Some(Error::not_found(format!(
            "the repository lacks content that the manifest refers to, repository={repository}, manifest={manifest}, \
             missing={}, digests={}",
            self.required,
            named.join(",")
        )))
    }
}

fn check_expectation(
    repository: &RepositoryName,
    tag: &Tag,
    found: Option<Digest>,
    expect: Expect,
) -> Result<()> {
    let expected = match expect {
        Expect::Any => return Ok(()),
        Expect::Absent => None,
        Expect::Is(digest) => Some(digest),
    };
    if found == expected {
        return Ok(());
    }
    let text = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "tag is not what was expected, repository={repository}, tag={tag}, expected={}, found={}",
            text(expected),
            text(found)
        ),
    ))
}
