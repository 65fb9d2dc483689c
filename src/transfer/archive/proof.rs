//! The proof that an archive can be taken in: everything that its manifests refer to is in it or in the store, and is what it is called.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use bytes::Bytes;

use super::catalog::Documents;
use super::import::{Importer, Missing};
use super::open::Archive;
use super::selection::may_lack;
use crate::digest::{Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest, RepositoryName, Role};
use crate::store::Store;

/// A manifest of which everything is here or comes.
pub(super) struct Ready {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// What it refers to and its repository must hold.
    pub(super) blobs: Vec<Digest>,
    /// Manifests that it lists.
    children: Vec<Digest>,
    pub(super) sparse: bool,
}

impl Ready {
    /// Whether all that it refers to is among these manifests, or was not `lost`.
    pub(super) fn is_whole(&self, manifests: &HashSet<Digest>, lost: &HashSet<Digest>) -> bool {
        self.children.iter().all(|child| manifests.contains(child))
            && self.blobs.iter().all(|blob| !lost.contains(blob))
    }
}

/// Documents of an archive, and those that a store has of an earlier visit.
pub(super) struct Both<'a>(pub(super) &'a Archive, pub(super) &'a Store);

impl Documents for Both<'_> {
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.0.size(digest).is_some() || self.1.unscoped().stat(digest)?.is_some())
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.0.inner_contents().document(digest)? {
            return Ok(Some(bytes));
        }
        let Some(stat) = self.1.unscoped().stat(digest)? else { return Ok(None) };
        if stat.size > MAX_MANIFEST_SIZE as u64 {
            return Err(Error::invalid(format!(
                "manifest is too large, digest={digest}, size={}",
                stat.size
            )));
        }
        Ok(self.1.unscoped().get(digest)?.map(crate::blobs::Blob::into_bytes))
    }
}

