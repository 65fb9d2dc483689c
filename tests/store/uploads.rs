//! Upload sessions: they go on where they were saved, whatever happens in between, and one at a time has them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orlop::{
    Algorithm, Digest, Durability, ErrorKind, Expected, Limits, Options, Repository, Store, Upload, UploadId,
    UploadOptions,
};
use proptest::prelude::*;

use crate::support::*;

fn start(repository: &Repository) -> Upload {
    repository.start_upload(&UploadOptions::new()).unwrap()
}

fn resume(store: &Store, repository: &str, id: UploadId) -> Upload {
    repo(store, repository).upload(&id).unwrap().unwrap()
}

/// The file of a session, whether or not it exists.
fn file_of(root: &Path, id: UploadId) -> PathBuf {
    root.join(format!(".orlop/ingest/upload-{id}"))
}

/// What waits in the ingest directory.
fn waiting(root: &Path) -> usize {
    fs::read_dir(root.join(".orlop/ingest")).unwrap().count()
}

/// The repository has the content, to the last byte.
fn holds(repository: &Repository, digest: &Digest, content: &[u8]) {
    assert!(*repository.get(digest).unwrap().unwrap() == *content, "not what was sent, digest={digest}");
}

fn expected(bytes: &[u8]) -> Expected {
    Expected::from(digest_of(bytes))
}

fn reopen(dir: &Scratch, store: Store) -> Store {
    store.close().unwrap();
    options().open(dir.root()).unwrap()
}

#[test]
fn it_goes_on_after_every_step_and_every_end_of_the_process() {
    for (size, crashes) in [(70_000, false), (70_000, true), (900, false), (900, true), (INLINE, true)] {
        let (dir, mut store) = fresh();
        let content = noise(size as u64, size);
        let id = start(&repo(&store, "team/app")).id();
        let mut sent = 0;
        for piece in content.chunks(size / 4 + 1) {
            if crashes {
                crash(&dir, store);
                store = options().open(dir.root()).unwrap();
            } else {
                store = reopen(&dir, store);
            }
            let mut upload = resume(&store, "team/app", id);
            assert_eq!(upload.offset(), sent as u64, "size {size}, crashes {crashes}");
            // In several appends, and the last of them is not saved.
            let (first, second) = piece.split_at(piece.len() / 3);
            upload.append(sent as u64, first).unwrap();
            sent += first.len();
            upload.append(sent as u64, second).unwrap();
            sent += second.len();
            assert_eq!(upload.save().unwrap(), sent as u64);
            upload.append(sent as u64, if sent < size { &b"not saved"[..] } else { &b""[..] }).unwrap();
        }
        assert!(
            repo(&store, "team/app").stat(&digest_of(&content)).unwrap().is_none(),
            "nothing is visible yet"
        );
        let mut upload = resume(&store, "team/app", id);
        let pushed = upload.finish(&expected(&content)).unwrap();
        assert_eq!((pushed.digest, pushed.size, pushed.existed), (digest_of(&content), size as u64, false));
        fails(upload.append(0, "x"), ErrorKind::NotFound, &[&id.to_string()]);
        fails(upload.cancel(), ErrorKind::NotFound, &[]);
        assert!(repo(&store, "team/app").upload(&id).unwrap().is_none());
        store.close().unwrap();
        assert_eq!(waiting(&dir.root()), 0);
        let path = blob_path(&dir.root(), &digest_of(&content));
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o222, 0, "nobody may write it");
        let store = options().open(dir.root()).unwrap();
        holds(&repo(&store, "team/app"), &digest_of(&content), &content);
        assert_eq!(store.uploads(None, 10).unwrap().items, []);
        store.close().unwrap();
    }
}

