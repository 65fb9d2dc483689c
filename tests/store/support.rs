//! Scratch stores, artifacts to put into them, and a reader of the layout that is independent of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use orlop::oci::{RepositoryName, Tag};
use orlop::{Digest, Error, ErrorKind, OnDamage, Options, Order, Publish, Repository, Store};
use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const ORAS: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
pub(crate) const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The default inline limit.
pub(crate) const INLINE: usize = 32 * 1024;

/// A directory that a store goes into; gone with the value.
pub(crate) struct Scratch {
    temp: TempDir,
}

impl Scratch {
    pub(crate) fn root(&self) -> PathBuf {
        self.temp.path().join("store")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A file beside the store.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn scratch() -> Scratch {
    Scratch { temp: tempfile::Builder::new().prefix("orlop-test-").tempdir().unwrap() }
}

/// The same in a given place.
pub(crate) fn scratch_in(place: &Path) -> Scratch {
    Scratch { temp: tempfile::Builder::new().prefix("orlop-test-").tempdir_in(place).unwrap() }
}

/// Options that publish only when a test says so, and at close.
pub(crate) fn options() -> Options {
    // A test that starts a process holds the locks of all others between its fork and its exec.
    Options::new().lock_timeout(Duration::from_secs(2)).on_damage(OnDamage::Refuse).publish(Publish::OnClose)
}

pub(crate) fn fresh() -> (Scratch, Store) {
    let dir = scratch();
    let store = options().create(dir.root()).unwrap();
    (dir, store)
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(crate) fn name(name: &str) -> RepositoryName {
    if name.is_empty() { RepositoryName::unnamed() } else { name.parse().unwrap() }
}

pub(crate) fn repo(store: &Store, repository: &str) -> Repository {
    store.repository(&name(repository))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    sha256(bytes).parse().unwrap()
}

/// A digest of nothing that any test pushes.
pub(crate) fn absent() -> Digest {
    digest_of(b"nobody pushes this")
}

/// Reproducible bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(length);
    out
}

/// The file that holds `digest`.
pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (algorithm, encoded) = text.split_once(':').unwrap();
    root.join("blobs").join(algorithm).join(encoded)
}

/// Changes bytes of a file in place, as a bad disk does: length, name and inode stay.
pub(crate) fn damage(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

/// The descriptor of `bytes` as JSON.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

/// A manifest with everything that it needs.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: Vec<Vec<u8>>,
}

impl Artifact {
    fn new(media_type: &'static str, body: &Value, parts: Vec<Vec<u8>>) -> Self {
        Self { media_type, bytes: serde_json::to_vec(body).unwrap(), parts }
    }

    pub(crate) fn digest(&self) -> Digest {
        digest_of(&self.bytes)
    }

    pub(crate) fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.bytes)
    }

    /// Pushes the parts, then the manifest under `tags`.
    pub(crate) fn push(&self, repository: &Repository, tags: &[&str]) -> Digest {
        for part in &self.parts {
            repository.push_bytes(part.clone()).unwrap();
        }
        let tags: Vec<Tag> = tags.iter().map(|name| tag(name)).collect();
        let pushed = repository.push_manifest(self.media_type, self.bytes.clone(), &tags).unwrap();
        assert_eq!(pushed.digest, self.digest());
        pushed.digest
    }

    /// Every blob of it, itself included.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.parts.iter().chain([&self.bytes])
    }
}

/// An image with a config and `layers` small layers, all different by `seed`.
pub(crate) fn image(seed: &str, layers: usize) -> Artifact {
    let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"seed\":\"{seed}\"}}").into_bytes();
    let mut parts: Vec<Vec<u8>> = (0..layers).map(|n| format!("layer {n} of {seed}").into_bytes()).collect();
    let body = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, &config),
        "layers": parts.iter().map(|part| descriptor(LAYER, part)).collect::<Vec<_>>(),
    });
    parts.push(config);
    Artifact::new(IMAGE, &body, parts)
}

/// An artifact of the given type that refers to `subject`.
pub(crate) fn referrer(subject: &Artifact, artifact_type: &str, seed: &str) -> Artifact {
    referrer_to(&subject.descriptor(), artifact_type, seed, &json!({}))
}

/// The same with annotations, to a subject that may not exist.
pub(crate) fn referrer_to(subject: &Value, artifact_type: &str, seed: &str, annotations: &Value) -> Artifact {
    let layer = format!("statement {seed}").into_bytes();
    let body = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": artifact_type,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [descriptor("text/plain", &layer)],
        "subject": subject,
        "annotations": annotations,
    });
    Artifact::new(IMAGE, &body, vec![b"{}".to_vec(), layer])
}

