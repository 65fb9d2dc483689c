//! The order of the protocol, read from a record of the calls: what a filesystem hides, because it writes more or
//! earlier than it must, shows here.
//!
//! A reader of the record knows what is durable at each moment if nothing is but what was synced. The tests let it
//! read runs with everything in place, and runs that leave out one step each, which it must notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::artifact::Artifact;
use crate::blobs::Expected;
use crate::store::{Expect, Options, Publish, UploadOptions};
use crate::sys::fault::{Call, Event, Fault, arm, record};

/// What is durable, and what would be after the next syncs.
#[derive(Default)]
struct Reader {
    /// Files without a lasting name, and whether they were synced.
    private: BTreeMap<PathBuf, bool>,
    /// Directories that were made and whose own name is not durable.
    made: BTreeSet<PathBuf>,
    /// Names whose directory was not synced since.
    named: BTreeSet<PathBuf>,
    /// Content that is durable: under its name, or put there by another tool and synced.
    content: BTreeSet<String>,
    /// Content in the journal.
    journal: BTreeSet<String>,
    /// Rows in the log that were not synced, the first kind of each batch that must be.
    unsynced: Vec<String>,
    pending: bool,
    exchanged: bool,
    bases: BTreeSet<String>,
    published: bool,
    /// Content that was condemned, and of that what the log may not have yet.
    condemned: BTreeSet<String>,
    unsynced_condemned: BTreeSet<String>,
    /// A tag went since `index.json` was published.
    stale: bool,
}

impl Reader {
    /// Reads a record. `foreign` is content that another tool put in its place before the record begins.
    fn read(events: &[Event], foreign: &[String]) -> Result<Self, String> {
        let mut reader = Self::default();
        for event in events {
            match event {
                Event::Call { call, path, from } => reader.call(*call, path, from.as_deref(), foreign)?,
                Event::Rows(rows) => reader.rows(rows)?,
                Event::Acknowledged => reader.acknowledged()?,
            }
        }
        Ok(reader)
    }

