//! `orlop discover`

use std::collections::BTreeSet;

use clap::{ArgMatches, Command, value_parser};
use orlop::oci::{Descriptor, Platform, Role};
use orlop::transfer::Closure;
use orlop::{Digest, Referrers, Repository, Store};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::attached::{Hint, Hints};
use crate::error::Failure;
use crate::output::{self, Output, plain};
use crate::reference::{Selector, Target};
use crate::remote::{Remote, RemoteArgs};
use crate::session;
use crate::view::{Extent, View, complete};

mod in_registry;

/// The deepest tree that is shown: two levels of JSON each, within the 128 that common readers take.
const MAX_DEPTH: u16 = 60;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact_type: Option<String>,
    depth: u16,
    verbose: bool,
    remote: RemoteArgs,
}

pub(crate) fn command() -> Command {
    verb(
        "discover",
        "Show what refers to a manifest, and what refers to that",
        "",
        "orlop discover oci:app:v1",
    )
    .visible_alias("tree")
    .arg(target("oci:DIR:REF|HOST/REPOSITORY:REF", "The manifest"))
    .arg(option("artifact-type", "TYPE", "Show only referrers of this type, and only what refers to those"))
    .arg(option("depth", "N", "Show this many levels, from 1").value_parser(value_parser!(u16).range(1..)))
    .arg(flag("verbose", "Show annotations in the tree").short('v'))
    .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact_type: value(matches, "artifact-type"),
            depth: value(matches, "depth").unwrap_or(MAX_DEPTH),
            verbose: matches.get_flag("verbose"),
            remote: RemoteArgs::of(matches),
        }
    }
}

#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Box<Platform>>,
    /// Why there is nothing below it, if there is a reason: `missing`, `absent` or `shared`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    referrers: Vec<Self>,
    /// The manifests that it lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Self>,
    /// Content that belongs to it and is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Digest>,
    /// What is attached in other ways than by a subject, which is an edge of the graph for nobody else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attached: Vec<Hint>,
    /// For people: its size and what it lacks.
    #[serde(skip)]
    label: String,
}

impl Node {
    /// One with nothing below it.
    fn leaf(view: View, descriptor: &Descriptor) -> Self {
        Self {
            view,
            platform: descriptor.platform.clone(),
            status: None,
            referrers: Vec::new(),
            manifests: Vec::new(),
            missing: Vec::new(),
            attached: Vec::new(),
            label: String::new(),
        }
    }

    fn is_leaf(&self) -> bool {
        self.referrers.is_empty() && self.manifests.is_empty() && self.attached.is_empty()
    }
}

/// A walk from subjects to referrers.
struct Walk<'a> {
    target: &'a Target,
    repository: &'a Repository,
    artifact_type: Option<&'a str>,
    hints: Hints,
    /// Every manifest has one subject, so it is met once, unless an index lists it too, or it refers to itself in some way.
    seen: BTreeSet<Digest>,
    is_cut: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let Some(remote) = Remote::of(&args.target, &args.remote)? {
        return in_registry::run(args, &remote, output);
    }
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let (repository, root) = root(&target, &store)?;
    let mut walk = Walk {
        target: &target,
        repository: &repository,
        artifact_type: args.artifact_type.as_deref(),
        hints: Hints::of(&store)?,
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

/// Where the tree begins: at a manifest that is there, or at one that is not but has referrers.
fn root(target: &Target, store: &Store) -> Result<(Repository, Descriptor), Failure> {
    let failure = match target.find(store) {
        Ok(found) => {
            let descriptor = complete(&found.repository, &found.descriptor)?;
            return Ok((found.repository, descriptor));
        }
        Err(failure) => failure,
    };
    if let Selector::Digest(name, digest) = &target.selector {
        let repository = store.repository(name);
        if !repository.referrers(digest).limit(1).page()?.descriptors.is_empty() {
            return Ok((repository, Descriptor::new("", *digest, 0)));
        }
    }
    Err(failure)
}

impl Walk<'_> {
    fn node(&mut self, descriptor: &Descriptor, depth: u16) -> Result<Node, Failure> {
        let mut node = self.leaf(descriptor);
        if self.repository.stat(&descriptor.digest)?.is_some() {
            let extent = Extent::of(self.repository, descriptor)?;
            (node.label, node.missing) = (extent.shown(), extent.missing);
        } else {
            (node.label, node.status) = ("[missing]".to_owned(), Some("missing"));
        }
        if depth == 0 {
            self.is_cut |= !self.query(&descriptor.digest).limit(1).page()?.descriptors.is_empty();
            return Ok(node);
        }
        // Who asks for one type wants its referrers and nothing else.
        if self.artifact_type.is_none() {
            node.manifests = self.manifests(&descriptor.digest, depth)?;
        }
        for referrer in self.query(&descriptor.digest).all()? {
            // What a copy leaves for `verify --closure` is shown to who asks for it.
            let is_record = referrer.artifact_type.as_deref() == Some(Closure::ARTIFACT_TYPE);
            if is_record && self.artifact_type.is_none() {
                continue;
            }
            if self.seen.insert(referrer.digest) {
                node.referrers.push(self.node(&referrer, depth - 1)?);
            }
        }
        node.attached =
            self.hints.about(&descriptor.digest, self.target, self.repository, self.artifact_type)?;
        Ok(node)
    }

    fn leaf(&self, descriptor: &Descriptor) -> Node {
        let reference = self.target.by_digest(self.repository.name(), &descriptor.digest);
        Node::leaf(View::new(reference, descriptor), descriptor)
    }

    fn manifests(&mut self, digest: &Digest, depth: u16) -> Result<Vec<Node>, Failure> {
        let mut manifests = Vec::new();
        for successor in self.repository.successors(digest)?.unwrap_or_default() {
            let child = &successor.descriptor;
            if successor.role != Role::Manifest {
                continue;
            }
            let mut node = if self.repository.stat(&child.digest)?.is_none() {
                let label = format!("({}) [absent]", output::size(child.size));
                Node { status: Some("absent"), label, ..self.leaf(child) }
            } else if self.seen.insert(child.digest) {
                self.node(&complete(self.repository, child)?, depth - 1)?
            } else {
                Node { status: Some("shared"), label: "[shared]".to_owned(), ..self.leaf(child) }
            };
            node.label = format!("[{}] {} {}", child_name(child), child.digest, node.label);
            manifests.push(node);
        }
        Ok(manifests)
    }

    fn query<'a>(&'a self, subject: &Digest) -> Referrers<'a> {
        let query = self.repository.referrers(subject);
        match self.artifact_type {
            Some(artifact_type) => query.artifact_type(artifact_type),
            None => query,
        }
    }
}

