//! Exports: what goes into an archive, and how it is written.

use std::ops::ControlFlow;

use super::Watch;
use super::codec::Compression;
use super::inventory::Inventory;
use super::places::Places;
use super::plan::{Content, Plan};
use super::selection::Select;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{RepositoryName, Tag};
use crate::store::Store;
use crate::transfer::Source;

/// Writes artifacts of a store or of other places, with everything that belongs to them, into an archive or into volumes of a size.
///
/// The same content under the same names gives the same bytes. What is attached to a manifest goes with it. Every content is hashed on its way;
/// the archive is not complete before `write` has returned.
/// Memory grows with the number of contents (about 200 bytes each), never with their bytes.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let store = orlop::Options::new().create(dir.path().join("a"))?;
/// # let images = store.default_repository();
/// # images.push_bytes("{}")?;
/// # let config = r#"{"mediaType":"application/x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
/// # let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
/// # images.push_manifest("application/vnd.oci.image.manifest.v1+json", manifest, &["v1".parse()?])?;
/// use orlop::transfer::archive::{Archive, Exporter};
///
/// let mut plan = Exporter::new(&store).everything()?.plan()?;
/// let archive = plan.write(Vec::new())?;
/// let read = Archive::from_bytes(archive)?;
/// assert_eq!(read.names()[0].name, "v1");
/// # Ok(())
/// # }
/// ```
pub struct Exporter<'a> {
    places: Places<'a>,
    items: Vec<(RepositoryName, Digest, Vec<Tag>)>,
    have: Inventory,
    referrers: bool,
    docker: bool,
    time: u64,
    compression: Compression,
    volume_size: Option<u64>,
    watch: Option<Watch<'a>>,
}

impl<'a> Exporter<'a> {
    /// Writes from this store.
    #[must_use]
    pub fn new(store: &'a Store) -> Self {
        Self::of(Places::Store(store))
    }

    /// Writes from other places, such as repositories of a registry, each under the name that it has in the archive. They are asked for every
    /// content before anything is written; the bytes go straight from there into the archive.
    pub fn from_sources(sources: impl IntoIterator<Item = (RepositoryName, &'a dyn Source)>) -> Self {
        Self::of(Places::Sources(sources.into_iter().collect()))
    }

    fn of(places: Places<'a>) -> Self {
        Self {
            places,
            items: Vec::new(),
            have: Inventory::default(),
            referrers: true,
            docker: false,
            time: 0,
            compression: Compression::None,
            volume_size: None,
            watch: None,
        }
    }

    /// Takes a manifest of a repository, with the tags that it has in the archive.
    #[must_use]
    pub fn with(mut self, repository: &RepositoryName, manifest: &Digest, tags: &[Tag]) -> Self {
        self.items.push((repository.clone(), *manifest, tags.to_vec()));
        self
    }

    /// Takes every manifest of every repository of the store, with its tags.
    ///
    /// # Errors
    ///
    /// `Invalid` for other places, which are given one by one; `Io`, `Corrupt`.
    pub fn everything(mut self) -> Result<Self> {
        const PAGE: usize = 1000;
        let Places::Store(store) = self.places else {
            return Err(Error::invalid("everything of a place that is no store was asked for"));
        };
        let mut after = None;
        loop {
            let page = store.repositories(after.as_ref(), PAGE)?;
            for name in &page.items {
                let repository = store.repository(name);
                let mut last = None;
                loop {
                    let page = repository.manifests(last.as_ref(), PAGE)?;
                    for found in &page.items {
                        self.items.push((name.clone(), found.digest, repository.tags_of(&found.digest)?));
                    }
                    last = page.items.last().map(|found| found.digest);
                    if !page.more {
                        break;
                    }
                }
            }
            after = page.items.last().cloned();
            if !page.more {
                return Ok(self);
            }
        }
    }

    /// Leaves out content that the receiver has; manifests are always carried, so that it can tell what belongs to them.
    #[must_use]
    pub fn have(mut self, have: &Inventory) -> Self {
        self.have.extend(have);
        self
    }

    /// Whether what is attached goes along. It does by default.
    #[must_use]
    pub fn referrers(mut self, referrers: bool) -> Self {
        self.referrers = referrers;
        self
    }

    /// Whether `docker load` finds the images too, by a `manifest.json`. Of an index it can stand for one image only: that for
    /// linux/amd64, else the first.
    #[must_use]
    pub fn docker(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// The time of every entry, in seconds since 1970; zero by default, so that the same content gives the same bytes.
    #[must_use]
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = seconds;
        self
    }

    /// How the archive is compressed. Not at all by default: what is compressed is not read in place.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Writes volumes of at most so many bytes.
    #[must_use]
    pub fn volume_size(mut self, bytes: u64) -> Self {
        self.volume_size = Some(bytes);
        self
    }

    /// Has `watch` told of each content and of how many bytes of it are written. If it breaks, writing ends with `Interrupted`.
    #[must_use]
    pub fn watch(mut self, watch: impl FnMut(&Digest, u64) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Finds everything that belongs to what was taken, and where it goes. Nothing is written.
    ///
    /// # Errors
    ///
    /// `NotFound` when something is missing that may not be; `Mismatch`; `Invalid` for volumes that are too small or compressed; `Io`, `Corrupt`;
    /// as the places.
    pub fn plan(self) -> Result<Plan<'a>> {
        let Self { places, items, have, referrers, docker, time, compression, volume_size, watch } = self;
        let mut select = Select::new(&places, &have, referrers);
        for (repository, digest, tags) in &items {
            select.add(repository, digest, tags)?;
        }
        let mut selection = select.selection;
        selection.settle();
        let index = selection.index(&|_| true)?;
        let docker = if docker { Some(selection.docker()?) } else { None };
        if volume_size.is_some() && compression != Compression::None {
            return Err(Error::invalid(
                "volumes of a size cannot be compressed: nobody knows before how small they become",
            ));
        }
        Plan::new(Content { places, selection, index, docker, time, compression }, volume_size, watch)
    }
}

impl std::fmt::Debug for Exporter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("items", &self.items.len()).finish_non_exhaustive()
    }
}
