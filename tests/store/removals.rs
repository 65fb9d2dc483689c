//! Removing manifests and blobs from a repository: gone at once with tags and graph, and never from under something.

use std::fs;

use orlop::{ErrorKind, Expect, Repository, Store};

use crate::support::*;

fn delete_manifest(store: &Store, repository: &Repository, artifact: &Artifact) -> orlop::Result<()> {
    let mut batch = store.batch();
    batch.delete_manifest(repository, &artifact.digest());
    batch.commit().map(|_| ())
}

#[test]
fn a_manifest_goes_with_its_tags_and_its_part_of_the_graph_in_one_repository() {
    let (dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let image = image("i", 2);
    let sbom = referrer(&image, "application/sbom", "s");
    for repository in [&a, &b] {
        image.push(repository, &["v1", "v2"]);
        sbom.push(repository, &[]);
    }
    store.flush().unwrap();
    let mut batch = store.batch();
    batch.delete_manifest(&a, &image.digest());
    let committed = batch.commit().unwrap();
    let removed: Vec<_> = committed
        .tags
        .iter()
        .map(|change| (change.tag.to_string(), change.previous, change.current))
        .collect();
    assert_eq!(
        removed,
        [("v1".to_owned(), Some(image.digest()), None), ("v2".to_owned(), Some(image.digest()), None)]
    );
    let check = |store: &Store| {
        let (a, b) = (repo(store, "a"), repo(store, "b"));
        assert!(a.manifest(&image.digest()).unwrap().is_none());
        assert!(
            a.stat(&image.digest()).unwrap().is_none() && a.successors(&image.digest()).unwrap().is_none()
        );
        assert_eq!(tags(&a), []);
        for blob in &image.parts {
            assert!(a.stat(&digest_of(blob)).unwrap().is_some(), "what it referred to stays");
            assert_eq!(a.predecessors(&digest_of(blob), None, 9).unwrap().items.len(), 0);
        }
        assert_eq!(a.referrers(&image.digest()).page().unwrap().descriptors.len(), 1, "its referrer stays");
        assert_eq!(tags(&b).len(), 2);
        assert!(b.manifest(&image.digest()).unwrap().is_some());
    };
    check(&store);
    store.flush().unwrap();
    let layout = Layout::sound(&dir.root());
    assert_eq!(layout.names().into_keys().collect::<Vec<_>>(), ["b:v1", "b:v2"]);
    drop((a, b));
    store.close().unwrap();
    check(&options().open(dir.root()).unwrap());
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert!(
        repo(&store, "a").manifest(&image.digest()).unwrap().is_none(),
        "a rebuild does not bring it back"
    );
    assert_eq!(tags(&repo(&store, "b")).len(), 2);
}

#[test]
fn a_referrer_that_goes_is_no_longer_listed() {
    let (_dir, store) = fresh();
    let a = repo(&store, "a");
    let image = image("i", 1);
    image.push(&a, &["v1"]);
    let (one, two) = (referrer(&image, "application/one", "1"), referrer(&image, "application/two", "2"));
    one.push(&a, &[]);
    two.push(&a, &[]);
    delete_manifest(&store, &a, &one).unwrap();
    let page = a.referrers(&image.digest()).page().unwrap();
    assert_eq!(page.descriptors.iter().map(|found| found.digest).collect::<Vec<_>>(), [two.digest()]);
    let page = a.referrers(&image.digest()).artifact_type("application/one").page().unwrap();
    assert_eq!(page.descriptors, []);
    // Back again, it is what it was.
    one.push(&a, &[]);
    assert_eq!(a.referrers(&image.digest()).page().unwrap().descriptors.len(), 2);
}

#[test]
fn nothing_goes_from_under_a_manifest_that_stays() {
    let (_dir, store) = fresh();
    let a = repo(&store, "a");
    let (one, two) = (image("1", 1), image("2", 1));
    one.push(&a, &[]);
    two.push(&a, &[]);
    let index = index(&[&one, &two]);
    index.push(&a, &["multi"]);
    let before = describe(&store);
    let error = delete_manifest(&store, &a, &one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("manifest={}", index.digest())), "{error}");
    let layer = digest_of(one.blobs().next().unwrap());
    let mut batch = store.batch();
    batch.delete_blob(&a, &layer);
    let error = batch.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("manifest={}", one.digest())), "{error}");
    assert_eq!(describe(&store), before, "a refusal changes nothing");
    // With the index, they go together, in whatever order.
    let mut batch = store.batch();
    batch.delete_blob(&a, &layer);
    batch.delete_manifest(&a, &one.digest());
    batch.delete_manifest(&a, &index.digest());
    batch.commit().unwrap();
    assert!(a.stat(&layer).unwrap().is_none() && a.stat(&one.digest()).unwrap().is_none());
    assert!(a.stat(&two.digest()).unwrap().is_some());
    assert_eq!(tags(&a), []);
}

