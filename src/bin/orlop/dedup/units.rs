//! `--units FILE`: a record for each unit.

use std::io;
use std::path::Path;

use orlop::dedup::{Measurement, UnitRecord, UnitSink};

use super::out::{OutFile, row};
use crate::error::Failure;

const HEADING: [&str; 7] = ["granularity", "hash", "image", "layer", "length", "offset", "path"];

/// Writes what a measurement finds; the file has its name when all of it is there.
pub(super) fn write(
    path: &Path,
    measure: impl FnOnce(&mut dyn UnitSink) -> orlop::Result<Measurement>,
) -> Result<Measurement, Failure> {
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let mut sink = Sink { file: OutFile::create(path)?, is_csv, failure: None };
    if is_csv {
        sink.file.write(row(HEADING).as_bytes())?;
    }
    let result = measure(&mut sink);
    if let Some(failure) = sink.failure {
        return Err(failure);
    }
    let measurement = result?;
    sink.file.finish()?;
    Ok(measurement)
}

struct Sink {
    file: OutFile,
    is_csv: bool,
    /// Why no more can be written.
    failure: Option<Failure>,
}

impl UnitSink for Sink {
    fn take(&mut self, unit: &UnitRecord<'_>) -> io::Result<()> {
        let line = if self.is_csv {
            row([
                unit.granularity,
                &unit.hash.to_string(),
                unit.image,
                unit.layer,
                &unit.length.to_string(),
                &unit.offset.to_string(),
                unit.path.unwrap_or_default(),
            ])
        } else {
            serde_json::to_string(unit)? + "\n"
        };
        self.file.write(line.as_bytes()).map_err(|failure| {
            self.failure = Some(failure);
            io::Error::other("the file cannot be written")
        })
    }
}
