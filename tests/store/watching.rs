//! Meters and spans: what an operator sees is what happened.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use orlop::{ErrorKind, Expect, Expected, Publish, Store, UploadOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Subscriber};

use crate::support::*;

/// The sum of what a meter was told, and how often.
#[derive(Default)]
struct Cell {
    value: Mutex<f64>,
    times: AtomicU64,
}

impl Cell {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.change(|sum| *sum += value as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|sum| *sum = value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.change(|sum| *sum += value);
    }

    fn decrement(&self, value: f64) {
        self.change(|sum| *sum -= value);
    }

    fn set(&self, value: f64) {
        self.change(|sum| *sum = value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        assert!((0.0..600.0).contains(&value), "these are seconds: {value}");
        self.change(|sum| *sum += value);
    }
}

#[derive(Clone, Default)]
struct Recording(Arc<Mutex<BTreeMap<String, Arc<Cell>>>>);

impl Recording {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(|label| label.key().to_owned()).collect();
        assert_eq!(labels, ["store"]);
        Arc::clone(self.0.lock().unwrap().entry(key.name().to_owned()).or_default())
    }

    fn value(&self, name: &str) -> u64 {
        *self.0.lock().unwrap()[name].value.lock().unwrap() as u64
    }

    fn times(&self, name: &str) -> u64 {
        self.0.lock().unwrap()[name].times.load(Ordering::SeqCst)
    }
}

