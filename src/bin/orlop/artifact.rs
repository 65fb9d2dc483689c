//! What push and attach have in common: files become layers, and a manifest that lists them.
//!
//! The manifest is the one that oras writes for the same files, byte for byte, except that a subject is described by
//! media type, digest and size alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use orlop::oci::{Descriptor, Tag, media_type};
use orlop::{Batch, Expect, Expected, Repository, Store};
use serde::Serialize;

use crate::args::{flag, option, rest, value, values};
use crate::content::as_go;
use crate::error::Failure;
use crate::output::{self, Output};
use crate::session;

/// The annotation with the path of a file.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation by which oras marks a directory that it packed.
pub(crate) const UNPACK: &str = "io.deis.oras.content.unpack";

const CREATED: &str = "org.opencontainers.image.created";
const UNKNOWN_ARTIFACT: &str = "application/vnd.unknown.artifact.v1";
const UNKNOWN_CONFIG: &str = "application/vnd.unknown.config.v1+json";
/// The keys of an annotation file that are no file names.
pub(crate) const MANIFEST_KEY: &str = "$manifest";
const CONFIG_KEY: &str = "$config";

const EMPTY: &[u8] = b"{}";
const EMPTY_BASE64: &str = "e30=";

/// The arguments that say what is stored.
#[derive(Debug)]
pub(crate) struct ArtifactArgs {
    files: Vec<String>,
    artifact_type: Option<String>,
    config: Option<String>,
    annotation: Vec<String>,
    annotation_file: Option<PathBuf>,
    disable_path_validation: bool,
}

/// A file and what becomes of it.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    media_type: String,
    annotations: BTreeMap<String, String>,
}

/// The arguments, understood and checked: what can be refused before a store is opened has been.
#[derive(Debug)]
pub(crate) struct Plan {
    files: Vec<Entry>,
    config: Option<Entry>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
    /// Whether the manifest was given annotations, beside the one with its time.
    is_annotated: bool,
}

/// What was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The manifest, with its artifact type and annotations.
    pub(crate) descriptor: Descriptor,
    files: usize,
    existed: usize,
    bytes: u64,
}

impl Entry {
    /// Adds the file to a batch and describes it.
    fn add(self, store: &Store, repository: &Repository, batch: &mut Batch) -> Result<Descriptor, Failure> {
        // The size is part of the descriptor, so a file that is being written to is refused.
        let size = session::metadata(&self.path)?.len();
        let content = store.ingest_file(&self.path, &Expected::default().with_size(size))?;
        let mut descriptor = Descriptor::new(self.media_type, batch.push(repository, content)?, size);
        descriptor.annotations = self.annotations.into_iter().collect();
        Ok(descriptor)
    }
}

impl ArtifactArgs {
    pub(crate) fn declare() -> [Arg; 6] {
        let [annotation, annotation_file] = annotation_options();
        [
            rest(
                "files",
                "FILE[:MEDIATYPE]",
                "Files, each with its media type behind the last colon [default: application/vnd.oci.image.layer.v1.tar]; \
                 a name that has a colon ends with one",
            ),
            option("artifact-type", "TYPE", "What the artifact is, as a media type"),
            option(
                "config",
                "FILE[:MEDIATYPE]",
                "The config of the manifest [default: an empty JSON object]",
            ),
            annotation,
            annotation_file,
            flag(
                "disable-path-validation",
                "Let files keep absolute paths and paths with `..` as their names",
            ),
        ]
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            files: values(matches, "files"),
            artifact_type: value(matches, "artifact-type"),
            config: value(matches, "config"),
            annotation: values(matches, "annotation"),
            annotation_file: value(matches, "annotation-file"),
            disable_path_validation: matches.get_flag("disable-path-validation"),
        }
    }

    pub(crate) fn plan(&self, output: &Output) -> Result<Plan, Failure> {
        let mut annotations = annotations(&self.annotation, self.annotation_file.as_deref())?;
        let config = match &self.config {
            Some(argument) => {
                let (path, media_type) = split(argument, UNKNOWN_CONFIG)?;
                Some(Entry {
                    path,
                    media_type,
                    annotations: annotations.remove(CONFIG_KEY).unwrap_or_default(),
                })
            }
            None => None,
        };
        if let Some(artifact_type) = &self.artifact_type {
            check_media_type(artifact_type)?;
        }
        let mut manifest = annotations.remove(MANIFEST_KEY).unwrap_or_default();
        let is_annotated = !manifest.is_empty();
        if !manifest.contains_key(CREATED) {
            manifest.insert(CREATED.into(), now()?);
        }
        let files = self.entries(&mut annotations)?;
        for unused in annotations.keys() {
            output.note(format!("annotations of a file that is not pushed, file={unused}"));
        }
        if let Some(entry) = &config {
            check_file(&entry.path)?;
        }
        Ok(Plan {
            files,
            config,
            artifact_type: self.artifact_type.clone(),
            annotations: manifest,
            is_annotated,
        })
    }

    fn entries(
        &self,
        annotations: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Vec<Entry>, Failure> {
        let mut titles = BTreeSet::new();
        let mut entries = Vec::with_capacity(self.files.len());
        for argument in &self.files {
            let (path, media_type) = split(argument, media_type::LAYER_TAR)?;
            check_file(&path)?;
            let name = path.to_str().unwrap_or_default();
            let mut annotations = annotations.remove(name).unwrap_or_default();
            let title = annotations.entry(TITLE.into()).or_insert_with(|| clean(&path)).clone();
            if !self.disable_path_validation {
                check_title(&title)?;
            }
            if !titles.insert(title.clone()) {
                return Err(Failure::usage(format!("two files have the same name, name={title}"))
                    .with_hint("push them as two artifacts, or rename one by --annotation-file"));
            }
            entries.push(Entry { path, media_type, annotations });
        }
        Ok(entries)
    }
}

