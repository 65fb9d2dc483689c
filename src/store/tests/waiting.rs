//! Nobody waits for the disk who has nothing there: the log is held in the middle of a sync, and everybody else goes on up to
//! the sync of his own.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::artifact::noise;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::store::{EventLimits, Events, Options, Publish, Quota, Repository, Store, usage};
use crate::sys::fault::{Armed, Call, Fault, arm};

const MANY: usize = 32;

fn open(root: &Path) -> Store {
    Options::new().publish(Publish::Manual).open_or_create(root).unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

/// Waits for what must come although the log stands still. The time only bounds how long a failure takes.
fn comes(what: &str, is_there: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < end, "{what} waits for a sync of somebody else");
        thread::yield_now();
    }
}

/// A read takes no lock, so it answers whatever others hold.
fn holds(store: &Store, repository: &str, digest: &Digest) -> bool {
    store.repository(&name(repository)).get(digest).unwrap().is_some()
}

/// Holds the next sync of the log, and waits until somebody has come to it.
fn held(root: &Path, errno: Option<Errno>, begin: impl FnOnce()) -> Armed {
    let armed = arm(Fault::hold(Call::SyncRows, root, errno));
    begin();
    armed.wait();
    armed
}

fn assert_counted(store: &Store) {
    assert_eq!(usage::differences(&store.core().metadata.snapshot()).unwrap(), []);
}

#[test]
fn those_who_mount_one_layer_share_a_sync_and_nobody_who_asks_for_it_waits() {
    for size in [100, 40_000] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("store");
        let store = open(&root);
        let base = store.repository(&name("base"));
        let digest = base.push_bytes(noise("layer", size)).unwrap().digest;
        let mount = |number: usize| {
            let here = store.repository(&name(&format!("r{number}")));
            assert!(here.mount(&base, &digest).unwrap().unwrap().existed);
        };
        thread::scope(|scope| {
            let armed = held(&root, None, || drop(scope.spawn(|| mount(0))));
            (1..MANY).for_each(|number| drop(scope.spawn(move || mount(number))));
            // All of them have written, whom the first one's sync holds up, and looks at the content go on.
            for number in 0..MANY {
                comes("a mount", || holds(&store, &format!("r{number}"), &digest));
            }
            assert_counted(&store);
            let asking = scope.spawn(|| base.stat(&digest).unwrap().is_some());
            comes("who asks for it", || asking.is_finished());
            assert!(asking.join().unwrap());
            armed.let_go();
            comes("the sync of the others", || armed.seen() == 2);
        });
        assert_eq!(base.usage().unwrap().unique_objects, 0);
        assert_counted(&store);
        // A crash takes nothing that was acknowledged, and the counters are what is there.
        drop((base, store));
        let store = open(&root);
        assert!((0..MANY).all(|number| holds(&store, &format!("r{number}"), &digest)));
        assert_counted(&store);
    }
}

/// Somebody else's files get their names while the content that both hold goes on being mounted.
#[test]
fn who_brings_files_holds_nobody_up_who_mounts_what_both_hold() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = open(&root);
    let base = store.repository(&name("base"));
    let digest = base.push_bytes(noise("layer", 40_000)).unwrap().digest;
    thread::scope(|scope| {
        let armed = arm(Fault::hold(Call::SyncDir, &root.join("blobs"), None));
        let pushing = scope.spawn(|| {
            let here = store.repository(&name("both"));
            let mut batch = store.batch();
            batch.mount(&here, &base, &digest).unwrap();
            batch.push_bytes(&here, noise("new", 40_000)).unwrap();
            batch.commit().unwrap();
        });
        armed.wait();
        let mounting = scope.spawn(|| store.repository(&name("other")).mount(&base, &digest).unwrap());
        comes("the mount", || mounting.is_finished());
        let asking = scope.spawn(|| base.stat(&digest).unwrap().is_some());
        comes("who asks for it", || asking.is_finished());
        assert!(!holds(&store, "both", &digest));
        armed.let_go();
        pushing.join().unwrap();
        assert!(mounting.join().unwrap().unwrap().existed);
    });
    assert_counted(&store);
}

