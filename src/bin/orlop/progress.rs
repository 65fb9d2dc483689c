//! Progress of long work on stderr, and the place where such work is stopped.
//!
//! On a terminal one line that is redrawn and goes away at the end, from the first second on; elsewhere a line now and
//! then, or JSON if `--progress` says so. Nothing with `--quiet`.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::interrupt;
use crate::output::{self, plain, size};

/// Before that nobody wonders.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(100);
const PLAIN: Duration = Duration::from_secs(10);
const JSON: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Silent,
    /// A line of its own at most every ten seconds.
    Plain,
    /// One line that is redrawn.
    Terminal,
    /// A line of JSON a second.
    Json,
}

impl Mode {
    /// The mode that was asked for, or that fits stderr.
    pub(crate) fn of(asked: Asked, quiet: bool, no_tty: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match asked {
            Asked::Json => Self::Json,
            Asked::None => Self::Silent,
            _ if quiet => Self::Silent,
            Asked::Plain => Self::Plain,
            Asked::Bar => Self::Terminal,
            Asked::Auto if no_tty || is_dumb || !std::io::stderr().is_terminal() => Self::Plain,
            Asked::Auto => Self::Terminal,
        }
    }
}

/// What `--progress` asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Asked {
    #[default]
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

impl FromStr for Asked {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "bar" => Ok(Self::Bar),
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "none" => Ok(Self::None),
            _ => Err("use auto, bar, plain, json or none"),
        }
    }
}

/// A line for programs.
#[derive(Serialize)]
struct Event<'e> {
    event: &'static str,
    action: &'static str,
    unit: &'static str,
    done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    name: &'e str,
    seconds: f64,
}

/// How far one command is. Dropped, its line is gone.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    /// What is being done, as in "Storing".
    action: &'static str,
    total: Option<u64>,
    /// Things are counted, not bytes.
    counted: bool,
    /// Of the items before the present one.
    done: u64,
    current: u64,
    name: String,
    started: Instant,
    shown: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins. The total is known unless some of it comes from a pipe.
    pub(crate) fn new(mode: Mode, action: &'static str, total: Option<u64>) -> Self {
        Self {
            mode,
            action,
            total,
            counted: false,
            done: 0,
            current: 0,
            name: String::new(),
            started: Instant::now(),
            shown: None,
            bar: None,
        }
    }

    /// Begins with things that are counted.
    pub(crate) fn counting(mode: Mode, action: &'static str) -> Self {
        let mut progress = Self::new(mode, action, None);
        progress.counted = true;
        progress
    }

    /// [`Progress::advance`], where the total is known only by now.
    pub(crate) fn advance_of(&mut self, current: u64, total: u64) -> ControlFlow<()> {
        self.total = Some(total);
        self.advance(current)
    }

    /// Goes on to the next item.
    pub(crate) fn begin(&mut self, name: &str) {
        self.done = self.done.saturating_add(self.current);
        self.current = 0;
        self.name = plain(name).into_owned();
    }

    /// So many bytes of the present item are done. Answers whether to go on.
    pub(crate) fn advance(&mut self, current: u64) -> ControlFlow<()> {
        self.current = current;
        self.show(Instant::now());
        if interrupt::is_caught() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show(&mut self, now: Instant) {
        if !is_due(self.mode, now - self.started, self.shown.map(|shown| now - shown)) {
            return;
        }
        self.shown = Some(now);
        if self.mode == Mode::Json {
            output::stderr(&format!("{}\n", self.json(now - self.started)));
            return;
        }
        let line = self.line(now - self.started);
        if self.mode == Mode::Plain {
            output::stderr(&format!("{line}\n"));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        bar.set_message(line);
        bar.tick();
    }

    fn json(&self, elapsed: Duration) -> String {
        let event = Event {
            event: "progress",
            action: self.action,
            unit: if self.counted { "contents" } else { "bytes" },
            done: self.done.saturating_add(self.current),
            total: self.total,
            name: &self.name,
            seconds: elapsed.as_secs_f64(),
        };
        serde_json::to_string(&event).unwrap_or_default()
    }

    fn line(&self, elapsed: Duration) -> String {
        let done = self.done.saturating_add(self.current);
        let rate = u128::from(done) * 1000 / elapsed.as_millis().max(1);
        let shown = |number: u64| if self.counted { number.to_string() } else { size(number) };
        let rate = shown(u64::try_from(rate).unwrap_or(u64::MAX));
        let of = self.total.map(|total| format!(" of {}", shown(total.max(done)))).unwrap_or_default();
        format!("{} {}{of}, {rate}/s, {}", self.action, shown(done), self.name)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether something is to be shown, after that much work and that long after the last time.
pub(crate) fn is_due(mode: Mode, elapsed: Duration, since: Option<Duration>) -> bool {
    match mode {
        Mode::Silent => false,
        Mode::Plain => since.unwrap_or(elapsed) >= PLAIN,
        Mode::Json => since.unwrap_or(elapsed) >= JSON,
        Mode::Terminal => elapsed >= PATIENCE && since.is_none_or(|since| since >= REDRAW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_shown() {
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds);
        let cases = [
            (Mode::Silent, 3600.0, None, false),
            (Mode::Terminal, 0.9, None, false),
            (Mode::Terminal, 1.0, None, true),
            (Mode::Terminal, 5.0, Some(0.05), false),
            (Mode::Terminal, 5.0, Some(0.1), true),
            (Mode::Plain, 9.9, None, false),
            (Mode::Plain, 10.0, None, true),
            (Mode::Plain, 19.9, Some(9.9), false),
            (Mode::Plain, 20.0, Some(10.0), true),
        ];
        for (mode, elapsed, since, due) in cases {
            assert_eq!(
                is_due(mode, seconds(elapsed), since.map(seconds)),
                due,
                "{mode:?} {elapsed} {since:?}"
            );
        }
    }

    #[test]
    fn a_line_has_bytes_rate_and_name() {
        let mut progress = Progress::new(Mode::Silent, "Storing", Some(10_000_000));
        progress.begin("a");
        let _ = progress.advance(1_000_000);
        progress.begin("b\u{1b}[2J");
        let _ = progress.advance(3_000_000);
        let line = progress.line(Duration::from_secs(2));
        assert_eq!(line, "Storing 4.0 MB of 10.0 MB, 2.0 MB/s, b\\u{1b}[2J");
        progress.total = None;
        assert_eq!(progress.line(Duration::from_secs(2)), "Storing 4.0 MB, 2.0 MB/s, b\\u{1b}[2J");
        let mut progress = Progress::counting(Mode::Silent, "Linking");
        let _ = progress.advance_of(3000, 4000);
        assert_eq!(progress.line(Duration::from_secs(2)), "Linking 3000 of 4000, 1500/s, ");
    }
}
