//! The bare machine: what hashing, writing, syncing, reading and the metadata engine cost by themselves.

#![expect(clippy::disallowed_methods, reason = "plain calls to the operating system are what is measured")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use orlop::{Algorithm, Digest};

use super::cell::{Cell, Clock, Measured, Step};
use super::data::{self, BLOCK, LARGE_COUNT, Random, SMALL, Stream};
use super::engine::Engine;
use super::{Outcome, side_by_side};

/// Files of small content to a sync.
const BATCH: usize = 1000;
const PAGE: usize = 4096;

/// Does one step of a cell.
pub(super) fn run(limit: &str, cell: &Cell) -> Outcome<Option<Measured>> {
    match limit {
        "hash" => hash(cell, 1),
        "hash-2" => hash(cell, 2),
        "write" => write(cell, 1, false, false),
        "write-fsync" => write(cell, 1, false, true),
        "hash-write-2" => write(cell, 2, true, false),
        "fsync-each" => small_files(cell, 2000, 1),
        "syncfs-batch" => {
            small_files(cell, if cell.workload == "small-batch" { 8000 } else { 50_000 }, BATCH)
        }
        "rocksdb-put" => puts(cell),
        "rocksdb-get" => gets(cell),
        "hash-get-stat" => hash_get_stat(cell),
        "pread" => pread(cell),
        "pread-ranges" => ranges(cell),
        "open-read" => open_read(cell),
        "unlink" => unlink(cell),
        other => Err(format!("unknown limit, limit={other}").into()),
    }
}

/// Hashing what is in memory, with SHA-256 as the store has it.
fn hash(cell: &Cell, threads: usize) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return Ok(None);
    }
    let count = if cell.workload == "read-verified" { 4 } else { LARGE_COUNT };
    let (block, size) = (Stream::block(), cell.large());
    let clock = Clock::start(cell)?;
    side_by_side(threads, count, |_| {
        let mut digester = orlop::digest::Digester::new(Algorithm::Sha256);
        let mut left = usize::try_from(size)?;
        while left > 0 {
            let part = block.get(..left.min(BLOCK)).unwrap_or_default();
            digester.update(part);
            left -= part.len();
        }
        black_box(digester.finish());
        Ok(())
    })?;
    Ok(Some(clock.stop(count, count as u64 * size, None)))
}

/// Writing large content into files of its own, hashed on the way or not, each synced or not.
fn write(cell: &Cell, threads: usize, hashed: bool, synced: bool) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return Ok(None);
    }
    let (block, size) = (Stream::block(), cell.large());
    let clock = Clock::start(cell)?;
    side_by_side(threads, LARGE_COUNT, |number| {
        let mut stream = Stream::new(&block, number as u64, size);
        let mut digester = orlop::digest::Digester::new(Algorithm::Sha256);
        let mut file = File::create(cell.dir.join(format!("file-{number}")))?;
        let mut buffer = vec![0; BLOCK];
        loop {
            let count = stream.read(&mut buffer)?;
            let part = buffer.get(..count).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            if hashed {
                digester.update(part);
            }
            file.write_all(part)?;
        }
        if synced {
            file.sync_all()?;
        }
        black_box(digester.finish());
        Ok(())
    })?;
    Ok(Some(clock.stop(LARGE_COUNT, LARGE_COUNT as u64 * size, Some(synced))))
}

fn name(cell: &Cell, number: usize) -> PathBuf {
    cell.dir.join(format!("{number:064x}"))
}

/// Creating files of 4 KiB, with a sync of the file or of the filesystem after so many.
fn small_files(cell: &Cell, full: usize, batch: usize) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return Ok(None);
    }
    let contents: Vec<Vec<u8>> =
        (0..cell.count(full)).map(|seed| data::content(seed as u64, SMALL)).collect();
    let dir = File::open(&cell.dir)?;
    let (mut done, of) = (0, contents.len());
    let clock = Clock::start(cell)?;
    for (part, contents) in contents.chunks(batch).enumerate() {
        for (at, bytes) in contents.iter().enumerate() {
            let mut file = File::create(name(cell, part * batch + at))?;
            file.write_all(bytes)?;
            if batch == 1 {
                file.sync_all()?;
            }
            done += 1;
        }
        if batch > 1 {
            rustix::fs::syncfs(&dir)?;
        }
        if clock.is_over() {
            break;
        }
    }
    Ok(Some(clock.stop_at(done, of, 0, Some(true))))
}

/// Synced puts one after the other: of content, or of what a tag needs.
fn puts(cell: &Cell) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return Ok(None);
    }
    let (of, size) = if cell.workload == "small-single" { (2000, SMALL) } else { (10_000, 16) };
    let (of, value) = (cell.count(of), data::content(1, size));
    let engine = Engine::open(&cell.dir.join("engine"))?;
    let mut done = 0;
    let clock = Clock::start(cell)?;
    for number in 0..of {
        engine.put(number, &value)?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    Ok(Some(clock.stop_at(done, of, 0, Some(true))))
}

