//! One copy of several roots: the graph is walked in waves, contents come with each wave, manifests and tags when all is there.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::contents::Job;
use super::copy::{Absent, Copied, Copier, Item, LeftOut, Outcome, Step};
use super::parallel::in_parallel;
use super::seam::{Fetched, FoundBy, FoundReferrers};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Manifest, Role, Tag};

/// How many manifests are read in one wave, and of how many bytes as far as that is known.
const WAVE: usize = 128;
const WAVE_BYTES: u64 = 32 << 20;
/// Bytes of manifests that are kept until they are pushed. Others are read again then.
const KEPT_BYTES: usize = 32 << 20;

/// What cosign attaches by tags that are made of the digest.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// A manifest of the source.
pub(super) struct Node {
    /// Media type, digest and size.
    pub(super) descriptor: Descriptor,
    /// None if they are to be read again.
    pub(super) bytes: Option<Bytes>,
    /// Manifests that it lists, and that were not left out.
    pub(super) children: Vec<Digest>,
    pub(super) subject: Option<Digest>,
    /// Manifests that refer to it, and those that cosign attached to it by tags.
    pub(super) attached: Vec<Attached>,
    /// How the former were found, if they were asked for.
    pub(super) found: Option<(FoundBy, u64)>,
    /// It refers to content that the copy lacks.
    pub(super) sparse: bool,
    /// Why it cannot be completed, by its place among the errors.
    pub(super) failed: Option<usize>,
}

/// What is attached to a manifest.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) digest: Digest,
    pub(super) artifact_type: Option<String>,
    /// The tag by which cosign attached it.
    pub(super) tag: Option<Tag>,
}

/// A manifest that is to be read.
struct Task {
    descriptor: Descriptor,
    parent: Option<(Digest, Role)>,
    /// The source said that it is attached to its parent, so that it has to be there.
    attached: bool,
    /// By a tag of cosign, to which no others are attached.
    by_tag: bool,
}

/// A manifest that was read, and what is attached to it.
struct Found {
    fetched: Fetched,
    manifest: Manifest,
    referrers: Option<FoundReferrers>,
    tags: Vec<(Tag, Descriptor)>,
}

/// One copy.
pub(super) struct Run<'r, 'a> {
    pub(super) with: &'r mut Copier<'a>,
    pub(super) copied: &'r mut Copied,
    pub(super) graph: HashMap<Digest, Node>,
    pub(super) errors: Vec<Error>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) absent: Vec<Absent>,
    /// Manifests that an index lists, behind it, with the size that it says they have.
    listed: Vec<(Digest, Digest, u64)>,
    /// Manifests that were read, or could not be.
    seen: HashSet<Digest>,
    /// Contents that were dealt with, with the size that was looked for; and those that did not come to the destination: why, or that they
    /// may be absent.
    asked: HashMap<Digest, u64>,
    lost: HashMap<Digest, usize>,
    lacking: HashSet<Digest>,
    kept: usize,
}

impl<'r, 'a> Run<'r, 'a> {
    pub(super) fn new(with: &'r mut Copier<'a>, copied: &'r mut Copied) -> Self {
        Self {
            with,
            copied,
            graph: HashMap::new(),
            errors: Vec::new(),
            left_out: Vec::new(),
            absent: Vec::new(),
            listed: Vec::new(),
            seen: HashSet::new(),
            asked: HashMap::new(),
            lost: HashMap::new(),
            lacking: HashSet::new(),
            kept: 0,
        }
    }

    /// Answers which items failed, and why.
    pub(super) fn copy(mut self, items: &[Item]) -> Result<Vec<(usize, Error)>> {
        let root = |item: &Item| Task::new(&Descriptor::new("", item.root, 0), None);
        let mut tasks: VecDeque<Task> = items.iter().map(root).collect();
        // Without recursion: a hostile layout could nest referrers without end.
        loop {
            let wave = self.wave(&mut tasks);
            if wave.is_empty() {
                break;
            }
            self.read(&wave, &mut tasks)?;
        }
        self.finish(items)
    }

    /// Takes tasks that are new, as many as may be in memory at a time.
    fn wave(&mut self, tasks: &mut VecDeque<Task>) -> Vec<Task> {
        let (mut wave, mut bytes) = (Vec::new(), 0_u64);
        while wave.len() < WAVE
            && bytes < WAVE_BYTES
            && let Some(task) = tasks.pop_front()
        {
            let digest = task.descriptor.digest;
            if self.with.complete.contains_key(&digest) || !self.seen.insert(digest) {
                continue;
            }
            bytes = bytes.saturating_add(task.descriptor.size);
            wave.push(task);
        }
        wave
    }

