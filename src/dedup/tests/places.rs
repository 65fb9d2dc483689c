//! Images out of stores: their names, indexes, what is listed and not here.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::dedup::{Corpus, FindingKind, Measure, Report};
use crate::oci::{Descriptor, RepositoryName, Tag, media_type};
use crate::{Digest, Options, Repository, Store};

fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Options::new().create(place.path().join("store")).unwrap();
    (place, store)
}

/// An image of one layer; its descriptor in JSON.
fn image(repository: &Repository, layer: &[u8], tags: &[&str]) -> Digest {
    let config = repository.push_bytes(&b"{}"[..]).unwrap();
    let layer = repository.push_bytes(layer.to_vec()).unwrap();
    let json = |media_type: &str, digest, size| {
        serde_json::to_string(&Descriptor::new(media_type, digest, size)).unwrap()
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::IMAGE_MANIFEST,
        json(media_type::IMAGE_CONFIG, config.digest, 2),
        json(media_type::LAYER_TAR, layer.digest, layer.size),
    );
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    repository.push_manifest(media_type::IMAGE_MANIFEST, manifest, &tags).unwrap().digest
}

fn report(corpus: &Corpus) -> Report {
    Measure::new().threads(2).run(corpus, &mut |_| ControlFlow::Continue(())).unwrap().report()
}

fn names(report: &Report) -> Vec<&str> {
    report.images.iter().map(|image| image.name.as_str()).collect()
}

#[test]
fn every_image_of_a_store_is_one() {
    let (_place, store) = store();
    let unnamed = store.default_repository();
    let name: RepositoryName = "team/app".parse().unwrap();
    let app = store.repository(&name);
    let untagged = image(&unnamed, b"one", &[]);
    image(&unnamed, b"two", &["z", "b"]);
    image(&unnamed, b"three", &["c"]);
    image(&app, b"two", &["v1"]);
    let one = image(&app, b"four", &[]);
    let two = image(&app, b"five", &[]);
    let entry = |digest: &Digest, architecture: &str| {
        let size = app.stat(digest).unwrap().unwrap().size;
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            media_type::IMAGE_MANIFEST
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::IMAGE_INDEX,
        entry(&one, "amd64"),
        entry(&two, "arm64")
    );
    app.push_manifest(media_type::IMAGE_INDEX, index.clone(), &["v2".parse().unwrap()]).unwrap();
    let mut corpus = Corpus::new();
    corpus.add_store("S", &store).unwrap();
    let found = report(&corpus);
    let last = format!("S@{untagged}");
    let expected = [
        "S:b,z",
        "S:c",
        last.as_str(),
        "S:team/app:v1",
        "S:team/app:v2 (linux/amd64)",
        "S:team/app:v2 (linux/arm64)",
    ];
    assert_eq!(names(&found), expected);
    assert_eq!(found.corpus.unmeasured_blobs, 0);
    // The index is part of both of its images.
    let of_index = found.inputs.iter().find(|input| input.media_type == media_type::IMAGE_INDEX).unwrap();
    assert_eq!((of_index.references, of_index.size), (2, index.len() as u64));
    // The same layer, and the same config, in two repositories.
    let layer = found.inputs.iter().find(|input| input.digest == Digest::of(b"two").to_string()).unwrap();
    assert_eq!(layer.references, 2);
    // What the store holds is what was counted, each once.
    let usage = store.usage().unwrap();
    assert_eq!((found.corpus.blobs, found.corpus.stored_bytes), (usage.stored_objects, usage.stored_bytes));
    // One of them by its name.
    let tag: Tag = "v2".parse().unwrap();
    let mut corpus = Corpus::new();
    corpus.add_reference("R", Arc::new(app.clone()), &app.resolve(&tag).unwrap().unwrap()).unwrap();
    assert_eq!(names(&report(&corpus)), ["R (linux/amd64)", "R (linux/arm64)"]);
}

#[test]
fn what_an_index_lists_and_is_not_here_is_no_image() {
    let (_place, store) = store();
    let repository = store.default_repository();
    let here = image(&repository, b"one", &[]);
    let size = repository.stat(&here).unwrap().unwrap().size;
    let absent = Digest::of(b"elsewhere");
    let manifest = media_type::IMAGE_MANIFEST;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{manifest}","digest":"{here}","size":{size}}},{{"mediaType":"{manifest}","digest":"{absent}","size":99}}]}}"#
    );
    let mut corpus = Corpus::new();
    let descriptor =
        Descriptor::new(media_type::IMAGE_INDEX, Digest::of(index.as_bytes()), index.len() as u64);
    let mut batch = store.batch();
    batch
        .push_sparse_manifest(&repository, media_type::IMAGE_INDEX, index, crate::Algorithm::default())
        .unwrap();
    batch.commit().unwrap();
    corpus.add_reference("S", Arc::new(repository), &descriptor).unwrap();
    let found = report(&corpus);
    assert_eq!(found.corpus.images, 1);
    let kinds: Vec<_> = found.findings.iter().map(|finding| (finding.kind, finding.incomplete)).collect();
    assert_eq!(kinds, [(FindingKind::Absent, false)]);
}
