//! What was made, in a file beside the layout: parameters, digests and sizes, nothing that differs between runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::layout::{Descriptor, Layer};

/// A layout and how it came to be.
#[derive(Debug, Serialize)]
pub struct Report<P> {
    /// Version of this program.
    pub version: &'static str,
    /// What it was told.
    pub parameters: P,
    /// Digests of manifests by their names.
    pub manifests: BTreeMap<String, String>,
    /// Layers that are stored.
    pub layers: usize,
    /// Their bytes.
    pub layer_bytes: u64,
    /// Their bytes when they are decompressed.
    pub plain_layer_bytes: u64,
}

impl<P: Serialize> Report<P> {
    /// Describes a layout.
    pub fn new(parameters: P, manifests: &[Descriptor], layers: &[Layer]) -> Self {
        let distinct: BTreeMap<_, _> = layers.iter().map(|layer| (&layer.descriptor.digest, layer)).collect();
        let name =
            |manifest: &Descriptor| manifest.annotations.iter().flat_map(BTreeMap::values).next().cloned();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            parameters,
            manifests: manifests.iter().filter_map(|one| Some((name(one)?, one.digest.clone()))).collect(),
            layers: distinct.len(),
            layer_bytes: distinct.values().map(|layer| layer.descriptor.size).sum(),
            plain_layer_bytes: distinct.values().map(|layer| layer.plain).sum(),
        }
    }

    /// Writes it to the path of the layout with `.json` after it.
    pub fn write(&self, layout: &Path) -> Result<PathBuf> {
        let mut path = OsString::from(layout.components().as_path());
        path.push(".json");
        let path = PathBuf::from(path);
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).with_context(|| format!("path={}", path.display()))?;
        Ok(path)
    }
}
