//! What readers of events are shown while batches are being written.

use rustix::io::Errno;

use super::artifact::Artifact;
use crate::error::ErrorKind;
use crate::metadata::EventChange;
use crate::store::{EventLimits, Events, Expect, Options, Publish, Store};
use crate::sys::fault::{Call, Fault, arm};

fn sequences(store: &Store) -> Vec<u64> {
    match store.events(None, 100).unwrap() {
        Events::Next(events) => events.iter().map(|event| event.position.sequence()).collect(),
        gap @ Events::Gap { .. } => panic!("{gap:?}"),
    }
}

#[test]
fn an_event_is_shown_when_every_earlier_one_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().publish(Publish::Manual).events(EventLimits::default());
    let store = options.create(dir.path().join("store")).unwrap();
    let core = store.core();
    let change = |name: &str| {
        let digest = Artifact::image(name, &[1]).digest();
        vec![EventChange::Deleted { repository: name.to_owned(), digest }; 2]
    };
    let [mut first, mut second, mut third] = [(); 3].map(|()| core.metadata.rows().count().unwrap());
    let early = core.record(&mut first, change("first"));
    let late = core.record(&mut second, change("second"));
    core.sync(core.put_anyway(second, true).unwrap()).unwrap();
    drop(late);
    assert!(sequences(&store).is_empty(), "the first batch is still being written");
    let begin = store.event_position().unwrap();
    core.sync(core.put_anyway(first, true).unwrap()).unwrap();
    assert!(sequences(&store).is_empty());
    drop(early);
    assert_eq!(sequences(&store), [1, 2, 3, 4]);
    // One that is never written leaves its numbers out, and holds nobody up.
    let failed = core.record(&mut third, change("third"));
    drop((third, failed));
    let Events::Next(events) = store.events(Some(begin), 100).unwrap() else { panic!("a gap") };
    assert_eq!(events.len(), 4, "a position from before misses nothing");
    let last = store.event_position().unwrap();
    assert_eq!(last.sequence(), 6);
    assert_eq!(store.events(Some(last), 100).unwrap(), Events::Next(Vec::new()));
}

/// Whether the log has the rows is known when the store is opened again, and then their events may be there.
#[test]
fn a_position_never_gets_past_events_whose_rows_may_be_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let options = Options::new().publish(Publish::Manual).events(EventLimits::default());
    let store = options.create(&root).unwrap();
    let here = store.default_repository();
    let mut batch = store.batch();
    let digest = Artifact::image("first", &[1]).add(&mut batch, &here).unwrap();
    batch.commit().unwrap();
    let tag = |name: &str| here.tag(&name.parse().unwrap(), &digest, Expect::Any);
    tag("first").unwrap();
    let before = store.event_position().unwrap();
    // A refusal leaves nothing open.
    let full = arm(Fault::new(Call::Space, &root, Errno::NOSPC).forever());
    assert_eq!(tag("refused").unwrap_err().kind(), ErrorKind::NoSpace);
    drop(full);
    tag("second").unwrap();
    let settled = store.event_position().unwrap();
    assert!(settled.sequence() > before.sequence());
    let _failing = arm(Fault::new(Call::WriteRows, &root, Errno::IO));
    assert_eq!(tag("third").unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(store.event_position().unwrap(), settled);
}
