//! The document that docker, podman and oras keep credentials in (`config.json`, `auth.json`): read, and changed without
//! touching what it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::credential::Credential;
use crate::error::{Error, Result};
use crate::oci::{RegistryName, RepositoryName, base64};

/// The largest document that is read, in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// What Docker calls its hub, where every other registry goes by its host.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The members that are known; the others are kept as they are.
const AUTHS: &str = "auths";
const HELPERS: &str = "credHelpers";
const STORE: &str = "credsStore";

/// A document.
#[derive(Debug, Default)]
pub(super) struct AuthFile {
    members: BTreeMap<String, Box<RawValue>>,
    auths: BTreeMap<String, Box<RawValue>>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Entry {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text")]
    auth: String,
    #[serde(skip_serializing, deserialize_with = "text")]
    username: String,
    #[serde(skip_serializing, deserialize_with = "text")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text")]
    identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "text")]
    registrytoken: String,
}

/// A text, or `null` for the empty one.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl AuthFile {
    /// Reads a document; an empty one is as none.
    ///
    /// # Errors
    ///
    /// `Invalid` for what is not one; nothing of its values is in the message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // What serde says may quote a secret; line and column are enough.
        let broken = |error: &serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            Error::invalid(format!("not a file of credentials, line={line}, column={column}"))
        };
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
        fn member<'a, T: Deserialize<'a> + Default>(
            members: &'a BTreeMap<String, Box<RawValue>>,
            name: &str,
        ) -> Result<T, serde_json::Error> {
            let Some(raw) = members.get(name) else { return Ok(T::default()) };
            Ok(serde_json::from_str::<Option<T>>(raw.get())?.unwrap_or_default())
        }
        let auths = member(&members, AUTHS).map_err(|error| broken(&error))?;
        let helpers = member(&members, HELPERS).map_err(|error| broken(&error))?;
        let store = member::<String>(&members, STORE).map_err(|error| broken(&error))?;
        let store = Some(store).filter(|store| !store.is_empty());
        Ok(Self { members, auths, helpers, store })
    }

    /// The helper that keeps the credentials of a repository or a registry, and the name under which it does.
    pub(super) fn helper(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Option<(&str, String)> {
        for key in keys(registry, repository) {
            if let Some(helper) = self.helpers.get(&key).filter(|helper| !helper.is_empty()) {
                let name = if key == registry.as_str() { key_of(registry) } else { key };
                return Some((helper, name));
            }
        }
        Some((self.store.as_deref()?, key_of(registry)))
    }

    /// The credential that the document itself has for a repository or a registry: of the longest name that fits.
    ///
    /// # Errors
    ///
    /// `Invalid` for an entry that cannot be read.
    pub(super) fn find(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credential>> {
        for key in keys(registry, repository) {
            if let Some(entry) = self.auths.get(&key)
                && let Some(credential) = read(&key, entry)?
            {
                return Ok(Some(credential));
            }
        }
        // Old versions of docker wrote addresses.
        for (key, entry) in &self.auths {
            let Some(rest) = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) else {
                continue;
            };
            let host = rest.split('/').next().unwrap_or_default();
            if host.parse::<RegistryName>().is_ok_and(|name| name == *registry)
                && let Some(credential) = read(key, entry)?
            {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// The document with another credential of a registry, or without: what there was under any of its names goes.
    pub(super) fn with(
        mut self,
        registry: &RegistryName,
        credential: Option<&Credential>,
    ) -> Result<Vec<u8>> {
        for key in keys(registry, None) {
            self.auths.remove(&key);
        }
        if let Some(credential) = credential {
            self.auths.insert(key_of(registry), raw(&entry(credential))?);
        }
        if self.auths.is_empty() {
            self.members.remove(AUTHS);
        } else {
            self.members.insert(AUTHS.into(), raw(&self.auths)?);
        }
        let mut text = serde_json::to_vec_pretty(&self.members).map_err(unwritable)?;
        text.push(b'\n');
        Ok(text)
    }
}

fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(unwritable)
}

#[cold]
fn unwritable(error: serde_json::Error) -> Error {
    Error::invalid("cannot write a file of credentials").with_source(error)
}

fn entry(credential: &Credential) -> Entry {
    let mut entry = Entry::default();
    match credential {
        Credential::Password { username, password } => {
            entry.auth = base64::encode(format!("{username}:{password}").as_bytes());
        }
        Credential::IdentityToken(token) => entry.identitytoken.clone_from(token),
        Credential::RegistryToken(token) => entry.registrytoken.clone_from(token),
    }
    entry
}

/// What an entry holds; an empty one, as where a helper keeps the credential, holds none.
fn read(key: &str, entry: &RawValue) -> Result<Option<Credential>> {
    let broken = || {
        let key = crate::digest::excerpt(key);
        Error::invalid(format!("cannot read the credential of a registry, registry={key}"))
    };
    let entry: Entry =
        serde_json::from_str::<Option<Entry>>(entry.get()).map_err(|_| broken())?.unwrap_or_default();
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credential::IdentityToken(entry.identitytoken)));
    }
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Credential::RegistryToken(entry.registrytoken)));
    }
    if entry.auth.is_empty() {
        let Entry { username, password, .. } = entry;
        return Ok((!username.is_empty()).then_some(Credential::Password { username, password }));
    }
    let text = base64::decode(&entry.auth).and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(broken)?;
    let (username, password) = text.split_once(':').ok_or_else(broken)?;
    // Some versions of docker wrote a NUL behind it.
    Ok(Some(Credential::password(username, password.trim_end_matches('\0'))))
}

