//! What the names and the links in an archive may say, by their text alone.

use crate::place::Relative;

/// Deeper than that nothing is packed that is meant well.
const MAX_DEPTH: usize = 256;
/// What the system takes as one path.
const MAX_PATH: usize = 4095;

/// The names of a path below the directory that the archive is of.
pub(crate) fn below(path: &[u8], directory: &Relative) -> Result<Vec<Vec<u8>>, &'static str> {
    if path.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if path.contains(&0) {
        return Err("has a NUL in its name");
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("leads out of its directory"),
            name => names.push(name.to_vec()),
        }
    }
    let prefix: Vec<&[u8]> = directory.names().map(str::as_bytes).collect();
    if names.len() > prefix.len() + MAX_DEPTH {
        return Err("is too deep");
    }
    if names.iter().map(|name| name.len() + 1).sum::<usize>() > MAX_PATH {
        return Err("has too long a path");
    }
    let rest = names.split_off(prefix.len().min(names.len()));
    if names == prefix { Ok(rest) } else { Err("is not in its directory") }
}

/// The names of a path from a directory inside.
pub(crate) fn beside(above: &[Vec<u8>], path: &[u8]) -> Result<Vec<Vec<u8>>, ()> {
    if path.starts_with(b"/") || path.contains(&0) {
        return Err(());
    }
    let mut names = above.to_vec();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop().ok_or(())?),
            name => names.push(name.to_vec()),
        }
        if names.len() > MAX_DEPTH {
            return Err(());
        }
    }
    Ok(names)
}

/// Whether a symbolic link so many directories below the root leads out of it, by its text alone.
pub(crate) fn leads_out(link: &[u8], depth: usize) -> bool {
    if link.starts_with(b"/") {
        return true;
    }
    let mut depth = depth;
    for name in link.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// Whether a `..` stands behind a name, which could be that of another link.
pub(crate) fn goes_up_again(link: &[u8]) -> bool {
    let names = link.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.skip_while(|name| *name == b"..").any(|name| name == b"..")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn entries_stay_below_their_directory() {
        let directory = Relative::parse("a/b").unwrap();
        for (path, names) in [
            ("a/b", &[][..]),
            ("a/b/", &[]),
            ("./a//b/c", &["c"]),
            ("a/b/c/./d/", &["c", "d"]),
            ("a/b/...", &["..."]),
        ] {
            let found = below(path.as_bytes(), &directory).unwrap();
            assert_eq!(
                found,
                names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>(),
                "{path}"
            );
        }
        for path in ["", "a", "a/c", "ab", "/a/b/c", "a/b/../c", "..", "a/b/c\0d", "a/bc"] {
            assert!(below(path.as_bytes(), &directory).is_err(), "{path:?}");
        }
        let deep = format!("a/b/{}", "d/".repeat(300));
        assert_eq!(below(deep.as_bytes(), &directory), Err("is too deep"));
    }

    #[test]
    fn links_by_their_text() {
        for (link, depth, out) in [
            ("a", 0, false),
            ("./a/../b", 0, false),
            ("..", 0, true),
            ("..", 1, false),
            ("../..", 1, true),
            ("a/../..", 0, true),
            ("a/../../b", 1, false),
            ("/etc", 5, true),
            ("/", 5, true),
        ] {
            assert_eq!(leads_out(link.as_bytes(), depth), out, "{link} {depth}");
        }
    }

    #[test]
    fn links_that_go_up_again() {
        for link in ["a", "../a", "../../a/b", ".././../a", "..", "./a", "a/..b", "a//b/."] {
            assert!(!goes_up_again(link.as_bytes()), "{link}");
        }
        for link in ["a/..", "../a/../b", "./a/./..", "a/b/z/../.."] {
            assert!(goes_up_again(link.as_bytes()), "{link}");
        }
    }
}
