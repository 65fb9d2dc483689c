//! `orlop usage`

use clap::{ArgMatches, Command};
use orlop::oci::RepositoryName;
use orlop::{Quota, Store, StoreUsage, Usage};
use serde::Serialize;

use crate::args::{bytes, flag, option, rest, target, target_of, value, values, verb};
use crate::error::{Exit, Failure};
use crate::near;
use crate::output::{self, Output, columns, plain};
use crate::reference::{Selector, Target};
use crate::session::{self, WriteArgs};
use crate::view::all_repositories;

/// How the repository without a name is called.
const UNNAMED: &str = "-";

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    repositories: Vec<String>,
    set_bytes: Option<Limit>,
    set_objects: Option<Limit>,
    create: bool,
    recount: bool,
    write: WriteArgs,
}

/// A limit as it is given: a number, or `none`.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u64>);

pub(crate) fn command() -> Command {
    verb(
        "usage",
        "Show how much repositories hold, and set quotas",
        "Every content counts once in each repository that holds it, and once among what is stored; what no other repository holds \
         is unique. Works on any layout and writes nothing, unless a quota is set: of the repositories that are named, or of \
         the whole store. What would exceed a quota is refused; a quota below what is held removes nothing. With --create a \
         repository that is not there yet gets its quota before its first push. With --recount everything is counted anew, and \
         what differs is set right, as after `orlop verify --index` has found that.",
        "orlop usage oci:app",
    )
    .arg(target("oci:DIR[:REPOSITORY]", "A layout, or one repository of it"))
    .arg(rest("repositories", "REPOSITORY", "Show these only; - is the one without a name"))
    .arg(
        option("set-quota", "BYTES", "Limit the bytes, as 500MB or 10GiB, or none")
            .value_parser(|text: &str| limit(text, bytes)),
    )
    .arg(
        option("set-object-quota", "N", "Limit the number of contents and manifests, or none").value_parser(
            |text: &str| limit(text, |text| text.parse().map_err(|_| "not a number, nor none".to_owned())),
        ),
    )
    .arg(flag("create", "Make a repository that is not there, for a quota before its first push"))
    .arg(flag("recount", "Count everything anew first, and set right what differs"))
    .arg(WriteArgs::lock_timeout())
}

fn limit(text: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { parse(text).map(|number| Limit(Some(number))) }
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            repositories: values(matches, "repositories"),
            set_bytes: value(matches, "set-quota"),
            set_objects: value(matches, "set-object-quota"),
            create: matches.get_flag("create"),
            recount: matches.get_flag("recount"),
            write: WriteArgs::of(matches),
        }
    }

    fn sets(&self) -> bool {
        self.set_bytes.is_some() || self.set_objects.is_some()
    }

    /// A quota with what is to be set in it.
    fn changed(&self, mut quota: Quota) -> Quota {
        if let Some(Limit(bytes)) = self.set_bytes {
            quota.bytes = bytes;
        }
        if let Some(Limit(objects)) = self.set_objects {
            quota.objects = objects;
        }
        quota
    }
}

#[derive(Serialize)]
struct Shown {
    reference: String,
    repositories: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Total>,
}

/// A repository. The one without a name has an empty one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: RepositoryName,
    objects: u64,
    bytes: u64,
    unique_objects: u64,
    unique_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<Limits>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Total {
    objects: u64,
    bytes: u64,
    stored_objects: u64,
    stored_bytes: u64,
    journalled_objects: u64,
    journalled_bytes: u64,
    garbage_objects: u64,
    garbage_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<Limits>,
}

#[derive(Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let names = named(args, &target)?;
    let shown = if args.sets() || args.recount {
        let writer = args.write.open_store(&target, output)?;
        let recounted = if args.recount { recount(&writer.store, output) } else { Ok(()) };
        let shown = recounted
            .and_then(|()| set(args, &writer.store, &target, &names))
            .and_then(|()| show(&writer.store, &target, names));
        let closed = writer.close();
        let shown = shown?;
        closed?;
        shown
    } else {
        show(&session::read(&target, output)?, &target, names)?
    };
    let listed: Vec<&str> = shown.repositories.iter().map(|row| name_of(&row.repository)).collect();
    output.list(listed, &shown, &shown.repositories, || table(&shown))
}

