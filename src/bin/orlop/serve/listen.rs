//! Addresses, and the connections that come to them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use orlop::server::{Policy, Registry};
use tokio::net::{TcpListener, TcpStream};

use super::shutdown::{asked, either};
use crate::error::{Exit, Failure};

/// After an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads `IP:PORT`, `localhost:PORT`, or `:PORT` for every address of the machine.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = |port: &str| port.parse::<u16>().map_err(|_| format!("not a port, port={port}"));
    if let Some(text) = text.strip_prefix("localhost:") {
        return Ok((Ipv4Addr::LOCALHOST, port(text)?).into());
    }
    if let Some(text) = text.strip_prefix(':') {
        return Ok((Ipv6Addr::UNSPECIFIED, port(text)?).into());
    }
    text.parse().map_err(|_| "use IP:PORT, [IPv6]:PORT or :PORT".to_owned())
}

/// Listens on every address.
pub(super) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let failure = Failure::new(Exit::Other, format!("cannot listen, address={address}: {error}"));
            match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    failure.with_hint("something listens there already: give another port with --listen")
                }
                std::io::ErrorKind::PermissionDenied => {
                    failure.with_hint("ports below 1024 want a privilege: give a higher one with --listen")
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    failure.with_hint("no interface of this machine has that address")
                }
                _ => failure,
            }
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Takes connections until a signal comes.
pub(super) async fn accept<P: Policy>(
    listener: TcpListener,
    registry: Registry<P>,
    connections: &GracefulShutdown,
) {
    loop {
        let next = either(async { Some(listener.accept().await) }, async {
            asked().await;
            None
        });
        match next.await {
            None => return,
            Some(Ok((stream, _))) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, registry.clone(), connections.watcher()));
            }
            // Out of descriptors, or the client is gone already.
            Some(Err(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve<P: Policy>(stream: TcpStream, registry: Registry<P>, watcher: Watcher) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(registry));
    // What goes wrong with a connection is the client's to see.
    let _ = watcher.watch(connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("localhost:0", "127.0.0.1:0"),
            (":5000", "[::]:5000"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(expected));
        }
        for text in ["", "5000", "127.0.0.1", ":", ":70000", "localhost:x", "example.com:80"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
