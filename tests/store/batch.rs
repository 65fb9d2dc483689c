//! Batches: all of it or none of it, for one thread, for many, waited for or polled.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orlop::{Algorithm, Batch, Digest, ErrorKind, Expect, Expected, Limits, Repository, Store};

use crate::support::*;

/// Adds a whole artifact to a batch.
fn add(batch: &mut Batch, here: &Repository, artifact: &Artifact) -> Digest {
    for part in &artifact.parts {
        batch.push_bytes(here, part.clone()).unwrap();
    }
    batch.push_manifest(here, artifact.media_type, artifact.bytes.clone()).unwrap()
}

#[test]
fn a_batch_is_seen_whole_when_it_is_committed_and_not_before() {
    let (dir, store) = fresh();
    let (here, other) = (store.default_repository(), repo(&store, "other"));
    let (one, two) = (image("one", 2), image("two", 1));
    let large = noise(1, 300_000);
    let mut batch = store.batch();
    let digest = add(&mut batch, &here, &one);
    batch.tag(&here, &tag("v1"), digest, Expect::Absent);
    let content = store.ingest_bytes(large.clone(), &Expected::default()).unwrap();
    assert_eq!(batch.push(&here, content).unwrap(), digest_of(&large));
    add(&mut batch, &other, &two);
    batch.mount(&other, &here, &digest_of(&large)).unwrap();
    batch.tag(&other, &tag("latest"), two.digest(), Expect::Any);
    assert_eq!(describe(&store).len(), 0, "seen before the commit");
    let committed = batch.commit().unwrap();
    // In the order of the calls, each new; the mount is one of them.
    let expected: Vec<Digest> = one
        .blobs()
        .map(|bytes| digest_of(bytes))
        .chain([digest_of(&large)])
        .chain(two.blobs().map(|bytes| digest_of(bytes)))
        .chain([digest_of(&large)])
        .collect();
    let pushed: Vec<Digest> = committed.pushed.iter().map(|pushed| pushed.digest).collect();
    assert_eq!(pushed, expected);
    assert!(committed.pushed.iter().all(|pushed| !pushed.existed));
    let changes: Vec<_> = committed
        .tags
        .iter()
        .map(|change| (change.tag.to_string(), change.previous, change.current))
        .collect();
    assert_eq!(
        changes,
        [("v1".to_owned(), None, Some(one.digest())), ("latest".to_owned(), None, Some(two.digest()))]
    );

    let check = |store: &Store| {
        let (here, other) = (store.default_repository(), repo(store, "other"));
        assert_eq!(here.resolve(&tag("v1")).unwrap().unwrap().digest, one.digest());
        assert_eq!(other.resolve(&tag("latest")).unwrap().unwrap().digest, two.digest());
        for here in [&here, &other] {
            assert!(here.get(&digest_of(&large)).unwrap().unwrap()[..] == large[..]);
        }
    };
    check(&store);
    drop((here, other));
    // Acknowledged is durable, flushed or not.
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    check(&store);
    store.flush().unwrap();
    assert_eq!(Layout::sound(&dir.root()).names().len(), 2);
}

#[test]
fn one_thing_refused_is_everything_refused() {
    let (dir, store) = fresh();
    let (here, other) = (store.default_repository(), repo(&store, "other"));
    let present = image("present", 1);
    present.push(&here, &["v1"]);
    let hidden = other.push_bytes(&b"hidden from here"[..]).unwrap().digest;
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    let new = image("new", 2);
    let missing = image("missing", 1);
    let current = present.digest().to_string();
    let needs = sha256(&missing.parts[0]);
    type Bad<'a> = Box<dyn Fn(&mut Batch) + 'a>;
    let cases: Vec<(Bad<'_>, ErrorKind, Vec<String>)> = vec![
        (
            Box::new(|b| b.tag(&here, &tag("v1"), new.digest(), Expect::Absent)),
            ErrorKind::Conflict,
            vec![current.clone()],
        ),
        (
            Box::new(|b| b.tag(&here, &tag("v1"), new.digest(), Expect::Is(new.digest()))),
            ErrorKind::Conflict,
            vec![current.clone(), "v1".to_owned()],
        ),
        (Box::new(|b| b.untag(&here, &tag("v1"), Expect::Absent)), ErrorKind::Conflict, vec![current]),
        (
            Box::new(|b| b.untag(&here, &tag("none"), Expect::Is(absent()))),
            ErrorKind::Conflict,
            vec!["none".to_owned()],
        ),
        (
            Box::new(|b| b.tag(&here, &tag("v2"), absent(), Expect::Any)),
            ErrorKind::NotFound,
            vec![absent().to_string()],
        ),
        (
            Box::new(|b| b.tag(&other, &tag("v2"), new.digest(), Expect::Any)),
            ErrorKind::NotFound,
            vec![new.digest().to_string()],
        ),
        (
            Box::new(|b| drop(b.push_manifest(&here, IMAGE, missing.bytes.clone()))),
            ErrorKind::NotFound,
            vec![needs],
        ),
        (
            Box::new(|b| drop(b.mount(&here, &repo(&store, "third"), &hidden))),
            ErrorKind::NotFound,
            vec![hidden.to_string()],
        ),
        (
            Box::new(|b| drop(b.mount(&here, &other, &absent()))),
            ErrorKind::NotFound,
            vec![absent().to_string()],
        ),
    ];
    for (n, (bad, kind, values)) in cases.iter().enumerate() {
        for large in [false, true] {
            for first in [false, true] {
                let mut batch = store.batch();
                if first {
                    bad(&mut batch);
                }
                add(&mut batch, &here, &new);
                if large {
                    batch.push_bytes(&here, noise(9, 200_000)).unwrap();
                }
                batch.tag(&here, &tag("fine"), new.digest(), Expect::Any);
                if !first {
                    bad(&mut batch);
                }
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                fails(batch.commit(), *kind, &values);
                assert_eq!(describe(&store), before.1, "case {n}");
                assert_eq!(content_tree(&dir.root()), before.0, "case {n}");
            }
        }
    }
    store.flush().unwrap();
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
}

