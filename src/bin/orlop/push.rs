//! `orlop push`

use clap::{ArgMatches, Command};
use orlop::oci::Reference;
use serde::Serialize;

use crate::args::{target, target_of, verb};
use crate::artifact::{ArtifactArgs, Plan};
use crate::error::Failure;
use crate::output::Output;
use crate::reference::{Target, repository_and_tags};
use crate::remote::{Remote, RemoteArgs};
use crate::session::WriteArgs;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact: ArtifactArgs,
    write: WriteArgs,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "push",
        "Store files and directories as an artifact",
        "The directory becomes a layout if it is none. Files keep their paths as names, and a pull restores them. \
         A directory is packed as oras packs it: a tar archive in gzip, without owners, with the times of the files or \
         that of SOURCE_DATE_EPOCH.",
        "orlop push oci:app:v1 program README.md:text/markdown
  orlop push oci:app:docs/site:v1,latest site/ --artifact-type application/vnd.example.site
  orlop push registry.example/app:v1 program
  pg_dump app | orlop push oci:backup:monday -:application/sql --stdin-name app.sql",
    )
    .arg(target("oci:DIR[:[REPOSITORY:]TAG[,TAG...]]|HOST/REPOSITORY[:TAG[,TAG...]]", "Where to: a layout or a registry, with one or more tags"))
    .args(ArtifactArgs::declare())
    .arg(ArtifactArgs::image_spec())
    .args(WriteArgs::declare())
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact: ArtifactArgs::of(matches),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    #[serde(flatten)]
    view: View,
    reference_as_tags: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.artifact.check_order(&args.target)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return to_registry(args, &remote, output);
    }
    let target: Target = args.target.parse()?;
    let (name, tags) = repository_and_tags(&target)?;
    let plan = plan(args, &target.shown(), output)?;
    plan.check_outside(target.path())?;
    let writer = args.write.create(&target, output)?;
    let stored = plan.store(&writer.store, &writer.store.repository(&name), None, &tags, output);
    // After a signal as well: what other tools read is complete.
    let closed = writer.close();
    let stored = stored?;
    closed?;
    stored.export()?;

    let view = View::new(target.by_digest(&name, &stored.descriptor.digest), &stored.descriptor);
    output.summary(stored.summary());
    let reference_as_tags = tags.iter().map(|tag| target.by_tag(&name, tag)).collect();
    let shown = if tags.is_empty() { target.layout() } else { target.shown() };
    report(&Pushed { view, reference_as_tags }, &shown, output)
}

fn report(pushed: &Pushed, shown: &str, output: &Output) -> Result<(), Failure> {
    output.result([pushed.view.digest], pushed, || {
        format!("Pushed {shown}\nArtifactType: {}\nDigest: {}\n", pushed.view.kind(), pushed.view.digest)
    })
}

/// What is to be pushed, which must be something.
fn plan(args: &Args, shown: &str, output: &Output) -> Result<Plan, Failure> {
    let plan = args.artifact.plan(output)?;
    if plan.has_files() || plan.has_artifact_type() || plan.has_config() || plan.is_annotated() {
        return Ok(plan);
    }
    Err(Failure::usage(format!("nothing to push, reference={shown}"))
        .with_hint("name files, or say by --artifact-type what an artifact without files is"))
}

fn to_registry(args: &Args, remote: &Remote, output: &Output) -> Result<(), Failure> {
    if let Some(Reference::Digest(_)) = &remote.name.reference {
        return Err(Failure::usage(format!(
            "a digest stands where a tag belongs, reference={}",
            remote.shown()
        ))
        .with_hint(format!("write {}:TAG", remote.place())));
    }
    let stored = plan(args, &remote.shown(), output)?.push(&remote.repository, None, &remote.tags, output)?;
    stored.export()?;
    output.summary(stored.summary());
    let reference_as_tags = remote.tags.iter().map(|tag| remote.by_tag(tag)).collect();
    report(&Pushed { view: remote.view(&stored.descriptor), reference_as_tags }, &remote.shown(), output)
}
