//! What a measurement tells, as data. `docs/dedup.schema.json` describes every key.
//!
//! Keys are sorted, and everything but [`Report::times`] is the same in every run over the same content, byte for byte.
//! Sizes are in bytes. A ratio that would divide by nothing is absent.

use serde::Serialize;

use super::finding::Finding;

/// The version of the form of a [`Report`].
pub const REPORT_VERSION: u32 = 1;

/// All figures and views of a measurement.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Contents of files by what they are; empty without the granularity `file`.
    pub by_class: Vec<ClassFigures>,
    /// Blobs by their media type.
    pub by_media_type: Vec<MediaTypeFigures>,
    /// The corpus as a whole.
    pub corpus: CorpusFigures,
    /// What was odd, or could not be measured, in the order of digests.
    pub findings: Vec<Finding>,
    /// A row for each granularity, blobs first.
    pub granularities: Vec<GranularityFigures>,
    /// How unique bytes grow as images are added.
    pub growth: Vec<GrowthCurve>,
    /// The images in the order given.
    pub images: Vec<ImageFigures>,
    /// Every distinct blob, in the order in which images first refer to it.
    pub inputs: Vec<Input>,
    /// Which images share what; empty above [`Parameters::matrix_limit`] images.
    pub matrices: Vec<Matrix>,
    /// What decides the figures beside the content.
    pub parameters: Parameters,
    /// What took how long: the only part that differs between runs. Absent in what was put together from other measurements.
    pub times: Option<Times>,
    /// What measured.
    pub tool: Tool,
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The files whose copies take the most, the worst first; empty without the granularity `file`.
    pub wasted_files: Vec<WastedFile>,
}

/// Sums over the whole corpus.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CorpusFigures {
    /// `logicalBytes / storedBytes`: what sharing of whole blobs saves already.
    pub blob_ratio: Option<Ratio>,
    /// Distinct blobs: manifests, configs, layers.
    pub blobs: u64,
    /// `plainStoredBytes / storedBytes`: how well the blobs are compressed.
    pub compression_ratio: Option<Ratio>,
    /// Images.
    pub images: u64,
    /// Distinct blobs of which something is not in the figures.
    pub incomplete_blobs: u64,
    /// The sizes of all blobs, counted for each image that refers to them, each time it does.
    pub logical_bytes: u64,
    /// The same of their plain bytes: layers are decompressed, other blobs are what they are.
    pub plain_logical_bytes: u64,
    /// The plain bytes of distinct blobs.
    pub plain_stored_bytes: u64,
    /// References of images to blobs.
    pub references: u64,
    /// The sizes of distinct blobs: what an image layout holds on its disk now.
    pub stored_bytes: u64,
    /// Distinct blobs that could not be read at all: they are in `logicalBytes` and `storedBytes` alone.
    pub unmeasured_blobs: u64,
}

/// A quotient of two counts, exact until it is printed: a number with four digits after the point.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    over: u64,
    under: u64,
}

impl Ratio {
    /// `over / under`, if that is one.
    #[must_use]
    pub fn of(over: u64, under: u64) -> Option<Self> {
        (under > 0).then_some(Self { over, under })
    }

    /// As a floating-point number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with four digits")]
    pub fn value(self) -> f64 {
        self.over as f64 / self.under as f64
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        u128::from(self.over) * u128::from(other.under) == u128::from(other.over) * u128::from(self.under)
    }
}

impl Eq for Ratio {}

impl Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.value() * 10_000.0).round() / 10_000.0)
    }
}

