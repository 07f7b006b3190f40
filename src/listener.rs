//! The accept loop: HTTP/1.1 and HTTP/2 (by ALPN over TLS, by prior knowledge without), each connection bounded in
//! time and all of them in number, and a drain that lets running requests finish.

mod certificate;
mod linger;
mod progress;
mod proxy;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::http::{Shared, TurnedAway, client_address};
use crate::peers::budget::SMALL_BODY;
use crate::peers::{Held, Ledger, Resource};
use progress::{Activity, Progressing};

pub use certificate::{CertificateError, ReloadingCertificate, tls_config, tls_from_pem};
pub use proxy::ProxyProtocol;

/// The bounds on how long connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take, from its first octet, and the first head from the connection's beginning.
    pub header_timeout: Duration,
    /// How long a connection may be open without beginning a request. It is then asked to end, which lets requests
    /// that still run finish; it is cut after as long again, or after four times as long while an answer is being taken.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is sent to it.
    pub write_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// What a listener serves, and to whom.
pub struct Service {
    /// TLS, if it is spoken.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The load balancers that begin each connection with the PROXY protocol, if they do.
    pub proxies: Option<ProxyProtocol>,
    /// The load balancers that are believed about their clients. They pay for no connection and no request themselves.
    pub trusted: Arc<[IpNet]>,
    /// What answers.
    pub router: axum::Router,
    /// How long things may take.
    pub limits: ListenerLimits,
    /// What peers hold, and may hold.
    pub ledger: Arc<Ledger>,
}

/// The most octets of a request's head. ACME's own are far below 4 KiB; the rest is for what proxies add.
const MOST_HEAD_OCTETS: u32 = 32 * 1024;

/// The most requests at once on one HTTP/2 connection. ACME's clients use one or two.
const MOST_STREAMS: u32 = 16;

/// How many times the idle time-out an answer may be taken for after nothing else was begun on its connection.
const MOST_WAITS: u32 = 4;

