//! Names of what is in registries: `registry.example:5000/app:v1`, `localhost/app@sha256:..`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use super::{Reference, RepositoryName};
use crate::digest::excerpt;
use crate::error::{Error, Result};

/// The name under which Docker Hub goes in references.
const DOCKER_HUB: &str = "docker.io";
/// Where its registry answers.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The namespace of its repositories that are written without one.
const DOCKER_HUB_LIBRARY: &str = "library";

/// The name of a registry: a host, and a port where it is not the usual one. Cheap to clone.
///
/// `index.docker.io` and `registry-1.docker.io` are `docker.io`. Letters are lower-case, as hosts have no case.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegistryName(Arc<str>);

impl RegistryName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port that the registry answers under: for Docker Hub another than its name.
    #[must_use]
    pub fn authority(&self) -> &str {
        if self.is_docker_hub() { DOCKER_HUB_API } else { &self.0 }
    }

    /// The host without the port; an address of IPv6 is without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        split_port(&self.0).map_or("", |(host, _)| host.trim_start_matches('[').trim_end_matches(']'))
    }

    /// Whether it is on this machine: `localhost`, or an address of the loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether it is Docker Hub.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// Whether the first component of a name can only be that of a registry: it has a dot or a port, or is `localhost`.
    fn is_clear(text: &str) -> bool {
        text == "localhost" || text.contains(['.', ':'])
    }
}

impl FromStr for RegistryName {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self> {
        if value.len() <= Self::MAX_LEN && split_port(value).is_some_and(|(host, _)| host_fits(host)) {
            let name = value.to_ascii_lowercase();
            return Ok(Self(match name.as_str() {
                "index.docker.io" | DOCKER_HUB_API => DOCKER_HUB.into(),
                name => name.into(),
            }));
        }
        Err(Error::invalid(format!("not the name of a registry, HOST[:PORT], registry={}", excerpt(value))))
    }
}

/// Takes the port off a host; none where what is behind the colon is no port.
fn split_port(value: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an address of IPv6 stand in brackets.
    let end = value.find(']').map_or(0, |at| at + 1);
    match value.get(end..)?.split_once(':') {
        Some((rest, port)) => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port: u16 = port.parse().ok().filter(|port| digits && *port != 0)?;
            Some((value.get(..end + rest.len())?, Some(port)))
        }
        None => Some((value, None)),
    }
}

/// A name of the DNS (underscores are not in it, but in use), or an address.
fn host_fits(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    host.split('.').all(|label| {
        let word = |b: u8| b.is_ascii_alphanumeric();
        let ends = label.bytes().next().is_some_and(word) && label.bytes().next_back().is_some_and(word);
        ends && label.len() <= 63 && label.bytes().all(|b| word(b) || matches!(b, b'-' | b'_'))
    })
}

/// Names a repository of a registry, or one manifest of it: `REGISTRY/REPOSITORY[:TAG|@DIGEST]`.
///
/// Of a tag and a digest together the digest counts, as everywhere. On Docker Hub a repository of one component is in
/// `library`. A name without a host is none of these: `alpine` could as well be anything else.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RemoteName {
    /// The registry.
    pub registry: RegistryName,
    /// The repository, which is never the unnamed one.
    pub repository: RepositoryName,
    /// The manifest, if one is named.
    pub reference: Option<Reference>,
}

impl RemoteName {
    /// A repository, or a manifest of it.
    ///
    /// # Errors
    ///
    /// `Invalid` for the unnamed repository, which no registry has.
    pub fn new(
        registry: RegistryName,
        repository: RepositoryName,
        reference: Option<Reference>,
    ) -> Result<Self> {
        if repository.is_unnamed() {
            return Err(Error::invalid(format!(
                "a repository of a registry needs a name, registry={registry}"
            )));
        }
        Ok(Self { registry, repository, reference })
    }