#[test]
fn what_is_seen_before_it_is_durable_is_acknowledged_by_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = open(&root);
    let here = store.repository(&name("r"));
    here.push_bytes("first").unwrap();
    thread::scope(|scope| {
        let push = || here.push_bytes("content").map(|pushed| pushed.existed);
        let mut pushing = Vec::new();
        let armed = held(&root, Some(Errno::IO), || pushing.push(scope.spawn(push)));
        // It is all there, so there is nothing to write.
        pushing.push(scope.spawn(push));
        // Neither is there for these, and the repository that goes is gone.
        pushing.push(scope.spawn(|| store.delete_repository(&name("r"))));
        comes("the deletion", || store.repositories(None, 10).unwrap().items.is_empty());
        pushing.push(scope.spawn(|| store.delete_repository(&name("r"))));
        armed.let_go();
        for pushing in pushing {
            let error = pushing.join().unwrap().unwrap_err();
            // Who comes after the failure is not let in any more.
            assert!(
                matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Poisoned),
                "{error}: acknowledged, and the sync failed"
            );
        }
        assert_eq!(armed.seen(), 1, "a sync that failed is not tried again");
    });
    assert_eq!(here.push_bytes("more").unwrap_err().kind(), ErrorKind::Poisoned);
}

/// Who finds that there is nothing to do answers for what others have not synced yet.
#[test]
fn what_others_did_and_did_not_sync_is_no_reason_to_say_that_it_is_done() {
    let long = Duration::from_secs(3_600);
    for leases in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("store");
        let store = open(&root);
        store.repository(&name("r")).push_bytes("there").unwrap();
        let lease = store.lease(long, "held").unwrap();
        let act = |first: bool| {
            if leases {
                lease.clone().release()
            } else if first {
                store.delete_repository(&name("r")).map(drop)
            } else {
                store.repository(&name("r")).set_quota(&Quota::default())
            }
        };
        thread::scope(|scope| {
            let mut acting = Vec::new();
            let armed = held(&root, Some(Errno::IO), || acting.push(scope.spawn(move || act(true))));
            if leases {
                comes("the end of the lease", || store.open_lease(&lease.id()).unwrap().is_none());
            } else {
                comes("the deletion", || store.repositories(None, 10).unwrap().items.is_empty());
            }
            acting.push(scope.spawn(move || act(false)));
            armed.let_go();
            for acting in acting {
                let error = acting.join().unwrap().unwrap_err();
                let kinds = [ErrorKind::Indeterminate, ErrorKind::Poisoned];
                assert!(kinds.contains(&error.kind()), "leases: {leases}, {error}");
            }
        });
    }
}

#[test]
fn leases_stop_nobody_while_the_disk_is_slow() {
    let long = Duration::from_secs(3_600);
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = open(&root);
    let lease = store.lease(long, "held").unwrap();
    thread::scope(|scope| {
        let armed = held(&root, None, || drop(scope.spawn(|| store.lease(long, "slow").unwrap())));
        scope.spawn(|| store.lease(long, "as slow").unwrap());
        comes("a lease", || store.leases(None, 10).unwrap().items.len() == 3);
        scope.spawn(|| lease.clone().release().unwrap());
        comes("the end of a lease", || store.open_lease(&lease.id()).unwrap().is_none());
        let renewing = scope.spawn(|| lease.renew(long).unwrap_err());
        comes("who finds it ended", || renewing.is_finished());
        assert_eq!(renewing.join().unwrap().kind(), ErrorKind::NotFound);
        armed.let_go();
    });
    assert_eq!(store.leases(None, 10).unwrap().items.len(), 2);
}

