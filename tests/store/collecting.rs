//! Collection: garbage goes with its bytes, and nothing that is named, leased, or was said to be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use orlop::{
    Answers, Collection, Digest, ErrorKind, Expect, Listed, Options, Publish, Repository, Store, Untagged,
};

use crate::support::*;

/// Whatever was pushed or asked for protects nothing.
pub(crate) fn collect(store: &Store) -> Collection {
    // What an earlier one kept is due a millisecond later.
    std::thread::sleep(Duration::from_millis(2));
    let report = store.collector().grace(Duration::ZERO).run().unwrap();
    assert!(report.complete && report.wait.is_none() && report.failed.is_empty(), "{report:?}");
    report
}

/// The names of all content files.
pub(crate) fn files(root: &Path) -> BTreeSet<Digest> {
    let Ok(entries) = fs::read_dir(root.join("blobs/sha256")) else { return BTreeSet::new() };
    let digest = |name: String| format!("sha256:{name}").parse().unwrap();
    entries.map(|entry| digest(entry.unwrap().file_name().into_string().unwrap())).collect()
}

fn delete(store: &Store, repository: &Repository, digest: &Digest) {
    let mut batch = store.batch();
    batch.delete_manifest(repository, digest);
    batch.commit().unwrap();
}

/// What is stored is whole, and nothing is left that nobody holds.
pub(crate) fn sound(dir: &Scratch, store: &Store) {
    let report = store.verify().read_data(true).index(true).run().unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.unheld, 0);
    Layout::sound(&dir.root());
}

fn of(artifacts: &[&Artifact]) -> BTreeSet<Digest> {
    artifacts.iter().flat_map(|artifact| artifact.blobs()).map(|blob| digest_of(blob)).collect()
}

#[test]
fn what_a_deleted_manifest_alone_referred_to_goes_with_its_files() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let (keep, gone) = (image("keep", 2), image("gone", 3));
    keep.push(&here, &["keep"]);
    gone.push(&here, &["gone"]);
    store.flush().unwrap();
    assert_eq!(collect(&store).contents, 0);
    delete(&store, &here, &gone.digest());
    let would = store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap();
    assert_eq!(files(&dir.root()), of(&[&keep, &gone]), "a dry run takes nothing");
    let report = collect(&store);
    let bytes: usize = gone.blobs().map(Vec::len).sum();
    assert_eq!((report.contents, report.bytes, report.blobs), (5, bytes as u64, 4));
    assert_eq!((would.contents, would.bytes, would.blobs), (5, bytes as u64, 4));
    assert_eq!((report.files, report.waiting), (5, 0));
    assert_eq!(files(&dir.root()), of(&[&keep]));
    sound(&dir, &store);
    assert_eq!(collect(&store).contents, 0, "there is nothing left to do");
}

#[test]
fn a_blob_that_was_only_pushed_goes_and_one_that_was_asked_for_does_not() {
    let dir = scratch();
    let store = options().grace(Duration::from_secs(3600)).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let (one, two) = (here.push_bytes("one").unwrap().digest, here.push_bytes("two").unwrap().digest);
    let report = store.collector().run().unwrap();
    assert_eq!((report.contents, report.kept.not_due), (0, 2));
    drop(here);
    store.close().unwrap();
    // Nobody answers others here, so nobody has to be waited for; touches of another process do not count.
    let store = options().answers(Answers::Local).grace(Duration::from_millis(600)).open(dir.root()).unwrap();
    let here = repo(&store, "r");
    let wait = store.collector().run().unwrap().wait;
    assert!(wait.is_some_and(|wait| wait <= Duration::from_millis(600)), "{wait:?}");
    std::thread::sleep(Duration::from_millis(620));
    assert!(here.stat(&one).unwrap().is_some());
    let report = store.collector().run().unwrap();
    assert_eq!((report.contents, report.kept.touched), (1, 1), "{report:?}");
    assert!(here.stat(&one).unwrap().is_some() && here.stat(&two).unwrap().is_none());
    sound(&dir, &store);
}

