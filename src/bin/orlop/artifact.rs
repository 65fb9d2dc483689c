//! What push and attach have in common: files and directories become layers, and a manifest that lists them.
//!
//! The manifest is the one that oras writes for the same files, byte for byte, except that a subject is described by
//! media type, digest and size alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use orlop::oci::{Descriptor, Tag, media_type};
use orlop::{Batch, Expect, Repository, Store};

use crate::args::{flag, option, rest, value, values};
use crate::error::Failure;
use crate::fileref::{check_media_type, check_title, clean, split};
use crate::interrupt;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::source::{self, NOTHING, Source};

mod compose;
mod in_registry;

use self::compose::{Composed, Parts};

/// The annotation with the path of a file.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation by which oras marks a directory that it packed.
pub(crate) const UNPACK: &str = "io.deis.oras.content.unpack";
/// The annotation with the digest of the archive inside a packed directory.
pub(crate) const UNPACKED_DIGEST: &str = "io.deis.oras.content.digest";

const CREATED: &str = "org.opencontainers.image.created";
const UNKNOWN_ARTIFACT: &str = "application/vnd.unknown.artifact.v1";
const UNKNOWN_CONFIG: &str = "application/vnd.unknown.config.v1+json";
/// The keys of an annotation file that are no file names.
pub(crate) const MANIFEST_KEY: &str = "$manifest";
const CONFIG_KEY: &str = "$config";

const EMPTY: &[u8] = b"{}";

/// The arguments that say what is stored.
#[derive(Debug)]
pub(crate) struct ArtifactArgs {
    files: Vec<String>,
    artifact_type: Option<String>,
    config: Option<String>,
    annotation: Vec<String>,
    annotation_file: Option<PathBuf>,
    disable_path_validation: bool,
    stdin_name: String,
    export_manifest: Option<PathBuf>,
    image_spec: Option<ImageSpec>,
}

/// The version of the image specification that a manifest is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ImageSpec {
    V1_0,
    V1_1,
}

/// A file or directory and what becomes of it.
#[derive(Debug)]
struct Entry {
    /// As it was given, for people.
    path: PathBuf,
    source: Source,
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
    /// An image of specification 1.0: its config tells what it is.
    is_v1_0: bool,
    export_manifest: Option<PathBuf>,
}

/// What was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The manifest, with its artifact type and annotations.
    pub(crate) descriptor: Descriptor,
    /// How many layers, and how many of them are directories.
    files: usize,
    directories: usize,
    existed: usize,
    bytes: u64,
    document: Vec<u8>,
    export_manifest: Option<PathBuf>,
}

impl Entry {
    /// Adds the content to a batch and describes it.
    fn add(
        self,
        store: &Store,
        repository: &Repository,
        batch: &mut Batch,
        progress: &mut Progress,
    ) -> Result<Descriptor, Failure> {
        progress.begin(&self.path.to_string_lossy());
        let taken = self.source.take(store, progress)?;
        interrupt::check(NOTHING)?;
        let size = taken.content.size();
        let mut descriptor = Descriptor::new(self.media_type, batch.push(repository, taken.content)?, size);
        if let Some(digest) = taken.unpacked {
            descriptor.annotations =
                [(UNPACK.into(), "true".into()), (UNPACKED_DIGEST.into(), digest.to_string())].into();
        }
        descriptor.annotations.extend(self.annotations);
        Ok(descriptor)
    }
}

impl ArtifactArgs {
    pub(crate) fn declare() -> [Arg; 9] {
        let [annotation, annotation_file] = annotation_options();
        [
            rest(
                "files",
                "FILE[:MEDIATYPE]",
                "Files and directories, each with its media type behind the last colon \
                 [default: application/vnd.oci.image.layer.v1.tar, of a directory that with +gzip]; \
                 a name that has a colon ends with one; - is standard input",
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
            option("stdin-name", "NAME", "The name of what comes from standard input").default_value("stdin"),
            option("export-manifest", "FILE", "Write the manifest into this file as well")
                .value_parser(value_parser!(PathBuf)),
            // As oras has it. Files are taken in one by one: a disk is no faster for it, and what is stored is the same.
            option("concurrency", "N", "Accepted and ignored").value_parser(value_parser!(u16)).hide(true),
        ]
    }

    /// For push alone: what is attached has a subject, which specification 1.0 does not know.
    pub(crate) fn image_spec() -> Arg {
        option(
            "image-spec",
            "v1.0|v1.1",
            "The kind of manifest [default: v1.1, and v1.0 for a config without an artifact type]",
        )
        .value_parser(|text: &str| match text {
            "v1.0" => Ok(ImageSpec::V1_0),
            "v1.1" => Ok(ImageSpec::V1_1),
            _ => Err("use v1.0 or v1.1"),
        })
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            files: values(matches, "files"),
            artifact_type: value(matches, "artifact-type"),
            config: value(matches, "config"),
            annotation: values(matches, "annotation"),
            annotation_file: value(matches, "annotation-file"),
            disable_path_validation: matches.get_flag("disable-path-validation"),
            stdin_name: value(matches, "stdin-name").unwrap_or_default(),
            export_manifest: value(matches, "export-manifest"),
            image_spec: matches.try_get_one("image-spec").ok().flatten().copied(),
        }
    }