    fn read(&mut self, wave: &[Task], tasks: &mut VecDeque<Task>) -> Result<()> {
        let with = &*self.with;
        let read = in_parallel(with.choice.jobs, wave, |error| with.ends(error), |task| with.read(task))?;
        let (mut jobs, mut contents) = (Vec::new(), Vec::new());
        for (task, read) in wave.iter().zip(read) {
            match read {
                Ok(Some(found)) => {
                    let Found { fetched, manifest, referrers, tags } = *found;
                    let digest = fetched.descriptor.digest;
                    let node = match self.node(task, fetched, &manifest) {
                        Ok(node) => self.attach(node, referrers, tags, task, tasks),
                        Err(error) if self.with.ends(&error) => return Err(error),
                        Err(error) => self.failed(&task.descriptor, error),
                    };
                    self.enter(&manifest, &node, tasks);
                    self.graph.insert(digest, node);
                    let parts = manifest.successors().iter().filter(|part| part.role != Role::Manifest);
                    contents.push((
                        digest,
                        parts.clone().map(|part| (part.descriptor.digest, part.role)).collect::<Vec<_>>(),
                    ));
                    jobs.extend(parts.map(|part| Job::of(&part.descriptor, digest, part.role)));
                }
                // What an index lists may be no manifest at all.
                Ok(None) => {
                    if let Some((manifest, role @ Role::Manifest)) = task.parent {
                        jobs.push(Job::of(&task.descriptor, manifest, role));
                    }
                }
                Err(error) => {
                    let node = self.failed(&task.descriptor, error);
                    self.graph.insert(task.descriptor.digest, node);
                }
            }
        }
        self.bring(jobs)?;
        for (manifest, parts) in contents {
            self.settle(manifest, &parts);
        }
        Ok(())
    }

    /// A manifest that was read, with the manifests that it lists and that are wanted.
    fn node(&mut self, task: &Task, fetched: Fetched, manifest: &Manifest) -> Result<Node> {
        let Fetched { descriptor, bytes } = fetched;
        let digest = descriptor.digest;
        let listed: Vec<&Descriptor> = manifest
            .successors()
            .iter()
            .filter(|child| child.role == Role::Manifest)
            .map(|child| &child.descriptor)
            .collect();
        let wanted = match &self.with.choice.platforms {
            Some(platforms) => {
                let (wanted, is_sense) = platforms.of(&listed);
                if !is_sense && task.parent.is_none() {
                    return Err(Error::not_found(format!(
                        "the index lists nothing for the platforms that were asked for, digest={digest}, platforms={}",
                        platforms.shown().join(",")
                    )));
                }
                wanted
            }
            None => vec![true; listed.len()],
        };
        let mut children = Vec::new();
        for (child, wanted) in listed.into_iter().zip(wanted) {
            if wanted {
                children.push(child.digest);
            } else {
                let platform = child.platform.as_deref().map(ToString::to_string).unwrap_or_default();
                self.left_out.push(LeftOut { digest: child.digest, index: digest, platform });
            }
        }
        let size = bytes.len();
        let mut slim = Descriptor::new(descriptor.media_type, digest, size as u64);
        slim.artifact_type = manifest.artifact_type().map(str::to_owned);
        let keep = self.kept + size <= KEPT_BYTES;
        self.kept += if keep { size } else { 0 };
        Ok(Node {
            bytes: keep.then_some(bytes),
            subject: manifest.subject().map(|subject| subject.digest),
            ..Node::new(slim, children)
        })
    }

    /// Goes on with what is attached to a manifest.
    fn attach(
        &self,
        mut node: Node,
        found: Option<FoundReferrers>,
        tags: Vec<(Tag, Descriptor)>,
        task: &Task,
        tasks: &mut VecDeque<Task>,
    ) -> Node {
        let digest = node.descriptor.digest;
        let is_own = |referrer: &Descriptor| {
            // Some registries give the subject, or what it lists, for its referrers.
            referrer.digest == digest || node.children.contains(&referrer.digest)
        };
        if let Some(found) = found {
            node.found = Some((found.by, found.pages));
            for referrer in found.referrers.into_iter().filter(|referrer| !is_own(referrer)) {
                tasks.push_back(Task {
                    attached: true,
                    by_tag: task.by_tag,
                    ..Task::new(&referrer, Some((digest, Role::Subject)))
                });
                let Descriptor { digest, artifact_type, .. } = referrer;
                node.attached.push(Attached { digest, artifact_type, tag: None });
            }
        }
        for (tag, descriptor) in tags.into_iter().filter(|(_, found)| found.digest != digest) {
            tasks.push_back(Task {
                attached: true,
                by_tag: true,
                ..Task::new(&descriptor, Some((digest, Role::Subject)))
            });
            node.attached.push(Attached { digest: descriptor.digest, artifact_type: None, tag: Some(tag) });
        }
        node
    }

