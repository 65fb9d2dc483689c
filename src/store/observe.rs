//! What an operator can watch: numbers for the crate `metrics`, spans and events for `tracing`. `docs/metrics.md` lists them.
//!
//! The meters of a store are registered when it is opened, so that counting costs one call and, where nobody listens, a
//! look at a null pointer. Without the features everything here is empty.

use std::path::Path;
#[cfg(feature = "metrics")]
use std::time::Instant;

use super::collect::Collection;
use super::report::Report;
use crate::error::Error;

/// Work that has a span of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Work {
    Checkpoint,
    Collect,
    Commit,
    File,
    Open,
    Publish,
    Rebuild,
    Verify,
}

/// A span that is entered until this is dropped.
#[must_use]
pub(super) struct Entered {
    #[cfg(feature = "tracing")]
    _span: tracing::span::EnteredSpan,
}

/// Enters the span of a work on a store.
#[cfg(feature = "tracing")]
pub(super) fn enter(work: Work, store: &Path) -> Entered {
    let store = store.display();
    let span = match work {
        Work::Checkpoint => tracing::info_span!("checkpoint", %store),
        Work::Collect => tracing::debug_span!("collect", %store),
        Work::Commit => tracing::debug_span!("commit", %store),
        Work::File => tracing::debug_span!("file", %store),
        Work::Open => tracing::info_span!("open", %store),
        Work::Publish => tracing::debug_span!("publish", %store),
        Work::Rebuild => tracing::info_span!("rebuild", %store),
        Work::Verify => tracing::info_span!("verify", %store),
    };
    Entered { _span: span.entered() }
}

/// Enters the span of a work on a store.
#[cfg(not(feature = "tracing"))]
#[inline]
pub(super) fn enter(_work: Work, _store: &Path) -> Entered {
    Entered {}
}

/// Something that a person should know.
#[inline]
pub(super) fn finding(report: &Report) {
    #[cfg(feature = "tracing")]
    tracing::warn!("{report}");
    #[cfg(not(feature = "tracing"))]
    let _ = report;
}

