//! What a corpus of each size consists of, before it is known which versions there are.

use crate::lock::Registry;

/// How much is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Size {
    /// Three suites by six small roles: about 1 GB of images in gzip, flat.
    Small,
    /// Four suites by six roles, databases and Java among them.
    Medium,
    /// Four suites by fourteen roles, and two more for another architecture.
    Large,
}

impl Size {
    /// The name of the size.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// A suite: its name, its architecture, and what it takes packages from.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Name.
    pub name: &'static str,
    /// Architecture.
    pub architecture: &'static str,
    /// Archives (`debian`, `debian-security`) and distributions of them.
    pub sources: &'static [(&'static str, &'static str)],
}

const BULLSEYE: &[(&str, &str)] = &[("debian", "bullseye"), ("debian-security", "bullseye-security")];
/// The point release without what came after it: what a site has that has not been updated.
const BOOKWORM_RELEASE: &[(&str, &str)] = &[("debian", "bookworm")];
const BOOKWORM: &[(&str, &str)] = &[("debian", "bookworm"), ("debian-security", "bookworm-security")];
const TRIXIE: &[(&str, &str)] = &[("debian", "trixie"), ("debian-security", "trixie-security")];

const SUITES: &[Suite] = &[
    Suite { name: "bookworm-release", architecture: "amd64", sources: BOOKWORM_RELEASE },
    Suite { name: "bookworm", architecture: "amd64", sources: BOOKWORM },
    Suite { name: "trixie", architecture: "amd64", sources: TRIXIE },
    Suite { name: "bullseye", architecture: "amd64", sources: BULLSEYE },
    Suite { name: "bookworm-arm64", architecture: "arm64", sources: BOOKWORM },
    Suite { name: "trixie-arm64", architecture: "arm64", sources: TRIXIE },
];

/// What every image has beside the essential packages, as the usual base images do.
pub const BASE: &[&str] = &["apt", "ca-certificates", "tzdata"];

/// Roles and the packages that make them; of each size its own, and those of the smaller sizes are not repeated.
const SMALL: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("git", &["git"]),
    ("nginx", &["nginx"]),
    ("php", &["php-cli"]),
    ("python", &["python3"]),
    ("redis", &["redis-server"]),
];
const MEDIUM: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("jre", &["default-jre-headless"]),
    ("nginx", &["nginx"]),
    ("postgres", &["postgresql"]),
    ("python", &["python3"]),
    ("redis", &["redis-server"]),
];
const LARGE: &[(&str, &[&str])] = &[
    ("apache", &["apache2"]),
    ("base", &[]),
    ("build", &["build-essential"]),
    ("git", &["git"]),
    ("jdk", &["default-jdk-headless"]),
    ("jre", &["default-jre-headless"]),
    ("mariadb", &["mariadb-server"]),
    ("nginx", &["nginx"]),
    ("node", &["nodejs"]),
    ("php", &["php-cli"]),
    ("postgres", &["postgresql"]),
    ("python", &["python3"]),
    ("redis", &["redis-server"]),
    ("ruby", &["ruby"]),
];

/// Suites of a size.
pub fn suites(size: Size) -> &'static [Suite] {
    let count = match size {
        Size::Small => 3,
        Size::Medium => 4,
        Size::Large => 6,
    };
    SUITES.get(..count).unwrap_or(SUITES)
}

/// Roles of a size, and the packages each asks for.
pub fn roles(size: Size) -> &'static [(&'static str, &'static [&'static str])] {
    match size {
        Size::Small => SMALL,
        Size::Medium => MEDIUM,
        Size::Large => LARGE,
    }
}

/// Artifacts: registry, name, versions. The small size takes the last three of each.
const ARTIFACTS: &[(Registry, &str, &[&str])] = &[
    (Registry::Wheel, "numpy", &["1.25.2", "1.26.0", "1.26.1", "1.26.2", "1.26.3", "1.26.4"]),
    (Registry::Wheel, "cryptography", &["42.0.5", "42.0.6", "42.0.7", "42.0.8", "43.0.0", "43.0.1"]),
    (Registry::Npm, "typescript", &["5.0.4", "5.1.6", "5.2.2", "5.3.3", "5.4.2", "5.4.5", "5.5.3", "5.5.4"]),
    (
        Registry::Crate,
        "libc",
        &["0.2.147", "0.2.148", "0.2.149", "0.2.150", "0.2.151", "0.2.152", "0.2.153", "0.2.155"],
    ),
];

/// Registry, name and version of every artifact of a size.
pub fn artifacts(size: Size) -> impl Iterator<Item = (Registry, &'static str, &'static str)> {
    ARTIFACTS.iter().flat_map(move |&(registry, name, versions)| {
        let left_out = if size == Size::Small { versions.len().saturating_sub(3) } else { 0 };
        versions.iter().skip(left_out).map(move |&version| (registry, name, version))
    })
}
