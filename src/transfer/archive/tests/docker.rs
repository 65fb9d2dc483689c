//! Archives of `docker save`, old and new.

use std::io::Read;

use super::support::*;
use crate::digest::Digest;
use crate::oci::{Manifest, Role};
use crate::transfer::Source;
use crate::transfer::archive::catalog::Documents;

/// What skopeo wrote, with its layer behind a link as well.
#[test]
fn an_old_archive_becomes_an_image_of_its_layers() {
    let bytes = pack(&fixture("docker-archive"));
    let archive = open(bytes.clone()).unwrap();
    let names: Vec<_> = archive.names().iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["docker.io/library/app:1"]);
    let repository = archive.repository(&"docker.io/library/app".parse().unwrap());
    let root = repository.resolve(&"1".parse().unwrap()).unwrap().unwrap();
    assert!(
        matches!(archive.find_name("app:1"), crate::oci::names::Meaning::One(one) if one.descriptor == root)
    );
    let fetched = repository.manifest(&root.digest).unwrap().unwrap();
    let manifest = Manifest::parse(MANIFEST, &fetched.bytes).unwrap();
    for child in manifest.successors() {
        let mut content = Vec::new();
        repository.content(&child.descriptor, 0).unwrap().unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(Digest::of(&content), child.descriptor.digest);
        assert_eq!(content.len() as u64, child.descriptor.size);
        let expected = match child.role {
            Role::Config => "application/vnd.oci.image.config.v1+json",
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        assert_eq!(child.descriptor.media_type, expected);
    }
    assert_eq!(manifest.successors().len(), 2);
    // The same at every opening, and however it is packed.
    let again = open(gzip(&bytes)).unwrap();
    assert_eq!(again.names()[0].descriptor, root);
}

#[test]
fn a_new_archive_is_a_layout() {
    let archive = open(pack(&fixture("docker-save"))).unwrap();
    let names: Vec<_> = archive.names().iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["1", "2"]);
    assert!(matches!(archive.find_name("app:2"), crate::oci::names::Meaning::One(one) if one.name == "2"));
}

/// Docker 25.0.0 forgot the manifests in `index.json`: `manifest.json` has them all the same.
#[test]
fn an_image_that_only_docker_lists() {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = Digest::of(config);
    let listed = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["x:1","y:2"],"Layers":null}}]"#,
        digest.encoded()
    );
    let files = [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), br#"{"schemaVersion":2,"manifests":null}"#.to_vec()),
        (format!("blobs/sha256/{}", digest.encoded()), config.to_vec()),
        ("manifest.json".to_owned(), listed.into_bytes()),
    ];
    let archive = open(tar(&files)).unwrap();
    let names: Vec<_> = archive.names().iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["x:1", "y:2"]);
    // One of which the archive has a manifest already is not made again.
    let sample = sample();
    let mut files = sample.files.clone();
    let config = "blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    files.push((
        "manifest.json".into(),
        format!(r#"[{{"Config":"{config}","RepoTags":["x:1"],"Layers":[]}}]"#).into_bytes(),
    ));
    sample.check(&open(tar(&files)).unwrap());
}

#[test]
fn a_layer_is_what_it_lies_there_as() {
    let layer = gzip(b"not uncompressed");
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, Digest::of(b"not uncompressed"));
    let files = |listed: &str| {
        vec![
            ("c.json".to_owned(), config.clone().into_bytes()),
            ("l/layer.tar".to_owned(), layer.clone()),
            (
                "manifest.json".to_owned(),
                format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":[{listed}]}}]"#).into_bytes(),
            ),
        ]
    };
    let archive = open(tar(&files(r#""l/layer.tar""#))).unwrap();
    let root = archive.repository(&crate::oci::RepositoryName::unnamed()).untagged()[0].clone();
    let bytes = archive.inner_contents().document(&root.digest).unwrap().unwrap();
    let manifest = Manifest::parse(MANIFEST, &bytes).unwrap();
    let found = &manifest.successors()[1].descriptor;
    assert_eq!(found.digest, Digest::of(&layer));
    assert_eq!(found.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    let error = open(tar(&files(r#""m/layer.tar""#))).unwrap_err();
    assert!(error.to_string().contains("lacks the layer of an image, layer=m/layer.tar"), "{error}");
}
