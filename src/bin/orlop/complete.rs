//! `orlop __complete WORD`: what a reference may go on with, a line each, for the scripts of `orlop completion`.
//!
//! Someone waits with a finger on a key, and a layout may be anyone's and of any size: so it answers with a bounded
//! number of names after a bounded time, says nothing when something is wrong, and names nothing that a shell would take
//! for more than a name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use orlop::oci::RepositoryName;
use orlop::{Options, ReadMode, Store};
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::output;

/// The word that asks for candidates. No verb: it stands in no help.
pub(crate) const VERB: &str = "__complete";

const LIMIT: usize = 500;
const PATIENCE: Duration = Duration::from_secs(2);
/// An index.json that is read at once.
const INDEX: u64 = 16 << 20;
const SCHEMES: [&str; 2] = ["oci:", "ocidir://"];

/// Prints the candidates for the last word.
pub(crate) fn run(words: impl Iterator<Item = OsString>) {
    let Some(word) = words.last().and_then(|word| word.into_string().ok()) else { return };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(candidates(&word)));
    let found = receiver.recv_timeout(PATIENCE).unwrap_or_default();
    let lines: String = found.iter().take(LIMIT).map(|one| format!("{one}\n")).collect();
    // Nobody is left to be told.
    let _ = output::stdout(&lines);
}

fn candidates(word: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if word == "oci" {
        found.insert("oci:".to_owned());
        return found;
    }
    let (scheme, rest) = SCHEMES
        .into_iter()
        .find_map(|scheme| word.strip_prefix(scheme).map(|rest| (scheme, rest)))
        .unwrap_or(("", word));
    match rest.split_once(':') {
        Some((directory, name)) => {
            let names = names(Path::new(directory), name).unwrap_or_default();
            found.extend(names.into_iter().map(|name| format!("{scheme}{directory}:{name}")));
        }
        None if !scheme.is_empty() => {
            found.extend(directories(rest).into_iter().map(|path| format!("{scheme}{path}")));
        }
        None => {}
    }
    found.retain(|one| is_harmless(one));
    found
}

/// Whether it is a name to every shell: what comes from a layout is put onto the command line as it is.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "._/:@+-=,%".contains(c))
}

fn is_layout(path: &Path) -> bool {
    [".orlop", "oci-layout", "index.json"].iter().any(|name| path.join(name).exists())
}

/// Layouts, and with a slash behind them other directories, that begin with a text.
#[expect(clippy::disallowed_methods, reason = "directories of the user, no part of a store")]
fn directories(text: &str) -> Vec<String> {
    let (parent, start) = text.rfind('/').map_or(("", text), |at| text.split_at(at + 1));
    let Ok(entries) = std::fs::read_dir(if parent.is_empty() { "." } else { parent }) else {
        return Vec::new();
    };
    let is_wanted = |name: &str| {
        name.starts_with(start) && !name.contains(':') && (start.starts_with('.') || !name.starts_with('.'))
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let directories = names.filter(|name| is_wanted(name)).filter_map(|name| {
        let path = format!("{parent}{name}");
        match Path::new(&path) {
            directory if !directory.is_dir() => None,
            directory if is_layout(directory) => Some(path),
            _ => Some(path + "/"),
        }
    });
    directories.take(LIMIT).collect()
}

/// What a name in a layout may go on with.
fn names(directory: &Path, start: &str) -> Option<Vec<String>> {
    if start.contains('@') || !is_layout(directory) {
        return None;
    }
    if !directory.join(".orlop").is_dir() {
        let names = published(directory)?;
        return Some(names.into_iter().filter(|name| name.starts_with(start)).collect());
    }
    let store = Options::new().read_mode(ReadMode::Copy).open_read_only(directory).ok()?;
    if let Some((repository, tag)) = start.rsplit_once(':') {
        let tags = tags(&store, &repository.parse().ok()?, tag);
        return Some(tags.into_iter().map(|tag| format!("{repository}:{tag}")).collect());
    }
    let mut found = tags(&store, &RepositoryName::unnamed(), start);
    found.extend(repositories(&store, start).into_iter().map(|name| format!("{name}:")));
    Some(found)
}

fn tags(store: &Store, repository: &RepositoryName, start: &str) -> Vec<String> {
    let repository = store.repository(repository);
    let exact = start.parse().ok().filter(|tag| matches!(repository.resolve(tag), Ok(Some(_))));
    let mut found: Vec<String> = exact.iter().map(ToString::to_string).collect();
    // In byte order what begins with the text comes directly behind it.
    if let Ok(page) = repository.tags(Some(start).filter(|start| !start.is_empty()), LIMIT) {
        let tags = page.items.iter().map(|entry| entry.tag.to_string());
        found.extend(tags.take_while(|tag| tag.starts_with(start)));
    }
    found
}

fn repositories(store: &Store, start: &str) -> Vec<String> {
    // A name cannot end in a separator, so that the page begins at a name just before or behind it.
    let after = [start.to_owned(), start.trim_end_matches('-').to_owned(), format!("{start}0")];
    let after = after.iter().find_map(|name| name.parse::<RepositoryName>().ok());
    let is_there = |name: &RepositoryName| {
        store.repository(name).manifests(None, 1).is_ok_and(|page| !page.items.is_empty())
    };
    let mut names: Vec<RepositoryName> = after.iter().filter(|name| is_there(name)).cloned().collect();
    if let Ok(page) = store.repositories(after.as_ref(), LIMIT) {
        names.extend(page.items);
    }
    let names = names.iter().filter(|name| !name.is_unnamed()).map(ToString::to_string);
    names.filter(|name| name.starts_with(start)).collect()
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
}

/// The names in the index.json of a layout without metadata. Nothing is hashed for them.
#[expect(
    clippy::disallowed_methods,
    reason = "read here without hashing anything or leaving anything behind"
)]
fn published(directory: &Path) -> Option<Vec<String>> {
    // Not blocking, in case it is a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file: File =
        OpenOptions::new().read(true).custom_flags(flags).open(directory.join("index.json")).ok()?;
    if file.metadata().ok().filter(std::fs::Metadata::is_file).is_none_or(|found| found.len() > INDEX) {
        return None;
    }
    let mut text = Vec::new();
    file.take(INDEX).read_to_end(&mut text).ok()?;
    let index: Index = serde_json::from_slice(&text).ok()?;
    Some(index.manifests.into_iter().filter_map(|entry| entry.annotations?.name).collect())
}
