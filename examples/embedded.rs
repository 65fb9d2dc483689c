//! A registry inside a program that has its own users, rights and quotas.
//!
//! ```text
//! cargo run --release --features server --example embedded -- DIR [ADDRESS]
//! ```
//!
//! Every team has a token and the repositories below its name; `public/` is for everybody to read and for the team `ops` to
//! write. A team's repository may hold 50 MB. The program collects garbage by itself and follows the feed of events, as one
//! would for webhooks or replication. The tokens come from the environment: `TEAMS="ops=secret1 web=secret2"`.

#![expect(clippy::print_stdout, reason = "a program that says what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::request::Parts;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use orlop::server::{Action, Denial, Grant, Layout, Policy, Registry, Verb};
use orlop::{Collect, EventLimits, Events, Options, Quota, Store};
use tokio::net::TcpListener;

/// Bytes that one repository of a team may hold.
const QUOTA: u64 = 50_000_000;

/// The program's own idea of who may do what. A real one would ask its database; `decide` is async for that.
struct Teams {
    by_token: HashMap<String, String>,
}

impl Teams {
    fn from_environment() -> Self {
        let teams = std::env::var("TEAMS").unwrap_or_default();
        let pairs = teams.split_whitespace().filter_map(|pair| pair.split_once('='));
        Self { by_token: pairs.map(|(team, token)| (token.to_owned(), team.to_owned())).collect() }
    }

    /// The team whose token a request carries; an error if it carries an unknown one.
    fn team(&self, request: &Parts) -> Result<Option<&str>, Denial> {
        let Some(sent) = request.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes) else {
            return Ok(None);
        };
        let token = sent.strip_prefix(b"Bearer ").and_then(|token| std::str::from_utf8(token).ok());
        match token.and_then(|token| self.by_token.get(token)) {
            Some(team) => Ok(Some(team)),
            None => Err(who_are_you()),
        }
    }
}

impl Policy for Teams {
    async fn decide(&self, request: &Parts, action: &Action) -> Result<Grant, Denial> {
        let team = self.team(request)?;
        let Some(repository) = &action.repository else {
            // `/v2/` and the catalog, which lists what `Pull` is granted for.
            return team.map(Grant::to).ok_or_else(who_are_you);
        };
        let (top, _) = repository.as_str().split_once('/').unwrap_or_default();
        let is_public = top == "public";
        if let Some(source) = &action.mount
            && !source.as_str().starts_with("public/")
            && team.is_none_or(|team| !source.as_str().starts_with(&format!("{team}/")))
        {
            // The client sends the content instead, and learns nothing of what others have.
            return Err(Denial::forbidden());
        }
        match (action.verb, team) {
            (Verb::Pull, None) if is_public => Ok(Grant::default()),
            (_, None) => Err(who_are_you()),
            (Verb::Pull, Some(team)) if is_public => Ok(Grant::to(team)),
            (_, Some("ops")) if is_public => Ok(Grant::to("ops")),
            (_, Some(_)) if is_public => Err(Denial::forbidden()),
            (_, Some(team)) if top == team => {
                let quota = Quota { bytes: Some(QUOTA), objects: None };
                Ok(Grant::to(team).with_quota(quota))
            }
            // What others have is none of this team's business, not even that it is there.
            _ => Err(Denial::hidden()),
        }
    }
}

fn who_are_you() -> Denial {
    Denial::unauthenticated(r#"Bearer realm="embedded""#)
}

/// A store as a server wants it.
fn open(dir: &str) -> orlop::Result<Store> {
    Options::new()
        .ballast(64 << 20)
        .grace(Duration::from_secs(3600))
        .collect(Collect::Background { every: Duration::from_secs(60) })
        .events(EventLimits::default())
        .open_or_create(dir)
}

/// Tells what happens, from now on. Where it came to could be kept, to go on there after a restart.
fn follow(store: &Store) -> orlop::Result<()> {
    let mut position = store.event_position()?;
    loop {
        if !store.wait_for_events(Some(position), Duration::from_secs(3600))? {
            continue;
        }
        match store.events(Some(position), 100)? {
            Events::Next(events) => {
                for event in events {
                    println!("event: {:?}", event.change);
                    position = event.position;
                }
            }
            // Too late for some: whoever mirrors the store would look at all of it now.
            Events::Gap { position: first } => position = first,
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: embedded DIR [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:5000".into());
    let store = open(&dir)?;
    let watched = store.clone();
    std::thread::spawn(move || follow(&watched));

    let registry = Registry::new([Layout::new(store)], Teams::from_environment());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(registry, &address))
}

/// Serves it beside whatever else the program has to say over HTTP.
async fn serve(registry: Registry<Teams>, address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let server = Arc::new(auto::Builder::new(TokioExecutor::new()));
    loop {
        let (stream, _) = listener.accept().await?;
        let (server, registry) = (Arc::clone(&server), registry.clone());
        tokio::spawn(async move {
            let service = TowerToHyperService::new(registry);
            // A client that goes away is nobody's failure.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
