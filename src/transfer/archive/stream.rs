//! Taking in an archive that comes as a stream and is read once.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::Watch;
use super::codec::{Compression, MAGIC};
use super::entries::Entries;
use super::import::{Imported, Importer, ingest};
use super::open::Archive;
use super::proof::is_present;
use super::staging::Visit;
use super::tar::failed;
use crate::digest::Digest;
use crate::error::Result;
use crate::store::Store;

/// What messages call it.
const NAME: &str = "stream";
/// Where content is kept until it is known what it belongs to.
const REPOSITORY: &str = "orlop-import/stream";

/// Takes in an archive that comes as a stream, such as standard input, in any order of its entries and compressed or not.
///
/// Nothing can be proved before content comes, since what names it may stand last: content goes into a repository `orlop-import/stream` until
/// then, documents of up to 256 KiB are kept in memory up to 64 MiB, and no manifest is named before all that it refers to is there. What came before an
/// error stays, and the next run finds it. Archives of `docker save` before version 25 have no layout and must be in a file.
pub struct StreamImport<'a> {
    store: &'a Store,
    watch: Option<Watch<'a>>,
    keep_going: bool,
}

impl<'a> StreamImport<'a> {
    /// Takes into this store.
    #[must_use]
    pub fn new(store: &'a Store) -> Self {
        Self { store, watch: None, keep_going: false }
    }

    /// As [`Importer::keep_going`], but for content that is damaged, which ends the reading.
    #[must_use]
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.keep_going = keep_going;
        self
    }

    /// Has `watch` told of each content and of how many bytes of it are done. If it breaks, the import ends with `Interrupted`.
    #[must_use]
    pub fn watch(mut self, watch: impl FnMut(&Digest, u64) -> ControlFlow<()> + 'a) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Reads to the end of the archive and takes everything in.
    ///
    /// # Errors
    ///
    /// As [`Archive::open`] and [`Importer::run`].
    pub fn run(mut self, from: impl Read + Send) -> Result<Imported> {
        let fail = |error: io::Error| failed(NAME, error);
        let mut from = from;
        let mut head = Vec::new();
        from.by_ref().take(MAGIC as u64).read_to_end(&mut head).map_err(fail)?;
        let compression = Compression::sniff(&head)?;
        let decoded = compression.decode(io::Cursor::new(head).chain(from)).map_err(fail)?;
        let mut visit = Visit::new(self.store, &REPOSITORY.parse()?)?;
        let (store, watch) = (self.store, &mut self.watch);
        let scanned = Entries::scan_stream(decoded, NAME, &mut |digest, size, reader| {
            if is_present(store, &digest, size)? {
                return Ok(());
            }
            let content = ingest(store, &digest, size, reader, watch)?;
            visit.push(content)
        });
        // Also what came before an error.
        let (copied, bytes) = visit.finish()?;
        let archive = Archive::of_entries(scanned?)?;
        let mut importer = Importer::new(&archive, self.store)?;
        importer.keep_going(self.keep_going);
        if let Some(watch) = &mut self.watch {
            importer.set_watch(watch);
        }
        let mut imported = importer.run()?;
        self.store.delete_repository(&REPOSITORY.parse()?)?;
        imported.copied += copied;
        imported.bytes += bytes;
        imported.present = imported.present.saturating_sub(copied);
        Ok(imported)
    }
}

impl std::fmt::Debug for StreamImport<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamImport").finish_non_exhaustive()
    }
}
