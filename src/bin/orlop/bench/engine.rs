//! The metadata engine by itself: what a synced put and a get cost at least.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::Outcome;
use super::data::Random;

/// As much as a store has.
const CACHE: usize = 32 << 20;
const PART: usize = 1000;

/// A database with one column family, the cache and the filters of a store, and else its defaults.
#[derive(Debug)]
pub(super) struct Engine(DB);

impl Engine {
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(CACHE));
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&table);
        options.set_keep_log_file_num(1);
        Ok(Self(DB::open(&options, path)?))
    }

    /// One row, durable when this returns.
    pub(super) fn put(&self, number: usize, value: &[u8]) -> Outcome<()> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.0.put_opt(key(number), value, &options)?)
    }

    /// So many rows in one sorted run.
    pub(super) fn fill(&self, count: usize, value: &[u8]) -> Outcome<()> {
        for first in (0..count).step_by(PART) {
            let mut batch = WriteBatch::default();
            (first..(first + PART).min(count)).for_each(|number| batch.put(key(number), value));
            self.0.write(batch)?;
        }
        self.0.flush()?;
        self.0.compact_range::<&[u8], &[u8]>(None, None);
        Ok(())
    }

    /// One look-up without a copy.
    pub(super) fn get(&self, number: usize) -> Outcome<()> {
        let value = self.0.get_pinned(key(number))?.ok_or("the engine lost a row")?;
        std::hint::black_box(value.first());
        Ok(())
    }
}

/// A key of 33 bytes, as a digest makes.
fn key(number: usize) -> [u8; 33] {
    let mut key = [1; 33];
    let mut random = Random::new(number as u64);
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    key
}
