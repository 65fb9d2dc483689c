//! As much of YAML as lists of images need: maps and lists by indentation, texts with or without quotes, comments.
//!
//! Whatever else YAML has is refused with the line that has it, and never understood as something else.

use crate::error::Failure;

const MAX_DEPTH: usize = 8;

/// A line with something on it.
#[derive(Debug)]
struct Line<'t> {
    number: usize,
    indent: usize,
    text: &'t str,
}

/// A value, with the line that it begins on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    /// A key with nothing behind it.
    Empty,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Refuses a line.
pub(crate) fn refused(line: usize, why: &str) -> Failure {
    Failure::usage(format!("the list cannot be understood: {why}, line={line}"))
}

/// Reads a document whose top is a map.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Node)>, Failure> {
    let mut lines = Vec::new();
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let content = without_comment(raw).trim_end();
        let body = content.trim_start_matches(' ');
        if body.is_empty() || body == "---" && lines.is_empty() {
            continue;
        }
        if body.starts_with('\t') {
            return Err(refused(number, "a tab stands where blanks belong"));
        }
        lines.push(Line { number, indent: content.len() - body.len(), text: body });
    }
    let mut parser = Parser { lines: &lines, at: 0 };
    let Some(first) = lines.first() else { return Ok(Vec::new()) };
    let node = parser.block(first.indent, 0)?;
    if let Some(line) = lines.get(parser.at) {
        return Err(refused(line.number, "the indentation fits nothing above it"));
    }
    match node.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(refused(node.line, "a map belongs here")),
    }
}

/// Cuts off a comment: a `#` at the beginning or behind a blank, outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') && matches!(before, ' ' | '[' | ',') => quote = Some(c),
            None if c == '#' && before == ' ' => return line.get(..at).unwrap_or(line),
            None => {}
        }
        before = c;
    }
    line
}

struct Parser<'l> {
    lines: &'l [Line<'l>],
    at: usize,
}

impl<'l> Parser<'l> {
    fn peek(&self) -> Option<&'l Line<'l>> {
        self.lines.get(self.at)
    }

    fn block(&mut self, indent: usize, depth: usize) -> Result<Node, Failure> {
        let Some(first) = self.peek() else { return Ok(Node { line: 0, value: Value::Empty }) };
        if depth > MAX_DEPTH {
            return Err(refused(first.number, "too deep"));
        }
        let value = if item(first.text).is_some() { self.list(indent)? } else { self.map(indent, depth)? };
        Ok(Node { line: first.number, value })
    }

    fn list(&mut self, indent: usize) -> Result<Value, Failure> {
        let mut items = Vec::new();
        while let Some(line) = self.peek()
            && line.indent == indent
            && let Some(text) = item(line.text)
        {
            let value = scalar(text, line.number)?;
            items.push(Node { line: line.number, value: Value::Text(value) });
            self.at += 1;
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Value, Failure> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(line) = self.peek()
            && line.indent == indent
            && item(line.text).is_none()
        {
            let (key, rest) = key(line)?;
            if entries.iter().any(|(found, _)| *found == key) {
                return Err(refused(line.number, "the key is there twice"));
            }
            self.at += 1;
            let value = if rest.is_empty() { self.below(indent, depth)? } else { inline(rest, line.number)? };
            entries.push((key, Node { line: line.number, value }));
        }
        Ok(Value::Map(entries))
    }

    /// What stands below a key; a list may be as far left as the key itself.
    fn below(&mut self, indent: usize, depth: usize) -> Result<Value, Failure> {
        match self.peek() {
            Some(line) if line.indent > indent => Ok(self.block(line.indent, depth + 1)?.value),
            Some(line) if line.indent == indent && item(line.text).is_some() => self.list(indent),
            _ => Ok(Value::Empty),
        }
    }
}

/// The text of an item of a list.
fn item(text: &str) -> Option<&str> {
    if text == "-" { Some("") } else { text.strip_prefix("- ").map(str::trim) }
}

/// A key and what stands behind its colon.
fn key<'l>(line: &Line<'l>) -> Result<(String, &'l str), Failure> {
    let no_key = || refused(line.number, "neither KEY: VALUE nor an item of a list");
    let quoted = line.text.starts_with(['"', '\'']);
    let (key, rest) = match line.text.split_once(": ") {
        Some((key, rest)) if !quoted || key.len() > 1 && key.ends_with(['"', '\'']) => (key, rest.trim()),
        _ => (line.text.strip_suffix(':').ok_or_else(no_key)?, ""),
    };
    Ok((scalar(key.trim(), line.number)?, rest))
}

