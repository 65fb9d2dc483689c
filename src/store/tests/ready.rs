//! Handles that do not wait: what is in memory is answered, and for nothing else is a disk asked.

use rustix::io::Errno;

use super::artifact::noise;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Reference;
use crate::store::locks::Need;
use crate::store::{Options, Publish, ReadMode, Repository, Store, UploadId, UploadOptions, Verify};
use crate::sys::fault::{Call, Fault, arm};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a repository is asked for.
struct Asked {
    manifest: Digest,
    blob: Digest,
    upload: UploadId,
}

/// Every read of a repository, by its name, with what it answers in words.
fn reads(here: &Repository, asked: &Asked) -> Vec<(&'static str, Result<String>)> {
    fn told<T: std::fmt::Debug>(answer: Result<T>) -> Result<String> {
        answer.map(|answer| format!("{answer:?}"))
    }
    let Asked { manifest, blob, upload } = asked;
    let bytes = |digest| here.get(digest).map(|found| found.map(|blob| blob.to_vec()));
    vec![
        ("stat", told(here.stat(blob))),
        ("get", told(bytes(blob))),
        ("reader", told(here.reader(blob))),
        ("range", told(here.range(blob, 1..30_000))),
        ("resolve", told(here.resolve(&"v1".parse().unwrap()))),
        ("resolve_reference", told(here.resolve_reference(&Reference::Digest(*manifest)))),
        ("manifest", told(here.manifest(manifest).map(|found| found.map(|found| found.content.to_vec())))),
        ("manifests", told(here.manifests(None, 10))),
        ("tags", told(here.tags(None, 10))),
        ("tags_of", told(here.tags_of(manifest))),
        ("contents", told(here.contents(None, 10))),
        ("referrers", told(here.referrers(manifest).page())),
        ("successors", told(here.successors(manifest))),
        ("predecessors", told(here.predecessors(blob, None, 10))),
        ("upload_status", told(here.upload_status(upload))),
    ]
}

fn fill(here: &Repository) -> Asked {
    let blob = here.push_bytes(noise("layer", 40_000)).unwrap().digest;
    let layer = format!(r#"{{"mediaType":"text/plain","digest":"{blob}","size":40000}}"#);
    let text = |subject: &str| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{layer},"layers":[]{subject}}}"#)
    };
    let manifest = here.push_manifest(MANIFEST, text(""), &["v1".parse().unwrap()]).unwrap();
    let subject = format!(
        r#","subject":{{"mediaType":"{MANIFEST}","digest":"{}","size":{}}}"#,
        manifest.digest, manifest.size
    );
    here.push_manifest(MANIFEST, text(&subject), &[]).unwrap();
    let upload = here.start_upload(&UploadOptions::new()).unwrap().id();
    Asked { manifest: manifest.digest, blob, upload }
}

fn kind<T>(answer: Result<T>) -> Option<ErrorKind> {
    answer.err().as_ref().map(Error::kind)
}

#[test]
fn what_is_in_memory_is_answered_alike() {
    for mode in [ReadMode::Map, ReadMode::Copy] {
        let temp = tempfile::tempdir().unwrap();
        let store =
            Options::new().publish(Publish::Manual).read_mode(mode).create(temp.path().join("s")).unwrap();
        let here = store.repository(&"r".parse().unwrap());
        let asked = fill(&here);
        // Journalled first, then from files.
        for _ in 0..2 {
            let expected = reads(&here, &asked);
            for ((what, answer), (_, expected)) in
                reads(&here.without_waiting(), &asked).into_iter().zip(expected)
            {
                assert_eq!(answer.unwrap(), expected.unwrap(), "{what}");
            }
            store.flush().unwrap();
        }
        let absent = Digest::of(b"absent");
        assert!(here.without_waiting().clone().get(&absent).unwrap().is_none());
        assert_eq!(kind(here.without_waiting().range(&asked.blob, 0..40_001)), Some(ErrorKind::Invalid));
        // What writes does as ever.
        let quick = here.without_waiting();
        let armed = arm(Fault::skip(Call::ReadyRows, store.root()).forever());
        let digest = quick.push_bytes("more").unwrap().digest;
        quick.untag(&"v1".parse().unwrap(), crate::store::Expect::Any).unwrap();
        assert_eq!(armed.fired(), 0);
        drop(armed);
        assert!(quick.stat(&digest).unwrap().is_some());
        store.close().unwrap();
    }
}

#[test]
fn rows_that_are_not_in_memory_are_not_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let store = Options::new().create(&path).unwrap();
    let asked = fill(&store.repository(&"r".parse().unwrap()));
    store.close().unwrap();
    let store = Options::new().open(&path).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    // Opening has not looked at who holds what, so nothing of that is cached, in earnest.
    for (what, answer) in reads(&here.without_waiting(), &asked) {
        let cold = ["stat", "get", "reader", "range", "manifest", "manifests", "contents", "successors"];
        if cold.contains(&what) {
            assert_eq!(kind(answer), Some(ErrorKind::WouldBlock), "{what}");
        }
    }
    let expected = reads(&here, &asked);
    for ((what, answer), (_, expected)) in reads(&here.without_waiting(), &asked).into_iter().zip(expected) {
        assert_eq!(answer.unwrap(), expected.unwrap(), "{what}");
    }
    // Every look-up of every read passes the point.
    let armed = arm(Fault::skip(Call::ReadyRows, &path).forever());
    for (what, answer) in reads(&here.without_waiting(), &asked) {
        assert_eq!(kind(answer), Some(ErrorKind::WouldBlock), "{what}");
    }
    drop(armed);
    for (what, answer) in reads(&here, &asked) {
        answer.map_err(|error| format!("{what}: {error}")).unwrap();
    }
}

