//! `orlop manifest fetch-config`

use clap::{ArgMatches, Command};
use orlop::oci::MAX_MANIFEST_SIZE;

use crate::args::{target, target_of, value, verb};
use crate::content::{FetchArgs, descriptor_flag, output_option, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::platform::{Wanted, missing, platform_option, read, select};
use crate::reference::Target;
use crate::session;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    platform: Option<Wanted>,
    fetch: FetchArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "fetch-config",
        "Print the config of a manifest, byte for byte",
        "",
        "orlop manifest fetch-config oci:app:v1 --pretty",
    )
    .visible_alias("get-config")
    .arg(target("oci:DIR:REF", "The manifest"))
    .arg(output_option("Write the config into a file; - is stdout"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .arg(platform_option())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            platform: value(matches, "platform"),
            fetch: FetchArgs::of(matches)?,
        })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.fetch.check(output)?;
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    let manifest = read(&found)?;
    let Some(config) = manifest.config() else {
        let kind = manifest.media_type();
        let hint = if manifest.kind().is_some_and(orlop::oci::ManifestKind::is_index) {
            "--platform chooses one of the manifests that it lists"
        } else {
            "only image manifests have one"
        };
        return Err(Failure::new(
            Exit::Other,
            format!("manifest has no config, reference={}, media_type={kind}", target.shown()),
        )
        .with_hint(hint));
    };
    let digest = &config.digest;
    let view = View::new(target.by_digest(found.repository.name(), digest), config);
    if config.size > MAX_MANIFEST_SIZE as u64 {
        // No document that somebody reads: it goes where it is to go, in bounded memory.
        let mut reader = found.repository.reader(digest)?.ok_or_else(|| missing("config", digest))?;
        return args.fetch.content(&view, config, &mut reader, output);
    }
    if args.fetch.descriptor && args.fetch.destination.is_none() {
        // What is known without the content must not need it.
        return args.fetch.content(&view, config, &mut std::io::empty(), output);
    }
    let bytes = found.repository.get(digest)?.ok_or_else(|| missing("config", digest))?;
    args.fetch.document(view, config, &bytes, output)
}