/// An index over `children`, which are pushed by themselves.
pub(crate) fn index(children: &[&Artifact]) -> Artifact {
    let body = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": children.iter().map(|child| child.descriptor()).collect::<Vec<_>>(),
    });
    Artifact::new(INDEX, &body, Vec::new())
}

/// Asserts that a call failed as it should, and that the message is written as messages are.
pub(crate) fn fails<T>(result: Result<T, Error>, kind: ErrorKind, values: &[&str]) -> Error {
    let Err(error) = result else { panic!("succeeded, and should have failed with {kind:?}") };
    assert_eq!(error.kind(), kind, "{error:?}");
    let message = error.to_string();
    for value in values {
        assert!(message.contains(value), "{value:?} is not in {message:?}");
    }
    let stopped = message.ends_with('.') && !message.ends_with("..");
    assert!(!message.is_empty() && !stopped, "{message:?}");
    assert!(!message.starts_with(|c: char| c.is_uppercase()), "{message:?}");
    error
}

/// What a listing says of one file or directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) length: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) hash: Option<String>,
}

/// A full listing: every path below `root` with its mode, length, times and content.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Node> {
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// The listing of what a refused call must not have touched: names, lengths and content, without the engine's own files.
pub(crate) fn content_tree(root: &Path) -> BTreeMap<String, (u64, Option<String>)> {
    tree(root)
        .into_iter()
        .filter(|(path, _)| !path.starts_with(".orlop/metadata"))
        .map(|(path, node)| (path, (if node.hash.is_some() { node.length } else { 0 }, node.hash)))
        .collect()
}

fn walk(root: &Path, at: &Path, out: &mut BTreeMap<String, Node>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        // A live engine may remove a file of its own between the listing and the look.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let hash = if meta.is_file() { fs::read(&path).ok().map(|bytes| sha256(&bytes)) } else { None };
        let node = Node {
            mode: meta.mode(),
            length: if meta.is_dir() { 0 } else { meta.len() },
            modified: (meta.mtime(), meta.mtime_nsec()),
            hash,
        };
        out.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), node);
        if meta.is_dir() {
            walk(root, &path, out);
        }
    }
}

/// Copies a directory that may be alive: a file that goes away meanwhile was one that nobody needs.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            copy_tree(&path, &target);
        } else if let Err(error) = fs::copy(&path, &target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", path.display());
        }
    }
}

/// The witness of the log counts for a copy of the metadata as for the original, whose directory it names.
pub(crate) fn witnessed_here(root: &Path) {
    let metadata = root.join(".orlop/metadata");
    let text = fs::read_to_string(metadata.join("SYNCED")).unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let record = format!("{} {:020} {:020}", &text[..20], inode(&metadata.join("SYNCED")), inode(&metadata));
    fs::write(metadata.join("SYNCED"), format!("{record} {}\n", sha256(record.as_bytes()))).unwrap();
}

/// Copies a live directory as it was at one moment: anew when files came or went meanwhile, as the engine's own do in
/// the background.
pub(crate) fn copy_at_one_moment(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = tree(from);
        copy_tree(from, to);
        if tree(from) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the directory changes for ever");
}

/// The listing once nothing moves any more: an engine tidies up in the background for a while after a write.
pub(crate) fn settled_tree(root: &Path) -> BTreeMap<String, Node> {
    let mut before = tree(root);
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(100));
        let now = tree(root);
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("the directory changes for ever");
}

