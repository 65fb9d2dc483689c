//! Digests that a person begins to type: `sha256:4f2a` stands for the one digest of a repository that begins so.

use orlop::oci::RepositoryName;
use orlop::{Algorithm, Digest, Repository, Store};

use crate::error::{Exit, Failure};

/// Fewer digits are a slip of the hand.
const SHORTEST: usize = 4;
/// Candidates that an error names.
const NAMED: usize = 5;

/// The beginning of a digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Prefix {
    algorithm: Algorithm,
    digits: String,
}

impl Prefix {
    /// None for what is no beginning of a digest of this algorithm, and for a whole one.
    pub(crate) fn parse(algorithm: Algorithm, digits: &str) -> Option<Self> {
        let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let fits = (SHORTEST..length(algorithm)).contains(&digits.len());
        (is_hex && fits).then(|| Self { algorithm, digits: digits.to_owned() })
    }

    /// As it was typed.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.algorithm, self.digits)
    }

    /// The one digest that begins so, among the manifests of a repository, and if there is none, among its blobs.
    pub(crate) fn expand(&self, store: &Store, name: &RepositoryName) -> Result<Option<Digest>, Failure> {
        let repository = store.repository(name);
        for candidates in [self.manifests(&repository)?, self.blobs(&repository)?] {
            if let [first, second, ..] = candidates.as_slice() {
                let mut names: Vec<String> = candidates.iter().take(NAMED).map(ToString::to_string).collect();
                if candidates.len() > NAMED {
                    names.push("...".into());
                }
                return Err(Failure::new(
                    Exit::NotFound,
                    format!(
                        "more than one digest begins so, digest={}, candidates={}",
                        self.shown(),
                        names.join(",")
                    ),
                )
                .with_hint(format!("type {} digits or more", common(first, second) + 1)));
            }
            if let Some(digest) = candidates.first() {
                return Ok(Some(*digest));
            }
        }
        Ok(None)
    }

    fn manifests(&self, repository: &Repository) -> Result<Vec<Digest>, Failure> {
        let Some(start) = self.smallest() else { return Ok(Vec::new()) };
        let mut found: Vec<Digest> = repository.manifest(&start)?.map(|_| start).into_iter().collect();
        let page = repository.manifests(Some(&start), NAMED + 1)?;
        found.extend(
            page.items.iter().map(|descriptor| descriptor.digest).filter(|digest| self.begins(digest)),
        );
        Ok(found)
    }

    fn blobs(&self, repository: &Repository) -> Result<Vec<Digest>, Failure> {
        let Some(start) = self.smallest() else { return Ok(Vec::new()) };
        let mut found: Vec<Digest> = repository.stat(&start)?.map(|_| start).into_iter().collect();
        let page = repository.contents(Some(&start), NAMED + 1)?;
        found.extend(page.items.iter().map(|stat| stat.digest).filter(|digest| self.begins(digest)));
        Ok(found)
    }

    /// The first digest, in their order, that begins so.
    fn smallest(&self) -> Option<Digest> {
        format!("{}:{:0<width$}", self.algorithm, self.digits, width = length(self.algorithm)).parse().ok()
    }

    fn begins(&self, digest: &Digest) -> bool {
        digest.algorithm() == self.algorithm && digest.encoded().to_string().starts_with(&self.digits)
    }
}

/// Digits of a whole digest.
fn length(algorithm: Algorithm) -> usize {
    algorithm.digest(b"").encoded().to_string().len()
}

/// Digits at the beginning that two digests share.
fn common(one: &Digest, other: &Digest) -> usize {
    let (one, other) = (one.encoded().to_string(), other.encoded().to_string());
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;

    #[test]
    fn what_can_begin_a_digest() {
        for (digits, taken) in [
            ("44136f", true),
            ("4413", true),
            ("441", false),
            ("4413G0", false),
            ("44136F", false),
            ("", false),
            (&"0".repeat(63), true),
            (&"0".repeat(64), false),
        ] {
            assert_eq!(Prefix::parse(Algorithm::Sha256, digits).is_some(), taken, "{digits}");
        }
        assert!(Prefix::parse(Algorithm::Sha512, &"0".repeat(64)).is_some());
    }

    #[test]
    fn one_is_found_and_several_are_told() {
        let place = tempfile::tempdir().unwrap();
        let store = orlop::Options::new().create(place.path().join("s")).unwrap();
        let repository = store.default_repository();
        // Enough blobs that two begin alike, whatever they hash to.
        let mut digests: Vec<String> = (0..600_u32)
            .map(|n| repository.push_bytes(n.to_be_bytes().to_vec()).unwrap().digest.encoded().to_string())
            .collect();
        digests.sort();
        let name = RepositoryName::unnamed();
        let expand = |digits: &str| Prefix::parse(Algorithm::Sha256, digits).unwrap().expand(&store, &name);
        for digest in &digests {
            assert_eq!(expand(&digest[..40]).unwrap().unwrap().encoded().to_string(), *digest);
        }
        let alike =
            digests.windows(2).find(|pair| pair[0][..4] == pair[1][..4]).expect("two that begin alike");
        let failure = expand(&alike[0][..4]).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.chain().contains(&alike[1]), "{}", failure.chain());
        let missing = (0..=0xffff_u32).map(|n| format!("{n:04x}"));
        let missing =
            missing.into_iter().find(|four| !digests.iter().any(|digest| digest.starts_with(four))).unwrap();
        assert_eq!(expand(&missing).unwrap(), None);
    }
}
