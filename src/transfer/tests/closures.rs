//! Records of many roots that share what belongs to them, and what is there for one reason and not for another.

#![expect(clippy::indexing_slicing, reason = "tests may panic")]

use super::*;

/// So many roots that more than one group is needed.
const ROOTS: usize = 300;

fn record_of(repository: &Repository, root: &Digest) -> Digest {
    let records: Vec<Digest> = Closure::records(repository)
        .unwrap()
        .into_iter()
        .filter(|record| Closure::read(repository, record).unwrap().root == *root)
        .collect();
    assert_eq!(records.len(), 1, "{root}: {records:?}");
    records[0]
}

/// Every root is an index of the same image, which has an SBOM and a signature of that, of another image that is left out, and of
/// something that is absent; and the image itself is a root too.
#[test]
fn a_record_says_the_same_whichever_roots_came_before() {
    let mut from = Memory::default();
    let shared = for_platform(from.image(&[b"shared"], None), "linux", "amd64");
    let sbom = from.image(&[b"sbom"], Some(&shared));
    let signature = from.image(&[b"signature"], Some(&sbom));
    let other = for_platform(from.image(&[b"other"], None), "linux", "arm64");
    let mut lost = Memory::default();
    let absent = for_platform(lost.image(&[b"absent"], None), "linux", "amd64");
    let mut items = Vec::new();
    for n in 0..ROOTS {
        let own = from.image(&[format!("own {n}").as_bytes()], None);
        let own = for_platform(own, "linux", "amd64");
        let root = from.index(&[shared.clone(), other.clone(), own, absent.clone()]);
        items.push(Item::new(root.digest, vec![tag(&format!("t{n}"))]));
    }
    items.push(Item::new(shared.digest, vec![tag("shared")]));
    let copy = |to: &Repository, items: &[Item]| {
        let sink = RepositorySink::new(to);
        let platforms = Platforms::new(vec![Platform::new("linux", "amd64")]);
        let mut copier = Copier::between(&from, &sink).referrers(true).platforms(platforms).record(true);
        let (copied, failed) = copier.copy_all(items).unwrap();
        assert!(failed.is_empty());
        copied
    };
    let (_dir, store) = fresh();
    let all = store.default_repository();
    assert_eq!(copy(&all, &items).records, items.len() as u64);
    for item in [&items[0], &items[255], &items[256], &items[ROOTS - 1], &items[ROOTS]] {
        let (_dir, store) = fresh();
        let alone = store.default_repository();
        assert_eq!(copy(&alone, std::slice::from_ref(item)).records, 1);
        let record = record_of(&all, &item.root);
        assert_eq!(record, record_of(&alone, &item.root), "{:?}", item.tags);
        let closure = Closure::read(&all, &record).unwrap();
        let members: Vec<Digest> = closure.manifests.iter().map(|one| one.digest).collect();
        assert!(members.contains(&sbom.digest) && members.contains(&signature.digest), "{closure:?}");
        let is_index = item.root != shared.digest;
        assert_eq!(closure.left_out.len(), usize::from(is_index));
        assert_eq!(closure.absent.len(), usize::from(is_index));
        assert_eq!(closure.check(&all, true).unwrap().findings, []);
    }
    // A signature that goes is missed by every root.
    let mut batch = store.batch();
    batch.delete_manifest(&all, &signature.digest);
    batch.commit().unwrap();
    for item in [&items[0], &items[ROOTS - 1], &items[ROOTS]] {
        let closure = Closure::read(&all, &record_of(&all, &item.root)).unwrap();
        let findings = closure.check(&all, false).unwrap().findings;
        assert_eq!(findings.iter().map(|one| one.digest).collect::<Vec<_>>(), [signature.digest]);
    }
}

/// An index may list what is not there; what is attached may not be missing, whichever was looked at first.
#[test]
fn what_is_attached_is_not_allowed_to_be_missing_because_an_index_lists_it() {
    let mut from = Memory::default();
    let image = from.image(&[b"image"], None);
    let sbom = from.image(&[b"sbom"], Some(&image));
    let root = from.index(&[sbom.clone(), image]);
    from.manifests.remove(&sbom.digest);
    for referrers in [false, true] {
        let to = Kept::default();
        let copied = Copier::between(&from, &to).referrers(referrers).copy(&root.digest, &[tag("v1")]);
        if referrers {
            let error = copied.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("lacks what it says is attached"), "{error}");
            assert!(to.tags.lock().is_empty());
        } else {
            assert_eq!(copied.unwrap().absent.len(), 1);
        }
    }
}