#[test]
fn what_was_not_saved_is_gone_and_what_was_is_told() {
    let (dir, store) = fresh();
    let here = repo(&store, "a");
    let mut upload = start(&here);
    let id = upload.id();
    upload.append(0, noise(1, 50_000)).unwrap();
    assert_eq!((upload.offset(), upload.status().unwrap().offset), (50_000, 0));
    upload.save().unwrap();
    upload.append(50_000, noise(2, 50_000)).unwrap();
    // Beside its writer, what is durable is told.
    let status = here.upload_status(&id).unwrap().unwrap();
    assert_eq!((status.id, status.offset, status.size), (id, 50_000, None));
    assert_eq!((status.repository, status.algorithms), (name("a"), vec![Algorithm::Sha256]));
    assert!(status.created <= status.saved && status.saved < status.expires);
    drop((upload, here));
    assert_eq!(resume(&store, "a", id).offset(), 50_000);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    let mut upload = resume(&store, "a", id);
    assert_eq!(upload.offset(), 50_000);
    upload.append(50_000, noise(3, 10)).unwrap();
    let content = [noise(1, 50_000), noise(3, 10)].concat();
    upload.finish(&expected(&content)).unwrap();
    holds(&repo(&store, "a"), &digest_of(&content), &content);
}

#[test]
fn bytes_that_do_not_begin_at_the_end_change_nothing() {
    let (_dir, store) = fresh();
    let mut upload = start(&store.default_repository());
    for wrong in [1, u64::MAX] {
        let error =
            fails(upload.append(wrong, "x"), ErrorKind::OffsetMismatch { current: 0 }, &["current=0"]);
        assert!(error.to_string().contains(&format!("offset={wrong}")));
    }
    upload.append(0, noise(1, 40_000)).unwrap();
    upload.save().unwrap();
    let before = upload.status().unwrap();
    for wrong in [0, 39_999, 40_001, u64::MAX] {
        // A closing call that brings nothing has to begin there too.
        for bytes in [&b""[..], b"out of order"] {
            fails(upload.append(wrong, bytes), ErrorKind::OffsetMismatch { current: 40_000 }, &[]);
        }
    }
    assert_eq!((upload.offset(), upload.status().unwrap()), (40_000, before));
    upload.append(40_000, b"").unwrap();
    upload.finish(&expected(&noise(1, 40_000))).unwrap();
}

#[test]
fn one_at_a_time_has_it() {
    let (_dir, store) = fresh();
    let here = repo(&store, "a");
    let upload = start(&here);
    let id = upload.id();
    fails(here.upload(&id), ErrorKind::Busy, &[&id.to_string()]);
    drop(upload);
    let content = noise(4, 300_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    // Each takes what it finds and adds the next piece, as clients do that do not know of each other.
                    match repo(&store, "a").upload(&id) {
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
                        Ok(None) => break,
                        Ok(Some(mut upload)) => {
                            let at = upload.offset();
                            let end = content.len().min(usize::try_from(at).unwrap() + 10_000);
                            upload.append(at, &content[usize::try_from(at).unwrap()..end]).unwrap();
                            upload.save().unwrap();
                            if end == content.len() {
                                upload.finish(&expected(&content)).unwrap();
                            }
                        }
                    }
                }
            });
        }
    });
    holds(&here, &digest_of(&content), &content);
}

#[test]
fn other_repositories_do_not_know_it() {
    let (_dir, store) = fresh();
    let id = start(&repo(&store, "a")).id();
    for other in ["", "b", "a/b"] {
        assert!(repo(&store, other).upload(&id).unwrap().is_none());
        assert_eq!(repo(&store, other).upload_status(&id).unwrap(), None);
    }
    assert_eq!(store.repositories(None, 10).unwrap().items, [], "a session makes no repository");
    assert!(repo(&store, "a").upload(&"0".repeat(32).parse().unwrap()).unwrap().is_none());
}

