//! Bit rot: bytes of a store's files change at random while it is closed.
//!
//! After each damage, with `Verify::First`: what is read is what was pushed or an error that names it; the store opens, or
//! is rebuilt; what was published and whose bytes are whole is there; and what is not there any more is told by somebody.
//!
//! `ORLOP_BITROT_CASES` sets how many cases there are, `ORLOP_BITROT_SEED` where they begin: a case is its seed alone, so
//! one that failed is repeated with its seed and one case.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "seeds and cases are told")]

mod damage;
mod stock;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orlop::{ErrorKind, OnDamage, Options, ReadMode, Store, Verify};

use self::damage::{Damage, Target};
use self::stock::{Random, Stock, Variant};
use crate::support::*;

/// A case that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(300);
/// Far more than a store of this size needs.
const MEMORY_KIB: u64 = 3 << 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn careful() -> Options {
    options().verify(Verify::First)
}

/// What one case learned of the damage, beside that nothing is wrong.
#[derive(Default)]
struct Told {
    /// Somebody said that something is hurt: an error, a report or a finding.
    said: bool,
    rebuilt: bool,
}

#[test]
fn rotten_bytes_are_never_returned_and_cost_nothing_else() {
    let (first, cases) = (number("ORLOP_BITROT_SEED", 1), number("ORLOP_BITROT_CASES", 240));
    println!("seeds {first}..{}", first + cases);
    let next = AtomicU64::new(first);
    let totals: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| run(&next, first + cases))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut lines = std::collections::BTreeMap::new();
    for (name, count) in totals.into_iter().flatten() {
        *lines.entry(name).or_insert(0_u64) += count;
    }
    println!("{lines:#?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB, "peak memory {peak} KiB");
}

fn run(next: &AtomicU64, end: u64) -> Vec<(String, u64)> {
    let stocks = [Stock::new(Variant::Journal), Stock::new(Variant::Closed)];
    let mut totals = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return totals;
        }
        let mut random = Random::new(seed);
        let stock = &stocks[usize::from(seed.is_multiple_of(2))];
        stock.restore();
        let damage = Damage::choose(stock, &mut random);
        damage.apply();
        let what = format!("seed={seed}, {:?} store, {damage:?}", stock.variant);
        if std::env::var_os("ORLOP_BITROT_TELL").is_some() {
            eprintln!("{what}");
        }
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| case(stock, &damage, &mut random))) {
            Ok(told) => {
                let outcome = match (&told.rebuilt, &told.said) {
                    (true, _) => "rebuilt",
                    (false, true) => "told",
                    (false, false) => "harmless",
                };
                totals.push((format!("{:?} {outcome}", damage.target), 1));
            }
            Err(panic) => {
                println!("failed: {what}");
                std::panic::resume_unwind(panic);
            }
        }
        assert!(began.elapsed() < LONGEST, "took {:?}: {what}", began.elapsed());
    }
}

fn case(stock: &Stock, damage: &Damage, random: &mut Random) -> Told {
    let root = stock.dir.root();
    let mut told = Told::default();
    let mode = if random.below(2) == 0 { ReadMode::Map } else { ReadMode::Copy };
    let careful = || careful().read_mode(mode);
    if random.below(4) == 0 {
        // A view that only reads: right bytes or none, and nothing is written.
        let before = content_tree(&root);
        if let Ok(view) = careful().open_read_only(&root) {
            stock.reads_are_right(&view, random);
        }
        assert_eq!(content_tree(&root), before, "a reader wrote");
    }
    let store = match careful().open(&root) {
        Ok(store) => store,
        Err(error) => {
            assert!(!damage.target.is_content(), "content is no reason not to open: {error}");
            assert!(!error.to_string().is_empty());
            told.said = true;
            rebuild(stock, damage, &error, &mut told);
            careful().open(&root).unwrap()
        }
    };
    told.said |= !store.reports().is_empty();
    let store = after_open(stock, damage, store, random, &mut told);
    // Once more, after a close: nothing got worse.
    match store.close() {
        Ok(()) => {}
        Err(error) => {
            told.said = true;
            assert!(damage.target.is_metadata() && error.kind() != ErrorKind::Invalid, "{error}");
            rebuild(stock, damage, &error, &mut told);
        }
    }
    match careful().open(&root) {
        Ok(store) => stock.is_there(&store, damage, &told, random),
        Err(error) => {
            // Damage in a table may be met only when it is read.
            assert!(damage.target.is_metadata() && !told.rebuilt, "{error}");
            told.said = true;
            rebuild(stock, damage, &error, &mut told);
            let store = careful().open(&root).unwrap();
            stock.is_there(&store, damage, &told, random);
        }
    }
    told
}

/// Reads everything, verifies, heals by pushing again.
fn after_open(stock: &Stock, damage: &Damage, store: Store, random: &mut Random, told: &mut Told) -> Store {
    let first = stock.reads_are_right(&store, random);
    let verified = store.verify().read_data(true).index(true).threads(2).run();
    let hurt = match &verified {
        Ok(report) => {
            assert!(report.complete);
            told.said |= !report.is_sound();
            report
                .findings
                .iter()
                .filter(|found| found.flaw.is_damage())
                .filter_map(|found| found.digest)
                .collect()
        }
        Err(error) => {
            assert!(damage.target.is_metadata(), "verify: {error}");
            told.said = true;
            Vec::new()
        }
    };
    told.said |= first.errors > 0;
    let mut store = store;
    if let Target::Content(digest) = damage.target {
        assert!(hurt.contains(&digest), "verify does not name {digest}");
        assert_eq!(hurt.len(), 1, "verify names more than that: {hurt:?}");
        stock.push_again(&store, &digest);
        let report = store.verify().read_data(true).index(true).run().unwrap();
        assert!(report.is_sound(), "a push has not healed it: {:?}", report.findings);
    } else if damage.target.is_metadata() && (verified.is_err() || first.errors > 0) {
        // The engine met the damage while it ran: the next open knows, and heals.
        let why = verified.err().map_or_else(|| "a read failed".to_owned(), |error| error.to_string());
        drop(store);
        store = careful().on_damage(OnDamage::Rebuild).open(stock.dir.root()).unwrap();
        assert!(store.open_report().rebuilt.is_some(), "not healed: {why}");
        told.rebuilt = true;
    } else {
        assert!(hurt.is_empty(), "content is damaged that nobody touched: {hurt:?}");
    }
    stock.is_there(&store, damage, told, random);
    store
}

fn rebuild(stock: &Stock, damage: &Damage, why: &dyn std::fmt::Display, told: &mut Told) {
    let report = careful()
        .rebuild(stock.dir.root())
        .unwrap_or_else(|error| panic!("{damage:?}: not rebuilt: {error}; it was needed for: {why}"));
    assert!(report.contents > 0);
    told.rebuilt = true;
}
