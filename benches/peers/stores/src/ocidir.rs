//! ocidir: an OCI layout and nothing beside it. Its index is synced, the content is not.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::str::FromStr;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use ocidir::oci_spec::image::{Descriptor, Digest, ImageManifest, MediaType, Platform};
use ocidir::{OciDir, OciRead};

use crate::data::{self, BLOCK, LARGE_COUNT, Random, SMALL, Stream};
use crate::layout;
use crate::protocol::{Cell, Clock, Described, side_by_side, source, sources};

const UNSYNCED: Option<bool> = Some(false);
const LARGE: usize = 4;
const PAGE: usize = 4096;
const FIVE: usize = 5;
const LISTS: usize = 20;
const OPENS: usize = 5;

pub(crate) fn describe() -> Described {
    Described::new(
        "ocidir",
        "0.8",
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
            "referrers-one",
            "referrers-many",
            "open",
            "read-sequential",
            "read-small",
            "read-ranges",
        ],
        &[
            ("tags-batch", "it sets one tag at a time"),
            ("list-tags", "it gives the whole index, and no pages"),
            ("read-mapped", "it gives a file"),
            ("read-verified", "it hashes nothing that it reads"),
            ("collect", "it collects nothing"),
            ("import", "it has nothing beside the layout"),
            ("rebuild", "it has nothing beside the layout"),
            ("*", "it copies no images"),
        ],
    )
}

pub(crate) fn run(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    match cell.workload.as_str() {
        "large-stream" => large(cell, clock, 1, false),
        "large-stream-2" => large(cell, clock, 2, false),
        "large-file" => large(cell, clock, 1, true),
        "large-file-2" => large(cell, clock, 2, true),
        "small-single" => small(cell, clock, cell.count(2000)),
        "small-batch" => small(cell, clock, 8 * cell.count(1000)),
        "small-sustained" => small(cell, clock, 50 * cell.count(1000)),
        "small-concurrent" => concurrent(cell, clock),
        "repush" => again(cell, clock, BLOCK, 64, 4),
        "repush-small" => again(cell, clock, SMALL, 1000, 10),
        "tags-single" => tags(cell, clock),
        "referrers-one" => one_subject(cell, clock),
        "referrers-many" => many_subjects(cell, clock),
        "open" => opens(cell, clock),
        "read-sequential" => sequential(cell, clock),
        "read-small" => reads(cell, clock),
        "read-ranges" => ranges(cell, clock),
        other => anyhow::bail!("unknown workload, workload={other}"),
    }
}

fn path(cell: &Cell) -> PathBuf {
    cell.dir.join("store")
}

fn ensure(cell: &Cell) -> anyhow::Result<OciDir> {
    std::fs::create_dir_all(path(cell))?;
    Ok(OciDir::ensure(Dir::open_ambient_dir(path(cell), ambient_authority())?)?)
}

fn open(cell: &Cell) -> anyhow::Result<OciDir> {
    Ok(OciDir::open(Dir::open_ambient_dir(path(cell), ambient_authority())?)?)
}

/// Pushes what a reader gives; the descriptor of that.
fn push(dir: &OciDir, mut reader: impl Read) -> anyhow::Result<Descriptor> {
    let mut writer = dir.create_blob()?;
    let mut buffer = vec![0; BLOCK];
    loop {
        let count = reader.read(&mut buffer)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            return Ok(writer.complete()?.descriptor().media_type(MediaType::ImageLayer).build()?);
        }
        writer.write_all(part)?;
    }
}

fn push_bytes(dir: &OciDir, bytes: &[u8]) -> anyhow::Result<()> {
    let mut writer = dir.create_blob()?;
    writer.write_all(bytes)?;
    writer.complete()?;
    Ok(())
}

