//! Faults that are armed and calls that are recorded.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::Call;

static PLANS: RwLock<Vec<Arc<Plan>>> = RwLock::new(Vec::new());
static RECORDS: RwLock<Vec<Arc<Record>>> = RwLock::new(Vec::new());

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    /// It fails, and nothing is done.
    Fail(Errno),
    /// It answers success, and nothing is done, where leaving it out is foreseen.
    Skip,
    /// The process is killed.
    Exit,
    /// It does not begin before the guard lets it go, and then fails, if it is to.
    Hold(Option<Errno>),
}

/// What is to fail.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// The kind of call; none for any that can fail.
    call: Option<Call>,
    /// Only paths equal to or below this one.
    root: PathBuf,
    /// The first matching call that fails, counted from 1.
    nth: usize,
    /// Fail every later one as well.
    forever: bool,
    action: Action,
    /// While armed, every write of two bytes or more is cut in half.
    short_writes: bool,
}

impl Fault {
    /// The first such call below `root` fails with `errno`, once.
    pub(crate) fn new(call: Call, root: &Path, errno: Errno) -> Self {
        Self::of(Some(call), root, Action::Fail(errno))
    }

    /// The first call of any kind.
    pub(crate) fn any(root: &Path, errno: Errno) -> Self {
        Self::of(None, root, Action::Fail(errno))
    }

    /// The first such call is left out and answers success.
    pub(crate) fn skip(call: Call, root: &Path) -> Self {
        Self::of(Some(call), root, Action::Skip)
    }

    /// The process is killed at the first call of any kind.
    pub(crate) fn exit(root: &Path) -> Self {
        Self::of(None, root, Action::Exit)
    }

    /// The first such call waits until [`Armed::let_go`], and fails then if there is an `errno`.
    pub(crate) fn hold(call: Call, root: &Path, errno: Option<Errno>) -> Self {
        Self::of(Some(call), root, Action::Hold(errno))
    }

    fn of(call: Option<Call>, root: &Path, action: Action) -> Self {
        Self { call, root: root.to_path_buf(), nth: 1, forever: false, action, short_writes: false }
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
    /// What waits may go on.
    gone: Mutex<bool>,
    going: Condvar,
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

    /// Waits until it has made a call fail, or holds one. The time only bounds how long a failure takes.
    pub(crate) fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.fired() == 0 {
            assert!(Instant::now() < end, "nobody came to the call");
            std::thread::yield_now();
        }
    }

    /// Lets the call that is held go on.
    pub(crate) fn let_go(&self) {
        *self.0.gone.lock() = true;
        self.0.going.notify_all();
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.let_go();
        PLANS.write().retain(|plan| !Arc::ptr_eq(plan, &self.0));
    }
}

/// Arms a fault until the guard is dropped.
#[must_use]
pub(crate) fn arm(fault: Fault) -> Armed {
    let (seen, fired) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let plan = Arc::new(Plan { fault, seen, fired, gone: Mutex::new(false), going: Condvar::new() });
    PLANS.write().push(Arc::clone(&plan));
    Armed(plan)
}

/// Something that was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A call, with the path that it was about and, for a move, where that came from; relative to the recording's root.
    Call { call: Call, path: PathBuf, from: Option<PathBuf> },
    /// Rows that were written as one, in words.
    Rows(Vec<String>),
    /// What came before was acknowledged.
    Acknowledged,
}

#[derive(Debug)]
struct Record {
    root: PathBuf,
    events: Mutex<Vec<Event>>,
}

/// Writes down calls below one directory until it is dropped. A call that fails or is left out is not written down.
#[derive(Debug)]
pub(crate) struct Recording(Arc<Record>);

impl Recording {
    /// Says that everything up to here was acknowledged.
    pub(crate) fn acknowledge(&self) {
        self.0.events.lock().push(Event::Acknowledged);
    }

    /// What was done so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.events.lock().clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDS.write().retain(|record| !Arc::ptr_eq(record, &self.0));
    }
}

