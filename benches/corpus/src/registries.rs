//! Artifacts of other registries, each by the ordinary client of its kind, as that is set up on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::lock::Registry;

/// Fetches one version of an artifact into an empty directory and gives its file.
pub fn fetch(registry: Registry, name: &str, version: &str, into: &Path) -> Result<PathBuf> {
    let said = || format!("an artifact could not be had, name={name} version={version}");
    match registry {
        Registry::Wheel => run(wheel(name, version, into)).with_context(said)?,
        Registry::Npm => run(npm(name, version, into)).with_context(said)?,
        Registry::Crate => return crates(name, version, into).with_context(said),
    }
    let files: Vec<PathBuf> = fs::read_dir(into)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(files.len() == 1, "{}: {} files came", said(), files.len());
    files.into_iter().next().with_context(said)
}

/// One build of a wheel, whatever machine this is.
fn wheel(name: &str, version: &str, into: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
    ]);
    command.args(["--python-version=3.11", "--abi=cp311", "--abi=abi3"]);
    for platform in ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"] {
        command.arg(format!("--platform={platform}"));
    }
    // Wheels that were built on this machine are not those of the registry.
    command.env_remove("PIP_FIND_LINKS").arg("--dest").arg(into).arg(format!("{name}=={version}"));
    command
}

fn npm(name: &str, version: &str, into: &Path) -> Command {
    let mut command = Command::new("npm");
    command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(into);
    command.arg(format!("{name}@{version}")).current_dir(into);
    command
}

/// cargo keeps crates as they came in its own cache: a package that depends on one brings it there.
fn crates(name: &str, version: &str, into: &Path) -> Result<PathBuf> {
    fs::create_dir(into.join("src"))?;
    fs::write(into.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
         [dependencies]\n{name} = {{ version = \"={version}\", default-features = false }}\n"
    );
    fs::write(into.join("Cargo.toml"), manifest)?;
    let mut command = Command::new("cargo");
    command.args(["fetch", "--quiet"]).current_dir(into);
    run(command)?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("no home directory")?;
    let file = format!("{name}-{version}.crate");
    for index in fs::read_dir(home.join("registry/cache"))? {
        let kept = index?.path().join(&file);
        if kept.is_file() {
            let to = into.join(&file);
            fs::copy(kept, &to)?;
            return Ok(to);
        }
    }
    anyhow::bail!("cargo has not kept it, file={file}")
}

fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{program} could not be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", said.trim());
    Ok(())
}
