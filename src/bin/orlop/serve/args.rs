//! The arguments of `orlop serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use orlop::Limits;
use orlop::oci::RepositoryName;

use super::guard::Files;
use super::listen::address;
use super::open::Opening;
use crate::args::{bytes, flag, option, value, values, verb};
use crate::error::{Exit, Failure};
use crate::session::{WriteArgs, duration};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    pub(super) targets: Vec<String>,
    pub(super) names: Vec<RepositoryName>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) tls: Option<(PathBuf, PathBuf)>,
    pub(super) policy: Files,
    pub(super) open: bool,
    pub(super) sparse: bool,
    pub(super) log: Option<PathBuf>,
    pub(super) opening: Opening,
    pub(super) connections: usize,
    pub(super) requests: usize,
    pub(super) header_size: usize,
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

pub(crate) fn command() -> Command {
    let layouts = Arg::new("target")
        .value_name("oci:DIR|tar:FILE")
        .help("The layouts, of which new repositories go to the first that can be written; or archives, with commas between volumes of a set")
        .required(true)
        .action(ArgAction::Append);
    let verb = verb(
        "serve",
        "Serve layouts or archives as an OCI registry",
        "Named repositories have their names, the unnamed one that of the directory. A directory that is not there is made a store; \
         one on a read-only medium is served as it is. An archive is read where it lies, and only read. What other programs change in index.json is served within a second. SIGTERM and \
         SIGINT end it once what is under way is finished, with exit code 0 if nothing was cut off; SIGHUP reads passwords, rights and \
         certificate again and opens the access log anew.",
        "orlop serve oci:app --listen 127.0.0.1:5000",
    )
    .arg(layouts);
    let groups: [(&'static str, Vec<Arg>); 5] = [
        ("What is served", served()),
        ("Addresses", addresses()),
        ("Who may do what", policy()),
        ("What can be watched", watching()),
        ("Limits", limits()),
    ];
    groups.into_iter().fold(verb, |verb, (heading, args)| {
        args.into_iter().fold(verb, |verb, arg| verb.arg(arg.help_heading(heading)))
    })
}

fn served() -> Vec<Arg> {
    let names = option(
        "as",
        "NAME",
        "The name of the unnamed repository, by default that of the directory; with several layouts once for each, in their order",
    )
    .action(ArgAction::Append)
    .value_parser(|name: &str| name.parse::<RepositoryName>().map_err(|error| error.to_string()));
    vec![
        names,
        flag(
            "read-only",
            "Refuse whatever would change something, take no lock and leave other layouts as they are",
        ),
        flag("sparse", "Take manifests that refer to content which is not there"),
        time("gc", "Collect garbage every so often while serving, as 10m or 1h"),
        time("grace", "Leave alone what came or was let go less than this ago [default: 24h]"),
        WriteArgs::lock_timeout(),
    ]
}

fn addresses() -> Vec<Arg> {
    let listen = option(
        "listen",
        "ADDRESS",
        "Where to listen: IP:PORT, or :PORT for every address of the machine; port 0 is any free one. Can be repeated",
    )
    .action(ArgAction::Append)
    .default_value("127.0.0.1:5000")
    .value_parser(address);
    vec![
        listen,
        path("tls-cert", "The certificate for HTTPS in PEM, with those that vouch for it behind it")
            .requires("tls-key"),
        path("tls-key", "Its key in PEM").requires("tls-cert"),
    ]
}

fn policy() -> Vec<Arg> {
    vec![
        path("htpasswd", "Ask for a name and a password of this file, as `htpasswd -B` writes it"),
        path(
            "rights",
            "What they may do, in lines PRINCIPAL PATTERN RIGHTS: a name, * for everybody with a password or `anonymous`; a repository, \
             where * stands for any text; pull, push and delete with commas, or all. Everything by default",
        ),
        flag("anonymous-pull", "Let everybody read everything, without a password"),
        flag("insecure-open", "Let everybody who can reach an address beyond loopback read and write"),
    ]
}

fn watching() -> Vec<Arg> {
    vec![
        path(
            "access-log",
            "Write a line for each request to this file instead of stderr; none at all with --quiet",
        ),
        option("metrics-listen", "ADDRESS", "Answer /metrics for Prometheus, /healthz and /readyz here too")
            .value_parser(address),
    ]
}

fn limits() -> Vec<Arg> {
    vec![
        size("max-blob-size", "Bytes of one content, as 20G").value_parser(bytes),
        number("max-uploads", "Upload sessions at one time").default_value("10000"),
        size("max-upload-bytes", "Bytes of all upload sessions together").value_parser(bytes),
        number("max-connections", "Connections at one time; beyond it 503").default_value("1024"),
        number("max-requests", "Requests at one time; beyond it 429").default_value("1024"),
        size("max-header-size", "Bytes of the head of a request; beyond it 431")
            .default_value("64Ki")
            .value_parser(bytes),
        time("header-timeout", "How long the head of a request may take, and a connection may be idle")
            .default_value("30s"),
        time("idle-timeout", "How long a client may send or take nothing in the middle of a body")
            .default_value("60s"),
        time("request-timeout", "How long the answer to a request that only reads may take to begin")
            .default_value("60s"),
        time("shutdown-timeout", "How long what is under way may take after SIGTERM or SIGINT")
            .default_value("30s"),
    ]
}

fn path(name: &'static str, help: &'static str) -> Arg {
    option(name, "FILE", help).value_parser(value_parser!(PathBuf))
}

fn time(name: &'static str, help: &'static str) -> Arg {
    option(name, "TIME", help).value_parser(duration)
}

fn size(name: &'static str, help: &'static str) -> Arg {
    option(name, "SIZE", help)
}

fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, "N", help).value_parser(value_parser!(u32).range(1..))
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let time = |name| value::<Duration>(matches, name).unwrap_or_default();
        let count = |name| {
            value::<u32>(matches, name).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let size = |name| value::<u64>(matches, name);
        let mut limits = Limits::default();
        limits.max_content_size = size("max-blob-size");
        limits.max_uploads = count("max-uploads");
        limits.max_upload_bytes = size("max-upload-bytes");
        Self {
            targets: values(matches, "target"),
            names: matches.get_many("as").into_iter().flatten().cloned().collect(),
            listen: matches.get_many("listen").into_iter().flatten().copied().collect(),
            metrics: value(matches, "metrics-listen"),
            tls: value(matches, "tls-cert").zip(value(matches, "tls-key")),
            policy: Files {
                htpasswd: value(matches, "htpasswd"),
                rights: value(matches, "rights"),
                anonymous_pull: matches.get_flag("anonymous-pull"),
            },
            open: matches.get_flag("insecure-open"),
            sparse: matches.get_flag("sparse"),
            log: value(matches, "access-log"),
            opening: Opening {
                read_only: matches.get_flag("read-only"),
                collect: value(matches, "gc"),
                grace: value(matches, "grace"),
                limits,
                encrypts: matches.contains_id("tls-cert"),
                write: WriteArgs::of(matches),
            },
            connections: count("max-connections"),
            requests: count("max-requests"),
            header_size: size("max-header-size")
                .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            header_timeout: time("header-timeout"),
            idle_timeout: time("idle-timeout"),
            request_timeout: time("request-timeout"),
            shutdown_timeout: time("shutdown-timeout"),
        }
    }

    /// Refuses what makes no sense, and what opens more than was asked for.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.names.len() > self.targets.len() {
            return Err(Failure::usage(format!(
                "--as was given more often than there are layouts, names={}, layouts={}",
                self.names.len(),
                self.targets.len()
            )));
        }
        let archives = self.targets.iter().filter(|target| crate::tar_ref::parse(target).is_some()).count();
        if archives > 0 && archives < self.targets.len() {
            return Err(Failure::usage(format!(
                "layouts and archives are served apart, layouts={}, archives={archives}",
                self.targets.len() - archives
            ))
            .with_hint("start one server for each, or take the archives in with `orlop import`"));
        }
        for (name, time) in
            [("header", self.header_timeout), ("idle", self.idle_timeout), ("request", self.request_timeout)]
        {
            if time.is_zero() {
                return Err(Failure::usage(format!("no client is that quick, {name}-timeout=0")));
            }
        }
        if !(1 << 12..=1 << 20).contains(&self.header_size) {
            return Err(Failure::usage(format!(
                "use a size from 4Ki to 1Mi, max-header-size={}",
                self.header_size
            )));
        }
        let beyond = self.listen.iter().find(|address| !address.ip().is_loopback());
        let reads_only = (self.opening.read_only || archives > 0) && self.policy.anonymous_pull;
        if let Some(address) = beyond
            && self.policy.htpasswd.is_none()
            && !reads_only
            && !self.open
        {
            return Err(Failure::new(
                Exit::Policy,
                format!("whoever reaches this address would need no password, address={address}"),
            )
            .with_hint(
                "ask for passwords with --htpasswd FILE, offer reading alone with --read-only --anonymous-pull, or say \
                 --insecure-open if that is meant",
            ));
        }
        Ok(())
    }

    /// Whether passwords would travel for everybody to read.
    pub(super) fn is_in_the_clear(&self) -> bool {
        self.policy.htpasswd.is_some()
            && self.tls.is_none()
            && self.listen.iter().any(|address| !address.ip().is_loopback())
    }
}
