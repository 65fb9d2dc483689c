//! `orlop manifest delete`

use clap::{ArgMatches, Command};
use orlop::ErrorKind;

use crate::args::{target, target_of, verb};
use crate::confirm::{ask, check, force_flag, whole};
use crate::content::{descriptor_flag, pretty_flag, print_descriptor};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::reference::Target;
use crate::session::{self, WriteArgs};
use crate::view::View;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    force: bool,
    descriptor: bool,
    pretty: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "delete",
        "Delete a manifest with all its tags",
        "What it refers to stays, and so does what refers to it. A manifest that an index lists cannot be deleted.",
        "orlop manifest delete oci:app:v1",
    )
    .visible_aliases(["rm", "remove"])
    .arg(target("oci:DIR:REF", "The manifest"))
    .arg(force_flag())
    .arg(descriptor_flag())
    .arg(pretty_flag())
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            force: matches.get_flag("force"),
            descriptor: matches.get_flag("descriptor"),
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
        }
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    check(args.descriptor, args.force)?;
    let target: Target = args.target.parse()?;
    whole(&target)?;
    let (name, descriptor) = {
        // Nobody else waits for the lock while somebody thinks about the answer.
        let store = session::read(&target, output)?;
        match target.find(&store) {
            Ok(found) => found.into_parts(),
            Err(failure) if failure.exit() == Exit::NotFound && args.force && !args.descriptor => {
                return output.result([""; 0], &None::<View>, || format!("Missing {}\n", target.shown()));
            }
            Err(failure) => return Err(failure),
        }
    };
    let digest = descriptor.digest;
    let question =
        format!("Are you sure you want to delete the manifest {digest} and all tags associated with it?");
    if !ask(&question, args.force)? {
        return Ok(());
    }
    let writer = args.write.open(&target, output)?;
    let mut batch = writer.store.batch();
    batch.delete_manifest(&writer.store.repository(&name), &digest);
    batch.commit().map_err(in_use)?;
    writer.close()?;

    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    let view = View::new(target.by_digest(&name, &digest), &descriptor);
    output.result([digest], &view, || format!("Deleted {}\n", target.shown()))
}

/// Says what to do about content that is still needed.
pub(crate) fn in_use(error: orlop::Error) -> Failure {
    let is_used = error.kind() == ErrorKind::Conflict;
    let failure = Failure::from(error);
    if is_used { failure.with_hint("nothing was deleted; delete what refers to it first") } else { failure }
}
