//! Who may do what: asked before a request touches a repository.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;

use crate::Quota;
use crate::oci::RepositoryName;

/// What a request is about to do.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// `/v2/`: is there a registry, and do the credentials count.
    Ping,
    /// Read content, manifests, tags, referrers.
    Pull,
    /// Add content, manifests and tags, move tags, run upload sessions.
    Push,
    /// Remove content, manifests and tags.
    Delete,
    /// List the repositories. Each that is listed is asked for with [`Verb::Pull`] too.
    Catalog,
}

/// What a request asks for.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Action {
    /// The repository, by the name in the request; none for what concerns the whole registry.
    pub repository: Option<RepositoryName>,
    /// What is done with it.
    pub verb: Verb,
    /// The repository whose content is to be mounted, with [`Verb::Push`]; asked only if [`Verb::Pull`] of that repository is granted
    /// as well. Denying either only makes the client send the content, if the same without a source is granted.
    pub mount: Option<RepositoryName>,
}

/// Leave to do it.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grant {
    /// Who it is, for the log: the answer has it as a [`Principal`] in its extensions; none for somebody unknown.
    pub principal: Option<String>,
    /// What the repository may come to hold, kept exactly by the store as its quota of the repository. None leaves what is set.
    pub quota: Option<Quota>,
}

/// Refusal of an action. What the client is told is the registry's business, but for the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    pub(super) kind: Kind,
    pub(super) message: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Unauthenticated { challenge: String },
    Forbidden,
    Hidden,
    Later { after: Duration },
}

/// Decides who may do what. A registry asks for every request, before it looks at anything.
///
/// ```
/// use http::request::Parts;
/// use orlop::server::{Action, Denial, Grant, Policy, Verb};
///
/// /// Everybody reads; who has the secret writes.
/// struct Secret(String);
///
/// impl Policy for Secret {
///     async fn decide(&self, request: &Parts, action: &Action) -> Result<Grant, Denial> {
///         let sent = request.headers.get("authorization").and_then(|value| value.to_str().ok());
///         match (action.verb, sent) {
///             (Verb::Ping | Verb::Pull | Verb::Catalog, None) => Ok(Grant::default()),
///             (_, Some(sent)) if sent == self.0 => Ok(Grant::to("writer")),
///             _ => Err(Denial::unauthenticated("Bearer")),
///         }
///     }
/// }
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Grants an action or denies it. `request` is what came before the body, as it came.
    fn decide(&self, request: &Parts, action: &Action) -> impl Future<Output = Result<Grant, Denial>> + Send;
}

/// Whom a policy granted a request to, in the extensions of the answer: for the log of whoever runs the registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal(Box<str>);

impl Principal {
    pub(super) fn new(name: String) -> Self {
        Self(name.into())
    }

    /// As the policy has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Grants everything to everybody: for a registry that only trusted programs can reach.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing and never will")]
pub struct Open;

impl Policy for Open {
    async fn decide(&self, _request: &Parts, _action: &Action) -> Result<Grant, Denial> {
        Ok(Grant::default())
    }
}

impl Action {
    /// What a request asks for, as a test of a policy would say it.
    #[must_use]
    pub fn new(verb: Verb, repository: Option<&RepositoryName>) -> Self {
        Self { repository: repository.cloned(), verb, mount: None }
    }

    /// The same with a repository to mount from.
    #[must_use]
    pub fn with_mount(mut self, source: RepositoryName) -> Self {
        self.mount = Some(source);
        self
    }
}

impl<P: Policy> Policy for std::sync::Arc<P> {
    fn decide(&self, request: &Parts, action: &Action) -> impl Future<Output = Result<Grant, Denial>> + Send {
        (**self).decide(request, action)
    }
}

impl Grant {
    /// Leave for somebody.
    #[must_use]
    pub fn to(principal: impl Into<String>) -> Self {
        Self { principal: Some(principal.into()), quota: None }
    }

    /// The same, with a limit on what the repository may hold.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }
}

impl Denial {
    fn new(kind: Kind, message: &str) -> Self {
        Self { kind, message: message.into() }
    }

    /// Nobody is known who would be allowed: 401 with this value of `WWW-Authenticate`.
    #[must_use]
    pub fn unauthenticated(challenge: impl Into<String>) -> Self {
        Self::new(Kind::Unauthenticated { challenge: challenge.into() }, "authentication required")
    }

    /// Whoever asks is known, and may not: 403.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(Kind::Forbidden, "access to the resource is denied")
    }

    /// As if there were no such repository: 404.
    #[must_use]
    pub fn hidden() -> Self {
        Self::new(Kind::Hidden, "repository name not known to registry")
    }

    /// Not now: 429 with `Retry-After`, in seconds rounded up.
    #[must_use]
    pub fn later(after: Duration) -> Self {
        Self::new(Kind::Later { after }, "too many requests")
    }

    /// The same with a message for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Whether the same may be granted later: an answer that only leaves something out would hide that.
    pub(super) fn is_later(&self) -> bool {
        matches!(self.kind, Kind::Later { .. })
    }

    /// The status that the client gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Hidden => StatusCode::NOT_FOUND,
            Kind::Later { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
