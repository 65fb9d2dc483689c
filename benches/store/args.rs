//! The command line of the harness.

use std::path::PathBuf;

use crate::harness::Outcome;

/// What to run and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// A fiftieth to a tenth of everything, for a smoke test.
    pub(crate) quick: bool,
    /// The phases to run; all when empty.
    pub(crate) only: Vec<String>,
    /// Where stores and floors are made: a directory on the disk to be measured.
    pub(crate) dir: PathBuf,
    /// Multiplies the number of operations.
    pub(crate) scale: f64,
    /// Overrides the rounds of every phase.
    pub(crate) rounds: Option<usize>,
    /// Of the phase `collect`, only the store with so many live manifests.
    pub(crate) live: Option<usize>,
    /// Deletes nothing, and uses the large stores of an earlier run.
    pub(crate) keep: bool,
    /// Runs one phase in this process.
    pub(crate) child: bool,
    /// Builds this store in this process: images, untagged images, referrers of one subject.
    pub(crate) build: Option<String>,
    /// Runs the store's side alone, for its memory.
    pub(crate) memory: bool,
}

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut args = Self {
            quick: false,
            only: Vec::new(),
            dir: PathBuf::new(),
            scale: 1.0,
            rounds: None,
            live: None,
            keep: false,
            child: false,
            build: None,
            memory: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("option needs a value, option={word}"));
            match word.as_str() {
                "--quick" => args.quick = true,
                "--keep" => args.keep = true,
                "--child" => args.child = true,
                "--memory" => args.memory = true,
                "--build" => args.build = Some(value()?),
                "--only" => args.only.push(value()?),
                "--dir" => args.dir = PathBuf::from(value()?),
                "--scale" => args.scale = value()?.parse()?,
                "--live" => args.live = Some(value()?.parse()?),
                "--rounds" => args.rounds = Some(value()?.parse()?),
                "--bench" => {} // cargo's own
                other => return Err(format!("unknown option, option={other}").into()),
            }
        }
        if args.dir.as_os_str().is_empty() {
            // Two runs at a time must not meet; one that keeps its stores must find them again.
            let own = if args.keep {
                "bench-store".to_owned()
            } else {
                format!("bench-store-{}", std::process::id())
            };
            args.dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(own);
        }
        if !(args.scale.is_finite() && args.scale > 0.0) {
            return Err(format!("scale must be above zero, scale={}", args.scale).into());
        }
        Ok(args)
    }

    /// The words that make a child run one phase the same way.
    pub(crate) fn for_child(&self, phase: &str, memory: bool) -> Vec<String> {
        let mut words: Vec<String> =
            ["--child", "--only", phase, "--scale"].into_iter().map(String::from).collect();
        words.push(self.scale.to_string());
        for (flag, set) in [("--quick", self.quick), ("--keep", self.keep), ("--memory", memory)] {
            if set {
                words.push(flag.to_owned());
            }
        }
        for (option, number) in [("--rounds", self.rounds), ("--live", self.live)] {
            words.extend(number.map(|number| [option.to_owned(), number.to_string()]).into_iter().flatten());
        }
        words
    }
}
