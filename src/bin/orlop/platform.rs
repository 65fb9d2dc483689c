//! `--platform`: which manifest of an index is meant.

use std::str::FromStr;

use clap::Arg;
use orlop::Repository;
use orlop::oci::{Descriptor, Manifest, ManifestKind, Platform, Role, Successor, media_type};

use crate::args::option;
use crate::error::{Exit, Failure};
use crate::reference::{Found, Target};

/// The largest config that is looked into for a platform, as in oras.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A platform that was asked for. What was left out may be anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted(Platform);

pub(crate) fn platform_option() -> Arg {
    option(
        "platform",
        "OS[/ARCH[/VARIANT]][:OS_VERSION]",
        "Take the manifest of this platform out of an index; without ARCH that of this machine",
    )
    .value_parser(str::parse::<Wanted>)
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, version) = match text.split_once(':') {
            Some((text, version)) => (text, Some(version)),
            None => (text, None),
        };
        let mut parts = text.split('/');
        let os = parts.next().unwrap_or_default();
        let architecture = parts.next().unwrap_or_else(|| machine());
        let variant = parts.next();
        if os.is_empty() || architecture.is_empty() || parts.next().is_some() {
            return Err("not os[/arch[/variant]][:os_version]");
        }
        let mut platform = Platform::new(os, architecture);
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        platform.variant = given(variant);
        platform.os_version = given(version);
        Ok(Self(platform))
    }
}

/// The processor of this machine by the name that images have for it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl Wanted {
    /// The platform.
    pub(crate) fn platform(&self) -> &Platform {
        &self.0
    }

    fn fits(&self, found: &Platform) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        // Attestations stand in an index as manifests for an unknown platform. They are no image of it.
        found.os != "unknown"
            && self.0.os == found.os
            && self.0.architecture == found.architecture
            && same(&self.0.variant, &found.variant)
            && same(&self.0.os_version, &found.os_version)
    }
}

/// The manifest for a platform: the first that an index lists for it, or an image whose config says so.
pub(crate) fn select(found: Found, wanted: Option<&Wanted>, target: &Target) -> Result<Found, Failure> {
    let Some(wanted) = wanted else { return Ok(found) };
    let config = |config: &Descriptor| of_config(&found.repository, config);
    // Whether it is there, is for those to say who need it.
    match choose(&read(&found)?, wanted, &target.shown(), &config)? {
        Some(descriptor) => Ok(Found { repository: found.repository, descriptor }),
        None => Ok(found),
    }
}

/// The manifest that an index lists for a platform; none for an image that is for it itself.
pub(crate) fn choose(
    manifest: &Manifest,
    wanted: &Wanted,
    reference: &str,
    config: &dyn Fn(&Descriptor) -> Result<Option<Platform>, Failure>,
) -> Result<Option<Descriptor>, Failure> {
    let none = |message: &str| {
        let wanted = wanted.0.to_string();
        Failure::new(Exit::NotFound, format!("{message}, reference={reference}, platform={wanted}"))
    };
    match manifest.kind() {
        Some(kind) if kind.is_index() => {
            let lists = manifest.successors().iter().filter(|one| one.role == Role::Manifest);
            let platforms = |one: &Successor| one.descriptor.platform.as_deref().cloned();
            let Some(one) = lists.clone().find(|one| platforms(one).is_some_and(|found| wanted.fits(&found)))
            else {
                let there: Vec<String> = lists
                    .filter_map(platforms)
                    .filter(|one| one.os != "unknown")
                    .take(20)
                    .map(|one| one.to_string())
                    .collect();
                return Err(none("index lists no manifest for the platform").with_hint(format!(
                    "it lists: {}",
                    if there.is_empty() { "none".into() } else { there.join(", ") }
                )));
            };
            Ok(Some(one.descriptor.clone()))
        }
        Some(ManifestKind::ImageManifest | ManifestKind::DockerManifest) => {
            let platform = match manifest.config() {
                Some(found) if is_image_config(&found.media_type) => config(found)?,
                _ => None,
            };
            match platform {
                Some(platform) if wanted.fits(&platform) => Ok(None),
                Some(platform) => {
                    Err(none("manifest is for another platform").with_hint(format!("it is for {platform}")))
                }
                None => Err(none("manifest is for no platform").with_hint("leave out --platform")),
            }
        }
        _ => Err(none("manifest is for no platform").with_hint("leave out --platform")),
    }
}

/// Whether it is an artifact about another one, as a signature is: for no platform itself.
pub(crate) fn is_about(manifest: &Manifest) -> bool {
    let is_image = manifest.config().is_some_and(|config| is_image_config(&config.media_type));
    let is_index = manifest.kind().is_some_and(|kind| kind.is_index());
    !is_image && !is_index && manifest.subject().is_some()
}

fn is_image_config(found: &str) -> bool {
    [media_type::IMAGE_CONFIG, DOCKER_CONFIG].contains(&found)
}

/// What a config says that its image runs on, if it says anything.
pub(crate) fn of_config(repository: &Repository, config: &Descriptor) -> Result<Option<Platform>, Failure> {
    check_size(config)?;
    let bytes = repository.get(&config.digest)?.ok_or_else(|| missing("config", &config.digest))?;
    Ok(of_document(&bytes))
}

/// Refuses a config that nobody looks into.
pub(crate) fn check_size(config: &Descriptor) -> Result<(), Failure> {
    let Descriptor { digest, size, .. } = config;
    if *size <= MAX_CONFIG {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Other,
        format!("config is too large to look into, digest={digest}, size={size}, limit={MAX_CONFIG}"),
    ))
}

/// What a config says, if it says anything.
pub(crate) fn of_document(bytes: &[u8]) -> Option<Platform> {
    let platform: Option<Platform> = serde_json::from_slice(bytes).ok();
    platform.filter(|found| !(found.os.is_empty() && found.architecture.is_empty()))
}

/// The edges of a manifest that must be there.
pub(crate) fn read(found: &Found) -> Result<Manifest, Failure> {
    let digest = &found.descriptor.digest;
    let stored = found.repository.manifest(digest)?.ok_or_else(|| missing("manifest", digest))?;
    Ok(stored.parse()?)
}

pub(crate) fn missing(what: &str, digest: &orlop::Digest) -> Failure {
    Failure::new(Exit::Incomplete, format!("the {what} is not in the layout, digest={digest}"))
        .with_hint("take it from where the layout came from")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    #[test]
    fn platforms_are_read_and_compared() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64:10.0.1", "linux/arm64/v8:1"] {
            assert_eq!(text.parse::<Wanted>().unwrap().0.to_string(), text);
        }
        assert_eq!("linux".parse::<Wanted>().unwrap().0, Platform::new("linux", machine()));
        for text in ["", "/amd64", "linux/", "a/b/c/d", ":1"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
        let fits = |wanted: &str, found: &str| {
            wanted.parse::<Wanted>().unwrap().fits(&found.parse::<Wanted>().unwrap().0)
        };
        assert!(fits("linux/arm", "linux/arm/v7"));
        assert!(fits("linux/arm/v7", "linux/arm/v7:1"));
        assert!(!fits("linux/arm/v7", "linux/arm"));
        assert!(!fits("linux/arm:2", "linux/arm:1"));
        assert!(!fits("linux/arm", "linux/arm64"));
        assert!(!fits("unknown/unknown", "unknown/unknown"));
    }
}
