//! Which packages an image needs: what is essential, and everything that depends on from there.
//!
//! As simple as it can be and still give what `apt-get install --no-install-recommends` gives for the roles here: the highest
//! version of each name, the first alternative that is there. Conflicts are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::control::{self, Stanza, Wanted};
use crate::version;

/// A package as an index of the archive has it.
#[derive(Clone, Debug)]
pub struct Available {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture, or `all`.
    pub architecture: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// Its SHA-256, in lower case hexadecimal.
    pub sha256: String,
    depends: String,
    provides: String,
    essential: bool,
}

/// The newest version of every package of a suite.
#[derive(Debug, Default)]
pub struct Index {
    /// Names and versions of all packages, the older ones too.
    versions: BTreeSet<(String, String)>,
    packages: BTreeMap<String, Available>,
    /// Names of packages that provide a virtual one, with the version they provide.
    providers: BTreeMap<String, Vec<(String, Option<String>)>>,
}

impl Index {
    /// Takes in a `Packages` file.
    pub fn add(&mut self, text: &str) -> Result<()> {
        for stanza in control::stanzas(text) {
            let package = available(&stanza?)?;
            self.versions.insert((package.name.clone(), package.version.clone()));
            let newer = |known: &Available| version::compare(&known.version, &package.version).is_lt();
            if self.packages.get(&package.name).is_none_or(newer) {
                self.packages.insert(package.name.clone(), package);
            }
        }
        Ok(())
    }

    /// Call once after the last `add`: only what is newest provides anything.
    pub fn finish(&mut self) -> Result<()> {
        for package in self.packages.values() {
            for provided in control::relations(&package.provides)?.into_iter().flatten() {
                let version = provided.bound.map(|(_, version)| version);
                self.providers.entry(provided.name).or_default().push((package.name.clone(), version));
            }
        }
        Ok(())
    }

    /// The package of this name, if it is there.
    pub fn get(&self, name: &str) -> Option<&Available> {
        self.packages.get(name)
    }

    /// Whether the archive has this version, the newest or not.
    pub fn has(&self, name: &str, version: &str) -> bool {
        self.versions.contains(&(name.to_owned(), version.to_owned()))
    }

    /// Names of the packages that every system has.
    pub fn essential(&self) -> impl Iterator<Item = &str> {
        self.packages.values().filter(|package| package.essential).map(|package| package.name.as_str())
    }

    /// Adds packages by name, and all they depend on, to `chosen`.
    pub fn choose(&self, names: &[&str], chosen: &mut BTreeSet<String>) -> Result<()> {
        let mut queue = Vec::new();
        for &name in names {
            let package = self.get(name).with_context(|| format!("no such package, package={name}"))?;
            if chosen.insert(package.name.clone()) {
                queue.push(package);
            }
        }
        while let Some(package) = queue.pop() {
            let clauses = control::relations(&package.depends)
                .with_context(|| format!("package={} version={}", package.name, package.version))?;
            for clause in clauses {
                if clause.iter().any(|wanted| self.satisfied(wanted, chosen)) {
                    continue;
                }
                let Some(found) = clause.iter().find_map(|wanted| self.candidate(wanted)) else {
                    bail!("a dependency is not there, package={} clause={clause:?}", package.name);
                };
                if chosen.insert(found.name.clone()) {
                    queue.push(found);
                }
            }
        }
        Ok(())
    }

    fn satisfied(&self, wanted: &Wanted, chosen: &BTreeSet<String>) -> bool {
        self.answers(wanted).any(|package| chosen.contains(&package.name))
    }

    fn candidate(&self, wanted: &Wanted) -> Option<&Available> {
        self.answers(wanted).next()
    }

    /// The package of the name itself, then those that provide it.
    fn answers<'a, 'b>(&'a self, wanted: &'b Wanted) -> impl Iterator<Item = &'a Available> + use<'a, 'b> {
        let real = self.get(&wanted.name).filter(|package| wanted.admits(&package.version));
        let provided = self.providers.get(&wanted.name).into_iter().flatten();
        let provided = provided.filter(|(_, version)| match version {
            Some(version) => wanted.admits(version),
            None => wanted.bound.is_none(),
        });
        real.into_iter().chain(provided.filter_map(|(name, _)| self.get(name)))
    }
}