fn inline(text: &str, line: usize) -> Result<Value, Failure> {
    let Some(inner) = text.strip_prefix('[') else { return scalar(text, line).map(Value::Text) };
    let inner =
        inner.strip_suffix(']').ok_or_else(|| refused(line, "a list in brackets ends on its line"))?;
    let mut items = Vec::new();
    for part in inner.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        items.push(Node { line, value: Value::Text(scalar(part, line)?) });
    }
    Ok(Value::List(items))
}

fn scalar(text: &str, line: usize) -> Result<String, Failure> {
    let unclosed = || refused(line, "a quote is not closed, or something stands behind it");
    match text.chars().next() {
        None => Err(refused(line, "a text belongs here")),
        Some('\'') => {
            let inner =
                text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).ok_or_else(unclosed)?;
            let joined = inner.replace("''", "\u{0}");
            if joined.contains('\'') { Err(unclosed()) } else { Ok(joined.replace('\u{0}', "'")) }
        }
        Some('"') => {
            let inner =
                text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(unclosed)?;
            let (mut plain, mut chars) = (String::new(), inner.chars());
            while let Some(c) = chars.next() {
                match (c, if c == '\\' { chars.next() } else { None }) {
                    ('"', _) => return Err(unclosed()),
                    ('\\', Some(escaped @ ('\\' | '"' | '/'))) => plain.push(escaped),
                    ('\\', _) => return Err(refused(line, "an escape that is not known")),
                    (c, _) => plain.push(c),
                }
            }
            Ok(plain)
        }
        Some('&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '{' | '}' | '[' | ']' | ',') => {
            Err(refused(line, "this needs quotes, or is more of YAML than is understood"))
        }
        Some('-' | '?' | ':') if text.chars().nth(1).is_none_or(|c| c == ' ') => {
            Err(refused(line, "a text belongs here"))
        }
        Some(_) if text.contains(": ") => Err(refused(line, "this needs quotes")),
        Some(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Empty => "-".into(),
            Value::Text(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join("|")),
            Value::Map(entries) => map(entries),
        }
    }

    fn map(entries: &[(String, Node)]) -> String {
        let parts = entries.iter().map(|(key, node)| format!("{key}={}", shown(node)));
        format!("{{{}}}", parts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_lists_need_is_read() {
        let text = "---\n# a comment\nhost:5000:  # behind\n  images:\n    a/b: []\n    c:\n    - v1\n    - \"v#2\"\n    d: [x, 'y''z']\n  tls-verify: true\nother:\n  r:\n    e: ^v[0-9]+$\n    f:\n";
        assert_eq!(
            map(&parse(text).unwrap()),
            "{host:5000={images={a/b=[] c=[v1|v#2] d=[x|y'z]} tls-verify=true} other={r={e=^v[0-9]+$ f=-}}}"
        );
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_line() {
        let deep = (0..20).map(|depth| format!("{}k:\n", " ".repeat(depth))).collect::<String>();
        let cases = [
            ("a:\n\tb: c\n", 2),
            ("a: &x b\n", 1),
            ("a: |\n  text\n", 1),
            ("a:\n  b: c\n d: e\n", 3),
            ("- a\n", 1),
            ("a: b\na: c\n", 2),
            ("a: [b\n", 1),
            ("a: \"b\n", 1),
            ("a: {b: c}\n", 1),
            ("a\n", 1),
            ("a:\n  - b: c\n", 2),
            (deep.as_str(), 10),
        ];
        for (text, line) in cases {
            let failure = parse(text).unwrap_err();
            assert!(failure.chain().ends_with(&format!("line={line}")), "{text}: {}", failure.chain());
        }
    }
}
