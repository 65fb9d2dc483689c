//! Strict checks over the raw bytes of a JSON document, where readers are known to differ.
//!
//! Two readers that take different members of one document for the same field can be shown two different artifacts under
//! one digest. RFC 8259 leaves duplicate names open and I-JSON (RFC 7493, 2.3) forbids them; Go's `encoding/json`
//! matches names without regard to case, others do not. So both are refused. In `annotations`, and below members that no
//! specification knows, names are data: there only exact duplicates are refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write as _};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::excerpt;
use crate::error::{Error, ErrorKind, Result};

/// The names that the specifications give a meaning to, in manifests and descriptors.
const KNOWN: [&str; 15] = [
    "annotations",
    "artifactType",
    "blobs",
    "config",
    "data",
    "digest",
    "fsLayers",
    "layers",
    "manifests",
    "mediaType",
    "platform",
    "schemaVersion",
    "size",
    "subject",
    "urls",
];

/// The byte order mark in UTF-8, which RFC 8259 forbids to write.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Checks that `bytes` is one JSON document that every reader understands alike: UTF-8 without a byte order mark, nothing
/// behind it, at most 128 levels deep, no duplicate names, and outside `annotations` no names that differ only in case
/// from another of the same object or from one the specifications know.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(BOM) {
        return Err(Error::invalid("json document starts with a byte order mark"));
    }
    let mut state = State { path: Vec::new(), failure: None };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome = Value { state: &mut state, data: false }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (state.failure, outcome) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(unparsable("json document", &error)),
    }
}

/// What serde_json says about bytes that it cannot take, as an error of this crate.
pub(super) fn unparsable(what: &str, error: &serde_json::Error) -> Error {
    // The message may quote a value of any length, and ends with the position.
    const LIMIT: usize = 300;
    let mut message = error.to_string();
    if let Some((cut, _)) = message.char_indices().nth(LIMIT) {
        message.truncate(cut);
        let _ = write!(message, ".. at line {} column {}", error.line(), error.column());
    }
    Error::new(ErrorKind::Invalid, format!("cannot parse {what}: {message}"))
}

struct State {
    /// Where in the document we are, for messages.
    path: Vec<Step>,
    /// The refusal itself: serde would make a text of it.
    failure: Option<Error>,
}

enum Step {
    Name(String),
    Item(usize),
}

impl State {
    #[cold]
    fn refuse<E: de::Error>(&mut self, what: &str, name: &str, other: Option<&str>) -> E {
        let mut message = format!("{what}, path=$");
        for step in &self.path {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Name(name) => write!(message, ".{}", excerpt(name)),
                Step::Item(at) => write!(message, "[{at}]"),
            };
        }
        let _ = write!(message, ", key={}", excerpt(name));
        if let Some(other) = other {
            let _ = write!(message, ", other={}", excerpt(other));
        }
        self.failure = Some(Error::invalid(message));
        E::custom("refused")
    }
}

/// Any value at the current path. `data`: somewhere under `annotations` or a member that no specification knows.
struct Value<'a> {
    state: &'a mut State,
    data: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { state, data } = self;
        for at in 0.. {
            state.path.push(Step::Item(at));
            let item = items.next_element_seed(Value { state: &mut *state, data })?;
            state.path.pop();
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { state, data } = self;
        // From the name as readers that ignore case see it, to the name as it is written.
        let mut seen = HashMap::new();
        while let Some(name) = members.next_key::<String>()? {
            let folded = if data { name.clone() } else { fold(&name) };
            if !data
                && let Some(known) = KNOWN.into_iter().find(|known| *known != name && fold(known) == folded)
            {
                return Err(state.refuse("key differs only in case from a known one", &name, Some(known)));
            }
            match seen.entry(folded) {
                Entry::Occupied(entry) if *entry.get() == name => {
                    return Err(state.refuse("duplicate key", &name, None));
                }
                Entry::Occupied(entry) => {
                    let other: &String = entry.get();
                    return Err(state.refuse("keys differ only in case", &name, Some(other)));
                }
                Entry::Vacant(entry) => entry.insert(name.clone()),
            };
            let data = data || name == "annotations" || !KNOWN.contains(&name.as_str());
            state.path.push(Step::Name(name));
            members.next_value_seed(Value { state: &mut *state, data })?;
            state.path.pop();
        }
        Ok(())
    }
}

