//! The floors: what the store's promises cost at least, in plain calls to RocksDB and the operating system.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::harness::{Outcome, Random};

/// A RocksDB with one column family, the cache of the store's size and bloom filters, and else its defaults.
pub(crate) fn open_rocksdb(path: &Path) -> Outcome<DB> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(32 << 20));
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&table);
    options.set_keep_log_file_num(1);
    Ok(DB::open(&options, path)?)
}

pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// A key of 33 bytes, as a sha256 digest makes.
pub(crate) fn key(seed: u64) -> [u8; 33] {
    let mut key = [1; 33];
    let mut random = Random::new(seed);
    for part in key[1..].chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    key
}

/// Fills a database with `count` rows of `value_size` bytes under [`key`]s, in one sorted run.
pub(crate) fn fill(db: &DB, count: usize, value_size: usize) -> Outcome<()> {
    let value = vec![7; value_size];
    for start in (0..count).step_by(1000) {
        let mut batch = WriteBatch::default();
        for seed in start..(start + 1000).min(count) {
            batch.put(key(seed as u64), &value);
        }
        db.write(batch)?;
    }
    db.flush()?;
    db.compact_range::<&[u8], &[u8]>(None, None);
    Ok(())
}

/// One look-up without a copy.
pub(crate) fn get(db: &DB, options: &ReadOptions, key: &[u8]) -> Outcome<()> {
    match db.get_pinned_opt(key, options)? {
        Some(value) => {
            std::hint::black_box(value.first());
            Ok(())
        }
        None => Err("the floor lost a row".into()),
    }
}

/// The rows whose keys begin with `prefix`, and the bytes of their values.
pub(crate) fn scan(db: &DB, prefix: &[u8]) -> Outcome<(usize, usize)> {
    let mut rows = db.raw_iterator();
    let (mut count, mut bytes) = (0, 0);
    rows.seek(prefix);
    while let Some((key, value)) = rows.item() {
        if !key.starts_with(prefix) {
            break;
        }
        count += 1;
        bytes += value.len();
        rows.next();
    }
    rows.status()?;
    Ok((count, bytes))
}

/// A file name as content has it: 64 hexadecimal digits.
pub(crate) fn name(seed: u64) -> String {
    key(seed)[1..].iter().fold(String::with_capacity(64), |mut name, byte| {
        for nibble in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        name
    })
}

/// Opens, reads to a known length and closes.
pub(crate) fn read_file(path: &PathBuf, size: usize) -> Outcome<()> {
    let mut bytes = vec![0; size];
    File::open(path)?.read_exact(&mut bytes)?;
    std::hint::black_box(bytes);
    Ok(())
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Outcome<()> {
    File::create(path)?.write_all(bytes)?;
    Ok(())
}
