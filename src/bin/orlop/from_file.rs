//! `--from-file`: what to copy, as a list of references or as skopeo's sync has it.

use std::io::Read;
use std::path::Path;

use orlop::oci::Tag;
use regex::bytes::{Regex, RegexBuilder};

use crate::error::Failure;
use crate::versions::Range;
use crate::yaml::{self, Node, Value, refused};

/// The largest list that is read.
const MAX_LIST: u64 = 16 << 20;
/// How large a pattern may become.
const MAX_REGEX: usize = 1 << 20;

/// One line, or one repository.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// A reference, or a repository whose tags are meant.
    pub(crate) reference: String,
    pub(crate) tags: Tags,
}

/// Which tags of a repository are meant.
#[derive(Clone, Debug)]
pub(crate) enum Tags {
    /// The reference names what is meant.
    Named,
    All,
    Matching(Regex),
    Versions(Range),
}

impl Tags {
    /// Whether a tag of the repository is meant.
    pub(crate) fn hold(&self, tag: &Tag) -> bool {
        match self {
            Self::Named | Self::All => true,
            Self::Matching(pattern) => pattern.is_match(tag.as_str().as_bytes()),
            Self::Versions(range) => range.holds(tag.as_str()),
        }
    }
}

/// Reads a list; `-` is standard input.
#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
pub(crate) fn read(path: &str) -> Result<Vec<Wanted>, Failure> {
    let (mut text, fail) = (String::new(), |error| Failure::io("read the list", Path::new(path), &error));
    let read = if path == "-" {
        std::io::stdin().lock().take(MAX_LIST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_LIST + 1).read_to_string(&mut text))
    };
    if read.map_err(fail)? as u64 > MAX_LIST {
        return Err(Failure::usage(format!("the list is too large, path={path}, limit={MAX_LIST}")));
    }
    let is_yaml = path.ends_with(".yaml") || path.ends_with(".yml") || looks_like_yaml(&text);
    if is_yaml { sync(&text) } else { Ok(references(&text)) }
}

/// Whether the first line with something on it is a key with nothing behind it, which no reference is.
fn looks_like_yaml(text: &str) -> bool {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.is_some_and(|line| line == "---" || line.ends_with(':'))
}

/// A reference on each line.
fn references(text: &str) -> Vec<Wanted> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Wanted { reference: line.to_owned(), tags: Tags::Named }).collect()
}

/// The file of `skopeo sync --src yaml`.
fn sync(text: &str) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for (registry, node) in yaml::parse(text)? {
        let Value::Map(entries) = node.value else {
            return Err(refused(node.line, "a registry has images, images-by-tag-regex or images-by-semver"));
        };
        for (key, node) in entries {
            match (key.as_str(), &node.value) {
                ("images", Value::Map(images)) => {
                    for (repository, node) in images {
                        images_of(&format!("{registry}/{repository}"), node, &mut wanted)?;
                    }
                }
                ("images-by-tag-regex" | "images-by-semver", Value::Map(images)) => {
                    for (repository, node) in images {
                        let tags = selection(&key, node)?;
                        wanted.push(Wanted { reference: format!("{registry}/{repository}"), tags });
                    }
                }
                ("tls-verify", Value::Text(text)) if text == "true" => {}
                ("credentials" | "tls-verify" | "cert-dir", _) => {
                    return Err(refused(node.line, "credentials and TLS are not taken from a list").with_hint(
                        "leave it out: log in with `orlop login`, and give --plain-http, --insecure or --ca-file",
                    ));
                }
                _ => return Err(refused(node.line, "a key or a value that is not known")),
            }
        }
    }
    Ok(wanted)
}

fn images_of(repository: &str, node: &Node, wanted: &mut Vec<Wanted>) -> Result<(), Failure> {
    match &node.value {
        Value::List(tags) if !tags.is_empty() => {
            for tag in tags {
                let Value::Text(tag) = &tag.value else {
                    return Err(refused(tag.line, "a tag belongs here"));
                };
                let between = if tag.contains(':') { '@' } else { ':' };
                wanted.push(Wanted { reference: format!("{repository}{between}{tag}"), tags: Tags::Named });
            }
        }
        Value::Empty | Value::List(_) => {
            wanted.push(Wanted { reference: repository.to_owned(), tags: Tags::All });
        }
        _ => return Err(refused(node.line, "a list of tags belongs here")),
    }
    Ok(())
}

fn selection(key: &str, node: &Node) -> Result<Tags, Failure> {
    let Value::Text(text) = &node.value else { return Err(refused(node.line, "a pattern belongs here")) };
    if key == "images-by-semver" {
        return text.parse().map(Tags::Versions).map_err(|why: String| refused(node.line, &why));
    }
    let pattern = RegexBuilder::new(text).unicode(false).size_limit(MAX_REGEX).build();
    pattern.map(Tags::Matching).map_err(|error| {
        let why = error.to_string();
        refused(node.line, &format!("no pattern: {}", why.lines().last().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn a_file_of_skopeo_is_read() {
        let text = "registry.example:\n  images:\n    busybox: []\n    redis:\n      - \"1.0\"\n      - sha256:00\n  images-by-tag-regex:\n    nginx: ^1\\.13\\.[12]-alpine$\n  images-by-semver:\n    alpine: \">= 3.12.0\"\n  tls-verify: true\n";
        assert!(looks_like_yaml(text));
        let wanted = sync(text).unwrap();
        let shown: Vec<&str> = wanted.iter().map(|one| one.reference.as_str()).collect();
        assert_eq!(
            shown,
            [
                "registry.example/busybox",
                "registry.example/redis:1.0",
                "registry.example/redis@sha256:00",
                "registry.example/nginx",
                "registry.example/alpine"
            ]
        );
        let holds = |at: usize, tag: &str| wanted.get(at).unwrap().tags.hold(&tag.parse().unwrap());
        assert!(holds(0, "anything"));
        assert!(holds(3, "1.13.1-alpine") && !holds(3, "1.13.3-alpine") && !holds(3, "x1.13.1-alpine"));
        assert!(holds(4, "3.13") && !holds(4, "edge"));
    }

    #[test]
    fn what_a_list_cannot_say_is_refused() {
        for (text, line) in [
            ("a:\n  tls-verify: false\n", 2),
            ("a:\n  credentials:\n    username: x\n", 2),
            ("a:\n  images-by-tag-regex:\n    b: \"(\"\n", 3),
            ("a:\n  images-by-semver:\n    b: nothing\n", 3),
            ("a:\n  pictures:\n    b: []\n", 2),
            ("a:\n  images:\n    b: v1\n", 3),
            ("a: b\n", 1),
        ] {
            let failure = sync(text).unwrap_err();
            assert!(failure.chain().contains(&format!("line={line}")), "{text}: {}", failure.chain());
        }
        let list = references("# all\n\noci:a:v1\n  oci:b:v2  \n");
        assert_eq!(list.iter().map(|one| &*one.reference).collect::<Vec<_>>(), ["oci:a:v1", "oci:b:v2"]);
        assert!(!looks_like_yaml("oci:a:v1\nb:\n"));
    }
}
