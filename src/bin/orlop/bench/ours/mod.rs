//! The workloads on a store of this crate.

mod fixture;
mod graph;
mod large;
mod life;
mod names;
mod reads;
mod small;

use std::path::PathBuf;

use orlop::{Durability, Options, Sharing};

use super::Outcome;
use super::cell::{Cell, Measured, Step};

/// A cell and the options that its store is opened with.
#[derive(Debug)]
struct Ours<'c> {
    cell: &'c Cell,
    durability: Durability,
}

impl Ours<'_> {
    fn options(&self) -> Options {
        Options::new().durability(self.durability)
    }

    fn path(&self) -> PathBuf {
        self.cell.dir.join("store")
    }

    fn prepares(&self) -> bool {
        self.cell.step == Step::Prepare
    }

    /// Whether what was written is durable when a call returns.
    fn durable(&self) -> Option<bool> {
        Some(self.durability == Durability::Power)
    }
}

/// Does one step of a cell.
pub(crate) fn run(cell: &Cell, durability: Durability) -> Outcome<Option<Measured>> {
    let ours = Ours { cell, durability };
    match cell.workload.as_str() {
        "large-stream" => large::streams(&ours, 1),
        "large-stream-2" => large::streams(&ours, 2),
        "large-file" => large::files(&ours, 1),
        "large-file-2" => large::files(&ours, 2),
        "copy-link" => large::copy(&ours, Sharing::Link),
        "copy-reflink" => large::copy(&ours, Sharing::Reflink),
        "copy-bytes" => large::copy(&ours, Sharing::Never),
        "small-single" => small::single(&ours),
        "small-batch" => small::batches(&ours, 8, false),
        "small-concurrent" => small::concurrent(&ours),
        "small-sustained" => small::batches(&ours, 50, true),
        "repush" => small::again(&ours, super::data::BLOCK, 64, 4),
        "repush-small" => small::again(&ours, super::data::SMALL, 1000, 10),
        "tags-single" => names::one_by_one(&ours),
        "tags-batch" => names::at_once(&ours),
        "list-tags" => names::pages(&ours),
        "referrers-one" => graph::one_subject(&ours),
        "referrers-many" => graph::many_subjects(&ours),
        "open" => graph::open(&ours),
        "read-sequential" => reads::sequential(&ours),
        "read-mapped" => reads::mapped(&ours),
        "read-verified" => reads::verified(&ours),
        "read-small" => reads::small(&ours),
        "read-ranges" => reads::ranges(&ours),
        "collect" => life::collect(&ours),
        "import" => life::import(&ours),
        "rebuild" => life::rebuild(&ours),
        other => Err(format!("unknown workload, workload={other}").into()),
    }
}
