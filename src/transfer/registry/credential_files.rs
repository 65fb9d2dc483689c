//! The files that credentials are kept in: which are asked in which order, and how one comes in and goes.

use std::env;
use std::path::{Path, PathBuf};

use super::auth_file::{AuthFile, MAX_FILE};
use super::credential::{Credential, Credentials};
use super::helper::Helper;
use crate::error::{Error, Result};
use crate::oci::{RegistryName, RepositoryName};
use crate::sys;

/// The files of docker, podman and oras, with the helpers that they name (`credHelpers`, `credsStore`).
///
/// Of every file its helper is asked first, then its entries, of which the longest name counts (`quay.io/me` before `quay.io`).
/// A file that is not there is passed over.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    /// Asked in this order; the first is written to.
    paths: Vec<PathBuf>,
}

impl CredentialFiles {
    /// These files, in this order; the first is the one that is written to.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect() }
    }

    /// The files that the environment names: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or else
    /// `~/.docker/config.json`, `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` or else
    /// `~/.config/containers/auth.json`.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(&|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Self {
        let home = |path: &str| variable("HOME").map(|home| home.join(path));
        let docker = variable("DOCKER_CONFIG").or_else(|| home(".docker"));
        let config = variable("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let containers = |dir: PathBuf| dir.join("containers/auth.json");
        let paths = [
            variable("REGISTRY_AUTH_FILE"),
            docker.map(|dir| dir.join("config.json")),
            variable("XDG_RUNTIME_DIR").map(containers),
            config.map(containers),
        ];
        Self::new(paths.into_iter().flatten())
    }

    /// The file that is written to.
    #[must_use]
    pub fn target(&self) -> Option<&Path> {
        self.paths.first().map(PathBuf::as_path)
    }

    /// Keeps the credential of a registry, in the first of the files or with the helper that it names. Other members of the
    /// file stay as they are; it can be read by its owner alone.
    ///
    /// # Errors
    ///
    /// `Invalid` where there is no file, or it is none of these; `Unauthorized` when the helper fails; `Io`.
    pub fn store(&self, registry: &RegistryName, credential: &Credential) -> Result<()> {
        let path = self.writable()?;
        let file = read(path)?.unwrap_or_default();
        if let Some((helper, key)) = file.helper(registry, None) {
            return Helper::new(helper)?.store(&key, credential);
        }
        write(path, &file.with(registry, Some(credential))?)
    }

    /// Forgets the credential of a registry, in the first of the files and with the helper that it names; says whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub fn erase(&self, registry: &RegistryName) -> Result<bool> {
        let path = self.writable()?;
        let Some(file) = read(path)? else { return Ok(false) };
        let mut there = false;
        if let Some((helper, key)) = file.helper(registry, None) {
            let helper = Helper::new(helper)?;
            there = helper.get(&key)?.is_some();
            if there {
                helper.erase(&key)?;
            }
        }
        if file.find(registry, None)?.is_some() {
            there = true;
            write(path, &file.with(registry, None)?)?;
        }
        Ok(there)
    }

    fn writable(&self) -> Result<&Path> {
        self.target().ok_or_else(|| Error::invalid("no file to keep credentials in: HOME is not set"))
    }
}

impl Credentials for CredentialFiles {
    fn find(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credential>> {
        for path in &self.paths {
            let Some(file) = read(path)? else { continue };
            let named = |error: Error| {
                let (kind, path) = (error.kind(), path.display());
                Error::new(kind, format!("cannot use the credentials of a file, file={path}"))
                    .with_source(error)
            };
            let helper = file.helper(registry, repository);
            let kept = helper.map_or(Ok(None), |(helper, key)| Helper::new(helper)?.get(&key));
            if let Ok(Some(credential)) = kept {
                return Ok(Some(credential));
            }
            if let Some(credential) = file.find(registry, repository).map_err(named)? {
                return Ok(Some(credential));
            }
            // A helper that fails may be the one that has it: asking without would look as if there were none.
            kept.map_err(named)?;
        }
        Ok(None)
    }
}

fn read(path: &Path) -> Result<Option<AuthFile>> {
    let bytes = sys::read_small(path, MAX_FILE)
        .map_err(|error| Error::io("read the file of credentials", path, error))?;
    let parse = |bytes: Vec<u8>| {
        AuthFile::parse(&bytes).map_err(|error| {
            let path = path.display();
            Error::invalid(format!("cannot read the file of credentials, file={path}")).with_source(error)
        })
    };
    bytes.map(parse).transpose()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    sys::replace_private(path, bytes).map_err(|error| Error::io("write the file of credentials", path, error))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]
    #![expect(clippy::disallowed_methods, reason = "tests make files")]

    use super::*;

    #[test]
    fn files_in_the_order_that_is_promised() {
        let of = |set: &[(&str, &str)]| {
            let files = CredentialFiles::from_variables(&|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
            });
            files.paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[("HOME", "/h")]), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
        let all = of(&[
            ("HOME", "/h"),
            ("REGISTRY_AUTH_FILE", "/f"),
            ("DOCKER_CONFIG", "/d"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c"),
        ]);
        assert_eq!(all, ["/f", "/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]);
    }

    #[test]
    fn the_first_that_has_one_counts_and_the_first_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = CredentialFiles::new([path("none"), path("a"), path("b")]);
        std::fs::write(path("a"), r#"{"auths":{"h.x":{"auth":"YTpi"}}}"#).unwrap();
        std::fs::write(path("b"), r#"{"auths":{"h.x":{"auth":"Yzpk"},"i.x":{"auth":"Yzpk"}}}"#).unwrap();
        let (h, i): (RegistryName, RegistryName) = ("h.x".parse().unwrap(), "i.x".parse().unwrap());
        assert_eq!(files.find(&h, None).unwrap(), Some(Credential::password("a", "b")));
        assert_eq!(files.find(&i, None).unwrap(), Some(Credential::password("c", "d")));
        assert_eq!(files.find(&"j.x".parse().unwrap(), None).unwrap(), None);

        files.store(&i, &Credential::password("e", "f")).unwrap();
        assert_eq!(files.find(&i, None).unwrap(), Some(Credential::password("e", "f")));
        assert!(files.erase(&i).unwrap());
        assert!(!files.erase(&i).unwrap());
        assert_eq!(files.find(&i, None).unwrap(), Some(Credential::password("c", "d")));
    }

    #[test]
    fn a_helper_that_fails_is_no_answer_unless_the_file_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, r#"{"credsStore":"there-is-none","auths":{"h.x":{"auth":"YTpi"}}}"#).unwrap();
        let files = CredentialFiles::new([path.clone()]);
        assert!(files.find(&"h.x".parse().unwrap(), None).unwrap().is_some());
        let error = files.find(&"i.x".parse().unwrap(), None).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Unauthorized);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::write(&path, "{").unwrap();
        assert!(files.find(&"h.x".parse().unwrap(), None).unwrap_err().to_string().contains("file="));
    }
}
