//! Content files in memory: the only file of the crate with `unsafe`.

use std::fs::File;
use std::io;
use std::path::Path;

use super::dir::Stat;
use super::fault::{self, Call};

/// Bytes of one content file, mapped read-only.
///
/// # Safety argument
///
/// A content file is created under a temporary name, readable only, and never opened for writing again once it
/// has its final name; repair puts another file over the name and removal takes the name away, and both leave
/// the mapped file as it is. The directory is held by `StoreLock`. Only a foreign process that truncates or
/// rewrites files under `blobs/` can break this; `ReadMode::Copy` is for such places.
#[derive(Debug)]
pub(crate) struct Mapping(memmap2::Mmap);

/// What came of mapping a file.
#[derive(Debug)]
pub(crate) enum Mapped {
    /// The file, whole.
    Done(Mapping),
    /// Not mapped: the file has this size instead of the expected one.
    Size(u64),
}

impl Mapping {
    /// Maps the whole of `file` if it has the expected size; an empty file cannot be mapped. `path` is for
    /// fault points.
    pub(crate) fn map(file: &File, path: &Path, expected: u64) -> io::Result<Mapped> {
        fault::point(Call::Map, path)?;
        let size = Stat::of(file)?.size;
        if size != expected {
            return Ok(Mapped::Size(size));
        }
        if size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file cannot be mapped"));
        }
        // SAFETY: see the type: nothing writes into the file while it is mapped, and its length has just been
        // compared, so that every page of the mapping is backed by the file.
        #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Mapped::Done(Self(map)))
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use rustix::io::Errno;

    use super::*;
    use crate::sys::{Dir, TempFile, fault::Fault, fault::arm};

    #[test]
    fn maps_a_file_of_the_expected_size_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut temp = TempFile::create(&dir).unwrap();
        let map = |temp: &TempFile, size| Mapping::map(temp.file().unwrap(), root.path(), size);
        assert_eq!(map(&temp, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        temp.write_all(b"content").unwrap();
        let Mapped::Size(7) = map(&temp, 8).unwrap() else { panic!("a file of another size was mapped") };
        let Mapped::Done(mapping) = map(&temp, 7).unwrap() else { panic!("not mapped") };
        let armed = arm(Fault::new(Call::Map, root.path(), Errno::NOMEM));
        assert_eq!(map(&temp, 7).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(armed.fired(), 1);
        drop(temp);
        assert_eq!(mapping.as_ref(), b"content");
    }
}
