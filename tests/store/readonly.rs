//! Reading without writing: beside a writer, on media that cannot be written, in directories that are no store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use orlop::{Algorithm, ErrorKind, Expect, Expected, Options, Publish, Store};

use crate::support::*;

/// Makes a directory that cannot be written: a read-only bind mount for root, whom modes do not stop; modes otherwise.
struct ReadOnly {
    path: PathBuf,
    mounted: bool,
}

impl ReadOnly {
    fn of(root: &Path, at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let run = |args: &[&str]| {
            Command::new("mount").args(args).arg(&at).output().is_ok_and(|output| output.status.success())
        };
        let from = root.to_str().unwrap();
        if run(&["--bind", from]) {
            let sealed = Self { path: at.clone(), mounted: true };
            if run(&["-o", "remount,ro,bind"]) {
                return sealed;
            }
        }
        fs::remove_dir(&at).unwrap();
        copy_tree(root, &at);
        let sealed = Self { path: at, mounted: false };
        sealed.modes("a-w");
        sealed
    }

    fn modes(&self, change: &str) {
        let done = Command::new("chmod").args(["-R", change]).arg(&self.path).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        } else {
            self.modes("u+w");
        }
    }
}

fn filled() -> (Scratch, Store, Artifact) {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 2);
    image.push(&here, &["v1"]);
    referrer(&image, "application/sig", "s").push(&here, &[]);
    repo(&store, "lib/app").push_bytes(noise(1, 200_000)).unwrap();
    (dir, store, image)
}

/// Every way to write.
fn refuses_writes(store: &Store, image: &Artifact) {
    let here = store.default_repository();
    let digest = image.digest();
    let kind = ErrorKind::ReadOnly;
    fails(here.push_bytes(&b"x"[..]), kind, &[]);
    fails(here.push_bytes(noise(1, 100_000)), kind, &[]);
    fails(here.push_reader(io::empty(), &Expected::default()), kind, &[]);
    fails(
        store
            .ingest(Algorithm::Sha256)
            .and_then(|ingest| ingest.finish(&Expected::default()))
            .and_then(|content| here.push(content)),
        kind,
        &[],
    );
    fails(here.push_manifest(IMAGE, image.bytes.clone(), &[]), kind, &[]);
    fails(here.tag(&tag("v2"), &digest, Expect::Any), kind, &[]);
    fails(here.untag(&tag("v1"), Expect::Any), kind, &[]);
    fails(repo(store, "other").mount(&here, &digest), kind, &[]);
    fails(store.delete_repository(&name("")), kind, &[]);
    fails(store.flush(), kind, &[]);
    let mut batch = store.batch();
    let _ = batch.push_bytes(&here, &b"x"[..]);
    batch.tag(&here, &tag("v2"), digest, Expect::Any);
    fails(batch.commit(), kind, &[]);
    let mut batch = store.batch();
    batch.tag(&here, &tag("v2"), digest, Expect::Any);
    fails(batch.submit().wait(), kind, &[]);
}

#[test]
fn a_frozen_view_beside_a_live_writer() {
    let (dir, store, image) = filled();
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        let before = settled_tree(&dir.root());
        let view = options().open_read_only(dir.root()).unwrap();
        assert!(view.is_read_only() && !store.is_read_only());
        assert_eq!(describe(&view), describe(&store), "flushed: {flushed}");
        for blob in image.blobs() {
            assert_eq!(&view.default_repository().get(&digest_of(blob)).unwrap().unwrap()[..], &blob[..]);
        }
        let large = repo(&view, "lib/app").get(&digest_of(&noise(1, 200_000))).unwrap().unwrap();
        assert!(large[..] == noise(1, 200_000)[..]);
        refuses_writes(&view, &image);
        view.close().unwrap();
        assert_eq!(tree(&dir.root()), before, "reading wrote into the directory, flushed: {flushed}");
    }
}

