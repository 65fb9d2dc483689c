//! The lock file: which bytes a corpus is made of. The same lock and options give the same digests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Version of the form of the file.
const FORMAT: u32 = 1;

/// A lock file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// Which recipe it was made of.
    pub size: String,
    /// Whether the indexes were signed, and by what that was checked.
    pub signatures: String,
    /// Suites by name.
    pub suites: BTreeMap<String, Suite>,
    /// Artifacts of other registries.
    pub artifacts: Vec<Artifact>,
}

/// A suite: where its packages come from, and the images that are made of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Architecture, as Debian names it.
    pub architecture: String,
    /// Where its indexes are.
    pub sources: Vec<Source>,
    /// When the newest of them was made, in seconds since 1970.
    pub created: u64,
    /// Packages by name.
    pub packages: BTreeMap<String, Pinned>,
    /// Names of the packages that all images have, separated by spaces.
    pub base: String,
    /// Names of the packages that an image has beside those, by the role of the image.
    pub images: BTreeMap<String, String>,
}

/// An archive and what is taken from it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `debian` or `debian-security`: the last part of the mirror's address.
    pub archive: String,
    /// Distribution.
    pub distribution: String,
}

/// One version of a package.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Version.
    pub version: String,
    /// Architecture, or `all`.
    pub architecture: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Pinned {
    /// The name of the file in the cache.
    pub fn file(&self, name: &str) -> String {
        format!("{name}_{}_{}.deb", self.version.replace(':', "%3a"), self.architecture)
    }
}

/// A file of another registry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Which client fetches it.
    pub registry: Registry,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Name of the file.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Registries of artifacts, by what they hold.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// Wheels of Python.
    Wheel,
    /// Packages of npm.
    Npm,
    /// Crates of Rust.
    Crate,
}

impl Lock {
    /// A lock of these parts.
    pub fn new(
        size: &str,
        signatures: String,
        suites: BTreeMap<String, Suite>,
        artifacts: Vec<Artifact>,
    ) -> Self {
        Self { format: FORMAT, size: size.to_owned(), signatures, suites, artifacts }
    }

    /// Images, packages (each file once) and bytes to download, artifacts among the bytes.
    pub fn totals(&self) -> (usize, usize, u64) {
        let images = self.suites.values().map(|suite| suite.images.len()).sum();
        let pinned = self.suites.values().flat_map(|suite| &suite.packages);
        let files: BTreeMap<String, u64> =
            pinned.map(|(name, pinned)| (pinned.file(name), pinned.size)).collect();
        let artifacts: u64 = self.artifacts.iter().map(|artifact| artifact.size).sum();
        (images, files.len(), files.values().sum::<u64>() + artifacts)
    }

    /// Reads a lock file and checks that it can be followed.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("path={}", path.display()))?;
        Self::parse(&text).with_context(|| format!("path={}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let lock: Self = serde_json::from_str(text).context("not a lock file")?;
        ensure!(
            lock.format == FORMAT,
            "a lock file of another format, format={} known={FORMAT}",
            lock.format
        );
        for (suite_name, suite) in &lock.suites {
            plain_name(suite_name)?;
            plain_name(&suite.architecture)?;
            for (role, added) in
                suite.images.iter().map(|(role, added)| (role.as_str(), added)).chain([("base", &suite.base)])
            {
                plain_name(role)?;
                for name in added.split_whitespace() {
                    ensure!(
                        suite.packages.contains_key(name),
                        "a package is not pinned, package={name} suite={suite_name}"
                    );
                }
            }
            for source in &suite.sources {
                plain_name(&source.archive)?;
                plain_name(&source.distribution)?;
            }
            for (name, pinned) in &suite.packages {
                plain_name(name)?;
                plain_name(&pinned.version)?;
                plain_name(&pinned.architecture)?;
                digest(&pinned.sha256)?;
            }
        }
        for artifact in &lock.artifacts {
            plain_name(&artifact.file)?;
            plain_name(&artifact.version)?;
            plain_name(artifact.name.trim_start_matches('@'))?;
            digest(&artifact.sha256)?;
        }
        Ok(lock)
    }

    /// Writes it, one package a line, so that a change can be read.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()?).with_context(|| format!("path={}", path.display()))
    }