#[test]
fn every_existence_answer_protects_and_a_read_does_not() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let manifests: Vec<Artifact> = (0..5).map(|n| image(&format!("m{n}"), 1)).collect();
    for manifest in &manifests {
        manifest.push(&here, &[]);
    }
    let loose: Vec<Digest> = (0..3).map(|n| here.push_bytes(format!("loose {n}")).unwrap().digest).collect();
    drop(here);
    store.close().unwrap();
    let store = options()
        .answers(Answers::Local)
        .untagged(Untagged::ExpireAfter(Duration::ZERO))
        .grace(Duration::from_millis(300))
        .open(dir.root())
        .unwrap();
    std::thread::sleep(Duration::from_millis(320));
    let here = repo(&store, "r");
    assert!(here.stat(&manifests[0].digest()).unwrap().is_some());
    assert!(here.manifest(&manifests[1].digest()).unwrap().is_some());
    let reference = manifests[2].digest().to_string().parse().unwrap();
    assert!(here.resolve_reference(&reference).unwrap().is_some());
    assert!(here.get(&manifests[3].digest()).unwrap().is_some());
    assert!(here.get(&loose[0]).unwrap().is_some() && here.reader(&loose[1]).unwrap().is_some());
    assert!(here.stat(&loose[2]).unwrap().is_some());
    let report = store.collector().run().unwrap();
    assert_eq!((report.manifests, report.kept.touched), (2, 4), "{report:?}");
    let left: BTreeSet<Digest> =
        here.manifests(None, 10).unwrap().items.into_iter().map(|found| found.digest).collect();
    assert_eq!(left, manifests[..3].iter().map(Artifact::digest).collect());
    assert!(here.get(&loose[2]).unwrap().is_some() && here.get(&loose[0]).unwrap().is_none());
    sound(&dir, &store);
}

