//! `orlop discover`

use std::collections::BTreeSet;

use clap::{ArgMatches, Command, value_parser};
use orlop::oci::Descriptor;
use orlop::{Digest, Referrers, Repository};
use serde::Serialize;

use crate::args::{flag, option, target, target_of, value, verb};
use crate::error::Failure;
use crate::output::{self, Output, plain};
use crate::reference::Target;
use crate::session;
use crate::view::{View, complete, total_size};

/// The deepest tree that is shown: two levels of JSON each, within the 128 that common readers take.
const MAX_DEPTH: u16 = 60;
/// How many referrers are asked for at once.
const PAGE: usize = 1000;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    target: String,
    artifact_type: Option<String>,
    depth: u16,
    verbose: bool,
}

pub(crate) fn command() -> Command {
    verb(
        "discover",
        "Show what refers to a manifest, and what refers to that",
        "",
        "orlop discover oci:app:v1",
    )
    .visible_alias("tree")
    .arg(target("oci:DIR:REF", "The manifest"))
    .arg(option("artifact-type", "TYPE", "Show only referrers of this type, and only what refers to those"))
    .arg(option("depth", "N", "Show this many levels, from 1").value_parser(value_parser!(u16).range(1..)))
    .arg(flag("verbose", "Show annotations in the tree").short('v'))
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            target: target_of(matches),
            artifact_type: value(matches, "artifact-type"),
            depth: value(matches, "depth").unwrap_or(MAX_DEPTH),
            verbose: matches.get_flag("verbose"),
        }
    }
}

#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    view: View,
    referrers: Vec<Self>,
    /// Of everything below the manifest, for people.
    #[serde(skip)]
    total: u64,
}

/// A walk from subjects to referrers.
struct Walk<'a> {
    target: &'a Target,
    repository: &'a Repository,
    artifact_type: Option<&'a str>,
    /// Every manifest has one subject, so it is met once, unless it refers to itself in some way.
    seen: BTreeSet<Digest>,
    is_cut: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let target: Target = args.target.parse()?;
    let store = session::read(&target, output)?;
    let found = target.find(&store)?;
    let root = complete(&found.repository, &found.descriptor)?;
    let mut walk = Walk {
        target: &target,
        repository: &found.repository,
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

impl Walk<'_> {
    fn node(&mut self, descriptor: &Descriptor, depth: u16) -> Result<Node, Failure> {
        let view = View::new(self.target.by_digest(self.repository.name(), &descriptor.digest), descriptor);
        let total = total_size(self.repository, descriptor)?;
        let mut referrers = Vec::new();
        if depth == 0 {
            self.is_cut |= !self.query(&descriptor.digest).limit(1).page()?.descriptors.is_empty();
        } else {
            for referrer in self.referrers(&descriptor.digest)? {
                if self.seen.insert(referrer.digest) {
                    referrers.push(self.node(&referrer, depth - 1)?);
                }
            }
        }
        Ok(Node { view, referrers, total })
    }

    fn query<'a>(&'a self, subject: &Digest) -> Referrers<'a> {
        let query = self.repository.referrers(subject);
        match self.artifact_type {
            Some(artifact_type) => query.artifact_type(artifact_type),
            None => query,
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        let mut descriptors = Vec::new();
        let mut after = None;
        loop {
            let mut query = self.query(subject).limit(PAGE);
            if let Some(token) = &after {
                query = query.after(token);
            }
            let page = query.page()?;
            descriptors.extend(page.descriptors);
            after = page.next;
            if after.is_none() {
                return Ok(descriptors);
            }
        }
    }
}

/// The digests of all referrers, from the top down.
fn collect(node: &Node, digests: &mut Vec<Digest>) {
    for referrer in &node.referrers {
        digests.push(referrer.view.digest);
        collect(referrer, digests);
    }
}

fn drawn(tree: &Node, verbose: bool) -> String {
    let mut text = format!("{} ({})\n", tree.view.reference, output::size(tree.total));
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
    for (index, kind) in kinds.iter().enumerate() {
        let deeper = branch(indent, index + 1 == kinds.len(), &plain(kind), text);
        let members: Vec<&Node> =
            node.referrers.iter().filter(|referrer| referrer.view.kind() == *kind).collect();
        for (index, member) in members.iter().enumerate() {
            let label = format!("{} ({})", member.view.digest, output::size(member.total));
            let deeper = branch(&deeper, index + 1 == members.len(), &label, text);
            if verbose && !member.view.annotations.is_empty() {
                let below = branch(&deeper, member.referrers.is_empty(), "[annotations]", text);
                let count = member.view.annotations.len();
                for (index, (key, value)) in member.view.annotations.iter().enumerate() {
                    branch(&below, index + 1 == count, &format!("{}: {}", plain(key), plain(value)), text);
                }
            }
            draw(member, &deeper, verbose, text);
        }
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
