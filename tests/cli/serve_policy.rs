//! `serve` with passwords and rights.

use rustix::process::Signal;

use crate::serve_support::*;
use crate::support::*;

/// The statuses of a pull, a push and a delete, in this order.
fn tried(server: &Server, repository: &str, who: &[(&str, &str)]) -> [u16; 3] {
    let path = format!("/v2/{repository}/manifests/v1");
    let pull = server.send("GET", &path, who, b"").status;
    let push = server.send("POST", &format!("/v2/{repository}/blobs/uploads/"), who, b"").status;
    let delete = server.send("DELETE", &format!("/v2/{repository}/manifests/none"), who, b"").status;
    [pull, push, delete]
}

#[test]
fn without_a_password_there_is_only_a_challenge() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    place.write("passwords", entry("alice", "secret"));
    let server = Server::start(&place, &["oci:app", "--htpasswd", "passwords"]);
    for path in ["/v2/", "/v2/app/manifests/v1", "/v2/_catalog", "/v2/none/tags/list"] {
        let answer = server.get(path).expect(401);
        assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{answer:?}");
        assert!(answer.text().contains("UNAUTHORIZED"), "{answer:?}");
    }
    let alice = basic("alice", "secret");
    server.send("GET", "/v2/", &[("Authorization", &alice)], b"").expect(200);
    assert_eq!(tried(&server, "app", &[("Authorization", &alice)]), [200, 202, 404]);
    for wrong in
        [basic("alice", "wrong"), basic("bob", "secret"), basic("", ""), "Bearer x".into(), "Basic ?".into()]
    {
        assert_eq!(tried(&server, "app", &[("Authorization", &wrong)]), [401; 3], "{wrong}");
    }
    // Health is for whoever watches.
    server.get("/healthz").expect(200);
    server.stop();
}

#[test]
fn everybody_pulls_if_that_is_said() {
    let place = Place::with_files();
    place.push(&["oci:app:v1", "a.txt"]);
    place.write("passwords", entry("alice", "secret"));
    let server = Server::start(&place, &["oci:app", "--htpasswd", "passwords", "--anonymous-pull"]);
    // Clients that are not asked here never send their passwords.
    server.get("/v2/").expect(401);
    for who in [&[][..], &[("Authorization", "Basic Og==")]] {
        assert_eq!(tried(&server, "app", who), [200, 401, 401]);
        server.send("GET", "/v2/_catalog", who, b"").expect(200);
    }
    let wrong = basic("alice", "wrong");
    assert_eq!(tried(&server, "app", &[("Authorization", &wrong)]), [401; 3]);
    server.stop();
    // Where nobody is asked for a password.
    let server = Server::start(&place, &["oci:app", "--anonymous-pull"]);
    server.get("/v2/").expect(200);
    assert_eq!(tried(&server, "app", &[]), [200, 403, 403]);
    server.stop();
}

#[test]
fn rights_are_by_repository() {
    let place = Place::with_files();
    for name in ["public/a", "team/a", "team/b"] {
        place.push(&[&format!("oci:app:{name}:v1"), "a.txt"]);
    }
    let names = ["alice", "bob", "carol"];
    place.write("passwords", names.map(|name| entry(name, name)).concat());
    place.write(
        "rights",
        "# who may do what\nanonymous public/* pull\n* team/* pull\nalice team/a pull,push\nbob * all\n",
    );
    let server = Server::start(&place, &["oci:app", "--htpasswd", "passwords", "--rights", "rights"]);
    let statuses = |name: &str, repository: &str| {
        let sent = basic(name, name);
        let who: &[(&str, &str)] = if name.is_empty() { &[] } else { &[("Authorization", &sent)] };
        tried(&server, repository, who)
    };
    for (name, repository, expected) in [
        ("", "public/a", [200, 401, 401]),
        ("", "team/a", [401, 401, 401]),
        ("carol", "public/a", [200, 403, 403]),
        ("carol", "team/a", [200, 403, 403]),
        ("alice", "team/a", [200, 202, 403]),
        ("alice", "team/b", [200, 403, 403]),
        ("alice", "other", [403, 403, 403]),
        ("bob", "team/b", [200, 202, 404]),
        ("bob", "other", [404, 202, 404]),
    ] {
        assert_eq!(statuses(name, repository), expected, "{name} {repository}");
    }
    // Content of a repository that one may not read is not mounted from it.
    let push = |repository: &str, content: &[u8]| {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", orlop::Digest::of(content));
        server.send("POST", &path, &[("Authorization", &basic("bob", "bob"))], content).expect(201);
    };
    push("public/new", b"shown");
    push("other", b"hidden");
    let mount = |from: &str, content: &[u8]| {
        let path = format!("/v2/team/a/blobs/uploads/?mount={}{from}", orlop::Digest::of(content));
        server.send("POST", &path, &[("Authorization", &basic("alice", "alice"))], b"").status
    };
    assert_eq!((mount("&from=other", b"hidden"), mount("", b"hidden")), (202, 202));
    assert_eq!((mount("&from=public/new", b"shown"), mount("", b"shown")), (201, 201));
    server.stop();
}

#[test]
fn passwords_are_read_again() {
    let place = Place::new();
    place.write("passwords", entry("alice", "first"));
    let mut server = Server::start(&place, &["oci:app", "--htpasswd", "passwords"]);
    let status = |server: &Server, password: &str| {
        server.send("GET", "/v2/", &[("Authorization", &basic("alice", password))], b"").status
    };
    assert_eq!((status(&server, "first"), status(&server, "second")), (200, 401));
    place.write("passwords", entry("alice", "second"));
    server.signal(Signal::HUP);
    server.line("read again");
    assert_eq!((status(&server, "first"), status(&server, "second")), (401, 200));
    place.write("passwords", "alice:second\n");
    server.signal(Signal::HUP);
    assert!(server.line("error: ").contains("line=1"));
    server.line("what was in force stays");
    assert_eq!(status(&server, "second"), 200);
    server.stop();
}

#[test]
fn files_that_make_no_sense_are_named() {
    let place = Place::new();
    place.write("md5", "alice:$apr1$salt$hash\n");
    place.write("passwords", entry("alice", "secret"));
    place.write("rights", "alice app push\nalice app fetch\n");
    for (args, named) in [
        (&["--htpasswd", "md5"][..], "path=md5: no hash of bcrypt, as `htpasswd -B` makes it, line=1"),
        (&["--htpasswd", "none"], "path=none"),
        (&["--htpasswd", "passwords", "--rights", "rights"], "path=rights: use pull, push, delete or all"),
        (&["--htpasswd", "passwords", "--rights", "rights"], "line=2, column=11"),
    ] {
        let (code, error) = fails(&place, &[&["oci:app"], args].concat());
        assert!([1, 2].contains(&code) && error.contains(named), "{code} {error}");
        assert!(!place.path("app").exists(), "a store was made for a server that never was");
    }
}
