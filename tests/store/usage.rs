//! Usage and quotas: the counters are what counting gives, whatever happened, and limits hold when many push at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::thread;

use orlop::{Digest, ErrorKind, Quota, Store, StoreUsage, Usage};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

/// Everything that a repository holds, with its size, read page by page.
fn held(store: &Store, repository: &str) -> BTreeMap<Digest, u64> {
    let here = repo(store, repository);
    let manifests = all(|last: Option<&Digest>| {
        let page = here.manifests(last, 7).unwrap();
        (page.items.iter().map(|found| found.digest).collect(), page.more)
    });
    let digests = contents(&here).into_iter().chain(manifests);
    digests.map(|digest| (digest, here.stat(&digest).unwrap().unwrap().size)).collect()
}

fn sum<'a>(sizes: impl Iterator<Item = &'a u64>) -> (u64, u64) {
    sizes.fold((0, 0), |(objects, bytes), size| (objects + 1, bytes + size))
}

/// Fails unless all that the store says of its usage is what counting gives: by a walk through the public listings and all
/// bytes, and by the store's own recount.
pub(crate) fn assert_counted(store: &Store) {
    let names = store.repositories(None, 1000).unwrap().items;
    let held: BTreeMap<String, BTreeMap<Digest, u64>> =
        names.iter().map(|name| (name.to_string(), held(store, name.as_str()))).collect();
    let holders = |digest: &Digest| held.values().filter(|contents| contents.contains_key(digest)).count();
    let usage = store.usage().unwrap();
    let recount = store.recount().unwrap();
    assert_eq!(usage, recount.store);
    let mut total = (0, 0);
    for (name, contents) in &held {
        let found = repo(store, name).usage().unwrap();
        let all = sum(contents.values());
        let unique = sum(contents.iter().filter(|(digest, _)| holders(digest) == 1).map(|(_, size)| size));
        assert_eq!((found.objects, found.bytes), all, "{name}");
        assert_eq!((found.unique_objects, found.unique_bytes), unique, "{name}");
        let recounted = recount.repositories.iter().find(|(known, _)| known.as_str() == name).unwrap();
        assert_eq!(recounted.1, found, "{name}");
        total = (total.0 + all.0, total.1 + all.1);
    }
    assert_eq!((usage.objects, usage.bytes), total);
    let verified = store.verify().read_data(true).index(true).run().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.findings);
    // What is journalled has no file that is read.
    let bytes = verified.bytes + usage.journalled_bytes;
    assert_eq!((usage.stored_objects, usage.stored_bytes), (verified.contents, bytes));
    let distinct: BTreeMap<&Digest, &u64> = held.values().flatten().collect();
    let (objects, bytes) = sum(distinct.into_values());
    let garbage = (usage.stored_objects - objects, usage.stored_bytes - bytes);
    assert_eq!((usage.garbage_objects, usage.garbage_bytes), garbage);
    assert_eq!(usage.garbage_objects, verified.unheld);
}

const REPOSITORIES: [&str; 3] = ["", "a", "a/b"];

#[derive(Clone, Debug)]
enum Op {
    Push {
        repository: usize,
        part: usize,
    },
    /// With everything below it, in one batch; the manifest of the first also as a blob.
    PushImage {
        repository: usize,
        image: usize,
    },
    Mount {
        from: usize,
        to: usize,
        part: usize,
    },
    /// A manifest in two repositories and a blob less in a third, in one batch.
    Mixed {
        one: usize,
        other: usize,
        part: usize,
    },
    RemoveBlob {
        repository: usize,
        part: usize,
    },
    RemoveImage {
        repository: usize,
        image: usize,
    },
    DeleteRepository {
        repository: usize,
    },
    Foreign {
        image: usize,
    },
    Damage {
        part: usize,
    },
    Flush,
    Reopen,
    Crash,
    Rebuild,
}