    /// Refuses files before the reference. What begins with `oci:` and is no file is meant as one.
    pub(crate) fn check_order(&self, target: &str) -> Result<(), Failure> {
        let is_reference = |text: &&String| {
            ["oci:", "ocidir://"].iter().any(|scheme| text.starts_with(scheme)) && !Path::new(text).exists()
        };
        match self.files.iter().find(is_reference) {
            Some(reference) if Path::new(target).exists() => {
                Err(Failure::usage(format!("the reference comes before the files, reference={reference}"))
                    .with_hint(format!("write {reference} {target}")))
            }
            Some(reference) => Err(Failure::usage(format!("more than one reference, reference={reference}"))
                .with_hint("push to one at a time; `orlop tag` and `orlop cp` do the rest")),
            None => Ok(()),
        }
    }

    pub(crate) fn plan(&self, output: &Output) -> Result<Plan, Failure> {
        let mut annotations = annotations(&self.annotation, self.annotation_file.as_deref())?;
        let config = match &self.config {
            Some(argument) => {
                let (path, media_type) = split(argument)?;
                let source = Source::of(&path, "", None)?;
                if source.is_directory() {
                    return Err(Failure::usage(format!("config is a directory, path={}", path.display()))
                        .with_hint(
                            "give a file, as --config config.json:application/vnd.example.config+json",
                        ));
                }
                Some(Entry {
                    path,
                    source,
                    media_type: media_type.unwrap_or_else(|| UNKNOWN_CONFIG.into()),
                    annotations: annotations.remove(CONFIG_KEY).unwrap_or_default(),
                })
            }
            None => None,
        };
        if let Some(artifact_type) = &self.artifact_type {
            check_media_type(artifact_type)?;
        }
        let is_v1_0 = self.is_v1_0()?;
        let mut manifest = annotations.remove(MANIFEST_KEY).unwrap_or_default();
        let is_annotated = !manifest.is_empty();
        if !manifest.contains_key(CREATED) {
            manifest.insert(CREATED.into(), now()?);
        }
        let files = self.entries(&mut annotations)?;
        for unused in annotations.keys() {
            output.note(format!("annotations of a file that is not pushed, file={unused}"));
        }
        let stdin = files.iter().chain(&config).filter(|entry| matches!(entry.source, Source::Stdin)).count();
        if stdin > 1 {
            return Err(Failure::usage("standard input can be read once, path=-")
                .with_hint("a file that is called - is `./-`"));
        }
        if stdin == 1 {
            source::check_stdin()?;
        }
        for entry in &files {
            warn_of_links(entry, output);
        }
        Ok(Plan {
            files,
            config,
            artifact_type: self.artifact_type.clone(),
            annotations: manifest,
            is_annotated,
            is_v1_0,
            export_manifest: self.export_manifest.clone(),
        })
    }

    /// As oras has it: a config without an artifact type makes an image of specification 1.0, whose config tells what
    /// it is.
    fn is_v1_0(&self) -> Result<bool, Failure> {
        match (self.image_spec, self.config.is_some(), &self.artifact_type) {
            (Some(ImageSpec::V1_0), true, Some(artifact_type)) => Err(Failure::usage(format!(
                "an image of specification 1.0 has a config or an artifact type, artifact_type={artifact_type}"
            ))
            .with_hint("leave out one of --config and --artifact-type, or --image-spec v1.0")),
            (Some(ImageSpec::V1_1), true, None) => {
                Err(Failure::usage("an artifact of specification 1.1 needs an artifact type, image_spec=v1.1")
                    .with_hint("say what it is by --artifact-type, or use --image-spec v1.0"))
            }
            (spec, has_config, artifact_type) => {
                Ok(spec == Some(ImageSpec::V1_0) || (has_config && artifact_type.is_none()))
            }
        }
    }

