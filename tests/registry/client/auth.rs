//! Who asks: tokens for what they are needed for, in time, once; and secrets for nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use orlop::transfer::{Credential, RegistryOptions};
use orlop::{Digest, ErrorKind};

use super::faulty::{Asked, Faulty, Reply, reply};
use super::{layer, options, registry, repository};

const BASIC: &str = "Basic bWU6cHc=";

fn known() -> RegistryOptions {
    options().credentials(Credential::password("me", "pw"))
}

/// A registry that wants tokens: `t0`, `t1`, and so on, of which those are good that `good` says.
fn with_tokens(
    expires: u32,
    good: impl Fn(&str, &Asked) -> bool + Send + Sync + 'static,
) -> (Faulty, Arc<AtomicUsize>) {
    let issued = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&issued);
    let faulty = Faulty::new(move |asked, _| {
        if asked.path.starts_with("/token") {
            let number = count.fetch_add(1, Ordering::SeqCst);
            return reply(200).body(format!(r#"{{"token":"t{number}","expires_in":{expires}}}"#));
        }
        match asked.header("authorization").strip_prefix("Bearer ") {
            Some(token) if good(token, asked) => reply(200).body("x").header("X-Y", "z"),
            _ => challenge(asked, "repository:a:pull,more"),
        }
    });
    (faulty, issued)
}

fn challenge(asked: &Asked, scope: &str) -> Reply {
    let host = asked.header("host");
    reply(401)
        .header("WWW-Authenticate", "Negotiate")
        .header(
            "WWW-Authenticate",
            format!(
                r#"Basic realm="r", Bearer realm="http://{host}/token?x=1",service="s v",scope="{scope}""#
            ),
        )
        .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#)
}

fn x() -> Digest {
    layer(b"x").digest
}

#[test]
fn a_token_is_asked_for_once_and_kept() {
    let (faulty, issued) = with_tokens(300, |_, _| true);
    let remote = repository(faulty.port, known());
    for _ in 0..3 {
        assert_eq!(remote.content_size(&x()).unwrap(), Some(1));
    }
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    // Once without, once for a token, and from then on with it.
    assert_eq!(faulty.count("HEAD"), 4);
    let asked = faulty.asked();
    let token = asked.iter().find(|asked| asked.path.starts_with("/token")).unwrap();
    assert_eq!(token.header("authorization"), BASIC);
    let query = "/token?x=1&service=s+v&scope=repository%3Aa%3Apull&scope=repository%3Aa%3Apull%2Cmore";
    assert_eq!(token.path, query);
    // Neither name nor password goes to a registry that takes tokens.
    let others = asked.iter().filter(|asked| !asked.path.starts_with("/token"));
    assert!(others.into_iter().all(|asked| !asked.header("authorization").starts_with("Basic")));
}

#[test]
fn many_threads_ask_for_one_token() {
    let (faulty, issued) = with_tokens(300, |_, _| true);
    let remote = repository(faulty.port, known());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(remote.content_size(&x()).unwrap(), Some(1)));
        }
    });
    assert_eq!(issued.load(Ordering::SeqCst), 1);
}

