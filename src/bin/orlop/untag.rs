//! `orlop untag`

use clap::{ArgMatches, Command};
use orlop::oci::{Descriptor, RepositoryName, Tag};
use orlop::{Expect, Store};
use serde::Serialize;

use crate::args::{flag, rest, target, target_of, values, verb};
use crate::error::{Exit, Failure};
use crate::near;
use crate::output::Output;
use crate::reference::{Target, repository_and_tags, usage};
use crate::remote::{Remote, RemoteArgs};
use crate::session::WriteArgs;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    more: Vec<String>,
    force: bool,
    write: WriteArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "untag",
        "Remove tags",
        "The manifests stay. All tags go together, or none if one of them is not there.",
        "orlop untag oci:app:v1 stable latest",
    )
    .arg(target("oci:DIR:[REPOSITORY:]TAG[,TAG...]|HOST/REPOSITORY:TAG[,TAG...]", "The tags"))
    .arg(rest("more", "TAG", "More tags of the same repository, or full references into the same layout"))
    .arg(flag("force", "Take it as done if a tag is not there").short('f'))
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            more: values(matches, "more"),
            force: matches.get_flag("force"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }

    /// Every tag once, with its repository.
    fn tags(&self, target: &Target) -> Result<Vec<(RepositoryName, Tag)>, Failure> {
        let foreign = |failure: Failure| {
            failure.with_hint("a name that is no [REPOSITORY:]TAG is removed by the tool that gave it")
        };
        let (repository, tags) = repository_and_tags(target).map_err(foreign)?;
        if tags.is_empty() {
            return Err(Failure::usage(format!("no tag was given, reference={}", target.shown()))
                .with_hint(format!("`orlop ls {}` lists what there is", target.layout())));
        }
        let mut all: Vec<(RepositoryName, Tag)> = Vec::new();
        all.extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
        for text in &self.more {
            if text.contains(':') {
                let other: Target = text.parse()?;
                if other.path() != target.path() {
                    return Err(Failure::usage(format!("tag is in another layout, reference={text}"))
                        .with_hint("the tags of one layout go together"));
                }
                let (repository, tags) = repository_and_tags(&other).map_err(foreign)?;
                all.extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
            } else {
                all.push((repository.clone(), text.parse().map_err(|error| usage(&error))?));
            }
        }
        let mut once: Vec<(RepositoryName, Tag)> = Vec::with_capacity(all.len());
        for one in all {
            if !once.contains(&one) {
                once.push(one);
            }
        }
        Ok(once)
    }
}

#[derive(Serialize)]
struct Untagged {
    reference: String,
    untagged: Vec<View>,
    missing: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let result = match Remote::of(&args.target, &args.remote)? {
        Some(remote) => in_registry(args, &remote)?,
        None => in_layout(args, output)?,
    };
    let digests: Vec<_> = result.untagged.iter().map(|view| view.digest).collect();
    output.result(digests, &result, || {
        let done = result.untagged.iter().map(|view| format!("Untagged {}\n", view.reference));
        done.chain(result.missing.iter().map(|missing| format!("Missing {missing}\n"))).collect()
    })
}

/// One after the other, once all are known to be there: registries do not know of several at once.
fn in_registry(args: &Args, remote: &Remote) -> Result<Untagged, Failure> {
    let mut tags = remote.tags.clone();
    for text in &args.more {
        let tag = text.parse().map_err(|error| {
            usage(&error).with_hint("behind the reference come more tags of its repository")
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.is_empty() {
        remote.reference()?;
        return Err(Failure::usage(format!("no tag was given, reference={}", remote.shown())));
    }
    let mut result = Untagged { reference: remote.place(), untagged: Vec::new(), missing: Vec::new() };
    for tag in &tags {
        match remote.repository.resolve(&tag.clone().into())? {
            Some(descriptor) => result.untagged.push(View::new(remote.by_tag(tag), &descriptor)),
            None => result.missing.push(remote.by_tag(tag)),
        }
    }
    if !(result.missing.is_empty() || args.force) {
        let missing = result.missing.join(",");
        return Err(Failure::new(Exit::NotFound, format!("no such tag, references={missing}"))
            .with_hint(format!("nothing was removed; `orlop repo tags {}` lists the tags", remote.place())));
    }
    for tag in tags.iter().filter(|tag| !result.missing.contains(&remote.by_tag(tag))) {
        remote.repository.delete_tag(tag)?;
    }
    Ok(result)
}

fn in_layout(args: &Args, output: &Output) -> Result<Untagged, Failure> {
    let target: Target = args.target.parse()?;
    let tags = args.tags(&target)?;
    let writer = args.write.open(&target, output)?;
    let found = find(&writer.store, tags)?;
    let mut result = Untagged { reference: target.layout(), untagged: Vec::new(), missing: Vec::new() };
    let mut batch = writer.store.batch();
    for (repository, tag, descriptor) in &found {
        let reference = target.by_tag(repository, tag);
        match descriptor {
            Some(descriptor) => {
                batch.untag(&writer.store.repository(repository), tag, Expect::Is(descriptor.digest));
                result.untagged.push(View::new(reference, descriptor));
            }
            None => result.missing.push(reference),
        }
    }
    if !(result.missing.is_empty() || args.force) {
        let missing = result.missing.iter().filter_map(|missing| missing.parse::<Target>().ok());
        let near: Vec<String> =
            missing.flat_map(|missing| near::near(&writer.store, &missing)).take(3).collect();
        let near = near::did_you_mean(&near);
        return Err(Failure::new(
            Exit::NotFound,
            format!("no such tag, references={}", result.missing.join(",")),
        )
        .with_hint(format!(
            "nothing was removed; {near}`orlop ls {}` lists what there is",
            target.layout()
        )));
    }
    if !result.untagged.is_empty() {
        batch.commit()?;
    }
    writer.close()?;
    Ok(result)
}

type Named = (RepositoryName, Tag, Option<Descriptor>);

fn find(store: &Store, tags: Vec<(RepositoryName, Tag)>) -> Result<Vec<Named>, Failure> {
    tags.into_iter()
        .map(|(repository, tag)| {
            let found = store.repository(&repository).resolve(&tag)?;
            Ok((repository, tag, found))
        })
        .collect()
}
