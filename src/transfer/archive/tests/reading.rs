//! Every way in which an honest tool may write an archive of a layout gives the same answers.

use std::io::Read;

use proptest::prelude::*;

use super::support::*;
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::oci::names::Meaning;
use crate::transfer::Source;
use crate::transfer::archive::Archive;

#[test]
fn compressed_or_not_and_however_it_is_packed() {
    let sample = sample();
    let plain = tar(&sample.files);
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    // Two members, cut anywhere.
    let (head, tail) = plain.split_at(1000);
    let members = [gzip(head), gzip(tail)].concat();
    // A frame that readers pass over, and then two more.
    let frames = [
        b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
        zstd::encode_all(head, 1).unwrap(),
        zstd::encode_all(tail, 1).unwrap(),
    ];
    for bytes in [plain.clone(), gzip(&plain), zstd, members, frames.concat()] {
        sample.check(&open(bytes).unwrap());
    }
    // Without the blocks that end it, with one of them, and with rubbish behind them.
    let end = plain.len() - 1024;
    for bytes in [plain[..end].to_vec(), plain[..end + 512].to_vec(), [&plain[..], &b"rubbish"[..]].concat()]
    {
        sample.check(&open(bytes).unwrap());
    }
}

#[test]
fn prefixes_of_paths() {
    for prefix in ["./", ".//", "/", "layout/", "./a/b/"] {
        let mut sample = sample();
        for (path, _) in &mut sample.files {
            *path = format!("{prefix}{path}");
        }
        let archive = open(tar(&sample.files)).unwrap();
        for (path, _) in &mut sample.files {
            *path = path.strip_prefix(prefix).unwrap().to_owned();
        }
        sample.check(&archive);
    }
}

#[test]
fn several_layouts_are_named() {
    let sample = sample();
    let mut files = Files::new();
    for directory in ["one", "two"] {
        files.extend(sample.files.iter().map(|(path, bytes)| (format!("{directory}/{path}"), bytes.clone())));
    }
    let error = open(tar(&files)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("first=one, other=two"), "{error}");
    // One at the root has the others among its further files.
    files.extend(sample.files.iter().cloned());
    sample.check(&open(tar(&files)).unwrap());
}

#[test]
fn what_comes_later_under_a_name_counts() {
    let mut sample = sample();
    let index = sample.files.pop().unwrap();
    sample.files.insert(0, ("index.json".into(), b"not even an index".to_vec()));
    sample.files.push(index);
    sample.check(&open(tar(&sample.files)).unwrap());
}

#[test]
fn names_and_sizes_beyond_a_header() {
    let sample = sample();
    let long = "d".repeat(150);
    let mut bytes = Vec::new();
    for (at, (path, content)) in sample.files.iter().enumerate() {
        let path = format!("{long}/{path}");
        match at % 3 {
            0 => {
                let records = [record("mtime", "1.5"), record("path", &path)].concat();
                bytes.extend(entry("pax", b'x', &records, ""));
                bytes.extend(entry(&path, b'0', content, ""));
            }
            1 => {
                bytes.extend(entry("././@LongLink", b'L', format!("{path}\0").as_bytes(), ""));
                bytes.extend(entry(&path, b'0', content, ""));
            }
            // The size stands in a record alone, and in base 256.
            _ => {
                bytes.extend(entry("all", b'g', &record("comment", "of all"), ""));
                let size = content.len().to_string();
                let records = [record("path", &path), record("size", &size)].concat();
                bytes.extend(entry("pax", b'x', &records, ""));
                let mut block = header(path.as_bytes(), b'0', 0, b"");
                block[124..136].copy_from_slice(&[0; 12]);
                block[124] = 0x80;
                bytes.extend(finish(block));
                bytes.extend_from_slice(content);
                bytes.resize(bytes.len().next_multiple_of(512), 0);
            }
        }
    }
    sample.check(&open(bytes).unwrap());
}

#[test]
fn links_within_the_archive_are_followed() {
    let mut sample = sample();
    let mut bytes = Vec::new();
    for (at, (path, content)) in sample.files.iter().enumerate() {
        let name = format!("data/{at}");
        match at % 2 {
            0 => bytes.extend(entry(path, b'1', b"", &name)),
            _ => {
                let up = "../".repeat(path.matches('/').count());
                bytes.extend(entry(path, b'2', b"", &format!("{up}data/{at}")));
            }
        }
        bytes.extend(entry(&name, b'0', content, ""));
    }
    sample.check(&open(bytes.clone()).unwrap());
    sample.files.sort();
    sample.check(&open(gzip(&bytes)).unwrap());
}

#[test]
fn a_link_may_begin_at_the_root() {
    let sample = sample();
    let mut bytes = Vec::new();
    for (at, (path, content)) in sample.files.iter().enumerate() {
        bytes.extend(entry(path, b'2', b"", &format!("/data/{at}")));
        bytes.extend(entry(&format!("data/{at}"), b'0', content, ""));
    }
    sample.check(&open(bytes).unwrap());
}

