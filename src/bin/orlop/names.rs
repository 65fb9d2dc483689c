//! What copies are called at their destination, decided and checked before anything is transferred.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches};
use orlop::Digest;
use orlop::oci::{LayoutName, RepositoryName, Tag};

use crate::args::{flag, option, values};
use crate::error::Failure;
use crate::output::plain;
use crate::reference::usage;

/// How repositories of the source are called at the destination.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Naming {
    /// Beginnings of names, and what stands there instead.
    maps: Vec<(String, String)>,
    prefix: Option<RepositoryName>,
    tag_only: bool,
}

/// One manifest, with where it is from and what it is called at the destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Move {
    /// The source, by its place among those that were opened.
    pub(crate) source: usize,
    pub(crate) from: RepositoryName,
    pub(crate) root: Digest,
    pub(crate) to: RepositoryName,
    pub(crate) tags: Vec<Tag>,
    /// As the user named it.
    pub(crate) shown: String,
}

impl Naming {
    pub(crate) fn declare() -> [Arg; 3] {
        [
            option(
                "map",
                "FROM=TO",
                "Call the repository FROM, and those below it, TO at the destination; an empty FROM is the unnamed one",
            )
            .action(ArgAction::Append),
            option("prefix", "REPOSITORY", "Put the repositories of the destination below this one"),
            flag("tag-only", "Keep only tags: everything goes to the unnamed repository")
                .conflicts_with_all(["map", "prefix"]),
        ]
    }

    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let mut maps = Vec::new();
        for text in values(matches, "map") {
            let (from, to) = text.split_once('=').ok_or_else(|| {
                Failure::usage(format!("a map is FROM=TO, map={text}"))
                    .with_hint("as --map library=mirror/library")
            })?;
            for name in [from, to].into_iter().filter(|name| !name.is_empty()) {
                name.parse::<RepositoryName>().map_err(|error| usage(&error))?;
            }
            maps.push((from.to_owned(), to.to_owned()));
        }
        // The longest beginning is the most particular one.
        maps.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        let prefix: Option<String> = crate::args::value(matches, "prefix");
        let prefix = prefix.map(|prefix| prefix.trim_end_matches('/').parse());
        let prefix = prefix.transpose().map_err(|error| usage(&error))?;
        Ok(Self { maps, prefix, tag_only: matches.get_flag("tag-only") })
    }

    /// Whether names stay what they are.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What a repository of the source is called.
    pub(crate) fn apply(&self, from: &RepositoryName) -> Result<RepositoryName, Failure> {
        if self.tag_only {
            return Ok(RepositoryName::unnamed());
        }
        let name = from.as_str();
        let mapped = self.maps.iter().find_map(|(from, to)| {
            let rest = name.strip_prefix(from.as_str())?;
            let fits = rest.is_empty() || !from.is_empty() && rest.starts_with('/');
            fits.then(|| format!("{to}{rest}").trim_start_matches('/').to_owned())
        });
        let mapped = mapped.unwrap_or_else(|| name.to_owned());
        let parts: Vec<&str> = self
            .prefix
            .as_ref()
            .map(RepositoryName::as_str)
            .into_iter()
            .chain([mapped.as_str()])
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(RepositoryName::unnamed());
        }
        parts.join("/").parse().map_err(|error| usage(&error))
    }
}

/// Refuses names that would stand for two things; leaves out what is there twice.
pub(crate) fn settle(moves: Vec<Move>) -> Result<Vec<Move>, Failure> {
    let mut names: BTreeMap<(RepositoryName, Tag), (Digest, String)> = BTreeMap::new();
    let mut settled: Vec<Move> = Vec::with_capacity(moves.len());
    for one in moves {
        for tag in &one.tags {
            let before =
                names.entry((one.to.clone(), tag.clone())).or_insert_with(|| (one.root, one.shown.clone()));
            if before.0 != one.root {
                let name = LayoutName::of(&one.to, tag).to_string();
                return Err(Failure::usage(format!(
                    "two sources would have the same name, nothing was copied, name={name}, one={}, other={}",
                    plain(&before.1),
                    plain(&one.shown)
                ))
                .with_hint("tell them apart with --map FROM=TO, or copy them one by one under other names"));
            }
        }
        if !settled.contains(&one) {
            settled.push(one);
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn naming(maps: &[(&str, &str)], prefix: &str, tag_only: bool) -> Naming {
        let mut maps: Vec<_> = maps.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        maps.sort_by_key(|(from, _): &(String, String)| std::cmp::Reverse(from.len()));
        Naming { maps, prefix: prefix.parse().ok(), tag_only }
    }

    #[test]
    fn repositories_are_renamed() {
        let name = |naming: &Naming, from: &str| {
            let from = from.parse().unwrap_or_default();
            naming.apply(&from).unwrap().to_string()
        };
        let plain = naming(&[], "", false);
        assert_eq!(name(&plain, "a/b"), "a/b");
        assert_eq!(name(&plain, ""), "");
        let mapped = naming(&[("a", "x"), ("a/b", "y/z"), ("", "app")], "", false);
        for (from, to) in [("a", "x"), ("a/c", "x/c"), ("a/b/c", "y/z/c"), ("ab", "ab"), ("", "app")] {
            assert_eq!(name(&mapped, from), to, "{from}");
        }
        assert_eq!(name(&naming(&[("a", "")], "", false), "a/b"), "b");
        assert_eq!(name(&naming(&[("a", "")], "", false), "a"), "");
        assert_eq!(name(&naming(&[("a", "x")], "top/m", false), "a/b"), "top/m/x/b");
        assert_eq!(name(&naming(&[], "top", false), ""), "top");
        assert_eq!(name(&naming(&[], "", true), "a/b"), "");
    }

    #[test]
    fn a_name_stands_for_one_thing() {
        let one = |root: &str, tag: &str, shown: &str| Move {
            source: 0,
            from: RepositoryName::unnamed(),
            root: Digest::of(root.as_bytes()),
            to: RepositoryName::unnamed(),
            tags: vec![tag.parse().unwrap()],
            shown: shown.into(),
        };
        let two = [one("1", "v1", "a"), one("1", "v1", "a"), one("1", "v2", "a"), one("2", "v3", "b")];
        assert_eq!(settle(two.to_vec()).unwrap().len(), 3);
        let failure = settle(vec![one("1", "v1", "a"), one("2", "v1", "b")]).unwrap_err();
        assert!(failure.chain().ends_with("name=v1, one=a, other=b"), "{}", failure.chain());
    }
}
