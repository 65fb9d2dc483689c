//! What somebody who means harm can hand to the store, threat by threat.
//!
//! | threat | here | elsewhere |
//! | --- | --- | --- |
//! | a digest as a path | `a_digest_never_leads_out_of_the_layout` | `digest/tests.rs`, `fuzz/fuzz_targets/digest.rs` |
//! | names of tags and repositories | `names_are_keys_and_never_files` | `oci/reference.rs`, `fuzz/fuzz_targets/reference.rs` |
//! | archives | no archive of a layout is read yet; packed directories: | `tests/cli/directories.rs` |
//! | links in the layout | `links_in_a_layout_are_never_followed` | `sys/dir/tests.rs`, `tests/cli/artifacts.rs` |
//! | a huge manifest | `a_huge_manifest_is_refused_before_it_is_read` | `tests/store/manifests.rs` |
//! | JSON that blows up | `json_costs_no_more_than_its_text` | `oci/json.rs`, `oci/manifest/tests.rs` |
//! | manifests below manifests without end | `chains_of_manifests_exhaust_no_stack` | `tests/store/graph.rs`, `tests/cli/tree.rs` |
//! | ambiguous documents | `a_document_that_readers_understand_differently_is_refused` | `oci/json.rs` |
//! | mixed up digests and sizes | `bytes_are_what_was_announced_or_nothing_is_kept` | `blobs/tests/ingest.rs` |
//! | a source that changes while it is read | `a_source_that_changes_is_stored_as_it_was_read` | |
//! | leaks between repositories | `what_another_repository_holds_is_as_if_it_were_not_there` | `tests/store/repositories.rs` |
//! | who may move a tag | `of_many_that_create_a_tag_one_wins` | `tests/store/tags.rs` |
//! | unbounded lists | `a_limit_of_everything_allocates_nothing` | `tests/store/graph.rs` |
//! | decompression | only packed directories are decompressed: | `tests/cli/directories.rs` |
//! | exhausted resources | `handles_of_many_contents_hold_few_files` | `tests/cli/artifacts.rs`, `tests/store/options.rs` |
//! | permissions | | `tests/cli/hostile.rs` |
//! | a poisoned layout | `a_poisoned_layout_is_not_believed` | `tests/store/foreign.rs`, `tests/store/bitrot` |
//! | text for a terminal | | `tests/cli/hostile.rs`, `tests/cli/references.rs` |

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::thread;

use orlop::oci::{RepositoryName, Tag};
use orlop::transfer::Copier;
use orlop::{Algorithm, Digest, ErrorKind, Expect, Expected, Options, Verify};
use serde_json::json;

use crate::support::*;

/// Peak resident memory in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_digest_never_leads_out_of_the_layout() {
    let (dir, store) = fresh();
    let secret = dir.file("secret", b"secret");
    let here = store.default_repository();
    let evil = [
        "sha256:../../../secret",
        "sha256:..%2f..%2fsecret",
        "../secret:aa",
        "sha256:/etc/passwd",
        "sha256/../../secret:aa",
        &format!("sha256:{}", "A".repeat(64)),
        &format!("sha256:{}\0", "a".repeat(63)),
        &format!("sha256:{}/", "a".repeat(63)),
    ];
    let before = content_tree(&dir.root());
    for digest in evil {
        assert!(digest.parse::<Digest>().is_err(), "{digest:?} was taken");
        // As a descriptor of a manifest that is pushed.
        let body = json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": { "mediaType": CONFIG, "digest": digest, "size": 6 }, "layers": [],
        });
        let pushed = here.push_manifest(IMAGE, serde_json::to_vec(&body).unwrap(), &[]);
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Invalid, "{digest:?}");
    }
    assert_eq!(content_tree(&dir.root()), before);
    // As an entry of a layout: it is reported, and leads nowhere.
    let image = image("i", 1);
    plain_layout(&dir.path("plain"), &[(Some("good"), &image)], &[]);
    edit_index(&dir.path("plain"), |entries| {
        for (at, digest) in evil.iter().enumerate() {
            entries.push(json!({
                "mediaType": IMAGE, "digest": digest, "size": 6, "annotations": { REF_NAME: format!("evil{at}") },
            }));
        }
    });
    let store = options().create(dir.path("plain")).unwrap();
    assert_eq!(tags(&store.default_repository()), [("good".to_owned(), image.digest())]);
    assert!(store.reports().len() >= evil.len(), "{:?}", store.reports());
    assert_eq!(fs::read(secret).unwrap(), b"secret");
}

