//! `orlop diff`

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};
use orlop::Digest;
use orlop::transfer::archive::Inventory;
use serde::Serialize;

use crate::args::{flag, target, value, verb};
use crate::error::{Exit, Failure};
use crate::output::{self, Output, plain};
use crate::tar_ref;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    one: String,
    other: String,
    bytes: bool,
    exit_code: bool,
}

pub(crate) fn command() -> Command {
    verb(
        "diff",
        "Compare the contents of two layouts, archives or inventories",
        "Contents are compared by their digests, and tags where both sides have names. With --exit-code it exits with 10 if they differ.",
        "orlop diff oci:mirror low-side.inv --bytes",
    )
    .arg(target("A", "oci:DIR, tar:FILE, or the file of an inventory"))
    .arg(Arg::new("other").value_name("B").help("What to compare it with").required(true))
    .arg(flag("bytes", "Print sums only, not every content"))
    .arg(flag("exit-code", "Exit with 10 if they differ"))
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            one: value(matches, "target").unwrap_or_default(),
            other: value(matches, "other").unwrap_or_default(),
            bytes: matches.get_flag("bytes"),
            exit_code: matches.get_flag("exit-code"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    only_in_a: Side,
    only_in_b: Side,
    in_both: Sum,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Moved>,
}

#[derive(Serialize)]
struct Side {
    #[serde(flatten)]
    sum: Sum,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    digests: Vec<Content>,
}

#[derive(Default, Serialize)]
struct Sum {
    contents: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Content {
    digest: Digest,
    size: u64,
}

/// A tag that names something else, or is on one side alone.
#[derive(Serialize)]
struct Moved {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let ((one, names), (other, other_names)) =
        (tar_ref::inventory(&args.one, output)?, tar_ref::inventory(&args.other, output)?);
    let mut in_both = Sum::default();
    for (_, size) in one.contents().filter(|(digest, _)| other.has(digest)) {
        in_both.add(size);
    }
    let tags =
        if names.is_empty() || other_names.is_empty() { Vec::new() } else { moved(names, other_names) };
    let report = Report {
        only_in_a: side(&one, &other, args.bytes),
        only_in_b: side(&other, &one, args.bytes),
        in_both,
        tags,
    };
    let differs = report.only_in_a.sum.contents + report.only_in_b.sum.contents + report.tags.len() > 0;
    let digests: Vec<Digest> = [&report.only_in_a, &report.only_in_b]
        .into_iter()
        .flat_map(|side| side.digests.iter().map(|content| content.digest))
        .collect();
    output.result(digests, &report, || text(&report))?;
    if differs && args.exit_code {
        return Err(Failure::new(Exit::Differs, format!("they differ, a={}, b={}", args.one, args.other)));
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, size: u64) {
        self.contents += 1;
        self.bytes = self.bytes.saturating_add(size);
    }
}

fn side(one: &Inventory, other: &Inventory, sums: bool) -> Side {
    let mut side = Side { sum: Sum::default(), digests: Vec::new() };
    for (digest, size) in one.contents().filter(|(digest, _)| !other.has(digest)) {
        side.sum.add(size);
        if !sums {
            side.digests.push(Content { digest, size });
        }
    }
    side
}

fn moved(one: Vec<(String, String)>, other: Vec<(String, String)>) -> Vec<Moved> {
    let mut all: BTreeMap<String, Moved> = BTreeMap::new();
    let mut take = |names: Vec<(String, String)>, is_first: bool| {
        for (name, digest) in names {
            let moved = all.entry(name.clone()).or_insert(Moved { name, a: None, b: None });
            *(if is_first { &mut moved.a } else { &mut moved.b }) = Some(digest);
        }
    };
    take(one, true);
    take(other, false);
    all.into_values().filter(|moved| moved.a != moved.b).collect()
}

fn text(report: &Report) -> String {
    let line =
        |what: &str, sum: &Sum| format!("{what}: {} contents, {}\n", sum.contents, output::size(sum.bytes));
    let mut text = String::new();
    for (sign, side) in [("-", &report.only_in_a), ("+", &report.only_in_b)] {
        text.extend(
            side.digests.iter().map(|content| format!("{sign} {} {}\n", content.digest, content.size)),
        );
    }
    for moved in &report.tags {
        let of = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none".into());
        text.push_str(&format!("~ {} {} => {}\n", plain(&moved.name), of(&moved.a), of(&moved.b)));
    }
    text.push_str(&line("Only in A", &report.only_in_a.sum));
    text.push_str(&line("Only in B", &report.only_in_b.sum));
    text.push_str(&line("In both", &report.in_both));
    text
}