#[test]
fn a_view_stays_as_it_was_while_the_writer_goes_on() {
    let (dir, store, _) = filled();
    let view = options().open_read_only(dir.root()).unwrap();
    let seen = describe(&view);
    let read_all = |view: &Store| {
        for digest in contents(&view.default_repository()) {
            view.default_repository().get(&digest).unwrap().expect("it is in the view").verify().unwrap();
        }
    };
    // Much of everything, so that the engine rewrites its files under the view.
    let mut store = store;
    for round in 0..3 {
        let mut batch = store.batch();
        let here = store.default_repository();
        for n in 0..800 {
            batch.push_bytes(&here, noise(round * 10_000 + n, 2000)).unwrap();
        }
        batch.untag(&here, &tag("v1"), Expect::Any);
        batch.commit().unwrap();
        drop(here);
        store.compact();
        store.close().unwrap();
        store = options().open(dir.root()).unwrap();
        assert_eq!(describe(&view), seen, "round {round}");
        read_all(&view);
    }
    assert!(
        options()
            .open_read_only(dir.root())
            .unwrap()
            .default_repository()
            .resolve(&tag("v1"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_view_neither_takes_the_lock_nor_minds_it() {
    let (dir, store, _) = filled();
    let view = options().open_read_only(dir.root()).unwrap();
    drop(store);
    let store = options().open(dir.root()).unwrap();
    let second = options().open_read_only(dir.root()).unwrap();
    assert_eq!(describe(&second), describe(&view));
    drop((store, second));
    options().rebuild(dir.root()).unwrap();
}

#[test]
fn media_that_cannot_be_written_are_read() {
    for state in ["closed", "crashed", "live"] {
        let (dir, store, image) = filled();
        let expected = describe(&store);
        let mut live = None;
        match state {
            "closed" => store.close().unwrap(),
            "crashed" => crash(&dir, store),
            _ => live = Some(store),
        }
        let before = settled_tree(&dir.root());
        let sealed = ReadOnly::of(&dir.root(), dir.path("sealed"));
        let view = options().open_read_only(&sealed.path).unwrap();
        assert_eq!(describe(&view), expected, "{state}");
        for blob in image.blobs() {
            assert_eq!(
                &view.default_repository().get(&digest_of(blob)).unwrap().unwrap()[..],
                &blob[..],
                "{state}"
            );
        }
        refuses_writes(&view, &image);
        if sealed.mounted {
            let error =
                options().open(&sealed.path).expect_err("a store on read-only media was opened for writing");
            assert!(
                [ErrorKind::ReadOnly, ErrorKind::Io, ErrorKind::Locked].contains(&error.kind()),
                "{error:?}"
            );
        }
        drop(view);
        assert_eq!(tree(&dir.root()), before, "{state}");
        drop(sealed);
        drop(live);
    }
}

#[test]
fn a_store_that_crashed_is_read_without_mending_it() {
    let (dir, store, image) = filled();
    let expected = describe(&store);
    crash(&dir, store);
    assert!(
        !blob_path(&dir.root(), &digest_of(&image.parts[0])).exists(),
        "this test wants a journal that is not empty"
    );
    let before = tree(&dir.root());
    for _ in 0..2 {
        let view = options().open_read_only(dir.root()).unwrap();
        assert_eq!(describe(&view), expected);
        for blob in image.blobs() {
            let found = view.default_repository().get(&digest_of(blob)).unwrap().unwrap();
            assert_eq!(&found[..], &blob[..]);
            assert!(found.file().unwrap().is_none());
        }
        drop(view);
        assert_eq!(tree(&dir.root()), before);
    }
    assert_eq!(describe(&options().open(dir.root()).unwrap()), expected);
}

#[test]
fn a_plain_layout_is_read_as_it_is() {
    let dir = scratch();
    let (tagged, untagged, child) = (image("tagged", 2), image("untagged", 1), image("child", 1));
    let (sig, list) = (referrer(&tagged, "application/sig", "s"), index(&[&child]));
    let entries = [
        (Some("v1"), &tagged),
        (Some("lib/app:v2"), &tagged),
        (Some("Odd Name"), &tagged),
        (None, &untagged),
        (None, &sig),
        (Some("multi"), &list),
    ];
    plain_layout(&dir.root(), &entries, &[&child]);
    let before = tree(&dir.root());
    let view = options().open_read_only(dir.root()).unwrap();
    let here = view.default_repository();
    assert!(view.is_read_only());
    assert_eq!(tags(&here), [("multi".to_owned(), list.digest()), ("v1".to_owned(), tagged.digest())]);
    assert_eq!(tags(&repo(&view, "lib/app")), [("v2".to_owned(), tagged.digest())]);
    assert_eq!(view.unscoped().resolve_name("Odd Name").unwrap().unwrap().digest, tagged.digest());
    assert_eq!(view.unscoped().resolve_name("lib/app:v2").unwrap().unwrap().digest, tagged.digest());
    assert!(here.manifest(&untagged.digest()).unwrap().is_some());
    assert!(here.manifest(&child.digest()).unwrap().is_some());
    let referrers = here.referrers(&tagged.digest()).page().unwrap().descriptors;
    assert_eq!(referrers.iter().map(|found| found.digest).collect::<Vec<_>>(), [sig.digest()]);
    for part in &tagged.parts {
        assert_eq!(&here.get(&digest_of(part)).unwrap().unwrap()[..], &part[..]);
    }
    refuses_writes(&view, &tagged);
    drop((here, view));
    assert_eq!(tree(&dir.root()), before);

    let sealed = ReadOnly::of(&dir.root(), dir.path("sealed"));
    let view = options().open_read_only(&sealed.path).unwrap();
    assert_eq!(tags(&view.default_repository()).len(), 2);
}

#[test]
fn what_is_no_layout_is_no_view() {
    let dir = scratch();
    let missing = dir.path("missing");
    fails(options().open_read_only(&missing), ErrorKind::NotFound, &[missing.to_str().unwrap()]);
    assert!(!missing.exists());
    let empty = dir.path("empty");
    fs::create_dir(&empty).unwrap();
    fails(options().open_read_only(&empty), ErrorKind::NotFound, &[empty.to_str().unwrap()]);
    assert_eq!(tree(&empty).len(), 0);
}

#[test]
fn a_view_after_a_foreign_edit_says_so() {
    let (dir, store, _) = filled();
    store.close().unwrap();
    let theirs = image("theirs", 1);
    put_blobs(&dir.root(), &theirs);
    edit_index(&dir.root(), |entries| entries.push(entry(Some("theirs"), &theirs)));
    let before = tree(&dir.root());
    let view = options().open_read_only(dir.root()).unwrap();
    let found = view.default_repository().resolve(&tag("theirs")).unwrap();
    assert!(found.is_some() || !view.reports().is_empty(), "neither shown nor told");
    drop(view);
    assert_eq!(tree(&dir.root()), before);
}

#[test]
fn a_view_opened_at_any_moment_of_a_writer_is_whole() {
    let dir = scratch();
    let store =
        Options::new().publish(Publish::Interval(Duration::from_millis(5))).create(dir.root()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let here = repo(&store, "app");
            for n in 0..150 {
                let artifact = image(&format!("{n}"), 2);
                artifact.push(&here, &["latest", &format!("t{n}")]);
                here.push_bytes(noise(n, 60_000)).unwrap();
                if n % 20 == 19 {
                    store.flush().unwrap();
                }
                if n % 50 == 49 {
                    store.compact();
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut most = 0;
        while !done.load(Ordering::Acquire) {
            let view = options().open_read_only(dir.root()).unwrap();
            assert_eq!(view.reports(), []);
            let here = repo(&view, "app");
            let found = tags(&here);
            assert!(found.len() >= most, "a later view shows less");
            most = found.len();
            for (_, digest) in found.iter().rev().take(5) {
                let manifest = here.manifest(digest).unwrap().expect("tagged and not there");
                for successor in manifest.parse().unwrap().successors() {
                    let blob = here.get(&successor.descriptor.digest).unwrap().expect("tagged and not whole");
                    blob.verify().unwrap();
                }
            }
        }
        assert!(most > 0);
    });
}
