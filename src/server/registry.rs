//! The service: from a request to who answers it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

#[cfg(feature = "archive")]
use super::archived::Shelf;
use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::incoming::Incoming;
use super::names::{Clash, Layout, Names, Origin, Place};
use super::policy::{Action, Grant, Open, Policy, Principal, Verb};
use super::pool::Pool;
use super::position::Positions;
use super::query::{Query, decode, encode};
use super::respond::{API_VERSION, NAMESPACE, finish, json, set};
use super::route::Route;
use crate::oci::RepositoryName;
#[cfg(feature = "archive")]
use crate::transfer::archive::Archive;
use crate::{Digest, ErrorKind, Repository, Store};

/// Bounds of a registry, beside those of its stores.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Threads that may wait for a disk while they read. 32 by default.
    pub readers: usize,
    /// Threads that may wait for a disk while they write. 32 by default.
    pub writers: usize,
    /// Requests that may wait for either; beyond it they are refused with 429. 1,024 by default.
    pub waiting: usize,
    /// Entries on a page of tags, repositories or referrers, whatever the client asks for. 1,000 by default.
    pub page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { readers: 32, writers: 32, waiting: 1024, page: 1000 }
    }
}

/// How a registry behaves, beside what its policy decides.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Its bounds.
    pub limits: Limits,
    /// Whatever writes is refused, with 405.
    pub read_only: bool,
    /// Manifests are taken although the repository lacks what they refer to. Not so by default: what is pushed can be pulled.
    pub sparse: bool,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with other bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, refusing whatever writes or not.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The same, taking manifests without what they refer to or not.
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }
}

/// An OCI registry, as a [`tower_service::Service`] over the types of the crate `http`: cheap to clone, each clone the same one.
///
/// It never fails: whatever goes wrong is an answer, as the distribution-spec has them. It answers below `/v2/` and nowhere else.
pub struct Registry<P = Open> {
    inner: Arc<Inner<P>>,
}

pub(super) struct Inner<P> {
    pub(super) names: Names,
    /// Archives instead of layouts.
    #[cfg(feature = "archive")]
    pub(super) shelf: Option<Shelf>,
    pub(super) positions: Positions,
    pub(super) policy: P,
    pub(super) limits: Limits,
    read_only: bool,
    pub(super) sparse: bool,
    pub(super) readers: Pool,
    pub(super) writers: Pool,
}

/// One request for one repository, granted.
pub(super) struct Exchange<'a, P> {
    pub(super) inner: &'a Inner<P>,
    pub(super) parts: &'a Parts,
    /// The repository by the name in the request.
    pub(super) name: &'a RepositoryName,
    pub(super) repository: Repository,
    pub(super) grant: Grant,
    /// What alone may be listed of referrers, if not everything may.
    pub(super) shown: Option<Arc<HashSet<Digest>>>,
}

impl Registry<Open> {
    /// A registry that lets everybody do everything.
    #[must_use]
    pub fn open(store: Store) -> Self {
        Self::new([Layout::new(store)], Open)
    }
}

impl<P: Policy> Registry<P> {
    /// A registry of these stores.
    pub fn new(layouts: impl IntoIterator<Item = Layout>, policy: P) -> Self {
        Self::with_settings(layouts, policy, Settings::default())
    }

    /// The same with settings of its own.
    pub fn with_settings(layouts: impl IntoIterator<Item = Layout>, policy: P, settings: Settings) -> Self {
        Self { inner: Arc::new(Inner::new(layouts.into_iter().collect(), policy, settings)) }
    }

    /// A registry of archives, read where they lie, each with the name that its unnamed repository goes by. It is read-only, and what is said of names
    /// of layouts holds for those of archives. Every manifest is read once at the beginning.
    ///
    /// Memory grows with the number of files and with the manifests, never with other content.
    ///
    /// # Errors
    ///
    /// `Unsupported` for an archive that is compressed; `Corrupt`, `Mismatch`, `Io`.
    #[cfg(feature = "archive")]
    pub fn of_archives(
        archives: impl IntoIterator<Item = (Archive, RepositoryName)>,
        policy: P,
        settings: Settings,
    ) -> crate::Result<Self> {
        let mut inner = Inner::new(Vec::new(), policy, settings.read_only(true));
        inner.shelf = Some(Shelf::new(archives.into_iter().collect())?);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Names that stand for more than one thing, up to 1,000, with what is served of it: the repository of that very name in
    /// the first layout that has it, otherwise what a full reference names with this path, in the first layout, by byte order of
    /// hosts. Costs a look at all names.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub fn clashes(&self) -> crate::Result<Vec<Clash>> {
        self.inner.names.clashes()
    }
}

