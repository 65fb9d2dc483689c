//! Copying from one place to another: what belongs to an artifact, how much at a time, and what became of it.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use parking_lot::Mutex;

use super::member::Member;
use super::platforms::Platforms;
use super::run::Run;
use super::seam::{Sink, Source};
use super::store::{RepositorySink, interrupted};
use crate::blobs::Sharing;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, RepositoryName, Role, Tag};
use crate::store::Repository;

/// How many roots are dealt with together, so that small artifacts do not wait for each other.
const GROUP: usize = 256;

/// Copies artifacts from one place to another.
///
/// What a manifest refers to is copied with it, its subject too where the source has it. Tags move when everything is there, with the
/// manifests where the place can do both at once; content that came before an error stays, unnamed, and the next copy finds it.
/// Everything is hashed, also what the destination has already as far as it can be read there, so that copying again heals damage.
/// What the destination holds in the end does not depend on how many transfers run side by side.
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
    pub(super) from: &'a dyn Source,
    to: To<'a>,
    pub(super) choice: Choice,
    watch: Option<Mutex<Watch<'a>>>,
    /// Content that the destination is known to have and hold, from the copies so far, with its size.
    pub(super) known: HashMap<Digest, u64>,
    /// The same of manifests, with all that belongs to them, and what a record says of them if one is written.
    pub(super) complete: HashMap<Digest, (u64, Option<Box<Member>>)>,
    /// Roots that have a record.
    pub(super) recorded: HashSet<Digest>,
}

enum To<'a> {
    Own(Box<RepositorySink>),
    Lent(&'a dyn Sink),
}

/// What is copied, and how.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) referrers: bool,
    pub(super) cosign_tags: bool,
    pub(super) platforms: Option<Platforms>,
    pub(super) verify: bool,
    pub(super) jobs: usize,
    pub(super) keep_going: bool,
    pub(super) dry_run: bool,
    pub(super) record: bool,
    pub(super) mount_from: Option<RepositoryName>,
}

/// Told of every step; may stop the copy.
type Watch<'a> = Box<dyn FnMut(Step<'_>) -> ControlFlow<()> + Send + 'a>;

/// What happens during a copy. Several contents may be under way at a time.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub enum Step<'s> {
    /// There are so many contents more to be dealt with, of so many bytes.
    Found {
        /// How many.
        contents: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A content or manifest is dealt with from now on.
    Begin(&'s Descriptor),
    /// So many bytes of it are done.
    Moved(&'s Descriptor, u64),
    /// It is dealt with.
    End(&'s Descriptor, Outcome),
}

/// What became of one content or manifest.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was brought to the destination, or would be.
    Copied,
    /// The same, behind so many bytes that an earlier run had brought.
    Resumed(u64),
    /// The destination had it in another repository.
    Mounted,
    /// It was there already and is what its digest says.
    Present,
    /// The source lacks it and may lack it.
    Absent,
}

/// What a copy did, or would do.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Manifests that are at the destination now.
    pub manifests: u64,
    /// Contents that were brought there, manifests included.
    pub copied: u64,
    /// Contents that were there already and are what their digests say.
    pub present: u64,
    /// Contents that another repository of the destination had.
    pub mounted: u64,
    /// How many of the copied ones went on behind what an earlier run had brought.
    pub resumed: u64,
    /// Bytes that were brought there.
    pub bytes: u64,
    /// Bytes that earlier runs had brought.
    pub resumed_bytes: u64,
    /// What the source lacks and may lack, so that the copy lacks it too.
    pub absent: Vec<Absent>,
    /// What was left out because of the platforms that were asked for.
    pub left_out: Vec<LeftOut>,
    /// Records of what was found, see [`Copier::record`].
    pub records: u64,
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

/// A manifest that was left out on purpose.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// The manifest.
    pub digest: Digest,
    /// The index that lists it.
    pub index: Digest,
    /// What it runs on, as `os/architecture/variant`.
    pub platform: String,
}

/// One manifest to copy with everything that belongs to it, and the tags that name it at the destination.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// The manifest.
    pub root: Digest,
    /// Its tags at the destination.
    pub tags: Vec<Tag>,
}

impl Item {
    /// A manifest and its tags.
    #[must_use]
    pub fn new(root: Digest, tags: Vec<Tag>) -> Self {
        Self { root, tags }
    }
}

impl<'a> Copier<'a> {
    /// Copies from one repository to another: of two stores or of one.
    #[must_use]
    pub fn new(from: &'a Repository, to: &Repository) -> Self {
        Self::to(from, To::Own(Box::new(RepositorySink::new(to))))
    }

    /// Copies from any place to any other.
    #[must_use]
    pub fn between(from: &'a dyn Source, to: &'a dyn Sink) -> Self {
        Self::to(from, To::Lent(to))
    }

    fn to(from: &'a dyn Source, to: To<'a>) -> Self {
        let choice = Choice {
            referrers: false,
            cosign_tags: false,
            platforms: None,
            verify: true,
            jobs: 4,
            keep_going: false,
            dry_run: false,
            record: false,
            mount_from: None,
        };
        Self {
            from,
            to,
            choice,
            watch: None,
            known: HashMap::new(),
            complete: HashMap::new(),
            recorded: HashSet::new(),
        }
    }

    /// Whether what refers to a manifest goes with it: signatures, SBOMs and what refers to those, also of the manifests that an
    /// index lists. Not by default.
    #[must_use]
    pub fn referrers(mut self, referrers: bool) -> Self {
        self.choice.referrers = referrers;
        self
    }

