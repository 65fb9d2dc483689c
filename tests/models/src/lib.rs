//! Models of the store's steps that run under a scheduler which chooses who goes on at every lock: the order of steps is that
//! of `src/store`, the stripes and the sync of the log are the real ones (`src/store/locks.rs` and `src/metadata/log_sync.rs`,
//! compiled here), rows and files are maps.
//!
//! Each function names the one that it mirrors, and must change with it. Each test has controls: a step is left out, and the
//! scheduler must find what that breaks.

// The whole file is compiled, and not all of it is used.
#[allow(dead_code, reason = "the models use the stripes of content and of names")]
#[path = "../../../src/store/locks.rs"]
mod locks;

// So is the sync of the log.
#[allow(dead_code, reason = "the models use what commits use")]
#[path = "../../../src/metadata/log_sync.rs"]
mod log_sync;

/// What the sync of the log needs of the crate.
mod error {
    pub type Result<T> = std::result::Result<T, Error>;

    /// A kind and a text.
    #[derive(Debug)]
    pub struct Error;

    /// What a failed sync is.
    #[derive(Debug)]
    pub enum ErrorKind {
        Io,
    }

    impl Error {
        pub fn new(_: ErrorKind, _: &str) -> Self {
            Self
        }
    }
}

/// What the stripes need of the crate.
mod digest {
    /// A content.
    #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct Digest(pub u8);
}

pub mod collecting;
pub mod counting;
pub mod publishing;
mod store;

pub use digest::Digest;
pub use store::{Row, Store, Without};

/// How many schedules a model runs under.
pub fn schedules() -> usize {
    std::env::var("ORLOP_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

/// Runs a model under many schedules, half of them chosen evenly and half with few changes of who runs.
pub fn holds(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), schedules() / 2);
    shuttle::check_pct(model, schedules() / 2, 3);
}

/// Runs a model from which something was taken out: some schedule must find it.
pub fn breaks(what: &str, model: impl Fn() + Send + Sync + Clone + 'static) {
    let run = std::panic::AssertUnwindSafe(|| {
        shuttle::check_random(model.clone(), 20_000);
        shuttle::check_pct(model, 20_000, 3);
    });
    assert!(std::panic::catch_unwind(run).is_err(), "no schedule found what is missing: {what}");
}