#[test]
fn an_algorithm_that_nobody_knows_is_referred_to_and_never_stored() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let unknown = "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564";
    let config = b"{}";
    here.push_bytes(&config[..]).unwrap();
    let body = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(EMPTY, config),
        "layers": [{ "mediaType": LAYER, "digest": unknown, "size": 3 }],
    });
    let bytes = serde_json::to_vec(&body).unwrap();
    let mut batch = store.batch();
    let digest = batch.push_sparse_manifest(&here, IMAGE, bytes.clone(), Algorithm::Sha256).unwrap();
    batch.commit().unwrap();
    assert_eq!(&here.manifest(&digest).unwrap().unwrap().content[..], &bytes[..]);
    store.flush().unwrap();
    let names: Vec<_> =
        fs::read_dir(dir.root().join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["sha256"]);
}

#[test]
fn names_are_keys_and_never_files() {
    for name in
        ["..", "../x", "/x", "a//b", "a/", "a/../b", ".a", "A", "a\0b", "a b", "a\\b", "a:b", "a@b", ""]
    {
        assert!(name.parse::<RepositoryName>().is_err(), "{name:?} was taken");
    }
    for name in ["..", "../x", "a/b", "", "-a", ".a", "a:b", "a\nb", "a\u{1b}[31m", &"a".repeat(129)] {
        assert!(name.parse::<Tag>().is_err(), "{name:?} was taken");
    }
    // The longest and oddest that are allowed make no file of their name.
    let (dir, store) = fresh();
    let long = ["a".repeat(100), "con".into(), "nul".into(), "a".repeat(120)].join("/");
    let here = repo(&store, &long);
    image("i", 1).push(&here, &["CON", &"T".repeat(128)]);
    store.flush().unwrap();
    let paths: Vec<String> = tree(&dir.root()).into_keys().collect();
    assert!(paths.iter().all(|path| !path.contains("con") && !path.contains("CON") && !path.contains("TTT")));
    assert_eq!(tags(&here).len(), 2);
}

#[test]
fn links_in_a_layout_are_never_followed() {
    // A link in place of a content, of the folder of contents, of index.json, and of our own folder.
    for what in ["content", "algorithm", "blobs", "index.json", ".orlop"] {
        let dir = scratch();
        let image = image("i", 1);
        let (root, elsewhere) = (dir.root(), dir.path("elsewhere"));
        plain_layout(&root, &[(Some("v1"), &image)], &[]);
        let target = match what {
            "content" => blob_path(&root, &image.digest()),
            "algorithm" => root.join("blobs/sha256"),
            other => root.join(other),
        };
        if target.exists() {
            fs::rename(&target, &elsewhere).unwrap();
        } else {
            fs::create_dir(&elsewhere).unwrap();
        }
        symlink(&elsewhere, &target).unwrap();
        let look = || if elsewhere.is_dir() { content_tree(&elsewhere) } else { BTreeMap::new() };
        let before = look();
        if let Ok(store) = options().verify(Verify::First).create(&root) {
            let here = store.default_repository();
            assert!(here.manifest(&image.digest()).map_or(true, |found| found.is_none()), "{what}");
            // Pushing gives the name a file of its own.
            image.push(&here, &["mine"]);
            store.flush().unwrap();
            assert_eq!(&here.manifest(&image.digest()).unwrap().unwrap().content[..], &image.bytes[..]);
        } else {
            assert_ne!(what, "content");
        }
        assert_eq!(look(), before, "{what}: something was written through a link");
        assert!(what != "content" || fs::read(&elsewhere).unwrap() == image.bytes, "written through a link");
    }
}

#[test]
fn a_huge_manifest_is_refused_before_it_is_read() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let huge = vec![b' '; (4 << 20) + 1];
    fails(here.push_manifest(IMAGE, huge, &[]), ErrorKind::Invalid, &["limit=4194304"]);
    // In a layout it is a gigabyte, on the disk nothing: reading it would show.
    let image = image("i", 1);
    let root = dir.path("plain");
    plain_layout(&root, &[(Some("good"), &image)], &[]);
    let name = digest_of(b"huge");
    fs::File::create(blob_path(&root, &name)).unwrap().set_len(1 << 30).unwrap();
    edit_index(&root, |entries| {
        entries.push(json!({
            "mediaType": IMAGE, "digest": name.to_string(), "size": 1 << 30,
            "annotations": { REF_NAME: "huge" },
        }));
    });
    let before = peak();
    let store = options().create(&root).unwrap();
    assert_eq!(tags(&store.default_repository()).len(), 1);
    assert!(store.reports().iter().any(|report| report.to_string().contains(&name.to_string())));
    assert!(peak().saturating_sub(before) < 600 << 10, "{} KiB, then {} KiB", before, peak());
}

