//! `orlop repo`: repositories and their tags.

use clap::{ArgMatches, Command};
use orlop::oci::{RepositoryName, Tag};
use orlop::{Digest, Repository, Store};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::reference::{Selector, Target};
use crate::remote::{self, Remote, RemoteArgs};
use crate::session;
use crate::view::all_repositories;

/// How many rows are asked for at once.
const PAGE: usize = 1000;

pub(crate) fn command() -> Command {
    Command::new("repo")
        .about("List repositories and their tags")
        .after_help("Example:\n  orlop repo tags oci:app")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            verb("ls", "List the repositories of a layout", "", "orlop repo ls oci:app")
                .visible_alias("list")
                .arg(target(
                    "oci:DIR|HOST[/PREFIX]",
                    "The layout or registry, and the beginning of what is listed of it",
                ))
                .arg(option("last", "REPOSITORY", "List what comes after this name"))
                .args(RemoteArgs::declare()),
            verb(
                "tags",
                "List the tags of a repository, or of one manifest",
                "Without a repository the tags that are in none.",
                "orlop repo tags oci:app",
            )
            .visible_alias("show-tags")
            .arg(target(
                "oci:DIR[:REPOSITORY|:REF]|HOST/REPOSITORY[:REF]",
                "A layout, a repository, or a manifest",
            ))
            .arg(option("last", "TAG", "List what comes after this tag"))
            .arg(flag("exclude-digest-tags", "Leave out tags that are digests, as sha256-44136fa3..."))
            .args(RemoteArgs::declare()),
        ])
}

pub(crate) fn run(matches: &ArgMatches, output: &Output) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("ls", matches)) => {
            list(&target_of(matches), value(matches, "last"), &RemoteArgs::of(matches), output)
        }
        Some(("tags", matches)) => tags(
            &target_of(matches),
            value::<String>(matches, "last").as_deref(),
            matches.get_flag("exclude-digest-tags"),
            &RemoteArgs::of(matches),
            output,
        ),
        _ => Err(Failure::usage("no verb was given").with_hint("`orlop repo --help` lists them")),
    }
}

#[derive(Serialize)]
struct Repositories {
    /// What a registry is to oras.
    registry: String,
    repositories: Vec<String>,
}

fn list(text: &str, last: Option<String>, args: &RemoteArgs, output: &Output) -> Result<(), Failure> {
    if let Some((registry, prefix, client)) = remote::registry(text, args)? {
        let last = last.unwrap_or_default();
        let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        // As oras has it: below a prefix names are without it.
        let names = client.repositories(&registry)?;
        let names = names.iter().filter_map(|name| name.as_str().strip_prefix(&below));
        let repositories = names.filter(|name| *name > last.as_str()).map(str::to_owned).collect();
        let listed = Repositories { registry: registry.to_string(), repositories };
        return output.result(&listed.repositories, &listed, || lines(&listed.repositories));
    }
    let target: Target = text.parse()?;
    target.whole()?;
    let store = session::read(&target, output)?;
    let names = all_repositories(&store)?;
    // The one without a name cannot be listed by name; whoever looks for tags is told of it.
    if names.iter().any(RepositoryName::is_unnamed)
        && !store.default_repository().tags(None, 1)?.items.is_empty()
    {
        output.note(format!("there are tags in no repository: `orlop repo tags {}`", target.layout()));
    }
    let last = last.unwrap_or_default();
    let repositories: Vec<String> = names
        .iter()
        .map(RepositoryName::as_str)
        .filter(|name| !name.is_empty() && *name > last.as_str())
        .map(str::to_owned)
        .collect();
    let listed = Repositories { registry: target.layout(), repositories };
    // There is no digest to print instead, so the names are what --quiet leaves.
    output.result(&listed.repositories, &listed, || lines(&listed.repositories))
}

#[derive(Serialize)]
struct Tags {
    tags: Vec<String>,
}

fn tags(
    text: &str,
    last: Option<&str>,
    exclude: bool,
    args: &RemoteArgs,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(remote) = Remote::of(text, args)? {
        let mut found = remote.repository.all_tags()?;
        found.retain(|tag| last.is_none_or(|last| tag.as_str() > last));
        if remote.name.reference.is_some() {
            found = of_remote(&remote, found)?;
        }
        return print(&found, exclude, output);
    }
    let target: Target = text.parse()?;
    let store = session::read(&target, output)?;
    let found = match &target.selector {
        Selector::Layout => all(&store.default_repository(), last)?,
        Selector::Digest(..) | Selector::Prefix(..) => of_manifest(&store, &target, last)?,
        Selector::Name(name) => match repository(&store, name)? {
            Some(repository) => all(&repository, last)?,
            None => of_manifest(&store, &target, last).map_err(|failure| {
                if failure.exit() == Exit::NotFound {
                    let shown = target.shown();
                    Failure::new(Exit::NotFound, format!("no such repository or manifest, reference={shown}"))
                        .with_hint(format!("`orlop repo ls {}` lists the repositories", target.layout()))
                } else {
                    failure
                }
            })?,
        },
    };
    if found.is_empty() && target.selector == Selector::Layout {
        output.note(format!("no tags here; `orlop ls {}` lists those of every repository", target.layout()));
    }
    print(&found, exclude, output)
}

fn print(found: &[Tag], exclude: bool, output: &Output) -> Result<(), Failure> {
    let tags: Vec<String> =
        found.iter().filter(|tag| !(exclude && is_digest(tag))).map(Tag::to_string).collect();
    output.result(&tags, &Tags { tags: tags.clone() }, || lines(&tags))
}

/// Those of the tags that name one manifest. A registry has to be asked for each.
fn of_remote(remote: &Remote, tags: Vec<Tag>) -> Result<Vec<Tag>, Failure> {
    let digest = remote.resolve()?.digest;
    let mut found = Vec::new();
    for tag in tags {
        let named = remote.repository.resolve(&tag.clone().into())?;
        if named.is_some_and(|named| named.digest == digest) {
            found.push(tag);
        }
    }
    Ok(found)
}

/// A repository that holds anything.
fn repository(store: &Store, name: &str) -> Result<Option<Repository>, Failure> {
    let Ok(name) = name.parse::<RepositoryName>() else { return Ok(None) };
    let repository = store.repository(&name);
    let is_empty = repository.tags(None, 1)?.items.is_empty()
        && repository.manifests(None, 1)?.items.is_empty()
        && repository.contents(None, 1)?.items.is_empty();
    Ok((!is_empty).then_some(repository))
}

fn all(repository: &Repository, last: Option<&str>) -> Result<Vec<Tag>, Failure> {
    let mut tags: Vec<Tag> = Vec::new();
    let mut after = last.map(str::to_owned);
    loop {
        let page = repository.tags(after.as_deref(), PAGE)?;
        tags.extend(page.items.into_iter().map(|entry| entry.tag));
        after = tags.last().map(Tag::to_string);
        if !page.more {
            return Ok(tags);
        }
    }
}

fn of_manifest(store: &Store, target: &Target, last: Option<&str>) -> Result<Vec<Tag>, Failure> {
    let found = target.find(store)?;
    let mut tags = found.repository.tags_of(&found.descriptor.digest)?;
    tags.retain(|tag| last.is_none_or(|last| tag.as_str() > last));
    Ok(tags)
}

/// Whether a tag is one that tools make out of a digest, which has a colon instead of the dash.
fn is_digest(tag: &Tag) -> bool {
    tag.as_str().replacen('-', ":", 1).parse::<Digest>().is_ok()
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}
