//! The soak: pushers that trust existence answers, pullers, deleters and other tools beside a collection that never rests.
//!
//! Everybody works on the same few repositories, artifacts and contents, so that what one removes is what another is about to
//! push, and what a collection is about to take is what somebody was just told to be there. What the test itself does not
//! delete must stay: the lock of an artifact in a repository is shared by those who push and pull it, and taken alone by who
//! deletes it. Nothing is locked for the collection.
//!
//! `ORLOP_SOAK_OPERATIONS`, `ORLOP_SOAK_CYCLES` and `ORLOP_SOAK_SEED` make a long run of it, which tells every minute how far
//! it has come and ends after `ORLOP_SOAK_MINUTES` at the latest; `ORLOP_SOAK_READER` names a program that reads the directory
//! beside it, with the directory and a name in it as arguments.

mod people;
mod policies;
mod reader;
mod uploads;
mod world;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::world::{Figures, World};
use crate::sys::fault::{Call, Fault, arm};

/// How much is to be done, at least.
#[derive(Clone, Copy, Debug)]
struct Size {
    operations: u64,
    cycles: u64,
    seed: u64,
    /// Ends it whatever is done by then.
    most: Duration,
    /// Between two lines that tell how far it has come.
    tell: Option<Duration>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(format!("ORLOP_SOAK_{name}")).map_or(default, |text| text.parse().unwrap())
}

/// People of each kind at work at once.
const WORKERS: u64 = 4;

/// Operations between two looks at the whole store.
const ROUND: u64 = 10_000;

/// Runs it, without one step of the protocol if it is so told; the error is the first thing that went wrong.
fn soak(size: Size, without: Option<Call>) -> Result<Figures, String> {
    let mut world = World::new(size.seed);
    let _armed = without.map(|call| arm(Fault::skip(call, &world.root).forever()));
    let start = Instant::now();
    let progress = Progress { start, every: size.tell, told: Mutex::new(start) };
    let mut round = 0;
    let done = |world: &World| {
        let enough = world.figures.operations.load(Ordering::Relaxed) >= size.operations
            && world.figures.cycles.load(Ordering::Relaxed) >= size.cycles;
        enough || start.elapsed() >= size.most
    };
    while !done(&world) {
        round += 1;
        let until = world.figures.operations.load(Ordering::Relaxed) + ROUND;
        world.stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let (world, progress) = (&world, &progress);
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    scope.spawn(move || people::work(world, size.seed ^ (round << 8 | worker), until))
                })
                .collect();
            scope.spawn(move || world.guard(people::collect));
            scope.spawn(move || world.guard(reader::read));
            scope.spawn(move || world.guard(reader::run_program));
            scope.spawn(move || progress.tell(world, round));
            // Whoever is done first ends the round for those who have no end of their own.
            for worker in workers {
                drop(worker.join());
            }
            world.stop.store(true, Ordering::Relaxed);
        });
        world.outcome()?;
        world.look().map_err(|why| format!("after round {round}: {why}"))?;
        if round % 10 == 0 {
            world.reopen();
        }
    }
    world.finish()
}

/// Tells on stderr how far a long run has come.
struct Progress {
    start: Instant,
    every: Option<Duration>,
    told: Mutex<Instant>,
}

impl Progress {
    fn tell(&self, world: &World, round: u64) {
        let Some(every) = self.every else { return };
        while !world.is_over() {
            std::thread::sleep(Duration::from_millis(100));
            let mut told = self.told.lock();
            if told.elapsed() >= every {
                *told = Instant::now();
                let (seconds, figures) = (self.start.elapsed().as_secs(), &world.figures);
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stderr(), "soak: {seconds} seconds, round {round}: {figures}");
            }
        }
    }
}

#[test]
fn nothing_that_anybody_uses_is_collected() {
    let long = std::env::var_os("ORLOP_SOAK_OPERATIONS").is_some();
    let size = Size {
        operations: number("OPERATIONS", 10_000),
        cycles: number("CYCLES", 40),
        seed: number("SEED", 1),
        most: Duration::from_secs(if long { number("MINUTES", u64::MAX / 60) * 60 } else { 20 }),
        tell: long.then_some(Duration::from_secs(60)),
    };
    let figures = match soak(size, None) {
        Ok(figures) => figures,
        Err(why) => panic!("seed {}: {why}", size.seed),
    };
    writeln!(std::io::stdout(), "\nsoak, seed {}: {figures}", size.seed).unwrap();
    figures.check();
}

/// Without what protects an answer, or without a look under the stripe, somebody is told that a blob is unknown, or a
/// reader finds a file missing. The first is found within seconds; `ORLOP_SOAK_CONTROLS=all` tries the others too, which
/// takes minutes.
#[test]
fn a_soak_without_a_step_of_the_protocol_fails() {
    let steps = [Call::Touch, Call::LookUnderStripe, Call::LookAgain, Call::PublishFirst];
    let all = std::env::var("ORLOP_SOAK_CONTROLS").is_ok_and(|value| value == "all");
    for without in if all { &steps[..] } else { &steps[..1] } {
        let (start, most) = (Instant::now(), Duration::from_secs(120));
        let found = (1..4).find_map(|seed| {
            soak(Size { operations: u64::MAX, cycles: u64::MAX, seed, most, tell: None }, Some(*without))
                .err()
        });
        let Some(why) = found else { panic!("nothing went wrong without {without:?}") };
        writeln!(std::io::stdout(), "\nsoak without {without:?}, {:?}: {why}", start.elapsed()).unwrap();
    }
}
