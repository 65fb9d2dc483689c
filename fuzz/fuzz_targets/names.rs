//! Which entry a text means, and what names say of an attachment. The input is lines: the text, then entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::Digest;
use orlop::oci::attached::{Attached, Encoding, Subject, tags_for};
use orlop::oci::names::{BASE_NAME, IMAGE_NAME, Meaning, Named, ORIGINAL_REF, meaning, other_names, spellings};
use orlop::oci::{Annotations, Tag};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.split('\n').take(16).collect();
    let mut entries = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(1) {
        let digest = Digest::of(&[u8::try_from(at % 5).unwrap()]);
        let (name, rest) = line.split_once('\t').unwrap_or((line, ""));
        let mut annotations = Annotations::new();
        for (key, value) in [IMAGE_NAME, ORIGINAL_REF, BASE_NAME].into_iter().zip(rest.split('\t')) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
        for (key, value) in rest.split('\t').filter_map(|pair| pair.split_once('=')) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
        assert!(other_names(name, &annotations).all(|other| !other.is_empty() && other != name));
        let _ = Attached::of_annotations(&annotations);
        entries.push(Named::new(name, digest).with_annotations(&annotations));
    }
    let wanted = lines[0];
    let digest_of = |found: &Meaning<&Named>| match found {
        Meaning::None => Vec::new(),
        Meaning::One(one) => vec![one.digest],
        Meaning::Ambiguous(several) => several.iter().map(|one| one.digest).collect(),
    };
    let found = meaning(wanted, &entries);
    let mut digests = digest_of(&found);
    assert_eq!(digests.len() > 1, matches!(found, Meaning::Ambiguous(_)));
    digests.sort();
    let count = digests.len();
    digests.dedup();
    assert_eq!(digests.len(), count, "a digest is told twice");
    if !wanted.is_empty() && entries.iter().any(|entry| entry.name == wanted) {
        assert!(!digests.is_empty(), "an exact name is found");
    }
    // The order of the entries decides nothing but the order of the answer.
    let mut turned = entries.clone();
    turned.reverse();
    let mut others = digest_of(&meaning(wanted, &turned));
    others.sort();
    assert_eq!(others, digests);
    for line in &lines {
        let all = spellings(line);
        assert_eq!(all.first().map(String::as_str), Some(*line));
        for spelling in &all {
            let mut back = spellings(spelling);
            let mut all = all.clone();
            back.sort();
            all.sort();
            assert_eq!(back, all, "the spellings of {spelling:?} and {line:?}");
        }
        if let Some(attached) = Attached::of_tag(line) {
            let Subject::Digest(digest) = attached.subject else { continue };
            if line.parse::<Tag>().is_ok() {
                assert!(tags_for(&digest).contains(&((*line).to_owned(), attached.encoding)), "{line:?}");
            }
            assert!(matches!(attached.encoding, Encoding::CosignTag | Encoding::FallbackTag));
        }
    }
});
