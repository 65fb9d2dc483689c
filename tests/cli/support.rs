//! What every test of the command line starts from: a place to run it in, and layouts as another tool would have made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use orlop::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const CREATED: &str = "org.opencontainers.image.created=2026-01-02T03:04:05Z";
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// An empty directory to run the program in.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One with two small files, a.txt and sub/b.txt, as the digests of oras were made with.
    pub(crate) fn with_files() -> Self {
        let place = Self::new();
        place.write("a.txt", "hello\n");
        place.write("sub/b.txt", "world\n");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(args).current_dir(self.0.path()).env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what must succeed; the standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--format", "json"]].concat())).unwrap()
    }

    /// Runs what must fail: with this code, nothing on stdout, and one line that begins with `error: `. That line.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{args:?}: {stderr}");
        stderr
    }

    /// Pushes with a fixed time; the digest.
    pub(crate) fn push(&self, args: &[&str]) -> String {
        self.ok(&[&["push", "-q", "--annotation", CREATED], args].concat()).trim().to_owned()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every file below a directory, by its path.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    pub(crate) fn walk(root: &Path, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(root, &entry.path(), files);
            } else {
                let content = fs::read(entry.path()).unwrap_or_default();
                files.insert(entry.path().strip_prefix(root).unwrap().to_owned(), content);
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(root, root, &mut files);
    files
}

/// Everything below a directory with its kind and times: what must not change while it is only read.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        lines.push(format!("{} {} {:?}", path.display(), found.len(), found.modified().unwrap()));
        if found.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A layout made by hand, as another tool would have: content, and what index.json lists.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut layout = Self { root, entries: Vec::new() };
        layout.blob(b"{}");
        layout.publish();
        layout
    }

    pub(crate) fn blob(&mut self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        fs::write(self.root.join("blobs/sha256").join(digest.encoded().to_string()), content).unwrap();
        digest
    }

    /// Adds a manifest under a name, with layers of given titles and contents.
    pub(crate) fn artifact(&mut self, name: &str, layers: &[(Option<&str>, &[u8])]) -> Digest {
        let mut listed = Vec::new();
        for (title, content) in layers {
            let mut layer =
                json!({"mediaType": "a/b", "digest": self.blob(content).to_string(), "size": content.len()});
            if let Some(title) = title {
                layer["annotations"] = json!({TITLE: title});
            }
            listed.push(layer);
        }
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
        self.document(
            name,
            MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": listed}),
        )
    }

    pub(crate) fn document(&mut self, name: &str, media_type: &str, document: &Value) -> Digest {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = self.blob(&bytes);
        self.entries.push(json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len(),
            "annotations": {"org.opencontainers.image.ref.name": name}}));
        self.publish();
        digest
    }

    pub(crate) fn publish(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.root.join("index.json"), index.to_string()).unwrap();
    }
}
