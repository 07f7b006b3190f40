//! The accept loop: HTTP/1.1 and HTTP/2 (by ALPN over TLS, by prior knowledge without), each connection bounded in
//! time and all of them in number, and a drain that lets running requests finish.

mod certificate;
mod linger;
mod proxy;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use certificate::{CertificateError, ReloadingCertificate, tls_config, tls_from_pem};
pub use proxy::ProxyProtocol;

/// The bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Connections open at once; at this number accepting pauses, and new ones wait in the system's queue.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take; for HTTP/1 also how long a kept connection may be idle.
    pub header_timeout: Duration,
    /// How long a connection may be open without beginning a request. It is then asked to end, which lets requests
    /// that still run finish.
    pub idle_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// The most octets of a request's head. ACME's own are far below 4 KiB; the rest is for what proxies add.
const MOST_HEAD_OCTETS: u32 = 32 * 1024;

/// The most requests at once on one HTTP/2 connection.
const MOST_STREAMS: u32 = 100;

/// How long to wait when the system has no more file descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener`, over TLS if `tls` is given, until `shutdown`. Then no connection is accepted any
/// more, idle ones are closed, and running requests may finish for `drain` at most; what still runs then is cut. Each
/// request carries its peer's address as `ConnectInfo<SocketAddr>`: where `proxies` is given, the one that they tell.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    proxies: Option<ProxyProtocol>,
    router: axum::Router,
    limits: ListenerLimits,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let shared = Arc::new(Shared {
        http: http_builder(&limits),
        tls: tls.map(TlsAcceptor::from),
        proxies,
        // Handlers meet their state here once and not with each request.
        router: router.with_state(()),
        limits,
        shutdown: shutdown.clone(),
        drain,
    });
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let tracker = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = accept(&listener).await;
            let shared = Arc::clone(&shared);
            tracker.spawn(async move {
                shared.connection(stream, peer).await;
                drop(place);
            });
        }
    };
    let _ = shutdown.run_until_cancelled(accepting).await;
    drop(listener);
    tracker.close();
    // Each connection bounds its own drain; the second is for the scheduler.
    if timeout(drain + Duration::from_secs(1), tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "connections have outlived the drain");
    }
}

/// Accepts one connection, whatever happens to others.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut paused = 0_u32;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                metrics::counter!("chancery_accept_errors_total").increment(1);
                if is_of_one_connection(&error) {
                    continue;
                }
                // Ten attempts a second, and a line of log for each hundredth.
                if paused.is_multiple_of(100) {
                    tracing::error!(%error, "connections cannot be accepted");
                }
                paused += 1;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error of `accept` is of a connection that went away before it was accepted, and not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn http_builder(limits: &ListenerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MOST_HEAD_OCTETS as usize)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEAD_OCTETS)
        // A peer that is gone without a word is noticed.
        .keep_alive_interval(Some(limits.idle_timeout / 2))
        .keep_alive_timeout(limits.header_timeout);
    builder
}

/// What all connections of a listener share.
struct Shared {
    http: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    proxies: Option<ProxyProtocol>,
    router: axum::Router,
    limits: ListenerLimits,
    shutdown: CancellationToken,
    drain: Duration,
}

impl Shared {
    async fn connection(&self, mut stream: TcpStream, mut peer: SocketAddr) {
        let open = metrics::gauge!("chancery_connections_open");
        open.increment(1.0);
        let _closed = OnDrop(|| open.decrement(1.0));
        // Answers are small and written whole: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        if let Some(proxies) = &self.proxies {
            let told = timeout(self.limits.header_timeout, proxies.client(&mut stream, peer));
            match self.shutdown.run_until_cancelled(told).await {
                Some(Ok(Ok(client))) => peer = client,
                Some(_) => {
                    metrics::counter!("chancery_proxy_headers_failed_total").increment(1);
                    tracing::debug!(%peer, "a trusted proxy sent no PROXY header in time");
                    return;
                }
                None => return,
            }
        }
        let stream = linger::Lingering::new(stream);
        let Some(acceptor) = &self.tls else {
            return self.speak(stream, peer).await;
        };
        let handshake = timeout(self.limits.handshake_timeout, acceptor.accept(stream));
        match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.speak(stream, peer).await,
            Some(_) => metrics::counter!("chancery_tls_handshakes_failed_total").increment(1),
            None => {}
        }
    }

    /// Speaks HTTP until the connection ends, is idle for too long, or has drained.
    async fn speak<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = Arc::new(AtomicU64::new(0));
        let service = Requests { router: self.router.clone(), peer, begun: Arc::clone(&begun) };
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        // Until the first request the bound is that of a head: hyper has none while it looks for the protocol.
        let mut bound = pin!(sleep(self.limits.header_timeout));
        let mut draining = false;
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                // Errors are the peer's: cut, timed out, not HTTP. Nobody is left to tell.
                _ = connection.as_mut() => return,
                () = self.shutdown.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                    bound.as_mut().reset(Instant::now() + self.drain);
                }
                () = bound.as_mut() => {
                    if draining {
                        return;
                    }
                    let now = begun.load(Ordering::Relaxed);
                    if now == 0 {
                        // Nothing runs, so nothing is lost; and a graceful end would wait for the peer's consent.
                        return;
                    }
                    if now == seen {
                        connection.as_mut().graceful_shutdown();
                    }
                    seen = now;
                    bound.as_mut().reset(Instant::now() + self.limits.idle_timeout);
                }
            }
        }
    }
}

/// The router as one connection's service.
struct Requests {
    router: axum::Router,
    peer: SocketAddr,
    /// Requests begun so far.
    begun: Arc<AtomicU64>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.begun.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        // A router is always ready, so there is nothing to wait for before the call.
        self.router.clone().call(request)
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests;
