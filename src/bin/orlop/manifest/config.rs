//! `orlop manifest fetch-config`

use clap::{ArgMatches, Command};
use orlop::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, ManifestKind};

use crate::args::{target, target_of, value, verb};
use crate::content::{FetchArgs, descriptor_flag, output_option, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::platform::{Wanted, missing, platform_option, read, select};
use crate::reference::Target;
use crate::remote::{self, Remote, RemoteArgs};
use crate::session;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    platform: Option<Wanted>,
    fetch: FetchArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "fetch-config",
        "Print the config of a manifest, byte for byte",
        "",
        "orlop manifest fetch-config oci:app:v1 --pretty",
    )
    .visible_alias("get-config")
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The manifest"))
    .arg(output_option("Write the config into a file; - is stdout"))
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .arg(platform_option())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            target: target_of(matches),
            platform: value(matches, "platform"),
            fetch: FetchArgs::of(matches)?,
            remote: RemoteArgs::of(matches),
        })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.fetch.check(output)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry(args, &remote, output);
    }
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    let manifest = read(&found)?;
    let config = config_of(&manifest, &target.shown())?;
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

fn in_registry(args: &Args, remote: &Remote, output: &Output) -> Result<(), Failure> {
    let manifest = remote::parse(&remote.manifest(args.platform.as_ref())?)?;
    let config = config_of(&manifest, &remote.shown())?;
    let view = remote.view(config);
    if args.fetch.descriptor && args.fetch.destination.is_none() {
        return args.fetch.content(&view, config, &mut std::io::empty(), output);
    }
    if config.size <= MAX_MANIFEST_SIZE as u64 {
        return args.fetch.document(view, config, &remote.bytes(config)?, output);
    }
    let content = remote.repository.content(config, 0)?;
    let mut content = content.ok_or_else(|| remote::absent("config", &config.digest))?;
    args.fetch.content(&view, config, &mut content, output)
}

/// The config of a manifest that must have one.
fn config_of<'a>(manifest: &'a Manifest, shown: &str) -> Result<&'a Descriptor, Failure> {
    manifest.config().ok_or_else(|| {
        let kind = manifest.media_type();
        let hint = if manifest.kind().is_some_and(ManifestKind::is_index) {
            "--platform chooses one of the manifests that it lists"
        } else {
            "only image manifests have one"
        };
        Failure::new(Exit::Other, format!("manifest has no config, reference={shown}, media_type={kind}"))
            .with_hint(hint)
    })
}
