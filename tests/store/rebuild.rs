//! Rebuilding: metadata is derived, so what was published comes back, and what was journalled is salvaged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use orlop::{Algorithm, ErrorKind, Expect, Options, Publish, Store};

use crate::support::*;

/// A store with several repositories, tags, referrers, untagged roots and a sparse index; all published.
fn filled() -> (Scratch, Store) {
    let (dir, store) = fresh();
    let (here, app, lib) = (store.default_repository(), repo(&store, "app"), repo(&store, "lib/x"));
    let (one, two, three) = (image("one", 2), image("two", 2), image("three", 1));
    one.push(&here, &["v1", "latest"]);
    two.push(&app, &["v1"]);
    // The same bytes in two repositories, untagged in one of them; a tag in one and none in the other.
    three.push(&app, &[]);
    three.push(&lib, &["v3"]);
    referrer(&one, "application/sig", "a").push(&here, &[]);
    referrer(&two, "application/sig", "b").push(&app, &["sig"]);
    referrer(&image("never", 1), "application/sig", "c").push(&lib, &[]);
    let (have, lack) = (image("have", 1), image("lack", 1));
    have.push(&lib, &[]);
    // What the sparse index of one repository lacks is in the store, held by another.
    lack.push(&app, &[]);
    let mut batch = store.batch();
    let sparse =
        batch.push_sparse_manifest(&lib, INDEX, index(&[&have, &lack]).bytes, Algorithm::Sha256).unwrap();
    batch.tag(&lib, &tag("sparse"), sparse, Expect::Absent);
    let large = batch.push_bytes(&lib, noise(5, 100_000)).unwrap();
    assert_eq!(large, digest_of(&noise(5, 100_000)));
    batch.commit().unwrap();
    store.flush().unwrap();
    (dir, store)
}

/// What is published: content that no manifest names is not.
fn published(store: &Store) -> BTreeSet<String> {
    let unreferenced = digest_of(&noise(5, 100_000)).to_string();
    describe(store).into_iter().filter(|line| !line.contains(&unreferenced)).collect()
}

fn keeps_repositories_apart(store: &Store) {
    let (one, two, lack) = (image("one", 2), image("two", 2), image("lack", 1));
    for part in one.blobs() {
        assert!(repo(store, "").get(&digest_of(part)).unwrap().is_some());
        assert!(
            repo(store, "app").get(&digest_of(part)).unwrap().is_none(),
            "another repository's content shows"
        );
        assert!(repo(store, "lib/x").get(&digest_of(part)).unwrap().is_none());
    }
    for part in two.blobs() {
        assert!(repo(store, "").get(&digest_of(part)).unwrap().is_none());
    }
    assert!(repo(store, "app").manifest(&lack.digest()).unwrap().is_some());
    assert!(
        repo(store, "lib/x").manifest(&lack.digest()).unwrap().is_none(),
        "the sparse index became whole"
    );
    assert!(repo(store, "lib/x").get(&digest_of(&lack.parts[0])).unwrap().is_none());
}

#[test]
fn what_was_published_comes_back_without_the_private_folder() {
    let (dir, store) = filled();
    let expected = published(&store);
    let listed = Layout::read(&dir.root());
    store.close().unwrap();
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    fails(options().open(dir.root()), ErrorKind::NotFound, &[]);
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(published(&store), expected);
    keeps_repositories_apart(&store);
    store.flush().unwrap();
    let again = Layout::read(&dir.root());
    assert_eq!((again.names(), again.untagged()), (listed.names(), listed.untagged()));
    store.close().unwrap();

    // Twice is the same; and `create` takes a layout in as well.
    options().rebuild(dir.root()).unwrap();
    assert_eq!(published(&options().open(dir.root()).unwrap()), expected);
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    let store = options().create(dir.root()).unwrap();
    assert_eq!(published(&store), expected);
    keeps_repositories_apart(&store);
}

#[test]
fn a_healthy_store_is_the_same_after_a_rebuild() {
    let (dir, store) = filled();
    let expected = published(&store);
    store.close().unwrap();
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(published(&store), expected);
    keeps_repositories_apart(&store);
}

