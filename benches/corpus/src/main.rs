//! Makes images and artifacts to measure deduplication on; `README.md` says more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use orlop_corpus::apt::{self, Archives};
use orlop_corpus::artifact::{self, Form};
use orlop_corpus::cache::{self, Cache};
use orlop_corpus::gather;
use orlop_corpus::image::{self, Built, Shape};
use orlop_corpus::layout::{Compression, Layout};
use orlop_corpus::lock::Lock;
use orlop_corpus::recipe::Size;
use orlop_corpus::report::Report;
use orlop_corpus::synthetic;
use serde::Serialize;

/// Make images and artifacts to measure deduplication on: the same bytes every time.
#[derive(Parser)]
#[command(name = "corpus", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find out which versions there are now, and write them into a lock file
    Lock {
        /// What to take
        #[arg(long, value_enum, default_value = "small")]
        size: Size,
        /// Lock file to write [default: the one of this size in the source tree]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        cache: CacheOption,
        #[command(flatten)]
        from: From,
    },
    /// Download everything that a lock file names
    Fetch {
        #[command(flatten)]
        lock: LockOption,
        #[command(flatten)]
        cache: CacheOption,
        #[command(flatten)]
        from: From,
    },
    /// Make a layout of a lock file, and download what is missing
    Build(Build),
    /// Make layouts of pseudo-random bytes, with the figures that a measurement of them must give
    Synthetic(Synthetic),
}

#[derive(Args)]
struct Synthetic {
    /// Directory to make: layouts `files`, `blocks` and `shifts`, and beside each what is expected of it in .json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of everything
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Images or blobs of each layout
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    images: u64,
    /// Bytes of each image or blob, about
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    size: u64,
    /// How many files or blocks of a hundred are copies of earlier ones
    #[arg(long, value_name = "PERCENT", default_value_t = 30)]
    duplicates: u64,
    /// How many files or blocks of a hundred are zeros
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    zeros: u64,
    /// Bytes by which the content of each blob of `shifts` stands further back than in the one before
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    shift: u64,
    /// How layers of `files` are compressed
    #[arg(long, value_enum, default_value = "gzip")]
    compression: Compression,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

#[derive(Args)]
struct Build {
    #[command(flatten)]
    lock: LockOption,
    #[command(flatten)]
    cache: CacheOption,
    #[command(flatten)]
    from: From,
    /// Layout to make: a directory that is not there yet, or empty; what it is made of goes into DIR.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// What to make
    #[arg(long, value_enum, default_value = "images")]
    only: Only,
    /// How images are divided into layers
    #[arg(long, value_enum, default_value = "flat")]
    layout: Shape,
    /// How layers are compressed
    #[arg(long, value_enum, default_value = "gzip")]
    compression: Compression,
    /// Make each image so many times more, with the same content and later times
    #[arg(long, value_name = "TIMES", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100))]
    rebuild: u64,
    /// How artifacts are stored
    #[arg(long, value_enum, default_value = "shipped")]
    artifacts: Form,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Download nothing
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Only {
    Images,
    Artifacts,
    All,
}

#[derive(Args)]
struct LockOption {
    /// Lock file [default: the one of the size in the source tree]
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    lock: Option<PathBuf>,
    /// Size of which the lock file is taken
    #[arg(long, value_enum, default_value = "small")]
    size: Size,
}

impl LockOption {
    fn path(&self) -> PathBuf {
        self.lock.clone().unwrap_or_else(|| committed(self.size))
    }
}

#[derive(Args)]
struct CacheOption {
    /// Directory of downloads; it can be used by any number of corpora
    #[arg(long = "cache", value_name = "DIR", env = "ORLOP_CORPUS_CACHE")]
    path: PathBuf,
}

#[derive(Args)]
struct From {
    /// Archive of Debian: its address, or `system` for the one among the system's sources of apt
    #[arg(long, env = "ORLOP_CORPUS_MIRROR", default_value = "http://deb.debian.org/debian")]
    mirror: String,
    /// Archive of Debian's security updates: its address, or `system`
    #[arg(
        long,
        env = "ORLOP_CORPUS_SECURITY_MIRROR",
        default_value = "http://deb.debian.org/debian-security"
    )]
    security_mirror: String,
    /// Keys that indexes must be signed with
    #[arg(long, value_name = "FILE", default_value = "/usr/share/keyrings/debian-archive-keyring.gpg")]
    keyring: PathBuf,
    /// Take indexes whose signatures nobody has checked; a lock file that is made of them says so
    #[arg(long)]
    allow_unsigned: bool,
}

