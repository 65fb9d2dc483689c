//! Which of the manifests of an index are wanted.

use crate::digest::Digest;
use crate::oci::attached::BUILDKIT_SUBJECT;
use crate::oci::{Descriptor, Platform};

/// The platforms that a copy is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platforms(Vec<Platform>);

impl Platforms {
    /// These platforms. A variant or version of the operating system that one leaves open fits any.
    #[must_use]
    pub fn new(platforms: Vec<Platform>) -> Self {
        Self(platforms)
    }

    /// The platforms, as `os/architecture/variant:version`.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    fn fit(&self, found: &Platform) -> bool {
        let open = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.0.iter().any(|wanted| {
            wanted.os == found.os
                && wanted.architecture == found.architecture
                && open(&wanted.variant, &found.variant)
                && open(&wanted.os_version, &found.os_version)
        })
    }

    /// Which of the entries of an index are wanted, in their order, and whether that makes sense: false if it lists images and none of
    /// them is. What says nothing of a platform is wanted, and the attestation of an image if the image is.
    pub(super) fn of(&self, entries: &[&Descriptor]) -> (Vec<bool>, bool) {
        let fits = |entry: &Descriptor| entry.platform.as_deref().is_none_or(|found| self.fit(found));
        let attested = |entry: &Descriptor| {
            let is_unknown = entry.platform.as_deref().is_some_and(|found| found.os == "unknown");
            let digest = entry.annotations.get(BUILDKIT_SUBJECT).filter(|_| is_unknown)?;
            digest.parse::<Digest>().ok()
        };
        let is_wanted = |digest: &Digest| entries.iter().any(|one| one.digest == *digest && fits(one));
        let wanted: Vec<bool> = entries
            .iter()
            .map(|entry| attested(entry).map_or_else(|| fits(entry), |image| is_wanted(&image)))
            .collect();
        let images = || entries.iter().zip(&wanted).filter(|(entry, _)| entry.platform.is_some());
        let is_sense = images().next().is_none() || images().any(|(_, wanted)| *wanted);
        (wanted, is_sense)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
        let mut entry = Descriptor::new("application/x", Digest::of(name.as_bytes()), 1);
        entry.platform = platform.map(|(os, architecture, variant)| {
            let mut platform = Platform::new(os, architecture);
            platform.variant = variant.map(str::to_owned);
            Box::new(platform)
        });
        entry
    }

    #[test]
    fn an_attestation_goes_with_its_image() {
        let amd = entry("amd", Some(("linux", "amd64", None)));
        let arm = entry("arm", Some(("linux", "arm", Some("v7"))));
        let about = |image: &Descriptor| {
            entry(&format!("about {}", image.digest), Some(("unknown", "unknown", None)))
                .with_annotation(BUILDKIT_SUBJECT, image.digest.to_string())
        };
        let (of_amd, of_arm, plain) = (about(&amd), about(&arm), entry("plain", None));
        let entries = [&amd, &arm, &of_amd, &of_arm, &plain];
        let wanted =
            |os: &str, architecture: &str| Platforms::new(vec![Platform::new(os, architecture)]).of(&entries);
        assert_eq!(wanted("linux", "amd64"), (vec![true, false, true, false, true], true));
        assert_eq!(wanted("linux", "arm"), (vec![false, true, false, true, true], true));
        assert_eq!(wanted("linux", "arm64"), (vec![false, false, false, false, true], false));
        assert_eq!(Platforms::new(vec![Platform::new("linux", "s390x")]).of(&[&plain]), (vec![true], true));
    }
}