    fn entries(
        &self,
        annotations: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Vec<Entry>, Failure> {
        let mut titles = BTreeSet::new();
        let time = epoch()?;
        let mut entries = Vec::with_capacity(self.files.len());
        for argument in &self.files {
            let (path, media_type) = split(argument)?;
            let name = path.to_str().unwrap_or_default();
            let mut annotations = annotations.remove(name).unwrap_or_default();
            let default = || if source::is_stdin(&path) { self.stdin_name.clone() } else { clean(&path) };
            let title = annotations.entry(TITLE.into()).or_insert_with(default).clone();
            let source = Source::of(&path, &title, time)?;
            if !(self.disable_path_validation || title == "." && source.is_directory()) {
                check_title(&title)?;
            }
            if !titles.insert(title.clone()) {
                return Err(Failure::usage(format!("two files have the same name, name={title}"))
                    .with_hint("push them as two artifacts, or rename one by --annotation-file"));
            }
            let media_type = media_type.unwrap_or_else(|| source.media_type().into());
            entries.push(Entry { path, source, media_type, annotations });
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

    /// Refuses to pack the layout into itself.
    pub(crate) fn check_outside(&self, layout: &Path) -> Result<(), Failure> {
        // It need not be there yet.
        let layout = std::path::absolute(layout).unwrap_or_else(|_| layout.to_owned());
        let Some(layout) = layout.ancestors().find_map(|path| path.canonicalize().ok()) else {
            return Ok(());
        };
        let directories = self.files.iter().filter(|entry| entry.source.is_directory());
        for entry in directories {
            if entry.path.canonicalize().is_ok_and(|path| layout.starts_with(path)) {
                let (path, layout) = (entry.path.display(), layout.display());
                return Err(Failure::usage(format!(
                    "the layout is in the directory that is to be pushed, path={path}, layout={layout}"
                ))
                .with_hint("put the layout beside the directory"));
            }
        }
        Ok(())
    }

    /// Stores everything in one batch: after a failure nothing of it is visible.
    pub(crate) fn store(
        self,
        store: &Store,
        repository: &Repository,
        subject: Option<&Descriptor>,
        tags: &[Tag],
        output: &Output,
    ) -> Result<Stored, Failure> {
        let mut batch = store.batch();
        let total = self.files.iter().chain(&self.config).map(|entry| entry.source.size()).sum();
        let mut progress = Progress::new(output.progress(), "Storing", total);
        let mut layers = Vec::with_capacity(self.files.len());
        let mut bytes = 0;
        let files = self.files.len();
        let directories = self.files.iter().filter(|entry| entry.source.is_directory()).count();
        for entry in self.files {
            let layer = entry.add(store, repository, &mut batch, &mut progress)?;
            bytes += layer.size;
            layers.push(layer);
        }
        let config = match self.config {
            Some(entry) => Some(entry.add(store, repository, &mut batch, &mut progress)?),
            None => None,
        };
        drop(progress);
        let parts = Parts {
            artifact_type: self.artifact_type,
            is_v1_0: self.is_v1_0,
            annotations: self.annotations,
            layers,
            config,
        };
        let Composed { document, descriptor, has_empty } = parts.compose(subject)?;
        if has_empty {
            batch.push_bytes(repository, EMPTY)?;
        }
        let digest = batch.push_manifest(repository, media_type::IMAGE_MANIFEST, document.clone())?;
        for tag in tags {
            batch.tag(repository, tag, digest, Expect::Any);
        }
        // From here on it is there, whatever comes.
        interrupt::check(NOTHING)?;
        let committed = batch.commit()?;
        let existed = committed.pushed.iter().take(files).filter(|pushed| pushed.existed).count();
        Ok(Stored {
            descriptor,
            files,
            directories,
            existed,
            bytes,
            document,
            export_manifest: self.export_manifest,
        })
    }
}

impl Stored {
    /// How much it was, for people.
    pub(crate) fn summary(&self) -> String {
        let files = output::count(self.files - self.directories, self.directories);
        let existed = match self.existed {
            0 => String::new(),
            existed => format!(", {existed} stored already"),
        };
        format!("{files}, {}{existed}", output::size(self.bytes))
    }

    /// Writes the manifest where --export-manifest wants it.
    #[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
    pub(crate) fn export(&self) -> Result<(), Failure> {
        let Some(path) = &self.export_manifest else { return Ok(()) };
        std::fs::write(path, &self.document).map_err(|error| {
            Failure::io("export the manifest", path, &error).with_hint(format!(
                "everything else is done; `orlop manifest fetch` gives the manifest, digest={}",
                self.descriptor.digest
            ))
        })
    }
}

/// Says which links a pull will refuse.
fn warn_of_links(entry: &Entry, output: &Output) {
    let Source::Directory(tree) = &entry.source else { return };
    let mut left = 0;
    for (index, path) in tree.leaving().enumerate() {
        if index < 5 {
            output.note(format!(
                "a link leads out of the directory or up again behind a name, so that it cannot be pulled, path={}",
                path.display()
            ));
        } else {
            left += 1;
        }
    }
    if left > 0 {
        output.note(format!("and {left} further links"));
    }
}

/// The time for the manifest, in UTC: now, or what SOURCE_DATE_EPOCH says for builds that can be repeated.
#[expect(clippy::disallowed_methods, reason = "this is where the command line tells the time")]
fn now() -> Result<String, Failure> {
    let second = match epoch()? {
        Some(second) => jiff::Timestamp::from_second(second).unwrap_or_default(),
        None => jiff::Timestamp::now(),
    };
    Ok(second.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// What SOURCE_DATE_EPOCH says, for times that cannot be before 1970.
pub(crate) fn source_date() -> Result<Option<u64>, Failure> {
    Ok(epoch()?.map(|second| u64::try_from(second).unwrap_or(0)))
}

/// The time that stands for now, and for those of packed files, if the user gave one.
fn epoch() -> Result<Option<i64>, Failure> {
    let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let second = value.parse().ok().filter(|&second| jiff::Timestamp::from_second(second).is_ok());
    second
        .map(Some)
        .ok_or_else(|| Failure::usage(format!("SOURCE_DATE_EPOCH is not a number of seconds, value={value}")))
}
