//! Leases: what they hold stays, for as long as they last and no longer.

use std::time::Duration;

use orlop::{Digest, ErrorKind, Expect, LeaseId, Limits, Untagged};

use crate::collecting::{collect, files, sound};
use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_a_lease_holds_stays_until_it_is_released() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let lease = store.lease(HOUR, "a push").unwrap();
    let one = here.push_bytes("one").unwrap().digest;
    lease.add(&[one]).unwrap();
    lease.add(&[one]).unwrap();
    let mut batch = store.batch();
    batch.lease(&lease).unwrap();
    let two = batch.push_bytes(&here, "two").unwrap();
    batch.commit().unwrap();
    let three = here.push_bytes("three").unwrap().digest;
    let report = collect(&store);
    assert_eq!((report.contents, report.kept.leased), (1, 2), "{report:?}");
    assert!(here.get(&three).unwrap().is_none());
    let entry = &store.leases(None, 10).unwrap().items[0];
    assert_eq!((entry.id, entry.contents, entry.label.as_str()), (lease.id(), 2, "a push"));
    assert!(entry.expires.duration_since(entry.created).unwrap() == HOUR);
    lease.release().unwrap();
    assert_eq!(store.leases(None, 10).unwrap().items.len(), 0);
    assert_eq!(collect(&store).contents, 2);
    assert!(here.get(&one).unwrap().is_none() && here.get(&two).unwrap().is_none());
    sound(&dir, &store);
}

#[test]
fn a_lease_outlives_its_process_and_is_opened_by_its_id() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let digest = here.push_bytes("held").unwrap().digest;
    let lease = store.lease(HOUR, "").unwrap();
    lease.add(&[digest]).unwrap();
    let id: LeaseId = lease.id().to_string().parse().unwrap();
    assert_eq!(id, lease.id());
    drop((lease, here));
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert_eq!(collect(&store).kept.leased, 1);
    let lease = store.open_lease(&id).unwrap().unwrap();
    lease.renew(HOUR).unwrap();
    lease.release().unwrap();
    assert!(store.open_lease(&id).unwrap().is_none());
    assert_eq!(collect(&store).contents, 1);
    for wrong in ["", "0", "xx", &"0".repeat(33), &"A".repeat(32)] {
        fails(wrong.parse::<LeaseId>(), ErrorKind::Invalid, &["id="]);
    }
}

#[test]
fn an_expired_lease_holds_nothing_and_goes_with_a_collection() {
    let (_dir, store) = fresh();
    let here = repo(&store, "r");
    let digest = here.push_bytes("held").unwrap().digest;
    let lease = store.lease(Duration::from_millis(200), "").unwrap();
    lease.add(&[digest]).unwrap();
    assert_eq!(collect(&store).contents, 0);
    std::thread::sleep(Duration::from_millis(220));
    assert!(store.open_lease(&lease.id()).unwrap().is_none());
    assert_eq!(store.leases(None, 10).unwrap().items, []);
    fails(lease.renew(HOUR), ErrorKind::NotFound, &["lease="]);
    fails(lease.add(&[digest]), ErrorKind::NotFound, &["lease="]);
    let mut batch = store.batch();
    batch.lease(&lease).unwrap();
    batch.push_bytes(&here, "more").unwrap();
    fails(batch.commit(), ErrorKind::NotFound, &["lease="]);
    let would = store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap();
    let report = collect(&store);
    assert_eq!((report.leases, report.contents, would.contents), (1, 1, 1));
    lease.release().unwrap();
}

#[test]
fn a_lease_keeps_a_manifest_with_all_that_it_refers_to() {
    let dir = scratch();
    let store = options().untagged(Untagged::ExpireAfter(Duration::ZERO)).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let image = image("image", 2);
    let lease = store.lease(HOUR, "").unwrap();
    let digest = image.push(&here, &["v1"]);
    let mut batch = store.batch();
    batch.lease(&lease).unwrap();
    batch.tag(&here, &tag("v2"), digest, Expect::Any);
    batch.commit().unwrap();
    for name in ["v1", "v2"] {
        here.untag(&tag(name), Expect::Any).unwrap();
    }
    let report = collect(&store);
    assert_eq!((report.manifests, report.contents, report.kept.leased), (0, 0, 1), "{report:?}");
    lease.release().unwrap();
    assert_eq!(collect(&store).contents, 4);
    store.flush().unwrap();
    assert_eq!(files(&dir.root()).len(), 0);
    sound(&dir, &store);
}

#[test]
fn content_stays_while_leased_although_no_repository_holds_it() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let digest = here.push_bytes("held").unwrap().digest;
    let lease = store.lease(HOUR, "").unwrap();
    lease.add(&[digest]).unwrap();
    store.delete_repository(&name("r")).unwrap();
    assert_eq!(collect(&store).kept.leased, 1);
    assert!(store.unscoped().get(&digest).unwrap().is_some());
    assert_eq!(repo(&store, "q").stat(&digest).unwrap(), None);
    lease.release().unwrap();
    assert_eq!(collect(&store).contents, 1);
    sound(&dir, &store);
}

#[test]
fn leases_are_bounded_and_refused_where_they_make_no_sense() {
    let dir = scratch();
    let mut limits = Limits::default();
    (limits.max_leases, limits.max_leased) = (2, 3);
    let store = options().limits(limits).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let digests: Vec<Digest> = (0..4).map(|n| here.push_bytes(format!("{n}")).unwrap().digest).collect();
    let lease = store.lease(HOUR, "").unwrap();
    let other = store.lease(HOUR, "").unwrap();
    fails(store.lease(HOUR, ""), ErrorKind::Conflict, &["limit=2"]);
    other.release().unwrap();
    store.lease(HOUR, "").unwrap();
    lease.add(&digests[..3]).unwrap();
    fails(lease.add(&digests), ErrorKind::Conflict, &["contents=4", "limit=3"]);
    fails(lease.add(&[absent()]), ErrorKind::NotFound, &[&absent().to_string()]);
    fails(store.lease(HOUR, &"x".repeat(1025)), ErrorKind::Invalid, &["length=1025"]);
    fails(store.lease(Duration::ZERO, ""), ErrorKind::Invalid, &["time="]);
    fails(lease.renew(HOUR * 24 * 365 * 11), ErrorKind::Invalid, &["time="]);
    let (_other_dir, elsewhere) = fresh();
    fails(elsewhere.batch().lease(&lease), ErrorKind::Invalid, &["lease="]);
    let read = options().open_read_only(dir.root()).unwrap();
    fails(read.lease(HOUR, ""), ErrorKind::ReadOnly, &[]);
    assert_eq!(read.leases(None, 1).unwrap().items.len(), 1);
    assert!(read.leases(None, 1).unwrap().more);
}
