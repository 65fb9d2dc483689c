//! Plain layouts: written without a trace of ours, merged like any other, and never half written.

use std::fs;
use std::time::Duration;

use orlop::{ErrorKind, Expect};

use crate::support::*;

fn names_in(dir: &Scratch) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_but_the_layout_stays() {
    let dir = scratch();
    let store = options().open_plain(dir.root()).unwrap();
    assert_eq!(Layout::sound(&dir.root()).entries.len(), 0, "a new one is a layout at once");
    let a = store.default_repository();
    let image = image("i", 2);
    let large = noise(1, 300_000);
    image.push(&a, &["v1"]);
    referrer(&image, "application/sbom", "s").push(&a, &[]);
    image.push(&repo(&store, "team/app"), &["v2"]);
    a.push_bytes(large.clone()).unwrap();
    let before = describe(&store);
    drop(a);
    store.close().unwrap();
    assert_eq!(names_in(&dir), ["blobs", "index.json", "oci-layout"]);
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names().into_keys().collect::<Vec<_>>(), ["team/app:v2", "v1"]);
    assert_eq!(layout.untagged().len(), 1);

    // Again, and all of it but what nothing refers to is known.
    let store = options().open_plain(dir.root()).unwrap();
    let unreferenced = digest_of(&large).to_string();
    let after: std::collections::BTreeSet<String> =
        before.into_iter().filter(|line| !line.contains(&unreferenced)).collect();
    assert_eq!(describe(&store), after);
    store.default_repository().tag(&tag("v3"), &image.digest(), Expect::Absent).unwrap();
    store.close().unwrap();
    assert_eq!(names_in(&dir), ["blobs", "index.json", "oci-layout"]);
    assert!(Layout::sound(&dir.root()).names().contains_key("v3"));
}

#[test]
fn a_store_takes_it_in_and_is_refused_as_plain() {
    let dir = scratch();
    let store = options().open_plain(dir.root()).unwrap();
    let image = image("i", 1);
    image.push(&repo(&store, "a"), &["v1"]);
    store.close().unwrap();
    let store = options().create(dir.root()).unwrap();
    assert_eq!(tags(&repo(&store, "a")), [("v1".to_owned(), image.digest())]);
    store.close().unwrap();
    let root = dir.root().display().to_string();
    fails(options().open_plain(dir.root()), ErrorKind::Conflict, &[&root]);
}

#[test]
fn what_is_unchanged_is_not_written() {
    let dir = scratch();
    let image = image("i", 1);
    plain_layout(&dir.root(), &[(Some("v1"), &image)], &[]);
    let before = tree(&dir.root());
    let store = options().open_plain(dir.root()).unwrap();
    fails(store.default_repository().tag(&tag("v2"), &absent(), Expect::Any), ErrorKind::NotFound, &[]);
    store.close().unwrap();
    let after = tree(&dir.root());
    assert_eq!(
        before.keys().filter(|path| before.get(*path) != after.get(*path)).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert_eq!(after.len(), before.len());
}

#[test]
fn edits_of_other_tools_are_merged_while_it_is_open() {
    let dir = scratch();
    let (one, two) = (image("1", 1), image("2", 1));
    plain_layout(&dir.root(), &[(Some("one"), &one)], &[&two]);
    let store = options().open_plain(dir.root()).unwrap();
    let a = store.default_repository();
    image("3", 1).push(&a, &["three"]);
    edit_index(&dir.root(), |entries| entries.push(entry(Some("two"), &two)));
    drop(a);
    store.close().unwrap();
    let names = Layout::sound(&dir.root()).names();
    assert_eq!(names.into_keys().collect::<Vec<_>>(), ["one", "three", "two"]);
}

#[test]
fn a_push_heals_a_damaged_file() {
    let dir = scratch();
    let image = image("i", 1);
    plain_layout(&dir.root(), &[(Some("v1"), &image)], &[]);
    let layer = &image.parts[0];
    fs::write(blob_path(&dir.root(), &digest_of(layer)), vec![b'x'; layer.len()]).unwrap();
    assert_eq!(Layout::read(&dir.root()).wrong.len(), 1);
    let store = options().open_plain(dir.root()).unwrap();
    store.default_repository().push_bytes(layer.clone()).unwrap();
    store.close().unwrap();
    Layout::sound(&dir.root());
}

#[test]
fn one_writes_at_a_time_and_leftovers_are_cleared() {
    let dir = scratch();
    let store = options().open_plain(dir.root()).unwrap();
    let holder = format!("holder=pid {} (", std::process::id());
    fails(options().open_plain(dir.root()), ErrorKind::Locked, &[&holder]);
    let waiting = options().lock_timeout(Duration::from_secs(60));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| waiting.open_plain(dir.root()).map(|store| store.close().unwrap()));
        image("i", 1).push(&store.default_repository(), &["v1"]);
        store.close().unwrap();
        other.join().unwrap().unwrap();
    });
    let left = dir.root().join(".orlop-ingest");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("tmp-0-1"), "half").unwrap();
    options().open_plain(dir.root()).unwrap().close().unwrap();
    assert_eq!(names_in(&dir), ["blobs", "index.json", "oci-layout"]);
    Layout::sound(&dir.root());
}

