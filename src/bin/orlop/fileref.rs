//! `FILE[:MEDIATYPE]`, and the name that a file keeps in an artifact.

use std::path::{Component, Path, PathBuf};

use orlop::oci::media_type;

use crate::error::Failure;

/// Splits `FILE[:MEDIATYPE]` at the last colon.
pub(crate) fn split(argument: &str) -> Result<(PathBuf, Option<String>), Failure> {
    let (path, media_type) = match argument.rsplit_once(':') {
        None => (argument, ""),
        Some(parts) => parts,
    };
    if path.is_empty() {
        return Err(Failure::usage(format!("argument names no file, argument={argument}"))
            .with_hint("FILE or FILE:MEDIATYPE"));
    }
    if media_type.is_empty() {
        return Ok((path.into(), None));
    }
    check_media_type(media_type).map_err(|failure| {
        failure.with_hint(format!(
            "FILE:MEDIATYPE; a colon at the end says that the file is called {argument}: `{argument}:`"
        ))
    })?;
    Ok((path.into(), Some(media_type.into())))
}

pub(crate) fn check_media_type(value: &str) -> Result<(), Failure> {
    media_type::validate(media_type::essence(value)).map_err(|error| Failure::usage(error.to_string()))
}

/// The name that a file keeps in the artifact: its path without `.`, doubled slashes, and `..` behind a name.
pub(crate) fn clean(path: &Path) -> String {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            Component::ParentDir if clean.is_absolute() => {}
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    // Arguments are text, so this loses nothing.
    clean.to_string_lossy().into_owned()
}

/// Refuses names that a pull would refuse.
pub(crate) fn check_title(title: &str) -> Result<(), Failure> {
    match crate::place::Relative::parse(title) {
        Ok(_) => Ok(()),
        Err(what) => Err(Failure::usage(format!("name of a file {what}, name={title}")).with_hint(
            "give a path below this directory; --disable-path-validation keeps the name as it is",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn names_are_cleaned() {
        let cases = [
            ("a", "a"),
            ("./a", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/a/../../b", "/b"),
            (".", "."),
            ("a/..", "."),
            ("../../a", "../../a"),
        ];
        for (path, name) in cases {
            assert_eq!(clean(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn the_last_colon_begins_the_media_type() {
        let parts = |argument| {
            split(argument).map(|(path, media_type)| {
                (path.to_str().unwrap().to_owned(), media_type.unwrap_or_else(|| "x/y".into()))
            })
        };
        let cases = [
            ("a", "a", "x/y"),
            ("a:text/plain", "a", "text/plain"),
            ("a:b:", "a:b", "x/y"),
            ("a:b:c/d", "a:b", "c/d"),
            ("a:text/plain;charset=utf-8", "a", "text/plain;charset=utf-8"),
        ];
        for (argument, path, media_type) in cases {
            assert_eq!(parts(argument).unwrap(), (path.to_owned(), media_type.to_owned()), "{argument}");
        }
        assert!(parts("a:b").unwrap_err().hint().unwrap().contains("`a:b:`"));
        assert!(parts(":x/y").unwrap_err().chain().contains("argument=:x/y"));
    }
}
