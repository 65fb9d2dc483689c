//! The copier between places that exist in memory alone, and that fail in every way that places can.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;

use bytes::Bytes;
use parking_lot::Mutex;

use super::store::pump;
use super::*;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, Platform, RepositoryName, Tag, media_type};
use crate::store::{Options, Page, Repository, Store};

mod closures;

/// A place that answers from memory.
#[derive(Default)]
struct Memory {
    manifests: BTreeMap<Digest, (String, Bytes)>,
    blobs: BTreeMap<Digest, Bytes>,
    tags: BTreeMap<Tag, Digest>,
    attached: BTreeMap<Digest, Vec<Descriptor>>,
    /// Content of which only so many bytes come, and then a failure.
    breaks: Mutex<HashMap<Digest, usize>>,
    /// Manifests whose referrers cannot be asked for.
    refuses: HashSet<Digest>,
    /// Where reads began.
    opened: Mutex<Vec<(Digest, u64)>>,
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

impl Memory {
    fn blob(&mut self, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest, Bytes::copy_from_slice(bytes));
        Descriptor::new("application/x", digest, bytes.len() as u64)
    }

    fn manifest(&mut self, media_type: &str, json: String, subject: Option<&Descriptor>) -> Descriptor {
        let subject = subject.map(|subject| format!(r#","subject":{}"#, text(subject))).unwrap_or_default();
        let bytes = Bytes::from(format!(r#"{{"schemaVersion":2,{json}{subject}}}"#));
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.manifests.insert(digest, (media_type.into(), bytes));
        descriptor
    }

    fn image(&mut self, layers: &[&[u8]], subject: Option<&Descriptor>) -> Descriptor {
        let config = self.blob(b"{}");
        let layers: Vec<String> = layers.iter().map(|layer| text(&self.blob(layer))).collect();
        let json = format!(r#""config":{},"layers":[{}]"#, text(&config), layers.join(","));
        let found = self.manifest(media_type::IMAGE_MANIFEST, json, subject);
        if let Some(subject) = subject {
            self.attached.entry(subject.digest).or_default().push(found.clone());
        }
        found
    }

    fn index(&mut self, children: &[Descriptor]) -> Descriptor {
        let children: Vec<String> = children.iter().map(text).collect();
        self.manifest(media_type::IMAGE_INDEX, format!(r#""manifests":[{}]"#, children.join(",")), None)
    }
}

fn text(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).unwrap()
}

/// Gives some bytes, and then fails.
struct Broken(Cursor<Bytes>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other(Error::new(ErrorKind::Busy, "the line is dead"))),
            count => Ok(count),
        }
    }
}

impl Source for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn resolve(&self, tag: &Tag) -> Result<Option<Descriptor>> {
        let Some(digest) = self.tags.get(tag) else { return Ok(None) };
        Ok(self.manifests.get(digest).map(|(kind, bytes)| Descriptor::new(kind, *digest, bytes.len() as u64)))
    }

    fn tags(&self, last: Option<&Tag>, limit: usize) -> Result<Page<Tag>> {
        let after = self.tags.keys().filter(|tag| last.is_none_or(|last| *tag > last));
        Ok(Page::new(after.take(limit).cloned().collect(), false))
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Fetched>> {
        Ok(self.manifests.get(digest).map(|(kind, bytes)| {
            Fetched::new(Descriptor::new(kind, *digest, bytes.len() as u64), bytes.clone())
        }))
    }

    fn content(&self, descriptor: &Descriptor, offset: u64) -> Result<Option<Box<dyn Read + Send + '_>>> {
        self.opened.lock().push((descriptor.digest, offset));
        let Some(bytes) = self.blobs.get(&descriptor.digest) else { return Ok(None) };
        let at = usize::try_from(offset).unwrap().min(bytes.len());
        match self.breaks.lock().get(&descriptor.digest) {
            Some(end) => Ok(Some(Box::new(Broken(Cursor::new(bytes.slice(at..(*end).max(at))))))),
            None => Ok(Some(Box::new(Cursor::new(bytes.slice(at..))))),
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<FoundReferrers> {
        if self.refuses.contains(subject) {
            return Err(Error::new(ErrorKind::Io, "the registry answers 429"));
        }
        let found = self.attached.get(subject).cloned().unwrap_or_default();
        Ok(FoundReferrers::new(found, FoundBy::Api, 2))
    }
}

/// A place that keeps what it is given, and refuses what it is told to.
#[derive(Default)]
struct Kept {
    blobs: Mutex<BTreeMap<Digest, Bytes>>,
    elsewhere: HashSet<Digest>,
    /// In the order in which they came.
    manifests: Mutex<Vec<(Digest, bool)>>,
    tags: Mutex<Vec<(Tag, Digest)>>,
    refuses: HashSet<Digest>,
    kept: Mutex<u32>,
}

impl Sink for Kept {
    fn place(&self) -> String {
        "kept".into()
    }

    fn has(&self, descriptor: &Descriptor, _verify: bool) -> Result<bool> {
        Ok(self.blobs.lock().contains_key(&descriptor.digest))
    }

    fn has_manifest(&self, descriptor: &Descriptor, _verify: bool) -> Result<bool> {
        Ok(self.manifests.lock().iter().any(|(digest, _)| *digest == descriptor.digest))
    }

    fn mount(&self, descriptor: &Descriptor, from: &RepositoryName) -> Result<bool> {
        Ok(from.as_str() == "here" && self.elsewhere.contains(&descriptor.digest))
    }

    fn push(&self, descriptor: &Descriptor, content: &dyn Incoming) -> Result<Arrival> {
        let mut all = Vec::new();
        pump(descriptor, content, 0, |_, bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        if Digest::of(&all) != descriptor.digest {
            return Err(Error::new(ErrorKind::Mismatch, format!("wrong, digest={}", descriptor.digest)));
        }
        self.blobs.lock().insert(descriptor.digest, all.into());
        Ok(Arrival::Copied)
    }

    fn complete(&self, manifests: Vec<Ready>, tags: &[(Tag, Digest)]) -> Result<()> {
        for ready in &manifests {
            let digest = ready.manifest.descriptor.digest;
            if self.refuses.contains(&digest) {
                return Err(Error::invalid(format!("no such thing here, digest={digest}")));
            }
            self.manifests.lock().push((digest, ready.sparse));
        }
        self.tags.lock().extend_from_slice(tags);
        Ok(())
    }

    fn keep(&self) -> Result<()> {
        *self.kept.lock() += 1;
        Ok(())
    }
}

impl Kept {
    fn place_of(&self, digest: &Digest) -> Option<usize> {
        self.manifests.lock().iter().position(|(found, _)| found == digest)
    }
}

fn for_platform(mut descriptor: Descriptor, os: &str, architecture: &str) -> Descriptor {
    descriptor.platform = Some(Box::new(Platform::new(os, architecture)));
    descriptor
}

#[test]
fn everything_attached_goes_and_comes_in_order() {
    let mut from = Memory::default();
    let (one, two) = (from.image(&[b"one"], None), from.image(&[b"two"], None));
    let inner = from.index(std::slice::from_ref(&two));
    let root = from.index(&[one.clone(), inner.clone()]);
    let sbom = from.image(&[b"sbom"], Some(&two));
    let signature = from.image(&[b"signature"], Some(&sbom));
    let of_root = from.image(&[b"of root"], Some(&root));
    // A registry that gives the subject for its own referrer, and one that refers in a circle.
    from.attached.entry(two.digest).or_default().push(two.clone());
    from.attached.entry(of_root.digest).or_default().push(root.clone());
    for jobs in [1, 8] {
        let to = Kept::default();
        let copied =
            Copier::between(&from, &to).referrers(true).jobs(jobs).copy(&root.digest, &[tag("v1")]).unwrap();
        assert_eq!((copied.manifests, copied.copied, copied.absent.len()), (7, 7 + 6, 0));
        let at = |descriptor: &Descriptor| to.place_of(&descriptor.digest).unwrap();
        assert!(at(&two) < at(&inner) && at(&inner) < at(&root) && at(&one) < at(&root));
        assert!(at(&two) < at(&sbom) && at(&sbom) < at(&signature) && at(&root) < at(&of_root));
        assert_eq!(*to.tags.lock(), [(tag("v1"), root.digest)]);
    }
}

#[test]
fn the_result_is_the_same_however_many_threads() {
    let mut from = Memory::default();
    let images: Vec<Descriptor> =
        (0..40).map(|n: u32| from.image(&[b"base", &n.to_be_bytes()], None)).collect();
    let items: Vec<Item> = images.iter().map(|image| Item::new(image.digest, vec![tag("t")])).collect();
    let run = |jobs| {
        let to = Kept::default();
        let (copied, failed) = Copier::between(&from, &to).jobs(jobs).copy_all(&items).unwrap();
        assert!(failed.is_empty());
        (copied, to.manifests.into_inner(), to.tags.into_inner(), to.blobs.into_inner())
    };
    assert_eq!(run(1), run(16));
}

#[test]
fn what_the_source_has_wrong_does_not_arrive() {
    let mut from = Memory::default();
    let image = from.image(&[b"layer"], None);
    from.blobs.insert(Digest::of(b"layer"), Bytes::from_static(b"reyal"));
    let to = Kept::default();
    let error = Copier::between(&from, &to).copy(&image.digest, &[tag("v1")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(to.manifests.lock().is_empty() && to.tags.lock().is_empty());
    assert_eq!(*to.kept.lock(), 1, "what came is kept");
    // A manifest with other bytes than its digest says.
    let mut from = Memory::default();
    let image = from.image(&[b"layer"], None);
    let other = from.image(&[b"other"], None);
    let bytes = from.manifests.get(&other.digest).unwrap().clone();
    from.manifests.insert(image.digest, bytes);
    let error = Copier::between(&from, &Kept::default()).copy(&image.digest, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains(&image.digest.to_string()), "{error}");
}

#[test]
fn who_cannot_say_what_is_attached_has_not_said_that_nothing_is() {
    let mut from = Memory::default();
    let image = from.image(&[b"layer"], None);
    from.refuses.insert(image.digest);
    let to = Kept::default();
    let error = Copier::between(&from, &to).referrers(true).copy(&image.digest, &[tag("v1")]).unwrap_err();
    assert_eq!(error.to_string(), "the registry answers 429");
    assert!(to.tags.lock().is_empty());
    Copier::between(&from, &to).copy(&image.digest, &[tag("v1")]).unwrap();
    // Nor has who lists what is attached and does not give it.
    from.refuses.clear();
    let signature = from.image(&[b"signature"], Some(&image));
    from.manifests.remove(&signature.digest);
    let to = Kept::default();
    let error = Copier::between(&from, &to).referrers(true).copy(&image.digest, &[tag("v1")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&signature.digest.to_string()), "{error}");
    assert!(to.tags.lock().is_empty());
}

#[test]
fn one_failure_need_not_end_the_others() {
    let mut from = Memory::default();
    let good = from.image(&[b"good", b"shared"], None);
    let lacks = from.image(&[b"lost", b"shared"], None);
    let sbom = from.image(&[b"sbom"], Some(&good));
    let refused = from.image(&[b"refused"], None);
    let alone = from.image(&[b"alone"], None);
    from.blobs.remove(&Digest::of(b"lost"));
    let to = Kept { refuses: HashSet::from([refused.digest]), ..Kept::default() };
    let items: Vec<Item> = [&good, &lacks, &refused, &alone, &Descriptor::new("", Digest::of(b"none"), 0)]
        .iter()
        .enumerate()
        .map(|(n, root)| Item::new(root.digest, vec![tag(&format!("t{n}"))]))
        .collect();
    let error = Copier::between(&from, &Kept::default()).copy_all(&items).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let (copied, failed) =
        Copier::between(&from, &to).referrers(true).keep_going(true).copy_all(&items).unwrap();
    let failed: Vec<_> = failed.iter().map(|(at, error)| (*at, error.kind())).collect();
    assert_eq!(failed, [(1, ErrorKind::NotFound), (2, ErrorKind::Invalid), (4, ErrorKind::NotFound)]);
    assert_eq!(copied.manifests, 3, "two images and an SBOM");
    let tags: Vec<Digest> = to.tags.lock().iter().map(|(_, digest)| *digest).collect();
    assert_eq!(tags, [good.digest, alone.digest]);
    assert!(to.place_of(&sbom.digest).is_some() && to.place_of(&lacks.digest).is_none());
    // What is attached and cannot be had keeps its subject from being complete.
    from.blobs.remove(&Digest::of(b"sbom"));
    let (_, failed) = Copier::between(&from, &Kept::default())
        .referrers(true)
        .keep_going(true)
        .copy_all(&[Item::new(good.digest, vec![tag("v1")]), Item::new(alone.digest, vec![])])
        .unwrap();
    assert_eq!(failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0]);
}

#[test]
fn platforms_leave_a_sparse_index_that_is_known_to_be_one() {
    let mut from = Memory::default();
    let amd = for_platform(from.image(&[b"amd"], None), "linux", "amd64");
    let arm = for_platform(from.image(&[b"arm"], None), "linux", "arm64");
    let root = from.index(&[amd.clone(), arm.clone()]);
    let to = Kept::default();
    let platforms = |os: &str| Platforms::new(vec![Platform::new(os, "amd64")]);
    let copied =
        Copier::between(&from, &to).platforms(platforms("linux")).copy(&root.digest, &[tag("v1")]).unwrap();
    assert_eq!(*to.manifests.lock(), [(amd.digest, false), (root.digest, true)]);
    assert_eq!(copied.absent, []);
    let left: Vec<_> = copied.left_out.iter().map(|out| (out.digest, &*out.platform)).collect();
    assert_eq!(left, [(arm.digest, "linux/arm64")]);
    assert!(!to.blobs.lock().contains_key(&Digest::of(b"arm")));
    let error = Copier::between(&from, &Kept::default())
        .platforms(platforms("windows"))
        .copy(&root.digest, &[])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("windows/amd64"), "{error}");
}

#[test]
fn what_may_be_absent_makes_every_manifest_sparse_that_refers_to_it() {
    let mut from = Memory::default();
    let lacking = Descriptor::new(media_type::IMAGE_MANIFEST, Digest::of(b"not here"), 8);
    let (one, two) =
        (from.index(std::slice::from_ref(&lacking)), from.index(&[lacking.clone(), lacking.clone()]));
    let blob = from.blob(b"no manifest at all");
    let three = from.index(std::slice::from_ref(&blob));
    let to = Kept::default();
    let items = [&one, &two, &three].map(|root| Item::new(root.digest, vec![]));
    let (copied, _) = Copier::between(&from, &to).copy_all(&items).unwrap();
    assert_eq!(*to.manifests.lock(), [(one.digest, true), (two.digest, true), (three.digest, false)]);
    assert!(to.blobs.lock().contains_key(&blob.digest));
    let absent: HashSet<Digest> = copied.absent.iter().map(|absent| absent.manifest).collect();
    assert_eq!(absent, HashSet::from([one.digest, two.digest]));
}

#[test]
fn tags_of_cosign_go_along_and_keep_their_names() {
    let mut from = Memory::default();
    let image = from.image(&[b"layer"], None);
    let signature = from.image(&[b"signature"], None);
    let name = tag(&format!("sha256-{}.sig", image.digest.encoded()));
    from.tags.insert(name.clone(), signature.digest);
    let to = Kept::default();
    Copier::between(&from, &to).copy(&image.digest, &[tag("v1")]).unwrap();
    assert_eq!(to.place_of(&signature.digest), None);
    let to = Kept::default();
    Copier::between(&from, &to).cosign_tags(true).copy(&image.digest, &[tag("v1")]).unwrap();
    assert_eq!(*to.tags.lock(), [(name, signature.digest), (tag("v1"), image.digest)]);
}

#[test]
fn content_is_mounted_and_a_dry_run_changes_nothing() {
    let mut from = Memory::default();
    let image = from.image(&[b"layer"], None);
    let to = Kept { elsewhere: HashSet::from([Digest::of(b"layer")]), ..Kept::default() };
    let would = Copier::between(&from, &to).dry_run(true).copy(&image.digest, &[tag("v1")]).unwrap();
    assert_eq!((would.copied, would.bytes), (3, 2 + 5 + image.size));
    assert!(to.blobs.lock().is_empty() && to.manifests.lock().is_empty() && to.tags.lock().is_empty());
    let copied = Copier::between(&from, &to)
        .mount_from("here".parse().unwrap())
        .copy(&image.digest, &[tag("v1")])
        .unwrap();
    assert_eq!((copied.mounted, copied.copied), (1, 2));
    assert!(!from.opened.lock().iter().any(|(digest, _)| *digest == Digest::of(b"layer")));
}

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().create(dir.path().join("s")).unwrap();
    (dir, store)
}

fn resolved(repository: &Repository, name: &str) -> Option<Digest> {
    repository.resolve(&tag(name)).unwrap().map(|found| found.digest)
}

#[test]
fn a_half_content_is_gone_on_with_by_the_next_run_and_the_next_process() {
    let mut from = Memory::default();
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| u8::try_from((n ^ (n >> 13)) % 251).unwrap()).collect();
    let image = from.image(&[b"small", &large], None);
    let digest = Digest::of(&large);
    from.breaks.lock().insert(digest, 6_000_000);
    let (dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    let error = Copier::between(&from, &sink).copy(&image.digest, &[tag("v1")]).unwrap_err();
    assert_eq!(error.to_string(), "the line is dead", "an error of ours comes through a reader");
    assert_eq!(resolved(&to, "v1"), None);
    assert!(to.stat(&Digest::of(b"small")).unwrap().is_some(), "what came is kept");
    drop((sink, to));
    store.close().unwrap();
    let store = Options::new().open(dir.path().join("s")).unwrap();
    let to = store.default_repository();
    from.breaks.lock().clear();
    from.opened.lock().clear();
    let sink = RepositorySink::new(&to);
    let copied = Copier::between(&from, &sink).copy(&image.digest, &[tag("v1")]).unwrap();
    assert_eq!((copied.resumed, copied.resumed_bytes), (1, 6_000_000));
    assert_eq!(copied.bytes, 3_000_000 + image.size);
    assert_eq!(*from.opened.lock(), [(digest, 6_000_000)]);
    assert_eq!(to.get(&digest).unwrap().unwrap()[..], large[..]);
    assert_eq!(store.uploads(None, 9).unwrap().items, []);
    assert_eq!(resolved(&to, "v1"), Some(image.digest));
}

#[test]
fn a_half_content_that_was_wrong_is_begun_again() {
    let mut from = Memory::default();
    let large = vec![7_u8; 5_000_000];
    let image = from.image(&[&large], None);
    let digest = Digest::of(&large);
    from.blobs.insert(digest, vec![8_u8; 5_000_000].into());
    from.breaks.lock().insert(digest, 4_500_000);
    let (_dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    Copier::between(&from, &sink).copy(&image.digest, &[]).unwrap_err();
    from.breaks.lock().clear();
    from.blobs.insert(digest, large.clone().into());
    let copied = Copier::between(&from, &sink).copy(&image.digest, &[tag("v1")]).unwrap();
    assert_eq!((copied.resumed, copied.copied), (0, 2));
    assert_eq!(to.get(&digest).unwrap().unwrap()[..], large[..]);
    // Wrong from the beginning: nothing stays.
    from.blobs.insert(digest, vec![8_u8; 5_000_000].into());
    let (_dir, store) = fresh();
    let sink = RepositorySink::new(&store.default_repository());
    let error = Copier::between(&from, &sink).copy(&image.digest, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(store.uploads(None, 9).unwrap().items, []);
}

#[test]
fn a_content_that_ends_early_is_kept_for_the_next_run() {
    let mut from = Memory::default();
    let large = vec![9_u8; 6_000_000];
    let image = from.image(&[&large], None);
    let digest = Digest::of(&large);
    from.blobs.insert(digest, vec![9_u8; 5_000_000].into());
    let (_dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    let error = Copier::between(&from, &sink).copy(&image.digest, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    from.blobs.insert(digest, large.into());
    let copied = Copier::between(&from, &sink).copy(&image.digest, &[]).unwrap();
    assert_eq!(copied.resumed_bytes, 5_000_000);
}

#[test]
fn a_stop_is_no_loss() {
    let mut from = Memory::default();
    let large: Vec<u8> = (0..8_000_000_u32).map(|n| u8::try_from(n % 253).unwrap()).collect();
    let image = from.image(&[&large], None);
    let (_dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    let stop = |step: Step<'_>| match step {
        Step::Moved(_, done) if done > 5_000_000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = Copier::between(&from, &sink).watch(stop).copy(&image.digest, &[tag("v1")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let copied = Copier::between(&from, &sink).copy(&image.digest, &[tag("v1")]).unwrap();
    assert!(copied.resumed_bytes > 5_000_000, "{copied:?}");
    assert_eq!(to.get(&Digest::of(&large)).unwrap().unwrap()[..], large[..]);
}

#[test]
fn the_record_tells_what_was_lost_from_what_was_left_out() {
    let mut from = Memory::default();
    let amd = for_platform(from.image(&[b"amd"], None), "linux", "amd64");
    let arm = for_platform(from.image(&[b"arm"], None), "linux", "arm64");
    let root = from.index(&[amd.clone(), arm]);
    let sbom = from.image(&[b"sbom"], Some(&amd));
    let (_dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    let copy = || {
        let platforms = Platforms::new(vec![Platform::new("linux", "amd64")]);
        let copier = Copier::between(&from, &sink).referrers(true).platforms(platforms).record(true);
        let mut copier = copier;
        copier.copy(&root.digest, &[tag("v1")]).unwrap()
    };
    assert_eq!(copy().records, 1);
    let again = copy();
    assert_eq!((again.copied, again.bytes, again.records), (0, 0, 1), "the same record");
    let [record] = Closure::records(&to).unwrap().try_into().unwrap();
    let closure = Closure::read(&to, &record).unwrap();
    assert_eq!(
        (closure.root, &*closure.source, &*closure.platforms),
        (root.digest, "memory", &["linux/amd64".to_owned()][..])
    );
    let of_amd = closure.manifests.iter().find(|one| one.digest == amd.digest).unwrap();
    assert_eq!((of_amd.found_by.as_deref(), of_amd.pages), (Some("api"), Some(2)));
    assert_eq!(of_amd.attached.iter().map(|one| one.digest).collect::<Vec<_>>(), [sbom.digest]);
    let report = closure.check(&to, true).unwrap();
    assert_eq!((report.manifests, report.attached, report.sparse), (3, 1, 1));
    assert_eq!(report.findings, []);
    // It goes on with the next copy, whoever makes that, and still says what belongs there.
    let (_other, third) = fresh();
    let there = third.default_repository();
    Copier::new(&to, &there).referrers(true).copy(&root.digest, &[tag("v1")]).unwrap();
    assert_eq!(Closure::records(&there).unwrap(), [record]);
    let closure = Closure::read(&there, &record).unwrap();
    assert_eq!(closure.check(&there, false).unwrap().findings, []);
    let mut batch = third.batch();
    batch.delete_manifest(&there, &sbom.digest);
    batch.commit().unwrap();
    let findings = closure.check(&there, false).unwrap().findings;
    let found: Vec<_> = findings.iter().map(|one| (one.digest, one.manifest, one.is_corrupt)).collect();
    assert_eq!(found, [(sbom.digest, amd.digest, false)]);
}
