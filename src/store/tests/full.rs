//! A store on a small filesystem that is full from time to time; `tests/powercut/fulldisk.py` makes that and starts this.
//!
//! When nothing is left every way of writing answers `NoSpace` and changes nothing, reads go on, and when there is room again the
//! same store writes again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs, syncfs};
use rustix::io::Errno;

use super::artifact::{Artifact, noise};
use super::state::{check_files, state};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::store::{Expect, Options, Publish, Repository, Store, UploadOptions};

/// The filesystem, and what other programs take of it.
struct Disk(PathBuf);

impl Disk {
    fn fill(&self) {
        let file = File::create(self.0.join("filler")).unwrap();
        let mut end = 0;
        // Bounded, since the store gives room back meanwhile.
        for (size, most) in [(1 << 26, 100), (1 << 20, 100), (1 << 16, 100), (1 << 12, 100)] {
            for _ in 0..most {
                match fallocate(&file, FallocateFlags::empty(), end, size) {
                    Ok(()) => end += size,
                    Err(Errno::NOSPC) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        file.sync_all().unwrap();
    }

    /// Leaves about so much of a full disk.
    fn leave(&self, bytes: u64) {
        let filler = File::options().write(true).open(self.0.join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - bytes).unwrap();
        syncfs(filler).unwrap();
    }

    fn fill_files(&self) {
        fs::create_dir(self.0.join("files")).unwrap();
        for n in 0.. {
            match File::create(self.0.join(format!("files/{n}"))) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn free(&self) {
        // What is unlinked and nothing more is freed later by some.
        if let Ok(file) = File::options().write(true).open(self.0.join("filler")) {
            file.set_len(0).unwrap();
        }
        let _ = fs::remove_file(self.0.join("filler"));
        let _ = fs::remove_dir_all(self.0.join("files"));
        syncfs(File::open(&self.0).unwrap()).unwrap();
    }
}

fn options() -> Options {
    Options::new().publish(Publish::Interval(Duration::from_millis(10)))
}

fn here(store: &Store) -> Repository {
    store.repository(&"r".parse().unwrap())
}

fn push(store: &Store, name: &str, sizes: &[usize], submit: bool) -> Result<Digest> {
    let mut batch = store.batch();
    let digest = Artifact::image(name, sizes).add(&mut batch, &here(store))?;
    batch.tag(&here(store), &name.parse()?, digest, Expect::Any);
    let done = if submit { batch.submit().wait() } else { batch.commit() };
    done.map(|_| digest)
}

type Way = fn(&Store) -> Result<()>;

const WAYS: [(&str, Way); 9] = [
    ("journalled", |store| push(store, "journalled", &[100, 5_000], false).map(drop)),
    ("file", |store| here(store).push_bytes(noise("file", 300_000)).map(drop)),
    ("files", |store| push(store, "files", &[50_000; 8], false).map(drop)),
    ("submit", |store| push(store, "submit", &[700, 60_000], true).map(drop)),
    ("tag", |store| {
        here(store)
            .tag(&"moved".parse()?, &Artifact::image("files", &[50_000; 8]).digest(), Expect::Any)
            .map(drop)
    }),
    ("publish", Store::flush),
    ("untag", |store| here(store).untag(&"moved".parse()?, Expect::Any).map(drop)),
    ("remove", |store| {
        let mut batch = store.batch();
        batch.delete_manifest(&here(store), &Artifact::image("submit", &[700, 60_000]).digest());
        batch.commit().map(drop)
    }),
    ("delete", |store| store.delete_repository(&"r".parse()?).map(drop)),
];

#[test]
#[ignore = "started by tests/powercut/fulldisk.py"]
fn full() {
    let Some(place) = std::env::var_os("ORLOP_FULL_ROOT") else { return };
    let disk = Disk(place.into());
    every_way_of_writing(&disk, &disk.0.join("ways"), Disk::fill, &WAYS.map(|(name, _)| name));
    // Where they are few, as they are made to be on ext4.
    if (1..10_000).contains(&statvfs(&disk.0).unwrap().f_files) {
        every_way_of_writing(
            &disk,
            &disk.0.join("files-ways"),
            Disk::fill_files,
            &["journalled", "file", "files", "submit", "publish"],
        );
        fs::remove_dir_all(disk.0.join("files-ways")).unwrap();
    }
    opening(&disk, &disk.0.join("opening"));
    removing(&disk, &disk.0.join("removing"));
    uploading(&disk, &disk.0.join("uploading"));
    under_load(&disk, &disk.0.join("load"));
}

/// The ways that are `refused` find no room; the others need none of that kind.
fn every_way_of_writing(disk: &Disk, root: &Path, fill: fn(&Disk), refused: &[&str]) {
    let store = options().create(root).unwrap();
    push(&store, "first", &[100, 40_000], false).unwrap();
    for (name, way) in WAYS {
        let is_refused = refused.contains(&name);
        store.flush().unwrap();
        if name == "publish" {
            let digest = Artifact::image("first", &[100, 40_000]).digest();
            here(&store).tag(&"unpublished".parse().unwrap(), &digest, Expect::Any).unwrap();
            here(&store).push_bytes("journalled").unwrap();
        }
        let before = state(&store).unwrap();
        fill(disk);
        let answer = way(&store);
        assert_eq!(
            state(&store).unwrap() == before,
            answer.is_err() || name == "publish",
            "{name}: {answer:?}"
        );
        match answer {
            Err(error) => assert!(is_refused && error.kind() == ErrorKind::NoSpace, "{name}: {error:?}"),
            // The publisher may have been before the disk was full.
            Ok(()) => assert!(!is_refused || name == "publish", "{name} found room"),
        }
        disk.free();
        if is_refused {
            way(&store).unwrap_or_else(|error| panic!("{name} again: {error:?}"));
        }
        store.flush().unwrap();
        let report = store.verify().read_data(true).index(true).run().unwrap();
        assert!(report.is_sound(), "{name}: {report:?}");
        check_files(root, Some(&state(&store).unwrap()), &Default::default()).unwrap();
        writeln!(io::stdout(), "way {name} {}", if is_refused { "refused" } else { "done" }).unwrap();
    }
    store.close().unwrap();
}

/// Three threads write and one reads while the disk fills up and empties.
fn under_load(disk: &Disk, root: &Path) {
    let acknowledged: parking_lot::Mutex<BTreeMap<String, Digest>> = parking_lot::Mutex::default();
    let (refused, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    options().create(root).unwrap().close().unwrap();
    for round in 0..4 {
        let store = options().open(root).unwrap();
        let stop = AtomicBool::new(false);
        let write = |worker: usize| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let name = format!("t{worker}-{}", n % 12);
                match push(&store, &name, &[300 + round, 20_000 + worker, 90_000 + n % 12], n % 2 == 0) {
                    Ok(digest) => drop(acknowledged.lock().insert(name, digest)),
                    Err(error) if error.kind() == ErrorKind::NoSpace => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    // The room went between the look at it and the write.
                    Err(error) if [ErrorKind::Indeterminate, ErrorKind::Poisoned].contains(&error.kind()) => {
                        unknown.fetch_add(1, Ordering::Relaxed);
                        acknowledged.lock().remove(&name);
                        return;
                    }
                    Err(error) => panic!("{error:?}"),
                }
                n += 1;
            }
        };
        let read = || {
            while !stop.load(Ordering::Relaxed) {
                for (tag, digest) in acknowledged.lock().clone() {
                    let blob = here(&store).get(&digest).unwrap();
                    assert!(blob.is_some(), "{tag} cannot be read");
                }
                thread::sleep(Duration::from_millis(5));
            }
        };
        thread::scope(|scope| {
            scope.spawn(read);
            for worker in 0..3 {
                scope.spawn(move || write(worker));
            }
            for _ in 0..2 {
                thread::sleep(Duration::from_millis(200));
                disk.fill();
                thread::sleep(Duration::from_millis(200));
                disk.free();
            }
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
        });
        drop(store);
        let store = options().open(root).unwrap();
        assert_eq!(store.reports(), []);
        for (tag, digest) in acknowledged.lock().iter() {
            let found = here(&store).resolve(&tag.parse().unwrap()).unwrap();
            assert_eq!(found.map(|found| found.digest), Some(*digest), "{tag}");
        }
        push(&store, "again", &[round + 1], false).unwrap();
        store.flush().unwrap();
        check_files(root, Some(&state(&store).unwrap()), &Default::default()).unwrap();
        store.close().unwrap();
    }
    let (refused, unknown) = (refused.into_inner(), unknown.into_inner());
    let kept = acknowledged.lock().len();
    assert!(refused > 0 && kept > 6, "{refused} refused, {kept} acknowledged");
    writeln!(io::stdout(), "load refused={refused} unknown={unknown} kept={kept}").unwrap();
}

/// Opening on a full disk: refused without a ballast, and then possible, so that something can be removed.
fn opening(disk: &Disk, root: &Path) {
    let manual = Options::new().publish(Publish::Manual);
    for ballast in [0, 64 << 20] {
        let root = root.with_extension(ballast.to_string());
        let options = manual.clone().ballast(ballast);
        let store = options.create(&root).unwrap();
        let digest = push(&store, "first", &[100, 40_000], false).unwrap();
        let before = state(&store).unwrap();
        drop(store);
        disk.fill();
        assert_eq!(state(&options.open_read_only(&root).unwrap()).unwrap(), before);
        let opened = options.open(&root);
        if ballast == 0 {
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::NoSpace);
            disk.free();
            let store = options.open(&root).unwrap();
            assert_eq!(state(&store).unwrap(), before);
            continue;
        }
        let store = opened.unwrap();
        assert!(!root.join(".orlop/ballast").exists());
        assert_eq!(push(&store, "second", &[5_000], false).unwrap_err().kind(), ErrorKind::NoSpace);
        let mut batch = store.batch();
        batch.delete_manifest(&here(&store), &digest);
        batch.commit().unwrap();
        disk.free();
        push(&store, "second", &[5_000], false).unwrap();
        store.flush().unwrap();
        assert!(root.join(".orlop/ballast").exists());
        store.close().unwrap();
    }
    writeln!(io::stdout(), "opening done").unwrap();
}

/// A store that is open when the disk fills up gives up its ballast to remove something, at the first try.
fn removing(disk: &Disk, root: &Path) {
    let store = Options::new().publish(Publish::Manual).ballast(64 << 20).create(root).unwrap();
    let digest = push(&store, "first", &[100, 40_000], false).unwrap();
    store.flush().unwrap();
    assert!(root.join(".orlop/ballast").exists());
    disk.fill();
    let mut batch = store.batch();
    batch.delete_manifest(&here(&store), &digest);
    batch.commit().unwrap();
    assert!(!root.join(".orlop/ballast").exists());
    disk.free();
    store.flush().unwrap();
    store.close().unwrap();
    writeln!(io::stdout(), "removing done").unwrap();
}

/// An upload session takes what it can get: others go on and it can be ended; and if other programs take the rest, it can be
/// ended all the same.
fn uploading(disk: &Disk, root: &Path) {
    const PIECE: usize = 1 << 20;
    let store = Options::new().publish(Publish::Manual).create(root).unwrap();
    let digest = push(&store, "first", &[100, 40_000], false).unwrap();
    disk.fill();
    disk.leave(96 << 20);
    let mut upload = here(&store).start_upload(&UploadOptions::new()).unwrap();
    let piece = noise("piece", PIECE);
    let mut refused = None;
    for _ in 0..200 {
        if let Err(error) = upload.append(upload.offset(), &piece) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.unwrap().kind(), ErrorKind::NoSpace);
    assert!(upload.offset() >= 16 << 20, "{}", upload.offset());
    let tag = || here(&store).tag(&"beside".parse().unwrap(), &digest, Expect::Any);
    match upload.save().and_then(|_| tag()) {
        // A btrfs that has little left for its own trees says that nothing is left at all.
        Err(error) if error.kind() == ErrorKind::NoSpace && statvfs(&disk.0).unwrap().f_bavail == 0 => {}
        done => drop(done.unwrap()),
    }
    upload.cancel().unwrap();
    tag().unwrap();
    for expire in [false, true] {
        let mut upload = here(&store)
            .start_upload(&UploadOptions::new().time_to_live(Duration::from_secs(if expire {
                0
            } else {
                600
            })))
            .unwrap();
        for _ in 0..8 {
            upload.append(upload.offset(), &piece).unwrap();
        }
        upload.save().unwrap();
        disk.fill();
        if expire {
            drop(upload);
            assert_eq!(store.expire_uploads().unwrap(), 1);
        } else {
            upload.cancel().unwrap();
        }
        assert!(store.uploads(None, 10).unwrap().items.is_empty());
        here(&store).untag(&"beside".parse().unwrap(), Expect::Any).unwrap();
        disk.free();
    }
    assert!(store.verify().read_data(true).run().unwrap().is_sound());
    store.close().unwrap();
    writeln!(io::stdout(), "uploading done").unwrap();
}
