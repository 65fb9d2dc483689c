//! Full references, by their paths: names with the host of a registry in front, of repositories and of entries of `index.json`
//! that other tools wrote.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

#[cfg(feature = "archive")]
use crate::oci::{LayoutName, names::other_names};
use crate::oci::{ManifestKind, RepositoryName, Successor, Tag};
#[cfg(feature = "archive")]
use crate::transfer::archive::Archive;
use crate::{Digest, Error, Repository, Result, Store};

/// Repositories that are listed together.
const PAGE: usize = 1000;

/// Contents that names of one path may reach to be remembered; with more they are looked for with each request.
const REMEMBERED: usize = 100_000;

/// The host that most tools leave out, and what it is called elsewhere.
const HUB: &str = "docker.io";
const HUBS: [&str; 3] = [HUB, "index.docker.io", "registry-1.docker.io"];
/// Where that host has what is of one part only.
const LIBRARY: &str = "library";

/// What full references stand for, by their paths; several in the order in which they are taken.
#[derive(Debug, Default)]
pub(in crate::server) struct Table {
    paths: BTreeMap<String, Vec<Alias>>,
}

/// A full reference without its tag or digest.
#[derive(Clone, Debug)]
pub(in crate::server) struct Alias {
    pub(in crate::server) layout: usize,
    pub(in crate::server) host: String,
    pub(in crate::server) target: Target,
}

#[derive(Clone, Debug)]
pub(in crate::server) enum Target {
    Repository(RepositoryName),
    Entries(Arc<Entries>),
}

/// The entries of one host and path.
#[derive(Debug, Default)]
pub(in crate::server) struct Entries {
    pub(in crate::server) tags: BTreeMap<Tag, Digest>,
    /// What is named by its digest alone.
    digests: BTreeSet<Digest>,
    reached: Mutex<Option<Arc<HashSet<Digest>>>>,
}

/// The host under one name, where it has several.
pub(in crate::server) fn canonical_host(host: &str) -> &str {
    if HUBS.contains(&host) { HUB } else { host }
}

impl Table {
    pub(super) fn of(stores: &[Store]) -> Result<Self> {
        let mut table = Self::default();
        for (layout, store) in stores.iter().enumerate() {
            let mut repositories = Vec::new();
            let mut after: Option<RepositoryName> = None;
            loop {
                let page = store.repositories(after.as_ref(), PAGE)?;
                repositories
                    .extend(page.items.iter().filter(|name| split_host(name.as_str()).is_some()).cloned());
                if !page.more {
                    break;
                }
                after = page.items.last().cloned();
            }
            let unscoped = store.unscoped();
            let names = unscoped.foreign_names()?.into_iter().chain(unscoped.annotated_names()?);
            let names = names.map(|(name, descriptor)| (name, descriptor.digest));
            table.collect(layout, repositories, names);
        }
        Ok(table)
    }

    /// The same of archives.
    #[cfg(feature = "archive")]
    pub(in crate::server) fn of_archives(archives: &[Archive]) -> Self {
        let mut table = Self::default();
        for (layout, archive) in archives.iter().enumerate() {
            let names = archive.names().iter().filter_map(|found| {
                let digest = found.descriptor.digest;
                match LayoutName::parse(&found.name) {
                    LayoutName::Foreign(_) if !found.name.is_empty() => Some((found.name.clone(), digest)),
                    _ => {
                        let mut others = other_names(&found.name, &found.descriptor.annotations);
                        others.next().map(|name| (name.to_owned(), digest))
                    }
                }
            });
            table.collect(layout, archive.repositories(), names);
        }
        table
    }

    /// Takes what has a host in its name: repositories, and names of other tools, of which the repository of the same name comes first.
    fn collect(
        &mut self,
        layout: usize,
        repositories: Vec<RepositoryName>,
        names: impl Iterator<Item = (String, Digest)>,
    ) {
        let mut found: BTreeMap<(String, String), Target> = BTreeMap::new();
        for name in repositories {
            if let Some((host, path)) = split_host(name.as_str()) {
                found.insert((host.into(), path.into()), Target::Repository(name.clone()));
            }
        }
        let mut entries: BTreeMap<(String, String), Entries> = BTreeMap::new();
        for (name, digest) in names {
            let Some((host, path, tag)) = split(&name) else { continue };
            let entries = entries.entry((host.into(), path.into())).or_default();
            match tag {
                Some(tag) => drop(entries.tags.insert(tag, digest)),
                None => drop(entries.digests.insert(digest)),
            }
        }
        for (key, entries) in entries {
            found.entry(key).or_insert_with(|| Target::Entries(Arc::new(entries)));
        }
        for ((host, path), target) in found {
            self.add(layout, host, path, target);
        }
    }

    fn add(&mut self, layout: usize, host: String, path: String, target: Target) {
        if canonical_host(&host) == HUB && !path.contains('/') {
            let alias = Alias { layout, host: host.clone(), target: target.clone() };
            self.paths.entry(format!("{LIBRARY}/{path}")).or_default().push(alias);
        }
        self.paths.entry(path).or_default().push(Alias { layout, host, target });
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains_key(path)
    }