#[test]
fn ids_are_random_and_have_one_spelling() {
    let (_dir, store) = fresh();
    let ids: BTreeSet<UploadId> = (0..64).map(|_| start(&store.default_repository()).id()).collect();
    assert_eq!(ids.len(), 64);
    let (mut ones, mut zeros) = (0, 0);
    for id in &ids {
        assert_eq!(id.to_string().parse::<UploadId>().unwrap(), *id);
        let number = u128::from_str_radix(&id.to_string(), 16).unwrap();
        (ones, zeros) = (ones | number, zeros | !number);
    }
    assert_eq!((ones, zeros), (u128::MAX, u128::MAX), "every bit is drawn");
    let id = ids.first().unwrap().to_string();
    for wrong in
        ["", &id[1..], &format!("{id}0"), &format!("+{}", &id[1..]), &"F".repeat(32), "../../../etc/passwd"]
    {
        fails(wrong.parse::<UploadId>(), ErrorKind::Invalid, &["id="]);
    }
}

#[test]
fn any_algorithm_at_the_start_and_at_the_end() {
    let (dir, mut store) = fresh();
    let mut seed = 0;
    for at_start in [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512), Some(Algorithm::Blake3)] {
        for at_end in Algorithm::ALL {
            for size in [0, 1000, 100_000] {
                seed += 1;
                let content = noise(seed, size);
                let known =
                    at_start.map_or_else(UploadOptions::new, |known| UploadOptions::new().algorithm(known));
                let mut upload = repo(&store, "a").start_upload(&known).unwrap();
                let id = upload.id();
                upload.append(0, &content[..size / 2]).unwrap();
                upload.save().unwrap();
                if seed % 2 == 0 {
                    drop(upload);
                    store = reopen(&dir, store);
                    upload = resume(&store, "a", id);
                }
                upload.append((size / 2) as u64, &content[size / 2..]).unwrap();
                let digest = at_end.digest(&content);
                let wrong = at_end.digest(b"something else");
                fails(upload.finish(&Expected::from(wrong)), ErrorKind::Mismatch, &[&wrong.to_string()]);
                let pushed = upload.finish(&Expected::from(digest).with_size(size as u64)).unwrap();
                assert_eq!((pushed.digest, pushed.size), (digest, size as u64));
                holds(&repo(&store, "a"), &digest, &content);
            }
        }
    }
    // Without a digest it is named by the first of its own.
    let both = UploadOptions::new().algorithm(Algorithm::Sha512).algorithm(Algorithm::Sha256);
    let mut upload = store.default_repository().start_upload(&both).unwrap();
    upload.append(0, "x").unwrap();
    assert_eq!(upload.status().unwrap().algorithms, [Algorithm::Sha512, Algorithm::Sha256]);
    assert_eq!(upload.finish(&Expected::default()).unwrap().digest, Algorithm::Sha512.digest(b"x"));
}

#[test]
fn a_wrong_digest_or_size_leaves_it_as_it_was() {
    let (dir, store) = fresh();
    for size in [0, 1000, 70_000] {
        let content = noise(9, size);
        let here = repo(&store, "a");
        let mut upload = start(&here);
        let id = upload.id();
        upload.append(0, &content).unwrap();
        upload.save().unwrap();
        let before = upload.status().unwrap();
        fails(upload.finish(&Expected::from(absent())), ErrorKind::Mismatch, &[&absent().to_string()]);
        let wrong = expected(&content).with_size(size as u64 + 1);
        fails(upload.finish(&wrong), ErrorKind::Mismatch, &[&format!("found={size}")]);
        assert_eq!((upload.offset(), upload.status().unwrap()), (size as u64, before));
        drop(upload);
        assert_eq!(here.contents(None, 10).unwrap().items.len(), 0);
        resume(&store, "a", id).finish(&expected(&content)).unwrap();
        holds(&here, &digest_of(&content), &content);
        store.delete_repository(&name("a")).unwrap();
    }
    assert_eq!(waiting(&dir.root()), 0);
}

