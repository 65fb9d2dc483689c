//! Retention policies: per repository, durable, forgotten with the repository and by a rebuild; and the times of tags.

use std::time::{Duration, SystemTime};

use orlop::oci::TagPattern;
use orlop::{ErrorKind, Expect, Retention, Untagged};

use crate::support::*;

fn policy() -> Retention {
    let mut policy = Retention::default();
    policy.untagged = Untagged::ExpireAfter(Duration::from_secs(86_400));
    policy.keep_last = Some(5);
    policy.last_of = vec!["pr-*".parse().unwrap()];
    policy.keep_tags = vec!["latest".parse().unwrap(), "v?.*".parse().unwrap()];
    policy
}

#[test]
fn a_policy_belongs_to_its_repository_and_survives_a_reopen() {
    let (dir, store) = fresh();
    for name in ["a", "a/b"] {
        image(name, 1).push(&repo(&store, name), &["v1"]);
    }
    let here = repo(&store, "a");
    assert_eq!(here.retention().unwrap(), None);
    here.set_retention(Some(&policy())).unwrap();
    assert_eq!(here.retention().unwrap(), Some(policy()));
    assert_eq!(repo(&store, "a/b").retention().unwrap(), None);
    drop(here);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    let here = repo(&store, "a");
    assert_eq!(here.retention().unwrap(), Some(policy()));
    here.set_retention(None).unwrap();
    assert_eq!(here.retention().unwrap(), None);

    // A repository that comes again under the name of one that went has no policy.
    here.set_retention(Some(&policy())).unwrap();
    assert!(store.delete_repository(&name("a")).unwrap());
    assert_eq!(here.retention().unwrap(), None);
    image("again", 1).push(&here, &["v1"]);
    assert_eq!(here.retention().unwrap(), None);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let (dir, store) = fresh();
    let here = repo(&store, "a");
    fails(here.set_retention(Some(&policy())), ErrorKind::NotFound, &["repository=a"]);
    fails(here.set_retention(None), ErrorKind::NotFound, &["repository=a"]);
    image("one", 1).push(&here, &[]);
    let mut none = policy();
    none.keep_last = Some(0);
    fails(here.set_retention(Some(&none)), ErrorKind::Invalid, &["keep_last=0"]);
    let mut many = policy();
    many.keep_tags = vec!["x*".parse::<TagPattern>().unwrap(); 101];
    fails(here.set_retention(Some(&many)), ErrorKind::Invalid, &["keep_tags=101"]);
    many.last_of = std::mem::take(&mut many.keep_tags);
    fails(here.set_retention(Some(&many)), ErrorKind::Invalid, &["last_of=101"]);
    assert_eq!(here.retention().unwrap(), None, "what was refused was kept");
    drop(here);
    store.close().unwrap();
    fails(options().retention(none).open(dir.root()), ErrorKind::Invalid, &["keep_last=0"]);
    let view = options().open_read_only(dir.root()).unwrap();
    fails(repo(&view, "a").set_retention(Some(&policy())), ErrorKind::ReadOnly, &[]);
}

#[test]
fn a_tag_tells_when_it_last_came_to_name_something_else() {
    let (dir, store) = fresh();
    let here = repo(&store, "a");
    let [first, second] = ["one", "two"].map(|seed| image(seed, 1).push(&here, &[]));
    let changed = |here: &orlop::Repository| here.tags(None, 9).unwrap().items[0].changed;
    // The time of a row is cut to milliseconds.
    let now = || SystemTime::now() - Duration::from_millis(1);
    let start = now();
    here.tag(&tag("v1"), &first, Expect::Any).unwrap();
    let set = changed(&here).unwrap();
    assert!(set >= start && set <= SystemTime::now(), "{set:?} is not between {start:?} and now");
    std::thread::sleep(Duration::from_millis(3));
    here.tag(&tag("v1"), &first, Expect::Any).unwrap();
    assert_eq!(changed(&here), Some(set), "nothing changed");
    let start = now();
    here.tag(&tag("v1"), &second, Expect::Any).unwrap();
    let moved = changed(&here).unwrap();
    assert!(moved >= start && moved > set);
    drop(here);
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(changed(&repo(&store, "a")), Some(moved));
    store.close().unwrap();

    // A rebuild takes the times from the old metadata, and does not know them without.
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(changed(&repo(&store, "a")), Some(moved));
    repo(&store, "a").set_retention(Some(&policy())).unwrap();
    store.close().unwrap();
    std::fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(changed(&repo(&store, "a")), None);
    assert_eq!(repo(&store, "a").retention().unwrap(), None);
}
