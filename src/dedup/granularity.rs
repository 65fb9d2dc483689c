//! What is compared: whole blobs, files, or chunks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::chunker::{Chunker, FastCdc, Fixed, MinCdc};
use crate::{Error, Result};

/// A way of dividing the plain bytes of blobs into units.
#[derive(Clone, Debug)]
pub struct Granularity(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Blob,
    File,
    Chunks { chunker: Arc<dyn Chunker>, in_files: bool },
}

impl Granularity {
    /// Each blob is a unit, known by its digest. Always part of a measurement.
    #[must_use]
    pub fn blob() -> Self {
        Self(Kind::Blob)
    }

    /// The content of each file in a layer is a unit, and so is everything in the layer that is no content of a file: headers and
    /// padding, taken together. What is no tar is one file.
    #[must_use]
    pub fn file() -> Self {
        Self(Kind::File)
    }

    /// Each chunk of the plain bytes of a blob is a unit, headers of files included.
    #[must_use]
    pub fn chunks(chunker: impl Chunker + 'static) -> Self {
        Self(Kind::Chunks { chunker: Arc::new(chunker), in_files: false })
    }

    /// Each chunk of the content of a file is a unit, cut anew for each file; everything else as with [`Granularity::file`].
    #[must_use]
    pub fn chunks_in_files(chunker: impl Chunker + 'static) -> Self {
        Self(Kind::Chunks { chunker: Arc::new(chunker), in_files: true })
    }

    /// What a report calls it.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string()
    }

    pub(super) fn is_blob(&self) -> bool {
        matches!(self.0, Kind::Blob)
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.0, Kind::File)
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Blob => f.write_str("blob"),
            Kind::File => f.write_str("file"),
            Kind::Chunks { chunker, in_files: false } => f.write_str(&chunker.name()),
            Kind::Chunks { chunker, in_files: true } => write!(f, "{}@file", chunker.name()),
        }
    }
}

/// `blob`, `file`, `fixed:SIZE`, `fastcdc:AVERAGE` or `MIN-AVERAGE-MAX`, `mincdc:AVERAGE` or `MIN-MAX`, each of the last three
/// with `@file` behind it for chunks in files. Sizes are numbers of bytes, with Ki or Mi behind them or not.
impl FromStr for Granularity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::invalid(format!(
                "unknown granularity: use blob, file, fixed:SIZE, fastcdc:AVERAGE, fastcdc:MIN-AVERAGE-MAX, mincdc:AVERAGE or \
                 mincdc:MIN-MAX, with @file behind it or not, granularity={}",
                text.escape_debug()
            ))
        };
        let (rule, in_files) = match text.strip_suffix("@file") {
            Some(rule) => (rule, true),
            None => (text, false),
        };
        let (name, sizes) = match rule.split_once(':') {
            Some((name, sizes)) => (name, sizes.split('-').map(size).collect::<Option<Vec<_>>>()),
            None if rule == "blob" && !in_files => return Ok(Self::blob()),
            None if rule == "file" && !in_files => return Ok(Self::file()),
            None => return Err(unknown()),
        };
        let sizes = sizes.ok_or_else(unknown)?;
        let chunker: Arc<dyn Chunker> = match (name, sizes.as_slice()) {
            ("fixed", [size]) => Arc::new(Fixed::new(*size)?),
            ("fastcdc", [average]) => Arc::new(FastCdc::of(*average)?),
            ("fastcdc", [min, average, max]) => Arc::new(FastCdc::new(*min, *average, *max)?),
            ("mincdc", [average]) => Arc::new(MinCdc::of(*average)?),
            ("mincdc", [min, max]) => Arc::new(MinCdc::new(*min, *max)?),
            _ => return Err(unknown()),
        };
        Ok(Self(Kind::Chunks { chunker, in_files }))
    }
}

fn size(text: &str) -> Option<usize> {
    let (digits, factor) = if let Some(digits) = text.strip_suffix("KiB").or_else(|| text.strip_suffix("Ki"))
    {
        (digits, 1 << 10)
    } else if let Some(digits) = text.strip_suffix("MiB").or_else(|| text.strip_suffix("Mi")) {
        (digits, 1 << 20)
    } else {
        (text, 1)
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn names_are_read_and_complete() {
        for (text, name) in [
            ("blob", "blob"),
            ("file", "file"),
            ("fixed:4Ki", "fixed/4096"),
            ("fixed:1MiB@file", "fixed/1048576@file"),
            ("fastcdc:16KiB", "fastcdc-2020/4096-16384-65536"),
            ("fastcdc:64-256-1024@file", "fastcdc-2020/64-256-1024@file"),
            ("mincdc:16Ki", "mincdc-hash4/8192-24576/915f77f5-34636463"),
            ("mincdc:100-200", "mincdc-hash4/100-200/915f77f5-34636463"),
        ] {
            assert_eq!(text.parse::<Granularity>().unwrap().name(), name);
        }
        for text in [
            "",
            "blob@file",
            "file@file",
            "fixed",
            "fixed:",
            "fixed:4K",
            "fixed:1-2",
            "fastcdc:1-2",
            "rabin:4096",
        ] {
            let error = text.parse::<Granularity>().unwrap_err();
            assert!(error.to_string().contains(&format!("granularity={text}")), "{error}");
        }
        assert!(
            "fastcdc:64-255-1024".parse::<Granularity>().unwrap_err().to_string().contains("average=255")
        );
    }
}
