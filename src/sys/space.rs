//! Whole filesystems.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::dir::Dir;
use super::fault::{self, Call};

/// Makes everything durable that was written to the filesystem of `dir`.
///
/// Concurrent calls on one `Dir` share the sync, and a failure is final for it. Write errors since `dir` was opened are reported (Linux 5.8 and later). Takes as long as all dirty data of
/// that filesystem does, also of other programs.
pub(crate) fn sync_filesystem(dir: &Dir) -> io::Result<()> {
    dir.sync_filesystem(|file| {
        if fault::step(Call::SyncFs, dir.path(), OsStr::new(""))? {
            rustix::fs::syncfs(file)?;
        }
        Ok(())
    })
}

/// What a filesystem has left for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Free {
    /// Bytes that an ordinary user may still write.
    pub(crate) bytes: u64,
    /// Files that may still be made; None where they are not counted.
    pub(crate) files: Option<u64>,
    /// Bytes of the whole filesystem.
    pub(crate) total: u64,
    /// Bytes that a file takes at least.
    pub(crate) block: u64,
}

/// What the filesystem of `dir` has left; None where it does not tell.
pub(crate) fn free_space(dir: &Dir) -> Option<Free> {
    let found = fault::point(Call::Space, dir.path()).and_then(|()| Ok(rustix::fs::fstatvfs(dir.file())?));
    match found {
        // A filesystem in user space that does not know.
        Ok(found) if found.f_blocks == 0 => None,
        Ok(found) => Some(Free {
            bytes: found.f_bavail.saturating_mul(found.f_frsize),
            files: (found.f_files > 0).then_some(found.f_favail),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            block: found.f_frsize.max(512),
        }),
        // As a test has it of a disk with a little left, and of a full one.
        Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
            Some(Free { bytes: 1 << 20, files: Some(0), total: 1 << 40, block: 4096 })
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            Some(Free { bytes: 0, files: Some(0), total: 1 << 40, block: 4096 })
        }
        Err(_) => None,
    }
}

/// The id that the filesystem of `dir` has of itself; None where it has none.
pub(crate) fn filesystem_id(dir: &Dir) -> Option<u64> {
    rustix::fs::fstatvfs(dir.file()).ok().map(|found| found.f_fsid).filter(|id| *id != 0)
}

/// What a path is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FsKind {
    /// A filesystem of this machine, as far as can be told: FUSE hides what is behind it.
    Local,
    /// One that other machines may write to, by name.
    Network(&'static str),
}

/// What `path`, which exists, is on.
pub(crate) fn filesystem_kind(path: &Path) -> io::Result<FsKind> {
    fault::point(Call::Stat, path)?;
    let raw = rustix::fs::statfs(path)?.f_type;
    // The magic numbers have 32 bits; on some architectures the field is signed and wider.
    let magic = u32::try_from(u64::try_from(raw).map_or(raw as i128, i128::from) & 0xffff_ffff).unwrap_or(0);
    Ok(kind_of(magic))
}

/// By the magic number of `statfs(2)`; the list is from linux/magic.h and the modules' own headers.
fn kind_of(magic: u32) -> FsKind {
    FsKind::Network(match magic {
        0x0000_6969 => "nfs",
        0x0000_517b => "smb",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x0102_1997 => "9p",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x7375_7245 => "coda",
        0x0000_564c => "ncp",
        0x7461_636f => "ocfs2",
        0x0116_1970 => "gfs2",
        0x1983_0326 => "beegfs",
        _ => return FsKind::Local,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn network_filesystems_are_named() {
        for (magic, name) in
            [(0x6969, "nfs"), (0xff53_4d42, "cifs"), (0xfe53_4d42, "smb2"), (0x0102_1997, "9p")]
        {
            assert_eq!(kind_of(magic), FsKind::Network(name));
        }
        for (magic, name) in
            [(0xef53_u32, "ext4"), (0x5846_5342, "xfs"), (0x9123_683e, "btrfs"), (0x0102_1994, "tmpfs")]
        {
            assert_eq!(kind_of(magic), FsKind::Local, "{name}");
        }
    }

    #[test]
    fn asks_the_system() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(filesystem_kind(root.path()).unwrap(), FsKind::Local);
        assert_eq!(filesystem_kind(&root.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_failed_sync_is_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        sync_filesystem(&dir).unwrap();
        let armed = fault::arm(fault::Fault::new(Call::SyncFs, root.path(), Errno::IO));
        assert_eq!(sync_filesystem(&dir).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert_eq!(armed.fired(), 1);
    }
}
