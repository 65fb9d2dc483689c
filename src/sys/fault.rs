//! Fault points: where tests make a call to the operating system fail.
//!
//! Outside `cfg(test)` a point is an empty inlined function. In tests a `Fault` is armed for the paths below
//! one directory, because tests of one process run side by side: the call fails, waits, the process ends there, or a step of
//! the protocol is left out although the call answers that it was done. A `Recording` writes down what was called in
//! which order.

#[cfg(not(test))]
use std::ffi::OsStr;
#[cfg(not(test))]
use std::io;
#[cfg(not(test))]
use std::path::Path;

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    /// Creating a temporary file.
    CreateTemp,
    /// Writing into a temporary file, one point for each system call.
    Write,
    /// Writing past the page cache. `EINVAL` means that the filesystem does not do it.
    WriteAround,
    /// Cutting a file off.
    Truncate,
    /// `fsync` of a file with content.
    SyncFile,
    /// `fsync` of a file that is replaced as a whole: `index.json`, `oci-layout` and the records of the store.
    SyncDocument,
    /// Asking what the filesystem has left. `ENOSPC` means that nothing is, `EDQUOT` that a mebibyte is.
    Space,
    /// `syncfs`.
    SyncFs,
    /// `fsync` of a directory.
    SyncDir,
    /// Giving a file a name that may exist: `rename`.
    Rename,
    /// `renameat2(RENAME_EXCHANGE)`.
    Exchange,
    /// Giving a file a further name.
    Link,
    /// Removing a name.
    Unlink,
    /// Opening a file or a directory.
    Open,
    /// Reading from a file.
    Read,
    /// Mapping a file.
    Map,
    /// Opening a file whose name is in memory. Whatever fails means that it is not.
    OpenReady,
    /// Asking whether pages of a mapping are in memory. Whatever fails means that they are not.
    Resident,
    /// Reading what is in memory of a file. `EAGAIN` means that it is not.
    ReadReady,
    /// Making a directory.
    MakeDir,
    /// Asking for size and identity of a name.
    Stat,
    /// Listing a directory.
    List,
    /// Cloning or copying inside the kernel.
    Clone,
    /// Taking the lock of a store.
    Lock,
    /// Opening the engine of the metadata.
    OpenRows,
    /// Reading rows that are in memory. Left out, they are not.
    ReadyRows,
    /// Writing rows as one: into the log and into memory.
    WriteRows,
    /// Putting the log on the disk, after the rows were written.
    SyncRows,
    /// Writing the rows that are in memory only into tables.
    FlushRows,
    /// Giving the tables of the metadata further names in another directory.
    CopyRows,
    /// No call: judging the logs of the metadata before the engine reads them. Left out, they are all sound.
    JudgeLogs,
    /// No call: keeping a journal row until its file is there. Left out, the row goes first.
    KeepJournal,
    /// No call: putting down what is about to become `index.json`.
    PutPending,
    /// No call: putting down what the published view has of a name that changes.
    PutBase,
    /// No call: the log has what was condemned before its file goes.
    SyncCondemned,
    /// No call: looking again whether condemned content is back before its file goes.
    LookAgain,
    /// No call: publishing before files go that the published view may reach.
    PublishFirst,
    /// No call: remembering what was pushed or asked for.
    Touch,
    /// No call: looking at the edges of a candidate of a collection under its stripe.
    LookUnderStripe,
}