#[test]
fn content_that_is_there_already_is_success_and_no_second_copy() {
    let (dir, store) = fresh();
    for size in [100, 80_000] {
        let content = noise(5, size);
        repo(&store, "other").push_bytes(content.clone()).unwrap();
        store.flush().unwrap();
        let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let path = blob_path(&dir.root(), &digest_of(&content));
        let before = inode(&path);
        let mut upload = start(&repo(&store, "a"));
        upload.append(0, &content).unwrap();
        let pushed = upload.finish(&expected(&content)).unwrap();
        assert!(pushed.existed);
        holds(&repo(&store, "a"), &digest_of(&content), &content);
        store.flush().unwrap();
        assert_eq!(inode(&path), before);
    }
    assert_eq!(waiting(&dir.root()), 0);
}

#[test]
fn the_announced_size_binds() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let mut upload = here.start_upload(&UploadOptions::new().size(10)).unwrap();
    upload.append(0, "12345").unwrap();
    fails(upload.append(5, "678901"), ErrorKind::Mismatch, &["expected=10", "found=11"]);
    assert_eq!(upload.offset(), 5);
    fails(upload.finish(&expected(b"12345")), ErrorKind::Mismatch, &["expected=10", "found=5"]);
    upload.append(5, "67890").unwrap();
    upload.finish(&expected(b"1234567890")).unwrap();
}

#[test]
fn sizes_beyond_all_bounds_are_refused_before_anything_is_stored() {
    let dir = scratch();
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        options().limits(limits)
    };
    let store = limits(|limits| limits.max_content_size = Some(100)).create(dir.root()).unwrap();
    let here = store.default_repository();
    let sized = |size| here.start_upload(&UploadOptions::new().size(size));
    fails(sized(101), ErrorKind::Invalid, &["limit=100"]);
    fails(sized(u64::MAX), ErrorKind::Invalid, &["limit=100"]);
    let mut upload = start(&here);
    upload.append(0, [7; 90]).unwrap();
    fails(upload.append(90, [7; 11]), ErrorKind::Invalid, &["limit=100"]);
    upload.append(90, [7; 10]).unwrap();
    upload.finish(&expected(&[7; 100])).unwrap();
    drop((upload, here));
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    // No disk has room for that, and no sum of sizes overflows.
    for _ in 0..3 {
        fails(repo(&store, "a").start_upload(&UploadOptions::new().size(u64::MAX)), ErrorKind::NoSpace, &[]);
    }
    assert_eq!(store.uploads(None, 10).unwrap().items, []);
}

#[test]
fn sessions_and_their_bytes_are_bounded() {
    let dir = scratch();
    let mut limits = Limits::default();
    (limits.max_uploads, limits.max_upload_bytes) = (3, Some(1000));
    let options = options().limits(limits);
    let store = options.create(dir.root()).unwrap();
    let here = store.default_repository();
    let sized = |size| here.start_upload(&UploadOptions::new().size(size));
    let first = sized(600).unwrap();
    fails(sized(401), ErrorKind::Busy, &["limit=1000"]);
    let mut second = start(&here);
    second.append(0, [1; 400]).unwrap();
    fails(second.append(400, [1; 1]), ErrorKind::Busy, &["limit=1000"]);
    assert_eq!(second.offset(), 400);
    let third = start(&here);
    fails(here.start_upload(&UploadOptions::new()), ErrorKind::Busy, &["limit=3"]);
    // What is not saved does not count once nobody has it; what was reserved does, and both outlive the process.
    let (second_id, third_id) = (second.id(), third.id());
    drop((first, second, third, here));
    store.close().unwrap();
    let store = options.open(dir.root()).unwrap();
    let here = store.default_repository();
    fails(here.start_upload(&UploadOptions::new()), ErrorKind::Busy, &["limit=3"]);
    let mut upload = here.upload(&second_id).unwrap().unwrap();
    upload.append(0, [2; 400]).unwrap();
    here.upload(&third_id).unwrap().unwrap().cancel().unwrap();
    fails(here.start_upload(&UploadOptions::new().size(1)), ErrorKind::Busy, &["limit=1000"]);
    upload.cancel().unwrap();
    let mut upload = here.start_upload(&UploadOptions::new().size(400)).unwrap();
    upload.append(0, [3; 400]).unwrap();
    upload.finish(&expected(&[3; 400])).unwrap();
    here.start_upload(&UploadOptions::new().size(400)).unwrap().cancel().unwrap();
}

