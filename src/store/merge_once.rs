//! Which `index.json` of another tool was merged already: nobody merges one twice.
//!
//! Their file stays until the next publish. Its fingerprint is put down as `merged` once its changes are taken; a crash before
//! that leads to a second merge.

use std::fs::File;

use super::Core;
use super::merge::{Absence, IndexFile, rewind};
use super::publish::hash_of;
use super::report::Report;
use crate::error::{Error, Result};
use crate::metadata::{Fingerprint, fact};
use crate::oci::layout::INDEX_FILE;
use crate::sys::Stat;

impl Core {
    /// Looks at `index.json` and merges it if somebody else wrote it. Answers what has to be known for writing it.
    ///
    /// A file that was merged is not merged again before it is replaced.
    pub(super) fn merge_foreign(&self, absence: Absence, merged: &mut Option<Stat>) -> Result<IndexFile> {
        let found = self.inspect_index()?;
        match found {
            IndexFile::Ours | IndexFile::None => self.forget_merged()?,
            IndexFile::Lost => {
                self.report(Report::Damaged { file: INDEX_FILE.into(), reason: "it is missing".into() })
            }
            IndexFile::Foreign(stat) if *merged == Some(stat) => {}
            IndexFile::Foreign(stat) => {
                let fail = |error| Error::io("read index.json", &self.root, error);
                let Some(file) = self.root_dir.open_file(INDEX_FILE).map_err(fail)? else {
                    return Ok(IndexFile::Lost);
                };
                if self.was_merged(&file, &stat)? {
                    self.signals.view_changed();
                } else {
                    self.merge_whole(&file, &stat, absence)?;
                }
                *merged = Some(stat);
            }
        }
        Ok(found)
    }

    /// Their file is gone: the same bytes are another edit when they come again.
    fn forget_merged(&self) -> Result<()> {
        if self.metadata.view().fingerprint(fact::MERGED)?.is_none() {
            return Ok(());
        }
        let mut rows = self.metadata.rows();
        rows.delete_fact(fact::MERGED);
        self.write_unsynced(rows)
    }

    /// Whether `index.json` has something that was not merged yet.
    pub(super) fn is_unmerged(&self) -> Result<bool> {
        let IndexFile::Foreign(stat) = self.inspect_index()? else { return Ok(false) };
        let fail = |error| Error::io("read index.json", &self.root, error);
        let file = self.root_dir.open_file(INDEX_FILE).map_err(fail)?;
        file.map_or(Ok(true), |file| self.was_merged(&file, &stat).map(|merged| !merged))
    }

    /// Whether an earlier process merged this very file. Its stat is not enough: they may have written it in place.
    fn was_merged(&self, file: &File, stat: &Stat) -> Result<bool> {
        let Some(merged) = self.metadata.view().fingerprint(fact::MERGED)? else { return Ok(false) };
        Ok(merged.size == stat.size && self.hash_index(file)? == merged.hash)
    }

    fn merge_whole(&self, file: &File, stat: &Stat, absence: Absence) -> Result<()> {
        // Before it is read: what is written in place meanwhile has another hash and is merged once more.
        let hash = self.hash_index(file)?;
        let all = self.merge_index(file, absence, self.base()?)?;
        // What is taken over as a whole is taken over again when it was interrupted.
        if !all || absence == Absence::Adopt {
            return Ok(());
        }
        let mut rows = self.metadata.rows();
        let print = Fingerprint { hash, size: stat.size, inode: stat.ino, modified: stat.mtime_ns };
        rows.put_fingerprint(fact::MERGED, &print);
        // Behind the rows of the merge in the log: where it survives they do too.
        self.write_unsynced(rows)
    }

    fn hash_index(&self, file: &File) -> Result<[u8; 32]> {
        let fail = |error| Error::io("read index.json", &self.root, error);
        rewind(file).and_then(|()| hash_of(file)).map_err(fail)
    }
}