#[test]
fn json_costs_no_more_than_its_text() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    here.push_bytes("{}").unwrap();
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{},"#, descriptor(EMPTY, b"{}"));
    let refused = |tail: String| {
        let before = std::time::Instant::now();
        let error = here.push_manifest(IMAGE, format!("{head}{tail}").into_bytes(), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().len() < 2000, "the message repeats the document");
        assert!(before.elapsed().as_secs() < 20, "{:?}", before.elapsed());
    };
    let fill = |text: &str| text.repeat((4 << 20) / text.len() - 200);
    let before = peak();
    refused(format!(r#""x":{}"#, "[".repeat(2 << 20)));
    refused(format!(r#""x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)));
    refused(format!(r#""layers":[{}{{}}]}}"#, fill("{},")));
    refused(format!(r#""layers":[{}null]}}"#, fill("null,")));
    refused(format!(r#""annotations":{{{}"z":"z"}}}}"#, fill(r#""a":"","#)));
    refused(format!(r#""{}":1,"layers":[]"#, "k".repeat(3 << 20)));
    // Many descriptors, each of them sound: more than anybody has.
    let one = descriptor(LAYER, b"{}").to_string();
    refused(format!(r#""layers":[{}{one}]}}"#, format!("{one},").repeat(10_001)));
    assert!(peak().saturating_sub(before) < 600 << 10, "{} KiB, then {} KiB", before, peak());
}

#[test]
fn chains_of_manifests_exhaust_no_stack() {
    const LENGTH: usize = 1500;
    let (dir, store) = fresh();
    let here = store.default_repository();
    // Each refers to the one before; each list holds the one before.
    let (mut referrers, mut lists) = (vec![image("i", 0)], vec![image("i", 0)]);
    for n in 0..LENGTH {
        referrers.push(referrer(&referrers[n], "application/chain", "s"));
        lists.push(index(&[&lists[n]]));
    }
    let mut batch = store.batch();
    for part in referrers[0].parts.iter().chain(&referrers[1].parts) {
        batch.push_bytes(&here, part.clone()).unwrap();
    }
    for artifact in referrers.iter().chain(&lists[1..]) {
        batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
    }
    let (first, last) = (referrers[0].digest(), referrers[LENGTH].digest());
    batch.tag(&here, &tag("deep"), lists[LENGTH].digest(), Expect::Any);
    batch.commit().unwrap();
    let (_copy, other) = fresh();
    let to = other.default_repository();
    let copied = Copier::new(&here, &to).referrers(true).copy(&first, &[]).unwrap();
    assert_eq!(copied.manifests, LENGTH as u64 + 1);
    assert!(to.manifest(&last).unwrap().is_some());
    let copied = Copier::new(&here, &to).copy(&lists[LENGTH].digest(), &[]).unwrap();
    assert_eq!(copied.manifests, LENGTH as u64 + 1);
    assert!(store.verify().index(true).run().unwrap().is_sound());
    drop(here);
    store.close().unwrap();
    // As a layout of somebody else.
    fs::remove_dir_all(dir.root().join(".orlop")).unwrap();
    let report = options().rebuild(dir.root()).unwrap();
    assert_eq!(report.reports, []);
    let store = options().open(dir.root()).unwrap();
    let here = store.default_repository();
    assert_eq!(here.resolve(&tag("deep")).unwrap().unwrap().digest, lists[LENGTH].digest());
    assert!(here.manifest(&last).unwrap().is_some());
    for list in &lists {
        assert!(here.manifest(&list.digest()).unwrap().is_some());
    }
    assert!(store.verify().index(true).run().unwrap().is_sound());
}

#[test]
fn a_document_that_readers_understand_differently_is_refused() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    here.push_bytes("{}").unwrap();
    let config = descriptor(EMPTY, b"{}");
    let bodies = [
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"layers":[]}}"#),
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"Layers":[]}}"#),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[],"manifests":[]}}"#
        ),
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","config":{config},"layers":[]}}"#),
        format!(r#"{{"schemaVersion":1,"mediaType":"{IMAGE}","config":{config},"layers":[]}}"#),
        format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[]}}{{}}"#),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"a/b","digest":"{0}","digest":"{0}","size":2}},"layers":[]}}"#,
            sha256(b"{}")
        ),
    ];
    for body in bodies {
        let pushed = here.push_manifest(IMAGE, body.clone().into_bytes(), &[]);
        assert_eq!(pushed.err().map(|error| error.kind()), Some(ErrorKind::Invalid), "{body}");
    }
    assert_eq!(here.manifests(None, 9).unwrap().items, []);
}

#[test]
fn bytes_are_what_was_announced_or_nothing_is_kept() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let before = content_tree(&dir.root());
    for length in [10, INLINE + 1, 200_000] {
        let bytes = noise(length as u64, length);
        let mut other = bytes.clone();
        other[length / 2] ^= 1;
        let announced = Expected::from(digest_of(&bytes));
        fails(here.push_reader(&other[..], &announced), ErrorKind::Mismatch, &[]);
        fails(here.push_reader(&bytes[1..], &announced), ErrorKind::Mismatch, &[]);
        // An endless source stops where the announced size does.
        let image = json!({ "mediaType": LAYER, "digest": sha256(&bytes), "size": length });
        let announced: orlop::oci::Descriptor = serde_json::from_value(image).unwrap();
        let endless = std::io::repeat(7).take(64 << 20);
        let began = peak();
        fails(
            here.push_reader(endless, &Expected::from(&announced)),
            ErrorKind::Mismatch,
            &[&format!("found={}", length + 1)],
        );
        assert!(peak().saturating_sub(began) < 1 << 20);
    }
    assert_eq!(content_tree(&dir.root()), before, "something of it stayed");
    // The same bytes under two algorithms are two contents, and one is not the other's.
    let bytes = noise(1, 100);
    let long = Algorithm::Sha512.digest(&bytes);
    here.push_reader(&bytes[..], &Expected::from(long)).unwrap();
    assert!(here.get(&digest_of(&bytes)).unwrap().is_none());
    assert!(here.get(&long).unwrap().is_some());
}

#[test]
fn a_source_that_changes_is_stored_as_it_was_read() {
    /// Another content each time it is asked from the beginning; what is hashed must be what is kept.
    struct Changing(u8, usize);
    impl Read for Changing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(self.1);
            self.0 = self.0.wrapping_add(1);
            buffer[..length].fill(self.0);
            self.1 -= length;
            Ok(length)
        }
    }
    let (dir, store) = fresh();
    let here = store.default_repository();
    for length in [100, 3 << 20] {
        let pushed = here.push_reader(Changing(0, length), &Expected::default()).unwrap();
        let blob = here.get(&pushed.digest).unwrap().unwrap();
        blob.verify().unwrap();
        assert_eq!(blob.len(), length);
    }
    // A file that is written while it is taken in: whatever was read, its name is right.
    let source = dir.file("source", &noise(1, 2 << 20));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40_u64 {
                fs::write(&source, noise(round, (2 << 20) - round as usize * 100)).unwrap();
            }
        });
        while !writer.is_finished() {
            if let Ok(pushed) = here.push_file(&source, &Expected::default()) {
                assert_eq!(here.get(&pushed.digest).unwrap().unwrap().len() as u64, pushed.size);
                assert!(store.unscoped().verify(&pushed.digest).unwrap());
            }
        }
    });
    store.flush().unwrap();
    assert!(store.verify().read_data(true).run().unwrap().is_sound());
}

