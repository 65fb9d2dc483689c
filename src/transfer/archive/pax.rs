//! What stands in front of an entry of a tar archive: the records of a pax header, and the long names of GNU.

use crate::error::{Error, Result};

/// The records of a pax header, each `length key=value` and a line feed, in their order. Values may have line feeds in them. After a record that
/// is malformed there is none.
#[derive(Clone, Debug)]
pub struct PaxRecords<'a>(&'a [u8]);

impl<'a> PaxRecords<'a> {
    /// The records in the content of an entry of type `x`.
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// Takes a record off the beginning.
    fn split(&self) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let data = self.0;
        let space = data.iter().take(20).position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(data.get(..space)?).ok()?.parse().ok()?;
        let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        Some((record.get(..equals)?, record.get(equals + 1..)?, data.get(length..)?))
    }
}

impl<'a> Iterator for PaxRecords<'a> {
    /// Key and value; `Corrupt` when it is malformed.
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = self.split() else {
            self.0 = &[];
            return Some(Err(Error::corrupt("a pax record is malformed")));
        };
        self.0 = rest;
        Some(Ok((key, value)))
    }
}

/// The name in the content of an entry of type `L` or `K`, which ends with its first NUL.
#[must_use]
pub fn gnu_name(mut content: Vec<u8>) -> Vec<u8> {
    if let Some(end) = content.iter().position(|&byte| byte == 0) {
        content.truncate(end);
    }
    content
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn records_are_taken_apart() {
        let records: Vec<_> = PaxRecords::new(b"9 a=b\nc=\n7 =x=y\n").collect::<Result<_>>().unwrap();
        assert_eq!(records, [(&b"a"[..], &b"b\nc="[..]), (b"", b"x=y")]);
        assert_eq!(PaxRecords::new(b"").count(), 0);
        for malformed in [
            &b"5 a"[..],
            b"6 a=bc",
            b"x a=b\n",
            b"0 a=b\n",
            b"5 ab\n",
            b"99 a=b\n",
            b"-5 a=b\n",
            b" ",
            b"18446744073709551616 a=b\n",
        ] {
            let all: Vec<_> = PaxRecords::new(malformed).collect();
            assert!(matches!(&*all, [Err(_)]), "{malformed:?}");
        }
        let mut behind = PaxRecords::new(b"6 a=b\nnothing");
        assert!(behind.next().unwrap().is_ok() && behind.next().unwrap().is_err() && behind.next().is_none());
    }

    #[test]
    fn names_end_with_a_nul() {
        assert_eq!(gnu_name(b"a/b\0\0".to_vec()), b"a/b");
        assert_eq!(gnu_name(b"a/b".to_vec()), b"a/b");
    }
}
