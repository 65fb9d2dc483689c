//! From packages to images: which layers there are, what is in each, and how they are put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cache::Cache;
use crate::deb::{Kind, Package};
use crate::layout::{CONFIG, Compression, Descriptor, Layer, Layout};
use crate::lock::{Lock, Pinned, Suite};
use crate::parallel;
use crate::tree::Tree;

/// Seconds by which each rebuild is later than the one before: a week.
const REBUILD: u64 = 604_800;
/// Unpacked packages that are kept for the next layer.
const KEPT: usize = 1 << 30;

/// How an image is divided into layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Shape {
    /// One layer for everything: images share nothing that a registry can see.
    Flat,
    /// A base that all images of a suite share, and one layer above it.
    Layers,
    /// A layer for each package, shared by all images that have it.
    Packages,
}

/// What is to be made of a lock.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Division into layers.
    pub shape: Shape,
    /// Compression of layers.
    pub compression: Compression,
    /// How many times more each image is built, with the same content and later times.
    pub rebuild: u64,
    /// Threads.
    pub jobs: usize,
}

/// What was made.
#[derive(Debug, Default)]
pub struct Built {
    /// Manifests by their names, in the order of the index.
    pub manifests: Vec<Descriptor>,
    /// Layers that were written, each once.
    pub layers: Vec<Layer>,
}

/// A layer that is to be made.
struct Plan<'a> {
    suite: &'a Suite,
    packages: Vec<&'a str>,
    /// Packages of the layers below.
    below: Vec<&'a str>,
    /// A list of all packages of the image is in the layer, and not one for each package.
    status: bool,
    shift: u64,
}

struct Image<'a> {
    name: String,
    suite: &'a Suite,
    layers: Vec<String>,
    created: u64,
}

/// Makes all images of a lock.
pub fn build(lock: &Lock, cache: &Cache, layout: &Layout, options: Options) -> Result<Built> {
    let (plans, images) = plan(lock, options);
    let packages = Packages { cache, kept: Mutex::default() };
    let plans: Vec<_> = plans.into_iter().collect();
    let made = parallel::map(options.jobs, &plans, |((_, name), plan)| {
        let tree = tree(&packages, plan).with_context(|| format!("layer={name}"))?;
        layout.layer(&tree, options.compression, plan.shift).with_context(|| format!("layer={name}"))
    })?;
    let layers: BTreeMap<&str, &Layer> =
        plans.iter().map(|((_, name), _)| name.as_str()).zip(&made).collect();
    let mut built = Built::default();
    for image in &images {
        let layers: Vec<&Layer> =
            image.layers.iter().filter_map(|name| layers.get(name.as_str()).copied()).collect();
        built.manifests.push(manifest(layout, image, &layers)?);
    }
    built.layers = made;
    Ok(built)
}

/// Layers by suite and name, so that layers of a suite are made one after another; and the images of them.
type Plans<'a> = BTreeMap<(&'a str, String), Plan<'a>>;

fn plan(lock: &Lock, options: Options) -> (Plans<'_>, Vec<Image<'_>>) {
    let (mut plans, mut known, mut images) = (Plans::new(), std::collections::BTreeSet::new(), Vec::new());
    for rebuild in 0..=options.rebuild {
        let again = if rebuild == 0 { String::new() } else { format!("-r{rebuild}") };
        for (suite_name, suite) in &lock.suites {
            for (role, added) in &suite.images {
                let shift = rebuild * REBUILD;
                let layers = layers(options.shape, suite_name, suite, role, added, shift)
                    .into_iter()
                    .map(|(name, plan)| {
                        let name = format!("{name}{again}");
                        if known.insert(name.clone()) {
                            plans.insert((suite_name.as_str(), name.clone()), plan);
                        }
                        name
                    })
                    .collect();
                images.push(Image {
                    name: format!("{role}:{suite_name}{again}"),
                    suite,
                    layers,
                    created: suite.created + shift,
                });
            }
        }
    }
    (plans, images)
}

