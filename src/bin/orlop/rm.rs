//! `orlop rm`

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgAction, ArgMatches, Command};
use orlop::oci::{Descriptor, RepositoryName, Role, Tag};
use orlop::{Digest, Expect, Repository, Store};
use serde::Serialize;

use crate::args::{flag, target_of, values, verb};
use crate::confirm::{ask, in_use, whole};
use crate::error::{Exit, Failure};
use crate::near;
use crate::output::Output;
use crate::reference::{Selector, Target, repository_and_tags};
use crate::session::{self, WriteArgs};
use crate::view::{View, containers, plural};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    more: Vec<String>,
    repository: bool,
    force: bool,
    write: WriteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "rm",
        "Remove tags with the manifests that only they name, manifests, or repositories",
        "By tag: the tag goes, and its manifest unless another tag names it or an index lists it; with an index that goes, \
         the manifests that only it lists. By digest: the manifest goes with all its tags. Everything goes together, or \
         nothing. What is attached to a manifest that goes, and the content, stay until `orlop gc`.",
        "orlop rm oci:app:v1",
    )
    .arg(
        Arg::new("target")
            .value_name("oci:DIR:REF")
            .help("A tag, several tags with commas between them, or a manifest by its digest")
            .required(true),
    )
    .arg(
        Arg::new("more")
            .value_name("oci:DIR:REF")
            .help("More of the same layout")
            .action(ArgAction::Append),
    )
    .arg(flag("repository", "The references are repositories, oci:DIR:REPOSITORY: all that they hold goes"))
    .arg(flag("force", "Do not ask, and take it as done if something is not there").short('f'))
    .args(WriteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            more: values(matches, "more"),
            repository: matches.get_flag("repository"),
            force: matches.get_flag("force"),
            write: WriteArgs::of(matches),
        }
    }

    /// All references, which must be in one layout.
    fn targets(&self) -> Result<Vec<Target>, Failure> {
        let first: Target = self.target.parse()?;
        let mut targets = vec![first.clone()];
        for text in &self.more {
            let other: Target = text.parse()?;
            if other.path() != first.path() {
                return Err(Failure::usage(format!("reference is in another layout, reference={text}"))
                    .with_hint("what is in one layout goes together; run the verb once for each"));
            }
            targets.push(other);
        }
        targets.iter().try_for_each(whole)?;
        Ok(targets)
    }
}

#[derive(Serialize)]
struct Removed {
    reference: String,
    untagged: Vec<View>,
    deleted: Vec<View>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repositories: Vec<String>,
    missing: Vec<String>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let targets = args.targets()?;
    let Some(layout) = targets.first() else { return Ok(()) };
    let plan = |store: &Store| -> Result<Plan, Failure> {
        let plan = Plan::of(store, &targets, args.repository)?;
        if plan.missing.is_empty() || args.force {
            Ok(plan)
        } else {
            Err(absent(store, layout, &plan.missing))
        }
    };
    // Nobody else waits for the lock while somebody thinks about the answer.
    let question = plan(&session::read(layout, output)?)?.question(layout);
    if let Some(question) = question
        && !ask(&question, args.force)?
    {
        return Ok(());
    }
    let writer = args.write.open(layout, output)?;
    let plan = plan(&writer.store)?;
    plan.commit(&writer.store)?;
    writer.close()?;

    let removed = plan.result(layout);
    let digests: Vec<Digest> =
        removed.untagged.iter().chain(&removed.deleted).map(|view| view.digest).collect();
    let digests: BTreeSet<Digest> = digests.into_iter().collect();
    output.result(digests, &removed, || {
        let lines = |word: &'static str, views: &[View]| {
            views.iter().map(|view| format!("{word} {}\n", view.reference)).collect::<String>()
        };
        let mut text = lines("Untagged", &removed.untagged) + &lines("Deleted", &removed.deleted);
        text.extend(removed.repositories.iter().map(|name| format!("Deleted repository {name}\n")));
        text.extend(removed.missing.iter().map(|missing| format!("Missing {missing}\n")));
        text
    })
}

