//! The three-way merge of what other tools changed in `index.json`.
//!
//! For each name there are three views: the last one that this store published (the base), theirs, and ours. Changed by
//! them alone is taken; changed by both, ours stays and theirs becomes an untagged manifest; removed by them is applied
//! after a clean close and otherwise reported. An untagged entry that is missing never removes anything.
//!
//! What was taken has their view as its base from then on, or a second merge of the same file (`merge_once.rs`) would take
//! what was changed here since for something that they alone have changed.
//!
//! Between the exchange of a publish and its fingerprint the base is not known: a process that ends there leaves a file that
//! somebody else may edit before the next look, and nobody can tell afterwards whether the edit began with this file or with
//! the one before. What changed here since the one before then counts as changed by both wherever they say something
//! else: ours stays, theirs is kept and reported. Everything else has the same base in both.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use super::batch::{Changed, Expect, Item, Parts};
use super::report::Report;
use super::repositories::{stored_name, untagged};
use super::take_in::{TakeIn, Taken};
use super::{Core, until};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{View, fact};
use crate::oci::attached::{Attached, Subject};
use crate::oci::layout::{INDEX_FILE, MEMBERSHIP, REF_NAME};
use crate::oci::{Descriptor, IndexEntry, LayoutName, RepositoryName, Tag, read_index};
use crate::sys::Stat;

/// What `index.json` turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IndexFile {
    /// The one that this store wrote.
    Ours,
    /// There is none and there never was one of ours.
    None,
    /// Ours is gone.
    Lost,
    /// Somebody else's; merged by now.
    Foreign(Stat),
}

/// What to make of names that are missing from their file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Absence {
    /// The store was closed cleanly: they removed them on purpose.
    Remove,
    /// Their file may have been written from an older view: nothing is removed, but it is said.
    Report,
    /// There is no base: everything in the file is taken, with the membership that it states.
    Adopt,
}

/// Which view their file was made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Base {
    /// The one that was published last.
    Published,
    /// That one, or the one of a publish that was interrupted.
    Either,
}

/// Times that one entry is tried while its name keeps moving.
const TRIES: usize = 100;

/// Entries taken in by one commit.
const GROUP: usize = 128;

/// How an entry stands to others of its name.
enum Place {
    First,
    /// It names the same as one before it.
    Same,
    /// It names something else than the first.
    Other,
}

/// One pass over their file.
struct Merge<'a> {
    core: &'a Core,
    absence: Absence,
    base: Base,
    /// Hashes of the names in their file. A collision can only keep a name that they removed.
    seen: HashSet<u64>,
    /// Hashes of entries whose name another entry has already.
    doubled: HashSet<u64>,
    /// An entry is looked at once more, so its name is among the seen.
    again: bool,
    /// An entry was refused whose content may come yet.
    is_lacking: bool,
    group: Group,
}

/// Changes collected for one commit, and what to say when it is done.
#[derive(Default)]
struct Group {
    parts: Parts,
    unsynced: bool,
    entries: Vec<IndexEntry>,
    reports: Vec<Report>,
}

impl Core {
    /// What a file that is neither published nor pending was made from.
    pub(super) fn base(&self) -> Result<Base> {
        let pending = self.metadata.view().fingerprint(fact::PENDING)?;
        Ok(if pending.is_some() { Base::Either } else { Base::Published })
    }

    /// Why `index.json` cannot be read, if it cannot.
    pub(super) fn index_damage(&self) -> Result<Option<Report>> {
        let fail = |error| Error::io("read index.json", &self.root, error);
        self.root_dir.open_file(INDEX_FILE).map_err(fail)?.map_or(Ok(None), |file| damage_of(&file))
    }