#[test]
fn content_that_another_repository_holds_stays_there() {
    let (dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let image = image("shared", 2);
    image.push(&a, &["v1"]);
    image.push(&b, &["v1"]);
    delete(&store, &a, &image.digest());
    let report = collect(&store);
    assert_eq!((report.blobs, report.contents), (3, 0));
    assert!(a.stat(&digest_of(&image.parts[0])).unwrap().is_none());
    assert_eq!(files(&dir.root()).len(), 0, "it is still journalled");
    sound_after_flush(&dir, &store, &of(&[&image]));
    delete(&store, &b, &image.digest());
    assert_eq!(collect(&store).contents, 4);
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

fn sound_after_flush(dir: &Scratch, store: &Store, expected: &BTreeSet<Digest>) {
    store.flush().unwrap();
    assert_eq!(files(&dir.root()), *expected);
    sound(dir, store);
}

#[test]
fn journalled_garbage_never_gets_a_file() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    for n in 0..100 {
        here.push_bytes(format!("garbage {n}")).unwrap();
    }
    assert_eq!(files(&dir.root()).len(), 0);
    let report = collect(&store);
    assert_eq!((report.contents, report.files, report.waiting), (100, 0, 0));
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

#[test]
fn content_of_a_deleted_repository_goes_unless_another_one_has_it() {
    let (dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let (one, two) = (image("one", 2), image("two", 2));
    one.push(&a, &["v1"]);
    two.push(&a, &[]);
    two.push(&b, &["v1"]);
    a.push_bytes("loose").unwrap();
    store.flush().unwrap();
    assert!(store.delete_repository(&name("a")).unwrap());
    let report = collect(&store);
    assert_eq!(report.contents, 5, "{report:?}");
    sound_after_flush(&dir, &store, &of(&[&two]));
}

#[test]
fn referrers_of_a_removed_subject_go_and_those_of_one_that_never_came_stay() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let subject = image("subject", 1);
    let never = image("never", 1);
    let (signed, named) = (referrer(&subject, "a/b", "signed"), referrer(&subject, "a/b", "named"));
    let (of_referrer, lonely) = (referrer(&signed, "a/b", "deeper"), referrer(&never, "a/b", "lonely"));
    subject.push(&here, &["v1"]);
    signed.push(&here, &[]);
    named.push(&here, &["keep"]);
    of_referrer.push(&here, &[]);
    lonely.push(&here, &[]);
    store.flush().unwrap();
    assert_eq!(collect(&store).manifests, 0);
    delete(&store, &here, &subject.digest());
    let late = referrer(&subject, "a/b", "late");
    late.push(&here, &[]);
    let would = store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap();
    let report = collect(&store);
    assert_eq!((report.manifests, would.manifests), (2, 2), "{report:?}");
    assert_eq!((report.contents, report.bytes), (would.contents, would.bytes));
    sound_after_flush(&dir, &store, &of(&[&named, &lonely, &late]));
}

#[test]
fn a_subject_that_comes_back_keeps_its_referrers() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let subject = image("subject", 1);
    let signed = referrer(&subject, "a/b", "signed");
    subject.push(&here, &["v1"]);
    signed.push(&here, &[]);
    delete(&store, &here, &subject.digest());
    subject.push(&here, &["v1"]);
    assert_eq!(collect(&store).manifests, 0);
    sound_after_flush(&dir, &store, &of(&[&subject, &signed]));
}

#[test]
fn untagged_manifests_stay_or_go_as_the_policy_says() {
    let dir = scratch();
    let store = options().create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let (old, new) = (image("old", 1), image("new", 1));
    let child = image("child", 1);
    let (inner, outer) = (index(&[&child]), index(&[&index(&[&child])]));
    old.push(&here, &["latest"]);
    new.push(&here, &["latest"]);
    for artifact in [&child, &inner, &outer] {
        artifact.push(&here, &[]);
    }
    assert_eq!(collect(&store).manifests, 0, "they are kept by default");
    drop(here);
    store.close().unwrap();
    let policy = |after| options().answers(Answers::Local).untagged(Untagged::ExpireAfter(after));
    let store = policy(Duration::from_secs(3600)).open(dir.root()).unwrap();
    assert_eq!(collect(&store).manifests, 0, "they are not old enough");
    store.close().unwrap();
    let store = policy(Duration::ZERO).open(dir.root()).unwrap();
    let would = store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap();
    let report = collect(&store);
    assert_eq!((report.manifests, would.manifests), (4, 4), "{report:?} {would:?}");
    assert_eq!((report.contents, report.bytes), (would.contents, would.bytes));
    sound_after_flush(&dir, &store, &of(&[&new]));
}

#[test]
fn a_manifest_that_is_tagged_again_waits_anew() {
    let dir = scratch();
    let store =
        options().untagged(Untagged::ExpireAfter(Duration::from_millis(400))).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let image = image("image", 1);
    let digest = image.push(&here, &[]);
    std::thread::sleep(Duration::from_millis(350));
    here.tag(&tag("v1"), &digest, Expect::Any).unwrap();
    here.untag(&tag("v1"), Expect::Any).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(collect(&store).manifests, 0, "it lost its name a moment ago");
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(collect(&store).manifests, 1);
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

#[test]
fn an_unreadable_manifest_stays_with_what_it_may_refer_to() {
    let dir = scratch();
    let store = options().untagged(Untagged::ExpireAfter(Duration::ZERO)).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let (bad, good) = (image("bad", 2), image("good", 1));
    bad.push(&here, &[]);
    good.push(&here, &[]);
    store.flush().unwrap();
    let path = blob_path(&dir.root(), &bad.digest());
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'x'; bad.bytes.len()]).unwrap();
    let report = collect(&store);
    assert_eq!((report.manifests, report.kept.unreadable), (1, 1), "{report:?}");
    let found = &report.unreadable[0];
    assert_eq!((report.unreadable.len(), found.digest), (1, bad.digest()));
    assert_eq!(found.repository, *here.name());
    assert!(found.reason.contains("cannot be parsed"), "{}", found.reason);
    for part in &bad.parts {
        assert!(here.get(&digest_of(part)).unwrap().is_some());
    }
    assert!(!store.verify().read_data(true).run().unwrap().is_sound());
    bad.push(&here, &[]);
    assert_eq!(collect(&store).manifests, 1, "a push healed it");
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

#[test]
fn content_that_comes_back_before_its_file_went_keeps_it() {
    let dir = scratch();
    let store = options().publish(Publish::Manual).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let (back, gone) = (image("back", 2), image("gone", 1));
    for artifact in [&back, &gone] {
        artifact.push(&here, &["v"]);
        store.flush().unwrap();
        delete(&store, &here, &artifact.digest());
    }
    let report = collect(&store);
    assert_eq!((report.contents, report.files), (back.parts.len() as u64 + gone.parts.len() as u64 + 2, 0));
    assert_eq!(report.waiting, report.contents, "publishing is a person's to do");
    assert_eq!(files(&dir.root()), of(&[&back, &gone]), "index.json may still reach them");
    Layout::sound(&dir.root());
    assert!(here.stat(&back.digest()).unwrap().is_none());
    back.push(&here, &["v"]);
    sound_after_flush(&dir, &store, &of(&[&back]));
    let report = collect(&store);
    assert_eq!((report.contents, report.files, report.waiting), (0, 0, 0), "{report:?}");
}

#[test]
fn a_crash_between_the_phases_is_finished_by_the_next_open() {
    let dir = scratch();
    let store = options().publish(Publish::Manual).create(dir.root()).unwrap();
    let here = repo(&store, "r");
    let (keep, gone) = (image("keep", 1), image("gone", 2));
    keep.push(&here, &["keep"]);
    gone.push(&here, &["gone"]);
    store.flush().unwrap();
    delete(&store, &here, &gone.digest());
    assert_eq!(collect(&store).waiting, 4);
    drop(here);
    crash(&dir, store);
    Layout::sound(&dir.root());
    let store = options().open(dir.root()).unwrap();
    sound_after_flush(&dir, &store, &of(&[&keep]));
}

#[test]
fn a_reader_keeps_what_it_has_open() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let bytes = noise(7, 1 << 20);
    let digest = here.push_bytes(bytes.clone()).unwrap().digest;
    let (blob, mut reader) = (here.get(&digest).unwrap().unwrap(), here.reader(&digest).unwrap().unwrap());
    assert_eq!(collect(&store).files, 1);
    assert!(here.get(&digest).unwrap().is_none());
    assert_eq!(blob[..], bytes[..]);
    let mut again = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut again).unwrap();
    assert_eq!(again, bytes);
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

