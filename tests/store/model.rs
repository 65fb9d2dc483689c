//! The store against a model: any sequence of operations shows what maps in memory show, through reopening, crashes and
//! other tools' edits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use orlop::{Digest, ErrorKind, Expect, Store};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

const REPOSITORIES: [&str; 3] = ["", "a", "a/b"];
const TAGS: [&str; 3] = ["v1", "v2", "latest"];
const IMAGES: usize = 5;
const BLOBS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    Is(usize),
}

#[derive(Clone, Debug)]
enum Op {
    PushBlob {
        repository: usize,
        blob: usize,
    },
    PushImage {
        repository: usize,
        image: usize,
        tag: Option<usize>,
    },
    /// Two images and a tag; the tag decides whether anything of it happens.
    PushBatch {
        repository: usize,
        images: (usize, usize),
        tag: usize,
        want: Want,
    },
    Tag {
        repository: usize,
        tag: usize,
        image: usize,
        want: Want,
    },
    Untag {
        repository: usize,
        tag: usize,
        want: Want,
    },
    Mount {
        from: usize,
        to: usize,
        image: usize,
    },
    DeleteRepository {
        repository: usize,
    },
    ForeignTag {
        tag: usize,
        image: usize,
    },
    ForeignUntag {
        tag: usize,
    },
    Flush,
    Reopen,
    Crash,
    Rebuild,
}

fn wants() -> impl Strategy<Value = Want> {
    prop_oneof![3 => Just(Want::Any), 1 => Just(Want::Absent), 1 => (0..IMAGES).prop_map(Want::Is)]
}

fn ops() -> impl Strategy<Value = Op> {
    let (repository, image, tag) = (0..REPOSITORIES.len(), 0..IMAGES, 0..TAGS.len());
    prop_oneof![
        2 => (repository.clone(), 0..BLOBS).prop_map(|(repository, blob)| Op::PushBlob { repository, blob }),
        5 => (repository.clone(), image.clone(), proptest::option::of(tag.clone()))
            .prop_map(|(repository, image, tag)| Op::PushImage { repository, image, tag }),
        3 => (repository.clone(), (image.clone(), image.clone()), tag.clone(), wants())
            .prop_map(|(repository, images, tag, want)| Op::PushBatch { repository, images, tag, want }),
        4 => (repository.clone(), tag.clone(), image.clone(), wants())
            .prop_map(|(repository, tag, image, want)| Op::Tag { repository, tag, image, want }),
        2 => (repository.clone(), tag.clone(), wants()).prop_map(|(repository, tag, want)| Op::Untag { repository, tag, want }),
        2 => (repository.clone(), repository.clone(), image.clone()).prop_map(|(from, to, image)| Op::Mount { from, to, image }),
        1 => repository.prop_map(|repository| Op::DeleteRepository { repository }),
        2 => (tag.clone(), image).prop_map(|(tag, image)| Op::ForeignTag { tag, image }),
        1 => tag.prop_map(|tag| Op::ForeignUntag { tag }),
        2 => Just(Op::Flush),
        2 => Just(Op::Reopen),
        2 => Just(Op::Crash),
        1 => Just(Op::Rebuild),
    ]
}

#[derive(Clone, Debug, Default)]
struct Shown {
    contents: BTreeSet<Digest>,
    manifests: BTreeSet<Digest>,
    tags: BTreeMap<String, Digest>,
}

/// What the store should show, by repository.
type Model = BTreeMap<&'static str, Shown>;

struct World {
    dir: Scratch,
    store: Option<Store>,
    model: Model,
    images: Vec<Artifact>,
    blobs: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let (dir, store) = fresh();
        // A list over the first two, a referrer of the first, an image that shares its layers' sizes with nothing.
        let mut images = vec![image("zero", 1), image("one", 2)];
        images.push(index(&[&images[0], &images[1]]));
        images.push(referrer(&images[0], "application/sig", "s"));
        images.push(image("four", 0));
        let blobs = vec![Vec::new(), noise(1, 2000), noise(2, INLINE + 1)];
        Self { dir, store: Some(store), model: Model::new(), images, blobs }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// The manifests that must come with one.
    fn family(&self, image: usize) -> Vec<Artifact> {
        let needed: &[usize] = if image == 2 { &[0, 1, 2] } else { std::slice::from_ref(&image) };
        needed.iter().map(|n| self.images[*n].clone()).collect()
    }

    fn hold(&mut self, repository: usize, artifact: &Artifact) {
        let shown = self.model.entry(REPOSITORIES[repository]).or_default();
        shown.contents.extend(artifact.blobs().map(|bytes| digest_of(bytes)));
        shown.manifests.insert(artifact.digest());
    }

    fn current(&self, repository: usize, name: usize) -> Option<Digest> {
        self.model.get(REPOSITORIES[repository])?.tags.get(TAGS[name]).copied()
    }

    fn expect(&self, want: Want) -> Expect {
        match want {
            Want::Any => Expect::Any,
            Want::Absent => Expect::Absent,
            Want::Is(image) => Expect::Is(self.images[image].digest()),
        }
    }