#[test]
fn a_digest_has_one_size() {
    let mut from = Memory::default();
    let layer = from.blob(b"layer");
    let larger = Descriptor::new("application/x", layer.digest, layer.size + 1);
    let config = from.blob(b"{}");
    let image = |from: &mut Memory, layer: &Descriptor| {
        let json = format!(r#""config":{},"layers":[{}]"#, text(&config), text(layer));
        from.manifest(media_type::IMAGE_MANIFEST, json, None)
    };
    let (right, wrong) = (image(&mut from, &layer), image(&mut from, &larger));
    for keep_going in [false, true] {
        let to = Kept::default();
        let items = [&right, &wrong].map(|one| Item::new(one.digest, vec![tag("v")]));
        let done = Copier::between(&from, &to).keep_going(keep_going).copy_all(&items);
        let error = match done {
            Err(error) => error,
            Ok((_, failed)) => {
                assert!(keep_going && failed.len() == 1 && failed[0].0 == 1, "{failed:?}");
                failed.into_iter().next().unwrap().1
            }
        };
        assert!(error.to_string().contains("another size than its descriptor says"), "{error}");
        assert!(to.place_of(&wrong.digest).is_none());
    }
}

/// Whichever of those that list it comes first, and in whichever group.
#[test]
fn a_manifest_has_one_size() {
    let mut from = Memory::default();
    let child = from.image(&[b"child"], None);
    let larger = Descriptor { size: child.size + 1, ..child.clone() };
    let (right, wrong) = (from.index(std::slice::from_ref(&child)), from.index(&[larger]));
    for order in [[&right, &wrong], [&wrong, &right]] {
        let to = Kept::default();
        let items = order.map(|one| Item::new(one.digest, vec![tag("v")]));
        let (_, failed) = Copier::between(&from, &to).keep_going(true).copy_all(&items).unwrap();
        let [(at, error)] = &failed[..] else { panic!("{failed:?}") };
        assert!(order[*at] == &wrong && error.kind() == ErrorKind::Mismatch, "{error}");
        assert!(error.to_string().contains(&child.digest.to_string()), "{error}");
        assert!(to.place_of(&right.digest).is_some() && to.place_of(&wrong.digest).is_none());
        // One after the other, as groups are.
        let to = Kept::default();
        let mut copier = Copier::between(&from, &to);
        for one in order {
            let copied = copier.copy(&one.digest, &[tag("v")]);
            assert_eq!(
                copied.err().map(|error| error.kind()),
                (one == &wrong).then_some(ErrorKind::Mismatch)
            );
        }
    }
}

#[test]
fn content_has_one_size_in_all_groups() {
    let mut from = Memory::default();
    let (layer, config) = (from.blob(b"layer"), from.blob(b"{}"));
    let larger = Descriptor::new("application/x", layer.digest, layer.size + 1);
    let image = |from: &mut Memory, layer: &Descriptor| {
        let json = format!(r#""config":{},"layers":[{}]"#, text(&config), text(layer));
        from.manifest(media_type::IMAGE_MANIFEST, json, None)
    };
    let (right, wrong) = (image(&mut from, &layer), image(&mut from, &larger));
    let to = Kept::default();
    let mut copier = Copier::between(&from, &to);
    copier.copy(&right.digest, &[tag("v1")]).unwrap();
    let error = copier.copy(&wrong.digest, &[tag("v2")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}

/// A tag of cosign that names something else is not the signature that was there.
#[test]
fn a_tag_by_which_something_is_attached_names_that() {
    let mut from = Memory::default();
    let image = from.image(&[b"image"], None);
    let signature = from.image(&[b"signature"], None);
    let name = tag(&format!("sha256-{}.sig", image.digest.encoded()));
    from.tags.insert(name.clone(), signature.digest);
    let (_dir, store) = fresh();
    let to = store.default_repository();
    let sink = RepositorySink::new(&to);
    Copier::between(&from, &sink).cosign_tags(true).record(true).copy(&image.digest, &[tag("v1")]).unwrap();
    let closure = Closure::read(&to, &record_of(&to, &image.digest)).unwrap();
    assert_eq!(closure.check(&to, false).unwrap().findings, []);
    to.tag(&name, &image.digest, crate::store::Expect::Any).unwrap();
    let findings = closure.check(&to, false).unwrap().findings;
    assert_eq!(findings.len(), 1);
    assert!(findings[0].digest == signature.digest && findings[0].detail.contains("names something else"));
    to.untag(&name, crate::store::Expect::Any).unwrap();
    assert!(closure.check(&to, false).unwrap().findings[0].detail.contains("is not there"));
}

/// The others of its group are given once more, and have their records then.
#[test]
fn what_is_refused_costs_the_others_no_record() {
    let mut from = Memory::default();
    let [good, refused, alone] = ["good", "refused", "alone"].map(|name| {
        let config = Descriptor::new("application/x", Digest::of(b"{}"), 2);
        let json = format!(r#""config":{},"layers":[],"annotations":{{"n":"{name}"}}"#, text(&config));
        Memory::manifest(&mut from, media_type::IMAGE_MANIFEST, json, None)
    });
    from.blob(b"{}");
    let to = Kept { refuses: HashSet::from([refused.digest]), ..Kept::default() };
    let items: Vec<Item> = [&good, &refused, &alone]
        .iter()
        .enumerate()
        .map(|(n, root)| Item::new(root.digest, vec![tag(&format!("t{n}"))]))
        .collect();
    let (copied, failed) =
        Copier::between(&from, &to).record(true).keep_going(true).copy_all(&items).unwrap();
    assert_eq!(failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
    assert_eq!(copied.records, 2);
    let manifests: HashSet<Digest> = to.manifests.lock().iter().map(|(digest, _)| *digest).collect();
    assert_eq!(manifests.len(), 4, "two roots and their records");
}
