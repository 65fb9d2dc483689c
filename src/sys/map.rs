//! Content files in memory: the only file of the crate with `unsafe`.

use std::ffi::{c_int, c_uchar, c_void};
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
pub(crate) struct Mapping {
    map: memmap2::Mmap,
    /// The kernel tells us which pages are in memory.
    told: bool,
}

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
        let stat = Stat::of(file)?;
        if stat.size != expected {
            return Ok(Mapped::Size(stat.size));
        }
        if stat.size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file cannot be mapped"));
        }
        // SAFETY: see the type: nothing writes into the file while it is mapped, and its length has just been
        // compared, so that every page of the mapping is backed by the file.
        #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        // Of a file that somebody else owns the kernel calls every page resident, lest that tells what he does.
        let told = stat.uid == rustix::process::geteuid().as_raw();
        Ok(Mapped::Done(Self { map, told }))
    }

    /// Whether [`are_resident`] can tell of this mapping.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Pages of a question to the kernel: a mebibyte, on most machines.
const ASKED: usize = 256;

/// Whether every page of these bytes is in memory and whole, so that touching them waits for no disk. It may be taken from
/// memory again right behind the answer. Only of a mapping that is told, or of memory. `path` is for fault points.
pub(crate) fn are_resident(bytes: &[u8], path: &Path) -> bool {
    if fault::point(Call::Resident, path).is_err() {
        return false;
    }
    let page = rustix::param::page_size();
    let start = bytes.as_ptr().addr() & !(page - 1);
    let end = bytes.as_ptr().addr() + bytes.len();
    let mut pages = [0; ASKED];
    (start..end).step_by(page * ASKED).all(|at| {
        let length = (end - at).min(page * ASKED);
        let Some(pages) = pages.get_mut(..length.div_ceil(page)) else { return false };
        let from = bytes.as_ptr().with_addr(at);
        // SAFETY: the kernel reads no byte of the range, which need not even be mapped, and writes one byte for each of
        // its pages, for which there is room.
        #[expect(unsafe_code, reason = "a call to the system that the crate rustix does not have")]
        let asked = unsafe { mincore(from.cast_mut().cast(), length, pages.as_mut_ptr()) };
        asked == 0 && pages.iter().all(|page| page & 1 == 1)
    })
}

// SAFETY: as in mincore(2).
#[expect(unsafe_code, reason = "a call to the system that the crate rustix does not have")]
unsafe extern "C" {
    fn mincore(from: *mut c_void, length: usize, pages: *mut c_uchar) -> c_int;
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