    fn agrees(&self, want: Want, current: Option<Digest>) -> bool {
        match want {
            Want::Any => true,
            Want::Absent => current.is_none(),
            Want::Is(image) => current == Some(self.images[image].digest()),
        }
    }

    fn holds(&self, repository: usize, digest: &Digest) -> bool {
        self.model.get(REPOSITORIES[repository]).is_some_and(|shown| shown.manifests.contains(digest))
    }

    fn set_tag(&mut self, repository: usize, name: usize, target: Option<Digest>) {
        match target {
            Some(digest) => {
                self.model
                    .entry(REPOSITORIES[repository])
                    .or_default()
                    .tags
                    .insert(TAGS[name].to_owned(), digest);
            }
            None => {
                if let Some(shown) = self.model.get_mut(REPOSITORIES[repository]) {
                    shown.tags.remove(TAGS[name]);
                }
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::PushBlob { repository, blob } => {
                let bytes = self.blobs[blob].clone();
                let pushed = repo(self.store(), REPOSITORIES[repository]).push_bytes(bytes.clone()).unwrap();
                assert_eq!(pushed.digest, digest_of(&bytes));
                self.model.entry(REPOSITORIES[repository]).or_default().contents.insert(pushed.digest);
            }
            Op::PushImage { repository, image, tag } => {
                let here = repo(self.store(), REPOSITORIES[repository]);
                let family = self.family(image);
                for artifact in &family {
                    let last = artifact.digest() == self.images[image].digest();
                    let names: Vec<&str> = tag.filter(|_| last).map(|n| TAGS[n]).into_iter().collect();
                    artifact.push(&here, &names);
                    self.hold(repository, artifact);
                }
                if let Some(tag) = tag {
                    self.set_tag(repository, tag, Some(self.images[image].digest()));
                }
            }
            Op::PushBatch { repository, images, tag: name, want } => {
                let here = repo(self.store(), REPOSITORIES[repository]);
                let mut batch = self.store().batch();
                let artifacts: Vec<Artifact> =
                    [images.0, images.1].into_iter().flat_map(|n| self.family(n)).collect();
                for artifact in &artifacts {
                    for part in &artifact.parts {
                        batch.push_bytes(&here, part.clone()).unwrap();
                    }
                    batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
                }
                let target = self.images[images.1].digest();
                batch.tag(&here, &tag(TAGS[name]), target, self.expect(want));
                let current = self.current(repository, name);
                let result = batch.commit();
                if self.agrees(want, current) {
                    assert_eq!(result.unwrap().tags[0].previous, current);
                    for artifact in &artifacts {
                        self.hold(repository, artifact);
                    }
                    self.set_tag(repository, name, Some(target));
                } else {
                    fails(result, ErrorKind::Conflict, &[]);
                }
            }
            Op::Tag { repository, tag: name, image, want } => {
                let target = self.images[image].digest();
                let result = repo(self.store(), REPOSITORIES[repository]).tag(
                    &tag(TAGS[name]),
                    &target,
                    self.expect(want),
                );
                let current = self.current(repository, name);
                match (self.holds(repository, &target), self.agrees(want, current)) {
                    (true, true) => {
                        assert_eq!(result.unwrap(), current);
                        self.set_tag(repository, name, Some(target));
                    }
                    (true, false) => drop(fails(result, ErrorKind::Conflict, &[])),
                    (false, true) => drop(fails(result, ErrorKind::NotFound, &[])),
                    (false, false) => assert!(result.is_err()),
                }
            }
            Op::Untag { repository, tag: name, want } => {
                let result =
                    repo(self.store(), REPOSITORIES[repository]).untag(&tag(TAGS[name]), self.expect(want));
                let current = self.current(repository, name);
                if self.agrees(want, current) {
                    assert_eq!(result.unwrap(), current);
                    self.set_tag(repository, name, None);
                } else {
                    fails(result, ErrorKind::Conflict, &[]);
                }
            }
            Op::Mount { from, to, image } => {
                let Some(part) = self.images[image].parts.first().cloned() else { return };
                let digest = digest_of(&part);
                let source = repo(self.store(), REPOSITORIES[from]);
                let mounted = repo(self.store(), REPOSITORIES[to]).mount(&source, &digest).unwrap();
                let there =
                    self.model.get(REPOSITORIES[from]).is_some_and(|shown| shown.contents.contains(&digest));
                assert_eq!(mounted.is_some(), there);
                if there {
                    self.model.entry(REPOSITORIES[to]).or_default().contents.insert(digest);
                }
            }
            Op::DeleteRepository { repository } => {
                let deleted = self.store().delete_repository(&name(REPOSITORIES[repository])).unwrap();
                let held = self
                    .model
                    .remove(REPOSITORIES[repository])
                    .is_some_and(|shown| !shown.contents.is_empty());
                assert_eq!(deleted, held);
            }
            Op::ForeignTag { tag, image } => {
                self.store().flush().unwrap();
                for artifact in self.family(image) {
                    put_blobs(&self.dir.root(), &artifact);
                    self.hold(0, &artifact);
                }
                let artifact = self.images[image].clone();
                edit_index(&self.dir.root(), |entries| {
                    entries.retain(|value| !is_named(value, TAGS[tag]));
                    entries.push(entry(Some(TAGS[tag]), &artifact));
                });
                self.store().flush().unwrap();
                self.set_tag(0, tag, Some(artifact.digest()));
            }
            Op::ForeignUntag { tag } => {
                self.store.take().unwrap().close().unwrap();
                edit_index(&self.dir.root(), |entries| entries.retain(|value| !is_named(value, TAGS[tag])));
                self.store = Some(options().open(self.dir.root()).unwrap());
                self.set_tag(0, tag, None);
            }
            Op::Flush => {
                self.store().flush().unwrap();
                self.check_layout();
            }
            Op::Reopen => {
                self.store.take().unwrap().close().unwrap();
                self.check_layout();
                self.store = Some(options().open(self.dir.root()).unwrap());
                assert_eq!(self.store().reports(), []);
            }
            Op::Crash => {
                crash(&self.dir, self.store.take().unwrap());
                self.store = Some(options().open(self.dir.root()).unwrap());
                assert_eq!(self.store().reports(), []);
            }
            Op::Rebuild => {
                // Content that nothing names is not published; give it up on both sides.
                self.store.take().unwrap().close().unwrap();
                fs::remove_dir_all(self.dir.root().join(".orlop")).unwrap();
                options().rebuild(self.dir.root()).unwrap();
                self.store = Some(options().open(self.dir.root()).unwrap());
                self.forget_unreferenced();
            }
        }
    }

    fn forget_unreferenced(&mut self) {
        for shown in self.model.values_mut() {
            let named: BTreeSet<Digest> = self
                .images
                .iter()
                .filter(|artifact| shown.manifests.contains(&artifact.digest()))
                .flat_map(|artifact| artifact.blobs().map(|bytes| digest_of(bytes)).collect::<Vec<_>>())
                .collect();
            shown.contents = named;
        }
        self.model.retain(|_, shown| !shown.contents.is_empty());
    }

    fn check(&self) {
        let nothing = Shown::default();
        for repository in REPOSITORIES {
            let here = repo(self.store(), repository);
            let shown = self.model.get(repository).unwrap_or(&nothing);
            let found: BTreeMap<String, Digest> = tags(&here).into_iter().collect();
            assert_eq!(found, shown.tags, "tags of {repository:?}");
            for artifact in &self.images {
                let digest = artifact.digest();
                assert_eq!(
                    here.manifest(&digest).unwrap().is_some(),
                    shown.manifests.contains(&digest),
                    "manifest in {repository:?}"
                );
            }
            let parts = self.images.iter().flat_map(|artifact| artifact.parts.iter());
            for bytes in parts.chain(&self.blobs) {
                let digest = digest_of(bytes);
                match here.get(&digest).unwrap() {
                    Some(blob) => {
                        assert!(
                            shown.contents.contains(&digest),
                            "{repository:?} shows what it does not hold"
                        );
                        assert!(blob[..] == bytes[..]);
                    }
                    None => assert!(!shown.contents.contains(&digest), "{repository:?} lost {digest}"),
                }
            }
            let referrers = here.referrers(&self.images[0].digest()).page().unwrap().descriptors;
            let expected: Vec<Digest> = [self.images[3].digest()]
                .into_iter()
                .filter(|digest| shown.manifests.contains(digest))
                .collect();
            assert_eq!(
                referrers.iter().map(|found| found.digest).collect::<Vec<_>>(),
                expected,
                "referrers in {repository:?}"
            );
        }
        let listed: Vec<String> =
            self.store().repositories(None, 10).unwrap().items.iter().map(ToString::to_string).collect();
        let expected: Vec<&str> = self
            .model
            .iter()
            .filter(|(_, shown)| !shown.contents.is_empty())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(listed, expected);
    }

    fn check_layout(&self) {
        let layout = Layout::sound(&self.dir.root());
        let mut names = BTreeMap::new();
        let mut manifests = BTreeSet::new();
        for (repository, shown) in &self.model {
            for (tag, digest) in &shown.tags {
                let name = if repository.is_empty() { tag.clone() } else { format!("{repository}:{tag}") };
                names.insert(name, digest.to_string());
            }
            manifests.extend(shown.manifests.iter().map(ToString::to_string));
        }
        assert_eq!(layout.names(), names);
        // Every manifest is listed or below one that is; nothing is listed that no repository holds.
        assert!(manifests.is_subset(&layout.reached), "a root is not listed");
        assert!(layout.untagged().is_subset(&manifests), "listed, and held by no repository");
    }
}

fn cases() -> u32 {
    std::env::var("ORLOP_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_agrees_with_the_model(ops in vec(ops(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
        world.apply(&Op::Reopen);
        world.check();
    }
}
