//! `orlop checkpoint`

use clap::{ArgMatches, Command};
use orlop::{CheckpointReport, ErrorKind};
use serde::Serialize;

use crate::args::{flag, target, target_of, value, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::reference::Target;
use crate::session::{WriteArgs, Writer};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    place: String,
    copy: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "checkpoint",
        "Make another store with everything that one holds now",
        "Files are not copied but get further names, which takes next to no time and room, on the same filesystem only; neither store \
         can change what the other has, but a file that the disk loses is lost for both. The directory must be empty or absent; it \
         is there whole or not at all. A store that another process writes is waited for: a program that embeds it makes checkpoints \
         itself. Exits with 4 if content of the store is damaged or missing.",
        "orlop checkpoint oci:app app-before-the-upgrade",
    )
    .arg(target("oci:DIR", "The store"))
    .arg(clap::Arg::new("place").value_name("DIR").help("Where the other store is to be").required(true))
    .arg(flag("copy", "Copy the content and hash the copies; needed between two filesystems"))
    .arg(WriteArgs::lock_timeout())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            place: value(matches, "place").unwrap_or_default(),
            copy: matches.get_flag("copy"),
            write: WriteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    reference: String,
    contents: u64,
    bytes: u64,
    linked: u64,
    copied: u64,
    journalled: u64,
    damaged: u64,
}

impl Made {
    fn of(place: &Target, report: &CheckpointReport) -> Self {
        Self {
            reference: place.layout(),
            contents: report.contents,
            bytes: report.bytes,
            linked: report.linked,
            copied: report.copied,
            journalled: report.journalled,
            damaged: report.damaged,
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    target.whole()?;
    let named = ["oci:", "ocidir://"].iter().any(|scheme| args.place.starts_with(scheme));
    let place: Target = if named { args.place.parse()? } else { format!("oci:{}", args.place).parse()? };
    let path = place.whole()?;
    let writer = args.write.open_store(&target, output)?;
    let made = make(args, &writer, path, output);
    let closed = writer.close();
    let report = made?;
    closed?;
    let made = Made::of(&place, &report);
    output.result(None::<&str>, &made, || {
        let Made { reference, contents, bytes, linked, copied, journalled, .. } = &made;
        format!(
            "Made {reference}\n{contents} contents, {}: {linked} linked, {copied} copied, {journalled} from the journal\n",
            output::size(*bytes)
        )
    })?;
    if report.damaged == 0 {
        return Ok(());
    }
    let (reference, damaged) = (target.layout(), report.damaged);
    Err(Failure::new(
        Exit::Incomplete,
        format!("content of the store is damaged or missing, and so it is in the other one, reference={reference}, damaged={damaged}"),
    )
    .with_hint(format!("`orlop verify {reference}` names it")))
}

fn make(
    args: &Args,
    writer: &Writer,
    path: &std::path::Path,
    output: &Output,
) -> Result<CheckpointReport, Failure> {
    let action = if args.copy { "Copying" } else { "Linking" };
    let mut progress = Progress::counting(output.progress(), action);
    let watch = |now: orlop::CheckpointProgress| progress.advance_of(now.contents, now.total);
    writer.store.checkpointer().copy(args.copy).watch(watch).run(path).map_err(|error| match error.kind() {
        ErrorKind::Interrupted => interrupt::failure("nothing is left of the other store"),
        ErrorKind::Unsupported => {
            Failure::from(error).with_hint_instead("name a directory on the same filesystem, or add --copy")
        }
        ErrorKind::Conflict => {
            Failure::from(error).with_hint("name a directory that is empty or not there yet")
        }
        _ => error.into(),
    })
}
