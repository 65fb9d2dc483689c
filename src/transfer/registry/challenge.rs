//! What a registry answers to who is not known to it (RFC 9110, section 11.6.1; the token specification of Docker's registry).

/// The longest header that is read, in bytes, and how many challenges and parameters of each.
const MAX_HEADER: usize = 8192;
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// One way to say who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from a service.
    Bearer(Bearer),
}

/// Where tokens come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Bearer {
    /// The address of the service.
    pub(super) realm: String,
    /// The name by which it knows the registry.
    pub(super) service: Option<String>,
    /// What the token must allow, separated by spaces.
    pub(super) scope: Option<String>,
    /// Why a token that came was not taken.
    pub(super) error: Option<String>,
}

/// The challenges of all `WWW-Authenticate` headers of an answer, in order; what is not understood is left out.
pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for header in headers.into_iter().take(MAX_CHALLENGES).filter(|header| header.len() <= MAX_HEADER) {
        for (scheme, parameters) in split(header) {
            if challenges.len() == MAX_CHALLENGES {
                return challenges;
            }
            challenges.extend(challenge(scheme, parameters));
        }
    }
    challenges
}

fn challenge(scheme: &str, parameters: Vec<(&str, String)>) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut bearer = Bearer::default();
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => bearer.realm = value,
            "service" => bearer.service = Some(value),
            "scope" => bearer.scope = Some(value),
            "error" => bearer.error = Some(value),
            _ => {}
        }
    }
    (!bearer.realm.is_empty()).then_some(Challenge::Bearer(bearer))
}

/// The schemes of one header with their parameters. Both are separated by commas: a word that no `=` follows is a scheme.
fn split(header: &str) -> Vec<(&str, Vec<(&str, String)>)> {
    let mut found: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let spaced = behind.trim_start_matches([' ', '\t']);
        let Some(value) = spaced.strip_prefix('=') else {
            if found.len() == MAX_CHALLENGES {
                return found;
            }
            found.push((word, Vec::new()));
            rest = spaced;
            continue;
        };
        let Some((value, behind)) = value_of(value.trim_start_matches([' ', '\t'])) else { return found };
        if let Some((_, parameters)) = found.last_mut()
            && parameters.len() < MAX_PARAMETERS
        {
            parameters.push((word, value));
        }
        rest = behind;
    }
}

/// A value in quotes or not, and what is behind it. None where a quote is not closed.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |value: Option<&str>| value.map(str::to_owned);
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: owned(service),
            scope: owned(scope),
            error: None,
        })
    }

    #[test]
    fn as_registries_write_them() {
        let cases: [(&[&str], Vec<Challenge>); 9] = [
            (&["Basic realm=\"a\""], vec![Challenge::Basic]),
            (&["basic"], vec![Challenge::Basic]),
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#],
                vec![bearer("https://a/t", Some("s"), Some("repository:a:pull,push"))],
            ),
            (&[r#"Bearer realm = "https://a/t" , Service=s"#], vec![bearer("https://a/t", Some("s"), None)]),
            (
                &[r#"Negotiate, Bearer realm="x", Basic realm="y, z=1""#],
                vec![bearer("x", None, None), Challenge::Basic],
            ),
            (&[r#"Bearer realm="x""#, "Basic"], vec![bearer("x", None, None), Challenge::Basic]),
            (&[r#"Bearer realm="a\"b\\c""#], vec![bearer("a\"b\\c", None, None)]),
            (&["Bearer scope=\"x\""], vec![]),
            (&["Bearer realm=\"x", "", ",,", "=", "Digest a=\"b\""], vec![]),
        ];
        for (headers, expected) in cases {
            assert_eq!(parse(headers.iter().copied()), expected, "{headers:?}");
        }
        let error = parse([r#"Bearer realm="x",error="insufficient_scope""#]);
        assert!(
            matches!(&*error, [Challenge::Bearer(Bearer { error: Some(error), .. })] if error == "insufficient_scope")
        );
    }

    #[test]
    fn bounded() {
        assert!(parse(["Basic ".repeat(9000).as_str()]).is_empty());
        assert_eq!(parse(["Basic,".repeat(1000).as_str()]).len(), MAX_CHALLENGES);
        assert_eq!(parse(std::iter::repeat_n("Basic", 1000)).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}|[a-zB=\", \\\\]{0,60}") {
            parse([text.as_str()]);
        }

        #[test]
        fn values_are_what_was_quoted(value in "[ -~]{1,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Basic, Bearer realm=\"{quoted}\", Basic");
            prop_assert_eq!(parse([header.as_str()]), [Challenge::Basic, bearer(&value, None, None), Challenge::Basic]);
        }
    }
}
