//! Digests: which algorithms exist, what a digest is, and how one is computed.
//!
//! The grammar is that of the OCI image-spec (`descriptor.md`, "Digests"). A [`Digest`] is fixed bytes, never text:
//! what becomes a path or a key is always encoded anew from those bytes.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState;

use crate::error::Error;

/// The longest encoded digest of a known algorithm: sha512.
const MAX_ENCODED: usize = 128;

/// The hash functions that content can be stored under.
///
/// Registered in the OCI image-spec: `sha256`, `sha512`, and at its HEAD `blake3` (32 bytes of output).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// SHA-256, the canonical algorithm.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// BLAKE3 with 32 bytes of output.
    Blake3,
}

impl Algorithm {
    /// Every algorithm, in their order.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Blake3];

    /// The registered name, which is also the name of the directory under `blobs/`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// How many bytes a digest of this algorithm has.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Digest {
        Digest(match self {
            Self::Sha256 => Value::Sha256(sha2::Sha256::digest(bytes).into()),
            Self::Sha512 => Value::Sha512(sha2::Sha512::digest(bytes).into()),
            Self::Blake3 => Value::Blake3(*blake3::hash(bytes).as_bytes()),
        })
    }

    /// The byte that stands for the algorithm in metadata keys. Part of the stored format: never change one.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
            Self::Blake3 => 3,
        }
    }

    /// The algorithm of a [`code`](Self::code), or None if there is none.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            3 => Some(Self::Blake3),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or_else(|| ParseDigestError::new(Fault::UnsupportedAlgorithm, name))
    }
}

/// A content digest: algorithm and value.
///
/// Printed and parsed as `algorithm:encoded` (`sha256:e3b0..`), lower-case hexadecimal only, so every digest has one
/// spelling. Ordered by algorithm, then by bytes, which is also the order of its metadata keys.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest(Value);

// The order of the variants is the order of `Algorithm::code`: the derived order must equal that of the keys.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
    Blake3([u8; 32]),
}

impl Digest {
    /// The sha256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Value::Sha256(_) => Algorithm::Sha256,
            Value::Sha512(_) => Algorithm::Sha512,
            Value::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// The value, without the algorithm: [`Algorithm::digest_len`] bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) | Value::Blake3(bytes) => bytes,
            Value::Sha512(bytes) => bytes,
        }
    }

    /// The digest of a value, or None if `bytes` is not [`Algorithm::digest_len`] long.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        Some(Self(match algorithm {
            Algorithm::Sha256 => Value::Sha256(bytes.try_into().ok()?),
            Algorithm::Sha512 => Value::Sha512(bytes.try_into().ok()?),
            Algorithm::Blake3 => Value::Blake3(bytes.try_into().ok()?),
        }))
    }

    /// The part behind the colon, in lower-case hexadecimal: the name of the content file. Does not allocate.
    #[must_use]
    pub fn encoded(&self) -> impl fmt::Display + '_ {
        Hex(self.as_bytes())
    }

    /// Appends [`Digest::encoded`], without the formatter: every read and every name of content takes this way.
    pub(crate) fn encode_into(&self, out: &mut String) {
        for byte in self.as_bytes() {
            out.extend(
                [byte >> 4, byte & 0xf]
                    .map(|digit| char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit })),
            );
        }
    }

    /// The first twelve hexadecimal digits, for people. Not unique.
    #[must_use]
    pub fn short(&self) -> impl fmt::Display + '_ {
        Hex(self.as_bytes().get(..6).unwrap_or_default())
    }

    /// Whether `value` fits the image-spec's digest grammar, whatever its algorithm:
    /// such a digest may be referred to, even where content cannot be stored under it.
    ///
    /// This says nothing about the rules of a known algorithm; for those, parse it.
    #[must_use]
    pub fn is_valid_grammar(value: &str) -> bool {
        fault_of_grammar(value).is_none()
    }

    /// Appends the key form: the algorithm's code, then the value.
    pub(crate) fn to_key(self, out: &mut Vec<u8>) {
        out.push(self.algorithm().code());
        out.extend_from_slice(self.as_bytes());
    }

    /// Parses the key form at the front of `key`: the digest and how many bytes it took.
    pub(crate) fn from_key(key: &[u8]) -> Option<(Self, usize)> {
        let (&code, rest) = key.split_first()?;
        let algorithm = Algorithm::from_code(code)?;
        let len = algorithm.digest_len();
        Some((Self::from_bytes(algorithm, rest.get(..len)?)?, 1 + len))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        parse(value).map_err(|fault| ParseDigestError::new(fault, value))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.encoded())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}..", self.algorithm(), self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Digest, E> {
                value.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

fn parse(value: &str) -> Result<Digest, Fault> {
    if let Some(fault) = fault_of_grammar(value) {
        return Err(fault);
    }
    let (name, encoded) = value.split_once(':').ok_or(Fault::NoColon)?;
    let algorithm = name.parse::<Algorithm>().map_err(|_| Fault::UnsupportedAlgorithm)?;
    if encoded.len() != 2 * algorithm.digest_len() {
        return Err(Fault::Length { expected: 2 * algorithm.digest_len(), found: encoded.len() });
    }
    // One buffer for the longest value, so that nothing is allocated.
    let mut bytes = [0; MAX_ENCODED / 2];
    let (pairs, _) = encoded.as_bytes().as_chunks::<2>();
    for ([high, low], byte) in pairs.iter().zip(&mut bytes) {
        *byte = nibble(*high).ok_or(Fault::NotHex)? << 4 | nibble(*low).ok_or(Fault::NotHex)?;
    }
    bytes.get(..pairs.len()).and_then(|bytes| Digest::from_bytes(algorithm, bytes)).ok_or(Fault::NotHex)
}