fn ops() -> impl Strategy<Value = Op> {
    let (repository, image, part) = (0..REPOSITORIES.len(), 0..3_usize, 0..6_usize);
    let (other, to) = (repository.clone(), repository.clone());
    prop_oneof![
        4 => (repository.clone(), part.clone()).prop_map(|(repository, part)| Op::Push { repository, part }),
        4 => (repository.clone(), image.clone())
            .prop_map(|(repository, image)| Op::PushImage { repository, image }),
        4 => (repository.clone(), to, part.clone()).prop_map(|(from, to, part)| Op::Mount { from, to, part }),
        2 => (repository.clone(), other, part.clone())
            .prop_map(|(one, other, part)| Op::Mixed { one, other, part }),
        3 => (repository.clone(), part.clone())
            .prop_map(|(repository, part)| Op::RemoveBlob { repository, part }),
        2 => (repository.clone(), image.clone())
            .prop_map(|(repository, image)| Op::RemoveImage { repository, image }),
        2 => repository.prop_map(|repository| Op::DeleteRepository { repository }),
        1 => image.prop_map(|image| Op::Foreign { image }),
        1 => part.prop_map(|part| Op::Damage { part }),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        1 => Just(Op::Rebuild),
    ]
}

struct World {
    dir: Scratch,
    store: Option<Store>,
    images: Vec<Artifact>,
    parts: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let (dir, store) = fresh();
        let images = [image("zero", 1), image("one", 2)];
        let images = vec![images[0].clone(), index(&[&images[0], &images[1]]), images[1].clone()];
        // What images have too, something large, something empty, and what is a manifest elsewhere.
        let parts = vec![
            images[0].parts[0].clone(),
            images[2].parts[1].clone(),
            noise(1, INLINE + 1),
            Vec::new(),
            images[0].bytes.clone(),
            noise(2, 900),
        ];
        Self { dir, store: Some(store), images, parts }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn repository(&self, number: usize) -> orlop::Repository {
        repo(self.store(), REPOSITORIES[number])
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Push { repository, part } => {
                self.repository(repository).push_bytes(self.parts[part].clone()).unwrap();
            }
            Op::PushImage { repository, image } => {
                let here = self.repository(repository);
                let mut batch = self.store().batch();
                let family: &[usize] = if image == 1 { &[0, 2, 1] } else { std::slice::from_ref(&image) };
                for artifact in family.iter().map(|n| &self.images[*n]) {
                    for part in &artifact.parts {
                        batch.push_bytes(&here, part.clone()).unwrap();
                    }
                    batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
                }
                batch.commit().unwrap();
            }
            Op::Mount { from, to, part } => {
                let digest = digest_of(&self.parts[part]);
                self.repository(to).mount(&self.repository(from), &digest).unwrap();
            }
            Op::Mixed { one, other, part } => {
                let mut batch = self.store().batch();
                let gone = digest_of(&self.parts[5]);
                batch.push_bytes(&self.repository(one), self.parts[part].clone()).unwrap();
                batch.push_bytes(&self.repository(other), self.parts[part].clone()).unwrap();
                batch.delete_blob(&self.repository(2), &gone);
                // It may not be there, or come and go with the same batch.
                if let Err(error) = batch.commit() {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid), "{error}");
                }
            }
            Op::RemoveBlob { repository, part } => {
                let mut batch = self.store().batch();
                batch.delete_blob(&self.repository(repository), &digest_of(&self.parts[part]));
                if let Err(error) = batch.commit() {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
                }
            }
            Op::RemoveImage { repository, image } => {
                let mut batch = self.store().batch();
                batch.delete_manifest(&self.repository(repository), &self.images[image].digest());
                if let Err(error) = batch.commit() {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
                }
            }
            Op::DeleteRepository { repository } => {
                self.store().delete_repository(&name(REPOSITORIES[repository])).unwrap();
            }
            Op::Foreign { image } => {
                self.store().flush().unwrap();
                for artifact in &self.images {
                    put_blobs(&self.dir.root(), artifact);
                }
                let artifact = self.images[image].clone();
                edit_index(&self.dir.root(), |entries| {
                    entries.retain(|value| !is_named(value, "theirs"));
                    entries.push(entry(Some("theirs"), &artifact));
                });
                self.store().flush().unwrap();
            }
            Op::Damage { part } => self.heal(part),
            Op::Flush => self.store().flush().unwrap(),
            Op::Reopen => {
                self.store.take().unwrap().close().unwrap();
                self.store = Some(options().open(self.dir.root()).unwrap());
            }
            Op::Crash => {
                crash(&self.dir, self.store.take().unwrap());
                self.store = Some(options().open(self.dir.root()).unwrap());
            }
            Op::Rebuild => {
                self.store.take().unwrap().close().unwrap();
                options().rebuild(self.dir.root()).unwrap();
                self.store = Some(options().open(self.dir.root()).unwrap());
            }
        }
    }

    /// A content loses its file, and the next push of it by anybody brings it back.
    fn heal(&self, part: usize) {
        self.store().flush().unwrap();
        let digest = digest_of(&self.parts[part]);
        if self.store().unscoped().stat(&digest).unwrap().is_none() {
            return;
        }
        std::fs::remove_file(blob_path(&self.dir.root(), &digest)).unwrap();
        assert!(!self.store().verify().run().unwrap().is_sound());
        assert!(self.store().unscoped().verify(&digest).is_err(), "it is marked as damaged now");
        self.repository(0).push_bytes(self.parts[part].clone()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn counters_are_what_counting_gives_after_every_step(ops in vec(ops(), 1..18)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            assert_counted(world.store());
        }
    }
}

