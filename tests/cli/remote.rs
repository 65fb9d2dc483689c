//! The verbs on a registry: ours, in a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::serve_support::*;
use crate::support::*;

/// A place whose verbs find no credentials and no proxy but what a test gives them, beside a registry on `oci:served`.
struct Beside {
    place: Place,
    server: Server,
}

impl Beside {
    fn new(args: &[&str]) -> Self {
        let place = Place::with_files();
        place.ok(&["init", "oci:served"]);
        let server = Server::start(&place, &[&["oci:served"], args].concat());
        Self { place, server }
    }

    /// Something in the registry, as an argument.
    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.server.address)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.place.command(args);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.place.path("home"));
        command
    }

    /// Runs it with this on stdin: its code and what it said on both ways.
    fn run(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        self.place.write("stdin", stdin);
        let stdin = fs::File::open(self.place.path("stdin")).unwrap();
        let output = self.command(args).stdin(Stdio::from(stdin)).output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args, "");
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--format", "json"]].concat())).unwrap()
    }

    #[track_caller]
    fn fails(&self, expected: i32, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args, "");
        assert_eq!((code, stdout.as_str()), (expected, ""), "{args:?}: {stderr}");
        stderr
    }
}

#[test]
fn an_artifact_goes_there_and_comes_back_with_what_is_attached() {
    let beside = Beside::new(&[]);
    let app = beside.at("team/app:v1");
    fs::create_dir(beside.place.path("dir")).unwrap();
    beside.place.write("dir/in.txt", "inside\n");
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    beside.place.write("large", &large);
    let args = [
        "push",
        &format!("{app},v2"),
        "a.txt",
        "sub/b.txt:text/plain",
        "dir",
        "large",
        "--annotation",
        CREATED,
    ];
    let pushed = beside.json(&args);
    // The same files have the same digest, whether they go into a layout or to a registry.
    let layout = beside.place.push(&["oci:layout:v1", "a.txt", "sub/b.txt:text/plain", "dir", "large"]);
    assert_eq!(pushed["digest"], layout.as_str());
    assert_eq!(pushed["reference"], beside.at(&format!("team/app@{layout}")).as_str());
    assert_eq!(pushed["referenceAsTags"][1], beside.at("team/app:v2").as_str());
    // Once more nothing is sent.
    assert!(beside.run(&args, "").2.contains("4 stored already"));

    let attached = beside.json(&["attach", &app, "--artifact-type", "application/sbom", "a.txt"]);
    let deeper = beside.at(&format!("team/app@{}", attached["digest"].as_str().unwrap()));
    beside.ok(&["attach", &deeper, "--artifact-type", "application/signature", "--annotation", "k=v"]);
    let tree = beside.json(&["discover", &app]);
    assert_eq!(tree["reference"], beside.at(&format!("team/app@{layout}")).as_str());
    assert_eq!(tree["referrers"][0]["artifactType"], "application/sbom");
    assert_eq!(tree["referrers"][0]["referrers"][0]["artifactType"], "application/signature");
    assert_eq!(beside.ok(&["discover", "-q", &app]).lines().count(), 2);
    assert_eq!(
        beside.json(&["discover", &app, "--artifact-type", "none/none"])["referrers"]
            .as_array()
            .unwrap()
            .len(),
        0
    );

    let pulled = beside.json(&["pull", &app, "-o", "out"]);
    assert_eq!(pulled["files"].as_array().unwrap().len(), 4);
    let out = tree_of(&beside, "out");
    for name in ["a.txt", "sub/b.txt", "dir/in.txt", "large"] {
        assert!(out.get(name) == Some(&fs::read(beside.place.path(name)).unwrap()), "{name}");
    }
    assert!(beside.ok(&["pull", &deeper, "-o", "subject", "--include-subject"]).contains("Pulled"));
    assert!(tree_of(&beside, "subject").contains_key("dir/in.txt"));
    // What the server stores is a layout as any.
    beside.place.ok(&["verify", "oci:served", "--read-data"]);
}

