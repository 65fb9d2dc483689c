//! Tags and repositories, by pages.

use http::Response;
use http::request::Parts;
use serde::Serialize;

use super::body::Body;
use super::error::{Code, Outcome, Refusal};
use super::pages::{limit, set_next};
use super::policy::{Action, Policy, Verb};
use super::query::Query;
use super::registry::{Exchange, Inner};
use super::respond::json;
use crate::Page;
use crate::oci::{RepositoryName, Tag};

/// Repositories that are looked at together.
const GROUP: usize = 128;

/// Repositories that one request asks the policy about, however few of them it may see.
const ASKED: usize = 10_000;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a RepositoryName,
    tags: Vec<Tag>,
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [RepositoryName],
}

/// Where a page of the catalog ends.
enum End {
    /// Nothing that may be seen is behind it.
    Here,
    /// There is more, behind the last that was listed.
    Listed,
    /// Nobody knows yet: so many were asked about, and this was the last.
    Asked(RepositoryName),
}

impl<P: Policy> Exchange<'_, P> {
    /// `GET /v2/<name>/tags/list`
    pub(super) async fn tags(&self) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let limit = limit(query, self.inner.limits.page)?;
        let last = query.first("last").map(std::borrow::Cow::into_owned);
        let found = self
            .look(Code::NameUnknown, move |repository| {
                let page = repository.tags(last.as_deref(), limit)?;
                if page.items.is_empty() && !repository.exists()? {
                    return Ok(None);
                }
                Ok(Some(page))
            })
            .await?;
        let Some(Page { items, more, .. }) = found else {
            let message = format!("repository name not known to registry, repository={}", self.name);
            return Err(Refusal::not_found(Code::NameUnknown, message));
        };
        let tags = items.into_iter().map(|entry| entry.tag).collect();
        Ok(tags_page(self.parts, self.name, tags, more, limit))
    }

    /// The page of tags that the request is for, of these, which are in byte order.
    pub(super) fn list_tags<'t>(&self, tags: impl Iterator<Item = &'t Tag>) -> Outcome {
        let query = Query::of(&self.parts.uri);
        let limit = limit(query, self.inner.limits.page)?;
        let last = query.first("last").unwrap_or_default();
        let mut page: Vec<Tag> =
            tags.filter(|tag| tag.as_str() > &*last).take(limit.saturating_add(1)).cloned().collect();
        let more = page.len() > limit && limit > 0;
        page.truncate(limit);
        Ok(tags_page(self.parts, self.name, page, more, limit))
    }
}

/// A page of tags, and where the next one begins if there are more.
pub(super) fn tags_page(
    parts: &Parts,
    name: &RepositoryName,
    tags: Vec<Tag>,
    more: bool,
    limit: usize,
) -> Response<Body> {
    let last = tags.last().cloned().filter(|_| more);
    let mut response = json("application/json", &Tags { name, tags });
    if let Some(last) = last {
        let path = format_args!("/v2/{name}/tags/list");
        let parameters = [("n", &*limit.to_string()), ("last", last.as_str())];
        set_next(&mut response, parts, path, &parameters);
    }
    response
}

impl<P: Policy> Inner<P> {
    /// `GET /v2/_catalog`: the repositories that the policy lets the client pull from.
    ///
    /// Pages are full whatever is left out of them, unless more than [`ASKED`] would have to be asked about: then the page says
    /// where the next begins without saying what is there.
    pub(super) async fn catalog(&self, parts: &Parts) -> Outcome {
        let query = Query::of(&parts.uri);
        let limit = limit(query, self.limits.page)?;
        let name = |text: &str| {
            let invalid = |error: crate::Error| Refusal::bad_request(Code::NameInvalid, error.to_string());
            text.parse::<RepositoryName>().map_err(invalid)
        };
        let last = query.first("last").filter(|last| !last.is_empty());
        let position = query.first("position").and_then(|position| self.positions.name(&position));
        let after = position.as_deref().or(last.as_deref()).map(name).transpose()?;
        let (listed, end) = self.visible(parts, after, limit).await?;
        let mut response = json("application/json", &Catalog { repositories: &listed });
        let n = limit.to_string();
        let listed = listed.last().map(RepositoryName::as_str);
        match (end, listed) {
            (End::Listed, Some(listed)) => {
                set_next(&mut response, parts, "/v2/_catalog", &[("n", &n), ("last", listed)]);
            }
            (End::Asked(name), listed) => {
                // What was listed is there for the case that the registry is another when the next page is asked for.
                let last = listed.or(last.as_deref()).unwrap_or_default();
                let position = self.positions.behind(name.as_str()).unwrap_or_default();
                let parameters = [("n", &*n), ("last", last), ("position", &position)];
                set_next(&mut response, parts, "/v2/_catalog", &parameters);
            }
            _ => {}
        }
        Ok(response)
    }

    /// The next repositories behind a name, whoever may see them.
    async fn listed(&self, after: Option<RepositoryName>) -> Outcome<Page<RepositoryName>> {
        #[cfg(feature = "archive")]
        if let Some(shelf) = &self.shelf {
            return Ok(shelf.list(after.as_ref(), GROUP));
        }
        let names = self.names.clone();
        let page = self.readers.run(move || names.list(after.as_ref(), GROUP)).await?;
        page.map_err(|error| Refusal::of(error, Code::NameUnknown, Code::NameInvalid))
    }

    /// The repositories behind a name that the client may pull from, up to a number.
    async fn visible(
        &self,
        parts: &Parts,
        mut after: Option<RepositoryName>,
        limit: usize,
    ) -> Outcome<(Vec<RepositoryName>, End)> {
        let (mut listed, mut asked) = (Vec::new(), 0);
        if limit == 0 {
            return Ok((listed, End::Here));
        }
        loop {
            let page = self.listed(after.take()).await?;
            for name in page.items {
                asked += 1;
                match self.policy.decide(parts, &Action::new(Verb::Pull, Some(&name))).await {
                    Ok(_) if listed.len() == limit => return Ok((listed, End::Listed)),
                    Ok(_) => listed.push(name.clone()),
                    // Who is to come again later would take what is left out for what is not there.
                    Err(denial) if denial.is_later() => return Err(denial.into()),
                    Err(_) => {}
                }
                if asked >= ASKED {
                    return Ok((listed, End::Asked(name)));
                }
                after = Some(name);
            }
            if !page.more {
                return Ok((listed, End::Here));
            }
        }
    }
}
