//! The graph: successors, predecessors, referrers, their filters, orders and pages.

use std::collections::BTreeSet;

use orlop::oci::Role;
use orlop::{Digest, ErrorKind, Order, PageToken, Repository};
use serde_json::json;

use crate::support::*;

const SIG: &str = "application/vnd.example.signature";
const SBOM: &str = "application/spdx+json";

/// Every referrer, page by page.
fn paged(
    here: &Repository,
    subject: &Digest,
    artifact_type: Option<&str>,
    order: Order,
    limit: usize,
    max_bytes: usize,
) -> Vec<Digest> {
    let mut out = Vec::new();
    let mut token: Option<PageToken> = None;
    loop {
        let mut query = here.referrers(subject).order(order).limit(limit).max_bytes(max_bytes);
        if let Some(artifact_type) = artifact_type {
            query = query.artifact_type(artifact_type);
        }
        if let Some(token) = &token {
            query = query.after(token);
        }
        let page = query.page().unwrap();
        assert!(page.descriptors.len() <= limit);
        assert!(!page.descriptors.is_empty() || page.next.is_none(), "an empty page that promises more");
        let bytes: usize =
            page.descriptors.iter().map(|found| serde_json::to_vec(found).unwrap().len()).sum();
        assert!(bytes <= max_bytes || page.descriptors.len() == 1, "{bytes} bytes in a page of {max_bytes}");
        out.extend(page.descriptors.iter().map(|found| found.digest));
        let Some(next) = page.next else { return out };
        // The token goes over a wire and back.
        token = Some(next.to_string().parse().unwrap());
    }
}

fn listed(here: &Repository, subject: &Digest) -> Vec<Digest> {
    paged(here, subject, None, Order::Insertion, 1000, 4 << 20)
}

#[test]
fn referrers_are_there_before_their_subject_and_after_it() {
    let (dir, store) = fresh();
    let here = repo(&store, "app");
    let subject = image("subject", 1);
    let early = referrer(&subject, SIG, "early");
    early.push(&here, &[]);
    assert_eq!(listed(&here, &subject.digest()), [early.digest()]);
    assert!(here.manifest(&subject.digest()).unwrap().is_none());
    subject.push(&here, &["v1"]);
    let late = referrer(&subject, SBOM, "late");
    late.push(&here, &[]);
    assert_eq!(listed(&here, &subject.digest()), [early.digest(), late.digest()]);
    // Pushed again is listed once; another repository lists its own alone.
    early.push(&here, &["tagged-too"]);
    assert_eq!(listed(&here, &subject.digest()), [early.digest(), late.digest()]);
    assert_eq!(listed(&repo(&store, "other"), &subject.digest()), []);
    assert_eq!(listed(&store.default_repository(), &subject.digest()), []);
    drop(here);
    store.close().unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(listed(&repo(&store, "app"), &subject.digest()), [early.digest(), late.digest()]);
}

#[test]
fn a_subject_is_its_digest_alone() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    subject.push(&here, &[]);
    // Announced with another media type and size: the specification keys referrers by digest.
    let odd =
        json!({ "mediaType": "application/vnd.example", "digest": subject.digest().to_string(), "size": 1 });
    let odd = referrer_to(&odd, SIG, "odd", &json!({}));
    odd.push(&here, &[]);
    assert_eq!(listed(&here, &subject.digest()), [odd.digest()]);
}

#[test]
fn descriptors_of_referrers_say_what_the_specification_wants() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let config = b"config of a kind".to_vec();
    here.push_bytes(config.clone()).unwrap();
    let body = |extra: serde_json::Value| {
        let mut body = json!({ "schemaVersion": 2, "subject": subject.descriptor(), "annotations": { "k": "v", "caf": "\u{e9}" } });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::to_vec(&body).unwrap()
    };
    let image_config = descriptor("application/vnd.example.config", &config);
    let cases = [
        (IMAGE, json!({ "config": image_config, "layers": [], "artifactType": SIG }), Some(SIG)),
        (IMAGE, json!({ "config": image_config, "layers": [] }), Some("application/vnd.example.config")),
        (INDEX, json!({ "manifests": [], "artifactType": SBOM }), Some(SBOM)),
        (INDEX, json!({ "manifests": [] }), None),
        (
            ORAS,
            json!({ "blobs": [], "artifactType": "application/vnd.example.oras" }),
            Some("application/vnd.example.oras"),
        ),
        (
            ARTIFACT,
            json!({ "blobs": [], "artifactType": "application/vnd.example.rc" }),
            Some("application/vnd.example.rc"),
        ),
    ];
    let mut digests = Vec::new();
    for (media_type, extra, artifact_type) in cases {
        let bytes = body(extra);
        let digest = here.push_manifest(media_type, bytes.clone(), &[]).unwrap().digest;
        digests.push(digest);
        let page = here.referrers(&subject.digest()).page().unwrap();
        let found = page.descriptors.iter().find(|found| found.digest == digest).unwrap();
        assert_eq!((found.media_type.as_str(), found.size), (media_type, bytes.len() as u64));
        assert_eq!(found.artifact_type.as_deref(), artifact_type);
        assert_eq!(found.annotations.get("caf").map(String::as_str), Some("\u{e9}"));
        assert_eq!(found.annotations.len(), 2);
    }
    assert_eq!(listed(&here, &subject.digest()), digests);
}