#[test]
fn what_entries_of_other_tools_reach_stays() {
    let (dir, store) = fresh();
    let here = repo(&store, "");
    let image = image("foreign", 2);
    image.push(&here, &["v1"]);
    store.flush().unwrap();
    let index = dir.root().join("index.json");
    let text = fs::read_to_string(&index).unwrap().replace("\"v1\"", "\"not a name!\"");
    fs::write(&index, text).unwrap();
    store.flush().unwrap();
    here.untag(&tag("v1"), Expect::Any).unwrap();
    delete(&store, &here, &image.digest());
    let report = collect(&store);
    assert_eq!((report.contents, report.kept.foreign), (0, 4), "{report:?}");
    store.flush().unwrap();
    assert_eq!(files(&dir.root()), of(&[&image]));
    Layout::sound(&dir.root());
}

#[test]
fn what_another_tool_names_again_meanwhile_is_back() {
    let dir = scratch();
    let store = options().publish(Publish::OnClose).create(dir.root()).unwrap();
    let here = repo(&store, "");
    let image = image("again", 2);
    image.push(&here, &["v1"]);
    store.flush().unwrap();
    let named = fs::read_to_string(dir.root().join("index.json")).unwrap();
    delete(&store, &here, &image.digest());
    store.flush().unwrap();
    fs::write(dir.root().join("index.json"), named.replace("\"v1\"", "\"v2\"")).unwrap();
    let report = collect(&store);
    assert_eq!((report.contents, report.files), (4, 0), "{report:?}");
    sound_after_flush(&dir, &store, &of(&[&image]));
    assert_eq!(tags(&here), [("v2".to_owned(), image.digest())]);
}

#[test]
fn steps_do_a_part_each_and_come_to_the_same_end() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    for n in 0..300 {
        here.push_bytes(format!("garbage {n}")).unwrap();
    }
    store.flush().unwrap();
    let mut collector = store.collector().grace(Duration::ZERO).items(70);
    let (mut steps, mut contents) = (0, 0);
    loop {
        let report = collector.step().unwrap();
        assert!(report.contents <= 70, "{report:?}");
        steps += 1;
        contents += report.contents;
        if report.complete {
            break;
        }
    }
    assert!(steps >= 5, "{steps}");
    assert_eq!(contents, 300);
    drop(collector);
    sound_after_flush(&dir, &store, &BTreeSet::new());
}

