//! `orlop verify`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Arg, ArgMatches, Command, value_parser};
use orlop::oci::{RepositoryName, Role};
use orlop::{Digest, Finding, Report, Store, VerifyReport};
use serde::Serialize;

use crate::args::{bytes, flag, option, target, target_of, value, values, verb};
use crate::closure;
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output, plain};
use crate::progress::Progress;
use crate::reference::Target;
use crate::session::{self, WriteArgs};

/// Findings that are printed for people.
const SHOWN: usize = 100;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    read_data: bool,
    index: bool,
    closure: bool,
    require: Vec<String>,
    quarantine: bool,
    threads: usize,
    rate: Option<u64>,
    state: Option<PathBuf>,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "verify",
        "Check that a layout holds what it says",
        "Every content has its file, of its size; with --read-data every byte is hashed, with --index the metadata are compared \
         with the manifests and the files. Works on any layout, writes nothing and waits for nobody, unless --quarantine is given. \
         With --closure it is looked whether everything is here that belonged to what was copied where that came from: what a copy left out on \
         purpose is told from what was lost. \
         Exits with 5 if anything is damaged, with 4 if something is only missing, with 9 if nothing proves that nothing is.",
        "orlop verify oci:app --read-data",
    )
    .arg(target("oci:DIR", "The layout; with --closure also oci:DIR:REF"))
    .args(declare())
    .arg(WriteArgs::lock_timeout())
}

fn declare() -> [Arg; 8] {
    [
        flag(
            "closure",
            "Compare with the records that `orlop cp -r` left: is a signature or an SBOM missing",
        )
        .conflicts_with_all(["index", "quarantine", "state"]),
        option(
            "require",
            "TYPE",
            "With --closure, fail unless this is attached to each, or to all images of it; may be repeated",
        )
        .requires("closure")
        .action(clap::ArgAction::Append),
        flag("read-data", "Read every content and hash it"),
        flag("index", "Compare the metadata with themselves, the manifests, the files and index.json"),
        flag(
            "quarantine",
            "Move damaged files of a store to .orlop/quarantine; the next push of the content heals it",
        ),
        option("threads", "N", "How many threads read [default: one for each processor]")
            .value_parser(value_parser!(u8).range(1..=64)),
        option("limit-rate", "BYTES", "Read at most so many bytes a second, as 50M or 1G").value_parser(rate),
        option("state", "FILE", "Keep in this file how far it came, and go on there if it is interrupted")
            .value_parser(value_parser!(PathBuf)),
    ]
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let threads = value::<u8>(matches, "threads").map(usize::from);
        Self {
            target: target_of(matches),
            read_data: matches.get_flag("read-data"),
            index: matches.get_flag("index"),
            closure: matches.get_flag("closure"),
            require: values(matches, "require"),
            quarantine: matches.get_flag("quarantine"),
            threads: threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)),
            rate: value(matches, "limit-rate"),
            state: value(matches, "state"),
            write: WriteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    reference: String,
    contents: u64,
    bytes: u64,
    complete: bool,
    findings: Vec<Row>,
    further: u64,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    flaw: String,
    detail: String,
    repositories: Vec<RepositoryName>,
    quarantined: bool,
    #[serde(skip)]
    is_damage: bool,
    #[serde(skip)]
    is_missing: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    if args.closure {
        interrupt::defer();
        return closure::run(&target, args.read_data, &args.require, output);
    }
    target.whole()?;
    let after = args.state.as_deref().map(|path| read_state(path, &target)).transpose()?.flatten();
    if let Some(digest) = after {
        output.note(format!("going on behind {digest}"));
    }
    let (store, writer) = if args.quarantine {
        let writer = args.write.open(&target, output)?;
        (writer.store.clone(), Some(writer))
    } else {
        (session::read(&target, output)?, None)
    };
    let (report, failed) = verify(args, &target, &store, after, output)?;
    let mut rows: Vec<Row> = report.findings.iter().map(Row::of).collect();
    rows.extend(left_out(&store)?);
    drop(store);
    if let Some(writer) = writer {
        writer.close()?;
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let (Some(path), true) = (&args.state, report.complete) {
        remove_state(path)?;
    }
    print(&target, &report, rows, output)
}

fn verify(
    args: &Args,
    target: &Target,
    store: &Store,
    after: Option<Digest>,
    output: &Output,
) -> Result<(VerifyReport, Option<Failure>), Failure> {
    let mut progress = Progress::new(output.progress(), "Verifying", None);
    let mut failed = None;
    let mut last = after;
    let report = store
        .verify()
        .read_data(args.read_data)
        .index(args.index)
        .quarantine(args.quarantine)
        .threads(args.threads)
        .bytes_per_second(args.rate)
        .after(after)
        .watch(|now| {
            if let Some(path) = &args.state
                && now.last != last
            {
                last = now.last;
                if let Err(failure) = write_state(path, target, now.last) {
                    failed = Some(failure);
                    return ControlFlow::Break(());
                }
            }
            progress.advance(now.bytes)
        })
        .run()?;
    if !report.complete && failed.is_none() {
        failed = Some(interrupt::failure("what was found so far is not shown"));
    }
    Ok((report, failed))
}

