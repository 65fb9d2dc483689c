//! Whom the verbs talk to: certificates that are trusted and shown, names that have to be right, and proxies in between.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use orlop::oci::Reference;
use orlop::transfer::{CredentialFiles, RegistryOptions};
use parking_lot::Mutex;

use crate::serve_support::*;
use crate::support::*;

fn openssl(place: &Place, args: &[&str]) {
    let made = Command::new("openssl").args(args).current_dir(place.path("")).output().unwrap();
    assert!(made.status.success(), "{args:?}: {}", text(&made.stderr));
}

/// Makes `<name>-ca.pem`, an authority of its own.
fn authority(place: &Place, name: &str) {
    let (key, ca) = (format!("{name}-ca.key"), format!("{name}-ca.pem"));
    let kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let subject = format!("/CN={name} authority");
    openssl(place, &[&["req"], &kind[..], &["-subj", &subject, "-keyout", &key, "-out", &ca]].concat());
}

/// Makes `<name>.pem` and `<name>.key`, for the names in `alternatives`, signed by an authority.
fn certificate(place: &Place, name: &str, alternatives: &str, ca: &str) {
    let [key, request, out, extensions] = ["key", "csr", "pem", "ext"].map(|end| format!("{name}.{end}"));
    let (ca, ca_key) = (format!("{ca}-ca.pem"), format!("{ca}-ca.key"));
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(place, &[&["req"], &kind[..], &["-subj", "/CN=x", "-keyout", &key, "-out", &request]].concat());
    place.write(&extensions, format!("subjectAltName={alternatives}\n"));
    let sign =
        ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
    openssl(place, &[&sign[..], &["-extfile", &extensions, "-out", &out]].concat());
}

/// A verb that finds no credentials and no proxy but what a test gives it: its code and what it said on both ways.
fn run(place: &Place, args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = place.command(args);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    for name in [
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", place.path("home")).envs(environment.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn only_a_certificate_that_is_trusted_and_of_that_name_is_taken() {
    let place = Place::with_files();
    let digest = place.push(&["oci:served:app:v1", "a.txt"]);
    authority(&place, "own");
    authority(&place, "other");
    certificate(&place, "server", "IP:127.0.0.1,DNS:registry.example", "own");
    let server =
        Server::start(&place, &["oci:served", "--tls-cert", "server.pem", "--tls-key", "server.key"]);
    let app = format!("{}/app:v1", server.address);
    let resolve = |options: &[&str], environment: &[(&str, &str)]| {
        run(&place, &[&["resolve", &app], options].concat(), environment)
    };
    let trusted = resolve(&["--ca-file", "own-ca.pem"], &[]);
    assert_eq!((trusted.0, trusted.1.trim()), (0, digest.as_str()), "{}", trusted.2);
    assert_eq!(resolve(&["--insecure"], &[]).1.trim(), digest);
    let system = place.path("own-ca.pem").display().to_string();
    let (code, _, stderr) = resolve(&["--ca-file", "other-ca.pem"], &[]);
    assert_eq!(code, 7, "{stderr}");
    assert!(stderr.to_lowercase().contains("certificate"), "{stderr}");
    assert_eq!(resolve(&["--ca-file", "other-ca.pem"], &[("SSL_CERT_FILE", &system)]).1.trim(), digest);
    // The same server by a name that its certificate does not have.
    let port = server.address.rsplit_once(':').unwrap().1;
    let named = format!("localhost:{port}/app:v1");
    let (code, _, stderr) = run(&place, &["resolve", &named, "--ca-file", "own-ca.pem"], &[]);
    assert_eq!(code, 7, "{stderr}");
    assert_eq!(run(&place, &["resolve", &named, "--insecure"], &[]).1.trim(), digest);
    // What is no certificate is named.
    for (file, needle) in
        [("a.txt", "no certificate in the file"), ("none.pem", "no such file of certificates")]
    {
        let (code, _, stderr) = resolve(&["--ca-file", file], &[]);
        assert!(code != 0 && stderr.contains(needle) && stderr.contains(file), "{code} {stderr}");
    }
    server.stop();
}

/// A server of files below a directory that wants to see a certificate.
struct Demanding {
    child: Child,
    port: u16,
}

impl Demanding {
    fn start(place: &Place) -> Self {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("openssl")
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-WWW", "-quiet", "-Verify", "1"])
            .args([
                "-verify_return_error",
                "-CAfile",
                "../own-ca.pem",
                "-cert",
                "../server.pem",
                "-key",
                "../server.key",
            ])
            .current_dir(place.path("files"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let demanding = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return demanding;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("openssl does not listen");
    }
}

impl Drop for Demanding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_certificate_is_shown_to_the_registry_that_it_is_for() {
    let place = Place::with_files();
    authority(&place, "own");
    certificate(&place, "server", "IP:127.0.0.1", "own");
    certificate(&place, "client", "DNS:client.example", "own");
    let config = orlop::Digest::of(b"{}");
    let document = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/x","digest":"{config}","size":2}},"layers":[]}}"#
    );
    // It serves no file with a colon in its name.
    place.write("files/v2/app/manifests/v1", &document);
    let server = Demanding::start(&place);
    let app = format!("127.0.0.1:{}/app:v1", server.port);
    let fetch = |options: &[&str]| {
        run(&place, &[&["manifest", "fetch", &app, "--ca-file", "own-ca.pem"], options].concat(), &[])
    };
    let shown = fetch(&["--cert-file", "client.pem", "--key-file", "client.key"]);
    assert_eq!((shown.0, shown.1.trim()), (0, document.as_str()), "{}", shown.2);
    assert_eq!(fetch(&[]).0, 7);
    assert!(fetch(&["--cert-file", "client.pem"]).2.contains("--key-file"));
    let (code, _, stderr) = fetch(&["--cert-file", "client.pem", "--key-file", "a.txt"]);
    assert!(code != 0 && stderr.contains("no private key in the file, file=a.txt"), "{stderr}");
    // As docker and podman keep them, by the name of the host.
    let host = format!("127.0.0.1:{}", server.port);
    let directory = place.path("certs.d");
    for (from, to) in [("own-ca.pem", "ca.crt"), ("client.pem", "client.cert"), ("client.key", "client.key")]
    {
        fs::create_dir_all(directory.join(&host)).unwrap();
        fs::copy(place.path(from), directory.join(&host).join(to)).unwrap();
    }
    let ask = |directories: Vec<PathBuf>| {
        let options =
            RegistryOptions::new().credentials(CredentialFiles::new([])).certificate_directories(directories);
        // What is said of certificates means HTTPS on this machine too.
        let options = options.certificate_authority(place.path("own-ca.pem"));
        let client = options.sleep(|_| std::ops::ControlFlow::Break(())).client();
        let repository = client.repository(&host.parse().unwrap(), &"app".parse().unwrap()).unwrap();
        repository.manifest(&Reference::Tag("v1".parse().unwrap()))
    };
    assert_eq!(ask(vec![directory.clone()]).unwrap().unwrap().bytes, document.as_bytes());
    assert!(ask(Vec::new()).is_err());
    // Of another host it is none of ours.
    fs::rename(directory.join(&host), directory.join("127.0.0.1:1")).unwrap();
    assert!(ask(vec![directory]).is_err());
}

/// A proxy: the first lines that it was sent. It answers for `http://`, and leads `CONNECT` to one address whatever is asked for.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heads) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, to, kept) = (client.unwrap(), to.clone(), Arc::clone(&kept));
                thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    kept.lock().push(text(&head));
                    match to {
                        None => {
                            let _ = client.write_all(
                                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                            );
                        }
                        Some(to) => tunnel(client, &to),
                    }
                });
            }
        });
        Self { port, heads }
    }

    fn address(&self) -> String {
        format!("http://proxy:pass@127.0.0.1:{}", self.port)
    }
}

