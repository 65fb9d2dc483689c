//! Progress of a copy: a bar for each transfer that takes long and one for all of them on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use orlop::Digest;
use orlop::oci::Descriptor;
use orlop::transfer::{Outcome, Step};
use serde::Serialize;

use crate::interrupt;
use crate::output::{self, size};
use crate::progress::{Mode, is_due};

/// Content below this is over before a bar is seen.
const BAR_FROM: u64 = 1 << 20;
/// More bars than this are no help.
const BARS: usize = 16;

/// How far a copy is. Dropped, its bars are gone.
#[derive(Debug)]
pub(crate) struct Transfers {
    mode: Mode,
    started: Instant,
    shown: Option<Instant>,
    /// Of everything that was found so far.
    contents: u64,
    bytes: u64,
    ended: u64,
    /// Bytes that were moved, and those that did not have to be.
    moved: u64,
    spared: u64,
    /// What is under way: bytes that were there when it began, and that are there now.
    current: HashMap<Digest, Current>,
    bars: Option<Bars>,
}

#[derive(Debug, Default)]
struct Current {
    start: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
}

/// A line for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'e> {
    event: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    contents: u64,
    contents_total: u64,
    bytes: u64,
    bytes_total: u64,
    seconds: f64,
}

impl Transfers {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            started: Instant::now(),
            shown: None,
            contents: 0,
            bytes: 0,
            ended: 0,
            moved: 0,
            spared: 0,
            current: HashMap::new(),
            bars: None,
        }
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes one step in. Answers whether to go on.
    pub(crate) fn step(&mut self, step: Step<'_>) -> ControlFlow<()> {
        match step {
            Step::Found { contents, bytes } => {
                self.contents = self.contents.saturating_add(contents);
                self.bytes = self.bytes.saturating_add(bytes);
            }
            Step::Begin(descriptor) => {
                self.current.insert(descriptor.digest, Current::default());
            }
            Step::Moved(descriptor, done) => self.moved(descriptor, done),
            Step::End(descriptor, outcome) => self.end(descriptor, outcome),
            _ => {}
        }
        self.show(Instant::now());
        if interrupt::is_caught() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn moved(&mut self, descriptor: &Descriptor, done: u64) {
        let Some(current) = self.current.get_mut(&descriptor.digest) else { return };
        let start = *current.start.get_or_insert(done);
        // Begun again further back, where what had come was of no use.
        current.start = Some(start.min(done));
        current.done = done;
        if let Some(bar) = &current.bar {
            bar.set_position(done);
        }
        let under_way = self.current.values().filter(|current| current.bar.is_some()).count();
        if let (Some(bars), Some(current)) = (&self.bars, self.current.get_mut(&descriptor.digest))
            && current.bar.is_none()
            && descriptor.size >= BAR_FROM
            && under_way < BARS
        {
            let bar = bars.all.insert_before(&bars.total, ProgressBar::new(descriptor.size));
            bar.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}"));
            bar.set_message(short(&descriptor.digest));
            bar.set_position(done);
            current.bar = Some(bar);
        }
    }

    fn end(&mut self, descriptor: &Descriptor, outcome: Outcome) {
        let Some(current) = self.current.remove(&descriptor.digest) else { return };
        if let Some(bar) = current.bar {
            bar.finish_and_clear();
        }
        // Manifests come last and are not announced.
        let is_counted = self.ended < self.contents;
        self.ended += u64::from(is_counted);
        let status = match outcome {
            Outcome::Copied => "copied",
            Outcome::Resumed(_) => "resumed",
            Outcome::Mounted => "mounted",
            Outcome::Present => "skipped",
            Outcome::Absent => "missing",
            _ => "done",
        };
        if is_counted {
            match outcome {
                Outcome::Copied => self.moved = self.moved.saturating_add(descriptor.size),
                Outcome::Resumed(before) => {
                    self.moved = self.moved.saturating_add(descriptor.size.saturating_sub(before));
                    self.spared = self.spared.saturating_add(before);
                }
                _ => self.spared = self.spared.saturating_add(descriptor.size),
            }
        }
        if self.mode == Mode::Json {
            self.line("content", Some((descriptor, status)));
        }
    }

    /// Bytes that were moved so far, and bytes that are dealt with in any way.
    fn done(&self) -> (u64, u64) {
        let mut moved = self.moved;
        let mut dealt = self.moved.saturating_add(self.spared);
        for current in self.current.values() {
            moved = moved.saturating_add(current.done.saturating_sub(current.start.unwrap_or_default()));
            dealt = dealt.saturating_add(current.done);
        }
        (moved, dealt)
    }

    fn show(&mut self, now: Instant) {
        if !is_due(self.mode, now - self.started, self.shown.map(|shown| now - shown)) {
            return;
        }
        self.shown = Some(now);
        match self.mode {
            Mode::Silent => {}
            Mode::Json => self.line("progress", None),
            Mode::Plain => output::stderr(&format!("{}\n", self.text(now - self.started))),
            Mode::Terminal => {
                let text = self.text(now - self.started);
                let bars = self.bars.get_or_insert_with(|| {
                    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
                    let total = all.add(ProgressBar::new(0));
                    total.set_style(style("{wide_msg}"));
                    Bars { all, total }
                });
                bars.total.set_message(text);
                bars.total.tick();
            }
        }
    }

    fn line(&self, event: &str, of: Option<(&Descriptor, &str)>) {
        let event = Event {
            event,
            digest: of.map(|(descriptor, _)| descriptor.digest),
            status: of.map(|(_, status)| status),
            size: of.map(|(descriptor, _)| descriptor.size),
            contents: self.ended,
            contents_total: self.contents,
            bytes: self.done().1,
            bytes_total: self.bytes,
            seconds: self.elapsed().as_secs_f64(),
        };
        // Numbers and digests can always be written.
        if let Ok(line) = serde_json::to_string(&event) {
            output::stderr(&format!("{line}\n"));
        }
    }

    fn text(&self, elapsed: Duration) -> String {
        let (moved, dealt) = self.done();
        let rate = u128::from(moved) * 1000 / elapsed.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let left = self.bytes.saturating_sub(dealt);
        let eta = if rate > 0 && left > 0 { format!(", {} left", time(left / rate)) } else { String::new() };
        format!(
            "Copying {} of {}, {}/s, {} of {} contents{eta}",
            size(dealt),
            size(self.bytes.max(dealt)),
            size(rate),
            self.ended,
            self.contents
        )
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        for bar in self.current.values().filter_map(|current| current.bar.as_ref()) {
            bar.finish_and_clear();
        }
        if let Some(bars) = &self.bars {
            bars.total.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(19).collect()
}

/// Seconds for people.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_no_speed() {
        let mut transfers = Transfers::new(Mode::Silent);
        let content = |name: &str| Descriptor::new("application/x", Digest::of(name.as_bytes()), 10_000_000);
        let (one, two, three) = (content("1"), content("2"), content("3"));
        let _ = transfers.step(Step::Found { contents: 3, bytes: 30_000_000 });
        for content in [&one, &two, &three] {
            let _ = transfers.step(Step::Begin(content));
        }
        let _ = transfers.step(Step::End(&one, Outcome::Present));
        let _ = transfers.step(Step::Moved(&two, 4_000_000));
        let _ = transfers.step(Step::Moved(&two, 6_000_000));
        assert_eq!(
            transfers.text(Duration::from_secs(2)),
            "Copying 16.0 MB of 30.0 MB, 1.0 MB/s, 1 of 3 contents, 14 s left"
        );
        let _ = transfers.step(Step::End(&two, Outcome::Resumed(4_000_000)));
        let _ = transfers.step(Step::End(&three, Outcome::Copied));
        assert_eq!(
            transfers.text(Duration::from_secs(4)),
            "Copying 30.0 MB of 30.0 MB, 4.0 MB/s, 3 of 3 contents"
        );
    }

    #[test]
    fn times() {
        for (seconds, shown) in [(59, "59 s"), (61, "1:01 min"), (3_660, "1:01 h")] {
            assert_eq!(time(seconds), shown);
        }
    }
}