#[test]
fn what_is_no_layout_is_left_alone() {
    let dir = scratch();
    fs::create_dir(dir.root()).unwrap();
    fs::write(dir.root().join("photo.jpg"), "x").unwrap();
    fails(options().open_plain(dir.root()), ErrorKind::Invalid, &["not an OCI layout"]);
    assert_eq!(names_in(&dir), ["photo.jpg"]);
    let dir = scratch();
    plain_layout(&dir.root(), &[], &[]);
    fs::write(dir.root().join("index.json"), "").unwrap();
    fails(options().open_plain(dir.root()), ErrorKind::Corrupt, &["index.json"]);
    assert_eq!(fs::read(dir.root().join("index.json")).unwrap(), b"");
    assert_eq!(names_in(&dir), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn one_whose_making_was_interrupted_is_completed() {
    for made in [&["blobs"][..], &[".orlop-ingest"], &["blobs", "blobs/sha256", ".orlop-ingest"]] {
        let dir = scratch();
        fs::create_dir(dir.root()).unwrap();
        for name in made {
            fs::create_dir(dir.root().join(name)).unwrap();
        }
        let store = options().open_plain(dir.root()).unwrap();
        image("i", 1).push(&store.default_repository(), &["v1"]);
        store.close().unwrap();
        assert_eq!(names_in(&dir), ["blobs", "index.json", "oci-layout"]);
        Layout::sound(&dir.root());
    }
}

#[test]
fn many_make_one_at_the_same_time() {
    let dir = scratch();
    let options = options().lock_timeout(Duration::from_secs(60));
    std::thread::scope(|scope| {
        for n in 0..12 {
            let (options, root) = (&options, dir.root());
            scope.spawn(move || {
                let store = options.open_plain(root).unwrap();
                image(&n.to_string(), 1).push(&store.default_repository(), &[&format!("t{n}")]);
                store.close().unwrap();
            });
        }
    });
    assert_eq!(Layout::sound(&dir.root()).names().len(), 12);
}

#[test]
fn a_store_and_a_plain_writer_keep_each_other_out() {
    let dir = scratch();
    let plain = options().open_plain(dir.root()).unwrap();
    fails(options().create(dir.root()), ErrorKind::Locked, &[]);
    fails(options().open_or_create(dir.root()), ErrorKind::Locked, &[]);
    assert!(!dir.root().join(".orlop").exists(), "nothing is made beside it");
    plain.close().unwrap();
    let store = options().create(dir.root()).unwrap();
    fails(options().open_plain(dir.root()), ErrorKind::Locked, &[]);
    store.close().unwrap();
    fails(options().open_plain(dir.root()), ErrorKind::Conflict, &[]);
    options().open(dir.root()).unwrap().close().unwrap();
}

#[test]
fn a_refusal_leaves_a_layout_as_it_was() {
    let dir = scratch();
    plain_layout(&dir.root(), &[(Some("v1"), &image("i", 1))], &[]);
    fs::write(dir.root().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let before = tree(&dir.root());
    fails(options().open_plain(dir.root()), ErrorKind::Unsupported, &["2.0.0"]);
    assert_eq!(tree(&dir.root()), before);
}
