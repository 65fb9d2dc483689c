//! Opening: what a directory is, who may write to it, and what the last process left to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;

use super::collect::Background;
use super::format::{FILE, Format, Root};
use super::lease::Leases;
use super::merge::{Absence, IndexFile};
use super::observe::{self, Meters, Work};
use super::options::{Durability, OnDamage, Options};
use super::plain::PLAIN_INGEST;
use super::preflight::Unknown;
use super::publisher::{Publisher, Signals};
use super::rebuild::{RebuildReport, chain};
use super::report::{OpenReport, Report};
use super::small::Small;
use super::touched::Touched;
use super::{
    BLOBS, Core, INGEST, METADATA, PRIVATE, QUARANTINE, REBUILDING, Shared, Store, ballast, content, journal,
    locks, preflight, quota, submit, until, uploads,
};
use crate::blobs::Blobs;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{ContentRecord, Metadata, fact};
use crate::oci::layout::{INDEX_FILE, LAYOUT_DOCUMENT, LAYOUT_FILE};
use crate::sys::{self, Dir, FsKind, ScratchDir, StoreLock, filesystem_kind};

/// Tries of a read-only open beside a writer that removes files of the metadata or publishes meanwhile.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Damaged contents found in a copy that are marked with one write.
const CHUNK: usize = 1000;

/// What a path turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Store,
    /// An OCI layout that is no store, or one whose creation was interrupted.
    Layout,
    Empty,
    Absent,
    Other,
}

