//! `orlop rebuild`

use clap::{ArgMatches, Command};
use serde::Serialize;

use crate::args::{target, target_of, verb};
use crate::error::Failure;
use crate::output::Output;
use crate::reference::Target;
use crate::session::{self, WriteArgs, note};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "rebuild",
        "Make the metadata of a store anew from its layout",
        "Nothing under blobs/ is changed. What only the metadata knew and cannot be restored is reported.",
        "orlop rebuild oci:app",
    )
    .arg(target("oci:DIR", "The store"))
    .arg(WriteArgs::lock_timeout())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self { target: target_of(matches), write: WriteArgs::of(matches) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rebuilt {
    reference: String,
    repositories: u64,
    tags: u64,
    manifests: u64,
    contents: u64,
    salvaged_contents: u64,
    salvaged_tags: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
    findings: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let path = target.whole()?;
    // A signal ends it at any time, and the next one goes on from the same old metadata.
    let report = args.write.options().rebuild(path).map_err(|error| session::opened(error, &target))?;
    if let Some(lost) = &report.lost {
        output.note(format!("not all of the old metadata could be read: {lost}"));
    }
    note(report.reports.iter(), output);
    let rebuilt = Rebuilt {
        reference: target.layout(),
        repositories: report.repositories,
        tags: report.tags,
        manifests: report.manifests,
        contents: report.contents,
        salvaged_contents: report.salvaged_contents,
        salvaged_tags: report.salvaged_tags,
        lost: report.lost,
        findings: report.reports.iter().map(ToString::to_string).collect(),
    };
    output.result(None::<&str>, &rebuilt, || {
        let Rebuilt { reference, repositories, tags, manifests, contents, .. } = &rebuilt;
        let mut text = format!(
            "Rebuilt {reference}\n{repositories} repositories, {tags} tags, {manifests} manifests, {contents} contents\n"
        );
        if rebuilt.salvaged_contents > 0 || rebuilt.salvaged_tags > 0 {
            let Rebuilt { salvaged_contents, salvaged_tags, .. } = &rebuilt;
            text.push_str(&format!(
                "of these from the old metadata: {salvaged_contents} contents, {salvaged_tags} tags\n"
            ));
        }
        text
    })
}