/// The options that annotate a manifest.
pub(crate) fn annotation_options() -> [Arg; 2] {
    [
        option("annotation", "KEY=VALUE", "Annotate the manifest; can be repeated")
            .short('a')
            .action(ArgAction::Append),
        option(
            "annotation-file",
            "FILE",
            "Take annotations from a JSON object: file name, $manifest or $config to an object of them",
        )
        .value_parser(value_parser!(PathBuf))
        .conflicts_with("annotation"),
    ]
}

/// What those options say, by what is annotated.
#[expect(clippy::disallowed_methods, reason = "an argument, no part of a store")]
pub(crate) fn annotations(
    arguments: &[String],
    file: Option<&Path>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
    if let Some(path) = file {
        let text =
            std::fs::read(path).map_err(|error| Failure::io("read the annotation file", path, &error))?;
        return serde_json::from_slice(&text).map_err(|error| {
            let path = path.display();
            Failure::usage(format!(
                "annotation file is not an object of objects of strings, path={path}: {error}"
            ))
            .with_hint(r#"an example: {"$manifest": {"key": "value"}, "notes.txt": {"key": "value"}}"#)
        });
    }
    let mut manifest = BTreeMap::new();
    for argument in arguments {
        let pair = argument.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = pair else {
            return Err(Failure::usage(format!("annotation is not KEY=VALUE, annotation={argument}")));
        };
        if manifest.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!("annotation is given twice, key={key}")));
        }
    }
    Ok(BTreeMap::from([(MANIFEST_KEY.to_owned(), manifest)]))
}

impl Plan {
    pub(crate) fn has_artifact_type(&self) -> bool {
        self.artifact_type.is_some()
    }

    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    pub(crate) fn is_annotated(&self) -> bool {
        self.is_annotated
    }

    pub(crate) fn has_config(&self) -> bool {
        self.config.is_some()
    }

    /// Stores everything in one batch: after a failure nothing of it is visible.
    pub(crate) fn store(
        self,
        store: &Store,
        repository: &Repository,
        subject: Option<&Descriptor>,
        tags: &[Tag],
    ) -> Result<Stored, Failure> {
        let mut batch = store.batch();
        let mut layers = Vec::with_capacity(self.files.len());
        let mut bytes = 0;
        let files = self.files.len();
        for entry in self.files {
            let layer = entry.add(store, repository, &mut batch)?;
            bytes += layer.size;
            layers.push(layer);
        }
        let has_config = self.config.is_some();
        let config = match self.config {
            Some(entry) => entry.add(store, repository, &mut batch)?,
            None => empty(),
        };
        // As oras has it: a config without an artifact type makes an image of specification 1.0, whose config tells
        // what it is and whose list of layers may be empty; otherwise an empty list has one empty layer.
        let (artifact_type, is_v1_0) = match self.artifact_type {
            Some(artifact_type) => (Some(artifact_type), false),
            None if has_config => (None, true),
            None => (Some(UNKNOWN_ARTIFACT.to_owned()), false),
        };
        if layers.is_empty() && !is_v1_0 {
            layers.push(empty());
        }
        if layers.iter().chain([&config]).any(|descriptor| descriptor.data.is_some()) {
            // Some tools want the file even where the descriptor has its bytes.
            batch.push_bytes(repository, EMPTY)?;
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::IMAGE_MANIFEST,
            artifact_type: artifact_type.as_deref(),
            config: &config,
            layers: &layers,
            subject: subject
                .map(|subject| Descriptor::new(&*subject.media_type, subject.digest, subject.size)),
            annotations: &self.annotations,
        };
        let document = serde_json::to_vec(&manifest).map_err(|error| {
            Failure::new(crate::error::Exit::Other, format!("cannot write the manifest: {error}"))
        })?;
        let document = as_go(&document);
        let size = document.len() as u64;
        let digest = batch.push_manifest(repository, media_type::IMAGE_MANIFEST, document)?;
        for tag in tags {
            batch.tag(repository, tag, digest, Expect::Any);
        }
        let committed = batch.commit()?;
        let existed = committed.pushed.iter().take(files).filter(|pushed| pushed.existed).count();
        let mut descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, digest, size);
        descriptor.artifact_type = artifact_type.or(Some(config.media_type));
        descriptor.annotations = self.annotations.into_iter().collect();
        Ok(Stored { descriptor, files, existed, bytes })
    }
}