#[test]
fn content_counts_once_in_each_repository_and_once_in_the_store() {
    let (_dir, store) = fresh();
    let (one, other) = (repo(&store, "one"), repo(&store, "other"));
    assert_eq!(store.usage().unwrap(), StoreUsage::default());
    assert_eq!(one.usage().unwrap(), Usage::default());
    let artifact = image("a", 1);
    artifact.push(&one, &["v1"]);
    // The manifest is held as a blob as well: that counts once.
    one.push_bytes(artifact.bytes.clone()).unwrap();
    let size: u64 = artifact.blobs().map(|bytes| bytes.len() as u64).sum();
    let all = one.usage().unwrap();
    assert_eq!((all.objects, all.bytes), (3, size));
    assert_eq!((all.unique_objects, all.unique_bytes), (3, size));
    let shared = digest_of(&artifact.parts[0]);
    other.mount(&one, &shared).unwrap().unwrap();
    let (part, usage) = (artifact.parts[0].len() as u64, store.usage().unwrap());
    assert_eq!((usage.objects, usage.bytes), (4, size + part));
    assert_eq!((usage.stored_objects, usage.stored_bytes, usage.garbage_objects), (3, size, 0));
    assert_eq!((usage.journalled_objects, usage.journalled_bytes), (3, size));
    assert_eq!(one.usage().unwrap().unique_bytes, size - part);
    assert_eq!(other.usage().unwrap().unique_bytes, 0);
    store.flush().unwrap();
    assert_eq!(store.usage().unwrap().journalled_objects, 0);
    store.delete_repository(&name("one")).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.objects, usage.bytes, usage.stored_bytes), (1, part, size));
    assert_eq!((usage.garbage_objects, usage.garbage_bytes), (2, size - part));
    assert_eq!(other.usage().unwrap().unique_bytes, part);
    assert_eq!(one.usage().unwrap(), Usage::default());
    assert_counted(&store);
}

#[test]
fn views_that_only_read_show_the_usage_too() {
    let (dir, store) = fresh();
    image("a", 2).push(&repo(&store, "one"), &["v1"]);
    store.flush().unwrap();
    let view = options().open_read_only(dir.root()).unwrap();
    assert_eq!(view.usage().unwrap(), store.usage().unwrap());
    assert_eq!(repo(&view, "one").usage().unwrap(), repo(&store, "one").usage().unwrap());
    // A layout of another tool is counted as it is read.
    let foreign = dir.path("foreign");
    plain_layout(&foreign, &[(Some("v1"), &image("b", 1))], &[]);
    let view = options().open_read_only(&foreign).unwrap();
    let usage = view.usage().unwrap();
    assert_eq!((usage.objects, usage.stored_objects), (3, 3));
    assert_eq!(usage.bytes, image("b", 1).blobs().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(view.recount().unwrap().store, usage);
    assert!(!foreign.join(".orlop").exists());
}

/// Runs both at once, many times, in one store.
fn at_once(
    rounds: usize,
    prepare: impl Fn(&Store, usize),
    act: impl Fn(&Store, usize, usize) + Sync,
) -> Store {
    let (_dir, store) = fresh();
    for round in 0..rounds {
        prepare(&store, round);
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            for number in 0..3 {
                let (store, barrier, act) = (&store, &barrier, &act);
                scope.spawn(move || {
                    barrier.wait();
                    act(store, round, number);
                });
            }
        });
    }
    assert_counted(&store);
    store
}

/// Which repository of a round has what, so that every round begins with a content that one repository holds.
fn place(round: usize, number: usize) -> String {
    format!("r{}-{number}", round % 20)
}

