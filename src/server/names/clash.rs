//! Names that stand for more than one thing.

use std::fmt;

use super::Layout;
use super::table::{Alias, Table, Target};
use crate::Result;
use crate::oci::RepositoryName;

/// As many are told.
const KEPT: usize = 1000;
/// Repositories that are listed together.
const PAGE: usize = 1000;

/// A name that stands for more than one thing, of which one is served.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Clash {
    /// The name in requests.
    pub name: RepositoryName,
    /// What it stands for.
    pub served: String,
    /// What is not served under it. Of a host, requests that say so by `ns` get it all the same.
    pub hidden: Vec<String>,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, served, hidden } = self;
        write!(f, "a name stands for more than one thing, name={name}, served={served}, hidden=")?;
        f.write_str(&hidden.join(", "))
    }
}

pub(super) fn find(layouts: &[Layout], table: &Table) -> Result<Vec<Clash>> {
    let mut clashes = Vec::new();
    for (path, aliases) in table.paths() {
        let Ok(name) = path.parse::<RepositoryName>() else { continue };
        let mut meant = own(layouts, &name)?;
        meant.extend(aliases.iter().map(|alias| of_alias(layouts, path, alias)));
        push(&mut clashes, name, meant);
        if clashes.len() >= KEPT {
            return Ok(clashes);
        }
    }
    // What is told already has a path in the table.
    for (index, layout) in layouts.iter().enumerate() {
        if let Some(unnamed) = layout.unnamed.as_ref().filter(|unnamed| !table.has(unnamed.as_str())) {
            push(&mut clashes, unnamed.clone(), own(layouts, unnamed)?);
        }
        let others = layouts.get(index + 1..).unwrap_or_default();
        let mut after: Option<RepositoryName> = None;
        while !others.is_empty() && clashes.len() < KEPT {
            let page = layout.list(after.as_ref(), PAGE)?;
            for name in page.items.iter().filter(|name| !table.has(name.as_str())) {
                if Some(name) != layout.unnamed.as_ref() && layout.repository(name).exists()? {
                    push(&mut clashes, name.clone(), own(layouts, name)?);
                }
            }
            if !page.more {
                break;
            }
            after = page.items.last().cloned();
        }
    }
    clashes.sort_by(|a, b| a.name.cmp(&b.name));
    clashes.dedup();
    clashes.truncate(KEPT);
    Ok(clashes)
}

fn push(clashes: &mut Vec<Clash>, name: RepositoryName, meant: Vec<String>) {
    let mut meant = meant.into_iter();
    if let Some(served) = meant.next() {
        let hidden: Vec<String> = meant.collect();
        if !hidden.is_empty() {
            clashes.push(Clash { name, served, hidden });
        }
    }
}

/// The repositories that go by a name, in their order.
fn own(layouts: &[Layout], name: &RepositoryName) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for layout in layouts {
        let store = layout.store();
        let root = store.root().display();
        if layout.unnamed.as_ref() == Some(name) && store.default_repository().exists()? {
            found.push(format!("{root} (without a name)"));
        }
        if store.repository(name).exists()? {
            found.push(format!("{root}:{name}"));
        }
    }
    Ok(found)
}

fn of_alias(layouts: &[Layout], path: &str, alias: &Alias) -> String {
    let root = layouts.get(alias.layout).map(|layout| layout.store().root().display().to_string());
    let root = root.unwrap_or_default();
    match &alias.target {
        Target::Repository(name) => format!("{root}:{name}"),
        Target::Entries(_) => format!("{root}:{}/{path}", alias.host),
    }
}
