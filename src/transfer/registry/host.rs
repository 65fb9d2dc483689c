//! One registry as a server: its address, and the connections to it and to the hosts that it refers to.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use http::header;
use reqwest::Url;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::redirect::Policy;

use super::address::{base, same_origin};
use super::options::RegistryOptions;
use super::tls;
use crate::error::{Error, Result};
use crate::oci::RegistryName;

/// What this client calls itself.
const AGENT: &str = concat!("orlop/", env!("CARGO_PKG_VERSION"));

/// How long it may take at most to reach a host.
const CONNECT: Duration = Duration::from_secs(30);

/// How slow a connection may be that takes what is sent, in bytes per second.
const SLOWEST: u64 = 32 << 10;

/// A registry as a server.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) options: Arc<RegistryOptions>,
    pub(super) registry: RegistryName,
    pub(super) base: Url,
    own: Client,
    /// For other hosts, which get neither the client certificate nor the headers that are meant for the registry.
    foreign: OnceLock<Client>,
}

impl Host {
    pub(super) fn new(options: &Arc<RegistryOptions>, registry: &RegistryName) -> Result<Self> {
        // Whoever says something about certificates wants them looked at, on this machine too.
        let of_tls = options.insecure || !options.authorities.is_empty() || options.identity.is_some();
        let plain = options.plain_http || (registry.is_loopback() && !of_tls);
        Ok(Self {
            options: Arc::clone(options),
            registry: registry.clone(),
            base: base(registry, plain)?,
            own: client(options, Some(registry))?,
            foreign: OnceLock::new(),
        })
    }

    /// Whether an address is one of the registry itself, which may know who asks.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }

    /// A request, which times out when nothing comes for too long.
    pub(super) fn request(
        &self,
        method: http::Method,
        url: &Url,
        body: Option<bytes::Bytes>,
    ) -> Result<RequestBuilder> {
        let is_own = self.is_own(url);
        let client = if is_own { &self.own } else { self.foreign()? };
        let mut request = client.request(method.clone(), url.clone());
        if is_own {
            request = request.headers(self.options.headers.clone());
        }
        match body {
            Some(body) => {
                let time = self.options.stall + Duration::from_secs(body.len() as u64 / SLOWEST);
                request = request.timeout(time).header(header::CONTENT_LENGTH, body.len()).body(body);
            }
            None if method == http::Method::POST || method == http::Method::PUT => {
                request = request.header(header::CONTENT_LENGTH, 0);
            }
            None => {}
        }
        Ok(request)
    }

    fn foreign(&self) -> Result<&Client> {
        if let Some(client) = self.foreign.get() {
            return Ok(client);
        }
        let made = client(&self.options, None)?;
        Ok(self.foreign.get_or_init(|| made))
    }
}

fn client(options: &RegistryOptions, registry: Option<&RegistryName>) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(AGENT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .timeout(options.stall)
        .connect_timeout(options.stall.min(CONNECT))
        .tls_backend_preconfigured(tls::config(options, registry)?);
    if registry.is_some_and(RegistryName::is_loopback) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::invalid("cannot set up a client of registries").with_source(error))
}

/// The text of a header, if it is one.
pub(super) fn text(response: &Response, name: impl header::AsHeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