#[test]
fn a_batch_that_is_dropped_or_empty_does_nothing() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let before = content_tree(&dir.root());
    let mut batch = store.batch();
    add(&mut batch, &here, &image("dropped", 2));
    batch.push_bytes(&here, noise(1, 500_000)).unwrap();
    drop(batch);
    let committed = store.batch().commit().unwrap();
    assert!(committed.pushed.is_empty() && committed.tags.is_empty());
    store.flush().unwrap();
    assert_eq!(describe(&store).len(), 0);
    assert_eq!(content_tree(&dir.root()), before);
}

#[test]
fn order_inside_a_batch_is_the_order_of_the_calls_for_tags_and_none_for_content() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let (one, two) = (image("one", 1), image("two", 1));
    let mut batch = store.batch();
    // Manifests before what they name, a list before its child.
    let list = index(&[&one]);
    batch.push_manifest(&here, INDEX, list.bytes.clone()).unwrap();
    batch.push_manifest(&here, IMAGE, one.bytes.clone()).unwrap();
    for part in one.parts.iter().chain(&one.parts) {
        batch.push_bytes(&here, part.clone()).unwrap();
    }
    add(&mut batch, &here, &two);
    batch.tag(&here, &tag("v1"), one.digest(), Expect::Absent);
    batch.tag(&here, &tag("v1"), two.digest(), Expect::Is(one.digest()));
    batch.tag(&here, &tag("v2"), one.digest(), Expect::Any);
    batch.untag(&here, &tag("v2"), Expect::Is(one.digest()));
    batch.tag(&here, &tag("list"), list.digest(), Expect::Any);
    batch.commit().unwrap();
    assert_eq!(tags(&here), [("list".to_owned(), list.digest()), ("v1".to_owned(), two.digest())]);
    assert_eq!(here.tags_of(&one.digest()).unwrap().len(), 0);
    assert_eq!(here.manifests(None, 10).unwrap().items.len(), 3);
}

#[test]
fn content_can_be_mounted_in_the_batch_that_brings_it() {
    let (_dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let digest = a.push_bytes(&b"here already"[..]).unwrap().digest;
    let mut batch = store.batch();
    let new = batch.push_bytes(&a, &b"new"[..]).unwrap();
    batch.mount(&b, &a, &new).unwrap();
    batch.mount(&b, &a, &digest).unwrap();
    batch.commit().unwrap();
    assert_eq!(contents(&b), BTreeSet::from([digest, new]));
}

#[test]
fn a_sparse_manifest_may_lack_what_it_names() {
    let (dir, store) = fresh();
    let here = repo(&store, "mirror");
    let (have, lack) = (image("have", 1), image("lack", 1));
    let list = index(&[&have, &lack]);
    have.push(&here, &[]);
    fails(
        here.push_manifest(INDEX, list.bytes.clone(), &[]),
        ErrorKind::NotFound,
        &[&lack.digest().to_string()],
    );
    let mut batch = store.batch();
    let digest = batch.push_sparse_manifest(&here, INDEX, list.bytes.clone(), Algorithm::Sha256).unwrap();
    batch.tag(&here, &tag("v1"), digest, Expect::Absent);
    batch.commit().unwrap();
    assert!(here.manifest(&lack.digest()).unwrap().is_none());
    assert_eq!(here.successors(&digest).unwrap().unwrap().len(), 2);
    assert_eq!(here.predecessors(&lack.digest(), None, 10).unwrap().items[0].digest, digest);
    store.flush().unwrap();
    let layout = Layout::read(&dir.root());
    assert_eq!(layout.names()["mirror:v1"], digest.to_string());
    assert_eq!(layout.wrong, [format!("missing {}", lack.digest())]);
    // It can still come.
    lack.push(&here, &[]);
    store.flush().unwrap();
    Layout::sound(&dir.root());
}

#[test]
fn too_many_rows_are_refused_and_change_nothing() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_batch_rows = 200;
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = store.default_repository();
    image("fits", 3).push(&here, &["v1"]);
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    for size in [20, INLINE + 1] {
        let mut batch = store.batch();
        let mut refused = None;
        for n in 0..201 {
            // Refused when it is added or when it is committed: either way by its name.
            if let Err(error) = batch.push_bytes(&here, noise(n, size)) {
                refused = Some(error);
                break;
            }
        }
        let error = refused.unwrap_or_else(|| batch.commit().expect_err("it was committed"));
        fails::<()>(Err(error), ErrorKind::BatchTooLarge, &["200"]);
        assert_eq!((content_tree(&dir.root()), describe(&store)), before);
    }
    here.push_bytes(&b"goes on"[..]).unwrap();
}

