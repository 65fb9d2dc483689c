//! Contents against their files.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Finding, Flaw, Verifier, VerifyReport};
use crate::blobs::BlobReader;
use crate::digest::{Digest, Digester};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::ContentRecord;
use crate::store::{Core, until};

/// Contents of one page: what a stopped run does again at most.
const PAGE: usize = 256;
const PIECE: usize = 256 << 10;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(200);

/// Spreads reading over time.
struct Pace {
    began: Instant,
    limit: Option<u64>,
    bytes: AtomicU64,
    stop: AtomicBool,
}

impl Pace {
    /// Counts bytes that were read, and waits until they are due. Breaks when the run is to stop.
    fn read(&self, bytes: u64) -> ControlFlow<()> {
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some(limit) = self.limit {
            let due = Duration::from_secs_f64(total as f64 / limit as f64);
            while let Some(left) = due.checked_sub(self.began.elapsed())
                && !left.is_zero()
                && !self.stop.load(Ordering::Relaxed)
            {
                thread::sleep(left.min(TELL));
            }
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

type Rows = Vec<(Digest, ContentRecord)>;

impl Verifier<'_> {
    /// Looks at all contents; answers whether it came to the end.
    pub(super) fn contents(&mut self, report: &mut VerifyReport) -> Result<bool> {
        let pace = Pace {
            began: Instant::now(),
            limit: self.bytes_per_second,
            bytes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let core = self.store.core();
        loop {
            let mut rows: Rows = Vec::with_capacity(PAGE);
            core.metadata.view().contents_after(report.last.as_ref(), |digest, record| {
                rows.push((digest, record));
                Ok(until(rows.len() == PAGE))
            })?;
            let Some((last, _)) = rows.last() else {
                report.complete = true;
                return Ok(true);
            };
            let last = *last;
            let found = self.page(&rows, &pace, report)?;
            report.bytes = pace.bytes.load(Ordering::Relaxed);
            if pace.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            report.contents += rows.len() as u64;
            report.last = Some(last);
            for (digest, flaw, detail) in found {
                if let Some(finding) = core.settle_damage(&digest, flaw, detail, self.quarantine)? {
                    report.add(finding);
                }
            }
            if self.tell(report).is_break() {
                return Ok(false);
            }
        }
    }

    /// Looks at some contents with all threads, and tells of the progress meanwhile.
    fn page(
        &mut self,
        rows: &Rows,
        pace: &Pace,
        report: &VerifyReport,
    ) -> Result<Vec<(Digest, Flaw, String)>> {
        let (core, read_data) = (self.store.core(), self.read_data);
        let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut found = Vec::new();
            while let Some((digest, record)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                match core.look_at(digest, record, read_data, pace) {
                    Ok(None) => {}
                    Ok(Some((flaw, detail))) => found.push((*digest, flaw, detail)),
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        };
        let threads = if read_data { self.threads } else { 1 };
        if threads == 1 && self.watch.is_none() {
            return work();
        }
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let found = work();
                        finished.fetch_add(1, Ordering::Release);
                        found
                    })
                })
                .collect();
            let mut told = Instant::now();
            while finished.load(Ordering::Acquire) < threads {
                thread::sleep(Duration::from_millis(1));
                if told.elapsed() < TELL {
                    continue;
                }
                told = Instant::now();
                let so_far =
                    VerifyReport { bytes: pace.bytes.load(Ordering::Relaxed), ..progress_of(report) };
                if self.tell(&so_far).is_break() {
                    pace.stop.store(true, Ordering::Relaxed);
                }
            }
            let mut found = Vec::new();
            for worker in workers {
                found.append(&mut worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(found)
        })
    }
}

fn progress_of(report: &VerifyReport) -> VerifyReport {
    VerifyReport { contents: report.contents, last: report.last, ..VerifyReport::default() }
}

