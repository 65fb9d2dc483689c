//! Many processes on one layout: pushes beside pushes, readers of ours and of nobody's beside a live writer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orlop::oci::Tag;
use orlop::{Expect, Options, Publish, Store};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::support::*;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Far below the time that a writing verb waits for the lock, far above what a reading verb needs on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// What a tool that knows only the image-layout specification finds in a directory: the names in `index.json`. Panics when
/// a document is torn, or when anything that is reached, subjects excepted, is missing or not what it is called.
fn walk(root: &Path) -> BTreeMap<String, String> {
    let marker: Value = serde_json::from_slice(&fs::read(root.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    let text = fs::read(root.join("index.json")).unwrap();
    let document: Value = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("index.json is torn: {e}"));
    let entries = document["manifests"].as_array().expect("index.json has an array of manifests");
    let mut seen = BTreeSet::new();
    let mut todo: Vec<Value> = entries.clone();
    while let Some(descriptor) = todo.pop() {
        let digest = descriptor["digest"].as_str().unwrap();
        if !seen.insert(digest.to_owned()) {
            continue;
        }
        let path = root.join("blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("reached and missing: {digest}: {e}"));
        let hash: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(format!("sha256:{hash}"), digest, "not what it is called");
        assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64), "{digest}");
        if descriptor["mediaType"] == MANIFEST {
            let manifest: Value = serde_json::from_slice(&bytes).unwrap();
            todo.push(manifest["config"].clone());
            todo.extend(manifest["layers"].as_array().unwrap().iter().cloned());
        }
    }
    let named = entries.iter().filter_map(|entry| {
        Some((entry["annotations"][REF_NAME].as_str()?.to_owned(), entry["digest"].as_str()?.to_owned()))
    });
    let names: BTreeMap<_, _> = named.clone().collect();
    assert_eq!(names.len(), named.count(), "a name is listed twice");
    names
}

fn publishing(root: &Path, interval: u64) -> Store {
    let publish = Publish::Interval(Duration::from_millis(interval));
    Options::new().publish(publish).lock_timeout(Duration::from_secs(120)).open_or_create(root).unwrap()
}

/// Pushes a small artifact of its own under a tag, through the library.
fn push_through(store: &Store, seed: &str, name: &str) {
    let here = store.default_repository();
    let layer = format!("layer of {seed}").into_bytes();
    let layer = here.push_bytes(layer).map(|pushed| (pushed.digest, pushed.size)).unwrap();
    here.push_bytes(&b"{}"[..]).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/b",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": layer.0.to_string(), "size": layer.1}],
    });
    here.push_manifest(MANIFEST, serde_json::to_vec(&manifest).unwrap(), &[name.parse::<Tag>().unwrap()])
        .unwrap();
}

/// Starts every push before it waits for any.
fn push_at_once(place: &Place, flags: &[&str], count: usize) {
    for index in 0..count {
        // Journalled and not, some content shared by all.
        let length = if index % 3 == 0 { 60_000 } else { 10 };
        place.write(&format!("in/{index}"), format!("{index:>length$}"));
    }
    place.write("in/shared", "s".repeat(50_000));
    let children: Vec<Child> = (0..count)
        .map(|index| {
            let target = format!("oci:layout:t{index},latest");
            let file = format!("in/{index}");
            let args = ["push", "-q", "--lock-timeout", "5m", &target, &file, "in/shared"];
            let mut command = place.command(&[&args, flags].concat());
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut digests = BTreeMap::new();
    for (index, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "push {index}: {}", text(&output.stderr));
        digests.insert(format!("t{index}"), text(&output.stdout).trim().to_owned());
    }
    let mut names = walk(&place.path("layout"));
    let latest = names.remove("latest").unwrap();
    assert!(digests.values().any(|digest| *digest == latest));
    assert_eq!(names, digests);
    for (name, digest) in &digests {
        assert_eq!(place.ok(&["resolve", &format!("oci:layout:{name}")]).trim(), digest);
    }
}

#[test]
fn twenty_pushes_at_once_into_a_directory_that_is_not_there_yet() {
    let place = Place::new();
    push_at_once(&place, &[], 20);
    assert!(place.path("layout/.orlop").is_dir());
    // The same again, into a store that is there.
    push_at_once(&place, &[], 20);
}

#[test]
fn twenty_pushes_at_once_into_a_plain_layout() {
    let place = Place::new();
    push_at_once(&place, &["--plain"], 20);
    let mut left: Vec<_> = fs::read_dir(place.path("layout"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn reading_verbs_work_beside_a_live_writer() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt", "sub/b.txt"]);
    place.ok(&["attach", "oci:s:v1", "--artifact-type", "a/b", "a.txt"]);
    let root = place.path("s");
    let store = publishing(&root, 1);
    let done = AtomicBool::new(false);
    let pushed = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let count = pushed.fetch_add(1, Ordering::AcqRel);
                push_through(&store, &format!("{count}"), &format!("t{}", count % 50));
            }
        });
        // A test that fails must still end the writer.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..8 {
                let before = pushed.load(Ordering::Acquire);
                for args in reading("oci:s") {
                    let start = Instant::now();
                    let args: Vec<&str> = args.iter().map(String::as_str).collect();
                    let output = place.run(&args);
                    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
                    assert!(start.elapsed() < AT_ONCE, "{args:?} has waited");
                }
                assert_eq!(fs::read(place.path("out/a.txt")).unwrap(), b"hello\n");
                assert!(pushed.load(Ordering::Acquire) > before, "the writer stands still, round={round}");
            }
        }));
        done.store(true, Ordering::Release);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    // The same beside one that holds the lock and writes nothing: whatever changes now is their doing.
    store.flush().unwrap();
    let mut before = listing(&root);
    for _ in 0..100 {
        // The engine tidies up for a while, and what it wrote down of that is put down with the next publish.
        thread::sleep(Duration::from_millis(100));
        store.flush().unwrap();
        let now = listing(&root);
        if std::mem::replace(&mut before, now) == listing(&root) {
            break;
        }
    }
    for args in reading("oci:s") {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        place.ok(&args);
        assert_eq!(listing(&root), before, "{args:?}");
    }
    store.close().unwrap();
}