fn layers<'a>(
    shape: Shape,
    suite_name: &str,
    suite: &'a Suite,
    role: &str,
    added: &'a str,
    shift: u64,
) -> Vec<(String, Plan<'a>)> {
    let base: Vec<&str> = suite.base.split_whitespace().collect();
    let added: Vec<&str> = added.split_whitespace().collect();
    let plan = |packages: &[&'a str], below: &[&'a str], status| Plan {
        suite,
        packages: packages.to_vec(),
        below: below.to_vec(),
        status,
        shift,
    };
    match shape {
        Shape::Flat => vec![(format!("{suite_name}/{role}"), plan(&[base, added].concat(), &[], true))],
        Shape::Layers => {
            let first = (format!("{suite_name}/base"), plan(&base, &[], true));
            let second = (format!("{suite_name}/{role}/added"), plan(&added, &base, true));
            if added.is_empty() { vec![first] } else { vec![first, second] }
        }
        Shape::Packages => {
            let one = |name: &&'a str| {
                let file = suite.packages.get(*name).map(|pinned| pinned.file(name)).unwrap_or_default();
                (format!("package/{file}"), plan(&[*name], &[], false))
            };
            base.iter().chain(&added).map(one).collect()
        }
    }
}

fn tree(packages: &Packages<'_>, plan: &Plan<'_>) -> Result<Tree> {
    let load = |name: &&str| {
        let pinned = plan.suite.packages.get(*name).with_context(|| format!("not pinned, package={name}"))?;
        packages.load(name, pinned)
    };
    let below = plan.below.iter().map(load).collect::<Result<Vec<_>>>()?;
    let links = below.iter().flat_map(|package| &package.entries).filter_map(|entry| match &entry.kind {
        Kind::Symlink(target) => Some((entry.path.clone(), target.clone())),
        _ => None,
    });
    let mut tree = Tree::above(links);
    let installed = plan.packages.iter().map(load).collect::<Result<Vec<_>>>()?;
    for (name, package) in plan.packages.iter().zip(&installed) {
        tree.install(package).with_context(|| format!("package={name}"))?;
        database(&mut tree, name, package, plan.status);
    }
    if plan.status {
        let mut all: Vec<_> =
            plan.below.iter().zip(&below).chain(plan.packages.iter().zip(&installed)).collect();
        all.sort_by_key(|(name, _)| **name);
        let status: Vec<String> = all.iter().map(|(_, package)| status(package)).collect();
        tree.put("var/lib/dpkg/status", status.join("\n").into_bytes(), 0o644, plan.suite.created);
    }
    Ok(tree)
}

/// What dpkg would remember of a package.
fn database(tree: &mut Tree, name: &str, package: &Package, together: bool) {
    let newest = package.entries.iter().map(|entry| entry.modified).max().unwrap_or(0);
    for directory in ["var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info"] {
        tree.make_directory(directory, newest);
    }
    let mut list = String::from("/.\n");
    for entry in package.entries.iter().filter(|entry| !entry.path.is_empty()) {
        list.push('/');
        list.push_str(&String::from_utf8_lossy(&entry.path));
        list.push('\n');
    }
    tree.put(&format!("var/lib/dpkg/info/{name}.list"), list.into_bytes(), 0o644, newest);
    for (file, content) in &package.information {
        let mode = if ["preinst", "postinst", "prerm", "postrm", "config"].contains(&file.as_str()) {
            0o755
        } else {
            0o644
        };
        tree.put(&format!("var/lib/dpkg/info/{name}.{file}"), content.clone(), mode, newest);
    }
    if !together {
        tree.make_directory("var/lib/dpkg/status.d", newest);
        tree.put(&format!("var/lib/dpkg/status.d/{name}"), status(package).into_bytes(), 0o644, newest);
    }
}

