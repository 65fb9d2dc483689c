//! Measuring deduplication: what sharing of blobs, files or chunks would save in a set of images.
//!
//! A [`Corpus`] says what is measured, [`Measure`] how; the [`Measurement`] can be merged with others and makes a [`Report`].
//! Definitions of all figures: `docs/deduplication.md`. Nothing that is measured is ever written to.
//!
//! ```
//! use std::io::{Cursor, Read};
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! use orlop::Digest;
//! use orlop::dedup::{Contents, Corpus, Granularity, Measure};
//! use orlop::oci::{Descriptor, media_type};
//!
//! # fn main() -> orlop::Result<()> {
//! struct Bytes(Vec<u8>);
//!
//! impl Contents for Bytes {
//!     fn open(&self, _: &Descriptor) -> std::io::Result<Option<Box<dyn Read + Send + '_>>> {
//!         Ok(Some(Box::new(Cursor::new(&self.0))))
//!     }
//! }
//!
//! let mut corpus = Corpus::new();
//! for (name, last) in [("one", 1), ("two", 2)] {
//!     let bytes = [vec![7; 8192], vec![last; 4096]].concat();
//!     let layer = Descriptor::new(media_type::LAYER_TAR, Digest::of(&bytes), bytes.len() as u64);
//!     corpus.add_blob(name, &layer, Arc::new(Bytes(bytes)));
//! }
//! let measure = Measure::new().granularities(["fixed:4Ki".parse::<Granularity>()?]);
//! let report = measure.run(&corpus, &mut |_| ControlFlow::Continue(()))?.report();
//! assert_eq!(report.corpus.logical_bytes, 24_576);
//! assert_eq!(report.granularities[1].unique_bytes, 3 * 4096);
//! # Ok(())
//! # }
//! ```

mod chunker;
mod class;
mod corpus;
mod figures;
mod files;
mod finding;
mod granularity;
mod groups;
mod lane;
mod measure;
mod measurement;
mod packer;
mod places;
mod plain;
mod random;
mod report;
mod spare;
mod stages;
mod table;
mod tar;
mod turn;
mod unit;
mod views;
mod walk;
mod window;
mod worker;

pub use self::chunker::{Chunker, FastCdc, Fixed, MAX_CHUNK, MinCdc};
pub use self::corpus::{Contents, Corpus};
pub use self::finding::{Finding, FindingKind};
pub use self::granularity::Granularity;
pub use self::measure::{Measure, Progress};
pub use self::measurement::Measurement;
pub use self::report::{
    ClassFigures, CorpusFigures, GranularityFigures, GrowthCurve, GrowthPoint, HistogramRow, ImageFigures,
    Input, Matrix, MediaTypeFigures, Parameters, REPORT_VERSION, Ratio, Report, Sample, StageTime, Times,
    Tool, WastedFile,
};
pub use self::unit::{UnitHash, UnitRecord, UnitSink};

#[cfg(test)]
mod tests;