fn large(cell: &Cell, clock: &mut Clock, writers: usize, from_files: bool) -> anyhow::Result<()> {
    let dir = ensure(cell)?;
    if cell.prepares {
        return if from_files { sources(cell) } else { Ok(()) };
    }
    let (block, size) = (Stream::block(), cell.large());
    clock.start()?;
    side_by_side(writers, LARGE_COUNT, |number| {
        if from_files {
            push(&dir, std::fs::File::open(source(cell, number))?)?;
        } else {
            push(&dir, Stream::new(&block, number as u64, size))?;
        }
        Ok(())
    })?;
    clock.stop(LARGE_COUNT, LARGE_COUNT, LARGE_COUNT as u64 * size, UNSYNCED);
    Ok(())
}

fn small(cell: &Cell, clock: &mut Clock, count: usize) -> anyhow::Result<()> {
    let dir = ensure(cell)?;
    if cell.prepares {
        return Ok(());
    }
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, SMALL)).collect();
    let mut done = 0;
    clock.start()?;
    for bytes in &contents {
        push_bytes(&dir, bytes)?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, count, 0, UNSYNCED);
    Ok(())
}

fn concurrent(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let dir = ensure(cell)?;
    if cell.prepares {
        return Ok(());
    }
    let count = 8 * cell.count(500);
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, SMALL)).collect();
    clock.start()?;
    side_by_side(8, count, |number| push_bytes(&dir, contents.get(number).map_or(&[][..], Vec::as_slice)))?;
    clock.stop(count, count, 0, UNSYNCED);
    Ok(())
}

fn again(cell: &Cell, clock: &mut Clock, size: usize, count: usize, passes: usize) -> anyhow::Result<()> {
    let dir = ensure(cell)?;
    let count = cell.count(count);
    let contents: Vec<Vec<u8>> = (0..count).map(|seed| data::content(seed as u64, size)).collect();
    if cell.prepares {
        return contents.iter().try_for_each(|bytes| push_bytes(&dir, bytes));
    }
    clock.start()?;
    for _ in 0..passes {
        contents.iter().try_for_each(|bytes| push_bytes(&dir, bytes))?;
    }
    let n = count * passes;
    clock.stop(n, n, (n * size) as u64, UNSYNCED);
    Ok(())
}

fn tags(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    if cell.prepares {
        return layout::write(&path(cell), 1, 0);
    }
    let dir = open(cell)?;
    let manifest = ImageManifest::from_reader(layout::image(0).text.as_bytes())?;
    let of = cell.count(10_000);
    let mut done = 0;
    clock.start()?;
    for number in 0..of {
        dir.insert_manifest(manifest.clone(), Some(&data::tag(number + 1)), Platform::default())?;
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, of, 0, UNSYNCED);
    Ok(())
}

fn one_subject(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let count = cell.count(10_000);
    if cell.prepares {
        return layout::write(&path(cell), 1, count);
    }
    let dir = open(cell)?;
    let subject = Digest::from_str(&layout::image(0).digest)?;
    let (mut done, mut found) = (0, 0);
    clock.start()?;
    for _ in 0..LISTS {
        found += dir.find_referrers(&subject, None)?.len();
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, LISTS, 0, None);
    anyhow::ensure!(found == done * count, "wrong number of referrers, found={found}");
    Ok(())
}

fn many_subjects(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let count = cell.count(10_000);
    if cell.prepares {
        return layout::write(&path(cell), count, FIVE);
    }
    let dir = open(cell)?;
    let mut random = Random::new(1);
    let (mut done, mut found) = (0, 0);
    clock.start()?;
    for _ in 0..count {
        let subject = Digest::from_str(&layout::image(random.below(count)).digest)?;
        found += dir.find_referrers(&subject, None)?.len();
        done += 1;
        if clock.is_over() {
            break;
        }
    }
    clock.stop(done, count, 0, None);
    anyhow::ensure!(found == done * FIVE, "wrong number of referrers, found={found}");
    Ok(())
}

