//! The access log: one line for each request, written behind the requests by a thread of its own.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::error::Failure;
use crate::output::plain;

/// Lines that may wait for a slow disk or terminal; what comes beyond is counted and left out.
const WAITING: usize = 16_384;
/// How long the same complaint is not made again.
const QUIET: Duration = Duration::from_secs(10);

/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;

/// What is said of a request.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) time: String,
    pub(super) remote: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<String>,
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    pub(super) status: u16,
    /// Of the answer's body, as far as it was sent.
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    /// Whether the answer's body was sent to its end.
    pub(super) complete: bool,
}

/// Where entries go. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Log {
    lines: Option<SyncSender<Entry>>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    complained: Arc<Mutex<Option<(String, Instant)>>>,
}

/// The thread that writes; ends when the last [`Log`] is gone.
#[derive(Debug)]
pub(super) struct Writer(JoinHandle<()>);

/// Where lines end up.
enum Sink {
    Stderr,
    File(PathBuf, File),
}

impl Log {
    /// No log at all.
    pub(super) fn none() -> Self {
        Self { lines: None, lost: Arc::default(), reopen: Arc::default(), complained: Arc::default() }
    }

    /// A log in a file, or else on stderr.
    pub(super) fn start(path: Option<&Path>, json: bool) -> Result<(Self, Writer), Failure> {
        let sink = match path {
            Some(path) => Sink::File(path.to_owned(), open(path)?),
            None => Sink::Stderr,
        };
        let (sender, receiver) = sync_channel(WAITING);
        let log = Self { lines: Some(sender), ..Self::none() };
        let (lost, reopen) = (Arc::clone(&log.lost), Arc::clone(&log.reopen));
        let thread = std::thread::Builder::new()
            .name("orlop-log".into())
            .spawn(move || run(&receiver, sink, json, &lost, &reopen))
            .map_err(|error| Failure::io("start the thread of the log", Path::new("stderr"), &error))?;
        Ok((log, Writer(thread)))
    }

    /// Writes an entry some time soon.
    pub(super) fn write(&self, entry: Entry) {
        if let Some(lines) = &self.lines
            && lines.try_send(entry).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says on stderr what went wrong with a request, whatever becomes of its line.
    pub(super) fn complain(&self, request: String, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let now = Instant::now();
        // A disk that is gone would fill the log with one and the same.
        let mut last = self.complained.lock();
        if last.as_ref().is_some_and(|(said, at)| *said == text && now.duration_since(*at) < QUIET) {
            return;
        }
        crate::output::stderr(&format!("error: {}, request={}\n", plain(&text), quoted(&request)));
        *last = Some((text, now));
    }

    pub(super) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Opens the file anew with the next line: the old one was moved away.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}

impl Writer {
    /// Waits for what is still to be written.
    pub(super) fn finish(self) {
        let _ = self.0.join();
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    #[expect(clippy::disallowed_methods, reason = "a file of the operator's, no part of a store")]
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Failure::io("open the access log", path, &error))
}

fn run(lines: &Receiver<Entry>, mut sink: Sink, json: bool, lost: &AtomicU64, reopen: &AtomicBool) {
    let mut text = String::new();
    while let Ok(entry) = lines.recv() {
        entry.write(&mut text, json);
        while text.len() < CHUNK
            && let Ok(entry) = lines.try_recv()
        {
            entry.write(&mut text, json);
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            crate::output::stderr(&format!("note: the access log was too slow, lines left out={lost}\n"));
        }
        if reopen.swap(false, Ordering::AcqRel)
            && let Sink::File(path, file) = &mut sink
        {
            match open(path) {
                Ok(new) => *file = new,
                Err(failure) => crate::output::failure(&failure),
            }
        }
        // A log that cannot be written is no reason to stop serving.
        let _ = sink.write(text.as_bytes());
        text.clear();
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File(_, file) => file.write_all(bytes),
        }
    }
}

impl Entry {
    fn write(&self, text: &mut String, json: bool) {
        if json {
            text.push_str(&serde_json::to_string(self).unwrap_or_default());
        } else {
            text.push_str(&self.line());
        }
        text.push('\n');
    }

    /// The words of a line: what a client chose stands in quotes, with quotes and whatever steers a terminal escaped.
    fn line(&self) -> String {
        let Self { time, remote, principal, method, path, status, bytes, seconds, complete } = self;
        let principal = principal.as_deref().map_or(Cow::Borrowed("-"), |name| {
            if name.chars().all(|c| c.is_ascii_alphanumeric() || "._@+-".contains(c)) && name != "-" {
                Cow::Borrowed(name)
            } else {
                Cow::Owned(quoted(name))
            }
        });
        let cut = if *complete { "" } else { " cut" };
        let request = quoted(&format!("{method} {path}"));
        format!("{time} {remote} {principal} {request} {status} {bytes} {seconds:.6}{cut}")
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", plain(&escaped))
}

/// The time now, as a line says it.
#[expect(clippy::disallowed_methods, reason = "the log of a running server, which no test sets the time of")]
pub(super) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Seconds for a line.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn entry(principal: Option<&str>, path: &str) -> Entry {
        Entry {
            time: "2026-01-02T03:04:05.678Z".into(),
            remote: "127.0.0.1:40000".parse().unwrap(),
            principal: principal.map(str::to_owned),
            method: "GET".into(),
            path: path.into(),
            status: 200,
            bytes: 12,
            seconds: 0.0015,
            complete: true,
        }
    }

    #[test]
    fn lines_are_lines_whatever_clients_send() {
        let line = entry(None, "/v2/a/tags/list?n=1").line();
        assert_eq!(
            line,
            "2026-01-02T03:04:05.678Z 127.0.0.1:40000 - \"GET /v2/a/tags/list?n=1\" 200 12 0.001500"
        );
        assert!(entry(Some("alice@x"), "/").line().contains(" alice@x \"GET /\" "));
        let line = entry(Some("a\nb \u{1b}[2J\"x"), "/\"\\").line();
        assert!(line.contains(r#" "a\nb \u{1b}[2J\"x" "GET /\"\\" 200"#), "{line}");
        assert!(entry(Some("-"), "/").line().contains(" \"-\" "));
        let cut = Entry { complete: false, ..entry(None, "/") };
        assert!(cut.line().ends_with(" 0.001500 cut"));
        let mut json = String::new();
        entry(Some("a\nb"), "/x").write(&mut json, true);
        assert_eq!(
            json,
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"remote\":\"127.0.0.1:40000\",\"principal\":\"a\\nb\",\"method\":\"GET\",\
             \"path\":\"/x\",\"status\":200,\"bytes\":12,\"seconds\":0.0015,\"complete\":true}\n"
        );
    }
}