fn available(stanza: &Stanza) -> Result<Available> {
    let text = |name| stanza.get(name).unwrap_or_default().to_owned();
    let name = stanza.need("package")?.to_owned();
    let size = stanza.need("size")?;
    let size = size.parse().with_context(|| format!("not a size, package={name} size={size:?}"))?;
    let sha256 = stanza.need("sha256")?.to_owned();
    if sha256.len() != 64
        || !sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        bail!("not a SHA-256, package={name} sha256={sha256:?}");
    }
    Ok(Available {
        version: stanza.need("version")?.to_owned(),
        architecture: stanza.need("architecture")?.to_owned(),
        size,
        sha256,
        depends: format!("{},{}", text("pre-depends"), text("depends")),
        provides: text("provides"),
        essential: stanza.get("essential") == Some("yes"),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(packages: &[(&str, &str, &str)]) -> Index {
        let mut index = Index::default();
        for (name, version, more) in packages {
            let sha256 = "0".repeat(64);
            index
                .add(&format!("Package: {name}\nVersion: {version}\nArchitecture: all\nSize: 1\nSHA256: {sha256}\n{more}\n"))
                .expect("package");
        }
        index.finish().expect("index");
        index
    }

    fn chosen(index: &Index, names: &[&str]) -> Result<Vec<String>> {
        let mut chosen = BTreeSet::new();
        index.choose(names, &mut chosen)?;
        Ok(chosen.into_iter().collect())
    }

    #[test]
    fn what_is_depended_on_comes_too_and_loops_end() {
        let index = index(&[
            ("a", "1", "Depends: b"),
            ("b", "1", "Pre-Depends: c\nDepends: a"),
            ("c", "1", ""),
            ("d", "1", ""),
        ]);
        assert_eq!(chosen(&index, &["a"]).expect("resolved"), ["a", "b", "c"]);
    }

    #[test]
    fn the_first_alternative_that_is_there_is_taken_unless_another_is_chosen_already() {
        let index = index(&[
            ("a", "1", "Depends: gone | b | c"),
            ("b", "1", ""),
            ("c", "1", ""),
            ("d", "1", "Depends: c, a"),
        ]);
        assert_eq!(chosen(&index, &["a"]).expect("resolved"), ["a", "b"]);
        assert_eq!(chosen(&index, &["d"]).expect("resolved"), ["a", "c", "d"]);
    }

    #[test]
    fn the_newest_version_is_taken_and_bounds_hold() {
        let index = index(&[
            ("a", "1.9", ""),
            ("a", "1.10", ""),
            ("b", "1", "Depends: a (>= 1.10)"),
            ("c", "1", "Depends: a (<< 1.10)"),
        ]);
        assert_eq!(index.get("a").expect("there").version, "1.10");
        assert!(index.has("a", "1.9") && index.has("a", "1.10") && !index.has("a", "1.8"));
        chosen(&index, &["b"]).expect("resolved");
        let error = chosen(&index, &["c"]).expect_err("out of bounds").to_string();
        assert!(error.contains("package=c"), "{error}");
    }

    #[test]
    fn virtual_packages_are_provided() {
        let index = index(&[
            ("a", "1", "Depends: mail, abi (= 3)"),
            ("b", "1", "Provides: mail, abi (= 2)"),
            ("c", "1", "Provides: abi (= 3)"),
            ("d", "1", "Depends: mail (>= 1)"),
        ]);
        assert_eq!(chosen(&index, &["a"]).expect("resolved"), ["a", "b", "c"]);
        chosen(&index, &["d"]).expect_err("a package without version provides no version");
    }

    #[test]
    fn what_is_essential_is_known() {
        let index = index(&[("a", "1", "Essential: yes"), ("b", "1", "Essential: no"), ("c", "1", "")]);
        assert_eq!(index.essential().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn an_index_that_is_not_one_is_refused() {
        for more in ["Size: x\nSHA256: 0", "Size: 1\nSHA256: 00", "Size: 1", "SHA256: 0"] {
            let text = format!("Package: a\nVersion: 1\nArchitecture: all\n{more}\n");
            Index::default().add(&text).expect_err(more);
        }
    }
}
