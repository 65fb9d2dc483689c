//! `orlop gc`

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use orlop::oci::{RepositoryName, TagPattern};
use orlop::{Collection, Retention, Store, UnknownFiles, Untagged};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, values, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::reference::{Target, usage};
use crate::session::{self, WriteArgs, Writer, duration};
use crate::view::{all_repositories, plural};

/// What a registry protects unless it is told otherwise.
const GRACE: &str = "24h";

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    dry_run: bool,
    grace: Duration,
    untagged: Option<Duration>,
    keep_last: Option<u32>,
    keep_tags: Vec<String>,
    repositories: Vec<String>,
    unknown: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    let patterns = Arg::new("keep-tags")
        .long("keep-tags")
        .value_name("PATTERN")
        .help("Tags that --keep-last never removes nor counts, as 'v*'; * stands for any text, ? for one character")
        .action(ArgAction::Append);
    let repositories = Arg::new("repository")
        .long("repository")
        .value_name("NAME")
        .help("Take tags and untagged manifests of this repository only; '' is the one without a name")
        .action(ArgAction::Append);
    verb(
        "gc",
        "Remove content that nothing needs any more",
        "What came, was asked for or lost its last name within the grace stays: somebody may be about to refer to it. Untagged \
         manifests and tags stay unless the policy of their repository or the options say otherwise. Nothing that a manifest \
         refers to which cannot be read is removed. Readers go on meanwhile.",
        "orlop gc oci:app --dry-run",
    )
    .arg(target("oci:DIR", "The store"))
    .arg(flag("dry-run", "Only say what would be removed"))
    .arg(
        option("grace", "TIME", "Leave alone what was let go less than this ago, as 30s, 5m, 24h or 7d")
            .default_value(GRACE)
            .value_parser(duration),
    )
    .arg(
        option("untagged-older-than", "TIME", "Remove manifests that lost their last name longer ago than this")
            .value_parser(duration),
    )
    .arg(
        option("keep-last", "N", "Keep so many tags of a repository, those that changed last, and remove the others")
            .value_parser(clap::value_parser!(u32).range(1..)),
    )
    .arg(patterns)
    .arg(repositories)
    .arg(flag(
        "unknown",
        "Also remove files that no index.json reaches and no store knows, as other tools leave them, if they are older than the grace",
    ))
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let grace: Duration = value(matches, "grace").unwrap_or_default();
        Self {
            target: target_of(matches),
            dry_run: matches.get_flag("dry-run"),
            grace,
            untagged: value(matches, "untagged-older-than"),
            keep_last: value(matches, "keep-last"),
            keep_tags: values(matches, "keep-tags"),
            repositories: values(matches, "repository"),
            unknown: matches.get_flag("unknown"),
            write: WriteArgs::of(matches).with_grace(grace),
        }
    }
}

/// The result. Everything that is counted is gone, or would be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    reference: String,
    dry_run: bool,
    tags: u64,
    manifests: u64,
    blobs: u64,
    contents: u64,
    bytes: u64,
    /// Files that no store knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<u64>,
    not_due: u64,
    leased: u64,
    unreadable: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let path = target.whole()?;
    let is_store = path.join(".orlop").exists();
    if !is_store && !args.unknown {
        // Whether there is anything at all.
        session::read(&target, output)?;
        return Err(Failure::new(
            Exit::Policy,
            format!("a layout of other tools, of which nobody knows what is in use, path={}", path.display()),
        )
        .with_hint(
            "--unknown removes files that index.json does not reach, if nobody wrote them within the grace",
        ));
    }
    let policy = Policy::of(args)?;
    let writer = args.write.open(&target, output)?;
    policy.check(&writer.store)?;
    let outcome = collect(args, &policy, &writer, is_store);
    writer.close()?;
    let (collection, unknown) = outcome?;
    print(args, &target, &collection, unknown, output)
}

fn collect(
    args: &Args,
    policy: &Policy,
    writer: &Writer,
    is_store: bool,
) -> orlop::Result<(Collection, Option<UnknownFiles>)> {
    let mut collection = Collection::default();
    if is_store {
        let mut collector = writer
            .store
            .collector()
            .grace(args.grace)
            .dry_run(args.dry_run)
            .retention(|name, retention| policy.apply(name, retention));
        // In steps, so that a signal ends it.
        loop {
            collection.add(collector.step()?);
            if collection.complete || collection.wait.is_some() || interrupt::is_caught() {
                break;
            }
        }
    }
    let wanted = args.unknown && collection.wait.is_none() && !interrupt::is_caught();
    let unknown = wanted.then(|| writer.store.remove_unknown(args.grace, args.dry_run)).transpose()?;
    Ok((collection, unknown))
}