impl Core {
    /// What is wrong with a content, if anything.
    fn look_at(
        &self,
        digest: &Digest,
        record: &ContentRecord,
        read_data: bool,
        pace: &Pace,
    ) -> Result<Option<(Flaw, String)>> {
        let view = self.metadata.view();
        if let Some((_, bytes)) = view.journal(digest)? {
            let sound = !read_data || digest.algorithm().digest(&bytes) == *digest;
            return Ok((!sound).then(|| (Flaw::Bytes, "in the journal".to_owned())));
        }
        match self.blobs.stat_size(digest) {
            Ok(Some(size)) if size == record.size => {}
            Ok(Some(size)) => {
                return Ok(Some((Flaw::Size, format!("expected={}, found={size}", record.size))));
            }
            Ok(None) => return Ok(Some((Flaw::Missing, "its file is not there".to_owned()))),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Ok(Some((Flaw::Kind, "something else has its name".to_owned())));
            }
            Err(error) if error.kind() == ErrorKind::Io => {
                return Ok(Some((Flaw::Unreadable, cause(&error))));
            }
            Err(error) => return Err(error),
        }
        if !read_data {
            // What was found to be damaged is looked at again.
            return Ok(record.damaged.then(|| (Flaw::Bytes, "found earlier".to_owned())));
        }
        match hash(&self.blobs, digest, record.size, pace) {
            Ok(None) => Ok(None),
            Ok(Some(found)) if found == *digest => {
                if record.damaged && self.check_writable().is_ok() {
                    self.condemn(digest, true, false)?;
                }
                Ok(None)
            }
            Ok(Some(found)) => Ok(Some((Flaw::Bytes, format!("found={found}")))),
            Err(error) => match error.kind() {
                ErrorKind::Corrupt => Ok(Some((Flaw::Size, "it changed while it was read".to_owned()))),
                ErrorKind::Io => Ok(Some((Flaw::Unreadable, cause(&error)))),
                _ => Err(error),
            },
        }
    }

    /// Puts damage down, and moves the file away. None: it is healed or gone by now.
    fn settle_damage(
        &self,
        digest: &Digest,
        flaw: Flaw,
        detail: String,
        quarantine: bool,
    ) -> Result<Option<Finding>> {
        let view = self.metadata.view();
        let mut finding = Finding {
            digest: Some(*digest),
            flaw,
            detail,
            repositories: self.repositories_of(&view, digest)?,
            quarantined: false,
        };
        // Nor is anything written after a failed sync.
        if self.check_writable().is_err() {
            return Ok(Some(finding));
        }
        // What cannot be read now may be read another day, so it stays where it is.
        let quarantine = quarantine && matches!(flaw, Flaw::Size | Flaw::Bytes | Flaw::Kind);
        let Some(moved) = self.condemn(digest, flaw != Flaw::Unreadable, quarantine)? else {
            return Ok(None);
        };
        finding.quarantined = moved;
        Ok(Some(finding))
    }
}

/// The digest of what is in the file; None when the run was stopped.
fn hash(
    blobs: &std::sync::Arc<crate::blobs::Blobs>,
    digest: &Digest,
    size: u64,
    pace: &Pace,
) -> Result<Option<Digest>> {
    let Some(reader) = BlobReader::open(blobs, *digest, size, false)? else {
        return Err(Error::corrupt(format!("content has no file, digest={digest}")));
    };
    let mut from = reader.start();
    let mut digester = Digester::new(digest.algorithm());
    let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).max(1))];
    loop {
        match std::io::Read::read(&mut from, &mut buffer) {
            Ok(0) => return Ok(Some(digester.finish())),
            Ok(read) => {
                digester.update(buffer.get(..read).unwrap_or_default());
                if pace.read(read as u64).is_break() {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::corrupt(error.to_string()));
            }
            Err(error) => {
                return Err(Error::new(ErrorKind::Io, format!("cannot read the content, digest={digest}"))
                    .with_source(error));
            }
        }
    }
}

pub(super) fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
