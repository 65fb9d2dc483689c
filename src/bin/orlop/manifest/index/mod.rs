//! `orlop manifest index`: indexes of manifests that are in the layout.

use std::collections::BTreeMap;

use clap::{ArgMatches, Command};
use orlop::oci::{Descriptor, ManifestKind, Platform, RepositoryName, Tag};
use orlop::{Algorithm, Digest, Expect, Store};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::push::{incomplete, report};
use crate::content::{Destination, as_go, indent, not_json};
use crate::error::Failure;
use crate::output::{self, Output};
use crate::platform::{missing, of_config};
use crate::reference::{Found, Target};
use crate::session::Writer;

mod create;
mod update;

pub(super) fn command() -> Command {
    Command::new("index")
        .about("Make indexes of manifests, and change them")
        .after_help("Example:\n  orlop manifest index create oci:app:v1 linux-amd64 linux-arm64")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([create::command(), update::command()])
}

pub(super) fn run(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("create", matches)) => create::run(&create::Args::of(matches)?, output),
        Some(("update", matches)) => update::run(&update::Args::of(matches)?, output),
        _ => Err(Failure::usage("no verb was given").with_hint("`orlop manifest index --help` lists them")),
    }
}

/// An index, with its members in the order of oras. What it lists and its subject are kept as they were written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Box<RawValue>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// What a new index says about a manifest, in the order of oras.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

/// An index that is ready, and where it goes.
struct Finished {
    bytes: Vec<u8>,
    descriptor: Descriptor,
}

impl Index {
    fn finish(&self, media_type: &str, annotations: BTreeMap<String, String>) -> Result<Finished, Failure> {
        let bytes = as_go(&serde_json::to_vec(self).map_err(|error| not_json(&error))?);
        let digest = Digest::of(&bytes);
        let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        descriptor.artifact_type.clone_from(&self.artifact_type);
        descriptor.annotations = annotations.into_iter().collect();
        Ok(Finished { bytes, descriptor })
    }
}

impl Finished {
    /// Hands the document over instead of storing it.
    fn write(&self, to: &Destination, pretty: bool, output: &Output) -> Result<(), Failure> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        match to {
            Destination::Stdout if pretty => output::raw(&indent(&self.bytes, digest)?).map(|_| ()),
            Destination::Stdout => output::raw(&self.bytes).map(|_| ()),
            Destination::File(_) => {
                to.write(&mut &*self.bytes, *size, digest)?;
                output.result([digest], &self.descriptor, || format!("Digest: {digest}\n"))
            }
        }
    }

    /// Stores it and lets tags name it.
    fn store(
        self,
        target: &Target,
        writer: Writer,
        repository: &RepositoryName,
        tags: &[Tag],
        output: &Output,
    ) -> Result<(), Failure> {
        let Self { bytes, descriptor } = self;
        let handle = writer.store.repository(repository);
        let mut batch = writer.store.batch();
        batch.push_manifest_as(&handle, &descriptor.media_type, bytes, Algorithm::default())?;
        for tag in tags {
            batch.tag(&handle, tag, descriptor.digest, Expect::Any);
        }
        batch.commit().map_err(incomplete)?;
        drop(handle);
        writer.close()?;
        report(target, repository, tags, &descriptor, output)
    }
}

/// Finds a manifest that stands behind the index on the command line: a tag or a digest in the repository of the index,
/// or the full name of something in it.
fn find(store: &Store, target: &Target, repository: &RepositoryName, text: &str) -> Result<Found, Failure> {
    let is_full = text.starts_with("oci:") || text.starts_with("ocidir://");
    let named: Target = if is_full {
        text.parse()?
    } else {
        let is_digest = text.split_once(':').is_some_and(|(name, _)| name.parse::<Algorithm>().is_ok());
        let end = if is_digest { '@' } else { ':' };
        let repository = if repository.is_unnamed() { String::new() } else { format!(":{repository}") };
        format!("{}{repository}{end}{text}", target.layout()).parse()?
    };
    if named.path() != target.path() {
        return Err(Failure::usage(format!("manifest is in another layout, reference={text}"))
            .with_hint("copy it into the layout of the index first"));
    }
    let found = named.find(store)?;
    if found.repository.name() != repository {
        return Err(Failure::usage(format!("manifest is in another repository, reference={text}"))
            .with_hint("an index lists manifests of its own repository"));
    }
    Ok(found)
}

/// Describes a manifest for an index: what it runs on, as its config says, and its own artifact type.
fn entry(found: &Found) -> Result<Box<RawValue>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        artifact_type: Option<String>,
    }
    let Descriptor { digest, .. } = &found.descriptor;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| missing("manifest", digest))?;
    let manifest = stored.parse()?;
    let is_image =
        matches!(manifest.kind(), Some(ManifestKind::ImageManifest | ManifestKind::DockerManifest));
    let platform = match manifest.config() {
        Some(config) if is_image => of_config(&found.repository, config)?,
        _ => None,
    };
    // Not the media type of the config, which stands in for it elsewhere.
    let document: Option<Document> = serde_json::from_slice(&stored.content).ok();
    let artifact_type = document.and_then(|document| document.artifact_type).filter(|kind| !kind.is_empty());
    let media_type = &stored.descriptor.media_type;
    let entry = Entry { media_type, digest, size: stored.descriptor.size, platform, artifact_type };
    to_raw_value(&entry).map_err(|error| not_json(&error))
}
