//! `orlop serve`

mod listen;
mod open;
mod shutdown;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use hyper_util::server::graceful::GracefulShutdown;
use orlop::oci::RepositoryName;
use orlop::server::{Limits, Open, Registry};

use self::open::{Opened, Opening};
use crate::args::{flag, option, value, values, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::session::{WriteArgs, duration};

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    targets: Vec<String>,
    names: Vec<RepositoryName>,
    listen: Vec<SocketAddr>,
    open: bool,
    sparse: bool,
    shutdown_timeout: Duration,
    opening: Opening,
}

pub(crate) fn command() -> Command {
    let listen = Arg::new("listen")
        .long("listen")
        .value_name("ADDRESS")
        .help(
            "Where to listen, as 127.0.0.1:5000, :5000 for every interface, or with port 0; can be repeated",
        )
        .action(ArgAction::Append)
        .default_value("127.0.0.1:5000")
        .value_parser(listen::address);
    let names = Arg::new("as")
        .long("as")
        .value_name("NAME")
        .help("The name of the unnamed repository, that of the directory by default; with several layouts once for each, in their order")
        .action(ArgAction::Append)
        .value_parser(|name: &str| name.parse::<RepositoryName>().map_err(|error| error.to_string()));
    verb(
        "serve",
        "Serve layouts as an OCI registry",
        "Named repositories have their names, the unnamed one that of the directory. A directory that is not there is made a store; \
         one on a read-only medium is served as it is. Ends with SIGTERM or SIGINT, once what is under way is finished.",
        "orlop serve oci:app --listen 127.0.0.1:5000",
    )
    .arg(
        Arg::new("target")
            .value_name("oci:DIR")
            .help("The layouts; new repositories go to the first")
            .required(true)
            .action(ArgAction::Append),
    )
    .arg(names)
    .arg(listen)
    .arg(flag("read-only", "Refuse whatever would change something, and take no lock"))
    .arg(flag("sparse", "Take manifests whose content is not there"))
    .arg(flag("insecure-open", "Let everybody who can reach an address beyond loopback read and write"))
    .arg(
        option("gc", "TIME", "Collect garbage every so often, as 10m or 1h, while serving")
            .value_parser(duration),
    )
    .arg(
        option("grace", "TIME", "Leave alone what was let go less than this ago; a day by default")
            .value_parser(duration),
    )
    .arg(
        option("shutdown-timeout", "TIME", "How long requests may take to their end after a signal")
            .default_value("30s")
            .value_parser(duration),
    )
    .arg(WriteArgs::lock_timeout())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let every = |name| matches.get_many(name).into_iter().flatten().cloned().collect();
        Self {
            targets: values(matches, "target"),
            names: matches.get_many("as").into_iter().flatten().cloned().collect(),
            listen: every("listen"),
            open: matches.get_flag("insecure-open"),
            sparse: matches.get_flag("sparse"),
            shutdown_timeout: value(matches, "shutdown-timeout").unwrap_or_default(),
            opening: Opening {
                read_only: matches.get_flag("read-only"),
                collect: value(matches, "gc"),
                grace: value(matches, "grace"),
                limits: orlop::Limits::default(),
                write: WriteArgs::of(matches),
            },
        }
    }

    fn check(&self) -> Result<(), Failure> {
        if self.names.len() > self.targets.len() {
            return Err(Failure::usage(format!(
                "more names than layouts, as={}, layouts={}",
                self.names.len(),
                self.targets.len()
            )));
        }
        if let Some(address) = self.listen.iter().find(|address| !address.ip().is_loopback())
            && !self.open
        {
            return Err(Failure::new(
                Exit::Policy,
                format!("everybody who can reach this address could read and write, address={address}"),
            )
            .with_hint("ask for passwords with --htpasswd FILE, or say --insecure-open if that is meant"));
        }
        Ok(())
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.check()?;
    interrupt::defer_but_hangup();
    let mut layouts: Vec<Opened> = Vec::with_capacity(args.targets.len());
    for (index, target) in args.targets.iter().enumerate() {
        layouts.push(args.opening.open(target, args.names.get(index), output)?);
    }
    let all_read_only = layouts.iter().all(|opened| opened.store.is_read_only());
    let registry = Registry::with_limits(
        layouts.iter().map(Opened::layout),
        Open,
        Limits::default(),
        args.opening.read_only || all_read_only,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Other, format!("cannot start threads: {error}")))?;
    let cut = runtime.block_on(listen_and_serve(args, registry))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    for opened in layouts {
        opened.store.close()?;
    }
    if cut > 0 {
        return Err(interrupt::failure(&format!("connections were cut off, connections={cut}")));
    }
    Ok(())
}

/// Serves until a signal comes; how many connections were cut off then.
async fn listen_and_serve(args: &Args, registry: Registry<Open>) -> Result<usize, Failure> {
    let listeners = listen::bind(&args.listen).await?;
    let connections = std::sync::Arc::new(GracefulShutdown::new());
    let mut accepting = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new(Exit::Other, format!("cannot tell the address: {error}")))?;
        output::stderr(&format!("listening on http://{address}\n"));
        let (registry, connections) = (registry.clone(), std::sync::Arc::clone(&connections));
        accepting.push(tokio::spawn(async move { listen::accept(listener, registry, &connections).await }));
    }
    drop(registry);
    for task in accepting {
        let _ = task.await;
    }
    let Some(connections) = std::sync::Arc::into_inner(connections) else { return Ok(0) };
    Ok(shutdown::finish(connections, args.shutdown_timeout).await)
}