impl Importer<'_> {
    /// Looks at every manifest of a repository, and at what it refers to.
    pub(super) fn check(&mut self, name: &RepositoryName) -> Result<()> {
        let Some(found) = self.catalog.repositories.get(name) else { return Ok(()) };
        let manifests: Vec<(Digest, String)> =
            found.manifests.iter().map(|(digest, media_type)| (*digest, media_type.clone())).collect();
        let mut checked: BTreeMap<Digest, (Ready, bool)> = BTreeMap::new();
        for (digest, media_type) in manifests {
            let Some(bytes) = Both(self.archive, self.store).document(&digest)? else { continue };
            checked.insert(digest, self.look_at(name, digest, media_type, &bytes)?);
        }
        let order = in_order(&checked);
        let mut ready: Vec<Ready> = Vec::new();
        let mut whole: HashSet<Digest> = HashSet::new();
        for digest in order {
            let Some((manifest, is_whole)) = checked.remove(&digest) else { continue };
            if is_whole && manifest.is_whole(&whole, &HashSet::new()) {
                whole.insert(digest);
                ready.push(manifest);
            } else {
                self.imported.waiting += 1;
            }
        }
        self.ready.insert(name.clone(), ready);
        Ok(())
    }

    /// What a manifest refers to, and whether all of that is there that has to be.
    fn look_at(
        &mut self,
        name: &RepositoryName,
        digest: Digest,
        media_type: String,
        bytes: &[u8],
    ) -> Result<(Ready, bool)> {
        let manifest = Manifest::read(&media_type, bytes)?;
        let mut ready = Ready { digest, media_type, blobs: Vec::new(), children: Vec::new(), sparse: false };
        let (mut is_whole, mut absent) = (true, Vec::new());
        for child in manifest.successors() {
            let descriptor = &child.descriptor;
            let is_manifest = child.role == Role::Manifest;
            if is_manifest && self.holds(name, &descriptor.digest) {
                ready.children.push(descriptor.digest);
            } else if self.want(descriptor)? {
                ready.blobs.push(descriptor.digest);
            } else if is_manifest && self.is_partial() {
                // It may be in a volume that is still to come.
                is_whole = false;
            } else if may_lack(descriptor) || self.catalog.may_lack(name, &digest, &descriptor.digest) {
                ready.sparse = true;
            } else {
                absent.push((Missing { digest: descriptor.digest, manifest: digest }, is_manifest));
            }
        }
        // Other tools leave out images of an index and say nothing of it, but not all of them. The catalog knows what of ours is lost.
        let has_some = !ready.children.is_empty() || !ready.blobs.is_empty();
        for (missing, is_manifest) in absent {
            if is_manifest && has_some && !self.catalog.is_ours {
                ready.sparse = true;
                self.imported.absent.push(missing);
                continue;
            }
            is_whole = false;
            if !(is_manifest && self.catalog.is_ours) {
                self.missing.push(missing);
            }
        }
        Ok((ready, is_whole))
    }

    fn holds(&self, name: &RepositoryName, manifest: &Digest) -> bool {
        let found = self.catalog.repositories.get(name);
        found.is_some_and(|found| found.manifests.contains_key(manifest))
    }

    /// Whether content is there or comes.
    fn want(&mut self, descriptor: &Descriptor) -> Result<bool> {
        let Descriptor { digest, size, .. } = descriptor;
        if let Some(wanted) = self.wanted.get(digest) {
            return Ok(wanted == size);
        }
        if is_present(self.store, digest, *size)? {
            return Ok(true);
        }
        let is_here = self.archive.size(digest) == Some(*size)
            || self.staging.has(digest, *size)
            || descriptor.inlined().is_some();
        if is_here {
            self.wanted.insert(*digest, *size);
            if let Some(bytes) = descriptor.inlined().filter(|_| self.archive.size(digest).is_none()) {
                self.staging.carried.insert(*digest, bytes.into());
            }
        }
        Ok(is_here)
    }

    /// Reads everything that would be taken, and checks that it is what its digest says. Nothing is written.
    ///
    /// # Errors
    ///
    /// `Mismatch`, naming the content; `Interrupted`; as the archive.
    pub fn verify(&mut self) -> Result<()> {
        for digest in self.in_archive_order() {
            let Some(size) = self.wanted.get(&digest).copied() else { continue };
            let mut digester = Digester::new(digest.algorithm());
            let mut reader = self.open(&digest, size)?;
            let mut buffer = vec![0; 128 << 10];
            let mut done = 0;
            loop {
                let read = reader
                    .read(&mut buffer)
                    .map_err(|error| super::tar::failed(self.archive.place(), error))?;
                if read == 0 {
                    break;
                }
                digester.update(buffer.get(..read).unwrap_or_default());
                done += read as u64;
                if let Some(watch) = &mut self.watch
                    && watch(&digest, done).is_break()
                {
                    return Err(interrupted());
                }
            }
            let found = digester.finish();
            if found != digest || done != size {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "content in the archive is not what its digest says, expected={digest}, found={found}, archive={}",
                        self.archive.place()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether the store has content whole, and some repository holds it.
pub(super) fn is_present(store: &Store, digest: &Digest, size: u64) -> Result<bool> {
    let unscoped = store.unscoped();
    if unscoped.stat(digest)?.is_none_or(|stat| stat.size != size) || unscoped.holders(digest)?.is_empty() {
        return Ok(false);
    }
    match unscoped.reader(digest) {
        Ok(found) => Ok(found.is_some()),
        // Damaged: it is taken anew.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
        Err(error) => Err(error),
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "the import was stopped by its caller")
}

/// Manifests, those that others list first. Without recursion, since lists may be nested as deep as somebody likes.
fn in_order(manifests: &BTreeMap<Digest, (Ready, bool)>) -> Vec<Digest> {
    let mut order = Vec::with_capacity(manifests.len());
    let mut seen: HashSet<Digest> = HashSet::new();
    for root in manifests.keys() {
        let mut steps = vec![(*root, false)];
        while let Some((digest, is_done)) = steps.pop() {
            if is_done {
                order.push(digest);
            } else if seen.insert(digest) {
                steps.push((digest, true));
                let children = manifests.get(&digest).map_or(&[][..], |(manifest, _)| &manifest.children);
                steps.extend(children.iter().map(|child| (*child, false)));
            }
        }
    }
    order
}
