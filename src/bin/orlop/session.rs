//! Opening and closing stores for the verbs.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches};
use orlop::{Answers, ErrorKind, Options, Publish, ReadMode, Report, Store};

use crate::args::{flag, option, value};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::Output;
use crate::reference::{Target, UNPACK, is_archive};

/// How many findings of one kind are printed.
const NOTES: usize = 10;

/// For how long stores leave alone what came or lost its last name.
const DAY: Duration = Duration::from_secs(86_400);

/// How long the lock is waited for before signals are looked at.
const SLICE: Duration = Duration::from_millis(200);

/// What every writing verb can be told.
#[derive(Debug)]
pub(crate) struct WriteArgs {
    lock_timeout: Duration,
    plain: bool,
    /// How long what came or lost its last name is left alone, if longer than usual.
    grace: Option<Duration>,
}

/// A store that is written to. Its remarks are printed as they come up.
pub(crate) struct Writer {
    pub(crate) store: Store,
    output: Output,
    noted: usize,
}

impl WriteArgs {
    pub(crate) fn declare() -> [Arg; 2] {
        [
            flag(
                "plain",
                "Leave nothing in the directory but an OCI layout, for media that other tools read",
            ),
            Self::lock_timeout(),
        ]
    }

    /// For the verbs that make no sense on a plain layout.
    pub(crate) fn lock_timeout() -> Arg {
        option("lock-timeout", "TIME", "How long to wait for another writer, as 30s, 5m or 0")
            .default_value("30s")
            .value_parser(duration)
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self {
            lock_timeout: value(matches, "lock-timeout").unwrap_or_default(),
            plain: matches.try_get_one("plain").ok().flatten().copied().unwrap_or_default(),
            grace: None,
        }
    }

    /// Opens stores that leave alone what came or lost its last name for at least so long.
    pub(crate) fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace).filter(|grace| *grace > DAY);
        self
    }

    pub(crate) fn options(&self) -> Options {
        // One publication is enough: a verb closes the store as soon as it is done.
        let options = Options::new().publish(Publish::OnClose).answers(Answers::Local);
        let options = options.lock_timeout(self.lock_timeout);
        match self.grace {
            Some(grace) => options.grace(grace),
            None => options,
        }
    }

    /// Opens something, once no other process holds it. The wait is cut into slices, so that a signal ends it; from now
    /// on a first signal only stops the work.
    pub(crate) fn patiently<T>(
        &self,
        output: &Output,
        open: impl Fn(&Options) -> orlop::Result<T>,
    ) -> Result<orlop::Result<T>, Failure> {
        self.patiently_with(self.options(), output, open)
    }

    /// The same with options of the caller's.
    pub(crate) fn patiently_with<T>(
        &self,
        options: Options,
        output: &Output,
        open: impl Fn(&Options) -> orlop::Result<T>,
    ) -> Result<orlop::Result<T>, Failure> {
        interrupt::defer();
        let start = Instant::now();
        let mut is_told = false;
        loop {
            interrupt::check("nothing was changed")?;
            let left = self.lock_timeout.saturating_sub(start.elapsed());
            match open(&options.clone().lock_timeout(left.min(SLICE))) {
                Err(error) if error.kind() == ErrorKind::Locked && left > SLICE => {
                    if !is_told && start.elapsed() >= Duration::from_secs(1) {
                        output.note(format!("waiting, {error}"));
                        is_told = true;
                    }
                }
                result => return Ok(result),
            }
        }
    }

    /// Opens a store, and makes the directory one if it is not.
    pub(crate) fn create(&self, target: &Target, output: &Output) -> Result<Writer, Failure> {
        let store = if self.plain {
            self.patiently(output, |options| options.open_plain(target.path()))?.map_err(
                |error| match error.kind() {
                    ErrorKind::Conflict => {
                        Failure::from(error).with_hint("leave out --plain: a store is a complete layout too")
                    }
                    _ => opened(error, target),
                },
            )?
        } else {
            self.patiently(output, |options| options.open_or_create(target.path()))?
                .map_err(|error| archive_hint(opened(error, target), target))?
        };
        Ok(Writer::new(store, output))
    }

    /// Makes a store, or with `--plain` a layout, where there is none yet.
    pub(crate) fn make(&self, target: &Target, output: &Output) -> Result<Writer, Failure> {
        if self.plain {
            return self.create(target, output);
        }
        Ok(Writer::new(self.patiently(output, |options| options.create(target.path()))??, output))
    }

    /// Opens a store. A layout of another tool does not become one by it.
    pub(crate) fn open_store(&self, target: &Target, output: &Output) -> Result<Writer, Failure> {
        let store = self.patiently(output, |options| options.open(target.path()))?.map_err(|error| {
            let failure = archive_hint(opened(error, target), target);
            let hint =
                format!("`orlop cp -r {} oci:OTHER` copies a layout that is no store", target.layout());
            if failure.exit() == Exit::NotFound && target.path().is_dir() {
                failure.with_hint(hint)
            } else {
                failure
            }
        })?;
        Ok(Writer::new(store, output))
    }

    /// Opens what must exist: a store, or a layout of another tool, which becomes one.
    pub(crate) fn open(&self, target: &Target, output: &Output) -> Result<Writer, Failure> {
        // Otherwise a mistyped name would leave an empty store behind.
        let is_layout =
            [".orlop", "oci-layout", "index.json"].iter().any(|name| target.path().join(name).exists());
        if is_layout { self.create(target, output) } else { Err(no_layout(target)) }
    }
}

