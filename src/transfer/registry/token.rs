//! Tokens: how they are asked for, and how long they are good (the token specification of Docker's registry).

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use serde::Deserialize;

use super::address::{encode, follow};
use super::auth::basic;
use super::credential::Credential;
use super::host::{Host, text};
use super::refusal::About;
use super::retry::{Attempts, is_passing, retry_after};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Object;
use crate::sys;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// How long a token is good that does not say it.
const USUAL: Duration = Duration::from_secs(60);

/// What programs of this kind call themselves to token services.
const CLIENT: &str = "orlop";

/// A token, as it goes into requests.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    until: Instant,
}

impl Token {
    /// Whether it is good for a request that begins now. It is renewed a bit before it ends, since requests take time too.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Asks a service for a token.
pub(super) fn fetch(
    host: &Host,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Token> {
    let place = host.registry.as_str();
    let about = About { what: "cannot get a token", place };
    // From a registry with HTTPS to a service without it there is no way, least of all with a password.
    let url = follow(&host.base, realm)?;
    let mut attempts = Attempts::new(&host.options);
    loop {
        let sent = Instant::now();
        let request = match credential {
            Some(Credential::IdentityToken(token)) => by_identity_token(host, &url, service, scopes, token)?,
            _ => by_password(host, &url, service, scopes, credential)?,
        };
        let (failure, after) = match request.send() {
            Ok(mut response) if response.status() == StatusCode::OK => {
                return parse(&mut response, sent).ok_or_else(|| about.broken("the answer has no token"));
            }
            Ok(mut response) => {
                let (status, after) = (response.status(), text(&response, header::RETRY_AFTER));
                let after = after.and_then(|value| retry_after(value, sys::now()));
                let failure = about.refused(status, &mut response);
                if !is_passing(status) {
                    return Err(refused(failure, status));
                }
                (failure, after)
            }
            Err(error) => (about.unreached(error), None),
        };
        attempts.again(failure, after)?;
    }
}

/// Token services have several ways to say that they do not know somebody.
fn refused(failure: Error, status: StatusCode) -> Error {
    match status.as_u16() {
        400 | 401 => failure.with_kind(ErrorKind::Unauthorized),
        404 => failure.with_kind(ErrorKind::Unavailable),
        _ => failure,
    }
}

/// With a name and a password, or as nobody.
fn by_password(
    host: &Host,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<reqwest::blocking::RequestBuilder> {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let request = host.request(Method::GET, &url, None)?;
    Ok(match credential.and_then(basic) {
        Some(value) => request.header(header::AUTHORIZATION, value),
        None => request,
    })
}

/// With a token that stands for somebody, by OAuth2.
fn by_identity_token(
    host: &Host,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    token: &str,
) -> Result<reqwest::blocking::RequestBuilder> {
    let joined = scopes.join(" ");
    let mut form = String::new();
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT),
        ("service", service.unwrap_or_default()),
        ("scope", &joined),
        ("refresh_token", token),
    ] {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        encode(value, &mut form);
    }
    let request = host.request(Method::POST, realm, Some(Bytes::from(form)))?;
    Ok(request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
}

fn parse(response: &mut dyn Read, sent: Instant) -> Option<Token> {
    let mut bytes = Vec::new();
    response.take(MAX_ANSWER + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_ANSWER {
        return None;
    }
    read(&bytes, sent)
}

/// Reads what a token service answers.
pub(super) fn read(bytes: &[u8], sent: Instant) -> Option<Token> {
    let Object(answer) = serde_json::from_slice::<Object<Answer>>(bytes).ok()?;
    let given = |token: Option<String>| token.filter(|token| !token.is_empty());
    let token = given(answer.token).or_else(|| given(answer.access_token))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    let said = answer.expires_in.filter(|seconds| (0.0..=1e9).contains(seconds));
    let good = said.map_or(USUAL, Duration::from_secs_f64);
    // A tenth before its end, for clocks and requests that take their time.
    Some(Token { header, until: sent + good.mul_f64(0.9) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers() {
        let now = Instant::now();
        for (text, header, seconds) in [
            (r#"{"token":"a"}"#, "Bearer a", 54),
            (r#"{"token":"","access_token":"b","expires_in":300}"#, "Bearer b", 270),
            (r#"{"token":"a","access_token":"b","expires_in":null,"issued_at":1}"#, "Bearer a", 54),
            (r#"{"token":"a","expires_in":0}"#, "Bearer a", 0),
            (r#"{"token":"a","expires_in":-9}"#, "Bearer a", 54),
            (r#"{"token":"a","expires_in":1e300}"#, "Bearer a", 54),
        ] {
            let token = read(text.as_bytes(), now).unwrap();
            assert_eq!(token.header, header, "{text}");
            assert!(!token.is_good(now + Duration::from_secs(seconds)), "{text}");
            assert!(seconds == 0 || token.is_good(now + Duration::from_secs(seconds - 1)), "{text}");
            assert!(!format!("{token:?}").contains("Bearer"));
        }
        for bad in ["", "{}", "[]", r#"{"token":"a\nb"}"#, r#"{"token":1}"#] {
            assert!(read(bad.as_bytes(), now).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}|\\{\"token\":\"[a-z]{0,4}\",\"expires_in\":-?[0-9.e]{1,9}\\}") {
            read(text.as_bytes(), Instant::now());
        }
    }
}