#[test]
fn a_manifest_is_what_it_was_read_as() {
    let mut sample = sample();
    let (_, index) = sample.files.last_mut().unwrap();
    // The second of two entries for one manifest.
    let text = String::from_utf8(index.clone()).unwrap();
    let second = text.match_indices(MANIFEST).nth(1).unwrap().0;
    index[second] = b'#';
    let archive = open(tar(&sample.files)).unwrap();
    for name in ["", "team/app"] {
        let name = name.parse().unwrap_or_default();
        let found = archive.repository(&name).manifests().unwrap();
        assert!(found.iter().any(|found| found.digest == sample.image), "{name}");
        assert!(found.iter().all(|found| found.media_type == MANIFEST), "{found:?}");
    }
}

#[test]
fn a_file_is_opened_by_its_content_alone() {
    let sample = sample();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("layout.zip");
    std::fs::write(&path, zstd::encode_all(&tar(&sample.files)[..], 1).unwrap()).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert!(archive.is_compressed());
    sample.check(&archive);
    assert_eq!(Archive::open(place.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Archive::open(place.path()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn tags_come_by_pages_and_names_in_any_spelling() {
    let sample = sample();
    let archive = open(tar(&sample.files)).unwrap();
    let unnamed = archive.repository(&RepositoryName::unnamed());
    let page = unnamed.tags(None, 1).unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    assert!(unnamed.tags(page.items.last(), 1).unwrap().items.is_empty());
    assert!(matches!(archive.find_name("v2"), Meaning::One(one) if one.name == "team/app:v2"));
    assert!(matches!(archive.find_name("v3"), Meaning::None));
    let listed: Vec<_> = unnamed.manifests().unwrap().iter().map(|found| found.digest).collect();
    let mut expected = vec![sample.image, sample.sbom];
    expected.sort();
    assert_eq!(listed, expected);
    let first = Source::manifests(&unnamed, None, 1).unwrap().unwrap();
    assert_eq!((first.items[0].digest, first.more), (expected[0], true));
    let last = Source::manifests(&unnamed, expected.first(), 5).unwrap().unwrap();
    assert_eq!((last.items[0].digest, last.items.len(), last.more), (expected[1], 1, false));
}

/// Every layout that a real tool wrote, packed as it is, names what it names as a directory.
#[test]
fn what_real_tools_wrote_reads_as_their_directories_do() {
    let mut layouts = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let root = entry.unwrap().path();
        let Ok(index) = std::fs::read(root.join("index.json")) else { continue };
        let Ok(store) = crate::store::Options::new().open_read_only(&root) else { continue };
        layouts += 1;
        let archive = open(pack(&root)).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        let mut after = None;
        let mut repositories = Vec::new();
        loop {
            let page = store.repositories(after.as_ref(), 100).unwrap();
            repositories.extend(page.items.clone());
            after = page.items.last().cloned();
            if !page.more {
                break;
            }
        }
        for name in repositories {
            let (ours, theirs) = (archive.repository(&name), store.repository(&name));
            for tag in theirs.tags(None, 1000).unwrap().items {
                let found = ours.resolve(&tag.tag).unwrap().map(|found| found.digest);
                assert_eq!(found, Some(tag.digest), "{} {name}:{}", root.display(), tag.tag);
                let listed: Vec<_> =
                    ours.referrers(&tag.digest).unwrap().referrers.iter().map(|one| one.digest).collect();
                let mut expected: Vec<_> = theirs
                    .referrers(&tag.digest)
                    .page()
                    .unwrap()
                    .descriptors
                    .iter()
                    .map(|one| one.digest)
                    .collect();
                expected.sort();
                assert_eq!(listed, expected, "{} {name}:{}", root.display(), tag.tag);
            }
        }
        assert!(!index.is_empty());
    }
    assert!(layouts > 20, "{layouts}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_order(seed in any::<u64>(), compression in 0..3u8) {
        let sample = sample();
        let mut files = sample.files.clone();
        // A shuffle by the seed.
        let mut state = seed | 1;
        for at in (1..files.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            files.swap(at, (state >> 33) as usize % (at + 1));
        }
        let bytes = tar(&files);
        let bytes = match compression {
            0 => bytes,
            1 => gzip(&bytes),
            _ => zstd::encode_all(&bytes[..], 1).unwrap(),
        };
        sample.check(&open(bytes).unwrap());
    }

    /// However short an archive is cut, what it still gives is right, or it says that it is cut.
    #[test]
    fn cut_anywhere(at in any::<prop::sample::Index>(), compression in 0..3u8) {
        let sample = sample();
        let bytes = tar(&sample.files);
        let bytes = match compression {
            0 => bytes,
            1 => gzip(&bytes),
            _ => zstd::encode_all(&bytes[..], 1).unwrap(),
        };
        let archive = match open(bytes[..at.index(bytes.len())].to_vec()) {
            Ok(archive) => archive,
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{error}");
                return Ok(());
            }
        };
        for (digest, _) in archive.contents() {
            let mut read = Vec::new();
            archive.content(&digest, 0).unwrap().unwrap().read_to_end(&mut read).unwrap();
            prop_assert_eq!(crate::digest::Digest::of(&read), digest);
        }
    }
}