/// The reading verbs, on a layout with the artifact v1 in it.
fn reading(layout: &str) -> Vec<Vec<String>> {
    let verb = |verb: &[&str], name: &str| {
        verb.iter().map(|&word| word.to_owned()).chain([format!("{layout}{name}")]).collect::<Vec<_>>()
    };
    vec![
        verb(&["ls"], ""),
        verb(&["ls", "--all", "--format", "json"], ""),
        verb(&["resolve"], ":v1"),
        verb(&["discover"], ":v1"),
        verb(&["inspect"], ":v1"),
        verb(&["manifest", "fetch"], ":v1"),
        verb(&["manifest", "fetch-config"], ":v1"),
        verb(&["blob", "fetch", "-o", "-"], &format!("@{EMPTY}")),
        verb(&["repo", "ls"], ""),
        verb(&["repo", "tags"], ""),
        verb(&["verify"], ""),
        verb(&["verify", "--read-data", "--index"], ""),
        [verb(&["cp", "-r"], ":v1"), vec!["oci:copy".to_owned()]].concat(),
        verb(&["pull", "-o", "out"], ":v1"),
    ]
}

/// Every verb that writes gives up after the time that it was given, says who holds the lock, and changes nothing.
#[test]
fn the_holder_of_the_lock_is_named_by_every_writing_verb() {
    let place = Place::with_files();
    let digest = place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["--plain", "oci:p:v1", "a.txt"]);
    place.push(&["oci:from:v1", "a.txt"]);
    for directory in ["s", "p"] {
        let flags = if directory == "p" { &["--plain"][..] } else { &[] };
        place.ok(&[&["manifest", "index", "create", &format!("oci:{directory}:list"), "v1"], flags].concat());
    }
    place.write("manifest.json", place.ok(&["manifest", "fetch", "oci:s:v1"]));
    let store = publishing(&place.path("s"), 1_000_000);
    let plain = Options::new().publish(Publish::OnClose).open_plain(place.path("p")).unwrap();
    let pid = std::process::id().to_string();
    const BLOB: &str = "oci:DIR@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let verbs: &[&[&str]] = &[
        &["push", "oci:DIR:v2", "a.txt"],
        &["attach", "oci:DIR:v1", "--artifact-type", "a/b", "a.txt"],
        &["tag", "oci:DIR:v1", "v2"],
        &["untag", "oci:DIR:v1"],
        &["cp", "oci:from:v1", "oci:DIR:v2"],
        &["manifest", "push", "oci:DIR:v2", "manifest.json"],
        &["manifest", "delete", "-f", "oci:DIR:v1"],
        &["manifest", "index", "create", "oci:DIR:v2", "v1"],
        &["manifest", "index", "update", "oci:DIR:list", "--remove", EMPTY],
        &["blob", "push", "oci:DIR", "a.txt"],
        &["blob", "delete", "-f", BLOB],
        &["repair", "--from", "oci:from", "oci:DIR"],
        &["rebuild", "oci:DIR"],
        &["checkpoint", "oci:DIR", "copy"],
        &["usage", "oci:DIR", "--set-quota", "1M"],
    ];
    for verb in verbs {
        for (directory, flags) in [("s", &[][..]), ("p", &["--plain"][..])] {
            if ["rebuild", "checkpoint", "usage"].contains(&verb[0]) && directory == "p" {
                continue;
            }
            let before = walk(&place.path(directory));
            let args: Vec<String> = verb.iter().map(|word| word.replace("DIR", directory)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            for (time, least) in [("0", 0), ("300ms", 300)] {
                let start = Instant::now();
                let stderr = place.fails(1, &[&args[..], &["--lock-timeout", time], flags].concat());
                assert!(stderr.contains("holder="), "{args:?}: {stderr}");
                assert!(stderr.contains(&format!("pid {pid}")), "{stderr}");
                assert!(start.elapsed() >= Duration::from_millis(least), "{args:?} has not waited");
                assert!(start.elapsed() < AT_ONCE, "{args:?} has waited too long");
            }
            assert_eq!(walk(&place.path(directory)), before);
        }
    }
    // Readers need no lock.
    for layout in ["s", "p"] {
        assert_eq!(place.ok(&["resolve", &format!("oci:{layout}:v1")]).trim(), digest);
    }
    store.close().unwrap();
    plain.close().unwrap();
    place.push(&["oci:s:v2", "a.txt"]);
    place.push(&["--plain", "oci:p:v2", "a.txt"]);
}