fn opens(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let count = cell.count(10_000);
    if cell.prepares {
        return layout::write(&path(cell), count, FIVE);
    }
    let tag = data::tag(count / 2);
    let mut found = 0;
    clock.start()?;
    for _ in 0..OPENS {
        let dir = open(cell)?;
        let descriptor = dir.find_manifest_descriptor_with_tag(&tag)?;
        let descriptor = descriptor.ok_or_else(|| anyhow::anyhow!("the tag is gone"))?;
        found += dir.find_referrers(descriptor.digest(), None)?.len();
    }
    clock.stop(OPENS, OPENS, 0, None);
    anyhow::ensure!(found == OPENS * FIVE, "wrong number of referrers, found={found}");
    Ok(())
}

/// Large contents, and what they are.
fn fill(cell: &Cell, count: usize) -> anyhow::Result<()> {
    let dir = ensure(cell)?;
    let block = Stream::block();
    let mut list = String::new();
    for number in 0..count {
        let descriptor = push(&dir, Stream::new(&block, number as u64, cell.large()))?;
        list.push_str(&format!("{}\n", descriptor.digest()));
    }
    Ok(std::fs::write(cell.dir.join("digests"), list)?)
}

fn filled(cell: &Cell) -> anyhow::Result<Vec<Descriptor>> {
    let text = std::fs::read_to_string(cell.dir.join("digests"))?;
    text.lines()
        .map(|line| Ok(Descriptor::new(MediaType::ImageLayer, cell.large(), Digest::from_str(line)?)))
        .collect()
}

fn sequential(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    if cell.prepares {
        return fill(cell, LARGE);
    }
    let (dir, descriptors) = (open(cell)?, filled(cell)?);
    let (mut buffer, mut bytes) = (vec![0; BLOCK], 0);
    clock.start()?;
    for descriptor in &descriptors {
        let mut file = dir.read_blob(descriptor)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            black_box(buffer.first());
        }
    }
    clock.stop(LARGE, LARGE, bytes, None);
    Ok(())
}

fn reads(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let count = cell.count(20_000);
    let content = |seed: usize| data::content(seed as u64, SMALL);
    if cell.prepares {
        let dir = ensure(cell)?;
        return (0..count).try_for_each(|seed| push_bytes(&dir, &content(seed)));
    }
    let dir = open(cell)?;
    let descriptor = |seed| -> anyhow::Result<Descriptor> {
        let digest = Digest::from_str(&layout::digest(&content(seed)))?;
        Ok(Descriptor::new(MediaType::ImageLayer, SMALL as u64, digest))
    };
    let descriptors: Vec<Descriptor> = (0..count).map(descriptor).collect::<Result<_, _>>()?;
    let (mut random, mut bytes) = (Random::new(1), 0);
    clock.start()?;
    for _ in 0..count {
        let descriptor =
            descriptors.get(random.below(count)).ok_or_else(|| anyhow::anyhow!("no descriptor"))?;
        let mut content = Vec::with_capacity(SMALL);
        bytes += dir.read_blob(descriptor)?.read_to_end(&mut content)?;
        black_box(content);
    }
    clock.stop(count, count, bytes as u64, None);
    anyhow::ensure!(bytes == count * SMALL, "wrong number of bytes, found={bytes}");
    Ok(())
}

fn ranges(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    if cell.prepares {
        return fill(cell, 1);
    }
    let count = cell.count(20_000);
    let (dir, descriptors) = (open(cell)?, filled(cell)?);
    let descriptor = descriptors.first().ok_or_else(|| anyhow::anyhow!("no content"))?;
    let pages = usize::try_from(cell.large())? / PAGE;
    let mut random = Random::new(1);
    clock.start()?;
    for _ in 0..count {
        let mut buffer = vec![0; PAGE];
        let file = dir.read_blob(descriptor)?;
        file.read_exact_at(&mut buffer, (random.below(pages) * PAGE) as u64)?;
        black_box(buffer);
    }
    clock.stop(count, count, (count * PAGE) as u64, None);
    Ok(())
}
