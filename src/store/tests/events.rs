//! What readers of events are shown while batches are being written.

use super::artifact::Artifact;
use crate::metadata::EventChange;
use crate::store::{EventLimits, Events, Options, Publish, Store};

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
