//! `orlop attach`

use crate::args::{target, target_of, verb};
use crate::artifact::ArtifactArgs;
use crate::error::Failure;
use crate::output::Output;
use crate::reference::Target;
use crate::session::WriteArgs;
use crate::view::View;
use clap::{ArgMatches, Command};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact: ArtifactArgs,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "attach",
        "Store files as an artifact that refers to another one",
        "This is how signatures, SBOMs and scan results belong to what they are about.",
        "orlop attach oci:app:v1 --artifact-type application/spdx+json sbom.json",
    )
    .arg(target("oci:DIR:REF", "What to attach to"))
    .args(ArtifactArgs::declare())
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact: ArtifactArgs::of(matches),
            write: WriteArgs::of(matches),
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
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
    let writer = args.write.open(&target, output)?;
    let subject = target.find(&writer.store)?;
    let stored = plan.store(&writer.store, &subject.repository, Some(&subject.descriptor), &[])?;
    let (name, subject) = subject.into_parts();
    writer.close()?;

    let view = View::new(target.by_digest(&name, &stored.descriptor.digest), &stored.descriptor);
    output.summary(stored.summary());
    output.result([view.digest], &view, || {
        let subject = target.by_digest(&name, &subject.digest);
        format!("Attached to {subject}\nArtifactType: {}\nDigest: {}\n", view.kind(), view.digest)
    })
}