/// What a manifest that an index lists is for: a platform, or a build's attestation.
fn child_name(child: &Descriptor) -> String {
    if let Some(kind) = child.annotations.get("vnd.docker.reference.type") {
        return plain(kind).into_owned();
    }
    let Some(platform) = &child.platform else {
        return plain(child.artifact_type.as_deref().unwrap_or(&child.media_type)).into_owned();
    };
    let mut name = format!("{}/{}", platform.os, platform.architecture);
    if let Some(variant) = &platform.variant {
        name.push_str(&format!("/{variant}"));
    }
    plain(&name).into_owned()
}

/// The digests of all referrers, from the top down.
fn collect(node: &Node, digests: &mut Vec<Digest>) {
    for referrer in &node.referrers {
        digests.push(referrer.view.digest);
        collect(referrer, digests);
    }
    node.manifests.iter().for_each(|child| collect(child, digests));
}

fn drawn(tree: &Node, verbose: bool) -> String {
    let mut text = format!("{} {}\n", plain(&tree.view.reference), tree.label);
    draw(tree, "", verbose, &mut text);
    text
}

/// Draws what is below a node: its referrers by type, and below the digests what refers to those.
fn draw(node: &Node, indent: &str, verbose: bool, text: &mut String) {
    let mut kinds: Vec<&str> = Vec::new();
    for referrer in &node.referrers {
        if !kinds.contains(&referrer.view.kind()) {
            kinds.push(referrer.view.kind());
        }
    }
    for (index, child) in node.manifests.iter().enumerate() {
        let is_last = kinds.is_empty() && node.attached.is_empty() && index + 1 == node.manifests.len();
        let deeper = branch(indent, is_last, &child.label, text);
        draw(child, &deeper, verbose, text);
    }
    for (index, kind) in kinds.iter().enumerate() {
        let is_last = index + 1 == kinds.len() && node.attached.is_empty();
        let deeper = branch(indent, is_last, &plain(kind), text);
        let members: Vec<&Node> =
            node.referrers.iter().filter(|referrer| referrer.view.kind() == *kind).collect();
        for (index, member) in members.iter().enumerate() {
            let label = format!("{} {}", member.view.digest, member.label);
            let deeper = branch(&deeper, index + 1 == members.len(), &label, text);
            if verbose && !member.view.annotations.is_empty() {
                let below = branch(&deeper, member.is_leaf(), "[annotations]", text);
                let count = member.view.annotations.len();
                for (index, (key, value)) in member.view.annotations.iter().enumerate() {
                    branch(&below, index + 1 == count, &format!("{}: {}", plain(key), plain(value)), text);
                }
            }
            draw(member, &deeper, verbose, text);
        }
    }
    for (index, hint) in node.attached.iter().enumerate() {
        let label = format!("{} [{}]", plain(hint.view.kind()), hint.encoding);
        let deeper = branch(indent, index + 1 == node.attached.len(), &label, text);
        branch(&deeper, true, &format!("{} ({})", hint.view.digest, output::size(hint.total)), text);
    }
}

/// Draws one line and gives the indentation for what is below it.
fn branch(indent: &str, is_last: bool, label: &str, text: &mut String) -> String {
    let (corner, bar) = if is_last {
        ("\u{2514}\u{2500}\u{2500} ", "    ")
    } else {
        ("\u{251c}\u{2500}\u{2500} ", "\u{2502}   ")
    };
    text.push_str(&format!("{indent}{corner}{label}\n"));
    format!("{indent}{bar}")
}
