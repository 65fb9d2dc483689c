//! Referrers: all of them or an error, by the API or the fallback tag; and the list under that, which a push maintains.

use std::collections::HashMap;
use std::sync::Arc;

use orlop::oci::{Descriptor, Manifest, RepositoryName};
use orlop::transfer::archive::Exporter;
use orlop::transfer::{Fetched, FoundBy, Ready, Sink, Source};
use orlop::{Algorithm, Digest, ErrorKind};
use parking_lot::Mutex;

use super::faulty::{Faulty, Reply, reply};
use super::{layer, manifest, options, referrer, repository};
use crate::support::{INDEX, MANIFEST};

fn subject() -> Digest {
    layer(b"subject").digest
}

/// An index of manifests that are called so.
fn list(names: &[&str]) -> String {
    let entries: Vec<String> = names
        .iter()
        .map(|name| {
            let digest = if *name == "subject" { subject() } else { layer(name.as_bytes()).digest };
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":9,"artifactType":"t/{name}"}}"#)
        })
        .collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
}

fn answer(names: &[&str]) -> Reply {
    reply(200).header("Content-Type", INDEX).body(list(names))
}

/// A registry without the API.
fn without_api(fallback: impl Fn() -> Reply + Send + Sync + 'static) -> Faulty {
    Faulty::new(move |asked, _| if asked.path.contains("/referrers/") { reply(404) } else { fallback() })
}

fn digests(referrers: &[Descriptor]) -> Vec<Digest> {
    referrers.iter().map(|referrer| referrer.digest).collect()
}

fn named(names: &[&str]) -> Vec<Digest> {
    names.iter().map(|name| layer(name.as_bytes()).digest).collect()
}

#[test]
fn all_pages_each_once_and_never_the_subject() {
    let faulty = Faulty::new(|asked, _| {
        let next = |at: u32| format!("</v2/a/referrers/{}?page={at}>; rel=\"next\"", subject());
        match asked.path.split_once("?page=").map(|(_, page)| page) {
            None => answer(&["a", "subject"]).header("Link", next(1)),
            Some("1") => answer(&[]).header("Link", next(2)),
            _ => answer(&["b", "a"]),
        }
    });
    let found = repository(faulty.port, options()).referrers(&subject(), None).unwrap();
    assert_eq!((found.by, found.pages), (FoundBy::Api, 3));
    assert_eq!(digests(&found.referrers), named(&["a", "b"]));
    // Asked for a type, a registry may answer with all: what it says of filters is not believed.
    for applied in ["", "artifactType"] {
        let faulty = Faulty::new(move |_, _| answer(&["a", "b"]).header("OCI-Filters-Applied", applied));
        let found = repository(faulty.port, options()).referrers(&subject(), Some("t/b")).unwrap();
        assert_eq!(digests(&found.referrers), named(&["b"]));
        assert!(faulty.lines()[0].ends_with("?artifactType=t/b"));
    }
}

