//! `orlop serve`

mod archives;
mod args;
mod follow;
mod front;
mod guard;
mod health;
mod htpasswd;
mod listen;
mod log;
mod meters;
mod open;
mod quiet;
mod rights;
mod shutdown;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orlop::oci::RepositoryName;
use orlop::server::{Limits, Registry, Settings};
use orlop::transfer::archive::Archive;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(crate) use self::args::{Args, command};
use self::follow::{Followed, Reloaded, follow};
use self::front::{Door, Front, Gauges};
use self::guard::Guard;
use self::health::Health;
use self::listen::Bounds;
use self::log::Log;
use self::meters::Meters;
use self::open::Opened;
use self::shutdown::{Stop, Stopper};
use self::tls::Certificate;
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};

/// Threads that wait for disks and compare passwords: those of the registry, and a few for everything else.
const SPARE_THREADS: usize = 16;

/// Connections for operators.
const OPERATORS: usize = 64;

/// What is left to do once the last request is answered.
const LAST: Duration = Duration::from_secs(5);

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    args.check()?;
    interrupt::defer_but_hangup();
    let hangup = interrupt::on_hangup();
    if args.is_in_the_clear() {
        output.note("passwords are sent in the clear without --tls-cert and --tls-key, unless something before this adds TLS");
    }
    let guard = Guard::new(args.policy.clone(), output)?;
    let certificate = args.tls.clone().map(|(chain, key)| Certificate::read(chain, key)).transpose()?;
    // Before the stores are opened, whose meters are registered then.
    let meters = args.metrics.map(|_| Meters::install());
    let (log, writer) = if output.is_quiet() && args.log.is_none() {
        (Log::none(), None)
    } else {
        let (log, writer) = Log::start(args.log.as_deref(), output.is_json())?;
        (log, Some(writer))
    };
    let (mut layouts, mut archives): (Vec<Opened>, Vec<_>) = (Vec::new(), Vec::new());
    for (index, target) in args.targets.iter().enumerate() {
        let name = args.names.get(index);
        match archives::open(target, name, output)? {
            Some(archive) => archives.push(archive),
            None => layouts.push(args.opening.open(target, name, output)?),
        }
    }
    let limits = Limits::default();
    let threads = limits.readers.saturating_add(limits.writers).saturating_add(SPARE_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .build()
        .map_err(|error| Failure::new(Exit::Other, format!("cannot start threads: {error}")))?;
    let reloaded = Reloaded { came: hangup, guard, certificate, log, output: *output };
    let served = runtime.block_on(serve(args, limits, (&layouts, archives), meters, reloaded));
    runtime.shutdown_timeout(LAST);
    if let Some(writer) = writer {
        writer.finish();
    }
    for Opened { layout, .. } in layouts {
        let store = layout.store();
        drop(layout);
        store.close()?;
    }
    match served? {
        0 => Ok(()),
        cut => Err(interrupt::failure(&format!("what was under way was cut off, connections={cut}"))),
    }
}

/// Serves until a signal comes; how many connections were cut off then.
async fn serve(
    args: Args,
    limits: Limits,
    (layouts, archives): (&[Opened], Vec<(Archive, RepositoryName)>),
    meters: Option<Meters>,
    reloaded: Reloaded,
) -> Result<usize, Failure> {
    let read_only = layouts.iter().all(|opened| opened.layout.store().is_read_only());
    let expected = layouts.iter().map(|opened| (opened.layout.clone(), opened.layout.store().is_read_only()));
    let health =
        Health::new(expected.collect(), archives.iter().map(|(archive, _)| archive.clone()).collect());
    let settings = Settings::new().limits(limits).read_only(read_only).sparse(args.sparse);
    let guard = reloaded.guard.clone();
    let registry = if archives.is_empty() {
        Registry::with_settings(layouts.iter().map(|opened| opened.layout.clone()), guard, settings)
    } else {
        Registry::of_archives(archives, guard, settings)?
    };
    for clash in registry.clashes()? {
        reloaded.output.note(clash);
    }
    let bounds = Bounds {
        header_timeout: args.header_timeout,
        idle: args.idle_timeout,
        header_size: args.header_size,
        connections: permits(args.connections),
        metered: meters.is_some(),
    };
    let front = Front {
        registry,
        requests: permits(args.requests),
        log: reloaded.log.clone(),
        health: health.clone(),
        metered: meters.is_some(),
        idle: args.idle_timeout,
        patience: args.request_timeout,
    };
    let listeners = listen::bind(&args.listen).await?;
    let operators = match args.metrics {
        Some(address) => listen::bind(&[address]).await?,
        None => Vec::new(),
    };
    let (stopper, stop) = Stopper::new();
    let scheme = if reloaded.certificate.is_some() { "https" } else { "http" };
    for (listener, address) in listeners {
        output::stderr(&format!("listening on {scheme}://{address}\n"));
        let (front, bounds, stop) = (front.clone(), bounds.clone(), stop.clone());
        let certificate = reloaded.certificate.clone();
        tokio::spawn(async move {
            let door = |remote| Door { front: front.clone(), remote };
            listen::accept(listener, certificate, bounds, stop, door).await;
        });
    }
    if let (Some(meters), Some((listener, address))) = (meters, operators.into_iter().next()) {
        output::stderr(&format!("metrics on http://{address}/metrics\n"));
        watchable(listener, bounds.clone(), stop.clone(), Gauges { meters, health });
    }
    drop((front, bounds, stop));
    let opening = Arc::new(args.opening);
    let followed = layouts.iter().map(|opened| Followed::new(opened.clone(), Arc::clone(&opening))).collect();
    follow(reloaded, followed).await;
    Ok(stopper.stop(args.shutdown_timeout).await)
}

/// Answers operators, on connections that clients cannot use up.
fn watchable(listener: TcpListener, bounds: Bounds, stop: Stop, gauges: Gauges) {
    let bounds = Bounds { connections: permits(OPERATORS), metered: false, ..bounds };
    tokio::spawn(async move {
        let gauges = |_: SocketAddr| gauges.clone();
        listen::accept(listener, None, bounds, stop, gauges).await;
    });
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}
