//! Where a stream of bytes is cut.

use std::fmt;
use std::sync::Arc;

use fastcdc::v2020::{
    AVERAGE_MAX, AVERAGE_MIN, MAXIMUM_MAX, MAXIMUM_MIN, MINIMUM_MAX, MINIMUM_MIN, Normalization, cut,
    select_masks,
};
use mincdc::{Cdc, MinCdcHash4};

use crate::{Error, Result};

/// The largest chunk of any chunker, in bytes: what bounds the memory of a measurement.
pub const MAX_CHUNK: usize = 16 << 20;

/// The smallest `min` of the chunkers of this crate, in bytes.
const MIN_CHUNK: usize = 64;

/// What the hash of MinCDC multiplies with and adds. Part of every figure: never change one.
const MULTIPLIER: u32 = 0x915f_77f5;
const ADDEND: u32 = 0x3463_6463;

/// A rule that cuts a stream into chunks, one after the other.
///
/// The end of a chunk may depend on the bytes from its beginning on and on nothing else, so that equal bytes are cut equally wherever they
/// stand; one value is used by many threads at a time. A chunker of one's own, which cuts behind each line:
///
/// ```
/// use orlop::dedup::{Chunker, Granularity, Measure};
///
/// #[derive(Debug)]
/// struct Lines;
///
/// impl Chunker for Lines {
///     fn name(&self) -> String {
///         "lines/4096".into()
///     }
///
///     fn max_size(&self) -> usize {
///         4096
///     }
///
///     fn cut(&self, bytes: &[u8]) -> usize {
///         let bytes = &bytes[..bytes.len().min(self.max_size())];
///         bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
///     }
/// }
///
/// let measure = Measure::new().granularities([Granularity::file(), Granularity::chunks(Lines)]);
/// # assert_eq!(measure.names(), ["blob", "file", "lines/4096"]);
/// ```
pub trait Chunker: fmt::Debug + Send + Sync {
    /// What a report calls it: the rule with all its parameters, so that two chunkers of one name cut alike.
    fn name(&self) -> String;

    /// The most bytes of a chunk; at most [`MAX_CHUNK`].
    fn max_size(&self) -> usize;

    /// The length of the first chunk of `bytes`, which are never empty, and at least [`max_size`](Self::max_size) of them unless
    /// the stream ends with them. At least one, and at most `max_size`: any other answer ends the measurement with an error.
    fn cut(&self, bytes: &[u8]) -> usize;
}

impl<C: Chunker + ?Sized> Chunker for Arc<C> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn max_size(&self) -> usize {
        (**self).max_size()
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        (**self).cut(bytes)
    }
}

/// Chunks of one size; the last of a stream may be shorter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fixed {
    size: usize,
}

impl Fixed {
    /// Chunks of `size` bytes.
    ///
    /// # Errors
    ///
    /// `Invalid` below 64 bytes and above [`MAX_CHUNK`].
    pub fn new(size: usize) -> Result<Self> {
        within("size", size, MIN_CHUNK, MAX_CHUNK)?;
        Ok(Self { size })
    }
}

impl Chunker for Fixed {
    fn name(&self) -> String {
        format!("fixed/{}", self.size)
    }

    fn max_size(&self) -> usize {
        self.size
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        bytes.len().min(self.size)
    }
}

/// FastCDC as its authors have it since 2020, with normalization level 1: cuts where a rolling hash of the content says so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FastCdc {
    min: usize,
    average: usize,
    max: usize,
    masks: (u64, u64),
}

impl FastCdc {
    /// Chunks of `min` to `max` bytes, most of them near `average`; what is achieved is mostly more.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the value: an odd size, sizes out of order, `min` outside of 64 to 1 MiB, `average` outside of 256 to 4 MiB,
    /// `max` outside of 1,024 to [`MAX_CHUNK`].
    pub fn new(min: usize, average: usize, max: usize) -> Result<Self> {
        within("min", min, MINIMUM_MIN, MINIMUM_MAX)?;
        within("average", average, AVERAGE_MIN, AVERAGE_MAX)?;
        within("max", max, MAXIMUM_MIN, MAXIMUM_MAX.min(MAX_CHUNK))?;
        if let Some(odd) = [min, average, max].into_iter().find(|size| size % 2 == 1) {
            return Err(Error::invalid(format!("sizes of fastcdc must be even, size={odd}")));
        }
        in_order(min, average)?;
        in_order(average, max)?;
        let masks = select_masks(average, Normalization::Level1);
        Ok(Self { min, average, max, masks })
    }

    /// Chunks of `average / 4` to `average * 4` bytes.
    ///
    /// # Errors
    ///
    /// As [`FastCdc::new`].
    pub fn of(average: usize) -> Result<Self> {
        Self::new(average / 4 / 2 * 2, average, average.saturating_mul(4))
    }
}

impl Chunker for FastCdc {
    fn name(&self) -> String {
        format!("fastcdc-2020/{}-{}-{}", self.min, self.average, self.max)
    }

    fn max_size(&self) -> usize {
        self.max
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        let (small, large) = self.masks;
        cut(bytes, self.min, self.average, self.max, small, large, small << 1, large << 1).1
    }
}