#[test]
fn filters_are_exact() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let sigs: Vec<Digest> =
        (0..5).map(|n| referrer(&subject, SIG, &format!("sig {n}")).push(&here, &[])).collect();
    let sboms: Vec<Digest> =
        (0..3).map(|n| referrer(&subject, SBOM, &format!("sbom {n}")).push(&here, &[])).collect();
    let untyped =
        serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [], "subject": subject.descriptor() }))
            .unwrap();
    here.push_manifest(INDEX, untyped, &[]).unwrap();
    let filtered =
        |artifact_type| paged(&here, &subject.digest(), Some(artifact_type), Order::Insertion, 2, 1 << 20);
    assert_eq!(filtered(SIG), sigs);
    assert_eq!(filtered(SBOM), sboms);
    for nothing in ["application/vnd.example", "application/vnd.example.signature2", "", "nonsense"] {
        assert_eq!(filtered(nothing), [], "{nothing:?}");
    }
    assert_eq!(listed(&here, &subject.digest()).len(), 9);
}

#[test]
fn any_size_of_page_covers_every_referrer_once() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let mut inserted = Vec::new();
    let mut created = Vec::new();
    for n in 0_usize..40 {
        // Times that are not in the order of arrival, some equal, some missing, some no time at all.
        let mut annotations = json!({ "padding": "\"\n\\\u{1}".repeat((n * 37) % 50) });
        let time = match n % 8 {
            0 => None,
            1 => Some("yesterday, or so".to_owned()),
            _ => Some(format!("2026-01-{:02}T00:00:00Z", 1 + (n * 7) % 20)),
        };
        if let Some(time) = &time {
            annotations["org.opencontainers.image.created"] = time.as_str().into();
        }
        let kind = if n % 3 == 0 { SBOM } else { SIG };
        let artifact = referrer_to(&subject.descriptor(), kind, &format!("{n}"), &annotations);
        inserted.push(artifact.push(&here, &[]));
        created.push((artifact.digest(), time.filter(|time| time.starts_with("2026")), kind));
    }
    let whole = paged(&here, &subject.digest(), None, Order::CreatedDescending, 1000, 4 << 20);
    let times: Vec<_> = whole
        .iter()
        .map(|digest| created.iter().find(|entry| entry.0 == *digest).unwrap().1.clone())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for (order, expected) in [(Order::Insertion, &inserted), (Order::CreatedDescending, &whole)] {
        assert_eq!(expected.iter().collect::<BTreeSet<_>>().len(), 40);
        for limit in [1, 2, 3, 7, 39, 40, 41] {
            for max_bytes in [1, 500, 1000, 5000, 1 << 20] {
                let found = paged(&here, &subject.digest(), None, order, limit, max_bytes);
                assert_eq!(found, *expected, "{order:?} limit {limit} bytes {max_bytes}");
            }
            for kind in [SIG, SBOM] {
                let of_kind: Vec<Digest> = expected
                    .iter()
                    .copied()
                    .filter(|digest| created.iter().any(|entry| entry.0 == *digest && entry.2 == kind))
                    .collect();
                assert_eq!(paged(&here, &subject.digest(), Some(kind), order, limit, 2000), of_kind);
            }
        }
    }
}

#[test]
fn a_walk_through_pages_sees_each_once_while_others_push() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let first: Vec<Digest> =
        (0..10).map(|n| referrer(&subject, SIG, &format!("a{n}")).push(&here, &[])).collect();
    let mut found = Vec::new();
    let mut token: Option<PageToken> = None;
    for step in 0.. {
        let query = here.referrers(&subject.digest()).limit(3);
        let page = match &token {
            Some(token) => query.after(token).page().unwrap(),
            None => query.page().unwrap(),
        };
        found.extend(page.descriptors.iter().map(|found| found.digest));
        if step < 5 {
            referrer(&subject, SIG, &format!("b{step}")).push(&here, &[]);
        }
        let Some(next) = page.next else { break };
        token = Some(next);
    }
    assert_eq!(found[..10], first);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
}