/// Look-ups at random of rows as a referrer or a content has.
fn gets(cell: &Cell) -> Outcome<Option<Measured>> {
    let (count, size) = if cell.workload == "read-small" { (20_000, 16) } else { (10_000, 150) };
    let count = cell.count(count);
    let engine = Engine::open(&cell.dir.join("engine"))?;
    if cell.step == Step::Prepare {
        engine.fill(count, &data::content(1, size))?;
        return Ok(None);
    }
    let mut random = Random::new(1);
    let clock = Clock::start(cell)?;
    for _ in 0..count {
        engine.get(random.below(count))?;
    }
    Ok(Some(clock.stop(count, 0, None)))
}

/// What a push of content that is there cannot do without: its hash, one look-up, and a look at its file.
fn hash_get_stat(cell: &Cell) -> Outcome<Option<Measured>> {
    let (size, count, passes) = if cell.workload == "repush" { (BLOCK, 64, 4) } else { (SMALL, 1000, 10) };
    let count = cell.count(count);
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, size)).collect();
    let engine = Engine::open(&cell.dir.join("engine"))?;
    let file = name(cell, 0);
    if cell.step == Step::Prepare {
        engine.fill(count, &[7; 16])?;
        fs::write(file, data::content(0, size))?;
        return Ok(None);
    }
    let clock = Clock::start(cell)?;
    for _ in 0..passes {
        for (number, bytes) in contents.iter().enumerate() {
            black_box(Digest::of(bytes));
            engine.get(number)?;
            black_box(fs::metadata(&file)?);
        }
    }
    let n = count * passes;
    Ok(Some(clock.stop(n, (n * size) as u64, None)))
}

/// A large file, made once.
fn large_file(cell: &Cell) -> Outcome<()> {
    let mut file = File::create(name(cell, 0))?;
    std::io::copy(&mut Stream::new(&Stream::block(), 0, cell.large()), &mut file)?;
    Ok(file.sync_all()?)
}

fn pread(cell: &Cell) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return large_file(cell).map(|()| None);
    }
    let passes = 4;
    let file = File::open(name(cell, 0))?;
    let (mut buffer, mut bytes) = (vec![0; BLOCK], 0);
    let clock = Clock::start(cell)?;
    for _ in 0..passes {
        let mut at = 0;
        loop {
            let count = file.read_at(&mut buffer, at)?;
            if count == 0 {
                break;
            }
            at += count as u64;
            black_box(buffer.first());
        }
        bytes += at;
    }
    Ok(Some(clock.stop(passes, bytes, None)))
}

fn ranges(cell: &Cell) -> Outcome<Option<Measured>> {
    if cell.step == Step::Prepare {
        return large_file(cell).map(|()| None);
    }
    let count = cell.count(20_000);
    let pages = usize::try_from(cell.large())? / PAGE;
    let file = File::open(name(cell, 0))?;
    let mut random = Random::new(1);
    let clock = Clock::start(cell)?;
    for _ in 0..count {
        let mut buffer = vec![0; PAGE];
        file.read_exact_at(&mut buffer, (random.below(pages) * PAGE) as u64)?;
        black_box(buffer);
    }
    Ok(Some(clock.stop(count, (count * PAGE) as u64, None)))
}

fn open_read(cell: &Cell) -> Outcome<Option<Measured>> {
    let count = cell.count(20_000);
    if cell.step == Step::Prepare {
        for number in 0..count {
            fs::write(name(cell, number), data::content(number as u64, SMALL))?;
        }
        return Ok(None);
    }
    let names: Vec<PathBuf> = (0..count).map(|number| name(cell, number)).collect();
    let mut random = Random::new(1);
    let clock = Clock::start(cell)?;
    for _ in 0..count {
        let path = names.get(random.below(count)).ok_or("no file")?;
        let mut buffer = vec![0; SMALL];
        File::open(path)?.read_exact(&mut buffer)?;
        black_box(buffer);
    }
    Ok(Some(clock.stop(count, (count * SMALL) as u64, None)))
}

/// Unlinking as many files as a collection takes, out of as many as there are, and one sync of their directory.
fn unlink(cell: &Cell) -> Outcome<Option<Measured>> {
    let (files, gone) = (3 * cell.count(10_000), cell.count(1000));
    if cell.step == Step::Prepare {
        for number in 0..files {
            fs::write(name(cell, number), data::content(number as u64, 300))?;
        }
        return Ok(None);
    }
    let names: Vec<PathBuf> = (0..3 * gone).map(|number| name(cell, number)).collect();
    let dir = File::open(&cell.dir)?;
    let clock = Clock::start(cell)?;
    for path in &names {
        fs::remove_file(path)?;
    }
    dir.sync_all()?;
    Ok(Some(clock.stop(gone, 0, Some(true))))
}