#[test]
fn a_file_that_cannot_be_taken_away_is_told_and_tried_again() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let digest = here.push_bytes(noise(1, 50_000)).unwrap().digest;
    let other = here.push_bytes(noise(2, 50_000)).unwrap().digest;
    store.flush().unwrap();
    // Something that no unlink takes away.
    let path = blob_path(&dir.root(), &digest);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let report = store.collector().grace(Duration::ZERO).run().unwrap();
    assert_eq!((report.contents, report.files, report.waiting), (2, 1, 1), "{report:?}");
    assert_eq!((report.failed.len(), report.failed[0].digest), (1, digest));
    assert!(!blob_path(&dir.root(), &other).exists());
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "left").unwrap();
    let report = collect(&store);
    assert_eq!((report.files, report.waiting), (1, 0));
    assert_eq!(files(&dir.root()).len(), 0);
}

#[test]
fn listed_content_is_deleted_only_if_that_is_asked_for_and_the_rest_is_known_to_lack_it() {
    let (dir, store) = fresh();
    let here = repo(&store, "r");
    let child = image("child", 1);
    let list = index(&[&child]);
    child.push(&here, &[]);
    list.push(&here, &["list"]);
    store.flush().unwrap();
    let remove = |listed| {
        let mut batch = store.batch();
        batch.delete_listed_manifest(&here, &child.digest(), listed);
        batch.commit()
    };
    fails(remove(Listed::Refuse), ErrorKind::Conflict, &[&child.digest().to_string()]);
    remove(Listed::Allow).unwrap();
    assert_eq!(collect(&store).contents, 3);
    store.flush().unwrap();
    assert_eq!(files(&dir.root()), of(&[&list]));
    assert!(here.manifest(&list.digest()).unwrap().is_some());
    let text = fs::read_to_string(dir.root().join("index.json")).unwrap();
    assert!(text.contains("sparse") && text.contains(&child.digest().to_string()), "{text}");
    let report = store.verify().index(true).run().unwrap();
    assert!(report.is_sound() && report.unheld == 0, "{:?}", report.findings);
    child.push(&here, &[]);
    assert_eq!(collect(&store).manifests, 0, "the index names it again");
    let layer = digest_of(&child.parts[0]);
    let mut batch = store.batch();
    batch.delete_listed_blob(&here, &layer, Listed::Allow);
    batch.commit().unwrap();
    assert_eq!(collect(&store).contents, 1);
    assert!(store.verify().index(true).run().unwrap().is_sound());
}

#[test]
fn a_store_that_is_told_to_collects_by_itself() {
    let dir = scratch();
    let every = Duration::from_millis(20);
    let options = options().grace(Duration::ZERO).collect(orlop::Collect::Background { every });
    let store = options.create(dir.root()).unwrap();
    let digest = repo(&store, "r").push_bytes(noise(3, 40_000)).unwrap().digest;
    let path = blob_path(&dir.root(), &digest);
    for _ in 0..500 {
        if !path.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!path.exists(), "nobody collected it");
    store.close().unwrap();
    let wrong = Options::new().collect(orlop::Collect::Background { every: Duration::ZERO });
    fails(wrong.open(dir.root()), ErrorKind::Invalid, &["every="]);
}

#[test]
fn who_cannot_collect_is_told_so() {
    let (dir, store) = fresh();
    repo(&store, "r").push_bytes("x").unwrap();
    let longer = Duration::from_secs(48 * 60 * 60);
    fails(store.collector().grace(longer).run(), ErrorKind::Invalid, &["grace=", "maximum="]);
    store.close().unwrap();
    let store = options().open_read_only(dir.root()).unwrap();
    fails(store.collector().run(), ErrorKind::ReadOnly, &[]);
    let plain = options().open_plain(dir.path("plain")).unwrap();
    fails(plain.collector().run(), ErrorKind::Unsupported, &["path="]);
    fails(
        Options::new().grace(Duration::from_secs(400 * 24 * 60 * 60)).open(dir.root()),
        ErrorKind::Invalid,
        &["grace="],
    );
}
