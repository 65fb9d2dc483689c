//! Publishing: `index.json` as any other tool reads it, brought up to date behind the commits.
//!
//! A snapshot is taken, everything that it journals is filed, its view is written and synced under a private name, its
//! fingerprint is put down as `pending`, the files are exchanged, and what was displaced is looked at: if somebody else
//! wrote it meanwhile, it is merged. So nothing that the published file reaches is missing, and no edit of others is lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::time::{Duration, SystemTime};

use super::Core;
use super::collect::Buried;
use super::merge::{Absence, Base, IndexFile, is_held};
use super::observe::{self, Start, Work};
use super::repositories::untagged;
use super::view_entries::write_entries;
use crate::digest::{Algorithm, Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Fingerprint, View, fact};
use crate::oci::layout::{INDEX_FILE, REF_NAME};
use crate::oci::{IndexWriter, LayoutName, RepositoryName, Tag, read_index};
use crate::sys::fault::{self, Call};
use crate::sys::{self, Dir, Exchanged, Stat, TempFile};

/// Names whose base rows are put right under one set of locks.
const BASES: usize = 64;

/// Our file's time of change is set back by this, so that a later edit in place never has the same.
const SET_BACK: Duration = Duration::from_secs(2);

impl Core {
    /// Merges what others changed, files the journal and writes `index.json` if it is not what the store holds.
    pub(super) fn publish(&self) -> Result<()> {
        self.check_writable()?;
        let _span = observe::enter(Work::Publish, &self.root);
        let mut merged = self.publishing.lock();
        let start = Start::now();
        let mut outcome = self.publish_locked(&mut merged);
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSpace) && self.give_up_ballast() {
            self.signals.view_changed();
            outcome = self.publish_locked(&mut merged);
        }
        if outcome.is_ok() && self.ephemeral.is_none() {
            outcome = self.metadata.note(false);
        }
        self.meters.publish_time.since(start);
        if outcome.is_ok() {
            self.take_ballast();
        } else {
            self.meters.publish_failures.add(1);
            self.signals.view_changed();
        }
        outcome
    }

    /// `merged` is the foreign file that was merged already, if it is still there.
    pub(super) fn publish_locked(&self, merged: &mut Option<Stat>) -> Result<()> {
        let condemned = self.list_condemned()?;
        self.publish_and_bury(merged, condemned).map(|_| ())
    }

    /// Files of what is condemned before the snapshot go after its view is there.
    pub(super) fn publish_and_bury(
        &self,
        merged: &mut Option<Stat>,
        condemned: Vec<Digest>,
    ) -> Result<Buried> {
        if fault::left_out(Call::PublishFirst, &self.root) {
            self.bury(&condemned)?;
        }
        self.publish_view(merged)?;
        self.bury(&condemned)
    }

    fn publish_view(&self, merged: &mut Option<Stat>) -> Result<()> {
        self.finish_interrupted()?;
        let file = self.merge_foreign(Absence::Report, merged)?;
        let changed = self.signals.take_view();
        let snapshot = self.metadata.snapshot();
        self.file_journal()?;
        let merged_before = matches!(file, IndexFile::Foreign(stat) if *merged == Some(stat));
        if !changed && (file == IndexFile::Ours || merged_before) {
            return Ok(());
        }
        let (temp, print) = self.write_index(&snapshot)?;
        let published = snapshot.fingerprint(fact::PUBLISHED)?;
        // With a pending one nobody knows which of the two is there.
        let settled = snapshot.fingerprint(fact::PENDING)?.is_none();
        if settled
            && file == IndexFile::Ours
            && published.is_some_and(|published| published.hash == print.hash)
        {
            return self.settle_bases(&Published::Snapshot(&snapshot));
        }
        let base = if settled { Base::Published } else { Base::Either };
        self.put_in_place(temp, print, &snapshot, file, base)?;
        *merged = None;
        Ok(())
    }

    /// A publish that ended after the exchange: what is pending is what is published. What the names were changed from has to
    /// be read from it, or the next merge would take our own file for an edit.
    pub(super) fn finish_interrupted(&self) -> Result<()> {
        let view = self.metadata.view();
        let Some(pending) = view.fingerprint(fact::PENDING)? else { return Ok(()) };
        if !self.settle_interrupted(&pending)? {
            return Ok(());
        }
        let mut rows = self.metadata.rows();
        rows.put_fingerprint(fact::PUBLISHED, &pending);
        rows.delete_fact(fact::PENDING);
        rows.delete_fact(fact::MERGED);
        self.write(rows)
    }

    /// Puts the base rows right if `index.json` is the file of an interrupted publish. Answers whether it is.
    pub(super) fn settle_interrupted(&self, pending: &Fingerprint) -> Result<bool> {
        if !self.is_there(pending)? {
            return Ok(false);
        }
        let fail = |error| Error::io("read index.json", &self.root, error);
        let Some(file) = self.root_dir.open_file(INDEX_FILE).map_err(fail)? else { return Ok(false) };
        match Published::of_file(&self.metadata.view(), &file) {
            Ok(published) => self.settle_bases(&published).map(|()| true),
            // Damaged since: it is written anew, and an edit of it would be damaged too.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, print: &Fingerprint) -> Result<bool> {
        let fail = |error| Error::io("stat index.json", &self.root, error);
        let Some(stat) = self.root_dir.stat(INDEX_FILE).map_err(fail)? else { return Ok(false) };
        if matches(print, &stat) {
            return Ok(true);
        }
        if print.size != stat.size {
            return Ok(false);
        }
        let file = self.root_dir.open_file(INDEX_FILE).map_err(fail)?;
        file.map_or(Ok(false), |file| Ok(hash_of(&file).map_err(fail)? == print.hash))
    }

    /// Writes the view of a snapshot into a private file, synced.
    fn write_index(&self, snapshot: &View<'_>) -> Result<(TempFile, Fingerprint)> {
        let fail = |error| Error::io("write index.json", &self.root, error);
        let temp = TempFile::create_writable(self.blobs.ingest_dir()?).map_err(fail)?;
        let sink = Hashing { temp, digester: Digester::new(Algorithm::Sha256), size: 0 };
        let mut writer = IndexWriter::new(BufWriter::with_capacity(1 << 16, sink)).map_err(fail)?;
        write_entries(snapshot, self, &mut writer)?;
        let sink = writer.finish().map_err(fail)?.into_inner().map_err(|error| fail(error.into_error()))?;
        let Hashing { temp, digester, size } = sink;
        match temp.set_modified(SystemTime::from(sys::now()) - SET_BACK) {
            // Not every filesystem lets us; a plain layout does without.
            Err(_) if self.ephemeral.is_some() => {}
            other => other.map_err(fail)?,
        }
        if self.durable() {
            temp.sync().map_err(fail).map_err(|error| self.poison(error))?;
        }
        let stat = temp.stat().map_err(fail)?;
        let hash = digester.finish().as_bytes().first_chunk().copied().unwrap_or_default();
        Ok((temp, Fingerprint { hash, size, inode: stat.ino, modified: stat.mtime_ns }))
    }

    fn put_in_place(
        &self,
        temp: TempFile,
        print: Fingerprint,
        snapshot: &View<'_>,
        file: IndexFile,
        base: Base,
    ) -> Result<()> {
        let mut rows = self.metadata.rows();
        rows.put_fingerprint(fact::PENDING, &print);
        self.write(rows)?;
        let displaced = self.exchange(temp)?;
        if self.durable() {
            let fail = |error| Error::io("sync the directory", &self.root, error);
            self.root_dir.sync().map_err(fail).map_err(|error| self.poison(error))?;
        }
        if let Some(displaced) = displaced {
            self.merge_displaced(&displaced, snapshot.fingerprint(fact::PUBLISHED)?.as_ref(), file, base)?;
        }
        // Before the fingerprint, whose sync takes them along.
        self.settle_bases(&Published::Snapshot(snapshot))?;
        let mut rows = self.metadata.rows();
        rows.put_fingerprint(fact::PUBLISHED, &print);
        rows.delete_fact(fact::PENDING);
        rows.delete_fact(fact::MERGED);
        self.write(rows)
    }

    /// Gives the new file its name; answers the file that it displaced, now under the private name.
    fn exchange(&self, temp: TempFile) -> Result<Option<TempFile>> {
        let fail = |error| Error::io("replace index.json", &self.root, error);
        let exists = self.root_dir.exists(INDEX_FILE).map_err(fail)?;
        let (ingest, name) = temp.place();
        if exists && Dir::exchange(ingest, name, &self.root_dir, INDEX_FILE).map_err(fail)? == Exchanged::Done
        {
            return Ok(Some(temp));
        }
        // Where names cannot be exchanged, an edit in this moment is lost; it is looked for up to the last call.
        temp.name_as(&self.root_dir, INDEX_FILE, true).map_err(fail)?;
        Ok(None)
    }

    /// What was displaced is normally the last published file, or the one that was merged just now. If not, somebody
    /// wrote it since it was looked at.
    fn merge_displaced(
        &self,
        displaced: &TempFile,
        published: Option<&Fingerprint>,
        merged: IndexFile,
        base: Base,
    ) -> Result<()> {
        let fail = |error| Error::io("read the displaced index.json", &self.root, error);
        let (dir, name) = displaced.place();
        let Some(file) = dir.open_file(name).map_err(fail)? else { return Ok(()) };
        let stat = Stat::of(&file).map_err(fail)?;
        if merged == IndexFile::Foreign(stat) || published.is_some_and(|published| matches(published, &stat))
        {
            return Ok(());
        }
        let hash = hash_of(&file).map_err(fail)?;
        if published.is_some_and(|published| published.hash == hash) {
            return Ok(());
        }
        self.merge_index(&file, Absence::Report, base).map(|_| ())
    }

    /// After a publish the base rows of its snapshot have done their duty, but for names that changed since.
    ///
    /// Not synced by themselves: what a crash undoes is settled again from the file.
    fn settle_bases(&self, published: &Published<'_>) -> Result<()> {
        let mut names: Vec<String> = Vec::new();
        self.metadata.snapshot().bases(|name, _| {
            names.push(name.to_owned());
            if names.len() == BASES {
                self.settle(published, &std::mem::take(&mut names))?;
            }
            Ok(super::until(false))
        })?;
        self.settle(published, &names)
    }

    fn settle(&self, published: &Published<'_>, names: &[String]) -> Result<()> {
        let _settling = self.settling.lock();
        self.settle_untagged(published, names)?;
        let parsed: Vec<_> = names
            .iter()
            .filter_map(|name| match LayoutName::parse(name) {
                LayoutName::Tag(repository, tag) => Some((name, repository, tag)),
                LayoutName::Foreign(_) => None,
            })
            .collect();
        let _held = self
            .locks
            .names(parsed.iter().map(|(_, repository, tag)| (repository.as_str(), tag.to_string())));
        let live = self.metadata.view();
        let mut rows = self.metadata.rows();
        for (name, repository, tag) in &parsed {
            let Some(published) = published.target(name, repository, tag)? else { continue };
            if live.tag_in(repository.as_str(), tag.as_str())? == published {
                rows.delete_base(name);
            } else {
                rows.put_base(name, published.as_ref());
            }
        }
        self.write_unsynced(rows)
    }

    /// The published view has what the snapshot held, so only what was removed since needs its row.
    fn settle_untagged(&self, published: &Published<'_>, names: &[String]) -> Result<()> {
        let live = self.metadata.view();
        let mut rows = self.metadata.rows();
        for name in names {
            let Some(digest) = name.strip_prefix('\0').and_then(|digest| digest.parse::<Digest>().ok())
            else {
                continue;
            };
            if !published.lists(name, &digest)? || is_held(&live, &digest)? {
                rows.delete_base(name);
            }
        }
        self.write_unsynced(rows)
    }

    /// Whether `index.json` is the file that this store wrote last; looked at by its stat, and hashed only when that
    /// differs.
    pub(super) fn inspect_index(&self) -> Result<IndexFile> {
        let fail = |error| Error::io("stat index.json", &self.root, error);
        let view = self.metadata.view();
        let published = view.fingerprint(fact::PUBLISHED)?;
        let Some(stat) = self.root_dir.stat(INDEX_FILE).map_err(fail)? else {
            return Ok(if published.is_some() { IndexFile::Lost } else { IndexFile::None });
        };
        let pending = view.fingerprint(fact::PENDING)?;
        let ours = [published, pending];
        if ours.iter().flatten().any(|print| matches(print, &stat)) {
            return Ok(IndexFile::Ours);
        }
        if ours.iter().flatten().any(|print| print.size == stat.size)
            && let Some(file) = self.root_dir.open_file(INDEX_FILE).map_err(fail)?
        {
            let hash = hash_of(&file).map_err(fail)?;
            if ours.iter().flatten().any(|print| print.hash == hash) {
                return Ok(IndexFile::Ours);
            }
        }
        Ok(IndexFile::Foreign(stat))
    }
}

