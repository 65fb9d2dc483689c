//! cacache: content by hash in files. It syncs nothing.

use std::hint::black_box;
use std::io::{Read, Write};

use cacache::{Integrity, SyncReader, WriteOpts};

use crate::data::{self, BLOCK, LARGE_COUNT, Random, SMALL, Stream};
use crate::protocol::{Cell, Clock, Described, side_by_side, source, sources};

const UNSYNCED: Option<bool> = Some(false);
const LARGE: usize = 4;

pub(crate) fn describe() -> Described {
    let keys = "keys of a cache are no tags: each has a file with all that it ever was";
    Described::new(
        "cacache",
        "13",
        &[
            "large-stream",
            "large-stream-2",
            "large-file",
            "large-file-2",
            "small-single",
            "small-batch",
            "small-concurrent",
            "small-sustained",
            "repush",
            "repush-small",
            "read-sequential",
            "read-verified",
            "read-small",
        ],
        &[
            ("*", "it has no manifests, no tags, and no graph"),
            ("tags-single", keys),
            ("tags-batch", keys),
            ("list-tags", keys),
            ("read-mapped", "it reads into memory"),
            ("read-ranges", "it has no ranges"),
        ],
    )
}

pub(crate) fn run(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    match cell.workload.as_str() {
        "large-stream" => large(cell, clock, 1, false),
        "large-stream-2" => large(cell, clock, 2, false),
        "large-file" => large(cell, clock, 1, true),
        "large-file-2" => large(cell, clock, 2, true),
        "small-single" => small(cell, clock, cell.count(2000), 1),
        "small-batch" => small(cell, clock, 8 * cell.count(1000), 1),
        "small-concurrent" => small(cell, clock, 8 * cell.count(500), 8),
        "small-sustained" => small(cell, clock, 50 * cell.count(1000), 1),
        "repush" => again(cell, clock, BLOCK, 64, 4),
        "repush-small" => again(cell, clock, SMALL, 1000, 10),
        "read-sequential" => sequential(cell, clock, false),
        "read-verified" => sequential(cell, clock, true),
        "read-small" => reads(cell, clock),
        other => anyhow::bail!("unknown workload, workload={other}"),
    }
}

fn store(cell: &Cell) -> std::path::PathBuf {
    cell.dir.join("store")
}

fn push(cell: &Cell, mut reader: impl Read) -> anyhow::Result<Integrity> {
    let mut writer = WriteOpts::new().open_hash_sync(store(cell))?;
    let mut buffer = vec![0; BLOCK];
    loop {
        let count = reader.read(&mut buffer)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            return Ok(writer.commit()?);
        }
        writer.write_all(part)?;
    }
}

fn large(cell: &Cell, clock: &mut Clock, writers: usize, from_files: bool) -> anyhow::Result<()> {
    if cell.prepares {
        return if from_files { sources(cell) } else { Ok(()) };
    }
    let (block, size) = (Stream::block(), cell.large());
    clock.start()?;
    side_by_side(writers, LARGE_COUNT, |number| {
        if from_files {
            push(cell, std::fs::File::open(source(cell, number))?)?;
        } else {
            push(cell, Stream::new(&block, number as u64, size))?;
        }
        Ok(())
    })?;
    clock.stop(LARGE_COUNT, LARGE_COUNT, LARGE_COUNT as u64 * size, UNSYNCED);
    Ok(())
}

fn small(cell: &Cell, clock: &mut Clock, count: usize, threads: usize) -> anyhow::Result<()> {
    if cell.prepares {
        return Ok(());
    }
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, SMALL)).collect();
    clock.start()?;
    if threads > 1 {
        side_by_side(threads, count, |number| {
            cacache::write_hash_sync(store(cell), contents.get(number).map_or(&[][..], Vec::as_slice))?;
            Ok(())
        })?;
        clock.stop(count, count, 0, UNSYNCED);
        return Ok(());
    }
    let mut done = 0;
    for bytes in &contents {
        cacache::write_hash_sync(store(cell), bytes)?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, count, 0, UNSYNCED);
    Ok(())
}

fn again(cell: &Cell, clock: &mut Clock, size: usize, count: usize, passes: usize) -> anyhow::Result<()> {
    let count = cell.count(count);
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, size)).collect();
    if cell.prepares {
        for bytes in &contents {
            cacache::write_hash_sync(store(cell), bytes)?;
        }
        return Ok(());
    }
    clock.start()?;
    for _ in 0..passes {
        for bytes in &contents {
            cacache::write_hash_sync(store(cell), bytes)?;
        }
    }
    let n = count * passes;
    clock.stop(n, n, (n * size) as u64, UNSYNCED);
    Ok(())
}

fn sequential(cell: &Cell, clock: &mut Clock, verified: bool) -> anyhow::Result<()> {
    let list = cell.dir.join("hashes");
    if cell.prepares {
        let block = Stream::block();
        let mut hashes = String::new();
        for number in 0..LARGE {
            let hash = push(cell, Stream::new(&block, number as u64, cell.large()))?;
            hashes.push_str(&format!("{hash}\n"));
        }
        return Ok(std::fs::write(list, hashes)?);
    }
    let text = std::fs::read_to_string(list)?;
    let hashes: Vec<Integrity> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    let (mut buffer, mut bytes) = (vec![0; BLOCK], 0);
    clock.start()?;
    for hash in hashes {
        // Its reader hashes what goes through it whether that is wanted or not; checking is a call more.
        let mut reader = SyncReader::open_hash(store(cell), hash)?;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            black_box(buffer.first());
        }
        if verified {
            reader.check()?;
        }
    }
    clock.stop(LARGE, LARGE, bytes, None);
    Ok(())
}

fn reads(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let count = cell.count(20_000);
    let content = |seed: usize| data::content(seed as u64, SMALL);
    if cell.prepares {
        for seed in 0..count {
            cacache::write_hash_sync(store(cell), content(seed))?;
        }
        return Ok(());
    }
    let hashes: Vec<Integrity> = (0..count).map(|seed| Integrity::from(content(seed))).collect();
    let (mut random, mut bytes) = (Random::new(1), 0);
    clock.start()?;
    for _ in 0..count {
        let hash = hashes.get(random.below(count)).ok_or_else(|| anyhow::anyhow!("no hash"))?;
        bytes += cacache::read_hash_sync(store(cell), hash)?.len();
    }
    clock.stop(count, count, bytes as u64, None);
    anyhow::ensure!(bytes == count * SMALL, "wrong number of bytes, found={bytes}");
    Ok(())
}
