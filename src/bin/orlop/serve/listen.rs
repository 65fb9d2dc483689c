//! Addresses, and the connections that come to them.

use std::future::{Future, pending};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::meters;
use super::quiet::{Traffic, Watched};
use super::shutdown::{Stop, either};
use super::tls::{Certificate, H2};
use crate::error::{Exit, Failure};

/// After an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections beyond the limit that are told so at one time; others wait to be accepted.
const TURNED_AWAY: usize = 64;
const AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Requests at one time on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// Bounds of connections.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// How long the head of a request may take, and a connection may have none.
    pub(super) header_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub(super) idle: Duration,
    /// Bytes of the head of a request.
    pub(super) header_size: usize,
    /// How many there may be.
    pub(super) connections: Arc<Semaphore>,
    pub(super) metered: bool,
}

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
pub(super) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<(TcpListener, SocketAddr)>, Failure> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bound = TcpListener::bind(address).await;
        let bound = bound.and_then(|listener| listener.local_addr().map(|real| (listener, real)));
        listeners.push(bound.map_err(|error| unbound(*address, &error))?);
    }
    Ok(listeners)
}

fn unbound(address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Other, format!("cannot listen, address={address}: {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            failure.with_hint("something listens there already: give another port with --listen")
        }
        io::ErrorKind::PermissionDenied => {
            failure.with_hint("ports below 1024 want a privilege: give a higher one with --listen")
        }
        io::ErrorKind::AddrNotAvailable => failure.with_hint("no interface of this machine has that address"),
        _ => failure,
    }
}

/// Takes connections until the server stops. `service` makes what answers a client.
pub(super) async fn accept<S, B>(
    listener: TcpListener,
    certificate: Option<Certificate>,
    bounds: Bounds,
    mut stop: Stop,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let away = Arc::new(Semaphore::new(TURNED_AWAY));
    loop {
        let next = either(async { Some(listener.accept().await) }, async {
            stop.asked().await;
            None
        });
        let (stream, remote) = match next.await {
            None => return,
            Some(Ok(accepted)) => accepted,
            // Out of descriptors, or the client is gone already.
            Some(Err(_)) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&bounds.connections).try_acquire_owned() else {
            let Ok(turn) = Arc::clone(&away).acquire_owned().await else { return };
            let plain = certificate.is_none();
            tokio::spawn(async move {
                turn_away(stream, plain).await;
                drop(turn);
            });
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (service, certificate) = (service(remote), certificate.clone());
        let (bounds, stop) = (bounds.clone(), stop.clone());
        tokio::spawn(async move {
            if bounds.metered {
                meters::connections(1.0);
            }
            serve(stream, certificate.as_ref(), &bounds, stop, service).await;
            if bounds.metered {
                meters::connections(-1.0);
            }
            drop(permit);
        });
    }
}

/// Says that there are too many connections, where that can be said in a few bytes.
async fn turn_away(stream: TcpStream, plain: bool) {
    if plain && stream.writable().await.is_ok() {
        let _ = stream.try_write(AWAY);
        // What was sent already must be taken, or the answer may be lost with the connection.
        let mut buffer = [0; 4096];
        let drained = async {
            while stream.readable().await.is_ok() {
                match stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    }
}

async fn serve<S, B>(
    stream: TcpStream,
    certificate: Option<&Certificate>,
    bounds: &Bounds,
    stop: Stop,
    service: S,
) where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(certificate) = certificate else {
        return serve_http1(TokioIo::new(stream), bounds, stop, service).await;
    };
    // What goes wrong with a connection is the client's to see.
    let handshake = tokio::time::timeout(bounds.header_timeout, certificate.acceptor().accept(stream));
    let Ok(Ok(stream)) = handshake.await else { return };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    if is_h2 {
        serve_http2(TokioIo::new(stream), bounds, stop, service).await;
    } else {
        serve_http1(TokioIo::new(stream), bounds, stop, service).await;
    }
}

async fn serve_http1<T, S, B>(io: T, bounds: &Bounds, stop: Stop, service: S)
where
    T: Read + Write + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = Patient::new(io, bounds.idle, None);
    stop.watch(http1(bounds).serve_connection(io, service), pending(), pending()).await;
}

async fn serve_http2<T, S, B>(io: T, bounds: &Bounds, stop: Stop, service: S)
where
    T: Read + Write + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let traffic = Traffic::new();
    let io = Patient::new(io, bounds.idle, Some(traffic.clone()));
    let service = Watched { service, traffic: traffic.clone() };
    let connection = http2(bounds).serve_connection(io, service);
    let stalled = traffic.stalled(bounds.idle.max(bounds.header_timeout));
    stop.watch(connection, traffic.idle(bounds.header_timeout), stalled).await;
}

fn http1(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_header_size(bounds.header_size)
        .max_buf_size(bounds.header_size.max(64 << 10));
    builder
}

fn http2(bounds: &Bounds) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(bounds.header_size).unwrap_or(u32::MAX));
    builder
}