/// Ends a store as a crash does: what its files held while it was open is what the next open finds.
/// The root directory keeps its inode, so that the store is the same one and no copy.
pub(crate) fn crash(dir: &Scratch, store: Store) {
    let (root, aside) = (dir.root(), dir.path("aside"));
    copy_at_one_moment(&root, &aside);
    drop(store);
    // A submitted batch may hold the store a moment longer.
    let lock = fs::File::open(root.join(".orlop/lock")).unwrap();
    lock.lock().unwrap();
    drop(lock);
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    for entry in fs::read_dir(&aside).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, root.join(path.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(&aside).unwrap();
}

/// Everything that a store shows through its API, one fact a line.
pub(crate) fn describe(store: &Store) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for repository in all(|after: Option<&RepositoryName>| {
        let page = store.repositories(after, 2).unwrap();
        (page.items, page.more)
    }) {
        let name = format!("{repository}/");
        let here = store.repository(&repository);
        let mut after: Option<String> = None;
        loop {
            let page = here.tags(after.as_deref(), 3).unwrap();
            for entry in &page.items {
                out.insert(format!("{name} tag {} {}", entry.tag, entry.digest));
            }
            after = page.items.last().map(|entry| entry.tag.to_string());
            if !page.more {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = here.manifests(after.as_ref(), 3).unwrap();
            for found in &page.items {
                out.insert(format!("{name} manifest {} {} {}", found.digest, found.size, found.media_type));
                for referrer in here
                    .referrers(&found.digest)
                    .limit(1000)
                    .order(Order::Insertion)
                    .page()
                    .unwrap()
                    .descriptors
                {
                    out.insert(format!("{name} referrer of {} {}", found.digest, referrer.digest));
                }
            }
            after = page.items.last().map(|found| found.digest);
            if !page.more {
                break;
            }
        }
        for digest in contents(&here) {
            out.insert(format!("{name} content {digest}"));
        }
    }
    out
}

/// Every content of a repository.
pub(crate) fn contents(repository: &Repository) -> BTreeSet<Digest> {
    all(|after: Option<&Digest>| {
        let page = repository.contents(after, 3).unwrap();
        (page.items.into_iter().map(|stat| stat.digest).collect(), page.more)
    })
    .into_iter()
    .collect()
}

/// Every item of a paged listing.
pub(crate) fn all<T: Clone>(mut page: impl FnMut(Option<&T>) -> (Vec<T>, bool)) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    loop {
        let (items, more) = page(out.last());
        assert!(!more || !items.is_empty(), "an empty page that promises more");
        out.extend(items);
        if !more {
            return out;
        }
    }
}

/// The tags of a repository with their targets.
pub(crate) fn tags(repository: &Repository) -> Vec<(String, Digest)> {
    let page = repository.tags(None, 10_000).unwrap();
    assert!(!page.more);
    page.items.into_iter().map(|entry| (entry.tag.to_string(), entry.digest)).collect()
}

/// One entry of `index.json`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Option<String>,
    pub(crate) digest: String,
    pub(crate) value: Value,
}

/// What a tool that knows only the image-layout specification finds in a directory.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) entries: Vec<Entry>,
    /// Every digest that `index.json` reaches, subjects excepted.
    pub(crate) reached: BTreeSet<String>,
    /// What of it is not there, or is not what it is called.
    pub(crate) wrong: Vec<String>,
}

impl Layout {
    /// Reads and checks a layout; panics when a document is torn or breaks the specification.
    pub(crate) fn read(root: &Path) -> Self {
        let marker = fs::read_to_string(root.join("oci-layout")).unwrap();
        let marker: Value = serde_json::from_str(marker.trim_start_matches('\u{feff}')).unwrap();
        assert!(marker["imageLayoutVersion"].as_str().unwrap().starts_with("1."));
        let text = fs::read(root.join("index.json")).unwrap();
        let document: Value =
            serde_json::from_slice(&text).unwrap_or_else(|e| panic!("index.json is torn: {e}"));
        assert_eq!(document["schemaVersion"], 2);
        let entries: Vec<Entry> = document["manifests"]
            .as_array()
            .expect("index.json has an array of manifests")
            .iter()
            .map(|value| Entry {
                name: value["annotations"][REF_NAME].as_str().map(str::to_owned),
                digest: value["digest"].as_str().unwrap().to_owned(),
                value: value.clone(),
            })
            .collect();
        let mut layout = Self { entries, reached: BTreeSet::new(), wrong: Vec::new() };
        let values: Vec<Value> = layout.entries.iter().map(|entry| entry.value.clone()).collect();
        for value in &values {
            layout.reach(root, value);
        }
        layout
    }

    /// The same, asserting that nothing is missing or damaged.
    pub(crate) fn sound(root: &Path) -> Self {
        let layout = Self::read(root);
        assert!(layout.wrong.is_empty(), "{:?}", layout.wrong);
        layout
    }

