//! Meters: what the stores and the server count, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit, counter, gauge,
    histogram,
};
use metrics_util::registry::{Registry, Storage};
use metrics_util::storage::Histogram;
use parking_lot::Mutex;

/// Upper bounds of times, in seconds.
const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4";

/// Where meters are kept. Clones are one.
#[derive(Clone)]
pub(super) struct Meters {
    registry: Arc<Registry<Key, Shelf>>,
    about: Arc<Mutex<BTreeMap<String, String>>>,
}

/// Makes the places that meters count in.
struct Shelf;

/// A distribution with fixed bounds, so that it never grows.
#[derive(Clone)]
struct Times(Arc<Mutex<Histogram>>);

impl HistogramFn for Times {
    fn record(&self, value: f64) {
        self.0.lock().record(value);
    }
}

impl Storage<Key> for Shelf {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Times;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        // There are bounds.
        #[expect(clippy::expect_used, reason = "the bounds are a constant that is not empty")]
        Times(Arc::new(Mutex::new(Histogram::new(&BOUNDS).expect("there are bounds"))))
    }
}

impl Recorder for Meters {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(name, about);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(name, about);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, about: SharedString) {
        self.describe(name, about);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry.get_or_create_counter(key, |place| Counter::from_arc(Arc::clone(place)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry.get_or_create_gauge(key, |place| Gauge::from_arc(Arc::clone(place)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        self.registry
            .get_or_create_histogram(key, |times| metrics::Histogram::from_arc(Arc::new(times.clone())))
    }
}

impl Meters {
    /// Makes this the place where everything in the process counts. Before stores are opened.
    pub(super) fn install() -> Self {
        let meters = Self { registry: Arc::new(Registry::new(Shelf)), about: Arc::default() };
        // There is one in a process, and this is the only caller.
        let _ = metrics::set_global_recorder(meters.clone());
        metrics::describe_counter!(REQUESTS, "Requests that were answered.");
        metrics::describe_histogram!(
            SECONDS,
            Unit::Seconds,
            "Seconds from a request to the end of its answer."
        );
        metrics::describe_counter!(RECEIVED, "Bytes of bodies that were received.");
        metrics::describe_counter!(SENT, "Bytes of bodies that were sent.");
        metrics::describe_gauge!(CONNECTIONS, "Connections that are open.");
        metrics::describe_gauge!(RUNNING, "Requests under way.");
        meters
    }

    fn describe(&self, name: KeyName, about: SharedString) {
        self.about.lock().insert(name.as_str().to_owned(), about.into_owned());
    }

    /// Everything, as Prometheus reads it.
    pub(super) fn text(&self) -> String {
        let mut families: BTreeMap<String, (&str, BTreeMap<String, String>)> = BTreeMap::new();
        let mut add = |key: &Key, kind: &'static str, lines: String| {
            let family = families.entry(key.name().to_owned()).or_insert_with(|| (kind, BTreeMap::new()));
            family.1.insert(labels(key, None), lines);
        };
        self.registry.visit_counters(|key, place| {
            let value = place.load(Ordering::Relaxed);
            add(key, "counter", format!("{}{} {value}\n", key.name(), labels(key, None)));
        });
        self.registry.visit_gauges(|key, place| {
            let value = f64::from_bits(place.load(Ordering::Relaxed));
            add(key, "gauge", format!("{}{} {value}\n", key.name(), labels(key, None)));
        });
        self.registry.visit_histograms(|key, times| {
            let times = times.0.lock().clone();
            add(key, "histogram", distribution(key, &times));
        });
        let about = self.about.lock();
        let mut text = String::new();
        for (name, (kind, lines)) in &families {
            if let Some(about) = about.get(name) {
                let _ = writeln!(text, "# HELP {name} {}", about.replace('\\', "\\\\").replace('\n', " "));
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            text.extend(lines.values().map(String::as_str));
        }
        text
    }
}

fn distribution(key: &Key, times: &Histogram) -> String {
    let mut lines = String::new();
    let name = key.name();
    for (bound, count) in times.buckets() {
        let _ = writeln!(lines, "{name}_bucket{} {count}", labels(key, Some(&bound.to_string())));
    }
    let _ = writeln!(lines, "{name}_bucket{} {}", labels(key, Some("+Inf")), times.count());
    let _ = writeln!(lines, "{name}_sum{} {}", labels(key, None), times.sum());
    let _ = writeln!(lines, "{name}_count{} {}", labels(key, None), times.count());
    lines
}

fn labels(key: &Key, bound: Option<&str>) -> String {
    let pair = |name: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    let mut pairs: Vec<String> = key.labels().map(|label| pair(label.key(), label.value())).collect();
    pairs.extend(bound.map(|bound| pair("le", bound)));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

const REQUESTS: &str = "orlop_http_requests_total";
const SECONDS: &str = "orlop_http_request_seconds";
const RECEIVED: &str = "orlop_http_received_bytes_total";
const SENT: &str = "orlop_http_sent_bytes_total";
const CONNECTIONS: &str = "orlop_http_connections";
const RUNNING: &str = "orlop_http_requests_running";

/// A request has come to its end.
pub(super) fn answered(
    route: &'static str,
    method: &'static str,
    status: u16,
    time: Duration,
    (received, sent): (u64, u64),
) {
    let class = match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    let of = |name, value| Label::from_static_parts(name, value);
    let labels = vec![of("route", route), of("method", method), of("status", class)];
    counter!(REQUESTS, labels).increment(1);
    histogram!(SECONDS, "route" => route, "method" => method).record(time);
    counter!(RECEIVED, "route" => route).increment(received);
    counter!(SENT, "route" => route).increment(sent);
}

/// So many more connections are open, or fewer.
pub(super) fn connections(change: f64) {
    gauge!(CONNECTIONS).increment(change);
}

/// So many more requests are under way, or fewer.
pub(super) fn running(change: f64) {
    gauge!(RUNNING).increment(change);
}

/// The endpoint that a path is of; as few words as there are endpoints, whatever clients send.
pub(super) fn route(path: &str) -> &'static str {
    let Some(rest) = path.strip_prefix("/v2") else { return "other" };
    let parts: Vec<&str> = rest.rsplitn(4, '/').collect();
    match parts.as_slice() {
        [""] | ["", ""] => "base",
        ["_catalog", ""] => "catalog",
        ["list", "tags", ..] => "tags",
        ["" | "uploads", "blobs", _, ..] | ["", "uploads", "blobs", ..] => "uploads",
        [_, "uploads", "blobs", ..] => "upload",
        [_, "blobs", ..] => "blob",
        [_, "manifests", ..] => "manifest",
        ["referrers", "artifacts", "_oras", ..] | [_, "referrers", ..] => "referrers",
        ["discover", "ext", "_oci", ..] => "extensions",
        _ => "other",
    }
}

/// A method, one of a few.
pub(super) fn method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_few() {
        for (path, expected) in [
            ("/v2/", "base"),
            ("/v2", "base"),
            ("/v2/_catalog", "catalog"),
            ("/v2/a/b/tags/list", "tags"),
            ("/v2/a/blobs/uploads/", "uploads"),
            ("/v2/a/blobs/uploads", "uploads"),
            ("/v2/a/b/blobs/uploads/x", "upload"),
            ("/v2/a/blobs/sha256:1", "blob"),
            ("/v2/a/b/c/manifests/v1", "manifest"),
            ("/v2/a/referrers/sha256:1", "referrers"),
            ("/v2/a/_oras/artifacts/referrers", "referrers"),
            ("/v2/a/_oci/ext/discover", "extensions"),
            ("/v2/_oci/ext/discover", "extensions"),
            ("/healthz", "other"),
            ("/v2/x", "other"),
            ("", "other"),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn prometheus_reads_it() {
        let meters = Meters { registry: Arc::new(Registry::new(Shelf)), about: Arc::default() };
        metrics::with_local_recorder(&meters, || {
            metrics::describe_counter!("things_total", "How many.");
            counter!("things_total", "store" => "a\"\\\nb").increment(3);
            gauge!("depth").set(1.5);
            histogram!("wait_seconds", "x" => "y").record(0.002);
            histogram!("wait_seconds", "x" => "y").record(100.0);
        });
        let text = meters.text();
        for line in [
            "# HELP things_total How many.\n# TYPE things_total counter\nthings_total{store=\"a\\\"\\\\\\nb\"} 3\n",
            "# TYPE depth gauge\ndepth 1.5\n",
            "# TYPE wait_seconds histogram\nwait_seconds_bucket{x=\"y\",le=\"0.0005\"} 0\n",
            "wait_seconds_bucket{x=\"y\",le=\"0.0025\"} 1\n",
            "wait_seconds_bucket{x=\"y\",le=\"60\"} 1\nwait_seconds_bucket{x=\"y\",le=\"+Inf\"} 2\n\
             wait_seconds_sum{x=\"y\"} 100.002\nwait_seconds_count{x=\"y\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\n---\n{text}");
        }
    }
}