#[test]
fn a_writer_waits_for_the_lock() {
    for flags in [&[][..], &["--plain"][..]] {
        let place = Place::with_files();
        place.push(&[flags, &["oci:s:v1", "a.txt"]].concat());
        let options = Options::new().publish(Publish::OnClose);
        let root = place.path("s");
        let store = if flags.is_empty() { options.open(&root) } else { options.open_plain(&root) }.unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| place.push(&[flags, &["oci:s:v2", "sub/b.txt"]].concat()));
            thread::sleep(Duration::from_millis(500));
            assert!(!waiting.is_finished());
            store.close().unwrap();
            let digest = waiting.join().unwrap();
            assert_eq!(walk(&root)["v2"], digest);
        });
    }
}

/// Somebody else's reader walks a layout all the time while processes and the library push, attach, tag and untag: it
/// finds nothing torn, nothing missing, and no name gone that nobody took away.
#[test]
fn a_reader_of_nobodys_finds_nothing_missing() {
    let place = Place::with_files();
    place.write("big", "b".repeat(100_000));
    place.push(&["oci:s:v1", "a.txt"]);
    let root = place.path("s");
    watched(&root, || {
        for round in 0..4 {
            for step in 0..3 {
                place.write("changing", format!("{round} {step}"));
                let target = format!("oci:s:p{round}-{step},latest");
                place.ok(&["push", "-q", &target, "changing", "big", "sub/b.txt"]);
                place.ok(&[
                    "attach",
                    "-q",
                    &target.replace(",latest", ""),
                    "--artifact-type",
                    "a/b",
                    "changing",
                ]);
                place.ok(&["tag", "-q", "oci:s:v1", &format!("s{round}-{step}")]);
            }
            let store = publishing(&root, 1);
            for step in 0..60 {
                let name = format!("l{round}-{step}");
                push_through(&store, &name, &name);
                if step % 2 == 0 {
                    push_through(&store, &format!("{name} doomed"), "gone");
                } else {
                    store.default_repository().untag(&"gone".parse().unwrap(), Expect::Any).unwrap();
                }
            }
            store.close().unwrap();
        }
    });
    assert_eq!(walk(&root).len(), 1 + 4 * (3 * 2 + 60) + 1);
}

#[test]
fn a_reader_of_nobodys_finds_nothing_missing_in_a_plain_layout() {
    let place = Place::with_files();
    place.push(&["--plain", "oci:s:v1", "a.txt"]);
    let root = place.path("s");
    watched(&root, || {
        for round in 0..10 {
            place.write("changing", format!("{round}"));
            let target = format!("oci:s:p{round}");
            place.ok(&["push", "--plain", "-q", &target, "changing", "sub/b.txt"]);
            place.ok(&["attach", "--plain", "-q", &target, "--artifact-type", "a/b", "changing"]);
            place.ok(&["tag", "--plain", "-q", "oci:s:v1", &format!("s{round}")]);
        }
    });
    assert_eq!(walk(&root).len(), 1 + 2 * 10);
}

/// Does the work while two readers walk the layout, each many times.
fn watched(root: &Path, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let look = || {
            let (mut looks, mut seen) = (0_usize, BTreeSet::new());
            while !done.load(Ordering::Acquire) {
                let now: BTreeSet<String> = walk(root).into_keys().filter(|name| name != "gone").collect();
                assert!(now.is_superset(&seen), "names went away: {:?}", seen.difference(&now));
                seen = now;
                looks += 1;
            }
            looks
        };
        let readers = [scope.spawn(look), scope.spawn(look)];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 20, "a reader has looked too seldom to find anything");
        }
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}