impl Recorder for Recording {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(text.ends_with('.') && !text.starts_with(' '), "{text:?}");
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, unit: Option<Unit>, _: SharedString) {
        assert_eq!(unit, Some(Unit::Seconds));
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

fn watched() -> (Scratch, Store, Recording) {
    let (dir, recording) = (scratch(), Recording::default());
    let store = metrics::with_local_recorder(&recording, || {
        options().publish(Publish::Manual).create(dir.root()).unwrap()
    });
    (dir, store, recording)
}

#[test]
fn meters_say_what_was_done() {
    let (_dir, store, meters) = watched();
    assert_eq!(meters.value("orlop_commits_total"), 0);
    let here = store.default_repository();
    let publications = meters.times("orlop_publish_seconds");
    here.push_bytes(noise(1, 1000)).unwrap();
    here.push_bytes(noise(2, 2 * INLINE)).unwrap();
    assert_eq!(meters.value("orlop_commits_total"), 2);
    assert_eq!(meters.times("orlop_commit_seconds"), 2);
    assert!(meters.times("orlop_lock_wait_seconds") >= 2);
    assert!(meters.times("orlop_log_sync_seconds") >= 2);
    assert_eq!(meters.value("orlop_contents_total"), 2);
    assert_eq!(meters.value("orlop_content_bytes_total"), 1000 + 2 * INLINE as u64);
    assert_eq!(meters.value("orlop_content_hits_total"), 0);
    assert_eq!(meters.value("orlop_journal_contents"), 1);
    assert!(meters.value("orlop_journal_bytes") >= 1000);
    // The same once more is a hit, and what is refused is a failure.
    here.push_bytes(noise(1, 1000)).unwrap();
    fails(here.tag(&tag("v1"), &absent(), Expect::Any), ErrorKind::NotFound, &[]);
    assert_eq!(meters.value("orlop_content_hits_total"), 1);
    assert_eq!(meters.value("orlop_contents_total"), 2);
    assert_eq!(meters.value("orlop_commits_total"), 3);
    assert_eq!(meters.value("orlop_commit_failures_total"), 1);
    store.flush().unwrap();
    assert_eq!(meters.times("orlop_publish_seconds"), publications + 1);
    assert_eq!(meters.value("orlop_filed_contents_total"), 1);
    assert_eq!((meters.value("orlop_journal_contents"), meters.value("orlop_journal_bytes")), (0, 0));
    assert_eq!(meters.value("orlop_publish_failures_total"), 0);
}

#[test]
fn meters_say_what_uploads_and_collections_did() {
    let (_dir, store, meters) = watched();
    let here = store.default_repository();
    let uploads = || (meters.value("orlop_upload_sessions"), meters.value("orlop_upload_bytes"));
    let mut first = here.start_upload(&UploadOptions::new()).unwrap();
    first.append(0, noise(1, 700)).unwrap();
    assert_eq!(uploads(), (1, 700));
    let second = here.start_upload(&UploadOptions::new().size(5000)).unwrap();
    assert_eq!(uploads(), (2, 5700));
    second.cancel().unwrap();
    assert_eq!(uploads(), (1, 700));
    first.finish(&Expected::default()).unwrap();
    assert_eq!(uploads(), (0, 0));
    here.push_bytes(noise(2, 2 * INLINE)).unwrap();
    let collections = || {
        ["orlop_collections_total", "orlop_collected_contents_total", "orlop_collected_bytes_total"]
            .map(|name| meters.value(name))
    };
    assert_eq!(store.collector().grace(Duration::ZERO).dry_run(true).run().unwrap().contents, 2);
    assert_eq!((collections(), meters.times("orlop_collection_step_seconds")), ([0; 3], 0));
    store.collector().grace(Duration::ZERO).run().unwrap();
    assert_eq!(collections(), [1, 2, 700 + 2 * INLINE as u64]);
    assert!(meters.times("orlop_collection_step_seconds") >= 1);
    assert_eq!(meters.value("orlop_collection_failures_total"), 0);
}

thread_local! {
    /// What this thread was told of spans and events with their levels, while it listens.
    static TOLD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Listens for one thread and is there for all: where only one thread has a subscriber, what others register first is
/// switched off for it too.
struct Listener;

impl Listener {
    /// What is told while something is done.
    fn hear(done: impl FnOnce()) -> Vec<String> {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Self).unwrap());
        TOLD.set(Some(Vec::new()));
        done();
        TOLD.take().unwrap()
    }

    fn told(line: String) {
        TOLD.with_borrow_mut(|told| told.as_mut().unwrap().push(line));
    }
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let wanted = metadata.target().starts_with("orlop") && *metadata.level() <= Level::DEBUG;
        wanted && TOLD.with_borrow(Option::is_some)
    }

    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut words = Words(format!("span {} {}", span.metadata().level(), span.metadata().name()));
        span.record(&mut words);
        Self::told(words.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(format!("event {}", event.metadata().level()));
        event.record(&mut words);
        Self::told(words.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn spans_and_events_tell_the_story() {
    let dir = scratch();
    let lines = Listener::hear(|| {
        let store = options().publish(Publish::Manual).create(dir.root()).unwrap();
        image("one", 1).push(&store.default_repository(), &["v1"]);
        store.checkpoint(dir.path("copy")).unwrap();
        store.flush().unwrap();
        store.collector().run().unwrap();
        store.verify().run().unwrap();
        store.close().unwrap();
        // Another tool writes something that cannot be taken.
        fs::write(dir.root().join("index.json"), "{").unwrap();
        let store = options().open(dir.root()).unwrap();
        assert_eq!(store.reports().len(), 1);
        store.close().unwrap();
        options().rebuild(dir.root()).unwrap();
    });
    let told = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    for (what, least) in [
        ("span INFO open", 2),
        ("span INFO verify", 1),
        ("span INFO checkpoint", 1),
        ("span INFO rebuild", 1),
        ("span DEBUG commit", 3),
        ("span DEBUG publish", 2),
        ("span DEBUG collect", 1),
        ("span DEBUG file", 1),
        ("event INFO message=store is open", 1),
        ("event WARN message=index.json is damaged", 1),
        ("store=", 8),
    ] {
        assert!(told(what) >= least, "{what}: {:#?}", lines);
    }
    assert!(told(&format!("store={}", dir.root().display())) >= 8);
}