    /// Goes on with what a manifest refers to.
    fn enter(&mut self, manifest: &Manifest, node: &Node, tasks: &mut VecDeque<Task>) {
        let digest = node.descriptor.digest;
        if node.failed.is_some() {
            return;
        }
        if let Some(subject) = manifest.subject() {
            tasks.push_back(Task::new(subject, Some((digest, Role::Subject))));
        }
        let wanted: HashSet<&Digest> = node.children.iter().collect();
        for child in manifest.successors().iter().filter(|child| child.role == Role::Manifest) {
            if wanted.contains(&child.descriptor.digest) {
                tasks.push_back(Task::new(&child.descriptor, Some((digest, Role::Manifest))));
                self.listed.push((digest, child.descriptor.digest, child.descriptor.size));
            }
        }
    }

    fn failed(&mut self, descriptor: &Descriptor, error: Error) -> Node {
        self.errors.push(error);
        let failed = Some(self.errors.len() - 1);
        let descriptor = Descriptor::new("", descriptor.digest, 0);
        Node { failed, ..Node::new(descriptor, Vec::new()) }
    }

    /// Brings the contents of a wave.
    fn bring(&mut self, mut jobs: Vec<Job>) -> Result<()> {
        jobs.retain(|job| {
            let Descriptor { digest, size, .. } = job.descriptor;
            let (known, before) = (self.with.known.get(&digest).copied(), self.asked.insert(digest, size));
            let (is_new, asked) = (before.is_none(), before.or(known));
            if let Some(other) = asked.filter(|other| *other != size) {
                // At most one of them is right, and that is told of the other as well.
                self.errors.push(other_size("content", &digest, size, other));
                if let Some(node) = self.graph.get_mut(&job.manifest) {
                    node.failed.get_or_insert(self.errors.len() - 1);
                }
            }
            self.copied.present += u64::from(is_new && known.is_some());
            is_new && known.is_none()
        });
        let with = &*self.with;
        if !jobs.is_empty() {
            let bytes = jobs.iter().fold(0_u64, |sum, job| sum.saturating_add(job.descriptor.size));
            with.tell(Step::Found { contents: jobs.len() as u64, bytes })?;
        }
        let outcomes =
            in_parallel(with.choice.jobs, &jobs, |error| with.ends(error), |job| with.transfer(job))?;
        for (job, outcome) in jobs.iter().zip(outcomes) {
            let digest = job.descriptor.digest;
            match outcome {
                Ok(Outcome::Absent) => {
                    self.lacking.insert(digest);
                }
                Ok(outcome) => {
                    self.copied.count(outcome, job.descriptor.size);
                    self.with.known.insert(digest, job.descriptor.size);
                }
                Err(error) => {
                    self.errors.push(error);
                    self.lost.insert(digest, self.errors.len() - 1);
                }
            }
        }
        Ok(())
    }

    /// What became of the contents of a manifest, also of those that came with another.
    fn settle(&mut self, manifest: Digest, parts: &[(Digest, Role)]) {
        let Some(node) = self.graph.get_mut(&manifest) else { return };
        for (part, role) in parts {
            if let Some(error) = self.lost.get(part) {
                node.failed.get_or_insert(*error);
            }
            if self.lacking.contains(part) {
                node.sparse = true;
                self.absent.push(Absent { digest: *part, manifest, role: *role });
            }
        }
    }

