//! Taking content in: hashed and checked before it is anybody's.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::blobs::{BlobReader, Content, Expected, Ingest, Sharing, unobserved};
use crate::digest::Algorithm;
use crate::error::{Error, Result};

impl Store {
    /// Begins to take in one content in pieces: write into it, finish it, push what that gives. Dropped, nothing stays.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Poisoned`.
    pub fn ingest(&self, algorithm: Algorithm) -> Result<Ingest> {
        let core = self.core();
        core.check_writable()?;
        let max_size = core.options.limits.max_content_size;
        let ingest = Ingest::new(Arc::clone(&core.blobs), algorithm, core.options.inline_limit, max_size);
        Ok(ingest.around(core.durable()))
    }

    /// Takes in bytes that are in memory.
    ///
    /// # Errors
    ///
    /// `Mismatch` when they are not what was expected, naming both; `Invalid` above the limit of the store;
    /// `ReadOnly`, `Poisoned`, `NoSpace`, `Io`.
    pub fn ingest_bytes(&self, bytes: impl Into<Bytes>, expected: &Expected) -> Result<Content> {
        let bytes = bytes.into();
        let core = self.core();
        core.check_writable()?;
        if let Some(limit) = core.options.limits.max_content_size.filter(|limit| bytes.len() as u64 > *limit)
        {
            return Err(Error::invalid(format!(
                "content is larger than allowed, size={}, limit={limit}",
                bytes.len()
            )));
        }
        Content::from_bytes(expected.algorithm(), bytes, expected)
    }

    /// Takes in what a reader gives, to its end.
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_bytes`]; `Io` when the reader fails.
    pub fn ingest_reader(&self, reader: impl Read, expected: &Expected) -> Result<Content> {
        let mut ingest = self.ingest(expected.algorithm())?;
        // One byte more than was announced is enough to know.
        ingest.append_from(reader.take(expected.size.map_or(u64::MAX, |size| size.saturating_add(1))))?;
        ingest.finish(expected)
    }

    /// Takes in content that another store or layout has, shared with it as far as `sharing` allows and the filesystem can.
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_bytes`], `Mismatch` also when the other's content is damaged; `Io` when it cannot be read.
    pub fn ingest_from(&self, from: &BlobReader, sharing: Sharing) -> Result<Content> {
        self.ingest_from_observed(from, sharing, &mut unobserved)
    }

    /// [`Store::ingest_from`], watched: `observer` is told how many bytes are done, and may stop it.
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_from`]; `Interrupted` when the observer says so.
    pub fn ingest_from_observed(
        &self,
        from: &BlobReader,
        sharing: Sharing,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Content> {
        let expected = Expected::from(from.digest()).with_size(from.len());
        self.ingest(expected.algorithm())?.take_reader(from, sharing, &expected, observer)
    }

    /// Takes in a private copy of a local file, by reflink where the filesystem can.
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_bytes`]; `NotFound`, `Invalid` for what is not a readable regular file.
    pub fn ingest_file(&self, path: impl AsRef<Path>, expected: &Expected) -> Result<Content> {
        self.ingest_file_observed(path, expected, &mut unobserved)
    }

    /// As [`Store::ingest_reader`], watched: `observer` is told after each piece how many bytes are done, and ends the
    /// work by answering [`ControlFlow::Break`].
    ///
    /// ```
    /// # fn main() -> orlop::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let store = orlop::Options::new().create(dir.path().join("images"))?;
    /// use std::ops::ControlFlow;
    /// let mut stop_at_once = |_done: u64| ControlFlow::Break(());
    /// let stopped = store.ingest_reader_observed(&b"content"[..], &Default::default(), &mut stop_at_once);
    /// assert_eq!(stopped.unwrap_err().kind(), orlop::ErrorKind::Interrupted);
    /// # store.close()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_reader`]; `Interrupted` when the observer ends it: nothing is left behind.
    pub fn ingest_reader_observed(
        &self,
        reader: impl Read,
        expected: &Expected,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Content> {
        let mut ingest = self.ingest(expected.algorithm())?;
        ingest.append_observed(reader, observer)?;
        ingest.finish(expected)
    }

    /// As [`Store::ingest_file`], watched as [`Store::ingest_reader_observed`] is. A file is copied and then hashed; each
    /// of the two counts for half of its bytes, except where the filesystem copies at once.
    ///
    /// # Errors
    ///
    /// As [`Store::ingest_file`]; `Interrupted` when the observer ends it: nothing is left behind.
    pub fn ingest_file_observed(
        &self,
        path: impl AsRef<Path>,
        expected: &Expected,
        observer: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Content> {
        self.ingest(expected.algorithm())?.take_path(path.as_ref(), expected, observer)
    }
}