#[test]
fn only_404_means_that_there_is_no_api() {
    for (status, kind) in [
        (401, ErrorKind::Unauthorized),
        (403, ErrorKind::Denied),
        (429, ErrorKind::Unavailable),
        (500, ErrorKind::Unavailable),
        (400, ErrorKind::Invalid),
        (405, ErrorKind::Unsupported),
    ] {
        let faulty =
            Faulty::new(
                move |asked, _| {
                    if asked.path.contains("/referrers/") { reply(status) } else { answer(&["a"]) }
                },
            );
        let error = repository(faulty.port, options()).referrers(&subject(), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(faulty.count("GET /v2/a/manifests"), 0);
        // And of the tag only 404 that there is none.
        let faulty = without_api(move || reply(status));
        let error = repository(faulty.port, options()).referrers(&subject(), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
    for body in ["", "{}", "<html>", r#"{"manifests":[{}]}"#, r#"{"mediaType":"x/y","manifests":[]}"#] {
        let faulty = Faulty::new(move |_, _| reply(200).body(body));
        let error = repository(faulty.port, options()).referrers(&subject(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{body}");
    }
    let faulty = without_api(|| reply(404));
    let found = repository(faulty.port, options()).referrers(&subject(), None).unwrap();
    assert_eq!((found.by, found.referrers.len()), (FoundBy::FallbackTag, 0));
    let encoded = subject().encoded().to_string();
    assert_eq!(faulty.lines()[1], format!("GET /v2/a/manifests/sha256-{encoded}"));
}

#[test]
fn what_else_may_be_under_the_tag() {
    let faulty = without_api(|| answer(&["a", "subject"]));
    let found = repository(faulty.port, options()).referrers(&subject(), Some("t/a")).unwrap();
    assert_eq!((found.by, digests(&found.referrers)), (FoundBy::FallbackTag, named(&["a"])));
    // An image, as cosign has them.
    let faulty = without_api(|| reply(200).header("Content-Type", MANIFEST).body("{}"));
    assert!(repository(faulty.port, options()).referrers(&subject(), None).unwrap().referrers.is_empty());
    // The subject itself, where a dash is taken for a colon.
    let own = list(&["a"]);
    let digest = Digest::of(own.as_bytes());
    let faulty = without_api(move || reply(200).header("Content-Type", INDEX).body(own.clone()));
    assert!(repository(faulty.port, options()).referrers(&digest, None).unwrap().referrers.is_empty());
    // A list that cannot be read is no empty one.
    let faulty = without_api(|| reply(200).header("Content-Type", INDEX).body("[]"));
    let error = repository(faulty.port, options()).referrers(&subject(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// What is under a name: a media type and bytes.
type Stored = HashMap<String, (String, Vec<u8>)>;

/// A registry that knows nothing of referrers, with what is stored under each name.
fn plain(spoil: impl Fn(&str, &mut Stored) + Send + Sync + 'static) -> (Faulty, Arc<Mutex<Stored>>) {
    let stored = Arc::<Mutex<HashMap<_, _>>>::default();
    let kept = Arc::clone(&stored);
    let faulty = Faulty::new(move |asked, _| {
        let mut stored = kept.lock();
        let Some(name) = asked.path.strip_prefix("/v2/a/manifests/") else { return reply(404) };
        match asked.method.as_str() {
            "PUT" => {
                stored.insert(name.into(), (asked.header("content-type").into(), asked.body.clone()));
                spoil(name, &mut stored);
                reply(201)
            }
            "DELETE" => reply(if stored.remove(name).is_some() { 202 } else { 404 }),
            _ => match stored.get(name) {
                Some((kind, bytes)) => reply(200).header("Content-Type", kind).body(bytes.clone()),
                None => reply(404),
            },
        }
    });
    (faulty, stored)
}

fn tag_of(subject: &Digest) -> String {
    subject.to_string().replace(':', "-").chars().take(7 + 64).collect()
}

#[test]
fn a_push_maintains_the_list_where_the_registry_does_not() {
    let (faulty, stored) = plain(|_, _| {});
    let remote = repository(faulty.port, options());
    let (one, two) = (referrer(&subject(), "t/1"), referrer(&subject(), "t/2"));
    for pushed in [&one, &two, &one] {
        remote.push_manifest(pushed, &[]).unwrap();
    }
    let found = remote.referrers(&subject(), None).unwrap();
    assert_eq!(digests(&found.referrers), [one.descriptor.digest, two.descriptor.digest]);
    assert_eq!(found.referrers[0].artifact_type.as_deref(), Some("t/1"));
    assert_eq!(found.referrers[0].annotations.get("n").unwrap(), "t/1");
    let (kind, bytes) = stored.lock()[&tag_of(&subject())].clone();
    assert_eq!(Manifest::parse(&kind, &bytes).unwrap().successors().len(), 2);
    // Without a subject nothing is asked.
    let before = faulty.lines().len();
    remote.push_manifest(&manifest("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},\"layers\":[]}"), &[]).unwrap();
    assert_eq!(faulty.lines().len(), before + 1);
    assert!(remote.delete_manifest(&one.descriptor.digest).unwrap());
    let found = remote.referrers(&subject(), None).unwrap();
    assert_eq!(digests(&found.referrers), [two.descriptor.digest]);
}

/// A manifest that the registry was found to have.
fn there(manifest: Fetched) -> Ready {
    let mut ready = Ready::new(manifest, false);
    ready.present = true;
    ready
}

/// Whoever pushed it was interrupted before it was listed: the next copy finds it there, and lists it.
#[test]
fn a_manifest_that_is_there_and_not_listed_is_listed_by_the_next_copy() {
    let (faulty, stored) = plain(|_, _| {});
    let one = referrer(&subject(), "t/1");
    let bytes = one.bytes.to_vec();
    stored.lock().insert(one.descriptor.digest.to_string(), (MANIFEST.into(), bytes));
    let remote = repository(faulty.port, options());
    assert!(remote.referrers(&subject(), None).unwrap().referrers.is_empty());
    for _ in 0..2 {
        remote.complete(vec![there(one.clone())], &[]).unwrap();
        let found = remote.referrers(&subject(), None).unwrap();
        assert_eq!(digests(&found.referrers), [one.descriptor.digest]);
    }
    assert_eq!(faulty.count("PUT"), 1, "once, and not the manifest: {:?}", faulty.lines());
    // A registry that lists them itself is asked whether it does once.
    let faulty =
        Faulty::new(|asked, _| if asked.path.contains("/referrers/") { answer(&[]) } else { reply(404) });
    let remote = repository(faulty.port, options());
    let all = (0..5).map(|n| there(referrer(&subject(), &format!("t/{n}")))).collect();
    remote.complete(all, &[]).unwrap();
    assert_eq!(faulty.lines().len(), 1, "{:?}", faulty.lines());
}

/// Not by an export either: what is attached and cannot be had is missing.
#[test]
fn an_export_names_what_is_listed_and_not_there() {
    let one = referrer(&subject(), "t/1");
    let lost = named(&["lost"])[0];
    let (path, bytes) = (format!("/manifests/{}", one.descriptor.digest), one.bytes.to_vec());
    let about = format!("/referrers/{}", one.descriptor.digest);
    let faulty = Faulty::new(move |asked, _| match &asked.path {
        asked if asked.ends_with(&path) => reply(200).header("Content-Type", MANIFEST).body(bytes.clone()),
        asked if asked.ends_with(&about) => answer(&["lost"]),
        asked if asked.contains("/referrers/") => answer(&[]),
        asked if asked.contains("/blobs/") => reply(200).body(b"{}"),
        _ => reply(404),
    });
    let (remote, name) = (repository(faulty.port, options()), "a".parse().unwrap());
    let plan = |referrers| {
        let exporter = Exporter::from_sources([(RepositoryName::clone(&name), &remote as &dyn Source)]);
        exporter.referrers(referrers).with(&name, &one.descriptor.digest, &[]).plan().map(drop)
    };
    plan(false).unwrap();
    let error = plan(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&format!("is missing, digest={lost}")), "{error}");
}

#[test]
fn others_change_the_list_too() {
    // Once somebody writes over what was written: it is put in again, beside what is there then.
    let tag = tag_of(&subject());
    let spoiled = Mutex::new(false);
    let name = tag.clone();
    let (faulty, _) = plain(move |put, stored| {
        if put == name && !std::mem::replace(&mut *spoiled.lock(), true) {
            stored.insert(name.clone(), (INDEX.into(), list(&["other"]).into()));
        }
    });
    let remote = repository(faulty.port, options());
    let one = referrer(&subject(), "t/1");
    remote.push_manifest(&one, &[]).unwrap();
    let found = remote.referrers(&subject(), None).unwrap();
    assert_eq!(digests(&found.referrers), [named(&["other"])[0], one.descriptor.digest]);
    // All the time: an error, not a referrer that nobody finds.
    let name = tag.clone();
    let (faulty, _) = plain(move |put, stored| {
        if put == name {
            stored.insert(name.clone(), (INDEX.into(), list(&["other"]).into()));
        }
    });
    let error = repository(faulty.port, options()).push_manifest(&one, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Something else has the tag: it stays.
    let (faulty, stored) = plain(|_, _| {});
    stored.lock().insert(tag.clone(), (MANIFEST.into(), b"{}".to_vec()));
    let error = repository(faulty.port, options()).push_manifest(&one, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(stored.lock()[&tag].1, b"{}");
}

#[test]
fn a_registry_that_keeps_them_is_left_alone() {
    // It says so, or has the API.
    for (header, api) in [("OCI-Subject", 404), ("X-Y", 200)] {
        let faulty = Faulty::new(move |asked, _| match asked.method.as_str() {
            "PUT" => reply(201).header(header, subject()),
            _ if asked.path.contains("/referrers/") && api == 200 => answer(&[]),
            _ => reply(api),
        });
        repository(faulty.port, options()).push_manifest(&referrer(&subject(), "t/1"), &[]).unwrap();
        assert_eq!(faulty.count("PUT"), 1, "{:?}", faulty.lines());
    }
    // It cannot be asked: nothing is guessed.
    let faulty = Faulty::new(|asked, _| reply(if asked.method == "PUT" { 201 } else { 403 }));
    let error =
        repository(faulty.port, options()).push_manifest(&referrer(&subject(), "t/1"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[test]
fn tags_that_have_half_a_digest_are_looked_behind() {
    let subject = Algorithm::Sha512.digest(b"subject");
    let mut other = *subject.as_bytes().last_chunk::<1>().unwrap();
    other[0] ^= 1;
    let bytes = [&subject.as_bytes()[..63], &other].concat();
    let other = Digest::from_bytes(Algorithm::Sha512, &bytes).unwrap();
    let (faulty, stored) = plain(|_, _| {});
    let remote = repository(faulty.port, options());
    let (one, two) = (referrer(&subject, "t/1"), referrer(&other, "t/2"));
    remote.push_manifest(&one, &[]).unwrap();
    remote.push_manifest(&two, &[]).unwrap();
    assert_eq!(tag_of(&subject), tag_of(&other));
    assert_eq!(digests(&remote.referrers(&subject, None).unwrap().referrers), [one.descriptor.digest]);
    assert_eq!(digests(&remote.referrers(&other, None).unwrap().referrers), [two.descriptor.digest]);
    // One that is listed and gone is missing for both, and not out of sight.
    stored.lock().remove(&one.descriptor.digest.to_string());
    assert_eq!(digests(&remote.referrers(&subject, None).unwrap().referrers), [one.descriptor.digest]);
}
