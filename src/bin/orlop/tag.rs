//! `orlop tag`

use clap::{ArgMatches, Command};
use orlop::Expect;
use orlop::oci::Tag;
use serde::Serialize;

use crate::args::{rest, target, target_of, values, verb};
use crate::error::Failure;
use crate::output::{Output, plain};
use crate::reference::{Target, usage};
use crate::remote::{Remote, RemoteArgs};
use crate::session::WriteArgs;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    tags: Vec<String>,
    write: WriteArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "tag",
        "Give a manifest more tags",
        "The tags are set together, in the repository of the manifest; one that exists moves.",
        "orlop tag oci:app:v1 stable latest",
    )
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The manifest"))
    .arg(rest("tags", "TAG", "The new tags").required(true))
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            tags: values(matches, "tags"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tagged {
    #[serde(flatten)]
    view: View,
    reference_as_tags: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in &args.tags {
        let tag = tag.parse().map_err(|error| usage(&error))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let tagged = match Remote::of(&args.target, &args.remote)? {
        Some(remote) => in_registry(&remote, &tags)?,
        None => in_layout(args, &tags, output)?,
    };
    output.result([tagged.view.digest], &tagged, || {
        tagged.reference_as_tags.iter().map(|reference| format!("Tagged {}\n", plain(reference))).collect()
    })
}

/// One after the other: registries do not know of several at once.
fn in_registry(remote: &Remote, tags: &[Tag]) -> Result<Tagged, Failure> {
    let manifest = remote.manifest(None)?;
    for tag in tags {
        remote.repository.push_manifest(&manifest, std::slice::from_ref(tag))?;
    }
    let reference_as_tags = tags.iter().map(|tag| remote.by_tag(tag)).collect();
    Ok(Tagged { view: remote.view(&manifest.descriptor), reference_as_tags })
}

fn in_layout(args: &Args, tags: &[Tag], output: &Output) -> Result<Tagged, Failure> {
    let target: Target = args.target.parse()?;
    let writer = args.write.open_to(&target, output)?;
    let found = target.find(&writer.store)?;
    let digest = found.descriptor.digest;
    let mut batch = writer.store.batch();
    for tag in tags {
        batch.tag(&found.repository, tag, digest, Expect::Any);
    }
    batch.commit()?;
    let (name, descriptor) = found.into_parts();
    writer.close()?;

    let reference_as_tags: Vec<String> = tags.iter().map(|tag| target.by_tag(&name, tag)).collect();
    let view = View::new(target.by_digest(&name, &digest), &descriptor);
    Ok(Tagged { view, reference_as_tags })
}
