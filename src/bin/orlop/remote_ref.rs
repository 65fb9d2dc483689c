//! References to registries as sources and destinations of copies: `REGISTRY/REPOSITORY[:TAG[,TAG...]|@DIGEST]`.

use std::sync::atomic::{AtomicUsize, Ordering};

use orlop::oci::{Reference, RegistryName, RemoteName, RepositoryName, Tag};
use orlop::transfer::{RegistryClient, RemoteRepository};
use parking_lot::Mutex;

use crate::endpoint::{Selected, Selection};
use crate::error::{Exit, Failure};
use crate::from_file::Tags;
use crate::interrupt;
use crate::reference::usage;
use crate::remote;

/// A registry, and what of it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) registry: RegistryName,
    /// None for the registry itself.
    pub(crate) repository: Option<RepositoryName>,
    /// Tags or a digest; none for the whole repository.
    pub(crate) references: Vec<Reference>,
}

impl Remote {
    /// None for what names something on disk.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Failure> {
        let Some((rest, host)) = remote_part(text) else { return Ok(None) };
        let registry: RegistryName = host.parse().map_err(|error| usage(&error))?;
        let path = rest.get(host.len()..).unwrap_or_default().trim_start_matches('/');
        if path.is_empty() {
            return Ok(Some(Self { registry, repository: None, references: Vec::new() }));
        }
        // Tags with commas between them are not in the grammar of one name.
        let (first, more) = match path.split_once(',') {
            Some((first, more)) if !path.contains('@') => (first, Some(more)),
            _ => (path, None),
        };
        let name: RemoteName = format!("{host}/{first}").parse().map_err(|error| usage(&error))?;
        let mut references: Vec<Reference> = name.reference.into_iter().collect();
        if let Some(more) = more {
            if references.is_empty() {
                return Err(Failure::usage(format!(
                    "reference has no tag before its comma, reference={text}"
                )));
            }
            for tag in more.split(',') {
                let tag: Tag = tag.parse().map_err(|error| usage(&error))?;
                references.push(Reference::Tag(tag));
            }
        }
        Ok(Some(Self { registry, repository: Some(name.repository), references }))
    }

    /// As an argument.
    pub(crate) fn shown(&self) -> String {
        let Some(repository) = &self.repository else { return self.registry.to_string() };
        let place = format!("{}/{repository}", self.registry);
        match self.references.as_slice() {
            [] => place,
            [Reference::Digest(digest), ..] => format!("{place}@{digest}"),
            tags => {
                let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
                format!("{place}:{}", tags.join(","))
            }
        }
    }

    /// The tags that a destination names.
    pub(crate) fn tags(&self) -> Result<Vec<Tag>, Failure> {
        let tag = |reference: &Reference| match reference {
            Reference::Tag(tag) => Ok(tag.clone()),
            Reference::Digest(_) => Err(Failure::usage(format!(
                "a digest stands where a tag belongs, reference={}",
                self.shown()
            ))),
        };
        self.references.iter().map(tag).collect()
    }

    /// What it stands for.
    pub(crate) fn select(
        &self,
        client: &RegistryClient,
        tags: &Tags,
        jobs: usize,
    ) -> Result<Selection, Failure> {
        let Some(name) = &self.repository else {
            return Err(Failure::usage(format!("no repository was given, reference={}", self.shown()))
                .with_hint("registries are copied by repositories: write REGISTRY/REPOSITORY, or list them with --from-file"));
        };
        let repository = client.repository(&self.registry, name)?;
        let mut references = self.references.clone();
        let is_whole = references.is_empty();
        if is_whole {
            let all = repository.all_tags()?;
            references.extend(all.into_iter().filter(|tag| tags.hold(tag)).map(Reference::Tag));
        }
        let mut found = self.resolve(&repository, name, &references, jobs)?;
        match (found.len(), is_whole) {
            (1, false) => found.pop().map(Selection::One).ok_or_else(|| self.none()),
            _ => Ok(Selection::Many(found)),
        }
    }

    /// Asks for many references at a time.
    fn resolve(
        &self,
        repository: &RemoteRepository,
        name: &RepositoryName,
        references: &[Reference],
        jobs: usize,
    ) -> Result<Vec<Selected>, Failure> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(references.len())));
        let worker = || {
            while let Some((index, reference)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                references.get(index).map(|reference| (index, reference))
            } {
                let result = repository.resolve(reference);
                let is_end = result.is_err() || interrupt::is_caught();
                found.lock().push((index, result));
                if is_end {
                    next.store(references.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.min(references.len()) {
                scope.spawn(worker);
            }
            worker();
        });
        interrupt::check("nothing was copied")?;
        let mut found = found.into_inner();
        found.sort_unstable_by_key(|(index, _)| *index);
        let mut selected = Vec::with_capacity(found.len());
        for ((_, result), reference) in found.into_iter().zip(references) {
            let one = Self { references: vec![reference.clone()], ..self.clone() };
            let root = result?.ok_or_else(|| one.none())?.digest;
            let tags = match reference {
                Reference::Tag(tag) => vec![tag.clone()],
                Reference::Digest(_) => Vec::new(),
            };
            let (repository, named) = (name.clone(), name.clone());
            selected.push(Selected { repository, root, named, tags, shown: one.shown() });
        }
        Ok(selected)
    }

    fn none(&self) -> Failure {
        Failure::new(Exit::NotFound, format!("no such reference, reference={}", self.shown()))
    }
}

/// What is behind the scheme, and the host at its beginning. None for what is on disk.
fn remote_part(text: &str) -> Option<(&str, &str)> {
    // A registry with nothing behind it can only be told from a directory by its slash.
    let is_alone = || text.ends_with('/') && remote::reference(&format!("{text}x")).is_some();
    let rest = remote::reference(text).or_else(|| is_alone().then_some(text))?;
    Some((rest, rest.split('/').next().unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn registries_are_told_from_layouts() {
        let digest = orlop::Digest::of(b"x");
        let by_digest = format!("reg.example/a/b@{digest}");
        for (text, shown) in [
            ("reg.example/a/b:v1", "reg.example/a/b:v1"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("docker://reg.example/a:v1,v2", "reg.example/a:v1,v2"),
            ("docker.io/alpine:3", "docker.io/library/alpine:3"),
            ("reg.example/", "reg.example"),
            (&by_digest, &by_digest),
        ] {
            assert_eq!(Remote::parse(text).unwrap().unwrap().shown(), shown, "{text}");
        }
        for text in ["oci:a:v1", "oci:reg.example/a:v1", "dir", "./dir/x:v1", "dir/x", "a:v1"] {
            assert!(Remote::parse(text).unwrap().is_none(), "{text}");
        }
        for text in ["reg.example/A:v1", "reg.example/a:v1,", "reg.example/a,v2", "docker://"] {
            assert_eq!(Remote::parse(text).unwrap_err().exit(), Exit::Usage, "{text}");
        }
    }
}
