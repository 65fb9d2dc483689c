//! Sets of volumes: each is a layout, all together are one, and whatever is wrong with one is said of it.

use bytes::Bytes;
use proptest::prelude::*;

use super::stores::*;
use crate::digest::Algorithm;
use crate::error::ErrorKind;
use crate::transfer::Source;
use crate::transfer::archive::{Archive, Exporter, Importer, Inventory};

const SIZE: u64 = 2_300_000;

/// A store with contents of every size beside that of a volume, and its volumes.
fn set() -> (Place, Vec<Bytes>) {
    let place = Place::new();
    place.fill();
    place.artifact("", &["large"], &[(Algorithm::Sha256, 20, 5_000_000), (Algorithm::Sha512, 21, 900_000)]);
    for seed in 0..4 {
        place.artifact("many", &[&format!("v{seed}")], &[(Algorithm::Sha256, 30 + seed, 700_000)]);
    }
    let volumes = volumes(&place, SIZE);
    (place, volumes)
}

fn volumes(place: &Place, size: u64) -> Vec<Bytes> {
    let mut plan = Exporter::new(&place.store).everything().unwrap().volume_size(size).plan().unwrap();
    (1..=plan.volumes()).map(|number| plan.write_volume(number, Vec::new()).unwrap().into()).collect()
}

fn all(volumes: &[Bytes]) -> crate::error::Result<Archive> {
    Archive::from_all_bytes(volumes.iter().cloned(), false)
}

#[test]
fn every_volume_is_a_layout_of_what_it_has_whole() {
    let (place, volumes) = set();
    assert!(volumes.len() > 3, "{}", volumes.len());
    let mut names = Vec::new();
    for volume in &volumes {
        assert!(volume.len() as u64 <= SIZE, "{}", volume.len());
        let archive = Archive::from_bytes(volume.clone()).unwrap();
        assert!(archive.unusable().is_empty());
        for name in archive.names() {
            let repository = archive.repository(&name.repository);
            let fetched = repository.manifest(&name.descriptor.digest).unwrap().unwrap();
            let manifest =
                crate::oci::Manifest::read(&fetched.descriptor.media_type, &fetched.bytes).unwrap();
            for child in manifest.successors() {
                assert!(archive.size(&child.descriptor.digest).is_some(), "{} is not whole", name.name);
            }
            names.push(name.name.clone());
        }
    }
    assert!(names.len() >= 4 && !names.contains(&"large".to_owned()), "{names:?}");
    let archive = all(&volumes).unwrap();
    assert_eq!(Inventory::of_archive(&archive), Inventory::of_store(&place.store).unwrap());
    archive.verify_volumes().unwrap();
    let set = archive.set().unwrap();
    assert_eq!((set.volumes as usize, set.missing.len()), (volumes.len(), 0));
    // Written again they are the same, one by one and in any order.
    let mut plan = Exporter::new(&place.store).everything().unwrap().volume_size(SIZE).plan().unwrap();
    let last = plan.write_volume(plan.volumes(), Vec::new()).unwrap();
    assert_eq!(last, volumes.last().unwrap()[..]);
}

#[test]
fn what_is_wrong_with_a_volume_is_said_of_it() {
    let (place, volumes) = set();
    let message = |volumes: &[Bytes]| {
        let error = all(volumes).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, text) = message(&volumes[1..]);
    assert!(kind == ErrorKind::NotFound && text.contains("missing=1,"), "{text}");
    let (kind, text) = message(&[&volumes[..], &volumes[..1]].concat());
    assert!(kind == ErrorKind::Invalid && text.contains("volume is there twice, volume=1"), "{text}");
    let other = self::volumes(&place, SIZE + 512);
    let mut foreign = volumes.clone();
    foreign[0] = other[0].clone();
    let (kind, text) = message(&foreign);
    assert!(kind == ErrorKind::Invalid && text.contains("volume is of another set"), "{text}");
    let mut plain = volumes.clone();
    plain[1] = Bytes::from(super::support::tar(&super::support::sample().files));
    let (kind, text) = message(&plain);
    assert!(kind == ErrorKind::Invalid && text.contains("no volume of a set"), "{text}");
    // Swapped is the order, which is no matter.
    let mut swapped = volumes.clone();
    swapped.swap(0, 1);
    assert!(all(&swapped).is_ok());
    // A bit that has turned in content, or in what only fills a block.
    for at in [1_500_000, 600_000] {
        let mut bytes = volumes[1].to_vec();
        bytes[at] ^= 0x10;
        let mut damaged = volumes.clone();
        damaged[1] = bytes.into();
        match all(&damaged) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
            Ok(archive) => {
                let error = archive.verify_volumes().unwrap_err();
                assert!(
                    error.kind() == ErrorKind::Corrupt && error.to_string().contains("volume=2"),
                    "{error}"
                );
            }
        }
    }
    // A set whose id would be another repository's name, and a list without an end.
    let good = "0123456789abcdef0123456789abcdef";
    for (id, contents, needle) in [
        ("stream", 0, "the set"),
        ("../../../../../../../../etc/passwd", 0, "the set"),
        ("0123456789ABCDEF0123456789ABCDEF", 0, "the set"),
        (good, 9_999_999_999_u64, "the length of the list"),
        (good, 1, "the whole list"),
    ] {
        let header = format!(
            r#"{{"format":"orlop volume 1","set":"{id}","volume":1,"volumes":1,"contents":{contents}}}"#
        );
        let mut files = super::support::sample().files;
        files.insert(0, (".orlop/volume".into(), format!("{header}\n").into_bytes()));
        let (kind, text) = message(&[super::support::tar(&files).into()]);
        assert!(kind == ErrorKind::Corrupt && text.contains(&format!("{needle} of the volume")), "{text}");
    }
    // A list that is of another volume than this one.
    let mut bytes = volumes[0].to_vec();
    let at = bytes.windows(5).position(|window| window == b"\"at\":").unwrap() + 5;
    bytes[at] = if bytes[at] == b'9' { b'8' } else { bytes[at] + 1 };
    let (kind, text) = message(&[&[Bytes::from(bytes)], &volumes[1..]].concat());
    assert!(kind == ErrorKind::Corrupt && text.contains("volume lacks what it lists"), "{text}");
    let packed = Exporter::new(&place.store).everything().unwrap().volume_size(SIZE);
    let packed = packed.compression(crate::transfer::archive::Compression::Zstd).plan().unwrap_err();
    assert!(packed.to_string().contains("cannot be compressed"), "{packed}");
    let room = Exporter::new(&place.store).everything().unwrap().volume_size(100_000).plan().unwrap_err();
    assert!(room.to_string().contains("volumes are too small, size=100000, least="), "{room}");
}

