//! Errors: what they say, and that saying it is all they do.

use std::error::Error as _;

use orlop::oci::{Reference, RepositoryName, Tag};
use orlop::{Digest, Error, ErrorKind, Expect, Expected};

use crate::support::*;

#[test]
fn parsing_names_the_value_and_the_rule() {
    let long = format!("sha256:{}", "a".repeat(100_000));
    let digests = [
        "",
        "sha256",
        "sha256:",
        ":abc",
        "sha256:xyz",
        "SHA256:abc",
        "sha256:../../../etc/passwd",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        &long,
    ];
    for text in digests {
        let error: Error = text.parse::<Digest>().expect_err("it was accepted").into();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        let message = error.to_string();
        assert!(message.contains(&text[..text.len().min(20)]), "{message}");
        assert!(message.len() < 500, "a message of {} bytes", message.len());
    }
    for text in ["a b", "-x", "x/y", "\u{e9}", "a\nb"] {
        let error = text.parse::<Tag>().expect_err("it was accepted");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().is_ascii(), "{error}");
    }
    for text in ["Upper", "a//b", "a/../b", "a:b", "\u{e9}"] {
        let error = text.parse::<RepositoryName>().expect_err("it was accepted");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for text in ["", "a:b", "sha256:short", "not/a/tag"] {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
}

#[test]
fn an_error_has_a_kind_a_message_and_a_cause_that_is_not_said_twice() {
    let (dir, store) = fresh();
    let error = store.default_repository().push_file(dir.path("missing"), &Expected::default()).unwrap_err();
    let cause = error.source().expect("the system said why").to_string();
    assert!(!error.to_string().contains(&cause), "{error}");
    let debug = format!("{error:?}");
    assert!(debug.contains("NotFound") && debug.contains("No such file"), "{debug}");
    fn travels<T: std::error::Error + Send + Sync + 'static>(_: &T) {}
    travels(&error);
}

#[test]
fn refused_calls_leave_the_store_as_it_was() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 1);
    let digest = image.push(&here, &["v1"]);
    store.flush().unwrap();
    let before = (content_tree(&dir.root()), describe(&store));
    let value = absent().to_string();
    let wrong = Expected::from(absent());
    fails(here.push_reader(&b"other bytes"[..], &wrong), ErrorKind::Mismatch, &[&value]);
    fails(here.push_manifest(IMAGE, &b"{}"[..], &[tag("v2")]), ErrorKind::Invalid, &[]);
    fails(here.push_manifest("image", image.bytes.clone(), &[tag("v2")]), ErrorKind::Invalid, &["image"]);
    fails(here.tag(&tag("v2"), &absent(), Expect::Any), ErrorKind::NotFound, &[&value]);
    fails(here.tag(&tag("v1"), &digest, Expect::Absent), ErrorKind::Conflict, &["v1", &digest.to_string()]);
    fails(here.untag(&tag("v1"), Expect::Is(absent())), ErrorKind::Conflict, &["v1", &digest.to_string()]);
    fails(here.range(&digest, 5..1_000_000), ErrorKind::Invalid, &["1000000"]);
    fails(here.range(&digest, 0..u64::MAX), ErrorKind::Invalid, &[]);
    let mut batch = store.batch();
    batch.push_bytes(&here, &b"never"[..]).unwrap();
    batch
        .push_manifest(&here, IMAGE, &b"{}"[..])
        .err()
        .map_or_else(|| panic!("accepted"), |error| assert_eq!(error.kind(), ErrorKind::Invalid));
    drop(batch);
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
    store.flush().unwrap();
    assert_eq!((content_tree(&dir.root()), describe(&store)), before);
}

#[test]
fn a_batch_refuses_handles_of_another_store() {
    let (_one, store) = fresh();
    let (_two, other) = fresh();
    let mut batch = store.batch();
    let theirs = other.default_repository();
    let content = other.ingest_bytes(noise(1, 100_000), &Expected::default()).unwrap();
    let outcome = batch
        .push_bytes(&theirs, &b"x"[..])
        .and_then(|_| batch.push(&theirs, content))
        .and_then(|_| batch.commit());
    fails(outcome, ErrorKind::Invalid, &[]);
    assert_eq!(describe(&store).len() + describe(&other).len(), 0);

    // The same name in the other store is another repository.
    let image = image("a", 1);
    image.push(&store.default_repository(), &[]);
    let mut batch = store.batch();
    batch.tag(&theirs, &tag("v1"), image.digest(), Expect::Any);
    fails(batch.commit(), ErrorKind::Invalid, &[]);
    let mut batch = store.batch();
    batch.untag(&theirs, &tag("v1"), Expect::Any);
    fails(batch.submit().wait(), ErrorKind::Invalid, &[]);

    // Content that another store ingested is refused by name, or stored; it is never half there.
    let content = other.ingest_bytes(noise(2, 100_000), &Expected::default()).unwrap();
    let digest = digest_of(&noise(2, 100_000));
    match store.default_repository().push(content) {
        Ok(_) => {
            assert!(store.default_repository().get(&digest).unwrap().unwrap()[..] == noise(2, 100_000)[..])
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
            assert!(store.default_repository().get(&digest).unwrap().is_none());
        }
    }
}
