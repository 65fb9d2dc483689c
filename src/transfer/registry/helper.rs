//! Programs that keep credentials: `docker-credential-NAME` with `get`, `store` and `erase`.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::credential::Credential;
use crate::digest::excerpt;
use crate::error::{Error, ErrorKind, Result};

/// How long a helper may take: some of them ask a person.
const TIME: Duration = Duration::from_secs(60);
/// How much it may say, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The name that stands for "the secret is an identity token".
const TOKEN_USER: &str = "<token>";

/// What helpers say when they have none, on stdout and with a failure.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// A helper by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper<'a> {
    name: &'a str,
    time: Duration,
}

impl<'a> Helper<'a> {
    /// The helper of a name, which is what its program ends with.
    ///
    /// # Errors
    ///
    /// `Invalid` for a name with more in it than letters, digits, `.`, `_` and `-`: it comes from a file.
    pub(super) fn new(name: &'a str) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 100 || !name.bytes().all(fits) {
            let name = excerpt(name);
            return Err(Error::invalid(format!("not the name of a credential helper, helper={name}")));
        }
        Ok(Self { name, time: TIME })
    }

    /// What it keeps under a name.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>> {
        let (success, output) = self.run("get", server.as_bytes())?;
        if !success {
            let said = String::from_utf8_lossy(&output).to_ascii_lowercase();
            return if said.contains(NOT_FOUND) { Ok(None) } else { Err(self.failed("get", &output)) };
        }
        // What it says is a secret and not for messages.
        let kept: Kept = serde_json::from_slice(&output).map_err(|_| {
            Error::invalid(format!("credential helper answers no credential, helper={}", self.name))
        })?;
        Ok(match (kept.username.as_str(), kept.secret) {
            (_, secret) if secret.is_empty() => None,
            (TOKEN_USER, secret) => Some(Credential::IdentityToken(secret)),
            (username, secret) => Some(Credential::password(username, secret)),
        })
    }

    /// Gives it a credential to keep.
    pub(super) fn store(&self, server: &str, credential: &Credential) -> Result<()> {
        let (username, secret) = match credential {
            Credential::Password { username, password } => (username.as_str(), password),
            Credential::IdentityToken(token) | Credential::RegistryToken(token) => (TOKEN_USER, token),
        };
        let kept = Kept { server_url: server.into(), username: username.into(), secret: secret.clone() };
        let input = serde_json::to_vec(&kept).map_err(|_| self.failed("store", b""))?;
        let (success, output) = self.run("store", &input)?;
        if success { Ok(()) } else { Err(self.failed("store", &output)) }
    }

    /// Lets it forget a credential; it is no error that there was none.
    pub(super) fn erase(&self, server: &str) -> Result<()> {
        let (success, output) = self.run("erase", server.as_bytes())?;
        let said = String::from_utf8_lossy(&output).to_ascii_lowercase();
        if success || said.contains(NOT_FOUND) { Ok(()) } else { Err(self.failed("erase", &output)) }
    }

    #[cold]
    fn failed(&self, verb: &str, output: &[u8]) -> Error {
        let said = String::from_utf8_lossy(output);
        let (name, said) = (self.name, excerpt(said.trim()).to_string());
        Error::new(
            ErrorKind::Unauthorized,
            format!("credential helper failed, helper={name}, verb={verb}, says={said}"),
        )
    }

    /// Runs it: whether it succeeded, and what it said.
    fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
        let program = format!("docker-credential-{}", self.name);
        let failed = |what: &str| Error::new(ErrorKind::Unauthorized, format!("{what}, program={program}"));
        let mut child = Command::new(&program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("cannot run the credential helper").with_source(error))?;
        let outcome = exchange(&mut child, input, self.time);
        if outcome.is_err() {
            // Fails if it has just ended, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome.map_err(failed)
    }
}

/// Gives a program its input and takes its output. Both go by threads of their own, which end with the pipes: what the program
/// starts may keep those open for longer than anybody waits.
fn exchange(child: &mut Child, input: &[u8], time: Duration) -> Result<(bool, Vec<u8>), &'static str> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("credential helper has no pipes");
    };
    let until = Instant::now() + time;
    let input = input.to_vec();
    thread::spawn(move || {
        // A helper that does not read it says itself what is wrong.
        let _ = stdin.write_all(&input);
    });
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output);
        // Nobody waits any more if it took too long.
        let _ = sender.send(read.map(|_| output));
    });
    let output = match receiver.recv_timeout(time) {
        Ok(Ok(output)) if output.len() as u64 <= MAX_OUTPUT => output,
        Ok(Ok(_)) => return Err("credential helper says too much"),
        Ok(Err(_)) => return Err("cannot read what the credential helper says"),
        Err(_) => return Err("credential helper does not answer"),
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((status.success(), output)),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK),
            Ok(None) => return Err("credential helper does not end"),
            Err(_) => return Err("cannot wait for the credential helper"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["", "../x", "a/b", "a b", "a;b", &"a".repeat(101)] {
            assert_eq!(Helper::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        let error = Helper::new("there-is-none.of-it").unwrap().get("h").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains("program=docker-credential-there-is-none.of-it"), "{error}");
    }

    fn shell(script: &str, input: &[u8], time: Duration) -> Result<(bool, Vec<u8>), &'static str> {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let outcome = exchange(&mut child, input, time);
        let _ = child.kill();
        let _ = child.wait();
        outcome
    }

    #[test]
    fn what_it_says_and_how_long_it_takes_is_bounded() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("cat", b"in", long), Ok((true, b"in".to_vec())));
        assert_eq!(shell("echo no; exit 1", b"in", long), Ok((false, b"no\n".to_vec())));
        assert_eq!(shell("yes", b"", long), Err("credential helper says too much"));
        let short = Duration::from_millis(50);
        assert_eq!(shell("sleep 60", b"", short), Err("credential helper does not answer"));
        assert_eq!(shell("exec 1>&-; sleep 60", b"", short), Err("credential helper does not end"));
    }
}