    /// Whether the tags `sha256-<hex>.sig`, `.att` and `.sbom`, by which cosign attaches to a manifest, go with it under the same names.
    /// Not by default: a registry is asked three times more for each manifest.
    #[must_use]
    pub fn cosign_tags(mut self, cosign_tags: bool) -> Self {
        self.choice.cosign_tags = cosign_tags;
        self
    }

    /// Copies of an index only what runs on one of these platforms, and what is for none. The index itself stays as it is, and lacks the
    /// others at the destination: that is [told](Copied::left_out). Manifests that are no index are copied whatever they run on.
    #[must_use]
    pub fn platforms(mut self, platforms: Platforms) -> Self {
        self.choice.platforms = Some(platforms);
        self
    }

    /// Whether content shares its blocks with the source where it can. [`Sharing::Link`] by default. A sink that was given has a choice
    /// of its own.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.to = match self.to {
            To::Own(sink) => To::Own(Box::new(sink.sharing(sharing))),
            lent @ To::Lent(_) => lent,
        };
        self
    }

    /// Whether content that the destination has already is hashed, and copied anew if it is damaged. It is by default;
    /// without, only its size is compared.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.choice.verify = verify;
        self
    }

    /// How many transfers run side by side, each on a thread of its own; 4 by default.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.choice.jobs = jobs.max(1);
        self
    }

    /// Whether a failure of one item leaves the others to be copied. Not by default.
    #[must_use]
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.choice.keep_going = keep_going;
        self
    }

    /// Whether only to find out what would be copied. Nothing at the destination changes then.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.choice.dry_run = dry_run;
        self
    }

    /// Whether each root gets a [`Closure`](super::Closure) attached to it at the destination: a record of what was found at the source,
    /// how, and what was left out on purpose. Not by default.
    #[must_use]
    pub fn record(mut self, record: bool) -> Self {
        self.choice.record = record;
        self
    }

    /// The repository that is copied from, if it is one of the place that is copied to: content is then mounted where that can be.
    #[must_use]
    pub fn mount_from(mut self, repository: RepositoryName) -> Self {
        self.choice.mount_from = Some(repository);
        self
    }

    /// Has `watch` told of each step, by whatever thread, one at a time. If it breaks, the copy ends with `Interrupted`.
    #[must_use]
    pub fn watch(mut self, watch: impl FnMut(Step<'_>) -> ControlFlow<()> + Send + 'a) -> Self {
        self.watch = Some(Mutex::new(Box::new(watch)));
        self
    }

    /// Copies a manifest and everything that belongs to it; then lets tags of the destination name it.
    ///
    /// # Errors
    ///
    /// `NotFound` when the source lacks the manifest, or content that it may not lack: only manifests that an index lists,
    /// subjects, content with `urls` and content that is not for distribution may be absent; also when an index has nothing for the
    /// platforms that were asked for. `Mismatch` when the source is damaged,
    /// `Interrupted`, and as the places. The tags have not moved then.
    pub fn copy(&mut self, root: &Digest, tags: &[Tag]) -> Result<Copied> {
        let (copied, failed) = self.copy_all(&[Item::new(*root, tags.to_vec())])?;
        match failed.into_iter().next() {
            None => Ok(copied),
            Some((_, error)) => Err(error),
        }
    }

    /// Copies many manifests with everything that belongs to them. Answers what that did, and which items failed and why, by their
    /// places in `items`: none unless told to [keep going](Copier::keep_going).
    ///
    /// # Errors
    ///
    /// As [`Copier::copy`]: of the first item that fails, or of the destination if that takes nothing more. Items before it may be
    /// complete then.
    pub fn copy_all(&mut self, items: &[Item]) -> Result<(Copied, Vec<(usize, Error)>)> {
        let (mut copied, mut failed) = (Copied::default(), Vec::new());
        for (index, group) in items.chunks(GROUP).enumerate() {
            let errors = match Run::new(self, &mut copied).copy(group) {
                Ok(errors) => errors,
                Err(error) => {
                    if !self.choice.dry_run {
                        // Why the copy failed is what matters; what could not be kept is copied again.
                        let _ = self.sink().keep();
                    }
                    return Err(error);
                }
            };
            failed.extend(errors.into_iter().map(|(at, error)| (index * GROUP + at, error)));
        }
        Ok((copied, failed))
    }

    pub(super) fn sink(&self) -> &dyn Sink {
        match &self.to {
            To::Own(sink) => &**sink,
            To::Lent(sink) => *sink,
        }
    }

    pub(super) fn tell(&self, step: Step<'_>) -> Result<()> {
        if self.moved(step).is_break() { Err(interrupted()) } else { Ok(()) }
    }

    pub(super) fn moved(&self, step: Step<'_>) -> ControlFlow<()> {
        self.watch.as_ref().map_or(ControlFlow::Continue(()), |watch| (watch.lock())(step))
    }

    /// Whether a failure ends everything, and not only the item that it befell.
    pub(super) fn ends(&self, error: &Error) -> bool {
        !self.choice.keep_going
            || matches!(
                error.kind(),
                ErrorKind::Interrupted
                    | ErrorKind::NoSpace
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnly
                    | ErrorKind::Poisoned
                    | ErrorKind::Indeterminate
            )
    }
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier")
            .field("from", &self.from.place())
            .field("to", &self.sink().place())
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}

impl Copied {
    /// Counts one content.
    pub(super) fn count(&mut self, outcome: Outcome, size: u64) {
        match outcome {
            Outcome::Copied => {
                self.copied += 1;
                self.bytes += size;
            }
            Outcome::Resumed(before) => {
                self.copied += 1;
                self.resumed += 1;
                self.bytes += size.saturating_sub(before);
                self.resumed_bytes += before;
            }
            Outcome::Mounted => self.mounted += 1,
            Outcome::Present => self.present += 1,
            Outcome::Absent => {}
        }
    }
}