#[test]
fn what_has_expired_is_gone_and_makes_room() {
    let dir = scratch();
    let mut limits = Limits::default();
    limits.max_uploads = 2;
    let options = options().limits(limits);
    let store = options.create(dir.root()).unwrap();
    let here = store.default_repository();
    let over = UploadOptions::new().time_to_live(Duration::ZERO);
    let mut upload = here.start_upload(&over).unwrap();
    let id = upload.id();
    upload.append(0, noise(1, 40_000)).unwrap();
    upload.save().unwrap();
    assert_eq!(store.expire_uploads().unwrap(), 0, "somebody has it");
    assert!(file_of(&dir.root(), id).exists());
    drop(upload);
    assert!(here.upload(&id).unwrap().is_none());
    assert_eq!((here.upload_status(&id).unwrap(), store.uploads(None, 9).unwrap().items.len()), (None, 0));
    let stays = start(&here).id();
    assert_eq!(store.expire_uploads().unwrap(), 1);
    assert_eq!((store.expire_uploads().unwrap(), waiting(&dir.root())), (0, 0));
    drop(here.start_upload(&over).unwrap());
    // There is room for two, and one has expired.
    let also = start(&here).id();
    fails(here.start_upload(&UploadOptions::new()), ErrorKind::Busy, &[]);
    here.upload(&also).unwrap().unwrap().cancel().unwrap();
    let mut upload = here.start_upload(&over).unwrap();
    upload.append(0, noise(1, 40_000)).unwrap();
    upload.save().unwrap();
    drop((upload, here));
    store.close().unwrap();
    let store = options.open(dir.root()).unwrap();
    assert_eq!(waiting(&dir.root()), 0, "an open removes what has expired");
    assert_eq!((store.open_report().cleared, store.uploads(None, 9).unwrap().items.len()), (1, 1));
    let endless = UploadOptions::new().time_to_live(Duration::MAX);
    let upload = store.default_repository().start_upload(&endless).unwrap();
    assert!(upload.status().unwrap().expires > upload.status().unwrap().saved);
    assert!(store.default_repository().upload(&stays).unwrap().is_some());
}

#[test]
fn cancelled_is_gone_at_once_and_for_good() {
    let (dir, mut store) = fresh();
    let mut upload = start(&repo(&store, "a"));
    let id = upload.id();
    upload.append(0, noise(1, 40_000)).unwrap();
    upload.save().unwrap();
    upload.cancel().unwrap();
    for _ in 0..2 {
        assert!(repo(&store, "a").upload(&id).unwrap().is_none());
        assert_eq!((repo(&store, "a").upload_status(&id).unwrap(), waiting(&dir.root())), (None, 0));
        crash(&dir, store);
        store = options().open(dir.root()).unwrap();
    }
}

#[test]
fn sessions_go_with_their_repository() {
    let (dir, store) = fresh();
    for exists in [false, true] {
        if exists {
            repo(&store, "a").push_bytes("x").unwrap();
        }
        let mut open = start(&repo(&store, "a"));
        open.append(0, noise(1, 40_000)).unwrap();
        open.save().unwrap();
        open.append(40_000, noise(1, 40_000)).unwrap();
        let closed = start(&repo(&store, "a")).id();
        let other = start(&repo(&store, "a/b")).id();
        assert_eq!(store.delete_repository(&name("a")).unwrap(), exists);
        repo(&store, "a").push_bytes("the next repository of that name").unwrap();
        fails(open.append(80_000, "x"), ErrorKind::NotFound, &[]);
        fails(open.save(), ErrorKind::NotFound, &[]);
        fails(open.finish(&Expected::default()), ErrorKind::NotFound, &[]);
        fails(open.status(), ErrorKind::NotFound, &[]);
        fails(open.cancel(), ErrorKind::NotFound, &[]);
        assert!(repo(&store, "a").upload(&closed).unwrap().is_none());
        assert_eq!(
            store.uploads(None, 10).unwrap().items.iter().map(|upload| upload.id).collect::<Vec<_>>(),
            [other]
        );
        assert_eq!(waiting(&dir.root()), 0);
        resume(&store, "a/b", other).cancel().unwrap();
        store.delete_repository(&name("a")).unwrap();
    }
}

