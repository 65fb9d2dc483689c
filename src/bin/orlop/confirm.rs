//! What deletions have in common: their arguments, and the question before something is deleted.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use clap::{ArgMatches, Command};
use orlop::ErrorKind;

use crate::args::{flag, target_of};
use crate::content::{descriptor_flag, pretty_flag};
use crate::error::{Exit, Failure};
use crate::output::{self, plain};
use crate::reference::{Selector, Target};
use crate::remote::RemoteArgs;
use crate::session::WriteArgs;

/// The arguments of a deletion.
#[derive(Debug)]
pub(crate) struct DeleteArgs {
    pub(crate) target: String,
    pub(crate) force: bool,
    pub(crate) descriptor: bool,
    pub(crate) pretty: bool,
    pub(crate) write: WriteArgs,
    pub(crate) remote: RemoteArgs,
}

impl DeleteArgs {
    /// Adds them, behind the one that names what is deleted, to a command, which is called `rm` and `remove` as well.
    pub(crate) fn declare(command: Command) -> Command {
        command
            .visible_aliases(["rm", "remove"])
            .arg(flag("force", "Do not ask, and take it as done if there is nothing to delete").short('f'))
            .arg(descriptor_flag())
            .arg(pretty_flag())
            .args(WriteArgs::declare())
            .args(RemoteArgs::declare())
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            force: matches.get_flag("force"),
            descriptor: matches.get_flag("descriptor"),
            pretty: matches.get_flag("pretty"),
            write: WriteArgs::of(matches),
            remote: RemoteArgs::of(matches),
        }
    }
}

/// Refuses to print a descriptor behind a question.
pub(crate) fn check(descriptor: bool, force: bool) -> Result<(), Failure> {
    if descriptor && !force {
        return Err(Failure::usage(
            "a descriptor is printed of what is deleted without a question, option=--descriptor",
        )
        .with_hint("add --force"));
    }
    Ok(())
}

/// Refuses the beginning of a digest: what is deleted is named in full.
pub(crate) fn whole(target: &Target) -> Result<(), Failure> {
    if matches!(target.selector, Selector::Prefix(..)) {
        return Err(Failure::usage(format!("digest is not whole, reference={}", target.shown())).with_hint(
            format!("what is deleted is named in full: `orlop resolve {}` prints it", target.shown()),
        ));
    }
    Ok(())
}

/// Asks whoever sits at the terminal. Where nobody does, nothing is done.
pub(crate) fn ask(question: &str, force: bool) -> Result<bool, Failure> {
    if force {
        return Ok(true);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(
            Exit::Policy,
            "nobody can be asked whether to delete, stdin is no terminal",
        )
        .with_hint("--force deletes without a question"));
    }
    output::stderr(&format!("{} [y/N] ", plain(question)));
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::io("read the answer", Path::new("stdin"), &error))?;
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        output::stderr("Operation cancelled.\n");
    }
    Ok(is_yes)
}

/// Says what to do about content that is still needed.
pub(crate) fn in_use(error: orlop::Error) -> Failure {
    let is_used = error.kind() == ErrorKind::Conflict;
    let failure = Failure::from(error);
    if is_used { failure.with_hint("nothing was deleted; delete what refers to it first") } else { failure }
}
