//! Content that a verb hands over as it is: to stdout, or into a file that appears whole.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};
use orlop::Digest;
use orlop::digest::Digester;
use orlop::oci::Descriptor;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::args::{flag, option, value};
use crate::error::{Exit, Failure};
use crate::output::{self, Output};
use crate::place::{Folder, Relative};
use crate::view::View;

const COPY: usize = 256 * 1024;

/// Where content goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    Stdout,
    File(String),
}

/// What the verbs that fetch can be told about their result.
#[derive(Debug)]
pub(crate) struct FetchArgs {
    pub(crate) destination: Option<Destination>,
    pub(crate) descriptor: bool,
    pretty: bool,
}

/// What a fetch prints as JSON: the content as well, unless it is no JSON.
#[derive(Serialize)]
struct Fetched {
    #[serde(flatten)]
    view: View,
    content: Option<Box<RawValue>>,
}

/// The option that names a file or stdout.
pub(crate) fn output_option(help: &'static str) -> Arg {
    option("output", "FILE|-", help).short('o')
}

/// The flag that lays JSON out for people.
pub(crate) fn pretty_flag() -> Arg {
    flag("pretty", "Lay out JSON on stdout for people")
}

/// The flag that asks for the descriptor.
pub(crate) fn descriptor_flag() -> Arg {
    flag("descriptor", "Print the descriptor")
}

impl Destination {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Option<Self>, Failure> {
        Ok(match value::<String>(matches, "output").as_deref() {
            None => None,
            Some("-") => Some(Self::Stdout),
            Some(path) if path.is_empty() || path.ends_with('/') => {
                return Err(Failure::usage(format!("not the name of a file, output={path}"))
                    .with_hint("give a file, or - for stdout"));
            }
            Some(path) => Some(Self::File(path.into())),
        })
    }

    /// Writes content and checks it on the way. A file gets its name when all of it is there and right; what went to
    /// stdout or into a device cannot be called back, so there the failure comes last.
    pub(crate) fn write(&self, from: &mut dyn Read, size: u64, digest: &Digest) -> Result<(), Failure> {
        match self {
            Self::Stdout => stream(from, size, digest, output::raw),
            Self::File(path) => into_file(Path::new(path), from, size, digest),
        }
    }
}

impl FetchArgs {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Self {
            destination: Destination::of(matches)?,
            descriptor: matches.get_flag("descriptor"),
            pretty: matches.get_flag("pretty"),
        })
    }

    /// Refuses what would mix two results on stdout.
    pub(crate) fn check(&self, output: &Output) -> Result<(), Failure> {
        let pairs = [
            (self.destination == Some(Destination::Stdout) && self.descriptor, "--output - and --descriptor"),
            (
                self.destination == Some(Destination::Stdout) && output.is_json(),
                "--output - and --format json",
            ),
            (self.descriptor && output.is_json(), "--descriptor and --format json"),
        ];
        match pairs.into_iter().find(|(both, _)| *both) {
            Some((_, what)) => Err(Failure::usage(format!("two results for one stdout, options={what}"))
                .with_hint("give one of them")),
            None => Ok(()),
        }
    }

    /// Whether the content itself goes to stdout.
    fn is_printed(&self, output: &Output) -> bool {
        match self.destination {
            Some(Destination::Stdout) => true,
            Some(Destination::File(_)) => false,
            None => !(self.descriptor || output.is_json() || output.is_quiet()),
        }
    }

    /// Hands over a document that is in memory.
    pub(crate) fn document(
        &self,
        view: View,
        descriptor: &Descriptor,
        bytes: &[u8],
        output: &Output,
    ) -> Result<(), Failure> {
        if self.is_printed(output) {
            return if self.pretty {
                output::raw(&indent(bytes, &descriptor.digest)?).map(|_| ())
            } else {
                Destination::Stdout.write(&mut &*bytes, descriptor.size, &descriptor.digest)
            };
        }
        if let Some(file) = &self.destination {
            file.write(&mut &*bytes, descriptor.size, &descriptor.digest)?;
        }
        if self.descriptor {
            return print_descriptor(descriptor, self.pretty, output);
        }
        let content = std::str::from_utf8(bytes).ok().map(str::to_owned);
        let content = content.and_then(|text| RawValue::from_string(text).ok());
        output.result([descriptor.digest], &Fetched { view, content }, String::new)
    }

    /// Hands over content of any size.
    pub(crate) fn content(
        &self,
        view: &View,
        descriptor: &Descriptor,
        reader: &mut dyn Read,
        output: &Output,
    ) -> Result<(), Failure> {
        if self.is_printed(output) {
            return Destination::Stdout.write(reader, descriptor.size, &descriptor.digest);
        }
        if let Some(file) = &self.destination {
            file.write(reader, descriptor.size, &descriptor.digest)?;
        }
        if self.descriptor {
            return print_descriptor(descriptor, self.pretty, output);
        }
        output.result([descriptor.digest], view, String::new)
    }
}