/// What breaks `digest ::= algorithm ":" encoded`, if anything does.
fn fault_of_grammar(value: &str) -> Option<Fault> {
    let Some((algorithm, encoded)) = value.split_once(':') else {
        return Some(Fault::NoColon);
    };
    let component =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !algorithm.split(['+', '.', '_', '-']).all(component) {
        return Some(Fault::Algorithm);
    }
    let encoded_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-');
    if encoded.is_empty() || !encoded.bytes().all(encoded_byte) {
        return Some(Fault::Encoded);
    }
    None
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Bytes as lower-case hexadecimal, at most [`MAX_ENCODED`] digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
        let mut text = [0; MAX_ENCODED];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (byte, pair) in self.0.iter().zip(pairs) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        let text = text.get(..2 * self.0.len()).ok_or(fmt::Error)?;
        f.pad(std::str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

/// Why a text is no [`Digest`]. The message names the text and what is wrong with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseDigestError {
    fault: Fault,
    value: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    NoColon,
    Algorithm,
    Encoded,
    UnsupportedAlgorithm,
    Length { expected: usize, found: usize },
    NotHex,
}

impl ParseDigestError {
    #[cold]
    fn new(fault: Fault, value: &str) -> Self {
        Self { fault, value: excerpt(value).to_string() }
    }

    /// Whether the text is a digest by the grammar, but of an algorithm that content cannot be stored under.
    #[must_use]
    pub fn is_unsupported_algorithm(&self) -> bool {
        self.fault == Fault::UnsupportedAlgorithm
    }
}

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.value;
        match self.fault {
            Fault::NoColon => write!(f, "digest has no colon, digest={value}"),
            Fault::Algorithm => write!(f, "digest algorithm breaks the grammar, digest={value}"),
            Fault::Encoded => write!(f, "encoded part of the digest breaks the grammar, digest={value}"),
            Fault::UnsupportedAlgorithm => write!(f, "digest algorithm is not supported, digest={value}"),
            Fault::Length { expected, found } => {
                write!(f, "digest has the wrong length, digest={value}, expected={expected}, found={found}")
            }
            Fault::NotHex => write!(f, "digest is not lower-case hexadecimal, digest={value}"),
        }
    }
}

impl std::error::Error for ParseDigestError {}

impl From<ParseDigestError> for Error {
    fn from(error: ParseDigestError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// A value from outside, made fit for a message: escaped to printable ASCII and cut after a hundred characters;
/// quoted when it is empty or was escaped, so that it cannot be mistaken for the message.
pub(crate) fn excerpt(value: &str) -> impl fmt::Display + '_ {
    Excerpt(value)
}

struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 100;
        let cut = self.0.char_indices().nth(LIMIT).map(|(at, _)| at);
        let head = cut.and_then(|at| self.0.get(..at)).unwrap_or(self.0);
        if !head.is_empty()
            && head.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\'))
        {
            f.write_str(head)?;
        } else {
            write!(f, "\"{}\"", head.escape_default())?;
        }
        if cut.is_some() { f.write_str("..") } else { Ok(()) }
    }
}

/// Computes a digest of bytes that come in pieces.
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    // Two kilobytes, where the others take two hundred bytes.
    Blake3(Box<blake3::Hasher>),
}

impl Digester {
    /// A digester of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
            State::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// What it would need to go on later, in another process; nothing for algorithms that cannot say.
    ///
    /// For sha256 and sha512: the words of the state (little-endian), the number of blocks (8 or 16 bytes, little-endian),
    /// one byte for the length of what is not a whole block yet, and that, filled up with zeros. Part of the stored format.
    pub(crate) fn midstate(&self) -> Option<Vec<u8>> {
        match &self.0 {
            State::Sha256(state) => Some(state.serialize().to_vec()),
            State::Sha512(state) => Some(state.serialize().to_vec()),
            State::Blake3(_) => None,
        }
    }

    /// Goes on from a [`midstate`](Self::midstate) that `length` bytes led to; nothing when it is not that.
    pub(crate) fn resume(algorithm: Algorithm, midstate: &[u8], length: u64) -> Option<Self> {
        let (words, block) = match algorithm {
            Algorithm::Sha256 => (32, 64),
            Algorithm::Sha512 => (64, 128),
            Algorithm::Blake3 => return None,
        };
        let (_, counts) = midstate.split_at_checked(words)?;
        let (blocks, rest) = counts.split_at_checked(words / 4)?;
        let (low, high) = blocks.split_first_chunk::<8>()?;
        let counted = u64::from_le_bytes(*low).checked_mul(block)?.checked_add(u64::from(*rest.first()?))?;
        if counted != length || high.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::deserialize(midstate.try_into().ok()?).ok()?),
            _ => State::Sha512(sha2::Sha512::deserialize(midstate.try_into().ok()?).ok()?),
        }))
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Value::Sha256(state.finalize().into()),
            State::Sha512(state) => Value::Sha512(state.finalize().into()),
            State::Blake3(state) => Value::Blake3(*state.finalize().as_bytes()),
        })
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digester").field(&self.algorithm()).finish()
    }
}

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
