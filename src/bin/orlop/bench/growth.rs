//! What the size of a store does to what it does not touch: one store, ten times as large at every step.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use orlop::oci::media_type;
use orlop::{Digest, Durability, Expect, Options, Publish};
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::cell::{Cell, Step, rss_anon_kb};
use super::data::{self, Random};

/// The name of the store in the hidden verb.
pub(super) const GROWTH: &str = "growth";
/// Manifests to a batch, and to a tag.
const PART: usize = 1000;
const TAGGED: usize = 10;
const OPENS: usize = 5;
const LOOKUPS: usize = 2000;
const COMMITS: usize = 100;

/// One step.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Row {
    pub(super) manifests: usize,
    /// From a manifest to its config and its layer.
    edges: usize,
    /// To be resolved; every tenth manifest has one.
    tags: usize,
    /// The median of five: opening for reading and writing, with a look-up.
    pub(super) open_us: f64,
    /// Of a manifest's membership and size, at random, the mean.
    pub(super) lookup_us: f64,
    /// Of a tag, at random, the mean.
    pub(super) resolve_us: f64,
    /// The median of a durable push of one manifest.
    pub(super) commit_us: f64,
    /// Anonymous memory after all that.
    rss_anon_kb: u64,
    /// Of the files of the metadata.
    metadata_bytes: u64,
    metadata_bytes_per_manifest: f64,
}

/// Grows a store to so many manifests and tells what it is like then. Each of the two is a process of its own.
pub(super) fn step(dir: &Path, manifests: usize, before: usize) -> Outcome<Row> {
    process(dir, "prepare", manifests, before)?;
    let said = process(dir, "run", manifests, before)?;
    Ok(serde_json::from_slice(&said)?)
}

/// The arguments are those of a cell; the count stands for the scale, and what there was before for the round.
fn process(dir: &Path, step: &str, manifests: usize, before: usize) -> Outcome<Vec<u8>> {
    let output = Command::new(std::env::current_exe()?)
        .args([super::CELL, GROWTH, step, GROWTH])
        .arg(dir)
        .args([manifests.to_string(), before.to_string(), "1".to_owned()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("the process failed, step={step}, manifests={manifests}, status={}", output.status).into())
}

/// Does one of the two in this process.
pub(super) fn run(cell: &Cell) -> Outcome<Option<Row>> {
    let (manifests, before) = (usize::try_from(cell.scale)?, usize::try_from(cell.round)?);
    let path = cell.dir.join("growing");
    match cell.step {
        Step::Prepare => grow(&path, before, manifests).map(|()| None),
        Step::Run => measure(&path, manifests).map(Some),
    }
}

/// Images that share their config and their layer: a manifest is all that each brings.
fn manifest(number: usize) -> String {
    let (config, layer) = (data::config(0), data::layer(0));
    let described =
        |kind: &str, bytes: &[u8]| data::descriptor(kind, &Digest::of(bytes).to_string(), bytes.len());
    let text = data::manifest(
        &described(data::CONFIG_TYPE, config.as_bytes()),
        &described(data::LAYER_TYPE, &layer),
    );
    let open = text.strip_suffix('}').unwrap_or(&text);
    format!(r#"{open},"annotations":{{"example.number":"{number}"}}}}"#)
}

fn grow(path: &Path, from: usize, to: usize) -> Outcome<()> {
    let options = Options::new().durability(Durability::Process).publish(Publish::OnClose);
    let store = options.open_or_create(path)?;
    let repository = store.default_repository();
    repository.push_bytes(data::config(0))?;
    repository.push_bytes(data::layer(0))?;
    for first in (from..to).step_by(PART) {
        let mut batch = store.batch();
        for number in first..(first + PART).min(to) {
            let digest = batch.push_manifest(&repository, media_type::IMAGE_MANIFEST, manifest(number))?;
            if number % TAGGED == 0 {
                batch.tag(&repository, &data::tag(number).parse()?, digest, Expect::Any);
            }
        }
        batch.commit()?;
    }
    drop(repository);
    store.flush()?;
    store.compact();
    Ok(store.close()?)
}

fn measure(path: &Path, manifests: usize) -> Outcome<Row> {
    let options = Options::new().publish(Publish::Manual);
    let first = Digest::of(manifest(0).as_bytes());
    let mut opens = Vec::new();
    for _ in 0..OPENS {
        let start = Instant::now();
        let store = options.open(path)?;
        store.default_repository().stat(&first)?.ok_or("a manifest is gone")?;
        opens.push(micros(start, 1));
        store.close()?;
    }
    let store = options.open(path)?;
    let repository = store.default_repository();
    let mut random = Random::new(1);
    let digests: Vec<Digest> =
        (0..LOOKUPS).map(|_| Digest::of(manifest(random.below(manifests)).as_bytes())).collect();
    let start = Instant::now();
    for digest in &digests {
        black_box(repository.stat(digest)?.ok_or("a manifest is gone")?);
    }
    let lookup_us = micros(start, LOOKUPS);
    let tags = manifests.div_ceil(TAGGED);
    let names: Vec<_> =
        (0..LOOKUPS).map(|_| data::tag(random.below(tags) * TAGGED).parse()).collect::<Result<_, _>>()?;
    let start = Instant::now();
    for name in &names {
        black_box(repository.resolve(name)?.ok_or("a tag is gone")?);
    }
    let resolve_us = micros(start, LOOKUPS);
    let mut commits = Vec::new();
    for number in 0..COMMITS {
        // Numbers that no later step reaches: what is measured must not be there already.
        let bytes = manifest(usize::MAX - manifests - number);
        let start = Instant::now();
        repository.push_manifest(media_type::IMAGE_MANIFEST, bytes, &[])?;
        commits.push(micros(start, 1));
    }
    let rss_anon_kb = rss_anon_kb("self");
    drop(repository);
    store.close()?;
    let metadata_bytes = size(&path.join(".orlop/metadata"))?;
    Ok(Row {
        manifests,
        edges: 2 * manifests,
        tags,
        open_us: middle(opens),
        lookup_us,
        resolve_us,
        commit_us: middle(commits),
        rss_anon_kb,
        metadata_bytes,
        metadata_bytes_per_manifest: metadata_bytes as f64 / manifests as f64,
    })
}

fn micros(start: Instant, operations: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / operations as f64
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[expect(clippy::disallowed_methods, reason = "only looked at")]
fn size(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// The steps for a terminal or a document.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text =
        "| manifests | open | look-up | resolve | commit | memory | metadata per manifest |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        text.push_str(&format!(
            "| {} | {:.1} ms | {:.1} us | {:.1} us | {:.0} us | {:.1} MiB | {:.0} bytes |\n",
            row.manifests,
            row.open_us / 1e3,
            row.lookup_us,
            row.resolve_us,
            row.commit_us,
            row.rss_anon_kb as f64 / 1024.0,
            row.metadata_bytes_per_manifest,
        ));
    }
    text
}
