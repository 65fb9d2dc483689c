//! What is written is read again, by us and by others, and is the same whenever it is written.

use std::io::Read;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::stores::*;
use super::support::open;
use crate::digest::{Algorithm, Digest};
use crate::error::ErrorKind;
use crate::oci::RepositoryName;
use crate::store::Store;
use crate::transfer::Source;
use crate::transfer::archive::input::Stream;
use crate::transfer::archive::tar::Walker;
use crate::transfer::archive::writer::{ArchiveWriter, entry_len};
use crate::transfer::archive::{Archive, Compression, Exporter, Importer, Inventory};

fn export(store: &Store) -> Vec<u8> {
    Exporter::new(store).everything().unwrap().plan().unwrap().write(Vec::new()).unwrap()
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let (one, two) = (Place::new(), Place::new());
    one.fill();
    two.fill();
    let bytes = export(&one.store);
    assert_eq!(bytes, export(&one.store));
    assert_eq!(bytes, export(&two.store));
    let later =
        Exporter::new(&one.store).everything().unwrap().time(1_700_000_000).plan().unwrap().write(Vec::new());
    assert_ne!(bytes, later.unwrap());
    for compression in [Compression::Gzip, Compression::Zstd] {
        let write = || {
            let plan = Exporter::new(&one.store).everything().unwrap().compression(compression).plan();
            plan.unwrap().write(Vec::new()).unwrap()
        };
        let packed = write();
        assert_eq!(packed, write());
        assert!(packed.len() < bytes.len());
        let archive = open(packed).unwrap();
        assert!(archive.is_compressed());
        assert_eq!(Inventory::of_archive(&archive), Inventory::of_store(&one.store).unwrap());
    }
}

/// Names, membership and what is attached are those of the store; a library of others reads every entry.
#[test]
fn what_is_written_is_what_the_store_has() {
    let place = Place::new();
    let known = place.fill();
    let bytes = export(&place.store);
    let mut tar = tar::Archive::new(bytes.as_slice());
    let mut blobs = 0;
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Some(digest) = super::super::entries::blob_digest(&path) {
            assert_eq!(digest.algorithm().digest(&content), digest);
            blobs += 1;
        }
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
    }
    assert_eq!(blobs, Inventory::of_store(&place.store).unwrap().len());
    let archive = open(bytes).unwrap();
    let names: Vec<_> = archive.names().iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["latest", "v1", "team/app:long", "team/app:v1"]);
    let team = archive.repository(&"team/app".parse().unwrap());
    let found = team.referrers(&known.image).unwrap().referrers;
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), [known.sbom]);
    let unnamed = archive.repository(&RepositoryName::unnamed());
    assert!(
        unnamed.referrers(&known.image).unwrap().referrers.is_empty(),
        "it was attached in the other repository"
    );
    assert_eq!(unnamed.manifests().unwrap().len(), 2, "what an index lists comes with it");
}

#[test]
fn a_store_comes_out_of_an_archive_as_it_went_in() {
    let (from, to) = (Place::new(), Place::new());
    from.fill();
    let archive = open(export(&from.store)).unwrap();
    let mut importer = Importer::new(&archive, &to.store).unwrap();
    importer.verify().unwrap();
    assert!(importer.missing().is_empty());
    let done = importer.run().unwrap();
    assert_eq!((done.tags, done.waiting), (4, 0));
    assert_eq!(to.listing(), from.listing());
    assert_eq!(export(&to.store), export(&from.store));
    // Again there is nothing to do.
    let again = Importer::new(&archive, &to.store).unwrap().run().unwrap();
    assert_eq!((again.copied, again.bytes), (0, 0));
}

