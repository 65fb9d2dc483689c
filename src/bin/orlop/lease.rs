//! `orlop lease`: what keeps content that nothing names.

use std::time::SystemTime;

use clap::{Arg, ArgAction, ArgMatches, Command};
use orlop::{LeaseEntry, LeaseId, Store};
use serde::Serialize;

use crate::args::{flag, target, target_of, values, verb};
use crate::error::{Exit, Failure};
use crate::output::{Output, plain};
use crate::reference::{Target, usage};
use crate::session::{self, WriteArgs};

/// How many rows are asked for at once.
const PAGE: usize = 1000;

pub(crate) fn command() -> Command {
    Command::new("lease")
        .about("List and remove leases, which keep content that nothing names")
        .after_help("Example:\n  orlop lease ls oci:app")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            verb(
                "ls",
                "List leases",
                "Programs that use the library, and uploads under way, hold content for a while by leases. What a lease holds is \
                 never collected before it expires or is removed.",
                "orlop lease ls oci:app",
            )
            .visible_alias("list")
            .arg(target("oci:DIR", "The store")),
            verb(
                "rm",
                "Remove leases",
                "What nothing else holds goes with a later `orlop gc`. Whoever took the lease, and is still at work, loses what he \
                 relies on.",
                "orlop lease rm oci:app 9f86d081884c7d659a2feaa0c55ad015",
            )
            .visible_alias("remove")
            .arg(target("oci:DIR", "The store"))
            .arg(Arg::new("lease").value_name("ID").help("The leases").required(true).action(ArgAction::Append))
            .arg(flag("force", "Take it as done if a lease is not there").short('f'))
            .arg(WriteArgs::lock_timeout()),
        ])
}

pub(crate) fn run(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("ls", matches)) => list(&target_of(matches), output),
        Some(("rm", matches)) => remove(
            &target_of(matches),
            &values(matches, "lease"),
            matches.get_flag("force"),
            &WriteArgs::of(matches),
            output,
        ),
        _ => Err(Failure::usage("no verb was given").with_hint("`orlop lease --help` lists them")),
    }
}

#[derive(Serialize)]
struct Listing {
    reference: String,
    leases: Vec<Row>,
}

#[derive(Clone, Serialize)]
struct Row {
    id: String,
    created: String,
    expires: String,
    contents: u64,
    label: String,
}

impl Row {
    fn of(entry: &LeaseEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            created: shown(entry.created),
            expires: shown(entry.expires),
            contents: entry.contents,
            label: entry.label.clone(),
        }
    }
}

/// As RFC 3339 has it, in whole seconds.
fn shown(time: SystemTime) -> String {
    let cut = |time: jiff::Timestamp| jiff::Timestamp::from_second(time.as_second());
    jiff::Timestamp::try_from(time).and_then(cut).map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

fn list(text: &str, output: &Output) -> Result<(), Failure> {
    let target: Target = text.parse()?;
    target.whole()?;
    let store = session::read(&target, output)?;
    let leases: Vec<Row> = all(&store)?.iter().map(Row::of).collect();
    let listing = Listing { reference: target.layout(), leases };
    let ids: Vec<String> = listing.leases.iter().map(|row| row.id.clone()).collect();
    output.list(ids, &listing, listing.leases.iter().cloned(), || {
        let line =
            |row: &Row| format!("{}  {}  {:>8}  {}\n", row.id, row.expires, row.contents, plain(&row.label));
        let heading = format!("{:32}  {:20}  {:>8}  LABEL\n", "ID", "EXPIRES", "CONTENTS");
        heading + &listing.leases.iter().map(line).collect::<String>()
    })
}

fn all(store: &Store) -> Result<Vec<LeaseEntry>, Failure> {
    let mut leases: Vec<LeaseEntry> = Vec::new();
    loop {
        let after = leases.last().map(|entry| entry.id);
        let page = store.leases(after.as_ref(), PAGE)?;
        leases.extend(page.items);
        if !page.more {
            return Ok(leases);
        }
    }
}

#[derive(Serialize)]
struct Removed {
    reference: String,
    removed: Vec<String>,
    missing: Vec<String>,
}

fn remove(
    text: &str,
    ids: &[String],
    force: bool,
    write: &WriteArgs,
    output: &Output,
) -> Result<(), Failure> {
    let target: Target = text.parse()?;
    target.whole()?;
    let mut wanted = Vec::new();
    for id in ids {
        let id: LeaseId = id.parse().map_err(|error| {
            usage(&error).with_hint(format!("`orlop lease ls {}` lists them", target.layout()))
        })?;
        if !wanted.contains(&id) {
            wanted.push(id);
        }
    }
    let writer = write.open(&target, output)?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in wanted {
        match writer.store.open_lease(&id)? {
            Some(lease) => found.push(lease),
            None => missing.push(id.to_string()),
        }
    }
    if !(missing.is_empty() || force) {
        return Err(Failure::new(Exit::NotFound, format!("no such lease, leases={}", missing.join(",")))
            .with_hint(format!(
                "nothing was removed; `orlop lease ls {}` lists what there is",
                target.layout()
            )));
    }
    let mut removed = Vec::new();
    for lease in found {
        removed.push(lease.id().to_string());
        lease.release()?;
    }
    writer.close()?;
    let result = Removed { reference: target.layout(), removed, missing };
    output.result(&result.removed, &result, || {
        let removed = result.removed.iter().map(|id| format!("Removed lease {id}\n"));
        removed.chain(result.missing.iter().map(|id| format!("Missing lease {id}\n"))).collect()
    })
}
