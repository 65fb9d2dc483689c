//! Taking an archive into a store: first the proof that everything is there, then the content in the order of the archive, the names last.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::ops::ControlFlow;

use super::Watch;
use super::catalog::{Catalog, Documents, Unusable};
use super::open::Archive;
use super::proof::{Both, Ready, is_present};
use super::staging::Staging;
use crate::blobs::Expected;
use crate::digest::{Digest, excerpt};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{RepositoryName, Tag};
use crate::store::{Batch, Expect, Repository, Store};

/// Bytes of new content after which what came so far is committed.
const COMMIT_EVERY: u64 = 256 << 20;
/// The same in rows, of which a batch can hold so many.
const COMMIT_EVERY_ROWS: usize = 20_000;

/// Takes everything that an archive has into a store, and proves before that nothing is lacking.
///
/// What the store has already is not read again. Content comes in the order of the archive, so that a compressed one is read once; what came before
/// an error stays, and the next import finds it. Manifests are named when everything that they refer to is there, tags last.
///
/// Of a set of volumes that are not all there, everything that came is kept in a repository of its own, `orlop-import/<set>`, until the others
/// have come, in any order; what is complete is named at once.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("a"))?;
/// # let other = orlop::Options::new().create(dir.path().join("b"))?;
/// # store.default_repository().push_bytes("{}")?;
/// # let config = r#"{"mediaType":"application/x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
/// # let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
/// # store.default_repository().push_manifest("application/vnd.oci.image.manifest.v1+json", manifest, &["v1".parse()?])?;
/// # let bytes = orlop::transfer::archive::Exporter::new(&store).everything()?.plan()?.write(Vec::new())?;
/// use orlop::transfer::archive::{Archive, Importer};
///
/// let archive = Archive::from_bytes(bytes)?;
/// let mut import = Importer::new(&archive, &other)?;
/// assert!(import.missing().is_empty());
/// let done = import.run()?;
/// assert_eq!(done.tags, 1);
/// # Ok(())
/// # }
/// ```
pub struct Importer<'a> {
    pub(super) archive: &'a Archive,
    pub(super) store: &'a Store,
    pub(super) catalog: Catalog,
    pub(super) staging: Staging,
    /// By repository: manifests, what is referred to first.
    pub(super) ready: BTreeMap<RepositoryName, Vec<Ready>>,
    pub(super) missing: Vec<Missing>,
    /// Content that is taken from the archive, with its size.
    pub(super) wanted: BTreeMap<Digest, u64>,
    pub(super) watch: Option<Watch<'a>>,
    pub(super) imported: Imported,
    keep_going: bool,
}

/// Content that neither the archive nor the store has.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Missing {
    /// The content.
    pub digest: Digest,
    /// The manifest that refers to it.
    pub manifest: Digest,
}

/// What an import did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// Manifests that are in the repositories of the archive now, counted in each.
    pub manifests: u64,
    /// Tags that name one of them now.
    pub tags: u64,
    /// Contents that were taken from the archive.
    pub copied: u64,
    /// Contents that the store had already.
    pub present: u64,
    /// Bytes that were taken from the archive.
    pub bytes: u64,
    /// Names of the archive that are no tags, and were not carried.
    pub unnamed: Vec<String>,
    /// Manifests that wait for other volumes.
    pub waiting: u64,
    /// Volumes that are still to come.
    pub missing_volumes: Vec<u32>,
    /// What the archive names and was not taken, because it is not there or damaged; only if the import was to
    /// [keep going](Importer::keep_going).
    pub unusable: Vec<Unusable>,
    /// Content that is nowhere, so that manifests that refer to it were not taken; as above.
    pub missing: Vec<Missing>,
    /// What an index of another tool lists and the archive does not have. The index was taken without it.
    pub absent: Vec<Missing>,
}

impl<'a> Importer<'a> {
    /// Finds out what is to be done, and what is missing. Nothing is written.
    ///
    /// # Errors
    ///
    /// As the archive and the store.
    pub fn new(archive: &'a Archive, store: &'a Store) -> Result<Self> {
        let staging = Staging::find(archive, store)?;
        let mut import = Self {
            archive,
            store,
            catalog: Catalog::default(),
            staging,
            ready: BTreeMap::new(),
            missing: Vec::new(),
            wanted: BTreeMap::new(),
            watch: None,
            imported: Imported::default(),
            keep_going: false,
        };
        archive.read_catalog(&Both(archive, store), &mut import.catalog)?;
        let names: Vec<RepositoryName> = import.catalog.repositories.keys().cloned().collect();
        for name in names {
            import.check(&name)?;
        }
        for missing in [&mut import.missing, &mut import.imported.absent] {
            missing.sort();
            missing.dedup();
        }
        for name in &import.catalog.names {
            let is_tag = matches!(crate::oci::LayoutName::parse(&name.name), crate::oci::LayoutName::Tag(..));
            if !is_tag && !name.name.is_empty() {
                import.imported.unnamed.push(name.name.clone());
            }
        }
        Ok(import)
    }

