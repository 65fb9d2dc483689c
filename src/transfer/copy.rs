//! Copying from one repository to another, of the same store or of two.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use crate::blobs::Sharing;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Manifest, Role, Tag, media_type};
use crate::store::{Batch, Expect, Repository, Store};

/// Bytes of new content after which what came so far is committed, so that an interrupted copy need not begin again.
const COMMIT_EVERY: u64 = 256 << 20;
/// The same in contents, of which a batch can hold so many.
const COMMIT_EVERY_CONTENTS: usize = 20_000;

/// Copies artifacts from one repository to another.
///
/// What a manifest refers to is copied with it, its subject too where the source has it. Manifests and tags become visible
/// together when everything is there (beyond 20,000 manifests in several steps, the tags with the last); content that came before an error stays, unnamed, and the next copy finds it.
/// Everything is hashed, also what the destination has already, so that copying again heals damage.
///
/// ```
/// # fn main() -> orlop::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let source = orlop::Options::new().create(dir.path().join("a"))?;
/// # let target = orlop::Options::new().create(dir.path().join("b"))?;
/// # let from = source.default_repository();
/// # from.push_bytes("{}")?;
/// # let config = r#"{"mediaType":"application/x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
/// # let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
/// # from.push_manifest("application/vnd.oci.image.manifest.v1+json", manifest, &["v1".parse()?])?;
/// use orlop::transfer::Copier;
///
/// let to = target.default_repository();
/// let root = from.resolve(&"v1".parse()?)?.expect("a tag");
/// let copied = Copier::new(&from, &to).referrers(true).copy(&root.digest, &["v1".parse()?])?;
/// assert_eq!(copied.manifests, 1);
/// assert_eq!(to.resolve(&"v1".parse()?)?.map(|found| found.digest), Some(root.digest));
/// # Ok(())
/// # }
/// ```
pub struct Copier<'a> {
    from: &'a Repository,
    to: &'a Repository,
    referrers: bool,
    sharing: Sharing,
    verify: bool,
    watch: Option<Watch<'a>>,
    /// What the destination's store is known to have, whole, from the copies so far.
    known: HashSet<Digest>,
}

/// Told of every content that is dealt with, and of its bytes that are done; may stop the copy.
type Watch<'a> = Box<dyn FnMut(&Descriptor, u64) -> ControlFlow<()> + 'a>;

/// What a copy did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Manifests that are at the destination now.
    pub manifests: u64,
    /// Contents that were brought there, manifests included.
    pub copied: u64,
    /// Contents that were there already and are what their digests say.
    pub present: u64,
    /// Bytes that were brought there.
    pub bytes: u64,
    /// What the source lacks and may lack, so that the copy lacks it too.
    pub absent: Vec<Absent>,
}

/// Content that the source does not have.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Absent {
    /// The content.
    pub digest: Digest,
    /// The manifest that refers to it.
    pub manifest: Digest,
    /// What it is to that manifest.
    pub role: Role,
}

impl<'a> Copier<'a> {
    /// Copies from one repository to another: of two stores or of one.
    #[must_use]
    pub fn new(from: &'a Repository, to: &'a Repository) -> Self {
        Self {
            from,
            to,
            referrers: false,
            sharing: Sharing::default(),
            verify: true,
            watch: None,
            known: HashSet::new(),
        }
    }

    /// Whether what refers to a manifest goes with it: signatures, SBOMs and what refers to those, also of the manifests that an
    /// index lists. Not by default.
    #[must_use]
    pub fn referrers(mut self, referrers: bool) -> Self {
        self.referrers = referrers;
        self
    }

