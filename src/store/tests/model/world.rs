//! The store, its model, and how they are compared.

use std::collections::{BTreeMap, BTreeSet};

use super::super::support::*;
use crate::digest::Digest;
use crate::store::{Expect, Repository, Store, usage};

use super::Want;

pub(super) const REPOSITORIES: [&str; 3] = ["", "a", "a/b"];
pub(super) const TAGS: [&str; 3] = ["v1", "v2", "latest"];
pub(super) const IMAGES: usize = 5;
pub(super) const BLOBS: usize = 3;

/// What one repository shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Shown {
    pub(super) contents: BTreeSet<Digest>,
    pub(super) manifests: BTreeSet<Digest>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// How many objects it may have.
    pub(super) limit: Option<u64>,
    /// How many tags its policy keeps.
    pub(super) keep: Option<u32>,
}

/// What the store should show: the repositories that exist, those that were emptied among them.
pub(super) type Model = BTreeMap<&'static str, Shown>;

pub(super) struct World {
    pub(super) dir: Scratch,
    /// None while it is opened anew.
    pub(super) store: Option<Store>,
    pub(super) model: Model,
    pub(super) images: Vec<Artifact>,
    pub(super) blobs: Vec<Vec<u8>>,
}

impl World {
    pub(super) fn new() -> Self {
        let (dir, store) = fresh();
        // A list over the first two, a referrer of the first, an image that shares its layers' sizes with nothing.
        let mut images = vec![image("zero", 1), image("one", 2)];
        images.push(index(&[&images[0], &images[1]]));
        images.push(referrer(&images[0], "application/sig", "s"));
        images.push(image("four", 0));
        let blobs = vec![Vec::new(), noise(1, 2000), noise(2, INLINE + 1)];
        Self { dir, store: Some(store), model: Model::new(), images, blobs }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(super) fn repository(&self, repository: usize) -> Repository {
        repo(self.store(), REPOSITORIES[repository])
    }

    pub(super) fn open(&mut self) {
        self.store = Some(options().open(self.dir.root()).unwrap());
    }

    /// The manifests that must come with one, that one last.
    pub(super) fn family(&self, image: usize) -> Vec<Artifact> {
        let needed: &[usize] = if image == 2 { &[0, 1, 2] } else { std::slice::from_ref(&image) };
        needed.iter().map(|n| self.images[*n].clone()).collect()
    }

    /// Every content that is no manifest.
    pub(super) fn loose(&self) -> Vec<Vec<u8>> {
        let parts = self.images.iter().flat_map(|artifact| artifact.parts.iter());
        parts.chain(&self.blobs).cloned().collect()
    }

    pub(super) fn expect(&self, want: Want) -> Expect {
        match want {
            Want::Any => Expect::Any,
            Want::Absent => Expect::Absent,
            Want::Is(image) => Expect::Is(self.images[image].digest()),
        }
    }

    /// What the store shows, read to the last byte.
    pub(super) fn shown(&self) -> Model {
        let listed = self.store().repositories(None, 10).unwrap().items;
        let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
        let mut model = Model::new();
        for repository in REPOSITORIES {
            let shown = self.shown_in(repository);
            if listed.iter().any(|name| name == repository) {
                model.insert(repository, shown);
            } else {
                assert_eq!(shown, Shown::default(), "{repository:?} is not listed");
            }
        }
        assert_eq!(listed.len(), model.len(), "{listed:?}");
        model
    }

    fn shown_in(&self, repository: &str) -> Shown {
        let here = repo(self.store(), repository);
        let (limit, policy) = (here.quota().unwrap().objects, here.retention().unwrap());
        let keep = policy.and_then(|policy| policy.keep_last);
        let mut shown = Shown { tags: tags(&here).into_iter().collect(), limit, keep, ..Shown::default() };
        for artifact in &self.images {
            if let Some(found) = here.manifest(&artifact.digest()).unwrap() {
                assert!(found.content[..] == artifact.bytes[..], "wrong manifest in {repository:?}");
                shown.manifests.insert(artifact.digest());
            }
        }
        let manifests = self.images.iter().map(|artifact| artifact.bytes.clone());
        for bytes in self.loose().into_iter().chain(manifests) {
            let digest = digest_of(&bytes);
            if let Some(blob) = here.get(&digest).unwrap() {
                assert!(blob[..] == bytes[..], "wrong content in {repository:?}");
                shown.contents.insert(digest);
            }
        }
        assert!(contents(&here).is_subset(&shown.contents), "{repository:?} lists what it does not show");
        // Manifests that are not there refer to nothing.
        let referrers = here.referrers(&self.images[0].digest()).page().unwrap().descriptors;
        let referrers: Vec<Digest> = referrers.iter().map(|found| found.digest).collect();
        let expected = [self.images[3].digest()];
        let expected = if shown.manifests.contains(&expected[0]) { &expected[..] } else { &[] };
        assert_eq!(referrers, expected, "referrers in {repository:?}");
        shown
    }

    pub(super) fn check(&self) {
        assert_eq!(self.shown(), self.model);
        // Every content that is held is readable, so the counters agree with what is shown, too.
        assert_eq!(usage::differences(&self.store().core().metadata.snapshot()).unwrap(), []);
        for (repository, shown) in &self.model {
            let held = repo(self.store(), repository).usage().unwrap().objects;
            assert_eq!(held, shown.contents.len() as u64, "{repository:?}");
        }
    }

    /// What another tool finds in the directory after a publish.
    pub(super) fn check_layout(&self) {
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