    /// Takes what is whole if something is not: manifests with all that they refer to, and the tags that name one of them.
    pub fn keep_going(&mut self, keep_going: bool) {
        self.keep_going = keep_going;
    }

    /// What manifests of the archive refer to and neither it nor the store has. Content that is not for distribution or has `urls` may be absent, and
    /// so may what the archive itself says was left out. An index of another tool may lack some of the manifests that it lists
    /// ([`Importer::absent`]), but not all of them.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Manifests that an index of another tool lists and the archive does not have.
    #[must_use]
    pub fn absent(&self) -> &[Missing] {
        &self.imported.absent
    }

    /// What the archive names and does not have, or cannot be used. In a volume that is still to come it may be.
    pub fn unusable(&self) -> impl Iterator<Item = &Unusable> {
        let is_partial = self.is_partial();
        self.catalog
            .unusable
            .iter()
            .filter(move |unusable| !is_partial || unusable.kind != ErrorKind::NotFound)
    }

    /// Whether everything that the archive names is there, and is what it is called as far as manifests go.
    ///
    /// # Errors
    ///
    /// `Mismatch` when a manifest is damaged, `NotFound` when a manifest or content is missing: each names the first and how many.
    pub fn proof(&self) -> Result<()> {
        let place = self.archive.place();
        let is_damaged = |unusable: &&Unusable| unusable.kind != ErrorKind::NotFound;
        let first = self.unusable().find(is_damaged).or_else(|| self.unusable().next());
        if let Some(first) = first {
            let kind = if is_damaged(&first) { ErrorKind::Mismatch } else { ErrorKind::NotFound };
            let message = format!(
                "the archive names what cannot be used, names={}, first={}: {}, archive={place}",
                self.unusable().count(),
                excerpt(&first.name),
                first.reason
            );
            return Err(Error::new(kind, message));
        }
        match self.missing.first() {
            Some(Missing { digest, manifest }) if !self.is_partial() => Err(Error::not_found(format!(
                "neither the archive nor the store has all content, missing={}, first={digest}, manifest={manifest}, archive={place}",
                self.missing.len(),
            ))),
            _ => Ok(()),
        }
    }

    /// Contents that are taken from the archive, and their bytes.
    #[must_use]
    pub fn wanted(&self) -> (usize, u64) {
        (self.wanted.len(), self.wanted.values().fold(0, |sum, size| sum.saturating_add(*size)))
    }

    /// Has `watch` told of each content and of how many bytes of it are done. If it breaks, the import ends with `Interrupted`; what came stays.
    pub fn set_watch(&mut self, watch: impl FnMut(&Digest, u64) -> ControlFlow<()> + 'a) {
        self.watch = Some(Box::new(watch));
    }

    /// Volumes of the set that were never there, neither now nor in a visit before, from one.
    #[must_use]
    pub fn missing_volumes(&self) -> &[u32] {
        &self.staging.missing
    }

    pub(super) fn is_partial(&self) -> bool {
        !self.staging.missing.is_empty()
    }

    pub(super) fn in_archive_order(&self) -> Vec<Digest> {
        let mut order: Vec<Digest> = self.wanted.keys().copied().collect();
        order.sort_by_key(|digest| self.archive.order(digest));
        order
    }