fn in_files(options: Options) -> (tempfile::TempDir, Store, Repository, Digest) {
    let temp = tempfile::tempdir().unwrap();
    let store = options.publish(Publish::Manual).create(temp.path().join("s")).unwrap();
    let here = store.repository(&"r".parse().unwrap());
    let digest = here.push_bytes(noise("content", 40_000)).unwrap().digest;
    store.flush().unwrap();
    (temp, store, here, digest)
}

#[test]
fn a_file_that_is_not_in_memory_is_not_waited_for() {
    let (_temp, store, here, digest) = in_files(Options::new());
    let quick = here.without_waiting();
    for call in [Call::OpenReady, Call::Resident] {
        let armed = arm(Fault::new(call, store.root(), Errno::IO).forever());
        let waiting =
            [Call::Open, Call::Read].map(|call| arm(Fault::new(call, store.root(), Errno::IO).forever()));
        assert_eq!(kind(quick.get(&digest)), Some(ErrorKind::WouldBlock));
        assert_eq!(kind(quick.range(&digest, 5..10)), Some(ErrorKind::WouldBlock));
        assert!(armed.fired() >= 2 && waiting.iter().all(|armed| armed.fired() == 0));
        assert!(quick.stat(&digest).unwrap().is_some());
    }
    assert_eq!(quick.get(&digest).unwrap().unwrap().len(), 40_000);
}

#[test]
fn a_stripe_that_somebody_has_is_not_waited_for() {
    let (_temp, store, here, digest) = in_files(Options::new());
    let quick = here.without_waiting();
    let held = store.core().locks.content([(&digest, Need::Exclusive)].into_iter());
    assert_eq!(kind(quick.stat(&digest)), Some(ErrorKind::WouldBlock));
    assert_eq!(kind(quick.manifest(&digest)), Some(ErrorKind::WouldBlock));
    assert_eq!(kind(quick.resolve_reference(&Reference::Digest(digest))), Some(ErrorKind::WouldBlock));
    assert!(quick.get(&digest).unwrap().is_some(), "the bytes are asked for without a stripe");
    drop(held);
    assert!(quick.stat(&digest).unwrap().is_some());
}

#[test]
fn hashing_is_for_those_who_may_wait_unless_there_is_little_of_it() {
    for verify in [Verify::First, Verify::Always] {
        let (_temp, store, here, digest) = in_files(Options::new().verify(verify));
        let quick = here.without_waiting();
        let large = here.push(store.ingest_bytes(noise("large", 100_000), &Default::default()).unwrap());
        let large = large.unwrap().digest;
        store.flush().unwrap();
        assert_eq!(kind(quick.get(&large)), Some(ErrorKind::WouldBlock));
        assert_eq!(kind(quick.reader(&large)), Some(ErrorKind::WouldBlock));
        assert!(quick.get(&digest).unwrap().is_some() && quick.reader(&digest).unwrap().is_some());
        assert!(here.reader(&large).unwrap().is_some());
        // Once hashed is enough, or is not.
        assert_eq!(quick.reader(&large).is_ok(), verify == Verify::First);
        // Damage is found by somebody who can put it down.
        let rotten = here.push_bytes(noise("rotten", 50_000)).unwrap().digest;
        store.flush().unwrap();
        let path = store.core().blobs.path(&rotten);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, noise("rot", 50_000)).unwrap();
        let damaged = || store.core().metadata.view().content(&rotten).unwrap().unwrap().damaged;
        assert_eq!(kind(quick.get(&rotten)), Some(ErrorKind::WouldBlock));
        assert_eq!((kind(quick.reader(&rotten)), damaged()), (Some(ErrorKind::WouldBlock), false));
        assert_eq!((kind(here.get(&rotten)), damaged()), (Some(ErrorKind::Corrupt), true));
    }
}

#[test]
fn small_content_is_kept_once_it_was_hashed() {
    let (_temp, store, here, _) = in_files(Options::new());
    let (sound, rotten) = (noise("sound", 30_000), noise("rotten", 30_000));
    let [small, damaged] = [&sound, &rotten].map(|content| here.push_bytes(content.clone()).unwrap().digest);
    store.flush().unwrap();
    let path = store.core().blobs.path(&damaged);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, noise("rot", 30_000)).unwrap();
    let quick = here.without_waiting();
    // Damage is given as by any other handle that does not verify, and not kept: the right bytes take its place.
    assert!(*quick.get(&damaged).unwrap().unwrap() == noise("rot", 30_000));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &rotten).unwrap();
    for (digest, content) in [(&small, &sound), (&damaged, &rotten)] {
        assert!(*quick.get(digest).unwrap().unwrap() == *content);
    }
    let armed =
        [Call::OpenReady, Call::Open].map(|call| arm(Fault::new(call, store.root(), Errno::IO).forever()));
    for (digest, content) in [(&small, &sound), (&damaged, &rotten)] {
        assert!(*quick.get(digest).unwrap().unwrap() == *content);
        assert!(store.repository(&"other".parse().unwrap()).without_waiting().get(digest).unwrap().is_none());
    }
    assert!(armed.iter().all(|armed| armed.fired() == 0));
    drop(armed);
    assert!(quick.get(&small).unwrap().unwrap().file().unwrap().is_some());
    let mut batch = store.batch();
    batch.delete_blob(&here, &small);
    batch.commit().unwrap();
    assert!(quick.get(&small).unwrap().is_none(), "who holds it is asked each time");
}
