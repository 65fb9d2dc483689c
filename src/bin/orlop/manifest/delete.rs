//! `orlop manifest delete`

use clap::Command;
use orlop::Digest;

use crate::args::{target, verb};
use crate::confirm::{DeleteArgs, ask, check, in_use, whole};
use crate::content::print_descriptor;
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::reference::Target;
use crate::remote::Remote;
use crate::session;
use crate::view::View;

pub(crate) fn command() -> Command {
    let command = verb(
        "delete",
        "Delete a manifest with all its tags",
        "What it refers to stays, and so does what refers to it. A manifest that an index lists cannot be deleted.",
        "orlop manifest delete oci:app:v1",
    );
    DeleteArgs::declare(command.arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The manifest")))
}

pub(crate) fn run(args: &DeleteArgs, output: &Output) -> Result<(), Failure> {
    check(args.descriptor, args.force)?;
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry(args, &remote, output);
    }
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
    if !ask(&question(&digest), args.force)? {
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

fn question(digest: &Digest) -> String {
    format!("Are you sure you want to delete the manifest {digest} and all tags associated with it?")
}

fn in_registry(args: &DeleteArgs, remote: &Remote, output: &Output) -> Result<(), Failure> {
    let descriptor = match remote.repository.resolve(remote.reference()?)? {
        Some(descriptor) => descriptor,
        None if args.force && !args.descriptor => {
            return output.result([""; 0], &None::<View>, || format!("Missing {}\n", remote.shown()));
        }
        None => return Err(remote.not_found()),
    };
    let digest = descriptor.digest;
    if !ask(&question(&digest), args.force)? {
        return Ok(());
    }
    remote.repository.delete_manifest(&digest)?;
    if args.descriptor {
        return print_descriptor(&descriptor, args.pretty, output);
    }
    output.result([digest], &remote.view(&descriptor), || format!("Deleted {}\n", remote.shown()))
}