#[test]
fn listings_have_pages() {
    let (_dir, store) = fresh();
    let mut ids: Vec<UploadId> = (0..7).map(|n| start(&repo(&store, &format!("r{n}"))).id()).collect();
    ids.sort();
    let found = all(|after: Option<&UploadId>| {
        let page = store.uploads(after, 3).unwrap();
        (page.items.into_iter().map(|upload| upload.id).collect(), page.more)
    });
    assert_eq!(found, ids);
    let none = store.uploads(None, 0).unwrap();
    assert_eq!((none.items, none.more), (vec![], false));
    assert_eq!(store.uploads(ids.last(), 5).unwrap().items, []);
}

#[test]
fn an_open_keeps_the_files_of_sessions_and_nothing_else() {
    let (dir, store) = fresh();
    let save = |size| {
        let mut upload = start(&store.default_repository());
        upload.append(0, noise(1, size)).unwrap();
        upload.save().unwrap();
        upload.id()
    };
    let (kept, lost, short) = (save(50_000), save(50_000), save(50_000));
    let mut upload = start(&store.default_repository());
    upload.append(0, noise(2, 50_000)).unwrap();
    let unsaved = upload.id();
    drop(upload);
    store.close().unwrap();
    fs::remove_file(file_of(&dir.root(), lost)).unwrap();
    let path = file_of(&dir.root(), short);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(49_999).unwrap();
    let stray = file_of(&dir.root(), "00000000000000000000000000000001".parse().unwrap());
    fs::write(&stray, "of no session").unwrap();
    let store = options().open(dir.root()).unwrap();
    let here = store.default_repository();
    assert!(!stray.exists() && !file_of(&dir.root(), unsaved).exists());
    assert_eq!(here.upload_status(&lost).unwrap(), None, "without its bytes it is none");
    assert!(here.upload(&short).unwrap().is_none(), "nor with fewer of them");
    assert_eq!(here.upload_status(&short).unwrap(), None);
    assert_eq!(here.upload(&unsaved).unwrap().unwrap().offset(), 0);
    let mut upload = here.upload(&kept).unwrap().unwrap();
    assert_eq!(upload.finish(&Expected::default()).unwrap().digest, digest_of(&noise(1, 50_000)));
}

/// What was not synced, and what was copied, is read again before it counts as what was hashed.
#[test]
fn bytes_that_nobody_vouches_for_are_read_again() {
    for copied in [false, true] {
        let dir = scratch();
        let durability = if copied { Durability::Power } else { Durability::Process };
        let options = options().durability(durability);
        let store = options.create(dir.root()).unwrap();
        let mut upload = start(&store.default_repository());
        let (id, content) = (upload.id(), noise(1, 50_000));
        upload.append(0, &content).unwrap();
        upload.save().unwrap();
        drop(upload);
        store.close().unwrap();
        let root = if copied {
            copy_tree(&dir.root(), &dir.path("copy"));
            dir.path("copy")
        } else {
            dir.root()
        };
        for damaged in [false, true] {
            if damaged {
                damage(&file_of(&root, id));
            }
            let store = options.open(&root).unwrap();
            let mut upload = store.default_repository().upload(&id).unwrap().unwrap();
            assert_eq!(upload.offset(), 50_000);
            upload.append(50_000, "x").unwrap();
            let whole = [&content[..], b"x"].concat();
            let finished = upload.finish(&Expected::from(if damaged { digest_of(&whole) } else { absent() }));
            fails(finished, ErrorKind::Mismatch, &["found=sha256:"]);
            drop(upload);
            store.close().unwrap();
            let store = options.open(&root).unwrap();
            assert_eq!(store.default_repository().contents(None, 9).unwrap().items, []);
            store.close().unwrap();
        }
    }
}

