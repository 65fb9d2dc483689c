//! Each race of the store, and the controls that the scheduler must find.

use std::sync::Arc;

use orlop_models::collecting::Collecting;
use orlop_models::counting::Counting;
use orlop_models::publishing::Publisher;
use orlop_models::{Digest, Store, Without, breaks, holds};
use shuttle::thread;

const A: Digest = Digest(1);
const B: Digest = Digest(2);

type Step<S> = Box<dyn Fn(&S) + Send>;

/// Runs all of them at once, and waits.
fn together<S: Send + Sync + 'static>(store: &Arc<S>, steps: Vec<Step<S>>) {
    let threads: Vec<_> = steps
        .into_iter()
        .map(|step| {
            let store = Arc::clone(store);
            thread::spawn(move || step(&store))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Filing while the content is removed and pushed again.
fn filing_and_removal(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Store::new(without));
        store.push(A);
        together(
            &store,
            vec![
                Box::new(|store: &Store| {
                    store.file_journal();
                    store.file_journal();
                }),
                Box::new(|store| store.remove(A)),
                Box::new(|store| store.push(A)),
                Box::new(|store| store.push(B)),
            ],
        );
        store.check();
    }
}

#[test]
fn filing_against_removal_and_another_push() {
    holds(filing_and_removal(Without::Nothing));
}

#[test]
fn filing_controls() {
    for without in [
        Without::RowId,
        Without::LookBeforeName,
        Without::StripeOfName,
        Without::SecondLook,
        Without::StripeOfPush,
    ] {
        breaks(&format!("{without:?}"), filing_and_removal(without));
    }
}

/// Reading content that is there all the time while it is filed, and pushed once more.
fn reading_and_filing(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Store::new(without));
        store.push(A);
        together(
            &store,
            vec![
                Box::new(Store::file_journal),
                Box::new(|store| assert!(store.find(A), "content that is there was not found")),
                Box::new(|store| store.push(A)),
                Box::new(|store| {
                    store.push(B);
                    store.file_journal();
                }),
                Box::new(|store| {
                    let _ = store.find(B);
                }),
            ],
        );
        store.check();
        assert!(store.find(A) && store.find(B));
    }
}

/// The same while it is removed and comes back: found or not there, never damaged.
fn reading_and_removal(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Store::new(without));
        store.push(A);
        together(
            &store,
            vec![
                Box::new(Store::file_journal),
                Box::new(|store| {
                    let _ = store.find(A);
                }),
                Box::new(|store| {
                    store.remove(A);
                    store.push(A);
                }),
            ],
        );
        store.check();
        assert!(store.find(A));
    }
}

#[test]
fn reads_against_filing() {
    holds(reading_and_filing(Without::Nothing));
    holds(reading_and_removal(Without::Nothing));
}

#[test]
fn reading_controls() {
    for without in [Without::NameFirst, Without::JournalFirst, Without::CountFirst] {
        breaks(&format!("{without:?}"), reading_and_filing(without));
    }
    breaks("Rounds", reading_and_removal(Without::Rounds));
}

/// Publishing while content is pushed, swept and pushed again, with another tool reading the layout.
fn publishing_and_sweeping(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Publisher::new(without));
        store.store.push(A);
        together(
            &store,
            vec![
                Box::new(Publisher::publish),
                Box::new(|publisher| {
                    publisher.store.push(B);
                    publisher.sweep(B);
                }),
                Box::new(|publisher| {
                    publisher.read_layout();
                    publisher.read_layout();
                }),
                Box::new(|publisher| publisher.store.push(B)),
            ],
        );
        store.check();
        store.publish();
        store.check();
        store.store.check();
    }
}

/// Publishing while a tag moves and goes.
fn publishing_and_untagging(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Publisher::new(without));
        together(
            &store,
            vec![
                Box::new(|publisher: &Publisher| {
                    publisher.publish();
                    publisher.publish();
                }),
                Box::new(|publisher| {
                    publisher.tag(Some(A));
                    publisher.tag(None);
                }),
                Box::new(|publisher| publisher.tag(Some(B))),
            ],
        );
        store.check();
    }
}

#[test]
fn publishing_against_removal() {
    holds(publishing_and_sweeping(Without::Nothing));
    holds(publishing_and_untagging(Without::Nothing));
}

#[test]
fn publishing_controls() {
    for without in [Without::SnapshotFirst, Without::FileFirst, Without::SweepWaits] {
        breaks(&format!("{without:?}"), publishing_and_sweeping(without));
    }
    for without in [Without::SettleLooks, Without::StripeOfSettle, Without::Base] {
        breaks(&format!("{without:?}"), publishing_and_untagging(without));
    }
}

/// Two clients that trust existence answers, and a collection of what they are about to use.
fn collecting_and_pushing(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Collecting::new(without));
        // It is there, nothing refers to it, and its grace is over.
        store.push_long_ago(A);
        together(
            &store,
            vec![
                Box::new(|store: &Collecting| store.collect(A)),
                Box::new(|store| store.push_all(A)),
                Box::new(|store| store.push_all(A)),
                Box::new(|store| {
                    store.publisher.publish();
                    store.publisher.read_layout();
                }),
            ],
        );
        store.check();
    }
}

/// Content that goes with its manifest while another client brings it again, and while another tool reads.
fn collecting_and_deleting(without: Without) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Collecting::new(without));
        store.push_long_ago(A);
        assert!(store.push_manifest(A));
        store.publisher.publish();
        together(
            &store,
            vec![
                Box::new(|store: &Collecting| {
                    store.delete_manifest(A);
                    store.collect(A);
                    store.collect(A);
                }),
                Box::new(|store| store.push(A)),
                Box::new(|store| {
                    store.publisher.read_layout();
                    store.publisher.read_layout();
                }),
            ],
        );
        store.check();
    }
}

#[test]
fn collecting_against_pushing() {
    holds(collecting_and_pushing(Without::Nothing));
    holds(collecting_and_deleting(Without::Nothing));
}

#[test]
fn collecting_controls() {
    for without in [Without::Touch, Without::TouchFirst, Without::StripeOfAnswer, Without::LookUnderStripe] {
        breaks(&format!("{without:?}"), collecting_and_pushing(without));
    }
    for without in [Without::PublishFirst, Without::LookBeforeUnlink] {
        breaks(&format!("{without:?}"), collecting_and_deleting(without));
    }
}

/// Repositories that come to hold one content, leave it and push it once more; with a disk that fails, if it is to.
fn counting_and_syncing(without: Without, fails: Option<u64>) -> impl Fn() + Send + Sync + Clone + 'static {
    move || {
        let store = Arc::new(Counting::new(without, fails));
        store.join(0);
        together(
            &store,
            vec![
                Box::new(|store: &Counting| store.join(1)),
                Box::new(|store| store.join(1)),
                Box::new(|store| {
                    store.leave(0);
                    store.join(2);
                }),
                Box::new(|store| store.join(3)),
            ],
        );
    }
}

#[test]
fn counting_against_counting() {
    for fails in [None, Some(2), Some(3)] {
        holds(counting_and_syncing(Without::Nothing, fails));
    }
}

#[test]
fn counting_controls() {
    for without in [Without::StripeOfCount, Without::RowBeforeSync, Without::BeginFirst, Without::SyncOfOthers] {
        breaks(&format!("{without:?}"), counting_and_syncing(without, None));
    }
    breaks("a failed sync", counting_and_syncing(Without::SyncOfOthers, Some(2)));
}
