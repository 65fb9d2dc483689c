//! References to registries as sources and destinations of copies: `REGISTRY/REPOSITORY[:TAG[,TAG...]|@DIGEST]`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, value_parser};
use orlop::oci::{Reference, RegistryName, RemoteName, RepositoryName, Tag};
use orlop::transfer::{RegistryClient, RegistryOptions, RemoteRepository};
use parking_lot::Mutex;

use crate::args::{flag, option, value};
use crate::endpoint::{Selected, Selection};
use crate::error::{Exit, Failure};
use crate::from_file::Tags;
use crate::interrupt;
use crate::reference::usage;

/// How often a wait looks for a signal.
const SLICE: Duration = Duration::from_millis(100);

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

/// What is behind the scheme, and the host at its beginning. None for what is on disk: a path that is there, or has a scheme of its own.
fn remote_part(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix("docker://") {
        return Some((rest, rest.split('/').next().unwrap_or(rest)));
    }
    let (host, _) = text.split_once('/')?;
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_host = name == "localhost" || name.trim_matches('.').contains('.') || port.is_some();
    let is_there = Path::new(text).exists() || Path::new(name).exists();
    (is_host && port.is_none_or(is_port) && !is_there).then_some((text, host))
}

/// How registries are talked to.
pub(crate) fn declare() -> [Arg; 3] {
    [
        flag("plain-http", "Speak HTTP to registries; those on this machine are spoken to so anyway"),
        flag("insecure", "Do not check the certificates of registries"),
        option("ca-file", "FILE", "Trust the certificates of this authority as well")
            .value_parser(value_parser!(std::path::PathBuf)),
    ]
}

/// The client that the arguments ask for.
pub(crate) fn client(matches: &ArgMatches) -> RegistryClient {
    let mut options = RegistryOptions::new()
        .plain_http(matches.get_flag("plain-http"))
        .insecure(matches.get_flag("insecure"))
        .sleep(|time| {
            let end = Instant::now() + time;
            while !interrupt::is_caught() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return std::ops::ControlFlow::Continue(());
                }
                std::thread::sleep(left.min(SLICE));
            }
            std::ops::ControlFlow::Break(())
        });
    if let Some(file) = value::<std::path::PathBuf>(matches, "ca-file") {
        options = options.certificate_authority(file);
    }
    options.client()
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