#[test]
fn layouts_that_keep_nothing_of_ours_and_views_refuse() {
    let dir = scratch();
    let plain = options().open_plain(dir.root()).unwrap();
    fails(plain.default_repository().start_upload(&UploadOptions::new()), ErrorKind::Unsupported, &["plain"]);
    let id = "0".repeat(32).parse().unwrap();
    fails(plain.default_repository().upload(&id), ErrorKind::Unsupported, &["plain"]);
    plain.close().unwrap();
    let (dir, store) = fresh();
    let id = start(&repo(&store, "a")).id();
    store.close().unwrap();
    let view = Options::new().open_read_only(dir.root()).unwrap();
    fails(view.default_repository().start_upload(&UploadOptions::new()), ErrorKind::ReadOnly, &[]);
    fails(repo(&view, "a").upload(&id), ErrorKind::ReadOnly, &[]);
    fails(view.expire_uploads(), ErrorKind::ReadOnly, &[]);
    assert_eq!(repo(&view, "a").upload_status(&id).unwrap().unwrap().id, id);
    assert_eq!(view.uploads(None, 9).unwrap().items.len(), 1);
}

#[test]
fn a_session_keeps_its_store_open_and_crosses_threads() {
    fn crosses<T: Send + Sync>(_: &T) {}
    let (dir, store) = fresh();
    let mut upload = start(&store.default_repository());
    crosses(&upload);
    drop(store);
    upload.append(0, "x").unwrap();
    upload.finish(&expected(b"x")).unwrap();
    fails(options().lock_timeout(Duration::ZERO).open(dir.root()), ErrorKind::Locked, &[]);
    drop(upload);
    let store = options().open(dir.root()).unwrap();
    assert!(store.default_repository().get(&digest_of(b"x")).unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Cut wherever it may be, saved or not, by one process or several, it is hashed as a whole.
    #[test]
    fn any_way_of_sending_it_gives_the_hash_of_the_whole(
        size in 0_usize..80_000,
        cuts in proptest::collection::vec((0_usize..80_000, 0_u8..3), 0..8),
        algorithm in 0_usize..3,
    ) {
        let (dir, mut store) = fresh();
        let algorithm = Algorithm::ALL[algorithm];
        let content = noise(size as u64 + 1, size);
        let mut cuts: Vec<(usize, u8)> = cuts.into_iter().map(|(at, then)| (at % (size + 1), then)).collect();
        cuts.sort_unstable();
        let mut upload = store.default_repository().start_upload(&UploadOptions::new().algorithm(algorithm)).unwrap();
        let id = upload.id();
        for (at, then) in cuts {
            let from = upload.offset();
            prop_assert!(from <= at as u64);
            upload.append(from, &content[usize::try_from(from).unwrap()..at]).unwrap();
            if then > 0 {
                upload.save().unwrap();
            }
            if then > 1 {
                drop(upload);
                store = reopen(&dir, store);
                upload = store.default_repository().upload(&id).unwrap().unwrap();
                prop_assert_eq!(upload.offset(), at as u64);
            }
        }
        let from = upload.offset();
        upload.append(from, &content[usize::try_from(from).unwrap()..]).unwrap();
        prop_assert_eq!(upload.finish(&Expected::default()).unwrap().digest, algorithm.digest(&content));
        let digest: Digest = algorithm.digest(&content);
        holds(&store.default_repository(), &digest, &content);
    }
}
