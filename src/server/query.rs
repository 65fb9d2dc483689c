//! The query of a request.

use std::borrow::Cow;

/// The parameters behind the question mark, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Every value of a parameter, decoded; what is no text in UTF-8 is left out.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.pairs().filter(move |(key, _)| *key == name).filter_map(|(_, value)| decode(value, true))
    }

    /// The first value of a parameter.
    pub(super) fn first(self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next()
    }
}

/// Takes percent-encoding away, and in queries the plus that stands for a space. None for what is not UTF-8 then.
pub(super) fn decode(text: &str, plus: bool) -> Option<Cow<'_, str>> {
    if !(text.contains('%') || plus && text.contains('+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                out.push(u8::try_from(16 * high + low).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// A value for a query, with everything encoded that could end it.
pub(super) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_come_more_than_once() {
        let uri: http::Uri =
            "/v2/?tag=a&n=1&tag=b%2Bc&x&artifactType=&bad=%f&y=1+2".parse().unwrap_or_default();
        let query = Query::of(&uri);
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c"]);
        assert_eq!(query.first("artifactType").as_deref(), Some(""));
        assert_eq!(query.first("x").as_deref(), Some(""));
        assert_eq!(query.first("bad"), None);
        assert_eq!(query.first("y").as_deref(), Some("1 2"));
        assert_eq!(query.first("nothing"), None);
        assert_eq!(decode(&encode("a b+c/%"), true).as_deref(), Some("a b+c/%"));
    }
}