/// How long to wait when the system has no more file descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves on `listener` until `shutdown`. Then no connection is accepted any more, idle ones are closed, and running
/// requests may finish for `drain` at most; what still runs then is cut. Each request carries its peer's address as
/// `ConnectInfo<SocketAddr>`: where the peer speaks the PROXY protocol, the one that it tells.
pub async fn serve(listener: TcpListener, service: Service, shutdown: CancellationToken, drain: Duration) {
    let shared = Arc::new(Listening {
        http: http_builder(&service.limits),
        tls: service.tls.map(TlsAcceptor::from),
        proxies: service.proxies,
        trusted: service.trusted,
        // Handlers meet their state here once and not with each request.
        router: service.router.with_state(()),
        limits: service.limits,
        ledger: service.ledger,
        shutdown: shutdown.clone(),
        drain,
    });
    let tracker = TaskTracker::new();
    let accepting = async {
        loop {
            shared.ledger.room_for_a_connection().await;
            let (stream, peer) = accept(&listener).await;
            let client = shared.client_of(peer.ip());
            // One that has its share already is closed, so that others are accepted.
            let Ok(held) = shared.ledger.take(client, Resource::Connections, 1, 0) else { continue };
            let shared = Arc::clone(&shared);
            tracker.spawn(async move { shared.connection(stream, peer, held).await });
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
        // It would bound how long a kept connection is idle, too: `progress` tells the two apart.
        .header_read_timeout(None)
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
struct Listening {
    http: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    proxies: Option<ProxyProtocol>,
    trusted: Arc<[IpNet]>,
    router: axum::Router,
    limits: ListenerLimits,
    ledger: Arc<Ledger>,
    shutdown: CancellationToken,
    drain: Duration,
}

impl Listening {
    /// Who pays for a connection of this peer; nobody, if it is a load balancer that is believed.
    fn client_of(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!self.trusted.iter().any(|network| network.contains(&peer))).then_some(peer)
    }

    async fn connection(&self, mut stream: TcpStream, mut peer: SocketAddr, mut held: Held) {
        let open = metrics::gauge!("chancery_connections_open");
        open.increment(1.0);
        let _closed = OnDrop(|| open.decrement(1.0));
        // Answers are small and written whole: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        if let Some(proxies) = &self.proxies {
            let told = timeout(self.limits.header_timeout, proxies.client(&mut stream, peer));
            match self.shutdown.run_until_cancelled(told).await {
                Some(Ok(Ok(client))) => {
                    let by_balancer = self.client_of(peer.ip()).is_none();
                    peer = client;
                    // Who it is for is known now, and pays; a balancer's own look does not.
                    if let Some(client) = self.client_of(client.ip()).filter(|_| by_balancer)
                        && held.assign(client).is_err()
                    {
                        return;
                    }
                }
                Some(_) => {
                    metrics::counter!("chancery_proxy_headers_failed_total").increment(1);
                    tracing::debug!(%peer, "a trusted proxy sent no PROXY header in time");
                    return;
                }
                None => return,
            }
        }
        let activity = Activity::new();
        let stream = linger::Lingering::new(stream, held);
        let stream = Progressing::new(stream, Arc::clone(&activity), self.limits.write_timeout);
        let Some(acceptor) = &self.tls else {
            return self.speak(stream, peer, &activity).await;
        };
        let handshake = timeout(self.limits.handshake_timeout, acceptor.accept(stream));
        match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.speak(stream, peer, &activity).await,
            Some(_) => metrics::counter!("chancery_tls_handshakes_failed_total").increment(1),
            None => {}
        }
    }

    /// Speaks HTTP until the connection ends, is idle for too long, or has drained.
    async fn speak<S>(&self, stream: S, peer: SocketAddr, activity: &Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = Requests {
            router: self.router.clone(),
            peer,
            trusted: Arc::clone(&self.trusted),
            ledger: Arc::clone(&self.ledger),
            activity: Arc::clone(activity),
        };
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        // Until the first request the bound is that of a head: hyper has none while it looks for the protocol.
        let mut bound = pin!(sleep(self.limits.header_timeout));
        let mut heads = pin!(sleep(self.limits.header_timeout));
        let mut ending = Ending::NotYet;
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                // Errors are the peer's: cut, timed out, not HTTP. Nobody is left to tell.
                _ = connection.as_mut() => return,
                () = self.shutdown.cancelled(), if ending != Ending::Draining => {
                    ending = Ending::Draining;
                    connection.as_mut().graceful_shutdown();
                    bound.as_mut().reset(Instant::now() + self.drain);
                }
                () = heads.as_mut() => {
                    let coming = activity.head_coming_for().unwrap_or_default();
                    let Some(left) = self.limits.header_timeout.checked_sub(coming).filter(|left| !left.is_zero())
                    else {
                        return;
                    };
                    heads.as_mut().reset(Instant::now() + left);
                }
                () = bound.as_mut() => {
                    let now = activity.begun();
                    match ending {
                        // Nothing was ever begun, so nothing is lost.
                        Ending::NotYet if now == 0 => return,
                        Ending::NotYet if now == seen => {
                            ending = Ending::Graceful { waits: 0 };
                            connection.as_mut().graceful_shutdown();
                        }
                        Ending::NotYet => {}
                        // A graceful end waits for the peer's consent, and for answers that are being taken: not for ever.
                        Ending::Graceful { waits } if activity.is_open() && waits < MOST_WAITS => {
                            ending = Ending::Graceful { waits: waits + 1 };
                        }
                        Ending::Graceful { .. } | Ending::Draining => return,
                    }
                    seen = now;
                    bound.as_mut().reset(Instant::now() + self.limits.idle_timeout);
                }
            }
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// It was asked to end, since nothing was begun on it, and so often that was waited for.
    Graceful {
        waits: u32,
    },
    /// The process stops.
    Draining,
}

/// The router as one connection's service.
struct Requests {
    router: axum::Router,
    peer: SocketAddr,
    trusted: Arc<[IpNet]>,
    ledger: Arc<Ledger>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    /// Counts a request from its head on, before anything of it is looked at, until its answer was taken.
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.activity.begin(request.version() == http::Version::HTTP_2);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let client = client_address(&request, &self.trusted);
        let held = self.ledger.take(Some(client), Resource::OpenRequests, 1, 0);
        let held = held.map_err(|_| request.extensions_mut().insert(TurnedAway)).ok();
        let ledger = Arc::clone(&self.ledger);
        // A router is always ready, so there is nothing to wait for before the call.
        let answer = self.router.clone().call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let octets = answer.body().size_hint().lower();
            let octets = usize::try_from(octets).unwrap_or(usize::MAX);
            // What many answers share is held once, whoever takes it.
            let own = octets > SMALL_BODY && answer.extensions().get::<Shared>().is_none();
            let charged = own.then(|| ledger.charge(Some(client), Resource::Octets, octets));
            Ok(answer.map(|body| Body::new(Paid { body, _held: (open, held, charged) })))
        })
    }
}

/// A body, and what is given back when it was taken or dropped.
struct Paid<H> {
    body: Body,
    _held: H,
}

impl<H: Unpin> hyper::body::Body for Paid<H> {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
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
