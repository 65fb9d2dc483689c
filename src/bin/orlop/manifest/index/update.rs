//! `orlop manifest index update`

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, ArgMatches, Command};
use orlop::oci::{RepositoryName, Tag, media_type};
use orlop::{Digest, Store};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Finished, Index, entry, find};
use crate::args::{option, target, target_of, value, values, verb};
use crate::content::{Destination, output_option, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::platform::missing;
use crate::prefix::Prefix;
use crate::reference::{Found, Selector, Target, repository_and_tags, usage};
use crate::session::{self, WriteArgs};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    add: Vec<String>,
    merge: Vec<String>,
    remove: Vec<String>,
    tags: Vec<String>,
    /// Empty: the index has none from now on.
    artifact_type: Option<String>,
    destination: Option<Destination>,
    pretty: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "update",
        "Change what an index lists",
        "This makes a new index. The tag that was given names it from then on; a digest names the old one for ever.",
        "orlop manifest index update oci:app:v1 --add linux-riscv64",
    )
    .arg(target("oci:DIR:REF", "The index"))
    .arg(many("add", "TAG|DIGEST", "List this manifest as well, at the end"))
    .arg(many("merge", "TAG|DIGEST", "List what this index lists as well, at the end"))
    .arg(many("remove", "DIGEST", "List this manifest no longer"))
    .arg(many("tag", "TAG", "Let this tag name the new index as well").conflicts_with("output"))
    .arg(option("artifact-type", "TYPE", "What the index is from now on, as a media type; empty for nothing"))
    .arg(output_option("Write the index into a file instead of storing it; - is stdout"))
    .arg(pretty_flag())
    .args(WriteArgs::declare())
}

fn many(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    option(name, form, help).action(ArgAction::Append)
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            add: values(matches, "add"),
            merge: values(matches, "merge"),
            remove: values(matches, "remove"),
            tags: values(matches, "tag"),
            artifact_type: value(matches, "artifact-type"),
            destination: Destination::of(matches)?,
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
        })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    if args.add.is_empty() && args.merge.is_empty() && args.remove.is_empty() && args.artifact_type.is_none()
    {
        return Err(Failure::usage(format!("no change was asked for, reference={}", target.shown()))
            .with_hint("give --add, --merge, --remove or --artifact-type"));
    }
    if let Some(kind) = args.artifact_type.as_deref().filter(|kind| !kind.is_empty()) {
        media_type::validate(kind).map_err(|error| usage(&error))?;
    }
    for text in &args.remove {
        check_digest(text)?;
    }
    let mut tags: Vec<Tag> = match target.selector {
        Selector::Name(_) => repository_and_tags(&target)?.1,
        _ => Vec::new(),
    };
    for tag in &args.tags {
        tags.push(tag.parse().map_err(|error| usage(&error))?);
    }
    if let Some(destination) = &args.destination {
        let store = session::read(&target, output)?;
        let found = target.find(&store)?;
        return args.index(&store, &target, &found)?.write(destination, args.pretty, output);
    }
    let writer = args.write.open_to(&target, output)?;
    let found = target.find(&writer.store)?;
    let finished = args.index(&writer.store, &target, &found)?;
    let (name, _) = found.into_parts();
    finished.store(&target, writer, &name, &tags, output)
}

impl Args {
    fn index(&self, store: &Store, target: &Target, found: &Found) -> Result<Finished, Failure> {
        let name: &RepositoryName = found.repository.name();
        let (mut index, kind) = read(found, &target.shown())?;
        let mut manifests = index.manifests.take().unwrap_or_default();
        let mut removed = BTreeSet::new();
        for text in &self.remove {
            removed.insert(listed(&manifests, text, target)?);
        }
        manifests.retain(|entry| digest(entry).is_none_or(|digest| !removed.contains(&digest)));
        for text in &self.add {
            manifests.push(entry(&find(store, target, name, text)?)?);
        }
        for text in &self.merge {
            let (merged, _) = read(&find(store, target, name, text)?, text)?;
            manifests.extend(merged.manifests.unwrap_or_default());
        }
        index.manifests = Some(manifests);
        if let Some(kind) = &self.artifact_type {
            index.artifact_type = Some(kind.clone());
        }
        // Nothing is what an empty text means.
        index.artifact_type = index.artifact_type.filter(|kind| !kind.is_empty());
        index.annotations = index.annotations.filter(|all| !all.is_empty());
        let annotations = index.annotations.clone().unwrap_or_default();
        index.finish(&kind, annotations)
    }
}

/// Reads an index and its media type.
fn read(found: &Found, shown: &str) -> Result<(Index, String), Failure> {
    let digest = &found.descriptor.digest;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| missing("index", digest))?;
    let manifest = stored.parse()?;
    if !manifest.kind().is_some_and(orlop::oci::ManifestKind::is_index) {
        let kind = manifest.media_type();
        return Err(Failure::usage(format!("not an index, reference={shown}, media_type={kind}"))
            .with_hint("`orlop manifest index create` makes one"));
    }
    let index: Index = serde_json::from_slice(&stored.content).map_err(|error| {
        Failure::new(Exit::Other, format!("index cannot be read, reference={shown}: {error}"))
    })?;
    Ok((index, manifest.media_type().to_owned()))
}

/// The digest of what is listed. None for one of an unknown algorithm.
fn digest(listed: &RawValue) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Listed {
        digest: String,
    }
    let listed: Listed = serde_json::from_str(listed.get()).ok()?;
    listed.digest.parse().ok()
}

/// Refuses what is neither a digest nor the beginning of one.
fn check_digest(text: &str) -> Result<(), Failure> {
    let is_prefix = text.split_once(':').is_some_and(|(algorithm, digits)| {
        algorithm.parse().is_ok_and(|algorithm| Prefix::parse(algorithm, digits).is_some())
    });
    match text.parse::<Digest>() {
        Err(error) if !is_prefix => Err(Failure::usage(error.to_string())
            .with_hint("--remove takes a digest: `orlop inspect` shows what the index lists")),
        _ => Ok(()),
    }
}

/// The one digest that an index lists and that is this one, or begins so.
fn listed(manifests: &[Box<RawValue>], text: &str, target: &Target) -> Result<Digest, Failure> {
    let all: BTreeSet<Digest> = manifests
        .iter()
        .filter_map(|entry| digest(entry))
        .filter(|one| one.to_string().starts_with(text))
        .collect();
    let failure = |what: &str| {
        Failure::new(Exit::NotFound, format!("{what}, reference={}, digest={text}", target.shown()))
            .with_hint(format!("`orlop inspect {}` shows what it lists", target.shown()))
    };
    match (all.first(), all.len()) {
        (Some(digest), 1) => Ok(*digest),
        (Some(_), _) => Err(failure("more than one digest begins so")),
        (None, _) => Err(failure("index does not list the manifest")),
    }
}
