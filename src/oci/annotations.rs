//! Annotations: texts by name, as lists of descriptors need them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Facts about content, by name (image-spec, `annotations.md`): a map in byte order of its names.
///
/// There are few on a descriptor and many descriptors on a page, so it is a sorted list: a tree takes half a kilobyte for
/// its first entry.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Annotations(Vec<(String, String)>);

impl Annotations {
    /// No annotations.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No annotations, with room for some.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&String> {
        let at = self.find(name).ok()?;
        self.0.get(at).map(|(_, text)| text)
    }

    /// Whether a name has a text.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Gives a name a text; answers the one that it had.
    pub fn insert(&mut self, name: String, text: String) -> Option<String> {
        // What is read in order, as from a store, goes to the end.
        if self.0.last().is_none_or(|(last, _)| *last < name) {
            self.0.push((name, text));
            return None;
        }
        match self.find(&name) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| std::mem::replace(old, text)),
            Err(at) => {
                self.0.insert(at, (name, text));
                None
            }
        }
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&String, &mut String) -> bool) {
        self.0.retain_mut(|(name, text)| keep(name, text));
    }

    /// All of them, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> + '_ {
        self.0.iter().map(|(name, text)| (name, text))
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> + '_ {
        self.0.iter().map(|(name, _)| name)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(found, _)| found.as_str().cmp(name))
    }
}

impl fmt::Debug for Annotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Extend<(String, String)> for Annotations {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, more: I) {
        for (name, text) in more {
            self.insert(name, text);
        }
    }
}

impl FromIterator<(String, String)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(all: I) -> Self {
        let mut annotations = Self::new();
        annotations.extend(all);
        annotations
    }
}

impl<const N: usize> From<[(String, String); N]> for Annotations {
    fn from(all: [(String, String); N]) -> Self {
        all.into_iter().collect()
    }
}

impl IntoIterator for Annotations {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Annotations, A::Error> {
                let mut annotations = Annotations::new();
                while let Some((name, text)) = members.next_entry()? {
                    annotations.insert(name, text);
                }
                Ok(annotations)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_in_order(entries in proptest::collection::vec(("[a-d]{0,2}", ".{0,3}"), 0..12), gone in "[a-d]") {
            let mut model = BTreeMap::new();
            let mut annotations = Annotations::new();
            for (name, text) in entries {
                prop_assert_eq!(annotations.insert(name.clone(), text.clone()), model.insert(name, text));
            }
            prop_assert!(annotations.iter().eq(model.iter()));
            prop_assert!(annotations.keys().eq(model.keys()));
            prop_assert_eq!((annotations.len(), annotations.is_empty()), (model.len(), model.is_empty()));
            for name in ["", "a", "ab", "d", "x"] {
                prop_assert_eq!(annotations.get(name), model.get(name));
                prop_assert_eq!(annotations.contains_key(name), model.contains_key(name));
            }
            let text = serde_json::to_string(&annotations).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(&serde_json::from_str::<Annotations>(&text).unwrap(), &annotations);
            annotations.retain(|name, _| *name != gone);
            model.retain(|name, _| *name != gone);
            prop_assert!(annotations.into_iter().eq(model));
        }
    }
}