/// Starts a recording.
#[must_use]
pub(crate) fn record(root: &Path) -> Recording {
    let record = Arc::new(Record { root: root.to_path_buf(), events: Mutex::new(Vec::new()) });
    RECORDS.write().push(Arc::clone(&record));
    Recording(record)
}

/// Writes down rows of the metadata at `path`.
pub(crate) fn wrote_rows(path: &Path, rows: impl FnOnce() -> Vec<String>) {
    let records = RECORDS.read();
    let mut wanted = records.iter().filter(|record| path.starts_with(&record.root)).peekable();
    if wanted.peek().is_some() {
        let rows = rows();
        wanted.for_each(|record| record.events.lock().push(Event::Rows(rows.clone())));
    }
}

pub(crate) fn point(call: Call, path: &Path) -> io::Result<()> {
    judge(call, None, path)
}

pub(crate) fn point_at(call: Call, dir: &Path, name: &OsStr) -> io::Result<()> {
    judge(call, None, &dir.join(name))
}

pub(crate) fn moving(call: Call, from: (&Path, &OsStr), to: (&Path, &OsStr)) -> io::Result<()> {
    judge(call, Some(&from.0.join(from.1)), &to.0.join(to.1))
}

pub(crate) fn step(call: Call, dir: &Path, name: &OsStr) -> io::Result<bool> {
    let path = if name.is_empty() { dir.to_path_buf() } else { dir.join(name) };
    if is_left_out(call, &path) {
        return Ok(false);
    }
    judge(call, None, &path).map(|()| true)
}

pub(crate) fn left_out(call: Call, path: &Path) -> bool {
    is_left_out(call, path)
}

pub(crate) fn write_len(path: &Path, len: usize) -> usize {
    let plans = PLANS.read();
    let cut = plans.iter().any(|plan| plan.fault.short_writes && path.starts_with(&plan.fault.root));
    if cut { len.div_ceil(2) } else { len }
}

/// Whether this is the turn of a plan, which counts it.
fn is_due(plan: &Plan, call: Call, path: &Path) -> bool {
    let fault = &plan.fault;
    if fault.call.is_some_and(|wanted| wanted != call) || !path.starts_with(&fault.root) {
        return false;
    }
    let seen = plan.seen.fetch_add(1, Ordering::SeqCst) + 1;
    let due = seen == fault.nth || (fault.forever && seen > fault.nth);
    plan.fired.fetch_add(usize::from(due), Ordering::SeqCst);
    due
}

fn is_left_out(call: Call, path: &Path) -> bool {
    let plans = PLANS.read();
    plans.iter().filter(|plan| plan.fault.action == Action::Skip).any(|plan| is_due(plan, call, path))
}

/// Waits until the plan lets the call go.
fn hold(plan: &Plan, errno: Option<Errno>) -> io::Result<()> {
    let mut gone = plan.gone.lock();
    while !*gone {
        plan.going.wait(&mut gone);
    }
    errno.map_or(Ok(()), |errno| Err(errno.into()))
}

fn judge(call: Call, from: Option<&Path>, path: &Path) -> io::Result<()> {
    let plans: Vec<Arc<Plan>> = PLANS.read().clone();
    for plan in &plans {
        match plan.fault.action {
            Action::Hold(errno) if is_due(plan, call, path) => hold(plan, errno)?,
            Action::Skip => {}
            Action::Fail(errno) if is_due(plan, call, path) => return Err(errno.into()),
            Action::Exit if is_due(plan, call, path) => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            Action::Fail(_) | Action::Exit | Action::Hold(_) => {}
        }
    }
    for record in RECORDS.read().iter() {
        if let Ok(path) = path.strip_prefix(&record.root) {
            let relative = |from: &Path| from.strip_prefix(&record.root).unwrap_or(from).to_path_buf();
            let from = from.map(relative);
            record.events.lock().push(Event::Call { call, path: path.to_path_buf(), from });
        }
    }
    Ok(())
}
