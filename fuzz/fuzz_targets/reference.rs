//! Tags, repository names, references and the names of a layout.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::layout::Membership;
use orlop::oci::{LayoutName, Reference, RepositoryName, Tag};

fn harmless(text: &str) {
    assert!(text.is_ascii() && !text.starts_with(['/', '.', '-']) && !text.contains(".."), "{text:?}");
    assert!(!text.contains(['\0', '\n', '\\', ' ', ':']), "{text:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(!text.is_empty() && text.len() <= Tag::MAX_LEN && !text.contains('/'));
        assert!(!text.starts_with(['.', '-']) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
    }
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        harmless(text);
        assert!(!text.is_empty() && text.len() <= RepositoryName::MAX_LEN && !text.ends_with('/'));
        assert!(text.split('/').all(|component| !component.is_empty()));
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    match LayoutName::parse(text) {
        LayoutName::Tag(repository, tag) => assert_eq!(LayoutName::of(&repository, &tag), text),
        LayoutName::Foreign(name) => assert_eq!(name, text),
    }
    if let Some(membership) = Membership::parse(text) {
        // Written in one order and without repeats: once more changes nothing.
        let written = membership.to_string();
        let again = Membership::parse(&written).expect("what is written can be read");
        assert_eq!(again.to_string(), written);
    }
});