impl Options {
    /// Makes a store: in a new directory, an empty one, or an OCI layout of another tool, whose content is hashed and
    /// taken in.
    ///
    /// # Errors
    ///
    /// `Conflict` when it is a store already; `Invalid` for a directory that holds something else; `Locked`;
    /// `Unsupported` on a network filesystem; `NoSpace`, `Io`.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.check(path)?;
        match look(path)? {
            Place::Store => Err(already(path)),
            Place::Other => Err(Error::invalid(format!(
                "directory is not empty and not an OCI layout, path={}",
                path.display()
            ))),
            Place::Layout | Place::Empty | Place::Absent => self.make(path),
        }
    }

    /// Opens a store for writing. Finishes what a crash interrupted and merges what other tools changed.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is none, saying what it is; `Locked`, naming the holder; `Unsupported` for a newer format or a
    /// network filesystem; `Corrupt` when the metadata cannot be read; `NoSpace`, `Io`.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.check(path)?;
        match look(path)? {
            Place::Store => self.open_store(path),
            other => Err(no_store(path, other)),
        }
    }

    /// [`Options::open`], or [`Options::create`] where there is no store yet.
    ///
    /// # Errors
    ///
    /// As those two.
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.check(path)?;
        if look(path)? == Place::Store {
            return self.open_store(path);
        }
        match self.create(path) {
            // Another process made it meanwhile.
            Err(error) if error.kind() == ErrorKind::Conflict => self.open_store(path),
            other => other,
        }
    }

    /// Opens a frozen view of a store, beside a live writer too, or of any OCI layout. Writes nothing into the directory
    /// and takes no lock.
    ///
    /// A layout of another tool is read into a temporary directory: its manifests are hashed now, its content when it is
    /// first read.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is neither; `Unsupported` for a newer format; `Corrupt`, `Io`.
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.check(path)?;
        match look(path)? {
            Place::Store => self.view_store(path),
            Place::Layout => self.view_layout(path),
            other => Err(no_store(path, other)),
        }
    }

    fn make(&self, path: &Path) -> Result<Store> {
        let _span = observe::enter(Work::Open, path);
        let root = Dir::create(path).map_err(|error| Error::io("make the directory", path, error))?;
        refuse_network(path)?;
        preflight::check(&root, path)?;
        let plain = StoreLock::acquire_plain(&root, Some(self.lock_timeout))?;
        let private = make_private(path)?;
        let lock = StoreLock::acquire(&private, Some(self.lock_timeout))?;
        if Format::read(&private)?.is_some() {
            return Err(already(path));
        }
        refuse_half_rebuilt(&private)?;
        let mut core = self.assemble(path, root, Some(lock))?;
        core.plain_lock = plain;
        core.recover()?;
        core.open_feed(false)?;
        core.write_layout_file(Unknown::Refused)?;
        core.adopt()?;
        Format::new(core.root_place()?).write(&private, core.blobs.ingest_dir()?)?;
        core.metadata.note(true)?;
        Ok(core.start())
    }

    fn open_store(&self, path: &Path) -> Result<Store> {
        let _span = observe::enter(Work::Open, path);
        refuse_network(path)?;
        let private = open_private(path)?;
        // Before the lock, so that nothing of a newer store is touched; and again, since its holder may have upgraded it.
        read_format(path, &private)?.check(false)?;
        match self.open_or_heal(path, &private) {
            Err(error) if error.kind() == ErrorKind::NoSpace && ballast::give_up(&private) => {
                self.open_or_heal(path, &private)
            }
            other => other,
        }
    }

    fn open_or_heal(&self, path: &Path, private: &Dir) -> Result<Store> {
        let damage = match self.open_sound(path, private, None) {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.on_damage == OnDamage::Rebuild => error,
            other => return other,
        };
        let mut rebuilt = self.rebuild(path)?;
        rebuilt.lost.get_or_insert_with(|| chain(&damage));
        self.open_sound(path, private, Some(rebuilt))
    }

    fn open_sound(&self, path: &Path, private: &Dir, rebuilt: Option<RebuildReport>) -> Result<Store> {
        let root = Dir::open_following(path).map_err(|error| Error::io("open the directory", path, error))?;
        let lock = StoreLock::acquire(private, Some(self.lock_timeout))?;
        // Somebody may still be writing it as the plain layout that it was.
        let plain = StoreLock::acquire_plain(&root, Some(self.lock_timeout))?;
        let format = read_format(path, private)?;
        format.check(false)?;
        refuse_half_rebuilt(private)?;
        let mut core = self.assemble(path, root, Some(lock))?;
        core.plain_lock = plain;
        let mut opened = OpenReport { rebuilt, ..OpenReport::default() };
        opened.cleared = core.recover()?;
        (opened.journalled, opened.journalled_bytes) = core.journal.used();
        let place = core.root_place()?;
        if !format.is_at(&place) {
            core.check_copy()?;
            core.distrust_uploads()?;
            format.moved_to(place).write(private, core.blobs.ingest_dir()?)?;
            opened.copied = true;
        }
        core.open_feed(opened.copied)?;
        core.write_layout_file(Unknown::RefusedInStore)?;
        opened.clean = core.catch_up()?;
        opened.reports = core.reports.lock().clone();
        observe::opened(path, opened.clean, opened.journalled);
        core.opened = opened;
        Ok(core.start())
    }

    fn view_store(&self, path: &Path) -> Result<Store> {
        let _span = observe::enter(Work::Open, path);
        let private = open_private(path)?;
        if let Some(format) = Format::read(&private)? {
            format.check(true)?;
        }
        match self.view_sound(path, &private) {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.on_damage == OnDamage::Rebuild => {
                // What is published is there without the metadata.
                let store = self.view_layout(path)?;
                let (file, reason) = (format!("{PRIVATE}/{METADATA}"), chain(&error));
                store.core().report(Report::Damaged { file, reason });
                Ok(store)
            }
            other => other,
        }
    }

    fn view_sound(&self, path: &Path, private: &Dir) -> Result<Store> {
        refuse_half_rebuilt(private)?;
        let mut tries = 1;
        loop {
            let metadata = open_frozen(&path.join(PRIVATE).join(METADATA))?;
            let root =
                Dir::open_following(path).map_err(|error| Error::io("open the directory", path, error))?;
            let blobs = Blobs::open(&path.join(BLOBS), &path.join(PRIVATE).join(INGEST), false)?;
            let mut core = Core::new(self, path, root, blobs, metadata);
            core.read_only = true;
            if core.is_unmerged()? {
                if let Some(damage) = core.index_damage()? {
                    core.report(damage);
                } else if core.metadata.view().has_fact(fact::CLEAN)? {
                    // Nothing is known here that the published files do not say.
                    return self.view_layout(path);
                } else if tries < TRIES {
                    // A live writer may have published since the metadata were opened.
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                } else {
                    core.report(Report::Unmerged);
                }
            }
            core.count_journal()?;
            core.open_feed(false)?;
            return Ok(core.start());
        }
    }

    fn view_layout(&self, path: &Path) -> Result<Store> {
        let temporary = ScratchDir::create()
            .map_err(|error| Error::io("make a temporary directory", &std::env::temp_dir(), error))?;
        let metadata = Metadata::open(temporary.path())?;
        let root = Dir::open_following(path).map_err(|error| Error::io("open the directory", path, error))?;
        preflight::check(&root, path)?;
        let fail = |error| Error::io("look for the content", path, error);
        let mut content = path.join(BLOBS);
        if !root.exists(BLOBS).map_err(fail)? {
            // Nothing is here, or all of it elsewhere: the entries can be listed all the same.
            content = temporary.path().join(BLOBS);
            Dir::create(&content).map_err(fail)?;
        }
        let blobs = Blobs::open(&content, temporary.path(), false)?;
        let options = self.clone().durability(Durability::Process);
        let mut core = Core::new(&options, path, root, blobs, metadata);
        core.ephemeral = Some(temporary);
        if let Some(damage) = preflight::layout_file_damage(&core.root_dir, path, Unknown::Refused)? {
            core.report(damage);
        }
        core.count_usage()?;
        core.merge_foreign(Absence::Adopt, &mut None)?;
        core.read_only = true;
        Ok(core.start())
    }

    pub(super) fn assemble(&self, path: &Path, root: Dir, lock: Option<StoreLock>) -> Result<Core> {
        let private = path.join(PRIVATE);
        let blobs = Blobs::open(&path.join(BLOBS), &private.join(INGEST), true)?;
        let metadata = Metadata::open(&private.join(METADATA))?;
        let mut core = Core::new(self, path, root, blobs, metadata);
        core.lock = lock;
        Ok(core)
    }
}