#[test]
fn what_is_not_held_is_named() {
    let (_dir, store) = fresh();
    let (a, b) = (repo(&store, "a"), repo(&store, "b"));
    let image = image("i", 1);
    image.push(&a, &["v1"]);
    for repository in [&b, &repo(&store, "none")] {
        let name = format!("repository={}", repository.name());
        fails(
            delete_manifest(&store, repository, &image),
            ErrorKind::NotFound,
            &[&image.digest().to_string(), &name],
        );
    }
    // A manifest is no blob, and a blob no manifest.
    let layer = digest_of(image.blobs().next().unwrap());
    for (manifest, blob) in [(Some(layer), None), (None, Some(image.digest()))] {
        let mut batch = store.batch();
        manifest.inspect(|digest| batch.delete_manifest(&a, digest));
        blob.inspect(|digest| batch.delete_blob(&a, digest));
        fails(batch.commit(), ErrorKind::NotFound, &["repository=a"]);
    }
    let (_other, stranger) = fresh();
    let mut batch = stranger.batch();
    batch.delete_manifest(&a, &image.digest());
    fails(batch.commit(), ErrorKind::Invalid, &["repository=a"]);
}

#[test]
fn one_batch_removes_and_adds_as_if_the_removal_came_first() {
    let (_dir, store) = fresh();
    let a = repo(&store, "a");
    let (old, new) = (image("old", 1), image("new", 1));
    old.push(&a, &["v1", "old"]);
    new.push(&a, &[]);
    let mut batch = store.batch();
    batch.tag(&a, &tag("v1"), new.digest(), Expect::Is(old.digest()));
    batch.delete_manifest(&a, &old.digest());
    batch.commit().unwrap();
    assert_eq!(tags(&a), [("v1".to_owned(), new.digest())]);
    // What goes cannot be tagged, listed or mounted by the same batch, nor come back with it.
    let mut batch = store.batch();
    batch.delete_manifest(&a, &new.digest());
    batch.tag(&a, &tag("v2"), new.digest(), Expect::Any);
    fails(batch.commit(), ErrorKind::NotFound, &["tag=v2"]);
    let mut batch = store.batch();
    batch.delete_manifest(&a, &new.digest());
    let list = index(&[&new]);
    batch.push_manifest(&a, "application/vnd.oci.image.index.v1+json", list.bytes.clone()).unwrap();
    fails(batch.commit(), ErrorKind::NotFound, &[&new.digest().to_string()]);
    let mut batch = store.batch();
    batch.delete_manifest(&a, &new.digest());
    batch.mount(&repo(&store, "b"), &a, &new.digest()).unwrap();
    fails(batch.commit(), ErrorKind::NotFound, &["repository=a"]);
    let mut batch = store.batch();
    batch.push_manifest(&a, "application/vnd.oci.image.manifest.v1+json", new.bytes.clone()).unwrap();
    batch.delete_manifest(&a, &new.digest());
    fails(batch.commit(), ErrorKind::Invalid, &["repository=a"]);
    assert_eq!(tags(&a), [("v1".to_owned(), new.digest())]);
}

#[test]
fn an_older_index_of_another_tool_does_not_bring_it_back() {
    let (dir, store) = fresh();
    let a = repo(&store, "a");
    let (tagged, untagged, other) = (image("t", 1), image("u", 1), image("o", 1));
    tagged.push(&a, &["v1"]);
    untagged.push(&a, &[]);
    other.push(&a, &["keep"]);
    store.flush().unwrap();
    let old = fs::read(dir.root().join("index.json")).unwrap();
    delete_manifest(&store, &a, &tagged).unwrap();
    delete_manifest(&store, &a, &untagged).unwrap();
    // Another tool writes the file as it knew it.
    fs::write(dir.root().join("index.json"), &old).unwrap();
    edit_index(&dir.root(), |entries| entries.push(entry(Some("a:more"), &other)));
    store.flush().unwrap();
    assert!(a.stat(&tagged.digest()).unwrap().is_none() && a.stat(&untagged.digest()).unwrap().is_none());
    assert_eq!(
        tags(&a),
        [("keep".to_owned(), other.digest()), ("more".to_owned(), other.digest())],
        "what they added is there"
    );
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_removed() {
    let (dir, store) = fresh();
    let a = repo(&store, "a");
    let image = image("i", 1);
    image.push(&a, &["v1"]);
    store.flush().unwrap();
    drop(a);
    store.close().unwrap();
    fs::remove_file(blob_path(&dir.root(), &image.digest())).unwrap();
    let store = options().open(dir.root()).unwrap();
    let a = repo(&store, "a");
    fails(delete_manifest(&store, &a, &image), ErrorKind::Corrupt, &[&image.digest().to_string()]);
    assert_eq!(tags(&a).len(), 1);
}
