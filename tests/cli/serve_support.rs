//! A server in a process of its own, and a client that says exactly what a test wants it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

/// Nothing here takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `orlop serve` on a free port of loopback.
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as `127.0.0.1:40000`.
    pub(crate) address: String,
    lines: Arc<Mutex<Vec<String>>>,
}

/// What a client heard.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Server {
    /// Starts one; `args` begin with the layouts.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = Self::command(place, args);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, stderr) = (Arc::clone(&lines), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines() {
                kept.lock().push(line.unwrap());
            }
        });
        let mut server = Self { child, address: String::new(), lines };
        let line = server.line("listening on ");
        server.address = line.rsplit_once("//").unwrap().1.to_owned();
        server
    }

    fn command(place: &Place, args: &[&str]) -> Command {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let program = place.command(&args);
        // What runs these tests may ignore signals, and a program keeps to that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "--default-signal=TERM", "--default-signal=HUP"]);
        command.arg(program.get_program()).args(args).current_dir(place.path("")).stdin(Stdio::null());
        command
    }

    /// A line of stderr that has this text, once there is one.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines.lock().iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended, {ended:?}: {:?}", self.lines.lock());
            assert!(start.elapsed() < PATIENCE, "no line has {text}: {:?}", self.lines.lock());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stderr(&self) -> String {
        self.lines.lock().join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ends by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {:?}", self.lines.lock());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end, as systems do; it must have nothing left to finish.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended(), Some(0), "{}", self.stderr());
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// Sends a request and reads the answer.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&self.address, method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Pushes a blob as one request.
    pub(crate) fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = orlop::Digest::of(content).to_string();
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[], content).expect(201);
        digest
    }

    pub(crate) fn put_manifest(&self, path: &str, manifest: &str) -> Answer {
        self.send("PUT", path, &[("Content-Type", MANIFEST)], manifest.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a server that does not come to serve anything.
pub(crate) fn fails(place: &Place, args: &[&str]) -> (i32, String) {
    let mut child = Server::command(place, args).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it serves: {args:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code().unwrap(), text(&stderr))
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = connect(address);
    stream.write_all(head(method, path, headers, Some(body.len())).as_bytes()).unwrap();
    // A server that has refused already may not take it all.
    let _ = stream.write_all(body);
    Answer::read(&mut stream)
}

/// The head of a request on a connection of its own.
pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length.filter(|length| *length > 0 || !["GET", "HEAD"].contains(&method)) {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head + "\r\n"
}

impl Answer {
    /// Reads an answer to the end of the connection.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset behind the answer ends it too.
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
        let head = text(&bytes[..end]);
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }
}

/// `Authorization` of the scheme Basic.
pub(crate) fn basic(name: &str, password: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for group in format!("{name}:{password}").as_bytes().chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            encoded.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    format!("Basic {encoded}")
}

/// A line of a password file.
pub(crate) fn entry(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())
}