#[test]
fn tokens_that_are_none_are_refused() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let digests: Vec<Digest> =
        (0..5).map(|n| referrer(&subject, SIG, &format!("{n}")).push(&here, &[])).collect();
    let ask = |text: &str| -> orlop::Result<Vec<Digest>> {
        let token: PageToken = text.parse()?;
        let page = here.referrers(&subject.digest()).after(&token).page()?;
        Ok(page.descriptors.iter().map(|found| found.digest).collect())
    };
    let good = here.referrers(&subject.digest()).limit(2).page().unwrap().next.unwrap().to_string();
    assert_eq!(ask(&good).unwrap(), digests[2..]);
    let long = "A".repeat(100_000);
    for bad in [
        "",
        "x",
        "0",
        "../x",
        "sha256:abc",
        "\u{e9}\u{e9}",
        "%00",
        &good[1..],
        &format!("{good}0"),
        &format!(" {good}"),
        &long,
    ] {
        fails(ask(bad), ErrorKind::Invalid, &[]);
    }
    // Whatever is made of a token, it is refused or answered with referrers; never a panic, never anything else.
    for at in 0..good.len() {
        for replacement in ["0", "f", "z", "A", "-"] {
            let mut bytes = good.clone();
            bytes.replace_range(at..=at, replacement);
            match ask(&bytes) {
                Ok(found) => assert!(found.iter().all(|digest| digests.contains(digest))),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
            }
        }
    }
    // Of another question: refused, or the answer belongs to the question that is asked.
    let other = image("other", 1);
    let theirs = referrer(&other, SIG, "theirs").push(&here, &[]);
    let token: PageToken = good.parse().unwrap();
    if let Ok(page) = here.referrers(&other.digest()).after(&token).page() {
        assert!(page.descriptors.iter().all(|found| found.digest == theirs));
    }
    if let Ok(page) = here.referrers(&subject.digest()).order(Order::CreatedDescending).after(&token).page() {
        assert!(page.descriptors.iter().all(|found| digests.contains(&found.digest)));
    }
}

#[test]
fn large_annotations_come_back_whole() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let huge = "y".repeat(1_000_000);
    let artifact = referrer_to(&subject.descriptor(), SIG, "huge", &json!({ "huge": huge }));
    artifact.push(&here, &[]);
    let small = referrer(&subject, SIG, "small").push(&here, &[]);
    let page = here.referrers(&subject.digest()).page().unwrap();
    assert_eq!(page.descriptors.len(), 2);
    assert_eq!(page.descriptors[0].annotations.get("huge").unwrap().len(), huge.len());
    assert_eq!(
        paged(&here, &subject.digest(), None, Order::Insertion, 10, 10_000),
        [artifact.digest(), small]
    );
}

#[test]
fn predecessors_are_parents_and_referrers() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let child = image("child", 2);
    let layer = digest_of(&child.parts[0]);
    child.push(&here, &[]);
    let lists: Vec<Digest> = (0..7)
        .map(|n| {
            let other = image(&format!("other {n}"), 1);
            other.push(&here, &[]);
            index(&[&child, &other, &child]).push(&here, &[])
        })
        .collect();
    let sig = referrer(&child, SIG, "s").push(&here, &[]);
    let mut expected: Vec<Digest> = lists.iter().copied().chain([sig]).collect();
    expected.sort();
    for limit in [1, 3, 7, 8, 9] {
        let found = all(|after: Option<&Digest>| {
            let page = here.predecessors(&child.digest(), after, limit).unwrap();
            (page.items.into_iter().map(|found| found.digest).collect(), page.more)
        });
        assert_eq!(found, expected, "limit {limit}");
    }
    let of_layer: Vec<Digest> =
        here.predecessors(&layer, None, 10).unwrap().items.into_iter().map(|found| found.digest).collect();
    assert_eq!(of_layer, [child.digest()]);
    let page = here.predecessors(&layer, None, 0).unwrap();
    assert!(page.items.is_empty() && !page.more);
    assert!(repo(&store, "other").predecessors(&layer, None, 10).unwrap().items.is_empty());
    assert!(here.predecessors(&absent(), None, 10).unwrap().items.is_empty());
    let described = here.predecessors(&child.digest(), None, 100).unwrap().items;
    let found = described.iter().find(|found| found.digest == sig).unwrap();
    assert_eq!((found.media_type.as_str(), found.artifact_type.as_deref()), (IMAGE, Some(SIG)));
}

