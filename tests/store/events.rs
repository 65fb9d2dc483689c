//! Events: everything that happens, once, in an order that every reader sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orlop::{
    Change, Digest, Durability, ErrorKind, Event, EventLimits, EventPosition, Events, Expect, Options,
    Publish, Store,
};

use crate::support::*;

fn keeping(count: u64) -> Options {
    let mut limits = EventLimits::default();
    limits.count = count;
    options().events(limits)
}

fn with_events() -> (Scratch, Store) {
    let dir = scratch();
    let store = keeping(1_000_000).create(dir.root()).unwrap();
    (dir, store)
}

fn next(store: &Store, after: Option<EventPosition>, limit: usize) -> Vec<Event> {
    match store.events(after, limit).unwrap() {
        Events::Next(events) => events,
        other => panic!("{other:?}"),
    }
}

fn gap(store: &Store, after: EventPosition) -> EventPosition {
    match store.events(Some(after), 10).unwrap() {
        Events::Gap { position } => position,
        other => panic!("{other:?}"),
    }
}

/// The changes of a store, in short words.
fn told(store: &Store) -> Vec<String> {
    next(store, None, usize::MAX).iter().map(|event| words(&event.change)).collect()
}

fn words(change: &Change) -> String {
    let short = |digest: &Digest| digest.encoded().to_string()[..6].to_owned();
    let optional = |digest: &Option<Digest>| digest.as_ref().map_or_else(|| "-".to_owned(), short);
    match change {
        Change::ManifestPushed { repository, digest, subject, .. } => {
            format!("{repository} pushed {} {}", short(digest), optional(subject))
        }
        Change::TagChanged { repository, tag, previous, current } => {
            format!("{repository} {tag} {} {}", optional(previous), optional(current))
        }
        Change::ManifestDeleted { repository, digest } => format!("{repository} deleted {}", short(digest)),
        Change::RepositoryDeleted { repository } => format!("{repository} gone"),
        other => panic!("{other:?}"),
    }
}

fn short(artifact: &Artifact) -> String {
    artifact.digest().encoded().to_string()[..6].to_owned()
}

