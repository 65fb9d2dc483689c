//! The files of upload sessions: content that grows over many calls, and over restarts.

use std::ffi::OsStr;
use std::io;

use bytes::Bytes;

use super::Blobs;
use super::filing::Staged;
use super::pipe::BUFFER;
use crate::digest::{Algorithm, Digest, Digester};
use crate::error::{Error, Result};
use crate::sys::{self, GrowingFile, TempFile};

/// What the names of these files begin with; behind it is the session's id in hexadecimal.
const PREFIX: &str = "upload-";

fn name_of(id: &[u8; 16]) -> String {
    format!("{PREFIX}{:032x}", u128::from_be_bytes(*id))
}

/// The session that a name found in the ingest directory belongs to.
pub(super) fn id_of(name: &OsStr) -> Option<[u8; 16]> {
    let hex = name.to_str()?.strip_prefix(PREFIX)?;
    let id = u128::from_str_radix(hex, 16).ok()?.to_be_bytes();
    (OsStr::new(&name_of(&id)) == name).then_some(id)
}

/// The hashes of what a session has so far.
#[derive(Clone, Debug)]
pub(crate) struct Hashes(Vec<(Algorithm, Option<Digester>)>);

impl Hashes {
    /// Of nothing yet.
    pub(crate) fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self(algorithms.into_iter().map(|algorithm| (algorithm, Some(Digester::new(algorithm)))).collect())
    }

    /// Of `length` bytes, as far as their midstates tell.
    pub(crate) fn resume(midstates: &[(Algorithm, Option<Vec<u8>>)], length: u64) -> Self {
        let digester = |algorithm, midstate: &Option<Vec<u8>>| match midstate {
            Some(midstate) => Digester::resume(algorithm, midstate, length),
            None => (length == 0).then(|| Digester::new(algorithm)),
        };
        Self(
            midstates
                .iter()
                .map(|(algorithm, midstate)| (*algorithm, digester(*algorithm, midstate)))
                .collect(),
        )
    }

    /// Takes in the next piece.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0
            .iter_mut()
            .filter_map(|(_, digester)| digester.as_mut())
            .for_each(|digester| digester.update(bytes));
    }

    /// The algorithms, with what is needed to go on later where one can say.
    pub(crate) fn midstates(&self) -> Vec<(Algorithm, Option<Vec<u8>>)> {
        self.0
            .iter()
            .map(|(algorithm, digester)| (*algorithm, digester.as_ref().and_then(Digester::midstate)))
            .collect()
    }

    /// The digest of everything taken in; nothing where all of it would have to be read again.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        let (_, digester) = self.0.iter().find(|(known, _)| *known == algorithm)?;
        digester.clone().map(Digester::finish)
    }

    /// The algorithm that was asked for first.
    pub(crate) fn first(&self) -> Option<Algorithm> {
        self.0.first().map(|(algorithm, _)| *algorithm)
    }
}

/// The file of one session, open for writing. Dropped, it stays.
#[derive(Debug)]
pub(crate) struct UploadFile(GrowingFile);

impl UploadFile {
    fn fail(&self, action: &str, error: io::Error) -> Error {
        Error::io(action, self.0.dir().path(), error)
    }

    /// Writes bytes that come at the position `at`; with `around`, past the page cache where that can be. After an error some of them
    /// may be there.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64, around: bool) -> Result<()> {
        self.0.write_at(bytes, at, around).map_err(|error| self.fail("write into the upload", error))
    }

    /// Cuts off what a failed write may have left behind `size`.
    pub(crate) fn trim(&self, size: u64) -> Result<()> {
        self.0.truncate(size).map_err(|error| self.fail("cut the upload off", error))
    }

    /// Makes it durable. A failure is final for this file.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.0.sync().map_err(|error| self.fail("sync the upload", error))
    }

    /// Whether the file has another name, which may be that of content: it must not be written any more.
    pub(crate) fn is_shared(&self) -> Result<bool> {
        let stat = self.0.stat().map_err(|error| self.fail("stat the upload", error))?;
        Ok(stat.is_linked)
    }

    /// Its first `size` bytes, which fit into memory.
    pub(crate) fn bytes(&self, size: usize) -> Result<Bytes> {
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            if self.read(&mut content)? == 0 {
                break;
            }
        }
        content.truncate(size);
        Ok(content.into())
    }

    /// Reads its first `size` bytes once.
    pub(crate) fn hash(&self, algorithm: Algorithm, size: u64) -> Result<Digest> {
        let mut digester = Digester::new(algorithm);
        self.pieces(size, |piece| {
            digester.update(piece);
            Ok(())
        })?;
        Ok(digester.finish())
    }

    /// What it holds as content that waits for its name, synced as the file was. The session keeps its own name of it, so
    /// that it is still there if the commit fails.
    pub(crate) fn stage(&self, blobs: &Blobs, digest: Digest, size: u64, synced: bool) -> Result<Staged> {
        let fail = |error| self.fail("give the upload a further name", error);
        if let Some(temp) = self.0.link().map_err(fail)? {
            if synced {
                temp.assume_synced();
            }
            return Ok(Staged::new(digest, temp));
        }
        Ok(Staged::new(digest, self.copy(blobs.ingest_dir()?, size, |_| {})?))
    }

    fn copy(&self, dir: &sys::Dir, size: u64, mut taken: impl FnMut(&[u8])) -> Result<TempFile> {
        let fail = |error| Error::io("copy the upload", dir.path(), error);
        let mut temp = TempFile::create(dir).map_err(fail)?;
        self.pieces(size, |piece| {
            taken(piece);
            temp.write_all(piece).map_err(fail)
        })?;
        Ok(temp)
    }

    fn pieces(&self, size: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut done = 0;
        while done < size {
            buffer.clear();
            let read = sys::read_at(self.0.file(), &mut buffer, done, self.0.dir().path())
                .map_err(|error| self.fail("read the upload", error))?;
            if read == 0 {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(self.fail("read the upload", error));
            }
            let wanted = usize::try_from(size - done).unwrap_or(usize::MAX);
            take(buffer.get(..wanted).unwrap_or(&buffer))?;
            done += read as u64;
        }
        Ok(())
    }

    fn read(&self, content: &mut Vec<u8>) -> Result<usize> {
        let at = content.len() as u64;
        sys::read_at(self.0.file(), content, at, self.0.dir().path())
            .map_err(|error| self.fail("read the upload", error))
    }
}

