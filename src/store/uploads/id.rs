//! The names of sessions.

use std::fmt;
use std::str::FromStr;

use crate::digest::excerpt;
use crate::error::{Error, Result};

/// The id of an upload session: 128 random bits, printed and parsed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UploadId(pub(super) [u8; 16]);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({self})")
    }
}

impl FromStr for UploadId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let number = Some(text).filter(|text| text.len() == 32 && text.bytes().all(is_digit));
        number
            .and_then(|text| u128::from_str_radix(text, 16).ok())
            .map(|number| Self(number.to_be_bytes()))
            .ok_or_else(|| {
                Error::invalid(format!("this is no id of an upload session, id={}", excerpt(text)))
            })
    }
}
