//! The listener over real sockets on loopback.

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::*;
use crate::peers::Bounds;

mod patience;
mod proxies;

/// Far more than anything here takes, so that only a hang ends by it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Far more than anything here holds.
pub(super) const BOUNDS: Bounds = Bounds::of_connections(10_000);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(tls: Option<Arc<rustls::ServerConfig>>, router: Router, limits: ListenerLimits) -> Self {
        Self::draining(tls, router, limits, PATIENCE).await
    }

    async fn draining(
        tls: Option<Arc<rustls::ServerConfig>>,
        router: Router,
        limits: ListenerLimits,
        drain: Duration,
    ) -> Self {
        Self::with(tls, None, router, limits, drain).await
    }

    /// A listener that believes this network about its peers.
    async fn behind_proxy(network: &str, router: Router, limits: ListenerLimits) -> Self {
        let proxies = ProxyProtocol::new(vec![network.parse().unwrap()]);
        Self::with(None, Some(proxies), router, limits, PATIENCE).await
    }

    async fn with(
        tls: Option<Arc<rustls::ServerConfig>>,
        proxies: Option<ProxyProtocol>,
        router: Router,
        limits: ListenerLimits,
        drain: Duration,
    ) -> Self {
        let trusted = Vec::new().into();
        let service = Service { tls, proxies, trusted, router, limits, ledger: Ledger::new(BOUNDS) };
        Self::serving(service, drain).await
    }

    async fn serving(service: Service, drain: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, service, shutdown.clone(), drain));
        Self { address, shutdown, task }
    }

    /// A plain listener within these bounds.
    async fn bounded(bounds: Bounds, router: Router, limits: ListenerLimits) -> Self {
        let (trusted, ledger) = (Vec::new().into(), Ledger::new(bounds));
        let service = Service { tls: None, proxies: None, trusted, router, limits, ledger };
        Self::serving(service, PATIENCE).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// A router that says what it sees: the HTTP version and the peer's address.
fn echo() -> Router {
    let handler = |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: axum::extract::Request| async move {
        format!("{:?} {peer}", request.version())
    };
    Router::new().route("/", get(handler))
}

/// A router whose requests say that they have begun and end when they are told to.
fn gated() -> (Router, mpsc::UnboundedReceiver<()>, Arc<Notify>) {
    let (begun, seen) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let handler = move || {
        let (begun, opened) = (begun.clone(), Arc::clone(&opened));
        async move {
            let waiting = opened.notified();
            begun.send(()).unwrap();
            waiting.await;
            "done"
        }
    };
    (Router::new().route("/", get(handler)), seen, gate)
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("http://localhost/").header("host", "localhost").body(Empty::new()).unwrap()
}

async fn text(response: http::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn h1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> http1::SendRequest<Empty<Bytes>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> http2::SendRequest<Empty<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Reads until the server closes; a reset counts as closed.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
    read
}

fn pem(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Takes any certificate and lets the test look at it.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn over_tls(server: &Server, alpn: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await.unwrap()
}

#[tokio::test]
async fn plain_http_1_and_2_on_one_port_with_the_peers_address() {
    let server = Server::start(None, echo(), ListenerLimits::default()).await;
    let stream = server.connect().await;
    let own = stream.local_addr().unwrap();
    let mut client = h1(stream).await;
    for _ in 0..2 {
        assert_eq!(text(client.send_request(request()).await.unwrap()).await, format!("HTTP/1.1 {own}"));
        client.ready().await.unwrap();
    }
    let stream = server.connect().await;
    let own = stream.local_addr().unwrap();
    let mut client = h2(stream).await;
    assert_eq!(text(client.send_request(request()).await.unwrap()).await, format!("HTTP/2.0 {own}"));
    server.end().await;
}

#[tokio::test]
async fn over_tls_alpn_chooses_the_protocol() {
    let (chain, key) = pem("localhost");
    let tls = tls_from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start(Some(tls), echo(), ListenerLimits::default()).await;
    let stream = over_tls(&server, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    assert!(text(h2(stream).await.send_request(request()).await.unwrap()).await.starts_with("HTTP/2.0"));
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = over_tls(&server, alpn).await;
        assert!(text(h1(stream).await.send_request(request()).await.unwrap()).await.starts_with("HTTP/1.1"));
    }
    server.end().await;
}

#[tokio::test]
async fn a_stored_certificate_serves_the_next_handshake() {
    let (chain, key) = pem("one.localhost");
    let certificate = ReloadingCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let tls = tls_config(Arc::clone(&certificate)).unwrap();
    let server = Server::start(Some(tls), echo(), ListenerLimits::default()).await;
    let seen = async || {
        let stream = over_tls(&server, &[]).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = certificate.chain();
    assert_eq!(seen().await, first[0]);
    let (other_chain, other_key) = pem("two.localhost");
    let mixed = certificate.store(other_chain.as_bytes(), key.as_bytes());
    assert!(matches!(mixed, Err(CertificateError::KeyRefused(_))), "{mixed:?}");
    assert_eq!(seen().await, first[0]);
    certificate.store(other_chain.as_bytes(), other_key.as_bytes()).unwrap();
    assert_ne!(certificate.chain(), first);
    assert_eq!(seen().await, certificate.chain()[0]);
    server.end().await;
}

#[test]
fn what_is_no_certificate_is_refused() {
    let (chain, key) = pem("localhost");
    let refused = |chain: &str, key: &str| tls_from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(refused("", &key), CertificateError::ChainEmpty));
    assert!(matches!(refused(&key, &key), CertificateError::ChainEmpty));
    assert!(matches!(refused(&chain, &chain), CertificateError::KeyUnreadable(_)));
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(broken, &key), CertificateError::ChainUnreadable(_)));
}