    fn call(
        &mut self,
        call: Call,
        path: &Path,
        from: Option<&Path>,
        foreign: &[String],
    ) -> Result<(), String> {
        match call {
            Call::CreateTemp => {
                self.private.insert(path.to_path_buf(), false);
                if is_upload(path) {
                    self.named.insert(path.to_path_buf());
                }
            }
            Call::Write if is_upload(path) => drop(self.private.insert(path.to_path_buf(), false)),
            Call::Link => {
                let synced = from.and_then(|from| self.private.get(from)).copied();
                synced.map(|synced| self.private.insert(path.to_path_buf(), synced));
            }
            Call::SyncFile | Call::SyncDocument => drop(self.private.insert(path.to_path_buf(), true)),
            Call::SyncFs => {
                self.private.values_mut().for_each(|synced| *synced = true);
                self.content.extend(foreign.iter().cloned());
            }
            Call::MakeDir => drop(self.made.insert(path.to_path_buf())),
            Call::SyncDir => {
                self.made.retain(|made| made.parent() != Some(path));
                let (durable, rest) = std::mem::take(&mut self.named)
                    .into_iter()
                    .partition(|name| name.parent() == Some(path) && !self.made.contains(path));
                self.named = rest;
                let durable: BTreeSet<PathBuf> = durable;
                self.content.extend(durable.iter().filter_map(|name| digest_of(name)));
                if path == Path::new("") {
                    self.exchanged = false;
                }
            }
            Call::Rename | Call::Exchange => {
                let from = from.unwrap_or(path).to_path_buf();
                if self.private.remove(&from) == Some(false) {
                    return Err(format!("{} gets its name before its content is synced", path.display()));
                }
                if path == Path::new("index.json") {
                    return self.index();
                }
                self.named.insert(path.to_path_buf());
            }
            Call::SyncRows => {
                self.unsynced.clear();
                self.unsynced_condemned.clear();
            }
            Call::Unlink => {
                if let Some(digest) = digest_of(path) {
                    return self.unlink(&digest);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn unlink(&mut self, digest: &str) -> Result<(), String> {
        if !self.condemned.contains(digest) {
            return Err(format!("{digest} loses its file and nobody condemned it"));
        }
        if self.unsynced_condemned.contains(digest) {
            return Err(format!("{digest} loses its file before the log knows"));
        }
        if self.stale {
            return Err(format!("{digest} loses its file before an index.json without it is published"));
        }
        self.content.remove(digest);
        Ok(())
    }

    fn index(&mut self) -> Result<(), String> {
        if !self.pending || !self.unsynced.is_empty() {
            return Err("index.json is replaced before what replaces it is put down".into());
        }
        if let Some(digest) = self.journal.iter().find(|digest| !self.content.contains(*digest)) {
            return Err(format!("index.json is replaced before {digest} has its file"));
        }
        self.exchanged = true;
        Ok(())
    }

    fn rows(&mut self, rows: &[String]) -> Result<(), String> {
        for row in rows {
            if let Some(digest) = row.strip_prefix("put journal ") {
                self.journal.insert(digest.to_owned());
            }
            if let Some(name) = row.strip_prefix("put base ") {
                self.bases.insert(name.to_owned());
            }
        }
        for row in rows {
            let (what, name) = row.rsplit_once(' ').unwrap_or_default();
            let there = |name: &str| self.content.contains(name);
            match what {
                "put content" if !there(name) && !self.journal.contains(name) => {
                    return Err(format!("{name} has a row before it is durable"));
                }
                "delete journal" if !there(name) => {
                    return Err(format!("the journal drops {name} before its file is durable"));
                }
                "put tag" | "delete tag"
                    if self.published && !self.bases.iter().any(|base| is_of(base, name)) =>
                {
                    return Err(format!("{name} changes and nobody remembers what is published"));
                }
                "put upload" => {
                    let file = Path::new(".orlop/ingest").join(format!("upload-{name}"));
                    if self.private.get(&file) == Some(&false) || self.named.contains(&file) {
                        return Err(format!("upload {name} counts bytes before they are durable"));
                    }
                }
                "put tombstone" => {
                    self.condemned.insert(name.to_owned());
                    self.unsynced_condemned.insert(name.to_owned());
                }
                "put fact" if name == "pending" => self.pending = true,
                "put fact" if name == "published" && (!self.pending || self.exchanged) => {
                    return Err("index.json counts as published before it is durable".into());
                }
                "put fact" if name == "published" => {
                    self.pending = false;
                    self.published = true;
                    self.stale = false;
                    self.bases.clear();
                }
                _ => {}
            }
            self.stale |= what == "delete tag";
            if what == "delete journal" {
                self.journal.remove(name);
            } else if what.starts_with("put") || what == "delete tag" {
                self.unsynced.push(row.clone());
            }
        }
        Ok(())
    }

    fn acknowledged(&self) -> Result<(), String> {
        match self.unsynced.first() {
            Some(row) => Err(format!("an acknowledgement before the log is synced: {row}")),
            None => Ok(()),
        }
    }
}

fn digest_of(path: &Path) -> Option<String> {
    let name = path.strip_prefix("blobs/sha256").ok()?;
    Some(format!("sha256:{}", name.display()))
}

fn is_upload(path: &Path) -> bool {
    path.starts_with(".orlop/ingest") && path.to_string_lossy().contains("upload-")
}

/// Whether the base row `base` is that of a tag in whatever repository.
fn is_of(base: &str, tag: &str) -> bool {
    base == tag || base.ends_with(&format!(":{tag}"))
}

/// Everything that the protocol is about, once; `without` leaves a call out all the time.
fn run(without: Option<Call>) -> Result<(), String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let recording = record(&root);
    let options = Options::new().publish(Publish::OnClose);
    let store = options.create(&root).unwrap();
    recording.acknowledge();
    let left_out = without.map(|call| arm(Fault::skip(call, &root).forever()));
    let here = store.repository(&"r".parse().unwrap());
    let push = |seed: &str, sizes: &[usize]| {
        let mut batch = store.batch();
        let digest = Artifact::image(seed, sizes).add(&mut batch, &here).unwrap();
        batch.tag(&here, &"t".parse().unwrap(), digest, Expect::Any);
        batch.commit().unwrap();
        recording.acknowledge();
    };
    push("small", &[100, 200]);
    push("large", &[40_000]);
    push("many", &[40_000; 6]);
    store.flush().unwrap();
    recording.acknowledge();
    push("later", &[100]);
    store.flush().unwrap();
    recording.acknowledge();
    here.untag(&"t".parse().unwrap(), Expect::Any).unwrap();
    recording.acknowledge();
    store.flush().unwrap();
    recording.acknowledge();
    let events = recording.events();
    let reader = Reader::read(&events, &[])?;
    assert!(reader.published && reader.content.len() > 10, "the record is read wrongly: {events:?}");
    drop(recording);
    drop(left_out);
    store.close().unwrap();
    Ok(())
}

/// A layout of another tool, none of whose files was synced.
fn take_in(without: Option<Call>) -> Result<(), String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = Options::new().publish(Publish::OnClose).create(&root).unwrap();
    let image = Artifact::image("foreign", &[100, 40_000]);
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    let mut foreign = Vec::new();
    for part in image.parts.iter().chain([&image.bytes]) {
        let digest = crate::digest::Algorithm::Sha256.digest(part).to_string();
        fs::write(root.join("blobs").join(digest.replace(':', "/")), part).unwrap();
        foreign.push(digest);
    }
    let document = serde_json::json!({ "schemaVersion": 2, "manifests": [image.entry("t")] });
    fs::write(root.join("index.json"), document.to_string()).unwrap();
    let left_out = without.map(|call| arm(Fault::skip(call, &root).forever()));
    let recording = record(&root);
    store.flush().unwrap();
    recording.acknowledge();
    let events = recording.events();
    let taken =
        events.iter().any(|event| format!("{event:?}").contains(&format!("put content {}", foreign[0])));
    assert!(taken, "nothing was taken in: {events:?}");
    drop(left_out);
    Reader::read(&events, &foreign).map(|_| ())
}

/// An upload session from its start to its end, and another that is cancelled.
fn upload(without: Option<Call>) -> Result<(), String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let store = Options::new().publish(Publish::OnClose).create(&root).unwrap();
    let recording = record(&root);
    let left_out = without.map(|call| arm(Fault::skip(call, &root).forever()));
    let here = store.repository(&"r".parse().unwrap());
    for finish in [true, false] {
        let mut upload = here.start_upload(&UploadOptions::new()).unwrap();
        recording.acknowledge();
        for offset in [0, 40_000] {
            upload.append(offset, vec![7; 40_000]).unwrap();
            upload.save().unwrap();
            recording.acknowledge();
        }
        upload.append(80_000, "the end").unwrap();
        if finish {
            upload.finish(&Expected::default()).unwrap();
        } else {
            upload.cancel().unwrap();
        }
        recording.acknowledge();
    }
    let reader = Reader::read(&recording.events(), &[])?;
    drop(left_out);
    assert!(reader.content.len() == 1, "the record is read wrongly: {:?}", recording.events());
    Ok(())
}

/// Two artifacts go, one while `index.json` still has its name.
fn collect(without: Option<Call>) -> Result<(), String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("store");
    let recording = record(&root);
    let options = Options::new().publish(Publish::OnClose).grace(std::time::Duration::ZERO);
    let store = options.create(&root).unwrap();
    let left_out = without.map(|call| arm(Fault::skip(call, &root).forever()));
    let here = store.repository(&"r".parse().unwrap());
    for (seed, flush) in [("published", true), ("at once", false)] {
        let mut batch = store.batch();
        let digest = Artifact::image(seed, &[100, 40_000]).add(&mut batch, &here).unwrap();
        batch.tag(&here, &"t".parse().unwrap(), digest, Expect::Any);
        batch.commit().unwrap();
        recording.acknowledge();
        store.flush().unwrap();
        recording.acknowledge();
        let mut batch = store.batch();
        batch.delete_manifest(&here, &digest);
        batch.commit().unwrap();
        recording.acknowledge();
        if flush {
            store.flush().unwrap();
            recording.acknowledge();
        }
        let report = store.collector().run().unwrap();
        recording.acknowledge();
        assert_eq!((report.contents, report.waiting), (4, 0), "{report:?}");
    }
    let reader = Reader::read(&recording.events(), &[])?;
    assert_eq!(reader.condemned.len(), 8);
    drop(left_out);
    Ok(())
}