/// MinCDC with a hash of four bytes: cuts behind the four bytes whose hash is the smallest in reach. Several times as fast as
/// [`FastCdc`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MinCdc {
    min: usize,
    max: usize,
}

impl MinCdc {
    /// Chunks of `min` to `max` bytes, evenly spread.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the value: sizes out of order, `min` below 64, `max` above [`MAX_CHUNK`].
    pub fn new(min: usize, max: usize) -> Result<Self> {
        within("min", min, MIN_CHUNK, MAX_CHUNK)?;
        within("max", max, MIN_CHUNK, MAX_CHUNK)?;
        in_order(min, max)?;
        Ok(Self { min, max })
    }

    /// Chunks of `average / 2` to `average * 3 / 2` bytes.
    ///
    /// # Errors
    ///
    /// As [`MinCdc::new`].
    pub fn of(average: usize) -> Result<Self> {
        let min = average / 2;
        Self::new(min, average.saturating_add(min))
    }
}

impl Chunker for MinCdc {
    fn name(&self) -> String {
        format!("mincdc-hash4/{}-{}/{MULTIPLIER:08x}-{ADDEND:08x}", self.min, self.max)
    }

    fn max_size(&self) -> usize {
        self.max
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        if bytes.len() <= self.min {
            return bytes.len();
        }
        let rule = const { MinCdcHash4::with_params(MULTIPLIER, ADDEND) };
        let start = self.min - rule.window_size();
        let end = bytes.len().min(self.max);
        start + rule.best_splitpoint(bytes.get(start..end).unwrap_or_default())
    }
}

fn within(name: &str, size: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&size) {
        return Ok(());
    }
    Err(Error::invalid(format!("chunk size is out of bounds, {name}={size}, least={least}, most={most}")))
}

fn in_order(small: usize, large: usize) -> Result<()> {
    if small <= large {
        return Ok(());
    }
    Err(Error::invalid(format!("chunk sizes are out of order, smaller={small}, larger={large}")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

    use super::*;
    use crate::dedup::random::Random;

    /// Cuts a whole stream.
    fn all(chunker: &dyn Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            // No more than the promise: what lies behind must not matter.
            let length = chunker.cut(&bytes[..bytes.len().min(chunker.max_size())]);
            lengths.push(length);
            bytes = &bytes[length..];
        }
        lengths
    }

    #[test]
    fn cuts_are_those_of_the_published_algorithms() {
        let mut bytes = vec![0; 300_001];
        Random::new(1).fill(&mut bytes);
        bytes[100_000..150_000].fill(0);
        for (min, average, max) in [(64, 256, 1024), (256, 1024, 4096), (4096, 16_384, 65_536)] {
            let fast = FastCdc::new(min, average, max).unwrap();
            let expected: Vec<usize> =
                fastcdc::v2020::FastCDC::new(&bytes, min, average, max).map(|chunk| chunk.length).collect();
            assert_eq!(all(&fast, &bytes), expected, "{}", fast.name());
            let least = MinCdc::new(min, max).unwrap();
            let expected: Vec<usize> = mincdc::SliceChunker::new(&bytes, min, max, MinCdcHash4::new())
                .map(|chunk| chunk.len())
                .collect();
            assert_eq!(all(&least, &bytes), expected, "{}", least.name());
        }
    }

    /// The cuts of a release are the cuts of all later ones.
    #[test]
    fn cuts_do_not_change_with_the_crates() {
        let mut bytes = vec![0; 100_000];
        Random::new(7).fill(&mut bytes);
        assert_eq!(all(&FastCdc::new(1024, 4096, 16_384).unwrap(), &bytes)[..6], FASTCDC);
        assert_eq!(all(&MinCdc::new(2048, 6144).unwrap(), &bytes)[..6], MINCDC);
        assert_eq!(all(&Fixed::new(60_000).unwrap(), &bytes), [60_000, 40_000]);
    }

    const FASTCDC: [usize; 6] = [5860, 5550, 3857, 2708, 7715, 8579];
    /// Found by another implementation of the rule.
    const MINCDC: [usize; 6] = [3750, 4070, 2629, 4486, 2119, 2949];

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let refused = |result: Result<()>, needle: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(needle), "{error}");
        };
        refused(Fixed::new(0).map(|_| ()), "size=0");
        refused(Fixed::new(MAX_CHUNK + 1).map(|_| ()), "size=16777217");
        refused(FastCdc::new(62, 256, 1024).map(|_| ()), "min=62");
        refused(FastCdc::new(64, 254, 1024).map(|_| ()), "average=254");
        refused(FastCdc::new(64, 256, 1022).map(|_| ()), "max=1022");
        refused(FastCdc::new(64, 257, 1024).map(|_| ()), "size=257");
        refused(FastCdc::new(4096, 1024, 65_536).map(|_| ()), "smaller=4096");
        refused(FastCdc::new(64, 4096, 2048).map(|_| ()), "larger=2048");
        refused(FastCdc::of(usize::MAX).map(|_| ()), "out of bounds");
        refused(MinCdc::new(63, 64).map(|_| ()), "min=63");
        refused(MinCdc::new(128, 127).map(|_| ()), "smaller=128");
        refused(MinCdc::of(usize::MAX).map(|_| ()), "out of bounds");
    }
}