#[test]
fn names_and_sizes_of_every_length() {
    for path in [
        "a".to_owned(),
        format!("{}/{}", "d".repeat(30), "f".repeat(90)),
        "f".repeat(101),
        format!("blobs/sha512/{}", "0".repeat(128)),
    ] {
        let mut writer = ArchiveWriter::new(Vec::new(), 7);
        writer.file(&path, b"content").unwrap();
        assert_eq!(writer.position, entry_len(&path, 7), "{path}");
        let bytes = writer.finish().unwrap();
        let mut walker = Walker::new(Stream::new(bytes.as_slice()), "test");
        let member = walker.next().unwrap().unwrap();
        assert_eq!((member.path, member.size), (path.clone().into_bytes(), 7), "{path}");
        assert_eq!(walker.next().unwrap(), None);
        let mut tar = tar::Archive::new(bytes.as_slice());
        assert_eq!(
            tar.entries().unwrap().next().unwrap().unwrap().path_bytes().into_owned(),
            path.into_bytes()
        );
    }
    // Beyond what octal digits hold: the header alone.
    struct Nothing;
    impl Read for Nothing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
    }
    let mut writer = ArchiveWriter::new(Vec::new(), 0);
    assert!(writer.stream("large", 20 << 30, Nothing, &mut |_| Ok(())).is_err());
    let bytes = writer.finish().unwrap();
    let mut walker = Walker::new(Stream::new(bytes.as_slice()), "test");
    assert_eq!(walker.next().unwrap().unwrap().size, 20 << 30);
}

