//! A sequence of operations, two or three bytes each, against maps in memory, through reopening and rebuilding.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use orlop::oci::{RepositoryName, Tag};
use orlop::{
    Answers, Digest, Durability, Error, ErrorKind, Expect, Expected, Options, Publish, Quota, Repository, Store, Upload, UploadOptions,
    Verify,
};

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
    /// How many objects it may have.
    limit: Option<u64>,
    /// The content that its upload session brings.
    session: Option<usize>,
}

impl Shown {
    fn objects(&self) -> u64 {
        (self.blobs.len() + self.artifacts.len()) as u64
    }

    /// Whether so many more objects are let in beside what a session keeps.
    fn has_room(&self, more: usize, kept: u64) -> bool {
        more == 0 || self.limit.is_none_or(|limit| self.objects() + kept + more as u64 <= limit)
    }

    fn kept(&self) -> u64 {
        u64::from(self.session.is_some())
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    shown: [Shown; 3],
    /// Contents that leases hold.
    leased: BTreeSet<usize>,
}

fn options() -> Options {
    let options = Options::new().durability(Durability::Process).publish(Publish::OnClose).verify(Verify::First);
    // What was pushed or asked for does not protect itself, so what a collection takes is known.
    options.grace(Duration::ZERO).answers(Answers::Local)
}

/// A commit is refused just where there is no room for it; answers whether it was made.
fn is_made<T>(outcome: Result<T, Error>, has_room: bool) -> bool {
    match outcome {
        Ok(_) => assert!(has_room),
        Err(error) => assert!(!has_room && error.kind() == ErrorKind::QuotaExceeded, "{error}"),
    }
    has_room
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = options().create(dir.path().join("store")).unwrap();
        Self { dir, store: Some(store), shown: Default::default(), leased: BTreeSet::new() }
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
        match operation % 20 {
            0 => {
                let has_room = self.has_room_for(at, blob);
                if is_made(here.push_bytes(things.blobs[blob].clone()), has_room) {
                    self.shown[at].blobs.insert(blob);
                }
            }
            1 => drop(self.push(at, &here, image, None)),
            2 => drop(self.push(at, &here, image, Some(tag_name))),
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
                let mounted = here.mount(&source, &Digest::of(&things.blobs[blob]));
                if !self.shown[from].blobs.contains(&blob) {
                    assert_eq!(mounted.unwrap(), None);
                } else if is_made(mounted, self.has_room_for(at, blob)) {
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
            12 => {
                drop(here);
                self.rebuild();
            }
            13 => self.limit(at, &here, b),
            14 => self.start_upload(at, &here, blob),
            15 => self.go_on_uploading(at, &here),
            16 => self.finish_upload(at, &here),
            17 => {
                if let Some(blob) = self.shown[at].session.take() {
                    self.upload(&here, blob).cancel().unwrap();
                }
            }
            18 if a / 3 % 3 == 0 => self.release(),
            18 => self.lease(blob),
            _ => self.collect(),
        }
    }

    fn has_room_for(&self, at: usize, blob: usize) -> bool {
        let shown = &self.shown[at];
        shown.has_room(usize::from(!shown.blobs.contains(&blob)), shown.kept())
    }

    /// Answers whether there was room for all of it.
    fn push(&mut self, at: usize, here: &Repository, image: usize, tag: Option<&'static str>) -> bool {
        let things = &*THINGS;
        let artifact = &things.artifacts[image];
        for child in &artifact.children {
            if !self.push(at, here, *child, None) {
                return false;
            }
        }
        let mut batch = self.store().batch();
        for part in &artifact.parts {
            batch.push_bytes(here, things.blobs[*part].clone()).unwrap();
        }
        let digest = batch.push_manifest(here, artifact.media_type, artifact.bytes.clone()).unwrap();
        if let Some(tag) = tag {
            batch.tag(here, &tag.parse().unwrap(), digest, Expect::Any);
        }
        let shown = &mut self.shown[at];
        let parts: BTreeSet<usize> = artifact.parts.iter().copied().collect();
        let more = parts.difference(&shown.blobs).count() + usize::from(!shown.artifacts.contains(&image));
        if !is_made(batch.commit(), shown.has_room(more, shown.kept())) {
            return false;
        }
        shown.blobs.extend(parts);
        shown.artifacts.insert(image);
        shown.tags.extend(tag.map(|tag| (tag, image)));
        true
    }

    /// A quota near what is there, or none.
    fn limit(&mut self, at: usize, here: &Repository, b: usize) {
        let shown = &mut self.shown[at];
        shown.limit = (b % 5 != 4).then(|| (shown.objects() + b as u64 % 5).saturating_sub(1));
        here.set_quota(&Quota { objects: shown.limit, ..Quota::default() }).unwrap();
    }

    fn start_upload(&mut self, at: usize, here: &Repository, blob: usize) {
        if self.shown[at].session.is_some() {
            return;
        }
        let options = UploadOptions::new().size(THINGS.blobs[blob].len() as u64);
        if is_made(here.start_upload(&options), self.shown[at].has_room(1, 0)) {
            self.shown[at].session = Some(blob);
        }
    }

    /// The session of a repository, with all but its last bytes.
    fn upload(&self, here: &Repository, blob: usize) -> Upload {
        let found = self.store().uploads(None, 10).unwrap().items;
        let status = found.into_iter().find(|status| status.repository == *here.name()).unwrap();
        assert_eq!(status.size, Some(THINGS.blobs[blob].len() as u64));
        here.upload(&status.id).unwrap().unwrap()
    }

    fn go_on_uploading(&mut self, at: usize, here: &Repository) {
        let Some(blob) = self.shown[at].session else { return };
        let mut upload = self.upload(here, blob);
        let (offset, bytes) = (upload.offset(), &THINGS.blobs[blob]);
        let end = offset as usize + (bytes.len() - offset as usize) / 2;
        upload.append(offset, &bytes[offset as usize..end]).unwrap();
        upload.save().unwrap();
    }

    /// What it has of the quota is enough, unless the quota was lowered since.
    fn finish_upload(&mut self, at: usize, here: &Repository) {
        let Some(blob) = self.shown[at].session else { return };
        let mut upload = self.upload(here, blob);
        let (offset, bytes) = (upload.offset(), &THINGS.blobs[blob]);
        upload.append(offset, &bytes[offset as usize..]).unwrap();
        let shown = &mut self.shown[at];
        let has_room = shown.has_room(usize::from(!shown.blobs.contains(&blob)), 0);
        if is_made(upload.finish(&Expected::from(Digest::of(bytes))), has_room) {
            shown.session = None;
            shown.blobs.insert(blob);
        }
    }

    fn lease(&mut self, blob: usize) {
        let lease = self.store().lease(Duration::from_secs(3600), "").unwrap();
        let there = self.leased.contains(&blob) || self.shown.iter().any(|shown| shown.blobs.contains(&blob));
        match lease.add(&[Digest::of(&THINGS.blobs[blob])]) {
            Ok(()) => drop(self.leased.insert(blob)),
            // What nobody holds is there until a collection takes it.
            Err(error) => {
                assert!(!there && error.kind() == ErrorKind::NotFound, "{error}");
                lease.release().unwrap();
            }
        }
    }

    fn release(&mut self) {
        for entry in self.store().leases(None, 100).unwrap().items {
            self.store().open_lease(&entry.id).unwrap().unwrap().release().unwrap();
        }
        self.leased.clear();
    }

    /// What manifests and leases need stays, and nothing else.
    fn collect(&mut self) {
        // What became garbage a moment ago is due a millisecond later.
        std::thread::sleep(Duration::from_millis(2));
        let report = self.store().collector().grace(Duration::ZERO).run().unwrap();
        assert!(report.complete && report.failed.is_empty() && report.unreadable.is_empty(), "{report:?}");
        let things = &*THINGS;
        for at in 0..self.shown.len() {
            // A referrer whose subject went goes too; one whose subject never came stays.
            let referrer = self.repository(at).manifest(&Digest::of(&things.artifacts[2].bytes)).unwrap().is_some();
            let shown = &mut self.shown[at];
            if shown.artifacts.contains(&2) && !referrer {
                assert!(!shown.artifacts.contains(&0) && shown.tags.values().all(|target| *target != 2));
                shown.artifacts.remove(&2);
            }
            let needed: BTreeSet<usize> =
                shown.artifacts.iter().flat_map(|image| things.artifacts[*image].parts.iter().copied()).collect();
            shown.blobs.retain(|blob| needed.contains(blob) || self.leased.contains(blob));
        }
        for (number, bytes) in things.blobs.iter().enumerate() {
            let needed = self.leased.contains(&number) || self.shown.iter().any(|shown| shown.blobs.contains(&number));
            let found = self.store().unscoped().stat(&Digest::of(bytes)).unwrap();
            assert_eq!(found.is_some(), needed, "blob {number}");
        }
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
            (shown.limit, shown.session) = (None, None);
        }
        self.leased.clear();
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
            let usage = here.usage().unwrap();
            assert_eq!(usage.objects, shown.objects(), "usage of {:?}", NAMES[at]);
            let sessions = self.store().uploads(None, 10).unwrap().items;
            let sessions = sessions.iter().filter(|status| status.repository == *here.name()).count();
            assert_eq!(sessions, usize::from(shown.session.is_some()), "sessions of {:?}", NAMES[at]);
            assert_eq!(here.quota().unwrap().objects, shown.limit, "quota of {:?}", NAMES[at]);
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
