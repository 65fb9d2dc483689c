//! Indexes and packages of Debian, by `apt-get` with a root of its own: mirrors, proxies and credentials are those of the
//! system, signatures and checksums of the `Release` files are checked by it, and nothing of the system is changed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{self, Cache};
use crate::lock::{Pinned, Source};
use crate::resolve::Index;

/// Where the archives are, and what proves it.
#[derive(Clone, Debug)]
pub struct Archives {
    /// Address of the archive `debian`.
    pub mirror: String,
    /// Address of the archive `debian-security`.
    pub security_mirror: String,
    /// Keys that the indexes are signed with; without any, signatures are not checked.
    pub keyring: Option<PathBuf>,
}

impl Archives {
    /// What a lock file says about signatures.
    pub fn signatures(&self) -> String {
        match &self.keyring {
            Some(keyring) => {
                format!(
                    "checked by apt-get with {}",
                    keyring.file_name().unwrap_or_default().to_string_lossy()
                )
            }
            None => "not checked".to_owned(),
        }
    }

    fn line(&self, architecture: &str, source: &Source) -> Result<String> {
        let address = match source.archive.as_str() {
            "debian" => &self.mirror,
            "debian-security" => &self.security_mirror,
            other => bail!("no such archive, archive={other:?}"),
        };
        ensure!(
            !address.contains(char::is_whitespace) && address.contains("://"),
            "not an address, address={address:?}"
        );
        let trust = match &self.keyring {
            Some(keyring) => format!("signed-by={}", keyring.display()),
            None => "trusted=yes".to_owned(),
        };
        Ok(format!(
            "deb [arch={architecture} {trust} target=Packages] {address} {} main\n",
            source.distribution
        ))
    }
}

/// The root of one suite.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// Prepares it below the cache.
    pub fn prepare(
        cache: &Cache,
        archives: &Archives,
        name: &str,
        architecture: &str,
        sources: &[Source],
    ) -> Result<Self> {
        let path = cache.place(&format!("apt/{name}"))?;
        for below in ["lists/partial", "archives/partial", "incoming", "none"] {
            fs::create_dir_all(path.join(below))?;
        }
        let lines =
            sources.iter().map(|source| archives.line(architecture, source)).collect::<Result<String>>()?;
        let list = path.join("sources.list");
        if fs::read_to_string(&list).ok().as_deref() != Some(&lines) {
            // Indexes of other sources would be taken for these.
            fs::remove_dir_all(path.join("lists"))?;
            fs::create_dir_all(path.join("lists/partial"))?;
            fs::write(list, lines)?;
        }
        fs::write(path.join("status"), "")?;
        fs::write(path.join("apt.conf"), configuration(&path, architecture)?)?;
        Ok(Self { path })
    }

    /// Fetches the indexes.
    pub fn update(&self) -> Result<()> {
        let output = self.run(&["--error-on=any", "update"], &self.path)?;
        ensure!(output.is_none(), "the indexes could not be had: {}", output.unwrap_or_default());
        Ok(())
    }

    /// The indexes as they were fetched last, and when the newest was made, in seconds since 1970. None if there are none.
    pub fn index(&self) -> Result<Option<(Index, u64)>> {
        let (mut index, mut created, mut found) = (Index::default(), 0, false);
        let mut files: Vec<_> =
            fs::read_dir(self.path.join("lists"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let read = || fs::read_to_string(&file).with_context(|| format!("path={}", file.display()));
            if name.ends_with("_Packages") {
                index.add(&read()?).with_context(|| format!("path={}", file.display()))?;
                found = true;
            } else if name.ends_with("Release") {
                created = created.max(date(&read()?).with_context(|| format!("path={}", file.display()))?);
            }
        }
        index.finish()?;
        Ok(found.then_some((index, created)))
    }

    /// Downloads packages into the cache. What could not be had is left out.
    pub fn download(&self, cache: &Cache, wanted: &[(&str, &Pinned)]) -> Result<Option<String>> {
        let incoming = self.path.join("incoming");
        let names: Vec<String> = wanted
            .iter()
            .map(|(name, pinned)| format!("{name}:{}={}", pinned.architecture, pinned.version))
            .collect();
        let mut arguments = vec!["download"];
        // apt-get names packages of no architecture without one.
        let names: Vec<String> = names.iter().map(|name| name.replacen(":all=", "=", 1)).collect();
        arguments.extend(names.iter().map(String::as_str));
        let failure = self.run(&arguments, &incoming)?;
        for entry in fs::read_dir(&incoming)? {
            let path = entry?.path();
            let found = cache::describe(&path)?;
            let known =
                wanted.iter().find(|(_, pinned)| (pinned.size, &pinned.sha256) == (found.0, &found.1));
            if let Some((name, pinned)) = known {
                cache.take(&path, &pinned.file(name))?;
            }
        }
        Ok(failure)
    }

    /// Runs apt-get; gives what it complained of if it failed.
    fn run(&self, arguments: &[&str], directory: &Path) -> Result<Option<String>> {
        let output = Command::new("apt-get")
            .arg("-c")
            .arg(self.path.join("apt.conf"))
            .args(arguments)
            .current_dir(directory)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .context("apt-get could not be started: packages are fetched with it, on any Debian or Ubuntu")?;
        if output.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Some(
            said.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"),
        ))
    }
}