impl Core {
    pub(super) fn new(
        options: &Options,
        path: &Path,
        root_dir: Dir,
        blobs: Blobs,
        metadata: Metadata,
    ) -> Self {
        let meters = Arc::new(Meters::new(path));
        let torn = metadata.torn().map(|bytes| Report::Torn { bytes });
        Self {
            metadata,
            blobs: Arc::new(blobs),
            root: path.to_path_buf(),
            root_dir,
            options: options.clone(),
            read_only: false,
            locks: locks::Locks::new(),
            journal: journal::Gauge::new(options.limits.journal_size),
            quotas: quota::Quotas::default(),
            signals: Signals::default(),
            publishing: Mutex::new(None),
            settling: Mutex::new(()),
            uncleared: Mutex::default(),
            filing: Mutex::new(()),
            uploads: uploads::Sessions::new(Arc::clone(&meters)),
            collecting: Mutex::new(()),
            clock: sys::Clock::start(),
            touched: Touched::new(options.grace),
            served: std::sync::OnceLock::new(),
            condemned: AtomicBool::new(false),
            leases: Leases::default(),
            sequence: AtomicU64::new(1),
            journal_ids: AtomicU64::new(1),
            next_repository: AtomicU32::new(1),
            repository_epoch: AtomicU32::new(0),
            foreign_epoch: AtomicU64::new(0),
            sparse: AtomicBool::new(false),
            poison: std::sync::OnceLock::new(),
            verified: content::Verified::new(),
            small: Small::new(),
            reports: Mutex::new(torn.into_iter().collect()),
            lock: None,
            plain_lock: None,
            ephemeral: None,
            feed: None,
            opened: OpenReport::default(),
            meters,
            ballast: ballast::Ballast::default(),
        }
    }

    pub(super) fn start(self) -> Store {
        self.take_ballast();
        let core = Arc::new(self);
        let publisher = if core.read_only { Publisher::none(&core) } else { Publisher::start(&core) };
        let collector = Mutex::new(Background::start(&core));
        let publisher = Mutex::new(Some(publisher));
        let committers = submit::Committers::default();
        Store { shared: Arc::new(Shared { core, collector, publisher, committers }) }
    }

