//! `orlop discover` on a registry.

use std::collections::BTreeSet;

use orlop::Digest;
use orlop::oci::{Descriptor, ManifestKind, Reference, Role};

use super::{Args, MAX_DEPTH, Node, child_name, collect, drawn};
use crate::error::Failure;
use crate::output::Output;
use crate::remote::{Remote, complete, parse};

/// A walk from subjects to referrers.
struct Walk<'a> {
    remote: &'a Remote,
    artifact_type: Option<&'a str>,
    /// Who refers to itself in some way is met once.
    seen: BTreeSet<Digest>,
    is_cut: bool,
}

pub(super) fn run(args: &Args, remote: &Remote, output: &Output) -> Result<(), Failure> {
    let root = root(remote)?;
    let mut walk = Walk {
        remote,
        artifact_type: args.artifact_type.as_deref(),
        seen: BTreeSet::from([root.digest]),
        is_cut: false,
    };
    let tree = walk.node(&root, args.depth.min(MAX_DEPTH))?;
    if walk.is_cut && args.depth >= MAX_DEPTH {
        output.note(format!("the tree goes deeper than is shown, levels={MAX_DEPTH}"));
    }
    let mut digests = Vec::new();
    collect(&tree, &mut digests);
    output.result(digests, &tree, || drawn(&tree, args.verbose))
}

/// Where the tree begins: at a manifest that is there, or at one that is not but may have referrers.
fn root(remote: &Remote) -> Result<Descriptor, Failure> {
    let reference = remote.reference()?;
    match (remote.repository.manifest(reference)?, reference) {
        (Some(fetched), _) => Ok(complete(&fetched)),
        (None, Reference::Digest(digest))
            if !remote.repository.referrers(digest, None)?.referrers.is_empty() =>
        {
            Ok(Descriptor::new("", *digest, 0))
        }
        (None, _) => Err(remote.not_found()),
    }
}

impl Walk<'_> {
    fn node(&mut self, descriptor: &Descriptor, depth: u16) -> Result<Node, Failure> {
        let mut node = Node::leaf(self.remote.view(descriptor), descriptor);
        if descriptor.media_type.is_empty() {
            (node.label, node.status) = ("[missing]".to_owned(), Some("missing"));
        }
        let referrers = self.remote.repository.referrers(&descriptor.digest, self.artifact_type)?.referrers;
        if depth == 0 {
            self.is_cut |= !referrers.is_empty();
            return Ok(node);
        }
        // Who asks for one type wants its referrers and nothing else.
        let kind = ManifestKind::of(&descriptor.media_type);
        if self.artifact_type.is_none() && kind.is_some_and(ManifestKind::is_index) {
            self.manifests(descriptor, depth, &mut node)?;
        }
        for referrer in &referrers {
            if self.seen.insert(referrer.digest) {
                node.referrers.push(self.node(referrer, depth - 1)?);
            }
        }
        Ok(node)
    }

    fn manifests(&mut self, index: &Descriptor, depth: u16, node: &mut Node) -> Result<(), Failure> {
        let fetched = self.remote.repository.manifest(&Reference::Digest(index.digest))?;
        let Some(fetched) = fetched else { return Ok(()) };
        for successor in parse(&fetched)?.successors().iter().filter(|one| one.role == Role::Manifest) {
            let child = &successor.descriptor;
            let found = self.remote.repository.manifest(&Reference::Digest(child.digest))?;
            let mut below = match found {
                None => Node { status: Some("absent"), ..Node::leaf(self.remote.view(child), child) },
                Some(_) if !self.seen.insert(child.digest) => {
                    Node { status: Some("shared"), ..Node::leaf(self.remote.view(child), child) }
                }
                Some(fetched) => {
                    let mut described = complete(&fetched);
                    described.platform.clone_from(&child.platform);
                    self.node(&described, depth - 1)?
                }
            };
            let status = below.status.map(|status| format!(" [{status}]")).unwrap_or_default();
            below.label = format!("[{}] {}{status}", child_name(child), child.digest);
            node.manifests.push(below);
        }
        Ok(())
    }
}