#[test]
fn repositories_that_take_a_content_at_once_know_of_each_other() {
    let part = |round: usize| format!("content {round}").into_bytes();
    at_once(
        150,
        |store, round| {
            repo(store, "first").push_bytes(part(round)).unwrap();
        },
        |store, round, number| {
            let (here, first) = (repo(store, &place(round, number)), repo(store, "first"));
            here.mount(&first, &digest_of(&part(round))).unwrap().unwrap();
        },
    );
}

#[test]
fn repositories_that_lose_a_content_at_once_know_of_each_other() {
    let part = |round: usize| format!("content {round}").into_bytes();
    at_once(
        150,
        |store, round| {
            let mut batch = store.batch();
            for number in 0..3 {
                batch.push_bytes(&repo(store, &place(round, number)), part(round)).unwrap();
            }
            batch.push_bytes(&repo(store, "first"), part(round)).unwrap();
            batch.commit().unwrap();
        },
        |store, round, number| {
            let mut batch = store.batch();
            batch.delete_blob(&repo(store, &place(round, number)), &digest_of(&part(round)));
            batch.commit().unwrap();
        },
    );
}

#[test]
fn a_deletion_and_a_mount_at_once_know_of_each_other() {
    let part = |round: usize, n: usize| format!("content {round} {n}").into_bytes();
    at_once(
        40,
        |store, round| {
            let mut batch = store.batch();
            for n in 0..20 {
                batch.push_bytes(&repo(store, "gone"), part(round, n)).unwrap();
                batch.push_bytes(&repo(store, "first"), part(round, n)).unwrap();
            }
            batch.commit().unwrap();
        },
        |store, round, number| {
            if number == 0 {
                store.delete_repository(&name("gone")).unwrap();
                return;
            }
            let (here, first) = (repo(store, &place(round, number)), repo(store, "first"));
            for n in 0..20 {
                here.mount(&first, &digest_of(&part(round, n))).unwrap().unwrap();
            }
        },
    );
}

fn bytes(limit: u64) -> Quota {
    Quota { bytes: Some(limit), ..Quota::default() }
}

#[test]
fn what_exceeds_a_quota_is_refused_and_changes_nothing() {
    for (large, restart) in [(false, false), (true, false), (false, true), (true, true)] {
        let (dir, mut store) = fresh();
        let size = if large { 100_000 } else { 1000 };
        repo(&store, "r").push_bytes(noise(1, size)).unwrap();
        repo(&store, "r").set_quota(&bytes(2 * size as u64)).unwrap();
        repo(&store, "r").push_bytes(noise(2, size)).unwrap();
        if restart {
            store.close().unwrap();
            store = options().open(dir.root()).unwrap();
        }
        let here = repo(&store, "r");
        assert_eq!(here.quota().unwrap(), bytes(2 * size as u64));
        let (before, usage) = (settled_tree(&dir.root()), store.usage().unwrap());
        let limit = format!("limit={}", 2 * size);
        fails(
            here.push_bytes(noise(3, size)),
            ErrorKind::QuotaExceeded,
            &["repository=r", "of=bytes", &limit],
        );
        // A batch is refused when the content that is too much is added, and what it had stays possible.
        let mut batch = store.batch();
        batch.push_bytes(&here, Vec::new()).unwrap();
        fails(batch.push_bytes(&here, noise(3, size)), ErrorKind::QuotaExceeded, &["used=", "needed="]);
        fails(here.reserve(1), ErrorKind::QuotaExceeded, &["repository=r"]);
        let upload = here.start_upload(&orlop::UploadOptions::new().size(1));
        fails(upload, ErrorKind::QuotaExceeded, &["needed=1"]);
        // What announces its size and digest is not even read.
        let expected = orlop::Expected::from(digest_of(&noise(3, size))).with_size(size as u64);
        let unread = std::io::repeat(0);
        fails(here.push_reader(unread, &expected), ErrorKind::QuotaExceeded, &["of=bytes"]);
        fails(here.push_file(dir.path("none"), &expected), ErrorKind::QuotaExceeded, &["of=bytes"]);
        // A mount needs room too, which its commit tells.
        let there = repo(&store, "elsewhere");
        let digest = there.push_bytes(noise(4, 10)).unwrap().digest;
        fails(here.mount(&there, &digest), ErrorKind::QuotaExceeded, &["needed=10"]);
        let mut both = store.batch();
        both.mount(&here, &there, &digest).unwrap();
        both.push_bytes(&there, noise(5, size)).unwrap();
        fails(both.commit(), ErrorKind::QuotaExceeded, &["repository=r"]);
        let after = store.usage().unwrap();
        assert_eq!(
            (after.stored_objects, after.stored_bytes),
            (usage.stored_objects + 1, usage.stored_bytes + 10)
        );
        assert!(there.stat(&digest_of(&noise(5, size))).unwrap().is_none());
        if large {
            let blobs = |tree: &BTreeMap<String, Node>| -> BTreeSet<String> {
                tree.keys().filter(|path| path.contains("blobs/sha256/")).cloned().collect()
            };
            assert_eq!(
                blobs(&before),
                blobs(&settled_tree(&dir.root())),
                "bytes of refused content are left"
            );
        }
        // What is held already costs nothing; other repositories are not limited; what makes room lets more in.
        assert!(here.push_bytes(noise(1, size)).unwrap().existed);
        batch.commit().unwrap();
        let mut swap = store.batch();
        swap.delete_blob(&here, &digest_of(&noise(1, size)));
        swap.push_bytes(&here, noise(3, size)).unwrap();
        swap.commit().unwrap();
        assert_counted(&store);
        here.set_quota(&Quota::default()).unwrap();
        here.push_bytes(noise(6, size)).unwrap();
    }
}