#[test]
fn submitted_batches_complete_without_a_runtime() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let artifacts: Vec<Artifact> = (0..64).map(|n| image(&format!("async {n}"), 2)).collect();
    let commits: Vec<_> = artifacts
        .iter()
        .enumerate()
        .map(|(n, artifact)| {
            let mut batch = store.batch();
            let digest = add(&mut batch, &here, artifact);
            if n % 8 == 0 {
                batch.push_bytes(&here, noise(n as u64, 100_000)).unwrap();
            }
            batch.tag(&here, &tag(&format!("t{n}")), digest, Expect::Absent);
            batch.submit()
        })
        .collect();
    for (artifact, committed) in artifacts.iter().zip(block_on_all(commits)) {
        let committed = committed.unwrap();
        assert_eq!(committed.tags[0].current, Some(artifact.digest()));
    }
    assert_eq!(tags(&here).len(), 64);
    // One at a time, waited for instead, and one that fails.
    let mut batch = store.batch();
    batch.push_bytes(&here, &b"polled"[..]).unwrap();
    assert_eq!(block_on(batch.submit()).unwrap().pushed.len(), 1);
    let mut batch = store.batch();
    batch.push_bytes(&here, &b"waited for"[..]).unwrap();
    assert_eq!(batch.submit().wait().unwrap().pushed.len(), 1);
    let mut batch = store.batch();
    batch.untag(&here, &tag("t1"), Expect::Absent);
    fails(block_on(batch.submit()), ErrorKind::Conflict, &[]);
    drop(here);
    crash(&dir, store);
    assert_eq!(tags(&options().open(dir.root()).unwrap().default_repository()).len(), 64);
}

#[test]
fn a_future_that_is_dropped_commits_all_the_same() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    for n in 0..10 {
        let mut batch = store.batch();
        let digest = add(&mut batch, &here, &image(&format!("{n}"), 1));
        batch.tag(&here, &tag(&format!("t{n}")), digest, Expect::Absent);
        drop(batch.submit());
    }
    let start = Instant::now();
    while tags(&here).len() < 10 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} of 10 were committed", tags(&here).len());
        thread::sleep(Duration::from_millis(5));
    }
    // What is submitted and dropped right before the close is in the store too.
    let mut batch = store.batch();
    let digest = add(&mut batch, &here, &image("last", 1));
    batch.tag(&here, &tag("last"), digest, Expect::Absent);
    drop(batch.submit());
    drop(here);
    store.close().unwrap();
    // The batch on its way is the last handle, and the store closes behind it.
    let store = options().lock_timeout(Duration::from_secs(30)).open(dir.root()).unwrap();
    assert_eq!(tags(&store.default_repository()).len(), 11);
    assert_eq!(Layout::sound(&dir.root()).names().len(), 11);
}

