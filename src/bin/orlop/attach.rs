//! `orlop attach`

use crate::args::{target, target_of, value, verb};
use crate::artifact::{ArtifactArgs, Plan, Stored};
use crate::error::Failure;
use crate::output::Output;
use crate::platform::{Wanted, platform_option, select};
use crate::reference::{Found, Target};
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
    .arg(target("oci:DIR:REF", "What to attach to"))
    .args(ArtifactArgs::declare())
    .arg(platform_option())
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact: ArtifactArgs::of(matches),
            platform: value(matches, "platform"),
            write: WriteArgs::of(matches),
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.artifact.check_order(&args.target)?;
    let target: Target = args.target.parse()?;
    let plan = args.artifact.plan(output)?;
    if !plan.has_artifact_type() {
        return Err(Failure::usage(format!("no artifact type was given, reference={}", target.shown()))
            .with_hint("say what is attached, as --artifact-type application/spdx+json"));
    }
    if !plan.has_files() && !plan.is_annotated() {
        return Err(Failure::usage(format!("nothing to attach, reference={}", target.shown()))
            .with_hint("name files, or give annotations"));
    }
    plan.check_outside(target.path())?;
    let writer = args.write.open_to(&target, output)?;
    let attached = attach(args, &target, plan, &writer.store, output);
    // After a signal as well: what other tools read is complete.
    let closed = writer.close();
    let (name, subject, stored) = attached?;
    closed?;
    stored.export()?;

    let view = View::new(target.by_digest(&name, &stored.descriptor.digest), &stored.descriptor);
    output.summary(stored.summary());
    output.result([view.digest], &view, || {
        let subject = target.by_digest(&name, &subject.digest);
        format!("Attached to {subject}\nArtifactType: {}\nDigest: {}\n", view.kind(), view.digest)
    })
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
