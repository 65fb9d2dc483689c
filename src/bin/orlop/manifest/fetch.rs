//! `orlop manifest fetch`

use clap::{ArgAction, ArgMatches, Command};
use orlop::oci::media_type::essence;

use crate::args::{option, target, target_of, value, values, verb};
use crate::content::{FetchArgs, descriptor_flag, output_option, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::platform::{Wanted, missing, platform_option, select};
use crate::reference::Target;
use crate::session;
use crate::view::{View, complete};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    platform: Option<Wanted>,
    media_types: Vec<String>,
    fetch: FetchArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "fetch",
        "Print a manifest, byte for byte",
        "With --format json its descriptor, and the document as `content`.",
        "orlop manifest fetch oci:app:v1",
    )
    .visible_alias("get")
    .alias("show")
    .arg(target("oci:DIR:REF", "The manifest"))
    .arg(output_option("Write the manifest into a file; - is stdout"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .arg(platform_option())
    .arg(
        option("media-type", "TYPE[,TYPE...]", "Take a manifest of these media types only")
            .value_delimiter(',')
            .action(ArgAction::Append),
    )
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            platform: value(matches, "platform"),
            media_types: values(matches, "media-type"),
            fetch: FetchArgs::of(matches)?,
        })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.fetch.check(output)?;
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    let media_type = essence(&found.descriptor.media_type);
    if !(args.media_types.is_empty() || args.media_types.iter().any(|one| essence(one) == media_type)) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("manifest has another media type, reference={}, media_type={media_type}", target.shown()),
        )
        .with_hint("leave out --media-type to fetch it"));
    }
    let digest = &found.descriptor.digest;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| missing("manifest", digest))?;
    let descriptor = complete(&found.repository, &found.descriptor)?;
    let view = View::new(target.by_digest(found.repository.name(), digest), &descriptor);
    args.fetch.document(view, &descriptor, &stored.content, output)
}