#[test]
fn what_another_repository_holds_is_as_if_it_were_not_there() {
    let (_dir, store) = fresh();
    let (theirs, mine) = (repo(&store, "theirs"), repo(&store, "mine"));
    let secret = image("secret", 2);
    secret.push(&theirs, &["v1"]);
    let (digest, missing) = (secret.digest(), absent());
    for (known, unknown) in [(digest, missing), (digest_of(&secret.parts[0]), missing)] {
        assert_eq!(mine.stat(&known).unwrap(), mine.stat(&unknown).unwrap());
        assert!(mine.get(&known).unwrap().is_none() && mine.get(&unknown).unwrap().is_none());
        assert!(mine.reader(&known).unwrap().is_none() && mine.range(&known, 0..1).unwrap().is_none());
        assert!(mine.manifest(&known).unwrap().is_none());
        // A digest that is known gives no hold on the content: not by mounting, tagging or listing it.
        assert!(repo(&store, "third").mount(&mine, &known).unwrap().is_none());
        let refused = |digest| mine.tag(&tag("v1"), digest, Expect::Any).unwrap_err();
        assert_eq!(refused(&known).kind(), refused(&unknown).kind());
    }
    let list = index(&[&secret]);
    fails(mine.push_manifest(INDEX, list.bytes, &[]), ErrorKind::NotFound, &[&digest.to_string()]);
    assert_eq!(mine.manifests(None, 9).unwrap().items, []);
    assert_eq!(tags(&mine), []);
}

