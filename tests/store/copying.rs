//! Copying between repositories: everything that belongs to an artifact goes, hashed, and only whole.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use orlop::oci::Role;
use orlop::transfer::{Copier, Step};
use orlop::{Algorithm, ErrorKind, Options, Repository, Sharing};

use crate::support::*;

/// A multi-platform image with an SBOM on the index, a signature on that, and a signature on one of the children.
fn family(repository: &Repository) -> (Artifact, Vec<Artifact>) {
    let (one, two) = (image("one", 2), image("two", 1));
    one.push(repository, &[]);
    two.push(repository, &[]);
    let list = index(&[&one, &two]);
    list.push(repository, &["v1"]);
    let sbom = referrer(&list, "application/sbom", "sbom");
    let signature = referrer(&sbom, "application/signature", "of the sbom");
    let child = referrer(&one, "application/signature", "of one");
    for artifact in [&sbom, &signature, &child] {
        artifact.push(repository, &[]);
    }
    (list, vec![one, two, sbom, signature, child])
}

#[test]
fn an_artifact_goes_with_what_it_refers_to_and_what_refers_to_it() {
    let (_a, source) = fresh();
    let (dir, target) = fresh();
    let (from, to) = (repo(&source, "from"), repo(&target, "to"));
    let (list, parts) = family(&from);
    image("other", 1).push(&from, &["other"]);
    let copied = Copier::new(&from, &to).copy(&list.digest(), &[tag("v1")]).unwrap();
    assert_eq!((copied.manifests, copied.absent.len(), copied.present), (3, 0, 0));
    assert_eq!(tags(&to), [("v1".to_owned(), list.digest())]);
    assert!(to.stat(&parts[2].digest()).unwrap().is_none(), "what is attached stays without being asked for");

    let copied = Copier::new(&from, &to).referrers(true).copy(&list.digest(), &[tag("v2")]).unwrap();
    assert_eq!(copied.manifests, 6);
    for part in parts.iter().chain([&list]) {
        for blob in part.blobs() {
            assert!(to.get(&digest_of(blob)).unwrap().is_some_and(|found| found[..] == blob[..]));
        }
    }
    assert_eq!(to.referrers(&parts[0].digest()).page().unwrap().descriptors.len(), 1);
    assert!(to.stat(&image("other", 1).digest()).unwrap().is_none(), "nothing else goes");
    target.flush().unwrap();
    Layout::sound(&dir.root());
    // Once more there is nothing to do.
    let again = Copier::new(&from, &to).referrers(true).copy(&list.digest(), &[]).unwrap();
    assert_eq!((again.copied, again.bytes, again.manifests), (0, 0, 6));
    assert!(again.present > 6);
}

#[test]
fn a_referrer_brings_its_subject() {
    let (_a, source) = fresh();
    let (_b, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let image = image("i", 1);
    image.push(&from, &["v1"]);
    let sbom = referrer(&image, "application/sbom", "s");
    sbom.push(&from, &[]);
    let lost =
        referrer_to(&descriptor(IMAGE, b"never pushed"), "application/sbom", "l", &serde_json::json!({}));
    lost.push(&from, &[]);
    Copier::new(&from, &to).copy(&sbom.digest(), &[]).unwrap();
    assert!(to.manifest(&image.digest()).unwrap().is_some());
    let copied = Copier::new(&from, &to).copy(&lost.digest(), &[]).unwrap();
    assert_eq!(copied.absent.iter().map(|absent| absent.role).collect::<Vec<_>>(), [Role::Subject]);
}

#[test]
fn within_one_store_nothing_is_read_twice_or_written() {
    let (dir, store) = fresh();
    let (from, to) = (repo(&store, "a"), repo(&store, "b"));
    let large = noise(3, 400_000);
    let (list, _) = family(&from);
    from.push_bytes(large).unwrap();
    store.flush().unwrap();
    let before = tree(&dir.root().join("blobs"));
    let copied = Copier::new(&from, &to).referrers(true).copy(&list.digest(), &[tag("v1")]).unwrap();
    assert_eq!(copied.copied, 6, "only the manifests are new to the repository");
    store.flush().unwrap();
    assert_eq!(tree(&dir.root().join("blobs")), before);
    assert_eq!(tags(&to), [("v1".to_owned(), list.digest())]);
}

fn large_image(seed: u64) -> (Artifact, Vec<u8>) {
    let layer = noise(seed, 3_000_000);
    let mut artifact = image(&seed.to_string(), 0);
    let config = artifact.parts[0].clone();
    let body = serde_json::json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)]});
    artifact.bytes = serde_json::to_vec(&body).unwrap();
    artifact.parts.push(layer.clone());
    (artifact, layer)
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn content_is_shared_only_where_nobody_can_write_it() {
    let (source_dir, source) = fresh();
    let from = source.default_repository();
    let (image, layer) = large_image(1);
    image.push(&from, &["v1"]);
    source.flush().unwrap();
    let path = |dir: &Scratch| blob_path(&dir.root(), &digest_of(&layer));
    let copy = |sharing| {
        let (dir, target) = fresh();
        Copier::new(&from, &target.default_repository())
            .sharing(sharing)
            .copy(&image.digest(), &[tag("v1")])
            .unwrap();
        target.close().unwrap();
        Layout::sound(&dir.root());
        dir
    };
    // A filesystem that can share blocks does that instead; then the inodes differ as with copies.
    let linked = copy(Sharing::Link);
    let can_clone = inode(&path(&linked)) != inode(&path(&source_dir));
    if !can_clone {
        assert_eq!(fs::metadata(path(&linked)).unwrap().nlink(), 2);
    }
    for sharing in [Sharing::Reflink, Sharing::Never] {
        assert_ne!(inode(&path(&copy(sharing))), inode(&path(&source_dir)));
    }
    // A file that its owner may write is never shared: another tool may do so.
    fs::set_permissions(path(&source_dir), fs::Permissions::from_mode(0o644)).unwrap();
    assert_ne!(inode(&path(&copy(Sharing::Link))), inode(&path(&source_dir)));
}