/// The repositories that were named.
fn named(args: &Args, target: &Target) -> Result<Vec<RepositoryName>, Failure> {
    let first = match &target.selector {
        Selector::Layout => None,
        Selector::Name(name) => Some(name.as_str()),
        Selector::Digest(..) | Selector::Prefix(..) => {
            return Err(Failure::usage(format!("a manifest has no usage, reference={}", target.shown()))
                .with_hint(format!("`orlop inspect {}` shows what it takes", target.shown())));
        }
    };
    let mut names = Vec::new();
    for name in first.into_iter().chain(args.repositories.iter().map(String::as_str)) {
        let name = if name == UNNAMED {
            RepositoryName::unnamed()
        } else {
            name.parse().map_err(|_| {
                Failure::usage(format!("no name of a repository, repository={name}"))
                    .with_hint(format!("`orlop repo ls {}` lists the repositories", target.layout()))
            })?
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn recount(store: &Store, output: &Output) -> Result<(), Failure> {
    let corrected = store.correct_usage()?;
    output.summary(format!("{corrected} counters set right"));
    Ok(())
}

fn set(args: &Args, store: &Store, target: &Target, names: &[RepositoryName]) -> Result<(), Failure> {
    if !args.sets() {
        return Ok(());
    }
    if names.is_empty() {
        return Ok(store.set_quota(&args.changed(store.quota()?))?);
    }
    if !args.create {
        // All of them before any quota is set.
        refuse_unknown(store, target, names)?;
    }
    for name in names {
        let repository = store.repository(name);
        repository.set_quota(&args.changed(repository.quota()?))?;
    }
    Ok(())
}

fn show(store: &Store, target: &Target, names: Vec<RepositoryName>) -> Result<Shown, Failure> {
    let all = refuse_unknown(store, target, &names)?;
    let store_too = names.is_empty();
    let mut repositories = Vec::new();
    for name in if store_too { all } else { names } {
        let repository = store.repository(&name);
        repositories.push(Row::of(name, &repository.usage()?, repository.quota()?));
    }
    let total = if store_too { Some(Total::of(&store.usage()?, store.quota()?)) } else { None };
    Ok(Shown { reference: target.shown(), repositories, store: total })
}

/// Refuses names that no repository has; answers all that there are.
fn refuse_unknown(
    store: &Store,
    target: &Target,
    names: &[RepositoryName],
) -> Result<Vec<RepositoryName>, Failure> {
    let all = all_repositories(store)?;
    let Some(unknown) = names.iter().find(|name| !all.contains(name)) else { return Ok(all) };
    let (repository, reference) = (name_of(unknown), target.layout());
    let message = format!("no such repository, reference={reference}, repository={repository}");
    let near = near::did_you_mean(&near::near_repositories(store, unknown));
    let hint = format!(
        "{near}`orlop usage {reference}` shows all repositories, and --create gives one a quota before its first push"
    );
    Err(Failure::new(Exit::NotFound, message).with_hint(hint))
}

impl Row {
    fn of(repository: RepositoryName, usage: &Usage, quota: Quota) -> Self {
        Self {
            repository,
            objects: usage.objects,
            bytes: usage.bytes,
            unique_objects: usage.unique_objects,
            unique_bytes: usage.unique_bytes,
            quota: Limits::of(quota),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            plain(name_of(&self.repository)).into_owned(),
            self.objects.to_string(),
            output::size(self.bytes),
            self.unique_objects.to_string(),
            output::size(self.unique_bytes),
            self.quota.as_ref().map_or_else(|| "-".to_owned(), Limits::words),
        ]
    }
}

impl Total {
    fn of(usage: &StoreUsage, quota: Quota) -> Self {
        Self {
            objects: usage.objects,
            bytes: usage.bytes,
            stored_objects: usage.stored_objects,
            stored_bytes: usage.stored_bytes,
            journalled_objects: usage.journalled_objects,
            journalled_bytes: usage.journalled_bytes,
            garbage_objects: usage.garbage_objects,
            garbage_bytes: usage.garbage_bytes,
            quota: Limits::of(quota),
        }
    }

    fn lines(&self) -> String {
        let mut text = format!(
            "Stored: {}; the repositories hold {}\n",
            amount(self.stored_objects, self.stored_bytes),
            amount(self.objects, self.bytes)
        );
        if self.journalled_objects > 0 {
            let journalled = amount(self.journalled_objects, self.journalled_bytes);
            text.push_str(&format!("In the journal: {journalled}\n"));
        }
        if self.garbage_objects > 0 {
            let garbage = amount(self.garbage_objects, self.garbage_bytes);
            text.push_str(&format!("Held by no repository: {garbage}\n"));
        }
        if let Some(quota) = &self.quota {
            text.push_str(&format!("Quota: {}\n", quota.words()));
        }
        text
    }
}

impl Limits {
    fn of(Quota { objects, bytes }: Quota) -> Option<Self> {
        (objects.is_some() || bytes.is_some()).then_some(Self { objects, bytes })
    }

    fn words(&self) -> String {
        let objects = self.objects.map(|objects| format!("{objects} objects"));
        let bytes = self.bytes.map(output::size);
        let words: Vec<String> = [objects, bytes].into_iter().flatten().collect();
        words.join(", ")
    }
}

fn amount(objects: u64, bytes: u64) -> String {
    format!("{objects} objects, {}", output::size(bytes))
}

fn name_of(repository: &RepositoryName) -> &str {
    if repository.is_unnamed() { UNNAMED } else { repository.as_str() }
}

fn table(shown: &Shown) -> String {
    let heading = ["REPOSITORY", "OBJECTS", "SIZE", "UNIQUE", "UNIQUE SIZE", "QUOTA"];
    let rows: Vec<[String; 6]> = shown.repositories.iter().map(Row::cells).collect();
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        columns(heading, &rows, &["OBJECTS", "SIZE", "UNIQUE", "UNIQUE SIZE"])
    };
    if let Some(total) = &shown.store {
        text.push_str(&total.lines());
    }
    text
}
