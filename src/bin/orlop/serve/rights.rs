//! Who may do what with which repositories: a file of lines `PRINCIPAL PATTERN RIGHTS`.
//!
//! `PRINCIPAL` is a name of the password file, `*` for everybody who is in it, or `anonymous` for everybody at all. In
//! `PATTERN` a `*` stands for any text, slashes too. `RIGHTS` are `pull`, `push` and `delete` with commas between them, or
//! `all`. Somebody may do what any line gives; a line takes nothing away. Empty lines and those that begin with `#` say
//! nothing.

use std::str::FromStr;

use orlop::server::Verb;

use super::htpasswd::ANONYMOUS;

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rights {
    pull: bool,
    push: bool,
    delete: bool,
}

/// A file of rights.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    principal: Principal,
    pattern: String,
    rights: Rights,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Principal {
    Anonymous,
    Everybody,
    Name(String),
}

impl Rights {
    pub(super) const ALL: Self = Self { pull: true, push: true, delete: true };
    pub(super) const PULL: Self = Self { pull: true, push: false, delete: false };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            pull: self.pull || other.pull,
            push: self.push || other.push,
            delete: self.delete || other.delete,
        }
    }

    /// Whether this is among what one may do with a repository.
    pub(super) fn give(self, verb: Verb) -> bool {
        match verb {
            Verb::Pull => self.pull,
            Verb::Push => self.push,
            Verb::Delete => self.delete,
            // Neither is about a repository.
            _ => false,
        }
    }
}

impl Table {
    /// Everything for whoever has a password.
    pub(super) fn everything() -> Self {
        let line = Line { principal: Principal::Everybody, pattern: "*".into(), rights: Rights::ALL };
        Self { lines: vec![line] }
    }

    /// The same table, with everything to be pulled by anybody.
    pub(super) fn with_anonymous_pull(mut self) -> Self {
        let line = Line { principal: Principal::Anonymous, pattern: "*".into(), rights: Rights::PULL };
        self.lines.push(line);
        self
    }

    /// What somebody may do; None is whoever sends no credentials.
    pub(super) fn of(&self, principal: Option<&str>, repository: &str) -> Rights {
        let lines = self.lines.iter().filter(|line| line.principal.is(principal));
        let fitting = lines.filter(|line| fits(&line.pattern, repository));
        fitting.fold(Rights::default(), |rights, line| rights.and(line.rights))
    }

    /// Whether any repository at all may be pulled without credentials.
    pub(super) fn has_anonymous_pull(&self) -> bool {
        self.lines.iter().any(|line| line.principal == Principal::Anonymous && line.rights.pull)
    }

    /// The names that lines give rights to.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match &line.principal {
            Principal::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl Principal {
    fn is(&self, principal: Option<&str>) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Everybody => principal.is_some(),
            Self::Name(name) => principal == Some(name),
        }
    }
}

/// Whether a name fits a pattern. Only the last `*` is ever gone back to: what an earlier one could take more of, the last one
/// can too, so the work is the product of the two lengths at most.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut read, mut back) = (0, 0, None);
    while let Some(byte) = name.get(read) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                back = Some((at, read));
            }
            Some(same) if same == byte => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((after, from)) = back else { return false };
                (at, read) = (after, from + 1);
                back = Some((after, from + 1));
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (index, text) in text.lines().enumerate() {
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            let line = parse(text)
                .map_err(|(column, what)| format!("{what}, line={}, column={column}", index + 1))?;
            lines.push(line);
        }
        if lines.is_empty() {
            return Err("no lines PRINCIPAL PATTERN RIGHTS in it".into());
        }
        Ok(Self { lines })
    }
}

/// Reads a line; an error with its column, from one.
fn parse(text: &str) -> Result<Line, (usize, String)> {
    let mut words = Words { text, at: 0 };
    let fail = |column: usize, what: &str| Err((column, what.to_owned()));
    let (_, principal) = words.next();
    let (at_pattern, pattern) = words.next();
    let (at_rights, rights) = words.next();
    if pattern.is_empty() {
        return fail(at_pattern, "no pattern of repositories");
    }
    if rights.is_empty() {
        return fail(at_rights, "no rights: use pull, push, delete or all");
    }
    let (at_more, more) = words.next();
    if !more.is_empty() {
        return fail(at_more, "more than three words");
    }
    let odd = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*".contains(c));
    if let Some(at) = pattern.find(odd) {
        return fail(at_pattern + at, "no repository has this character");
    }
    if pattern.starts_with('/') || pattern.ends_with('/') || pattern.contains("//") {
        return fail(at_pattern, "no repository has an empty part");
    }
    let mut given = Rights::default();
    let mut column = at_rights;
    for right in rights.split(',') {
        given = given.and(match right {
            "pull" => Rights::PULL,
            "push" => Rights { push: true, ..Rights::default() },
            "delete" => Rights { delete: true, ..Rights::default() },
            "all" => Rights::ALL,
            _ => return fail(column, "use pull, push, delete or all, with commas between them"),
        });
        column += right.len() + 1;
    }
    let principal = match principal {
        ANONYMOUS => Principal::Anonymous,
        "*" => Principal::Everybody,
        name => Principal::Name(name.to_owned()),
    };
    Ok(Line { principal, pattern: pattern.to_owned(), rights: given })
}