fn tree_of(beside: &Beside, name: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    let files = tree(&beside.place.path(name)).into_iter();
    files.map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes)).collect()
}

#[test]
fn names_and_documents() {
    let beside = Beside::new(&[]);
    let app = beside.at("app:v1");
    let digest = beside.ok(&["push", "-q", &app, "a.txt", "--annotation", CREATED]).trim().to_owned();
    let by_digest = beside.at(&format!("app@{digest}"));
    assert_eq!(beside.ok(&["resolve", &app]), format!("{digest}\n"));
    assert_eq!(beside.ok(&["resolve", "-l", &app]), format!("{by_digest}\n"));
    assert_eq!(beside.ok(&["resolve", &format!("docker://{app}")]), format!("{digest}\n"));
    beside.ok(&["tag", &app, "v2", "v3"]);
    assert_eq!(beside.ok(&["repo", "tags", &beside.at("app")]), "v1\nv2\nv3\n");
    assert_eq!(beside.ok(&["repo", "tags", &by_digest, "--last", "v1"]), "v2\nv3\n");
    assert_eq!(beside.ok(&["untag", &beside.at("app:v2,v3")]).lines().count(), 2);
    assert!(beside.fails(3, &["untag", &beside.at("app:v2")]).contains("app:v2"));
    beside.ok(&["push", "-q", &beside.at("team/b:v1"), "a.txt"]);
    assert_eq!(beside.ok(&["repo", "ls", &beside.server.address]), "app\nteam/b\n");
    assert_eq!(beside.ok(&["repo", "ls", &beside.at("team")]), "b\n");

    let document = beside.ok(&["manifest", "fetch", &app]);
    assert_eq!(orlop::Digest::of(document.as_bytes()).to_string(), digest);
    let fetched = beside.json(&["manifest", "fetch", &app]);
    assert_eq!(
        (&fetched["digest"], &fetched["content"]["schemaVersion"]),
        (&digest.as_str().into(), &2.into())
    );
    assert_eq!(beside.ok(&["manifest", "fetch-config", &app]), "{}");
    beside.place.write("m.json", &document);
    let pushed = beside.json(&["manifest", "push", &beside.at("app:w1,w2"), "m.json"]);
    assert_eq!(
        (&pushed["digest"], pushed["referenceAsTags"].as_array().unwrap().len()),
        (&digest.as_str().into(), 2)
    );
    assert!(beside.fails(4, &["manifest", "push", &beside.at("empty:v1"), "m.json"]).contains("blob push"));

    let layer = orlop::Digest::of(b"hello\n").to_string();
    let at = beside.at(&format!("app@{layer}"));
    assert_eq!(beside.ok(&["blob", "fetch", &at, "-o", "-"]), "hello\n");
    beside.ok(&["blob", "fetch", &at, "-o", "fetched"]);
    assert_eq!(fs::read(beside.place.path("fetched")).unwrap(), b"hello\n");
    let descriptor: serde_json::Value =
        serde_json::from_str(&beside.ok(&["blob", "fetch", &at, "--descriptor"])).unwrap();
    assert_eq!((&descriptor["size"], &descriptor["digest"]), (&6.into(), &layer.as_str().into()));
    let (code, stdout, stderr) = beside.run(&["blob", "push", "-q", &beside.at("app"), "-"], "piped");
    assert_eq!((code, stdout), (0, format!("{}\n", orlop::Digest::of(b"piped"))), "{stderr}");
    let wrong = ["blob", "push", &at, "m.json"];
    assert!(beside.fails(5, &wrong).contains("nothing was stored"));

    let piped = beside.at(&format!("app@{}", orlop::Digest::of(b"piped")));
    assert!(beside.fails(9, &["blob", "delete", &piped]).contains("--force"));
    beside.ok(&["blob", "delete", "--force", &piped]);
    assert!(beside.ok(&["blob", "delete", "--force", &piped]).contains("Missing"));
    beside.ok(&["manifest", "delete", "--force", &app]);
    assert_eq!(beside.ok(&["repo", "tags", &beside.at("app")]), "");
}