/// What the options say of tags and untagged manifests.
struct Policy {
    untagged: Option<Duration>,
    keep_last: Option<u32>,
    keep_tags: Vec<TagPattern>,
    repositories: Vec<RepositoryName>,
}

impl Policy {
    fn of(args: &Args) -> Result<Self, Failure> {
        let patterns = args.keep_tags.iter().map(|text| text.parse().map_err(|error| usage(&error)));
        let names = args.repositories.iter().map(|text| match &**text {
            "" => Ok(RepositoryName::unnamed()),
            name => name.parse().map_err(|error| usage(&error)),
        });
        Ok(Self {
            untagged: args.untagged,
            keep_last: args.keep_last,
            keep_tags: patterns.collect::<Result<_, _>>()?,
            repositories: names.collect::<Result<_, _>>()?,
        })
    }

    /// A mistyped name would look like one that has nothing to collect.
    fn check(&self, store: &Store) -> Result<(), Failure> {
        if self.repositories.is_empty() {
            return Ok(());
        }
        let known = all_repositories(store)?;
        match self.repositories.iter().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Failure::new(Exit::NotFound, format!("no such repository, repository={name}"))
                .with_hint("nothing was removed; `orlop repo ls` lists them")),
        }
    }

    fn apply(&self, name: &RepositoryName, retention: &mut Retention) {
        if !(self.repositories.is_empty() || self.repositories.contains(name)) {
            *retention = Retention::default();
            return;
        }
        if let Some(untagged) = self.untagged {
            retention.untagged = Untagged::ExpireAfter(untagged);
        }
        if let Some(keep_last) = self.keep_last {
            retention.keep_last = Some(keep_last);
        }
        retention.keep_tags.extend(self.keep_tags.iter().cloned());
    }
}

fn print(
    args: &Args,
    target: &Target,
    collection: &Collection,
    unknown: Option<UnknownFiles>,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(wait) = collection.wait {
        let message = format!(
            "a registry had the store open lately, and what it told its clients counts, left={wait:?}"
        );
        return Err(Failure::new(Exit::Policy, message)
            .with_hint("nothing was removed; wait for so long, or use --grace 0s when nobody pushes"));
    }
    let of_unknown = unknown.unwrap_or_default();
    let collected = Collected {
        reference: target.layout(),
        dry_run: args.dry_run,
        tags: collection.tags,
        manifests: collection.manifests,
        blobs: collection.blobs,
        contents: collection.contents,
        bytes: collection.bytes.saturating_add(of_unknown.bytes),
        unknown: unknown.map(|unknown| unknown.removed),
        not_due: collection.kept.not_due,
        leased: collection.kept.leased,
        unreadable: collection
            .unreadable
            .iter()
            .map(|found| target.by_digest(&found.repository, &found.digest))
            .collect(),
    };
    output.result([""; 0], &collected, || text(&collected))?;
    let is_idle = collected.contents == 0 && of_unknown.removed == 0;
    if is_idle && !args.grace.is_zero() && (collected.not_due > 0 || of_unknown.kept > 0) {
        output
            .note("what could go is younger than the grace; --grace 0s takes it at once, when nobody pushes");
    }
    if collection.waiting > 0 {
        output.note(format!("{} files go with the next change of the layout", collection.waiting));
    }
    interrupt::check("what was removed so far stays removed")?;
    if let Some(left) = collection.failed.first() {
        let message = format!(
            "files cannot be removed, files={}, first={}: {}",
            collection.failed.len(),
            left.digest,
            left.reason
        );
        return Err(Failure::new(Exit::Partial, message).with_hint("the next collection tries it again"));
    }
    let Some(first) = collected.unreadable.first() else { return Ok(()) };
    Err(Failure::new(
        Exit::Partial,
        format!("manifests cannot be read, manifests={}, first={first}", collected.unreadable.len()),
    )
    .with_hint(
        "nothing that they may refer to was removed; `orlop repair` brings them again from another layout",
    ))
}

fn text(collected: &Collected) -> String {
    let count = |count: u64, word: &str| {
        format!("{count} {}", plural(usize::try_from(count).unwrap_or(usize::MAX), word))
    };
    let (removed, freed) =
        if collected.dry_run { ("Would remove", "Would free") } else { ("Removed", "Freed") };
    let mut text = format!(
        "{removed} {}, {}, {} from {}\n",
        count(collected.tags, "tag"),
        count(collected.manifests, "manifest"),
        count(collected.contents, "content"),
        collected.reference
    );
    if let Some(unknown) = collected.unknown {
        text.push_str(&format!("{removed} {}\n", count(unknown, "unknown file")));
    }
    text + &format!("{freed} {}\n", output::size(collected.bytes))
}
