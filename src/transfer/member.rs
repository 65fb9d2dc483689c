//! What is remembered of a manifest that was copied, for the records of roots that come later and reach it too.

use std::collections::{HashMap, HashSet};

use super::copy::{Absent, LeftOut};
use super::run::{Attached, Node, Run};
use super::seam::FoundBy;
use crate::digest::Digest;
use crate::oci::{Descriptor, Role};

/// A manifest of a closure, about 350 bytes of memory and 100 for each that it lists or that is attached to it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) media_type: Box<str>,
    pub(super) size: u64,
    pub(super) artifact_type: Option<Box<str>>,
    /// Manifests that it lists, and that were not left out.
    pub(super) children: Box<[Digest]>,
    pub(super) subject: Option<Digest>,
    pub(super) attached: Box<[Attached]>,
    /// How what is attached was found, if it was asked for.
    pub(super) found: Option<(FoundBy, u64)>,
    /// What the source lacked, in order.
    pub(super) absent: Box<[(Role, Digest)]>,
    /// What it lists and the platforms left out, in its order, with the platform.
    pub(super) left_out: Box<[(Digest, String)]>,
}

impl Member {
    /// Its descriptor as a subject.
    pub(super) fn descriptor(&self, digest: &Digest) -> Descriptor {
        Descriptor::new(&*self.media_type, *digest, self.size)
    }
}

/// What became of the manifests of a run: what a [`Member`] has and a [`Node`] has not.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    absent: HashMap<Digest, Vec<(Role, Digest)>>,
    left_out: HashMap<Digest, Vec<(Digest, String)>>,
}

impl Lacking {
    pub(super) fn of(absent: &[Absent], left_out: &[LeftOut]) -> Self {
        let mut lacking = Self::default();
        for Absent { digest, manifest, role } in absent {
            lacking.absent.entry(*manifest).or_default().push((*role, *digest));
        }
        for LeftOut { digest, index, platform } in left_out {
            lacking.left_out.entry(*index).or_default().push((*digest, platform.clone()));
        }
        lacking.absent.values_mut().for_each(|absent| absent.sort_unstable());
        lacking
    }

    pub(super) fn member(&self, node: &Node) -> Member {
        let Descriptor { digest, media_type, size, artifact_type, .. } = &node.descriptor;
        Member {
            media_type: media_type.as_str().into(),
            size: *size,
            artifact_type: artifact_type.as_deref().map(Into::into),
            children: node.children.as_slice().into(),
            subject: node.subject,
            attached: node.attached.as_slice().into(),
            found: node.found,
            absent: self.absent.get(digest).cloned().unwrap_or_default().into(),
            left_out: self.left_out.get(digest).cloned().unwrap_or_default().into(),
        }
    }
}

/// Manifests that belong to some roots, each behind what it refers to. Those of which `parts` knows nothing are passed over.
pub(super) fn in_order<'i, 'n>(
    roots: impl IntoIterator<Item = &'i Digest>,
    parts: impl Fn(&Digest) -> Option<Parts<'n>>,
) -> Vec<Digest> {
    enum Step {
        Enter(Digest),
        Leave(Digest),
    }
    let (mut order, mut entered) = (Vec::new(), HashSet::new());
    for root in roots {
        let mut steps = vec![Step::Enter(*root)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(digest) => {
                    let Some(parts) = parts(&digest) else { continue };
                    if entered.insert(digest) {
                        steps.push(Step::Leave(digest));
                        steps.extend(parts.children.iter().rev().copied().map(Step::Enter));
                        steps.extend(parts.subject.map(Step::Enter));
                    }
                }
                Step::Leave(digest) => {
                    order.push(digest);
                    let attached = parts(&digest).map(|parts| parts.attached).unwrap_or_default();
                    steps.extend(attached.iter().rev().map(|attached| Step::Enter(attached.digest)));
                }
            }
        }
    }
    order
}

/// The manifests that belong to one.
pub(super) struct Parts<'n> {
    pub(super) children: &'n [Digest],
    pub(super) subject: Option<Digest>,
    pub(super) attached: &'n [Attached],
}

impl<'n> Parts<'n> {
    pub(super) fn of_node(node: &'n Node) -> Self {
        Self { children: &node.children, subject: node.subject, attached: &node.attached }
    }

    pub(super) fn of_member(member: &'n Member) -> Self {
        Self { children: &member.children, subject: member.subject, attached: &member.attached }
    }
}

impl Run<'_, '_> {
    /// The closure of a root, whichever group brought what of it: each behind what it refers to.
    pub(super) fn members(&self, root: &Digest, lacking: &Lacking) -> Vec<(Digest, Member)> {
        let earlier = |digest: &Digest| self.with.complete.get(digest)?.1.as_deref();
        let parts = |digest: &Digest| match self.graph.get(digest) {
            Some(node) => Some(Parts::of_node(node)),
            None => earlier(digest).map(Parts::of_member),
        };
        let member = |digest: Digest| {
            let node = self.graph.get(&digest).map(|node| lacking.member(node));
            Some((digest, node.or_else(|| earlier(&digest).cloned())?))
        };
        in_order([root], parts).into_iter().filter_map(member).collect()
    }
}
