//! Who asks a registry, and what a caller gives it to find that out.

use std::fmt;

use crate::error::Result;
use crate::oci::{RegistryName, RepositoryName};

/// What proves to a registry who asks. Nothing of it is in what `Debug` prints but the name.
#[non_exhaustive]
#[derive(Clone, Eq, PartialEq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that the token service of the registry takes for a name and a password (`identitytoken`, a refresh token of
    /// OAuth2).
    IdentityToken(String),
    /// A token that the registry itself takes (`registrytoken`).
    RegistryToken(String),
}

impl Credential {
    /// A name and a password.
    #[must_use]
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: password.into() }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.debug_struct("IdentityToken").finish_non_exhaustive(),
            Self::RegistryToken(_) => f.debug_struct("RegistryToken").finish_non_exhaustive(),
        }
    }
}

/// Where credentials are kept: files, a service of the embedding program, or one for all.
pub trait Credentials: Send + Sync {
    /// The credential for a registry, or for one repository of it; None where there is none, and the registry is asked without.
    ///
    /// Asked once for each repository; what it answers is kept as long as the client lives.
    ///
    /// # Errors
    ///
    /// As the place where they are kept.
    fn find(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credential>>;
}

/// One credential for every registry that is asked.
impl Credentials for Credential {
    fn find(&self, _: &RegistryName, _: Option<&RepositoryName>) -> Result<Option<Credential>> {
        Ok(Some(self.clone()))
    }
}
