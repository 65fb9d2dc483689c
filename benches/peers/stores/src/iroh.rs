//! iroh-blobs: content by BLAKE3 in files and in redb, with the tree of its hashes. It answers before its transaction is
//! committed, and syncs no file of content.

use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use iroh_blobs::Hash;
use iroh_blobs::store::fs::FsStore;
use tokio::runtime::Runtime;

use crate::data::{self, BLOCK, LARGE_COUNT, Random, SMALL, Stream};
use crate::protocol::{Cell, Clock, Described, source, sources};

const UNSYNCED: Option<bool> = Some(false);
const THREADS: usize = 8;

pub(crate) fn describe() -> Described {
    Described::new(
        "iroh-blobs",
        "0.104",
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
            "tags-single",
            "read-small",
        ],
        &[
            ("tags-batch", "it sets one tag at a time"),
            ("list-tags", "it lists tags as a stream, and has no pages"),
            ("read-sequential", "its reader is for async input; not written"),
            ("read-mapped", "it maps nothing"),
            ("read-verified", "it hashes only what it sends"),
            ("read-ranges", "not written"),
            ("*", "it has no manifests and no graph"),
        ],
    )
}

pub(crate) fn run(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cell.workload.as_str() {
        "large-stream" => large(cell, clock, &runtime, 1, false),
        "large-stream-2" => large(cell, clock, &runtime, 2, false),
        "large-file" => large(cell, clock, &runtime, 1, true),
        "large-file-2" => large(cell, clock, &runtime, 2, true),
        "small-single" => small(cell, clock, &runtime, cell.count(2000), 1),
        "small-batch" => small(cell, clock, &runtime, 8 * cell.count(1000), cell.count(1000)),
        "small-sustained" => small(cell, clock, &runtime, 50 * cell.count(1000), cell.count(1000)),
        "small-concurrent" => small(cell, clock, &runtime, THREADS * cell.count(500), THREADS),
        "repush" => again(cell, clock, &runtime, BLOCK, 64, 4),
        "repush-small" => again(cell, clock, &runtime, SMALL, 1000, 10),
        "tags-single" => tags(cell, clock, &runtime),
        "read-small" => reads(cell, clock, &runtime),
        other => anyhow::bail!("unknown workload, workload={other}"),
    }
}

fn open(cell: &Cell, runtime: &Runtime) -> anyhow::Result<FsStore> {
    let path: PathBuf = cell.dir.join("store");
    runtime.block_on(FsStore::load(path)).map_err(|error| anyhow::anyhow!("cannot open the store: {error}"))
}

fn close(store: &FsStore, runtime: &Runtime) -> anyhow::Result<()> {
    Ok(runtime.block_on(store.shutdown())?)
}

fn large(
    cell: &Cell,
    clock: &mut Clock,
    runtime: &Runtime,
    writers: usize,
    from_files: bool,
) -> anyhow::Result<()> {
    if cell.prepares {
        return if from_files { sources(cell) } else { Ok(()) };
    }
    let (block, size) = (Stream::block(), cell.large());
    let store = open(cell, runtime)?;
    clock.start()?;
    let numbers: Vec<usize> = (0..LARGE_COUNT).collect();
    for part in numbers.chunks(writers) {
        let adding: Vec<_> = part
            .iter()
            .map(|&number| {
                let (store, path) = (store.clone(), source(cell, number));
                let pieces = pieces(Stream::new(&block, number as u64, size));
                runtime.spawn(async move {
                    if from_files {
                        store.blobs().add_path(path).with_tag().await
                    } else {
                        store.blobs().add_stream(futures_lite::stream::iter(pieces)).await.with_tag().await
                    }
                })
            })
            .collect();
        for adding in adding {
            runtime.block_on(adding)??;
        }
    }
    clock.stop(LARGE_COUNT, LARGE_COUNT, LARGE_COUNT as u64 * size, UNSYNCED);
    close(&store, runtime)
}