    pub(super) fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + 'a>> {
        if let Some(reader) = self.archive.content(digest, 0)? {
            return Ok(reader);
        }
        self.staging.open(digest, size, self.archive, self.store)?.ok_or_else(|| {
            Error::not_found(format!(
                "archive lacks content, digest={digest}, archive={}",
                self.archive.place()
            ))
        })
    }

    /// Takes everything in.
    ///
    /// # Errors
    ///
    /// As [`Importer::proof`], before anything is written, unless it is to [keep going](Importer::keep_going);
    /// `Mismatch` when content is damaged, naming it; `Interrupted`; as [`Batch::commit`]. What came before stays, and no tag that was not complete has moved.
    pub fn run(mut self) -> Result<Imported> {
        let is_partial = self.is_partial();
        if self.keep_going {
            self.imported.unusable = self.unusable().cloned().collect();
            if !is_partial {
                self.imported.missing.clone_from(&self.missing);
            }
        } else {
            self.proof()?;
        }
        if is_partial {
            self.staging.take(self.archive, self.store, &mut self.watch, &mut self.imported)?;
        }
        let lost = self.contents()?;
        let ready = std::mem::take(&mut self.ready);
        for (name, manifests) in ready {
            self.name(&name, &whole(manifests, &lost))?;
        }
        if !is_partial {
            self.staging.remove(self.store)?;
        }
        self.imported.missing_volumes.clone_from(&self.staging.missing);
        Ok(self.imported)
    }

    /// Content that a ready manifest refers to and the store lacks. Answers what is damaged, if that is to stop nothing.
    fn contents(&mut self) -> Result<HashSet<Digest>> {
        let mut lost = HashSet::new();
        let mut owners: BTreeMap<Digest, RepositoryName> = BTreeMap::new();
        for (name, manifests) in &self.ready {
            for digest in manifests.iter().flat_map(|manifest| &manifest.blobs) {
                owners.entry(*digest).or_insert_with(|| name.clone());
            }
        }
        self.imported.present +=
            owners.keys().filter(|digest| !self.wanted.contains_key(digest)).count() as u64;
        let mut batch = self.store.batch();
        let (mut bytes, mut rows) = (0, 0);
        for digest in self.in_archive_order() {
            let (Some(size), Some(owner)) = (self.wanted.get(&digest).copied(), owners.get(&digest)) else {
                continue;
            };
            // One that a visit before has brought, or this one to keep it.
            if is_present(self.store, &digest, size)? {
                continue;
            }
            let reader = self.open(&digest, size)?;
            let content = match ingest(self.store, &digest, size, reader, &mut self.watch) {
                Err(error) if self.keep_going && error.kind() == ErrorKind::Mismatch => {
                    lost.insert(digest);
                    let (name, reason, kind) = (digest.to_string(), error.to_string(), error.kind());
                    self.imported.unusable.push(Unusable { name, reason, kind });
                    continue;
                }
                content => content?,
            };
            batch.push(&self.store.repository(owner), content)?;
            self.imported.copied += 1;
            self.imported.bytes += size;
            bytes += size;
            rows += 1;
            if bytes >= COMMIT_EVERY || rows >= COMMIT_EVERY_ROWS {
                std::mem::replace(&mut batch, self.store.batch()).commit()?;
                (bytes, rows) = (0, 0);
            }
        }
        batch.commit()?;
        Ok(lost)
    }

    /// Lets a repository hold manifests and what they refer to, and then its tags name them.
    fn name(&mut self, name: &RepositoryName, manifests: &[Ready]) -> Result<()> {
        let repository = self.store.repository(name);
        let mut batch = self.store.batch();
        let mut rows = 0;
        let mut held: BTreeSet<Digest> = BTreeSet::new();
        for manifest in manifests {
            for digest in &manifest.blobs {
                if held.insert(*digest) && repository.stat(digest)?.is_none_or(|stat| !stat.blob) {
                    mount(self.store, &repository, &mut batch, digest)?;
                    rows += 1;
                }
            }
            let bytes = Both(self.archive, self.store).document(&manifest.digest)?.ok_or_else(|| {
                Error::not_found(format!("archive lacks a manifest, digest={}", manifest.digest))
            })?;
            let (size, algorithm) = (bytes.len() as u64, manifest.digest.algorithm());
            if repository.manifest(&manifest.digest)?.is_none() {
                self.imported.copied += 1;
                self.imported.bytes += size;
            } else {
                self.imported.present += 1;
            }
            if manifest.sparse {
                batch.push_sparse_manifest(&repository, &manifest.media_type, bytes, algorithm)?;
            } else {
                batch.push_manifest_as(&repository, &manifest.media_type, bytes, algorithm)?;
            }
            self.imported.manifests += 1;
            rows += 1;
            if rows >= COMMIT_EVERY_ROWS {
                std::mem::replace(&mut batch, self.store.batch()).commit()?;
                rows = 0;
            }
        }
        let ready: HashSet<Digest> = manifests.iter().map(|manifest| manifest.digest).collect();
        let tags: Vec<(Tag, Digest)> = self
            .catalog
            .repositories
            .get(name)
            .into_iter()
            .flat_map(|found| &found.tags)
            .map(|(tag, descriptor)| (tag.clone(), descriptor.digest))
            .filter(|(_, digest)| ready.contains(digest))
            .collect();
        for (tag, digest) in tags {
            batch.tag(&repository, &tag, digest, Expect::Any);
            self.imported.tags += 1;
        }
        batch.commit()?;
        Ok(())
    }
}

impl std::fmt::Debug for Importer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer").field("archive", &self.archive).finish_non_exhaustive()
    }
}

/// Those of which nothing was lost, nor of what they list, which comes before them.
fn whole(manifests: Vec<Ready>, lost: &HashSet<Digest>) -> Vec<Ready> {
    let mut named: HashSet<Digest> = HashSet::new();
    manifests
        .into_iter()
        .filter(|manifest| manifest.is_whole(&named, lost) && named.insert(manifest.digest))
        .collect()
}

/// Takes content in, watched.
pub(super) fn ingest(
    store: &Store,
    digest: &Digest,
    size: u64,
    reader: impl Read,
    watch: &mut Option<Watch<'_>>,
) -> Result<crate::blobs::Content> {
    // One byte more than was announced is enough to know.
    let expected = Expected::from(*digest).with_size(size);
    store.ingest_reader_observed(reader.take(size.saturating_add(1)), &expected, &mut |done| {
        watch.as_mut().map_or(ControlFlow::Continue(()), |watch| watch(digest, done))
    })
}

/// Lets a repository hold what another one does.
fn mount(store: &Store, repository: &Repository, batch: &mut Batch, digest: &Digest) -> Result<()> {
    match store.unscoped().holders(digest)?.first() {
        Some(holder) => batch.mount(repository, &store.repository(holder), digest),
        None => Err(Error::not_found(format!("content has gone while it was imported, digest={digest}"))),
    }
}
