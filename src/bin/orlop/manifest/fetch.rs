//! `orlop manifest fetch`

use clap::{ArgAction, ArgMatches, Command};
use orlop::oci::Descriptor;
use orlop::oci::media_type::essence;

use crate::args::{option, target, target_of, value, values, verb};
use crate::content::{FetchArgs, descriptor_flag, output_option, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::platform::{Wanted, missing, platform_option, select};
use crate::reference::Target;
use crate::remote::{self, Remote, RemoteArgs};
use crate::session;
use crate::view::{View, complete};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    platform: Option<Wanted>,
    media_types: Vec<String>,
    fetch: FetchArgs,
    remote: RemoteArgs,
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
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The manifest"))
    .arg(output_option("Write the manifest into a file; - is stdout"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .arg(platform_option())
    .arg(
        option("media-type", "TYPE[,TYPE...]", "Take a manifest of these media types only")
            .value_delimiter(',')
            .action(ArgAction::Append),
    )
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            platform: value(matches, "platform"),
            media_types: values(matches, "media-type"),
            fetch: FetchArgs::of(matches)?,
            remote: RemoteArgs::of(matches),
        })
    }
}

impl Args {
    /// Refuses a manifest of a media type that was not asked for.
    fn check_type(&self, descriptor: &Descriptor, shown: &str) -> Result<(), Failure> {
        let media_type = essence(&descriptor.media_type);
        if self.media_types.is_empty() || self.media_types.iter().any(|one| essence(one) == media_type) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::NotFound,
            format!("manifest has another media type, reference={shown}, media_type={media_type}"),
        )
        .with_hint("leave out --media-type to fetch it"))
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.fetch.check(output)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        let fetched = remote.manifest(args.platform.as_ref())?;
        args.check_type(&fetched.descriptor, &remote.shown())?;
        let descriptor = remote::complete(&fetched);
        return args.fetch.document(remote.view(&descriptor), &descriptor, &fetched.bytes, output);
    }
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    args.check_type(&found.descriptor, &target.shown())?;
    let digest = &found.descriptor.digest;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| missing("manifest", digest))?;
    let descriptor = complete(&found.repository, &found.descriptor)?;
    let view = View::new(target.by_digest(found.repository.name(), digest), &descriptor);
    args.fetch.document(view, &descriptor, &stored.content, output)
}
