//! Other tools: they read `index.json` and what it reaches, and know of no store.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::super::plain::reach_one;
use super::world::{Chance, World};

/// What tells one `index.json` from the next.
fn identity(world: &World) -> Result<(u64, i64, i64), String> {
    let stat = fs::metadata(world.root.join("index.json")).map_err(|error| format!("index.json: {error}"))?;
    Ok((stat.ino(), stat.ctime(), stat.ctime_nsec()))
}

fn entries(world: &World) -> Result<Vec<Value>, String> {
    let text = fs::read(world.root.join("index.json")).map_err(|error| format!("index.json: {error}"))?;
    let mut index: Value =
        serde_json::from_slice(&text).map_err(|error| format!("index.json is torn: {error}"))?;
    match index["manifests"].take() {
        Value::Array(entries) => Ok(entries),
        other => Err(format!("index.json has no manifests: {other}")),
    }
}

/// Reads some of what `index.json` names, to the last byte, again and again. A file may only be missing if `index.json` is
/// another one by then.
pub(super) fn read(world: &World) -> Result<(), String> {
    let mut chance = Chance::new(world.figures.reads.load(Ordering::Relaxed) + 1);
    while !world.is_over() {
        let before = identity(world)?;
        let entries = entries(world)?;
        for _ in 0..6.min(entries.len()) {
            let entry = &entries[chance.below(entries.len())];
            if let Err(why) = reach_one(&world.root, entry) {
                if identity(world)? == before {
                    return Err(format!("a plain reader misses something: {why}, entry={entry}"));
                }
                break;
            }
            world.figures.reads.fetch_add(1, Ordering::Relaxed);
        }
        // It is to look, not to take all of a processor.
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Another program reads a name of the layout, if one is given.
pub(super) fn run_program(world: &World) -> Result<(), String> {
    let Ok(program) = std::env::var("ORLOP_SOAK_READER") else { return Ok(()) };
    let mut chance = Chance::new(world.figures.programs.load(Ordering::Relaxed) + 1);
    while !world.is_over() {
        std::thread::sleep(Duration::from_millis(500));
        let before = identity(world)?;
        let entries = entries(world)?;
        let names: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str())
            .filter(|name| !name.contains(':'))
            .collect();
        if names.is_empty() {
            continue;
        }
        let output = Command::new(&program)
            .arg(&world.root)
            .arg(names[chance.below(names.len())])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() && identity(world)? == before {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        world.figures.programs.fetch_add(u64::from(output.status.success()), Ordering::Relaxed);
    }
    Ok(())
}
