//! Archives that were made to do harm: an error that names what is wrong, or nothing at all.

use std::io::Read;

use proptest::prelude::*;

use super::support::*;
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::transfer::Source;
use crate::transfer::archive::entries::Place;

fn refused(bytes: Vec<u8>) -> crate::error::Error {
    match open(bytes) {
        Err(error) => error,
        Ok(archive) => panic!("it was taken: {archive:?}"),
    }
}

/// An archive of the sample in which `path` is what `made` says.
fn with(path: &str, made: &[u8]) -> Vec<u8> {
    let sample = sample();
    let mut bytes: Vec<u8> = sample
        .files
        .iter()
        .filter(|(name, _)| name != path)
        .flat_map(|(path, content)| entry(path, b'0', content, ""))
        .collect();
    bytes.extend_from_slice(made);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn what_is_no_plain_file_is_refused_by_name() {
    let index = |kind, link: &str| with("index.json", &entry("index.json", kind, b"", link));
    let sparse =
        [entry("pax", b'x', &record("GNU.sparse.major", "1"), ""), entry("index.json", b'0', b"", "")];
    for (bytes, needle) in [
        (index(b'S', ""), "a sparse file"),
        (with("index.json", &sparse.concat()), "a sparse file"),
        (index(b'M', ""), "several volumes of tar"),
        (index(b'2', "../index.json"), "a link out of the archive"),
        (index(b'1', "../../etc/passwd"), "a link out of the archive"),
        (index(b'2', "index.json"), "a link to itself"),
    ] {
        let error = refused(bytes);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let message = error.to_string();
        assert!(message.contains(needle) && message.contains("entry=index.json"), "{message}");
    }
    // A sparse file whose map goes on in blocks of its own.
    let mut block = header(b"blobs/sha256/x", b'S', 512, b"");
    block[257..265].copy_from_slice(b"ustar  \0");
    block[482] = 1;
    let mut map = vec![0; 512];
    map[504] = 1;
    let more = [finish(block), map, vec![0; 512], vec![7; 512]].concat();
    sample().check(&open(with("", &more)).unwrap());
}

#[test]
fn names_that_lead_out_are_nothing() {
    for path in ["../index.json", "a/../../index.json", ".."] {
        let made = entry(path, b'0', b"not an index", "");
        sample().check(&open(with("", &made)).unwrap());
    }
    // One that only seems to.
    let sample = sample();
    let index = &sample.files.last().unwrap().1;
    sample.check(&open(with("index.json", &entry("a/../index.json", b'0', index, ""))).unwrap());
}

#[test]
fn headers_that_lie() {
    let mut wrong = entry("a", b'0', b"x", "");
    wrong[0] ^= 1;
    let endless: Vec<u8> = (0..100).flat_map(|_| entry("pax", b'x', &record("a", "b"), "")).collect();
    for (bytes, needle) in [
        (b"hello, this is a text".repeat(40), "no tar archive"),
        (wrong, "no tar archive"),
        (header(b"pax", b'x', 2 << 20, b""), "name of an entry is too long"),
        (header(b"a", b'0', u64::MAX, b""), "impossible size"),
        (header(b"a", b'0', 1 << 40, b""), "archive is cut"),
        (entry("pax", b'x', b"5 a", ""), "pax record is malformed"),
        (entry("pax", b'x', &record("size", "-1"), ""), "no size"),
        (endless, "too many records"),
        (header(b"pax", b'x', 700, b""), "archive is cut"),
        (vec![1; 100], "archive is cut"),
    ] {
        let error = refused(bytes);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(needle), "{error} {needle}");
    }
    for bytes in [Vec::new(), vec![0; 1024], tar(&[("a".into(), b"b".to_vec())])] {
        assert!(refused(bytes).to_string().contains("neither an OCI layout nor"));
    }
    for (magic, name) in [(&b"\xfd7zXZ\0\0\0"[..], "xz"), (b"BZh91AY", "bzip2"), (b"PK\x03\x04", "zip")] {
        let error = refused(magic.to_vec());
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(name), "{error}");
    }
    assert_eq!(refused(gzip(&tar(&sample().files))[..200].to_vec()).kind(), ErrorKind::Corrupt);
}

#[test]
fn content_that_is_not_what_its_name_says() {
    let sample = sample();
    let path = |digest: &crate::digest::Digest| format!("blobs/sha256/{}", digest.encoded());
    // A manifest that is another one is none, and the archive says why.
    let image = path(&sample.image);
    let archive = open(with(&image, &entry(&image, b'0', b"{}", ""))).unwrap();
    let unnamed = archive.repository(&RepositoryName::unnamed());
    assert!(unnamed.manifest(&sample.image).unwrap().is_none());
    assert!(archive.unusable().iter().any(|one| one.reason.contains("not what its digest says")));
    // One that is not there.
    let archive = open(with(&image, b"")).unwrap();
    assert!(archive.names().is_empty());
    assert!(
        archive.unusable().iter().any(|one| one.name == "v1" && one.reason.contains("not in the archive"))
    );
    let large = path(&sample.sbom);
    let archive = open(with(&large, &entry(&large, b'0', &vec![b' '; 5 << 20], ""))).unwrap();
    assert!(archive.unusable().iter().any(|one| one.reason.contains("manifest is too large")));
}

#[test]
fn an_index_that_is_none() {
    for index in [&b""[..], b"[]", b"{\"manifests\":[{}]}", b"\xff"] {
        let error = refused(with("index.json", &entry("index.json", b'0', index, "")));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("archive=memory"), "{error}");
    }
    let version = entry("oci-layout", b'0', br#"{"imageLayoutVersion":"2.0.0"}"#, "");
    assert_eq!(refused(with("oci-layout", &version)).kind(), ErrorKind::Unsupported);
}

/// Something small that becomes large is not kept in memory, and is not decompressed without end.
#[test]
fn a_compressed_archive_has_a_bound() {
    let sample = sample();
    let mut files = sample.files.clone();
    files.push(("rubbish".into(), vec![b'{'; 64 << 20]));
    let archive = open(zstd::encode_all(&tar(&files)[..], 1).unwrap()).unwrap();
    sample.check(&archive);
    // Nearly all of it for a byte, again and again.
    let mut reads = 0;
    let error = loop {
        match archive.inner_contents().archives[0].read(Place { offset: 63 << 20, size: 1 }, 0) {
            Ok(mut reader) => assert_eq!(reader.read(&mut [0; 1]).unwrap(), 1),
            Err(error) => break error,
        }
        reads += 1;
        assert!(reads < 200, "no bound");
    };
    assert!(reads > 10, "{reads}");
    assert!(format!("{error:?}").contains("decompress it first"), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn bytes_changed_anywhere(at in any::<prop::sample::Index>(), to in any::<u8>(), again in any::<prop::sample::Index>()) {
        let mut bytes = tar(&sample().files);
        // The headers and documents, not only the large content.
        let (one, two) = (at.index(bytes.len()), again.index(bytes.len()));
        bytes[one] = to;
        bytes[two] = to.wrapping_add(1);
        if let Ok(archive) = open(bytes) {
            for name in archive.repositories() {
                let repository = archive.repository(&name);
                for found in repository.manifests().unwrap() {
                    let fetched = repository.manifest(&found.digest).unwrap().unwrap();
                    prop_assert_eq!(found.digest.algorithm().digest(&fetched.bytes), found.digest);
                    let _ = repository.referrers(&found.digest).unwrap();
                }
            }
        }
    }
}
