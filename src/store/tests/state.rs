//! Everything that a store shows, one fact a line, read to the last byte.

use std::collections::BTreeSet;
use std::path::Path;

use super::plain::{Plain, names_are_hashes};
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::RepositoryName;
use crate::store::{Order, Page, Repository, Store};

/// The facts that a store shows.
pub(super) type State = BTreeSet<String>;

/// Reads all of a store; every content is hashed.
pub(super) fn state(store: &Store) -> Result<State> {
    let mut state = State::new();
    let names = all(|after: Option<&RepositoryName>| store.repositories(after, 100))?;
    for name in names {
        let here = store.repository(&name);
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
                whole(&here, &found.digest)?;
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
                whole(&here, &found.digest)?;
                state.insert(format!("{name} blob {}", found.digest));
            }
            blobs = page.items.last().map(|found| found.digest);
            if !page.more {
                break;
            }
        }
    }
    Ok(state)
}

fn whole(repository: &Repository, digest: &Digest) -> Result<()> {
    let reader = repository.reader(digest)?.ok_or_else(|| {
        crate::error::Error::corrupt(format!("content that is listed is not there, digest={digest}"))
    })?;
    reader.verify()
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
/// is published.
pub(super) fn check_files(root: &Path, published: Option<&State>) -> std::result::Result<(), String> {
    names_are_hashes(root, &BTreeSet::new())?;
    let plain = Plain::read(root)?;
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

/// What of two states differs, in a line.
pub(super) fn difference(expected: &State, found: &State) -> String {
    let lost: Vec<&String> = expected.difference(found).take(3).collect();
    let more: Vec<&String> = found.difference(expected).take(3).collect();
    format!("lost {lost:?}, unexpected {more:?}")
}