    /// What became of the manifests that a manifest refers to. What it lists may be content that is no manifest.
    pub(super) fn settle_manifests(&mut self) {
        let mut absent = Vec::new();
        let (graph, with) = (&self.graph, &*self.with);
        let is_there = |digest: &Digest| graph.contains_key(digest) || with.complete.contains_key(digest);
        let mut failed: Vec<(Digest, usize)> = Vec::new();
        for (digest, node) in &self.graph {
            // Looked for first as something that may be absent.
            for attached in node.attached.iter().filter(|attached| !is_there(&attached.digest)) {
                self.errors.push(with.lacks_attached(&attached.digest, digest));
                failed.push((*digest, self.errors.len() - 1));
            }
            for child in node.children.iter().filter(|child| !is_there(child)) {
                match self.lost.get(child) {
                    Some(error) => failed.push((*digest, *error)),
                    None if with.known.contains_key(child) => {}
                    None => absent.push(Absent { digest: *child, manifest: *digest, role: Role::Manifest }),
                }
            }
            if let Some(subject) = node.subject.filter(|subject| !is_there(subject)) {
                absent.push(Absent { digest: subject, manifest: *digest, role: Role::Subject });
            }
        }
        for (index, child, expected) in &self.listed {
            let node = graph.get(child).filter(|node| node.failed.is_none());
            let earlier = || with.complete.get(child).map(|(size, _)| *size);
            if let Some(found) = node.map(|node| node.descriptor.size).or_else(earlier)
                && found != *expected
            {
                self.errors.push(other_size("manifest", child, *expected, found));
                failed.push((*index, self.errors.len() - 1));
            }
        }
        let lacking = absent.iter().filter(|absent| absent.role == Role::Manifest);
        for sparse in lacking.map(|absent| absent.manifest).chain(self.left_out.iter().map(|out| out.index)) {
            if let Some(node) = self.graph.get_mut(&sparse) {
                node.sparse = true;
            }
        }
        failed.sort_unstable();
        for (digest, error) in failed {
            if let Some(node) = self.graph.get_mut(&digest) {
                node.failed.get_or_insert(error);
            }
        }
        self.absent.append(&mut absent);
        self.absent.sort_unstable_by_key(|absent| (absent.manifest, absent.role, absent.digest));
    }
}

impl Node {
    fn new(descriptor: Descriptor, children: Vec<Digest>) -> Self {
        Self {
            descriptor,
            bytes: None,
            children,
            subject: None,
            attached: Vec::new(),
            found: None,
            sparse: false,
            failed: None,
        }
    }
}

impl Task {
    /// Without annotations, which many descriptors could make large.
    fn new(descriptor: &Descriptor, parent: Option<(Digest, Role)>) -> Self {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        Self {
            descriptor: Descriptor::new(media_type.clone(), *digest, *size),
            parent,
            attached: false,
            by_tag: false,
        }
    }
}

impl Job {
    fn of(descriptor: &Descriptor, manifest: Digest, role: Role) -> Self {
        let mut slim = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
        slim.urls.clone_from(&descriptor.urls);
        slim.data.clone_from(&descriptor.data);
        Self { descriptor: slim, manifest, role }
    }
}

impl Copier<'_> {
    /// Reads a manifest, and asks what is attached to it. None where the source has no such manifest.
    fn read(&self, task: &Task) -> Result<Option<Box<Found>>> {
        let digest = task.descriptor.digest;
        let Some(fetched) = self.from.manifest(&digest)? else {
            return match task.parent {
                // Whoever lists a signature and does not give it must not be taken for one that has none.
                Some((subject, _)) if task.attached => Err(self.lacks_attached(&digest, &subject)),
                Some(_) => Ok(None),
                None => Err(Error::not_found(format!(
                    "the source does not hold the manifest, source={}, digest={digest}",
                    self.from.place()
                ))),
            };
        };
        check(&digest, &fetched.bytes)?;
        let manifest = Manifest::read(&fetched.descriptor.media_type, &fetched.bytes).map_err(|error| {
            let media_type = &fetched.descriptor.media_type;
            Error::corrupt(format!("manifest cannot be parsed, digest={digest}, media_type={media_type}"))
                .with_source(error)
        })?;
        let referrers = if self.choice.referrers { Some(self.from.referrers(&digest)?) } else { None };
        let mut tags = Vec::new();
        if self.choice.cosign_tags && !task.by_tag {
            for kind in COSIGN {
                // Longer digests than those of sha256 give no tag.
                let Ok(tag) = format!("{}-{}.{kind}", digest.algorithm(), digest.encoded()).parse() else {
                    continue;
                };
                tags.extend(self.from.resolve(&tag)?.map(|found| (tag, found)));
            }
        }
        Ok(Some(Box::new(Found { fetched, manifest, referrers, tags })))
    }
}

impl Copier<'_> {
    #[cold]
    fn lacks_attached(&self, digest: &Digest, subject: &Digest) -> Error {
        Error::not_found(format!(
            "the source lacks what it says is attached, source={}, digest={digest}, subject={subject}",
            self.from.place()
        ))
    }
}

#[cold]
fn other_size(what: &str, digest: &Digest, expected: u64, found: u64) -> Error {
    Error::new(
        ErrorKind::Mismatch,
        format!(
            "{what} has another size than its descriptor says, digest={digest}, expected={expected}, found={found}"
        ),
    )
}

/// Refuses bytes that are not what the digest says.
pub(super) fn check(digest: &Digest, bytes: &[u8]) -> Result<()> {
    let found = digest.algorithm().digest(bytes);
    if found == *digest {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Mismatch,
        format!("manifest is not what its digest says, expected={digest}, found={found}"),
    ))
}