impl Blobs {
    /// A new, empty file for a session, whatever was there.
    pub(crate) fn create_upload(&self, id: &[u8; 16]) -> Result<UploadFile> {
        let dir = self.ingest_dir()?;
        GrowingFile::create(dir, &name_of(id))
            .map(UploadFile)
            .map_err(|error| Error::io("create the upload", dir.path(), error))
    }

    /// The file of a session that has `size` bytes, cut off behind them; nothing when it is not there or shorter. One that
    /// [is shared](UploadFile::is_shared) stays as it is.
    pub(crate) fn open_upload(&self, id: &[u8; 16], size: u64) -> Result<Option<UploadFile>> {
        let dir = self.ingest_dir()?;
        let fail = |error| Error::io("open the upload", dir.path(), error);
        let Some(file) = GrowingFile::open(dir, &name_of(id)).map_err(fail)? else { return Ok(None) };
        let stat = file.stat().map_err(fail)?;
        if stat.size < size {
            return Ok(None);
        }
        if stat.size > size && !stat.is_linked {
            file.truncate(size).map_err(fail)?;
        }
        Ok(Some(UploadFile(file)))
    }

    /// Puts a copy of a session's file in its place: the same bytes in another file, synced if `durable`. Nothing when the
    /// bytes are not those that `hashes` were taken of. The name is not durable before [`Blobs::sync_ingest`].
    pub(crate) fn copy_upload(
        &self,
        id: &[u8; 16],
        file: &UploadFile,
        size: u64,
        hashes: &Hashes,
        durable: bool,
    ) -> Result<Option<UploadFile>> {
        let dir = self.ingest_dir()?;
        let fail = |error| Error::io("copy the upload", dir.path(), error);
        let known = hashes.0.iter().filter(|(_, digester)| digester.is_some());
        let mut again = Hashes::new(known.map(|(algorithm, _)| *algorithm));
        let temp = file.copy(dir, size, |piece| again.update(piece))?;
        let differs = |(algorithm, _): &(Algorithm, Option<Digester>)| {
            hashes.digest(*algorithm) != again.digest(*algorithm)
        };
        if again.0.iter().any(differs) {
            return Ok(None);
        }
        if durable {
            temp.sync().map_err(fail)?;
        }
        temp.name_as(dir, name_of(id), true).map_err(fail)?;
        self.open_upload(id, size)
    }

    /// Removes the file of a session; false when it had none.
    pub(crate) fn remove_upload(&self, id: &[u8; 16]) -> Result<bool> {
        let dir = self.ingest_dir()?;
        dir.unlink(name_of(id)).map_err(|error| Error::io("remove the upload", dir.path(), error))
    }

    /// Gives back the room of sessions that are over but for their rows; answers whether there was any. What the file of one
    /// holds under a further name stays.
    pub(crate) fn give_up_uploads<'a>(&self, ids: impl Iterator<Item = &'a [u8; 16]>) -> bool {
        let Ok(dir) = self.ingest_dir() else { return false };
        let mut any = false;
        for id in ids {
            let file = GrowingFile::open(dir, &name_of(id)).ok().flatten();
            // Cut off first: some filesystems free what is unlinked only later.
            if let Some(file) = file.filter(|file| file.stat().is_ok_and(|stat| !stat.is_linked)) {
                any |= file.truncate(0).is_ok();
            }
            any |= dir.unlink(name_of(id)).unwrap_or(false);
        }
        if any {
            let _ = sys::sync_filesystem(dir);
        }
        any
    }

    /// Makes the names in the ingest directory durable.
    pub(crate) fn sync_ingest(&self) -> Result<()> {
        let dir = self.ingest_dir()?;
        dir.sync().map_err(|error| Error::io("sync the directory", dir.path(), error))
    }
}
