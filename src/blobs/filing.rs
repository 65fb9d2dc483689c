//! Many small contents get their names: written under temporary names, synced together, then named.

use std::panic::resume_unwind;
use std::thread;

use bytes::Bytes;

use super::{Blobs, file_name};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::sys::TempFile;

/// Up to so many files are synced one by one, beyond by one `syncfs`.
const FEW: usize = 4;

/// From so many on a second thread is worth its start.
const TWO_THREADS: usize = 64;

/// Content written under a temporary name. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    digest: Digest,
    temp: TempFile,
}

impl Staged {
    /// Takes over a file that holds the content of `digest`, which the caller has verified.
    pub(super) fn new(digest: Digest, temp: TempFile) -> Self {
        Self { digest, temp }
    }

    /// Gives the descriptor back, so that many can wait; synced from now on only with the whole filesystem.
    pub(crate) fn close(&mut self) {
        self.temp.close();
    }

    /// What it holds.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Blobs {
    /// Writes one verified content under a temporary name. Not durable before [`Blobs::sync_staged`].
    pub(crate) fn stage(&self, digest: Digest, content: &[u8]) -> Result<Staged> {
        let dir = self.ingest_dir()?;
        let fail = |error| Error::io("write content into the ingest directory", dir.path(), error);
        let mut temp = TempFile::create(dir).map_err(fail)?;
        temp.write_all(content).map_err(fail)?;
        Ok(Staged { digest, temp })
    }

    /// [`Blobs::stage`] for each, in the order given. After an error none is left.
    ///
    /// Beyond a few, the files are closed, so that their number is not bound by that of open files.
    pub(crate) fn stage_all(&self, items: impl IntoIterator<Item = (Digest, Bytes)>) -> Result<Vec<Staged>> {
        let items: Vec<(Digest, Bytes)> = items.into_iter().collect();
        if items.len() < TWO_THREADS {
            return self.stage_each(&items, items.len() > FEW);
        }
        // Measured on two cores: a tenth to a third less time than one thread takes.
        let (mine, theirs) = items.split_at(items.len() / 2);
        thread::scope(|scope| {
            let work = || self.stage_each(theirs, true);
            let other = thread::Builder::new().name("orlop-filing".to_owned()).spawn_scoped(scope, work);
            let mine = self.stage_each(mine, true);
            let theirs = match other {
                Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => self.stage_each(theirs, true),
            };
            let mut all = mine?;
            all.append(&mut theirs?);
            Ok(all)
        })
    }

    fn stage_each(&self, items: &[(Digest, Bytes)], close: bool) -> Result<Vec<Staged>> {
        let mut all = Vec::with_capacity(items.len());
        for (digest, content) in items {
            let mut staged = self.stage(*digest, content)?;
            if close {
                staged.temp.close();
            }
            all.push(staged);
        }
        Ok(all)
    }

    /// Makes staged content durable, still without its name: file by file when they are few, else the whole
    /// filesystem at once.
    pub(crate) fn sync_staged(&self, staged: &[&Staged]) -> Result<()> {
        if staged.len() > FEW || staged.iter().any(|staged| staged.temp.file().is_none()) {
            return self.sync_filesystem();
        }
        for one in staged {
            one.temp.sync().map_err(|error| {
                Error::io("sync content in the ingest directory", one.temp.place().0.path(), error)
            })?;
        }
        Ok(())
    }

    /// Gives staged content its name, over a file of that name: the same bytes, or damage that is healed.
    ///
    /// It must have been synced. The name is not durable before [`Blobs::sync_dirs`].
    pub(crate) fn name(&self, staged: Staged) -> Result<()> {
        let Staged { digest, temp } = staged;
        let dir = self.dir_for_writing(digest.algorithm())?;
        temp.name_as(dir, file_name(&digest), true)
            .map(|_named| ())
            .map_err(|error| Error::io("name the content", &self.path(&digest), error))
    }

    /// Files many contents durably: stage, sync, name, sync the directories. Answers how many.
    ///
    /// After an error some may have their names; each that has is whole.
    pub(crate) fn file_many(&self, items: impl IntoIterator<Item = (Digest, Bytes)>) -> Result<usize> {
        let staged = self.stage_all(items)?;
        if staged.is_empty() {
            return Ok(0);
        }
        self.sync_staged(&staged.iter().collect::<Vec<_>>())?;
        let count = staged.len();
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for one in staged {
            let algorithm = one.digest.algorithm();
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
            self.name(one)?;
        }
        self.sync_dirs(&algorithms)?;
        Ok(count)
    }
}
