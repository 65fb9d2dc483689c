//! Addresses: where a registry answers, and where it sends its clients.

use reqwest::Url;

use crate::digest::excerpt;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::RegistryName;

/// The longest address that is followed, in bytes.
const MAX_ADDRESS: usize = 8192;

/// Where a registry answers, with a slash at the end.
pub(super) fn base(registry: &RegistryName, plain: bool) -> Result<Url> {
    let scheme = if plain { "http" } else { "https" };
    let text = format!("{scheme}://{}/", registry.authority());
    Url::parse(&text).map_err(|error| {
        Error::invalid(format!("not the name of a host, registry={registry}")).with_source(error)
    })
}

/// Whether two addresses are of one server: what is said to it may be said again.
pub(super) fn same_origin(left: &Url, right: &Url) -> bool {
    left.scheme() == right.scheme()
        && left.host() == right.host()
        && left.port_or_known_default() == right.port_or_known_default()
}

/// The address that `to` means in an answer from `from`.
///
/// # Errors
///
/// `Unavailable` for what is none, has a name and a password in it, or leads from HTTPS to anything else.
pub(super) fn follow(from: &Url, to: &str) -> Result<Url> {
    let refused = |why: &str| {
        let host = from.host_str().unwrap_or_default();
        Error::new(ErrorKind::Unavailable, format!("{why}, host={host}, location={}", without_query(to)))
    };
    if to.is_empty() || to.len() > MAX_ADDRESS {
        return Err(refused("an answer leads to no address"));
    }
    let url = from.join(to).map_err(|_| refused("an answer leads to no address"))?;
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(refused("an answer leads from HTTPS to HTTP")),
        _ => return Err(refused("an answer leads to no web address")),
    }
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err(refused("an answer leads to an address with a name in it"));
    }
    Ok(url)
}

/// An address for a message, which many may read: what is behind it, and a name and password in it, let whoever has them in.
pub(super) fn without_query(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let address = address.get(..end).unwrap_or_default();
    let (scheme, rest) = address.find("//").map_or(("", address), |at| address.split_at(at + 2));
    let host = rest.find('/').unwrap_or(rest.len());
    let secret = rest.get(..host).and_then(|host| host.rfind('@')).map_or(0, |at| at + 1);
    excerpt(&format!("{scheme}{}", rest.get(secret..).unwrap_or_default())).to_string()
}

/// The address with one more parameter; those that are there stay as they are written.
pub(super) fn with_parameter(mut url: Url, name: &str, value: &str) -> Url {
    let mut query = url.query().unwrap_or_default().to_owned();
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    encode(value, &mut query);
    url.set_query(Some(&query));
    url
}

/// Appends a value with all but the unreserved characters, and those that registries have always been sent as they are,
/// escaped.
pub(super) fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bases() {
        for (name, plain, expected) in [
            ("h.x", false, "https://h.x/"),
            ("h.x:5000", true, "http://h.x:5000/"),
            ("docker.io", false, "https://registry-1.docker.io/"),
            ("[::1]:5000", true, "http://[::1]:5000/"),
        ] {
            assert_eq!(base(&name.parse().unwrap(), plain).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn followed_or_not() {
        let from = Url::parse("https://h.x/v2/a/blobs/uploads/?x=1").unwrap();
        for (to, expected) in [
            ("/v2/a/blobs/uploads/1?state=a%3D", "https://h.x/v2/a/blobs/uploads/1?state=a%3D"),
            ("https://cdn.x/1", "https://cdn.x/1"),
            ("//cdn.x/1", "https://cdn.x/1"),
            ("1", "https://h.x/v2/a/blobs/uploads/1"),
        ] {
            assert_eq!(follow(&from, to).unwrap().as_str(), expected);
        }
        for to in [
            "",
            "http://h.x/1",
            "ftp://h.x/",
            "file:///etc",
            "https://me:pw@h.x/",
            "https://",
            "data:x",
            &"a".repeat(9000),
        ] {
            assert_eq!(follow(&from, to).unwrap_err().kind(), ErrorKind::Unavailable, "{to}");
        }
        let signed = "http://me:pw@cdn.x/1?X-Amz-Signature=secret#frag";
        let message = follow(&from, signed).unwrap_err().to_string();
        assert!(message.ends_with("location=http://cdn.x/1"), "{message}");
        let plain = Url::parse("http://h.x/").unwrap();
        assert!(follow(&plain, "https://h.x/").is_ok());
        let same =
            |left: &str, right: &str| same_origin(&Url::parse(left).unwrap(), &Url::parse(right).unwrap());
        assert!(same("https://h.x/a", "https://h.x:443/b"));
        for other in ["http://h.x/", "https://h.x:444/", "https://i.x/", "https://h.x.y/"] {
            assert!(!same("https://h.x/", other), "{other}");
        }
    }

    #[test]
    fn parameters_are_added() {
        let add = |url: &str| with_parameter(Url::parse(url).unwrap(), "digest", "sha256:a+b c").to_string();
        assert_eq!(add("https://h/u"), "https://h/u?digest=sha256:a%2Bb%20c");
        assert_eq!(add("https://h/u?s=a%3D"), "https://h/u?s=a%3D&digest=sha256:a%2Bb%20c");
        assert_eq!(add("https://h/u?"), "https://h/u?digest=sha256:a%2Bb%20c");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_downgrades(to in "\\PC{0,60}|(https?:)?[a-z/:@.?#%]{0,40}") {
            let from = Url::parse("https://h.x/v2/").unwrap();
            if let Ok(url) = follow(&from, &to) {
                prop_assert_eq!(url.scheme(), "https");
                with_parameter(url, "digest", &to);
            }
        }
    }
}