#[test]
fn codes_tell_what_went_wrong() {
    let beside = Beside::new(&[]);
    beside.ok(&["push", "-q", &beside.at("app:v1"), "a.txt"]);
    assert!(beside.fails(3, &["resolve", &beside.at("app:none")]).contains("no such reference"));
    assert!(beside.fails(3, &["pull", &beside.at("none:v1")]).contains("no such reference"));
    assert!(beside.fails(2, &["resolve", &beside.at("app")]).contains("no tag or digest"));
    assert!(beside.fails(2, &["resolve", &beside.at("App:v1")]).contains("repository="));
    assert!(beside.fails(2, &["resolve", "oci:served:v1", "--plain-http"]).contains("registries"));
    assert!(beside.fails(2, &["gc", &beside.at("app")]).contains("takes no registry"));
    let gone =
        format!("{}/app:v1", { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() });
    // Twice at once is enough here: what is waited in between is tried with the library.
    assert!(beside.fails(7, &["resolve", &gone]).contains("cannot look for the manifest"));
    // A registry that speaks no TLS.
    let secure = ["resolve", &beside.at("app:v1"), "--insecure"];
    assert!(beside.fails(7, &secure).contains("--plain-http"));
}

#[test]
fn logging_in_and_out() {
    let place = Place::with_files();
    place.push(&["oci:served:app:v1", "a.txt"]);
    place.write("passwords", entry("alice", "secret"));
    let server = Server::start(&place, &["oci:served", "--htpasswd", "passwords"]);
    let beside = Beside { place, server };
    let (host, app) = (beside.server.address.clone(), beside.at("app:v1"));
    let config = beside.place.path("home/.docker/config.json");
    assert!(beside.fails(6, &["resolve", &app]).contains("orlop login"));
    // What the registry does not take is not kept.
    let (code, _, stderr) = beside.run(&["login", &host, "-u", "alice", "--password-stdin"], "wrong\n");
    assert_eq!((code, config.exists()), (6, false), "{stderr}");
    beside.place.write("home/.docker/config.json", r#"{"psFormat":"x"}"#);
    let (code, stdout, stderr) = beside.run(&["login", &host, "-u", "alice", "--password-stdin"], "secret\n");
    assert_eq!((code, stdout), (0, format!("Logged in to {host}\n")), "{stderr}");
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&config).unwrap();
    assert!(kept.contains("psFormat") && kept.contains(&host) && !kept.contains("secret"), "{kept}");
    let digest = beside.ok(&["resolve", &app]);
    beside.ok(&["push", &beside.at("app:v2"), "a.txt"]);
    beside.ok(&["logout", &host]);
    assert!(fs::read_to_string(&config).unwrap().contains("psFormat"));
    beside.fails(6, &["resolve", &app]);
    beside.fails(3, &["logout", &host]);
    // For one command.
    let given = ["resolve", &app, "-u", "alice", "--password-stdin"];
    assert_eq!(beside.run(&given, "secret").1, digest);
    assert_eq!(beside.run(&given, "wrong").0, 6);
    assert_eq!(beside.ok(&["resolve", &app, "-u", "alice", "-p", "secret"]), digest);
    assert!(beside.fails(2, &["resolve", &app, "-u", "alice"]).contains("--password-stdin"));
    // From a file of one's own, and from a helper.
    let auth = basic("alice", "secret");
    beside.place.write("auth.json", format!(r#"{{"auths":{{"{host}":{{"auth":"{}"}}}}}}"#, &auth[6..]));
    assert_eq!(beside.ok(&["resolve", &app, "--registry-config", "auth.json"]), digest);
    beside.place.write("home/.docker/config.json", format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#));
    let helper = "#!/bin/sh\nread server\necho \"$1 $server\" >> \"$HOME/asked\"\n\
                  echo '{\"Username\":\"alice\",\"Secret\":\"secret\"}'\n";
    beside.place.write("bin/docker-credential-test", helper);
    let path = beside.place.path("bin/docker-credential-test");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = beside.command(&["resolve", &app]);
    let paths = format!("{}:{}", beside.place.path("bin").display(), std::env::var("PATH").unwrap());
    let output = command.env("PATH", paths).output().unwrap();
    assert_eq!(text(&output.stdout), digest, "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(beside.place.path("home/asked")).unwrap(), format!("get {host}\n"));
}

/// A password is told to the registry that it is for, and to no other that the same copy names.
#[test]
fn each_of_two_registries_is_told_what_is_meant_for_it() {
    let place = Place::with_files();
    let digest = place.push(&["oci:served:app:v1", "a.txt"]);
    place.ok(&["init", "oci:other"]);
    place.write("passwords", entry("alice", "secret"));
    place.write("others", entry("bob", "hidden"));
    let goal = Server::start(&place, &["oci:other", "--htpasswd", "others"]);
    let server = Server::start(&place, &["oci:served", "--htpasswd", "passwords"]);
    let beside = Beside { place, server };
    let (from, to) = (beside.at("app:v1"), format!("{}/copy:v1", goal.address));
    // Nothing is sent before it is known of which one it is.
    for options in [
        &["-u", "alice", "-p", "secret"][..],
        &["-u", "alice", "--password-stdin"],
        &["--identity-token", "token"],
        &["--header", "X-Secret: 1"],
        &["--insecure"],
        &["--plain-http"],
    ] {
        let error = beside.fails(2, &[&["cp", &from, &to], options].concat());
        assert!(error.contains("for one registry, and several are named, registries="), "{error}");
        assert!(error.contains("--from-username"), "{error}");
    }
    beside.place.write("list", format!("{from}\n{to}\n"));
    let error = beside
        .fails(2, &["cp", "--from-file", "list", "oci:b", "--from-username", "a", "--from-password", "b"]);
    assert!(error.contains("copied from, and several are named"), "{error}");
    let error = beside.fails(2, &["cp", &from, "oci:b", "--to-username", "a", "--to-password", "b"]);
    assert!(error.contains("copied to, and none is named"), "{error}");
    assert!(!beside.place.path("b").exists());
    let from_alice = ["--from-username", "alice", "--from-password", "secret"];
    let to_bob = ["--to-username", "bob", "--to-password-stdin"];
    assert_eq!(beside.run(&[&["cp", &from, &to], &to_bob[..]].concat(), "hidden").0, 6);
    assert_eq!(beside.run(&[&["cp", &from, &to], &from_alice[..]].concat(), "").0, 6);
    let (code, _, stderr) = beside.run(&[&["cp", &from, &to], &from_alice[..], &to_bob].concat(), "hidden");
    assert_eq!(code, 0, "{stderr}");
    let given = ["resolve", &to, "-u", "bob", "--password-stdin"];
    assert_eq!(beside.run(&given, "hidden").1.trim(), digest);
    let both =
        [&["cp", &from, &to, "--from-username", "alice", "--from-password-stdin"], &to_bob[..]].concat();
    let (code, _, stderr) = beside.run(&both, "hidden");
    assert!(code == 2 && stderr.contains("standard input is read once"), "{stderr}");
    // One registry, or within one, is as it was.
    beside.ok(&["cp", &from, &beside.at("copy:v1"), "-u", "alice", "-p", "secret"]);
    beside.ok(&["cp", &from, "oci:b", "-u", "alice", "-p", "secret"]);
    beside.ok(&[&["cp", &from, "oci:b"], &from_alice[..]].concat());
    goal.stop();
}