/// A sync failed, and the store takes nothing more.
#[inline]
pub(super) fn poisoned(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(cause = %error, "a sync failed, writes are refused until the store is reopened");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// Work behind the commits failed and is tried again.
#[inline]
pub(super) fn postponed(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(cause = %error, "filing or publishing failed and is tried again");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// A store is open.
#[inline]
pub(super) fn opened(store: &Path, is_clean: bool, journalled: u64) {
    #[cfg(feature = "tracing")]
    tracing::info!(store = %store.display(), clean = is_clean, journalled, "store is open");
    #[cfg(not(feature = "tracing"))]
    let _ = (store, is_clean, journalled);
}

#[cfg(feature = "metrics")]
pub(super) use self::counted::{Counter, Gauge, Times};
#[cfg(not(feature = "metrics"))]
pub(super) use self::uncounted::{Counter, Gauge, Times};

macro_rules! meters {
    ($($(#[doc = $doc:literal])* $field:ident: $kind:ident = $name:literal,)*) => {
        /// The meters of one store.
        #[derive(Debug)]
        pub(super) struct Meters {
            $($(#[doc = $doc])* pub(super) $field: $kind,)*
        }

        impl Meters {
            /// Registers them, with the directory as the label `store`.
            pub(super) fn new(store: &Path) -> Self {
                let store = store.display().to_string();
                Self { $($field: $kind::new($name, concat!($($doc),*), &store),)* }
            }

            #[cfg(test)]
            pub(super) const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

meters! {
    /// Commits that succeeded.
    commits: Counter = "orlop_commits_total",
    /// Commits that failed or were refused.
    commit_failures: Counter = "orlop_commit_failures_total",
    /// Seconds of a commit, from its check to its acknowledgement.
    commit_time: Times = "orlop_commit_seconds",
    /// Seconds that a commit waited for others that change the same names or content.
    lock_time: Times = "orlop_lock_wait_seconds",
    /// Seconds of one write of rows with a sync of the log.
    sync_time: Times = "orlop_log_sync_seconds",
    /// Contents that commits added.
    contents: Counter = "orlop_contents_total",
    /// Bytes of contents that commits added.
    content_bytes: Counter = "orlop_content_bytes_total",
    /// Contents of commits that were there already.
    hits: Counter = "orlop_content_hits_total",
    /// Contents in the journal that wait for their files.
    journal_rows: Gauge = "orlop_journal_contents",
    /// Bytes that these take.
    journal_bytes: Gauge = "orlop_journal_bytes",
    /// Journalled contents that got their files.
    filed: Counter = "orlop_filed_contents_total",
    /// Seconds of one publication of index.json.
    publish_time: Times = "orlop_publish_seconds",
    /// Publications that failed.
    publish_failures: Counter = "orlop_publish_failures_total",
    /// Upload sessions that are neither finished nor removed.
    upload_sessions: Gauge = "orlop_upload_sessions",
    /// Bytes that these have, or said that they will have.
    upload_bytes: Gauge = "orlop_upload_bytes",
    /// Collections that came to their end.
    collections: Counter = "orlop_collections_total",
    /// Steps of collections that failed.
    collection_failures: Counter = "orlop_collection_failures_total",
    /// Seconds of one step of a collection.
    collection_time: Times = "orlop_collection_step_seconds",
    /// Contents that collections removed.
    collected: Counter = "orlop_collected_contents_total",
    /// Bytes of contents that collections removed.
    collected_bytes: Counter = "orlop_collected_bytes_total",
}

impl Meters {
    /// A commit has come to its end.
    pub(super) fn committed(&self, start: Start, is_done: bool) {
        if is_done {
            self.commits.add(1)
        } else {
            self.commit_failures.add(1)
        }
        self.commit_time.since(start);
    }

    /// What a commit brought.
    pub(super) fn stored(&self, contents: u64, bytes: u64, hits: u64) {
        self.contents.add(contents);
        self.content_bytes.add(bytes);
        self.hits.add(hits);
    }

    /// So many upload sessions are under way.
    pub(super) fn uploads(&self, sessions: usize, bytes: u128) {
        self.upload_sessions.set(sessions as u64);
        self.upload_bytes.set(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A step of a collection has come to its end.
    pub(super) fn collected(&self, start: Start, step: Result<&Collection, &Error>) {
        self.collection_time.since(start);
        match step {
            Ok(step) => {
                self.collections.add(u64::from(step.complete));
                self.collected.add(step.contents);
                self.collected_bytes.add(step.bytes);
            }
            Err(_) => self.collection_failures.add(1),
        }
    }

    /// The journal holds so many contents and bytes now.
    pub(super) fn journal(&self, (rows, bytes): (u64, u64)) {
        self.journal_rows.set(rows);
        self.journal_bytes.set(bytes);
    }
}

#[cfg(feature = "metrics")]
mod counted {
    use std::time::Instant;

    /// A number that grows.
    #[derive(Debug)]
    pub(in super::super) struct Counter(metrics::Counter);

    /// A number that comes and goes.
    #[derive(Debug)]
    pub(in super::super) struct Gauge(metrics::Gauge);

    /// A distribution of seconds.
    #[derive(Debug)]
    pub(in super::super) struct Times(metrics::Histogram);

    impl Counter {
        pub(super) fn new(name: &'static str, about: &'static str, store: &str) -> Self {
            metrics::describe_counter!(name, about.trim_ascii());
            Self(metrics::counter!(name, "store" => store.to_owned()))
        }

        pub(in super::super) fn add(&self, number: u64) {
            self.0.increment(number);
        }
    }

    impl Gauge {
        pub(super) fn new(name: &'static str, about: &'static str, store: &str) -> Self {
            metrics::describe_gauge!(name, about.trim_ascii());
            Self(metrics::gauge!(name, "store" => store.to_owned()))
        }

        #[expect(clippy::cast_precision_loss, reason = "a gauge is for people")]
        pub(in super::super) fn set(&self, number: u64) {
            self.0.set(number as f64);
        }
    }

    impl Times {
        pub(super) fn new(name: &'static str, about: &'static str, store: &str) -> Self {
            let unit = metrics::Unit::Seconds;
            metrics::describe_histogram!(name, unit, about.trim_ascii());
            Self(metrics::histogram!(name, "store" => store.to_owned()))
        }

        pub(in super::super) fn since(&self, start: super::Start) {
            self.0.record(start.0.elapsed());
        }
    }

    impl super::Start {
        pub(in super::super) fn now() -> Self {
            Self(Instant::now())
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod uncounted {
    /// Nobody counts.
    #[derive(Debug)]
    pub(in super::super) struct Counter;
    /// Nobody counts.
    #[derive(Debug)]
    pub(in super::super) struct Gauge;
    /// Nobody looks at the clock.
    #[derive(Debug)]
    pub(in super::super) struct Times;

    impl Counter {
        pub(super) fn new(_name: &'static str, _about: &'static str, _store: &str) -> Self {
            Self
        }

        #[inline]
        pub(in super::super) fn add(&self, _number: u64) {}
    }

    impl Gauge {
        pub(super) fn new(_name: &'static str, _about: &'static str, _store: &str) -> Self {
            Self
        }

        #[inline]
        pub(in super::super) fn set(&self, _number: u64) {}
    }

    impl Times {
        pub(super) fn new(_name: &'static str, _about: &'static str, _store: &str) -> Self {
            Self
        }

        #[inline]
        pub(in super::super) fn since(&self, _start: super::Start) {}
    }

    impl super::Start {
        #[inline]
        pub(in super::super) fn now() -> Self {
            Self
        }
    }
}

/// A moment from which time is taken.
#[cfg(feature = "metrics")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Start(Instant);

/// A moment from which no time is taken.
#[cfg(not(feature = "metrics"))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Start;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "a test looks at the file")]

    use super::*;

    #[test]
    fn every_meter_is_documented() {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
        for name in Meters::NAMES {
            assert!(text.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
        }
        let is_ours = |line: &&str| line.starts_with("| `orlop_") && !line.starts_with("| `orlop_http_");
        let rows = text.lines().filter(is_ours).count();
        assert_eq!(rows, Meters::NAMES.len(), "docs/metrics.md has meters that are none");
    }
}