impl<P> Clone for Registry<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P> fmt::Debug for Registry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("names", &self.inner.names).finish_non_exhaustive()
    }
}

impl<P, B> tower_service::Service<Request<B>> for Registry<P>
where
    P: Policy,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let mut principal = None;
            let answer = inner.answer(&parts, Incoming::new(body), &mut principal).await;
            let mut response = answer.unwrap_or_else(Refusal::into_response);
            finish(&mut response, &parts.method);
            keep_namespace(&mut response, &parts);
            if let Some(principal) = principal {
                response.extensions_mut().insert(Principal::new(principal));
            }
            response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            Ok(response)
        })
    }
}

impl<P> Inner<P> {
    fn new(layouts: Vec<Layout>, policy: P, settings: Settings) -> Self {
        let Settings { limits, read_only, sparse } = settings;
        Self {
            names: Names::new(layouts),
            #[cfg(feature = "archive")]
            shelf: None,
            positions: Positions::new(),
            policy,
            limits,
            read_only,
            sparse,
            readers: Pool::new(limits.readers, limits.waiting),
            writers: Pool::new(limits.writers, limits.waiting),
        }
    }
}

impl<P: Policy> Inner<P> {
    /// Whoever the policy knew the request to be from is `principal` then, also if it is refused later.
    async fn answer(&self, parts: &Parts, body: Incoming, principal: &mut Option<String>) -> Outcome {
        let path = decode(parts.uri.path(), false)
            .ok_or_else(|| Refusal::bad_request(Code::NameInvalid, "the path is not UTF-8"))?;
        let Some(route) = Route::of(&path) else {
            return Err(Refusal::not_found(Code::Unsupported, "no such endpoint"));
        };
        let verb = verb(&route, &parts.method)?;
        let Some(name) = route.name() else {
            let action = Action::new(verb, None);
            *principal = self.policy.decide(parts, &action).await?.principal;
            return match route {
                Route::Catalog => self.catalog(parts).await,
                Route::Extensions { .. } => Ok(self.extensions()),
                _ => Ok(base()),
            };
        };
        let name: RepositoryName = name
            .parse()
            .map_err(|error: crate::Error| Refusal::bad_request(Code::NameInvalid, error.to_string()))?;
        let grant = self.policy.decide(parts, &Action::new(verb, Some(&name))).await?;
        principal.clone_from(&grant.principal);
        if self.read_only && matches!(verb, Verb::Push | Verb::Delete) {
            return Err(not_allowed(&route, "the registry is read-only"));
        }
        #[cfg(feature = "archive")]
        if let Some(shelf) = &self.shelf {
            return self.answer_shelved(shelf, parts, &name, route).await;
        }
        let namespace = Query::of(&parts.uri).first("ns");
        let Place { repository, alias } = self.place(&name, namespace.as_deref()).await?;
        let mut exchange = Exchange { inner: self, parts, name: &name, repository, grant, shown: None };
        let Some(Origin { host, name: origin, entries }) = alias else {
            return exchange.dispatch(route, body).await;
        };
        if let Some(origin) = &origin {
            exchange.grant = self.policy.decide(parts, &Action::new(verb, Some(origin))).await?;
        }
        if matches!(verb, Verb::Push | Verb::Delete) {
            let message = format!("the name is served from {host}/{name}, and only to be read");
            return Err(not_allowed(&route, &message));
        }
        let mut response = match entries {
            Some(entries) => exchange.dispatch_entries(route, entries).await?,
            None => exchange.dispatch(route, body).await?,
        };
        if let Some(namespace) = namespace {
            set(&mut response, NAMESPACE, namespace);
        }
        Ok(response)
    }

    /// What a name stands for.
    async fn place(&self, name: &RepositoryName, namespace: Option<&str>) -> Result<Place, Refusal> {
        if let Some(renewal) = self.names.renewal() {
            let readers = self.readers.clone();
            tokio::spawn(async move { readers.run(|| renewal.run()).await });
        }
        let found = match self.names.find(name, namespace, false) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let (names, name, namespace) =
                    (self.names.clone(), name.clone(), namespace.map(str::to_owned));
                self.readers.run(move || names.find(&name, namespace.as_deref(), true)).await?
            }
            found => found,
        };
        found
            .map_err(|error| Refusal::of(error, Code::NameUnknown, Code::NameInvalid))?
            .ok_or_else(|| Refusal::not_found(Code::NameUnknown, "repository name not known to registry"))
    }
}