/// One granularity. Every reference of an image to a blob counts the units of the blob once more.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GranularityFigures {
    /// `bytes / units`: the mean that was achieved.
    pub average_unit: Option<Ratio>,
    /// The bytes of all units: always `plainLogicalBytes` of the corpus.
    pub bytes: u64,
    /// `units / uniqueUnits`.
    pub count_ratio: Option<Ratio>,
    /// `storedBytes / (packedBytes + indexBytes)`: the only factor that compares with what the disk holds today. Absent if
    /// nothing was packed.
    pub effective: Option<Ratio>,
    /// Whether every unit was counted; otherwise what is unique is estimated: see `sample`.
    pub exact: bool,
    /// Unique units by how often they are referred to.
    pub histogram: Vec<HistogramRow>,
    /// `56 * uniqueUnits + 36 * recipeEntries`: 32 bytes of hash, 8 of offset, 8 of length, 8 of a count for each unique unit, 32
    /// of hash and 4 of length for each entry of a recipe.
    pub index_bytes: u64,
    /// Bytes of units that an earlier image has: for each unit `length * (images - 1)`.
    pub inter_image_bytes: u64,
    /// Bytes of units that the same image has already: for each unit and image `length * (occurrences - 1)`.
    pub intra_image_bytes: u64,
    /// The granularity, with all its parameters.
    pub name: String,
    /// Each unique unit compressed by itself with zstd of level 3, or as it is where that is smaller. Absent if nothing was packed.
    pub packed_bytes: Option<u64>,
    /// Half of the 95 % interval of `packedBytes`, in bytes; zero if every unique unit was packed.
    pub packed_error95: Option<u64>,
    /// `plainStoredBytes / uniqueBytes`: beyond what sharing of whole blobs saves.
    pub ratio_beyond_blobs: Option<Ratio>,
    /// `plainLogicalBytes / uniqueBytes`.
    pub ratio_logical: Option<Ratio>,
    /// Units of all distinct blobs, each blob once.
    pub recipe_entries: u64,
    /// How units were chosen, if not all were kept.
    pub sample: Option<Sample>,
    /// `100 * (1 - 1 / ratioBeyondBlobs)`.
    pub saved_beyond_blobs_percent: Option<f64>,
    /// `100 * (1 - 1 / ratioLogical)`.
    pub saved_percent: Option<f64>,
    /// The bytes of distinct units.
    pub unique_bytes: u64,
    /// Distinct units.
    pub unique_units: u64,
    /// All units.
    pub units: u64,
    /// Bytes of units that are zeros throughout, of all units.
    pub zero_bytes: u64,
}

/// Of a granularity whose units did not fit into the memory: only units of which the hash begins with so many zero bits were kept, and
/// all of more than a mebibyte.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// How many bits; each further one halves what is kept.
    pub bits: u32,
    /// Distinct units that were kept.
    pub kept_units: u64,
    /// Half of the 95 % interval of `uniqueBytes`, in bytes.
    pub unique_bytes_error95: u64,
    /// Half of the 95 % interval of `uniqueUnits`.
    pub unique_units_error95: u64,
}

/// Unique units that are referred to `references` to `2 * references - 1` times.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistogramRow {
    /// Their bytes, counted for each reference.
    pub referenced_bytes: u64,
    /// A power of two.
    pub references: u64,
    /// Their bytes, counted once.
    pub unique_bytes: u64,
    /// How many they are.
    pub unique_units: u64,
}

/// A file with copies.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WastedFile {
    /// What it is, by its first bytes.
    pub class: &'static str,
    /// BLAKE3 of its content, the first 128 bits.
    pub hash: String,
    /// How many images have it.
    pub image_count: u64,
    /// Some of them, the first in the order given: indices into [`Report::images`].
    pub images: Vec<u64>,
    /// Its size.
    pub length: u64,
    /// Paths under which it is found: at most three, the first in order of their bytes.
    pub paths: Vec<String>,
    /// How often it is referred to.
    pub references: u64,
    /// `length * (references - 1)`.
    pub wasted_bytes: u64,
}

/// Which images share what, by one granularity.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matrix {
    /// For each row and column, `shared / uniqueBytes of the row`: how much of the row's image is in the column's. Four digits.
    pub containment: Vec<Vec<Option<Ratio>>>,
    /// The granularity.
    pub granularity: String,
    /// For each row and column, `shared / (unique of the row + unique of the column - shared)`. Four digits.
    pub jaccard: Vec<Vec<Option<Ratio>>>,
    /// An order of the images that puts those next to each other that share the most: indices into [`Report::images`].
    pub order: Vec<u64>,
    /// Bytes of units that both images have, each counted once; in the diagonal the unique bytes of the image. Rows and columns
    /// are in the order of [`Report::images`].
    pub shared_bytes: Vec<Vec<u64>>,
}

/// Unique bytes as images are added one after the other.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrowthCurve {
    /// The granularity.
    pub granularity: String,
    /// `given`, `date` (by the time of creation, those without one last) or `shuffled`.
    pub order: &'static str,
    /// After each image.
    pub points: Vec<GrowthPoint>,
}

