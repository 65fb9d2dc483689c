//! The policy of the server: passwords, and rights by repository.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use orlop::server::{Action, Denial, Grant, Policy, Verb};
use parking_lot::RwLock;

use super::htpasswd::{Users, Verifier, basic};
use super::rights::{Rights, Table};
use crate::error::{Exit, Failure};
use crate::output::Output;

const CHALLENGE: &str = "Basic realm=\"orlop\", charset=\"UTF-8\"";

/// Where the policy is written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) htpasswd: Option<PathBuf>,
    pub(super) rights: Option<PathBuf>,
    pub(super) anonymous_pull: bool,
}

/// Decides for every request. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    files: Files,
    rules: Arc<RwLock<Arc<Rules>>>,
}

#[derive(Debug)]
struct Rules {
    /// None: nobody is asked for a password.
    verifier: Option<Verifier>,
    /// None: everybody may do everything.
    table: Option<Table>,
}

/// Told who asks, for the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Principal(pub(super) Arc<OnceLock<String>>);

impl Files {
    fn read(&self, output: &Output) -> Result<Rules, Failure> {
        let users: Option<Users> =
            self.htpasswd.as_deref().map(|path| parse("passwords", path)).transpose()?;
        let table: Option<Table> = self.rights.as_deref().map(|path| parse("rights", path)).transpose()?;
        if let (Some(table), Some(path)) = (&table, &self.rights) {
            let unknown = |name: &&str| users.as_ref().is_none_or(|users| !users.has(name));
            for name in table.names().filter(unknown) {
                output.note(format!(
                    "nobody of that name has a password, name={name}, path={}",
                    path.display()
                ));
            }
        }
        let table = match table {
            Some(table) => Some(table),
            None if users.is_some() => Some(Table::everything()),
            None if self.anonymous_pull => Some(Table::default()),
            None => None,
        };
        let table = if self.anonymous_pull { table.map(Table::with_anonymous_pull) } else { table };
        // All processors but one, which answers meanwhile.
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        Ok(Rules { verifier: users.map(|users| Verifier::new(users, threads)), table })
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the operator's, no part of a store")]
fn parse<T: std::str::FromStr<Err = String>>(what: &str, path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(&format!("read the file of {what}"), path, &error))?;
    text.parse().map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("the file of {what} makes no sense, path={}: {error}", path.display()),
        )
    })
}

impl Guard {
    pub(super) fn new(files: Files, output: &Output) -> Result<Self, Failure> {
        let rules = files.read(output)?;
        Ok(Self { files, rules: Arc::new(RwLock::new(Arc::new(rules))) })
    }

    /// Reads the files again; what was in force stays if they make no sense.
    pub(super) fn reload(&self, output: &Output) -> Result<(), Failure> {
        *self.rules.write() = Arc::new(self.files.read(output)?);
        Ok(())
    }
}

impl Rules {
    /// Who asks. None is whoever sends no credentials; empty ones are none.
    async fn principal(&self, request: &Parts) -> Result<Option<String>, Denial> {
        let (Some(verifier), Some(sent)) = (&self.verifier, request.headers.get(AUTHORIZATION)) else {
            return Ok(None);
        };
        let wrong = || Denial::unauthenticated(CHALLENGE).with_message("name or password is wrong");
        let (name, password) = sent.to_str().ok().and_then(basic).ok_or_else(wrong)?;
        if name.is_empty() && password.is_empty() {
            return Ok(None);
        }
        match verifier.verify(&name, &password).await {
            Ok(true) => Ok(Some(name)),
            Ok(false) => Err(wrong()),
            Err(_) => Err(Denial::later(Duration::from_secs(1))),
        }
    }

    fn decide(&self, principal: Option<&str>, action: &Action) -> Result<(), Denial> {
        let Some(table) = &self.table else { return Ok(()) };
        let allowed = match (action.verb, &action.repository) {
            // Clients send passwords only if they are asked for them here.
            (Verb::Ping, _) => principal.is_some() || self.verifier.is_none(),
            (Verb::Catalog, _) => principal.is_some() || table.has_anonymous_pull(),
            (verb, Some(repository)) => {
                let rights = |name: &str| -> Rights { table.of(principal, name) };
                let source = action.mount.as_ref();
                rights(repository.as_str()).give(verb)
                    && source.is_none_or(|source| rights(source.as_str()).give(Verb::Pull))
            }
            (_, None) => false,
        };
        match (allowed, principal) {
            (true, _) => Ok(()),
            (false, None) if self.verifier.is_some() => Err(Denial::unauthenticated(CHALLENGE)),
            (false, _) => Err(Denial::forbidden()),
        }
    }
}

impl Policy for Guard {
    async fn decide(&self, request: &Parts, action: &Action) -> Result<Grant, Denial> {
        let rules = Arc::clone(&self.rules.read());
        let principal = rules.principal(request).await?;
        if let (Some(name), Some(told)) = (&principal, request.extensions.get::<Principal>()) {
            let _ = told.0.set(name.clone());
        }
        rules.decide(principal.as_deref(), action)?;
        Ok(principal.map_or_else(Grant::default, Grant::to))
    }
}