fn status(package: &Package) -> String {
    let mut text = String::new();
    for line in package.control.lines().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(text, "{line}");
        if line.starts_with("Package:") {
            text.push_str("Status: install ok installed\n");
        }
    }
    text
}

#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    config: Settings<'a>,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Settings<'a> {
    env: [&'a str; 1],
    cmd: [&'a str; 1],
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: Vec<&'a str>,
}

fn manifest(layout: &Layout, image: &Image<'_>, layers: &[&Layer]) -> Result<Descriptor> {
    let created = jiff::Timestamp::from_second(i64::try_from(image.created)?)?.to_string();
    let config = Config {
        created: &created,
        architecture: &image.suite.architecture,
        os: "linux",
        config: Settings {
            env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            cmd: ["bash"],
        },
        rootfs: RootFs {
            r#type: "layers",
            diff_ids: layers.iter().map(|layer| layer.diff_id.as_str()).collect(),
        },
    };
    let config = layout.put(CONFIG, &serde_json::to_vec(&config)?)?;
    let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    layout.manifest(&image.name, None, Some(config), &layers, Some(&created))
}

/// Packages as they are unpacked; those used last are kept while there is room.
struct Packages<'a> {
    cache: &'a Cache,
    kept: Mutex<BTreeMap<String, Arc<Package>>>,
}