/// The words of a line with their columns.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> (usize, &'a str) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = self.text.get(start..).unwrap_or_default();
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.at = start + length;
        let column = self.text.get(..start).unwrap_or_default().chars().count() + 1;
        (column, rest.get(..length).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn lines_add_up() {
        let table: Table =
            "# who\nanonymous public/* pull\n\n* team/* pull\n  alice team/app push,delete\nbob * all\n"
                .parse()
                .unwrap();
        let may = |who: Option<&str>, name: &str| {
            let rights = table.of(who, name);
            [Verb::Pull, Verb::Push, Verb::Delete, Verb::Ping, Verb::Catalog].map(|verb| rights.give(verb))
        };
        let [none, pull, all] =
            [[false; 5], [true, false, false, false, false], [true, true, true, false, false]];
        assert_eq!(may(None, "public/a/b"), pull);
        assert_eq!(may(None, "public"), none);
        assert_eq!(may(None, "publics"), none);
        assert_eq!(may(None, "team/app"), none);
        assert_eq!(may(Some("carol"), "team/app"), pull);
        assert_eq!(may(Some("carol"), "team/app/sub"), pull);
        assert_eq!(may(Some("carol"), "team"), none);
        assert_eq!(may(Some("carol"), "public/a"), pull);
        assert_eq!(may(Some("alice"), "team/app"), all);
        assert_eq!(may(Some("alice"), "team/web"), pull);
        assert_eq!(may(Some("bob"), "any/thing"), all);
        assert!(table.has_anonymous_pull());
        assert_eq!(table.names().collect::<Vec<_>>(), ["alice", "bob"]);
        assert!(!Table::everything().has_anonymous_pull());
        assert!(Table::everything().with_anonymous_pull().has_anonymous_pull());
        assert_eq!(Table::everything().of(None, "a"), Rights::default());
    }

    #[test]
    fn patterns() {
        for (pattern, name, fitting) in [
            ("app", "app", true),
            ("app", "app/x", false),
            ("app", "apps", false),
            ("a*", "app", true),
            ("*", "a/b", true),
            ("*-dev", "app-dev", true),
            ("*-dev", "app-dev/x", false),
            ("a*p*", "app", true),
            ("a*x", "app", false),
            ("a/*", "a", false),
            ("a/*", "a/b/c", true),
            ("*/app", "a/b/app", true),
            ("*/app", "a/b/apps", false),
            ("*/app", "app", false),
            ("a/*/z", "a/b/c/z", true),
            ("a*b*b", "abab", true),
            ("**", "a", true),
        ] {
            let table: Table = format!("anonymous {pattern} pull").parse().unwrap();
            assert_eq!(table.of(None, name).give(Verb::Pull), fitting, "{pattern} {name}");
        }
        // Where every star tried every length this would not end.
        let table: Table = format!("anonymous {}c pull", "*a".repeat(60)).parse().unwrap();
        assert!(!table.of(None, &"a".repeat(255)).give(Verb::Pull));
    }

    #[test]
    fn errors_say_where() {
        for (text, what) in [
            ("alice", "no pattern of repositories, line=1, column=6"),
            ("\nalice app", "no rights: use pull, push, delete or all, line=2, column=10"),
            ("alice app pul", "commas between them, line=1, column=11"),
            ("alice app pull,,push", "line=1, column=16"),
            ("alice app pull push", "more than three words, line=1, column=16"),
            ("alice team//app pull", "no repository has an empty part, line=1, column=7"),
            ("alice team/App pull", "no repository has this character, line=1, column=12"),
            ("# nothing\n", "no lines"),
        ] {
            let error = text.parse::<Table>().unwrap_err();
            assert!(error.ends_with(what) || error.contains(what), "{text}: {error}");
        }
    }
}