#[test]
fn a_quota_below_what_is_held_removes_nothing_and_lets_nothing_in() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    let artifact = image("a", 2);
    artifact.push(&here, &["v1"]);
    here.set_quota(&Quota { objects: Some(1), bytes: None }).unwrap();
    fails(here.push_bytes("one more"), ErrorKind::QuotaExceeded, &["of=objects", "limit=1", "used=4"]);
    artifact.push(&here, &["v2"]);
    assert_eq!(here.usage().unwrap().objects, 4);
    let mut batch = store.batch();
    batch.delete_manifest(&here, &artifact.digest());
    batch.commit().unwrap();
    // Still above.
    fails(here.push_bytes("one more"), ErrorKind::QuotaExceeded, &["used=3"]);
}

#[test]
fn a_quota_goes_with_its_repository_and_may_come_before_it() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    here.set_quota(&Quota::default()).unwrap();
    assert_eq!(store.repositories(None, 10).unwrap().items, [], "no limits make no repository");
    here.set_quota(&bytes(5)).unwrap();
    fails(here.push_bytes("more than that"), ErrorKind::QuotaExceeded, &[]);
    store.delete_repository(&name("r")).unwrap();
    assert_eq!(here.quota().unwrap(), Quota::default());
    here.push_bytes("more than that").unwrap();
    drop(here);
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    repo(&store, "r").push_bytes("and more").unwrap();
}

#[test]
fn the_quota_of_the_store_counts_what_is_stored_once() {
    let (dir, store) = fresh();
    let (one, other) = (repo(&store, "one"), repo(&store, "other"));
    one.push_bytes(noise(1, 1000)).unwrap();
    store.set_quota(&bytes(1500)).unwrap();
    other.push_bytes(noise(1, 1000)).unwrap();
    fails(
        other.push_bytes(noise(2, 501)),
        ErrorKind::QuotaExceeded,
        &["the store", "used=1000", "needed=501"],
    );
    other.push_bytes(noise(3, 500)).unwrap();
    drop((one, other));
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(store.quota().unwrap(), bytes(1500));
    // Garbage is stored until it is collected.
    store.delete_repository(&name("other")).unwrap();
    fails(repo(&store, "one").push_bytes("x"), ErrorKind::QuotaExceeded, &["used=1500"]);
    repo(&store, "one").push_bytes(noise(3, 500)).unwrap();
}