    pub(in crate::server) fn of_path(&self, path: &str) -> &[Alias] {
        self.paths.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = (&str, &[Alias])> {
        self.paths.iter().map(|(path, aliases)| (path.as_str(), aliases.as_slice()))
    }

    /// The paths of entries behind another one, in byte order.
    pub(in crate::server) fn entries_behind(&self, after: &str) -> impl Iterator<Item = RepositoryName> {
        let behind = self.paths.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let served = behind
            .filter(|(_, aliases)| matches!(aliases.first(), Some(Alias { target: Target::Entries(_), .. })));
        served.filter_map(|(path, _)| path.parse().ok())
    }
}

impl Entries {
    /// Whether a content is what these entries name, or belongs to that. What is attached to it belongs to it only if an entry
    /// names it too.
    pub(in crate::server) fn reach(&self, store: &Store, digest: &Digest) -> Result<bool> {
        self.reach_by(digest, |digest| successors(store, digest))
    }

    /// The same, where `successors` says what a manifest refers to.
    pub(in crate::server) fn reach_by(
        &self,
        digest: &Digest,
        successors: impl Fn(&Digest) -> Result<Option<Vec<Successor>>>,
    ) -> Result<bool> {
        if self.roots().any(|root| root == digest) {
            return Ok(true);
        }
        Ok(self.reached_by(successors)?.contains(digest))
    }

    /// Everything that is named or belongs to that.
    pub(in crate::server) fn reached(&self, store: &Store) -> Result<Arc<HashSet<Digest>>> {
        self.reached_by(|digest| successors(store, digest))
    }

    fn reached_by(
        &self,
        successors: impl Fn(&Digest) -> Result<Option<Vec<Successor>>>,
    ) -> Result<Arc<HashSet<Digest>>> {
        if let Some(reached) = &*self.reached.lock() {
            return Ok(Arc::clone(reached));
        }
        let mut reached: HashSet<Digest> = self.roots().copied().collect();
        let mut waiting: Vec<Digest> = reached.iter().copied().collect();
        while let Some(digest) = waiting.pop() {
            for successor in successors(&digest)?.into_iter().flatten() {
                let descriptor = successor.descriptor;
                // A subject is not part of what refers to it.
                let belongs = successor.role != crate::oci::Role::Subject;
                if belongs
                    && reached.insert(descriptor.digest)
                    && ManifestKind::of(&descriptor.media_type).is_some()
                {
                    waiting.push(descriptor.digest);
                }
            }
        }
        let reached = Arc::new(reached);
        if reached.len() <= REMEMBERED {
            *self.reached.lock() = Some(Arc::clone(&reached));
        }
        Ok(reached)
    }

    fn roots(&self) -> impl Iterator<Item = &Digest> {
        self.tags.values().chain(&self.digests)
    }
}

/// What a manifest refers to, in the first repository that holds it as one.
fn successors(store: &Store, digest: &Digest) -> Result<Option<Vec<Successor>>> {
    for holder in holders(store, digest)? {
        if let Some(successors) = holder.successors(digest)? {
            return Ok(Some(successors));
        }
    }
    Ok(None)
}

/// The repositories that hold a content.
pub(in crate::server) fn holders(store: &Store, digest: &Digest) -> Result<Vec<Repository>, Error> {
    let names = store.unscoped().holders(digest)?;
    Ok(names.iter().map(|name| store.repository(name)).collect())
}

/// The host in front of a name, and what is behind it.
fn split_host(name: &str) -> Option<(&str, &str)> {
    let (host, rest) = name.split_once('/')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    let is_host = host == "localhost" || host.contains(['.', ':']);
    (is_host && host.chars().all(fits) && !rest.is_empty()).then_some((host, rest))
}

/// The parts of a full reference: host, path, and the tag unless there is a digest.
fn split(name: &str) -> Option<(&str, &str, Option<Tag>)> {
    let (host, rest) = split_host(name)?;
    let (rest, has_digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, digest.parse::<Digest>().ok().map(|_| true)?),
        None => (rest, false),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag.parse::<Tag>().ok()?)),
        None => (rest, None),
    };
    path.parse::<RepositoryName>().ok()?;
    match tag {
        Some(_) if !has_digest => Some((host, path, tag)),
        _ if has_digest => Some((host, path, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn full_references_have_a_host() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let tag = |tag: &str| Some(tag.parse::<Tag>().unwrap());
        for (name, expected) in [
            ("docker.io/library/alpine:3", Some(("docker.io", "library/alpine", tag("3")))),
            ("localhost:5000/foo/bar:v1", Some(("localhost:5000", "foo/bar", tag("v1")))),
            ("localhost/foo:v1", Some(("localhost", "foo", tag("v1")))),
            ("[::1]:5000/a:v1", Some(("[::1]:5000", "a", tag("v1")))),
            (&format!("quay.io/a@{digest}"), Some(("quay.io", "a", None))),
            (&format!("quay.io/a:v1@{digest}"), Some(("quay.io", "a", None))),
            ("quay.io/a", None),
            ("quay.io/a@sha256:short", None),
            ("library/alpine:3", None),
            ("team/app", None),
            ("quay.io/Upper:v1", None),
            ("quay.io/:v1", None),
            ("v1", None),
            ("", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }
}