#[test]
fn a_token_that_is_over_is_renewed() {
    // Over at once, before anybody says so: each request has one of its own, and is not refused for it.
    let (faulty, issued) = with_tokens(0, |_, _| true);
    let remote = repository(faulty.port, known());
    for _ in 0..3 {
        remote.content_size(&x()).unwrap();
    }
    assert_eq!((issued.load(Ordering::SeqCst), faulty.count("HEAD")), (3, 4));

    // Said to be good, and refused all the same.
    let (faulty, issued) = with_tokens(300, |token, _| token != "t0");
    let remote = repository(faulty.port, known());
    remote.content_size(&x()).unwrap();
    remote.content_size(&x()).unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[test]
fn what_is_refused_for_good_ends() {
    let (faulty, _) = with_tokens(300, |_, _| false);
    let error = repository(faulty.port, known()).content_size(&x()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(faulty.lines().len() < 9, "{:?}", faulty.lines());

    for (options, why) in
        [(known(), "does not take the name and the password"), (options(), "there are none")]
    {
        let faulty = Faulty::new(|_, _| reply(401).header("WWW-Authenticate", "Basic realm=x"));
        let error = repository(faulty.port, options).content_size(&x()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains(why), "{error}");
    }
    // A token service that knows nobody of that name.
    let faulty = Faulty::new(|asked, _| match asked.path.starts_with("/token") {
        true => reply(401),
        false => challenge(asked, "x"),
    });
    let error = repository(faulty.port, known()).content_size(&x()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    // Forbidden is another thing, and not asked again.
    let faulty = Faulty::new(|_, _| reply(403));
    assert_eq!(repository(faulty.port, known()).content_size(&x()).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(faulty.lines().len(), 1);
}

#[test]
fn basic_and_tokens_of_other_kinds() {
    let faulty = Faulty::new(|asked, _| match asked.header("authorization") {
        BASIC => reply(200).body("x"),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let remote = repository(faulty.port, known());
    remote.content_size(&x()).unwrap();
    remote.content_size(&x()).unwrap();
    assert_eq!(faulty.lines().len(), 3);
    known().client().check(&registry(faulty.port)).unwrap();

    let (faulty, _) = with_tokens(300, |token, _| token == "given");
    let given = options().credentials(Credential::RegistryToken("given".into()));
    repository(faulty.port, given).content_size(&x()).unwrap();
    assert_eq!(faulty.lines().len(), 1);

    let (faulty, _) = with_tokens(300, |_, _| true);
    let identity = options().credentials(Credential::IdentityToken("i&d".into()));
    repository(faulty.port, identity).content_size(&x()).unwrap();
    let asked = faulty.asked().into_iter().find(|asked| asked.path.starts_with("/token")).unwrap();
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", ""));
    let form = String::from_utf8(asked.body).unwrap();
    let expected = "grant_type=refresh_token&client_id=orlop&service=s%20v&scope=repository:a:pull%20repository:a:pull%2Cmore&refresh_token=i%26d";
    assert_eq!(form, expected);
}

#[test]
fn secrets_stay_with_the_registry() {
    let elsewhere = Faulty::new(|_, _| reply(200).body("x"));
    let port = elsewhere.port;
    let faulty = Faulty::new(move |asked, _| match asked.header("authorization") {
        BASIC => reply(307).header("Location", format!("http://127.0.0.1:{port}/elsewhere?signed=1")),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let options = known().header("X-Secret", "s3").unwrap();
    assert!(!format!("{options:?}").contains("s3"));
    let remote = repository(faulty.port, options);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut remote.content(&layer(b"x"), 0).unwrap().unwrap(), &mut bytes).unwrap();
    assert_eq!(bytes, b"x");
    assert!(faulty.asked().iter().all(|asked| asked.header("x-secret") == "s3"));
    let asked = elsewhere.asked();
    assert_eq!(asked[0].path, "/elsewhere?signed=1");
    assert!(asked[0].header("authorization").is_empty() && asked[0].header("x-secret").is_empty());

    // Nor are they given to another host that asks for them.
    let elsewhere = Faulty::new(|_, _| reply(401).header("WWW-Authenticate", "Basic realm=x"));
    let port = elsewhere.port;
    let faulty = Faulty::new(move |_, _| reply(302).header("Location", format!("http://127.0.0.1:{port}/")));
    let error = repository(faulty.port, known()).content_size(&x()).unwrap_err();
    assert_eq!((error.kind(), elsewhere.lines().len()), (ErrorKind::Unauthorized, 1));
    // Redirects without an end.
    let faulty = Faulty::new(|asked, _| reply(302).header("Location", format!("{}x", asked.path)));
    let error = repository(faulty.port, known()).content_size(&x()).unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}