impl Stored {
    /// How much it was, for people.
    pub(crate) fn summary(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let existed = match self.existed {
            0 => String::new(),
            existed => format!(", {existed} stored already"),
        };
        format!("{files}, {}{existed}", output::size(self.bytes))
    }
}

/// The members in the order of oras, so that the same files have the same digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    annotations: &'a BTreeMap<String, String>,
}

fn empty() -> Descriptor {
    let mut descriptor = Descriptor::new(media_type::EMPTY, orlop::Digest::of(EMPTY), EMPTY.len() as u64);
    descriptor.data = Some(EMPTY_BASE64.into());
    descriptor
}

/// Splits `FILE[:MEDIATYPE]` at the last colon.
fn split(argument: &str, default: &str) -> Result<(PathBuf, String), Failure> {
    let (path, media_type) = match argument.rsplit_once(':') {
        None => (argument, default),
        Some((path, "")) => (path, default),
        Some((path, media_type)) => (path, media_type),
    };
    if path.is_empty() {
        return Err(Failure::usage(format!("argument names no file, argument={argument}")));
    }
    check_media_type(media_type).map_err(|failure| {
        failure.with_hint(format!(
            "FILE:MEDIATYPE; a colon at the end says that the file is called {argument}: `{argument}:`"
        ))
    })?;
    Ok((path.into(), media_type.into()))
}

fn check_media_type(value: &str) -> Result<(), Failure> {
    media_type::validate(media_type::essence(value)).map_err(|error| Failure::usage(error.to_string()))
}

/// The name that a file keeps in the artifact: its path without `.`, doubled slashes, and `..` behind a name.
fn clean(path: &Path) -> String {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            Component::ParentDir if clean.is_absolute() => {}
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    // Arguments are text, so this loses nothing.
    clean.to_string_lossy().into_owned()
}

/// Refuses names that a pull would refuse.
fn check_title(title: &str) -> Result<(), Failure> {
    match crate::place::Relative::parse(title) {
        Ok(_) => Ok(()),
        Err(what) => Err(Failure::usage(format!("name of a file {what}, name={title}")).with_hint(
            "give a path below this directory; --disable-path-validation keeps the name as it is",
        )),
    }
}

fn check_file(path: &Path) -> Result<(), Failure> {
    let metadata = session::metadata(path)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("directories cannot be stored yet, path={}", path.display()))
            .with_hint("name its files, or pack it: `tar -cf DIR.tar DIR`"));
    }
    if !metadata.is_file() {
        return Err(Failure::usage(format!("not a regular file, path={}", path.display()))
            .with_hint("write what comes from it into a file first"));
    }
    Ok(())
}

/// The time for the manifest, in UTC: now, or what SOURCE_DATE_EPOCH says for builds that can be repeated.
#[expect(clippy::disallowed_methods, reason = "this is where the command line tells the time")]
fn now() -> Result<String, Failure> {
    let second = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(value) => {
            value.parse().ok().and_then(|second| jiff::Timestamp::from_second(second).ok()).ok_or_else(
                || Failure::usage(format!("SOURCE_DATE_EPOCH is not a number of seconds, value={value}")),
            )?
        }
        Err(_) => jiff::Timestamp::now(),
    };
    Ok(second.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn names_are_cleaned() {
        let cases = [
            ("a", "a"),
            ("./a", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/a/../../b", "/b"),
            (".", "."),
            ("a/..", "."),
            ("../../a", "../../a"),
        ];
        for (path, name) in cases {
            assert_eq!(clean(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn the_last_colon_begins_the_media_type() {
        let parts = |argument| {
            split(argument, "x/y").map(|(path, media_type)| (path.to_str().unwrap().to_owned(), media_type))
        };
        let cases = [
            ("a", "a", "x/y"),
            ("a:text/plain", "a", "text/plain"),
            ("a:b:", "a:b", "x/y"),
            ("a:b:c/d", "a:b", "c/d"),
            ("a:text/plain;charset=utf-8", "a", "text/plain;charset=utf-8"),
        ];
        for (argument, path, media_type) in cases {
            assert_eq!(parts(argument).unwrap(), (path.to_owned(), media_type.to_owned()), "{argument}");
        }
        assert!(parts("a:b").unwrap_err().hint().unwrap().contains("`a:b:`"));
        assert!(parts(":x/y").unwrap_err().chain().contains("argument=:x/y"));
    }
}