#[tokio::test]
async fn who_is_slow_before_a_request_is_cut() {
    let (chain, key) = pem("localhost");
    let tls = tls_from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let brief = Duration::from_millis(100);
    let limits =
        ListenerLimits { header_timeout: brief, handshake_timeout: brief, ..ListenerLimits::default() };
    let plain = Server::start(None, echo(), limits).await;
    // Nothing; a piece of the HTTP/2 preface; a piece of a head; a whole preface and no request.
    for sent in ["", "PRI * HTT", "GET / HTTP/1.1\r\nHost: local", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = plain.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{sent:?}");
    }
    // A head that drips, each octet well inside the bound, is cut all the same.
    let mut stream = plain.connect().await;
    let begun = Instant::now();
    for octet in
        std::iter::repeat_n(b"GET / HTTP/1.1\r\nX: ".iter().copied().chain([b'a'; 10_000]), 1).flatten()
    {
        if stream.write_all(&[octet]).await.is_err() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "a dripping client is never cut");
        sleep(Duration::from_millis(5)).await;
    }
    let encrypted = Server::start(Some(tls), echo(), limits).await;
    assert!(until_closed(&mut encrypted.connect().await).await.is_empty());
    plain.end().await;
    encrypted.end().await;
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_request_that_runs_for_longer_does_not() {
    // Long enough for a client on a busy machine to begin in time.
    let brief = Duration::from_millis(300);
    let limits = ListenerLimits { header_timeout: brief, idle_timeout: brief, ..ListenerLimits::default() };
    let handler = async || {
        sleep(Duration::from_millis(1000)).await;
        "done"
    };
    let server = Server::start(None, Router::new().route("/", get(handler)), limits).await;
    let stream = TokioIo::new(server.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(text(client.send_request(request()).await.unwrap()).await, "done");
    // The client keeps its handle, so only the server ends the connection.
    let _ = timeout(PATIENCE, connection).await.expect("an idle connection stays open");
    server.end().await;
}

#[tokio::test]
async fn at_the_cap_a_connection_waits_until_another_ends() {
    let limits = ListenerLimits::default();
    let server = Server::bounded(Bounds::of_connections(2), echo(), limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = h1(server.connect().await).await;
        assert!(text(client.send_request(request()).await.unwrap()).await.starts_with("HTTP/1.1"));
        held.push(client);
    }
    let mut third = h1(server.connect().await).await;
    let mut answer = pin!(third.send_request(request()));
    assert!(timeout(Duration::from_millis(200), answer.as_mut()).await.is_err(), "the cap does not hold");
    drop(held.pop());
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert!(text(answer).await.starts_with("HTTP/1.1"));
    server.end().await;
}

#[tokio::test]
async fn a_drain_finishes_running_requests_closes_idle_connections_and_takes_no_new_ones() {
    let (router, mut begun, gate) = gated();
    let server = Server::start(None, router, ListenerLimits::default()).await;
    let mut one = h1(server.connect().await).await;
    let mut two = h2(server.connect().await).await;
    let running = [tokio::spawn(one.send_request(request())), tokio::spawn(two.send_request(request()))];
    begun.recv().await.unwrap();
    begun.recv().await.unwrap();
    let mut idle = server.connect().await;
    server.shutdown.cancel();
    until_closed(&mut idle).await;
    timeout(PATIENCE, async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(!server.task.is_finished());
    gate.notify_waiters();
    for answer in running {
        assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
    }
    server.end().await;
}

#[tokio::test]
async fn a_drain_ends_at_its_bound() {
    let (router, mut begun, _gate) = gated();
    let server = Server::draining(None, router, ListenerLimits::default(), Duration::from_millis(50)).await;
    let mut client = h1(server.connect().await).await;
    let running = tokio::spawn(client.send_request(request()));
    begun.recv().await.unwrap();
    server.end().await;
    assert!(running.await.unwrap().is_err());
}

#[test]
fn errors_of_accept_are_of_one_connection_or_of_the_listener() {
    for (code, of_one) in
        [(103, true), (104, true), (4, true), (24, false), (23, false), (105, false), (12, false)]
    {
        // ECONNABORTED, ECONNRESET, EINTR; EMFILE, ENFILE, ENOBUFS, ENOMEM.
        assert_eq!(is_of_one_connection(&io::Error::from_raw_os_error(code)), of_one, "errno {code}");
    }
}