impl WriteArgs {
    /// [`WriteArgs::open`] for a verb that needs something that is there: where it is not, the layout of another tool stays
    /// what it is.
    pub(crate) fn open_to(&self, target: &Target, output: &Output) -> Result<Writer, Failure> {
        if !target.path().join(".orlop").exists() && target.path().is_dir() {
            target.find(&view(target)?)?;
        }
        self.open(target, output)
    }
}

impl Writer {
    fn new(store: Store, output: &Output) -> Self {
        if let Some(rebuilt) = &store.open_report().rebuilt {
            output.note(format!(
                "the metadata were damaged and were made anew, nothing published is lost: {rebuilt}"
            ));
        }
        let mut writer = Self { store, output: *output, noted: 0 };
        writer.note();
        writer
    }

    /// Makes the layout complete for other tools and gives the store back. No other handle on it may be left.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.store.flush()?;
        self.note();
        Ok(self.store.close()?)
    }

    fn note(&mut self) {
        let reports = self.store.reports();
        let new = reports.get(self.noted..).unwrap_or_default();
        let taken = new.iter().filter(|report| is_taken(report)).count();
        if taken > NOTES {
            self.output.note(format!("taken from index.json: {taken} names of other tools"));
        }
        note(new.iter().filter(|report| taken <= NOTES || !is_taken(report)), &self.output);
        self.noted = reports.len();
    }
}

/// Opens a layout for reading: nothing is written to its directory, and no lock is taken.
pub(crate) fn read(target: &Target, output: &Output) -> Result<Store, Failure> {
    let store = view(target)?;
    note(store.reports().iter(), output);
    Ok(store)
}

fn view(target: &Target) -> Result<Store, Failure> {
    // Other programs may write to the directory: a read that fails is an error, a mapping that fails is a signal.
    Options::new()
        .read_mode(ReadMode::Copy)
        .open_read_only(target.path())
        .map_err(|error| unread(error, target))
}

/// Why something cannot be opened for reading.
pub(crate) fn unread(error: orlop::Error, target: &Target) -> Failure {
    if error.kind() == ErrorKind::NotFound {
        no_layout_hint(Failure::from(error), target)
    } else {
        archive_hint(opened(error, target), target)
    }
}

fn is_taken(report: &Report) -> bool {
    matches!(report, Report::Taken { .. })
}

/// Prints findings, but not thousands of them.
pub(crate) fn note<'a>(reports: impl Iterator<Item = &'a Report>, output: &Output) {
    let mut left = 0;
    for (index, report) in reports.enumerate() {
        if index < NOTES { output.note(report) } else { left += 1 }
    }
    if left > 0 {
        output.note(format!("and {left} further findings"));
    }
}

fn no_layout(target: &Target) -> Failure {
    let path = target.path().display();
    no_layout_hint(Failure::new(Exit::NotFound, format!("no OCI layout here, path={path}")), target)
}

/// Why something cannot be opened. Metadata that could be made anew are only in a store.
pub(crate) fn opened(error: orlop::Error, target: &Target) -> Failure {
    let is_damaged = error.kind() == ErrorKind::Corrupt;
    let is_unsupported = error.kind() == ErrorKind::Unsupported;
    let failure = Failure::from(error);
    if is_damaged && !target.path().join(".orlop").exists() {
        return failure.with_hint_instead(
            "nothing was changed; copy the layout again from where it came from: what its index.json named is nowhere else",
        );
    }
    if is_unsupported && target.path().join(".orlop/FORMAT").exists() {
        return failure.with_hint_instead(format!(
            "use the version of orlop that wrote it, on a local filesystem; an oci-layout that is damaged is written anew by \
             `orlop rebuild {}`",
            target.layout()
        ));
    }
    failure
}

/// What to do with an archive, and with one that was unpacked and is of the form before version 25 of docker.
fn archive_hint(failure: Failure, target: &Target) -> Failure {
    let path = target.path();
    if is_archive(path) {
        failure.with_hint(UNPACK)
    } else if is_archive(path.join("manifest.json")) && !is_archive(path.join("index.json")) {
        failure.with_hint(
            "manifest.json without index.json is how docker saved images before version 25: \
             `skopeo copy docker-archive:FILE oci:DIR:TAG` makes a layout of the archive",
        )
    } else {
        failure
    }
}

/// Only where nothing is yet: nobody wants a layout among other files.
fn no_layout_hint(failure: Failure, target: &Target) -> Failure {
    let failure = archive_hint(failure, target);
    let path = target.path();
    if path.exists() && path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return failure;
    }
    failure.with_hint(format!("`orlop push {0}:TAG FILE` or `orlop init {0}` makes one", target.layout()))
}

/// Seconds, or a number with `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| "not a number with ms, s, m, h or d behind it".to_owned())?;
    let unit = text.get(digits.len()..).unwrap_or_default();
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => return Err(format!("unknown unit {unit}: use ms, s, m, h or d")),
    };
    seconds.map(Duration::from_secs).ok_or_else(|| "too long".into())
}

/// Whether the path is there, for arguments that must be readable before anything is opened.
pub(crate) fn metadata(path: &Path) -> Result<std::fs::Metadata, Failure> {
    std::fs::metadata(path).map_err(|error| {
        let failure = Failure::io("read the file", path, &error);
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                failure.with_hint("check the name; it begins at the current directory, and a colon ends it")
            }
            _ => failure,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7ms", 7),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "1.5s", "1w", "5 m", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