#[test]
fn of_many_that_create_a_tag_one_wins() {
    let (_dir, store) = fresh();
    let images: Vec<Artifact> = (0..8).map(|n| image(&n.to_string(), 1)).collect();
    let here = store.default_repository();
    for image in &images {
        image.push(&here, &[]);
    }
    let barrier = Barrier::new(images.len());
    let won: usize = thread::scope(|scope| {
        let racers: Vec<_> = images
            .iter()
            .map(|image| {
                let (here, barrier) = (here.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    usize::from(here.tag(&tag("latest"), &image.digest(), Expect::Absent).is_ok())
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_limit_of_everything_allocates_nothing() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let image = image("i", 1);
    image.push(&here, &["a", "b"]);
    referrer(&image, "application/x", "1").push(&here, &[]);
    let everything = usize::MAX;
    assert_eq!(here.tags(None, everything).unwrap().items.len(), 2);
    assert_eq!(here.manifests(None, everything).unwrap().items.len(), 2);
    assert_eq!(here.contents(None, everything).unwrap().items.len(), 4);
    assert_eq!(store.repositories(None, everything).unwrap().items.len(), 1);
    assert_eq!(here.predecessors(&digest_of(&image.parts[0]), None, everything).unwrap().items.len(), 1);
    assert_eq!(here.referrers(&image.digest()).limit(everything).page().unwrap().descriptors.len(), 1);
}

#[test]
fn handles_of_many_contents_hold_few_files() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let bytes: Vec<Vec<u8>> = (0..400).map(|n| noise(n, 40_000)).collect();
    let mut batch = store.batch();
    for content in &bytes {
        batch.push_bytes(&here, content.clone()).unwrap();
    }
    batch.commit().unwrap();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let blobs: Vec<_> = bytes.iter().map(|content| here.get(&digest_of(content)).unwrap().unwrap()).collect();
    // Other tests run beside this one and open files as well, so the bound is generous.
    assert!(open() < before + 300, "{} files, then {}", before, open());
    assert!(blobs.iter().zip(&bytes).all(|(blob, content)| blob[..] == content[..]));
}

#[test]
fn a_poisoned_layout_is_not_believed() {
    let dir = scratch();
    let (good, evil) = (image("good", 2), image("evil", 2));
    let root = dir.root();
    plain_layout(&root, &[(Some("good"), &good), (Some("evil"), &evil)], &[]);
    // Content under names that it has not, of the right size.
    let spoil = |bytes: &[u8]| {
        let mut wrong = bytes.to_vec();
        wrong[0] ^= 1;
        fs::write(blob_path(&root, &digest_of(bytes)), wrong).unwrap();
    };
    spoil(&evil.bytes);
    spoil(&good.parts[0]);
    // A reader of the foreign layout trusts no name before it has hashed what is there.
    let view = Options::new().open_read_only(&root).unwrap();
    let here = view.default_repository();
    fails(here.get(&digest_of(&good.parts[0])), ErrorKind::Corrupt, &[&sha256(&good.parts[0])]);
    assert!(here.manifest(&evil.digest()).map_or(true, |found| found.is_none()));
    assert_eq!(&here.get(&digest_of(&good.parts[1])).unwrap().unwrap()[..], &good.parts[1][..]);
    drop((here, view));
    // Nor does a store that takes it over.
    let store = options().create(&root).unwrap();
    let here = store.default_repository();
    assert!(here.manifest(&evil.digest()).map_or(true, |found| found.is_none()));
    for bytes in good.blobs().chain(evil.blobs()) {
        if let Ok(Some(found)) = here.get(&digest_of(bytes)) {
            assert_eq!(&found[..], &bytes[..]);
        }
    }
    assert!(!store.reports().is_empty());
    // Pushed again, all of it is right.
    good.push(&here, &["good"]);
    evil.push(&here, &["evil"]);
    store.flush().unwrap();
    Layout::sound(&root);
}