/// Overwrites files of the metadata whose name passes.
fn garble(root: &Path, which: impl Fn(&str) -> bool) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(root.join(".orlop/metadata")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && which(path.file_name().unwrap().to_str().unwrap()) {
            let length = fs::metadata(&path).unwrap().len().max(10) as usize;
            fs::write(&path, noise(99, length)).unwrap();
            count += 1;
        }
    }
    count
}

#[test]
fn garbled_metadata_is_corrupt_and_rebuilt_with_nothing_thrown_away() {
    type Which = fn(&str) -> bool;
    let damages: [(&str, Which); 3] = [
        ("CURRENT", |name| name == "CURRENT"),
        ("MANIFEST", |name| name.starts_with("MANIFEST")),
        ("everything", |name| name != "LOCK"),
    ];
    for (what, which) in damages {
        let (dir, store) = filled();
        let expected = published(&store);
        store.close().unwrap();
        assert!(garble(&dir.root(), which) > 0);
        let before = content_tree(&dir.root());
        let error = fails(options().open(dir.root()), ErrorKind::Corrupt, &[]);
        assert!(error.to_string().contains("rebuild"), "{what}: does not say what to do: {error}");
        assert!(options().open_read_only(dir.root()).is_err() || what != "CURRENT");
        assert_eq!(content_tree(&dir.root()), before, "{what}");
        options().rebuild(dir.root()).unwrap();
        let store = options().open(dir.root()).unwrap();
        assert_eq!(published(&store), expected, "{what}");
        keeps_repositories_apart(&store);
        drop(store);
        // The damaged metadata is kept for somebody who wants to look.
        let kept =
            tree(&dir.root().join(".orlop")).into_keys().filter(|path| path.ends_with("CURRENT")).count();
        assert!(kept >= 2, "{what}: the damaged metadata is gone");
    }
}

#[test]
fn journalled_content_and_its_tags_are_salvaged() {
    for what in ["CURRENT", "MANIFEST"] {
        let (dir, store) = filled();
        let late = image("late", 3);
        late.push(&repo(&store, "app"), &["late", "v1"]);
        let sig = referrer(&late, "application/sig", "late");
        sig.push(&repo(&store, "app"), &[]);
        store.default_repository().untag(&tag("latest"), Expect::Any).unwrap();
        assert!(
            !blob_path(&dir.root(), &late.digest()).exists(),
            "this test wants a journal that is not empty"
        );
        crash(&dir, store);
        assert!(garble(&dir.root(), |name| name.starts_with(what)) > 0);
        fails(options().open(dir.root()), ErrorKind::Corrupt, &[]);
        options().rebuild(dir.root()).unwrap();
        let store = options().open(dir.root()).unwrap();
        let app = repo(&store, "app");
        for blob in late.blobs().chain(sig.blobs()) {
            let found = store
                .unscoped()
                .get(&digest_of(blob))
                .unwrap()
                .unwrap_or_else(|| panic!("{what}: lost {}", sha256(blob)));
            assert_eq!(&found[..], &blob[..]);
        }
        assert_eq!(
            app.resolve(&tag("late")).unwrap().map(|found| found.digest),
            Some(late.digest()),
            "{what}"
        );
        assert_eq!(app.resolve(&tag("v1")).unwrap().map(|found| found.digest), Some(late.digest()), "{what}");
        assert!(app.manifest(&sig.digest()).unwrap().is_some(), "{what}");
        keeps_repositories_apart(&store);
        store.flush().unwrap();
        let layout = Layout::read(&dir.root());
        assert_eq!(layout.names()["app:late"], late.digest().to_string());
    }
}

#[test]
fn a_crashed_store_that_is_whole_loses_nothing_by_a_rebuild() {
    let (dir, store) = filled();
    let late = image("late", 3);
    late.push(&repo(&store, "app"), &["late"]);
    let expected = published(&store);
    crash(&dir, store);
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(published(&store), expected);
}

