//! Passwords: files as `htpasswd -B` writes them, and what was verified lately.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use bcrypt::HashParts;
use orlop::Digest;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Costs beyond this take seconds: whoever asks would hold a thread for that long.
const MAX_COST: u32 = 16;
/// Verified credentials that are remembered, in each of two generations.
const REMEMBERED: usize = 512;
/// Who may wait for a verification.
const WAITING: usize = 256;

/// The users of a password file.
#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// What somebody unknown is compared with, so that he waits as long as somebody known.
    dummy: String,
}

/// Compares passwords on threads of their own, few at a time, and remembers what fitted.
#[derive(Debug)]
pub(super) struct Verifier {
    users: Users,
    threads: Arc<Semaphore>,
    waiting: Semaphore,
    seen: Mutex<Seen>,
}

/// Digests of credentials that fitted, with a secret of this process before them.
#[derive(Debug)]
struct Seen {
    secret: [u8; 32],
    new: HashSet<Digest>,
    old: HashSet<Digest>,
}

/// Too many passwords are being compared.
#[derive(Debug)]
pub(super) struct Busy;

impl FromStr for Users {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut hashes = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |what: &str| format!("{what}, line={}", index + 1);
            let (name, hash) =
                line.split_once(':').ok_or_else(|| fail("no colon between a name and a hash"))?;
            if name.is_empty() {
                return Err(fail("the name is empty"));
            }
            if [ANONYMOUS, "*"].contains(&name) {
                return Err(fail(&format!("the name stands for others in a file of rights, name={name}")));
            }
            let parts = ["$2a$", "$2b$", "$2y$"]
                .iter()
                .any(|version| hash.starts_with(version))
                .then(|| hash.parse::<HashParts>().ok())
                .flatten()
                .ok_or_else(|| fail("no hash of bcrypt, as `htpasswd -B` makes it"))?;
            if parts.get_cost() > MAX_COST {
                return Err(fail(&format!(
                    "the hash costs too much, cost={}, maximum={MAX_COST}",
                    parts.get_cost()
                )));
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(fail(&format!("the name is there already, name={name}")));
            }
        }
        let dummy = hashes.values().next().cloned();
        let dummy = dummy.ok_or_else(|| "no names in it; `htpasswd -B` adds them".to_owned())?;
        Ok(Self { hashes, dummy })
    }
}

/// Whoever sends no credentials.
pub(super) const ANONYMOUS: &str = "anonymous";

impl Users {
    pub(super) fn has(&self, name: &str) -> bool {
        self.hashes.contains_key(name)
    }
}

impl Verifier {
    pub(super) fn new(users: Users, threads: usize) -> Self {
        let mut secret = [0; 32];
        // Without a secret a digest that leaked could be tried out; nothing else depends on it.
        let _ = rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty());
        Self {
            users,
            threads: Arc::new(Semaphore::new(threads.max(1))),
            waiting: Semaphore::new(WAITING),
            seen: Mutex::new(Seen { secret, new: HashSet::new(), old: HashSet::new() }),
        }
    }

    /// Whether the password is that of the name.
    pub(super) async fn verify(&self, name: &str, password: &[u8]) -> Result<bool, Busy> {
        let credentials = self.seen.lock().digest(name, password);
        if self.seen.lock().has(&credentials) {
            return Ok(true);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Busy)?;
        let known = self.users.hashes.get(name);
        let (hash, password) = (known.unwrap_or(&self.users.dummy).clone(), password.to_vec());
        let compared = tokio::task::spawn_blocking(move || {
            let fits = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(thread);
            fits
        });
        let fits = compared.await.map_err(|_| Busy)? && known.is_some();
        if fits {
            self.seen.lock().add(credentials);
        }
        Ok(fits)
    }
}

impl Seen {
    fn digest(&self, name: &str, password: &[u8]) -> Digest {
        let length = (name.len() as u64).to_be_bytes();
        Digest::of(&[self.secret.as_slice(), &length, name.as_bytes(), password].concat())
    }

    fn has(&mut self, credentials: &Digest) -> bool {
        if self.new.contains(credentials) {
            return true;
        }
        let found = self.old.remove(credentials);
        if found {
            self.add(*credentials);
        }
        found
    }

    fn add(&mut self, credentials: Digest) {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(credentials);
    }
}

/// The name and the password of an `Authorization` of the scheme Basic. None for any other.
pub(super) fn basic(value: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64(encoded.trim())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    Some((String::from_utf8(name.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

/// Bytes in base64 with the ordinary alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn files_of_htpasswd() {
        let hash = bcrypt::hash("secret", 4).unwrap().replacen("$2b$", "$2y$", 1);
        let users: Users = format!("# ours\n\nalice:{hash}\n").parse().unwrap();
        assert!(users.has("alice") && !users.has("bob"));
        let fails = |text: &str| text.parse::<Users>().unwrap_err();
        for (text, what) in [
            (format!("alice:{hash}\nbob:$apr1$x$y"), "no hash of bcrypt, as `htpasswd -B` makes it, line=2"),
            ("alice:{SHA}x".to_owned(), "line=1"),
            ("alice:secret".to_owned(), "line=1"),
            (format!("alice:{}", &hash[..40]), "line=1"),
            (format!("alice:{}", hash.replacen("$04$", "$20$", 1)), "cost=20"),
            ("alice".to_owned(), "no colon"),
            (format!(":{hash}"), "the name is empty"),
            (format!("anonymous:{hash}"), "name=anonymous"),
            (format!("a:{hash}\na:{hash}"), "there already, name=a, line=2"),
            (String::new(), "no names in it"),
        ] {
            assert!(fails(&text).contains(what), "{text}: {}", fails(&text));
        }
    }

    #[test]
    fn a_password_is_compared_once_and_remembered() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let verifier = Verifier::new(format!("alice:{hash}").parse().unwrap(), 1);
        for _ in 0..2 {
            assert!(run(verifier.verify("alice", b"secret")).unwrap());
            for (name, password) in [("alice", "wrong"), ("alice", ""), ("bob", "secret"), ("", "")] {
                assert!(!run(verifier.verify(name, password.as_bytes())).unwrap(), "{name}");
            }
        }
        // Nothing is compared any more, and who fitted before still does.
        verifier.threads.close();
        assert!(run(verifier.verify("alice", b"secret")).unwrap());
        assert!(run(verifier.verify("alice", b"wrong")).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen { secret: [0; 32], new: HashSet::new(), old: HashSet::new() };
        let first = seen.digest("first", b"");
        seen.add(first);
        for number in 0..10 * REMEMBERED {
            let digest = seen.digest(&number.to_string(), b"");
            seen.add(digest);
            assert!(seen.new.len() + seen.old.len() <= 2 * REMEMBERED);
        }
        assert!(!seen.has(&first));
        assert_ne!(seen.digest("ab", b"c"), seen.digest("a", b"bc"));
    }

    #[test]
    fn credentials_of_basic() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.as_bytes().to_vec()));
        assert_eq!(basic("Basic YWxpY2U6c2VjcmV0"), pair("alice", "secret"));
        assert_eq!(basic("basic YWxpY2U6YTpiPw=="), pair("alice", "a:b?"));
        assert_eq!(basic("Basic YTo/Pz8+"), pair("a", "???>"));
        assert_eq!(basic("Basic Og=="), pair("", ""));
        for value in ["", "Basic", "Basic ", "Basic YQ==", "Bearer YTpi", "Basic Y*==", "Basic /zpi"] {
            assert_eq!(basic(value), None, "{value}");
        }
    }
}
