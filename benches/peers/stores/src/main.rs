//! Other stores, driven by `orlop bench --with`: the first argument says which, the others what is to be done. The protocol is
//! in `docs/benchmarks.md`.

mod cacache;
#[path = "../../../../src/bin/orlop/bench/data.rs"]
mod data;
mod iroh;
mod layout;
mod mapped;
mod ocidir;
mod protocol;

use std::process::ExitCode;

use protocol::{Cell, Clock, Described};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let store = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let (described, work): (fn() -> Described, fn(&Cell, &mut Clock) -> anyhow::Result<()>) =
        match store.as_str() {
            "cacache" => (cacache::describe, cacache::run),
            "iroh-blobs" => (iroh::describe, iroh::run),
            "mmap" => (mapped::describe, mapped::run),
            "ocidir" => (ocidir::describe, ocidir::run),
            _ => anyhow::bail!("the first argument is cacache, iroh-blobs, mmap or ocidir"),
        };
    if words.first().is_some_and(|word| word == "describe") {
        println!("{}", serde_json::to_string(&described())?);
        return Ok(());
    }
    let cell = Cell::parse(&words)?;
    let mut clock = Clock::new(&cell);
    work(&cell, &mut clock)?;
    clock.say()
}
