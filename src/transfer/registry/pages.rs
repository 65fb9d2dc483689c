//! Lists that come in pages: all of them, in bounded memory, and only from the registry itself.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use http::{Method, StatusCode, header};
use reqwest::Url;
use reqwest::blocking::Response;
use serde::Deserialize;

use super::address::{follow, without_query};
use super::link::{self, Unreadable};
use super::session::{Request, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Object, RepositoryName, Tag};

/// How many pages of one list are read, how large one may be, and how many names a list may have.
pub(super) const MAX_PAGES: u64 = 100_000;
pub(super) const MAX_PAGE: usize = 16 << 20;
const MAX_NAMES: usize = 4_000_000;
/// How many bytes all pages of one list may have: a million referrers with short annotations.
const MAX_LIST: u64 = 512 << 20;

/// How many names are asked for at once.
const PAGE: &str = "n=1000";

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Repositories {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

/// All tags of a repository, in the order of their bytes.
pub(super) fn tags(session: &Session, path: &str, scopes: &[String]) -> Result<Vec<Tag>> {
    const WHAT: &str = "cannot list the tags";
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).map(|Object::<Tags>(page)| page.tags);
    let first = session.url(path, PAGE)?;
    // A repository that nothing was pushed to is as none.
    Ok(names(session, first, scopes, WHAT, &read)?.unwrap_or_default())
}

/// All repositories of a registry, in the order of their bytes.
pub(super) fn repositories(session: &Session) -> Result<Vec<RepositoryName>> {
    const WHAT: &str = "cannot list the repositories";
    let scopes = ["registry:catalog:*".to_owned()];
    let read =
        |bytes: &[u8]| serde_json::from_slice(bytes).map(|Object::<Repositories>(page)| page.repositories);
    let first = session.url("v2/_catalog", PAGE)?;
    names(session, first, &scopes, WHAT, &read)?.ok_or_else(|| {
        let place = &session.place;
        Error::new(
            ErrorKind::Unsupported,
            format!("registry has no list of its repositories, registry={place}"),
        )
    })
}

/// Reads a page of a list.
type Read<'a> = dyn Fn(&[u8]) -> serde_json::Result<Option<Vec<String>>> + 'a;

/// The names of all pages; None if there is no list.
fn names<T: FromStr<Err: Display> + Ord>(
    session: &Session,
    first: Url,
    scopes: &[String],
    what: &str,
    read: &Read<'_>,
) -> Result<Option<Vec<T>>> {
    let mut names: Vec<T> = Vec::new();
    let about = session.about(what);
    let found = walk(session, first, scopes, what, &mut |bytes| {
        let page = read(bytes).map_err(|error| about.broken("the answer is no list").with_source(error))?;
        for name in page.unwrap_or_default() {
            // Leaving it out would look as if it were not there.
            let parsed = name.parse().map_err(|error| about.broken(&format!("{error}")))?;
            if names.len() == MAX_NAMES {
                return Err(about.broken(&format!("more than {MAX_NAMES} names")));
            }
            names.push(parsed);
        }
        Ok(())
    })?;
    names.sort_unstable();
    names.dedup();
    Ok(found.map(|_| names))
}

/// What came with the pages of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walked {
    pub(super) pages: u64,
}

/// Reads page after page; None if the first is not there.
pub(super) fn walk(
    session: &Session,
    first: Url,
    scopes: &[String],
    what: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Option<Walked>> {
    let about = session.about(what);
    let mut seen = HashSet::new();
    let mut walked = Walked::default();
    let (mut next, mut left) = (Some(first), MAX_LIST);
    while let Some(url) = next.take() {
        let request = Request::new(Method::GET, url.clone(), scopes, what);
        let Some(response) = session.expect(&request, &[StatusCode::OK])? else {
            if walked.pages == 0 {
                return Ok(None);
            }
            return Err(about.broken("a page is not there that another one names"));
        };
        walked.pages += 1;
        if let Some(link) = next_page(&response).map_err(|Unreadable| {
            // A page that is left out looks as if it were not there.
            about.broken("the link to the next page cannot be read")
        })? {
            let following = follow(&url, link)?;
            // Pages of somebody else are not the registry's answer.
            if !session.host.is_own(&following) {
                let link = without_query(link);
                return Err(about.broken(&format!("the next page is on another host, link={link}")));
            }
            next = Some(following);
        }
        seen.insert(url);
        let bytes = session.read(response, MAX_PAGE, what)?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| about.broken(&format!("the list is larger than {MAX_LIST} bytes")))?;
        take(&bytes)?;
        if walked.pages == MAX_PAGES || next.as_ref().is_some_and(|next| seen.contains(next)) {
            return Err(about.broken("the pages of the list do not end"));
        }
    }
    Ok(Some(walked))
}

/// The link of an answer to the next page, if it has one.
fn next_page(response: &Response) -> std::result::Result<Option<&str>, Unreadable> {
    let mut found = Ok(None);
    for value in response.headers().get_all(header::LINK) {
        match value.to_str().map_err(|_| Unreadable).and_then(link::next) {
            Ok(Some(link)) => return Ok(Some(link)),
            Ok(None) => {}
            Err(unreadable) => found = Err(unreadable),
        }
    }
    found
}