/// Prints a descriptor as JSON on one line, or laid out.
pub(crate) fn print_descriptor(
    descriptor: &Descriptor,
    pretty: bool,
    output: &Output,
) -> Result<(), Failure> {
    if output.is_quiet() {
        return output::stdout(&format!("{}\n", descriptor.digest));
    }
    let text = if pretty { serde_json::to_vec_pretty(descriptor) } else { serde_json::to_vec(descriptor) };
    let mut text = text.map_err(|error| not_json(&error))?;
    text.push(b'\n');
    output::raw(&text).map(|_| ())
}

/// The failure to write what should always be possible to write.
pub(crate) fn not_json(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Other, format!("cannot write the result as JSON: {error}"))
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, no part of a store")]
fn into_file(path: &Path, from: &mut dyn Read, size: u64, digest: &Digest) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io("write the file", path, error);
    let path = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(Failure::usage(format!("a directory is no file, output={}", path.display()))
                .with_hint("name a file in it"));
        }
        // A device or a pipe stays what it is.
        Ok(found) if !found.is_file() => {
            let mut file = OpenOptions::new().write(true).open(path).map_err(|error| failed(&error))?;
            return stream(from, size, digest, |part| match file.write_all(part) {
                Ok(()) => Ok(true),
                Err(error) => Err(failed(&error)),
            });
        }
        // A link that the user made leads to the file that is meant.
        Ok(_) => std::fs::canonicalize(path).map_err(|error| failed(&error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(failed(&error)),
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // A mistyped name must not make directories.
    std::fs::metadata(&parent).map_err(|error| failed(&error))?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = Relative::parse(&name)
        .map_err(|what| Failure::usage(format!("name of the file {what}, output={}", path.display())))?;
    Folder::open(&parent)?.put(&name, from, size, digest, true, &mut |_| std::ops::ControlFlow::Continue(()))
}

fn stream(
    from: &mut dyn Read,
    size: u64,
    digest: &Digest,
    mut to: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut digester = Digester::new(digest.algorithm());
    let mut buffer = vec![0; COPY];
    let mut left = size;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::new(
                    Exit::Other,
                    format!("cannot read the content, digest={digest}: {error}"),
                ));
            }
        };
        let part = buffer.get(..count).unwrap_or_default();
        left = left.wrapping_sub(part.len() as u64);
        // More than was announced is not handed on.
        if part.is_empty() || left > size {
            break;
        }
        digester.update(part);
        if !to(part)? {
            return Ok(());
        }
    }
    if left == 0 && digester.finish() == *digest {
        return Ok(());
    }
    Err(Failure::new(Exit::Integrity, format!("content is damaged, digest={digest}"))
        .with_hint("do not use what was printed; push the same content again to heal it"))
}