    /// Loads the counters and clears what an earlier process left unfinished; answers how many private files. Costs what it
    /// left, not what there is.
    pub(super) fn recover(&self) -> Result<u64> {
        let cleared = self.recover_uploads()?;
        let view = self.metadata.view();
        let sequence = self.metadata.next_sequence();
        self.sequence.store(sequence, std::sync::atomic::Ordering::Relaxed);
        self.journal_ids.store(sequence, std::sync::atomic::Ordering::Relaxed);
        let last = view.last_repository()?.0;
        self.next_repository.store(last.saturating_add(1), std::sync::atomic::Ordering::Relaxed);
        self.sparse.store(view.has_fact(fact::SPARSE)?, std::sync::atomic::Ordering::Relaxed);
        self.count_journal()?;
        self.clear_all_deleted()?;
        self.find_condemned()?;
        self.find_served()?;
        self.note_served(true)?;
        self.count_usage()?;
        self.load_quotas()?;
        Ok(cleared)
    }

    fn count_journal(&self) -> Result<()> {
        let (mut rows, mut bytes) = (0, 0);
        self.metadata.view().journal_rows(|_, _, content| {
            rows += 1;
            bytes += content.len() as u64;
            Ok(until(false))
        })?;
        self.journal.found(rows, bytes);
        self.meters.journal(self.journal.used());
        Ok(())
    }

    /// Takes over a layout that another tool wrote, and makes the files of one that nobody wrote.
    pub(super) fn adopt(&self) -> Result<()> {
        let mut merged = self.publishing.lock();
        self.merge_foreign(Absence::Adopt, &mut merged)?;
        self.signals.view_changed();
        self.publish_locked(&mut merged)
    }

    /// Merges foreign edits; after a crash sees to it that the layout is completed soon. Answers whether there was none.
    fn catch_up(&self) -> Result<bool> {
        let clean = self.take_clean_mark()?;
        if !clean && self.durable() {
            // The last process may have been one that did not sync.
            self.blobs.sync_filesystem().map_err(|error| self.poison(error))?;
        }
        let mut merged = self.publishing.lock();
        self.finish_interrupted()?;
        let found = self.merge_foreign(if clean { Absence::Remove } else { Absence::Report }, &mut merged)?;
        if !clean || found != IndexFile::Ours {
            self.signals.view_changed();
        }
        Ok(clean)
    }

    /// A copied directory may lack files that its metadata know, or the other way round.
    fn check_copy(&self) -> Result<()> {
        let view = self.metadata.snapshot();
        let mut checked = 0;
        let mut damaged: Vec<(crate::digest::Digest, ContentRecord)> = Vec::new();
        view.contents(|digest, record| {
            checked += 1;
            let journalled = !self.journal.is_empty() && view.journal_id(&digest)?.is_some();
            let found = self.blobs.stat_size(&digest).unwrap_or_default();
            if !journalled && found != Some(record.size) {
                let found = found.map_or_else(|| "no file".to_owned(), |size| size.to_string());
                let reason = format!("expected={}, found={found}", record.size);
                self.report(Report::Missing { digest, reason });
                damaged.push((digest, ContentRecord { damaged: true, ..record }));
            }
            if damaged.len() >= CHUNK {
                self.mark(std::mem::take(&mut damaged)).map(|()| until(false))
            } else {
                Ok(until(false))
            }
        })?;
        self.mark(damaged)?;
        self.report(Report::Copied { checked });
        Ok(())
    }

    /// Puts down which contents are damaged.
    pub(super) fn mark(&self, damaged: Vec<(crate::digest::Digest, ContentRecord)>) -> Result<()> {
        let mut rows = self.metadata.rows();
        for (digest, record) in &damaged {
            rows.put_content(digest, record);
        }
        self.write(rows)
    }

    pub(super) fn root_place(&self) -> Result<Root> {
        Root::of(&self.root_dir).map_err(|error| Error::io("stat the directory", &self.root, error))
    }

    /// Writes `oci-layout` where it is missing or damaged; one that another tool wrote stays.
    pub(super) fn write_layout_file(&self, unknown: Unknown) -> Result<()> {
        let path = self.root.join(LAYOUT_FILE);
        match preflight::layout_file_damage(&self.root_dir, &self.root, unknown)? {
            Some(damage) => self.report(damage),
            None if self
                .root_dir
                .exists(LAYOUT_FILE)
                .map_err(|error| Error::io("read the layout file", &path, error))? =>
            {
                return Ok(());
            }
            None => {}
        }
        sys::replace(&self.root_dir, self.blobs.ingest_dir()?, LAYOUT_FILE, LAYOUT_DOCUMENT)
            .map_err(|error| Error::io("write the layout file", &path, error))
    }
}

