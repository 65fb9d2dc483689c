//! What a measurement found, before any figure: mergeable, and the same for the same content.

use std::collections::HashMap;
use std::time::Duration;

use super::corpus::{Image, Part};
use super::finding::Finding;
use super::measure::Settings;
use super::report::Report;
use super::stages::Stages;
use super::table::Table;
use super::walk::Walked;
use crate::oci::Descriptor;
use crate::{Digest, Error, Result};

/// A distinct blob and what came out of it.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) descriptor: Descriptor,
    pub(super) part: Part,
    /// None if it could not be read at all.
    pub(super) walked: Option<Walked>,
    /// Whether something of it is not in the figures.
    pub(super) incomplete: bool,
    pub(super) findings: Vec<Finding>,
}

/// What took how long.
#[derive(Debug)]
pub(super) struct Took {
    pub(super) time: Duration,
    pub(super) stages: Stages,
    pub(super) threads: usize,
}

/// Everything that figures are made of: which image has which blobs, and which blob has which units.
///
/// Its memory grows with the units up to the limit that was set, and with images and blobs.
#[derive(Debug)]
pub struct Measurement {
    pub(super) settings: Settings,
    pub(super) images: Vec<Image>,
    pub(super) blobs: Vec<Measured>,
    /// Of manifests, beside those of blobs.
    pub(super) findings: Vec<Finding>,
    /// One for each granularity.
    pub(super) tables: Vec<Table>,
    pub(super) took: Option<Took>,
}

impl Measurement {
    /// All figures and views.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(self)
    }

    /// Whether something could not be measured, so that figures are too small.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.findings
            .iter()
            .chain(self.blobs.iter().flat_map(|blob| &blob.findings))
            .any(|found| found.incomplete)
    }

    /// Puts two measurements together: what comes out is what one measurement of both corpora, one behind the other, would have found.
    /// A blob that only one of them could read counts as that one has it.
    ///
    /// # Errors
    ///
    /// `Invalid` when they were not made with the same settings.
    pub fn merge(mut self, other: Self) -> Result<Self> {
        if self.settings.parameters() != other.settings.parameters()
            || self.settings.names() != other.settings.names()
        {
            return Err(Error::invalid("measurements of other settings cannot be merged"));
        }
        let known: HashMap<Digest, usize> =
            self.blobs.iter().enumerate().map(|(at, blob)| (blob.descriptor.digest, at)).collect();
        let mut places = Vec::with_capacity(other.blobs.len());
        for (from, blob) in other.blobs.into_iter().enumerate() {
            let to = known.get(&blob.descriptor.digest).copied();
            places.push(to.unwrap_or(self.blobs.len()));
            let is_better = |mine: &Measured| {
                (mine.incomplete && !blob.incomplete) || (mine.walked.is_none() && blob.walked.is_some())
            };
            match to.and_then(|to| self.blobs.get_mut(to).map(|mine| (to, mine))) {
                Some((to, mine)) if is_better(mine) => {
                    let descriptor = mine.descriptor.clone();
                    *mine = Measured { descriptor, ..blob };
                    take(&mut self.tables, &other.tables, from, to);
                }
                Some(_) => {}
                None => {
                    take(&mut self.tables, &other.tables, from, self.blobs.len());
                    self.blobs.push(blob);
                }
            }
        }
        for (table, theirs) in self.tables.iter_mut().zip(&other.tables) {
            table.settle(theirs, self.blobs.len());
        }
        self.images.extend(other.images.into_iter().map(|image| {
            let blobs = image.blobs.iter().filter_map(|at| places.get(*at).copied()).collect();
            Image { blobs, ..image }
        }));
        for finding in other.findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        self.took = None;
        Ok(self)
    }
}

fn take(tables: &mut [Table], other: &[Table], from: usize, to: usize) {
    for (table, theirs) in tables.iter_mut().zip(other) {
        table.take_blob(theirs, from, to);
    }
}