#[test]
fn damaged_and_missing_content_is_reported_and_the_rest_comes_back() {
    let (dir, store) = filled();
    let (one, two) = (image("one", 2), image("two", 2));
    store.close().unwrap();
    let (damaged, missing) = (digest_of(&one.parts[0]), digest_of(&two.parts[0]));
    damage(&blob_path(&dir.root(), &damaged));
    fs::remove_file(blob_path(&dir.root(), &missing)).unwrap();
    fs::write(dir.root().join("blobs/sha256/stranger.tmp"), b"not ours").unwrap();
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    let report = options().rebuild(dir.root()).unwrap();
    let told = format!("{report} {report:?}");
    assert!(told.contains(&damaged.to_string()), "{told}");
    assert!(told.contains(&missing.to_string()), "{told}");
    let store = options().open(dir.root()).unwrap();
    assert_eq!(store.default_repository().resolve(&tag("v1")).unwrap().unwrap().digest, one.digest());
    assert_eq!(repo(&store, "app").resolve(&tag("v1")).unwrap().unwrap().digest, two.digest());
    assert_eq!(
        repo(&store, "lib/x").resolve(&tag("v3")).unwrap().unwrap().digest,
        image("three", 1).digest()
    );
    // Wrong bytes are not served as content, and not thrown away either.
    match store.default_repository().get(&damaged) {
        Ok(None) => {}
        Ok(Some(blob)) => panic!("damaged content is served: {blob:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
    }
    let mut wrong = one.parts[0].clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 0xff;
    let hash = sha256(&wrong);
    assert!(
        tree(&dir.root()).values().any(|node| node.hash.as_ref() == Some(&hash)),
        "the damaged bytes are gone"
    );
    assert!(dir.root().join("blobs/sha256/stranger.tmp").exists());
    // A push brings them back.
    for (repository, bytes) in [("", &one.parts[0]), ("app", &two.parts[0])] {
        repo(&store, repository).push_bytes(bytes.clone()).unwrap();
        assert_eq!(&repo(&store, repository).get(&digest_of(bytes)).unwrap().unwrap()[..], &bytes[..]);
    }
    store.flush().unwrap();
    let wrong = Layout::read(&dir.root()).wrong;
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_layout_that_never_was_a_store_is_rebuilt_into_one() {
    let dir = scratch();
    let image = image("a", 2);
    plain_layout(&dir.root(), &[(Some("v1"), &image)], &[]);
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(store.default_repository().resolve(&tag("v1")).unwrap().unwrap().digest, image.digest());
    let missing = dir.path("missing");
    fails(options().rebuild(&missing), ErrorKind::NotFound, &[missing.to_str().unwrap()]);
    assert!(!missing.exists());
}

#[test]
fn an_index_lost_together_with_the_metadata_loses_names_but_no_bytes() {
    let (dir, store) = filled();
    store.close().unwrap();
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    fs::write(dir.root().join("index.json"), b"").unwrap();
    let before = tree(&dir.root().join("blobs"));
    let rebuilt = options().rebuild(dir.root());
    let after = tree(&dir.root().join("blobs"));
    for (path, node) in &before {
        assert_eq!(after.get(path).map(|node| &node.hash), Some(&node.hash), "{path}");
    }
    if rebuilt.is_ok() {
        let store = options().open(dir.root()).unwrap();
        image("one", 2).push(&store.default_repository(), &["v1"]);
    }
}

#[test]
fn a_copied_store_is_checked_and_says_so() {
    for crashed in [false, true] {
        let (dir, store) = filled();
        let late = image("late", 2);
        late.push(&repo(&store, "app"), &["late"]);
        let expected = describe(&store);
        let copy = dir.path("copy");
        if crashed {
            copy_at_one_moment(&dir.root(), &copy);
            store.close().unwrap();
        } else {
            store.close().unwrap();
            copy_tree(&dir.root(), &copy);
        }
        let lost = digest_of(&image("one", 2).parts[0]);
        let original = options().open(dir.root()).unwrap();
        let store = options().open(&copy).unwrap();
        assert_eq!(describe(&store), expected, "crashed: {crashed}");
        let told: Vec<String> = store.reports().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains("copy")), "{told:?}");
        store.close().unwrap();
        // Once is enough.
        let store = options().open(&copy).unwrap();
        assert_eq!(store.reports(), []);
        store.close().unwrap();
        drop(original);

        // A copy that lost files on the way is told apart from a whole one.
        let partial = dir.path("partial");
        copy_tree(&dir.root(), &partial);
        fs::remove_file(blob_path(&partial, &lost)).unwrap();
        let store = options().open(&partial).unwrap();
        let told: Vec<String> = store.reports().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains(&lost.to_string())), "{told:?}");
        fails(store.default_repository().get(&lost), ErrorKind::Corrupt, &[&lost.to_string()]);
        store.default_repository().push_bytes(image("one", 2).parts[0].clone()).unwrap();
        assert!(store.default_repository().get(&lost).unwrap().is_some());
    }
}

