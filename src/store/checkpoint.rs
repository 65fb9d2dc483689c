//! A checkpoint: another store with what this one holds at one moment, made of further names of the same files.
//!
//! It is built under a private name beside its place and gets its name at the end, so that whatever interrupts it, there is
//! a whole store or none. The metadata are copied first, at one moment; from then until the last content has its further
//! name nothing may lose its name here. Everything else goes on: what is pushed meanwhile is not in the copy.

use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::format::Format;
use super::merge::Absence;
use super::observe::{self, Work};
use super::open::{make_private, refuse_network};
use super::options::{Answers, Durability};
use super::{Core, METADATA, Options, PRIVATE, Publish, Store, until};
use crate::blobs::{Blobs, Given};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{ContentRecord, fact};
use crate::oci::{MAX_MANIFEST_SIZE, Manifest};
use crate::sys::{self, Dir, Linked, Stat, StoreLock};

/// What the private names begin with; the rest is told by the name that is to be.
const PARTIAL: &str = ".orlop-checkpoint-";

/// Damaged contents that are marked with one write.
const CHUNK: usize = 1000;

/// What a checkpoint holds and how it came about.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckpointReport {
    /// Contents of the new store.
    pub contents: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// Of the contents, those that share the file of this store.
    pub linked: u64,
    /// Those whose bytes were copied, or share blocks: on demand, or because the file could not have one more name.
    pub copied: u64,
    /// Those that were in the journal alone and have got a file there.
    pub journalled: u64,
    /// Those that are damaged or have no file here. They are marked so in the new store, and a push or `repair` brings them.
    pub damaged: u64,
}

/// How far a checkpoint has come.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckpointProgress {
    /// Contents done.
    pub contents: u64,
    /// Contents in all.
    pub total: u64,
    /// Bytes copied; nothing as long as files are linked.
    pub copied_bytes: u64,
}

type Watch<'a> = Box<dyn FnMut(CheckpointProgress) -> ControlFlow<()> + 'a>;

/// A checkpoint to be made, by [`Store::checkpointer`].
#[must_use = "a checkpoint is made by `run`"]
pub struct Checkpointer<'a> {
    store: &'a Store,
    copy: bool,
    watch: Option<Watch<'a>>,
}

impl Store {
    /// Makes another store in `dir` with everything that this one holds now: its tags, repositories, graph and content,
    /// with an `index.json` and an identity of its own. Durable when it returns.
    ///
    /// Content files are not copied but get further names, so the cost is that of one name for each content. They are
    /// never written in place, so neither store can change what the other has; but a disk that loses a file loses it
    /// for both: that is what [`Checkpointer::copy`] is for. Writing goes on meanwhile; only collection waits with
    /// taking files away.
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("s"))?;
    /// # store.default_repository().push_bytes("content")?;
    /// let report = store.checkpoint(dir.path().join("before-the-upgrade"))?;
    /// assert_eq!(report.contents, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Conflict` when the directory is there and not empty; `Unsupported` on another filesystem than the store's, on one
    /// without hard links, on a network filesystem, and of a plain layout; `Invalid` for a place that cannot be one: within
    /// the store, a mount point, no directory; `Locked` while somebody else makes one in the same place; `ReadOnly`; `Poisoned`;
    /// `NoSpace`, `Io`, `Corrupt`. After an error nothing is there, unless it was the last sync that failed.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<CheckpointReport> {
        self.checkpointer().run(dir)
    }

    /// [`Store::checkpoint`] with choices.
    pub fn checkpointer(&self) -> Checkpointer<'_> {
        Checkpointer { store: self, copy: false, watch: None }
    }
}

impl<'a> Checkpointer<'a> {
    /// Copies the bytes of content instead of sharing files, so that the place may be on another filesystem: blocks are shared
    /// where the filesystem can, what is copied is hashed. Not by default.
    pub fn copy(mut self, copy: bool) -> Self {
        self.copy = copy;
        self
    }

