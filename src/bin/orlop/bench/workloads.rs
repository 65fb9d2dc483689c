//! What is measured: the workloads, what each is compared with, and what is aimed at.

/// How the time of a workload becomes a rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    /// Bytes of content.
    Bytes,
    /// Operations.
    Operations,
}

/// When what a workload finds is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Prepared {
    /// Anew for every run.
    EachRound,
    /// Once for all rounds, which change nothing of it.
    Once,
}

/// The share of a limit's rate that is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) store: &'static str,
    pub(crate) of: &'static str,
    pub(crate) share: f64,
    /// Only on a filesystem that shares blocks between files.
    pub(crate) sharing_blocks: bool,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What one operation is, at a scale of 1.
    pub(crate) about: &'static str,
    pub(crate) unit: Unit,
    pub(crate) prepared: Prepared,
    /// Whether large content is written, whose few files are removed at once.
    pub(crate) large: bool,
    /// Which of our own stores it is run on.
    pub(crate) ours: &'static [&'static str],
    /// Which limits of the machine stand beside it.
    pub(crate) limits: &'static [&'static str],
    pub(crate) goals: &'static [Goal],
}

/// The store as it is by default: what is acknowledged is durable.
pub(crate) const ORLOP: &str = "orlop";
/// The store that syncs at its close alone.
pub(crate) const UNSYNCED: &str = "orlop-unsynced";

const BOTH: &[&str] = &[ORLOP, UNSYNCED];
const ONE: &[&str] = &[ORLOP];

const fn goal(store: &'static str, of: &'static str, share: f64) -> Goal {
    Goal { store, of, share, sharing_blocks: false }
}

const fn shared(store: &'static str, of: &'static str, share: f64) -> Goal {
    Goal { store, of, share, sharing_blocks: true }
}

const fn writes(
    name: &'static str,
    about: &'static str,
    ours: &'static [&'static str],
    limits: &'static [&'static str],
) -> Workload {
    Workload {
        name,
        about,
        unit: Unit::Operations,
        prepared: Prepared::EachRound,
        large: false,
        ours,
        limits,
        goals: &[],
    }
}

const fn reads(name: &'static str, about: &'static str, limits: &'static [&'static str]) -> Workload {
    Workload { prepared: Prepared::Once, ..writes(name, about, ONE, limits) }
}

const fn large(
    name: &'static str,
    about: &'static str,
    limits: &'static [&'static str],
    goals: &'static [Goal],
) -> Workload {
    Workload { unit: Unit::Bytes, large: true, goals, ..writes(name, about, BOTH, limits) }
}

const fn of_bytes(workload: Workload) -> Workload {
    Workload { unit: Unit::Bytes, ..workload }
}

const fn with(workload: Workload, goals: &'static [Goal]) -> Workload {
    Workload { goals, ..workload }
}

/// All of them, the most important first.
pub(crate) const WORKLOADS: &[Workload] = &[
    large(
        "large-stream",
        "8 contents of 256 MiB from a stream, one writer",
        &["hash", "write", "write-fsync"],
        &[goal(ORLOP, "hash", 0.8), goal(UNSYNCED, "hash", 0.9)],
    ),
    large(
        "large-stream-2",
        "the same, two writers",
        &["hash-2", "hash-write-2"],
        &[goal(ORLOP, "hash-write-2", 0.9), goal(UNSYNCED, "hash-write-2", 0.9)],
    ),
    large(
        "large-file",
        "8 files of 256 MiB, one writer",
        &["hash"],
        &[shared(ORLOP, "hash", 0.9), shared(UNSYNCED, "hash", 0.9)],
    ),
    large(
        "large-file-2",
        "the same, two writers",
        &["hash-2"],
        &[shared(ORLOP, "hash-2", 0.9), shared(UNSYNCED, "hash-2", 0.9)],
    ),
    writes(
        "small-single",
        "2,000 contents of 4 KiB one after the other",
        BOTH,
        &["fsync-each", "rocksdb-put"],
    ),
    writes("small-batch", "8 batches of 1,000 contents of 4 KiB", BOTH, &["syncfs-batch"]),
    writes("small-concurrent", "8 threads with 500 contents of 4 KiB each", BOTH, &[]),
    writes(
        "small-sustained",
        "50,000 contents of 4 KiB in batches of 1,000, until the layout is complete",
        BOTH,
        &["syncfs-batch"],
    ),
    with(
        of_bytes(reads("repush", "256 pushes of 1 MiB that is there", &["hash-get-stat"])),
        &[goal(ORLOP, "hash-get-stat", 1.0 / 1.1)],
    ),
    with(
        reads("repush-small", "10,000 pushes of 4 KiB that are there", &["hash-get-stat"]),
        &[goal(ORLOP, "hash-get-stat", 1.0 / 1.1)],
    ),
    with(
        writes("tags-single", "10,000 tags one after the other", ONE, &["rocksdb-put"]),
        &[goal(ORLOP, "rocksdb-put", 0.5)],
    ),
    writes("tags-batch", "10,000 tags at once", ONE, &[]),
    reads("list-tags", "20 times 10,000 tags in pages of 100; an operation is a page", &[]),
    reads("referrers-one", "20 times all 10,000 referrers of one subject; an operation is a list", &[]),
    reads(
        "referrers-many",
        "5 referrers of each of 10,000 subjects; an operation is a list",
        &["rocksdb-get"],
    ),
    reads("open", "5 times: open a store of 60,000 manifests, resolve a tag, list its referrers", &[]),
    of_bytes(reads("read-sequential", "4 contents of 256 MiB, from beginning to end", &["pread"])),
    of_bytes(reads("read-mapped", "4 contents of 256 MiB in one piece, every page touched", &[])),
    of_bytes(reads("read-verified", "4 contents of 256 MiB, hashed as they are read", &["hash"])),
    reads("read-small", "20,000 of as many contents of 4 KiB at random", &["open-read", "rocksdb-get"]),
    reads("read-ranges", "20,000 ranges of 4 KiB at random out of 256 MiB", &["pread-ranges"]),
    writes("collect", "1,000 of 10,000 images that were deleted", ONE, &["unlink"]),
    writes("import", "taking in a layout of 10,000 images that another tool made", ONE, &[]),
    writes("rebuild", "making the metadata of 10,000 images anew", ONE, &[]),
    large("copy-link", "an image of 8 layers of 256 MiB into another store, by link", &[], &[]),
    large("copy-reflink", "the same, by reflink where there is one", &[], &[]),
    large("copy-bytes", "the same, every byte copied", &["write-fsync"], &[]),
];
