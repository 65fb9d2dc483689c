//! Rows in words, for tests that look at the order in which things are written.

use rocksdb::{WriteBatch, WriteBatchIteratorCf};

use super::key::tag_byte;
use super::schema::{Family, MARK};
use crate::digest::Digest;

/// What a batch puts and deletes.
pub(super) fn in_words(batch: &WriteBatch) -> Vec<String> {
    let mut words = Words(Vec::new());
    batch.iterate_cf(&mut words);
    words.0
}

struct Words(Vec<String>);

impl Words {
    /// Families have their numbers in the order in which they were created.
    fn add(&mut self, verb: &str, family: u32, key: &[u8]) {
        if key == MARK {
            return;
        }
        let family = Family::ALL.get(family as usize).copied();
        let digest =
            || Digest::from_key(key).map_or_else(|| "?".to_owned(), |(digest, _)| digest.to_string());
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let row = match (family, key) {
            (Some(Family::Content), _) => format!("content {}", digest()),
            (Some(Family::Journal), _) => format!("journal {}", digest()),
            (Some(Family::Default), [tag_byte::TOMBSTONE, digest @ ..]) => {
                let digest = Digest::from_key(digest).map(|(digest, _)| digest.to_string());
                format!("tombstone {}", digest.unwrap_or_default())
            }
            (Some(Family::Default), [tag_byte::FACT, name @ ..]) => format!("fact {}", text(name)),
            (Some(Family::Default), [tag_byte::UPLOAD, id @ ..]) => {
                format!("upload {}", id.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            (Some(Family::Default), [tag_byte::BASE, name @ ..]) => format!("base {}", text(name)),
            (Some(Family::Default), [tag_byte::TAG, _, _, _, _, tag @ ..]) => format!("tag {}", text(tag)),
            _ => return,
        };
        self.0.push(format!("{verb} {row}"));
    }
}

impl WriteBatchIteratorCf for Words {
    fn put_cf(&mut self, family: u32, key: &[u8], _value: &[u8]) {
        self.add("put", family, key);
    }

    fn delete_cf(&mut self, family: u32, key: &[u8]) {
        self.add("delete", family, key);
    }

    fn merge_cf(&mut self, _family: u32, _key: &[u8], _value: &[u8]) {}
}
