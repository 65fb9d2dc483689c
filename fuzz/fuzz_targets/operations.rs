//! A sequence of operations, two or three bytes each, against maps in memory, through reopening and rebuilding.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orlop::oci::{RepositoryName, Tag};
use orlop::{Digest, Durability, ErrorKind, Expect, Options, Publish, Repository, Store, Verify};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NAMES: [&str; 3] = ["", "a", "a/b"];
const TAGS: [&str; 3] = ["v1", "v2", "latest"];
/// A sequence of more operations tells nothing that shorter ones do not, and takes long.
const MOST: usize = 24;

struct Artifact {
    media_type: &'static str,
    bytes: Vec<u8>,
    /// Contents by their number.
    parts: Vec<usize>,
    /// What it lists, by number.
    children: Vec<usize>,
}

struct Things {
    blobs: Vec<Vec<u8>>,
    artifacts: Vec<Artifact>,
}

static THINGS: LazyLock<Things> = LazyLock::new(|| {
    let blob = |length: usize, seed: usize| (0..length).map(|at| (at * 31 / 7 + seed) as u8).collect::<Vec<u8>>();
    let blobs = vec![Vec::new(), b"{}".to_vec(), blob(3000, 1), blob(32 << 10, 2), blob((32 << 10) + 1, 3), blob(300 << 10, 4)];
    let descriptor = |media_type: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
    };
    let image = |parts: &[usize], subject: Option<&[u8]>| {
        let layers: Vec<String> = parts.iter().map(|part| descriptor("text/plain", &blobs[*part])).collect();
        let subject = subject.map_or_else(String::new, |bytes| format!(r#","subject":{}"#, descriptor(IMAGE, bytes)));
        let config = descriptor("application/vnd.oci.empty.v1+json", &blobs[1]);
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","artifactType":"text/x","config":{config},"layers":[{}]{subject}}}"#,
            layers.join(",")
        );
        let mut all = parts.to_vec();
        all.push(1);
        Artifact { media_type: IMAGE, bytes: bytes.into_bytes(), parts: all, children: Vec::new() }
    };
    let mut artifacts = vec![image(&[2], None), image(&[0, 3], None)];
    let referrer = image(&[4], Some(&artifacts[0].bytes));
    artifacts.push(referrer);
    let list: Vec<String> = artifacts[..2].iter().map(|child| descriptor(IMAGE, &child.bytes)).collect();
    let list = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, list.join(","));
    artifacts.push(Artifact { media_type: INDEX, bytes: list.into_bytes(), parts: Vec::new(), children: vec![0, 1] });
    Things { blobs, artifacts }
});

#[derive(Default)]
struct Shown {
    blobs: BTreeSet<usize>,
    artifacts: BTreeSet<usize>,
    tags: BTreeMap<&'static str, usize>,
}

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    shown: [Shown; 3],
}