/// A stream in pieces as it takes them.
fn pieces(mut stream: Stream) -> impl Iterator<Item = std::io::Result<Bytes>> + Send + Sync {
    std::iter::from_fn(move || {
        let mut piece = vec![0; BLOCK];
        match stream.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

/// Contents, so many of them under way at a time.
fn add(store: &FsStore, runtime: &Runtime, contents: &[Bytes]) -> anyhow::Result<()> {
    let adding: Vec<_> = contents
        .iter()
        .map(|bytes| {
            let (store, bytes) = (store.clone(), bytes.clone());
            runtime.spawn(async move { store.blobs().add_bytes(bytes).with_tag().await })
        })
        .collect();
    for adding in adding {
        runtime.block_on(adding)??;
    }
    Ok(())
}

fn small(
    cell: &Cell,
    clock: &mut Clock,
    runtime: &Runtime,
    count: usize,
    at_once: usize,
) -> anyhow::Result<()> {
    let store = open(cell, runtime)?;
    if cell.prepares {
        return close(&store, runtime);
    }
    let contents: Vec<Bytes> = (0..count).map(|seed| data::content(seed as u64, SMALL).into()).collect();
    let mut done = 0;
    clock.start()?;
    for part in contents.chunks(at_once) {
        add(&store, runtime, part)?;
        done += part.len();
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, count, 0, UNSYNCED);
    close(&store, runtime)
}

fn again(
    cell: &Cell,
    clock: &mut Clock,
    runtime: &Runtime,
    size: usize,
    count: usize,
    passes: usize,
) -> anyhow::Result<()> {
    let count = cell.count(count);
    let contents: Vec<Bytes> = (0..count).map(|seed| data::content(seed as u64, size).into()).collect();
    let store = open(cell, runtime)?;
    if cell.prepares {
        add(&store, runtime, &contents)?;
        return close(&store, runtime);
    }
    let (mut done, of) = (0, count * passes);
    clock.start()?;
    'passes: for _ in 0..passes {
        for bytes in &contents {
            add(&store, runtime, std::slice::from_ref(bytes))?;
            done += 1;
            if clock.is_over() {
                break 'passes;
            }
        }
    }
    clock.stop(done, of, (done * size) as u64, UNSYNCED);
    close(&store, runtime)
}

fn tags(cell: &Cell, clock: &mut Clock, runtime: &Runtime) -> anyhow::Result<()> {
    let store = open(cell, runtime)?;
    let content = Bytes::from(data::content(0, SMALL));
    if cell.prepares {
        add(&store, runtime, &[content])?;
        return close(&store, runtime);
    }
    let (hash, of) = (Hash::new(&content), cell.count(10_000));
    let mut done = 0;
    clock.start()?;
    for number in 0..of {
        runtime.block_on(store.tags().set(data::tag(number), hash))?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, of, 0, UNSYNCED);
    close(&store, runtime)
}

fn reads(cell: &Cell, clock: &mut Clock, runtime: &Runtime) -> anyhow::Result<()> {
    let count = cell.count(20_000);
    let contents: Vec<Bytes> = (0..count).map(|seed| data::content(seed as u64, SMALL).into()).collect();
    let store = open(cell, runtime)?;
    if cell.prepares {
        for part in contents.chunks(1000) {
            add(&store, runtime, part)?;
        }
        return close(&store, runtime);
    }
    let hashes: Vec<Hash> = contents.iter().map(Hash::new).collect();
    drop(contents);
    let (mut random, mut bytes, mut done) = (Random::new(1), 0, 0);
    clock.start()?;
    for _ in 0..count {
        let hash = hashes.get(random.below(count)).ok_or_else(|| anyhow::anyhow!("no hash"))?;
        let content = runtime.block_on(async { store.blobs().get_bytes(*hash).await })?;
        bytes += content.len();
        done += 1;
        black_box(content);
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, count, bytes as u64, None);
    anyhow::ensure!(bytes == done * SMALL, "wrong number of bytes, found={bytes}");
    close(&store, runtime)
}