/// The name under which the credential of a registry is kept.
fn key_of(registry: &RegistryName) -> String {
    if registry.is_docker_hub() { DOCKER_HUB_KEY.into() } else { registry.to_string() }
}

/// The names that a repository and its registry go by, the longest first.
fn keys(registry: &RegistryName, repository: Option<&RepositoryName>) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository.map_or("", RepositoryName::as_str);
    while !path.is_empty() {
        keys.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(registry.to_string());
    if registry.is_docker_hub() {
        keys.extend([DOCKER_HUB_KEY.into(), "index.docker.io".into(), registry.authority().into()]);
    }
    keys
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn find(file: &AuthFile, registry: &str, repository: &str) -> Option<Credential> {
        file.find(&registry.parse().unwrap(), repository.parse().ok().as_ref()).unwrap()
    }

    fn user(name: &str) -> Option<Credential> {
        Some(Credential::password(name, "p:w"))
    }

    fn auth(name: &str) -> String {
        base64::encode(format!("{name}:p:w").as_bytes())
    }

    #[test]
    fn the_longest_name_counts() {
        let text = format!(
            r#"{{"auths":{{"h.x:5000":{{"auth":"{}"}},"h.x:5000/a":{{"auth":"{}"}},"h.x:5000/a/b":{{"auth":"{}"}},
            "https://old.x/v1/":{{"username":"old","password":"p:w"}},"https://index.docker.io/v1/":{{"auth":"{}","email":null}},
            "t.x":{{"auth":"","identitytoken":"it"}},"r.x":{{"registrytoken":"rt"}},"empty.x":{{}},"null.x":null}},"x":[1,{{"y":2}}]}}"#,
            auth("host"),
            auth("a"),
            auth("b"),
            auth("hub"),
        );
        let file = AuthFile::parse(text.as_bytes()).unwrap();
        assert_eq!(find(&file, "h.x:5000", ""), user("host"));
        assert_eq!(find(&file, "h.x:5000", "c"), user("host"));
        assert_eq!(find(&file, "h.x:5000", "ab"), user("host"));
        assert_eq!(find(&file, "h.x:5000", "a"), user("a"));
        assert_eq!(find(&file, "h.x:5000", "a/c"), user("a"));
        assert_eq!(find(&file, "h.x:5000", "a/b/c"), user("b"));
        assert_eq!(find(&file, "h.x", ""), None);
        assert_eq!(find(&file, "old.x", ""), user("old"));
        assert_eq!(find(&file, "docker.io", "library/alpine"), user("hub"));
        assert_eq!(find(&file, "t.x", ""), Some(Credential::IdentityToken("it".into())));
        assert_eq!(find(&file, "r.x", ""), Some(Credential::RegistryToken("rt".into())));
        assert_eq!((find(&file, "empty.x", ""), find(&file, "null.x", "")), (None, None));
        assert!(AuthFile::parse(b" \n").unwrap().auths.is_empty());
        assert!(AuthFile::parse(br#"{"auths":null,"credsStore":null}"#).unwrap().auths.is_empty());
    }

    #[test]
    fn helpers() {
        let text = br#"{"credsStore":"desktop","credHelpers":{"h.x":"one","h.x/a":"two","docker.io":"hub","e.x":""}}"#;
        let file = AuthFile::parse(text).unwrap();
        let of = |registry: &str, repository: &str| {
            let found = file.helper(&registry.parse().unwrap(), repository.parse().ok().as_ref());
            found.map(|(helper, key)| (helper.to_owned(), key)).unwrap()
        };
        let named = |helper: &str, key: &str| (helper.to_owned(), key.to_owned());
        assert_eq!(of("h.x", ""), named("one", "h.x"));
        assert_eq!(of("h.x", "a/b"), named("two", "h.x/a"));
        assert_eq!(of("docker.io", "library/a"), named("hub", DOCKER_HUB_KEY));
        assert_eq!(of("e.x", ""), named("desktop", "e.x"));
        assert!(AuthFile::parse(b"{}").unwrap().helper(&"h.x".parse().unwrap(), None).is_none());
    }

    #[test]
    fn what_is_not_known_stays() {
        let before = format!(
            r#"{{"HttpHeaders":{{"a":1.50}},"auths":{{"h.x":{{"auth":"{}"}},"o.x":{{"auth":"bzpw","odd":[1]}}}},"psFormat":"t"}}"#,
            auth("old")
        );
        let parse = |bytes: &[u8]| AuthFile::parse(bytes).unwrap();
        let name: RegistryName = "h.x".parse().unwrap();
        let changed = parse(before.as_bytes()).with(&name, user("new").as_ref()).unwrap();
        assert_eq!(find(&parse(&changed), "h.x", ""), user("new"));
        let text = String::from_utf8(changed.clone()).unwrap();
        for kept in [r#"{"a":1.50}"#, r#""psFormat": "t""#, r#"{"auth":"bzpw","odd":[1]}"#] {
            assert!(text.contains(kept), "{text}");
        }
        let gone = parse(&changed).with(&name, None).unwrap();
        assert_eq!(find(&parse(&gone), "h.x", ""), None);
        assert_eq!(find(&parse(&gone), "o.x", ""), Some(Credential::password("o", "p")));
        // Docker Hub goes by its odd name, and is found and removed by all of them.
        let hub: RegistryName = "docker.io".parse().unwrap();
        let token = Credential::IdentityToken("t".into());
        let changed =
            parse(b"{\"auths\":{\"docker.io\":{\"auth\":\"YTpi\"}}}").with(&hub, Some(&token)).unwrap();
        assert!(String::from_utf8(changed.clone()).unwrap().contains(DOCKER_HUB_KEY));
        assert_eq!(find(&parse(&changed), "docker.io", ""), Some(token));
        assert_eq!(parse(&changed).with(&hub, None).unwrap(), b"{}\n");
    }

    #[test]
    fn broken_files_tell_no_secrets() {
        for text in ["[", "[]", r#"{"auths":{"h.x":"c2VjcmV0"}"#, r#"{"auths":"c2VjcmV0"}"#, "\u{feff}{}"] {
            let error = AuthFile::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!format!("{error:?}").contains("c2Vj"), "{error:?}");
        }
        for entry in [r#""c2VjcmV0""#, r#"{"auth":"c2VjcmV0"}"#, r#"{"auth":"c2Vj!"}"#, r#"{"auth":1}"#] {
            let file = AuthFile::parse(format!(r#"{{"auths":{{"h.x":{entry}}}}}"#).as_bytes()).unwrap();
            let error = file.find(&"h.x".parse().unwrap(), None).unwrap_err();
            assert!(!format!("{error:?}").contains("c2Vj"), "{error:?}");
        }
        let shown = format!("{:?}", Credential::password("me", "c2Vj"));
        assert!(shown.contains("me") && !shown.contains("c2Vj"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[a-z{}\":,\\[\\]]{0,60}") {
            let name: RegistryName = "a".parse().unwrap();
            for bytes in [&*bytes, text.as_bytes()] {
                if let Ok(file) = AuthFile::parse(bytes) {
                    let _ = file.find(&name, None);
                    let again = file.with(&name, None).unwrap();
                    prop_assert!(AuthFile::parse(&again).is_ok());
                }
            }
        }
    }
}