/// Lays a JSON document out over lines, without touching its texts and numbers or the order of its members.
pub(crate) fn indent(bytes: &[u8], digest: &Digest) -> Result<Vec<u8>, Failure> {
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Err(Failure::new(Exit::Other, format!("content is not JSON, digest={digest}: {error}"))
            .with_hint("leave out --pretty"));
    }
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    let mut opened = false;
    let line = |text: &mut Vec<u8>, depth: usize| {
        text.push(b'\n');
        text.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    for &byte in bytes {
        if in_string {
            text.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(byte, b'}' | b']');
        if closes {
            depth -= 1;
        }
        // An empty object or array stays on its line.
        if closes != opened {
            line(&mut text, depth);
        }
        opened = matches!(byte, b'{' | b'[');
        text.push(byte);
        match byte {
            b'{' | b'[' => depth += 1,
            b',' => line(&mut text, depth),
            b':' => text.push(b' '),
            b'"' => in_string = true,
            _ => {}
        }
    }
    text.push(b'\n');
    Ok(text)
}

/// The document as Go writes it, which oras does: no white space between its parts, and the characters that mean
/// something in HTML by their numbers. So the same document has the same digest, whichever of both made it.
pub(crate) fn as_go(json: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if !in_string {
            if !byte.is_ascii_whitespace() {
                text.push(byte);
            }
            in_string = byte == b'"';
            continue;
        }
        match byte {
            b'<' | b'>' | b'&' => text.extend(format!("\\u{byte:04x}").bytes()),
            0xe2 if matches!(tail, [0x80, 0xa8 | 0xa9, ..]) => {
                text.extend(if tail.get(1) == Some(&0xa8) { b"\\u2028" } else { b"\\u2029" });
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => text.push(byte),
        }
        in_string = escaped || byte != b'"';
        escaped = !escaped && byte == b'\\';
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn json_is_laid_out_and_nothing_else() {
        let cases = [
            ("{}", "{}\n"),
            (" [ ] \n", "[]\n"),
            ("\"a\"", "\"a\"\n"),
            (
                r#"{"b":1.50,"a":[{"x":null},[],{}, "q\"{[,:\\"]}"#,
                "{\n  \"b\": 1.50,\n  \"a\": [\n    {\n      \"x\": null\n    },\n    [],\n    {},\n    \"q\\\"{[,:\\\\\"\n  ]\n}\n",
            ),
            (
                r#"{"a":{"b":[[1,2]]}}"#,
                "{\n  \"a\": {\n    \"b\": [\n      [\n        1,\n        2\n      ]\n    ]\n  }\n}\n",
            ),
        ];
        let digest = Digest::of(b"");
        for (from, to) in cases {
            assert_eq!(String::from_utf8(indent(from.as_bytes(), &digest).unwrap()).unwrap(), to, "{from}");
        }
        for bad in ["", "{", "]", "{}}", "a"] {
            assert!(
                indent(bad.as_bytes(), &digest).unwrap_err().chain().contains(&digest.to_string()),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_stream_tells_of_damage_and_stops_at_its_size() {
        let digest = Digest::of(b"good");
        for (content, printed, is_right) in [
            (&b"good"[..], &b"good"[..], true),
            (b"evil", b"evil", false),
            (b"goo", b"goo", false),
            (b"goods", b"", false),
        ] {
            let mut seen = Vec::new();
            let result = stream(&mut &*content, 4, &digest, |part| {
                seen.extend_from_slice(part);
                Ok(true)
            });
            assert_eq!((result.is_ok(), &*seen), (is_right, printed));
            if let Err(failure) = result {
                assert_eq!(failure.exit(), Exit::Integrity);
            }
        }
    }

    #[test]
    fn written_as_go_writes_it() {
        let text = "{ \"a b\" : [ 1,\n \"<&>\\\"\\\\\" , \"\u{2028}x\u{2029}\u{2026}\" ] }";
        let expected = "{\"a b\":[1,\"\\u003c\\u0026\\u003e\\\"\\\\\",\"\\u2028x\\u2029\u{2026}\"]}";
        assert_eq!(String::from_utf8(as_go(text.as_bytes())).unwrap(), expected);
    }
}