#[test]
fn an_opaque_manifest_and_its_type_survive() {
    let (dir, store) = fresh();
    let here = repo(&store, "odd");
    let digest =
        here.push_manifest("application/vnd.example.thing", &b"anything"[..], &[tag("v1")]).unwrap().digest;
    let untagged = here.push_manifest("application/vnd.example.other", &b"else"[..], &[]).unwrap().digest;
    store.flush().unwrap();
    let expected = describe(&store);
    drop(here);
    store.close().unwrap();
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(describe(&store), expected);
    let here = repo(&store, "odd");
    assert_eq!(
        here.manifest(&digest).unwrap().unwrap().descriptor.media_type,
        "application/vnd.example.thing"
    );
    assert_eq!(
        here.manifest(&untagged).unwrap().unwrap().descriptor.media_type,
        "application/vnd.example.other"
    );
}

#[test]
fn what_was_acknowledged_as_removed_does_not_come_back_when_the_old_metadata_can_be_read() {
    let (dir, store) = filled();
    store.default_repository().untag(&tag("latest"), Expect::Any).unwrap();
    image("moved", 1).push(&repo(&store, "app"), &["v1"]);
    assert!(store.delete_repository(&name("lib/x")).unwrap());
    let expected = published(&store);
    crash(&dir, store);
    assert!(
        Layout::read(&dir.root()).names().contains_key("latest"),
        "this test wants an index.json from before"
    );
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    let found = published(&store);
    let back: Vec<_> = found.difference(&expected).collect();
    let lost: Vec<_> = expected.difference(&found).collect();
    assert!(back.is_empty() && lost.is_empty(), "came back: {back:#?}, lost: {lost:#?}");
}

#[test]
fn what_another_tool_changed_before_a_rebuild_is_merged_by_it() {
    let (dir, store) = filled();
    store.close().unwrap();
    let theirs = image("theirs", 1);
    put_blobs(&dir.root(), &theirs);
    edit_index(&dir.root(), |entries| {
        let at = entries.iter().position(|value| is_named(value, "v1")).unwrap();
        entries[at] = entry(Some("v1"), &theirs);
        entries.push(entry(Some("new"), &theirs));
    });
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    let here = store.default_repository();
    assert_eq!(here.resolve(&tag("new")).unwrap().unwrap().digest, theirs.digest());
    assert_eq!(
        here.resolve(&tag("v1")).unwrap().unwrap().digest,
        theirs.digest(),
        "their edit was overwritten"
    );
    assert!(here.manifest(&image("one", 2).digest()).unwrap().is_some());
}

