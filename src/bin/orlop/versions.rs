//! Ranges of versions as skopeo's `images-by-semver` has them: `>=1.2.0, <2`, `~1.2`, `^1.4.1`, `1.x`, `1.2 - 1.4`, with `||` between.

use std::cmp::Ordering;
use std::str::FromStr;

/// A version: three numbers, and what is before its release.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

/// Any of these, each of which is all of those.
#[derive(Clone, Debug)]
pub(crate) struct Range(Vec<Vec<Bound>>);

#[derive(Clone, Debug)]
struct Bound {
    is: fn(Ordering) -> bool,
    version: Version,
}

impl Version {
    /// As people write tags: a `v` before it, and numbers left out at the end, are allowed. With how many numbers were given.
    fn parse(text: &str) -> Option<(Self, usize)> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next()?;
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(a, b)| (a, Some(b)));
        let mut found = [0; 3];
        let mut count = 0;
        for part in numbers.split('.') {
            let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *found.get_mut(count)? = part.parse().ok().filter(|_| is_number)?;
            count += 1;
        }
        let pre: Vec<String> = pre.map(|pre| pre.split('.').map(str::to_owned).collect()).unwrap_or_default();
        if pre.iter().any(String::is_empty) {
            return None;
        }
        Some((Self { numbers: found, pre }, count))
    }

    /// What the next number up to `places` makes of it.
    fn next(&self, places: usize) -> Self {
        let mut numbers = [0; 3];
        for (index, (to, from)) in numbers.iter_mut().zip(self.numbers).enumerate() {
            *to = match (index + 1).cmp(&places) {
                Ordering::Less => from,
                Ordering::Equal => from.saturating_add(1),
                Ordering::Greater => 0,
            };
        }
        Self { numbers, pre: Vec::new() }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |one: &String, other: &String| match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => one.cmp(other),
        };
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => {
                let parts = self.pre.iter().zip(&other.pre);
                let first = parts.map(|(one, other)| part(one, other)).find(|order| order.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl Range {
    /// Whether a tag is a version of the range. One before a release is only if the range names such.
    pub(crate) fn holds(&self, tag: &str) -> bool {
        let Some((version, _)) = Version::parse(tag) else { return false };
        self.0.iter().any(|bounds| {
            let allows = version.pre.is_empty() || bounds.iter().any(|bound| !bound.version.pre.is_empty());
            allows && bounds.iter().all(|bound| (bound.is)(version.cmp(&bound.version)))
        })
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split("||").map(bounds).collect::<Result<_, _>>().map(Self)
    }
}

fn bounds(text: &str) -> Result<Vec<Bound>, String> {
    if let Some((from, to)) = text.split_once(" - ") {
        let mut all = comparison(&format!(">={}", from.trim()))?;
        all.extend(comparison(&format!("<={}", to.trim()))?);
        return Ok(all);
    }
    // An operator may stand apart from its version.
    let mut words: Vec<String> = Vec::new();
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if last.ends_with(['=', '<', '>', '~', '^', '!']) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    if words.is_empty() {
        return Err(format!("no version in the range, range={text}"));
    }
    let mut all = Vec::new();
    for word in words {
        all.extend(comparison(&word)?);
    }
    Ok(all)
}

fn comparison(word: &str) -> Result<Vec<Bound>, String> {
    let at = word.find(|c: char| !"=<>~^!".contains(c)).unwrap_or(word.len());
    let (operator, text) = word.split_at(at);
    let unknown = || format!("no range of versions, found={word}");
    let given: Vec<&str> = text.split('.').take_while(|part| !matches!(*part, "x" | "X" | "*")).collect();
    let is_open = given.len() < text.split('.').count();
    let (version, count) = if given.is_empty() || given == ["v"] {
        (Version { numbers: [0; 3], pre: Vec::new() }, 0)
    } else {
        Version::parse(&given.join(".")).ok_or_else(unknown)?
    };
    let bound = |is: fn(Ordering) -> bool, version: Version| Bound { is, version };
    let up_to = |places: usize| {
        let mut all = vec![bound(Ordering::is_ge, version.clone())];
        if places > 0 {
            all.push(bound(Ordering::is_lt, version.next(places)));
        }
        all
    };
    Ok(match operator {
        "" | "=" if is_open || count < 3 => up_to(count),
        "" | "=" => vec![bound(Ordering::is_eq, version)],
        "!=" if count == 3 => vec![bound(Ordering::is_ne, version)],
        ">=" | "=>" => vec![bound(Ordering::is_ge, version)],
        "<" => vec![bound(Ordering::is_lt, version)],
        // Above 1.2 is above all of 1.2, and up to 1.2 takes all of it.
        ">" if count < 3 => vec![bound(Ordering::is_ge, version.next(count.max(1)))],
        ">" => vec![bound(Ordering::is_gt, version)],
        "<=" | "=<" if count < 3 => vec![bound(Ordering::is_lt, version.next(count.max(1)))],
        "<=" | "=<" => vec![bound(Ordering::is_le, version)],
        "~" | "~>" => up_to(count.min(2)),
        "^" => {
            let first = version.numbers.iter().take(count).position(|number| *number > 0);
            up_to(first.map_or(count, |at| at + 1))
        }
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn tags_are_in_ranges() {
        let cases: [(&str, &[&str], &[&str]); 12] = [
            (">= 3.12.0", &["3.12", "v3.12.1", "4"], &["3.11.9", "latest", "3.13.0-rc1", "3.12.0-alpine"]),
            (">=1.2, <2", &["1.2", "1.99.9"], &["2.0.0", "1.1"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
            ("~1", &["1.0", "1.9"], &["2"]),
            ("^1.2.3", &["1.9.9"], &["2.0.0", "1.2.2"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0"]),
            ("1.x", &["1", "1.7"], &["2", "0.9"]),
            ("1.2 - 1.4", &["1.2.0", "1.4.7"], &["1.5", "1.1.9"]),
            ("1.2.3 || >3", &["1.2.3", "4"], &["3.1", "1.2.4"]),
            ("!=1.2.3", &["1.2.4"], &["1.2.3"]),
            (">=1.0.0-rc1", &["1.0.0-rc2", "1.0.0"], &["1.0.0-beta"]),
            ("*", &["0.1", "9"], &["x"]),
        ];
        for (range, held, others) in cases {
            let parsed: Range = range.parse().unwrap();
            for tag in held {
                assert!(parsed.holds(tag), "{range} {tag}");
            }
            for tag in others {
                assert!(!parsed.holds(tag), "{range} {tag}");
            }
        }
        for text in ["", "a", ">", "1.2.3.4", "!=1", "<>1", "1..2", "99999999999999999999"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