#[test]
fn what_is_reserved_is_nobody_elses_until_it_is_given_back() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    here.set_quota(&bytes(1000)).unwrap();
    store.set_quota(&bytes(5000)).unwrap();
    let reservation = here.reserve(600).unwrap();
    fails(here.reserve(600), ErrorKind::QuotaExceeded, &["reserved=600", "needed=600"]);
    fails(here.push_bytes(noise(1, 401)), ErrorKind::QuotaExceeded, &["reserved=600", "needed=401"]);
    drop(reservation);
    let reservation = here.reserve(1000).unwrap();
    fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &[]);
    let mut batch = store.batch();
    batch.settle(reservation).unwrap();
    batch.push_bytes(&here, noise(1, 700)).unwrap();
    batch.commit().unwrap();
    // The rest came back.
    here.push_bytes(noise(2, 300)).unwrap();
    assert_eq!(here.usage().unwrap().bytes, 1000);
    // A batch that fails gives everything back.
    here.set_quota(&bytes(2000)).unwrap();
    let mut batch = store.batch();
    batch.settle(here.reserve(1000).unwrap()).unwrap();
    batch.push_bytes(&here, noise(3, 1000)).unwrap();
    batch.tag(&here, &tag("v1"), absent(), orlop::Expect::Any);
    fails(batch.commit(), ErrorKind::NotFound, &[]);
    here.push_bytes(noise(4, 1000)).unwrap();
    assert_eq!(store.usage().unwrap().stored_bytes, 2000);
}

#[test]
fn a_reservation_of_another_store_is_refused_and_given_back() {
    let ((_dir, store), (_other_dir, other)) = (fresh(), fresh());
    let (here, there) = (repo(&store, "r"), repo(&other, "r"));
    for at in [&here, &there] {
        at.set_quota(&bytes(1000)).unwrap();
    }
    let mut batch = store.batch();
    fails(batch.settle(there.reserve(1000).unwrap()), ErrorKind::Invalid, &["another store"]);
    batch.settle(here.reserve(1000).unwrap()).unwrap();
    batch.push_bytes(&here, noise(1, 1000)).unwrap();
    batch.commit().unwrap();
    there.push_bytes(noise(1, 1000)).unwrap();
}

#[test]
fn of_two_commits_at_once_only_one_takes_the_last_room() {
    let (_dir, store) = fresh();
    for round in 0..100_u64 {
        let here = repo(&store, &format!("r{}", round % 5));
        let used = here.usage().unwrap();
        here.set_quota(&Quota { bytes: Some(used.bytes + 150), objects: Some(used.objects + 1) }).unwrap();
        let barrier = Barrier::new(3);
        let passed: usize = thread::scope(|scope| {
            let pushes: Vec<_> = (0..3)
                .map(|number| {
                    let (here, barrier) = (&here, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        match here.push_bytes(noise(round * 3 + number + 1, 100)) {
                            Ok(_) => 1,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
                                0
                            }
                        }
                    })
                })
                .collect();
            pushes.into_iter().map(|push| push.join().unwrap()).sum()
        });
        assert_eq!(passed, 1, "round {round}");
        assert_eq!(here.usage().unwrap().bytes, used.bytes + 100);
    }
    assert_counted(&store);
}

#[test]
fn quotas_survive_a_rebuild_and_hold_nobody_up_who_edits_the_layout() {
    let (dir, store) = fresh();
    repo(&store, "").push_bytes("held").unwrap();
    repo(&store, "").set_quota(&bytes(4)).unwrap();
    store.set_quota(&bytes(100)).unwrap();
    let artifact = image("theirs", 1);
    store.flush().unwrap();
    put_blobs(&dir.root(), &artifact);
    edit_index(&dir.root(), |entries| entries.push(entry(Some("theirs"), &artifact)));
    store.close().unwrap();
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    let here = repo(&store, "");
    assert_eq!(tags(&here).len(), 1);
    assert_eq!((here.quota().unwrap(), store.quota().unwrap()), (bytes(4), bytes(100)));
    fails(here.push_bytes("x"), ErrorKind::QuotaExceeded, &[]);
    assert_counted(&store);
}

#[test]
fn a_plain_layout_and_a_view_keep_no_quota() {
    let (dir, store) = fresh();
    let view = options().open_read_only(dir.root()).unwrap();
    fails(repo(&view, "r").set_quota(&bytes(1)), ErrorKind::ReadOnly, &[]);
    fails(view.set_quota(&bytes(1)), ErrorKind::ReadOnly, &[]);
    store.close().unwrap();
    let plain = options().open_plain(dir.path("plain")).unwrap();
    fails(repo(&plain, "r").set_quota(&bytes(1)), ErrorKind::Unsupported, &["path="]);
    fails(plain.set_quota(&bytes(1)), ErrorKind::Unsupported, &["path="]);
    plain.close().unwrap();
}