    /// Has `watch` told of the progress. If it breaks, the checkpoint is given up with `Interrupted` and nothing is left
    /// of it.
    pub fn watch(mut self, watch: impl FnMut(CheckpointProgress) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`], and `Interrupted`.
    pub fn run(self, dir: impl AsRef<Path>) -> Result<CheckpointReport> {
        let core = self.store.core();
        let _span = observe::enter(Work::Checkpoint, &core.root);
        core.check_writable()?;
        if core.ephemeral.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a plain layout has no checkpoints, copy it instead, path={}", core.root.display()),
            ));
        }
        let place = Place::prepare(core, dir.as_ref())?;
        let (copy, mut watch) = (self.copy, self.watch);
        let mut tell = |progress| watch.as_mut().map_or(ControlFlow::Continue(()), |watch| watch(progress));
        let made = place.probe(core, copy).and_then(|()| {
            core.catch_up_for_checkpoint()?;
            place.build(core, copy, &mut tell)
        });
        match made.and_then(|report| place.finish().map(|()| report)) {
            Ok(report) => Ok(report),
            Err(error) => {
                place.discard();
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Checkpointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer").field("copy", &self.copy).finish_non_exhaustive()
    }
}

/// Where a checkpoint is to be, and the private directory beside it in which it is built.
struct Place {
    path: PathBuf,
    parent: Dir,
    name: std::ffi::OsString,
    private_name: String,
    dir: Dir,
    /// Keeps others from the private directory, where directories can be locked.
    _lock: Option<StoreLock>,
}

impl Place {
    fn prepare(core: &Core, path: &Path) -> Result<Self> {
        let invalid = |what: &str| Error::invalid(format!("{what}, path={}", path.display()));
        let fail = |error| Error::io("make the checkpoint", path, error);
        let name =
            path.file_name().ok_or_else(|| invalid("the last part of the path is no name"))?.to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = Dir::create(parent).map_err(fail)?;
        refuse_network(parent.path())?;
        if sys::is_within(&parent, &core.root_dir).map_err(fail)? {
            return Err(invalid("a checkpoint cannot be within its store"));
        }
        match parent.stat(&name).map_err(fail)? {
            None => {}
            Some(stat) if !stat.is_dir => return Err(invalid("path is not a directory")),
            Some(stat) if stat.dev != Stat::of(parent.file()).map_err(fail)?.dev => {
                return Err(invalid("path is a mount point, name a directory in it"));
            }
            Some(_) => {
                if let Some(dir) = parent.open_dir(&name).map_err(fail)?
                    && dir.list().map_err(fail)?.next().is_some()
                {
                    return Err(occupied(path));
                }
            }
        }
        let full = Digest::of(name.as_encoded_bytes()).encoded().to_string();
        let private_name = format!("{PARTIAL}{}", full.get(..16).unwrap_or_default());
        let (dir, lock) = Self::take(&parent, &private_name)?;
        // Who may look into the store, or into the directory that somebody made for this, is somebody's decision.
        let there = parent.open_dir(&name).map_err(fail)?;
        sys::copy_mode(there.as_ref().unwrap_or(&core.root_dir), &dir).map_err(fail)?;
        Ok(Self { path: path.to_path_buf(), parent, name, private_name, dir, _lock: lock })
    }

    /// Makes the private directory, or takes over what an interrupted run left.
    fn take(parent: &Dir, name: &str) -> Result<(Dir, Option<StoreLock>)> {
        let path = parent.path().join(name);
        let fail = |error| Error::io("make the directory", &path, error);
        loop {
            parent.make_dir(name).map_err(fail)?;
            let Some(dir) = parent.open_dir(name).map_err(fail)? else { continue };
            let lock = StoreLock::acquire_plain(&dir, None)?;
            // Whoever held the lock before may have given the directory its lasting name.
            let identity = |stat: Stat| (stat.dev, stat.ino);
            let named = parent.stat(name).map_err(fail)?.map(identity);
            if named == Some(identity(Stat::of(dir.file()).map_err(fail)?)) {
                sys::clear(&dir).map_err(fail)?;
                return Ok((dir, lock));
            }
        }
    }

    fn built(&self) -> PathBuf {
        self.parent.path().join(&self.private_name)
    }

    /// Refuses a place that the files of the store cannot have names in, before anything is done.
    fn probe(&self, core: &Core, copy: bool) -> Result<()> {
        if copy {
            return Ok(());
        }
        let fail = |error| Error::io("link a file", &self.path, error);
        let private = super::open::open_private(&core.root)?;
        match sys::link(&private, super::format::FILE, &self.dir).map_err(fail)? {
            Linked::Done | Linked::Taken => self.dir.unlink(super::format::FILE).map(drop).map_err(fail),
            Linked::Elsewhere | Linked::Refused | Linked::Absent => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "content cannot be linked from here to there, as between two filesystems: copy it, or take a place beside \
                     the store, store={}, path={}",
                    core.root.display(),
                    self.path.display()
                ),
            )),
        }
    }

    fn build(
        &self,
        core: &Core,
        copy: bool,
        tell: &mut dyn FnMut(CheckpointProgress) -> ControlFlow<()>,
    ) -> Result<CheckpointReport> {
        let path = self.built();
        let private = make_private(&path)?;
        let kept = core.locks.keep_files();
        core.metadata.checkpoint(&path.join(PRIVATE).join(METADATA))?;
        let options = copy_options(&core.options);
        let mut report = CheckpointReport::default();
        let made = (|| {
            let root = self.dir.clone();
            let other = options.assemble(&path, root, None)?;
            other.forget_published()?;
            report = Giving { from: core, to: &other, copy, tell }.all()?;
            drop(kept);
            other.recover()?;
            other.renew_feed()?;
            // Whoever they belong to holds them in the store that this is a copy of.
            other.drop_all_leases()?;
            other.write_layout_file(super::preflight::Unknown::Refused)?;
            if report.copied > 0 || !core.durable() {
                other.blobs.sync_filesystem()?;
            }
            other.blobs.sync_dirs(&[Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3])?;
            other.signals.view_changed();
            other.close()?;
            Format::new(other.root_place()?).write(&private, other.blobs.ingest_dir()?)
        })();
        // A sync that failed there says nothing about this store.
        made.map_err(|error: Error| match error.kind() {
            ErrorKind::Indeterminate | ErrorKind::Poisoned => error.with_kind(ErrorKind::Io),
            _ => error,
        })?;
        Ok(report)
    }

    /// Gives it its name.
    fn finish(&self) -> Result<()> {
        let fail = |error| Error::io("name the checkpoint", &self.path, error);
        self.dir.sync().map_err(fail)?;
        match self.parent.rename(&self.private_name, &self.parent, &self.name) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                return Err(occupied(&self.path));
            }
            other => other.map_err(fail)?,
        }
        self.parent.sync().map_err(fail)
    }

    /// Best done, not needed: the next run in the same place begins with it.
    fn discard(&self) {
        let _ = sys::remove_tree(&self.parent, &self.private_name);
    }
}

#[cold]
fn occupied(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, format!("directory is not empty, path={}", path.display()))
}

/// As the store is written, but for what must hold when the checkpoint is done.
fn copy_options(options: &Options) -> Options {
    options.clone().durability(Durability::Power).publish(Publish::OnClose).answers(Answers::Local)
}

impl Core {
    /// What others changed is merged and what is journalled gets its file, so that the copy has both.
    fn catch_up_for_checkpoint(&self) -> Result<()> {
        let mut merged = self.publishing.lock();
        self.finish_interrupted()?;
        self.merge_foreign(Absence::Report, &mut merged)?;
        drop(merged);
        self.file_journal()
    }

    /// In the copy nothing is published yet, and nobody is uploading.
    fn forget_published(&self) -> Result<()> {
        let mut rows = self.metadata.rows();
        for name in [fact::PUBLISHED, fact::PENDING, fact::MERGED, fact::CLEAN, fact::SERVED] {
            rows.delete_fact(name);
        }
        self.forget_uploads(&mut rows)?;
        self.write(rows)
    }
}

/// Gives the files of one store to the copy.
struct Giving<'a> {
    from: &'a Core,
    to: &'a Core,
    copy: bool,
    tell: &'a mut dyn FnMut(CheckpointProgress) -> ControlFlow<()>,
}

impl Giving<'_> {
    fn all(mut self) -> Result<CheckpointReport> {
        let view = self.to.metadata.snapshot();
        let mut report = CheckpointReport::default();
        let mut progress = CheckpointProgress { contents: 0, total: 0, copied_bytes: 0 };
        view.contents(|_, _| {
            progress.total += 1;
            Ok(until(false))
        })?;
        let mut damaged: Vec<(Digest, ContentRecord)> = Vec::new();
        view.contents(|digest, record| {
            report.contents += 1;
            report.bytes += record.size;
            if view.journal_id(&digest)?.is_some() {
                report.journalled += 1;
            } else {
                match self.one(&digest, &mut progress)? {
                    Given::Linked(size) if size == record.size => report.linked += 1,
                    Given::Copied(size) if size == record.size => report.copied += 1,
                    _ => {
                        report.damaged += 1;
                        damaged.push((digest, ContentRecord { damaged: true, ..record }));
                    }
                }
            }
            progress.contents += 1;
            if (self.tell)(progress).is_break() {
                return Err(stopped());
            }
            if damaged.len() >= CHUNK {
                self.to.mark(std::mem::take(&mut damaged))?;
            }
            Ok(until(false))
        })?;
        self.to.mark(damaged)?;
        self.foreign(&mut progress)?;
        Ok(report)
    }

    fn one(&mut self, digest: &Digest, progress: &mut CheckpointProgress) -> Result<Given> {
        let Self { from, to, copy, tell } = self;
        let before = progress.copied_bytes;
        let mut observer = |copied| {
            progress.copied_bytes = before + copied;
            tell(*progress)
        };
        from.blobs.give(digest, &to.blobs, *copy, &mut observer)
    }

    /// Files that only entries of other tools reach, which the metadata do not know: their entries are published as they are.
    fn foreign(&mut self, progress: &mut CheckpointProgress) -> Result<()> {
        let view = self.to.metadata.snapshot();
        let mut waiting: Vec<Digest> = Vec::new();
        view.foreign(|_, digest, _| {
            waiting.extend(digest.parse::<Digest>());
            Ok(until(false))
        })?;
        let mut visited = HashSet::new();
        while let Some(digest) = waiting.pop() {
            if !visited.insert(digest) {
                continue;
            }
            if view.content(&digest)?.is_none() {
                self.one(&digest, progress)?;
            }
            if (self.tell)(*progress).is_break() {
                return Err(stopped());
            }
            if let Some(manifest) = manifest_of(&self.to.blobs, &digest) {
                waiting.extend(manifest.successors().iter().map(|child| child.descriptor.digest));
            }
        }
        Ok(())
    }
}

/// What a file says if it is a manifest. What cannot be read leads nowhere.
fn manifest_of(blobs: &Blobs, digest: &Digest) -> Option<Manifest> {
    let file = blobs.open_file(digest).ok()??;
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_SIZE as u64).read_to_end(&mut bytes).ok()?;
    Manifest::read(Manifest::sniff(&bytes)?, &bytes).ok()
}

#[cold]
fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "checkpoint was stopped, nothing is left of it")
}
