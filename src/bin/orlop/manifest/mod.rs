//! `orlop manifest`: manifests as they are.

use std::io::{self, Read};
use std::path::Path;

use clap::{ArgMatches, Command};

use crate::confirm::DeleteArgs;
use crate::error::Failure;
use crate::output::Output;

mod config;
mod delete;
mod fetch;
mod index;
mod push;

pub(crate) fn command() -> Command {
    Command::new("manifest")
        .about("Fetch, push and delete manifests, and make indexes of them")
        .after_help("Example:\n  orlop manifest fetch oci:app:v1 --pretty")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            fetch::command(),
            push::command(),
            delete::command(),
            config::command(),
            index::command(),
        ])
}

pub(crate) fn run(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("fetch", matches)) => fetch::run(&fetch::Args::of(matches)?, output),
        Some(("push", matches)) => push::run(&push::Args::of(matches), output),
        Some(("delete", matches)) => delete::run(&DeleteArgs::of(matches), output),
        Some(("fetch-config", matches)) => config::run(&config::Args::of(matches)?, output),
        Some(("index", matches)) => index::run(matches, output),
        _ => Err(Failure::usage("no verb was given").with_hint("`orlop manifest --help` lists them")),
    }
}

/// Reads a file, or stdin for `-`, that may be of at most `limit` bytes.
#[expect(clippy::disallowed_methods, reason = "an argument, no part of a store")]
pub(crate) fn read_file(path: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: &io::Error| Failure::io("read the file", Path::new(path), error);
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    if path == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).map_err(|error| failed(&error))?.take(most).read_to_end(&mut bytes)
    }
    .map_err(|error| failed(&error))?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!("manifest is too large, path={path}, limit={limit}")));
    }
    Ok(bytes)
}