#[test]
fn successors_are_none_for_what_is_no_manifest_here() {
    let (_dir, store) = fresh();
    let here = store.default_repository();
    let image = image("a", 1);
    image.push(&here, &[]);
    assert!(here.successors(&absent()).unwrap().is_none());
    assert!(here.successors(&digest_of(&image.parts[0])).unwrap().is_none());
    assert!(repo(&store, "other").successors(&image.digest()).unwrap().is_none());
}

#[test]
fn edges_that_meet_in_odd_ways_stay_edges() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let base = image("base", 1);
    base.push(&here, &[]);
    // A list that is its child's referrer; a manifest whose config, layer and subject are one thing; a chain.
    let body = json!({ "schemaVersion": 2, "manifests": [base.descriptor()], "subject": base.descriptor() });
    let list = here.push_manifest(INDEX, serde_json::to_vec(&body).unwrap(), &[]).unwrap().digest;
    let body = json!({
        "schemaVersion": 2, "config": base.descriptor(), "layers": [base.descriptor(), base.descriptor()],
        "subject": base.descriptor(),
    });
    let knot = here.push_manifest(IMAGE, serde_json::to_vec(&body).unwrap(), &[]).unwrap().digest;
    let roles: Vec<Role> = here.successors(&knot).unwrap().unwrap().iter().map(|found| found.role).collect();
    assert_eq!(roles, [Role::Config, Role::Layer, Role::Layer, Role::Subject]);
    assert_eq!(listed(&here, &base.digest()), [list, knot]);
    let mut both = vec![list, knot];
    both.sort();
    let found = here.predecessors(&base.digest(), None, 10).unwrap().items;
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), both);

    let mut last = base.clone();
    for n in 0..30 {
        let next = referrer(&last, SIG, &format!("link {n}"));
        next.push(&here, &[]);
        assert_eq!(listed(&here, &last.digest()).last(), Some(&next.digest()));
        last = next;
    }
    let mut nested = image("leaf", 1);
    nested.push(&here, &[]);
    for _ in 0..30 {
        let next = index(&[&nested, &nested]);
        next.push(&here, &[]);
        nested = next;
    }
    here.tag(&tag("deep"), &nested.digest(), orlop::Expect::Any).unwrap();
    drop(here);
    store.close().unwrap();
    Layout::sound(&dir.root());
    // Two to the thirtieth paths lead through the nested lists; rebuilding walks each list once.
    options().rebuild(dir.root()).unwrap();
    let store = options().open(dir.root()).unwrap();
    assert_eq!(store.default_repository().resolve(&tag("deep")).unwrap().unwrap().digest, nested.digest());
}

#[test]
fn pushed_again_under_another_type_a_manifest_has_the_edges_of_that_type() {
    let (dir, store) = fresh();
    let here = store.default_repository();
    let subject = image("subject", 1);
    let body = json!({
        "schemaVersion": 2, "config": descriptor(EMPTY, b"{}"), "layers": [descriptor(LAYER, b"layer")],
        "artifactType": SIG, "subject": subject.descriptor(),
    });
    here.push_bytes(&b"{}"[..]).unwrap();
    here.push_bytes(&b"layer"[..]).unwrap();
    let bytes = serde_json::to_vec(&body).unwrap();
    let digest = here.push_manifest(IMAGE, bytes.clone(), &[tag("v1")]).unwrap().digest;
    let layer = digest_of(b"layer");
    let parents = |here: &Repository| here.predecessors(&layer, None, 10).unwrap().items.len();
    assert_eq!((listed(&here, &subject.digest()).len(), parents(&here)), (1, 1));
    here.push_manifest("application/vnd.example.opaque", bytes.clone(), &[]).unwrap();
    assert_eq!(here.resolve(&tag("v1")).unwrap().unwrap().media_type, "application/vnd.example.opaque");
    assert_eq!(here.successors(&digest).unwrap().unwrap().len(), 0);
    assert_eq!(
        (listed(&here, &subject.digest()).len(), parents(&here)),
        (0, 0),
        "edges of the former type are left"
    );
    here.push_manifest(IMAGE, bytes, &[]).unwrap();
    assert_eq!((listed(&here, &subject.digest()), parents(&here)), (vec![digest], 1));
    store.flush().unwrap();
    Layout::sound(&dir.root());
}
