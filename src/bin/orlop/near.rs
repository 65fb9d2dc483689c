//! What somebody may have meant who mistyped a name.

use orlop::Store;
use orlop::oci::{LayoutName, RepositoryName};

use crate::reference::{Selector, Target};

/// How many rows are asked for at once, and how many of a repository are looked at.
const PAGE: usize = 1000;
const MOST: usize = 20_000;
/// How many are offered.
const SHOWN: usize = 3;

/// References that are spelled nearly like the target, the nearest first. Looking for them is no reason to fail.
pub(crate) fn near(store: &Store, target: &Target) -> Vec<String> {
    let Selector::Name(name) = &target.selector else { return Vec::new() };
    let LayoutName::Tag(repository, tag) = LayoutName::parse(name) else { return Vec::new() };
    let mut found = Nearest::new(tag.as_str());
    tags(store, &repository, &mut found);
    let mut shown: Vec<String> = found
        .names()
        .filter_map(|tag| tag.parse().ok())
        .map(|tag| target.by_tag(&repository, &tag))
        .collect();
    if shown.is_empty() && !repository.is_unnamed() {
        let mut found = Nearest::new(repository.as_str());
        repositories(store, &mut found);
        let with_tag = |name: &str| {
            let name: RepositoryName = name.parse().ok()?;
            let is_there = store.repository(&name).resolve(&tag).ok().flatten().is_some();
            is_there.then(|| target.by_tag(&name, &tag))
        };
        shown.extend(found.names().filter_map(with_tag));
    }
    shown
}

/// Repositories that are spelled nearly like one that is not there, the nearest first.
pub(crate) fn near_repositories(store: &Store, repository: &RepositoryName) -> Vec<String> {
    let mut found = Nearest::new(repository.as_str());
    repositories(store, &mut found);
    found.names().map(str::to_owned).collect()
}

/// The beginning of a hint that offers them.
pub(crate) fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) }
}

fn tags(store: &Store, repository: &RepositoryName, found: &mut Nearest<'_>) {
    let repository = store.repository(repository);
    let mut after: Option<String> = None;
    for _ in 0..MOST / PAGE {
        let Ok(page) = repository.tags(after.as_deref(), PAGE) else { return };
        for entry in &page.items {
            found.offer(entry.tag.as_str());
        }
        after = page.items.last().map(|entry| entry.tag.to_string());
        if !page.more {
            return;
        }
    }
}

fn repositories(store: &Store, found: &mut Nearest<'_>) {
    let mut after: Option<RepositoryName> = None;
    for _ in 0..MOST / PAGE {
        let Ok(page) = store.repositories(after.as_ref(), PAGE) else { return };
        for name in &page.items {
            found.offer(name.as_str());
        }
        after = page.items.last().cloned();
        if !page.more {
            return;
        }
    }
}

/// The few names that are nearest to a text.
struct Nearest<'a> {
    text: &'a str,
    limit: usize,
    found: Vec<(usize, String)>,
}

impl<'a> Nearest<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, limit: (1 + text.len() / 5).min(3), found: Vec::new() }
    }

    fn offer(&mut self, name: &str) {
        // The one as it stands is no advice; it is there for another reason.
        if name == self.text || name.len().abs_diff(self.text.len()) > self.limit {
            return;
        }
        let distance = if name.eq_ignore_ascii_case(self.text) {
            0
        } else {
            distance(name.as_bytes(), self.text.as_bytes())
        };
        if distance <= self.limit && distance < self.text.len().max(name.len()) {
            self.found.push((distance, name.to_owned()));
            self.found.sort();
            self.found.truncate(SHOWN);
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|(_, name)| name.as_str())
    }
}

/// How many letters have to be changed, left out or put in.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (pair, wanted) in row.windows(2).zip(other) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            left = (diagonal + usize::from(letter != wanted)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("v1", "v11", 1),
            ("v1", "v2", 1),
            ("latest", "lates", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(distance(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
        }
    }

    #[test]
    fn only_what_is_near_is_offered() {
        let nearest = |text: &str, names: &[&str]| {
            let mut found = Nearest::new(text);
            names.iter().for_each(|name| found.offer(name));
            found.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(nearest("latst", &["latest", "v1", "lasts", "stable"]), ["latest", "lasts"]);
        assert_eq!(nearest("V1", &["a", "v1", "v2", "v10"]), ["v1"]);
        assert_eq!(nearest("v1.2.4", &["v1.2.1", "v1.2.2", "v1.2.3", "v1.2.5", "v2.0.0"]).len(), 3);
        assert_eq!(nearest("x", &["a", "b", "xy"]), ["xy"]);
    }
}