/// Tags and manifests of each repository, from nothing but the events of a feed that began with the store.
pub(crate) fn replayed(store: &Store) -> BTreeMap<String, (BTreeMap<String, Digest>, BTreeSet<Digest>)> {
    let mut all: BTreeMap<String, (BTreeMap<String, Digest>, BTreeSet<Digest>)> = BTreeMap::new();
    for event in next(store, None, usize::MAX) {
        match event.change {
            Change::ManifestPushed { repository, digest, .. } => {
                all.entry(repository.to_string()).or_default().1.insert(digest);
            }
            Change::TagChanged { repository, tag, previous, current } => {
                let here = &mut all.entry(repository.to_string()).or_default().0;
                let before = match current {
                    Some(current) => here.insert(tag.to_string(), current),
                    None => here.remove(tag.as_str()),
                };
                assert_eq!(before, previous, "an event of {tag} is missing");
            }
            Change::ManifestDeleted { repository, digest } => {
                assert!(all.entry(repository.to_string()).or_default().1.remove(&digest), "{digest}");
            }
            Change::RepositoryDeleted { repository } => {
                all.insert(repository.to_string(), Default::default());
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

#[test]
fn every_change_is_told_with_what_was_before() {
    let (dir, store) = with_events();
    assert_eq!(told(&store), Vec::<String>::new());
    let here = repo(&store, "r");
    let (one, two) = (image("one", 2), image("two", 1));
    one.push(&here, &["v1"]);
    two.push(&here, &["v1"]);
    let statement = referrer(&one, "application/statement", "s");
    statement.push(&here, &[]);
    // What changes nothing is not told.
    two.push(&here, &["v1"]);
    here.tag(&tag("v1"), &two.digest(), Expect::Any).unwrap();
    here.push_bytes("loose").unwrap();
    here.untag(&tag("none"), Expect::Any).unwrap();
    fails(here.tag(&tag("v1"), &one.digest(), Expect::Absent), ErrorKind::Conflict, &[]);
    here.untag(&tag("v1"), Expect::Any).unwrap();
    let mut batch = store.batch();
    batch.tag(&here, &tag("v2"), two.digest(), Expect::Any);
    batch.tag(&here, &tag("v2"), one.digest(), Expect::Any);
    batch.commit().unwrap();
    let mut batch = store.batch();
    batch.delete_manifest(&here, &one.digest());
    batch.commit().unwrap();
    store.delete_repository(&name("r")).unwrap();
    assert!(!store.delete_repository(&name("r")).unwrap());
    let (a, b, s) = (short(&one), short(&two), short(&statement));
    let expected = [
        format!("r pushed {a} -"),
        format!("r v1 - {a}"),
        format!("r pushed {b} -"),
        format!("r v1 {a} {b}"),
        format!("r pushed {s} {a}"),
        format!("r v1 {b} -"),
        format!("r v2 - {b}"),
        format!("r v2 {b} {a}"),
        format!("r v2 {a} -"),
        format!("r deleted {a}"),
        "r gone".to_owned(),
    ];
    assert_eq!(told(&store), expected);
    let events = next(&store, None, 100);
    let Change::ManifestPushed { media_type, size, artifact_type, .. } = &events[4].change else { panic!() };
    assert_eq!((media_type.as_str(), *size), (IMAGE, statement.bytes.len() as u64));
    assert_eq!(artifact_type.as_deref(), Some("application/statement"));
    assert!(events.iter().all(|event| event.time.elapsed().is_ok_and(|age| age < Duration::from_secs(600))));

    // By pages, and from a position that was kept as text.
    let mut paged = Vec::new();
    let mut position: Option<EventPosition> = None;
    loop {
        let page = next(&store, position, 2);
        let Some(last) = page.last() else { break };
        position = Some(last.position.to_string().parse().unwrap());
        paged.extend(page);
    }
    assert_eq!(paged, events);
    assert_eq!(store.event_position().unwrap(), events[10].position);
    assert_eq!(next(&store, None, 0), []);

    // They outlive the process, and a reader beside the writer sees them.
    let view = options().open_read_only(dir.root()).unwrap();
    assert_eq!(next(&view, None, 100), events);
    assert!(!view.wait_for_events(position, Duration::from_secs(600)).unwrap());
    drop((view, here));
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(next(&store, None, 100), events);
    assert_eq!(next(&store, position, 100), []);
    image("later", 1).push(&repo(&store, "r"), &[]);
    let view = options().open_read_only(dir.root()).unwrap();
    image("latest", 1).push(&repo(&store, "r"), &[]);
    let ahead = store.event_position().unwrap();
    assert_eq!(next(&view, Some(ahead), 10), [], "a view that is older than the position");
    drop(view);
    assert_eq!(next(&store, position, 1).len(), 1, "whoever writes writes events, once they are wanted");
}

#[test]
fn without_being_asked_for_there_are_none() {
    let (dir, store) = fresh();
    image("one", 1).push(&store.default_repository(), &["v1"]);
    fails(store.events(None, 1), ErrorKind::Unsupported, &["Options::events"]);
    fails(store.wait_for_events(None, Duration::ZERO), ErrorKind::Unsupported, &[]);
    fails(store.event_position(), ErrorKind::Unsupported, &[]);
    store.close().unwrap();
    // Turned on they begin, turned off they go, turned on again they are others.
    let store = keeping(10).open(dir.root()).unwrap();
    image("two", 1).push(&store.default_repository(), &["v1"]);
    assert_eq!(told(&store).len(), 2);
    let old = next(&store, None, 10)[0].position;
    store.close().unwrap();
    let store = options().without_events().open(dir.root()).unwrap();
    fails(store.events(None, 1), ErrorKind::Unsupported, &[]);
    store.close().unwrap();
    let store = keeping(10).open(dir.root()).unwrap();
    assert_eq!(told(&store), Vec::<String>::new());
    let position = gap(&store, old);
    assert_eq!(next(&store, Some(position), 10), []);
    let mut none = EventLimits::default();
    none.count = 0;
    fails(options().events(none).create(dir.path("x")), ErrorKind::Invalid, &["count=0"]);
    let mut none = EventLimits::default();
    none.age = Some(Duration::ZERO);
    fails(options().events(none).create(dir.path("x")), ErrorKind::Invalid, &["age"]);
}

#[test]
fn positions_are_read_as_they_are_written_and_nothing_else() {
    let (_dir, store) = with_events();
    let position = store.event_position().unwrap();
    assert_eq!(position.to_string().parse::<EventPosition>().unwrap(), position);
    for text in [
        "",
        "-",
        "1-1",
        "0123456789abcdef",
        "0123456789abcdef-",
        "0123456789ABCDEF-1",
        "0123456789abcdef--1",
        "0123456789abcdef-+1",
    ] {
        fails(text.parse::<EventPosition>(), ErrorKind::Invalid, &["position"]);
    }
}

#[test]
fn what_other_tools_change_is_told() {
    let (dir, store) = with_events();
    let one = image("one", 1);
    one.push(&repo(&store, "r"), &["v1"]);
    store.flush().unwrap();
    let theirs = image("theirs", 2);
    put_blobs(&dir.root(), &theirs);
    edit_index(&dir.root(), |entries| entries.push(entry(Some("r:new"), &theirs)));
    let before = store.event_position().unwrap();
    store.flush().unwrap();
    let told: Vec<String> = next(&store, Some(before), 10).iter().map(|event| words(&event.change)).collect();
    assert_eq!(told, [format!("r pushed {} -", short(&theirs)), format!("r new - {}", short(&theirs))]);
    store.close().unwrap();
    edit_index(&dir.root(), |entries| entries.retain(|entry| !is_named(entry, "r:v1")));
    let store = options().open(dir.root()).unwrap();
    let last = next(&store, Some(before), 10).pop().unwrap();
    assert_eq!(words(&last.change), format!("r v1 {} -", short(&one)));
}

#[test]
fn old_ones_go_and_a_late_reader_is_told() {
    let (dir, store) = fresh();
    store.close().unwrap();
    let store = keeping(100).open(dir.root()).unwrap();
    let here = store.default_repository();
    let (a, b) = (image("a", 1), image("b", 1));
    a.push(&here, &[]);
    b.push(&here, &["t"]);
    let first = next(&store, None, 1)[0].position;
    for round in 0..700 {
        let target = if round % 2 == 0 { &a } else { &b };
        here.tag(&tag("t"), &target.digest(), Expect::Any).unwrap();
    }
    let left = next(&store, None, usize::MAX);
    assert!((100..=100 + 256).contains(&left.len()), "{} are left", left.len());
    let position = gap(&store, first);
    assert_eq!(
        next(&store, Some(position), usize::MAX),
        left,
        "after a gap one goes on with the first that is left"
    );
    drop(here);
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    let left = next(&store, None, usize::MAX);
    assert_eq!(left.len(), 100, "closing and opening look at once");
    gap(&store, first);
    store.close().unwrap();
    // By age: all but the last.
    thread::sleep(Duration::from_millis(5));
    let mut limits = EventLimits::default();
    limits.age = Some(Duration::from_millis(1));
    let store = options().events(limits).open(dir.root()).unwrap();
    assert_eq!(next(&store, None, usize::MAX), left[99..]);
    assert_eq!(
        next(&store, Some(left[98].position), 10),
        left[99..],
        "who has seen what went has missed nothing"
    );
    gap(&store, left[97].position);
    // Numbers go on where they were.
    b.push(&store.default_repository(), &["u"]);
    assert!(next(&store, Some(left[99].position), 10)[0].position.sequence() > left[99].position.sequence());
}

/// Reads everything behind a position, by small pages with waits, until `done` says so.
fn follow(store: &Store, mut done: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    let mut position = None;
    loop {
        let page = next(store, position, 7);
        if page.is_empty() {
            if done(&seen) {
                return seen;
            }
            store.wait_for_events(position, Duration::from_millis(20)).unwrap();
            continue;
        }
        position = page.last().map(|event| event.position);
        seen.extend(page);
    }
}

#[test]
fn readers_beside_many_writers_miss_nothing_and_see_nothing_twice() {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 60;
    let dir = scratch();
    let mut limits = EventLimits::default();
    limits.count = 1_000_000;
    let store = Options::new()
        .durability(Durability::Process)
        .publish(Publish::Interval(Duration::from_millis(3)))
        .events(limits)
        .create(dir.root())
        .unwrap();
    let images: Vec<Artifact> = (0..4).map(|n| image(&format!("{n}"), 1)).collect();
    for artifact in &images {
        artifact.push(&repo(&store, "r"), &[]);
    }
    let ended = AtomicUsize::new(0);
    let (histories, followed) = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, images, ended) = (&store, &images, &ended);
                scope.spawn(move || {
                    let here = repo(store, "r");
                    let mut changes = Vec::new();
                    for round in 0..ROUNDS {
                        // A tag of its own and one that all move.
                        let target = images[(writer + round) % images.len()].digest();
                        let mut batch = store.batch();
                        batch.tag(&here, &tag(&format!("own-{writer}")), target, Expect::Any);
                        batch.tag(&here, &tag("shared"), target, Expect::Any);
                        changes.extend(batch.commit().unwrap().tags);
                        if round % 10 == 9 {
                            image(&format!("{writer} {round}"), 1).push(&here, &[]);
                        }
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                    changes
                })
            })
            .collect();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (store, ended) = (&store, &ended);
                scope.spawn(move || follow(store, |_| ended.load(Ordering::SeqCst) == WRITERS))
            })
            .collect();
        let histories: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        // One more round for whoever looked just before the last event.
        let followed: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (histories, followed)
    });
    let all = next(&store, None, usize::MAX);
    let positions: BTreeSet<u64> = all.iter().map(|event| event.position.sequence()).collect();
    assert_eq!(positions.len(), all.len());
    for seen in followed {
        assert_eq!(seen[..], all[..seen.len()], "a reader has seen something else than there is");
        assert!(seen.len() + 3 * WRITERS >= all.len());
    }
    // Every change that a writer was answered is told once, and each tag's events make a chain.
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for change in histories.iter().filter(|change| change.previous != change.current) {
        let change = Change::TagChanged {
            repository: change.repository.clone(),
            tag: change.tag.clone(),
            previous: change.previous,
            current: change.current,
        };
        *expected.entry(words(&change)).or_default() += 1;
    }
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut tags_now: BTreeMap<String, Option<Digest>> = BTreeMap::new();
    for event in &all {
        if let Change::TagChanged { tag, previous, current, .. } = &event.change {
            *found.entry(words(&event.change)).or_default() += 1;
            let before = tags_now.insert(tag.to_string(), *current).flatten();
            assert_eq!(before, *previous, "the events of {tag} are not its history");
        }
    }
    assert_eq!(found, expected);
    let now: BTreeMap<String, Option<Digest>> =
        tags(&repo(&store, "r")).into_iter().map(|(tag, digest)| (tag, Some(digest))).collect();
    assert_eq!(tags_now, now);
}