impl<P: Policy> Exchange<'_, P> {
    async fn dispatch(self, route: Route<'_>, body: Incoming) -> Outcome {
        let method = &self.parts.method;
        match route {
            Route::Blob { digest, .. } if *method == Method::DELETE => self.delete_blob(digest).await,
            Route::Blob { digest, .. } => self.blob(digest).await,
            Route::Manifest { reference, .. } if *method == Method::PUT => {
                self.put_manifest(reference, body).await
            }
            Route::Manifest { reference, .. } if *method == Method::DELETE => {
                self.delete_manifest(reference).await
            }
            Route::Manifest { reference, .. } => self.manifest(reference).await,
            Route::Uploads { .. } => self.start_upload(body).await,
            Route::Upload { id, .. } if *method == Method::PATCH => self.append(id, body).await,
            Route::Upload { id, .. } if *method == Method::PUT => self.finish_upload(id, body).await,
            Route::Upload { id, .. } if *method == Method::DELETE => self.cancel_upload(id).await,
            Route::Upload { id, .. } => self.upload_status(id).await,
            Route::Tags { .. } => self.tags().await,
            Route::Referrers { digest, .. } => self.referrers(digest).await,
            Route::ArtifactReferrers { .. } => self.artifact_referrers().await,
            Route::Extensions { .. } => Ok(self.inner.extensions()),
            Route::Base | Route::Catalog => Ok(base()),
        }
    }

    /// Asks the repository something: here and now if the answer is in memory, else on a thread that may wait for a disk.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        missing: Code,
        ask: impl Fn(&Repository) -> crate::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let refuse = |error| Refusal::of(error, missing, Code::Unsupported);
        match ask(&self.repository.without_waiting()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            answer => return answer.map_err(refuse),
        }
        let repository = self.repository.clone();
        self.inner.readers.run(move || ask(&repository)).await?.map_err(refuse)
    }

    /// Asks the whole store something, on a thread that may wait for a disk: how much has to be read nobody knows before.
    pub(super) async fn look_at_all<T: Send + 'static>(
        &self,
        missing: Code,
        ask: impl FnOnce(&Store) -> crate::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.repository.store().clone();
        let found = self.inner.readers.run(move || ask(&store)).await?;
        found.map_err(|error| Refusal::of(error, missing, Code::Unsupported))
    }
}

/// What a request is about to do, or that its endpoint knows no such method.
fn verb(route: &Route<'_>, method: &Method) -> Result<Verb, Refusal> {
    let reads = method == Method::GET || method == Method::HEAD;
    let verb = match route {
        Route::Base | Route::Extensions { name: None } if reads => Verb::Ping,
        Route::Catalog if reads => Verb::Catalog,
        Route::Blob { .. } | Route::Manifest { .. } if reads => Verb::Pull,
        Route::Tags { .. } | Route::Referrers { .. } if reads => Verb::Pull,
        Route::ArtifactReferrers { .. } | Route::Extensions { .. } if reads => Verb::Pull,
        Route::Blob { .. } | Route::Manifest { .. } if method == Method::DELETE => Verb::Delete,
        Route::Manifest { .. } if method == Method::PUT => Verb::Push,
        Route::Uploads { .. } if method == Method::POST => Verb::Push,
        Route::Upload { .. } if reads || [Method::PATCH, Method::PUT, Method::DELETE].contains(method) => {
            Verb::Push
        }
        _ => return Err(not_allowed(route, "the endpoint has no such method")),
    };
    Ok(verb)
}

fn not_allowed(route: &Route<'_>, why: &str) -> Refusal {
    let methods = match route {
        Route::Base | Route::Catalog | Route::Extensions { .. } => "GET, HEAD",
        Route::Tags { .. } | Route::Referrers { .. } | Route::ArtifactReferrers { .. } => "GET, HEAD",
        Route::Blob { .. } => "GET, HEAD, DELETE",
        Route::Manifest { .. } => "GET, HEAD, PUT, DELETE",
        Route::Uploads { .. } => "POST",
        Route::Upload { .. } => "GET, PATCH, PUT, DELETE",
    };
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, why)
        .with_header(header::ALLOW, HeaderValue::from_static(methods))
}

/// A client that said of which host a name is goes on where it is told to: it says so there too, or would mean another repository.
fn keep_namespace(response: &mut Response<Body>, parts: &Parts) {
    let Some(namespace) = Query::of(&parts.uri).first("ns") else { return };
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location.filter(|location| !location.contains('?')) else { return };
    let location = format!("{location}?ns={}", encode(&namespace));
    set(response, header::LOCATION, location);
}

/// The answer of `/v2/`.
fn base() -> Response<Body> {
    json("application/json", &std::collections::BTreeMap::<&str, &str>::new())
}
