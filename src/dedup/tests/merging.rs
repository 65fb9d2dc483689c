//! Measuring in parts is measuring at once; stopping is an error.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::support::{Blobs, gzip, image, measure, noise, run, tar, text};
use crate::ErrorKind;
use crate::dedup::Corpus;

const GRANULARITIES: [&str; 3] = ["file", "fixed:512", "mincdc:1000@file"];

/// Corpora of two images each, with a layer in common, and one of both.
fn corpora(blobs: impl Fn(usize, Blobs) -> Blobs) -> [Corpus; 3] {
    let layer = |seeds: &[u64]| {
        let contents: Vec<(String, Vec<u8>)> =
            seeds.iter().map(|seed| (format!("f{seed}"), noise(*seed, 3000))).collect();
        let files: Vec<(&str, &[u8])> =
            contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        tar(&files)
    };
    let (base, one, two, three) = (layer(&[1, 2, 3]), gzip(&layer(&[4, 1])), layer(&[4, 5]), layer(&[6]));
    let sets: [&[&[&[u8]]]; 2] = [&[&[&base, &one], &[&base]], &[&[&base, &two], &[&three, &one]]];
    let mut parts = [Corpus::new(), Corpus::new()];
    let mut whole = Corpus::new();
    for (at, set) in sets.iter().enumerate() {
        let mut of_part = Blobs::default();
        let images: Vec<_> = set.iter().map(|layers| image(&mut of_part, layers, None)).collect();
        let contents = Arc::new(blobs(at, of_part));
        for (number, (descriptor, manifest)) in images.iter().enumerate() {
            for corpus in [&mut parts[at], &mut whole] {
                corpus.add_image(format!("{at}.{number}"), descriptor, manifest, &[], contents.clone());
            }
        }
    }
    let [one, two] = parts;
    [one, two, whole]
}

#[test]
fn merged_is_measured_at_once() {
    let [one, two, whole] = corpora(|_, blobs| blobs);
    for memory in [1 << 30, 12_000] {
        let measure = measure(&GRANULARITIES).memory(memory);
        let merged = run(&measure, &one).merge(run(&measure, &two)).unwrap();
        let at_once = run(&measure, &whole);
        assert_eq!(merged.tables, at_once.tables);
        let report = at_once.report();
        assert_eq!(report.granularities[2].exact, memory > 12_000);
        assert_eq!(text(merged.report()), text(report));
    }
}

/// What one place lacks another may have.
#[test]
fn content_that_one_lacks_is_taken_from_the_other() {
    let lacking = |at: usize, mut blobs: Blobs| {
        if at == 0 {
            blobs.0.retain(|_, bytes| bytes.len() < 9000);
        }
        blobs
    };
    let [one, two, whole] = corpora(lacking);
    let measure = measure(&GRANULARITIES);
    let first = run(&measure, &one);
    assert!(first.is_incomplete());
    assert_eq!(first.report().corpus.unmeasured_blobs, 1);
    let merged = first.merge(run(&measure, &two)).unwrap();
    assert!(!merged.is_incomplete());
    assert_eq!(text(merged.report()), text(run(&measure, &whole).report()));
}

/// What is cut short in one place counts as it is whole in the other, whichever comes first.
#[test]
fn content_that_is_damaged_in_one_is_taken_from_the_other() {
    let damaged = |at: usize, mut blobs: Blobs| {
        if at == 0 {
            blobs.0.values_mut().filter(|bytes| bytes.len() > 9000).for_each(|bytes| bytes.truncate(5000));
        }
        blobs
    };
    let [one, two, _] = corpora(damaged);
    let [.., whole] = corpora(|_, blobs| blobs);
    let measure = measure(&GRANULARITIES);
    let first = run(&measure, &one);
    assert_eq!(first.report().corpus.incomplete_blobs, 1);
    let merged = first.merge(run(&measure, &two)).unwrap();
    assert!(!merged.is_incomplete());
    assert!(text(merged.report()) == text(run(&measure, &whole).report()), "not what is measured at once");
    let turned = run(&measure, &two).merge(run(&measure, &one)).unwrap();
    assert!(!turned.is_incomplete());
}

#[test]
fn other_settings_are_refused() {
    let [one, two, _] = corpora(|_, blobs| blobs);
    let first = run(&measure(&GRANULARITIES), &one);
    let error = first.merge(run(&measure(&["file"]), &two)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn an_observer_can_stop_it() {
    // As much as takes longer than the first question of the observer.
    let bytes = noise(1, 64 << 20);
    let corpus = super::support::files(&[&bytes, &bytes[1..]]);
    let mut asked = 0;
    let measure = measure(&["file", "fastcdc:64-256-1024"]).threads(1);
    let error = measure
        .run(&corpus, &mut |progress| {
            asked += 1;
            assert_eq!(progress.total_bytes, 2 * bytes.len() as u64 - 1);
            ControlFlow::Break(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(asked > 0);
}