#[test]
fn metadata_that_are_gone_or_half_made_are_never_opened_as_an_empty_store() {
    let (dir, store) = filled();
    let expected = describe(&store);
    store.close().unwrap();
    let private = dir.root().join(".orlop");

    // As an interrupted rebuild leaves it: the old metadata are in quarantine, others are half made.
    fs::rename(private.join("metadata"), private.join("quarantine/metadata-1")).unwrap();
    fails(options().open(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    fails(options().open_read_only(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    fails(options().open_or_create(dir.root()), ErrorKind::Corrupt, &["rebuild"]);
    assert!(!private.join("metadata").exists(), "made anew by a refused open");
    fs::write(private.join("rebuilding"), "metadata-1").unwrap();
    copy_tree(&private.join("quarantine/metadata-1"), &private.join("metadata"));
    fails(options().open(dir.root()), ErrorKind::Corrupt, &["interrupted"]);
    fs::write(dir.root().join("index.json"), b"").unwrap();

    // Only the salvaged metadata know the tags now.
    let report = options().rebuild(dir.root()).unwrap();
    assert!(report.salvaged_tags > 0, "{report:?}");
    assert_eq!(describe(&options().open(dir.root()).unwrap()), expected);
    assert!(!private.join("rebuilding").exists());
}

#[test]
fn a_store_of_a_newer_version_is_not_rebuilt() {
    let (dir, store) = filled();
    store.close().unwrap();
    let format = dir.root().join(".orlop/FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    let text = text.lines().next().unwrap().replace("\"version\":1", "\"version\":9");
    let text = format!("{text}\n{}\n", sha256(text.as_bytes()));
    fs::remove_file(&format).unwrap();
    fs::write(&format, text).unwrap();
    let before = tree(&dir.root().join(".orlop/metadata"));
    fails(options().rebuild(dir.root()), ErrorKind::Unsupported, &["9"]);
    assert_eq!(tree(&dir.root().join(".orlop/metadata")), before);
}

/// Opens as a server would that knows nothing of the damage.
fn heal(dir: &Scratch) -> Store {
    Options::new().publish(Publish::OnClose).open(dir.root()).unwrap()
}

#[test]
fn opening_heals_damaged_metadata_and_says_so() {
    for what in ["CURRENT", "MANIFEST", "nothing left"] {
        let (dir, store) = filled();
        let expected = published(&store);
        let late = image("late", 3);
        late.push(&repo(&store, "app"), &["late"]);
        let whole = describe(&store);
        crash(&dir, store);
        if what == "nothing left" {
            fs::rename(dir.root().join(".orlop/metadata"), dir.path("elsewhere")).unwrap();
        } else {
            assert!(garble(&dir.root(), |name| name.starts_with(what)) > 0);
        }
        // Whoever only reads has what is published, and touches nothing.
        let before = content_tree(&dir.root());
        let reader = Options::new().open_read_only(dir.root()).unwrap();
        assert!(
            reader.reports().iter().any(|report| report.to_string().contains(".orlop/metadata is damaged")),
            "{what}: {:?}",
            reader.reports()
        );
        assert_eq!(
            reader.default_repository().resolve(&tag("v1")).unwrap().unwrap().digest,
            image("one", 2).digest()
        );
        drop(reader);
        assert_eq!(content_tree(&dir.root()), before, "{what}");

        let store = heal(&dir);
        let rebuilt = store.open_report().rebuilt.clone().unwrap();
        assert!(rebuilt.lost.is_some(), "{what}: why is not said");
        if what == "nothing left" {
            assert_eq!(published(&store), expected);
        } else {
            assert_eq!(describe(&store), whole, "{what}");
            assert!(rebuilt.salvaged_contents > 0 && rebuilt.salvaged_tags > 0, "{rebuilt:?}");
        }
        store.close().unwrap();
        Layout::sound(&dir.root());
        let store = heal(&dir);
        assert!(
            store.open_report().rebuilt.is_none() && store.open_report().clean,
            "{what}: it is done once"
        );
    }
}

#[test]
fn opening_finishes_a_rebuild_that_was_interrupted() {
    let (dir, store) = filled();
    let expected = describe(&store);
    store.close().unwrap();
    let private = dir.root().join(".orlop");
    fs::rename(private.join("metadata"), private.join("quarantine/metadata-1")).unwrap();
    fs::write(private.join("rebuilding"), "metadata-1").unwrap();
    fs::create_dir(private.join("metadata")).unwrap();
    fs::write(private.join("metadata/half"), "made").unwrap();
    let store = heal(&dir);
    assert!(store.open_report().rebuilt.is_some());
    assert_eq!(describe(&store), expected);
}

#[test]
fn an_open_report_tells_what_a_crash_left() {
    let (dir, store) = fresh();
    image("i", 2).push(&store.default_repository(), &["v1"]);
    crash(&dir, store);
    fs::write(dir.root().join(".orlop/ingest/tmp-1-1"), "half").unwrap();
    let store = options().open(dir.root()).unwrap();
    let report = store.open_report().clone();
    assert!(!report.clean && report.rebuilt.is_none());
    assert_eq!((report.cleared, report.journalled, report.copied), (1, 4, false));
    assert!(report.journalled_bytes > 100);
    store.close().unwrap();
    let report = options().open(dir.root()).unwrap().open_report().clone();
    assert!(report.clean && report.cleared == 0 && report.journalled == 0 && !report.copied, "{report:?}");
}
