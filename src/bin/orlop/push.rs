//! `orlop push`

use clap::{ArgMatches, Command};
use serde::Serialize;

use crate::args::{target, target_of, verb};
use crate::artifact::ArtifactArgs;
use crate::error::Failure;
use crate::output::Output;
use crate::reference::{Target, repository_and_tags};
use crate::session::WriteArgs;
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact: ArtifactArgs,
    write: WriteArgs,
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
  pg_dump app | orlop push oci:backup:monday -:application/sql --stdin-name app.sql",
    )
    .arg(target("oci:DIR[:[REPOSITORY:]TAG[,TAG...]]", "Where to: a layout, with one or more tags in it"))
    .args(ArtifactArgs::declare())
    .arg(ArtifactArgs::image_spec())
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    #[serde(flatten)]
    view: View,
    reference_as_tags: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.artifact.check_order(&args.target)?;
    let target: Target = args.target.parse()?;
    let (name, tags) = repository_and_tags(&target)?;
    let plan = args.artifact.plan(output)?;
    if !(plan.has_files() || plan.has_artifact_type() || plan.has_config() || plan.is_annotated()) {
        return Err(Failure::usage(format!("nothing to push, reference={}", target.shown()))
            .with_hint("name files, or say by --artifact-type what an artifact without files is"));
    }
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
    let pushed = Pushed { view, reference_as_tags };
    output.result([pushed.view.digest], &pushed, || {
        let shown = if tags.is_empty() { target.layout() } else { target.shown() };
        format!("Pushed {shown}\nArtifactType: {}\nDigest: {}\n", pushed.view.kind(), pushed.view.digest)
    })
}
