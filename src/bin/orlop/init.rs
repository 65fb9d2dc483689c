//! `orlop init`

use clap::{ArgMatches, Command};
use serde::Serialize;

use crate::args::{target, target_of, verb};
use crate::error::Failure;
use crate::output::Output;
use crate::reference::new_directory;
use crate::session::WriteArgs;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "init",
        "Make a directory a store",
        "A new or empty directory becomes an empty layout; an OCI layout of another tool is taken in as it is.",
        "orlop init oci:app",
    )
    .arg(target("oci:DIR", "The directory"))
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self { target: target_of(matches), write: WriteArgs::of(matches) }
    }
}

#[derive(Serialize)]
struct Created {
    reference: String,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target = new_directory(&args.target)?;
    target.whole()?;
    args.write.make(&target, output)?.close()?;
    let created = Created { reference: target.layout() };
    output.result(None::<&str>, &created, || format!("Created {}\n", created.reference))
}
