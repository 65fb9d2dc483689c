//! Manifests of every kind. The first byte chooses the media type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::Manifest;

const TYPES: [&str; 9] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/json",
    "",
    "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, document)) = bytes.split_first() else { return };
    let media_type = TYPES[usize::from(*first) % TYPES.len()];
    if let Some(sniffed) = Manifest::sniff(document) {
        assert!(TYPES.contains(&sniffed), "{sniffed}");
    }
    let strict = Manifest::parse(media_type, document);
    let lenient = Manifest::read(media_type, document);
    if let Ok(manifest) = &strict {
        let lenient = lenient.as_ref().expect("what may be pushed can be read");
        assert_eq!(lenient.successors(), manifest.successors());
        assert_eq!(manifest.media_type(), media_type.split(';').next().unwrap());
        if manifest.kind().is_some() {
            // Everything that is told is in the document; nothing is told twice as often as it stands there.
            let value: serde_json::Value = serde_json::from_slice(document).expect("a manifest is JSON");
            assert!(value.is_object());
            let text = value.to_string();
            for successor in manifest.successors() {
                assert!(text.contains(&successor.descriptor.digest.to_string()));
            }
            assert!(manifest.successors().len() <= document.len() / 64);
        } else {
            assert!(manifest.successors().is_empty());
        }
        let _ = (manifest.created(), manifest.config(), manifest.subject(), manifest.foreign());
    }
    for error in [strict.err(), lenient.err()].into_iter().flatten() {
        let message = error.to_string();
        assert!(message.len() < 2000 && !message.contains('\n'), "{message:?}");
    }
});