impl From {
    fn archives(&self) -> Result<Archives> {
        let address = |given: &str, archive| match given {
            "system" => apt::system_mirror(archive),
            address => Ok(address.to_owned()),
        };
        if !self.allow_unsigned {
            self.keyring.metadata().with_context(|| {
                format!(
                    "there are no keys to check the indexes with, path={}: install debian-archive-keyring, name another file with \
                     --keyring, or take them unchecked with --allow-unsigned",
                    self.keyring.display()
                )
            })?;
        }
        Ok(Archives {
            mirror: address(&self.mirror, "debian")?,
            security_mirror: address(&self.security_mirror, "debian-security")?,
            keyring: (!self.allow_unsigned).then(|| self.keyring.clone()),
        })
    }
}

fn committed(size: Size) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("locks").join(format!("{}.json", size.name()))
}

fn main() -> ExitCode {
    match run(Command::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let begun = Instant::now();
    match verb {
        Verb::Lock { size, output, cache, from } => {
            let lock = gather::lock(size, &Cache::open(&cache.path)?, &from.archives()?)?;
            let path = output.unwrap_or_else(|| committed(size));
            lock.save(&path)?;
            let (images, packages, bytes) = lock.totals();
            println!("{}: {images} images of {packages} packages, {bytes} bytes to download", path.display());
            println!("signatures: {}", lock.signatures);
        }
        Verb::Fetch { lock, cache, from } => {
            let lock = Lock::load(&lock.path())?;
            gather::fetch(&lock, &Cache::open(&cache.path)?, Some(&from.archives()?))?;
            let (_, packages, bytes) = lock.totals();
            println!(
                "{packages} packages and {} artifacts are in the cache, {bytes} bytes",
                lock.artifacts.len()
            );
        }
        Verb::Build(options) => build(&options)?,
        Verb::Synthetic(Synthetic {
            output,
            seed,
            images,
            size,
            duplicates,
            zeros,
            shift,
            compression,
            jobs,
        }) => {
            let options = synthetic::Options { seed, images, size, duplicates, zeros, shift };
            for set in synthetic::build(&output, options, compression, threads(jobs))? {
                println!("{0}: layout, {0}.json: what a measurement must give", output.join(set).display());
            }
        }
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// What a report says of how its layout was made.
#[derive(Serialize)]
struct Parameters {
    lock_sha256: String,
    lock_size: String,
    signatures: String,
    only: String,
    layout: String,
    compression: String,
    rebuild: u64,
    artifacts: String,
}

fn build(options: &Build) -> Result<()> {
    let lock_path = options.lock.path();
    let lock = Lock::load(&lock_path)?;
    let cache = Cache::open(&options.cache.path)?;
    let archives = if options.offline { None } else { Some(options.from.archives()?) };
    gather::fetch(&lock, &cache, archives.as_ref())?;
    let jobs = threads(options.jobs);
    let begun = Instant::now();
    let layout = Layout::create(&options.output)?;
    let mut built = Built::default();
    if options.only != Only::Artifacts {
        let (shape, compression, rebuild) = (options.layout, options.compression, options.rebuild);
        built = image::build(&lock, &cache, &layout, image::Options { shape, compression, rebuild, jobs })?;
    }
    if options.only != Only::Images {
        let more = artifact::build(&lock, &cache, &layout, options.artifacts, options.compression, jobs)?;
        built.manifests.extend(more.manifests);
        built.layers.extend(more.layers);
    }
    let parameters = Parameters {
        lock_sha256: cache::describe(&lock_path)?.1,
        lock_size: lock.size.clone(),
        signatures: lock.signatures.clone(),
        only: name(options.only),
        layout: name(options.layout),
        compression: name(options.compression),
        rebuild: options.rebuild,
        artifacts: name(options.artifacts),
    };
    let report = Report::new(parameters, &built.manifests, &built.layers);
    layout.finish(built.manifests)?;
    let path = report.write(&options.output)?;
    println!(
        "{}: {} images and artifacts, {} layers of {} bytes, {} when decompressed, {:.1} s without downloads; {}",
        options.output.display(),
        report.manifests.len(),
        report.layers,
        report.layer_bytes,
        report.plain_layer_bytes,
        begun.elapsed().as_secs_f64(),
        path.display()
    );
    Ok(())
}

fn threads(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
