//! Making a lock file, and bringing everything that it names into the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::apt::{Archives, Root};
use crate::cache::{self, Cache};
use crate::lock::{Artifact, Lock, Pinned, Source, Suite};
use crate::recipe::{self, Size};
use crate::resolve::Index;
use crate::{parallel, registries};

/// Suites are asked at the same time, politely.
const SUITES_AT_ONCE: usize = 3;

/// Finds out which versions there are now.
pub fn lock(size: Size, cache: &Cache, archives: &Archives) -> Result<Lock> {
    let suites = parallel::map(SUITES_AT_ONCE, recipe::suites(size), |wanted| {
        let sources: Vec<Source> = wanted
            .sources
            .iter()
            .map(|&(archive, distribution)| Source {
                archive: archive.to_owned(),
                distribution: distribution.to_owned(),
            })
            .collect();
        let suite = suite(size, cache, archives, wanted, sources)
            .with_context(|| format!("suite={}", wanted.name))?;
        Ok((wanted.name.to_owned(), suite))
    })?;
    let mut artifacts = Vec::new();
    for (registry, name, version) in recipe::artifacts(size) {
        let directory = tempfile::tempdir_in(cache.place("clients")?)?;
        let path = registries::fetch(registry, name, version, directory.path())?;
        let file =
            path.file_name().and_then(|file| file.to_str()).context("a file's name is not text")?.to_owned();
        let (size, sha256) = cache::describe(&path)?;
        cache.take(&path, &file)?;
        let (name, version) = (name.to_owned(), version.to_owned());
        artifacts.push(Artifact { registry, name, version, file, size, sha256 });
    }
    Ok(Lock::new(size.name(), archives.signatures(), suites.into_iter().collect(), artifacts))
}

fn suite(
    size: Size,
    cache: &Cache,
    archives: &Archives,
    wanted: &recipe::Suite,
    sources: Vec<Source>,
) -> Result<Suite> {
    let root = Root::prepare(cache, archives, wanted.name, wanted.architecture, &sources)?;
    root.update()?;
    let (index, created) = root.index()?.context("no index came")?;
    let mut base = BTreeSet::new();
    let first: Vec<&str> = index.essential().chain(recipe::BASE.iter().copied()).collect();
    index.choose(&first, &mut base)?;
    let (mut images, mut all) = (BTreeMap::new(), base.clone());
    for (role, names) in recipe::roles(size) {
        let mut chosen = base.clone();
        index.choose(names, &mut chosen).with_context(|| format!("role={role}"))?;
        images.insert((*role).to_owned(), joined(chosen.difference(&base)));
        all.append(&mut chosen);
    }
    let packages = all.into_iter().filter_map(|name| Some((name.clone(), pinned(&index, &name)?))).collect();
    let architecture = wanted.architecture.to_owned();
    Ok(Suite { architecture, sources, created, packages, base: joined(base.iter()), images })
}

fn joined<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn pinned(index: &Index, name: &str) -> Option<Pinned> {
    let found = index.get(name)?.clone();
    Some(Pinned {
        version: found.version,
        architecture: found.architecture,
        size: found.size,
        sha256: found.sha256,
    })
}

/// Brings what is missing into the cache; what cannot be had is named.
pub fn fetch(lock: &Lock, cache: &Cache, archives: Option<&Archives>) -> Result<()> {
    let mut missing: BTreeMap<&str, Vec<(&str, &Pinned)>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (suite_name, suite) in &lock.suites {
        for (name, pinned) in &suite.packages {
            let file = pinned.file(name);
            if !cache.has(&file, pinned.size, &pinned.sha256)? && seen.insert(file) {
                missing.entry(suite_name).or_default().push((name, pinned));
            }
        }
    }
    let mut artifacts = Vec::new();
    for artifact in &lock.artifacts {
        if !cache.has(&artifact.file, artifact.size, &artifact.sha256)? {
            artifacts.push(artifact);
        }
    }
    let Some(archives) = archives else {
        return nothing_missing(&missing, &artifacts, "and nothing is fetched offline");
    };
    let missing: Vec<_> = missing.into_iter().collect();
    let absent = parallel::map(SUITES_AT_ONCE, &missing, |(suite_name, wanted)| {
        let suite = lock.suites.get(*suite_name).context("no such suite")?;
        download(cache, archives, suite_name, suite, wanted).with_context(|| format!("suite={suite_name}"))
    })?;
    let absent: Vec<_> = absent.into_iter().flatten().collect();
    if !absent.is_empty() {
        bail!(gone(&absent)?);
    }
    for artifact in artifacts {
        let directory = tempfile::tempdir_in(cache.place("clients")?)?;
        let path = registries::fetch(artifact.registry, &artifact.name, &artifact.version, directory.path())?;
        let found = cache::describe(&path)?;
        if found != (artifact.size, artifact.sha256.clone()) {
            bail!(
                "a registry gave another file than the lock names, file={} wanted={} found={}",
                artifact.file,
                artifact.sha256,
                found.1
            );
        }
        cache.take(&path, &artifact.file)?;
    }
    Ok(())
}

/// What cannot be had of one suite: suite, name, version, what was said.
type Absent = (String, String, String, String);

fn download(
    cache: &Cache,
    archives: &Archives,
    suite_name: &str,
    suite: &Suite,
    wanted: &[(&str, &Pinned)],
) -> Result<Vec<Absent>> {
    let root = Root::prepare(cache, archives, suite_name, &suite.architecture, &suite.sources)?;
    root.update()?;
    let (index, _) = root.index()?.context("no index came")?;
    // apt-get fetches nothing at all if it does not know one of the versions.
    let there: Vec<_> =
        wanted.iter().copied().filter(|(name, pinned)| index.has(name, &pinned.version)).collect();
    let failure = if there.is_empty() { None } else { root.download(cache, &there)? };
    let mut absent = Vec::new();
    for (name, pinned) in wanted {
        if cache.has(&pinned.file(name), pinned.size, &pinned.sha256)? {
            continue;
        }
        let now = match index.get(name) {
            Some(found) if found.version != pinned.version => format!("now {}", found.version),
            Some(_) => failure.clone().unwrap_or_else(|| "another file of this version came".to_owned()),
            None => "no longer there".to_owned(),
        };
        absent.push((suite_name.to_owned(), (*name).to_owned(), pinned.version.clone(), now));
    }
    Ok(absent)
}

fn gone(absent: &[Absent]) -> Result<String> {
    let mut text = format!("{} packages that the lock names cannot be had:\n", absent.len());
    for (suite, name, version, now) in absent {
        writeln!(text, "  {suite}: {name} {version} ({now})")?;
    }
    text.push_str(
        "Debian removes a package when an update supersedes it. Either copy the files from a cache that still has them; or name \
         an archive that keeps every version (--mirror and --security-mirror, as snapshot.debian.org has them by date); or \
         make a new lock with `lock`, whose digests will be others.",
    );
    Ok(text)
}

fn nothing_missing(
    missing: &BTreeMap<&str, Vec<(&str, &Pinned)>>,
    artifacts: &[&Artifact],
    why: &str,
) -> Result<()> {
    let packages = missing.values().flatten().map(|(name, pinned)| pinned.file(name));
    let names: Vec<_> = packages.chain(artifacts.iter().map(|artifact| artifact.file.clone())).collect();
    if names.is_empty() {
        return Ok(());
    }
    bail!("{} files are not in the cache, {why}: {}", names.len(), names.join(" "))
}
