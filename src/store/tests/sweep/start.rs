//! What a directory is before an operation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::operations::{
    Session, Start, closing, damage_of, first, foreign, hurt, options, push, remove_second, second, sparse,
    start_saved_upload,
};
use crate::digest::Algorithm;
use crate::store::Expect;
use crate::store::tests::artifact::IMAGE;
use crate::store::tests::support::witnessed_here;

/// The name of the layout beside the store.
pub(super) const SOURCE: &str = "source";

/// What another tool does to `index.json`.
pub(super) fn edit(root: &Path) {
    put_foreign(root);
    let index = root.join("index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    document["manifests"].as_array_mut().unwrap().push(foreign().entry("foreign"));
    fs::write(&index, document.to_string()).unwrap();
}

fn put_foreign(root: &Path) {
    let image = foreign();
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    for part in image.parts.iter().chain([&image.bytes]) {
        let digest = Algorithm::Sha256.digest(part).to_string();
        fs::write(root.join("blobs").join(digest.replace(':', "/")), part).unwrap();
    }
}

/// A layout beside the store that has everything whole.
fn put_source(root: &Path) {
    let store = closing().open_plain(root.with_file_name(SOURCE)).unwrap();
    let mut batch = store.batch();
    for (tag, image) in [("first", first()), ("sparse", sparse())] {
        let digest = image.add(&mut batch, &store.default_repository()).unwrap();
        batch.tag(&store.default_repository(), &tag.parse().unwrap(), digest, Expect::Any);
    }
    batch.commit().unwrap();
    store.close().unwrap();
}

/// Bits rot: a content has its size and other bytes.
fn change(root: &Path) {
    let name = Algorithm::Sha256.digest(&hurt()).to_string().replace(':', "/");
    let path = root.join("blobs").join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[7_000] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
}

/// Bits rot in the table that says what a repository has.
fn rot(root: &Path) {
    let entries = fs::read_dir(root.join(".orlop/metadata")).unwrap();
    let tables = entries.map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    let tables = tables.map(|path| (fs::read(&path).unwrap(), path));
    // How the engine writes the name of the family into its tables.
    let name = b"namemembers";
    let of_members = tables.filter(|(bytes, _)| bytes.windows(name.len()).any(|window| window == name));
    let (mut bytes, path) = of_members.max_by_key(|(bytes, _)| bytes.len()).unwrap();
    assert!(bytes.len() > 4096);
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The files of a directory, kept in memory, so that each case begins with the same ones.
pub(super) struct Template(Vec<(PathBuf, u32, Option<Vec<u8>>)>);

impl Template {
    /// Of a store that is open, the engine may remove a file between the look at a directory and the reading.
    fn take(root: &Path) -> Self {
        for _ in 0..100 {
            match Self::try_take(root) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                taken => return taken.unwrap(),
            }
        }
        panic!("files vanish all the time, path={}", root.display());
    }

    fn try_take(root: &Path) -> std::io::Result<Self> {
        let mut entries = Vec::new();
        let mut waiting = vec![root.to_path_buf()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let meta = fs::symlink_metadata(&path)?;
                let content = if meta.is_file() { Some(fs::read(&path)?) } else { None };
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                entries.push((name, meta.permissions().mode(), content));
                if meta.is_dir() {
                    waiting.push(path);
                }
            }
        }
        Ok(Self(entries))
    }

    /// The directory itself stays the same one, or the store would count as a copy.
    pub(super) fn put(&self, root: &Path) {
        if root.exists() {
            for entry in fs::read_dir(root).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
        }
        for (path, mode, content) in &self.0 {
            let path = root.join(path);
            match content {
                None => fs::create_dir(&path).unwrap(),
                Some(content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
        // As in the original, where it has one.
        if fs::read(root.join(".orlop/metadata/SYNCED")).is_ok_and(|text| !text.is_empty()) {
            witnessed_here(root);
        }
    }

    /// The newest log of the metadata.
    fn log(&mut self) -> &mut Vec<u8> {
        let logs = self.0.iter_mut().filter(|(path, ..)| path.extension().is_some_and(|end| end == "log"));
        logs.max_by(|one, other| one.0.cmp(&other.0)).unwrap().2.as_mut().unwrap()
    }

    pub(super) fn of(start: Start, root: &Path) -> Self {
        if start == Start::Nothing {
            return Self(Vec::new());
        }
        fs::create_dir(root).unwrap();
        if start == Start::Layout {
            put_foreign(root);
            let index = json!({ "schemaVersion": 2, "manifests": [foreign().entry("foreign")] });
            fs::write(root.join("index.json"), index.to_string()).unwrap();
            fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
            return Self::take(root);
        }
        let store = closing().create(root).unwrap();
        let here = store.repository(&"r".parse().unwrap());
        for (tag, image) in [("first", first()), ("second", second())] {
            let mut batch = store.batch();
            let digest = image.add(&mut batch, &here).unwrap();
            batch.tag(&here, &tag.parse().unwrap(), digest, Expect::Any);
            batch.commit().unwrap();
        }
        start_saved_upload(&here).unwrap();
        if start == Start::Sparse {
            let mut batch = store.batch();
            let image = sparse();
            for part in image.parts.iter().skip(1) {
                batch.push_bytes(&here, part.clone()).unwrap();
            }
            batch.push_sparse_manifest(&here, IMAGE, image.bytes, Algorithm::Sha256).unwrap();
            batch.commit().unwrap();
        }
        if matches!(start, Start::Crashed | Start::Damaged | Start::Torn | Start::TornList) {
            store.flush().unwrap();
            let session = Session { root: root.to_path_buf(), store: Some(store) };
            push(&session, &[60, 40_000], false).unwrap();
            if start == Start::Damaged {
                fs::write(root.join(".orlop/metadata/CURRENT"), "garbage").unwrap();
            }
            if start == Start::TornList {
                return Self::torn_list(root);
            }
            if start == Start::Torn {
                return Self::torn(root, &session);
            }
            return Self::take(root);
        }
        if start == Start::Condemned {
            drop((here, store));
            let session = Session { root: root.to_path_buf(), store: Some(options().open(root).unwrap()) };
            remove_second(&session).unwrap();
            let report = session.store().collector().grace(Duration::ZERO).run().unwrap();
            assert!(report.waiting > 3, "{report:?}");
            return Self::take(root);
        }
        if start == Start::Rotten {
            // More than one block of their rows.
            let mut batch = store.batch();
            for n in 0..150 {
                batch.push_bytes(&here, n.to_string()).unwrap();
            }
            batch.commit().unwrap();
        }
        // Whatever is left of it would keep the store from being closed.
        drop(here);
        store.close().unwrap();
        if start == Start::Rotten {
            rot(root);
        }
        if start == Start::Met {
            fs::write(damage_of(root), "a table").unwrap();
        }
        if start == Start::Edited {
            edit(root);
        }
        if start == Start::Hurt || start == Start::Sparse {
            put_source(root);
        }
        if start == Start::Hurt {
            change(root);
        }
        Self::take(root)
    }

    /// As a cut leaves it in the middle of a write of the engine's list of files: the page behind the one that the record
    /// begins in is not there.
    fn torn_list(root: &Path) -> Self {
        let mut template = Self::take(root);
        let is_list = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST-");
        let lists = template.0.iter_mut().filter(|(path, ..)| is_list(path));
        let list = lists.max_by(|one, other| one.0.cmp(&other.0)).unwrap().2.as_mut().unwrap();
        let length = 1500_u16;
        list.extend(b"sums");
        list.extend(length.to_le_bytes());
        list.push(1);
        list.extend(vec![7; 100]);
        list.extend(vec![0; usize::from(length) - 100]);
        template
    }

    /// As a cut leaves it in the middle of a write of the log: the witness of the log is from before that write, since it
    /// comes behind a sync.
    fn torn(root: &Path, session: &Session) -> Self {
        let mut before = Self::take(root);
        let begin = before.log().len();
        push(session, &[30_000; 5], false).unwrap();
        let mut template = Self::take(root);
        let is_witness = |(path, ..): &(PathBuf, u32, Option<Vec<u8>>)| path.ends_with("metadata/SYNCED");
        template.0.retain(|entry| !is_witness(entry));
        template.0.extend(before.0.into_iter().filter(is_witness));
        let hole = begin.next_multiple_of(4096) + 40_960;
        assert!(hole + 8192 < template.log().len());
        template.log()[hole..hole + 4096].fill(0);
        template
    }
}