#[test]
fn only_what_the_receiver_lacks_is_carried() {
    let (from, to, other) = (Place::new(), Place::new(), Place::new());
    let known = from.fill();
    Importer::new(&open(export(&from.store)).unwrap(), &to.store).unwrap().run().unwrap();
    let new =
        from.artifact("", &["v2"], &[(Algorithm::Sha256, 5, 3_000_000), (Algorithm::Sha256, 1, 100_000)]);
    let have = Inventory::of_store(&to.store).unwrap();
    let have = Inventory::parse(have.to_text().as_bytes()).unwrap();
    let mut plan = Exporter::new(&from.store).everything().unwrap().have(&have).plan().unwrap();
    assert!(plan.known().any(|(digest, _)| digest == content(Algorithm::Sha256, 1, 100_000).0));
    let bytes = plan.write(Vec::new()).unwrap();
    assert!(bytes.len() < 3_100_000, "{}", bytes.len());
    let archive = open(bytes).unwrap();
    let importer = Importer::new(&archive, &to.store).unwrap();
    assert!(importer.missing().is_empty());
    importer.run().unwrap();
    assert_eq!(to.listing(), from.listing());
    let tag = to.store.default_repository().resolve(&"v2".parse().unwrap()).unwrap().unwrap();
    assert_eq!(tag.digest, new);
    // Where the rest is not, nothing is written.
    let importer = Importer::new(&archive, &other.store).unwrap();
    assert!(importer.missing().iter().any(|missing| missing.manifest == known.image));
    assert_eq!(importer.run().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(other.listing().is_empty());
    // The receipt of one crossing is the next one's: nothing but manifests.
    let receipt = Inventory::of_store(&to.store).unwrap();
    let plan = Exporter::new(&from.store).everything().unwrap().have(&receipt).plan().unwrap();
    assert_eq!(plan.contents().count(), plan.manifests().count());
}

#[test]
fn damage_on_the_way_is_found() {
    let (from, to) = (Place::new(), Place::new());
    from.fill();
    let mut bytes = export(&from.store);
    let at = bytes.len() - 4000;
    bytes[at] ^= 1;
    let archive = open(bytes).unwrap();
    let error = Importer::new(&archive, &to.store).unwrap().verify().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let error = Importer::new(&archive, &to.store).unwrap().run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(to.listing().is_empty(), "no tag has moved");
    // A content that is damaged in the store does not get out of it.
    let path = from.blob_file(&content(Algorithm::Sha256, 1, 100_000).0);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&path, permissions).unwrap();
    let mut content = std::fs::read(&path).unwrap();
    content[0] ^= 1;
    std::fs::write(&path, content).unwrap();
    let error =
        Exporter::new(&from.store).everything().unwrap().plan().unwrap().write(Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn an_import_goes_on_where_it_was_stopped() {
    let (from, to) = (Place::new(), Place::new());
    from.fill();
    let archive = open(export(&from.store)).unwrap();
    let mut importer = Importer::new(&archive, &to.store).unwrap();
    importer.set_watch(|_, _| ControlFlow::Break(()));
    assert_eq!(importer.run().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(to.listing().is_empty());
    Importer::new(&archive, &to.store).unwrap().run().unwrap();
    assert_eq!(to.listing(), from.listing());
}

#[test]
fn docker_finds_its_images() {
    let place = Place::new();
    let known = place.fill();
    let bytes = Exporter::new(&place.store)
        .everything()
        .unwrap()
        .docker(true)
        .plan()
        .unwrap()
        .write(Vec::new())
        .unwrap();
    let archive = open(bytes).unwrap();
    let listed = archive.inner_contents().archives[0].document("manifest.json").unwrap().unwrap();
    let text = String::from_utf8(listed.to_vec()).unwrap();
    assert!(text.contains(r#""RepoTags":["team/app:v1"]"#), "{text}");
    assert!(text.contains("blobs/sha256/"), "{text}");
    assert!(!text.contains(&known.sbom.encoded().to_string()), "{text}");
    // It is a layout all the same.
    assert_eq!(archive.names().len(), 4);
}

#[test]
fn inventories_are_whole_or_nothing() {
    let have: Inventory = (0..5u8).map(|n| (Digest::of(&[n]), u64::from(n))).collect();
    let text = have.to_text();
    assert_eq!(Inventory::parse(text.as_bytes()).unwrap(), have);
    for end in 0..text.len() {
        assert_eq!(
            Inventory::parse(&text.as_bytes()[..end]).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{end}"
        );
    }
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = bytes[at].wrapping_add(1);
        assert!(Inventory::parse(&bytes).is_err(), "{at}");
    }
    assert!(Inventory::parse(format!("{text}more\n").as_bytes()).is_err());
    // In another order, or one twice, with a sum that fits.
    let lines: Vec<&str> = text.lines().collect();
    for order in [&[0, 2, 1, 3, 4, 5][..], &[0, 1, 1, 2, 3, 4, 5]] {
        let body: String = order.iter().map(|at| format!("{}\n", lines[*at])).collect();
        let text = format!("{body}sum {}\n", Digest::of(body.as_bytes()));
        assert_eq!(Inventory::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{order:?}");
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut bytes = Vec::new();
        have.write(&mut bytes, compression).unwrap();
        assert_eq!(Inventory::read(std::io::Cursor::new(bytes)).unwrap(), have);
    }
    // To be read aloud, and the same for ever.
    assert_eq!(Inventory::default().words(), "tezav-nisum-jibif-dahub-tujuh-bezur-dekak-hebir");
    assert_ne!(have.words(), Inventory::default().words());
    assert!(have.words().bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn inventories_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let bytes = if head { [&b"orlop inventory 1\n"[..], &bytes].concat() } else { bytes };
        let _ = Inventory::parse(&bytes);
        let _ = Inventory::read(std::io::Cursor::new(bytes));
    }
}

#[test]
fn a_stream_is_taken_in_any_order() {
    use crate::transfer::archive::StreamImport;

    let from = Place::new();
    from.fill();
    let bytes = export(&from.store);
    for (at, bytes) in
        [bytes.clone(), super::support::gzip(&bytes), super::reversed(&bytes)].into_iter().enumerate()
    {
        let to = Place::new();
        // Cut, it names nothing, and what came is found again.
        let error = StreamImport::new(&to.store).run(&bytes[..bytes.len() - 60_000]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::NotFound),
            "{error}"
        );
        assert!(to.listing().iter().all(|line| line.contains("orlop-import")), "{at}");
        let done = StreamImport::new(&to.store).run(bytes.as_slice()).unwrap();
        assert_eq!(done.tags, 4);
        assert_eq!(to.listing(), from.listing(), "{at}");
    }
    let legacy = super::support::pack(&super::support::fixture("docker-archive"));
    let error = StreamImport::new(&Place::new().store).run(legacy.as_slice()).unwrap_err();
    assert!(error.to_string().contains("not kept of a stream"), "{error}");
    let _ = Archive::from_bytes(bytes).unwrap();
}
