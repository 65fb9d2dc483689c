//! Control files: stanzas of fields, and the relations between packages.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::version;

/// One stanza: fields by their names in lower case. Continuation lines keep their line breaks.
#[derive(Debug, Default)]
pub struct Stanza(BTreeMap<String, String>);

impl Stanza {
    /// The field of this name (lower case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The field of this name (lower case), or an error that names it and the package.
    pub fn need(&self, name: &str) -> Result<&str> {
        self.get(name).with_context(|| {
            format!("a stanza has no field, field={name} package={}", self.get("package").unwrap_or("?"))
        })
    }
}

/// The stanzas of a control file, one after another.
pub fn stanzas(text: &str) -> impl Iterator<Item = Result<Stanza>> {
    let mut lines = text.lines().enumerate().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|(_, line)| line.trim().is_empty()).is_some() {}
        lines.peek()?;
        let mut stanza = Stanza::default();
        let mut last: Option<String> = None;
        while let Some((number, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            if let Err(error) = take_line(&mut stanza, &mut last, line) {
                return Some(Err(error.context(format!("line={}", number + 1))));
            }
        }
        Some(Ok(stanza))
    })
}

fn take_line(stanza: &mut Stanza, last: &mut Option<String>, line: &str) -> Result<()> {
    if line.starts_with('#') {
        return Ok(());
    }
    if line.starts_with([' ', '\t']) {
        let value = last.as_ref().and_then(|name| stanza.0.get_mut(name));
        let value = value.context("a stanza begins with a continued line")?;
        value.push('\n');
        value.push_str(line.trim());
        return Ok(());
    }
    let (name, value) = line.split_once(':').with_context(|| format!("no field, text={line:?}"))?;
    let name = name.to_ascii_lowercase();
    if stanza.0.insert(name.clone(), value.trim().to_owned()).is_some() {
        bail!("a field is there twice, field={name}");
    }
    *last = Some(name);
    Ok(())
}

/// One package that a relation names, and which of its versions.
#[derive(Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Name of a package, real or virtual.
    pub name: String,
    /// Operator (`<<`, `<=`, `=`, `>=`, `>>`) and version.
    pub bound: Option<(String, String)>,
}

impl Wanted {
    /// Whether a version is one of those that are wanted.
    pub fn admits(&self, candidate: &str) -> bool {
        let Some((operator, wanted)) = &self.bound else { return true };
        let order = version::compare(candidate, wanted);
        match operator.as_str() {
            "<<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">=" => order != Ordering::Less,
            ">>" => order == Ordering::Greater,
            _ => false,
        }
    }
}

/// `Depends`, `Pre-Depends` or `Provides`: all of the clauses, one alternative of each.
pub fn relations(field: &str) -> Result<Vec<Vec<Wanted>>> {
    field
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| clause.split('|').map(wanted).collect())
        .collect()
}

fn wanted(text: &str) -> Result<Wanted> {
    let text = text.trim();
    let (name, rest) = text.split_at(text.find([' ', '(', '[', '<']).unwrap_or(text.len()));
    // `:any` says that another architecture would do as well.
    let name = name.split(':').next().unwrap_or_default();
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    if name.is_empty() || !name.chars().all(known) {
        bail!("a relation names no package, text={text:?}");
    }
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(Wanted { name: name.to_owned(), bound: None });
    }
    let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let inner = inner.with_context(|| format!("a relation is not understood, text={text:?}"))?.trim();
    let (operator, version) = inner.split_at(inner.find(|c| !"<>=".contains(c)).unwrap_or(inner.len()));
    if !["<<", "<=", "=", ">=", ">>"].contains(&operator) || version.trim().is_empty() {
        bail!("a relation has no such operator, text={text:?}");
    }
    Ok(Wanted { name: name.to_owned(), bound: Some((operator.to_owned(), version.trim().to_owned())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_over_lines() {
        let text = "\n\nPackage: a\nDescription: one\n two\n .\n three\n\n \nPackage: b\nEssential: yes\n";
        let found: Vec<_> = stanzas(text).map(|stanza| stanza.expect("stanza")).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("description"), Some("one\ntwo\n.\nthree"));
        assert_eq!(found[1].need("essential").expect("there"), "yes");
        assert!(
            found[1].need("version").expect_err("absent").to_string().contains("field=version package=b")
        );
    }

    #[test]
    fn what_is_no_stanza_is_named_with_its_line() {
        for (text, line) in [("Package: a\nno field\n", 2), (" continued\n", 1), ("A: 1\nB: 2\na: 3\n", 3)] {
            let error = stanzas(text).next().expect("one").expect_err(text);
            assert!(format!("{error:#}").contains(&format!("line={line}")), "{error:#}");
        }
    }

    #[test]
    fn relations_have_alternatives_and_bounds() {
        let parsed = relations("libc6 (>= 2.34), mta:any | exim4 (<<4) , x (= 1:2.0-1),").expect("relations");
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[0][0].bound, Some((">=".to_owned(), "2.34".to_owned())));
        assert_eq!(parsed[1][0], Wanted { name: "mta".to_owned(), bound: None });
        assert_eq!(parsed[1][1].bound, Some(("<<".to_owned(), "4".to_owned())));
        assert!(relations("").expect("none").is_empty());
    }

    #[test]
    fn bounds_are_of_versions_and_not_of_text() {
        for (operator, admitted) in [
            ("<<", [true, false, false]),
            ("<=", [true, true, false]),
            ("=", [false, true, false]),
            (">=", [false, true, true]),
            (">>", [false, false, true]),
        ] {
            let wanted =
                Wanted { name: "a".to_owned(), bound: Some((operator.to_owned(), "1.9".to_owned())) };
            assert_eq!(["1.8", "1.9", "1.10"].map(|version| wanted.admits(version)), admitted, "{operator}");
        }
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        for text in ["a b", "a (1)", "a (>= )", "a (>= 1", "A", "(>= 1)", "../a", "a [amd64]"] {
            assert!(relations(text).is_err(), "{text}");
        }
    }
}
