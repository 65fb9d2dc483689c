//! Column families and the settings of the engine.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `default` | `F` name | a fact: `published`, `pending` and `merged` (fingerprints), `clean`, `sparse`, `counted` (flags), `events` (the feed) |
//! | | `N` repository name | id |
//! | | `I` id | repository name |
//! | | `D` id | a deleted repository: nothing while it has rows left, then 1 |
//! | | `U` upload session | its repository, its offset, its hashes |
//! | | `t` id, tag | target, time of the last change |
//! | | `P` id | retention policy |
//! | | `u` id, target, tag | nothing |
//! | | `b` name in `index.json`, or 0 and digest | the target that the published view has, written with the first change since |
//! | | `f` name, 0, digest as written | an entry of `index.json` that is not ours to understand, as JSON |
//! | | `x` name in `index.json`, or 0 and digest | what another tool says of the entry: a descriptor as JSON |
//! | | `E` sequence | an event |
//! | | `q` class since, id, digest | what a collection is to look at; `q` `u` id, since, digest and `q` `n` id, digest: untagged manifests |
//! | | `T` digest | content whose file is still to go |
//! | | `L` lease | times and label of a lease |
//! | | `k` lease, digest | nothing: what a lease holds |
//! | | `Z` id, or nothing | what the repository, or the store, holds: counters that merge operands add to |
//! | | `z` id, or nothing | the quota of the repository, or of the store |
//! | `content` | digest | size, flags |
//! | `journal` | digest | id of the row (8 bytes), then the content |
//! | `members` | `m` id, kind, digest | manifests: media type as pushed, artifact type, sequence, sparse; blobs: nothing |
//! | `graph` | `h` digest, id, kind | nothing: who holds it |
//! | | `l` digest, lease | nothing: who leases it |
//! | | `e` child, id, parent | roles of the edge, one bit each |
//! | | `r` subject, id, sequence | the referrer's descriptor |
//! | | `s` subject, id, type hash, sequence | nothing |
//! | | `c` subject, id, created descending, sequence | nothing |
//! | | `d` subject, id, type hash, created descending, sequence | nothing |
//!
//! `id` is a repository's id, 4 bytes big-endian; a digest is one byte for the algorithm and its bytes; sequences are 8
//! bytes big-endian. `docs/format.md` has the bytes of the values.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, DataBlockIndexType,
    InfoLogger, LogLevel, Options, SliceTransform, WriteBufferManager,
};

use super::key::GRAPH_PREFIX;
use super::lifecycle::usage;

/// The key of the row that every family keeps; no other key starts with this byte.
pub(super) const MARK: &[u8] = &[0];

/// A column family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    Default,
    Content,
    Journal,
    Members,
    Graph,
}

impl Family {
    pub(super) const ALL: [Self; 5] =
        [Self::Default, Self::Content, Self::Journal, Self::Members, Self::Graph];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Content => "content",
            Self::Journal => "journal",
            Self::Members => "members",
            Self::Graph => "graph",
        }
    }
}

/// Blocks, filters and (through the manager) memory tables share this much.
const CACHE: usize = 32 << 20;
/// About the size of what is cached: blocks of 4 KiB.
const CACHE_ENTRY: usize = 4096;
/// The journal's blocks are read once, by filing, and would drive out what is read again.
const JOURNAL_CACHE: usize = 1 << 20;
/// Small tables have small filters and indexes, which come and go in the cache by the part that is used. A filter that
/// does not fit is read from the disk and checked at every look-up.
const TABLE: u64 = 8 << 20;
/// All memory tables together; charged to the cache. The journal's three and some of the others.
const WRITE_BUFFERS: usize = 32 << 20;
const WRITE_BUFFER: usize = 4 << 20;
/// The log may hold this much before its oldest families are flushed: more than the journal, since a flush in the middle
/// of a burst stalls it. Bounds the replay at open, and what a read-only view of a live store keeps in memory.
const LOG: u64 = 48 << 20;
/// The log goes to the disk in steps of this size, before a sync asks for it.
const LOG_STEP: u64 = 512 << 10;
const OPEN_FILES: i32 = 256;
/// The engine's list of its files is begun anew beyond this size.
const LIST: usize = 1 << 20;
/// Room for the list is taken in steps of this size.
const LIST_STEP: usize = 64 << 10;

/// Settings of the whole engine.
pub(super) fn engine(cache: &Cache, read_only: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(!read_only);
    options.create_missing_column_families(!read_only);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    // It is read and compared as a whole at every open.
    options.set_max_manifest_file_size(LIST);
    // Taken at every open: four mebibytes by default, which a disk that is nearly full may not have.
    options.set_manifest_preallocation_size(LIST_STEP);
    // A damaged log must be seen, not cut: the default would drop acknowledged rows behind it in silence.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_manual_wal_flush(false);
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(LOG);
    options.set_wal_bytes_per_sync(LOG_STEP);
    // A read-only view may not lose a file that the live writer removes, so it opens them all at once.
    options.set_max_open_files(if read_only { -1 } else { OPEN_FILES });
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        WRITE_BUFFERS,
        false,
        cache.clone(),
    ));
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    // The engine's own log file would be one more thing that is created at every open; failures come back as errors.
    // The engine's repair knows no families, and meets operands of all.
    options.set_merge_operator_associative(usage::OPERATOR, usage::merge);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, told));
    options
}

/// For logs that are judged by their bytes: whatever they are, the tables and what there is of the logs are read.
pub(super) fn tolerate_all(options: &mut Options) {
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
}

/// What the engine has to say, for whoever listens.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody listens"))]
fn told(level: LogLevel, text: &str) {
    #[cfg(feature = "tracing")]
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "orlop::engine", "{}", text.trim()),
        LogLevel::Warn => tracing::warn!(target: "orlop::engine", "{}", text.trim()),
        _ => {}
    }
}

pub(super) fn cache() -> Cache {
    // One shard without a lock. The default cache has 64, and half a MiB is too little for a filter.
    Cache::new_hyper_clock_cache(CACHE, CACHE_ENTRY)
}

pub(super) fn families(cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    Family::ALL
        .iter()
        .map(|family| ColumnFamilyDescriptor::new(family.name(), settings(*family, cache)))
        .collect()
}

fn settings(family: Family, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(6);
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(TABLE);
    options.set_compression_type(DBCompressionType::Lz4);
    match family {
        // Digests do not repeat, so compression of what is keyed by them finds nothing; and look-ups want small blocks.
        Family::Content => {
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            options.set_compression_type(DBCompressionType::None);
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.05);
        }
        Family::Journal => {
            blocks.set_block_cache(&Cache::new_lru_cache(JOURNAL_CACHE));
            options.set_compression_type(DBCompressionType::None);
            options.set_write_buffer_size(2 * WRITE_BUFFER);
            options.set_max_write_buffer_number(3);
            // Its rows go soon; merging them before that only copies them.
            options.set_level_zero_file_num_compaction_trigger(8);
        }
        Family::Graph => {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(GRAPH_PREFIX));
            options.set_memtable_prefix_bloom_ratio(0.1);
            // Every table is one more place for a scan to look.
            options.set_level_zero_file_num_compaction_trigger(3);
        }
        Family::Members => blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash),
        Family::Default => {
            options.set_merge_operator_associative(usage::OPERATOR, usage::merge);
            options.set_max_successive_merges(usage::SUCCESSIVE);
        }
    }
    options.set_block_based_table_factory(&blocks);
    options
}
