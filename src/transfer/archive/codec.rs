//! Compression around an archive, told by its first bytes and never by the name of the file.

use std::io::{self, BufReader, Read, Write};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, ErrorKind, Result};

/// The largest window of a zstd frame that is taken, as a power of two: 128 MiB, what `zstd -d` takes as well. It bounds the memory.
const MAX_WINDOW_LOG: u32 = 27;

/// The level that archives are compressed with: most layers are compressed already.
const ZSTD_LEVEL: i32 = 3;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Frames that a reader of zstd passes over, with the last four bits for its use; one may stand before the others.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// Other compressions, to be named when they are refused.
const OTHERS: [(&[u8], &str); 4] = [
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"PK\x03\x04", "zip"),
];

/// How many bytes tell the compression.
pub(super) const MAGIC: usize = 8;

/// How an archive is compressed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// Not at all: content is read in place.
    #[default]
    None,
    /// RFC 1952, of any number of members.
    Gzip,
    /// RFC 8878, of any number of frames.
    Zstd,
}

impl Compression {
    /// What the first bytes say.
    pub(super) fn sniff(head: &[u8]) -> Result<Self> {
        let is_skippable = head.first().is_some_and(|byte| byte & 0xf0 == 0x50)
            && head.get(1..).is_some_and(|rest| rest.starts_with(ZSTD_SKIPPABLE));
        if head.starts_with(GZIP) {
            return Ok(Self::Gzip);
        }
        if head.starts_with(ZSTD) || is_skippable {
            return Ok(Self::Zstd);
        }
        match OTHERS.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            Some((_, name)) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("archive is compressed in a way that is not read, compression={name}"),
            )),
            None => Ok(Self::None),
        }
    }

    /// What `from` is when it is not compressed any more.
    pub(super) fn decode<'a, R: Read + Send + 'a>(self, from: R) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(from),
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::new(from))?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// Compresses what is written on its way to `to`.
    pub(super) fn encode<W: Write>(self, to: W) -> io::Result<Encoder<W>> {
        Ok(match self {
            Self::None => Encoder::None(to),
            // No name and no time in the header: the same archive gives the same bytes.
            Self::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default())),
            Self::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?),
        })
    }
}

/// A writer that compresses.
pub(super) enum Encoder<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Writes what is left and gives the writer beneath back. It is not flushed.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(to) => Ok(to),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(to) => to.write(bytes),
            Self::Gzip(to) => to.write(bytes),
            Self::Zstd(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(to) => to.flush(),
            Self::Gzip(to) => to.flush(),
            Self::Zstd(to) => to.flush(),
        }
    }
}
