//! Everything that a store shows, one fact a line, read to the last byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plain::{Plain, names_are_hashes};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::RepositoryName;
use crate::store::{Change, Events, LeaseEntry, Order, Page, Quota, Repository, Store, UploadStatus, usage};

/// The label of leases that are shown; others come and go within one operation.
pub(super) const KEPT: &str = "kept";

/// The facts that a store shows.
pub(super) type State = BTreeSet<String>;

/// Reads all of a store; every content is hashed, and must be whole, and the counters must be what counting gives.
pub(super) fn state(store: &Store) -> Result<State> {
    let (state, hurt) = state_and_hurt(store)?;
    hurt.into_values().next().map_or(Ok(state), Err)
}

/// As [`state`], with the contents that are listed and not whole.
pub(super) fn state_and_hurt(store: &Store) -> Result<(State, BTreeMap<Digest, Error>)> {
    let (mut state, mut hurt) = (State::new(), BTreeMap::new());
    if let Some((_, difference)) = usage::differences(&store.core().metadata.snapshot())?.first() {
        return Err(Error::corrupt(format!("the usage is not what counting gives, {difference}")));
    }
    for upload in all(|after: Option<&UploadStatus>| store.uploads(after.map(|upload| &upload.id), 100))? {
        state.insert(format!("{} upload {} {}", upload.repository, upload.offset, saved(store, &upload)?));
    }
    let leases = all(|after: Option<&LeaseEntry>| store.leases(after.map(|lease| &lease.id), 100))?;
    for lease in leases.iter().filter(|lease| lease.label == KEPT) {
        state.insert(format!("lease of {}", lease.contents));
    }
    if store.quota()? != Quota::default() {
        state.insert(format!("quota {:?}", store.quota()?));
    }
    let names = all(|after: Option<&RepositoryName>| store.repositories(after, 100))?;
    for name in names {
        let here = store.repository(&name);
        if let Some(policy) = here.retention()? {
            state.insert(format!("{name} policy {policy:?}"));
        }
        if here.quota()? != Quota::default() {
            state.insert(format!("{name} quota {:?}", here.quota()?));
        }
        let mut tags: Option<String> = None;
        loop {
            let page = here.tags(tags.as_deref(), 100)?;
            for entry in &page.items {
                state.insert(format!("{name} tag {} {}", entry.tag, entry.digest));
            }
            tags = page.items.last().map(|entry| entry.tag.to_string());
            if !page.more {
                break;
            }
        }
        let mut manifests: Option<Digest> = None;
        loop {
            let page = here.manifests(manifests.as_ref(), 100)?;
            for found in &page.items {
                whole(&here, &found.digest, &mut hurt)?;
                state.insert(format!("{name} manifest {}", found.digest));
                let referrers = here.referrers(&found.digest).limit(1000).order(Order::Insertion).page()?;
                for referrer in referrers.descriptors {
                    state.insert(format!("{name} referrer {} {}", found.digest, referrer.digest));
                }
            }
            manifests = page.items.last().map(|found| found.digest);
            if !page.more {
                break;
            }
        }
        let mut blobs: Option<Digest> = None;
        loop {
            let page = here.contents(blobs.as_ref(), 100)?;
            for found in &page.items {
                whole(&here, &found.digest, &mut hurt)?;
                state.insert(format!("{name} blob {}", found.digest));
            }
            blobs = page.items.last().map(|found| found.digest);
            if !page.more {
                break;
            }
        }
    }
    Ok((state, hurt))
}

/// The hash of what a session has, from its file.
fn saved(store: &Store, upload: &UploadStatus) -> Result<Digest> {
    if upload.offset == 0 {
        return Ok(Digest::of(b""));
    }
    let path = store.root().join(format!(".orlop/ingest/upload-{}", upload.id));
    let bytes = std::fs::read(&path).map_err(|error| Error::io("read the upload", &path, error))?;
    let saved = usize::try_from(upload.offset).ok().and_then(|end| bytes.get(..end));
    let short = || Error::corrupt(format!("upload is shorter than what was saved, id={}", upload.id));
    saved.map(Digest::of).ok_or_else(short)
}

