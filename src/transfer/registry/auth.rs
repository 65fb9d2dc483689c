//! Who asks: what goes into a request so that a registry knows, and what to do when it does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use parking_lot::Mutex;

use super::challenge::{Bearer, Challenge};
use super::credential::Credential;
use super::host::Host;
use super::token::{self, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{RepositoryName, base64};

/// The most scopes of one token, those that the registry asked for with them.
const MAX_SCOPES: usize = 16;

/// What is known of who asks for one repository, or for the registry as a whole.
#[derive(Debug)]
pub(super) struct Auth {
    repository: Option<RepositoryName>,
    credential: Mutex<Option<Option<Credential>>>,
    /// What the registry asked for last.
    scheme: Mutex<Option<Challenge>>,
    /// By what they are to allow. Each is fetched by one thread, and the others wait for it.
    tokens: Mutex<HashMap<Vec<String>, Arc<Mutex<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    token: Option<Token>,
    /// What the registry wants beside what was known to be needed.
    more: Vec<String>,
}

impl Auth {
    pub(super) fn new(repository: Option<&RepositoryName>) -> Self {
        Self {
            repository: repository.cloned(),
            credential: Mutex::default(),
            scheme: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// What goes into a request that needs `scopes`, as far as is known.
    pub(super) fn header(&self, host: &Host, scopes: &[String]) -> Result<Option<HeaderValue>> {
        let scheme = self.scheme.lock().clone();
        match scheme {
            Some(Challenge::Bearer(bearer)) => self.token(host, &bearer, scopes, false, None).map(Some),
            Some(Challenge::Basic) => Ok(self.credential(host)?.as_ref().and_then(basic)),
            None => match self.credential(host)? {
                Some(Credential::RegistryToken(token)) => bearer_of(&token).map(Some),
                _ => Ok(None),
            },
        }
    }

    /// What goes into the request after it was answered by 401; `used` is what was in it.
    ///
    /// # Errors
    ///
    /// `Unauthorized` when nothing else is left to try.
    pub(super) fn challenged(
        &self,
        host: &Host,
        scopes: &[String],
        challenges: &[Challenge],
        used: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        if let Some(bearer) = bearer
            && !matches!(self.credential(host)?, Some(Credential::RegistryToken(_)))
        {
            *self.scheme.lock() = Some(Challenge::Bearer(bearer.clone()));
            return self.token(host, bearer, scopes, true, used);
        }
        let credential = self.credential(host)?;
        let Some(value) = credential.as_ref().and_then(basic) else {
            let why = match credential {
                None => "registry wants credentials, and there are none",
                Some(_) => "registry does not take the token",
            };
            return Err(unauthorized(host, why));
        };
        if !challenges.contains(&Challenge::Basic) {
            return Err(unauthorized(host, "registry does not say how it wants to know who asks"));
        }
        if used == Some(&value) {
            return Err(unauthorized(host, "registry does not take the name and the password"));
        }
        *self.scheme.lock() = Some(Challenge::Basic);
        Ok(value)
    }

    /// A token for `scopes` that is good, and is not the one that was `refused`. `asked`: the registry has just said what it wants.
    fn token(
        &self,
        host: &Host,
        bearer: &Bearer,
        scopes: &[String],
        asked: bool,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let slot = Arc::clone(self.tokens.lock().entry(scopes.to_vec()).or_default());
        let mut slot = slot.lock();
        if let Some(token) = &slot.token
            && token.is_good(Instant::now())
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        if asked {
            for scope in bearer.scope.iter().flat_map(|scope| scope.split_ascii_whitespace()) {
                let scope = scope.to_owned();
                let all = scopes.len() + slot.more.len();
                if all < MAX_SCOPES && !scopes.contains(&scope) && !slot.more.contains(&scope) {
                    slot.more.push(scope);
                }
            }
        }
        let wanted = [scopes, &slot.more].concat();
        let credential = self.credential(host)?;
        let token =
            token::fetch(host, &bearer.realm, bearer.service.as_deref(), &wanted, credential.as_ref())?;
        let header = token.header.clone();
        slot.token = Some(token);
        Ok(header)
    }

    fn credential(&self, host: &Host) -> Result<Option<Credential>> {
        let mut known = self.credential.lock();
        if let Some(credential) = &*known {
            return Ok(credential.clone());
        }
        let found = host.options.credentials.find(&host.registry, self.repository.as_ref())?;
        Ok(known.insert(found).clone())
    }
}

/// The header of a name and a password.
pub(super) fn basic(credential: &Credential) -> Option<HeaderValue> {
    let Credential::Password { username, password } = credential else { return None };
    let text = base64::encode(format!("{username}:{password}").as_bytes());
    sensitive(&format!("Basic {text}"))
}

fn bearer_of(token: &str) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
        .ok_or_else(|| Error::new(ErrorKind::Unauthorized, "the token for a registry is none"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cold]
fn unauthorized(host: &Host, why: &str) -> Error {
    Error::new(ErrorKind::Unauthorized, format!("{why}, registry={}", host.registry))
}
