//! Content for another set of content files: a further name of the same file, or a copy that is hashed.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::ingest::Observer;
use super::{Blobs, Staged, file_name};
use crate::digest::{Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Linked, Stat, TempFile};

/// What the other set of files got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Given {
    /// A further name of the same file, of this size.
    Linked(u64),
    /// A file of its own, of this size, that nobody synced.
    Copied(u64),
    /// It has the name already.
    Known,
    /// Nothing: there is no file, or something else than a file, or not the content that its name says.
    Nothing,
}

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

impl Blobs {
    /// Gives `to` the file of a content. With `copy`, or where this file cannot have one more name, the bytes: blocks shared
    /// where the filesystem can, else copied and hashed.
    ///
    /// `observer` is told how many bytes of it were copied. The names are not durable before [`Blobs::sync_dirs`], copied bytes
    /// not before [`Blobs::sync_filesystem`].
    pub(crate) fn give(
        &self,
        digest: &Digest,
        to: &Self,
        copy: bool,
        observer: Observer<'_>,
    ) -> Result<Given> {
        let Some(from) = self.dir(digest.algorithm())? else { return Ok(Given::Nothing) };
        let dir = to.dir_for_writing(digest.algorithm())?;
        let name = file_name(digest);
        let fail = |error| Error::io("link the content", &to.path(digest), error);
        if !copy {
            match sys::link(from, &name, dir).map_err(fail)? {
                Linked::Done => {
                    return match dir.stat(&name).map_err(fail)? {
                        Some(stat) if stat.is_file => Ok(Given::Linked(stat.size)),
                        // What another tool has put there instead of a file is not ours to spread.
                        _ => dir.unlink(&name).map(|_| Given::Nothing).map_err(fail),
                    };
                }
                Linked::Taken => return Ok(Given::Known),
                Linked::Absent => return Ok(Given::Nothing),
                Linked::Elsewhere | Linked::Refused => {}
            }
        }
        match to.copy_of(self, digest, observer)? {
            None => Ok(Given::Nothing),
            Some((staged, size)) => to.name(staged).map(|()| Given::Copied(size)),
        }
    }

    /// A private file with a content of `from`; none when its file is not there or is damaged.
    fn copy_of(&self, from: &Self, digest: &Digest, observer: Observer<'_>) -> Result<Option<(Staged, u64)>> {
        let file = match from.open_file(digest) {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(None),
            other => other?,
        };
        let Some(mut file) = file else { return Ok(None) };
        let dir = self.ingest_dir()?;
        let fail = |error| Error::io("copy the content", &from.path(digest), error);
        let mut temp = TempFile::create(dir).map_err(fail)?;
        if temp.clone_from(&file).map_err(fail)? {
            let size = Stat::of(&file).map_err(fail)?.size;
            return Ok(Some((Staged::new(*digest, temp), size)));
        }
        let mut digester = Digester::new(digest.algorithm());
        let announced = Stat::of(&file).map_err(fail)?.size;
        let mut buffer = vec![0; usize::try_from(announced).unwrap_or(PIECE).clamp(1, PIECE)];
        let mut size = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            let part = buffer.get(..read).unwrap_or_default();
            digester.update(part);
            temp.write_all(part).map_err(fail)?;
            size += read as u64;
            if observer(size) == ControlFlow::Break(()) {
                return Err(Error::new(ErrorKind::Interrupted, format!("copy was stopped, digest={digest}")));
            }
        }
        Ok((digester.finish() == *digest).then(|| (Staged::new(*digest, temp), size)))
    }
}