    /// Merges one file. A file that is empty or cannot be parsed is damage, not an edit; answers whether it was neither, and
    /// nothing of it has to be looked at once more because its content was not there.
    pub(super) fn merge_index(&self, file: &File, absence: Absence, base: Base) -> Result<bool> {
        self.signals.view_changed();
        let fail = |error| Error::io("read index.json", &self.root, error);
        // Nothing is done before the whole file is known to be readable.
        rewind(file).map_err(fail)?;
        if let Some(damage) = damage_of(file)? {
            self.report(damage);
            return Ok(false);
        }
        rewind(file).map_err(fail)?;
        let mut merge = Merge {
            core: self,
            absence,
            base,
            seen: HashSet::new(),
            doubled: HashSet::new(),
            again: false,
            is_lacking: false,
            group: Group::default(),
        };
        read_index(file, &mut |entry| merge.add(entry))?;
        merge.commit()?;
        if absence != Absence::Adopt {
            merge.find_removed()?;
        }
        Ok(!merge.is_lacking)
    }
}

pub(super) fn rewind(mut file: &File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0)).map(|_| ())
}

impl Merge<'_> {
    fn add(&mut self, entry: IndexEntry) -> Result<()> {
        self.entry(&entry)?;
        self.group.entries.push(entry);
        if self.group.entries.len() >= GROUP { self.commit() } else { Ok(()) }
    }

    /// Commits the group. If a name moved meanwhile, every entry is looked at again on its own until it goes through.
    fn commit(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        match self.core.commit_taken(group.parts, group.unsynced) {
            Ok(()) => {
                group.reports.into_iter().for_each(|report| self.core.report(report));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.again = true;
                let outcome = group.entries.iter().try_for_each(|entry| self.commit_alone(entry));
                self.again = false;
                outcome
            }
            Err(error) => Err(error),
        }
    }

    fn commit_alone(&mut self, entry: &IndexEntry) -> Result<()> {
        let mut tries = 1;
        loop {
            self.entry(entry)?;
            let group = std::mem::take(&mut self.group);
            match self.core.commit_taken(group.parts, group.unsynced) {
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => tries += 1,
                other => {
                    group.reports.into_iter().for_each(|report| self.core.report(report));
                    return other;
                }
            }
        }
    }

    fn entry(&mut self, entry: &IndexEntry) -> Result<()> {
        let name = entry.annotations.get(REF_NAME).map_or("", String::as_str);
        let digest = match entry.digest.parse::<Digest>() {
            Ok(digest) => digest,
            Err(error) if error.is_unsupported_algorithm() => {
                self.refuse(name, entry, format!("{error}; the entry is kept as it is"));
                self.keep(name, entry);
                return Ok(());
            }
            Err(error) => {
                self.refuse(name, entry, error.to_string());
                self.keep(name, entry);
                return Ok(());
            }
        };
        match LayoutName::parse(name) {
            _ if name.is_empty() => self.untagged(entry, &digest),
            // A digest in place of a name reads as a tag of a repository called `sha256`, which nobody means.
            LayoutName::Tag(repository, tag) if name == entry.digest => {
                let view = self.core.metadata.view();
                match view.tag_in(repository.as_str(), tag.as_str())? {
                    Some(_) => self.tag(entry, &digest, name, repository, &tag),
                    None => self.beside(&view, entry, &digest, &RepositoryName::unnamed(), name),
                }
            }
            LayoutName::Tag(repository, tag) => self.tag(entry, &digest, name, repository, &tag),
            LayoutName::Foreign(_) => {
                let view = self.core.metadata.view();
                self.beside(&view, entry, &digest, &RepositoryName::unnamed(), name)
            }
        }
    }

    /// Takes in what an entry names and keeps the entry as it is: its name is not ours, or not its alone.
    fn beside(
        &mut self,
        view: &View<'_>,
        entry: &IndexEntry,
        digest: &Digest,
        repository: &RepositoryName,
        name: &str,
    ) -> Result<()> {
        if self.take(view, entry, digest, repository, name)?.is_some() {
            self.keep(name, entry);
        }
        Ok(())
    }

    /// Whether an entry is the first of its name. The first one counts, as for other readers.
    fn is_first(&mut self, name: &str, entry: &IndexEntry) -> Place {
        let this = hash(name, &entry.digest);
        if self.again {
            return if self.doubled.contains(&this) { Place::Other } else { Place::First };
        }
        let known = !self.seen.insert(this);
        if self.seen.insert(hash(name, "")) {
            Place::First
        } else if known {
            Place::Same
        } else {
            self.doubled.insert(this);
            Place::Other
        }
    }

    fn tag(
        &mut self,
        entry: &IndexEntry,
        theirs: &Digest,
        name: &str,
        repository: RepositoryName,
        tag: &Tag,
    ) -> Result<()> {
        let view = self.core.metadata.view();
        // What is attached to the artifact of this name has that name as well, and is not what it stands for.
        if Attached::of_annotations(&entry.annotations).is_some_and(|at| at.subject == Subject::SameName) {
            return self.beside(&view, entry, theirs, &repository, name);
        }
        match self.is_first(name, entry) {
            Place::First => {}
            Place::Same => return Ok(()),
            Place::Other => {
                self.group.reports.push(Report::Ambiguous { name: name.to_owned(), digest: *theirs });
                return self.beside(&view, entry, theirs, &repository, name);
            }
        }
        let ours = view.tag_in(repository.as_str(), tag.as_str())?;
        let recorded = view.base(name)?;
        let base = recorded.unwrap_or(ours);
        let untouched = base == Some(*theirs) && ours != base;
        let known = ours == Some(*theirs) && self.absence != Absence::Adopt;
        if untouched || known {
            return Ok(());
        }
        let moved_here = ours != base || (self.base == Base::Either && recorded.is_some());
        let both = moved_here && ours != Some(*theirs);
        if both && self.base == Base::Either && is_removed(&view, theirs)? {
            self.refuse(name, entry, "it was removed here since it was published".into());
            return Ok(());
        }
        let Some(taken) = self.take(&view, entry, theirs, &repository, name)? else { return Ok(()) };
        if both {
            self.group.reports.push(Report::Conflict { name: name.to_owned(), ours, theirs: *theirs });
            return Ok(());
        }
        if ours != Some(*theirs) {
            let expect = ours.map_or(Expect::Absent, Expect::Is);
            let tag = tag.clone();
            // What is taken over as a whole was made at times that nobody wrote down.
            let changed =
                if self.absence == Absence::Adopt { Changed::Earlier(None) } else { Changed::Merged };
            let target = Some(*theirs);
            self.group.parts.items.push(Item::Tag { repository, tag, target, expect, changed });
            // Of a layout that is opened for the first time everything is taken, which needs no words.
            if self.absence != Absence::Adopt {
                self.group.reports.push(Report::Taken { name: name.to_owned(), digest: *theirs });
            }
        }
        self.keep_extra(Some(name), entry, taken);
        Ok(())
    }

    fn untagged(&mut self, entry: &IndexEntry, digest: &Digest) -> Result<()> {
        let view = self.core.metadata.view();
        // Removed here since it was published: they list it because it was in the file that they read.
        if is_removed(&view, digest)? {
            return Ok(());
        }
        if self.absence != Absence::Adopt && is_held(&view, digest)? {
            return Ok(());
        }
        // Without our annotation it belongs to the unnamed repository, unless it came in with another entry.
        let stated = entry.membership().is_some_and(|membership| !membership.repositories.is_empty());
        if !stated && (is_held(&view, digest)? || self.group.parts.sources.contains_key(digest)) {
            return Ok(());
        }
        let repository = if stated { None } else { Some(RepositoryName::unnamed()) };
        if let Some(taken) = self.take_for(&view, entry, digest, repository.as_ref(), "")? {
            self.keep_extra(None, entry, taken);
        }
        Ok(())
    }

    fn take(
        &mut self,
        view: &View<'_>,
        entry: &IndexEntry,
        digest: &Digest,
        repository: &RepositoryName,
        name: &str,
    ) -> Result<Option<Descriptor>> {
        self.take_for(view, entry, digest, Some(repository), name)
    }

    /// Takes in what an entry names, with all that it reaches, for a repository and those that our annotation states.
    /// Answers what it turned out to be, whatever the entry says.
    fn take_for(
        &mut self,
        view: &View<'_>,
        entry: &IndexEntry,
        digest: &Digest,
        repository: Option<&RepositoryName>,
        name: &str,
    ) -> Result<Option<Descriptor>> {
        let membership = entry.membership().unwrap_or_default();
        let mut repositories: Vec<&RepositoryName> = repository.into_iter().collect();
        if self.absence == Absence::Adopt || repository.is_none() {
            repositories.extend(membership.repositories.iter().filter(|stated| Some(*stated) != repository));
        }
        let Group { parts, unsynced, reports, .. } = &mut self.group;
        for repository in repositories {
            let lacking = membership.sparse.get(repository).map_or(&[][..], Vec::as_slice);
            let mut taking = TakeIn::new(self.core, view, parts, repository, lacking, reports);
            if entry.has_data
                && let Ok(descriptor) = entry.descriptor()
            {
                taking.carried(&descriptor)?;
            }
            let taken = taking.manifest(&entry.media_type, digest)?;
            *unsynced |= taking.unsynced();
            let absent = matches!(taken, Taken::Absent(_));
            match taken {
                Taken::Yes => {}
                // The entry stays as it is: its content may come later, and somebody must know what is missing.
                Taken::Absent(reason) | Taken::Refused(reason) => {
                    self.is_lacking |= absent;
                    self.refuse(name, entry, reason);
                    self.keep(name, entry);
                    return Ok(None);
                }
            }
        }
        let taken = parts.items.iter().rev().find_map(|item| match item {
            Item::Manifest(new) if new.digest == *digest => {
                Some(Descriptor::new(new.manifest.media_type(), *digest, new.size))
            }
            _ => None,
        });
        if let Some(found) = taken.as_ref().map(|taken| taken.size).filter(|found| *found != entry.size) {
            let (name, expected) = (name.to_owned(), entry.size);
            reports.push(Report::Size { name, digest: *digest, expected, found });
        }
        // The entry is ours now; an earlier run may have kept it as it was. Asked first: scans walk over what was removed.
        if view.is_foreign(name, &entry.digest)? {
            self.group.parts.items.push(Item::Foreign {
                name: name.to_owned(),
                digest: entry.digest.clone(),
                json: None,
            });
        }
        Ok(taken)
    }

    /// Keeps an entry that is not ours to understand exactly as it is.
    fn keep(&mut self, name: &str, entry: &IndexEntry) {
        self.seen.insert(hash(name, &entry.digest));
        let json = Some(entry.raw.clone());
        self.group.parts.items.push(Item::Foreign {
            name: name.to_owned(),
            digest: entry.digest.clone(),
            json,
        });
    }

    /// What they say of an entry beyond what we would: annotations, platform. Size and media type are those that it was
    /// taken with.
    fn keep_extra(&mut self, name: Option<&str>, entry: &IndexEntry, taken: Descriptor) {
        let known = |key: &String| key == REF_NAME || key == MEMBERSHIP;
        let more = entry.platform.is_some() || entry.annotations.keys().any(|key| !known(key));
        if !more {
            return;
        }
        let Ok(mut descriptor) = entry.descriptor() else { return };
        descriptor.annotations.retain(|key, _| !known(key));
        descriptor.size = taken.size;
        descriptor.media_type = taken.media_type;
        if let Ok(json) = serde_json::to_string(&descriptor) {
            self.group.parts.items.push(Item::Extra {
                name: name.map(str::to_owned),
                digest: descriptor.digest,
                json,
            });
        }
    }

    fn refuse(&mut self, name: &str, entry: &IndexEntry, reason: String) {
        let digest = entry.digest.clone();
        self.group.reports.push(Report::Refused { name: name.to_owned(), digest, reason });
    }

    /// Names of the base that their file does not have.
    fn find_removed(&mut self) -> Result<()> {
        let core = self.core;
        let view = core.metadata.snapshot();
        let mut repositories = Vec::new();
        view.repositories(None, |name, _| {
            repositories.push(stored_name(name)?);
            Ok(until(false))
        })?;
        for repository in repositories {
            let Some(id) = view.repository(repository.as_str())? else { continue };
            view.tags(id, None, |tag, digest| {
                let tag = super::tags::stored_tag(tag)?;
                let name = LayoutName::of(&repository, &tag);
                let in_base = view.base(&name)?.is_none_or(|base| base.is_some());
                if (in_base || self.base == Base::Either) && !self.seen.contains(&hash(&name, "")) {
                    self.removed(&repository, tag, name, digest)?;
                }
                Ok(until(false))
            })?;
        }
        if self.absence == Absence::Remove {
            view.foreign(|name, digest, _| {
                if !self.seen.contains(&hash(name, digest)) {
                    let (name, digest) = (name.to_owned(), digest.to_owned());
                    self.group.parts.items.push(Item::Foreign { name, digest, json: None });
                }
                Ok(until(false))
            })?;
        }
        self.commit()
    }

    fn removed(&mut self, repository: &RepositoryName, tag: Tag, name: String, digest: Digest) -> Result<()> {
        if self.absence != Absence::Remove || self.base == Base::Either {
            self.core.report(Report::Kept { name, digest });
            return Ok(());
        }
        let repository = repository.clone();
        let (expect, changed) = (Expect::Is(digest), Changed::Merged);
        let items = vec![Item::Tag { repository, tag, target: None, expect, changed }];
        match self.core.commit_taken(Parts { items, ..Parts::default() }, false) {
            Ok(()) => self.core.report(Report::Removed { name, digest }),
            // Moved here meanwhile: changed by both, ours stays.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.core.report(Report::Kept { name, digest })
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Core {
    /// Commits what was taken in. Files that another tool wrote are synced first: their rows must not outlive them.
    pub(super) fn commit_taken(&self, parts: Parts, unsynced: bool) -> Result<()> {
        if parts.items.is_empty() {
            return Ok(());
        }
        if unsynced && self.durable() && self.ephemeral.is_none() {
            self.blobs.sync_filesystem().map_err(|error| self.poison(error))?;
        }
        self.commit(Parts { unlimited: true, ..parts }).map(|_| ())
    }

    /// Whether the last process closed the store; the mark goes with the first write of this one.
    pub(super) fn take_clean_mark(&self) -> Result<bool> {
        let clean = self.metadata.view().has_fact(fact::CLEAN)?;
        if clean {
            let mut rows = self.metadata.rows();
            rows.delete_fact(fact::CLEAN);
            // Not synced: the log keeps it ahead of everything that is.
            self.write_unsynced(rows)?;
        }
        Ok(clean)
    }
}

pub(super) fn damage_of(file: &File) -> Result<Option<Report>> {
    match read_index(file, &mut |_| Ok(())) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Ok(Some(Report::Damaged { file: INDEX_FILE.into(), reason: error.to_string() }))
        }
        other => other.map(|()| None),
    }
}

/// Whether a manifest was removed here since it was published.
fn is_removed(view: &View<'_>, digest: &Digest) -> Result<bool> {
    Ok(view.base(&untagged(digest))?.is_some() && !is_held(view, digest)?)
}

/// Whether any repository holds a digest; those that are being deleted do not count.
pub(super) fn is_held(view: &View<'_>, digest: &Digest) -> Result<bool> {
    let mut held = false;
    view.holders(digest, |id, _| {
        held = view.repository_name(id)?.is_some();
        Ok(until(held))
    })?;
    Ok(held)
}

fn hash(name: &str, digest: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes());
    hasher.update(&[0]);
    hasher.update(digest.as_bytes());
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