    /// Whether content shares its blocks with the source where it can. [`Sharing::Link`] by default.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Whether content that the destination has already is hashed, and copied anew if it is damaged. It is by default;
    /// without, only its size is compared.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Has `watch` told of each content before it is dealt with, and of how many bytes of it are done while it is copied. If it
    /// breaks, the copy ends with `Interrupted`.
    #[must_use]
    pub fn watch(mut self, watch: impl FnMut(&Descriptor, u64) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Copies a manifest and everything that belongs to it; then lets tags of the destination name it.
    ///
    /// # Errors
    ///
    /// `NotFound` when the source lacks the manifest, or content that it may not lack: only manifests that an index lists,
    /// subjects, content with `urls` and content that is not for distribution may be absent. `Mismatch` when the source is damaged,
    /// `Interrupted`, and as [`Batch::commit`](crate::Batch::commit). The tags have not moved then.
    pub fn copy(&mut self, root: &Digest, tags: &[Tag]) -> Result<Copied> {
        let mut run = Run::new(self);
        run.manifests(root)?;
        run.finish(root, tags)
    }
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier")
            .field("from", self.from.name())
            .field("to", self.to.name())
            .field("referrers", &self.referrers)
            .field("sharing", &self.sharing)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

/// One copy.
struct Run<'r, 'a> {
    with: &'r mut Copier<'a>,
    store: Store,
    batch: Batch,
    /// Content, and manifests as such: one may be both.
    seen: HashSet<(Digest, bool)>,
    pending: u64,
    pending_contents: usize,
    /// Manifests that are read and wait for what they refer to.
    read: BTreeMap<Digest, (String, Manifest, u64)>,
    /// Manifests of which all that they refer to is there, in order. They are pushed last, together.
    ready: Vec<Digest>,
    /// Manifests that refer to something that the source may lack, and does.
    sparse: HashSet<Digest>,
    copied: Copied,
}

/// What is to be done next.
enum Step {
    /// Reads a manifest and goes on with what it refers to.
    Enter { descriptor: Box<Descriptor>, parent: Option<(Digest, Role)> },
    /// Everything that it refers to is there.
    Leave { digest: Digest },
}

impl<'r, 'a> Run<'r, 'a> {
    fn new(with: &'r mut Copier<'a>) -> Self {
        let store = with.to.store().clone();
        let batch = store.batch();
        Self {
            with,
            store,
            batch,
            seen: HashSet::new(),
            pending: 0,
            pending_contents: 0,
            read: BTreeMap::new(),
            ready: Vec::new(),
            sparse: HashSet::new(),
            copied: Copied::default(),
        }
    }

    /// Without recursion: a hostile layout could nest referrers without end.
    fn manifests(&mut self, root: &Digest) -> Result<()> {
        let root = Box::new(Descriptor::new("", *root, 0));
        let mut steps = vec![Step::Enter { descriptor: root, parent: None }];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter { descriptor, parent } => self.enter(&descriptor, parent, &mut steps)?,
                Step::Leave { digest } => self.leave(&digest, &mut steps)?,
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        descriptor: &Descriptor,
        parent: Option<(Digest, Role)>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let digest = descriptor.digest;
        if self.seen.contains(&(digest, true)) {
            return Ok(());
        }
        let Some(stored) = self.with.from.manifest(&digest)? else {
            let Some((manifest, role)) = parent else {
                return Err(Error::not_found(format!(
                    "the source does not hold the manifest, repository={}, digest={digest}",
                    self.with.from.name()
                )));
            };
            // What an index lists may be no manifest at all.
            if role == Role::Manifest && self.with.from.stat(&digest)?.is_some() {
                return self.blob(descriptor, &manifest, role);
            }
            self.absent(digest, manifest, role);
            return Ok(());
        };
        self.seen.insert((digest, true));
        let manifest = stored.parse()?;
        let children = manifest.successors().iter();
        steps.push(Step::Leave { digest });
        for child in children.filter(|child| child.role == Role::Manifest) {
            let (descriptor, parent) = (Box::new(child.descriptor.clone()), Some((digest, child.role)));
            steps.push(Step::Enter { descriptor, parent });
        }
        if let Some(subject) = manifest.subject() {
            let parent = Some((digest, Role::Subject));
            steps.push(Step::Enter { descriptor: Box::new(subject.clone()), parent });
        }
        let size = stored.content.len() as u64;
        self.read.insert(digest, (stored.descriptor.media_type, manifest, size));
        Ok(())
    }

    fn leave(&mut self, digest: &Digest, steps: &mut Vec<Step>) -> Result<()> {
        let Some((media_type, manifest, size)) = self.read.remove(digest) else { return Ok(()) };
        for child in manifest.successors().iter().filter(|child| child.role != Role::Manifest) {
            self.blob(&child.descriptor, digest, child.role)?;
        }
        self.step(&Descriptor::new(media_type, *digest, size))?;
        self.copied.manifests += 1;
        // One that is there may have come without what it refers to, and is pushed again all the same.
        if self.is_present(digest, size)? && self.with.to.manifest(digest)?.is_some() {
            self.copied.present += 1;
        } else {
            self.copied.copied += 1;
            self.copied.bytes += size;
        }
        self.ready.push(*digest);
        if self.with.referrers {
            for descriptor in self.with.from.referrers(digest).all()? {
                let descriptor = Box::new(descriptor);
                steps.push(Step::Enter { descriptor, parent: Some((*digest, Role::Subject)) });
            }
        }
        Ok(())
    }

    fn absent(&mut self, digest: Digest, manifest: Digest, role: Role) {
        self.copied.absent.push(Absent { digest, manifest, role });
        if role != Role::Subject {
            self.sparse.insert(manifest);
        }
    }

    fn push_manifest(&mut self, digest: &Digest) -> Result<()> {
        let stored = self.with.from.manifest(digest)?.ok_or_else(|| {
            Error::not_found(format!("the source has lost the manifest while it was copied, digest={digest}"))
        })?;
        let media_type = stored.descriptor.media_type;
        let (to, bytes, algorithm) = (self.with.to, stored.content.into_bytes(), digest.algorithm());
        let found = if self.sparse.contains(digest) {
            self.batch.push_sparse_manifest(to, &media_type, bytes, algorithm)?
        } else {
            self.batch.push_manifest_as(to, &media_type, bytes, algorithm)?
        };
        if found != *digest {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("manifest is not what its digest says, expected={digest}, found={found}"),
            ));
        }
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor, parent: &Digest, role: Role) -> Result<()> {
        let digest = descriptor.digest;
        if !self.seen.insert((digest, false)) {
            return Ok(());
        }
        self.step(descriptor)?;
        let Some(reader) = self.with.from.reader(&digest)? else {
            let may_lack = role == Role::Manifest
                || media_type::is_non_distributable(&descriptor.media_type)
                || !descriptor.urls.is_empty();
            if may_lack {
                self.absent(digest, *parent, role);
                return Ok(());
            }
            return Err(Error::not_found(format!(
                "the source lacks content that a manifest refers to, repository={}, digest={digest}, manifest={parent}",
                self.with.from.name()
            )));
        };
        if reader.len() != descriptor.size {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "content has another size than its descriptor says, digest={digest}, expected={}, found={}",
                    descriptor.size,
                    reader.len()
                ),
            ));
        }
        if self.is_present(&digest, reader.len())? && self.hold(&digest)? {
            self.copied.present += 1;
            return Ok(());
        }
        let (sharing, watch) = (self.with.sharing, &mut self.with.watch);
        let content = self.store.ingest_from_observed(&reader, sharing, &mut |done| match watch {
            Some(watch) => watch(descriptor, done),
            None => ControlFlow::Continue(()),
        })?;
        self.batch.push(self.with.to, content)?;
        self.copied.copied += 1;
        self.copied.bytes += reader.len();
        self.pending += reader.len();
        self.pending_contents += 1;
        if self.pending >= COMMIT_EVERY || self.pending_contents >= COMMIT_EVERY_CONTENTS {
            self.commit()?;
        }
        Ok(())
    }

    /// Whether the destination's store has the content, whoever holds it, and it is what its digest says.
    fn is_present(&mut self, digest: &Digest, size: u64) -> Result<bool> {
        if self.with.known.contains(digest) {
            return Ok(true);
        }
        let unscoped = self.store.unscoped();
        if unscoped.stat(digest)?.is_none_or(|stat| stat.size != size) {
            return Ok(false);
        }
        let found = if self.with.verify {
            unscoped.verify(digest)
        } else {
            unscoped.reader(digest).map(|found| found.is_some())
        };
        match found {
            // Damaged: it is copied anew.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            Ok(true) => {
                self.with.known.insert(*digest);
                Ok(true)
            }
            other => other,
        }
    }

    /// Lets the repository hold what its store has; false when no repository holds it any more.
    fn hold(&mut self, digest: &Digest) -> Result<bool> {
        if self.with.to.stat(digest)?.is_some() {
            return Ok(true);
        }
        match self.store.unscoped().holders(digest)?.first() {
            Some(holder) => {
                self.batch.mount(self.with.to, &self.store.repository(holder), digest)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn step(&mut self, descriptor: &Descriptor) -> Result<()> {
        match self.with.watch.as_mut().map(|watch| watch(descriptor, 0)) {
            Some(ControlFlow::Break(())) => {
                Err(Error::new(ErrorKind::Interrupted, "the copy was stopped by its caller"))
            }
            _ => Ok(()),
        }
    }

    /// Keeps what came so far.
    fn commit(&mut self) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, self.store.batch());
        let committed = batch.commit()?;
        self.with.known.extend(committed.pushed.iter().map(|pushed| pushed.digest));
        (self.pending, self.pending_contents) = (0, 0);
        Ok(())
    }

    /// Manifests and tags, as few commits as a batch can be large.
    fn finish(mut self, root: &Digest, tags: &[Tag]) -> Result<Copied> {
        for (index, digest) in std::mem::take(&mut self.ready).iter().enumerate() {
            if index > 0 && index % COMMIT_EVERY_CONTENTS == 0 {
                self.commit()?;
            }
            self.push_manifest(digest)?;
        }
        for tag in tags {
            self.batch.tag(self.with.to, tag, *root, Expect::Any);
        }
        self.commit()?;
        Ok(self.copied)
    }
}
