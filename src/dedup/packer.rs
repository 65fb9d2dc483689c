//! What a unit comes to when it is compressed by itself.

use std::io::{self, Write};

use zstd::bulk::Compressor;
use zstd::stream::write::Encoder;

use crate::{Error, ErrorKind, Result};

/// What a report calls it.
pub(super) const NAME: &str = "zstd-3";
const LEVEL: i32 = 3;

/// Packs units that are in memory.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { compressor: Compressor::new(LEVEL).map_err(failed)?, buffer: Vec::new() })
    }

    /// The packed size of a unit.
    pub(super) fn size(&mut self, bytes: &[u8]) -> Result<u64> {
        let bound = zstd::zstd_safe::compress_bound(bytes.len());
        if self.buffer.len() < bound {
            self.buffer.resize(bound, 0);
        }
        let size = self.compressor.compress_to_buffer(bytes, self.buffer.as_mut_slice()).map_err(failed)?;
        Ok(size.min(bytes.len()) as u64)
    }
}

/// Packs one unit as it comes.
pub(super) struct StreamPacker {
    encoder: Encoder<'static, Count>,
    taken: u64,
}

impl StreamPacker {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { encoder: Encoder::new(Count(0), LEVEL).map_err(failed)?, taken: 0 })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.taken += bytes.len() as u64;
        self.encoder.write_all(bytes).map_err(failed)
    }

    pub(super) fn finish(self) -> Result<u64> {
        let Count(size) = self.encoder.finish().map_err(failed)?;
        Ok(size.min(self.taken))
    }
}

struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot compress in memory").with_source(error)
}