/// What is at a path, told from the files that mark it.
pub(super) fn look(path: &Path) -> Result<Place> {
    let fail = |error| Error::io("open the directory", path, error);
    let root = match Dir::open_following(path) {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Place::Absent),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::invalid(format!("path is not a directory, path={}", path.display())));
        }
        Err(error) => return Err(fail(error)),
    };
    if let Some(private) = root.open_dir(PRIVATE).map_err(fail)? {
        return Ok(if private.exists(FILE).map_err(fail)? { Place::Store } else { Place::Layout });
    }
    if root.exists(LAYOUT_FILE).map_err(fail)? || root.exists(INDEX_FILE).map_err(fail)? {
        return Ok(Place::Layout);
    }
    // A plain layout whose making was interrupted has no more than the first two yet. The others were not there a moment ago:
    // another process is just making it, and whoever takes its lock looks again.
    let ours = [BLOBS, PLAIN_INGEST, PRIVATE, LAYOUT_FILE, INDEX_FILE];
    let is_ours = |name: &std::ffi::OsStr| ours.iter().any(|ours| name == *ours);
    let mut place = Place::Empty;
    for name in root.list().map_err(fail)? {
        if !is_ours(&name.map_err(fail)?) {
            return Ok(Place::Other);
        }
        place = Place::Layout;
    }
    Ok(place)
}

fn read_format(path: &Path, private: &Dir) -> Result<Format> {
    Format::read(private)?.ok_or_else(|| no_store(path, Place::Layout))
}

/// A rebuild that was interrupted has put the metadata aside; and metadata that are gone would be made anew, empty, with the
/// first publish overwriting what `index.json` knows.
fn refuse_half_rebuilt(private: &Dir) -> Result<()> {
    let fail = |error| Error::io("look for the metadata", private.path(), error);
    let what = if private.exists(REBUILDING).map_err(fail)? {
        "a rebuild was interrupted, rebuild the store again"
    } else if private.exists(FILE).map_err(fail)? && !private.exists(METADATA).map_err(fail)? {
        "the metadata are missing, rebuild the store"
    } else {
        return Ok(());
    };
    Err(Error::corrupt(format!("{what}, path={}", private.path().display())))
}

pub(super) fn make_private(path: &Path) -> Result<Dir> {
    let private = path.join(PRIVATE);
    let fail = |error| Error::io("make the directory", &private, error);
    let dir = Dir::create(&private).map_err(fail)?;
    dir.make_dir(QUARANTINE).map_err(fail)?;
    Ok(dir)
}

pub(super) fn open_private(path: &Path) -> Result<Dir> {
    let private = path.join(PRIVATE);
    Dir::open(&private).map_err(|error| Error::io("open the directory", &private, error))
}

/// A live writer may remove a file of the metadata between the look at the list and the opening of it.
fn open_frozen(path: &Path) -> Result<Metadata> {
    let mut tries = 1;
    loop {
        match Metadata::open_read_only(path) {
            Err(_) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

pub(super) fn refuse_network(path: &Path) -> Result<()> {
    match filesystem_kind(path).map_err(|error| Error::io("look at the filesystem", path, error))? {
        FsKind::Local => Ok(()),
        FsKind::Network(name) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a store cannot live on a network filesystem, whose locks and syncs it cannot trust: put it on a local \
                 disk and copy or serve it, filesystem={name}, path={}",
                path.display()
            ),
        )),
    }
}

#[cold]
fn already(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, format!("directory is a store already, path={}", path.display()))
}

#[cold]
fn no_store(path: &Path, place: Place) -> Error {
    let what = match place {
        Place::Store => "the store has vanished",
        Place::Layout => "this is an OCI layout but no store; create makes it one",
        Place::Empty => "the directory is empty",
        Place::Absent => "there is no such directory",
        Place::Other => "this is neither a store nor an OCI layout",
    };
    Error::not_found(format!("{what}, path={}", path.display()))
}
