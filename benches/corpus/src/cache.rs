//! Files that were downloaded: each is hashed before it is used.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::layout::hexadecimal;

/// A directory of files that can be had again.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache in this directory, which is made if it is not there.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        let text = root.to_str().context("the path of the cache is not text")?;
        // It is written into a configuration of apt-get.
        ensure!(
            !text.contains(['"', '\n', ';']),
            "the path of the cache has characters that apt-get does not take, path={text:?}"
        );
        fs::create_dir_all(root.join("files")).with_context(|| format!("path={}", root.display()))?;
        Ok(Self { root })
    }

    /// A place of its own for a client's files; it stays, so that what was broken off goes on.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.root.join(name);
        fs::create_dir_all(&place).with_context(|| format!("path={}", place.display()))?;
        Ok(place)
    }

    /// Whether the file is there with these bytes. A damaged one is removed.
    pub fn has(&self, file: &str, size: u64, sha256: &str) -> Result<bool> {
        let path = self.root.join("files").join(file);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => ensure!(other?.is_file(), "not a file, path={}", path.display()),
        }
        if describe(&path)? == (size, sha256.to_owned()) {
            return Ok(true);
        }
        fs::remove_file(&path)?;
        Ok(false)
    }

    /// The bytes of a file, hashed once more.
    pub fn read(&self, file: &str, size: u64, sha256: &str) -> Result<Vec<u8>> {
        let path = self.root.join("files").join(file);
        let bytes = fs::read(&path).with_context(|| format!("path={}", path.display()))?;
        let found = hexadecimal(&Sha256::digest(&bytes));
        ensure!(
            bytes.len() as u64 == size && found == sha256,
            "a file of the cache is not what the lock names, path={} wanted={sha256} found={found}",
            path.display()
        );
        Ok(bytes)
    }

    /// Takes a file in under its name in the cache.
    pub fn take(&self, from: &Path, file: &str) -> Result<()> {
        let to = self.root.join("files").join(file);
        if fs::rename(from, &to).is_err() {
            let copy = to.with_extension("unfinished");
            fs::copy(from, &copy)
                .and_then(|_| fs::rename(&copy, &to))
                .with_context(|| format!("path={}", to.display()))?;
        }
        Ok(())
    }
}

/// Size and SHA-256 of a file.
pub fn describe(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).with_context(|| format!("path={}", path.display()))?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hexadecimal(&hash.finalize())));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_not_used() {
        let directory = tempfile::tempdir().expect("directory");
        let cache = Cache::open(directory.path()).expect("cache");
        let from = directory.path().join("new");
        fs::write(&from, "content").expect("file");
        let (size, sha256) = describe(&from).expect("described");
        assert!(!cache.has("a", size, &sha256).expect("asked"));
        cache.take(&from, "a").expect("taken");
        assert!(cache.has("a", size, &sha256).expect("asked"));
        assert_eq!(cache.read("a", size, &sha256).expect("read"), b"content");
        fs::write(directory.path().join("files/a"), "c0ntent").expect("damage");
        cache.read("a", size, &sha256).expect_err("damaged");
        assert!(!cache.has("a", size, &sha256).expect("asked"));
        assert!(!directory.path().join("files/a").exists());
    }
}
