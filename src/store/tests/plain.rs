//! A reader that knows the image-layout specification and nothing of this crate's store: what another tool finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::Digest as _;

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Names of `index.json` with what they name.
    pub(super) names: BTreeMap<String, String>,
    /// Every digest that was followed.
    pub(super) reached: BTreeSet<String>,
    /// Encoded digests that are not looked at.
    except: BTreeSet<String>,
}

impl Plain {
    /// Reads `index.json` and everything that it reaches; the error says what is torn, missing or not what it is called.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        Self::read_except(root, &BTreeSet::new())
    }

    /// As [`Plain::read`], without a look at content that another tool may have been writing.
    pub(super) fn read_except(root: &Path, except: &BTreeSet<String>) -> Result<Self, String> {
        let parse = |name: &str| -> Result<Value, String> {
            let text = fs::read(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
            serde_json::from_slice(&text).map_err(|error| format!("{name} is torn: {error}"))
        };
        if !parse("oci-layout")?["imageLayoutVersion"].is_string() {
            return Err("oci-layout names no version".into());
        }
        let index = parse("index.json")?;
        let mut found = Self { except: except.clone(), ..Self::default() };
        let entries = index["manifests"].as_array().ok_or("index.json has no array of manifests")?;
        for entry in entries {
            if let Some(name) = entry["annotations"]["org.opencontainers.image.ref.name"].as_str() {
                let digest = entry["digest"].as_str().unwrap_or_default();
                if found.names.insert(name.to_owned(), digest.to_owned()).is_some() {
                    return Err(format!("index.json lists a name twice, name={name}"));
                }
            }
            found.reach(root, entry)?;
        }
        Ok(found)
    }

    fn reach(&mut self, root: &Path, descriptor: &Value) -> Result<(), String> {
        let digest = descriptor["digest"].as_str().ok_or("a descriptor without a digest")?;
        if !self.reached.insert(digest.to_owned()) {
            return Ok(());
        }
        let (algorithm, encoded) = digest.split_once(':').ok_or("a digest without an algorithm")?;
        if self.except.contains(encoded) {
            return Ok(());
        }
        let path = root.join("blobs").join(algorithm).join(encoded);
        let bytes = fs::read(&path).map_err(|error| format!("dangling {digest}: {error}"))?;
        if descriptor["size"].as_u64() != Some(bytes.len() as u64) {
            return Err(format!("{digest} has {} bytes, not {}", bytes.len(), descriptor["size"]));
        }
        if hash(&bytes) != encoded {
            return Err(format!("{digest} is not what it is called"));
        }
        let kind = descriptor["mediaType"].as_str().unwrap_or_default();
        if kind.contains(".image.index") {
            let body: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))?;
            for manifest in body["manifests"].as_array().into_iter().flatten() {
                self.reach(root, manifest)?;
            }
        }
        if kind.contains(".image.manifest") {
            let body: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))?;
            self.reach(root, &body["config"])?;
            for layer in body["layers"].as_array().into_iter().flatten() {
                self.reach(root, layer)?;
            }
        }
        Ok(())
    }
}

/// Reads what one entry of an `index.json` reaches.
pub(super) fn reach_one(root: &Path, entry: &Value) -> Result<(), String> {
    Plain::default().reach(root, entry)
}

/// Hashes every file under `blobs/sha256`, those in `except` left out; the error names the first that is not what it is
/// called.
pub(super) fn names_are_hashes(root: &Path, except: &BTreeSet<String>) -> Result<usize, String> {
    let mut count = 0;
    for path in files(&root.join("blobs/sha256"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if except.contains(&name) {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
        if hash(&bytes) != name {
            return Err(format!("{name} with {} bytes is not what it is called", bytes.len()));
        }
        count += 1;
    }
    Ok(count)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string())).collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", dir.display())),
    }
}

fn hash(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