#[test]
fn many_threads_commit_at_once() {
    let (dir, store) = fresh();
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let store = store.clone();
            scope.spawn(move || {
                let (own, shared) = (repo(&store, &format!("worker-{worker}")), repo(&store, "shared"));
                for n in 0..25 {
                    let artifact = image(&format!("worker {worker} {n}"), 2);
                    // Everybody pushes the same image as well, and every third round something large.
                    let common = image(&format!("common {n}"), 2);
                    let mut batch = store.batch();
                    let digest = add(&mut batch, &own, &artifact);
                    add(&mut batch, &own, &common);
                    add(&mut batch, &shared, &common);
                    if n % 3 == 0 {
                        batch.push_bytes(&own, noise(n, 50_000)).unwrap();
                    }
                    batch.tag(&own, &tag(&format!("t{n}")), digest, Expect::Absent);
                    batch.tag(&shared, &tag("latest"), common.digest(), Expect::Any);
                    batch.commit().unwrap();
                    if n % 10 == 9 {
                        store.flush().unwrap();
                    }
                    let found = own.resolve(&tag(&format!("t{n}"))).unwrap().unwrap();
                    assert_eq!(found.digest, digest);
                    for blob in artifact.blobs().chain(common.blobs()) {
                        assert_eq!(
                            &own.get(&digest_of(blob)).unwrap().expect("just committed")[..],
                            &blob[..]
                        );
                    }
                }
            });
        }
    });
    store.close().unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names().len(), 8 * 25 + 1);
    let store = options().open(dir.root()).unwrap();
    for worker in 0..8 {
        assert_eq!(tags(&repo(&store, &format!("worker-{worker}"))).len(), 25);
    }
}

#[test]
fn a_reader_sees_a_batch_whole_or_not_at_all() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..200 {
                let (a, b) = (image(&format!("a{n}"), 1), image(&format!("b{n}"), 1));
                let mut batch = store.batch();
                add(&mut batch, &here, &a);
                add(&mut batch, &here, &b);
                batch.tag(&here, &tag("first"), a.digest(), Expect::Any);
                batch.tag(&here, &tag("second"), b.digest(), Expect::Any);
                batch.commit().unwrap();
                done.store(n + 1, Ordering::Release);
            }
        });
        while done.load(Ordering::Acquire) < 200 {
            // One page is one view of the store: both tags are of the same batch.
            let found = tags(&here);
            if found.is_empty() {
                continue;
            }
            let at = (0..200).find(|n| image(&format!("a{n}"), 1).digest() == found[0].1).unwrap();
            assert_eq!(found[1].1, image(&format!("b{at}"), 1).digest(), "two halves of two batches");
            let manifest = here.manifest(&found[0].1).unwrap().expect("tagged and not there");
            for successor in manifest.parse().unwrap().successors() {
                assert!(here.get(&successor.descriptor.digest).unwrap().is_some(), "tagged and not whole");
            }
        }
    });
}

#[test]
fn the_journal_is_bounded_and_what_does_not_fit_is_written_as_files() {
    for (journal_size, batched) in [(1 << 20, false), (1 << 20, true), (32 << 20, true)] {
        let dir = scratch();
        let mut limits = Limits::default();
        limits.journal_size = journal_size;
        let store = options().limits(limits).create(dir.root()).unwrap();
        let here = store.default_repository();
        let all: Vec<Vec<u8>> = (0..600).map(|n| noise(n, 4096)).collect();
        if batched {
            for chunk in all.chunks(300) {
                let mut batch = store.batch();
                for bytes in chunk {
                    batch.push_bytes(&here, bytes.clone()).unwrap();
                }
                batch.commit().unwrap();
            }
        } else {
            for bytes in &all {
                here.push_bytes(bytes.clone()).unwrap();
            }
        }
        let files = fs::read_dir(dir.root().join("blobs/sha256")).map_or(0, Iterator::count);
        let least = 600_usize.saturating_sub(journal_size as usize / 4096);
        assert!(batched || files >= least, "{files} files; at least {least} do not fit into the journal");
        for bytes in &all {
            assert!(here.get(&digest_of(bytes)).unwrap().unwrap()[..] == bytes[..]);
        }
        drop(here);
        crash(&dir, store);
        let store = options().open(dir.root()).unwrap();
        store.flush().unwrap();
        for bytes in &all {
            assert!(store.default_repository().get(&digest_of(bytes)).unwrap().unwrap()[..] == bytes[..]);
            assert!(fs::read(blob_path(&dir.root(), &digest_of(bytes))).unwrap() == *bytes);
        }
    }
}

#[test]
fn an_inline_limit_of_zero_journals_nothing() {
    let dir = scratch();
    let store = options().inline_limit(0).create(dir.root()).unwrap();
    let here = store.default_repository();
    let image = image("a", 2);
    image.push(&here, &["v1"]);
    for blob in image.blobs() {
        assert_eq!(fs::read(blob_path(&dir.root(), &digest_of(blob))).unwrap(), *blob);
    }
    here.push_bytes(&b""[..]).unwrap();
    assert_eq!(here.get(&digest_of(b"")).unwrap().unwrap().len(), 0);
}

#[test]
fn an_answered_commit_holds_the_store_no_longer() {
    let (dir, store) = fresh();
    store.close().unwrap();
    for round in 0..50_u8 {
        let store = options().open(dir.root()).unwrap();
        let mut batch = store.batch();
        batch.push_bytes(&store.default_repository(), vec![round; 10]).unwrap();
        let commit = batch.submit();
        commit.wait().unwrap();
        store.close().unwrap();
    }
}