/// Fails when a test has armed a fault for this call below a directory that holds `path`.
#[cfg(not(test))]
#[inline]
pub(crate) fn point(_call: Call, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// As [`point`], of a name in a directory.
#[cfg(not(test))]
#[inline]
pub(crate) fn point_at(_call: Call, _dir: &Path, _name: &OsStr) -> io::Result<()> {
    Ok(())
}

/// As [`point`], of a name that gets another one, which is the one that counts.
#[cfg(not(test))]
#[inline]
pub(crate) fn moving(_call: Call, _from: (&Path, &OsStr), _to: (&Path, &OsStr)) -> io::Result<()> {
    Ok(())
}

/// As [`point_at`], of a call that a test may leave out: false then.
#[cfg(not(test))]
#[inline]
pub(crate) fn step(_call: Call, _dir: &Path, _name: &OsStr) -> io::Result<bool> {
    Ok(true)
}

/// Whether a test leaves out what is no call by itself.
#[cfg(not(test))]
#[inline]
pub(crate) fn left_out(_call: Call, _path: &Path) -> bool {
    false
}

/// How many of `len` bytes one call to the system may write.
#[cfg(not(test))]
#[inline]
pub(crate) fn write_len(_path: &Path, len: usize) -> usize {
    len
}

#[cfg(test)]
mod armed;

#[cfg(test)]
pub(crate) use self::armed::{
    Armed, Event, Fault, arm, left_out, moving, point, point_at, record, step, write_len, wrote_rows,
};

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

    use std::ffi::OsStr;
    use std::path::Path;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn fails_the_nth_call_below_its_root_only() {
        let root = Path::new("/fault-test/a");
        let armed = arm(Fault::new(Call::Open, root, Errno::IO).nth(2));
        point(Call::Open, Path::new("/fault-test/b")).unwrap();
        point(Call::Read, root).unwrap();
        point(Call::Open, root).unwrap();
        let error = point(Call::Open, &root.join("x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
        point(Call::Open, root).unwrap();
        assert_eq!((armed.seen(), armed.fired()), (3, 1));
        drop(armed);
        let armed = arm(Fault::new(Call::Open, root, Errno::IO).forever());
        point(Call::Open, root).unwrap_err();
        point(Call::Open, root).unwrap_err();
        assert_eq!(armed.fired(), 2);
        drop(armed);
        point(Call::Open, root).unwrap();
    }

    #[test]
    fn cuts_writes_while_armed() {
        let root = Path::new("/fault-test/short");
        assert_eq!(write_len(root, 9), 9);
        let armed = arm(Fault::new(Call::Write, root, Errno::NOSPC).nth(2).short_writes());
        assert_eq!(write_len(root, 9), 5);
        assert_eq!(write_len(root, 1), 1);
        drop(armed);
        assert_eq!(write_len(root, 9), 9);
    }

    #[test]
    fn leaves_out_a_step_and_writes_down_the_others() {
        let root = Path::new("/fault-test/steps");
        let name = OsStr::new("x");
        let recording = record(root);
        let armed = arm(Fault::skip(Call::SyncFile, root).nth(2));
        assert!(step(Call::SyncFile, root, name).unwrap());
        assert!(!step(Call::SyncFile, root, name).unwrap());
        assert!(step(Call::SyncFile, root, name).unwrap());
        point(Call::SyncFile, root).unwrap();
        assert!(!left_out(Call::PutBase, root));
        drop(armed);
        let armed = arm(Fault::skip(Call::PutBase, root).forever());
        assert!(left_out(Call::PutBase, root) && left_out(Call::PutBase, root));
        drop(armed);
        recording.acknowledge();
        moving(Call::Rename, (root, name), (root, OsStr::new("y"))).unwrap();
        let calls: Vec<String> = recording.events().iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(calls.len(), 5, "{calls:?}");
        assert!(calls[4].contains("\"x\"") && calls[4].contains("\"y\""), "{calls:?}");
    }

    #[test]
    fn a_stalled_call_goes_on_once_it_is_disarmed() {
        let root = Path::new("/fault-test/stall");
        let armed = arm(Fault::hold(Call::Read, root, None).nth(2));
        point(Call::Read, root).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let stalled = std::thread::spawn(move || {
            point(Call::Read, root).unwrap();
            sender.send(()).unwrap();
        });
        while armed.fired() == 0 {
            std::thread::yield_now();
        }
        // Others go on, and may arm and disarm.
        point(Call::Read, root).unwrap();
        drop(arm(Fault::new(Call::Open, root, Errno::IO)));
        receiver.try_recv().unwrap_err();
        drop(armed);
        stalled.join().unwrap();
        receiver.try_recv().unwrap();
    }

    #[test]
    fn any_call_can_be_the_one_that_fails() {
        let root = Path::new("/fault-test/any");
        let armed = arm(Fault::any(root, Errno::IO).nth(2));
        point(Call::Open, root).unwrap();
        point(Call::Read, root).unwrap_err();
        assert_eq!((armed.seen(), armed.fired()), (2, 1));
    }
}
