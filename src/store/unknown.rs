//! Files under `blobs/` that nobody knows: left by other tools, or by a process that was killed before its commit.
//!
//! They are not ours to take, so this is no part of a collection and happens only when a caller asks for it by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::locks::Need;
use super::{Core, Store, until};
use crate::blobs::{Blob, Listed};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, MAX_MANIFEST_SIZE, Manifest};
use crate::sys;

/// What [`Store::remove_unknown`] did, or would do.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UnknownFiles {
    /// Files that were removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unknown files that stay: too young, or reached by a manifest or by an entry of another tool.
    pub kept: u64,
}

impl Store {
    /// Removes the files under `blobs/` that have the name of a content and that no repository holds and no entry of
    /// `index.json` reaches, if they were last written longer ago than `older_than`. With `dry_run` only counts them.
    ///
    /// Other tools put content there before they name it in `index.json`: `older_than` must be longer than any of them takes
    /// for that, by the clock of this machine. Files whose names are no digests stay.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it cannot be told what an entry of another tool reaches, naming that: nothing was removed. As
    /// [`Store::flush`], which comes first and takes in what other tools have named meanwhile; `Io`.
    pub fn remove_unknown(&self, older_than: Duration, dry_run: bool) -> Result<UnknownFiles> {
        let core = self.core();
        core.check_writable()?;
        core.flush()?;
        let reached = core.reached_by_entries()?;
        let youngest = i64::try_from(older_than.as_nanos()).unwrap_or(i64::MAX);
        let now = i64::try_from(sys::now().as_nanosecond()).unwrap_or(i64::MAX);
        let mut report = UnknownFiles::default();
        for algorithm in Algorithm::ALL {
            let before = report.removed;
            for name in core.blobs.list(algorithm)? {
                let Listed::Digest(digest) = name? else { continue };
                if core.is_known(&digest)? {
                    continue;
                }
                let Some(stat) = core.blobs.stat(&digest)?.filter(|stat| stat.is_file) else { continue };
                // A sparse manifest names what its repository does not hold, and other readers find it all the same.
                let is_reached = reached.contains(&digest) || core.metadata.view().is_referred_to(&digest)?;
                if is_reached || now.saturating_sub(stat.mtime_ns) < youngest {
                    report.kept += 1;
                } else if dry_run || core.remove_unknown_file(&digest)? {
                    report.removed += 1;
                    report.bytes += stat.size;
                }
            }
            if report.removed > before && !dry_run {
                core.blobs.sync_dirs(&[algorithm]).map_err(|error| core.poison(error))?;
            }
        }
        Ok(report)
    }
}

impl Core {
    /// What a collection has condemned is its own to take: it may not be in the log yet that it is, and the published
    /// `index.json` may reach it.
    fn is_known(&self, digest: &Digest) -> Result<bool> {
        let view = self.metadata.view();
        Ok(view.content(digest)?.is_some() || view.is_tombstone(digest)?)
    }

    /// A commit gives a file its name before its row, and has its stripe all the while.
    pub(super) fn remove_unknown_file(&self, digest: &Digest) -> Result<bool> {
        let _held = self.locks.content([(digest, Need::Exclusive)].into_iter());
        if self.is_known(digest)? { Ok(false) } else { self.blobs.remove(digest) }
    }

    /// What the entries reach that other tools wrote and that are kept as they are: some of it may be there, unknown.
    fn reached_by_entries(&self) -> Result<BTreeSet<Digest>> {
        let mut waiting = Vec::new();
        self.metadata.view().foreign(|_, digest, json| {
            if let (Ok(digest), Ok(entry)) =
                (digest.parse::<Digest>(), serde_json::from_str::<Descriptor>(json))
            {
                waiting.push((digest, entry.media_type, true));
            }
            Ok(until(false))
        })?;
        let mut reached = BTreeSet::new();
        while let Some((digest, media_type, is_manifest)) = waiting.pop() {
            if !reached.insert(digest) || !is_manifest {
                continue;
            }
            let size = self.blobs.stat(&digest)?.filter(|stat| stat.is_file).map(|stat| stat.size);
            let Some(size) = size else { continue };
            let parsed = self.parse_unknown(&digest, size, &media_type);
            let manifest = parsed.map_err(|error| {
                Error::corrupt(format!(
                    "an entry of index.json reaches what cannot be read, so nothing was removed, digest={digest}"
                ))
                .with_source(error)
            })?;
            for child in manifest.iter().flat_map(Manifest::successors) {
                let is_manifest = child.role == crate::oci::Role::Manifest;
                waiting.push((child.descriptor.digest, child.descriptor.media_type.clone(), is_manifest));
            }
            waiting.extend(
                manifest.iter().filter_map(Manifest::subject).map(|s| (s.digest, s.media_type.clone(), true)),
            );
        }
        Ok(reached)
    }

    fn parse_unknown(&self, digest: &Digest, size: u64, media_type: &str) -> Result<Option<Manifest>> {
        if size > MAX_MANIFEST_SIZE as u64 {
            return Err(Error::invalid(format!(
                "manifest is too large, size={size}, limit={MAX_MANIFEST_SIZE}"
            )));
        }
        let Some(content) = Blob::read(&self.blobs, *digest, size)? else { return Ok(None) };
        let media_type =
            if media_type.is_empty() { Manifest::sniff(&content).unwrap_or_default() } else { media_type };
        Manifest::read(media_type, &content).map(Some)
    }
}
