//! The end of a copy: manifests after what they refer to, then the record of what was found, tags last.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::closure::Closure;
use super::contents::Made;
use super::copy::{Copied, Item, Outcome, Step};
use super::member::{Lacking, Parts, in_order};
use super::parallel::in_parallel;
use super::run::{Node, Run, check};
use super::seam::{Fetched, Ready};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Tag};

/// Bytes and manifests that are given to the destination at once.
const AT_ONCE_BYTES: u64 = 16 << 20;
const AT_ONCE: usize = 20_000;

impl Run<'_, '_> {
    /// Completes what has come. Answers which items failed, and why.
    pub(super) fn finish(mut self, items: &[Item]) -> Result<Vec<(usize, Error)>> {
        self.settle_manifests();
        let tainted = self.tainted();
        let (mut good, mut failed) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match tainted.get(&item.root).and_then(|error| self.errors.get(*error)) {
                Some(error) => failed.push((index, again(error))),
                None => good.push((index, item)),
            }
        }
        if let Some((_, error)) = failed.first()
            && self.with.ends(error)
        {
            return Err(again(error));
        }
        if self.with.choice.keep_going && !self.with.choice.dry_run {
            // A manifest that is refused must not take the contents of the others with it.
            self.with.sink().keep()?;
        }
        let all: Vec<&Item> = good.iter().map(|(_, item)| *item).collect();
        match self.complete(&all) {
            Ok(()) => {}
            Err(error) if self.with.ends(&error) => return Err(error),
            // One that the destination refuses must not keep the others out.
            Err(_) => {
                for (index, item) in good {
                    match self.complete(&[item]) {
                        Err(error) if self.with.ends(&error) => return Err(error),
                        Err(error) => failed.push((index, error)),
                        Ok(()) => {}
                    }
                }
            }
        }
        self.copied.absent.append(&mut self.absent);
        self.copied.left_out.append(&mut self.left_out);
        failed.sort_unstable_by_key(|(index, _)| *index);
        Ok(failed)
    }

    /// Manifests that cannot be completed, since something that belongs to them failed, and why.
    fn tainted(&self) -> HashMap<Digest, usize> {
        let mut tainted = HashMap::new();
        if self.errors.is_empty() {
            return tainted;
        }
        let mut parents: HashMap<Digest, Vec<Digest>> = HashMap::new();
        let mut failed = Vec::new();
        for (digest, node) in &self.graph {
            for part in node.belongings() {
                parents.entry(part).or_default().push(*digest);
            }
            failed.extend(node.failed.map(|error| (error, *digest)));
        }
        // The first error is the one that is told, whatever the order of the map.
        failed.sort_unstable();
        for (error, digest) in failed {
            let mut found = vec![digest];
            while let Some(digest) = found.pop() {
                if let std::collections::hash_map::Entry::Vacant(entry) = tainted.entry(digest) {
                    entry.insert(error);
                    found.extend(parents.get(&digest).into_iter().flatten());
                }
            }
        }
        tainted
    }

    /// Gives manifests, records and tags to the destination.
    fn complete(&mut self, items: &[&Item]) -> Result<()> {
        let parts = |digest: &Digest| self.graph.get(digest).map(Parts::of_node);
        let order = in_order(items.iter().map(|item| &item.root), parts);
        let lacking = Lacking::of(&self.absent, &self.left_out);
        let mut copied = Copied::default();
        let present = self.are_present(&order)?;
        let mut tags: Vec<(Tag, Digest)> = Vec::new();
        let (mut ready, mut bytes) = (Vec::new(), 0);
        for (digest, present) in order.iter().zip(present) {
            let Some(node) = self.graph.get(digest) else { continue };
            let outcome = if present { Outcome::Present } else { Outcome::Copied };
            self.with.tell(Step::Begin(&node.descriptor))?;
            if !self.with.choice.dry_run {
                if bytes >= AT_ONCE_BYTES || ready.len() >= AT_ONCE {
                    self.with.sink().complete(std::mem::take(&mut ready), &[])?;
                    bytes = 0;
                }
                bytes += node.descriptor.size;
                ready.push(Ready { present, ..Ready::new(self.fetched(node)?, node.sparse) });
            }
            copied.manifests += 1;
            copied.count(outcome, node.descriptor.size);
            tags.extend(node.attached.iter().filter_map(|one| Some((one.tag.clone()?, one.digest))));
            self.with.tell(Step::End(&node.descriptor, outcome))?;
        }
        if !self.with.choice.dry_run {
            let mut recorded = Recorded::default();
            if self.with.choice.record {
                recorded = self.records(items, &lacking, &mut copied)?;
                ready.append(&mut recorded.ready);
            }
            for item in items {
                tags.extend(item.tags.iter().map(|tag| (tag.clone(), item.root)));
            }
            self.with.sink().complete(ready, &tags)?;
            // Not before: what was refused is given once more, one item after the other.
            self.with.known.extend(recorded.contents);
            self.with.recorded.extend(recorded.roots);
        }
        self.copied.add(copied);
        for digest in order {
            let Some(node) = self.graph.get(&digest) else { continue };
            let member = self.with.choice.record.then(|| Box::new(lacking.member(node)));
            self.with.complete.insert(digest, (node.descriptor.size, member));
        }
        Ok(())
    }

    /// Which manifests the destination has.
    fn are_present(&self, order: &[Digest]) -> Result<Vec<bool>> {
        let with = &*self.with;
        let verify = with.choice.verify && !with.choice.dry_run;
        let ask = |digest: &Digest| match self.graph.get(digest) {
            Some(node) => with.sink().has_manifest(&node.descriptor, verify),
            None => Ok(false),
        };
        in_parallel(with.choice.jobs, order, |_| true, ask)?.into_iter().collect()
    }

    fn fetched(&self, node: &Node) -> Result<Fetched> {
        let digest = node.descriptor.digest;
        if let Some(bytes) = &node.bytes {
            return Ok(Fetched::new(node.descriptor.clone(), bytes.clone()));
        }
        let fetched = self.with.from.manifest(&digest)?.ok_or_else(|| {
            Error::not_found(format!("the source has lost the manifest while it was copied, digest={digest}"))
        })?;
        check(&digest, &fetched.bytes)?;
        Ok(Fetched::new(node.descriptor.clone(), fetched.bytes))
    }

    /// The records of what was found for each root. None for one that has its record, for one that is attached to another, and for one of
    /// many that has no tag: others may list it.
    fn records(&mut self, items: &[&Item], lacking: &Lacking, copied: &mut Copied) -> Result<Recorded> {
        let (mut manifests, mut contents) = (Vec::new(), BTreeMap::new());
        let mut roots = HashSet::new();
        for item in items {
            if item.tags.is_empty() && items.len() > 1
                || self.with.recorded.contains(&item.root)
                || roots.contains(&item.root)
            {
                continue;
            }
            let members = self.members(&item.root, lacking);
            let root = members.iter().find(|(digest, _)| *digest == item.root);
            let Some((_, root)) = root.filter(|(_, root)| root.subject.is_none()) else { continue };
            roots.insert(item.root);
            let descriptor = root.descriptor(&item.root);
            let (manifest, parts) = Closure::of(self, item.root, &members).artifact(&descriptor)?;
            contents.extend(parts.map(|(descriptor, bytes)| (descriptor.digest, (descriptor, bytes))));
            manifests.push(manifest);
        }
        let with = &*self.with;
        contents.retain(|digest, _| !with.known.contains_key(digest));
        let contents: Vec<(Descriptor, Vec<u8>)> = contents.into_values().collect();
        let (jobs, verify) = (with.choice.jobs, with.choice.verify);
        let push = |(descriptor, bytes): &(Descriptor, Vec<u8>)| {
            if with.sink().has(descriptor, verify)? {
                return Ok(0);
            }
            with.sink().push(descriptor, &Made(bytes)).map(|_| descriptor.size)
        };
        for bytes in in_parallel(jobs, &contents, |_| true, push)? {
            copied.bytes += bytes?;
        }
        let ask = |manifest: &Fetched| with.sink().has_manifest(&manifest.descriptor, verify);
        let present = in_parallel(jobs, &manifests, |_| true, ask)?;
        let mut ready = Vec::with_capacity(manifests.len());
        for (manifest, present) in manifests.into_iter().zip(present) {
            let present = present?;
            copied.records += 1;
            copied.bytes += if present { 0 } else { manifest.descriptor.size };
            ready.push(Ready { present, ..Ready::new(manifest, false) });
        }
        let contents = contents.iter().map(|(descriptor, _)| (descriptor.digest, descriptor.size)).collect();
        Ok(Recorded { ready, contents, roots })
    }
}

/// Records that are made, and not yet at the destination.
#[derive(Default)]
struct Recorded {
    ready: Vec<Ready>,
    /// What they refer to, with its size.
    contents: Vec<(Digest, u64)>,
    roots: HashSet<Digest>,
}

impl Node {
    /// Manifests without which it is not complete.
    fn belongings(&self) -> impl Iterator<Item = Digest> + '_ {
        let attached = self.attached.iter().map(|attached| attached.digest);
        self.children.iter().copied().chain(self.subject).chain(attached)
    }
}

impl Copied {
    fn add(&mut self, other: Self) {
        self.manifests += other.manifests;
        self.copied += other.copied;
        self.present += other.present;
        self.bytes += other.bytes;
        self.records += other.records;
    }
}

/// The same failure for another item.
fn again(error: &Error) -> Error {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Error::new(error.kind(), message)
}