fn whole(repository: &Repository, digest: &Digest, hurt: &mut BTreeMap<Digest, Error>) -> Result<()> {
    let absent = || Error::corrupt(format!("content that is listed is not there, digest={digest}"));
    let reader = repository.reader(digest).and_then(|found| found.ok_or_else(absent));
    match reader.and_then(|reader| reader.verify()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            hurt.insert(*digest, error);
            Ok(())
        }
        other => other,
    }
}

fn all<T>(mut page: impl FnMut(Option<&T>) -> Result<Page<T>>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    loop {
        let mut found = page(items.last())?;
        items.append(&mut found.items);
        if !found.more {
            return Ok(items);
        }
    }
}

/// What must hold of the files whenever nobody is writing: names hash, nothing dangles, and, with a state, every tag of it
/// is published. The content that `except` names may be any.
pub(super) fn check_files(
    root: &Path,
    published: Option<&State>,
    except: &BTreeSet<String>,
) -> std::result::Result<(), String> {
    names_are_hashes(root, except)?;
    let plain = Plain::read_except(root, except)?;
    for fact in published.into_iter().flatten() {
        let words: Vec<&str> = fact.split(' ').collect();
        if let [repository, "tag", tag, digest] = words[..] {
            let name = if repository.is_empty() { tag.to_owned() } else { format!("{repository}:{tag}") };
            if plain.names.get(&name).map(String::as_str) != Some(digest) {
                return Err(format!("index.json has {:?} for {name}, not {digest}", plain.names.get(&name)));
            }
        }
    }
    Ok(())
}

/// Events and state are the same story: what the events of a tag come to is what it names. In a feed that began with the
/// store, every tag and manifest has its events.
pub(super) fn events_agree(store: &Store, is_complete: bool) -> std::result::Result<(), String> {
    let mut told: BTreeMap<String, Option<String>> = BTreeMap::new();
    let page = store.events(None, usize::MAX).map_err(|error| format!("events cannot be read: {error}"))?;
    let Events::Next(events) = page else { return Err(format!("events: {page:?}")) };
    for event in events {
        match event.change {
            Change::ManifestPushed { repository, digest, .. } => {
                told.insert(format!("{repository} manifest {digest}"), Some(String::new()));
            }
            Change::ManifestDeleted { repository, digest } => {
                told.insert(format!("{repository} manifest {digest}"), None);
            }
            Change::TagChanged { repository, tag, previous, current } => {
                let current = current.map(|digest| format!(" {digest}"));
                let before = told.insert(format!("{repository} tag {tag}"), current);
                let previous = previous.map(|digest| format!(" {digest}"));
                if before.as_ref().is_some_and(|before| *before != previous) {
                    return Err(format!("an event of {tag} is missing: {before:?}, then {previous:?}"));
                }
            }
            Change::RepositoryDeleted { repository } => {
                let prefix = format!("{repository} ");
                told.iter_mut()
                    .filter(|(key, _)| key.starts_with(&prefix))
                    .for_each(|(_, value)| *value = None);
            }
        }
    }
    let (found, _) = state_and_hurt(store).map_err(|error| error.to_string())?;
    for (key, value) in &told {
        let holds = match value {
            Some(value) => found.contains(&format!("{key}{value}")),
            None => !found.iter().any(|fact| fact.starts_with(key.as_str())),
        };
        if !holds {
            return Err(format!("the events say {value:?} of {key}"));
        }
    }
    for fact in found.iter().filter(|_| is_complete) {
        let words: Vec<&str> = fact.split(' ').collect();
        if let [repository, kind @ ("tag" | "manifest"), name, ..] = words[..]
            && !told.contains_key(&format!("{repository} {kind} {name}"))
        {
            return Err(format!("no event tells of {fact}"));
        }
    }
    Ok(())
}

/// What of two states differs, in a line.
pub(super) fn difference(expected: &State, found: &State) -> String {
    let lost: Vec<&String> = expected.difference(found).take(3).collect();
    let more: Vec<&String> = found.difference(expected).take(3).collect();
    format!("lost {lost:?}, unexpected {more:?}")
}
