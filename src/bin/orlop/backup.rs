//! `orlop backup` and `orlop restore`: `cp -r` of whole repositories, by the names that oras has for it.

use clap::{Arg, ArgMatches, Command};

use crate::args::{flag, option, value, values, verb};
use crate::cp::{self, Choice};
use crate::error::Failure;
use crate::names::Naming;
use crate::output::Output;
use crate::remote::{RemoteArgs, Remotes};
use crate::session::WriteArgs;

pub(crate) fn backup_command() -> Command {
    verb(
        "backup",
        "Copy whole repositories into a layout, with what is attached to them",
        "A repository without tags stands for all of them. The same as `orlop cp -r REPOSITORY... oci:DIR`; several repositories \
         are kept apart, as REPOSITORY:TAG.",
        "orlop backup -o mirror oci:store:team/app:v1,v2",
    )
    .arg(
        Arg::new("places")
            .value_name("REPOSITORY[:TAG,...]")
            .help("What to copy: REGISTRY/REPOSITORY[:TAG,TAG], oci:DIR, oci:DIR:REPOSITORY or oci:DIR:REPOSITORY:TAG,TAG")
            .num_args(1..)
            .required(true),
    )
    .arg(option("output", "DIR", "The layout to copy to").short('o').required(true))
    .arg(flag("include-referrers", "What is attached is always copied").hide(true))
    .args(Choice::declare())
    .args(Naming::declare())
    .args(RemoteArgs::declare())
    .args(WriteArgs::declare())
}

pub(crate) fn restore_command() -> Command {
    verb(
        "restore",
        "Copy a layout that `backup` made, with what is attached, to where it belongs",
        "The same as `orlop cp -r oci:DIR DESTINATION`.",
        "orlop restore -i mirror oci:store",
    )
    .arg(
        Arg::new("to")
            .value_name("DESTINATION")
            .help("Where to: REGISTRY/REPOSITORY or oci:DIR")
            .required(true),
    )
    .arg(option("input", "DIR", "The layout to copy").short('i').required(true))
    .arg(flag("exclude-referrers", "Leave out what is attached"))
    .args(Choice::declare())
    .args(Naming::declare())
    .args(RemoteArgs::declare())
    .args(WriteArgs::declare())
}

/// A directory as a reference.
fn layout(path: &str) -> String {
    if path.contains(':') { path.to_owned() } else { format!("oci:{path}") }
}

pub(crate) fn backup(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    let to: String = value(matches, "output").unwrap_or_default();
    run(matches, values(matches, "places"), layout(&to), true, output)
}

pub(crate) fn restore(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    let from: String = value(matches, "input").unwrap_or_default();
    let to = value(matches, "to").unwrap_or_default();
    run(matches, vec![layout(&from)], to, !matches.get_flag("exclude-referrers"), output)
}

fn run(
    matches: &ArgMatches,
    from: Vec<String>,
    to: String,
    recursive: bool,
    output: &Output,
) -> Result<(), Failure> {
    let mut choice = Choice::of(matches);
    choice.recursive = recursive;
    choice.record = choice.record || recursive && !matches.get_flag("no-record");
    let args = cp::Args {
        from,
        from_file: None,
        to,
        naming: Naming::of(matches)?,
        choice,
        write: WriteArgs::of(matches),
        remotes: Remotes::one(matches),
    };
    cp::run(&args, output)
}
