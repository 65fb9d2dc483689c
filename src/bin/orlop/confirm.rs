//! The question before something is deleted.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use clap::Arg;

use crate::args::flag;
use crate::error::{Exit, Failure};
use crate::output::{self, plain};
use crate::reference::{Selector, Target};

/// The flag that answers the question beforehand.
pub(crate) fn force_flag() -> Arg {
    flag("force", "Do not ask, and take it as done if there is nothing to delete").short('f')
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
