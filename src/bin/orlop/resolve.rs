//! `orlop resolve`

use crate::args::{flag, target, target_of, value, verb};
use crate::error::Failure;
use crate::output::Output;
use crate::platform::{Wanted, platform_option, select};
use crate::reference::Target;
use crate::remote::{Remote, RemoteArgs};
use crate::session;
use crate::tar_ref;
use crate::view::{View, complete};
use clap::{ArgMatches, Command};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    full_reference: bool,
    platform: Option<Wanted>,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb("resolve", "Print the digest of a manifest", "", "orlop resolve oci:app:v1")
        .visible_alias("digest")
        .arg(target("oci:DIR:REF|tar:FILE:REF|HOST/REPOSITORY:REF", "The manifest"))
        .arg(flag("full-reference", "Print a reference by digest instead of the digest alone").short('l'))
        .arg(platform_option())
        .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            full_reference: matches.get_flag("full-reference"),
            platform: value(matches, "platform"),
            remote: RemoteArgs::of(matches),
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let Some(target) = tar_ref::parse(&args.target) {
        return print(&in_archive(&target?, args)?, args, output);
    }
    let view = match Remote::of(&args.target, &args.remote)? {
        Some(remote) if args.platform.is_none() => remote.view(&remote.resolve()?),
        Some(remote) => remote.view(&remote.manifest(args.platform.as_ref())?.descriptor),
        None => of_layout(args, output)?,
    };
    print(&view, args, output)
}

fn in_archive(target: &Target, args: &Args) -> Result<View, Failure> {
    if args.platform.is_some() {
        return Err(Failure::usage("platforms cannot be looked for in an archive, option=--platform")
            .with_hint("`orlop import` it into a layout first"));
    }
    let archive = tar_ref::open(target)?;
    let (repository, descriptor) = tar_ref::find(&archive, target)?;
    let reference = target.by_digest(&repository, &descriptor.digest).replacen("oci:", "tar:", 1);
    Ok(View::new(reference, &descriptor))
}

fn print(view: &View, args: &Args, output: &Output) -> Result<(), Failure> {
    output.result([view.digest], view, || {
        if args.full_reference { format!("{}\n", view.reference) } else { format!("{}\n", view.digest) }
    })
}

fn of_layout(args: &Args, output: &Output) -> Result<View, Failure> {
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = select(target.find(&store)?, args.platform.as_ref(), &target)?;
    let descriptor = complete(&found.repository, &found.descriptor)?;
    Ok(View::new(target.by_digest(found.repository.name(), &descriptor.digest), &descriptor))
}