#[test]
fn waiting_ends_with_an_event_or_with_the_time() {
    let (_dir, store) = with_events();
    let start = Instant::now();
    assert!(!store.wait_for_events(None, Duration::from_millis(60)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(60));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.wait_for_events(None, Duration::from_secs(600)).unwrap());
        image("one", 1).push(&store.default_repository(), &[]);
        assert!(waiting.join().unwrap());
    });
    assert!(store.wait_for_events(None, Duration::ZERO).unwrap(), "there is one already");
    assert!(store.wait_for_events(None, Duration::MAX).unwrap());
    let last = store.event_position().unwrap();
    assert!(!store.wait_for_events(Some(last), Duration::ZERO).unwrap());
}

#[test]
fn another_store_is_another_feed() {
    let (dir, store) = with_events();
    image("one", 1).push(&store.default_repository(), &["v1"]);
    let position = next(&store, None, 1)[0].position;
    store.checkpoint(dir.path("checkpoint")).unwrap();
    store.close().unwrap();
    copy_tree(&dir.root(), &dir.path("copied"));
    for copy in ["checkpoint", "copied"] {
        let copy = options().open(dir.path(copy)).unwrap();
        assert_eq!(told(&copy), Vec::<String>::new());
        let start = gap(&copy, position);
        image("there", 1).push(&copy.default_repository(), &[]);
        assert_eq!(next(&copy, Some(start), 10).len(), 1);
        copy.close().unwrap();
    }
    // Metadata that were made anew know nothing of what happened before.
    let options = keeping(1000);
    options.rebuild(dir.root()).unwrap();
    let store = options.open(dir.root()).unwrap();
    gap(&store, position);
    assert!(fs::metadata(dir.root()).is_ok());
}

#[test]
fn a_crash_takes_nothing_back_that_was_told() {
    let (dir, store) = with_events();
    let here = store.default_repository();
    image("one", 1).push(&here, &["v1"]);
    let told_before = next(&store, None, 100);
    drop(here);
    crash(&dir, store);
    let store = options().open(dir.root()).unwrap();
    assert!(!store.open_report().clean);
    assert_eq!(next(&store, None, 100), told_before);
    let last = told_before.last().unwrap().position;
    image("two", 1).push(&store.default_repository(), &[]);
    let after = next(&store, Some(last), 100);
    assert_eq!(after.len(), 1);
    // Numbers that the process may have given to somebody before it ended are not given again.
    assert!(after[0].position.sequence() > last.sequence() + 1);
}
