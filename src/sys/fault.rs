//! Fault points: where tests make a call to the operating system fail.
//!
//! Outside `cfg(test)` a point is an empty inlined function. In tests a `Fault` is armed for the paths below
//! one directory, because tests of one process run side by side.

#[cfg(not(test))]
use std::io;
use std::path::Path;

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    /// Creating a temporary file.
    CreateTemp,
    /// Writing into a temporary file, one point for each system call.
    Write,
    /// `fsync` of a file.
    SyncFile,
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
}

/// Fails when a test has armed a fault for this call below a directory that holds `path`.
#[cfg(not(test))]
#[inline]
pub(crate) fn point(_call: Call, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// How many of `len` bytes one call to the system may write.
#[cfg(not(test))]
#[inline]
pub(crate) fn write_len(_path: &Path, len: usize) -> usize {
    len
}

#[cfg(test)]
pub(crate) use self::armed::{Fault, arm, point, write_len};

#[cfg(test)]
mod armed {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::RwLock;

    use super::Call;

    static PLANS: RwLock<Vec<Arc<Plan>>> = RwLock::new(Vec::new());

    /// What is to fail.
    #[derive(Clone, Debug)]
    pub(crate) struct Fault {
        /// The kind of call.
        pub(crate) call: Call,
        /// Only paths equal to or below this one.
        pub(crate) root: PathBuf,
        /// The first matching call that fails, counted from 1.
        pub(crate) nth: usize,
        /// Fail every later one as well.
        pub(crate) forever: bool,
        /// What the call answers.
        pub(crate) errno: rustix::io::Errno,
        /// While armed, every write of two bytes or more is cut in half.
        pub(crate) short_writes: bool,
    }

    impl Fault {
        /// The first such call below `root` fails with `errno`, once.
        pub(crate) fn new(call: Call, root: &Path, errno: rustix::io::Errno) -> Self {
            Self { call, root: root.to_path_buf(), nth: 1, forever: false, errno, short_writes: false }
        }

        /// The n-th instead of the first.
        pub(crate) fn nth(mut self, nth: usize) -> Self {
            self.nth = nth;
            self
        }

        /// That one and every later one.
        pub(crate) fn forever(mut self) -> Self {
            self.forever = true;
            self
        }

        /// Cuts writes in half, so that a failing second write follows a short first one.
        pub(crate) fn short_writes(mut self) -> Self {
            self.short_writes = true;
            self
        }
    }

    #[derive(Debug)]
    struct Plan {
        fault: Fault,
        seen: AtomicUsize,
        fired: AtomicUsize,
    }

    /// An armed fault; disarmed when dropped.
    #[derive(Debug)]
    pub(crate) struct Armed(Arc<Plan>);

    impl Armed {
        /// How many calls it has made fail.
        pub(crate) fn fired(&self) -> usize {
            self.0.fired.load(Ordering::SeqCst)
        }

        /// How many calls matched, failed or not.
        pub(crate) fn seen(&self) -> usize {
            self.0.seen.load(Ordering::SeqCst)
        }
    }

    impl Drop for Armed {
        fn drop(&mut self) {
            PLANS.write().retain(|plan| !Arc::ptr_eq(plan, &self.0));
        }
    }

    /// Arms a fault until the guard is dropped.
    #[must_use]
    pub(crate) fn arm(fault: Fault) -> Armed {
        let plan = Arc::new(Plan { fault, seen: AtomicUsize::new(0), fired: AtomicUsize::new(0) });
        PLANS.write().push(Arc::clone(&plan));
        Armed(plan)
    }

    pub(crate) fn point(call: Call, path: &Path) -> io::Result<()> {
        for plan in PLANS.read().iter() {
            if plan.fault.call != call || !path.starts_with(&plan.fault.root) {
                continue;
            }
            let seen = plan.seen.fetch_add(1, Ordering::SeqCst) + 1;
            if seen == plan.fault.nth || (plan.fault.forever && seen > plan.fault.nth) {
                plan.fired.fetch_add(1, Ordering::SeqCst);
                return Err(plan.fault.errno.into());
            }
        }
        Ok(())
    }

    pub(crate) fn write_len(path: &Path, len: usize) -> usize {
        let plans = PLANS.read();
        let cut = plans.iter().any(|plan| plan.fault.short_writes && path.starts_with(&plan.fault.root));
        if cut { len.div_ceil(2) } else { len }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

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
}
