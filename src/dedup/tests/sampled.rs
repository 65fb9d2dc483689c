//! Beyond the memory limit figures are estimates, with an error that is stated.

use super::support::{files, measure, noise, run, text};

/// Blocks of which a third stands twice.
fn corpus() -> (Vec<u8>, u64, u64) {
    let mut bytes = Vec::new();
    for seed in 0..6000_u64 {
        let block = noise(seed, 256);
        bytes.extend_from_slice(&block);
        if seed % 3 == 0 {
            bytes.extend_from_slice(&block);
        }
    }
    (bytes, 6000, 8000)
}

#[test]
fn a_sample_tells_how_far_it_may_be_off() {
    let (bytes, unique, units) = corpus();
    let corpus = files(&[&bytes]);
    let exact = run(&measure(&["fixed:256"]), &corpus).report();
    assert!(exact.granularities[1].exact);
    assert_eq!(exact.granularities[1].unique_units, unique);
    let measure = measure(&["fixed:256"]).memory(2 * 100_000);
    let report = run(&measure, &corpus).report();
    let found = &report.granularities[1];
    let sample = found.sample.unwrap();
    assert!(!found.exact);
    assert_eq!(sample.bits, 3, "6000 * 64 + 8000 * 8 bytes go eight times into 100,000");
    assert!(sample.kept_units < 1000, "{sample:?}");
    // What is counted stays exact.
    assert_eq!((found.units, found.bytes), (units, units * 256));
    assert!(found.unique_units.abs_diff(unique) <= sample.unique_units_error95, "{found:?}");
    assert!(found.unique_bytes.abs_diff(unique * 256) <= sample.unique_bytes_error95, "{found:?}");
    assert!(sample.unique_bytes_error95 < unique * 256 / 5, "{sample:?}");
    assert_eq!(text(run(&measure.clone().threads(1), &corpus).report()), text(report));
}

/// Large files are kept whatever the sample.
#[test]
fn large_units_are_exact_in_a_sample() {
    let (bytes, ..) = corpus();
    let large = noise(77, 3 << 20);
    let mut contents = vec![large.as_slice(), &large];
    contents.extend(bytes.chunks(256));
    let tar = super::support::tar(&contents.iter().map(|content| ("f", *content)).collect::<Vec<_>>());
    let report = run(&measure(&["file"]).memory(2 * 50_000), &files(&[&tar])).report();
    assert!(!report.granularities[1].exact);
    let wasted = &report.wasted_files[0];
    assert_eq!((wasted.length, wasted.references, wasted.wasted_bytes), (3 << 20, 2, 3 << 20));
}

#[test]
fn packing_a_sample_is_near_packing_all() {
    let mut bytes = Vec::new();
    for seed in 0..4000_u64 {
        // Half of each block is noise, so that it packs to about a half.
        bytes.extend(noise(seed, 256));
        bytes.extend([0; 256]);
    }
    let corpus = files(&[&bytes]);
    let all = run(&measure(&["fixed:512"]), &corpus).report();
    let some = run(&measure(&["fixed:512"]).pack_one_in(16), &corpus).report();
    let (all, some) = (&all.granularities[1], &some.granularities[1]);
    assert_eq!(all.packed_error95, Some(0));
    let off = all.packed_bytes.unwrap().abs_diff(some.packed_bytes.unwrap());
    assert!(off <= some.packed_error95.unwrap(), "{off}");
    assert_ne!(some.packed_error95, Some(0));
    assert!(some.packed_error95.unwrap() < all.packed_bytes.unwrap() / 20);
    let none = run(&measure(&["fixed:512"]).pack_one_in(0), &corpus).report();
    assert!(none.granularities[1].packed_bytes.is_none() && none.granularities[1].effective.is_none());
}