#[test]
fn damage_at_the_destination_is_healed_and_damage_at_the_source_is_refused() {
    let (source_dir, source) = fresh();
    let (dir, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let (image, layer) = large_image(2);
    image.push(&from, &["v1"]);
    source.flush().unwrap();
    let copy = |verify| {
        Copier::new(&from, &to).sharing(Sharing::Never).verify(verify).copy(&image.digest(), &[tag("v1")])
    };
    copy(true).unwrap();
    target.flush().unwrap();
    let spoil = |dir: &Scratch| damage(&blob_path(&dir.root(), &digest_of(&layer)));
    spoil(&dir);
    assert_eq!(copy(false).unwrap().copied, 0, "without hashing, the size is right");
    assert_eq!(Layout::read(&dir.root()).wrong.len(), 1);
    let healed = copy(true).unwrap();
    assert_eq!((healed.copied, healed.bytes), (1, 3_000_000));
    target.flush().unwrap();
    Layout::sound(&dir.root());

    let (_dir, empty) = fresh();
    spoil(&source_dir);
    let to = empty.default_repository();
    let result = Copier::new(&from, &to).copy(&image.digest(), &[tag("v1")]);
    fails(result, ErrorKind::Mismatch, &[&digest_of(&layer).to_string()]);
    assert_eq!(tags(&to), []);
    assert!(to.manifest(&image.digest()).unwrap().is_none());
}

#[test]
fn what_may_be_absent_stays_absent_and_is_told() {
    let (_a, source) = fresh();
    let (dir, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let (have, lack) = (image("have", 1), image("lack", 1));
    have.push(&from, &[]);
    let list = index(&[&have, &lack]);
    let mut batch = source.batch();
    batch.push_sparse_manifest(&from, INDEX, list.bytes.clone(), Algorithm::Sha256).unwrap();
    batch.commit().unwrap();
    let copied = Copier::new(&from, &to).copy(&list.digest(), &[tag("v1")]).unwrap();
    let absent: Vec<_> =
        copied.absent.iter().map(|absent| (absent.digest, absent.manifest, absent.role)).collect();
    assert_eq!(absent, [(lack.digest(), list.digest(), Role::Manifest)]);
    target.flush().unwrap();
    assert_eq!(Layout::read(&dir.root()).wrong, [format!("missing {}", lack.digest())]);
    // When the source gets it, the copy gets it too.
    lack.push(&from, &[]);
    let copied = Copier::new(&from, &to).copy(&list.digest(), &[]).unwrap();
    assert_eq!(copied.absent, []);
    target.flush().unwrap();
    Layout::sound(&dir.root());
}

#[test]
fn what_must_not_be_absent_ends_the_copy() {
    let dir = scratch();
    let image = image("i", 1);
    plain_layout(&dir.root(), &[(Some("v1"), &image)], &[]);
    let layer = digest_of(&image.parts[0]);
    fs::remove_file(blob_path(&dir.root(), &layer)).unwrap();
    let source = Options::new().open_read_only(dir.root()).unwrap();
    let (_b, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let result = Copier::new(&from, &to).copy(&image.digest(), &[tag("v1")]);
    fails(result, ErrorKind::NotFound, &[&layer.to_string(), &image.digest().to_string()]);
    assert_eq!(tags(&to), []);
    fails(Copier::new(&from, &to).copy(&absent(), &[]), ErrorKind::NotFound, &[&absent().to_string()]);
}

#[test]
fn a_copy_can_be_watched_and_stopped() {
    let (_a, source) = fresh();
    let (dir, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let (list, _) = family(&from);
    let mut seen = Vec::new();
    Copier::new(&from, &repo(&target, "all"))
        .watch(|step| {
            if let Step::Begin(descriptor) = step {
                seen.push(descriptor.digest);
            }
            ControlFlow::Continue(())
        })
        .copy(&list.digest(), &[])
        .unwrap();
    assert_eq!(seen.last(), Some(&list.digest()), "an index comes after what it lists");
    for stop in 0..seen.len() {
        let mut count = 0;
        let result = Copier::new(&from, &to)
            .watch(|step| {
                count += usize::from(matches!(step, Step::Begin(_)));
                if count > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .copy(&list.digest(), &[tag("v1")]);
        fails(result, ErrorKind::Interrupted, &[]);
        assert_eq!(tags(&to), []);
        assert_eq!(to.manifests(None, 9).unwrap().items, [], "no manifest is visible before all is there");
    }
    target.flush().unwrap();
    Layout::sound(&dir.root());
}

#[test]
fn a_small_world_of_referrers_that_refer_to_each_other_ends() {
    let (_a, source) = fresh();
    let (_b, target) = fresh();
    let (from, to) = (source.default_repository(), target.default_repository());
    let root = image("root", 1);
    root.push(&from, &["v1"]);
    let mut last = root.clone();
    for depth in 0..300 {
        let next = referrer(&last, "application/link", &depth.to_string());
        next.push(&from, &[]);
        last = next;
    }
    let copied = Copier::new(&from, &to).referrers(true).copy(&root.digest(), &[tag("v1")]).unwrap();
    assert_eq!(copied.manifests, 301);
    assert!(to.manifest(&last.digest()).unwrap().is_some());
    // And up again, from the last one.
    let (_c, other) = fresh();
    let to = other.default_repository();
    assert_eq!(Copier::new(&from, &to).copy(&last.digest(), &[]).unwrap().manifests, 301);
}