#[test]
fn what_an_upload_session_acknowledges_is_durable() {
    upload(None).unwrap();
    for (call, words) in [
        (Call::SyncFile, "counts bytes before they are durable"),
        (Call::SyncDir, "counts bytes before they are durable"),
        (Call::SyncRows, "before the log is synced"),
    ] {
        let why = upload(Some(call)).expect_err(&format!("without {call:?} nobody notices"));
        assert!(why.contains(words), "{call:?}: {why}");
    }
}

#[test]
fn files_go_last() {
    collect(None).unwrap();
    for (call, words) in [
        (Call::SyncCondemned, "before the log knows"),
        (Call::PublishFirst, "before an index.json without it is published"),
    ] {
        let why = collect(Some(call)).expect_err(&format!("without {call:?} nobody notices"));
        assert!(why.contains(words), "{call:?}: {why}");
    }
}

#[test]
fn what_a_row_or_a_name_stands_for_is_durable_before_it() {
    run(None).unwrap();
    take_in(None).unwrap();
}

#[test]
fn each_step_that_is_left_out_is_noticed() {
    for (call, words) in [
        (Call::SyncFile, "before its content is synced"),
        (Call::SyncFs, "before its content is synced"),
        (Call::SyncDir, "before it is durable"),
        (Call::SyncRows, "before the log is synced"),
        (Call::SyncDocument, "before its content is synced"),
        (Call::KeepJournal, "the journal drops"),
        (Call::PutPending, "before what replaces it is put down"),
        (Call::PutBase, "nobody remembers"),
    ] {
        let why = run(Some(call)).expect_err(&format!("without {call:?} nobody notices"));
        assert!(why.contains(words), "{call:?}: {why}");
    }
    let why = take_in(Some(Call::SyncFs)).unwrap_err();
    assert!(why.contains("has a row before it is durable"), "{why}");
}