/// The view that `index.json` has.
enum Published<'a> {
    /// That of the snapshot it was written from.
    Snapshot(&'a View<'a>),
    /// Read from the file: what it has of the names with a base row; none for those that it lacks.
    File(BTreeMap<String, Option<Digest>>),
}

impl Published<'_> {
    fn of_file(view: &View<'_>, file: &File) -> Result<Self> {
        let mut names = BTreeMap::new();
        view.bases(|name, _| {
            names.insert(name.to_owned(), None);
            Ok(super::until(false))
        })?;
        if !names.is_empty() {
            read_index(file, &mut |entry| {
                if let Ok(digest) = entry.digest.parse::<Digest>() {
                    let name = entry.annotations.get(REF_NAME).cloned();
                    for name in name.into_iter().chain([untagged(&digest)]) {
                        if let Some(target) = names.get_mut(&name) {
                            target.get_or_insert(digest);
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok(Self::File(names))
    }

    /// What a tag names in it; nothing at all when that is not known.
    fn target(&self, name: &str, repository: &RepositoryName, tag: &Tag) -> Result<Option<Option<Digest>>> {
        match self {
            Self::Snapshot(view) => view.tag_in(repository.as_str(), tag.as_str()).map(Some),
            Self::File(names) => Ok(names.get(name).copied()),
        }
    }

    /// Whether it lists a manifest, by a name or without one.
    fn lists(&self, name: &str, digest: &Digest) -> Result<bool> {
        match self {
            Self::Snapshot(view) => is_held(view, digest),
            Self::File(names) => Ok(names.get(name).is_none_or(Option::is_some)),
        }
    }
}

fn matches(print: &Fingerprint, stat: &Stat) -> bool {
    print.size == stat.size && print.inode == stat.ino && print.modified == stat.mtime_ns
}

pub(super) fn hash_of(mut file: &File) -> io::Result<[u8; 32]> {
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => digester.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest: Digest = digester.finish();
    Ok(digest.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// A private file that is hashed as it is written.
struct Hashing {
    temp: TempFile,
    digester: Digester,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.write_all(bytes)?;
        self.digester.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mismatch of kinds between what the caller expects and what the metadata say is damage, not a bug of the caller.
pub(super) fn vanished(what: &str, digest: &Digest) -> Error {
    Error::new(ErrorKind::Corrupt, format!("metadata names {what} that they do not know, digest={digest}"))
}
