//! Names of what clients hold on to: 128 random bits, as 32 lower-case hexadecimal digits.

use std::fmt;

use crate::digest::excerpt;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// The bits of such a name.
pub(super) type Id = [u8; 16];

/// One that nobody can foretell, for `what`.
pub(super) fn draw(what: &str) -> Result<Id> {
    sys::random().map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot draw the id of {what}")).with_source(error)
    })
}

pub(super) fn show(id: &Id, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:032x}", u128::from_be_bytes(*id))
}

pub(super) fn parse(text: &str, what: &str) -> Result<Id> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let number = Some(text).filter(|text| text.len() == 32 && text.bytes().all(is_digit));
    number
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .map(u128::to_be_bytes)
        .ok_or_else(|| Error::invalid(format!("this is no id of {what}, id={}", excerpt(text))))
}
