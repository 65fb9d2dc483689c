//! What entries of `index.json` reach that are kept for other tools: it stays, whoever holds it.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::metadata::View;
use crate::oci::{Descriptor, ManifestKind};
use crate::store::{Core, until};

impl Core {
    /// Everything that those entries name, with what their manifests reach. Memory for that.
    pub(super) fn reached_by_foreign(&self, view: &View<'_>) -> Result<HashSet<Digest>> {
        let mut waiting: Vec<(String, Digest)> = Vec::new();
        view.foreign(|_, digest, json| {
            if let Ok(digest) = digest.parse::<Digest>() {
                let descriptor = serde_json::from_str::<Descriptor>(json);
                waiting.push((descriptor.map(|found| found.media_type).unwrap_or_default(), digest));
            }
            Ok(until(false))
        })?;
        let mut reached = HashSet::new();
        while let Some((media_type, digest)) = waiting.pop() {
            if !reached.insert(digest) || (!media_type.is_empty() && ManifestKind::of(&media_type).is_none())
            {
                continue;
            }
            let media_type = match media_type.as_str() {
                "" => match self.load_unverified(view, &digest) {
                    Ok(content) => {
                        content.and_then(|content| crate::oci::Manifest::sniff(&content)).unwrap_or_default()
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => "",
                    Err(error) => return Err(error),
                },
                named => named,
            };
            match self.parse_stored(view, media_type, &digest) {
                Ok(Some(manifest)) => waiting.extend(
                    manifest
                        .successors()
                        .iter()
                        .map(|child| (child.descriptor.media_type.clone(), child.descriptor.digest)),
                ),
                // There is nothing that could be followed.
                Ok(None) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reached)
    }
}