    /// The same with another manifest, or none.
    #[must_use]
    pub fn with_reference(mut self, reference: Option<Reference>) -> Self {
        self.reference = reference;
        self
    }
}

impl FromStr for RemoteName {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self> {
        let whole = || excerpt(value);
        let Some((registry, path)) = value.split_once('/').filter(|(host, _)| RegistryName::is_clear(host))
        else {
            return Err(Error::invalid(format!(
                "names no registry, which is the host before the first slash, reference={}",
                whole()
            )));
        };
        let registry: RegistryName = registry.parse()?;
        let (name, digest) = match path.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (path, None),
        };
        let (name, tag) = match name.split_once(':') {
            Some((name, tag)) => (name, Some(tag.parse()?)),
            None => (name, None),
        };
        let reference = digest.map(Reference::Digest).or_else(|| tag.map(Reference::Tag));
        let repository = if registry.is_docker_hub() && !name.contains('/') && !name.is_empty() {
            format!("{DOCKER_HUB_LIBRARY}/{name}").parse()?
        } else {
            name.parse()?
        };
        Self::new(registry, repository, reference)
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.reference {
            Some(Reference::Tag(tag)) => write!(f, ":{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::error::ErrorKind;

    #[test]
    fn registries() {
        for good in
            ["localhost", "a.b", "a", "127.0.0.1:5000", "a-b.c_d:1", "[::1]:5000", "[::1]", "9.x:65535"]
        {
            assert_eq!(good.parse::<RegistryName>().unwrap().as_str(), good);
        }
        let hub: RegistryName = "Index.Docker.IO".parse().unwrap();
        assert_eq!((hub.as_str(), hub.authority()), ("docker.io", "registry-1.docker.io"));
        let long = format!("{}.x", "a".repeat(64));
        for bad in [
            "", ":5000", "a:", "a:0", "a:65536", "a:+1", "a:b", "-a", "a-", "a..b", ".", "[::1", "[x]:1",
            "a b", "a/b", "\u{e9}", "::1", &long,
        ] {
            assert_eq!(bad.parse::<RegistryName>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn this_machine() {
        for (name, local) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("x.localhost", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1", false),
            ("[::2]", false),
        ] {
            assert_eq!(name.parse::<RegistryName>().unwrap().is_loopback(), local, "{name}");
        }
    }

    #[test]
    fn references() {
        let digest = Digest::of(b"");
        for (text, shown) in [
            ("localhost/a", "localhost/a".to_owned()),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1".into()),
            ("Host.example/a:V1", "host.example/a:V1".into()),
            ("docker.io/alpine:3", "docker.io/library/alpine:3".into()),
            ("registry-1.docker.io/library/alpine", "docker.io/library/alpine".into()),
            ("docker.io/me/app", "docker.io/me/app".into()),
            (&format!("h:1/a@{digest}"), format!("h:1/a@{digest}")),
            (&format!("h:1/a:v1@{digest}"), format!("h:1/a@{digest}")),
        ] {
            assert_eq!(text.parse::<RemoteName>().unwrap().to_string(), shown, "{text}");
        }
        for bad in [
            "",
            "alpine",
            "alpine:3",
            "me/app",
            "localhost",
            "localhost/",
            "h.x/",
            "h.x/A",
            "h.x/a:",
            "h.x/a@",
            "h.x/a@sha256:0",
            "h.x//a",
            "/a",
            "h.x/a:v1:v2",
            "docker.io/",
            "https://h.x/a",
            "h.x:port/a",
        ] {
            assert_eq!(bad.parse::<RemoteName>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        assert!(RemoteName::new("h".parse().unwrap(), RepositoryName::unnamed(), None).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_what_it_means(text in "\\PC{0,20}|[a-z.:/@\\[\\]0-9]{0,40}") {
            if let Ok(name) = text.parse::<RemoteName>() {
                prop_assert_eq!(name.to_string().parse::<RemoteName>().unwrap(), name);
            }
        }
    }
}