impl Packages<'_> {
    fn load(&self, name: &str, pinned: &Pinned) -> Result<Arc<Package>> {
        let file = pinned.file(name);
        if let Some(package) = self.kept.lock().ok().and_then(|kept| kept.get(&file).cloned()) {
            return Ok(package);
        }
        let bytes = self.cache.read(&file, pinned.size, &pinned.sha256)?;
        let package = Arc::new(Package::parse(&bytes).with_context(|| format!("package={file}"))?);
        if let Ok(mut kept) = self.kept.lock() {
            let held: usize = kept.values().map(|package| package.data.len()).sum();
            if held + package.data.len() > KEPT {
                kept.clear();
            }
            kept.insert(file, Arc::clone(&package));
        }
        Ok(package)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tar::EntryType::{Directory, Regular, Symlink};

    use super::*;
    use crate::cache;
    use crate::deb::tests::{deb, tarball};
    use crate::lock::Source;
    use crate::report::Report;

    /// Three packages, of which two are the base, in a cache; two suites with the same packages.
    fn corpus(directory: &Path) -> (Lock, Cache) {
        let cache = Cache::open(directory).expect("cache");
        let mut packages = BTreeMap::new();
        for (name, entries) in [
            ("links", &[("./bin", Symlink, "usr/bin"), ("./usr/bin/", Directory, "")][..]),
            ("shell", &[("./bin/", Directory, ""), ("./bin/sh", Regular, "shell")][..]),
            ("tool", &[("./bin/tool", Regular, "tool"), ("./usr/share/doc/tool", Regular, "text")][..]),
        ] {
            let control = format!("Package: {name}\nVersion: 1:2-3\nDescription: one\n two\n");
            let file = directory.join(name);
            fs::write(&file, deb(&control, &tarball(entries))).expect("package");
            let (size, sha256) = cache::describe(&file).expect("described");
            let pinned = Pinned { version: "1:2-3".to_owned(), architecture: "all".to_owned(), size, sha256 };
            cache.take(&file, &pinned.file(name)).expect("taken");
            packages.insert(name.to_owned(), pinned);
        }
        let suite = |created| Suite {
            architecture: "amd64".to_owned(),
            sources: vec![Source { archive: "debian".to_owned(), distribution: "trixie".to_owned() }],
            created,
            packages: packages.clone(),
            base: "links shell".to_owned(),
            images: [("base".to_owned(), String::new()), ("more".to_owned(), "tool".to_owned())].into(),
        };
        let suites = [("one".to_owned(), suite(1_000)), ("two".to_owned(), suite(2_000))].into();
        (Lock::new("small", "not checked".to_owned(), suites, Vec::new()), cache)
    }

    fn made(lock: &Lock, cache: &Cache, directory: &Path, options: Options) -> (Report<()>, Vec<u8>) {
        let root = tempfile::tempdir_in(directory).expect("directory");
        let root = root.path().join("layout");
        let layout = Layout::create(&root).expect("layout");
        let built = build(lock, cache, &layout, options).expect("built");
        let report = Report::new((), &built.manifests, &built.layers);
        layout.finish(built.manifests).expect("finished");
        (report, fs::read(root.join("index.json")).expect("index"))
    }

    const OPTIONS: Options =
        Options { shape: Shape::Layers, compression: Compression::Gzip, rebuild: 1, jobs: 1 };

    #[test]
    fn the_same_lock_gives_the_same_digests() {
        let directory = tempfile::tempdir().expect("directory");
        let (lock, cache) = corpus(directory.path());
        for shape in [Shape::Flat, Shape::Layers, Shape::Packages] {
            for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
                let options = Options { shape, compression, ..OPTIONS };
                let first = made(&lock, &cache, directory.path(), options).1;
                let second = made(&lock, &cache, directory.path(), Options { jobs: 3, ..options }).1;
                assert_eq!(first, second, "{shape:?} {compression:?}");
            }
        }
    }

    #[test]
    fn images_share_what_their_division_lets_them_share() {
        let directory = tempfile::tempdir().expect("directory");
        let (lock, cache) = corpus(directory.path());
        // Two suites by two roles, each once more.
        for (shape, layers) in [(Shape::Flat, 8), (Shape::Layers, 8), (Shape::Packages, 6)] {
            let report = made(&lock, &cache, directory.path(), Options { shape, ..OPTIONS }).0;
            assert_eq!((report.manifests.len(), report.layers), (8, layers), "{shape:?}");
            assert_ne!(report.manifests["more:one"], report.manifests["more:one-r1"], "{shape:?}");
        }
    }

    #[test]
    fn a_layer_above_follows_the_links_of_its_base_and_knows_its_packages() {
        let directory = tempfile::tempdir().expect("directory");
        let (lock, cache) = corpus(directory.path());
        let suite = &lock.suites["one"];
        let packages = Packages { cache: &cache, kept: Mutex::default() };
        let plan =
            Plan { suite, packages: vec!["tool"], below: vec!["links", "shell"], status: true, shift: 0 };
        let tree = tree(&packages, &plan).expect("tree");
        let paths: Vec<String> =
            tree.nodes().map(|(path, _)| String::from_utf8(path.to_vec()).expect("text")).collect();
        assert!(paths.contains(&"usr/bin/tool".to_owned()), "{paths:?}");
        assert!(paths.contains(&"var/lib/dpkg/info/tool.postinst".to_owned()), "{paths:?}");
        let status = tree.nodes().find(|(path, _)| *path == b"var/lib/dpkg/status").expect("status").1;
        let crate::tree::What::File(content) = &status.what else { panic!("a file") };
        let status = String::from_utf8(content.bytes().to_vec()).expect("text");
        let names: Vec<_> = status.lines().filter(|line| line.starts_with("Package:")).collect();
        assert_eq!(names, ["Package: links", "Package: shell", "Package: tool"]);
        assert_eq!(status.matches("Status: install ok installed\n").count(), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().expect("directory");
        let (lock, cache) = corpus(directory.path());
        crate::gather::fetch(&lock, &cache, None).expect("everything is there");
        fs::write(directory.path().join("files/tool_1%3a2-3_all.deb"), "damaged").expect("damage");
        let error = crate::gather::fetch(&lock, &cache, None).expect_err("one is not").to_string();
        assert!(error.contains("1 files") && error.contains("tool_1%3a2-3_all.deb"), "{error}");
    }
}
