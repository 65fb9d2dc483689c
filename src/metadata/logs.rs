//! The logs before the engine reads them: what they are, and where torn ones end.
//!
//! The engine passes over zeros in a log without a word and goes on behind them, and over the end of a log that lost some to the next
//! one. So it is not asked: the logs are judged by their bytes alone (`log_tail.rs`), and it is given those that count.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::log_tail::{BLOCK, Cut, Tail, Verdict};
use crate::error::{Error, Result};
use crate::sys::{self, Dir, ScratchDir};

/// The logs of metadata that the engine reads.
#[derive(Debug)]
pub(super) struct Logs {
    dir: Dir,
    /// Oldest first.
    names: Vec<OsString>,
}

impl Logs {
    /// Those from a number on: older ones are in tables.
    pub(super) fn from(path: &Path, least: u64) -> Result<Self> {
        let fail = |error| Error::io("look for the metadata log", path, error);
        let dir = Dir::open_following(path).map_err(fail)?;
        let mut logs = Vec::new();
        for name in dir.list().map_err(fail)? {
            let name = name.map_err(fail)?;
            let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
            logs.extend(number.filter(|number| *number >= least).map(|number| (number, name)));
        }
        logs.sort();
        Ok(Self { dir, names: logs.into_iter().map(|(_, name)| name).collect() })
    }

    /// Whether there is anything in one.
    pub(super) fn hold_anything(path: &Path) -> Result<bool> {
        let fail = |error| Error::io("look at the metadata log", path, error);
        match Dir::open_following(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(fail)?,
        };
        let logs = Self::from(path, 0)?;
        for name in &logs.names {
            if logs.dir.stat(name).map_err(fail)?.is_some_and(|stat| stat.size > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Judges them; every row up to `synced` is known to have been on the disk, and rows up to `tables` to be in tables. Nothing is
    /// answered when one was removed meanwhile, by a live writer.
    pub(super) fn judge(&self, synced: u64, tables: Option<u64>) -> Result<Option<Verdict>> {
        let fail = |error| Error::io("look at the metadata log", self.dir.path(), error);
        let mut tail = Tail::of_logs(synced, tables);
        let mut block = Vec::with_capacity(BLOCK);
        for (n, name) in self.names.iter().enumerate() {
            let Some(mut log) = self.dir.open_file(name).map_err(fail)? else { return Ok(None) };
            if n > 0 {
                tail.next_log();
            }
            loop {
                block.clear();
                log.by_ref().take(BLOCK as u64).read_to_end(&mut block).map_err(fail)?;
                tail.block(&block);
                if block.len() < BLOCK {
                    break;
                }
            }
        }
        Ok(Some(tail.verdict()))
    }

    /// Copies of what counts of torn ones, in a directory of their own.
    pub(super) fn lend(&self, cut: &Cut) -> Result<ScratchDir> {
        let fail = |error| Error::io("copy the metadata log", self.dir.path(), error);
        let scratch = ScratchDir::create().map_err(fail)?;
        let to = Dir::open_following(scratch.path()).map_err(fail)?;
        for (n, name) in self.names.iter().take(cut.log + 1).enumerate() {
            let Some(log) = self.dir.open_file(name).map_err(fail)? else { continue };
            let most = if n == cut.log { cut.at } else { u64::MAX };
            let mut copy: File = to.create_new(name, 0o600).map_err(fail)?;
            io::copy(&mut log.take(most), &mut copy).map_err(fail)?;
        }
        Ok(scratch)
    }

    /// Takes away what does not count of torn ones. Ended in the middle of that they are torn at the same place.
    pub(super) fn cut(&self, cut: &Cut) -> Result<()> {
        let fail = |error| Error::io("cut off the end of the metadata log", self.dir.path(), error);
        let cut_off = || -> io::Result<()> {
            for name in self.names.iter().skip(cut.log + 1).rev() {
                self.dir.unlink(name)?;
            }
            self.dir.sync()?;
            if let Some(name) = self.names.get(cut.log) {
                sys::cut_off(&self.dir, name, cut.at)?;
            }
            self.dir.sync()
        };
        cut_off().map_err(fail)
    }
}

#[cfg(test)]
mod tests;
