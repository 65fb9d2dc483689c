//! `orlop manifest index create`

use std::path::PathBuf;

use clap::{ArgMatches, Command};
use orlop::Store;
use orlop::oci::{RepositoryName, media_type};

use super::{Finished, Index, entry, find};
use crate::args::{option, rest, target, target_of, value, values, verb};
use crate::artifact::{MANIFEST_KEY, annotation_options, annotations};
use crate::content::{Destination, output_option, pretty_flag};
use crate::error::Failure;
use crate::output::Output;
use crate::reference::{Target, repository_and_tags, usage};
use crate::session::{self, WriteArgs};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    sources: Vec<String>,
    artifact_type: Option<String>,
    annotation: Vec<String>,
    annotation_file: Option<PathBuf>,
    destination: Option<Destination>,
    pretty: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "create",
        "Make an index of manifests",
        "The manifests are in the repository of the index. What an image runs on is taken from its config.",
        "orlop manifest index create oci:app:v1 linux-amd64 linux-arm64",
    )
    .visible_alias("pack")
    .arg(target("oci:DIR[:[REPOSITORY:]TAG[,TAG...]]", "Where to: a layout, with one or more tags in it"))
    .arg(rest("sources", "TAG|DIGEST", "The manifests, in the order of the index"))
    .arg(option("artifact-type", "TYPE", "What the index is, as a media type"))
    .args(annotation_options())
    .arg(output_option("Write the index into a file instead of storing it; - is stdout"))
    .arg(pretty_flag())
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            sources: values(matches, "sources"),
            artifact_type: value(matches, "artifact-type"),
            annotation: values(matches, "annotation"),
            annotation_file: value(matches, "annotation-file"),
            destination: Destination::of(matches)?,
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
        })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let (name, tags) = repository_and_tags(&target)?;
    if let Some(kind) = &args.artifact_type {
        media_type::validate(kind).map_err(|error| usage(&error))?;
    }
    if let Some(destination) = &args.destination {
        let store = session::read(&target, output)?;
        return args.index(&store, &target, &name)?.write(destination, args.pretty, output);
    }
    // An index of nothing may make the layout that it is in; manifests must be there already.
    let writer = if args.sources.is_empty() {
        args.write.create(&target, output)?
    } else {
        args.write.open(&target, output)?
    };
    args.index(&writer.store, &target, &name)?.store(&target, writer, &name, &tags, output)
}

impl Args {
    fn index(&self, store: &Store, target: &Target, name: &RepositoryName) -> Result<Finished, Failure> {
        let mut annotations = annotations(&self.annotation, self.annotation_file.as_deref())?;
        let annotations = annotations.remove(MANIFEST_KEY).unwrap_or_default();
        let mut manifests = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            manifests.push(entry(&find(store, target, name, source)?)?);
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_INDEX.to_owned()),
            artifact_type: self.artifact_type.clone(),
            manifests: Some(manifests),
            subject: None,
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
        };
        index.finish(media_type::IMAGE_INDEX, annotations)
    }
}