impl Row {
    fn of(finding: &Finding) -> Self {
        Self {
            digest: finding.digest.map(|digest| digest.to_string()),
            flaw: format!("{:?}", finding.flaw).to_lowercase(),
            detail: finding.detail.clone(),
            repositories: finding.repositories.clone(),
            quarantined: finding.quarantined,
            is_missing: finding.flaw == orlop::Flaw::Missing,
            is_damage: finding.flaw.is_damage() && finding.flaw != orlop::Flaw::Missing
                || matches!(finding.flaw, orlop::Flaw::Metadata | orlop::Flaw::Published),
        }
    }

    fn shown(&self) -> String {
        let moved = if self.quarantined { " (moved to quarantine)" } else { "" };
        let digest = self.digest.as_deref().unwrap_or("-");
        format!("{} {digest} {}{moved}", self.flaw, plain(&self.detail))
    }
}

/// What opening the layout of another tool left out of the view: it is damaged, or not there.
fn left_out(store: &Store) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for report in store.reports() {
        let (digest, flaw, detail) = match report {
            Report::Refused { name, digest, reason } if name.is_empty() => (digest, "refused", reason),
            Report::Refused { name, digest, reason } => (digest, "refused", format!("{name}: {reason}")),
            Report::Missing { digest, reason } => (digest.to_string(), "missing", reason),
            Report::Damaged { file, reason } => (String::new(), "refused", format!("{file}: {reason}")),
            Report::Absent { digest, manifest } if !is_listed(store, &manifest, &digest)? => {
                (digest.to_string(), "missing", format!("{manifest} refers to it"))
            }
            _ => continue,
        };
        rows.push(Row {
            digest: Some(digest).filter(|digest| !digest.is_empty()),
            flaw: flaw.into(),
            detail,
            repositories: Vec::new(),
            quarantined: false,
            is_damage: flaw == "refused",
            is_missing: flaw == "missing",
        });
    }
    Ok(rows)
}

/// Whether an index lists it: a copy of some platforms lacks others on purpose.
fn is_listed(store: &Store, manifest: &Digest, digest: &Digest) -> Result<bool, Failure> {
    for holder in store.unscoped().holders(manifest)? {
        let successors = store.repository(&holder).successors(manifest)?.unwrap_or_default();
        if successors.iter().any(|child| child.role == Role::Manifest && child.descriptor.digest == *digest) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn print(target: &Target, report: &VerifyReport, rows: Vec<Row>, output: &Output) -> Result<(), Failure> {
    let damaged = rows.iter().filter(|row| row.is_damage).count();
    let missing = rows.iter().filter(|row| row.is_missing).count();
    let digests: Vec<String> = rows
        .iter()
        .filter(|row| row.is_damage || row.is_missing)
        .filter_map(|row| row.digest.clone())
        .collect();
    let verified = Verified {
        reference: target.layout(),
        contents: report.contents,
        bytes: report.bytes,
        complete: report.complete,
        findings: rows,
        further: report.further,
    };
    output.result(digests, &verified, || {
        let mut text: String =
            verified.findings.iter().take(SHOWN).map(|row| format!("{}\n", row.shown())).collect();
        let left = verified.findings.len().saturating_sub(SHOWN) as u64 + verified.further;
        if left > 0 {
            text.push_str(&format!("and {left} further findings\n"));
        }
        let hashed =
            if report.bytes > 0 { format!(", {} hashed", output::size(report.bytes)) } else { String::new() };
        let outcome = if damaged + missing == 0 {
            "nothing is damaged or missing".to_owned()
        } else {
            format!("{damaged} damaged, {missing} missing")
        };
        text.push_str(&format!(
            "Verified {}: {} contents{hashed}: {outcome}\n",
            target.layout(),
            report.contents
        ));
        text
    })?;
    let hint = format!(
        "`orlop repair {} --from oci:OTHER` brings it from another layout that has it",
        target.layout()
    );
    let failure = |exit, what: &str, count| {
        Failure::new(exit, format!("content is {what}, reference={}, findings={count}", target.layout()))
            .with_hint(hint.as_str())
    };
    match (damaged, missing) {
        (0, 0) => Ok(()),
        (0, missing) => Err(failure(Exit::Incomplete, "missing", missing)),
        (damaged, _) => Err(failure(Exit::Integrity, "damaged", damaged)),
    }
}

/// The file says for which layout, so that it is not taken for another.
#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn read_state(path: &Path, target: &Target) -> Result<Option<Digest>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read the state", path, &error)),
    };
    let shown = path.display();
    match text.trim_end().split_once('\n') {
        Some((layout, digest)) if layout == target.layout() => match digest.parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(_) => Err(Failure::usage(format!("the state cannot be understood, path={shown}"))
                .with_hint("remove the file to begin again")),
        },
        _ => Err(Failure::usage(format!("the state is of another layout or no state, path={shown}"))
            .with_hint("give another file, or remove it")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn write_state(path: &Path, target: &Target, last: Option<Digest>) -> Result<(), Failure> {
    let Some(last) = last else { return Ok(()) };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, format!("{}\n{last}\n", target.layout()))
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| Failure::io("write the state", path, &error))
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn remove_state(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("remove the state", path, &error))
        }
        _ => Ok(()),
    }
}

/// A rate that gets anywhere.
fn rate(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("nothing would ever be read".into()),
        rate => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, expected) in [("1", 1), ("50M", 50_000_000), ("2k", 2000), ("1T", 1_000_000_000_000)] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "M", "0", "1.5M", "5XB", "-1", "99999999999T"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
