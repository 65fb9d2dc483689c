//! `orlop ls`

use std::collections::BTreeSet;

use clap::{ArgMatches, Command};
use orlop::oci::attached::{Attached, Subject};
use orlop::oci::{Descriptor, LayoutName, RepositoryName, Role};
use orlop::{Digest, Repository, Store};
use serde::Serialize;

use crate::args::{flag, target, target_of, verb};
use crate::error::{Exit, Failure};
use crate::output::{self, Output, columns, plain};
use crate::reference::{Selector, Target};
use crate::session;
use crate::view::{View, all_repositories, complete, containers, total_size};

/// How many rows are asked for at once.
const PAGE: usize = 1000;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    /// Manifests without a tag as well.
    all: bool,
}

pub(crate) fn command() -> Command {
    verb("ls", "List tags", "", "orlop ls oci:app")
        .arg(target("oci:DIR[:REPOSITORY]", "A layout, or one repository of it"))
        .arg(
            flag(
                "all",
                "Show manifests without a tag as well, unless one that is there lists them or is their subject",
            )
            .short('a'),
        )
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self { target: target_of(matches), all: matches.get_flag("all") }
    }
}

#[derive(Serialize)]
struct Listing {
    reference: String,
    tags: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    untagged: Option<Vec<Row>>,
}

/// A manifest. `name` is what stands behind the directory in a reference, as in `index.json`.
#[derive(Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    view: View,
    /// Of everything below the manifest, for people: the JSON gives the size that a descriptor has.
    #[serde(skip)]
    total: u64,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let repositories = match &target.selector {
        Selector::Layout => all_repositories(&store)?,
        Selector::Name(name) => vec![one_repository(&store, &target, name)?],
        Selector::Digest(..) | Selector::Prefix(..) => {
            return Err(Failure::usage(format!("a manifest cannot be listed, reference={}", target.shown()))
                .with_hint(format!("`orlop discover {}` shows what refers to it", target.shown())));
        }
    };
    let mut listing =
        Listing { reference: target.shown(), tags: Vec::new(), untagged: args.all.then(Vec::new) };
    let mut foreign = store.unscoped().foreign_names()?;
    // What is attached to the artifact of a name has that name as well: `discover` shows it there.
    foreign.retain(|(_, found)| {
        Attached::of_annotations(&found.annotations).is_none_or(|at| at.subject != Subject::SameName)
    });
    foreign.extend(store.unscoped().annotated_names()?);
    for name in &repositories {
        let repository = store.repository(name);
        list_tags(&repository, &target, &mut listing.tags)?;
        if let Some(rows) = &mut listing.untagged {
            list_untagged(&repository, &target, &foreign, rows)?;
        }
    }
    if target.selector == Selector::Layout {
        list_foreign(&store, &target, foreign, &mut listing.tags)?;
    }
    let digests: Vec<_> = listing.rows().map(|row| row.view.digest).collect();
    output.list(digests, &listing, listing.rows(), || table(&listing))
}

impl Listing {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.tags.iter().chain(self.untagged.iter().flatten())
    }
}

fn one_repository(store: &Store, target: &Target, name: &str) -> Result<RepositoryName, Failure> {
    let unknown = || {
        Failure::new(Exit::NotFound, format!("no such repository, reference={}", target.shown()))
            .with_hint(format!("`orlop ls {}` lists every tag of every repository", target.layout()))
    };
    let name: RepositoryName = name.parse().map_err(|_| unknown())?;
    let repository = store.repository(&name);
    let is_empty =
        repository.tags(None, 1)?.items.is_empty() && repository.contents(None, 1)?.items.is_empty();
    if is_empty { Err(unknown()) } else { Ok(name) }
}

fn list_tags(repository: &Repository, target: &Target, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let page = repository.tags(after.as_deref(), PAGE)?;
        for entry in &page.items {
            if let Some(descriptor) = repository.resolve(&entry.tag)? {
                let name = LayoutName::of(repository.name(), &entry.tag);
                let reference = target.by_tag(repository.name(), &entry.tag);
                rows.push(row(repository, Some(name), reference, &descriptor)?);
            }
        }
        after = page.items.last().map(|entry| entry.tag.to_string());
        if !page.more {
            return Ok(());
        }
    }
}

/// Manifests that only their repository keeps: no tag, nothing that lists or refers to them, and no subject.
fn list_untagged(
    repository: &Repository,
    target: &Target,
    foreign: &[(String, Descriptor)],
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let named: BTreeSet<Digest> = foreign.iter().map(|(_, descriptor)| descriptor.digest).collect();
    let mut after = None;
    loop {
        let page = repository.manifests(after.as_ref(), PAGE)?;
        for descriptor in &page.items {
            let digest = &descriptor.digest;
            let is_tagged = named.contains(digest) || !repository.tags_of(digest)?.is_empty();
            if !is_tagged && is_root(repository, descriptor)? {
                rows.push(row(repository, None, target.by_digest(repository.name(), digest), descriptor)?);
            }
        }
        after = page.items.last().map(|descriptor| descriptor.digest);
        if !page.more {
            return Ok(());
        }
    }
}

fn is_root(repository: &Repository, descriptor: &Descriptor) -> Result<bool, Failure> {
    for successor in repository.successors(&descriptor.digest)?.unwrap_or_default() {
        if successor.role == Role::Subject && repository.stat(&successor.descriptor.digest)?.is_some() {
            return Ok(false);
        }
    }
    Ok(!containers(repository, &descriptor.digest, |_| true)?)
}

/// Names that other tools have given and that are no `[repository:]tag`.
fn list_foreign(
    store: &Store,
    target: &Target,
    foreign: Vec<(String, Descriptor)>,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    for (name, descriptor) in foreign {
        let reference = format!("{}:{name}", target.layout());
        match store.unscoped().holders(&descriptor.digest)?.first() {
            Some(holder) => rows.push(row(&store.repository(holder), Some(name), reference, &descriptor)?),
            None => {
                let total = descriptor.size;
                rows.push(Row { name: Some(name), view: View::new(reference, &descriptor), total });
            }
        }
    }
    Ok(())
}

fn row(
    repository: &Repository,
    name: Option<String>,
    reference: String,
    descriptor: &Descriptor,
) -> Result<Row, Failure> {
    let descriptor = complete(repository, descriptor)?;
    let total = total_size(repository, &descriptor)?;
    Ok(Row { name, view: View::new(reference, &descriptor), total })
}

fn table(listing: &Listing) -> String {
    let rows: Vec<[String; 4]> = listing
        .rows()
        .map(|row| {
            let name = plain(row.name.as_deref().unwrap_or("-")).into_owned();
            [name, row.view.digest.to_string(), output::size(row.total), plain(row.view.kind()).into_owned()]
        })
        .collect();
    columns(["NAME", "DIGEST", "SIZE", "TYPE"], &rows, &["SIZE"])
}