fn options() -> Options {
    Options::new().durability(Durability::Process).publish(Publish::OnClose).verify(Verify::First)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = options().create(dir.path().join("store")).unwrap();
        Self { dir, store: Some(store), shown: Default::default() }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn repository(&self, at: usize) -> Repository {
        let name = if at == 0 { RepositoryName::unnamed() } else { NAMES[at].parse().unwrap() };
        self.store().repository(&name)
    }

    /// One operation; `a` and `b` choose what it is about.
    fn apply(&mut self, operation: u8, a: usize, b: usize) {
        let things = &*THINGS;
        let at = a % 3;
        let here = self.repository(at);
        let (blob, image) = (b % things.blobs.len(), b % things.artifacts.len());
        let (artifact, tag_name) = (&things.artifacts[image], TAGS[a / 3 % 3]);
        let digest = Digest::of(&artifact.bytes);
        let tag: Tag = tag_name.parse().unwrap();
        match operation % 13 {
            0 => {
                here.push_bytes(things.blobs[blob].clone()).unwrap();
                self.shown[at].blobs.insert(blob);
            }
            1 | 2 => self.push(at, &here, image, (operation % 13 == 2).then_some(tag_name)),
            3 => {
                let held = self.shown[at].artifacts.contains(&image);
                match here.tag(&tag, &digest, Expect::Any) {
                    Ok(_) => {
                        assert!(held);
                        self.shown[at].tags.insert(tag_name, image);
                    }
                    Err(error) => assert!(!held && error.kind() == ErrorKind::NotFound, "{error}"),
                }
            }
            4 => {
                let before = self.shown[at].tags.remove(tag_name);
                let found = here.untag(&tag, Expect::Any).unwrap();
                assert_eq!(found, before.map(|n| Digest::of(&things.artifacts[n].bytes)));
            }
            5 => self.delete_manifest(at, &here, image, &digest),
            6 => self.delete_blob(at, &here, blob),
            7 => {
                let from = a / 9 % 3;
                let source = self.repository(from);
                let mounted = here.mount(&source, &Digest::of(&things.blobs[blob])).unwrap();
                assert_eq!(mounted.is_some(), self.shown[from].blobs.contains(&blob));
                if mounted.is_some() {
                    self.shown[at].blobs.insert(blob);
                }
            }
            8 => {
                self.store().delete_repository(here.name()).unwrap();
                self.shown[at] = Shown::default();
            }
            9 => self.store().flush().unwrap(),
            10 => {
                drop(here);
                self.reopen();
            }
            11 => {
                let report = self.store().verify().read_data(true).index(true).run().unwrap();
                assert!(report.is_sound() && report.complete, "{:?}", report.findings);
            }
            _ => {
                drop(here);
                self.rebuild();
            }
        }
    }

    fn push(&mut self, at: usize, here: &Repository, image: usize, tag: Option<&'static str>) {
        let things = &*THINGS;
        let artifact = &things.artifacts[image];
        for child in &artifact.children {
            self.push(at, here, *child, None);
        }
        let mut batch = self.store().batch();
        for part in &artifact.parts {
            batch.push_bytes(here, things.blobs[*part].clone()).unwrap();
            self.shown[at].blobs.insert(*part);
        }
        let digest = batch.push_manifest(here, artifact.media_type, artifact.bytes.clone()).unwrap();
        if let Some(tag) = tag {
            batch.tag(here, &tag.parse().unwrap(), digest, Expect::Any);
            self.shown[at].tags.insert(tag, image);
        }
        batch.commit().unwrap();
        self.shown[at].artifacts.insert(image);
    }

    fn delete_manifest(&mut self, at: usize, here: &Repository, image: usize, digest: &Digest) {
        let shown = &mut self.shown[at];
        let mut batch = here.store().batch();
        batch.delete_manifest(here, digest);
        let listed = shown.artifacts.iter().any(|other| THINGS.artifacts[*other].children.contains(&image));
        match batch.commit() {
            Ok(_) => {
                assert!(!listed && shown.artifacts.remove(&image));
                shown.tags.retain(|_, target| *target != image);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => assert!(!shown.artifacts.contains(&image)),
            Err(error) => assert!(listed && error.kind() == ErrorKind::Conflict, "{error}"),
        }
    }

    fn delete_blob(&mut self, at: usize, here: &Repository, blob: usize) {
        let shown = &mut self.shown[at];
        let mut batch = here.store().batch();
        batch.delete_blob(here, &Digest::of(&THINGS.blobs[blob]));
        let used = shown.artifacts.iter().any(|image| THINGS.artifacts[*image].parts.contains(&blob));
        match batch.commit() {
            Ok(_) => assert!(!used && shown.blobs.remove(&blob)),
            Err(error) if error.kind() == ErrorKind::NotFound => assert!(!shown.blobs.contains(&blob)),
            Err(error) => assert!(used && error.kind() == ErrorKind::Conflict, "{error}"),
        }
    }

    fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        let store = options().open(self.dir.path().join("store")).unwrap();
        assert_eq!(store.reports(), []);
        self.store = Some(store);
    }

    /// What is published comes back with nothing but the layout: content that no manifest refers to does not.
    fn rebuild(&mut self) {
        self.store.take().unwrap().close().unwrap();
        let root = self.dir.path().join("store");
        std::fs::remove_dir_all(root.join(".orlop")).unwrap();
        options().rebuild(&root).unwrap();
        self.store = Some(options().open(&root).unwrap());
        for shown in &mut self.shown {
            let named = shown.artifacts.iter().flat_map(|image| THINGS.artifacts[*image].parts.iter().copied());
            shown.blobs = named.collect();
        }
    }

    fn check(&self) {
        let things = &*THINGS;
        for (at, shown) in self.shown.iter().enumerate() {
            let here = self.repository(at);
            let tags: BTreeMap<String, Digest> =
                here.tags(None, 99).unwrap().items.into_iter().map(|entry| (entry.tag.to_string(), entry.digest)).collect();
            let expected: BTreeMap<String, Digest> = shown
                .tags
                .iter()
                .map(|(tag, image)| ((*tag).to_owned(), Digest::of(&things.artifacts[*image].bytes)))
                .collect();
            assert_eq!(tags, expected, "tags of {:?}", NAMES[at]);
            for (number, bytes) in things.blobs.iter().enumerate() {
                let found = here.get(&Digest::of(bytes)).unwrap();
                assert_eq!(found.is_some(), shown.blobs.contains(&number), "blob {number} in {:?}", NAMES[at]);
                assert!(found.is_none_or(|found| found[..] == bytes[..]));
            }
            for (number, artifact) in things.artifacts.iter().enumerate() {
                let found = here.manifest(&Digest::of(&artifact.bytes)).unwrap();
                assert_eq!(found.is_some(), shown.artifacts.contains(&number), "manifest {number} in {:?}", NAMES[at]);
            }
            let referrers = here.referrers(&Digest::of(&things.artifacts[0].bytes)).page().unwrap().descriptors;
            assert_eq!(referrers.len(), usize::from(shown.artifacts.contains(&2)), "referrers in {:?}", NAMES[at]);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    for operation in bytes.chunks_exact(3).take(MOST) {
        world.apply(operation[0], usize::from(operation[1]), usize::from(operation[2]));
    }
    world.check();
    world.reopen();
    world.check();
    world.store().flush().unwrap();
    let report = world.store().verify().read_data(true).index(true).run().unwrap();
    assert!(report.is_sound() && report.complete, "{:?}", report.findings);
});
