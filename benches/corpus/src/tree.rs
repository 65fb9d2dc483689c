//! What the packages of a layer make together, as a filesystem would have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::deb::{Entry, Kind, Package};

/// Links from directory to directory lead at most this far.
const LINKS: usize = 16;

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub enum Content {
    /// A range of the archive of a package.
    Packaged(Arc<Package>, std::ops::Range<usize>),
    /// Made here.
    Made(Vec<u8>),
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Packaged(package, range) => package.data.get(range.clone()).unwrap_or_default(),
            Self::Made(bytes) => bytes,
        }
    }

    /// Tells files that are one and the same from those that only have the same bytes.
    pub fn identity(&self) -> Option<(usize, usize)> {
        match self {
            Self::Packaged(package, range) if !range.is_empty() => {
                Some((Arc::as_ptr(package).addr(), range.start))
            }
            _ => None,
        }
    }
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum What {
    /// A directory.
    Directory,
    /// A file.
    File(Content),
    /// A symbolic link.
    Symlink(Vec<u8>),
}

/// A path's entry.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is there.
    pub what: What,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub user: u64,
    /// Group.
    pub group: u64,
    /// Seconds since 1970.
    pub modified: u64,
}

/// A layer before it is an archive: in order of its paths, so that it is the same however it came to be.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Symbolic links of the layers below.
    below: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Tree {
    /// A layer that stands on others: their symbolic links are followed where a path leads through them.
    pub fn above(links: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self { nodes: BTreeMap::new(), below: links.into_iter().collect() }
    }

    /// Installs a package. What comes later replaces a file that is there; directories are joined.
    pub fn install(&mut self, package: &Arc<Package>) -> Result<()> {
        for entry in &package.entries {
            self.place(package, entry)?;
        }
        Ok(())
    }

    fn place(&mut self, package: &Arc<Package>, entry: &Entry) -> Result<()> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let path = self.through_links(&entry.path)?;
        let what = match &entry.kind {
            Kind::Directory => {
                // A link to a directory stays, as dpkg leaves it.
                if self.link(&path).is_some()
                    || matches!(self.nodes.get(&path), Some(Node { what: What::Directory, .. }))
                {
                    return Ok(());
                }
                What::Directory
            }
            Kind::File(range) => What::File(Content::Packaged(Arc::clone(package), range.clone())),
            Kind::Symlink(target) => What::Symlink(target.clone()),
        };
        if matches!(self.nodes.get(&path), Some(Node { what: What::Directory, .. }))
            && !matches!(what, What::Directory)
        {
            bail!("a directory of another package would be replaced, path={}", path.escape_ascii());
        }
        let (mode, user, group, modified) = (entry.mode, entry.user, entry.group, entry.modified);
        self.nodes.insert(path, Node { what, mode, user, group, modified });
        Ok(())
    }

    /// Puts a file that no package has, owned by root.
    pub fn put(&mut self, path: &str, content: Vec<u8>, mode: u32, modified: u64) {
        let node = Node { what: What::File(Content::Made(content)), mode, user: 0, group: 0, modified };
        self.nodes.insert(path.as_bytes().to_vec(), node);
    }

    /// Makes a directory that no package has, owned by root; nothing if it is there.
    pub fn make_directory(&mut self, path: &str, modified: u64) {
        let node = Node { what: What::Directory, mode: 0o755, user: 0, group: 0, modified };
        self.nodes.entry(path.as_bytes().to_vec()).or_insert(node);
    }

    /// Paths and what is there, parents before what is in them.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    fn link(&self, path: &[u8]) -> Option<&[u8]> {
        match self.nodes.get(path) {
            Some(Node { what: What::Symlink(target), .. }) => Some(target),
            Some(_) => None,
            None => self.below.get(path).map(Vec::as_slice),
        }
    }

    /// The path with links among its directories resolved, as `/bin` to `usr/bin`.
    fn through_links(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut path = path.to_vec();
        for _ in 0..LINKS {
            let slashes: Vec<usize> = (0..path.len()).filter(|&at| path.get(at) == Some(&b'/')).collect();
            let through = slashes.into_iter().find_map(|at| {
                let (directory, rest) = path.split_at_checked(at)?;
                Some((directory.to_vec(), self.link(directory)?.to_vec(), rest.to_vec()))
            });
            let Some((directory, target, rest)) = through else { return Ok(path) };
            path = follow(&directory, &target)?;
            path.extend_from_slice(&rest);
        }
        bail!("links among directories do not end, path={}", path.escape_ascii())
    }
}

/// Where a symbolic link leads, from the root.
fn follow(link: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if !target.starts_with(b"/") {
        parts.extend(link.split(|&byte| byte == b'/'));
        parts.pop();
    }
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    bail!(
                        "a link leads out of its root, path={} target={}",
                        link.escape_ascii(),
                        target.escape_ascii()
                    );
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    use super::*;
    use crate::deb::tests::{deb, tarball};

    fn package(entries: &[(&str, tar::EntryType, &str)]) -> Arc<Package> {
        Arc::new(Package::parse(&deb("Package: a\n", &tarball(entries))).expect("package"))
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.nodes().map(|(path, _)| path.escape_ascii().to_string()).collect()
    }

    #[test]
    fn paths_through_links_are_where_the_links_lead() {
        let base = package(&[
            ("./bin", Symlink, "usr/bin"),
            ("./usr/", Directory, ""),
            ("./usr/bin/", Directory, ""),
        ]);
        let other =
            package(&[("./bin/", Directory, ""), ("./bin/a", Regular, "a"), ("./bin/b", Link, "bin/a")]);
        let mut tree = Tree::default();
        tree.install(&base).expect("base");
        tree.install(&other).expect("other");
        assert_eq!(paths(&tree), ["bin", "usr", "usr/bin", "usr/bin/a", "usr/bin/b"]);

        let mut layer = Tree::above([(b"bin".to_vec(), b"/usr/bin".to_vec())]);
        layer.install(&other).expect("above");
        assert_eq!(paths(&layer), ["usr/bin/a", "usr/bin/b"]);
    }

    #[test]
    fn links_that_do_not_end_or_lead_out_are_refused() {
        for (link, target, word) in [("./a", "a", "do not end"), ("./a", "../b", "out of its root")] {
            let mut tree = Tree::default();
            let error =
                tree.install(&package(&[(link, Symlink, target), ("./a/b", Regular, "")])).expect_err(target);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file() {
        let mut tree = Tree::default();
        tree.install(&package(&[("./a/", Directory, ""), ("./a/b", Regular, "")])).expect("directory");
        tree.install(&package(&[("./a", Regular, "")])).expect_err("a file in its place");
    }

    #[test]
    fn hard_links_are_one_file_and_equal_files_are_two() {
        let mut tree = Tree::default();
        tree.install(&package(&[("./a", Regular, "x"), ("./b", Link, "a"), ("./c", Regular, "x")]))
            .expect("package");
        let identities: Vec<_> = tree
            .nodes()
            .map(|(_, node)| match &node.what {
                What::File(content) => content.identity(),
                _ => None,
            })
            .collect();
        assert_eq!(identities[0], identities[1]);
        assert_ne!(identities[0], identities[2]);
    }
}