#[test]
fn limits_and_deletions_stop_nobody_while_the_disk_is_slow() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = open(&root);
    let repository = |text: &str| -> Repository { store.repository(&name(text)) };
    for text in ["limited", "gone", "busy"] {
        repository(text).push_bytes("there").unwrap();
    }
    let quota = Quota { bytes: Some(1_000_000), objects: None };
    store.set_quota(&quota).unwrap();
    thread::scope(|scope| {
        let push = |text: &'static str, content: &'static str| {
            let here = repository(text);
            scope.spawn(move || here.push_bytes(content).unwrap());
            comes("a push", || holds(&store, text, &Digest::of(content.as_bytes())));
        };
        let armed = held(&root, None, || {
            scope.spawn(|| repository("busy").push_bytes("slow").unwrap());
        });
        scope.spawn(|| repository("limited").set_quota(&quota).unwrap());
        comes("a limit", || repository("limited").quota().unwrap() == quota);
        push("limited", "after the limit");
        scope.spawn(|| store.set_quota(&Quota::default()).unwrap());
        comes("the limit of the store", || store.quota().unwrap() == Quota::default());
        scope.spawn(|| assert!(store.delete_repository(&name("gone")).unwrap()));
        comes("a deletion", || store.repositories(None, 10).unwrap().items.len() == 2);
        push("gone", "it comes again");
        push("busy", "as before");
        assert_eq!(armed.fired(), 1);
        armed.let_go();
    });
    assert_counted(&store);
}

/// Limits that begin while a commit gives its files their names hold nobody up, and count it.
#[test]
fn a_limit_that_begins_beside_a_commit_waits_for_no_directory_and_counts_what_comes() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = open(&root);
    let here = store.repository(&name("r"));
    here.push_bytes("there").unwrap();
    let quota = Quota { bytes: Some(50_000), objects: None };
    thread::scope(|scope| {
        let armed = arm(Fault::hold(Call::SyncDir, &root.join("blobs"), None));
        let pushing = scope.spawn(|| here.push_bytes(noise("large", 40_000)).unwrap());
        armed.wait();
        let limiting = scope.spawn(|| {
            store.set_quota(&quota).unwrap();
            here.set_quota(&quota).unwrap();
            here.push_bytes("small").unwrap();
        });
        comes("a limit", || limiting.is_finished());
        armed.let_go();
        pushing.join().unwrap();
        limiting.join().unwrap();
    });
    for limit in ["the store has no room", "the repository has no room"] {
        let error = here.push_bytes(noise("more", 9_991)).unwrap_err();
        assert!(error.to_string().contains(limit) && error.to_string().contains("used=40010"), "{error}");
        store.set_quota(&Quota::default()).unwrap();
    }
    assert_counted(&store);
}

#[test]
fn readers_of_events_are_told_nothing_that_the_disk_may_not_have() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let options = Options::new().publish(Publish::Manual).events(EventLimits::default());
    let store = options.create(&root).unwrap();
    let here = store.repository(&name("r"));
    let image = super::artifact::Artifact::image("told", &[100]);
    let told = || match store.events(None, 10).unwrap() {
        Events::Next(events) => events.len(),
        Events::Gap { .. } => panic!("there is no gap"),
    };
    thread::scope(|scope| {
        let push = || {
            let mut batch = store.batch();
            image.add(&mut batch, &here).unwrap();
            batch.commit().unwrap();
        };
        let armed = held(&root, None, || drop(scope.spawn(push)));
        assert_eq!(here.manifests(None, 10).unwrap().items.len(), 1);
        assert_eq!(told(), 0);
        armed.let_go();
    });
    assert_eq!(told(), 1);
}

#[test]
fn readers_of_events_are_told_nothing_whose_sync_failed() {
    for deletes in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("store");
        let options = Options::new().publish(Publish::Manual).events(EventLimits::default());
        let store = options.create(&root).unwrap();
        let here = store.repository(&name("r"));
        let push = |seed: &str| {
            let mut batch = store.batch();
            super::artifact::Artifact::image(seed, &[100]).add(&mut batch, &here).unwrap();
            batch.commit().map(drop)
        };
        push("first").unwrap();
        let told = || match store.events(None, 10).unwrap() {
            Events::Next(events) => events.len(),
            Events::Gap { .. } => panic!("there is no gap"),
        };
        assert_eq!(told(), 1);
        let change = || if deletes { store.delete_repository(&name("r")).map(drop) } else { push("second") };
        thread::scope(|scope| {
            let mut changing = None;
            let armed = held(&root, Some(Errno::IO), || changing = Some(scope.spawn(change)));
            armed.let_go();
            let error = changing.unwrap().join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate);
        });
        assert_eq!(told(), 1, "deletes: {deletes}");
    }
}