    fn text(&self) -> Result<String> {
        let json = |value: &dyn erased::Json| value.json();
        let mut text = String::new();
        writeln!(text, "{{\n\"format\": {},\n\"size\": {},", self.format, json(&self.size)?)?;
        writeln!(text, "\"signatures\": {},\n\"suites\": {{", json(&self.signatures)?)?;
        for (at, (name, suite)) in self.suites.iter().enumerate() {
            writeln!(text, "{}: {{\n\"architecture\": {},", json(name)?, json(&suite.architecture)?)?;
            writeln!(text, "\"sources\": {},\n\"created\": {},", json(&suite.sources)?, suite.created)?;
            text.push_str("\"packages\": {\n");
            lines(
                &mut text,
                suite.packages.iter().map(|(name, pinned)| Ok(format!("{}: {}", json(name)?, json(pinned)?))),
            )?;
            writeln!(text, "}},\n\"base\": {},\n\"images\": {{", json(&suite.base)?)?;
            lines(
                &mut text,
                suite.images.iter().map(|(role, added)| Ok(format!("{}: {}", json(role)?, json(added)?))),
            )?;
            writeln!(text, "}}\n}}{}", if at + 1 < self.suites.len() { "," } else { "" })?;
        }
        text.push_str("},\n\"artifacts\": [\n");
        lines(&mut text, self.artifacts.iter().map(|artifact| json(artifact)))?;
        text.push_str("]\n}\n");
        Ok(text)
    }
}

/// `&dyn` for what serde can write.
mod erased {
    /// JSON on one line.
    pub(super) trait Json {
        fn json(&self) -> anyhow::Result<String>;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> anyhow::Result<String> {
            Ok(serde_json::to_string(self)?)
        }
    }
}

fn lines(text: &mut String, items: impl Iterator<Item = Result<String>>) -> Result<()> {
    let items = items.collect::<Result<Vec<_>>>()?;
    text.push_str(&items.join(",\n"));
    text.push('\n');
    Ok(())
}

/// Names become parts of paths and arguments of other programs: what could be more than a name is refused.
fn plain_name(name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "+-._:~/".contains(c);
    if name.is_empty() || name.starts_with(['-', '.', '/']) || name.contains("..") || !name.chars().all(known)
    {
        bail!("not a name, name={name:?}");
    }
    ensure!(name.matches('/').count() <= 1, "not a name, name={name:?}");
    Ok(())
}

fn digest(text: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    ensure!(text.len() == 64 && text.bytes().all(known), "not a SHA-256, text={text:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let pinned = |version: &str| Pinned {
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            size: 1,
            sha256: "0".repeat(64),
        };
        let suite = Suite {
            architecture: "amd64".to_owned(),
            sources: vec![Source { archive: "debian".to_owned(), distribution: "trixie".to_owned() }],
            created: 7,
            packages: [("a".to_owned(), pinned("1:2.0~rc1+b1-1")), ("b".to_owned(), pinned("1"))].into(),
            base: "a".to_owned(),
            images: [("base".to_owned(), String::new()), ("more".to_owned(), "b".to_owned())].into(),
        };
        let artifact = Artifact {
            registry: Registry::Npm,
            name: "@a/b".to_owned(),
            version: "1.0.0".to_owned(),
            file: "a-b-1.0.0.tgz".to_owned(),
            size: 2,
            sha256: "1".repeat(64),
        };
        Lock::new("small", "not checked".to_owned(), [("trixie".to_owned(), suite)].into(), vec![artifact])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = sample().text().expect("text");
        let again = Lock::parse(&text).expect("lock");
        assert_eq!(again.text().expect("text"), text);
        assert_eq!(again.suites["trixie"].packages["a"].file("a"), "a_1%3a2.0~rc1+b1-1_amd64.deb");
    }

    #[test]
    fn what_could_be_more_than_a_name_is_refused() {
        let text = sample().text().expect("text");
        for (from, to) in [
            ("\"trixie\": {", "\"../trixie\": {"),
            ("\"a\":", "\"-oDir=x\":"),
            ("a-b-1.0.0.tgz", "../../a"),
            ("@a/b", "a b"),
            ("1:2.0~rc1+b1-1", "1\\nx"),
            (&"0".repeat(64), "0"),
            ("\"more\": \"b\"", "\"more\": \"c\""),
            ("\"format\": 1", "\"format\": 2"),
            ("\"created\"", "\"made\""),
        ] {
            assert!(text.contains(from), "{from}");
            Lock::parse(&text.replacen(from, to, 1)).expect_err(to);
        }
    }
}