/// What goes.
#[derive(Default)]
struct Plan {
    tags: BTreeMap<(RepositoryName, Tag), Descriptor>,
    manifests: BTreeMap<(RepositoryName, Digest), Descriptor>,
    repositories: BTreeSet<RepositoryName>,
    missing: Vec<String>,
}

impl Plan {
    fn of(store: &Store, targets: &[Target], repositories: bool) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut freed = Vec::new();
        for target in targets {
            match &target.selector {
                _ if repositories => plan.repository(store, target)?,
                Selector::Digest(name, digest) => {
                    let repository = store.repository(name);
                    match repository.resolve_reference(&(*digest).into())? {
                        Some(descriptor) => plan.manifest(&repository, descriptor, &mut freed)?,
                        None => plan.missing.push(target.shown()),
                    }
                }
                _ => plan.tags(store, target, &mut freed)?,
            }
        }
        plan.follow(store, freed)?;
        Ok(plan)
    }

    fn repository(&mut self, store: &Store, target: &Target) -> Result<(), Failure> {
        let name: RepositoryName = match &target.selector {
            Selector::Layout => RepositoryName::unnamed(),
            Selector::Name(name) => name.parse().map_err(|error: orlop::Error| {
                Failure::usage(error.to_string()).with_hint("a repository is named as oci:DIR:REPOSITORY")
            })?,
            _ => {
                return Err(Failure::usage(format!("no repository was given, reference={}", target.shown()))
                    .with_hint("write oci:DIR:REPOSITORY, or leave out --repository"));
            }
        };
        if crate::view::all_repositories(store)?.contains(&name) {
            self.repositories.insert(name);
        } else {
            self.missing.push(target.shown());
        }
        Ok(())
    }

    fn tags(
        &mut self,
        store: &Store,
        target: &Target,
        freed: &mut Vec<(RepositoryName, Digest)>,
    ) -> Result<(), Failure> {
        let (name, tags) = repository_and_tags(target).map_err(|failure| {
            failure.with_hint("a name that is no [REPOSITORY:]TAG is removed by the tool that gave it")
        })?;
        if tags.is_empty() {
            return Err(Failure::usage(format!("no tag or digest was given, reference={}", target.shown()))
                .with_hint(format!("`orlop ls {}` lists what there is", target.layout())));
        }
        let repository = store.repository(&name);
        for tag in tags {
            match repository.resolve(&tag)? {
                Some(descriptor) => {
                    freed.push((name.clone(), descriptor.digest));
                    self.tags.insert((name.clone(), tag), descriptor);
                }
                None => self.missing.push(target.by_tag(&name, &tag)),
            }
        }
        Ok(())
    }

    /// A manifest goes with its tags; what it lists may go with it.
    fn manifest(
        &mut self,
        repository: &Repository,
        descriptor: Descriptor,
        freed: &mut Vec<(RepositoryName, Digest)>,
    ) -> Result<(), Failure> {
        let name = repository.name();
        for tag in repository.tags_of(&descriptor.digest)? {
            self.tags.insert((name.clone(), tag), descriptor.clone());
        }
        for successor in repository.successors(&descriptor.digest)?.unwrap_or_default() {
            if successor.role == Role::Manifest {
                freed.push((name.clone(), successor.descriptor.digest));
            }
        }
        self.manifests.insert((name.clone(), descriptor.digest), descriptor);
        Ok(())
    }

    /// Of what lost a name or a list, what nothing else holds goes too.
    fn follow(&mut self, store: &Store, mut freed: Vec<(RepositoryName, Digest)>) -> Result<(), Failure> {
        let named: BTreeSet<(RepositoryName, Digest)> =
            self.tags.iter().map(|((name, _), descriptor)| (name.clone(), descriptor.digest)).collect();
        while let Some((name, digest)) = freed.pop() {
            let key = (name.clone(), digest);
            if self.manifests.contains_key(&key) {
                continue;
            }
            let repository = store.repository(&name);
            let Some(descriptor) = repository.resolve_reference(&digest.into())? else { continue };
            let goes = |found: &Digest| self.manifests.contains_key(&(name.clone(), *found));
            let tags = repository.tags_of(&digest)?;
            let is_held = tags.iter().any(|tag| !self.tags.contains_key(&(name.clone(), tag.clone())))
                || containers(&repository, &digest, |container| !goes(container))?
                || (!named.contains(&key) && has_subject(&repository, &digest, goes)?);
            if !is_held {
                self.manifest(&repository, descriptor, &mut freed)?;
            }
        }
        Ok(())
    }

    /// None if there is nothing to do.
    fn question(&self, layout: &Target) -> Option<String> {
        let counts = [
            (self.tags.len(), "tag"),
            (self.manifests.len(), "manifest"),
            (self.repositories.len(), "repository"),
        ];
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| match (count, word) {
                (1, _) => format!("1 {word}"),
                (_, "repository") => format!("{count} repositories"),
                _ => format!("{count} {}", plural(count, word)),
            })
            .collect();
        if parts.is_empty() {
            return None;
        }
        let first = self.repositories.first().map(|name| named(layout, name));
        let first = first.or_else(|| self.tags.keys().next().map(|(name, tag)| layout.by_tag(name, tag)));
        let first = first
            .or_else(|| self.manifests.keys().next().map(|(name, digest)| layout.by_digest(name, digest)));
        let sum: usize = counts.iter().map(|(count, _)| count).sum();
        let first = first.unwrap_or_default();
        let first = if sum > 1 { format!("{first} first") } else { first };
        Some(format!("Are you sure you want to remove {}: {first}?", parts.join(" and ")))
    }

    fn commit(&self, store: &Store) -> Result<(), Failure> {
        let mut batch = store.batch();
        for ((name, tag), descriptor) in &self.tags {
            batch.untag(&store.repository(name), tag, Expect::Is(descriptor.digest));
        }
        for (name, digest) in self.manifests.keys() {
            batch.delete_manifest(&store.repository(name), digest);
        }
        if !(self.tags.is_empty() && self.manifests.is_empty()) {
            batch.commit().map_err(in_use)?;
        }
        for name in &self.repositories {
            store.delete_repository(name)?;
        }
        Ok(())
    }

    fn result(self, layout: &Target) -> Removed {
        let tag = |((name, tag), descriptor): (&(RepositoryName, Tag), &Descriptor)| {
            View::new(layout.by_tag(name, tag), descriptor)
        };
        let manifest = |((name, digest), descriptor): (&(RepositoryName, Digest), &Descriptor)| {
            View::new(layout.by_digest(name, digest), descriptor)
        };
        Removed {
            reference: layout.layout(),
            untagged: self.tags.iter().map(tag).collect(),
            deleted: self.manifests.iter().map(manifest).collect(),
            repositories: self.repositories.iter().map(|name| named(layout, name)).collect(),
            missing: self.missing,
        }
    }
}

fn named(layout: &Target, repository: &RepositoryName) -> String {
    if repository.is_unnamed() { layout.layout() } else { format!("{}:{repository}", layout.layout()) }
}

/// Whether a manifest is about another one, which is there and does not go.
fn has_subject(
    repository: &Repository,
    digest: &Digest,
    goes: impl Fn(&Digest) -> bool,
) -> Result<bool, Failure> {
    for successor in repository.successors(digest)?.unwrap_or_default() {
        let subject = &successor.descriptor.digest;
        if successor.role == Role::Subject && !goes(subject) && repository.stat(subject)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn absent(store: &Store, layout: &Target, missing: &[String]) -> Failure {
    let targets = missing.iter().filter_map(|missing| missing.parse::<Target>().ok());
    let near: Vec<String> = targets.flat_map(|target| near::near(store, &target)).take(3).collect();
    let near = near::did_you_mean(&near);
    Failure::new(Exit::NotFound, format!("no such reference, references={}", missing.join(",")))
        .with_hint(format!("nothing was removed; {near}`orlop ls {}` lists what there is", layout.layout()))
}