/// A connection that fails when its client takes nothing for too long.
struct Patient<T> {
    inner: T,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
    traffic: Option<Traffic>,
}

impl<T: Write + Unpin> Patient<T> {
    fn new(inner: T, idle: Duration, traffic: Option<Traffic>) -> Self {
        Self { inner, idle, timer: None, waits: false, traffic }
    }

    fn write<R>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let written = write(Pin::new(&mut self.inner), context);
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        if !self.waits {
            self.waits = true;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(tokio::time::Instant::now() + self.idle),
                none => *none = Some(Box::pin(tokio::time::sleep(self.idle))),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T> Patient<T> {
    fn moved(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(1..)), Some(traffic)) = (&written, &self.traffic) {
            traffic.moved();
        }
        written
    }
}

impl<T: Read + Unpin> Read for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if let (true, Some(traffic)) = (read.is_ready(), &self.traffic) {
            traffic.moved();
        }
        read
    }
}

impl<T: Write + Unpin> Write for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.write(context, |inner, context| inner.poll_write(context, bytes));
        self.moved(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |inner, context| inner.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |inner, context| inner.poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.write(context, |inner, context| inner.poll_write_vectored(context, slices));
        self.moved(written)
    }
}

impl Stop {
    /// Runs a connection to its end; once the server stops, or it is `idle`, to the end of what it is at. Cuts it off when it is
    /// `stalled`.
    async fn watch<C: GracefulConnection>(
        mut self,
        connection: C,
        idle: impl Future<Output = ()>,
        stalled: impl Future<Output = ()>,
    ) {
        let mut connection = pin!(connection);
        let mut over = pin!(either(self.asked(), idle));
        let mut stalled = pin!(stalled);
        let mut told = false;
        std::future::poll_fn(|context| {
            if !told && over.as_mut().poll(context).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            stalled.as_mut().poll(context)
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use std::convert::Infallible;
    use std::io::{Read as _, Write as _};
    use std::time::Instant;

    use super::super::shutdown::Stopper;
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

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const DATA: u8 = 0;

    /// Speaks HTTP/2 until the server ends the connection: asks for `/` if it is to, answers pings, and never takes more of the
    /// answer than comes unasked. How many bytes of it came.
    fn speak(mut stream: std::net::TcpStream, asks: bool) -> usize {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        if asks {
            stream.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a").unwrap();
        }
        let (mut head, mut taken) = ([0; 9], 0);
        while stream.read_exact(&mut head).is_ok() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).unwrap();
            let is_answer = head[4] & 1 == 1;
            match head[3] {
                DATA => taken += length,
                SETTINGS if !is_answer => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0").unwrap(),
                PING if !is_answer => {
                    head[4] = 1;
                    stream.write_all(&[&head[..], &payload].concat()).unwrap();
                }
                _ => {}
            }
        }
        taken
    }

    /// How long a connection of HTTP/2 lasts whose client does no more than [`speak`] does, and what it takes. An answer is of
    /// three pieces, and comes after a while.
    fn lasts(header_timeout: Duration, idle: Duration, asks: bool, delay: Duration) -> (Duration, usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let bounds = Bounds {
            header_timeout,
            idle,
            header_size: 16 << 10,
            connections: Arc::new(Semaphore::new(1)),
            metered: false,
        };
        let (_stopper, stop) = Stopper::new();
        runtime.spawn(async move {
            let service = hyper::service::service_fn(move |_| async move {
                tokio::time::sleep(delay).await;
                Ok::<_, Infallible>(http::Response::new(Pieces(vec![Bytes::from(vec![1; 100_000]); 3])))
            });
            let stream = TcpStream::from_std(server).unwrap();
            serve_http2(TokioIo::new(stream), &bounds, stop, service).await;
        });
        let start = Instant::now();
        let taken = speak(client, asks);
        (start.elapsed(), taken)
    }

    struct Pieces(Vec<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop().map(|piece| Ok(http_body::Frame::data(piece))))
        }
    }

    #[test]
    fn http2_is_not_kept_for_a_client_that_asks_nothing() {
        let [short, long] = [Duration::from_millis(300), Duration::from_secs(1000)];
        let (time, _) = lasts(short, long, false, Duration::ZERO);
        assert!((short..Duration::from_secs(30)).contains(&time), "{time:?}");
    }

    #[test]
    fn http2_is_not_kept_for_a_client_that_takes_nothing() {
        let [shorter, short] = [Duration::from_millis(200), Duration::from_millis(400)];
        let (time, taken) = lasts(shorter, short, true, Duration::ZERO);
        assert!((short..Duration::from_secs(30)).contains(&time), "{time:?}");
        assert_eq!(taken, 65_535);
    }

    #[test]
    fn http2_waits_for_the_server_itself() {
        let [short, delay] = [Duration::from_millis(200), Duration::from_millis(1000)];
        let (time, taken) = lasts(short, short, true, delay);
        assert!(time >= delay + short, "{time:?}");
        assert_eq!(taken, 65_535);
    }
}