/// A name without its case, at least as coarse as Go's folding: long s is an s, and the Kelvin sign is a k.
fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Whether `text` is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn taken() {
        for json in [
            "{}",
            "null",
            " [1, -1, 1.5e3, \"a\", true, null]\n",
            r#"{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":1}]}"#,
            r#"{"annotations":{"Size":"1","size":"2","SIZE":"3","Digest":""}}"#,
            r#"{"annotations":{"a":{"Layers":1,"layers":2}}}"#,
            r#"{"x-vendor":{"Layers":[{"Digest":1,"digest":2}]}}"#,
            r#"{"mediaType":"","layers":[{"digest":"","annotations":{"k":"","K":""}}]}"#,
        ] {
            check(json.as_bytes()).unwrap();
        }
        check(nested(127).as_bytes()).unwrap();
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn refused() {
        let deep = nested(128);
        for (json, needles) in [
            ("\u{feff}{}", &["byte order mark"][..]),
            ("{} x", &["trailing"]),
            ("{}{}", &["trailing"]),
            ("", &["EOF"]),
            ("{", &["EOF"]),
            ("{'a':1}", &["line 1 column 2"]),
            ("[1,]", &["trailing comma"]),
            (r#""\ud800""#, &["line 1"]),
            (&deep, &["recursion"]),
            (r#"{"a":1,"a":1}"#, &["duplicate key, path=$, key=a"]),
            (r#"{"a":1,"\u0061":1}"#, &["duplicate key, path=$, key=a"]),
            (r#"{"x":[0,{"b":{"a":1,"a":1}}]}"#, &["duplicate key, path=$.x[1].b, key=a"]),
            (r#"{"annotations":{"a":"1","a":"2"}}"#, &["duplicate key, path=$.annotations, key=a"]),
            (r#"{"foo":1,"Foo":1}"#, &["differ only in case, path=$, key=Foo, other=foo"]),
            (r#"{"Layers":[]}"#, &["path=$, key=Layers, other=layers"]),
            (r#"{"layers":[{"Digest":""}]}"#, &["path=$.layers[0], key=Digest, other=digest"]),
            (r#"{"mediatype":""}"#, &["key=mediatype, other=mediaType"]),
            (r#"{"Annotations":{}}"#, &["key=Annotations, other=annotations"]),
            ("{\"layer\u{17f}\":[]}", &["key=\"layer\\u{17f}\", other=layers"]),
            ("{\"a\u{212a}\":1,\"ak\":2}", &["differ only in case", "key=ak, other=\"a\\u{212a}\""]),
        ] {
            let error = check(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{json}");
            for needle in needles {
                assert!(error.to_string().contains(needle), "{error} lacks {needle}");
            }
        }
        assert_eq!(check(b"\"\xff\"").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn messages_are_bounded() {
        let long = format!("\"{}\"", "\u{e9}".repeat(10_000));
        let error = serde_json::from_str::<u64>(&long).unwrap_err();
        let message = unparsable("manifest", &error).to_string();
        assert!(message.len() < 1000 && message.ends_with(".. at line 1 column 20002"), "{message}");
    }

    #[test]
    fn every_known_name_is_guarded() {
        for name in KNOWN {
            check(format!("{{\"{name}\":1}}").as_bytes()).unwrap();
            let upper = name.to_uppercase();
            let error = check(format!("{{\"{upper}\":1}}").as_bytes()).unwrap_err();
            assert!(error.to_string().ends_with(&format!("key={upper}, other={name}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }

        #[test]
        fn agrees_with_serde_where_names_differ(names in prop::collection::hash_set("[a-f]{1,3}", 0..9)) {
            let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
            let json = format!("{{{}}}", members.join(","));
            prop_assert!(check(json.as_bytes()).is_ok());
            if let Some(first) = members.first() {
                let doubled = format!("{{{},{first}}}", members.join(","));
                prop_assert!(check(doubled.as_bytes()).is_err());
            }
        }
    }
}
