//! Where the next page of a list is (RFC 8288, as the distribution-spec uses it).

/// The longest header that is read, in bytes.
const MAX_HEADER: usize = 8192;

/// A header that may name a next page, and cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

/// The target of the first link that is called `next`; nothing if none is.
pub(super) fn next(header: &str) -> Result<Option<&str>, Unreadable> {
    if header.len() > MAX_HEADER {
        return Err(Unreadable);
    }
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(None);
        }
        let target = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (target, behind) = target.ok_or(Unreadable)?;
        let (is_next, behind) = parameters(behind).ok_or(Unreadable)?;
        if is_next {
            return Ok(Some(target));
        }
        rest = behind;
    }
}

/// Whether the parameters of a link say that it is the next page, and what is behind them.
fn parameters(mut rest: &str) -> Option<(bool, &str)> {
    let mut is_next = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(parameter) = rest.strip_prefix(';') else { return Some((is_next, rest)) };
        let parameter = parameter.trim_start_matches([' ', '\t']);
        let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
        let (name, behind) = parameter.split_at(end);
        let Some(value) = behind.strip_prefix('=') else {
            rest = behind;
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find([';', ',', ' ']).unwrap_or(value.len())),
        };
        if name.trim_ascii().eq_ignore_ascii_case("rel") {
            is_next |= value.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"));
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_registries_write_them() {
        for (header, expected) in [
            (r#"</v2/a/tags/list?n=1&last=x>; rel="next""#, Some("/v2/a/tags/list?n=1&last=x")),
            ("<https://h/x>;rel=next", Some("https://h/x")),
            (r#"<a>; rel="prev", <b>; title="x,>"; rel="next""#, Some("b")),
            (r#"<a>; rel="last next""#, Some("a")),
            (r#"<a,b;c>; REL = "next""#, Some("a,b;c")),
            (r#"<a>; rel="prev""#, None),
            ("<a>", None),
            ("<a>; rel=preload, ", None),
            ("", None),
        ] {
            assert_eq!(next(header), Ok(expected), "{header}");
        }
        for header in
            ["a; rel=next", "<a; rel=next", r#"<a>; rel="next"#, "<a>; rel=prev, b; rel=next", "<a> rel=next"]
        {
            assert_eq!(next(header), Err(Unreadable), "{header}");
        }
        assert_eq!(next(&format!("<{}>; rel=next", "a".repeat(MAX_HEADER))), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}|[<>;=, \"relnxt]{0,60}") {
            let _ = next(&text);
        }
    }
}
