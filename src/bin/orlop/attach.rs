//! `orlop attach`

use crate::args::{target, target_of, value, verb};
use crate::artifact::{ArtifactArgs, Plan, Stored};
use crate::error::Failure;
use crate::output::Output;
use crate::platform::{Wanted, platform_option, select};
use crate::reference::{Found, Target};
use crate::remote::{Remote, RemoteArgs};
use crate::session::WriteArgs;
use crate::view::View;
use clap::{ArgMatches, Command};
use orlop::Store;
use orlop::oci::{Descriptor, RepositoryName};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact: ArtifactArgs,
    platform: Option<Wanted>,
    write: WriteArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "attach",
        "Store files and directories as an artifact that refers to another one",
        "This is how signatures, SBOMs and scan results belong to what they are about.",
        "orlop attach oci:app:v1 --artifact-type application/spdx+json sbom.json
  orlop attach oci:app:v1 --artifact-type application/vnd.example.audit --annotation by=me
  orlop attach oci:app:v1 --platform linux/arm64 --artifact-type application/vnd.example.scan scan/",
    )
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "What to attach to"))
    .args(ArtifactArgs::declare())
    .arg(platform_option())
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact: ArtifactArgs::of(matches),
            platform: value(matches, "platform"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.artifact.check_order(&args.target)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        let plan = plan(args, &remote.shown(), output)?;
        let subject = remote.manifest(args.platform.as_ref())?.descriptor;
        let stored = plan.push(&remote.repository, Some(&subject), &[], output)?;
        stored.export()?;
        let view = remote.view(&stored.descriptor);
        return report(&stored, &view, &remote.by_digest(&subject.digest), output);
    }
    let target: Target = args.target.parse()?;
    let plan = plan(args, &target.shown(), output)?;
    plan.check_outside(target.path())?;
    let writer = args.write.open_to(&target, output)?;
    let attached = attach(args, &target, plan, &writer.store, output);
    // After a signal as well: what other tools read is complete.
    let closed = writer.close();
    let (name, subject, stored) = attached?;
    closed?;
    stored.export()?;

    let view = View::new(target.by_digest(&name, &stored.descriptor.digest), &stored.descriptor);
    report(&stored, &view, &target.by_digest(&name, &subject.digest), output)
}

fn report(stored: &Stored, view: &View, subject: &str, output: &Output) -> Result<(), Failure> {
    output.summary(stored.summary());
    output.result([view.digest], view, || {
        format!("Attached to {subject}\nArtifactType: {}\nDigest: {}\n", view.kind(), view.digest)
    })
}

/// What is to be attached, which must be something of some kind.
fn plan(args: &Args, shown: &str, output: &Output) -> Result<Plan, Failure> {
    let plan = args.artifact.plan(output)?;
    if !plan.has_artifact_type() {
        return Err(Failure::usage(format!("no artifact type was given, reference={shown}"))
            .with_hint("say what is attached, as --artifact-type application/spdx+json"));
    }
    if !plan.has_files() && !plan.is_annotated() {
        return Err(Failure::usage(format!("nothing to attach, reference={shown}"))
            .with_hint("name files, or give annotations"));
    }
    Ok(plan)
}

/// Finds what is meant and stores what refers to it; the repository, the subject and what was stored.
fn attach(
    args: &Args,
    target: &Target,
    plan: Plan,
    store: &Store,
    output: &Output,
) -> Result<(RepositoryName, Descriptor, Stored), Failure> {
    let found = select(target.find(store)?, args.platform.as_ref(), target)?;
    let Found { repository, descriptor } = found;
    let stored = plan.store(store, &repository, Some(&descriptor), &[], output)?;
    Ok((repository.name().clone(), descriptor, stored))
}