fn configuration(root: &Path, architecture: &str) -> Result<String> {
    let root = root.display();
    let mut text = String::new();
    for (name, value) in [
        ("APT::Architecture", architecture.to_owned()),
        ("Dir::Etc::sourcelist", format!("{root}/sources.list")),
        ("Dir::Etc::sourceparts", format!("{root}/none")),
        ("Dir::Etc::preferences", format!("{root}/none/preferences")),
        ("Dir::Etc::preferencesparts", format!("{root}/none")),
        ("Dir::State", root.to_string()),
        ("Dir::State::lists", format!("{root}/lists")),
        ("Dir::State::status", format!("{root}/status")),
        ("Dir::Cache", root.to_string()),
        ("Dir::Cache::archives", format!("{root}/archives")),
        ("Dir::Cache::pkgcache", String::new()),
        ("Dir::Cache::srcpkgcache", String::new()),
        ("Acquire::GzipIndexes", "false".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
        ("Acquire::Retries", "3".to_owned()),
    ] {
        writeln!(text, "{name} \"{value}\";")?;
    }
    writeln!(text, "#clear APT::Architectures;\nAPT::Architectures:: \"{architecture}\";")?;
    // Hooks of the system are for its own packages.
    text.push_str("#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n");
    // Who may write here is who runs this, not the user that apt-get changes to when it is root.
    text.push_str("APT::Sandbox::User \"root\";\n");
    Ok(text)
}

/// The date of a `Release` file.
fn date(release: &str) -> Result<u64> {
    let text =
        release.lines().find_map(|line| line.strip_prefix("Date: ")).context("a Release file has no date")?;
    let text = text.trim().replace("UTC", "+0000");
    let parsed = jiff::fmt::rfc2822::parse(&text).with_context(|| format!("not a date, text={text:?}"))?;
    Ok(u64::try_from(parsed.timestamp().as_second())?)
}

/// The address of an archive among the system's own sources: the first that ends with its name.
pub fn system_mirror(archive: &str) -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        files.extend(more);
    }
    let found = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| address(&text, archive));
    found.with_context(|| format!("no source of the system has the archive, archive={archive}"))
}

fn address(sources: &str, archive: &str) -> Option<String> {
    let lines = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(str::split_whitespace).find_map(|word| {
        let address = word.trim_end_matches('/');
        (address.contains("://") && address.rsplit('/').next() == Some(archive)).then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_release_files_are_read() {
        assert_eq!(date("Origin: x\nDate: Sat, 15 Nov 2025 10:03:22 UTC\n").expect("date"), 1_763_201_002);
        date("Origin: x\n").expect_err("none");
        date("Date: yesterday\n").expect_err("no date");
    }

    #[test]
    fn mirrors_of_the_system_are_found_in_both_forms() {
        let list =
            "# deb http://no.example/debian x\ndeb [arch=amd64] http://a.example/debian/ bookworm main\n";
        assert_eq!(address(list, "debian").as_deref(), Some("http://a.example/debian"));
        let stanza = "Types: deb\nURIs: https://b.example/debian-security\nSuites: x\n";
        assert_eq!(address(stanza, "debian-security").as_deref(), Some("https://b.example/debian-security"));
        assert_eq!(address(stanza, "debian"), None);
    }

    #[test]
    fn sources_say_who_must_have_signed_them() {
        let mut archives = Archives {
            mirror: "http://a.example/debian".to_owned(),
            security_mirror: "http://a.example/debian-security".to_owned(),
            keyring: Some("/keys/debian.gpg".into()),
        };
        let source = Source { archive: "debian".to_owned(), distribution: "trixie".to_owned() };
        let line = archives.line("amd64", &source).expect("line");
        assert_eq!(
            line,
            "deb [arch=amd64 signed-by=/keys/debian.gpg target=Packages] http://a.example/debian trixie main\n"
        );
        assert_eq!(archives.signatures(), "checked by apt-get with debian.gpg");
        archives.keyring = None;
        assert!(archives.line("amd64", &source).expect("line").contains("trusted=yes"));
        archives.mirror = "http://a.example/debian x".to_owned();
        archives.line("amd64", &source).expect_err("more than an address");
    }
}