    fn reach(&mut self, root: &Path, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap();
        if !self.reached.insert(digest.to_owned()) {
            return;
        }
        let (algorithm, encoded) = digest.split_once(':').unwrap();
        let Ok(bytes) = fs::read(root.join("blobs").join(algorithm).join(encoded)) else {
            self.wrong.push(format!("missing {digest}"));
            return;
        };
        let found = match algorithm {
            "sha256" => sha256(&bytes),
            "blake3" => format!("blake3:{}", blake3::hash(&bytes).to_hex()),
            _ => {
                let hash = sha2::Sha512::digest(&bytes);
                format!("sha512:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
        };
        if found != digest || descriptor["size"].as_u64() != Some(bytes.len() as u64) {
            self.wrong.push(format!("not what it is called: {digest}"));
            return;
        }
        let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
        if ![IMAGE, INDEX, DOCKER, DOCKER_LIST, ORAS, ARTIFACT].contains(&media_type) {
            return;
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        if body["config"].is_object() {
            self.reach(root, &body["config"]);
        }
        for list in ["layers", "blobs", "manifests"] {
            for child in body[list].as_array().into_iter().flatten() {
                self.reach(root, child);
            }
        }
    }

    /// The named entries.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let named = self.entries.iter().filter_map(|entry| Some((entry.name.clone()?, entry.digest.clone())));
        let names: BTreeMap<_, _> = named.clone().collect();
        assert_eq!(names.len(), named.count(), "a name is listed twice");
        names
    }

    /// The digests of the entries without a name.
    pub(crate) fn untagged(&self) -> BTreeSet<String> {
        let unnamed =
            self.entries.iter().filter(|entry| entry.name.is_none()).map(|entry| entry.digest.clone());
        let set: BTreeSet<_> = unnamed.clone().collect();
        assert_eq!(set.len(), unnamed.count(), "an untagged entry is listed twice");
        set
    }
}

/// Writes a layout as another tool does: no `.orlop`, files as they come.
pub(crate) fn plain_layout(root: &Path, entries: &[(Option<&str>, &Artifact)], others: &[&Artifact]) {
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    fs::write(root.join("oci-layout"), b"{\n  \"imageLayoutVersion\": \"1.0.0\"\n}\n").unwrap();
    for artifact in entries.iter().map(|(_, artifact)| *artifact).chain(others.iter().copied()) {
        put_blobs(root, artifact);
    }
    let manifests: Vec<Value> = entries.iter().map(|(name, artifact)| entry(*name, artifact)).collect();
    let document = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(root.join("index.json"), serde_json::to_vec_pretty(&document).unwrap()).unwrap();
}

/// Puts the blobs of an artifact into a layout, as another tool does.
pub(crate) fn put_blobs(root: &Path, artifact: &Artifact) {
    for bytes in artifact.blobs() {
        let path = blob_path(root, &digest_of(bytes));
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// An entry of `index.json` as another tool writes it.
pub(crate) fn entry(name: Option<&str>, artifact: &Artifact) -> Value {
    let mut value = artifact.descriptor();
    if let Some(name) = name {
        value["annotations"] = json!({ REF_NAME: name });
    }
    value
}

/// Changes the entries of `index.json` as another tool does, by rename.
pub(crate) fn edit_index(root: &Path, change: impl FnOnce(&mut Vec<Value>)) {
    let mut document: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
    change(document["manifests"].as_array_mut().unwrap());
    let temp = root.join("index.json.foreign");
    fs::write(&temp, serde_json::to_vec_pretty(&document).unwrap()).unwrap();
    fs::rename(temp, root.join("index.json")).unwrap();
}

/// Whether an entry has this name.
pub(crate) fn is_named(value: &Value, name: &str) -> bool {
    value["annotations"][REF_NAME] == name
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls futures to their ends on this thread, with no runtime; panics when none is woken for half a minute.
pub(crate) fn block_on_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut out: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut idle = 0;
    while out.iter().any(Option::is_none) {
        let mut moved = false;
        for (slot, result) in futures.iter_mut().zip(&mut out) {
            if let Some(future) = slot
                && let Poll::Ready(value) = future.as_mut().poll(&mut context)
            {
                (*slot, *result, moved) = (None, Some(value), true);
            }
        }
        idle = if moved { 0 } else { idle + 1 };
        assert!(idle < 100_000, "futures are polled and never ready");
        if !moved {
            let before = std::time::Instant::now();
            thread::park_timeout(Duration::from_secs(30));
            assert!(before.elapsed() < Duration::from_secs(29), "a future was never woken");
        }
    }
    out.into_iter().flatten().collect()
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let before = std::time::Instant::now();
        thread::park_timeout(Duration::from_secs(30));
        assert!(before.elapsed() < Duration::from_secs(29), "a future was never woken");
    }
}