/// A curve after so many images.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrowthPoint {
    /// The image that was added, an index into [`Report::images`]; absent where many orders are taken together.
    pub image: Option<u64>,
    /// How many images that are.
    pub images: u64,
    /// The lowest `uniqueBytes` of all orders.
    pub least_unique_bytes: u64,
    /// Plain bytes of these images; of many orders the mean.
    pub logical_bytes: u64,
    /// The highest `uniqueBytes` of all orders; the same as `uniqueBytes` for one order.
    pub most_unique_bytes: u64,
    /// `logicalBytes / uniqueBytes`.
    pub ratio: Option<Ratio>,
    /// Bytes of distinct units of these images; of many orders the mean.
    pub unique_bytes: u64,
}

/// Blobs of one media type.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaTypeFigures {
    /// Distinct blobs.
    pub blobs: u64,
    /// As of the corpus.
    pub logical_bytes: u64,
    /// The media type as the first reference has it.
    pub media_type: String,
    /// As of the corpus.
    pub plain_logical_bytes: u64,
    /// As of the corpus.
    pub plain_stored_bytes: u64,
    /// As of the corpus.
    pub references: u64,
    /// As of the corpus.
    pub stored_bytes: u64,
}

/// Contents of files of one class.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassFigures {
    /// As of a granularity.
    pub bytes: u64,
    /// What they are, by their first bytes; `tar structure` is what is no content of a file.
    pub class: &'static str,
    /// `bytes / uniqueBytes`.
    pub ratio: Option<Ratio>,
    /// As of a granularity.
    pub unique_bytes: u64,
    /// As of a granularity.
    pub unique_units: u64,
    /// As of a granularity.
    pub units: u64,
}

/// An image.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFigures {
    /// References to blobs.
    pub blobs: u64,
    /// When it was made, as its config or its annotations say; RFC 3339.
    pub created: Option<String>,
    /// The digest of its manifest, or of the plain file.
    pub digest: String,
    /// The sizes of its blobs, each reference counted.
    pub logical_bytes: u64,
    /// What it is called.
    pub name: String,
    /// The plain bytes of its blobs, each reference counted.
    pub plain_bytes: u64,
}

/// A distinct blob.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Its digest.
    pub digest: String,
    /// How it is compressed: `none`, `gzip` or `zstd`; absent if it could not be read.
    pub encoding: Option<&'static str>,
    /// How many entries of a tar with content it has; absent if it is no tar.
    pub files: Option<u64>,
    /// Its media type, as the first reference has it.
    pub media_type: String,
    /// Its plain bytes, as far as they could be read.
    pub plain_bytes: u64,
    /// How often images refer to it.
    pub references: u64,
    /// What it is to them: `manifest`, `config` or `layer`.
    pub role: &'static str,
    /// Its size, as its descriptor has it.
    pub size: u64,
    /// Of the plain bytes of a tar, what is no content of a file.
    pub structure_bytes: u64,
}

/// What decides the figures beside the content.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// What tells units apart.
    pub hash: &'static str,
    /// Above so many images there is no matrix.
    pub matrix_limit: u64,
    /// The most plain bytes of one blob.
    pub max_plain_bytes: u64,
    /// The most plain bytes for each stored byte.
    pub max_ratio: u64,
    /// Bytes that the tables of all granularities may take together before units are sampled.
    pub memory: u64,
    /// How deep uncompressed archives among the files are opened.
    pub nested: u32,
    /// One of so many unique units was packed (all of more than a mebibyte were); 0: none.
    pub pack_one_in: u32,
    /// How units are packed.
    pub packer: &'static str,
    /// The seed of the first shuffled order; each further one has the next.
    pub seed: u64,
    /// Over how many shuffled orders the curve is taken.
    pub shuffles: u32,
    /// How many files are listed.
    pub wasted_files: u64,
}

/// What measured.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What took how long.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// Plain bytes of distinct blobs for each second.
    pub bytes_per_second: f64,
    /// Seconds from beginning to end.
    pub seconds: f64,
    /// Where they went, in seconds of all threads together.
    pub stages: Vec<StageTime>,
    /// How many threads worked.
    pub threads: u64,
}

/// The work of one kind.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTime {
    /// Bytes that went through it.
    pub bytes: u64,
    /// Bytes for each second of a thread.
    pub bytes_per_second: f64,
    /// Seconds of all threads together.
    pub seconds: f64,
    /// `read` (with decompressing), the name of a granularity (cutting and hashing), `table`, or `pack`.
    pub stage: String,
}