/// A part has no digest of its own, so a volume that is not as it was written leaves none.
#[test]
fn a_damaged_part_is_not_kept_from_a_visit() {
    let (from, volumes) = set();
    for at in 0..volumes.len() {
        let archive = Archive::from_all_bytes([volumes[at].clone()], true).unwrap();
        let Some((listed, ..)) = archive.loose().first() else { continue };
        let mut part = Vec::new();
        archive.read_loose(0).unwrap().read_to_end(&mut part).unwrap();
        assert_eq!(part.len() as u64, listed.length);
        let begin = volumes[at].windows(64).position(|window| *window == part[..64]).unwrap();
        let mut bytes = volumes[at].to_vec();
        bytes[begin + part.len() / 2] ^= 1;
        let to = Place::new();
        let damaged = Archive::from_all_bytes([bytes.into()], true).unwrap();
        let error = Importer::new(&damaged, &to.store).unwrap().run().unwrap_err();
        assert!(
            error.kind() == ErrorKind::Corrupt
                && error.to_string().contains("volume is not as it was written"),
            "{error}"
        );
        assert!(to.listing().is_empty(), "{:?}", to.listing());
        // With a good copy of it the set is whole.
        for volume in volumes[at..].iter().chain(&volumes[..at]) {
            let archive = Archive::from_all_bytes([volume.clone()], true).unwrap();
            Importer::new(&archive, &to.store).unwrap().run().unwrap();
        }
        let named = |place: &Place| -> Vec<String> {
            place.listing().into_iter().filter(|line| !line.starts_with("orlop-import")).collect()
        };
        assert_eq!(named(&to), named(&from));
        return;
    }
    panic!("no content is divided");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    /// One visit for each volume, in any order, some of them twice.
    #[test]
    fn visits_in_any_order(order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(), again in 0..8usize) {
        let (from, volumes) = set();
        let to = Place::new();
        let mut order: Vec<usize> = order.into_iter().filter(|at| *at < volumes.len()).collect();
        order.extend((8..volumes.len()).collect::<Vec<_>>());
        order.insert(1, order[again.min(order.len() - 1)]);
        for at in order {
            let archive = Archive::from_all_bytes([volumes[at].clone()], true).unwrap();
            Importer::new(&archive, &to.store).unwrap().run().unwrap();
        }
        // The last visit had not all volumes either: everything is named, only what was kept for it is still there.
        let named = |place: &Place| -> Vec<String> {
            place.listing().into_iter().filter(|line| !line.starts_with("orlop-import")).collect()
        };
        prop_assert_eq!(named(&to), named(&from));
        // With all of them at once that goes.
        Importer::new(&all(&volumes).unwrap(), &to.store).unwrap().run().unwrap();
        prop_assert_eq!(to.listing(), from.listing());
    }

    #[test]
    fn a_volume_that_is_cut(at in any::<prop::sample::Index>()) {
        let (_, mut volumes) = set();
        let end = at.index(volumes[1].len() - 1024);
        volumes[1] = volumes[1].slice(..end);
        let error = all(&volumes).unwrap_err();
        prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{error}");
    }
}
