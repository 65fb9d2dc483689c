//! Reads of what the published view has, what other tools say in it, and facts.

use std::ops::ControlFlow;

use super::key::{self, tag_byte};
use super::record::{Fingerprint, decode_target};
use super::schema::Family;
use super::view::{View, Visit, malformed, rest, text};
use crate::digest::Digest;
use crate::error::Result;

impl View<'_> {
    /// The outer `None`: this name has not changed since the last publish.
    pub(crate) fn base(&self, layout_name: &str) -> Result<Option<Option<Digest>>> {
        self.get(Family::Default, &key::base(layout_name))?.map(|row| decode_target(&row)).transpose()
    }

    pub(crate) fn bases(&self, mut visit: impl FnMut(&str, Option<Digest>) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::BASE], None, |key, value| {
            visit(text(rest(key, 1)?)?, decode_target(value)?)
        })
    }

    /// Entries that are not ours to understand: name, digest as written, JSON.
    pub(crate) fn foreign(&self, mut visit: impl FnMut(&str, &str, &str) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::FOREIGN], None, |key, value| {
            let (name, digest) = text(rest(key, 1)?)?.rsplit_once('\0').ok_or_else(|| malformed(key))?;
            visit(name, digest, text(value)?)
        })
    }

    /// The entries of this name that are not ours to understand: digest as written, JSON.
    pub(crate) fn foreign_of(&self, name: &str, mut visit: impl FnMut(&str, &str) -> Visit) -> Result<()> {
        let prefix = key::foreign(name, "");
        self.scan(Family::Default, &prefix, None, |key, value| {
            visit(text(rest(key, prefix.len())?)?, text(value)?)
        })
    }

    /// Whether an entry is kept as one that is not ours to understand.
    pub(crate) fn is_foreign(&self, name: &str, digest: &str) -> Result<bool> {
        Ok(self.get(Family::Default, &key::foreign(name, digest))?.is_some())
    }

    /// What other tools say of entries, as JSON, with the names of those that have one.
    pub(crate) fn extras(&self, mut visit: impl FnMut(Option<&str>, &str) -> Visit) -> Result<()> {
        self.scan(Family::Default, &[tag_byte::EXTRA], None, |key, value| {
            let name = text(rest(key, 1)?)?;
            visit(if name.starts_with('\0') { None } else { Some(name) }, text(value)?)
        })
    }

    /// What another tool says of an entry, as JSON.
    pub(crate) fn extra(&self, name: Option<&str>, digest: &Digest) -> Result<Option<String>> {
        self.get(Family::Default, &key::extra(name, digest))?
            .map(|row| text(&row).map(str::to_owned))
            .transpose()
    }

    /// Whether another tool says more of any entry.
    pub(crate) fn has_extras(&self) -> Result<bool> {
        let mut any = false;
        self.scan(Family::Default, &[tag_byte::EXTRA], None, |_, _| {
            any = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(any)
    }

    pub(crate) fn fingerprint(&self, fact: &str) -> Result<Option<Fingerprint>> {
        self.get(Family::Default, &key::fact(fact))?.map(|row| Fingerprint::decode(&row)).transpose()
    }

    pub(crate) fn has_fact(&self, fact: &str) -> Result<bool> {
        Ok(self.get(Family::Default, &key::fact(fact))?.is_some())
    }

    /// A fact that is a time, in milliseconds since 1970, and a flag.
    pub(crate) fn moment(&self, fact: &str) -> Result<Option<(u64, bool)>> {
        let key = key::fact(fact);
        let Some(row) = self.get(Family::Default, &key)? else { return Ok(None) };
        let (at, flag) = row.split_first_chunk::<8>().ok_or_else(|| malformed(&key))?;
        Ok(Some((u64::from_be_bytes(*at), flag == [1])))
    }
}