fn tunnel(mut client: TcpStream, to: &str) {
    let mut server = TcpStream::connect(to).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    up.join().unwrap();
}

#[test]
fn a_proxy_is_used_and_learns_no_secret_of_a_registry() {
    let place = Place::with_files();
    let digest = place.push(&["oci:served:app:v1", "a.txt"]);
    authority(&place, "own");
    certificate(&place, "server", "DNS:registry.example", "own");
    place.write("passwords", entry("alice", "secret"));
    let server = Server::start(
        &place,
        &["oci:served", "--tls-cert", "server.pem", "--tls-key", "server.key", "--htpasswd", "passwords"],
    );
    // Through a tunnel the certificate is that of the registry, and so is who is told the password.
    let proxy = Proxy::start(Some(server.address.clone()));
    let resolve =
        ["resolve", "registry.example/app:v1", "--ca-file", "own-ca.pem", "-u", "alice", "-p", "secret"];
    let (code, stdout, stderr) = run(&place, &resolve, &[("HTTPS_PROXY", &proxy.address())]);
    assert_eq!((code, stdout.trim()), (0, digest.as_str()), "{stderr}");
    let heads = proxy.heads.lock().clone();
    assert!(heads[0].starts_with("CONNECT registry.example:443 "), "{heads:?}");
    assert!(heads.iter().all(|head| head.to_lowercase().contains("proxy-authorization: basic")), "{heads:?}");
    assert!(heads.iter().all(|head| !head.to_lowercase().contains("\r\nauthorization:")), "{heads:?}");
    // Another one at the end of the tunnel is not the registry.
    let other = ["resolve", "other.example/app:v1", "--ca-file", "own-ca.pem", "-u", "alice", "-p", "secret"];
    assert_eq!(run(&place, &other, &[("HTTPS_PROXY", &proxy.address())]).0, 7);
    server.stop();
    // Without TLS it is asked for the whole address; NO_PROXY and this machine are left alone.
    let plain = Proxy::start(None);
    let address = plain.address();
    let ask = |host: &str, no_proxy: &str| {
        let reference = format!("{host}/app:v1");
        run(
            &place,
            &["resolve", &reference, "--plain-http"],
            &[("HTTP_PROXY", &address), ("NO_PROXY", no_proxy)],
        )
        .0
    };
    assert_eq!(ask("registry.example", ""), 3);
    let heads = std::mem::take(&mut *plain.heads.lock());
    assert!(heads[0].starts_with("HEAD http://registry.example/v2/app/manifests/v1 "), "{heads:?}");
    assert_eq!(ask("registry.invalid", "registry.invalid"), 7);
    let server = Server::start(&place, &["oci:served"]);
    assert_eq!(ask(&server.address, ""), 0);
    server.stop();
    assert!(plain.heads.lock().is_empty(), "{:?}", plain.heads.lock());
}
